//! The server as its own broker, with nothing else installed: two cameras at once, orderly ends in the
//! middle of a pull, the word of a device that died, and guests who claim to be somebody else.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sdcard_indexer::time::{TimeRange, Timestamp};
use serde_json::Value;
use tests::artifacts::Binary;
use tests::camera::{Camera, Recording};
use tests::clip::Clip;
use tests::installation::{DEVICE, Installation, STREAM, Setup, Timeline, amend, json_of};
use tests::link::{Cut, Direction, Lane, Link, Shape};
use tests::naming::Naming;
use tests::process::{Process, until};
use tests::stranger::{Stranger, online};

/// No wait is endless; far above what any of them takes.
const DEADLINE: Duration = Duration::from_secs(90);
/// A supervisor is not kept waiting.
const END: Duration = Duration::from_secs(3);
const SECOND_DEVICE: &str = "second-camera";

fn at(second: u32) -> Timestamp {
    let start: Timestamp = "2024-05-14T10:00:00Z".parse().unwrap();
    start.saturating_add(Duration::from_secs(second.into()))
}

fn window() -> TimeRange {
    TimeRange::new(at(0), at(90)).unwrap()
}

/// What is missing in the archive, and on the card.
const HOLE: std::ops::Range<u32> = 20..65;

fn record(card: &Path, archive: &Path) {
    let mut camera = Camera::streaming(Recording::plain(card), Recording::plain(archive));
    for second in 0..90 {
        camera.record(at(second), !HOLE.contains(&second)).unwrap();
    }
}

fn hole_bytes() -> u64 {
    HOLE.map(|second| Clip::committed().fragment_bytes(at(second))).sum()
}

/// 100 KB/s: the hole takes some seconds.
fn slow() -> Shape {
    Shape { to_server: Lane::new(20, 800_000), to_device: Lane::CLEAR }
}

/// An installation whose server is its own broker, and where that listens.
async fn set_up(link: Shape) -> (Installation, SocketAddr) {
    let setup = Setup { naming: Naming::MediaMtx, link, expected_from: at(0) };
    let mut installation = Installation::set_up(&setup).await.unwrap();
    let broker = installation.embed_broker(link).await.unwrap();
    record(&installation.card(), &installation.archive());
    (installation, broker)
}

/// A further camera, which the server is not told of.
struct Second {
    link: Link,
    config: PathBuf,
    log: PathBuf,
}

impl Second {
    async fn beside(installation: &Installation, broker: SocketAddr, shape: Shape) -> Second {
        let link = Link::open(broker, shape).await.unwrap();
        let (card, archive) = (installation.root("second-card"), installation.root("archive"));
        record(&card.join(STREAM), &archive.join(SECOND_DEVICE).join(STREAM));
        let config = installation.root("second-agent.toml");
        fs::copy(installation.agent_config(), &config).unwrap();
        let own = format!(
            "device = \"{SECOND_DEVICE}\"\n[broker]\nurl = \"mqtt://{}\"\n[card]\nroot = {card:?}",
            link.address()
        );
        amend(&config, &own).unwrap();
        Second { link, config, log: installation.root("second-agent.log") }
    }

    fn start(&self) -> Process {
        let arguments = ["run".as_ref(), "--config".as_ref(), self.config.as_os_str()];
        Process::spawn(&Binary::Agent.path().unwrap(), arguments, &self.log).unwrap()
    }
}

/// Waits until the timelines of both devices are as wanted.
async fn both(installation: &Installation, what: &str, wanted: impl Fn(&Timeline) -> bool) {
    let (from, to) = (window().start().to_string(), window().end().to_string());
    until(what, DEADLINE, async || {
        let command = ["gaps", "--from", &from, "--to", &to, "--json"];
        let timelines = json_of::<Vec<Timeline>>(&installation.gapless(command).await.unwrap());
        let timelines = timelines.unwrap_or_default();
        (timelines.len() == 2 && timelines.iter().all(&wanted)).then_some(())
    })
    .await
    .unwrap();
}

async fn assert_verified(installation: &Installation) {
    let report: Value =
        json_of(&installation.gapless(["verify", "--json"]).await.unwrap()).unwrap();
    assert_eq!(report["problems"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn two_cameras_are_whole_again_though_everyone_is_told_to_stop_in_between() {
    let (installation, broker) = set_up(slow()).await;
    let second = Second::beside(&installation, broker, slow()).await;
    let links = [&installation.link, &second.link];
    let mut server = installation.start_server().unwrap();
    let mut agents = [installation.start_agent().unwrap(), second.start()];
    for agent in &mut agents {
        agent.line("connected", DEADLINE).await.unwrap();
    }
    let pulling = async |bytes| {
        for link in links {
            let passed = link.passed(Direction::ToServer, bytes);
            tokio::time::timeout(DEADLINE, passed).await.expect("a pull goes on");
        }
    };

    // Through a tunnel, in the middle of it all.
    pulling(hole_bytes() / 4).await;
    links.iter().for_each(|link| link.cut(Cut::Reset));
    let missing = |timeline: &Timeline| timeline.completeness.open_s > 0.0;
    both(&installation, "neither is called whole", missing).await;
    links.iter().for_each(|link| link.restore());
    pulling(hole_bytes() / 2).await;

    for process in agents.iter_mut().chain([&mut server]) {
        let status = process.terminate(END).await.unwrap();
        assert_eq!(status.code(), Some(0));
        process.restart().await.unwrap();
    }
    both(&installation, "both are whole", |timeline| timeline.completeness.complete).await;
    let lost = |timeline: &Timeline| timeline.completeness.archived_s == 90.0;
    both(&installation, "nothing was lost", lost).await;
    assert_verified(&installation).await;
    for link in links {
        let passed = link.passed_bytes(Direction::ToServer);
        println!("{passed} bytes on the link for a hole of {} bytes", hole_bytes());
    }
}

#[tokio::test]
async fn the_last_word_of_a_device_that_died_does_not_keep_its_next_life_waiting() {
    let (installation, broker) = set_up(Shape::CLEAR).await;
    let mut server = installation.start_server().unwrap();
    server.line("connected to the broker", DEADLINE).await.unwrap();
    let state = format!("gapless/1/{DEVICE}/state");
    let mut device = Stranger::connect(broker, &format!("gapless-agent-{DEVICE}")).await.unwrap();
    device.leave(&state, &online(42)).await.unwrap();
    drop(device);
    server.line("online", DEADLINE).await.unwrap();
    // Nothing answers, and nothing is called better than it is.
    let timeline = installation.timeline_until("missing", window(), DEADLINE, |timeline| {
        timeline.words() == ["archived", "missing", "archived"]
    });
    timeline.await.unwrap();

    let _agent = installation.start_agent().unwrap();
    let timeline = installation.complete(window(), DEADLINE).await.unwrap();
    assert_eq!(timeline.completeness.archived_s, 90.0, "{timeline:#?}");
}

#[tokio::test]
async fn nobody_speaks_for_another_device_and_each_kind_of_attempt_is_logged_once() {
    let (installation, broker) = set_up(Shape::CLEAR).await;
    let mut server = installation.start_server().unwrap();
    server.line("connected to the broker", DEADLINE).await.unwrap();
    for attempt in 0..100 {
        Stranger::connect(broker, "somebody").await.expect_err("it is no one's id");
        // A client that comes back while its last connection is still ending is told to wait.
        let intruder = format!("gapless-agent-intruder-{attempt}");
        let mut intruder = Stranger::connect(broker, &intruder).await.unwrap();
        let refused = intruder.say(&format!("gapless/1/{DEVICE}/state"), &[1, 1]).await;
        refused.expect_err("a device may speak of itself only");
    }
    let _agent = installation.start_agent().unwrap();
    installation.complete(window(), DEADLINE).await.unwrap();

    let log = fs::read_to_string(installation.root("server.log")).unwrap();
    for what in ["client refused", "message refused"] {
        let lines = log.lines().filter(|line| line.contains(what)).count();
        assert_eq!(lines, 1, "{what}\n{log}");
    }
    assert!(!log.contains("dropped what arrived"), "nothing of it came through\n{log}");
    let devices: Value =
        json_of(&installation.gapless(["devices", "--json"]).await.unwrap()).unwrap();
    assert_eq!(devices.as_array().unwrap().len(), 1);
    assert_eq!(devices[0]["device"], DEVICE);
}
