//! What is pulled next and how fast: the one queue of all modes, carried out.
//!
//! [`crate::queue`] orders, [`crate::bandwidth`] divides, [`crate::forecast`] reckons; here they are told what is
//! there, and the puller is told what they said.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::message::DeviceId;
use sdcard_indexer::time::Timestamp;

use super::{Action, Core, EVALUATE, Event};
use crate::bandwidth::{self, Flow, PolicyLimits};
use crate::board::AtRisk;
use crate::fleet::StreamKey;
use crate::forecast::{self, Forecast, Missing};
use crate::horizon::Horizon;
use crate::ledger::{PartId, PartRecord, PartState};
use crate::mode::Mode;
use crate::order::{DeviceWork, Loss, PartWork, Work};
use crate::policy::{Policy, PolicyName};
use crate::pull::puller::{Pace, PullCommand};
use crate::queue::{self, Candidate, Queue, Step};
use crate::rate::{ByteRate, RateMeter};
use crate::time::MonotonicMicros;
use crate::timeline::{State, Stretch};

/// After the spool could not be written nothing new is pulled for so long.
const SPOOL_PAUSE: Duration = Duration::from_secs(60);
/// How often losses are forecast without being asked for.
const FORECAST_EVERY: Duration = Duration::from_secs(10);
/// A forecast loss is told again once it has grown by so much.
const WORTH_TELLING: Duration = Duration::from_secs(60);

/// What is known of everything that is being pulled, or could be.
#[derive(Debug)]
pub(super) struct Queueing {
    queue: Queue,
    /// Something may be started, or is to be paused, that was not before.
    due: bool,
    planned: MonotonicMicros,
    /// Until when nothing is started, and why.
    pause: Option<(MonotonicMicros, String)>,
    not_before: BTreeMap<PartId, MonotonicMicros>,
    /// Parts whose merge failed, and when it is tried again.
    resting_merges: BTreeMap<PartId, (StreamKey, MonotonicMicros)>,
    /// Of parts that are not whole yet.
    progress: BTreeMap<PartId, Progress>,
    meters: BTreeMap<DeviceId, RateMeter>,
    byte_rates: BTreeMap<StreamKey, ByteRate>,
    /// Of the parts that run.
    paces: BTreeMap<PartId, Pace>,
    /// Told to pause, and not heard of since.
    pausing: BTreeSet<PartId>,
    forecast_at: MonotonicMicros,
    told_lost: BTreeMap<DeviceId, Duration>,
    /// As of the last forecast.
    at_risk: BTreeMap<DeviceId, AtRisk>,
    /// What was last told of all that is to come, and when.
    told_work: Option<(MonotonicMicros, Work)>,
}

impl Default for Queueing {
    fn default() -> Self {
        Queueing {
            queue: Queue::new(),
            due: true,
            planned: MonotonicMicros::default(),
            pause: None,
            not_before: BTreeMap::new(),
            resting_merges: BTreeMap::new(),
            progress: BTreeMap::new(),
            meters: BTreeMap::new(),
            byte_rates: BTreeMap::new(),
            paces: BTreeMap::new(),
            pausing: BTreeSet::new(),
            forecast_at: MonotonicMicros::default(),
            told_lost: BTreeMap::new(),
            at_risk: BTreeMap::new(),
            told_work: None,
        }
    }
}

#[derive(Debug, Default)]
struct Progress {
    durable_bytes: u64,
    meter: RateMeter,
}

impl Queueing {
    /// The next look is to be a whole one.
    pub fn changed(&mut self) {
        self.due = true;
    }

    pub fn located(&mut self, record: &PartRecord) {
        let rate = self.byte_rates.entry(record.key.clone()).or_default();
        rate.learn(record.part.range.duration(), length(record));
        self.due = true;
    }

    /// So much of a part is durable now.
    pub fn progressed(&mut self, key: &StreamKey, part: PartId, bytes: u64, now: MonotonicMicros) {
        let progress = self.progress.entry(part).or_default();
        let new = bytes.saturating_sub(progress.durable_bytes);
        progress.durable_bytes = bytes;
        progress.meter.note(now, new);
        self.meters.entry(key.device.clone()).or_default().note(now, new);
    }

    /// The part does not run any more. What it has is kept in mind only where it will go on.
    pub fn stopped(&mut self, part: PartId, goes_on: bool) {
        self.pausing.remove(&part);
        self.paces.remove(&part);
        if !goes_on {
            self.progress.remove(&part);
            self.not_before.remove(&part);
        }
        self.due = true;
    }

    pub fn start_again_at(&mut self, part: PartId, at: MonotonicMicros) {
        self.not_before.insert(part, at);
    }

    pub fn merge_again_at(&mut self, part: PartId, key: StreamKey, at: MonotonicMicros) {
        self.resting_merges.insert(part, (key, at));
    }

    /// Whether its merge has failed, and is not to be tried again yet.
    pub fn rests(&self, part: PartId) -> bool {
        self.resting_merges.contains_key(&part)
    }

    /// Streams of which a merge is to be tried again.
    pub fn rested_merges(&mut self, now: MonotonicMicros) -> BTreeSet<StreamKey> {
        let rested = self.resting_merges.extract_if(.., |_, (_, at)| *at <= now);
        rested.map(|(_, (key, _))| key).collect()
    }

    /// The spool failed: whatever is started now fails too.
    pub fn pause(&mut self, why: String, now: MonotonicMicros) {
        self.pause = Some((now.after(SPOOL_PAUSE), why));
    }

    /// Bytes of a part, and how many of these have arrived; nothing where it was given up.
    pub fn arrived(&self, record: &PartRecord) -> (u64, u64) {
        let bytes = length(record);
        match record.state {
            PartState::Pulling => {
                let progress = self.progress.get(&record.id);
                (bytes, progress.map_or(0, |progress| progress.durable_bytes.min(bytes)))
            }
            PartState::Pulled | PartState::Publishing | PartState::Archived => (bytes, bytes),
            PartState::Abandoned => (0, 0),
        }
    }

    /// What the device will lose, by the last forecast.
    pub fn at_risk(&self, device: &DeviceId) -> Option<AtRisk> {
        self.at_risk.get(device).cloned()
    }

    pub fn devices_at_risk(&self) -> u64 {
        self.at_risk.len() as u64
    }

    /// Of a device, over the last minute.
    pub fn rate(&self, device: &DeviceId, now: MonotonicMicros) -> Option<u64> {
        self.meters.get(device)?.bytes_per_second(now)
    }
}

fn length(record: &PartRecord) -> u64 {
    record.part.end.saturating_sub(record.part.start)
}

/// On the device, parts of a later mode go first, strictly.
const fn device_priority(mode: Mode) -> u8 {
    match mode {
        Mode::Scheduled => 50,
        Mode::Online => 100,
        Mode::Manual => 200,
    }
}

impl Core {
    /// Starts, pauses and paces, where there may be something to do.
    pub(super) fn plan_pulls(&mut self) {
        let now = self.now.monotonic;
        if !self.queueing.due && now.since(self.queueing.planned) < EVALUATE {
            return;
        }
        self.queueing.due = false;
        self.queueing.planned = now;
        self.queueing.pause.take_if(|(until, _)| *until <= now);
        let (candidates, unwanted) = self.candidates();
        let keys: BTreeMap<PartId, StreamKey> =
            candidates.iter().map(|(key, candidate)| (candidate.part, key.clone())).collect();
        let mut running: Vec<Candidate> = candidates
            .iter()
            .filter(|(_, candidate)| candidate.running)
            .map(|(_, candidate)| candidate.clone())
            .collect();
        let by_part: BTreeMap<PartId, Candidate> =
            candidates.iter().map(|(_, candidate)| (candidate.part, candidate.clone())).collect();
        let candidates = candidates.into_iter().map(|(_, candidate)| candidate).collect();
        let limits = self.limits();
        let steps = self.queueing.queue.plan(candidates, &limits, self.now);
        unwanted.into_iter().for_each(|part| self.pause_part(part));
        let mut starts = Vec::new();
        for step in steps {
            match step {
                Step::Pause(part) => {
                    running.retain(|candidate| candidate.part != part);
                    self.pause_part(part);
                }
                Step::Start(part) => {
                    running.extend(by_part.get(&part).cloned());
                    starts.push(part);
                }
            }
        }
        self.pace(&running, &starts);
        for part in starts {
            if let Some(key) = keys.get(&part) {
                self.start_part(key, part);
            }
        }
        if now.since(self.queueing.forecast_at) >= FORECAST_EVERY {
            self.queueing.forecast_at = now;
            self.warn_of_losses();
        }
    }

    fn limits(&self) -> queue::Limits {
        let devices_per_policy = self.policies.iter().zip(0..);
        queue::Limits {
            parts: self.config.pull.max_active_parts,
            parts_per_device: self.config.pull.max_active_parts_per_device,
            devices_per_policy: devices_per_policy
                .map(|((policy, _), index)| (index, policy.max_devices))
                .collect(),
        }
    }

    /// A policy as the queue knows it.
    fn policy_indices(&self) -> BTreeMap<PolicyName, u16> {
        self.policies
            .iter()
            .zip(0..)
            .map(|((policy, _), index)| (policy.name.clone(), index))
            .collect()
    }

    /// What runs and what could; and what runs and nothing calls for, or cannot, since its device has gone.
    fn candidates(&self) -> (Vec<(StreamKey, Candidate)>, Vec<PartId>) {
        let indices = self.policy_indices();
        let starts_nothing = self.queueing.pause.is_some();
        let (mut candidates, mut unwanted) = (Vec::new(), Vec::new());
        for (key, stream) in &self.streams {
            let pulling = stream.parts.values().filter(|part| part.state == PartState::Pulling);
            let mut pulling = pulling.peekable();
            if pulling.peek().is_none() {
                continue;
            }
            let online = self.fleet.session(&key.device).is_some();
            let Some(wanted) = self.wanted(key).filter(|_| online) else {
                let running = pulling.filter(|record| stream.running.contains(&record.id));
                unwanted.extend(running.map(|record| record.id));
                continue;
            };
            let policy = self.policies.of(key);
            let horizon = self.fleet.holding(key).and_then(|holding| holding.moving_horizon());
            for record in pulling {
                let running = stream.running.contains(&record.id);
                match wanted.mode(record.part.range) {
                    None if running => unwanted.push(record.id),
                    None => {}
                    Some(_) if starts_nothing && !running => {}
                    Some(mode) => {
                        let candidate = Candidate {
                            part: record.id,
                            device: key.device.clone(),
                            policy: indices.get(&policy.name).copied().unwrap_or_default(),
                            mode,
                            priority: policy.priority,
                            range: record.part.range,
                            goes_at: goes_at(horizon.as_ref(), record.part.range.start()),
                            running,
                            not_before: self.queueing.not_before.get(&record.id).copied(),
                        };
                        candidates.push((key.clone(), candidate));
                    }
                }
            }
        }
        (candidates, unwanted)
    }

    fn start_part(&mut self, key: &StreamKey, part: PartId) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Some(record) = stream.parts.get(&part).cloned() else { return };
        stream.running.insert(part);
        let pace = self.queueing.paces.get(&part).copied().unwrap_or_default();
        self.command(PullCommand::Start { record: Box::new(record), pace });
    }

    fn pause_part(&mut self, part: PartId) {
        if self.queueing.pausing.insert(part) {
            self.command(PullCommand::Pause { part });
        }
    }

    /// Divides the bandwidth among all that run, and tells those whose share has changed.
    fn pace(&mut self, running: &[Candidate], starts: &[PartId]) {
        let now = self.now.monotonic;
        let flows: Vec<Flow> = running
            .iter()
            .map(|candidate| Flow {
                part: candidate.part,
                device: candidate.device.clone(),
                policy: candidate.policy,
                mode: candidate.mode,
                measured: self
                    .queueing
                    .progress
                    .get(&candidate.part)
                    .and_then(|progress| progress.meter.bytes_per_second(now)),
            })
            .collect();
        let policies = self.policies.iter().zip(0..).map(|((policy, _), index)| {
            let limits = PolicyLimits {
                all: policy.bytes_per_second(),
                per_device: policy.bytes_per_second_per_device(),
            };
            (index, limits)
        });
        let limits = bandwidth::Limits {
            server: self.config.pull.bytes_per_second(),
            per_device: self.config.pull.bytes_per_second_per_device(),
            policies: policies.collect(),
        };
        let rates = bandwidth::divide(&flows, &limits);
        for candidate in running {
            let part = candidate.part;
            let pace = Pace {
                priority: device_priority(candidate.mode),
                bytes_per_second: rates.get(&part).copied().unwrap_or_default(),
            };
            let known = self.queueing.paces.get(&part).copied();
            if known.is_some_and(|known| is_about(known, pace)) {
                continue;
            }
            self.queueing.paces.insert(part, pace);
            if !starts.contains(&part) {
                self.command(PullCommand::Pace { part, pace });
            }
        }
    }

    /// Says which footage will be overwritten before it can be pulled, while there is time to do something.
    fn warn_of_losses(&mut self) {
        let mut at_risk = BTreeMap::new();
        for work in self.work_by_device() {
            let lost = work.forecast.lost();
            if lost.is_zero() {
                continue;
            }
            at_risk.insert(work.device.clone(), self.risk_of(&work.forecast));
            let told = self.queueing.told_lost.get(&work.device).copied().unwrap_or_default();
            if lost >= told + WORTH_TELLING || told.is_zero() {
                tracing::warn!(device = %work.device, lost_s = lost.as_secs(), "{}", work.forecast.seen_at(self.now.wall));
                self.queueing.told_lost.insert(work.device.clone(), lost);
                self.say(Event::AtRisk { device: work.device, forecast: work.forecast });
            }
        }
        let is_over = |device: &DeviceId, _: &mut Duration| !at_risk.contains_key(device);
        let over: Vec<_> = self.queueing.told_lost.extract_if(.., is_over).collect();
        self.queueing.at_risk = at_risk;
        for (device, _) in over {
            self.say(Event::AtRisk { device, forecast: Forecast::default() });
        }
    }

    /// It costs one reckoning a second, however many ask.
    pub(super) fn work(&mut self) -> Work {
        let now = self.now.monotonic;
        let told = self.queueing.told_work.take();
        let work = match told.filter(|(at, _)| now.since(*at) < EVALUATE) {
            Some(told) => told,
            None => (now, self.reckon_work()),
        };
        self.queueing.told_work.insert(work).1.clone()
    }

    fn reckon_work(&self) -> Work {
        let devices = self.work_by_device().into_iter().map(|work| self.device_work(work));
        let pause = self.queueing.pause.as_ref();
        Work { devices: devices.collect(), paused: pause.map(|(_, why)| why.clone()) }
    }

    fn device_work(&self, work: Reckoned) -> DeviceWork {
        let Reckoned { device, missing, forecast, .. } = work;
        let session = self.fleet.session(&device);
        let mut waits_for: Vec<String> = self
            .streams_of(&device)
            .filter_map(|stream| self.policies.of(&stream.key).why_not(&session?.network))
            .collect();
        let mut parts: Vec<PartWork> = self
            .streams_of(&device)
            .flat_map(|stream| {
                let key = &stream.key;
                let wanted = self.wanted(key);
                let running = stream.running.iter().filter_map(|part| stream.parts.get(part));
                running.filter_map(move |record| {
                    let (bytes, arrived_bytes) = self.queueing.arrived(record);
                    Some(PartWork {
                        part: record.id,
                        stream: key.stream.clone(),
                        range: record.part.range,
                        mode: wanted.as_ref()?.mode(record.part.range)?,
                        bytes,
                        arrived_bytes,
                    })
                })
            })
            .collect();
        parts.sort_by_key(|part| (std::cmp::Reverse(part.mode), part.range));
        let losses = forecast.will_be_lost.iter().flat_map(|(key, lost)| {
            lost.iter().map(|range| Loss { stream: key.stream.clone(), range })
        });
        DeviceWork {
            online: session.is_some(),
            waits_for: waits_for.pop(),
            bytes_per_second: self.queueing.rate(&device, self.now.monotonic),
            parts,
            missing_s: missing.as_secs_f64(),
            missing_bytes: forecast.bytes,
            done_at: forecast.done_at,
            will_be_lost: losses.collect(),
            device,
        }
    }

    /// Each device with something that is still to come, reckoned at the present rate.
    fn work_by_device(&self) -> Vec<Reckoned> {
        let mut open: BTreeMap<DeviceId, Vec<Open>> = BTreeMap::new();
        for key in self.streams.keys() {
            let ranges = self.open_ranges(key);
            if !ranges.is_empty() {
                open.entry(key.device.clone()).or_default().extend(ranges);
            }
        }
        open.into_iter().map(|(device, open)| self.reckon(device, open)).collect()
    }

    /// What is still to come of a stream and the device holds.
    fn open_ranges(&self, key: &StreamKey) -> Vec<Open> {
        if self.is_settled(key) {
            return Vec::new();
        }
        let (Some(wanted), stretches) = (self.wanted(key), self.timeline(key)) else {
            return Vec::new();
        };
        let Some(holding) = self.fleet.holding(key) else { return Vec::new() };
        let horizon = holding.moving_horizon();
        let still_open = |stretch: &Stretch| {
            matches!(stretch.state, State::Pending | State::Transferring | State::Missing)
        };
        let open = stretches.iter().filter(|stretch| still_open(stretch));
        let held = open.flat_map(|stretch| holding.held.clip(stretch.range));
        held.map(|range| Open {
            key: key.clone(),
            range,
            mode: wanted.mode(range),
            goes_at: goes_at(horizon.as_ref(), range.start()),
        })
        .collect()
    }

    fn reckon(&self, device: DeviceId, mut open: Vec<Open>) -> Reckoned {
        open.sort_by_key(|open| {
            let goes_at = open.goes_at.unwrap_or(Timestamp::MAX);
            (std::cmp::Reverse(open.mode), goes_at, open.range)
        });
        let horizons: BTreeMap<&StreamKey, Horizon> = open
            .iter()
            .filter_map(|open| {
                let holding = self.fleet.holding(&open.key)?;
                Some((&open.key, holding.moving_horizon()?))
            })
            .collect();
        let missing: Vec<Missing<'_>> = open
            .iter()
            .map(|open| Missing {
                stream: &open.key,
                range: open.range,
                bytes: self
                    .queueing
                    .byte_rates
                    .get(&open.key)
                    .and_then(|rate| rate.estimate(open.range.duration())),
                horizon: horizons.get(&open.key),
            })
            .collect();
        let rate = self.queueing.rate(&device, self.now.monotonic);
        let starts_at = open.iter().filter_map(|open| self.starts_at(open)).min();
        let forecast = forecast::forecast(&missing, rate, starts_at);
        let missing = open.iter().map(|open| open.range.duration()).sum();
        Reckoned { device, missing, forecast }
    }

    /// When a range's turn can come at the earliest, where that can be told.
    fn starts_at(&self, open: &Open) -> Option<Timestamp> {
        let now = self.now.wall;
        let session = self.fleet.session(&open.key.device);
        if open.mode.is_some() && session.is_some() {
            return Some(now);
        }
        let policy: &Policy = self.policies.of(&open.key);
        let scheduled = policy.modes.contains(Mode::Scheduled);
        policy.schedule.as_ref().filter(|_| scheduled)?.next_after(now)
    }

    /// A part is to be pulled no more, or not now.
    pub(super) fn stop(&mut self, key: &StreamKey, part: PartId, goes_on: bool) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.running.remove(&part);
        }
        self.queueing.stopped(part, goes_on);
    }

    pub(super) fn command(&mut self, command: PullCommand) {
        self.actions.push(Action::Pull(command));
    }
}

/// A range that is still to come.
struct Open {
    key: StreamKey,
    range: sdcard_indexer::time::TimeRange,
    mode: Option<Mode>,
    goes_at: Option<Timestamp>,
}

/// What is to come from a device.
struct Reckoned {
    device: DeviceId,
    missing: Duration,
    forecast: Forecast,
}

fn goes_at(horizon: Option<&Horizon>, at: Timestamp) -> Option<Timestamp> {
    horizon.and_then(|horizon| horizon.goes_at(at))
}

/// A share that differs by less than a tenth is not worth a message.
fn is_about(known: Pace, new: Pace) -> bool {
    let (old, new_rate) = (known.bytes_per_second, new.bytes_per_second);
    let limited_alike = (old == 0) == (new_rate == 0);
    known.priority == new.priority && limited_alike && old.abs_diff(new_rate) <= old / 10
}
