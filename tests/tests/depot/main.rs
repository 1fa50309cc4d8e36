//! Scheduled mode, end to end: body-worn units that record to their cards alone, and a policy that pulls all of it
//! at its time.
//!
//! `gapless` and each `gapless-agent` are the real binaries, the broker is mosquitto. Only links are emulated.
//! Schedules are by the minute, so that a test waits for one no longer than that.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

mod evening;
mod report;
mod windows;

use std::time::Duration;

/// For everything that is waited for; nothing that works comes near it.
const DEADLINE: Duration = Duration::from_secs(240);
