//! What the device's own policy lets servers have, whatever a broker lets through. Pure.
//!
//! It must never be set from the wire. A server's name is its own word: that no stranger says it is the broker's
//! business, by certificates and its access list.

use std::time::Duration;

use protocol::message::ServerId;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde::Deserialize;

const HOUR: Duration = Duration::from_secs(3_600);

/// `[serve]` of the configuration; by default everything, to everybody whom the broker lets ask.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Permit {
    /// Who is listened to; nobody named: every server.
    pub servers: Vec<ServerId>,
    /// What is handed out; none named: every stream.
    pub streams: Vec<StreamId>,
    /// Footage that is older stays on the card; 0: none does.
    pub max_age_hours: u64,
}

impl Permit {
    pub fn hears(&self, server: &ServerId) -> bool {
        self.servers.is_empty() || self.servers.contains(server)
    }

    pub fn serves(&self, stream: &StreamId) -> bool {
        self.streams.is_empty() || self.streams.contains(stream)
    }

    /// What of a range is young enough; `None` where nothing is. `newest` is the latest instant that the device
    /// knows of, by its clock or its footage: a clock that is set back makes nothing young again.
    pub fn young(&self, range: TimeRange, newest: Timestamp) -> Option<TimeRange> {
        if self.max_age_hours == 0 {
            return Some(range);
        }
        let oldest = newest.saturating_sub(HOUR.saturating_mul(self.hours()));
        let young = TimeRange::new(range.start().max(oldest), range.end());
        young.filter(|young| !young.is_empty())
    }

    fn hours(&self) -> u32 {
        u32::try_from(self.max_age_hours).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(from: i64, to: i64) -> TimeRange {
        let at = |hour: i64| Timestamp::from_unix_seconds(hour * 3_600);
        TimeRange::new(at(from), at(to)).unwrap()
    }

    #[test]
    fn nothing_is_forbidden_unless_it_is_said() {
        let permit = Permit::default();
        assert!(permit.hears(&"any".parse().unwrap()) && permit.serves(&"sub".parse().unwrap()));
        assert_eq!(permit.young(hours(0, 1), Timestamp::MAX), Some(hours(0, 1)));
    }

    #[test]
    fn only_who_and_what_is_named_is_served() {
        let permit: Permit = toml::from_str("servers = [\"depot\"]\nstreams = [\"main\"]").unwrap();
        assert!(
            permit.hears(&"depot".parse().unwrap()) && !permit.hears(&"other".parse().unwrap())
        );
        assert!(permit.serves(&"main".parse().unwrap()) && !permit.serves(&"sub".parse().unwrap()));
        assert!(toml::from_str::<Permit>("server = [\"depot\"]").is_err());
    }

    #[test]
    fn old_footage_is_cut_off_at_the_hour() {
        let permit = Permit { max_age_hours: 24, ..Permit::default() };
        let newest = hours(0, 100).end();
        assert_eq!(permit.young(hours(90, 95), newest), Some(hours(90, 95)));
        assert_eq!(permit.young(hours(70, 80), newest), Some(hours(76, 80)));
        assert_eq!(permit.young(hours(70, 76), newest), None);
        assert_eq!(permit.young(hours(0, 10), newest), None);
    }
}
