//! Cards as they come out of the field: torn, littered, hostile, or merely very full.
//!
//! Every builder says what a card truly holds, so that a test can hold an index against it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::{TimeRange, Timestamp};

use crate::clip::{Clip, after};
use crate::naming::Naming;

/// A directory in which segments of the clip are laid out by hand.
#[derive(Clone, Debug)]
pub struct Card {
    root: PathBuf,
    naming: Naming,
}

impl Card {
    pub fn new(root: &Path, naming: Naming) -> Self {
        Card { root: root.to_owned(), naming }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A whole segment; answers the range it covers.
    pub fn segment(&self, start: Timestamp, seconds: u32) -> io::Result<TimeRange> {
        self.place(&self.naming.path(start), &Clip::committed().segment(start, seconds))?;
        Ok(TimeRange::starting_at(start, Duration::from_secs(seconds.into())))
    }

    /// A segment of `seconds` whose power was cut in the middle of the last one's media; answers the
    /// range of its whole fragments.
    pub fn torn(&self, start: Timestamp, seconds: u32) -> io::Result<TimeRange> {
        let bytes = Clip::committed().segment(start, seconds);
        let whole_seconds = seconds.saturating_sub(1);
        let torn_bytes = Clip::committed().fragment_bytes(after(start, whole_seconds)) / 2;
        self.place(&self.naming.path(start), &bytes[..bytes.len() - torn_bytes as usize])?;
        Ok(TimeRange::starting_at(start, Duration::from_secs(whole_seconds.into())))
    }

    /// A segment of which only the directory entry reached the card.
    pub fn empty(&self, start: Timestamp) -> io::Result<()> {
        self.place(&self.naming.path(start), &[])
    }

    /// A segment's name over blocks that were never written.
    pub fn zeroed(&self, start: Timestamp, bytes: usize) -> io::Result<()> {
        self.place(&self.naming.path(start), &vec![0; bytes])
    }

    /// A file that is none of the recorder's.
    pub fn foreign(&self, relative_path: &str, bytes: &[u8]) -> io::Result<()> {
        self.place(Path::new(relative_path), bytes)
    }

    /// A directory with a segment's name: opens, and cannot be read, whoever asks.
    pub fn directory_named_as_segment(&self, start: Timestamp) -> io::Result<()> {
        fs::create_dir_all(self.root.join(self.naming.path(start)))
    }

    /// A symbolic link to itself with a segment's name: cannot be opened, whoever asks.
    pub fn link_loop(&self, start: Timestamp) -> io::Result<()> {
        let path = self.root.join(self.naming.path(start));
        fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
        symlink(&path, &path)
    }

    /// `count` segments of `seconds` each, back to back, as real files of their own.
    pub fn fill(&self, start: Timestamp, count: u32, seconds: u32) -> io::Result<TimeRange> {
        for index in 0..count {
            self.segment(after(start, index * seconds), seconds)?;
        }
        Ok(TimeRange::starting_at(
            start,
            Duration::from_secs(u64::from(count) * u64::from(seconds)),
        ))
    }

    fn place(&self, relative_path: &Path, bytes: &[u8]) -> io::Result<()> {
        let path = self.root.join(relative_path);
        fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
        File::create(path)?.write_all(bytes)
    }
}

/// Everything that goes wrong, on one card.
#[derive(Debug)]
pub struct BadCard {
    /// What can be played: whole segments, and the whole fragments of the torn one.
    pub playable: Coverage,
    /// Segment names behind which there is no footage at all.
    pub hopeless: Vec<PathBuf>,
    /// A playable segment, also in `playable`, that claims to be of the far future.
    pub future: TimeRange,
}

/// Six slots of ten seconds from `start` on (whole, empty, zeroed, directory, link loop, torn), one segment
/// ten years ahead, and a litter of foreign files.
pub fn bad_card(card: &Card, start: Timestamp) -> io::Result<BadCard> {
    const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
    let slot = |index: u32| after(start, index * 10);
    let future = card.segment(start.saturating_add(TEN_YEARS), 10)?;
    let playable =
        Coverage::from(vec![card.segment(slot(0), 10)?, card.torn(slot(5), 10)?, future]);
    card.empty(slot(1))?;
    card.zeroed(slot(2), 64 * 1024)?;
    card.directory_named_as_segment(slot(3))?;
    card.link_loop(slot(4))?;
    let hopeless = (1..=4).map(|index| card.root.join(card.naming.path(slot(index)))).collect();

    card.foreign("LOST.DIR/0000", b"left behind by a check of the file system")?;
    card.foreign("Thumbs.db", &[0xd0, 0xcf, 0x11, 0xe0])?;
    card.foreign("notes.mp4", b"not a recording, whatever the name says")?;
    card.foreign("2026-99-99_99-99-99-000000.mp4", b"not a time, whatever the shape says")?;
    card.foreign(".2026-11-23_10-00-00-000000.mp4", Clip::committed().init())?;
    card.foreign("name with spaces und Umläuten.txt", b"")?;
    Ok(BadCard { playable, hopeless, future })
}

#[cfg(test)]
mod tests {
    use crate::media::{Form, frames};

    use super::*;

    fn start() -> Timestamp {
        "2026-11-23T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_filled_card_has_each_segment_under_its_own_hour() {
        let directory = tempfile::tempdir().unwrap();
        let card = Card::new(directory.path(), Naming::DayHour);
        let range = card.fill(start(), 2_000, 2).unwrap();
        assert_eq!(range.duration(), Duration::from_secs(4_000));
        let count = |hour: &str| fs::read_dir(directory.path().join(hour)).unwrap().count();
        assert_eq!((count("2026-11-23/10"), count("2026-11-23/11")), (1_800, 200));
        let last = directory.path().join("2026-11-23/11/2026-11-23_11-06-38-000000.mp4");
        assert_eq!(frames(&last, Form::VideoPackets).unwrap().len(), 50);
    }

    #[test]
    fn a_torn_segment_ends_inside_its_last_fragment() {
        let directory = tempfile::tempdir().unwrap();
        let card = Card::new(directory.path(), Naming::MediaMtx);
        let whole = card.torn(start(), 3).unwrap();
        assert_eq!(whole.duration(), Duration::from_secs(2));
        let bytes = fs::read(directory.path().join(Naming::MediaMtx.path(start()))).unwrap();
        assert!(bytes.len() > Clip::committed().segment(start(), 2).len());
        assert!(Clip::committed().segment(start(), 3).starts_with(&bytes));
    }

    #[test]
    fn hopeless_segments_of_a_bad_card_cannot_be_read_even_by_root() {
        let directory = tempfile::tempdir().unwrap();
        let card = Card::new(directory.path(), Naming::MediaMtx);
        let bad = bad_card(&card, start()).unwrap();
        assert_eq!(bad.playable.ranges().len(), 3);
        assert!(bad.playable.covers(bad.future));
        for path in &bad.hopeless {
            let footage = fs::read(path).is_ok_and(|bytes| bytes.iter().any(|&byte| byte != 0));
            assert!(!footage, "{}", path.display());
        }
    }
}
