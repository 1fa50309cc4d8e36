//! Log-in, log-out, and who one is. A browser gets its session as a cookie that no script can read; scripts of the
//! page learn from [`Session`] what they have to repeat in `X-CSRF-Token`.

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::header::{RETRY_AFTER, SET_COOKIE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use super::openapi::{Conflict, Invalid, NotAllowed, NotLoggedIn, Otherwise, TooMany};
use super::{Asked, Kind, Problem};
use crate::access::identify::CookieName;
use crate::access::{
    Access, AccountName, Action, Caller, Confidential, LONGEST, LogInRefused, LoggedIn, Note,
    Outcome, Peer, Role, Subject, Way, audited, require,
};

/// Name and password of a user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogIn {
    pub name: String,
    #[schema(value_type = String)]
    pub password: Confidential,
}

/// Who one is, and what one may.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Of the user or token.
    pub name: String,
    pub role: Role,
    pub way: Way,
    /// To be sent as `X-CSRF-Token` with whatever changes something; `null` for those who have no cookie.
    #[schema(required)]
    pub csrf: Option<String>,
}

/// A user's own new password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnPassword {
    /// The one that is valid now.
    #[schema(value_type = String)]
    pub present: Confidential,
    #[schema(value_type = String)]
    pub password: Confidential,
}

pub(super) fn routes() -> OpenApiRouter<Asked> {
    let known = OpenApiRouter::new()
        .routes(routes!(who))
        .routes(routes!(log_out).layer(audited(Action::LogOut)))
        .routes(routes!(change_own_password).layer(audited(Action::ChangePassword)))
        .route_layer(require(Role::View));
    OpenApiRouter::new().routes(routes!(log_in)).merge(known)
}

/// Log in
///
/// The answer sets a cookie. Programs had better have a token.
#[utoipa::path(
    post,
    path = "/api/v1/session",
    tag = "access",
    request_body = LogIn,
    responses(
        (status = 200, description = "Logged in", body = Session),
        NotLoggedIn,
        NotAllowed,
        Conflict,
        TooMany,
        Otherwise,
    )
)]
pub async fn log_in(
    State(access): State<Access>,
    peer: Option<Extension<Peer>>,
    cookie: Option<Extension<CookieName>>,
    earlier: Option<Extension<Caller>>,
    body: Result<Json<LogIn>, JsonRejection>,
) -> Result<Response, Problem> {
    let (Some(Extension(peer)), Some(Extension(cookie))) = (peer, cookie) else {
        let detail = "on the Unix socket nobody logs in: whoever can open it may everything";
        return Err(Problem::new(Kind::Conflict, detail));
    };
    let Json(LogIn { name, password }) = body?;
    let note = |who: String, role, way, outcome, reason| Note {
        who,
        role,
        way,
        from: peer.address.to_string(),
        action: Action::LogIn,
        subject: Subject::default(),
        outcome,
        reason,
    };
    let LoggedIn { id, caller } = match access.log_in(&name, password, peer.address).await {
        Ok(logged_in) => logged_in,
        Err(refused) => {
            // What is no name may be a password that was typed a line too early.
            let who = name.parse().map_or("", |_: AccountName| name.as_str()).to_owned();
            let (problem, outcome, retry_after_s) = refusal(refused);
            let reason = Some(problem.detail.clone());
            access.note_or_log(note(who, None, Way::Unknown, outcome, reason)).await;
            let mut response = problem.into_response();
            if let Some(seconds) = retry_after_s {
                response.headers_mut().insert(RETRY_AFTER, seconds.into());
            }
            return Ok(response);
        }
    };
    let who = caller.name.clone();
    let noted = access.note(note(who, Some(caller.role), Way::Session, Outcome::Done, None)).await;
    if let Err(error) = noted {
        access.log_out(&caller);
        return Err(error.into());
    }
    if let Some(Extension(earlier)) = earlier {
        access.log_out(&earlier);
    }
    let set = cookie.set(id.reveal(), LONGEST.as_secs());
    Ok(with_cookie(&set, Json(Session::of(&caller))))
}

/// Who am I?
#[utoipa::path(
    get,
    path = "/api/v1/session",
    tag = "access",
    responses(
        (status = 200, description = "The caller", body = Session),
        NotLoggedIn,
        Otherwise,
    )
)]
pub async fn who(Extension(caller): Extension<Caller>) -> Json<Session> {
    Json(Session::of(&caller))
}

/// Log out
#[utoipa::path(
    delete,
    path = "/api/v1/session",
    tag = "access",
    responses(
        (status = 204, description = "Logged out"),
        NotLoggedIn,
        NotAllowed,
        Conflict,
        Otherwise,
    )
)]
pub async fn log_out(
    State(access): State<Access>,
    cookie: Option<Extension<CookieName>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Problem> {
    match (access.log_out(&caller), cookie) {
        (true, Some(Extension(cookie))) => {
            Ok(with_cookie(&cookie.set("", 0), StatusCode::NO_CONTENT))
        }
        _ => Err(Problem::new(Kind::Conflict, "there is no session to end: you have none")),
    }
}

/// Change one's own password
///
/// All other sessions of the user end.
#[utoipa::path(
    put,
    path = "/api/v1/session/password",
    tag = "access",
    request_body = OwnPassword,
    responses(
        (status = 204, description = "Changed"),
        NotLoggedIn,
        NotAllowed,
        Conflict,
        Invalid,
        Otherwise,
    )
)]
pub async fn change_own_password(
    State(access): State<Access>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<OwnPassword>, JsonRejection>,
) -> Result<(StatusCode, Extension<Subject>), Problem> {
    let Json(OwnPassword { present, password }) = body?;
    access.change_own_password(&caller, present, password).await?;
    Ok((StatusCode::NO_CONTENT, Extension(Subject::named(&caller.name))))
}

impl Session {
    fn of(caller: &Caller) -> Session {
        Session {
            name: caller.name.clone(),
            role: caller.role,
            way: caller.way,
            csrf: caller.csrf().map(str::to_owned),
        }
    }
}

/// Also whether it was the caller's fault, and when to try again.
fn refusal(refused: LogInRefused) -> (Problem, Outcome, Option<u64>) {
    match refused {
        LogInRefused::Wrong => (Problem::new(Kind::Unidentified, refused), Outcome::Refused, None),
        LogInRefused::Wait(wait) => {
            let seconds = wait.as_secs() + 1;
            (Problem::new(Kind::TooMany, refused), Outcome::Refused, Some(seconds))
        }
        LogInRefused::Account(error) => (error.into(), Outcome::Failed, None),
    }
}

fn with_cookie(set: &str, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    if let Ok(value) = HeaderValue::from_str(set) {
        response.headers_mut().insert(SET_COOKIE, value);
    }
    response
}
