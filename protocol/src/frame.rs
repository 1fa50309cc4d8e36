//! Data frames: media bytes with the little that is needed to place and prove them.
//!
//! All integers are little-endian.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | [`PROTOCOL_VERSION`] |
//! | 1 | 1 | [`Kind::Data`] |
//! | 2 | 2 | reserved: written as 0, not looked at |
//! | 4 | 8 | transfer |
//! | 12 | 8 | offset of the payload in the segment |
//! | 20 | 4 | length of the payload: 1 to 65,536 |
//! | 24 | 8 | echo: `time` of the last [`crate::message::Credit`] |
//! | 32 | 4 | CRC32 (IEEE) of the bytes 0 to 32 and the payload |
//! | 36 | | payload |
//!
//! A fixed layout, not postcard, so that the device reads from its card straight into the packet:
//!
//! ```
//! use protocol::{frame, message::TransferId};
//!
//! let mut packet = vec![0; frame::HEADER_BYTES + 3];
//! packet[frame::HEADER_BYTES..].copy_from_slice(b"abc"); // or read from a file
//! frame::seal(&mut packet, TransferId(7), 4096, 0)?;
//! assert_eq!(frame::Data::decode(&packet)?.payload, b"abc");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use sdcard_indexer::checksum::crc32;

use crate::PROTOCOL_VERSION;
use crate::envelope::{self, DecodeError, Kind};
use crate::message::TransferId;

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 36;

/// Largest payload of a frame.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

/// Bytes of the header that the checksum covers: all before itself.
const CHECKED_HEADER_BYTES: usize = 32;

/// A frame that arrived whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Data<'a> {
    pub transfer: TransferId,
    /// Where `payload` belongs in the segment; `offset + payload.len()` does not overflow.
    pub offset: u64,
    /// `time` of the last credit that the device had when it sent this.
    pub echo: u64,
    pub payload: &'a [u8],
}

/// A frame cannot be made: it would carry nothing, or too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a frame of {frame_bytes} bytes: it needs {HEADER_BYTES} of header and 1 to {MAX_PAYLOAD_BYTES} \
     of payload"
)]
pub struct FrameSize {
    pub frame_bytes: usize,
}

/// Writes header and checksum into the first [`HEADER_BYTES`] of `frame`; the payload already follows.
pub fn seal(
    frame: &mut [u8],
    transfer: TransferId,
    offset: u64,
    echo: u64,
) -> Result<(), FrameSize> {
    let wrong_size = FrameSize { frame_bytes: frame.len() };
    let (header, payload) = frame.split_first_chunk_mut::<HEADER_BYTES>().ok_or(wrong_size)?;
    if payload.is_empty() || payload.len() > MAX_PAYLOAD_BYTES {
        return Err(wrong_size);
    }
    let length = payload.len() as u32;
    header[..2].copy_from_slice(&[PROTOCOL_VERSION, Kind::Data as u8]);
    header[2..4].copy_from_slice(&[0; 2]);
    header[4..12].copy_from_slice(&transfer.0.to_le_bytes());
    header[12..20].copy_from_slice(&offset.to_le_bytes());
    header[20..24].copy_from_slice(&length.to_le_bytes());
    header[24..32].copy_from_slice(&echo.to_le_bytes());
    let crc = checksum(&header[..CHECKED_HEADER_BYTES], payload);
    header[32..].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

impl<'a> Data<'a> {
    pub fn decode(frame: &'a [u8]) -> Result<Data<'a>, DecodeError> {
        let cut_off = DecodeError::CutOff { bytes: frame.len() };
        let fields = envelope::open(frame, Kind::Data)?;
        let Some((header, payload)) = Header::split(fields) else { return Err(cut_off) };
        if header.length > MAX_PAYLOAD_BYTES {
            return Err(DecodeError::TooLarge { bytes: header.length, limit: MAX_PAYLOAD_BYTES });
        }
        if header.length == 0 || header.length > payload.len() {
            return Err(cut_off);
        }
        if header.length < payload.len() {
            return Err(DecodeError::TrailingBytes { bytes: payload.len() - header.length });
        }
        let (expected, checked) = (header.crc, frame.get(..CHECKED_HEADER_BYTES));
        let found = checksum(checked.unwrap_or_default(), payload);
        if found != expected {
            return Err(DecodeError::Checksum { expected, found });
        }
        let Header { transfer, offset, echo, .. } = header;
        if offset.checked_add(payload.len() as u64).is_none() {
            return Err(DecodeError::Offset { offset });
        }
        Ok(Data { transfer: TransferId(transfer), offset, echo, payload })
    }
}

/// The fields behind version and kind, as they stand in the frame: nothing is checked yet.
struct Header {
    transfer: u64,
    offset: u64,
    length: usize,
    echo: u64,
    crc: u32,
}

impl Header {
    fn split(fields: &[u8]) -> Option<(Header, &[u8])> {
        let (_reserved, rest) = fields.split_first_chunk::<2>()?;
        let (transfer, rest) = rest.split_first_chunk()?;
        let (offset, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (echo, rest) = rest.split_first_chunk()?;
        let (crc, payload) = rest.split_first_chunk()?;
        let header = Header {
            transfer: u64::from_le_bytes(*transfer),
            offset: u64::from_le_bytes(*offset),
            length: u32::from_le_bytes(*length) as usize,
            echo: u64::from_le_bytes(*echo),
            crc: u32::from_le_bytes(*crc),
        };
        Some((header, payload))
    }
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    crc32(&[header, payload])
}
