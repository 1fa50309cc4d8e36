//! The sample description of a track (`stsd`, ISO/IEC 14496-12, 8.5.2): what its first entry tells.

use super::boxes::Fields;
use super::track::{Codec, TrackKind};

/// What comes before the boxes of a sample entry: 8 bytes of any, then those of 12.1.3 and 12.2.3.
const VISUAL_FIELDS_BYTES: usize = 8 + 70;
const AUDIO_FIELDS_BYTES: usize = 8 + 20;

/// The first sample entry; `Default` where there is none.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct SampleEntry<'a> {
    kind: [u8; 4],
    body: &'a [u8],
}

impl<'a> SampleEntry<'a> {
    /// `sample_description` is a whole `stsd` box.
    pub(super) fn first_of(sample_description: &'a [u8]) -> Option<Self> {
        // The header of `stsd`, its version and flags, its count.
        let mut entries = fields(sample_description.get(16..)?);
        // A size that runs over is cut off: the four letters tell enough.
        let whole = entries.next_box("a sample entry").ok().flatten();
        let entry = whole.map(|(kind, body)| SampleEntry { kind, body: body.rest });
        entry.or_else(|| {
            let mut cut_off = fields(sample_description.get(20..)?);
            Some(SampleEntry { kind: cut_off.take().ok()?, body: cut_off.rest })
        })
    }

    pub(super) fn codec(&self) -> Codec {
        match &self.kind {
            b"mp4a" if self.object_type().is_some_and(|kind| matches!(kind, 0x69 | 0x6b)) => {
                Codec::Other(*b".mp3")
            }
            _ => Codec::of_sample_entry(self.kind),
        }
    }

    /// Width and height in pixels; zero where there are no pictures.
    pub(super) fn picture_size(&self, track: TrackKind) -> (u16, u16) {
        let size = || {
            let mut fields = fields(self.body.get(24..)?);
            Some((fields.u16().ok()?, fields.u16().ok()?))
        };
        size().filter(|_| track == TrackKind::Video).unwrap_or_default()
    }

    /// Bytes of the length that stands before each NAL unit, by `avcC` or `hvcC` (ISO/IEC 14496-15, 5.3.3 and
    /// 8.3.3).
    pub(super) fn length_bytes(&self) -> Option<u8> {
        let boxes = self.body.get(VISUAL_FIELDS_BYTES..)?;
        let length_size = match self.codec() {
            Codec::H264 => find(boxes, b"avcC")?.get(4)?,
            Codec::H265 => find(boxes, b"hvcC")?.get(21)?,
            _ => return None,
        };
        Some(length_size % 4 + 1)
    }

    /// Which coding an `mp4a` entry is of: 0x40 and 0x66 to 0x68 AAC, 0x69 and 0x6b MP3 (ISO/IEC 14496-1,
    /// 7.2.6.6 and table 5).
    fn object_type(&self) -> Option<u8> {
        // QuickTime's version 1 has four more fields, and its boxes may stand in a `wave` of their own.
        let version = fields(self.body.get(8..)?).u16().ok()?;
        let more = if version == 1 { 16 } else { 0 };
        let boxes = self.body.get(AUDIO_FIELDS_BYTES + more..)?;
        let boxes = find(boxes, b"wave").unwrap_or(boxes);
        let mut descriptors = find(boxes, b"esds")?.get(4..)?;
        let mut stream = descriptor(&mut descriptors, 3)?;
        let flags = *stream.get(2)?;
        stream = stream.get(3..)?;
        if flags & 0x80 != 0 {
            stream = stream.get(2..)?;
        }
        if flags & 0x40 != 0 {
            let url_bytes = usize::from(*stream.first()?);
            stream = stream.get(1 + url_bytes..)?;
        }
        if flags & 0x20 != 0 {
            stream = stream.get(2..)?;
        }
        descriptor(&mut stream, 4)?.first().copied()
    }
}

fn fields(bytes: &[u8]) -> Fields<'_> {
    Fields::new("stsd", 0, bytes)
}

/// The body of the first box of that type.
fn find<'a>(boxes: &'a [u8], wanted: &[u8; 4]) -> Option<&'a [u8]> {
    let mut boxes = fields(boxes);
    loop {
        let (kind, body) = boxes.next_box("a sample entry's box").ok()??;
        if kind == *wanted {
            return Some(body.rest);
        }
    }
}

/// Takes a descriptor off the front (ISO/IEC 14496-1, 8.3.3): its tag, its length in up to four bytes of seven
/// bits, its body. One that runs over is cut off.
fn descriptor<'a>(rest: &mut &'a [u8], wanted_tag: u8) -> Option<&'a [u8]> {
    let (&tag, mut behind) = rest.split_first()?;
    let mut length = 0;
    for _ in 0..4 {
        let (&byte, after) = behind.split_first()?;
        behind = after;
        length = length << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    let (body, behind) = behind.split_at(length.min(behind.len()));
    *rest = behind;
    (tag == wanted_tag).then_some(body)
}
