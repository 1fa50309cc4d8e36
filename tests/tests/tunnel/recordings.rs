//! What ffmpeg records, in every form a camera writes it, comes back frame by frame.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use sdcard_indexer::container::Container;
use tests::link::{Cut, Shape};
use tests::media::{Spec, VideoCodec};

use crate::scene::{Containers, DEADLINE, Scene};

const SECONDS: u32 = 120;
const SEGMENT_SECONDS: u32 = 10;
const H264: Spec = Spec { codec: VideoCodec::H264, b_frames: 0, audio: true, seconds: SECONDS };
const H264_WITH_B_FRAMES: Spec = Spec { b_frames: 2, ..H264 };
const H265: Spec = Spec { codec: VideoCodec::H265, ..H264_WITH_B_FRAMES };

const FRAGMENTED_MP4: Containers = Containers::both(Container::FragmentedMp4);
const PLAIN_MP4: Containers = Containers::both(Container::Mp4);

/// Bytes on the link for one byte of media that the archive lacks: less than this. At either end up to two seconds
/// and a group of pictures more are pulled, for the seam: 6 s beside 45. MPEG-TS takes a header for every 184 bytes, and
/// fills up the last packet of every frame, be it of sound.
const fn most_link_bytes(card: Container) -> f64 {
    match card {
        Container::MpegTs => 1.35,
        Container::FragmentedMp4 | Container::Mp4 | Container::Matroska => 1.20,
    }
}

/// Between the gap as the timeline shows it and the frames that are lost: with B-frames a stream breaks
/// off in decode order, and sound and pictures do not end together.
const ROUNDING: Duration = Duration::from_millis(200);

#[tokio::test]
async fn h264_in_fragmented_mp4_is_made_whole() {
    the_tunnels_45_seconds_are_made_whole(H264, FRAGMENTED_MP4).await;
}

#[tokio::test]
async fn h264_in_plain_mp4_is_made_whole() {
    the_tunnels_45_seconds_are_made_whole(H264, PLAIN_MP4).await;
}

#[tokio::test]
async fn h264_with_b_frames_in_fragmented_mp4_is_made_whole() {
    the_tunnels_45_seconds_are_made_whole(H264_WITH_B_FRAMES, FRAGMENTED_MP4).await;
}

#[tokio::test]
async fn h264_with_b_frames_in_plain_mp4_is_made_whole() {
    the_tunnels_45_seconds_are_made_whole(H264_WITH_B_FRAMES, PLAIN_MP4).await;
}

#[tokio::test]
async fn h265_in_fragmented_mp4_is_made_whole() {
    the_tunnels_45_seconds_are_made_whole(H265, FRAGMENTED_MP4).await;
}

#[tokio::test]
async fn h265_in_plain_mp4_is_made_whole() {
    the_tunnels_45_seconds_are_made_whole(H265, PLAIN_MP4).await;
}

#[tokio::test]
async fn h264_in_mpeg_ts_on_the_card_is_made_whole_in_an_archive_of_fragmented_mp4() {
    let containers = Containers { card: Container::MpegTs, archive: Container::FragmentedMp4 };
    the_tunnels_45_seconds_are_made_whole(H264, containers).await;
}

#[tokio::test]
async fn h264_with_b_frames_in_mpeg_ts_is_made_whole() {
    let containers = Containers::both(Container::MpegTs);
    the_tunnels_45_seconds_are_made_whole(H264_WITH_B_FRAMES, containers).await;
}

#[tokio::test]
async fn h264_in_matroska_on_the_card_is_made_whole_in_an_archive_of_fragmented_mp4() {
    let containers = Containers { card: Container::Matroska, archive: Container::FragmentedMp4 };
    the_tunnels_45_seconds_are_made_whole(H264, containers).await;
}

async fn the_tunnels_45_seconds_are_made_whole(spec: Spec, containers: Containers) {
    let scene = Scene::set_up(spec, containers, SEGMENT_SECONDS, Shape::CLEAR).await;
    let Scene { installation, .. } = &scene;
    let link = &installation.link;
    link.cut(Cut::Reset);
    let _agent = installation.start_agent().unwrap();
    let mut server = installation.start_server().unwrap();

    assert_hole_is_seen(&scene).await;
    assert_eq!(scene.sent_bytes(), 0);

    link.restore();
    let pieces = scene.assert_made_whole().await;

    let (link_bytes, lost_bytes) = (scene.sent_bytes(), scene.lost_bytes);
    let ratio = link_bytes as f64 / lost_bytes as f64;
    println!(
        "{:?}, {} B-frames, {containers:?}: {link_bytes} bytes on the link for {lost_bytes} of media: {ratio:.3}",
        spec.codec, spec.b_frames
    );
    assert!((1.0..most_link_bytes(containers.card)).contains(&ratio), "{ratio}");

    assert_eq!(server.terminate(DEADLINE).await.unwrap().code(), Some(0));
    assert_a_flipped_byte_is_found(&scene, &pieces[0]).await;
}

/// The server needs no device to know what is missing.
async fn assert_hole_is_seen(scene: &Scene) {
    let Scene { installation, window, holed, .. } = scene;
    let words = ["archived", "missing", "archived"];
    let seen = |timeline: &tests::installation::Timeline| timeline.words() == words;
    let told = "the hole is seen as missing";
    let timeline = installation.timeline_until(told, *window, DEADLINE, seen).await.unwrap();
    assert!(!timeline.completeness.complete && timeline.completeness.percent < 100.0);

    let gaps = installation.gaps(*window).await.unwrap();
    assert_eq!(gaps.words(), ["missing"]);
    let gap = gaps.stretches[0].range().unwrap();
    assert!(gap.start().distance(holed.time.start()) < ROUNDING, "{gap} of {}", holed.time);
    assert!(gap.end().distance(holed.time.end()) < ROUNDING, "{gap} of {}", holed.time);
}

async fn assert_a_flipped_byte_is_found(scene: &Scene, piece: &std::path::Path) {
    let middle = fs::metadata(piece).unwrap().len() / 2;
    let file = File::options().read(true).write(true).open(piece).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 1], middle).unwrap();

    let verified = scene.installation.gapless(["verify"]).await.unwrap();
    assert_eq!(verified.status.code(), Some(1));
    let said = String::from_utf8_lossy(&verified.stdout);
    assert!(said.contains(piece.file_name().unwrap().to_str().unwrap()), "{said}");
}
