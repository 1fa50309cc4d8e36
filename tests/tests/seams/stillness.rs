//! Pictures that hardly differ, and streams at the ends of what encoders do: exact or approximate, never wrong.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use reconciler::seam::{Edge, FramePlace, Handover, Seam};
use sdcard_indexer::container::{Sample, samples};

use crate::encoder::{Encoder, MOVING, encode};
use crate::recorders::{BEGINNING, Format, archived, copy, pull};
use crate::scene::{codec, merge, shown};

struct Stream {
    name: &'static str,
    scene: &'static str,
    encoder: Encoder,
    rate: i64,
    group: u32,
    seconds: u32,
    /// First and last picture that the live recorder lacks, in seconds.
    hole: (f64, f64),
}

const BLACK: &str = "color=c=black:size=320x180";
const BARS: &str = "smptehdbars=size=320x180";

fn stream(name: &'static str, scene: &'static str, encoder: Encoder) -> Stream {
    Stream { name, scene, encoder, rate: 25, group: 25, seconds: 16, hole: (7.48, 10.48) }
}

/// Of a frame among all of a file's.
fn number(file: &Path, place: FramePlace) -> usize {
    let mut file = File::open(file).unwrap();
    let bytes = file.metadata().unwrap().len();
    let samples = samples(&mut file, bytes).unwrap().map(Result::unwrap);
    let frames: Vec<Sample> = samples.filter(|sample| sample.track == 0).collect();
    place.number_in(frames.iter())
}

/// Looks for both seams; whatever is called exact has to be. Answers how many are.
fn exact_seams(stream: &Stream) -> usize {
    let &Stream { name, scene, encoder, rate, group, seconds, hole } = stream;
    let home = tempfile::tempdir().unwrap();
    let made = encode(home.path(), encoder, scene, seconds, rate, group);
    let card = home.path().join("card");
    let pictures = i64::from(seconds) * rate;
    copy(&made, 0..pictures, 0..0, Format::FragmentedMp4, &card, rate);
    let picture = |second: f64| (second * rate as f64).round() as i64;
    let (begins, ends) = (picture(hole.0), picture(hole.1));
    let [before, behind] = ["before", "behind"].map(|file| home.path().join(file));
    copy(&made, 0..begins, 0..0, Format::Mp4, &before, rate);
    copy(&made, ends..pictures, 0..0, Format::MpegTs, &behind, rate);

    let names = Duration::from_secs(1);
    let archive = home.path().join("archive");
    let mut segments = vec![archived(before, 0.6, names), archived(behind, hole.1 - 0.3, names)];
    let pieces = pull(&card, hole.0 - 0.2..hole.1 + 0.5, 0.4, Duration::from_secs(1), &archive);
    let card_from_ns = pieces[0].range.start().nanos_from(BEGINNING) - 400_000_000;
    let begins_the_piece = |shown_ns: &i64| shown_ns.abs_diff(card_from_ns) < 2_000_000;
    let card_from = shown(&made, codec(encoder)).iter().position(begins_the_piece).unwrap();
    segments.extend(pieces);
    let merged = merge(&segments, home.path());

    for attempt in &merged.found.attempts {
        let Ok(meeting) = &attempt.outcome else { continue };
        let begins_with = match attempt.edge {
            Edge::Opening => 0,
            Edge::Closing => ends as usize,
        };
        let exact = matches!(meeting.seam(), Seam::Exact { .. });
        let Handover { live, card, .. } = meeting.handover;
        let live = begins_with + number(&attempt.live, live);
        let on_card = card_from + number(&attempt.piece, card);
        assert!(!exact || live == on_card, "{name}: {:?} is wrong: {meeting:?}", attempt.edge);
    }
    let exact = merged.exact_seams();
    if exact == 2 {
        merged.assert_whole(&made, codec(encoder), name);
    }
    assert_eq!(merged.exported.seams.len(), 2, "{name}: {:?}", merged.exported.seams);
    let reasons: Vec<String> = merged.reasons().collect();
    println!("{name}: {exact} of 2 seams exact {reasons:?}");
    exact
}

#[test]
fn a_black_picture_is_put_together_by_time_and_says_so() {
    for encoder in [Encoder::H264, Encoder::H264WithBFrames, Encoder::H265] {
        assert_eq!(exact_seams(&stream("black", BLACK, encoder)), 0);
    }
}

#[test]
fn a_picture_that_stands_still_is_exact_or_approximate_but_never_wrong() {
    for encoder in [Encoder::H264, Encoder::H264InSlices, Encoder::H265, Encoder::H264IntraRefresh]
    {
        exact_seams(&stream("bars", BARS, encoder));
    }
    let long = Stream {
        group: 250,
        seconds: 30,
        hole: (12.0, 17.0),
        ..stream("bars", BARS, Encoder::H264)
    };
    exact_seams(&long);
}

#[test]
fn groups_of_ten_seconds_are_whole_again() {
    for encoder in [Encoder::H264WithBFrames, Encoder::H265] {
        let long = Stream {
            group: 250,
            seconds: 40,
            hole: (13.4, 22.2),
            ..stream("groups of 10 s", MOVING, encoder)
        };
        assert_eq!(exact_seams(&long), 2);
    }
}

#[test]
fn one_picture_a_second_is_whole_again() {
    let slow = Stream {
        rate: 1,
        group: 8,
        seconds: 60,
        hole: (21.0, 37.0),
        ..stream("1 fps", MOVING, Encoder::H264)
    };
    assert_eq!(exact_seams(&slow), 2);
}

#[test]
fn sixty_pictures_a_second_are_whole_again() {
    for encoder in [Encoder::H264WithBFrames, Encoder::H265] {
        let fast = Stream { rate: 60, group: 60, ..stream("60 fps", MOVING, encoder) };
        assert_eq!(exact_seams(&fast), 2);
    }
}

/// There is no keyframe to take over at but the first: the piece is played to its end.
#[test]
fn pictures_that_are_refreshed_column_by_column_are_never_wrong() {
    exact_seams(&stream("intra-refresh", MOVING, Encoder::H264IntraRefresh));
}
