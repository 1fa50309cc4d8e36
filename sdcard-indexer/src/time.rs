//! Instants and half-open ranges of them, in UTC nanoseconds.
//!
//! This module never asks for the time: a clock is always somebody else's business, so that
//! everything built on it can be replayed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// An instant in UTC, as signed nanoseconds since 1970-01-01T00:00:00Z.
///
/// Covers 1677 to 2262. Arithmetic saturates at these ends: an absurd clock must not panic a camera.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    pub const MAX: Timestamp = Timestamp(i64::MAX);
    pub const UNIX_EPOCH: Timestamp = Timestamp(0);

    pub const fn from_nanos(nanos: i64) -> Self {
        Timestamp(nanos)
    }

    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Timestamp(seconds.saturating_mul(NANOS_PER_SECOND))
    }

    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Timestamp(self.0.saturating_add(nanos_of(duration)))
    }

    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Timestamp(self.0.saturating_sub(nanos_of(duration)))
    }

    /// Moves the instant by signed nanoseconds.
    #[must_use]
    pub const fn saturating_offset(self, nanos: i64) -> Self {
        Timestamp(self.0.saturating_add(nanos))
    }

    /// Time that passed since `earlier`; zero where `earlier` is in fact later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(u64::try_from(i128::from(self.0) - i128::from(earlier.0)).unwrap_or(0))
    }

    /// Signed nanoseconds from `other` to this instant; saturates where they are more than 292 years apart.
    pub const fn nanos_from(self, other: Timestamp) -> i64 {
        self.0.saturating_sub(other.0)
    }

    /// Distance in either direction.
    pub fn distance(self, other: Timestamp) -> Duration {
        Duration::from_nanos(self.0.abs_diff(other.0))
    }

    /// The same instant in jiff's terms, for calendars and text.
    pub fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_nanosecond(i128::from(self.0))
            .expect("every i64 of nanoseconds lies within jiff's years -9999 to 9999")
    }

    /// From jiff's terms; saturates outside 1677 to 2262.
    pub fn from_jiff(instant: jiff::Timestamp) -> Self {
        let nanos = instant.as_nanosecond().clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        Timestamp(nanos as i64)
    }
}

fn nanos_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// RFC 3339 in UTC, fraction only as long as it needs to be.
impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_jiff(), formatter)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// RFC 3339 with an offset, for example `2026-11-23T10:00:00Z` or `2026-11-23T11:00:00+01:00`; saturates
/// outside 1677 to 2262. A time without an offset is refused: it would not say which instant is meant.
impl FromStr for Timestamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<jiff::Timestamp>().map(Timestamp::from_jiff)
    }
}

/// A half-open range `[start, end)` of instants. Never holds `end < start`; may be empty.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "UncheckedRange")]
pub struct TimeRange {
    start: Timestamp,
    end: Timestamp,
}

/// What arrives from outside, before it is known that it does not run backwards.
#[derive(Deserialize)]
struct UncheckedRange {
    start: Timestamp,
    end: Timestamp,
}

impl TryFrom<UncheckedRange> for TimeRange {
    type Error = BackwardRange;

    fn try_from(range: UncheckedRange) -> Result<Self, BackwardRange> {
        TimeRange::new(range.start, range.end)
            .ok_or(BackwardRange { start: range.start, end: range.end })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a time range cannot end ({end}) before it starts ({start})")]
pub struct BackwardRange {
    pub start: Timestamp,
    pub end: Timestamp,
}

impl TimeRange {
    /// All that a [`Timestamp`] can say, but its very last nanosecond.
    pub const ALWAYS: TimeRange = TimeRange { start: Timestamp::MIN, end: Timestamp::MAX };

    /// `None` where `end` lies before `start`.
    pub fn new(start: Timestamp, end: Timestamp) -> Option<Self> {
        (start <= end).then_some(TimeRange { start, end })
    }

    pub fn starting_at(start: Timestamp, duration: Duration) -> Self {
        TimeRange { start, end: start.saturating_add(duration) }
    }

    pub const fn start(&self) -> Timestamp {
        self.start
    }

    pub const fn end(&self) -> Timestamp {
        self.end
    }

    pub fn duration(&self) -> Duration {
        self.end.since(self.start)
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn contains(&self, instant: Timestamp) -> bool {
        self.start <= instant && instant < self.end
    }

    /// True where the two share at least one nanosecond.
    pub fn overlaps(&self, other: &TimeRange) -> bool {
        self.start.max(other.start) < self.end.min(other.end)
    }

    /// The shared part; `None` where there is none.
    pub fn intersection(&self, other: &TimeRange) -> Option<TimeRange> {
        let start = self.start.max(other.start);
        let end = self.end.min(other.end);
        (start < end).then_some(TimeRange { start, end })
    }

    /// The smallest range that holds both.
    #[must_use]
    pub fn hull(&self, other: &TimeRange) -> TimeRange {
        TimeRange { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

impl fmt::Display for TimeRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.start, self.end)
    }
}

impl fmt::Debug for TimeRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn an_instant_is_shown_in_utc_with_no_longer_a_fraction_than_it_needs() {
        assert_eq!(Timestamp::UNIX_EPOCH.to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Timestamp::from_nanos(-1).to_string(), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(Timestamp::from_nanos(1_500_000_000).to_string(), "1970-01-01T00:00:01.5Z");
        assert_eq!(format!("{:?}", Timestamp::from_unix_seconds(2)), "1970-01-01T00:00:02Z");
    }

    #[test]
    fn every_instant_reads_back_what_it_shows() {
        for instant in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
            assert_eq!(at(&instant.to_string()), instant);
        }
    }

    #[test]
    fn an_instant_is_read_with_any_offset_and_never_without_one() {
        assert_eq!(at("2026-11-23T11:00:00+01:00"), at("2026-11-23T10:00:00Z"));
        for text in ["", "now", "2026-11-23", "2026-11-23T10:00:00", "2026-13-01T00:00:00Z"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    #[test]
    fn absurd_instants_saturate() {
        assert_eq!(at("9999-01-01T00:00:00Z"), Timestamp::MAX);
        assert_eq!(at("0001-01-01T00:00:00Z"), Timestamp::MIN);
        assert_eq!(Timestamp::from_unix_seconds(i64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::MAX.saturating_add(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::MIN.saturating_sub(Duration::MAX), Timestamp::MIN);
        assert_eq!(Timestamp::MAX.nanos_from(Timestamp::MIN), i64::MAX);
        assert_eq!(Timestamp::MAX.since(Timestamp::MIN), Duration::from_nanos(u64::MAX));
        assert_eq!(Timestamp::MIN.since(Timestamp::MAX), Duration::ZERO);
    }

    #[test]
    fn a_range_is_half_open_and_never_runs_backwards() {
        let (start, end) = (Timestamp::from_nanos(1), Timestamp::from_nanos(3));
        let range = TimeRange::new(start, end).unwrap();
        assert!(range.contains(start) && !range.contains(end));
        assert_eq!(
            range.to_string(),
            "1970-01-01T00:00:00.000000001Z/1970-01-01T00:00:00.000000003Z"
        );
        assert_eq!(TimeRange::new(end, start), None);
        assert!(TimeRange::new(start, start).unwrap().is_empty());
    }

    #[test]
    fn a_backward_range_from_outside_is_refused() {
        let backward = postcard::to_allocvec(&(3_i64, 1_i64)).unwrap();
        assert!(postcard::from_bytes::<TimeRange>(&backward).is_err());
    }
}
