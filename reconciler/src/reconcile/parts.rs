//! Parts on their way: started, pulled, proved, merged, or given up.

use std::collections::BTreeMap;

use protocol::message::{DeviceId, SealCheck};
use tokio::time::Instant;

use super::merging::Merged;
use super::stream::Stream;
use super::{Event, MOST_MISMATCHES, Reconciler, SPOOL_PAUSE};
use crate::fleet::StreamKey;
use crate::ledger::{LedgerError, PartId, PartRecord, PartState};
use crate::pull::driver::{PullCommand, PullEvent};
use crate::pull::engine::Failure;
use crate::timeline::{Proof, State, Stretch};

impl Reconciler {
    /// Starts waiting parts of devices that are there, oldest first, as far as the limits allow.
    pub(super) async fn start_parts(&mut self) {
        if self.paused_until.is_some_and(|until| Instant::now() < until) {
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
            self.command(PullCommand::Start(Box::new(record))).await;
        }
    }

    pub(super) async fn command(&mut self, command: PullCommand) {
        // Nobody is there any more only when the server ends.
        let _ = self.ports.pulls.send(command).await;
    }

    pub(super) async fn see_pull(&mut self, event: PullEvent) -> Result<(), LedgerError> {
        match event {
            PullEvent::Answer { device, tell } => self.see_answer(&device, tell).await,
            PullEvent::Progress { key, part, durable_bytes, length_bytes } => {
                self.say(Event::Progress { key, part, durable_bytes, length_bytes });
                Ok(())
            }
            PullEvent::Pulled { key, part, card_digest, spool_digest, traffic } => {
                let Some(mut record) = self.record(&key, part) else { return Ok(()) };
                record.count(traffic);
                record.digest = Some(card_digest.blake3);
                if card_digest.blake3 == spool_digest {
                    record.state = PartState::Pulled;
                    record.proof = match card_digest.seal {
                        SealCheck::Unknown => Proof::Digest,
                        SealCheck::Equal => Proof::Sealed,
                    };
                    self.merger.write(&record);
                    return self.update(record).await;
                }
                self.mismatch(record, spool_digest).await
            }
            PullEvent::Lost { key, part, failure, durable_bytes, traffic } => {
                let Some(mut record) = self.record(&key, part) else { return Ok(()) };
                record.count(traffic);
                self.lose(record, failure, durable_bytes).await
            }
            PullEvent::SpoolFailed { key, part, error } => {
                tracing::error!(stream = %key, part = part.0, error, "the spool fails: pulling pauses");
                self.paused_until = Some(Instant::now() + SPOOL_PAUSE);
                if let Some(record) = self.record(&key, part) {
                    self.stop(&record);
                }
                Ok(())
            }
        }
    }

    /// The bytes are not those that the card's digest speaks of: once more, then it has failed.
    async fn mismatch(
        &mut self,
        mut record: PartRecord,
        found: [u8; 32],
    ) -> Result<(), LedgerError> {
        let times = self.mismatches.entry(record.id).or_default();
        *times += 1;
        let again = *times <= MOST_MISMATCHES;
        let digests = format!(
            "the card said {}, what arrived is {}",
            blake3::Hash::from(record.digest.unwrap_or_default()).to_hex(),
            blake3::Hash::from(found).to_hex()
        );
        tracing::warn!(stream = %record.key, part = record.id.0, %digests, again, "digests differ");
        self.discard_spool(record.id);
        let key = record.key.clone();
        if !again {
            record.state = PartState::Abandoned;
            let state = State::Failed { reason: format!("digests differ: {digests}") };
            self.conclude(&key, Stretch { range: record.part.range, state }).await?;
        }
        self.stop(&record);
        self.update(record).await
    }

    /// The card will not give the rest: what has arrived is kept, the rest is concluded.
    async fn lose(
        &mut self,
        mut record: PartRecord,
        failure: Failure,
        durable_bytes: u64,
    ) -> Result<(), LedgerError> {
        tracing::warn!(stream = %record.key, part = record.id.0, %failure, durable_bytes, "lost the rest of a part");
        let key = record.key.clone();
        let range = record.part.range;
        let state = match failure {
            Failure::Gone => Some(State::Overwritten {
                cause: "gone from the card while it was being pulled".to_owned(),
            }),
            // Another recording has taken the place: the device will say what it holds now.
            Failure::Changed => None,
            failure => Some(State::Failed { reason: failure.to_string() }),
        };
        if let Some(state) = state {
            self.conclude(&key, Stretch { range, state }).await?;
        }
        // What lies behind has arrived too, perhaps: it is not what was recorded, and must not be merged.
        let kept_bytes = match failure {
            Failure::Altered { intact } => {
                let intact_bytes = intact.saturating_sub(record.part.start).min(durable_bytes);
                self.spool.cut(record.id.spool_key(), intact_bytes).map_or_else(
                    |error| {
                        tracing::warn!(part = record.id.0, %error, "a spool file cannot be cut");
                        0
                    },
                    |()| intact_bytes,
                )
            }
            _ => durable_bytes,
        };
        if kept_bytes > 0 {
            record.state = PartState::Pulled;
            record.proof = Proof::Chunks;
            self.merger.write(&record);
        } else {
            self.discard_spool(record.id);
            record.state = PartState::Abandoned;
            self.stop(&record);
        }
        self.update(record).await
    }

    async fn conclude(&mut self, key: &StreamKey, verdict: Stretch) -> Result<(), LedgerError> {
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        stream.conclude(verdict);
        self.ledger.put_verdicts(key, &stream.verdicts).await
    }

    fn discard_spool(&self, part: PartId) {
        if let Err(error) = self.spool.remove(part.spool_key()) {
            tracing::warn!(part = part.0, %error, "a spool file stays behind");
        }
    }

    pub(super) async fn see_merge(&mut self, merged: Merged) -> Result<(), LedgerError> {
        let (key, part) = merged.of();
        let Some(mut record) = self.record(&key, part) else { return Ok(()) };
        match merged {
            Merged::Written { written, .. } => {
                record.state = PartState::Publishing;
                record.piece = Some(written.piece().clone());
                self.update(record.clone()).await?;
                self.merger.publish(&record, *written);
                Ok(())
            }
            Merged::Published { .. } => self.archived(record).await,
            Merged::Redo { .. } => {
                record.piece = None;
                let spooled = self.spool.path(part.spool_key()).exists();
                if spooled {
                    record.state = PartState::Pulled;
                    self.merger.write(&record);
                } else {
                    record.state = PartState::Pulling;
                    self.stop(&record);
                }
                self.update(record).await
            }
            Merged::Failed { reason, .. } => {
                tracing::error!(stream = %key, part = part.0, reason, "cannot merge a part");
                let range = record.part.range;
                record.state = PartState::Abandoned;
                self.discard_spool(part);
                self.stop(&record);
                // Where the card lost the rest, that is the better word for it.
                if record.proof != Proof::Chunks {
                    self.conclude(&key, Stretch { range, state: State::Failed { reason } }).await?;
                }
                self.update(record).await
            }
        }
    }

    async fn archived(&mut self, mut record: PartRecord) -> Result<(), LedgerError> {
        record.state = PartState::Archived;
        record.part.media.clear();
        self.stop(&record);
        self.discard_spool(record.id);
        if let Some(piece) = record.piece.clone() {
            tracing::info!(stream = %record.key, part = record.id.0, range = %piece.range, file = %piece.path.display(), "merged");
            self.say(Event::Merged {
                key: record.key.clone(),
                piece,
                part_bytes: record.part.end.saturating_sub(record.part.start),
                received_bytes: record.received_bytes,
                resent_bytes: record.resent_bytes,
            });
        }
        let key = record.key.clone();
        self.update(record).await?;
        self.start_parts().await;
        self.evaluate(&key).await
    }
}
