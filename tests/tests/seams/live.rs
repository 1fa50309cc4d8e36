//! The whole way on a live rig: a camera whose clock is hours off and drifts, a server that tells it the time, a
//! network that goes away again and again, and a view that must show what the encoder made.

use std::io::Cursor;
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
pub struct Tally {
    pub exact: usize,
    pub approximate: usize,
    bytes_read: u64,
    edges: usize,
}

/// What an agent knows of its clock once a server has told it the time, up to `error` late or early.
struct Corrected {
    journal: ClockJournal,
}

impl Corrected {
    fn by_server(recorded: &Recorded, random: &mut StdRng) -> Corrected {
        let clock = &recorded.clock;
        let mut journal = ClockJournal::new(ClockTrust::Synchronised);
        let recorded_ns = recorded.truth.video.last().unwrap().shown_at.0;
        let asked = clock.start.saturating_offset(recorded_ns + 30_000_000_000);
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

impl Tally {
    pub fn tell(&self, what: &str) {
        let each = self.bytes_read / self.edges.max(1) as u64;
        println!("{what}: {self:?}, none wrong; {each} bytes read for each edge looked at");
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
fn holes(recorded: &Recorded) -> Vec<TimeRange> {
    let at = |since: Duration| recorded.clock.start.saturating_add(since);
    let cuts = recorded.cuts.iter();
    cuts.filter_map(|cut| TimeRange::new(at(cut.start), at(cut.end))).collect()
}

/// So often the network goes away for each kind of card.
pub fn cuts() -> u32 {
    std::env::var("GAPLESS_CUTS").map_or(CUTS, |cuts| cuts.parse().unwrap())
}

/// A rig whose camera's clock is off and drifts by chance, and what is known of that.
pub fn with_a_wrong_clock(rig: Rig, random: &mut StdRng) -> (Rig, String) {
    let offset = SignedDuration::from_millis(random.random_range(-7_200_000..7_200_000));
    let drift_ppm = random.random_range(-200.0..200.0);
    (rig.offset(offset).drift_ppm(drift_ppm), format!("{offset:#} off, {drift_ppm:.0} ppm"))
}

async fn cut_again_and_again(
    codec: VideoCodec,
    card: Container,
    sound: Sound,
    seed: u64,
    tally: &mut Tally,
) {
    let cuts = cuts();
    let seconds = cuts * SECONDS_PER_CUT;
    let mut random = StdRng::seed_from_u64(seed);
    let rig = Rig::builder().codec(codec).sound(sound).seconds(seconds).card(Writing::of(card));
    let (rig, clock) = with_a_wrong_clock(rig, &mut random);
    let cuts = random_cuts(seed, cuts, seconds, MARGIN, SHORTEST);
    let recorded = rig.cuts(cuts).seed(seed).speed(3.0).run().await.unwrap();
    let what = format!("{codec:?} on {card:?}, {sound:?}, {clock}");
    is_made_whole(&recorded, &holes(&recorded), &what, &mut random, tally);
}

/// Pulls what lies in some holes from the card, as the server does, and has the view show all that the encoder made.
pub fn is_made_whole(
    recorded: &Recorded,
    holes: &[TimeRange],
    what: &str,
    random: &mut StdRng,
    tally: &mut Tally,
) {
    let corrected = Corrected::by_server(recorded, random);
    let mut segments: Vec<ArchivedSegment> = archived(recorded).collect();
    // What is pulled for one hole is not pulled again for the next.
    let wanted = |hole: &TimeRange| {
        let (start, end) = (hole.start().saturating_sub(MARGIN), hole.end().saturating_add(MARGIN));
        TimeRange::new(start, end)
    };
    let wanted: Coverage = holes.iter().filter_map(wanted).collect();
    for wanted in wanted.joined(GROUP) {
        segments.extend(pull(recorded, &corrected, wanted));
    }
    let merged = merge(&segments, &recorded.path(""));
    count(&merged, tally);
    let codec = recorded.truth.codec;
    let played = frames(&merged.file, Form::Slices(codec)).unwrap();
    for found in &merged.exported.seams {
        println!("{what}: {} {}", found.at, found.seam);
    }
    assert_hashes(&played, &recorded.truth.video, what);
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
    tally.tell(&format!("{codec:?}"));
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
