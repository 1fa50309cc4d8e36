//! Cutting: the keyframe-aligned byte ranges that hold a time range, and what a player needs to use them.
//!
//! A file falls into **groups**, whatever is asked of it. Each begins at a keyframe of the primary track (the
//! first of a recording at its first sample, keyframe or not) and holds
//! - of the primary track the samples in decode order up to the next group's keyframe,
//! - of every other track the samples that start in `[shown, next group shown)`; the first group also those
//!   before it, the last all that are left.
//!
//! A part is a run of whole groups. So parts that share an edge share no sample and lose none, whoever cut
//! them.
//!
//! A part's bytes are the stretch of the file from the first to the last byte of its samples, in any container;
//! which of them are samples stands in its [`PartMedia`], so that a receiver parses no file format:
//! [`crate::container::SampleReader`] gives it theirs. Of MPEG-TS a part begins and ends with whole packets.
//! Two parts that meet may then share some, and still share no sample.

#![deny(clippy::indexing_slicing)]

mod group;
mod part_media;
mod sample_table;

pub use part_media::{MAX_PART_MEDIA_BYTES, PartMedia, part_samples};

use std::io::{Read, Seek};
use std::ops::Range;

use crate::container::{ContainerError, MediaTime, Walk};
use group::{Group, Groups, hull};
use sample_table::TableWriter;

/// What a part, and an answer of parts, may grow to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CutLimits {
    pub max_part_bytes: u64,
    /// Of all tracks together.
    pub max_part_samples: usize,
    /// A group's edge this near to a wanted edge counts as standing on it, unless the group's other edge is
    /// nearer: a range that begins 5 ms before a keyframe does not need the group before.
    pub slack_ns: i64,
    pub max_parts: usize,
}

impl Default for CutLimits {
    fn default() -> Self {
        CutLimits {
            max_part_bytes: 64 * 1024 * 1024,
            max_part_samples: 8192,
            slack_ns: 20_000_000,
            max_parts: 64,
        }
    }
}

/// A keyframe-aligned byte range of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// From the first frame shown to where the next part would begin, or the recording ends.
    pub media: Range<MediaTime>,
    pub bytes: Range<u64>,
    pub needs: PartMedia,
}

#[derive(Debug, thiserror::Error)]
pub enum CutError {
    #[error("the recording cannot be walked")]
    Container(#[from] ContainerError),
    #[error(
        "the group of pictures from {} to {} ns of the recording has {samples} samples in {bytes} \
         bytes: a part may hold {} in {}",
        media.start.0, media.end.0, limits.max_part_samples, limits.max_part_bytes
    )]
    GroupTooLarge { media: Range<MediaTime>, samples: usize, bytes: u64, limits: CutLimits },
    #[error("a part's description has version {found}; this build reads version {known}")]
    Version { found: u8, known: u8 },
    #[error("a part's description is malformed: {0}")]
    Malformed(&'static str),
}

/// The parts of the file that hold `wanted`, oldest first.
///
/// They begin at the last group that begins at or before `wanted.start`, end at the first that begins at or
/// after `wanted.end` (see [`CutLimits::slack_ns`]), and are split between groups to keep to the limits. No
/// parts where nothing of `wanted` is in the file. Where there would be more than `max_parts`, or the next
/// group is too large for any part, the rest is left out: ask again from the last part's end on.
///
/// Goes through the file once for each track: from a keyframe near the range's start where the sample tables of a
/// plain MP4, or `sidx` or `mfra` of a fragmented one, lead there, else from its beginning, as
/// [`crate::container::summarise`] does; up to the range's end.
pub fn cut<R: Read + Seek>(
    reader: &mut R,
    file_bytes: u64,
    wanted: Range<MediaTime>,
    limits: &CutLimits,
) -> Result<Vec<Part>, CutError> {
    let mut parts = Vec::new();
    if wanted.is_empty() || limits.max_parts == 0 {
        return Ok(parts);
    }
    let mut groups = Groups::new(Walk::open(reader, file_bytes)?, wanted.start);
    let mut group = Group::new(limits.max_part_samples);
    let mut open: Option<PartWriter> = None;
    while groups.next_into(&mut group)? {
        let any = open.is_some() || !parts.is_empty();
        if lies_before(&group.media, wanted.start, limits.slack_ns) {
            continue;
        }
        if lies_after(&group.media, wanted.end, if any { limits.slack_ns } else { 0 }) {
            break;
        }
        if let Some(error) = too_large(&group, limits) {
            if any {
                break;
            }
            return Err(error);
        }
        if let Some(full) = open.take_if(|part| !part.has_room_for(&group, limits)) {
            parts.push(full.finish());
            if parts.len() == limits.max_parts {
                return Ok(parts);
            }
        }
        open.get_or_insert_with(|| PartWriter::new(&groups, &group)).push(&group);
    }
    parts.extend(open.map(PartWriter::finish));
    Ok(parts)
}

/// A group that shows nothing from `start` on, or hardly anything.
fn lies_before(group: &Range<MediaTime>, start: MediaTime, slack_ns: i64) -> bool {
    let inside = group.end.0.saturating_sub(start.0);
    let outside = start.0.saturating_sub(group.start.0);
    inside <= slack_ns.max(0) && inside.max(0) < outside
}

/// A group that shows nothing before `end`, or hardly anything.
fn lies_after(group: &Range<MediaTime>, end: MediaTime, slack_ns: i64) -> bool {
    let inside = end.0.saturating_sub(group.start.0);
    let outside = group.end.0.saturating_sub(end.0);
    inside <= 0 || (inside <= slack_ns && inside < outside)
}

fn too_large(group: &Group, limits: &CutLimits) -> Option<CutError> {
    let bytes = group.bytes.end - group.bytes.start;
    (group.count > limits.max_part_samples || bytes > limits.max_part_bytes).then(|| {
        let (media, samples) = (group.media.clone(), group.count);
        CutError::GroupTooLarge { media, samples, bytes, limits: *limits }
    })
}

/// A part that still grows.
struct PartWriter {
    recording: u32,
    media: Range<MediaTime>,
    bytes: Range<u64>,
    samples: usize,
    needs: PartMedia,
    table: TableWriter,
}

impl PartWriter {
    /// Empty, and as if it began and ended where `group` begins.
    fn new<R: Read + Seek>(groups: &Groups<'_, R>, group: &Group) -> Self {
        let recording = groups.recording();
        let tracks: Vec<_> = recording.tracks().cloned().collect();
        PartWriter {
            recording: group.recording,
            media: group.media.clone(),
            bytes: group.bytes.clone(),
            samples: 0,
            table: TableWriter::new(tracks.len(), group.bytes.start),
            needs: PartMedia::new(tracks, recording.primary(), group.media.start),
        }
    }

    fn has_room_for(&self, group: &Group, limits: &CutLimits) -> bool {
        let bytes = hull(&self.bytes, &group.bytes);
        group.recording == self.recording
            && self.samples + group.count <= limits.max_part_samples
            && bytes.end - bytes.start <= limits.max_part_bytes
    }

    fn push(&mut self, group: &Group) {
        self.media.end = group.media.end;
        self.bytes = hull(&self.bytes, &group.bytes);
        self.samples += group.count;
        for sample in &group.samples {
            self.table.push(sample);
        }
    }

    fn finish(self) -> Part {
        let needs = self.needs.with_samples(self.table.finish(self.bytes.start));
        Part { media: self.media, bytes: self.bytes, needs }
    }
}
