//! The segments of one stream, and what follows from what is seen of them.
//!
//! Pure: it is told what a directory shows and what a file holds, and is asked what to read, what is
//! held and what is gone. It opens nothing and asks no clock.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::finality;
use super::gone::Gone;
use super::holes::KnownHoles;
use super::retention::{Deletions, Filling, Forecast, HorizonSpeed};
use super::row::{Flag, Key, Row};
use super::rows::Rows;
use super::runs::{Border, Runs};
use super::view::StreamView;
use crate::container::{FileClock, Hole};
use crate::coverage::Coverage;
use crate::identity::{SegmentId, StreamId};
use crate::layout::{Layout, NamedTime};
use crate::log::Day;
use crate::segment::{Content, FileStamp, Placement, Segment, path_bytes};
use crate::time::{TimeRange, Timestamp};

/// How far ahead of the clock a segment may lie and still be believed: time zones set wrongly.
pub const FUTURE_TOLERANCE: Duration = Duration::from_secs(86_400);

/// What a file's bytes were found to hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub stamp: FileStamp,
    pub fingerprint: u64,
    /// `None`: nothing that can be used.
    pub held: Option<Extent>,
    /// All of the file was walked, not only its head and tail.
    pub walked: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub duration: Duration,
    pub usable_bytes: u64,
}

/// A segment as the log has it.
#[derive(Clone, Debug)]
pub(super) struct Restored<'a> {
    pub path: &'a Path,
    pub named: NamedTime,
    pub placement: Placement,
    pub reading: Reading,
}

/// A file that is no longer there: where it lay, the day of its name, and what it held; an empty range lies at
/// the start of a segment that held nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Removed {
    pub path: PathBuf,
    pub day: Day,
    pub held: TimeRange,
    pub seen_at: Timestamp,
}

#[derive(Debug)]
pub(super) struct Table {
    stream: StreamId,
    rows: Rows,
    runs: Runs,
    gone: Gone,
    deletions: Deletions,
    /// Tombstones that the log does not have yet.
    removed: Vec<Removed>,
    /// When a file was last seen new or changed.
    changed_at: Timestamp,
    /// New since the last [`Table::settle`].
    added: usize,
    /// The directories have been looked at once: what is new from here on has just been begun.
    settled: bool,
    /// What was begun last, or went on after that was closed.
    begun: Option<Key>,
}

impl Table {
    /// Holes no longer than `join` are none.
    pub fn new(stream: StreamId, layout: Layout, join: Duration) -> Self {
        Table {
            stream,
            rows: Rows::new(layout, join),
            runs: Runs::default(),
            gone: Gone::default(),
            deletions: Deletions::default(),
            removed: Vec::new(),
            changed_at: Timestamp::default(),
            added: 0,
            settled: false,
            begun: None,
        }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Nothing was ever known of the stream.
    pub fn is_blank(&self) -> bool {
        self.rows.len() == 0 && self.gone.is_empty()
    }

    pub fn segment(&self, key: Key) -> Option<Segment> {
        self.rows.get(key).map(|row| self.made(row))
    }

    pub fn find(&self, id: SegmentId) -> Option<Segment> {
        self.key_of(id).and_then(|key| self.segment(key))
    }

    fn key_of(&self, id: SegmentId) -> Option<Key> {
        let alike = self.rows.with_short_id(id.0 as u32);
        alike.map(Row::key).find(|key| self.segment(*key).is_some_and(|segment| segment.id == id))
    }

    /// Those that share time with `range`, and those without any that start in it.
    pub fn touching(&self, range: TimeRange) -> impl Iterator<Item = Segment> {
        self.rows.touching(range).map(|row| self.made(row))
    }

    /// Those that lie in the future.
    pub fn future(&self) -> impl Iterator<Item = Segment> {
        let blocks = self.rows.blocks().filter(|(_, summary)| summary.future);
        let rows = blocks.flat_map(|(rows, _)| rows).filter(|row| row.is(Flag::FUTURE));
        rows.map(|row| self.made(row))
    }

    /// Those that are not sealed.
    pub fn open_paths(&self) -> Vec<PathBuf> {
        let blocks = self.rows.blocks().filter(|(_, summary)| summary.unsealed > 0);
        let open = blocks.flat_map(|(rows, _)| rows).filter(|row| !row.is(Flag::SEALED));
        open.map(|row| self.rows.path_of(row)).collect()
    }

    fn made(&self, row: &Row) -> Segment {
        let path = self.rows.path_of(row);
        Segment {
            id: SegmentId::of(&self.stream, path_bytes(&path)),
            path,
            stamp: row.stamp(),
            fingerprint: row.fingerprint(),
            named: row.named(),
            placement: row.placement(),
            duration: row.duration(),
            usable_bytes: row.usable_bytes(),
            content: row.content(),
            sealed: row.is(Flag::SEALED),
            future: row.is(Flag::FUTURE),
            unreadable: row.is(Flag::UNREADABLE),
            holes: self.rows.holes_of(row.key()).cloned().unwrap_or_default(),
        }
    }

    fn key(&self, named: &NamedTime, path: &Path) -> Key {
        let id = SegmentId::of(&self.stream, path_bytes(path));
        Key::new(named.start, named.counter, id)
    }

    // What the log tells.

    pub fn restore(&mut self, restored: &Restored<'_>) {
        let key = self.key(&restored.named, restored.path);
        let mut row = Row::unread(key, restored.placement, restored.reading.stamp);
        take_reading(&mut row, &restored.reading);
        row.set(Flag::SEALED, true);
        if let Some(before) = self.rows.get(key).copied() {
            self.forget(&before, &row);
        }
        self.rows.insert(row, restored.path);
    }

    /// Behind [`Table::restore`] of the same segment.
    pub fn restore_holes(&mut self, path: &Path, named: NamedTime, holes: &KnownHoles) {
        self.rows.update_holes(self.key(&named, path), |known| known.clone_from(holes));
    }

    pub fn restore_removed(
        &mut self,
        day: Day,
        path: &Path,
        named: Option<NamedTime>,
        held: TimeRange,
        seen_at: Timestamp,
    ) {
        if let Some(named) = named {
            self.rows.remove(self.key(&named, path));
        }
        self.gone.insert(day, held);
        self.deletions.note(seen_at, held.duration());
    }

    pub fn restore_gone(&mut self, day: Day, gone: &Coverage) {
        self.gone.restore(day, gone);
    }

    // What directories show.

    /// From here on, a segment counts as seen once it is observed. A full survey gives files that could
    /// not be read another chance.
    pub fn begin_survey(&mut self, full: bool) {
        self.rows.begin_round();
        if full {
            self.rows.update_each(
                |summary| summary.unreadable,
                |row, _| row.set(Flag::STALE, row.is(Flag::STALE) || row.is(Flag::UNREADABLE)),
            );
        }
    }

    /// A file whose name is of the stream's layout stands in a directory.
    /// One that is new is placed by `place`; true for these.
    pub fn observe(
        &mut self,
        path: &Path,
        named: NamedTime,
        stamp: FileStamp,
        now: Timestamp,
        place: impl FnOnce() -> Placement,
    ) -> bool {
        let key = self.key(&named, path);
        if self.rows.see(key) {
            self.compare(key, stamp, now);
            return false;
        }
        let mut row = Row::unread(key, place(), stamp);
        row.set(Flag::STALE, true);
        self.rows.insert(row, path);
        self.rows.see(key);
        self.changed_at = now;
        if self.settled {
            // Directories list in any order: of those that are new at once, the newest was begun last.
            self.begun = self.begun.filter(|_| self.added > 0).max(Some(key));
        }
        self.added += 1;
        true
    }

    /// As [`Table::observe`], of the file that comes behind the one observed last, whose time need not be told.
    /// False: it is another one, and has to be observed.
    pub fn observe_next(&mut self, path: &Path, stamp: FileStamp, now: Timestamp) -> bool {
        let next = self.rows.see_next(path);
        next.into_iter().for_each(|key| self.compare(key, stamp, now));
        next.is_some()
    }

    /// A file may be another one than it was, or have grown.
    fn compare(&mut self, key: Key, stamp: FileStamp, now: Timestamp) {
        if self.rows.get(key).is_none_or(|row| row.has_stamp(stamp)) {
            return;
        }
        self.rows.update(key, |row| {
            row.set_stamp(stamp);
            row.set(Flag::STALE, true);
            row.set(Flag::SEALED, false);
        });
        self.changed_at = now;
        self.begun = self.begun.map(|begun| match self.rows.get(begun) {
            Some(row) if row.is(Flag::SEALED) => begun.max(key),
            _ => begun,
        });
    }

    /// Buries what was not seen at `under` or below, except below directories that were not listed; `named` is
    /// what `under` tells where it is a segment's own name. Returns how many.
    pub fn bury_unseen(
        &mut self,
        under: &Path,
        named: Option<NamedTime>,
        unlisted: &[impl AsRef<Path>],
        now: Timestamp,
    ) -> usize {
        let dead: Vec<(Key, PathBuf)> = match named {
            Some(named) => vec![(self.key(&named, under), under.to_owned())],
            None => {
                let unseen = self.rows.unseen().map(|row| (row.key(), self.rows.path_of(row)));
                unseen.filter(|(_, path)| path.starts_with(under)).collect()
            }
        };
        let listed = |path: &Path| !unlisted.iter().any(|directory| path.starts_with(directory));
        let before = self.rows.len();
        for (key, path) in dead {
            if self.rows.is_seen(key) || !listed(&path) {
                continue;
            }
            let Some(row) = self.rows.remove(key) else { continue };
            let nothing = TimeRange::starting_at(row.start(), Duration::ZERO);
            let (day, held) = (Day::of(key.named), row.coverage().unwrap_or(nothing));
            self.gone.insert(day, held);
            if self.is_older_than_all(&row) {
                self.deletions.note(now, held.duration());
            }
            self.removed.push(Removed { path, day, held, seen_at: now });
        }
        before - self.rows.len()
    }

    /// A recorder that needs room deletes its oldest footage; others may delete any.
    fn is_older_than_all(&self, row: &Row) -> bool {
        self.rows.iter().next().is_none_or(|oldest| row.key() < oldest.key())
    }

    /// The recorder has closed the file: it is read once more, and will not grow.
    pub fn seal(&mut self, named: NamedTime, path: &Path) {
        self.rows.update(self.key(&named, path), |row| {
            row.set(Flag::SEALED, true);
            row.set(Flag::STALE, true);
        });
    }

    /// As [`Table::seal`], unless it is sealed as it is: of stores that tell it with each listing.
    pub fn seal_once(&mut self, named: NamedTime, path: &Path) {
        if !self.rows.get(self.key(&named, path)).is_some_and(|row| row.is(Flag::SEALED)) {
            self.seal(named, path);
        }
    }

    /// Decides what is open, and what lies in the future.
    ///
    /// Only one segment can be open: the one that was just begun, be it by a clock that was set back, or where
    /// none was yet, the newest; and that until nothing changes for `seal_after`, or the watcher has seen it closed.
    /// A segment that is sealed is read once more: at its end a recorder may write where it wrote before,
    /// within the steps of FAT's clock. Returns how many were added since the last call.
    pub fn settle(&mut self, now: Timestamp, seal_after: Duration) -> usize {
        let believed = now.saturating_add(FUTURE_TOLERANCE);
        self.rows.update_each(
            |summary| summary.future || summary.hull.is_some_and(|hull| hull.end() > believed),
            |row, _| row.set(Flag::FUTURE, row.is_placed() && row.start() > believed),
        );
        let quiet = now.since(self.changed_at) >= seal_after;
        let open = if quiet { None } else { self.open() };
        self.rows.update_each(
            |summary| summary.unsealed > 0,
            |row, _| {
                if !row.is(Flag::SEALED) && Some(row.key()) != open {
                    row.set(Flag::SEALED, true);
                    row.set(Flag::STALE, true);
                }
            },
        );
        self.guess_ends();
        self.settled = true;
        std::mem::take(&mut self.added)
    }

    fn open(&self) -> Option<Key> {
        let begun = self.begun.and_then(|key| self.rows.get(key));
        let newest = || self.rows.iter().rev().find(|row| !row.is(Flag::FUTURE));
        begun.or_else(newest).map(Row::key)
    }

    /// An unread segment lasts until the next one starts, but no longer than is usual; the newest, not at all.
    fn guess_ends(&mut self) {
        let usual = finality::usual_length(&self.rows);
        self.rows.update_each(
            |summary| summary.unread > 0,
            |row, next| {
                if row.content() == Content::Unread {
                    let until_next = next.map(|next| next.since(row.start()).min(usual));
                    row.set_duration(until_next.unwrap_or_default());
                }
            },
        );
    }

    // What files hold.

    /// What is to be read, newest first.
    pub fn to_read(&self) -> impl Iterator<Item = Key> {
        let blocks = self.rows.blocks().rev().filter(|(_, summary)| summary.stale > 0);
        let rows = blocks.flat_map(|(rows, _)| rows.iter().rev());
        rows.filter(|row| row.is(Flag::STALE)).map(|row| row.key())
    }

    /// How many are to be read.
    pub fn unread(&self) -> usize {
        self.rows.blocks().map(|(_, summary)| summary.stale).sum()
    }

    /// The bytes of a segment have been looked at. False: this is not believed.
    ///
    /// A hole that seems to follow it is none before the whole file was walked: it is then to be read again,
    /// which [`Table::is_doubted`] tells. Until then it counts as holding what it did, so that it is still known
    /// what a shorter one has lost.
    pub fn read(&mut self, key: Key, reading: Reading) -> bool {
        let Some(before) = self.rows.get(key).copied() else { return false };
        let mut after = before;
        take_reading(&mut after, &reading);
        after.set(Flag::UNLOGGED, true);
        let doubted = !reading.walked && after.is(Flag::SEALED) && self.hole_follows(&after);
        if doubted {
            after = before;
            after.set(Flag::DOUBTED, true);
            after.set(Flag::STALE, true);
        } else {
            self.forget(&before, &after);
        }
        self.rows.update(key, |row| *row = after);
        !doubted
    }

    /// What was found inside a segment when it was last read.
    pub fn set_holes(&mut self, key: Key, inside: Vec<Hole>) {
        self.update_holes(key, |known| known.inside = inside);
    }

    fn update_holes(&mut self, key: Key, change: impl FnOnce(&mut KnownHoles)) {
        if self.rows.update_holes(key, change) {
            self.rows.update(key, |row| row.set(Flag::UNLOGGED, true));
        }
    }

    /// A segment has been read and placed, and its time stamps begin and end so: what they tell of the borders
    /// to its neighbours. `tolerance` is how long a hole may be that is none.
    pub fn follow_clock(&mut self, key: Key, clock: FileClock, tolerance: Duration) {
        self.runs.note(key, clock);
        let before = self.rows.previous(key).map(Row::key);
        let behind = self.rows.next(key).map(Row::key);
        let borders = [before.map(|before| (before, key)), behind.map(|behind| (key, behind))];
        for (key, next) in borders.into_iter().flatten() {
            let Some(distance_ns) = self.runs.distance_ns(key, next) else { continue };
            let (Some(row), Some(next)) = (self.rows.get(key), self.rows.get(next)) else {
                continue;
            };
            let step = self.rows.join().saturating_sub(tolerance);
            let border = Border::between(row, next, distance_ns, tolerance, step);
            let (hole, filled_ns) = (border.behind(row, next), border.filled_ns());
            let next = next.key();
            self.update_holes(key, |known| known.behind = hole);
            self.update_holes(next, |known| known.filled_ns = filled_ns);
        }
    }

    /// After a restart, the newest segment is read and the one before is not: it is to be, where something may be
    /// missing between the two.
    pub fn doubt_border(&mut self, newest: Key) {
        let before = self.rows.previous(newest).filter(|row| row.content() == Content::Held);
        let (Some(before), Some(row)) = (before, self.rows.get(newest)) else { return };
        let apart = row.start().since(before.range().end());
        let key = before.key();
        if !apart.is_zero() && !self.runs.knows(key) && self.rows.next(newest).is_none() {
            self.rows.update(key, |row| row.set(Flag::STALE, true));
        }
    }

    fn hole_follows(&self, row: &Row) -> bool {
        let end = row.range().end().saturating_add(self.rows.join());
        row.content() == Content::Held
            && self.rows.next(row.key()).is_some_and(|next| next.start() > end)
    }

    /// All of it is to be walked.
    pub fn is_doubted(&self, key: Key) -> bool {
        self.rows.get(key).is_some_and(|row| row.is(Flag::DOUBTED))
    }

    /// The bytes of a segment cannot be had at present. One that is missing keeps what is known of it: the
    /// next look into its directory tells whether it is gone.
    pub fn unreadable(&mut self, key: Key, missing: bool) {
        self.rows.update(key, |row| {
            if !missing {
                row.set_content(Content::Nothing);
            }
            row.set(Flag::UNREADABLE, true);
            row.set(Flag::STALE, false);
        });
    }

    /// What stood under a segment's name is not what the index holds of it: it is to be read again.
    pub fn mistrust(&mut self, id: SegmentId) {
        if let Some(key) = self.key_of(id) {
            self.rows.update(key, |row| row.set(Flag::STALE, true));
        }
    }

    /// A file that was held may have been replaced by one that holds something else, or has shrunk to it.
    fn forget(&mut self, before: &Row, after: &Row) {
        let holds_it =
            before.fingerprint() == after.fingerprint() && before.duration() <= after.duration();
        let held = before.range();
        if before.content() == Content::Held
            && !holds_it
            && after.range().hull(&held) != after.range()
        {
            self.gone.insert(Day::of(before.named()), held);
        }
    }

    // Where it lies in time.

    pub fn keys(&self) -> Vec<Key> {
        self.rows.iter().map(Row::key).collect()
    }

    pub fn placement(&self, key: Key) -> Option<Placement> {
        self.rows.get(key).map(Row::placement)
    }

    pub fn place_one(&mut self, key: Key, placement: Placement) {
        let Some(mut placed) = self.rows.get(key).copied() else { return };
        let before = placed;
        placed.place(placement);
        if placed != before {
            placed.set(Flag::UNLOGGED, true);
            self.rows.update(key, |row| *row = placed);
        }
    }

    // What follows.

    /// Differs from what it was where a view may differ by more than its finality.
    pub fn version(&self) -> u64 {
        self.rows.version()
    }

    pub fn view(&self, now: Timestamp) -> StreamView {
        StreamView::of(&self.rows, &self.gone, now)
    }

    pub fn final_until(&self, now: Timestamp) -> Timestamp {
        finality::final_until(&self.rows, now)
    }

    pub fn horizon_speed(&self, now: Timestamp) -> Option<HorizonSpeed> {
        self.deletions.speed(now)
    }

    /// See [`super::Index::overwritten_at`].
    pub fn forecast(&self, view: &StreamView, at: Timestamp, now: Timestamp) -> Option<Forecast> {
        self.deletions.forecast(view, at, now)
    }

    pub fn filling(&self, at: Timestamp) -> Filling {
        Filling::of(&self.rows, at)
    }

    /// Keeps what is gone within its bounds.
    pub fn bound_gone(&mut self) {
        let newest = self.rows.blocks().filter_map(|(_, summary)| summary.latest_known_end).max();
        self.gone.bound(newest, self.rows.join());
    }

    // What the log is to get.

    /// Those whose name is of `day` and that stay as they are.
    pub fn loggable(&self, day: Day) -> impl Iterator<Item = Segment> {
        self.loggable_rows(day).map(|row| self.made(row))
    }

    /// The records that [`Table::loggable`] and [`Table::gone_of`] come to.
    pub fn live_records(&self, day: Day) -> usize {
        self.loggable_rows(day).count() + usize::from(self.gone.of_day(day).is_some())
    }

    fn loggable_rows(&self, day: Day) -> impl Iterator<Item = &Row> {
        self.rows.named_in(day.range()).filter(|row| row.is_loggable())
    }

    pub fn gone_of(&self, day: Day) -> Option<&Coverage> {
        self.gone.of_day(day)
    }

    /// Tombstones that the log is to get, handed over.
    pub fn take_removed(&mut self) -> Vec<Removed> {
        std::mem::take(&mut self.removed)
    }

    /// Segments that the log is to get, marked as logged.
    pub fn take_unlogged(&mut self, mut each: impl FnMut(Segment)) {
        let blocks = self.rows.blocks().filter(|(_, summary)| summary.unlogged);
        let rows = blocks.flat_map(|(rows, _)| rows);
        let unlogged = rows.filter(|row| row.is(Flag::UNLOGGED) && row.is_loggable());
        let keys: Vec<Key> = unlogged.map(Row::key).collect();
        for key in keys {
            self.rows.update(key, |row| row.set(Flag::UNLOGGED, false));
            self.segment(key).into_iter().for_each(&mut each);
        }
    }
}

fn take_reading(row: &mut Row, reading: &Reading) {
    let extent = reading.held.unwrap_or(Extent { duration: Duration::ZERO, usable_bytes: 0 });
    row.set_stamp(reading.stamp);
    row.set_fingerprint(reading.fingerprint);
    row.set_duration(extent.duration);
    row.set_usable_bytes(extent.usable_bytes);
    row.set_content(if reading.held.is_some() { Content::Held } else { Content::Nothing });
    row.set(Flag::UNREADABLE, false);
    row.set(Flag::DOUBTED, false);
    row.set(Flag::STALE, false);
}

#[cfg(test)]
pub(super) mod tests;
