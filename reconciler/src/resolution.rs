//! A timeline as coarsely as it is looked at: a month on a thousand pixels is a small answer.
//!
//! Pure, and hides nothing: what is shorter than the resolution is united with its neighbours under the worst of
//! their states, and how long each state lasts is told beside it.
//!
//! Time is divided into cells of the resolution's length, counted from 1970, so that what is united does not depend
//! on where a question begins, and a picture does not flicker while it is moved. Stretches that are shorter than a
//! cell and begin in the same one are united, as far as no longer one lies between them. So of a range of `n` cells
//! come at most `2 n + 3` stretches, however many there are.

use std::iter::Peekable;
use std::time::Duration;

use sdcard_indexer::time::TimeRange;

use crate::tally::{StateWord, Tally};
use crate::timeline::{Recorder, State, Stretch};

/// One stretch, or several that are told as one.
#[derive(Clone, PartialEq, Debug)]
pub struct Coarse {
    /// From the first beginning to the last end. Where less is told of in `united`, the rest was not to be recorded.
    pub range: TimeRange,
    /// The worst of its states, with its details.
    pub state: State,
    /// How long each state lasts, where several stretches were united.
    pub united: Option<Tally>,
}

/// The part of each stretch that lies in `window`, oldest first; found by halving, not by looking through.
pub fn within<'a>(
    stretches: &'a [Stretch],
    window: TimeRange,
) -> impl DoubleEndedIterator<Item = (TimeRange, &'a State)> + use<'a> {
    let first = stretches.partition_point(|stretch| stretch.range.end() <= window.start());
    let behind = stretches.partition_point(|stretch| stretch.range.start() < window.end());
    let within = stretches.get(first..behind).unwrap_or_default().iter();
    within.filter_map(move |one| Some((one.range.intersection(&window)?, &one.state)))
}

/// Unites what is shorter than `resolution`; nothing where that is zero. `stretches` in the order of time.
pub fn coarsen<'a, I>(stretches: I, resolution: Duration) -> Coarsened<'a, I::IntoIter>
where
    I: IntoIterator<Item = (TimeRange, &'a State)>,
{
    Coarsened { stretches: stretches.into_iter().peekable(), resolution }
}

/// See [`coarsen`].
#[derive(Debug)]
pub struct Coarsened<'a, I: Iterator<Item = (TimeRange, &'a State)>> {
    stretches: Peekable<I>,
    resolution: Duration,
}

impl<'a, I: Iterator<Item = (TimeRange, &'a State)>> Iterator for Coarsened<'a, I> {
    type Item = Coarse;

    fn next(&mut self) -> Option<Coarse> {
        let (mut range, mut worst) = self.stretches.next()?;
        let Some(cell) = self.cell(range) else {
            return Some(Coarse { range, state: worst.clone(), united: None });
        };
        let mut tally = Tally::default();
        tally.add(StateWord::of(worst), range.duration());
        let mut is_united = false;
        while let Some((next, state)) = self.stretches.peek().copied()
            && self.cell(next) == Some(cell)
        {
            self.stretches.next();
            range = range.hull(&next);
            tally.add(StateWord::of(state), next.duration());
            if severity(state) > severity(worst) {
                worst = state;
            }
            is_united = true;
        }
        Some(Coarse { range, state: worst.clone(), united: is_united.then_some(tally) })
    }
}

impl<'a, I: Iterator<Item = (TimeRange, &'a State)>> Coarsened<'a, I> {
    /// Where a stretch begins, if it is short enough to be united with others.
    fn cell(&self, range: TimeRange) -> Option<i64> {
        let nanos = i64::try_from(self.resolution.as_nanos()).unwrap_or(i64::MAX);
        (range.duration() < self.resolution).then(|| range.start().as_nanos().div_euclid(nanos))
    }
}

/// Of two stretches in the same state, the one from the card, and the one that is known less exactly, counts.
fn severity(state: &State) -> (std::cmp::Reverse<StateWord>, bool, u64) {
    let (is_edge, uncertainty_ns) = match state {
        State::Archived { by, uncertainty_ns, .. } => (*by == Recorder::Edge, *uncertainty_ns),
        _ => (false, 0),
    };
    (std::cmp::Reverse(StateWord::of(state)), is_edge, uncertainty_ns)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sdcard_indexer::time::Timestamp;

    use super::*;
    use crate::examples::seconds;
    use crate::timeline::Proof;

    fn state() -> impl Strategy<Value = State> {
        let archived = |by| State::Archived { by, proof: Proof::None, uncertainty_ns: 0 };
        prop_oneof![
            Just(archived(Recorder::Live)),
            Just(archived(Recorder::Edge)),
            Just(State::Missing),
            Just(State::Pending),
            Just(State::Transferring),
            "[a-b]".prop_map(|cause| State::NeverRecorded { cause }),
            "[a-b]".prop_map(|cause| State::Overwritten { cause }),
            "[a-b]".prop_map(|reason| State::Failed { reason }),
        ]
    }

    /// Stretches in their order, some of them with something between them that nobody expects; in milliseconds.
    fn timeline() -> impl Strategy<Value = Vec<Stretch>> {
        let one = (prop_oneof![9 => Just(0_i64), 1 => 1..20_000_i64], 1..9_000_i64, state());
        (-50_000..50_000_i64, prop::collection::vec(one, 0..60)).prop_map(|(start, ones)| {
            let mut at = start;
            let millis = |millis: i64| Timestamp::from_nanos(millis * 1_000_000);
            let stretch = |(pause, length, state)| {
                let begins = at + pause;
                at = begins + length;
                Stretch { range: TimeRange::new(millis(begins), millis(at)).unwrap(), state }
            };
            ones.into_iter().map(stretch).collect()
        })
    }

    fn all(stretches: &[Stretch]) -> impl Iterator<Item = (TimeRange, &State)> {
        within(stretches, TimeRange::ALWAYS)
    }

    proptest! {
        #[test]
        fn no_instant_is_lost_and_none_is_told_twice(
            stretches in timeline(),
            millis in 0..30_000_u64,
        ) {
            let coarse: Vec<Coarse> = coarsen(all(&stretches), Duration::from_millis(millis)).collect();
            for pair in coarse.windows(2) {
                prop_assert!(pair[0].range.end() <= pair[1].range.start());
            }
            let mut sums = Tally::default();
            for one in &coarse {
                let of_one = one.united.unwrap_or_else(|| {
                    let mut alone = Tally::default();
                    alone.add(StateWord::of(&one.state), one.range.duration());
                    alone
                });
                prop_assert!(of_one.total() <= one.range.duration());
                sums = sums.and(&of_one);
            }
            prop_assert_eq!(sums, Tally::of(&stretches));
            for stretch in &stretches {
                let holds = |one: &&Coarse| one.range.intersection(&stretch.range) == Some(stretch.range);
                prop_assert_eq!(coarse.iter().filter(holds).count(), 1);
            }
        }

        #[test]
        fn the_worst_state_is_told_and_what_is_long_enough_is_left_as_it_is(
            stretches in timeline(),
            millis in 0..30_000_u64,
        ) {
            let resolution = Duration::from_millis(millis);
            for one in coarsen(all(&stretches), resolution) {
                let of_one: Vec<&Stretch> =
                    stretches.iter().filter(|stretch| stretch.range.overlaps(&one.range)).collect();
                let worst = of_one.iter().map(|stretch| StateWord::of(&stretch.state)).min();
                prop_assert_eq!(worst, Some(StateWord::of(&one.state)));
                prop_assert!(of_one.iter().any(|stretch| stretch.state == one.state));
                prop_assert_eq!(one.united.is_some(), of_one.len() > 1);
                let is_long = |stretch: &&&Stretch| stretch.range.duration() >= resolution;
                prop_assert!(of_one.len() == 1 || of_one.iter().find(is_long).is_none());
            }
        }

        #[test]
        fn an_answer_is_small_however_many_stretches_there_are(
            stretches in timeline(),
            millis in 1..30_000_u64,
        ) {
            let resolution = Duration::from_millis(millis);
            let (Some(first), Some(last)) = (stretches.first(), stretches.last()) else { return Ok(()) };
            let cells = first.range.hull(&last.range).duration().as_millis() / u128::from(millis);
            let told = coarsen(all(&stretches), resolution).count();
            prop_assert!(told as u128 <= 2 * cells + 3, "{told} of {cells} cells");
        }

        #[test]
        fn pages_that_follow_on_each_other_are_the_same_as_one(
            stretches in timeline(),
            millis in 0..30_000_u64,
            limit in 1..5_usize,
        ) {
            let resolution = Duration::from_millis(millis);
            let whole: Vec<Coarse> = coarsen(all(&stretches), resolution).collect();
            let (mut paged, mut after) = (Vec::new(), Timestamp::MIN);
            loop {
                let window = TimeRange::new(after, Timestamp::MAX).unwrap();
                let page: Vec<Coarse> =
                    coarsen(within(&stretches, window), resolution).take(limit).collect();
                let Some(last) = page.last() else { break };
                after = last.range.end();
                paged.extend(page);
            }
            prop_assert_eq!(paged, whole);
        }

        #[test]
        fn a_window_is_found_as_if_everything_had_been_looked_at(
            stretches in timeline(),
            start in -60_000..300_000_i64,
            length in 0..100_000_i64,
        ) {
            let millis = |millis: i64| Timestamp::from_nanos(millis * 1_000_000);
            let window = TimeRange::new(millis(start), millis(start + length)).unwrap();
            let found: Vec<(TimeRange, &State)> = within(&stretches, window).collect();
            let looked = stretches.iter();
            let looked = looked.filter_map(|s| Some((s.range.intersection(&window)?, &s.state)));
            prop_assert_eq!(found, looked.collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_short_hole_between_long_stretches_keeps_its_exact_place() {
        let live = State::Archived { by: Recorder::Live, proof: Proof::None, uncertainty_ns: 0 };
        let stretches = [
            Stretch { range: seconds(0, 40_000), state: live.clone() },
            Stretch { range: seconds(40_000, 40_045), state: State::Missing },
            Stretch { range: seconds(40_045, 90_000), state: live },
        ];
        let coarse: Vec<Coarse> = coarsen(all(&stretches), Duration::from_secs(2_592)).collect();
        assert_eq!(coarse.len(), 3);
        assert_eq!((coarse[1].range, &coarse[1].united), (seconds(40_000, 40_045), &None));
    }

    #[test]
    fn of_what_is_archived_that_from_the_card_is_told() {
        let archived = |by| State::Archived { by, proof: Proof::Digest, uncertainty_ns: 0 };
        let stretches = [
            Stretch { range: seconds(0, 2), state: archived(Recorder::Live) },
            Stretch { range: seconds(2, 3), state: archived(Recorder::Edge) },
            Stretch { range: seconds(3, 5), state: archived(Recorder::Live) },
        ];
        let [one] = coarsen(all(&stretches), Duration::from_secs(60)).collect::<Vec<_>>()[..]
            .to_vec()
            .try_into()
            .unwrap();
        assert_eq!(one.state, archived(Recorder::Edge));
        assert!(one.united.unwrap().is_archived());
    }
}
