//! What is played around a handover is the stream: nothing lost, nothing twice, nothing damaged.

use super::*;
use crate::seam::matching::{Expected, align};
use crate::seam::meeting::{Edge, meet};
use crate::seam::worlds::{Fate, OFFSET_NS, Scene, World, arrived, on_card, played, stream, world};
use proptest::prelude::*;

const NEAR: Expected = Expected { offset_ns: OFFSET_NS, uncertainty_ns: 400_000_000 };

/// Frame numbers of the stream: the live recording's, and the card's.
fn handed_over(
    edge: Edge,
    live: std::ops::Range<usize>,
    card: std::ops::Range<usize>,
    fates: impl Fn(usize) -> Fate,
) -> Option<(usize, usize, bool)> {
    let stream = stream(&[Scene::Moving { frames: 200 }], 10);
    let (live, sources) = arrived(&stream, live, fates, |_| 0);
    let on_card = on_card(&stream, card.clone());
    let alignment = align(&live, &on_card, &NEAR).unwrap();
    let found = match edge {
        Edge::Opening => opening(&live, &on_card, &alignment),
        Edge::Closing => closing(&live, &on_card, &alignment),
    }?;
    let (at, on) = (found.live.made_up_number(), found.card.made_up_number());
    let source = sources.get(at).copied().unwrap_or(sources[sources.len() - 1] + 1);
    Some((source, card.start + on, found.to_the_frame))
}

fn whole(_: usize) -> Fate {
    Fate::Whole
}

#[test]
fn the_live_recording_is_played_up_to_the_last_keyframe_before_it_breaks_off() {
    let before =
        |live, fates: &dyn Fn(usize) -> Fate| handed_over(Edge::Opening, live, 50..150, fates);
    assert_eq!(before(0..57, &whole), Some((50, 50, true)));
    assert_eq!(before(0..77, &whole), Some((70, 70, true)));
    assert_eq!(before(0..60, &whole), Some((60, 60, true)), "broken off behind a whole group");
    let lost = |at: usize| if at == 63 { Fate::Lost } else { Fate::Whole };
    assert_eq!(before(0..77, &lost), Some((60, 60, true)), "though whole again from 70 on");
    let damaged = |at: usize| if at == 60 { Fate::Altered } else { Fate::Whole };
    assert_eq!(before(0..77, &damaged), Some((60, 60, true)), "the frame before is known");
}

#[test]
fn a_damaged_first_keyframe_is_known_by_its_time() {
    let damaged = |at: usize| if at == 50 { Fate::Altered } else { Fate::Whole };
    let handed_over =
        |fates: &dyn Fn(usize) -> Fate| handed_over(Edge::Opening, 0..65, 50..150, fates);
    assert_eq!(handed_over(&damaged), Some((50, 50, true)));
    let lost = |at: usize| if at == 50 { Fate::Lost } else { Fate::Whole };
    assert_eq!(
        handed_over(&lost),
        Some((51, 50, true)),
        "what is live ends before it all the same"
    );
}

#[test]
fn the_live_recording_goes_on_at_its_first_keyframe_behind_all_damage() {
    let behind =
        |live, fates: &dyn Fn(usize) -> Fate| handed_over(Edge::Closing, live, 50..150, fates);
    assert_eq!(behind(127..200, &whole), Some((130, 130, true)));
    assert_eq!(behind(130..200, &whole), Some((130, 130, true)));
    let damaged = |at: usize| if at == 134 { Fate::Unreadable } else { Fate::Whole };
    assert_eq!(behind(127..200, &damaged), Some((140, 140, true)));
    assert_eq!(behind(143..200, &whole), Some((150, 150, true)), "the piece is played to its end");
    let last = |at: usize| if at == 149 { Fate::Altered } else { Fate::Whole };
    assert_eq!(
        behind(132..200, &last),
        Some((150, 150, true)),
        "and what follows is known by time"
    );
}

#[test]
fn a_piece_that_ends_within_a_group_is_followed_by_the_frame_behind_it() {
    let found = handed_over(Edge::Closing, 142..200, 50..147, whole);
    assert_eq!(found, Some((147, 147, true)));
}

#[test]
fn a_live_recording_that_lacks_nothing_before_the_piece_ends_is_not_gone_on_with() {
    assert_eq!(handed_over(Edge::Closing, 100..147, 50..150, whole), None);
    assert_eq!(handed_over(Edge::Opening, 52..80, 50..150, whole), None, "nor broken off");
}

#[test]
fn times_of_arrival_do_not_pass_for_frames() {
    let stream = stream(&[Scene::Moving { frames: 200 }], 10);
    let damaged = |at: usize| if at == 50 { Fate::Altered } else { Fate::Whole };
    let late = |at: usize| (at % 7) as i64 * 3_000_000;
    let (live, _) = arrived(&stream, 0..65, damaged, late);
    let meeting = meet(Edge::Opening, &live, &on_card(&stream, 50..150), &NEAR).unwrap();
    assert!(!meeting.handover.to_the_frame);
    assert!(!matches!(meeting.seam(), crate::seam::Seam::Exact { .. }));
}

/// Of pictures that are equal to the one before, byte for byte, nobody can tell whether one was lost.
fn told_apart(mut pictures: Vec<u64>) -> Vec<u64> {
    pictures.dedup();
    pictures
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn an_exact_handover_to_the_card_plays_the_stream(world in world(Edge::Opening)) {
        let World { stream, live, card, card_from, expected, .. } = &world;
        let Ok(meeting) = meet(Edge::Opening, live, card, expected) else { return Ok(()) };
        let Handover { live: until, card: from, to_the_frame, .. } = meeting.handover;
        let (until, from) = (until.made_up_number(), from.made_up_number());
        if to_the_frame {
            let expected: Vec<u64> =
                stream[..card_from + card.len()].iter().map(|picture| picture.shows).collect();
            let shown = played(&live[..until], &card[from..]);
            prop_assert_eq!(told_apart(shown), told_apart(expected));
            prop_assert!(card[from].keyframe);
        }
    }

    #[test]
    fn an_exact_handover_from_the_card_plays_the_stream(world in world(Edge::Closing)) {
        let World { stream, live, card, card_from, expected, .. } = &world;
        let Ok(meeting) = meet(Edge::Closing, live, card, expected) else { return Ok(()) };
        let Handover { live: from, card: until, to_the_frame, .. } = meeting.handover;
        let (from, until) = (from.made_up_number(), until.made_up_number());
        if to_the_frame {
            let expected: Vec<u64> =
                stream[*card_from..].iter().map(|picture| picture.shows).collect();
            let shown = played(&card[..until], &live[from..]);
            prop_assert_eq!(told_apart(shown), told_apart(expected));
        }
    }
}
