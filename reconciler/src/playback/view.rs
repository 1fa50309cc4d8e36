//! Which part of which segment is played: overlaps are resolved, holes are left.
//!
//! Pure, and about instants only; [`crate::seam`] finds the frames. A run is cut only where another run
//! begins, and segments begin with a keyframe, so that a cut is at a keyframe of both.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use sdcard_indexer::time::{TimeRange, Timestamp};

use super::{ArchivedSegment, Run};
use crate::seam::Seam;
use crate::timeline::Recorder;

/// What two recordings of one stream may differ by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tolerances {
    /// Overlaps shorter than this are rounding of clocks, not footage recorded twice.
    pub one_frame: Duration,
    /// Holes no longer than this are none.
    pub join: Duration,
}

impl Default for Tolerances {
    /// A frame at 20 per second, and the seam of two recorders that cut at the same keyframe.
    fn default() -> Self {
        Tolerances { one_frame: Duration::from_millis(50), join: Duration::from_millis(100) }
    }
}

/// Resolves segments of one stream, in any order, into runs in the order of time.
///
/// Where two overlap, the one that begins later is played from its beginning on: an edge piece begins at
/// the keyframe before the hole it fills, a live segment at its recorder's return. What lies within
/// another segment is left out, except an edge piece within a live segment: it was pulled because that
/// one has a hole there, and the live segment is resumed after it.
pub fn view(segments: &[ArchivedSegment], tolerances: Tolerances) -> Vec<Run<'_>> {
    let mut waiting: BinaryHeap<Candidate> =
        segments.iter().map(|segment| candidate(segment.range, segment)).collect();
    let mut runs: Vec<Run<'_>> = Vec::with_capacity(segments.len());
    while let Some(Reverse((.., segment, range))) = waiting.pop() {
        if let Some(last) = runs.last_mut() {
            let last_end = last.range.end();
            let overlaps = range.start().saturating_add(tolerances.one_frame) < last_end;
            let lies_within = range.end() <= last_end.saturating_add(tolerances.one_frame);
            let fills = (last.segment.by, segment.by) == (Recorder::Live, Recorder::Edge);
            let resumed = range.start() != segment.range.start();
            if overlaps && lies_within && !fills {
                continue;
            }
            if overlaps && resumed {
                waiting.extend(rest_after(last_end, range, segment, tolerances));
                continue;
            }
            if overlaps {
                waiting.extend(rest_after(range.end(), last.range, last.segment, tolerances));
                last.range = before(range.start(), last.range);
            }
            if overlaps && last.range.duration() <= tolerances.one_frame {
                runs.pop();
            }
        }
        let meets =
            |last: &Run<'_>| range.start() <= last.range.end().saturating_add(tolerances.join);
        let seam = runs.last().is_some_and(meets).then_some(Seam::ByTime);
        runs.push(Run { segment, range, seam });
    }
    runs
}

/// The order in which segments take their place: by start; where these are equal, edge after live and
/// short after long, so that what lies within another comes after it.
type Candidate<'a> =
    Reverse<(Timestamp, Recorder, Reverse<Timestamp>, &'a ArchivedSegment, TimeRange)>;

fn candidate(range: TimeRange, segment: &ArchivedSegment) -> Candidate<'_> {
    Reverse((range.start(), segment.by, Reverse(range.end()), segment, range))
}

/// What of a segment is still to be played after an instant.
fn rest_after(
    instant: Timestamp,
    range: TimeRange,
    segment: &ArchivedSegment,
    tolerances: Tolerances,
) -> Option<Candidate<'_>> {
    let rest = TimeRange::new(instant, range.end())?;
    (rest.duration() > tolerances.one_frame).then(|| candidate(rest, segment))
}

fn before(instant: Timestamp, range: TimeRange) -> TimeRange {
    TimeRange::new(range.start(), instant.min(range.end())).unwrap_or(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds to play, in order, with the segments' letters; capitals are edge pieces.
    fn played(segments: &[(char, i64, i64)]) -> Vec<(char, i64, i64, bool)> {
        let at = |millis: i64| Timestamp::from_nanos(millis * 1_000_000);
        let segment = |&(name, start, end): &(char, i64, i64)| ArchivedSegment {
            file: name.to_string().into(),
            range: TimeRange::new(at(start), at(end)).unwrap(),
            by: if name.is_uppercase() { Recorder::Edge } else { Recorder::Live },
        };
        let segments: Vec<ArchivedSegment> = segments.iter().map(segment).collect();
        let in_millis = |instant: Timestamp| instant.as_nanos() / 1_000_000;
        view(&segments, Tolerances::default())
            .iter()
            .map(|run| {
                let name = run.segment.file.to_str().unwrap().chars().next().unwrap();
                (name, in_millis(run.range.start()), in_millis(run.range.end()), run.seam.is_some())
            })
            .collect()
    }

    #[test]
    fn successive_segments_are_played_whole_and_in_order() {
        let runs = played(&[('b', 10_000, 20_000), ('a', 0, 10_000)]);
        assert_eq!(runs, [('a', 0, 10_000, false), ('b', 10_000, 20_000, true)]);
    }

    #[test]
    fn overlaps_below_a_frame_are_left_alone() {
        let runs = played(&[('a', 0, 10_020), ('b', 10_000, 20_000)]);
        assert_eq!(runs, [('a', 0, 10_020, false), ('b', 10_000, 20_000, true)]);
    }

    #[test]
    fn an_edge_piece_takes_over_at_its_first_keyframe_and_hands_back_at_the_live_start() {
        let runs = played(&[('a', 0, 10_400), ('E', 10_000, 32_000), ('b', 31_000, 60_000)]);
        assert_eq!(
            runs,
            [('a', 0, 10_000, false), ('E', 10_000, 31_000, true), ('b', 31_000, 60_000, true)]
        );
    }

    #[test]
    fn a_hole_is_left_and_has_no_seam() {
        let runs = played(&[('a', 0, 10_000), ('b', 10_500, 20_000)]);
        assert_eq!(runs, [('a', 0, 10_000, false), ('b', 10_500, 20_000, false)]);
    }

    #[test]
    fn a_live_segment_with_a_hole_is_resumed_after_the_pieces_that_fill_it() {
        let runs = played(&[('a', 0, 60_000), ('E', 18_000, 30_000), ('F', 30_000, 32_000)]);
        assert_eq!(
            runs,
            [
                ('a', 0, 18_000, false),
                ('E', 18_000, 30_000, true),
                ('F', 30_000, 32_000, true),
                ('a', 32_000, 60_000, true)
            ]
        );
    }

    #[test]
    fn a_live_segment_is_resumed_only_after_pieces_that_overlap() {
        let runs = played(&[('a', 0, 60_000), ('E', 18_000, 32_000), ('F', 30_000, 45_000)]);
        assert_eq!(
            runs,
            [
                ('a', 0, 18_000, false),
                ('E', 18_000, 30_000, true),
                ('F', 30_000, 45_000, true),
                ('a', 45_000, 60_000, true)
            ]
        );
    }

    #[test]
    fn a_live_stump_within_an_edge_piece_is_left_out() {
        let runs = played(&[('E', 10_000, 50_000), ('a', 20_000, 23_000), ('b', 9_990, 12_000)]);
        assert_eq!(runs, [('E', 10_000, 50_000, false)]);
    }

    #[test]
    fn the_same_footage_pulled_twice_is_played_once() {
        let runs = played(&[('E', 10_000, 20_000), ('F', 10_000, 20_000)]);
        assert_eq!(runs, [('E', 10_000, 20_000, false)]);
    }
}
