//! Runs: what a policy did in one of its scheduled windows, and what it left.
//!
//! A run is open from the instant that was set for it until its window closes; what is left then goes on in the
//! next one. Pure values; [`crate::reconcile`] works on them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use protocol::message::DeviceId;
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde::{Deserialize, Serialize};

use crate::policy::PolicyName;

/// By the number that the ledger gave it; written `r7`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(pub i64);

impl fmt::Display for RunId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "r{}", self.0)
    }
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no run: `gapless runs` lists them, as r7")]
pub struct InvalidRunId(String);

impl FromStr for RunId {
    type Err = InvalidRunId;

    fn from_str(text: &str) -> Result<Self, InvalidRunId> {
        let number = text.strip_prefix('r').and_then(|number| number.parse().ok());
        number.map(RunId).ok_or_else(|| InvalidRunId(text.to_owned()))
    }
}

impl TryFrom<String> for RunId {
    type Error = InvalidRunId;

    fn try_from(text: String) -> Result<Self, InvalidRunId> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> String {
        id.to_string()
    }
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Run {
    pub id: RunId,
    pub policy: PolicyName,
    /// From the instant that was set for it to the one at which nothing more is begun.
    pub window: TimeRange,
    pub opened: Timestamp,
    /// `None` while it is open.
    pub closed: Option<Timestamp>,
    /// A person has ended it early.
    pub cancelled: bool,
    pub devices: BTreeMap<DeviceId, DeviceReport>,
}

impl Run {
    pub const fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// Bytes of all parts that it has brought into the archive.
    pub fn bytes(&self) -> u64 {
        self.devices.values().map(|report| report.bytes).sum()
    }

    pub fn archived(&self) -> Duration {
        self.devices.values().map(DeviceReport::archived).sum()
    }

    /// What it leaves undone, over all devices.
    pub fn left(&self) -> Duration {
        let left = self.devices.values().flat_map(|report| &report.left);
        left.map(|left| left.range.duration()).sum()
    }
}

/// What a run did for one device.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct DeviceReport {
    /// When it was first there while the window was open; `None`: not at all.
    pub seen: Option<Timestamp>,
    pub streams: BTreeMap<StreamId, Coverage>,
    pub parts: u64,
    /// Of the parts, as on the card.
    pub bytes: u64,
    /// What is still to be archived, and why it is not; as of the last look.
    pub left: Vec<Left>,
}

impl DeviceReport {
    pub fn archived(&self) -> Duration {
        self.streams.values().map(Coverage::total).sum()
    }
}

/// A range that a run has not brought into the archive.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Left {
    pub stream: StreamId,
    #[serde(flatten)]
    pub range: TimeRange,
    pub why: String,
}
