//! Playback: the archive as one piece of footage, whoever recorded its files.
//!
//! A view over segments, never a change to them: [`view`] says which part of which segment is played when,
//! so that every frame is played once; [`export`] writes any range of that as one MP4.

mod export;
mod view;

use std::path::PathBuf;

use sdcard_indexer::time::TimeRange;

use crate::seam::Seam;
use crate::timeline::Recorder;

pub use export::{ExportError, Exported, export};
pub use view::{Tolerances, view};

/// A file of the archive. `range` begins at the instant of its media time zero.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ArchivedSegment {
    pub file: PathBuf,
    pub range: TimeRange,
    pub by: Recorder,
}

/// The part of a segment that is played.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run<'a> {
    pub segment: &'a ArchivedSegment,
    /// Within the segment's; where it is shorter, another run plays what lies beyond.
    pub range: TimeRange,
    /// How it meets the run before; `None` where there is none, or a hole between them.
    pub seam: Option<Seam>,
}
