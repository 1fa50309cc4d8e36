//! Time zones by their IANA name, as policies name them.
//!
//! Reads the system's time zone data when a name is read, and is pure from then on. An offset such as
//! `+01:00`, or the zone of the machine, is no name: it would not say when summer begins.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "time zone `{name}` cannot be had: give an IANA name such as Europe/Berlin, or UTC; {reason}"
)]
pub struct UnknownZone {
    pub name: String,
    pub reason: String,
}

/// A time zone that can be asked what its clocks show.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

impl Zone {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub const fn time_zone(&self) -> &TimeZone {
        &self.zone
    }
}

impl FromStr for Zone {
    type Err = UnknownZone;

    fn from_str(name: &str) -> Result<Zone, UnknownZone> {
        let zone = TimeZone::get(name).map_err(|error| UnknownZone {
            name: name.chars().take(super::MOST_TEXT).collect(),
            reason: error.to_string(),
        })?;
        // The data's own spelling: names are found in any case.
        let name = zone.iana_name().unwrap_or(name).to_owned();
        Ok(Zone { name, zone })
    }
}

impl TryFrom<String> for Zone {
    type Error = UnknownZone;

    fn try_from(name: String) -> Result<Zone, UnknownZone> {
        name.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> String {
        zone.name
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_known_by_its_name_in_any_case() {
        assert_eq!("europe/berlin".parse::<Zone>().unwrap().name(), "Europe/Berlin");
        assert_eq!("UTC".parse::<Zone>().unwrap().to_string(), "UTC");
    }

    #[test]
    fn what_does_not_say_when_summer_begins_is_no_zone() {
        for name in ["Mars/Base", "+01:00", "local", "", "../../etc/passwd", "Europe"] {
            let error = name.parse::<Zone>().unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("Europe/Berlin"), "{error}");
        }
    }
}
