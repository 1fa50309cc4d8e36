//! Times inside the exported MP4, counted from when its first frame is shown: as whoever opens the file counts them.
//!
//! Pure.

use sdcard_indexer::container::Track;

use crate::merge::{OutputSample, primary_track};

/// The leading track's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clip {
    leading: usize,
    timescale: i128,
    /// When the first frame in decode order is shown.
    zero_ticks: Option<i128>,
}

impl Clip {
    pub fn of(tracks: &[Track]) -> Option<Clip> {
        let leading = primary_track(tracks);
        let timescale = tracks.get(leading)?.timescale.max(1).into();
        Some(Clip { leading, timescale, zero_ticks: None })
    }

    /// The index of the track.
    pub fn leading(&self) -> usize {
        self.leading
    }

    /// The first frames of all tell where it begins.
    pub fn begin(&mut self, frames: &[OutputSample]) {
        let first = frames.first().map(shown_ticks);
        self.zero_ticks = self.zero_ticks.or(first);
    }

    /// From when the first of some frames is shown until the last is over, in nanoseconds.
    pub fn extent(&self, frames: &[&OutputSample]) -> Option<(i64, i64)> {
        let from = frames.iter().map(|frame| shown_ticks(frame)).min()?;
        let to =
            frames.iter().map(|frame| shown_ticks(frame) + i128::from(frame.duration)).max()?;
        Some((self.nanos(from), self.nanos(to)))
    }

    fn nanos(&self, ticks: i128) -> i64 {
        let since_zero = ticks - self.zero_ticks.unwrap_or(0);
        let nanos = since_zero.saturating_mul(1_000_000_000).div_euclid(self.timescale);
        i64::try_from(nanos).unwrap_or(i64::MAX)
    }
}

fn shown_ticks(frame: &OutputSample) -> i128 {
    i128::from(frame.decode_ticks) + i128::from(frame.composition_offset)
}
