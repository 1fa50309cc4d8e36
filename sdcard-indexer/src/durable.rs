//! The one room of this crate that writes: each function returns once its work would survive a power cut.
//!
//! Knows bytes and paths, nothing of what they mean. Files are never truncated in place but to drop a
//! torn end; whole contents appear under their name at once or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Creates a folder where it is missing, with those above it.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    sync_parent(folder)
}

/// Makes the file hold its first `keep_bytes` and then `bytes`; creates it where `keep_bytes` is 0.
///
/// Fails, and changes nothing, where the file is shorter than `keep_bytes`: somebody else cut it.
pub fn append_after(path: &Path, keep_bytes: u64, bytes: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(keep_bytes == 0).truncate(false).open(path)?;
    let size_bytes = file.metadata()?.len();
    if size_bytes < keep_bytes {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file has been cut"));
    }
    if size_bytes > keep_bytes {
        file.set_len(keep_bytes)?;
    }
    file.write_all_at(bytes, keep_bytes)?;
    file.sync_data()?;
    if keep_bytes == 0 { sync_parent(path) } else { Ok(()) }
}

/// Puts `bytes` under the name at once: written beside it under a dot name, synced, renamed.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = dot_name(path);
    write_new(&temporary, bytes).and_then(|()| rename(&temporary, path)).inspect_err(|_| {
        // On a full disk every byte counts; where this fails too, the next try overwrites it.
        let _ = fs::remove_file(&temporary);
    })
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Renames within one file system; the name is on the disk when this returns.
#[expect(
    clippy::disallowed_methods,
    reason = "the sync that makes a rename durable stands beside it"
)]
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_parent(to)
}

pub fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    sync_parent(path)
}

fn dot_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
