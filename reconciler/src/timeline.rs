//! The timeline: every instant that should be recorded, in exactly one state.
//!
//! Pure. It paints facts in a fixed order, strongest first; an instant that is painted stays painted.
//! It never rounds up: [`Completeness::percent`] says 100 only where [`Completeness::is_complete`] does.

use std::fmt;
use std::time::Duration;

use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::TimeRange;
use serde::{Deserialize, Serialize};

use crate::tally::{StateWord, Tally};

/// The state of an instant; the words are those of the documentation, the API and the command line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    Archived {
        by: Recorder,
        proof: Proof,
        /// How far it may truly lie from there; 0 where it was recorded live, or frames that the live recording
        /// holds too have shown where it belongs.
        #[serde(default, skip_serializing_if = "is_zero")]
        uncertainty_ns: u64,
    },
    /// Not in the archive, and the device has not been heard about it yet.
    Missing,
    /// The device holds it, and it is queued.
    Pending,
    Transferring,
    /// The device answered that it never held it.
    NeverRecorded {
        cause: String,
    },
    /// Was on the card, and gone before it was pulled.
    Overwritten {
        cause: String,
    },
    Failed {
        reason: String,
    },
}

/// Who put it into the archive.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Recorder {
    /// The central recorder, as it happened.
    Live,
    /// Gapless, from the device's card.
    Edge,
}

/// How archived footage was proved to be what the card held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// Not Gapless's to prove: the central recorder wrote it.
    None,
    /// CRC32 of each chunk only: the card lost the segment before its digest could be had.
    Chunks,
    /// BLAKE3 of the whole part, as read from the card, equals what was written.
    Digest,
    /// As `Digest`, and what was read from the card is what the recorder left there when it closed the
    /// segment: the device compared every block with the digest that it took then.
    Sealed,
}

impl State {
    /// The word for it, as in JSON.
    pub const fn word(&self) -> &'static str {
        StateWord::of(self).word()
    }

    /// True where nothing is left to do or to hope for.
    pub const fn is_settled(&self) -> bool {
        matches!(
            self,
            State::Archived { .. } | State::NeverRecorded { .. } | State::Overwritten { .. }
        )
    }
}

/// What a person wants to know beside the word.
impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())?;
        match self {
            State::Archived { by: Recorder::Live, .. } => formatter.write_str(" live"),
            State::Archived { by: Recorder::Edge, proof, uncertainty_ns } => {
                formatter.write_str(match proof {
                    Proof::Sealed => " from the card, as sealed",
                    Proof::Digest => " from the card, digest equal",
                    Proof::None | Proof::Chunks => " from the card, chunks checked",
                })?;
                match Duration::from_nanos(*uncertainty_ns).as_millis() {
                    0 => Ok(()),
                    millis => write!(
                        formatter,
                        ", placed to within {}.{} s",
                        millis / 1_000,
                        millis % 1_000 / 100
                    ),
                }
            }
            State::NeverRecorded { cause } | State::Overwritten { cause } => {
                write!(formatter, ": {cause}")
            }
            State::Failed { reason } => write!(formatter, ": {reason}"),
            State::Missing | State::Pending | State::Transferring => Ok(()),
        }
    }
}

/// A time range all of whose instants are in one state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stretch {
    #[serde(flatten)]
    pub range: TimeRange,
    #[serde(flatten)]
    pub state: State,
}

const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Footage that was merged from the card.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EdgePiece {
    pub range: TimeRange,
    pub proof: Proof,
    /// See [`State::Archived`].
    pub uncertainty_ns: u64,
}

/// All that is known of a stream, as sets of time.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// What should be recorded, up to the instant from which absence may be judged.
    pub expected: Coverage,
    /// Written by the central recorder.
    pub live: Coverage,
    /// Merged from the card.
    pub edge: Vec<EdgePiece>,
    pub transferring: Coverage,
    /// Located on the card, and not being transferred yet.
    pub queued: Coverage,
    /// Concluded: never recorded, overwritten, failed.
    pub verdicts: Vec<Stretch>,
    /// What the device says it holds, where it has been heard.
    pub held: Coverage,
    /// Holes no longer than this are rounding, not loss.
    pub join_tolerance: Duration,
}

impl Facts {
    /// Everything in the archive, rounding closed.
    pub fn archived(&self) -> Coverage {
        let edge: Coverage = self.edge.iter().map(|piece| piece.range).collect();
        self.live.union(&edge).joined(self.join_tolerance)
    }

    /// What should be in the archive, is not, and is neither on its way nor concluded.
    pub fn gaps(&self) -> Coverage {
        let concluded: Coverage = self.verdicts.iter().map(|verdict| verdict.range).collect();
        let under_way = self.transferring.union(&self.queued);
        let answered = self.archived().union(&under_way).union(&concluded);
        self.expected.difference(&answered.joined(self.join_tolerance))
    }

    /// Tiles `expected`, oldest first.
    pub fn timeline(&self) -> Vec<Stretch> {
        let mut canvas = Canvas { bare: self.expected.clone(), stretches: Vec::new() };
        let archived = self.archived();
        for EdgePiece { range, proof, uncertainty_ns } in self.edge.iter().copied() {
            let state = State::Archived { by: Recorder::Edge, proof, uncertainty_ns };
            canvas.paint(&Coverage::from(range), &state);
        }
        let live = State::Archived { by: Recorder::Live, proof: Proof::None, uncertainty_ns: 0 };
        canvas.paint(&archived, &live);
        canvas.paint(&self.transferring, &State::Transferring);
        for verdict in &self.verdicts {
            canvas.paint(&Coverage::from(verdict.range), &verdict.state);
        }
        canvas.paint(&self.queued.union(&self.held), &State::Pending);
        canvas.paint(&self.expected, &State::Missing);
        let mut stretches = canvas.stretches;
        stretches.sort_by_key(|stretch| stretch.range);
        round(&mut stretches, self.join_tolerance, true);
        unite(&mut stretches);
        stretches
    }
}

struct Canvas {
    bare: Coverage,
    stretches: Vec<Stretch>,
}

impl Canvas {
    fn paint(&mut self, where_to: &Coverage, state: &State) {
        let painted = self.bare.intersection(where_to);
        self.bare = self.bare.difference(&painted);
        self.stretches.extend(painted.iter().map(|range| Stretch { range, state: state.clone() }));
    }
}

/// What is absent for no longer than `tolerance` is rounding, not loss: it goes with what follows it, or with
/// what it follows. Where nothing at all follows and it `may_grow`, it stays. What is absent without a break is
/// one hole, however its parts came to be absent.
pub fn round(stretches: &mut [Stretch], tolerance: Duration, may_grow: bool) {
    let is_absent = |s: &Stretch| matches!(s.state, State::Missing | State::Pending);
    let mut end = stretches.len();
    while let Some(last) = end.checked_sub(1) {
        let mut start = end;
        while let Some(before) = start.checked_sub(1)
            && is_absent(&stretches[before])
            && (start == end || stretches[before].range.end() == stretches[start].range.start())
        {
            start = before;
        }
        if start == end {
            end = last;
            continue;
        }
        let hole = stretches[start].range.hull(&stretches[last].range);
        let before = start.checked_sub(1).map(|before| &stretches[before]);
        let before = before.filter(|before| before.range.end() == hole.start());
        let following = stretches.get(end);
        let after = following.filter(|after| after.range.start() == hole.end());
        if (following.is_some() || !may_grow)
            && hole.duration() <= tolerance
            && let Some(state) = after.or(before).map(|neighbour| neighbour.state.clone())
        {
            stretches[start..end].iter_mut().for_each(|s| s.state = state.clone());
        }
        end = start;
    }
}

/// Neighbours in the same state become one.
fn unite(stretches: &mut Vec<Stretch>) {
    stretches.dedup_by(|next, previous| {
        let continues = previous.range.end() == next.range.start() && previous.state == next.state;
        if continues {
            previous.range = previous.range.hull(&next.range);
        }
        continues
    });
}

/// How much of a timeline is settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Completeness {
    pub expected: Duration,
    pub archived: Duration,
    /// Never recorded or overwritten: lost for good, and known to be.
    pub lost: Duration,
    /// Missing, pending, transferring or failed.
    pub open: Duration,
}

impl Completeness {
    pub fn of(timeline: &[Stretch]) -> Self {
        Tally::of(timeline).completeness()
    }

    /// Of two streams together.
    #[must_use]
    pub fn and(self, other: Completeness) -> Self {
        Completeness {
            expected: self.expected.saturating_add(other.expected),
            archived: self.archived.saturating_add(other.archived),
            lost: self.lost.saturating_add(other.lost),
            open: self.open.saturating_add(other.open),
        }
    }

    /// Nothing is missing, pending, transferring or failed.
    pub fn is_complete(&self) -> bool {
        self.open.is_zero()
    }

    /// Settled share in percent, rounded down; 100 only where nothing is open.
    pub fn percent(&self) -> u8 {
        let settled = (self.expected - self.open).as_nanos() * 100;
        match settled.checked_div(self.expected.as_nanos()) {
            Some(percent) => u8::try_from(percent).unwrap_or(100),
            None => 100,
        }
    }
}

#[cfg(test)]
mod tests {
    use sdcard_indexer::time::Timestamp;

    use super::*;
    use crate::examples::seconds;

    fn words(timeline: &[Stretch]) -> Vec<(i64, i64, &'static str)> {
        let second = |t: Timestamp| t.as_nanos() / 1_000_000_000;
        timeline
            .iter()
            .map(|s| (second(s.range.start()), second(s.range.end()), s.state.word()))
            .collect()
    }

    fn tunnel() -> Facts {
        Facts {
            expected: seconds(0, 300).into(),
            live: [seconds(0, 100), seconds(145, 300)].into_iter().collect(),
            join_tolerance: Duration::from_millis(500),
            ..Facts::default()
        }
    }

    #[test]
    fn a_hole_is_missing_before_the_device_is_heard() {
        let facts = tunnel();
        assert_eq!(
            words(&facts.timeline()),
            [(0, 100, "archived"), (100, 145, "missing"), (145, 300, "archived")]
        );
        assert_eq!(facts.gaps(), Coverage::from(seconds(100, 145)));
    }

    #[test]
    fn every_instant_is_in_one_state_and_the_strongest_fact_wins() {
        let mut facts = tunnel();
        facts.held = seconds(90, 140).into();
        facts.transferring = seconds(99, 120).into();
        let (range, proof) = (seconds(99, 110), Proof::Digest);
        facts.edge = vec![EdgePiece { range, proof, uncertainty_ns: 0 }];
        facts.verdicts = vec![Stretch {
            range: seconds(130, 145),
            state: State::NeverRecorded { cause: "the recorder was off".into() },
        }];
        let timeline = facts.timeline();
        assert_eq!(
            words(&timeline),
            [
                (0, 99, "archived"),
                (99, 110, "archived"),
                (110, 120, "transferring"),
                (120, 130, "pending"),
                (130, 145, "never_recorded"),
                (145, 300, "archived")
            ]
        );
        let tiled: Duration = timeline.iter().map(|stretch| stretch.range.duration()).sum();
        assert_eq!(tiled, facts.expected.total());
    }

    #[test]
    fn rounding_between_segments_is_not_a_hole() {
        let mut facts = tunnel();
        facts.live.insert(
            TimeRange::new(
                Timestamp::from_unix_seconds(100).saturating_add(Duration::from_millis(300)),
                Timestamp::from_unix_seconds(145),
            )
            .unwrap(),
        );
        assert!(facts.gaps().is_empty());
        assert!(Completeness::of(&facts.timeline()).is_complete());
    }

    #[test]
    fn a_recording_that_begins_a_little_late_is_whole() {
        let millis = |millis: i64| Timestamp::from_nanos(millis * 1_000_000);
        let began = |begun: i64, until: i64| {
            let facts = Facts {
                expected: TimeRange::new(millis(0), millis(until)).unwrap().into(),
                live: TimeRange::new(millis(begun), millis(10_000)).unwrap().into(),
                join_tolerance: Duration::from_millis(500),
                ..Facts::default()
            };
            Completeness::of(&facts.timeline()).is_complete()
        };
        assert!(began(311, 10_000));
        assert!(!began(501, 10_000));
        // The recorder may be about to write what lacks at the end: that is no rounding yet.
        assert!(!began(0, 10_311));
    }

    #[test]
    fn a_hole_is_no_rounding_because_each_half_of_it_would_be() {
        let millis = |millis: i64| Timestamp::from_nanos(millis * 1_000_000);
        let range = |start, end| TimeRange::new(millis(start), millis(end)).unwrap();
        let mut facts = Facts {
            expected: range(0, 10_000).into(),
            live: [range(0, 5_000), range(5_600, 10_000)].into_iter().collect(),
            held: range(5_300, 10_000).into(),
            join_tolerance: Duration::from_millis(500),
            ..Facts::default()
        };
        let words = |facts: &Facts| -> Vec<&str> {
            facts.timeline().iter().map(|stretch| stretch.state.word()).collect()
        };
        assert_eq!(words(&facts), ["archived", "missing", "pending", "archived"]);
        facts.live.insert(range(5_000, 5_100));
        assert_eq!(words(&facts), ["archived"]);
    }

    #[test]
    fn a_hundred_percent_is_said_only_of_what_is_complete() {
        let facts = Facts {
            expected: seconds(0, 100_000).into(),
            live: seconds(0, 99_999).into(),
            ..Facts::default()
        };
        let nearly = Completeness::of(&facts.timeline());
        assert_eq!((nearly.percent(), nearly.is_complete()), (99, false));
    }

    #[test]
    fn lost_footage_is_complete_but_not_archived() {
        let mut facts = tunnel();
        facts.verdicts = vec![Stretch {
            range: seconds(100, 145),
            state: State::Overwritten { cause: "gone from the card".into() },
        }];
        let completeness = Completeness::of(&facts.timeline());
        assert!(completeness.is_complete());
        assert_eq!(completeness.lost, Duration::from_secs(45));
        assert_eq!(completeness.archived, Duration::from_secs(255));
    }
}
