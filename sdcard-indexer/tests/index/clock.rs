//! The index on cards of cameras whose clock is wrong.

use std::fs::{self, File};
use std::io::Write;
use std::time::Duration;

use sdcard_indexer::clock::{Boottime, ClockReading, ClockTrust};
use sdcard_indexer::identity::BootId;
use sdcard_indexer::index::{Basis, Index, IndexConfig, ProblemKind, Sweep};
use sdcard_indexer::time::{TimeRange, Timestamp};
use sdcard_indexer::watch::Hint;

use super::card::*;

const SYNCHRONISED: Option<Duration> = Some(Duration::from_millis(40));

/// A camera in one boot: what its clock showed when it began, which nobody vouches for until it is set.
struct Camera<'c> {
    card: &'c Card,
    index: Index,
    boot: BootId,
    shown: Timestamp,
    synchronised: Option<Duration>,
}

impl<'c> Camera<'c> {
    fn boots(card: &'c Card, boot: u8, shown: Timestamp) -> Self {
        let config = IndexConfig { clock: ClockTrust::Synchronised, ..card.config() };
        let index = Index::open(config).unwrap();
        Camera { card, index, boot: BootId([boot; 16]), shown, synchronised: None }
    }

    fn clock(&self, since_boot_s: i64) -> Timestamp {
        self.shown.saturating_offset(since_boot_s * 1_000_000_000)
    }

    fn observes(&mut self, since_boot_s: i64) -> Option<Sweep> {
        self.index.observe_clock(ClockReading {
            boot: self.boot,
            boottime: Boottime::from_nanos(since_boot_s * 1_000_000_000),
            realtime: self.clock(since_boot_s),
            synchronised: self.synchronised,
        })
    }

    fn looks(&mut self, since_boot_s: i64) -> Sweep {
        self.observes(since_boot_s);
        self.index.sweep(self.clock(since_boot_s))
    }

    /// A clip of 4 s, named by the clock; seen being closed where the agent is told.
    fn records(&mut self, since_boot_s: i64, closed: bool) {
        let path = self.card.root().join(layout().path_for(self.clock(since_boot_s), 0));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(&path).unwrap().write_all(&clips().fragmented).unwrap();
        if closed {
            self.observes(since_boot_s + 4);
            self.observes(since_boot_s + 5);
            let now = self.clock(since_boot_s + 5);
            self.index.refresh(&[Hint::Sealed(path)], now);
        }
    }

    fn is_set(&mut self, since_boot_s: i64, shown: Timestamp) -> Option<Sweep> {
        self.shown = shown;
        self.synchronised = SYNCHRONISED;
        self.observes(since_boot_s)
    }
}

fn assert_holds(index: &Index, starts: &[Timestamp]) {
    let segments = segments(index);
    assert_eq!(segments.len(), starts.len());
    for start in starts {
        let near = |placed: Timestamp, most: Duration| placed.distance(*start) <= most;
        let here = segments.iter().find(|one| near(one.placement.start, one.placement.uncertainty));
        assert!(here.is_some(), "nothing at {start}: {segments:#?}");
        let placement = here.unwrap().placement;
        assert!(placement.uncertainty < Duration::from_secs(4), "{placement:?}");
        let clip = TimeRange::starting_at(placement.start, CLIP);
        assert!(!view(index).held.clip(clip).is_empty());
    }
}

#[test]
fn what_was_recorded_before_the_clock_was_set_is_held_nowhere_until_then_and_in_its_place_after() {
    let card = Card::new();
    let mut camera = Camera::boots(&card, 1, Timestamp::UNIX_EPOCH);
    camera.looks(5);
    (0..3).for_each(|number| camera.records(20 + 4 * number, true));
    assert_eq!(segments(&camera.index).len(), 3);
    let before = view(&camera.index);
    assert!(before.held.is_empty() && before.horizon.is_none(), "{before:?}");
    assert!(before.final_until <= Timestamp::UNIX_EPOCH, "nothing is said never to have been");
    let sweep = camera.is_set(100, at(0)).unwrap();
    let after = view(&camera.index);
    assert_eq!(after.held, range(20, 32).into());
    assert_eq!(sweep.changed, [(main_stream(), range(20, 32))]);
    assert!(after.final_until >= at(32), "{after:?}");
    assert!(after.uncertainty() < Duration::from_secs(2), "{after:?}");
    let located = camera.index.locate(&main_stream(), range(20, 32), &Default::default()).unwrap();
    assert_eq!(located.parts.first().unwrap().range.start(), at(20));
}

#[test]
fn a_file_of_which_it_is_not_known_when_it_was_recorded_is_told_of_once() {
    let card = Card::new();
    let mut camera = Camera::boots(&card, 1, Timestamp::UNIX_EPOCH);
    camera.records(1, false);
    camera.records(20, false);
    let sweep = camera.looks(30);
    let unplaced = |sweep: &Sweep| {
        sweep.problems.iter().filter(|one| matches!(one.kind, ProblemKind::Unplaced)).count()
    };
    assert_eq!(unplaced(&sweep), 1, "the newest is still open: {:?}", sweep.problems);
    assert_eq!(unplaced(&camera.looks(60)), 1);
    assert_eq!(unplaced(&camera.looks(90)), 0);
}

#[test]
fn thirty_body_worn_cameras_that_boot_in_1970_are_whole_once_they_get_the_time_at_the_depot() {
    for number in 0..30 {
        let card = Card::new();
        let mut held = Vec::new();
        for day in 0..2_u8 {
            // At the depot and back: the clock starts anew, so that the names of both days are alike.
            let began = at(i64::from(day) * 50_000 + 100 * number);
            let at_boot = |seconds: i64| began.saturating_offset(seconds * 1_000_000_000);
            let beginning = Timestamp::from_nanos(300_000_000 * i64::from(day));
            let mut camera = Camera::boots(&card, day, beginning);
            // Earlier than a segment is long: what is there now is not of this boot.
            camera.looks(3);
            let starts: Vec<i64> =
                (0..4).map(|count| 10 + number + i64::from(day) + 6 * count).collect();
            for (count, start) in starts.iter().enumerate() {
                camera.records(*start, count < 3);
                held.push(at_boot(*start));
            }
            camera.looks(3_600);
            if day == 0 {
                camera.is_set(3_610, began);
                camera.looks(3_620);
                assert_holds(&camera.index, &held);
                // A power cut: a segment that nobody saw closed, and no word of it in the log.
                camera.records(3_700, false);
                held.push(at_boot(3_700));
                continue;
            }
            assert_eq!(held.len(), 9);
            camera.is_set(3_610, began);
            camera.looks(3_620);
            assert_holds(&camera.index, &held);
        }
        let mut again = Camera::boots(&card, 2, Timestamp::UNIX_EPOCH);
        assert_eq!(again.looks(5).read, 0);
        assert_holds(&again.index, &held);
    }
}

#[test]
fn a_forecast_is_made_in_true_time_also_while_the_clock_shows_another_one() {
    let card = Card::new();
    let mut camera = Camera::boots(&card, 1, at(0));
    camera.looks(1);
    camera.is_set(2, at(0));
    (0..6).for_each(|number| camera.records(20 + 4 * number, true));
    for number in 0..4 {
        let oldest = camera.clock(20 + 4 * number);
        fs::remove_file(card.root().join(layout().path_for(oldest, 0))).unwrap();
        camera.looks(60 + 4 * number);
    }
    // A day back, by somebody's hand.
    (camera.shown, camera.synchronised) = (at(-86_400), None);
    camera.looks(80);
    let horizon = view(&camera.index).horizon.unwrap();
    let forecast = camera.index.overwritten_at(&main_stream(), horizon, camera.clock(80)).unwrap();
    assert!(matches!(forecast.basis, Basis::Deletions(_)), "{forecast:?}");
    assert!(forecast.at.distance(at(80)) < Duration::from_secs(2), "{forecast:?}");
}
