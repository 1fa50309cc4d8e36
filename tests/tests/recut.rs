//! Re-cut, end to end: a running server has a shorter copy take the name of the last live recording before a hole,
//! and a person puts the original back.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

#[path = "tunnel/scene.rs"]
#[allow(dead_code, reason = "shared with the tunnel's tests, which use all of it")]
mod scene;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sdcard_indexer::container::Container;
use serde_json::{Value, json};
use tests::installation::{amend, json_of};
use tests::link::Shape;
use tests::media::{Form, Spec, VideoCodec, frames};
use tests::process::until;

use scene::{Containers, DEADLINE, Scene};

const SPEC: Spec = Spec { codec: VideoCodec::H264, b_frames: 2, audio: true, seconds: 120 };
const SEGMENT_SECONDS: u32 = 40;

async fn set_up() -> Scene {
    let containers = Containers::both(Container::FragmentedMp4);
    let scene = Scene::set_up(SPEC, containers, SEGMENT_SECONDS, Shape::CLEAR).await;
    // With the usual margin, the piece would begin before the file that breaks off, and nothing would be left of that.
    let keys = "[archive]\nrecut = true\nseam_margin_ms = 500";
    amend(&scene.installation.server_config(), keys).unwrap();
    // Nothing has been written to them for a while.
    let written = SystemTime::now() - Duration::from_secs(300);
    for segment in &scene.holed.segments {
        let file = File::options().write(true).open(&segment.path).unwrap();
        file.set_modified(written).unwrap();
    }
    scene
}

/// What was recorded last before the hole.
fn broken_off(scene: &Scene) -> PathBuf {
    let hole = scene.holed.time;
    let before = scene.holed.segments.iter().rev();
    let name = |path: &Path| path.file_name().unwrap().to_owned();
    let mut all: Vec<PathBuf> = before.map(|segment| segment.path.clone()).collect();
    all.sort_by_key(|path| name(path));
    let pictures = |path: &PathBuf| frames(path, Form::Slices(SPEC.codec)).unwrap().len();
    // Files of 40 s: the second breaks off 2.4 s after it has begun.
    assert!(hole.duration() > Duration::from_secs(40));
    let found = all.into_iter().find(|path| pictures(path) < 200);
    found.unwrap()
}

async fn originals(scene: &Scene) -> Value {
    json_of(&scene.installation.gapless(["originals", "list", "--json"]).await.unwrap()).unwrap()
}

#[tokio::test]
async fn the_last_recording_before_a_hole_ends_where_the_piece_begins_and_comes_back() {
    let scene = set_up().await;
    let live = broken_off(&scene);
    let original = fs::read(&live).unwrap();
    let recorded = frames(&live, Form::Slices(SPEC.codec)).unwrap();
    let _agent = scene.installation.start_agent().unwrap();
    let mut server = scene.installation.start_server().unwrap();
    scene.installation.complete(scene.window, DEADLINE).await.unwrap();
    let kept = async || {
        let all = originals(&scene).await;
        (all[0]["found"] == "kept").then_some(all)
    };
    let all = until("a recording is re-cut", DEADLINE, kept).await.unwrap();
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");

    let beside = PathBuf::from(all[0]["kept"].as_str().unwrap());
    assert_eq!(fs::read(&beside).unwrap(), original, "the original was altered");
    let played = frames(&live, Form::Slices(SPEC.codec)).unwrap();
    let kept_frames = all[0]["kept_frames"].as_u64().unwrap() as usize;
    assert_eq!(played.len(), kept_frames, "{all}");
    assert!(kept_frames < recorded.len());
    let hashes = |all: &[tests::media::Frame]| -> Vec<_> {
        all.iter().map(|frame| frame.hash.clone()).collect()
    };
    assert_eq!(hashes(&played), hashes(&recorded)[..kept_frames]);
    // The timeline is as whole as it was, and verified; exports are made of the original.
    scene.installation.complete(scene.window, DEADLINE).await.unwrap();
    let clip = scene.installation.root("clip.mp4").display().to_string();
    let (from, to) = (scene.window.start().to_string(), scene.window.end().to_string());
    let export = ["export", "camera", "--from", &from, "--to", &to, "-o", &clip, "--json"];
    let exported: Value = json_of(&scene.installation.gapless(export).await.unwrap()).unwrap();
    let seams = exported["seams"].as_array().unwrap().iter();
    assert!(seams.clone().count() == 2 && seams.clone().all(|seam| seam["seam"] == "exact"));
    let verified = scene.installation.gapless(["verify", "--json"]).await.unwrap();
    assert_eq!(json_of::<Value>(&verified).unwrap()["problems"], json!([]));

    let path = all[0]["path"].as_str().unwrap();
    let restored = scene.installation.gapless(["originals", "restore", path]).await.unwrap();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    assert_eq!(fs::read(&live).unwrap(), original);
    assert!(!beside.exists());
    let archive = scene.installation.root("archive").display().to_string();
    let proved = ["verify-export", &clip, "--archive", &archive];
    let proved = scene.installation.gapless(proved).await.unwrap();
    assert!(proved.status.success(), "{}", String::from_utf8_lossy(&proved.stdout));
    assert_eq!(originals(&scene).await[0]["state"], "restored");
    let again = scene.installation.gapless(["originals", "restore", path]).await.unwrap();
    assert_eq!(again.status.code(), Some(1));
    assert!(server.terminate(DEADLINE).await.unwrap().success());
}
