//! MPEG-TS (ISO/IEC 13818-1), with packets of 188 bytes or, as in M2TS, of 192.
//!
//! There is no index: the samples of a track are found by reading all of the file, forwards. Times are those of the
//! PES packets; keyframes are told from the pictures' NAL units, since recorders forget the random access indicator;
//! what a decoder needs is taken from the streams themselves. In the order of the bytes: `packets`, `tables` and
//! `watch` (where a recording ends), `pes`, `trail` and `unit` with `pictures` and `frames`, `cursor`.

mod cursor;
mod framer;
mod frames;
mod near;
mod packets;
mod parameter_sets;
mod pes;
mod pictures;
mod sample;
mod tables;
mod tail;
mod trail;
mod unit;
mod watch;

use std::io::{Read, Seek};

use super::ContainerError;
use super::boxes::Source;
use super::in_band::{self, InBandKind, InBandTime};
use super::track::{
    Codec, MediaTime, NANOS_PER_SECOND, Sample, Storage, Track, TrackKind, rescale,
};
pub(crate) use cursor::Cursor;
use framer::Framer;
pub(super) use packets::Grid;
use packets::PacketReader;
pub(super) use sample::read_sample;
use tables::{Stream, Table, Tables};
use unit::{Description, LENGTH_BYTES};
use watch::{Seen, TICKS_PER_SECOND, Times, Watch};

/// A recording that begins right after a keyframe tells its parameter sets with the next: 10 s at 12 Mbit/s.
const MAX_HEAD_BYTES: u64 = 16 * 1024 * 1024;
/// Streams that are not heard of for so long after the pictures are described hold nothing.
const PATIENCE_TICKS: i64 = 2 * TICKS_PER_SECOND as i64;

/// Streams that go together on one clock.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(super) tracks: Vec<Track>,
    /// The first track of pictures, else the first.
    pub(super) primary: usize,
    /// All that the program map names; and by track, which of them it is.
    streams: Vec<Stream>,
    stream_of_track: Vec<usize>,
    stride: u8,
    start: u64,
    /// The first decode time of any stream that is known for what it is.
    clock: i64,
}

impl Recording {
    pub(super) fn cursor(&self, track: usize) -> Option<Cursor> {
        self.cursor_from(track, self.start)
    }

    fn cursor_from(&self, track: usize, start: u64) -> Option<Cursor> {
        let stream = self.streams.get(*self.stream_of_track.get(track)?)?;
        Some(Cursor::new(track, *stream, &self.streams, self.stride, start))
    }

    /// One that begins where the recording's clock shows `clock`, and counts on from that.
    fn cursor_going_on(&self, track: usize, start: u64, clock: i64) -> Option<Cursor> {
        let mut cursor = self.cursor_from(track, start)?;
        cursor.goes_on_from(clock);
        Some(cursor)
    }

    /// By how much the clock leapt where the recording before ended and this one begins, if both are of the
    /// same streams; each one's zero has the media time of those before it.
    pub(super) fn leap_since(&self, before: &Recording) -> Option<i64> {
        let (this, before_it) =
            (self.tracks.get(self.primary)?, before.tracks.get(before.primary)?);
        let same = self.streams == before.streams && this.track_id == before_it.track_id;
        let ticks = pes::distance(before_it.zero_ticks, this.zero_ticks);
        same.then(|| ticks * i64::from(NANOS_PER_SECOND) / i64::from(TICKS_PER_SECOND))
    }

    /// When the first picture says that it was made.
    pub(super) fn in_band<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        first: &Sample,
    ) -> Result<Option<InBandTime>, ContainerError> {
        let Some(track) = self.tracks.get(self.primary) else { return Ok(None) };
        let mut bytes = Vec::new();
        if track.kind != TrackKind::Video || read_sample(source, track, first, &mut bytes).is_err()
        {
            return Ok(None);
        }
        let utc = in_band::precision_time_stamp(&bytes, track.codec, LENGTH_BYTES);
        let (media, kind) = (first.starts_at(track), InBandKind::PrecisionTimeStamp);
        Ok(utc.map(|utc| InBandTime { media, utc, kind }))
    }
}

/// The first recording at or after `at` that holds samples; its media time begins at `zero`.
pub(super) fn find_recording<R: Read + Seek>(
    source: &mut Source<'_, R>,
    grid: Grid,
    at: u64,
    zero: MediaTime,
) -> Result<Recording, ContainerError> {
    let mut at = at.max(grid.first);
    loop {
        let streams = find_streams(source, grid, at)?;
        let mut head = Head::new(&streams, grid.stride, at);
        let next = head.read(source)?;
        match head.recording(zero) {
            Some(recording) => return Ok(recording),
            None => at = next.ok_or(ContainerError::NoSamples)?,
        }
    }
}

/// The first program map at or after `at`.
fn find_streams<R: Read + Seek>(
    source: &mut Source<'_, R>,
    grid: Grid,
    at: u64,
) -> Result<Vec<Stream>, ContainerError> {
    let mut packets = PacketReader::new(grid.stride, at);
    let mut tables = Tables::default();
    while let Some(packet) = packets.next(source)? {
        if let Some(Table::Map(streams)) = tables.push(&packet) {
            return Ok(streams);
        }
        if packet.offset - at > MAX_HEAD_BYTES {
            break;
        }
    }
    Err(ContainerError::NotRecognised)
}

/// What the beginning of a recording tells of its streams.
struct Head<'s> {
    streams: &'s [Stream],
    stride: u8,
    start: u64,
    clock: Option<i64>,
    /// By stream.
    heard: Vec<Heard>,
}

struct Heard {
    framer: Framer,
    first: Option<Times>,
    description: Option<Description>,
}

impl Heard {
    fn update(&mut self) {
        while let Some(unit) = self.framer.pop() {
            self.first = self.first.or(unit.times);
        }
        if self.description.is_none() {
            self.description = self.framer.description();
        }
    }

    fn is_known(&self) -> bool {
        self.first.is_some() && self.description.is_some()
    }
}

impl<'s> Head<'s> {
    fn new(streams: &'s [Stream], stride: u8, start: u64) -> Self {
        let heard = |stream| Heard { framer: Framer::new(stream), first: None, description: None };
        let heard = streams.iter().map(heard).collect();
        Head { streams, stride, start, clock: None, heard }
    }

    /// Reads until all streams are known, or those that are not can be given up; says where the next recording
    /// begins if it comes to that.
    fn read<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<Option<u64>, ContainerError> {
        let mut packets = PacketReader::new(self.stride, self.start);
        let mut watch = Watch::new(self.streams, self.start);
        let mut next = None;
        while let Some(packet) = packets.next(source)? {
            match watch.see(&packet) {
                Seen::Next(at) => {
                    next = Some(at);
                    break;
                }
                Seen::Media(times) => {
                    self.clock = self.clock.or(watch.clock());
                    let streams = self.streams.iter().zip(&mut self.heard);
                    for (_, heard) in streams.filter(|(stream, _)| stream.pid == packet.pid) {
                        heard.framer.push(&packet, times);
                        heard.update();
                    }
                }
                Seen::Other => {}
            }
            if packet.begins && self.knows_enough(watch.clock(), packet.end - self.start) {
                return Ok(None);
            }
        }
        for heard in &mut self.heard {
            heard.framer.finish();
            heard.update();
        }
        Ok(next)
    }

    fn knows_enough(&self, clock: Option<i64>, bytes: u64) -> bool {
        let primary = self.streams.iter().position(|stream| kind(stream.codec) == TrackKind::Video);
        let waited = clock.zip(self.clock).is_some_and(|(now, first)| now - first > PATIENCE_TICKS);
        bytes > MAX_HEAD_BYTES
            || self.heard.iter().all(Heard::is_known)
            || waited && self.heard.get(primary.unwrap_or(0)).is_some_and(Heard::is_known)
    }

    /// The streams that hold something, as tracks; `None` where there are none.
    fn recording(self, zero: MediaTime) -> Option<Recording> {
        let mut tracks = Vec::new();
        let mut shown = Vec::new();
        let mut stream_of_track = Vec::new();
        for (index, (stream, heard)) in self.streams.iter().zip(self.heard).enumerate() {
            let (Some(first), Some(description)) = (heard.first, heard.description) else {
                continue;
            };
            shown.push(first.shown);
            stream_of_track.push(index);
            tracks.push(Track {
                track_id: stream.pid.into(),
                kind: kind(stream.codec),
                codec: stream.codec,
                timescale: TICKS_PER_SECOND,
                sample_description: description.sample_description,
                width: description.width,
                height: description.height,
                zero_ticks: 0,
                storage: Storage::TransportPackets { stride: self.stride },
            });
        }
        let primary = tracks.iter().position(|track| track.kind == TrackKind::Video).unwrap_or(0);
        let zero_ticks = shown.get(primary)? - rescale(zero.0, NANOS_PER_SECOND, TICKS_PER_SECOND);
        tracks.iter_mut().for_each(|track| track.zero_ticks = zero_ticks);
        let (streams, stride, start) = (self.streams.to_vec(), self.stride, self.start);
        let clock = self.clock.or(shown.get(primary).copied())?;
        Some(Recording { tracks, primary, streams, stream_of_track, stride, start, clock })
    }
}

fn kind(codec: Codec) -> TrackKind {
    match codec {
        Codec::H264 | Codec::H265 => TrackKind::Video,
        _ => TrackKind::Audio,
    }
}
