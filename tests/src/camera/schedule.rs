//! What a recorder writes in a given second: when it begins a segment, and which it gives up.
//!
//! Pure: seconds go in, actions come out. It knows neither files nor clocks.

use std::collections::VecDeque;
use std::time::Duration;

use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::{TimeRange, Timestamp};

use crate::clip::after;

/// How much a recorder keeps before it deletes its oldest segment. The open one is never deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ring {
    Endless,
    Segments(usize),
    Bytes(u64),
}

/// A step on the disk. Segments are known by their start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Delete { segment: Timestamp },
    Begin { segment: Timestamp },
    Append { segment: Timestamp, second: Timestamp, position: u32 },
}

/// One recorder: gathers seconds into segments of equal length, anew after each interruption.
#[derive(Debug)]
pub struct Schedule {
    segment_seconds: u32,
    ring: Ring,
    /// Oldest first; the last may be open.
    kept: VecDeque<Segment>,
    open: bool,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    start: Timestamp,
    seconds: u32,
    bytes: u64,
}

impl Segment {
    fn end(&self) -> Timestamp {
        after(self.start, self.seconds)
    }
}

impl Schedule {
    pub fn new(segment_seconds: u32, ring: Ring) -> Self {
        Schedule { segment_seconds, ring, kept: VecDeque::new(), open: false }
    }

    /// One second of footage, which starts at `second` and takes `bytes` on the disk.
    pub fn second(&mut self, second: Timestamp, bytes: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        let continues =
            |last: &&mut Segment| last.seconds < self.segment_seconds && last.end() == second;
        match self.kept.back_mut().filter(|_| self.open).filter(continues) {
            Some(last) => {
                last.seconds += 1;
                last.bytes += bytes;
            }
            None => {
                self.kept.push_back(Segment { start: second, seconds: 1, bytes });
                actions.push(Action::Begin { segment: second });
            }
        }
        self.open = true;
        while self.kept.len() > 1 && self.is_full() {
            let oldest = self.kept.pop_front();
            actions.splice(0..0, oldest.map(|oldest| Action::Delete { segment: oldest.start }));
        }
        let last = self.kept.back().expect("a second was just added to it");
        actions.push(Action::Append { segment: last.start, second, position: last.seconds - 1 });
        actions
    }

    /// The footage stops arriving: the open segment ends where it is.
    pub fn interrupt(&mut self) {
        self.open = false;
    }

    /// What is on the disk now.
    pub fn coverage(&self) -> Coverage {
        let range = |held: &Segment| {
            TimeRange::starting_at(held.start, Duration::from_secs(held.seconds.into()))
        };
        self.kept.iter().map(range).collect()
    }

    fn is_full(&self) -> bool {
        match self.ring {
            Ring::Endless => false,
            Ring::Segments(most) => self.kept.len() > most,
            Ring::Bytes(most) => self.kept.iter().map(|held| held.bytes).sum::<u64>() > most,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_unix_seconds(1_000_000 + second)
    }

    fn range(start: i64, end: i64) -> TimeRange {
        TimeRange::new(at(start), at(end)).unwrap()
    }

    fn starts(actions: &[Action]) -> Vec<Timestamp> {
        let start = |action: &Action| match action {
            Action::Begin { segment } => Some(*segment),
            _ => None,
        };
        actions.iter().filter_map(start).collect()
    }

    #[test]
    fn seconds_gather_into_segments_of_equal_length() {
        let mut schedule = Schedule::new(10, Ring::Endless);
        let actions: Vec<_> = (0..25).flat_map(|s| schedule.second(at(s), 1)).collect();
        assert_eq!(starts(&actions), [at(0), at(10), at(20)]);
        let last = Action::Append { segment: at(20), second: at(24), position: 4 };
        assert_eq!(actions.last(), Some(&last));
        assert_eq!(schedule.coverage(), Coverage::from(range(0, 25)));
    }

    #[test]
    fn after_an_interruption_a_new_segment_begins() {
        let mut schedule = Schedule::new(10, Ring::Endless);
        let mut actions: Vec<_> = (0..14).flat_map(|s| schedule.second(at(s), 1)).collect();
        schedule.interrupt();
        actions.extend((20..22).flat_map(|s| schedule.second(at(s), 1)));
        assert_eq!(starts(&actions), [at(0), at(10), at(20)]);
        assert_eq!(schedule.coverage(), Coverage::from(vec![range(0, 14), range(20, 22)]));
    }

    #[test]
    fn an_interruption_without_a_lost_second_still_begins_a_new_segment() {
        let mut schedule = Schedule::new(10, Ring::Endless);
        schedule.second(at(0), 1);
        schedule.interrupt();
        assert_eq!(starts(&schedule.second(at(1), 1)), [at(1)]);
    }

    #[test]
    fn a_jump_of_the_clock_begins_a_new_segment() {
        let mut schedule = Schedule::new(10, Ring::Endless);
        schedule.second(at(0), 1);
        assert_eq!(starts(&schedule.second(at(5), 1)), [at(5)]);
        assert_eq!(starts(&schedule.second(at(3), 1)), [at(3)]);
    }

    #[test]
    fn a_ring_of_segments_deletes_the_oldest_before_it_writes() {
        let mut schedule = Schedule::new(2, Ring::Segments(3));
        for second in 0..6 {
            schedule.second(at(second), 1);
        }
        let actions = schedule.second(at(6), 1);
        let expected = [
            Action::Delete { segment: at(0) },
            Action::Begin { segment: at(6) },
            Action::Append { segment: at(6), second: at(6), position: 0 },
        ];
        assert_eq!(actions, expected);
        assert_eq!(schedule.coverage(), Coverage::from(range(2, 7)));
    }

    #[test]
    fn a_ring_of_bytes_stays_within_them_but_keeps_the_open_segment() {
        let mut schedule = Schedule::new(2, Ring::Bytes(50));
        for second in 0..7 {
            schedule.second(at(second), 10);
        }
        assert_eq!(schedule.coverage(), Coverage::from(range(2, 7)));
        schedule.second(at(7), 1_000);
        assert_eq!(schedule.coverage(), Coverage::from(range(6, 8)));
    }
}
