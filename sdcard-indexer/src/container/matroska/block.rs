//! Blocks (RFC 9559, 10): which track's frames they hold, when these are shown, and where each lies.
//!
//! Reads their heads only, never a frame.

use super::ebml::Vint;

/// A track's number, a time, flags, and with lacing the sizes of up to 255 frames. A longer head is refused.
pub(super) const MAX_HEAD_BYTES: u64 = 4096;
/// The same without lacing.
pub(super) const HEAD_BYTES: u64 = 8 + 2 + 1;

const KEYFRAME: u8 = 0x80;
const LACING: u8 = 0x06;
const XIPH: u8 = 0x02;
const FIXED: u8 = 0x04;
const EBML: u8 = 0x06;

/// What every block says before its frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BlockHead {
    /// By which the track's entry calls itself.
    pub(super) track_number: u64,
    /// In the segment's ticks, since the time stamp of the cluster.
    pub(super) time: i16,
    flags: u8,
    bytes: usize,
}

impl BlockHead {
    /// `bytes` is what a block begins with. `None` where it is none.
    pub(super) fn parse(bytes: &[u8]) -> Option<BlockHead> {
        let mut rest = bytes;
        let track_number = Vint::take(&mut rest)?.value;
        let (&[high, low, flags], rest) = rest.split_first_chunk()?;
        let time = i16::from_be_bytes([high, low]);
        Some(BlockHead { track_number, time, flags, bytes: bytes.len() - rest.len() })
    }

    /// Of a `SimpleBlock`; in others it is zero.
    pub(super) fn says_keyframe(&self) -> bool {
        self.flags & KEYFRAME != 0
    }

    pub(super) fn is_laced(&self) -> bool {
        self.flags & LACING != 0
    }

    /// Puts the size of each frame into `sizes`, and tells where in the block the first one begins. `bytes` is
    /// all of the block, or as much as its head may take. `None` where the sizes do not fill it.
    pub(super) fn lay_out(
        &self,
        bytes: &[u8],
        block_bytes: u64,
        sizes: &mut Vec<u32>,
    ) -> Option<u64> {
        let mut rest = bytes.get(self.bytes..)?;
        let frames = if self.is_laced() { 1 + u32::from(take_byte(&mut rest)?) } else { 1 };
        sizes.clear();
        match self.flags & LACING {
            XIPH => xiph_sizes(&mut rest, frames - 1, sizes)?,
            EBML => ebml_sizes(&mut rest, frames - 1, sizes)?,
            _ => {}
        }
        let first_frame = (bytes.len() - rest.len()) as u64;
        let mut left = u32::try_from(block_bytes.checked_sub(first_frame)?).ok()?;
        if self.flags & LACING == FIXED {
            let size = left / frames;
            sizes.resize(frames as usize, size);
            return (size * frames == left).then_some(first_frame);
        }
        // The last one takes what is left.
        for size in sizes.iter() {
            left = left.checked_sub(*size)?;
        }
        sizes.push(left);
        Some(first_frame)
    }
}

/// Each size is a sum of bytes up to the first below 255 (10.3.2).
fn xiph_sizes(rest: &mut &[u8], frames: u32, sizes: &mut Vec<u32>) -> Option<()> {
    for _ in 0..frames {
        let mut size = 0;
        loop {
            let byte = take_byte(rest)?;
            size += u32::from(byte);
            if byte < 255 {
                break;
            }
        }
        sizes.push(size);
    }
    Some(())
}

/// A size, then what each next one has more or less, moved up by half of what its bytes can hold (10.3.3).
fn ebml_sizes(rest: &mut &[u8], frames: u32, sizes: &mut Vec<u32>) -> Option<()> {
    let mut size: i64 = 0;
    for index in 0..frames {
        let number = Vint::take(rest)?;
        let lowest = if index == 0 { 0 } else { (1 << (7 * number.length - 1)) - 1 };
        size = size.checked_add(number.value as i64 - lowest)?;
        sizes.push(u32::try_from(size).ok()?);
    }
    Some(())
}

fn take_byte(rest: &mut &[u8]) -> Option<u8> {
    let (&byte, behind) = rest.split_first()?;
    *rest = behind;
    Some(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the first frame begins, and the size of each.
    fn laid_out(block: &[u8]) -> Option<(u64, Vec<u32>)> {
        let mut sizes = Vec::new();
        let head = BlockHead::parse(block)?;
        let first = head.lay_out(block, block.len() as u64, &mut sizes)?;
        Some((first, sizes))
    }

    fn block(flags: u8, rest: &[u8], frames_bytes: usize) -> Vec<u8> {
        [&[0x81, 0, 5, flags], rest, &vec![0; frames_bytes]].concat()
    }

    #[test]
    fn a_block_without_lacing_is_one_frame() {
        let head = BlockHead::parse(&[0x40, 0x7f, 0xff, 0xfe, 0x80]).unwrap();
        assert_eq!((head.track_number, head.time), (127, -2));
        assert!(head.says_keyframe() && !head.is_laced());
        assert_eq!(laid_out(&block(0, &[], 10)), Some((4, vec![10])));
    }

    /// The examples of RFC 9559, 10.3: frames of 800, 500 and 1000 bytes.
    #[test]
    fn laces_are_taken_apart_as_the_examples_of_the_specification() {
        let xiph = block(XIPH, &[2, 255, 255, 255, 35, 255, 245], 2300);
        assert_eq!(laid_out(&xiph), Some((11, vec![800, 500, 1000])));
        let ebml = block(EBML, &[2, 0x43, 0x20, 0x5e, 0xd3], 2300);
        assert_eq!(laid_out(&ebml), Some((9, vec![800, 500, 1000])));
        let fixed = block(FIXED, &[2], 2400);
        assert_eq!(laid_out(&fixed), Some((5, vec![800, 800, 800])));
    }

    #[test]
    fn laces_that_do_not_fill_their_block_are_refused() {
        assert_eq!(laid_out(&block(XIPH, &[2, 255, 255, 255, 35, 255, 245], 1299)), None);
        assert_eq!(laid_out(&block(EBML, &[2, 0x43, 0x20, 0x40, 0x00], 2300)), None);
        assert_eq!(laid_out(&block(FIXED, &[2], 2401)), None);
        assert_eq!(laid_out(&block(XIPH, &[2, 255], 0)), None);
        assert_eq!(laid_out(&block(XIPH, &[], 0)), None);
    }
}
