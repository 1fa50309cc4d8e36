//! The server's connection to the broker, embedded or external.
//!
//! MQTT's own queues are not trusted with anything: on any error the client is dropped with all that was
//! pending, and a new one made. What must arrive is repeated by those who asked.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use protocol::MAX_PACKET_BYTES;
use protocol::dropped::{Cause, Dropped};
use protocol::envelope::{self, Message};
use protocol::message::ServerId;
use protocol::topic::{self, Topic};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, Incoming, MqttOptions, NetworkOptions, QoS,
    Transport,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};

use crate::time::MonotonicMicros;
use crate::tls::{self, Tls, TlsError};

const KEEP_ALIVE: Duration = Duration::from_secs(20);
const CONNECTION_TIMEOUT_S: u64 = 15;
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(10);
const DEFAULT_PORT: u16 = 1883;
const DEFAULT_TLS_PORT: u16 = 8883;
/// Requests inside the MQTT client at once.
const CLIENT_QUEUE: usize = 64;

/// `mqtt://[user[:password]@]host[:port]`, or `mqtts://`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BrokerUrl {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    pub login: Option<(String, String)>,
}

#[derive(Debug, thiserror::Error)]
pub enum BrokerUrlError {
    #[error(
        "`{0}` is not a broker's address: write mqtt://host, mqtt://user:password@host:port, or mqtts:// for TLS"
    )]
    Malformed(String),
}

impl FromStr for BrokerUrl {
    type Err = BrokerUrlError;

    fn from_str(text: &str) -> Result<Self, BrokerUrlError> {
        Self::parse(text).ok_or_else(|| BrokerUrlError::Malformed(text.to_owned()))
    }
}

impl BrokerUrl {
    /// A broker without login.
    pub fn of(address: std::net::SocketAddr) -> Self {
        let (host, port) = (address.ip().to_string(), address.port());
        BrokerUrl { tls: false, host, port, login: None }
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "mqtts" } else { "mqtt" }
    }

    fn address(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (tls, rest, default_port) = match text.split_once("://")? {
            ("mqtt", rest) => (false, rest, DEFAULT_PORT),
            ("mqtts", rest) => (true, rest, DEFAULT_TLS_PORT),
            _ => return None,
        };
        let rest = rest.trim_end_matches('/');
        let (login, address) = match rest.rsplit_once('@') {
            Some((login, address)) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                (Some((user.to_owned(), password.to_owned())), address)
            }
            None => (None, rest),
        };
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') => (host, port.parse().ok()?),
            _ => (address, default_port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let plain = !host.is_empty() && !host.contains(['/', '?', '#', ' ']);
        plain.then(|| BrokerUrl { tls, host: host.to_owned(), port, login })
    }
}

impl TryFrom<String> for BrokerUrl {
    type Error = BrokerUrlError;

    fn try_from(text: String) -> Result<Self, BrokerUrlError> {
        text.parse()
    }
}

impl From<BrokerUrl> for String {
    fn from(url: BrokerUrl) -> String {
        let (scheme, address) = (url.scheme(), url.address());
        match &url.login {
            Some((user, password)) => format!("{scheme}://{user}:{password}@{address}"),
            None => format!("{scheme}://{address}"),
        }
    }
}

/// Without the password: this is what logs and messages show.
impl fmt::Display for BrokerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, address) = (self.scheme(), self.address());
        match &self.login {
            Some((user, _)) => write!(formatter, "{scheme}://{user}@{address}"),
            None => write!(formatter, "{scheme}://{address}"),
        }
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A broker, and how it is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broker {
    pub url: BrokerUrl,
    /// Where the url says `mqtts`.
    pub tls: Option<Tls>,
}

impl From<BrokerUrl> for Broker {
    fn from(url: BrokerUrl) -> Broker {
        Broker { url, tls: None }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

/// A message to the broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outbound {
    pub topic: Topic,
    pub payload: Vec<u8>,
}

/// Messages that may wait for the link: what a server says to a fleet that comes all at once.
const MOST_WAITING: usize = 16_384;

/// The way out. It never waits: whoever hears from the link and waited for it would be waited for in turn, for ever.
/// What does not fit any more is dropped and counted, as what is lost on the way; whoever asked asks again.
#[derive(Clone, Debug)]
pub struct Outbox {
    waiting: mpsc::Sender<Outbound>,
    dropped: Arc<AtomicU64>,
}

impl Outbox {
    pub fn open() -> (Outbox, mpsc::Receiver<Outbound>) {
        let (waiting, outbound) = mpsc::channel(MOST_WAITING);
        (Outbox { waiting, dropped: Arc::default() }, outbound)
    }

    /// False once nothing is sent any more.
    pub fn send(&self, outbound: Outbound) -> bool {
        match self.waiting.try_send(outbound) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(outbound)) => {
                let messages = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
                // A line for the first, and then ever fewer.
                if messages.is_power_of_two() {
                    tracing::warn!(messages, topic = %outbound.topic, "dropped: the broker does not take what is said");
                }
                true
            }
        }
    }

    /// Since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// What comes from the broker, and what becomes of the connection.
#[derive(Clone, Debug)]
pub enum Inbound {
    Up,
    Down,
    Message { topic: String, payload: Bytes },
}

/// Where inbound traffic goes: media to those who pull, everything else to those who reconcile.
#[derive(Clone, Debug)]
pub struct Routes {
    pub control: mpsc::Sender<Inbound>,
    pub transfer: mpsc::Sender<Inbound>,
}

impl Routes {
    /// False once nobody listens any more.
    async fn deliver(&self, server: &ServerId, topic: String, payload: Bytes) -> bool {
        let to = match topic.parse() {
            Ok(Topic::Data(_, to) | Topic::Tell(_, to)) if to == *server => &self.transfer,
            _ => &self.control,
        };
        to.send(Inbound::Message { topic, payload }).await.is_ok()
    }

    async fn announce(&self, event: fn() -> Inbound) -> bool {
        self.control.send(event()).await.is_ok() && self.transfer.send(event()).await.is_ok()
    }
}

/// Counts what arrives and cannot be used, and logs it at most once a minute and cause: a stranger must
/// not be able to fill a log.
#[derive(Debug, Default)]
pub struct Unusable {
    dropped: Dropped,
    now: MonotonicMicros,
}

impl Unusable {
    /// What is dropped from here on is dropped at this instant.
    pub fn at(&mut self, now: MonotonicMicros) {
        self.now = now;
    }

    pub fn drop(&mut self, cause: Cause, topic: &dyn fmt::Display, why: &dyn fmt::Display) {
        if let Some(messages) = self.dropped.record(cause, self.now.0 / 1_000) {
            tracing::warn!(?cause, messages, %topic, %why, "dropped what arrived");
        }
    }

    /// By cause, since the start.
    pub fn totals(&self) -> Vec<(Cause, u64)> {
        Cause::ALL.iter().map(|cause| (*cause, self.dropped.total(*cause))).collect()
    }

    /// The message, or `None` where it was dropped.
    pub fn decode<M: Message>(&mut self, topic: &Topic, payload: &[u8]) -> Option<M> {
        let decoded = envelope::decode(payload);
        decoded.map_err(|error| self.drop(Cause::from(&error), topic, &error)).ok()
    }

    /// The topic, or `None` where it was dropped.
    pub fn address(&mut self, topic: &str) -> Option<Topic> {
        topic.parse().map_err(|error| self.drop(Cause::Address, &topic, &error)).ok()
    }
}

/// Keeps a connection until the receivers of `routes` or the senders of `outbound` are gone.
pub async fn run(
    broker: impl Into<Broker>,
    server: ServerId,
    mut outbound: mpsc::Receiver<Outbound>,
    routes: Routes,
) {
    let broker = broker.into();
    let mut retry = FIRST_RETRY;
    loop {
        let up = Notify::new();
        let ended = match connect(&broker, &server) {
            Ok((client, event_loop)) => tokio::select! {
                ended = poll(event_loop, &server, &routes, &up) => ended,
                () = publish(client, &server, &mut outbound, &up) => return,
            },
            // Files that are being renewed may be half there: they are read again.
            Err(error) => Ended::Lost { was_up: false, error: error.into() },
        };
        let Ended::Lost { was_up, error } = ended else { return };
        if was_up {
            retry = FIRST_RETRY;
            if !routes.announce(|| Inbound::Down).await {
                return;
            }
        }
        let error = sdcard_indexer::readable::explain(&error);
        tracing::warn!(broker = %broker.url, error, retry_ms = retry.as_millis() as u64, "no connection to the broker");
        tokio::time::sleep(jittered(retry)).await;
        retry = (retry * 2).min(LAST_RETRY);
    }
}

/// Reads the files of TLS anew, so that what was renewed is used from the next connection on.
fn connect(broker: &Broker, server: &ServerId) -> Result<(AsyncClient, EventLoop), TlsError> {
    let Broker { url, tls } = broker;
    let mut options = MqttOptions::new(topic::server_client_id(server), &url.host, url.port);
    options.set_keep_alive(KEEP_ALIVE).set_clean_session(true);
    options.set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
    if let Some((user, password)) = &url.login {
        options.set_credentials(user, password);
    }
    if let Some(tls) = tls {
        options.set_transport(Transport::tls_with_config(tls::client(tls)?.into()));
    }
    let (client, mut event_loop) = AsyncClient::new(options, CLIENT_QUEUE);
    let mut network = NetworkOptions::new();
    network.set_connection_timeout(CONNECTION_TIMEOUT_S).set_tcp_nodelay(true);
    event_loop.set_network_options(network);
    Ok((client, event_loop))
}

enum Ended {
    Lost { was_up: bool, error: LinkError },
    NobodyListens,
}

async fn poll(mut event_loop: EventLoop, server: &ServerId, routes: &Routes, up: &Notify) -> Ended {
    let mut was_up = false;
    loop {
        let listened = match event_loop.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                was_up = true;
                up.notify_one();
                routes.announce(|| Inbound::Up).await
            }
            Ok(Event::Incoming(Incoming::Publish(message))) => {
                routes.deliver(server, message.topic, message.payload).await
            }
            Ok(_) => true,
            Err(error) => return Ended::Lost { was_up, error: error.into() },
        };
        if !listened {
            return Ended::NobodyListens;
        }
    }
}

/// Ends when nobody can send any more.
async fn publish(
    client: AsyncClient,
    server: &ServerId,
    outbound: &mut mpsc::Receiver<Outbound>,
    up: &Notify,
) {
    up.notified().await;
    for (filter, qos) in topic::server_subscriptions(server) {
        if client.subscribe(filter, quality(qos)).await.is_err() {
            return std::future::pending().await;
        }
    }
    while let Some(Outbound { topic, payload }) = outbound.recv().await {
        let qos = quality(topic.qos());
        if client.publish(topic.to_string(), qos, false, payload).await.is_err() {
            // The event loop ends by itself and says why.
            return std::future::pending().await;
        }
    }
}

/// The protocol crate knows no MQTT library.
fn quality(qos: u8) -> QoS {
    rumqttc::qos(qos).unwrap_or(QoS::AtLeastOnce)
}

fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(rand::random_range(0.75..1.25))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_their_defaults() {
        let plain: BrokerUrl = "mqtt://broker".parse().unwrap();
        assert_eq!((plain.host.as_str(), plain.port, plain.login), ("broker", 1883, None));
        let full: BrokerUrl = "mqtt://me:se:cret@[::1]:2000/".parse().unwrap();
        assert_eq!((full.host.as_str(), full.port), ("::1", 2000));
        assert_eq!(full.login, Some(("me".into(), "se:cret".into())));
        let secure: BrokerUrl = "mqtts://broker".parse().unwrap();
        assert_eq!((secure.tls, secure.port), (true, 8883));
    }

    #[test]
    fn addresses_read_back_what_they_write() {
        for text in ["mqtt://broker:1883", "mqtts://me:secret@broker:1", "mqtts://[::1]:8883"] {
            assert_eq!(String::from(text.parse::<BrokerUrl>().unwrap()), text);
        }
    }

    #[test]
    fn what_does_not_fit_any_more_is_dropped_and_counted_and_nobody_waits() {
        let (outbox, mut outbound) = Outbox::open();
        let server: ServerId = "gapless".parse().unwrap();
        let message = |number: usize| Outbound {
            topic: Topic::Tell("camera".parse().unwrap(), server.clone()),
            payload: number.to_le_bytes().to_vec(),
        };
        assert!((0..MOST_WAITING + 3).all(|number| outbox.send(message(number))));
        assert_eq!(outbox.dropped(), 3);
        assert_eq!(outbound.try_recv(), Ok(message(0)));
        drop(outbound);
        assert!(!outbox.send(message(0)));
    }

    #[test]
    fn a_password_is_not_shown() {
        let url: BrokerUrl = "mqtt://me:secret@broker".parse().unwrap();
        assert!(!format!("{url} {url:?}").contains("secret"));
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        for text in
            ["broker", "http://broker", "mqtt://", "mqtts://", "mqtt://broker:no", "mqtt://a b"]
        {
            assert!(text.parse::<BrokerUrl>().is_err(), "{text}");
        }
    }
}
