//! What a device says on its connections, and what it does about what it hears.
//!
//! Pure: it takes [`Event`]s and the device's clocks, and returns [`Action`]s in the order in which they are
//! to be carried out. It touches no socket, card, clock or file and needs no runtime, so that it can be run
//! against simulated ones; in an agent, `session` carries its decisions out.
//!
//! A driver owes it:
//! - an [`Event::Network`] after [`Action::LookAtNetwork`]; one may answer several;
//! - one [`Event::ControlSent`] for each [`Action::Subscribe`] and [`Action::Publish`], and one
//!   [`Event::ChunkSent`] for each [`Action::SendChunk`], once these left the MQTT client; none of them after
//!   an [`Event::LinkLost`], which comes before the next [`Event::Connected`];
//! - one [`Event::Answered`] for each [`Action::Ask`] and one [`Event::Read`] for each [`Action::Read`], also
//!   where the link was lost in between;
//! - any event, [`Event::Tick`] for want of another, when [`Conversation::deadline`] has passed.

mod outbox;
mod questions;

use std::time::Duration;

use protocol::dropped::{Cause, Dropped};
use protocol::envelope::{self, Message};
use protocol::frame;
use protocol::message::{
    Ask, AskBody, BootId, BootMillis, ClockSample, ConnectionId, DeviceId, DeviceLimits, Network,
    Online, Presence, Refusable, RefusedReason, ServerId, ServerTime, Tell, TransferId,
};
use protocol::topic::{Topic, device_subscriptions};
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::time::Timestamp;

use crate::advertise::Advertise;
use crate::permit::Permit;
use crate::serve::{self, Chunk, Serve};

pub use crate::advertise::{Standing, Views};
pub use crate::serve::{CloseCause, PartBytes, PartHandle, PartRead, TransferStanding};
pub use questions::{Answer, Asker, MAX_QUESTIONS, Question, Wanted};

pub(crate) use outbox::MAX_IN_CLIENT;
use outbox::{Outbox, Outgoing};
use questions::{Asked, Questions};

/// `Online` is said again so soon after connecting, as an old will may come after the first one.
const ONLINE_AGAIN_MS: u64 = 2_000;
const ONLINE_EVERY_MS: u64 = 60_000;

/// What a device is, for as long as its agent runs.
#[derive(Clone, Debug)]
pub struct Profile {
    pub device: DeviceId,
    pub boot: BootId,
    pub agent_version: String,
    pub limits: DeviceLimits,
    /// What servers may have of it.
    pub permit: Permit,
    pub streams: Vec<StreamId>,
}

#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The broker has accepted a connection, whose last will is [`Conversation::farewell`] with the same id.
    Connected {
        connection: ConnectionId,
    },
    /// The answer to [`Action::LookAtNetwork`].
    Network(Network),
    Message {
        topic: &'a str,
        payload: &'a [u8],
    },
    /// What was to be subscribed or published left the MQTT client: there is room for more.
    ControlSent,
    /// The chunk of the last [`Action::SendChunk`] left the MQTT client.
    ChunkSent,
    /// The answer to [`Action::Ask`].
    Answered {
        asker: Asker,
        outcome: Result<Answer, RefusedReason>,
    },
    /// The answer to [`Action::Read`].
    Read {
        handle: PartHandle,
        outcome: Result<PartRead, RefusedReason>,
    },
    /// What the card holds is not what it was; all streams stand in it.
    Views(&'a Views),
    /// Nothing but time passed.
    Tick,
    /// Whatever was with the MQTT client is lost. The next connection gets another id.
    LinkLost,
}

/// What time it was, to within `error`, by the word of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ToldTime {
    pub at: BootMillis,
    pub utc: Timestamp,
    pub error: Duration,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Filters, each with its quality of service.
    Subscribe([(String, u8); 2]),
    /// Hand a control message to the MQTT client, with the quality of service of its topic; a state is
    /// retained, and nothing else is.
    Publish { topic: Topic, payload: Vec<u8> },
    /// Hand data to the MQTT client, behind what it was handed before.
    SendChunk { topic: Topic, frame: Vec<u8> },
    /// Find out over what the broker is reached; upon the answer, `Online` is said.
    LookAtNetwork,
    /// Ask the card.
    Ask { asker: Asker, question: Question },
    /// Read the next `length_bytes` of the part, from its start at the first read of a handle; hash them,
    /// and hand them back only where `keep` says so.
    Read { handle: PartHandle, part: PartBytes, length_bytes: u64, keep: bool },
    /// What was held for the handle can go; a read of it that is under way is answered all the same.
    Close { handle: PartHandle },
    /// Tell the index.
    LearnTime(ToldTime),
    /// Nothing is to be done: for a log.
    Note(Fact),
}

/// What is worth telling a person who looks after the device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    Connected {
        connection: ConnectionId,
    },
    /// So many messages since the last fact of this cause; `topic` and `why` are the last one's.
    Dropped {
        cause: Cause,
        count: u64,
        topic: String,
        why: String,
    },
    Accepted {
        transfer: TransferId,
        length_bytes: u64,
    },
    Refused {
        server: ServerId,
        what: Refusable,
        reason: RefusedReason,
    },
    Closed {
        transfer: TransferId,
        cause: CloseCause,
    },
    /// A message of ours is larger than any may be.
    CannotSay {
        topic: Topic,
        why: String,
    },
    /// So many messages found no room on the connection that is lost.
    Unsaid {
        count: u64,
    },
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    /// `Online` was said, without which nobody knows whose coverage is told.
    announced: bool,
    /// When to look at the network, and so to say `Online` again.
    look_at: BootMillis,
    again_ms: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Conversation {
    profile: Profile,
    connection: Option<Connection>,
    serve: Serve,
    advertise: Advertise,
    questions: Questions,
    outbox: Outbox,
    dropped: Dropped,
    /// The server whose ask was last obeyed, and when.
    heard: Option<(ServerId, BootMillis)>,
    /// Of the event that is being handled.
    now: BootMillis,
    actions: Vec<Action>,
}

impl Conversation {
    pub fn new(profile: Profile, now: BootMillis) -> Self {
        Conversation {
            serve: Serve::new(profile.limits, now),
            profile,
            connection: None,
            advertise: Advertise::default(),
            questions: Questions::default(),
            outbox: Outbox::default(),
            dropped: Dropped::default(),
            heard: None,
            now,
            actions: Vec::new(),
        }
    }

    /// What is to be published last on a connection: by its end if that is foreseen, else as the last will.
    pub fn farewell(&self, connection: ConnectionId) -> (Topic, Vec<u8>) {
        let offline = envelope::encode(&Presence::Offline { connection });
        let offline = offline.expect("a farewell is a few bytes");
        (Topic::State(self.profile.device.clone()), offline)
    }

    pub fn handle(&mut self, now: ClockSample, event: Event<'_>) -> Vec<Action> {
        let clock = now;
        let now = clock.boottime;
        self.now = now;
        match event {
            Event::Connected { connection } => self.connected(now, connection),
            Event::Network(network) => self.announce(clock, network),
            Event::Message { topic, payload } => self.hear(now, topic, payload),
            Event::ControlSent => self.outbox.control_sent(),
            Event::ChunkSent => self.serve(now, serve::Event::ChunkSent),
            Event::Answered { asker, outcome } => self.answered(&asker, outcome),
            Event::Read { handle, outcome } => {
                self.serve(now, serve::Event::Read { handle, outcome });
            }
            Event::Views(views) => self.advertise.update(now, views),
            Event::Tick => {}
            Event::LinkLost => self.link_lost(now),
        }
        self.advance(now);
        std::mem::take(&mut self.actions)
    }

    /// When an event is due at the latest; `None` while nothing waits for time to pass.
    pub fn deadline(&self) -> Option<BootMillis> {
        let connection = self.connection.as_ref();
        let online = connection.map(|connection| connection.look_at);
        // Coverage that is due waits for room in the client, which is an event of its own.
        let may_report = self.may_report();
        let coverage = may_report.then(|| self.advertise.deadline()).flatten();
        [self.serve.deadline(), coverage, online].into_iter().flatten().min()
    }

    /// What was dropped of all that was heard.
    pub fn dropped(&self) -> &Dropped {
        &self.dropped
    }

    /// The server whose ask was last obeyed, and when.
    pub fn heard(&self) -> Option<&(ServerId, BootMillis)> {
        self.heard.as_ref()
    }

    /// What is being served, and what was a moment ago.
    pub fn transfers(&self) -> impl Iterator<Item = TransferStanding> {
        self.serve.transfers()
    }

    pub fn boot(&self) -> BootId {
        self.profile.boot
    }

    /// Goes on as another device, or the same one with other limits, from the next connection on: there is none now.
    pub fn reconfigure(&mut self, profile: Profile, now: BootMillis) {
        self.serve.set_limits(profile.limits, now);
        self.profile = profile;
    }

    fn connected(&mut self, now: BootMillis, id: ConnectionId) {
        self.note(Fact::Connected { connection: id });
        self.outbox.subscribed();
        self.actions.push(Action::Subscribe(device_subscriptions(&self.profile.device)));
        self.advertise.connected(id);
        self.connection =
            Some(Connection { id, announced: false, look_at: now, again_ms: ONLINE_AGAIN_MS });
    }

    fn link_lost(&mut self, now: BootMillis) {
        self.connection = None;
        self.advertise.link_lost();
        self.serve(now, serve::Event::LinkLost);
        match self.outbox.link_lost() {
            0 => {}
            count => self.note(Fact::Unsaid { count }),
        }
    }

    /// Does what time and room allow: the one place where `Online` and coverage are said.
    fn advance(&mut self, now: BootMillis) {
        if let Some(connection) = self.connection.as_mut().filter(|known| known.look_at <= now) {
            connection.look_at = later(now, connection.again_ms);
            connection.again_ms = ONLINE_EVERY_MS;
            self.actions.push(Action::LookAtNetwork);
        }
        if self.serve.deadline().is_some_and(|due| due <= now) {
            self.serve(now, serve::Event::Tick);
        }
        while self.may_report() {
            let Some(report) = self.advertise.next_report(now) else { break };
            self.say(Topic::Coverage(self.profile.device.clone()), &report);
        }
        while let Some(outgoing) = self.outbox.next() {
            self.actions.push(match outgoing {
                Outgoing::Control { topic, payload } => Action::Publish { topic, payload },
                Outgoing::Chunk { topic, frame } => Action::SendChunk { topic, frame },
            });
        }
    }

    /// Coverage can be told later: it is told once nothing else waits.
    fn may_report(&self) -> bool {
        let announced = self.connection.as_ref().is_some_and(|connection| connection.announced);
        announced && self.outbox.has_room()
    }

    fn announce(&mut self, clock: ClockSample, network: Network) {
        // Asked for by a connection that is gone, where there is none.
        let Some(connection) = &mut self.connection else { return };
        connection.announced = true;
        let Profile { device, boot, agent_version, limits, streams, .. } = &self.profile;
        let online = Online {
            connection: connection.id,
            boot: *boot,
            agent_version: agent_version.clone(),
            limits: *limits,
            clock,
            streams: streams.clone(),
            network,
        };
        self.say(Topic::State(device.clone()), &Presence::Online(online));
    }

    fn hear(&mut self, now: BootMillis, topic: &str, payload: &[u8]) {
        let us = &self.profile.device;
        let decoded = match topic.parse() {
            Ok(Topic::Ask(device)) if device == *us => {
                envelope::decode(payload).map(|ask| self.obey(now, ask))
            }
            Ok(Topic::Credit(device)) if device == *us => envelope::decode(payload)
                .map(|credit| self.serve(now, serve::Event::Credit(credit))),
            _ => {
                let why = "not a topic that this device listens on";
                return self.drop_message(now, Cause::Address, topic, why.to_owned());
            }
        };
        if let Err(error) = decoded {
            self.drop_message(now, Cause::from(&error), topic, error.to_string());
        }
    }

    fn obey(&mut self, now: BootMillis, ask: Ask) {
        let Ask { server, connection, expires, body } = ask;
        let current = self.connection.as_ref().is_some_and(|current| current.id == connection);
        let stale = if !current {
            Some("it was meant for an earlier connection")
        } else if expires < now {
            Some("it has expired")
        } else {
            None
        };
        if let Some(why) = stale {
            return self.drop_message(now, Cause::Stale, "ask", why.to_owned());
        }
        if !self.profile.permit.hears(&server) {
            return self.deny(now, &server, &body);
        }
        self.heard = Some((server.clone(), now));
        match body {
            AskBody::Coverage => self.advertise.report_all(),
            AskBody::Locate { request, stream, range } => {
                let asker = Asker { server, connection, request };
                self.ask(asker, Question { wanted: Wanted::Parts, stream, range });
            }
            AskBody::List { request, stream, range } => {
                let asker = Asker { server, connection, request };
                self.ask(asker, Question { wanted: Wanted::Segments, stream, range });
            }
            AskBody::Open(open) => self.serve(now, serve::Event::Open { server, open }),
            AskBody::Cancel { transfer } => self.serve(now, serve::Event::Cancel { transfer }),
            AskBody::Time(ServerTime { sampled, utc }) => self.learn_time(now, sampled, utc),
        }
    }

    /// To a server that the device's own policy does not name.
    fn deny(&mut self, now: BootMillis, server: &ServerId, body: &AskBody) {
        let what = match body {
            AskBody::Locate { request, .. } | AskBody::List { request, .. } => {
                Refusable::Request(*request)
            }
            AskBody::Open(open) => Refusable::Transfer(open.transfer),
            AskBody::Coverage | AskBody::Cancel { .. } | AskBody::Time(_) => {
                let why = format!("[serve] servers does not name {server}");
                return self.drop_message(now, Cause::Forbidden, "ask", why);
            }
        };
        self.tell(server, &Tell::Refused { what, reason: RefusedReason::Forbidden });
    }

    /// Somewhere between the sample and now it was this time; in the middle, it is best known.
    fn learn_time(&mut self, now: BootMillis, sampled: BootMillis, utc: Timestamp) {
        let Some(passed_ms) = now.0.checked_sub(sampled.0) else { return };
        // A clock of milliseconds shows up to one too few at either end.
        let at_most = Duration::from_millis(passed_ms / 2 + 1);
        let at = BootMillis(sampled.0 + passed_ms / 2);
        self.actions.push(Action::LearnTime(ToldTime { at, utc, error: at_most }));
    }

    fn ask(&mut self, asker: Asker, question: Question) {
        if question.range.is_empty() || !self.profile.streams.contains(&question.stream) {
            return self.tell(&asker.server, &asker.refused(RefusedReason::Malformed));
        }
        if !self.profile.permit.serves(&question.stream) {
            return self.tell(&asker.server, &asker.refused(RefusedReason::Forbidden));
        }
        match self.questions.ask(&asker, &question) {
            Asked::Now => self.actions.push(Action::Ask { asker, question }),
            // One answer serves both.
            Asked::Before => {}
            Asked::TooMuch => self.tell(&asker.server, &asker.refused(RefusedReason::Busy)),
        }
    }

    fn answered(&mut self, asker: &Asker, outcome: Result<Answer, RefusedReason>) {
        let Some(question) = self.questions.answered(asker) else { return };
        if self.connection.as_ref().is_some_and(|current| current.id == asker.connection) {
            let tell = match outcome {
                Ok(answer) => answer.told(asker, question.stream),
                Err(reason) => asker.refused(reason),
            };
            self.tell(&asker.server, &tell);
        }
    }

    fn serve(&mut self, now: BootMillis, event: serve::Event) {
        for action in self.serve.handle(now, event) {
            match action {
                serve::Action::Read { handle, part, length_bytes, keep } => {
                    self.actions.push(Action::Read { handle, part, length_bytes, keep });
                }
                serve::Action::Send { server, chunk } => self.send(server, chunk),
                serve::Action::Tell { server, tell } => self.tell(&server, &tell),
                serve::Action::Close { handle, transfer, cause } => {
                    self.actions.push(Action::Close { handle });
                    self.note(Fact::Closed { transfer, cause });
                }
            }
        }
    }

    fn send(&mut self, server: ServerId, chunk: Chunk) {
        let Chunk { transfer, offset, echo, mut frame, .. } = chunk;
        frame::seal(&mut frame, transfer, offset, echo)
            .expect("a chunk is neither empty nor larger than the limits allow");
        self.outbox.send(Topic::Data(self.profile.device.clone(), server), frame);
    }

    fn tell(&mut self, server: &ServerId, tell: &Tell) {
        match *tell {
            Tell::Accepted { transfer, length_bytes } => {
                self.note(Fact::Accepted { transfer, length_bytes });
            }
            Tell::Refused { what, reason } => {
                if reason == RefusedReason::Forbidden {
                    // The line that this asks for is the fact below.
                    self.dropped.record(Cause::Forbidden, self.now.0);
                }
                self.note(Fact::Refused { server: server.clone(), what, reason });
            }
            Tell::Located(_) | Tell::Listed(_) | Tell::End { .. } => {}
        }
        self.say(Topic::Tell(self.profile.device.clone(), server.clone()), tell);
    }

    fn say<M: Message>(&mut self, topic: Topic, message: &M) {
        match envelope::encode(message) {
            Ok(payload) => self.outbox.say(topic, payload),
            Err(error) => self.note(Fact::CannotSay { topic, why: error.to_string() }),
        }
    }

    fn drop_message(&mut self, now: BootMillis, cause: Cause, topic: &str, why: String) {
        if let Some(count) = self.dropped.record(cause, now.0) {
            self.note(Fact::Dropped { cause, count, topic: topic.to_owned(), why });
        }
    }

    fn note(&mut self, fact: Fact) {
        self.actions.push(Action::Note(fact));
    }
}

fn later(instant: BootMillis, ms: u64) -> BootMillis {
    BootMillis(instant.0.saturating_add(ms))
}

#[cfg(test)]
mod tests;
