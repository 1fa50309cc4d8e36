//! Two rates that are learned: how many bytes a stream's footage takes, and how fast a device sends.
//!
//! Pure. It owns what forecasts rest on. It must never make up a number: what was not seen is `None`.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::MonotonicMicros;

/// Bytes that a second of a stream's footage takes, learned from the parts that were located.
///
/// Footage counts by its length, and half as much for each hour of footage seen since: scenes and encoder
/// settings change.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct ByteRate {
    seconds: f64,
    bytes: f64,
}

impl ByteRate {
    const HALVED_AFTER: Duration = Duration::from_secs(3600);
    /// Less footage is mostly its first keyframe, and says little of what follows.
    const LEAST_KNOWN: Duration = Duration::from_secs(1);

    /// A part of this length takes so many bytes.
    pub fn learn(&mut self, footage: Duration, bytes: u64) {
        if footage.is_zero() {
            return;
        }
        let seconds = footage.as_secs_f64();
        let fading = 0.5_f64.powf(seconds / Self::HALVED_AFTER.as_secs_f64());
        self.seconds = self.seconds * fading + seconds;
        self.bytes = self.bytes * fading + bytes as f64;
    }

    /// `None` until enough footage was seen.
    pub fn bytes_per_second(&self) -> Option<f64> {
        let known = self.seconds >= Self::LEAST_KNOWN.as_secs_f64();
        known.then(|| self.bytes / self.seconds)
    }

    /// What footage of this length takes; `None` until enough was seen.
    pub fn estimate(&self, footage: Duration) -> Option<u64> {
        // A float that is too large becomes the largest integer.
        Some((self.bytes_per_second()? * footage.as_secs_f64()) as u64)
    }
}

/// How fast a device has been sending over the last minute, all its parts together.
#[derive(Clone, Debug, Default)]
pub struct RateMeter {
    /// Since when it is measured: the first note after a silence.
    since: Option<MonotonicMicros>,
    /// (second of the clock, bytes noted in it), the newest last; at most [`Self::SECONDS`].
    seconds: VecDeque<(u64, u64)>,
}

impl RateMeter {
    const SECONDS: u64 = 60;
    /// Bytes come in bursts: over less than this they tell of the burst.
    const LEAST_MEASURED: Duration = Duration::from_secs(1);

    /// So many bytes arrived since the note before this one.
    pub fn note(&mut self, now: MonotonicMicros, bytes: u64) {
        let second = second_of(now);
        self.seconds.retain(|(noted, _)| noted.saturating_add(Self::SECONDS) > second);
        if self.seconds.is_empty() {
            // When the first bytes set out is not known: they only start the clock.
            self.since = Some(now);
            return self.seconds.push_back((second, 0));
        }
        match self.seconds.back_mut() {
            Some((noted, sum)) if *noted >= second => *sum = sum.saturating_add(bytes),
            _ => self.seconds.push_back((second, bytes)),
        }
    }

    /// `None` until a second of sending was seen, and again after a minute of silence.
    pub fn bytes_per_second(&self, now: MonotonicMicros) -> Option<u64> {
        // Whole seconds only, so that bytes and time are those of the same stretch.
        let oldest = (second_of(now) + 1).saturating_sub(Self::SECONDS);
        let recent = self.seconds.iter().filter(|(noted, _)| *noted >= oldest);
        let (notes, bytes) = recent
            .fold((0, 0_u64), |(notes, sum), (_, bytes)| (notes + 1, sum.saturating_add(*bytes)));
        let since = self.since?.max(MonotonicMicros(oldest.saturating_mul(1_000_000)));
        let measured = now.since(since);
        if notes == 0 || measured < Self::LEAST_MEASURED {
            return None;
        }
        let per_second = u128::from(bytes) * 1_000_000 / measured.as_micros();
        Some(u64::try_from(per_second).unwrap_or(u64::MAX))
    }
}

fn second_of(instant: MonotonicMicros) -> u64 {
    instant.0 / 1_000_000
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn at_ms(millis: u64) -> MonotonicMicros {
        MonotonicMicros(millis * 1_000)
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn what_a_stream_takes_is_unknown_until_a_second_was_seen() {
        let mut rate = ByteRate::default();
        assert_eq!(rate.estimate(MINUTE), None);
        rate.learn(Duration::ZERO, 500_000);
        rate.learn(Duration::from_millis(900), 400_000);
        assert_eq!(rate.estimate(MINUTE), None);
        rate.learn(Duration::from_millis(200), 150_000);
        let minute = rate.estimate(MINUTE).unwrap();
        assert!(minute.abs_diff(30_000_000) < 3_000, "{minute}");
    }

    #[test]
    fn footage_counts_by_its_length_and_older_footage_for_less() {
        let mut rate = ByteRate::default();
        rate.learn(Duration::from_secs(3600), 3_600 * 1_000);
        rate.learn(Duration::from_secs(10), 10 * 4_000);
        let shortly_after = rate.bytes_per_second().unwrap();
        assert!((1_000.0..1_020.0).contains(&shortly_after), "{shortly_after}");
        for _ in 0..360 {
            rate.learn(Duration::from_secs(10), 10 * 4_000);
        }
        let an_hour_later = rate.bytes_per_second().unwrap();
        assert!((2_700.0..3_300.0).contains(&an_hour_later), "{an_hour_later}");
    }

    #[test]
    fn a_steady_device_is_measured_at_its_rate() {
        let mut meter = RateMeter::default();
        for tick in 0..1_000 {
            meter.note(at_ms(7_000 + tick * 200), 20_000);
        }
        let rate = meter.bytes_per_second(at_ms(7_000 + 999 * 200)).unwrap();
        assert!((98_000..=102_000).contains(&rate), "{rate}");
    }

    #[test]
    fn the_first_bytes_only_start_the_clock() {
        let mut meter = RateMeter::default();
        meter.note(at_ms(0), 1_000_000_000);
        assert_eq!(meter.bytes_per_second(at_ms(500)), None);
        meter.note(at_ms(2_000), 2_000);
        assert_eq!(meter.bytes_per_second(at_ms(2_000)), Some(1_000));
    }

    #[test]
    fn a_silence_lowers_the_rate_and_a_minute_of_it_ends_it() {
        let mut meter = RateMeter::default();
        for second in 0..=60 {
            meter.note(at_ms(second * 1_000), 60_000);
        }
        let rate = |second: u64| meter.bytes_per_second(at_ms(second * 1_000));
        assert!(rate(90).unwrap() < 40_000);
        assert_eq!(rate(121), None);
        meter.note(at_ms(300_000), 5_000_000);
        assert_eq!(meter.bytes_per_second(at_ms(302_000)), Some(0));
    }

    proptest! {
        #[test]
        fn a_meter_stays_small_and_never_fails(
            notes in vec((any::<u64>(), any::<u64>()), 0..200), asked in any::<u64>(),
        ) {
            let mut meter = RateMeter::default();
            for (now, bytes) in notes {
                meter.note(MonotonicMicros(now), bytes);
                prop_assert!(meter.seconds.len() as u64 <= RateMeter::SECONDS);
            }
            meter.bytes_per_second(MonotonicMicros(asked));
        }

        #[test]
        fn no_more_is_measured_than_came(
            notes in vec((1..3_000_u64, 0..1_000_000_u64), 2..300),
        ) {
            let mut meter = RateMeter::default();
            let mut now_ms = 5_000;
            for (wait_ms, bytes) in &notes {
                now_ms += wait_ms;
                meter.note(at_ms(now_ms), *bytes);
            }
            let most = notes.iter().map(|(_, bytes)| bytes).sum::<u64>();
            prop_assert!(meter.bytes_per_second(at_ms(now_ms)).unwrap_or(0) <= most);
        }
    }
}
