//! Durable changes to directories: the one room of this crate that renames, and that syncs directories.
//!
//! Assumed of the medium: a synced file keeps its bytes, a synced directory keeps its names, and a rename
//! or link is there as a whole or not at all. Only [`replace`] replaces a file.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

/// What was tried, on which path, and why it failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub struct DurableError {
    pub operation: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

impl DurableError {
    /// For `map_err`: names the operation and the path that an I/O error lacks.
    pub(crate) fn at<'a>(
        operation: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> DurableError + 'a {
        move |source| DurableError { operation, path: path.to_owned(), source }
    }
}

/// Whether [`publish`] gave the file its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Publication {
    Done,
    /// Another file has the name; nothing was changed.
    NameTaken,
}

/// Creates a directory and what is missing above it; each new name is durable on return.
pub fn create_directories(path: &Path) -> Result<(), DurableError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent_of(path);
    create_directories(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(DurableError::at("create the directory", path)(error))
        }
        _ => sync_directory(parent),
    }
}

/// Makes the names in a directory durable.
pub fn sync_directory(path: &Path) -> Result<(), DurableError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(DurableError::at("sync the directory", path))
}

/// Gives a synced file its final name on the same file system, unless another file has it already.
///
/// A crash leaves the old name, the new one or (on file systems that cannot rename without replacing)
/// both; on return the new one is durable and the old one gone.
pub fn publish(temporary: &Path, destination: &Path) -> Result<Publication, DurableError> {
    let publication = match rename_without_replacing(temporary, destination) {
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::ENOTSUP) => {
            link_without_replacing(temporary, destination)
        }
        Err(Errno::EEXIST) => Ok(Publication::NameTaken),
        renamed => renamed.map(|()| Publication::Done).map_err(io::Error::from),
    }
    .map_err(DurableError::at("give the final name to", temporary))?;
    if publication == Publication::Done {
        sync_both(temporary, destination)?;
    }
    Ok(publication)
}

/// Renames over what has the name: for files that only this crate writes. Durable on return; a crash leaves
/// one of the two.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the durable-write room: the directory is synced"
)]
pub fn replace(from: &Path, to: &Path) -> Result<(), DurableError> {
    fs::rename(from, to).map_err(DurableError::at("rename", from))?;
    sync_both(from, to)
}

/// Two files of one file system take each other's names in one step; durable on return. A crash leaves both as they
/// were or both exchanged. Fails, and changes nothing, where the file system cannot do that.
pub fn exchange(one: &Path, other: &Path) -> Result<(), DurableError> {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)
        .map_err(io::Error::from)
        .map_err(DurableError::at("exchange with its copy the name of", one))?;
    sync_both(one, other)
}

/// Writes a new file under a hidden name beside `destination`, and gives it that name once it is whole.
/// Nothing is left of it where `fill` fails.
pub fn write_new<T, E: From<DurableError>>(
    destination: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<T, E>,
) -> Result<T, E> {
    let temporary = hidden_beside(destination);
    let file = File::create(&temporary).map_err(DurableError::at("create", &temporary))?;
    let written = fill_and_publish(file, &temporary, destination, fill);
    if written.is_err() {
        remove(&temporary)?;
    }
    written
}

fn fill_and_publish<T, E: From<DurableError>>(
    file: File,
    temporary: &Path,
    destination: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<T, E>,
) -> Result<T, E> {
    let mut output = BufWriter::new(file);
    let filled = fill(&mut output)?;
    let file = output
        .into_inner()
        .map_err(|error| DurableError::at("write", temporary)(error.into_error()))?;
    file.sync_all().map_err(DurableError::at("sync", temporary))?;
    match publish(temporary, destination)? {
        Publication::Done => Ok(filled),
        Publication::NameTaken => {
            let taken = io::Error::from(io::ErrorKind::AlreadyExists);
            Err(DurableError::at("write", destination)(taken).into())
        }
    }
}

/// Recorders and their players do not look at names that begin with a dot.
pub fn hidden_beside(destination: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(destination.file_name().unwrap_or_default());
    name.push(".gapless");
    destination.with_file_name(name)
}

/// Removes a file that may be gone already; durable on return.
pub fn remove(path: &Path) -> Result<(), DurableError> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory(parent_of(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(DurableError::at("remove", path)(error)),
    }
}

fn rename_without_replacing(from: &Path, to: &Path) -> nix::Result<()> {
    renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE)
}

/// A hard link fails where the name is taken, on every file system that has links.
fn link_without_replacing(from: &Path, to: &Path) -> io::Result<Publication> {
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from).map(|()| Publication::Done),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Publication::NameTaken),
        Err(error) => Err(error),
    }
}

/// The directories of both names of a renamed file.
fn sync_both(from: &Path, to: &Path) -> Result<(), DurableError> {
    sync_directory(parent_of(to))?;
    if parent_of(from) == parent_of(to) { Ok(()) } else { sync_directory(parent_of(from)) }
}

/// The directory that holds a path's name: `.` for a bare name.
pub fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests prepare directories that nothing has to survive"
)]
mod tests {
    use super::*;

    #[test]
    fn a_published_file_has_only_its_final_name() {
        let directory = tempfile::tempdir().unwrap();
        let (temporary, destination) = (directory.path().join(".a"), directory.path().join("a"));
        fs::write(&temporary, b"new").unwrap();
        assert_eq!(publish(&temporary, &destination).unwrap(), Publication::Done);
        assert_eq!(fs::read(&destination).unwrap(), b"new");
        assert!(!temporary.exists());
    }

    #[test]
    fn publishing_never_replaces_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let (temporary, destination) = (directory.path().join(".a"), directory.path().join("a"));
        fs::write(&temporary, b"new").unwrap();
        fs::write(&destination, b"original").unwrap();
        assert_eq!(publish(&temporary, &destination).unwrap(), Publication::NameTaken);
        assert_eq!(
            link_without_replacing(&temporary, &destination).unwrap(),
            Publication::NameTaken
        );
        assert_eq!(fs::read(&destination).unwrap(), b"original");
        assert_eq!(fs::read(&temporary).unwrap(), b"new");
    }

    #[test]
    fn replacing_leaves_the_new_file_in_another_directory_too() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("a"), directory.path().join("below/a"));
        create_directories(parent_of(&to)).unwrap();
        fs::write(&from, b"new").unwrap();
        fs::write(&to, b"old").unwrap();
        replace(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"new");
        assert!(!from.exists());
    }

    #[test]
    fn two_files_exchange_their_names_or_stay_as_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (directory.path().join("a"), directory.path().join("below/b"));
        create_directories(parent_of(&other)).unwrap();
        fs::write(&one, b"one").unwrap();
        exchange(&one, &other).unwrap_err();
        assert_eq!(fs::read(&one).unwrap(), b"one");
        fs::write(&other, b"other").unwrap();
        exchange(&one, &other).unwrap();
        assert_eq!(
            (fs::read(&one).unwrap(), fs::read(&other).unwrap()),
            (b"other".to_vec(), b"one".to_vec())
        );
    }

    #[test]
    fn a_file_system_without_exclusive_rename_gets_a_link_instead() {
        let directory = tempfile::tempdir().unwrap();
        let (temporary, destination) = (directory.path().join(".a"), directory.path().join("a"));
        fs::write(&temporary, b"new").unwrap();
        assert_eq!(link_without_replacing(&temporary, &destination).unwrap(), Publication::Done);
        assert_eq!(fs::read(&destination).unwrap(), b"new");
        assert!(!temporary.exists());
    }

    #[test]
    fn directories_are_created_down_to_the_last_and_may_exist() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("2026-11-23/10");
        create_directories(&deep).unwrap();
        create_directories(&deep).unwrap();
        assert!(deep.is_dir());
    }

    #[test]
    fn a_file_in_the_way_of_a_directory_is_named_in_the_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = create_directories(&file.join("below")).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
    }

    #[test]
    fn removing_what_is_gone_is_no_error() {
        let directory = tempfile::tempdir().unwrap();
        remove(&directory.path().join("never-was")).unwrap();
    }
}
