//! Merging: pulled parts become files of the archive.
//!
//! In the order of the data: `join` puts samples on one clock, `fragment` writes them as fragmented
//! MP4, `place` proves the file and gives it its name. Never modifies or replaces a file that it did not
//! write itself.

use sdcard_indexer::container::{Track, TrackKind};

mod decoder;
mod fragment;
mod join;
mod place;
mod source;

pub use decoder::{length_bytes, same_decoder};
pub use fragment::{
    Cut, FragmentError, FragmentWriter, OutputSample, cut, file_head, fragment_head, of_lanes,
};
pub use join::{Joiner, Meets, counterpart};
pub(crate) use place::{Hashed, prove, write_hashed};
pub use place::{
    PieceRequest, PlaceError, Publication, Recovery, WrittenPiece, recover, write_piece,
};
pub use source::{FrameTable, Metered, Source, SourceError};

/// The track that leads: pieces are cut at its keyframes, and all others go with it. The first video track,
/// else the first.
pub fn primary_track(tracks: &[Track]) -> usize {
    tracks.iter().position(|track| track.kind == TrackKind::Video).unwrap_or(0)
}
