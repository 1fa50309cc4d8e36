//! Where bytes land before they are part of the archive: one file per part, `{key as 16 hex digits}.part`, and
//! beside it, as `.boot`, the boot in which it was last opened.
//!
//! A power cut leaves of what was not synced what it likes, zeros too. The digest of a whole part proves what is
//! there; a part whose rest the card loses has none. So of a file of an earlier boot nothing is kept that may not
//! have been durable.
//!
//! A part is written in order, made durable in steps, and hashed as it is written, so that it can be
//! compared with what the device read from its card. The key is the caller's; nothing from a network
//! becomes a path. Offsets are absolute in the segment, as on the wire.
//!
//! Everything blocks: callers bring their own thread. It must never fill the disk it shares with the
//! archive, and never decide whether a part is complete.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::fstatvfs;

use crate::pull::engine::MAX_UNSYNCED_BYTES;

/// Linux draws it anew with each boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("cannot {operation} {}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "cannot write to {}: {free_bytes} bytes are free there, and {min_free_bytes} are to stay free; \
         free some space or lower the limit",
        path.display()
    )]
    NoSpace { path: PathBuf, free_bytes: u64, min_free_bytes: u64 },
    #[error("cannot write at {offset} of {}: the next byte there is {held}", path.display())]
    OutOfOrder { path: PathBuf, offset: u64, held: u64 },
}

/// The directory of all parts under way.
#[derive(Debug, Clone)]
pub struct Spool {
    directory: PathBuf,
    min_free_bytes: u64,
    /// `None` where it cannot be told: then every file may be of an earlier one.
    boot: Option<String>,
}

/// One part under way. Dropping it keeps the file, to be opened again.
#[derive(Debug)]
pub struct SpooledPart {
    path: PathBuf,
    file: File,
    min_free_bytes: u64,
    start: u64,
    held: u64,
    hasher: blake3::Hasher,
}

impl Spool {
    /// Makes the directory where it is missing. `min_free_bytes` stay free on its file system.
    pub fn open(directory: &Path, min_free_bytes: u64) -> Result<Spool, SpoolError> {
        fs::create_dir_all(directory).map_err(failed_to("create", directory))?;
        let boot = fs::read_to_string(BOOT_ID).ok();
        Ok(Spool { directory: directory.to_owned(), min_free_bytes, boot })
    }

    /// Opens the part that begins at `start` of its segment, keeping `[start, durable)` of what the file
    /// holds. Reads and hashes it; what follows was never confirmed and is cut off, and so is what may not have
    /// been durable when an earlier boot ended.
    ///
    /// Where the file holds less than that, [`SpooledPart::held`] says so: the transfer resumes there.
    pub fn part(&self, key: u64, start: u64, durable: u64) -> Result<SpooledPart, SpoolError> {
        let path = self.path(key);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed_to("open", &path))?;
        let mut hasher = blake3::Hasher::new();
        let found_bytes = file.metadata().map_err(failed_to("look at", &path))?.len();
        let is_of_this_boot = self.is_of_this_boot(key);
        let trusted_bytes = match is_of_this_boot {
            true => found_bytes,
            false => found_bytes.saturating_sub(MAX_UNSYNCED_BYTES),
        };
        let mut confirmed = (&file).take(trusted_bytes.min(durable.saturating_sub(start)));
        hasher.update_reader(&mut confirmed).map_err(failed_to("read", &path))?;
        let kept_bytes = hasher.count();
        file.set_len(kept_bytes).map_err(failed_to("cut", &path))?;
        // An earlier process may have ended before it did so, and the device is told that all of it is durable.
        file.sync_data().map_err(failed_to("sync", &path))?;
        if !is_of_this_boot && let Some(boot) = &self.boot {
            let marker = self.marker(key);
            File::create(&marker)
                .and_then(|mut file| file.write_all(boot.as_bytes()))
                .map_err(failed_to("write", &marker))?;
        }
        // Otherwise a power cut could take the name, and with it all that is synced under it.
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(failed_to("sync", &self.directory))?;
        Ok(SpooledPart {
            path,
            file,
            min_free_bytes: self.min_free_bytes,
            start,
            held: start + kept_bytes,
            hasher,
        })
    }

    /// Where the part of this key is, or would be.
    pub fn path(&self, key: u64) -> PathBuf {
        self.directory.join(format!("{key:016x}.part"))
    }

    /// Where it stands in which boot the part of this key was last opened.
    fn marker(&self, key: u64) -> PathBuf {
        self.path(key).with_extension("boot")
    }

    fn is_of_this_boot(&self, key: u64) -> bool {
        self.boot.is_some() && fs::read_to_string(self.marker(key)).ok() == self.boot
    }

    /// Leaves of the part of this key the first `kept_bytes`.
    pub fn cut(&self, key: u64, kept_bytes: u64) -> Result<(), SpoolError> {
        let path = self.path(key);
        let file = OpenOptions::new().write(true).open(&path).map_err(failed_to("open", &path))?;
        let held_bytes = file.metadata().map_err(failed_to("look at", &path))?.len();
        file.set_len(kept_bytes.min(held_bytes))
            .and_then(|()| file.sync_data())
            .map_err(failed_to("cut", &path))
    }

    /// Removes the part of this key; one that is not there is not an error.
    pub fn remove(&self, key: u64) -> Result<(), SpoolError> {
        for path in [self.path(key), self.marker(key)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed_to("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes every part whose key is not among `wanted`: what a crash left behind. Tells how many.
    pub fn sweep(&self, wanted: &BTreeSet<u64>) -> Result<usize, SpoolError> {
        let entries = fs::read_dir(&self.directory).map_err(failed_to("list", &self.directory))?;
        let mut swept = BTreeSet::new();
        for entry in entries {
            let path = entry.map_err(failed_to("list", &self.directory))?.path();
            if let Some(key) = key_of(&path).filter(|key| !wanted.contains(key)) {
                self.remove(key)?;
                swept.insert(key);
            }
        }
        Ok(swept.len())
    }
}

/// The key in the name of a part, or of what stands beside it; `None` where it is no part's.
fn key_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(".part").or_else(|| name.strip_suffix(".boot"))?;
    u64::from_str_radix(stem, 16).ok()
}

impl SpooledPart {
    /// The offset at which the next byte goes; all before it is written, not all of it durable.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Writes `bytes` at `offset`, which must be [`Self::held`]. After an error nothing is held of them.
    pub fn append(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SpoolError> {
        if offset != self.held {
            return Err(SpoolError::OutOfOrder {
                path: self.path.clone(),
                offset,
                held: self.held,
            });
        }
        let length = bytes.len() as u64;
        self.check_free(length)?;
        self.file
            .write_all_at(bytes, self.held - self.start)
            .map_err(failed_to("write to", &self.path))?;
        self.hasher.update(bytes);
        self.held += length;
        Ok(())
    }

    /// Makes all that is held durable, and says up to where that is.
    pub fn sync(&self) -> Result<u64, SpoolError> {
        self.file.sync_data().map_err(failed_to("sync", &self.path))?;
        Ok(self.held)
    }

    /// Makes all that is held durable; its BLAKE3, for comparison with the device's.
    pub fn finish(&self) -> Result<[u8; 32], SpoolError> {
        self.sync()?;
        Ok(*self.hasher.finalize().as_bytes())
    }

    fn check_free(&self, wanted_bytes: u64) -> Result<(), SpoolError> {
        let found = fstatvfs(&self.file).map_err(|errno| {
            failed_to("ask for the free space around", &self.path)(errno.into())
        })?;
        let block_bytes: u64 = found.fragment_size();
        let free_bytes = found.blocks_available().saturating_mul(block_bytes);
        if free_bytes < self.min_free_bytes.saturating_add(wanted_bytes) {
            return Err(SpoolError::NoSpace {
                path: self.path.clone(),
                free_bytes,
                min_free_bytes: self.min_free_bytes,
            });
        }
        Ok(())
    }
}

fn failed_to(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SpoolError {
    move |source| SpoolError::Io { operation, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1000;

    fn spool() -> (tempfile::TempDir, Spool) {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(&directory.path().join("spool"), 0).unwrap();
        (directory, spool)
    }

    fn digest(bytes: &[u8]) -> [u8; 32] {
        *blake3::hash(bytes).as_bytes()
    }

    #[test]
    fn part_is_written_in_order_and_hashed() {
        let (_directory, spool) = spool();
        let mut part = spool.part(0xab, START, START).unwrap();
        part.append(START, b"first ").unwrap();
        part.append(START + 6, b"second").unwrap();
        assert_eq!(part.sync().unwrap(), START + 12);
        assert_eq!(part.finish().unwrap(), digest(b"first second"));
        assert!(spool.path(0xab).ends_with("spool/00000000000000ab.part"));
        assert_eq!(fs::read(spool.path(0xab)).unwrap(), b"first second");
    }

    #[test]
    fn hole_and_repetition_are_refused() {
        let (_directory, spool) = spool();
        let mut part = spool.part(1, START, START).unwrap();
        part.append(START, b"bytes").unwrap();
        for offset in [0, START, START + 4, START + 6] {
            let error = part.append(offset, b"x").unwrap_err();
            assert!(matches!(error, SpoolError::OutOfOrder { held: 1005, .. }), "{error}");
        }
        assert_eq!(part.held(), START + 5);
    }

    #[test]
    fn reopened_part_keeps_what_was_durable_and_goes_on() {
        let (_directory, spool) = spool();
        let mut part = spool.part(1, START, START).unwrap();
        part.append(START, b"durable, not").unwrap();
        drop(part);
        let mut part = spool.part(1, START, START + 9).unwrap();
        assert_eq!(part.held(), START + 9);
        part.append(START + 9, b"now all of it").unwrap();
        assert_eq!(part.finish().unwrap(), digest(b"durable, now all of it"));
        assert_eq!(fs::read(spool.path(1)).unwrap(), b"durable, now all of it");
    }

    #[test]
    fn file_shorter_than_its_checkpoint_resumes_at_its_end() {
        let (_directory, spool) = spool();
        spool.part(1, START, START).unwrap().append(START, b"abc").unwrap();
        assert_eq!(spool.part(1, START, START + 100).unwrap().held(), START + 3);
        assert_eq!(spool.part(2, START, START + 100).unwrap().held(), START);
    }

    #[test]
    fn of_a_part_of_an_earlier_boot_nothing_is_kept_that_may_not_have_been_durable() {
        let (_directory, mut spool) = spool();
        let unsynced = usize::try_from(MAX_UNSYNCED_BYTES).unwrap();
        let mut part = spool.part(1, START, START).unwrap();
        part.append(START, &vec![7; unsynced + 5]).unwrap();
        drop(part);
        let end = START + MAX_UNSYNCED_BYTES + 5;
        assert_eq!(spool.part(1, START, end).unwrap().held(), end);
        spool.boot = Some("another".to_owned());
        assert_eq!(spool.part(1, START, end).unwrap().held(), START + 5);
        // From then on it is of this boot.
        assert_eq!(spool.part(1, START, end).unwrap().held(), START + 5);
        spool.remove(1).unwrap();
        assert_eq!(fs::read_dir(spool.path(1).parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn disk_is_not_filled_below_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(directory.path(), u64::MAX / 2).unwrap();
        let mut part = spool.part(1, START, START).unwrap();
        let error = part.append(START, b"bytes").unwrap_err();
        assert!(matches!(error, SpoolError::NoSpace { .. }), "{error}");
        assert_eq!(part.held(), START);
    }

    #[test]
    fn what_is_cut_off_is_gone_and_what_is_not_there_is_not_made() {
        let (_directory, spool) = spool();
        spool.part(1, START, START).unwrap().append(START, b"good, bad").unwrap();
        for (kept_bytes, left) in [(20, b"good, bad".as_slice()), (4, b"good")] {
            spool.cut(1, kept_bytes).unwrap();
            assert_eq!(fs::read(spool.path(1)).unwrap(), left);
        }
        assert!(spool.cut(2, 4).is_err());
    }

    #[test]
    fn removing_twice_is_no_error() {
        let (_directory, spool) = spool();
        spool.part(1, START, START).unwrap();
        spool.remove(1).unwrap();
        assert!(!spool.path(1).exists());
        spool.remove(1).unwrap();
    }

    #[test]
    fn sweeping_leaves_what_is_wanted_and_what_is_not_ours() {
        let (_directory, spool) = spool();
        for key in [1, 2, 3] {
            spool.part(key, START, START).unwrap();
        }
        let foreign = spool.path(1).with_file_name("notes.part");
        File::create(&foreign).unwrap();
        assert_eq!(spool.sweep(&BTreeSet::from([2])).unwrap(), 2);
        assert!(spool.path(2).exists() && foreign.exists());
        assert!(!spool.path(1).exists() && !spool.path(3).exists());
    }

    #[test]
    fn errors_name_operation_and_path() {
        let directory = tempfile::tempdir().unwrap();
        let blocked = directory.path().join("file");
        File::create(&blocked).unwrap();
        let error = Spool::open(&blocked.join("spool"), 0).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot create {}/spool", blocked.display()));
    }
}
