//! Where a piece that has no name yet meets what was recorded live: frames that both hold tell when it is truly
//! shown, and what the device's clock lacks.
//!
//! Reads files, near the piece's edges only, and changes none. Where nothing is found out, the piece stays where the
//! device's time has put it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sdcard_indexer::time::{TimeRange, Timestamp};

use crate::archive::ArchivedFile;
use crate::ledger::{Piece, PieceSeam};
use crate::offset::{Basis, Learned};
use crate::playback::{self, ArchivedSegment, SeamSearch};
use crate::seam::{Edge, Meeting};
use crate::timeline::Recorder;

/// Where a seam and a neighbour have an edge at most so far apart, they mean the same.
const ABUTTING: Duration = Duration::from_millis(100);

/// What a live recorder's names are late by differs from one of its sessions to the next by no more.
const MOST_STRETCHED: Duration = Duration::from_secs(10);

/// How a piece meets what was recorded live, and what follows.
pub(super) struct Met {
    /// When it is truly shown, on the archive's time.
    pub range: TimeRange,
    pub seams: Vec<PieceSeam>,
    pub learned: Vec<Learned>,
}

/// Where the pieces stand, on the archive's time, that the card holds right before and behind one.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Neighbours {
    /// The end of the one before.
    pub before: Option<Timestamp>,
    /// The beginning of the one behind.
    pub behind: Option<Timestamp>,
}

/// All of a part is in its piece, which therefore ends where the part does: what was lost of others is their end. Put
/// between its neighbours, a whole one may have come to cover a little less.
pub(super) fn is_whole(piece: TimeRange, part: TimeRange) -> bool {
    piece.duration().saturating_add(ABUTTING.saturating_mul(3)) >= part.duration()
}

/// Looks at both edges of a piece that has no name yet. `others` are the archive's other pieces: what a card gave
/// tells nothing of the live recorder's clock.
pub(super) fn meet(
    piece: &Piece,
    hidden: &Path,
    uncertainty: Duration,
    whole: bool,
    neighbours: Neighbours,
    others: &BTreeSet<PathBuf>,
    near: impl FnOnce(TimeRange) -> Vec<ArchivedFile>,
) -> Met {
    let search = SeamSearch::default();
    let around = search.lateness.saturating_add(uncertainty).saturating_add(search.margin);
    let range = TimeRange::new(
        piece.range.start().saturating_sub(around),
        piece.range.end().saturating_add(around),
    );
    let files = near(range.unwrap_or(piece.range)).into_iter();
    let live = files.filter(|file| !others.contains(&file.path)).map(|file| ArchivedSegment {
        file: file.path,
        range: file.range,
        by: Recorder::Live,
        uncertainty: file.uncertainty,
    });
    let own = ArchivedSegment {
        file: hidden.to_owned(),
        range: piece.range,
        by: Recorder::Edge,
        uncertainty,
    };
    let segments: Vec<ArchivedSegment> = live.chain([own]).collect();
    let found = playback::find_seams(&segments, &search);
    for attempt in &found.attempts {
        let (edge, live) = (attempt.edge, attempt.live.display());
        match &attempt.outcome {
            Ok(meeting) => tracing::debug!(?edge, %live, seam = %meeting.seam(), "met"),
            Err(reason) => tracing::debug!(?edge, %live, %reason, "not met"),
        }
    }
    let named_within = |live: &Path| {
        let segment = segments.iter().find(|segment| segment.file == live);
        segment.map_or(Duration::ZERO, |segment| segment.uncertainty)
    };
    let met: Vec<(Edge, &Meeting)> =
        found.seams.iter().map(|(edge, _, _, meeting)| (edge, meeting)).collect();
    let at = |wanted: Edge| met.iter().find(|(edge, _)| *edge == wanted).map(|(_, one)| *one);
    let (opening, closing) = (at(Edge::Opening), at(Edge::Closing));
    let offset = |met: Option<&Meeting>| met.map(|meeting| meeting.offset.median_ns);
    let seam = |(edge, meeting): &(Edge, &Meeting)| PieceSeam { edge: *edge, seam: meeting.seam() };
    Met {
        range: standing(piece.range, whole, offset(opening), offset(closing), neighbours),
        seams: met.iter().map(seam).collect(),
        learned: found
            .seams
            .iter()
            .filter_map(|(_, live, _, meeting)| learned_of(meeting, named_within(live)))
            .collect(),
    }
}

/// Where a piece stands on the archive's time, by what its seams say that its edges are off by, and by its neighbours:
/// what follows on each other on the card does so in the archive, to the nanosecond.
///
/// It never covers more time than it holds, but where the archive's own time has a jump: one that is `whole` lies
/// between what the card holds before and behind it, however much the names of two sessions of a live recorder differ
/// in what they are late by. One that ends early, of which the card lost the rest, has no neighbour there, though its
/// part had one.
fn standing(
    piece: TimeRange,
    whole: bool,
    opening: Option<i64>,
    closing: Option<i64>,
    neighbours: Neighbours,
) -> TimeRange {
    let by = |at: Timestamp, own: Option<i64>, other: Option<i64>| {
        at.saturating_offset(own.or(other).unwrap_or(0))
    };
    let (start, end) = (by(piece.start(), opening, closing), by(piece.end(), closing, opening));
    let beside = |neighbour: Option<Timestamp>, edge: Timestamp, own: Option<i64>| {
        let abuts = |at: &Timestamp| own.is_none() || at.distance(edge) <= ABUTTING;
        neighbour.filter(abuts).unwrap_or(edge)
    };
    let between = TimeRange::new(
        beside(neighbours.before, start, opening),
        beside(neighbours.behind, end, closing),
    );
    let most = if whole { MOST_STRETCHED } else { ABUTTING.saturating_mul(2) };
    let is_as_long = |range: &TimeRange| range.duration().abs_diff(piece.duration()) <= most;
    let alone = TimeRange::new(start, end);
    between.filter(is_as_long).or(alone).filter(|range| !range.is_empty()).unwrap_or(piece)
}

/// By the piece's clock, which is the device's with what was known of it already. Of a live recording it is the name
/// that tells when it was recorded, `named_within` so much.
fn learned_of(meeting: &Meeting, named_within: Duration) -> Option<Learned> {
    let middle = meeting.samples.get(meeting.samples.len() / 2)?;
    let error_ns = u128::from(meeting.offset.error_ns).saturating_add(named_within.as_nanos());
    Some(Learned {
        at: Timestamp::from_nanos(middle.card_time_ns),
        offset_ns: meeting.offset.median_ns,
        error_ns: i64::try_from(error_ns).unwrap_or(i64::MAX),
        basis: Basis::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::{at, seconds};

    const LATE_NS: i64 = 1_080_000_000;

    fn late(second: i64) -> Timestamp {
        at(second).saturating_offset(LATE_NS)
    }

    fn between(before: Timestamp, behind: Timestamp) -> Neighbours {
        Neighbours { before: Some(before), behind: Some(behind) }
    }

    #[test]
    fn a_piece_fills_the_time_between_those_that_the_card_holds_beside_it() {
        let expected = TimeRange::new(late(10), late(20)).unwrap();
        let beside = between(late(10), late(20));
        assert_eq!(standing(seconds(10, 20), true, None, None, beside), expected);
        assert_eq!(standing(seconds(10, 20), true, Some(LATE_NS), None, beside), expected);
        assert_eq!(
            standing(seconds(10, 20), true, None, Some(LATE_NS), Neighbours::default()),
            expected
        );
    }

    #[test]
    fn where_the_archives_time_jumps_a_whole_piece_lies_between_its_neighbours_all_the_same() {
        // The live recorder's names are late by a second more since it came back.
        let stretched = TimeRange::new(at(10), late(20)).unwrap();
        for (opening, closing) in [(None, None), (None, Some(LATE_NS)), (Some(0), None)] {
            let beside = Neighbours {
                before: opening.is_none().then_some(at(10)),
                behind: closing.is_none().then_some(late(20)),
            };
            assert_eq!(standing(seconds(10, 20), true, opening, closing, beside), stretched);
        }
        let shortened = TimeRange::new(late(10), at(20)).unwrap();
        assert_eq!(
            standing(seconds(10, 20), true, None, None, between(late(10), at(20))),
            shortened
        );
        // So far apart it is something else.
        let far = between(at(10), at(40));
        assert_eq!(standing(seconds(10, 20), true, None, None, far), seconds(10, 20));
        assert!(is_whole(seconds(10, 20), seconds(10, 20)) && is_whole(stretched, seconds(10, 20)));
        assert!(!is_whole(seconds(10, 19), seconds(10, 20)));
    }

    #[test]
    fn a_piece_never_covers_more_than_it_holds() {
        // The card lost the rest of its part, at whose end the next one begins.
        let cut = seconds(10, 13);
        assert_eq!(standing(cut, false, None, None, between(at(10), at(20))), cut);
        // And the one before it was cut so.
        assert_eq!(standing(cut, false, None, None, between(at(2), at(13))), cut);
        assert_eq!(standing(cut, false, None, None, between(at(14), at(13))), cut);
        let moved = TimeRange::new(late(10), late(13)).unwrap();
        assert_eq!(standing(cut, false, Some(LATE_NS), None, between(late(10), at(20))), moved);
    }
}
