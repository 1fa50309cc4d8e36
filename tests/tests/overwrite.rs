//! Recorders write in a ring: what is to be pulled can be gone before it is, and must then be called so.
//!
//! What was pulled before is kept, nothing waits for what will not come, and nothing is pulled twice.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

use std::path::Path;
use std::time::Duration;

use reconciler::timeline::{Proof, Recorder, State};
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde_json::Value;
use tests::camera::{Camera, Recording, Ring, SEGMENT_SECONDS};
use tests::clip::Clip;
use tests::installation::{Installation, Setup, Timeline, amend, json_of};
use tests::link::{Cut, Direction, Lane, Shape};
use tests::naming::Naming;
use tests::process::{Process, until};

/// No wait is endless; far above what any of them takes.
const DEADLINE: Duration = Duration::from_secs(90);

fn at(second: u32) -> Timestamp {
    let start: Timestamp = "2024-05-14T10:00:00Z".parse().unwrap();
    start.saturating_add(Duration::from_secs(second.into()))
}

fn range(from: u32, to: u32) -> TimeRange {
    TimeRange::new(at(from), at(to)).unwrap()
}

/// What the camera records in these seconds, without what each segment starts with.
fn media_bytes(from: u32, to: u32) -> u64 {
    (from..to).map(|second| Clip::committed().fragment_bytes(at(second))).sum()
}

/// An installation and the camera whose card and archive it has.
struct Scene {
    installation: Installation,
    camera: Camera,
}

impl Scene {
    async fn set_up(link: Shape, ring: Ring, segment_seconds: u32) -> Scene {
        let setup = Setup { naming: Naming::MediaMtx, link, expected_from: at(0) };
        let installation = Installation::set_up(&setup).await.unwrap();
        // Written all at once, and finished: there is no recorder that may still go on.
        amend(&installation.agent_config(), "[index]\nseal_after_seconds = 1").unwrap();
        let recorder =
            |root: &Path, ring| Recording::new(root, setup.naming, segment_seconds, ring);
        let card = recorder(&installation.card(), ring);
        let archive = recorder(&installation.archive(), Ring::Endless);
        Scene { installation, camera: Camera::streaming(card, archive) }
    }

    fn record(&mut self, from: u32, to: u32, link_up: bool) {
        self.camera.record_range(range(from, to), link_up).unwrap();
    }

    fn start(&self) -> (Process, Process) {
        (self.installation.start_server().unwrap(), self.installation.start_agent().unwrap())
    }

    /// Returns once some of the hole's media has come through the link.
    async fn is_pulling(&self, bytes: u64) {
        let passed = self.installation.link.passed(Direction::ToServer, bytes);
        tokio::time::timeout(DEADLINE, passed).await.expect("a pull begins");
    }

    async fn verify(&self) {
        let output = self.installation.gapless(["verify", "--json"]).await.unwrap();
        let report: Value = json_of(&output).unwrap();
        assert_eq!(report["problems"], Value::Array(Vec::new()));
    }

    /// Everything that lies in the archive, by name.
    fn archived_files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.installation.archive()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Where the timeline is in the given state, in seconds from the start.
fn seconds_in(timeline: &Timeline, wanted: impl Fn(&State) -> bool) -> Vec<(f64, f64)> {
    let since = |instant: Timestamp| instant.since(at(0)).as_secs_f64();
    let stretches = timeline.stretches.iter().filter(|stretch| wanted(&stretch.state));
    let ranges = stretches.map(|stretch| stretch.range().unwrap());
    ranges.map(|range| (since(range.start()), since(range.end()))).collect()
}

fn is_edge(proof: Proof) -> impl Fn(&State) -> bool {
    move |state| matches!(state, State::Archived { by: Recorder::Edge, proof: found, .. } if *found == proof)
}

fn is_overwritten(state: &State) -> bool {
    state.word() == "overwritten"
}

/// 100 KB/s: the ten seconds of a segment take one.
fn slow() -> Shape {
    Shape { to_server: Lane::new(20, 800_000), to_device: Lane::CLEAR }
}

#[tokio::test]
async fn segments_that_are_overwritten_while_they_wait_are_told_and_those_being_read_are_kept() {
    let mut scene = Scene::set_up(slow(), Ring::Segments(12), SEGMENT_SECONDS).await;
    scene.record(0, 20, true);
    scene.record(20, 80, false);
    scene.record(80, 120, true);
    let _running = scene.start();
    scene.is_pulling(media_bytes(20, 24)).await;
    // Eight segments more, and the ring gives up the first eight, the hole with them.
    scene.record(120, 200, true);

    let timeline = scene.installation.complete(range(0, 200), DEADLINE).await.unwrap();
    let kept = seconds_in(&timeline, is_edge(Proof::Digest));
    let [(20.0, kept_until)] = kept[..] else { panic!("{timeline:#?}") };
    assert!((30.0..80.0).contains(&kept_until), "{timeline:#?}");
    assert_eq!(seconds_in(&timeline, is_overwritten), [(kept_until, 80.0)]);
    assert_eq!(timeline.completeness.archived_s, 200.0 - (80.0 - kept_until));
    scene.verify().await;
}

#[tokio::test]
async fn of_a_segment_that_is_overwritten_during_its_pull_what_had_arrived_is_kept() {
    let mut scene = Scene::set_up(slow(), Ring::Segments(3), 60).await;
    scene.record(0, 60, true);
    scene.record(60, 120, false);
    scene.record(120, 180, true);
    let (_server, mut agent) = scene.start();
    agent.line("connected", DEADLINE).await.unwrap();
    scene.is_pulling(media_bytes(60, 75)).await;
    scene.installation.link.cut(Cut::Reset);
    // As long as it is open, Linux keeps it: only the next opening finds that it is gone.
    agent.line("no link", DEADLINE).await.unwrap();
    scene.record(180, 300, true);
    scene.installation.link.restore();

    let timeline = scene.installation.complete(range(0, 300), DEADLINE).await.unwrap();
    let kept = seconds_in(&timeline, is_edge(Proof::Chunks));
    let [(60.0, kept_until)] = kept[..] else { panic!("{timeline:#?}") };
    assert!((62.0..120.0).contains(&kept_until), "{timeline:#?}");
    assert_eq!(kept_until.fract(), 0.0, "a piece ends with its last whole frame");
    assert_eq!(seconds_in(&timeline, is_overwritten), [(kept_until, 120.0)]);
    scene.verify().await;
}

#[tokio::test]
async fn a_hole_that_the_card_has_too_was_never_recorded() {
    let mut scene = Scene::set_up(Shape::CLEAR, Ring::Endless, SEGMENT_SECONDS).await;
    scene.record(0, 30, false);
    scene.record(60, 90, false);
    // The recorder saw the first ten seconds, and all from the seventieth on.
    let mut archive = scene.camera.archive.take().unwrap();
    for second in (0..10).chain(70..90) {
        archive.record(at(second)).unwrap();
    }
    let _running = scene.start();

    let timeline = scene.installation.complete(range(0, 90), DEADLINE).await.unwrap();
    let never = seconds_in(&timeline, |state| state.word() == "never_recorded");
    assert_eq!(never, [(30.0, 60.0)]);
    let kept = seconds_in(&timeline, is_edge(Proof::Digest));
    assert_eq!(kept, [(10.0, 30.0), (60.0, 70.0)]);
    assert_eq!(timeline.completeness.lost_s, 30.0);
    scene.verify().await;
}

#[tokio::test]
async fn a_hole_that_the_ring_passed_while_the_device_was_away_is_overwritten() {
    let mut scene = Scene::set_up(Shape::CLEAR, Ring::Segments(6), SEGMENT_SECONDS).await;
    scene.record(0, 60, true);
    let (_server, mut agent) = scene.start();
    scene.installation.complete(range(0, 60), DEADLINE).await.unwrap();
    agent.terminate(DEADLINE).await.unwrap();

    // A camera goes on recording while nobody indexes its card.
    scene.record(60, 100, false);
    scene.record(100, 200, true);
    let missing = |timeline: &Timeline| timeline.words() == ["archived", "missing", "archived"];
    let installation = &scene.installation;
    let window = range(0, 200);
    installation.timeline_until("the hole is seen", window, DEADLINE, missing).await.unwrap();
    agent.restart().await.unwrap();

    let timeline = installation.complete(window, DEADLINE).await.unwrap();
    assert_eq!(seconds_in(&timeline, is_overwritten), [(60.0, 100.0)]);
    assert_eq!(timeline.completeness.archived_s, 160.0);
    scene.verify().await;
}

#[tokio::test]
async fn what_was_pulled_once_is_not_pulled_again_whoever_restarts() {
    let mut scene = Scene::set_up(Shape::CLEAR, Ring::Endless, SEGMENT_SECONDS).await;
    scene.record(0, 17, true);
    scene.record(17, 62, false);
    scene.record(62, 90, true);
    let (mut server, mut agent) = scene.start();
    let window = range(0, 90);
    scene.installation.complete(window, DEADLINE).await.unwrap();
    let files = scene.archived_files();
    let bytes = media_bytes(17, 62);

    for _ in 0..2 {
        let before = scene.installation.link.passed_bytes(Direction::ToServer);
        assert!(agent.terminate(DEADLINE).await.unwrap().success());
        assert!(server.terminate(DEADLINE).await.unwrap().success());
        server.restart().await.unwrap();
        agent.restart().await.unwrap();
        server.line("online", DEADLINE).await.unwrap();
        // The server looks at every hole four times a second, and writes down what it finds each five.
        let written = as_of(&scene).await;
        until("the timeline is written twice", DEADLINE, async || {
            (as_of(&scene).await.since(written) > Duration::from_secs(6)).then_some(())
        })
        .await
        .unwrap();
        let timeline = scene.installation.timeline(window).await.unwrap();
        assert!(timeline.completeness.complete, "{timeline:#?}");
        assert_eq!(scene.archived_files(), files);
        let passed = scene.installation.link.passed_bytes(Direction::ToServer) - before;
        println!("a restart of both cost {passed} bytes on the link, the hole was {bytes}");
        assert!(passed < Clip::committed().fragment_bytes(at(17)), "{passed} bytes");
    }
    scene.verify().await;
}

/// When the server last wrote the timeline down.
async fn as_of(scene: &Scene) -> Timestamp {
    let output = scene.installation.gapless(["timeline", "camera", "--json"]).await.unwrap();
    let timelines: Value = json_of(&output).unwrap();
    timelines[0]["as_of"].as_str().unwrap().parse().unwrap()
}
