//! Layouts: how a recorder names its files, and what instant a name tells.
//!
//! Pure, but for reading the system's time zone data when a layout is made. A layout looks at nothing
//! but the name: whether a file is there, and whether its recorder's clock was right, is the business
//! of others. A path that matches, or is made here, is relative and never leaves the stream's root.
//!
//! A template is matched from the first character to the last, `/` between directories:
//!
//! | placeholder | meaning | digits |
//! |---|---|---|
//! | `%Y %m %d` | date | 4, 2, 2 |
//! | `%H %M %S` | time of day, 24 hours | 2 each |
//! | `%f` | fraction of the second | 6 written, 1 to 9 understood |
//! | `%s` | Unix seconds; the date is then not looked at | any |
//! | `{counter}` | number of the segment within its span (ONVIF) | any |
//! | `%%` | a percent sign | |

mod preset;
mod template;

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

pub use preset::Preset;
use template::{FRACTION_DIGITS, Field, Fields, PLACEHOLDERS, Template};

/// The time zone that a configuration gets where it names none: that of the machine.
const LOCAL: &str = "local";

/// What a name tells of its segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NamedTime {
    /// The earliest instant that the name may stand for.
    pub start: Timestamp,
    /// The true start lies in `[start, start + uncertainty)`: one step of the name's finest field, and
    /// an hour more where the hour is a repeated one at the end of daylight saving time.
    pub uncertainty: Duration,
    pub counter: Option<u32>,
}

/// A naming template together with its time zone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "LayoutConfig", into = "LayoutConfig")]
pub struct Layout {
    config: LayoutConfig,
    template: Template,
    zone: TimeZone,
}

/// A layout as a configuration writes it: `layout = "mediamtx"` or `template = "…"`, and a `time_zone`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayoutConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<Preset>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// An IANA name, `UTC`, or `local` (the machine's). Default: UTC where the format says so, else `local`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// Why a layout cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error("a layout is either `layout = \"…\"` (onvif, mediamtx, ffmpeg) or `template = \"…\"`")]
    NotOne,
    #[error("template `{template}`: `{placeholder}` is not known; allowed are {PLACEHOLDERS}")]
    UnknownPlaceholder { template: String, placeholder: String },
    #[error("template `{template}` lacks {missing}: {why}")]
    Incomplete { template: String, missing: &'static str, why: &'static str },
    #[error("template `{template}`: a digit may not follow {placeholder}, whose length varies")]
    Endless { template: String, placeholder: &'static str },
    #[error("template `{template}` is not a relative path without `.` and `..`")]
    NotAPath { template: String },
    #[error("names of the layout `onvif` are in UTC: leave out time_zone = `{zone}`")]
    AlwaysUtc { zone: String },
    #[error(
        "time zone `{zone}` cannot be had: give an IANA name such as Europe/Berlin, `UTC`, or `local`; \
         the names come with the package tzdata"
    )]
    TimeZone { zone: String, source: jiff::Error },
}

impl Layout {
    /// `time_zone` is an IANA name, `UTC` or `local`.
    pub fn new(template: &str, time_zone: &str) -> Result<Layout, LayoutError> {
        let (template, time_zone) = (Some(template.to_owned()), Some(time_zone.to_owned()));
        LayoutConfig { layout: None, template, time_zone }.try_into()
    }

    /// `time_zone` is an IANA name, `UTC` or `local`.
    pub fn preset(preset: Preset, time_zone: &str) -> Result<Layout, LayoutError> {
        let (layout, time_zone) = (Some(preset), Some(time_zone.to_owned()));
        LayoutConfig { layout, template: None, time_zone }.try_into()
    }

    /// The layout of Gapless's own archive.
    pub fn onvif() -> Layout {
        let config = LayoutConfig { layout: Some(Preset::Onvif), ..LayoutConfig::default() };
        config.try_into().expect("the ONVIF template is well-formed, and UTC always known")
    }

    /// What the name tells; `None` where it is not of this layout, or no such instant exists.
    ///
    /// `relative_path` is relative to the stream's root. A local time that daylight saving time skips is
    /// taken for one on either side of the skip, with an uncertainty that holds both.
    pub fn parse(&self, relative_path: &Path) -> Option<NamedTime> {
        let fields = self.template.read(relative_path.to_str()?)?;
        let step = self.step(&fields);
        let counter = fields.counter.map(u32::try_from).transpose().ok()?;
        let (start, uncertainty) = match fields.unix_seconds {
            Some(seconds) => {
                let nanos = seconds.checked_mul(1_000_000_000)?;
                (nanos.checked_add(fields.fraction_ns.unwrap_or(0))?, step)
            }
            None => self.extent(civil(&fields)?, step)?,
        };
        Some(NamedTime { start: Timestamp::from_nanos(start), uncertainty, counter })
    }

    /// The name of a segment that starts at `start`, rounded down to [`Layout::resolution`].
    ///
    /// [`Layout::parse`] of it gives a time that holds `start` within its uncertainty.
    pub fn path_for(&self, start: Timestamp, counter: u32) -> PathBuf {
        let civil = self.zone.to_datetime(start.to_jiff());
        let nanos = start.as_nanos();
        let fields = Fields {
            year: Some(civil.year().into()),
            month: Some(civil.month().into()),
            day: Some(civil.day().into()),
            hour: Some(civil.hour().into()),
            minute: Some(civil.minute().into()),
            second: Some(civil.second().into()),
            fraction_ns: Some(nanos.rem_euclid(1_000_000_000)),
            unix_seconds: Some(nanos.div_euclid(1_000_000_000)),
            counter: Some(counter.into()),
            fraction_step_ns: 0,
        };
        PathBuf::from(self.template.write(&fields))
    }

    /// One step of the finest field of the names that [`Layout::path_for`] writes.
    pub fn resolution(&self) -> Duration {
        let fraction_step_ns = 10_u32.pow(9 - FRACTION_DIGITS);
        self.step(&Fields { fraction_step_ns, ..Fields::default() })
    }

    pub fn template(&self) -> &str {
        self.config.template_text().unwrap_or_default()
    }

    fn step(&self, fields: &Fields) -> Duration {
        if self.template.holds(Field::Fraction) {
            return Duration::from_nanos(fields.fraction_step_ns.into());
        }
        let seconds = [
            (Field::UnixSeconds, 1),
            (Field::Second, 1),
            (Field::Minute, 60),
            (Field::Hour, 3_600),
        ];
        let finest = seconds.into_iter().find(|(field, _)| self.template.holds(*field));
        Duration::from_secs(finest.map_or(86_400, |(_, seconds)| seconds))
    }

    /// The first instant whose local time lies in `[civil, civil + step)`, in nanoseconds, and how far
    /// behind it the last such instant ends.
    fn extent(&self, civil: DateTime, step: Duration) -> Option<(i64, Duration)> {
        let nanosecond = SignedDuration::from_nanos(1);
        let last = civil.checked_add(step).and_then(|end| end.checked_sub(nanosecond)).ok()?;
        let earliest = self.zone.to_ambiguous_timestamp(civil).earlier().ok()?;
        let latest = self.zone.to_ambiguous_timestamp(last).later().ok()?;
        let start = i64::try_from(earliest.as_nanosecond()).ok()?;
        let extent = latest.duration_since(earliest) + nanosecond;
        Some((start, Duration::try_from(extent).ok()?))
    }
}

/// `None` where no calendar has it: a 13th month, a 60th second.
fn civil(fields: &Fields) -> Option<DateTime> {
    let small = |value: Option<i64>| i8::try_from(value.unwrap_or(0)).ok();
    DateTime::new(
        i16::try_from(fields.year?).ok()?,
        small(fields.month)?,
        small(fields.day)?,
        small(fields.hour)?,
        small(fields.minute)?,
        small(fields.second)?,
        i32::try_from(fields.fraction_ns.unwrap_or(0)).ok()?,
    )
    .ok()
}

fn zone(name: &str) -> Result<TimeZone, LayoutError> {
    let found = match name {
        LOCAL => TimeZone::try_system(),
        "UTC" => Ok(TimeZone::UTC),
        name => TimeZone::get(name),
    };
    found.map_err(|source| LayoutError::TimeZone { zone: name.to_owned(), source })
}

impl LayoutConfig {
    fn template_text(&self) -> Result<&str, LayoutError> {
        match (self.layout, &self.template) {
            (Some(preset), None) => Ok(preset.template()),
            (None, Some(template)) => Ok(template),
            _ => Err(LayoutError::NotOne),
        }
    }
}

impl TryFrom<LayoutConfig> for Layout {
    type Error = LayoutError;

    fn try_from(config: LayoutConfig) -> Result<Layout, LayoutError> {
        let template = Template::compile(config.template_text()?)?;
        let always_utc = config.layout.is_some_and(Preset::is_always_utc);
        let zone = match &config.time_zone {
            Some(name) if always_utc && name != "UTC" => {
                return Err(LayoutError::AlwaysUtc { zone: name.clone() });
            }
            Some(name) => zone(name)?,
            None if always_utc => TimeZone::UTC,
            None => zone(LOCAL)?,
        };
        Ok(Layout { config, template, zone })
    }
}

impl From<Layout> for LayoutConfig {
    fn from(layout: Layout) -> LayoutConfig {
        layout.config
    }
}
