//! A server: the real `Core` and `Puller`, with spool, merger and archive reader as the drivers have them.
//!
//! It may end between any two deeds. What it finds when it starts again is what the disks kept.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use reconciler::archive::{ArchiveChange, Archived};
use reconciler::fleet::StreamKey;
use reconciler::ledger::{Entry, PartId, PartRecord};
use reconciler::link::{Inbound, Outbound};
use reconciler::order::Order;
use reconciler::pull::engine::MAX_UNSYNCED_BYTES;
use reconciler::pull::puller::{self, PullCommand, PullEvent, Puller};
use reconciler::pull::spooler::{SpoolJob, SpoolResult};
use reconciler::reconcile::{Action, Core, Input, MergeStep, Merged};
use reconciler::time::{MonotonicMicros, Now};

use super::agenda::{MILLISECOND, Micros, Queueing, SECOND};
use super::merger::Written;
use super::world::{Happening, World};

const TICK: Micros = 250 * MILLISECOND;

/// What comes to a server, by the channel that it comes on.
#[derive(Debug)]
pub enum ToServer {
    Tick,
    Control(Inbound),
    Transfer(Inbound),
    Archive(ArchiveChange),
    Pull(PullEvent),
    Merged(Merged),
    Order { number: u64, order: Order },
    Command(PullCommand),
    Spooled(SpoolResult),
    PullerWakes,
    SpoolWorks,
    MergerWorks,
    ArchiveLooks,
    LedgerIsFree,
}

/// A part that the puller has.
#[derive(Debug)]
pub struct Active {
    pub key: StreamKey,
    pub record: PartRecord,
    pub told_to_pause: bool,
}

#[derive(Debug)]
pub struct OpenFile {
    pub inode: usize,
    pub start: u64,
}

pub struct Server {
    pub life: u32,
    core: Core,
    puller: Puller,
    started: Micros,
    /// What waits while the ledger is being written.
    inbox: VecDeque<Input>,
    ledger_busy: bool,
    channels: BTreeMap<&'static str, Queueing>,
    puller_wakes_at: Option<Micros>,
    spool_jobs: VecDeque<SpoolJob>,
    spool_is_busy: bool,
    pub open_files: BTreeMap<PartId, OpenFile>,
    pub merges: VecDeque<MergeStep>,
    pub merger_is_busy: bool,
    pub written: BTreeMap<PartId, Written>,
    watched: BTreeSet<StreamKey>,
    told: BTreeMap<StreamKey, Archived>,
    pub outbound: VecDeque<Outbound>,
    pub active: BTreeMap<PartId, Active>,
    /// Orders that are not answered.
    pub asked: BTreeMap<u64, Micros>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Server").field("life", &self.life).finish_non_exhaustive()
    }
}

impl World {
    /// Both clocks of the server: the monotonic one begins with each start.
    fn server_now(&self, started: Micros) -> Now {
        Now { wall: self.server_wall(), monotonic: MonotonicMicros(SECOND + self.now() - started) }
    }

    pub fn start_server(&mut self) {
        self.server_lives += 1;
        let (life, started) = (self.server_lives, self.now());
        let memory = self.ledger.memory();
        let now = self.server_now(started);
        let random = self.random.generator();
        let (core, actions) = Core::resume(self.config.clone(), memory, random, now);
        let puller = Puller::new(self.config.server.id.clone(), self.random.generator());
        self.server = Some(Server {
            life,
            core,
            puller,
            started,
            inbox: VecDeque::new(),
            ledger_busy: false,
            channels: BTreeMap::new(),
            puller_wakes_at: None,
            spool_jobs: VecDeque::new(),
            spool_is_busy: false,
            open_files: BTreeMap::new(),
            merges: VecDeque::new(),
            merger_is_busy: false,
            written: BTreeMap::new(),
            watched: BTreeSet::new(),
            told: BTreeMap::new(),
            outbound: VecDeque::new(),
            active: BTreeMap::new(),
            asked: BTreeMap::new(),
        });
        self.trace.say(started, || format!("server {life} starts"));
        self.carry_out(actions);
        self.agenda.after(10 * MILLISECOND, Happening::ServerConnects { life });
        self.agenda.after(TICK, Happening::Server { life, event: ToServer::Tick });
        self.agenda.after(TICK, Happening::Server { life, event: ToServer::ArchiveLooks });
    }

    pub fn crash(&mut self, power: bool) {
        let Some(server) = self.server.take() else { return };
        self.bill.crashes += 1;
        self.crash_after = None;
        let now = self.now();
        self.trace.say(now, || format!("server {} ends, power lost: {power}", server.life));
        if power {
            self.disk.lose_power(&mut self.random);
        }
        self.broker.server_is_connected = false;
        let back = self.random.between(SECOND / 2, 20 * SECOND);
        self.agenda.after(back, Happening::ServerStarts);
    }

    /// A deed is about to be done. False where the server does not live to do it.
    fn deed(&mut self) -> bool {
        if let Some((deeds, power)) = self.crash_after {
            if deeds == 0 {
                self.crash(power);
            } else {
                self.crash_after = Some((deeds - 1, power));
            }
        }
        self.server.is_some()
    }

    /// On its channel, in the order of that; channels may overtake each other.
    pub fn deliver(&mut self, event: ToServer) {
        let now = self.now();
        let jitter = self.random.below(2 * MILLISECOND);
        let Some(server) = &mut self.server else { return };
        let channel = match &event {
            ToServer::Control(_) => "control",
            ToServer::Transfer(_) => "transfer",
            ToServer::Archive(_) => "archive",
            ToServer::Pull(_) => "pull",
            ToServer::Merged(_) => "merged",
            ToServer::Order { .. } => "orders",
            ToServer::Command(_) => "commands",
            ToServer::Spooled(_) => "spooled",
            _ => "other",
        };
        let at = server.channels.entry(channel).or_default().arrival(now, jitter);
        self.agenda.at(at, Happening::Server { life: server.life, event });
    }

    pub fn server_hears(&mut self, life: u32, event: ToServer) {
        let now = self.now();
        let Some(server) = self.server.as_mut().filter(|server| server.life == life) else {
            return;
        };
        match event {
            ToServer::Tick => {
                self.agenda.after(TICK, Happening::Server { life, event: ToServer::Tick });
                self.core(Input::Tick);
            }
            ToServer::Control(inbound) => self.core(Input::Inbound(inbound)),
            ToServer::Archive(change) => self.core(Input::Archive(change)),
            ToServer::Pull(event) => self.core(Input::Pull(event)),
            ToServer::Merged(merged) => self.core(Input::Merged(merged)),
            ToServer::Order { number, order } => {
                server.asked.insert(number, now);
                self.core(Input::Order { number, order });
            }
            ToServer::LedgerIsFree => {
                server.ledger_busy = false;
                self.core_goes_on();
            }
            ToServer::Command(command) => self.pull(puller::Input::Command(command)),
            ToServer::Transfer(inbound) => self.pull(puller::Input::Inbound(inbound)),
            ToServer::Spooled(result) => self.pull(puller::Input::Spooled(result)),
            // One that an earlier deadline has taken the place of wakes nobody: it would lead to another, for ever.
            ToServer::PullerWakes if server.puller_wakes_at.is_none_or(|at| at > now) => {}
            ToServer::PullerWakes => {
                server.puller_wakes_at = None;
                self.pull(puller::Input::Tick);
            }
            ToServer::SpoolWorks => self.spool_done(),
            ToServer::MergerWorks => self.merger_done(),
            ToServer::ArchiveLooks => self.archive_looks(life),
        }
    }

    // ---- the core --------------------------------------------------------------------------------------

    fn core(&mut self, input: Input) {
        if let Some(server) = &mut self.server {
            server.inbox.push_back(input);
            self.core_goes_on();
        }
    }

    fn core_goes_on(&mut self) {
        while let Some(server) = self.server.as_mut().filter(|server| !server.ledger_busy) {
            let Some(input) = server.inbox.pop_front() else { return };
            let started = server.started;
            let now = self.server_now(started);
            self.turns += 1;
            let Some(server) = &mut self.server else { return };
            if let Input::Pull(event) = &input {
                note_ended(&mut server.active, event);
                self.watch.note(event);
            }
            let Some(server) = &mut self.server else { return };
            let actions = server.core.handle(input, now);
            self.carry_out(actions);
            self.check_limits();
        }
    }

    /// As the driver does it: what is to be remembered before the next deed, in one go.
    fn carry_out(&mut self, actions: Vec<Action>) {
        let mut entries = Vec::new();
        let mut wrote = false;
        for action in actions {
            match action {
                Action::Record(entry) => entries.push(entry),
                deed => {
                    wrote |= !entries.is_empty();
                    if !self.remember(&mut entries) || !self.deed() {
                        return;
                    }
                    self.act(deed);
                }
            }
        }
        wrote |= !entries.is_empty();
        if self.remember(&mut entries) && wrote && self.plan.weather.slow_ledger > 0 {
            let takes = self.random.below(self.plan.weather.slow_ledger);
            if let Some(server) = &mut self.server {
                server.ledger_busy = true;
                let free = Happening::Server { life: server.life, event: ToServer::LedgerIsFree };
                self.agenda.after(takes, free);
            }
        }
    }

    fn remember(&mut self, entries: &mut Vec<Entry>) -> bool {
        if entries.is_empty() {
            return true;
        }
        if !self.deed() {
            return false;
        }
        for entry in entries.drain(..) {
            self.check_entry(&entry);
            self.ledger.record(entry);
        }
        true
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Record(_) => {}
            Action::Watch(key) => {
                if let Some(server) = &mut self.server {
                    server.watched.insert(key);
                }
            }
            Action::Publish(outbound) => {
                self.check_question(&outbound);
                self.publish(outbound);
            }
            Action::Pull(command) => {
                self.check_command(&command);
                self.deliver(ToServer::Command(command));
            }
            Action::Merge(step) => {
                if let Some(server) = &mut self.server {
                    server.merges.push_back(step);
                }
                self.merger_works();
            }
            Action::SweepSpool(wanted) => {
                let names: Vec<PartId> = self.disk.names.keys().copied().collect();
                let leftovers = names.into_iter().filter(|part| !wanted.contains(part));
                leftovers.for_each(|part| self.disk.remove(part));
            }
            Action::DiscardSpool(part) => self.disk.remove(part),
            Action::CutSpool { part, kept_bytes } => self.disk.cut(part, kept_bytes),
            Action::Answer { number, answer } => self.check_answer(number, answer),
            Action::Say(event) => self.check_event(event),
        }
    }

    // ---- the puller ------------------------------------------------------------------------------------

    fn pull(&mut self, input: puller::Input) {
        self.turns += 1;
        let Some(server) = &self.server else { return };
        let now = self.server_now(server.started).monotonic;
        let Some(server) = &mut self.server else { return };
        let actions = server.puller.handle(input, now);
        for action in actions {
            if !self.deed() {
                return;
            }
            match action {
                puller::Action::Publish(outbound) => {
                    self.check_transfer(&outbound);
                    self.publish(outbound);
                }
                puller::Action::Spool(job) => {
                    if let Some(server) = &mut self.server {
                        server.spool_jobs.push_back(job);
                    }
                    self.spool_works();
                }
                puller::Action::Say(event) => self.deliver(ToServer::Pull(event)),
            }
        }
        self.wake_puller();
    }

    fn wake_puller(&mut self) {
        let now = self.now();
        let Some(server) = &mut self.server else { return };
        let Some(MonotonicMicros(due)) = server.puller.next_deadline() else { return };
        let at = (server.started + due).saturating_sub(SECOND).max(now);
        if server.puller_wakes_at.is_none_or(|known| at < known) {
            server.puller_wakes_at = Some(at);
            let life = server.life;
            self.agenda.at(at, Happening::Server { life, event: ToServer::PullerWakes });
        }
    }

    // ---- the spool's thread ------------------------------------------------------------------------------

    fn spool_works(&mut self) {
        let slow = self.plan.weather.slow_sync;
        let slow = self.random.below(slow);
        let Some(server) = self.server.as_mut().filter(|server| !server.spool_is_busy) else {
            return;
        };
        let Some(job) = server.spool_jobs.front() else { return };
        server.spool_is_busy = true;
        let takes = match job {
            SpoolJob::Append { .. } | SpoolJob::Close { .. } => 20,
            SpoolJob::Open { .. } => 500,
            SpoolJob::Sync { .. } | SpoolJob::Finish { .. } => 1_000 + slow,
        };
        let life = server.life;
        self.agenda.after(takes, Happening::Server { life, event: ToServer::SpoolWorks });
    }

    fn spool_done(&mut self) {
        let Some(server) = &mut self.server else { return };
        server.spool_is_busy = false;
        if let Some(job) = server.spool_jobs.pop_front() {
            if let Some(result) = self.spool_job(job) {
                self.deliver(ToServer::Spooled(result));
            }
            self.spool_works();
        }
    }

    fn spool_job(&mut self, job: SpoolJob) -> Option<SpoolResult> {
        let is_full = self.now() < self.disk.full_until;
        let server = self.server.as_mut()?;
        match job {
            SpoolJob::Open { part, start, end } => {
                let inode = self.disk.open(part);
                let boot = self.disk.boot;
                let file = &mut self.disk.inodes[inode];
                file.bytes.truncate((end - start) as usize);
                if std::mem::replace(&mut file.boot, boot) != boot {
                    // It may not have been durable.
                    let trusted = file.bytes.len().saturating_sub(MAX_UNSYNCED_BYTES as usize);
                    file.bytes.truncate(trusted);
                }
                file.durable_bytes = file.bytes.len();
                let held = start + file.bytes.len() as u64;
                server.open_files.insert(part, OpenFile { inode, start });
                Some(SpoolResult::Opened { part, held })
            }
            SpoolJob::Append { part, offset, payload } => {
                let open = server.open_files.get(&part)?;
                let held = open.start + self.disk.inodes[open.inode].bytes.len() as u64;
                if offset != held {
                    self.fail(format!("{part:?}: written at {offset}, and {held} is next"));
                    return None;
                }
                if is_full {
                    server.open_files.remove(&part);
                    return Some(SpoolResult::Failed { part, error: "the disk is full".into() });
                }
                let inode = open.inode;
                self.disk.inodes[inode].bytes.extend_from_slice(&payload);
                self.check_unsynced(part, inode);
                self.check_called_for(part);
                None
            }
            SpoolJob::Sync { part } => {
                let open = server.open_files.get(&part)?;
                let file = &mut self.disk.inodes[open.inode];
                file.durable_bytes = file.bytes.len();
                Some(SpoolResult::Durable { part, upto: open.start + file.bytes.len() as u64 })
            }
            SpoolJob::Finish { part } => {
                let open = server.open_files.remove(&part)?;
                let file = &mut self.disk.inodes[open.inode];
                file.durable_bytes = file.bytes.len();
                Some(SpoolResult::Finished { part, digest: blake3::hash(&file.bytes).into() })
            }
            SpoolJob::Close { part } => {
                server.open_files.remove(&part);
                None
            }
        }
    }

    // ---- the archive's reader ----------------------------------------------------------------------------

    fn archive_looks(&mut self, life: u32) {
        let join = self.config.archive.join_tolerance();
        let slow = self.random.below(self.plan.weather.slow_archive);
        self.write_live();
        let keys: Vec<StreamKey> =
            self.server.as_ref().map(|s| s.watched.iter().cloned().collect()).unwrap_or_default();
        for key in keys {
            let archived = self.archive.streams.entry(key.clone()).or_default().look(join);
            let Some(server) = &mut self.server else { return };
            if server.told.get(&key) != Some(&archived) {
                server.told.insert(key.clone(), archived.clone());
                self.deliver(ToServer::Archive(ArchiveChange { key, archived }));
            }
        }
        let again = Happening::Server { life, event: ToServer::ArchiveLooks };
        self.agenda.after(SECOND + slow, again);
    }
}

fn note_ended(active: &mut BTreeMap<PartId, Active>, event: &PullEvent) {
    match event {
        PullEvent::Answer { .. } | PullEvent::Progress { .. } => {}
        PullEvent::Pulled { part, .. }
        | PullEvent::Lost { part, .. }
        | PullEvent::SpoolFailed { part, .. }
        | PullEvent::Paused { part, .. } => drop(active.remove(part)),
    }
}
