//! Tracks and samples, in the words of ISO/IEC 14496-12, whatever the container.

use serde::{Deserialize, Serialize};

/// Presentation time in nanoseconds since media time zero of a segment; see [`super`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaTime(pub i64);

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub enum TrackKind {
    Video,
    Audio,
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub enum Codec {
    H264,
    H265,
    Aac,
    Opus,
    /// G.711 A-law.
    Pcma,
    /// G.711 mu-law.
    Pcmu,
    /// The sample entry's four-character code, as written in the file.
    Other([u8; 4]),
}

/// One track, with what a decoder needs to use it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Track {
    pub track_id: u32,
    pub kind: TrackKind,
    pub codec: Codec,
    /// Ticks per second; never zero.
    pub timescale: u32,
    /// The whole `stsd` box as it stands in the file (sample entries with their parameter sets); capped.
    pub sample_description: Vec<u8>,
    /// Picture size in pixels; zero where there is none.
    pub width: u16,
    pub height: u16,
    /// Fragment defaults (`trex`); zero in plain MP4.
    pub default_duration: u32,
    pub default_size: u32,
    pub default_flags: u32,
    /// The track's presentation ticks at media time zero of the segment.
    pub zero_ticks: i64,
}

/// One access unit: where it lies and when it is shown. Times in the track's ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Index into the tracks of the summary.
    pub track: usize,
    /// Decode time, as the container numbers it.
    pub decode_ticks: i64,
    /// Presentation minus decode time.
    pub composition_offset: i32,
    pub duration: u32,
    pub size_bytes: u32,
    pub offset: u64,
    pub keyframe: bool,
}
