//! How fast a card forgets, seen on a real directory.

use std::fs;

use sdcard_indexer::index::Basis;

use crate::card::*;

#[test]
fn a_ring_shows_its_speed_and_when_its_footage_goes_and_knows_both_after_a_restart() {
    let clip = &clips().fragmented;
    let card = Card::with(6, clip);
    let mut index = card.indexed();
    assert_eq!(index.horizon_speed(&main_stream(), later(20)), None);
    let forecast = index.overwritten_at(&main_stream(), at(4), later(20)).unwrap();
    assert!(matches!(forecast.basis, Basis::FreeSpace { .. }), "{forecast:?}");
    assert!(forecast.at > later(20));

    for step in 0..4 {
        card.put(24 + 4 * step, clip);
        fs::remove_file(card.path(4 * step)).unwrap();
        index.sweep(later(30 + 8 * step));
    }
    let expected = |index: &sdcard_indexer::index::Index| {
        let now = later(54);
        let speed = index.horizon_speed(&main_stream(), now).unwrap();
        assert_eq!(speed.per_second(), 0.5);
        let forecast = index.overwritten_at(&main_stream(), at(24), now).unwrap();
        assert_eq!((forecast.at, forecast.basis), (later(54 + 16), Basis::Deletions(speed)));
        assert_eq!(index.overwritten_at(&main_stream(), at(0), now), None);
    };
    expected(&index);
    let mut again = card.open();
    again.sweep(later(54));
    expected(&again);
}

#[test]
fn a_file_that_somebody_deletes_in_the_middle_says_nothing_of_the_horizon() {
    let card = Card::with(6, &clips().fragmented);
    let mut index = card.indexed();
    for number in 1..5 {
        fs::remove_file(card.path(4 * number)).unwrap();
        index.sweep(later(20 + 10 * number));
    }
    assert_eq!(index.horizon_speed(&main_stream(), later(60)), None);
}
