//! What is wrong with a file, told once.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::container::ContainerError;
use crate::identity::{SegmentId, StreamId};
use crate::scan::UnlistedReason;
use crate::segment::path_bytes;

/// Files whose problems are remembered as told; further ones are counted only.
const MAX_TOLD: usize = 4_096;

/// A file or directory that the index cannot use as it should be.
#[derive(Debug)]
pub struct Problem {
    pub stream: StreamId,
    /// Relative to the stream's root.
    pub path: PathBuf,
    pub kind: ProblemKind,
}

#[derive(Debug, thiserror::Error)]
pub enum ProblemKind {
    #[error("the file is empty")]
    Empty,
    #[error("the end is torn: of {size_bytes} bytes, the first {usable_bytes} can be used")]
    Torn { usable_bytes: u64, size_bytes: u64 },
    #[error(
        "altered since it was recorded, and nobody wrote to it: of {size_bytes} bytes, the first \
         {intact_bytes} are as they were"
    )]
    Altered { intact_bytes: u64, size_bytes: u64 },
    #[error("the file cannot be read")]
    Unreadable(#[source] io::Error),
    #[error("not a file that can be opened, though named like a segment")]
    NotAFile,
    #[error("the directory is not indexed in full")]
    Unlisted(#[source] UnlistedReason),
    #[error("its name is not one of the stream's layout: ignored")]
    Foreign,
    #[error("its name lies in the future: not counted as held until the clock gets there")]
    Future,
    #[error("when it was recorded is not known: not counted as held until the clock is set")]
    Unplaced,
    #[error("the recording cannot be used")]
    Malformed(#[source] ContainerError),
}

/// Collects what has not been told before.
#[derive(Debug, Default)]
pub(super) struct Told {
    known: HashSet<(SegmentId, std::mem::Discriminant<ProblemKind>)>,
    fresh: Vec<Problem>,
    untold: u64,
}

impl Told {
    pub fn tell(&mut self, stream: &StreamId, path: &Path, kind: ProblemKind) {
        let key = (SegmentId::of(stream, path_bytes(path)), std::mem::discriminant(&kind));
        if self.known.contains(&key) {
            return;
        }
        if self.known.len() >= MAX_TOLD {
            self.untold += 1;
            return;
        }
        self.known.insert(key);
        self.fresh.push(Problem { stream: stream.clone(), path: path.to_owned(), kind });
    }

    /// What is new since the last call, and how often something was not told for want of room.
    pub fn take(&mut self) -> (Vec<Problem>, u64) {
        (std::mem::take(&mut self.fresh), std::mem::take(&mut self.untold))
    }
}
