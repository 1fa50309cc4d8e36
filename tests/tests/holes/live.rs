//! The holes that a tunnel leaves in what a central recorder of ffmpeg's writes: inside its files.

use std::ops::Range;
use std::time::Duration;

use sdcard_indexer::container::Container;
use sdcard_indexer::time::Timestamp;
use tests::naming::Naming;
use tests::rig::{Recorded, Rig, Sound, Writing};

use crate::recorder::held_in;

const SPEED: f64 = 4.0;

fn cut(milliseconds: Range<u64>) -> Range<Duration> {
    Duration::from_millis(milliseconds.start)..Duration::from_millis(milliseconds.end)
}

/// What the index finds missing, in the recording's own time.
fn found(recorded: &Recorded, naming: Naming) -> Vec<(f64, f64)> {
    let held = held_in(&recorded.archive_dir(), naming);
    let seconds = |at: Timestamp| at.nanos_from(recorded.clock.start) as f64 / 1e9;
    let holes = held.gaps(held.hull().unwrap());
    holes.iter().map(|hole| (seconds(hole.start()), seconds(hole.end()))).collect()
}

async fn recorded(writing: Writing, cuts: &[Range<Duration>], seconds: u32) -> Recorded {
    let rig = Rig::builder().seconds(seconds).sound(Sound::Aac).archive(writing);
    rig.cuts(cuts.iter().cloned()).speed(SPEED).run().await.unwrap()
}

/// So that no other file's name bears on where a hole ends.
fn in_one_file(container: Container) -> Writing {
    Writing { segment_seconds: 60, ..Writing::of(container) }
}

/// A recorder is late to name a file, the first more than others, and as many times later as the rig is fast.
const LATE_S: std::ops::Range<f64> = -0.1..3.0;
/// Of a hole's length, that of a few frames.
const EXACT_S: f64 = 0.2;
/// By so much shorter is a hole where the next file begins before it has ended by the one that it lies in, which
/// was named as much later.
const NAMED_LATER_S: f64 = 2.0;

/// One hole for each cut, each as late as its file is named, and as long as its cut.
fn assert_found(
    holes: &[(f64, f64)],
    cuts: &[Range<Duration>],
    (step_s, shorter_s): (f64, f64),
    what: &str,
) {
    assert_eq!(holes.len(), cuts.len(), "{what}: {holes:?}");
    for ((start, end), cut) in holes.iter().zip(cuts) {
        let (lost, length) = (cut.start.as_secs_f64(), (cut.end - cut.start).as_secs_f64());
        assert!(LATE_S.contains(&(start - lost + step_s)), "{what}: {holes:?} of {cuts:?}");
        let off = end - start - length;
        assert!((-shorter_s..EXACT_S).contains(&off), "{what}: {holes:?} of {cuts:?}");
    }
}

#[tokio::test]
async fn a_tunnel_is_one_hole_in_every_container() {
    let cuts = [cut(5_300..9_690)];
    for container in
        [Container::FragmentedMp4, Container::Mp4, Container::MpegTs, Container::Matroska]
    {
        for reset_timestamps in [true, false] {
            let writing = Writing { reset_timestamps, ..Writing::of(container) };
            let recorded = recorded(writing, &cuts, 20).await;
            let what = format!("{container:?}, from zero: {reset_timestamps}");
            assert_found(&found(&recorded, Naming::MediaMtx), &cuts, (0.0, NAMED_LATER_S), &what);
        }
    }
}

#[tokio::test]
async fn tunnels_shorter_than_a_group_of_pictures_are_holes() {
    let cuts = [cut(3_120..4_030), cut(6_500..7_490), cut(10_010..10_700)];
    for container in [Container::FragmentedMp4, Container::MpegTs] {
        let recorded = recorded(in_one_file(container), &cuts, 16).await;
        assert_found(
            &found(&recorded, Naming::MediaMtx),
            &cuts,
            (0.0, EXACT_S),
            &format!("{container:?}"),
        );
    }
}

#[tokio::test]
async fn a_tunnel_of_45_seconds_is_one_hole_where_it_is() {
    let cuts = [cut(6_300..51_290)];
    for container in [Container::FragmentedMp4, Container::MpegTs] {
        let writing = Writing { segment_seconds: 10, ..Writing::of(container) };
        let recorded = recorded(writing, &cuts, 64).await;
        assert_found(
            &found(&recorded, Naming::MediaMtx),
            &cuts,
            (0.0, NAMED_LATER_S),
            &format!("{container:?}"),
        );
    }
}

#[tokio::test]
async fn a_tunnel_of_a_second_is_a_hole_under_names_in_seconds() {
    let cuts = [cut(5_300..6_490)];
    for container in [Container::FragmentedMp4, Container::MpegTs] {
        let writing = Writing { naming: Naming::WholeSeconds, ..in_one_file(container) };
        let recorded = recorded(writing, &cuts, 16).await;
        let holes = found(&recorded, Naming::WholeSeconds);
        assert_found(&holes, &cuts, (1.0, EXACT_S), &format!("{container:?}"));
    }
}
