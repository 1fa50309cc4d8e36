//! What the files tell where no agent does: the index's log as it stands, and the card's folders.
//!
//! Nothing is written, whatever is found: an agent may be at work on the same card, and only be deaf.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use sdcard_indexer::durable::{Disk, DiskFile, Durable, FileSystem};
use sdcard_indexer::index::{Index, IndexError, Sweep};

use super::desk::CardFacts;
use crate::advertise::{Standing, Views};
use crate::card::index_config;
use crate::clock;
use crate::config::Config;
use crate::index_command::progress::Progress;

/// What an index lacks that was kept until its agent died: what was recorded last, of each stream.
pub const FEW: usize = 256;

/// Files that are read at least between two steps of the progress bar.
const MIN_STEP: usize = 16;

/// The ordinary disk, for reading only.
#[derive(Debug)]
struct ReadOnly(Durable);

fn refused<T>() -> io::Result<T> {
    Err(Errno::EROFS.into())
}

impl Disk for ReadOnly {
    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        self.0.disk().names(folder)
    }

    fn read(&self, path: &Path, at_most_bytes: u64) -> io::Result<Vec<u8>> {
        self.0.disk().read(path, at_most_bytes)
    }

    fn make_folder(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn open(&self, _: &Path, _: bool) -> io::Result<Box<dyn DiskFile>> {
        refused()
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        self.0.disk().file_system(path)
    }
}

/// What the card holds by its files.
pub struct Files {
    pub index: Index,
    unread: usize,
    problems: u64,
}

impl Files {
    /// Lists the card, and reads at most so many of the recordings that the log does not know, the newest ones first.
    pub fn look(config: &Config, most: usize) -> Result<Files, IndexError> {
        let disk = Durable::on(Arc::new(ReadOnly(Durable::default())));
        let mut index = Index::open_on(index_config(config), |_| None, &disk)?;
        let (now, progress) = (clock::realtime(), Progress::new());
        let mut files = {
            progress.at("listing", 0, None, "files");
            let sweep = index.survey(now);
            Files { index, unread: 0, problems: 0 }.after(sweep)
        };
        let (mut left, all) = (most.min(files.unread), most.min(files.unread));
        let step = (all / 100).max(MIN_STEP);
        while left > 0 && files.unread > 0 {
            progress.at("reading", all - left, Some(all), "files");
            let step = step.min(left);
            let sweep = files.index.read_unread(now, step);
            files = files.after(sweep);
            left -= step;
        }
        progress.end();
        Ok(files)
    }

    fn after(mut self, sweep: Sweep) -> Self {
        self.unread = sweep.unread;
        self.problems += sweep.problems.len() as u64 + sweep.problems_untold;
        self
    }

    pub fn views(&self, config: &Config) -> Views {
        let standing = |id| {
            let view = self.index.stream(id)?.clone();
            Some((id.clone(), Standing { view, overwriting: None }))
        };
        config.streams.iter().filter_map(|stream| standing(&stream.id)).collect()
    }

    /// As the card's thread would write it down.
    pub fn facts(&self, config: &Config) -> CardFacts {
        let mut facts = CardFacts::of(config, &self.index, None);
        // That nothing may be written here says nothing of whether an agent could.
        (facts.not_kept, facts.written_today_bytes) = (None, None);
        (facts.unread, facts.problems) = (self.unread, self.problems);
        facts
    }
}
