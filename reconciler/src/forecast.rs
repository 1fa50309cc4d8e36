//! When a device's missing footage will be here, and which of it will be overwritten before that.
//!
//! Pure. It owns the reckoning from a rate and an order; it must never promise: what it is not told, it leaves
//! open, and it says of footage that it will be lost rather a minute too early than too late.
//!
//! Ranges are walked in the order in which they will be pulled, in steps of a minute. A step is lost where its
//! first instant goes before the step could have arrived; it costs no time then, as nobody pulls it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::readable::{length_of, second_of, shortened, size_of};
use sdcard_indexer::time::{TimeRange, Timestamp};

use crate::fleet::StreamKey;
use crate::horizon::Horizon;

/// How exactly losses are told.
pub const STEP: Duration = Duration::from_secs(60);

/// Steps of one forecast, and one more for each range: beyond these they are longer.
const MOST_STEPS: u128 = 10_000;

/// Losses that a text names one by one.
const MOST_NAMED: usize = 5;
const COLUMNS: usize = 80;
/// Losses that are told as one where no more than this lies between them.
const NAMED_AS_ONE: Duration = Duration::from_secs(600);

/// A missing range that will be pulled.
#[derive(Clone, Copy, Debug)]
pub struct Missing<'a> {
    pub stream: &'a StreamKey,
    pub range: TimeRange,
    /// What it takes; `None` where that cannot be estimated yet.
    pub bytes: Option<u64>,
    /// How its stream is overwritten, where that is known.
    pub horizon: Option<&'a Horizon>,
}

/// Of one device, or of several together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forecast {
    /// When the last of it will be here; `None` where that cannot be told.
    pub done_at: Option<Timestamp>,
    /// What will be pulled, without what will be lost; `None` where it cannot be estimated yet.
    pub bytes: Option<u64>,
    /// What will be overwritten before it could be pulled.
    pub will_be_lost: BTreeMap<StreamKey, Coverage>,
    pub rate_bytes_per_second: Option<u64>,
}

/// Of nothing that is missing.
impl Default for Forecast {
    fn default() -> Self {
        Forecast {
            done_at: None,
            bytes: Some(0),
            will_be_lost: BTreeMap::new(),
            rate_bytes_per_second: None,
        }
    }
}

impl Forecast {
    /// There is nothing to pull, and nothing to lose.
    pub fn is_empty(&self) -> bool {
        self.bytes == Some(0) && self.will_be_lost.is_empty()
    }

    /// Of devices that are pulled from side by side, by rates that were measured or divided so: done when the
    /// last one is. What is not known of one is not known of both.
    #[must_use]
    pub fn and(self, mut other: Forecast) -> Forecast {
        if self.is_empty() {
            return other;
        }
        if other.is_empty() {
            return self;
        }
        for (key, lost) in self.will_be_lost {
            let known = other.will_be_lost.entry(key).or_default();
            *known = known.union(&lost);
        }
        let both = |one: Option<u64>, other: Option<u64>| Some(one?.saturating_add(other?));
        Forecast {
            done_at: self.done_at.zip(other.done_at).map(|(one, other)| one.max(other)),
            bytes: both(self.bytes, other.bytes),
            will_be_lost: other.will_be_lost,
            rate_bytes_per_second: both(self.rate_bytes_per_second, other.rate_bytes_per_second),
        }
    }

    /// Length of all footage that will be lost.
    pub fn lost(&self) -> Duration {
        let totals = self.will_be_lost.values().map(Coverage::total);
        totals.fold(Duration::ZERO, Duration::saturating_add)
    }

    /// In words, as seen at `now`: one line, and where footage will be lost a few more that say which.
    pub fn seen_at(&self, now: Timestamp) -> impl fmt::Display + '_ {
        Words { forecast: self, now }
    }
}

/// Of one device: `missing` in the order in which it will be pulled.
///
/// `starts_at`: from when on it can be pulled, where that is known: now for a device that is there, else when
/// its policy's window opens. Without it, without a rate or without an estimate of the bytes, nothing is said
/// of when it is done, nor of losses from there on.
pub fn forecast(
    missing: &[Missing<'_>],
    rate_bytes_per_second: Option<u64>,
    starts_at: Option<Timestamp>,
) -> Forecast {
    let rate = rate_bytes_per_second.filter(|rate| *rate > 0);
    let lengths = missing.iter().map(|missing| missing.range.duration());
    let step = step_for(lengths.fold(Duration::ZERO, Duration::saturating_add));
    let mut walk = Walk { clock: starts_at.zip(rate), pulled_bytes: Some(0), step };
    let mut lost: BTreeMap<StreamKey, Vec<TimeRange>> = BTreeMap::new();
    for missing in missing {
        let ranges = walk.pull(missing);
        if !ranges.is_empty() {
            lost.entry(missing.stream.clone()).or_default().extend(ranges);
        }
    }
    Forecast {
        done_at: walk.arrival(0),
        bytes: walk.pulled_bytes,
        will_be_lost: lost.into_iter().map(|(key, lost)| (key, Coverage::from(lost))).collect(),
        rate_bytes_per_second: rate,
    }
}

/// A minute; longer where that would be too many.
fn step_for(total: Duration) -> Duration {
    let nanos = total.as_nanos().div_ceil(MOST_STEPS).max(STEP.as_nanos());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The state of a forecast while it is made.
struct Walk {
    /// When the first byte can come, and how many a second then do.
    clock: Option<(Timestamp, u64)>,
    /// So far; `None` once it is not known any more.
    pulled_bytes: Option<u64>,
    step: Duration,
}

impl Walk {
    /// When so many bytes more will be here.
    fn arrival(&self, more_bytes: u64) -> Option<Timestamp> {
        let (starts_at, rate) = self.clock?;
        let bytes = u128::from(self.pulled_bytes?) + u128::from(more_bytes);
        let nanos = (bytes * 1_000_000_000).div_ceil(u128::from(rate));
        let nanos = i64::try_from(nanos).unwrap_or(i64::MAX);
        Some(starts_at.saturating_offset(nanos))
    }

    /// What of it will be lost; the rest is pulled.
    fn pull(&mut self, missing: &Missing<'_>) -> Vec<TimeRange> {
        let mut lost = Vec::new();
        let (Some(bytes), Some(pulled_bytes)) = (missing.bytes, self.pulled_bytes) else {
            self.pulled_bytes = None;
            return lost;
        };
        let Some(horizon) = missing.horizon.filter(|_| self.clock.is_some()) else {
            self.pulled_bytes = Some(pulled_bytes.saturating_add(bytes));
            return lost;
        };
        let whole = missing.range;
        let bytes_before = |instant: Timestamp| {
            let share = u128::from(bytes) * instant.since(whole.start()).as_nanos();
            let share = share.checked_div(whole.duration().as_nanos()).unwrap_or(0);
            u64::try_from(share).unwrap_or(u64::MAX)
        };
        let mut start = whole.start();
        while start < whole.end() {
            let end = start.saturating_add(self.step).min(whole.end());
            let step_bytes = bytes_before(end).saturating_sub(bytes_before(start));
            let goes_at = horizon.goes_at(start);
            if goes_at.zip(self.arrival(step_bytes)).is_some_and(|(goes, comes)| goes < comes) {
                lost.extend(TimeRange::new(start, end));
            } else {
                self.pulled_bytes = self.pulled_bytes.map(|sum| sum.saturating_add(step_bytes));
            }
            start = end;
        }
        lost
    }
}

struct Words<'a> {
    forecast: &'a Forecast,
    now: Timestamp,
}

impl fmt::Display for Words<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Forecast { done_at, bytes, rate_bytes_per_second, .. } = self.forecast;
        let rate = rate_bytes_per_second.map(size_of);
        match (bytes.map(size_of), done_at, rate) {
            _ if self.forecast.is_empty() => formatter.write_str("nothing to pull")?,
            _ if *bytes == Some(0) => formatter.write_str("nothing of it can be pulled in time")?,
            (Some(bytes), Some(at), Some(rate)) => {
                let wait = length_of(whole_seconds(at.since(self.now)));
                write!(formatter, "{bytes}, done in {wait} at {rate}/s")?;
            }
            (Some(bytes), None, Some(rate)) => {
                write!(formatter, "{bytes} at {rate}/s, once it can start")?;
            }
            (Some(bytes), _, None) => {
                write!(formatter, "{bytes}, at a rate that is not known yet")?;
            }
            (None, ..) => formatter.write_str("how much there is to pull is not known yet")?,
        }
        self.fmt_losses(formatter)
    }
}

impl Words<'_> {
    fn fmt_losses(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost = self.forecast.lost();
        if lost.is_zero() {
            return Ok(());
        }
        write!(formatter, "; {} will be lost before:", length_of(lost))?;
        // A device that cannot keep up loses every second minute or so: these are named as one.
        let ranges = |(key, lost): (&StreamKey, &Coverage)| {
            let key = key.to_string();
            let joined = lost.clone().joined(NAMED_AS_ONE).into_iter();
            joined.map(move |range| (range, key.clone())).collect::<Vec<_>>()
        };
        let named: Vec<_> = self.forecast.will_be_lost.iter().flat_map(ranges).collect();
        for (range, key) in named.iter().take(MOST_NAMED) {
            let until = Timestamp::UNIX_EPOCH.saturating_offset(ceil_to_second(range.end()));
            let times = format!("  {} to {} UTC  ", second_of(range.start()), second_of(until));
            let left = COLUMNS.saturating_sub(times.len());
            write!(formatter, "\n{times}{}", shortened(key, left))?;
        }
        match named.len().saturating_sub(MOST_NAMED) {
            0 => Ok(()),
            more => write!(formatter, "\n  and {more} more"),
        }
    }
}

/// Rounded up: nobody is told a shorter wait than it is.
fn whole_seconds(duration: Duration) -> Duration {
    let part = u64::from(duration.subsec_nanos() > 0);
    Duration::from_secs(duration.as_secs().saturating_add(part))
}

/// Nanoseconds since 1970, up to the next whole second: a loss is never told too short.
fn ceil_to_second(instant: Timestamp) -> i64 {
    let nanos = instant.as_nanos();
    nanos.saturating_add((-nanos.rem_euclid(1_000_000_000)).rem_euclid(1_000_000_000))
}

#[cfg(test)]
mod tests;
