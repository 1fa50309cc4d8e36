//! Policies: read, put in and taken out.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use serde_json::{Map, Value};

use super::jobs::unexpected;
use super::openapi::{Conflict, Invalid, Otherwise, Unknown, Unreadable};
use super::{Asked, Kind, Problem, view};
use crate::order::{Answer, ListedPolicy, Order, OrderError};
use crate::policy::{self, Policy, PolicyError, PolicyName};
use crate::schema::Id;

/// All policies, in the order in which they are asked; the first that matches a stream counts
#[utoipa::path(
    get,
    path = "/api/v1/policies",
    tag = "policies",
    responses((status = 200, description = "No more than 257", body = Vec<view::Policy>), Otherwise)
)]
pub async fn list(State(asked): State<Asked>) -> Result<Json<Vec<view::Policy>>, Problem> {
    Ok(Json(asked.policies().await?.into_iter().map(view::Policy::from).collect()))
}

/// One policy
#[utoipa::path(
    get,
    path = "/api/v1/policies/{name}",
    tag = "policies",
    params(("name" = Id, Path, description = "Its name")),
    responses((status = 200, description = "As in the file", body = view::Policy), Unknown, Otherwise)
)]
pub async fn one(
    State(asked): State<Asked>,
    name: Result<Path<PolicyName>, PathRejection>,
) -> Result<Json<view::Policy>, Problem> {
    let Path(name) = name?;
    let policies = asked.policies().await?;
    let found = policies.into_iter().find(|listed| listed.policy.name == name);
    found
        .map(|listed| Json(listed.into()))
        .ok_or_else(|| OrderError::from(PolicyError::Unknown(name)).into())
}

/// Put a policy in, or in the place of the one of this name
///
/// The name of the path is the policy's; one in the body may only repeat it.
#[utoipa::path(
    put,
    path = "/api/v1/policies/{name}",
    tag = "policies",
    params(("name" = Id, Path, description = "Its name")),
    request_body = policy::Policy,
    responses(
        (status = 200, description = "It holds from now on", body = view::Policy),
        Unknown, Conflict, Invalid, Unreadable, Otherwise
    )
)]
pub async fn put(
    State(asked): State<Asked>,
    name: Result<Path<PolicyName>, PathRejection>,
    body: Result<Json<Map<String, Value>>, JsonRejection>,
) -> Result<Json<view::Policy>, Problem> {
    let (Path(name), Json(mut fields)) = (name?, body?);
    let named = fields.entry("name").or_insert_with(|| name.as_str().into());
    if named.as_str() != Some(name.as_str()) {
        let detail = format!("name: {named} is not that of the path, `{name}`");
        return Err(Problem::new(Kind::Invalid, detail));
    }
    let policy: Policy = serde_path_to_error::deserialize(Value::Object(fields))
        .map_err(|error| Problem::new(Kind::Invalid, error))?;
    asked.policy(Order::PutPolicy(Box::new(policy))).await
}

/// Take out a policy that came by the API
#[utoipa::path(
    delete,
    path = "/api/v1/policies/{name}",
    tag = "policies",
    params(("name" = Id, Path, description = "Its name")),
    responses((status = 200, description = "What it was", body = view::Policy), Unknown, Conflict, Otherwise)
)]
pub async fn remove(
    State(asked): State<Asked>,
    name: Result<Path<PolicyName>, PathRejection>,
) -> Result<Json<view::Policy>, Problem> {
    let Path(name) = name?;
    asked.policy(Order::RemovePolicy(name)).await
}

impl Asked {
    pub(super) async fn policies(&self) -> Result<Vec<ListedPolicy>, Problem> {
        match self.desk.ask(Order::Policies).await? {
            Answer::Policies(policies) => Ok(policies),
            other => Err(unexpected(&other)),
        }
    }

    async fn policy(&self, order: Order) -> Result<Json<view::Policy>, Problem> {
        match self.desk.ask(order).await? {
            Answer::Policy(policy) => Ok(Json((*policy).into())),
            other => Err(unexpected(&other)),
        }
    }
}
