//! What stands before the first cluster (RFC 9559, 5.1): the segment's clock, its tracks, where its cues are.
//!
//! Elements are read one at a time; nothing is held but what the tracks need.

use std::io::{Read, Seek};

use super::super::boxes::{Source, Window};
use super::super::track::{NANOS_PER_SECOND, Storage, Track, TrackKind, rescale};
use super::super::{ContainerError, MAX_TRACKS};
use super::codec::{self, Described};
use super::ebml::{Element, malformed};
use super::id;
use crate::time::Timestamp;

/// `CodecPrivate` is some hundred bytes of parameter sets.
const MAX_CODEC_PRIVATE_BYTES: u64 = 32 * 1024;
const MAX_NAME_BYTES: u64 = 64;
/// 2001-01-01T00:00:00Z, from where `DateUTC` counts (RFC 8794, 7.6).
const DATE_ZERO: Timestamp = Timestamp::from_unix_seconds(978_307_200);
/// RFC 9559, 5.1.4.1.3.
const VIDEO: u64 = 1;
const AUDIO: u64 = 2;

#[derive(Debug)]
pub(super) struct Head {
    pub(super) tracks: Vec<TrackHead>,
    pub(super) clock: Clock,
    /// When the muxer began, by its own word.
    pub(super) began_at: Option<Timestamp>,
    /// Positions count from its body.
    pub(super) segment: Element,
    /// Where the cues are said to be.
    pub(super) cues: Option<u64>,
    /// Where the first cluster stands; what else ends the head where there is none.
    pub(super) first_cluster: u64,
}

/// A track, and what its blocks need to be understood.
#[derive(Clone, Debug)]
pub(super) struct TrackHead {
    pub(super) track: Track,
    /// By which blocks name it.
    pub(super) number: u64,
    pub(super) frame_ns: Option<u64>,
    /// What a decoder needs to get going, to be taken off each time stamp (`CodecDelay`).
    pub(super) delay_ns: u64,
}

/// The segment's ticks, of any length in nanoseconds, and those that its tracks are given: as many a second
/// as there are where that is a whole number up to a million, else a million.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    tick_ns: u64,
    pub(super) timescale: u32,
}

impl Clock {
    /// What holds where nothing is said.
    const MILLISECONDS: Clock = Clock { tick_ns: 1_000_000, timescale: 1000 };

    fn new(tick_ns: u64) -> Option<Clock> {
        const FINEST: u32 = 1_000_000;
        let ticks_a_second = u64::from(NANOS_PER_SECOND).checked_div(tick_ns)?;
        let whole = ticks_a_second * tick_ns == u64::from(NANOS_PER_SECOND);
        let fits = u32::try_from(ticks_a_second).ok().filter(|&ticks| whole && ticks <= FINEST);
        Some(Clock { tick_ns, timescale: fits.unwrap_or(FINEST) })
    }

    /// From the segment's ticks to a track's.
    pub(super) fn ticks(self, segment_ticks: i64) -> i64 {
        if u64::from(self.timescale) * self.tick_ns == u64::from(NANOS_PER_SECOND) {
            return segment_ticks;
        }
        let nanos = i128::from(segment_ticks) * i128::from(self.tick_ns);
        self.of_nanos(nanos.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
    }

    pub(super) fn of_nanos(self, nanos: i64) -> i64 {
        rescale(nanos, NANOS_PER_SECOND, self.timescale)
    }
}

impl Head {
    /// Of the recording that begins at `start`, with its EBML header or right with its segment.
    pub(super) fn read<R: Read + Seek>(
        source: &mut Source<'_, R>,
        window: &mut Window,
        start: u64,
    ) -> Result<Head, ContainerError> {
        let segment = find_segment(source, window, start)?;
        let (mut clock, mut drafts) = (Clock::MILLISECONDS, None);
        let (mut began_at, mut cues) = (None, None);
        let mut at = segment.body;
        // Up to the first cluster, or the first that is not whole.
        while let Some(element) = Element::read(source, window, at)? {
            match element.id {
                id::CLUSTER | id::EBML | id::SEGMENT => break,
                _ if !element.within(source.end) => break,
                id::INFO => (clock, began_at) = read_info(source, window, element)?,
                id::TRACKS => drafts = Some(read_tracks(source, window, element)?),
                id::SEEK_HEAD if cues.is_none() => {
                    let position = find_cues(source, window, element)?;
                    cues = position.and_then(|position| segment.body.checked_add(position));
                }
                id::CUES => cues = Some(element.start),
                _ => {}
            }
            at = element.end;
        }
        let drafts = drafts.ok_or(ContainerError::NoIndex)?;
        let tracks = drafts.into_iter().filter_map(|draft| draft.finish(clock).transpose());
        Ok(Head {
            tracks: tracks.collect::<Result<_, _>>()?,
            clock,
            began_at,
            segment,
            cues,
            first_cluster: at,
        })
    }
}

/// Whether a Matroska file (or WebM, which is one) begins at `at`: its header says so (RFC 8794, 11.2.1).
pub(super) fn is_matroska<R: Read + Seek>(
    source: &mut Source<'_, R>,
    window: &mut Window,
    at: u64,
) -> Result<bool, ContainerError> {
    let Some(header) = Element::read(source, window, at)?.filter(|it| it.id == id::EBML) else {
        return Ok(false);
    };
    let mut at = header.body;
    let end = header.end.min(source.end);
    loop {
        match Element::read_child(source, window, at, end) {
            Ok(Some(child)) if child.id == id::DOC_TYPE => {
                let name = trimmed(child.head(source, window, MAX_NAME_BYTES)?);
                return Ok([&b"matroska"[..], b"webm"].contains(&name));
            }
            Ok(Some(child)) => at = child.end,
            Err(error @ ContainerError::Io(_)) => return Err(error),
            Ok(None) | Err(_) => return Ok(false),
        }
    }
}

/// The segment of the recording that begins at `at`.
fn find_segment<R: Read + Seek>(
    source: &mut Source<'_, R>,
    window: &mut Window,
    mut at: u64,
) -> Result<Element, ContainerError> {
    loop {
        let element = Element::read(source, window, at)?.ok_or(ContainerError::NoIndex)?;
        if element.id == id::SEGMENT {
            return Ok(element);
        }
        if element.id == id::EBML && !is_matroska(source, window, at)? {
            return malformed(at, "not a Matroska header");
        }
        if !element.within(source.end) {
            return Err(ContainerError::NoIndex);
        }
        at = element.end;
    }
}

/// `Info` (5.1.2): how long a tick is, and when the muxer began.
fn read_info<R: Read + Seek>(
    source: &mut Source<'_, R>,
    window: &mut Window,
    info: Element,
) -> Result<(Clock, Option<Timestamp>), ContainerError> {
    let (mut clock, mut began_at) = (Clock::MILLISECONDS, None);
    let mut at = info.body;
    while let Some(child) = Element::read_child(source, window, at, info.end)? {
        at = child.end;
        match child.id {
            id::TIMESTAMP_SCALE => {
                let known = Clock::new(child.unsigned(source, window)?);
                clock = known.map_or(malformed(child.start, "a tick of no length"), Ok)?;
            }
            id::DATE_UTC => {
                let nanos = child.unsigned(source, window)? as i64;
                began_at = Some(DATE_ZERO.saturating_offset(nanos));
            }
            _ => {}
        }
    }
    Ok((clock, began_at))
}

/// Where a `SeekHead` (5.1.1) says that the cues are, counted from the segment's body.
fn find_cues<R: Read + Seek>(
    source: &mut Source<'_, R>,
    window: &mut Window,
    seek_head: Element,
) -> Result<Option<u64>, ContainerError> {
    let mut at = seek_head.body;
    while let Some(seek) = Element::read_child(source, window, at, seek_head.end)? {
        at = seek.end;
        if seek.id != id::SEEK {
            continue;
        }
        let (mut wanted, mut position) = (None, None);
        let mut field = seek.body;
        while let Some(child) = Element::read_child(source, window, field, seek.end)? {
            field = child.end;
            match child.id {
                id::SEEK_ID => wanted = Some(child.unsigned(source, window)?),
                id::SEEK_POSITION => position = Some(child.unsigned(source, window)?),
                _ => {}
            }
        }
        if wanted == Some(id::CUES.into()) {
            return Ok(position);
        }
    }
    Ok(None)
}

/// What the elements of a `TrackEntry` (5.1.4.1) say, in any order.
#[derive(Default)]
struct TrackDraft {
    offset: u64,
    number: u64,
    kind: u64,
    frame_ns: Option<u64>,
    delay_ns: u64,
    encoded: bool,
    described: Described,
}

fn read_tracks<R: Read + Seek>(
    source: &mut Source<'_, R>,
    window: &mut Window,
    tracks: Element,
) -> Result<Vec<TrackDraft>, ContainerError> {
    let mut drafts = Vec::new();
    let mut at = tracks.body;
    while let Some(entry) = Element::read_child(source, window, at, tracks.end)? {
        at = entry.end;
        if entry.id != id::TRACK_ENTRY {
            continue;
        }
        if drafts.len() == MAX_TRACKS {
            let (what, limit) = ("the number of tracks", MAX_TRACKS as u64);
            return Err(ContainerError::TooLarge { offset: entry.start, what, limit });
        }
        let mut draft = TrackDraft { offset: entry.start, ..TrackDraft::default() };
        draft.read(source, window, entry)?;
        drafts.push(draft);
    }
    Ok(drafts)
}

impl TrackDraft {
    /// Takes in the elements of a `TrackEntry`, with those of its `Video` and `Audio` in line: none of these
    /// has an id that another has.
    fn read<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
        window: &mut Window,
        entry: Element,
    ) -> Result<(), ContainerError> {
        let mut at = entry.body;
        while let Some(child) = Element::read_child(source, window, at, entry.end)? {
            at = if matches!(child.id, id::VIDEO | id::AUDIO) { child.body } else { child.end };
            let described = &mut self.described;
            match child.id {
                id::TRACK_NUMBER => self.number = child.unsigned(source, window)?,
                id::TRACK_TYPE => self.kind = child.unsigned(source, window)?,
                id::DEFAULT_DURATION => self.frame_ns = Some(child.unsigned(source, window)?),
                id::CODEC_DELAY => self.delay_ns = child.unsigned(source, window)?,
                id::CONTENT_ENCODINGS => self.encoded = true,
                id::CODEC_ID => {
                    let name = child.bytes(source, window, "a codec's name", MAX_NAME_BYTES)?;
                    described.codec = trimmed(name).to_vec();
                }
                id::CODEC_PRIVATE => {
                    let (what, limit) = ("a codec's set-up", MAX_CODEC_PRIVATE_BYTES);
                    described.private = child.bytes(source, window, what, limit)?.to_vec();
                }
                id::PIXEL_WIDTH => described.width = narrowed(child.unsigned(source, window)?),
                id::PIXEL_HEIGHT => described.height = narrowed(child.unsigned(source, window)?),
                id::CHANNELS => described.channels = narrowed(child.unsigned(source, window)?),
                id::BIT_DEPTH => described.bits = narrowed(child.unsigned(source, window)?),
                id::SAMPLING_FREQUENCY => {
                    described.samples_per_second = child.float(source, window)? as u32;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// `None` where it is neither picture nor sound, or sound that has no place in MP4 here.
    fn finish(self, clock: Clock) -> Result<Option<TrackHead>, ContainerError> {
        let kind = match self.kind {
            VIDEO => TrackKind::Video,
            AUDIO => TrackKind::Audio,
            _ => return Ok(None),
        };
        let unsupported = |what| Err(ContainerError::Unsupported { offset: self.offset, what });
        if self.encoded {
            return unsupported("a track whose frames are compressed or encrypted");
        }
        let Some((codec, sample_description)) = codec::describe(kind, &self.described) else {
            return match kind {
                TrackKind::Video => unsupported("the codec of a track's pictures"),
                _ => Ok(None),
            };
        };
        let is_video = kind == TrackKind::Video;
        Ok(Some(TrackHead {
            track: Track {
                track_id: u32::try_from(self.number).unwrap_or(u32::MAX),
                kind,
                codec,
                timescale: clock.timescale,
                sample_description,
                width: if is_video { self.described.width } else { 0 },
                height: if is_video { self.described.height } else { 0 },
                zero_ticks: 0,
                storage: Storage::Contiguous,
            },
            number: self.number,
            frame_ns: self.frame_ns.filter(|&ns| ns > 0),
            delay_ns: self.delay_ns,
        }))
    }
}

fn narrowed(number: u64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// A string may be filled up with zeroes (RFC 8794, 7.4).
fn trimmed(name: &[u8]) -> &[u8] {
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    name.get(..end).unwrap_or_default()
}
