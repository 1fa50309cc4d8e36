//! The two clocks of the server: one that says when something happened, one by which to wait.

use std::time::Duration;

use sdcard_indexer::time::Timestamp;
use tokio::time::Instant;

/// An instant of the server's monotonic clock, in microseconds since an origin of the driver's choosing.
///
/// It travels to the device and back in [`protocol::message::Credit::time`], and means nothing to anyone
/// but the process that drew it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct MonotonicMicros(pub u64);

impl MonotonicMicros {
    /// Time that passed since `earlier`; zero where `earlier` is in fact later.
    pub fn since(self, earlier: MonotonicMicros) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    #[must_use]
    pub fn after(self, duration: Duration) -> MonotonicMicros {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        MonotonicMicros(self.0.saturating_add(micros))
    }
}

/// Both clocks, read together.
///
/// Footage lies on the wall clock, and so do schedules. Whatever is waited for is waited for by the monotonic
/// one: a wall clock that is set back by an hour must not silence a server for an hour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    pub wall: Timestamp,
    pub monotonic: MonotonicMicros,
}

/// Where a server reads both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose monotonic time begins at one second: 0 is what an echo says that no credit came.
    pub fn start() -> Self {
        Clock { origin: Instant::now() - Duration::from_secs(1) }
    }

    pub fn now(&self) -> Now {
        let elapsed = u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        Now {
            wall: Timestamp::from_jiff(jiff::Timestamp::now()),
            monotonic: MonotonicMicros(elapsed),
        }
    }

    /// When [`Now::monotonic`] will be this.
    pub fn instant(&self, at: MonotonicMicros) -> Instant {
        self.origin + Duration::from_micros(at.0)
    }
}
