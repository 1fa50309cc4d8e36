//! Reading recordings: through one small window, and never another recording than the one meant.

use std::io::{self, Read, Seek, SeekFrom};

use crate::container::ContainerError;
use crate::cut::CutError;
use crate::digest::{SealDigest, SealedBytes};
use crate::identity::{FINGERPRINT_BYTES, SegmentVersion};
use crate::recordings::{OpenRecording, read_full_at};
use crate::segment::FileStamp;

/// Why bytes of a segment cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the segment is no longer there")]
    Gone,
    #[error("another file stands under the segment's name")]
    Changed,
    #[error("the card cannot be read")]
    Io(#[source] io::Error),
    #[error("the recording cannot be cut")]
    Cut(#[source] CutError),
    /// The card itself says so: see [`crate::digest`].
    #[error("from offset {offset} on, the bytes are not those that were recorded")]
    Altered { offset: u64 },
    #[error("at offset {offset}, two reads of the card gave different bytes")]
    Unsteady { offset: u64 },
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { ReadError::Gone } else { ReadError::Io(error) }
    }
}

impl From<CutError> for ReadError {
    fn from(error: CutError) -> Self {
        match error {
            CutError::Container(ContainerError::Io(error)) => error.into(),
            other => ReadError::Cut(other),
        }
    }
}

/// An open recording with the identity of its bytes.
///
/// It is read through a few small windows, the first of which begins as the head that the fingerprint is taken
/// from. Walkers go from header to header, far apart: one read of the card for each, and none to come back to
/// where they were just before.
#[derive(Debug)]
pub(crate) struct Recording {
    file: Box<dyn OpenRecording>,
    pub stamp: FileStamp,
    pub fingerprint: u64,
    position: u64,
    /// The one that was filled last comes last.
    windows: [Window; WINDOWS],
}

const WINDOWS: usize = 3;
const WINDOW_BYTES: usize = FINGERPRINT_BYTES;

/// Bytes of the file that are in memory.
#[derive(Debug, Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// Reads no further than the file was found to reach, where it reaches so far: at its end, that would be
    /// one read more, of nothing.
    fn fill(&mut self, file: &dyn OpenRecording, position: u64, size_bytes: u64) -> io::Result<()> {
        let known = usize::try_from(size_bytes.saturating_sub(position)).unwrap_or(WINDOW_BYTES);
        let length = if known == 0 { WINDOW_BYTES } else { known.min(WINDOW_BYTES) };
        self.bytes.resize(length, 0);
        self.start = position;
        let filled = read_full_at(file, &mut self.bytes, position);
        self.bytes.truncate(*filled.as_ref().unwrap_or(&0));
        filled.map(|_| ())
    }

    fn from(&self, position: u64) -> &[u8] {
        let distance = position.checked_sub(self.start);
        let from = distance.and_then(|distance| usize::try_from(distance).ok());
        from.and_then(|from| self.bytes.get(from..)).unwrap_or_default()
    }
}

impl Recording {
    pub fn new(file: Box<dyn OpenRecording>) -> io::Result<Self> {
        let stamp = file.stamp()?;
        let mut head = Window::default();
        head.fill(&*file, 0, stamp.size_bytes)?;
        let fingerprint = SegmentVersion::of(stamp.size_bytes, &head.bytes).fingerprint;
        let windows = [Window::default(), Window::default(), head];
        Ok(Recording { file, stamp, fingerprint, position: 0, windows })
    }

    pub fn version(&self) -> SegmentVersion {
        SegmentVersion { size_bytes: self.stamp.size_bytes, fingerprint: self.fingerprint }
    }

    /// Whether the bytes that `version` names stand here. A file that has grown since still has them.
    pub fn holds(&self, version: SegmentVersion) -> bool {
        self.fingerprint == version.fingerprint && self.stamp.size_bytes >= version.size_bytes
    }

    pub fn sealed_bytes(&self) -> SealedBytes {
        SealedBytes { version: self.version(), modified_ns: self.stamp.modified_ns }
    }

    pub fn into_file(self) -> Box<dyn OpenRecording> {
        self.file
    }

    pub fn into_reader(self, version: SegmentVersion, sealed: Option<SealDigest>) -> SegmentReader {
        SegmentReader { file: self.file, version, sealed }
    }

    /// What a window has from the position on.
    fn at_hand(&self) -> &[u8] {
        let windows = self.windows.iter().rev().map(|window| window.from(self.position));
        windows.max_by_key(|bytes| bytes.len()).unwrap_or_default()
    }
}

impl Read for Recording {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at_hand().is_empty() {
            if buffer.len() > WINDOW_BYTES {
                let count = self.file.read_at(buffer, self.position)?;
                self.position += count as u64;
                return Ok(count);
            }
            self.windows.rotate_left(1);
            if let Some(window) = self.windows.last_mut() {
                window.fill(&*self.file, self.position, self.stamp.size_bytes)?;
            }
        }
        let count = self.at_hand().read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Recording {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        let position = match target {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
            SeekFrom::End(distance) => self.file.stamp()?.size_bytes.checked_add_signed(distance),
        };
        let before_start =
            || io::Error::new(io::ErrorKind::InvalidInput, "before the file's start");
        self.position = position.ok_or_else(before_start)?;
        Ok(self.position)
    }
}

/// The bytes of one version of a segment.
#[derive(Debug)]
pub struct SegmentReader {
    file: Box<dyn OpenRecording>,
    version: SegmentVersion,
    sealed: Option<SealDigest>,
}

impl SegmentReader {
    /// Fills as much of `buffer` as the version has from `offset` on; short only at its end.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let left = self.version.size_bytes.saturating_sub(offset);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        Ok(read_full_at(&*self.file, buffer.get_mut(..length).unwrap_or_default(), offset)?)
    }

    /// Fills `buffer`. [`ReadError::Changed`] where the version had these bytes, and the recording has them
    /// no longer: it was cut off since.
    pub fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let whole = self.read_at(offset, buffer)? == buffer.len();
        if whole { Ok(()) } else { Err(ReadError::Changed) }
    }

    pub fn version(&self) -> SegmentVersion {
        self.version
    }

    /// What these bytes were when the segment was sealed, where that is known.
    pub fn sealed(&self) -> Option<&SealDigest> {
        self.sealed.as_ref()
    }

    /// See [`OpenRecording::forget_cached`].
    pub(crate) fn forget_cached(&self) -> Result<bool, ReadError> {
        Ok(self.file.forget_cached()?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::io::{Cursor, Write};

    use super::*;

    proptest! {
        #[test]
        fn a_recording_reads_and_seeks_as_its_bytes_in_memory_do(
            size in 0..30_000_usize,
            steps in prop::collection::vec((0..31_000_u64, -9_000..9_000_i64, 1..9_000_usize), 1..20),
        ) {
            let bytes: Vec<u8> = (0..size).map(|i| (i * 7 + i / 251) as u8).collect();
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            let mut recording = Recording::new(Box::new(file)).unwrap();
            let mut memory = Cursor::new(bytes);
            for (offset, distance, length) in steps {
                let target = if distance % 3 == 0 {
                    SeekFrom::Start(offset)
                } else {
                    SeekFrom::Current(distance)
                };
                prop_assert_eq!(recording.seek(target).ok(), memory.seek(target).ok());
                let (mut read, mut expected) = (Vec::new(), Vec::new());
                Read::by_ref(&mut recording).take(length as u64).read_to_end(&mut read).unwrap();
                Read::by_ref(&mut memory).take(length as u64).read_to_end(&mut expected).unwrap();
                prop_assert_eq!(read, expected);
            }
        }
    }

    #[test]
    fn a_reader_ends_where_its_version_ends_though_the_file_goes_on() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 6_000]).unwrap();
        let recording = Recording::new(Box::new(file)).unwrap();
        let version = SegmentVersion { size_bytes: 5_000, ..recording.version() };
        assert!(recording.holds(version));
        let longer = SegmentVersion { size_bytes: 6_001, ..version };
        assert!(!recording.holds(longer));
        let reader = recording.into_reader(version, None);
        let mut buffer = [0; 4_096];
        assert_eq!(reader.read_at(0, &mut buffer).unwrap(), 4_096);
        assert_eq!(reader.read_at(4_096, &mut buffer).unwrap(), 904);
        assert_eq!(reader.read_at(5_000, &mut buffer).unwrap(), 0);
    }
}
