//! Access, end to end: the real server over TLS, asked as browsers and programs ask, and by its command line.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::header::HeaderMap;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use sdcard_indexer::time::Timestamp;
use serde_json::{Value, json};
use tests::installation::{DEVICE, Installation, STREAM, Setup, amend, json_of};
use tests::link::Shape;
use tests::naming::Naming;
use tests::process::{Process, until};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// No wait is endless; far above what any of them takes.
const DEADLINE: Duration = Duration::from_secs(60);
const JOBS: &str = "/api/v1/jobs";
const SESSION: &str = "/api/v1/session";

/// A server that speaks TLS, and what its log says of how to reach it.
struct Door {
    installation: Installation,
    server: Process,
    port: u16,
    trusted: CertificateDer<'static>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Door {
    /// Also the password of its first user.
    async fn open() -> (Door, String) {
        let expected_from = Timestamp::from_jiff(jiff::Timestamp::now());
        let setup = Setup { naming: Naming::MediaMtx, link: Shape::CLEAR, expected_from };
        let installation = Installation::set_up(&setup).await.unwrap();
        let config = "[http]\nlisten = \"127.0.0.1:0\"\ntls_certificate = \"certificate.pem\"\n\
             tls_key = \"key.pem\"";
        amend(&installation.server_config(), config).unwrap();
        let trusted = certify(&installation);
        let mut server = installation.start_server().unwrap();
        let port = port_of(&mut server).await;
        let password = server.line("password", DEADLINE).await.unwrap();
        let password = password.split_whitespace().last().unwrap().to_owned();
        (Door { installation, server, port, trusted }, password)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> anyhow::Result<Answer> {
        let mut roots = RootCertStore::empty();
        roots.add(self.trusted.clone())?;
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let name = ServerName::try_from("localhost")?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let host = format!("localhost:{}", self.port);
        let mut request = Request::builder().method(method).uri(path).header("host", host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let response = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        connection.abort();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask(Method::GET, path, headers, None).await.unwrap()
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: Value) -> Answer {
        self.ask(Method::POST, path, headers, Some(body)).await.unwrap()
    }

    /// Cookie and CSRF token.
    async fn log_in(&self, name: &str, password: &str) -> (String, String) {
        let answer = self.post(SESSION, &[], json!({ "name": name, "password": password })).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        let set = answer.headers["set-cookie"].to_str().unwrap();
        for part in ["__Host-gapless-", "; HttpOnly", "; SameSite=Strict", "; Secure"] {
            assert!(set.contains(part), "{part} is not in {set}");
        }
        let cookie = set.split(';').next().unwrap().to_owned();
        (cookie, answer.body["csrf"].as_str().unwrap().to_owned())
    }

    async fn gapless<const N: usize>(&self, command: [&str; N]) -> Value {
        json_of(&self.installation.gapless(command).await.unwrap()).unwrap()
    }
}

/// Gives the server a new certificate of its own signing.
fn certify(installation: &Installation) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let put = |name: &str, text: String| -> PathBuf {
        let path = installation.root(name);
        fs::write(&path, text).unwrap();
        path
    };
    let key = put("key.pem", made.signing_key.serialize_pem());
    fs::set_permissions(key, Permissions::from_mode(0o600)).unwrap();
    put("certificate.pem", made.cert.pem());
    made.cert.der().clone()
}

async fn port_of(server: &mut Process) -> u16 {
    let line = server.line("the API and the page are served", DEADLINE).await.unwrap();
    let digits = line.rsplit(':').next().unwrap().trim_end_matches(['/', '"']);
    digits.parse().unwrap_or_else(|_| panic!("no port in {line}"))
}

fn pull() -> Value {
    json!({
        "device": DEVICE,
        "stream": STREAM,
        "from": "2026-11-23T10:00:00Z",
        "to": "2026-11-23T10:00:45Z",
    })
}

#[tokio::test]
async fn people_and_programs_are_let_in_by_role_and_what_they_do_is_written_down() {
    let (mut door, password) = Door::open().await;

    let unknown = door.get(JOBS, &[]).await;
    assert_eq!(unknown.status, StatusCode::UNAUTHORIZED);
    assert_eq!(unknown.headers["cache-control"], "no-store");
    assert!(unknown.headers.contains_key("content-security-policy"));
    let wrong = door.post(SESSION, &[], json!({ "name": "admin", "password": "guess" })).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);

    let (cookie, csrf) = door.log_in("admin", &password).await;
    let (cookie, csrf) = (("cookie", cookie.as_str()), ("x-csrf-token", csrf.as_str()));
    assert_eq!(door.get(SESSION, &[cookie]).await.body["role"], "admin");
    let nvr = json!({ "name": "nvr", "role": "view" });
    let forged = door.post("/api/v1/tokens", &[cookie], nvr.clone()).await;
    assert_eq!(forged.status, StatusCode::FORBIDDEN, "{}", forged.body);
    let foreign = [cookie, csrf, ("origin", "https://evil.example")];
    let forged = door.post("/api/v1/tokens", &foreign, nvr.clone()).await;
    assert_eq!(forged.status, StatusCode::FORBIDDEN, "{}", forged.body);
    let made = door.post("/api/v1/tokens", &[cookie, csrf], nvr).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);

    let bearer = format!("Bearer {}", made.body["token"].as_str().unwrap());
    let bearer = [("authorization", bearer.as_str())];
    assert_eq!(door.get(JOBS, &bearer).await.status, StatusCode::OK);
    assert_eq!(door.post(JOBS, &bearer, pull()).await.status, StatusCode::FORBIDDEN);
    let pulled = door.post(JOBS, &[cookie, csrf], pull()).await;
    assert_eq!(pulled.status, StatusCode::CREATED, "{}", pulled.body);

    let anna = door.gapless(["user", "add", "anna", "--role", "pull", "--json"]).await;
    let (cookie, csrf) = door.log_in("anna", anna["password"].as_str().unwrap()).await;
    let (cookie, csrf) = (("cookie", cookie.as_str()), ("x-csrf-token", csrf.as_str()));
    let job = format!("{JOBS}/{}", pulled.body["id"].as_str().unwrap());
    let cancelled = door.ask(Method::DELETE, &job, &[cookie, csrf], None).await.unwrap();
    assert_eq!(cancelled.status, StatusCode::OK, "{}", cancelled.body);
    let users = door.get("/api/v1/users", &[cookie]).await;
    assert_eq!(users.status, StatusCode::FORBIDDEN);
    door.gapless(["user", "remove", "anna", "--json"]).await;
    assert_eq!(door.get(JOBS, &[cookie]).await.status, StatusCode::UNAUTHORIZED);

    let log = door.gapless(["audit", "--json"]).await;
    let log: Vec<String> = log.as_array().unwrap().iter().rev().map(told).collect();
    let owner = log[7].split(' ').next().unwrap().to_owned();
    let expected = [
        "admin log_in refused".to_owned(),
        "admin log_in done".to_owned(),
        "admin request refused POST /api/v1/tokens".to_owned(),
        "admin request refused POST /api/v1/tokens".to_owned(),
        "admin add_token done nvr (view)".to_owned(),
        "nvr request refused POST /api/v1/jobs".to_owned(),
        format!("admin pull done {} {DEVICE}/{STREAM}", pulled.body["id"].as_str().unwrap()),
        format!("{owner} add_user done anna (pull)"),
        "anna log_in done".to_owned(),
        format!("anna cancel_job done {} {DEVICE}/{STREAM}", pulled.body["id"].as_str().unwrap()),
        "anna request refused GET /api/v1/users".to_owned(),
        format!("{owner} remove_user done anna"),
    ];
    assert_eq!(log, expected);
    assert!(door.server.terminate(DEADLINE).await.unwrap().success());
}

fn told(entry: &Value) -> String {
    let word = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let mut line = format!("{} {} {}", word("who"), word("action"), word("outcome"));
    if entry["subject"].is_string() {
        line += &format!(" {}", word("subject"));
    }
    if entry["device"].is_string() {
        line += &format!(" {}/{}", word("device"), word("stream"));
    }
    line
}

#[tokio::test]
async fn a_certificate_is_renewed_without_a_restart_and_the_first_password_is_told_once() {
    let (mut door, password) = Door::open().await;
    let (cookie, _) = door.log_in("admin", &password).await;
    let old = std::mem::replace(&mut door.trusted, certify(&door.installation));
    let renewed = async || {
        let asked = door.ask(Method::GET, SESSION, &[("cookie", &cookie)], None).await;
        asked.ok().map(|answer| answer.status)
    };
    let status = until("the new certificate is in use", DEADLINE, renewed).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    door.trusted = old;
    assert!(door.ask(Method::GET, SESSION, &[], None).await.is_err());

    assert!(door.server.terminate(DEADLINE).await.unwrap().success());
    door.trusted = certify(&door.installation);
    door.server.restart().await.unwrap();
    door.port = port_of(&mut door.server).await;
    // A session is not kept, and who has a password still has it.
    let after = door.get(SESSION, &[("cookie", &cookie)]).await;
    assert_eq!(after.status, StatusCode::UNAUTHORIZED);
    door.log_in("admin", &password).await;
    door.server.terminate(DEADLINE).await.unwrap();
    let log = fs::read_to_string(door.installation.root("server.log")).unwrap();
    assert_eq!(log.matches(&password).count(), 1, "{log}");

    let reset = door.installation.gapless(["user", "password", "admin"]).await.unwrap();
    assert_eq!(reset.status.code(), Some(1));
}
