//! A disk in memory that fails when it is told to: at the n-th call that changes something.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use sdcard_indexer::durable::{Disk, DiskFile, FileSystem, FileSystemId};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// This call fails and does nothing; the next ones work.
    Once(io::ErrorKind),
    /// From here on, every call fails.
    ForGood(io::ErrorKind),
    /// This call writes half of what it should, and the next write finds no room; then there is.
    Short,
    /// The power goes; see [`FaultyDisk::reboot`].
    Cut,
}

/// What of that which was not synced is there after a power cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    Nothing,
    /// The first half of what files should hold, under the names they should have.
    Half,
}

#[derive(Clone, Debug, Default)]
pub struct FaultyDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    now: Names,
    synced: Names,
    files: Vec<File>,
    calls_left: Option<u64>,
    fault: Option<Fault>,
    struck: bool,
}

/// A folder has no number.
type Names = BTreeMap<PathBuf, Option<usize>>;

#[derive(Clone, Debug, Default)]
struct File {
    now: Vec<u8>,
    synced: Vec<u8>,
}

impl FaultyDisk {
    /// The call after `calls` further ones is struck.
    pub fn strike_after(&self, calls: u64, fault: Fault) {
        let mut state = self.state();
        (state.calls_left, state.fault, state.struck) = (Some(calls), Some(fault), false);
    }

    /// Nothing fails any more; says whether something did.
    pub fn mend(&self) -> bool {
        let mut state = self.state();
        (state.calls_left, state.fault) = (None, None);
        state.struck
    }

    /// The power is back.
    pub fn reboot(&self, left: Left) {
        self.mend();
        let mut state = self.state();
        match left {
            Left::Nothing => state.now = state.synced.clone(),
            Left::Half => state.synced = state.now.clone(),
        }
        for file in &mut state.files {
            let same = file.now.iter().zip(&file.synced).take_while(|(a, b)| a == b).count();
            match left {
                Left::Nothing => file.now = file.synced.clone(),
                Left::Half => file.now.truncate(same + (file.now.len() - same) / 2),
            }
            file.synced = file.now.clone();
        }
    }

    pub fn file(&self, path: &Path) -> Vec<u8> {
        self.read(path, u64::MAX).unwrap()
    }

    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state();
        let file = state.file(path).unwrap();
        state.files[file] = File { now: bytes.to_vec(), synced: bytes.to_vec() };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    /// Counts a call that changes something. `Ok(true)`: it may do half of its work only.
    fn call(&mut self) -> io::Result<bool> {
        match self.calls_left {
            Some(0) => {}
            Some(left) => {
                self.calls_left = Some(left - 1);
                return Ok(false);
            }
            None => return Ok(false),
        }
        let first = !std::mem::replace(&mut self.struck, true);
        match self.fault {
            Some(Fault::Once(kind)) => {
                (self.calls_left, self.fault) = (None, None);
                Err(kind.into())
            }
            Some(Fault::ForGood(kind)) => Err(kind.into()),
            Some(Fault::Short) if first => Ok(true),
            Some(Fault::Short) => {
                (self.calls_left, self.fault) = (None, None);
                Err(io::ErrorKind::StorageFull.into())
            }
            Some(Fault::Cut) => Err(io::Error::other("no power")),
            None => Ok(false),
        }
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        self.now.get(path).copied().flatten().ok_or(io::ErrorKind::NotFound.into())
    }

    fn folder_of(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().unwrap();
        let there = parent.parent().is_none() || self.now.get(parent) == Some(&None);
        if there { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

impl Disk for FaultyDisk {
    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let state = self.state();
        if state.now.get(folder) != Some(&None) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = state.now.keys().filter(|path| path.parent() == Some(folder));
        Ok(inside.map(|path| path.file_name().unwrap().to_owned()).collect())
    }

    fn read(&self, path: &Path, at_most_bytes: u64) -> io::Result<Vec<u8>> {
        let state = self.state();
        let mut bytes = state.files[state.file(path)?].now.clone();
        bytes.truncate(usize::try_from(at_most_bytes).unwrap_or(usize::MAX));
        Ok(bytes)
    }

    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.now.contains_key(folder) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.folder_of(folder)?;
        state.call()?;
        state.now.insert(folder.to_owned(), None);
        Ok(())
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        if create && !state.now.contains_key(path) {
            state.folder_of(path)?;
            state.call()?;
            let file = state.files.len();
            state.files.push(File::default());
            state.now.insert(path.to_owned(), Some(file));
        }
        let file = state.file(path)?;
        Ok(Box::new(OpenFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        let file = state.file(from)?;
        state.now.remove(from);
        state.now.insert(to.to_owned(), Some(file));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.file(path)?;
        state.call()?;
        state.now.remove(path);
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        let inside = |path: &PathBuf| path.parent() == Some(folder);
        let now: Names = state
            .now
            .iter()
            .filter(|(path, _)| inside(path))
            .map(|(p, f)| (p.clone(), *f))
            .collect();
        state.synced.retain(|path, _| !inside(path));
        state.synced.extend(now);
        Ok(())
    }

    fn file_system(&self, _: &Path) -> io::Result<FileSystem> {
        let identity = FileSystemId { device: 1, id: 2 };
        Ok(FileSystem { identity, free_bytes: 1 << 30 })
    }
}

#[derive(Debug)]
struct OpenFile {
    disk: FaultyDisk,
    file: usize,
}

impl DiskFile for OpenFile {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.file].now.len() as u64)
    }

    fn set_size(&self, size_bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.call()?;
        state.files[self.file].now.resize(size_bytes as usize, 0);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        let short = state.call()?;
        let bytes = if short { &bytes[..bytes.len().div_ceil(2)] } else { bytes };
        let content = &mut state.files[self.file].now;
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        content.resize(content.len().max(end), 0);
        content[start..end].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.call()?;
        let file = &mut state.files[self.file];
        file.synced = file.now.clone();
        Ok(())
    }
}
