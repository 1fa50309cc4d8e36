//! Codecs by their Matroska names, with what a decoder is set up with (RFC 9559, 27.2; the codec registry).
//!
//! Only what can be put into MP4 as it stands: frames are never touched.

use super::super::describe;
use super::super::track::{Codec, TrackKind};

/// What a `TrackEntry` says of its codec.
#[derive(Debug)]
pub(super) struct Described {
    /// `CodecID`.
    pub(super) codec: Vec<u8>,
    /// `CodecPrivate`.
    pub(super) private: Vec<u8>,
    pub(super) width: u16,
    pub(super) height: u16,
    pub(super) channels: u16,
    pub(super) bits: u16,
    pub(super) samples_per_second: u32,
}

/// The values that elements have when left out.
impl Default for Described {
    fn default() -> Self {
        Described {
            codec: Vec::new(),
            private: Vec::new(),
            width: 0,
            height: 0,
            channels: 1,
            bits: 16,
            samples_per_second: 8000,
        }
    }
}

/// The codec and its sample description; `None` where it is not known here, or not set up.
pub(super) fn describe(kind: TrackKind, described: &Described) -> Option<(Codec, Vec<u8>)> {
    /// A few in fact.
    const MAX_AAC_BYTES: usize = 64;
    let Described { codec, private, width, height, channels, bits, samples_per_second } = described;
    let set_up = Some(private.as_slice()).filter(|bytes| !bytes.is_empty());
    let pictures = |entry, configuration: [u8; 4]| {
        Some((entry, describe::pictures(entry, (*width, *height), (configuration, set_up?))))
    };
    let (entry, description) = match (kind, codec.as_slice()) {
        (TrackKind::Video, b"V_MPEG4/ISO/AVC") => pictures(*b"avc1", *b"avcC")?,
        (TrackKind::Video, b"V_MPEGH/ISO/HEVC") => pictures(*b"hvc1", *b"hvcC")?,
        (TrackKind::Audio, name) if name.starts_with(b"A_AAC") => {
            let specific = set_up.filter(|bytes| bytes.len() <= MAX_AAC_BYTES)?;
            (*b"mp4a", describe::aac(specific))
        }
        (TrackKind::Audio, b"A_OPUS") => {
            let specific = opus_specific(set_up?)?;
            let configuration = Some((*b"dOps", specific.as_slice()));
            (*b"Opus", describe::sound(*b"Opus", *channels, 48_000, configuration))
        }
        (TrackKind::Audio, name) => {
            let entry = uncompressed(name, private, *bits)?;
            (entry, describe::sound(entry, *channels, *samples_per_second, None))
        }
        _ => return None,
    };
    Some((Codec::of_sample_entry(entry), description))
}

/// The body of `dOps`, version 0 (Encapsulation of Opus in ISO Base Media, 4.3.2), given Opus's identification
/// header (RFC 7845, 5.1), whose fields are little-endian.
fn opus_specific(identification_header: &[u8]) -> Option<Vec<u8>> {
    let fields = identification_header.strip_prefix(b"OpusHead")?;
    let (&[_, channels, skip_low, skip_high, a, b, c, d, gain_low, gain_high, family], mapping) =
        fields.split_first_chunk()?;
    let mut body = vec![0, channels, skip_high, skip_low, d, c, b, a, gain_high, gain_low, family];
    body.extend_from_slice(if family == 0 { &[] } else { mapping });
    Some(body)
}

/// The sample entry of PCM: of 16 bits, and of the eight bits of G.711, which Matroska has by its number in
/// Microsoft's WAVEFORMATEX.
fn uncompressed(codec: &[u8], private: &[u8], bits: u16) -> Option<[u8; 4]> {
    const A_LAW: [u8; 2] = [6, 0];
    const MU_LAW: [u8; 2] = [7, 0];
    match (codec, private.first_chunk()) {
        (b"A_MS/ACM", Some(&A_LAW)) => Some(*b"alaw"),
        (b"A_MS/ACM", Some(&MU_LAW)) => Some(*b"ulaw"),
        (b"A_PCM/INT/LIT", _) if bits == 16 => Some(*b"sowt"),
        (b"A_PCM/INT/BIG", _) if bits == 16 => Some(*b"twos"),
        _ => None,
    }
}
