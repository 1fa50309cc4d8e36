//! Boxes (ISO/IEC 14496-12, 4.2): where they begin and end, and the big-endian fields in them.
//!
//! Reads by position, a page at a time, and never past the bytes that exist. Holds no knowledge of any
//! particular box.

use std::io::{Read, Seek, SeekFrom};

use super::ContainerError;

/// What one read fetches at least: a page of the card's page cache, which it costs anyway. A fragment's
/// `moof` and the header of its `mdat` ordinarily fit, so that walking costs one read a fragment.
const WINDOW_BYTES: usize = 4096;

/// The file, as far as it is to be believed.
#[derive(Debug)]
pub(super) struct Source<'r, R> {
    reader: &'r mut R,
    /// Bytes past it do not exist.
    pub(super) end: u64,
}

impl<'r, R: Read + Seek> Source<'r, R> {
    pub(super) fn new(reader: &'r mut R, end: u64) -> Self {
        Source { reader, end }
    }

    /// Fills `buffer` with `[offset, offset + length)`, which must lie before the end.
    pub(super) fn read_into(
        &mut self,
        offset: u64,
        length: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<(), ContainerError> {
        buffer.clear();
        if offset.checked_add(length as u64).is_none_or(|end| end > self.end) {
            return Err(ContainerError::Malformed {
                offset,
                what: "data past the end of the file",
            });
        }
        self.reader.seek(SeekFrom::Start(offset))?;
        buffer.resize(length, 0);
        self.reader.read_exact(buffer).inspect_err(|_| buffer.clear())?;
        Ok(())
    }
}

/// The stretch of the file that was read last.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// The bytes `[offset, offset + length)`. The caller has checked `length` against a cap: a window
    /// grows to what is asked of it.
    pub(super) fn bytes<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
        offset: u64,
        length: usize,
    ) -> Result<&[u8], ContainerError> {
        if self.held(offset, length).is_none() {
            let ahead = usize::try_from(source.end.saturating_sub(offset)).unwrap_or(usize::MAX);
            source.read_into(offset, length.max(WINDOW_BYTES.min(ahead)), &mut self.bytes)?;
            self.start = offset;
        }
        Ok(self.held(offset, length).unwrap_or_default())
    }

    /// The same bytes into a buffer of the caller's, past the window where it does not hold them.
    pub(super) fn copy<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        offset: u64,
        length: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<(), ContainerError> {
        match self.held(offset, length) {
            Some(bytes) => {
                buffer.clear();
                buffer.extend_from_slice(bytes);
                Ok(())
            }
            None => source.read_into(offset, length, buffer),
        }
    }

    pub(super) fn holds(&self, offset: u64, length: usize) -> bool {
        self.held(offset, length).is_some()
    }

    fn held(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.bytes.get(from..from.checked_add(length)?)
    }
}

/// A box by its edges. `end` is what its size claims and may lie past everything: check [`Self::within`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BoxHeader {
    pub(super) kind: [u8; 4],
    pub(super) start: u64,
    /// First byte after the header.
    pub(super) body: u64,
    pub(super) end: u64,
}

impl BoxHeader {
    pub(super) fn within(&self, limit: u64) -> bool {
        self.end <= limit
    }

    /// `at` is where `bytes` begin, `limit` where the enclosing box or file ends: a size of 0 means up to
    /// there. `None` where no box can stand here: too few bytes, an impossible size, a type that is no
    /// text.
    fn parse(bytes: &[u8], at: u64, limit: u64) -> Option<BoxHeader> {
        let (size, rest) = bytes.split_first_chunk()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        if !kind.iter().all(|&byte| matches!(byte, b' '..=b'~' | 0xa9)) {
            return None;
        }
        let (header_bytes, end) = match u32::from_be_bytes(*size) {
            0 => (8, limit),
            1 => (16, at.checked_add(u64::from_be_bytes(*rest.first_chunk()?))?),
            size => (8, at.checked_add(u64::from(size))?),
        };
        let body = at.checked_add(header_bytes)?;
        (body <= end).then_some(BoxHeader { kind: *kind, start: at, body, end })
    }

    /// The box at `at`, anywhere in the file; `None` as for [`Self::parse`].
    pub(super) fn read<R: Read + Seek>(
        source: &mut Source<'_, R>,
        window: &mut Window,
        at: u64,
        limit: u64,
    ) -> Result<Option<BoxHeader>, ContainerError> {
        let available = limit.saturating_sub(at).min(16) as usize;
        Ok(BoxHeader::parse(window.bytes(source, at, available)?, at, limit))
    }

    /// The same of a box at top level, past the window where that does not hold its header. `at` may lie anywhere.
    pub(super) fn peek<R: Read + Seek>(
        source: &mut Source<'_, R>,
        window: &Window,
        at: u64,
    ) -> Result<Option<BoxHeader>, ContainerError> {
        let Some(available) = source.end.checked_sub(at) else { return Ok(None) };
        let mut bytes = Vec::new();
        window.copy(source, at, available.min(16) as usize, &mut bytes)?;
        Ok(BoxHeader::parse(&bytes, at, source.end))
    }

    /// The next box inside of one that ends at `limit`; `None` at the end. Fewer bytes than a header
    /// needs are padding.
    pub(super) fn read_child<R: Read + Seek>(
        source: &mut Source<'_, R>,
        window: &mut Window,
        at: u64,
        limit: u64,
    ) -> Result<Option<BoxHeader>, ContainerError> {
        if limit.saturating_sub(at) < 8 {
            return Ok(None);
        }
        match BoxHeader::read(source, window, at, limit)? {
            Some(child) if child.within(limit) => Ok(Some(child)),
            _ => {
                Err(ContainerError::Malformed { offset: at, what: "a box that leaves its parent" })
            }
        }
    }

    /// The first bytes of the body; fewer where the box is shorter.
    pub(super) fn head<'w, R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        window: &'w mut Window,
        what: &'static str,
        length: usize,
    ) -> Result<Fields<'w>, ContainerError> {
        let length = (self.end - self.body).min(length as u64) as usize;
        Ok(Fields { what, offset: self.body, rest: window.bytes(source, self.body, length)? })
    }

    /// The body of a small box; longer than `limit_bytes` is refused.
    pub(super) fn body<'w, R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        window: &'w mut Window,
        what: &'static str,
        limit_bytes: u64,
    ) -> Result<Fields<'w>, ContainerError> {
        let length = self.end - self.body;
        if length > limit_bytes {
            return Err(ContainerError::TooLarge { offset: self.start, what, limit: limit_bytes });
        }
        self.head(source, window, what, length as usize)
    }
}

/// Fields of a box that is in memory, first to last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    what: &'static str,
    /// Where `rest` begins in the file.
    pub(super) offset: u64,
    pub(super) rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(what: &'static str, offset: u64, rest: &'a [u8]) -> Self {
        Fields { what, offset, rest }
    }

    pub(super) fn malformed(&self) -> ContainerError {
        ContainerError::Malformed { offset: self.offset, what: self.what }
    }

    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], ContainerError> {
        let (field, rest) = self.rest.split_first_chunk().ok_or_else(|| self.malformed())?;
        self.rest = rest;
        self.offset += N as u64;
        Ok(*field)
    }

    pub(super) fn skip(&mut self, count: usize) -> Result<(), ContainerError> {
        self.rest = self.rest.get(count..).ok_or_else(|| self.malformed())?;
        self.offset += count as u64;
        Ok(())
    }

    pub(super) fn u16(&mut self) -> Result<u16, ContainerError> {
        self.take().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, ContainerError> {
        self.take().map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, ContainerError> {
        self.take().map(i32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, ContainerError> {
        self.take().map(u64::from_be_bytes)
    }

    /// A field that is there only where `present`.
    pub(super) fn u32_if(&mut self, present: bool) -> Result<Option<u32>, ContainerError> {
        if present { self.u32().map(Some) } else { Ok(None) }
    }

    /// 64 bits in version 1 of a box, 32 in version 0.
    pub(super) fn wide(&mut self, version: u8) -> Result<u64, ContainerError> {
        if version == 1 { self.u64() } else { self.u32().map(u64::from) }
    }

    /// The version and flags that a full box begins with (ISO/IEC 14496-12, 4.2).
    pub(super) fn version_and_flags(&mut self) -> Result<(u8, u32), ContainerError> {
        let [version, flags @ ..] = self.take::<4>()?;
        let [high, middle, low] = flags;
        Ok((version, u32::from_be_bytes([0, high, middle, low])))
    }

    /// The next box within these fields, and its body; `None` at the end.
    pub(super) fn next_box(
        &mut self,
        what: &'static str,
    ) -> Result<Option<([u8; 4], Fields<'a>)>, ContainerError> {
        if self.rest.len() < 8 {
            return Ok(None);
        }
        let limit = self.offset + self.rest.len() as u64;
        let header = BoxHeader::parse(self.rest, self.offset, limit)
            .filter(|header| header.within(limit))
            .ok_or_else(|| self.malformed())?;
        let (header_bytes, box_bytes) = (header.body - header.start, header.end - header.start);
        let body = self.rest.get(header_bytes as usize..box_bytes as usize).unwrap_or_default();
        self.skip(box_bytes as usize)?;
        Ok(Some((header.kind, Fields { what, offset: header.body, rest: body })))
    }
}
