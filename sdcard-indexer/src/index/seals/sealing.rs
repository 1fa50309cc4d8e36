//! Takes seal-time digests, a little at a time, and what follows from them for an index.

use std::io;
use std::path::PathBuf;

use super::super::Index;
use super::super::row::remembered;
use super::super::stream::Stream;
use super::{Hashing, Seals};
use crate::digest::verify::{self, OnProgress, Report};
use crate::digest::{SLICE_BYTES, SealHasher, SealedBytes};
use crate::identity::{FINGERPRINT_BYTES, SegmentId, SegmentVersion, StreamId};
use crate::log::{Day, LogError};
use crate::recordings::read_full_at;

/// What one call of [`Index::digest`] did.
#[derive(Debug, Default)]
pub struct Digested {
    /// Bytes that were read for it, never more than allowed.
    pub read_bytes: u64,
    /// Digests that were completed and are in the log.
    pub sealed: usize,
    /// Segments that are still to be hashed, the one under way included.
    pub waiting: usize,
    /// Segments that stay without a digest because the log could not be written, or their bytes not read.
    pub failed: Vec<(PathBuf, DigestError)>,
}

/// Why a segment stays without a digest.
#[derive(Debug, thiserror::Error)]
pub enum DigestError {
    #[error("the recording cannot be read")]
    Read(#[source] io::Error),
    #[error(transparent)]
    Log(#[from] LogError),
}

impl Seals {
    /// Removes what belongs to segments that are gone.
    pub fn housekeep(&mut self, streams: &[Stream]) {
        let Some(kept) = &mut self.kept else { return };
        let is_live =
            |day| streams.iter().any(|stream| stream.table.loggable(day).next().is_some());
        // Tried again by the next one.
        let _ = kept.digests.keep(is_live);
        let is_there = |id| streams.iter().any(|stream| stream.table.find(id).is_some());
        if kept.verdicts.keep(is_there) {
            let _ = kept.verdicts.save();
        }
    }

    fn begin(&mut self, streams: &[Stream], failed: &mut Vec<(PathBuf, DigestError)>) -> bool {
        let Some(id) = self.waiting.pop_front() else { return false };
        let found = streams.iter().find_map(|stream| Some((stream, stream.table.find(id)?)));
        // What changes meanwhile waits for its turn anew, once it is sealed anew.
        let Some((stream, segment)) = found.filter(|(_, segment)| segment.sealed) else {
            return true;
        };
        let recording = match stream.open(&segment.path) {
            Ok(recording) => recording,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    failed.push((segment.path, DigestError::Read(error)));
                }
                return true;
            }
        };
        let bytes = recording.sealed_bytes();
        let known = bytes.version != segment.version()
            || self.intact_bytes(id, bytes).is_some()
            || self.find(&stream.source.stream, &segment, bytes).is_some();
        if !known {
            self.hashing = Some(Hashing {
                stream: stream.source.stream.clone(),
                name: segment.path,
                day: Day::of(segment.named),
                bytes,
                stamp: recording.stamp,
                hasher: SealHasher::new(bytes.version.size_bytes),
                file: recording.into_file(),
            });
        }
        true
    }

    fn digest(&mut self, streams: &[Stream], budget_bytes: u64) -> Digested {
        let mut done = Digested::default();
        let mut buffer = vec![0; SLICE_BYTES];
        while done.read_bytes < budget_bytes {
            let left_bytes = budget_bytes - done.read_bytes;
            let Some(hashing) = &mut self.hashing else {
                if left_bytes < FINGERPRINT_BYTES as u64 || !self.begin(streams, &mut done.failed) {
                    break;
                }
                done.read_bytes += FINGERPRINT_BYTES as u64;
                continue;
            };
            match hashing.step(&mut buffer, left_bytes) {
                Ok(read_bytes) if read_bytes > 0 && hashing.hasher.left_bytes() > 0 => {
                    done.read_bytes += read_bytes;
                }
                Ok(read_bytes) => {
                    done.read_bytes += read_bytes;
                    self.end(&mut done);
                }
                Err(error) => {
                    let name = std::mem::take(&mut hashing.name);
                    self.hashing = None;
                    if error.kind() != io::ErrorKind::NotFound {
                        done.failed.push((name, DigestError::Read(error)));
                    }
                }
            }
        }
        done.waiting = self.waiting.len() + usize::from(self.hashing.is_some());
        done
    }

    /// What was changed while it was being hashed, or cut off, gets none.
    fn end(&mut self, done: &mut Digested) {
        let (Some(hashing), Some(kept)) = (self.hashing.take(), &mut self.kept) else { return };
        let steady = hashing.file.stamp().is_ok_and(|stamp| stamp == hashing.stamp);
        let Some(digest) = hashing.hasher.finish().filter(|_| steady) else { return };
        let Hashing { stream, name, day, bytes, .. } = hashing;
        match kept.digests.append(day, &stream, &name, bytes, &digest) {
            Ok(()) => done.sealed += 1,
            Err(error) => done.failed.push((name, error.into())),
        }
    }
}

impl Hashing {
    /// Reads at most `limit_bytes`; 0 at the end.
    fn step(&mut self, buffer: &mut [u8], limit_bytes: u64) -> io::Result<u64> {
        let left_bytes = self.hasher.left_bytes().min(limit_bytes);
        let length = usize::try_from(left_bytes).unwrap_or(usize::MAX).min(buffer.len());
        let slice = buffer.get_mut(..length).unwrap_or_default();
        let count = read_full_at(&*self.file, slice, self.hasher.position())?;
        self.hasher.update(slice.get(..count).unwrap_or_default());
        Ok(count as u64)
    }
}

impl Index {
    /// Reads up to `budget_bytes` of segments that were sealed since the index caught up, and keeps the
    /// digests of those that are read to their end. In slices of 64 KiB; to be called when nothing else is to
    /// be done, with as much as the card and the processor can be asked for at that time. At least 4 KiB are
    /// needed to begin with a segment.
    pub fn digest(&mut self, budget_bytes: u64) -> Digested {
        if !self.attached || !self.card_is_there() || self.store.is_anothers() {
            self.seals.reload();
            return Digested::default();
        }
        self.seals.digest(&self.streams, budget_bytes)
    }

    /// Segments that wait to be hashed, the one under way included.
    pub fn digests_waiting(&self) -> usize {
        self.seals.waiting.len() + usize::from(self.seals.hashing.is_some())
    }

    /// Segments that stay without a digest because too many were waiting.
    pub fn digests_overlooked(&self) -> u64 {
        self.seals.overlooked
    }

    /// A segment was found altered: only its first `intact_bytes` are as they were recorded. The next
    /// refresh reads no further than that, so that what lies behind is no longer held; where nothing can be
    /// read without it, as with an MP4 file whose index lies at the end, that is all of it.
    pub fn withdraw(&mut self, segment: SegmentId, version: SegmentVersion, intact_bytes: u64) {
        for stream in &mut self.streams {
            let known = stream.table.find(segment).filter(|known| known.version() == version);
            let Some(known) = known else { continue };
            stream.table.mistrust(segment);
            if let Ok(found) = stream.open(&known.path) {
                if known.stamp == remembered(found.stamp) {
                    let bytes = SealedBytes { version, ..found.sealed_bytes() };
                    self.seals.condemn(segment, bytes, intact_bytes);
                }
            }
        }
    }

    /// Asks the medium itself whether a stream's segments are what they were when they were sealed: see
    /// [`crate::digest::verify`]. What changed without having been written to is withdrawn, see
    /// [`Index::withdraw`]. `None` where the stream is not indexed, or no folder is configured.
    pub fn verify(
        &mut self,
        stream: &StreamId,
        on_progress: OnProgress<'_>,
    ) -> Option<Result<Report, LogError>> {
        let known = self.streams.iter().find(|known| known.source.stream == *stream)?;
        let digests = &self.seals.kept.as_ref()?.digests;
        let report = verify::verify(stream, &*known.recordings, digests, on_progress);
        for changed in report.iter().flat_map(|report| &report.changed) {
            if !changed.written_since {
                self.withdraw(changed.segment, changed.sealed.version, changed.intact_bytes());
            }
        }
        Some(report)
    }
}
