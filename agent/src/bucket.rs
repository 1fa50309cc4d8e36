//! A token bucket over the never-stepping clock. Pure.

use protocol::message::BootMillis;

/// How much may be saved up: a quarter of a second of the rate.
const BURST_MS: u64 = 250;

/// Lends: it is ready while its level is above zero, and a take larger than the level leaves a debt that
/// time pays back. So a chunk larger than the burst passes, and the rate still holds on average.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Tokens per second; 0 means no limit.
    rate: u64,
    /// In thousandths of a token, so that whole milliseconds fill it without rounding.
    level_milli: i64,
    filled_at: BootMillis,
}

impl Bucket {
    pub fn new(rate: u64, now: BootMillis) -> Self {
        Bucket { rate, level_milli: burst_milli(rate), filled_at: now }
    }

    pub fn set_rate(&mut self, now: BootMillis, rate: u64) {
        if rate != self.rate {
            self.fill(now);
            let unlimited_before = self.rate == 0;
            self.rate = rate;
            let burst_milli = burst_milli(rate);
            let kept_milli = self.level_milli.min(burst_milli);
            self.level_milli = if unlimited_before { burst_milli } else { kept_milli };
        }
    }

    pub fn is_ready(&self, now: BootMillis) -> bool {
        self.rate == 0 || self.level_milli_at(now) > 0
    }

    pub fn take(&mut self, now: BootMillis, tokens: u64) {
        self.fill(now);
        if self.rate > 0 {
            let milli = i64::try_from(tokens.saturating_mul(1_000)).unwrap_or(i64::MAX);
            self.level_milli = self.level_milli.saturating_sub(milli);
        }
    }

    pub fn take_if_ready(&mut self, now: BootMillis, tokens: u64) -> bool {
        let ready = self.is_ready(now);
        if ready {
            self.take(now, tokens);
        }
        ready
    }

    /// The instant from which the bucket is ready if nothing more is taken.
    pub fn ready_at(&self) -> BootMillis {
        if self.rate == 0 || self.level_milli > 0 {
            return self.filled_at;
        }
        let missing_milli = self.level_milli.unsigned_abs().saturating_add(1);
        BootMillis(self.filled_at.0.saturating_add(missing_milli.div_ceil(self.rate)))
    }

    fn fill(&mut self, now: BootMillis) {
        self.level_milli = self.level_milli_at(now);
        self.filled_at = self.filled_at.max(now);
    }

    fn level_milli_at(&self, now: BootMillis) -> i64 {
        let elapsed_ms = now.0.saturating_sub(self.filled_at.0);
        let gained = i64::try_from(elapsed_ms.saturating_mul(self.rate)).unwrap_or(i64::MAX);
        self.level_milli.saturating_add(gained).min(burst_milli(self.rate))
    }
}

/// At least one token, or a slow rate could never become ready.
fn burst_milli(rate: u64) -> i64 {
    i64::try_from(rate.saturating_mul(BURST_MS).max(1_000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_of_zero_never_waits() {
        let mut bucket = Bucket::new(0, BootMillis(0));
        bucket.take(BootMillis(0), u64::MAX);
        assert!(bucket.is_ready(BootMillis(0)));
    }

    #[test]
    fn over_time_no_more_passes_than_rate_and_burst_allow() {
        let (rate, chunk) = (100_000, 64 * 1024);
        let mut bucket = Bucket::new(rate, BootMillis(0));
        let (mut now, mut taken) = (BootMillis(0), 0);
        while now.0 < 60_000 {
            assert!(bucket.take_if_ready(now, chunk), "ready_at was too early");
            taken += chunk;
            now = bucket.ready_at().max(now);
        }
        let allowed = rate * 60 + rate / 4 + chunk;
        assert!(taken <= allowed && taken > rate * 59, "{taken} of {allowed}");
    }

    #[test]
    fn a_debt_of_the_old_rate_is_paid_at_the_new_one() {
        let mut bucket = Bucket::new(1_000, BootMillis(0));
        bucket.take(BootMillis(0), 1_250);
        bucket.set_rate(BootMillis(0), 10_000);
        assert_eq!(bucket.ready_at(), BootMillis(101));
    }
}
