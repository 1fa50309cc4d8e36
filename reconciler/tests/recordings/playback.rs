//! Live and edge footage are played as if nothing had ever been missing.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::Duration;

use crate::footage::*;
use crate::merge;
use reconciler::playback::{
    ArchivedSegment, ExportError, Exported, Seams, Tolerances, export, view,
};
use reconciler::timeline::Recorder;
use sdcard_indexer::time::TimeRange;

/// The central recording with a hole from 7.4 s, in the middle of a group of pictures, to 13 s.
pub fn live_with_hole(reference: &Path, directory: &Path, format: Format) -> Vec<ArchivedSegment> {
    let (before, after) = (directory.join("before.mp4"), directory.join("after.mp4"));
    remux(reference, &["-t", "7.4"], format, &before);
    remux(reference, &["-ss", "13"], format, &after);
    vec![segment(before, 0.0, Recorder::Live), segment(after, 13.0, Recorder::Live)]
}

/// The hole's footage from the card, merged.
pub fn edge(
    reference: &Path,
    directory: &Path,
    format: Format,
    hole: TimeRange,
) -> Vec<ArchivedSegment> {
    let archive = directory.join("archive");
    let pulled = pull(&card(reference, directory, format), hole);
    let place = |pulled: &Pulled| {
        let placed = merge::place(&archive, pulled);
        ArchivedSegment {
            file: archive.join(placed.path),
            range: placed.range,
            by: Recorder::Edge,
            uncertainty: Duration::ZERO,
        }
    };
    pulled.iter().map(place).collect()
}

fn export_to(
    file: &Path,
    segments: Vec<ArchivedSegment>,
    range: TimeRange,
) -> Result<Exported, ExportError> {
    let seams = Seams::default();
    let runs = view(&segments, &seams, Tolerances::default());
    export(&runs, range, BufWriter::new(File::create(file).unwrap()))
}

/// When each packet begins, and what it holds: ffmpeg tells the length of a file's last one in its own ways.
pub fn starts(rows: &[Row]) -> Vec<(i64, String)> {
    relative(rows).into_iter().map(|row| (row.pts, row.hash)).collect()
}

#[test]
fn a_filled_hole_cannot_be_told_from_a_recording_without_one() {
    for encoding in PICTURES {
        let home = tempfile::tempdir().unwrap();
        let reference = encode(home.path(), encoding);
        let (original, original_frames) = (packets(&reference), frames(&reference));
        for (live, on_card) in [(FORMATS[0], FORMATS[1]), (FORMATS[1], FORMATS[0])] {
            let what = format!("{encoding:?}, live {live:?}, card {on_card:?}");
            let directory = tempfile::tempdir().unwrap();
            let mut segments = live_with_hole(&reference, directory.path(), live);
            segments.extend(edge(&reference, directory.path(), on_card, seconds(7.0, 13.0)));

            let exported = directory.path().join("exported.mp4");
            let report = export_to(&exported, segments, seconds(0.0, 20.0)).unwrap();
            assert_well_formed(&exported);
            assert_eq!(report.range, seconds(0.0, 20.0), "{what}");
            assert_eq!(report.frames as usize, SECONDS as usize * FRAMES_PER_SECOND, "{what}");

            let played = packets(&exported);
            assert_same(&relative(&played.video), &relative(&original.video), &what);
            assert_same(&starts(&played.audio), &starts(&original.audio), &what);
            assert_same(&hashes(&frames(&exported).video), &hashes(&original_frames.video), &what);
        }
    }
}

/// MPEG-TS has the same pictures in packets of another form, and times on another scale.
#[test]
fn a_hole_in_or_filled_from_mpeg_ts_cannot_be_told_either() {
    for encoding in PICTURES.into_iter().chain(SOUNDS) {
        let home = tempfile::tempdir().unwrap();
        let reference = encode(home.path(), encoding);
        let (original, original_frames) = (packets(&reference), frames(&reference));
        for (live, on_card) in [
            (Format::MpegTs, Format::MpegTs),
            (Format::MpegTs, Format::FragmentedMp4),
            (Format::FragmentedMp4, Format::MpegTs),
        ] {
            let what = format!("{encoding:?}, live {live:?}, card {on_card:?}");
            let directory = tempfile::tempdir().unwrap();
            let mut segments = live_with_hole(&reference, directory.path(), live);
            segments.extend(edge(&reference, directory.path(), on_card, seconds(7.0, 13.0)));

            let exported = directory.path().join("exported.mp4");
            let report = export_to(&exported, segments, seconds(0.0, 20.0)).unwrap();
            assert_well_formed(&exported);
            assert_eq!(report.frames as usize, SECONDS as usize * FRAMES_PER_SECOND, "{what}");

            let (played, played_frames) = (packets(&exported), frames(&exported));
            assert_same(&hashes(&played_frames.video), &hashes(&original_frames.video), &what);
            assert_same(&hashes(&played.audio), &hashes(&original.audio), &what);
            assert_same(&steps(&played_frames.video), &steps(&original_frames.video), &what);
            assert_same(&steps(&played.audio), &steps(&original.audio), &what);
        }
    }
}

/// When each row begins, counted in lengths of a row, whatever the scale; without holes, and out of step by less
/// than half a row.
pub fn steps(rows: &[Row]) -> Vec<i64> {
    let rows = relative(rows);
    let count = rows.len() as i64 - 1;
    let length = rows.last().map_or(1, |last| last.pts).max(1);
    rows.iter().map(|row| (row.pts * count * 2 + length) / (length * 2)).collect()
}

#[test]
fn clocks_that_differ_by_less_than_half_a_frame_do_not_show() {
    let directory = tempfile::tempdir().unwrap();
    let reference = encode(directory.path(), Encoding::H264WithBFrames);
    let original = packets(&reference);
    for late_ns in [-19_000_000, 19_000_000] {
        let home = tempfile::tempdir().unwrap();
        let mut segments = live_with_hole(&reference, home.path(), Format::FragmentedMp4);
        let edge = edge(&reference, home.path(), Format::FragmentedMp4, seconds(7.0, 13.0));
        segments.extend(edge.into_iter().map(|segment| {
            let start = segment.range.start().saturating_offset(late_ns);
            let range = TimeRange::starting_at(start, segment.range.duration());
            ArchivedSegment { range, ..segment }
        }));
        let exported = home.path().join("exported.mp4");
        export_to(&exported, segments, seconds(-1.0, 21.0)).unwrap();
        let (played, what) = (packets(&exported), format!("{late_ns} ns late"));
        assert_same(&relative(&played.video), &relative(&original.video), &what);
        assert_same(&starts(&played.audio), &starts(&original.audio), &what);
    }
}

#[test]
fn any_range_is_exported_from_the_keyframe_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let reference = encode(directory.path(), Encoding::H264WithBFrames);
    let card = card(&reference, directory.path(), Format::FragmentedMp4);
    let exported = directory.path().join("exported.mp4");
    let report = export_to(&exported, card, seconds(6.5, 9.5)).unwrap();
    assert_eq!(report.range.start(), at(6.0));
    assert!(report.range.end() >= at(9.5) && report.range.end() < at(9.7), "{report:?}");
    let (original, played) = (frames(&reference), frames(&exported));
    let asked = &original.video[6 * FRAMES_PER_SECOND..9 * FRAMES_PER_SECOND + 12];
    assert_same(&hashes(&played.video)[..asked.len()], &hashes(asked), "asked");
}

#[test]
fn a_hole_that_was_not_filled_keeps_its_length() {
    let directory = tempfile::tempdir().unwrap();
    let reference = encode(directory.path(), Encoding::H264);
    let segments = live_with_hole(&reference, directory.path(), Format::FragmentedMp4);
    let exported = directory.path().join("exported.mp4");
    export_to(&exported, segments, seconds(0.0, 20.0)).unwrap();
    let (original, played) = (packets(&reference), packets(&exported));
    let outside: Vec<Row> = relative(&original.video)
        .into_iter()
        .filter(|row| row.pts < 185 * 512 || row.pts >= 325 * 512)
        .collect();
    assert_same(&relative(&played.video), &outside, "outside of the hole");
}

#[test]
fn other_encoder_settings_are_named_before_anything_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let one = encode(directory.path(), Encoding::H264);
    let other = tempfile::tempdir().unwrap();
    let two = encode(other.path(), Encoding::H264WithBFrames);
    let segments =
        vec![segment(one, 0.0, Recorder::Live), segment(two.clone(), 20.0, Recorder::Live)];
    let mut output = Vec::new();
    let seams = Seams::default();
    let runs = view(&segments, &seams, Tolerances::default());
    let error = export(&runs, seconds(0.0, 40.0), &mut output).unwrap_err();
    assert!(matches!(&error, ExportError::SettingsChange { file, .. } if *file == two), "{error}");
    assert!(output.is_empty());
}

#[test]
fn a_range_without_footage_is_an_error() {
    let error = export(&[], seconds(0.0, 1.0), Vec::new()).unwrap_err();
    assert!(matches!(error, ExportError::Nothing { .. }), "{error}");
}
