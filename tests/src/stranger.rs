//! Anyone on the broker: says what a test tells it to, byte for byte, under any name.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use protocol::envelope;
use protocol::message::{
    BootId, BootMillis, ClockSample, ConnectionId, DeviceLimits, Network, Online, Presence,
};
use reconciler::tls::{self, Tls};
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, Publish, QoS, Transport};
use sdcard_indexer::time::Timestamp;
use tokio::time::timeout;

use crate::installation::STREAM;

/// No wait is endless; far above what any of them takes.
const DEADLINE: Duration = Duration::from_secs(20);
/// Far above what Gapless allows itself.
const MAX_PACKET_BYTES: usize = 16 << 20;

/// What a device of a moment ago would say on this connection, well-formed.
pub fn online(connection: u64) -> Vec<u8> {
    let online = Online {
        connection: ConnectionId(connection),
        boot: BootId([7; 16]),
        agent_version: "0.0.0".to_owned(),
        limits: DeviceLimits {
            max_chunk_bytes: 4_096,
            max_open_transfers: 1,
            max_bytes_per_second: 0,
        },
        clock: ClockSample { realtime: Timestamp::UNIX_EPOCH, boottime: BootMillis(1) },
        streams: vec![STREAM.parse().expect("the stream of the rig has a name")],
        network: Network::default(),
    };
    envelope::encode(&Presence::Online(online)).expect("it is a few bytes")
}

/// A connection to a broker. Dropped, it is gone without a word.
pub struct Stranger {
    client: AsyncClient,
    events: EventLoop,
}

impl fmt::Debug for Stranger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Stranger").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Stranger {
    /// Returns once the broker has let it in; an error where it does not.
    pub async fn connect(broker: SocketAddr, client_id: &str) -> anyhow::Result<Stranger> {
        Stranger::connect_with(broker, client_id, None).await
    }

    /// The same over TLS, where there is any, with what it shows.
    pub async fn connect_with(
        broker: SocketAddr,
        client_id: &str,
        tls: Option<&Tls>,
    ) -> anyhow::Result<Stranger> {
        let mut options = MqttOptions::new(client_id, broker.ip().to_string(), broker.port());
        options.set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
        if let Some(tls) = tls {
            options.set_transport(Transport::tls_with_config(tls::client(tls)?.into()));
        }
        let (client, events) = AsyncClient::new(options, 1);
        let mut stranger = Stranger { client, events };
        stranger.until(|event| matches!(event, Incoming::ConnAck(_)).then_some(())).await?;
        Ok(stranger)
    }

    /// Returns once the broker has taken it; an error where it disconnects instead.
    pub async fn say(&mut self, topic: &str, payload: &[u8]) -> anyhow::Result<()> {
        self.publish(topic, payload, false).await
    }

    /// The same for a message that everyone gets who subscribes later.
    pub async fn leave(&mut self, topic: &str, payload: &[u8]) -> anyhow::Result<()> {
        self.publish(topic, payload, true).await
    }

    /// Subscribes, and waits for the first message.
    pub async fn hear(&mut self, filter: &str) -> anyhow::Result<Publish> {
        self.client.subscribe(filter, QoS::AtLeastOnce).await?;
        self.message().await
    }

    /// Subscribes; returns once the broker has answered, whatever it says.
    pub async fn listen(&mut self, filter: &str) -> anyhow::Result<()> {
        self.client.subscribe(filter, QoS::AtLeastOnce).await?;
        self.until(|event| matches!(event, Incoming::SubAck(_)).then_some(())).await
    }

    /// The next message that comes; an error where the connection ends instead.
    pub async fn message(&mut self) -> anyhow::Result<Publish> {
        self.until(|event| match event {
            Incoming::Publish(publish) => Some(publish),
            _ => None,
        })
        .await
    }

    async fn publish(&mut self, topic: &str, payload: &[u8], retain: bool) -> anyhow::Result<()> {
        self.client.publish(topic, QoS::AtLeastOnce, retain, payload).await?;
        self.until(|event| matches!(event, Incoming::PubAck(_)).then_some(())).await
    }

    async fn until<T>(
        &mut self,
        mut wanted: impl FnMut(Incoming) -> Option<T>,
    ) -> anyhow::Result<T> {
        let answer = async {
            loop {
                if let Event::Incoming(event) = self.events.poll().await?
                    && let Some(found) = wanted(event)
                {
                    return anyhow::Ok(found);
                }
            }
        };
        match timeout(DEADLINE, answer).await {
            Ok(answer) => answer.context("the broker sends the stranger away"),
            Err(_) => bail!("the broker does not answer the stranger"),
        }
    }
}
