//! EBML elements (RFC 8794): where they begin and end, and the numbers in them.
//!
//! Reads by position, never past the bytes that exist. Holds no knowledge of any particular element but that
//! of their children's lengths.

use std::io::{Read, Seek};

use super::super::ContainerError;
use super::super::boxes::{Source, Window};

/// Four bytes of id and eight of size at most (sections 5 and 6), as Matroska has them (RFC 9559, 27.1).
const MAX_HEADER_BYTES: u64 = 4 + 8;

/// An element by its edges. `end` is what its size claims and may lie past everything: check [`Self::within`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Element {
    /// With its length marker, as specifications print it.
    pub(super) id: u32,
    pub(super) start: u64,
    /// First byte after the header.
    pub(super) body: u64,
    /// [`OPEN`] where the size is left open.
    pub(super) end: u64,
}

/// The end of an element of unknown size (6.2): what follows tells.
pub(super) const OPEN: u64 = u64::MAX;

impl Element {
    pub(super) fn within(&self, limit: u64) -> bool {
        self.end <= limit && self.end != OPEN
    }

    /// The element at `at`; `None` where none can stand there.
    pub(super) fn read<R: Read + Seek>(
        source: &mut Source<'_, R>,
        window: &mut Window,
        at: u64,
    ) -> Result<Option<Element>, ContainerError> {
        let Some(available) = source.end.checked_sub(at).filter(|&bytes| bytes > 0) else {
            return Ok(None);
        };
        let available = available.min(MAX_HEADER_BYTES) as usize;
        Ok(Element::parse(window.bytes(source, at, available)?, at))
    }

    fn parse(mut bytes: &[u8], at: u64) -> Option<Element> {
        let available = bytes.len();
        let id = Vint::take(&mut bytes).filter(|id| id.length <= 4)?.marked() as u32;
        let size = Vint::take(&mut bytes)?;
        let body = at.checked_add((available - bytes.len()) as u64)?;
        let end = if size.is_open() { OPEN } else { body.checked_add(size.value)? };
        Some(Element { id, start: at, body, end })
    }

    /// The next element inside of one that ends at `limit`, which must be whole; `None` at the end.
    pub(super) fn read_child<R: Read + Seek>(
        source: &mut Source<'_, R>,
        window: &mut Window,
        at: u64,
        limit: u64,
    ) -> Result<Option<Element>, ContainerError> {
        if at >= limit {
            return Ok(None);
        }
        match Element::read(source, window, at)? {
            Some(child) if child.within(limit) => Ok(Some(child)),
            _ => malformed(at, "an element that leaves its parent"),
        }
    }

    /// The first bytes of the body; fewer where the element is shorter.
    pub(super) fn head<'w, R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        window: &'w mut Window,
        length: u64,
    ) -> Result<&'w [u8], ContainerError> {
        window.bytes(source, self.body, (self.end - self.body).min(length) as usize)
    }

    /// The body of a small element; longer than `limit_bytes` is refused.
    pub(super) fn bytes<'w, R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        window: &'w mut Window,
        what: &'static str,
        limit_bytes: u64,
    ) -> Result<&'w [u8], ContainerError> {
        if self.end - self.body > limit_bytes {
            return Err(ContainerError::TooLarge { offset: self.start, what, limit: limit_bytes });
        }
        self.head(source, window, limit_bytes)
    }

    /// An unsigned integer (7.2), or the bits of a signed one of full length; without bytes it is zero.
    pub(super) fn unsigned<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        window: &mut Window,
    ) -> Result<u64, ContainerError> {
        Ok(big_endian(self.bytes(source, window, "a number", 8)?))
    }

    /// A float (7.3).
    pub(super) fn float<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        window: &mut Window,
    ) -> Result<f64, ContainerError> {
        let bytes = self.bytes(source, window, "a number", 8)?;
        match bytes.len() {
            0 => Ok(0.0),
            4 => Ok(f32::from_bits(big_endian(bytes) as u32).into()),
            8 => Ok(f64::from_bits(big_endian(bytes))),
            _ => malformed(self.start, "a number"),
        }
    }
}

/// A variable-size integer (section 4), its length marker taken off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Vint {
    pub(super) value: u64,
    /// In bytes, 1 to 8.
    pub(super) length: u32,
}

impl Vint {
    /// Takes one off the front; `None` where none stands there.
    pub(super) fn take(bytes: &mut &[u8]) -> Option<Vint> {
        let length = bytes.first()?.leading_zeros() + 1;
        let (integer, rest) = bytes.split_at_checked(length as usize).filter(|_| length <= 8)?;
        *bytes = rest;
        let marker = 1 << (7 * length);
        Some(Vint { value: big_endian(integer) & (marker - 1), length })
    }

    /// All bits set: as a size, it says that it is not known (6.2).
    fn is_open(self) -> bool {
        self.value == (1 << (7 * self.length)) - 1
    }

    fn marked(self) -> u64 {
        self.value | 1 << (7 * self.length)
    }
}

/// Of the last eight bytes, where there are more.
fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

pub(super) fn malformed<T>(offset: u64, what: &'static str) -> Result<T, ContainerError> {
    Err(ContainerError::Malformed { offset, what })
}
