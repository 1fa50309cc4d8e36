//! Locating: which bytes of which segments hold a time range. Tier T2, made when it is asked for and not kept.

use std::time::Duration;

use super::Index;
use super::read::ReadError;
use super::stream::Stream;
use crate::container::MediaTime;
use crate::cut::{self, CutLimits, PartMedia};
use crate::identity::{SegmentId, SegmentVersion, StreamId};
use crate::segment::{Content, Segment};
use crate::time::{TimeRange, Timestamp};

/// A keyframe-aligned byte range of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocatedPart {
    pub segment: SegmentId,
    pub version: SegmentVersion,
    pub bytes: std::ops::Range<u64>,
    pub range: TimeRange,
    /// `range` may lie this much earlier or later in truth.
    pub uncertainty: Duration,
    pub needs: PartMedia,
}

#[derive(Debug, Default)]
pub struct Located {
    /// Oldest first.
    pub parts: Vec<LocatedPart>,
    /// Where to ask on: there were as many parts as allowed before the range was at its end.
    pub next: Option<Timestamp>,
    /// Segments in the range of which nothing, or not all, could be located.
    pub unusable: Vec<(SegmentId, ReadError)>,
}

#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    #[error("stream `{0}` is not indexed")]
    UnknownStream(StreamId),
}

impl Index {
    /// The parts that hold `range`; `limits.max_parts` counts over all segments.
    pub fn locate(
        &mut self,
        stream: &StreamId,
        range: TimeRange,
        limits: &CutLimits,
    ) -> Result<Located, LocateError> {
        let known = self.streams.iter_mut().find(|known| known.source.stream == *stream);
        let known = known.ok_or_else(|| LocateError::UnknownStream(stream.clone()))?;
        Ok(known.locate(range, limits))
    }
}

impl Stream {
    fn locate(&mut self, range: TimeRange, limits: &CutLimits) -> Located {
        let mut located = Located::default();
        let mut changed = Vec::new();
        let usable =
            |segment: &Segment| segment.content != Content::Nothing && segment.placement.is_known();
        for segment in self.table.touching(range).filter(usable) {
            match self.locate_in(&segment, range, limits, &mut located.parts) {
                Ok(None) => {}
                Ok(next) => {
                    located.next = next;
                    break;
                }
                Err(error) => {
                    if matches!(error, ReadError::Changed) {
                        changed.push(segment.id);
                    }
                    located.unusable.push((segment.id, error));
                }
            }
        }
        for segment in changed {
            self.table.mistrust(segment);
        }
        located
    }

    /// Where to ask on, if `parts` is full before the range is at its end.
    fn locate_in(
        &self,
        segment: &Segment,
        range: TimeRange,
        limits: &CutLimits,
        parts: &mut Vec<LocatedPart>,
    ) -> Result<Option<Timestamp>, ReadError> {
        let mut recording = self.open(&segment.path)?;
        let (version, file_bytes) = match segment.content {
            Content::Unread => (recording.version(), recording.stamp.size_bytes),
            _ => (segment.version(), segment.usable_bytes),
        };
        if !recording.holds(version) {
            return Err(ReadError::Changed);
        }
        let zero = segment.placement.start;
        let end = MediaTime(range.end().nanos_from(zero));
        let mut from = MediaTime(range.start().nanos_from(zero));
        while from < end {
            let room = CutLimits { max_parts: limits.max_parts - parts.len(), ..*limits };
            let cut = cut::cut(&mut recording, file_bytes, from..end, &room)?;
            let Some(last) = cut.last() else { break };
            from = last.media.end;
            parts.extend(cut.into_iter().filter_map(|part| {
                let at = |media: MediaTime| zero.saturating_offset(media.0);
                Some(LocatedPart {
                    segment: segment.id,
                    version,
                    bytes: part.bytes,
                    range: TimeRange::new(at(part.media.start), at(part.media.end))?,
                    uncertainty: segment.placement.uncertainty,
                    needs: part.needs,
                })
            }));
            if parts.len() >= limits.max_parts {
                let next = zero.saturating_offset(from.0);
                return Ok((next < range.end()).then_some(next));
            }
            if end.0.saturating_sub(from.0) <= limits.slack_ns {
                break;
            }
            // What was left out because a group is too large begins the next round, as an error.
        }
        Ok(None)
    }
}
