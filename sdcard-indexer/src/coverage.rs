//! Coverage: a normalised set of time ranges, and the whole of its algebra.
//!
//! Pure. Every operation is one pass over sorted input that leaps over what cannot matter; nothing here
//! keeps more memory than its result takes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::{TimeRange, Timestamp};

/// Sorted, disjoint, non-empty ranges; ranges that touch are one. So equal sets are equal values.
///
/// Serialised as a list of [`TimeRange`]; a list that is not in this normal form is brought into it, and
/// one with a range that runs backwards is refused.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(from = "Vec<TimeRange>", into = "Vec<TimeRange>")]
pub struct Coverage {
    ranges: Vec<TimeRange>,
}

impl From<Vec<TimeRange>> for Coverage {
    fn from(ranges: Vec<TimeRange>) -> Self {
        ranges.into_iter().collect()
    }
}

impl From<Coverage> for Vec<TimeRange> {
    fn from(coverage: Coverage) -> Self {
        coverage.ranges
    }
}

impl From<TimeRange> for Coverage {
    fn from(range: TimeRange) -> Self {
        [range].into_iter().collect()
    }
}

/// Any order, overlaps and empty ranges allowed; sorting is skipped where the input is sorted.
impl FromIterator<TimeRange> for Coverage {
    fn from_iter<I: IntoIterator<Item = TimeRange>>(ranges: I) -> Self {
        let ranges = ranges.into_iter();
        let mut coverage = Coverage { ranges: Vec::with_capacity(ranges.size_hint().0) };
        let mut sorted = true;
        for range in ranges.filter(|range| !range.is_empty()) {
            sorted &= coverage.ranges.last().is_none_or(|last| last.start() <= range.start());
            coverage.push(range);
        }
        if !sorted {
            coverage.ranges.sort_unstable_by_key(TimeRange::start);
            coverage.merge_neighbours(Duration::ZERO);
        }
        coverage.ranges.shrink_to_fit();
        coverage
    }
}

/// Any number of ranges, as [`FromIterator`] takes them, for a sort of these and one [`Coverage::union`].
impl Extend<TimeRange> for Coverage {
    fn extend<I: IntoIterator<Item = TimeRange>>(&mut self, ranges: I) {
        *self = self.union(&ranges.into_iter().collect());
    }
}

impl Coverage {
    pub const fn new() -> Self {
        Coverage { ranges: Vec::new() }
    }

    pub fn ranges(&self) -> &[TimeRange] {
        &self.ranges
    }

    pub fn iter(&self) -> impl Iterator<Item = TimeRange> + '_ {
        self.ranges.iter().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// From the first covered instant to the last.
    pub fn hull(&self) -> Option<TimeRange> {
        Some(self.ranges.first()?.hull(self.ranges.last()?))
    }

    /// Covered time.
    pub fn total(&self) -> Duration {
        self.ranges.iter().map(TimeRange::duration).sum()
    }

    pub fn contains(&self, instant: Timestamp) -> bool {
        self.latest_starting_by(instant).is_some_and(|range| range.contains(instant))
    }

    /// True where every instant of `range` is covered; an empty range always is.
    pub fn covers(&self, range: TimeRange) -> bool {
        range.is_empty()
            || self.latest_starting_by(range.start()).is_some_and(|held| held.end() >= range.end())
    }

    fn latest_starting_by(&self, instant: Timestamp) -> Option<&TimeRange> {
        let after = self.ranges.partition_point(|range| range.start() <= instant);
        self.ranges.get(after.checked_sub(1)?)
    }

    /// Moves all that lies behind `range`, which is little where that is among the latest; `extend` takes many
    /// at once.
    pub fn insert(&mut self, range: TimeRange) {
        if range.is_empty() {
            return;
        }
        if self.ranges.last().is_none_or(|last| last.end() < range.start()) {
            return self.ranges.push(range);
        }
        let first = self.ranges.partition_point(|held| held.end() < range.start());
        let last = self.ranges.partition_point(|held| held.start() <= range.end());
        let touched = self.ranges.get(first..last).unwrap_or_default();
        let hull = touched.iter().fold(range, |hull, held| hull.hull(held));
        self.ranges.splice(first..last, [hull]);
    }

    pub fn remove(&mut self, range: TimeRange) {
        if range.is_empty() {
            return;
        }
        let first = self.ranges.partition_point(|held| held.end() <= range.start());
        let last = self.ranges.partition_point(|held| held.start() < range.end());
        let touched = self.ranges.get(first..last).unwrap_or_default();
        let before = touched.first().and_then(|held| non_empty(held.start(), range.start()));
        let after = touched.last().and_then(|held| non_empty(range.end(), held.end()));
        self.ranges.splice(first..last, before.into_iter().chain(after));
    }

    #[must_use]
    pub fn union(&self, other: &Coverage) -> Coverage {
        let (mut left, mut right) = (self.ranges.as_slice(), other.ranges.as_slice());
        let mut union = Coverage { ranges: Vec::with_capacity(left.len() + right.len()) };
        while let ([a, left_rest @ ..], [b, right_rest @ ..]) = (left, right) {
            if a.start() <= b.start() {
                union.push(*a);
                left = left_rest;
            } else {
                union.push(*b);
                right = right_rest;
            }
        }
        for range in left.iter().chain(right) {
            union.push(*range);
        }
        union.ranges.shrink_to_fit();
        union
    }

    #[must_use]
    pub fn intersection(&self, other: &Coverage) -> Coverage {
        let mut ranges = Vec::new();
        let (mut left, mut right) = (self.ranges.as_slice(), other.ranges.as_slice());
        while let ([a, left_rest @ ..], [b, right_rest @ ..]) = (left, right) {
            ranges.extend(a.intersection(b));
            if a.end() < b.end() {
                left = ending_after(left_rest, b.start());
            } else {
                right = ending_after(right_rest, a.start());
            }
        }
        Coverage { ranges }
    }

    /// What is here and not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Coverage) -> Coverage {
        let mut ranges = Vec::new();
        let mut holes = other.ranges.as_slice();
        for range in &self.ranges {
            let mut start = range.start();
            holes = ending_after(holes, start);
            while let [hole, rest @ ..] = holes {
                if hole.start() >= range.end() {
                    break;
                }
                ranges.extend(non_empty(start, hole.start()));
                start = hole.end();
                if start >= range.end() {
                    break;
                }
                holes = rest;
            }
            ranges.extend(non_empty(start, range.end()));
        }
        Coverage { ranges }
    }

    /// What of `within` is not covered.
    #[must_use]
    pub fn gaps(&self, within: TimeRange) -> Coverage {
        Coverage::from(within).difference(self)
    }

    /// The part that lies in `window`.
    #[must_use]
    pub fn clip(&self, window: TimeRange) -> Coverage {
        let first = self.ranges.partition_point(|held| held.end() <= window.start());
        let last = self.ranges.partition_point(|held| held.start() < window.end());
        let touched = self.ranges.get(first..last).unwrap_or_default();
        Coverage { ranges: touched.iter().filter_map(|held| held.intersection(&window)).collect() }
    }

    /// Closes every hole that is no longer than `tolerance`.
    #[must_use]
    pub fn joined(mut self, tolerance: Duration) -> Coverage {
        self.merge_neighbours(tolerance);
        self.ranges.shrink_to_fit();
        self
    }

    /// Drops every range that is no longer than `shortest`: noise of rounding, not footage.
    #[must_use]
    pub fn without_slivers(mut self, shortest: Duration) -> Coverage {
        self.ranges.retain(|range| range.duration() > shortest);
        self
    }

    /// Joins `range` to the last one where they touch.
    fn push(&mut self, range: TimeRange) {
        match self.ranges.last_mut() {
            Some(last) if last.start() <= range.end() && range.start() <= last.end() => {
                *last = last.hull(&range);
            }
            _ => self.ranges.push(range),
        }
    }

    /// Needs `ranges` sorted by start and none empty.
    fn merge_neighbours(&mut self, tolerance: Duration) {
        self.ranges.dedup_by(|next, previous| {
            let joins = next.start() <= previous.end().saturating_add(tolerance);
            if joins {
                *previous = previous.hull(next);
            }
            joins
        });
    }
}

impl IntoIterator for Coverage {
    type Item = TimeRange;
    type IntoIter = std::vec::IntoIter<TimeRange>;

    fn into_iter(self) -> Self::IntoIter {
        self.ranges.into_iter()
    }
}

fn non_empty(start: Timestamp, end: Timestamp) -> Option<TimeRange> {
    TimeRange::new(start, end).filter(|range| !range.is_empty())
}

/// The rest of sorted `ranges`, from the first on that ends after `instant`. Leaps ever further from the front,
/// so that it costs little more than a look where nothing is skipped, and the logarithm of what is.
fn ending_after(ranges: &[TimeRange], instant: Timestamp) -> &[TimeRange] {
    let ended = |range: &TimeRange| range.end() <= instant;
    let mut leap = 1;
    while ranges.get(leap - 1).is_some_and(ended) {
        leap *= 2;
    }
    let skipped = leap / 2;
    let near = ranges.get(skipped..ranges.len().min(leap)).unwrap_or_default();
    ranges.get(skipped + near.partition_point(ended)..).unwrap_or_default()
}
