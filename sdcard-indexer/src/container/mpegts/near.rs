//! Beginning in the middle of a recording: its clock, asked here and there, tells where.

use std::io::{Read, Seek};

use super::super::ContainerError;
use super::super::boxes::Source;
use super::super::track::{MediaTime, Sample, TrackKind};
use super::watch::TICKS_PER_SECOND;
use super::{Cursor, Recording, pes};

/// Streams are interleaved, and pictures put off, by less: what is shown at a time lies behind what is decoded so
/// long before.
const EARLIER_TICKS: i64 = TICKS_PER_SECOND as i64;
/// Two places so near to each other are one: a few reads.
const NEAR_BYTES: u64 = 256 * 1024;
/// How far back the next attempt begins where a keyframe is not found at once; then ever twice as far.
const FIRST_STEP_BACK_BYTES: u64 = 512 * 1024;

/// A place in the file, and what the recording's clock shows there.
#[derive(Clone, Copy)]
struct Place {
    at: u64,
    clock: i64,
}

impl Recording {
    /// A keyframe of the pictures that is shown at or before `time`, and what follows it. `None` where nothing leads
    /// there; then one has to walk from the beginning.
    pub(in super::super) fn enter<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        time: MediaTime,
    ) -> Result<Option<(Sample, Cursor)>, ContainerError> {
        let Some(track) = self.tracks.get(self.primary) else { return Ok(None) };
        if track.kind != TrackKind::Video {
            return Ok(None);
        }
        let until = track.ticks_at(time).saturating_sub(EARLIER_TICKS);
        let Some(mut place) = self.place_before(source, until)? else { return Ok(None) };
        let mut step = FIRST_STEP_BACK_BYTES;
        while place.at > self.start {
            let entered = self.enter_at(source, place, time)?;
            if entered.is_some() {
                return Ok(entered);
            }
            let distance = (place.at - self.start).saturating_sub(step);
            let at = self.on_grid(distance);
            let Some(clock) = self.clock_beside(source, at, place.clock)? else { return Ok(None) };
            place = Place { at, clock };
            step *= 2;
        }
        Ok(None)
    }

    /// The first keyframe behind a place, unless it is shown too late.
    fn enter_at<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        place: Place,
        time: MediaTime,
    ) -> Result<Option<(Sample, Cursor)>, ContainerError> {
        let Some(track) = self.tracks.get(self.primary) else { return Ok(None) };
        let Some(mut cursor) = self.cursor_going_on(self.primary, place.at, place.clock) else {
            return Ok(None);
        };
        while let Some(sample) = cursor.next(source)? {
            if sample.starts_at(track) > time {
                return Ok(None);
            }
            if sample.keyframe {
                return Ok(Some((sample, cursor)));
            }
        }
        Ok(None)
    }

    /// The last place, or one shortly before it, at which the clock does not show more than `until`. `None` where it
    /// does not count on evenly enough to be looked for.
    fn place_before<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        until: i64,
    ) -> Result<Option<Place>, ContainerError> {
        let mut low = Place { at: self.start, clock: self.clock };
        let mut high = Place { at: source.end, clock: i64::MAX };
        while high.at.saturating_sub(low.at) > NEAR_BYTES {
            let at = self.on_grid(low.at.midpoint(high.at) - self.start);
            if at <= low.at {
                break;
            }
            // Behind the last time that is told, it is as late as can be.
            let clock = self.clock_beside(source, at, low.clock)?;
            let place = Place { at, clock: clock.unwrap_or(high.clock) };
            if !(low.clock..=high.clock).contains(&place.clock) {
                return Ok(None);
            }
            if place.clock <= until { low = place } else { high = place }
        }
        Ok(Some(low))
    }

    /// What the clock shows at a place; `known` is what it does at another one, hours away at the most.
    fn clock_beside<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        at: u64,
        known: i64,
    ) -> Result<Option<i64>, ContainerError> {
        let clock = self.clock_at(source, at)?;
        Ok(clock.map(|clock| known + pes::distance(known, clock)))
    }
}
