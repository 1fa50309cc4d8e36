//! Tracks and samples, in the words of ISO/IEC 14496-12, whatever the container.

use serde::{Deserialize, Serialize};

pub(super) const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// Presentation time in nanoseconds since media time zero of a segment; see [`super`].
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash, Serialize, Deserialize,
)]
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

impl Codec {
    pub(super) fn of_sample_entry(kind: [u8; 4]) -> Self {
        match &kind {
            b"avc1" | b"avc3" => Codec::H264,
            b"hvc1" | b"hev1" => Codec::H265,
            b"mp4a" => Codec::Aac,
            b"Opus" => Codec::Opus,
            b"alaw" => Codec::Pcma,
            b"ulaw" => Codec::Pcmu,
            _ => Codec::Other(kind),
        }
    }
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
    /// The track's presentation ticks at media time zero of the segment, edit list applied; rounded to
    /// the track's nearest tick where another track sets the zero.
    pub zero_ticks: i64,
}

impl Track {
    /// Where presentation `ticks` of this track stand in the segment's media time.
    pub fn media_time(&self, ticks: i64) -> MediaTime {
        let nanos =
            (i128::from(ticks) - i128::from(self.zero_ticks)) * i128::from(NANOS_PER_SECOND);
        MediaTime(saturated(nanos.div_euclid(i128::from(self.timescale.max(1)))))
    }
}

/// One access unit: where it lies and when it is shown. Times in the track's ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Index into the tracks of the recording.
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

impl Sample {
    pub fn presentation_ticks(&self) -> i64 {
        self.decode_ticks.saturating_add(i64::from(self.composition_offset))
    }

    /// When it is first shown or heard; `track` is its own.
    pub fn starts_at(&self, track: &Track) -> MediaTime {
        track.media_time(self.presentation_ticks())
    }

    pub fn ends_at(&self, track: &Track) -> MediaTime {
        track.media_time(self.presentation_ticks().saturating_add(i64::from(self.duration)))
    }

    /// One past its last byte.
    pub fn end_offset(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.size_bytes))
    }
}

/// From ticks of one scale to the nearest of another; saturates.
pub fn rescale(ticks: i64, from: u32, to: u32) -> i64 {
    let from = i128::from(from.max(1));
    saturated((i128::from(ticks) * i128::from(to) + from / 2).div_euclid(from))
}

fn saturated(value: i128) -> i64 {
    value.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}
