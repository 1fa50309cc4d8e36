//! UTC that a recording carries in itself: when a frame of it was taken.
//!
//! Owns how each form of it is read off bytes. Where those stand is for the containers to know, and whether the
//! clock behind them is to be believed for others to judge.

use std::io::{Read, Seek};

use super::ContainerError;
use super::boxes::{Fields, Source, Window};
use super::sample_entry::SampleEntry;
use super::track::{Codec, MediaTime, Sample, Track};
use crate::time::Timestamp;

/// An instant of the media, and when that was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InBandTime {
    pub media: MediaTime,
    pub utc: Timestamp,
    pub kind: InBandKind,
}

/// Where an [`InBandTime`] was found, the best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum InBandKind {
    /// A `prft` box (ISO/IEC 14496-12, 8.16.5) whose flags say that it tells when the frame was taken (24) or
    /// went into the encoder (0). ffmpeg's `-write_prft wallclock` says 0 and means when it wrote the
    /// fragment: late by up to its length.
    ProducerReference,
    /// A precision time stamp in the coded video (MISB ST 0604), of a clock that says to be locked.
    PrecisionTimeStamp,
    /// MediaMTX's `mtxi` box: when the first frame reached the recorder, or left the camera, as configured.
    SegmentInfo,
    /// `DateUTC` of a Matroska segment (RFC 9559, 5.1.2.11): when the muxer began it, and so about when the first
    /// frame reached it. A file that was muxed once more tells of that.
    SegmentDate,
}

/// Bytes of an access unit that are looked at: what speaks of it stands before its pictures.
pub(super) const ACCESS_UNIT_HEAD_BYTES: usize = 1024;

/// What a `prft` box says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ProducerReference {
    pub(super) track_id: u32,
    /// Presentation time of the frame, in the track's ticks.
    pub(super) ticks: i64,
    pub(super) utc: Timestamp,
}

impl ProducerReference {
    /// `None` where it tells another instant than that of the frame (flags 1: it left the encoder, 2 and 4: the
    /// fragment was finished or written), or none at all (8).
    pub(super) fn read(mut fields: Fields<'_>) -> Result<Option<Self>, ContainerError> {
        let (version, flags) = fields.version_and_flags()?;
        let track_id = fields.u32()?;
        let utc = from_ntp(fields.u64()?);
        let ticks = i64::try_from(fields.wide(version)?).unwrap_or(i64::MAX);
        let of_the_frame = matches!(flags, 0 | 24);
        Ok(utc.filter(|_| of_the_frame).map(|utc| ProducerReference { track_id, ticks, utc }))
    }
}

/// The `NTP` of MediaMTX's `mtxi` box: the UTC of tick 0 of the file. Behind version and flags stand the stream's
/// id (16 bytes), the segment's number, that tick by the recorder's count, and the time in nanoseconds since 1970.
pub(super) fn segment_info(mut fields: Fields<'_>) -> Result<Option<Timestamp>, ContainerError> {
    let (version, _) = fields.version_and_flags()?;
    fields.skip(16 + 8 + 8)?;
    let utc = fields.u64()? as i64;
    Ok((version == 0 && utc > 0).then(|| Timestamp::from_nanos(utc)))
}

/// A 64-bit NTP timestamp (RFC 5905, section 6), of the era between 1968 and 2104; zero is none.
fn from_ntp(ntp: u64) -> Option<Timestamp> {
    const UNIX_EPOCH_IN_NTP_SECONDS: i64 = 2_208_988_800;
    const ERA_SECONDS: i64 = 1 << 32;
    let (seconds, fraction) = ((ntp >> 32) as i64, ntp & 0xffff_ffff);
    let era = if seconds < ERA_SECONDS / 2 { ERA_SECONDS } else { 0 };
    let nanos = ((fraction * 1_000_000_000) >> 32) as i64;
    let utc = (seconds + era - UNIX_EPOCH_IN_NTP_SECONDS).checked_mul(1_000_000_000)?;
    (ntp != 0).then(|| Timestamp::from_nanos(utc.saturating_add(nanos)))
}

/// What a picture that lies in one piece says of itself; only its head is read.
pub(super) fn of_picture<R: Read + Seek>(
    source: &mut Source<'_, R>,
    window: &Window,
    track: &Track,
    picture: &Sample,
) -> Result<Option<InBandTime>, ContainerError> {
    let entry = SampleEntry::first_of(&track.sample_description).unwrap_or_default();
    let Some(length_bytes) = entry.length_bytes() else { return Ok(None) };
    let mut head = Vec::new();
    let length = (picture.size_bytes as usize).min(ACCESS_UNIT_HEAD_BYTES);
    window.copy(source, picture.offset, length, &mut head)?;
    let media = picture.starts_at(track);
    let utc = precision_time_stamp(&head, track.codec, length_bytes);
    Ok(utc.map(|utc| InBandTime { media, utc, kind: InBandKind::PrecisionTimeStamp }))
}

/// The precision time stamp (MISB ST 0604) of the access unit that these bytes begin.
///
/// Each NAL unit follows its length in `length_bytes` (ISO/IEC 14496-15, 4.3.2). Looks at the messages before the
/// first picture, as far as they are in `access_unit`.
pub(super) fn precision_time_stamp(
    access_unit: &[u8],
    codec: Codec,
    length_bytes: u8,
) -> Option<Timestamp> {
    let mut rest = access_unit;
    while let Some(unit) = next_unit(&mut rest, length_bytes) {
        let (header_bytes, is_message, is_picture) = match (codec, *unit.first()?) {
            (Codec::H264, header) => (1, header & 0x1f == 6, (1..=5).contains(&(header & 0x1f))),
            (Codec::H265, header) => (2, (header >> 1) & 0x3f == 39, header & 0x40 == 0),
            _ => return None,
        };
        if is_picture {
            return None;
        }
        if is_message {
            let messages = without_emulation_prevention(unit.get(header_bytes..)?);
            if let Some(utc) = time_stamp_among(&messages) {
                return Some(utc);
            }
        }
    }
    None
}

/// Takes the next NAL unit off the front; cut short where the bytes end. Empty ones are passed over.
fn next_unit<'a>(rest: &mut &'a [u8], length_bytes: u8) -> Option<&'a [u8]> {
    loop {
        let (length, behind) = rest.split_at_checked(length_bytes.into())?;
        let length = length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
        let (unit, behind) = behind.split_at(length.min(behind.len()));
        *rest = behind;
        if !unit.is_empty() {
            return Some(unit);
        }
    }
}

pub(super) fn start_code(bytes: &[u8]) -> Option<usize> {
    bytes.windows(3).position(|window| window == [0, 0, 1])
}

/// A NAL unit's payload (H.264 7.4.1, H.265 7.4.2): a 3 behind two zeroes was put in for the start code's sake.
pub(super) fn without_emulation_prevention(payload: &[u8]) -> Vec<u8> {
    let mut zeroes = 0;
    let kept = payload.iter().filter(|&&byte| {
        let kept = byte != 3 || zeroes < 2;
        zeroes = if byte == 0 { zeroes + 1 } else { 0 };
        kept
    });
    kept.copied().collect()
}

/// Goes through the messages of an SEI unit (H.264 7.3.2.3.1, H.265 7.3.5), the last of which may be cut off.
fn time_stamp_among(mut messages: &[u8]) -> Option<Timestamp> {
    const USER_DATA_UNREGISTERED: usize = 5;
    loop {
        let kind = sei_number(&mut messages)?;
        let length = sei_number(&mut messages)?;
        let (payload, rest) = messages.split_at(length.min(messages.len()));
        messages = rest;
        if kind == USER_DATA_UNREGISTERED {
            if let Some(utc) = time_stamp(payload) {
                return Some(utc);
            }
        }
    }
}

/// A run of 0xff, each worth 255, and the byte after it.
pub(super) fn sei_number(bytes: &mut &[u8]) -> Option<usize> {
    let run = bytes.iter().take_while(|&&byte| byte == 0xff).count();
    let (&last, rest) = bytes.get(run..)?.split_first()?;
    *bytes = rest;
    Some(run * 255 + usize::from(last))
}

/// An identifier, the clock's status, and the time in four pairs of bytes with 0xff between them.
fn time_stamp(payload: &[u8]) -> Option<Timestamp> {
    const MICROSECONDS_H264: &[u8] = b"MISPmicrosectime";
    const MICROSECONDS_H265: &[u8] = &[
        0xa8, 0x68, 0x7d, 0xd4, 0xd7, 0x59, 0x37, 0x58, 0xa5, 0xce, 0xf0, 0x33, 0x8b, 0x65, 0x45,
        0xf1,
    ];
    const NANOSECONDS_H265: &[u8] = &[
        0xcf, 0x84, 0x82, 0x78, 0xee, 0x23, 0x30, 0x6c, 0x92, 0x65, 0xe8, 0xfe, 0xf2, 0x2f, 0xb8,
        0xb8,
    ];
    /// It is not known whether the clock is locked to absolute time (MISB ST 0603).
    const LOCK_UNKNOWN: u8 = 0x80;

    let (identifier, rest) = payload.split_at_checked(16)?;
    let unit_ns = match identifier {
        MICROSECONDS_H264 | MICROSECONDS_H265 => 1_000,
        NANOSECONDS_H265 => 1,
        _ => return None,
    };
    let &[status, a, b, 0xff, c, d, 0xff, e, f, 0xff, g, h] = rest.first_chunk()? else {
        return None;
    };
    let since_1970 = u64::from_be_bytes([a, b, c, d, e, f, g, h]).checked_mul(unit_ns)?;
    let utc = i64::try_from(since_1970).ok()?;
    (status & LOCK_UNKNOWN == 0).then(|| Timestamp::from_nanos(utc))
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a panic is a failed test")]
mod tests {
    use super::*;

    /// 2020-01-02T03:04:05.678901Z.
    const UTC: Timestamp = Timestamp::from_nanos(1_577_934_245_678_901_000);

    fn message(identifier: &[u8], status: u8, count: u64) -> Vec<u8> {
        let [a, b, c, d, e, f, g, h] = count.to_be_bytes();
        let time = [status, a, b, 0xff, c, d, 0xff, e, f, 0xff, g, h];
        [&[5, 28], identifier, &time].concat()
    }

    /// After a message of 300 bytes and within a unit that needs emulation prevention.
    fn unit(header: &[u8], message: &[u8]) -> Vec<u8> {
        let long = [&[4, 0xff, 45][..], &[7; 300]].concat();
        let mut unit = [header, &long, message, &[0x80]].concat();
        let zeroes = unit.windows(3).position(|bytes| bytes == [0, 0, 3]);
        if let Some(at) = zeroes {
            unit.insert(at + 2, 3);
        }
        unit
    }

    fn framed(units: &[Vec<u8>], length_bytes: u8) -> Vec<u8> {
        let frame = |unit: &Vec<u8>| {
            let length = (unit.len() as u32).to_be_bytes();
            [&length[4 - usize::from(length_bytes)..], unit].concat()
        };
        units.iter().flat_map(frame).collect()
    }

    #[test]
    fn a_precision_time_stamp_is_found_among_other_messages_whatever_the_lengths_take() {
        let micros = UTC.as_nanos() as u64 / 1000;
        let h265 = [0xa8u8, 0x68, 0x7d, 0xd4, 0xd7, 0x59, 0x37, 0x58, 0xa5, 0xce, 0xf0, 0x33];
        let h265 = [&h265[..], &[0x8b, 0x65, 0x45, 0xf1]].concat();
        let nanos = [0xcfu8, 0x84, 0x82, 0x78, 0xee, 0x23, 0x30, 0x6c, 0x92, 0x65, 0xe8, 0xfe];
        let nanos = [&nanos[..], &[0xf2, 0x2f, 0xb8, 0xb8]].concat();
        let cases = [
            (Codec::H264, vec![0x06], message(b"MISPmicrosectime", 0x1f, micros)),
            (Codec::H265, vec![0x4e, 1], message(&h265, 0x1f, micros)),
            (Codec::H265, vec![0x4e, 1], message(b"MISPmicrosectime", 0x1f, micros)),
            (Codec::H265, vec![0x4e, 1], message(&nanos, 0x1f, UTC.as_nanos() as u64)),
        ];
        for (codec, header, message) in cases {
            let (delimiter, picture) = match codec {
                Codec::H264 => (vec![9, 0xf0], vec![0x65, 0x88, 0x80]),
                _ => (vec![0x46, 1, 0x50], vec![0x26, 1, 0xaf]),
            };
            let stamped = unit(&header, &message);
            for length_bytes in [4, 2] {
                let before =
                    framed(&[delimiter.clone(), stamped.clone(), picture.clone()], length_bytes);
                assert_eq!(precision_time_stamp(&before, codec, length_bytes), Some(UTC));
                let behind =
                    framed(&[delimiter.clone(), picture.clone(), stamped.clone()], length_bytes);
                assert_eq!(precision_time_stamp(&behind, codec, length_bytes), None);
                for length in 0..before.len() {
                    let found = precision_time_stamp(&before[..length], codec, length_bytes);
                    assert!(found.is_none_or(|utc| utc == UTC));
                }
            }
        }
    }

    #[test]
    fn emulation_prevention_within_the_time_is_undone() {
        // 0x0000 0003 …: the two zeroes and the 3 stand with a 0xff between; 0x0300 0000 does not need any.
        for micros in [0x0000_0300_0000_0001_u64, 0x0003_0000_0300_0000, 1] {
            let stamped = unit(&[6], &message(b"MISPmicrosectime", 0x1f, micros));
            let framed = framed(&[stamped], 4);
            let expected = Timestamp::from_nanos(micros as i64 * 1000);
            let found = precision_time_stamp(&framed, Codec::H264, 4);
            assert_eq!(found, Some(expected));
        }
    }

    #[test]
    fn a_time_stamp_of_a_clock_that_is_not_locked_or_of_another_form_is_none() {
        let of = |message: &[u8]| {
            let framed = framed(&[unit(&[6], message)], 4);
            precision_time_stamp(&framed, Codec::H264, 4)
        };
        assert!(of(&message(b"MISPmicrosectime", 0x1f, 1)).is_some());
        assert_eq!(of(&message(b"MISPmicrosectime", 0x9f, 1)), None);
        assert_eq!(of(&message(b"another user's id", 0x1f, 1)), None);
        assert_eq!(of(&message(b"MISPmicrosectime", 0x1f, u64::MAX)), None);
        let mut unmarked = message(b"MISPmicrosectime", 0x1f, 1);
        unmarked[21] = 0xfe;
        assert_eq!(of(&unmarked), None);
    }

    #[test]
    fn ntp_counts_from_1900_until_2036_and_on_from_there() {
        let table = [
            (0, None),
            (2_208_988_800 << 32 | 1 << 31, Some(500_000_000)),
            (u64::MAX, Some(2_085_978_495_999_999_999)),
            (1, Some(2_085_978_496_000_000_000)),
        ];
        for (ntp, expected) in table {
            assert_eq!(from_ntp(ntp), expected.map(Timestamp::from_nanos), "{ntp}");
        }
    }

    #[test]
    fn a_reference_time_counts_where_its_flags_say_when_the_frame_was_taken() {
        for (flags, counts) in
            [(0, true), (1, false), (2, false), (4, false), (8, false), (24, true)]
        {
            for version in [0, 1] {
                let mut body = vec![version, 0, 0, flags, 0, 0, 0, 7];
                body.extend((3_786_923_045_u64 << 32).to_be_bytes());
                let ticks = 90_000_u64.to_be_bytes();
                body.extend(if version == 1 { &ticks[..] } else { &ticks[4..] });
                let found = ProducerReference::read(Fields::new("prft", 0, &body)).unwrap();
                let utc = Timestamp::from_unix_seconds(1_577_934_245);
                let expected = ProducerReference { track_id: 7, ticks: 90_000, utc };
                assert_eq!(found, counts.then_some(expected), "flags {flags}, version {version}");
            }
        }
    }
}
