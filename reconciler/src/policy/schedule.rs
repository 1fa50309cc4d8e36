//! Schedules: at what instants a policy's runs begin, and for how long each may go on.
//!
//! Pure, and bounded: a pattern that never comes is refused when it is read. Croner tells which times of the
//! calendar match; where these lie in a zone is decided here, since people expect every night's run to come,
//! and to come once, also in the two nights in which clocks are changed:
//!
//! - Of a pattern that names hours (`0 23 * * *`, `*/30 2,14 * * *`), a time that spring skips runs at the first
//!   instant after the skip, and a time that autumn repeats runs once: the first of the two.
//! - A pattern for every hour (`*` or `*/n` there: `*/15 * * * *`) is an interval. It runs whenever a clock on
//!   the wall shows a time that matches: what is skipped is not made up for, and both of the repeated hours have
//!   their runs. So no quarter of an hour goes by without one.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::AmbiguousOffset;
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde::{Deserialize, Serialize};

use super::period;
use super::zone::Zone;

/// Longest accepted pattern, in bytes.
pub const MAX_PATTERN_BYTES: usize = 128;

/// Runs that are told ahead at once.
pub const MOST_UPCOMING: usize = 1_000;

/// Steps of a search. A change of clocks is a step, and so is a minute that one skips or repeats: the rarest
/// pattern that there is takes some hundreds of these.
const MOST_STEPS: usize = 10_000;

#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    #[error(
        "`{text}` is no cron pattern such as `0 23 * * *` (minute, hour, day of the month, month, day of the \
         week): {source}"
    )]
    Unreadable {
        text: String,
        #[source]
        source: CronError,
    },
    #[error("`{text}` never comes: no month has such a day")]
    Never { text: String },
    #[error("a cron pattern has at most {MAX_PATTERN_BYTES} bytes")]
    TooLong,
}

/// Five fields as in `crontab`, or `@daily` and the like; no seconds and no years.
///
/// As there, a day matches where either the day of the month or that of the week does; with `+` before the
/// latter, where both do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CronPattern {
    text: String,
    cron: Cron,
}

impl CronPattern {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// For every hour, not for some that are named.
    fn is_interval(&self) -> bool {
        self.cron.pattern.hours.from_wildcard
    }

    fn after(&self, wall: DateTime, inclusive: bool) -> Option<DateTime> {
        self.cron.find_next_occurrence(&wall, inclusive).ok()
    }

    fn by(&self, wall: DateTime) -> Option<DateTime> {
        self.cron.find_previous_occurrence(&wall, true).ok()
    }
}

impl FromStr for CronPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<CronPattern, PatternError> {
        if text.len() > MAX_PATTERN_BYTES {
            return Err(PatternError::TooLong);
        }
        let text = text.trim().to_owned();
        let parser =
            CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        match parser.parse(&text) {
            Err(source) => Err(PatternError::Unreadable { text, source }),
            Ok(cron) => {
                let pattern = CronPattern { text, cron };
                match pattern.after(DateTime::constant(2000, 1, 1, 0, 0, 0, 0), true) {
                    Some(_) => Ok(pattern),
                    None => Err(PatternError::Never { text: pattern.text }),
                }
            }
        }
    }
}

impl TryFrom<String> for CronPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<CronPattern, PatternError> {
        text.parse()
    }
}

impl From<CronPattern> for String {
    fn from(pattern: CronPattern) -> String {
        pattern.text
    }
}

impl fmt::Display for CronPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// When the runs of a policy are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    #[schema(value_type = String, example = "0 23 * * *")]
    pub cron: CronPattern,
    /// Of whose calendar and clocks `cron` speaks.
    #[schema(value_type = String, example = "Europe/Berlin")]
    pub time_zone: Zone,
    /// How long after its beginning a run may still begin to pull; in real time, whatever clocks do.
    #[serde(with = "period")]
    #[schema(value_type = String, example = "6h")]
    pub window: Duration,
}

impl Schedule {
    /// The first run that begins after this instant.
    pub fn next_after(&self, instant: Timestamp) -> Option<Timestamp> {
        let next = if self.cron.is_interval() {
            self.interval_after(instant)
        } else {
            self.named_after(instant)
        };
        next.filter(|next| *next > instant && *next < Timestamp::MAX)
    }

    /// The latest run that had begun at this instant.
    pub fn latest_by(&self, instant: Timestamp) -> Option<Timestamp> {
        let latest = if self.cron.is_interval() {
            self.interval_by(instant)
        } else {
            self.named_by(instant)
        };
        latest.filter(|latest| *latest <= instant && *latest > Timestamp::MIN)
    }

    /// The first `count` runs after `from`; no more than [`MOST_UPCOMING`] of them.
    pub fn upcoming(&self, from: Timestamp, count: usize) -> Vec<Timestamp> {
        std::iter::successors(self.next_after(from), |run| self.next_after(*run))
            .take(count.min(MOST_UPCOMING))
            .collect()
    }

    /// The window of a run that begins then.
    pub fn window_of(&self, run: Timestamp) -> TimeRange {
        TimeRange::starting_at(run, self.window)
    }

    /// The window of the latest run that has begun, where it is not over. Where windows overlap, this is the
    /// latest one's.
    pub fn window_open_at(&self, now: Timestamp) -> Option<TimeRange> {
        let window = self.window_of(self.latest_by(now)?);
        window.contains(now).then_some(window)
    }

    fn named_after(&self, instant: Timestamp) -> Option<Timestamp> {
        let mut wall = self.wall(instant);
        for _ in 0..MOST_STEPS {
            wall = self.cron.after(wall, false)?;
            let run = self.placed(wall)?;
            if run > instant {
                return Some(run);
            }
        }
        None
    }

    fn named_by(&self, instant: Timestamp) -> Option<Timestamp> {
        // In the second of two repeated hours, the end of the first is as far as clocks have ever shown.
        let furthest = self.last_change(instant).and_then(before).map(|end| self.wall(end));
        let shown = self.wall(instant);
        let mut wall = furthest.map_or(shown, |furthest| shown.max(furthest));
        for _ in 0..MOST_STEPS {
            wall = self.cron.by(wall)?;
            let run = self.placed(wall)?;
            if run <= instant {
                return Some(run);
            }
            wall = wall.checked_sub(jiff::SignedDuration::from_secs(1)).ok()?;
        }
        None
    }

    /// The instant for which this time of the calendar stands, by the first of the two rules.
    fn placed(&self, wall: DateTime) -> Option<Timestamp> {
        let zone = self.time_zone.time_zone();
        let instant = match zone.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(wall).ok()?,
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(wall).ok()?,
            AmbiguousOffset::Gap { after, .. } => {
                let before_the_change = after.to_timestamp(wall).ok()?;
                zone.following(before_the_change).next()?.timestamp()
            }
        };
        Some(Timestamp::from_jiff(instant))
    }

    fn interval_after(&self, instant: Timestamp) -> Option<Timestamp> {
        let (mut from, mut inclusive) = (instant, false);
        for _ in 0..MOST_STEPS {
            let run = self.at_the_offset_of(from, self.cron.after(self.wall(from), inclusive)?)?;
            match self.next_change(from) {
                Some(change) if run >= change => (from, inclusive) = (change, true),
                _ => return Some(run),
            }
        }
        None
    }

    fn interval_by(&self, instant: Timestamp) -> Option<Timestamp> {
        let mut until = instant;
        for _ in 0..MOST_STEPS {
            let run = self.at_the_offset_of(until, self.cron.by(self.wall(until))?)?;
            match self.last_change(until) {
                Some(change) if run < change => until = before(change)?,
                _ => return Some(run),
            }
        }
        None
    }

    /// When a clock shows `wall` that is never changed again, backward or forward from `instant`.
    fn at_the_offset_of(&self, instant: Timestamp, wall: DateTime) -> Option<Timestamp> {
        let offset = self.time_zone.time_zone().to_offset(instant.to_jiff());
        offset.to_timestamp(wall).ok().map(Timestamp::from_jiff)
    }

    /// What a clock shows, to the second.
    fn wall(&self, instant: Timestamp) -> DateTime {
        let wall = self.time_zone.time_zone().to_datetime(instant.to_jiff());
        wall.with().subsec_nanosecond(0).build().unwrap_or(wall)
    }

    fn next_change(&self, after: Timestamp) -> Option<Timestamp> {
        let change = self.time_zone.time_zone().following(after.to_jiff()).next()?;
        Some(Timestamp::from_jiff(change.timestamp()))
    }

    /// The latest change of clocks at or before an instant.
    fn last_change(&self, by: Timestamp) -> Option<Timestamp> {
        let change =
            self.time_zone.time_zone().preceding(by.saturating_offset(1).to_jiff()).next()?;
        Some(Timestamp::from_jiff(change.timestamp()))
    }
}

/// The last whole second before.
fn before(instant: Timestamp) -> Option<Timestamp> {
    Some(instant.saturating_sub(Duration::from_secs(1))).filter(|before| *before > Timestamp::MIN)
}

/// `0 23 * * * in Europe/Berlin, for 6h`
impl fmt::Display for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Schedule { cron, time_zone, window } = self;
        write!(formatter, "{cron} in {time_zone}, for {}", period::text(*window))
    }
}

#[cfg(test)]
mod tests;
