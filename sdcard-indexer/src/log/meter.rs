//! How much is written to the card: flash wears out, so this is a figure that everybody can see.

use std::collections::VecDeque;

use super::Day;
use crate::time::Timestamp;

/// Days whose figures are kept apart.
const MAX_DAYS: usize = 8;

/// What this process has had written, without the file system's own share.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Written {
    total_bytes: u64,
    segments: u64,
    /// The last of them; the newest comes last.
    days: VecDeque<(Day, u64)>,
}

impl Written {
    pub(super) fn add(&mut self, now: Timestamp, bytes: u64) {
        self.total_bytes += bytes;
        let today = Day::of(now);
        match self.days.iter_mut().find(|(day, _)| *day == today) {
            Some((_, known)) => *known += bytes,
            None => {
                if self.days.len() == MAX_DAYS {
                    self.days.pop_front();
                }
                self.days.push_back((today, bytes));
            }
        }
    }

    pub(super) fn add_segments(&mut self, segments: u64) {
        self.segments += segments;
    }

    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// By the device's clock; the last days on which something was written.
    pub fn days(&self) -> impl Iterator<Item = (Day, u64)> + '_ {
        self.days.iter().copied()
    }

    pub fn bytes_on(&self, day: Day) -> u64 {
        self.days().find(|(known, _)| *known == day).map_or(0, |(_, bytes)| bytes)
    }

    /// Of the segments that were logged; `None` before the first.
    pub fn bytes_per_1000_segments(&self) -> Option<u64> {
        self.total_bytes.saturating_mul(1_000).checked_div(self.segments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_by_day_and_old_days_are_forgotten() {
        let at = |day: i64| Timestamp::from_unix_seconds(day * 86_400);
        let mut written = Written::default();
        assert_eq!(written.bytes_per_1000_segments(), None);
        for day in 0..10 {
            written.add(at(day), 50);
            written.add(at(day), 50);
            written.add_segments(4);
        }
        assert_eq!((written.total_bytes(), written.bytes_on(Day::of(at(9)))), (1_000, 100));
        assert_eq!((written.days().count(), written.bytes_on(Day::of(at(1)))), (MAX_DAYS, 0));
        assert_eq!(written.bytes_per_1000_segments(), Some(25_000));
    }
}
