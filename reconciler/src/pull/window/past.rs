//! What a link was like when it was last in use.
//!
//! A device that comes out of a tunnel has a new connection, and mostly the same link. To feel the way up from
//! the first window again costs seconds of each minute; to believe what was, unasked, may flood a slower link.
//! So the first round trip is looked at, and then half of what was under way is dared.

use std::time::Duration;

use super::MonotonicMicros;
use super::round_trips::RoundTrips;

/// After this long another link is as likely. The draft leaves it to whoever implements it.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// "Saved congestion control parameters" of careful resume.
#[derive(Debug, Clone, Copy)]
pub(super) struct Past {
    /// What was under way without a queue.
    bytes: u64,
    round_trip: Duration,
    seen: MonotonicMicros,
}

impl Past {
    /// Of a window that had found its size.
    pub(super) fn of(bytes: u64, round_trips: &RoundTrips, seen: MonotonicMicros) -> Option<Past> {
        let (last, base) = (round_trips.last()?, round_trips.base()?);
        let held = u128::from(bytes) * base.as_micros() / last.as_micros().max(1);
        Some(Past { bytes: u64::try_from(held).ok()?, round_trip: base, seen })
    }

    /// The window to go on with, where the first round trip is that of the same link: no less than half and no
    /// more than twice as long (the draft allows ten times; what queues for others is not ours to add to).
    pub(super) fn worth(&self, round_trip: Duration, now: MonotonicMicros) -> Option<u64> {
        let alike = round_trip >= self.round_trip / 2 && round_trip <= self.round_trip * 2;
        (alike && now.since(self.seen) <= KEPT_FOR).then_some(self.bytes / 2)
    }
}
