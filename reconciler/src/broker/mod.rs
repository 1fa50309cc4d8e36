//! The MQTT broker inside `gapless`, for installations that have no broker of their own.
//!
//! Owns one listening socket, one thread and the runtime on it. It is built on the `rmqtt` crate; what is added here
//! is what Gapless promises and an all-purpose broker does not: who may use which topic (`access`), back pressure
//! instead of loss (`guard`), retained presence (`retained`), TLS whose certificates say who a client is (`front`,
//! `identity`, `tls`), a port known once `start` returns, and an end.
//!
//! It must never: drop a message for a connected subscriber without counting and logging it; hold more than
//! `max_queued_chunks` chunks for one (and one more for each agent that sends at that moment); keep anything on disk
//! or any session after its connection; install a signal handler or a logger (rmqtt logs through the `log` crate);
//! end the process.
//!
//! What is true under load:
//! - A subscriber that does not read holds back its publishers: once `max_queued_chunks` wait for it, the broker
//!   stops reading from any agent that sends it more, and TCP does the rest. Nothing is lost.
//! - A subscriber that takes nothing for 15 s is disconnected. What was queued for it is gone, and it knows, because
//!   its connection is.
//! - Only chunks are bounded by number. Control messages to a subscriber that does not read pile up until those 15 s
//!   are over; an agent that floods them can cost memory, and authentication is what will keep it out.
//! - An agent held back gets no answer to its pings meanwhile; 15 s is below the 20 s keep-alive for that reason.
//! - A client that comes back in the very moment its old connection ends may be refused once with "service
//!   unavailable" (rmqtt 0.24 fails a takeover whose old side leaves by itself); the next attempt succeeds.
//! - Retained messages are looked up some time after the subscription: one published meanwhile comes twice, and an
//!   older one may come after a newer. Presence carries a connection id and is repeated, so neither matters.
//!
//! With [`EmbeddedTls::client_ca`] a client is who its certificate says. Without it client ids are believed, not proven:
//! the default is to listen on loopback only, and [`BrokerConfig::exposure`] is there so that the caller can warn about
//! anything else.

mod access;
mod front;
mod guard;
mod identity;
mod retained;
mod tls;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rmqtt::context::ServerContext;
use rmqtt::net::{Builder, Listener};
use rmqtt::server::MqttServer;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use front::{Front, Peers};
use guard::{Counters, Entrance, Guard};
use retained::RetainedStates;
use tls::Terms;

use crate::link::BrokerUrl;

pub(crate) use identity::SERVER_PREFIX;
pub(crate) use tls::REVOKED;
pub use tls::{EmbeddedTls, EmbeddedTlsError};

/// How long one write to a client may take before its connection is closed. Below the agents' keep-alive of 20 s.
const SEND_TIMEOUT: Duration = Duration::from_secs(15);
/// A client has to say who it is within this time of connecting.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// QoS 1 messages unacknowledged by one client; further messages to it wait, QoS 0 ones too.
const MAX_IN_FLIGHT: NonZeroU16 = NonZeroU16::MIN.saturating_add(63);
/// Room for control messages beside the chunks; past it they are dropped, counted and logged.
const CONTROL_MESSAGES: usize = 4096;
const LONGEST_CLIENT_ID: usize = 96;
const DEFAULT_PORT: u16 = 1883;
/// As whom the server connects to its own broker.
const OWN_USER: &str = "gapless";

/// The `[broker.embedded]` table of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct BrokerConfig {
    /// Address and port; port 0 takes a free one. Anything beyond loopback has to be asked for by writing it here.
    pub listen: SocketAddr,
    /// Clients at one time, agents and servers together.
    pub max_connections: usize,
    /// Largest MQTT packet; a client that sends a larger one is disconnected.
    pub max_packet_bytes: u32,
    /// Chunks that may wait for one subscriber before its agents are held back. Twice the 500 a server may have
    /// outstanding; at 32 KiB a chunk that is 32 MiB.
    pub max_queued_chunks: usize,
    /// Without it, everything goes over the network for all to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<EmbeddedTls>,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            max_connections: 256,
            max_packet_bytes: 256 * 1024,
            max_queued_chunks: 1000,
            tls: None,
        }
    }
}

/// What the configuration leaves open to whoever reaches the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// Nothing: this machine alone reaches it, or certificates say who a client is.
    None,
    /// Encrypted, and yet anybody can say it is the server, or any device.
    Unproven,
    /// That, and everything can be read on its way.
    Open,
}

impl BrokerConfig {
    /// Whether only this machine can reach the broker.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }

    #[must_use]
    pub fn exposure(&self) -> Exposure {
        match &self.tls {
            _ if self.is_loopback() => Exposure::None,
            None => Exposure::Open,
            Some(tls) if tls.client_ca.is_none() => Exposure::Unproven,
            Some(_) => Exposure::None,
        }
    }

    /// Makes paths whole: relative ones are relative to `base`.
    pub(crate) fn locate(&mut self, base: &Path) {
        if let Some(tls) = &mut self.tls {
            tls.locate(base);
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error(
        "the embedded MQTT broker could not listen on {address}: {source}. Stop what uses that port, choose another \
         `listen` under [broker.embedded], or connect to the broker that is already there instead of embedding one"
    )]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(
        "the embedded MQTT broker for {address} could not be set up: {source}. Check the [broker.embedded] table of the \
         configuration"
    )]
    SetUp { address: SocketAddr, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("[broker.embedded.tls] cannot be used")]
    Tls(#[source] EmbeddedTlsError),
    #[error(
        "the embedded MQTT broker for {address} got no thread from the system: {source}. Check the limits on \
         threads and memory (`ulimit -u`, TasksMax= of the service)"
    )]
    Thread { address: SocketAddr, source: std::io::Error },
    #[error(
        "the embedded MQTT broker for {address} ended while it started; the log above says why. Please report it"
    )]
    Ended { address: SocketAddr },
}

/// What the broker refused, dropped or held back since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BrokerCounts {
    /// Connections that ended before a client said who it is, or because its certificate was revoked meanwhile.
    pub refused_handshakes: u64,
    /// Clients with an id or a last will that is not allowed, or that their certificate does not entitle them to.
    pub refused_connections: u64,
    /// Messages to a topic that is not the client's own; each ended its connection.
    pub refused_publishes: u64,
    pub refused_subscriptions: u64,
    /// Messages accepted and then not delivered. Not complete for a subscriber whose connection ended: what had not
    /// even reached its queue goes with it, uncounted.
    pub dropped_messages: u64,
    /// Chunks that waited because their subscriber was behind.
    pub delayed_chunks: u64,
    /// Messages asked to be retained that were only delivered: not a `state`, or too many devices.
    pub not_retained: u64,
}

/// Asks a broker for its counts; does not keep it running.
#[derive(Debug, Clone)]
pub struct BrokerCounter(Arc<Counters>);

impl BrokerCounter {
    #[must_use]
    pub fn counts(&self) -> BrokerCounts {
        self.0.snapshot()
    }
}

/// A running broker. Dropping it stops it.
#[derive(Debug)]
pub struct EmbeddedBroker {
    local_addr: SocketAddr,
    own_url: BrokerUrl,
    counter: BrokerCounter,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedBroker {
    /// Starts a broker and returns once its port is bound. Blocks for some milliseconds, and may be called from
    /// inside a runtime: the broker has its own, so that its load and its end are not the caller's.
    ///
    /// # Errors
    /// [`BrokerError`]: the port is taken or forbidden, or the system has no thread left.
    pub fn start(config: &BrokerConfig) -> Result<Self, BrokerError> {
        let address = config.listen;
        let counters = Arc::new(Counters::default());
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = mpsc::sync_channel(1);
        let (thread_config, thread_counters) = (config.clone(), counters.clone());
        let thread = std::thread::Builder::new()
            .name("gapless-broker".to_owned())
            .spawn(move || serve(&thread_config, thread_counters, &ready, stopped))
            .map_err(|source| BrokerError::Thread { address, source })?;
        let Bound { local_addr, own_url } =
            started.recv().unwrap_or(Err(BrokerError::Ended { address }))?;
        let counter = BrokerCounter(counters);
        Ok(Self { local_addr, own_url, counter, stop: Some(stop), thread: Some(thread) })
    }

    /// The address bound, with the real port where the configuration said 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where the server itself connects, without TLS to itself. It holds what lets it in: not for others, nor for a log.
    #[must_use]
    pub fn own_url(&self) -> BrokerUrl {
        self.own_url.clone()
    }

    #[must_use]
    pub fn counts(&self) -> BrokerCounts {
        self.counter.counts()
    }

    /// What tells the counts for as long as somebody wants to know.
    #[must_use]
    pub fn counter(&self) -> BrokerCounter {
        self.counter.clone()
    }

    /// Closes every connection and the port, and returns when both are free. A second call does nothing.
    ///
    /// No last wills are published: everyone who could read them is disconnected by the same act.
    pub fn shutdown(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The receiver is gone only when the thread is, and then there is nothing to stop.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(address = %self.local_addr, "the embedded broker's thread had panicked");
        }
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Where a broker that has started is found.
struct Bound {
    local_addr: SocketAddr,
    own_url: BrokerUrl,
}

/// TLS before the broker, and what it needs of it.
struct Secured {
    front: Front,
    entrance: Entrance,
    terms: watch::Sender<Arc<Terms>>,
    tls: EmbeddedTls,
}

/// The thread's whole life: build, say so, serve until told to stop, take all connections down.
fn serve(
    config: &BrokerConfig,
    counters: Arc<Counters>,
    ready: &mpsc::SyncSender<Result<Bound, BrokerError>>,
    stopped: oneshot::Receiver<()>,
) {
    let address = config.listen;
    let built = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("gapless-broker")
        .enable_all()
        .build()
        .map_err(|source| BrokerError::Thread { address, source });
    let runtime = match built {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error))),
    };
    runtime.block_on(async {
        let bound = match &config.tls {
            None => bind(config, address).map(|(listener, bound)| (listener, bound, None)),
            Some(tls) => secure(config, tls, &counters).await,
        };
        let (listener, bound, secured) = match bound {
            Ok(bound) => bound,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let local_addr = bound.local_addr;
        let (entrance, front) = match secured {
            Some(Secured { front, entrance, terms, tls }) => (Some(entrance), Some((front, terms, tls))),
            None => (None, None),
        };
        let context = ServerContext::new()
            // Its check of the machine's load would refuse cameras because something else is busy.
            .busy_check_enable(false)
            .mqtt_max_sessions(isize::try_from(config.max_connections).unwrap_or(isize::MAX))
            .build()
            .await;
        *context.extends.retain_mut().await = Box::new(RetainedStates::new(counters.clone()));
        Guard::install(&context, config.max_queued_chunks, counters, entrance).await;
        let server = MqttServer::new(context).listener_by_id(listener, 1).build();
        if ready.send(Ok(bound)).is_err() {
            return;
        }
        let front = async {
            match front {
                Some((front, terms, tls)) => drop(tokio::join!(front.run(), tls::follow(tls, terms))),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = server.run() => tracing::error!(address = %local_addr, "the embedded broker stopped listening"),
            () = front => {}
            _ = stopped => {}
        }
    });
    // Connections are tasks of this runtime: they end with it, and the sockets close.
    runtime.shutdown_timeout(Duration::from_secs(5));
}

/// The broker on a port of the loopback, and TLS where it would listen.
async fn secure(
    config: &BrokerConfig,
    tls: &EmbeddedTls,
    counters: &Arc<Counters>,
) -> Result<(Listener, Bound, Option<Secured>), BrokerError> {
    let address = config.listen;
    let terms = Terms::read(tls).map_err(BrokerError::Tls)?;
    let failed = |source| BrokerError::Listen { address, source };
    let before = TcpListener::bind(address).await.map_err(failed)?;
    let local_addr = before.local_addr().map_err(failed)?;
    let (listener, behind) = bind(config, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let (peers, secret) = (Arc::new(Peers::default()), secret());
    let (terms, followed) = watch::channel(Arc::new(terms));
    let login = Some((OWN_USER.to_owned(), secret.clone()));
    let own_url = BrokerUrl { login, ..behind.own_url };
    let front = Front {
        listener: before,
        behind: behind.local_addr,
        terms: followed,
        peers: peers.clone(),
        counters: counters.clone(),
        max_connections: config.max_connections,
    };
    let secured = Secured { front, entrance: Entrance { peers, secret }, terms, tls: tls.clone() };
    Ok((listener, Bound { local_addr, own_url }, Some(secured)))
}

/// 256 bits that nobody guesses.
fn secret() -> String {
    let bytes: [u8; 32] = rand::random();
    blake3::Hash::from(bytes).to_string()
}

/// An address to connect to, where the broker listens on all of them.
fn reachable(listens: SocketAddr) -> SocketAddr {
    let loopback: std::net::IpAddr = match listens {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    if listens.ip().is_unspecified() { (loopback, listens.port()).into() } else { listens }
}

/// Needs to run inside the runtime the listener shall live on.
fn bind(config: &BrokerConfig, address: SocketAddr) -> Result<(Listener, Bound), BrokerError> {
    let set_up = |source: rmqtt::Error| BrokerError::SetUp { address, source: source.into() };
    let listener = Builder::new()
        .name("gapless")
        .laddr(address)
        .nodelay(true)
        // A restart must not wait for the old connections' TIME_WAIT.
        .reuseaddr(Some(true))
        // Off, so that every client passes the guard, also one without a user name.
        .allow_anonymous(false)
        .max_connections(config.max_connections)
        .max_handshaking_limit(config.max_connections)
        .max_packet_size(config.max_packet_bytes)
        .max_clientid_len(LONGEST_CLIENT_ID)
        .max_inflight(MAX_IN_FLIGHT)
        .max_mqueue_len(config.max_queued_chunks + config.max_connections + CONTROL_MESSAGES)
        .handshake_timeout(HANDSHAKE_TIMEOUT)
        .send_timeout(SEND_TIMEOUT)
        // Presence must not fade: rmqtt would forget retained messages after five minutes.
        .message_expiry_interval(Duration::ZERO)
        // 3.1.1 repeats an unacknowledged message on reconnection only.
        .message_retry_interval(Duration::ZERO)
        .session_expiry_interval(Duration::ZERO)
        .max_session_expiry_interval(Duration::from_millis(1))
        .bind()
        .map_err(|error| match error.downcast::<std::io::Error>() {
            Ok(source) => BrokerError::Listen { address, source },
            Err(other) => set_up(other),
        })?;
    let listener = listener.tcp().map_err(set_up)?;
    let local_addr = listener.local_addr().map_err(set_up)?;
    let own_url = BrokerUrl::of(reachable(local_addr));
    Ok((listener, Bound { local_addr, own_url }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_the_default() {
        assert_eq!(toml::from_str::<BrokerConfig>("").unwrap(), BrokerConfig::default());
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        assert!(toml::from_str::<BrokerConfig>("lissen = \"127.0.0.1:1883\"").is_err());
    }

    #[test]
    fn only_loopback_counts_as_loopback() {
        let at =
            |listen: &str| BrokerConfig { listen: listen.parse().unwrap(), ..Default::default() };
        assert!(BrokerConfig::default().is_loopback());
        assert!(at("[::1]:1883").is_loopback());
        assert!(!at("0.0.0.0:1883").is_loopback());
        assert!(!at("[::]:1883").is_loopback());
        assert!(!at("192.168.1.10:1883").is_loopback());
    }

    #[test]
    fn what_is_left_open_is_told() {
        let read = |text: &str| toml::from_str::<BrokerConfig>(text).unwrap().exposure();
        let beyond = "listen = \"0.0.0.0:1883\"";
        let tls = |more: &str| {
            format!("{beyond}\ntls = {{ certificate = \"a.pem\", key = \"a.key\"{more} }}")
        };
        assert_eq!(read(""), Exposure::None);
        assert_eq!(read(beyond), Exposure::Open);
        assert_eq!(read(&tls("")), Exposure::Unproven);
        assert_eq!(read(&tls(", client_ca = \"ca.pem\"")), Exposure::None);
    }

    #[test]
    fn a_list_of_revoked_certificates_needs_a_ca() {
        let text = "tls = { certificate = \"a\", key = \"b\", revoked = \"c\" }";
        let refused = toml::from_str::<BrokerConfig>(text).unwrap_err().to_string();
        assert!(refused.contains("client_ca"), "{refused}");
    }
}
