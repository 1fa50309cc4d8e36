//! How long footage stays: how fast the horizon moves, and when a given instant will be overwritten.
//!
//! Pure, and an estimate only: it says what it rests on. What a ring recorder deleted lately is the best
//! ground; a card that is not full yet tells by its free space and by what is written; without either,
//! nothing is said.

use std::collections::VecDeque;
use std::time::Duration;

use super::row::{Flag, Row};
use super::rows::Rows;
use super::view::StreamView;
use crate::segment::Content;
use crate::time::Timestamp;

/// Moments of deletion that are remembered.
const MAX_MOMENTS: usize = 64;
/// Fewer show no speed.
const MIN_MOMENTS: usize = 3;
/// The newest segments that the rate of writing is taken from.
const RECENT: usize = 32;

/// So much footage has vanished at the horizon within so long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HorizonSpeed {
    pub footage: Duration,
    pub within: Duration,
}

impl HorizonSpeed {
    /// Seconds of footage that vanish in a second: 1 for a ring that is full and recorded to all the time.
    pub fn per_second(&self) -> f64 {
        self.footage.as_secs_f64() / self.within.as_secs_f64()
    }
}

/// What a forecast rests on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Basis {
    /// The recorder was seen to delete its oldest footage.
    Deletions(HorizonSpeed),
    /// No deletion was seen yet; the card has room, and is written to.
    FreeSpace { free_bytes: u64, bytes_per_second: f64 },
}

/// When footage is expected to be overwritten.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Forecast {
    pub at: Timestamp,
    pub basis: Basis,
}

/// What was seen to vanish at the horizon.
#[derive(Debug, Default)]
pub(super) struct Deletions {
    /// When, and how much footage; the newest last.
    moments: VecDeque<(Timestamp, Duration)>,
}

impl Deletions {
    /// What is found gone at once may have gone one after the other: it is one moment.
    pub fn note(&mut self, seen_at: Timestamp, footage: Duration) {
        match self.moments.back_mut() {
            // The clock was set back: what was seen before cannot be compared with it.
            Some((last, _)) if seen_at < *last => self.moments.clear(),
            Some((last, known)) if seen_at == *last => {
                return *known = known.saturating_add(footage);
            }
            _ => {}
        }
        if self.moments.len() == MAX_MOMENTS {
            self.moments.pop_front();
        }
        self.moments.push_back((seen_at, footage));
    }

    /// From the first moment, whose footage may have gone at any time before it, to the last; to `now`, where
    /// the next one is long overdue.
    pub fn speed(&self, now: Timestamp) -> Option<HorizonSpeed> {
        let ((first, _), (last, _)) = (self.moments.front()?, self.moments.back()?);
        let intervals = u32::try_from(self.moments.len().checked_sub(1)?).ok()?;
        if self.moments.len() < MIN_MOMENTS {
            return None;
        }
        let usual = last.since(*first).checked_div(intervals)?;
        let overdue = now.since(*last) > 2 * usual;
        let within = if overdue { now.since(*first) } else { last.since(*first) };
        let footage = self.moments.iter().skip(1).map(|(_, footage)| *footage).sum();
        Some(HorizonSpeed { footage, within }).filter(|speed| !speed.footage.is_zero())
    }

    /// When the instant `at` goes, which `view` holds. At the horizon, that may be at any moment.
    pub fn forecast(&self, view: &StreamView, at: Timestamp, now: Timestamp) -> Option<Forecast> {
        let speed = self.speed(now)?;
        let before = view.held.iter().take_while(|held| held.start() < at);
        let older: Duration = before.map(|held| held.end().min(at).since(held.start())).sum();
        let wait = older.as_secs_f64() / speed.per_second();
        Some(Forecast { at: later(now, wait), basis: Basis::Deletions(speed) })
    }
}

/// What lies on a card, and what is written to it, over all its streams.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Filling {
    /// Of the footage that is older than the instant that is asked about.
    pub older_bytes: u64,
    pub bytes_per_second: f64,
}

impl Filling {
    /// One stream's share; to be added up.
    pub fn of(rows: &Rows, at: Timestamp) -> Self {
        let whole = |row: &&Row| {
            row.is(Flag::SEALED) && !row.is(Flag::FUTURE) && row.content() == Content::Held
        };
        let recent: Vec<&Row> = rows.iter().rev().filter(whole).take(RECENT).collect();
        let bytes: u64 = recent.iter().map(|row| row.stamp().size_bytes).sum();
        let reach = recent.iter().map(|row| row.range()).reduce(|all, range| all.hull(&range));
        let seconds = reach.map_or(0.0, |reach| reach.duration().as_secs_f64());
        let older = rows.iter().filter(|row| row.range().end() <= at);
        Filling {
            older_bytes: older.map(|row| row.stamp().size_bytes).sum(),
            bytes_per_second: if seconds > 0.0 { bytes as f64 / seconds } else { 0.0 },
        }
    }

    #[must_use]
    pub fn and(self, other: Filling) -> Filling {
        Filling {
            older_bytes: self.older_bytes.saturating_add(other.older_bytes),
            bytes_per_second: self.bytes_per_second + other.bytes_per_second,
        }
    }

    /// The recorder is taken to fill the card and then to delete its oldest footage first.
    pub fn forecast(&self, free_bytes: u64, now: Timestamp) -> Option<Forecast> {
        if self.bytes_per_second <= 0.0 {
            return None;
        }
        let bytes = free_bytes.saturating_add(self.older_bytes) as f64;
        let basis = Basis::FreeSpace { free_bytes, bytes_per_second: self.bytes_per_second };
        Some(Forecast { at: later(now, bytes / self.bytes_per_second), basis })
    }
}

fn later(now: Timestamp, seconds: f64) -> Timestamp {
    now.saturating_add(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::gone::Gone;
    use crate::index::table::tests::{insert_at, rows};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    #[test]
    fn a_speed_needs_three_moments_and_fades_when_nothing_vanishes_any_more() {
        let mut deletions = Deletions::default();
        // After a start: all that went while nobody looked.
        deletions.note(at(1_000), Duration::from_secs(50_000));
        deletions.note(at(1_060), Duration::from_secs(60));
        assert_eq!(deletions.speed(at(1_060)), None);
        deletions.note(at(1_120), Duration::from_secs(40));
        deletions.note(at(1_120), Duration::from_secs(20));
        assert_eq!(deletions.speed(at(1_170)).unwrap().per_second(), 1.0);
        assert_eq!(deletions.speed(at(1_480)).unwrap().per_second(), 0.25);
        deletions.note(at(900), Duration::from_secs(60));
        assert_eq!(deletions.speed(at(900)), None);
    }

    proptest! {
        /// A recorder with room for `capacity` segments that records for a part of the time.
        #[test]
        fn a_ring_overwrites_what_was_forecast_when_it_was_forecast(
            (length, pause) in (5..120_i64, 0..200_i64),
            (capacity, target) in (20..60_i64, 0..19_i64),
        ) {
            let every = length + pause;
            let mut deletions = Deletions::default();
            let mut held = std::collections::VecDeque::new();
            let mut asked = None;
            let mut vanished_at = None;
            for number in 0..capacity * 2 + target {
                let now = (number + 1) * every;
                held.push_back(number * every);
                if held.len() as i64 > capacity {
                    let start = held.pop_front().unwrap();
                    deletions.note(at(now), Duration::from_secs(length as u64));
                    if asked.is_some_and(|(start_of, _)| start_of == start) {
                        vanished_at = Some(now);
                    }
                }
                if number == capacity + 5 {
                    let mut rows = rows();
                    held.iter().for_each(|start| insert_at(&mut rows, *start, start + length, |_| {}));
                    let view = StreamView::of(&rows, &Gone::default(), at(now));
                    let start = held[target as usize];
                    let forecast = deletions.forecast(&view, at(start), at(now)).unwrap();
                    asked = Some((start, forecast.at));
                }
            }
            let (_, forecast) = asked.unwrap();
            let error_s = at(vanished_at.unwrap()).distance(forecast).as_secs() as i64;
            prop_assert!(error_s <= every + 1, "{error_s} s off");
        }

        #[test]
        fn a_card_that_fills_overwrites_what_was_forecast_when_it_was_forecast(
            (length, pause) in (5..120_i64, 0..200_i64),
            (capacity, recorded, target) in (60..90_u64, 33..60_i64, 0..30_i64),
        ) {
            const SEGMENT_BYTES: u64 = 10_000;
            let every = length + pause;
            let mut rows = rows();
            let starts = (0..recorded).map(|number| number * every);
            starts.for_each(|start| insert_at(&mut rows, start, start + length, |_| {}));
            let now = (recorded - 1) * every + length;
            let free_bytes = (capacity - recorded as u64) * SEGMENT_BYTES;
            let forecast = Filling::of(&rows, at(target * every)).forecast(free_bytes, at(now)).unwrap();
            // The segment goes when the card has no room for one more than `capacity` behind it.
            let truth = (capacity as i64 + target) * every;
            let error_s = at(truth).distance(forecast.at).as_secs() as i64;
            let ahead = truth - now;
            prop_assert!(error_s <= every + ahead / 20, "{error_s} s off in {ahead} s");
        }
    }

    #[test]
    fn a_card_that_nothing_is_known_of_gives_no_forecast() {
        assert_eq!(Filling::of(&rows(), at(0)).forecast(1, at(0)), None);
        let view = StreamView::of(&rows(), &Gone::default(), at(0));
        assert_eq!(Deletions::default().forecast(&view, at(0), at(0)), None);
    }
}
