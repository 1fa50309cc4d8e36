//! The algebra of coverage against a model that cannot be wrong: the set of the covered nanoseconds.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what builds a test's cases fails as the test does"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::{TimeRange, Timestamp};

/// Instants lie in `0..WORLD`, so that ranges touch, nest and coincide often.
const WORLD: i64 = 48;

type Model = BTreeSet<i64>;

fn range(start: i64, end: i64) -> TimeRange {
    TimeRange::new(Timestamp::from_nanos(start), Timestamp::from_nanos(end)).unwrap()
}

fn instants(range: TimeRange) -> impl Iterator<Item = i64> {
    range.start().as_nanos()..range.end().as_nanos()
}

fn model(ranges: &[TimeRange]) -> Model {
    ranges.iter().copied().flat_map(instants).collect()
}

fn any_range() -> impl Strategy<Value = TimeRange> {
    (0..WORLD, 0..WORLD / 3).prop_map(|(start, length)| range(start, (start + length).min(WORLD)))
}

fn any_ranges() -> impl Strategy<Value = Vec<TimeRange>> {
    prop::collection::vec(any_range(), 0..8)
}

/// The coverage is in normal form and holds exactly the model's instants.
fn check(coverage: &Coverage, expected: &Model) -> Result<(), TestCaseError> {
    prop_assert!(coverage.ranges().iter().all(|range| !range.is_empty()));
    prop_assert!(coverage.ranges().windows(2).all(|pair| pair[0].end() < pair[1].start()));
    prop_assert_eq!(&model(coverage.ranges()), expected);
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Insert(TimeRange),
    Remove(TimeRange),
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![any_range().prop_map(Change::Insert), any_range().prop_map(Change::Remove)]
}

proptest! {
    #[test]
    fn inserting_and_removing_change_just_the_range(
        changes in prop::collection::vec(any_change(), 0..40),
    ) {
        let (mut coverage, mut expected) = (Coverage::new(), Model::new());
        for change in changes {
            match change {
                Change::Insert(range) => {
                    coverage.insert(range);
                    expected.extend(instants(range));
                }
                Change::Remove(range) => {
                    coverage.remove(range);
                    expected.retain(|instant| !range.contains(Timestamp::from_nanos(*instant)));
                }
            }
            check(&coverage, &expected)?;
        }
    }

    #[test]
    fn collecting_accepts_any_order_and_overlap(ranges in any_ranges()) {
        check(&ranges.iter().copied().collect(), &model(&ranges))?;
    }

    #[test]
    fn sets_combine_as_sets(left in any_ranges(), right in any_ranges()) {
        let (a, b) = (model(&left), model(&right));
        let (left, right) = (Coverage::from(left), Coverage::from(right));
        check(&left.union(&right), &(&a | &b))?;
        check(&left.intersection(&right), &(&a & &b))?;
        check(&left.difference(&right), &(&a - &b))?;
    }

    /// One of the two is long, so that what lies between the ranges of the other is leapt over.
    #[test]
    fn a_few_ranges_combine_with_many(
        many in prop::collection::vec(any::<bool>(), 10 * WORLD as usize),
        few in prop::collection::vec((0..10 * WORLD, 0..3 * WORLD), 0..4),
    ) {
        let instant = |(at, held): (usize, &bool)| held.then(|| range(at as i64, at as i64 + 1));
        let many: Vec<_> = many.iter().enumerate().filter_map(instant).collect();
        let few: Vec<_> = few.iter().map(|(start, length)| range(*start, start + length)).collect();
        let (a, b) = (model(&many), model(&few));
        let (many, few) = (Coverage::from(many), Coverage::from(few));
        check(&many.union(&few), &(&a | &b))?;
        check(&many.intersection(&few), &(&a & &b))?;
        check(&few.intersection(&many), &(&a & &b))?;
        check(&many.difference(&few), &(&a - &b))?;
        check(&few.difference(&many), &(&b - &a))?;
    }

    #[test]
    fn extending_is_a_union(ranges in any_ranges(), more in any_ranges()) {
        let expected = &model(&ranges) | &model(&more);
        let mut coverage = Coverage::from(ranges);
        coverage.extend(more);
        check(&coverage, &expected)?;
    }

    #[test]
    fn gaps_and_clip_split_a_window_between_them(ranges in any_ranges(), window in any_range()) {
        let (held, asked) = (model(&ranges), model(&[window]));
        let coverage = Coverage::from(ranges);
        check(&coverage.clip(window), &(&held & &asked))?;
        check(&coverage.gaps(window), &(&asked - &held))?;
    }

    #[test]
    fn questions_are_answered_as_the_set_would(ranges in any_ranges(), asked in any_range()) {
        let held = model(&ranges);
        let coverage = Coverage::from(ranges);
        for instant in -1..=WORLD {
            let contains = coverage.contains(Timestamp::from_nanos(instant));
            prop_assert_eq!(contains, held.contains(&instant));
        }
        prop_assert_eq!(coverage.covers(asked), model(&[asked]).is_subset(&held));
        prop_assert_eq!(coverage.total(), Duration::from_nanos(held.len() as u64));
        prop_assert_eq!(coverage.is_empty(), held.is_empty());
        let hull = held.first().zip(held.last()).map(|(first, last)| range(*first, last + 1));
        prop_assert_eq!(coverage.hull(), hull);
    }

    #[test]
    fn joining_closes_just_the_holes_within_the_tolerance(
        ranges in any_ranges(),
        tolerance in 0..WORLD / 4,
    ) {
        let coverage = Coverage::from(ranges);
        let mut expected = model(coverage.ranges());
        if let Some(hull) = coverage.hull() {
            for hole in coverage.gaps(hull) {
                let closes = hole.duration() <= Duration::from_nanos(tolerance as u64);
                expected.extend(instants(hole).filter(|_| closes));
            }
        }
        check(&coverage.joined(Duration::from_nanos(tolerance as u64)), &expected)?;
    }

    #[test]
    fn slivers_are_dropped_whole(ranges in any_ranges(), shortest in 0..WORLD / 4) {
        let shortest = Duration::from_nanos(shortest as u64);
        let coverage = Coverage::from(ranges);
        let long = |range: &TimeRange| range.duration() > shortest;
        let kept: Vec<TimeRange> = coverage.iter().filter(long).collect();
        check(&coverage.without_slivers(shortest), &model(&kept))?;
    }

    #[test]
    fn a_coverage_survives_its_bytes(ranges in any_ranges()) {
        let coverage = Coverage::from(ranges);
        let bytes = postcard::to_allocvec(&coverage).unwrap();
        prop_assert_eq!(postcard::from_bytes::<Coverage>(&bytes).unwrap(), coverage);
    }

    #[test]
    fn bytes_from_outside_are_normalised_or_refused(
        pairs in prop::collection::vec((0..WORLD, 0..WORLD), 0..8),
    ) {
        let bytes = postcard::to_allocvec(&pairs).unwrap();
        let decoded = postcard::from_bytes::<Coverage>(&bytes);
        if pairs.iter().any(|(start, end)| end < start) {
            prop_assert!(decoded.is_err());
        } else {
            let ranges: Vec<_> = pairs.iter().map(|(start, end)| range(*start, *end)).collect();
            check(&decoded.unwrap(), &model(&ranges))?;
        }
    }
}

#[test]
fn the_ends_of_time_are_ordinary_instants() {
    let always = TimeRange::new(Timestamp::MIN, Timestamp::MAX).unwrap();
    let mut coverage = Coverage::from(always);
    assert_eq!(coverage.total(), Duration::from_nanos(u64::MAX));
    coverage.remove(range(0, 1));
    assert_eq!(coverage.gaps(always), Coverage::from(range(0, 1)));
    assert_eq!(coverage.joined(Duration::MAX), Coverage::from(always));
}
