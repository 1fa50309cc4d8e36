//! The words of the API, and of `--json` on the command line: both say the same of the same thing.
//!
//! Instants are RFC 3339 in UTC, lengths are seconds and end in `_s`, sizes are bytes. A time range is `from`,
//! `to` and `seconds` wherever there is one.

mod device;
mod news;
mod timeline;

use protocol::message::{DeviceId, ListedSegment};
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::fleet::StreamKey;
use crate::job::{JobId, JobState};
use crate::ledger::PartId;
use crate::mode::Mode;
use crate::order::{self, Heard};
use crate::policy::{self, Origin, PolicyName};
use crate::rfc3339;
use crate::run::{self, RunId};
use crate::schema::{Id, Instant, JobNumber, RunNumber};
use crate::timeline::State;

pub use device::{AtRisk, Device, Held, Network, Piece, Stream};
pub use news::{
    DeviceNews, JobNews, MergedNews, PolicyNews, ProgressNews, RiskNews, RunNews, TimelineNews,
};
pub use timeline::{ByState, CoarseStretch, Completeness, Gap, Timeline};

#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Range {
    #[serde(with = "rfc3339")]
    #[schema(value_type = Instant)]
    pub from: Timestamp,
    #[serde(with = "rfc3339")]
    #[schema(value_type = Instant)]
    pub to: Timestamp,
    pub seconds: f64,
}

impl Range {
    /// Empty where somebody has turned it round.
    pub fn range(&self) -> TimeRange {
        TimeRange::new(self.from, self.to.max(self.from))
            .unwrap_or_else(|| TimeRange::starting_at(self.from, std::time::Duration::ZERO))
    }
}

impl From<TimeRange> for Range {
    fn from(range: TimeRange) -> Range {
        let seconds = range.duration().as_secs_f64();
        Range { from: range.start(), to: range.end(), seconds }
    }
}

fn ranges(coverage: &Coverage) -> Vec<Range> {
    coverage.iter().map(Range::from).collect()
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Stretch {
    #[serde(flatten)]
    pub range: Range,
    #[serde(flatten)]
    pub state: State,
}

impl From<crate::timeline::Stretch> for Stretch {
    fn from(stretch: crate::timeline::Stretch) -> Stretch {
        Stretch { range: stretch.range.into(), state: stretch.state }
    }
}

fn stretches(all: Vec<crate::timeline::Stretch>) -> Vec<Stretch> {
    all.into_iter().map(Stretch::from).collect()
}

/// What a search has found: [`order::Found`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Found {
    #[serde(flatten)]
    pub key: StreamKey,
    #[serde(flatten)]
    pub range: Range,
    /// Whose word `held` is: `live`, `silent`, `offline` or `never`.
    pub heard: Heard,
    pub held_s: f64,
    pub held: Vec<Range>,
    /// Of the segments that lie in the range, as a whole; `null` where the device did not list them.
    #[schema(required)]
    pub held_bytes: Option<u64>,
    pub tier: u8,
    pub uncertainty_s: f64,
    #[serde(with = "rfc3339::optional")]
    #[schema(value_type = Option<Instant>, required)]
    pub horizon: Option<Timestamp>,
    /// When the first of `held` will be overwritten.
    #[serde(with = "rfc3339::optional")]
    #[schema(value_type = Option<Instant>, required)]
    pub goes_at: Option<Timestamp>,
    pub segments: Vec<Segment>,
    /// There are more segments than these.
    pub cut_off: bool,
    /// What the archive has, and what is to come of the rest, as far as it is expected.
    pub archive: Vec<Stretch>,
}

#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Segment {
    #[serde(flatten)]
    pub range: Range,
    pub uncertainty_s: f64,
    pub size_bytes: u64,
    pub tier: u8,
    pub sealed: bool,
}

impl From<ListedSegment> for Segment {
    fn from(listed: ListedSegment) -> Segment {
        let ListedSegment { range, uncertainty_ns, size_bytes, tier, sealed } = listed;
        let uncertainty_s = seconds_of(uncertainty_ns);
        Segment { range: range.into(), uncertainty_s, size_bytes, tier, sealed }
    }
}

fn seconds_of(nanos: u64) -> f64 {
    std::time::Duration::from_nanos(nanos).as_secs_f64()
}

impl From<order::Found> for Found {
    fn from(found: order::Found) -> Found {
        let sizes = || found.segments.iter().map(|segment| segment.size_bytes).sum();
        Found {
            held_bytes: (found.device == Heard::Live).then(sizes),
            key: found.key,
            range: found.range.into(),
            heard: found.device,
            held_s: found.held.total().as_secs_f64(),
            held: ranges(&found.held),
            tier: found.tier,
            uncertainty_s: seconds_of(found.uncertainty_ns),
            horizon: found.horizon,
            goes_at: found.goes_at,
            segments: found.segments.into_iter().map(Segment::from).collect(),
            cut_off: found.cut_off,
            archive: stretches(found.archive),
        }
    }
}

/// A job, and how it gets on: [`order::JobStatus`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Job {
    #[schema(value_type = JobNumber)]
    pub id: JobId,
    #[serde(flatten)]
    pub key: StreamKey,
    #[serde(flatten)]
    pub range: Range,
    pub state: JobState,
    #[serde(with = "rfc3339")]
    #[schema(value_type = Instant)]
    pub created: Timestamp,
    #[serde(with = "rfc3339")]
    #[schema(value_type = Instant)]
    pub deadline: Timestamp,
    #[serde(with = "rfc3339::optional")]
    #[schema(value_type = Option<Instant>, required)]
    pub ended: Option<Timestamp>,
    pub archived_s: f64,
    pub lost_s: f64,
    pub failed_s: f64,
    pub open_s: f64,
    /// Every instant of it is in the archive.
    pub whole: bool,
    /// What is not, and why.
    pub lacking: Vec<Stretch>,
    /// Its device is there.
    pub online: bool,
    pub bytes: u64,
    pub arrived_bytes: u64,
    #[schema(required)]
    pub bytes_per_second: Option<u64>,
    #[serde(with = "rfc3339::optional")]
    #[schema(value_type = Option<Instant>, required)]
    pub done_at: Option<Timestamp>,
}

impl From<order::JobStatus> for Job {
    fn from(status: order::JobStatus) -> Job {
        let job = status.job;
        Job {
            id: job.id,
            key: job.key,
            range: job.range.into(),
            state: job.state,
            created: job.created,
            deadline: job.deadline,
            ended: job.ended,
            archived_s: job.outcome.archived.as_secs_f64(),
            lost_s: job.outcome.lost.as_secs_f64(),
            failed_s: job.outcome.failed.as_secs_f64(),
            open_s: job.outcome.open.as_secs_f64(),
            whole: job.outcome.is_whole(),
            lacking: stretches(job.lacking),
            online: status.online,
            bytes: status.bytes,
            arrived_bytes: status.arrived_bytes,
            bytes_per_second: status.bytes_per_second,
            done_at: status.done_at,
        }
    }
}

/// What is under way and what waits: [`order::Work`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Work {
    /// Why nothing is begun at present.
    #[schema(required)]
    pub paused: Option<String>,
    pub devices: Vec<DeviceWork>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeviceWork {
    #[schema(value_type = Id)]
    pub device: DeviceId,
    pub online: bool,
    /// Why nothing may be pulled from it now.
    #[schema(required)]
    pub waits_for: Option<String>,
    #[schema(required)]
    pub bytes_per_second: Option<u64>,
    pub parts: Vec<PartWork>,
    pub missing_s: f64,
    #[schema(required)]
    pub missing_bytes: Option<u64>,
    #[serde(with = "rfc3339::optional")]
    #[schema(value_type = Option<Instant>, required)]
    pub done_at: Option<Timestamp>,
    pub will_be_lost: Vec<Loss>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct PartWork {
    #[schema(value_type = i64)]
    pub part: PartId,
    #[schema(value_type = Id)]
    pub stream: StreamId,
    #[serde(flatten)]
    pub range: Range,
    pub mode: Mode,
    pub bytes: u64,
    pub arrived_bytes: u64,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Loss {
    #[schema(value_type = Id)]
    pub stream: StreamId,
    #[serde(flatten)]
    pub range: Range,
}

impl From<order::Loss> for Loss {
    fn from(loss: order::Loss) -> Loss {
        Loss { stream: loss.stream, range: loss.range.into() }
    }
}

impl From<order::Work> for Work {
    fn from(work: order::Work) -> Work {
        let devices = work.devices.into_iter().map(DeviceWork::from).collect();
        Work { paused: work.paused, devices }
    }
}

impl From<order::DeviceWork> for DeviceWork {
    fn from(work: order::DeviceWork) -> DeviceWork {
        let parts = work.parts.into_iter().map(|part| PartWork {
            part: part.part,
            stream: part.stream,
            range: part.range.into(),
            mode: part.mode,
            bytes: part.bytes,
            arrived_bytes: part.arrived_bytes,
        });
        let losses = work.will_be_lost.into_iter().map(Loss::from);
        DeviceWork {
            device: work.device,
            online: work.online,
            waits_for: work.waits_for,
            bytes_per_second: work.bytes_per_second,
            parts: parts.collect(),
            missing_s: work.missing_s,
            missing_bytes: work.missing_bytes,
            done_at: work.done_at,
            will_be_lost: losses.collect(),
        }
    }
}

/// A run and its report: [`run::Run`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Run {
    #[schema(value_type = RunNumber)]
    pub id: RunId,
    #[schema(value_type = Id)]
    pub policy: PolicyName,
    /// Its window.
    #[serde(flatten)]
    pub range: Range,
    pub state: RunState,
    #[serde(with = "rfc3339")]
    #[schema(value_type = Instant)]
    pub opened: Timestamp,
    #[serde(with = "rfc3339::optional")]
    #[schema(value_type = Option<Instant>, required)]
    pub closed: Option<Timestamp>,
    pub bytes: u64,
    pub archived_s: f64,
    pub left_s: f64,
    pub devices: Vec<DeviceReport>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    Open,
    Closed,
    Cancelled,
}

impl RunState {
    fn of(run: &run::Run) -> RunState {
        match (run.is_open(), run.cancelled) {
            (true, _) => RunState::Open,
            (false, true) => RunState::Cancelled,
            (false, false) => RunState::Closed,
        }
    }

    /// The word for it, as in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            RunState::Open => "open",
            RunState::Closed => "closed",
            RunState::Cancelled => "cancelled",
        }
    }
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeviceReport {
    #[schema(value_type = Id)]
    pub device: DeviceId,
    /// When it was first there; `null`: not at all.
    #[serde(with = "rfc3339::optional")]
    #[schema(value_type = Option<Instant>, required)]
    pub seen: Option<Timestamp>,
    pub parts: u64,
    pub bytes: u64,
    pub archived_s: f64,
    pub streams: Vec<StreamReport>,
    pub left: Vec<Left>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct StreamReport {
    #[schema(value_type = Id)]
    pub stream: StreamId,
    pub archived: Vec<Range>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Left {
    #[schema(value_type = Id)]
    pub stream: StreamId,
    #[serde(flatten)]
    pub range: Range,
    pub why: String,
}

impl From<run::Run> for Run {
    fn from(run: run::Run) -> Run {
        let state = RunState::of(&run);
        Run {
            id: run.id,
            range: run.window.into(),
            state,
            opened: run.opened,
            closed: run.closed,
            bytes: run.bytes(),
            archived_s: run.archived().as_secs_f64(),
            left_s: run.left().as_secs_f64(),
            policy: run.policy,
            devices: run.devices.into_iter().map(DeviceReport::from).collect(),
        }
    }
}

impl From<(DeviceId, run::DeviceReport)> for DeviceReport {
    fn from((device, report): (DeviceId, run::DeviceReport)) -> DeviceReport {
        let archived_s = report.archived().as_secs_f64();
        let streams = report.streams.into_iter();
        let streams =
            streams.map(|(stream, held)| StreamReport { stream, archived: ranges(&held) });
        let left = report.left.into_iter();
        let left =
            left.map(|run::Left { stream, range, why }| Left { stream, range: range.into(), why });
        DeviceReport {
            device,
            seen: report.seen,
            parts: report.parts,
            bytes: report.bytes,
            archived_s,
            streams: streams.collect(),
            left: left.collect(),
        }
    }
}

/// A policy and where it comes from: [`order::ListedPolicy`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Policy {
    /// `file`, `api` or `built_in`.
    pub origin: Origin,
    #[serde(flatten)]
    pub policy: policy::Policy,
}

impl From<order::ListedPolicy> for Policy {
    fn from(listed: order::ListedPolicy) -> Policy {
        Policy { origin: listed.origin, policy: listed.policy }
    }
}

/// A run that is still to come, or is open: [`policy::Run`].
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct NextRun {
    #[schema(value_type = Id)]
    pub policy: PolicyName,
    #[serde(flatten)]
    pub range: Range,
    pub time_zone: String,
}

impl From<&policy::Run> for NextRun {
    fn from(run: &policy::Run) -> NextRun {
        let time_zone = run.time_zone.name().to_owned();
        NextRun { policy: run.policy.clone(), range: run.window.into(), time_zone }
    }
}
