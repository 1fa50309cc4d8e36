//! Parameter sets as they come in the stream, made into what MP4 has of them (`avcC` and `hvcC`, ISO/IEC
//! 14496-15, 5.3.3 and 8.3.3).
//!
//! Of a sequence parameter set as much is read as these boxes repeat, and the picture's size; no more.

use super::super::describe;
use super::super::in_band::without_emulation_prevention;
use super::super::track::Codec;
use super::unit::{Description, LENGTH_BYTES};

/// Different parameter sets of a kind that are kept; a stream has one of each, rarely a few.
const MAX_SETS: usize = 8;
/// With 4 bytes before each NAL unit.
const LENGTH_SIZE_MINUS_ONE: u8 = LENGTH_BYTES - 1;

#[derive(Debug)]
pub(super) struct ParameterSets {
    codec: Codec,
    /// Video (H.265 only), sequence and picture parameter sets.
    kinds: [Vec<Vec<u8>>; 3],
}

impl ParameterSets {
    pub(super) fn new(codec: Codec) -> Self {
        ParameterSets { codec, kinds: Default::default() }
    }

    /// Keeps a whole NAL unit if it is one of them, and not yet known.
    pub(super) fn offer(&mut self, nal: &[u8]) {
        let first = nal.first().copied().unwrap_or(0);
        let [video, sequence, picture] = &mut self.kinds;
        let kind = match (self.codec, first & 0x1f, first >> 1 & 0x3f) {
            (Codec::H265, _, 32) => video,
            (Codec::H264, 7, _) | (Codec::H265, _, 33) => sequence,
            (Codec::H264, 8, _) | (Codec::H265, _, 34) => picture,
            _ => return,
        };
        if kind.len() < MAX_SETS && !kind.iter().any(|known| known == nal) {
            kind.push(nal.to_vec());
        }
    }

    pub(super) fn are_complete(&self) -> bool {
        let [video, sequence, picture] = &self.kinds;
        (self.codec == Codec::H264 || !video.is_empty())
            && !sequence.is_empty()
            && !picture.is_empty()
    }

    /// `None` where they cannot be read.
    pub(super) fn description(&self) -> Option<Description> {
        let (size, sample_description) = if self.codec == Codec::H264 {
            let (size, configuration) = self.avc()?;
            (size, describe::pictures(*b"avc1", size, (*b"avcC", &configuration)))
        } else {
            let (size, configuration) = self.hevc()?;
            // `hev1`: they come in the stream too.
            (size, describe::pictures(*b"hev1", size, (*b"hvcC", &configuration)))
        };
        let (width, height) = size;
        Some(Description { sample_description, width, height })
    }

    fn avc(&self) -> Option<((u16, u16), Vec<u8>)> {
        let [_, sequences, pictures] = &self.kinds;
        let sps = sequences.first()?;
        let &[_, profile, compatibility, level, ..] = sps.as_slice() else { return None };
        let sequence = AvcSequence::read(sps)?;
        let mut avcc = vec![1, profile, compatibility, level, 0xfc | LENGTH_SIZE_MINUS_ONE];
        avcc.push(0xe0 | sequences.len() as u8);
        sequences.iter().for_each(|set| push_set(&mut avcc, set));
        avcc.push(pictures.len() as u8);
        pictures.iter().for_each(|set| push_set(&mut avcc, set));
        if matches!(profile, 100 | 110 | 122 | 144) {
            avcc.push(0xfc | sequence.format.chroma);
            avcc.push(0xf8 | sequence.format.luma_bits_over_8);
            avcc.push(0xf8 | sequence.format.chroma_bits_over_8);
            avcc.push(0);
        }
        Some((sequence.size, avcc))
    }

    fn hevc(&self) -> Option<((u16, u16), Vec<u8>)> {
        let [_, sequences, _] = &self.kinds;
        let sequence = HevcSequence::read(sequences.first()?)?;
        let mut hvcc = vec![1];
        hvcc.extend_from_slice(&sequence.profile_and_level);
        // No spatial segmentation, parallelism not known.
        hvcc.extend([0xf0, 0, 0xfc]);
        hvcc.push(0xfc | sequence.format.chroma);
        hvcc.push(0xf8 | sequence.format.luma_bits_over_8);
        hvcc.push(0xf8 | sequence.format.chroma_bits_over_8);
        // The frame rate is not known.
        hvcc.extend([0, 0]);
        hvcc.push(
            (sequence.temporal_layers & 7) << 3
                | u8::from(sequence.nested) << 2
                | LENGTH_SIZE_MINUS_ONE,
        );
        hvcc.push(self.kinds.len() as u8);
        for (kind, sets) in (32..).zip(&self.kinds) {
            hvcc.extend([kind, 0, sets.len() as u8]);
            sets.iter().for_each(|set| push_set(&mut hvcc, set));
        }
        Some((sequence.size, hvcc))
    }
}

fn push_set(into: &mut Vec<u8>, set: &[u8]) {
    into.extend((set.len() as u16).to_be_bytes());
    into.extend_from_slice(set);
}

/// How a picture's samples are stored.
#[derive(Clone, Copy, Debug)]
struct Format {
    chroma: u8,
    luma_bits_over_8: u8,
    chroma_bits_over_8: u8,
}

/// What is needed of an H.264 sequence parameter set (H.264, 7.3.2.1.1).
struct AvcSequence {
    format: Format,
    size: (u16, u16),
}

impl AvcSequence {
    fn read(sps: &[u8]) -> Option<Self> {
        let bytes = without_emulation_prevention(sps.get(1..)?);
        let mut bits = Bits::new(&bytes);
        let profile = bits.take(8)?;
        bits.take(16)?;
        bits.number()?; // seq_parameter_set_id
        let mut format = Format { chroma: 1, luma_bits_over_8: 0, chroma_bits_over_8: 0 };
        if matches!(
            profile,
            100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135
        ) {
            format = Format::read(&mut bits)?;
            bits.take(1)?; // qpprime_y_zero_transform_bypass_flag
            if bits.flag()? {
                let lists = if format.chroma == 3 { 12 } else { 8 };
                for list in 0..lists {
                    if bits.flag()? {
                        skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        bits.number()?; // log2_max_frame_num_minus4
        match bits.number()? {
            0 => drop(bits.number()?),
            1 => {
                bits.take(1)?;
                bits.number()?;
                bits.number()?;
                for _ in 0..bits.number()?.min(255) {
                    bits.number()?;
                }
            }
            _ => {}
        }
        bits.number()?; // max_num_ref_frames
        bits.take(1)?;
        let width = u64::from(bits.number()?) + 1;
        let map_height = u64::from(bits.number()?) + 1;
        let frames_only = bits.flag()?;
        if !frames_only {
            bits.take(1)?;
        }
        bits.take(1)?; // direct_8x8_inference_flag
        let fields = if frames_only { 1 } else { 2 };
        let (unit_x, unit_y) = format.cropping_units();
        let crop = Cropping::read(&mut bits)?;
        let size = crop.applied(width * 16, map_height * 16 * fields, unit_x, unit_y * fields);
        Some(AvcSequence { format, size })
    }
}

/// H.264, 7.3.2.1.1.1.
fn skip_scaling_list(bits: &mut Bits<'_>, entries: usize) -> Option<()> {
    let (mut last, mut next) = (8i64, 8i64);
    for _ in 0..entries {
        if next != 0 {
            next = (last + bits.signed_number()? + 256) % 256;
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// What is needed of an H.265 sequence parameter set (H.265, 7.3.2.2.1).
struct HevcSequence {
    /// The general part of `profile_tier_level`, whose 12 bytes stand in `hvcC` as here.
    profile_and_level: [u8; 12],
    temporal_layers: u8,
    nested: bool,
    format: Format,
    size: (u16, u16),
}

impl HevcSequence {
    fn read(sps: &[u8]) -> Option<Self> {
        let bytes = without_emulation_prevention(sps.get(2..)?);
        let (first, rest) = bytes.split_first()?;
        let (sub_layers, nested) = (first >> 1 & 7, first & 1 != 0);
        let (&profile_and_level, rest) = rest.split_first_chunk()?;
        let mut bits = Bits::new(rest);
        skip_sub_layers(&mut bits, sub_layers)?;
        bits.number()?; // sps_seq_parameter_set_id
        let chroma = Format::read_chroma(&mut bits)?;
        let width = u64::from(bits.number()?);
        let height = u64::from(bits.number()?);
        let crop = Cropping::read(&mut bits)?;
        let format = Format::read_depths(&mut bits, chroma)?;
        let (unit_x, unit_y) = format.cropping_units();
        let size = crop.applied(width, height, unit_x, unit_y);
        let temporal_layers = sub_layers + 1;
        Some(HevcSequence { profile_and_level, temporal_layers, nested, format, size })
    }
}

/// The rest of `profile_tier_level` (H.265, 7.3.3).
fn skip_sub_layers(bits: &mut Bits<'_>, sub_layers: u8) -> Option<()> {
    if sub_layers == 0 {
        return Some(());
    }
    let present: Vec<(bool, bool)> =
        (0..sub_layers).map(|_| Some((bits.flag()?, bits.flag()?))).collect::<Option<_>>()?;
    bits.take(2 * (8 - u32::from(sub_layers)))?;
    for (profile, level) in present {
        bits.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 })?;
    }
    Some(())
}

impl Format {
    /// `chroma_format_idc`, then the depths: as H.264 has them.
    fn read(bits: &mut Bits<'_>) -> Option<Format> {
        let chroma = Format::read_chroma(bits)?;
        Format::read_depths(bits, chroma)
    }

    fn read_chroma(bits: &mut Bits<'_>) -> Option<u8> {
        let chroma = u8::try_from(bits.number()?).ok().filter(|chroma| *chroma <= 3)?;
        if chroma == 3 {
            bits.take(1)?; // separate_colour_plane_flag
        }
        Some(chroma)
    }

    fn read_depths(bits: &mut Bits<'_>, chroma: u8) -> Option<Format> {
        let mut depth = || u8::try_from(bits.number()?).ok().filter(|over_8| *over_8 <= 6);
        Some(Format { chroma, luma_bits_over_8: depth()?, chroma_bits_over_8: depth()? })
    }

    /// Samples that cropping counts in, across and down (H.264, 7.4.2.1.1; H.265, table 6-1).
    fn cropping_units(self) -> (u64, u64) {
        match self.chroma {
            1 => (2, 2),
            2 => (2, 1),
            _ => (1, 1),
        }
    }
}

/// What is cut off at left, right, top and bottom.
struct Cropping([u32; 4]);

impl Cropping {
    fn read(bits: &mut Bits<'_>) -> Option<Self> {
        let mut edges = [0; 4];
        if bits.flag()? {
            for edge in &mut edges {
                *edge = bits.number()?;
            }
        }
        Some(Cropping(edges))
    }

    /// The size of the picture that is left; the largest that MP4 can tell where it is larger.
    fn applied(&self, width: u64, height: u64, unit_x: u64, unit_y: u64) -> (u16, u16) {
        let [left, right, top, bottom] = self.0.map(u64::from);
        let rest =
            |all: u64, cropped: u64| u16::try_from(all.saturating_sub(cropped)).unwrap_or(u16::MAX);
        (rest(width, (left + right) * unit_x), rest(height, (top + bottom) * unit_y))
    }
}

/// Reads bits, the highest first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Bits { bytes, at: 0 }
    }

    fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// At most 32.
    fn take(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0, |value, _| Some(value << 1 | u32::from(self.flag()?)))
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.at = self.at.checked_add(count)?;
        (self.at <= self.bytes.len() * 8).then_some(())
    }

    /// `ue(v)` (H.264, 9.1).
    fn number(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
        }
        let rest = (zeros < 32).then(|| self.take(zeros)).flatten()?;
        Some(((1u64 << zeros) - 1) as u32 + rest)
    }

    /// `se(v)` (H.264, 9.1.1).
    fn signed_number(&mut self) -> Option<i64> {
        let number = i64::from(self.number()?);
        Some(if number % 2 == 1 { (number + 1) / 2 } else { -(number / 2) })
    }
}
