//! One stream: looks into its directories and files, and tells its table what it sees.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::problem::{ProblemKind, Told};
use super::read::{ReadError, Recording, SegmentReader};
use super::table::{Extent, Reading, StreamView, Table};
use super::{IndexConfig, StreamSource};
use crate::container::{self, ContainerError};
use crate::identity::{FINGERPRINT_BYTES, SegmentId, SegmentVersion};
use crate::scan::{Found, ScanLimits, UnlistedReason, Walk};
use crate::segment::{FileStamp, path_bytes};
use crate::time::Timestamp;
use crate::watch::Hint;

#[derive(Debug)]
pub(super) struct Stream {
    pub source: StreamSource,
    pub table: Table,
    /// As of the end of the last call.
    pub view: StreamView,
    /// Its folder could be listed when that was last tried.
    pub present: bool,
}

/// What looking needs besides the stream.
pub(super) struct Look<'a> {
    sources: &'a [StreamSource],
    state_dir: Option<&'a Path>,
    scan: ScanLimits,
    told: &'a mut Told,
    now: Timestamp,
}

impl<'a> Look<'a> {
    pub fn new(config: &'a IndexConfig, told: &'a mut Told, now: Timestamp) -> Self {
        Look {
            sources: &config.sources,
            state_dir: config.state_dir.as_deref(),
            scan: config.scan,
            told,
            now,
        }
    }

    /// Streams may share a root: a file is foreign only where no layout knows it.
    fn is_foreign(&self, path: &Path) -> bool {
        !self.sources.iter().any(|source| {
            path.strip_prefix(&source.root).is_ok_and(|path| source.layout.parse(path).is_some())
        })
    }
}

impl Stream {
    pub fn new(source: StreamSource) -> Self {
        Stream { source, table: Table::default(), view: StreamView::absent(), present: false }
    }

    /// Names are no finer than this, nor are the holes between successive segments.
    pub fn join(&self, tolerance: Duration) -> Duration {
        tolerance.saturating_add(self.source.layout.resolution())
    }

    /// Looks at all directories. Returns how many segments have gone.
    pub fn survey(&mut self, look: &mut Look<'_>) -> usize {
        self.table.begin_survey(true);
        self.present = true;
        self.look_into(Path::new(""), look)
    }

    /// Looks at what may have changed. Returns how many segments have gone.
    pub fn refresh(&mut self, hints: &[Hint], look: &mut Look<'_>) -> usize {
        self.table.begin_survey(false);
        let mut gone = 0;
        for path in self.table.open_paths() {
            gone += self.look_at(&path, look);
        }
        for hint in hints {
            let Some(path) = hint.path().and_then(|path| path.strip_prefix(&self.source.root).ok())
            else {
                continue;
            };
            gone += match hint {
                Hint::Directory(_) => self.look_into(path, look),
                _ => self.look_at(path, look),
            };
            if let (Hint::Sealed(_), Some(named)) = (hint, self.source.layout.parse(path)) {
                self.table.seal(named.start, path);
            }
        }
        gone
    }

    fn look_into(&mut self, under: &Path, look: &mut Look<'_>) -> usize {
        let own = look.state_dir.and_then(|folder| folder.strip_prefix(&self.source.root).ok());
        let mut unlisted = Vec::new();
        for found in Walk::new(&self.source.root.clone(), under, look.scan) {
            match found {
                Found::Directory(path) | Found::File(path, _)
                    if own.is_some_and(|own| path.starts_with(own)) => {}
                Found::Directory(path) => {
                    if self.source.layout.parse(&path).is_some() {
                        self.tell(look, &path, ProblemKind::NotAFile);
                    }
                }
                Found::File(path, entry) => match entry.metadata() {
                    Ok(metadata) => self.file(&path, FileStamp::of(&metadata), look),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        self.tell(look, &path, ProblemKind::Unreadable(error));
                        unlisted.push(path);
                    }
                },
                Found::Other(path) => self.not_a_file(&path, look),
                Found::Unlisted(path, UnlistedReason::Io(error))
                    if error.kind() == io::ErrorKind::NotFound && !path.as_os_str().is_empty() => {}
                Found::Unlisted(path, reason) => {
                    self.unlisted(&path, reason, look);
                    unlisted.push(path);
                }
            }
        }
        self.table.bury_unseen(under, &unlisted)
    }

    /// A root that is not there is no loss as long as nothing has ever been recorded.
    fn unlisted(&mut self, path: &Path, reason: UnlistedReason, look: &mut Look<'_>) {
        if let (true, UnlistedReason::Io(error)) = (path.as_os_str().is_empty(), &reason) {
            let not_begun = error.kind() == io::ErrorKind::NotFound && self.table.is_blank();
            self.present = not_begun;
            if not_begun {
                return;
            }
        }
        self.tell(look, path, ProblemKind::Unlisted(reason));
    }

    fn look_at(&mut self, path: &Path, look: &mut Look<'_>) -> usize {
        match fs::symlink_metadata(self.source.root.join(path)) {
            Ok(metadata) if metadata.is_file() => self.file(path, FileStamp::of(&metadata), look),
            Ok(metadata) if metadata.is_dir() => return self.look_into(path, look),
            Ok(_) => self.not_a_file(path, look),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Where the root is missing too, the next survey says what that means.
                if self.source.root.is_dir() {
                    return self.table.bury_unseen(path, &[] as &[&Path]);
                }
            }
            Err(error) => self.tell(look, path, ProblemKind::Unreadable(error)),
        }
        0
    }

    fn file(&mut self, path: &Path, stamp: FileStamp, look: &mut Look<'_>) {
        let stream = &self.source.stream;
        if let Some(named) = self.source.layout.parse(path) {
            let id = || SegmentId::of(stream, path_bytes(path));
            self.table.observe(path, named, stamp, look.now, id);
        } else if !is_end_of_span(path, stamp) && look.is_foreign(&self.source.root.join(path)) {
            self.tell(look, path, ProblemKind::Foreign);
        }
    }

    fn not_a_file(&self, path: &Path, look: &mut Look<'_>) {
        let named_so = self.source.layout.parse(path).is_some();
        self.tell(look, path, if named_so { ProblemKind::NotAFile } else { ProblemKind::Foreign });
    }

    fn tell(&self, look: &mut Look<'_>, path: &Path, kind: ProblemKind) {
        look.told.tell(&self.source.stream, path, kind);
    }

    /// Returns how many segments are new.
    pub fn settle(&mut self, seal_after: Duration, look: &mut Look<'_>) -> usize {
        let added = self.table.settle(look.now, seal_after);
        for segment in self.table.segments().iter().filter(|segment| segment.future) {
            self.tell(look, &segment.path, ProblemKind::Future);
        }
        added
    }

    /// What is to be read; nothing as long as it cannot be seen whether the files are there.
    pub fn to_read(&self) -> impl Iterator<Item = usize> {
        self.present.then(|| self.table.to_read()).into_iter().flatten()
    }

    /// Opens at most `limit` files, and returns how many.
    pub fn read_unread(&mut self, limit: usize, told: &mut Told) -> usize {
        let to_read: Vec<usize> = self.to_read().take(limit).collect();
        for &at in &to_read {
            let Some(segment) = self.table.segment(at) else { continue };
            match look_inside(&self.source.root.join(&segment.path), segment.sealed) {
                Ok((reading, problem)) => {
                    if let Some(kind) = problem {
                        told.tell(&self.source.stream, &segment.path, kind);
                    }
                    self.table.read(at, reading);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.table.unreadable(at, true);
                }
                Err(error) => {
                    let kind = ProblemKind::Unreadable(error);
                    told.tell(&self.source.stream, &segment.path, kind);
                    self.table.unreadable(at, false);
                }
            }
        }
        to_read.len()
    }

    pub fn path_of(&self, id: SegmentId) -> Option<PathBuf> {
        self.table.find(id).map(|segment| self.source.root.join(&segment.path))
    }

    /// See [`super::Index::open_segment`].
    pub fn open_segment(
        &mut self,
        id: SegmentId,
        version: SegmentVersion,
    ) -> Result<SegmentReader, ReadError> {
        let recording = Recording::open(&self.path_of(id).ok_or(ReadError::Gone)?)?;
        if !recording.holds(version) {
            self.table.mistrust(id);
            return Err(ReadError::Changed);
        }
        Ok(recording.into_reader(version))
    }
}

/// Tier T1 of one file. What is wrong with it is told of a sealed one only: one that is being written
/// may well be without its index, or torn. One with fewer bytes than its fingerprint covers is not used
/// yet, because these would change.
fn look_inside(path: &Path, sealed: bool) -> io::Result<(Reading, Option<ProblemKind>)> {
    let mut recording = Recording::open(path)?;
    let (stamp, fingerprint) = (recording.stamp, recording.fingerprint);
    let size_bytes = stamp.size_bytes;
    let (held, problem) = match container::summarise(&mut recording, size_bytes) {
        Ok(summary) => {
            let usable_bytes = summary.whole_bytes;
            let problem = summary.torn.then_some(ProblemKind::Torn { usable_bytes, size_bytes });
            (Some(Extent { duration: summary.duration, usable_bytes }), problem)
        }
        Err(ContainerError::Io(error)) => return Err(error),
        Err(ContainerError::Empty) => (None, Some(ProblemKind::Empty)),
        Err(error) => (None, Some(ProblemKind::Malformed(error))),
    };
    let steady = |held: &Extent| sealed || held.usable_bytes >= FINGERPRINT_BYTES as u64;
    let reading = Reading { stamp, fingerprint, held: held.filter(steady) };
    Ok((reading, problem.filter(|_| sealed)))
}

/// The ONVIF object storage format closes a run of segments with an empty object `…_end`.
fn is_end_of_span(path: &Path, stamp: FileStamp) -> bool {
    stamp.size_bytes == 0 && path_bytes(path).ends_with(b"_end")
}
