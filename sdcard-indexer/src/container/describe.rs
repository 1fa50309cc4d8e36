//! Writes sample descriptions (`stsd`, ISO/IEC 14496-12, 8.5.2) for what comes from containers that have others.

use super::track::Codec;

/// The type and body of a box in a sample entry.
type Configuration<'a> = ([u8; 4], &'a [u8]);

/// By their index in AAC's headers (ISO/IEC 14496-3, table 1.18).
pub(super) const AAC_SAMPLES_PER_SECOND: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000,
    7350,
];

/// Of pictures: `kind` is the sample entry's type.
pub(super) fn pictures(
    kind: [u8; 4],
    (width, height): (u16, u16),
    configuration: Configuration<'_>,
) -> Vec<u8> {
    // ISO/IEC 14496-12, 12.1.3: 72 dpi, a picture a sample, no name, no alpha channel.
    let (width, height) = (width.to_be_bytes(), height.to_be_bytes());
    let resolution = [0, 0x48, 0, 0, 0, 0x48, 0, 0];
    let fields = [
        &[0; 16][..],
        &width,
        &height,
        &resolution,
        &[0; 4],
        &[0, 1],
        &[0; 32],
        &[0, 0x18, 0xff, 0xff],
    ];
    entry(kind, &fields.concat(), Some(configuration))
}

/// Of AAC, with its `AudioSpecificConfig` (ISO/IEC 14496-3, 1.6.2.1), which takes a few bytes.
pub(super) fn aac(specific: &[u8]) -> Vec<u8> {
    let [high, low] = specific.first_chunk().copied().unwrap_or_default();
    let rate_index = usize::from((high & 7) << 1 | low >> 7);
    let rate = AAC_SAMPLES_PER_SECOND.get(rate_index).copied().unwrap_or(0);
    let channels = match low >> 3 & 0xf {
        7 => 8,
        channels => channels,
    };
    // ISO/IEC 14496-1, 7.2.6: an ES descriptor, of it the decoder's with its own, and how it is synchronised.
    // Buffer size and bit rates are not known.
    let decoder_specific = [&[0x05, specific.len() as u8][..], specific].concat();
    let decoder = [&[0x40, 0x15][..], &[0; 11], &decoder_specific].concat();
    let stream = [&[0, 0, 0][..], &[0x04, decoder.len() as u8], &decoder, &[0x06, 1, 2]].concat();
    let descriptor = [&[0; 4][..], &[0x03, stream.len() as u8], &stream].concat();
    sound(*b"mp4a", channels.into(), rate, Some((*b"esds", &descriptor)))
}

/// Of Opus in one of the usual orders of channels (RFC 7845, 5.1; "Encapsulation of Opus in ISOBMFF", 4.3.2).
pub(super) fn opus(channels: u8) -> Vec<u8> {
    /// Samples before the sound proper, of the usual encoder.
    const PRE_SKIP: u16 = 312;
    /// Streams, and how many of them are stereo, by the count of channels (RFC 7845, 5.1.1.2).
    const STREAMS: [(u8, u8); 8] = [(1, 0), (1, 1), (2, 1), (2, 2), (3, 2), (4, 2), (4, 3), (5, 3)];
    const ORDERS: [&[u8]; 8] = [
        &[0],
        &[0, 1],
        &[0, 2, 1],
        &[0, 1, 2, 3],
        &[0, 4, 1, 2, 3],
        &[0, 4, 1, 2, 3, 5],
        &[0, 4, 1, 2, 3, 5, 6],
        &[0, 6, 1, 2, 3, 4, 5, 7],
    ];
    let mut specific = vec![0, channels];
    specific.extend(PRE_SKIP.to_be_bytes());
    specific.extend(48_000u32.to_be_bytes());
    specific.extend([0, 0]);
    let index = usize::from(channels).wrapping_sub(1);
    if let (3.., Some((streams, coupled)), Some(order)) =
        (channels, STREAMS.get(index), ORDERS.get(index))
    {
        specific.extend([1, *streams, *coupled]);
        specific.extend_from_slice(order);
    } else {
        specific.push(0);
    }
    sound(*b"Opus", channels.into(), 48_000, Some((*b"dOps", &specific)))
}

/// Of G.711, one channel of 8 kHz.
pub(super) fn g711(codec: Codec) -> Vec<u8> {
    let kind = if codec == Codec::Pcma { *b"alaw" } else { *b"ulaw" };
    sound(kind, 1, 8000, None)
}

/// Of sound: `kind` is the sample entry's type. ISO/IEC 14496-12, 12.2.3: of 16 bits, the rate with a fraction of 16.
pub(super) fn sound(
    kind: [u8; 4],
    channels: u16,
    rate: u32,
    configuration: Option<Configuration<'_>>,
) -> Vec<u8> {
    let rate = u16::try_from(rate).unwrap_or(0).to_be_bytes();
    let fields = [&[0; 8][..], &channels.to_be_bytes(), &[0, 16], &[0; 4], &rate, &[0; 2]];
    entry(kind, &fields.concat(), configuration)
}

/// A sample description of one entry, `fields` in it and a box behind them.
fn entry(kind: [u8; 4], fields: &[u8], configuration: Option<Configuration<'_>>) -> Vec<u8> {
    // Reserved, and the one data reference.
    let common = [0, 0, 0, 0, 0, 0, 0, 1];
    let configuration = configuration.map(|(name, body)| boxed(name, body)).unwrap_or_default();
    stsd(&boxed(kind, &[&common, fields, &configuration].concat()))
}

fn stsd(entry: &[u8]) -> Vec<u8> {
    boxed(*b"stsd", &[&[0, 0, 0, 0, 0, 0, 0, 1], entry].concat())
}

fn boxed(kind: [u8; 4], body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(8 + body.len()).expect("parameter sets are bounded");
    [&size.to_be_bytes(), &kind, body].concat()
}
