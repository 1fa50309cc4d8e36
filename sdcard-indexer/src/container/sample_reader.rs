//! The bytes of samples, as MP4 has them, whatever the container.

use std::io::{Read, Seek};

use super::boxes::Source;
use super::track::{Sample, Storage, Track};
use super::{ContainerError, mpegts};

/// Reads samples' bytes: what a decoder that was set up with the track's sample description takes.
///
/// Reads no more than the stretch from a sample's offset to its end, so that it does for a part of a file what it
/// does for the whole.
#[derive(Debug)]
pub struct SampleReader<'r, R> {
    source: Source<'r, R>,
}

impl<'r, R: Read + Seek> SampleReader<'r, R> {
    /// `bytes` is how many there are to read from; samples' offsets count from the first.
    pub fn new(reader: &'r mut R, bytes: u64) -> Self {
        SampleReader { source: Source::new(reader, bytes) }
    }

    /// Replaces what is in `bytes` by the sample's [`Sample::size_bytes`]; `track` is its own.
    /// [`ContainerError::Malformed`] where not all of them are there.
    pub fn read(
        &mut self,
        track: &Track,
        sample: &Sample,
        bytes: &mut Vec<u8>,
    ) -> Result<(), ContainerError> {
        match track.storage {
            Storage::Contiguous => {
                self.source.read_into(sample.offset, sample.size_bytes as usize, bytes)
            }
            Storage::TransportPackets { .. } => {
                mpegts::read_sample(&mut self.source, track, sample, bytes)
            }
        }
    }
}
