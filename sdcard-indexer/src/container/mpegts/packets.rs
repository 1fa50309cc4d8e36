//! Transport packets (ISO/IEC 13818-1, 2.4.3): where they stand, and what they carry.
//!
//! Reads a stretch of the file at a time, forwards. Where the packets do not follow one another any more, it looks
//! for the next ones within a bound. Which packet follows which is told from their own bytes and one sync byte
//! behind: so the same packets are found in a part cut out of the file.

use std::io::{Read, Seek};

use super::super::ContainerError;
use super::super::boxes::Source;

const SYNC: u8 = 0x47;
const PACKET_BYTES: u8 = 188;
/// With the four bytes of arrival time before each packet that M2TS has.
const STAMPED_PACKET_BYTES: u8 = 192;
/// What one read of the card fetches.
const READ_BYTES: usize = 32 * 1024;
/// Bytes without packets that are passed over: what a card loses at once is at most an allocation unit, 4 MiB.
const MAX_LOST_BYTES: u64 = 4 * 1024 * 1024;
/// Packets in a row that make a file one of transport packets, and among how many bytes they are looked for.
const ROW: usize = 4;
const RECOGNISED_WITHIN_BYTES: usize = 8 * 1024;

/// How a file's packets stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) struct Grid {
    /// Where the first of them begins.
    pub(super) first: u64,
    /// From one to the next.
    pub(super) stride: u8,
}

impl Grid {
    /// `None` where no row of packets is in the head of the file.
    pub(in super::super) fn find<R: Read + Seek>(
        source: &mut Source<'_, R>,
    ) -> Result<Option<Grid>, ContainerError> {
        let mut head = Vec::new();
        let length = usize::try_from(source.end).unwrap_or(usize::MAX);
        source.read_into(0, length.min(RECOGNISED_WITHIN_BYTES), &mut head)?;
        let begins_row = |first: usize, stride: u8| {
            let mut row = head.get(first + lead(stride)..).unwrap_or_default();
            let mut sync = || {
                let found = row.first() == Some(&SYNC) && row.len() >= usize::from(PACKET_BYTES);
                row = row.get(usize::from(stride)..).unwrap_or_default();
                found
            };
            (0..ROW).all(|_| sync())
        };
        let found = (0..head.len()).find_map(|first| {
            let strides = [PACKET_BYTES, STAMPED_PACKET_BYTES].into_iter();
            strides.map(|stride| (first, stride)).find(|&(first, stride)| begins_row(first, stride))
        });
        Ok(found.map(|(first, stride)| Grid { first: first as u64, stride }))
    }
}

/// Bytes before a packet's sync byte.
fn lead(stride: u8) -> usize {
    usize::from(stride.saturating_sub(PACKET_BYTES))
}

/// One packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    pub(super) offset: u64,
    /// One past its last byte.
    pub(super) end: u64,
    pub(super) pid: u16,
    /// A PES packet, or a table, begins in its payload.
    pub(super) begins: bool,
    pub(super) payload: &'a [u8],
}

impl<'a> Packet<'a> {
    fn parse(offset: u64, stride: u8, bytes: &'a [u8]) -> Option<Packet<'a>> {
        let packet = bytes.get(lead(stride)..)?;
        let &[_, high, low, control, ..] = packet else { return None };
        // Of an adaptation field only the length matters here (2.4.3.4).
        let adaptation = if control & 0x20 != 0 { 1 + usize::from(*packet.get(4)?) } else { 0 };
        let payload = if control & 0x10 != 0 { packet.get(4 + adaptation..) } else { None };
        Some(Packet {
            offset,
            end: offset + u64::from(stride),
            pid: u16::from(high & 0x1f) << 8 | u16::from(low),
            begins: high & 0x40 != 0,
            payload: payload.unwrap_or_default(),
        })
    }
}

/// Hands out packets, one after the other.
#[derive(Debug)]
pub(super) struct PacketReader {
    stride: u8,
    /// Where the next packet is expected: all before it is whole.
    at: u64,
    /// No packet ends behind it.
    limit: u64,
    done: bool,
    /// What was read last, and where that begins.
    start: u64,
    bytes: Vec<u8>,
}

impl PacketReader {
    /// All packets from `at` on.
    pub(super) fn new(stride: u8, at: u64) -> Self {
        PacketReader::up_to(stride, at, u64::MAX)
    }

    /// Those that end at `limit` at the latest.
    pub(super) fn up_to(stride: u8, at: u64, limit: u64) -> Self {
        PacketReader { stride, at, limit, done: false, start: at, bytes: Vec::new() }
    }

    /// Where the next packet is expected. After the last, one past it.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The next packet; `None` where no further whole one is found.
    pub(super) fn next<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<Option<Packet<'_>>, ContainerError> {
        if self.done || !self.find_packet(source)? {
            self.done = true;
            return Ok(None);
        }
        let (offset, stride) = (self.at, self.stride);
        self.at += u64::from(stride);
        let length = usize::from(stride);
        Ok(self.held(offset, length).and_then(|bytes| Packet::parse(offset, stride, bytes)))
    }

    /// Goes to the next whole packet, and holds it; false where there is none.
    fn find_packet<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<bool, ContainerError> {
        if !self.load(source, self.at)? {
            return Ok(false);
        }
        if self.is_sync(self.at) {
            return Ok(true);
        }
        for at in (self.at..self.at.saturating_add(MAX_LOST_BYTES)).skip(1) {
            if !self.load(source, at)? {
                return Ok(false);
            }
            if !self.is_sync(at) {
                continue;
            }
            // The packet behind must stand there too, or be no whole one.
            let behind = at + u64::from(self.stride);
            let alone = !self.load(source, behind)?;
            if alone || self.is_sync(behind) {
                self.at = at;
                return self.load(source, at);
            }
        }
        Ok(false)
    }

    /// Makes sure that a whole packet at `at` is held; false where the file has none.
    fn load<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
        at: u64,
    ) -> Result<bool, ContainerError> {
        let stride = usize::from(self.stride);
        if self.held(at, stride).is_some() {
            return Ok(true);
        }
        let left =
            usize::try_from(source.end.min(self.limit).saturating_sub(at)).unwrap_or(usize::MAX);
        if left < stride {
            return Ok(false);
        }
        source.read_into(at, left.min(READ_BYTES), &mut self.bytes)?;
        self.start = at;
        Ok(true)
    }

    fn is_sync(&self, at: u64) -> bool {
        let packet = self.held(at, usize::from(self.stride));
        packet.and_then(|bytes| bytes.get(lead(self.stride))) == Some(&SYNC)
    }

    fn held(&self, at: u64, length: usize) -> Option<&[u8]> {
        let from = usize::try_from(at.checked_sub(self.start)?).ok()?;
        self.bytes.get(from..from.checked_add(length)?)
    }
}
