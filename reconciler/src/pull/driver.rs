//! The thin driver around [`super::engine`]: MQTT on one side, the spool's thread on the other.
//!
//! One task owns all engines of this server. It decides nothing about a transfer; it numbers, routes,
//! carries out, and tells the reconciler what came of it.

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
use sdcard_indexer::time::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::MonotonicMicros;
use super::engine::{Action, Engine, Event, Failure, Outcome, PartJob};
use super::spooler::{SpoolJob, SpoolResult};
use super::window::Window;
use crate::fleet::{Session, StreamKey};
use crate::ledger::{PartId, PartRecord, Traffic};
use crate::link::{Inbound, Outbound, Unusable};

/// Chunks under way over all devices: brokers drop silently above 1,000 queued.
const BROKER_BUDGET_CHUNKS: u32 = 500;
/// An order to open is void after this long on the device's own clock.
const OPEN_EXPIRY: Duration = Duration::from_secs(10);
/// Without an engine that waits for anything, the driver looks up this often.
const IDLE: Duration = Duration::from_secs(3600);

/// What the reconciler orders.
#[derive(Debug)]
pub enum PullCommand {
    /// The device is there, on this connection; or is not.
    Session { device: DeviceId, session: Option<Session> },
    /// Pull this part, from where its spool file ends.
    Start(Box<PartRecord>),
}

/// What the reconciler is told.
#[derive(Debug)]
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
}

/// What the puller is connected to.
#[derive(Debug)]
pub struct Ports {
    pub commands: mpsc::Receiver<PullCommand>,
    pub inbound: mpsc::Receiver<Inbound>,
    pub outbound: mpsc::Sender<Outbound>,
    pub events: mpsc::Sender<PullEvent>,
    pub spool_jobs: mpsc::Sender<SpoolJob>,
    pub spool_results: mpsc::Receiver<SpoolResult>,
}

/// Runs until the reconciler is gone.
pub async fn run(server: ServerId, ports: Ports) {
    let puller = Puller {
        server,
        ports,
        // An echo of 0 means that the device had no credit yet.
        origin: Instant::now() - Duration::from_secs(1),
        parts: BTreeMap::new(),
        transfers: HashMap::new(),
        sessions: BTreeMap::new(),
        windows: BTreeMap::new(),
        unusable: Unusable::default(),
    };
    puller.run().await;
}

struct Puller {
    server: ServerId,
    ports: Ports,
    origin: Instant,
    parts: BTreeMap<PartId, Active>,
    transfers: HashMap<TransferId, PartId>,
    sessions: BTreeMap<DeviceId, Session>,
    /// What was learned of each device's link.
    windows: BTreeMap<DeviceId, Window>,
    unusable: Unusable,
}

struct Active {
    key: StreamKey,
    start: u64,
    end: u64,
    job: PartJob,
    /// `None` while the spool file is being opened.
    engine: Option<Engine>,
    card_digest: Option<PartDigest>,
}

/// Nobody listens any more: the server is ending.
struct Ended;

impl Puller {
    async fn run(mut self) {
        loop {
            let deadline = self.origin + self.next_deadline();
            let handled = tokio::select! {
                command = self.ports.commands.recv() => match command {
                    Some(command) => self.command(command).await,
                    None => Err(Ended),
                },
                Some(inbound) = self.ports.inbound.recv() => self.hear(inbound).await,
                Some(result) = self.ports.spool_results.recv() => self.spooled(result).await,
                () = sleep_until(deadline) => self.tick().await,
            };
            if handled.is_err() {
                return;
            }
        }
    }

    fn now(&self) -> MonotonicMicros {
        MonotonicMicros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Since the origin.
    fn next_deadline(&self) -> Duration {
        let engines = self.parts.values().filter_map(|active| active.engine.as_ref());
        let next = engines.filter_map(Engine::next_deadline).min();
        next.map_or(self.origin.elapsed() + IDLE, |micros| Duration::from_micros(micros.0))
    }

    async fn tick(&mut self) -> Result<(), Ended> {
        let now = self.now();
        let due = self.parts.iter().filter_map(|(part, active)| {
            let deadline = active.engine.as_ref()?.next_deadline()?;
            (deadline <= now).then_some(*part)
        });
        for part in due.collect::<Vec<_>>() {
            self.handle(part, Event::Tick).await?;
        }
        Ok(())
    }

    // ---- orders ----------------------------------------------------------------------------------

    async fn command(&mut self, command: PullCommand) -> Result<(), Ended> {
        match command {
            PullCommand::Session { device, session } => {
                let event = session.as_ref().map_or(Event::Offline, online);
                match session {
                    Some(session) => self.sessions.insert(device.clone(), session),
                    None => self.sessions.remove(&device),
                };
                let of_device = self.parts.iter().filter(|(_, active)| active.key.device == device);
                for part in of_device.map(|(part, _)| *part).collect::<Vec<_>>() {
                    self.handle(part, event.clone()).await?;
                }
                Ok(())
            }
            PullCommand::Start(record) => self.start(*record).await,
        }
    }

    async fn start(&mut self, record: PartRecord) -> Result<(), Ended> {
        let PartRecord { id, key, part, .. } = record;
        let job = PartJob {
            segment: part.segment,
            version: part.version,
            start: part.start,
            end: part.end,
            durable: part.start,
            priority: 0,
            rate_bytes_per_second: 0,
        };
        let active =
            Active { key, start: part.start, end: part.end, job, engine: None, card_digest: None };
        self.parts.insert(id, active);
        self.spool(SpoolJob::Open { part: id, start: part.start, end: part.end }).await?;
        self.share_budget().await
    }

    /// Splits what the broker may hold evenly.
    async fn share_budget(&mut self) -> Result<(), Ended> {
        let among = u32::try_from(self.parts.len()).unwrap_or(u32::MAX).max(1);
        let chunks = (BROKER_BUDGET_CHUNKS / among).max(1);
        for part in self.parts.keys().copied().collect::<Vec<_>>() {
            self.handle(part, Event::Share { chunks }).await?;
        }
        Ok(())
    }

    // ---- the device ------------------------------------------------------------------------------

    async fn hear(&mut self, inbound: Inbound) -> Result<(), Ended> {
        let Inbound::Message { topic, payload } = inbound else { return Ok(()) };
        let Some(topic) = self.unusable.address(&topic) else { return Ok(()) };
        match &topic {
            Topic::Data(device, _) => self.data(device, &topic, &payload).await,
            Topic::Tell(device, _) => match self.unusable.decode::<Tell>(&topic, &payload) {
                Some(tell) => self.told(device.clone(), tell).await,
                None => Ok(()),
            },
            topic => {
                self.unusable.drop(Cause::Address, topic, &"not about a transfer");
                Ok(())
            }
        }
    }

    async fn data(
        &mut self,
        device: &DeviceId,
        topic: &Topic,
        payload: &Bytes,
    ) -> Result<(), Ended> {
        let data = match Data::decode(payload) {
            Ok(data) => data,
            Err(error) => {
                self.unusable.drop(Cause::from(&error), topic, &error);
                return Ok(());
            }
        };
        let Some(part) = self.part_of(device, data.transfer) else {
            self.unusable.drop(Cause::Stale, topic, &"data of a transfer that is over");
            return Ok(());
        };
        let event = Event::Data {
            transfer: data.transfer,
            offset: data.offset,
            echo: MonotonicMicros(data.echo),
            payload: payload.slice_ref(data.payload),
        };
        self.handle(part, event).await
    }

    async fn told(&mut self, device: DeviceId, tell: Tell) -> Result<(), Ended> {
        let (transfer, event) = match tell {
            Tell::Accepted { transfer, .. } => (transfer, Event::Accepted { transfer }),
            Tell::End { transfer, digest } => (transfer, Event::End { transfer, digest }),
            Tell::Refused { what: Refusable::Transfer(transfer), reason } => {
                (transfer, Event::Refused { transfer, reason })
            }
            tell @ (Tell::Located(_) | Tell::Listed(_) | Tell::Refused { .. }) => {
                return self.say(PullEvent::Answer { device, tell }).await;
            }
        };
        match self.part_of(&device, transfer) {
            Some(part) => self.handle(part, event).await,
            None => Ok(()),
        }
    }

    /// A device can speak only of transfers that were opened with it.
    fn part_of(&self, device: &DeviceId, transfer: TransferId) -> Option<PartId> {
        let part = *self.transfers.get(&transfer)?;
        (self.parts.get(&part)?.key.device == *device).then_some(part)
    }

    // ---- the spool -------------------------------------------------------------------------------

    async fn spooled(&mut self, result: SpoolResult) -> Result<(), Ended> {
        match result {
            SpoolResult::Opened { part, held } => self.opened(part, held).await,
            SpoolResult::Durable { part, upto } => {
                let progress = self.parts.get(&part).map(|active| PullEvent::Progress {
                    key: active.key.clone(),
                    part,
                    durable_bytes: upto.saturating_sub(active.start),
                    length_bytes: active.end.saturating_sub(active.start),
                });
                self.handle(part, Event::Durable { upto }).await?;
                match progress {
                    Some(progress) => self.say(progress).await,
                    None => Ok(()),
                }
            }
            SpoolResult::Finished { part, digest } => self.finished(part, digest).await,
            SpoolResult::Failed { part, error } => {
                self.handle(part, Event::WriteFailed).await?;
                match self.remove(part).await? {
                    Some((active, _)) => {
                        self.say(PullEvent::SpoolFailed { key: active.key, part, error }).await
                    }
                    None => Ok(()),
                }
            }
        }
    }

    async fn opened(&mut self, part: PartId, held: u64) -> Result<(), Ended> {
        let Some(active) = self.parts.get(&part) else { return Ok(()) };
        let device = active.key.device.clone();
        let window = self.window_for(&device);
        let Some(active) = self.parts.get_mut(&part) else { return Ok(()) };
        let job = PartJob { durable: held, ..active.job.clone() };
        active.engine = Some(Engine::new(job, window, StdRng::from_rng(&mut rand::rng())));
        if let Some(event) = self.sessions.get(&device).map(online) {
            self.handle(part, event).await?;
        }
        self.share_budget().await
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

    async fn finished(&mut self, part: PartId, spool_digest: [u8; 32]) -> Result<(), Ended> {
        let Some((active, traffic)) = self.remove(part).await? else { return Ok(()) };
        let Some(card_digest) = active.card_digest else { return Ok(()) };
        let key = active.key;
        self.say(PullEvent::Pulled { key, part, card_digest, spool_digest, traffic }).await
    }

    // ---- the engine ------------------------------------------------------------------------------

    async fn handle(&mut self, part: PartId, event: Event) -> Result<(), Ended> {
        let now = self.now();
        let Some(active) = self.parts.get_mut(&part) else { return Ok(()) };
        let Some(engine) = &mut active.engine else { return Ok(()) };
        let mut actions = Vec::new();
        engine.handle(event, now, &mut actions);
        for action in actions {
            self.carry_out(part, action).await?;
        }
        Ok(())
    }

    async fn carry_out(&mut self, part: PartId, action: Action) -> Result<(), Ended> {
        match action {
            Action::Ask(body) => self.ask(part, body).await,
            Action::Grant(credit) => {
                let Some(active) = self.parts.get(&part) else { return Ok(()) };
                let topic = Topic::Credit(active.key.device.clone());
                self.publish(topic, envelope::encode(&credit)).await
            }
            Action::Write { offset, payload } => {
                self.spool(SpoolJob::Append { part, offset, payload }).await
            }
            Action::Sync => self.spool(SpoolJob::Sync { part }).await,
            Action::Done(Outcome::Complete { device_digest }) => {
                if let Some(active) = self.parts.get_mut(&part) {
                    active.card_digest = Some(device_digest);
                }
                self.spool(SpoolJob::Finish { part }).await
            }
            // The spool says itself what went wrong with it.
            Action::Done(Outcome::Failed(Failure::Spool) | Outcome::Cancelled) => Ok(()),
            Action::Done(Outcome::Failed(failure)) => self.lost(part, failure).await,
        }
    }

    async fn lost(&mut self, part: PartId, failure: Failure) -> Result<(), Ended> {
        let durable = |active: &Active| {
            active.engine.as_ref().map_or(0, |engine| engine.durable().saturating_sub(active.start))
        };
        let durable_bytes = self.parts.get(&part).map_or(0, durable);
        self.spool(SpoolJob::Close { part }).await?;
        let Some((active, traffic)) = self.remove(part).await? else { return Ok(()) };
        self.say(PullEvent::Lost { key: active.key, part, failure, durable_bytes, traffic }).await
    }

    async fn ask(&mut self, part: PartId, body: AskBody) -> Result<(), Ended> {
        let Some(active) = self.parts.get(&part) else { return Ok(()) };
        let Some(session) = self.sessions.get(&active.key.device) else { return Ok(()) };
        if let AskBody::Open(open) = &body {
            // Chunks of older openings are still this part's: they are counted as sent twice.
            self.transfers.insert(open.transfer, part);
        }
        let now = Timestamp::from_jiff(jiff::Timestamp::now());
        let ask = Ask {
            server: self.server.clone(),
            connection: session.connection,
            expires: session.expiry(now, OPEN_EXPIRY),
            body,
        };
        let topic = Topic::Ask(active.key.device.clone());
        self.publish(topic, envelope::encode(&ask)).await
    }

    async fn publish(
        &mut self,
        topic: Topic,
        payload: Result<Vec<u8>, EncodeError>,
    ) -> Result<(), Ended> {
        match payload {
            Ok(payload) => {
                self.ports.outbound.send(Outbound { topic, payload }).await.map_err(|_| Ended)
            }
            Err(error) => {
                tracing::error!(%topic, %error, "a message that cannot be sent");
                Ok(())
            }
        }
    }

    async fn spool(&mut self, job: SpoolJob) -> Result<(), Ended> {
        self.ports.spool_jobs.send(job).await.map_err(|_| Ended)
    }

    async fn say(&mut self, event: PullEvent) -> Result<(), Ended> {
        self.ports.events.send(event).await.map_err(|_| Ended)
    }

    /// Forgets a part that is done with, but not what was learned from it.
    async fn remove(&mut self, part: PartId) -> Result<Option<(Active, Traffic)>, Ended> {
        let Some(active) = self.parts.remove(&part) else { return Ok(None) };
        self.transfers.retain(|_, of| *of != part);
        let mut traffic = Traffic::default();
        if let Some(engine) = &active.engine {
            let counters = engine.counters();
            traffic.received_bytes = counters.received_bytes;
            traffic.discarded_bytes = counters.discarded_bytes;
            self.windows.insert(active.key.device.clone(), engine.window().clone());
        }
        Box::pin(self.share_budget()).await?;
        Ok(Some((active, traffic)))
    }
}

fn online(session: &Session) -> Event {
    Event::Online {
        connection: session.connection,
        boot: session.boot,
        max_chunk_bytes: session.limits.max_chunk_bytes,
    }
}
