//! The queue: which parts are pulled next, over all devices, policies and modes.
//!
//! Pure. There is one queue for all modes, so that what a person waits for is weighed against what a policy
//! asked for. It owns the order and the limits of how many; it must never start more than the limits allow, nor
//! pause what nothing more urgent takes the place of. Between calls it keeps one number for each device.
//!
//! The modes are filled one after the other, those that go first in front. Of each, the parts that run keep
//! their places as far as there are any, then waiting parts take what is left. So a part is paused for a part of
//! a higher mode or because a limit was lowered, and never for an equal. Room only shrinks while a plan is made:
//! what did not fit once is not looked at again, and a plan costs one sort and one heap.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use protocol::message::DeviceId;
use sdcard_indexer::time::{TimeRange, Timestamp};

use crate::ledger::PartId;
use crate::mode::Mode;
use crate::time::{MonotonicMicros, Now};

/// Footage that is expected to be overwritten within this time goes before what fairness would choose.
pub const AT_RISK: Duration = Duration::from_secs(24 * 3600);

/// Devices whose turn is remembered. The one forgotten was served longest ago, and goes first as before.
const MOST_REMEMBERED: usize = 16_384;

/// A part that runs, or that could.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    pub part: PartId,
    pub device: DeviceId,
    /// The policy that it is pulled by; an index that means nothing here.
    pub policy: u16,
    pub mode: Mode,
    /// The policy's; higher ones go first.
    pub priority: u8,
    pub range: TimeRange,
    /// When what it needs is expected to be overwritten, where that is known.
    pub goes_at: Option<Timestamp>,
    pub running: bool,
    /// It failed, and is not to be started again before this.
    pub not_before: Option<MonotonicMicros>,
}

/// How many may run at once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Over all devices. 0: none run.
    pub parts: usize,
    /// Of one device. 0: none run.
    pub parts_per_device: usize,
    /// Devices with running parts, by policy. Absent or 0: any number.
    pub devices_per_policy: BTreeMap<u16, usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Start(PartId),
    /// It keeps what it has, and waits for its next turn.
    Pause(PartId),
}

/// What fairness remembers.
#[derive(Debug, Default)]
pub struct Queue {
    /// When each device was last served, as a number that only grows.
    served: BTreeMap<DeviceId, u64>,
    turn: u64,
}

impl Queue {
    pub fn new() -> Self {
        Queue::default()
    }

    /// What is to be done now. `candidates` are all parts that run, and the waiting ones of devices that are
    /// there. Pauses come first, so that no limit is exceeded in between; then starts, the most urgent first.
    pub fn plan(&mut self, candidates: Vec<Candidate>, limits: &Limits, now: Now) -> Vec<Step> {
        let mut by_mode: BTreeMap<Mode, [Vec<Candidate>; 2]> = BTreeMap::new();
        for candidate in candidates {
            let rests = candidate.not_before.is_some_and(|instant| now.monotonic < instant);
            let [running, waiting] = by_mode.entry(candidate.mode).or_default();
            if candidate.running {
                running.push(candidate);
            } else if !rests {
                waiting.push(candidate);
            }
        }
        let mut places = Places::of(limits);
        let (mut pauses, mut starts) = (Vec::new(), Vec::new());
        for mode in Mode::ALL {
            let [running, waiting] = by_mode.remove(&mode).unwrap_or_default();
            let ids: Vec<PartId> = running.iter().map(|candidate| candidate.part).collect();
            let kept = self.choose(running, &mut places, now, |_, _| {});
            let kept: BTreeSet<PartId> = kept.into_iter().collect();
            pauses.extend(ids.into_iter().filter(|part| !kept.contains(part)));
            starts.extend(self.choose(waiting, &mut places, now, Queue::serve));
        }
        self.forget();
        pauses.sort_unstable();
        pauses.into_iter().map(Step::Pause).chain(starts.into_iter().map(Step::Start)).collect()
    }

    /// The parts for which there is room, in the order in which they took it.
    fn choose(
        &mut self,
        mut candidates: Vec<Candidate>,
        places: &mut Places<'_>,
        now: Now,
        serve: impl Fn(&mut Queue, &DeviceId),
    ) -> Vec<PartId> {
        candidates.sort_unstable_by(|a, b| {
            (&a.device, a.within_device()).cmp(&(&b.device, b.within_device()))
        });
        let risky_until = now.wall.saturating_add(AT_RISK);
        // One entry for each device, by its best: only its own turn changes how it compares with the others.
        let mut heads = BinaryHeap::new();
        for row in candidates.chunk_by(|a, b| a.device == b.device) {
            heads.extend(self.head(row, places, risky_until).map(Reverse));
        }
        let mut chosen = Vec::new();
        while let Some(Reverse(Head { row, .. })) = heads.pop() {
            let [first, rest @ ..] = row else { continue };
            if places.are_full() {
                break;
            }
            if places.take(first) {
                chosen.push(first.part);
                serve(self, &first.device);
            }
            heads.extend(self.head(rest, places, risky_until).map(Reverse));
        }
        chosen
    }

    /// The first of a device's row that finds a place, as it compares with those of other devices now.
    fn head<'a>(
        &self,
        row: &'a [Candidate],
        places: &Places<'_>,
        risky_until: Timestamp,
    ) -> Option<Head<'a>> {
        let fitting = row.iter().position(|candidate| places.admit(candidate))?;
        let row = row.get(fitting..)?;
        let first = row.first()?;
        let urgency = Urgency {
            priority: Reverse(first.priority),
            at_risk: first.goes_at.unwrap_or(Timestamp::MAX).min(risky_until),
            running: places.running(&first.device),
            served: self.served.get(&first.device).copied().unwrap_or(0),
            range: first.range,
            part: first.part,
        };
        Some(Head { urgency, row })
    }

    fn serve(&mut self, device: &DeviceId) {
        self.turn += 1;
        self.served.insert(device.clone(), self.turn);
    }

    fn forget(&mut self) {
        let surplus = self.served.len().saturating_sub(MOST_REMEMBERED);
        if surplus == 0 {
            return;
        }
        let mut turns: Vec<u64> = self.served.values().copied().collect();
        turns.sort_unstable();
        if let Some(oldest_kept) = turns.get(surplus) {
            self.served.retain(|_, turn| *turn >= *oldest_kept);
        }
    }
}

impl Candidate {
    /// The order within a device and a mode: smaller ones first.
    fn within_device(&self) -> impl Ord + use<> {
        let goes_at = self.goes_at.unwrap_or(Timestamp::MAX);
        (Reverse(self.priority), goes_at, self.range, self.part)
    }
}

/// The order between devices, within a mode: smaller ones first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Urgency {
    priority: Reverse<u8>,
    /// When it goes, where that is soon; the same for all where it is not.
    at_risk: Timestamp,
    running: usize,
    served: u64,
    range: TimeRange,
    part: PartId,
}

/// What is left of a device's row, by its first.
struct Head<'a> {
    urgency: Urgency,
    row: &'a [Candidate],
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.urgency == other.urgency
    }
}

impl Eq for Head<'_> {}

impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.urgency.cmp(&other.urgency)
    }
}

/// The places that were taken so far.
struct Places<'a> {
    limits: &'a Limits,
    taken: usize,
    by_device: BTreeMap<DeviceId, usize>,
    /// Devices with running parts, of the policies that limit them.
    by_policy: BTreeMap<u16, BTreeSet<DeviceId>>,
}

impl<'a> Places<'a> {
    fn of(limits: &'a Limits) -> Self {
        Places { limits, taken: 0, by_device: BTreeMap::new(), by_policy: BTreeMap::new() }
    }

    fn are_full(&self) -> bool {
        self.taken >= self.limits.parts
    }

    fn running(&self, device: &DeviceId) -> usize {
        self.by_device.get(device).copied().unwrap_or(0)
    }

    fn devices_of(&self, policy: u16) -> Option<usize> {
        self.limits.devices_per_policy.get(&policy).copied().filter(|most| *most > 0)
    }

    fn admit(&self, candidate: &Candidate) -> bool {
        let policy_admits = self.devices_of(candidate.policy).is_none_or(|most| {
            self.by_policy
                .get(&candidate.policy)
                .is_none_or(|devices| devices.len() < most || devices.contains(&candidate.device))
        });
        !self.are_full()
            && self.running(&candidate.device) < self.limits.parts_per_device
            && policy_admits
    }

    fn take(&mut self, candidate: &Candidate) -> bool {
        if !self.admit(candidate) {
            return false;
        }
        self.taken += 1;
        *self.by_device.entry(candidate.device.clone()).or_default() += 1;
        if self.devices_of(candidate.policy).is_some() {
            let devices = self.by_policy.entry(candidate.policy).or_default();
            devices.insert(candidate.device.clone());
        }
        true
    }
}

#[cfg(test)]
mod tests;
