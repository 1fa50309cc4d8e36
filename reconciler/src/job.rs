//! Jobs: what a person asked for, in manual mode.
//!
//! A job wants one time range of one stream in the archive, whatever policies expect. It waits for a device that
//! is away, until the deadline that the person chose. Pure values; [`crate::reconcile`] works on them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sdcard_indexer::time::{TimeRange, Timestamp};
use serde::{Deserialize, Serialize};

use crate::fleet::StreamKey;
use crate::timeline::{State, Stretch};

/// By the number that the ledger gave it; written `j12`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(pub i64);

impl fmt::Display for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "j{}", self.0)
    }
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no job: `gapless jobs` lists them, as j12")]
pub struct InvalidJobId(String);

impl FromStr for JobId {
    type Err = InvalidJobId;

    fn from_str(text: &str) -> Result<Self, InvalidJobId> {
        let number = text.strip_prefix('j').and_then(|number| number.parse().ok());
        number.map(JobId).ok_or_else(|| InvalidJobId(text.to_owned()))
    }
}

impl TryFrom<String> for JobId {
    type Error = InvalidJobId;

    fn try_from(text: String) -> Result<Self, InvalidJobId> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> String {
        id.to_string()
    }
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Job {
    pub id: JobId,
    #[serde(flatten)]
    pub key: StreamKey,
    pub range: TimeRange,
    pub created: Timestamp,
    /// Until then it waits for what has not come.
    pub deadline: Timestamp,
    pub state: JobState,
    pub ended: Option<Timestamp>,
    /// Of its range, as of the last look, or of its end.
    pub outcome: Outcome,
    /// What of its range is not in the archive, and why; as of then too, and no more than [`MOST_LACKING`].
    #[serde(default)]
    pub lacking: Vec<Stretch>,
}

/// Stretches that a job remembers of what it lacks.
pub const MOST_LACKING: usize = 100;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Open,
    /// Every instant of its range has ended in a state that will not change by itself.
    Done,
    /// The deadline came before that.
    Expired,
    Cancelled,
}

impl JobState {
    /// The word for it, as in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            JobState::Open => "open",
            JobState::Done => "done",
            JobState::Expired => "expired",
            JobState::Cancelled => "cancelled",
        }
    }
}

/// What has become of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    pub archived: Duration,
    /// Overwritten, or never recorded.
    pub lost: Duration,
    pub failed: Duration,
    /// Missing, pending or transferring.
    pub open: Duration,
}

impl Outcome {
    /// Of the timeline of a range.
    pub fn of(stretches: &[Stretch]) -> Self {
        let mut outcome = Outcome::default();
        for Stretch { range, state } in stretches {
            let length = range.duration();
            match state {
                State::Archived { .. } => outcome.archived += length,
                State::NeverRecorded { .. } | State::Overwritten { .. } => outcome.lost += length,
                State::Failed { .. } => outcome.failed += length,
                State::Missing | State::Pending | State::Transferring => outcome.open += length,
            }
        }
        outcome
    }

    /// Everything that was asked for is in the archive.
    pub fn is_whole(&self) -> bool {
        self.lost.is_zero() && self.failed.is_zero() && self.open.is_zero()
    }
}
