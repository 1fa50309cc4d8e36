//! What watchers are told of what happens: enough to know what to look at again, never the whole of it.

use protocol::message::DeviceId;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::{AtRisk, Completeness, Range, RunState};
use crate::fleet::StreamKey;
use crate::job::{self, JobId, JobState};
use crate::ledger::PartId;
use crate::policy::PolicyName;
use crate::rfc3339;
use crate::run::{self, RunId};
use crate::schema::{Id, Instant, JobNumber, RunNumber};

/// `event: device`: a device has come, or gone.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct DeviceNews {
    #[schema(value_type = Id)]
    pub device: DeviceId,
    pub online: bool,
}

/// `event: timeline`: the state of some instants has changed.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct TimelineNews {
    #[schema(value_type = Id)]
    pub device: DeviceId,
    #[schema(value_type = Id)]
    pub stream: StreamId,
    pub completeness: Completeness,
    /// Outside of this nothing has changed.
    pub changed: Range,
}

/// `event: progress`: bytes of a part have arrived.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct ProgressNews {
    #[schema(value_type = Id)]
    pub device: DeviceId,
    #[schema(value_type = Id)]
    pub stream: StreamId,
    #[schema(value_type = i64)]
    pub part: PartId,
    pub bytes: u64,
    pub arrived_bytes: u64,
}

/// `event: merged`: a piece stands in the archive.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct MergedNews {
    #[schema(value_type = Id)]
    pub device: DeviceId,
    #[schema(value_type = Id)]
    pub stream: StreamId,
    #[serde(flatten)]
    pub range: Range,
    /// Of its part, as on the card.
    pub bytes: u64,
    pub received_bytes: u64,
    pub resent_bytes: u64,
}

/// `event: job`: a job was taken on, has come to an end, or its outcome has changed.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct JobNews {
    #[schema(value_type = JobNumber)]
    pub id: JobId,
    #[serde(flatten)]
    pub key: StreamKey,
    #[serde(flatten)]
    pub range: Range,
    pub state: JobState,
    pub archived_s: f64,
    pub lost_s: f64,
    pub failed_s: f64,
    pub open_s: f64,
    pub whole: bool,
}

/// `event: run`: a run has begun, or has ended.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct RunNews {
    #[schema(value_type = RunNumber)]
    pub id: RunId,
    #[schema(value_type = Id)]
    pub policy: PolicyName,
    #[serde(flatten)]
    pub range: Range,
    pub state: RunState,
    #[serde(with = "rfc3339::optional")]
    #[schema(value_type = Option<Instant>, required)]
    pub closed: Option<Timestamp>,
    pub bytes: u64,
    pub archived_s: f64,
    pub left_s: f64,
}

/// `event: at_risk`: what a device will lose has grown, or nothing is at risk any more.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct RiskNews {
    #[schema(value_type = Id)]
    pub device: DeviceId,
    /// `null`: nothing.
    #[schema(required)]
    pub at_risk: Option<AtRisk>,
}

/// `event: policy`: a policy was put in, changed or taken out.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct PolicyNews {
    #[schema(value_type = Id)]
    pub policy: PolicyName,
}

impl From<&job::Job> for JobNews {
    fn from(job: &job::Job) -> JobNews {
        let outcome = &job.outcome;
        JobNews {
            id: job.id,
            key: job.key.clone(),
            range: job.range.into(),
            state: job.state,
            archived_s: outcome.archived.as_secs_f64(),
            lost_s: outcome.lost.as_secs_f64(),
            failed_s: outcome.failed.as_secs_f64(),
            open_s: outcome.open.as_secs_f64(),
            whole: outcome.is_whole(),
        }
    }
}

impl From<&run::Run> for RunNews {
    fn from(run: &run::Run) -> RunNews {
        RunNews {
            id: run.id,
            policy: run.policy.clone(),
            range: run.window.into(),
            state: RunState::of(run),
            closed: run.closed,
            bytes: run.bytes(),
            archived_s: run.archived().as_secs_f64(),
            left_s: run.left().as_secs_f64(),
        }
    }
}
