//! A recording of the archive, opened to take samples from.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use sdcard_indexer::container::{self, ContainerError, Sample, SampleReader, Summary, Track};

/// 256 MB of samples: more than half a day of picture and sound in one file.
const MOST_SAMPLES: usize = 1 << 22;

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("cannot be opened")]
    Open(#[source] std::io::Error),
    #[error("cannot be read as a recording")]
    Container(#[from] ContainerError),
    #[error(
        "holds {recordings} recordings one after the other, of which only the first could be read"
    )]
    SeveralRecordings { recordings: u32 },
    #[error("has {found_bytes} bytes, and had {file_bytes} before")]
    Shorter { found_bytes: u64, file_bytes: u64 },
    #[error("holds more than {MOST_SAMPLES} samples")]
    TooLong,
}

/// Reads only; holds the file open and no more than its tracks.
#[derive(Debug)]
pub struct Source {
    file: Metered,
    file_bytes: u64,
    summary: Summary,
}

/// A file that counts what is read of it.
#[derive(Debug)]
pub struct Metered {
    file: File,
    bytes_read: u64,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.read(buffer)?;
        self.bytes_read = self.bytes_read.saturating_add(bytes as u64);
        Ok(bytes)
    }
}

impl Seek for Metered {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}

impl Source {
    pub fn open(path: &Path) -> Result<Source, SourceError> {
        let file = File::open(path).map_err(SourceError::Open)?;
        let file_bytes = file.metadata().map_err(SourceError::Open)?.len();
        let mut file = Metered { file, bytes_read: 0 };
        let summary = container::summarise(&mut file, file_bytes)?;
        match summary.recordings {
            0 | 1 => Ok(Source { file, file_bytes, summary }),
            recordings => Err(SourceError::SeveralRecordings { recordings }),
        }
    }

    /// Opens a file again of which the summary is known, as long as it was then: what has been appended since does
    /// not exist.
    pub fn reopen(path: &Path, file_bytes: u64, summary: Summary) -> Result<Source, SourceError> {
        let file = File::open(path).map_err(SourceError::Open)?;
        let found_bytes = file.metadata().map_err(SourceError::Open)?.len();
        if found_bytes < file_bytes {
            return Err(SourceError::Shorter { found_bytes, file_bytes });
        }
        Ok(Source { file: Metered { file, bytes_read: 0 }, file_bytes, summary })
    }

    pub const fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Every sample, one track after the other, each in decode order.
    pub fn samples(&mut self) -> Result<Vec<Sample>, SourceError> {
        let mut samples = Vec::new();
        for sample in container::samples(&mut self.file, self.file_bytes)? {
            if samples.len() == MOST_SAMPLES {
                return Err(SourceError::TooLong);
            }
            samples.push(sample?);
        }
        Ok(samples)
    }

    /// Those of one track, in decode order: what lies behind it in the order of tracks is not looked for.
    pub fn samples_of(&mut self, track: usize) -> Result<Vec<Sample>, SourceError> {
        let mut samples = Vec::new();
        for sample in container::samples(&mut self.file, self.file_bytes)? {
            let sample = sample?;
            match sample.track.cmp(&track) {
                Ordering::Less => continue,
                Ordering::Equal if samples.len() == MOST_SAMPLES => {
                    return Err(SourceError::TooLong);
                }
                Ordering::Equal => samples.push(sample),
                Ordering::Greater => break,
            }
        }
        Ok(samples)
    }

    /// The tracks, and what reads their samples' bytes.
    pub fn media(&mut self) -> (&[Track], SampleReader<'_, Metered>) {
        (&self.summary.tracks, SampleReader::new(&mut self.file, self.file_bytes))
    }

    /// Bytes read of the file since it was opened.
    pub fn bytes_read(&self) -> u64 {
        self.file.bytes_read
    }
}
