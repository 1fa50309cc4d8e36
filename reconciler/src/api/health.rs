//! Health: does the process answer, and can it do its work?
//!
//! Asked by supervisors, every few seconds: nothing here waits long or costs anything.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use utoipa::ToSchema;

use super::Asked;
use crate::board::{Look, Sight};

/// What does not answer within this is not ready.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the server stands on, and whether it answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    pub ready: bool,
    /// The deciding part.
    pub core: bool,
    pub ledger: bool,
    /// There is a connection to the broker.
    pub broker: bool,
    /// The thread that reads the archive is not busy with reading it for the first time.
    pub archive: bool,
}

/// The process answers
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "server",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain"))
)]
pub async fn alive() -> &'static str {
    "ok\n"
}

/// The server can do its work
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "server",
    responses(
        (status = 200, description = "It can", body = Readiness),
        (status = 503, description = "It cannot: what is `false` does not answer", body = Readiness)
    )
)]
pub async fn ready(State(asked): State<Asked>) -> Response {
    let link = timeout(PATIENCE, asked.look(Look::Link));
    let ledger = timeout(PATIENCE, asked.ledger.last_part());
    let archive = timeout(PATIENCE, asked.archive.answers());
    let (link, ledger, archive) = tokio::join!(link, ledger, archive);
    let link = link.ok().and_then(Result::ok);
    let core = link.is_some();
    let broker = matches!(link, Some(Sight::Link { is_up: true }));
    let ledger = matches!(ledger, Ok(Ok(_)));
    let archive = archive.unwrap_or(false);
    let ready = core && broker && ledger && archive;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, core, ledger, broker, archive })).into_response()
}
