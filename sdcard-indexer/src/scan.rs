//! Walking a directory tree: bounded, in a fixed order, never failing as a whole.
//!
//! Follows no symbolic link, skips every name with a leading dot (files under way, and folders of our
//! own), opens no file. What cannot be listed is itself an item of the walk, so that nobody takes files
//! that were not seen for files that are gone.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirEntry, FileType};
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScanLimits {
    /// Directories within directories, the root not counted.
    pub depth: usize,
    /// Directory entries in one walk.
    pub entries: usize,
}

impl Default for ScanLimits {
    fn default() -> Self {
        ScanLimits { depth: 12, entries: 500_000 }
    }
}

/// Paths are relative to the root of the walk.
#[derive(Debug)]
pub enum Found {
    /// Said before anything in it is; also of the place where the walk begins.
    Directory(PathBuf),
    File(PathBuf),
    /// Neither directory nor regular file: a link, a pipe, a device.
    Other(PathBuf),
    /// Under this path there may be files that the walk does not name.
    Unlisted(PathBuf, UnlistedReason),
}

#[derive(Debug, thiserror::Error)]
pub enum UnlistedReason {
    #[error("the directory cannot be listed")]
    Io(#[from] io::Error),
    #[error("more than {0} directories within one another")]
    TooDeep(usize),
    #[error("more than {0} directory entries")]
    TooMany(usize),
}

impl UnlistedReason {
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, UnlistedReason::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// One walk, depth first; in a directory, names come in the order of their bytes.
#[derive(Debug)]
pub struct Walk {
    root: PathBuf,
    begin: PathBuf,
    limits: ScanLimits,
    entries_left: usize,
    /// What is left to do; the last comes first.
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Name(Found),
    List { directory: PathBuf, depth: usize },
    Entries { directory: PathBuf, depth: usize, entries: Entries },
}

/// What is left to walk of a directory, the first name last. All names lie in one buffer, that is given back as a
/// whole: a recorder may put tens of thousands of files into one directory, and a string for each would stay with
/// the process for ever.
#[derive(Debug, Default)]
struct Entries {
    names: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    /// Its place in the names.
    name: Range<usize>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    File,
    Directory,
    Other,
    /// To be asked of the file itself.
    Untold,
}

impl Entries {
    fn push(&mut self, name: &OsStr, kind: Kind) {
        let start = self.names.len();
        self.names.extend_from_slice(name.as_bytes());
        self.entries.push(Entry { name: start..self.names.len(), kind });
    }

    fn sort(&mut self) {
        let name = |entry: &Entry| &self.names[entry.name.clone()];
        self.entries.sort_unstable_by(|one, other| name(other).cmp(name(one)));
    }

    fn next(&mut self) -> Option<(&OsStr, Kind)> {
        let entry = self.entries.pop()?;
        Some((OsStr::from_bytes(&self.names[entry.name]), entry.kind))
    }
}

impl Kind {
    fn of(kind: FileType) -> Kind {
        if kind.is_file() {
            Kind::File
        } else if kind.is_dir() {
            Kind::Directory
        } else {
            Kind::Other
        }
    }
}

impl Walk {
    /// Walks `begin`, which is relative to `root`; empty for all of it.
    pub fn new(root: &Path, begin: &Path, limits: ScanLimits) -> Self {
        let list = Step::List { directory: begin.to_owned(), depth: begin.components().count() };
        Walk {
            root: root.to_owned(),
            begin: begin.to_owned(),
            limits,
            entries_left: limits.entries,
            steps: vec![list, Step::Name(Found::Directory(begin.to_owned()))],
        }
    }

    /// Entries that could be had before an error are walked; the error is named after them.
    fn list(&mut self, directory: PathBuf, depth: usize) {
        match fs::read_dir(self.root.join(&directory)) {
            Ok(listing) => {
                let mut entries = Entries::default();
                // A name is a new string each time it is asked for.
                let named = listing.map(|entry| entry.map(|entry| (entry.file_name(), entry)));
                let visible = named.filter(|entry| !entry.as_ref().is_ok_and(is_hidden));
                // One more than is allowed, so that the cap is noticed.
                for entry in visible.take(self.entries_left + 1) {
                    match entry {
                        Ok((name, entry)) => {
                            entries.push(&name, entry.file_type().map_or(Kind::Untold, Kind::of));
                        }
                        Err(error) => self.cannot_list(&directory, error),
                    }
                }
                entries.sort();
                self.steps.push(Step::Entries { directory, depth, entries });
            }
            Err(error) => self.cannot_list(&directory, error),
        }
    }

    fn cannot_list(&mut self, directory: &Path, error: io::Error) {
        self.steps.push(Step::Name(Found::Unlisted(directory.to_owned(), error.into())));
    }

    fn entry(&mut self, path: PathBuf, depth: usize, kind: Kind) -> Found {
        match kind {
            Kind::File => Found::File(path),
            Kind::Directory if depth >= self.limits.depth => {
                Found::Unlisted(path, UnlistedReason::TooDeep(self.limits.depth))
            }
            Kind::Directory => {
                self.steps.push(Step::List { directory: path.clone(), depth: depth + 1 });
                Found::Directory(path)
            }
            Kind::Other => Found::Other(path),
            Kind::Untold => match fs::symlink_metadata(self.root.join(&path)) {
                Ok(metadata) => self.entry(path, depth, Kind::of(metadata.file_type())),
                Err(error) => Found::Unlisted(path, error.into()),
            },
        }
    }
}

impl Iterator for Walk {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            match self.steps.pop()? {
                Step::Name(found) => return Some(found),
                Step::List { directory, depth } => self.list(directory, depth),
                Step::Entries { directory, depth, mut entries } => {
                    let Some((name, kind)) = entries.next() else { continue };
                    if self.entries_left == 0 {
                        self.steps.clear();
                        let reason = UnlistedReason::TooMany(self.limits.entries);
                        return Some(Found::Unlisted(self.begin.clone(), reason));
                    }
                    self.entries_left -= 1;
                    let path = join(&directory, name);
                    self.steps.push(Step::Entries { directory, depth, entries });
                    return Some(self.entry(path, depth, kind));
                }
            }
        }
    }
}

fn is_hidden((name, _): &(OsString, DirEntry)) -> bool {
    name.as_bytes().starts_with(b".")
}

/// As [`Path::join`], but takes room once.
fn join(directory: &Path, name: &OsStr) -> PathBuf {
    let mut path = OsString::with_capacity(directory.as_os_str().len() + 1 + name.len());
    path.push(directory);
    if !path.is_empty() {
        path.push("/");
    }
    path.push(name);
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(names: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for name in names {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::File::create(path).unwrap();
        }
        root
    }

    /// `/` behind directories, `?` behind what is neither, `!` behind what is not listed.
    fn walk(root: &Path, begin: &str, limits: ScanLimits) -> Vec<String> {
        let found = Walk::new(root, Path::new(begin), limits).map(|found| match found {
            Found::Directory(path) => format!("{}/", path.display()),
            Found::File(path) => path.display().to_string(),
            Found::Other(path) => format!("{}?", path.display()),
            Found::Unlisted(path, _) => format!("{}!", path.display()),
        });
        found.collect()
    }

    #[test]
    fn a_walk_names_each_directory_before_what_is_in_it_in_the_order_of_names() {
        let root = tree(&["b/2", "b/1", "a", "c/d/e"]);
        let found = walk(root.path(), "", ScanLimits::default());
        assert_eq!(found, ["/", "a", "b/", "b/1", "b/2", "c/", "c/d/", "c/d/e"]);
        assert_eq!(walk(root.path(), "c", ScanLimits::default()), ["c/", "c/d/", "c/d/e"]);
    }

    #[test]
    fn names_with_a_leading_dot_do_not_exist_for_a_walk() {
        let root = tree(&[".a", ".b/c", "d/.e", "d/f"]);
        assert_eq!(walk(root.path(), "", ScanLimits::default()), ["/", "d/", "d/f"]);
    }

    #[test]
    fn a_link_is_named_and_not_followed() {
        let root = tree(&["a/b"]);
        std::os::unix::fs::symlink("..", root.path().join("a/up")).unwrap();
        std::os::unix::fs::symlink("a/b", root.path().join("b")).unwrap();
        let found = walk(root.path(), "", ScanLimits::default());
        assert_eq!(found, ["/", "a/", "a/b", "a/up?", "b?"]);
    }

    #[test]
    fn what_lies_deeper_than_allowed_is_said_to_be_unlisted() {
        let root = tree(&["a/b/c", "a/d"]);
        let limits = ScanLimits { depth: 1, ..ScanLimits::default() };
        assert_eq!(walk(root.path(), "", limits), ["/", "a/", "a/b!", "a/d"]);
    }

    #[test]
    fn a_walk_ends_at_the_allowed_number_of_entries_and_says_so() {
        let root = tree(&["a", "b", "c", ".d", ".e"]);
        let limits = |entries| ScanLimits { entries, ..ScanLimits::default() };
        assert_eq!(walk(root.path(), "", limits(2)), ["/", "a", "b", "!"]);
        assert_eq!(walk(root.path(), "", limits(3)), ["/", "a", "b", "c"]);
    }

    #[test]
    fn a_directory_that_is_not_there_is_unlisted() {
        let root = tree(&["a"]);
        assert_eq!(walk(root.path(), "no", ScanLimits::default()), ["no/", "no!"]);
        assert_eq!(walk(root.path(), "a", ScanLimits::default()), ["a/", "a!"]);
    }
}
