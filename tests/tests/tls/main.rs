//! Mutual TLS with the real programs: by a real mosquitto with the configuration that is committed for it, and by the
//! embedded broker. Who is let in, who is not, and how certificates are renewed and taken back while all of it runs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

mod embedded;
mod house;
mod mosquitto;

use std::time::Duration;

/// No wait is endless; far above what any of them takes.
const DEADLINE: Duration = Duration::from_secs(90);
