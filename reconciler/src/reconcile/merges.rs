//! Which part becomes a piece next, and where: of a stream one at a time, in the order of time.
//!
//! What one piece tells of the device's clock counts for the next. Parts that follow each other on the card are so
//! put one behind the other, by whatever the recorder's names are late, and the timeline has no hole between them.

use std::time::Duration;

use sdcard_indexer::time::Timestamp;

use super::meeting::{Neighbours, is_whole};
use super::merging::{MergeStep, Merged};
use super::stream::Stream;
use super::{Action, Core};
use crate::fleet::StreamKey;
use crate::ledger::{Entry, PartId, PartRecord, PartState};
use crate::offset::{Learned, Offsets};
use crate::retry::Cause;

/// A device's coverage that is off by less is not asked for again.
const WORTH_ASKING_AGAIN_NS: u64 = 50_000_000;
/// Less than this between parts is rounding: nothing lies between them on the card.
const NEXT_TO_EACH_OTHER: Duration = Duration::from_millis(100);

impl Core {
    /// Has a part that was pulled become a piece, when its turn comes.
    pub(super) fn merge(&mut self, record: PartRecord) {
        let key = record.key.clone();
        self.update(record);
        self.merge_next(&key);
    }

    /// Parts whose merge failed and whose rest is over.
    pub(super) fn merge_again(&mut self) {
        for key in self.queueing.rested_merges(self.now.monotonic) {
            self.merge_next(&key);
        }
    }

    pub(super) fn merge_next(&mut self, key: &StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let queueing = &self.queueing;
        if let Some(step) = stream.next_merge(|part| queueing.rests(part)) {
            self.actions.push(Action::Merge(step));
        }
    }

    pub(super) fn see_merge(&mut self, merged: Merged) {
        let (key, part) = merged.of();
        if let Some(stream) = self.streams.get_mut(&key) {
            stream.merging.take_if(|merging| *merging == part);
        }
        if let Some(record) = self.part(&key, part) {
            self.go_on_with(record, merged);
        }
        self.merge_next(&key);
    }

    fn go_on_with(&mut self, mut record: PartRecord, merged: Merged) {
        let (key, part) = (record.key.clone(), record.id);
        match merged {
            Merged::Written { piece, learned, .. } => {
                record.state = PartState::Publishing;
                record.piece = Some(piece);
                self.update(record);
                self.learn(&key, part, &learned);
                self.actions.push(Action::Merge(MergeStep::Publish { key, part }));
            }
            Merged::Published { .. } => self.archived(record),
            Merged::Redo { spooled, .. } => {
                record.piece = None;
                if spooled {
                    record.state = PartState::Pulled;
                    self.merge(record);
                } else {
                    record.state = PartState::Pulling;
                    self.stop(&key, part, false);
                    self.update(record);
                }
            }
            Merged::Failed { reason, .. } => {
                record.state = PartState::Pulled;
                record.piece = None;
                self.failed(record, Cause::MergeFailed, &reason);
            }
        }
    }

    /// What frames that both hold have told of the device's clock counts for all that it says from now on, and for
    /// what it has said.
    pub(super) fn learn(&mut self, key: &StreamKey, part: PartId, learned: &[Learned]) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if learned.is_empty() || !stream.is_placed_by_now(part) {
            return;
        }
        let basis = stream.basis.unwrap_or_default();
        let known = stream.offsets.clone();
        let mut moved = false;
        for new in learned {
            let before = stream.offsets.at(new.at).unwrap_or_default().offset_ns;
            moved |= before.abs_diff(new.offset_ns) > WORTH_ASKING_AGAIN_NS;
            stream.offsets.learn(Learned { basis, ..*new });
        }
        let replaced = stream.place_anew(&known);
        let offsets = stream.offsets.clone();
        self.record(Entry::Offsets { key: key.clone(), offsets });
        replaced.into_iter().for_each(|record| self.update(record));
        if moved {
            self.asks.want_coverage(&key.device);
        }
    }
}

impl Stream {
    /// What is to be written next, if anything: `rests` is true of what has failed a moment ago.
    pub(super) fn next_merge(&mut self, rests: impl Fn(PartId) -> bool) -> Option<MergeStep> {
        if self.merging.is_some() {
            return None;
        }
        let waiting = self.parts.values().filter(|record| record.state == PartState::Pulled);
        let waiting = waiting.filter(|record| !rests(record.id));
        let record = waiting.min_by_key(|record| (record.part.range, record.id))?;
        let step = MergeStep::write(record, self.piece_paths(), self.neighbours(record));
        let part = record.id;
        self.merging = Some(part);
        self.running.insert(part);
        Some(step)
    }

    /// Where the pieces stand that the card holds right before and behind a part.
    fn neighbours(&self, record: &PartRecord) -> Neighbours {
        // By the device's time, whatever was known of it when each of them was placed.
        let by_device = |record: &PartRecord| {
            let own = |at: Timestamp| at.saturating_offset(record.offset_ns.saturating_neg());
            (own(record.part.range.start()), own(record.part.range.end()))
        };
        let (start, end) = by_device(record);
        let others = self.parts.values().filter(|other| other.id != record.id);
        let pieces =
            others.filter_map(|other| Some((other, by_device(other), other.piece.as_ref()?)));
        let mut neighbours = Neighbours::default();
        for (other, (others_start, others_end), piece) in pieces {
            let whole = is_whole(piece.range, other.part.range);
            if whole && others_end.distance(start) <= NEXT_TO_EACH_OTHER {
                neighbours.before = Some(piece.range.end());
            }
            if others_start.distance(end) <= NEXT_TO_EACH_OTHER {
                neighbours.behind = Some(piece.range.start());
            }
        }
        neighbours
    }

    /// Parts that no piece was made of yet lie where the device's time is believed to be now; it was `known` before.
    /// Answers those that are not where they were.
    fn place_anew(&self, known: &Offsets) -> Vec<PartRecord> {
        let open = |record: &&PartRecord| {
            matches!(record.state, PartState::Pulling | PartState::Pulled)
                && record.piece.is_none()
                && self.is_placed_by_now(record.id)
        };
        let anew = |record: &PartRecord| {
            let by_device = known.range_to_device(record.part.range);
            let mut record = record.clone();
            record.part.range = self.offsets.range_to_archive(by_device);
            record.offset_ns = record.part.range.start().nanos_from(by_device.start());
            record
        };
        let records = self.parts.values().filter(open).map(|record| (record, anew(record)));
        records.filter(|(record, anew)| *record != anew).map(|(_, anew)| anew).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::{at, key, part, seconds};
    use crate::ledger::Piece;
    use crate::offset::Basis;

    const SECOND_NS: i64 = 1_000_000_000;

    /// A hole of which a card holds three parts, all of them pulled; found in another order.
    fn stream() -> Stream {
        let mut stream = Stream::new(key(), at(0));
        for (id, range) in [(1, seconds(104, 108)), (2, seconds(100, 104)), (3, seconds(108, 112))]
        {
            let record = PartRecord::located(PartId(id), key(), part(range), at(0));
            let record = PartRecord { state: PartState::Pulled, ..record };
            stream.parts.insert(record.id, record);
        }
        stream
    }

    /// Which part comes next, and what is told of the pieces beside it.
    fn next(stream: &mut Stream, rests: impl Fn(PartId) -> bool) -> Option<(i64, Neighbours)> {
        match stream.next_merge(rests)? {
            MergeStep::Write { record, neighbours, .. } => Some((record.id.0, neighbours)),
            step => panic!("{step:?}"),
        }
    }

    fn write(stream: &mut Stream, id: i64, from: i64, to: i64) {
        let (path, digest, range) = (id.to_string().into(), [0; 32], seconds(from, to));
        let piece = Piece { path, digest, size_bytes: 1, range, seams: Vec::new() };
        let record = stream.parts.get_mut(&PartId(id)).unwrap();
        (record.state, record.piece) = (PartState::Publishing, Some(piece));
        stream.merging = None;
    }

    fn learn(stream: &mut Stream, offset_ns: i64) {
        let known = stream.offsets.clone();
        stream.offsets.learn(Learned {
            at: at(102),
            offset_ns,
            error_ns: 1,
            basis: Basis::Vouched,
        });
        let anew = stream.place_anew(&known);
        stream.parts.extend(anew.into_iter().map(|record| (record.id, record)));
    }

    #[test]
    fn parts_of_a_stream_become_pieces_one_after_the_other_in_the_order_of_time() {
        let mut stream = stream();
        let nobody = |_| false;
        assert_eq!(next(&mut stream, nobody), Some((2, Neighbours::default())));
        assert_eq!(next(&mut stream, nobody), None);
        write(&mut stream, 2, 100, 104);
        // What rests after a failure holds up nothing.
        let before = |second| Neighbours { before: Some(at(second)), behind: None };
        assert_eq!(next(&mut stream, |part| part == PartId(1)), Some((3, Neighbours::default())));
        write(&mut stream, 3, 108, 112);
        let between = Neighbours { behind: Some(at(108)), ..before(104) };
        assert_eq!(next(&mut stream, nobody), Some((1, between)));
        assert!(stream.running.contains(&PartId(1)));
    }

    #[test]
    fn what_a_seam_tells_moves_the_parts_behind_it_and_they_follow_its_piece() {
        let mut stream = stream();
        assert_eq!(next(&mut stream, |_| false), Some((2, Neighbours::default())));
        // The recorder names its files a second late.
        write(&mut stream, 2, 101, 105);
        learn(&mut stream, SECOND_NS);
        let range = |stream: &Stream, id| stream.parts[&PartId(id)].part.range;
        let ranges = [2, 1, 3].map(|id| range(&stream, id));
        assert_eq!(ranges, [seconds(100, 104), seconds(105, 109), seconds(109, 113)]);
        let behind = Neighbours { before: Some(at(105)), behind: None };
        assert_eq!(next(&mut stream, |_| false), Some((1, behind)));
        // And by half a second more, later on: what is written stays, and what follows goes on from there.
        write(&mut stream, 1, 105, 109);
        learn(&mut stream, SECOND_NS + SECOND_NS / 2);
        assert_eq!(range(&stream, 1), seconds(105, 109));
        assert_eq!(range(&stream, 3).start(), at(109).saturating_offset(SECOND_NS / 2));
        let behind = Neighbours { before: Some(at(109)), behind: None };
        assert_eq!(next(&mut stream, |_| false), Some((3, behind)));
    }
}
