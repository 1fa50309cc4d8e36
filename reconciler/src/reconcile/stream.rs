//! One stream: what is known of it here, and what follows for its timeline.
//!
//! Pure. Whatever changes here is written to the ledger by the driver before it is acted on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::message::Part;
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::{TimeRange, Timestamp};

use crate::archive::Archived;
use crate::fleet::{Holding, StreamKey};
use crate::ledger::{Entry, PartId, PartRecord, PartState};
use crate::plan::{self, Rules, Step};
use crate::time::MonotonicMicros;
use crate::timeline::{Facts, State, Stretch};

/// So many parts of a gap may be lost to a changing card before it counts as failed.
const MOST_ABANDONED_PER_GAP: usize = 5;

/// So often a device may say that it holds a range and not say where.
const MOST_NOT_FOUND: u32 = 3;
/// A device whose coverage is ahead of its card corrects it within seconds.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Stream {
    pub key: StreamKey,
    /// From when on the recording should be whole.
    pub expected_from: Timestamp,
    /// `None` until the archive was read: till then all of it would look like one hole.
    pub archived: Option<Archived>,
    pub parts: BTreeMap<PartId, PartRecord>,
    /// Parts that are being pulled or merged right now.
    pub running: BTreeSet<PartId>,
    pub verdicts: Vec<Stretch>,
    not_found: Vec<NotFound>,
}

/// A range that the device says it holds, and did not find when asked.
#[derive(Debug)]
struct NotFound {
    range: TimeRange,
    times: u32,
    again_at: MonotonicMicros,
}

impl Stream {
    pub fn new(key: StreamKey, expected_from: Timestamp) -> Self {
        Stream {
            key,
            expected_from,
            archived: None,
            parts: BTreeMap::new(),
            running: BTreeSet::new(),
            verdicts: Vec::new(),
            not_found: Vec::new(),
        }
    }

    /// `judged_until`: absence is not judged after this instant. `is_online`: bytes can come from the device
    /// now. `None` until the archive was read.
    pub fn facts(
        &self,
        holding: Option<&Holding>,
        is_online: bool,
        judged_until: Timestamp,
        join_tolerance: Duration,
    ) -> Option<Facts> {
        let archived = self.archived.as_ref()?;
        let expected = TimeRange::new(self.expected_from, judged_until).map(Coverage::from);
        let pieces = self.parts.values().filter(|record| record.state == PartState::Archived);
        let edge = pieces.filter_map(|record| Some((record.piece.as_ref()?.range, record.proof)));
        let is_moving = |record: &PartRecord| {
            let waits_for_device = record.state == PartState::Pulling && !is_online;
            self.running.contains(&record.id) && !waits_for_device
        };
        let active = |moving: bool| {
            let records = self.parts.values().filter(|record| record.state.is_active());
            let chosen = records.filter(|record| is_moving(record) == moving);
            chosen.map(|record| record.part.range).collect::<Coverage>()
        };
        Some(Facts {
            expected: expected.unwrap_or_default().difference(&archived.removed),
            live: archived.held.clone(),
            edge: edge.collect(),
            transferring: active(true),
            queued: active(false),
            verdicts: self.verdicts.clone(),
            held: holding.map(|holding| holding.held.clone()).unwrap_or_default(),
            join_tolerance,
        })
    }

    /// What to do about the gaps, by a fresh word of the device.
    pub fn plan(
        &self,
        facts: &Facts,
        holding: &Holding,
        rules: Rules,
        now: MonotonicMicros,
    ) -> Vec<Step> {
        let archive_end = facts.archived().hull().map(|hull| hull.end());
        let steps = plan::plan(&facts.gaps(), archive_end, holding, rules);
        steps.into_iter().filter_map(|step| self.temper(step, now)).collect()
    }

    /// Asking again and again is no plan: waits, or says that it failed.
    fn temper(&self, step: Step, now: MonotonicMicros) -> Option<Step> {
        let Step::Locate(range) = step else { return Some(step) };
        let failed = |reason: &str| {
            let state = State::Failed { reason: reason.to_owned() };
            Some(Step::Conclude(Stretch { range, state }))
        };
        if self.abandoned_in(range) >= MOST_ABANDONED_PER_GAP {
            return failed("the card changed under every attempt to read it");
        }
        let tried = self.not_found.iter().filter(|tried| tried.range.overlaps(&range));
        match tried.max_by_key(|tried| tried.times) {
            Some(tried) if tried.times >= MOST_NOT_FOUND => {
                failed("the device says that it holds this, and cannot say where")
            }
            Some(tried) if now < tried.again_at => None,
            _ => Some(step),
        }
    }

    /// The device was asked where this lies, and did not know.
    pub fn was_not_found(&mut self, range: TimeRange, now: MonotonicMicros) {
        let again_at = now.after(ASK_AGAIN_AFTER);
        match self.not_found.iter_mut().find(|tried| tried.range.overlaps(&range)) {
            Some(tried) => {
                tried.range = tried.range.hull(&range);
                tried.times += 1;
                tried.again_at = again_at;
            }
            None => self.not_found.push(NotFound { range, times: 1, again_at }),
        }
    }

    /// The device found something there after all.
    pub fn was_found(&mut self, range: TimeRange) {
        self.not_found.retain(|tried| !tried.range.overlaps(&range));
    }

    fn abandoned_in(&self, range: TimeRange) -> usize {
        let abandoned = self.parts.values().filter(|record| record.state == PartState::Abandoned);
        abandoned.filter(|record| record.part.range.overlaps(&range)).count()
    }

    /// True where the part, or one that overlaps it in the same bytes, is here or on its way already.
    pub fn has(&self, part: &Part) -> bool {
        self.parts.values().any(|record| {
            let known = &record.part;
            record.state != PartState::Abandoned
                && known.segment == part.segment
                && known.version == part.version
                && known.range.overlaps(&part.range)
        })
    }

    /// Before this nothing is known of, neither here nor on the card: the recording began later.
    pub fn begins_later(&self, verdict: &Stretch) -> bool {
        verdict.range.start() == self.expected_from
            && matches!(verdict.state, State::NeverRecorded { .. })
    }

    /// Adds a verdict; what it overlaps of earlier ones gives way.
    pub fn conclude(&mut self, verdict: Stretch) {
        let cleared = Coverage::from(verdict.range);
        self.retain_verdicts(|_, range| Coverage::from(range).difference(&cleared));
        self.verdicts.push(verdict);
        self.verdicts.sort_by_key(|verdict| verdict.range);
    }

    /// Takes back what was concluded about footage that the device holds after all: a card that was away
    /// and is back, an index that was rebuilt. Failures stay. True where something changed.
    pub fn reopen(&mut self, holding: &Holding) -> bool {
        let before = self.verdicts.clone();
        self.retain_verdicts(|state, range| match state {
            State::Failed { .. } => Coverage::from(range),
            _ => Coverage::from(range).difference(&holding.held),
        });
        before != self.verdicts
    }

    fn retain_verdicts(&mut self, keep: impl Fn(&State, TimeRange) -> Coverage) {
        let kept = self.verdicts.iter().flat_map(|verdict| {
            let remaining = keep(&verdict.state, verdict.range).into_iter();
            remaining.map(|range| Stretch { range, state: verdict.state.clone() })
        });
        self.verdicts = kept.collect();
    }

    pub fn verdicts_entry(&self) -> Entry {
        Entry::Verdicts { key: self.key.clone(), verdicts: self.verdicts.clone() }
    }

    /// Parts that can be started, what the recorder will overwrite first in front.
    pub fn startable(&self) -> impl Iterator<Item = &PartRecord> {
        let mut waiting: Vec<_> = self
            .parts
            .values()
            .filter(|record| {
                record.state == PartState::Pulling && !self.running.contains(&record.id)
            })
            .collect();
        waiting.sort_by_key(|record| record.part.range);
        waiting.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::{at, key, now, part, seconds};

    const TOLERANCE: Duration = Duration::from_millis(500);
    const RULES: Rules = Rules { join_tolerance: TOLERANCE, open_gap: Duration::from_secs(60) };

    fn stream() -> Stream {
        let mut stream = Stream::new(key(), at(0));
        let held = [seconds(0, 100), seconds(145, 300)].into_iter().collect();
        stream.archived = Some(Archived { held, removed: Coverage::new() });
        stream
    }

    fn record(id: i64, range: TimeRange, state: PartState) -> PartRecord {
        let located = PartRecord::located(PartId(id), key(), part(range), at(0));
        PartRecord { state, ..located }
    }

    fn card() -> Holding {
        Holding {
            held: seconds(0, 300).into(),
            horizon: Some(at(0)),
            final_until: at(300),
            ..Holding::default()
        }
    }

    fn plan_of(stream: &Stream) -> Vec<Step> {
        let facts = stream.facts(Some(&card()), true, at(300), TOLERANCE).unwrap();
        stream.plan(&facts, &card(), RULES, now(300).monotonic)
    }

    #[test]
    fn a_gap_that_is_on_its_way_is_not_asked_for_again() {
        let mut stream = stream();
        assert_eq!(plan_of(&stream), [Step::Locate(seconds(100, 145))]);
        stream.parts.insert(PartId(1), record(1, seconds(99, 120), PartState::Pulling));
        assert_eq!(plan_of(&stream), [Step::Locate(seconds(120, 145))]);
    }

    #[test]
    fn a_part_is_transferring_only_while_its_device_is_there() {
        let mut stream = stream();
        stream.parts.insert(PartId(1), record(1, seconds(100, 145), PartState::Pulling));
        stream.running.insert(PartId(1));
        let state = |is_online| {
            let facts = stream.facts(None, is_online, at(300), TOLERANCE).unwrap();
            facts.timeline().get(1).map(|stretch| stretch.state.word())
        };
        assert_eq!((state(true), state(false)), (Some("transferring"), Some("pending")));
    }

    #[test]
    fn a_part_that_was_given_up_is_asked_for_again_but_not_for_ever() {
        let mut stream = stream();
        for id in 0..4 {
            stream.parts.insert(PartId(id), record(id, seconds(99, 146), PartState::Abandoned));
            assert_eq!(plan_of(&stream), [Step::Locate(seconds(100, 145))]);
        }
        stream.parts.insert(PartId(9), record(9, seconds(99, 146), PartState::Abandoned));
        let steps = plan_of(&stream);
        let [Step::Conclude(verdict)] = steps.as_slice() else { panic!("{steps:?}") };
        assert_eq!(verdict.state.word(), "failed");
    }

    #[test]
    fn a_device_that_cannot_say_where_is_asked_three_times_with_pauses() {
        let mut stream = stream();
        for time in [300, 311, 322] {
            let facts = stream.facts(Some(&card()), true, at(300), TOLERANCE).unwrap();
            let asked = stream.plan(&facts, &card(), RULES, now(time).monotonic);
            assert_eq!(asked, [Step::Locate(seconds(100, 145))]);
            stream.was_not_found(seconds(100, 145), now(time).monotonic);
            assert_eq!(
                stream.plan(&facts, &card(), RULES, now(time + 1).monotonic).len(),
                usize::from(time == 322)
            );
        }
        let steps = plan_of(&stream);
        let [Step::Conclude(verdict)] = steps.as_slice() else { panic!("{steps:?}") };
        assert_eq!(verdict.state.word(), "failed");
    }

    #[test]
    fn nothing_is_judged_before_the_archive_was_read() {
        let stream = Stream { archived: None, ..stream() };
        assert!(stream.facts(Some(&card()), true, at(300), TOLERANCE).is_none());
    }

    #[test]
    fn what_was_deleted_in_the_archive_is_not_expected_any_more() {
        let mut stream = stream();
        let held = [seconds(50, 100), seconds(145, 300)].into_iter().collect();
        stream.archived = Some(Archived { held, removed: seconds(0, 50).into() });
        let facts = stream.facts(None, false, at(300), TOLERANCE).unwrap();
        assert_eq!(facts.gaps(), seconds(100, 145).into());
    }

    #[test]
    fn a_verdict_is_taken_back_when_the_card_holds_it_after_all() {
        let mut stream = stream();
        let state = State::NeverRecorded { cause: "x".into() };
        stream.conclude(Stretch { range: seconds(100, 145), state: state.clone() });
        assert_eq!(plan_of(&stream), []);
        let back = Holding { held: seconds(130, 300).into(), ..card() };
        assert!(stream.reopen(&back));
        assert!(!stream.reopen(&back));
        assert_eq!(stream.verdicts, [Stretch { range: seconds(100, 130), state }]);
    }

    #[test]
    fn the_newest_verdict_stands() {
        let mut stream = stream();
        let never = State::NeverRecorded { cause: "x".into() };
        let gone = State::Overwritten { cause: "y".into() };
        stream.conclude(Stretch { range: seconds(100, 145), state: never.clone() });
        stream.conclude(Stretch { range: seconds(110, 120), state: gone.clone() });
        let words: Vec<_> = stream.verdicts.iter().map(|v| (v.range, v.state.word())).collect();
        assert_eq!(
            words,
            [
                (seconds(100, 110), never.word()),
                (seconds(110, 120), gone.word()),
                (seconds(120, 145), never.word())
            ]
        );
    }
}
