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

/// How the bytes of a track's samples lie in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub enum Storage {
    /// Each sample in one piece, as MP4 has it.
    Contiguous,
    /// In the MPEG-TS packets whose PID is the track's id, as the elementary stream has them.
    TransportPackets {
        /// From one packet to the next: 188, or 192 with a time stamp before each.
        stride: u8,
    },
}

impl Storage {
    /// Whether it can be read.
    pub(crate) fn is_known(self) -> bool {
        matches!(self, Storage::Contiguous | Storage::TransportPackets { stride: 188 | 192 })
    }
}

/// One track, with what a decoder needs to use it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Track {
    /// In MPEG-TS, the PID.
    pub track_id: u32,
    pub kind: TrackKind,
    pub codec: Codec,
    /// Ticks per second; never zero.
    pub timescale: u32,
    /// A whole `stsd` box (sample entries with their parameter sets), as it stands in the file or as it was
    /// made from what does; capped.
    pub sample_description: Vec<u8>,
    /// Picture size in pixels; zero where there is none.
    pub width: u16,
    pub height: u16,
    /// The track's presentation ticks at media time zero of the segment, edit list applied; rounded to
    /// the track's nearest tick where another track sets the zero.
    pub zero_ticks: i64,
    pub storage: Storage,
}

impl Track {
    /// Where presentation `ticks` of this track stand in the segment's media time.
    pub fn media_time(&self, ticks: i64) -> MediaTime {
        let nanos =
            (i128::from(ticks) - i128::from(self.zero_ticks)) * i128::from(NANOS_PER_SECOND);
        MediaTime(saturated(nanos.div_euclid(i128::from(self.timescale.max(1)))))
    }

    /// The presentation ticks of this track nearest to `time`.
    pub(super) fn ticks_at(&self, time: MediaTime) -> i64 {
        rescale(time.0, NANOS_PER_SECOND, self.timescale).saturating_add(self.zero_ticks)
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
    /// Bytes of it as MP4 has them.
    pub size_bytes: u32,
    /// Its first byte in the file; in MPEG-TS that of the packet in which it begins.
    pub offset: u64,
    pub keyframe: bool,
    /// How to find it, where the track's [`Storage`] is in packets.
    pub packets: Option<Packets>,
}

/// A sample that is spread over packets, other tracks' between them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packets {
    /// Bytes of the first packet's payload that come before the sample.
    pub skip: u8,
    /// Bytes of the sample in the elementary stream.
    pub elementary_bytes: u32,
    /// From the first byte of its first packet to one past the last of its last.
    pub stored_bytes: u32,
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

    /// One past its last byte in the file.
    pub fn end_offset(&self) -> u64 {
        let stored_bytes = self.packets.map_or(self.size_bytes, |packets| packets.stored_bytes);
        self.offset.saturating_add(u64::from(stored_bytes))
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
