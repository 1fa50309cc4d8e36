//! Parts on their way: started, pulled, proved, merged, or given up.

use std::collections::BTreeMap;

use protocol::message::{DeviceId, SealCheck};

use super::merging::{MergeStep, Merged};
use super::stream::Stream;
use super::{Action, Core, Event, MOST_MISMATCHES, SPOOL_PAUSE};
use crate::fleet::StreamKey;
use crate::ledger::{PartId, PartRecord, PartState};
use crate::pull::engine::Failure;
use crate::pull::puller::{Pace, PullCommand, PullEvent};
use crate::timeline::{Proof, State, Stretch};

impl Core {
    /// Starts waiting parts of devices that are there, oldest first, as far as the limits allow.
    pub(super) fn start_parts(&mut self) {
        if self.paused_until.is_some_and(|until| self.now.monotonic < until) {
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
            let pace = Pace::default();
            self.command(PullCommand::Start { record: Box::new(record), pace });
        }
    }

    pub(super) fn command(&mut self, command: PullCommand) {
        self.actions.push(Action::Pull(command));
    }

    pub(super) fn see_pull(&mut self, event: PullEvent) {
        match event {
            PullEvent::Answer { device, tell } => self.see_answer(&device, tell),
            PullEvent::Progress { key, part, durable_bytes, length_bytes } => {
                self.say(Event::Progress { key, part, durable_bytes, length_bytes });
            }
            PullEvent::Pulled { key, part, card_digest, spool_digest, traffic } => {
                let Some(mut record) = self.part(&key, part) else { return };
                record.count(traffic);
                record.digest = Some(card_digest.blake3);
                if card_digest.blake3 != spool_digest {
                    return self.mismatch(record, spool_digest);
                }
                record.state = PartState::Pulled;
                record.proof = match card_digest.seal {
                    SealCheck::Unknown => Proof::Digest,
                    SealCheck::Equal => Proof::Sealed,
                };
                let step = MergeStep::write(&record);
                self.update(record);
                self.actions.push(Action::Merge(step));
            }
            PullEvent::Lost { key, part, failure, durable_bytes, traffic } => {
                let Some(mut record) = self.part(&key, part) else { return };
                record.count(traffic);
                self.lose(record, failure, durable_bytes);
            }
            PullEvent::SpoolFailed { key, part, error } => {
                tracing::error!(stream = %key, part = part.0, error, "the spool fails: pulling pauses");
                self.paused_until = Some(self.now.monotonic.after(SPOOL_PAUSE));
                self.stop(&key, part);
            }
            PullEvent::Paused { key, part, traffic } => {
                self.stop(&key, part);
                let Some(mut record) = self.part(&key, part) else { return };
                record.count(traffic);
                self.update(record);
            }
        }
    }

    /// The part waits to be started again, or is done.
    fn stop(&mut self, key: &StreamKey, part: PartId) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.running.remove(&part);
        }
    }

    /// The bytes are not those that the card's digest speaks of: once more, then it has failed.
    fn mismatch(&mut self, mut record: PartRecord, found: [u8; 32]) {
        let times = self.mismatches.entry(record.id).or_default();
        *times += 1;
        let again = *times <= MOST_MISMATCHES;
        let digests = format!(
            "the card said {}, what arrived is {}",
            blake3::Hash::from(record.digest.unwrap_or_default()).to_hex(),
            blake3::Hash::from(found).to_hex()
        );
        tracing::warn!(stream = %record.key, part = record.id.0, %digests, again, "digests differ");
        self.actions.push(Action::DiscardSpool(record.id));
        if !again {
            record.state = PartState::Abandoned;
            let state = State::Failed { reason: format!("digests differ: {digests}") };
            self.conclude(&record.key, Stretch { range: record.part.range, state });
        }
        self.stop(&record.key, record.id);
        self.update(record);
    }

    /// The card will not give the rest: what has arrived is kept, the rest is concluded.
    fn lose(&mut self, mut record: PartRecord, failure: Failure, durable_bytes: u64) {
        tracing::warn!(stream = %record.key, part = record.id.0, %failure, durable_bytes, "lost the rest of a part");
        let state = match failure {
            Failure::Gone => Some(State::Overwritten {
                cause: "gone from the card while it was being pulled".to_owned(),
            }),
            // Another recording has taken the place: the device will say what it holds now.
            Failure::Changed => None,
            failure => Some(State::Failed { reason: failure.to_string() }),
        };
        if let Some(state) = state {
            self.conclude(&record.key, Stretch { range: record.part.range, state });
        }
        // What lies behind has arrived too, perhaps: it is not what was recorded, and must not be merged.
        let kept_bytes = match failure {
            Failure::Altered { intact } => {
                intact.saturating_sub(record.part.start).min(durable_bytes)
            }
            _ => durable_bytes,
        };
        if kept_bytes > 0 {
            record.state = PartState::Pulled;
            record.proof = Proof::Chunks;
            let step = MergeStep::write_first(&record, kept_bytes);
            self.update(record);
            self.actions.push(Action::Merge(step));
        } else {
            self.abandon(record);
        }
    }

    fn abandon(&mut self, mut record: PartRecord) {
        record.state = PartState::Abandoned;
        self.stop(&record.key, record.id);
        let part = record.id;
        self.update(record);
        self.actions.push(Action::DiscardSpool(part));
    }

    fn conclude(&mut self, key: &StreamKey, verdict: Stretch) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.conclude(verdict);
        let entry = stream.verdicts_entry();
        self.record(entry);
    }

    pub(super) fn see_merge(&mut self, merged: Merged) {
        let (key, part) = merged.of();
        let Some(mut record) = self.part(&key, part) else { return };
        match merged {
            Merged::Written { piece, .. } => {
                record.state = PartState::Publishing;
                record.piece = Some(piece);
                self.update(record);
                self.actions.push(Action::Merge(MergeStep::Publish { key, part }));
            }
            Merged::Published { .. } => self.archived(record),
            Merged::Redo { spooled, .. } => {
                record.piece = None;
                if spooled {
                    record.state = PartState::Pulled;
                    let step = MergeStep::write(&record);
                    self.update(record);
                    self.actions.push(Action::Merge(step));
                } else {
                    record.state = PartState::Pulling;
                    self.stop(&key, part);
                    self.update(record);
                }
            }
            Merged::Failed { reason, .. } => {
                tracing::error!(stream = %key, part = part.0, reason, "cannot merge a part");
                // Where the card lost the rest, that is the better word for it.
                if record.proof != Proof::Chunks {
                    let range = record.part.range;
                    self.conclude(&key, Stretch { range, state: State::Failed { reason } });
                }
                self.abandon(record);
            }
        }
    }

    fn archived(&mut self, mut record: PartRecord) {
        record.state = PartState::Archived;
        record.part.media.clear();
        let (key, part) = (record.key.clone(), record.id);
        self.stop(&key, part);
        let told = record.piece.clone().map(|piece| Event::Merged {
            key: key.clone(),
            piece,
            part_bytes: record.part.end.saturating_sub(record.part.start),
            received_bytes: record.received_bytes,
            resent_bytes: record.resent_bytes,
        });
        self.update(record);
        self.actions.push(Action::DiscardSpool(part));
        if let Some(Event::Merged { piece, .. }) = &told {
            tracing::info!(stream = %key, part = part.0, range = %piece.range, file = %piece.path.display(), "merged");
        }
        told.into_iter().for_each(|event| self.say(event));
        self.start_parts();
        self.evaluate(&key);
    }
}
