//! Names that outlive a process: which stream, which segment, and which bytes of it.
//!
//! None of these is a path, an inode or an mtime: FAT keeps mtime in local time in 2 s steps, vfat
//! inodes are not stable, and nothing that comes from a network may become a path.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest accepted [`StreamId`], in bytes.
pub const MAX_ID_BYTES: usize = 64;

/// One encoder output of a device (`main`, `sub`): 1 to 64 of `A-Z a-z 0-9 _ -`.
///
/// The alphabet is that of an MQTT topic level without dots and spaces, and safe as a directory name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamId(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id: use 1 to {MAX_ID_BYTES} letters, digits, `_` or `-`")]
pub struct InvalidId {
    pub text: String,
}

/// The one rule for ids of devices and streams.
pub fn check_id(text: &str) -> Result<(), InvalidId> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if text.is_empty() || text.len() > MAX_ID_BYTES || !text.bytes().all(allowed) {
        return Err(InvalidId { text: text.chars().take(MAX_ID_BYTES).collect() });
    }
    Ok(())
}

impl StreamId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StreamId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        check_id(text).map(|()| StreamId(text.to_owned()))
    }
}

impl TryFrom<String> for StreamId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        check_id(&text).map(|()| StreamId(text))
    }
}

impl From<StreamId> for String {
    fn from(id: StreamId) -> String {
        id.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A segment by its place: the first 8 bytes, little-endian, of BLAKE3 over `stream 0x00 relative-path`.
///
/// The same file has the same id after a restart, a rebuilt index or a card put into another reader.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SegmentId(pub u64);

impl SegmentId {
    /// `relative_path` is relative to the stream's root, with `/` between its parts.
    pub fn of(stream: &StreamId, relative_path: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(stream.as_str().as_bytes()).update(&[0]).update(relative_path);
        SegmentId(leading_u64(&hasher.finalize()))
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl fmt::Debug for SegmentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// How many of a file's first bytes its [`SegmentVersion`] is taken from.
pub const FINGERPRINT_BYTES: usize = 4096;

/// Which bytes stood under a [`SegmentId`]: size, and a fingerprint of the first 4 KiB.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct SegmentVersion {
    pub size_bytes: u64,
    /// First 8 bytes, little-endian, of BLAKE3 over the first [`FINGERPRINT_BYTES`] of the file.
    pub fingerprint: u64,
}

impl SegmentVersion {
    /// `head` is the file's first [`FINGERPRINT_BYTES`], or all of it where it is shorter.
    pub fn of(size_bytes: u64, head: &[u8]) -> Self {
        let head = head.get(..FINGERPRINT_BYTES).unwrap_or(head);
        SegmentVersion { size_bytes, fingerprint: leading_u64(&blake3::hash(head)) }
    }
}

fn leading_u64(hash: &blake3::Hash) -> u64 {
    let first = hash.as_bytes().first_chunk().expect("a BLAKE3 hash has 32 bytes");
    u64::from_le_bytes(*first)
}
