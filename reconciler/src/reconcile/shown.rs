//! What is shown: each stream's timeline as it was last reckoned, told to the ledger and to watchers, and given out
//! to whoever looks.
//!
//! To look costs what is seen, not what there is: timelines are shared, and sums are kept beside them.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use protocol::message::DeviceId;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::time::{TimeRange, Timestamp};

use super::stream::Stream;
use super::{Core, EVALUATE, Event};
use crate::board::{
    AtRisk, DeviceStatus, Look, OnCard, PlacedPiece, Sight, Snapshot, StreamStatus, Totals,
};
use crate::fleet::StreamKey;
use crate::forecast::Forecast;
use crate::job::JobState;
use crate::ledger::{Entry, PartState, TimelineRecord};
use crate::order::{Heard, Loss, OrderError};
use crate::run::Run;
use crate::tally::Tally;
use crate::time::{MonotonicMicros, Now};
use crate::timeline::Stretch;

/// A timeline that only grows is written to the ledger no more often than this,
const TIMELINE_PAUSE: Duration = Duration::from_secs(5);
/// and of all streams together no more than so many a second.
const GROWN_TIMELINES_PER_SECOND: u64 = 200;
/// Ranges that are told of what a device will lose; where no more than this lies between two, they are one.
const MOST_LOSSES: usize = 100;
const LOST_AS_ONE: Duration = Duration::from_secs(600);

/// The timeline of a stream as of the last look.
#[derive(Debug)]
pub(super) struct Shown {
    stretches: Arc<[Stretch]>,
    tally: Tally,
    as_of: Now,
    /// When the ledger was last told; `None`: it is to be told at the next look.
    written: Option<MonotonicMicros>,
    /// In the order of [`PartState::ALL`].
    parts: [u64; PartState::ALL.len()],
    running: u64,
}

impl Core {
    /// Keeps what was reckoned, and tells the ledger and the watchers where there is something new to tell.
    pub(super) fn show(&mut self, key: &StreamKey, stretches: Arc<[Stretch]>) {
        let now = self.now;
        let shown = self.shown.get(key);
        let changed = match shown {
            None => {
                Some(hull(&stretches).unwrap_or(TimeRange::starting_at(now.wall, Duration::ZERO)))
            }
            Some(shown) => changed(&shown.stretches, &stretches),
        };
        let share = Duration::from_secs(self.streams.len() as u64 / GROWN_TIMELINES_PER_SECOND);
        let pause = TIMELINE_PAUSE.max(share);
        let last = shown.and_then(|shown| shown.written);
        let is_due = last.is_none_or(|written| now.monotonic.since(written) >= pause);
        let written = match stretches.last() {
            _ if changed.is_some() => {
                let timeline = TimelineRecord { as_of: now.wall, stretches: stretches.to_vec() };
                self.record(Entry::Timeline { key: key.clone(), timeline });
                Some(now.monotonic)
            }
            Some(newest) if is_due => {
                let (as_of, end) = (now.wall, newest.range.end());
                self.record(Entry::TimelineEdge { key: key.clone(), as_of, end });
                Some(now.monotonic)
            }
            _ => last,
        };
        let tally = Tally::of(&stretches);
        if let Some(changed) = changed {
            let (told, completeness) = (stretches.clone(), tally.completeness());
            let key = key.clone();
            self.say(Event::Timeline { key, stretches: told, completeness, changed });
        }
        let (parts, running) = self.streams.get(key).map(count_parts).unwrap_or_default();
        let shown = Shown { stretches, tally, as_of: now, written, parts, running };
        self.shown.insert(key.clone(), shown);
    }

    /// What is only shown is written down too.
    pub(super) fn write_timelines(&mut self) {
        self.shown.values_mut().for_each(|shown| shown.written = None);
        self.evaluate_all();
    }

    /// Every instant that is expected or asked for, by its state as of the last look; nothing until the archive was
    /// read.
    pub(super) fn timeline(&self, key: &StreamKey) -> Arc<[Stretch]> {
        self.shown.get(key).map_or_else(|| Arc::from([]), |shown| shown.stretches.clone())
    }

    /// Nothing of the stream is still to come, as of the last look.
    pub(super) fn is_settled(&self, key: &StreamKey) -> bool {
        self.shown.get(key).is_none_or(|shown| shown.tally.completeness().is_complete())
    }

    /// The timeline to its newest edge. It costs one look a second, however many ask.
    pub(super) fn look_afresh(&mut self, key: &StreamKey) {
        let is_old = |shown: &Shown| self.now.monotonic.since(shown.as_of.monotonic) >= EVALUATE;
        if self.shown.get(key).is_some_and(is_old) {
            self.evaluate(key);
        }
    }

    pub(super) fn look(&mut self, look: Look) -> Result<Sight, OrderError> {
        Ok(match look {
            Look::Devices { after, most } => {
                Sight::Devices(self.device_statuses(after.as_ref(), most))
            }
            Look::Device(device) => Sight::Device(Box::new(self.one_device(device)?)),
            Look::Timeline(key) => {
                self.known(&key)?;
                self.look_afresh(&key);
                Sight::Timeline(self.snapshot(&key))
            }
            Look::Timelines { device, stream, from, most } => {
                Sight::Timelines(self.snapshots(device, stream, from, most)?)
            }
            Look::Held { key, range } => {
                self.known(&key)?;
                Sight::Held(Box::new(self.on_card(key, range)))
            }
            Look::Pieces { key, range } => {
                self.known(&key)?;
                Sight::Pieces(self.pieces(&key, range))
            }
            Look::Totals => Sight::Totals(Box::new(self.totals())),
            Look::Link => Sight::Link { is_up: self.link_is_up },
        })
    }

    fn snapshot(&self, key: &StreamKey) -> Snapshot {
        let shown = self.shown.get(key);
        Snapshot {
            key: key.clone(),
            as_of: shown.map(|shown| shown.as_of.wall),
            stretches: self.timeline(key),
            tally: shown.map(|shown| shown.tally).unwrap_or_default(),
        }
    }

    fn snapshots(
        &self,
        device: Option<DeviceId>,
        stream: Option<StreamId>,
        from: Option<StreamKey>,
        most: usize,
    ) -> Result<Vec<Snapshot>, OrderError> {
        if let Some(device) = &device {
            self.known_device(device)?;
        }
        let from = from.max(device.as_ref().map(StreamKey::first_of));
        let from = from.map_or(Bound::Unbounded, Bound::Included);
        let keys = self.streams.range((from, Bound::Unbounded)).map(|(key, _)| key);
        let chosen = keys
            .take_while(|key| device.as_ref().is_none_or(|device| key.device == *device))
            .filter(|key| stream.as_ref().is_none_or(|stream| key.stream == *stream));
        Ok(chosen.take(most).map(|key| self.snapshot(key)).collect())
    }

    fn device_statuses(&self, after: Option<&DeviceId>, most: usize) -> Vec<DeviceStatus> {
        let behind = self.fleet.devices_after(after).take(most);
        behind.map(|device| self.device_status(device.clone())).collect()
    }

    fn one_device(&self, device: DeviceId) -> Result<DeviceStatus, OrderError> {
        if !self.fleet.knows(&device) {
            self.known_device(&device)?;
        }
        Ok(self.device_status(device))
    }

    fn device_status(&self, device: DeviceId) -> DeviceStatus {
        let session = self.fleet.session(&device);
        DeviceStatus {
            online: session.is_some(),
            last_heard: self.fleet.last_heard(&device),
            agent_version: self.fleet.agent_version(&device).to_owned(),
            network: session.map(|session| session.network.clone()),
            at_risk: self.queueing.at_risk(&device),
            streams: self.streams_of(&device).map(|stream| self.stream_status(stream)).collect(),
            device,
        }
    }

    fn stream_status(&self, stream: &Stream) -> StreamStatus {
        let key = &stream.key;
        let shown = self.shown.get(key);
        let holding = self.fleet.holding(key);
        let archived = stream.archived.as_ref();
        StreamStatus {
            stream: key.stream.clone(),
            policy: self.policies.of(key).name.clone(),
            tally: shown.map(|shown| shown.tally).unwrap_or_default(),
            as_of: shown.map(|shown| shown.as_of.wall),
            expected_from: stream.expected_from,
            recorded: archived.and_then(|archived| archived.held.hull()),
            held: holding.and_then(|holding| holding.held.hull()),
            heard: self.heard(key),
            horizon: holding.and_then(|holding| holding.horizon),
        }
    }

    /// Whose word it is what the device holds of a stream.
    pub(super) fn heard(&self, key: &StreamKey) -> Heard {
        let is_there = self.fleet.session(&key.device).is_some();
        match self.fleet.holding(key) {
            _ if self.fleet.fresh_holding(key).is_some() => Heard::Live,
            Some(_) if is_there => Heard::Silent,
            Some(_) => Heard::Offline,
            None => Heard::Never,
        }
    }

    fn on_card(&self, key: StreamKey, range: TimeRange) -> OnCard {
        let holding = self.fleet.holding(&key);
        OnCard {
            heard: self.heard(&key),
            as_of: self.fleet.last_heard(&key.device),
            held: holding.map(|holding| holding.held.clip(range)).unwrap_or_default(),
            horizon: holding.and_then(|holding| holding.horizon),
            final_until: holding
                .map(|holding| holding.final_until)
                .filter(|until| *until > Timestamp::MIN),
            tier: holding.map(|holding| holding.tier).unwrap_or_default(),
            uncertainty_ns: holding.map(|holding| holding.uncertainty_ns).unwrap_or_default(),
            key,
        }
    }

    fn pieces(&self, key: &StreamKey, range: TimeRange) -> Vec<PlacedPiece> {
        let records = self.streams.get(key).into_iter().flat_map(|stream| stream.parts.values());
        let archived = records.filter(|record| record.state == PartState::Archived);
        let pieces = archived.filter_map(|record| Some((record, record.piece.as_ref()?)));
        let mut pieces: Vec<PlacedPiece> = pieces
            .filter(|(_, piece)| piece.range.overlaps(&range))
            .map(|(record, piece)| PlacedPiece {
                part: record.id,
                range: piece.range,
                proof: record.proof,
                seams: piece.seams.clone(),
            })
            .collect();
        pieces.sort_by_key(|piece| (piece.range, piece.part));
        pieces
    }

    fn totals(&self) -> Totals {
        let is_there = |device: &&DeviceId| self.fleet.session(device).is_some();
        let mut totals = Totals {
            online: self.fleet.devices().filter(is_there).count() as u64,
            devices: self.fleet.devices().len() as u64,
            streams: self.streams.len() as u64,
            jobs_open: self.jobs.values().filter(|job| job.state == JobState::Open).count() as u64,
            runs_open: self.runs.values().filter(|run| Run::is_open(run)).count() as u64,
            received_bytes: self.traffic.received_bytes,
            resent_bytes: self.traffic.discarded_bytes,
            devices_at_risk: self.queueing.devices_at_risk(),
            unusable: self.unusable.totals(),
            link_is_up: self.link_is_up,
            ..Totals::default()
        };
        for shown in self.shown.values() {
            totals.tally = totals.tally.and(&shown.tally);
            totals.running += shown.running;
            totals.parts.iter_mut().zip(shown.parts).for_each(|(sum, parts)| *sum += parts);
        }
        let active = PartState::ALL.iter().zip(totals.parts).filter(|(state, _)| state.is_active());
        let active: u64 = active.map(|(_, parts)| parts).sum();
        totals.waiting = active.saturating_sub(totals.running);
        totals
    }

    /// What will be lost by a forecast, as it is shown.
    pub(super) fn risk_of(&self, forecast: &Forecast) -> AtRisk {
        let firsts = forecast.will_be_lost.iter().filter_map(|(key, lost)| {
            let horizon = self.fleet.holding(key)?.moving_horizon()?;
            horizon.goes_at(lost.hull()?.start())
        });
        let losses = forecast.will_be_lost.iter().flat_map(|(key, lost)| {
            let joined = lost.clone().joined(LOST_AS_ONE).into_iter();
            joined.map(|range| Loss { stream: key.stream.clone(), range })
        });
        AtRisk {
            lost_for: forecast.lost(),
            first_at: firsts.min(),
            done_at: forecast.done_at,
            lost: losses.take(MOST_LOSSES).collect(),
        }
    }
}

/// By state, and how many of them are being pulled or merged.
fn count_parts(stream: &Stream) -> ([u64; PartState::ALL.len()], u64) {
    let mut parts = [0; PartState::ALL.len()];
    for record in stream.parts.values() {
        let counted = PartState::ALL.iter().zip(&mut parts);
        counted.filter(|(state, _)| **state == record.state).for_each(|(_, sum)| *sum += 1);
    }
    (parts, stream.running.len() as u64)
}

fn hull(stretches: &[Stretch]) -> Option<TimeRange> {
    Some(stretches.first()?.range.hull(&stretches.last()?.range))
}

/// Where a state differs, if it does somewhere; that the newest stretch has grown is no difference.
fn changed(old: &[Stretch], new: &[Stretch]) -> Option<TimeRange> {
    let is_continued = |old: &Stretch, new: &Stretch| {
        old.range.start() == new.range.start() && old.state == new.state
    };
    let before = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old, new) = (old.get(before..)?, new.get(before..)?);
    let is_same = |(at, (old, new)): &(usize, (&Stretch, &Stretch))| match at {
        0 => is_continued(old, new),
        _ => old == new,
    };
    let behind = (0..).zip(old.iter().rev().zip(new.iter().rev())).take_while(is_same).count();
    let differing = |all: &[Stretch]| hull(all.get(..all.len().saturating_sub(behind))?);
    let (range, first) = match (differing(old), differing(new)) {
        (Some(one), Some(other)) => (one.hull(&other), old.first().zip(new.first())),
        (one, other) => (one.or(other)?, None),
    };
    // What only ends elsewhere has changed from the nearer end on.
    let ends = first.filter(|(old, new)| is_continued(old, new));
    let nearer = ends.map(|(old, new)| old.range.end().min(new.range.end()));
    nearer.map_or(Some(range), |nearer| TimeRange::new(nearer, range.end()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::seconds;
    use crate::timeline::{Proof, Recorder, State};

    fn timeline(until: i64, holes: &[(i64, i64)]) -> Vec<Stretch> {
        let live = State::Archived { by: Recorder::Live, proof: Proof::None, uncertainty_ns: 0 };
        let (mut stretches, mut at) = (Vec::new(), 0);
        for &(start, end) in holes {
            stretches.push(Stretch { range: seconds(at, start), state: live.clone() });
            stretches.push(Stretch { range: seconds(start, end), state: State::Missing });
            at = end;
        }
        stretches.push(Stretch { range: seconds(at, until), state: live });
        stretches
    }

    #[test]
    fn what_has_changed_is_told_as_narrowly_as_it_can_be() {
        let old = timeline(1_000, &[(100, 145), (300, 310), (600, 650)]);
        assert_eq!(changed(&old, &timeline(1_005, &[(100, 145), (300, 310), (600, 650)])), None);
        let filled = timeline(1_005, &[(100, 145), (600, 650)]);
        assert_eq!(changed(&old, &filled), Some(seconds(300, 600)));
        let new_hole = timeline(1_000, &[(100, 145), (300, 310), (600, 650), (900, 910)]);
        assert_eq!(changed(&old, &new_hole), Some(seconds(900, 1_000)));
        assert_eq!(changed(&old, &[]), Some(seconds(0, 1_000)));
    }

    #[test]
    fn what_ends_elsewhere_amid_of_what_is_not_expected_is_a_change() {
        let (monday, tuesday) = (seconds(0, 100), seconds(200, 300));
        let of = |monday, tuesday| {
            [monday, tuesday].map(|range| Stretch { range, state: State::Missing }).to_vec()
        };
        let old = of(monday, tuesday);
        assert_eq!(changed(&old, &of(monday, seconds(200, 310))), None);
        assert_eq!(changed(&old, &of(seconds(0, 120), tuesday)), Some(seconds(100, 120)));
        assert_eq!(changed(&old, &of(seconds(0, 90), seconds(200, 305))), Some(seconds(90, 100)));
    }

    #[test]
    fn a_state_that_changes_in_place_is_a_change_of_just_that() {
        let old = timeline(1_000, &[(100, 145)]);
        let mut new = old.clone();
        new[1].state = State::Transferring;
        assert_eq!(changed(&old, &new), Some(seconds(100, 145)));
    }
}
