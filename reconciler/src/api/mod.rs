//! The API, version 1: what programs and the command line ask of a running server, as JSON over HTTP.
//!
//! It listens on a Unix socket in the state directory, which only its owner may use: whoever may read the
//! server's state may give it orders. Everybody else comes over TCP ([`crate::http`]) and has to say who they are.
//! [`router`] knows nothing of sockets. It decides nothing: [`Desk`] answers orders, the ledger what is kept,
//! [`Access`] who may.
//!
//! | request | answer |
//! |---|---|
//! | `POST /api/v1/session` of [`session::LogIn`] | [`session::Session`], and a cookie |
//! | `GET`, `DELETE /api/v1/session` | [`session::Session`]; `DELETE` logs out |
//! | `PUT /api/v1/session/password` of [`session::OwnPassword`] | nothing |
//! | `GET /api/v1/users`, `POST` of [`accounts::NewUser`] | [`accounts::User`]s |
//! | `PUT /api/v1/users/{name}/role`, `…/password`, `DELETE /api/v1/users/{name}` | [`accounts::User`] |
//! | `GET /api/v1/tokens`, `POST` of [`accounts::NewToken`], `DELETE /api/v1/tokens/{name}` | [`accounts::Token`]s |
//! | `GET /api/v1/audit?limit=&after=&device=&who=` | a page of [`AuditEntry`](crate::access::AuditEntry) |
//! | `GET /api/v1/devices`, `/devices/{device}` | [`view::Device`]: who is there, how whole, what is at risk |
//! | `GET …/{device}/streams/{stream}/timeline?from=&to=&resolution_s=` | [`view::Timeline`] |
//! | `GET …/{device}/streams/{stream}/coverage`, `…/seams` | [`view::Held`], a page of [`view::Piece`] |
//! | `GET /api/v1/gaps?device=&stream=&from=&to=` | a page of [`view::Gap`] |
//! | `GET /api/v1/search?device=&stream=&from=&to=` | [`view::Found`] |
//! | `POST /api/v1/jobs` of [`JobRequest`] | 201 and [`view::Job`] |
//! | `GET /api/v1/jobs?limit=&after=` | a list of [`view::Job`], the newest first |
//! | `GET`, `DELETE /api/v1/jobs/{id}` | [`view::Job`]; `DELETE` cancels it |
//! | `GET /api/v1/runs?policy=&limit=&after=` | a list of [`view::Run`], the newest first |
//! | `GET`, `DELETE /api/v1/runs/{id}` | [`view::Run`]; `DELETE` cancels it |
//! | `GET /api/v1/next-runs?policy=` | a page of [`view::NextRun`] |
//! | `GET /api/v1/work` | [`view::Work`] |
//! | `GET /api/v1/policies` | a list of [`view::Policy`], in the order in which they are asked |
//! | `GET`, `PUT`, `DELETE /api/v1/policies/{name}` | [`view::Policy`] |
//! | `GET …/devices/{device}/streams/{stream}/playback.m3u8?from=&to=` | an HLS playlist: see [`playback`] |
//! | `GET …/playback.mp4?from=&to=&download=` | the same range as one MP4 |
//! | `GET …/still.mp4?at=` | one frame |
//! | `GET …/export.mp4?from=&to=`, `…/export.json` | a range to keep, and what proves it: see [`export`] |
//! | `GET /api/v1/events` | server-sent events: what happens, as it happens |
//! | `GET /healthz`, `/readyz`, `/metrics` | for supervisors and Prometheus |
//! | `GET /api/v1/openapi.json` | all of this, with every parameter: `gapless openapi` |
//!
//! `stream` may be left out for a device that has only one. Pages are `items` and `next`, for `after`. What is
//! refused is answered with a [`Problem`]. Whatever is asked is looked up and put into words here, in the request's
//! own time: the core gives out what it has, and goes on.

pub mod accounts;
mod byte_range;
mod devices;
mod events;
pub mod export;
mod health;
mod jobs;
mod metrics;
pub mod openapi;
pub mod paging;
pub mod playback;
mod policies;
mod problem;
mod runs;
pub mod session;
mod socket;
mod timelines;
pub mod view;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::sync::{Semaphore, broadcast};
use tokio::time::timeout;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use crate::access::{Access, Action, Role, audited, require};
use crate::archive::Archive;
use crate::broker::BrokerCounter;
use crate::config::ArchiveConfig;
use crate::ledger::Ledger;
use crate::playback::Player;
use crate::reconcile::Event;
use crate::reconcile::driver::Desk;

use events::News;
use export::Exports;
use metrics::Requests;

pub use jobs::JobRequest;
pub use problem::{Kind, Problem};
pub use socket::{Api, ApiError, socket_path};

/// Of what comes with a request; a policy with all the entries that it may have is smaller.
const MOST_BODY_BYTES: usize = 512 << 10;
/// Requests that are answered at once; a further one is told to come again.
const MOST_REQUESTS: usize = 128;
/// No request takes longer. A search waits up to 10 s for its device.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the handlers stand on.
pub struct Sources {
    pub desk: Desk,
    pub ledger: Arc<dyn Ledger>,
    pub archive: Archive,
    /// What happens, from now on.
    pub events: broadcast::Receiver<Event>,
    pub access: Access,
    /// Of the embedded broker, where there is one.
    pub broker: Option<BrokerCounter>,
    /// Where the archive lies, and how much may be missing between two of its files.
    pub settings: ArchiveConfig,
}

impl fmt::Debug for Sources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sources").field("desk", &self.desk).finish_non_exhaustive()
    }
}

/// What the handlers ask.
#[derive(Clone)]
struct Asked {
    desk: Desk,
    ledger: Arc<dyn Ledger>,
    archive: Archive,
    news: Arc<News>,
    requests: Arc<Requests>,
    broker: Option<BrokerCounter>,
    access: Access,
    player: Player,
    exports: Exports,
}

impl FromRef<Asked> for Access {
    fn from_ref(asked: &Asked) -> Access {
        asked.access.clone()
    }
}

impl FromRef<Asked> for Player {
    fn from_ref(asked: &Asked) -> Player {
        asked.player.clone()
    }
}

impl FromRef<Asked> for Exports {
    fn from_ref(asked: &Asked) -> Exports {
        asked.exports.clone()
    }
}

/// Everything above, for any listener: it puts a [`Caller`](crate::access::Caller) to each request, and each route
/// says what that caller must be allowed. Ends what is open without end, such as events, once nothing more can happen.
pub fn router(sources: Sources) -> Router {
    let Sources { desk, ledger, archive, events, access, broker, settings } = sources;
    let (room, requests) = (Arc::new(Semaphore::new(MOST_REQUESTS)), Arc::<Requests>::default());
    let player = Player::new(archive.clone(), settings.root.clone(), ledger.clone());
    let exports = Exports::new(player.clone(), ledger.clone(), &settings);
    let asked = Asked {
        desk,
        ledger,
        archive,
        news: Arc::new(News::tell(events)),
        requests: requests.clone(),
        broker,
        access,
        player,
        exports,
    };
    let (routes, _) = routes().split_for_parts();
    let (probes, _) = probes().split_for_parts();
    routes
        .fallback(async || Problem::new(Kind::Unknown, "nothing is served at this path"))
        .method_not_allowed_fallback(async || {
            Problem::new(Kind::Method, "this path does not take this method")
        })
        .layer(DefaultBodyLimit::max(MOST_BODY_BYTES))
        .layer(middleware::from_fn_with_state(room, bounded))
        .merge(probes)
        .layer(middleware::from_fn_with_state(requests, metrics::count))
        .with_state(asked)
}

/// All but the probes. There is no other way into the router, so that each is described.
fn routes() -> OpenApiRouter<Asked> {
    OpenApiRouter::new()
        .merge(looks().route_layer(require(Role::View)))
        .merge(playback::routes().route_layer(require(Role::View)))
        .merge(export::routes().route_layer(require(Role::View)))
        .merge(pulls().route_layer(require(Role::Pull)))
        .merge(administration().route_layer(require(Role::Admin)))
        .merge(accounts::routes())
        .merge(session::routes())
        .routes(routes!(openapi::openapi))
}

fn looks() -> OpenApiRouter<Asked> {
    OpenApiRouter::new()
        .routes(routes!(devices::list))
        .routes(routes!(devices::one))
        .routes(routes!(devices::coverage))
        .routes(routes!(devices::seams))
        .routes(routes!(timelines::timeline))
        .routes(routes!(timelines::gaps))
        .routes(routes!(jobs::search))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::one))
        .routes(routes!(jobs::work))
        .routes(routes!(runs::list))
        .routes(routes!(runs::one))
        .routes(routes!(runs::next))
        .routes(routes!(policies::list))
        .routes(routes!(policies::one))
        .routes(routes!(events::events))
}

fn pulls() -> OpenApiRouter<Asked> {
    OpenApiRouter::new()
        .routes(routes!(jobs::create).layer(audited(Action::Pull)))
        .routes(routes!(jobs::cancel).layer(audited(Action::CancelJob)))
}

fn administration() -> OpenApiRouter<Asked> {
    OpenApiRouter::new()
        .routes(routes!(runs::cancel).layer(audited(Action::CancelRun)))
        .routes(routes!(policies::put).layer(audited(Action::PutPolicy)))
        .routes(routes!(policies::remove).layer(audited(Action::RemovePolicy)))
}

/// What a supervisor asks, however busy the rest is, and whoever it is; figures are for those who may look.
fn probes() -> OpenApiRouter<Asked> {
    OpenApiRouter::new()
        .routes(routes!(metrics::metrics))
        .route_layer(require(Role::View))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
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
