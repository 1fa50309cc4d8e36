//! The log: what the index knows, kept over a restart; one append-only file per UTC day.
//!
//! A cache and nothing more: the recordings are the truth, and whatever of the log is lost is read from
//! them again. So a replay takes each file up to its first bad frame and forgets the rest, which the next
//! append cuts off. What a record says and how its frame is laid out: [`record`].
//!
//! A segment's records lie in the file of the UTC day of its name, `2026-11-23.log`, so that a ring
//! recorder's deletions end up together and a file dies as a whole. Records that were replaced or removed
//! stay until their file is written anew. Nothing is written but by [`Log::flush`], [`Log::rewrite`] and
//! [`Log::remove`], through [`crate::durable`].

mod card;
mod meter;
pub mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::durable::Durable;
use crate::time::{TimeRange, Timestamp};

pub use meter::Written;
pub use record::Record;

use card::CardIdentity;

/// Days that are replayed, the newest of them; more than a card holds.
const MAX_DAYS: usize = 4_096;
/// What is read of one file: some 300,000 segments.
const MAX_FILE_BYTES: u64 = 32 << 20;
const DAY: Duration = Duration::from_secs(86_400);

/// A UTC day, counted from 1970-01-01.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Day(i64);

impl Day {
    pub fn of(instant: Timestamp) -> Self {
        Day(instant.as_nanos().div_euclid(DAY.as_nanos() as i64))
    }

    /// Its midnights; cut off at the ends of what a [`Timestamp`] can hold.
    pub fn range(self) -> TimeRange {
        TimeRange::starting_at(Timestamp::from_unix_seconds(self.0 * DAY.as_secs() as i64), DAY)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let midnight = self.range().start().to_jiff().to_zoned(jiff::tz::TimeZone::UTC);
        fmt::Display::fmt(&midnight.date(), formatter)
    }
}

impl FromStr for Day {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let midnight = text.parse::<jiff::civil::Date>()?.to_zoned(jiff::tz::TimeZone::UTC)?;
        Ok(Day::of(Timestamp::from_jiff(midnight.timestamp())))
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot read the index in {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write the index in {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl LogError {
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            LogError::Read { source, .. } | LogError::Write { source, .. } => source.kind(),
        }
    }
}

#[derive(Debug)]
pub struct Log {
    durable: Durable,
    folder: PathBuf,
    /// Whose records these are; see [`Log::is_anothers`].
    card: Option<CardIdentity>,
    files: BTreeMap<Day, DayFile>,
    /// Days whose file lacks records, because it could not be read or written: they need a rewrite.
    damaged: BTreeSet<Day>,
    waiting: BTreeMap<Day, Batch>,
    written: Written,
}

/// The part of a day's file that is known to be good.
#[derive(Clone, Copy, Debug, Default)]
struct DayFile {
    records: usize,
    good_bytes: u64,
    /// What stood behind these when the file was replayed.
    torn_bytes: u64,
}

/// Records that are written at once.
#[derive(Debug, Default)]
pub struct Batch {
    records: usize,
    segments: u64,
    bytes: Vec<u8>,
}

impl Batch {
    pub fn push(&mut self, record: &Record<'_>) {
        self.records += usize::from(record.write_to(&mut self.bytes));
        self.segments += u64::from(matches!(record, Record::Segment(_)));
    }
}

impl Log {
    /// Touches nothing: the folder is read by [`Log::replay`] and made by the first write.
    pub fn new(folder: PathBuf, durable: Durable) -> Self {
        Log {
            durable,
            folder,
            card: None,
            files: BTreeMap::new(),
            damaged: BTreeSet::new(),
            waiting: BTreeMap::new(),
            written: Written::default(),
        }
    }

    /// Forgets what it knew and reads the folder, oldest day first. A file that cannot be read is an
    /// error only after all the others have been: the index is whole without it.
    pub fn replay(&mut self, mut each: impl FnMut(Day, Record<'_>)) -> Result<(), LogError> {
        self.files.clear();
        self.damaged.clear();
        self.waiting.clear();
        self.card = Some(CardIdentity::of(&self.durable, &self.folder));
        let mut outcome = Ok(());
        for day in self.days_in_folder()? {
            let path = self.path_of(day);
            match self.durable.disk().read(&path, MAX_FILE_BYTES) {
                Ok(bytes) => {
                    let mut rest = bytes.as_slice();
                    let mut file = DayFile::default();
                    while let Some((record, behind)) = record::read_frame(rest) {
                        each(day, record);
                        file.records += 1;
                        rest = behind;
                    }
                    file.good_bytes = (bytes.len() - rest.len()) as u64;
                    file.torn_bytes = rest.len() as u64;
                    self.files.insert(day, file);
                }
                Err(source) => {
                    self.damaged.insert(day);
                    outcome = Err(LogError::Read { path, source });
                }
            }
        }
        outcome
    }

    fn days_in_folder(&self) -> Result<Vec<Day>, LogError> {
        let listing = match self.durable.disk().names(&self.folder) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(LogError::Read { path: self.folder.clone(), source }),
        };
        let mut days: Vec<Day> = listing
            .iter()
            .filter_map(|name| {
                let day = name.to_str()?.strip_suffix(".log")?.parse().ok()?;
                (Path::new(name) == file_name(day)).then_some(day)
            })
            .collect();
        days.sort_unstable();
        Ok(days.split_off(days.len().saturating_sub(MAX_DAYS)))
    }

    /// Kept in memory until [`Log::flush`]; dropped for a damaged day, whose rewrite brings it anyway.
    pub fn append(&mut self, day: Day, record: &Record<'_>) {
        if !self.damaged.contains(&day) {
            self.waiting.entry(day).or_default().push(record);
        }
    }

    /// Writes what waits: one append and one sync per day that has records waiting.
    pub fn flush(&mut self, now: Timestamp) -> Result<(), LogError> {
        let mut outcome = Ok(());
        for (day, batch) in std::mem::take(&mut self.waiting) {
            let path = self.path_of(day);
            let known = self.files.get(&day).copied().unwrap_or_default();
            let durable = &self.durable;
            let written = durable
                .create_folder(&self.folder)
                .and_then(|()| durable.append_after(&path, known.good_bytes, &batch.bytes));
            let added = batch.bytes.len() as u64;
            match written {
                Ok(()) => {
                    self.written.add(now, added);
                    self.written.add_segments(batch.segments);
                    let file = DayFile {
                        records: known.records + batch.records,
                        good_bytes: known.good_bytes + added,
                        torn_bytes: 0,
                    };
                    self.files.insert(day, file);
                }
                Err(source) => {
                    self.damaged.insert(day);
                    outcome = Err(LogError::Write { path, source });
                }
            }
        }
        if outcome.is_ok() { self.sign(now) } else { outcome }
    }

    /// Puts exactly the records that `fill` pushes in place of the day's file.
    pub fn rewrite(
        &mut self,
        day: Day,
        now: Timestamp,
        fill: impl FnOnce(&mut Batch),
    ) -> Result<(), LogError> {
        let mut batch = Batch::default();
        fill(&mut batch);
        let path = self.path_of(day);
        self.waiting.remove(&day);
        let durable = &self.durable;
        let written =
            durable.create_folder(&self.folder).and_then(|()| durable.replace(&path, &batch.bytes));
        match written {
            Ok(()) => {
                let good_bytes = batch.bytes.len() as u64;
                self.written.add(now, good_bytes);
                self.damaged.remove(&day);
                self.files
                    .insert(day, DayFile { records: batch.records, good_bytes, torn_bytes: 0 });
                Ok(())
            }
            Err(source) => {
                self.damaged.insert(day);
                Err(LogError::Write { path, source })
            }
        }
    }

    /// Removes the day's file.
    pub fn remove(&mut self, day: Day) -> Result<(), LogError> {
        let path = self.path_of(day);
        self.waiting.remove(&day);
        match self.durable.remove(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(LogError::Write { path, source })
            }
            _ => {
                self.files.remove(&day);
                self.damaged.remove(&day);
                Ok(())
            }
        }
    }

    /// Every day that has a file or should have one, and how many records its file holds; `None` where
    /// the file is damaged.
    pub fn days(&self) -> impl Iterator<Item = (Day, Option<usize>)> + '_ {
        let whole = self.files.iter().filter(|(day, _)| !self.damaged.contains(day));
        let whole = whole.map(|(day, file)| (*day, Some(file.records)));
        whole.chain(self.damaged.iter().map(|day| (*day, None)))
    }

    /// The days whose file was found to end in something else than records, and how many bytes of it; the
    /// next append cuts them off.
    pub fn torn_days(&self) -> impl Iterator<Item = (Day, u64)> + '_ {
        let torn = self.files.iter().filter(|(_, file)| file.torn_bytes > 0);
        torn.map(|(day, file)| (*day, file.torn_bytes))
    }

    pub fn is_damaged(&self) -> bool {
        !self.damaged.is_empty()
    }

    /// Counts what was written beside the log.
    pub fn note_written(&mut self, now: Timestamp, bytes: u64) {
        self.written.add(now, bytes);
    }

    pub fn written(&self) -> &Written {
        &self.written
    }

    /// Adds to the figures what others have written to the folder.
    pub fn count(&mut self, now: Timestamp, bytes: u64) {
        self.written.add(now, bytes);
    }

    /// Another card lies where the one was that the last replay was of.
    pub fn is_anothers(&self) -> bool {
        let now = || CardIdentity::of(&self.durable, &self.folder);
        self.card.as_ref().is_some_and(|card| *card != now())
    }

    /// The card is to be known again.
    fn sign(&mut self, now: Timestamp) -> Result<(), LogError> {
        let known = self.card.as_ref().is_some_and(CardIdentity::is_signed);
        if known || self.files.is_empty() {
            return Ok(());
        }
        let written = card::sign(&self.durable, &self.folder);
        let bytes =
            written.map_err(|source| LogError::Write { path: self.folder.clone(), source })?;
        self.written.add(now, bytes);
        self.card = Some(CardIdentity::of(&self.durable, &self.folder));
        Ok(())
    }

    pub fn path_of(&self, day: Day) -> PathBuf {
        self.folder.join(file_name(day))
    }
}

fn file_name(day: Day) -> PathBuf {
    format!("{day}.log").into()
}

#[cfg(test)]
mod tests {
    use super::record::{GoneRecord, SegmentRecord};
    use std::fs;

    use super::*;
    use crate::durable;

    const DAY_ONE: Day = Day(20_000);
    const DAY_TWO: Day = Day(20_001);
    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const CARD_ID_BYTES: u64 = 33;

    fn log_in(folder: &Path) -> Log {
        Log::new(folder.join("state"), Durable::default())
    }

    fn segment(path: &str) -> Record<'_> {
        Record::Segment(SegmentRecord {
            stream: "main",
            path: path.as_bytes(),
            size_bytes: 1,
            modified_ns: 2,
            fingerprint: 3,
            held: true,
            named: DAY_ONE.range().start(),
            duration_ns: 4,
            usable_bytes: 5,
            placement: None,
        })
    }

    /// Paths of the segments that the log tells.
    fn replay(log: &mut Log) -> Vec<String> {
        let mut paths = Vec::new();
        log.replay(|_, record| {
            let Record::Segment(segment) = record else { return paths.push("gone".to_owned()) };
            paths.push(String::from_utf8(segment.path.to_vec()).unwrap());
        })
        .unwrap();
        paths
    }

    fn log_with(folder: &Path, paths: &[&str]) -> Log {
        let mut log = log_in(folder);
        for path in paths {
            log.append(DAY_ONE, &segment(path));
        }
        log.flush(NOW).unwrap();
        log
    }

    fn rewrite(log: &mut Log, records: &[Record<'_>]) {
        log.rewrite(DAY_ONE, NOW, |batch| records.iter().for_each(|record| batch.push(record)))
            .unwrap();
    }

    fn file_in(folder: &Path) -> PathBuf {
        folder.join("state").join(file_name(DAY_ONE))
    }

    #[test]
    fn a_day_is_named_by_its_date_and_reaches_from_midnight_to_midnight() {
        assert_eq!(DAY_ONE.to_string(), "2024-10-04");
        assert_eq!("2024-10-04".parse::<Day>().unwrap(), DAY_ONE);
        assert_eq!(Day::of(DAY_ONE.range().start()), DAY_ONE);
        assert_eq!(Day::of(DAY_ONE.range().end()), DAY_TWO);
        assert_eq!(Day::of(Timestamp::from_nanos(-1)).to_string(), "1969-12-31");
    }

    #[test]
    fn nothing_is_written_before_there_is_something_to_write() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log_in(folder.path());
        assert!(replay(&mut log).is_empty());
        log.flush(NOW).unwrap();
        assert!(!folder.path().join("state").exists());
    }

    #[test]
    fn what_was_flushed_is_replayed_oldest_day_first() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log_with(folder.path(), &[]);
        log.append(DAY_TWO, &segment("c"));
        log.append(DAY_ONE, &segment("a"));
        log.append(DAY_ONE, &segment("b"));
        log.flush(NOW).unwrap();
        let mut again = log_in(folder.path());
        assert_eq!(replay(&mut again), ["a", "b", "c"]);
        assert_eq!(again.days().collect::<Vec<_>>(), [(DAY_ONE, Some(2)), (DAY_TWO, Some(1))]);
    }

    #[test]
    fn a_file_cut_at_any_byte_keeps_its_whole_records_and_takes_new_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = file_in(folder.path());
        drop(log_with(folder.path(), &["a", "b", "c"]));
        let whole = fs::read(&path).unwrap();
        let frame_bytes = whole.len() / 3;
        for cut in 0..=whole.len() {
            durable::replace(&path, &whole[..cut]).unwrap();
            let mut log = log_in(folder.path());
            let mut kept: Vec<&str> = ["a", "b", "c"][..cut / frame_bytes].to_vec();
            assert_eq!(replay(&mut log), kept, "cut at {cut}");
            let torn = (cut % frame_bytes > 0).then_some((DAY_ONE, (cut % frame_bytes) as u64));
            assert_eq!(Vec::from_iter(log.torn_days()), Vec::from_iter(torn), "cut at {cut}");
            log.append(DAY_ONE, &segment("d"));
            log.flush(NOW).unwrap();
            kept.push("d");
            assert_eq!(replay(&mut log), kept, "appended after a cut at {cut}");
            assert_eq!(log.torn_days().count(), 0, "an append cuts it off");
        }
    }

    #[test]
    fn a_bad_frame_ends_the_replay_of_its_file_only() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log_with(folder.path(), &["a", "b"]);
        log.append(DAY_TWO, &segment("c"));
        log.flush(NOW).unwrap();
        let mut bytes = fs::read(file_in(folder.path())).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        durable::replace(&file_in(folder.path()), &bytes).unwrap();
        assert_eq!(replay(&mut log), ["a", "c"]);
    }

    #[test]
    fn a_rewrite_replaces_a_days_file_and_appends_follow_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log_with(folder.path(), &["a", "b"]);
        let gone = Record::Gone(GoneRecord { stream: "main", gone: DAY_ONE.range().into() });
        rewrite(&mut log, &[gone, segment("b")]);
        log.append(DAY_ONE, &segment("c"));
        log.flush(NOW).unwrap();
        assert_eq!(replay(&mut log), ["gone", "b", "c"]);
        let names: Vec<_> = fs::read_dir(folder.path().join("state")).unwrap().flatten().collect();
        assert_eq!(names.len(), 2, "the log and card.id, no temporary file: {names:?}");
        log.remove(DAY_ONE).unwrap();
        assert!(replay(&mut log).is_empty());
    }

    #[test]
    fn a_file_that_somebody_cut_is_damaged_until_it_is_rewritten() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log_with(folder.path(), &["a", "b"]);
        let bytes = fs::read(file_in(folder.path())).unwrap();
        durable::replace(&file_in(folder.path()), &bytes[..10]).unwrap();
        log.append(DAY_ONE, &segment("c"));
        assert!(matches!(log.flush(NOW), Err(LogError::Write { .. })));
        assert!(log.is_damaged());
        log.append(DAY_ONE, &segment("d"));
        log.flush(NOW).unwrap();
        assert_eq!(log.days().collect::<Vec<_>>(), [(DAY_ONE, None)]);
        rewrite(&mut log, &[segment("a"), segment("d")]);
        assert!(!log.is_damaged());
        assert_eq!(replay(&mut log), ["a", "d"]);
    }

    #[test]
    fn files_that_are_not_days_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log_with(folder.path(), &["a"]);
        for name in ["20241004.log", "notes.log", "2024-10-05.log.old"] {
            fs::File::create(folder.path().join("state").join(name)).unwrap();
        }
        assert_eq!(replay(&mut log), ["a"]);
    }

    #[test]
    fn bytes_written_are_those_of_appends_and_rewrites() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log_with(folder.path(), &["a", "b"]);
        let appended = fs::metadata(file_in(folder.path())).unwrap().len();
        assert_eq!(log.written().total_bytes(), appended + CARD_ID_BYTES);
        rewrite(&mut log, &[segment("b")]);
        let rewritten = appended / 2;
        assert_eq!(log.written().total_bytes(), appended + CARD_ID_BYTES + rewritten);
        assert_eq!(log.written().bytes_on(Day::of(NOW)), log.written().total_bytes());
    }

    #[test]
    fn another_card_in_the_same_place_is_noticed() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut log = log_with(one.path(), &["a"]);
        drop(log_with(other.path(), &["b"]));
        assert!(!log.is_anothers());
        replay(&mut log);
        assert!(!log.is_anothers());
        let id = |folder: &Path| folder.join("state").join("card.id");
        fs::copy(id(other.path()), id(one.path())).unwrap();
        assert!(log.is_anothers());
        replay(&mut log);
        assert!(!log.is_anothers());
    }
}
