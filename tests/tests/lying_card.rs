//! Cards that give back other bytes than the recorder left on them: what is altered is refused and named, and
//! no frame of it is ever merged; what is as it was is pulled, and proved to be.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reconciler::timeline::{Proof, Recorder, State};
use sdcard_indexer::digest::verify::verify;
use sdcard_indexer::digest::{BLOCK_BYTES, Digests};
use sdcard_indexer::recordings::Folder;
use sdcard_indexer::scan::ScanLimits;
use sdcard_indexer::time::{TimeRange, Timestamp};
use tests::camera::{Camera, Recording, Ring};
use tests::clip::{Clip, FRAMES_PER_SECOND};
use tests::installation::{Installation, STREAM, Setup, Timeline, amend};
use tests::link::Shape;
use tests::media::{Form, frames};
use tests::naming::Naming;
use tests::process::{Process, until};

/// No wait is endless; far above what any of them takes.
const DEADLINE: Duration = Duration::from_secs(90);
/// Long enough that a segment has several blocks.
const SEGMENT_SECONDS: u32 = 400;

fn at(second: u32) -> Timestamp {
    let start: Timestamp = "2024-05-14T10:00:00Z".parse().unwrap();
    start.saturating_add(Duration::from_secs(second.into()))
}

fn range(from: u32, to: u32) -> TimeRange {
    TimeRange::new(at(from), at(to)).unwrap()
}

/// An agent that has watched three segments being recorded, of which the archive lacks a part of the second.
struct Scene {
    installation: Installation,
    agent: Process,
    hole: TimeRange,
}

impl Scene {
    async fn set_up(hole: TimeRange) -> Scene {
        let naming = Naming::MediaMtx;
        let setup = Setup { naming, link: Shape::CLEAR, expected_from: at(0) };
        let installation = Installation::set_up(&setup).await.unwrap();
        amend(&installation.agent_config(), "[index]\nseal_after_seconds = 1").unwrap();
        let mut agent = installation.start_agent().unwrap();
        agent.line("card surveyed", DEADLINE).await.unwrap();
        let recorder = |root: &Path| Recording::new(root, naming, SEGMENT_SECONDS, Ring::Endless);
        let (card, archive) = (recorder(&installation.card()), recorder(&installation.archive()));
        let mut camera = Camera::streaming(card, archive);
        camera.record_range(TimeRange::new(at(0), hole.start()).unwrap(), true).unwrap();
        camera.record_range(hole, false).unwrap();
        camera.record_range(TimeRange::new(hole.end(), at(810)).unwrap(), true).unwrap();
        let scene = Scene { installation, agent, hole };
        until("all three segments are hashed", DEADLINE, async || {
            (scene.intact() == 3).then_some(())
        })
        .await
        .unwrap();
        scene
    }

    /// Segments that are what they were when they were sealed.
    fn intact(&self) -> u64 {
        let (root, limits) = (self.installation.card(), ScanLimits::default());
        let folder = Folder { root, limits, require_mount: false };
        let digests = Digests::new(self.installation.root("card/.gapless"));
        let stream = STREAM.parse().unwrap();
        let report =
            verify(&stream, &folder, &digests, &mut |_| ControlFlow::Continue(())).unwrap();
        report.intact
    }

    /// The segment that the hole lies in.
    fn segment(&self) -> PathBuf {
        self.installation.card().join(Naming::MediaMtx.path(at(400)))
    }

    /// Changes one bit as a failing card does: nobody has written.
    fn flip(&self, offset: u64) {
        let file = File::options().read(true).write(true).open(self.segment()).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 4], offset).unwrap();
        file.set_modified(modified).unwrap();
        assert_eq!(self.intact(), 2);
    }

    /// The states of the hole, with their lengths.
    fn states<'t>(&self, timeline: &'t Timeline) -> Vec<(&'t State, Duration)> {
        let stretches = timeline.stretches.iter();
        let inside = stretches.filter_map(|stretch| {
            let range = stretch.range().unwrap().intersection(&self.hole)?;
            Some((&stretch.state, range.duration()))
        });
        inside.collect()
    }
}

fn edge(proof: Proof) -> State {
    State::Archived { by: Recorder::Edge, proof, uncertainty_ns: 0 }
}

#[tokio::test]
async fn what_is_as_the_recorder_left_it_is_pulled_with_proof_though_the_segment_is_not_whole() {
    let scene = Scene::set_up(range(450, 500)).await;
    // The hole ends well before the last block.
    scene.flip(fs::metadata(scene.segment()).unwrap().len() - 1);
    let _server = scene.installation.start_server().unwrap();
    let timeline = scene.installation.complete(range(0, 810), DEADLINE).await.unwrap();
    assert_eq!(scene.states(&timeline), [(&edge(Proof::Sealed), Duration::from_secs(50))]);
}

#[tokio::test]
async fn a_bit_that_the_card_has_flipped_is_refused_named_and_never_merged() {
    let mut scene = Scene::set_up(range(400, 800)).await;
    let original = frames(&scene.segment(), Form::VideoPackets).unwrap();
    // In the middle of a second's media, so that no parser would notice.
    let altered = seconds_before(2 * BLOCK_BYTES) + 5;
    scene.flip(start_of(altered) + Clip::committed().fragment_bytes(at(400 + altered)) / 2);
    let mut server = scene.installation.start_server().unwrap();

    let lost = server.line("lost the rest of a part", DEADLINE).await.unwrap();
    let named = format!("from byte {} of the segment on", 2 * BLOCK_BYTES);
    assert!(lost.contains(&named), "{lost}");
    let named = scene.agent.line("altered since it was recorded", DEADLINE).await.unwrap();
    let name = Naming::MediaMtx.path(at(400));
    assert!(named.contains(name.to_str().unwrap()), "{named}");

    let concluded = |timeline: &Timeline| {
        timeline.words() == ["archived", "archived", "failed", "archived", "archived"]
    };
    let window = range(0, 810);
    let timeline = scene
        .installation
        .timeline_until("what was altered has failed", window, DEADLINE, concluded)
        .await
        .unwrap();
    // The hole takes two parts; none of the second's blocks is altered.
    let [(kept, length), (State::Failed { reason }, _), (proved, _)] = scene.states(&timeline)[..]
    else {
        panic!("{timeline:#?}");
    };
    assert_eq!((kept, proved), (&edge(Proof::Chunks), &edge(Proof::Sealed)));
    assert!(reason.contains("other bytes than were recorded"), "{reason}");
    assert!(!timeline.completeness.complete);
    // What lies before the altered block, to the frame.
    assert!(length.as_secs() == u64::from(seconds_before(2 * BLOCK_BYTES)), "{length:?}");
    let piece = scene.installation.archive().join(name);
    let merged = frames(&piece, Form::VideoPackets).unwrap();
    assert_eq!(merged[..], original[..merged.len()]);
    assert_eq!(merged.len() as u128, length.as_millis() * u128::from(FRAMES_PER_SECOND) / 1_000);
}

/// Where the media of the second segment's nth second begins.
fn start_of(second: u32) -> u64 {
    let media = (0..second).map(|second| Clip::committed().fragment_bytes(at(400 + second)));
    Clip::committed().init().len() as u64 + media.sum::<u64>()
}

/// How many of its seconds lie whole before an offset.
fn seconds_before(offset: u64) -> u32 {
    (0..SEGMENT_SECONDS).take_while(|&second| start_of(second + 1) <= offset).count() as u32
}
