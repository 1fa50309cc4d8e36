//! Searches, jobs, and the work under way.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use protocol::message::DeviceId;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Asked, Kind, Problem, view};
use crate::fleet::StreamKey;
use crate::job::JobId;
use crate::order::{Answer, Order, OrderError};
use crate::rfc3339;

/// How long a job waits where nobody says otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(24 * 3_600);

/// A range of a stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchRequest {
    pub device: DeviceId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamId>,
    #[serde(with = "rfc3339")]
    pub from: Timestamp,
    #[serde(with = "rfc3339")]
    pub to: Timestamp,
}

/// What a new job is to bring into the archive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    pub device: DeviceId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamId>,
    #[serde(with = "rfc3339")]
    pub from: Timestamp,
    #[serde(with = "rfc3339")]
    pub to: Timestamp,
    /// Until then it waits; a day from now where it is left out.
    #[serde(default, with = "rfc3339::optional", skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
}

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

pub async fn create(
    State(asked): State<Asked>,
    body: Result<Json<JobRequest>, JsonRejection>,
) -> Result<(StatusCode, Json<view::Job>), Problem> {
    let Json(JobRequest { device, stream, from, to, deadline }) = body?;
    let range = range(from, to)?;
    let key = asked.key(device, stream).await?;
    let now = Timestamp::from_jiff(jiff::Timestamp::now());
    let deadline = deadline.unwrap_or_else(|| now.saturating_add(DEFAULT_DEADLINE));
    let job = asked.job(Order::Pull { key, range, deadline }).await?;
    Ok((StatusCode::CREATED, job))
}

pub async fn list(State(asked): State<Asked>) -> Result<Json<Vec<view::Job>>, Problem> {
    match asked.desk.ask(Order::Jobs).await? {
        Answer::Jobs(jobs) => Ok(Json(jobs.into_iter().map(view::Job::from).collect())),
        other => Err(unexpected(&other)),
    }
}

pub async fn one(
    State(asked): State<Asked>,
    id: Result<Path<JobId>, PathRejection>,
) -> Result<Json<view::Job>, Problem> {
    let Path(id) = id?;
    asked.job(Order::Job(id)).await
}

pub async fn cancel(
    State(asked): State<Asked>,
    id: Result<Path<JobId>, PathRejection>,
) -> Result<Json<view::Job>, Problem> {
    let Path(id) = id?;
    asked.job(Order::CancelJob(id)).await
}

pub async fn work(State(asked): State<Asked>) -> Result<Json<view::Work>, Problem> {
    match asked.desk.ask(Order::Work).await? {
        Answer::Work(work) => Ok(Json((*work).into())),
        other => Err(unexpected(&other)),
    }
}

fn range(from: Timestamp, to: Timestamp) -> Result<TimeRange, Problem> {
    let backward = || Problem::new(Kind::Invalid, format!("from {from} lies after to {to}"));
    TimeRange::new(from, to).ok_or_else(backward)
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
                let known = match known.is_empty() {
                    true => "none".to_owned(),
                    false => Vec::from_iter(known).join(", "),
                };
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
