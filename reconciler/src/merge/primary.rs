//! The primary track, which leads: pieces are cut at its keyframes, and all other tracks go with it.

use std::ops::Range;

use sdcard_indexer::container::{MediaTime, Sample, Track, TrackKind};

/// Index of the first video track, else of the first track.
pub fn primary_track(tracks: &[Track]) -> usize {
    tracks.iter().position(|track| track.kind == TrackKind::Video).unwrap_or(0)
}

/// From when the first frame is shown, as long as all frames are shown together; `None` without a frame.
///
/// The length is told from decode times: of an open group of pictures some frames are shown before the
/// keyframe that they follow, and leave room at the end for those of the next.
pub fn extent(tracks: &[Track], samples: &[Sample]) -> Option<Range<MediaTime>> {
    let primary = primary_track(tracks);
    let track = tracks.get(primary)?;
    let mut frames = samples.iter().filter(|sample| sample.track == primary);
    let first = frames.next()?;
    let last = frames.next_back().unwrap_or(first);
    let length_ticks =
        last.decode_ticks.saturating_add(last.duration.into()).saturating_sub(first.decode_ticks);
    let end_ticks = first.presentation_ticks().saturating_add(length_ticks);
    Some(first.starts_at(track)..track.media_time(end_ticks))
}
