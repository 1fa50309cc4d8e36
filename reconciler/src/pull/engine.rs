//! One part's transfer, from the first `Open` to the last byte on disk (PROTOCOL.md, "A transfer").
//!
//! MQTT may lose anything silently, and the device keeps no state that matters. So this is the only place
//! that knows how far a part has come, and everything that goes wrong has one answer: open again, under
//! a new transfer id, from the last byte held without a hole. While the process lives that is the last byte
//! written, durable or not; a restarted server begins from what was durable ([`PartJob::durable`]).
//!
//! Pure: events and a `now` in, actions out. It must never ask a device that is not online, never grant
//! more than the window or the disk can take, and never call a part complete before its bytes are durable.

use std::time::Duration;

use bytes::Bytes;
use protocol::message::{
    AskBody, BootId, ConnectionId, Credit, Open, PartDigest, RefusedReason, TransferId,
};
use rand::RngExt;
use rand::rngs::StdRng;
use sdcard_indexer::identity::{SegmentId, SegmentVersion};

use super::MonotonicMicros;
use super::window::Window;

/// Most bytes handed on to be written and not yet durable: a slow disk holds the device back here.
pub const MAX_UNSYNCED_BYTES: u64 = 8 << 20;

/// Made durable after this long of the measured rate, but by no less and no more than these.
const SYNC_AFTER: Duration = Duration::from_millis(400);
const MIN_SYNC_BYTES: u64 = 1 << 20;
const MAX_SYNC_BYTES: u64 = 4 << 20;
/// Also made durable when nothing was written for this long.
const SYNC_WHEN_IDLE: Duration = Duration::from_secs(1);

/// The device drops a transfer that it hears nothing of for 30 s.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// With credit open and nothing coming for this long, or for three round trips, a transfer is lost.
const STALLED_AFTER: Duration = Duration::from_secs(5);
const STALLED_AFTER_ROUND_TRIPS: u32 = 3;

/// Of repeated questions, and of openings in a row that brought nothing.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(10);
/// Card errors in a row, without a byte in between, before the part is given up.
const CARD_ERROR_BUDGET: u32 = 5;

/// A credit is worth its message once it grants this part of the window.
const WORTHWHILE_WINDOW_PART: u64 = 16;

/// What to pull: the bytes `[start, end)` of a segment, not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartJob {
    pub segment: SegmentId,
    pub version: SegmentVersion,
    pub start: u64,
    pub end: u64,
    /// All of `[start, durable)` is in the spool already; `start` for a new part.
    pub durable: u64,
    /// Higher goes first, strictly.
    pub priority: u8,
    /// 0: as fast as the credit allows.
    pub rate_bytes_per_second: u64,
}

#[derive(Debug, Clone)]
pub enum Event {
    /// A fresh `Online` of the device. Repeats of the same connection and boot are harmless.
    Online {
        connection: ConnectionId,
        boot: BootId,
        max_chunk_bytes: u32,
    },
    /// The device, or our own way to the broker, is gone.
    Offline,
    Accepted {
        transfer: TransferId,
    },
    /// The device sent all, and read `[start, end)` as this from its card.
    End {
        transfer: TransferId,
        digest: PartDigest,
    },
    Refused {
        transfer: TransferId,
        reason: RefusedReason,
    },
    /// A data frame whose checksum was right. `echo` is the time of the last credit the device saw, or 0.
    Data {
        transfer: TransferId,
        offset: u64,
        echo: MonotonicMicros,
        payload: Bytes,
    },
    /// The answer to [`Action::Sync`]: all before `upto` is durable.
    Durable {
        upto: u64,
    },
    /// A write or sync failed; ends the transfer.
    WriteFailed,
    /// How many chunks this transfer may have outstanding at the broker.
    Share {
        chunks: u32,
    },
    /// No more than this from now on; 0: as fast as the credit allows.
    Rate {
        bytes_per_second: u64,
    },
    Cancel,
    /// The time of [`Engine::next_deadline`] has come.
    Tick,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Publish on the device's `ask`, with its connection and an expiry of a few seconds.
    Ask(AskBody),
    /// Publish on the device's `credit`.
    Grant(Credit),
    /// Append to the spool; offsets are absolute in the segment, and follow on each other.
    Write { offset: u64, payload: Bytes },
    /// Make durable all that was written, and answer with [`Event::Durable`]. One at a time.
    Sync,
    /// The last action. What was written is durable, unless the failure is [`Failure::Spool`].
    Done(Outcome),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All bytes are held. Whether they are the right ones, a comparison with the device's digest tells.
    Complete {
        device_digest: PartDigest,
    },
    Failed(Failure),
    Cancelled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("the segment is no longer on the card")]
    Gone,
    #[error("another file stands under the segment's name")]
    Changed,
    #[error("the device forbids it")]
    Forbidden,
    #[error("the device finds the request malformed")]
    Malformed,
    #[error("the card cannot be read there, tried {CARD_ERROR_BUDGET} times")]
    CardError,
    #[error(
        "from byte {intact} of the segment on, the card gives back other bytes than were recorded"
    )]
    Altered { intact: u64 },
    #[error("what arrived could not be written to the spool")]
    Spool,
}

/// What a transfer cost. `received_bytes - discarded_bytes` were written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub openings: u64,
    /// Openings given up because data was missing between two chunks.
    pub holes: u64,
    /// Openings given up because nothing came any more.
    pub stalls: u64,
    pub chunks: u64,
    pub received_bytes: u64,
    /// Arrived and were of no use: of an older opening, behind a hole, or held already. The device sent
    /// them, or will send them, more than once.
    pub discarded_bytes: u64,
    /// Chunks of an older opening.
    pub late_chunks: u64,
    /// Chunks that are empty, or reach past what was granted.
    pub bad_chunks: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Engine {
    job: PartJob,
    window: Window,
    transfer_ids: StdRng,
    device: Option<(ConnectionId, BootId)>,
    phase: Phase,
    /// All of `[start, written)` was handed on to be written.
    written: u64,
    durable: u64,
    syncing: bool,
    last_write: MonotonicMicros,
    /// Openings in a row that brought no byte.
    fruitless: u32,
    card_errors: u32,
    counters: Counters,
}

#[derive(Debug)]
enum Phase {
    /// The device is offline.
    Away,
    /// The device is online, and is left alone for a while.
    BackingOff {
        until: MonotonicMicros,
    },
    Open(Opening),
    /// Nothing more is wanted from the device; what was written is becoming durable.
    Settling(Outcome),
    Done,
}

/// One `Open` and what came of it.
#[derive(Debug)]
struct Opening {
    transfer: TransferId,
    /// Asked this often without an answer; `None` once the device was heard of.
    unanswered: Option<u32>,
    /// Absolute offset up to which data was granted.
    limit: u64,
    sequence: u32,
    /// When to repeat the question, or the credit.
    speak_at: MonotonicMicros,
    /// When it last got on, or was last in no position to.
    alive_at: MonotonicMicros,
    digest: Option<PartDigest>,
}

impl Engine {
    /// A transfer to a device not yet known to be online. `window` may have served another part of the
    /// same device; `transfer_ids` must be seeded differently in each process.
    pub fn new(job: PartJob, window: Window, transfer_ids: StdRng) -> Self {
        Engine {
            written: job.durable,
            durable: job.durable,
            job,
            window,
            transfer_ids,
            device: None,
            phase: Phase::Away,
            syncing: false,
            last_write: MonotonicMicros::default(),
            fruitless: 0,
            card_errors: 0,
            counters: Counters::default(),
        }
    }

    /// Takes one event, and appends what is to be done about it, in order.
    pub fn handle(&mut self, event: Event, now: MonotonicMicros, actions: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Done) {
            return;
        }
        match event {
            Event::Online { connection, boot, max_chunk_bytes } => {
                self.window.connected(connection, max_chunk_bytes);
                self.online((connection, boot), now, actions);
            }
            Event::Offline => self.offline(),
            Event::Accepted { transfer } => {
                self.heard(transfer, now, actions);
            }
            Event::End { transfer, digest } => {
                // The device says it again for as long as it gets credit. That brings no byte that was lost on
                // its way: only the first time is a sign of life.
                let repeated = self.opening(transfer).is_some_and(|o| o.digest.is_some());
                if !repeated && let Some(opening) = self.heard(transfer, now, actions) {
                    opening.digest = Some(digest);
                    self.settle_if_whole();
                }
            }
            Event::Refused { transfer, reason } => {
                if self.opening(transfer).is_some() {
                    self.refused(reason, now, actions);
                }
            }
            Event::Data { transfer, offset, echo, payload } => {
                self.data(transfer, offset, echo, payload, now, actions);
            }
            Event::Durable { upto } => {
                self.syncing = false;
                self.durable = upto.clamp(self.durable, self.written);
                self.grant(false, now, actions);
            }
            Event::WriteFailed => {
                self.close(actions);
                self.phase = Phase::Done;
                actions.push(Action::Done(Outcome::Failed(Failure::Spool)));
                return;
            }
            Event::Share { chunks } => self.window.limit_share(chunks),
            Event::Rate { bytes_per_second } => {
                if self.job.rate_bytes_per_second != bytes_per_second {
                    self.job.rate_bytes_per_second = bytes_per_second;
                    self.grant(true, now, actions);
                }
            }
            Event::Cancel => {
                if !matches!(self.phase, Phase::Settling(_)) {
                    self.close(actions);
                    self.phase = Phase::Settling(Outcome::Cancelled);
                }
            }
            Event::Tick => {}
        }
        self.meet_deadlines(now, actions);
        self.sync_if_due(now, actions);
        if let Phase::Settling(outcome) = self.phase
            && self.durable == self.written
        {
            self.phase = Phase::Done;
            actions.push(Action::Done(outcome));
        }
    }

    /// When to call again with [`Event::Tick`], if nothing else happens before; it changes with each event.
    pub fn next_deadline(&self) -> Option<MonotonicMicros> {
        let phase = match &self.phase {
            Phase::BackingOff { until } => Some(*until),
            Phase::Open(opening) => Some(match self.stalled_at(opening) {
                Some(stalled) => stalled.min(opening.speak_at),
                None => opening.speak_at,
            }),
            Phase::Away | Phase::Settling(_) | Phase::Done => None,
        };
        phase.into_iter().chain(self.idle_sync_at()).min()
    }

    /// All of `[start, durable)` is on the disk: the checkpoint to resume from after a restart.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What was learned of the link, for the next part of the same device.
    pub fn window(&self) -> &Window {
        &self.window
    }

    fn online(
        &mut self,
        device: (ConnectionId, BootId),
        now: MonotonicMicros,
        actions: &mut Vec<Action>,
    ) {
        let known = self.device.replace(device);
        if known == Some(device) || matches!(self.phase, Phase::Settling(_)) {
            return;
        }
        self.fruitless = 0;
        self.open(false, now, actions);
    }

    fn offline(&mut self) {
        self.device = None;
        if !matches!(self.phase, Phase::Settling(_)) {
            self.phase = Phase::Away;
        }
    }

    /// The current opening, if it is the one of this id.
    fn opening(&mut self, transfer: TransferId) -> Option<&mut Opening> {
        match &mut self.phase {
            Phase::Open(opening) if opening.transfer == transfer => Some(opening),
            _ => None,
        }
    }

    fn open(&mut self, lost: bool, now: MonotonicMicros, actions: &mut Vec<Action>) {
        self.window.open(lost, now);
        self.counters.openings += 1;
        self.phase = Phase::Open(Opening {
            transfer: TransferId(self.transfer_ids.random()),
            unanswered: Some(0),
            limit: self.target(),
            sequence: 0,
            speak_at: now,
            alive_at: now,
            digest: None,
        });
        self.ask(now, actions);
    }

    /// Asks for the current opening, for the first time or again.
    fn ask(&mut self, now: MonotonicMicros, actions: &mut Vec<Action>) {
        let Phase::Open(Opening { transfer, unanswered: Some(asked), limit, speak_at, .. }) =
            &mut self.phase
        else {
            return;
        };
        *asked += 1;
        *speak_at = now.after(back_off(*asked));
        actions.push(Action::Ask(AskBody::Open(Open {
            transfer: *transfer,
            segment: self.job.segment,
            version: self.job.version,
            start: self.job.start,
            end: self.job.end,
            from: self.written,
            credit_limit: *limit,
            chunk_bytes: self.window.chunk_bytes(),
            rate_bytes_per_second: self.job.rate_bytes_per_second,
            priority: self.job.priority,
        })));
    }

    /// The device speaks of the current opening: from here on it gets credit instead of questions.
    fn heard(
        &mut self,
        transfer: TransferId,
        now: MonotonicMicros,
        actions: &mut Vec<Action>,
    ) -> Option<&mut Opening> {
        let opening = self.opening(transfer)?;
        opening.alive_at = now;
        if opening.unanswered.take().is_some() {
            self.grant(true, now, actions);
        }
        self.opening(transfer)
    }

    fn data(
        &mut self,
        transfer: TransferId,
        offset: u64,
        echo: MonotonicMicros,
        payload: Bytes,
        now: MonotonicMicros,
        actions: &mut Vec<Action>,
    ) {
        let length = payload.len() as u64;
        let offset_of_fresh = self.written;
        let fresh = self.sift(transfer, offset, payload, now, actions);
        self.counters.chunks += 1;
        self.counters.received_bytes += length;
        self.counters.discarded_bytes += length - fresh.len() as u64;
        if fresh.is_empty() {
            return;
        }
        self.written += fresh.len() as u64;
        self.last_write = now;
        self.fruitless = 0;
        self.card_errors = 0;
        actions.push(Action::Write { offset: offset_of_fresh, payload: fresh });
        self.window.received(length, echo, now);
        self.heard(transfer, now, actions);
        self.grant(false, now, actions);
        self.settle_if_whole();
    }

    /// The bytes of a chunk that follow on what is written; empty where there are none.
    fn sift(
        &mut self,
        transfer: TransferId,
        offset: u64,
        mut payload: Bytes,
        now: MonotonicMicros,
        actions: &mut Vec<Action>,
    ) -> Bytes {
        let Some(opening) = self.opening(transfer) else {
            self.counters.late_chunks += 1;
            return Bytes::new();
        };
        let granted = opening.limit;
        let end = offset.checked_add(payload.len() as u64);
        if payload.is_empty() || end.is_none_or(|end| end > granted) {
            self.counters.bad_chunks += 1;
            return Bytes::new();
        }
        let Some(held) = self.written.checked_sub(offset) else {
            self.counters.holes += 1;
            self.open_again(now, actions);
            return Bytes::new();
        };
        let held = usize::try_from(held).unwrap_or(usize::MAX).min(payload.len());
        payload.split_off(held)
    }

    fn refused(&mut self, reason: RefusedReason, now: MonotonicMicros, actions: &mut Vec<Action>) {
        let failure = match reason {
            RefusedReason::Gone => Failure::Gone,
            RefusedReason::Changed => Failure::Changed,
            RefusedReason::Forbidden => Failure::Forbidden,
            RefusedReason::Malformed => Failure::Malformed,
            RefusedReason::Altered { intact } => Failure::Altered { intact },
            RefusedReason::UnknownTransfer => return self.open_again(now, actions),
            RefusedReason::Busy => {
                self.fruitless = self.fruitless.max(1);
                return self.open_again(now, actions);
            }
            RefusedReason::CardError => {
                self.card_errors += 1;
                if self.card_errors < CARD_ERROR_BUDGET {
                    self.fruitless = self.fruitless.max(1);
                    return self.open_again(now, actions);
                }
                Failure::CardError
            }
        };
        self.phase = Phase::Settling(Outcome::Failed(failure));
    }

    /// The opening came to nothing more: another one, at once where it brought bytes, later where not.
    fn open_again(&mut self, now: MonotonicMicros, actions: &mut Vec<Action>) {
        let fruitless = self.fruitless;
        self.fruitless += 1;
        if fruitless == 0 {
            self.open(true, now, actions);
        } else {
            self.phase = Phase::BackingOff { until: now.after(back_off(fruitless)) };
        }
    }

    /// Ends the opening on the device's side.
    fn close(&mut self, actions: &mut Vec<Action>) {
        if let Phase::Open(opening) = &self.phase {
            actions.push(Action::Ask(AskBody::Cancel { transfer: opening.transfer }));
        }
    }

    fn settle_if_whole(&mut self) {
        if let Phase::Open(Opening { digest: Some(device_digest), .. }) = self.phase
            && self.written == self.job.end
        {
            self.phase = Phase::Settling(Outcome::Complete { device_digest });
        }
    }

    /// How far data may come: as far as the window, the disk and the part reach.
    fn target(&self) -> u64 {
        let window = self.written.saturating_add(self.window.bytes());
        let disk = self.durable.saturating_add(MAX_UNSYNCED_BYTES);
        window.min(disk).min(self.job.end)
    }

    /// Sends credit where it moves the limit far enough to be worth it, or where it is `due` anyway.
    fn grant(&mut self, due: bool, now: MonotonicMicros, actions: &mut Vec<Action>) {
        let target = self.target();
        let chunk_bytes = self.window.chunk_bytes();
        let worthwhile = u64::from(chunk_bytes).max(self.window.bytes() / WORTHWHILE_WINDOW_PART);
        let awaited = self.awaits_device();
        let Phase::Open(opening) = &mut self.phase else { return };
        let step = target.saturating_sub(opening.limit);
        let worth_it = step >= worthwhile || (step > 0 && target == self.job.end);
        if opening.unanswered.is_some() || !(due || worth_it) {
            return;
        }
        if !awaited {
            // It had nothing to send with: only from here on is it slow.
            opening.alive_at = now;
        }
        opening.limit += step;
        opening.sequence += 1;
        opening.speak_at = now.after(HEARTBEAT);
        actions.push(Action::Grant(Credit {
            transfer: opening.transfer,
            sequence: opening.sequence,
            limit: opening.limit,
            durable: self.durable,
            chunk_bytes,
            rate_bytes_per_second: self.job.rate_bytes_per_second,
            time: now.0,
        }));
    }

    /// Whether the next move is the device's: it has credit for a chunk, or only its `End` is missing.
    fn awaits_device(&self) -> bool {
        let Phase::Open(opening) = &self.phase else { return false };
        let next = self.written.saturating_add(u64::from(self.window.chunk_bytes()));
        opening.limit >= next.min(self.job.end)
    }

    fn stalled_at(&self, opening: &Opening) -> Option<MonotonicMicros> {
        if opening.unanswered.is_some() || !self.awaits_device() {
            return None;
        }
        let round_trips = self.window.round_trip().unwrap_or_default() * STALLED_AFTER_ROUND_TRIPS;
        Some(opening.alive_at.after(STALLED_AFTER.max(round_trips)))
    }

    fn meet_deadlines(&mut self, now: MonotonicMicros, actions: &mut Vec<Action>) {
        match &self.phase {
            Phase::BackingOff { until } if now >= *until => self.open(true, now, actions),
            Phase::Open(opening) => {
                if self.stalled_at(opening).is_some_and(|stalled| now >= stalled) {
                    self.counters.stalls += 1;
                    self.open_again(now, actions);
                } else if now >= opening.speak_at {
                    // One of the two applies, by whether the device has answered.
                    self.ask(now, actions);
                    self.grant(true, now, actions);
                }
            }
            _ => {}
        }
    }

    fn sync_if_due(&mut self, now: MonotonicMicros, actions: &mut Vec<Action>) {
        let Some(idle_at) = self.idle_sync_at() else { return };
        let rate = self.window.rate_bytes_per_second().unwrap_or(0);
        let enough = rate.saturating_mul(SYNC_AFTER.as_millis() as u64) / 1000;
        let enough = enough.clamp(MIN_SYNC_BYTES, MAX_SYNC_BYTES);
        let last = self.written == self.job.end || matches!(self.phase, Phase::Settling(_));
        if last || self.written - self.durable >= enough || now >= idle_at {
            self.syncing = true;
            actions.push(Action::Sync);
        }
    }

    /// When what was written is to be made durable if nothing follows; `None` where all is, or is being.
    fn idle_sync_at(&self) -> Option<MonotonicMicros> {
        (self.written > self.durable && !self.syncing)
            .then(|| self.last_write.after(SYNC_WHEN_IDLE))
    }
}

/// 1, 2, 4, 8 and then always 10 seconds; `count` is from 1.
fn back_off(count: u32) -> Duration {
    FIRST_BACK_OFF.saturating_mul(1 << (count - 1).min(10)).min(LONGEST_BACK_OFF)
}

#[cfg(test)]
mod tests;
