//! A file of boxes: its recordings, each a `moov` with the media that belongs to it.
//!
//! Owns where recordings begin and end, what media time zero is, and how the samples in `moov` and those in
//! fragments follow one another. Holds one recording's tables at a time.

mod near;

use std::io::{Read, Seek};
use std::ops::Range;

use super::boxes::{BoxHeader, Source, Window};
use super::fmp4::FragmentCursor;
use super::in_band::{self, InBandKind, InBandTime, ProducerReference};
use super::movie::{Movie, TrackLayout};
use super::mp4::{self, TableCursor};
use super::tail::{Fragments, Tail};
use super::track::{MediaTime, NANOS_PER_SECOND, Sample, Track, TrackKind, rescale};
use super::{Container, ContainerError, End};
use crate::time::Timestamp;

/// What a file may begin with (ISO/IEC 14496-12 and QuickTime).
const FIRST_BOXES: [&[u8; 4]; 11] = [
    b"ftyp", b"styp", b"moov", b"mdat", b"moof", b"sidx", b"free", b"skip", b"wide", b"uuid",
    b"prft",
];

/// Whether the file is one of boxes.
pub(super) fn recognises<R: Read + Seek>(
    source: &mut Source<'_, R>,
    window: &mut Window,
) -> Result<bool, ContainerError> {
    let first = BoxHeader::read(source, window, 0, source.end)?;
    Ok(first.is_some_and(|header| FIRST_BOXES.contains(&&header.kind)))
}

/// One `moov` and the media that belongs to it.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(super) container: Container,
    layouts: Vec<TrackLayout>,
    /// Index of the first video track that holds samples, else of the first that does.
    pub(super) primary: usize,
    /// Where it begins in the file, and from where to where its `mdat` boxes before any fragment lie.
    start: u64,
    media: Range<u64>,
    /// Where the first fragment stands.
    fragments: Option<u64>,
    /// The first `sidx` and `prft` before it.
    index: Option<BoxHeader>,
    reference_time: Option<BoxHeader>,
    /// The UTC of tick 0, where `moov` has it.
    began_at: Option<Timestamp>,
    /// How it ends, as far as its box headers tell.
    end: End,
}

impl Recording {
    pub(super) fn track_count(&self) -> usize {
        self.layouts.len()
    }

    pub(super) fn track(&self, index: usize) -> Option<&Track> {
        self.layouts.get(index).map(|layout| &layout.track)
    }

    /// Walks one of its tracks from the first sample on. What `window` has of the file is not read again:
    /// after the head of a file, that is ordinarily its first fragment.
    pub(super) fn cursor(&self, track: usize, window: &Window) -> Option<Cursor> {
        let layout = self.layouts.get(track)?;
        let table = TableCursor::new(track, layout, self.start, self.media.clone());
        let fragments = self
            .fragments
            .map(|at| FragmentCursor::new(track, &self.layouts, self.start, at, window.clone()));
        Some(self.with_tables(table, fragments))
    }

    fn with_tables(&self, table: TableCursor, fragments: Option<FragmentCursor>) -> Cursor {
        Cursor { table, fragments, recording_end: self.end, media_end: 0 }
    }

    /// A cursor after the last sample of the primary track, and when that has been shown, where head and tail
    /// tell; see [`Tail::find`] for fragments. Of a plain file that is whole, the run-length tables tell it.
    pub(super) fn tail<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        window: &Window,
    ) -> Result<Option<(Cursor, MediaTime)>, ContainerError> {
        let Some(layout) = self.layouts.get(self.primary) else { return Ok(None) };
        let Some(mut cursor) = self.cursor(self.primary, window) else { return Ok(None) };
        let shown_until = if let Some(first) = self.fragments {
            let (layouts, track) = (&self.layouts[..], self.primary);
            let (recording_start, index) = (self.start, self.index);
            let fragments = Fragments { layouts, track, recording_start, first, index };
            Tail::find(source, window, fragments)?.map(|tail| {
                cursor.fragments = Some(tail.cursor);
                tail.shown_until
            })
        } else if !self.end.torn
            && mp4::ends_within(source, &layout.tables, self.start, &self.media)?
        {
            mp4::shown_until(source, &layout.tables)?
        } else {
            None
        };
        cursor.table.leave_out();
        Ok(shown_until.map(|ticks| (cursor, layout.track.media_time(ticks))))
    }

    /// What the first `prft` box says.
    fn producer_reference<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        window: &Window,
        first: &Sample,
    ) -> Result<Option<InBandTime>, ContainerError> {
        /// No fragment lasts that long.
        const WITHIN_NS: u64 = 60 * NANOS_PER_SECOND as u64;
        let Some(header) = self.reference_time else { return Ok(None) };
        let mut window = window.clone();
        let fields = header.head(source, &mut window, "prft", 4 + 4 + 8 + 8)?;
        let Some(reference) = ProducerReference::read(fields).unwrap_or(None) else {
            return Ok(None);
        };
        let mut tracks = self.layouts.iter().map(|layout| &layout.track);
        let (Some(track), Some(primary)) =
            (tracks.find(|track| track.track_id == reference.track_id), self.track(self.primary))
        else {
            return Ok(None);
        };
        // It is of a frame in the first fragment. Where ffmpeg counts fragments from their first, it counts this
        // on as it was: then it is of the first frame.
        let (first, told) = (first.starts_at(primary), track.media_time(reference.ticks));
        let media = if first.0.abs_diff(told.0) < WITHIN_NS { told } else { first };
        Ok(Some(InBandTime { media, utc: reference.utc, kind: InBandKind::ProducerReference }))
    }

    /// When the recording says that it was made. `first` is the first sample of the primary track: of the
    /// pictures, only its head is read.
    pub(super) fn in_band<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        window: &Window,
        first: &Sample,
    ) -> Result<Option<InBandTime>, ContainerError> {
        if let Some(time) = self.producer_reference(source, window, first)? {
            return Ok(Some(time));
        }
        let Some(primary) = self.track(self.primary) else { return Ok(None) };
        if let Some(time) = in_band::of_picture(source, window, primary, first)? {
            return Ok(Some(time));
        }
        Ok(self.began_at.map(|utc| InBandTime {
            media: primary.media_time(0),
            utc,
            kind: InBandKind::SegmentInfo,
        }))
    }
}

/// Walks one track of one recording: the samples of `moov`, then those of the fragments.
#[derive(Debug)]
pub(crate) struct Cursor {
    table: TableCursor,
    fragments: Option<FragmentCursor>,
    /// How the recording ends as far as its box headers tell.
    recording_end: End,
    /// One past the last byte of the samples in `moov`.
    media_end: u64,
}

impl Cursor {
    pub(super) fn next<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<Option<Sample>, ContainerError> {
        let sample = self.table.next(source)?;
        if let Some(sample) = &sample {
            self.media_end = self.media_end.max(sample.end_offset());
            return Ok(Some(*sample));
        }
        match &mut self.fragments {
            Some(fragments) => fragments.next(source, self.table.decode_ticks()),
            None => Ok(None),
        }
    }

    /// How the recording ends; known once the last sample was handed out.
    pub(super) fn end(&self) -> End {
        if let Some(end) = self.fragments.as_ref().and_then(FragmentCursor::end) {
            return end;
        }
        let End { whole, torn, next } = self.recording_end;
        // A plain file's media may end inside of its `mdat`; its whole samples count.
        End { whole: if torn { whole.max(self.media_end) } else { whole }, torn, next }
    }
}

/// The first recording at or after `at` that holds samples; its media time begins at `zero`.
pub(super) fn find_recording<R: Read + Seek>(
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
    index: Option<BoxHeader>,
    reference_time: Option<BoxHeader>,
    end: End,
}

impl Scan {
    fn read<R: Read + Seek>(
        source: &mut Source<'_, R>,
        window: &mut Window,
        start: u64,
    ) -> Result<Scan, ContainerError> {
        let mut scan = Scan {
            moov: None,
            media: None,
            fragments: None,
            index: None,
            reference_time: None,
            end: End::torn(start),
        };
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
                (b"sidx", _) => scan.index = scan.index.or(Some(header)),
                (b"prft", _) => scan.reference_time = scan.reference_time.or(Some(header)),
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
            index: scan.index,
            reference_time: scan.reference_time,
            began_at: movie.began_at,
            end: scan.end,
        }
    }

    /// The media ticks that the primary track's edit list puts at the movie's beginning.
    pub(super) fn edited_ticks(&self) -> i64 {
        self.layouts.get(self.primary).map_or(0, |primary| primary.edit_ticks)
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
            self.end = cursor.end();
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
