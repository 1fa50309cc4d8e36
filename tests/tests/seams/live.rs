//! The whole way on a live rig: a camera whose clock is hours off and drifts, a server that tells it the time, a
//! network that goes away again and again, and a view that must show what the encoder made.

use std::io::Cursor;
use std::ops::Range;
use std::time::Duration;

use jiff::SignedDuration;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reconciler::playback::ArchivedSegment;
use reconciler::seam::Seam;
use sdcard_indexer::clock::{
    Boottime, Claim, ClockJournal, ClockReading, ClockTrust, NameZone, Named, Placement,
};
use sdcard_indexer::container::{Container, MediaTime, summarise};
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::identity::BootId;
use sdcard_indexer::time::{TimeRange, Timestamp};
use tests::media::{Form, VideoCodec, frames};
use tests::rig::{CameraClock, Recorded, Rig, Sound, Writing, random_cuts};

use crate::recorders::{live, pieces};
use crate::scene::{Merged, assert_hashes, merge};

/// So often the network goes away for each kind of card, unless `GAPLESS_CUTS` says otherwise.
const CUTS: u32 = 10;
/// Of footage for each of them.
const SECONDS_PER_CUT: u32 = 9;
/// Less is rounding, and nobody pulls it.
const SHORTEST: Duration = Duration::from_millis(700);
/// The server's `seam_margin_ms`.
const MARGIN: Duration = Duration::from_millis(2_000);
/// The rig's group of pictures.
const GROUP: Duration = Duration::from_secs(1);
/// Of the camera's boot, when it begins to record.
const BOOTED: Duration = Duration::from_secs(1_000);
const MEDIA_MTX: Duration = Duration::from_micros(1);

/// What all runs together have come to.
#[derive(Debug, Default)]
struct Tally {
    exact: usize,
    approximate: usize,
    bytes_read: u64,
    edges: usize,
}

/// What an agent knows of its clock once a server has told it the time, up to `error` late or early.
struct Corrected {
    journal: ClockJournal,
}

impl Corrected {
    fn by_server(clock: &CameraClock, seconds: u32, random: &mut StdRng) -> Corrected {
        let mut journal = ClockJournal::new(ClockTrust::Synchronised);
        let asked = clock.start.saturating_add(Duration::from_secs(u64::from(seconds) + 30));
        for at in [clock.start, asked] {
            journal.observe(ClockReading {
                boot: BootId([7; 16]),
                boottime: Corrected::boottime(clock, at),
                realtime: clock.shows(at),
                synchronised: None,
            });
        }
        let error_ns: i64 = random.random_range(5_000_000..200_000_000);
        let told = asked.saturating_offset(random.random_range(-error_ns..=error_ns));
        let error = Duration::from_nanos(error_ns.unsigned_abs());
        journal.told(Corrected::boottime(clock, asked), told, error);
        Corrected { journal }
    }

    /// It runs off as the clock does.
    fn boottime(clock: &CameraClock, at: Timestamp) -> Boottime {
        let passed_ns = clock.shows(at).nanos_from(clock.shows(clock.start));
        Boottime::from_nanos(BOOTED.as_nanos() as i64 + passed_ns)
    }

    fn place(&self, named: Timestamp, duration: Duration) -> Placement {
        let named =
            Named { start: named, step: MEDIA_MTX, repeats_after: None, zone: NameZone::Known };
        let claim = Claim { named: Some(named), duration: Some(duration), ..Claim::default() };
        let corrections = self.journal.corrections();
        corrections.place(&corrections.attribute(&claim))
    }
}

/// Pulls what the card holds of a range of the archive's time, as the server does.
fn pull(recorded: &Recorded, corrected: &Corrected, wanted: TimeRange) -> Vec<ArchivedSegment> {
    let archive = recorded.path("pieces");
    let mut pulled = Vec::new();
    for segment in &recorded.card {
        let bytes = std::fs::read(&segment.path).unwrap();
        let summary = summarise(&mut Cursor::new(&bytes), bytes.len() as u64).unwrap();
        let placement = corrected.place(recorded.clock.shows(segment.start), summary.duration);
        let off = placement.start.distance(segment.start);
        assert!(off <= placement.uncertainty, "{off:?} off: {placement:?}");
        let media = |at: Timestamp| MediaTime(at.nanos_from(placement.start));
        let wanted = media(wanted.start())..media(wanted.end());
        let Placement { start, uncertainty, .. } = placement;
        pulled.extend(pieces(&bytes, start, wanted, uncertainty, &archive));
    }
    pulled
}

/// What the central recorder has written, where its names say.
fn archived(recorded: &Recorded) -> impl Iterator<Item = ArchivedSegment> {
    let segments = recorded.archive.iter();
    segments.map(|segment| live(segment.path.clone(), segment.opened, Duration::ZERO))
}

/// In true time, and so by the archive's clock.
fn hole(recorded: &Recorded, cut: &Range<Duration>) -> TimeRange {
    let at = |since: Duration| recorded.clock.start.saturating_add(since);
    let (start, end) = (at(cut.start), at(cut.end));
    TimeRange::new(start.saturating_sub(MARGIN), end.saturating_add(MARGIN)).unwrap()
}

async fn cut_again_and_again(
    codec: VideoCodec,
    card: Container,
    sound: Sound,
    seed: u64,
    tally: &mut Tally,
) {
    let cuts = std::env::var("GAPLESS_CUTS").map_or(CUTS, |cuts| cuts.parse().unwrap());
    let seconds = cuts * SECONDS_PER_CUT;
    let mut random = StdRng::seed_from_u64(seed);
    let offset = SignedDuration::from_millis(random.random_range(-7_200_000..7_200_000));
    let drift_ppm = random.random_range(-200.0..200.0);
    let what = format!("{codec:?} on {card:?}, {sound:?}, {offset:#} off, {drift_ppm:.0} ppm");
    let recorded = Rig::builder()
        .codec(codec)
        .sound(sound)
        .seconds(seconds)
        .card(Writing::of(card))
        .offset(offset)
        .drift_ppm(drift_ppm)
        .cuts(random_cuts(seed, cuts, seconds, MARGIN, SHORTEST))
        .seed(seed)
        .speed(3.0)
        .run()
        .await
        .unwrap();
    let corrected = Corrected::by_server(&recorded.clock, seconds, &mut random);
    let mut segments: Vec<ArchivedSegment> = archived(&recorded).collect();
    // What is pulled for one hole is not pulled again for the next.
    let holes: Coverage = recorded.cuts.iter().map(|cut| hole(&recorded, cut)).collect();
    for hole in holes.joined(GROUP) {
        segments.extend(pull(&recorded, &corrected, hole));
    }
    let merged = merge(&segments, &recorded.path(""));
    count(&merged, tally);
    let played = frames(&merged.file, Form::Slices(codec)).unwrap();
    for found in &merged.exported.seams {
        println!("{what}: {} {}", found.at, found.seam);
    }
    assert_hashes(&played, &recorded.truth.video, &what);
}

fn count(merged: &Merged, tally: &mut Tally) {
    for found in &merged.exported.seams {
        match found.seam {
            Seam::Exact { .. } => tally.exact += 1,
            Seam::Approximate { .. } => tally.approximate += 1,
            Seam::Succession => {}
        }
    }
    tally.bytes_read += merged.found.cost().bytes_read;
    tally.edges += merged.found.attempts.len();
}

async fn of(codec: VideoCodec, seed: u64) {
    let mut tally = Tally::default();
    let pairs = [
        (Container::FragmentedMp4, Sound::Aac),
        (Container::Mp4, Sound::G711),
        (Container::MpegTs, Sound::Aac),
    ];
    for (number, (card, sound)) in (0..).zip(pairs) {
        cut_again_and_again(codec, card, sound, seed + number, &mut tally).await;
    }
    let each = tally.bytes_read / tally.edges.max(1) as u64;
    println!("{codec:?}: {tally:?}, none wrong; {each} bytes read for each edge looked at");
    // Where a piece ends with a live file, and the next one shares no frame with it.
    assert!(tally.approximate * 8 <= tally.exact, "{tally:?}");
}

#[tokio::test]
async fn tunnels_of_h264_are_filled_to_the_frame_from_each_kind_of_card() {
    of(VideoCodec::H264, 264).await;
}

#[tokio::test]
async fn tunnels_of_h265_are_filled_to_the_frame_from_each_kind_of_card() {
    of(VideoCodec::H265, 265).await;
}
