//! How long to wait before the next attempt to connect. Pure.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
/// Short, since a train that leaves a tunnel is waited for; a refused connection costs next to nothing.
const LONGEST_AT_FIRST: Duration = Duration::from_millis(500);
/// After so long it is more likely the broker that is away, and a whole fleet that waits for it.
const AT_FIRST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(5);
/// A link that held so long was a good one: what ended it is new.
const HEALTHY: Duration = Duration::from_secs(10);

/// How an attempt to connect ended, be it before or after it succeeded.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// From its begin to the loss of its link.
    pub lasted: Duration,
    /// There was a link.
    pub was_connected: bool,
}

/// Doubles with every failure; a random half of it keeps a fleet from returning all at once.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    /// Since the last good link.
    failing: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

impl Backoff {
    pub const fn new() -> Self {
        Backoff { next: FIRST, failing: Duration::ZERO }
    }

    /// The pause after an attempt; `random` is any number.
    pub fn after(&mut self, ended: Ended, random: u64) -> Duration {
        if ended.was_connected && ended.lasted >= HEALTHY {
            *self = Backoff::new();
        } else {
            self.failing = self.failing.saturating_add(ended.lasted);
        }
        let most = if self.failing < AT_FIRST { LONGEST_AT_FIRST } else { LONGEST };
        let longest = self.next;
        self.next = (longest * 2).min(most);
        let pause = longest / 2 + (longest / 2).mul_f64(random as f64 / u64::MAX as f64);
        self.failing = self.failing.saturating_add(pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Ended = Ended { lasted: Duration::ZERO, was_connected: false };
    const HANGS: Ended = Ended { lasted: Duration::from_secs(30), was_connected: false };
    const FLAPS: Ended = Ended { lasted: Duration::from_secs(5), was_connected: true };
    const HELD: Ended = Ended { lasted: Duration::from_secs(50), was_connected: true };

    #[test]
    fn a_tunnel_is_tried_twice_a_second_and_a_broker_that_is_away_each_five_seconds() {
        let mut backoff = Backoff::new();
        let mut pause = || backoff.after(REFUSED, u64::MAX).as_millis();
        assert_eq!([pause(), pause(), pause()], [250, 500, 500]);
        let tried = (3..).take_while(|_| pause() == 500).count() + 3;
        assert_eq!(tried, 122);
        assert_eq!([pause(), pause(), pause()], [2_000, 4_000, 5_000]);
    }

    #[test]
    fn an_attempt_that_hangs_counts_as_time_without_a_link() {
        let mut backoff = Backoff::new();
        backoff.after(HANGS, 0);
        backoff.after(HANGS, 0);
        assert_eq!(backoff.after(REFUSED, u64::MAX), FIRST * 4);
    }

    #[test]
    fn a_link_that_comes_and_goes_is_no_good_one() {
        let mut backoff = Backoff::new();
        let last = (0..20).map(|_| backoff.after(FLAPS, u64::MAX)).last();
        assert_eq!(last, Some(LONGEST));
    }

    #[test]
    fn a_link_that_held_starts_over_each_time_and_chance_takes_up_to_half() {
        let mut backoff = Backoff::new();
        for _ in 0..3 {
            assert_eq!(backoff.after(HELD, 0), FIRST / 2);
            assert_eq!(backoff.after(REFUSED, 0), FIRST);
        }
    }
}
