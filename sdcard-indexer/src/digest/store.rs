//! Keeps digests beside the index's log, and what was found to have changed since.
//!
//! ```text
//! 2026-11-23.log       what the index knows of that day's segments: read at each start
//! 2026-11-23.digests   their seal-time digests: read when one of them is opened or verified
//! changed.digests      which sealed segments are no longer what they were: a few lines, if any
//! ```
//!
//! All have the frames of [`crate::log::record`]. The day is the UTC day that a segment's recorder began it
//! on. Of several digests of one segment the last one counts: a file that was changed and sealed again has
//! two. A `.digests` file is only appended to, in one write and sync a segment, and removed as a whole once
//! no segment of its day is left. After a power cut its torn end is cut off by the next append: that segment
//! has no digest. Memory holds none of them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::{SealDigest, SealedBytes};
use crate::durable::Durable;
use crate::identity::{SegmentId, StreamId};
use crate::log::record::{self, ChangedRecord, DigestRecord, Record};
use crate::log::{Day, LogError};
use crate::segment::path_bytes;

/// What one day's digests may take, as they are read at once; further segments of that day get none. Some 7,000
/// segments of 30 MB.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// Altered segments that are remembered; the oldest are forgotten first.
const MAX_CHANGED: usize = 1_024;
const SUFFIX: &str = ".digests";
const CHANGED_NAME: &str = "changed.digests";

/// The digests in one index's folder.
#[derive(Debug)]
pub struct Digests {
    folder: PathBuf,
    durable: Durable,
    /// Where the whole frames of the file that was appended to last end.
    tail: Option<(Day, u64)>,
    /// Since it was asked last.
    bytes_written: u64,
}

/// Where in its file a digest stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub day: Day,
    pub offset: u64,
}

impl Digests {
    /// `folder` is the index's, [`crate::index::IndexConfig::state_dir`]. Touches nothing.
    pub fn new(folder: PathBuf) -> Self {
        Digests::on(folder, Durable::default())
    }

    /// As [`Digests::new`], read and written on a disk of one's choice.
    pub(crate) fn on(folder: PathBuf, durable: Durable) -> Self {
        Digests { folder, durable, tail: None, bytes_written: 0 }
    }

    /// The digest of exactly these bytes of a segment, if one was taken.
    pub fn find(
        &self,
        day: Day,
        stream: &StreamId,
        name: &Path,
        bytes: SealedBytes,
    ) -> Result<Option<SealDigest>, LogError> {
        let mut found = None;
        self.replay(day, |_, record| {
            let meant = record.path == path_bytes(name) && record.stream == stream.as_str();
            if meant && SealedBytes::of_record(record) == bytes {
                found = SealDigest::of_record(record);
            }
        })?;
        Ok(found)
    }

    /// On the disk when it returns.
    pub(crate) fn append(
        &mut self,
        day: Day,
        stream: &StreamId,
        name: &Path,
        bytes: SealedBytes,
        digest: &SealDigest,
    ) -> Result<(), LogError> {
        let mut frame = Vec::new();
        let framed = Record::Digest(DigestRecord {
            stream: stream.as_str(),
            path: path_bytes(name),
            size_bytes: bytes.version.size_bytes,
            modified_ns: bytes.modified_ns,
            fingerprint: bytes.version.fingerprint,
            whole: digest.whole,
            blocks: &digest.value_bytes(),
        })
        .write_to(&mut frame);
        let good_bytes = match self.tail.take() {
            Some((known, good_bytes)) if known == day => good_bytes,
            _ => self.replay(day, |_, _| {})?,
        };
        let end = good_bytes + frame.len() as u64;
        let path = self.path_of(day);
        if !framed || end > MAX_FILE_BYTES {
            let source = io::Error::new(io::ErrorKind::FileTooLarge, "no room for a digest");
            return Err(LogError::Write { path, source });
        }
        self.durable
            .create_folder(&self.folder)
            .and_then(|()| self.durable.append_after(&path, good_bytes, &frame))
            .map_err(|source| LogError::Write { path, source })?;
        self.tail = Some((day, end));
        self.bytes_written += frame.len() as u64;
        Ok(())
    }

    /// Hands each record of a day over with its place, and says where the whole frames end.
    pub(super) fn replay(
        &self,
        day: Day,
        mut each: impl FnMut(Place, &DigestRecord<'_>),
    ) -> Result<u64, LogError> {
        let path = self.path_of(day);
        let bytes = match self.durable.disk().read(&path, MAX_FILE_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(source) => return Err(LogError::Read { path, source }),
        };
        let (mut rest, mut offset) = (bytes.as_slice(), 0);
        while let Some((record, behind)) = record::read_frame(rest) {
            if let Record::Digest(record) = &record {
                each(Place { day, offset }, record);
            }
            offset += (rest.len() - behind.len()) as u64;
            rest = behind;
        }
        Ok(offset)
    }

    /// The days that have a file, oldest first.
    pub(super) fn days(&self) -> Result<Vec<Day>, LogError> {
        let names = match self.durable.disk().names(&self.folder) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(LogError::Read { path: self.folder.clone(), source }),
        };
        let day = |name: &OsString| name.to_str()?.strip_suffix(SUFFIX)?.parse().ok();
        let mut days: Vec<Day> = names.iter().filter_map(day).collect();
        days.sort_unstable();
        Ok(days)
    }

    /// Removes the files of the days of which nothing is left.
    pub(crate) fn keep(&mut self, mut is_live: impl FnMut(Day) -> bool) -> Result<(), LogError> {
        for day in self.days()? {
            if !is_live(day) {
                let path = self.path_of(day);
                self.durable.remove(&path).map_err(|source| LogError::Write { path, source })?;
                self.tail = self.tail.filter(|(known, _)| *known != day);
            }
        }
        Ok(())
    }

    /// What was written since this was asked last.
    pub(crate) fn take_written(&mut self) -> u64 {
        std::mem::take(&mut self.bytes_written)
    }

    fn path_of(&self, day: Day) -> PathBuf {
        self.folder.join(format!("{day}{SUFFIX}"))
    }
}

/// Which segments were found altered since they were sealed, and how far they are whole.
#[derive(Debug)]
pub(crate) struct Verdicts {
    folder: PathBuf,
    durable: Durable,
    changed: Vec<ChangedRecord>,
}

impl Verdicts {
    /// What cannot be read is not known: it will be found out again.
    pub fn load(folder: PathBuf, durable: Durable) -> Self {
        let path = folder.join(CHANGED_NAME);
        let bytes = durable.disk().read(&path, MAX_FILE_BYTES).unwrap_or_default();
        let (mut rest, mut changed) = (bytes.as_slice(), Vec::new());
        while let Some((Record::Changed(record), behind)) = record::read_frame(rest) {
            changed.push(record);
            rest = behind;
        }
        changed.truncate(MAX_CHANGED);
        Verdicts { folder, durable, changed }
    }

    /// How many bytes from the start are as they were, where not all are.
    pub fn intact_bytes(&self, segment: SegmentId, bytes: SealedBytes) -> Option<u64> {
        let of = |known: &&ChangedRecord| {
            known.segment == segment
                && known.version == bytes.version
                && known.modified_ns == bytes.modified_ns
        };
        self.changed.iter().find(of).map(|known| known.intact_bytes)
    }

    /// The latest verdict on a segment is the one that counts, but what was altered stays altered.
    pub fn add(&mut self, segment: SegmentId, bytes: SealedBytes, intact_bytes: u64) {
        let known_bytes = self.intact_bytes(segment, bytes).unwrap_or(intact_bytes);
        self.changed.retain(|known| known.segment != segment);
        if self.changed.len() == MAX_CHANGED {
            self.changed.remove(0);
        }
        self.changed.push(ChangedRecord {
            segment,
            version: bytes.version,
            modified_ns: bytes.modified_ns,
            intact_bytes: intact_bytes.min(known_bytes),
        });
    }

    /// Forgets segments that are gone; false: there were none to forget.
    pub fn keep(&mut self, mut is_there: impl FnMut(SegmentId) -> bool) -> bool {
        let before = self.changed.len();
        self.changed.retain(|known| is_there(known.segment));
        self.changed.len() < before
    }

    pub fn save(&self) -> Result<(), LogError> {
        let mut bytes = Vec::new();
        for record in &self.changed {
            let written = Record::Changed(*record).write_to(&mut bytes);
            debug_assert!(written, "a verdict is far shorter than a frame may be");
        }
        let path = self.folder.join(CHANGED_NAME);
        self.durable
            .create_folder(&self.folder)
            .and_then(|()| self.durable.replace(&path, &bytes))
            .map_err(|source| LogError::Write { path, source })
    }
}

/// The last digest of each name of a day.
pub(super) fn last_of_each(
    digests: &Digests,
    day: Day,
    stream: &StreamId,
) -> Result<HashMap<SegmentId, Place>, LogError> {
    let mut last = HashMap::new();
    digests.replay(day, |place, record| {
        if record.stream == stream.as_str() {
            last.insert(SegmentId::of(stream, record.path), place);
        }
    })?;
    Ok(last)
}
