//! Policies: what should be in the archive, and when and over what footage that is missing may be pulled.
//!
//! Pure: a policy is asked with a `now`, and answers. It pulls nothing, deletes nothing, and never says that
//! something is there: it only says what should be.
//!
//! In the order in which one is read: [`Policies`] tells which policy a stream has, by [`DevicePattern`]s and
//! groups; [`Record`] and [`hours`] what should be recorded; [`schedule`] when runs are; [`NetworkRule`] over
//! what they may go.

use std::collections::BTreeSet;
use std::time::Duration;

use protocol::message::Network;
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::id_type;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::fleet::Holding;
use crate::mode::Mode;

mod device;
pub mod hours;
mod list;
mod network;
pub mod period;
pub mod schedule;
mod show;
mod zone;

pub use device::{DevicePattern, DevicePatternError, Group, GroupName};
pub use hours::WeeklyHours;
pub use list::{DEFAULT_NAME, MOST_POLICIES, Origin, Policies, PolicyError};
pub use network::{NetworkRule, NetworkRuleError};
pub use schedule::Schedule;
pub use show::Run;
pub use zone::{UnknownZone, Zone};

/// How much of a text that makes no sense is repeated to whoever wrote it, in characters.
const MOST_TEXT: usize = 64;

/// Entries in any one list of a policy.
pub const MOST_ENTRIES: usize = 1_000;

/// What a policy has where it does not say another priority.
pub const DEFAULT_PRIORITY: u8 = 100;

id_type! {
    /// A policy's name: 1 to 64 of `A-Z a-z 0-9 _ -`.
    PolicyName
}

/// What should be recorded of some streams, and how what is missing is pulled. The same type in the file
/// (`[[policy]]`) and in the API.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PolicyFields)]
pub struct Policy {
    #[schema(value_type = crate::schema::Id)]
    pub name: PolicyName,
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub devices: Vec<DevicePattern>,
    /// Further devices, by the groups that they are in.
    #[serde(default)]
    #[schema(value_type = Vec<crate::schema::Id>)]
    pub groups: Vec<GroupName>,
    /// Empty: all.
    #[serde(default)]
    #[schema(value_type = Vec<crate::schema::Id>)]
    pub streams: Vec<StreamId>,
    #[serde(default)]
    pub record: Record,
    #[serde(default)]
    #[schema(value_type = Vec<Mode>)]
    pub modes: Modes,
    /// Of [`Record::Hours`]; a schedule has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "Europe/Berlin")]
    pub time_zone: Option<Zone>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Any one of them is good enough; empty: all are.
    #[serde(default)]
    #[schema(value_type = Vec<String>, example = json!(["ethernet", "10.20.0.0/16"]))]
    pub networks: Vec<NetworkRule>,
    /// Devices that are pulled from at once under this policy; 0: no limit.
    #[serde(default)]
    pub max_devices: usize,
    /// Of all its devices together; 0: no limit.
    #[serde(default, deserialize_with = "kbit_limit")]
    pub kbit_per_second: u64,
    /// 0: no limit.
    #[serde(default, deserialize_with = "kbit_limit")]
    pub kbit_per_second_per_device: u64,
    /// Within a mode, higher goes first.
    #[serde(default = "default_priority")]
    pub priority: u8,
    /// How far back gaps are looked for. It never deletes anything: Gapless deletes nothing.
    #[serde(default, with = "period::optional", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "30d")]
    pub retention: Option<Duration>,
}

const fn default_priority() -> u8 {
    DEFAULT_PRIORITY
}

/// What should be recorded.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// Every instant.
    #[default]
    Always,
    /// Whatever the device holds: of a body-worn unit, nobody else knows when it was switched on.
    Held,
    /// Within weekly hours, in the policy's time zone.
    Hours(WeeklyHours),
}

/// What may call for footage under a policy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Modes(BTreeSet<Mode>);

impl Modes {
    pub fn contains(&self, mode: Mode) -> bool {
        self.0.contains(&mode)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that go first come first.
    pub fn iter(&self) -> impl Iterator<Item = Mode> + '_ {
        Mode::ALL.into_iter().filter(|mode| self.contains(*mode))
    }
}

impl Default for Modes {
    fn default() -> Self {
        [Mode::Online, Mode::Manual].into_iter().collect()
    }
}

impl FromIterator<Mode> for Modes {
    fn from_iter<I: IntoIterator<Item = Mode>>(modes: I) -> Self {
        Modes(modes.into_iter().collect())
    }
}

impl Policy {
    /// With every default, for these devices.
    pub fn new(name: PolicyName, devices: Vec<DevicePattern>) -> Policy {
        Policy {
            name,
            devices,
            groups: Vec::new(),
            streams: Vec::new(),
            record: Record::default(),
            modes: Modes::default(),
            time_zone: None,
            schedule: None,
            networks: Vec::new(),
            max_devices: 0,
            kbit_per_second: 0,
            kbit_per_second_per_device: 0,
            priority: DEFAULT_PRIORITY,
            retention: None,
        }
    }

    /// What of `[from, until)` should be in the archive; where retention is set, nothing that is older.
    ///
    /// `holding` matters where whatever the device holds should be: what it held once, or says it has lost,
    /// is expected too, or a loss would look as if all were well.
    pub fn expected(
        &self,
        from: Timestamp,
        until: Timestamp,
        holding: Option<&Holding>,
        now: Timestamp,
    ) -> Coverage {
        let oldest = self.retention.map_or(Timestamp::MIN, |length| now.saturating_sub(length));
        let Some(range) = TimeRange::new(from.max(oldest), until) else { return Coverage::new() };
        match &self.record {
            Record::Always => Coverage::from(range),
            Record::Held => holding.map_or_else(Coverage::new, |holding| {
                holding.held.union(&holding.once_held).union(&holding.gone).clip(range)
            }),
            Record::Hours(hours) => {
                let zone = self.time_zone.as_ref().map(Zone::time_zone);
                hours.coverage(range, zone.unwrap_or(&jiff::tz::TimeZone::UTC))
            }
        }
    }

    /// Whether footage may be pulled over the network that the device is on.
    pub fn allows(&self, network: &Network) -> bool {
        self.networks.is_empty() || self.networks.iter().any(|rule| rule.allows(network))
    }

    /// Why not, for people; `None` where [`Policy::allows`] says yes.
    pub fn why_not(&self, network: &Network) -> Option<String> {
        (!self.allows(network)).then(|| {
            format!(
                "policy `{}` waits for {}; the device is {}",
                self.name,
                show::joined(&self.networks, " or "),
                network::whereabouts(network)
            )
        })
    }

    /// Of all devices together; 0: no limit.
    pub const fn bytes_per_second(&self) -> u64 {
        bytes_of_kbit(self.kbit_per_second)
    }

    /// Of each device; 0: no limit.
    pub const fn bytes_per_second_per_device(&self) -> u64 {
        bytes_of_kbit(self.kbit_per_second_per_device)
    }

    /// Whether its parts make sense together; what needs other policies or groups is [`Policies`]' business.
    pub fn check(&self) -> Result<(), PolicyError> {
        let policy = || self.name.clone();
        let scheduled = self.modes.contains(Mode::Scheduled);
        if let Some(list) = self.overfull_list() {
            return Err(PolicyError::OverfullList { policy: policy(), list });
        }
        if self.devices.is_empty() && self.groups.is_empty() {
            return Err(PolicyError::NoDevices(policy()));
        }
        if self.modes.is_empty() {
            return Err(PolicyError::NoModes(policy()));
        }
        match (&self.schedule, scheduled) {
            (Some(_), false) => return Err(PolicyError::ScheduleWithoutMode(policy())),
            (None, true) => return Err(PolicyError::ModeWithoutSchedule(policy())),
            (Some(schedule), true) if schedule.window.is_zero() => {
                return Err(PolicyError::NoWindow(policy()));
            }
            _ => {}
        }
        match (&self.record, &self.time_zone) {
            (Record::Hours(_), None) => Err(PolicyError::HoursWithoutZone(policy())),
            (Record::Always | Record::Held, Some(_)) => {
                Err(PolicyError::ZoneWithoutHours(policy()))
            }
            _ => Ok(()),
        }
    }

    fn overfull_list(&self) -> Option<&'static str> {
        [
            ("devices", self.devices.len()),
            ("groups", self.groups.len()),
            ("streams", self.streams.len()),
            ("networks", self.networks.len()),
        ]
        .into_iter()
        .find_map(|(list, entries)| (entries > MOST_ENTRIES).then_some(list))
    }
}

/// A second of it is eight chunks of the smallest size: with less, one chunk is longer under way than a device's
/// silence is borne.
const LEAST_KBIT_PER_SECOND: u64 = 128;

/// 0 for no limit, or one that a pull gets on with.
pub(crate) fn kbit_limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match u64::deserialize(deserializer)? {
        slow @ 1..LEAST_KBIT_PER_SECOND => Err(D::Error::custom(format!(
            "{slow} kbit/s is too slow to pull anything: give {LEAST_KBIT_PER_SECOND} or more, or 0 for no limit"
        ))),
        kbit => Ok(kbit),
    }
}

/// 1 kbit is 1,000 bits, as everywhere where lines are rented.
pub(crate) const fn bytes_of_kbit(kbit: u64) -> u64 {
    kbit.saturating_mul(125)
}

#[cfg(test)]
mod tests;
