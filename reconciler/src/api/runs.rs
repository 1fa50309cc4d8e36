//! Runs: those that the ledger keeps, and the open ones as they are now.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;

use super::jobs::unexpected;
use super::{Asked, Problem, view};
use crate::order::{Answer, Order, OrderError};
use crate::policy::PolicyName;
use crate::run::{Run, RunId};

const DEFAULT_LIMIT: usize = 50;
const MOST: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listing {
    policy: Option<PolicyName>,
    limit: Option<usize>,
}

pub async fn list(
    State(asked): State<Asked>,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<Vec<view::Run>>, Problem> {
    let Query(Listing { policy, limit }) = query?;
    let open = asked.open_runs().await?;
    let kept = asked.ledger.runs(MOST).await?;
    let chosen = kept.into_iter().filter(|run| policy.as_ref().is_none_or(|p| *p == run.policy));
    let newest = chosen.take(limit.unwrap_or(DEFAULT_LIMIT));
    Ok(Json(newest.map(|run| as_it_is(run, &open).into()).collect()))
}

pub async fn one(
    State(asked): State<Asked>,
    id: Result<Path<RunId>, PathRejection>,
) -> Result<Json<view::Run>, Problem> {
    let Path(id) = id?;
    let open = asked.open_runs().await?;
    let kept = asked.ledger.run(id).await?.ok_or(OrderError::UnknownRun(id))?;
    Ok(Json(as_it_is(kept, &open).into()))
}

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
