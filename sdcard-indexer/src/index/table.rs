//! The segments of one stream, in order, and what follows from them.
//!
//! Pure: it is told what a directory shows and what a file holds, and is asked what to read, what is
//! held and what is gone. It opens nothing and asks no clock.

use std::path::Path;
use std::time::Duration;

use super::finality;
use crate::coverage::Coverage;
use crate::identity::SegmentId;
use crate::layout::NamedTime;
use crate::segment::{Content, FileStamp, Segment, Tier};
use crate::time::{TimeRange, Timestamp};

/// How far ahead of the clock a name may lie and still be believed: time zones set wrongly.
pub const FUTURE_TOLERANCE: Duration = Duration::from_secs(86_400);
/// How long what is gone is remembered, counted back from the newest known instant.
const GONE_MEMORY: Duration = Duration::from_secs(30 * 86_400);
/// More ranges than these are not remembered as gone; the oldest are forgotten first.
const MAX_GONE_RANGES: usize = 4_096;

/// What a stream has on the card; the substance of a coverage report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamView {
    /// False: its folder cannot be listed, or the card is not there. Then nothing is held, or final.
    pub present: bool,
    /// Joined over holes no longer than the join tolerance and one step of the names.
    pub held: Coverage,
    /// Was held and is not any more; shares nothing with `held`.
    pub gone: Coverage,
    /// The oldest instant held.
    pub horizon: Option<Timestamp>,
    /// What is absent before this instant will not appear later. The rule stands in `finality`.
    pub final_until: Timestamp,
    /// The least of what is held.
    pub tier: Tier,
    /// How far behind its place in `held` anything may truly lie, at most. In tier T0, ends are guesses
    /// besides.
    pub uncertainty: Duration,
}

impl StreamView {
    pub(super) const fn absent() -> Self {
        StreamView {
            present: false,
            held: Coverage::new(),
            gone: Coverage::new(),
            horizon: None,
            final_until: Timestamp::MIN,
            tier: Tier::Names,
            uncertainty: Duration::ZERO,
        }
    }

    /// The window outside of which both views tell the same of what is held and gone.
    pub(super) fn change_to(&self, new: &StreamView) -> Option<TimeRange> {
        let differences = [
            self.held.difference(&new.held),
            new.held.difference(&self.held),
            self.gone.difference(&new.gone),
            new.gone.difference(&self.gone),
        ];
        differences.iter().filter_map(Coverage::hull).reduce(|all, hull| all.hull(&hull))
    }
}

/// What a file's bytes were found to hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub stamp: FileStamp,
    pub fingerprint: u64,
    /// `None`: nothing that can be used.
    pub held: Option<Extent>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub duration: Duration,
    pub usable_bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    /// In the order of [`Segment::key`].
    segments: Vec<Segment>,
    /// Found since the last [`Table::settle`], in no order.
    found: Vec<Segment>,
    gone: Coverage,
    /// Tombstones that the log does not have yet; an empty range lies at the start of its segment.
    removed: Vec<(Box<Path>, TimeRange)>,
    /// When a file was last seen new or changed.
    changed_at: Timestamp,
    survey: u32,
}

impl Table {
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub fn segment(&self, index: usize) -> Option<&Segment> {
        self.segments.get(index)
    }

    /// Nothing was ever known of the stream.
    pub fn is_blank(&self) -> bool {
        self.segments.is_empty() && self.gone.is_empty()
    }

    pub fn find(&self, id: SegmentId) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.id == id)
    }

    /// Those that share time with `range`, and those without any that start in it.
    pub fn touching(&self, range: TimeRange) -> impl Iterator<Item = &Segment> {
        let begun = self.segments.partition_point(|segment| segment.range.start() < range.end());
        let begun = self.segments.get(..begun).unwrap_or_default();
        begun.iter().filter(move |segment| {
            segment.range.overlaps(&range) || range.contains(segment.range.start())
        })
    }

    /// Those that are not sealed.
    pub fn open_paths(&self) -> Vec<Box<Path>> {
        let open = self.segments.iter().filter(|segment| !segment.sealed);
        open.map(|segment| segment.path.clone()).collect()
    }

    /// The segments that start in `range`.
    pub fn starting_in(&self, range: TimeRange) -> &[Segment] {
        let first = self.segments.partition_point(|segment| segment.range.start() < range.start());
        let last = self.segments.partition_point(|segment| segment.range.start() < range.end());
        self.segments.get(first..last).unwrap_or_default()
    }

    fn position(&self, start: Timestamp, path: &Path) -> Result<usize, usize> {
        self.segments.binary_search_by(|segment| segment.key().cmp(&(start, path)))
    }

    fn at(&mut self, start: Timestamp, path: &Path) -> Option<&mut Segment> {
        let index = self.position(start, path).ok()?;
        self.segments.get_mut(index)
    }

    // What the log tells.

    pub fn restore(&mut self, segment: Segment) {
        match self.position(segment.range.start(), &segment.path) {
            Ok(index) => {
                if let Some(known) = self.segments.get_mut(index) {
                    let before = std::mem::replace(known, segment);
                    let after = known.range;
                    self.forget(&before, after);
                }
            }
            Err(index) => self.segments.insert(index, segment),
        }
    }

    pub fn restore_removed(&mut self, path: &Path, held: TimeRange) {
        if let Ok(index) = self.position(held.start(), path) {
            self.segments.remove(index);
        }
        self.gone.insert(held);
    }

    pub fn restore_gone(&mut self, gone: &Coverage) {
        self.gone = self.gone.union(gone);
    }

    // What directories show.

    /// From here on, a segment counts as seen once it is observed. A full survey gives files that could
    /// not be read another chance.
    pub fn begin_survey(&mut self, full: bool) {
        self.survey = self.survey.wrapping_add(1);
        if full {
            for segment in self.segments.iter_mut().filter(|segment| segment.unreadable) {
                segment.stale = true;
            }
        }
    }

    /// A file whose name is of the stream's layout stands in a directory.
    pub fn observe(
        &mut self,
        path: &Path,
        named: NamedTime,
        stamp: FileStamp,
        now: Timestamp,
        id: impl FnOnce() -> SegmentId,
    ) {
        let survey = self.survey;
        if let Some(segment) = self.at(named.start, path) {
            segment.seen = survey;
            if segment.stamp != stamp {
                segment.stamp = stamp;
                segment.stale = true;
                segment.sealed = false;
                self.changed_at = now;
            }
            return;
        }
        self.changed_at = now;
        self.found.push(Segment {
            id: id(),
            path: path.into(),
            stamp,
            fingerprint: 0,
            range: TimeRange::starting_at(named.start, Duration::ZERO),
            uncertainty: named.uncertainty,
            usable_bytes: 0,
            content: Content::Unread,
            sealed: false,
            future: false,
            unreadable: false,
            stale: true,
            unlogged: false,
            seen: survey,
        });
    }

    /// Buries what was not seen at `under` or below, except below directories that were not listed.
    /// Returns how many.
    pub fn bury_unseen(&mut self, under: &Path, unlisted: &[impl AsRef<Path>]) -> usize {
        let before = self.segments.len();
        let survey = self.survey;
        let (gone, removed) = (&mut self.gone, &mut self.removed);
        self.segments.retain(|segment| {
            let dead = segment.seen != survey
                && segment.path.starts_with(under)
                && !unlisted.iter().any(|directory| segment.path.starts_with(directory));
            if dead {
                let nothing = TimeRange::starting_at(segment.range.start(), Duration::ZERO);
                let held = segment.coverage().unwrap_or(nothing);
                gone.insert(held);
                removed.push((segment.path.clone(), held));
            }
            !dead
        });
        before - self.segments.len()
    }

    /// The recorder has closed the file: it is read once more, and will not grow.
    pub fn seal(&mut self, start: Timestamp, path: &Path) {
        let segment = match self.position(start, path) {
            Ok(index) => self.segments.get_mut(index),
            Err(_) => self.found.iter_mut().find(|segment| segment.key() == (start, path)),
        };
        if let Some(segment) = segment {
            segment.sealed = true;
            segment.stale = true;
        }
    }

    /// As [`Table::seal`], unless it is sealed as it is: of stores that tell it with each listing.
    pub fn seal_once(&mut self, start: Timestamp, path: &Path) {
        if !self.at(start, path).is_some_and(|segment| segment.sealed) {
            self.seal(start, path);
        }
    }

    /// Puts what was found in its place, and decides what is open.
    ///
    /// Only the newest segment can be open, and that until nothing changes for `seal_after`, or the
    /// watcher has seen it closed. A segment that is sealed is read once more: at its end a recorder may
    /// write where it wrote before, within the steps of FAT's clock. Returns how many were added.
    pub fn settle(&mut self, now: Timestamp, seal_after: Duration) -> usize {
        let before = self.segments.len();
        if !self.found.is_empty() {
            self.segments.append(&mut self.found);
            self.segments.sort_by(|a, b| a.key().cmp(&b.key()));
            self.segments.dedup_by(|b, a| a.key() == b.key());
        }
        let horizon = now.saturating_add(FUTURE_TOLERANCE);
        for segment in &mut self.segments {
            segment.future = segment.range.start() > horizon;
        }
        let quiet = now.since(self.changed_at) >= seal_after;
        let newest = self.segments.iter().rposition(|segment| !segment.future);
        for (index, segment) in self.segments.iter_mut().enumerate() {
            if !segment.sealed && (quiet || Some(index) != newest) {
                segment.sealed = true;
                segment.stale = true;
            }
        }
        self.guess_ends();
        self.segments.len() - before
    }

    /// An unread segment lasts until the next one starts, but no longer than is usual; the newest, not at all.
    fn guess_ends(&mut self) {
        let usual = finality::usual_length(self.counted());
        let mut next = None;
        for segment in self.segments.iter_mut().rev() {
            let start = segment.range.start();
            if segment.content == Content::Unread {
                let length =
                    next.map_or(Duration::ZERO, |next: Timestamp| next.since(start).min(usual));
                segment.range = TimeRange::starting_at(start, length);
            }
            next = Some(start);
        }
    }

    // What files hold.

    /// The places of what is to be read, newest first. Good until the next settling or burial.
    pub fn to_read(&self) -> impl Iterator<Item = usize> {
        let stale = self.segments.iter().enumerate().rev().filter(|(_, segment)| segment.stale);
        stale.map(|(index, _)| index)
    }

    /// The bytes of a segment have been looked at.
    pub fn read(&mut self, index: usize, reading: Reading) {
        let Some(segment) = self.segments.get_mut(index) else { return };
        let before = segment.clone();
        let extent = reading.held.unwrap_or(Extent { duration: Duration::ZERO, usable_bytes: 0 });
        segment.stamp = reading.stamp;
        segment.fingerprint = reading.fingerprint;
        segment.range = TimeRange::starting_at(before.range.start(), extent.duration);
        segment.usable_bytes = extent.usable_bytes;
        segment.content = if reading.held.is_some() { Content::Held } else { Content::Nothing };
        segment.unreadable = false;
        segment.stale = false;
        segment.unlogged = true;
        let after = segment.range;
        self.forget(&before, after);
    }

    /// The bytes of a segment cannot be had at present. One that is missing keeps what is known of it: the
    /// next look into its directory tells whether it is gone.
    pub fn unreadable(&mut self, index: usize, missing: bool) {
        if let Some(segment) = self.segments.get_mut(index) {
            if !missing {
                segment.content = Content::Nothing;
            }
            segment.unreadable = true;
            segment.stale = false;
        }
    }

    /// What stood under a segment's name is not what the index holds of it: it is to be read again.
    pub fn mistrust(&mut self, id: SegmentId) {
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.id == id) {
            segment.stale = true;
        }
    }

    /// A file that was held has been replaced by one that holds `after`, or has shrunk to it.
    fn forget(&mut self, before: &Segment, after: TimeRange) {
        if before.content == Content::Held && after.hull(&before.range) != after {
            self.gone.insert(before.range);
        }
    }

    // What follows.

    fn counted(&self) -> impl DoubleEndedIterator<Item = &Segment> + Clone {
        self.segments.iter().filter(|segment| !segment.future)
    }

    pub fn view(&self, now: Timestamp, join: Duration) -> StreamView {
        let covering = || self.segments.iter().filter(|segment| segment.coverage().is_some());
        let held: Coverage = covering().filter_map(Segment::coverage).collect();
        let held = held.joined(join);
        StreamView {
            present: true,
            gone: self.gone.clone().joined(join).difference(&held),
            horizon: held.hull().map(|hull| hull.start()),
            final_until: finality::final_until(self.counted(), now),
            tier: covering().map(Segment::tier).min().unwrap_or(Tier::Extent),
            uncertainty: covering().map(|segment| segment.uncertainty).max().unwrap_or_default(),
            held,
        }
    }

    /// Keeps what is gone within its bounds.
    pub fn bound_gone(&mut self, join: Duration) {
        let newest = self.counted().next_back().map(|segment| segment.range.end());
        let Some(newest) = newest.max(self.gone.hull().map(|hull| hull.end())) else { return };
        let joined = std::mem::take(&mut self.gone).joined(join);
        let excess = joined.ranges().len().saturating_sub(MAX_GONE_RANGES);
        let oldest = joined.ranges().get(excess).map_or(newest, TimeRange::start);
        let since = oldest.max(newest.saturating_sub(GONE_MEMORY));
        self.gone = TimeRange::new(since, newest).map(|kept| joined.clip(kept)).unwrap_or_default();
    }

    pub fn gone_in(&self, range: TimeRange) -> Coverage {
        self.gone.clip(range)
    }

    /// Tombstones that the log is to get, handed over.
    pub fn take_removed(&mut self) -> Vec<(Box<Path>, TimeRange)> {
        std::mem::take(&mut self.removed)
    }

    /// Segments that the log is to get, marked as logged.
    pub fn take_unlogged(&mut self) -> impl Iterator<Item = &Segment> {
        self.segments.iter_mut().filter(|segment| segment.unlogged && segment.is_loggable()).map(
            |segment| {
                segment.unlogged = false;
                &*segment
            },
        )
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A sealed segment of which all is known.
    pub fn segment_at(start_s: i64, end_s: i64) -> Segment {
        let range = TimeRange::new(
            Timestamp::from_unix_seconds(start_s),
            Timestamp::from_unix_seconds(end_s),
        );
        Segment {
            id: SegmentId(start_s as u64),
            path: Path::new(&format!("{start_s}.mp4")).into(),
            stamp: FileStamp { size_bytes: 10_000, modified_ns: 0 },
            fingerprint: 1,
            range: range.unwrap(),
            uncertainty: Duration::ZERO,
            usable_bytes: 10_000,
            content: Content::Held,
            sealed: true,
            future: false,
            unreadable: false,
            stale: false,
            unlogged: false,
            seen: 0,
        }
    }

    const JOIN: Duration = Duration::from_millis(200);
    const SEAL_AFTER: Duration = Duration::from_secs(10);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    fn range(start_s: i64, end_s: i64) -> TimeRange {
        TimeRange::new(at(start_s), at(end_s)).unwrap()
    }

    fn stamp(size_bytes: u64) -> FileStamp {
        FileStamp { size_bytes, modified_ns: 0 }
    }

    fn observe(table: &mut Table, start_s: i64, size_bytes: u64, now_s: i64) {
        let named = NamedTime { start: at(start_s), uncertainty: Duration::ZERO, counter: None };
        let path = format!("{start_s}.mp4");
        let id = || SegmentId(start_s as u64);
        table.observe(Path::new(&path), named, stamp(size_bytes), at(now_s), id);
    }

    /// One survey that sees these files, given as their starts and sizes.
    fn survey(table: &mut Table, files: &[(i64, u64)], now_s: i64) {
        table.begin_survey(true);
        for (start_s, size_bytes) in files {
            observe(table, *start_s, *size_bytes, now_s);
        }
        table.bury_unseen(Path::new(""), &[] as &[&Path]);
        table.settle(at(now_s), SEAL_AFTER);
    }

    /// Reads what is to be read: each file holds as many seconds as it has bytes.
    fn read_all(table: &mut Table) -> usize {
        let to_read: Vec<usize> = table.to_read().collect();
        for &index in &to_read {
            let stamp = table.segment(index).unwrap().stamp;
            let duration = Duration::from_secs(stamp.size_bytes);
            let extent = Extent { duration, usable_bytes: stamp.size_bytes };
            table.read(index, Reading { stamp, fingerprint: 1, held: Some(extent) });
        }
        to_read.len()
    }

    fn held(table: &Table) -> Coverage {
        table.view(at(1_000), JOIN).held
    }

    #[test]
    fn names_alone_give_an_approximate_coverage_and_no_finality() {
        let mut table = Table::default();
        survey(&mut table, &[(120, 9), (0, 9), (60, 9)], 130);
        let view = table.view(at(130), JOIN);
        assert_eq!((view.held, view.tier), (range(0, 120).into(), Tier::Names));
        assert_eq!(view.final_until, at(0));
        read_all(&mut table);
        let view = table.view(at(130), JOIN);
        assert_eq!(view.held, [range(0, 9), range(60, 69), range(120, 129)].into_iter().collect());
        assert_eq!((view.tier, view.final_until), (Tier::Extent, at(129)));
    }

    #[test]
    fn only_the_newest_segment_is_open_and_that_until_a_newer_one_or_silence() {
        let mut table = Table::default();
        let sealed = |table: &Table| table.segments().iter().map(|s| s.sealed).collect::<Vec<_>>();
        survey(&mut table, &[(0, 60), (60, 5)], 65);
        assert_eq!(sealed(&table), [true, false]);
        assert_eq!(read_all(&mut table), 2);
        survey(&mut table, &[(0, 60), (60, 7)], 67);
        assert_eq!((sealed(&table), read_all(&mut table)), (vec![true, false], 1));
        assert_eq!(held(&table), range(0, 67).into());
        survey(&mut table, &[(0, 60), (60, 7)], 76);
        assert_eq!((sealed(&table), read_all(&mut table)), (vec![true, false], 0));
        survey(&mut table, &[(0, 60), (60, 7)], 77);
        assert_eq!((sealed(&table), read_all(&mut table)), (vec![true, true], 1));
        survey(&mut table, &[(0, 60), (60, 60), (120, 1)], 121);
        assert_eq!((sealed(&table), read_all(&mut table)), (vec![true, true, false], 2));
    }

    #[test]
    fn a_segment_seen_closed_is_sealed_until_it_changes_again() {
        let mut table = Table::default();
        survey(&mut table, &[(0, 60)], 61);
        table.seal(at(0), Path::new("0.mp4"));
        read_all(&mut table);
        survey(&mut table, &[(0, 60)], 62);
        assert!(table.segments()[0].sealed);
        assert_eq!(table.take_unlogged().count(), 1);
        survey(&mut table, &[(0, 61)], 63);
        assert!(!table.segments()[0].sealed);
        assert_eq!(table.take_unlogged().count(), 0);
    }

    #[test]
    fn an_open_segment_names_the_whole_bytes_and_a_sealed_one_the_file() {
        let mut segment = segment_at(0, 60);
        segment.usable_bytes = 9_000;
        assert_eq!(segment.version().size_bytes, 10_000);
        segment.sealed = false;
        assert_eq!(segment.version().size_bytes, 9_000);
    }

    #[test]
    fn what_vanishes_is_gone_and_moves_the_horizon() {
        let mut table = Table::default();
        survey(&mut table, &[(0, 60), (60, 60), (120, 60)], 200);
        read_all(&mut table);
        survey(&mut table, &[(120, 60)], 201);
        let view = table.view(at(201), JOIN);
        assert_eq!((view.held, view.gone), (range(120, 180).into(), range(0, 120).into()));
        assert_eq!(view.horizon, Some(at(120)));
        assert_eq!(table.take_removed().len(), 2);
    }

    #[test]
    fn what_is_below_an_unlisted_directory_is_not_gone() {
        let mut table = Table::default();
        survey(&mut table, &[(0, 60), (60, 60)], 200);
        table.begin_survey(true);
        assert_eq!(table.bury_unseen(Path::new(""), &[Path::new("0.mp4")]), 1);
        assert_eq!(table.segments().len(), 1);
        table.begin_survey(true);
        assert_eq!(table.bury_unseen(Path::new(""), &[Path::new("")]), 0);
        assert_eq!(table.bury_unseen(Path::new("elsewhere"), &[] as &[&Path]), 0);
    }

    #[test]
    fn a_shorter_file_under_the_same_name_leaves_the_rest_as_gone() {
        let mut table = Table::default();
        survey(&mut table, &[(0, 60), (100, 1)], 200);
        read_all(&mut table);
        survey(&mut table, &[(0, 20), (100, 1)], 201);
        read_all(&mut table);
        let view = table.view(at(201), JOIN);
        assert_eq!(view.gone, range(20, 60).into());
        assert!(view.gone.intersection(&view.held).is_empty());
    }

    #[test]
    fn names_from_the_future_are_known_but_not_held_until_the_clock_gets_there() {
        let mut table = Table::default();
        let tomorrow = 86_400 + 1_000;
        survey(&mut table, &[(900, 60), (tomorrow, 60)], 1_000 - 1);
        read_all(&mut table);
        assert_eq!(held(&table), range(900, 960).into());
        assert!(table.segments()[1].future);
        survey(&mut table, &[(900, 60), (tomorrow, 60)], 1_000);
        assert_eq!(held(&table).hull(), Some(range(900, tomorrow + 60)));
    }

    #[test]
    fn a_file_that_could_not_be_read_is_tried_again_by_the_next_full_survey_only() {
        let mut table = Table::default();
        survey(&mut table, &[(0, 60), (60, 60)], 200);
        table.seal(at(60), Path::new("60.mp4"));
        table.unreadable(0, false);
        assert_eq!(read_all(&mut table), 1);
        assert_eq!(held(&table), range(60, 120).into());
        table.begin_survey(false);
        assert_eq!(table.to_read().count(), 0);
        survey(&mut table, &[(0, 60), (60, 60)], 201);
        assert_eq!(read_all(&mut table), 1);
        assert_eq!(held(&table), range(0, 120).into());
    }

    #[test]
    fn a_file_that_was_missing_when_it_was_to_be_read_is_gone_once_its_directory_says_so() {
        let mut table = Table::default();
        survey(&mut table, &[(0, 60), (60, 60)], 200);
        table.unreadable(0, true);
        read_all(&mut table);
        assert_eq!(held(&table), range(0, 120).into());
        survey(&mut table, &[(60, 60)], 201);
        assert_eq!(table.view(at(201), JOIN).gone, range(0, 60).into());
    }

    #[test]
    fn what_is_gone_is_forgotten_after_its_time_and_beyond_its_number() {
        let mut table = Table::default();
        let day = 86_400;
        table.restore_gone(&range(0, day).into());
        table.restore_gone(&range(20 * day, 21 * day).into());
        table.restore(segment_at(30 * day, 30 * day + day / 2));
        table.settle(at(31 * day), SEAL_AFTER);
        table.bound_gone(JOIN);
        let expected = [range(day / 2, day), range(20 * day, 21 * day)];
        assert_eq!(table.view(at(31 * day), JOIN).gone, expected.into_iter().collect());

        let many = (0..2 * MAX_GONE_RANGES as i64).map(|i| range(10 * i, 10 * i + 1));
        let mut table = Table::default();
        table.restore_gone(&many.clone().collect());
        table.bound_gone(JOIN);
        assert_eq!(table.gone, many.skip(MAX_GONE_RANGES).collect());
    }

    #[test]
    fn the_window_of_a_change_holds_every_difference_and_no_more() {
        let mut table = Table::default();
        survey(&mut table, &[(0, 60), (60, 60), (120, 60)], 200);
        read_all(&mut table);
        let before = table.view(at(200), JOIN);
        assert_eq!(before.change_to(&table.view(at(500), JOIN)), None);
        survey(&mut table, &[(60, 60), (120, 60), (180, 20)], 201);
        read_all(&mut table);
        assert_eq!(before.change_to(&table.view(at(201), JOIN)), Some(range(0, 200)));
        let before = table.view(at(201), JOIN);
        survey(&mut table, &[(60, 60), (120, 60), (180, 25)], 202);
        read_all(&mut table);
        assert_eq!(before.change_to(&table.view(at(202), JOIN)), Some(range(200, 205)));
    }

    #[test]
    fn a_segment_takes_no_more_memory_than_it_says() {
        assert!(size_of::<Segment>() <= 104);
    }
}
