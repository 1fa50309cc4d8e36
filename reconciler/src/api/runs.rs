//! Runs: those that the ledger keeps, the open ones as they are now, and those to come.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use sdcard_indexer::time::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use super::jobs::unexpected;
use super::openapi::{Invalid, Otherwise, Unknown};
use super::paging::{Limits, Page, strange};
use super::{Asked, Kind, Problem, view};
use crate::order::{Answer, ListedPolicy, Order, OrderError};
use crate::policy::{self, PolicyError, PolicyName};
use crate::run::{Run, RunId};
use crate::schema::{Id, RunNumber};

const LIMITS: Limits = Limits { default: 50, most: 1_000 };
/// Runs that are looked through for those of one policy.
const MOST: usize = 10_000;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Listing {
    /// Only those of this policy
    #[param(value_type = Option<Id>)]
    policy: Option<PolicyName>,
    /// How many at most
    #[param(minimum = 1, maximum = 1_000, default = 50)]
    limit: Option<usize>,
    /// Only those that are older than this one
    #[param(value_type = Option<RunNumber>)]
    after: Option<RunId>,
}

/// Runs of policies, and their reports; the newest first
#[utoipa::path(
    get,
    path = "/api/v1/runs",
    tag = "runs",
    params(Listing),
    responses((status = 200, description = "Runs", body = Vec<view::Run>), Invalid, Otherwise)
)]
pub async fn list(
    State(asked): State<Asked>,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<Vec<view::Run>>, Problem> {
    let Query(Listing { policy, limit, after }) = query?;
    let limit = LIMITS.choose(limit)?;
    let open = asked.open_runs().await?;
    let most = if policy.is_some() || after.is_some() { MOST } else { limit };
    let kept = asked.ledger.runs(most).await?.into_iter();
    let chosen = kept.filter(|run| {
        policy.as_ref().is_none_or(|policy| *policy == run.policy)
            && after.is_none_or(|after| run.id < after)
    });
    let newest = chosen.take(limit);
    Ok(Json(newest.map(|run| as_it_is(run, &open).into()).collect()))
}

/// A run, and its report
#[utoipa::path(
    get,
    path = "/api/v1/runs/{id}",
    tag = "runs",
    params(("id" = RunNumber, Path, description = "Its number")),
    responses((status = 200, description = "How it is", body = view::Run), Unknown, Otherwise)
)]
pub async fn one(
    State(asked): State<Asked>,
    id: Result<Path<RunId>, PathRejection>,
) -> Result<Json<view::Run>, Problem> {
    let Path(id) = id?;
    let open = asked.open_runs().await?;
    let kept = asked.ledger.run(id).await?.ok_or(OrderError::UnknownRun(id))?;
    Ok(Json(as_it_is(kept, &open).into()))
}

/// End an open run early; what is left goes on in the next one
#[utoipa::path(
    delete,
    path = "/api/v1/runs/{id}",
    tag = "runs",
    params(("id" = RunNumber, Path, description = "Its number")),
    responses((status = 200, description = "How it ended", body = view::Run), Unknown, Otherwise)
)]
pub async fn cancel(
    State(asked): State<Asked>,
    id: Result<Path<RunId>, PathRejection>,
) -> Result<Json<view::Run>, Problem> {
    let Path(id) = id?;
    match asked.desk.ask(Order::CancelRun(id)).await? {
        Answer::Run(run) => Ok(Json((*run).into())),
        other => Err(unexpected(&other)),
    }
}

const COMING: Limits = Limits { default: 20, most: 100 };

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Coming {
    /// Only those of this policy
    #[param(value_type = Option<Id>)]
    policy: Option<PolicyName>,
    /// How many at most
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<usize>,
    /// Behind this one: what `next` said
    after: Option<String>,
}

/// Runs that are going on, and the next ones to begin
#[utoipa::path(
    get,
    path = "/api/v1/next-runs",
    tag = "runs",
    params(Coming),
    responses((status = 200, description = "By their beginning", body = Page<view::NextRun>), Unknown, Invalid, Otherwise)
)]
pub async fn next(
    State(asked): State<Asked>,
    query: Result<Query<Coming>, QueryRejection>,
) -> Result<Json<Page<view::NextRun>>, Problem> {
    let Query(Coming { policy, limit, after }) = query?;
    let limit = COMING.choose(limit)?;
    let after = after.as_deref().map(|after| place(after).ok_or_else(|| strange(after)));
    let after = after.transpose()?;
    let mut policies = asked.policies().await?;
    if let Some(name) = policy {
        policies.retain(|listed| listed.policy.name == name);
        if policies.is_empty() {
            return Err(OrderError::from(PolicyError::Unknown(name)).into());
        }
    }
    // A calendar is searched for each of them: not on a thread that others wait for.
    let runs = tokio::task::spawn_blocking(move || coming(&policies, after.as_ref(), limit + 1));
    let runs = runs.await.map_err(|error| Problem::new(Kind::Failed, error))?;
    let page = Page::of(runs, limit, |last| format!("{}/{}", last.window.start(), last.policy));
    Ok(Json(page.map(|run| view::NextRun::from(&run))))
}

fn coming(
    policies: &[ListedPolicy],
    after: Option<&(Timestamp, PolicyName)>,
    most: usize,
) -> Vec<policy::Run> {
    let now = Timestamp::from_jiff(jiff::Timestamp::now());
    // Others of the same instant may follow.
    let from = after.map_or(now, |(start, _)| now.max(start.saturating_offset(-1)));
    let is_behind = |run: &policy::Run| {
        after.is_none_or(|(start, name)| (run.window.start(), &run.policy) > (*start, name))
    };
    let of_policy = |listed: &ListedPolicy| listed.policy.next_runs(from, most + 1);
    let mut runs: Vec<policy::Run> =
        policies.iter().flat_map(of_policy).filter(is_behind).collect();
    runs.sort_by(|one, other| {
        (one.window.start(), &one.policy).cmp(&(other.window.start(), &other.policy))
    });
    runs.truncate(most);
    runs
}

/// `2026-11-23T22:00:00Z/depot`
fn place(cursor: &str) -> Option<(Timestamp, PolicyName)> {
    let (start, policy) = cursor.split_once('/')?;
    Some((start.parse().ok()?, policy.parse().ok()?))
}

/// The ledger knows of an open run what has been brought in, the core also what is left.
fn as_it_is(kept: Run, open: &[Run]) -> Run {
    open.iter().find(|run| run.id == kept.id).cloned().unwrap_or(kept)
}

impl Asked {
    async fn open_runs(&self) -> Result<Vec<Run>, Problem> {
        match self.desk.ask(Order::OpenRuns).await? {
            Answer::Runs(runs) => Ok(runs),
            other => Err(unexpected(&other)),
        }
    }
}
