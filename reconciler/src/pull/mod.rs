//! Fetching parts from devices: which bytes to ask for, how fast, and what to do when they do not come.
//!
//! [`engine`] is one part's transfer as a state machine, [`window`] decides how many bytes may be
//! under way. Both are pure: they take events and a `now` and return actions, know neither sockets
//! nor files nor a clock, and so can be run through thousands of simulated failures.

pub mod driver;
pub mod engine;
#[cfg(test)]
mod simulation;
pub mod spooler;
pub mod window;

use std::time::Duration;

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
