//! The ordinary store: a directory tree with a file for each recording.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, PosixFadviseAdvice, posix_fadvise};

use super::{Listed, OpenRecording, Recordings};
use crate::scan::{Found, ScanLimits, Walk};
use crate::segment::FileStamp;

/// A directory tree. Links are not followed and names with a leading dot do not exist: see [`crate::scan`].
#[derive(Clone, Debug)]
pub struct Folder {
    pub root: PathBuf,
    pub limits: ScanLimits,
    /// The root lies on a file system of its own; where it lies on that of `/`, the card is missing.
    pub require_mount: bool,
}

impl Folder {
    /// As [`Recordings::open`].
    pub(super) fn open_file(&self, name: &Path) -> io::Result<File> {
        let file = open_for_reading(&self.root.join(name))?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(file)
    }

    fn tell(&self, found: Found, tell: &mut dyn FnMut(Listed)) {
        match found {
            Found::Directory(name) => tell(Listed::Directory(name)),
            Found::File(name) => {
                let metadata = fs::symlink_metadata(self.root.join(&name));
                self.tell_file(name, metadata, tell);
            }
            Found::Other(name) => tell(Listed::Other(name)),
            // A directory that went between being named and being listed is as good as never named.
            Found::Unlisted(name, reason)
                if reason.is_not_found() && !name.as_os_str().is_empty() => {}
            Found::Unlisted(name, reason) => tell(Listed::Unlisted(name, reason)),
        }
    }

    fn tell_file(
        &self,
        name: PathBuf,
        metadata: io::Result<Metadata>,
        tell: &mut dyn FnMut(Listed),
    ) {
        match metadata {
            Ok(metadata) => {
                let stamp = FileStamp::of(&metadata);
                tell(Listed::Recording { name, stamp, sealed: false });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tell(Listed::Unlisted(name, error.into())),
        }
    }
}

impl Recordings for Folder {
    fn is_there(&self) -> bool {
        !self.require_mount || is_mounted(&self.root)
    }

    fn list(&self, under: &Path, tell: &mut dyn FnMut(Listed)) {
        if !under.as_os_str().is_empty() {
            match fs::symlink_metadata(self.root.join(under)) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(metadata) if metadata.is_file() => {
                    return self.tell_file(under.to_owned(), Ok(metadata), tell);
                }
                Ok(_) => return tell(Listed::Other(under.to_owned())),
                // Where the root is missing too, nothing can be said of what is below it.
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.root.is_dir() => {
                    return;
                }
                Err(error) => return tell(Listed::Unlisted(under.to_owned(), error.into())),
            }
        }
        Walk::new(&self.root, under, self.limits).for_each(|found| self.tell(found, tell));
    }

    fn open(&self, name: &Path) -> io::Result<Box<dyn OpenRecording>> {
        Ok(Box::new(self.open_file(name)?))
    }
}

/// A file that was deleted stays readable as long as it is open, so none is ever found overwritten.
impl OpenRecording for File {
    fn stamp(&self) -> io::Result<FileStamp> {
        self.metadata().map(|metadata| FileStamp::of(&metadata))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    /// Asked of the whole file, length 0 being "to its end": the kernel keeps files in runs of pages, and
    /// drops none of which only a part was asked for, and none that is still to be written back. A file
    /// system that lives in memory has nothing behind its pages.
    fn forget_cached(&self) -> io::Result<bool> {
        posix_fadvise(self, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        Ok(true)
    }
}

/// Where a file system forbids to leave the access time alone, it is touched: that is no write of ours.
fn open_for_reading(path: &Path) -> io::Result<File> {
    // Non-blocking: a pipe put under a segment's name must not stop the thread that reads the card.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let open = |flags: OFlag| OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    match open(flags | OFlag::O_NOATIME) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => open(flags),
        outcome => outcome,
    }
}

/// A root that does not exist yet is judged by the nearest directory above it that does.
fn is_mounted(root: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
    let nearest = root.ancestors().find_map(|directory| device(directory).ok());
    nearest.is_some_and(|nearest| device(Path::new("/")).is_ok_and(|root| root != nearest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_mounted_where_it_lies_on_another_file_system_than_the_root_of_all() {
        assert!(is_mounted(Path::new("/proc")));
        assert!(is_mounted(Path::new("/proc/no/such/directory")));
        assert!(!is_mounted(Path::new("/")));
        assert!(!is_mounted(Path::new("/no-such-directory/card")));
    }

    fn folder(root: &Path) -> Folder {
        Folder { root: root.to_owned(), limits: ScanLimits::default(), require_mount: false }
    }

    fn listed(folder: &Folder, under: &str) -> Vec<String> {
        let mut all = Vec::new();
        folder.list(Path::new(under), &mut |listed| {
            all.push(match listed {
                Listed::Recording { name, stamp, sealed: false } => {
                    format!("{} {}", name.display(), stamp.size_bytes)
                }
                Listed::Directory(name) => format!("{}/", name.display()),
                Listed::Unlisted(name, _) => format!("{}!", name.display()),
                other => format!("{other:?}"),
            });
        });
        all
    }

    #[test]
    fn one_name_is_listed_as_it_would_be_with_all_of_them() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("day")).unwrap();
        File::create(root.path().join("day/a.mp4")).unwrap().write_all_at(b"abc", 0).unwrap();
        let folder = folder(root.path());
        assert_eq!(listed(&folder, ""), ["/", "day/", "day/a.mp4 3"]);
        assert_eq!(listed(&folder, "day"), ["day/", "day/a.mp4 3"]);
        assert_eq!(listed(&folder, "day/a.mp4"), ["day/a.mp4 3"]);
        assert!(listed(&folder, "day/b.mp4").is_empty());
    }

    #[test]
    fn below_a_root_that_is_missing_nothing_is_said_to_be_gone() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(&root.path().join("card"));
        assert_eq!(listed(&folder, ""), ["/", "!"]);
        assert_eq!(listed(&folder, "a.mp4"), ["a.mp4!"]);
    }

    #[test]
    fn a_link_or_a_pipe_is_not_opened() {
        let root = tempfile::tempdir().unwrap();
        File::create(root.path().join("file")).unwrap();
        std::os::unix::fs::symlink("file", root.path().join("link")).unwrap();
        nix::unistd::mkfifo(&root.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let folder = folder(root.path());
        assert!(folder.open(Path::new("file")).is_ok());
        for name in ["link", "pipe", ""] {
            assert!(folder.open(Path::new(name)).is_err(), "{name}");
        }
    }
}
