//! Timelines and gaps: every instant's state, as coarsely as it is looked at.

use protocol::message::DeviceId;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Range, Stretch};
use crate::resolution::Coarse;
use crate::rfc3339;
use crate::schema::{Id, Instant};
use crate::tally::{StateWord, Tally};
use crate::timeline::{self, State};

/// How much of a timeline is settled: [`timeline::Completeness`].
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Completeness {
    /// Nothing is missing, pending, transferring or failed.
    pub complete: bool,
    /// The settled share, rounded down; 100 only where `complete`.
    #[schema(minimum = 0, maximum = 100)]
    pub percent: u8,
    pub expected_s: f64,
    pub archived_s: f64,
    /// Never recorded or overwritten.
    pub lost_s: f64,
    /// Missing, pending, transferring or failed.
    pub open_s: f64,
}

impl Completeness {
    /// What is not known yet is not complete.
    pub fn of(sums: &timeline::Completeness, is_known: bool) -> Completeness {
        Completeness {
            complete: is_known && sums.is_complete(),
            percent: if is_known { sums.percent() } else { 0 },
            expected_s: sums.expected.as_secs_f64(),
            archived_s: sums.archived.as_secs_f64(),
            lost_s: sums.lost.as_secs_f64(),
            open_s: sums.open.as_secs_f64(),
        }
    }
}

impl From<&timeline::Completeness> for Completeness {
    fn from(sums: &timeline::Completeness) -> Completeness {
        Completeness::of(sums, true)
    }
}

/// Seconds in each state: [`Tally`].
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ByState {
    pub archived: f64,
    pub missing: f64,
    pub pending: f64,
    pub transferring: f64,
    pub never_recorded: f64,
    pub overwritten: f64,
    pub failed: f64,
}

impl From<&Tally> for ByState {
    fn from(tally: &Tally) -> ByState {
        let seconds = |state| tally.in_state(state).as_secs_f64();
        ByState {
            archived: seconds(StateWord::Archived),
            missing: seconds(StateWord::Missing),
            pending: seconds(StateWord::Pending),
            transferring: seconds(StateWord::Transferring),
            never_recorded: seconds(StateWord::NeverRecorded),
            overwritten: seconds(StateWord::Overwritten),
            failed: seconds(StateWord::Failed),
        }
    }
}

/// A stretch of a timeline, or several that are told as one.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct CoarseStretch {
    #[serde(flatten)]
    pub stretch: Stretch,
    /// Several were shorter than the resolution: the state is the worst of theirs, and `by_state_s` tells them all.
    /// Where these are less than `seconds`, the rest was not to be recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mixed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_state_s: Option<ByState>,
}

impl From<Coarse> for CoarseStretch {
    fn from(coarse: Coarse) -> CoarseStretch {
        let Coarse { range, state, united } = coarse;
        CoarseStretch {
            stretch: Stretch { range: range.into(), state },
            mixed: united.is_some(),
            by_state_s: united.as_ref().map(ByState::from),
        }
    }
}

/// The timeline of one stream, or a part of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Timeline {
    #[schema(value_type = Id)]
    pub device: DeviceId,
    #[schema(value_type = Id)]
    pub stream: StreamId,
    /// When it was reckoned; `null` until the archive was read: nothing is known until then.
    #[serde(with = "rfc3339::optional")]
    #[schema(value_type = Option<Instant>, required)]
    pub as_of: Option<Timestamp>,
    /// Of the whole range that was asked about.
    pub completeness: Completeness,
    /// Of the whole range that was asked about.
    pub by_state_s: ByState,
    pub items: Vec<CoarseStretch>,
    /// For `after`, where there is more.
    #[serde(with = "rfc3339::optional")]
    #[schema(value_type = Option<Instant>, required)]
    pub next: Option<Timestamp>,
}

/// What is not in the archive, and why.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Gap {
    #[schema(value_type = Id)]
    pub device: DeviceId,
    #[schema(value_type = Id)]
    pub stream: StreamId,
    #[serde(flatten)]
    pub range: Range,
    #[serde(flatten)]
    pub state: State,
}
