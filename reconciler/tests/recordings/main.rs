//! Merge and playback on real recordings: what ffmpeg reads of the result is what it read of the original.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says so by failing"
)]

mod footage;
mod merge;
mod playback;
mod playing;
mod proof;
mod recut;
mod screen;
