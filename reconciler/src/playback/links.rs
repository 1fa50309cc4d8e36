//! What is played of each segment where seams are known to the frame, before overlaps are resolved by time.
//!
//! Pure. Live recordings keep their places in time; a piece is put between those that it meets, so that both sides
//! of an exact seam stand at one instant, however far the clocks are apart, and by whatever a recorder rounds its
//! files' names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sdcard_indexer::container::MediaTime;
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::{TimeRange, Timestamp};

use super::ArchivedSegment;
use crate::seam::{Bound, Edge, FramePlace, Meeting, Seam};
use crate::timeline::Recorder;

/// What a run lasts at least, where rounded names say that it ends before it begins.
const LEAST_LENGTH: Duration = Duration::from_millis(1);
/// Less than this of a live recording before or behind a piece is none.
const LEAST_REST: Duration = Duration::from_millis(50);
/// Pieces no farther apart than this were cut out of one recording.
const ABUTTING_NS: u64 = 20_000_000;

/// Where live recordings and pieces were found to meet.
#[derive(Clone, Debug, Default)]
pub struct Seams {
    /// By piece.
    met: BTreeMap<PathBuf, Vec<(Edge, PathBuf, Meeting)>>,
    /// When live recordings' first keyframes are shown.
    decodable: BTreeMap<PathBuf, MediaTime>,
}

impl Seams {
    pub fn insert(&mut self, edge: Edge, live: &Path, piece: &Path, meeting: Meeting) {
        self.met.entry(piece.to_owned()).or_default().push((edge, live.to_owned(), meeting));
    }

    /// A live recording that begins within a group of pictures can be played from `first_keyframe` on: up to there
    /// a piece is, though how the two meet may be known by time alone.
    pub fn set_decodable_from(&mut self, live: &Path, first_keyframe: MediaTime) {
        self.decodable.insert(live.to_owned(), first_keyframe);
    }

    pub fn decodable_from(&self, live: &Path) -> Option<MediaTime> {
        self.decodable.get(live).copied()
    }

    /// Edge, live recording, piece, and how they meet.
    pub fn iter(&self) -> impl Iterator<Item = (Edge, &Path, &Path, &Meeting)> {
        self.met.iter().flat_map(|(piece, met)| {
            let met = met.iter();
            met.map(move |(edge, live, meeting)| (*edge, live.as_path(), piece.as_path(), meeting))
        })
    }
}

/// A part of a segment that may be played.
#[derive(Clone, Debug)]
pub(super) struct Span<'a> {
    pub(super) segment: &'a ArchivedSegment,
    pub(super) range: TimeRange,
    pub(super) zero_at: Timestamp,
    pub(super) opens: Bound,
    pub(super) closes: Bound,
    /// Which segment it follows to the frame, and how that is known.
    pub(super) follows: Option<(&'a ArchivedSegment, Seam)>,
    /// What is left of a run that another one has interrupted.
    pub(super) resumed: bool,
}

/// One exact seam, at an instant of the live recorder's clock.
struct Joint<'a, 's> {
    edge: Edge,
    live: &'a ArchivedSegment,
    piece: &'a ArchivedSegment,
    meeting: &'s Meeting,
    at: Timestamp,
    /// When the piece is played, by the same clock.
    piece_range: TimeRange,
}

/// Both recorders' spans, in no order.
pub(super) fn spans<'a>(segments: &'a [ArchivedSegment], seams: &Seams) -> Vec<Span<'a>> {
    let mut pieces: Vec<&ArchivedSegment> = by(segments, Recorder::Edge).collect();
    pieces.sort();
    let mut joints = Vec::new();
    // Files of live recorders, by their beginnings: those between the one from which pieces take over and the one
    // to which they hand back.
    let mut replaced = Vec::new();
    let mut interrupted = None;
    let mut spans: Vec<Span<'a>> = Vec::new();
    for piece in pieces {
        let opening = best(segments, seams, piece, Edge::Opening);
        let closing = best(segments, seams, piece, Edge::Closing);
        let needed = match (&opening, &closing) {
            (Some(one), Some(other)) => one.meeting.handover.card < other.meeting.handover.card,
            _ => true,
        };
        if !needed {
            // The live recording lacks nothing of it.
            continue;
        }
        let before = spans.last().filter(|before| abut(before.segment, piece));
        interrupted = match (&opening, before) {
            (Some(joint), _) => Some(joint.live.range.start()),
            (None, Some(_)) => interrupted,
            (None, None) => None,
        };
        if let (Some(from), Some(joint)) = (interrupted, &closing) {
            replaced.push(from..joint.live.range.start());
        }
        if let (None, Some(joint)) = (&opening, &closing)
            && joint.meeting.handover.card == FramePlace::FIRST
            && before.is_some()
        {
            // The live recording has all of it, and goes on where the piece before ends.
            make_room(&mut spans, joint.at);
            if let Some(before) = spans.last() {
                let (piece, piece_range) = (before.segment, before.range);
                joints.extend(closing.map(|joint| Joint { piece, piece_range, ..joint }));
            }
            continue;
        }
        let goes_on = before.is_some();
        let span = place(piece, before, opening.as_ref(), closing.as_ref());
        if goes_on {
            make_room(&mut spans, span.range.start());
        }
        let (at, piece_range) = (span.range.start(), span.range);
        joints.extend(opening.map(|joint| Joint { at, piece_range, ..joint }));
        joints.extend(closing.map(|joint| Joint { piece_range, ..joint }));
        spans.push(span);
    }
    // Recorders name their files in the order in which they write them, however late.
    let is_replaced = |live: &ArchivedSegment| {
        let start = live.range.start();
        replaced.iter().any(|files| files.start < start && start < files.end)
    };
    let copied: Coverage = spans.iter().map(|span| span.range).collect();
    let copied = copied.joined(Duration::from_nanos(ABUTTING_NS));
    for live in by(segments, Recorder::Live) {
        let mut joints: Vec<&Joint> = joints.iter().filter(|joint| joint.live == live).collect();
        if joints.is_empty() && (is_replaced(live) || copied.covers(live.range)) {
            // Between two holes that were pulled as one: the card has all of it, and by clocks alone it would only
            // interrupt that.
            continue;
        }
        joints.sort_by_key(|joint| (joint.meeting.handover.live, joint.edge));
        let first_keyframe = seams.decodable.get(&live.file).copied().unwrap_or_default();
        spans.extend(parts_of(live, first_keyframe, &joints));
    }
    spans
}

/// The clocks of what comes before and behind pieces may differ: those that are placed already end by then at the
/// latest. Which frames are played of them is not a matter of clocks.
fn make_room(spans: &mut [Span<'_>], at: Timestamp) {
    let mut end = at;
    for span in spans.iter_mut().rev().take_while(|span| span.range.end() > at) {
        let start = span.range.start().min(end.saturating_sub(LEAST_LENGTH));
        span.range = lasting(start, end);
        end = start;
    }
}

fn by(segments: &[ArchivedSegment], recorder: Recorder) -> impl Iterator<Item = &ArchivedSegment> {
    segments.iter().filter(move |segment| segment.by == recorder)
}

fn abut(before: &ArchivedSegment, piece: &ArchivedSegment) -> bool {
    before.range.end().nanos_from(piece.range.start()).unsigned_abs() <= ABUTTING_NS
}

/// The joint that leaves the most of the piece to be played, where several live recordings meet it.
fn best<'a, 's>(
    segments: &'a [ArchivedSegment],
    seams: &'s Seams,
    piece: &'a ArchivedSegment,
    edge: Edge,
) -> Option<Joint<'a, 's>> {
    let met = seams.met.get(&piece.file)?.iter().filter(|(found, ..)| *found == edge);
    let joints = met.filter_map(|(_, file, meeting)| {
        let live = by(segments, Recorder::Live).find(|live| live.file == *file)?;
        let at = Timestamp::from_nanos(meeting.handover.at_ns);
        Some(Joint { edge, live, piece, meeting, at, piece_range: piece.range })
    });
    match edge {
        Edge::Opening => joints.min_by_key(|joint| joint.meeting.handover.card),
        Edge::Closing => joints.max_by_key(|joint| joint.meeting.handover.card),
    }
}

/// Puts a piece between what it meets: `before` is the piece that it goes on from.
fn place<'a>(
    piece: &'a ArchivedSegment,
    before: Option<&Span<'a>>,
    opening: Option<&Joint<'a, '_>>,
    closing: Option<&Joint<'a, '_>>,
) -> Span<'a> {
    let offset = |joint: &Joint| joint.meeting.offset.median_ns;
    let behind = before.map(|before| before.zero_at.nanos_from(before.segment.range.start()));
    let offset_ns = opening.map(offset).or(behind).or(closing.map(offset)).unwrap_or(0);
    let own = |instant: Timestamp| instant.saturating_offset(offset_ns);
    let end = closing.map_or(own(piece.range.end()), |joint| joint.at);
    let start = match (opening, before) {
        (Some(joint), _) => joint.at,
        (None, Some(before)) => before.range.end(),
        (None, None) => own(piece.range.start()),
    };
    // Whole seconds in names may put the recording behind the hole before the one before it.
    let start = start.min(end.saturating_sub(LEAST_LENGTH));
    let frame = |joint: Option<&Joint>| {
        joint.map_or(Bound::Natural, |joint| Bound::Frame(joint.meeting.handover.card))
    };
    Span {
        segment: piece,
        range: lasting(start, end),
        zero_at: own(piece.range.start()),
        opens: frame(opening),
        closes: frame(closing),
        follows: opening.map(|joint| (joint.live, joint.meeting.seam())),
        resumed: false,
    }
}

/// What is played of a live recording: up to each place where a piece takes over, and on from where it goes on.
fn parts_of<'a>(
    live: &'a ArchivedSegment,
    first_keyframe: MediaTime,
    joints: &[&Joint<'a, '_>],
) -> Vec<Span<'a>> {
    let begins = live.range.start().saturating_offset(first_keyframe.0.max(0));
    let whole = Span {
        segment: live,
        range: lasting(begins, live.range.end()),
        zero_at: live.range.start(),
        opens: Bound::Natural,
        closes: Bound::Natural,
        follows: None,
        resumed: false,
    };
    let by_time =
        |instant: Timestamp| Bound::Handover(MediaTime(instant.nanos_from(whole.zero_at)));
    let mut parts = Vec::new();
    let mut open = Some(whole.clone());
    for Joint { edge, piece, meeting, at, piece_range, .. } in joints {
        let bound = Bound::Frame(meeting.handover.live);
        match edge {
            Edge::Opening => {
                let Some(part) = open.take() else { continue };
                let start = part.range.start().min(at.saturating_sub(LEAST_LENGTH));
                parts.push(Span { range: lasting(start, *at), closes: bound, ..part });
                // Where it goes on behind the piece may not be known to the frame.
                let rest = TimeRange::new(piece_range.end(), live.range.end());
                let rest = rest.filter(|rest| rest.duration() > LEAST_REST);
                let opens = by_time(piece_range.end());
                open = rest.map(|range| Span { range, opens, ..whole.clone() });
            }
            Edge::Closing => {
                // Nor where the piece takes over from it.
                let before = TimeRange::new(begins, piece_range.start());
                let began_before = at.since(live.range.start())
                    > piece.range.duration().saturating_add(LEAST_REST);
                if let Some(part) = open.take().filter(|_| began_before)
                    && part.range.start() == begins
                    && let Some(range) = before
                {
                    parts.push(Span { range, closes: by_time(range.end()), ..part });
                }
                let follows = Some((*piece, meeting.seam()));
                let range = lasting(*at, live.range.end());
                open = Some(Span { range, opens: bound, follows, ..whole.clone() });
            }
        }
    }
    parts.extend(open);
    parts
}

fn lasting(start: Timestamp, end: Timestamp) -> TimeRange {
    let least = TimeRange::starting_at(start, LEAST_LENGTH);
    TimeRange::new(start, end.max(least.end())).unwrap_or(least)
}
