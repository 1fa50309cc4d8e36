//! A still: the keyframe at or before an instant, as a file of one frame that any player shows.

use std::time::Duration;

use sdcard_indexer::container::TrackKind;
use sdcard_indexer::time::{TimeRange, Timestamp};

use super::Run;
use super::programme::{Programme, ProgrammeError, TakeError};
use super::reel::Reel;
use crate::merge::{FragmentError, OutputSample, Source, file_head, fragment_head};

/// What is planned for it. Of less than a frame's length no frame might be meant.
const GLANCE: Duration = Duration::from_secs(2);

/// One frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Still {
    /// When it was recorded, by the archive's clock.
    pub at: Timestamp,
    pub file: Vec<u8>,
}

/// The range that has to be looked at for a still of this instant.
pub fn glance(at: Timestamp) -> TimeRange {
    TimeRange::starting_at(at, GLANCE)
}

/// Reads one frame.
pub fn still(runs: &[Run<'_>], at: Timestamp) -> Result<Still, ProgrammeError> {
    let range = glance(at);
    let nothing = || ProgrammeError::Nothing { range };
    let shows: Vec<Run<'_>> = runs.iter().filter(|run| run.range.contains(at)).cloned().collect();
    let programme = Programme::plan(&shows, range)?;
    let take = programme.take(0).ok_or_else(nothing)?;
    let reel = Reel::load(take, &mut take.before.clone(), &programme.lanes)?.ok_or_else(nothing)?;
    let primary = programme.lanes.primary;
    let track = programme.chapters().first().and_then(|chapter| chapter.tracks.get(primary));
    let track = track.filter(|track| track.kind == TrackKind::Video).ok_or_else(nothing)?;
    let first = reel.leading(0, primary).1.first().copied().ok_or_else(nothing)?;

    let alone = OutputSample { decode_ticks: 0, composition_offset: 0, ..first };
    let length = Duration::from_secs_f64(f64::from(first.duration) / f64::from(track.timescale));
    let mut file = file_head(std::slice::from_ref(track), length).map_err(ProgrammeError::Head)?;
    file.extend(fragment_head(1, &[&[alone]]).map_err(ProgrammeError::Head)?);

    let unplayable = |source| TakeError::Source { file: take.file.clone(), source };
    let mut source =
        Source::reopen(&take.file, take.file_bytes, take.summary.clone()).map_err(unplayable)?;
    let (tracks, mut reader) = source.media();
    let mut frame = Vec::new();
    let own = tracks.get(first.source.track).ok_or_else(nothing)?;
    reader.read(own, &first.source, &mut frame).map_err(|source| {
        let source = FragmentError::Read { offset: first.source.offset, source };
        TakeError::Fragment { file: take.file.clone(), source }
    })?;
    file.extend(frame);
    Ok(Still { at: reel.shown_at(&first.source), file })
}
