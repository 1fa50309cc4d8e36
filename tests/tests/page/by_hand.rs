//! A person drags over a hole, gets it, and plays across its seams.

use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sdcard_indexer::container::Container;
use sdcard_indexer::time::Timestamp;
use tests::artifacts::tool;
use tests::browser::Browser;
use tests::installation::{DEVICE, STREAM, amend};
use tests::link::Shape;
use tests::media::{FRAMES_PER_SECOND, Spec, VideoCodec};

use crate::scene::{Containers, DEADLINE, Scene};
use crate::url_in;

const SPEC: Spec = Spec { codec: VideoCodec::H264, b_frames: 2, audio: true, seconds: 120 };
const SEGMENT_SECONDS: u32 = 40;
/// Of the reference's pictures.
const WIDTH: usize = 320;
const HEIGHT: usize = 180;
const PLAYED_AGAIN: usize = 3;
/// So many frames before and behind the one that should be seen are compared with what is: the browser makes other
/// colours of the same picture than ffmpeg does.
const AROUND: usize = 12;

/// The tunnel's scene, of which people alone say what is pulled, with its page open to whoever is on this machine.
async fn scene() -> Scene {
    let scene = Scene::set_up(
        SPEC,
        Containers::both(Container::FragmentedMp4),
        SEGMENT_SECONDS,
        Shape::CLEAR,
    )
    .await;
    let expected_from = scene.window.start();
    let keys = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\nanonymous = \"pull\"\n\n\
         [[device]]\nid = \"{DEVICE}\"\nstreams = [\"{STREAM}\"]\nexpected_from = \"{expected_from}\"\n\
         [[policy]]\nname = \"by-hand\"\ndevices = [\"{DEVICE}\"]\nrecord = \"held\"\nmodes = [\"manual\"]\n"
    );
    amend(&scene.installation.server_config(), &keys).unwrap();
    scene
}

/// The page of the scene's stream, showing all of it.
fn stream_page(url: &str, scene: &Scene) -> String {
    let (from, to) = (scene.window.start(), scene.window.end());
    format!("{url}#/device/{DEVICE}/{STREAM}?from={from}&to={to}")
}

/// Where in the window an instant is on the archive's lane.
async fn lane(browser: &Browser, scene: &Scene, instant: Timestamp) -> (f64, f64) {
    let [left, top, width, _] = browser.place("svg.timeline").await.unwrap();
    let share =
        instant.nanos_from(scene.window.start()) as f64 / scene.window.duration().as_nanos() as f64;
    (left + share * width, top + 50.0)
}

#[tokio::test]
async fn a_hole_is_dragged_over_pulled_and_played_across_its_seams() {
    let scene = scene().await;
    let installation = &scene.installation;
    let mut server = installation.start_server().unwrap();
    let url = url_in(&server.line("http://", DEADLINE).await.unwrap());
    let _agent = installation.start_agent().unwrap();

    let browser = Browser::open(&installation.root("."), 1200, 1000).await.unwrap();
    browser.goto(&stream_page(&url, &scene)).await.unwrap();
    browser.finds(".stretch[data-state='live']").await.unwrap();
    browser.finds(".held").await.unwrap();

    // Selected with some of what is there already, as a person does.
    let hole = scene.holed.time;
    let margin = Duration::from_secs(2);
    let from = lane(&browser, &scene, hole.start().saturating_sub(margin)).await;
    let to = lane(&browser, &scene, hole.end().saturating_add(margin)).await;
    browser.drag(from, to).await.unwrap();
    let answered =
        "document.querySelector('#selection .found').textContent.includes('just answered')";
    browser.sees("the camera's answer", answered).await.unwrap();
    browser.press("Get it from the card").await.unwrap();
    browser.finds("#work .job[data-state='done']").await.unwrap();
    assert!(browser.text("#work .job .word").await.unwrap().contains("whole"));
    browser.finds(".stretch[data-state='edge']").await.unwrap();
    scene.assert_archive_is_whole().await;

    for (edge, name) in [(hole.start(), "into the hole"), (hole.end(), "out of the hole")] {
        play_across(&browser, &scene, edge, name).await;
    }
}

#[tokio::test]
async fn a_finger_moves_the_timeline_and_one_that_rests_first_selects() {
    let scene = scene().await;
    let mut server = scene.installation.start_server().unwrap();
    let url = url_in(&server.line("http://", DEADLINE).await.unwrap());
    let browser = Browser::open(&scene.installation.root("."), 390, 800).await.unwrap();
    browser.goto(&stream_page(&url, &scene)).await.unwrap();
    // Without an agent nothing is expected: the lanes are empty.
    browser.finds(".timeline .label").await.unwrap();
    let hash = async || browser.value("location.hash").await.unwrap().to_string();
    let shown = hash().await;

    let hole = scene.holed.time;
    let (from, to) =
        (lane(&browser, &scene, hole.start()).await, lane(&browser, &scene, hole.end()).await);
    let selected = async || browser.count(".timeline .selection").await.unwrap();
    assert_eq!(selected().await, 0);
    browser.finger(from, to, Duration::from_secs(1)).await.unwrap();
    browser.finds(".timeline .selection").await.unwrap();
    browser
        .sees("its buttons", "document.querySelector('#selection button') !== null")
        .await
        .unwrap();
    assert_eq!(hash().await, shown, "what is selected stays where it is");

    browser.finger(from, to, Duration::ZERO).await.unwrap();
    let moved = format!("JSON.stringify(location.hash) !== {}", serde_json::json!(shown));
    browser.sees("another window", &moved).await.unwrap();
}

/// Clicks some seconds before an instant, and lets it play until some seconds behind it. A busy machine drops a frame
/// now and then; a seam that cannot be played drops some each time.
async fn play_across(browser: &Browser, scene: &Scene, edge: Timestamp, name: &str) {
    let mut fewest = u64::MAX;
    for _ in 0..PLAYED_AGAIN {
        let (shown_before, dropped_before) = quality(browser).await;
        let before = edge.saturating_sub(Duration::from_secs(3));
        let place = lane(browser, scene, before).await;
        browser.drag(place, place).await.unwrap();
        let begun = before.saturating_sub(Duration::from_secs(1));
        browser.sees(&format!("{name}: it plays"), &shows(begun)).await.unwrap();
        let behind = edge.saturating_add(Duration::from_secs(3));
        browser.sees(&format!("{name}: it has passed the seam"), &shows(behind)).await.unwrap();
        let (shown, dropped) = quality(browser).await;
        // Counted anew where another range was loaded.
        let is_new = shown < shown_before;
        let (shown, dropped) = if is_new {
            (shown, dropped)
        } else {
            (shown - shown_before, dropped - dropped_before)
        };
        println!("{name}: {shown} frames were shown, {dropped} dropped");
        assert!(shown > 100, "{name}: {shown}");
        fewest = fewest.min(dropped);
        if fewest == 0 {
            break;
        }
    }
    assert_eq!(fewest, 0, "{name}: frames were dropped each time");

    for offset_ms in [-1_500, -500, 500, 1_500] {
        let wanted = edge.saturating_offset(offset_ms * 1_000_000);
        let (shown, picture) = picture_at(browser, scene, wanted).await;
        let frame = shown.nanos_from(scene.window.start()) * FRAMES_PER_SECOND as i64;
        let number = usize::try_from(frame / 1_000_000_000).unwrap();
        let first = number.saturating_sub(AROUND);
        let recorded = pictured(&scene.reference.path, first..number + AROUND + 1);
        let likest = (first..).zip(&recorded).min_by(|(_, one), (_, other)| {
            difference(&picture, one).total_cmp(&difference(&picture, other))
        });
        let likest = likest.unwrap().0;
        println!("{name}, {offset_ms} ms: frame {number} is said to be shown, {likest} is");
        assert!(
            likest.abs_diff(number) <= 1,
            "{name} {offset_ms} ms: {likest} instead of {number}"
        );
    }
}

/// That the video shows what was recorded soon after an instant.
fn shows(instant: Timestamp) -> String {
    let millis = instant.as_nanos() / 1_000_000;
    format!(
        "(() => {{ const video = document.querySelector('video'); const shown = Date.parse(\
         document.querySelector('.shown').textContent.replace(' ', 'T') + 'Z'); \
         return video.readyState >= 2 && shown > {millis} && shown < {millis} + 30000; }})()"
    )
}

/// Frames that were decoded to be shown, and those of them that were dropped.
async fn quality(browser: &Browser) -> (u64, u64) {
    let of = "(() => { const it = document.querySelector('video').getVideoPlaybackQuality(); \
              return [it.totalVideoFrames, it.droppedVideoFrames]; })()";
    serde_json::from_value(browser.value(of).await.unwrap()).unwrap()
}

/// Clicks there, stops, and answers of which instant the page says that it is shown, with the picture in shades of grey.
async fn picture_at(browser: &Browser, scene: &Scene, instant: Timestamp) -> (Timestamp, Vec<u8>) {
    let place = lane(browser, scene, instant).await;
    browser.drag(place, place).await.unwrap();
    browser.sees("the click's picture", "!document.querySelector('video').seeking").await.unwrap();
    // In the middle of a frame, so that rounding does not show its neighbour.
    let script = format!(
        "(async () => {{ const video = document.querySelector('video'); video.pause(); \
         const seeked = new Promise((done) => video.addEventListener('seeked', done, {{ once: true }})); \
         video.currentTime = (Math.floor(video.currentTime * {FRAMES_PER_SECOND}) + 0.5) / {FRAMES_PER_SECOND}; \
         await seeked; await new Promise((done) => setTimeout(done, 300)); \
         const canvas = document.createElement('canvas'); canvas.width = {WIDTH}; canvas.height = {HEIGHT}; \
         const drawing = canvas.getContext('2d'); drawing.drawImage(video, 0, 0, {WIDTH}, {HEIGHT}); \
         const {{ data }} = drawing.getImageData(0, 0, {WIDTH}, {HEIGHT}); const rgb = []; \
         for (let at = 0; at < data.length; at += 4) rgb.push(data[at], data[at + 1], data[at + 2]); \
         return {{ shown: document.querySelector('.shown').textContent, rgb }}; }})()"
    );
    let seen = browser.value(&script).await.unwrap();
    let shown = seen["shown"].as_str().unwrap().replace(' ', "T") + "Z";
    let rgb: Vec<u8> = serde_json::from_value(seen["rgb"].clone()).unwrap();
    (shown.parse().unwrap(), grey(&rgb))
}

fn grey(rgb: &[u8]) -> Vec<u8> {
    let luma = |pixel: &[u8]| match *pixel {
        [red, green, blue] => {
            let sum = 299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue);
            u8::try_from(sum / 1_000).unwrap()
        }
        _ => panic!("{pixel:?}"),
    };
    rgb.chunks(3).map(luma).collect()
}

/// Frames of the reference as ffmpeg decodes them, in shades of grey.
fn pictured(reference: &Path, frames: Range<usize>) -> Vec<Vec<u8>> {
    let (first, last) = (frames.start, frames.end - 1);
    let output = Command::new(tool("ffmpeg").unwrap())
        .args(["-v", "error", "-i"])
        .arg(reference)
        .args(["-vf", &format!("select=between(n\\,{first}\\,{last})")])
        .args(["-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"])
        .output()
        .unwrap();
    let pictures: Vec<Vec<u8>> = output.stdout.chunks(WIDTH * HEIGHT * 3).map(grey).collect();
    assert_eq!(pictures.len(), frames.len(), "{}", String::from_utf8_lossy(&output.stderr));
    pictures
}

fn difference(one: &[u8], other: &[u8]) -> f64 {
    assert_eq!(one.len(), other.len());
    let sum: u64 = one.iter().zip(other).map(|(one, other)| u64::from(one.abs_diff(*other))).sum();
    sum as f64 / one.len() as f64
}
