//! The embedded broker as its clients see it.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use std::net::TcpListener;
use std::time::Duration;

use protocol::topic::Topic;
use reconciler::authority::{Applicant, Authority, Holder, KeySource, write_new};
use reconciler::broker::{BrokerConfig, BrokerError, EmbeddedBroker, EmbeddedTls};
use reconciler::link::{self, BrokerUrl, Inbound, Outbound, Outbox, Routes};
use rumqttc::{
    AsyncClient, Event, EventLoop, LastWill, MqttOptions, NetworkOptions, Packet, Publish, QoS,
    SubscribeReasonCode,
};
use sdcard_indexer::time::Timestamp;
use tokio::sync::mpsc;
use tokio::time::timeout;

const LONGEST_WAIT: Duration = Duration::from_secs(20);
const CHUNK_BYTES: usize = 32 * 1024;

fn broker(change: impl FnOnce(&mut BrokerConfig)) -> EmbeddedBroker {
    let mut config = BrokerConfig { listen: "127.0.0.1:0".parse().unwrap(), ..Default::default() };
    change(&mut config);
    EmbeddedBroker::start(&config).unwrap()
}

struct Client {
    handle: AsyncClient,
    events: EventLoop,
}

impl Client {
    fn new(broker: &EmbeddedBroker, id: &str, will: Option<&str>) -> Self {
        let mut options =
            MqttOptions::new(id, broker.local_addr().ip().to_string(), broker.local_addr().port());
        options.set_max_packet_size(256 * 1024, 256 * 1024).set_keep_alive(Duration::from_secs(20));
        if let Some(topic) = will {
            options.set_last_will(LastWill::new(topic, "offline", QoS::AtLeastOnce, true));
        }
        let (handle, mut events) = AsyncClient::new(options, 2048);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        events.set_network_options(network);
        Self { handle, events }
    }

    async fn connected(broker: &EmbeddedBroker, id: &str, will: Option<&str>) -> Self {
        let mut client = Self::new(broker, id, will);
        client.until(|packet| matches!(packet, Packet::ConnAck(_)).then_some(())).await;
        client
    }

    async fn subscribed(broker: &EmbeddedBroker, id: &str, filter: &str) -> Self {
        let mut client = Self::connected(broker, id, None).await;
        assert_ne!(client.subscribe(filter).await, SubscribeReasonCode::Failure);
        client
    }

    /// Polls until a packet answers the question.
    async fn until<T>(&mut self, mut wanted: impl FnMut(Packet) -> Option<T>) -> T {
        let answer = async {
            loop {
                if let Event::Incoming(packet) = self.events.poll().await.unwrap()
                    && let Some(answer) = wanted(packet)
                {
                    return answer;
                }
            }
        };
        timeout(LONGEST_WAIT, answer).await.expect("the packet did not come")
    }

    async fn until_closed(&mut self) {
        timeout(LONGEST_WAIT, async { while self.events.poll().await.is_ok() {} })
            .await
            .expect("still connected");
    }

    async fn subscribe(&mut self, filter: &str) -> SubscribeReasonCode {
        self.handle.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        self.until(
            |packet| {
                if let Packet::SubAck(ack) = packet { Some(ack.return_codes[0]) } else { None }
            },
        )
        .await
    }

    async fn message(&mut self) -> Publish {
        self.until(
            |packet| if let Packet::Publish(message) = packet { Some(message) } else { None },
        )
        .await
    }

    /// The next one that is not a retained copy. rmqtt looks for retained messages some time after subscribing, so
    /// what is published meanwhile comes twice.
    async fn live_message(&mut self) -> Publish {
        loop {
            let message = self.message().await;
            if !message.retain {
                return message;
            }
        }
    }

    /// Publishes at QoS 1 and waits for the acknowledgement: all sent before has then reached the broker too.
    async fn publish(&mut self, topic: &str, retain: bool, payload: &str) {
        self.handle.publish(topic, QoS::AtLeastOnce, retain, payload).await.unwrap();
        self.until(|packet| matches!(packet, Packet::PubAck(_)).then_some(())).await;
    }

    async fn queue_chunks(&self, chunks: u32) {
        for number in 0..chunks {
            let mut payload = vec![0; CHUNK_BYTES];
            payload[..4].copy_from_slice(&number.to_le_bytes());
            self.handle
                .publish("gapless/1/a/data/main", QoS::AtMostOnce, false, payload)
                .await
                .unwrap();
        }
    }

    async fn expect_chunks(&mut self, chunks: u32) {
        for number in 0..chunks {
            let message = self.message().await;
            assert_eq!(message.payload[..4], number.to_le_bytes(), "chunk lost or out of order");
            assert_eq!(message.payload.len(), CHUNK_BYTES);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retained_state_reaches_a_late_subscriber() {
    let broker = broker(|_| ());
    let mut agent = Client::connected(&broker, "gapless-agent-a", None).await;
    agent.publish("gapless/1/a/state", true, "online").await;
    let mut server = Client::subscribed(&broker, "gapless-server-main", "gapless/1/+/state").await;
    let message = server.message().await;
    assert!(message.retain);
    assert_eq!(
        (message.topic.as_str(), &message.payload[..]),
        ("gapless/1/a/state", &b"online"[..])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_state_is_retained() {
    let broker = broker(|_| ());
    let mut agent = Client::connected(&broker, "gapless-agent-a", None).await;
    agent.publish("gapless/1/a/coverage", true, "old").await;
    assert_eq!(broker.counts().not_retained, 1);
    let mut server = Client::subscribed(&broker, "gapless-server-main", "gapless/1/#").await;
    agent.publish("gapless/1/a/coverage", false, "new").await;
    assert_eq!(&server.message().await.payload[..], b"new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_will_is_delivered_when_a_socket_is_dropped() {
    let broker = broker(|_| ());
    let mut server = Client::subscribed(&broker, "gapless-server-main", "gapless/1/+/state").await;
    let agent = Client::connected(&broker, "gapless-agent-a", Some("gapless/1/a/state")).await;
    drop(agent);
    assert_eq!(&server.live_message().await.payload[..], b"offline");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_closes_the_old_session_and_publishes_its_will() {
    let broker = broker(|_| ());
    let mut server = Client::subscribed(&broker, "gapless-server-main", "gapless/1/+/state").await;
    let mut old = Client::connected(&broker, "gapless-agent-a", Some("gapless/1/a/state")).await;
    let mut new = Client::connected(&broker, "gapless-agent-a", Some("gapless/1/a/state")).await;
    old.until_closed().await;
    assert_eq!(&server.live_message().await.payload[..], b"offline");
    new.publish("gapless/1/a/state", true, "online").await;
    assert_eq!(&server.live_message().await.payload[..], b"online");
    drop(new);
    assert_eq!(
        &server.live_message().await.payload[..],
        b"offline",
        "the second will is delivered too"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_devices_topic_is_refused() {
    let broker = broker(|_| ());
    let mut server = Client::subscribed(&broker, "gapless-server-main", "gapless/1/#").await;
    let mut agent = Client::connected(&broker, "gapless-agent-a", None).await;
    agent.handle.publish("gapless/1/b/state", QoS::AtMostOnce, true, "forged").await.unwrap();
    agent.until_closed().await;
    assert_eq!(broker.counts().refused_publishes, 1);
    let mut other = Client::connected(&broker, "gapless-agent-c", None).await;
    other.publish("gapless/1/c/state", true, "own").await;
    assert_eq!(&server.live_message().await.payload[..], b"own", "the forged one came through");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_devices_subscription_is_refused() {
    let broker = broker(|_| ());
    let mut agent = Client::connected(&broker, "gapless-agent-a", None).await;
    assert_eq!(agent.subscribe("gapless/1/b/ask").await, SubscribeReasonCode::Failure);
    assert_eq!(agent.subscribe("gapless/1/#").await, SubscribeReasonCode::Failure);
    assert_ne!(agent.subscribe("gapless/1/a/ask").await, SubscribeReasonCode::Failure);
    assert_eq!(broker.counts().refused_subscriptions, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_foreign_wills_are_refused_at_the_door() {
    let broker = broker(|_| ());
    Client::new(&broker, "somebody", None).until_closed().await;
    Client::new(&broker, "gapless-agent-a", Some("gapless/1/b/state")).until_closed().await;
    assert_eq!(broker.counts().refused_connections, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_refused() {
    let broker = broker(|config| config.max_connections = 1);
    let mut first = Client::connected(&broker, "gapless-agent-a", None).await;
    Client::new(&broker, "gapless-agent-b", None).until_closed().await;
    first.publish("gapless/1/a/state", true, "still here").await;
}

#[test]
fn a_port_in_use_is_a_clear_error() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = BrokerConfig { listen: other.local_addr().unwrap(), ..Default::default() };
    let error = EmbeddedBroker::start(&config).unwrap_err();
    assert!(matches!(error, BrokerError::Listen { .. }));
    let text = error.to_string();
    assert!(
        text.contains(&config.listen.to_string()) && text.contains("choose another `listen`"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_closes_connections_and_frees_the_port() {
    let mut first = broker(|_| ());
    let address = first.local_addr();
    let mut agent = Client::connected(&first, "gapless-agent-a", None).await;
    first.shutdown();
    first.shutdown();
    agent.until_closed().await;
    let second = broker(|config| config.listen = address);
    assert_eq!(second.local_addr(), address);
    Client::connected(&second, "gapless-agent-a", None).await;
    drop(second);
    drop(broker(|config| config.listen = address));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_brokers_in_one_process_do_not_meet() {
    let (one, other) = (broker(|_| ()), broker(|_| ()));
    assert_ne!(one.local_addr(), other.local_addr());
    let mut agent = Client::connected(&one, "gapless-agent-a", None).await;
    agent.publish("gapless/1/a/state", true, "one").await;
    let mut server = Client::subscribed(&other, "gapless-server-main", "gapless/1/#").await;
    let mut agent = Client::connected(&other, "gapless-agent-a", None).await;
    agent.publish("gapless/1/a/state", true, "other").await;
    assert_eq!(&server.message().await.payload[..], b"other");
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_mebibytes_waiting_for_a_paused_subscriber_all_arrive() {
    let broker = broker(|_| ());
    let mut server =
        Client::subscribed(&broker, "gapless-server-main", "gapless/1/+/data/main").await;
    let mut agent = Client::connected(&broker, "gapless-agent-a", None).await;
    agent.queue_chunks(512).await;
    // Acknowledged, so the broker holds all of them, while `server` is not polled.
    agent.publish("gapless/1/a/coverage", false, "after the chunks").await;
    server.expect_chunks(512).await;
    assert_eq!(broker.counts(), Default::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_is_behind_holds_its_agent_back_and_loses_nothing() {
    let broker = broker(|config| config.max_queued_chunks = 8);
    let mut server =
        Client::subscribed(&broker, "gapless-server-main", "gapless/1/+/data/main").await;
    let mut agent = Client::connected(&broker, "gapless-agent-a", None).await;
    agent.queue_chunks(1500).await;
    let sending = tokio::spawn(async move {
        agent.publish("gapless/1/a/coverage", false, "after the chunks").await
    });
    timeout(LONGEST_WAIT, async {
        while broker.counts().delayed_chunks == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("nothing was held back");
    assert!(
        !sending.is_finished(),
        "1500 chunks of 32 KiB went into room for 8 and the socket buffers"
    );
    server.expect_chunks(1500).await;
    timeout(LONGEST_WAIT, sending).await.unwrap().unwrap();
    assert_eq!(broker.counts().dropped_messages, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn past_tls_nobody_comes_in_but_the_server_itself() {
    let state = tempfile::tempdir().unwrap();
    let now = Timestamp::from_jiff(jiff::Timestamp::now());
    let names = vec!["127.0.0.1".to_owned()];
    let valid_for = Duration::from_secs(86_400);
    let applicant = Applicant { holder: Holder::Broker, names, valid_for };
    let mut authority = Authority::open(state.path(), now).unwrap();
    let made = authority.add(&applicant, KeySource::Made, now).unwrap();
    let (certificate, key) = (state.path().join("broker.pem"), state.path().join("broker.key"));
    write_new(&certificate, made.certificate_pem.as_bytes(), 0o644).unwrap();
    write_new(&key, made.key_pem.unwrap().as_bytes(), 0o600).unwrap();
    let client_ca = Some(Authority::folder(state.path()).join("ca.pem"));
    let broker = broker(|config| {
        config.tls = Some(EmbeddedTls { certificate, key, client_ca, revoked: None });
    });

    let own = broker.own_url();
    let secret = own.login.clone().unwrap();
    assert_ne!(own.port, broker.local_addr().port());
    let refused = async |id: &str, login: Option<(&str, &str)>| {
        let mut options = MqttOptions::new(id, &own.host, own.port);
        if let Some((user, password)) = login {
            options.set_credentials(user, password);
        }
        let (_client, mut events) = AsyncClient::new(options, 1);
        timeout(LONGEST_WAIT, events.poll()).await.expect("no answer").is_err()
    };
    let right = Some((secret.0.as_str(), secret.1.as_str()));
    assert!(!refused("gapless-server-main", right).await);
    assert!(refused("gapless-server-main", None).await);
    assert!(refused("gapless-server-main", Some((&secret.0, "guessed"))).await);
    assert!(refused("gapless-agent-a", right).await);
    assert_eq!(broker.counts().refused_connections, 3);
}

/// A core that waited for the link while the link waits for the core would wait for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_more_than_it_hears_still_hears_all_of_it() {
    const HEARD: usize = 2_000;
    const SAID_FOR_EACH: usize = 4;
    let broker = broker(|_| ());
    let (outbox, outbound) = Outbox::open();
    let (control, mut heard) = mpsc::channel(4);
    let (transfer, mut media) = mpsc::channel(4);
    let routes = Routes { control, transfer };
    let url = BrokerUrl::of(broker.local_addr());
    let link = tokio::spawn(link::run(url, "main".parse().unwrap(), outbound, routes));
    tokio::spawn(async move { while media.recv().await.is_some() {} });
    let mut wait =
        async || timeout(LONGEST_WAIT, heard.recv()).await.expect("it hears nothing").unwrap();
    assert!(matches!(wait().await, Inbound::Up));

    let mut agent = Client::connected(&broker, "gapless-agent-a", None).await;
    let handle = agent.handle.clone();
    tokio::spawn(async move { while agent.events.poll().await.is_ok() {} });
    tokio::spawn(async move {
        for _ in 0..HEARD {
            let sent = handle.publish("gapless/1/a/coverage", QoS::AtLeastOnce, false, "x");
            sent.await.unwrap();
        }
    });
    let topic = Topic::Ask("a".parse().unwrap());
    for _ in 0..HEARD {
        assert!(matches!(wait().await, Inbound::Message { .. }));
        for _ in 0..SAID_FOR_EACH {
            let message = Outbound { topic: topic.clone(), payload: vec![0; 100] };
            assert!(outbox.send(message));
        }
    }
    link.abort();
}
