//! Tying it together, in the order of the data: what devices hold, what the archive holds, what follows.
//!
//! One task owns all state and is the only one that writes the ledger; pulling, merging and reading the
//! archive happen elsewhere and report here. Every decision is pure and in another module.

mod asks;
mod merging;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use protocol::dropped::{Cause, Dropped};
use protocol::envelope;
use protocol::message::{
    Ask, AskBody, CoverageReport, DeviceId, Located, Presence, Refusable, RequestId, Tell,
};
use protocol::topic::Topic;
use sdcard_indexer::layout::Layout;
use sdcard_indexer::time::Timestamp;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::archive::{Archive, ArchiveChange};
use crate::config::Config;
use crate::fleet::{Change, Fleet, StreamKey};
use crate::ledger::{
    DeviceRecord, Ledger, LedgerError, PartId, PartRecord, PartState, Piece, TimelineRecord,
};
use crate::link::{Inbound, Outbound};
use crate::plan::{Rules, Step};
use crate::pull::driver::{PullCommand, PullEvent};
use crate::pull::engine::Failure;
use crate::spool::Spool;
use crate::timeline::{Completeness, Proof, State, Stretch};

use asks::{Answered, Asks, Question};
use merging::{Merged, Merger};
pub use stream::Archived;
use stream::Stream;

/// How often time itself is looked at: silence, repetitions, the live edge of every timeline.
const TICK: Duration = Duration::from_millis(250);
/// A timeline that only grows is written to the ledger no more often than this.
const TIMELINE_PAUSE: Duration = Duration::from_secs(5);
/// A question is void after this long on the device's own clock.
const ASK_EXPIRY: Duration = Duration::from_secs(30);
/// So often a part may be fetched again because its bytes differ from what the card's digest says.
const MOST_MISMATCHES: u32 = 1;
/// After the spool could not be written nothing new is pulled for so long.
const SPOOL_PAUSE: Duration = Duration::from_secs(60);

/// What watchers (a demo, a page) are told.
#[derive(Clone, Debug)]
pub enum Event {
    Online(DeviceId),
    Offline(DeviceId),
    /// The states of a stream, oldest first; said when a state changes, not when time passes.
    Timeline {
        key: StreamKey,
        stretches: Arc<[Stretch]>,
        completeness: Completeness,
    },
    Progress {
        key: StreamKey,
        part: PartId,
        durable_bytes: u64,
        length_bytes: u64,
    },
    Merged {
        key: StreamKey,
        piece: Piece,
        part_bytes: u64,
        received_bytes: u64,
        resent_bytes: u64,
    },
}

/// What the reconciler is connected to.
#[derive(Debug)]
pub struct Ports {
    pub control: mpsc::Receiver<Inbound>,
    pub outbound: mpsc::Sender<Outbound>,
    pub archive_changes: mpsc::Receiver<ArchiveChange>,
    pub archive: Archive,
    pub pulls: mpsc::Sender<PullCommand>,
    pub pull_events: mpsc::Receiver<PullEvent>,
    pub events: broadcast::Sender<Event>,
}

pub struct Reconciler {
    config: Config,
    ledger: Arc<dyn Ledger>,
    fleet: Fleet,
    asks: Asks,
    streams: BTreeMap<StreamKey, Stream>,
    shown: BTreeMap<StreamKey, Shown>,
    /// Parts whose bytes differed from the card's digest, by how often.
    mismatches: BTreeMap<PartId, u32>,
    spool: Spool,
    paused_until: Option<Instant>,
    merger: Merger,
    merged: mpsc::Receiver<Merged>,
    dropped: Dropped,
    started: Instant,
    ports: Ports,
}

impl std::fmt::Debug for Reconciler {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Reconciler")
            .field("streams", &self.streams.len())
            .finish_non_exhaustive()
    }
}

/// The timeline that the ledger has, and since when.
#[derive(Debug)]
struct Shown {
    stretches: Vec<Stretch>,
    written: Instant,
}

impl Reconciler {
    /// Takes up everything where the ledger says it was left.
    pub async fn resume(
        config: Config,
        layout: Layout,
        ledger: Arc<dyn Ledger>,
        spool: Spool,
        ports: Ports,
    ) -> Result<Self, LedgerError> {
        let (merger, merged) = Merger::new(&config, layout, spool.clone());
        let mut reconciler = Reconciler {
            config,
            ledger,
            fleet: Fleet::default(),
            asks: Asks::default(),
            streams: BTreeMap::new(),
            shown: BTreeMap::new(),
            mismatches: BTreeMap::new(),
            spool,
            paused_until: None,
            merger,
            merged,
            dropped: Dropped::default(),
            started: Instant::now(),
            ports,
        };
        for (key, expected_from) in reconciler.ledger.streams().await? {
            reconciler.take_up(key, expected_from).await?;
        }
        let configured: Vec<_> = reconciler.config.streams().collect();
        for (key, expected_from) in configured {
            reconciler.admit(&key, expected_from.unwrap_or_else(now)).await?;
            if let (Some(from), Some(stream)) = (expected_from, reconciler.streams.get_mut(&key)) {
                stream.expected_from = from;
                reconciler.ledger.put_stream(&key, from).await?;
            }
        }
        Ok(reconciler)
    }

    /// Runs until `shutdown`, or until the ledger fails.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), LedgerError> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return self.write_timelines().await,
                Some(inbound) = self.ports.control.recv() => self.hear(inbound).await?,
                Some(change) = self.ports.archive_changes.recv() => self.see_archive(change).await?,
                Some(event) = self.ports.pull_events.recv() => self.see_pull(event).await?,
                Some(merged) = self.merged.recv() => self.see_merge(merged).await?,
                _ = ticks.tick() => self.tick().await?,
            }
        }
    }

    // ---- taking up -------------------------------------------------------------------------------

    async fn take_up(
        &mut self,
        key: StreamKey,
        expected_from: Timestamp,
    ) -> Result<(), LedgerError> {
        let mut stream = Stream::new(key.clone(), expected_from);
        stream.verdicts = self.ledger.verdicts(&key).await?;
        let parts = self.ledger.parts(&key).await?;
        stream.parts = parts.into_iter().map(|record| (record.id, record)).collect();
        if let Some(holding) = self.ledger.holding(&key).await? {
            self.fleet.remember(&key, holding);
        }
        for record in stream.parts.values() {
            match record.state {
                PartState::Pulled => self.merger.write(record),
                PartState::Publishing => self.merger.recover(record),
                PartState::Pulling | PartState::Archived | PartState::Abandoned => continue,
            }
            stream.running.insert(record.id);
        }
        self.ports.archive.watch(&key, &self.config.archive.stream_path(&key));
        self.streams.insert(key, stream);
        Ok(())
    }

    /// Makes a stream known; a device beyond the cap is not let in.
    async fn admit(
        &mut self,
        key: &StreamKey,
        expected_from: Timestamp,
    ) -> Result<(), LedgerError> {
        if !self.streams.contains_key(key) {
            self.ledger.put_stream(key, expected_from).await?;
            self.take_up(key.clone(), expected_from).await?;
            tracing::info!(stream = %key, %expected_from, "a new stream");
        }
        Ok(())
    }

    fn admits(&self, device: &DeviceId) -> bool {
        let known: BTreeSet<&DeviceId> = self.streams.keys().map(|key| &key.device).collect();
        known.contains(device)
            || (self.config.server.adopt_devices && known.len() < self.config.server.max_devices)
    }

    // ---- hearing devices -------------------------------------------------------------------------

    async fn hear(&mut self, inbound: Inbound) -> Result<(), LedgerError> {
        match inbound {
            Inbound::Up => {
                tracing::info!("connected to the broker");
                Ok(())
            }
            Inbound::Down => {
                let changes = self.fleet.forget_sessions();
                self.follow(changes).await
            }
            Inbound::Message { topic, payload } => match topic.parse() {
                Ok(Topic::State(device)) => match envelope::decode::<Presence>(&payload) {
                    Ok(presence) => self.hear_presence(&device, presence).await,
                    Err(error) => Ok(self.drop_message(Cause::from(&error), &topic, &error)),
                },
                Ok(Topic::Coverage(device)) => match envelope::decode::<CoverageReport>(&payload) {
                    Ok(report) => self.hear_coverage(&device, &report).await,
                    Err(error) => Ok(self.drop_message(Cause::from(&error), &topic, &error)),
                },
                Ok(_) => Ok(self.drop_message(Cause::Address, &topic, &"not for this server")),
                Err(error) => Ok(self.drop_message(Cause::Address, &topic, &error)),
            },
        }
    }

    /// Counts, and logs at most once a minute and cause.
    fn drop_message(&mut self, cause: Cause, topic: &str, why: &dyn std::fmt::Display) {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Some(messages) = self.dropped.record(cause, now_ms) {
            tracing::warn!(?cause, messages, topic, %why, "dropped what arrived");
        }
    }

    async fn hear_presence(
        &mut self,
        device: &DeviceId,
        presence: Presence,
    ) -> Result<(), LedgerError> {
        if !self.admits(device) {
            return Ok(self.drop_message(Cause::Address, device.as_str(), &"device not admitted"));
        }
        let streams = match &presence {
            Presence::Online(online) => online.streams.clone(),
            Presence::Offline { .. } => Vec::new(),
        };
        let change = self.fleet.presence(device, presence, now());
        for stream in streams {
            self.admit(&StreamKey { device: device.clone(), stream }, now()).await?;
        }
        self.follow(change).await
    }

    async fn hear_coverage(
        &mut self,
        device: &DeviceId,
        report: &CoverageReport,
    ) -> Result<(), LedgerError> {
        let changes = self.fleet.coverage(device, report, now());
        self.follow(changes).await
    }

    async fn follow(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<(), LedgerError> {
        for change in changes {
            match change {
                Change::CameOnline(device) => {
                    tracing::info!(%device, "online");
                    self.asks.forget(&device);
                    self.asks.want_coverage(&device);
                    self.tell_puller(&device).await;
                    self.record_device(&device).await?;
                    self.say(Event::Online(device));
                }
                Change::WentOffline(device) => {
                    tracing::info!(%device, "offline");
                    self.asks.forget(&device);
                    self.tell_puller(&device).await;
                    self.record_device(&device).await?;
                    self.say(Event::Offline(device));
                }
                Change::CoverageLost(device) => self.asks.want_coverage(&device),
                Change::Holding(key) => self.hold(&key).await?,
            }
        }
        Ok(())
    }

    async fn hold(&mut self, key: &StreamKey) -> Result<(), LedgerError> {
        let of_device = |known: &&StreamKey| known.device == key.device;
        if self.streams.keys().filter(of_device).all(|key| self.fleet.fresh_holding(key).is_some())
        {
            self.asks.covered(&key.device);
        }
        if let (Some(holding), Some(stream)) = (self.fleet.holding(key), self.streams.get_mut(key))
        {
            self.ledger.put_holding(key, holding).await?;
            if stream.reopen(holding) {
                self.ledger.put_verdicts(key, &stream.verdicts).await?;
            }
        }
        self.evaluate(key).await
    }

    async fn tell_puller(&mut self, device: &DeviceId) {
        let session = self.fleet.session(device).cloned();
        self.command(PullCommand::Session { device: device.clone(), session }).await;
    }

    async fn record_device(&mut self, device: &DeviceId) -> Result<(), LedgerError> {
        let record = DeviceRecord {
            device: device.clone(),
            online: self.fleet.session(device).is_some(),
            agent_version: self.fleet.agent_version(device).to_owned(),
            last_heard: self.fleet.last_heard(device),
        };
        self.ledger.put_device(&record).await
    }

    // ---- seeing the archive ----------------------------------------------------------------------

    async fn see_archive(&mut self, change: ArchiveChange) -> Result<(), LedgerError> {
        let ArchiveChange { key, archived } = change;
        let is_fixed = self.is_fixed(&key);
        let Some(stream) = self.streams.get_mut(&key) else { return Ok(()) };
        let oldest = archived.held.hull().map(|hull| hull.start());
        stream.archived = archived;
        // What was recorded before the stream was first heard of is the beginning of its timeline.
        if let Some(oldest) = oldest.filter(|oldest| *oldest < stream.expected_from && !is_fixed) {
            stream.expected_from = oldest;
            self.ledger.put_stream(&key, oldest).await?;
        }
        self.evaluate(&key).await
    }

    /// True where the configuration says from when on the recording should be whole.
    fn is_fixed(&self, key: &StreamKey) -> bool {
        self.config.streams().any(|(known, from)| known == *key && from.is_some())
    }

    // ---- deciding --------------------------------------------------------------------------------

    fn rules(&self) -> Rules {
        let archive = &self.config.archive;
        Rules { join_tolerance: archive.join_tolerance(), open_gap: archive.open_gap() }
    }

    /// Looks at one stream anew: concludes, asks, starts, shows.
    async fn evaluate(&mut self, key: &StreamKey) -> Result<(), LedgerError> {
        let (now, rules) = (now(), self.rules());
        let judged_until = now.saturating_sub(self.config.archive.settle());
        let is_fixed = self.is_fixed(key);
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        if let Some(holding) = self.fleet.fresh_holding(key) {
            let facts = stream.facts(Some(holding), judged_until, rules.join_tolerance);
            let mut concluded = false;
            for step in stream.plan(&facts, holding, rules, now) {
                match step {
                    Step::Conclude(verdict) if stream.begins_later(&verdict) && !is_fixed => {
                        stream.expected_from = verdict.range.end();
                        self.ledger.put_stream(key, stream.expected_from).await?;
                    }
                    Step::Locate(range) => {
                        self.asks.locate(RequestId(rand::random()), key, range);
                    }
                    Step::Conclude(verdict) => {
                        tracing::info!(stream = %key, range = %verdict.range, state = %verdict.state, "concluded");
                        stream.conclude(verdict);
                        concluded = true;
                    }
                }
            }
            if concluded {
                self.ledger.put_verdicts(key, &stream.verdicts).await?;
            }
        }
        let holding = self.fleet.holding(key);
        let timeline = stream.facts(holding, judged_until, rules.join_tolerance).timeline();
        self.show(key, timeline, now).await
    }

    /// Tells the ledger and the watchers, where there is something new to tell.
    async fn show(
        &mut self,
        key: &StreamKey,
        stretches: Vec<Stretch>,
        as_of: Timestamp,
    ) -> Result<(), LedgerError> {
        let shown = self.shown.get(key);
        let is_news = shown.is_none_or(|shown| differs(&shown.stretches, &stretches));
        if !is_news && shown.is_some_and(|shown| shown.written.elapsed() < TIMELINE_PAUSE) {
            return Ok(());
        }
        let record = TimelineRecord { as_of, stretches };
        self.ledger.put_timeline(key, &record).await?;
        let stretches = record.stretches;
        if is_news {
            let completeness = Completeness::of(&stretches);
            let told = stretches.as_slice().into();
            self.say(Event::Timeline { key: key.clone(), stretches: told, completeness });
        }
        self.shown.insert(key.clone(), Shown { stretches, written: Instant::now() });
        Ok(())
    }

    async fn write_timelines(&mut self) -> Result<(), LedgerError> {
        self.shown.clear();
        self.evaluate_all().await
    }

    async fn evaluate_all(&mut self) -> Result<(), LedgerError> {
        let keys: Vec<StreamKey> = self.streams.keys().cloned().collect();
        for key in keys {
            self.evaluate(&key).await?;
        }
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), LedgerError> {
        let silent = self.fleet.tick(now());
        self.follow(silent).await?;
        self.evaluate_all().await?;
        self.start_parts().await;
        for question in self.asks.due(now()) {
            self.ask(question).await;
        }
        Ok(())
    }

    // ---- asking ----------------------------------------------------------------------------------

    async fn ask(&mut self, question: Question) {
        let (device, body) = match question {
            Question::Coverage { device } => (device, AskBody::Coverage),
            Question::Locate { request, key, range } => {
                (key.device, AskBody::Locate { request, stream: key.stream, range })
            }
        };
        let Some(session) = self.fleet.session(&device) else { return };
        let ask = Ask {
            server: self.config.server.id.clone(),
            connection: session.connection,
            expires: session.expiry(now(), ASK_EXPIRY),
            body,
        };
        let payload = match envelope::encode(&ask) {
            Ok(payload) => payload,
            Err(error) => {
                tracing::error!(%device, %error, "a question that cannot be sent");
                return;
            }
        };
        let topic = Topic::Ask(device);
        // Nobody is there any more only when the server ends.
        let _ = self.ports.outbound.send(Outbound { topic, payload }).await;
    }

    async fn see_answer(&mut self, device: &DeviceId, tell: Tell) -> Result<(), LedgerError> {
        match tell {
            Tell::Located(located) => self.see_located(device, located).await,
            Tell::Refused { what: Refusable::Request(request), reason } => {
                tracing::warn!(%device, ?reason, "the device refused to say where");
                let answered = self.asks.refused(device, request);
                self.note_not_found(answered);
                Ok(())
            }
            // Of a transfer that nobody here knows any more.
            Tell::Refused { .. } | Tell::Accepted { .. } | Tell::End { .. } => Ok(()),
        }
    }

    async fn see_located(
        &mut self,
        device: &DeviceId,
        located: Located,
    ) -> Result<(), LedgerError> {
        if !self.asks.expects(device, located.request) {
            return Ok(());
        }
        let key = StreamKey { device: device.clone(), stream: located.stream.clone() };
        for part in &located.parts {
            let Some(stream) = self.streams.get_mut(&key) else { continue };
            stream.was_found(part.range);
            if part.start >= part.end || stream.has(part) {
                continue;
            }
            let created = now();
            let id = self.ledger.add_part(&key, part, created).await?;
            tracing::info!(stream = %key, part = id.0, range = %part.range, bytes = part.end - part.start, "located");
            stream.parts.insert(id, PartRecord::located(id, key.clone(), part.clone(), created));
        }
        let answered = self.asks.located(device, &located);
        self.note_not_found(answered);
        self.start_parts().await;
        self.evaluate(&key).await
    }

    fn note_not_found(&mut self, answered: Option<Answered>) {
        let Some(Answered { key, not_found, .. }) = answered else { return };
        if let Some(stream) = self.streams.get_mut(&key) {
            for range in not_found.without_slivers(self.config.archive.join_tolerance()) {
                stream.was_not_found(range, now());
            }
        }
    }

    // ---- pulling ---------------------------------------------------------------------------------

    /// Starts waiting parts of devices that are there, oldest first, as far as the limits allow.
    async fn start_parts(&mut self) {
        if self.paused_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        let limits = self.config.pull.clone();
        let pulling = |stream: &Stream| {
            let active = stream.running.iter().filter_map(|id| stream.parts.get(id));
            active.filter(|record| record.state == PartState::Pulling).count()
        };
        let mut total: usize = self.streams.values().map(pulling).sum();
        let mut by_device: BTreeMap<DeviceId, usize> = BTreeMap::new();
        for stream in self.streams.values() {
            *by_device.entry(stream.key.device.clone()).or_default() += pulling(stream);
        }
        let mut waiting: Vec<PartRecord> = self
            .streams
            .values()
            .filter(|stream| self.fleet.session(&stream.key.device).is_some())
            .flat_map(|stream| stream.startable().take(limits.max_active_parts).cloned())
            .collect();
        waiting.sort_by_key(|record| record.part.range);
        for record in waiting {
            let of_device = by_device.entry(record.key.device.clone()).or_default();
            if total >= limits.max_active_parts || *of_device >= limits.max_active_parts_per_device
            {
                continue;
            }
            total += 1;
            *of_device += 1;
            if let Some(stream) = self.streams.get_mut(&record.key) {
                stream.running.insert(record.id);
            }
            self.command(PullCommand::Start(Box::new(record))).await;
        }
    }

    async fn command(&mut self, command: PullCommand) {
        // Nobody is there any more only when the server ends.
        let _ = self.ports.pulls.send(command).await;
    }

    async fn see_pull(&mut self, event: PullEvent) -> Result<(), LedgerError> {
        match event {
            PullEvent::Answer { device, tell } => self.see_answer(&device, tell).await,
            PullEvent::Progress { key, part, durable_bytes, length_bytes } => {
                self.say(Event::Progress { key, part, durable_bytes, length_bytes });
                Ok(())
            }
            PullEvent::Pulled { key, part, card_digest, spool_digest, traffic } => {
                let Some(mut record) = self.record(&key, part) else { return Ok(()) };
                record.count(traffic);
                record.digest = Some(card_digest);
                if card_digest == spool_digest {
                    record.state = PartState::Pulled;
                    record.proof = Proof::Digest;
                    self.merger.write(&record);
                    return self.update(record).await;
                }
                self.mismatch(record, spool_digest).await
            }
            PullEvent::Lost { key, part, failure, durable_bytes, traffic } => {
                let Some(mut record) = self.record(&key, part) else { return Ok(()) };
                record.count(traffic);
                self.lose(record, failure, durable_bytes).await
            }
            PullEvent::SpoolFailed { key, part, error } => {
                tracing::error!(stream = %key, part = part.0, error, "the spool fails: pulling pauses");
                self.paused_until = Some(Instant::now() + SPOOL_PAUSE);
                if let Some(record) = self.record(&key, part) {
                    self.stop(&record);
                }
                Ok(())
            }
        }
    }

    /// The bytes are not those that the card's digest speaks of: once more, then it has failed.
    async fn mismatch(
        &mut self,
        mut record: PartRecord,
        found: [u8; 32],
    ) -> Result<(), LedgerError> {
        let times = self.mismatches.entry(record.id).or_default();
        *times += 1;
        let again = *times <= MOST_MISMATCHES;
        let digests = format!(
            "the card said {}, what arrived is {}",
            blake3::Hash::from(record.digest.unwrap_or_default()).to_hex(),
            blake3::Hash::from(found).to_hex()
        );
        tracing::warn!(stream = %record.key, part = record.id.0, %digests, again, "digests differ");
        self.discard_spool(record.id);
        let key = record.key.clone();
        if !again {
            record.state = PartState::Abandoned;
            let state = State::Failed { reason: format!("digests differ: {digests}") };
            self.conclude(&key, Stretch { range: record.part.range, state }).await?;
        }
        self.stop(&record);
        self.update(record).await
    }

    /// The card will not give the rest: what has arrived is kept, the rest is concluded.
    async fn lose(
        &mut self,
        mut record: PartRecord,
        failure: Failure,
        durable_bytes: u64,
    ) -> Result<(), LedgerError> {
        tracing::warn!(stream = %record.key, part = record.id.0, %failure, durable_bytes, "lost the rest of a part");
        let key = record.key.clone();
        let range = record.part.range;
        let state = match failure {
            Failure::Gone => Some(State::Overwritten {
                cause: "gone from the card while it was being pulled".to_owned(),
            }),
            // Another recording has taken the place: the device will say what it holds now.
            Failure::Changed => None,
            failure => Some(State::Failed { reason: failure.to_string() }),
        };
        if let Some(state) = state {
            self.conclude(&key, Stretch { range, state }).await?;
        }
        if durable_bytes > 0 {
            record.state = PartState::Pulled;
            record.proof = Proof::Chunks;
            self.merger.write(&record);
        } else {
            self.discard_spool(record.id);
            record.state = PartState::Abandoned;
            self.stop(&record);
        }
        self.update(record).await
    }

    async fn conclude(&mut self, key: &StreamKey, verdict: Stretch) -> Result<(), LedgerError> {
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        stream.conclude(verdict);
        self.ledger.put_verdicts(key, &stream.verdicts).await
    }

    fn discard_spool(&self, part: PartId) {
        if let Err(error) = self.spool.remove(part.spool_key()) {
            tracing::warn!(part = part.0, %error, "a spool file stays behind");
        }
    }

    // ---- merging ---------------------------------------------------------------------------------

    async fn see_merge(&mut self, merged: Merged) -> Result<(), LedgerError> {
        let (key, part) = merged.of();
        let Some(mut record) = self.record(&key, part) else { return Ok(()) };
        match merged {
            Merged::Written { written, .. } => {
                record.state = PartState::Publishing;
                record.piece = Some(written.piece().clone());
                self.update(record.clone()).await?;
                self.merger.publish(&record, *written);
                Ok(())
            }
            Merged::Published { .. } => self.archived(record).await,
            Merged::Redo { .. } => {
                record.piece = None;
                let spooled = self.spool.path(part.spool_key()).exists();
                if spooled {
                    record.state = PartState::Pulled;
                    self.merger.write(&record);
                } else {
                    record.state = PartState::Pulling;
                    self.stop(&record);
                }
                self.update(record).await
            }
            Merged::Failed { reason, .. } => {
                tracing::error!(stream = %key, part = part.0, reason, "cannot merge a part");
                let range = record.part.range;
                record.state = PartState::Abandoned;
                self.discard_spool(part);
                self.stop(&record);
                // Where the card lost the rest, that is the better word for it.
                if record.proof != Proof::Chunks {
                    self.conclude(&key, Stretch { range, state: State::Failed { reason } }).await?;
                }
                self.update(record).await
            }
        }
    }

    async fn archived(&mut self, mut record: PartRecord) -> Result<(), LedgerError> {
        record.state = PartState::Archived;
        self.stop(&record);
        self.discard_spool(record.id);
        if let Some(piece) = record.piece.clone() {
            tracing::info!(stream = %record.key, part = record.id.0, range = %piece.range, file = %piece.path.display(), "merged");
            self.say(Event::Merged {
                key: record.key.clone(),
                piece,
                part_bytes: record.part.end.saturating_sub(record.part.start),
                received_bytes: record.received_bytes,
                resent_bytes: record.resent_bytes,
            });
        }
        let key = record.key.clone();
        self.update(record).await?;
        self.start_parts().await;
        self.evaluate(&key).await
    }

    // ---- records ---------------------------------------------------------------------------------

    fn record(&self, key: &StreamKey, part: PartId) -> Option<PartRecord> {
        self.streams.get(key)?.parts.get(&part).cloned()
    }

    /// The part waits to be started again, or is done.
    fn stop(&mut self, record: &PartRecord) {
        if let Some(stream) = self.streams.get_mut(&record.key) {
            stream.running.remove(&record.id);
        }
    }

    async fn update(&mut self, record: PartRecord) -> Result<(), LedgerError> {
        self.ledger.update_part(&record).await?;
        if let Some(stream) = self.streams.get_mut(&record.key) {
            stream.parts.insert(record.id, record);
        }
        Ok(())
    }

    fn say(&self, event: Event) {
        // Nobody needs to be watching.
        let _ = self.ports.events.send(event);
    }
}

/// True where a state differs somewhere, not only where the newest stretch has grown.
fn differs(old: &[Stretch], new: &[Stretch]) -> bool {
    old.len() != new.len()
        || old
            .iter()
            .zip(new)
            .any(|(old, new)| old.state != new.state || old.range.start() != new.range.start())
}

fn now() -> Timestamp {
    Timestamp::from_jiff(jiff::Timestamp::now())
}
