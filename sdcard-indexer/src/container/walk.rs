//! A file from its first recording to its last, led by the primary track of each, whatever the container.
//!
//! Tells the formats apart, and puts the media time of one recording behind that of the one before. How
//! samples are found is each format's own affair: it finds a [`Recording`], and walks its tracks with a
//! [`Cursor`] each.

use std::io::{Read, Seek};

use super::boxes::{Source, Window};
use super::in_band::InBandTime;
use super::track::{MediaTime, NANOS_PER_SECOND, Sample, Track, rescale};
use super::{Container, ContainerError, End};
use super::{isobmff, matroska, mpegts};

/// More samples than this are not a recording: 8 hours at 1165 a second. Tables may speak of as many as they
/// like in few bytes.
const MAX_SAMPLES: u32 = 1 << 25;

/// What the files of a format have in common: how their recordings are found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    Boxes,
    Packets(mpegts::Grid),
    Matroska,
}

impl Format {
    pub(super) fn of<R: Read + Seek>(
        source: &mut Source<'_, R>,
        window: &mut Window,
    ) -> Result<Format, ContainerError> {
        if source.end == 0 {
            Err(ContainerError::Empty)
        } else if isobmff::recognises(source, window)? {
            Ok(Format::Boxes)
        } else if matroska::recognises(source, window)? {
            Ok(Format::Matroska)
        } else if let Some(grid) = mpegts::Grid::find(source)? {
            Ok(Format::Packets(grid))
        } else {
            Err(ContainerError::NotRecognised)
        }
    }

    /// The first recording at or after `at` that holds samples; its media time begins at `zero`.
    fn find_recording<R: Read + Seek>(
        self,
        source: &mut Source<'_, R>,
        window: &mut Window,
        at: u64,
        zero: MediaTime,
    ) -> Result<Recording, ContainerError> {
        match self {
            Format::Boxes => {
                isobmff::find_recording(source, window, at, zero).map(Recording::Boxes)
            }
            Format::Packets(grid) => {
                mpegts::find_recording(source, grid, at, zero).map(Recording::Packets)
            }
            Format::Matroska => {
                matroska::find_recording(source, window, at, zero).map(Recording::Matroska)
            }
        }
    }
}

/// Tracks that go together, with the media that belongs to them.
#[derive(Debug)]
pub(crate) enum Recording {
    Boxes(isobmff::Recording),
    Packets(mpegts::Recording),
    Matroska(matroska::Recording),
}

impl Recording {
    pub(crate) fn container(&self) -> Container {
        match self {
            Recording::Boxes(recording) => recording.container,
            Recording::Packets(_) => Container::MpegTs,
            Recording::Matroska(_) => Container::Matroska,
        }
    }

    pub(crate) fn tracks(&self) -> impl ExactSizeIterator<Item = &Track> {
        let count = match self {
            Recording::Boxes(recording) => recording.track_count(),
            Recording::Packets(recording) => recording.tracks.len(),
            Recording::Matroska(recording) => recording.track_count(),
        };
        (0..count).map(|index| self.track(index).expect("each of the count exists"))
    }

    pub(crate) fn track(&self, index: usize) -> Option<&Track> {
        match self {
            Recording::Boxes(recording) => recording.track(index),
            Recording::Packets(recording) => recording.tracks.get(index),
            Recording::Matroska(recording) => recording.track(index),
        }
    }

    /// Index of the first video track that holds samples, else of the first that does.
    pub(crate) fn primary(&self) -> usize {
        match self {
            Recording::Boxes(recording) => recording.primary,
            Recording::Packets(recording) => recording.primary,
            Recording::Matroska(recording) => recording.primary,
        }
    }

    pub(crate) fn primary_track(&self) -> Option<&Track> {
        self.track(self.primary())
    }

    /// What the file's own clock shows at media time zero, of its first recording.
    pub(super) fn begins_ns(&self) -> i64 {
        let Some(track) = self.primary_track() else { return 0 };
        let edited = match self {
            Recording::Boxes(recording) => recording.edited_ticks(),
            Recording::Packets(_) | Recording::Matroska(_) => 0,
        };
        rescale(track.zero_ticks.saturating_sub(edited), track.timescale, NANOS_PER_SECOND)
    }

    /// See [`Walk::leap_ns`].
    fn leap_since(&self, before: &Recording) -> Option<i64> {
        match (before, self) {
            (Recording::Packets(before), Recording::Packets(after)) => after.leap_since(before),
            _ => None,
        }
    }

    /// Walks one of its tracks from the first sample on. What `window` has of the file is not read again.
    fn cursor(&self, track: usize, window: &Window) -> Option<Cursor> {
        match self {
            Recording::Boxes(recording) => recording.cursor(track, window).map(Cursor::Boxes),
            Recording::Packets(recording) => recording.cursor(track).map(Cursor::Packets),
            Recording::Matroska(recording) => recording.cursor(track, window).map(Cursor::Matroska),
        }
    }

    /// A cursor after the last sample of the primary track, and when that has been shown, where the head and
    /// the tail of the file tell exactly.
    fn tail<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        window: &Window,
    ) -> Result<Option<(Cursor, MediaTime)>, ContainerError> {
        match self {
            Recording::Boxes(recording) => Ok(recording
                .tail(source, window)?
                .map(|(cursor, end)| (Cursor::Boxes(cursor), end))),
            Recording::Packets(recording) => {
                let tail = recording.tail(source)?;
                Ok(tail.map(|(cursor, end)| (Cursor::Packets(cursor), end)))
            }
            Recording::Matroska(recording) => Ok(recording
                .tail(source, window)?
                .map(|(cursor, end)| (Cursor::Matroska(cursor), end))),
        }
    }

    /// A place to go on from at or before `time`, where something leads there.
    fn near<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        window: &Window,
        time: MediaTime,
    ) -> Result<Option<Near<Cursor>>, ContainerError> {
        match self {
            Recording::Boxes(recording) => {
                Ok(recording.near(source, window, time)?.map(|near| near.map(Cursor::Boxes)))
            }
            Recording::Packets(_) | Recording::Matroska(_) => Ok(None),
        }
    }

    /// As [`Self::near`], of the primary track alone.
    fn enter<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        window: &Window,
        time: MediaTime,
    ) -> Result<Option<(Sample, Cursor)>, ContainerError> {
        if let Recording::Packets(recording) = self {
            let entered = recording.enter(source, time)?;
            return Ok(entered.map(|(first, cursor)| (first, Cursor::Packets(cursor))));
        }
        let near = self.near(source, window, time)?;
        Ok(near.map(|Near { first, primary, .. }| (first, primary)))
    }

    /// When it says that it was made; `first` is the primary track's first sample.
    fn in_band<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        window: &Window,
        first: &Sample,
    ) -> Result<Option<InBandTime>, ContainerError> {
        match self {
            Recording::Boxes(recording) => recording.in_band(source, window, first),
            Recording::Packets(recording) => recording.in_band(source, first),
            Recording::Matroska(recording) => recording.in_band(source, window, first),
        }
    }
}

/// Walks one track of one recording.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one a track")]
pub(crate) enum Cursor {
    Boxes(isobmff::Cursor),
    Packets(mpegts::Cursor),
    Matroska(matroska::Cursor),
}

impl Cursor {
    fn next<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<Option<Sample>, ContainerError> {
        match self {
            Cursor::Boxes(cursor) => cursor.next(source),
            Cursor::Packets(cursor) => cursor.next(source),
            Cursor::Matroska(cursor) => cursor.next(source),
        }
    }

    /// How the recording ends; known once the last sample was handed out.
    fn end(&self) -> End {
        match self {
            Cursor::Boxes(cursor) => cursor.end(),
            Cursor::Packets(cursor) => cursor.end(),
            Cursor::Matroska(cursor) => cursor.end(),
        }
    }
}

/// A track's next sample, and the cursor that goes on behind it.
pub(crate) type Ahead<C> = (C, Option<Sample>);

/// The primary track's sample that a walk goes on with, and what the other tracks do.
pub(crate) type Skipped = (Sample, Vec<Ahead<Cursor>>);

/// A place in the middle of a recording.
#[derive(Debug)]
pub(crate) struct Near<C> {
    /// A keyframe of the primary track.
    pub(crate) first: Sample,
    /// What follows it.
    pub(crate) primary: C,
    /// Of each other track, in their order, the next sample that starts no earlier than the keyframe, and what
    /// follows.
    pub(crate) others: Vec<Ahead<C>>,
}

impl<C> Near<C> {
    fn map<D>(self, into: impl Fn(C) -> D) -> Near<D> {
        let others = self.others.into_iter().map(|(cursor, next)| (into(cursor), next)).collect();
        Near { first: self.first, primary: into(self.primary), others }
    }
}

#[derive(Debug)]
pub(crate) struct Walk<'r, R> {
    source: Source<'r, R>,
    window: Window,
    format: Format,
    recording: Recording,
    primary: Cursor,
    /// Recordings begun, and samples handed out of all of them.
    recordings: u32,
    samples: u32,
    leap_ns: Option<i64>,
    /// End of what the primary track has shown.
    end: MediaTime,
    file_end: End,
}

impl<'r, R: Read + Seek> Walk<'r, R> {
    /// Finds the first recording that holds samples.
    pub(crate) fn open(reader: &'r mut R, file_bytes: u64) -> Result<Self, ContainerError> {
        let mut source = Source::new(reader, file_bytes);
        let mut window = Window::default();
        let format = Format::of(&mut source, &mut window)?;
        let recording = format.find_recording(&mut source, &mut window, 0, MediaTime(0))?;
        let primary =
            recording.cursor(recording.primary(), &window).ok_or(ContainerError::NoSamples)?;
        Ok(Walk {
            source,
            window,
            format,
            recording,
            primary,
            recordings: 1,
            samples: 0,
            leap_ns: None,
            end: MediaTime(0),
            file_end: End::torn(0),
        })
    }

    pub(crate) fn recording(&self) -> &Recording {
        &self.recording
    }

    pub(crate) fn recordings(&self) -> u32 {
        self.recordings
    }

    /// End of what the primary track has shown so far.
    pub(crate) fn end(&self) -> MediaTime {
        self.end
    }

    /// By how much the clock leapt that tells the recording at hand from the one before, where that may be all
    /// that tells them apart: in MPEG-TS, with the same streams.
    pub(crate) fn leap_ns(&self) -> Option<i64> {
        self.leap_ns
    }

    /// How far the file is whole; meaningful once [`Self::next_recording`] has said that there is none.
    pub(crate) fn file_end(&self) -> End {
        self.file_end
    }

    /// The next sample of the recording's primary track, in decode order.
    pub(crate) fn next_primary(&mut self) -> Result<Option<Sample>, ContainerError> {
        let sample = self.primary.next(&mut self.source)?;
        self.count(sample.as_ref())?;
        if let (Some(sample), Some(track)) = (&sample, self.recording.primary_track()) {
            self.end = self.end.max(sample.ends_at(track));
        }
        Ok(sample)
    }

    /// Leaves out what is left of the recording's primary track, where head and tail of the file tell exactly
    /// how it ends; else nothing.
    pub(crate) fn skip_to_tail(&mut self) -> Result<(), ContainerError> {
        if let Some((cursor, end)) = self.recording.tail(&mut self.source, &self.window)? {
            self.primary = cursor;
            self.end = self.end.max(end);
        }
        Ok(())
    }

    /// Goes on with what follows a keyframe of the recording's primary track at or before `time`, if something
    /// leads there; says with which, and what the other tracks go on with. Only at the recording's beginning.
    pub(crate) fn skip_near(&mut self, time: MediaTime) -> Result<Option<Skipped>, ContainerError> {
        let near = self.recording.near(&mut self.source, &self.window, time)?;
        let Some(Near { first, primary, others }) = near else { return Ok(None) };
        self.primary = primary;
        if let Some(track) = self.recording.primary_track() {
            self.end = self.end.max(first.ends_at(track));
        }
        Ok(Some((first, others)))
    }

    /// Goes on with what follows a keyframe of the primary track at or before `time`, if something leads there; says
    /// with which. No word on other tracks. Only at the recording's beginning.
    pub(crate) fn enter_near(&mut self, time: MediaTime) -> Result<Option<Sample>, ContainerError> {
        let entered = self.recording.enter(&mut self.source, &self.window, time)?;
        let Some((first, primary)) = entered else { return Ok(None) };
        self.primary = primary;
        if let Some(track) = self.recording.primary_track() {
            self.end = self.end.max(first.ends_at(track));
        }
        Ok(Some(first))
    }

    /// When the recording at hand says that it was made; `first` is its primary track's first sample.
    pub(crate) fn in_band(&mut self, first: &Sample) -> Result<Option<InBandTime>, ContainerError> {
        self.recording.in_band(&mut self.source, &self.window, first)
    }

    /// A cursor over any track of the recording at hand, from its first sample on.
    pub(crate) fn cursor(&self, track: usize) -> Option<Cursor> {
        self.recording.cursor(track, &self.window)
    }

    pub(crate) fn next_of(
        &mut self,
        cursor: &mut Cursor,
    ) -> Result<Option<Sample>, ContainerError> {
        let sample = cursor.next(&mut self.source)?;
        self.count(sample.as_ref())?;
        Ok(sample)
    }

    fn count(&mut self, sample: Option<&Sample>) -> Result<(), ContainerError> {
        let Some(sample) = sample else { return Ok(()) };
        self.samples += 1;
        if self.samples > MAX_SAMPLES {
            let limit = u64::from(MAX_SAMPLES);
            let what = "the number of samples";
            return Err(ContainerError::TooLarge { offset: sample.offset, what, limit });
        }
        Ok(())
    }

    /// Goes on to the next recording in the file; false where there is none. To be called once the
    /// primary track is at its end, where the next recording's media time continues.
    pub(crate) fn next_recording(&mut self) -> Result<bool, ContainerError> {
        self.file_end = self.primary.end();
        let Some(next) = self.file_end.next else { return Ok(false) };
        let (source, window) = (&mut self.source, &mut self.window);
        match self.format.find_recording(source, window, next, self.end) {
            Ok(recording) => {
                let Some(primary) = recording.cursor(recording.primary(), &self.window) else {
                    return Ok(false);
                };
                self.leap_ns = recording.leap_since(&self.recording);
                (self.recording, self.primary) = (recording, primary);
                self.recordings = self.recordings.saturating_add(1);
                Ok(true)
            }
            Err(error @ ContainerError::Io(_)) => Err(error),
            // Begun and not finished, or not to be read: a torn tail like any other.
            Err(_) => {
                self.file_end = End::torn(next);
                Ok(false)
            }
        }
    }
}
