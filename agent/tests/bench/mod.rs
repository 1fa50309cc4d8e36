//! A broker, a card with one recording, and a server's ear and voice.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::envelope;
use protocol::frame::Data;
use protocol::message::{
    Ask, AskBody, BootMillis, ConnectionId, CoverageReport, Credit, Online, Presence, Tell,
    TransferId,
};
use protocol::topic::{Topic, server_client_id, server_subscriptions};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, Publish, QoS, SubscribeFilter};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub const DEVICE: &str = "cam-7";
pub const STREAM: &str = "main";
pub const SERVER: &str = "depot";
/// No wait is endless; far above what any of them takes.
const PATIENCE: Duration = Duration::from_secs(60);
const RECORDING: &str = "2026-01-01_00-00-00.mp4";

/// What a server hears.
#[derive(Debug)]
pub enum Heard {
    Presence(Presence),
    Coverage(CoverageReport),
    Tell(Tell),
    Data { transfer: TransferId, offset: u64, echo: u64, payload: Vec<u8> },
}

pub struct Bench {
    card: TempDir,
    port: u16,
    client: AsyncClient,
    heard: mpsc::UnboundedReceiver<Publish>,
    poller: JoinHandle<()>,
    _broker: Broker,
}

impl Bench {
    pub async fn start() -> Bench {
        let card = tempfile::tempdir().unwrap();
        record(&card.path().join(RECORDING));
        let broker = Broker::start(card.path());
        let port = broker.port;
        let id = server_client_id(&SERVER.parse().unwrap());
        let (client, eventloop) = AsyncClient::new(options(&id, port), 16);
        let (sender, heard) = mpsc::unbounded_channel();
        let (subscribed, ready) = oneshot::channel();
        let poller = tokio::spawn(listen(eventloop, sender, subscribed));
        let filters = server_subscriptions(&SERVER.parse().unwrap());
        let filters =
            filters.map(|(filter, qos)| SubscribeFilter::new(filter, rumqttc::qos(qos).unwrap()));
        client.subscribe_many(filters).await.unwrap();
        ready.await.expect("the broker takes subscriptions");
        Bench { card, port, client, heard, poller, _broker: broker }
    }

    /// Waits until `wanted` finds what it wants in what is heard; the rest is passed over.
    pub async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(Heard) -> Option<T>) -> T {
        let find = async {
            loop {
                let publish = self.heard.recv().await.expect("the broker is there");
                if let Some(found) = wanted(understand(&publish)) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, find).await.unwrap_or_else(|_| panic!("no {what} came"))
    }

    pub async fn online(&mut self) -> Online {
        self.until("Online", |heard| match heard {
            Heard::Presence(Presence::Online(online)) => Some(online),
            _ => None,
        })
        .await
    }

    pub async fn offline(&mut self) -> ConnectionId {
        self.until("Offline", |heard| match heard {
            Heard::Presence(Presence::Offline { connection }) => Some(connection),
            _ => None,
        })
        .await
    }

    pub async fn ask(&self, online: &Online, body: AskBody) {
        let ask = Ask {
            server: SERVER.parse().unwrap(),
            connection: online.connection,
            expires: BootMillis(online.clock.boottime.0 + 600_000),
            body,
        };
        self.publish("ask", envelope::encode(&ask).unwrap()).await;
    }

    pub async fn credit(&self, credit: Credit) {
        self.publish("credit", envelope::encode(&credit).unwrap()).await;
    }

    pub async fn publish(&self, leaf: &str, payload: Vec<u8>) {
        let topic = format!("gapless/1/{DEVICE}/{leaf}");
        self.client.publish(topic, QoS::AtLeastOnce, false, payload).await.unwrap();
    }

    /// Connects under another client's id, upon which the broker throws that one out.
    pub async fn take_over(&self, client_id: &str) {
        let (_client, mut eventloop) = AsyncClient::new(options(client_id, self.port), 1);
        let event = eventloop.poll().await.unwrap();
        assert!(matches!(event, Event::Incoming(Packet::ConnAck(_))));
    }

    pub fn recording_path(&self) -> PathBuf {
        self.card.path().join(RECORDING)
    }

    pub fn recording(&self) -> Vec<u8> {
        std::fs::read(self.recording_path()).unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.poller.abort();
    }
}

async fn listen(
    mut eventloop: EventLoop,
    heard: mpsc::UnboundedSender<Publish>,
    subscribed: oneshot::Sender<()>,
) {
    let mut subscribed = Some(subscribed);
    while let Ok(event) = eventloop.poll().await {
        match event {
            // Fails only while the bench is being taken down.
            Event::Incoming(Packet::Publish(publish)) => drop(heard.send(publish)),
            Event::Incoming(Packet::SubAck(_)) => {
                subscribed.take().map(|subscribed| subscribed.send(()));
            }
            _ => {}
        }
    }
}

fn understand(publish: &Publish) -> Heard {
    let payload = &publish.payload[..];
    match publish.topic.parse().unwrap() {
        Topic::State(_) => Heard::Presence(envelope::decode(payload).unwrap()),
        Topic::Coverage(_) => Heard::Coverage(envelope::decode(payload).unwrap()),
        Topic::Tell(..) => Heard::Tell(envelope::decode(payload).unwrap()),
        Topic::Data(..) => {
            let Data { transfer, offset, echo, payload } = Data::decode(payload).unwrap();
            Heard::Data { transfer, offset, echo, payload: payload.to_vec() }
        }
        topic => panic!("a server does not listen on {topic}"),
    }
}

fn options(client_id: &str, port: u16) -> MqttOptions {
    let mut options = MqttOptions::new(client_id, "127.0.0.1", port);
    options.set_max_packet_size(protocol::MAX_PACKET_BYTES, protocol::MAX_PACKET_BYTES);
    options
}

/// The agent in this process; dropped, it vanishes as if its power were cut.
pub struct Agent {
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), agent::AgentError>>,
}

impl Agent {
    pub fn start(bench: &Bench) -> Agent {
        Agent::start_with(bench, "")
    }

    /// With further sections of the configuration.
    pub fn start_with(bench: &Bench, sections: &str) -> Agent {
        let text = format!(
            r#"
            device = "{DEVICE}"
            broker.url = "mqtt://127.0.0.1:{}"
            [card]
            root = "{}"
            require_mount = false
            [clock]
            believe = "names"
            [[stream]]
            id = "{STREAM}"
            path = ""
            layout = "ffmpeg"
            time_zone = "UTC"
            {sections}
            "#,
            bench.port,
            bench.card.path().display()
        );
        let config = toml::from_str(&text).unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            // Without a sender there is nobody to stop it.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        Agent { stop, running: tokio::spawn(agent::run(config, shutdown)) }
    }

    pub async fn stop(mut self) {
        let (unused, _) = oneshot::channel();
        std::mem::replace(&mut self.stop, unused).send(()).unwrap();
        let ended = tokio::time::timeout(PATIENCE, &mut self.running).await;
        ended.expect("the agent stops").unwrap().unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.running.abort();
    }
}

struct Broker {
    process: Child,
    port: u16,
}

impl Broker {
    fn start(directory: &Path) -> Broker {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let configuration = directory.join(".mosquitto.conf");
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\n");
        write(&configuration, text.as_bytes());
        let mut process = Command::new(tool("mosquitto", "mosquitto"))
            .arg("-v")
            .arg("-c")
            .arg(&configuration)
            .stderr(Stdio::piped())
            .spawn()
            .expect("mosquitto can be started");
        let log = process.stderr.take().expect("it is piped");
        let mut lines = BufReader::new(log).lines().map_while(Result::ok);
        let running = lines.any(|line| line.contains("running"));
        assert!(running, "mosquitto ended before it was running on port {port}");
        // Whoever does not read on lets it block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Broker { process, port }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.process.kill().expect("it is our child");
        self.process.wait().expect("it is our child");
    }
}

/// Debian puts daemons where not every user looks.
fn tool(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    let found = places.map(|place| place.join(name)).find(|candidate| candidate.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: apt-get install {package}"))
}

/// Eight seconds of H.264 in fragmented MP4, a keyframe a second.
fn record(path: &Path) {
    let status = Command::new(tool("ffmpeg", "ffmpeg"))
        .args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25:duration=8"])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-bf", "0"])
        .args(["-movflags", "frag_keyframe+empty_moov+default_base_moof"])
        .arg(path)
        .status()
        .expect("ffmpeg can be started");
    assert!(status.success(), "ffmpeg did not record");
}

pub fn write(path: &Path, bytes: &[u8]) {
    std::fs::File::create(path).and_then(|mut file| file.write_all(bytes)).unwrap();
}

/// What this thread logs, which in a test on one thread is all of the agent's tasks.
pub struct Log {
    bytes: Arc<Mutex<Vec<u8>>>,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Log {
    pub fn capture() -> Log {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = bytes.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || Shared(shared.clone()))
            .with_ansi(false)
            .finish();
        Log { bytes, _guard: tracing::subscriber::set_default(subscriber) }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    pub fn lines_with(&self, words: &str) -> usize {
        self.text().lines().filter(|line| line.contains(words)).count()
    }
}

struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
