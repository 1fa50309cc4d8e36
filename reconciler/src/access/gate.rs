//! The two layers that routes have: what a caller must be allowed, and that what is done is written down.

use std::future::Future;
use std::pin::Pin;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{Query, RawPathParams, Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{FromFnLayer, Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use sdcard_indexer::time::{TimeRange, Timestamp};

use super::audit::{Action, Outcome, Subject};
use super::identify::UNIDENTIFIED;
use super::{Caller, Role};
use crate::api::{Kind, Problem};

type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;
type Check = fn(State<Role>, Request, Next) -> Answer;
type Watch = fn(State<Action>, PathOrNone, Request, Next) -> Answer;
type PathOrNone = Result<RawPathParams, RawPathParamsRejection>;

/// What [`require`] makes.
pub type RequireLayer = FromFnLayer<Check, Role, (State<Role>, Request)>;
/// What [`audited`] makes.
pub type AuditedLayer = FromFnLayer<Watch, Action, (State<Action>, PathOrNone, Request)>;

/// Refuses whoever has not this role, and whoever is unknown. Outside of [`audited`]: what is refused here, it writes
/// down itself.
pub fn require(role: Role) -> RequireLayer {
    fn check(State(needed): State<Role>, request: Request, next: Next) -> Answer {
        Box::pin(async move {
            let Some(caller) = request.extensions().get::<Caller>().cloned() else {
                return Problem::new(Kind::Unidentified, UNIDENTIFIED).into_response();
            };
            if caller.role.may(needed) {
                return next.run(request).await;
            }
            let reason =
                format!("needs the role {needed}, and {} has {}", caller.name, caller.role);
            let request = format!("{} {}", request.method(), request.uri().path());
            let refused = (Outcome::Refused, Some(reason.clone()));
            let noted =
                caller.access().note_of(&caller, Action::Request, Subject::named(request), refused);
            if let Err(error) = noted.await {
                return Problem::from(error).into_response();
            }
            Problem::new(Kind::Forbidden, format!("this {reason}: an admin can change that"))
                .into_response()
        })
    }
    from_fn_with_state(role, check as Check)
}

/// Writes down that this was done, or could not be, and to what: as a [`Subject`] in the extensions of the answer says
/// it, else the path's `device`, `stream`, `id` or `name`, and the query's `from`, `to` or `at`.
///
/// What lets footage out does so once this is durable, or not at all.
pub fn audited(action: Action) -> AuditedLayer {
    fn watch(
        State(action): State<Action>,
        path: PathOrNone,
        request: Request,
        next: Next,
    ) -> Answer {
        let caller = request.extensions().get::<Caller>().cloned();
        let asked = asked_of(path.as_ref().ok(), request.uri());
        let is_head = request.method() == Method::HEAD;
        Box::pin(async move {
            let mut response = next.run(request).await;
            let Some(caller) = caller else { return response };
            // A look that shows nothing is none.
            if action.is_look() && (is_head || response.status() == StatusCode::NOT_MODIFIED) {
                return response;
            }
            let told = response.extensions_mut().remove::<Subject>().unwrap_or_default();
            let outcome = match response.status() {
                status if status.is_success() => (Outcome::Done, None),
                StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => (Outcome::Refused, None),
                status => (Outcome::Failed, status.canonical_reason().map(str::to_owned)),
            };
            let is_done = outcome.0 == Outcome::Done;
            let noted = caller.access().note_of(&caller, action, told.or(asked), outcome).await;
            match noted {
                Err(error) if action.is_look() && is_done => Problem::from(error).into_response(),
                Err(error) => {
                    let error = sdcard_indexer::readable::explain(&error);
                    tracing::error!(error, %action, who = caller.name, "the audit log lacks an entry");
                    response
                }
                Ok(()) => response,
            }
        })
    }
    from_fn_with_state(action, watch as Watch)
}

/// What path and query say that this is about.
fn asked_of(path: Option<&RawPathParams>, uri: &Uri) -> Subject {
    let mut subject = Subject::default();
    for (key, value) in path.into_iter().flatten() {
        match key {
            "device" => subject.device = value.parse().ok(),
            "stream" => subject.stream = value.parse().ok(),
            "id" | "name" => subject.name = Some(value.to_owned()),
            _ => {}
        }
    }
    let query = Query::<Vec<(String, String)>>::try_from_uri(uri);
    let pairs = query.map(|Query(pairs)| pairs).unwrap_or_default();
    let instant = |wanted: &str| -> Option<Timestamp> {
        pairs.iter().find(|(key, _)| key == wanted)?.1.parse().ok()
    };
    let at = instant("at").map(|at| (at, at.saturating_offset(1)));
    let range = instant("from").zip(instant("to")).or(at);
    subject.range = range.and_then(|(from, to)| TimeRange::new(from, to));
    subject
}
