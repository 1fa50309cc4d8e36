//! From a request that came over TCP to its caller. Whoever cannot be told gets no further than the log-in.
//!
//! Credentials are tried in this order: a token, which no browser sends by itself; a session's cookie; and none at
//! all, where the configuration lets callers of this machine be anonymous. Against pages of other sites that have a
//! browser ask (CSRF): what changes something needs the session's own token and comes from no foreign page, and an
//! anonymous caller is none where a foreign page asks.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::{HeaderMap, HeaderName, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::audit::{Action, Note, Outcome, Subject};
use super::peer::{Approach, Peer};
use super::{Access, Caller, Way};
use crate::api::{Kind, Problem};

/// Where a session's own token is repeated.
pub const CSRF_HEADER: HeaderName = HeaderName::from_static("x-csrf-token");
/// What answers unknown callers below the closed paths: the way in, and the document that tells it.
const OPEN: [(Method, &str); 2] =
    [(Method::POST, "/api/v1/session"), (Method::GET, "/api/v1/openapi.json")];
const CLOSED: [&str; 2] = ["/api/", "/metrics"];

/// What this needs to know of the listener that it stands behind.
#[derive(Clone, Debug)]
pub struct Door {
    pub access: Access,
    pub approach: Approach,
    /// Of the listener: cookies are of a host, and two servers on one must not take each other's.
    pub port: u16,
}

/// Why a request gets no further.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Refusal {
    kind: Kind,
    detail: String,
    /// Who it claims to be.
    who: String,
    way: Way,
}

/// A layer of everything that is served over TCP.
pub async fn identify(
    State(door): State<Door>,
    ConnectInfo(connected): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let parts = (request.version(), request.uri(), request.headers());
    let peer = match Peer::of(connected.ip(), parts, &door.approach) {
        Ok(peer) => peer,
        Err(error) => return Problem::new(Kind::Forbidden, error).into_response(),
    };
    let decided = door.decide(&peer, &request);
    match decided {
        Ok(caller) => {
            if let Some(caller) = caller {
                if caller.way == Way::Token
                    && let Ok(name) = caller.name.parse()
                {
                    door.access.note_token_use(&name).await;
                }
                request.extensions_mut().insert(caller);
            }
            let cookie = CookieName::of(&peer, door.port);
            request.extensions_mut().insert(cookie);
            request.extensions_mut().insert(peer);
            next.run(request).await
        }
        Err(refusal) => {
            let what = format!("{} {}", request.method(), request.uri().path());
            drop(request);
            door.note(&peer, what, &refusal).await;
            Problem::new(refusal.kind, refusal.detail).into_response()
        }
    }
}

impl Door {
    /// The caller, nobody, or that not even what is open may be asked so.
    fn decide(&self, peer: &Peer, request: &Request) -> Result<Option<Caller>, Refusal> {
        let headers = request.headers();
        let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let is_foreign = peer.is_foreign(headers);
        if let Some(offered) = bearer(headers) {
            return self.of_token(offered, peer).map(Some);
        }
        let caller = cookie(headers, &CookieName::of(peer, self.port))
            .and_then(|id| self.access.of_session(id, peer.address))
            .or_else(|| if is_foreign { None } else { self.anonymous(peer) });
        if !is_safe {
            let refuse = |detail: &str| Refusal {
                kind: Kind::Forbidden,
                detail: detail.to_owned(),
                who: caller.as_ref().map_or_else(String::new, |caller| caller.name.clone()),
                way: caller.as_ref().map_or(Way::Unknown, |caller| caller.way),
            };
            if is_foreign {
                return Err(refuse(
                    "a page of another site sent this: use the page that this server has itself, by the \
                     address at which it is served; a proxy in between must pass Host on, or X-Forwarded-Host",
                ));
            }
            // Who logs in anew need not know what the session before was told.
            let logs_in = request.method() == Method::POST && request.uri().path() == OPEN[0].1;
            if let Some(session) = caller.as_ref().and_then(|caller| caller.session.as_ref()) {
                let offered = headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok());
                if !logs_in && !offered.is_some_and(|offered| session.csrf.is(offered)) {
                    return Err(refuse(
                        "X-CSRF-Token is not that of this session: `GET /api/v1/session` tells it as `csrf`",
                    ));
                }
            }
        }
        if caller.is_none() && is_closed(request.method(), request.uri().path()) {
            return Err(Refusal {
                kind: Kind::Unidentified,
                detail: UNIDENTIFIED.to_owned(),
                who: String::new(),
                way: Way::Unknown,
            });
        }
        Ok(caller)
    }

    fn of_token(&self, offered: &str, peer: &Peer) -> Result<Caller, Refusal> {
        let now = self.access.0.clock.now().wall;
        let state = self.access.state();
        match state.tokens.find(offered, now) {
            Ok(token) => Ok(Caller {
                name: token.name.to_string(),
                role: token.role,
                way: Way::Token,
                from: peer.address.to_string(),
                session: None,
                access: self.access.clone(),
            }),
            Err(error) => Err(Refusal {
                kind: Kind::Unidentified,
                detail: error.to_string(),
                who: String::new(),
                way: Way::Token,
            }),
        }
    }

    fn anonymous(&self, peer: &Peer) -> Option<Caller> {
        let role = self.access.0.settings.anonymous.filter(|_| peer.is_local())?;
        Some(Caller {
            name: "anonymous".to_owned(),
            role,
            way: Way::Anonymous,
            from: peer.address.to_string(),
            session: None,
            access: self.access.clone(),
        })
    }

    /// Whoever has shown nothing has only not logged in yet: that is nothing to write down.
    async fn note(&self, peer: &Peer, what: String, refusal: &Refusal) {
        if refusal.kind == Kind::Unidentified && refusal.way == Way::Unknown {
            return;
        }
        let note = Note {
            who: refusal.who.clone(),
            role: None,
            way: refusal.way,
            from: peer.address.to_string(),
            action: Action::Request,
            subject: Subject::named(what),
            outcome: Outcome::Refused,
            reason: Some(refusal.detail.clone()),
        };
        self.access.note_or_log(note).await;
    }
}

pub(super) const UNIDENTIFIED: &str = "log in first: `POST /api/v1/session` with name and password, or send a token as \
     `Authorization: Bearer …`; `gapless user` and `gapless token` make them";

fn is_closed(method: &Method, path: &str) -> bool {
    let is_open = OPEN.iter().any(|(open, at)| open == method && *at == path);
    !is_open && CLOSED.iter().any(|closed| path.starts_with(closed))
}

/// What a session's cookie is called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CookieName {
    pub name: String,
    pub secure: bool,
}

impl CookieName {
    /// A browser takes `__Host-` over TLS alone, and from nobody but the host itself.
    fn of(peer: &Peer, port: u16) -> CookieName {
        let prefix = if peer.secure { "__Host-" } else { "" };
        CookieName { name: format!("{prefix}gapless-{port}"), secure: peer.secure }
    }

    /// The line that sets it, for so many seconds; 0 takes it away.
    pub fn set(&self, value: &str, seconds: u64) -> String {
        let CookieName { name, secure } = self;
        let secure = if *secure { "; Secure" } else { "" };
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn cookie<'a>(headers: &'a HeaderMap, wanted: &CookieName) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';'));
    pairs.find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == wanted.name).then_some(value)
    })
}
