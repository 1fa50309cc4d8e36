//! All policies in their order, and which of them a stream has.
//!
//! Pure. The first that matches counts: those of the configuration file in its order, then those that came by
//! the API, last the one named `default`, which takes whatever no other does. The file's word cannot be
//! changed from outside: only what came by the API can be changed by it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::device::{DevicePattern, Group, GroupName};
use super::{MOST_ENTRIES, Policy, PolicyName};
use crate::fleet::StreamKey;

/// Policies, and groups, that there may be.
pub const MOST_POLICIES: usize = 256;

/// The name of the last policy.
pub const DEFAULT_NAME: &str = "default";

/// Where a policy comes from. In the order in which they are asked.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    File,
    Api,
    BuiltIn,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("policy `{0}` stands there twice: give one of them another name")]
    Twice(PolicyName),
    #[error(
        "group `{0}` stands there twice: give one of them another name, or unite their devices"
    )]
    GroupTwice(GroupName),
    #[error("group `{0}` has no devices: give devices = [\"bwc-*\"] or the like")]
    EmptyGroup(GroupName),
    #[error("policy `{policy}`: groups: there is no group `{group}`: add a [[group]] of this name")]
    UnknownGroup { policy: PolicyName, group: GroupName },
    #[error("policy `{0}` is for no device: give devices or groups; devices = [\"*\"] means all")]
    NoDevices(PolicyName),
    #[error(
        "policy `{0}`: modes is empty, so that nothing may ever be pulled: give at least \"manual\""
    )]
    NoModes(PolicyName),
    #[error(
        "policy `{0}` has a schedule that nothing uses: add \"scheduled\" to modes, or take it out"
    )]
    ScheduleWithoutMode(PolicyName),
    #[error(
        "policy `{0}`: mode scheduled needs a schedule, such as schedule = {{ cron = \"0 23 * * *\", \
         time_zone = \"Europe/Berlin\", window = \"6h\" }}"
    )]
    ModeWithoutSchedule(PolicyName),
    #[error("policy `{0}`: schedule: window must be longer than nothing, such as \"6h\"")]
    NoWindow(PolicyName),
    #[error("policy `{0}`: record = {{ hours }} needs time_zone, such as \"Europe/Berlin\"")]
    HoursWithoutZone(PolicyName),
    #[error(
        "policy `{0}`: time_zone is that of record = {{ hours }}, of which there are none; a schedule has its own"
    )]
    ZoneWithoutHours(PolicyName),
    #[error(
        "policy `{DEFAULT_NAME}` is for whatever no other policy takes: leave out devices, groups and streams, or \
         give it another name"
    )]
    NarrowDefault,
    #[error("policy `{policy}`: {list} has more than {MOST_ENTRIES} entries: use groups and `*`")]
    OverfullList { policy: PolicyName, list: &'static str },
    #[error("group `{0}` has more than {MOST_ENTRIES} entries: use `*`")]
    OverfullGroup(GroupName),
    #[error(
        "there are {MOST_POLICIES} policies or groups already, and no more are kept: remove one"
    )]
    TooMany,
    #[error(
        "policy `{0}` stands in the configuration file: change it there, and restart the server"
    )]
    InFile(PolicyName),
    #[error(
        "policy `{0}` is built in: a [[policy]] of this name in the configuration file takes its place, or \
         one of another name goes before it"
    )]
    BuiltIn(PolicyName),
    #[error("there is no policy `{0}`")]
    Unknown(PolicyName),
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    policy: Policy,
    origin: Origin,
}

/// Every policy, in the order in which they are asked; never without one that takes everything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policies {
    groups: BTreeMap<GroupName, Vec<DevicePattern>>,
    entries: Vec<Entry>,
    rest: Entry,
}

/// The one that is built in: record always, modes online and manual, all devices.
impl Default for Policies {
    fn default() -> Self {
        let name = DEFAULT_NAME.parse().expect("a valid name");
        let policy = Policy::new(name, vec![DevicePattern::all()]);
        let rest = Entry { policy, origin: Origin::BuiltIn };
        Policies { groups: BTreeMap::new(), entries: Vec::new(), rest }
    }
}

impl Policies {
    /// Those of the configuration file.
    pub fn new(
        groups: impl IntoIterator<Item = Group>,
        policies: impl IntoIterator<Item = Policy>,
    ) -> Result<Policies, PolicyError> {
        let mut all = Policies::default();
        groups.into_iter().try_for_each(|group| all.add_group(group))?;
        policies.into_iter().try_for_each(|policy| all.upsert(policy, Origin::File))?;
        Ok(all)
    }

    /// Before the policies that name it.
    pub fn add_group(&mut self, group: Group) -> Result<(), PolicyError> {
        let Group { name, devices } = group;
        if devices.is_empty() {
            return Err(PolicyError::EmptyGroup(name));
        }
        if devices.len() > MOST_ENTRIES {
            return Err(PolicyError::OverfullGroup(name));
        }
        if self.groups.len() >= MOST_POLICIES {
            return Err(PolicyError::TooMany);
        }
        if self.groups.contains_key(&name) {
            return Err(PolicyError::GroupTwice(name));
        }
        self.groups.insert(name, devices);
        Ok(())
    }

    /// The first policy that matches device and stream.
    pub fn of(&self, key: &StreamKey) -> &Policy {
        let first = self.entries.iter().find(|entry| self.matches(&entry.policy, key));
        &first.unwrap_or(&self.rest).policy
    }

    pub fn get(&self, name: &PolicyName) -> Option<(&Policy, Origin)> {
        self.iter().find(|(policy, _)| policy.name == *name)
    }

    /// In the order in which they are asked.
    pub fn iter(&self) -> impl Iterator<Item = (&Policy, Origin)> {
        let all = self.entries.iter().chain([&self.rest]);
        all.map(|entry| (&entry.policy, entry.origin))
    }

    pub fn groups(&self) -> impl Iterator<Item = (&GroupName, &[DevicePattern])> {
        self.groups.iter().map(|(name, devices)| (name, devices.as_slice()))
    }

    /// Adds a policy, or puts it in the place of the one of its name, which must have come by the API as well.
    ///
    /// A policy of the file takes the place of the one that is built in, and of no other.
    pub fn upsert(&mut self, mut policy: Policy, origin: Origin) -> Result<(), PolicyError> {
        let is_default = policy.name.as_str() == DEFAULT_NAME;
        if is_default && policy.devices.is_empty() {
            policy.devices.push(DevicePattern::all());
        }
        self.check(&policy)?;
        let known = self.get(&policy.name).map(|(_, origin)| origin);
        let entry = Entry { policy, origin };
        match (known, origin) {
            (Some(Origin::BuiltIn), Origin::File) => self.rest = entry,
            (Some(Origin::Api), Origin::Api) => {
                let mut entries = self.entries.iter_mut();
                if let Some(old) = entries.find(|old| old.policy.name == entry.policy.name) {
                    *old = entry;
                }
            }
            (Some(_), Origin::File) => return Err(PolicyError::Twice(entry.policy.name)),
            (Some(Origin::File), _) => return Err(PolicyError::InFile(entry.policy.name)),
            (Some(_), _) | (None, Origin::BuiltIn) => {
                return Err(PolicyError::BuiltIn(entry.policy.name));
            }
            (None, _) if self.entries.len() >= MOST_POLICIES => return Err(PolicyError::TooMany),
            (None, _) => {
                let place = self.entries.partition_point(|other| other.origin <= origin);
                self.entries.insert(place, entry);
            }
        }
        Ok(())
    }

    /// Takes out a policy that came by the API.
    pub fn remove(&mut self, name: &PolicyName) -> Result<Policy, PolicyError> {
        match self.get(name).map(|(_, origin)| origin) {
            None => Err(PolicyError::Unknown(name.clone())),
            Some(Origin::File) => Err(PolicyError::InFile(name.clone())),
            Some(Origin::BuiltIn) => Err(PolicyError::BuiltIn(name.clone())),
            Some(Origin::Api) => {
                let place = self.entries.iter().position(|entry| entry.policy.name == *name);
                let place = place.ok_or_else(|| PolicyError::Unknown(name.clone()))?;
                Ok(self.entries.remove(place).policy)
            }
        }
    }

    /// Whether a policy can be one of these, but for its name.
    pub fn check(&self, policy: &Policy) -> Result<(), PolicyError> {
        policy.check()?;
        if policy.name.as_str() == DEFAULT_NAME {
            let takes_all = policy.devices == [DevicePattern::all()]
                && policy.groups.is_empty()
                && policy.streams.is_empty();
            return if takes_all { Ok(()) } else { Err(PolicyError::NarrowDefault) };
        }
        match policy.groups.iter().find(|group| !self.groups.contains_key(group)) {
            Some(group) => {
                Err(PolicyError::UnknownGroup { policy: policy.name.clone(), group: group.clone() })
            }
            None => Ok(()),
        }
    }

    fn matches(&self, policy: &Policy, key: &StreamKey) -> bool {
        let named = |devices: &[DevicePattern]| devices.iter().any(|one| one.matches(&key.device));
        let grouped = || policy.groups.iter().filter_map(|group| self.groups.get(group));
        (policy.streams.is_empty() || policy.streams.contains(&key.stream))
            && (named(&policy.devices) || grouped().any(|devices| named(devices)))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Origin::File => "from the configuration file",
            Origin::Api => "from the API",
            Origin::BuiltIn => "built in",
        })
    }
}

#[cfg(test)]
mod tests;
