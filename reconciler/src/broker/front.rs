//! TLS before the embedded broker: who comes in, by which certificate, from the handshake to the last byte.
//!
//! rmqtt does TLS too, but reads its files once, knows no list of revoked certificates, and tells nobody whom it has
//! refused. So it listens on a port of the loopback, where it takes nobody but this front, which keeps a table of the
//! connections that it has made there ([`Peers`]): the address of one is given by the kernel and taken as long as it is
//! open, so that nobody else can come from it. The `guard` looks up there whose certificate a client has shown.
//!
//! It must never pass a byte on of a connection whose certificate was not verified, nor keep one open whose certificate
//! is revoked. Nothing waits here for ever, and no connection has more than two buffers.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{CertificateError, Error, InvalidMessage};
use tokio_rustls::server::TlsStream;

use super::guard::Counters;
use super::identity::Identity;
use super::tls::Terms;
use super::{HANDSHAKE_TIMEOUT, SEND_TIMEOUT};

const BUFFER_BYTES: usize = 32 * 1024;
/// For the last words of a client that has closed its side, and of the broker to it.
const PARTING: Duration = Duration::from_secs(5);
/// After an error of the system, which would come again at once.
const PAUSE: Duration = Duration::from_millis(200);
/// Who comes with a certificate that ends so soon is named in the log.
const SOON_S: i64 = 30 * 24 * 3_600;

/// Who is at the other end of a connection that this front has made.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub from: SocketAddr,
    /// `None` where none is asked for.
    pub identity: Option<Arc<Identity>>,
}

/// By the address of this front's end of the connection to rmqtt.
#[derive(Debug, Default)]
pub(super) struct Peers(Mutex<HashMap<SocketAddr, Peer>>);

impl Peers {
    pub(super) fn get(&self, address: SocketAddr) -> Option<Peer> {
        self.lock().get(&address).cloned()
    }

    fn enter(&self, address: SocketAddr, peer: Peer) -> Entry<'_> {
        self.lock().insert(address, peer);
        Entry { peers: self, address }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Peer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Goes before the connection does.
struct Entry<'a> {
    peers: &'a Peers,
    address: SocketAddr,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.peers.lock().remove(&self.address);
    }
}

pub(super) struct Front {
    pub listener: TcpListener,
    /// Where rmqtt listens.
    pub behind: SocketAddr,
    pub terms: watch::Receiver<Arc<Terms>>,
    pub peers: Arc<Peers>,
    pub counters: Arc<Counters>,
    /// Those that have not said who they are included.
    pub max_connections: usize,
}

impl Front {
    /// For as long as it is polled; connections are tasks of the runtime, and end with it.
    pub(super) async fn run(self) {
        let room = Arc::new(Semaphore::new(self.max_connections));
        let front = Arc::new(self);
        loop {
            let (socket, from) = match front.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "the embedded broker cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            match room.clone().try_acquire_owned() {
                Ok(permit) => drop(tokio::spawn(front.clone().serve(socket, from, permit))),
                Err(_) => front.refuse("too many connections", from, ""),
            }
        }
    }

    async fn serve(self: Arc<Self>, socket: TcpStream, from: SocketAddr, _: OwnedSemaphorePermit) {
        let mut terms = self.terms.clone();
        let config = terms.borrow_and_update().config.clone();
        // Without it a chunk's end waits for the acknowledgement of its beginning; where it fails, it is only slower.
        drop(socket.set_nodelay(true));
        let accepted = TlsAcceptor::from(config).accept(socket);
        let mut client = match timeout(HANDSHAKE_TIMEOUT, accepted).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return self.refuse(cause(&error), from, &error.to_string()),
            Err(_) => return self.refuse("no TLS handshake in time", from, ""),
        };
        let identity = match identity(&client) {
            Ok(identity) => identity.map(Arc::new),
            Err(error) => return self.refuse("certificate refused", from, &error.to_string()),
        };
        if let Some(identity) = &identity {
            remind(identity, from);
        }
        let mut broker = match TcpStream::connect(self.behind).await {
            Ok(broker) => broker,
            Err(error) => return self.refuse("the broker is not there", from, &error.to_string()),
        };
        let Ok(address) = broker.local_addr() else { return };
        drop(broker.set_nodelay(true));
        let serial = identity.as_ref().map(|identity| identity.serial.clone());
        let _entry = self.peers.enter(address, Peer { from, identity });
        tokio::select! {
            () = carry(&mut client, &mut broker) => {}
            () = revoked(&mut terms, serial.as_deref()) => {
                self.refuse("certificate revoked", from, "it was connected");
            }
        }
    }

    fn refuse(&self, what: &'static str, from: SocketAddr, why: &str) {
        self.counters.refused_handshake(what, from, why);
    }
}

fn identity(
    client: &TlsStream<TcpStream>,
) -> Result<Option<Identity>, super::identity::Unreadable> {
    let shown = client.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    shown.map(|certificate| Identity::read(certificate)).transpose()
}

/// Done once the certificate is not valid any more.
async fn revoked(terms: &mut watch::Receiver<Arc<Terms>>, serial: Option<&[u8]>) {
    let Some(serial) = serial else { return std::future::pending().await };
    // An error: nobody reads the files any more, which the broker's end does.
    if terms.wait_for(|terms| terms.revoke(serial)).await.is_err() {
        std::future::pending().await
    }
}

/// A device that nobody looks at for a month would stay away one day.
fn remind(identity: &Identity, from: SocketAddr) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let left_s = identity.expires_s.saturating_sub(now.as_secs() as i64);
    if left_s < SOON_S {
        let days = left_s / (24 * 3_600);
        tracing::warn!(%from, subject = identity.subject, days, "its certificate expires soon: `gapless device renew`");
    }
}

/// Both directions, until one side has closed and the other has had its last word.
async fn carry(client: &mut TlsStream<TcpStream>, broker: &mut TcpStream) {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_broker, to_broker) = broker.split();
    // The broker holds a publisher back as long as its subscribers are behind, and closes what takes too long itself.
    let up = pass(from_client, to_broker, Duration::MAX);
    let down = pass(from_broker, to_client, SEND_TIMEOUT);
    let (mut up, mut down) = (pin!(up), pin!(down));
    tokio::select! {
        outcome = &mut up => {
            if outcome.is_ok() {
                // Nothing is lost by it: whoever takes longer has closed its side already.
                drop(timeout(PARTING, down).await);
            }
        }
        _ = &mut down => {}
    }
}

/// Until the end of what comes. An error: it cannot be read, or is not taken within `patience`.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    patience: Duration,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        let passed = async {
            if read == 0 {
                return to.shutdown().await;
            }
            to.write_all(&buffer[..read]).await?;
            to.flush().await
        };
        timeout(patience, passed).await??;
        if read == 0 {
            return Ok(());
        }
    }
}

/// In a few words, by which refusals are told apart in a log.
fn cause(error: &io::Error) -> &'static str {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "plain text instead of TLS"
        }
        Some(Error::NoCertificatesPresented) => "no certificate",
        Some(Error::InvalidCertificate(why)) => match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "certificate expired"
            }
            CertificateError::Revoked => "certificate revoked",
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "certificate of another CA"
            }
            _ => "certificate refused",
        },
        _ => "TLS handshake failed",
    }
}
