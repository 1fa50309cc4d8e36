//! The way back from a stream's bytes to the file: where the last of them stand, and which times go with them.

use std::collections::VecDeque;

use super::packets::Packet;
use super::watch::Times;

/// Bytes that can be found again: no header or start code that is looked at before its unit is known to begin is
/// longer.
pub(super) const TRACED_BYTES: u64 = 512;
/// Beginnings of PES packets that wait for a unit: in one unit there is ordinarily one.
const MAX_WAITING_TIMES: usize = 16;

/// Where in the file a byte of a stream stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// Of the packet.
    pub(super) offset: u64,
    /// One past the packet.
    pub(super) end: u64,
    /// Bytes of the packet's payload before it.
    pub(super) skip: u8,
}

/// Counts a stream's bytes. A byte's number is its place in the stream.
#[derive(Default, Debug)]
pub(super) struct Trail {
    /// Each with the number of its first byte.
    packets: VecDeque<(u64, Place)>,
    bytes: u64,
    /// Times, with the number of the byte that they stand before.
    times: VecDeque<(u64, Times)>,
}

impl Trail {
    /// The number of the next byte.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What follows are the packet's bytes from `skip` on, `length` of them; a unit that begins in them has these
    /// `times`.
    pub(super) fn enter(
        &mut self,
        packet: &Packet<'_>,
        skip: usize,
        length: usize,
        times: Option<Times>,
    ) {
        if let Some(times) = times {
            if self.times.len() == MAX_WAITING_TIMES {
                self.times.pop_front();
            }
            self.times.push_back((self.bytes, times));
        }
        if length == 0 {
            return;
        }
        while self.packets.get(1).is_some_and(|(first, _)| first + TRACED_BYTES < self.bytes) {
            self.packets.pop_front();
        }
        let skip = u8::try_from(skip).unwrap_or(u8::MAX);
        self.packets
            .push_back((self.bytes, Place { offset: packet.offset, end: packet.end, skip }));
        self.bytes += length as u64;
    }

    /// Where a byte stands, if it is not long ago.
    pub(super) fn place(&self, number: u64) -> Option<Place> {
        let (first, place) = self.packets.iter().rev().find(|(first, _)| *first <= number)?;
        let skip = u64::from(place.skip) + (number - first);
        Some(Place { skip: u8::try_from(skip).ok()?, ..*place })
    }

    /// The times of the unit that begins with byte `number`: those of the PES packet of which it is the first to
    /// begin (ISO/IEC 13818-1, 2.4.3.7).
    pub(super) fn times(&mut self, number: u64) -> Option<Times> {
        let mut times = None;
        while let Some((_, next)) = self.times.front().filter(|(before, _)| *before <= number) {
            times = Some(*next);
            self.times.pop_front();
        }
        times
    }
}
