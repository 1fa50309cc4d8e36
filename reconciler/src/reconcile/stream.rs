//! One stream: what is known of it here, and what follows for its timeline.
//!
//! Pure. Whatever changes here is written to the ledger by the driver before it is acted on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use protocol::message::Part;
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::{TimeRange, Timestamp};

use crate::archive::Archived;
use crate::fleet::{Holding, StreamKey};
use crate::ledger::{Entry, PartId, PartRecord, PartState};
use crate::mode::Mode;
use crate::offset::{Basis, Offsets};
use crate::plan::{self, Rules, Step};
use crate::time::MonotonicMicros;
use crate::timeline::{EdgePiece, Facts, State, Stretch};

/// So many parts of a gap may be lost to a changing card before it counts as failed.
const MOST_ABANDONED_PER_GAP: usize = 5;

/// So often a device may say that it holds a range and not say where.
const MOST_NOT_FOUND: u32 = 3;
/// A device whose coverage is ahead of its card corrects it within seconds.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// How far a name in microseconds may be from the truth says nothing to anybody.
const ROUNDING_NS: u64 = 1_000_000;

/// What should be in the archive, and what calls for it now.
#[derive(Clone, PartialEq, Debug)]
pub struct Wanted {
    /// By the stream's policy.
    pub expected: Coverage,
    /// By people: open jobs.
    pub asked: Coverage,
    /// Absence is not judged after this instant.
    pub until: Timestamp,
    /// What calls for what is expected; `None`: it waits.
    pub standing: Option<Mode>,
}

impl Wanted {
    /// What calls for a part of this range.
    pub fn mode(&self, range: TimeRange) -> Option<Mode> {
        let asked = shares(&self.asked, range).then_some(Mode::Manual);
        asked.or_else(|| self.standing.filter(|_| shares(&self.expected, range)))
    }
}

#[derive(Debug)]
pub struct Stream {
    pub key: StreamKey,
    /// From when on the recording should be whole.
    pub expected_from: Timestamp,
    /// `None` until the archive was read: till then all of it would look like one hole.
    pub archived: Option<Archived>,
    /// What its device's time lacks to the archive's.
    pub offsets: Offsets,
    /// Of the device's time as it tells it now; `None` until it has.
    pub basis: Option<Basis>,
    /// Parts whose places are of another idea that the device had of its time: they stay where they are, and tell
    /// nothing of the one that it has now.
    outdated: BTreeSet<PartId>,
    pub parts: BTreeMap<PartId, PartRecord>,
    /// Parts that are being pulled or merged right now.
    pub running: BTreeSet<PartId>,
    /// The one of which a piece is being written.
    pub merging: Option<PartId>,
    pub verdicts: Vec<Stretch>,
    /// When it is to be looked at again, if nothing happens before.
    pub look_at: MonotonicMicros,
    not_found: Vec<NotFound>,
    /// Pieces that were placed where something had been deleted, and which the archive's reader has not seen.
    unseen: BTreeSet<PartId>,
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
            offsets: Offsets::default(),
            basis: None,
            outdated: BTreeSet::new(),
            parts: BTreeMap::new(),
            running: BTreeSet::new(),
            merging: None,
            verdicts: Vec::new(),
            look_at: MonotonicMicros::default(),
            not_found: Vec::new(),
            unseen: BTreeSet::new(),
        }
    }

    /// The device tells how sure it is of its time. True where what was learned of that is void.
    pub fn rests_on(&mut self, basis: Basis) -> bool {
        if self.basis.replace(basis).is_some_and(|before| before != basis) {
            self.outdated = self.parts.keys().copied().collect();
        }
        self.offsets.keep(basis)
    }

    /// Its place is of the device's time as it tells it now.
    pub fn is_placed_by_now(&self, part: PartId) -> bool {
        !self.outdated.contains(&part)
    }

    /// What the archive's files say now.
    pub fn archive_holds(&mut self, archived: Archived) {
        let parts = &self.parts;
        self.unseen.retain(|part| {
            let piece = parts.get(part).and_then(|record| record.piece.as_ref());
            piece.is_some_and(|piece| shares(&archived.removed, piece.range))
        });
        self.archived = Some(archived);
    }

    /// A piece has its name. What was deleted before it came says nothing about it.
    pub fn was_placed(&mut self, part: PartId) {
        let piece = self.parts.get(&part).and_then(|record| record.piece.as_ref());
        let removed = self.archived.as_ref().map(|archived| &archived.removed);
        if piece.zip(removed).is_some_and(|(piece, removed)| shares(removed, piece.range)) {
            self.unseen.insert(part);
        }
    }

    /// `wanted`: what policies expect and what people asked for, up to the instant from which absence is judged.
    /// `is_online`: bytes can come from the device now. `None` until the archive was read.
    pub fn facts(
        &self,
        wanted: &Wanted,
        holding: Option<&Holding>,
        is_online: bool,
        join_tolerance: Duration,
    ) -> Option<Facts> {
        let archived = self.archived.as_ref()?;
        let pieces: Vec<_> = self.pieces(archived).collect();
        let brought: Coverage = pieces.iter().map(|piece| piece.range).collect();
        let standing = wanted.expected.union(&brought).difference(&archived.removed);
        let expected = TimeRange::new(Timestamp::MIN, wanted.until)
            .map(|past| standing.union(&wanted.asked).clip(past));
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
            expected: expected.unwrap_or_default(),
            live: archived.held.clone(),
            edge: pieces,
            transferring: active(true),
            queued: active(false),
            verdicts: self.verdicts.clone(),
            held: holding.map(|holding| holding.held.clone()).unwrap_or_default(),
            join_tolerance,
        })
    }

    /// The merged pieces that still stand in the archive.
    fn pieces<'a>(&'a self, archived: &'a Archived) -> impl Iterator<Item = EdgePiece> + 'a {
        let pieces = self.parts.values().filter(|record| record.state == PartState::Archived);
        let pieces = pieces.filter_map(|record| Some((record, record.piece.as_ref()?)));
        pieces.flat_map(|(record, piece)| {
            let range = piece.range;
            let standing = match self.unseen.contains(&record.id) {
                true => Coverage::from(range),
                false => Coverage::from(range).difference(&archived.removed),
            };
            let is_known = piece.is_exact() || record.part.uncertainty_ns < ROUNDING_NS;
            let uncertainty_ns = if is_known { 0 } else { record.part.uncertainty_ns };
            let proof = record.proof;
            standing.into_iter().map(move |range| EdgePiece { range, proof, uncertainty_ns })
        })
    }

    /// Of all pieces that have, or may soon have, a name in the archive.
    pub fn piece_paths(&self) -> BTreeSet<PathBuf> {
        let pieces = self.parts.values().filter_map(|record| record.piece.as_ref());
        pieces.map(|piece| piece.path.clone()).collect()
    }

    /// What to do about the gaps, by a fresh word of the device: what was asked for at once, the rest as its
    /// policy has it. Where nothing calls for the rest, only what will never come of it is concluded.
    pub fn plan(
        &self,
        facts: &Facts,
        wanted: &Wanted,
        holding: &Holding,
        rules: Rules,
        now: MonotonicMicros,
    ) -> Vec<Step> {
        let archive_end = facts.archived().hull().map(|hull| hull.end());
        let gaps = facts.gaps();
        let asked = gaps.intersection(&wanted.asked);
        let at_once = Rules { open_gap: Duration::ZERO, ..rules };
        let mut steps = plan::plan(&asked, archive_end, holding, at_once);
        let take_final = wanted.standing == Some(Mode::Scheduled);
        let rest = gaps.difference(&asked);
        let rest = plan::plan(&rest, archive_end, holding, Rules { take_final, ..rules });
        let called_for =
            |step: &Step| wanted.standing.is_some() || !matches!(step, Step::Locate(_));
        steps.extend(rest.into_iter().filter(called_for));
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

    /// A gap, and this much on either side where the central recorder's footage meets it there.
    pub fn with_margins(&self, gap: TimeRange, margin: Duration) -> TimeRange {
        let Some(archived) = &self.archived else { return gap };
        let pieces: Coverage = self.pieces(archived).map(|piece| piece.range).collect();
        let live = archived.held.difference(&pieces);
        let before = TimeRange::new(gap.start().saturating_sub(margin), gap.start());
        let behind = TimeRange::new(gap.end(), gap.end().saturating_add(margin));
        let margins = [before, behind].into_iter().flatten();
        let meets = margins.filter(|margin| shares(&live, *margin));
        meets.fold(gap, |whole, margin| whole.hull(&margin))
    }

    /// True where all that is `wanted` of the part is here in the same bytes, or on its way already. A piece that
    /// was deleted in the archive is not here any more.
    pub fn has(&self, part: &Part, wanted: TimeRange) -> bool {
        let removed = |record: &PartRecord| {
            let archived = self.archived.as_ref();
            let piece = record.piece.as_ref().filter(|_| record.state == PartState::Archived);
            let piece = piece.filter(|_| !self.unseen.contains(&record.id));
            archived
                .zip(piece)
                .is_some_and(|(archived, piece)| shares(&archived.removed, piece.range))
        };
        let same = self.parts.values().filter(|record| {
            let known = &record.part;
            record.state != PartState::Abandoned
                && !removed(record)
                && known.segment == part.segment
                && known.version == part.version
                && known.range.overlaps(&part.range)
        });
        same.map(|record| record.part.range).collect::<Coverage>().covers(wanted)
    }

    /// Before this nothing is known of, neither here nor on the card: the recording began later.
    pub fn begins_later(&self, verdict: &Stretch) -> bool {
        verdict.range.start() == self.expected_from
            && matches!(verdict.state, State::NeverRecorded { .. })
    }

    /// Adds a verdict; what it overlaps of earlier ones gives way. Neighbours that say the same are one: of a
    /// recorder that is off, a verdict comes each second.
    pub fn conclude(&mut self, verdict: Stretch) {
        let cleared = Coverage::from(verdict.range);
        self.retain_verdicts(|_, range| Coverage::from(range).difference(&cleared));
        self.verdicts.push(verdict);
        self.verdicts.sort_by_key(|verdict| verdict.range);
        self.verdicts.dedup_by(|next, previous| {
            let goes_on =
                next.range.start() == previous.range.end() && next.state == previous.state;
            if goes_on {
                previous.range = previous.range.hull(&next.range);
            }
            goes_on
        });
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

    /// A person asks for this: what had failed there is tried anew, with a budget of its own. Answers the parts
    /// that were given up and are forgotten, and whether a verdict was taken back.
    pub fn try_anew(&mut self, range: TimeRange) -> (Vec<PartId>, bool) {
        let before = self.verdicts.len();
        let cleared = Coverage::from(range);
        self.retain_verdicts(|state, verdict| match state {
            State::Failed { .. } => Coverage::from(verdict).difference(&cleared),
            _ => Coverage::from(verdict),
        });
        self.was_found(range);
        let given_up = self.parts.values().filter(|record| {
            record.state == PartState::Abandoned && record.part.range.overlaps(&range)
        });
        let given_up: Vec<PartId> = given_up.map(|record| record.id).collect();
        given_up.iter().for_each(|part| drop(self.parts.remove(part)));
        (given_up, before != self.verdicts.len())
    }

    /// Waiting parts of which nothing is wanted any more.
    pub fn unwanted(&self, expected: &Coverage) -> Vec<PartId> {
        let waiting = self.parts.values().filter(|record| {
            record.state == PartState::Pulling && !self.running.contains(&record.id)
        });
        let unwanted = waiting.filter(|record| !shares(expected, record.part.range));
        unwanted.map(|record| record.id).collect()
    }

    pub fn verdicts_entry(&self) -> Entry {
        Entry::Verdicts { key: self.key.clone(), verdicts: self.verdicts.clone() }
    }
}

fn shares(coverage: &Coverage, range: TimeRange) -> bool {
    !coverage.clip(range).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::{at, key, now, part, seconds};
    use crate::ledger::Piece;

    const TOLERANCE: Duration = Duration::from_millis(500);
    const RULES: Rules =
        Rules { join_tolerance: TOLERANCE, open_gap: Duration::from_secs(60), take_final: false };

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

    /// Everything up to 300 is expected, and called for by its own absence.
    fn wanted() -> Wanted {
        Wanted {
            expected: seconds(0, 300).into(),
            asked: Coverage::new(),
            until: at(300),
            standing: Some(Mode::Online),
        }
    }

    fn plan_when(stream: &Stream, wanted: &Wanted) -> Vec<Step> {
        let facts = stream.facts(wanted, Some(&card()), true, TOLERANCE).unwrap();
        stream.plan(&facts, wanted, &card(), RULES, now(300).monotonic)
    }

    fn plan_of(stream: &Stream) -> Vec<Step> {
        plan_when(stream, &wanted())
    }

    #[test]
    fn where_nothing_calls_for_a_gap_it_waits_and_what_is_asked_for_does_not() {
        let stream = stream();
        let waiting = Wanted { standing: None, ..wanted() };
        assert_eq!(plan_when(&stream, &waiting), []);
        let asked = Wanted { asked: seconds(110, 120).into(), ..waiting };
        assert_eq!(plan_when(&stream, &asked), [Step::Locate(seconds(110, 120))]);
        assert_eq!(asked.mode(seconds(115, 130)), Some(Mode::Manual));
        assert_eq!(asked.mode(seconds(120, 130)), None);
    }

    #[test]
    fn what_a_person_asks_for_is_wanted_though_it_was_deleted_or_no_policy_expects_it() {
        let mut stream = stream();
        let archived = Archived { held: Coverage::new(), removed: seconds(0, 50).into() };
        stream.archived = Some(archived);
        let nothing = Wanted { expected: Coverage::new(), ..wanted() };
        assert_eq!(plan_when(&stream, &nothing), []);
        let asked = Wanted { asked: seconds(40, 60).into(), ..nothing };
        assert_eq!(plan_when(&stream, &asked), [Step::Locate(seconds(40, 60))]);
    }

    #[test]
    fn asking_anew_gives_what_had_failed_another_chance_and_forgets_what_was_given_up() {
        let mut stream = stream();
        for id in 0..5 {
            stream.parts.insert(PartId(id), record(id, seconds(99, 146), PartState::Abandoned));
        }
        let failed = State::Failed { reason: "x".into() };
        stream.conclude(Stretch { range: seconds(100, 145), state: failed.clone() });
        assert_eq!(plan_of(&stream), []);
        let (forgotten, taken_back) = stream.try_anew(seconds(100, 145));
        assert_eq!((forgotten.len(), taken_back), (5, true));
        assert_eq!(plan_of(&stream), [Step::Locate(seconds(100, 145))]);
    }

    #[test]
    fn a_waiting_part_of_which_nothing_is_wanted_is_known_as_such() {
        let mut stream = stream();
        stream.parts.insert(PartId(1), record(1, seconds(100, 145), PartState::Pulling));
        stream.parts.insert(PartId(2), record(2, seconds(150, 160), PartState::Pulling));
        stream.parts.insert(PartId(3), record(3, seconds(150, 160), PartState::Archived));
        assert_eq!(stream.unwanted(&seconds(0, 120).into()), [PartId(2)]);
        stream.running.insert(PartId(2));
        assert_eq!(stream.unwanted(&seconds(0, 120).into()), []);
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
            let facts = stream.facts(&wanted(), None, is_online, TOLERANCE).unwrap();
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
            let facts = stream.facts(&wanted(), Some(&card()), true, TOLERANCE).unwrap();
            let asked = stream.plan(&facts, &wanted(), &card(), RULES, now(time).monotonic);
            assert_eq!(asked, [Step::Locate(seconds(100, 145))]);
            stream.was_not_found(seconds(100, 145), now(time).monotonic);
            assert_eq!(
                stream.plan(&facts, &wanted(), &card(), RULES, now(time + 1).monotonic).len(),
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
        assert!(stream.facts(&wanted(), Some(&card()), true, TOLERANCE).is_none());
    }

    #[test]
    fn what_was_deleted_in_the_archive_is_not_expected_any_more() {
        let mut stream = stream();
        let held = [seconds(50, 100), seconds(145, 300)].into_iter().collect();
        stream.archived = Some(Archived { held, removed: seconds(0, 50).into() });
        let facts = stream.facts(&wanted(), None, false, TOLERANCE).unwrap();
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
    fn verdicts_that_follow_on_each_other_are_one() {
        let mut stream = stream();
        for second in 100..145 {
            let state = State::NeverRecorded { cause: "x".into() };
            stream.conclude(Stretch { range: seconds(second, second + 1), state });
        }
        let ranges: Vec<TimeRange> = stream.verdicts.iter().map(|v| v.range).collect();
        assert_eq!(ranges, [seconds(100, 145)]);
    }

    #[test]
    fn a_piece_that_was_pulled_anew_is_there_before_the_archives_reader_has_seen_it() {
        let mut stream = stream();
        let removed = Archived { held: seconds(145, 300).into(), removed: seconds(0, 100).into() };
        stream.archive_holds(removed.clone());
        let mut merged = record(1, seconds(40, 60), PartState::Archived);
        let (path, digest, size_bytes) = ("x".into(), [0; 32], 1);
        merged.piece =
            Some(Piece { path, digest, size_bytes, range: seconds(40, 60), seams: Vec::new() });
        stream.parts.insert(PartId(1), merged);
        stream.was_placed(PartId(1));
        let asked = Wanted { asked: seconds(40, 60).into(), ..wanted() };
        let states = |stream: &Stream| {
            let facts = stream.facts(&asked, None, true, TOLERANCE).unwrap();
            facts.gaps().clip(seconds(40, 60)).total()
        };
        assert_eq!(states(&stream), Duration::ZERO);
        assert!(stream.has(&part(seconds(40, 60)), seconds(40, 60)));
        // Seen, and deleted once more.
        let removed_again = removed.clone();
        let held = [seconds(40, 60), seconds(145, 300)].into_iter().collect();
        let removed = [seconds(0, 40), seconds(60, 100)].into_iter().collect();
        stream.archive_holds(Archived { held, removed });
        stream.archive_holds(removed_again);
        assert_eq!(states(&stream), Duration::from_secs(20));
        assert!(!stream.has(&part(seconds(40, 60)), seconds(40, 60)));
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
