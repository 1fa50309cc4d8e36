//! Every container of a card beside every one of a live recorder, broken off and begun within groups of pictures.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use reconciler::playback::ArchivedSegment;
use reconciler::seam::Seam;
use tests::media::{Form, frames};

use crate::encoder::{Encoder, FRAMES_PER_SECOND, MOVING, encode};
use crate::recorders::{Format, archived, copy, pull};
use crate::scene::{assert_hashes, codec, merge, shown};

const SECONDS: u32 = 16;
const GROUP: u32 = 25;
const PICTURES: i64 = SECONDS as i64 * FRAMES_PER_SECOND;
/// Names of files say no more than the second.
const NAMES: Duration = Duration::from_secs(1);

/// What the network took away, in pictures in decode order.
struct Cut {
    hole: Range<i64>,
    /// Lost besides, before and behind the hole.
    lost: [Range<i64>; 2],
    /// What names are off by, and the card's clock, in seconds.
    named: [f64; 2],
    card_ahead: f64,
}

/// Cuts that differ in nothing but chance.
fn cut(seed: u64) -> Cut {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = |most: i64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as i64 % most
    };
    let begins = 105 + below(90);
    let ends = begins + 30 + below(80);
    let lost = [begins - 1 - below(5), ends + 1 + below(8)].map(|at| at..at + below(3));
    let mut seconds = |most: i64| (below(2_000) - 1_000) as f64 / 1_000.0 * most as f64;
    let named = [seconds(1), seconds(1)];
    Cut { hole: begins..ends, lost, named, card_ahead: seconds(4) }
}

/// What is left of it, and what is pulled from the card in its place: half a second more than the hole, so that
/// there is something to compare.
fn segments(
    encoder: &Path,
    shown: &[i64],
    card: &Path,
    live: Format,
    cut: &Cut,
    directory: &Path,
) -> Vec<ArchivedSegment> {
    let [before, behind] = ["before", "behind"].map(|name| directory.join(name));
    let Cut { hole, lost, named, card_ahead } = cut;
    copy(encoder, 0..hole.start, lost[0].clone(), live, &before, FRAMES_PER_SECOND);
    copy(encoder, hole.end..PICTURES, lost[1].clone(), live, &behind, FRAMES_PER_SECOND);
    let second = |picture: i64| picture as f64 / FRAMES_PER_SECOND as f64;
    let resumes = shown[hole.end as usize] as f64 / 1e9;
    let mut segments =
        vec![archived(before, named[0], NAMES), archived(behind, resumes + named[1], NAMES)];
    let wanted = second(hole.start) - 0.5..second(hole.end) + 0.5;
    let uncertainty = Duration::from_secs(4);
    segments.extend(pull(card, wanted, *card_ahead, uncertainty, &directory.join("archive")));
    segments
}

fn every_cut_is_whole_again(encoder: Encoder, pairs: &[(Format, Format)], cuts: u64) {
    let home = tempfile::tempdir().unwrap();
    let made = encode(home.path(), encoder, MOVING, SECONDS, FRAMES_PER_SECOND, GROUP);
    let shown = shown(&made, codec(encoder));
    let (mut bytes_read, mut edges, mut search) = (0, 0, Duration::ZERO);
    for (number, &(on_card, live)) in pairs.iter().enumerate() {
        let card = home.path().join(format!("card-{number}"));
        copy(&made, 0..PICTURES, 0..0, on_card, &card, FRAMES_PER_SECOND);
        for seed in 0..cuts {
            let cut = cut(seed + 100 * number as u64);
            let directory = tempfile::tempdir().unwrap();
            let segments = segments(&made, &shown, &card, live, &cut, directory.path());
            let merged = merge(&segments, directory.path());
            let what = format!("{encoder:?}, card {on_card:?}, live {live:?}, {:?}", cut.hole);
            merged.assert_whole(&made, codec(encoder), &what);
            for seam in &merged.exported.seams {
                let Seam::Exact { offset_ns, .. } = seam.seam else { continue };
                let near = |named: f64| {
                    let true_ns = ((named - cut.card_ahead) * 1e9) as i64;
                    offset_ns.abs_diff(true_ns) < 2_000_000
                };
                assert!(cut.named.into_iter().any(near), "{what}: offset {offset_ns} ns");
            }
            search += merged.search;
            bytes_read += merged.found.cost().bytes_read;
            edges += merged.found.attempts.len() as u64;
        }
    }
    let (kilobytes, millis) = (bytes_read / edges / 1_000, search.as_millis() as u64 / edges);
    println!(
        "{encoder:?}: {edges} edges looked at, all exact, {kilobytes} kB read and {millis} ms for each"
    );
}

const FORMATS: [(Format, Format); 5] = [
    (Format::FragmentedMp4, Format::MpegTs),
    (Format::Mp4, Format::Matroska),
    (Format::MpegTs, Format::FragmentedMp4),
    (Format::MpegTs, Format::MpegTs),
    (Format::FragmentedMp4, Format::Mp4),
];

#[test]
fn h264_is_whole_again_from_any_container() {
    every_cut_is_whole_again(Encoder::H264, &FORMATS, 2);
}

#[test]
fn h264_with_b_frames_is_whole_again_from_any_container() {
    every_cut_is_whole_again(Encoder::H264WithBFrames, &FORMATS, 2);
}

#[test]
fn h264_with_open_groups_is_whole_again_from_any_container() {
    every_cut_is_whole_again(Encoder::H264WithOpenGroups, &FORMATS, 2);
}

#[test]
fn h264_in_slices_is_whole_again() {
    every_cut_is_whole_again(Encoder::H264InSlices, &FORMATS[..2], 2);
}

#[test]
fn h265_is_whole_again_from_any_container() {
    every_cut_is_whole_again(Encoder::H265, &FORMATS, 2);
}

/// The live recorder noticed nothing: one file, with a hole inside.
#[test]
fn a_hole_inside_a_live_file_is_filled_to_the_frame() {
    for encoder in [Encoder::H264WithBFrames, Encoder::H265] {
        let home = tempfile::tempdir().unwrap();
        let made = encode(home.path(), encoder, MOVING, SECONDS, FRAMES_PER_SECOND, GROUP);
        let card = home.path().join("card");
        copy(&made, 0..PICTURES, 0..0, Format::FragmentedMp4, &card, FRAMES_PER_SECOND);
        for live in [Format::Mp4, Format::FragmentedMp4, Format::Matroska] {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("live");
            copy(&made, 0..PICTURES, 187..262, live, &file, FRAMES_PER_SECOND);
            let archive = directory.path().join("archive");
            let mut segments = vec![archived(file, 0.7, NAMES)];
            segments.extend(pull(&card, 7.0..11.2, -1.9, Duration::from_secs(2), &archive));
            let merged = merge(&segments, directory.path());
            merged.assert_whole(&made, codec(encoder), &format!("{encoder:?}, {live:?}"));
        }
    }
}

/// Hours off, and nobody has learned by how much.
#[test]
fn a_card_whose_clock_is_two_hours_off_is_brought_in_to_the_frame() {
    let home = tempfile::tempdir().unwrap();
    let made = encode(home.path(), Encoder::H265, MOVING, SECONDS, FRAMES_PER_SECOND, GROUP);
    let card = home.path().join("card");
    copy(&made, 0..PICTURES, 0..0, Format::Mp4, &card, FRAMES_PER_SECOND);
    let directory = tempfile::tempdir().unwrap();
    let cut = Cut { card_ahead: 0.0, ..cut(7) };
    let shown = shown(&made, codec(Encoder::H265));
    let mut segments =
        segments(&made, &shown, &card, Format::FragmentedMp4, &cut, directory.path());
    for segment in segments.iter_mut().filter(|it| it.by == reconciler::timeline::Recorder::Edge) {
        let start = segment.range.start().saturating_offset(-7_100_000_000_000);
        let range = sdcard_indexer::time::TimeRange::starting_at(start, segment.range.duration());
        (segment.range, segment.uncertainty) = (range, Duration::from_secs(7_200));
    }
    let merged = merge(&segments, directory.path());
    merged.assert_whole(&made, codec(Encoder::H265), "two hours");
}

/// A recorder whose files are hours long: only what is around the hole is read of them.
#[test]
fn the_edges_of_long_recordings_cost_what_is_near_them() {
    let (seconds, hole) = (900, 12_012..12_125);
    let home = tempfile::tempdir().unwrap();
    let scene = "testsrc2=size=160x90";
    let made = encode(home.path(), Encoder::H264, scene, seconds, FRAMES_PER_SECOND, GROUP);
    let slices = Form::Slices(codec(Encoder::H264));
    let pictures_made = frames(&made, slices).unwrap();
    let pictures = i64::from(seconds) * FRAMES_PER_SECOND;
    let card = home.path().join("card");
    copy(&made, 0..pictures, 0..0, Format::FragmentedMp4, &card, FRAMES_PER_SECOND);
    for format in [Format::MpegTs, Format::FragmentedMp4, Format::Mp4] {
        let directory = tempfile::tempdir().unwrap();
        let live = |name: &str, pictures: Range<i64>| {
            let file = directory.path().join(name);
            copy(&made, pictures, 0..0, format, &file, FRAMES_PER_SECOND);
            file
        };
        let (before, behind) = (live("before", 0..hole.start), live("behind", hole.end..pictures));
        let sizes = [&before, &behind].map(|file| file.metadata().unwrap().len());
        let second = |picture: i64| picture as f64 / FRAMES_PER_SECOND as f64;
        let resumes = second(hole.end) - 0.4;
        let mut segments = vec![archived(before, 0.3, NAMES), archived(behind, resumes, NAMES)];
        let wanted = second(hole.start) - 1.0..second(hole.end) + 1.0;
        let archive = directory.path().join("archive");
        segments.extend(pull(&card, wanted, 1.5, NAMES, &archive));

        let merged = merge(&segments, directory.path());
        assert_eq!(merged.exact_seams(), 2, "{format:?}: {:?}", merged.exported.seams);
        assert_hashes(
            &frames(&merged.file, slices).unwrap(),
            &pictures_made,
            &format!("{format:?}"),
        );
        for attempt in &merged.found.attempts {
            let long = sizes[usize::from(attempt.live.ends_with("behind"))];
            let read = attempt.cost.bytes_read;
            println!("{format:?}, {:?}: {read} bytes read, of {long}", attempt.edge);
            assert!(read * 3 < long, "{format:?}, {:?}: {read} of {long}", attempt.edge);
        }
    }
}
