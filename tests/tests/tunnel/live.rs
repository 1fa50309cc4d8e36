//! A camera whose clock is ahead, a central recorder that lost it for a while, and a server that knows of neither
//! more than their files: what it plays in the end is what the encoder made.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use jiff::SignedDuration;
use sdcard_indexer::container::Container;
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde_json::Value;
use tests::installation::{DEVICE, Files, Installation, STREAM, Setup, amend, json_of};
use tests::link::{Cut, Shape};
use tests::media::{Form, VideoCodec, frames};
use tests::naming::Naming;
use tests::relay::Relay;
use tests::rig::{Recorded, Rig, Sound, Writing};

use crate::scene::DEADLINE;

const SECONDS: u32 = 22;
/// Inside groups of pictures at both ends.
const TUNNEL: Range<Duration> = Duration::from_millis(7_300)..Duration::from_millis(12_690);
/// How long ago the recording ended.
const SETTLED: Duration = Duration::from_secs(60);
/// Of the camera's clock. The server learns it by asking.
const AHEAD: Duration = Duration::from_secs(7);
/// Of the recording, at either end: what asking leaves open, and when a recorder begins.
const EDGE: Duration = Duration::from_secs(2);

/// Films what ended a while ago by the wall clock.
async fn filmed(rig: Rig) -> Recorded {
    let now = Timestamp::from_jiff(jiff::Timestamp::now());
    let start = now.saturating_sub(SETTLED + Duration::from_secs(SECONDS.into()));
    let start = Timestamp::from_nanos(start.as_nanos() / 1_000 * 1_000);
    let rig = rig.seconds(SECONDS).cuts([TUNNEL]).start(start);
    rig.offset(SignedDuration::try_from(AHEAD).unwrap()).run().await.unwrap()
}

/// Copies recordings to where a program of the installation looks for them; each is closed when it is whole.
fn place<'a>(recordings: impl Iterator<Item = &'a Path>, from: &Path, to: &Path) {
    for recording in recordings {
        let path = to.join(recording.strip_prefix(from).unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(recording, &path).unwrap();
        let changed = recording.metadata().unwrap().modified().unwrap();
        File::options().append(true).open(&path).unwrap().set_modified(changed).unwrap();
    }
}

async fn installed(recorded: &Recorded, window: TimeRange) -> Installation {
    let setup =
        Setup { naming: Naming::MediaMtx, link: Shape::CLEAR, expected_from: window.start() };
    let installation = Installation::set_up(&setup).await.unwrap();
    let never = installation.root("synchronized");
    let keys = format!(
        "[clock]\nbelieve = \"plausible\"\nsynchronised_file = {never:?}\n\
         [index]\nseal_after_seconds = 1"
    );
    amend(&installation.agent_config(), &keys).unwrap();
    let keys = "[archive]\nseam_margin_ms = 2000\nsettle_s = 1";
    amend(&installation.server_config(), keys).unwrap();
    let archived = recorded.archive.iter().map(|segment| segment.path.as_path());
    place(archived, &recorded.archive_dir(), &installation.archive());
    installation
}

/// All of the truth that lies in `window`, and nothing else, each frame once.
fn assert_plays(file: &Path, recorded: &Recorded, window: TimeRange) {
    let truth = &recorded.truth;
    let played = frames(file, Form::Slices(truth.codec)).unwrap();
    let first = truth.video.iter().position(|frame| frame.hash == played[0].hash).unwrap();
    let hashes = |frames: &[tests::media::Frame]| -> Vec<String> {
        frames.iter().map(|frame| frame.hash.clone()).collect()
    };
    let made = hashes(&truth.video[first..]);
    let differs = hashes(&played).iter().zip(&made).position(|(played, made)| played != made);
    assert_eq!(differs, None, "{}: first difference", file.display());
    assert!(played.len() <= made.len(), "{}: {} frames", file.display(), played.len());
    let shown =
        |index: usize| recorded.clock.start.saturating_offset(truth.video[index].shown_at.0);
    let (from, to) = (shown(first), shown(first + played.len() - 1));
    println!("{}: {} frames, {from} to {to} of {window}", file.display(), played.len());
    assert!(from <= window.start().saturating_add(EDGE), "{from}");
    assert!(to >= window.end().saturating_sub(EDGE), "{to}");
}

async fn a_live_recording_is_made_whole_by_itself(rig: Rig) {
    let recorded = filmed(rig).await;
    let lacking = recorded.lacking().unwrap();
    let lacks = |lack: &TimeRange| lack.duration() > TUNNEL.end - TUNNEL.start - EDGE;
    assert!(lacking.iter().any(lacks), "nothing is missing: {lacking:?}");
    let at = |since: Duration| recorded.clock.start.saturating_add(since);
    let end = Duration::from_secs(SECONDS.into()) - EDGE;
    let window = TimeRange::new(at(EDGE), at(end)).unwrap();
    let installation = installed(&recorded, window).await;
    let originals = Files::below(&installation.archive()).unwrap();
    installation.link.cut(Cut::Reset);
    place(
        recorded.card.iter().map(|segment| segment.path.as_path()),
        &recorded.card_dir(),
        &installation.card(),
    );
    let _agent = installation.start_agent_ahead(AHEAD).unwrap();
    let mut server = installation.start_server().unwrap();

    let seen = |timeline: &tests::installation::Timeline| timeline.words().contains(&"missing");
    installation.timeline_until("the hole is seen", window, DEADLINE, seen).await.unwrap();
    installation.link.restore();
    let timeline = installation.complete(window, DEADLINE).await.unwrap();
    assert_eq!(BTreeSet::from_iter(timeline.words()), BTreeSet::from(["archived"]));
    Files::below(&installation.archive()).unwrap().added_since(&originals).unwrap();

    let clip = installation.root("clip.mp4");
    let (from, to) = (window.start().to_string(), window.end().to_string());
    let output = clip.display().to_string();
    let export = ["export", DEVICE, "--from", &from, "--to", &to, "-o", &output, "--json"];
    let exported: Value = json_of(&installation.gapless(export).await.unwrap()).unwrap();
    println!("{}", exported["seams"]);
    let seams = exported["seams"].as_array().unwrap();
    assert!(seams.len() >= 2 && seams.iter().all(|seam| seam["seam"] == "exact"), "{seams:?}");
    assert_plays(&clip, &recorded, window);

    let relay = Relay::open(installation.root("state/api.sock")).await.unwrap();
    let url = format!(
        "http://{}/api/v1/devices/{DEVICE}/streams/{STREAM}/playback.mp4?from={from}&to={to}",
        relay.address()
    );
    let played = tokio::task::spawn_blocking(move || {
        assert_plays(Path::new(&url), &recorded, window);
    });
    played.await.unwrap();
    assert!(server.terminate(DEADLINE).await.unwrap().success());
}

#[tokio::test]
async fn h265_with_sound_over_rtp_from_a_camera_whose_clock_is_ahead_is_made_whole() {
    let rig = Rig::builder().codec(VideoCodec::H265).sound(Sound::Aac);
    a_live_recording_is_made_whole_by_itself(rig.card(Writing::of(Container::MpegTs))).await;
}

#[tokio::test]
async fn h264_over_rtsp_from_a_camera_whose_clock_is_ahead_is_made_whole() {
    a_live_recording_is_made_whole_by_itself(Rig::builder().rtsp()).await;
}
