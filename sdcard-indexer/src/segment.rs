//! One recording file as the index knows it: where it lies, when it was recorded, how much of it can be used.
//!
//! Plain values. The start of a segment is what its name tells by the stream's [`crate::layout::Layout`];
//! its end is that start plus the duration of its media, exactly: where the next segment's name makes it
//! start a little before that, the two overlap, which a set of time ranges does not mind.

use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::identity::{SegmentId, SegmentVersion};
use crate::time::{TimeRange, Timestamp};

/// How well a time range is known; the best comes last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Tier {
    /// T0, from names alone: the end is a guess.
    Names,
    /// T1, from head and tail of the file.
    Extent,
    /// T2, from its keyframe table.
    Keyframes,
}

/// What a directory says of a file. It serves to notice a change and is never an identity: FAT keeps
/// the time of change in local time, in steps of 2 s.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FileStamp {
    pub size_bytes: u64,
    pub modified_ns: i64,
}

impl FileStamp {
    pub fn of(metadata: &Metadata) -> Self {
        let seconds_ns = metadata.mtime().saturating_mul(1_000_000_000);
        FileStamp {
            size_bytes: metadata.len(),
            modified_ns: seconds_ns.saturating_add(metadata.mtime_nsec()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// The file has not been opened yet; its range is a guess from names.
    Unread,
    /// `range` is held in the first `usable_bytes`.
    Held,
    /// Nothing of it can be used: empty, malformed, unreadable, or just begun.
    Nothing,
}

/// One recording file: 104 bytes on a 64-bit machine, and its path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    pub id: SegmentId,
    /// Relative to the stream's root.
    pub path: Box<Path>,
    /// As last seen in the directory, or when it was read.
    pub stamp: FileStamp,
    /// Of its first bytes; see [`SegmentVersion::fingerprint`]. 0 before it is read.
    pub fingerprint: u64,
    pub range: TimeRange,
    /// The true start lies at most this far behind the start of `range`.
    pub uncertainty: Duration,
    /// Bytes from the start of the file that are whole.
    pub usable_bytes: u64,
    pub content: Content,
    /// The recorder has closed it.
    pub sealed: bool,
    /// Its name lies in the future: kept, but not counted as held.
    pub future: bool,
    /// Its bytes could not be had when they were last asked for.
    pub unreadable: bool,
    /// It is to be read, or read again.
    pub(crate) stale: bool,
    /// The log does not have it as it is.
    pub(crate) unlogged: bool,
    /// The survey that last saw it.
    pub(crate) seen: u32,
}

impl Segment {
    /// Which bytes the range stands for. An open segment grows: its version names the whole bytes so far.
    pub fn version(&self) -> SegmentVersion {
        let size_bytes = if self.sealed { self.stamp.size_bytes } else { self.usable_bytes };
        SegmentVersion { size_bytes, fingerprint: self.fingerprint }
    }

    pub fn tier(&self) -> Tier {
        if self.content == Content::Unread { Tier::Names } else { Tier::Extent }
    }

    /// What it contributes to the coverage of its stream.
    pub fn coverage(&self) -> Option<TimeRange> {
        let counts = self.content != Content::Nothing && !self.future && !self.range.is_empty();
        counts.then_some(self.range)
    }

    /// The log gets what will stay as it is.
    pub(crate) fn is_loggable(&self) -> bool {
        self.sealed && !self.stale && !self.unreadable
    }

    /// Segments are kept in this order.
    pub(crate) fn key(&self) -> (Timestamp, &Path) {
        (self.range.start(), &self.path)
    }
}

/// The bytes of a path that an id or a record holds: names on Linux are bytes, not text.
pub(crate) fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
