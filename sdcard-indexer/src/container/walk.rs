//! A file from its first recording to its last, led by the primary track of each.
//!
//! Owns where recordings begin and end, what media time zero is, and how the samples in `moov` and those in
//! fragments follow one another. Holds one recording's tables at a time; how it ends is known once its
//! primary track was walked to the end.

use std::io::{Read, Seek};
use std::ops::Range;

use super::boxes::{BoxHeader, Source, Window};
use super::fmp4::FragmentCursor;
use super::movie::{Movie, TrackLayout};
use super::mp4::TableCursor;
use super::track::{MediaTime, NANOS_PER_SECOND, Sample, Track, TrackKind, rescale};
use super::{Container, ContainerError, End};

/// More samples than this are not a recording: 8 hours at 1165 a second. Tables may speak of as many as they
/// like in few bytes.
const MAX_SAMPLES: u32 = 1 << 25;

/// What a file may begin with (ISO/IEC 14496-12 and QuickTime); what else there is may come later.
const FIRST_BOXES: [&[u8; 4]; 11] = [
    b"ftyp", b"styp", b"moov", b"mdat", b"moof", b"sidx", b"free", b"skip", b"wide", b"uuid",
    b"prft",
];

#[derive(Debug)]
pub(crate) struct Walk<'r, R> {
    source: Source<'r, R>,
    window: Window,
    recording: Recording,
    primary: Cursor,
    /// Recordings begun, and samples handed out of all of them.
    recordings: u32,
    samples: u32,
    /// End of what the primary track has shown.
    end: MediaTime,
    /// One past the last byte of the primary track's samples.
    media_end: u64,
    file_end: End,
}

/// One `moov` and the media that belongs to it.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) container: Container,
    layouts: Vec<TrackLayout>,
    /// Index of the first video track that holds samples, else of the first that does.
    pub(crate) primary: usize,
    /// Where it begins in the file, and from where to where its `mdat` boxes before any fragment lie.
    start: u64,
    media: Range<u64>,
    /// Where the first fragment stands.
    fragments: Option<u64>,
    /// How it ends, as far as its box headers tell.
    end: End,
}

impl Recording {
    pub(crate) fn tracks(&self) -> impl ExactSizeIterator<Item = &Track> {
        self.layouts.iter().map(|layout| &layout.track)
    }

    pub(crate) fn primary_track(&self) -> Option<&Track> {
        self.layouts.get(self.primary).map(|layout| &layout.track)
    }

    pub(crate) fn track(&self, index: usize) -> Option<&Track> {
        self.layouts.get(index).map(|layout| &layout.track)
    }

    /// Walks one of its tracks from the first sample on. What `window` has of the file is not read again:
    /// after the head of a file, that is ordinarily its first fragment.
    fn cursor(&self, track: usize, window: &Window) -> Option<Cursor> {
        let layout = self.layouts.get(track)?;
        Some(Cursor {
            table: TableCursor::new(track, layout, self.start, self.media.clone()),
            fragments: self.fragments.map(|at| {
                FragmentCursor::new(track, &self.layouts, self.start, at, window.clone())
            }),
        })
    }
}

/// Walks one track of one recording: the samples of `moov`, then those of the fragments.
#[derive(Debug)]
pub(crate) struct Cursor {
    table: TableCursor,
    fragments: Option<FragmentCursor>,
}

impl Cursor {
    fn next<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<Option<Sample>, ContainerError> {
        match (self.table.next(source)?, &mut self.fragments) {
            (None, Some(fragments)) => fragments.next(source, self.table.decode_ticks()),
            (sample, _) => Ok(sample),
        }
    }
}

impl<'r, R: Read + Seek> Walk<'r, R> {
    /// Finds the first recording that holds samples.
    pub(crate) fn open(reader: &'r mut R, file_bytes: u64) -> Result<Self, ContainerError> {
        if file_bytes == 0 {
            return Err(ContainerError::Empty);
        }
        let mut source = Source::new(reader, file_bytes);
        let mut window = Window::default();
        BoxHeader::read(&mut source, &mut window, 0, file_bytes)?
            .filter(|header| FIRST_BOXES.contains(&&header.kind))
            .ok_or(ContainerError::NotRecognised)?;
        let recording = find_recording(&mut source, &mut window, 0, MediaTime(0))?;
        let primary =
            recording.cursor(recording.primary, &window).ok_or(ContainerError::NoSamples)?;
        let file_end = recording.end;
        Ok(Walk {
            source,
            window,
            recording,
            primary,
            recordings: 1,
            samples: 0,
            end: MediaTime(0),
            media_end: 0,
            file_end,
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
            self.media_end = self.media_end.max(sample.end_offset());
        }
        Ok(sample)
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
        let fragments_end = self.primary.fragments.as_ref().and_then(FragmentCursor::end);
        let end = fragments_end.unwrap_or(self.recording.end);
        self.file_end = end;
        if end.torn && fragments_end.is_none() {
            // A plain file's media may end inside of its `mdat`; its whole samples count.
            self.file_end.whole = end.whole.max(self.media_end);
        }
        let Some(next) = end.next else { return Ok(false) };
        match find_recording(&mut self.source, &mut self.window, next, self.end) {
            Ok(recording) => {
                let Some(primary) = recording.cursor(recording.primary, &self.window) else {
                    return Ok(false);
                };
                self.file_end = recording.end;
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

/// The first recording at or after `at` that holds samples; its media time begins at `zero`.
fn find_recording<R: Read + Seek>(
    source: &mut Source<'_, R>,
    window: &mut Window,
    mut at: u64,
    zero: MediaTime,
) -> Result<Recording, ContainerError> {
    loop {
        let scan = Scan::read(source, window, at)?;
        let (next, error) = match scan.moov {
            None => (scan.end.next, ContainerError::NoIndex),
            Some(moov) => {
                let movie = Movie::read(source, window, moov)?;
                let mut recording = Recording::new(movie, scan, at);
                if recording.find_zero(source, window, zero)? {
                    return Ok(recording);
                }
                (recording.end.next, ContainerError::NoSamples)
            }
        };
        at = next.ok_or(error)?;
    }
}

/// The boxes of a recording at top level, up to its first fragment.
struct Scan {
    moov: Option<BoxHeader>,
    media: Option<Range<u64>>,
    fragments: Option<u64>,
    end: End,
}

impl Scan {
    fn read<R: Read + Seek>(
        source: &mut Source<'_, R>,
        window: &mut Window,
        start: u64,
    ) -> Result<Scan, ContainerError> {
        let mut scan = Scan { moov: None, media: None, fragments: None, end: End::torn(start) };
        let mut at = start;
        while at < source.end {
            let Some(header) = BoxHeader::read(source, window, at, source.end)? else {
                return Ok(scan);
            };
            match (&header.kind, scan.moov) {
                (b"ftyp", _) if scan.moov.is_some() || scan.media.is_some() => {
                    scan.end = End { whole: at, torn: false, next: Some(at) };
                    return Ok(scan);
                }
                (b"moov", Some(_)) => {
                    scan.end = End { whole: at, torn: false, next: Some(at) };
                    return Ok(scan);
                }
                (b"moov", None) if header.within(source.end) => scan.moov = Some(header),
                (b"moof", Some(_)) => {
                    scan.fragments = Some(at);
                    return Ok(scan);
                }
                (b"mdat", _) => {
                    let from = scan.media.map_or(header.body, |media| media.start);
                    scan.media = Some(from..header.end.min(source.end));
                }
                _ => {}
            }
            if !header.within(source.end) {
                return Ok(scan);
            }
            at = header.end;
            scan.end.whole = at;
        }
        scan.end.torn = false;
        Ok(scan)
    }
}

impl Recording {
    fn new(movie: Movie, scan: Scan, start: u64) -> Self {
        let container = if movie.fragmented { Container::FragmentedMp4 } else { Container::Mp4 };
        Recording {
            container,
            layouts: movie.tracks,
            primary: 0,
            start,
            media: scan.media.unwrap_or(0..0),
            fragments: scan.fragments,
            end: scan.end,
        }
    }

    /// Chooses the primary track and puts media time `zero` at its first sample; false where no track
    /// holds a sample, and then the recording's end is known.
    fn find_zero<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
        window: &Window,
        zero: MediaTime,
    ) -> Result<bool, ContainerError> {
        let mut candidates: Vec<usize> = (0..self.layouts.len()).collect();
        candidates.sort_by_key(|&index| {
            self.track(index).is_none_or(|track| track.kind != TrackKind::Video)
        });
        for index in candidates {
            let Some(mut cursor) = self.cursor(index, window) else { continue };
            if let Some(first) = cursor.next(source)? {
                self.primary = index;
                self.set_zero(first.presentation_ticks(), zero);
                return Ok(true);
            }
            self.end = cursor.fragments.and_then(|fragments| fragments.end()).unwrap_or(self.end);
        }
        Ok(false)
    }

    fn set_zero(&mut self, first_ticks: i64, zero: MediaTime) {
        let Some(primary) = self.layouts.get(self.primary) else { return };
        let timescale = primary.track.timescale;
        let shown_at = first_ticks.saturating_sub(primary.edit_ticks);
        for TrackLayout { track, edit_ticks, .. } in &mut self.layouts {
            track.zero_ticks = rescale(shown_at, timescale, track.timescale)
                .saturating_add(*edit_ticks)
                .saturating_sub(rescale(zero.0, NANOS_PER_SECOND, track.timescale));
        }
    }
}
