//! Devices that are nothing but what they say: all of the protocol that a device at rest speaks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use protocol::envelope;
use protocol::message::{
    Ask, AskBody, BootId, BootMillis, ClockSample, ConnectionId, CoverageReport, DeviceId,
    DeviceLimits, Network, Online, Presence,
};
use protocol::topic::Topic;
use rand::RngExt;
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS};
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::time::{TimeRange, Timestamp};
use tests::installation::STREAM;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

/// A device says again that it is there, first after connecting, then for ever.
const ONLINE_AGAIN: Duration = Duration::from_secs(2);
const ONLINE_EVERY: Duration = Duration::from_secs(60);
const NEWS_EVERY: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);
/// How often somebody's turn is looked for.
const STEP: Duration = Duration::from_millis(50);
/// Between two returns of the device by which the server is probed.
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_DEADLINE: Duration = Duration::from_secs(60);
const CLIENT_QUEUE: usize = 256;

/// How devices behave.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Within this time all of them come.
    pub arrive: Duration,
    /// How many of a hundred have news every 10 s.
    pub recording: u8,
    /// That each holds.
    pub ranges: u32,
}

/// One of them.
#[derive(Debug)]
pub struct Device {
    pub id: DeviceId,
    connection: ConnectionId,
    boot: BootId,
    generation: u64,
    ranges: u32,
}

/// The one that each has.
pub fn stream() -> StreamId {
    STREAM.parse().expect("the stream of the rig has a name")
}

impl Device {
    pub fn new(number: usize, ranges: u32) -> Device {
        let id = format!("camera-{number:05}").parse().expect("it is of the alphabet of ids");
        let mut random = rand::rng();
        let connection = ConnectionId(random.random());
        Device { id, connection, boot: BootId(random.random()), generation: 0, ranges }
    }

    pub fn online(&self, now: Timestamp) -> anyhow::Result<Vec<u8>> {
        let online = Online {
            connection: self.connection,
            boot: self.boot,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            limits: DeviceLimits {
                max_chunk_bytes: 65_536,
                max_open_transfers: 4,
                max_bytes_per_second: 0,
            },
            clock: ClockSample { realtime: now, boottime: BootMillis(60_000) },
            streams: vec![stream()],
            network: Network { link: "ethernet".to_owned(), address: None },
        };
        Ok(envelope::encode(&Presence::Online(online))?)
    }

    /// All that it holds: an hour after the other, with a hole of a second between two.
    pub fn coverage(&self, now: Timestamp) -> anyhow::Result<Vec<u8>> {
        let hour = |number: u32| {
            let start = now.saturating_sub(HOUR * (number + 1));
            TimeRange::starting_at(start, HOUR - Duration::from_secs(1))
        };
        let held: Coverage = (0..self.ranges).map(hour).collect();
        let everything = TimeRange::new(Timestamp::MIN, Timestamp::MAX).context("time passes")?;
        self.report(everything, held, now)
    }

    /// That it has recorded on.
    fn news(&self, now: Timestamp) -> anyhow::Result<Vec<u8>> {
        let newest = TimeRange::starting_at(now.saturating_sub(NEWS_EVERY), NEWS_EVERY);
        self.report(newest, newest.into(), now)
    }

    fn report(&self, window: TimeRange, held: Coverage, now: Timestamp) -> anyhow::Result<Vec<u8>> {
        let report = CoverageReport {
            connection: self.connection,
            stream: stream(),
            generation: self.generation,
            window,
            held,
            gone: Coverage::new(),
            horizon: Some(now.saturating_sub(HOUR * self.ranges)),
            final_until: now,
            tier: 1,
            uncertainty_ns: 0,
            overwriting: None,
        };
        Ok(envelope::encode(&report)?)
    }
}

/// All of them, on a few connections.
pub struct Crowd {
    said: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
    probe: AsyncClient,
    probed: tokio::sync::Mutex<mpsc::UnboundedReceiver<Instant>>,
    tasks: JoinSet<anyhow::Result<()>>,
    probe_id: DeviceId,
    ranges: u32,
}

impl Crowd {
    /// Returns once they are on their way.
    pub async fn gather(
        broker: SocketAddr,
        count: usize,
        connections: usize,
        habits: Habits,
    ) -> anyhow::Result<Crowd> {
        let (said, answered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        let connections = connections.max(1);
        let (mut asked, mut listeners) = (Vec::new(), Vec::new());
        for _ in 0..connections {
            let (sender, receiver) = mpsc::unbounded_channel();
            asked.push(sender);
            listeners.push(receiver);
        }
        let probe = Device::new(count, habits.ranges);
        let (probe_sender, probed) = mpsc::unbounded_channel();
        let ear = open(broker, "ear", &mut tasks, {
            let probe = probe.id.clone();
            move |topic, payload| {
                let Ok(Topic::Ask(device)) = topic.parse() else { return };
                let Ok(ask) = envelope::decode::<Ask>(payload) else { return };
                let coverage = matches!(ask.body, AskBody::Coverage);
                // Who does not listen any more has left.
                if device == probe && coverage {
                    let _ = probe_sender.send(Instant::now());
                } else if let Some(number) = number_of(&device).filter(|_| coverage) {
                    let listener = asked.get(number % connections);
                    let _ = listener.map(|listener| listener.send(number / connections));
                }
            }
        });
        ear.subscribe("gapless/1/+/ask", QoS::AtLeastOnce).await?;
        for (number, asked) in listeners.into_iter().enumerate() {
            let client = open(broker, &format!("devices-{number}"), &mut tasks, |_, _| {});
            let own = (number..count).step_by(connections);
            let devices: Vec<Device> = own.map(|n| Device::new(n, habits.ranges)).collect();
            let counters = (Arc::clone(&said), Arc::clone(&answered));
            tasks.spawn(live(client, devices, habits, asked, counters));
        }
        let probe_id = probe.id;
        let probe = open(broker, "probe", &mut tasks, |_, _| {});
        let probed = tokio::sync::Mutex::new(probed);
        Ok(Crowd { said, answered, probe, probed, tasks, probe_id, ranges: habits.ranges })
    }

    /// Messages so far.
    pub fn said(&self) -> u64 {
        self.said.load(Ordering::Relaxed)
    }

    /// Questions so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// For so long, one more device comes back again and again: how long it takes the server to ask it what it holds.
    pub async fn probe(&self, duration: Duration) -> anyhow::Result<Vec<Duration>> {
        let began = Instant::now();
        let mut latencies = Vec::new();
        let mut probed = self.probed.lock().await;
        while began.elapsed() < duration {
            let fresh = Device::new(0, self.ranges);
            let device = Device { id: self.probe_id.clone(), ..fresh };
            while probed.try_recv().is_ok() {}
            let said = Instant::now();
            self.say(&Topic::State(device.id.clone()), device.online(now())?).await?;
            let asked = timeout(PROBE_DEADLINE, probed.recv()).await;
            let asked = asked.context("the server does not ask")?.context("the ear is gone")?;
            latencies.push(asked - said);
            self.say(&Topic::Coverage(device.id.clone()), device.coverage(now())?).await?;
            sleep(PROBE_EVERY).await;
        }
        Ok(latencies)
    }

    async fn say(&self, topic: &Topic, payload: Vec<u8>) -> anyhow::Result<()> {
        let retained = matches!(topic, Topic::State(_));
        Ok(self.probe.publish(topic.to_string(), QoS::AtLeastOnce, retained, payload).await?)
    }

    /// Without a word.
    pub fn leave(mut self) {
        self.tasks.abort_all();
    }
}

fn number_of(device: &DeviceId) -> Option<usize> {
    device.as_str().strip_prefix("camera-")?.parse().ok()
}

fn now() -> Timestamp {
    Timestamp::from_jiff(jiff::Timestamp::now())
}

/// A connection that is polled until the crowd leaves; `hear` is told what arrives.
fn open(
    broker: SocketAddr,
    name: &str,
    tasks: &mut JoinSet<anyhow::Result<()>>,
    mut hear: impl FnMut(&str, &[u8]) + Send + 'static,
) -> AsyncClient {
    let mut options = MqttOptions::new(name, broker.ip().to_string(), broker.port());
    options.set_max_packet_size(protocol::MAX_PACKET_BYTES, protocol::MAX_PACKET_BYTES);
    let (client, mut events) = AsyncClient::new(options, CLIENT_QUEUE);
    tasks.spawn(async move {
        loop {
            if let Event::Incoming(Incoming::Publish(message)) = events.poll().await? {
                hear(&message.topic, &message.payload);
            }
        }
    });
    client
}

/// When a device speaks next, by itself.
struct Turn {
    online: Duration,
    news: Option<Duration>,
    again: Duration,
    arrived: bool,
}

/// The lives of all devices of one connection.
async fn live(
    client: AsyncClient,
    mut devices: Vec<Device>,
    habits: Habits,
    mut asked: mpsc::UnboundedReceiver<usize>,
    (said, answered): (Arc<AtomicU64>, Arc<AtomicU64>),
) -> anyhow::Result<()> {
    let count = devices.len().max(1) as u32;
    let recording = devices.len() * usize::from(habits.recording) / 100;
    let mut turns: Vec<Turn> = (0..devices.len())
        .map(|number| Turn {
            online: habits.arrive * number as u32 / count,
            news: (number < recording).then(|| habits.arrive + NEWS_EVERY * number as u32 / count),
            again: ONLINE_AGAIN,
            arrived: false,
        })
        .collect();
    let say = async |topic: Topic, payload: Vec<u8>| {
        said.fetch_add(1, Ordering::Relaxed);
        let retained = matches!(topic, Topic::State(_));
        client.publish(topic.to_string(), QoS::AtLeastOnce, retained, payload).await
    };
    let began = Instant::now();
    let mut steps = interval(STEP);
    loop {
        let question = tokio::select! {
            question = asked.recv() => Some(question.context("the ear is gone")?),
            _ = steps.tick() => None,
        };
        if let Some(device) = question.and_then(|number| devices.get_mut(number)) {
            answered.fetch_add(1, Ordering::Relaxed);
            device.generation += 1;
            say(Topic::Coverage(device.id.clone()), device.coverage(now())?).await?;
            continue;
        }
        let since = began.elapsed();
        for (device, turn) in devices.iter_mut().zip(&mut turns) {
            if turn.online <= since {
                say(Topic::State(device.id.clone()), device.online(now())?).await?;
                turn.online += turn.again;
                turn.again = ONLINE_EVERY;
                if !std::mem::replace(&mut turn.arrived, true) {
                    say(Topic::Coverage(device.id.clone()), device.coverage(now())?).await?;
                }
            }
            if let Some(news) = turn.news.as_mut().filter(|news| **news <= since) {
                *news += NEWS_EVERY;
                device.generation += 1;
                say(Topic::Coverage(device.id.clone()), device.news(now())?).await?;
            }
        }
    }
}
