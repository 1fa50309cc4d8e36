//! Which frame of a file is meant: told by where it lies, since counting would take reading all that comes before.

use sdcard_indexer::container::Sample;

/// A frame, in the order in which frames lie in a file: that of decoding, unless an editor has put them elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FramePlace(u64);

impl FramePlace {
    /// The first frame, wherever it lies.
    pub const FIRST: FramePlace = FramePlace(0);
    /// One past the last.
    pub const END: FramePlace = FramePlace(u64::MAX);

    /// Of any frame but the first. Two may begin in one packet.
    pub fn of(frame: &Sample) -> FramePlace {
        let skip = frame.packets.map_or(0, |packets| packets.skip);
        FramePlace(frame.offset << u8::BITS | u64::from(skip))
    }

    /// The frame of this number, in decode order, among all of a file.
    pub fn numbered<'s>(number: usize, mut frames: impl Iterator<Item = &'s Sample>) -> FramePlace {
        match number {
            0 => FramePlace::FIRST,
            _ => frames.nth(number).map_or(FramePlace::END, FramePlace::of),
        }
    }

    /// Its number, in decode order, among all frames of its file: that of the next one where it is none of them.
    pub fn number_in<'s>(
        self,
        mut frames: impl ExactSizeIterator<Item = &'s Sample> + Clone,
    ) -> usize {
        let count = frames.len();
        match self {
            FramePlace::FIRST => 0,
            FramePlace::END => count,
            place => frames
                .clone()
                .position(|frame| FramePlace::of(frame) == place)
                .or_else(|| frames.position(|frame| FramePlace::of(frame) > place))
                .unwrap_or(count),
        }
    }

    /// For made-up recordings whose frames lie where their numbers say.
    #[cfg(test)]
    pub(crate) const fn made_up(number: usize) -> FramePlace {
        FramePlace((number as u64) << u8::BITS)
    }

    #[cfg(test)]
    pub(crate) const fn made_up_number(self) -> usize {
        (self.0 >> u8::BITS) as usize
    }
}
