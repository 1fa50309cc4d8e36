//! A folder on a device whose memory is its recorder's: reading leaves the page cache as it was.
//!
//! A camera has little memory beside what its recorder works in. What is read of a card once, and sent, is not to
//! push that out. So nothing is read ahead (`POSIX_FADV_RANDOM`): a read fetches what it asks for, in pages of their
//! own. And behind each read the pages that it has fetched are let go of (`POSIX_FADV_DONTNEED`), all but the one in
//! which it ended, in which the next one mostly begins.
//!
//! Pages that were in memory before stay: a recorder has just written them, or somebody plays them. Which it was,
//! the kernel tells: it counts what each thread has fetched from a medium (`getrusage`, `ru_inblock`), whatever the
//! file system. A read that fetched less than it gave is taken to have fetched nothing: its pages are left to the
//! kernel, which is at most one read where others' pages begin, and one where they end. What a server of files
//! fetches on our behalf, as with FUSE, is not counted, and left alone too. A kernel without this count
//! (`CONFIG_TASK_IO_ACCOUNTING`, told by `/proc/self/io`) cannot tell: there, everything is let go of. What the
//! recorder has not yet got onto the card stays in any case, as the kernel drops no dirty page.
//!
//! Not `POSIX_FADV_NOREUSE`: before Linux 6.3 it does nothing, and since then it lets pages in. Not `O_DIRECT`: it
//! has the recorder's pages written out first, and reads from the card what is in memory.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::libc::off_t;
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::{SysconfVar, sysconf};

use super::{Folder, Listed, OpenRecording, Recordings};
use crate::segment::FileStamp;

/// What the kernel counts in.
const BLOCK_BYTES: u64 = 512;
/// Where the kernel does not tell.
const USUAL_PAGE_BYTES: u64 = 4_096;

/// As its [`Folder`], but for how recordings are read. They are to be read on one thread, as an index does.
#[derive(Clone, Debug)]
pub struct Sparing {
    folder: Folder,
    counted: bool,
    page_bytes: u64,
}

impl Sparing {
    pub fn new(folder: Folder) -> Self {
        let page_bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        let page_bytes = page_bytes.and_then(|bytes| u64::try_from(bytes).ok());
        Sparing {
            folder,
            counted: Path::new("/proc/self/io").exists(),
            page_bytes: page_bytes.filter(|bytes| *bytes > 0).unwrap_or(USUAL_PAGE_BYTES),
        }
    }
}

impl Recordings for Sparing {
    fn is_there(&self) -> bool {
        self.folder.is_there()
    }

    fn list(&self, under: &Path, tell: &mut dyn FnMut(Listed)) {
        self.folder.list(under, tell);
    }

    fn open(&self, name: &Path) -> io::Result<Box<dyn OpenRecording>> {
        let file = self.folder.open_file(name)?;
        // It is advice, here and below: a file system that takes none is read all the same.
        let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM);
        let size_bytes = file.metadata()?.len();
        let fetched = Fetched { page_bytes: self.page_bytes, size_bytes, edge: None };
        let fetched = Cell::new(fetched);
        Ok(Box::new(SparingFile { file, counted: self.counted, fetched }))
    }
}

#[derive(Debug)]
struct SparingFile {
    file: File,
    counted: bool,
    fetched: Cell<Fetched>,
}

impl SparingFile {
    fn let_go(&self, bytes: &Range<u64>) {
        let length = bytes.end.saturating_sub(bytes.start);
        if let (Ok(start), Ok(length @ 1..)) =
            (off_t::try_from(bytes.start), off_t::try_from(length))
        {
            let advice = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
            let _ = posix_fadvise(&self.file, start, length, advice);
        }
    }
}

impl OpenRecording for SparingFile {
    fn stamp(&self) -> io::Result<FileStamp> {
        self.file.stamp()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let before = self.counted.then(fetched_bytes);
        let count = OpenRecording::read_at(&self.file, buffer, offset)?;
        let fetched_bytes = before.map(|before| fetched_bytes().saturating_sub(before));
        let mut fetched = self.fetched.get();
        for bytes in fetched.after(&(offset..offset + count as u64), fetched_bytes) {
            self.let_go(&bytes);
        }
        self.fetched.set(fetched);
        Ok(count)
    }

    fn forget_cached(&self) -> io::Result<bool> {
        self.file.forget_cached()
    }
}

impl Drop for SparingFile {
    fn drop(&mut self) {
        self.let_go(&self.fetched.get().left());
    }
}

/// What this thread has had fetched from media so far.
fn fetched_bytes() -> u64 {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).map_or(0, |usage| usage.block_reads());
    u64::try_from(usage).unwrap_or(0).saturating_mul(BLOCK_BYTES)
}

/// Which pages of one file are in memory by our doing. Pure.
#[derive(Clone, Copy, Debug)]
struct Fetched {
    page_bytes: u64,
    size_bytes: u64,
    edge: Option<Edge>,
}

/// The page in which the last read ended: it is in memory, whoever has fetched it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Edge {
    start: u64,
    ours: bool,
}

impl Fetched {
    /// What is to be let go of after these bytes were read; ranges may be empty. `fetched_bytes` is what that took
    /// from the medium, as far as it is counted.
    fn after(&mut self, read: &Range<u64>, fetched_bytes: Option<u64>) -> [Range<u64>; 2] {
        if read.is_empty() {
            return [0..0, 0..0];
        }
        let page = self.page_bytes;
        let (first, last) = (read.start - read.start % page, read.end - read.end % page);
        // Of a file's last page a medium may give no more than there is.
        let end = read.end.next_multiple_of(page).min(self.size_bytes.max(read.end));
        let before = self.edge;
        let within = before.filter(|edge| (first..end).contains(&edge.start));
        let missing = (end - first).saturating_sub(within.map_or(0, |_| page));
        let needed = missing.next_multiple_of(BLOCK_BYTES);
        let others = within.filter(|edge| !edge.ours).map(|edge| edge.start);
        // Others' page in the middle is left alone with all around it.
        let ours = fetched_bytes.is_none_or(|fetched| fetched >= needed)
            && others.is_none_or(|start| start == first || start == last);
        let begin = if others == Some(first) { first + page } else { first };
        let edge = Edge { start: last, ours: ours && others != Some(last) };
        self.edge = (last < read.end).then_some(edge);
        let passed = before.filter(|edge| edge.ours && self.edge != before);
        [
            passed.map_or(0..0, |edge| edge.start..edge.start + page),
            if ours && begin < last { begin..last } else { 0..0 },
        ]
    }

    /// What is still to be let go of when nothing more is read.
    fn left(&self) -> Range<u64> {
        let edge = self.edge.filter(|edge| edge.ours);
        edge.map_or(0..0, |edge| edge.start..edge.start + self.page_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;
    use crate::scan::ScanLimits;

    const PAGE: u64 = 4_096;

    /// The page cache of one file: what stood in it before, and what was fetched since.
    #[derive(Debug)]
    struct Memory {
        before: BTreeSet<u64>,
        now: BTreeSet<u64>,
        fetched: Fetched,
    }

    impl Memory {
        fn with(before: impl IntoIterator<Item = u64>) -> Memory {
            let before: BTreeSet<u64> = before.into_iter().collect();
            let fetched = Fetched { page_bytes: PAGE, size_bytes: u64::MAX, edge: None };
            Memory { now: before.clone(), before, fetched }
        }

        fn read(&mut self, read: Range<u64>, counted: bool) {
            let pages = read.start / PAGE..read.end.div_ceil(PAGE);
            let missing = pages.filter(|page| self.now.insert(*page)).count() as u64;
            let fetched_bytes = counted.then_some(missing * PAGE);
            for bytes in self.fetched.after(&read, fetched_bytes) {
                self.let_go(&bytes);
            }
        }

        fn let_go(&mut self, bytes: &Range<u64>) {
            assert!(bytes.start % PAGE == 0 && bytes.end % PAGE == 0, "{bytes:?}");
            self.now.retain(|page| !(bytes.start / PAGE..bytes.end / PAGE).contains(page));
        }

        fn closed(mut self) -> BTreeSet<u64> {
            self.let_go(&self.fetched.left());
            self.now
        }
    }

    #[test]
    fn what_was_in_memory_stays_and_what_was_not_is_let_go_of() {
        let mut memory = Memory::with(0..64);
        let (begin, length) = (1_234, 65_536);
        for number in 0..8 {
            memory.read(begin + number * length..begin + (number + 1) * length, true);
        }
        let kept: BTreeSet<u64> = memory.before.clone();
        let more = memory.closed();
        assert!(more.is_superset(&kept));
        // The one read in which what was in memory ended.
        assert!(more.len() - kept.len() <= 17, "{more:?}");
    }

    #[test]
    fn a_kernel_that_does_not_count_is_told_to_let_go_of_everything() {
        let mut memory = Memory::with([3, 4]);
        memory.read(0..100_000, false);
        memory.read(100_000..100_010, false);
        assert_eq!(memory.closed(), BTreeSet::new());
    }

    #[test]
    fn a_read_of_nothing_changes_nothing() {
        let mut memory = Memory::with([]);
        memory.read(0..5_000, true);
        memory.read(5_000..5_000, true);
        memory.read(5_000..8_192, true);
        assert_eq!(memory.closed(), BTreeSet::new());
    }

    /// What of a file the kernel has in memory.
    fn resident_bytes(path: &Path) -> u64 {
        let columns = ["--bytes", "--noheadings", "--raw", "--output", "RES"];
        let output = Command::new("fincore").args(columns).arg(path).output();
        let output = output.expect("fincore is missing: apt-get install util-linux-extra");
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }

    fn forget(path: &Path) {
        let file = File::open(path).unwrap();
        file.sync_all().unwrap();
        file.forget_cached().unwrap();
        assert_eq!(resident_bytes(path), 0, "a temporary folder on a disk is needed: TMPDIR");
    }

    #[test]
    fn what_is_read_of_a_file_on_a_disk_takes_no_memory_unless_it_was_there() {
        const FILE_BYTES: u64 = 8 << 20;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.mp4");
        File::create(&path).unwrap().write_all(&vec![7; FILE_BYTES as usize]).unwrap();
        let root = directory.path().to_owned();
        let folder = Folder { root, limits: ScanLimits::default(), require_mount: false };
        let sparing = Sparing::new(folder.clone());
        assert!(sparing.counted, "a kernel that counts what threads fetch is needed");
        let read_all = |store: &dyn Recordings| {
            let (recording, mut buffer) =
                (store.open(Path::new("a.mp4")).unwrap(), vec![0; 65_536]);
            // Head and tail, as the index does, then a part that begins anywhere.
            for offset in [0, FILE_BYTES - 4_096, FILE_BYTES / 2 + 100] {
                recording.read_at(&mut buffer[..4_096], offset).unwrap();
            }
            let mut offset = 777;
            while offset < FILE_BYTES {
                offset += recording.read_at(&mut buffer, offset).unwrap() as u64;
            }
        };
        forget(&path);
        read_all(&sparing);
        assert_eq!(resident_bytes(&path), 0);
        // What another reader has there stays.
        read_all(&folder);
        assert!(resident_bytes(&path) >= FILE_BYTES);
        read_all(&sparing);
        assert!(resident_bytes(&path) >= FILE_BYTES);
    }

    proptest! {
        #[test]
        fn of_a_file_that_nobody_had_in_memory_nothing_stays_there(
            reads in prop::collection::vec((0..400_000_u64, 1..70_000_u64, any::<bool>()), 1..40),
        ) {
            let (mut memory, mut position) = (Memory::with([]), 0);
            for (offset, length, on) in reads {
                let start = if on { position } else { offset };
                position = start + length;
                memory.read(start..position, true);
                prop_assert!(memory.now.len() <= 1, "{memory:?}");
            }
            prop_assert_eq!(memory.closed(), BTreeSet::new());
        }

        #[test]
        fn who_reads_through_leaves_at_most_two_reads_where_others_pages_begin_and_end(
            held in 0..200_u64,
            length in 0..100_u64,
            start in 0..9_000_u64,
            read_bytes in 4_096..70_000_u64,
        ) {
            let mut memory = Memory::with(held..held + length);
            for number in 0..1_500_000 / read_bytes {
                let begin = start + number * read_bytes;
                memory.read(begin..begin + read_bytes, true);
            }
            let before = memory.before.clone();
            let after = memory.closed();
            prop_assert!(after.is_superset(&before));
            let more = after.len() - before.len();
            prop_assert!(more as u64 <= 2 * (read_bytes / PAGE + 2), "{} more", more);
        }

        #[test]
        fn of_what_was_in_memory_nothing_goes_where_a_read_does_not_reach_beyond_it(
            held in 1..60_u64,
            reads in prop::collection::vec((0..240_000_u64, 1..70_000_u64), 1..40),
        ) {
            let mut memory = Memory::with(0..held);
            for (offset, length) in reads {
                let within = held * PAGE;
                let read = if offset < within { offset..(offset + length).min(within) } else { offset..offset + length };
                memory.read(read, true);
                prop_assert!(memory.now.is_superset(&memory.before), "{memory:?}");
            }
        }
    }
}
