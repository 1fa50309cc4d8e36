//! Is the MP4 what the manifest says, run by run?
//!
//! Reads the file twice: all its bytes for the digest, then its samples, one at a time, track after track. So what
//! was altered is named by the run that it lies in.

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use sdcard_indexer::container::{self, ContainerError, Sample, SampleReader, Track, holes_between};
use sdcard_indexer::readable::explain;
use sdcard_indexer::time::TimeRange;

use super::{CannotCheck, Finding, Subject};
use crate::merge::primary_track;
use crate::proof::Progress;
use crate::proof::manifest::{Blake3, Manifest, RunEntry, TrackEntry, TrackRun, number_of};
use crate::proof::prove::seconds;
use crate::proof::sources::digest_of;

/// Ticks that were rounded once, and seconds that were written as floating-point numbers.
const ROUNDING_NS: i64 = 2_000_000;
/// Frames of a run that are looked at together for holes between them.
const FRAMES_AT_ONCE: usize = 65_536;
/// What of one look is looked at again in the next: holes are told by the frames around them.
const FRAMES_AROUND: usize = 16;
/// Beyond this much more than the tolerance is what cannot be rounding of ticks.
const SLACK: Duration = Duration::from_millis(20);

pub(super) fn check(
    clip: &Path,
    manifest: &Manifest,
    findings: &mut Vec<Finding>,
    progress: &dyn Progress,
) -> Result<(), CannotCheck> {
    let failed = |source| CannotCheck::Read { path: clip.to_owned(), source };
    let file_bytes = clip.metadata().map_err(failed)?.len();
    progress.more(file_bytes.saturating_mul(2));
    let (size_bytes, blake3) = digest_of(clip, None, progress).map_err(failed)?;
    let about_file = |problem: &str| Finding::new(Subject::File, problem);
    if size_bytes != manifest.file.size_bytes {
        let finding = about_file("it is not as long as it was");
        let bytes = |bytes: u64| format!("{bytes} bytes");
        findings.push(finding.differs(bytes(manifest.file.size_bytes), bytes(size_bytes)));
    }
    if blake3 != manifest.file.blake3 {
        let finding = about_file("its bytes are not those that were exported");
        findings.push(finding.differs(manifest.file.blake3, blake3));
    }
    let (file, media) = (File::open(clip).map_err(failed)?, File::open(clip).map_err(failed)?);
    let walked = walk(file, media, file_bytes, manifest, findings, progress);
    if let Err(error) = walked {
        let problem = format!("it cannot be read as a recording to its end: {}", explain(&error));
        findings.push(Finding::new(Subject::File, problem));
    }
    Ok(())
}

fn walk(
    mut file: File,
    mut media: File,
    file_bytes: u64,
    manifest: &Manifest,
    findings: &mut Vec<Finding>,
    progress: &dyn Progress,
) -> Result<(), ContainerError> {
    let summary = container::summarise(&mut file, file_bytes)?;
    if summary.torn {
        let whole_bytes = summary.whole_bytes;
        let problem =
            format!("it is cut off: what lies behind its byte {whole_bytes} is not whole");
        findings.push(Finding::new(Subject::File, problem));
    }
    if summary.recordings > 1 {
        let problem = "another recording was appended to it";
        findings.push(Finding::new(Subject::File, problem));
    }
    let tracks = summary.tracks;
    compare_tracks(manifest, &tracks, findings);
    let mut reader = SampleReader::new(&mut media, file_bytes);
    let mut lanes: Vec<Lane<'_>> =
        (0..tracks.len()).map(|index| Lane::new(index, &tracks, manifest)).collect();
    let mut bytes = Vec::new();
    let mut outcome = Ok(());
    for sample in container::samples(&mut file, file_bytes)? {
        let sample = match sample {
            Ok(sample) => sample,
            Err(error) => {
                outcome = Err(error);
                break;
            }
        };
        let (Some(track), Some(lane)) = (tracks.get(sample.track), lanes.get_mut(sample.track))
        else {
            continue;
        };
        let read = reader.read(track, &sample, &mut bytes);
        progress.done(bytes.len() as u64);
        match read {
            Ok(()) => lane.push(&sample, &bytes, findings),
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    lanes.into_iter().for_each(|lane| lane.end(findings));
    outcome
}

fn compare_tracks(manifest: &Manifest, tracks: &[Track], findings: &mut Vec<Finding>) {
    let found = tracks.iter().enumerate().map(|(index, track)| TrackEntry::of(index, track));
    let found: Vec<TrackEntry> = found.collect();
    if found.len() != manifest.tracks.len() {
        let finding = Finding::new(Subject::File, "it has not as many tracks as it had");
        findings.push(finding.differs(manifest.tracks.len(), found.len()));
    }
    for (expected, found) in manifest.tracks.iter().zip(&found) {
        if expected != found {
            let subject = Subject::Track { track: expected.track };
            let text = |track: &TrackEntry| {
                let TrackEntry { kind, codec, timescale, width, height, .. } = track;
                let set_up = track.description_blake3;
                format!(
                    "{kind}, {codec}, {timescale} ticks/s, {width}x{height}, set up by {set_up}"
                )
            };
            let finding = Finding::new(subject, "it is another than was exported");
            findings.push(finding.differs(text(expected), text(found)));
        }
    }
}

/// One track of the MP4, and the runs whose samples come in it one after the other.
struct Lane<'m> {
    number: u32,
    track: Option<Track>,
    leads: bool,
    tolerance: Duration,
    runs: VecDeque<(&'m RunEntry, Option<&'m TrackRun>)>,
    tally: Tally,
    /// Samples that no run accounts for.
    surplus: u64,
}

/// What came of the run at hand.
#[derive(Default)]
struct Tally {
    samples: u64,
    bytes: u64,
    first_ticks: Option<i64>,
    hasher: blake3::Hasher,
    shown: Option<Shown>,
    frames: Vec<Sample>,
    /// Where the last hole ends that was found between them.
    hole_to: Option<i64>,
}

/// In nanoseconds since the clip's first frame.
#[derive(Clone, Copy)]
struct Shown {
    first_from: i64,
    last_from: i64,
    last_to: i64,
}

impl<'m> Lane<'m> {
    fn new(index: usize, tracks: &[Track], manifest: &'m Manifest) -> Lane<'m> {
        let number = number_of(index);
        let own = |run: &'m RunEntry| run.tracks.iter().find(|track| track.track == number);
        Lane {
            number,
            track: tracks.get(index).cloned(),
            leads: index == primary_track(tracks),
            tolerance: Duration::try_from_secs_f64(manifest.join_tolerance_s)
                .unwrap_or_default()
                .saturating_add(SLACK),
            runs: manifest.runs.iter().map(|run| (run, own(run))).collect(),
            tally: Tally::default(),
            surplus: 0,
        }
    }

    fn push(&mut self, sample: &Sample, bytes: &[u8], findings: &mut Vec<Finding>) {
        while self.is_full() {
            self.end_run(findings);
        }
        if self.runs.is_empty() {
            self.surplus += 1;
            return;
        }
        let tally = &mut self.tally;
        tally.samples += 1;
        tally.bytes += bytes.len() as u64;
        tally.first_ticks = tally.first_ticks.or(Some(sample.decode_ticks));
        tally.hasher.update(bytes);
        let Some(track) = self.track.as_ref().filter(|_| self.leads) else { return };
        let (from, to) = (sample.starts_at(track).0, sample.ends_at(track).0);
        let shown =
            tally.shown.get_or_insert(Shown { first_from: from, last_from: from, last_to: to });
        shown.first_from = shown.first_from.min(from);
        shown.last_from = shown.last_from.max(from);
        shown.last_to = shown.last_to.max(to);
        tally.frames.push(*sample);
        if tally.frames.len() == FRAMES_AT_ONCE {
            self.look_for_holes(findings);
            let looked_at = self.tally.frames.len() - FRAMES_AROUND;
            self.tally.frames.drain(..looked_at);
        }
    }

    fn is_full(&self) -> bool {
        let expected = self.runs.front().map(|(_, own)| own.map_or(0, |own| own.samples));
        expected.is_some_and(|expected| self.tally.samples >= expected)
    }

    fn end(mut self, findings: &mut Vec<Finding>) {
        while !self.runs.is_empty() {
            self.end_run(findings);
        }
        if self.surplus > 0 {
            let problem = format!("{} of its samples belong to no run", self.surplus);
            findings.push(Finding::new(Subject::Track { track: self.number }, problem));
        }
    }

    fn end_run(&mut self, findings: &mut Vec<Finding>) {
        self.look_for_holes(findings);
        let Some((run, own)) = self.runs.pop_front() else { return };
        let tally = std::mem::take(&mut self.tally);
        let Some(own) = own else {
            let problem = format!("it says nothing of track {}", self.number);
            findings.push(Finding::of_run(run, problem));
            return;
        };
        let number = self.number;
        if tally.samples != own.samples {
            let problem = format!("not all its samples of track {number} are in the MP4");
            let finding = Finding::of_run(run, problem);
            findings.push(finding.differs(own.samples, tally.samples));
            return;
        }
        let found = Blake3(tally.hasher.finalize());
        if (own.blake3, own.bytes) != (found, tally.bytes) {
            let problem = format!("the bytes of its samples in track {number} have changed");
            findings.push(Finding::of_run(run, problem).differs(own.blake3, found));
        }
        let first_ticks = tally.first_ticks.and_then(|ticks| u64::try_from(ticks).ok());
        if first_ticks != own.first_ticks {
            let problem = format!("its first sample in track {number} is not where it was");
            let ticks = |ticks: Option<u64>| ticks.map_or("none".to_owned(), |at| at.to_string());
            let finding = Finding::of_run(run, problem);
            findings.push(finding.differs(ticks(own.first_ticks), ticks(first_ticks)));
        }
        if let Some(shown) = tally.shown {
            compare_times(run, shown, findings);
        }
    }

    /// Nothing that a run claims may lie where the MP4 shows no new frame.
    fn look_for_holes(&mut self, findings: &mut Vec<Finding>) {
        let (Some((run, _)), Some(track)) = (self.runs.front(), &self.track) else { return };
        for hole in holes_between(&self.tally.frames, track, self.tolerance) {
            if self.tally.hole_to.is_some_and(|told| hole.end.0 <= told) {
                continue;
            }
            self.tally.hole_to = Some(hole.end.0);
            let (from, to) = (seconds(hole.start.0), seconds(hole.end.0));
            let at = |clip_s: f64| {
                let since_ns = ((clip_s - run.clip_from_s) * 1e9) as i64;
                run.range.from.saturating_offset(since_ns)
            };
            let finding = Finding::of_run(
                run,
                format!("from {from:.3} s to {to:.3} s the MP4 shows no frame of it"),
            );
            findings.push(match TimeRange::new(at(from), at(to)) {
                Some(range) => finding.at(range),
                None => finding,
            });
        }
    }
}

fn compare_times(run: &RunEntry, shown: Shown, findings: &mut Vec<Finding>) {
    let nanos = |seconds: f64| (seconds * 1e9) as i64;
    let (from, to) = (nanos(run.clip_from_s), nanos(run.clip_to_s));
    let begins = from.abs_diff(shown.first_from) <= ROUNDING_NS.unsigned_abs();
    // The last frame before a hole is shown on until something follows.
    let ends = to > shown.last_from && to <= shown.last_to.saturating_add(ROUNDING_NS);
    if !begins || !ends {
        let text = |from: i64, to: i64| format!("{:.3} s to {:.3} s", seconds(from), seconds(to));
        let finding = Finding::of_run(run, "it is not shown when it was");
        findings.push(finding.differs(text(from, to), text(shown.first_from, shown.last_to)));
    }
}
