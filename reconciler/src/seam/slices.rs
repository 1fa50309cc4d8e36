//! Frames told by their coded slices: what every recorder keeps as the encoder wrote it.
//!
//! Recorders add, drop and move delimiters, parameter sets, SEI and filler; the NAL units of the video coding
//! layer (VCL) they hand on. Of H.264 these are the types 1 to 5, of H.265 the types 0 to 31 (table 7-1 of both,
//! in 7.4.1 and 7.4.2.2). Reads bytes that it does not trust: lengths that lead out of a sample end it.
//!
//! The first byte of a unit's header is left out but for the type: `forbidden_zero_bit` is what a gateway sets
//! on damage, and H.264's `nal_ref_idc` is what a sender over RTP may weigh anew (RFC 6184, 5.3). Recorders that
//! take both as they come, as all known ones do, lose nothing by that: a slice that is referred to differs from
//! one that is not in more than these bits. H.265's second byte, layer and temporal sub-layer, counts. Units of
//! an enhancement layer do not: not everybody records them.
//!
//! Zero bytes behind a unit are none of it (H.264 and H.265, annex B.1: `trailing_zero_8bits`): who comes from a
//! byte stream may take them along.

use sdcard_indexer::container::Codec;

/// A codec whose slices are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SliceCodec {
    H264,
    H265,
}

impl SliceCodec {
    pub const fn of(codec: Codec) -> Option<SliceCodec> {
        match codec {
            Codec::H264 => Some(SliceCodec::H264),
            Codec::H265 => Some(SliceCodec::H265),
            _ => None,
        }
    }

    /// Type and remaining bytes of a unit, where it is one of the coding layer.
    fn coding_layer(self, unit: &[u8]) -> Option<(u8, &[u8])> {
        let (&first, rest) = unit.split_first()?;
        match self {
            SliceCodec::H264 => {
                let kind = first & 0x1f;
                (1..=5).contains(&kind).then_some((kind, rest))
            }
            SliceCodec::H265 => {
                let kind = first >> 1 & 0x3f;
                // nuh_layer_id: the last bit of the first byte and five of the second.
                let layer = (first & 1) << 5 | rest.first()? >> 3;
                (kind <= 31 && layer == 0).then_some((kind, rest))
            }
        }
    }
}

/// What is coded of one frame. Two that are equal are the same frame, or two that look the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Coded {
    /// BLAKE3 over type, length and content of each slice, cut to 64 bits.
    pub fingerprint: u64,
    pub slices: u32,
    /// Of all slices together.
    pub bytes: u32,
}

/// What is coded in a sample as MP4 has it: each unit behind its length in `length_bytes` bytes (ISO/IEC
/// 14496-15, 4.3.2). `None` where it holds no slice.
pub fn coded(codec: SliceCodec, length_bytes: u8, sample: &[u8]) -> Option<Coded> {
    let mut hasher = blake3::Hasher::new();
    let mut found = Coded { fingerprint: 0, slices: 0, bytes: 0 };
    for (kind, content) in
        Units::new(length_bytes, sample).filter_map(|unit| codec.coding_layer(unit))
    {
        hasher.update(&[kind]);
        hasher.update(&(content.len() as u64).to_le_bytes());
        hasher.update(content);
        found.slices += 1;
        found.bytes = found.bytes.saturating_add(u32::try_from(content.len()).unwrap_or(u32::MAX));
    }
    let hash = hasher.finalize();
    let first = hash.as_bytes().first_chunk().expect("BLAKE3 gives 32 bytes");
    found.fingerprint = u64::from_le_bytes(*first);
    (found.slices > 0).then_some(found)
}

/// The NAL units of a sample, without zero bytes behind.
struct Units<'a> {
    length_bytes: usize,
    rest: &'a [u8],
}

impl<'a> Units<'a> {
    fn new(length_bytes: u8, sample: &'a [u8]) -> Self {
        Units { length_bytes: usize::from(length_bytes.clamp(1, 4)), rest: sample }
    }
}

impl<'a> Iterator for Units<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_at_checked(self.length_bytes)?;
        let length = length.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
        // A unit that leaves its sample is not whole, and what would follow it is not there.
        let (unit, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        let bytes = unit.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        Some(unit.get(..bytes).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Units behind lengths of four bytes.
    fn sample(units: &[&[u8]]) -> Vec<u8> {
        let behind_length = |unit: &&[u8]| [&(unit.len() as u32).to_be_bytes(), *unit].concat();
        units.iter().flat_map(behind_length).collect()
    }

    fn h264(units: &[&[u8]]) -> Option<Coded> {
        coded(SliceCodec::H264, 4, &sample(units))
    }

    fn h265(units: &[&[u8]]) -> Option<Coded> {
        coded(SliceCodec::H265, 4, &sample(units))
    }

    const IDR: &[u8] = b"\x65\x88\x84\x21";
    const SLICE: &[u8] = b"\x41\x9a\x12";

    #[test]
    fn what_recorders_add_and_drop_does_not_count() {
        let bare = h264(&[IDR, SLICE]).unwrap();
        assert_eq!((bare.slices, bare.bytes), (2, 5));
        let (delimiter, parameters, message, filler) =
            (b"\x09\xf0", b"\x67\x42\x00", b"\x06\x05\x01", b"\x0c\xff\xff");
        let dressed = h264(&[delimiter, parameters, message, IDR, SLICE, filler]);
        assert_eq!(dressed, Some(bare));
        assert_eq!(h264(&[delimiter, parameters, message]), None);

        let (key, trailing) = (b"\x26\x01\xaf", b"\x02\x01\xd0".as_slice());
        let bare = h265(&[key, trailing]).unwrap();
        let dressed = h265(&[b"\x46\x01\x50", b"\x40\x01\x0c", b"\x4e\x01\x05", key, trailing]);
        assert_eq!(dressed, Some(bare));
        assert_eq!(h265(&[key, trailing, b"\x02\x09\xd0"]), Some(bare), "an enhancement layer's");
    }

    #[test]
    fn bits_that_a_sender_may_set_do_not_count_but_all_else_does() {
        let whole = h264(&[IDR, SLICE]);
        assert_eq!(h264(&[b"\x25\x88\x84\x21", b"\xc1\x9a\x12"]), whole, "importance, damage");
        assert_eq!(h264(&[IDR, b"\x41\x9a\x12\0\0"]), whole, "zero bytes behind");
        assert_ne!(h264(&[IDR, b"\x45\x9a\x12"]), whole, "another type");
        assert_ne!(h264(&[IDR, b"\x41\x9a\x13"]), whole, "other content");
        assert_ne!(h264(&[SLICE, IDR]), whole, "another order");
        assert_ne!(h264(&[IDR]), whole, "one less");
        assert_ne!(h264(&[b"\x65\x88\x84", b"\x41\x21\x41\x9a\x12"]), whole, "cut elsewhere");
    }

    #[test]
    fn lengths_of_one_and_two_bytes_are_read_too() {
        let two = [&[0, 4][..], IDR, &[0, 3], SLICE].concat();
        assert_eq!(coded(SliceCodec::H264, 2, &two), h264(&[IDR, SLICE]));
        let one = [&[4][..], IDR, &[3], SLICE].concat();
        assert_eq!(coded(SliceCodec::H264, 1, &one), h264(&[IDR, SLICE]));
    }

    #[test]
    fn a_sample_that_breaks_off_keeps_its_whole_slices() {
        let whole = sample(&[IDR, SLICE]);
        assert_eq!(coded(SliceCodec::H264, 4, &whole[..whole.len() - 1]), h264(&[IDR]));
        assert_eq!(coded(SliceCodec::H264, 4, &whole[..3]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fail(length_bytes: u8, bytes: Vec<u8>) {
            for codec in [SliceCodec::H264, SliceCodec::H265] {
                if let Some(coded) = coded(codec, length_bytes, &bytes) {
                    prop_assert!(coded.bytes as usize <= bytes.len());
                }
            }
        }
    }
}
