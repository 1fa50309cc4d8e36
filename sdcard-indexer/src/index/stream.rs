//! One stream: looks into its directories and files, and tells its table what it sees.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::problem::{ProblemKind, Told};
use super::read::{ReadError, Recording, SegmentReader};
use super::table::{Extent, Reading, StreamView, Table};
use super::{IndexConfig, StreamSource};
use crate::container::{self, ContainerError};
use crate::identity::{FINGERPRINT_BYTES, SegmentId, SegmentVersion};
use crate::layout::NamedTime;
use crate::recordings::{Listed, Recordings};
use crate::scan::UnlistedReason;
use crate::segment::{FileStamp, path_bytes};
use crate::time::Timestamp;
use crate::watch::Hint;

#[derive(Debug)]
pub(super) struct Stream {
    pub source: StreamSource,
    pub recordings: Box<dyn Recordings>,
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
    told: &'a mut Told,
    now: Timestamp,
}

impl<'a> Look<'a> {
    pub fn new(config: &'a IndexConfig, told: &'a mut Told, now: Timestamp) -> Self {
        Look { sources: &config.sources, state_dir: config.state_dir.as_deref(), told, now }
    }

    /// Streams may share a root: a file is foreign only where no layout knows it.
    fn is_foreign(&self, path: &Path) -> bool {
        !self.sources.iter().any(|source| {
            path.strip_prefix(&source.root).is_ok_and(|path| source.layout.parse(path).is_some())
        })
    }
}

impl Stream {
    pub fn new(source: StreamSource, recordings: Box<dyn Recordings>) -> Self {
        let (table, view) = (Table::default(), StreamView::absent());
        Stream { source, recordings, table, view, present: false }
    }

    /// What the recorder's own clock said when it began this recording.
    pub fn time_of(&self, name: &Path) -> Option<NamedTime> {
        self.recordings.time_of(name, &self.source.layout)
    }

    pub fn open(&self, name: &Path) -> io::Result<Recording> {
        Recording::new(self.recordings.open(name)?)
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
            gone += self.look_into(&path, look);
        }
        let own = self.recordings.hints();
        for hint in own.iter().chain(hints) {
            let Some(path) = hint.path() else {
                gone += self.look_into(Path::new(""), look);
                continue;
            };
            let Ok(path) = path.strip_prefix(&self.source.root) else { continue };
            gone += self.look_into(path, look);
            if let (Hint::Sealed(_), Some(named)) = (hint, self.time_of(path)) {
                self.table.seal(named.start, path);
            }
        }
        gone
    }

    /// Lists what stands under this name and below. Returns how many segments have gone.
    fn look_into(&mut self, under: &Path, look: &mut Look<'_>) -> usize {
        let own = look.state_dir.and_then(|folder| folder.strip_prefix(&self.source.root).ok());
        let (source, recordings, table) = (&self.source, &*self.recordings, &mut self.table);
        let mut listing = Listing { source, recordings, table, own, look, unlisted: Vec::new() };
        recordings.list(under, &mut |listed| listing.take(listed));
        let mut unlisted = Vec::new();
        for (name, reason) in listing.unlisted {
            self.unlisted(&name, reason, look);
            unlisted.push(name);
        }
        self.table.bury_unseen(under, &unlisted)
    }

    /// A root that is not there is no loss as long as nothing has ever been recorded.
    fn unlisted(&mut self, path: &Path, reason: UnlistedReason, look: &mut Look<'_>) {
        if let (true, UnlistedReason::Io(_)) = (path.as_os_str().is_empty(), &reason) {
            let not_begun = reason.is_not_found() && self.table.is_blank();
            self.present = not_begun;
            if not_begun {
                return;
            }
        }
        look.told.tell(&self.source.stream, path, ProblemKind::Unlisted(reason));
    }

    /// Returns how many segments are new.
    pub fn settle(&mut self, seal_after: Duration, look: &mut Look<'_>) -> usize {
        let added = self.table.settle(look.now, seal_after);
        for segment in self.table.segments().iter().filter(|segment| segment.future) {
            look.told.tell(&self.source.stream, &segment.path, ProblemKind::Future);
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
            let recording = self.open(&segment.path);
            match recording.and_then(|recording| look_inside(recording, segment.sealed)) {
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
        let recording = self.open(&self.table.find(id).ok_or(ReadError::Gone)?.path)?;
        if !recording.holds(version) {
            self.table.mistrust(id);
            return Err(ReadError::Changed);
        }
        Ok(recording.into_reader(version))
    }
}

/// What a store lists, on its way into the table.
struct Listing<'a, 'b> {
    source: &'a StreamSource,
    recordings: &'a dyn Recordings,
    table: &'a mut Table,
    /// The index's own folder, where it lies among the recordings.
    own: Option<&'a Path>,
    look: &'a mut Look<'b>,
    unlisted: Vec<(PathBuf, UnlistedReason)>,
}

impl Listing<'_, '_> {
    fn take(&mut self, listed: Listed) {
        match listed {
            Listed::Recording { name, .. } | Listed::Directory(name) | Listed::Other(name)
                if self.own.is_some_and(|own| name.starts_with(own)) => {}
            Listed::Recording { name, stamp, sealed } => self.recording(&name, stamp, sealed),
            Listed::Directory(name) => {
                if self.time_of(&name).is_some() {
                    self.tell(&name, ProblemKind::NotAFile);
                }
            }
            Listed::Other(name) => {
                let named_so = self.time_of(&name).is_some();
                let kind = if named_so { ProblemKind::NotAFile } else { ProblemKind::Foreign };
                self.tell(&name, kind);
            }
            Listed::Unlisted(name, reason) => self.unlisted.push((name, reason)),
        }
    }

    fn recording(&mut self, name: &Path, stamp: FileStamp, sealed: bool) {
        if let Some(named) = self.time_of(name) {
            let id = || SegmentId::of(&self.source.stream, path_bytes(name));
            self.table.observe(name, named, stamp, self.look.now, id);
            if sealed {
                self.table.seal_once(named.start, name);
            }
        } else if !is_end_of_span(name, stamp) && self.look.is_foreign(&self.source.root.join(name))
        {
            self.tell(name, ProblemKind::Foreign);
        }
    }

    fn time_of(&self, name: &Path) -> Option<NamedTime> {
        self.recordings.time_of(name, &self.source.layout)
    }

    fn tell(&mut self, name: &Path, kind: ProblemKind) {
        self.look.told.tell(&self.source.stream, name, kind);
    }
}

/// Tier T1 of one file. What is wrong with it is told of a sealed one only: one that is being written
/// may well be without its index, or torn. One with fewer bytes than its fingerprint covers is not used
/// yet, because these would change.
fn look_inside(
    mut recording: Recording,
    sealed: bool,
) -> io::Result<(Reading, Option<ProblemKind>)> {
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
