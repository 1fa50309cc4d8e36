//! The way to a running server: its API over its Unix socket, one connection for each request.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::api::{Problem, socket_path};
use crate::config::Config;

/// The server gives up sooner by itself, and says so.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of an answer: ten thousand segments are 2 MiB.
const MOST_BYTES: usize = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error(
        "no server runs on {state_dir}: start it with `gapless serve`, with this configuration"
    )]
    NotRunning { state_dir: PathBuf },
    #[error("cannot ask the server at {socket}: only the user that runs it, and root, may")]
    NotAllowed {
        socket: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot ask the server at {socket}")]
    Unreachable {
        socket: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the server at {socket} does not answer")]
    Silent { socket: PathBuf },
    #[error("{0}")]
    Refused(String),
    #[error("the server does not speak this program's version of the API: {what}")]
    Strange { what: String },
}

impl ClientError {
    /// The server has gone, and may come back.
    pub fn is_absence(&self) -> bool {
        matches!(self, ClientError::NotRunning { .. } | ClientError::Unreachable { .. })
    }
}

#[derive(Debug)]
pub(super) struct Client {
    state_dir: PathBuf,
    socket: PathBuf,
}

impl Client {
    pub fn new(config: &Config) -> Client {
        let state_dir = config.server.state_dir.clone();
        Client { socket: socket_path(&state_dir), state_dir }
    }

    /// `path` behind `/api/v1/`. What is put into it are ids and instants, which need no escapes.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path, None::<&()>).await
    }

    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.ask(Method::POST, path, Some(body)).await
    }

    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.ask(Method::PUT, path, Some(body)).await
    }

    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::DELETE, path, None::<&()>).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/v1/{path}"))
            .header(HOST, "gapless");
        let mut bytes = Vec::new();
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json");
            bytes = serde_json::to_vec(body).map_err(|error| self.unreachable(error))?;
        }
        let request = request.body(Full::from(bytes)).map_err(|error| self.unreachable(error))?;
        let asked = timeout(PATIENCE, self.send(request)).await;
        let (success, answer) =
            asked.map_err(|_| ClientError::Silent { socket: self.socket.clone() })??;
        if success {
            return serde_json::from_slice(&answer)
                .map_err(|error| ClientError::Strange { what: error.to_string() });
        }
        let problem: Problem = serde_json::from_slice(&answer).map_err(|_| {
            ClientError::Strange { what: String::from_utf8_lossy(&answer).into_owned() }
        })?;
        Err(ClientError::Refused(problem.detail))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(bool, Bytes), ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.absent(error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(error))?;
        let connection = tokio::spawn(connection);
        let response =
            sender.send_request(request).await.map_err(|error| self.unreachable(error))?;
        let success = response.status().is_success();
        let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
        let body = body
            .map_err(|source| ClientError::Unreachable { socket: self.socket.clone(), source })?;
        connection.abort();
        Ok((success, body.to_bytes()))
    }

    fn absent(&self, error: io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning { state_dir: self.state_dir.clone() }
            }
            io::ErrorKind::PermissionDenied => {
                ClientError::NotAllowed { socket: self.socket.clone(), source: error }
            }
            _ => self.unreachable(error),
        }
    }

    fn unreachable(
        &self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> ClientError {
        ClientError::Unreachable { socket: self.socket.clone(), source: source.into() }
    }
}
