//! The main job, end to end: the network is away for 45 s, and the archive is made whole from the card.
//!
//! `gapless` and `gapless-agent` are the real binaries, the broker is mosquitto, ffmpeg has recorded and
//! ffmpeg is the judge. Only the link is emulated. `live` has a camera and a central recorder that never saw the
//! same clock.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

mod cuts;
mod live;
mod recordings;
mod scene;
