//! Beginning in the middle of a recording, where an index of its fragments or its sample tables tell how.

use std::io::{Read, Seek};

use super::super::ContainerError;
use super::super::boxes::{Source, Window};
use super::super::fmp4::FragmentCursor;
use super::super::fragment_index::{self, Ticks};
use super::super::mp4::{TableCursor, seek};
use super::super::track::{MediaTime, Sample, Track, TrackKind};
use super::super::walk::Near;
use super::{Cursor, Recording};

impl Recording {
    /// The last keyframe of the primary track at or before `time` that can be reached without walking there, or
    /// one not long before it. `None` where nothing leads there; then one has to walk from the beginning.
    ///
    /// Only of pictures: what sound falls into depends on where it begins. Nothing is believed of where an index
    /// leads but what is found there: every track has to go on there with a sample from before the keyframe.
    pub(in super::super) fn near<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        window: &Window,
        time: MediaTime,
    ) -> Result<Option<Near<Cursor>>, ContainerError> {
        let Some(primary) = self.primary_track() else { return Ok(None) };
        let of_pictures = |track: &&Track| track.kind == TrackKind::Video;
        let tracks = self.layouts.iter().map(|layout| &layout.track);
        if !of_pictures(&primary) || tracks.filter(of_pictures).count() > 1 {
            return Ok(None);
        }
        if self.fragments.is_none() {
            let cursors = match self.table_cursors(source, primary.ticks_at(time)) {
                Err(error @ ContainerError::Io(_)) => return Err(error),
                cursors => cursors.unwrap_or(None),
            };
            return match cursors {
                Some(cursors) => self.try_from(source, cursors, time),
                None => Ok(None),
            };
        }
        let until = primary.ticks_at(time);
        let ticks = Ticks { ticks: until, timescale: primary.timescale };
        let mut places = fragment_index::subsegments(source, window, self.index, Some(ticks))?;
        if places.is_empty() {
            let (mut page, id) = (Window::default(), primary.track_id);
            places = fragment_index::random_access(source, &mut page, id, Some(until))?;
        }
        // The one before the last, so that the other tracks begin early enough; else ever further back.
        for (number, at) in (0_usize..).zip(places) {
            if number.is_power_of_two() && self.fragments.is_some_and(|first| at > first) {
                let near = self.try_from(source, self.fragment_cursors(at), time)?;
                if near.is_some() {
                    return Ok(near);
                }
            }
        }
        Ok(None)
    }

    fn primary_track(&self) -> Option<&Track> {
        self.track(self.primary)
    }

    /// A cursor for each track from the fragment at `at` on, whatever stands there.
    fn fragment_cursors(&self, at: u64) -> Vec<Cursor> {
        let cursor = |(track, layout)| {
            let mut table = TableCursor::new(track, layout, self.start, self.media.clone());
            table.leave_out();
            let window = Window::default();
            let fragments = FragmentCursor::new(track, &self.layouts, self.start, at, window);
            self.with_tables(table, Some(fragments))
        };
        self.layouts.iter().enumerate().map(cursor).collect()
    }

    /// A cursor for each track from a sample before these ticks of the primary track on, of that a keyframe.
    fn table_cursors<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        until: i64,
    ) -> Result<Option<Vec<Cursor>>, ContainerError> {
        let new = |track, layout| TableCursor::new(track, layout, self.start, self.media.clone());
        let Some(layout) = self.layouts.get(self.primary) else { return Ok(None) };
        let mut found = None;
        for number in seek::keyframes_until(source, &layout.tables, until)? {
            let mut table = new(self.primary, layout);
            if !table.seek(source, number)? {
                return Ok(None);
            }
            if let Some(shown) = table.shown_next(source)?.filter(|&shown| shown <= until) {
                found = Some((table, layout.track.media_time(shown)));
                break;
            }
        }
        let Some((primary, MediaTime(shown))) = found else { return Ok(None) };
        let mut cursors = Vec::new();
        for (track, layout) in self.layouts.iter().enumerate().filter(|(t, _)| *t != self.primary) {
            let before = layout.track.ticks_at(MediaTime(shown.saturating_sub(1)));
            let mut table = new(track, layout);
            match seek::chunk_until(source, &layout.tables, before)? {
                Some(first) if table.seek(source, first)? => {}
                _ => return Ok(None),
            }
            cursors.push(self.with_tables(table, None));
        }
        cursors.insert(self.primary, self.with_tables(primary, None));
        Ok(Some(cursors))
    }

    /// Goes on from the places of `cursors` to the first keyframe there, and to what other tracks have from then on.
    fn try_from<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        cursors: Vec<Cursor>,
        time: MediaTime,
    ) -> Result<Option<Near<Cursor>>, ContainerError> {
        match self.go_on(source, cursors, time) {
            Err(error @ ContainerError::Io(_)) => Err(error),
            near => Ok(near.unwrap_or(None)),
        }
    }

    fn go_on<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        mut cursors: Vec<Cursor>,
        time: MediaTime,
    ) -> Result<Option<Near<Cursor>>, ContainerError> {
        let Some(track) = self.primary_track() else { return Ok(None) };
        let mut primary = cursors.remove(self.primary);
        let first = loop {
            match primary.next(source)? {
                Some(sample) if !is_timed(&sample) || sample.starts_at(track) > time => {
                    return Ok(None);
                }
                Some(sample) if sample.keyframe => break sample,
                Some(_) => {}
                None => return Ok(None),
            }
        };
        let shown = first.starts_at(track);
        let mut others = Vec::new();
        for mut cursor in cursors {
            let mut next = cursor.next(source)?;
            let early = |sample: &Sample| {
                let track = self.track(sample.track);
                is_timed(sample) && track.is_some_and(|track| sample.starts_at(track) < shown)
            };
            // Only so is it known that nothing from then on lies before.
            if !next.as_ref().is_some_and(early) {
                return Ok(None);
            }
            while next.as_ref().is_some_and(early) {
                next = cursor.next(source)?;
            }
            others.push((cursor, next));
        }
        Ok(Some(Near { first, primary, others }))
    }
}

fn is_timed(sample: &Sample) -> bool {
    sample.decode_ticks >= 0
}
