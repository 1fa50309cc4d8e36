//! The samples of a part in few bytes: 2 to 3 a sample, 5 with B-frames, and 6 more where they lie in packets.
//!
//! Each track's samples stand one after the other, in decode order, each as what differs from what was to be
//! expected after the one before:
//!
//! ```text
//! sample = varint(size << 5 | flags)
//!          [zigzag varint: offset - end of the sample before]         flag 2
//!          [zigzag varint: decode time - end of the sample before]    flag 4
//!          [varint: duration, if not that of the sample before]       flag 8
//!          [zigzag varint: composition offset, likewise]              flag 16
//!          [varint: skip; zigzag varint: elementary bytes - size;
//!           varint: stored bytes - elementary bytes]                  of a track in packets
//! ```
//!
//! Flag 1 marks a keyframe. Varints are LEB128. Before a track's first sample all is zero, but the offset is
//! [`SampleTable::origin`].

use serde::{Deserialize, Serialize};

use super::CutError;
use crate::container::{Packets, Sample, Storage, Track};

const KEYFRAME: u64 = 1;
const GAP: u64 = 2;
const JUMP: u64 = 4;
const DURATION: u64 = 8;
const COMPOSITION: u64 = 16;
const FLAG_BITS: u32 = 5;

/// A part's samples, encoded.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct SampleTable {
    /// Offset in the part that every track's first sample is counted from.
    origin: u64,
    /// By track.
    tracks: Vec<Vec<u8>>,
}

/// What the next sample is expected to be.
#[derive(Clone, Copy, Default, Debug)]
struct Expected {
    offset: u64,
    decode_ticks: i64,
    duration: u32,
    composition_offset: i32,
}

impl Expected {
    fn after(sample: &Sample) -> Self {
        Expected {
            offset: sample.end_offset(),
            decode_ticks: sample.decode_ticks.wrapping_add(i64::from(sample.duration)),
            duration: sample.duration,
            composition_offset: sample.composition_offset,
        }
    }
}

#[derive(Debug)]
pub(super) struct TableWriter {
    origin: u64,
    tracks: Vec<(Vec<u8>, Expected)>,
}

impl TableWriter {
    /// Offsets are counted from `origin`, which must not lie before the part.
    pub(super) fn new(tracks: usize, origin: u64) -> Self {
        let first = Expected { offset: origin, ..Expected::default() };
        TableWriter { origin, tracks: vec![(Vec::new(), first); tracks] }
    }

    pub(super) fn push(&mut self, sample: &Sample) {
        let Some((bytes, expected)) = self.tracks.get_mut(sample.track) else { return };
        // A sample without bytes lies nowhere: it is put where none is missed.
        let offset = if sample.size_bytes > 0 { sample.offset } else { expected.offset };
        let gap = offset.wrapping_sub(expected.offset) as i64;
        let jump = sample.decode_ticks.wrapping_sub(expected.decode_ticks);
        let fields = [
            (GAP, gap != 0, zigzag(gap)),
            (JUMP, jump != 0, zigzag(jump)),
            (DURATION, sample.duration != expected.duration, u64::from(sample.duration)),
            (
                COMPOSITION,
                sample.composition_offset != expected.composition_offset,
                zigzag(i64::from(sample.composition_offset)),
            ),
        ];
        let keyframe = if sample.keyframe { KEYFRAME } else { 0 };
        let flags = fields
            .iter()
            .filter(|(_, present, _)| *present)
            .fold(keyframe, |flags, (flag, ..)| flags | flag);
        write_varint(bytes, u64::from(sample.size_bytes) << FLAG_BITS | flags);
        for (_, _, value) in fields.into_iter().filter(|(_, present, _)| *present) {
            write_varint(bytes, value);
        }
        if let Some(Packets { skip, elementary_bytes, stored_bytes }) = sample.packets {
            write_varint(bytes, skip.into());
            write_varint(bytes, zigzag(i64::from(elementary_bytes) - i64::from(sample.size_bytes)));
            write_varint(bytes, stored_bytes.saturating_sub(elementary_bytes).into());
        }
        *expected = Expected::after(&Sample { offset, ..*sample });
    }

    /// `part_start` is where the part begins in the file.
    pub(super) fn finish(self, part_start: u64) -> SampleTable {
        SampleTable {
            origin: self.origin.saturating_sub(part_start),
            tracks: self.tracks.into_iter().map(|(bytes, _)| bytes).collect(),
        }
    }
}

impl SampleTable {
    pub(super) fn tracks(&self) -> usize {
        self.tracks.len()
    }

    /// All samples, track after track, with offsets in the part. `tracks` are those that it was written for.
    pub(super) fn samples(
        &self,
        tracks: &[Track],
    ) -> impl Iterator<Item = Result<Sample, CutError>> {
        self.tracks.iter().zip(tracks).enumerate().flat_map(|(index, (bytes, track))| TableReader {
            track: index,
            in_packets: track.storage != Storage::Contiguous,
            rest: bytes,
            expected: Expected { offset: self.origin, ..Expected::default() },
        })
    }
}

/// Ends after the first error.
struct TableReader<'a> {
    track: usize,
    in_packets: bool,
    rest: &'a [u8],
    expected: Expected,
}

impl Iterator for TableReader<'_> {
    type Item = Result<Sample, CutError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let sample = self.read();
        match &sample {
            Some(sample) => self.expected = Expected::after(sample),
            None => self.rest = &[],
        }
        Some(sample.ok_or(CutError::Malformed("a sample")))
    }
}

impl TableReader<'_> {
    fn read(&mut self) -> Option<Sample> {
        let head = self.read_varint()?;
        let mut field =
            |flag| if head & flag == 0 { Some(None) } else { self.read_varint().map(Some) };
        let gap = field(GAP)?.map_or(0, unzigzag);
        let jump = field(JUMP)?.map_or(0, unzigzag);
        let duration = field(DURATION)?;
        let composition = field(COMPOSITION)?.map(unzigzag);
        let size_bytes = u32::try_from(head >> FLAG_BITS).ok()?;
        let packets = if self.in_packets { Some(self.read_packets(size_bytes)?) } else { None };
        let expected = self.expected;
        Some(Sample {
            track: self.track,
            decode_ticks: expected.decode_ticks.wrapping_add(jump),
            composition_offset: match composition {
                Some(offset) => i32::try_from(offset).ok()?,
                None => expected.composition_offset,
            },
            duration: match duration {
                Some(duration) => u32::try_from(duration).ok()?,
                None => expected.duration,
            },
            size_bytes,
            offset: expected.offset.wrapping_add_signed(gap),
            keyframe: head & KEYFRAME != 0,
            packets,
        })
    }

    fn read_packets(&mut self, size_bytes: u32) -> Option<Packets> {
        let skip = u8::try_from(self.read_varint()?).ok()?;
        let longer = unzigzag(self.read_varint()?);
        let elementary_bytes = u32::try_from(i64::from(size_bytes).checked_add(longer)?).ok()?;
        let around = u32::try_from(self.read_varint()?).ok()?;
        let stored_bytes = elementary_bytes.checked_add(around)?;
        Some(Packets { skip, elementary_bytes, stored_bytes })
    }

    fn read_varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

fn write_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
