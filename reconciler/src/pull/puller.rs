//! All transfers of this server: numbered, routed between devices and the spool, and told about.
//!
//! Pure, as the [`engine`] of each of them is. It decides nothing about a transfer but which
//! share of the broker's patience it gets.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use protocol::dropped::Cause;
use protocol::envelope::{self, EncodeError};
use protocol::frame::Data;
use protocol::message::{
    Ask, AskBody, DeviceId, PartDigest, Refusable, ServerId, Tell, TransferId,
};
use protocol::topic::Topic;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::MonotonicMicros;
use super::engine::{self, Engine, Failure, Outcome, PartJob};
use super::spooler::{SpoolJob, SpoolResult};
use super::window::Window;
use crate::fleet::{Session, StreamKey};
use crate::ledger::{PartId, PartRecord, Traffic};
use crate::link::{Inbound, Outbound, Unusable};

/// Chunks under way over all devices: brokers drop silently above 1,000 queued.
const BROKER_BUDGET_CHUNKS: u32 = 500;
/// An order to open is void after this long on the device's own clock.
const OPEN_EXPIRY: Duration = Duration::from_secs(10);

/// How a part is to be pulled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pace {
    /// On the device, higher goes first, strictly.
    pub priority: u8,
    /// 0: as fast as the link allows.
    pub bytes_per_second: u64,
}

/// What the reconciler orders.
#[derive(Clone, Debug)]
pub enum PullCommand {
    /// The device is there, on this connection; or is not.
    Session { device: DeviceId, session: Option<Session> },
    /// Pull this part, from where its spool file ends.
    Start { record: Box<PartRecord>, pace: Pace },
    /// From now on at this pace.
    Pace { part: PartId, pace: Pace },
    /// Let go of the part; what has come of it stays in the spool.
    Pause { part: PartId },
}

/// What the reconciler is told.
#[derive(Clone, Debug)]
pub enum PullEvent {
    /// An answer to one of the reconciler's own questions.
    Answer {
        device: DeviceId,
        tell: Tell,
    },
    Progress {
        key: StreamKey,
        part: PartId,
        durable_bytes: u64,
        length_bytes: u64,
    },
    /// All bytes are durable in the spool. The digests are still to be compared.
    Pulled {
        key: StreamKey,
        part: PartId,
        card_digest: PartDigest,
        spool_digest: [u8; 32],
        traffic: Traffic,
    },
    /// The device will not give the rest; this much is in the spool.
    Lost {
        key: StreamKey,
        part: PartId,
        failure: Failure,
        durable_bytes: u64,
        traffic: Traffic,
    },
    /// The spool could not be written: the part is to be started again once there is room.
    SpoolFailed {
        key: StreamKey,
        part: PartId,
        error: String,
    },
    /// As ordered.
    Paused {
        key: StreamKey,
        part: PartId,
        traffic: Traffic,
    },
}

#[derive(Clone, Debug)]
pub enum Input {
    Command(PullCommand),
    Inbound(Inbound),
    Spooled(SpoolResult),
    /// The time of [`Puller::next_deadline`] has come.
    Tick,
}

#[derive(Debug)]
pub enum Action {
    Publish(Outbound),
    Spool(SpoolJob),
    Say(PullEvent),
}

/// See the [module](self).
#[derive(Debug)]
pub struct Puller {
    server: ServerId,
    parts: BTreeMap<PartId, Active>,
    transfers: HashMap<TransferId, PartId>,
    sessions: BTreeMap<DeviceId, Session>,
    /// What was learned of each device's link.
    windows: BTreeMap<DeviceId, Window>,
    unusable: Unusable,
    random: StdRng,
    now: MonotonicMicros,
    actions: Vec<Action>,
}

#[derive(Debug)]
struct Active {
    key: StreamKey,
    start: u64,
    end: u64,
    job: PartJob,
    /// `None` while the spool file is being opened.
    engine: Option<Engine>,
    card_digest: Option<PartDigest>,
}

impl Active {
    fn traffic(&self) -> Traffic {
        let counters = self.engine.as_ref().map(Engine::counters).unwrap_or_default();
        Traffic {
            received_bytes: counters.received_bytes,
            discarded_bytes: counters.discarded_bytes,
        }
    }
}

impl Puller {
    /// `random` must be seeded differently in each process: transfer ids come from it.
    pub fn new(server: ServerId, random: StdRng) -> Self {
        Puller {
            server,
            parts: BTreeMap::new(),
            transfers: HashMap::new(),
            sessions: BTreeMap::new(),
            windows: BTreeMap::new(),
            unusable: Unusable::default(),
            random,
            now: MonotonicMicros::default(),
            actions: Vec::new(),
        }
    }

    /// Takes what happened, and answers what is to be done about it, in this order.
    pub fn handle(&mut self, input: Input, now: MonotonicMicros) -> Vec<Action> {
        self.now = now;
        self.unusable.at(now);
        match input {
            Input::Command(command) => self.command(command),
            Input::Inbound(inbound) => self.hear(inbound),
            Input::Spooled(result) => self.spooled(result),
            Input::Tick => self.tick(),
        }
        std::mem::take(&mut self.actions)
    }

    /// When to call again with [`Input::Tick`], if nothing else happens before; it changes with each input.
    pub fn next_deadline(&self) -> Option<MonotonicMicros> {
        let engines = self.parts.values().filter_map(|active| active.engine.as_ref());
        engines.filter_map(Engine::next_deadline).min()
    }

    fn tick(&mut self) {
        let due = self.parts.iter().filter_map(|(part, active)| {
            let deadline = active.engine.as_ref()?.next_deadline()?;
            (deadline <= self.now).then_some(*part)
        });
        for part in due.collect::<Vec<_>>() {
            self.drive(part, engine::Event::Tick);
        }
    }

    // ---- orders ----------------------------------------------------------------------------------

    fn command(&mut self, command: PullCommand) {
        match command {
            PullCommand::Session { device, session } => {
                let event = session.as_ref().map_or(engine::Event::Offline, online);
                match session {
                    Some(session) => self.sessions.insert(device.clone(), session),
                    None => self.sessions.remove(&device),
                };
                let of_device = self.parts.iter().filter(|(_, active)| active.key.device == device);
                for part in of_device.map(|(part, _)| *part).collect::<Vec<_>>() {
                    self.drive(part, event.clone());
                }
            }
            PullCommand::Start { record, pace } => self.start(*record, pace),
            PullCommand::Pace { part, pace } => self.pace(part, pace),
            PullCommand::Pause { part } => self.pause(part),
        }
    }

    fn start(&mut self, record: PartRecord, pace: Pace) {
        let PartRecord { id, key, part, .. } = record;
        let job = PartJob {
            segment: part.segment,
            version: part.version,
            start: part.start,
            end: part.end,
            durable: part.start,
            priority: pace.priority,
            rate_bytes_per_second: pace.bytes_per_second,
        };
        let active =
            Active { key, start: part.start, end: part.end, job, engine: None, card_digest: None };
        self.parts.insert(id, active);
        self.spool(SpoolJob::Open { part: id, start: part.start, end: part.end });
        self.share_budget();
    }

    fn pace(&mut self, part: PartId, pace: Pace) {
        let Some(active) = self.parts.get_mut(&part) else { return };
        active.job.priority = pace.priority;
        active.job.rate_bytes_per_second = pace.bytes_per_second;
        self.drive(part, engine::Event::Rate { bytes_per_second: pace.bytes_per_second });
    }

    fn pause(&mut self, part: PartId) {
        let Some(active) = self.parts.get(&part) else { return };
        match active.engine {
            Some(_) => self.drive(part, engine::Event::Cancel),
            None => self.paused(part),
        }
    }

    fn paused(&mut self, part: PartId) {
        self.spool(SpoolJob::Close { part });
        if let Some((active, traffic)) = self.remove(part) {
            self.say(PullEvent::Paused { key: active.key, part, traffic });
        }
    }

    /// Splits what the broker may hold evenly.
    fn share_budget(&mut self) {
        let among = u32::try_from(self.parts.len()).unwrap_or(u32::MAX).max(1);
        let chunks = (BROKER_BUDGET_CHUNKS / among).max(1);
        for part in self.parts.keys().copied().collect::<Vec<_>>() {
            self.drive(part, engine::Event::Share { chunks });
        }
    }

    // ---- the device ------------------------------------------------------------------------------

    fn hear(&mut self, inbound: Inbound) {
        let Inbound::Message { topic, payload } = inbound else { return };
        let Some(topic) = self.unusable.address(&topic) else { return };
        match &topic {
            Topic::Data(device, _) => self.data(device, &topic, &payload),
            Topic::Tell(device, _) => {
                if let Some(tell) = self.unusable.decode::<Tell>(&topic, &payload) {
                    self.told(device.clone(), tell);
                }
            }
            topic => self.unusable.drop(Cause::Address, topic, &"not about a transfer"),
        }
    }

    fn data(&mut self, device: &DeviceId, topic: &Topic, payload: &Bytes) {
        let data = match Data::decode(payload) {
            Ok(data) => data,
            Err(error) => {
                self.unusable.drop(Cause::from(&error), topic, &error);
                return;
            }
        };
        let Some(part) = self.part_of(device, data.transfer) else {
            self.unusable.drop(Cause::Stale, topic, &"data of a transfer that is over");
            return;
        };
        let event = engine::Event::Data {
            transfer: data.transfer,
            offset: data.offset,
            echo: MonotonicMicros(data.echo),
            payload: payload.slice_ref(data.payload),
        };
        self.drive(part, event);
    }

    fn told(&mut self, device: DeviceId, tell: Tell) {
        let (transfer, event) = match tell {
            Tell::Accepted { transfer, .. } => (transfer, engine::Event::Accepted { transfer }),
            Tell::End { transfer, digest } => (transfer, engine::Event::End { transfer, digest }),
            Tell::Refused { what: Refusable::Transfer(transfer), reason } => {
                (transfer, engine::Event::Refused { transfer, reason })
            }
            tell @ (Tell::Located(_) | Tell::Listed(_) | Tell::Refused { .. }) => {
                return self.say(PullEvent::Answer { device, tell });
            }
        };
        if let Some(part) = self.part_of(&device, transfer) {
            self.drive(part, event);
        }
    }

    /// A device can speak only of transfers that were opened with it.
    fn part_of(&self, device: &DeviceId, transfer: TransferId) -> Option<PartId> {
        let part = *self.transfers.get(&transfer)?;
        (self.parts.get(&part)?.key.device == *device).then_some(part)
    }

    // ---- the spool -------------------------------------------------------------------------------

    fn spooled(&mut self, result: SpoolResult) {
        match result {
            SpoolResult::Opened { part, held } => self.opened(part, held),
            SpoolResult::Durable { part, upto } => {
                let progress = self.parts.get(&part).map(|active| PullEvent::Progress {
                    key: active.key.clone(),
                    part,
                    durable_bytes: upto.saturating_sub(active.start),
                    length_bytes: active.end.saturating_sub(active.start),
                });
                self.drive(part, engine::Event::Durable { upto });
                progress.into_iter().for_each(|progress| self.say(progress));
            }
            SpoolResult::Finished { part, digest } => self.finished(part, digest),
            SpoolResult::Failed { part, error } => {
                self.drive(part, engine::Event::WriteFailed);
                if let Some((active, _)) = self.remove(part) {
                    self.say(PullEvent::SpoolFailed { key: active.key, part, error });
                }
            }
        }
    }

    fn opened(&mut self, part: PartId, held: u64) {
        let Some(active) = self.parts.get(&part) else { return };
        let device = active.key.device.clone();
        let window = self.window_for(&device);
        let Some(active) = self.parts.get_mut(&part) else { return };
        let job = PartJob { durable: held, ..active.job.clone() };
        active.engine = Some(Engine::new(job, window, StdRng::from_rng(&mut self.random)));
        if let Some(event) = self.sessions.get(&device).map(online) {
            self.drive(part, event);
        }
        self.share_budget();
    }

    /// That of the device's last part, which one part goes on with, or one beside those under way.
    fn window_for(&mut self, device: &DeviceId) -> Window {
        if let Some(window) = self.windows.remove(device) {
            return window;
        }
        let of_device = self.parts.values().filter(|active| active.key.device == *device);
        let mut under_way = of_device.filter_map(|active| active.engine.as_ref());
        under_way.next().map(|engine| engine.window().beside()).unwrap_or_default()
    }

    fn finished(&mut self, part: PartId, spool_digest: [u8; 32]) {
        let Some((active, traffic)) = self.remove(part) else { return };
        let Some(card_digest) = active.card_digest else { return };
        let key = active.key;
        self.say(PullEvent::Pulled { key, part, card_digest, spool_digest, traffic });
    }

    // ---- the engine ------------------------------------------------------------------------------

    fn drive(&mut self, part: PartId, event: engine::Event) {
        let Some(active) = self.parts.get_mut(&part) else { return };
        let Some(engine) = &mut active.engine else { return };
        let mut actions = Vec::new();
        engine.handle(event, self.now, &mut actions);
        actions.into_iter().for_each(|action| self.carry_out(part, action));
    }

    fn carry_out(&mut self, part: PartId, action: engine::Action) {
        match action {
            engine::Action::Ask(body) => self.ask(part, body),
            engine::Action::Grant(credit) => {
                let Some(active) = self.parts.get(&part) else { return };
                let topic = Topic::Credit(active.key.device.clone());
                self.publish(topic, envelope::encode(&credit));
            }
            engine::Action::Write { offset, payload } => {
                self.spool(SpoolJob::Append { part, offset, payload });
            }
            engine::Action::Sync => self.spool(SpoolJob::Sync { part }),
            engine::Action::Done(Outcome::Complete { device_digest }) => {
                if let Some(active) = self.parts.get_mut(&part) {
                    active.card_digest = Some(device_digest);
                }
                self.spool(SpoolJob::Finish { part });
            }
            engine::Action::Done(Outcome::Cancelled) => self.paused(part),
            // The spool says itself what went wrong with it.
            engine::Action::Done(Outcome::Failed(Failure::Spool)) => {}
            engine::Action::Done(Outcome::Failed(failure)) => self.lost(part, failure),
        }
    }

    fn lost(&mut self, part: PartId, failure: Failure) {
        let durable = |active: &Active| {
            active.engine.as_ref().map_or(0, |engine| engine.durable().saturating_sub(active.start))
        };
        let durable_bytes = self.parts.get(&part).map_or(0, durable);
        self.spool(SpoolJob::Close { part });
        if let Some((active, traffic)) = self.remove(part) {
            self.say(PullEvent::Lost { key: active.key, part, failure, durable_bytes, traffic });
        }
    }

    fn ask(&mut self, part: PartId, body: AskBody) {
        let Some(active) = self.parts.get(&part) else { return };
        let Some(session) = self.sessions.get(&active.key.device) else { return };
        if let AskBody::Open(open) = &body {
            // Chunks of older openings are still this part's: they are counted as sent twice.
            self.transfers.insert(open.transfer, part);
        }
        let ask = Ask {
            server: self.server.clone(),
            connection: session.connection,
            expires: session.expiry(self.now, OPEN_EXPIRY),
            body,
        };
        let topic = Topic::Ask(active.key.device.clone());
        self.publish(topic, envelope::encode(&ask));
    }

    fn publish(&mut self, topic: Topic, payload: Result<Vec<u8>, EncodeError>) {
        match payload {
            Ok(payload) => self.actions.push(Action::Publish(Outbound { topic, payload })),
            Err(error) => tracing::error!(%topic, %error, "a message that cannot be sent"),
        }
    }

    fn spool(&mut self, job: SpoolJob) {
        self.actions.push(Action::Spool(job));
    }

    fn say(&mut self, event: PullEvent) {
        self.actions.push(Action::Say(event));
    }

    /// Forgets a part that is done with, but not what was learned from it.
    fn remove(&mut self, part: PartId) -> Option<(Active, Traffic)> {
        let active = self.parts.remove(&part)?;
        self.transfers.retain(|_, of| *of != part);
        if let Some(engine) = &active.engine {
            self.windows.insert(active.key.device.clone(), engine.window().clone());
        }
        self.share_budget();
        let traffic = active.traffic();
        Some((active, traffic))
    }
}

fn online(session: &Session) -> engine::Event {
    engine::Event::Online {
        connection: session.connection,
        boot: session.boot,
        max_chunk_bytes: session.limits.max_chunk_bytes,
    }
}
