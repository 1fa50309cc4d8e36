//! Tying it together, in the order of the data: what devices hold, what the archive holds, what follows.
//!
//! [`Core`] owns all state and takes every decision. It is pure: what happens comes in as [`Input`] with the
//! time at which it happened, and what is to be done about it comes out as [`Action`]s, in their order. So a
//! whole server can be run through simulated failures. `devices` hears and asks, `parts` follows what is on its
//! way, `wanted` says what calls for footage, `queueing` what is pulled next and how fast, `merges` what becomes a
//! piece next, `jobs` and `runs` keep what people and policies have asked for, `orders` answers people, `shown` those
//! who only look. [`driver`] carries the actions out; `merging` does the file work, `meeting` a part of it.
//!
//! An action is carried out only once all before it are, and what is to be remembered is durable by then:
//! a server may be stopped between any two of them.

mod asks;
mod devices;
pub mod driver;
mod jobs;
mod meeting;
mod merges;
mod merging;
mod orders;
mod parts;
mod queueing;
mod runs;
mod searches;
mod shown;
mod stream;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use protocol::message::{DeviceId, RequestId};
use rand::RngExt;
use rand::rngs::StdRng;
use sdcard_indexer::time::{TimeRange, Timestamp};

use crate::archive::ArchiveChange;
use crate::config::Config;
use crate::fleet::{Fleet, StreamKey};
use crate::forecast::Forecast;
use crate::job::{Job, JobId};
use crate::ledger::{Entry, Memory, PartId, PartRecord, PartState, Piece, StreamRecord, Traffic};
use crate::link::{Inbound, Outbound, Unusable};
use crate::offset::Offsets;
use crate::order::{Answer, Order, OrderError};
use crate::plan::{Rules, Step};
use crate::policy::{Policies, PolicyName};
use crate::pull::puller::{PullCommand, PullEvent};
use crate::run::{Run, RunId};
use crate::time::{MonotonicMicros, Now};
use crate::timeline::{Completeness, Facts, Stretch};

use asks::Asks;
use queueing::Queueing;
use searches::Searches;
use shown::Shown;
use stream::{Stream, Wanted};

pub use merging::{MergeStep, Merged};

/// How often, about, a stream is looked at of which the device that is there could fill something; what changes is
/// looked at at once.
const EVALUATE: Duration = Duration::from_secs(1);
/// How often any other is: there, time alone changes nothing but where the timeline ends.
const EVALUATE_QUIET: Duration = Duration::from_secs(5);
/// A question is void after this long on the device's own clock.
const ASK_EXPIRY: Duration = Duration::from_secs(30);

/// What watchers (a demo, a page) are told.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    Online(DeviceId),
    Offline(DeviceId),
    /// The states of a stream, oldest first; said when a state changes, not when time passes.
    Timeline {
        key: StreamKey,
        stretches: Arc<[Stretch]>,
        completeness: Completeness,
        /// Outside of this nothing has changed.
        changed: TimeRange,
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
    /// A job was taken on, has come to an end, or its outcome has changed.
    Job(Job),
    /// A run has begun, or has ended.
    Run(Run),
    /// Footage of this device is forecast to be overwritten before it can be pulled; said when it grows, and once
    /// nothing is.
    AtRisk {
        device: DeviceId,
        forecast: Forecast,
    },
    /// A policy was put in or taken out.
    Policy(PolicyName),
}

/// What happens.
#[derive(Debug)]
pub enum Input {
    Inbound(Inbound),
    Archive(ArchiveChange),
    Pull(PullEvent),
    Merged(Merged),
    /// A person asks; answered by [`Action::Answer`] of the same number.
    Order {
        number: u64,
        order: Order,
    },
    /// Nothing but time passed; to be said every [`driver::TICK`].
    Tick,
    /// The server is ending: what is only shown is written down too.
    Stop,
}

/// What is to be done about it.
#[derive(Debug)]
pub enum Action {
    Record(Entry),
    /// Look after this stream's archive from now on, and tell what it holds.
    Watch(StreamKey),
    Publish(Outbound),
    Pull(PullCommand),
    Merge(MergeStep),
    /// Of no part but these the spool may keep anything.
    SweepSpool(BTreeSet<PartId>),
    DiscardSpool(PartId),
    /// Of what the spool holds of a part, only these first bytes are what was recorded.
    CutSpool {
        part: PartId,
        kept_bytes: u64,
    },
    Answer {
        number: u64,
        answer: Result<Answer, OrderError>,
    },
    Say(Event),
}

/// See the [module](self).
#[derive(Debug)]
pub struct Core {
    config: Config,
    fleet: Fleet,
    asks: Asks,
    streams: BTreeMap<StreamKey, Stream>,
    /// Those of which the configuration says from when on they should be whole.
    fixed: BTreeSet<StreamKey>,
    shown: BTreeMap<StreamKey, Shown>,
    policies: Policies,
    queueing: Queueing,
    jobs: BTreeMap<JobId, Job>,
    runs: BTreeMap<RunId, Run>,
    searches: Searches,
    last_part: i64,
    link_is_up: bool,
    /// Since the start.
    traffic: Traffic,
    unusable: Unusable,
    evaluated: MonotonicMicros,
    random: StdRng,
    /// When what is being handled happened.
    now: Now,
    actions: Vec<Action>,
}

impl Core {
    /// Takes up everything where it was left. `random` must be seeded differently in each process.
    pub fn resume(config: Config, memory: Memory, random: StdRng, now: Now) -> (Core, Vec<Action>) {
        let configured: Vec<_> = config.streams().collect();
        let fixed = configured.iter().filter(|(_, from)| from.is_some());
        let mut core = Core {
            fixed: fixed.map(|(key, _)| key.clone()).collect(),
            fleet: Fleet::default(),
            asks: Asks::default(),
            streams: BTreeMap::new(),
            shown: BTreeMap::new(),
            policies: config.policies().unwrap_or_default(),
            queueing: Queueing::default(),
            jobs: memory.jobs.into_iter().map(|job| (job.id, job)).collect(),
            runs: memory.runs.into_iter().map(|run| (run.id, run)).collect(),
            searches: Searches::default(),
            last_part: memory.last_part,
            link_is_up: false,
            traffic: Traffic::default(),
            config,
            unusable: Unusable::default(),
            evaluated: now.monotonic,
            random,
            now,
            actions: Vec::new(),
        };
        core.take_over_policies(memory.policies);
        memory.streams.into_iter().for_each(|record| core.take_up(record));
        core.record_all_offline(memory.devices);
        core.sweep_spool();
        for (key, expected_from) in configured {
            core.admit(&key, expected_from.unwrap_or(now.wall));
            if let (Some(from), Some(stream)) = (expected_from, core.streams.get_mut(&key)) {
                stream.expected_from = from;
                core.record(Entry::Stream { key, expected_from: from });
            }
        }
        let actions = std::mem::take(&mut core.actions);
        (core, actions)
    }

    /// Takes what happened, and answers what is to be done about it, in this order.
    pub fn handle(&mut self, input: Input, now: Now) -> Vec<Action> {
        self.now = now;
        self.unusable.at(now.monotonic);
        match input {
            Input::Inbound(inbound) => self.hear(inbound),
            Input::Archive(change) => self.see_archive(change),
            Input::Pull(event) => self.see_pull(event),
            Input::Merged(merged) => self.see_merge(merged),
            Input::Order { number, order } => self.obey(number, order),
            Input::Tick => self.tick(),
            Input::Stop => self.write_timelines(),
        }
        std::mem::take(&mut self.actions)
    }

    fn record(&mut self, entry: Entry) {
        self.actions.push(Action::Record(entry));
    }

    fn say(&mut self, event: Event) {
        self.actions.push(Action::Say(event));
    }

    /// Bytes of parts that are done with, or that no ledger knows any more, are not kept.
    fn sweep_spool(&mut self) {
        let parts = self.streams.values().flat_map(|stream| stream.parts.values());
        let active = parts.filter(|record| record.state.is_active()).map(|record| record.id);
        let active = active.collect();
        self.actions.push(Action::SweepSpool(active));
    }

    fn take_up(&mut self, record: StreamRecord) {
        let StreamRecord { key, expected_from, holding, offsets, verdicts, parts } = record;
        self.fleet.know(&key.device);
        let mut stream = Stream::new(key.clone(), expected_from);
        stream.verdicts = verdicts;
        stream.offsets = offsets;
        if let Some(holding) = holding {
            self.fleet.remember(&key, holding);
        }
        stream.parts = parts.into_iter().map(|record| (record.id, record)).collect();
        for record in stream.parts.values() {
            if record.state == PartState::Publishing {
                stream.running.insert(record.id);
                self.actions.push(Action::Merge(MergeStep::recover(record)));
            }
        }
        self.actions.extend(stream.next_merge(|_| false).map(Action::Merge));
        self.actions.push(Action::Watch(key.clone()));
        self.streams.insert(key, stream);
    }

    /// Makes a stream known.
    fn admit(&mut self, key: &StreamKey, expected_from: Timestamp) {
        if self.streams.contains_key(key) {
            return;
        }
        self.record(Entry::Stream { key: key.clone(), expected_from });
        self.take_up(StreamRecord {
            key: key.clone(),
            expected_from,
            holding: None,
            offsets: Offsets::default(),
            verdicts: Vec::new(),
            parts: Vec::new(),
        });
        tracing::info!(stream = %key, %expected_from, "a new stream");
    }

    fn admits(&self, device: &DeviceId) -> bool {
        let server = &self.config.server;
        self.fleet.knows(device)
            || (server.adopt_devices && self.fleet.devices().len() < server.max_devices)
    }

    /// However many devices there are, only those of this one are looked at.
    fn streams_of(&self, device: &DeviceId) -> impl Iterator<Item = &Stream> {
        let all = self.streams.range(StreamKey::first_of(device)..);
        all.take_while(move |(key, _)| key.device == *device).map(|(_, stream)| stream)
    }

    fn see_archive(&mut self, change: ArchiveChange) {
        let ArchiveChange { key, archived } = change;
        let is_fixed = self.is_fixed(&key);
        let Some(stream) = self.streams.get_mut(&key) else { return };
        let oldest = archived.held.hull().map(|hull| hull.start());
        stream.archive_holds(archived);
        // What was recorded before the stream was first heard of is the beginning of its timeline.
        if let Some(oldest) = oldest.filter(|oldest| *oldest < stream.expected_from && !is_fixed) {
            stream.expected_from = oldest;
            self.record(Entry::Stream { key: key.clone(), expected_from: oldest });
        }
        self.evaluate(&key);
    }

    /// True where the configuration says from when on the recording should be whole.
    fn is_fixed(&self, key: &StreamKey) -> bool {
        self.fixed.contains(key)
    }

    fn rules(&self) -> Rules {
        let archive = &self.config.archive;
        Rules {
            join_tolerance: archive.join_tolerance(),
            open_gap: archive.open_gap(),
            take_final: false,
        }
    }

    /// Looks at one stream anew: concludes, asks, forgets, shows.
    fn evaluate(&mut self, key: &StreamKey) {
        let Some(mut wanted) = self.wanted(key) else { return };
        if let Some(mut facts) = self.facts(key, &wanted) {
            if self.act_on(key, &wanted, &facts) {
                let Some(changed) = self.wanted(key) else { return };
                wanted = changed;
                let Some(changed) = self.facts(key, &wanted) else { return };
                facts = changed;
            }
            self.forget_unwanted(key, &wanted);
            let stretches: Arc<[Stretch]> = facts.timeline().into();
            self.look_again(key, &stretches);
            self.follow_jobs(key, &stretches);
            self.show(key, stretches);
        }
    }

    /// Concludes and asks, by a fresh word of the device. True where that changes the facts.
    fn act_on(&mut self, key: &StreamKey, wanted: &Wanted, facts: &Facts) -> bool {
        let (now, rules, is_fixed) = (self.now, self.rules(), self.is_fixed(key));
        let mut entries = Vec::new();
        if self.is_about_to_know_better(key) {
            return false;
        }
        if let Some(holding) = self.fleet.fresh_holding(key)
            && let Some(stream) = self.streams.get_mut(key)
        {
            let mut concluded = false;
            for step in stream.plan(facts, wanted, holding, rules, now.monotonic) {
                match step {
                    Step::Conclude(verdict) if stream.begins_later(&verdict) && !is_fixed => {
                        let expected_from = verdict.range.end();
                        stream.expected_from = expected_from;
                        entries.push(Entry::Stream { key: key.clone(), expected_from });
                    }
                    Step::Locate(range) => {
                        let request = RequestId(self.random.random());
                        let asked = stream.with_margins(range, self.config.archive.seam_margin());
                        self.asks.locate(request, key, range, asked);
                    }
                    Step::Conclude(verdict) => {
                        tracing::info!(stream = %key, range = %verdict.range, state = %verdict.state, "concluded");
                        stream.conclude(verdict);
                        concluded = true;
                    }
                }
            }
            if concluded {
                entries.push(stream.verdicts_entry());
            }
        }
        let changed = !entries.is_empty();
        self.actions.extend(entries.into_iter().map(Action::Record));
        changed
    }

    /// When time alone may bring something to do.
    fn look_again(&mut self, key: &StreamKey, stretches: &[Stretch]) {
        let is_there = self.fleet.session(&key.device).is_some();
        let is_whole = || stretches.iter().all(|stretch| stretch.state.is_settled());
        let pause = if is_there && !is_whole() { EVALUATE } else { EVALUATE_QUIET };
        // Thousands that were first looked at together are spread, so that nobody waits for all of them at once.
        let share = self.random.random_range(0.75..=1.25);
        if let Some(stream) = self.streams.get_mut(key) {
            stream.look_at = self.now.monotonic.after(pause.mul_f64(share));
        }
    }

    fn facts(&self, key: &StreamKey, wanted: &Wanted) -> Option<Facts> {
        let holding = self.fleet.holding(key);
        let is_online = self.fleet.session(&key.device).is_some();
        let tolerance = self.config.archive.join_tolerance();
        self.streams.get(key)?.facts(wanted, holding, is_online, tolerance)
    }

    fn evaluate_all(&mut self) {
        let keys: Vec<StreamKey> = self.streams.keys().cloned().collect();
        keys.iter().for_each(|key| self.evaluate(key));
    }

    fn evaluate_due(&mut self) {
        let due = self.streams.values().filter(|stream| stream.look_at <= self.now.monotonic);
        let due: Vec<StreamKey> = due.map(|stream| stream.key.clone()).collect();
        due.iter().for_each(|key| self.evaluate(key));
    }

    fn tick(&mut self) {
        let silent = self.fleet.tick(self.now.monotonic);
        self.follow(silent);
        self.keep_runs();
        if self.now.monotonic.since(self.evaluated) >= EVALUATE {
            self.evaluated = self.now.monotonic;
            self.see_devices();
        }
        self.evaluate_due();
        self.expire_jobs();
        self.expire_searches();
        self.merge_again();
        self.plan_pulls();
        for question in self.asks.due(self.now.monotonic) {
            self.ask(question);
        }
    }

    fn part(&self, key: &StreamKey, part: PartId) -> Option<PartRecord> {
        self.streams.get(key)?.parts.get(&part).cloned()
    }

    fn update(&mut self, record: PartRecord) {
        self.record(Entry::Part(record.clone()));
        if let Some(stream) = self.streams.get_mut(&record.key) {
            stream.parts.insert(record.id, record);
        }
    }
}

#[cfg(test)]
mod tests;
