//! The TCP listener, on which people and programs reach the API and the page: HTTP/1.1, over TLS where there is a
//! certificate.
//!
//! It owns sockets and their limits. Who may what is decided by [`crate::access`], whose layer it puts around all that
//! it serves; nothing here answers a request by itself.

mod config;
mod headers;
mod tls;

use std::future::{Future, Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum_server::Handle;
use axum_server::accept::Accept;
use axum_server::tls_rustls::RustlsAcceptor;
use tokio::net::{TcpListener, TcpStream};

pub(crate) use config::checked;
pub use config::{Anonymous, HttpConfig, HttpConfigError, InvalidListen, Listen};
pub use tls::TlsError;

use crate::access::Access;
use crate::access::identify::{Door, identify};
use tls::Certificate;

/// A request's head has to be there within this, also the next one on a connection that is kept open.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// And so has the encryption to be agreed on.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
const MOST_HEAD_BYTES: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error(
        "cannot listen on {address} for the API and the page: stop what uses that port, or give [http] listen another \
         one, or \"off\""
    )]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A listener that serves nobody yet.
#[derive(Debug)]
pub struct Http {
    listener: TcpListener,
    address: SocketAddr,
    certificate: Option<Certificate>,
    config: HttpConfig,
}

impl Http {
    /// `None` where the configuration wants none.
    pub async fn listen(config: &HttpConfig) -> Result<Option<Http>, HttpError> {
        let Listen::At(address) = config.listen else { return Ok(None) };
        let certificate = match config.tls() {
            Some((certificate, key)) => Some(Certificate::read(certificate, key).await?),
            None => None,
        };
        let failed = |source| HttpError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Some(Http { listener, address, certificate, config: config.clone() }))
    }

    /// With the real port where the configuration says 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where a browser on this machine finds it.
    pub fn url(&self) -> String {
        let (ip, port) = (self.address.ip(), self.address.port());
        match self.certificate {
            // A certificate is of a name, and hardly ever of an address.
            Some(_) => format!("https://localhost:{port}/"),
            None if ip.is_unspecified() => format!("http://localhost:{port}/"),
            None => format!("http://{}/", self.address),
        }
    }

    /// Answers until `stop`; what is under way then may go on for `last_answers`.
    pub async fn serve(
        self,
        router: Router,
        access: Access,
        stop: impl Future<Output = ()>,
        last_answers: Duration,
    ) {
        let Http { listener, address, certificate, config } = self;
        let door = Door { access, approach: config.approach(), port: address.port() };
        let router =
            router.layer(from_fn_with_state(door, identify)).layer(from_fn(headers::secure));
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let handle = Handle::new();
        let acceptor = Bounded { handle: handle.clone(), most: config.max_connections };
        let mut server =
            axum_server::Server::<SocketAddr>::from_listener(listener).handle(handle.clone());
        server
            .http_builder()
            .http1()
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(MOST_HEAD_BYTES);
        let server = server.http1_only();
        let tls = certificate.as_ref().map(|certificate| certificate.config.clone());
        let serving = async {
            match tls {
                Some(config) => {
                    let tls = RustlsAcceptor::new(config)
                        .handshake_timeout(HANDSHAKE_WITHIN)
                        .acceptor(acceptor);
                    server.acceptor(tls).serve(service).await
                }
                None => server.acceptor(acceptor).serve(service).await,
            }
        };
        let following = async {
            match certificate {
                Some(certificate) => certificate.follow().await,
                None => std::future::pending().await,
            }
        };
        let stopping = async {
            stop.await;
            handle.graceful_shutdown(Some(last_answers));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            served = serving => {
                if let Err(error) = served {
                    tracing::error!(%error, %address, "the API is not served over TCP any more");
                }
            }
            () = following => {}
            () = stopping => {}
        }
    }
}

/// Lets no more connections in than there is room for.
#[derive(Clone)]
struct Bounded {
    handle: Handle<SocketAddr>,
    most: usize,
}

impl<S> Accept<TcpStream, S> for Bounded {
    type Stream = TcpStream;
    type Service = S;
    type Future = Ready<io::Result<(TcpStream, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        // This one counts already.
        if self.handle.connection_count() > self.most {
            return ready(Err(io::ErrorKind::ConnectionRefused.into()));
        }
        ready(stream.set_nodelay(true).map(|()| (stream, service)))
    }
}

#[cfg(test)]
mod tests;
