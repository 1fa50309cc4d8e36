//! The one room of this crate that writes: each function returns once its work would survive a power cut.
//!
//! Knows bytes and paths, nothing of what they mean. Files are never truncated in place but to drop a
//! torn end; whole contents appear under their name at once or not at all. All of it is made of the few
//! calls of a [`Disk`], so that a test can let any one of them fail.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::statvfs::statvfs;

/// What [`Durable`] asks of a file system. Each call does what the system call of its name does, and no more:
/// nothing is durable before it is synced.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Of all entries of a folder, in any order.
    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>>;
    /// The file's first bytes.
    fn read(&self, path: &Path, at_most_bytes: u64) -> io::Result<Vec<u8>>;
    /// Makes one folder in one that is there.
    fn make_folder(&self, folder: &Path) -> io::Result<()>;
    /// For writing; with `create`, makes it where it is missing.
    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn DiskFile>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes durable which names the folder has.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// On which a file or folder that is there lies.
    fn file_system(&self, path: &Path) -> io::Result<FileSystem>;
}

/// A file of a [`Disk`], open for writing.
pub trait DiskFile: fmt::Debug {
    fn size_bytes(&self) -> io::Result<u64>;
    fn set_size(&self, size_bytes: u64) -> io::Result<()>;
    /// How many of the bytes were written; fewer than all where there is no room for more.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    fn sync(&self) -> io::Result<()>;
}

/// A mounted file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileSystem {
    pub identity: FileSystemId,
    /// For others than root.
    pub free_bytes: u64,
}

/// Tells file systems apart as far as the kernel does: ext4 is known by its UUID, but two FAT cards in the same
/// slot look alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileSystemId {
    /// `st_dev`.
    pub device: u64,
    /// `f_fsid`.
    pub id: u64,
}

/// The functions that write, on a disk of one's choice.
#[derive(Clone, Debug)]
pub struct Durable {
    disk: Arc<dyn Disk>,
}

impl Default for Durable {
    fn default() -> Self {
        Durable::on(Arc::new(MountedDisk))
    }
}

impl Durable {
    pub fn on(disk: Arc<dyn Disk>) -> Self {
        Durable { disk }
    }

    pub fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Creates a folder where it is missing, with those above it.
    pub fn create_folder(&self, folder: &Path) -> io::Result<()> {
        match self.disk.make_folder(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let above = folder.parent().ok_or(error)?;
                self.create_folder(above)?;
                self.disk.make_folder(folder)?;
                self.disk.sync_folder(above)
            }
            made => made.and_then(|()| self.sync_parent(folder)),
        }
    }

    /// Makes the file hold its first `keep_bytes` and then `bytes`; creates it where `keep_bytes` is 0.
    ///
    /// Fails, and changes nothing, where the file is shorter than `keep_bytes`: somebody else cut it.
    pub fn append_after(&self, path: &Path, keep_bytes: u64, bytes: &[u8]) -> io::Result<()> {
        let file = self.disk.open(path, keep_bytes == 0)?;
        let size_bytes = file.size_bytes()?;
        if size_bytes < keep_bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file has been cut"));
        }
        if size_bytes > keep_bytes {
            file.set_size(keep_bytes)?;
        }
        write_all(&*file, bytes, keep_bytes)?;
        file.sync()?;
        if keep_bytes == 0 { self.sync_parent(path) } else { Ok(()) }
    }

    /// Puts `bytes` under the name at once: written beside it under a dot name, synced, renamed.
    pub fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = dot_name(path);
        let written = self.write_new(&temporary, bytes);
        written.and_then(|()| self.rename(&temporary, path)).inspect_err(|_| {
            // On a full disk every byte counts; where this fails too, the next try overwrites it.
            let _ = self.disk.remove(&temporary);
        })
    }

    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = self.disk.open(path, true)?;
        file.set_size(0)?;
        write_all(&*file, bytes, 0)?;
        file.sync()
    }

    /// Renames within one file system; the name is on the disk when this returns.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)?;
        self.sync_parent(to)
    }

    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)?;
        self.sync_parent(path)
    }

    fn sync_parent(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        self.disk.sync_folder(parent.unwrap_or(Path::new(".")))
    }
}

fn write_all(file: &dyn DiskFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match file.write_at(rest, offset + written as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn dot_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

/// What the kernel has mounted.
#[derive(Debug)]
struct MountedDisk;

impl Disk for MountedDisk {
    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn read(&self, path: &Path, at_most_bytes: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(at_most_bytes).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir(folder)
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().write(true).create(create).truncate(false).open(path)?;
        Ok(Box::new(file))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the sync that makes a rename durable stands in Durable::rename"
    )]
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    #[allow(clippy::unnecessary_cast, reason = "these are 32 bits wide on 32-bit machines")]
    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        let device = fs::metadata(path)?.dev();
        let status = statvfs(path)?;
        let identity = FileSystemId { device, id: status.filesystem_id() as u64 };
        let block_bytes = status.fragment_size() as u64;
        let free_bytes = (status.blocks_available() as u64).saturating_mul(block_bytes);
        Ok(FileSystem { identity, free_bytes })
    }
}

impl DiskFile for File {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_size(&self, size_bytes: u64) -> io::Result<()> {
        self.set_len(size_bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    /// With what is needed to read it back; times need no more writes to the card.
    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// [`Durable::create_folder`] on what is mounted.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    Durable::default().create_folder(folder)
}

/// [`Durable::append_after`] on what is mounted.
pub fn append_after(path: &Path, keep_bytes: u64, bytes: &[u8]) -> io::Result<()> {
    Durable::default().append_after(path, keep_bytes, bytes)
}

/// [`Durable::replace`] on what is mounted.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    Durable::default().replace(path, bytes)
}

/// [`Durable::remove`] on what is mounted.
pub fn remove(path: &Path) -> io::Result<()> {
    Durable::default().remove(path)
}
