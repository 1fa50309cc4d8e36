//! Cameras whose clock is wrong: what they hold is archived at the minutes in which it was truly recorded.
//!
//! One writes 1970 into its names, and the agent sees each file being closed. One is two hours ahead and reads
//! plausibly, and nobody but the server knows.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use reconciler::timeline::{Recorder, State};
use sdcard_indexer::clock::CLOSE_LAG;
use sdcard_indexer::time::{TimeRange, Timestamp};
use tests::cards::Card;
use tests::clip::Clip;
use tests::installation::{Installation, Setup, Timeline, amend};
use tests::link::Shape;
use tests::media::{Form, frames};
use tests::naming::Naming;
use tests::process::Process;

/// No wait is endless; far above what any of them takes.
const DEADLINE: Duration = Duration::from_secs(90);
const NAMING: Naming = Naming::MediaMtx;
/// Of the camera's one segment, and of the one that the archive has before it.
const SEGMENT_SECONDS: u32 = 20;
/// Of what is known by its closing alone, with a clock that a time service vouches for to half a second.
const UNCERTAINTY: Duration = CLOSE_LAG.saturating_add(Duration::from_millis(500));

/// What the camera's clock shows while it records: it has begun anew.
fn shown() -> Timestamp {
    "1970-01-01T00:01:10Z".parse().unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_jiff(jiff::Timestamp::now())
}

/// The clip's seconds are the wall clock's.
fn whole_second(instant: Timestamp) -> Timestamp {
    Timestamp::from_unix_seconds(instant.as_nanos().div_euclid(1_000_000_000))
}

/// How far the clock is ahead that nobody has set.
const AHEAD: Duration = Duration::from_secs(7_200);
/// Of what a name places to a microsecond, and a server to half of what asking it took.
const TOLD: Duration = Duration::from_millis(500);

/// An installation whose agent judges clocks as it does by default, and watches.
async fn watched(expected_from: Timestamp) -> (Installation, Process) {
    let installation = installed(expected_from).await;
    let mut agent = installation.start_agent().unwrap();
    agent.line("card surveyed", DEADLINE).await.unwrap();
    (installation, agent)
}

/// As [`watched`], on a device whose clock is [`AHEAD`] and marked by no time service.
async fn watched_ahead(expected_from: Timestamp) -> (Installation, Process) {
    let installation = installed(expected_from).await;
    fs::remove_file(installation.root("synchronized")).unwrap();
    let mut agent = installation.start_agent_ahead(AHEAD).unwrap();
    agent.line("card surveyed", DEADLINE).await.unwrap();
    (installation, agent)
}

async fn installed(expected_from: Timestamp) -> Installation {
    let setup = Setup { naming: NAMING, link: Shape::CLEAR, expected_from };
    let installation = Installation::set_up(&setup).await.unwrap();
    let mark = installation.root("synchronized");
    File::create(&mark).unwrap();
    let keys = format!(
        "[clock]\nbelieve = \"plausible\"\nsynchronised_file = {mark:?}\n[index]\nseal_after_seconds = 1"
    );
    amend(&installation.agent_config(), &keys).unwrap();
    amend(&installation.server_config(), "[archive]\nsettle_s = 1").unwrap();
    installation
}

/// Writes the segment under the name and the time of change that the wrong clock gives it, and closes it; the
/// clock showed `shown` when it began. Answers its path and the time that it truly shows.
fn record_now(
    installation: &Installation,
    shown: impl FnOnce(Timestamp) -> Timestamp,
) -> (PathBuf, TimeRange) {
    let closed = now();
    let length = Duration::from_secs(SEGMENT_SECONDS.into());
    let start = closed.saturating_sub(length);
    let shown = shown(start);
    let path = installation.card().join(NAMING.path(shown));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).unwrap();
    file.write_all(&Clip::committed().segment(start, SEGMENT_SECONDS)).unwrap();
    let changed = shown.saturating_add(length).since(Timestamp::UNIX_EPOCH);
    file.set_modified(SystemTime::UNIX_EPOCH + changed).unwrap();
    (path, TimeRange::new(start, closed).unwrap())
}

fn from_the_card(timeline: &Timeline) -> Vec<TimeRange> {
    let stretches = timeline.stretches.iter();
    let pulled = stretches
        .filter(|stretch| matches!(stretch.state, State::Archived { by: Recorder::Edge, .. }));
    pulled.map(|stretch| stretch.range().unwrap()).collect()
}

/// Waits until what the card holds since `before` is archived, in one piece, and answers where.
async fn archived_within(
    installation: &Installation,
    before: Timestamp,
    truth: TimeRange,
) -> TimeRange {
    let pulled = |timeline: &Timeline| !from_the_card(timeline).is_empty();
    let window = TimeRange::new(before, truth.end()).unwrap();
    let told = "the card's footage is archived";
    let timeline = installation.timeline_until(told, window, DEADLINE, pulled).await.unwrap();

    let [piece] = from_the_card(&timeline)[..] else { panic!("{timeline:#?}") };
    println!("recorded {truth}, archived {piece}");
    piece
}

#[tokio::test]
async fn what_a_clock_of_1970_has_named_is_archived_when_it_was_recorded() {
    let before = whole_second(now()).saturating_sub(Duration::from_secs(60));
    let (installation, _agent) = watched(before).await;
    let archive = Card::new(&installation.archive(), NAMING);
    let (recorded, truth) = record_now(&installation, |_| shown());
    let archived = archive.segment(before, SEGMENT_SECONDS).unwrap();
    let _server = installation.start_server().unwrap();

    let piece = archived_within(&installation, before, truth).await;
    assert!(piece.start().distance(truth.start()) <= UNCERTAINTY, "{piece} of {truth}");
    assert!(!piece.overlaps(&archived));
    let nothing = installation.archive().join(NAMING.path(shown()));
    assert!(!nothing.exists(), "the archive has footage of 1970");

    let (held, merged) = (frames(&recorded, Form::VideoPackets), merged(&installation));
    assert_eq!(frames(&merged, Form::VideoPackets).unwrap(), held.unwrap());
}

#[tokio::test]
async fn what_a_clock_two_hours_ahead_has_named_is_archived_when_the_server_knows_it_was_recorded()
{
    let before = whole_second(now()).saturating_sub(Duration::from_secs(60));
    let (installation, _agent) = watched_ahead(before).await;
    let archive = Card::new(&installation.archive(), NAMING);
    let (recorded, truth) = record_now(&installation, |start| start.saturating_add(AHEAD));
    archive.segment(before, SEGMENT_SECONDS).unwrap();
    let _server = installation.start_server().unwrap();

    let piece = archived_within(&installation, before, truth).await;
    assert!(piece.start().distance(truth.start()) <= TOLD, "{piece} of {truth}");
    let (held, merged) = (frames(&recorded, Form::VideoPackets), merged(&installation));
    assert_eq!(frames(&merged, Form::VideoPackets).unwrap(), held.unwrap());
}

/// The piece that stands beside the archive's own segment.
fn merged(installation: &Installation) -> PathBuf {
    let entries = fs::read_dir(installation.archive()).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let [_, piece] = &paths[..] else { panic!("{paths:?}") };
    piece.clone()
}
