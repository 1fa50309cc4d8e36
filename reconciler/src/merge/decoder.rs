//! Whether two sample descriptions ask for the same decoder.
//!
//! Recorders differ in what they write around the parameter sets (bit rates, `btrt`, compressor names), and
//! the same recorder writes other bit rates into each file: bytes are compared only where a codec is not known.

use mp4_atom::{Codec, Decode, Dops, Hvcc, OpusChannelMapping, Stsd};
use sdcard_indexer::container::Track;

/// True where samples of both tracks can follow one another under the sample description of either.
pub fn same_decoder(one: &Track, other: &Track) -> bool {
    one.kind == other.kind
        && one.codec == other.codec
        && (one.sample_description == other.sample_description
            || configurations(one).is_some_and(|known| Some(known) == configurations(other)))
}

/// Bytes of the length before each NAL unit of a track's samples; `None` where there is none, or entries differ.
pub fn length_bytes(track: &Track) -> Option<u8> {
    let mut lengths = configurations(track)?.into_iter().map(|configuration| match configuration {
        Configuration::H264 { length_size, .. } => Some(length_size),
        // lengthSizeMinusOne (ISO/IEC 14496-15, 8.3.2.1).
        Configuration::H265 { length_size, .. } => length_size.checked_add(1),
        _ => None,
    });
    let first = lengths.next()??;
    lengths.all(|length| length == Some(first)).then_some(first)
}

/// What a decoder is set up with.
#[derive(PartialEq)]
enum Configuration {
    H264 { length_size: u8, parameter_sets: [Vec<Vec<u8>>; 2] },
    H265 { length_size: u8, parameter_sets: Vec<(u8, Vec<Vec<u8>>)> },
    Aac { object_type: u8, specific: Vec<u8> },
    Opus { channels: u8, mapping: Option<OpusChannelMapping>, output_gain: i16 },
}

/// `None` where any entry is of a codec that is not known here.
fn configurations(track: &Track) -> Option<Vec<Configuration>> {
    let description = Stsd::decode(&mut track.sample_description.as_slice()).ok()?;
    description.codecs.into_iter().map(configuration).collect()
}

fn configuration(codec: Codec) -> Option<Configuration> {
    let h264 = |avcc: mp4_atom::Avcc| Configuration::H264 {
        length_size: avcc.length_size,
        parameter_sets: [avcc.sequence_parameter_sets, avcc.picture_parameter_sets].map(trimmed),
    };
    match codec {
        Codec::Avc1(entry) => Some(h264(entry.avcc)),
        Codec::Avc3(entry) => Some(h264(entry.avcc)),
        Codec::Hvc1(entry) => Some(h265(entry.hvcc)),
        Codec::Hev1(entry) => Some(h265(entry.hvcc)),
        Codec::Mp4a(entry) => {
            let decoder = entry.esds.es_desc.dec_config;
            let mut specific = decoder.dec_specific?.raw;
            // Some writers add that nothing is added (ISO/IEC 14496-3, 1.6.6: no spectral band replication).
            if specific.ends_with(&[0x56, 0xe5, 0x00]) {
                specific.truncate(specific.len() - 3);
            }
            Some(Configuration::Aac { object_type: decoder.object_type_indication, specific })
        }
        Codec::Opus(entry) => {
            let Dops { output_channel_count: channels, output_gain, channel_mapping, .. } =
                entry.dops;
            Some(Configuration::Opus { channels, mapping: channel_mapping, output_gain })
        }
        _ => None,
    }
}

fn h265(hvcc: Hvcc) -> Configuration {
    // Some writers put SEI messages among the parameter sets.
    const PARAMETER_SETS: std::ops::RangeInclusive<u8> = 32..=34;
    let mut parameter_sets: Vec<_> = hvcc
        .arrays
        .into_iter()
        .filter(|array| PARAMETER_SETS.contains(&array.nal_unit_type))
        .map(|array| (array.nal_unit_type, trimmed(array.nalus)))
        .collect();
    parameter_sets.sort();
    Configuration::H265 { length_size: hvcc.length_size_minus_one, parameter_sets }
}

/// Without zero bytes behind, which are of no NAL unit (H.264 and H.265, 7.4.1 and 7.4.2): some writers take them
/// along.
fn trimmed(mut sets: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    for set in &mut sets {
        set.truncate(set.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    }
    sets
}
