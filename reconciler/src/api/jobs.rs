//! Searches, jobs, and the work under way.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use protocol::message::DeviceId;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::openapi::{Conflict, Invalid, Otherwise, TooMany, Unknown, Unreadable};
use super::paging::{Limits, range};
use super::{Asked, Kind, Problem, view};
use crate::access::Subject;
use crate::fleet::StreamKey;
use crate::job::JobId;
use crate::order::{Answer, Order, OrderError, listed};
use crate::rfc3339;
use crate::schema::{Id, Instant, JobNumber};

/// How long a job waits where nobody says otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(24 * 3_600);

/// All that a server remembers, where nobody says otherwise.
const LIMITS: Limits = Limits { default: 2_000, most: 2_000 };

/// A range of a stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SearchRequest {
    /// Its id
    #[param(value_type = Id)]
    pub device: DeviceId,
    /// May be left out where it has only one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Id>)]
    pub stream: Option<StreamId>,
    /// From this instant
    #[serde(with = "rfc3339")]
    #[param(value_type = Instant)]
    pub from: Timestamp,
    /// Up to this instant
    #[serde(with = "rfc3339")]
    #[param(value_type = Instant)]
    pub to: Timestamp,
}

/// What a new job is to bring into the archive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    #[schema(value_type = Id)]
    pub device: DeviceId,
    /// May be left out where it has only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Id>)]
    pub stream: Option<StreamId>,
    #[serde(with = "rfc3339")]
    #[schema(value_type = Instant)]
    pub from: Timestamp,
    #[serde(with = "rfc3339")]
    #[schema(value_type = Instant)]
    pub to: Timestamp,
    /// Until then it waits; a day from now where it is left out.
    #[serde(default, with = "rfc3339::optional", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Instant>)]
    pub deadline: Option<Timestamp>,
}

/// What a device holds of a range, asked from the device, and what the archive has
#[utoipa::path(
    get,
    path = "/api/v1/search",
    tag = "devices",
    params(SearchRequest),
    responses((status = 200, description = "What was found", body = view::Found), Unknown, Invalid, Otherwise)
)]
pub async fn search(
    State(asked): State<Asked>,
    query: Result<Query<SearchRequest>, QueryRejection>,
) -> Result<Json<view::Found>, Problem> {
    let Query(SearchRequest { device, stream, from, to }) = query?;
    let range = range(from, to)?;
    let key = asked.key(device, stream).await?;
    match asked.desk.ask(Order::Search { key, range }).await? {
        Answer::Found(found) => Ok(Json((*found).into())),
        other => Err(unexpected(&other)),
    }
}

/// Get a range into the archive, now or when its device is there
#[utoipa::path(
    post,
    path = "/api/v1/jobs",
    tag = "jobs",
    request_body = JobRequest,
    responses(
        (status = 201, description = "The job; whoever asks again for the same gets the same", body = view::Job),
        Unknown, Conflict, Invalid, TooMany, Unreadable, Otherwise
    )
)]
pub async fn create(
    State(asked): State<Asked>,
    body: Result<Json<JobRequest>, JsonRejection>,
) -> Result<(StatusCode, Extension<Subject>, Json<view::Job>), Problem> {
    let Json(JobRequest { device, stream, from, to, deadline }) = body?;
    let range = range(from, to)?;
    let key = asked.key(device, stream).await?;
    let now = Timestamp::from_jiff(jiff::Timestamp::now());
    let deadline = deadline.unwrap_or_else(|| now.saturating_add(DEFAULT_DEADLINE));
    let job = asked.job(Order::Pull { key, range, deadline }).await?;
    Ok((StatusCode::CREATED, Extension(subject(&job)), job))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Listing {
    /// How many at most
    #[param(minimum = 1, maximum = 2_000, default = 2_000)]
    limit: Option<usize>,
    /// Only those that are older than this one
    #[param(value_type = Option<JobNumber>)]
    after: Option<JobId>,
}

/// Open jobs, and those that ended lately; the newest first
#[utoipa::path(
    get,
    path = "/api/v1/jobs",
    tag = "jobs",
    params(Listing),
    responses((status = 200, description = "Jobs", body = Vec<view::Job>), Invalid, Otherwise)
)]
pub async fn list(
    State(asked): State<Asked>,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<Vec<view::Job>>, Problem> {
    let Query(Listing { limit, after }) = query?;
    let order = Order::Jobs { before: after, most: LIMITS.choose(limit)? };
    match asked.desk.ask(order).await? {
        Answer::Jobs(jobs) => Ok(Json(jobs.into_iter().map(view::Job::from).collect())),
        other => Err(unexpected(&other)),
    }
}

/// A job, and how it gets on
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}",
    tag = "jobs",
    params(("id" = JobNumber, Path, description = "Its number")),
    responses((status = 200, description = "How it is", body = view::Job), Unknown, Otherwise)
)]
pub async fn one(
    State(asked): State<Asked>,
    id: Result<Path<JobId>, PathRejection>,
) -> Result<Json<view::Job>, Problem> {
    let Path(id) = id?;
    asked.job(Order::Job(id)).await
}

/// End a job early; what has arrived stays
#[utoipa::path(
    delete,
    path = "/api/v1/jobs/{id}",
    tag = "jobs",
    params(("id" = JobNumber, Path, description = "Its number")),
    responses((status = 200, description = "How it ended", body = view::Job), Unknown, Conflict, Otherwise)
)]
pub async fn cancel(
    State(asked): State<Asked>,
    id: Result<Path<JobId>, PathRejection>,
) -> Result<(Extension<Subject>, Json<view::Job>), Problem> {
    let Path(id) = id?;
    let job = asked.job(Order::CancelJob(id)).await?;
    Ok((Extension(subject(&job)), job))
}

/// What is under way and what waits, on each device
#[utoipa::path(
    get,
    path = "/api/v1/work",
    tag = "jobs",
    responses((status = 200, description = "Devices with something to pull", body = view::Work), Otherwise)
)]
pub async fn work(State(asked): State<Asked>) -> Result<Json<view::Work>, Problem> {
    match asked.desk.ask(Order::Work).await? {
        Answer::Work(work) => Ok(Json((*work).into())),
        other => Err(unexpected(&other)),
    }
}

/// For the audit log.
fn subject(job: &view::Job) -> Subject {
    let StreamKey { device, stream } = job.key.clone();
    Subject {
        device: Some(device),
        stream: Some(stream),
        range: Some(job.range.range()),
        name: Some(job.id.to_string()),
    }
}

impl Asked {
    async fn job(&self, order: Order) -> Result<Json<view::Job>, Problem> {
        match self.desk.ask(order).await? {
            Answer::Job(job) => Ok(Json((*job).into())),
            other => Err(unexpected(&other)),
        }
    }

    /// The stream that is named, or the only one that the device has.
    async fn key(&self, device: DeviceId, stream: Option<StreamId>) -> Result<StreamKey, Problem> {
        if let Some(stream) = stream {
            return Ok(StreamKey { device, stream });
        }
        let keys: Vec<StreamKey> =
            self.ledger.streams().await?.into_iter().map(|(key, _)| key).collect();
        let streams: Vec<&StreamKey> = keys.iter().filter(|key| key.device == device).collect();
        match streams.as_slice() {
            [key] => Ok((*key).clone()),
            [] => {
                let known: BTreeSet<&str> = keys.iter().map(|key| key.device.as_str()).collect();
                let known = listed(known.into_iter().collect());
                Err(OrderError::UnknownDevice { device, known }.into())
            }
            several => {
                let names: Vec<&str> = several.iter().map(|key| key.stream.as_str()).collect();
                let names = names.join(", ");
                let detail =
                    format!("device `{device}` has the streams {names}: say which, with stream");
                Err(Problem::new(Kind::Invalid, detail))
            }
        }
    }
}

/// Orders and answers belong together; that they do is the core's promise.
pub(super) fn unexpected(answer: &Answer) -> Problem {
    tracing::error!(?answer, "the answer to another order");
    Problem::new(Kind::Failed, "the server gave the answer to another order")
}
