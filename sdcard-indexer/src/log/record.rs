//! Records of the log, and how one becomes a frame of bytes and comes back.
//!
//! Pure. All integers are little-endian:
//!
//! ```text
//! offset  bytes  what
//! 0       4      length of the payload in bytes, at most 65,536
//! 4       1      version of the format: 3
//! 5       1      type: 1 segment, 2 removed, 3 gone, 4 digest, 5 changed,
//!                6 epoch, 7 holes
//! 6       n      payload, the record in postcard
//! 6 + n   4      CRC-32 (IEEE) of all before it in the frame
//! ```
//!
//! Postcard does not describe itself: whatever changes a record's fields raises the version. A frame of
//! another version is a bad frame, and what it held is read from the recordings again.

use serde::{Deserialize, Serialize};

use crate::checksum::crc32;
use crate::clock::Epoch;
use crate::coverage::Coverage;
use crate::identity::{SegmentId, SegmentVersion};
use crate::index::KnownHoles;
use crate::segment::Placement;
use crate::time::{TimeRange, Timestamp};

const VERSION: u8 = 3;
const MAX_PAYLOAD_BYTES: usize = 65_536;
const HEADER_BYTES: usize = 6;
const CRC_BYTES: usize = 4;

const SEGMENT: u8 = 1;
const REMOVED: u8 = 2;
const GONE: u8 = 3;
const DIGEST: u8 = 4;
const CHANGED: u8 = 5;
const EPOCH: u8 = 6;
const HOLES: u8 = 7;

/// One fact about a stream. Strings and paths are borrowed from the caller or from the log's bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record<'a> {
    Segment(SegmentRecord<'a>),
    Removed(RemovedRecord<'a>),
    Gone(GoneRecord<'a>),
    Digest(DigestRecord<'a>),
    Changed(ChangedRecord),
    /// Of the recorder's clock. Stands in a file of its own; a later record of the same number replaces an
    /// earlier one.
    Epoch(Epoch),
    Holes(HolesRecord<'a>),
}

/// A sealed segment that has been read. A later record of the same path replaces an earlier one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SegmentRecord<'a> {
    pub stream: &'a str,
    /// Relative to the stream's root.
    pub path: &'a [u8],
    pub size_bytes: u64,
    pub modified_ns: i64,
    pub fingerprint: u64,
    /// False: nothing of the file can be used.
    pub held: bool,
    /// By its recorder's own clock.
    pub named: Timestamp,
    pub duration_ns: u64,
    pub usable_bytes: u64,
    /// `None`: where its name says.
    pub placement: Option<Placement>,
}

/// What is known of holes in and around a segment, of which a record stands before this one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HolesRecord<'a> {
    pub stream: &'a str,
    pub path: &'a [u8],
    pub holes: KnownHoles,
}

/// A tombstone: the file is no longer there, and with it what it held.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RemovedRecord<'a> {
    pub stream: &'a str,
    pub path: &'a [u8],
    pub held: TimeRange,
    /// By the device's clock.
    pub seen_at: Timestamp,
}

/// What was held once and is not any more; stands for tombstones when a day is written anew.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GoneRecord<'a> {
    pub stream: &'a str,
    pub gone: Coverage,
}

/// What the bytes of a segment were when it was sealed. Stands in files of its own ([`crate::digest`]), which
/// are read when a segment is opened and never at a start.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DigestRecord<'a> {
    pub stream: &'a str,
    pub path: &'a [u8],
    pub size_bytes: u64,
    pub modified_ns: i64,
    pub fingerprint: u64,
    /// BLAKE3 of all bytes.
    pub whole: [u8; 32],
    /// The first 16 bytes of each block's chaining value, one after the other.
    pub blocks: &'a [u8],
}

/// Bytes of a sealed segment were found to be others than when it was sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChangedRecord {
    pub segment: SegmentId,
    /// The bytes as they stand now, by size and fingerprint.
    pub version: SegmentVersion,
    /// Once this differs, somebody has written to the file, and it is no longer the one that was judged.
    pub modified_ns: i64,
    /// All before this offset are as they were.
    pub intact_bytes: u64,
}

impl Record<'_> {
    /// Appends the frame of this record. False, and nothing appended, where it would be too long.
    #[must_use]
    pub fn write_to(&self, bytes: &mut Vec<u8>) -> bool {
        let (kind, payload) = match self {
            Record::Segment(record) => (SEGMENT, postcard::to_stdvec(record)),
            Record::Removed(record) => (REMOVED, postcard::to_stdvec(record)),
            Record::Gone(record) => (GONE, postcard::to_stdvec(record)),
            Record::Digest(record) => (DIGEST, postcard::to_stdvec(record)),
            Record::Changed(record) => (CHANGED, postcard::to_stdvec(record)),
            Record::Epoch(record) => (EPOCH, postcard::to_stdvec(record)),
            Record::Holes(record) => (HOLES, postcard::to_stdvec(record)),
        };
        let payload = payload.expect("postcard writes plain values into a Vec without fail");
        let Some(length) =
            u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_PAYLOAD_BYTES)
        else {
            return false;
        };
        let start = bytes.len();
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&[VERSION, kind]);
        bytes.extend_from_slice(&payload);
        let crc = crc32(&[bytes.get(start..).unwrap_or_default()]);
        bytes.extend_from_slice(&crc.to_le_bytes());
        true
    }
}

/// The record at the head of `bytes` and the bytes behind it; `None` at the end and at a bad frame.
pub fn read_frame(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (length, _) = bytes.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if length > MAX_PAYLOAD_BYTES {
        return None;
    }
    let (framed, behind) = bytes.split_at_checked(HEADER_BYTES + length)?;
    let (crc, rest) = behind.split_first_chunk::<CRC_BYTES>()?;
    if crc32(&[framed]) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (header, payload) = framed.split_at_checked(HEADER_BYTES)?;
    let record = match header.get(4..)? {
        [VERSION, SEGMENT] => Record::Segment(postcard::from_bytes(payload).ok()?),
        [VERSION, REMOVED] => Record::Removed(postcard::from_bytes(payload).ok()?),
        [VERSION, GONE] => Record::Gone(postcard::from_bytes(payload).ok()?),
        [VERSION, DIGEST] => Record::Digest(postcard::from_bytes(payload).ok()?),
        [VERSION, CHANGED] => Record::Changed(postcard::from_bytes(payload).ok()?),
        [VERSION, EPOCH] => Record::Epoch(postcard::from_bytes(payload).ok()?),
        [VERSION, HOLES] => Record::Holes(postcard::from_bytes(payload).ok()?),
        _ => return None,
    };
    Some((record, rest))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::{Anchor, Boottime, Voucher};
    use crate::container::{Hole, MediaTime};
    use crate::identity::BootId;
    use crate::segment::{EpochId, TimeSource};

    fn segment() -> Record<'static> {
        Record::Segment(SegmentRecord {
            stream: "main",
            path: b"10-00-00.mp4",
            size_bytes: 300,
            modified_ns: -1,
            fingerprint: 0x0102_0304_0506_0708,
            held: true,
            named: Timestamp::from_nanos(64),
            duration_ns: 2,
            usable_bytes: 299,
            placement: Some(Placement {
                start: Timestamp::from_nanos(63),
                uncertainty: Duration::from_nanos(5),
                source: TimeSource::Close,
                epoch: Some(EpochId(9)),
            }),
        })
    }

    fn examples() -> Vec<Record<'static>> {
        let held = TimeRange::new(Timestamp::from_nanos(1), Timestamp::from_nanos(2)).unwrap();
        vec![
            segment(),
            Record::Removed(RemovedRecord {
                stream: "main",
                path: b"a.mp4",
                held,
                seen_at: Timestamp::from_nanos(3),
            }),
            Record::Gone(GoneRecord { stream: "main", gone: held.into() }),
            Record::Digest(DigestRecord {
                stream: "main",
                path: b"a.mp4",
                size_bytes: 300,
                modified_ns: -1,
                fingerprint: 3,
                whole: [0x55; 32],
                blocks: b"0123456789abcdef",
            }),
            Record::Changed(ChangedRecord {
                segment: SegmentId(1),
                version: SegmentVersion { size_bytes: 300, fingerprint: 3 },
                modified_ns: -1,
                intact_bytes: 2,
            }),
            Record::Epoch(Epoch {
                id: EpochId(9),
                boot: BootId(*b"0123456789abcdef"),
                offset_ns: 64,
                first: Boottime::from_nanos(1),
                last: Boottime::from_nanos(3),
                anchors: vec![Anchor {
                    first: Boottime::from_nanos(2),
                    last: Boottime::from_nanos(3),
                    by: Voucher::Server,
                    behind_ns: 7,
                    error_ns: 5,
                }],
            }),
            Record::Holes(HolesRecord {
                stream: "main",
                path: b"a.mp4",
                holes: KnownHoles {
                    inside: vec![Hole { start: MediaTime(1), end: MediaTime(64) }],
                    behind: Some(Hole { start: MediaTime(65), end: MediaTime(66) }),
                    filled_ns: 2,
                },
            }),
        ]
    }

    fn frame(record: &Record<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert!(record.write_to(&mut bytes));
        bytes
    }

    /// Cards out there hold these bytes: when this test fails, raise `VERSION`.
    #[test]
    fn the_bytes_of_a_frame_never_change() {
        let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let frames: Vec<String> = examples().iter().map(|record| hex(frame(record))).collect();
        assert_eq!(frames, GOLDEN);
    }

    const GOLDEN: [&str; 7] = [
        "2b0000000301046d61696e0c31302d30302d30302e6d7034ac0201888e98a8c0e080810101800102ab02017e0005010109b06b956a",
        "0e0000000302046d61696e05612e6d7034020406e2dc7ee5",
        "080000000303046d61696e010204b74699e6",
        "400000000304046d61696e05612e6d7034ac02010355555555555555555555555555555555555555555555555555555555555555551030313233343536373839616263646566f6c51ce8",
        "06000000030501ac0203010246cc8e69",
        "1b0000000306093031323334353637383961626364656680010206010406010e0aab6db633",
        "150000000307046d61696e05612e6d7034010280010182018401043aa88544",
    ];

    #[test]
    fn every_record_comes_back_as_it_was_written() {
        let bytes: Vec<u8> = examples().iter().flat_map(frame).collect();
        let mut rest = bytes.as_slice();
        for record in examples() {
            let (read, behind) = read_frame(rest).unwrap();
            assert_eq!(read, record);
            rest = behind;
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn a_frame_with_any_bit_flipped_is_bad() {
        let whole = frame(&segment());
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read_frame(&bytes), None, "bit {bit}");
        }
    }

    #[test]
    fn a_record_too_long_for_a_frame_is_not_written() {
        let path = vec![b'x'; MAX_PAYLOAD_BYTES];
        let held = TimeRange::starting_at(Timestamp::UNIX_EPOCH, std::time::Duration::ZERO);
        let mut bytes = vec![7];
        let record = Record::Removed(RemovedRecord {
            stream: "main",
            path: &path,
            held,
            seen_at: Timestamp::UNIX_EPOCH,
        });
        assert!(!record.write_to(&mut bytes));
        assert_eq!(bytes, [7]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_frame(&bytes);
        }
    }
}
