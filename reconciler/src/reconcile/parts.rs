//! Parts on their way: started, pulled, proved, archived, or given up.

use protocol::message::SealCheck;

use super::{Action, Core, Event};
use crate::fleet::StreamKey;
use crate::ledger::{PartRecord, PartState, Traffic};
use crate::pull::engine::Failure;
use crate::pull::puller::PullEvent;
use crate::retry::{Cause, Verdict};
use crate::timeline::{Proof, State, Stretch};

/// Pulls that a card may spoil before what has come of the part is all that will come.
const MOST_CARD_ERRORS: u32 = 3;

impl Core {
    pub(super) fn see_pull(&mut self, event: PullEvent) {
        match event {
            PullEvent::Answer { device, tell } => self.see_answer(&device, tell),
            PullEvent::Progress { key, part, durable_bytes, length_bytes } => {
                self.queueing.progressed(&key, part, durable_bytes, self.now.monotonic);
                self.say(Event::Progress { key, part, durable_bytes, length_bytes });
            }
            PullEvent::Pulled { key, part, card_digest, spool_digest, traffic } => {
                let Some(mut record) = self.part(&key, part) else { return };
                self.count(&mut record, traffic);
                record.digest = Some(card_digest.blake3);
                if card_digest.blake3 != spool_digest {
                    return self.mismatch(record, spool_digest);
                }
                record.state = PartState::Pulled;
                record.proof = match card_digest.seal {
                    SealCheck::Unknown => Proof::Digest,
                    SealCheck::Equal => Proof::Sealed,
                };
                self.queueing.stopped(part, false);
                self.merge(record);
            }
            PullEvent::Lost { key, part, failure, durable_bytes, traffic } => {
                let Some(mut record) = self.part(&key, part) else { return };
                self.count(&mut record, traffic);
                self.lose(record, failure, durable_bytes);
            }
            PullEvent::SpoolFailed { key, part, error } => {
                tracing::error!(stream = %key, part = part.0, error, "the spool fails: pulling pauses");
                self.queueing.pause(error, self.now.monotonic);
                self.stop(&key, part, true);
            }
            PullEvent::Paused { key, part, traffic } => {
                self.stop(&key, part, true);
                let Some(mut record) = self.part(&key, part) else { return };
                self.count(&mut record, traffic);
                self.update(record);
                if let Some(wanted) = self.wanted(&key) {
                    self.forget_unwanted(&key, &wanted);
                }
                self.plan_pulls();
            }
        }
    }

    /// What came for a part in one attempt: for the part, and for everything since the start.
    fn count(&mut self, record: &mut PartRecord, came: Traffic) {
        record.count(came);
        self.traffic.add(came);
    }

    /// The bytes are not those that the card's digest speaks of: again, as often as the budget allows.
    fn mismatch(&mut self, record: PartRecord, found: [u8; 32]) {
        let digests = format!(
            "the card said {}, what arrived is {}",
            blake3::Hash::from(record.digest.unwrap_or_default()).to_hex(),
            blake3::Hash::from(found).to_hex()
        );
        self.actions.push(Action::DiscardSpool(record.id));
        self.failed(record, Cause::DigestMismatch, &digests);
    }

    /// It came to nothing this time: again later, or never.
    pub(super) fn failed(&mut self, mut record: PartRecord, cause: Cause, detail: &str) {
        let (key, part) = (record.key.clone(), record.id);
        match record.tries.failed(cause, self.now.monotonic) {
            Verdict::Again { at } => {
                tracing::warn!(stream = %key, part = part.0, %cause, detail, "to be tried again");
                self.stop(&key, part, cause != Cause::DigestMismatch);
                match record.state {
                    PartState::Pulled => self.queueing.merge_again_at(part, key, at),
                    _ => self.queueing.start_again_at(part, at),
                }
                self.update(record);
            }
            Verdict::GiveUp { tries } => {
                tracing::error!(stream = %key, part = part.0, %cause, detail, tries, "given up");
                // Where the card lost the rest, that is the better word for it.
                if record.proof != Proof::Chunks {
                    let reason = format!("{cause}, tried {tries} times: {detail}");
                    let range = record.part.range;
                    self.conclude(&key, Stretch { range, state: State::Failed { reason } });
                }
                self.abandon(record);
            }
        }
    }

    /// The card will not give the rest: what has arrived is kept, the rest is concluded.
    fn lose(&mut self, mut record: PartRecord, failure: Failure, durable_bytes: u64) {
        if failure == Failure::CardError && record.tries.of(Cause::CardError) < MOST_CARD_ERRORS {
            return self.failed(record, Cause::CardError, "the transfer was given up");
        }
        tracing::warn!(stream = %record.key, part = record.id.0, %failure, durable_bytes, "lost the rest of a part");
        self.queueing.stopped(record.id, false);
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
            // Cut first: once it counts as pulled, a server that starts again merges all that it finds.
            self.actions.push(Action::CutSpool { part: record.id, kept_bytes });
            self.merge(record);
        } else {
            self.abandon(record);
        }
    }

    fn abandon(&mut self, mut record: PartRecord) {
        record.state = PartState::Abandoned;
        self.stop(&record.key, record.id, false);
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

    pub(super) fn archived(&mut self, mut record: PartRecord) {
        record.state = PartState::Archived;
        record.part.media.clear();
        let (key, part) = (record.key.clone(), record.id);
        self.stop(&key, part, false);
        self.report_archived(&record);
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
        if let Some(stream) = self.streams.get_mut(&key) {
            stream.was_placed(part);
        }
        self.plan_pulls();
        self.evaluate(&key);
    }
}
