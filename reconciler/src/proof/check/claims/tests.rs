use super::*;
use crate::examples::{at, key, seconds};
use crate::proof::manifest::{
    Asked, Blake3, Clock, FORMAT, FileEntry, Other, SeamEntry, TrackEntry, TrackRun, VERSION,
};
use crate::proof::prove::Exporter;

fn digest() -> Blake3 {
    Blake3(blake3::hash(b""))
}

fn run(run: u32, from: i64, to: i64) -> RunEntry {
    let samples = (to - from).unsigned_abs() * 25;
    RunEntry {
        run,
        range: seconds(from, to).into(),
        clip_from_s: from as f64,
        clip_to_s: to as f64,
        by: Recorder::Live,
        file: "live.mp4".to_owned(),
        frames: samples,
        clock: Clock { added_to_device_ns: None, uncertainty_ns: 0 },
        tracks: vec![TrackRun {
            track: 1,
            samples,
            bytes: samples,
            first_ticks: Some(0),
            blake3: digest(),
        }],
    }
}

fn state(from: i64, to: i64, known: Known) -> StateEntry {
    StateEntry { range: seconds(from, to).into(), known }
}

fn live() -> Known {
    Known::State(State::Archived { by: Recorder::Live, proof: Proof::None, uncertainty_ns: 0 })
}

fn missing() -> Known {
    Known::State(State::Missing)
}

/// 20 s were asked for; 5 s in the middle are missing.
fn manifest() -> Manifest {
    Manifest {
        format: FORMAT.to_owned(),
        version: VERSION,
        about: String::new(),
        exported: Exporter::new("a test".to_owned(), at(99)),
        asked: Asked { key: key(), range: seconds(0, 20).into() },
        file: FileEntry { name: "a.mp4".to_owned(), size_bytes: 9, blake3: digest() },
        holds: seconds(0, 20).into(),
        frames: 375,
        tracks: vec![TrackEntry {
            track: 1,
            kind: "video".to_owned(),
            codec: "h264".to_owned(),
            timescale: 90_000,
            width: 1,
            height: 1,
            description_blake3: digest(),
        }],
        runs: vec![run(1, 0, 10), run(2, 15, 20)],
        seams: Vec::new(),
        sources: vec![SourceEntry {
            file: "live.mp4".to_owned(),
            by: Recorder::Live,
            size_bytes: 9,
            blake3: digest(),
            piece: None,
        }],
        states: vec![state(0, 10, live()), state(10, 15, missing()), state(15, 20, live())],
        states_as_of: Some(at(98)),
        join_tolerance_s: 0.5,
    }
}

/// What is found once `change` was made.
fn found(change: impl FnOnce(&mut Manifest)) -> Vec<String> {
    let mut manifest = manifest();
    change(&mut manifest);
    check(&manifest).into_iter().map(|finding| finding.problem).collect()
}

#[track_caller]
fn assert_found(problem: &str, change: impl FnOnce(&mut Manifest)) {
    let found = found(change);
    assert!(found.iter().any(|found| found.contains(problem)), "{problem} is not in {found:?}");
}

#[test]
fn a_manifest_that_agrees_with_itself_has_nothing_to_be_told() {
    assert_eq!(found(|_| {}), [] as [&str; 0]);
}

#[test]
fn states_that_overlap_or_leave_an_instant_out_or_go_on_are_told() {
    assert_found("tells again", |says| says.states[1] = state(9, 15, missing()));
    assert_found("says nothing", |says| says.states[1] = state(11, 15, missing()));
    assert_found("says nothing", |says| says.states.truncate(2));
    assert_found("go on behind", |says| says.states[2] = state(15, 21, live()));
    assert_found("says nothing", |says| says.states.clear());
}

#[test]
fn what_is_archived_is_what_runs_hold_and_nothing_else() {
    assert_found("no run holds footage", |says| says.states[1].known = live());
    assert_found("run 2 holds footage of it", |says| says.states[2].known = missing());
    let not_judged = || Known::Other(Other::NotJudged);
    assert_found("run 1 holds footage of it", |says| says.states[0].known = not_judged());
    let sealed = || {
        Known::State(State::Archived {
            by: Recorder::Edge,
            proof: Proof::Sealed,
            uncertainty_ns: 0,
        })
    };
    assert_found("from the card, as sealed", |says| says.states[0].known = sealed());
}

#[test]
fn holes_no_longer_than_the_tolerance_are_rounding() {
    let half_a_second_early = |says: &mut Manifest| {
        let to = at(10).saturating_offset(-500_000_000);
        says.runs[0].range = TimeRange::new(at(0), to).unwrap().into();
        says.runs[0].clip_to_s = 9.5;
    };
    assert_eq!(found(half_a_second_early), [] as [&str; 0]);
    assert_found("no run holds footage", |says| {
        says.runs[0].range = seconds(0, 9).into();
        says.runs[0].clip_to_s = 9.0;
    });
}

#[test]
fn runs_that_do_not_add_up_or_run_into_each_other_are_told() {
    assert_found("as many frames", |says| says.frames += 1);
    assert_found("as many samples as frames", |says| says.runs[0].frames += 1);
    assert_found("reach over", |says| says.holds = seconds(0, 21).into());
    assert_found("last in the MP4", |says| says.runs[0].clip_to_s = f64::NAN);
    assert_found("last in the MP4", |says| says.runs[0].clip_to_s = 9.0);
    assert_found("before the run ahead", |says| {
        says.runs[1].clip_from_s = 5.0;
        says.runs[1].clip_to_s = 10.0;
    });
    assert_found("not that of its time", |says| {
        says.runs[1].clip_from_s = 28.0;
        says.runs[1].clip_to_s = 33.0;
    });
    assert_found("not listed", |says| says.sources.clear());
}

#[test]
fn seams_join_runs_that_follow_each_other_where_the_later_one_begins() {
    let seam = |from_run, to_run, second| SeamEntry {
        at: at(second),
        from_run,
        to_run,
        seam: Seam::Approximate { uncertainty_ns: 1 },
    };
    assert_eq!(found(|says| says.seams.push(seam(1, 2, 15))), [] as [&str; 0]);
    assert_found("not where it begins", |says| says.seams.push(seam(1, 2, 14)));
    for (from, to) in [(1, 3), (2, 3), (2, 1), (0, 1), (u32::MAX, 0)] {
        assert_found("do not follow each other", |says| says.seams.push(seam(from, to, 15)));
    }
    assert_found("do not follow each other", |says| {
        says.seams.extend([seam(1, 2, 15), seam(1, 2, 15)]);
    });
}

#[test]
fn absurd_numbers_are_told_and_do_no_harm() {
    for absurd in [f64::NAN, f64::INFINITY, -1e300] {
        let found = found(|says| {
            says.join_tolerance_s = absurd;
            says.runs[0].clip_from_s = absurd;
            says.asked.range = seconds(0, 1).into();
        });
        assert!(!found.is_empty());
    }
    let backwards = |says: &mut Manifest| {
        let range = &mut says.states[1].range;
        std::mem::swap(&mut range.from, &mut range.to);
        let range = &mut says.runs[1].range;
        std::mem::swap(&mut range.from, &mut range.to);
    };
    assert!(!found(backwards).is_empty());
}
