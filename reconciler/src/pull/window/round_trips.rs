//! How long data takes: now, and on the empty link.

use std::collections::VecDeque;
use std::time::Duration;

use super::MonotonicMicros;

/// Round trips, from a credit to the first data that tells of it. RFC 6817 takes one-way delays, which need
/// no way back; RFC 9840 shows how round trips serve a receiver that is alone in deciding. Here the way back
/// carries credit only and does not queue.
#[derive(Debug, Clone, Default)]
pub(super) struct RoundTrips {
    last: Option<Duration>,
    last_echo: MonotonicMicros,
    /// (number of the slice since the clock's origin, shortest in it); at most [`Self::SLICES`].
    shortest: VecDeque<(u64, Duration)>,
}

impl RoundTrips {
    /// RFC 6817, section 3.1.1, keeps the minimum of each minute for ten: so long would a device that has come
    /// to a longer way crawl. A minute is enough where the link is emptied every 30 s to be measured.
    const SLICE_MICROS: u64 = 10_000_000;
    const SLICES: u64 = 6;

    /// Only the first data with a given echo tells a round trip: the later ones waited for no credit.
    pub(super) fn sample(
        &mut self,
        echo: MonotonicMicros,
        now: MonotonicMicros,
    ) -> Option<Duration> {
        if echo <= self.last_echo || echo > now {
            return None;
        }
        self.last_echo = echo;
        let round_trip = now.since(echo);
        self.last = Some(round_trip);
        let slice = now.0 / Self::SLICE_MICROS;
        match self.shortest.back_mut() {
            Some((current, shortest)) if *current == slice => *shortest = round_trip.min(*shortest),
            _ => self.shortest.push_back((slice, round_trip)),
        }
        while self.shortest.front().is_some_and(|(old, _)| old + Self::SLICES <= slice) {
            self.shortest.pop_front();
        }
        Some(round_trip)
    }

    /// The last one, queueing included; `None` before the first.
    pub(super) fn last(&self) -> Option<Duration> {
        self.last
    }

    /// What a round trip takes where nothing queues; `None` before the first.
    pub(super) fn base(&self) -> Option<Duration> {
        self.shortest.iter().map(|(_, shortest)| *shortest).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_ms(millis: u64) -> MonotonicMicros {
        MonotonicMicros(millis * 1000)
    }

    #[test]
    fn echoes_that_cannot_be_true_are_no_round_trips() {
        let mut round_trips = RoundTrips::default();
        assert_eq!(round_trips.sample(at_ms(0), at_ms(10)), None);
        assert_eq!(round_trips.sample(at_ms(20), at_ms(10)), None);
        assert_eq!(round_trips.sample(at_ms(5), at_ms(10)), Some(Duration::from_millis(5)));
        assert_eq!(round_trips.sample(at_ms(5), at_ms(11)), None);
        assert_eq!(round_trips.sample(at_ms(4), at_ms(11)), None);
    }

    #[test]
    fn shortest_round_trip_is_forgotten_after_a_minute() {
        let mut round_trips = RoundTrips::default();
        round_trips.sample(at_ms(100), at_ms(110));
        for second in 1..=59 {
            round_trips.sample(at_ms(second * 1000), at_ms(second * 1000 + 90));
        }
        assert_eq!(round_trips.base(), Some(Duration::from_millis(10)));
        round_trips.sample(at_ms(60_000), at_ms(60_090));
        assert_eq!(round_trips.base(), Some(Duration::from_millis(90)));
    }
}
