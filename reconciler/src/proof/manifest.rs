//! The manifest's format: one JSON document beside the MP4, by default `<name>.mp4.json`.
//!
//! Instants are RFC 3339 in UTC, clock differences nanoseconds (`_ns`), places in the clip seconds since its first
//! frame is shown (`_s`), digests BLAKE3 in hexadecimal. The words for recorders, proofs, seams and states are those
//! of the API. A reader refuses a version that it does not know; what is added within one is left alone by it.

use std::fmt;
use std::str::FromStr;

use sdcard_indexer::container::{Codec, Track, TrackKind};
use sdcard_indexer::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::api::view::Range;
use crate::fleet::StreamKey;
use crate::ledger::PartId;
use crate::rfc3339;
use crate::seam::Seam;
use crate::timeline::{Proof, Recorder, State};

use super::prove::Exporter;

/// What the document says that it is.
pub const FORMAT: &str = "gapless-export-manifest";
pub const VERSION: u32 = 1;

/// What a person who opens it needs to know first.
pub(super) const ABOUT: &str = "Says what the MP4 file beside it holds, who recorded it, and what of the time that \
    was asked for is not in it. `gapless verify-export FILE.mp4` checks one against the other. Whoever alters both \
    is found out only by this document's own BLAKE3, as it was noted when it was exported.";

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    pub format: String,
    pub version: u32,
    pub about: String,
    pub exported: Exporter,
    pub asked: Asked,
    pub file: FileEntry,
    /// From the first frame, which is the keyframe at or before what was asked, to the end of the last.
    pub holds: Range,
    /// Frames of the leading track.
    pub frames: u64,
    pub tracks: Vec<TrackEntry>,
    /// In the order in which they are played.
    pub runs: Vec<RunEntry>,
    /// Where one run goes on from another; between runs that none joins lies a hole.
    pub seams: Vec<SeamEntry>,
    /// The archive's files that runs were taken from.
    pub sources: Vec<SourceEntry>,
    /// Every instant that was asked for, in the order of time, each once.
    pub states: Vec<StateEntry>,
    /// When the server knew what `states` says of what is not in the MP4.
    #[serde(with = "rfc3339::optional")]
    pub states_as_of: Option<Timestamp>,
    /// Where no frame is shown for no longer than this, that is no hole.
    pub join_tolerance_s: f64,
}

/// What the export was of. Where no beginning or no end was named, the first and last of what is known.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Asked {
    #[serde(flatten)]
    pub key: StreamKey,
    #[serde(flatten)]
    pub range: Range,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileEntry {
    /// As it was written; it may be renamed.
    pub name: String,
    pub size_bytes: u64,
    pub blake3: Blake3,
}

/// A track of the MP4, by its place from 1.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TrackEntry {
    pub track: u32,
    /// `video`, `audio` or `other`.
    pub kind: String,
    pub codec: String,
    /// Ticks per second.
    pub timescale: u32,
    pub width: u16,
    pub height: u16,
    /// Of its `stsd` box: what sets the decoder up.
    pub description_blake3: Blake3,
}

/// Footage without a break from one file of the archive.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RunEntry {
    /// From 1.
    pub run: u32,
    /// When it happened.
    #[serde(flatten)]
    pub range: Range,
    /// Where in the MP4 it is.
    pub clip_from_s: f64,
    pub clip_to_s: f64,
    pub by: Recorder,
    /// The archive's file, one of `sources`.
    pub file: String,
    /// Of the leading track.
    pub frames: u64,
    pub clock: Clock,
    pub tracks: Vec<TrackRun>,
}

/// By which clock a run is placed, and how surely.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Clock {
    /// What was added to the device's own time; none where the central recorder's clock was used as it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub added_to_device_ns: Option<i64>,
    /// How far before or behind it may truly lie.
    pub uncertainty_ns: u64,
}

/// What of a run lies in one track of the MP4.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TrackRun {
    pub track: u32,
    pub samples: u64,
    pub bytes: u64,
    /// Decode time of the first of them; none where there are no samples.
    pub first_ticks: Option<u64>,
    /// Over their bytes as the MP4 has them, one after the other in decode order.
    pub blake3: Blake3,
}

/// Where one run goes on from another.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SeamEntry {
    #[serde(with = "rfc3339")]
    pub at: Timestamp,
    pub from_run: u32,
    pub to_run: u32,
    #[serde(flatten)]
    pub seam: Seam,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SourceEntry {
    /// Relative to the archive's root.
    pub file: String,
    pub by: Recorder,
    /// Of the file as it was read: its first so many bytes, where its recorder went on writing.
    pub size_bytes: u64,
    pub blake3: Blake3,
    /// What the ledger knows of a file that came from a card.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub piece: Option<PieceProof>,
}

/// How footage from a card was proved when it was merged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PieceProof {
    pub part: PartId,
    pub proof: Proof,
    /// Of the part as it was read from the card.
    pub part_blake3: Option<Blake3>,
    /// Of the piece as it was written into the archive: the same as the source's, unless that was altered since.
    pub piece_blake3: Blake3,
    #[serde(with = "rfc3339")]
    pub located: Timestamp,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StateEntry {
    #[serde(flatten)]
    pub range: Range,
    #[serde(flatten)]
    pub known: Known,
}

/// A state as the timeline says it, or what it says nothing of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Known {
    State(State),
    Other(Other),
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Other {
    /// Nothing was expected there, or it was too young to be judged.
    NotJudged,
    /// The timeline called it archived, but it is not in the MP4.
    NotExported { reason: String },
}

impl Known {
    pub const fn word(&self) -> &'static str {
        match self {
            Known::State(state) => state.word(),
            Known::Other(Other::NotJudged) => "not_judged",
            Known::Other(Other::NotExported { .. }) => "not_exported",
        }
    }

    pub const fn is_archived(&self) -> bool {
        matches!(self, Known::State(State::Archived { .. }))
    }
}

impl fmt::Display for Known {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Known::State(state) => state.fmt(formatter),
            Known::Other(Other::NotJudged) => formatter.write_str("not_judged"),
            Known::Other(Other::NotExported { reason }) => {
                write!(formatter, "not_exported: {reason}")
            }
        }
    }
}

/// A digest, as people and programs write it: 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blake3(pub blake3::Hash);

impl From<[u8; 32]> for Blake3 {
    fn from(bytes: [u8; 32]) -> Self {
        Blake3(bytes.into())
    }
}

impl fmt::Display for Blake3 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.to_hex())
    }
}

impl fmt::Debug for Blake3 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`{text}` is no BLAKE3 digest: give 64 hexadecimal digits")]
pub struct NoDigest {
    text: String,
}

impl FromStr for Blake3 {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let hash = blake3::Hash::from_hex(text.trim());
        hash.map(Blake3).map_err(|_| NoDigest { text: text.chars().take(80).collect() })
    }
}

impl Serialize for Blake3 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Blake3 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl TrackEntry {
    pub(super) fn of(index: usize, track: &Track) -> TrackEntry {
        let kind = match track.kind {
            TrackKind::Video => "video",
            TrackKind::Audio => "audio",
            TrackKind::Other => "other",
        };
        TrackEntry {
            track: number_of(index),
            kind: kind.to_owned(),
            codec: codec_word(track.codec),
            timescale: track.timescale,
            width: track.width,
            height: track.height,
            description_blake3: Blake3(blake3::hash(&track.sample_description)),
        }
    }
}

/// People count from 1.
pub(super) fn number_of(index: usize) -> u32 {
    u32::try_from(index).map_or(u32::MAX, |index| index.saturating_add(1))
}

fn codec_word(codec: Codec) -> String {
    match codec {
        Codec::H264 => "h264".to_owned(),
        Codec::H265 => "h265".to_owned(),
        Codec::Aac => "aac".to_owned(),
        Codec::Opus => "opus".to_owned(),
        Codec::Pcma => "pcm_alaw".to_owned(),
        Codec::Pcmu => "pcm_mulaw".to_owned(),
        Codec::Other(code) => code.escape_ascii().to_string(),
    }
}

impl Manifest {
    /// As it is written: what its own digest is taken of.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        Ok(json)
    }

    /// The parts of `states` that the MP4 has.
    pub fn is_whole(&self) -> bool {
        self.states.iter().all(|entry| entry.known.is_archived())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_survives_json_under_the_timelines_words() {
        let archived =
            State::Archived { by: Recorder::Edge, proof: Proof::Sealed, uncertainty_ns: 7 };
        let all = [
            Known::State(archived),
            Known::State(State::Missing),
            Known::State(State::Failed { reason: "why".to_owned() }),
            Known::Other(Other::NotJudged),
            Known::Other(Other::NotExported { reason: "gone".to_owned() }),
        ];
        for known in all {
            let range = crate::examples::seconds(0, 9).into();
            let entry = StateEntry { range, known };
            let json = serde_json::to_value(&entry).unwrap();
            assert_eq!(json["state"], entry.known.word());
            assert_eq!(serde_json::from_value::<StateEntry>(json).unwrap(), entry);
        }
    }

    #[test]
    fn a_state_that_nobody_knows_is_refused() {
        let json = r#"{"from":"1970-01-01T00:00:00Z","to":"1970-01-01T00:00:09Z","seconds":9.0,"state":"fine"}"#;
        assert!(serde_json::from_str::<StateEntry>(json).is_err());
    }

    #[test]
    fn a_digest_is_64_hexadecimal_digits() {
        let digest = Blake3(blake3::hash(b"x"));
        assert_eq!(digest.to_string().parse::<Blake3>().unwrap(), digest);
        for text in ["", "12", &"g".repeat(64), &"0".repeat(65)] {
            assert!(text.parse::<Blake3>().unwrap_err().to_string().contains("64"), "{text}");
        }
    }
}
