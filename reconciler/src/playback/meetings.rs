//! Reading near the edges of pieces: which frames a live recording and a piece have in common there.
//!
//! The one part of the view that opens files, and only to read. Of each it reads the table of samples, of a live
//! recording only of those near the edge where something leads there, and then frame by frame those around it, up to the limits of a [`SeamSearch`]: what is in memory is a table and some
//! numbers of each frame. What reading cost is told with every attempt. A file that cannot be read is a seam that
//! was not found, and why, not a failure.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use sdcard_indexer::container::{ContainerError, MediaTime, Sample, Track};
use serde::Serialize;

use super::ArchivedSegment;
use super::links::Seams;
use super::shelf::Shelf;
use crate::merge::{FrameTable, Source, SourceError, length_bytes, primary_track};
use crate::seam::{Edge, Expected, Frame, FramePlace, Meeting, NoMatch, SliceCodec, coded, meet};
use crate::timeline::Recorder;

/// Pieces no farther apart meet each other, not a live recording.
const NEIGHBOURS: Duration = Duration::from_millis(100);

/// How far to look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SeamSearch {
    /// What a live recorder's names are late by, beyond what they say of themselves: it looks into a stream, and
    /// waits for packets, before it names a file.
    pub lateness: Duration,
    /// How far the live recording may lie within the piece: the longest group of pictures.
    pub overlap: Duration,
    /// What is looked at on the far side of an edge besides, to see whether the picture repeats itself.
    pub margin: Duration,
    /// Of each side.
    pub most_frames: usize,
    pub most_bytes: u64,
}

impl Default for SeamSearch {
    fn default() -> Self {
        SeamSearch {
            lateness: Duration::from_secs(5),
            overlap: Duration::from_secs(12),
            margin: Duration::from_secs(2),
            most_frames: 4096,
            most_bytes: 64 * 1024 * 1024,
        }
    }
}

/// What it cost to look at one edge.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Cost {
    /// Of both files, their tables and what repeats in reading them included; a piece's table with its first look.
    pub bytes_read: u64,
    /// Whose slices were hashed.
    pub frames: u64,
}

/// Why two recordings could not be brought together to the frame.
#[derive(Debug, thiserror::Error)]
pub enum Unmet {
    #[error(transparent)]
    Frames(#[from] NoMatch),
    #[error("{} cannot be looked at", file.display())]
    Source { file: PathBuf, source: SourceError },
    #[error("{} holds no picture whose slices are known", file.display())]
    NoSlices { file: PathBuf },
}

/// One look at one edge.
#[derive(Debug)]
pub struct Attempt {
    pub edge: Edge,
    pub live: PathBuf,
    pub piece: PathBuf,
    pub outcome: Result<Meeting, Unmet>,
    pub cost: Cost,
}

#[derive(Debug, Default)]
pub struct FoundSeams {
    pub seams: Seams,
    pub attempts: Vec<Attempt>,
}

impl FoundSeams {
    pub fn cost(&self) -> Cost {
        self.attempts.iter().fold(Cost::default(), |sum, attempt| Cost {
            bytes_read: sum.bytes_read.saturating_add(attempt.cost.bytes_read),
            frames: sum.frames.saturating_add(attempt.cost.frames),
        })
    }
}

/// What looks at edges have told, for when the same two recordings, as long as they were then, meet again.
pub type Looks = Shelf<(Edge, ArchivedSegment, ArchivedSegment), Look>;

/// What one look has told.
#[derive(Clone, Debug)]
pub struct Look {
    first_keyframe: Option<MediaTime>,
    meeting: Option<Meeting>,
}

impl Look {
    /// `None` where another look may tell more.
    fn of(seams: &Seams, live: &ArchivedSegment, outcome: &Result<Meeting, Unmet>) -> Option<Look> {
        let meeting = match outcome {
            // Who learns how clocks run has done so when the piece was merged.
            Ok(meeting) => Some(Meeting { samples: Vec::new(), ..meeting.clone() }),
            Err(Unmet::Frames(_) | Unmet::NoSlices { .. }) => None,
            Err(Unmet::Source { .. }) => return None,
        };
        Some(Look { first_keyframe: seams.decodable_from(&live.file), meeting })
    }

    fn tell(self, edge: Edge, live: &ArchivedSegment, piece: &ArchivedSegment, seams: &mut Seams) {
        if let Some(first_keyframe) = self.first_keyframe {
            seams.set_decodable_from(&live.file, first_keyframe);
        }
        if let Some(meeting) = self.meeting {
            seams.insert(edge, &live.file, &piece.file, meeting);
        }
    }
}

/// Looks at both edges of every piece, and at each live recording that may reach there.
pub fn find_seams(segments: &[ArchivedSegment], search: &SeamSearch) -> FoundSeams {
    find_new_seams(segments, search, &Looks::new(0, 0))
}

/// The same, but for what earlier looks have told: that is taken from there, and is no attempt.
pub fn find_new_seams(
    segments: &[ArchivedSegment],
    search: &SeamSearch,
    looks: &Looks,
) -> FoundSeams {
    let of = |recorder| segments.iter().filter(move |segment| segment.by == recorder);
    let mut found = FoundSeams::default();
    for piece in of(Recorder::Edge) {
        // Opened when it is first looked into, for all of its looks.
        let mut copied = None;
        for edge in [Edge::Opening, Edge::Closing] {
            if of(Recorder::Edge).any(|other| is_neighbour(edge, piece, other)) {
                continue;
            }
            for live in of(Recorder::Live).filter(|live| reaches(edge, live, piece, search)) {
                let met_before = (edge, live.clone(), piece.clone());
                if let Some(look) = looks.get(&met_before) {
                    look.tell(edge, live, piece, &mut found.seams);
                    continue;
                }
                let mut cost = Cost::default();
                let copied = (piece, &mut copied);
                let outcome = look(edge, live, copied, search, &mut found.seams, &mut cost);
                if let Ok(meeting) = &outcome {
                    found.seams.insert(edge, &live.file, &piece.file, meeting.clone());
                }
                if let Some(look) = Look::of(&found.seams, live, &outcome) {
                    looks.put(met_before, look, 1);
                }
                let (live, piece) = (live.file.clone(), piece.file.clone());
                found.attempts.push(Attempt { edge, live, piece, outcome, cost });
            }
        }
    }
    found
}

/// Another piece goes on there.
fn is_neighbour(edge: Edge, piece: &ArchivedSegment, other: &ArchivedSegment) -> bool {
    let apart = match edge {
        Edge::Opening => other.range.end().distance(piece.range.start()),
        Edge::Closing => other.range.start().distance(piece.range.end()),
    };
    piece.file != other.file && apart <= NEIGHBOURS
}

/// How far two segments may be apart against what their ranges say.
fn uncertainty(live: &ArchivedSegment, piece: &ArchivedSegment, search: &SeamSearch) -> Duration {
    live.uncertainty.saturating_add(piece.uncertainty).saturating_add(search.lateness)
}

fn reaches(
    edge: Edge,
    live: &ArchivedSegment,
    piece: &ArchivedSegment,
    search: &SeamSearch,
) -> bool {
    let uncertainty = uncertainty(live, piece, search);
    let at = match edge {
        Edge::Opening => piece.range.start(),
        Edge::Closing => piece.range.end(),
    };
    live.range.start().saturating_sub(uncertainty) < at
        && at < live.range.end().saturating_add(uncertainty)
}

fn look<'a>(
    edge: Edge,
    live: &ArchivedSegment,
    (piece, copied): (&'a ArchivedSegment, &mut Option<Footage<'a>>),
    search: &SeamSearch,
    seams: &mut Seams,
    cost: &mut Cost,
) -> Result<Meeting, Unmet> {
    let uncertainty = nanos(uncertainty(live, piece, search));
    let (overlap, margin) = (nanos(search.overlap), nanos(search.margin));
    let (start, end) = ends(live);
    let (from, to, near) = match edge {
        Edge::Opening => {
            let at = ends(piece).0;
            let to = at.saturating_add(uncertainty).saturating_add(overlap);
            // Ordinarily the recording breaks off there.
            let near = if end <= to { end } else { at };
            (at.saturating_sub(uncertainty).saturating_sub(margin), to, near)
        }
        Edge::Closing => {
            let at = ends(piece).1;
            let from = at.saturating_sub(uncertainty).saturating_sub(overlap);
            let near = if start >= from { start } else { at };
            (from, at.saturating_add(uncertainty).saturating_add(margin), near)
        }
    };
    let mut recorded = Footage::near(live, from..to, cost)?;
    if seams.decodable_from(&live.file).is_none()
        && let Some(first) = recorded.first_keyframe(search, cost)?
    {
        seams.set_decodable_from(&live.file, first);
    }
    let copied = match copied {
        Some(open) => open,
        none => none.insert(Footage::whole(piece, cost)?),
    };
    let window = recorded.shown_within(from, to);
    let focus = recorded.place_of(near).clamp(window.start, window.end);
    let recorded = recorded.read(window, focus, search, cost)?;
    let Some(shown) = hull(&recorded) else { return Err(NoMatch::NothingEqual.into()) };
    let (from, to) = (shown.0.saturating_sub(uncertainty), shown.1.saturating_add(uncertainty));
    let reached = copied.shown_within(from, to.saturating_add(1));
    let (window, focus) = match edge {
        Edge::Opening => (0..reached.end, 0),
        Edge::Closing => (reached.start..copied.frames.len(), copied.frames.len()),
    };
    let copied = copied.read(window, focus, search, cost)?;
    let expected = Expected { offset_ns: 0, uncertainty_ns: uncertainty.unsigned_abs() };
    Ok(meet(edge, &recorded, &copied, &expected)?)
}

/// A file that is open, and a table of its frames, or of some of them, in decode order.
struct Footage<'a> {
    segment: &'a ArchivedSegment,
    source: Source,
    track: Track,
    codec: SliceCodec,
    length_bytes: u8,
    frames: Vec<Sample>,
    /// Of the first frame of the table, and of the one that follows its last.
    first: FramePlace,
    behind: FramePlace,
    /// What of the source's reading is accounted for.
    counted_bytes: u64,
}

impl<'a> Footage<'a> {
    /// All of a piece: none is long.
    fn whole(segment: &'a ArchivedSegment, cost: &mut Cost) -> Result<Self, Unmet> {
        let source = Source::open(&segment.file);
        Footage::of(segment, source, cost, |source, primary| {
            let frames = source.samples_of(primary)?;
            Ok(FrameTable { frames, from_the_first: true, next: None })
        })
    }

    /// What a recording, which may be long, shows within a time, and some more.
    fn near(
        segment: &'a ArchivedSegment,
        shown_ns: Range<i64>,
        cost: &mut Cost,
    ) -> Result<Self, Unmet> {
        let source = Source::open_by_its_ends(&segment.file);
        let zero_ns = segment.range.start().as_nanos();
        let media = |at_ns: i64| MediaTime(at_ns.saturating_sub(zero_ns));
        Footage::of(segment, source, cost, |source, primary| {
            let mut near = source.frames_near(media(shown_ns.start)..media(shown_ns.end))?;
            near.frames.retain(|frame| frame.track == primary);
            Ok(near)
        })
    }

    fn of(
        segment: &'a ArchivedSegment,
        source: Result<Source, SourceError>,
        cost: &mut Cost,
        read: impl FnOnce(&mut Source, usize) -> Result<FrameTable, SourceError>,
    ) -> Result<Self, Unmet> {
        let file = &segment.file;
        let unmet = |source| Unmet::Source { file: file.clone(), source };
        let mut source = source.map_err(unmet)?;
        let primary = primary_track(&source.summary().tracks);
        let track = source.summary().tracks.get(primary).cloned();
        let known = track.and_then(|track| {
            let (codec, length_bytes) = (SliceCodec::of(track.codec)?, length_bytes(&track)?);
            Some((track, codec, length_bytes))
        });
        let Some((track, codec, length_bytes)) = known else {
            return Err(Unmet::NoSlices { file: file.clone() });
        };
        let FrameTable { frames, from_the_first, next } =
            read(&mut source, primary).map_err(unmet)?;
        let place = |frame: Option<&Sample>| frame.map_or(FramePlace::END, FramePlace::of);
        let first = if from_the_first { FramePlace::FIRST } else { place(frames.first()) };
        let behind = place(next.as_ref());
        let counted_bytes = 0;
        let mut footage = Footage {
            segment,
            source,
            track,
            codec,
            length_bytes,
            frames,
            first,
            behind,
            counted_bytes,
        };
        footage.count(cost);
        Ok(footage)
    }

    fn count(&mut self, cost: &mut Cost) {
        let bytes_read = self.source.bytes_read();
        cost.bytes_read += bytes_read - self.counted_bytes;
        self.counted_bytes = bytes_read;
    }

    /// When the first keyframe of all is shown, from which on it can be played.
    fn first_keyframe(
        &mut self,
        search: &SeamSearch,
        cost: &mut Cost,
    ) -> Result<Option<MediaTime>, Unmet> {
        if self.source.summary().starts_with_keyframe {
            // The first picture in decode order is where media time begins.
            return Ok(Some(MediaTime(0)));
        }
        let first = self.source.first_keyframe(search.most_frames);
        self.count(cost);
        first.map_err(|source| Unmet::Source { file: self.segment.file.clone(), source })
    }

    fn time_ns(&self, sample: &Sample) -> i64 {
        let zero_ns = self.segment.range.start().as_nanos();
        zero_ns.saturating_add(sample.starts_at(&self.track).0)
    }

    /// The frames from the first to the last that is shown from `from_ns` on and before `to_ns`.
    fn shown_within(&self, from_ns: i64, to_ns: i64) -> Range<usize> {
        let within = |sample: &Sample| (from_ns..to_ns).contains(&self.time_ns(sample));
        let first = self.frames.iter().position(within);
        let last = self.frames.iter().rposition(within);
        first.zip(last).map_or(0..0, |(first, last)| first..last + 1)
    }

    /// The first frame shown at or after an instant.
    fn place_of(&self, instant_ns: i64) -> usize {
        let found = self.frames.iter().position(|sample| self.time_ns(sample) >= instant_ns);
        found.unwrap_or(self.frames.len())
    }

    /// Reads frames of a window, those around `focus` first where the limits do not allow for all.
    fn read(
        &mut self,
        window: Range<usize>,
        focus: usize,
        search: &SeamSearch,
        cost: &mut Cost,
    ) -> Result<Vec<Frame>, Unmet> {
        let affordable = self.affordable(window, focus, search);
        let mut frames = Vec::with_capacity(affordable.len());
        let mut bytes = Vec::new();
        for index in affordable {
            let Some(sample) = self.frames.get(index).copied() else { break };
            let (_, mut reader) = self.source.media();
            let coded = match reader.read(&self.track, &sample, &mut bytes) {
                Ok(()) => match coded(self.codec, self.length_bytes, &bytes) {
                    Some(coded) => Some(coded),
                    // No picture: parameter sets or messages only.
                    None => continue,
                },
                Err(ContainerError::Io(error)) => {
                    let source = SourceError::Container(ContainerError::Io(error));
                    return Err(Unmet::Source { file: self.segment.file.clone(), source });
                }
                Err(_) => None,
            };
            let (time_ns, keyframe) = (self.time_ns(&sample), sample.keyframe);
            let place = if index == 0 { self.first } else { FramePlace::of(&sample) };
            let behind = self.frames.get(index + 1).map_or(self.behind, FramePlace::of);
            frames.push(Frame { place, behind, time_ns, keyframe, coded });
        }
        cost.frames += frames.len() as u64;
        self.count(cost);
        Ok(frames)
    }

    /// What of a window the limits allow for, grown from `focus` to both sides.
    fn affordable(&self, window: Range<usize>, focus: usize, search: &SeamSearch) -> Range<usize> {
        let mut taken = focus..focus;
        let mut bytes = 0u64;
        let mut afford = |index: usize, count: usize| {
            let sample_bytes = self.frames.get(index).map_or(0, |sample| sample.size_bytes);
            bytes = bytes.saturating_add(sample_bytes.into());
            count < search.most_frames && bytes <= search.most_bytes
        };
        loop {
            let before = taken.start;
            if before > window.start && afford(before - 1, taken.len()) {
                taken.start -= 1;
            }
            let end = taken.end;
            if end < window.end && afford(end, taken.len()) {
                taken.end += 1;
            }
            if (before, end) == (taken.start, taken.end) {
                return taken;
            }
        }
    }
}

/// When the first and the last of some frames are shown.
fn hull(frames: &[Frame]) -> Option<(i64, i64)> {
    let times = || frames.iter().map(|frame| frame.time_ns);
    times().min().zip(times().max())
}

fn ends(segment: &ArchivedSegment) -> (i64, i64) {
    (segment.range.start().as_nanos(), segment.range.end().as_nanos())
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
