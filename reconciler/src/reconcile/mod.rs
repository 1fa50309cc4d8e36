//! Tying it together, in the order of the data: what devices hold, what the archive holds, what follows.
//!
//! One task owns all state and is the only one that writes the ledger; pulling, merging and reading the
//! archive happen elsewhere and report here. Every decision is pure and in another module; `devices`
//! hears and asks, `parts` follows what is on its way.

mod asks;
mod devices;
mod merging;
mod parts;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use protocol::message::{DeviceId, RequestId};
use sdcard_indexer::layout::Layout;
use sdcard_indexer::time::Timestamp;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::archive::{Archive, ArchiveChange};
use crate::config::Config;
use crate::fleet::{Fleet, StreamKey};
use crate::ledger::{Ledger, LedgerError, PartId, PartRecord, PartState, Piece, TimelineRecord};
use crate::link::{Inbound, Outbound, Unusable};
use crate::plan::{Rules, Step};
use crate::pull::driver::{PullCommand, PullEvent};
use crate::spool::Spool;
use crate::timeline::{Completeness, Stretch};

use asks::Asks;
use merging::{Merged, Merger};
use stream::Stream;

/// How often time itself is looked at: silence, repetitions.
const TICK: Duration = Duration::from_millis(250);
/// How often the live edge of every timeline is looked at; what changes is looked at at once.
const EVALUATE: Duration = Duration::from_secs(1);
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
    unusable: Unusable,
    evaluated: Instant,
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
            unusable: Unusable::default(),
            evaluated: Instant::now(),
            ports,
        };
        for (key, expected_from) in reconciler.ledger.streams().await? {
            reconciler.take_up(key, expected_from).await?;
        }
        reconciler.record_all_offline().await?;
        reconciler.sweep_spool();
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

    /// Bytes of parts that are done with, or that no ledger knows any more.
    fn sweep_spool(&self) {
        let parts = self.streams.values().flat_map(|stream| stream.parts.values());
        let active = parts.filter(|record| record.state.is_active());
        match self.spool.sweep(&active.map(|record| record.id.spool_key()).collect()) {
            Ok(0) => {}
            Ok(files) => tracing::info!(files, "removed leftovers from the spool"),
            Err(error) => tracing::warn!(%error, "leftovers stay in the spool"),
        }
    }

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
        let configured = self.streams.keys().map(|key| &key.device);
        let known: BTreeSet<&DeviceId> = configured.chain(self.fleet.devices()).collect();
        known.contains(device)
            || (self.config.server.adopt_devices && known.len() < self.config.server.max_devices)
    }

    async fn see_archive(&mut self, change: ArchiveChange) -> Result<(), LedgerError> {
        let ArchiveChange { key, archived } = change;
        let is_fixed = self.is_fixed(&key);
        let Some(stream) = self.streams.get_mut(&key) else { return Ok(()) };
        let oldest = archived.held.hull().map(|hull| hull.start());
        stream.archived = Some(archived);
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
        if let Some(holding) = self.fleet.fresh_holding(key)
            && let Some(facts) =
                stream.facts(Some(holding), true, judged_until, rules.join_tolerance)
        {
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
        let is_online = self.fleet.session(&key.device).is_some();
        match stream.facts(holding, is_online, judged_until, rules.join_tolerance) {
            Some(facts) => self.show(key, facts.timeline(), now).await,
            None => Ok(()),
        }
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
        if self.evaluated.elapsed() >= EVALUATE {
            self.evaluated = Instant::now();
            self.evaluate_all().await?;
        }
        self.start_parts().await;
        for question in self.asks.due(now()) {
            self.ask(question).await;
        }
        Ok(())
    }

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
