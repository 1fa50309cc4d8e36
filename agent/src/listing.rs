//! What stands on the card in a range, a few thousand segments at a time. Pure.

use protocol::message::ListedSegment;
use sdcard_indexer::segment::{Content, Segment, Tier};
use sdcard_indexer::time::{TimeRange, Timestamp};

use crate::conversation::Answer;

/// Segments in one answer, which is then 84 KB at the most.
const MAX_SEGMENTS: usize = 2_000;

/// The earliest of the segments that share time with `range` and count as held. An index gives them in the
/// order of their names, which is another one where a clock was wrong.
pub fn listing(segments: impl Iterator<Item = Segment>, range: TimeRange) -> Answer {
    let mut earliest = Earliest { range, segments: Vec::new(), next: None };
    segments.filter_map(|segment| listed(&segment)).for_each(|segment| earliest.take(segment));
    earliest.cut();
    Answer::Segments { segments: earliest.segments, next: earliest.next }
}

fn listed(segment: &Segment) -> Option<ListedSegment> {
    let tier = match segment.content {
        Content::Unread => Tier::Names,
        Content::Held | Content::Nothing => Tier::Extent,
    };
    let uncertainty = segment.placement.uncertainty.as_nanos();
    Some(ListedSegment {
        range: segment.coverage()?,
        uncertainty_ns: u64::try_from(uncertainty).unwrap_or(u64::MAX),
        size_bytes: segment.stamp.size_bytes,
        tier: tier as u8,
        sealed: segment.sealed,
    })
}

struct Earliest {
    range: TimeRange,
    /// At most twice as many as are told, so that they are sorted seldom.
    segments: Vec<ListedSegment>,
    /// The earliest start of what is not told.
    next: Option<Timestamp>,
}

impl Earliest {
    fn take(&mut self, segment: ListedSegment) {
        let told_later = self.next.is_some_and(|next| segment.range.start() > next);
        if told_later || !segment.range.overlaps(&self.range) {
            return;
        }
        self.segments.push(segment);
        if self.segments.len() >= 2 * MAX_SEGMENTS {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.segments.sort_by_key(|segment| segment.range);
        // Where more hold the first instant than can be told, the rest of them never is: to ask on has to
        // lead on.
        let rest = self.segments.get(MAX_SEGMENTS..).unwrap_or_default();
        let rest = rest.iter().map(|segment| segment.range.start());
        let begins = rest.into_iter().find(|start| *start > self.range.start());
        self.next = self.next.into_iter().chain(begins).min();
        self.segments.truncate(MAX_SEGMENTS);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use protocol::envelope;
    use protocol::message::{Listed, RequestId, Tell};
    use sdcard_indexer::identity::SegmentId;
    use sdcard_indexer::index::KnownHoles;
    use sdcard_indexer::segment::{FileStamp, Placement, TimeSource};

    use super::*;

    fn seconds(from: i64, to: i64) -> TimeRange {
        let at = Timestamp::from_unix_seconds;
        TimeRange::new(at(from), at(to)).unwrap()
    }

    fn segment(from: i64, to: i64) -> Segment {
        let range = seconds(from, to);
        Segment {
            id: SegmentId(from as u64),
            path: from.to_string().into(),
            stamp: FileStamp { size_bytes: 1_000 + from as u64, modified_ns: 0 },
            fingerprint: 1,
            named: range.start(),
            placement: Placement {
                start: range.start(),
                uncertainty: Duration::from_millis(5),
                source: TimeSource::Name,
                epoch: None,
            },
            duration: range.duration(),
            usable_bytes: 900,
            content: Content::Held,
            sealed: true,
            future: false,
            unreadable: false,
            holes: KnownHoles::default(),
        }
    }

    fn told(segments: &[Segment], range: TimeRange) -> (Vec<ListedSegment>, Option<Timestamp>) {
        match listing(segments.iter().cloned(), range) {
            Answer::Segments { segments, next } => (segments, next),
            answer => panic!("{answer:?}"),
        }
    }

    fn starts(segments: &[ListedSegment]) -> Vec<i64> {
        segments.iter().map(|segment| segment.range.start().as_nanos() / 1_000_000_000).collect()
    }

    #[test]
    fn a_segment_is_told_with_its_place_its_whole_size_and_how_well_it_is_known() {
        let unread = Segment { content: Content::Unread, sealed: false, ..segment(10, 20) };
        let (segments, next) = told(&[segment(0, 10), unread], seconds(0, 100));
        let first = ListedSegment {
            range: seconds(0, 10),
            uncertainty_ns: 5_000_000,
            size_bytes: 1_000,
            tier: 1,
            sealed: true,
        };
        let second = ListedSegment {
            range: seconds(10, 20),
            size_bytes: 1_010,
            tier: 0,
            sealed: false,
            ..first
        };
        assert_eq!((segments, next), (vec![first, second], None));
    }

    #[test]
    fn what_does_not_count_as_held_is_not_told_nor_what_only_touches_the_range() {
        let nothing = Segment { content: Content::Nothing, ..segment(20, 30) };
        let future = Segment { future: true, ..segment(30, 40) };
        let all = [segment(0, 10), segment(10, 20), nothing, future, segment(40, 50)];
        assert_eq!(starts(&told(&all, seconds(10, 40)).0), [10]);
    }

    #[test]
    fn the_order_is_that_of_places_and_not_of_names() {
        let all = [segment(30, 40), segment(0, 10), segment(20, 30)];
        assert_eq!(starts(&told(&all, seconds(0, 100)).0), [0, 20, 30]);
    }

    #[test]
    fn a_full_answer_is_well_below_a_packet() {
        let last = ListedSegment {
            range: TimeRange::new(Timestamp::MIN, Timestamp::MAX).unwrap(),
            uncertainty_ns: u64::MAX,
            size_bytes: u64::MAX,
            tier: 1,
            sealed: true,
        };
        let listed = Listed {
            request: RequestId(u64::MAX),
            stream: "x".repeat(64).parse().unwrap(),
            segments: vec![last; MAX_SEGMENTS],
            next: Some(Timestamp::MAX),
        };
        let bytes = envelope::encode(&Tell::Listed(listed)).unwrap().len();
        assert!(bytes <= 84_000 + 200, "{bytes}");
    }

    #[test]
    fn more_segments_at_one_instant_than_can_be_told_do_not_keep_from_asking_on() {
        let crowd = (0..MAX_SEGMENTS as i64 + 7).map(|_| segment(0, 10));
        let all: Vec<Segment> = crowd.chain([segment(10, 20)]).collect();
        let (segments, next) = told(&all, seconds(0, 100));
        assert_eq!(segments.len(), MAX_SEGMENTS);
        assert_eq!(next, Some(Timestamp::from_unix_seconds(10)));
        assert_eq!(starts(&told(&all, seconds(10, 100)).0), [10]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn whoever_asks_on_is_told_of_every_segment(
            (count, length) in (1..9_000_i64, 1..40_i64),
            step in prop::sample::select(vec![1, 7, 4_999, 8_009]),
        ) {
            // 9,001 is a prime: each start comes once, in some order.
            let all = (0..count).map(|number| number * step % 9_001);
            let all: Vec<Segment> = all.map(|start| segment(start, start + length)).collect();
            let mut expected: Vec<i64> = all.iter().map(|segment| segment.id.0 as i64).collect();
            expected.sort_unstable();
            let mut heard = Vec::new();
            let mut from = Some(Timestamp::from_unix_seconds(0));
            while let Some(start) = from {
                let range = TimeRange::new(start, seconds(0, 20_000).end()).unwrap();
                let (segments, next) = told(&all, range);
                prop_assert!(segments.len() <= MAX_SEGMENTS);
                prop_assert!(next.is_none_or(|next| next > start));
                heard.extend(starts(&segments));
                from = next;
            }
            heard.sort_unstable();
            heard.dedup();
            prop_assert_eq!(heard, expected);
        }
    }
}
