//! What the index keeps in memory of a full card.
#![expect(clippy::unwrap_used, reason = "what a test cannot set up is a failure")]

use std::fs;
use std::time::Duration;

use peak_alloc::PeakAlloc;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::index::{Index, IndexConfig, StreamSource};
use sdcard_indexer::layout::Layout;
use sdcard_indexer::time::Timestamp;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const SEGMENTS: u32 = 10_000;
/// Of the recording.
const DURATION: Duration = Duration::from_secs(2);
const RECORDING: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/h264-aac-fragmented.mp4");

/// The bytes that each segment takes, and the most that each took for a moment during the first scan.
fn bytes_a_segment(template: &str, every: Duration) -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(template, "UTC").unwrap();
    let recording = folder.path().join("recording");
    fs::copy(RECORDING, &recording).unwrap();
    let root = folder.path().join("main");
    let mut start: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
    for _ in 0..SEGMENTS {
        let path = root.join(layout.path_for(start, 0));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::hard_link(&recording, path).unwrap();
        start = start.saturating_add(every);
    }
    let stream: StreamId = "main".parse().unwrap();
    let source = StreamSource { stream: stream.clone(), root, layout };
    let mut index = Index::open(IndexConfig::new(vec![source], None)).unwrap();
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let sweep = index.sweep(start);
    assert_eq!((sweep.added, sweep.unread), (SEGMENTS as usize, 0));
    drop(sweep);
    let per_segment = |bytes: usize| (bytes - before) as f64 / f64::from(SEGMENTS);
    let (kept, most) = (ALLOCATOR.current_usage(), ALLOCATOR.peak_usage());
    let ranges = index.stream(&stream).unwrap().held.ranges().len();
    println!(
        "{:.1} bytes a segment, {:.1} at most, {ranges} ranges",
        per_segment(kept),
        per_segment(most)
    );
    (per_segment(kept), per_segment(most))
}

/// One test: another one at the same time would be counted too.
#[test]
fn a_segment_takes_at_most_64_bytes_with_its_path_and_16_more_where_a_hole_follows_it() {
    let onvif = "%Y-%m-%d/%H/%M-%S.%fZ.{counter}.mp4";
    let (kept, most) = bytes_a_segment(onvif, DURATION);
    assert!(kept <= 64.0, "{kept} bytes a segment");
    assert!(most <= 80.0, "{most} bytes a segment during the scan");
    let (kept, _) = bytes_a_segment(onvif, 3 * DURATION);
    assert!(kept <= 64.0 + 16.0, "{kept} bytes a segment");
}
