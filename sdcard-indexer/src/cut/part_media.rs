//! What a player needs to use a part's bytes, as it travels: opaque to the wire between device and server.
//!
//! Encoded as one byte of version, then the struct in postcard, whose fields may only be appended to with a
//! new version.

use serde::{Deserialize, Serialize};

use super::CutError;
use super::sample_table::SampleTable;
use crate::container::{MAX_TRACKS, MediaTime, Sample, Track};

/// Longest accepted encoding: four times what an MQTT packet of ours may carry.
pub const MAX_PART_MEDIA_BYTES: usize = 1024 * 1024;
/// Samples in a part that is read; what is cut keeps to [`super::CutLimits`].
const MAX_SAMPLES: usize = 65_536;
const VERSION: u8 = 2;

/// What a player needs besides a part's bytes: the tracks, and which bytes are which sample.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartMedia {
    pub tracks: Vec<Track>,
    /// Index of the track whose keyframes the part was cut at.
    pub primary: u8,
    /// Media time of the part's beginning. The tracks' ticks say where in the segment a sample is shown
    /// ([`Track::media_time`]), this says where in the part.
    pub starts_at: MediaTime,
    samples: SampleTable,
}

impl PartMedia {
    pub(super) fn new(tracks: Vec<Track>, primary: usize, starts_at: MediaTime) -> Self {
        let primary = u8::try_from(primary).expect("a file has at most MAX_TRACKS tracks");
        PartMedia { tracks, primary, starts_at, samples: SampleTable::default() }
    }

    pub(super) fn with_samples(self, samples: SampleTable) -> Self {
        PartMedia { samples, ..self }
    }

    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION])
            .expect("a Vec takes all, and every length is known")
    }

    /// Allocates no more than a small multiple of `bytes`, whatever they say.
    pub fn decode(bytes: &[u8]) -> Result<PartMedia, CutError> {
        if bytes.len() > MAX_PART_MEDIA_BYTES {
            return Err(CutError::Malformed("it is too long"));
        }
        let (&version, body) = bytes.split_first().ok_or(CutError::Malformed("it is empty"))?;
        if version != VERSION {
            return Err(CutError::Version { found: version, known: VERSION });
        }
        let (media, rest) = postcard::take_from_bytes::<PartMedia>(body)
            .map_err(|_| CutError::Malformed("it ends early, or a field is out of bounds"))?;
        media.check(rest).map(|()| media)
    }

    fn check(&self, rest: &[u8]) -> Result<(), CutError> {
        let tracks = self.tracks.len();
        let wrong = if !rest.is_empty() {
            "bytes follow it"
        } else if tracks > MAX_TRACKS {
            "too many tracks"
        } else if usize::from(self.primary) >= tracks {
            "the primary track does not exist"
        } else if self.samples.tracks() != tracks {
            "a track without samples, or samples without a track"
        } else if self.tracks.iter().any(|track| track.timescale == 0) {
            "a timescale of zero"
        } else if !self.tracks.iter().all(|track| track.storage.is_known()) {
            "packets of no known size"
        } else {
            return Ok(());
        };
        Err(CutError::Malformed(wrong))
    }
}

/// The samples of a part of `part_bytes`: exactly those of its media range, track after track, each in
/// decode order. Their offsets count from the part's first byte, and all lie within it.
pub fn part_samples(needs: &PartMedia, part_bytes: u64) -> Result<Vec<Sample>, CutError> {
    let mut samples = Vec::new();
    for sample in needs.samples.samples(&needs.tracks) {
        let sample = sample?;
        if sample.end_offset() > part_bytes {
            return Err(CutError::Malformed("a sample outside of the part's bytes"));
        }
        if samples.len() == MAX_SAMPLES {
            return Err(CutError::Malformed("too many samples"));
        }
        samples.push(sample);
    }
    Ok(samples)
}
