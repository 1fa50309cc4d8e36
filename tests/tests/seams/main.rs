//! Seams on real recordings: one encoder, a card and a live recorder that never saw the same clock.
//!
//! ffmpeg encodes once and copies what it has encoded into what a card and a live recorder leave, these with holes,
//! damage and ends within groups of pictures, under names that are off. Whoever plays the view of both must see
//! what the encoder made, frame by frame; where that cannot be known, the seam must say so.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

mod containers;
mod encoder;
mod live;
mod network;
mod recorders;
mod rtsp;
mod scene;
mod stillness;
