//! A recording of the archive, opened to take samples from.

use std::fs::File;
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
    #[error("holds more than {MOST_SAMPLES} samples")]
    TooLong,
}

/// Reads only; holds the file open and no more than its tracks.
#[derive(Debug)]
pub struct Source {
    file: File,
    file_bytes: u64,
    summary: Summary,
}

impl Source {
    pub fn open(path: &Path) -> Result<Source, SourceError> {
        let mut file = File::open(path).map_err(SourceError::Open)?;
        let file_bytes = file.metadata().map_err(SourceError::Open)?.len();
        let summary = container::summarise(&mut file, file_bytes)?;
        match summary.recordings {
            0 | 1 => Ok(Source { file, file_bytes, summary }),
            recordings => Err(SourceError::SeveralRecordings { recordings }),
        }
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

    /// The tracks, and what reads their samples' bytes.
    pub fn media(&mut self) -> (&[Track], SampleReader<'_, File>) {
        (&self.summary.tracks, SampleReader::new(&mut self.file, self.file_bytes))
    }
}
