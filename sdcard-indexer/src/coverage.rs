//! Coverage: a normalised set of time ranges, and the whole of its algebra.
//!
//! Pure. Every operation is one linear pass over sorted input; nothing here allocates more than its result.

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
        let mut ranges: Vec<TimeRange> =
            ranges.into_iter().filter(|range| !range.is_empty()).collect();
        if !ranges.is_sorted() {
            ranges.sort_unstable();
        }
        let mut coverage = Coverage { ranges };
        coverage.merge_neighbours(Duration::ZERO);
        coverage
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
        let after = self.ranges.partition_point(|range| range.start() <= instant);
        after.checked_sub(1).and_then(|i| self.ranges.get(i)).is_some_and(|r| r.contains(instant))
    }

    /// True where every instant of `range` is covered; an empty range always is.
    pub fn covers(&self, range: TimeRange) -> bool {
        range.is_empty() || {
            let after = self.ranges.partition_point(|held| held.start() <= range.start());
            after
                .checked_sub(1)
                .and_then(|i| self.ranges.get(i))
                .is_some_and(|r| r.end() >= range.end())
        }
    }

    pub fn insert(&mut self, range: TimeRange) {
        if range.is_empty() {
            return;
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
        let mut ranges = Vec::with_capacity(self.ranges.len() + other.ranges.len());
        let (mut left, mut right) = (self.iter().peekable(), other.iter().peekable());
        loop {
            let next = match (left.peek(), right.peek()) {
                (Some(a), Some(b)) if a <= b => left.next(),
                (_, Some(_)) => right.next(),
                (Some(_), None) => left.next(),
                (None, None) => break,
            };
            ranges.extend(next);
        }
        let mut coverage = Coverage { ranges };
        coverage.merge_neighbours(Duration::ZERO);
        coverage
    }

    #[must_use]
    pub fn intersection(&self, other: &Coverage) -> Coverage {
        let mut ranges = Vec::new();
        let (mut left, mut right) = (self.iter().peekable(), other.iter().peekable());
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            ranges.extend(a.intersection(b));
            if a.end() < b.end() {
                left.next()
            } else {
                right.next()
            };
        }
        Coverage { ranges }
    }

    /// What is here and not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Coverage) -> Coverage {
        let mut ranges = Vec::new();
        let mut holes = other.iter().peekable();
        for range in self.iter() {
            let mut start = range.start();
            while let Some(hole) = holes.peek() {
                if hole.start() >= range.end() {
                    break;
                }
                ranges.extend(non_empty(start, hole.start()));
                start = start.max(hole.end());
                if hole.end() > range.end() {
                    break;
                }
                holes.next();
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
        self
    }

    /// Drops every range that is no longer than `shortest`: noise of rounding, not footage.
    #[must_use]
    pub fn without_slivers(mut self, shortest: Duration) -> Coverage {
        self.ranges.retain(|range| range.duration() > shortest);
        self
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
