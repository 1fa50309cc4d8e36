//! Tombstones: what was held once and is not any more, so that it is never taken for never recorded.
//!
//! Pure. Kept by the day of the segment's name, as the log keeps it: a day's file holds the segments named in
//! that day and what is gone of them, wherever they were placed in true time.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::coverage::Coverage;
use crate::log::Day;
use crate::time::{TimeRange, Timestamp};

/// How long what is gone is remembered, counted back from the newest known instant.
const GONE_MEMORY: Duration = Duration::from_secs(30 * 86_400);
/// More ranges than these are not remembered as gone; the oldest are forgotten first.
const MAX_GONE_RANGES: usize = 4_096;

#[derive(Debug, Default)]
pub struct Gone {
    days: BTreeMap<Day, Coverage>,
}

impl Gone {
    pub fn is_empty(&self) -> bool {
        self.days.is_empty()
    }

    /// A segment named in `day` is gone, and with it what it held.
    pub fn insert(&mut self, day: Day, held: TimeRange) {
        if !held.is_empty() {
            self.days.entry(day).or_default().insert(held);
        }
    }

    pub fn restore(&mut self, day: Day, gone: &Coverage) {
        if !gone.is_empty() {
            let known = self.days.entry(day).or_default();
            *known = known.union(gone);
        }
    }

    /// What is gone of the segments that were named in `day`.
    pub fn of_day(&self, day: Day) -> Option<&Coverage> {
        self.days.get(&day)
    }

    pub fn all(&self) -> Coverage {
        self.days.values().flat_map(Coverage::iter).collect()
    }

    /// Keeps it within its bounds; `newest` is the end of what is held.
    pub fn bound(&mut self, newest: Option<Timestamp>, join: Duration) {
        let all = self.all().joined(join);
        let Some(newest) = newest.max(all.hull().map(|hull| hull.end())) else { return };
        let excess = all.ranges().len().saturating_sub(MAX_GONE_RANGES);
        let oldest = all.ranges().get(excess).map_or(newest, TimeRange::start);
        let since = oldest.max(newest.saturating_sub(GONE_MEMORY));
        let kept = TimeRange::new(since, Timestamp::MAX).filter(|kept| !kept.is_empty());
        self.days.retain(|_, gone| {
            *gone = kept.map(|kept| gone.clip(kept)).unwrap_or_default();
            !gone.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOIN: Duration = Duration::from_millis(200);
    const DAY_S: i64 = 86_400;

    fn range(start_s: i64, end_s: i64) -> TimeRange {
        let at = Timestamp::from_unix_seconds;
        TimeRange::new(at(start_s), at(end_s)).unwrap()
    }

    fn of(ranges: impl IntoIterator<Item = TimeRange>) -> Gone {
        let mut gone = Gone::default();
        ranges.into_iter().for_each(|range| gone.insert(Day::of(range.start()), range));
        gone
    }

    #[test]
    fn what_is_gone_is_forgotten_after_its_time() {
        let mut gone = of([range(0, DAY_S), range(20 * DAY_S, 21 * DAY_S)]);
        let newest = Timestamp::from_unix_seconds(30 * DAY_S + DAY_S / 2);
        gone.bound(Some(newest), JOIN);
        let expected = [range(DAY_S / 2, DAY_S), range(20 * DAY_S, 21 * DAY_S)];
        assert_eq!(gone.all(), expected.into_iter().collect());
    }

    #[test]
    fn beyond_their_number_the_oldest_are_forgotten_first() {
        let many = (0..2 * MAX_GONE_RANGES as i64).map(|i| range(10 * i, 10 * i + 1));
        let mut gone = of(many.clone());
        gone.bound(None, JOIN);
        assert_eq!(gone.all(), many.skip(MAX_GONE_RANGES).collect());
    }
}
