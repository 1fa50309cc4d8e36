//! Names that outlive a process: which stream, which segment, and which bytes of it.
//!
//! None of these is a path, an inode or an mtime: FAT keeps mtime in local time in 2 s steps, vfat
//! inodes are not stable, and nothing that comes from a network may become a path.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest accepted id, in bytes.
pub const MAX_ID_BYTES: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id: use 1 to {MAX_ID_BYTES} letters, digits, `_` or `-`")]
pub struct InvalidId {
    /// What was offered, cut to [`MAX_ID_BYTES`] characters.
    pub text: String,
}

/// The one rule for ids of streams, devices and servers: 1 to 64 of `A-Z a-z 0-9 _ -`.
///
/// The alphabet is that of an MQTT topic level without dots and spaces, and safe as a directory name.
pub fn check_id(text: &str) -> Result<(), InvalidId> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if text.is_empty() || text.len() > MAX_ID_BYTES || !text.bytes().all(allowed) {
        return Err(InvalidId { text: text.chars().take(MAX_ID_BYTES).collect() });
    }
    Ok(())
}

/// Declares a string type that holds nothing but what [`check_id`] accepts, however it is made.
#[macro_export]
macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::identity::InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::identity::check_id(text).map(|()| $name(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::identity::InvalidId;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                $crate::identity::check_id(&text).map(|()| $name(text))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, formatter: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

id_type! {
    /// One encoder output of a device (`main`, `sub`), as [`check_id`] allows it.
    StreamId
}

/// One boot of a device, as Linux numbers it (`/proc/sys/kernel/random/boot_id`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub struct BootId(pub [u8; 16]);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_plain_enough_for_a_topic_level_and_a_directory() {
        let longest = "x".repeat(MAX_ID_BYTES);
        for text in ["main", "Cam_01-b", "-", longest.as_str()] {
            assert_eq!(text.parse::<StreamId>().unwrap().as_str(), text);
        }
        let too_long = "x".repeat(MAX_ID_BYTES + 1);
        for text in ["", ".", "..", "a/b", "a.b", "a b", "+", "#", "$x", "\u{fc}", &too_long] {
            assert!(text.parse::<StreamId>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_id_from_outside_is_checked_too() {
        let bytes = postcard::to_allocvec("../etc").unwrap();
        assert!(postcard::from_bytes::<StreamId>(&bytes).is_err());
    }

    /// Ids and versions stand in ledgers and on the wire: they must not change between releases.
    #[test]
    fn segment_ids_and_versions_are_what_they_have_always_been() {
        let stream: StreamId = "main".parse().unwrap();
        let id = SegmentId::of(&stream, b"2026-11-23/10/05-07.250000Z.3.mp4");
        assert_eq!(id.to_string(), "d62ae160b40729a5");
        let version = SegmentVersion::of(5, b"hello");
        assert_eq!(version, SegmentVersion { size_bytes: 5, fingerprint: 0x9282_86b3_3d16_8fea });
    }

    #[test]
    fn a_fingerprint_looks_at_the_first_4_kib_only() {
        let (mut long, head) = (vec![7; FINGERPRINT_BYTES + 1], vec![7; FINGERPRINT_BYTES]);
        assert_eq!(SegmentVersion::of(9, &long), SegmentVersion::of(9, &head));
        long[0] = 8;
        assert_ne!(SegmentVersion::of(9, &long), SegmentVersion::of(9, &head));
    }
}
