//! From messages to bytes and back.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | [`PROTOCOL_VERSION`] |
//! | 1 | 1 | [`Kind`] |
//! | 2 | | the message in postcard; for [`Kind::Data`] the fixed layout of [`crate::frame`] |
//!
//! Reading never panics, and allocates in proportion to the bytes that are there, whatever lengths they
//! claim: postcard hands a claimed length on as a hint only where as many bytes are left, and every
//! element of our lists takes at least one.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message::{Ask, CoverageReport, Credit, Presence, Tell};
use crate::{MAX_MESSAGE_BYTES, PROTOCOL_VERSION};

/// What follows the two leading bytes. The numbers are for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Kind {
    Presence = 1,
    Coverage = 2,
    Ask = 3,
    Credit = 4,
    Tell = 5,
    Data = 6,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        use Kind::{Ask, Coverage, Credit, Data, Presence, Tell};
        [Presence, Coverage, Ask, Credit, Tell, Data].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Implemented by the messages of [`crate::message`] and by nothing else.
pub trait Message: Serialize + DeserializeOwned + sealed::Sealed {
    const KIND: Kind;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! message {
    ($($message:ident: $kind:ident),* $(,)?) => {$(
        impl sealed::Sealed for $message {}

        impl Message for $message {
            const KIND: Kind = Kind::$kind;
        }
    )*};
}

message! {
    Presence: Presence,
    CoverageReport: Coverage,
    Ask: Ask,
    Credit: Credit,
    Tell: Tell,
}

/// Why a message cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// To be said in several messages: coverage by windows, parts by `next`.
    #[error("a {kind:?} message of {bytes} bytes is over the limit of {MAX_MESSAGE_BYTES}")]
    TooLarge { kind: Kind, bytes: usize },
    #[error("a {kind:?} message cannot be encoded")]
    Postcard { kind: Kind, source: postcard::Error },
}

/// Why a message or frame that arrived is dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("protocol version {theirs} was spoken, this side speaks {ours}: update the older side")]
    Version { theirs: u8, ours: u8 },
    /// Of this version and yet not known: to be ignored, and counted.
    #[error("kind {kind} is not known")]
    UnknownKind { kind: u8 },
    #[error("{found:?} arrived where {expected:?} belongs")]
    WrongKind { expected: Kind, found: Kind },
    #[error("{bytes} bytes are over the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("cut off after {bytes} bytes")]
    CutOff { bytes: usize },
    #[error("{bytes} bytes follow the end")]
    TrailingBytes { bytes: usize },
    #[error("malformed {kind:?}")]
    Malformed { kind: Kind, source: postcard::Error },
    #[error("the data at offset {offset} run past the end of all offsets")]
    Offset { offset: u64 },
    #[error("checksum {found:08x} instead of {expected:08x}")]
    Checksum { expected: u32, found: u32 },
}

pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, EncodeError> {
    let kind = M::KIND;
    let bytes = postcard::to_extend(message, vec![PROTOCOL_VERSION, kind as u8])
        .map_err(|source| EncodeError::Postcard { kind, source })?;
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(EncodeError::TooLarge { kind, bytes: bytes.len() });
    }
    Ok(bytes)
}

pub fn decode<M: Message>(bytes: &[u8]) -> Result<M, DecodeError> {
    let payload = open(bytes, M::KIND)?;
    match postcard::take_from_bytes(payload) {
        Ok((message, [])) => Ok(message),
        Ok((_, trailing)) => Err(DecodeError::TrailingBytes { bytes: trailing.len() }),
        Err(postcard::Error::DeserializeUnexpectedEnd) => {
            Err(DecodeError::CutOff { bytes: bytes.len() })
        }
        Err(source) => Err(DecodeError::Malformed { kind: M::KIND, source }),
    }
}

/// What follows the two leading bytes, once these are as expected.
pub(crate) fn open(bytes: &[u8], expected: Kind) -> Result<&[u8], DecodeError> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(DecodeError::TooLarge { bytes: bytes.len(), limit: MAX_MESSAGE_BYTES });
    }
    // The version alone decides what a second byte means, so it is judged before that byte is there.
    let (&theirs, rest) = bytes.split_first().ok_or(DecodeError::CutOff { bytes: 0 })?;
    if theirs != PROTOCOL_VERSION {
        return Err(DecodeError::Version { theirs, ours: PROTOCOL_VERSION });
    }
    let (&kind, payload) = rest.split_first().ok_or(DecodeError::CutOff { bytes: 1 })?;
    match Kind::from_byte(kind) {
        Some(found) if found == expected => Ok(payload),
        Some(found) => Err(DecodeError::WrongKind { expected, found }),
        None => Err(DecodeError::UnknownKind { kind }),
    }
}
