//! Sound: frames that each have a header of their own, or fill a PES packet.

use std::collections::VecDeque;

use super::super::describe;
use super::super::track::Codec;
use super::tables::Stream;
use super::trail::{Place, Trail};
use super::unit::{Description, Unit};
use super::watch::Times;

const G711_SAMPLES_PER_SECOND: u32 = 8000;
/// One behind the other, these tell a codec that the tables do not.
const FRAMES_IN_A_ROW: u32 = 3;
/// Of Opus in any container (RFC 7845, 4).
const OPUS_SAMPLES_PER_SECOND: u32 = 48_000;

/// Cuts a stream of sound into frames.
#[derive(Debug)]
pub(super) struct Frames {
    codec: Codec,
    channels: u8,
    /// The beginning of the next frame, until its header is known.
    head: Vec<u8>,
    open: Option<Open>,
    /// What MP4 tells of the stream, of AAC; told by the first frame.
    specific: [u8; 2],
    /// Frames that were seen, and how many have to be for the codec to be believed.
    seen: u32,
    needed: u32,
}

/// A frame of which bytes are yet to come.
#[derive(Debug)]
struct Open {
    begins: Place,
    times: Option<Times>,
    bytes: u64,
    /// `None`: up to the next PES packet.
    left: Option<u64>,
    length: (u32, u32),
}

/// What the bytes at the beginning of a frame say.
enum Head {
    /// Nothing yet.
    Short,
    /// That no frame begins here.
    Wrong,
    Frame {
        header_bytes: usize,
        frame_bytes: usize,
        length: (u32, u32),
        specific: [u8; 2],
    },
}

impl Frames {
    pub(super) fn new(stream: &Stream) -> Self {
        Frames {
            codec: stream.codec,
            channels: stream.channels,
            head: Vec::new(),
            open: None,
            specific: [0; 2],
            seen: 0,
            needed: if stream.guessed { FRAMES_IN_A_ROW } else { 1 },
        }
    }

    /// What reached up to here has ended.
    pub(super) fn packet_begins(&mut self, trail: &Trail, ready: &mut VecDeque<Unit>) {
        if let Some(open) = self.open.take_if(|open| open.left.is_none()) {
            let samples = u32::try_from(open.bytes).unwrap_or(u32::MAX);
            close(Open { length: (samples, G711_SAMPLES_PER_SECOND), ..open }, trail, ready);
        }
    }

    /// Takes in the bytes that the trail has entered last.
    pub(super) fn push(&mut self, trail: &mut Trail, bytes: &[u8], ready: &mut VecDeque<Unit>) {
        let mut rest = bytes;
        while let Some((&first, after)) = rest.split_first() {
            let number = trail.bytes() - rest.len() as u64;
            if let Some(open) = &mut self.open {
                let left = open.left.unwrap_or(u64::MAX);
                let taken = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                rest = rest.get(taken..).unwrap_or_default();
                open.bytes += taken as u64;
                open.left = open.left.map(|left| left - taken as u64);
                if let Some(whole) = self.open.take_if(|open| open.left == Some(0)) {
                    close(whole, trail, ready);
                }
            } else if matches!(self.codec, Codec::Pcma | Codec::Pcmu) {
                self.seen = self.seen.saturating_add(1);
                let Some(begins) = trail.place(number) else { return };
                let times = trail.times(number);
                self.open = Some(Open { begins, times, bytes: 0, left: None, length: (0, 1) });
            } else {
                self.head.push(first);
                rest = after;
                self.read_head(number + 1, trail, ready);
            }
        }
    }

    /// `next` is the number of the byte behind the head.
    fn read_head(&mut self, next: u64, trail: &mut Trail, ready: &mut VecDeque<Unit>) {
        loop {
            let head = if self.codec == Codec::Aac { adts(&self.head) } else { opus(&self.head) };
            match head {
                Head::Short => return,
                Head::Wrong => {
                    self.head.remove(0);
                    if self.seen < self.needed {
                        self.seen = 0;
                    }
                }
                Head::Frame { header_bytes, frame_bytes, length, specific } => {
                    if self.seen == 0 {
                        self.specific = specific;
                    }
                    self.seen = self.seen.saturating_add(1);
                    let begins_at = next - self.head.len() as u64;
                    let taken = self.head.len() - header_bytes;
                    self.head.clear();
                    let times = trail.times(begins_at);
                    let Some(begins) = trail.place(begins_at + header_bytes as u64) else { return };
                    let left = Some((frame_bytes - taken) as u64);
                    let open = Open { begins, times, bytes: taken as u64, left, length };
                    if left == Some(0) {
                        close(open, trail, ready);
                    } else {
                        self.open = Some(open);
                    }
                    return;
                }
            }
        }
    }

    pub(super) fn description(&self) -> Option<Description> {
        (self.seen >= self.needed).then_some(())?;
        let sample_description = match self.codec {
            Codec::Aac => describe::aac(&self.specific),
            Codec::Opus => describe::opus(self.channels),
            codec => describe::g711(codec),
        };
        Some(Description { sample_description, width: 0, height: 0 })
    }
}

/// Hands out a frame whose last byte the trail has.
fn close(frame: Open, trail: &Trail, ready: &mut VecDeque<Unit>) {
    // Of the bytes entered last some may be of the next frame; all are in one packet.
    let Some(last) = trail.bytes().checked_sub(1).and_then(|number| trail.place(number)) else {
        return;
    };
    let Ok(bytes) = u32::try_from(frame.bytes) else { return };
    ready.push_back(Unit {
        begins: frame.begins,
        end: last.end,
        elementary_bytes: bytes,
        size_bytes: bytes,
        times: frame.times,
        length: Some(frame.length),
        keyframe: true,
    });
}

/// ISO/IEC 13818-7, 6.2 (ADTS). The header and one byte more.
fn adts(head: &[u8]) -> Head {
    if head.first().is_some_and(|first| *first != 0xff)
        || head.get(1).is_some_and(|second| second & 0xf6 != 0xf0)
    {
        return Head::Wrong;
    }
    let &[_, marks, a, b, c, d, e, _, ..] = head else { return Head::Short };
    let header_bytes = if marks & 1 == 1 { 7 } else { 9 };
    if head.len() <= header_bytes {
        return Head::Short;
    }
    let (object_type, rate_index) = ((a >> 6) + 1, a >> 2 & 0xf);
    let channels = (a & 1) << 2 | b >> 6;
    let all_bytes = usize::from(b & 3) << 11 | usize::from(c) << 3 | usize::from(d >> 5);
    let samples = (u32::from(e & 3) + 1) * 1024;
    let rate = describe::AAC_SAMPLES_PER_SECOND.get(usize::from(rate_index));
    match (rate, all_bytes.checked_sub(header_bytes)) {
        (Some(&rate), Some(frame_bytes)) if frame_bytes > 0 => Head::Frame {
            header_bytes,
            frame_bytes,
            length: (samples, rate),
            // The first two bytes of an AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1): all of it for AAC.
            specific: [object_type << 3 | rate_index >> 1, (rate_index & 1) << 7 | channels << 3],
        },
        _ => Head::Wrong,
    }
}

/// "Encapsulation of Opus in MPEG-TS", 4: a control header, and the first one or two bytes of the packet behind
/// it, which tell its length in time (RFC 6716, 3.1).
fn opus(head: &[u8]) -> Head {
    /// In samples, by configuration: silence-suppressing speech, hybrid, music.
    const SPEECH: [u32; 4] = [480, 960, 1920, 2880];
    const HYBRID: [u32; 2] = [480, 960];
    const MUSIC: [u32; 4] = [120, 240, 480, 960];
    if head.first().is_some_and(|first| *first != 0x7f)
        || head.get(1).is_some_and(|second| second & 0xe0 != 0xe0)
    {
        return Head::Wrong;
    }
    let read = || {
        let &[_, flags, ref sizes @ ..] = head else { return None };
        let whole = sizes.iter().position(|byte| *byte != 0xff)?;
        let frame_bytes = sizes.get(..=whole)?.iter().map(|byte| usize::from(*byte)).sum::<usize>();
        let trims = usize::from(flags >> 4 & 1) + usize::from(flags >> 3 & 1);
        let mut header_bytes = 2 + whole + 1 + 2 * trims;
        if flags & 0x04 != 0 {
            header_bytes += 1 + usize::from(*head.get(header_bytes)?);
        }
        Some((header_bytes, frame_bytes))
    };
    // Sizes of 15 KB end within it.
    const MAX_SIZES_BYTES: usize = 64;
    let Some((header_bytes, frame_bytes)) = read() else {
        return if head.len() > MAX_SIZES_BYTES { Head::Wrong } else { Head::Short };
    };
    if frame_bytes == 0 {
        return Head::Wrong;
    }
    let packet = head.get(header_bytes..).unwrap_or_default();
    if packet.len() < frame_bytes.min(2) {
        return Head::Short;
    }
    let &[contents, ref more @ ..] = packet else { return Head::Short };
    let (configuration, code) = (usize::from(contents >> 3), contents & 3);
    let samples = match configuration {
        0..12 => SPEECH.get(configuration % 4),
        12..16 => HYBRID.get(configuration % 2),
        _ => MUSIC.get(configuration % 4),
    };
    let frames = match (code, more.first()) {
        (0, _) => 1,
        (1 | 2, _) => 2,
        (_, count) => u32::from(count.copied().unwrap_or(0) & 0x3f),
    };
    let length = (samples.copied().unwrap_or(0) * frames, OPUS_SAMPLES_PER_SECOND);
    Head::Frame { header_bytes, frame_bytes, length, specific: [0; 2] }
}
