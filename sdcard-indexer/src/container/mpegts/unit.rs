//! Access units, and what a decoder has to be told before the first of them.

use super::trail::Place;
use super::watch::Times;

/// In MP4, what stands before each NAL unit instead of the start code.
pub(super) const LENGTH_BYTES: u8 = 4;

/// An access unit as it lies in its stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unit {
    pub(super) begins: Place,
    /// One past its last packet.
    pub(super) end: u64,
    pub(super) elementary_bytes: u32,
    /// Of its form in MP4.
    pub(super) size_bytes: u32,
    pub(super) times: Option<Times>,
    /// Of sound: samples of its codec and how many of them make a second.
    pub(super) length: Option<(u32, u32)>,
    pub(super) keyframe: bool,
}

/// What a decoder has to be told first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Description {
    /// A whole `stsd` box.
    pub(super) sample_description: Vec<u8>,
    pub(super) width: u16,
    pub(super) height: u16,
}
