//! Watching directories: hints where to look, never facts.
//!
//! The kernel may drop events, file systems may not send any, and a name can change again before it is
//! looked at: what is true stands in the directory, and [`crate::index`] reads it there.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};

use crate::scan::{Found, ScanLimits, Walk};

/// Directories that are watched at most; the kernel's own limit is often 8,192 for all processes of a user.
pub const MAX_WATCHES: usize = 4_096;
/// Some hundred events; what does not fit is read by the next call.
const BUFFER_BYTES: usize = 16_384;
/// Events in a row that one call takes up.
const MAX_READS: usize = 64;

/// Where to look. Paths begin with a root as it was given.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Hint {
    /// This directory, with all below it.
    Directory(PathBuf),
    /// A name that appeared, changed or went.
    Entry(PathBuf),
    /// A file that its writer has closed, or that was moved here whole.
    Sealed(PathBuf),
    /// Events were lost.
    SweepAll,
}

impl Hint {
    pub fn path(&self) -> Option<&Path> {
        match self {
            Hint::Directory(path) | Hint::Entry(path) | Hint::Sealed(path) => Some(path),
            Hint::SweepAll => None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("the kernel gives no inotify instance (see fs.inotify.max_user_instances)")]
    Start(#[source] io::Error),
    #[error("reading inotify events failed")]
    Read(#[source] io::Error),
}

/// Why some directories are not watched; changes in them are found by sweeps only.
#[derive(Debug, thiserror::Error)]
pub enum Unwatched {
    #[error("there are more than {MAX_WATCHES} directories")]
    TooMany,
    #[error("{} cannot be watched", path.display())]
    Refused { path: PathBuf, source: io::Error },
}

/// Watches the roots with all directories below them.
#[derive(Debug)]
pub struct Watcher {
    inotify: Inotify,
    roots: Vec<PathBuf>,
    directories: HashMap<WatchDescriptor, PathBuf>,
    limits: ScanLimits,
    max_watches: usize,
    unwatched: Option<Unwatched>,
}

impl Watcher {
    pub fn new(roots: Vec<PathBuf>, limits: ScanLimits) -> Result<Self, WatchError> {
        let mut watcher = Watcher {
            inotify: Inotify::init().map_err(WatchError::Start)?,
            roots,
            directories: HashMap::new(),
            limits,
            max_watches: MAX_WATCHES,
            unwatched: None,
        };
        watcher.renew();
        Ok(watcher)
    }

    /// Watches what is not watched yet: a root that did not exist, a card put in. To be called before each
    /// full sweep.
    pub fn renew(&mut self) {
        self.unwatched = None;
        for root in self.roots.clone() {
            self.watch_all(&root);
        }
    }

    /// Why changes somewhere are found by sweeps only; `None` where all is watched.
    pub fn unwatched(&self) -> Option<&Unwatched> {
        self.unwatched.as_ref()
    }

    /// What has happened since the last call, each place once; does not wait.
    pub fn poll(&mut self) -> Result<Vec<Hint>, WatchError> {
        let mut hints = Vec::new();
        let mut buffer = [0; BUFFER_BYTES];
        for _ in 0..MAX_READS {
            let events: Vec<_> = match self.inotify.read_events(&mut buffer) {
                Ok(events) => events.map(|event| event.to_owned()).collect(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(WatchError::Read(error)),
            };
            for event in events {
                hints.extend(self.hint(&event.wd, event.mask, event.name.as_deref()));
            }
        }
        if hints.contains(&Hint::SweepAll) {
            self.renew();
            return Ok(vec![Hint::SweepAll]);
        }
        hints.sort_unstable();
        hints.dedup();
        Ok(hints)
    }

    fn hint(
        &mut self,
        wd: &WatchDescriptor,
        mask: EventMask,
        name: Option<&OsStr>,
    ) -> Option<Hint> {
        if mask.contains(EventMask::Q_OVERFLOW) {
            return Some(Hint::SweepAll);
        }
        if mask.contains(EventMask::IGNORED) {
            // The directory is gone, or its file system; for a root that means all of it.
            let directory = self.directories.remove(wd)?;
            return self.roots.contains(&directory).then_some(Hint::SweepAll);
        }
        let name = name.filter(|name| !name.as_bytes().starts_with(b"."))?;
        let path = self.directories.get(wd)?.join(name);
        if !mask.contains(EventMask::ISDIR) {
            let whole = mask.intersects(EventMask::CLOSE_WRITE | EventMask::MOVED_TO);
            return Some(if whole { Hint::Sealed(path) } else { Hint::Entry(path) });
        }
        if mask.intersects(EventMask::CREATE | EventMask::MOVED_TO) {
            // Watched first: what is put into it from now on is told, what already is will be listed.
            self.watch_all(&path);
            return Some(Hint::Directory(path));
        }
        if mask.contains(EventMask::MOVED_FROM) {
            self.forget(&path);
        }
        Some(Hint::Entry(path))
    }

    fn watch_all(&mut self, directory: &Path) {
        let mask = WatchMask::CREATE
            | WatchMask::CLOSE_WRITE
            | WatchMask::DELETE
            | WatchMask::MOVE
            | WatchMask::ONLYDIR;
        for found in Walk::new(directory, Path::new(""), self.limits) {
            let Found::Directory(below) = found else { continue };
            let path = if below.as_os_str().is_empty() {
                directory.to_owned()
            } else {
                directory.join(below)
            };
            if self.directories.len() >= self.max_watches {
                self.unwatched = Some(Unwatched::TooMany);
                return;
            }
            match self.inotify.watches().add(&path, mask) {
                Ok(wd) => {
                    self.directories.insert(wd, path);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => self.unwatched = Some(Unwatched::Refused { path, source }),
            }
        }
    }

    /// A directory that was moved away keeps its watches, under names that are no longer true.
    fn forget(&mut self, directory: &Path) {
        let moved = |path: &Path| path.starts_with(directory);
        for (wd, _) in self.directories.iter().filter(|(_, path)| moved(path)) {
            // Fails only where the kernel has dropped the watch already.
            let _ = self.inotify.watches().remove(wd.clone());
        }
        self.directories.retain(|_, path| !moved(path));
    }
}
