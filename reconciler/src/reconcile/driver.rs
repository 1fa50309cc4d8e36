//! The thin driver around [`super::Core`]: channels, ledger, archive and disk on the outside.
//!
//! One task. It decides nothing; it tells the time, carries out, and ends where the ledger fails.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use sdcard_indexer::layout::Layout;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::merging::{Merged, Merger};
use super::{Action, Core, Event, Input};
use crate::archive::{Archive, ArchiveChange};
use crate::config::{ArchiveConfig, Config};
use crate::ledger::{Entry, Ledger, LedgerError};
use crate::link::{Inbound, Outbox};
use crate::order::{Answer, Order, OrderError};
use crate::pull::puller::{PullCommand, PullEvent};
use crate::spool::Spool;
use crate::time::Clock;

/// How often time itself is looked at: silence, repetitions.
pub const TICK: Duration = Duration::from_millis(250);

/// What the reconciler is connected to.
#[derive(Debug)]
pub struct Ports {
    pub control: mpsc::Receiver<Inbound>,
    pub outbox: Outbox,
    pub archive_changes: mpsc::Receiver<ArchiveChange>,
    pub archive: Archive,
    pub orders: mpsc::Receiver<Asked>,
    pub pulls: mpsc::Sender<PullCommand>,
    pub pull_events: mpsc::Receiver<PullEvent>,
    pub events: broadcast::Sender<Event>,
}

/// An order, and who waits for the answer.
#[derive(Debug)]
pub struct Asked {
    pub order: Order,
    pub answer: oneshot::Sender<Result<Answer, OrderError>>,
}

/// The way by which people's orders reach a running server.
#[derive(Clone, Debug)]
pub struct Desk {
    orders: mpsc::Sender<Asked>,
}

impl Desk {
    /// `capacity` orders may wait; a further one waits for room.
    pub fn open(capacity: usize) -> (Desk, mpsc::Receiver<Asked>) {
        let (orders, asked) = mpsc::channel(capacity);
        (Desk { orders }, asked)
    }

    pub async fn ask(&self, order: Order) -> Result<Answer, OrderError> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(Asked { order, answer }).await.map_err(|_| OrderError::Ending)?;
        answered.await.unwrap_or(Err(OrderError::Ending))
    }
}

/// A server's core with all that it stands on.
pub struct Reconciler {
    core: Core,
    clock: Clock,
    archive: ArchiveConfig,
    ledger: Arc<dyn Ledger>,
    spool: Spool,
    merger: Merger,
    merged: mpsc::Receiver<Merged>,
    /// Who waits for an answer, by the number of the order.
    askers: BTreeMap<u64, oneshot::Sender<Result<Answer, OrderError>>>,
    last_order: u64,
    ports: Ports,
}

impl std::fmt::Debug for Reconciler {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Reconciler").field("core", &self.core).finish_non_exhaustive()
    }
}

impl Reconciler {
    /// Takes up everything where the ledger says it was left.
    pub async fn resume(
        config: Config,
        clock: Clock,
        layout: Layout,
        ledger: Arc<dyn Ledger>,
        spool: Spool,
        ports: Ports,
    ) -> Result<Self, LedgerError> {
        let (merger, merged) = Merger::new(&config, layout, spool.clone(), ports.archive.clone());
        let archive = config.archive.clone();
        let random = StdRng::from_rng(&mut rand::rng());
        let (core, actions) = Core::resume(config, ledger.memory().await?, random, clock.now());
        let mut reconciler = Reconciler {
            core,
            clock,
            archive,
            ledger,
            spool,
            merger,
            merged,
            askers: BTreeMap::new(),
            last_order: 0,
            ports,
        };
        reconciler.carry_out(actions).await?;
        Ok(reconciler)
    }

    /// Runs until `shutdown`, or until the ledger fails.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), LedgerError> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(shutdown);
        loop {
            let (input, last) = tokio::select! {
                () = &mut shutdown => (Input::Stop, true),
                Some(inbound) = self.ports.control.recv() => (Input::Inbound(inbound), false),
                Some(change) = self.ports.archive_changes.recv() => (Input::Archive(change), false),
                Some(event) = self.ports.pull_events.recv() => (Input::Pull(event), false),
                Some(merged) = self.merged.recv() => (Input::Merged(merged), false),
                Some(asked) = self.ports.orders.recv() => (self.number(asked), false),
                _ = ticks.tick() => (Input::Tick, false),
            };
            let actions = self.core.handle(input, self.clock.now());
            self.carry_out(actions).await?;
            if last {
                return Ok(());
            }
        }
    }

    fn number(&mut self, Asked { order, answer }: Asked) -> Input {
        self.last_order += 1;
        let number = self.last_order;
        self.askers.retain(|_, asker| !asker.is_closed());
        self.askers.insert(number, answer);
        Input::Order { number, order }
    }

    /// In their order; what is to be remembered before the next deed, in one go.
    async fn carry_out(&mut self, actions: Vec<Action>) -> Result<(), LedgerError> {
        let mut entries = Vec::new();
        for action in actions {
            match action {
                Action::Record(entry) => entries.push(entry),
                deed => {
                    self.remember(&mut entries).await?;
                    self.act(deed).await;
                }
            }
        }
        self.remember(&mut entries).await
    }

    async fn remember(&self, entries: &mut Vec<Entry>) -> Result<(), LedgerError> {
        if !entries.is_empty() {
            self.ledger.record(entries).await?;
            entries.clear();
        }
        Ok(())
    }

    /// Whoever does not listen any more has ended with the server, or does not need to be told.
    async fn act(&mut self, action: Action) {
        match action {
            Action::Record(_) => {}
            Action::Watch(key) => {
                let path = self.archive.stream_path(&key);
                self.ports.archive.watch(&key, &path);
            }
            // Whoever is to answer is asked again.
            Action::Publish(outbound) => {
                self.ports.outbox.send(outbound);
            }
            Action::Pull(command) => drop(self.ports.pulls.send(command).await),
            Action::Merge(step) => self.merger.begin(step),
            Action::SweepSpool(wanted) => {
                let wanted = wanted.into_iter().map(|part| part.spool_key()).collect();
                match self.spool.sweep(&wanted) {
                    Ok(0) => {}
                    Ok(files) => tracing::info!(files, "removed leftovers from the spool"),
                    Err(error) => tracing::warn!(%error, "leftovers stay in the spool"),
                }
            }
            Action::DiscardSpool(part) => {
                if let Err(error) = self.spool.remove(part.spool_key()) {
                    tracing::warn!(part = part.0, %error, "a spool file stays behind");
                }
            }
            Action::CutSpool { part, kept_bytes } => {
                if let Err(error) = self.spool.cut(part.spool_key(), kept_bytes) {
                    tracing::error!(part = part.0, %error, "a spool file keeps what is not to be merged");
                }
            }
            Action::Answer { number, answer } => {
                if let Some(asker) = self.askers.remove(&number) {
                    drop(asker.send(answer));
                }
            }
            Action::Say(event) => drop(self.ports.events.send(event)),
        }
    }
}
