//! Where a live recording may be cut, given how a piece meets it; or why it is left alone.
//!
//! Opens both files, to read only: the frames from the cut on are compared with the piece's, slice by slice.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sdcard_indexer::container::{Container, Sample, Track};

use crate::merge::{Source, SourceError, length_bytes, primary_track};
use crate::seam::{Coded, Handover, SliceCodec, coded};

/// Frames of the piece that are looked at for those that the live recording loses; a cut is never farther back.
const MOST_FRAMES: usize = 4_096;
/// What one frame may be shown longer than another, by the two recorders' clocks.
const FRAME_NS: i64 = 100_000_000;

/// What is left out of a live recording, and what is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// Frames that stay, in decode order: the next one is the piece's first.
    pub kept_frames: usize,
    pub left_out_frames: usize,
    /// Of those that are left out, the ones that the piece does not hold as they are: damaged in the live recording.
    pub damaged_frames: usize,
}

/// Why a live recording is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum Left {
    #[error("{} cannot be looked at", file.display())]
    Source { file: PathBuf, source: SourceError },
    #[error("it is no MP4")]
    NotMp4,
    #[error("its pictures are of a kind whose slices are not known")]
    NoSlices,
    #[error("how it meets the piece is not known to the frame")]
    NotExact,
    #[error("it ends where the piece begins")]
    NothingToCut,
    #[error("it begins within the piece: nothing would be left of it")]
    NothingKept,
    #[error("more than {MOST_FRAMES} frames would have to be cut off")]
    TooFar,
    #[error("it goes on behind what the piece holds")]
    GoesOn,
    #[error("the piece's first frames cannot be shown without what comes before them")]
    LeadingPictures,
    #[error("the frame at which the piece begins is not the same in both")]
    NotEqual,
}

/// Finds the cut. `handover` is how the live recording meets the piece's beginning.
pub fn place_of(live: &Path, piece: &Path, handover: &Handover) -> Result<Cut, Left> {
    if !handover.to_the_frame {
        return Err(Left::NotExact);
    }
    let mut recorded = Frames::open(live)?;
    let mut copied = Frames::open(piece)?;
    if !matches!(recorded.container, Container::FragmentedMp4 | Container::Mp4) {
        return Err(Left::NotMp4);
    }
    // The view hands over at a keyframe of the piece, of which the first may be an earlier one.
    let live = handover.live.number_in(recorded.frames.iter());
    let cut = live.checked_sub(handover.card.number_in(copied.frames.iter()));
    let cut = cut.ok_or(Left::NothingKept)?;
    if cut == 0 {
        return Err(Left::NothingKept);
    }
    let left_out = recorded.frames.len().saturating_sub(cut);
    match left_out {
        0 => return Err(Left::NothingToCut),
        1..=MOST_FRAMES => {}
        _ => return Err(Left::TooFar),
    }
    if copied.has_leading_pictures() {
        return Err(Left::LeadingPictures);
    }
    if recorded.lasts_from(cut) > copied.lasts_from(0).saturating_add(FRAME_NS) {
        return Err(Left::GoesOn);
    }
    let held = copied.coded(0..MOST_FRAMES)?;
    let own = recorded.coded(cut..recorded.frames.len())?;
    let first = |frames: &[Option<Coded>]| frames.first().copied().flatten();
    if first(&own).is_none() || first(&own) != first(&held) {
        return Err(Left::NotEqual);
    }
    let held: BTreeSet<(u64, u32)> = held.into_iter().flatten().map(told).collect();
    let is_held = |frame: &&Option<Coded>| frame.is_some_and(|frame| held.contains(&told(frame)));
    let equal = own.iter().filter(is_held).count();
    Ok(Cut { kept_frames: cut, left_out_frames: left_out, damaged_frames: left_out - equal })
}

fn told(frame: Coded) -> (u64, u32) {
    (frame.fingerprint, frame.bytes)
}

/// The frames of an open file, in decode order.
struct Frames {
    source: Source,
    container: Container,
    track: Track,
    codec: SliceCodec,
    length_bytes: u8,
    frames: Vec<Sample>,
}

impl Frames {
    fn open(file: &Path) -> Result<Frames, Left> {
        let failed = |source| Left::Source { file: file.to_owned(), source };
        let mut source = Source::open(file).map_err(failed)?;
        let primary = primary_track(&source.summary().tracks);
        let track = source.summary().tracks.get(primary).cloned().ok_or(Left::NoSlices)?;
        let codec = SliceCodec::of(track.codec).ok_or(Left::NoSlices)?;
        let length_bytes = length_bytes(&track).ok_or(Left::NoSlices)?;
        let container = source.summary().container;
        let mut frames = source.samples().map_err(failed)?;
        frames.retain(|sample| sample.track == primary);
        Ok(Frames { source, container, track, codec, length_bytes, frames })
    }

    /// Frames behind the first keyframe that are shown before it.
    fn has_leading_pictures(&self) -> bool {
        let Some(first) = self.frames.first() else { return false };
        let starts = first.starts_at(&self.track);
        self.frames.iter().any(|frame| frame.starts_at(&self.track) < starts)
    }

    /// From when a frame is shown until the last one is over.
    fn lasts_from(&self, frame: usize) -> i64 {
        let rest = self.frames.get(frame..).unwrap_or_default();
        let from = rest.iter().map(|frame| frame.starts_at(&self.track).0).min();
        let to = rest.iter().map(|frame| frame.ends_at(&self.track).0).max();
        from.zip(to).map_or(0, |(from, to)| to.saturating_sub(from))
    }

    /// What is coded in each; `None` where it is damaged.
    fn coded(&mut self, range: std::ops::Range<usize>) -> Result<Vec<Option<Coded>>, Left> {
        let range = range.start..range.end.min(self.frames.len());
        let chosen = self.frames.get(range).unwrap_or_default();
        let (_, mut reader) = self.source.media();
        let mut bytes = Vec::new();
        let read = chosen.iter().map(|sample| {
            let read = reader.read(&self.track, sample, &mut bytes).ok();
            read.and_then(|()| coded(self.codec, self.length_bytes, &bytes))
        });
        Ok(read.collect())
    }
}
