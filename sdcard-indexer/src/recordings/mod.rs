//! Where recordings lie: the one door between the index and whatever keeps them.
//!
//! [`Folder`], a directory tree with a file for each recording, is the ordinary store; [`Sparing`] is the same beside a
//! recorder whose memory is not to be taken. A maker whose recorder
//! keeps them otherwise (extents in big preallocated files, a database of its own) implements [`Recordings`]
//! and hands it to [`crate::index::Index::open_with`]; `examples/ring_store.rs` does so from top to bottom.
//! Everything else, from tiers and the log to cutting and digests, is then the same code.
//!
//! # Names
//!
//! A recording has a *name*: a relative path of any bytes but NUL, with `/` between its parts if it has
//! several, and no part that is empty, `.` or `..`. It need not exist in any file system. The
//! [`crate::identity::SegmentId`] that servers ask by is made of it, so a name says which recording is meant
//! and outlives a restart. It must not be given to two recordings: a slot that is used in rotation is no
//! name, a slot and the time at which it was begun are one.
//!
//! # What the index promises
//!
//! - It writes nothing: a store is asked to list and to read.
//! - All calls come from the one thread that owns the index, never two at once, so a store may keep caches
//!   behind a [`std::cell::RefCell`]. That thread waits for each call: none may wait for anything but the medium.
//! - [`Recordings::list`] for everything comes at the start and every [`crate::index::SWEEP_INTERVAL`]; for
//!   one name when a hint names it, and about once a second for the recording that is being written.
//! - A new or changed recording is opened and read at head and tail, a few KiB in some reads; once more when
//!   it is sealed; and whenever a server asks for a part of it. Reads ask for at most 256 KiB at once.
//! - A panic is not caught, an error is: it is told once, and costs its own recording only.
//!
//! # What a store promises
//!
//! - Bytes that were read are those of the recording that was opened, or there is an error: see
//!   [`OpenRecording::read_at`]. A store that overwrites in place has to look again after each read.
//! - What is not told by a full listing is gone. Where something could not be listed, [`Listed::Unlisted`]
//!   says so, and nothing there is taken for gone.

mod folder;
mod sparing;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::layout::{Layout, NamedTime};
use crate::scan::UnlistedReason;
use crate::segment::FileStamp;
use crate::watch::Hint;

pub use folder::Folder;
pub use sparing::Sparing;

/// The recordings of one stream. What is promised on either side stands at the head of this module.
pub trait Recordings: fmt::Debug + Send {
    /// False: the medium is not there (no card in the slot, a database that cannot be reached). Nothing is
    /// listed, opened, or written to the index's own log until it is. Asked before every sweep and several
    /// times a second: to be answered without waiting.
    fn is_there(&self) -> bool;

    /// Tells all that stands under the name `under` or in the part of the tree it names; everything, where
    /// it is empty. Each recording once, in any order. A name that is not there is simply not told.
    fn list(&self, under: &Path, tell: &mut dyn FnMut(Listed));

    /// Opens a recording for reading. [`io::ErrorKind::NotFound`] where it is no longer there.
    fn open(&self, name: &Path) -> io::Result<Box<dyn OpenRecording>>;

    /// When a recording began by its recorder's own clock; `None` where the name is not that of a recording.
    ///
    /// The stream's layout tells it from the name. A store that knows better overrides this: it has to give
    /// the same answer as long as the recording is there, and is asked for each line of the index's log too,
    /// before anything was listed.
    fn time_of(&self, name: &Path, layout: &Layout) -> Option<NamedTime> {
        layout.parse(name)
    }

    /// What has happened since the last call, if the store is told of it: asked several times a second.
    /// Paths are the source's root, as configured, and a name behind it. For a [`Folder`] one
    /// [`crate::watch::Watcher`] serves all streams instead.
    fn hints(&mut self) -> Vec<Hint> {
        Vec::new()
    }
}

/// One thing that a store holds. Paths are names.
#[derive(Debug)]
pub enum Listed {
    Recording {
        name: PathBuf,
        stamp: FileStamp,
        /// The recorder has closed it and will not write to it again. False where that is not known: the
        /// newest recording then counts as open until it has been quiet for a while.
        sealed: bool,
    },
    /// A directory, told before anything in it; of stores that have some.
    Directory(PathBuf),
    /// Something that cannot be opened as a recording: a link, a pipe, a device.
    Other(PathBuf),
    /// At or below this name there may be recordings that are not told.
    Unlisted(PathBuf, UnlistedReason),
}

/// A recording that was opened, and stays the same one though its name may go to rest meanwhile.
pub trait OpenRecording: fmt::Debug + Send {
    /// As of now: an open recording grows. `size_bytes` are the bytes that can be read, whatever room was
    /// preallocated; `modified_ns` is when it was written to last, or any other number that differs by 10 ms or
    /// more after a change: the index remembers it in such steps.
    fn stamp(&self) -> io::Result<FileStamp>;

    /// Reads some bytes from `offset` on, as [`std::os::unix::fs::FileExt::read_at`]: 0 only at the end.
    ///
    /// [`io::ErrorKind::NotFound`] where the recording was overwritten since it was opened. Where a recorder
    /// overwrites in place, that is to be found out *after* the bytes were read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Has memory forget what it keeps of the recording, so that the next read asks the medium itself. False
    /// where the store has no way to: what is read then may come from memory.
    fn forget_cached(&self) -> io::Result<bool>;
}

/// Fills `buffer` from `offset` on; short only at the end of the recording.
pub(crate) fn read_full_at(
    file: &dyn OpenRecording,
    buffer: &mut [u8],
    offset: u64,
) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
