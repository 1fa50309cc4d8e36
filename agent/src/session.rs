//! One connection's conversation: hands what arrives to whom it is for, and what they decide to the link.
//!
//! It decides nothing itself but whom a message is for, and drops what is for nobody.

use std::collections::HashMap;
use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use protocol::dropped::{Cause, Dropped};
use protocol::envelope::{self, Message};
use protocol::frame;
use protocol::message::{
    Ask, AskBody, BootId, BootMillis, ConnectionId, DeviceLimits, Located, Network, Online,
    Presence, Refusable, RefusedReason, ServerId, Tell,
};
use protocol::topic::{Topic, device_subscriptions};
use rumqttc::Publish;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::time::TimeRange;
use tokio::sync::watch;

use crate::advertise::Advertise;
use crate::card::{Asker, Card, CardError, Command, MAX_LOCATES, PartCursor, Reply, Stores};
use crate::clock;
use crate::config::{BrokerUrl, Config};
use crate::link::{Link, LinkError, LinkEvent};
use crate::serve::{Action, Chunk, Event, PartHandle, Serve};

/// `Online` is said again so soon after connecting, as an old will may come after the first one.
const ONLINE_AGAIN_MS: u64 = 2_000;
const ONLINE_EVERY_MS: u64 = 60_000;

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

/// What outlives a connection.
pub struct Device {
    config: Config,
    boot: BootId,
    card: Card,
    serve: Serve,
    advertise: Advertise,
    /// How far each open part is read; `None` while a read of it is with the card.
    cursors: HashMap<PartHandle, Option<Box<PartCursor>>>,
    /// Whose questions are with the card.
    locating: Vec<Asker>,
    dropped: Dropped,
}

impl Device {
    pub async fn start(config: Config, stores: Stores) -> Result<Self, AgentError> {
        Ok(Device {
            boot: clock::boot_id().map_err(AgentError::BootId)?,
            card: Card::start(&config, stores).await?,
            serve: Serve::new(DeviceLimits::from(&config.limits), clock::boottime()),
            advertise: Advertise::default(),
            cursors: HashMap::new(),
            locating: Vec::new(),
            dropped: Dropped::default(),
            config,
        })
    }

    pub fn broker(&self) -> &BrokerUrl {
        &self.config.broker.url
    }

    pub async fn stop(self) {
        self.card.stop().await;
    }

    /// One connection, from the first attempt to the first error; `Ok` once `shutdown` is done.
    pub async fn connect(
        &mut self,
        shutdown: Pin<&mut impl Future<Output = ()>>,
        status: &watch::Sender<Status>,
    ) -> Result<(), Broken> {
        let connection = ConnectionId(random());
        let state = Topic::State(self.config.device.clone());
        let offline = envelope::encode(&Presence::Offline { connection });
        let offline = offline.expect("a farewell is a few bytes");
        let link = Link::open(&self.config, offline.clone())?;
        let mut session = Session { device: self, link, connection, announced: None };
        let outcome = session.converse(shutdown, status).await;
        let Session { link, .. } = session;
        if link.unsaid() > 0 {
            tracing::warn!(count = link.unsaid(), "messages were dropped: the link was too slow");
        }
        if outcome.is_ok() {
            link.close(state, offline).await;
        }
        self.advertise.link_lost();
        for action in self.serve.handle(clock::boottime(), Event::LinkLost) {
            if let Action::Close { handle, .. } = action {
                self.cursors.remove(&handle);
            }
        }
        outcome
    }

    fn drop_message(&mut self, cause: Cause, topic: &str, why: &dyn Display) {
        if let Some(count) = self.dropped.record(cause, clock::boottime().0) {
            tracing::warn!(?cause, count, topic, %why, "messages dropped");
        }
    }
}

/// When `Online` is to be said next, once the broker has accepted the connection.
#[derive(Clone, Copy)]
struct Announced {
    due: BootMillis,
    again_ms: u64,
}

struct Session<'a> {
    device: &'a mut Device,
    link: Link,
    connection: ConnectionId,
    /// `None` until the broker accepted the connection.
    announced: Option<Announced>,
}

impl Session<'_> {
    async fn converse(
        &mut self,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
        status: &watch::Sender<Status>,
    ) -> Result<(), Broken> {
        loop {
            let wait_ms = self.deadline().0.saturating_sub(clock::boottime().0);
            tokio::select! {
                event = self.link.next() => {
                    if let LinkEvent::Connected = event {
                        status.send_replace(Status::Connected);
                    }
                    self.hear(event)?;
                }
                reply = self.device.card.replies.recv() => {
                    self.take_reply(reply.ok_or(CardError::Ended)?)?;
                }
                changed = self.device.card.views.changed() => {
                    changed.map_err(|_| CardError::Ended)?;
                    let views = self.device.card.views.borrow_and_update();
                    self.device.advertise.update(clock::boottime(), &views);
                }
                () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
                () = shutdown.as_mut() => return Ok(()),
            }
            self.advance()?;
            self.link.pump()?;
        }
    }

    fn deadline(&self) -> BootMillis {
        // Coverage that is due waits for room on the link, which is an event of its own.
        let coverage = self.link.is_idle().then(|| self.device.advertise.deadline()).flatten();
        let online = self.announced.map(|announced| announced.due);
        let due = [self.device.serve.deadline(), coverage, online].into_iter().flatten().min();
        due.unwrap_or_else(|| later(clock::boottime(), ONLINE_EVERY_MS))
    }

    fn advance(&mut self) -> Result<(), CardError> {
        let now = clock::boottime();
        if let Some(Announced { again_ms, .. }) = self.announced.filter(|online| online.due <= now)
        {
            self.announced =
                Some(Announced { due: later(now, again_ms), again_ms: ONLINE_EVERY_MS });
            self.say(Topic::State(self.device.config.device.clone()), &self.online());
        }
        if self.device.serve.deadline().is_some_and(|due| due <= now) {
            self.serve(Event::Tick)?;
        }
        if self.link.is_idle() {
            if let Some(report) = self.device.advertise.next_report(now) {
                self.say(Topic::Coverage(self.device.config.device.clone()), &report);
            }
        }
        Ok(())
    }

    fn online(&self) -> Presence {
        let config = &self.device.config;
        Presence::Online(Online {
            connection: self.connection,
            boot: self.device.boot,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            limits: DeviceLimits::from(&config.limits),
            clock: clock::sample(),
            streams: config.streams.iter().map(|stream| stream.id.clone()).collect(),
            network: Network::default(),
        })
    }

    fn hear(&mut self, event: LinkEvent) -> Result<(), Broken> {
        match event {
            LinkEvent::Connected => {
                let broker = self.device.broker();
                tracing::info!(%broker, connection = self.connection.0, "connected");
                self.link.subscribe(device_subscriptions(&self.device.config.device))?;
                self.device.advertise.connected(self.connection);
                let due = clock::boottime();
                self.announced = Some(Announced { due, again_ms: ONLINE_AGAIN_MS });
            }
            LinkEvent::Message(publish) => self.hear_message(&publish)?,
            LinkEvent::DataSent => self.serve(Event::ChunkSent)?,
            LinkEvent::ControlSent => {}
            LinkEvent::Lost(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn hear_message(&mut self, publish: &Publish) -> Result<(), CardError> {
        let us = &self.device.config.device;
        let decoded = match publish.topic.parse() {
            Ok(Topic::Ask(device)) if device == *us => {
                envelope::decode(&publish.payload).map(|ask| self.obey(ask))
            }
            Ok(Topic::Credit(device)) if device == *us => {
                envelope::decode(&publish.payload).map(|credit| self.serve(Event::Credit(credit)))
            }
            _ => {
                let why = "not a topic that this device listens on";
                self.device.drop_message(Cause::Address, &publish.topic, &why);
                return Ok(());
            }
        };
        decoded.unwrap_or_else(|error| {
            self.device.drop_message(Cause::from(&error), &publish.topic, &error);
            Ok(())
        })
    }

    fn obey(&mut self, ask: Ask) -> Result<(), CardError> {
        let stale = if ask.connection != self.connection {
            Some("it was meant for an earlier connection")
        } else if ask.expires < clock::boottime() {
            Some("it has expired")
        } else {
            None
        };
        if let Some(why) = stale {
            self.device.drop_message(Cause::Stale, "ask", &why);
            return Ok(());
        }
        let server = ask.server;
        match ask.body {
            AskBody::Coverage => self.device.advertise.report_all(),
            AskBody::Locate { request, stream, range } => {
                let asker = Asker { server, connection: self.connection, request };
                return self.locate(asker, stream, range);
            }
            AskBody::Open(open) => return self.serve(Event::Open { server, open }),
            AskBody::Cancel { transfer } => return self.serve(Event::Cancel { transfer }),
            AskBody::List { request, .. } => {
                let what = Refusable::Request(request);
                self.tell(&server, &Tell::Refused { what, reason: RefusedReason::Forbidden });
            }
        }
        Ok(())
    }

    fn locate(
        &mut self,
        asker: Asker,
        stream: StreamId,
        range: TimeRange,
    ) -> Result<(), CardError> {
        let known = self.device.config.streams.iter().any(|known| known.id == stream);
        if range.is_empty() || !known {
            self.tell(&asker.server, &refused(&asker, RefusedReason::Malformed));
        } else if self.device.locating.contains(&asker) {
            // Asked again while the card is at it: one answer serves both.
        } else if self.device.locating.len() >= MAX_LOCATES {
            self.tell(&asker.server, &refused(&asker, RefusedReason::Busy));
        } else {
            self.device.locating.push(asker.clone());
            self.device.card.submit(Command::Locate { asker, stream, range })?;
        }
        Ok(())
    }

    fn take_reply(&mut self, reply: Reply) -> Result<(), CardError> {
        match reply {
            Reply::Located { asker, outcome } => {
                self.device.locating.retain(|known| *known != asker);
                if asker.connection == self.connection {
                    let located = outcome.map(|answer| {
                        Tell::Located(Located {
                            request: asker.request,
                            stream: answer.stream,
                            parts: answer.parts,
                            next: answer.next,
                        })
                    });
                    let tell = located.unwrap_or_else(|reason| refused(&asker, reason));
                    self.tell(&asker.server, &tell);
                }
                Ok(())
            }
            Reply::Read { handle, cursor, outcome } => {
                if let Some(place) = self.device.cursors.get_mut(&handle) {
                    *place = Some(cursor);
                }
                self.serve(Event::Read { handle, outcome })
            }
        }
    }

    fn serve(&mut self, event: Event) -> Result<(), CardError> {
        for action in self.device.serve.handle(clock::boottime(), event) {
            match action {
                Action::Read { handle, part, length_bytes, keep } => {
                    let place = self.device.cursors.entry(handle);
                    let place = place.or_insert_with(|| Some(Box::new(PartCursor::new(part))));
                    let cursor = place.take().expect("one read is with the card at a time");
                    let read = Command::Read { handle, cursor, length_bytes, keep };
                    self.device.card.submit(read)?;
                }
                Action::Send { server, chunk } => self.send(server, chunk),
                Action::Tell { server, tell } => self.tell(&server, &tell),
                Action::Close { handle, transfer, cause } => {
                    self.device.cursors.remove(&handle);
                    tracing::info!(transfer = transfer.0, ?cause, "transfer closed");
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, server: ServerId, chunk: Chunk) {
        let Chunk { transfer, offset, echo, mut frame, .. } = chunk;
        frame::seal(&mut frame, transfer, offset, echo)
            .expect("a chunk is neither empty nor larger than the configuration allows");
        let topic = Topic::Data(self.device.config.device.clone(), server);
        self.link.send_data(topic, frame);
    }

    fn tell(&mut self, server: &ServerId, tell: &Tell) {
        match tell {
            Tell::Accepted { transfer, length_bytes } => {
                tracing::debug!(transfer = transfer.0, length_bytes, "transfer accepted");
            }
            Tell::Refused { what, reason } => tracing::info!(?what, ?reason, %server, "refused"),
            Tell::Located(_) | Tell::Listed(_) | Tell::End { .. } => {}
        }
        self.say(Topic::Tell(self.device.config.device.clone(), server.clone()), tell);
    }

    fn say<M: Message>(&mut self, topic: Topic, message: &M) {
        match envelope::encode(message) {
            Ok(payload) => self.link.send(topic, payload),
            Err(error) => tracing::error!(%topic, %error, "a message cannot be sent"),
        }
    }
}

fn refused(asker: &Asker, reason: RefusedReason) -> Tell {
    Tell::Refused { what: Refusable::Request(asker.request), reason }
}

fn later(instant: BootMillis, ms: u64) -> BootMillis {
    BootMillis(instant.0.saturating_add(ms))
}

/// For ids that nobody may guess or repeat, and for jitter.
pub fn random() -> u64 {
    getrandom::u64().expect("Linux gives random numbers once it has booted")
}
