//! One connection of a device: carries what happens to its [`Conversation`], and the decisions out.
//!
//! It decides nothing, and keeps nothing but how far each open part was read.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use protocol::message::{BootId, ConnectionId, DeviceLimits};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::card::{Card, CardError, Command, PartCursor, Reply, Stores};
use crate::clock;
use crate::config::{BrokerUrl, Config};
use crate::conversation::{Action, Conversation, Event, Fact, PartHandle, Profile};
use crate::diagnosis::Desk;
use crate::heartbeat::{BEAT_EVERY, Heartbeat};
use crate::link::{Link, LinkError, LinkEvent};
use crate::network;

/// What ends a connection before the agent is told to stop.
#[derive(Debug)]
pub enum Broken {
    Link(LinkError),
    Agent(AgentError),
}

impl From<LinkError> for Broken {
    fn from(error: LinkError) -> Self {
        Broken::Link(error)
    }
}

impl From<CardError> for Broken {
    fn from(error: CardError) -> Self {
        Broken::Agent(error.into())
    }
}

/// What ends an agent. A lost link does not: another one is made.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("cannot read the boot id")]
    BootId(#[source] std::io::Error),
    #[error(transparent)]
    Card(#[from] CardError),
}

/// What a supervisor may show of an agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// The index takes over what its log says.
    Starting,
    /// No broker; it is tried again and again.
    Disconnected,
    Connected,
}

/// How an agent is, for a supervisor to watch.
#[derive(Clone, Debug)]
pub struct Vitals {
    pub status: watch::Sender<Status>,
    pub heartbeat: Arc<Heartbeat>,
}

impl Default for Vitals {
    fn default() -> Self {
        Vitals { status: watch::Sender::new(Status::Starting), heartbeat: Arc::default() }
    }
}

/// What outlives a connection.
pub struct Device {
    config: Config,
    card: Card,
    conversation: Conversation,
    /// How far each open part is read; `None` while a read of it is with the card.
    cursors: HashMap<PartHandle, Option<Box<PartCursor>>>,
    desk: Desk,
}

impl Device {
    pub async fn start(
        config: Config,
        stores: Stores,
        desk: Desk,
        heartbeat: Arc<Heartbeat>,
    ) -> Result<Self, AgentError> {
        let boot = clock::boot_id().map_err(AgentError::BootId)?;
        let card = Card::start(&config, stores, desk.clone(), heartbeat).await?;
        desk.shows(card.views.clone());
        Ok(Device {
            card,
            desk,
            conversation: Conversation::new(profile(&config, boot), clock::boottime()),
            cursors: HashMap::new(),
            config,
        })
    }

    pub fn broker(&self) -> &BrokerUrl {
        &self.config.broker.url
    }

    pub async fn stop(self) {
        self.card.stop().await;
    }

    /// Between two connections. What was dropped so far stays counted.
    pub fn reconfigure(&mut self, config: Config) {
        let boot = self.conversation.boot();
        self.conversation.reconfigure(profile(&config, boot), clock::boottime());
        self.card.reconfigure(&config);
        self.config = config;
    }

    /// One connection, from the first attempt to the first error; `Ok` once `shutdown` is done.
    pub async fn connect(
        &mut self,
        shutdown: Pin<&mut impl Future<Output = ()>>,
        vitals: &Vitals,
    ) -> Result<(), Broken> {
        let connection = ConnectionId(random());
        let (state, offline) = self.conversation.farewell(connection);
        self.desk.tries(self.broker());
        let link = Link::open(&self.config, offline.clone())?;
        let (broker, search) = (None, JoinSet::new());
        let mut session = Session { device: self, link, connection, broker, search };
        let outcome = session.converse(shutdown, vitals).await;
        let parted = session.happened(Event::LinkLost);
        let Session { link, .. } = session;
        if outcome.is_ok() {
            link.close(state, offline).await;
        }
        outcome.and(parted)
    }
}

fn profile(config: &Config, boot: BootId) -> Profile {
    Profile {
        device: config.device.clone(),
        boot,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        limits: DeviceLimits::from(&config.limits),
        permit: config.serve.clone(),
        streams: config.streams.iter().map(|stream| stream.id.clone()).collect(),
    }
}

struct Session<'a> {
    device: &'a mut Device,
    link: Link,
    connection: ConnectionId,
    /// Where the broker is, once that was found out; asked for once on a connection.
    broker: Option<SocketAddr>,
    search: JoinSet<Option<SocketAddr>>,
}

impl Session<'_> {
    async fn converse(
        &mut self,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
        vitals: &Vitals,
    ) -> Result<(), Broken> {
        loop {
            vitals.heartbeat.task_goes_on();
            self.device.desk.goes_on(&self.device.conversation);
            let wait = self.wait();
            tokio::select! {
                event = self.link.next() => self.hear(event, vitals)?,
                reply = self.device.card.replies.recv() => {
                    self.take_reply(reply.ok_or(CardError::Ended)?)?;
                }
                changed = self.device.card.views.changed() => {
                    changed.map_err(|_| CardError::Ended)?;
                    let views = self.device.card.views.borrow_and_update();
                    let event = Event::Views(&views);
                    let actions = self.device.conversation.handle(clock::sample(), event);
                    drop(views);
                    self.carry_out(actions)?;
                }
                Some(found) = self.search.join_next() => {
                    self.broker = found.ok().flatten();
                    self.look_at_network()?;
                }
                () = tokio::time::sleep(wait) => self.happened(Event::Tick)?,
                () = shutdown.as_mut() => return Ok(()),
            }
        }
    }

    /// Until time alone changes something, if only that a heartbeat is due.
    fn wait(&self) -> Duration {
        let now = clock::boottime();
        let due = self.device.conversation.deadline();
        let due = due.map(|due| Duration::from_millis(due.0.saturating_sub(now.0)));
        due.map_or(BEAT_EVERY, |due| due.min(BEAT_EVERY))
    }

    fn hear(&mut self, event: LinkEvent, vitals: &Vitals) -> Result<(), Broken> {
        match event {
            LinkEvent::Connected => {
                vitals.status.send_replace(Status::Connected);
                self.device.desk.connected();
                self.happened(Event::Connected { connection: self.connection })
            }
            LinkEvent::Message(publish) => {
                let (topic, payload) = (&publish.topic[..], &publish.payload[..]);
                self.device.desk.heard(topic, payload);
                self.happened(Event::Message { topic, payload })
            }
            LinkEvent::DataSent => self.happened(Event::ChunkSent),
            LinkEvent::ControlSent => self.happened(Event::ControlSent),
            LinkEvent::Lost(error) => Err(error.into()),
        }
    }

    fn take_reply(&mut self, reply: Reply) -> Result<(), Broken> {
        match reply {
            Reply::Answered { asker, outcome } => self.happened(Event::Answered { asker, outcome }),
            Reply::Read { handle, cursor, outcome } => {
                if let Some(place) = self.device.cursors.get_mut(&handle) {
                    *place = Some(cursor);
                }
                self.happened(Event::Read { handle, outcome })
            }
        }
    }

    fn search_broker(&mut self) {
        if self.search.is_empty() {
            let url = self.device.broker().clone();
            self.search.spawn(async move { network::find(&url).await });
        }
    }

    fn look_at_network(&mut self) -> Result<(), Broken> {
        let network = network::look(self.broker, &self.device.config.network.link);
        self.device.desk.reached_over(&network);
        tracing::debug!(link = network.link, address = ?network.address, "network");
        self.happened(Event::Network(network))
    }

    fn happened(&mut self, event: Event<'_>) -> Result<(), Broken> {
        let actions = self.device.conversation.handle(clock::sample(), event);
        self.carry_out(actions)
    }

    fn carry_out(&mut self, actions: Vec<Action>) -> Result<(), Broken> {
        for action in actions {
            match action {
                Action::Subscribe(filters) => self.link.subscribe(filters)?,
                Action::Publish { topic, payload }
                | Action::SendChunk { topic, frame: payload } => {
                    self.device.desk.said(&topic, &payload);
                    self.link.publish(topic, payload)?;
                }
                Action::LookAtNetwork if self.broker.is_some() => self.look_at_network()?,
                Action::LookAtNetwork => self.search_broker(),
                Action::Ask { asker, question } => {
                    self.device.card.submit(Command::Ask { asker, question })?;
                }
                Action::Read { handle, part, length_bytes, keep } => {
                    let place = self.device.cursors.entry(handle);
                    let place = place.or_insert_with(|| Some(Box::new(PartCursor::new(part))));
                    let cursor = place.take().expect("one read is with the card at a time");
                    let read = Command::Read { handle, cursor, length_bytes, keep };
                    self.device.card.submit(read)?;
                }
                Action::Close { handle } => drop(self.device.cursors.remove(&handle)),
                Action::LearnTime(told) => {
                    self.device.desk.told_time(&told);
                    self.device.card.learn_time(told);
                }
                Action::Note(fact) => {
                    self.device.desk.note(&fact);
                    log(&fact, self.device.broker());
                }
            }
        }
        Ok(())
    }
}

fn log(fact: &Fact, broker: &BrokerUrl) {
    match fact {
        Fact::Connected { connection } => {
            tracing::info!(%broker, connection = connection.0, "connected");
        }
        Fact::Dropped { cause, count, topic, why } => {
            tracing::warn!(?cause, count, topic, %why, "messages dropped");
        }
        Fact::Accepted { transfer, length_bytes } => {
            tracing::debug!(transfer = transfer.0, length_bytes, "transfer accepted");
        }
        Fact::Refused { server, what, reason } => {
            tracing::info!(?what, ?reason, %server, "refused");
        }
        Fact::Closed { transfer, cause } => {
            tracing::info!(transfer = transfer.0, ?cause, "transfer closed");
        }
        Fact::CannotSay { topic, why } => tracing::error!(%topic, %why, "a message cannot be sent"),
        Fact::Unsaid { count } => {
            tracing::warn!(count, "messages were dropped: the link was too slow");
        }
    }
}

/// For ids that nobody may guess or repeat, and for jitter.
pub fn random() -> u64 {
    getrandom::u64().expect("Linux gives random numbers once it has booted")
}
