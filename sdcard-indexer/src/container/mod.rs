//! What a recording file holds: its tracks, its extent in time, its keyframes, its samples.
//!
//! Bounded-memory walkers over `Read + Seek`. No length read from a file is believed before it has been
//! checked against the file and a cap; nothing recurses; nothing panics.
//!
//! **Media time** is presentation time in nanoseconds since the first video sample of the segment in
//! decode order (the first sample of the first track where there is no video). It says nothing about
//! the wall clock: [`crate::segment`] puts the two together. Where a file holds several recordings, each
//! one's media time begins where that of the one before ends.

#![deny(clippy::indexing_slicing)]

mod boxes;
mod describe;
mod fmp4;
mod fragment_index;
mod holes;
mod in_band;
mod isobmff;
mod matroska;
mod movie;
mod mp4;
mod mpegts;
mod near;
mod sample_entry;
mod sample_reader;
mod tail;
pub mod track;
mod walk;

pub use holes::{Hole, MAX_HOLES, holes_between};
pub use in_band::{InBandKind, InBandTime};
pub use near::{SamplesNear, samples_near};
pub use sample_reader::SampleReader;
pub use track::{Codec, MediaTime, Packets, Sample, Storage, Track, TrackKind};
pub(crate) use walk::{Ahead, Cursor, Recording, Walk};

use holes::Holes;

use std::io::{Read, Seek};
use std::ops::Range;
use std::time::Duration;

/// Tracks that a file may have.
pub const MAX_TRACKS: usize = 16;
/// Keyframes that [`keyframes`] hands out: 36 hours at one a second, in 2 MiB.
pub const MAX_KEYFRAMES: usize = 1 << 17;
/// Where every sample is a keyframe as audio's are, only so many of them count.
const AUDIO_KEYFRAME_INTERVAL_NS: i64 = 1_000_000_000;

/// Formats that can be walked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, serde::Serialize, serde::Deserialize)]
pub enum Container {
    FragmentedMp4,
    Mp4,
    MpegTs,
    Matroska,
}

/// Why a file, or the rest of it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    #[error("reading failed")]
    Io(#[from] std::io::Error),
    #[error("the file is empty")]
    Empty,
    #[error("of no known format")]
    NotRecognised,
    #[error("the recording has no index (moov) yet: it is still being written, or was cut off")]
    NoIndex,
    #[error("no track holds a sample")]
    NoSamples,
    #[error("{what} at byte {offset} cannot be used")]
    Unsupported { offset: u64, what: &'static str },
    #[error("malformed at byte {offset}: {what}")]
    Malformed { offset: u64, what: &'static str },
    #[error("{what} at byte {offset} is larger than the {limit} this reader allows")]
    TooLarge { offset: u64, what: &'static str, limit: u64 },
}

/// What tier T1 knows of a file: from its box headers and indexes, without reading the media.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    pub container: Container,
    /// Of the first recording.
    pub tracks: Vec<Track>,
    /// Extent of the primary (first video, else first) track, from media time zero.
    pub duration: Duration,
    /// Bytes from the start of the file that are whole: a torn tail lies beyond. A fragment is whole with
    /// the last byte of its `mdat`, any other box with its own; of a plain MP4 whose `mdat` is cut off, the
    /// samples of the primary track before the cut are. A Matroska block is whole with its own last byte,
    /// and so is a packet of MPEG-TS: whether the last picture is, nothing tells.
    pub whole_bytes: u64,
    /// The first sample of the primary track is a keyframe.
    pub starts_with_keyframe: bool,
    /// The file ends in the middle of a fragment, box or element.
    pub torn: bool,
    /// Recordings that follow one another in the file (a second `ftyp`/`moov`, or EBML header; in MPEG-TS
    /// other streams, or a clock that leaps); 1 ordinarily.
    pub recordings: u32,
    /// When the first recording says that it was made.
    pub in_band: Option<InBandTime>,
    /// Where its time stamps begin and end.
    pub clock: FileClock,
}

/// The time stamps at both ends of a file's primary track: of its first recording's, from the first sample on, and
/// as much later as the file is long. Many recorders count on from one file to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileClock {
    begins_ns: i64,
    ends_ns: i64,
    /// From zero to what it counts before it begins at zero again.
    wraps: bool,
}

/// MPEG-TS counts 33 bits at 90 kHz.
const WRAP_NS: i64 = ((1_i128 << 33) * 1_000_000_000 / 90_000) as i64;

impl FileClock {
    #[cfg(test)]
    pub(crate) const fn of(begins_ns: i64, ends_ns: i64, wraps: bool) -> Self {
        FileClock { begins_ns, ends_ns, wraps }
    }

    /// From the end of this file to the beginning of another, if both count alike.
    pub fn distance_ns(&self, next: &FileClock) -> Option<i64> {
        let distance = next.begins_ns.saturating_sub(self.ends_ns);
        (self.wraps == next.wraps).then_some(match self.wraps {
            true => (distance + WRAP_NS / 2).rem_euclid(WRAP_NS) - WRAP_NS / 2,
            false => distance,
        })
    }
}

/// A place where playing, and cutting, can begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keyframe {
    /// When it is shown.
    pub time: MediaTime,
    /// Where its first byte stands in the file.
    pub offset: u64,
}

/// How a recording ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct End {
    /// Everything before this offset is whole.
    pub(crate) whole: u64,
    pub(crate) torn: bool,
    /// Where the next recording begins.
    pub(crate) next: Option<u64>,
}

impl End {
    fn torn(whole: u64) -> Self {
        End { whole, torn: true, next: None }
    }
}

/// Tier T1, exact. `file_bytes` is the size to believe: bytes past it do not exist.
///
/// Reads the sample tables of a plain MP4's primary track, or each fragment's `moof`: one read of a page a
/// fragment, as hopping over them would cost. Of Matroska, the head of each block: a page for each large frame.
/// Of MPEG-TS, everything.
pub fn summarise<R: Read + Seek>(
    reader: &mut R,
    file_bytes: u64,
) -> Result<Summary, ContainerError> {
    summary(Walk::open(reader, file_bytes)?, |_| Ok(()))
}

/// Tier T1 as [`summarise`] has it, and the holes in it that are longer than `shortest`, in the order of time.
///
/// MPEG-TS tells a leap of its clock from another recording by nothing. Where it is one forward, by which the
/// recording would still last no longer than `most`, it is taken for a hole, and the summary's duration, unlike
/// media time, has it in it.
pub fn summarise_with_holes<R: Read + Seek>(
    reader: &mut R,
    file_bytes: u64,
    shortest: Duration,
    most: Duration,
) -> Result<(Summary, Vec<Hole>), ContainerError> {
    let most_ns = i64::try_from(most.as_nanos()).unwrap_or(i64::MAX);
    let mut walk = Walk::open(reader, file_bytes)?;
    let begun = Begun::of(&mut walk)?;
    let mut holes = Holes::new(shortest);
    let mut late_ns: i64 = 0;
    let mut next = begun.first;
    loop {
        while let Some(sample) = next {
            if let Some(track) = walk.recording().primary_track() {
                holes.push(&sample, track, late_ns);
            }
            next = walk.next_primary()?;
        }
        holes.end_recording();
        let end_ns = walk.end().0.saturating_add(late_ns);
        if !walk.next_recording()? {
            break;
        }
        let leap_ns = walk.leap_ns().filter(|leap| *leap > 0 && *leap <= most_ns - end_ns);
        if let Some(leap_ns) = leap_ns {
            let end = MediaTime(end_ns.saturating_add(leap_ns));
            holes.add(Hole { start: MediaTime(end_ns), end });
            late_ns = late_ns.saturating_add(leap_ns);
        }
        next = walk.next_primary()?;
    }
    let mut summary = begun.ended(&walk);
    summary.duration += Duration::from_nanos(late_ns.unsigned_abs());
    summary.clock.ends_ns = summary.clock.ends_ns.saturating_add(late_ns);
    Ok((summary, holes.into_found()))
}

/// Tier T1 at the price of a file's head and tail, where these tell what [`summarise`] does; else as that.
///
/// Of a plain MP4 reads only how long samples last and are put off, not where they lie. Of a fragmented one the
/// first and the last fragments: a page or two each where `sidx` or `mfra` leads there, small ones in one piece
/// with `mfra`, else the last fragment and up to 64 KiB before it in one piece; where fragments are so few for
/// their size that this would cost more, each one's `moof`. Of Matroska, where a segment ends with the file and
/// has cues: these, and the blocks from its last keyframe on. Of MPEG-TS, its head until all streams are
/// described, 64 KiB of its tail or as much more as the last pictures take, and three glances at the clock on the
/// way. What lies between head and tail is not seen: damage there, and another recording behind the first if it
/// counts on. Who finds a hole behind a segment asks [`summarise`].
pub fn extent<R: Read + Seek>(reader: &mut R, file_bytes: u64) -> Result<Summary, ContainerError> {
    summary(Walk::open(reader, file_bytes)?, Walk::skip_to_tail)
}

/// `step_over` may leave out samples of the recording that the walk is in.
fn summary<'r, R: Read + Seek>(
    mut walk: Walk<'r, R>,
    step_over: impl Fn(&mut Walk<'r, R>) -> Result<(), ContainerError>,
) -> Result<Summary, ContainerError> {
    let begun = Begun::of(&mut walk)?;
    loop {
        step_over(&mut walk)?;
        while walk.next_primary()?.is_some() {}
        if !walk.next_recording()? {
            break;
        }
    }
    Ok(begun.ended(&walk))
}

/// What a walk knows of a file at its first sample.
#[derive(Debug)]
struct Begun {
    container: Container,
    tracks: Vec<Track>,
    first: Option<Sample>,
    in_band: Option<InBandTime>,
    begins_ns: i64,
}

impl Begun {
    fn of<R: Read + Seek>(walk: &mut Walk<'_, R>) -> Result<Self, ContainerError> {
        let recording = walk.recording();
        let (container, tracks) = (recording.container(), recording.tracks().cloned().collect());
        let begins_ns = recording.begins_ns();
        let first = walk.next_primary()?;
        let in_band = match &first {
            Some(first) => walk.in_band(first)?,
            None => None,
        };
        Ok(Begun { container, tracks, first, in_band, begins_ns })
    }

    /// Once the walk is at its end.
    fn ended<R: Read + Seek>(self, walk: &Walk<'_, R>) -> Summary {
        let End { whole, torn, .. } = walk.file_end();
        let clock = FileClock {
            begins_ns: self.begins_ns,
            ends_ns: self.begins_ns.saturating_add(walk.end().0),
            wraps: self.container == Container::MpegTs,
        };
        Summary {
            container: self.container,
            tracks: self.tracks,
            duration: Duration::from_nanos(u64::try_from(walk.end().0).unwrap_or(0)),
            whole_bytes: whole,
            starts_with_keyframe: self.first.is_some_and(|sample| sample.keyframe),
            torn,
            recordings: walk.recordings(),
            in_band: self.in_band,
            clock,
        }
    }
}

/// Tier T2: the keyframes of the primary track in decode order, times ever later. Of audio alone, where
/// any sample will do, about one a second.
///
/// Costs the reads of [`summarise`], and 16 bytes a keyframe; more than [`MAX_KEYFRAMES`] are
/// [`ContainerError::TooLarge`].
pub fn keyframes<R: Read + Seek>(
    reader: &mut R,
    file_bytes: u64,
) -> Result<Vec<Keyframe>, ContainerError> {
    let mut walk = Walk::open(reader, file_bytes)?;
    let mut keyframes = Vec::new();
    loop {
        let mut begins = GroupStarts::new(walk.end());
        while let Some(sample) = walk.next_primary()? {
            let Some(track) = walk.recording().primary_track() else { break };
            match begins.at(&sample, track) {
                Some(_) if keyframes.len() == MAX_KEYFRAMES => {
                    let limit = MAX_KEYFRAMES as u64;
                    let what = "the number of keyframes";
                    return Err(ContainerError::TooLarge { offset: sample.offset, what, limit });
                }
                Some(time) if sample.keyframe => {
                    keyframes.push(Keyframe { time, offset: sample.offset });
                }
                _ => {}
            }
        }
        if !walk.next_recording()? {
            return Ok(keyframes);
        }
    }
}

/// Tells where groups of pictures begin in one recording, given its primary track's samples in decode order.
///
/// A group begins at the recording's first sample, keyframe or not, and at each keyframe shown later than the
/// beginning of the group before.
#[derive(Debug)]
pub(crate) struct GroupStarts {
    zero: MediaTime,
    last: Option<MediaTime>,
}

impl GroupStarts {
    /// `zero` is where the recording before ended, and so exactly where this one begins: by its own ticks
    /// it does so to the nearest of them.
    pub(crate) fn new(zero: MediaTime) -> Self {
        GroupStarts { zero, last: None }
    }

    /// A keyframe behind the first group begins one, whatever lay between; when that is first shown.
    pub(crate) fn at_keyframe(&mut self, keyframe: &Sample, track: &Track) -> MediaTime {
        let start = keyframe.starts_at(track);
        self.last = Some(start);
        start
    }

    /// Where `sample` begins a group: when that group is first shown.
    pub(crate) fn at(&mut self, sample: &Sample, track: &Track) -> Option<MediaTime> {
        let start = match self.last {
            None => Some(self.zero),
            Some(last) => {
                let interval =
                    if track.kind == TrackKind::Video { 1 } else { AUDIO_KEYFRAME_INTERVAL_NS };
                let time = sample.starts_at(track);
                (sample.keyframe && time.0 >= last.0.saturating_add(interval)).then_some(time)
            }
        };
        self.last = start.or(self.last);
        start
    }
}

/// All samples of the file: one recording after the other, in it track after track, each in decode order.
pub fn samples<R: Read + Seek>(
    reader: &mut R,
    file_bytes: u64,
) -> Result<Samples<'_, R>, ContainerError> {
    let walk = Walk::open(reader, file_bytes)?;
    Ok(Samples { cursor: walk.cursor(0), walk, track: 0, done: false })
}

/// Streams samples; see [`samples`]. Ends after the first error.
#[derive(Debug)]
pub struct Samples<'r, R> {
    walk: Walk<'r, R>,
    cursor: Option<Cursor>,
    track: usize,
    done: bool,
}

impl<R: Read + Seek> Samples<'_, R> {
    /// The tracks of the recording that the last sample was of.
    pub fn tracks(&self) -> impl ExactSizeIterator<Item = &Track> {
        self.walk.recording().tracks()
    }

    fn advance(&mut self) -> Result<Option<Sample>, ContainerError> {
        loop {
            let sample = match &mut self.cursor {
                // The primary track's end is where the recording ends: the walk itself has to see it.
                _ if self.track == self.walk.recording().primary() => self.walk.next_primary()?,
                Some(cursor) => self.walk.next_of(cursor)?,
                None => None,
            };
            if sample.is_some() {
                return Ok(sample);
            }
            self.track += 1;
            if self.track >= self.walk.recording().tracks().len() {
                if !self.walk.next_recording()? {
                    return Ok(None);
                }
                self.track = 0;
            }
            self.cursor = self.walk.cursor(self.track);
        }
    }
}

impl<R: Read + Seek> Iterator for Samples<'_, R> {
    type Item = Result<Sample, ContainerError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let sample = self.advance().transpose();
        self.done = !matches!(sample, Some(Ok(_)));
        sample
    }
}

/// Where an offset that the file gives points to. In a recording that was appended to another by copying
/// its bytes, offsets count from its own start, and only so lie in its media.
fn place(offset: u64, recording_start: u64, media: &Range<u64>) -> u64 {
    let moved = offset.saturating_add(recording_start);
    if !media.contains(&offset) && media.contains(&moved) { moved } else { offset }
}
