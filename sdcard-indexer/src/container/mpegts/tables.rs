//! Which streams there are (program association and program map tables, ISO/IEC 13818-1, 2.4.4).
//!
//! Of several programs the first counts: a recorder writes one.

use super::super::MAX_TRACKS;
use super::super::track::Codec;
use super::packets::Packet;

const PAT_PID: u16 = 0;
/// 2.4.4.4 and 2.4.4.9: `section_length` is at most 1021.
const MAX_SECTION_BYTES: usize = 3 + 1021;

/// An elementary stream of a codec that is known here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stream {
    pub(super) pid: u16,
    pub(super) codec: Codec,
    /// Of Opus: its channels.
    pub(super) channels: u8,
    /// The tables do not say what it is: to be believed if it looks like it.
    pub(super) guessed: bool,
}

/// What a packet says of the streams.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Table {
    /// Where the program map is to be found.
    Association,
    Map(Vec<Stream>),
}

/// Follows the tables from packet to packet.
#[derive(Default, Debug)]
pub(super) struct Tables {
    association: Section,
    map: Section,
    /// The program's number, and where its map is.
    program: Option<(u16, u16)>,
}

impl Tables {
    /// The table that ends in this packet. Damaged ones say nothing.
    pub(super) fn push(&mut self, packet: &Packet<'_>) -> Option<Table> {
        if packet.pid == PAT_PID {
            self.program = Some(first_program(self.association.push(packet)?)?);
            Some(Table::Association)
        } else {
            let (number, _) = self.program.filter(|(_, pid)| *pid == packet.pid)?;
            streams(self.map.push(packet)?, number).map(Table::Map)
        }
    }
}

/// Puts a section together that may be spread over packets.
#[derive(Default, Debug)]
struct Section {
    bytes: Vec<u8>,
}

impl Section {
    /// The section, once it is whole and its checksum is right.
    fn push(&mut self, packet: &Packet<'_>) -> Option<&[u8]> {
        if packet.begins {
            let (&pointer, rest) = packet.payload.split_first()?;
            self.bytes.clear();
            self.bytes.extend_from_slice(rest.get(usize::from(pointer)..)?);
        } else if !self.bytes.is_empty() && self.bytes.len() < MAX_SECTION_BYTES {
            self.bytes.extend_from_slice(packet.payload);
        }
        let &[_, high, low, ..] = self.bytes.as_slice() else { return None };
        let length = 3 + (usize::from(high & 0x0f) << 8 | usize::from(low));
        let section = self.bytes.get(..length.min(MAX_SECTION_BYTES))?;
        // Over its own checksum the sum is zero; and only what is in force counts.
        let in_force = section.get(5)? & 1 != 0;
        (in_force && crc32(section) == 0).then_some(section)
    }
}

/// Number and map of the first program in a PAT; program 0 is the network's own.
fn first_program(section: &[u8]) -> Option<(u16, u16)> {
    let entries = section.get(8..section.len().checked_sub(4)?)?;
    (section.first() == Some(&0)).then_some(())?;
    let programs = entries.chunks_exact(4).filter_map(|entry| {
        let &[a, b, c, d] = entry else { return None };
        Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]) & 0x1fff))
    });
    programs.into_iter().find(|(number, _)| *number != 0)
}

/// The known streams of a PMT, if it is that of program `number`.
fn streams(section: &[u8], number: u16) -> Option<Vec<Stream>> {
    let body = section.get(..section.len().checked_sub(4)?)?;
    let &[2, _, _, high, low, ..] = body else { return None };
    (u16::from_be_bytes([high, low]) == number).then_some(())?;
    let mut rest = body.get(10..)?;
    let of_bluray = registration(take_descriptors(&mut rest)?) == Some(*b"HDMV");
    let mut streams = Vec::new();
    while let &[stream_type, high, low, ref after @ ..] = rest {
        rest = after;
        let pid = u16::from_be_bytes([high, low]) & 0x1fff;
        let descriptors = take_descriptors(&mut rest)?;
        let codec = codec_of(stream_type, descriptors, of_bluray);
        let (channels, guessed) = (opus_channels(descriptors), stream_type == 0x06);
        let guessed = guessed && registration(descriptors).is_none();
        if let Some(codec) = codec.filter(|_| streams.len() < MAX_TRACKS) {
            streams.push(Stream { pid, codec, channels, guessed });
        }
    }
    Some(streams)
}

/// Takes a 12-bit length, and the descriptors of that length, off the front.
fn take_descriptors<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let &[high, low, ref after @ ..] = *rest else { return None };
    let length = usize::from(high & 0x0f) << 8 | usize::from(low);
    let (descriptors, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(descriptors)
}

/// 2.4.4.10, table 2-34. G.711 has no number of its own there; 0x90 and 0x91 are those of GB/T 28181, which
/// many cameras write. Opus comes as private data with a name ("Encapsulation of Opus in MPEG-TS", 3).
fn codec_of(stream_type: u8, descriptors: &[u8], of_bluray: bool) -> Option<Codec> {
    match stream_type {
        0x0f => Some(Codec::Aac),
        0x1b => Some(Codec::H264),
        0x24 => Some(Codec::H265),
        0x06 => match registration(descriptors).as_ref() {
            Some(b"Opus") => Some(Codec::Opus),
            Some(b"HEVC") => Some(Codec::H265),
            Some(_) => None,
            // So ffmpeg writes AAC into M2TS.
            None => Some(Codec::Aac),
        },
        0x90 if !of_bluray => Some(Codec::Pcma),
        0x91 if !of_bluray => Some(Codec::Pcmu),
        _ => None,
    }
}

/// The registered name of what the descriptors are of (2.6.8).
fn registration(descriptors: &[u8]) -> Option<[u8; 4]> {
    find_descriptor(descriptors, 0x05)?.first_chunk().copied()
}

/// Opus' channel configuration: a DVB extension descriptor of type 0x80. Up to 8 it is the count of channels in
/// the usual order; two channels are the most that are written otherwise.
fn opus_channels(descriptors: &[u8]) -> u8 {
    let configuration = find_descriptor(descriptors, 0x7f).and_then(|body| {
        let &[0x80, configuration, ..] = body else { return None };
        Some(configuration)
    });
    configuration.filter(|channels| (1..=8).contains(channels)).unwrap_or(2)
}

fn find_descriptor(mut descriptors: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        let &[tag, length, ref after @ ..] = descriptors else { return None };
        let (body, rest) = after.split_at_checked(usize::from(length))?;
        if tag == wanted {
            return Some(body);
        }
        descriptors = rest;
    }
}

/// The checksum of sections (annex A): not reflected, unlike that of other places.
fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| {
            let shifted = crc << 1;
            if crc & 0x8000_0000 != 0 { shifted ^ 0x04c1_1db7 } else { shifted }
        })
    })
}
