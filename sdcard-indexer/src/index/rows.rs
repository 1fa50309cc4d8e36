//! The rows of one stream, in the order of their keys, in blocks that grow without moving all the others.
//!
//! Pure. Each block keeps a summary of its rows, made when it is asked for and forgotten when one of them
//! changes: so a change to the open segment of a full card costs one block, not the whole card.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use super::holes::{Holes, KnownHoles};
use super::row::{Flag, Key, Row};
use crate::coverage::Coverage;
use crate::layout::Layout;
use crate::segment::{Content, Tier, path_bytes};
use crate::time::{TimeRange, Timestamp};

/// 32 KiB a block, and a little less: allocators round up to powers of two.
const BLOCK_ROWS: usize = 528;
/// A block grows by so many rows at once, and the list of blocks by so many blocks.
const MORE_ROWS: usize = BLOCK_ROWS / 8;
const MORE_BLOCKS: usize = 8;

#[derive(Debug)]
pub struct Rows {
    layout: Layout,
    /// Holes in coverage no longer than this are none.
    join: Duration,
    /// None is empty; ever later.
    blocks: Vec<Block>,
    holes: Holes,
    length: usize,
    version: u64,
    /// See [`Rows::begin_round`].
    round: u32,
    /// The block and the place in it behind the row that was seen last; a guess, as rows come and go.
    next: (usize, usize),
}

#[derive(Debug, Default)]
struct Block {
    rows: Vec<Row>,
    odd: OddPaths,
    summary: OnceLock<Summary>,
    /// In any other round, none of its rows has been seen.
    round: u32,
}

/// What can be said of a block without looking at its rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Holds the ranges of all rows, those that hold nothing at their starts.
    pub hull: Option<TimeRange>,
    pub covered: Covered,
    pub stale: usize,
    pub unread: usize,
    pub unsealed: usize,
    pub unlogged: bool,
    pub unreadable: bool,
    pub future: bool,
    /// Of the rows that count.
    pub latest_known_end: Option<Timestamp>,
    /// The earliest known end of those that are open, to be read, or anywhere.
    pub undecided_from: Option<Timestamp>,
    /// The least tier, and the least and the greatest uncertainty, of what is covered.
    pub tier: Option<Tier>,
    pub uncertainty: Option<(Duration, Duration)>,
}

/// What the rows of a block cover.
#[derive(Clone, Copy, Debug, Default)]
pub enum Covered {
    #[default]
    Nothing,
    /// One range, holes that are none left aside.
    Whole(TimeRange),
    /// As its rows say, and the holes inside them.
    Pieces,
}

impl Rows {
    pub fn new(layout: Layout, join: Duration) -> Self {
        Rows {
            layout,
            join,
            blocks: Vec::new(),
            holes: Holes::default(),
            length: 0,
            version: 0,
            round: 0,
            next: (0, 0),
        }
    }

    pub fn join(&self) -> Duration {
        self.join
    }

    pub fn len(&self) -> usize {
        self.length
    }

    /// Counts the changes, but for what was seen.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Row> + Clone {
        self.blocks.iter().flat_map(|block| &block.rows)
    }

    /// Each block's rows with their summary, in order.
    pub fn blocks(&self) -> impl DoubleEndedIterator<Item = (&[Row], &Summary)> + Clone {
        self.blocks.iter().map(|block| (block.rows.as_slice(), block.summary(self.join)))
    }

    pub fn get(&self, key: Key) -> Option<&Row> {
        let block = self.blocks.get(self.block_of(key)?)?;
        block.rows.get(block.position(key).ok()?)
    }

    pub fn holes_of(&self, key: Key) -> Option<&KnownHoles> {
        self.holes.of(key)
    }

    /// What a row covers, piece by piece, and the holes of which that is proof.
    pub fn coverage_of(&self, row: &Row) -> (Coverage, Coverage) {
        self.holes.coverage_of(row)
    }

    /// In how many pieces these rows, which follow one another, lie at most.
    pub fn pieces(&self, rows: &[Row]) -> usize {
        let ends = rows.first().map(Row::key).zip(rows.last().map(Row::key));
        rows.len() + ends.map_or(0, |(first, last)| self.holes.count(first, last))
    }

    /// The one before, in the order of keys.
    pub fn previous(&self, key: Key) -> Option<&Row> {
        let at = self.block_of(key)?;
        let rows = &self.blocks.get(at)?.rows;
        let before = rows.partition_point(|row| row.key() < key);
        match before.checked_sub(1) {
            Some(before) => rows.get(before),
            None => self.blocks.get(at.checked_sub(1)?)?.rows.last(),
        }
    }

    /// The one behind, in the order of keys.
    pub fn next(&self, key: Key) -> Option<&Row> {
        let at = self.block_of(key)?;
        let rows = &self.blocks.get(at)?.rows;
        let behind = rows.get(rows.partition_point(|row| row.key() <= key));
        behind.or_else(|| self.blocks.get(at + 1)?.rows.first())
    }

    /// Those whose recorder's time lies in `range`.
    pub fn named_in(&self, range: TimeRange) -> impl Iterator<Item = &Row> {
        let begun =
            move |block: &&Block| block.last().is_none_or(|row| row.named() < range.start());
        let blocks = self.blocks.iter().skip_while(begun);
        let rows = blocks.flat_map(|block| &block.rows);
        rows.skip_while(move |row| row.named() < range.start())
            .take_while(move |row| row.named() < range.end())
    }

    /// Those that share time with `range`, and those without any that start in it; in the order of keys.
    pub fn touching(&self, range: TimeRange) -> impl Iterator<Item = &Row> {
        let touches = move |hull: TimeRange| hull.overlaps(&range) || range.contains(hull.start());
        let near = move |summary: &Summary| {
            summary.hull.is_some_and(|hull| touches(hull) || hull.end() == range.start())
        };
        let blocks = self.blocks().filter(move |(_, summary)| near(summary));
        blocks.flat_map(|(rows, _)| rows).filter(move |row| touches(row.range()))
    }

    /// By the low half of an id: looks at every row, some milliseconds for 200,000.
    pub fn with_short_id(&self, short_id: u32) -> impl Iterator<Item = &Row> {
        self.iter().filter(move |row| row.short_id() == short_id)
    }

    /// Where the file lies, relative to the stream's root.
    pub fn path_of(&self, row: &Row) -> PathBuf {
        let made = self.layout.path_for(row.named(), row.counter());
        if !row.is(Flag::ODD_PATH) {
            return made;
        }
        let block = self.block_of(row.key()).and_then(|at| self.blocks.get(at));
        block.and_then(|block| block.odd.get(row.short_id(), &made)).unwrap_or(made)
    }

    // What changes.

    /// Puts a row in its place; one with the same key gives way.
    pub fn insert(&mut self, mut row: Row, path: &Path) {
        let key = row.key();
        if self.get(key).is_some() {
            self.remove(key);
        }
        let at = match self.block_of(key) {
            Some(at) => self.with_room(at, key),
            None => {
                self.blocks.push(Block::starting(self.round));
                0
            }
        };
        let made = self.layout.path_for(row.named(), row.counter());
        let Some(block) = self.blocks.get_mut(at) else { return };
        row.set(Flag::ODD_PATH, path_bytes(&made) != path_bytes(path));
        if row.is(Flag::ODD_PATH) {
            block.odd.insert(key.short_id, &made, path);
        }
        let position = block.position(key).unwrap_or_else(|position| position);
        if block.rows.len() == block.rows.capacity() {
            block.rows.reserve_exact(MORE_ROWS);
        }
        block.rows.insert(position, row);
        block.changed();
        self.length += 1;
        self.version += 1;
    }

    pub fn remove(&mut self, key: Key) -> Option<Row> {
        let at = self.block_of(key)?;
        let block = self.blocks.get_mut(at)?;
        let row = block.rows.remove(block.position(key).ok()?);
        if row.is(Flag::ODD_PATH) {
            block.odd.remove(key.short_id);
        }
        if row.is(Flag::HOLED) {
            self.holes.remove(key);
        }
        block.changed();
        self.length -= 1;
        self.version += 1;
        if block.rows.is_empty() {
            self.blocks.remove(at);
        }
        Some(row)
    }

    pub fn update<T>(&mut self, key: Key, change: impl FnOnce(&mut Row) -> T) -> Option<T> {
        let at = self.block_of(key)?;
        let block = self.blocks.get_mut(at)?;
        let position = block.position(key).ok()?;
        block.changed();
        self.version += 1;
        block.rows.get_mut(position).map(change)
    }

    /// Says whether that changed what is known.
    pub fn update_holes(&mut self, key: Key, change: impl FnOnce(&mut KnownHoles)) -> bool {
        if self.get(key).is_none() {
            return false;
        }
        let before = self.holes.of(key).cloned();
        let holed = self.holes.update(key, change);
        let changed = self.holes.of(key) != before.as_ref();
        if changed {
            self.update(key, |row| row.set(Flag::HOLED, holed));
        }
        changed
    }

    /// Shows all rows of the blocks whose summary is chosen to be changed, the last first, each with the start
    /// of the one behind it.
    pub fn update_each(
        &mut self,
        chosen: impl Fn(&Summary) -> bool,
        mut change: impl FnMut(&mut Row, Option<Timestamp>),
    ) {
        let mut next = None;
        let mut changed = false;
        for block in self.blocks.iter_mut().rev() {
            if chosen(block.summary(self.join)) {
                changed |= block.update_each(next, &mut change);
            }
            next = block.rows.first().map(Row::start);
        }
        self.version += u64::from(changed);
    }

    // Surveys.

    /// From here on, no row has been seen.
    pub fn begin_round(&mut self) {
        self.round = self.round.wrapping_add(1);
        self.next = (0, 0);
    }

    /// The file is there. False where there is no such row.
    pub fn see(&mut self, key: Key) -> bool {
        let at = self.block_of(key).unwrap_or_default();
        let position = self.blocks.get(at).and_then(|block| block.position(key).ok());
        position.is_some_and(|position| self.see_at(at, position).is_some())
    }

    /// As [`Rows::see`], of the row behind the one that was seen last, if this is its path: directories are
    /// mostly listed in the order of rows, and a name is made in less time than it is read.
    pub fn see_next(&mut self, path: &Path) -> Option<Key> {
        let (mut at, mut position) = self.next;
        if self.blocks.get(at).is_some_and(|block| position >= block.rows.len()) {
            (at, position) = (at + 1, 0);
        }
        let row = self.blocks.get(at)?.rows.get(position)?;
        let is_made = || self.layout.makes(path, row.named(), row.counter());
        if row.is(Flag::ODD_PATH) || !is_made() {
            return None;
        }
        self.see_at(at, position)
    }

    fn see_at(&mut self, at: usize, position: usize) -> Option<Key> {
        let block = self.blocks.get_mut(at)?;
        block.begin(self.round);
        let row = block.rows.get_mut(position)?;
        row.set(Flag::SEEN, true);
        self.next = (at, position + 1);
        Some(row.key())
    }

    pub fn is_seen(&self, key: Key) -> bool {
        let block = self.block_of(key).and_then(|at| self.blocks.get(at));
        block.filter(|block| block.round == self.round).is_some_and(|block| {
            let position = block.position(key).ok();
            position.and_then(|at| block.rows.get(at)).is_some_and(|row| row.is(Flag::SEEN))
        })
    }

    pub fn unseen(&self) -> impl Iterator<Item = &Row> {
        self.blocks.iter().flat_map(|block| {
            let looked_at = block.round == self.round;
            block.rows.iter().filter(move |row| !looked_at || !row.is(Flag::SEEN))
        })
    }

    /// The block that has `key`, or would have it; `None` where there is no block.
    fn block_of(&self, key: Key) -> Option<usize> {
        let later = |block: &Block| block.rows.first().is_some_and(|first| first.key() > key);
        let last = self.blocks.len().checked_sub(1)?;
        if self.blocks.last().is_some_and(|block| !later(block)) {
            return Some(last);
        }
        Some(self.blocks.partition_point(|block| !later(block)).saturating_sub(1))
    }

    /// Makes room for `key` in the block `at` or behind it, and says where. What is recorded comes at the end:
    /// there a full block is left as it is, and elsewhere cut in half.
    fn with_room(&mut self, at: usize, key: Key) -> usize {
        let Some(block) = self.blocks.get_mut(at).filter(|block| block.rows.len() >= BLOCK_ROWS)
        else {
            return at;
        };
        let position = block.position(key).unwrap_or_else(|position| position);
        let cut = if position == block.rows.len() { position } else { BLOCK_ROWS / 2 };
        let behind = block.split_off(cut);
        if self.blocks.len() == self.blocks.capacity() {
            self.blocks.reserve_exact(MORE_BLOCKS);
        }
        self.blocks.insert(at + 1, behind);
        if position >= cut { at + 1 } else { at }
    }
}

impl Block {
    fn starting(round: u32) -> Self {
        Block { round, ..Block::default() }
    }

    fn last(&self) -> Option<&Row> {
        self.rows.last()
    }

    fn position(&self, key: Key) -> Result<usize, usize> {
        // What comes from the log, or has just been recorded, comes in order.
        if self.last().is_none_or(|last| last.key() < key) {
            return Err(self.rows.len());
        }
        self.rows.binary_search_by(|row| row.key().cmp(&key))
    }

    fn changed(&mut self) {
        self.summary.take();
    }

    fn update_each(
        &mut self,
        mut next: Option<Timestamp>,
        change: &mut impl FnMut(&mut Row, Option<Timestamp>),
    ) -> bool {
        let mut changed = false;
        for row in self.rows.iter_mut().rev() {
            let before = *row;
            change(row, next);
            next = Some(row.start());
            changed |= *row != before;
        }
        if changed {
            self.changed();
        }
        changed
    }

    fn begin(&mut self, round: u32) {
        if self.round != round {
            self.round = round;
            self.rows.iter_mut().for_each(|row| row.set(Flag::SEEN, false));
        }
    }

    fn split_off(&mut self, at: usize) -> Block {
        let mut behind = Block::starting(self.round);
        behind.rows.extend(self.rows.drain(at..));
        for row in behind.rows.iter().filter(|row| row.is(Flag::ODD_PATH)) {
            self.odd.hand_over(row.short_id(), &mut behind.odd);
        }
        self.changed();
        behind
    }

    fn summary(&self, join: Duration) -> &Summary {
        self.summary.get_or_init(|| Summary::of(&self.rows, join))
    }
}

impl Summary {
    fn of(rows: &[Row], join: Duration) -> Self {
        let mut summary = Summary::default();
        for row in rows {
            summary.hull = hull(summary.hull, row.range());
            summary.stale += usize::from(row.is(Flag::STALE));
            summary.unread += usize::from(row.content() == Content::Unread);
            summary.unsealed += usize::from(!row.is(Flag::SEALED));
            summary.unlogged |= row.is(Flag::UNLOGGED);
            summary.unreadable |= row.is(Flag::UNREADABLE);
            summary.future |= row.is(Flag::FUTURE);
            if row.is(Flag::FUTURE) {
                continue;
            }
            let known_end = row.known_end();
            if row.is_placed() {
                summary.latest_known_end = summary.latest_known_end.max(Some(known_end));
            }
            if row.is(Flag::STALE) || !row.is(Flag::SEALED) || !row.is_placed() {
                let earliest = summary.undecided_from.map_or(known_end, |from| from.min(known_end));
                summary.undecided_from = Some(earliest);
            }
            if row.coverage().is_some() {
                let tier = tier_of(row.content());
                summary.tier = Some(summary.tier.map_or(tier, |least| least.min(tier)));
                let own = row.uncertainty();
                let (least, most) = summary.uncertainty.unwrap_or((own, own));
                summary.uncertainty = Some((least.min(own), most.max(own)));
            }
        }
        let covered: Coverage = rows.iter().filter_map(Row::coverage).collect();
        let holed = rows.iter().any(|row| row.is(Flag::HOLED));
        summary.covered = match covered.joined(join).ranges() {
            [] => Covered::Nothing,
            _ if holed => Covered::Pieces,
            [whole] => Covered::Whole(*whole),
            _ => Covered::Pieces,
        };
        summary
    }
}

fn hull(so_far: Option<TimeRange>, range: TimeRange) -> Option<TimeRange> {
    Some(so_far.map_or(range, |hull| hull.hull(&range)))
}

pub fn tier_of(content: Content) -> Tier {
    if content == Content::Unread { Tier::Names } else { Tier::Extent }
}

/// Paths that the layout does not make from time and counter, each as what it differs in: the number of bytes
/// it begins with as the made one does, and the rest.
///
/// `short id (4) | shared (1) | length of the rest (2) | rest`, one behind the other; numbers little-endian.
#[derive(Debug, Default)]
struct OddPaths {
    entries: Vec<u8>,
}

const ENTRY_HEADER_BYTES: usize = 7;

impl OddPaths {
    fn insert(&mut self, short_id: u32, made: &Path, path: &Path) {
        let (made, path) = (path_bytes(made), path_bytes(path));
        let same = made.iter().zip(path).take_while(|(a, b)| a == b).count();
        let shared = u8::try_from(same).unwrap_or(u8::MAX);
        let rest = path.get(usize::from(shared)..).unwrap_or_default();
        // No file system has a path of 64 KiB.
        let length = u16::try_from(rest.len()).unwrap_or(u16::MAX);
        self.entries.extend(short_id.to_le_bytes());
        self.entries.push(shared);
        self.entries.extend(length.to_le_bytes());
        self.entries.extend(rest.iter().take(length.into()));
    }

    fn get(&self, short_id: u32, made: &Path) -> Option<PathBuf> {
        let entry = self.entries.get(self.find(short_id)?)?;
        let (header, rest) = entry.split_at_checked(ENTRY_HEADER_BYTES)?;
        let shared = path_bytes(made).get(..usize::from(*header.get(4)?))?;
        Some(PathBuf::from(OsStr::from_bytes(&[shared, rest].concat())))
    }

    fn remove(&mut self, short_id: u32) {
        if let Some(entry) = self.find(short_id) {
            self.entries.drain(entry);
        }
    }

    fn hand_over(&mut self, short_id: u32, to: &mut OddPaths) {
        if let Some(entry) = self.find(short_id) {
            to.entries.extend(self.entries.drain(entry));
        }
    }

    fn find(&self, short_id: u32) -> Option<std::ops::Range<usize>> {
        let mut at = 0;
        loop {
            let header = self.entries.get(at..)?.first_chunk::<ENTRY_HEADER_BYTES>()?;
            let [a, b, c, d, _, low, high] = *header;
            let length = usize::from(u16::from_le_bytes([low, high]));
            let end = at + ENTRY_HEADER_BYTES + length;
            if u32::from_le_bytes([a, b, c, d]) == short_id {
                return Some(at..end);
            }
            at = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::identity::{SegmentId, StreamId};
    use crate::layout::NamedTime;
    use crate::segment::{FileStamp, Placement};

    const JOIN: Duration = Duration::from_millis(200);

    fn layout() -> Layout {
        Layout::new("%Y-%m-%d/%H-%M-%S_{counter}.mp4", "UTC").unwrap()
    }

    /// Odd: with a zero before the counter, as no layout writes it.
    fn path(seconds: i64, counter: u32, odd: bool) -> PathBuf {
        let made = layout().path_for(Timestamp::from_unix_seconds(seconds), counter);
        let name = made.to_str().unwrap();
        if odd { name.replace('_', "_0").into() } else { made }
    }

    fn row(path: &Path) -> Row {
        let named: NamedTime = layout().parse(path).unwrap();
        let stream: StreamId = "main".parse().unwrap();
        let key = Key::new(named.start, named.counter, SegmentId::of(&stream, path_bytes(path)));
        let mut row = Row::unread(key, Placement::of_name(&named), FileStamp::default());
        row.set_content(Content::Held);
        row.set_duration(Duration::from_secs(1));
        row
    }

    fn range(start_s: i64, end_s: i64) -> TimeRange {
        let at = Timestamp::from_unix_seconds;
        TimeRange::new(at(start_s), at(end_s)).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn rows_are_found_in_order_and_with_their_paths_as_in_a_plain_map(
            steps in prop::collection::vec((0..900_i64, 0..3_u32, any::<bool>(), 0..4_u8), 1..1_800),
            (from, length) in (0..900_i64, 0..300_i64),
        ) {
            let (mut rows, mut model) = (Rows::new(layout(), JOIN), BTreeMap::new());
            for (seconds, counter, odd, step) in steps {
                let path = path(seconds, counter, odd);
                let row = row(&path);
                if step == 0 {
                    prop_assert_eq!(rows.remove(row.key()).is_some(), model.remove(&row.key()).is_some());
                } else {
                    rows.insert(row, &path);
                    model.insert(row.key(), path);
                }
            }
            let known: Vec<_> = rows.iter().map(|row| (row.key(), rows.path_of(row))).collect();
            prop_assert_eq!(rows.len(), known.len());
            prop_assert!(known.iter().all(|(key, _)| rows.get(*key).is_some()));
            prop_assert_eq!(known, model.clone().into_iter().collect::<Vec<_>>());
            let behind = rows.iter().map(|row| rows.next(row.key()).map(Row::key));
            let keys = model.keys().skip(1).map(|key| Some(*key)).chain([None]);
            prop_assert!(behind.eq(keys.take(model.len())));
            let window = range(from, from + length);
            let starts = |row: &Row| row.named().nanos_from(Timestamp::UNIX_EPOCH) / 1_000_000_000;
            let inside = |at: i64| from <= at && at < from + length;
            let expected = model.keys().map(|key| starts(rows.get(*key).unwrap()));
            let expected: Vec<i64> = expected.filter(|at| inside(*at)).collect();
            prop_assert_eq!(rows.named_in(window).map(starts).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn a_summary_tells_what_its_rows_do(
            seconds in prop::collection::vec(0..2_000_i64, 0..1_500),
            (from, length) in (0..2_000_i64, 0..300_i64),
        ) {
            let mut rows = Rows::new(layout(), JOIN);
            for seconds in seconds {
                let path = path(seconds, 0, false);
                rows.insert(row(&path), &path);
            }
            let window = range(from, from + length);
            let touching: Vec<Key> = rows.touching(window).map(Row::key).collect();
            let expected = rows.iter().filter(|row| {
                row.range().overlaps(&window) || window.contains(row.start())
            });
            prop_assert_eq!(touching, expected.map(Row::key).collect::<Vec<_>>());
            for (rows, summary) in rows.blocks() {
                let covered: Coverage = rows.iter().filter_map(Row::coverage).collect();
                match summary.covered {
                    Covered::Whole(whole) => prop_assert_eq!(covered.joined(JOIN), whole.into()),
                    Covered::Pieces => prop_assert!(covered.joined(JOIN).ranges().len() > 1),
                    Covered::Nothing => prop_assert!(covered.is_empty()),
                }
            }
        }
    }

    #[test]
    fn only_what_was_seen_in_this_round_has_been_seen() {
        let mut rows = Rows::new(layout(), JOIN);
        let paths: Vec<PathBuf> = (0..600).map(|seconds| path(seconds, 0, false)).collect();
        paths.iter().for_each(|path| rows.insert(row(path), path));
        for _ in 0..2 {
            rows.begin_round();
            assert_eq!(rows.unseen().count(), 600);
            assert!(rows.see(row(&paths[5]).key()) && !rows.is_seen(row(&paths[6]).key()));
            assert_eq!(rows.unseen().count(), 599);
        }
    }

    #[test]
    fn a_file_is_known_by_its_path_behind_the_one_that_was_seen_before() {
        let mut rows = Rows::new(layout(), JOIN);
        let odd = |seconds| seconds == 300;
        let paths: Vec<PathBuf> = (0..600).map(|seconds| path(seconds, 0, odd(seconds))).collect();
        paths.iter().for_each(|path| rows.insert(row(path), path));
        rows.begin_round();
        for (seconds, path) in (0..).zip(&paths) {
            let key = row(path).key();
            match rows.see_next(path) {
                Some(seen) => assert_eq!(seen, key),
                None => assert!(odd(seconds) && rows.see(key), "{seconds}"),
            }
        }
        assert_eq!(rows.unseen().count(), 0);

        rows.begin_round();
        assert_eq!(rows.see_next(&paths[1]), None);
        assert!(rows.see(row(&paths[1]).key()));
        assert_eq!(rows.see_next(&paths[1]), None);
        rows.remove(row(&paths[0]).key());
        assert_eq!(rows.see_next(&paths[2]), None, "rows have moved");
        assert_eq!(rows.unseen().count(), 598);
    }

    #[test]
    fn what_is_recorded_last_leaves_full_blocks_behind() {
        let mut rows = Rows::new(layout(), JOIN);
        for seconds in 0..10_000 {
            let path = path(seconds, 0, false);
            rows.insert(row(&path), &path);
        }
        let full = rows.blocks().filter(|(rows, _)| rows.len() == BLOCK_ROWS).count();
        assert_eq!(full, 10_000 / BLOCK_ROWS);
    }
}
