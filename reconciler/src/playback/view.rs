//! Which part of which segment is played: overlaps are resolved, holes are left.
//!
//! Pure. Where it is known to the frame how a live recording and a piece meet, `links` has cut both there. All else
//! is cut by time, and about instants only: where another run begins, which is at a keyframe of both.
//! [`crate::seam`] finds the frames.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use sdcard_indexer::container::MediaTime;
use sdcard_indexer::time::{TimeRange, Timestamp};

use super::links::{Seams, Span, spans};
use super::{ArchivedSegment, Run};
use crate::seam::{Bound, Seam};
use crate::timeline::Recorder;

/// What two recordings of one stream may differ by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tolerances {
    /// Overlaps shorter than this are rounding of clocks, not footage recorded twice.
    pub one_frame: Duration,
    /// Holes no longer than this are none.
    pub join: Duration,
    /// So far a live recorder's successive files may seem to overlap, or to stand apart: it names them in whole
    /// seconds, and when their first packets have come, be that sooner or later.
    pub names: Duration,
}

impl Default for Tolerances {
    /// A frame at 20 per second, the seam of two recorders that cut at the same keyframe, and whole seconds.
    fn default() -> Self {
        Tolerances {
            one_frame: Duration::from_millis(50),
            join: Duration::from_millis(100),
            names: Duration::from_secs(2),
        }
    }
}

impl Tolerances {
    /// By so much two segments may seem to overlap and do not.
    fn overlap(&self, one: &ArchivedSegment, other: &ArchivedSegment) -> Duration {
        match (one.by, other.by) {
            // A recorder that goes on in its next file records nothing twice.
            (Recorder::Live, Recorder::Live) if one.file != other.file => self.names,
            _ => Duration::ZERO,
        }
    }

    /// So far two segments may seem to be apart and are not.
    fn distance(&self, one: &ArchivedSegment, other: &ArchivedSegment) -> Duration {
        let uncertainty = one.uncertainty.saturating_add(other.uncertainty);
        self.overlap(one, other).min(uncertainty)
    }
}

/// Resolves segments of one stream, in any order, into runs in the order of time.
///
/// Where a live recording and an edge piece meet in one of `seams`, that decides. Where two overlap otherwise, the
/// one that begins later is played from its beginning on: an edge piece begins at the keyframe before the hole it
/// fills, a live segment at its recorder's return. What lies within another segment is left out, except an edge
/// piece within a live segment: it was pulled because that one has a hole there, and the live segment is resumed
/// after it.
pub fn view<'a>(
    segments: &'a [ArchivedSegment],
    seams: &Seams,
    tolerances: Tolerances,
) -> Vec<Run<'a>> {
    let mut waiting: BTreeMap<Place<'a>, Span<'a>> =
        spans(segments, seams).into_iter().map(queued).collect();
    let mut runs: Vec<Run<'a>> = Vec::with_capacity(segments.len());
    while let Some((_, span)) = waiting.pop_first() {
        if let Some(last) = runs.last_mut() {
            let last_end = last.range.end();
            let one_frame =
                tolerances.overlap(last.segment, span.segment).max(tolerances.one_frame);
            let overlaps = span.range.start().saturating_add(one_frame) < last_end;
            let lies_within = span.range.end() <= last_end.saturating_add(tolerances.one_frame);
            let fills = (last.segment.by, span.segment.by) == (Recorder::Live, Recorder::Edge);
            if overlaps && lies_within && !fills {
                continue;
            }
            if overlaps && span.resumed {
                waiting.extend(rest_after(last_end, &span, tolerances).map(queued));
                continue;
            }
            if overlaps {
                let whole = span_of(last);
                waiting.extend(rest_after(span.range.end(), &whole, tolerances).map(queued));
                cut_before(span.range.start(), last);
            }
            if overlaps && last.range.duration() <= tolerances.one_frame {
                runs.pop();
            }
        }
        let seam = runs.last().and_then(|last| meets(last, &span, tolerances));
        let Span { segment, range, zero_at, opens, closes, .. } = span;
        runs.push(Run { segment, range, zero_at, opens, closes, seam });
    }
    runs
}

/// The order in which spans take their place: by start; where these are equal, edge after live and short after
/// long, so that what lies within another comes after it.
type Place<'a> = (Timestamp, Recorder, Reverse<Timestamp>, &'a ArchivedSegment);

fn queued<'a>(span: Span<'a>) -> (Place<'a>, Span<'a>) {
    let Span { segment, range, .. } = span;
    ((range.start(), segment.by, Reverse(range.end()), segment), span)
}

fn span_of<'a>(run: &Run<'a>) -> Span<'a> {
    let Run { segment, range, zero_at, opens, closes, .. } = *run;
    Span { segment, range, zero_at, opens, closes, follows: None, resumed: false }
}

/// What of a span is still to be played after an instant.
fn rest_after<'a>(instant: Timestamp, span: &Span<'a>, tolerances: Tolerances) -> Option<Span<'a>> {
    let range = TimeRange::new(instant, span.range.end())?;
    let opens = Bound::Handover(MediaTime(instant.nanos_from(span.zero_at)));
    let rest = Span { range, opens, follows: None, resumed: true, ..span.clone() };
    (range.duration() > tolerances.one_frame).then_some(rest)
}

fn cut_before(instant: Timestamp, run: &mut Run<'_>) {
    if instant < run.range.end()
        && let Some(range) = TimeRange::new(run.range.start(), instant)
    {
        run.closes = Bound::Handover(run.media_time(instant));
        run.range = range;
    }
}

/// How a span meets the run before; `None` where a hole lies between.
fn meets(last: &Run<'_>, span: &Span<'_>, tolerances: Tolerances) -> Option<Seam> {
    if let Some((before, seam)) = span.follows
        && before == last.segment
        && matches!(last.closes, Bound::Frame(_) | Bound::Natural)
    {
        return Some(seam);
    }
    let join = tolerances.distance(last.segment, span.segment).max(tolerances.join);
    if span.range.start() > last.range.end().saturating_add(join) {
        return None;
    }
    let whole = last.closes == Bound::Natural && span.opens == Bound::Natural;
    if last.segment.by == span.segment.by && whole {
        return Some(Seam::Succession);
    }
    let uncertainty = last.segment.uncertainty.saturating_add(span.segment.uncertainty);
    let uncertainty_ns = u64::try_from(uncertainty.as_nanos()).unwrap_or(u64::MAX);
    Some(Seam::Approximate { uncertainty_ns })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::seam::{Edge, FramePlace, Handover, Meeting, Offset};

    /// Seconds to play, in order, with the segments' letters; capitals are edge pieces.
    fn played(segments: &[(char, i64, i64)]) -> Vec<(char, i64, i64, bool)> {
        let at = |millis: i64| Timestamp::from_nanos(millis * 1_000_000);
        let segment = |&(name, start, end): &(char, i64, i64)| ArchivedSegment {
            file: name.to_string().into(),
            range: TimeRange::new(at(start), at(end)).unwrap(),
            by: if name.is_uppercase() { Recorder::Edge } else { Recorder::Live },
            uncertainty: Duration::ZERO,
        };
        let segments: Vec<ArchivedSegment> = segments.iter().map(segment).collect();
        let in_millis = |instant: Timestamp| instant.as_nanos() / 1_000_000;
        view(&segments, &Seams::default(), Tolerances::default())
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

    /// Frames of 40 ms; an exact seam of `live` and `piece` at these frames.
    fn meeting(live: usize, card: usize, at_millis: i64, offset_millis: i64) -> Meeting {
        let (at_ns, median_ns) = (at_millis * 1_000_000, offset_millis * 1_000_000);
        Meeting {
            handover: Handover {
                live: FramePlace::made_up(live),
                card: FramePlace::made_up(card),
                at_ns,
                to_the_frame: true,
            },
            offset: Offset { median_ns, error_ns: 0 },
            equal_frames: 9,
            samples: Vec::new(),
        }
    }

    fn segment(name: &str, start_millis: i64, end_millis: i64, by: Recorder) -> ArchivedSegment {
        let at = |millis: i64| Timestamp::from_nanos(millis * 1_000_000);
        let range = TimeRange::new(at(start_millis), at(end_millis)).unwrap();
        ArchivedSegment { file: name.into(), range, by, uncertainty: Duration::from_millis(500) }
    }

    fn frame(number: usize) -> Bound {
        Bound::Frame(FramePlace::made_up(number))
    }

    /// File, first frame, one past the last, and whether it is known to follow the run before to the frame.
    fn frames(runs: &[Run<'_>]) -> Vec<(String, Bound, Bound, bool)> {
        let row = |run: &Run<'_>| {
            let exact = matches!(run.seam, Some(Seam::Exact { .. }));
            (run.segment.file.display().to_string(), run.opens, run.closes, exact)
        };
        runs.iter().map(row).collect()
    }

    fn row(name: &str, opens: Bound, closes: Bound, exact: bool) -> (String, Bound, Bound, bool) {
        (name.to_owned(), opens, closes, exact)
    }

    /// Exact seams of `E` with what is before and behind it.
    fn met(before: (&str, Meeting), behind: (&str, Meeting)) -> Seams {
        let mut seams = Seams::default();
        seams.insert(Edge::Opening, Path::new(before.0), Path::new("E"), before.1);
        seams.insert(Edge::Closing, Path::new(behind.0), Path::new("E"), behind.1);
        seams
    }

    #[test]
    fn frames_decide_where_recordings_meet_whatever_their_names_say() {
        // By their names the recording behind the hole begins before the piece does, whose clock is 8 s fast.
        for behind_starts in [9_500, 31_000, 33_000] {
            let segments = [
                segment("a", 0, 10_400, Recorder::Live),
                segment("E", 18_000, 40_000, Recorder::Edge),
                segment("b", behind_starts, behind_starts + 30_000, Recorder::Live),
            ];
            let seams = met(
                ("a", meeting(250, 0, 10_000, -8_000)),
                ("b", meeting(12, 500, behind_starts + 480, -9_000)),
            );
            let runs = view(&segments, &seams, Tolerances::default());
            let natural = Bound::Natural;
            let expected = [
                row("a", natural, frame(250), false),
                row("E", frame(0), frame(500), true),
                row("b", frame(12), natural, true),
            ];
            assert_eq!(frames(&runs), expected, "{behind_starts}");
        }
    }

    #[test]
    fn a_live_segment_with_a_hole_is_left_and_gone_on_with_at_a_frame() {
        let segments =
            [segment("a", 0, 60_000, Recorder::Live), segment("E", 18_000, 32_000, Recorder::Edge)];
        let (opening, closing) = (meeting(450, 0, 18_300, 300), meeting(470, 340, 31_900, 300));
        let natural = Bound::Natural;
        let time = |millis: i64| Bound::Handover(MediaTime(millis * 1_000_000));

        let both = met(("a", opening.clone()), ("a", closing.clone()));
        let expected = [
            row("a", natural, frame(450), false),
            row("E", frame(0), frame(340), true),
            row("a", frame(470), natural, true),
        ];
        assert_eq!(frames(&view(&segments, &both, Tolerances::default())), expected);

        // Known at one edge alone, the other is placed by the same offset.
        let mut one = Seams::default();
        one.insert(Edge::Opening, Path::new("a"), Path::new("E"), opening);
        let expected = [
            row("a", natural, frame(450), false),
            row("E", frame(0), natural, true),
            row("a", time(32_300), natural, false),
        ];
        assert_eq!(frames(&view(&segments, &one, Tolerances::default())), expected);

        let mut other = Seams::default();
        other.insert(Edge::Closing, Path::new("a"), Path::new("E"), closing);
        let expected = [
            row("a", natural, time(18_300), false),
            row("E", natural, frame(340), false),
            row("a", frame(470), natural, true),
        ];
        assert_eq!(frames(&view(&segments, &other, Tolerances::default())), expected);
    }

    #[test]
    fn a_piece_of_which_the_live_recording_lacks_nothing_is_left_out() {
        let segments =
            [segment("a", 0, 60_000, Recorder::Live), segment("E", 18_000, 20_000, Recorder::Edge)];
        let seams = met(("a", meeting(500, 50, 20_000, 0)), ("a", meeting(450, 0, 18_000, 0)));
        let runs = view(&segments, &seams, Tolerances::default());
        assert_eq!(frames(&runs), [row("a", Bound::Natural, Bound::Natural, false)]);
    }

    #[test]
    fn pieces_that_follow_each_other_are_put_between_live_recordings_together() {
        let segments = [
            segment("a", 0, 10_400, Recorder::Live),
            segment("E", 18_000, 30_000, Recorder::Edge),
            segment("F", 30_000, 40_000, Recorder::Edge),
            segment("b", 31_500, 60_000, Recorder::Live),
        ];
        let mut seams = Seams::default();
        let (opening, closing) =
            (meeting(250, 0, 10_000, -8_000), meeting(12, 240, 31_980, -8_000));
        seams.insert(Edge::Opening, Path::new("a"), Path::new("E"), opening);
        seams.insert(Edge::Closing, Path::new("b"), Path::new("F"), closing);
        let runs = view(&segments, &seams, Tolerances::default());
        let natural = Bound::Natural;
        let expected = [
            row("a", natural, frame(250), false),
            row("E", frame(0), natural, true),
            row("F", natural, frame(240), false),
            row("b", frame(12), natural, true),
        ];
        assert_eq!(frames(&runs), expected);
        assert_eq!(runs[2].seam, Some(Seam::Succession));
    }

    #[test]
    fn names_in_whole_seconds_take_no_frame_from_a_recorders_next_file() {
        for second_starts in [9_200, 10_000, 10_900] {
            let segments = [
                segment("a", 0, 10_000, Recorder::Live),
                segment("b", second_starts, second_starts + 10_000, Recorder::Live),
            ];
            let seams = Seams::default();
            let runs = view(&segments, &seams, Tolerances::default());
            let natural = Bound::Natural;
            let expected = [row("a", natural, natural, false), row("b", natural, natural, false)];
            assert_eq!(frames(&runs), expected);
            assert_eq!(runs[1].seam, Some(Seam::Succession), "{second_starts}");
        }
    }

    #[test]
    fn a_piece_is_played_until_the_live_recording_can_be_decoded() {
        let segments =
            [segment("E", 0, 12_000, Recorder::Edge), segment("b", 10_000, 60_000, Recorder::Live)];
        let mut seams = Seams::default();
        seams.set_decodable_from(Path::new("b"), MediaTime(1_200_000_000));
        let runs = view(&segments, &seams, Tolerances::default());
        let until = Bound::Handover(MediaTime(11_200_000_000));
        let expected = [
            row("E", Bound::Natural, until, false),
            row("b", Bound::Natural, Bound::Natural, false),
        ];
        assert_eq!(frames(&runs), expected);
    }

    #[test]
    fn what_was_put_together_by_clocks_says_how_far_these_may_be_apart() {
        let segments =
            [segment("a", 0, 10_400, Recorder::Live), segment("E", 10_000, 20_000, Recorder::Edge)];
        let seams = Seams::default();
        let runs = view(&segments, &seams, Tolerances::default());
        assert_eq!(runs[1].seam, Some(Seam::Approximate { uncertainty_ns: 1_000_000_000 }));
    }
}
