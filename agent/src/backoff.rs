//! How long to wait before the next attempt to connect. Pure.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
/// Short, since a train that leaves a tunnel is waited for; a refused connection costs next to nothing.
const LONGEST: Duration = Duration::from_secs(5);
/// A link that held so long was a good one.
const HEALTHY: Duration = Duration::from_secs(60);

/// Doubles with every failure; a random half of it keeps a fleet from returning all at once.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

impl Backoff {
    pub const fn new() -> Self {
        Backoff { next: FIRST }
    }

    /// The pause after an attempt, from its begin to the loss of its link; `random` is any number.
    pub fn after(&mut self, lasted: Duration, random: u64) -> Duration {
        if lasted >= HEALTHY {
            self.next = FIRST;
        }
        let longest = self.next;
        self.next = (longest * 2).min(LONGEST);
        longest / 2 + (longest / 2).mul_f64(random as f64 / u64::MAX as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_half_a_second_to_five() {
        let mut backoff = Backoff::new();
        let pauses: Vec<u64> =
            (0..6).map(|_| backoff.after(Duration::ZERO, u64::MAX).as_millis() as u64).collect();
        assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 5_000, 5_000]);
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
