//! How fast data comes.

use std::time::Duration;

use super::MonotonicMicros;

/// Bytes per second over half a second or more at a time, each as heavy as all before it.
#[derive(Debug, Clone, Default)]
pub(super) struct Rate {
    estimate: Option<u64>,
    since: Option<MonotonicMicros>,
    bytes: u64,
}

impl Rate {
    const MEASURED_OVER: Duration = Duration::from_millis(500);

    /// `None` until it is known.
    pub(super) fn bytes_per_second(&self) -> Option<u64> {
        self.estimate
    }

    pub(super) fn received(&mut self, bytes: u64, now: MonotonicMicros) {
        let Some(since) = self.since else {
            // When the first bytes set out is not known: they only start the clock.
            self.since = Some(now);
            return;
        };
        self.bytes += bytes;
        let elapsed = now.since(since);
        if elapsed >= Self::MEASURED_OVER {
            let measured = u128::from(self.bytes) * 1_000_000 / elapsed.as_micros();
            let measured = u64::try_from(measured).unwrap_or(u64::MAX);
            self.estimate = Some(self.estimate.map_or(measured, |old| old / 2 + measured / 2));
            self.since = Some(now);
            self.bytes = 0;
        }
    }

    /// What comes next is not held back by the link, and is no measure of it.
    pub(super) fn pause(&mut self) {
        self.since = None;
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_ms(millis: u64) -> MonotonicMicros {
        MonotonicMicros(millis * 1000)
    }

    #[test]
    fn rate_is_known_after_half_a_second_and_halves_what_was_before() {
        let mut rate = Rate::default();
        rate.received(1_000_000, at_ms(0));
        rate.received(100, at_ms(499));
        assert_eq!(rate.bytes_per_second(), None);
        rate.received(400, at_ms(500));
        assert_eq!(rate.bytes_per_second(), Some(1000));
        rate.received(1500, at_ms(1000));
        assert_eq!(rate.bytes_per_second(), Some(2000));
    }

    #[test]
    fn pause_is_no_time_in_which_nothing_came() {
        let mut rate = Rate::default();
        rate.received(0, at_ms(0));
        rate.received(500, at_ms(500));
        rate.pause();
        rate.received(7, at_ms(60_000));
        rate.received(500, at_ms(60_500));
        assert_eq!(rate.bytes_per_second(), Some(1000));
    }
}
