//! The live rig is what it says: the card is the truth, and the archive is what a bad network leaves of it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use sdcard_indexer::container::Container;
use sdcard_indexer::layout::Layout;
use sdcard_indexer::time::TimeRange;
use tests::link::{Lane, Shape};
use tests::media::VideoCodec;
use tests::naming::Naming;
use tests::rig::{Footage, Picture, Recorded, Rig, Sound, Writing, random_cuts};

/// Inside groups of pictures at both ends, and inside frames.
const TUNNEL: Range<Duration> = Duration::from_millis(5_300)..Duration::from_millis(9_690);
const GROUP_FRAMES: usize = 25;
/// Faster than it is shown, where nothing depends on it.
const SPEED: f64 = 4.0;

fn cut(milliseconds: Range<u64>) -> Range<Duration> {
    Duration::from_millis(milliseconds.start)..Duration::from_millis(milliseconds.end)
}

fn card_is_the_truth(recorded: &Recorded) {
    let mut next = 0;
    for segment in &recorded.card {
        let held = recorded.identify(&segment.path).unwrap();
        let held: Vec<usize> = held.into_iter().map(|(_, index)| index.unwrap()).collect();
        assert!(held.iter().copied().eq(segment.frames.clone()), "{}", segment.path.display());
        assert_eq!(segment.frames.start, next);
        next = segment.frames.end;
    }
    assert_eq!(next, recorded.truth.video.len());
}

/// Of the truth's frames, those that stand in the archive whole.
fn whole_in_archive(recorded: &Recorded) -> BTreeSet<usize> {
    let frames = recorded.archived_frames().unwrap();
    let whole: Vec<usize> = frames.iter().filter_map(|frame| frame.index).collect();
    assert!(whole.is_sorted(), "the archive is in the order of the truth");
    whole.into_iter().collect()
}

/// What lies outside of cuts is in the archive; what lies inside is not.
fn archive_is_the_truth_less_the_cuts(recorded: &Recorded) {
    let whole = whole_in_archive(recorded);
    let cut: BTreeSet<usize> = recorded.cut_frames().collect();
    assert_eq!(whole.intersection(&cut).next(), None, "nothing comes through a tunnel whole");
    // The first frame behind a tunnel has lost its first packet.
    let first_behind = |index: &usize| cut.contains(&(index - 1));
    for index in (1..recorded.truth.video.len()).filter(|index| !cut.contains(index)) {
        assert_ne!(whole.contains(&index), first_behind(&index), "frame {index}");
    }
}

async fn recorded_with_a_tunnel(rig: Rig) -> Recorded {
    let recorded = rig.cuts([TUNNEL]).speed(SPEED).run().await.unwrap();
    card_is_the_truth(&recorded);
    archive_is_the_truth_less_the_cuts(&recorded);
    recorded
}

#[tokio::test]
async fn h264_reaches_a_card_of_every_container_and_an_archive_with_a_hole() {
    for container in [Container::FragmentedMp4, Container::Mp4, Container::MpegTs] {
        let rig = Rig::builder().card(Writing::of(container)).archive(Writing::of(container));
        recorded_with_a_tunnel(rig).await;
    }
}

#[tokio::test]
async fn h265_reaches_a_card_of_every_container_and_an_archive_with_a_hole() {
    for container in [Container::FragmentedMp4, Container::Mp4, Container::MpegTs] {
        let rig = Rig::builder().codec(VideoCodec::H265);
        recorded_with_a_tunnel(rig.card(Writing::of(container))).await;
    }
}

#[tokio::test]
async fn sound_goes_with_the_pictures() {
    for sound in [Sound::Aac, Sound::G711] {
        let recorded = recorded_with_a_tunnel(Rig::builder().sound(sound)).await;
        assert_eq!(recorded.truth.audio.is_empty(), sound == Sound::G711);
    }
}

#[tokio::test]
async fn the_archive_breaks_off_and_goes_on_inside_groups_of_pictures_with_damaged_frames() {
    let recorded = recorded_with_a_tunnel(Rig::builder()).await;
    let frames = recorded.archived_frames().unwrap();
    let damaged: Vec<usize> = (0..frames.len()).filter(|&at| frames[at].index.is_none()).collect();
    assert!((1..=2).contains(&damaged.len()), "{damaged:?}");
    let before = frames[damaged[0] - 1].index.unwrap();
    let behind = frames[damaged[damaged.len() - 1] + 1].index.unwrap();
    let cut: Vec<usize> = recorded.cut_frames().collect();
    assert_eq!(before + 1, cut[0]);
    assert_eq!(behind, cut[cut.len() - 1] + 2);
    for edge in [before + 1, behind] {
        assert_ne!(edge % GROUP_FRAMES, 0, "the archive's edge lies at frame {edge}");
    }
}

#[tokio::test]
async fn the_card_is_named_by_a_clock_that_is_off_and_drifts() {
    let offset = SignedDuration::from_mins(73);
    let rig = Rig::builder().offset(-offset).drift_ppm(200.0).speed(SPEED);
    let recorded = rig.run().await.unwrap();
    let layout = Layout::new(Naming::MediaMtx.template(), "UTC").unwrap();
    for segment in &recorded.card {
        let path = segment.path.strip_prefix(recorded.card_dir()).unwrap();
        let named = layout.parse(path).unwrap().start;
        let since_start = segment.start.nanos_from(recorded.clock.start);
        let ahead = named.nanos_from(segment.start) + offset.as_nanos() as i64;
        assert!(ahead.abs_diff(since_start / 5_000) <= 1_000, "{ahead} ns after {since_start}");
    }
    assert_eq!(recorded.card.len(), 4);
}

#[tokio::test]
async fn in_real_time_the_archive_is_named_for_when_its_packets_arrive() {
    const LATE: Duration = Duration::from_secs(2);
    let shape = Shape::symmetric(Lane { delay: Duration::from_millis(150), ..Lane::CLEAR });
    let archive = Writing { naming: Naming::WholeSeconds, ..Writing::of(Container::MpegTs) };
    let rig = Rig::builder().seconds(8).sound(Sound::Aac).archive(archive).shape(shape);
    let recorded = rig.jitter(Duration::from_millis(20)).run().await.unwrap();
    let mut media = Duration::ZERO;
    let frames = recorded.archived_frames().unwrap();
    for (number, segment) in recorded.archive.iter().enumerate() {
        let first = frames.iter().find(|frame| frame.segment == number).unwrap().index.unwrap();
        let shown_at = recorded.truth.video[first].shown_at.0;
        let true_start = recorded.clock.start.saturating_offset(shown_at);
        let late = segment.opened.since(true_start);
        assert!((shape.to_server.delay..LATE).contains(&late), "{late:?} at {media:?}");
        media = Duration::from_nanos(shown_at.unsigned_abs());
        let name = Naming::WholeSeconds.path(segment.opened).with_extension("ts");
        assert_eq!(segment.path, recorded.archive_dir().join(name));
    }
    assert!(media >= Duration::from_secs(4), "the archive has several segments");
}

#[tokio::test]
async fn what_a_link_loses_at_random_is_the_same_for_the_same_seed() {
    let whole = async |seed| {
        let rig = Rig::builder().seconds(8).loss(0.01).seed(seed).speed(SPEED);
        let recorded = rig.run().await.unwrap();
        assert!(recorded.traffic.lost > 0);
        whole_in_archive(&recorded)
    };
    let once = whole(1).await;
    assert!((100..200).contains(&once.len()), "{}", once.len());
    assert_eq!(once, whole(1).await);
    assert_ne!(once, whole(2).await);
}

#[tokio::test]
async fn a_tunnel_longer_than_a_recorder_waits_for_a_packet_is_one_hole() {
    const LONG: Range<Duration> = Duration::from_millis(3_300)..Duration::from_millis(48_500);
    let rig = Rig::builder().seconds(60).sound(Sound::Aac).cuts([LONG]).speed(SPEED);
    let recorded = rig.run().await.unwrap();
    archive_is_the_truth_less_the_cuts(&recorded);
}

#[tokio::test]
async fn five_cuts_at_random_leave_an_archive_of_six_stretches() {
    let cuts = random_cuts(7, 5, 60, Duration::from_secs(2), Duration::from_millis(400));
    let rig = Rig::builder().seconds(60).cuts(cuts).speed(2.0 * SPEED);
    let recorded = rig.run().await.unwrap();
    card_is_the_truth(&recorded);
    archive_is_the_truth_less_the_cuts(&recorded);
    let whole: Vec<usize> = whole_in_archive(&recorded).into_iter().collect();
    let breaks = whole.windows(2).filter(|pair| pair[0] + 1 != pair[1]).count();
    assert_eq!(breaks, 5);
}

#[tokio::test]
async fn footage_of_every_kind_goes_through() {
    let rig = || Rig::builder().seconds(12).cuts([cut(5_300..6_700)]).speed(SPEED);
    let with_b_frames = |footage: &mut Footage| footage.b_frames = 2;
    let open = |footage: &mut Footage| (footage.b_frames, footage.open_groups) = (2, true);
    let h265 = || rig().codec(VideoCodec::H265);
    for (what, rig) in [
        ("still", rig().picture(Picture::Still)),
        ("black", h265().picture(Picture::Black)),
        ("one frame a second", rig().groups(4, 1)),
        ("60 frames a second", rig().groups(60, 60)),
        ("groups of 10 s", rig().groups(250, 25)),
        ("B-frames", rig().film(with_b_frames)),
        ("open groups", rig().film(open)),
        ("open groups", h265().film(open)),
        ("intra-refresh", rig().film(|footage| footage.intra_refresh = true)),
        ("intra-refresh", h265().film(|footage| footage.intra_refresh = true)),
    ] {
        let recorded = rig.run().await.unwrap();
        let frames = recorded.archived_frames().unwrap();
        let whole = frames.iter().filter(|frame| frame.index.is_some()).count();
        let all = recorded.truth.video.len();
        println!("{what}: {whole} of {all} frames in {} files", recorded.archive.len());
        assert!(0 < whole && whole < all, "{what}: {whole} of {all}");
    }
}

#[tokio::test]
async fn over_rtsp_the_archive_lacks_what_passed_between_one_session_and_the_next() {
    /// So much that had been sent before a connection is cut goes with it.
    const BEFORE: Duration = Duration::from_secs(2);
    let cuts = [cut(5_300..6_300), cut(13_300..14_300), cut(24_300..25_300)];
    for codec in [VideoCodec::H264, VideoCodec::H265] {
        let rig = Rig::builder().codec(codec).seconds(32).rtsp().cuts(cuts.clone());
        let recorded = rig.run().await.unwrap();
        card_is_the_truth(&recorded);
        whole_in_archive(&recorded);
        let start = recorded.clock.start;
        let mut lacking = recorded.lacking().unwrap();
        println!("{codec:?}: {lacking:?}");
        // Whoever asks for the stream once there is one has not seen its beginning.
        lacking.retain(|lack| lack.end() >= start.saturating_add(cuts[0].start));
        // Each begins where one of them does; how long it takes is the recorder's affair.
        let from = |cut: &Range<Duration>| start.saturating_add(cut.start).saturating_sub(BEFORE);
        let of = |lack: &TimeRange| cuts.iter().rposition(|cut| from(cut) <= lack.start());
        let lost: BTreeSet<usize> = lacking.iter().filter_map(of).collect();
        // One of the three connections has stood still, and lost nothing.
        assert_eq!((lost.len(), lacking.len()), (2, 2), "{lacking:?}");
    }
}

/// A recorder's files and nothing else.
#[tokio::test]
async fn directories_hold_nothing_but_recordings() {
    let recorded = Rig::builder().seconds(8).speed(SPEED).run().await.unwrap();
    let files = |directory: PathBuf| -> BTreeSet<PathBuf> {
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let card: BTreeSet<_> = recorded.card.iter().map(|segment| segment.path.clone()).collect();
    assert_eq!(files(recorded.card_dir()), card);
    let archive: BTreeSet<_> = recorded.archive.iter().map(|file| file.path.clone()).collect();
    assert_eq!(files(recorded.archive_dir()), archive);
}
