//! Orders: what people ask of a running server, and what it answers.
//!
//! Plain values; [`crate::reconcile`] answers them, [`crate::api`] puts them into words. What needs no running
//! server is read from the ledger instead.

use std::time::Duration;

use protocol::message::{DeviceId, ListedSegment};
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde::{Deserialize, Serialize};

use crate::board::{Look, Sight};
use crate::fleet::StreamKey;
use crate::job::{Job, JobId, JobState};
use crate::ledger::PartId;
use crate::mode::Mode;
use crate::policy::{Origin, Policy, PolicyError, PolicyName};
use crate::run::{Run, RunId};
use crate::timeline::Stretch;

/// What a person asks.
#[derive(Clone, PartialEq, Debug)]
pub enum Order {
    /// What does the device hold there, and what has the archive?
    Search {
        key: StreamKey,
        range: TimeRange,
    },
    /// Get this into the archive, now or when the device is there; no later than the deadline.
    Pull {
        key: StreamKey,
        range: TimeRange,
        deadline: Timestamp,
    },
    /// Open jobs, and those that ended lately; the newest first, from those before `before` on.
    Jobs {
        before: Option<JobId>,
        most: usize,
    },
    Job(JobId),
    CancelJob(JobId),
    /// Runs whose window is open.
    OpenRuns,
    CancelRun(RunId),
    /// What is under way and what waits, on each device.
    Work,
    Policies,
    PutPolicy(Box<Policy>),
    RemovePolicy(PolicyName),
    /// What changes nothing.
    Look(Look),
}

#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    Found(Box<Found>),
    Job(Box<JobStatus>),
    Jobs(Vec<JobStatus>),
    Run(Box<Run>),
    Runs(Vec<Run>),
    Work(Box<Work>),
    Policies(Vec<ListedPolicy>),
    Policy(Box<ListedPolicy>),
    Seen(Sight),
}

/// Why an order is not carried out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OrderError {
    #[error("device `{device}` is not known; known are: {known}")]
    UnknownDevice { device: DeviceId, known: String },
    #[error("device `{device}` has no stream `{stream}`; it has: {known}")]
    UnknownStream { device: DeviceId, stream: StreamId, known: String },
    #[error("the range is empty, or ends before it begins")]
    EmptyRange,
    #[error(
        "a range of {0:?} is within what the archive's clocks are rounded by (archive.join_tolerance_ms): give a \
         longer one"
    )]
    ShortRange(Duration),
    #[error("the range begins in the future: {0} is still to come")]
    FutureRange(Timestamp),
    #[error("the deadline {0} is over already: choose a later one")]
    DeadlineOver(Timestamp),
    #[error("policy `{0}` allows no manual pulls: add \"manual\" to its modes")]
    ManualForbidden(PolicyName),
    #[error("{0} jobs are open already: wait for some to end, or cancel them")]
    TooManyJobs(usize),
    #[error("there is no job {0}: `gapless jobs` lists them")]
    UnknownJob(JobId),
    #[error("job {job} is {} already", state.word())]
    JobEnded { job: JobId, state: JobState },
    #[error("there is no open run {0}: `gapless runs` lists them")]
    UnknownRun(RunId),
    #[error("the server is busy with {0} other searches: try again in a few seconds")]
    TooManySearches(usize),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error("the server is ending")]
    Ending,
}

/// What a device holds in a range, and what the archive has.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    pub key: StreamKey,
    pub range: TimeRange,
    pub device: Heard,
    /// Within the range.
    pub held: Coverage,
    /// How well the device knows it: 0 from names alone, 1 from heads and tails of files.
    pub tier: u8,
    /// How far any edge may lie from the truth.
    pub uncertainty_ns: u64,
    /// The oldest instant that the card still holds.
    pub horizon: Option<Timestamp>,
    /// When the first instant of the range that is held will be overwritten, where that can be told.
    pub goes_at: Option<Timestamp>,
    /// One by one, where the device has answered; no more than [`MOST_SEGMENTS`].
    pub segments: Vec<ListedSegment>,
    /// There are more segments than are listed.
    pub cut_off: bool,
    /// The states of the range, as far as it is expected.
    pub archive: Vec<Stretch>,
}

/// Segments in one answer.
pub const MOST_SEGMENTS: usize = 10_000;

/// Whose word an answer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Heard {
    /// The device has just answered.
    Live,
    /// It is there and has not answered in time: its last report.
    Silent,
    /// It is away: its last report.
    Offline,
    /// It was never heard.
    Never,
}

/// A job, and how it gets on.
#[derive(Clone, PartialEq, Debug)]
pub struct JobStatus {
    pub job: Job,
    /// The device is there.
    pub online: bool,
    /// Of the parts that are known to be wanted for it.
    pub bytes: u64,
    /// Of these, the ones that have arrived.
    pub arrived_bytes: u64,
    /// Of its device, measured over the last minute.
    pub bytes_per_second: Option<u64>,
    /// When it will be done at this rate.
    pub done_at: Option<Timestamp>,
}

/// What is under way and what waits.
#[derive(Clone, PartialEq, Debug)]
pub struct Work {
    pub devices: Vec<DeviceWork>,
    /// Why nothing is begun at present: the spool is full.
    pub paused: Option<String>,
}

/// A device with something to pull.
#[derive(Clone, PartialEq, Debug)]
pub struct DeviceWork {
    pub device: DeviceId,
    pub online: bool,
    /// Why nothing may be pulled from it now, though it is there.
    pub waits_for: Option<String>,
    pub bytes_per_second: Option<u64>,
    /// What is under way, the most urgent first.
    pub parts: Vec<PartWork>,
    /// Footage that is still to come, under way or not.
    pub missing_s: f64,
    /// An estimate, where one can be made.
    pub missing_bytes: Option<u64>,
    /// When it will be done at the present rate.
    pub done_at: Option<Timestamp>,
    /// What will be overwritten before its turn comes.
    pub will_be_lost: Vec<Loss>,
}

/// Footage that is forecast to be overwritten before it can be pulled.
#[derive(Clone, PartialEq, Debug)]
pub struct Loss {
    pub stream: StreamId,
    pub range: TimeRange,
}

/// A part that is being pulled.
#[derive(Clone, PartialEq, Debug)]
pub struct PartWork {
    pub part: PartId,
    pub stream: StreamId,
    pub range: TimeRange,
    pub mode: Mode,
    pub bytes: u64,
    pub arrived_bytes: u64,
}

/// A policy and where it comes from.
#[derive(Clone, PartialEq, Debug)]
pub struct ListedPolicy {
    pub origin: Origin,
    pub policy: Policy,
}

/// Of a thousand devices nobody reads all names.
const MOST_LISTED: usize = 20;

/// Names, as a refusal tells those that are known.
pub fn listed(names: Vec<&str>) -> String {
    match names.len().saturating_sub(MOST_LISTED) {
        _ if names.is_empty() => "none".to_owned(),
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..MOST_LISTED].join(", ")),
    }
}
