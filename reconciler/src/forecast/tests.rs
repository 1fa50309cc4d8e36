use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use protocol::message::Overwriting;

use super::*;
use crate::examples::{at, key, seconds};

const START: i64 = 1_795_428_000;

/// A card that holds `[START, START + held)` and loses its oldest instant `first` seconds after START.
fn horizon(held: i64, first: i64, speed: u32) -> Horizon {
    let overwriting =
        Overwriting { horizon_goes_at: at(START + first), horizon_ms_per_second: speed };
    Horizon::new(at(START), overwriting, &seconds(START, START + held).into())
}

fn missing<'a>(key: &'a StreamKey, from: i64, to: i64, horizon: &'a Horizon) -> Missing<'a> {
    // A megabyte for a second.
    let bytes = Some((to - from) as u64 * 1_000_000);
    Missing { stream: key, range: seconds(START + from, START + to), bytes, horizon: Some(horizon) }
}

#[test]
fn what_nobody_overwrites_is_done_when_its_bytes_are_here() {
    let key = key();
    let still = horizon(7_200, 0, 0);
    let forecast = forecast(
        &[missing(&key, 0, 600, &still), missing(&key, 1_200, 1_800, &still)],
        Some(3_000_000),
        Some(at(START)),
    );
    assert_eq!(forecast.done_at, Some(at(START + 400)));
    assert_eq!((forecast.bytes, forecast.lost()), (Some(1_200_000_000), Duration::ZERO));
}

#[test]
fn what_goes_before_its_turn_is_lost_to_the_minute_and_costs_no_time() {
    let (front, back) = (key(), StreamKey { stream: "sub".parse().unwrap(), ..key() });
    let quick = horizon(7_200, 600, 1_000);
    let still = horizon(7_200, 0, 0);
    // The first one takes 1,200 s: till then, what is older than 600 s has gone.
    let order = [missing(&back, 0, 1_200, &still), missing(&front, 0, 1_800, &quick)];
    let forecast = forecast(&order, Some(1_000_000), Some(at(START)));
    let lost = forecast.will_be_lost.get(&front).unwrap();
    // The minute from 660 s on has arrived at 1,260 s, as its first instant goes.
    assert_eq!(*lost, Coverage::from(seconds(START, START + 660)));
    assert_eq!(forecast.will_be_lost.len(), 1);
    assert_eq!(forecast.done_at, Some(at(START + 1_200 + 1_140)));
    assert_eq!(forecast.bytes, Some(2_340_000_000));
}

#[test]
fn what_is_not_known_is_left_open() {
    let key = key();
    let quick = horizon(7_200, -7_200, 1_000);
    let all = [missing(&key, 0, 600, &quick)];
    let no_rate = forecast(&all, None, Some(at(START)));
    assert_eq!((no_rate.done_at, no_rate.bytes), (None, Some(600_000_000)));
    let no_start = forecast(&all, Some(1), None);
    assert_eq!((no_start.done_at, no_start.lost()), (None, Duration::ZERO));
    assert_eq!(forecast(&all, Some(0), Some(at(START))).done_at, None);
    let unknown = Missing { bytes: None, ..all[0] };
    let no_bytes = forecast(&[unknown, all[0]], Some(1), Some(at(START)));
    assert_eq!((no_bytes.done_at, no_bytes.bytes, no_bytes.lost()), (None, None, Duration::ZERO));
}

#[test]
fn devices_side_by_side_are_done_when_the_last_one_is() {
    let (one, other) = (key(), StreamKey { device: "another-camera".parse().unwrap(), ..key() });
    let late = horizon(7_200, -7_200, 1_000);
    let still = horizon(7_200, 0, 0);
    let one = forecast(&[missing(&one, 0, 600, &still)], Some(1_000_000), Some(at(START)));
    let other = forecast(&[missing(&other, 0, 60, &late)], Some(2_000_000), Some(at(START)));
    let both = one.clone().and(other).and(Forecast::default());
    assert_eq!(both.done_at, Some(at(START + 600)));
    assert_eq!((both.bytes, both.lost()), (Some(600_000_000), Duration::from_secs(60)));
    assert_eq!(both.rate_bytes_per_second, Some(3_000_000));
    let key = key();
    let unknown = forecast(&[missing(&key, 0, 1, &still)], None, None);
    assert_eq!(one.and(unknown).done_at, None);
}

#[test]
fn months_of_footage_are_walked_in_a_bounded_number_of_steps() {
    let month = 31 * 86_400;
    assert_eq!(step_for(Duration::from_secs(10_000 * 60)), STEP);
    let step = step_for(Duration::from_secs(12 * month));
    assert!(Duration::from_secs(12 * month).as_nanos().div_ceil(step.as_nanos()) <= MOST_STEPS);
}

#[test]
fn it_is_told_in_eighty_columns() {
    let key = StreamKey {
        device: "the-camera-above-the-second-door-of-the-eastern-hall".parse().unwrap(),
        stream: "main".parse().unwrap(),
    };
    let quick = horizon(86_400, 600, 1_000);
    let still = horizon(86_400, 0, 0);
    let told = |order: &[Missing<'_>], rate, starts_at| {
        forecast(order, rate, starts_at).seen_at(at(START)).to_string()
    };
    let whole = [missing(&key, 0, 7_800, &still)];
    let now = Some(at(START));
    assert_eq!(told(&whole, Some(1_000_000), now), "7.3 GiB, done in 2h 10m at 976.6 KiB/s");
    assert_eq!(told(&whole, Some(1_000_000), None), "7.3 GiB at 976.6 KiB/s, once it can start");
    assert_eq!(told(&whole, None, now), "7.3 GiB, at a rate that is not known yet");
    assert_eq!(told(&[], None, now), "nothing to pull");
    let some = [missing(&key, 0, 3_600, &quick)];
    assert_eq!(
        told(&some, Some(500_000), now),
        "1.9 GiB, done in 1h 8m at 488.3 KiB/s; 26m will be lost before:\n  \
         2026-11-23 10:09:00 to 2026-11-23 11:00:00 UTC  the-camera-above-the-second-d…"
    );
    let holes: Vec<_> =
        (0..8).map(|hour| missing(&key, hour * 7_200, hour * 7_200 + 60, &quick)).collect();
    let text = told(&holes, Some(1_000), now);
    assert!(text.ends_with("\n  and 3 more"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
}

proptest! {
    /// Against a walk by the second that pulls what is still there when its turn comes.
    #[test]
    fn every_minute_said_to_be_lost_is_lost_and_every_other_one_comes(
        held in 600..20_000_i64, first in -3_000..20_000_i64, speed in 0..3_000_u32,
        rate in 100_000..5_000_000_u64, late in 0..5_000_i64, ranges in vec((0..20_000_i64, 1..2_000_i64), 1..6),
    ) {
        let horizon = horizon(held, first, speed);
        let key = key();
        let ranges: Coverage = ranges.iter().map(|(from, length)| seconds(START + from, START + from + length)).collect();
        let order: Vec<_> = ranges.iter().map(|range| Missing {
            stream: &key,
            range,
            bytes: Some(range.duration().as_secs() * 1_000_000),
            horizon: Some(&horizon),
        }).collect();
        let forecast = forecast(&order, Some(rate), Some(at(START + late)));
        let lost = forecast.will_be_lost.get(&key).cloned().unwrap_or_default();
        prop_assert_eq!(lost.difference(&ranges), Coverage::new());
        let mut clock = (START + late) as f64;
        for range in ranges.iter() {
            let mut minute = range.start();
            while minute < range.end() {
                let end = minute.saturating_add(STEP).min(range.end());
                let takes = end.since(minute).as_secs_f64() * 1e6 / rate as f64;
                let goes = horizon.goes_at(minute).map_or(f64::MAX, |goes| goes.as_nanos() as f64 / 1e9);
                if lost.contains(minute) {
                    prop_assert!(goes < clock + takes + 1e-3);
                } else {
                    prop_assert!(goes > clock + takes - 1e-3);
                    clock += takes;
                }
                minute = end;
            }
        }
        let done_at = forecast.done_at.unwrap().as_nanos() as f64 / 1e9;
        prop_assert!((done_at - clock).abs() < 1e-2, "{done_at} {clock}");
    }

    #[test]
    fn no_numbers_make_it_fail_or_work_for_ever(
        ranges in vec((any::<(i64, i64)>(), option::of(any::<u64>())), 0..6),
        (rate, starts_at) in any::<(Option<u64>, Option<i64>)>(), speed in any::<u32>(), now in any::<i64>(),
    ) {
        let key = key();
        let overwriting = Overwriting { horizon_goes_at: Timestamp::from_nanos(now), horizon_ms_per_second: speed };
        let horizon = Horizon::new(Timestamp::MIN, overwriting, &TimeRange::ALWAYS.into());
        let order: Vec<_> = ranges.iter().filter_map(|((from, to), bytes)| Some(Missing {
            stream: &key,
            range: TimeRange::new(Timestamp::from_nanos(*from), Timestamp::from_nanos(*to))?,
            bytes: *bytes,
            horizon: Some(&horizon),
        })).collect();
        let forecast = forecast(&order, rate, starts_at.map(Timestamp::from_nanos));
        let text = forecast.clone().and(forecast).seen_at(Timestamp::from_nanos(now)).to_string();
        prop_assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{}", text);
    }
}
