//! Weekly hours: when something should be recorded, as `Mon-Fri 06:00-22:00` says it.
//!
//! Pure; knows no holidays. An instant is within the hours where a clock on the wall of the time zone shows
//! a time that is. So what spring skips never comes, and what autumn repeats comes twice, as for a recorder
//! that goes by such a clock.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde::{Deserialize, Serialize};

/// Lines of one policy.
pub const MOST_LINES: usize = 64;

const DAY_MINUTES: u16 = 24 * 60;
const WEEK_MINUTES: u16 = 7 * DAY_MINUTES;
const WEEK_S: i64 = WEEK_MINUTES as i64 * 60;
/// 1969-12-29, a Monday.
const A_MONDAY_S: i64 = -3 * 86_400;

/// In the order in which weeks are written here: from Monday on.
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const LONG_DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HoursError {
    #[error("`{line}` are no weekly hours such as `Mon-Fri 06:00-22:00` or `Sat,Sun 22:00-02:00`")]
    Form { line: String },
    #[error("`{line}`: `{day}` is no day of the week: use Mon, Tue, Wed, Thu, Fri, Sat, Sun")]
    Day { line: String, day: String },
    #[error("`{line}`: `{time}` is no time of day from 00:00 to 24:00")]
    Time { line: String, time: String },
    #[error("`{line}` ends when it begins: for a whole day, write 00:00-24:00")]
    Empty { line: String },
    #[error("there must be 1 to {MOST_LINES} weekly hours, not {0}")]
    Lines(usize),
}

/// One line: the same hours on some days of each week.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HoursLine {
    /// A bit for each day on which the hours begin, Monday lowest.
    days: u8,
    /// Minute of the day; below 24:00.
    from: u16,
    /// Minute of the same day, up to 24:00, or of the next where it is not above `from`.
    until: u16,
}

/// All lines of a policy together.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<HoursLine>", into = "Vec<HoursLine>")]
pub struct WeeklyHours {
    lines: Vec<HoursLine>,
    /// Minutes of the week from Monday on, `[from, until)`: sorted, disjoint.
    week: Vec<(u16, u16)>,
}

impl WeeklyHours {
    pub fn new(lines: Vec<HoursLine>) -> Result<WeeklyHours, HoursError> {
        if lines.is_empty() || lines.len() > MOST_LINES {
            return Err(HoursError::Lines(lines.len()));
        }
        let mut ranges: Vec<(u16, u16)> = lines.iter().flat_map(HoursLine::minutes).collect();
        ranges.sort_unstable();
        let mut week: Vec<(u16, u16)> = Vec::new();
        for (from, until) in ranges {
            match week.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(until),
                _ => week.push((from, until)),
            }
        }
        Ok(WeeklyHours { lines, week })
    }

    pub fn lines(&self) -> &[HoursLine] {
        &self.lines
    }

    /// What of `range` lies within the hours. Takes time in proportion to the weeks in it.
    pub fn coverage(&self, range: TimeRange, zone: &TimeZone) -> Coverage {
        let mut ranges = Vec::new();
        let mut start = range.start();
        // From one change of the clocks to the next, the wall is a constant away from UTC.
        while start < range.end() {
            let offset_s = i64::from(zone.to_offset(start.to_jiff()).seconds());
            let change = zone.following(start.to_jiff()).next();
            let end =
                change.map_or(Timestamp::MAX, |change| Timestamp::from_jiff(change.timestamp()));
            let end = end.min(range.end());
            if let Some(even) = TimeRange::new(start, end) {
                self.add(even, offset_s, &mut ranges);
            }
            start = end;
        }
        ranges.into_iter().collect()
    }

    /// Adds the hours within a range in which clocks are not changed.
    fn add(&self, range: TimeRange, offset_s: i64, ranges: &mut Vec<TimeRange>) {
        let week_of = |instant: Timestamp| {
            let wall_s = instant.as_nanos().div_euclid(1_000_000_000) + offset_s;
            (wall_s - A_MONDAY_S).div_euclid(WEEK_S)
        };
        for week in week_of(range.start())..=week_of(range.end()) {
            let monday_s = A_MONDAY_S + week * WEEK_S - offset_s;
            let at = |minute: u16| Timestamp::from_unix_seconds(monday_s + i64::from(minute) * 60);
            for (from, until) in &self.week {
                let hours = TimeRange::new(at(*from), at(*until));
                ranges.extend(hours.and_then(|hours| hours.intersection(&range)));
            }
        }
    }
}

impl TryFrom<Vec<HoursLine>> for WeeklyHours {
    type Error = HoursError;

    fn try_from(lines: Vec<HoursLine>) -> Result<WeeklyHours, HoursError> {
        WeeklyHours::new(lines)
    }
}

impl From<WeeklyHours> for Vec<HoursLine> {
    fn from(hours: WeeklyHours) -> Vec<HoursLine> {
        hours.lines
    }
}

impl fmt::Display for WeeklyHours {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.lines.iter().enumerate() {
            write!(formatter, "{}{line}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl HoursLine {
    /// Minutes of the week; hours that cross midnight on Sunday go on at the week's beginning.
    fn minutes(&self) -> impl Iterator<Item = (u16, u16)> + use<> {
        let HoursLine { days, from, until } = *self;
        let length = if until > from { until - from } else { until + DAY_MINUTES - from };
        (0..7).filter(move |day| days & (1 << day) != 0).flat_map(move |day| {
            let from = day * DAY_MINUTES + from;
            let until = from + length;
            let next_week = until.checked_sub(WEEK_MINUTES).filter(|rest| *rest > 0);
            [Some((from, until.min(WEEK_MINUTES))), next_week.map(|rest| (0, rest))]
                .into_iter()
                .flatten()
        })
    }
}

impl FromStr for HoursLine {
    type Err = HoursError;

    fn from_str(text: &str) -> Result<HoursLine, HoursError> {
        let line = || text.chars().take(super::MOST_TEXT).collect::<String>();
        let form = || HoursError::Form { line: line() };
        let (days, hours) = text.trim().rsplit_once(char::is_whitespace).ok_or_else(form)?;
        let (from, until) = hours.split_once('-').ok_or_else(form)?;
        let time = |text: &str| {
            minute_of_day(text).ok_or_else(|| HoursError::Time { line: line(), time: text.into() })
        };
        let (days, begin, until) = (days_of(days, &line)?, time(from)?, time(until)?);
        if begin == DAY_MINUTES {
            return Err(HoursError::Time { line: line(), time: from.into() });
        }
        if begin == until {
            return Err(HoursError::Empty { line: line() });
        }
        Ok(HoursLine { days, from: begin, until })
    }
}

/// `Mon`, `Mon-Fri`, `Sat,Sun`, `Fri-Mon`: a bit for each day.
fn days_of(text: &str, line: &impl Fn() -> String) -> Result<u8, HoursError> {
    let day = |text: &str| {
        let named =
            |names: [&str; 7]| names.iter().position(|name| name.eq_ignore_ascii_case(text));
        named(DAYS)
            .or_else(|| named(LONG_DAYS))
            .ok_or_else(|| HoursError::Day { line: line(), day: text.chars().take(16).collect() })
    };
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first.trim())?, day(last.trim())?);
        let length = (last + 7 - first) % 7;
        for index in first..=first + length {
            days |= 1 << (index % 7);
        }
    }
    Ok(days)
}

/// `6:00` or `06:00`, up to `24:00`.
fn minute_of_day(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !(1..=2).contains(&hour.len()) || minute.len() != 2 || !digits(hour) || !digits(minute) {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    (minute < 60).then_some(hour * 60 + minute).filter(|minute| *minute <= DAY_MINUTES)
}

impl TryFrom<String> for HoursLine {
    type Error = HoursError;

    fn try_from(text: String) -> Result<HoursLine, HoursError> {
        text.parse()
    }
}

impl From<HoursLine> for String {
    fn from(line: HoursLine) -> String {
        line.to_string()
    }
}

/// What is read again as the same hours.
impl fmt::Display for HoursLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_on = |day: usize| self.days & (1 << day) != 0;
        let mut separator = "";
        let mut day = 0;
        while day < 7 {
            let length = (day..7).take_while(|day| is_on(*day)).count();
            let run = DAYS.get(day..day + length).unwrap_or_default();
            match run {
                [] => {}
                [only] => write!(formatter, "{separator}{only}")?,
                [first, last] => write!(formatter, "{separator}{first},{last}")?,
                [first, .., last] => write!(formatter, "{separator}{first}-{last}")?,
            }
            separator = if run.is_empty() { separator } else { "," };
            day += length.max(1);
        }
        let HoursLine { from, until, .. } = self;
        let (hour, minute) = (from / 60, from % 60);
        write!(formatter, " {hour:02}:{minute:02}-{:02}:{:02}", until / 60, until % 60)
    }
}

#[cfg(test)]
mod tests;
