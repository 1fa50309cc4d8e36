//! Where one recording in a file ends and the next begins, and the one clock of all its streams.
//!
//! MPEG-TS has no mark for it: recordings that were put one behind the other show in other streams, or in a clock
//! that leaps. Every cursor of a recording has a watch of its own, which sees the same packets and so finds the
//! same end.

use super::packets::Packet;
use super::pes::{self, Header};
use super::tables::{Stream, Table, Tables};

/// Ticks of the clock in a second (ISO/IEC 13818-1, 2.4.2.2).
pub(super) const TICKS_PER_SECOND: u32 = 90_000;
/// A stream whose decode times go back further is another recording's: within one they never do, but for
/// recorders that are not careful.
const MOST_BACKWARDS_TICKS: i64 = TICKS_PER_SECOND as i64 / 2;
/// Further from all that was seen lies another clock. Streams are less apart than this, however they are interleaved.
pub(super) const MOST_APART_TICKS: i64 = 10 * TICKS_PER_SECOND as i64;

/// A clock that begins so shortly before it wraps begins below zero.
const SOON_TICKS: i64 = 60 * TICKS_PER_SECOND as i64;

/// When an access unit is decoded and shown, in ticks that go on where 33 bits wrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Times {
    pub(super) decoded: i64,
    pub(super) shown: i64,
}

/// What a packet is to a recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// Of one of its streams; with times, where it begins a PES packet that has them.
    Media(Option<Times>),
    Other,
    /// It, or what stands shortly before it, is no longer of this recording: that begins here.
    Next(u64),
}

#[derive(Debug)]
pub(super) struct Watch {
    tables: Tables,
    streams: Vec<(Stream, Option<i64>)>,
    /// Where the recording begins.
    start: u64,
    /// The latest decode time of any stream that is known for what it is.
    clock: Option<i64>,
    /// The table since which there was no media: where these belong to the next recording, so does it.
    tables_at: Option<u64>,
}

impl Watch {
    pub(super) fn new(streams: &[Stream], start: u64) -> Self {
        Watch {
            tables: Tables::default(),
            streams: streams.iter().map(|stream| (*stream, None)).collect(),
            start,
            clock: None,
            tables_at: None,
        }
    }

    /// The clock has been seen before, elsewhere.
    pub(super) fn goes_on_from(&mut self, clock: i64) {
        self.clock = Some(clock);
    }

    pub(super) fn clock(&self) -> Option<i64> {
        self.clock
    }

    pub(super) fn see(&mut self, packet: &Packet<'_>) -> Seen {
        let entry = self.streams.iter_mut().find(|(stream, _)| stream.pid == packet.pid);
        if let Some((stream, last)) = entry {
            let header = if packet.begins { Header::parse(packet.payload) } else { None };
            // What a stream is not known to be may have times of its own making.
            let clock = if stream.guessed { last.or(self.clock) } else { self.clock };
            let times = header.and_then(|header| header.times);
            let times = times.map(|(decoded, shown)| unwrap(clock, decoded, shown));
            if let Some(Times { decoded, .. }) = times {
                let clock = clock.unwrap_or(decoded);
                let earliest =
                    last.map_or(clock - MOST_APART_TICKS, |last| last - MOST_BACKWARDS_TICKS);
                *last = Some(decoded);
                if !stream.guessed {
                    if !(earliest..=clock + MOST_APART_TICKS).contains(&decoded) {
                        return self.next_at(packet);
                    }
                    self.clock = Some(clock.max(decoded));
                }
            }
            self.tables_at = None;
            return Seen::Media(times);
        }
        match self.tables.push(packet) {
            Some(Table::Association) => self.tables_at = Some(packet.offset),
            Some(Table::Map(streams)) if !self.is_of(&streams) => return self.next_at(packet),
            _ => {}
        }
        Seen::Other
    }

    fn is_of(&self, streams: &[Stream]) -> bool {
        streams.iter().eq(self.streams.iter().map(|(stream, _)| stream))
    }

    fn next_at(&self, packet: &Packet<'_>) -> Seen {
        Seen::Next(self.tables_at.filter(|at| *at > self.start).unwrap_or(packet.offset))
    }
}

fn unwrap(clock: Option<i64>, decoded: i64, shown: i64) -> Times {
    let composition = pes::distance(decoded, shown);
    let decoded = match clock {
        Some(clock) => clock + pes::distance(clock, decoded),
        // Counts up to zero, as in ffmpeg: frames that take no whole ticks fall on the same ones.
        None if decoded > pes::WRAP_TICKS - SOON_TICKS => decoded - pes::WRAP_TICKS,
        None => decoded,
    };
    Times { decoded, shown: decoded + composition }
}
