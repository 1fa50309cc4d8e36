//! Export: any range of the view as one fragmented MP4, nothing encoded anew.
//!
//! Times are those of the wall clock, counted from the first frame: a hole keeps its length. Within runs
//! that follow one another the media's own times go on without a step.

use std::io::Write;
use std::path::PathBuf;

use sdcard_indexer::container::{Sample, Track, TrackKind};
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde::Serialize;

use super::Run;
use crate::merge::{
    FragmentError, FragmentWriter, Joiner, Meets, OutputSample, Source, SourceError, counterpart,
    primary_track, same_decoder,
};
use crate::seam::{Bound, FramePlace, Seam, trim};

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("nothing is archived in {range}")]
    Nothing { range: TimeRange },
    #[error("{} cannot be played", file.display())]
    Source { file: PathBuf, source: SourceError },
    #[error(
        "the {kind:?} encoder's settings change at {at} ({}): one file cannot hold both; export up to \\
         there and from there on",
        file.display()
    )]
    SettingsChange { file: PathBuf, kind: TrackKind, at: Timestamp },
    #[error("cannot export {}", file.display())]
    Fragment { file: PathBuf, source: FragmentError },
    #[error("writing the export failed")]
    Output(#[source] FragmentError),
}

/// What an exported file holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exported {
    /// From the first frame, which is the keyframe at or before the range's start, to the end of the last.
    pub range: TimeRange,
    /// Frames of the primary track.
    pub frames: u64,
    /// Where what one recorder has goes on in what the other one has, in the order of time.
    pub seams: Vec<ExportedSeam>,
}

/// How two recorders' footage was put together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct ExportedSeam {
    pub at: Timestamp,
    #[serde(flatten)]
    pub seam: Seam,
}

/// What is about to be written of one run.
#[derive(Debug)]
pub struct Written<'r> {
    pub run: &'r Run<'r>,
    /// How it goes on from what was written before; `None` where that is nothing, or a hole lies between.
    pub seam: Option<Seam>,
    /// Of the source.
    pub tracks: &'r [Track],
    /// One for each track of the output.
    pub lanes: &'r [Vec<OutputSample>],
}

/// Who looks on while an export is written, and says what it holds.
pub trait Witness {
    /// The tracks of the output; before anything else.
    fn tracks(&mut self, tracks: &[Track]);
    /// Its samples follow, of each track in decode order.
    fn run(&mut self, written: &Written<'_>);
    /// The bytes of the next sample of a track of the output, as they stand in the file.
    fn sample(&mut self, track: usize, bytes: &[u8]);
}

/// Nobody looks on.
impl Witness for () {
    fn tracks(&mut self, _: &[Track]) {}
    fn run(&mut self, _: &Written<'_>) {}
    fn sample(&mut self, _: usize, _: &[u8]) {}
}

/// Writes what of `range` the runs of a [`view`](super::view) hold. One file is open at a time, and the
/// table of its samples in memory.
pub fn export<W: Write>(
    runs: &[Run<'_>],
    range: TimeRange,
    output: W,
) -> Result<Exported, ExportError> {
    export_before(&mut (), runs, range, output)
}

/// As [`export()`], before a witness.
pub fn export_before<W: Write>(
    witness: &mut dyn Witness,
    runs: &[Run<'_>],
    range: TimeRange,
    output: W,
) -> Result<Exported, ExportError> {
    let parts = within(runs, range);
    let runs: Vec<&Run<'_>> = parts.iter().map(|(run, _)| *run).collect();
    let asked = runs
        .iter()
        .filter_map(|run| run.range.intersection(&range))
        .reduce(|one, other| one.hull(&other));
    let asked = asked.ok_or(ExportError::Nothing { range })?;
    let tracks = common_tracks(&runs)?;
    let writer =
        FragmentWriter::begin(output, &tracks, asked.duration()).map_err(ExportError::Output)?;
    witness.tracks(&tracks);
    let joiner = Joiner::new(&tracks);
    let mut export = Export { writer, joiner, witness, exported: None, continues: false };
    for (run, asked) in parts {
        export.append(run, asked)?;
    }
    export.writer.finish().map_err(ExportError::Output)?;
    export.exported.ok_or(ExportError::Nothing { range })
}

struct Export<'w, W> {
    writer: FragmentWriter<W>,
    joiner: Joiner,
    witness: &'w mut dyn Witness,
    exported: Option<Exported>,
    /// The run before was played to its end.
    continues: bool,
}

impl<W: Write> Export<'_, W> {
    fn append(&mut self, run: &Run<'_>, range: TimeRange) -> Result<(), ExportError> {
        let path = &run.segment.file;
        let unplayable = |source| ExportError::Source { file: path.clone(), source };
        let mut source = Source::open(path).map_err(unplayable)?;
        let samples = source.samples().map_err(unplayable)?;
        let (tracks, mut reader) = source.media();

        let joined = self.continues && run.seam.is_some();
        let samples = trim(tracks, &samples, opening(run, range), closing(run, range), joined);
        let played = shown(tracks, &samples, run.zero_at);
        self.continues = played.is_some();
        let Some(played) = played else { return Ok(()) };

        let lanes = self.joiner.place(tracks, &samples, run.zero_at, meets(run, joined));
        let seam = run.seam.filter(|_| joined);
        self.witness.run(&Written { run, seam, tracks, lanes: &lanes });
        let seen = &mut |track: usize, bytes: &[u8]| self.witness.sample(track, bytes);
        let written = self.writer.append_seen(&mut reader, tracks, &lanes, seen);
        written.map_err(|source| ExportError::Fragment { file: path.clone(), source })?;
        let (exported, first) = match self.exported.take() {
            Some(exported) => (exported, false),
            None => (Exported { range: played.0, frames: 0, seams: Vec::new() }, true),
        };
        let mut exported = Exported {
            range: exported.range.hull(&played.0),
            frames: exported.frames + played.1,
            ..exported
        };
        let seam = run.seam.filter(|seam| seam.joins_recorders() && !first);
        exported.seams.extend(seam.map(|seam| ExportedSeam { at: run.range.start(), seam }));
        self.exported = Some(exported);
        Ok(())
    }
}

/// How a run goes on from the one before, which was played to its end where they are `joined`.
pub(super) fn meets(run: &Run<'_>, joined: bool) -> Meets {
    match run.seam {
        Some(Seam::Exact { .. }) if joined => Meets::ToTheFrame,
        Some(_) if joined => Meets::Seamlessly,
        _ => Meets::ByClock,
    }
}

/// The runs that are played of a range, each with what is asked of it. By its clock the first begins and the last
/// ends where the range does; all between are played whole. Recorders' names may say that a run lasts beyond the
/// beginning of the next one, and so beyond the range.
pub(super) fn within<'a, 's>(
    runs: &'a [Run<'s>],
    range: TimeRange,
) -> Vec<(&'a Run<'s>, TimeRange)> {
    let overlaps = |run: &Run<'_>| run.range.overlaps(&range);
    let ends = runs.iter().position(overlaps).zip(runs.iter().rposition(overlaps));
    let Some((first, last)) = ends else { return Vec::new() };
    let part = |(index, run)| {
        let start = if index == first { range.start() } else { Timestamp::MIN };
        let end = if index == last { range.end() } else { Timestamp::MAX };
        Some((run, TimeRange::new(start, end)?))
    };
    let played = runs.iter().enumerate().skip(first).take(last + 1 - first);
    played.filter_map(part).collect()
}

pub(super) fn opening(run: &Run<'_>, range: TimeRange) -> Bound {
    if range.start() > run.range.start() {
        Bound::Asked { at: run.media_time(range.start()), within: frame(run.opens) }
    } else {
        run.opens
    }
}

pub(super) fn closing(run: &Run<'_>, range: TimeRange) -> Bound {
    if range.end() < run.range.end() {
        Bound::Asked { at: run.media_time(range.end()), within: frame(run.closes) }
    } else {
        run.closes
    }
}

fn frame(bound: Bound) -> Option<FramePlace> {
    match bound {
        Bound::Frame(place) => Some(place),
        _ => None,
    }
}

/// When the frames of a run are shown, and how many they are; `None` where there are none.
pub(super) fn shown(
    tracks: &[Track],
    samples: &[Sample],
    zero_at: Timestamp,
) -> Option<(TimeRange, u64)> {
    let primary = primary_track(tracks);
    let track = tracks.get(primary)?;
    let frames = || samples.iter().filter(|sample| sample.track == primary);
    let start = zero_at.saturating_offset(frames().next()?.starts_at(track).0);
    let end = zero_at.saturating_offset(frames().map(|frame| frame.ends_at(track)).max()?.0);
    Some((TimeRange::new(start, end)?, frames().count() as u64))
}

/// The tracks of all runs together; those of one kind need to share a decoder.
fn common_tracks(runs: &[&Run<'_>]) -> Result<Vec<Track>, ExportError> {
    let mut common: Vec<Track> = Vec::new();
    for run in runs {
        let file = &run.segment.file;
        let source = Source::open(file)
            .map_err(|source| ExportError::Source { file: file.clone(), source })?;
        let tracks = &source.summary().tracks;
        for (index, track) in tracks.iter().enumerate() {
            let known = counterpart(common.iter().map(|track| track.kind), tracks, index);
            match known.and_then(|known| common.get(known)) {
                None => common.push(track.clone()),
                Some(known) if same_decoder(known, track) => {}
                Some(_) => {
                    let (file, kind, at) = (file.clone(), track.kind, run.range.start());
                    return Err(ExportError::SettingsChange { file, kind, at });
                }
            }
        }
    }
    Ok(common)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::examples::seconds;
    use crate::playback::ArchivedSegment;
    use crate::timeline::Recorder;

    #[test]
    fn a_range_cuts_its_first_and_its_last_run_and_none_between() {
        let segment = |range: TimeRange| ArchivedSegment {
            file: range.to_string().into(),
            range,
            by: Recorder::Live,
            uncertainty: Duration::ZERO,
        };
        // The second is named late, and would last until 21 by its name.
        let ranges = [seconds(0, 10), seconds(11, 21), seconds(19, 29), seconds(29, 39)];
        let segments = ranges.map(segment);
        let run = |segment| Run {
            segment,
            range: segment.range,
            zero_at: segment.range.start(),
            opens: Bound::Natural,
            closes: Bound::Natural,
            seam: Some(Seam::Succession),
        };
        let runs: Vec<Run<'_>> = segments.iter().map(run).collect();
        let bounds = |range| -> Vec<(Bound, Bound)> {
            let parts = within(&runs, range).into_iter();
            parts.map(|(run, asked)| (opening(run, asked), closing(run, asked))).collect()
        };
        let asked = |second: i64| {
            let at = sdcard_indexer::container::MediaTime(second * 1_000_000_000);
            Bound::Asked { at, within: None }
        };
        let natural = Bound::Natural;
        let expected = [(asked(5), natural), (natural, natural), (natural, asked(1))];
        assert_eq!(bounds(seconds(5, 20)), expected);
        assert_eq!(bounds(seconds(2, 3)), [(asked(2), asked(3))]);
        assert_eq!(bounds(seconds(50, 60)), []);
    }
}
