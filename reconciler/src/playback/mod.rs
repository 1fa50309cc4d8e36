//! Playback: the archive as one piece of footage, whoever recorded its files.
//!
//! A view over segments, never a change to them. In the order of the data: [`find_seams`] reads where live
//! recordings and pieces from the card hold the same frames, [`view`] says which part of which segment is played
//! when, so that every frame is played once, [`export`] writes any range of that as one MP4.
//!
//! A recorder's own playback (MediaMTX's, a folder of ffmpeg's) knows nothing of that, and plays the archive's files
//! one after the other. There, an overlap remains: a piece begins with the keyframe at or before the hole and ends
//! before the one at or behind it, so that it holds again what is live of the group of pictures that the hole begins
//! in, and of the one that it ends in. Up to a group on either side is played twice, or cut short, as the recorder
//! does it. No hole remains: what a live file holds before its first keyframe cannot be played, and is in the piece.

mod export;
mod links;
mod meetings;
mod view;

use std::path::PathBuf;
use std::time::Duration;

use sdcard_indexer::container::MediaTime;
use sdcard_indexer::time::{TimeRange, Timestamp};

use crate::seam::{Bound, Seam};
use crate::timeline::Recorder;

pub use export::{ExportError, Exported, ExportedSeam, export};
pub use links::Seams;
pub use meetings::{Attempt, Cost, FoundSeams, SeamSearch, Unmet, find_seams};
pub use view::{Tolerances, view};

/// A file of the archive. `range` begins at the instant of its media time zero.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ArchivedSegment {
    pub file: PathBuf,
    pub range: TimeRange,
    pub by: Recorder,
    /// How far before or behind `range` it may truly lie, as far as names and clocks tell.
    pub uncertainty: Duration,
}

/// The part of a segment that is played.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run<'a> {
    pub segment: &'a ArchivedSegment,
    /// When it is played, by the live recorders' clocks where it is known to the frame how these relate.
    pub range: TimeRange,
    /// The instant of the segment's media time zero, by the clock of `range`.
    pub zero_at: Timestamp,
    pub opens: Bound,
    pub closes: Bound,
    /// How it meets the run before; `None` where there is none, or a hole between them.
    pub seam: Option<Seam>,
}

impl Run<'_> {
    fn media_time(&self, instant: Timestamp) -> MediaTime {
        MediaTime(instant.nanos_from(self.zero_at))
    }
}
