//! Layouts: how a recorder names its files, and what instant a name tells.
//!
//! Pure, but for reading the system's time zone data when a layout is made. A layout looks at nothing
//! but the name: whether a file is there, and whether its recorder's clock was right, is the business
//! of others. A path that matches, or is made here, is relative and never leaves the stream's root.
//!
//! A template is matched from the first character to the last, `/` between directories:
//!
//! | placeholder | meaning | characters |
//! |---|---|---|
//! | `%Y %m %d` | date | 4, 2, 2 digits |
//! | `%y` | year, 2000 to 2099 | 2 digits |
//! | `%F` | `%Y-%m-%d` | |
//! | `%H %M %S` | time of day, 24 hours | 2 digits each |
//! | `%f` | fraction of the second | 6 digits written, 1 to 9 understood |
//! | `%s` | Unix seconds; the date is then not looked at | digits |
//! | `{counter}` | number of the segment, as its recorder counts them | digits |
//! | `{camera}` | which of several cameras, or encoder outputs, that share the directories | letters, digits, `_`, `-` |
//! | `{mp4\|ts}` | one of these texts, one of them may be empty; the first is what is written | |
//! | `{digits}` | a number that is not looked at | digits |
//! | `?` | a letter or digit that is not looked at | 1 |
//! | `%%` | a percent sign | |
//!
//! Letters match in either case. A recorder's name for a file that it is still writing is not to match:
//! such a file is no segment yet.

mod detect;
mod field;
mod preset;
mod template;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::{Offset, TimeZone};
use serde::{Deserialize, Serialize};

use crate::identity::{InvalidId, check_id};
use crate::segment::path_bytes;
use crate::time::Timestamp;

pub use detect::{Guess, Sample, detect};
use field::{FRACTION_DIGITS, Field, Fields};
pub use preset::Preset;
use template::{PLACEHOLDERS, Template};

/// The time zone that a configuration gets where it names none: that of the machine.
const LOCAL: &str = "local";

/// Room for a name that is made: most are shorter.
const NAME_BYTES: usize = 48;

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

/// Naming templates together with their time zone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "LayoutConfig", into = "LayoutConfig")]
pub struct Layout {
    config: LayoutConfig,
    /// By this one, names are made.
    template: Template,
    further: Vec<Template>,
    zone: TimeZone,
    /// Of a zone whose clocks are never changed.
    always: Option<Offset>,
}

/// A layout as a configuration writes it: `layout = "mediamtx"` or `template = "…"`, and the rest where needed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayoutConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<Preset>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// An IANA name, an offset as `+02:00`, a POSIX rule as `CET-1CEST,M3.5.0,M10.5.0/3`, `UTC`, or `local`
    /// (the machine's). Default: UTC where the format says so, else `local`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What stands for `{camera}`: the names of other cameras are not of this layout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub camera: Option<String>,
}

/// Why a layout cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error("a layout is either `layout = \"…\"` ({}) or `template = \"…\"`", preset_names())]
    NotOne,
    #[error("template `{template}`: `{placeholder}` is not known; allowed are {PLACEHOLDERS}")]
    UnknownPlaceholder { template: String, placeholder: String },
    #[error("template `{template}` lacks {missing}: {why}")]
    Incomplete { template: String, missing: &'static str, why: &'static str },
    #[error(
        "template `{template}`: where {placeholder} ends cannot be told, as what follows it may begin \
         with what could be more of it"
    )]
    Endless { template: String, placeholder: String },
    #[error("template `{template}` is not a relative path without `.` and `..`")]
    NotAPath { template: String },
    #[error("template `{template}` names several cameras: say which by `camera = \"…\"`")]
    WhichCamera { template: String },
    #[error("template `{template}` names no camera: leave out camera = `{camera}`")]
    NoCamera { template: String, camera: String },
    #[error("the camera of a layout")]
    Camera(#[from] InvalidId),
    #[error("names of the layout `{preset}` are in UTC: leave out time_zone = `{zone}`")]
    AlwaysUtc { preset: Preset, zone: String },
    #[error(
        "time zone `{zone}` cannot be had: give an IANA name such as Europe/Berlin, an offset such as \
         +02:00, `UTC`, or `local`; the names come with the package tzdata"
    )]
    TimeZone { zone: String, source: jiff::Error },
}

fn preset_names() -> String {
    Preset::ALL.map(Preset::name).join(", ")
}

impl Layout {
    /// `time_zone` as in [`LayoutConfig::time_zone`].
    pub fn new(template: &str, time_zone: &str) -> Result<Layout, LayoutError> {
        let (template, time_zone) = (Some(template.to_owned()), Some(time_zone.to_owned()));
        LayoutConfig { template, time_zone, ..LayoutConfig::default() }.try_into()
    }

    /// For a preset without `{camera}`; `time_zone` as in [`LayoutConfig::time_zone`].
    pub fn preset(preset: Preset, time_zone: &str) -> Result<Layout, LayoutError> {
        let (layout, time_zone) = (Some(preset), Some(time_zone.to_owned()));
        LayoutConfig { layout, time_zone, ..LayoutConfig::default() }.try_into()
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
        let name = path_bytes(relative_path);
        let mut templates = std::iter::once(&self.template).chain(&self.further);
        let (template, fields) =
            templates.find_map(|template| Some((template, template.read(name)?)))?;
        let step = step(template, fields.fraction_step_ns);
        let counter = fields.get(Field::Counter).map(u32::try_from).transpose().ok()?;
        let (start, uncertainty) = match fields.get(Field::UnixSeconds) {
            Some(seconds) => (unix_nanos(seconds, &fields)?, step),
            None => self.extent(civil(&fields)?, step)?,
        };
        Some(NamedTime { start: Timestamp::from_nanos(start), uncertainty, counter })
    }

    /// The name of a segment that starts at `start`, rounded down to [`Layout::resolution`].
    ///
    /// [`Layout::parse`] of it gives a time that holds `start` within its uncertainty.
    pub fn path_for(&self, start: Timestamp, counter: u32) -> PathBuf {
        PathBuf::from(OsString::from_vec(self.name_for(start, counter)))
    }

    /// Whether this is what [`Layout::path_for`] makes.
    pub(crate) fn makes(&self, path: &Path, start: Timestamp, counter: u32) -> bool {
        path_bytes(path) == self.name_for(start, counter)
    }

    fn name_for(&self, start: Timestamp, counter: u32) -> Vec<u8> {
        let mut name = Vec::with_capacity(NAME_BYTES);
        self.template.write(&self.fields_of(start, counter), &mut name);
        name
    }

    fn fields_of(&self, start: Timestamp, counter: u32) -> Fields {
        let civil = self.zone.to_datetime(start.to_jiff());
        let nanos = start.as_nanos();
        let numbers = [
            (Field::Year, civil.year().into()),
            (Field::Month, civil.month().into()),
            (Field::Day, civil.day().into()),
            (Field::Hour, civil.hour().into()),
            (Field::Minute, civil.minute().into()),
            (Field::Second, civil.second().into()),
            (Field::Fraction, nanos.rem_euclid(1_000_000_000)),
            (Field::UnixSeconds, nanos.div_euclid(1_000_000_000)),
            (Field::Counter, counter.into()),
        ];
        let mut fields = Fields::default();
        for (field, number) in numbers {
            fields.set(field, number);
        }
        fields
    }

    /// One step of the finest field of the names that [`Layout::path_for`] writes.
    pub fn resolution(&self) -> Duration {
        step(&self.template, 10_u32.pow(9 - FRACTION_DIGITS))
    }

    /// What names are made by; the first where a preset has several.
    pub fn template(&self) -> &str {
        self.config.templates().ok().and_then(|texts| texts.first().copied()).unwrap_or_default()
    }

    /// The first instant whose local time lies in `[civil, civil + step)`, in nanoseconds, and how far
    /// behind it the last such instant ends.
    fn extent(&self, civil: DateTime, step: Duration) -> Option<(i64, Duration)> {
        if let Some(offset) = self.always {
            let start = offset.to_timestamp(civil).ok()?;
            return Some((i64::try_from(start.as_nanosecond()).ok()?, step));
        }
        let nanosecond = SignedDuration::from_nanos(1);
        let last = civil.checked_add(step).and_then(|end| end.checked_sub(nanosecond)).ok()?;
        let earliest = self.zone.to_ambiguous_timestamp(civil).earlier().ok()?;
        let latest = self.zone.to_ambiguous_timestamp(last).later().ok()?;
        let start = i64::try_from(earliest.as_nanosecond()).ok()?;
        let extent = latest.duration_since(earliest) + nanosecond;
        Some((start, Duration::try_from(extent).ok()?))
    }
}

/// One step of the finest field.
fn step(template: &Template, fraction_step_ns: u32) -> Duration {
    match template.finest {
        Field::Fraction => Duration::from_nanos(fraction_step_ns.into()),
        Field::UnixSeconds | Field::Second => Duration::from_secs(1),
        Field::Minute => Duration::from_secs(60),
        Field::Hour => Duration::from_secs(3_600),
        _ => Duration::from_secs(86_400),
    }
}

fn unix_nanos(seconds: i64, fields: &Fields) -> Option<i64> {
    seconds.checked_mul(1_000_000_000)?.checked_add(fields.get(Field::Fraction).unwrap_or(0))
}

/// `None` where no calendar has it: a 13th month, a 60th second.
fn civil(fields: &Fields) -> Option<DateTime> {
    let small = |field: Field| i8::try_from(fields.get(field).unwrap_or(0)).ok();
    DateTime::new(
        i16::try_from(fields.get(Field::Year)?).ok()?,
        small(Field::Month)?,
        small(Field::Day)?,
        small(Field::Hour)?,
        small(Field::Minute)?,
        small(Field::Second)?,
        i32::try_from(fields.get(Field::Fraction).unwrap_or(0)).ok()?,
    )
    .ok()
}

fn zone(name: &str) -> Result<TimeZone, LayoutError> {
    let found = match name {
        LOCAL => TimeZone::try_system(),
        "UTC" => Ok(TimeZone::UTC),
        name => DateTimeParser::new().parse_time_zone(name),
    };
    found.map_err(|source| LayoutError::TimeZone { zone: name.to_owned(), source })
}

impl LayoutConfig {
    fn templates(&self) -> Result<Vec<&str>, LayoutError> {
        match (self.layout, &self.template) {
            (Some(preset), None) => Ok(preset.templates().to_vec()),
            (None, Some(template)) => Ok(vec![template]),
            _ => Err(LayoutError::NotOne),
        }
    }
}

impl TryFrom<LayoutConfig> for Layout {
    type Error = LayoutError;

    fn try_from(config: LayoutConfig) -> Result<Layout, LayoutError> {
        let texts = config.templates()?;
        if let Some(camera) = &config.camera {
            check_id(camera)?;
            if let Some(text) = texts.iter().find(|text| !text.contains("{camera}")) {
                let template = (*text).to_owned();
                return Err(LayoutError::NoCamera { template, camera: camera.clone() });
            }
        }
        let camera = config.camera.as_deref();
        let mut templates = texts.into_iter().map(|text| Template::compile(text, camera));
        let template = templates.next().ok_or(LayoutError::NotOne)??;
        let further = templates.collect::<Result<_, _>>()?;
        let utc = config.layout.filter(|preset| preset.is_always_utc());
        let zone = match (utc, &config.time_zone) {
            (Some(preset), Some(name)) if name != "UTC" => {
                return Err(LayoutError::AlwaysUtc { preset, zone: name.clone() });
            }
            (Some(_), _) => TimeZone::UTC,
            (None, Some(name)) => zone(name)?,
            (None, None) => zone(LOCAL)?,
        };
        let always = zone.to_fixed_offset().ok();
        Ok(Layout { config, template, further, zone, always })
    }
}

impl From<Layout> for LayoutConfig {
    fn from(layout: Layout) -> LayoutConfig {
        layout.config
    }
}
