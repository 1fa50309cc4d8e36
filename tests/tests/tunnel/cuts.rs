//! Whatever ends in the middle of a pull (the link, the agent, the server, the broker), the outcome is
//! the same, and little is sent again.

use std::time::Duration;

use sdcard_indexer::container::Container;
use serde_json::Value;
use tests::artifacts::tool;
use tests::installation::json_of;
use tests::link::{Cut, Direction, Lane, Link, Shape};
use tests::media::{Spec, VideoCodec};
use tests::process::{Process, until};
use tokio::sync::OnceCell;

use crate::scene::{Containers, DEADLINE, Scene};

const SPEC: Spec = Spec { codec: VideoCodec::H264, b_frames: 2, audio: true, seconds: 120 };
const FRAGMENTED: Containers = Containers::both(Container::FragmentedMp4);
/// The hole is 38 s of one segment, which take seconds to pull, and 8 s of the next one.
const SEGMENT_SECONDS: u32 = 40;
const LINK: Shape = Shape::symmetric(Lane::new(20, 5_000_000));
/// What may be sent again for each cut. A window may reach 1 MiB, but here keeps to what the link holds and 60 ms
/// of its rate, some 60 KB; what a busy machine adds to its round trips is left room for. To begin anew costs more.
const WINDOW_BYTES: u64 = 512 << 10;
/// Of the lost media, in percent: when these have come over the link, something ends.
const MOMENTS: [u64; 3] = [30, 60, 85];
/// Longer than the server waits for data before it opens a transfer anew.
const LONG_STALL: Duration = Duration::from_secs(7);

/// An installation in the middle of a pull.
struct Pull {
    scene: Scene,
    agent: Process,
    server: Process,
}

impl Pull {
    async fn begin() -> Pull {
        let scene = Scene::set_up(SPEC, FRAGMENTED, SEGMENT_SECONDS, LINK).await;
        let server = scene.installation.start_server().unwrap();
        let agent = scene.installation.start_agent().unwrap();
        Pull { scene, agent, server }
    }

    fn link(&self) -> &Link {
        &self.scene.installation.link
    }

    /// Returns once so much of the media has come over the link.
    async fn reaches(&self, percent: u64) {
        self.link().passed(Direction::ToServer, self.scene.lost_bytes * percent / 100).await;
    }

    /// Cuts the link once exactly so much has come over it, and returns then.
    async fn is_cut_at(&self, percent: u64, cut: Cut) {
        let passed_bytes = self.link().passed_bytes(Direction::ToServer);
        let bytes = (self.scene.lost_bytes * percent / 100).checked_sub(passed_bytes);
        self.link().cut_after(Direction::ToServer, bytes.expect("the pull is not there yet"), cut);
        self.link().is_cut().await;
    }

    async fn ends_as_if_nothing_had_happened(&self, what: &str, times: usize) {
        self.scene.assert_made_whole().await;
        let resent_bytes = self.scene.sent_bytes().saturating_sub(undisturbed_bytes().await);
        println!("{times} times {what}: {resent_bytes} bytes were sent again");
        assert!(resent_bytes <= times as u64 * WINDOW_BYTES, "{resent_bytes}");
    }
}

/// What the same pull takes on the link when nothing happens to it.
async fn undisturbed_bytes() -> u64 {
    static BYTES: OnceCell<u64> = OnceCell::const_new();
    let pull = async || {
        let pull = Pull::begin().await;
        pull.scene.assert_made_whole().await;
        pull.scene.sent_bytes()
    };
    *BYTES.get_or_init(pull).await
}

#[tokio::test]
async fn a_link_that_is_reset_again_and_again() {
    let pull = Pull::begin().await;
    for moment in MOMENTS {
        pull.is_cut_at(moment, Cut::Reset).await;
        pull.link().restore();
    }
    pull.ends_as_if_nothing_had_happened("reset", MOMENTS.len()).await;
}

/// Only MQTT's keep-alive finds out; once is enough to wait for.
#[tokio::test]
async fn a_connection_that_falls_silent_for_ever() {
    let pull = Pull::begin().await;
    pull.is_cut_at(MOMENTS[1], Cut::Blackhole).await;
    pull.link().restore();
    pull.ends_as_if_nothing_had_happened("silent for ever", 1).await;
}

#[tokio::test]
async fn a_link_that_stalls_for_a_moment_and_for_long() {
    let pull = Pull::begin().await;
    for (moment, stall) in MOMENTS.into_iter().zip([Duration::ZERO, LONG_STALL, Duration::ZERO]) {
        pull.is_cut_at(moment, Cut::Stall).await;
        tokio::time::sleep(stall).await;
        pull.link().restore();
    }
    pull.ends_as_if_nothing_had_happened("stalled", MOMENTS.len()).await;
}

#[tokio::test]
async fn an_agent_that_is_killed_again_and_again() {
    let mut pull = Pull::begin().await;
    for moment in MOMENTS {
        pull.reaches(moment).await;
        pull.agent.restart().await.unwrap();
    }
    pull.ends_as_if_nothing_had_happened("agent killed", MOMENTS.len()).await;
}

#[tokio::test]
async fn a_server_that_is_killed_again_and_again() {
    let mut pull = Pull::begin().await;
    for moment in MOMENTS {
        pull.reaches(moment).await;
        pull.server.restart().await.unwrap();
    }
    pull.ends_as_if_nothing_had_happened("server killed", MOMENTS.len()).await;
}

#[tokio::test]
async fn a_broker_that_is_killed_again_and_again() {
    let mut pull = Pull::begin().await;
    for moment in MOMENTS {
        pull.reaches(moment).await;
        pull.scene.installation.mosquitto.restart().await.unwrap();
    }
    pull.ends_as_if_nothing_had_happened("mosquitto killed", MOMENTS.len()).await;
}

/// The piece has its name and the ledger does not know it yet: a moment that strace makes last.
#[tokio::test]
async fn a_server_that_is_killed_between_rename_and_ledger() {
    let scene = Scene::set_up(SPEC, FRAGMENTED, SEGMENT_SECONDS, Shape::CLEAR).await;
    let installation = &scene.installation;
    let _agent = installation.start_agent().unwrap();
    // -D: strace is not the parent, so that the process we kill is the server itself.
    let tracing = ["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=renameat2"];
    let holding = ["-e", "inject=renameat2:delay_exit=10000000"];
    let strace = tool("strace").unwrap();
    let mut server =
        installation.start_server_under(&strace, &[tracing.as_slice(), &holding].concat()).unwrap();

    let named = async || scene.any_piece();
    let piece = until("a piece has its name", DEADLINE, named).await.unwrap();
    server.kill().await.unwrap();
    let verified = installation.gapless(["verify", "--json"]).await.unwrap();
    assert_eq!(json_of::<Value>(&verified).unwrap()["pieces"], 0, "{verified:?}");

    let _server = installation.start_server().unwrap();
    let pieces = scene.assert_made_whole().await;
    assert!(pieces.contains(&piece), "{piece:?} is not among {pieces:?}");
}
