//! Policies: read, put in and taken out.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use serde_json::{Map, Value};

use super::jobs::unexpected;
use super::{Asked, Kind, Problem, view};
use crate::order::{Answer, Order, OrderError};
use crate::policy::{Policy, PolicyError, PolicyName};

pub async fn list(State(asked): State<Asked>) -> Result<Json<Vec<view::Policy>>, Problem> {
    match asked.desk.ask(Order::Policies).await? {
        Answer::Policies(policies) => {
            Ok(Json(policies.into_iter().map(view::Policy::from).collect()))
        }
        other => Err(unexpected(&other)),
    }
}

pub async fn one(
    State(asked): State<Asked>,
    name: Result<Path<PolicyName>, PathRejection>,
) -> Result<Json<view::Policy>, Problem> {
    let Path(name) = name?;
    let Json(policies) = list(State(asked)).await?;
    let found = policies.into_iter().find(|listed| listed.policy.name == name);
    found.map(Json).ok_or_else(|| OrderError::from(PolicyError::Unknown(name)).into())
}

/// The name of the path is the policy's; one in the body may only repeat it.
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

pub async fn remove(
    State(asked): State<Asked>,
    name: Result<Path<PolicyName>, PathRejection>,
) -> Result<Json<view::Policy>, Problem> {
    let Path(name) = name?;
    asked.policy(Order::RemovePolicy(name)).await
}

impl Asked {
    async fn policy(&self, order: Order) -> Result<Json<view::Policy>, Problem> {
        match self.desk.ask(order).await? {
            Answer::Policy(policy) => Ok(Json((*policy).into())),
            other => Err(unexpected(&other)),
        }
    }
}
