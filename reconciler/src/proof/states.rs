//! What is said of every instant that was asked for.
//!
//! Pure. Footage that was written comes first: nothing else makes an instant archived. What the timeline says fills
//! the rest; where it calls archived what was not written, that is said, and what it says nothing of is not judged.

use std::time::Duration;

use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::TimeRange;

use super::manifest::{Known, Other};
use crate::timeline::{State, Stretch};

/// Why footage that the timeline calls archived may not be in an MP4.
const NOT_EXPORTED: &str = "called archived, but no file that could be played holds a frame of it: it was deleted, \
    cannot be decoded from its beginning, or was not exported";

/// Tiles `asked`. `footage` are the ranges of frames that were written, each with its state; of what several hold,
/// the first counts.
pub(super) fn states(
    asked: TimeRange,
    footage: &[(TimeRange, State)],
    timeline: &[Stretch],
    tolerance: Duration,
) -> Vec<(TimeRange, Known)> {
    let mut canvas = Canvas { bare: asked.into(), painted: Vec::new() };
    for (range, state) in footage {
        canvas.paint(*range, &Known::State(state.clone()));
    }
    for Stretch { range, state } in timeline.iter().filter(|stretch| stretch.range.overlaps(&asked))
    {
        let known = match state {
            State::Archived { .. } => {
                Known::Other(Other::NotExported { reason: NOT_EXPORTED.to_owned() })
            }
            other => Known::State(other.clone()),
        };
        canvas.paint(*range, &known);
    }
    canvas.paint(asked, &Known::Other(Other::NotJudged));
    let mut painted = canvas.painted;
    painted.sort_by_key(|(range, _)| *range);
    close_rounding(&mut painted, tolerance);
    painted.dedup_by(|next, last| {
        let goes_on = last.0.end() == next.0.start() && last.1 == next.1;
        if goes_on {
            last.0 = last.0.hull(&next.0);
        }
        goes_on
    });
    painted
}

struct Canvas {
    bare: Coverage,
    painted: Vec<(TimeRange, Known)>,
}

impl Canvas {
    fn paint(&mut self, range: TimeRange, known: &Known) {
        let painted = self.bare.clip(range);
        self.bare = self.bare.difference(&painted);
        self.painted.extend(painted.iter().map(|range| (range, known.clone())));
    }
}

/// What the timeline calls archived and no frame covers for no longer than `tolerance` is the rounding of files'
/// edges, beside footage.
fn close_rounding(painted: &mut [(TimeRange, Known)], tolerance: Duration) {
    for index in 0..painted.len() {
        let Some((range, Known::Other(Other::NotExported { .. }))) = painted.get(index) else {
            continue;
        };
        let range = *range;
        if range.duration() > tolerance {
            continue;
        }
        let before = index.checked_sub(1).and_then(|before| painted.get(before));
        let before = before.filter(|(other, _)| other.end() == range.start());
        let behind = painted.get(index + 1).filter(|(other, _)| other.start() == range.end());
        let footage = before.into_iter().chain(behind).find(|(_, known)| known.is_archived());
        let Some(known) = footage.map(|(_, known)| known.clone()) else { continue };
        if let Some(entry) = painted.get_mut(index) {
            entry.1 = known;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::seconds;
    use crate::timeline::{Proof, Recorder};
    use proptest::prelude::*;
    use sdcard_indexer::time::Timestamp;

    const TOLERANCE: Duration = Duration::from_millis(500);

    fn live() -> State {
        State::Archived { by: Recorder::Live, proof: Proof::None, uncertainty_ns: 0 }
    }

    fn millis(start: i64, end: i64) -> TimeRange {
        let at = |millis: i64| Timestamp::from_nanos(millis * 1_000_000);
        TimeRange::new(at(start), at(end)).unwrap()
    }

    fn words(
        asked: TimeRange,
        footage: &[TimeRange],
        timeline: &[(TimeRange, State)],
    ) -> Vec<(i64, &'static str)> {
        let footage: Vec<_> = footage.iter().map(|range| (*range, live())).collect();
        let timeline: Vec<Stretch> = timeline
            .iter()
            .map(|(range, state)| Stretch { range: *range, state: state.clone() })
            .collect();
        let all = states(asked, &footage, &timeline, TOLERANCE);
        let word = |(range, known): &(TimeRange, Known)| {
            (range.start().as_nanos() / 1_000_000, known.word())
        };
        all.iter().map(word).collect()
    }

    #[test]
    fn a_hole_in_a_file_is_what_the_timeline_says_of_it_and_never_footage() {
        let overwritten = State::Overwritten { cause: "older".to_owned() };
        let timeline = [
            (seconds(0, 10), live()),
            (seconds(10, 20), overwritten),
            (seconds(20, 30), live()),
            (seconds(30, 40), live()),
        ];
        assert_eq!(
            words(seconds(2, 40), &[seconds(0, 10), seconds(20, 30)], &timeline),
            [
                (2_000, "archived"),
                (10_000, "overwritten"),
                (20_000, "archived"),
                (30_000, "not_exported")
            ]
        );
    }

    #[test]
    fn footage_that_the_timeline_has_not_heard_of_yet_is_archived() {
        let timeline = [(seconds(0, 10), live()), (seconds(10, 20), State::Transferring)];
        assert_eq!(
            words(seconds(0, 30), &[seconds(0, 10), seconds(10, 25)], &timeline),
            [(0, "archived"), (25_000, "not_judged")]
        );
    }

    #[test]
    fn rounding_beside_footage_is_none_but_what_is_missing_stays_missing_however_short() {
        let asked = seconds(0, 10);
        let timeline = [(millis(0, 9_700), live()), (millis(9_700, 10_000), State::Missing)];
        let footage = [millis(0, 4_000), millis(4_400, 9_400)];
        assert_eq!(words(asked, &footage, &timeline), [(0, "archived"), (9_700, "missing")]);
        let apart = [millis(0, 4_000), millis(4_600, 9_700)];
        assert_eq!(
            words(asked, &apart, &timeline),
            [(0, "archived"), (4_000, "not_exported"), (4_600, "archived"), (9_700, "missing")]
        );
    }

    fn range() -> impl Strategy<Value = TimeRange> {
        (0i64..100, 1i64..40).prop_map(|(start, length)| seconds(start, start + length))
    }

    proptest! {
        #[test]
        fn every_instant_that_was_asked_for_is_told_once(
            asked in range(),
            footage in prop::collection::vec(range(), 0..6),
            told in prop::collection::vec((range(), any::<bool>()), 0..6),
        ) {
            let footage: Vec<_> = footage.into_iter().map(|range| (range, live())).collect();
            let state = |is_live| if is_live { live() } else { State::Missing };
            let told = told.into_iter().map(|(range, of)| Stretch { range, state: state(of) });
            let all = states(asked, &footage, &told.collect::<Vec<_>>(), TOLERANCE);
            let mut at = asked.start();
            for (range, known) in &all {
                prop_assert_eq!(range.start(), at);
                prop_assert!(!range.is_empty());
                let held = footage.iter().any(|(held, _)| held.overlaps(range));
                prop_assert_eq!(known.is_archived(), held);
                at = range.end();
            }
            prop_assert_eq!(at, asked.end());
        }
    }
}
