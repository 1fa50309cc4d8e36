//! Walks one stream of a recording, packet after packet, and times its access units.

use std::io::{Read, Seek};

use super::super::boxes::Source;
use super::super::track::{Packets, Sample, rescale};
use super::super::{ContainerError, End};
use super::framer::Framer;
use super::packets::PacketReader;
use super::tables::Stream;
use super::unit::Unit;
use super::watch::{MOST_APART_TICKS, Seen, TICKS_PER_SECOND, Times, Watch};

/// A picture's length where it is the only one.
const LONE_PICTURE_TICKS: u32 = TICKS_PER_SECOND / 25;

/// Hands out one track's samples in decode order.
#[derive(Debug)]
pub(crate) struct Cursor {
    track: usize,
    pid: u16,
    packets: PacketReader,
    watch: Watch,
    framer: Framer,
    clock: UnitClock,
    /// The last sample: how long it is shown is told by the next.
    waiting: Option<Sample>,
    end: Option<End>,
}

impl Cursor {
    /// Walks `stream`, one of the recording's `streams`, from `start` on.
    pub(super) fn new(
        track: usize,
        stream: Stream,
        streams: &[Stream],
        stride: u8,
        start: u64,
    ) -> Cursor {
        Cursor {
            track,
            pid: stream.pid,
            packets: PacketReader::new(stride, start),
            watch: Watch::new(streams, start),
            framer: Framer::new(&stream),
            clock: UnitClock::default(),
            waiting: None,
            end: None,
        }
    }

    /// Before the first sample: what the clock shows where the walk begins, which is not where the recording does.
    pub(super) fn goes_on_from(&mut self, clock: i64) {
        self.watch.goes_on_from(clock);
    }

    pub(in super::super) fn next<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<Option<Sample>, ContainerError> {
        loop {
            while let Some(unit) = self.framer.pop() {
                let Some(sample) = self.sample(&unit) else { continue };
                if let Some(mut whole) = self.waiting.replace(sample) {
                    let ticks = sample.decode_ticks - whole.decode_ticks;
                    let told = u32::try_from(ticks)
                        .ok()
                        .filter(|told| (1..=MOST_APART_TICKS as u32).contains(told));
                    whole.duration = told.unwrap_or(whole.duration);
                    return Ok(Some(whole));
                }
            }
            if self.end.is_some() {
                return Ok(self.waiting.take());
            }
            self.next_packet(source)?;
        }
    }

    /// How the recording ends; known once the last sample was handed out.
    pub(in super::super) fn end(&self) -> End {
        self.end.unwrap_or(End::torn(self.packets.at()))
    }

    fn next_packet<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<(), ContainerError> {
        let Some(packet) = self.packets.next(source)? else {
            let whole = self.packets.at();
            self.end = Some(End { whole, torn: whole < source.end, next: None });
            self.framer.finish();
            return Ok(());
        };
        match self.watch.see(&packet) {
            Seen::Media(times) if packet.pid == self.pid => self.framer.push(&packet, times),
            Seen::Media(_) | Seen::Other => {}
            Seen::Next(at) => {
                self.end = Some(End { whole: at, torn: false, next: Some(at) });
                self.framer.finish();
            }
        }
        Ok(())
    }

    /// `None` where nothing tells when it is.
    fn sample(&mut self, unit: &Unit) -> Option<Sample> {
        let (times, ticks) = self.clock.time(unit)?;
        let composition = times.shown - times.decoded;
        Some(Sample {
            track: self.track,
            decode_ticks: times.decoded,
            composition_offset: i32::try_from(composition).unwrap_or(0),
            duration: ticks,
            size_bytes: unit.size_bytes,
            offset: unit.begins.offset,
            keyframe: unit.keyframe,
            packets: Some(Packets {
                skip: unit.begins.skip,
                elementary_bytes: unit.elementary_bytes,
                stored_bytes: u32::try_from(unit.end - unit.begins.offset).ok()?,
            }),
        })
    }
}

/// When units are that have no times of their own: all but the first to begin in a PES packet.
#[derive(Default, Debug)]
struct UnitClock {
    /// When the last one was decoded, and of sound its length.
    last: Option<(i64, Option<(u32, u32)>)>,
    /// From one picture to the next.
    step: Option<u32>,
}

impl UnitClock {
    /// A unit's times, and its length as far as that is known without the next.
    fn time(&mut self, unit: &Unit) -> Option<(Times, u32)> {
        let times = unit.times.or_else(|| {
            let (last, length) = self.last?;
            let decoded = match length {
                Some((samples, rate)) => after(last, samples, rate),
                None => last + i64::from(self.step.unwrap_or(LONE_PICTURE_TICKS)),
            };
            Some(Times { decoded, shown: decoded })
        })?;
        let step = self.last.and_then(|(last, _)| u32::try_from(times.decoded - last).ok());
        self.step = step.filter(|step| *step > 0).or(self.step);
        self.last = Some((times.decoded, unit.length));
        let ticks = match unit.length {
            Some((samples, rate)) => length_ticks(samples, rate, 1) as u32,
            None => self.step.unwrap_or(LONE_PICTURE_TICKS),
        };
        Some((times, ticks))
    }
}

/// Ticks of so many frames of so many samples.
fn length_ticks(samples: u32, rate: u32, frames: i64) -> i64 {
    rescale(frames.saturating_mul(samples.into()), rate, TICKS_PER_SECOND)
}

/// One frame later. Frames seldom take whole ticks: counted in frames since tick zero, and rounded, no error adds
/// up, and ffmpeg counts the same.
fn after(ticks: i64, samples: u32, rate: u32) -> i64 {
    let samples_before = i128::from(ticks) * i128::from(rate);
    let frame = i128::from(samples.max(1)) * i128::from(TICKS_PER_SECOND);
    let frames = (samples_before + frame / 2).div_euclid(frame) as i64;
    let at = |frames| length_ticks(samples, rate, frames);
    at(frames + 1) + ticks - at(frames)
}
