//! Seal-time digests: what the bytes of a segment were when its recorder closed it.
//!
//! Cards lie: they acknowledge a write and give back other bytes, at once or a year later. So a segment is
//! hashed when it is sealed, while memory still holds what the recorder wrote ([`crate::index::Index::digest`],
//! throttled). From then on, whoever reads a part of it can say of each block whether it is as recorded
//! ([`PartReader`]), and [`verify`] asks the medium itself about all of them.
//!
//! A segment is cut into blocks of 1 MiB; of one with more than [`MAX_BLOCKS`], into blocks of the least
//! power of two that needs no more. A block's value is the chaining value of its subtree in the BLAKE3 tree
//! of the whole segment, so that one pass gives both: the whole digest, which is plain BLAKE3 as `b3sum`
//! prints it, is merged from the blocks' values (the BLAKE3 paper, section 2.1). Of each value the first 16
//! bytes are kept: for 60 s at 4 Mbit/s, some 550 bytes in all.
//!
//! What is proved is that bytes are the same as at that time, not that they were right then: what a recorder
//! wrote wrongly, or a card returned wrongly between the recorder's close and our reading, is taken as it is.
//! The digests lie on the same card as the recordings: they find out a card that fails, and nobody who can
//! rewrite both.
//!
//! Here is what can be worked out from bytes; [`Digests`] keeps the results.

mod part;
mod store;
pub mod verify;

use std::ops::Range;

use blake3::Hasher;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root,
};

use crate::identity::SegmentVersion;
use crate::log::record::DigestRecord;

pub use part::PartReader;
pub use store::Digests;
pub(crate) use store::Verdicts;

/// Size of a block, of all but the longest segments.
pub const BLOCK_BYTES: u64 = 1 << 20;
/// Blocks of one segment.
pub const MAX_BLOCKS: u64 = 2_048;
const VALUE_BYTES: usize = 16;
/// What is read of a card at once where bytes are only hashed.
pub(crate) const SLICE_BYTES: usize = 65_536;

/// Size of the blocks of a segment.
fn block_bytes(size_bytes: u64) -> u64 {
    let mut block_bytes = BLOCK_BYTES;
    while size_bytes.div_ceil(block_bytes) > MAX_BLOCKS {
        block_bytes *= 2;
    }
    block_bytes
}

/// Which bytes of a segment a digest is of. Under another time of change they are others: somebody has
/// written to the file since, and what it holds now is for the index to find out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SealedBytes {
    pub version: SegmentVersion,
    /// As [`crate::segment::FileStamp::modified_ns`].
    pub modified_ns: i64,
}

impl SealedBytes {
    fn of_record(record: &DigestRecord<'_>) -> Self {
        let (size_bytes, fingerprint) = (record.size_bytes, record.fingerprint);
        let version = SegmentVersion { size_bytes, fingerprint };
        SealedBytes { version, modified_ns: record.modified_ns }
    }
}

/// The digest of one segment and of its blocks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealDigest {
    size_bytes: u64,
    /// BLAKE3 of all bytes.
    whole: [u8; 32],
    values: Box<[[u8; VALUE_BYTES]]>,
}

impl SealDigest {
    /// `None` where a record does not have as many blocks as its size makes.
    fn of_record(record: &DigestRecord<'_>) -> Option<SealDigest> {
        let blocks = record.size_bytes.div_ceil(block_bytes(record.size_bytes));
        let (values, rest) = (record.blocks.chunks_exact(VALUE_BYTES), record.blocks.len());
        if rest % VALUE_BYTES != 0 || u64::try_from(values.len()) != Ok(blocks) {
            return None;
        }
        let values = values.filter_map(|value| value.try_into().ok()).collect();
        Some(SealDigest { size_bytes: record.size_bytes, whole: record.whole, values })
    }

    /// The 32 bytes that `b3sum` prints of the file.
    pub fn whole(&self) -> &[u8; 32] {
        &self.whole
    }

    /// The blocks' values as a record has them.
    fn value_bytes(&self) -> Vec<u8> {
        self.values.concat()
    }

    /// Where the bytes that were hashed anew differ from those that were sealed: the byte ranges of blocks,
    /// neighbours joined, in order. What the hash did not come to differs.
    pub(crate) fn differences(&self, anew: &SealHasher) -> Vec<Range<u64>> {
        let block_bytes = block_bytes(self.size_bytes);
        let mut ranges: Vec<Range<u64>> = Vec::new();
        let anew = anew.values.iter().map(Some).chain(std::iter::repeat(None));
        for ((sealed, value), index) in self.values.iter().zip(anew).zip(0..) {
            if value.is_some_and(|value| value.starts_with(sealed)) {
                continue;
            }
            let start = index * block_bytes;
            let end = (start + block_bytes).min(self.size_bytes);
            match ranges.last_mut().filter(|last| last.end == start) {
                Some(last) => last.end = end,
                None => ranges.push(start..end),
            }
        }
        ranges
    }

    fn has(&self, block: &Range<u64>, hasher: &Hasher) -> bool {
        let index = usize::try_from(block.start / block_bytes(self.size_bytes));
        let known = index.ok().and_then(|index| self.values.get(index));
        known.is_some_and(|known| hasher.finalize_non_root().starts_with(known))
    }
}

/// Hashes bytes in their order, block by block.
#[derive(Debug)]
struct Blocks {
    size_bytes: u64,
    block_bytes: u64,
    position: u64,
    hasher: Hasher,
}

impl Blocks {
    /// From the start of the block on that holds the byte at `offset`.
    fn from(size_bytes: u64, offset: u64) -> Self {
        let block_bytes = block_bytes(size_bytes);
        let position = offset - offset % block_bytes;
        Blocks { size_bytes, block_bytes, position, hasher: hasher_at(position) }
    }

    /// The block that holds the byte at `offset`.
    fn block(&self, offset: u64) -> Range<u64> {
        let start = offset - offset % self.block_bytes;
        start..start.saturating_add(self.block_bytes).min(self.size_bytes)
    }

    /// Takes the bytes at the position, and hands over each block that ends with them. What lies behind
    /// the segment's size is not looked at.
    fn update(&mut self, mut bytes: &[u8], mut ended: impl FnMut(Range<u64>, &Hasher)) {
        while self.position < self.size_bytes && !bytes.is_empty() {
            let block = self.block(self.position);
            let left = usize::try_from(block.end - self.position).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(left.min(bytes.len()));
            self.hasher.update(now);
            self.position += now.len() as u64;
            bytes = later;
            if self.position == block.end {
                let hasher = std::mem::replace(&mut self.hasher, hasher_at(block.end));
                ended(block, &hasher);
            }
        }
    }
}

/// Blocks begin at multiples of a power of two, so each is a subtree of its own.
fn hasher_at(offset: u64) -> Hasher {
    let mut hasher = Hasher::new();
    // The end of a last block is no such multiple; nothing is hashed from there.
    hasher.set_input_offset(offset - offset % BLOCK_BYTES);
    hasher
}

/// Makes a [`SealDigest`] of all bytes of a segment, in their order.
#[derive(Debug)]
pub(crate) struct SealHasher {
    blocks: Blocks,
    values: Vec<ChainingValue>,
    /// Of a segment of one block, which has nothing to be merged.
    whole: Option<blake3::Hash>,
}

impl SealHasher {
    pub fn new(size_bytes: u64) -> Self {
        SealHasher { blocks: Blocks::from(size_bytes, 0), values: Vec::new(), whole: None }
    }

    /// Of how many bytes, from the start on, the hash is taken so far.
    pub fn position(&self) -> u64 {
        self.blocks.position
    }

    pub fn left_bytes(&self) -> u64 {
        self.blocks.size_bytes - self.blocks.position
    }

    pub fn update(&mut self, bytes: &[u8]) {
        let SealHasher { blocks, values, whole } = self;
        let size_bytes = blocks.size_bytes;
        blocks.update(bytes, |block, hasher| {
            values.push(hasher.finalize_non_root());
            *whole = (block == (0..size_bytes)).then(|| hasher.finalize());
        });
    }

    /// `None` before all bytes were given; of an empty segment there is none.
    pub fn finish(&self) -> Option<SealDigest> {
        if self.left_bytes() > 0 || self.values.is_empty() {
            return None;
        }
        let whole = match self.whole {
            Some(whole) => whole,
            None => {
                let (left, right) = self.values.split_at(left_subtree(self.values.len()));
                merge_subtrees_root(&merged(left), &merged(right), Mode::Hash)
            }
        };
        let values = self.values.iter().filter_map(|value| value.first_chunk().copied());
        Some(SealDigest {
            size_bytes: self.blocks.size_bytes,
            whole: *whole.as_bytes(),
            values: values.collect(),
        })
    }
}

/// Of `values`, at least one and at most [`MAX_BLOCKS`]: the recursion is eleven deep.
fn merged(values: &[ChainingValue]) -> ChainingValue {
    match values {
        [value] => *value,
        _ => {
            let (left, right) = values.split_at(left_subtree(values.len()));
            merge_subtrees_non_root(&merged(left), &merged(right), Mode::Hash)
        }
    }
}

/// The left subtree of more than one block is the largest power of two that leaves some for the right.
fn left_subtree(blocks: usize) -> usize {
    blocks.next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
    }

    fn hashed(size: usize, bytes: &[u8], slice: usize) -> SealHasher {
        let mut hasher = SealHasher::new(size as u64);
        bytes.chunks(slice).for_each(|slice| hasher.update(slice));
        hasher
    }

    fn digest(bytes: &[u8], slice: usize) -> SealDigest {
        hashed(bytes.len(), bytes, slice).finish().unwrap()
    }

    const MIB: usize = 1 << 20;

    #[test]
    fn the_whole_digest_is_plain_blake3_whatever_the_number_of_blocks() {
        for length in [1, 1_024, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB, 5 * MIB + 7, 8 * MIB] {
            let bytes = bytes(length);
            let digest = digest(&bytes, 100_000);
            assert_eq!(digest.whole(), blake3::hash(&bytes).as_bytes(), "{length} bytes");
            assert_eq!(digest.values.len(), length.div_ceil(MIB));
        }
    }

    #[test]
    fn nothing_is_told_of_a_segment_that_was_not_read_to_its_end() {
        let mut hasher = SealHasher::new(10);
        hasher.update(b"123456789");
        assert_eq!(hasher.finish(), None);
        hasher.update(b"0, and what a recorder appended meanwhile");
        assert_eq!(hasher.finish().unwrap().whole(), blake3::hash(b"1234567890").as_bytes());
        assert_eq!(SealHasher::new(0).finish(), None);
    }

    #[test]
    fn a_flipped_bit_is_found_in_its_block_and_neighbouring_blocks_are_one_range() {
        let (mut bytes, size) = (bytes(4 * MIB + 100), 4 * MIB + 100);
        let sealed = digest(&bytes, MIB);
        assert!(sealed.differences(&hashed(size, &bytes, 1_000)).is_empty());
        for at in [MIB, 2 * MIB + 5, 4 * MIB + 99] {
            bytes[at] ^= 1;
        }
        let (mib, end) = (MIB as u64, size as u64);
        let anew = hashed(size, &bytes, MIB);
        assert_eq!(sealed.differences(&anew), [mib..3 * mib, 4 * mib..end]);
        let torn = hashed(size, &bytes[..MIB / 2], MIB);
        assert_eq!(sealed.differences(&torn), vec![0..end]);
    }

    #[test]
    fn blocks_grow_where_there_would_be_too_many() {
        assert_eq!(block_bytes(0), BLOCK_BYTES);
        assert_eq!(block_bytes(MAX_BLOCKS * BLOCK_BYTES), BLOCK_BYTES);
        assert_eq!(block_bytes(MAX_BLOCKS * BLOCK_BYTES + 1), 2 * BLOCK_BYTES);
        assert_eq!(u64::MAX.div_ceil(block_bytes(u64::MAX)), MAX_BLOCKS);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn how_a_segment_is_read_makes_no_difference(
            length in 1..3 * MIB,
            slice in 1..2 * MIB,
        ) {
            let bytes = bytes(length);
            prop_assert_eq!(digest(&bytes, slice.max(4_096)), digest(&bytes, length));
        }

        #[test]
        fn a_record_of_any_lengths_makes_a_digest_of_its_size_or_none(
            size_bytes in any::<u64>(),
            blocks in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let record = DigestRecord {
                stream: "main", path: b"a", size_bytes, modified_ns: 0, fingerprint: 0, whole: [0; 32],
                blocks: &blocks,
            };
            if let Some(digest) = SealDigest::of_record(&record) {
                prop_assert_eq!(digest.value_bytes(), blocks);
            }
        }
    }
}
