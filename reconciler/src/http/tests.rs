//! The listener, asked over real connections of this machine.

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::access::tests::empty;

/// No wait is endless; far above what any of them takes.
const DEADLINE: Duration = Duration::from_secs(20);
const LAST_ANSWERS: Duration = Duration::from_millis(100);

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Running {
    async fn start(config: HttpConfig) -> Running {
        let http = Http::listen(&config).await.unwrap().unwrap();
        let address = http.address();
        assert_eq!(http.url(), format!("http://{address}/"));
        let router = Router::new()
            .route("/", get(async || "the page"))
            .route("/cached", get(async || ([("cache-control", "max-age=60")], "a file")))
            .route("/api/v1/cached", get(async || ([("cache-control", "max-age=60")], "footage")))
            .route("/slow", get(async || std::future::pending::<&str>().await));
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        let serving = tokio::spawn(http.serve(router, empty().await, stopped, LAST_ANSWERS));
        Running { address, stop, serving }
    }

    async fn connect(&self) -> SendRequest<Body> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }
}

fn free() -> HttpConfig {
    HttpConfig { listen: Listen::At(([127, 0, 0, 1], 0).into()), ..HttpConfig::default() }
}

async fn ask(sender: &mut SendRequest<Body>, path: &str) -> hyper::Result<(StatusCode, HeaderMap)> {
    let request = Request::get(path).header("host", "localhost").body(Body::empty()).unwrap();
    let (parts, _) = sender.send_request(request).await?.into_parts();
    Ok((parts.status, parts.headers))
}

#[tokio::test]
async fn every_answer_tells_browsers_what_they_must_not_do() {
    let running = Running::start(free()).await;
    let mut sender = running.connect().await;
    for (path, status) in [("/", 200), ("/nothing", 404), ("/api/v1/jobs", 401)] {
        let (answered, headers) = ask(&mut sender, path).await.unwrap();
        assert_eq!(answered.as_u16(), status, "{path}");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"));
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(headers[name], value, "{path} {name}");
        }
    }
    let (_, headers) = ask(&mut sender, "/cached").await.unwrap();
    assert_eq!(headers["cache-control"], "max-age=60");
    let (_, headers) = ask(&mut sender, "/api/v1/cached").await.unwrap();
    assert_eq!(headers["cache-control"], "no-store");
}

#[tokio::test]
async fn a_connection_too_many_is_closed_and_room_is_made_again() {
    let running = Running::start(HttpConfig { max_connections: 2, ..free() }).await;
    let (mut first, mut second) = (running.connect().await, running.connect().await);
    ask(&mut first, "/").await.unwrap();
    ask(&mut second, "/").await.unwrap();
    let mut third = TcpStream::connect(running.address).await.unwrap();
    // Whether the request can still be written, or the end comes first, is chance.
    drop(third.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await);
    let mut answer = Vec::new();
    let read = timeout(DEADLINE, third.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.is_empty(), "{read:?} {}", String::from_utf8_lossy(&answer));
    drop(first);
    let asked = async {
        while ask(&mut running.connect().await, "/").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, asked).await.unwrap();
}

#[tokio::test]
async fn an_end_waits_for_nobody_who_idles_or_takes_for_ever() {
    let running = Running::start(free()).await;
    let (mut idle, mut slow) = (running.connect().await, running.connect().await);
    ask(&mut idle, "/").await.unwrap();
    let asking = tokio::spawn(async move { ask(&mut slow, "/slow").await });
    drop(running.stop);
    timeout(DEADLINE, running.serving).await.unwrap().unwrap();
    timeout(DEADLINE, asking).await.unwrap().unwrap().unwrap_err();
    TcpStream::connect(running.address).await.unwrap_err();
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_and_off_is_none() {
    let running = Running::start(free()).await;
    let taken = HttpConfig { listen: Listen::At(running.address), ..HttpConfig::default() };
    let error = Http::listen(&taken).await.unwrap_err().to_string();
    assert!(error.contains(&running.address.to_string()) && error.contains("[http] listen"));
    let off = HttpConfig { listen: Listen::Off, ..HttpConfig::default() };
    assert!(Http::listen(&off).await.unwrap().is_none());
}
