//! Playback: the archive as one piece of footage, whoever recorded its files.
//!
//! A view over segments, never a change to them. In the order of the data: [`find_seams`] reads where live
//! recordings and pieces from the card hold the same frames, [`view`] says which part of which segment is played
//! when, so that every frame is played once, [`export`] writes any range of that as one MP4. For players, a
//! [`Programme`] says which fragments a range is made of: [`playlist`] lists them for HLS, a [`SeekableFile`] has them
//! in one MP4, a [`Projector`] makes their bytes when they are wanted. [`Player`] does all that in the running server.
//!
//! A recorder's own playback (MediaMTX's, a folder of ffmpeg's) knows nothing of that, and plays the archive's files
//! one after the other. There, an overlap remains: a piece begins with the keyframe at or before the hole and ends
//! before the one at or behind it, so that it holds again what is live of the group of pictures that the hole begins
//! in, and of the one that it ends in. Up to a group on either side is played twice, or cut short, as the recorder
//! does it. No hole remains: what a live file holds before its first keyframe cannot be played, and is in the piece.

mod export;
mod hls;
mod links;
mod meetings;
mod player;
mod programme;
mod projector;
mod reel;
mod seekable;
mod segments;
mod shelf;
mod still;
mod view;

use std::path::PathBuf;
use std::time::Duration;

use sdcard_indexer::container::MediaTime;
use sdcard_indexer::time::{TimeRange, Timestamp};

use crate::seam::{Bound, Seam};
use crate::timeline::Recorder;

pub use export::{ExportError, Exported, ExportedSeam, Witness, Written, export, export_before};
pub use hls::{HOLE_CLASS, Reference, playlist};
pub use links::Seams;
pub use meetings::{
    Attempt, Cost, FoundSeams, Look, Looks, SeamSearch, Unmet, find_new_seams, find_seams,
};
pub use player::{Media, MediaStream, PlayError, Player};
pub use programme::{Edition, NoEdition, Programme, ProgrammeError, Segment, TakeError};
pub use projector::{Projector, Reels, reels};
pub use seekable::SeekableFile;
pub use segments::segments;
pub use shelf::Shelf;
pub use still::{Still, still};
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
