//! The moving horizon: when a given instant of a stream will be overwritten on its card.
//!
//! Pure, and no more than a reckoning from the device's own word ([`Overwriting`]) and from what it holds. A
//! recorder that works in a ring deletes footage, not time: a hole takes no room on a card, and the horizon
//! leaps over it. It must never trust a number from the wire further than to be wrong by it.

use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::{TimeRange, Timestamp};

use protocol::message::Overwriting;

/// How the horizon of one stream moves over the footage that is held now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Horizon {
    at: Timestamp,
    overwriting: Overwriting,
    /// What is held from the horizon on, oldest first.
    held: Vec<Held>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Held {
    range: TimeRange,
    /// Nanoseconds of footage between the horizon and this range.
    before_ns: u64,
}

impl Horizon {
    /// `at` is the oldest instant that the card still holds, `held` what it holds. One pass over `held`.
    pub fn new(at: Timestamp, overwriting: Overwriting, held: &Coverage) -> Self {
        let mut before_ns = 0_u64;
        let from_horizon = TimeRange::new(at, Timestamp::MAX).into_iter();
        let clipped = from_horizon.flat_map(|window| held.clip(window));
        let held = clipped.map(|range| {
            let held = Held { range, before_ns };
            before_ns = before_ns.saturating_add(nanos(range));
            held
        });
        Horizon { at, overwriting, held: held.collect() }
    }

    /// When the instant `at` is expected to go, on the clock by which footage is placed; of an instant that is
    /// not held, when all before it will be gone. `None` where the horizon does not move.
    ///
    /// It never says later than what it rests on: what is rounded is rounded down.
    pub fn goes_at(&self, at: Timestamp) -> Option<Timestamp> {
        let speed = self.speed()?;
        let wait_ns = u128::from(self.footage_before(at)) * 1_000 / speed;
        let wait_ns = i64::try_from(wait_ns).unwrap_or(i64::MAX);
        Some(self.overwriting.horizon_goes_at.saturating_offset(wait_ns))
    }

    /// Where the horizon will be at `when`: the first instant that is still held then. The end of what is held
    /// now where all of it will be gone. `None` where the horizon does not move, or nothing is held.
    pub fn lost_by(&self, when: Timestamp) -> Option<Timestamp> {
        let speed = self.speed()?;
        let moving = when.since(self.overwriting.horizon_goes_at).as_nanos();
        let lost_ns = u64::try_from(moving.saturating_mul(speed) / 1_000).unwrap_or(u64::MAX);
        let reached = self.held.partition_point(|held| held.before_ns <= lost_ns);
        let held = self.held.get(reached.checked_sub(1)?)?;
        let within = lost_ns - held.before_ns;
        if within < nanos(held.range) {
            let within = i64::try_from(within).unwrap_or(i64::MAX);
            return Some(held.range.start().saturating_offset(within));
        }
        Some(held.range.end())
    }

    /// The oldest instant held now.
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    fn speed(&self) -> Option<u128> {
        Some(u128::from(self.overwriting.horizon_ms_per_second)).filter(|speed| *speed > 0)
    }

    /// Nanoseconds of footage held between the horizon and `at`.
    fn footage_before(&self, at: Timestamp) -> u64 {
        let begun = self.held.partition_point(|held| held.range.start() < at);
        let Some(held) = begun.checked_sub(1).and_then(|last| self.held.get(last)) else {
            return 0;
        };
        let within = at.min(held.range.end()).since(held.range.start()).as_nanos();
        held.before_ns.saturating_add(u64::try_from(within).unwrap_or(u64::MAX))
    }
}

fn nanos(range: TimeRange) -> u64 {
    u64::try_from(range.duration().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::examples::{at, seconds};

    /// The oldest instant goes at 10,000 s.
    fn moving(speed: u32, held: &[(i64, i64)]) -> Horizon {
        let held: Coverage = held.iter().map(|(start, end)| seconds(*start, *end)).collect();
        let overwriting = Overwriting { horizon_goes_at: at(10_000), horizon_ms_per_second: speed };
        let horizon = held.hull().map_or(at(0), |hull| hull.start());
        Horizon::new(horizon, overwriting, &held)
    }

    #[test]
    fn a_ring_that_is_recorded_to_all_the_time_loses_a_second_in_a_second() {
        let horizon = moving(1_000, &[(100, 400)]);
        assert_eq!(horizon.goes_at(at(100)), Some(at(10_000)));
        assert_eq!(horizon.goes_at(at(160)), Some(at(10_060)));
        assert_eq!(horizon.lost_by(at(10_060)), Some(at(160)));
    }

    #[test]
    fn a_hole_takes_no_time_to_be_overwritten() {
        let horizon = moving(500, &[(100, 200), (1_000, 1_100)]);
        assert_eq!(horizon.goes_at(at(200)), Some(at(10_200)));
        assert_eq!(horizon.goes_at(at(600)), Some(at(10_200)));
        assert_eq!(horizon.goes_at(at(1_000)), Some(at(10_200)));
        assert_eq!(horizon.goes_at(at(1_050)), Some(at(10_300)));
        assert_eq!(horizon.lost_by(at(10_198)), Some(at(199)));
        assert_eq!(horizon.lost_by(at(10_200)), Some(at(1_000)));
    }

    #[test]
    fn before_the_horizon_moves_nothing_is_lost_and_at_the_end_all_of_it() {
        let horizon = moving(1_000, &[(100, 200)]);
        assert_eq!(horizon.lost_by(at(0)), Some(at(100)));
        assert_eq!(horizon.lost_by(at(10_000)), Some(at(100)));
        assert_eq!(horizon.lost_by(at(99_999)), Some(at(200)));
        assert_eq!(horizon.goes_at(at(50)), Some(at(10_000)));
        assert_eq!(horizon.goes_at(at(5_000)), Some(at(10_100)));
    }

    #[test]
    fn footage_that_is_listed_before_the_horizon_is_not_waited_for() {
        let overwriting = Overwriting { horizon_goes_at: at(10_000), horizon_ms_per_second: 1_000 };
        let horizon = Horizon::new(at(150), overwriting, &seconds(100, 400).into());
        assert_eq!(horizon.goes_at(at(160)), Some(at(10_010)));
    }

    #[test]
    fn a_horizon_that_stands_still_says_nothing() {
        let horizon = moving(0, &[(100, 200)]);
        assert_eq!((horizon.goes_at(at(150)), horizon.lost_by(at(20_000))), (None, None));
    }

    #[test]
    fn a_card_that_holds_nothing_loses_nothing() {
        let horizon = moving(1_000, &[]);
        assert_eq!(horizon.lost_by(at(20_000)), None);
        assert_eq!(horizon.goes_at(at(150)), Some(at(10_000)));
    }

    fn coverage() -> impl Strategy<Value = Coverage> {
        vec((0..100_000_i64, 1..5_000_i64), 1..40)
            .prop_map(|ranges| ranges.iter().map(|(s, length)| seconds(*s, s + length)).collect())
    }

    proptest! {
        #[test]
        fn the_two_questions_answer_each_other(
            held in coverage(), speed in 1..5_000_u32, pick in 0..100_000_i64,
        ) {
            let hull = held.hull().unwrap();
            let overwriting =
                Overwriting { horizon_goes_at: at(200_000), horizon_ms_per_second: speed };
            let horizon = Horizon::new(hull.start(), overwriting, &held);
            let goes_at = horizon.goes_at(at(pick)).unwrap();
            let lost = horizon.lost_by(goes_at).unwrap();
            // All before it is gone, to the nanosecond that rounding by the speed costs.
            let rest = TimeRange::new(lost, at(pick)).map(|range| held.clip(range).total());
            prop_assert!(rest.unwrap_or_default().as_nanos() <= 1 + u128::from(speed) / 1_000);
            prop_assert!(lost <= at(pick) || held.clip(TimeRange::new(at(pick), lost).unwrap()).is_empty()
                || !held.contains(at(pick)));
        }

        #[test]
        fn later_footage_never_goes_earlier(
            held in coverage(), speed in 1..5_000_u32, (a, b) in (0..100_000_i64, 0..100_000_i64),
        ) {
            let overwriting =
                Overwriting { horizon_goes_at: at(200_000), horizon_ms_per_second: speed };
            let horizon = Horizon::new(held.hull().unwrap().start(), overwriting, &held);
            prop_assert!(horizon.goes_at(at(a.min(b))) <= horizon.goes_at(at(a.max(b))));
            prop_assert!(horizon.lost_by(at(200_000 + a.min(b))) <= horizon.lost_by(at(200_000 + a.max(b))));
        }

        #[test]
        fn no_word_from_the_wire_makes_it_fail(
            numbers in any::<[i64; 4]>(), speed in any::<u32>(), ranges in vec(any::<(i64, i64)>(), 0..8),
        ) {
            let [horizon, goes_at, asked, when] = numbers.map(Timestamp::from_nanos);
            let held: Coverage = ranges
                .iter()
                .filter_map(|(a, b)| TimeRange::new(Timestamp::from_nanos(*a), Timestamp::from_nanos(*b)))
                .collect();
            let overwriting = Overwriting { horizon_goes_at: goes_at, horizon_ms_per_second: speed };
            let horizon = Horizon::new(horizon, overwriting, &held);
            let (goes, lost) = (horizon.goes_at(asked), horizon.lost_by(when));
            prop_assert_eq!(goes.is_none(), speed == 0);
            prop_assert!(goes.is_none_or(|goes| goes >= goes_at));
            prop_assert!(lost.is_none_or(|lost| lost >= horizon.at()));
        }
    }
}
