//! The rules together: requests as they come over TCP, against the real routes.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, ORIGIN, SET_COOKIE};
use axum::http::{HeaderMap, HeaderName, Method, Request, StatusCode};
use axum::middleware::from_fn_with_state;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{broadcast, mpsc};
use tower::ServiceExt;

use super::identify::{CSRF_HEADER, Door, identify};
use super::*;
use crate::api;
use crate::archive::ArchiveChange;
use crate::examples::{job_status, key, seconds, sources};
use crate::ledger::{SqliteLedger, ledger_path};
use crate::order::{Answer as Answered, Order, OrderError};
use crate::reconcile::Event;
use crate::reconcile::driver::Desk;

const PASSWORD: &str = "correct horse";
const FAR: &str = "192.0.2.7:5000";
const HERE: &str = "127.0.0.1:5000";
const OWN_NAME: (HeaderName, &str) = (HOST, "gapless.example:8480");
const LOOPBACK: (HeaderName, &str) = (HOST, "127.0.0.1:8480");

/// A caller out of nothing, for rules that are asked about one.
pub(crate) async fn caller(name: &str, role: Role, way: Way) -> Caller {
    let house = House::open(None).await;
    Caller { role, way, ..Caller::on_the_socket(&house.access, name.to_owned()) }
}

/// One that knows nobody.
pub(crate) async fn empty() -> Access {
    House::open(None).await.access
}

/// The API behind a TCP listener that nobody listens on.
struct House {
    access: Access,
    ledger: Arc<SqliteLedger>,
    router: Router,
    kept: (broadcast::Sender<Event>, mpsc::Receiver<ArchiveChange>),
    _state_dir: TempDir,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

/// What a browser keeps of a log-in.
#[derive(Clone)]
struct Browser {
    cookie: String,
    csrf: String,
}

impl House {
    async fn open(anonymous: Option<Role>) -> House {
        House::behind(Approach::default(), anonymous).await
    }

    async fn behind(approach: Approach, anonymous: Option<Role>) -> House {
        let state_dir = tempfile::tempdir().unwrap();
        let ledger = SqliteLedger::open(&ledger_path(state_dir.path())).await.unwrap();
        let ledger = Arc::new(ledger);
        let settings = Settings { anonymous, audit_kept: Duration::from_secs(1 << 40) };
        let access = Access::open(ledger.clone(), Clock::start(), settings).await.unwrap();
        let (desk, mut asked) = Desk::open(1);
        tokio::spawn(async move {
            while let Some(asked) = asked.recv().await {
                drop(asked.answer.send(answer(asked.order)));
            }
        });
        let door = Door { access: access.clone(), approach, port: 8480 };
        let (sources, happens, changes) =
            sources(desk, ledger.clone(), access.clone(), state_dir.path());
        let router = api::router(sources).layer(from_fn_with_state(door, identify));
        House { access, ledger, router, kept: (happens, changes), _state_dir: state_dir }
    }

    async fn with_user(self, name: &str, role: Role) -> House {
        let password = Some(Confidential(PASSWORD.to_owned()));
        self.access.add_user(name.parse().unwrap(), role, password).await.unwrap();
        self
    }

    async fn ask(
        &self,
        from: &str,
        method: Method,
        path: &str,
        headers: &[(HeaderName, &str)],
        body: Option<Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let mut request = request.body(Body::from(body)).unwrap();
        let from: SocketAddr = from.parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(from));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// From another machine, by the server's name.
    async fn get(&self, path: &str, headers: &[(HeaderName, &str)]) -> Answer {
        let headers = [&[OWN_NAME], headers].concat();
        self.ask(FAR, Method::GET, path, &headers, None).await
    }

    async fn try_log_in(&self, from: &str, name: &str, password: &str) -> Answer {
        let body = json!({ "name": name, "password": password });
        self.ask(from, Method::POST, "/api/v1/session", &[OWN_NAME], Some(body)).await
    }

    async fn log_in(&self, name: &str) -> Browser {
        let answer = self.try_log_in(FAR, name, PASSWORD).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        let set = answer.headers[SET_COOKIE].to_str().unwrap();
        let cookie = set.split(';').next().unwrap().to_owned();
        Browser { cookie, csrf: answer.body["csrf"].as_str().unwrap().to_owned() }
    }

    /// As the page asks.
    async fn by(
        &self,
        browser: &Browser,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let headers = [OWN_NAME, (COOKIE, browser.cookie.as_str()), (CSRF_HEADER, &browser.csrf)];
        self.ask(FAR, method, path, &headers, body).await
    }

    async fn log(&self) -> Vec<AuditEntry> {
        self.ledger.audit(&AuditQuery { most: 100, ..AuditQuery::default() }).await.unwrap()
    }
}

fn answer(order: Order) -> Result<Answered, OrderError> {
    match order {
        Order::Jobs { .. } => Ok(Answered::Jobs(Vec::new())),
        Order::Pull { key, range, deadline } => {
            Ok(Answered::Job(Box::new(job_status(key, range, deadline))))
        }
        _ => Err(OrderError::Ending),
    }
}

fn pull() -> Option<Value> {
    Some(json!({
        "device": "camera",
        "stream": "main",
        "from": "1970-01-01T00:00:00Z",
        "to": "1970-01-01T00:00:45Z",
    }))
}

#[tokio::test]
async fn nobody_unknown_gets_further_than_the_log_in() {
    let house = House::open(None).await.with_user("anna", Role::View).await;
    for path in ["/api/v1/jobs", "/api/v1/session", "/api/v1/nothing", "/metrics", "/api/v1/audit"]
    {
        let answer = house.get(path, &[]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"gapless\"");
        assert!(answer.body["detail"].as_str().unwrap().contains("POST /api/v1/session"));
    }
    let posted = house.ask(HERE, Method::POST, "/api/v1/jobs", &[LOOPBACK], pull()).await;
    assert_eq!(posted.status, StatusCode::UNAUTHORIZED);
    let wrong = house.try_log_in(FAR, "anna", "wrong horse").await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(!wrong.headers.contains_key(SET_COOKIE));
    let cookie = [(COOKIE, "gapless-8480=0123456789abcdef")];
    assert_eq!(house.get("/api/v1/jobs", &cookie).await.status, StatusCode::UNAUTHORIZED);
    for token in ["Bearer gpl_0000", "Bearer ", "Basic YW5uYTpjb3JyZWN0IGhvcnNl"] {
        let answer = house.get("/api/v1/jobs", &[(AUTHORIZATION, token)]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{token}");
    }
    // What is open is not refused.
    assert_eq!(house.get("/api/v1/openapi.json", &[]).await.status, StatusCode::OK);
    assert_eq!(house.get("/", &[]).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn each_role_may_what_its_routes_say() {
    let house = House::open(None).await;
    let routes: [(Method, &str, Role); 12] = [
        (Method::GET, "/api/v1/jobs", Role::View),
        (Method::GET, "/api/v1/runs/r1", Role::View),
        (Method::GET, "/api/v1/session", Role::View),
        (Method::POST, "/api/v1/jobs", Role::Pull),
        (Method::DELETE, "/api/v1/jobs/j1", Role::Pull),
        (Method::DELETE, "/api/v1/runs/r1", Role::Admin),
        (Method::PUT, "/api/v1/policies/night", Role::Admin),
        (Method::DELETE, "/api/v1/policies/night", Role::Admin),
        (Method::GET, "/api/v1/users", Role::Admin),
        (Method::POST, "/api/v1/tokens", Role::Admin),
        (Method::PUT, "/api/v1/users/anna/role", Role::Admin),
        (Method::GET, "/api/v1/audit", Role::Admin),
    ];
    for role in Role::ALL {
        let name: AccountName = role.word().parse().unwrap();
        let token = house.access.add_token(name, role, None, "admin".into()).await.unwrap();
        let bearer = format!("Bearer {}", token.secret.reveal());
        for (method, path, needed) in &routes {
            let headers = [OWN_NAME, (AUTHORIZATION, bearer.as_str())];
            let answer = house.ask(FAR, method.clone(), path, &headers, None).await;
            let refused = answer.status == StatusCode::FORBIDDEN;
            assert_eq!(refused, !role.may(*needed), "{role} {method} {path}: {}", answer.status);
            assert_ne!(answer.status, StatusCode::UNAUTHORIZED);
            if refused {
                let detail = answer.body["detail"].as_str().unwrap();
                assert!(detail.contains(needed.word()) && detail.contains(role.word()), "{detail}");
            }
        }
    }
    let refusals = house.log().await.into_iter().filter(|entry| entry.outcome == Outcome::Refused);
    assert_eq!(refusals.count(), 9 + 7);
}

#[tokio::test]
async fn what_changes_something_needs_the_sessions_own_token_and_its_own_page() {
    let house = House::open(None).await.with_user("anna", Role::Pull).await;
    let (anna, other) = (house.log_in("anna").await, house.log_in("anna").await);
    let ask = async |headers: &[(HeaderName, &str)]| {
        let headers = [&[OWN_NAME, (COOKIE, anna.cookie.as_str())], headers].concat();
        house.ask(FAR, Method::POST, "/api/v1/jobs", &headers, pull()).await.status
    };
    let csrf = (CSRF_HEADER, anna.csrf.as_str());
    assert_eq!(ask(&[]).await, StatusCode::FORBIDDEN);
    assert_eq!(ask(&[(CSRF_HEADER, &other.csrf)]).await, StatusCode::FORBIDDEN);
    assert_eq!(ask(&[(CSRF_HEADER, "")]).await, StatusCode::FORBIDDEN);
    assert_eq!(ask(std::slice::from_ref(&csrf)).await, StatusCode::CREATED);
    let own = (ORIGIN, "http://gapless.example:8480");
    assert_eq!(ask(&[csrf.clone(), own]).await, StatusCode::CREATED);
    let foreign = (ORIGIN, "http://evil.example");
    assert_eq!(ask(&[csrf.clone(), foreign]).await, StatusCode::FORBIDDEN);
    let site = (HeaderName::from_static("sec-fetch-site"), "same-site");
    assert_eq!(ask(&[csrf, site]).await, StatusCode::FORBIDDEN);
    assert_eq!(house.get("/api/v1/jobs", &[(COOKIE, &anna.cookie)]).await.status, StatusCode::OK);
    let reasons: Vec<String> = house.log().await.into_iter().filter_map(|e| e.reason).collect();
    assert_eq!(reasons.iter().filter(|reason| reason.contains("X-CSRF-Token")).count(), 3);
    assert_eq!(reasons.iter().filter(|reason| reason.contains("another site")).count(), 2);
}

#[tokio::test]
async fn no_foreign_page_logs_anybody_in() {
    let house = House::open(None).await.with_user("anna", Role::View).await;
    let body = json!({ "name": "anna", "password": PASSWORD });
    let headers = [OWN_NAME, (ORIGIN, "http://evil.example")];
    let answer = house.ask(FAR, Method::POST, "/api/v1/session", &headers, Some(body)).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(!answer.headers.contains_key(SET_COOKIE));
}

#[tokio::test]
async fn who_is_anonymous_is_on_this_machine_and_no_page_of_somebody_else() {
    let house = House::open(Some(Role::View)).await;
    let ask = async |from: &str, headers: &[(HeaderName, &str)]| {
        house.ask(from, Method::GET, "/api/v1/session", headers, None).await
    };
    let own = ask(HERE, &[LOOPBACK]).await;
    assert_eq!(own.status, StatusCode::OK);
    let expected = json!({ "name": "anonymous", "role": "view", "way": "anonymous", "csrf": null });
    assert_eq!(own.body, expected);
    let rebound = (HOST, "evil.example:8480");
    let forwarded = (HeaderName::from_static("x-forwarded-for"), "192.0.2.1");
    let foreign = (ORIGIN, "http://evil.example");
    for (from, headers) in [
        (FAR, vec![LOOPBACK]),
        (HERE, vec![rebound]),
        (HERE, vec![]),
        (HERE, vec![LOOPBACK, forwarded]),
        (HERE, vec![LOOPBACK, foreign]),
        (HERE, vec![LOOPBACK, (HeaderName::from_static("sec-fetch-site"), "cross-site")]),
    ] {
        let answer = ask(from, &headers).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{from} {headers:?}");
    }
    let posted = house.ask(HERE, Method::POST, "/api/v1/jobs", &[LOOPBACK], pull()).await;
    assert_eq!(posted.status, StatusCode::FORBIDDEN);
    let nobody = House::open(None).await;
    let answer = nobody.ask(HERE, Method::GET, "/api/v1/session", &[LOOPBACK], None).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_session_is_a_cookie_that_only_this_server_gets_and_no_script_reads() {
    let house = House::open(None).await.with_user("anna", Role::View).await;
    let answer = house.try_log_in(FAR, "anna", PASSWORD).await;
    let set = answer.headers[SET_COOKIE].to_str().unwrap().to_owned();
    assert!(set.starts_with("gapless-8480="), "{set}");
    for part in ["; HttpOnly", "; SameSite=Strict", "; Path=/", "; Max-Age=604800"] {
        assert!(set.contains(part), "{part} is not in {set}");
    }
    assert!(!set.contains("Secure") && !set.contains("Domain"), "{set}");
    let tls = House::behind(Approach { tls: true, ..Approach::default() }, None).await;
    let tls = tls.with_user("anna", Role::View).await;
    let answer = tls.try_log_in(FAR, "anna", PASSWORD).await;
    let set = answer.headers[SET_COOKIE].to_str().unwrap();
    assert!(set.starts_with("__Host-gapless-8480=") && set.ends_with("; Secure"), "{set}");
    // One that was set without encryption, by whoever sits on the network, is none.
    let plain = set.strip_prefix("__Host-").unwrap().split(';').next().unwrap();
    let answer = tls.get("/api/v1/session", &[(COOKIE, plain)]).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn logging_out_ends_the_session_and_takes_the_cookie_away() {
    let house = House::open(None).await.with_user("anna", Role::View).await;
    let anna = house.log_in("anna").await;
    let who = house.by(&anna, Method::GET, "/api/v1/session", None).await;
    let role = (&who.body["name"], &who.body["role"], &who.body["way"]);
    assert_eq!(role, (&json!("anna"), &json!("view"), &json!("session")));
    assert_eq!(who.body["csrf"], json!(anna.csrf));
    let out = house.by(&anna, Method::DELETE, "/api/v1/session", None).await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    assert!(out.headers[SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    let after = house.by(&anna, Method::GET, "/api/v1/session", None).await;
    assert_eq!(after.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_changed_role_counts_at_once_and_a_removed_user_is_out() {
    let house = House::open(None).await.with_user("anna", Role::Admin).await;
    let house = house.with_user("ben", Role::View).await;
    let (anna, ben) = (house.log_in("anna").await, house.log_in("ben").await);
    let bens = async |method| house.by(&ben, method, "/api/v1/jobs", pull()).await.status;
    assert_eq!(bens(Method::POST).await, StatusCode::FORBIDDEN);
    let role = Some(json!({ "role": "pull" }));
    let changed = house.by(&anna, Method::PUT, "/api/v1/users/ben/role", role).await;
    assert_eq!((changed.status, &changed.body["role"]), (StatusCode::OK, &json!("pull")));
    assert_eq!(bens(Method::POST).await, StatusCode::CREATED);
    let removed = house.by(&anna, Method::DELETE, "/api/v1/users/ben", None).await;
    assert_eq!(removed.status, StatusCode::OK);
    assert_eq!(bens(Method::POST).await, StatusCode::UNAUTHORIZED);
    let last = house.by(&anna, Method::DELETE, "/api/v1/users/anna", None).await;
    assert_eq!(last.status, StatusCode::CONFLICT);
    let role = Some(json!({ "role": "view" }));
    let last = house.by(&anna, Method::PUT, "/api/v1/users/anna/role", role).await;
    assert_eq!(last.status, StatusCode::CONFLICT, "{}", last.body);
}

#[tokio::test]
async fn who_has_logged_out_is_told_no_more_of_what_happens() {
    let house = House::open(None).await.with_user("anna", Role::View).await;
    let browser = house.log_in("anna").await;
    let made = house.access.add_token("nvr".parse().unwrap(), Role::View, None, "anna".to_owned());
    let bearer = format!("Bearer {}", made.await.unwrap().secret.reveal());
    let watch = async |header: (HeaderName, &str)| {
        let mut request = Request::get("/api/v1/events").header(OWN_NAME.0, OWN_NAME.1);
        request = request.header(header.0, header.1);
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(ConnectInfo::<SocketAddr>(FAR.parse().unwrap()));
        let response = house.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body()
    };
    let told = |device: &str| Event::Online(device.parse().unwrap());
    let mut watching =
        [watch((COOKIE, &browser.cookie)).await, watch((AUTHORIZATION, &bearer)).await];
    house.kept.0.send(told("before")).unwrap();
    for body in &mut watching {
        let event = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(String::from_utf8_lossy(&event).contains("before"), "{event:?}");
    }
    let left = house.by(&browser, Method::DELETE, "/api/v1/session", None).await;
    assert_eq!(left.status, StatusCode::NO_CONTENT);
    house.access.remove_token(&"nvr".parse().unwrap()).await.unwrap();
    house.kept.0.send(told("behind")).unwrap();
    for body in &mut watching {
        assert!(body.frame().await.is_none(), "the stream has ended");
    }
}

#[tokio::test]
async fn ones_own_password_is_changed_by_who_knows_it_and_ends_all_other_sessions() {
    let house = House::open(None).await.with_user("anna", Role::View).await;
    let (here, there) = (house.log_in("anna").await, house.log_in("anna").await);
    let change = async |present: &str, new: &str| {
        let body = Some(json!({ "present": present, "password": new }));
        house.by(&here, Method::PUT, "/api/v1/session/password", body).await.status
    };
    assert_eq!(change("wrong horse", "battery staple").await, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(change(PASSWORD, "short").await, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(change(PASSWORD, "battery staple").await, StatusCode::NO_CONTENT);
    let who = async |browser| house.by(browser, Method::GET, "/api/v1/session", None).await.status;
    assert_eq!(who(&here).await, StatusCode::OK);
    assert_eq!(who(&there).await, StatusCode::UNAUTHORIZED);
    let old = house.try_log_in(FAR, "anna", PASSWORD).await.status;
    assert_eq!(old, StatusCode::UNAUTHORIZED);
    let new = house.try_log_in(FAR, "anna", "battery staple").await.status;
    assert_eq!(new, StatusCode::OK);
}

#[tokio::test]
async fn whoever_guesses_has_to_wait_even_for_the_right_password() {
    let house = House::open(None).await.with_user("anna", Role::View).await;
    for _ in 0..6 {
        let answer = house.try_log_in(FAR, "anna", "wrong horse").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    let waits = house.try_log_in(FAR, "anna", PASSWORD).await;
    assert_eq!(waits.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(waits.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() <= 2);
    let refused = house.log().await.into_iter().filter(|entry| entry.action == Action::LogIn);
    assert_eq!(refused.filter(|entry| entry.outcome == Outcome::Refused).count(), 7);
}

#[tokio::test]
async fn an_unknown_name_is_answered_like_a_wrong_password_and_passwords_are_not_logged() {
    let house = House::open(None).await.with_user("anna", Role::View).await;
    let known = house.try_log_in(FAR, "anna", "wrong horse").await;
    let unknown = house.try_log_in(FAR, "ben", "wrong horse").await;
    assert_eq!((known.status, known.body), (unknown.status, unknown.body));
    house.try_log_in(FAR, "my secret pass phrase", "").await;
    let log = house.log().await;
    let who: Vec<&str> = log.iter().map(|entry| entry.who.as_str()).collect();
    assert_eq!(who, ["", "ben", "anna"]);
}

#[tokio::test]
async fn a_token_needs_no_cookie_is_shown_once_and_can_be_taken_back() {
    let house = House::open(None).await.with_user("anna", Role::Admin).await;
    let anna = house.log_in("anna").await;
    let body = Some(json!({ "name": "nvr", "role": "pull" }));
    let made = house.by(&anna, Method::POST, "/api/v1/tokens", body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    let bearer = format!("Bearer {}", made.body["token"].as_str().unwrap());
    let headers = [OWN_NAME, (AUTHORIZATION, bearer.as_str())];
    let pulled = house.ask(FAR, Method::POST, "/api/v1/jobs", &headers, pull()).await;
    assert_eq!(pulled.status, StatusCode::CREATED);
    let list = house.by(&anna, Method::GET, "/api/v1/tokens", None).await.body;
    let token = &list["items"][0];
    assert_eq!((&token["name"], &token["created_by"]), (&json!("nvr"), &json!("anna")));
    assert!(token["last_used"].is_string() && token.get("token").is_none(), "{token}");
    let kept = serde_json::to_string(&house.ledger.tokens().await.unwrap()).unwrap();
    assert!(!kept.contains(&bearer[11..]), "{kept}");
    house.by(&anna, Method::DELETE, "/api/v1/tokens/nvr", None).await;
    let pulled = house.ask(FAR, Method::POST, "/api/v1/jobs", &headers, pull()).await;
    assert_eq!(pulled.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn orders_and_refusals_are_written_down_with_who_what_and_where() {
    let house = House::open(None).await.with_user("anna", Role::Pull).await;
    let anna = house.log_in("anna").await;
    house.by(&anna, Method::POST, "/api/v1/jobs", pull()).await;
    house.by(&anna, Method::DELETE, "/api/v1/jobs/j7", None).await;
    house.by(&anna, Method::PUT, "/api/v1/policies/night", Some(json!({}))).await;
    let log = house.log().await;
    let told: Vec<_> =
        log.iter().rev().map(|e| (e.action, e.outcome, e.subject.as_deref())).collect();
    assert_eq!(
        told,
        [
            (Action::LogIn, Outcome::Done, None),
            (Action::Pull, Outcome::Done, Some("j12")),
            (Action::CancelJob, Outcome::Failed, Some("j7")),
            (Action::Request, Outcome::Refused, Some("PUT /api/v1/policies/night")),
        ]
    );
    assert!(log.iter().all(|e| e.who == "anna" && e.from == "192.0.2.7" && e.way == Way::Session));
    let pulled = &log[2];
    let stream = (pulled.device.clone().unwrap(), pulled.stream.clone().unwrap());
    assert_eq!(stream, (key().device, key().stream));
    let range = (pulled.range_from.unwrap(), pulled.range_to.unwrap());
    assert_eq!(range, (seconds(0, 45).start(), seconds(0, 45).end()));
}

#[tokio::test]
async fn what_cannot_be_written_down_is_not_shown() {
    let house = House::open(None).await.with_user("anna", Role::Admin).await;
    let anna = house.log_in("anna").await;
    // Somebody else has the number that the next entry would get.
    let taken = house.log().await[0].clone();
    let taken = AuditEntry { id: taken.id + 1, ..taken };
    house.ledger.record(&[Entry::Audit(Box::new(taken))]).await.unwrap();
    let looked = house.by(&anna, Method::GET, "/api/v1/audit", None).await;
    assert_eq!(looked.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(looked.body.get("items").is_none(), "{}", looked.body);
    // And the next look does not pass for one that was written down.
    let again = house.by(&anna, Method::GET, "/api/v1/audit", None).await;
    assert_eq!(again.status, StatusCode::OK);
    assert_eq!(house.log().await[0].action, Action::ReadAudit);
}

#[tokio::test]
async fn a_server_makes_its_first_admin_once() {
    let house = House::open(None).await;
    let first = house.access.first_admin().await.unwrap().unwrap();
    assert!(house.access.first_admin().await.unwrap().is_none());
    let logged_in = house.try_log_in(FAR, first.name.as_str(), &first.password.0).await;
    assert_eq!((logged_in.status, &logged_in.body["role"]), (StatusCode::OK, &json!("admin")));
    let again = Access::open(house.ledger.clone(), Clock::start(), house.access.0.settings).await;
    assert!(again.unwrap().first_admin().await.unwrap().is_none());
}

#[tokio::test]
async fn lists_of_accounts_and_entries_come_in_pages() {
    let house = House::open(None).await.with_user("anna", Role::Admin).await;
    for name in ["t1", "t2", "t3"] {
        let name = name.parse().unwrap();
        house.access.add_token(name, Role::View, None, "anna".into()).await.unwrap();
    }
    let anna = house.log_in("anna").await;
    let get = async |path: &str| house.by(&anna, Method::GET, path, None).await.body;
    let page = get("/api/v1/tokens?limit=2").await;
    assert_eq!((page["items"].as_array().unwrap().len(), &page["next"]), (2, &json!("t2")));
    let page = get("/api/v1/tokens?limit=2&after=t2").await;
    assert_eq!((&page["items"][0]["name"], &page["next"]), (&json!("t3"), &Value::Null));
    let entry = get("/api/v1/audit?limit=1").await;
    let next = entry["next"].as_str().map(str::to_owned);
    assert_eq!(entry["items"][0]["action"], json!("log_in"));
    let strange = get("/api/v1/audit?after=x").await;
    assert_eq!(strange["status"], json!(422), "{strange}");
    assert_eq!(next, None);
}
