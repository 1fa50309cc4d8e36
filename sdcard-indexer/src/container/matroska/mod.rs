//! Matroska and WebM (RFC 9559): recordings of clusters, with or without cues, whole or torn.
//!
//! Owns where recordings begin and end, what media time zero is, and when cues tell enough. A walk reads the head
//! of each block, a page a frame at most, and never a frame.
//!
//! The crates that there are would not do (November 2026): `matroska-demuxer` 0.8 reads each frame to tell its
//! time and does not say where it lies, and holds all cues; `mkv-element` 0.4 holds clusters whole and refuses
//! those of open size, as every live recorder writes them; `webm-iterable` 0.7 takes the whole file through its
//! buffers; symphonia's reader hands out packets without their places.

mod block;
mod clusters;
mod codec;
mod cues;
mod ebml;
mod head;
mod id;

use std::io::{Read, Seek};

use super::boxes::{Source, Window};
use super::in_band::{self, InBandKind, InBandTime};
use super::track::{MediaTime, NANOS_PER_SECOND, Sample, Track, TrackKind, rescale};
use super::{ContainerError, End};
pub(crate) use clusters::Cursor;
use head::Head;

/// Whether the file is Matroska, by its first element.
pub(super) fn recognises<R: Read + Seek>(
    source: &mut Source<'_, R>,
    window: &mut Window,
) -> Result<bool, ContainerError> {
    head::is_matroska(source, window, 0)
}

/// The first recording at or after `at` that holds samples; its media time begins at `zero`.
pub(super) fn find_recording<R: Read + Seek>(
    source: &mut Source<'_, R>,
    window: &mut Window,
    mut at: u64,
    zero: MediaTime,
) -> Result<Recording, ContainerError> {
    loop {
        let head = Head::read(source, window, at)?;
        let mut recording = Recording { head, primary: 0 };
        match recording.find_zero(source, window, zero)? {
            None => return Ok(recording),
            Some(end) => at = end.next.ok_or(ContainerError::NoSamples)?,
        }
    }
}

/// One segment.
#[derive(Debug)]
pub(crate) struct Recording {
    head: Head,
    /// Index of the first video track that holds samples, else of the first that does.
    pub(super) primary: usize,
}

impl Recording {
    pub(super) fn track_count(&self) -> usize {
        self.head.tracks.len()
    }

    pub(super) fn track(&self, index: usize) -> Option<&Track> {
        self.head.tracks.get(index).map(|head| &head.track)
    }

    /// Walks one of its tracks from the first sample on. What `window` has of the file is not read again.
    pub(super) fn cursor(&self, track: usize, window: &Window) -> Option<Cursor> {
        self.cursor_at(self.head.first_cluster, track, window)
    }

    fn cursor_at(&self, cluster: u64, track: usize, window: &Window) -> Option<Cursor> {
        let Head { tracks, clock, segment, .. } = &self.head;
        let head = tracks.get(track)?;
        Some(Cursor::new(track, head, *clock, segment, cluster, window.clone()))
    }

    /// Chooses the primary track and puts media time `zero` at its first sample. Where no track holds a sample,
    /// tells how the recording ends.
    fn find_zero<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
        window: &Window,
        zero: MediaTime,
    ) -> Result<Option<End>, ContainerError> {
        let mut candidates: Vec<usize> = (0..self.track_count()).collect();
        candidates.sort_by_key(|&index| {
            self.track(index).is_none_or(|track| track.kind != TrackKind::Video)
        });
        let mut end = End::torn(self.head.first_cluster);
        for index in candidates {
            let Some(mut cursor) = self.cursor(index, window) else { continue };
            if let Some(first) = cursor.next(source)? {
                self.primary = index;
                let zero = rescale(zero.0, NANOS_PER_SECOND, self.head.clock.timescale);
                for head in &mut self.head.tracks {
                    head.track.zero_ticks = first.presentation_ticks().saturating_sub(zero);
                }
                return Ok(None);
            }
            end = cursor.end();
        }
        Ok(Some(end))
    }

    /// A cursor near the end of the primary track, and when the track has been shown up to there, where the cues
    /// of a segment that ends with the file lead to its last keyframe. What lies between is not seen.
    pub(super) fn tail<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        window: &Window,
    ) -> Result<Option<(Cursor, MediaTime)>, ContainerError> {
        let Head { segment, tracks, first_cluster, cues, .. } = &self.head;
        let (Some(primary), Some(cues)) = (tracks.get(self.primary), *cues) else {
            return Ok(None);
        };
        if segment.end != source.end {
            return Ok(None);
        }
        let clusters = cues::last_clusters(source, window, cues, segment, primary.number)?;
        for cluster in clusters.into_iter().flatten().filter(|cluster| cluster > first_cluster) {
            let Some(mut cursor) = self.cursor_at(cluster, self.primary, window) else { break };
            // A keyframe is shown after all that came before it, and the next sample tells how long one lasts.
            let first = cursor.next(source)?.filter(|first| first.keyframe && cursor.has_next());
            if let Some(first) = first {
                return Ok(Some((cursor, first.ends_at(&primary.track))));
            }
        }
        Ok(None)
    }

    /// When the recording says that it was made: by its first picture, else by its muxer. `first` is the
    /// first sample of the primary track: of the pictures, only its head is read.
    pub(super) fn in_band<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        window: &Window,
        first: &Sample,
    ) -> Result<Option<InBandTime>, ContainerError> {
        let Some(primary) = self.track(self.primary) else { return Ok(None) };
        if let Some(time) = in_band::of_picture(source, window, primary, first)? {
            return Ok(Some(time));
        }
        let media = first.starts_at(primary);
        Ok(self.head.began_at.map(|utc| InBandTime { media, utc, kind: InBandKind::SegmentDate }))
    }
}
