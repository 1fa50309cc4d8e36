//! Runs: successive segments through which their recorder's time stamps go on counting.
//!
//! Pure. Where they do, they say what is missing between two segments, which names cannot that are coarser than
//! a hole, or late. Where each file begins from zero, or a recorder was started anew, names have to tell.

use std::collections::VecDeque;
use std::time::Duration;

use super::row::{Key, Row};
use crate::container::{FileClock, Hole, MediaTime};

/// Segments whose time stamps are remembered: successive ones are read one after the other, in either order.
const REMEMBERED: usize = 4;

/// Names may be so much late or early besides their step, on a busy recorder.
const JITTER: Duration = Duration::from_secs(2);

/// The time stamps at both ends of segments that were read lately.
#[derive(Debug, Default)]
pub(super) struct Runs {
    ends: VecDeque<(Key, FileClock)>,
}

impl Runs {
    pub fn note(&mut self, key: Key, clock: FileClock) {
        self.ends.retain(|(known, _)| *known != key);
        if self.ends.len() == REMEMBERED {
            self.ends.pop_front();
        }
        self.ends.push_back((key, clock));
    }

    pub fn knows(&self, key: Key) -> bool {
        self.ends.iter().any(|(known, _)| *known == key)
    }

    /// From the end of one segment to the beginning of another by their time stamps.
    pub fn distance_ns(&self, from: Key, to: Key) -> Option<i64> {
        let clock = |key: Key| self.ends.iter().find(|(known, _)| *known == key);
        let ((_, from), (_, to)) = (clock(from)?, clock(to)?);
        from.distance_ns(to)
    }
}

/// What is known of the border between two segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Border {
    /// What their places tell.
    AsPlaced,
    /// Nothing is missing, though they lie so far apart.
    Filled { apart_ns: i64 },
    /// So long before the later one's start, something is.
    Hole { length_ns: i64 },
}

impl Border {
    /// Between a row and the next, given how far apart their time stamps are. `tolerance` is how long a hole may be
    /// that is none, `step` that of names.
    ///
    /// Time stamps that go on without a leap are believed against names that are late, and against names between
    /// which less than half as much was recorded as they are apart: a recorder that counts frames at a rate that is
    /// not theirs. Beyond that it is one that counts none of those that it loses.
    pub fn between(
        row: &Row,
        next: &Row,
        distance_ns: i64,
        tolerance: Duration,
        step: Duration,
    ) -> Border {
        let (tolerance_ns, step_ns, jitter_ns) = (nanos(tolerance), nanos(step), nanos(JITTER));
        let apart_ns = next.start().nanos_from(row.range().end());
        let believed_ns = jitter_ns.max(nanos(row.duration()) / 2).saturating_add(step_ns);
        if distance_ns.abs() <= tolerance_ns {
            let counts = tolerance_ns < apart_ns && apart_ns <= believed_ns;
            return if counts { Border::Filled { apart_ns } } else { Border::AsPlaced };
        }
        let agree = distance_ns.abs_diff(apart_ns) <= (step_ns + jitter_ns).unsigned_abs();
        if distance_ns > tolerance_ns && agree {
            return Border::Hole { length_ns: distance_ns };
        }
        Border::AsPlaced
    }

    /// The hole behind a row, from its start on.
    pub fn behind(self, row: &Row, next: &Row) -> Option<Hole> {
        let Border::Hole { length_ns } = self else { return None };
        let end_ns = next.start().nanos_from(row.start());
        let start_ns = end_ns.saturating_sub(length_ns);
        Some(Hole { start: MediaTime(start_ns), end: MediaTime(end_ns) })
    }

    pub fn filled_ns(self) -> i64 {
        if let Border::Filled { apart_ns } = self { apart_ns } else { 0 }
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::table::tests::{insert_at, rows};

    const TOLERANCE: Duration = Duration::from_millis(500);
    const SECOND_NS: i64 = 1_000_000_000;

    /// Of a segment that lasts from 0 to 60 s and one from there on that is told, both in milliseconds.
    fn border(next_ms: i64, distance_ms: i64, step: Duration) -> Border {
        let mut rows = rows();
        insert_at(&mut rows, 0, 60, |_| {});
        insert_at(&mut rows, 100, 160, |row| {
            let start = crate::time::Timestamp::from_nanos(next_ms * 1_000_000);
            row.place(crate::segment::Placement { start, ..row.placement() });
        });
        let [row, next] = *rows.iter().collect::<Vec<_>>() else { panic!("two rows") };
        Border::between(row, next, distance_ms * 1_000_000, TOLERANCE, step)
    }

    #[test]
    fn time_stamps_that_go_on_fill_what_names_leave_open() {
        let filled = |apart_ms: i64| Border::Filled { apart_ns: apart_ms * 1_000_000 };
        for (next_ms, distance_ms, expected) in [
            (60_000, 0, Border::AsPlaced),
            (60_500, 0, Border::AsPlaced),
            (60_501, 0, filled(501)),
            (61_800, -80, filled(1_800)),
            // Twelve seconds of each minute, by a recorder that counts 20 frames as 25.
            (72_000, 40, filled(12_000)),
            (90_000, 0, filled(30_000)),
            // A recorder that does not count the frames that it loses.
            (90_001, 0, Border::AsPlaced),
            (105_000, 0, Border::AsPlaced),
        ] {
            assert_eq!(border(next_ms, distance_ms, Duration::ZERO), expected, "{next_ms}");
        }
    }

    #[test]
    fn time_stamps_that_leap_as_names_do_prove_a_hole() {
        let hole = |length_ms: i64| Border::Hole { length_ns: length_ms * 1_000_000 };
        let second = Duration::from_secs(1);
        for (next_ms, distance_ms, expected) in [
            (60_000, 1_000, hole(1_000)),
            (61_999, 1_000, hole(1_000)),
            (60_000, 500, Border::AsPlaced),
            (105_000, 45_000, hole(45_000)),
            // Another clock: the recorder was started anew, or each file begins at zero.
            (60_000, 45_000, Border::AsPlaced),
            (105_000, 10_000, Border::AsPlaced),
            (60_000, -60_000, Border::AsPlaced),
        ] {
            assert_eq!(border(next_ms, distance_ms, second), expected, "{next_ms} {distance_ms}");
        }
    }

    #[test]
    fn a_clock_that_wraps_goes_on() {
        let clock = |begins_s: i64, ends_s: i64| {
            FileClock::of(begins_s * SECOND_NS, ends_s * SECOND_NS, true)
        };
        let distance = clock(95_400, 95_440).distance_ns(&clock(1, 41)).unwrap();
        assert!((distance - 4_717_000_000).abs() < 1_000_000, "{distance}");
        let other = FileClock::of(0, SECOND_NS, false);
        assert_eq!(clock(0, 10).distance_ns(&other), None);
    }

    #[test]
    fn only_segments_that_were_read_lately_are_compared() {
        let key = |number: u32| Key { named: Default::default(), counter: number, short_id: 0 };
        let mut runs = Runs::default();
        for number in 0..100 {
            let begins_ns = i64::from(number) * SECOND_NS;
            runs.note(key(number), FileClock::of(begins_ns, begins_ns + SECOND_NS, false));
        }
        assert_eq!(runs.distance_ns(key(98), key(99)), Some(0));
        assert_eq!(runs.distance_ns(key(97), key(99)), Some(SECOND_NS));
        assert_eq!(runs.distance_ns(key(10), key(11)), None);
    }
}
