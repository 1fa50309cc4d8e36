//! The way to the broker and through it to a server, step by step.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use protocol::envelope;
use protocol::message::{
    Ask, AskBody, ClockSample, ConnectionId, CoverageReport, DeviceLimits, Network, Online,
    Presence, Refusable, RefusedReason, RequestId, ServerTime, Tell,
};
use protocol::topic::{Topic, agent_client_id, device_subscriptions};
use rumqttc::ConnectReturnCode;
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::{TimeRange, Timestamp};
use tokio::net::TcpStream;

use super::super::status::seconds;
use super::super::{DiagnosisError, told};
use super::agent::Agent;
use super::mqtt::{Credentials, Mqtt, MqttError, Stream};
use super::{Finding, Practice};
use crate::clock;
use crate::config::Config;
use crate::link;
use crate::session::random;

pub const CHECKS: [&str; 6] = ["dns", "tcp", "tls", "login", "acl", "server"];

const STEP_PATIENCE: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 3;
/// For a server to answer that the device is there: it does at once.
const SERVER_PATIENCE: Duration = Duration::from_secs(6);
/// The device says every 60 s that it is there, and is answered each time.
const HEARD_LATELY_S: f64 = 100.0;
/// An agent that has just connected has not been answered yet.
const JUST_NOW_S: f64 = 5.0;

pub fn examine(
    config: &Config,
    agent: &Agent,
    practice: &mut Practice<'_>,
) -> Result<(), DiagnosisError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(DiagnosisError::Runtime)?;
    Ok(runtime.block_on(Examination { config, agent, practice }.go())?)
}

struct Examination<'a, 'b> {
    config: &'a Config,
    agent: &'a Agent,
    practice: &'a mut Practice<'b>,
}

impl Examination<'_, '_> {
    async fn go(self) -> io::Result<()> {
        let (addresses, finding) = self.resolve().await;
        if !self.practice.tell("dns", finding)? {
            return self.practice.skip(&CHECKS[1..], "not tried: the broker is not found");
        }
        let (address, finding) = self.connect(&addresses).await;
        if !self.practice.tell("tcp", finding)? {
            return self.practice.skip(&CHECKS[2..], "not tried: the broker is not reached");
        }
        let Some(address) = address else { return Ok(()) };
        let (stream, finding) = match self.open(address).await {
            Ok(stream) => (Some(stream), self.encrypted()),
            Err(error) => (None, self.no_tls(&error)),
        };
        self.practice.tell("tls", finding)?;
        let Some(stream) = stream else {
            return self.practice.skip(&CHECKS[3..], "not tried: there is no secure connection");
        };
        let who = match link::credentials(self.config) {
            Ok(login) => Credentials { client_id: self.client_id(), login },
            Err(error) => {
                let to_do = "look at [broker] password_file, and at who may read it";
                self.practice.tell("login", Finding::fail(told(&error), to_do))?;
                return self.practice.skip(&CHECKS[4..], "not tried: the device is not let in");
            }
        };
        let mut mqtt = Mqtt::over(stream);
        let login = mqtt.log_in(&who).await;
        let let_in = matches!(login, Ok(ConnectReturnCode::Success));
        self.practice.tell("login", self.logged_in(&who, login))?;
        let greeting = match let_in {
            true => self.greet(&mut mqtt).await,
            false if self.agent.is_true("/link/connected") => Greeting::NotTried,
            false => {
                return self.practice.skip(&CHECKS[4..], "not tried: the device is not let in");
            }
        };
        let finding = self.allowed(address, &who, &greeting).await;
        self.practice.tell("acl", finding)?;
        self.practice.tell("server", self.answered(greeting))?;
        Ok(())
    }

    /// As the agent, where none runs: the broker would throw out the one that has the name.
    fn client_id(&self) -> String {
        let own = agent_client_id(&self.config.device);
        if self.agent.is_alive { format!("{own}-doctor") } else { own }
    }

    async fn resolve(&self) -> (Vec<SocketAddr>, Finding) {
        let url = &self.config.broker.url;
        let host = url.host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = host.parse::<IpAddr>() {
            let address = SocketAddr::new(address, url.port);
            return (vec![address], Finding::ok("not needed: the broker is named by its address"));
        }
        let begun = Instant::now();
        let found = tokio::time::timeout(STEP_PATIENCE, tokio::net::lookup_host((host, url.port)));
        let to_do =
            "is [broker] url right? Which name server is in /etc/resolv.conf, and is it reached?";
        match found.await {
            Ok(Ok(addresses)) => {
                let addresses: Vec<SocketAddr> = addresses.take(MAX_ADDRESSES).collect();
                let texts: Vec<String> = addresses.iter().map(|one| one.ip().to_string()).collect();
                let took = seconds(begun.elapsed().as_secs_f64());
                let text = format!("{host} is {}, in {took}", texts.join(", "));
                (addresses, Finding::ok(text))
            }
            Ok(Err(error)) => {
                (Vec::new(), Finding::fail(format!("{host} is not found: {error}"), to_do))
            }
            Err(_) => {
                let patience = seconds(STEP_PATIENCE.as_secs_f64());
                let text = format!("no name server has answered for {patience}");
                (Vec::new(), Finding::fail(text, to_do))
            }
        }
    }

    async fn connect(&self, addresses: &[SocketAddr]) -> (Option<SocketAddr>, Finding) {
        let mut why = String::new();
        for address in addresses {
            let begun = Instant::now();
            match tokio::time::timeout(STEP_PATIENCE, TcpStream::connect(address)).await {
                Ok(Ok(_)) => {
                    let took = seconds(begun.elapsed().as_secs_f64());
                    return (Some(*address), Finding::ok(format!("{address} answers in {took}")));
                }
                Ok(Err(error)) => why = format!("{address}: {error}"),
                Err(_) => why = format!("{address}: no answer for {}", seconds(5.0)),
            }
        }
        let to_do = "does the broker run, and listen beyond loopback? Is there a way to it: cable, \
                     radio, route, firewall?";
        (None, Finding::fail(why, to_do))
    }

    async fn open(&self, address: SocketAddr) -> Result<Box<dyn Stream>, OpenError> {
        let connecting = tokio::time::timeout(STEP_PATIENCE, TcpStream::connect(address)).await;
        let tcp = connecting.map_err(|_| OpenError::Silent)??;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.config.broker.tls {
            use super::mqtt::PATIENCE;
            use tokio_rustls::rustls::pki_types::ServerName;
            let client = crate::tls::client(tls).map_err(OpenError::Files)?;
            let host = self.config.broker.url.host.trim_matches(['[', ']']).to_owned();
            let host = ServerName::try_from(host).map_err(|_| OpenError::Name)?;
            let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(client));
            let shaking = tokio::time::timeout(PATIENCE, connector.connect(host, tcp)).await;
            return Ok(Box::new(shaking.map_err(|_| OpenError::Silent)??));
        }
        Ok(Box::new(tcp))
    }

    fn encrypted(&self) -> Finding {
        let url = &self.config.broker.url;
        if url.tls {
            return Finding::ok("the broker's certificate is one that ca_file vouches for");
        }
        Finding::skipped("not used: passwords and footage travel in the clear (mqtt://)")
    }

    fn no_tls(&self, error: &OpenError) -> Finding {
        let text = told(error);
        let to_do = if text.contains("xpired") || text.contains("NotValidYet") {
            "is this device's clock right (see `clock`)? Else renew the certificate"
        } else if text.contains("UnknownIssuer") || text.contains("BadSignature") {
            "ca_file has to hold the certificate that signed the broker's"
        } else if text.contains("NotValidForName") {
            "[broker] url has to name the broker as its certificate does"
        } else if text.contains("InvalidContentType") || text.contains("eof") {
            "does the broker speak TLS on this port (8883), or plainly (1883)?"
        } else {
            "look at [broker.tls], and at the broker's log"
        };
        Finding::fail(text, to_do)
    }

    fn logged_in(&self, who: &Credentials, login: Result<ConnectReturnCode, MqttError>) -> Finding {
        let user = who.login.as_ref().map_or("nobody".to_owned(), |(user, _)| format!("`{user}`"));
        match login {
            Ok(ConnectReturnCode::Success) => {
                Finding::ok(format!("let in as {user}, client {}", who.client_id))
            }
            // What is tried is not what the agent does: its own word counts.
            Ok(_) | Err(MqttError::Ended) if self.agent.is_true("/link/connected") => {
                Finding::skipped(
                    "the agent is let in; nobody is beside it, so that its word counts",
                )
            }
            Ok(ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized) => {
                let text = format!("{user} is refused: wrong password, or not allowed");
                Finding::fail(
                    text,
                    "look at [broker] username and password_file, and at the broker's log",
                )
            }
            Ok(ConnectReturnCode::BadClientId) => {
                let text = format!("the client id {} is refused", who.client_id);
                Finding::fail(text, "the broker has to let gapless-agent-DEVICE in")
            }
            Ok(code) => Finding::fail(format!("refused: {code:?}"), "look at the broker's log"),
            Err(error) => Finding::fail(
                told(&error),
                "is it an MQTT broker, and does it want TLS? See its log",
            ),
        }
    }

    /// In the place of an agent that does not run: says that the device is there, and waits for a server's word.
    async fn greet(&self, mqtt: &mut Mqtt) -> Greeting {
        let greeting = match mqtt.subscribe(device_subscriptions(&self.config.device)).await {
            Err(error) => Greeting::Lost(error),
            Ok(refused) if !refused.is_empty() => Greeting::NotHeard(refused),
            Ok(_) if self.agent.is_alive => Greeting::NotTried,
            Ok(_) => {
                let connection = ConnectionId(random());
                let answer = self.await_server(mqtt, connection);
                let greeting = match tokio::time::timeout(SERVER_PATIENCE, answer).await {
                    Ok(Ok(greeting)) => greeting,
                    Ok(Err(error)) => Greeting::Lost(error),
                    Err(_) => Greeting::NoServer,
                };
                let offline = Presence::Offline { connection };
                // Where it cannot be said, the connection is lost, which was found out above or ends all this.
                let _ = self.say(mqtt, &offline).await;
                greeting
            }
        };
        mqtt.disconnect().await;
        greeting
    }

    async fn say(&self, mqtt: &mut Mqtt, presence: &Presence) -> Result<(), MqttError> {
        let state = Topic::State(self.config.device.clone()).to_string();
        mqtt.publish(state, envelope::encode(presence).unwrap_or_default()).await
    }

    async fn await_server(
        &self,
        mqtt: &mut Mqtt,
        connection: ConnectionId,
    ) -> Result<Greeting, MqttError> {
        let said = clock::sample();
        self.say(mqtt, &self.online(connection, said)).await?;
        loop {
            let message = mqtt.message().await?;
            let Ok(ask) = envelope::decode::<Ask>(&message.payload) else { continue };
            if ask.connection != connection {
                continue;
            }
            if let AskBody::Time(ServerTime { utc, .. }) = ask.body {
                let now = clock::sample();
                let trip_ms = now.boottime.0.saturating_sub(said.boottime.0);
                let half = Duration::from_millis(trip_ms / 2);
                let behind_ns = utc.saturating_add(half).as_nanos() - now.realtime.as_nanos();
                return Ok(Greeting::Server {
                    server: ask.server.to_string(),
                    trip_s: trip_ms as f64 / 1e3,
                    behind_s: behind_ns as f64 / 1e9,
                });
            }
        }
    }

    fn online(&self, connection: ConnectionId, clock: ClockSample) -> Presence {
        Presence::Online(Online {
            connection,
            boot: clock::boot_id().unwrap_or(protocol::message::BootId([0; 16])),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            limits: DeviceLimits::from(&self.config.limits),
            clock,
            streams: self.config.streams.iter().map(|stream| stream.id.clone()).collect(),
            network: Network::default(),
        })
    }

    /// Whether the device may say and hear what it has to.
    async fn allowed(
        &self,
        address: SocketAddr,
        who: &Credentials,
        greeting: &Greeting,
    ) -> Finding {
        let to_do = format!(
            "allow `{}` to publish below gapless/1/{}/ and to subscribe to its ask and credit",
            who.login.as_ref().map_or(who.client_id.as_str(), |(user, _)| user),
            self.config.device
        );
        match greeting {
            Greeting::NotHeard(refused) => {
                let text = format!("the broker refuses a subscription: {}", refused.join(", "));
                return Finding::fail(text, to_do);
            }
            Greeting::Server { .. } => {
                return Finding::ok("what the device says is heard, and it is answered");
            }
            Greeting::Lost(error) => {
                let text = format!("upon a subscription or a message: {}", told(error));
                return Finding::fail(text, to_do);
            }
            _ => {}
        }
        let lately = |ago| ago < HEARD_LATELY_S;
        if self.agent.number("/link/server_heard_s_ago").is_some_and(lately) {
            return Finding::ok("what the agent says is heard, and it is answered");
        }
        match self.probe(address, who).await {
            Ok(Some(denied)) if denied.is_empty() => {
                Finding::ok("the broker takes all that the device says, and lets it listen")
            }
            Ok(Some(denied)) => {
                Finding::fail(format!("the broker refuses {}", denied.join(", ")), to_do)
            }
            Ok(None) => Finding::warn(
                "cannot be told: this broker speaks no MQTT 5, and 3.1.1 says nothing of what is \
                 thrown away",
                format!("look into the broker's log for what it denies; {to_do}"),
            ),
            Err(error) => {
                Finding::fail(format!("upon a message of the device: {}", told(&error)), to_do)
            }
        }
    }

    /// What the broker refuses; `None` where it does not tell.
    async fn probe(
        &self,
        address: SocketAddr,
        who: &Credentials,
    ) -> Result<Option<Vec<String>>, MqttError> {
        let Ok(stream) = self.open(address).await else { return Ok(None) };
        let mut mqtt = Mqtt::over(stream);
        match mqtt.log_in_by_5(who).await {
            Ok(true) => {}
            Ok(false) | Err(MqttError::Ended | MqttError::NoMqtt(_)) => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut denied = Vec::new();
        for (topic, payload) in self.harmless() {
            let topic = topic.to_string();
            if !mqtt.may_publish(&topic, payload).await? {
                denied.push(format!("to publish on {topic}"));
            }
        }
        for (filter, _) in device_subscriptions(&self.config.device) {
            if !mqtt.may_subscribe(&filter).await? {
                denied.push(format!("to subscribe to {filter}"));
            }
        }
        mqtt.disconnect().await;
        Ok(Some(denied))
    }

    /// A message for each topic of a device, of a connection that nobody knows and to a server that nobody is: as
    /// late ones of an earlier connection are, they are passed over by all.
    fn harmless(&self) -> Vec<(Topic, Vec<u8>)> {
        let (device, connection) = (&self.config.device, ConnectionId(random()));
        let nobody = || "doctor".parse().ok();
        let mut all = Vec::new();
        let offline = Presence::Offline { connection };
        all.push((Topic::State(device.clone()), envelope::encode(&offline).unwrap_or_default()));
        if let Some(stream) = self.config.streams.first() {
            let report = CoverageReport {
                connection,
                stream: stream.id.clone(),
                generation: 0,
                window: TimeRange::starting_at(Timestamp::UNIX_EPOCH, Duration::ZERO),
                held: Coverage::new(),
                gone: Coverage::new(),
                horizon: None,
                final_until: Timestamp::MIN,
                tier: 0,
                uncertainty_ns: 0,
                overwriting: None,
            };
            let report = envelope::encode(&report).unwrap_or_default();
            all.push((Topic::Coverage(device.clone()), report));
        }
        if let Some(nobody) = nobody() {
            let what = Refusable::Request(RequestId(random()));
            let tell = Tell::Refused { what, reason: RefusedReason::Gone };
            let tell = envelope::encode(&tell).unwrap_or_default();
            all.push((Topic::Tell(device.clone(), nobody), tell));
        }
        if let Some(nobody) = nobody() {
            all.push((Topic::Data(device.clone(), nobody), vec![0]));
        }
        all
    }

    fn answered(&self, greeting: Greeting) -> Finding {
        let to_do =
            "does `gapless serve` run, with this broker? What does `gapless devices` say there?";
        if let Greeting::Server { server, trip_s, behind_s } = greeting {
            let (trip, apart) = (seconds(trip_s), seconds(behind_s.abs()));
            let text = format!("{server} answers within {trip}; its clock is {apart} apart");
            return Finding::ok(text);
        }
        if !self.agent.is_alive {
            let text = match greeting {
                Greeting::NoServer => format!(
                    "no server has answered for {}: none is heard of",
                    seconds(SERVER_PATIENCE.as_secs_f64())
                ),
                _ => return Finding::skipped("not tried: the device may not listen"),
            };
            return Finding::warn(text, to_do);
        }
        let heard =
            self.agent.text("/link/server").zip(self.agent.number("/link/server_heard_s_ago"));
        match heard {
            Some((server, ago)) if ago < HEARD_LATELY_S => {
                let trip = self.agent.number("/link/round_trip_s");
                let trip = trip.map(|trip| format!(", answers within {}", seconds(trip)));
                let trip = trip.unwrap_or_default();
                Finding::ok(format!("{server}: heard by the agent {} ago{trip}", seconds(ago)))
            }
            _ if !self.agent.is_true("/link/connected") => {
                Finding::warn("the agent has no link at present", "look again when it has one")
            }
            Some((server, ago)) => {
                let text = format!("{server} has not been heard for {}", seconds(ago));
                Finding::warn(text, to_do)
            }
            None if self.agent.number("/link/since_s").is_some_and(|since| since < JUST_NOW_S) => {
                Finding::warn("the agent has just connected", "look again in a moment")
            }
            None => Finding::warn("the agent has heard no server on this link", to_do),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("no answer in time")]
    Silent,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[cfg(feature = "tls")]
    #[error("the files of [broker.tls] cannot be used")]
    Files(#[source] crate::tls::TlsError),
    #[cfg(feature = "tls")]
    #[error("the broker's name is none that a certificate can hold")]
    Name,
}

/// What came of saying that the device is there.
#[derive(Debug)]
enum Greeting {
    Server {
        server: String,
        trip_s: f64,
        behind_s: f64,
    },
    NoServer,
    /// The agent itself says so.
    NotTried,
    NotHeard(Vec<String>),
    Lost(MqttError),
}
