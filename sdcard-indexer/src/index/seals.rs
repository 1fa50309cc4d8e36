//! Which segments have a seal-time digest or wait for one, and what was altered since.
//!
//! What waits to be hashed waits in memory only: a segment that was sealed before the index had caught up,
//! or whose turn did not come before a power cut, stays without a digest. A digest taken later would prove
//! less than it seems to, as the card may have altered the bytes by then.

mod sealing;

use std::collections::VecDeque;
use std::path::PathBuf;

use super::read::Recording;
use super::row::remembered;
use crate::digest::{Digests, SealDigest, SealHasher, SealedBytes, Verdicts};
use crate::durable::Durable;
use crate::identity::{SegmentId, StreamId};
use crate::log::Day;
use crate::recordings::OpenRecording;
use crate::segment::{FileStamp, Segment};

pub use sealing::{DigestError, Digested};

/// Segments that may wait to be hashed; further ones go without a digest.
const MAX_WAITING: usize = 64;

#[derive(Debug)]
pub(super) struct Seals {
    kept: Option<Kept>,
    enabled: bool,
    waiting: VecDeque<SegmentId>,
    hashing: Option<Hashing>,
    overlooked: u64,
}

/// What is kept in the index's folder.
#[derive(Debug)]
struct Kept {
    folder: PathBuf,
    durable: Durable,
    digests: Digests,
    verdicts: Verdicts,
}

/// A segment that is being hashed.
#[derive(Debug)]
struct Hashing {
    stream: StreamId,
    name: PathBuf,
    day: Day,
    bytes: SealedBytes,
    stamp: FileStamp,
    file: Box<dyn OpenRecording>,
    hasher: SealHasher,
}

impl Kept {
    fn load(folder: PathBuf, durable: Durable) -> Self {
        Kept {
            digests: Digests::on(folder.clone(), durable.clone()),
            verdicts: Verdicts::load(folder.clone(), durable.clone()),
            folder,
            durable,
        }
    }
}

impl Seals {
    pub fn new(folder: Option<PathBuf>, durable: &Durable, enabled: bool) -> Self {
        let kept = folder.map(|folder| Kept::load(folder, durable.clone()));
        let (waiting, hashing) = (VecDeque::new(), None);
        Seals { kept, enabled, waiting, hashing, overlooked: 0 }
    }

    /// The card has gone, or another one may have come: what waited to be hashed was on the one before.
    pub fn reload(&mut self) {
        if let Some(kept) = &mut self.kept {
            *kept = Kept::load(kept.folder.clone(), kept.durable.clone());
        }
        self.waiting.clear();
        self.hashing = None;
    }

    /// A sealed segment has been read for the first time since it was sealed.
    pub fn enqueue(&mut self, segment: SegmentId) {
        if !self.enabled || self.kept.is_none() || self.waiting.contains(&segment) {
            return;
        }
        if self.waiting.len() == MAX_WAITING {
            self.overlooked += 1;
            return;
        }
        self.waiting.push_back(segment);
    }

    /// What was written since this was asked last.
    pub fn take_written(&mut self) -> u64 {
        self.kept.as_mut().map_or(0, |kept| kept.digests.take_written())
    }

    /// The digest that was taken of exactly these bytes. Digests that cannot be read are as good as none:
    /// the log they belong to is a cache.
    pub fn find(
        &self,
        stream: &StreamId,
        segment: &Segment,
        bytes: SealedBytes,
    ) -> Option<SealDigest> {
        let digests = &self.kept.as_ref()?.digests;
        digests.find(Day::of(segment.named), stream, &segment.path, bytes).ok().flatten()
    }

    /// How far the bytes are as recorded, where that is not to their end.
    pub fn intact_bytes(&self, segment: SegmentId, bytes: SealedBytes) -> Option<u64> {
        self.kept.as_ref()?.verdicts.intact_bytes(segment, bytes)
    }

    /// Remembers that only the first `intact_bytes` are as they were. A card that cannot be written to is
    /// judged anew after a restart.
    pub fn condemn(&mut self, segment: SegmentId, bytes: SealedBytes, intact_bytes: u64) {
        if let Some(kept) = &mut self.kept {
            kept.verdicts.add(segment, bytes, intact_bytes);
            let _ = kept.verdicts.save();
        }
    }

    /// Where a head that changes under the same stamp was sealed with another, nobody wrote it: the card
    /// gives back other bytes. Of a recording without a digest that cannot be said.
    pub fn judge_head(&mut self, stream: &StreamId, known: &Segment, found: &Recording) {
        let now = found.sealed_bytes();
        let before = SealedBytes { version: known.version(), ..now };
        let same_stamp = known.sealed && known.stamp == remembered(found.stamp);
        if same_stamp
            && known.fingerprint != 0
            && before != now
            && self.find(stream, known, before).is_some()
        {
            self.condemn(known.id, now, 0);
        }
    }
}
