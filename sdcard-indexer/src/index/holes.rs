//! What is known of holes better than segments' places tell: inside them, and between one and the next.
//!
//! Pure. It lies beside the rows, of which few need it; a flag tells of which there is more here.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::row::{Key, Row};
use crate::container::Hole;
use crate::coverage::Coverage;
use crate::time::{TimeRange, Timestamp};

/// Of one segment; times from its start on.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct KnownHoles {
    /// In the order of time.
    pub inside: Vec<Hole>,
    /// Up to the next segment's start, by time stamps that go on in that one.
    pub behind: Option<Hole>,
    /// For so long before its start nothing is missing, though the segment before ends there: its time stamps go
    /// on in this one.
    pub filled_ns: i64,
}

impl KnownHoles {
    pub(crate) fn is_nothing(&self) -> bool {
        *self == KnownHoles::default()
    }

    fn holes(&self) -> impl Iterator<Item = &Hole> {
        self.inside.iter().chain(&self.behind)
    }

    /// The holes of a segment that starts there.
    fn placed(&self, start: Timestamp) -> impl Iterator<Item = TimeRange> {
        let at = move |media_ns| start.saturating_offset(media_ns);
        self.holes().filter_map(move |hole| TimeRange::new(at(hole.start.0), at(hole.end.0)))
    }

    /// What a segment that starts there covers of its range, with what is filled before it.
    pub(crate) fn covered(&self, range: TimeRange) -> Coverage {
        let start = range.start().saturating_offset(self.filled_ns.saturating_neg());
        let whole = TimeRange::new(start, range.end()).unwrap_or(range);
        Coverage::from(whole).difference(&self.placed(range.start()).collect())
    }
}

#[derive(Debug, Default)]
pub(super) struct Holes {
    of: BTreeMap<Key, Box<KnownHoles>>,
}

impl Holes {
    /// Says whether anything is left that is known of this segment.
    pub fn update(&mut self, key: Key, change: impl FnOnce(&mut KnownHoles)) -> bool {
        let mut known = self.of.remove(&key).unwrap_or_default();
        change(&mut known);
        let any = !known.is_nothing();
        if any {
            self.of.insert(key, known);
        }
        any
    }

    pub fn of(&self, key: Key) -> Option<&KnownHoles> {
        self.of.get(&key).map(AsRef::as_ref)
    }

    pub fn remove(&mut self, key: Key) {
        self.of.remove(&key);
    }

    /// What a row covers, piece by piece, and the holes of which that is proof.
    pub fn coverage_of(&self, row: &Row) -> (Coverage, Coverage) {
        match (row.coverage(), self.of(row.key())) {
            (Some(range), Some(known)) => {
                (known.covered(range), known.placed(range.start()).collect())
            }
            (range, _) => (range.into_iter().collect(), Coverage::new()),
        }
    }

    /// How many there are in all segments from the first key to the last.
    pub fn count(&self, first: Key, last: Key) -> usize {
        let between = self.of.range((Bound::Included(first), Bound::Included(last)));
        between.map(|(_, known)| known.holes().count()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::container::MediaTime;
    use crate::index::table::tests::{insert_at, rows};
    use crate::index::view::StreamView;

    fn hole(start_ms: i64, end_ms: i64) -> Hole {
        Hole { start: MediaTime(start_ms * 1_000_000), end: MediaTime(end_ms * 1_000_000) }
    }

    fn milliseconds(coverage: &Coverage) -> Vec<(i64, i64)> {
        let at = |instant: Timestamp| instant.as_nanos() / 1_000_000;
        coverage.iter().map(|range| (at(range.start()), at(range.end()))).collect()
    }

    /// Three segments of ten seconds, back to back, of the second of which this is known.
    fn held(known: &KnownHoles, also: Option<(i64, i64)>) -> Vec<(i64, i64)> {
        let mut rows = rows();
        for start_s in [0, 10, 20] {
            insert_at(&mut rows, start_s, start_s + 10, |_| {});
        }
        let key = rows.iter().nth(1).map(Row::key).unwrap();
        assert!(rows.update_holes(key, |holes| holes.clone_from(known)));
        assert!(!rows.update_holes(key, |holes| holes.clone_from(known)));
        if let Some((start_s, end_s)) = also {
            insert_at(&mut rows, start_s, end_s, |_| {});
        }
        let now = Timestamp::from_unix_seconds(100);
        milliseconds(&StreamView::of(&rows, &Default::default(), now).held)
    }

    #[test]
    fn holes_inside_and_behind_a_segment_are_not_held_however_short() {
        let inside = KnownHoles { inside: vec![hole(4_000, 4_001)], ..KnownHoles::default() };
        assert_eq!(held(&inside, None), [(0, 14_000), (14_001, 30_000)]);
        let behind = KnownHoles { behind: Some(hole(9_000, 10_000)), ..KnownHoles::default() };
        assert_eq!(held(&behind, None), [(0, 19_000), (20_000, 30_000)]);
    }

    #[test]
    fn what_another_segment_holds_is_no_hole() {
        let inside = KnownHoles { inside: vec![hole(2_000, 7_000)], ..KnownHoles::default() };
        assert_eq!(
            held(&inside, Some((13, 15))),
            [(0, 12_000), (13_000, 15_000), (17_000, 30_000)]
        );
        assert_eq!(held(&inside, Some((12, 17))), [(0, 30_000)]);
    }

    #[test]
    fn what_is_filled_before_a_segment_is_held_with_it() {
        let mut rows = rows();
        insert_at(&mut rows, 0, 8, |_| {});
        insert_at(&mut rows, 10, 18, |_| {});
        let last = rows.iter().last().map(Row::key).unwrap();
        let view =
            |rows: &_| StreamView::of(rows, &Default::default(), Timestamp::from_unix_seconds(100));
        assert_eq!(milliseconds(&view(&rows).held), [(0, 8_000), (10_000, 18_000)]);
        rows.update_holes(last, |holes| holes.filled_ns = 2_000_000_000);
        assert_eq!(milliseconds(&view(&rows).held), [(0, 18_000)]);
        rows.update_holes(last, |holes| *holes = KnownHoles::default());
        assert_eq!(milliseconds(&view(&rows).held), [(0, 8_000), (10_000, 18_000)]);
    }

    #[test]
    fn nothing_is_kept_of_a_segment_that_is_gone() {
        let mut rows = rows();
        insert_at(&mut rows, 0, 10, |_| {});
        let key = rows.iter().next().map(Row::key).unwrap();
        rows.update_holes(key, |holes| holes.inside.push(hole(4_000, 6_000)));
        rows.remove(key);
        insert_at(&mut rows, 0, 10, |_| {});
        assert_eq!(rows.holes_of(key), None);
        let held = rows.iter().map(|row| rows.coverage_of(row).0.total()).sum::<Duration>();
        assert_eq!(held, Duration::from_secs(10));
    }
}
