//! The end of a recording without what is between: its last packets, and a few glances at its clock on the way.

use std::io::{Read, Seek};

use super::super::ContainerError;
use super::super::boxes::Source;
use super::super::track::MediaTime;
use super::packets::PacketReader;
use super::watch::{MOST_APART_TICKS, Seen, Watch};
use super::{Cursor, Recording, pes};

/// The tail is first taken to be this long, then longer: at 10 Mbit/s two pictures, and 3 s.
const SHORTEST_TAIL_BYTES: u64 = 64 * 1024;
const LONGEST_TAIL_BYTES: u64 = 4 * 1024 * 1024;
/// Pictures are shown up to this many times later than the most that any in the tail is put off.
const REORDERING_MARGIN: i64 = 4;
/// Glances between head and tail, and how far one may lead for a time.
const GLANCES: u64 = 3;
const MAX_GLANCE_BYTES: u64 = 1024 * 1024;

impl Recording {
    /// A cursor after the last sample of the primary track, and when that has been shown.
    ///
    /// `None` where these need not be the recording's: another one begins in the tail, the clock does not go on
    /// evenly from head to tail, or the tail is too short to hold the picture that is shown last. A clock that
    /// leaps on by less than a stretch between glances ordinarily takes is not noticed.
    pub(in super::super) fn tail<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
    ) -> Result<Option<(Cursor, MediaTime)>, ContainerError> {
        let length = source.end.saturating_sub(self.start);
        let mut tail_bytes = SHORTEST_TAIL_BYTES;
        while tail_bytes <= LONGEST_TAIL_BYTES && tail_bytes < length / 2 {
            let start = self.on_grid(length - tail_bytes);
            let Some(mut cursor) = self.cursor_from(self.primary, start) else { return Ok(None) };
            let mut tail = Tail::default();
            while let Some(sample) = cursor.next(source)? {
                tail.see(sample.decode_ticks, sample.presentation_ticks(), sample.duration);
            }
            if cursor.end().next.is_some() {
                return Ok(None);
            }
            if let Some(first) = tail.first_decoded.filter(|_| tail.is_long_enough()) {
                let track = self.tracks.get(self.primary);
                let elapsed = self.elapsed(source, length, first)?;
                return Ok(elapsed.zip(track).map(|(elapsed, track)| {
                    let shown_until = self.clock + elapsed + (tail.shown_until - first);
                    (cursor, track.media_time(shown_until))
                }));
            }
            tail_bytes *= 2;
        }
        Ok(None)
    }

    /// Ticks from the head's first decode time to `last`, by way of the glances.
    fn elapsed<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        length: u64,
        last: i64,
    ) -> Result<Option<i64>, ContainerError> {
        let mut times = vec![self.clock];
        for glance in 1..=GLANCES {
            let at = self.on_grid(length / (GLANCES + 1) * glance);
            let Some(time) = self.clock_at(source, at)? else { return Ok(None) };
            times.push(time);
        }
        times.push(last);
        let steps =
            times.iter().zip(times.iter().skip(1)).map(|(from, to)| pes::distance(*from, *to));
        let elapsed: i64 = steps.clone().sum();
        let mean = elapsed / (GLANCES as i64 + 1);
        let even = |step: i64| (1..=MOST_APART_TICKS + 2 * mean).contains(&step);
        Ok(Some(elapsed).filter(|_| steps.clone().all(even)))
    }

    /// The next decode time of any stream.
    pub(super) fn clock_at<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        at: u64,
    ) -> Result<Option<i64>, ContainerError> {
        let mut packets = PacketReader::up_to(self.stride, at, at + MAX_GLANCE_BYTES);
        let mut watch = Watch::new(&self.streams, at);
        while let Some(packet) = packets.next(source)? {
            let leaves = matches!(watch.see(&packet), Seen::Next(_));
            if leaves || watch.clock().is_some() {
                return Ok(watch.clock());
            }
        }
        Ok(None)
    }

    /// Where a packet begins, `distance` or a little less from the start.
    pub(super) fn on_grid(&self, distance: u64) -> u64 {
        self.start + distance - distance % u64::from(self.stride.max(1))
    }
}

/// What is seen of the primary track's tail, in ticks.
#[derive(Default)]
struct Tail {
    first_decoded: Option<i64>,
    shown_until: i64,
    most_put_off: i64,
    samples: u32,
}

impl Tail {
    fn see(&mut self, decoded: i64, shown: i64, duration: u32) {
        let until = shown + i64::from(duration);
        self.shown_until = if self.samples == 0 { until } else { self.shown_until.max(until) };
        self.first_decoded.get_or_insert(decoded);
        self.most_put_off = self.most_put_off.max(shown - decoded);
        self.samples += 1;
    }

    /// No picture before the tail is shown last, and the last one's length was told by others.
    fn is_long_enough(&self) -> bool {
        let length = self.first_decoded.map_or(0, |first| self.shown_until - first);
        self.samples > 2 && length > self.most_put_off * REORDERING_MARGIN
    }
}
