//! A camera with an RTSP server, and a recorder that loses its connection again and again, and begins anew each time.
//!
//! What is missing is not what a tunnel took, but all from the last frame of one session to the first keyframe of the
//! next; a connection that has merely stood still lacks nothing, and its recorder names what came late for later.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use sdcard_indexer::container::Container;
use tests::media::VideoCodec;
use tests::rig::{Rig, Writing, random_cuts};

use crate::live::{Tally, cuts, is_made_whole, with_a_wrong_clock};

/// It films in real time: for each kind of card the network goes away so many times less often than over RTP.
const SELDOM: u32 = 4;
/// Until a recorder has given up its connection, has another, and a picture to begin with.
const SECONDS_PER_CUT: u32 = 10;
/// Before the first cut, a recorder has found the stream; behind the last, it finds it again.
const MARGIN: u32 = 4;
const SHORTEST: Duration = Duration::from_millis(700);
/// The three ways to lose a connection begin with another one for each.
const CARDS: [Container; 3] = [Container::FragmentedMp4, Container::Mp4, Container::MpegTs];

async fn cut_again_and_again(codec: VideoCodec, card: Container, seed: u64, tally: &mut Tally) {
    let cuts = cuts().div_ceil(SELDOM);
    let seconds = cuts * SECONDS_PER_CUT + 2 * MARGIN;
    let mut random = StdRng::seed_from_u64(seed);
    let rig = Rig::builder().codec(codec).seconds(seconds).card(Writing::of(card));
    let (rig, clock) = with_a_wrong_clock(rig, &mut random);
    let cuts = random_cuts(seed, cuts, seconds, Duration::from_secs(MARGIN.into()), SHORTEST);
    let recorded = rig.rtsp().cuts(cuts).seed(seed).run().await.unwrap();
    let what = format!("{codec:?} over RTSP on {card:?}, {clock}");
    let lacking = recorded.lacking().unwrap();
    let lacks: Vec<f64> = lacking.iter().map(|range| range.duration().as_secs_f64()).collect();
    println!("{what}: {:?} cut, {lacks:?} s lacking", recorded.cuts);
    is_made_whole(&recorded, &lacking, &what, &mut random, tally);
}

async fn of(codec: VideoCodec, seed: u64) {
    let mut tally = Tally::default();
    for (number, card) in (0..).zip(CARDS) {
        cut_again_and_again(codec, card, seed + number, &mut tally).await;
    }
    tally.tell(&format!("{codec:?} over RTSP"));
    assert!(tally.approximate * 8 <= tally.exact, "{tally:?}");
}

#[tokio::test]
async fn sessions_of_h264_are_joined_to_the_frame() {
    of(VideoCodec::H264, 2_640).await;
}

#[tokio::test]
async fn sessions_of_h265_are_joined_to_the_frame() {
    of(VideoCodec::H265, 2_650).await;
}
