//! What is told from equal frames, and what is not.

use super::*;
use crate::seam::meeting::Edge;
use crate::seam::worlds::{
    Fate, OFFSET_NS, STEP_NS, Scene, World, arrived, on_card, stream, world,
};
use proptest::prelude::*;

const NEAR: Expected = Expected { offset_ns: OFFSET_NS, uncertainty_ns: 400_000_000 };

fn aligned(
    scenes: &[Scene],
    live: std::ops::Range<usize>,
    card: std::ops::Range<usize>,
    expected: Expected,
) -> Result<Vec<(usize, usize)>, NoMatch> {
    let stream = stream(scenes, 10);
    let (live, _) = arrived(&stream, live, |_| Fate::Whole, |_| 0);
    align(&live, &on_card(&stream, card), &expected).map(|alignment| alignment.pairs)
}

fn counted(live: usize, card: usize, length: usize) -> Vec<(usize, usize)> {
    (0..length).map(|step| (live + step, card + step)).collect()
}

#[test]
fn footage_that_moves_is_found_however_far_the_clocks_are_apart() {
    let hours = Expected { offset_ns: 0, uncertainty_ns: 7_200_000_000_000 };
    for expected in [NEAR, hours] {
        let pairs = aligned(&[Scene::Moving { frames: 100 }], 0..57, 50..100, expected);
        assert_eq!(pairs, Ok(counted(50, 0, 7)));
    }
}

#[test]
fn frames_of_another_encoder_are_none_of_the_cards() {
    let scenes = [Scene::Moving { frames: 40 }, Scene::Moving { frames: 40 }];
    let wide = Expected { uncertainty_ns: 10_000_000_000, ..NEAR };
    assert_eq!(aligned(&scenes, 0..40, 40..80, wide), Err(NoMatch::NothingEqual));
    assert_eq!(aligned(&scenes, 0..0, 40..80, wide), Err(NoMatch::NothingEqual));
}

#[test]
fn a_picture_that_stands_still_is_refused_once_the_clocks_allow_for_two_places() {
    let still = [Scene::Still { groups: 12 }];
    let wide = Expected { uncertainty_ns: 500_000_000, ..NEAR };
    assert_eq!(aligned(&still, 0..57, 0..120, wide), Err(NoMatch::Ambiguous));
    assert_eq!(aligned(&still, 15..57, 0..120, NEAR_ENOUGH), Ok(counted(0, 15, 42)));
}

/// Less than a group of pictures of ten frames.
const NEAR_ENOUGH: Expected = Expected { offset_ns: OFFSET_NS, uncertainty_ns: 190_000_000 };

#[test]
fn a_plain_picture_whose_twin_may_lie_outside_of_what_was_read_is_refused() {
    let still = [Scene::Still { groups: 12 }];
    // The piece begins at frame 50: where frame 52 belongs, clocks let it lie before.
    assert_eq!(aligned(&still, 0..53, 50..120, NEAR_ENOUGH), Err(NoMatch::OutOfReach));
}

#[test]
fn two_equal_frames_in_a_row_are_too_few() {
    let scenes = [Scene::Moving { frames: 100 }];
    assert_eq!(aligned(&scenes, 0..52, 50..100, NEAR), Err(NoMatch::TooFew));
    assert_eq!(aligned(&scenes, 0..53, 50..100, NEAR), Ok(counted(50, 0, 3)));
}

#[test]
fn one_frame_of_three_slices_is_enough_where_the_clocks_are_exact() {
    let stream = stream(&[Scene::Moving { frames: 100 }], 10);
    let sliced = |mut frames: Vec<Frame>| {
        frames.iter_mut().for_each(|frame| frame.coded.as_mut().unwrap().slices = 3);
        frames
    };
    let (live, _) = arrived(&stream, 60..61, |_| Fate::Whole, |_| 0);
    let card = sliced(on_card(&stream, 40..100));
    assert_eq!(align(&sliced(live), &card, &NEAR).unwrap().pairs, [(0, 20)]);
}

#[test]
fn what_is_still_beside_something_that_moves_is_found_with_it() {
    let scenes =
        [Scene::Still { groups: 3 }, Scene::Moving { frames: 10 }, Scene::Still { groups: 3 }];
    let wide = Expected { uncertainty_ns: 2_000_000_000, ..NEAR };
    assert_eq!(aligned(&scenes, 0..50, 20..70, wide), Ok(counted(20, 0, 30)));
}

#[test]
fn damage_breaks_a_run_and_loss_shifts_the_next() {
    let stream = stream(&[Scene::Moving { frames: 100 }], 10);
    let fates = |at: usize| match at {
        54 => Fate::Altered,
        60 | 61 => Fate::Lost,
        66 => Fate::Unreadable,
        _ => Fate::Whole,
    };
    let (live, _) = arrived(&stream, 40..72, fates, |_| 0);
    let pairs = align(&live, &on_card(&stream, 50..100), &NEAR).unwrap().pairs;
    let expected = [counted(10, 0, 4), counted(15, 5, 5), counted(20, 12, 4), counted(25, 17, 5)];
    assert_eq!(pairs, expected.concat());
}

#[test]
fn places_that_contradict_each_other_in_order_refute_each_other() {
    let stream = stream(&[Scene::Moving { frames: 100 }], 10);
    let (live, _) = arrived(&stream, 50..70, |_| Fate::Whole, |_| 0);
    let swapped = [&live[10..], &live[..10]].concat();
    let wide = Expected { uncertainty_ns: 5_000_000_000, ..NEAR };
    let outcome = align(&swapped, &on_card(&stream, 50..100), &wide);
    assert_eq!(outcome, Err(NoMatch::Ambiguous));
}

#[test]
fn the_offset_is_the_middle_of_what_frames_say_and_drift_what_it_moves_by() {
    let stream = stream(&[Scene::Moving { frames: 1_000 }], 10);
    // 100 parts in a million fast, and one frame in ten half a second late.
    let late =
        |at: usize| at as i64 * STEP_NS / 10_000 + if at % 10 == 3 { 400_000_000 } else { 0 };
    let found = |live: std::ops::Range<usize>, card: std::ops::Range<usize>| {
        let (live, _) = arrived(&stream, live, |_| Fate::Whole, late);
        let expected = Expected { uncertainty_ns: 500_000_000, ..NEAR };
        align(&live, &on_card(&stream, card), &expected).unwrap()
    };
    let (early, later) = (found(0..60, 20..500), found(900..1_000, 500..960));
    assert!(early.offset.median_ns.abs_diff(OFFSET_NS + 160_000) < 160_000, "{:?}", early.offset);
    assert!(early.offset.error_ns > 300_000_000);
    assert!(early.samples.len() <= MOST_OFFSET_SAMPLES);
    let drift_ppb = drift_ppb(&early.samples, &later.samples).unwrap();
    assert!(drift_ppb.abs_diff(100_000) < 3_000, "{drift_ppb}");
    assert_eq!(super::drift_ppb(&early.samples, &early.samples), None);
}

/// Whatever is claimed to be equal is, in order, and where the stream shows it but once it is that frame.
fn assert_true(world: &World) -> Result<(), TestCaseError> {
    let World { stream, live, sources, card, card_from, expected } = world;
    let Ok(alignment) = align(live, card, expected) else { return Ok(()) };
    prop_assert!(!alignment.pairs.is_empty());
    prop_assert!(alignment.pairs.is_sorted_by(|one, next| one.0 < next.0 && one.1 < next.1));
    for &(at, on) in &alignment.pairs {
        prop_assert_eq!(live[at].coded, card[on].coded);
        let (is, said) = (sources[at], card_from + on);
        let twins = stream.iter().filter(|other| other.shows == stream[is].shows).count();
        prop_assert!(is == said || twins > 1, "frame {} of the stream taken for {}", is, said);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_frame_that_is_shown_once_is_taken_for_another(
        before in world(Edge::Opening),
        behind in world(Edge::Closing),
    ) {
        assert_true(&before)?;
        assert_true(&behind)?;
    }

    #[test]
    fn three_whole_frames_in_a_row_that_show_themselves_but_once_are_found(
        world in world(Edge::Opening),
    ) {
        let World { stream, live, sources, card, card_from, expected } = &world;
        let shown_once = |at: usize| {
            let picture = stream[at];
            picture.bytes >= DISTINCTIVE_BYTES
                && stream.iter().filter(|other| other.shows == picture.shows).count() == 1
        };
        let whole = |at: &usize| {
            let (source, coded) = (sources[*at], live[*at].coded);
            (*card_from..card_from + card.len()).contains(&source)
                && coded.is_some_and(|coded| coded.fingerprint == stream[source].shows)
                && shown_once(source)
        };
        let places: Vec<usize> = (0..live.len()).filter(whole).collect();
        let in_a_row = places.windows(3).any(|three| {
            three[2] == three[0] + 2 && sources[three[2]] == sources[three[0]] + 2
        });
        if in_a_row {
            prop_assert!(align(live, card, expected).is_ok());
        }
    }
}
