//! The API, version 1: what programs and the command line ask of a running server, as JSON over HTTP.
//!
//! It listens on a Unix socket in the state directory, which only its owner may use: whoever may read the
//! server's state may give it orders, and nobody else can. [`router`] knows nothing of sockets. It decides
//! nothing: [`Desk`] answers orders, the ledger what is kept.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/v1/search?device=&stream=&from=&to=` | [`view::Found`] |
//! | `POST /api/v1/jobs` of [`JobRequest`] | 201 and [`view::Job`] |
//! | `GET /api/v1/jobs` | a list of [`view::Job`], the newest first |
//! | `GET`, `DELETE /api/v1/jobs/{id}` | [`view::Job`]; `DELETE` cancels it |
//! | `GET /api/v1/runs?policy=&limit=` | a list of [`view::Run`], the newest first |
//! | `GET`, `DELETE /api/v1/runs/{id}` | [`view::Run`]; `DELETE` cancels it |
//! | `GET /api/v1/work` | [`view::Work`] |
//! | `GET /api/v1/policies` | a list of [`view::Policy`], in the order in which they are asked |
//! | `GET`, `PUT`, `DELETE /api/v1/policies/{name}` | [`view::Policy`] |
//!
//! `stream` may be left out for a device that has only one. What is refused is answered with a [`Problem`].

mod jobs;
mod policies;
mod problem;
mod runs;
mod socket;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::ledger::Ledger;
use crate::reconcile::driver::Desk;

pub use jobs::JobRequest;
pub use problem::{Kind, Problem};
pub use socket::{Api, ApiError, socket_path};

/// Of what comes with a request; a policy with all the entries that it may have is smaller.
const MOST_BODY_BYTES: usize = 512 << 10;
/// Requests that are answered at once; a further one is told to come again.
const MOST_REQUESTS: usize = 128;
/// No request takes longer. A search waits up to 10 s for its device.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the handlers ask.
#[derive(Clone)]
struct Asked {
    desk: Desk,
    ledger: Arc<dyn Ledger>,
}

/// Everything above, for any listener; who may ask is the listener's business.
pub fn router(desk: Desk, ledger: Arc<dyn Ledger>) -> Router {
    let room = Arc::new(Semaphore::new(MOST_REQUESTS));
    Router::new()
        .route("/api/v1/search", get(jobs::search))
        .route("/api/v1/jobs", get(jobs::list).post(jobs::create))
        .route("/api/v1/jobs/{id}", get(jobs::one).delete(jobs::cancel))
        .route("/api/v1/work", get(jobs::work))
        .route("/api/v1/runs", get(runs::list))
        .route("/api/v1/runs/{id}", get(runs::one).delete(runs::cancel))
        .route("/api/v1/policies", get(policies::list))
        .route(
            "/api/v1/policies/{name}",
            get(policies::one).put(policies::put).delete(policies::remove),
        )
        .fallback(async || Problem::new(Kind::Unknown, "nothing is served at this path"))
        .method_not_allowed_fallback(async || {
            Problem::new(Kind::Method, "this path does not take this method")
        })
        .layer(DefaultBodyLimit::max(MOST_BODY_BYTES))
        .layer(middleware::from_fn_with_state(room, bounded))
        .with_state(Asked { desk, ledger })
}

/// Neither too many at once, nor any for ever.
async fn bounded(State(room): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let Ok(_place) = room.try_acquire() else {
        return Problem::new(Kind::Busy, "the server answers too many requests at once")
            .into_response();
    };
    match timeout(PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(Kind::TimedOut, "no answer came in time").into_response(),
    }
}

#[cfg(test)]
mod tests;
