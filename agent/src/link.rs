//! One connection to the broker, from the first packet to the first error.
//!
//! MQTT's own guarantees are not relied on: whatever was under way when a link ends is lost, and a new
//! link starts from nothing. The client is polled by a task of its own that never publishes, so neither
//! can wait for the other; what waits, waits in the conversation, bounded.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use protocol::MAX_PACKET_BYTES;
use protocol::topic::{Topic, agent_client_id};
use rumqttc::{
    AsyncClient, ClientError, ConnectionError, Event, EventLoop, LastWill, MqttOptions,
    NetworkOptions, Outgoing, Packet, Publish, QoS, SubscribeFilter, SubscribeReasonCode,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::conversation::MAX_IN_CLIENT;

const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Also the longest that one write to the socket may take.
const CONNECTION_TIMEOUT_SECONDS: u64 = 15;
/// Unacknowledged messages at QoS 1; rumqttc sends nothing more beyond it.
const MAX_INFLIGHT: u16 = 32;
/// Beside the control that may be in the client at once: one chunk, the farewell and its disconnect.
const CLIENT_CAPACITY: usize = MAX_IN_CLIENT + 4;
/// Events on their way from the polling task.
const EVENT_CAPACITY: usize = 4;
/// For the farewell to leave.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a link ended, or could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("cannot read the password file {path}")]
    Password { path: PathBuf, source: io::Error },
    #[cfg(feature = "tls")]
    #[error("TLS cannot be set up")]
    Tls(#[from] crate::tls::TlsError),
    #[error("the broker does not allow the device to listen on its own topics")]
    SubscriptionRefused,
    #[error("the MQTT client takes no more requests")]
    Client(#[from] Box<ClientError>),
    /// rumqttc's text holds that of all its causes already.
    #[error("{0}")]
    Connection(Box<ConnectionError>),
}

#[derive(Debug)]
pub enum LinkEvent {
    Connected,
    Message(Publish),
    /// A message at quality 0, which only chunks have, is on its way.
    DataSent,
    /// A control message left: there is room for another one.
    ControlSent,
    /// Nothing follows.
    Lost(LinkError),
}

#[derive(Debug)]
pub struct Link {
    client: AsyncClient,
    events: mpsc::Receiver<LinkEvent>,
    /// The polling task; it ends with the link.
    _poller: JoinSet<()>,
}

impl Link {
    /// Starts to connect. `will` is the device's state, for the broker to publish once this link is dead.
    pub fn open(config: &Config, will: Vec<u8>) -> Result<Link, LinkError> {
        let mut options = options(config)?;
        let state = Topic::State(config.device.clone());
        options.set_last_will(LastWill::new(state.to_string(), will, quality(state.qos()), true));
        let (client, mut eventloop) = AsyncClient::new(options, CLIENT_CAPACITY);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(CONNECTION_TIMEOUT_SECONDS);
        eventloop.set_network_options(network);
        let (sender, events) = mpsc::channel(EVENT_CAPACITY);
        let mut poller = JoinSet::new();
        poller.spawn(poll(eventloop, sender));
        Ok(Link { client, events, _poller: poller })
    }

    /// The next event. Cancel safe.
    pub async fn next(&mut self) -> LinkEvent {
        let ended = || LinkEvent::Lost(ConnectionError::RequestsDone.into());
        self.events.recv().await.unwrap_or_else(ended)
    }

    pub fn subscribe(&self, filters: [(String, u8); 2]) -> Result<(), LinkError> {
        let filters = filters.map(|(filter, qos)| SubscribeFilter::new(filter, quality(qos)));
        Ok(self.client.try_subscribe_many(filters).map_err(Box::new)?)
    }

    /// Hands a message to the client, which has room for all that a conversation lets out. A state is
    /// retained, and nothing else is.
    pub fn publish(&self, topic: Topic, payload: Vec<u8>) -> Result<(), LinkError> {
        let (qos, retain) = (quality(topic.qos()), matches!(topic, Topic::State(_)));
        self.client.try_publish(topic.to_string(), qos, retain, payload).map_err(Box::new)?;
        Ok(())
    }

    /// Says a last message before all that waits, and disconnects; gives up after a second.
    pub async fn close(mut self, topic: Topic, payload: Vec<u8>) {
        if self.publish(topic, payload).is_err() || self.client.try_disconnect().is_err() {
            return;
        }
        // The broker closes the connection once it has read the disconnect.
        let ended = async { while !matches!(self.next().await, LinkEvent::Lost(_)) {} };
        if tokio::time::timeout(CLOSE_TIMEOUT, ended).await.is_err() {
            tracing::debug!("the broker did not close the connection in time");
        }
    }
}

fn quality(qos: u8) -> QoS {
    if qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce }
}

impl From<ConnectionError> for LinkError {
    fn from(error: ConnectionError) -> Self {
        LinkError::Connection(Box::new(error))
    }
}

/// Who the device is to the broker, with the password as its file has it now.
pub fn credentials(config: &Config) -> Result<Option<(String, String)>, LinkError> {
    let Some(username) = &config.broker.username else { return Ok(None) };
    let password = match &config.broker.password_file {
        Some(path) => fs::read_to_string(path)
            .map_err(|source| LinkError::Password { path: path.clone(), source })?,
        None => String::new(),
    };
    Ok(Some((username.clone(), password.trim_end_matches(['\r', '\n']).to_owned())))
}

fn options(config: &Config) -> Result<MqttOptions, LinkError> {
    let broker = &config.broker;
    let client_id = agent_client_id(&config.device);
    let mut options = MqttOptions::new(client_id, &broker.url.host, broker.url.port);
    options
        .set_clean_session(true)
        .set_keep_alive(KEEP_ALIVE)
        .set_inflight(MAX_INFLIGHT)
        .set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
    #[cfg(feature = "tls")]
    if let Some(tls) = &broker.tls {
        options.set_transport(rumqttc::Transport::tls_with_config(crate::tls::client(tls)?.into()));
    }
    if let Some((username, password)) = credentials(config)? {
        options.set_credentials(username, password);
    }
    Ok(options)
}

async fn poll(mut eventloop: EventLoop, events: mpsc::Sender<LinkEvent>) {
    loop {
        let event = match eventloop.poll().await {
            Ok(event) => told(event),
            Err(error) => Some(LinkEvent::Lost(error.into())),
        };
        let Some(event) = event else { continue };
        let over = matches!(event, LinkEvent::Lost(_));
        if events.send(event).await.is_err() || over {
            return;
        }
    }
}

fn told(event: Event) -> Option<LinkEvent> {
    match event {
        Event::Incoming(Packet::ConnAck(_)) => Some(LinkEvent::Connected),
        Event::Incoming(Packet::Publish(publish)) => Some(LinkEvent::Message(publish)),
        Event::Incoming(Packet::SubAck(ack)) => {
            let refused = ack.return_codes.contains(&SubscribeReasonCode::Failure);
            refused.then_some(LinkEvent::Lost(LinkError::SubscriptionRefused))
        }
        // Only data goes out at QoS 0, which has no packet id.
        Event::Outgoing(Outgoing::Publish(0)) => Some(LinkEvent::DataSent),
        Event::Outgoing(Outgoing::Publish(_) | Outgoing::Subscribe(_)) => {
            Some(LinkEvent::ControlSent)
        }
        _ => None,
    }
}
