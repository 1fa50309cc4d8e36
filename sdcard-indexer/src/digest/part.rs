//! Reading a part of a segment, and comparing it on the way with what it was when it was sealed.

use std::ops::Range;

use super::{Blocks, SLICE_BYTES, SealDigest};
use crate::index::{ReadError, SegmentReader};

/// Reads a byte range of a segment from its start to its end.
///
/// Where the segment has a seal-time digest, every block that the part touches is compared with it. Of the
/// blocks at the part's edges the rest is read too, before its first byte and behind its last: at most one
/// block less a byte on either side. A block is judged once its last byte is read: bytes that were handed
/// out before may belong to a block that turns out to be altered, so nothing is proved before the end.
#[derive(Debug)]
pub struct PartReader {
    reader: SegmentReader,
    part: Range<u64>,
    position: u64,
    check: Option<Check>,
}

#[derive(Debug)]
struct Check {
    sealed: SealDigest,
    blocks: Blocks,
}

impl PartReader {
    /// `part` lies within the reader's version.
    pub fn new(reader: SegmentReader, part: Range<u64>) -> Self {
        let check = reader.sealed().map(|sealed| Check {
            sealed: sealed.clone(),
            blocks: Blocks::from(sealed.size_bytes, part.start),
        });
        PartReader { reader, position: part.start, part, check }
    }

    /// Offset in the segment of what is read next.
    pub fn position(&self) -> u64 {
        self.position
    }

    pub fn left_bytes(&self) -> u64 {
        self.part.end - self.position
    }

    /// Whether what is read is compared with a seal-time digest. Then all of it is as it was recorded, once
    /// the last byte has been read without an error.
    pub fn compares(&self) -> bool {
        self.check.is_some()
    }

    /// Fills `buffer`, which is no longer than [`PartReader::left_bytes`], with what comes next.
    ///
    /// [`ReadError::Altered`] where a block that the part touches is not what it was when it was sealed, and
    /// is not when read past the cache either; after any error, nothing more is to be read.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<(), ReadError> {
        let before = self.check.as_ref().map_or(self.position, |check| check.blocks.position);
        self.compare_unsent(before..self.position)?;
        self.reader.read_exact_at(self.position, buffer)?;
        self.compare(buffer)?;
        self.position += buffer.len() as u64;
        if let Some(check) = self.check.as_ref().filter(|_| self.position == self.part.end) {
            let last = check.blocks.block(self.part.end.saturating_sub(1));
            self.compare_unsent(self.part.end..last.end)?;
        }
        Ok(())
    }

    /// What belongs to a block, and not to the part.
    fn compare_unsent(&mut self, mut bytes: Range<u64>) -> Result<(), ReadError> {
        let mut buffer = vec![0; if bytes.is_empty() { 0 } else { SLICE_BYTES }];
        while !bytes.is_empty() {
            let length = usize::try_from(bytes.end - bytes.start).unwrap_or(usize::MAX);
            let slice = buffer.get_mut(..length.min(SLICE_BYTES)).unwrap_or_default();
            self.reader.read_exact_at(bytes.start, slice)?;
            bytes.start += slice.len() as u64;
            self.compare(slice)?;
        }
        Ok(())
    }

    fn compare(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        let Some(Check { sealed, blocks }) = &mut self.check else { return Ok(()) };
        let mut altered = None;
        blocks.update(bytes, |block, hasher| {
            if altered.is_none() && !sealed.has(&block, hasher) {
                altered = Some(block);
            }
        });
        altered.map_or(Ok(()), |block| Err(self.ask_again(block)))
    }

    /// Memory may have been wrong and not the card, or the card for a moment only.
    fn ask_again(&self, block: Range<u64>) -> ReadError {
        match self.is_as_sealed(&block) {
            Ok(true) => ReadError::Unsteady { offset: block.start },
            Ok(false) => ReadError::Altered { offset: block.start },
            Err(error) => error,
        }
    }

    fn is_as_sealed(&self, block: &Range<u64>) -> Result<bool, ReadError> {
        let Some(sealed) = self.reader.sealed() else { return Ok(false) };
        self.reader.forget_cached()?;
        let mut blocks = Blocks::from(sealed.size_bytes, block.start);
        let (mut buffer, mut same) = (vec![0; SLICE_BYTES], false);
        while blocks.position < block.end {
            let left = usize::try_from(block.end - blocks.position).unwrap_or(usize::MAX);
            let slice = buffer.get_mut(..left.min(SLICE_BYTES)).unwrap_or_default();
            self.reader.read_exact_at(blocks.position, slice)?;
            blocks.update(slice, |block, hasher| same = sealed.has(&block, hasher));
        }
        Ok(same)
    }
}
