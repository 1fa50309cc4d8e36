//! How long to wait before the next attempt to connect. Pure.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
/// Short, since a train that leaves a tunnel is waited for; a refused connection costs next to nothing.
const LONGEST_AT_FIRST: Duration = Duration::from_secs(1);
/// After so long it is more likely the broker that is away, and a whole fleet that waits for it.
const AT_FIRST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(5);
/// A link that held so long was a good one.
const HEALTHY: Duration = Duration::from_secs(60);

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

    /// The pause after an attempt, from its begin to the loss of its link; `random` is any number.
    pub fn after(&mut self, lasted: Duration, random: u64) -> Duration {
        if lasted >= HEALTHY {
            *self = Backoff::new();
        } else {
            self.failing = self.failing.saturating_add(lasted);
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

    #[test]
    fn a_tunnel_is_tried_each_second_and_a_broker_that_is_away_each_five() {
        let mut backoff = Backoff::new();
        let mut pause = || backoff.after(Duration::ZERO, u64::MAX).as_millis();
        assert_eq!([pause(), pause(), pause()], [500, 1_000, 1_000]);
        let tried = (3..).take_while(|_| pause() == 1_000).count() + 3;
        assert_eq!(tried, 62);
        assert_eq!([pause(), pause(), pause()], [4_000, 5_000, 5_000]);
    }

    #[test]
    fn an_attempt_that_hangs_counts_as_time_without_a_link() {
        let mut backoff = Backoff::new();
        backoff.after(AT_FIRST / 2, 0);
        backoff.after(AT_FIRST / 2, 0);
        assert_eq!(backoff.after(Duration::ZERO, u64::MAX), FIRST * 4);
    }

    #[test]
    fn a_healthy_link_starts_over_and_chance_takes_up_to_half() {
        let mut backoff = Backoff::new();
        backoff.after(Duration::ZERO, 0);
        backoff.after(Duration::ZERO, 0);
        assert_eq!(backoff.after(HEALTHY, 0), FIRST / 2);
        assert_eq!(backoff.after(Duration::ZERO, 0), FIRST);
    }
}
