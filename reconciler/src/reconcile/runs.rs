//! Runs: opened when a policy's time has come, fed with what is archived, closed with their window.

use std::collections::BTreeMap;

use protocol::message::DeviceId;
use sdcard_indexer::time::TimeRange;

use super::{Core, Event};
use crate::fleet::StreamKey;
use crate::ledger::{Entry, PartRecord, REMEMBERED};
use crate::mode::Mode;
use crate::order::OrderError;
use crate::policy::PolicyName;
use crate::run::{DeviceReport, Left, Run, RunId};
use crate::timeline::{State, Stretch};

impl Core {
    pub(super) fn open_run(&self, policy: &PolicyName) -> Option<&Run> {
        self.runs.values().rev().find(|run| run.policy == *policy && run.is_open())
    }

    /// Closes the runs whose window is over, opens those whose time has come, and sees who is there.
    pub(super) fn keep_runs(&mut self) {
        let over = |run: &&Run| {
            let gone = self.policies.get(&run.policy).is_none();
            run.is_open() && (run.window.end() <= self.now.wall || gone)
        };
        let over: Vec<RunId> = self.runs.values().filter(over).map(|run| run.id).collect();
        over.into_iter().for_each(|run| self.close_run(run, false));
        let due: Vec<(PolicyName, TimeRange)> = self
            .policies
            .iter()
            .filter_map(|(policy, _)| {
                let window = policy.schedule.as_ref()?.window_open_at(self.now.wall)?;
                Some((policy.name.clone(), window))
            })
            .filter(|(policy, window)| self.is_new(policy, *window))
            .collect();
        due.into_iter().for_each(|(policy, window)| self.begin_run(policy, window));
    }

    /// A window is run once, whatever the clock does meanwhile. A run that a clock which was ahead has opened
    /// keeps no earlier one from its time.
    fn is_new(&self, policy: &PolicyName, window: TimeRange) -> bool {
        let mut of_policy = self.runs.values().filter(|run| run.policy == *policy);
        !of_policy.any(|run| run.window.start() == window.start())
    }

    fn begin_run(&mut self, policy: PolicyName, window: TimeRange) {
        // Of two windows that overlap, the later one goes on.
        if let Some(earlier) = self.open_run(&policy).map(|run| run.id) {
            self.close_run(earlier, false);
        }
        let last = self.runs.keys().next_back().map_or(0, |run| run.0);
        let id = RunId(last + 1);
        tracing::info!(run = %id, %policy, %window, "a run begins");
        let (opened, devices) = (self.now.wall, BTreeMap::new());
        let run = Run { id, policy, window, opened, closed: None, cancelled: false, devices };
        self.runs.insert(id, run);
        self.see_devices();
        self.tell_run(id);
        self.forget_old_runs();
        self.queueing.changed();
    }

    /// But for the newest of each policy: it says which window was run already.
    fn forget_old_runs(&mut self) {
        let newest: BTreeMap<&PolicyName, RunId> =
            self.runs.values().map(|run| (&run.policy, run.id)).collect();
        let newest: Vec<RunId> = newest.into_values().collect();
        let done = self.runs.values().filter(|run| !run.is_open() && !newest.contains(&run.id));
        let surplus = done.clone().count().saturating_sub(REMEMBERED);
        let oldest: Vec<RunId> = done.take(surplus).map(|run| run.id).collect();
        oldest.iter().for_each(|run| drop(self.runs.remove(run)));
    }

    fn close_run(&mut self, id: RunId, cancelled: bool) {
        let policy = self.runs.get(&id).map(|run| run.policy.clone());
        let is_of_run = |key: &&StreamKey| Some(&self.policies.of(key).name) == policy.as_ref();
        let keys: Vec<StreamKey> = self.streams.keys().filter(is_of_run).cloned().collect();
        // Its report is the last word on it.
        keys.iter().for_each(|key| self.look_afresh(key));
        let left = self.left_by(id);
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.closed = Some(self.now.wall);
        run.cancelled = cancelled;
        for (device, left) in left {
            run.devices.entry(device).or_default().left = left;
        }
        tracing::info!(run = %id, policy = %run.policy, bytes = run.bytes(), left_s = run.left().as_secs(), "a run has ended");
        self.tell_run(id);
        self.queueing.changed();
    }

    pub(super) fn cancel_run(&mut self, id: RunId) -> Result<Run, OrderError> {
        let open = self.runs.get(&id).filter(|run| run.is_open());
        open.ok_or(OrderError::UnknownRun(id))?;
        self.close_run(id, true);
        self.plan_pulls();
        self.runs.get(&id).cloned().ok_or(OrderError::UnknownRun(id))
    }

    fn tell_run(&mut self, id: RunId) {
        let Some(run) = self.runs.get(&id).cloned() else { return };
        self.record(Entry::Run(run.clone()));
        self.say(Event::Run(run));
    }

    /// Notes which devices of open runs are there.
    pub(super) fn see_devices(&mut self) {
        let now = self.now.wall;
        for run in self.runs.values_mut().filter(|run| run.is_open()) {
            for key in self.streams.keys().filter(|key| self.policies.of(key).name == run.policy) {
                let report = run.devices.entry(key.device.clone()).or_default();
                if report.seen.is_none() && self.fleet.session(&key.device).is_some() {
                    report.seen = Some(now);
                }
            }
        }
    }

    /// A part is in the archive: the run of its policy has it in its report, whatever called for it.
    pub(super) fn report_archived(&mut self, record: &PartRecord) {
        let policy = self.policies.of(&record.key).name.clone();
        let Some(id) = self.open_run(&policy).map(|run| run.id) else { return };
        let Some(run) = self.runs.get_mut(&id) else { return };
        let report = run.devices.entry(record.key.device.clone()).or_default();
        let range = record.piece.as_ref().map_or(record.part.range, |piece| piece.range);
        report.streams.entry(record.key.stream.clone()).or_default().insert(range);
        report.parts += 1;
        report.bytes =
            report.bytes.saturating_add(record.part.end.saturating_sub(record.part.start));
        let run = run.clone();
        self.record(Entry::Run(run));
    }

    /// Open runs, with what each would leave if it ended now.
    pub(super) fn open_runs(&self) -> Vec<Run> {
        let open = self.runs.values().filter(|run| run.is_open());
        open.map(|run| {
            let mut run = run.clone();
            for (device, left) in self.left_by(run.id) {
                run.devices.entry(device).or_default().left = left;
            }
            run
        })
        .collect()
    }

    /// What a run has not brought into the archive, and why.
    fn left_by(&self, id: RunId) -> BTreeMap<DeviceId, Vec<Left>> {
        let mut left: BTreeMap<DeviceId, Vec<Left>> = BTreeMap::new();
        let Some(run) = self.runs.get(&id) else { return left };
        for key in self.streams.keys().filter(|key| self.policies.of(key).name == run.policy) {
            let report = run.devices.get(&key.device);
            let stretches = self.timeline(key);
            let open = stretches.iter().filter(|stretch| !stretch.state.is_settled());
            let of_stream = open.map(|Stretch { range, state }| Left {
                stream: key.stream.clone(),
                range: *range,
                why: self.why_left(key, state, report),
            });
            left.entry(key.device.clone()).or_default().extend(united(of_stream));
        }
        left
    }

    fn why_left(&self, key: &StreamKey, state: &State, report: Option<&DeviceReport>) -> String {
        if let State::Failed { reason } = state {
            return format!("failed: {reason}");
        }
        let policy = self.policies.of(key);
        match self.fleet.session(&key.device) {
            None if report.is_none_or(|report| report.seen.is_none()) => {
                "the device was not there".to_owned()
            }
            None => "the device left before it was done".to_owned(),
            Some(session) => match policy.why_not(&session.network) {
                Some(reason) => reason,
                None if !policy.modes.contains(Mode::Scheduled) => {
                    "the policy has no scheduled mode any more".to_owned()
                }
                None => "the window closed before its turn came".to_owned(),
            },
        }
    }
}

/// Neighbours that are left for the same reason are one.
fn united(left: impl Iterator<Item = Left>) -> Vec<Left> {
    let mut united: Vec<Left> = Vec::new();
    for next in left {
        match united.last_mut() {
            Some(last) if last.why == next.why && last.range.end() == next.range.start() => {
                last.range = last.range.hull(&next.range);
            }
            _ => united.push(next),
        }
    }
    united
}
