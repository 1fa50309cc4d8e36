//! PES packets (ISO/IEC 13818-1, 2.4.3.6): the headers between a stream's bytes, and the times in them.

use super::packets::Packet;

/// Times have 33 bits.
pub(super) const WRAP_TICKS: i64 = 1 << 33;

/// What the header of a PES packet says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    /// All that comes before the stream's bytes. How many these are is left aside: of pictures the header need
    /// not say it, and what follows does.
    header_bytes: usize,
    /// When it is decoded and shown, of 33 bits each.
    pub(super) times: Option<(i64, i64)>,
}

impl Header {
    /// `None` where no stream's packet begins with `payload`.
    pub(super) fn parse(payload: &[u8]) -> Option<Header> {
        let &[0, 0, 1, _, _, _, marks, flags, length, ..] = payload else { return None };
        // Streams of other forms (table 2-21) have no such marks.
        (marks & 0xc0 == 0x80).then_some(())?;
        let shown = || time(payload.get(9..14)?);
        let times = match flags >> 6 {
            2 => shown().map(|shown| (shown, shown)),
            3 => payload.get(14..19).and_then(time).zip(shown()),
            _ => None,
        };
        Some(Header { header_bytes: 9 + usize::from(length), times })
    }
}

/// 33 bits between marker bits.
fn time(bytes: &[u8]) -> Option<i64> {
    let &[a, b, c, d, e] = bytes else { return None };
    let part = |high: u8, low: u8| i64::from(u16::from_be_bytes([high, low]) >> 1);
    Some(i64::from(a >> 1 & 7) << 30 | part(b, c) << 15 | part(d, e))
}

/// From one time to another the short way round.
pub(super) fn distance(from: i64, to: i64) -> i64 {
    let ahead = to.wrapping_sub(from).rem_euclid(WRAP_TICKS);
    if ahead >= WRAP_TICKS / 2 { ahead - WRAP_TICKS } else { ahead }
}

/// Takes the headers out of a stream's packets.
#[derive(Debug)]
pub(super) struct Bodies {
    /// Bytes of the header that are yet to come; `None` where what follows is of no packet that is known.
    header_left: Option<usize>,
}

impl Bodies {
    /// From the next header on.
    pub(super) fn from_next_header() -> Self {
        Bodies { header_left: None }
    }

    /// In the middle of a body.
    pub(super) fn within_body() -> Self {
        Bodies { header_left: Some(0) }
    }

    /// The stream's bytes in one of its packets, and how many of the payload's come before them.
    pub(super) fn of<'a>(&mut self, packet: &Packet<'a>) -> (usize, &'a [u8]) {
        if packet.begins {
            self.header_left = Header::parse(packet.payload).map(|header| header.header_bytes);
        }
        let length = packet.payload.len();
        let skip = self.header_left.map_or(length, |left| left.min(length));
        self.header_left = self.header_left.map(|left| left - skip);
        (skip, packet.payload.get(skip..).unwrap_or_default())
    }
}
