//! Which devices a policy or a group means: an id, or the beginning of ids.
//!
//! Pure.

use std::fmt;
use std::str::FromStr;

use protocol::message::DeviceId;
use sdcard_indexer::id_type;
use sdcard_indexer::identity::{InvalidId, MAX_ID_BYTES, check_id};
use serde::{Deserialize, Serialize};

id_type! {
    /// A group's name: 1 to 64 of `A-Z a-z 0-9 _ -`.
    GroupName
}

/// Devices under one name, for policies to share.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    pub name: GroupName,
    pub devices: Vec<DevicePattern>,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "`{text}` means no devices: give a device's id, or the beginning of ids and one `*` at its end"
)]
pub struct DevicePatternError {
    pub text: String,
    #[source]
    pub source: InvalidId,
}

/// A device's id, or the beginning of ids with one `*` behind it; `*` alone means all devices.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DevicePattern {
    Id(DeviceId),
    /// What the id begins with; may be empty.
    Beginning(String),
}

impl DevicePattern {
    pub fn all() -> DevicePattern {
        DevicePattern::Beginning(String::new())
    }

    pub fn matches(&self, device: &DeviceId) -> bool {
        match self {
            DevicePattern::Id(id) => id == device,
            DevicePattern::Beginning(beginning) => device.as_str().starts_with(beginning),
        }
    }
}

impl FromStr for DevicePattern {
    type Err = DevicePatternError;

    fn from_str(text: &str) -> Result<DevicePattern, DevicePatternError> {
        let pattern = match text.strip_suffix('*') {
            Some("") => Ok(DevicePattern::all()),
            Some(start) => check_id(start).map(|()| DevicePattern::Beginning(start.to_owned())),
            None => text.parse().map(DevicePattern::Id),
        };
        let shown = || text.chars().take(MAX_ID_BYTES + 1).collect();
        pattern.map_err(|source| DevicePatternError { text: shown(), source })
    }
}

impl TryFrom<String> for DevicePattern {
    type Error = DevicePatternError;

    fn try_from(text: String) -> Result<DevicePattern, DevicePatternError> {
        text.parse()
    }
}

impl From<DevicePattern> for String {
    fn from(pattern: DevicePattern) -> String {
        pattern.to_string()
    }
}

impl fmt::Display for DevicePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DevicePattern::Id(id) => id.fmt(formatter),
            DevicePattern::Beginning(beginning) => write!(formatter, "{beginning}*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, device: &str) -> bool {
        pattern.parse::<DevicePattern>().unwrap().matches(&device.parse().unwrap())
    }

    #[test]
    fn an_id_means_one_device_and_a_star_all_that_begin_so() {
        assert!(matches("bwc-1", "bwc-1") && !matches("bwc-1", "bwc-10"));
        assert!(matches("bwc-*", "bwc-10") && !matches("bwc-*", "cam-bwc-1"));
        assert!(matches("bwc-*", "bwc-") && !matches("bwc-*", "bwc"));
        assert!(matches("*", "anything"));
        assert!(!matches("bwc-*", "BWC-1"));
    }

    #[test]
    fn a_star_elsewhere_and_what_no_id_can_begin_with_are_refused() {
        for text in ["", "b*c", "**", "bwc*-*", "a b", "a/*", ".*"] {
            let error = text.parse::<DevicePattern>().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains('*'), "{error}");
        }
    }
}
