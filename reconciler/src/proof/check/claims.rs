//! Does a manifest contradict itself?
//!
//! Pure. Runs are in order and account for all frames, states tile what was asked for, and nothing is called archived
//! but what a run holds, by who recorded that and with its proof.

use std::time::Duration;

use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::TimeRange;

use super::{Finding, Subject};
use crate::proof::manifest::{Manifest, RunEntry, SourceEntry, StateEntry};
use crate::seam::Seam;
use crate::timeline::{Proof, Recorder, State};

use crate::proof::manifest::Known;

/// Frames of a run that goes on from another may be shown while the last of that one's is.
const ONE_FRAME_S: f64 = 0.1;
/// Footage beyond what the states call archived is none of that where it is shorter.
const ROUNDING: Duration = Duration::from_millis(2);
/// So far files that follow one another may be apart by their names, and are joined in the clip: recorders round them
/// to seconds, and may wait for packets before they name one.
const NAMES_S: f64 = 7.0;
/// By so many frames two recorders may differ in what they take for the order of showing.
const FRAMES_OUT_OF_ORDER: f64 = 4.0;

pub(super) fn check(manifest: &Manifest) -> Vec<Finding> {
    let mut findings = Vec::new();
    counts(manifest, &mut findings);
    order(manifest, &mut findings);
    seams(manifest, &mut findings);
    sources(manifest, &mut findings);
    tiles(manifest, &mut findings);
    archived(manifest, &mut findings);
    findings
}

fn manifest_says(problem: impl Into<String>) -> Finding {
    Finding::new(Subject::Manifest, problem)
}

fn counts(manifest: &Manifest, findings: &mut Vec<Finding>) {
    let frames: u64 = manifest.runs.iter().map(|run| run.frames).fold(0, u64::saturating_add);
    if frames != manifest.frames {
        let finding = manifest_says("its runs do not hold as many frames as it says in all");
        findings.push(finding.differs(manifest.frames, frames));
    }
    let leading = manifest.leading_track();
    for run in &manifest.runs {
        let samples = run.tracks.iter().find(|track| track.track == leading);
        let samples = samples.map_or(0, |track| track.samples);
        if samples != run.frames {
            let finding =
                Finding::of_run(run, "its leading track has not as many samples as frames");
            findings.push(finding.differs(run.frames, samples));
        }
    }
    let runs = manifest.runs.iter().map(|run| run.range.range());
    let held = runs.reduce(|one, other| one.hull(&other));
    let says = manifest.holds.range();
    let apart = |held: TimeRange| {
        held.start().distance(says.start()).max(held.end().distance(says.end())) > ROUNDING
    };
    if held.is_none_or(apart) {
        let held = held.map_or("no run".to_owned(), |held| held.to_string());
        findings
            .push(manifest_says("its runs do not reach over what it holds").differs(says, held));
    }
}

fn order(manifest: &Manifest, findings: &mut Vec<Finding>) {
    for (expected, run) in (1u32..).zip(&manifest.runs) {
        if run.run != expected {
            let finding = Finding::of_run(run, "it stands where another run belongs");
            findings.push(finding.differs(format!("run {expected}"), format!("run {}", run.run)));
        }
        let length_s = run.clip_to_s - run.clip_from_s;
        let wall_s = run.range.range().duration().as_secs_f64();
        let is_off = (length_s - wall_s).abs() > ONE_FRAME_S;
        if is_off || length_s.is_nan() || run.range.from >= run.range.to {
            let finding = Finding::of_run(run, "it does not last in the MP4 as long as it did");
            findings.push(finding.differs(Seconds(wall_s), Seconds(length_s)));
        }
    }
    let mut loose_s = NAMES_S + manifest.join_tolerance_s.max(0.0);
    for pair in manifest.runs.windows(2) {
        let [before, run] = pair else { continue };
        let frame_s =
            (before.clip_to_s - before.clip_from_s).max(0.0) / before.frames.max(1) as f64;
        if run.clip_from_s + ONE_FRAME_S + FRAMES_OUT_OF_ORDER * frame_s < before.clip_to_s {
            let finding =
                Finding::of_run(run, "in the MP4 it begins before the run ahead of it ends");
            findings.push(finding.differs(Seconds(before.clip_to_s), Seconds(run.clip_from_s)));
        }
        // Runs that are joined take their place from each other, others by the clock.
        loose_s += seconds_of(before.clock.uncertainty_ns) + seconds_of(run.clock.uncertainty_ns);
        let apart_s = since(before, run);
        let clip_s = run.clip_from_s - before.clip_from_s;
        if (apart_s - clip_s).abs() > loose_s {
            let finding = Finding::of_run(run, "its place in the MP4 is not that of its time");
            findings.push(finding.differs(
                format!("{} after run {}", Seconds(apart_s), before.run),
                Seconds(clip_s),
            ));
        }
    }
}

fn since(before: &RunEntry, run: &RunEntry) -> f64 {
    run.range.from.nanos_from(before.range.from) as f64 / 1e9
}

fn seams(manifest: &Manifest, findings: &mut Vec<Finding>) {
    let mut last = 0;
    for seam in &manifest.seams {
        let at = |number: u32| manifest.runs.iter().find(|run| run.run == number);
        let follow = seam.from_run.checked_add(1) == Some(seam.to_run) && seam.to_run > last;
        let (Some(before), Some(run), true) = (at(seam.from_run), at(seam.to_run), follow) else {
            let (from, to) = (seam.from_run, seam.to_run);
            findings.push(manifest_says(format!(
                "it tells of a seam between runs {from} and {to}, which do not follow each other"
            )));
            continue;
        };
        last = seam.to_run;
        if seam.at.distance(run.range.from) > ROUNDING {
            let finding = Finding::of_run(run, "the seam before it is not where it begins");
            findings.push(finding.differs(run.range.from, seam.at));
        }
        if seam.seam == Seam::Succession && before.by != run.by {
            findings.push(Finding::of_run(run, "it cannot be the next file of another recorder"));
        }
    }
}

fn sources(manifest: &Manifest, findings: &mut Vec<Finding>) {
    for run in &manifest.runs {
        match manifest.source_of(run) {
            None => findings.push(Finding::of_run(run, "the file it was taken from is not listed")),
            Some(source) if source.by != run.by => {
                let finding = Finding::of_run(run, "its file is of another recorder");
                findings.push(finding.differs(word(run.by), word(source.by)));
            }
            Some(_) => {}
        }
    }
    for source in &manifest.sources {
        let of = || Subject::Source { file: source.file.clone() };
        match &source.piece {
            Some(piece) if piece.piece_blake3 != source.blake3 => {
                let problem = "it had been altered in the archive before it was exported";
                let finding = Finding::new(of(), problem);
                findings.push(finding.differs(piece.piece_blake3, source.blake3));
            }
            None if source.by == Recorder::Edge => {
                let problem = "it came from a card, but how that was proved is not told";
                findings.push(Finding::new(of(), problem));
            }
            _ => {}
        }
    }
}

/// States cover what was asked for, each instant once.
fn tiles(manifest: &Manifest, findings: &mut Vec<Finding>) {
    let asked = manifest.asked.range.range();
    let mut at = asked.start();
    for StateEntry { range, known } in &manifest.states {
        let state = Subject::State { state: known.word() };
        if range.from < at {
            let finding = Finding::new(state, "it tells again of what was told before it");
            findings.push(finding.at(range.range()).differs(at, range.from));
        } else if let Some(untold) = TimeRange::new(at, range.from).filter(|gap| !gap.is_empty()) {
            findings.push(manifest_says("it says nothing of the state here").at(untold));
        }
        at = at.max(range.to);
    }
    if let Some(untold) = TimeRange::new(at, asked.end()).filter(|gap| !gap.is_empty()) {
        findings.push(manifest_says("it says nothing of the state here").at(untold));
    }
    if at > asked.end() {
        let finding = manifest_says("its states go on behind what was asked for");
        findings.push(finding.differs(asked.end(), at));
    }
}

/// What is called archived is what runs hold.
fn archived(manifest: &Manifest, findings: &mut Vec<Finding>) {
    let asked = manifest.asked.range.range();
    let tolerance = Duration::try_from_secs_f64(manifest.join_tolerance_s).unwrap_or_default();
    for StateEntry { range, known } in &manifest.states {
        let stated = Coverage::from(range.range());
        let subject = Subject::State { state: known.word() };
        let Known::State(State::Archived { by, proof, .. }) = known else {
            for run in &manifest.runs {
                let held = stated.clip(run.range.range()).clip(asked).without_slivers(ROUNDING);
                for range in held.iter() {
                    let problem = format!("run {} holds footage of it", run.run);
                    findings.push(Finding::new(subject.clone(), problem).at(range));
                }
            }
            continue;
        };
        let mut held: Coverage =
            manifest.runs_as(*by, *proof).map(|run| run.range.range()).collect();
        held = held.joined(tolerance);
        for range in stated.difference(&held).without_slivers(tolerance).iter() {
            let problem = format!("no run holds footage of it, recorded {}", recorded(*by, *proof));
            findings.push(Finding::new(subject.clone(), problem).at(range));
        }
    }
}

fn recorded(by: Recorder, proof: Proof) -> String {
    State::Archived { by, proof, uncertainty_ns: 0 }.to_string().replacen("archived ", "", 1)
}

const fn word(by: Recorder) -> &'static str {
    match by {
        Recorder::Live => "live",
        Recorder::Edge => "edge",
    }
}

fn seconds_of(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

struct Seconds(f64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:.3} s", self.0)
    }
}

impl Manifest {
    /// The first track of pictures, else the first: as whoever opens the MP4 chooses it.
    pub(super) fn leading_track(&self) -> u32 {
        let video = self.tracks.iter().find(|track| track.kind == "video");
        video.or(self.tracks.first()).map_or(1, |track| track.track)
    }

    fn source_of(&self, run: &RunEntry) -> Option<&SourceEntry> {
        self.sources.iter().find(|source| source.file == run.file)
    }

    /// The runs that one recorder gave, with this proof.
    fn runs_as(&self, by: Recorder, proof: Proof) -> impl Iterator<Item = &RunEntry> {
        self.runs.iter().filter(move |run| {
            let source = self.source_of(run);
            let proved = source.and_then(|source| source.piece.as_ref());
            run.by == by && proved.map_or(Proof::None, |piece| piece.proof) == proof
        })
    }
}

#[cfg(test)]
mod tests;
