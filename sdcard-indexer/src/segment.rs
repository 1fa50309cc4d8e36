//! One recording file as the index knows it: where it lies, when it was recorded, how much of it can be used.
//!
//! Plain values. The start of a segment is where it is placed in true time, which need not be what its
//! recorder's clock said; its end is that start plus the duration of its media, exactly: where the next
//! segment is placed a little before that, the two overlap, which a set of time ranges does not mind.

use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::coverage::Coverage;
use crate::identity::{SegmentId, SegmentVersion};
use crate::index::KnownHoles;
use crate::time::{TimeRange, Timestamp};

pub use crate::clock::{EpochId, Placement, TimeSource};

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

/// The index knows the time of a file's last change in steps of this, as exFAT does.
pub const MODIFIED_STEP_NS: i64 = 10_000_000;

/// What a directory says of a file. It serves to notice a change and is never an identity: FAT keeps
/// the time of change in local time, in steps of 2 s.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FileStamp {
    pub size_bytes: u64,
    /// A multiple of [`MODIFIED_STEP_NS`].
    pub modified_ns: i64,
}

impl FileStamp {
    pub fn of(metadata: &Metadata) -> Self {
        let seconds_ns = metadata.mtime().saturating_mul(1_000_000_000);
        let modified_ns = seconds_ns.saturating_add(metadata.mtime_nsec());
        let modified_ns = modified_ns.div_euclid(MODIFIED_STEP_NS) * MODIFIED_STEP_NS;
        FileStamp { size_bytes: metadata.len(), modified_ns }
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

/// One recording file. Made when asked for; the index holds it in fewer bytes than its path has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    pub id: SegmentId,
    /// Relative to the stream's root.
    pub path: PathBuf,
    /// As last seen in the directory, or when it was read; the time of change in steps of 10 ms.
    pub stamp: FileStamp,
    /// Of its first bytes; see [`SegmentVersion::fingerprint`]. 0 before it is read.
    pub fingerprint: u64,
    /// When it was begun by its recorder's own clock, as its name tells.
    pub named: Timestamp,
    pub placement: Placement,
    /// Of its media.
    pub duration: Duration,
    /// Bytes from the start of the file that are whole.
    pub usable_bytes: u64,
    pub content: Content,
    /// The recorder has closed it.
    pub sealed: bool,
    /// It lies in the future: kept, but not counted as held.
    pub future: bool,
    /// Its bytes could not be had when they were last asked for.
    pub unreadable: bool,
    /// Inside it, where [`crate::index::IndexConfig::holes_within`] says to look for them, and at its ends.
    pub holes: KnownHoles,
}

impl Segment {
    /// Which bytes the range stands for. An open segment grows: its version names the whole bytes so far.
    pub fn version(&self) -> SegmentVersion {
        let size_bytes = if self.sealed { self.stamp.size_bytes } else { self.usable_bytes };
        SegmentVersion { size_bytes, fingerprint: self.fingerprint }
    }

    pub fn range(&self) -> TimeRange {
        TimeRange::starting_at(self.placement.start, self.duration)
    }

    /// What it covers from its first frame to its last.
    pub fn coverage(&self) -> Option<TimeRange> {
        let range = self.range();
        let counts = self.content != Content::Nothing
            && !self.future
            && self.placement.is_known()
            && !range.is_empty();
        counts.then_some(range)
    }

    /// What it contributes to the coverage of its stream: [`Segment::coverage`] without the holes in it.
    pub fn held(&self) -> Coverage {
        self.coverage().map(|range| self.holes.covered(range)).unwrap_or_default()
    }
}

/// The bytes of a path that an id or a record holds: names on Linux are bytes, not text.
pub(crate) fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
