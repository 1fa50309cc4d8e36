//! What arrives and cannot be used: dropped, counted, logged at most once a minute, and work goes on.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

use std::path::Path;
use std::time::Duration;

use protocol::envelope;
use protocol::frame;
use protocol::message::{Ask, AskBody, BootMillis, ConnectionId, Presence, TransferId};
use protocol::{MAX_MESSAGE_BYTES, MAX_PACKET_BYTES, PROTOCOL_VERSION};
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde_json::Value;
use tests::camera::{Camera, Recording};
use tests::installation::{DEVICE, Installation, Setup, amend, json_of};
use tests::link::Shape;
use tests::naming::Naming;
use tests::stranger::{Stranger, online};

/// No wait is endless; far above what any of them takes.
const DEADLINE: Duration = Duration::from_secs(90);
/// So often each bad message is sent.
const TIMES: usize = 100;

fn at(second: u32) -> Timestamp {
    let start: Timestamp = "2024-05-14T10:00:00Z".parse().unwrap();
    start.saturating_add(Duration::from_secs(second.into()))
}

fn range(from: u32, to: u32) -> TimeRange {
    TimeRange::new(at(from), at(to)).unwrap()
}

/// A minute, of which the archive lacks twenty seconds that the card has.
async fn with_a_hole() -> Installation {
    let setup = Setup { naming: Naming::MediaMtx, link: Shape::CLEAR, expected_from: at(0) };
    let installation = Installation::set_up(&setup).await.unwrap();
    let recorder = |root: &Path| Recording::plain(root);
    let mut camera =
        Camera::streaming(recorder(&installation.card()), recorder(&installation.archive()));
    camera.record_range(range(0, 20), true).unwrap();
    camera.record_range(range(20, 40), false).unwrap();
    camera.record_range(range(40, 60), true).unwrap();
    installation
}

async fn stranger_on(installation: &Installation) -> Stranger {
    Stranger::connect(installation.mosquitto.address(), "somebody").await.unwrap()
}

/// The lines of a log that hold all of these words.
fn lines_with(log: &Path, words: &[&str]) -> Vec<String> {
    let log = std::fs::read_to_string(log).unwrap();
    let lines = log.lines().filter(|line| words.iter().all(|word| line.contains(word)));
    lines.map(str::to_owned).collect()
}

#[track_caller]
fn assert_logged_once(log: &Path, words: &[&str]) {
    let lines = lines_with(log, words);
    assert_eq!(lines.len(), 1, "{words:?}: {lines:#?}");
}

fn chunk() -> Vec<u8> {
    let mut chunk = vec![7; frame::HEADER_BYTES + 100];
    frame::seal(&mut chunk, TransferId(4_711), 0, 0).unwrap();
    chunk
}

#[tokio::test]
async fn a_server_that_hears_nonsense_says_so_once_and_completes_the_archive_all_the_same() {
    let installation = with_a_hole().await;
    let mut server = installation.start_server().unwrap();
    server.line("connected to the broker", DEADLINE).await.unwrap();
    let mut stranger = stranger_on(&installation).await;

    let [state, coverage, tell, data] = ["state", "coverage", "tell/gapless", "data/gapless"]
        .map(|leaf| format!("gapless/1/{DEVICE}/{leaf}"));
    let nowhere = "gapless/1/no device/state".to_owned();
    let mut damaged = chunk();
    *damaged.last_mut().unwrap() ^= 1;
    let too_large = vec![PROTOCOL_VERSION; MAX_MESSAGE_BYTES + 1];
    let nonsense = [
        (&state, vec![9, 1, 2, 3]),
        (&state, vec![PROTOCOL_VERSION, 99]),
        (&state, vec![PROTOCOL_VERSION, 1, 77]),
        (&coverage, vec![PROTOCOL_VERSION, 2]),
        (&coverage, too_large),
        (&nowhere, online(1)),
        (&tell, vec![8, 5, 0]),
        (&tell, vec![]),
        (&data, damaged),
        (&data, chunk()),
    ];
    for _ in 0..TIMES {
        for (topic, payload) in &nonsense {
            stranger.say(topic, payload).await.unwrap();
        }
    }
    // More than it takes in one packet costs the connection, and it makes another one.
    stranger.say(&state, &vec![1; MAX_PACKET_BYTES + 1]).await.unwrap();
    server.line("no connection to the broker", DEADLINE).await.unwrap();
    server.line("connected to the broker", DEADLINE).await.unwrap();

    let _agent = installation.start_agent().unwrap();
    let timeline = installation.complete(range(0, 60), DEADLINE).await.unwrap();
    assert_eq!(timeline.completeness.archived_s, 60.0, "{timeline:#?}");

    let log = installation.root("server.log");
    for words in [
        &["cause=Version", &state, "protocol version 9", "this side speaks 3"][..],
        &["cause=Version", &tell, "protocol version 8", "this side speaks 3"],
        &["cause=Kind", &state, "99"],
        &["cause=Malformed", &state],
        &["cause=Size", &coverage],
        &["cause=Size", &tell],
        &["cause=Address", "no device"],
        &["cause=Checksum", &data],
        &["cause=Stale", &data],
    ] {
        assert_logged_once(&log, words);
    }
    assert_eq!(lines_with(&log, &["dropped what arrived"]).len(), 9);
    assert!(server.terminate(DEADLINE).await.unwrap().success());
}

#[tokio::test]
async fn an_agent_that_hears_nonsense_says_so_once_and_answers_all_the_same() {
    let installation = with_a_hole().await;
    let mut agent = installation.start_agent().unwrap();
    agent.line("connected", DEADLINE).await.unwrap();
    let mut stranger = stranger_on(&installation).await;
    let state = stranger.hear(&format!("gapless/1/{DEVICE}/state")).await.unwrap();
    let Presence::Online(online) = envelope::decode(&state.payload).unwrap() else {
        panic!("an agent that has connected is online")
    };

    let [ask, credit] = ["ask", "credit"].map(|leaf| format!("gapless/1/{DEVICE}/{leaf}"));
    let question = |connection, expires| {
        let server = "somebody".parse().unwrap();
        envelope::encode(&Ask { server, connection, expires, body: AskBody::Coverage }).unwrap()
    };
    let nonsense = [
        (&ask, vec![9, 3, 1, 2]),
        (&ask, vec![PROTOCOL_VERSION, 99]),
        (&ask, vec![PROTOCOL_VERSION, 1]),
        (&ask, vec![PROTOCOL_VERSION, 3]),
        (&ask, question(ConnectionId(1), BootMillis(u64::MAX))),
        (&ask, question(online.connection, BootMillis(0))),
        (&credit, vec![0, 4]),
        (&credit, vec![PROTOCOL_VERSION, 6]),
        (&credit, vec![PROTOCOL_VERSION, 4, 255]),
    ];
    for _ in 0..TIMES {
        for (topic, payload) in &nonsense {
            stranger.say(topic, payload).await.unwrap();
        }
    }
    stranger.say(&ask, &vec![1; MAX_PACKET_BYTES + 1]).await.unwrap();
    agent.line("no link", DEADLINE).await.unwrap();
    agent.line("connected", DEADLINE).await.unwrap();

    let _server = installation.start_server().unwrap();
    let timeline = installation.complete(range(0, 60), DEADLINE).await.unwrap();
    assert_eq!(timeline.completeness.archived_s, 60.0, "{timeline:#?}");

    let log = installation.root("agent.log");
    for words in [
        &["cause=Version", "protocol version 9", "this side speaks 3"][..],
        &["cause=Kind", "99"],
        &["cause=Size"],
        &["cause=Stale", "earlier connection"],
    ] {
        assert_logged_once(&log, words);
    }
    assert_eq!(lines_with(&log, &["messages dropped"]).len(), 4);
    assert!(agent.terminate(DEADLINE).await.unwrap().success());
}

#[tokio::test]
async fn devices_that_nobody_listed_are_not_taken_in_where_the_configuration_says_so() {
    let installation = with_a_hole().await;
    amend(&installation.server_config(), "[server]\nadopt_devices = false").unwrap();
    let mut server = installation.start_server().unwrap();
    // Once it hears a device it hears everybody: it says that it is connected before it has subscribed.
    let _agent = installation.start_agent().unwrap();
    server.line("online", DEADLINE).await.unwrap();
    let mut stranger = stranger_on(&installation).await;
    for number in 0..TIMES as u64 {
        let topic = format!("gapless/1/intruder-{number}/state");
        stranger.say(&topic, &online(number)).await.unwrap();
    }
    server.line("not admitted", DEADLINE).await.unwrap();
    installation.complete(range(0, 60), DEADLINE).await.unwrap();

    let devices: Value =
        json_of(&installation.gapless(["devices", "--json"]).await.unwrap()).unwrap();
    let devices: Vec<&Value> =
        devices.as_array().unwrap().iter().map(|device| &device["device"]).collect();
    assert_eq!(devices, [DEVICE]);
    let log = installation.root("server.log");
    assert_logged_once(&log, &["dropped what arrived", "not admitted", "intruder-0"]);
    assert_eq!(lines_with(&log, &["intruder"]).len(), 1);
}
