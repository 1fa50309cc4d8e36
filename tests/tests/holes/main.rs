//! What is a hole and what is not, by real files of each kind that people's recorders leave.
//!
//! The rule stands in `ARCHITECTURE.md`. ffmpeg has recorded; the index is the archive's, which looks inside
//! files as well.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

mod live;
mod phantom;
mod real;
mod recorder;
