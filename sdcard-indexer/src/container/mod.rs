//! What a recording file holds: its tracks, its extent in time, its keyframes, its samples.
//!
//! Bounded-memory walkers over `Read + Seek`. No length read from a file is believed before it has been
//! checked against the file and a cap; nothing recurses; nothing panics.
//!
//! **Media time** is presentation time in nanoseconds since the first video sample of the segment in
//! decode order (the first sample of the first track where there is no video). It says nothing about
//! the wall clock: [`crate::segment`] puts the two together.

pub mod fmp4;
pub mod mp4;
pub mod track;

pub use track::{Codec, MediaTime, Sample, Track, TrackKind};

use std::io::{Read, Seek};

/// Formats that can be walked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, serde::Serialize, serde::Deserialize)]
pub enum Container {
    FragmentedMp4,
    Mp4,
}

/// Why a file, or the rest of it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    #[error("reading failed")]
    Io(#[from] std::io::Error),
    #[error("the file is empty")]
    Empty,
    #[error("not an MP4 file")]
    NotRecognised,
    #[error("the recording has no index (moov) yet: it is still being written, or was cut off")]
    NoIndex,
    #[error("no track holds a sample")]
    NoSamples,
    #[error("malformed at byte {offset}: {what}")]
    Malformed { offset: u64, what: &'static str },
    #[error("{what} at byte {offset} is larger than the {limit} this reader allows")]
    TooLarge { offset: u64, what: &'static str, limit: u64 },
}

/// What tier T1 knows of a file: from its head and its tail, without reading the media.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    pub container: Container,
    pub tracks: Vec<Track>,
    /// Extent of the primary (first video, else first) track, from media time zero.
    pub duration: std::time::Duration,
    /// Bytes from the start of the file that are whole: a torn tail lies beyond.
    pub whole_bytes: u64,
    /// The first sample of the primary track is a keyframe.
    pub starts_with_keyframe: bool,
    /// The file ends in the middle of a fragment or box.
    pub torn: bool,
    /// Recordings that follow one another in the file (a second `ftyp`/`moov`); 1 ordinarily.
    pub recordings: u32,
}

/// Tier T1. `file_bytes` is the size to believe: bytes past it do not exist.
pub fn summarise<R: Read + Seek>(reader: &mut R, file_bytes: u64) -> Result<Summary, ContainerError> {
    let _ = (reader, file_bytes);
    todo!()
}
