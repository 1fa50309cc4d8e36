//! A recording of the archive, opened to take samples from.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use sdcard_indexer::container::{
    self, ContainerError, MediaTime, Sample, SampleReader, Summary, Track,
};

/// 256 MB of samples: more than half a day of picture and sound in one file.
const MOST_SAMPLES: usize = 1 << 22;

/// No frame is decoded so much later than it is shown.
const REORDERED_WITHIN_NS: i64 = 1_000_000_000;

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

/// Some of a recording's frames, one after the other in decode order.
#[derive(Debug)]
pub struct FrameTable {
    pub frames: Vec<Sample>,
    /// They begin with the recording's first.
    pub from_the_first: bool,
    /// The one that follows; `None` where they end with the recording's last.
    pub next: Option<Sample>,
}

impl Source {
    pub fn open(path: &Path) -> Result<Source, SourceError> {
        Source::known_by(container::summarise, path)
    }

    /// Reads no more of it than its head and its tail, where these tell what there is: damage between them is met by
    /// whoever comes there.
    pub fn open_by_its_ends(path: &Path) -> Result<Source, SourceError> {
        Source::known_by(container::extent, path)
    }

    fn known_by(
        look: impl FnOnce(&mut Metered, u64) -> Result<Summary, ContainerError>,
        path: &Path,
    ) -> Result<Source, SourceError> {
        let file = File::open(path).map_err(SourceError::Open)?;
        let file_bytes = file.metadata().map_err(SourceError::Open)?.len();
        let mut file = Metered { file, bytes_read: 0 };
        let summary = look(&mut file, file_bytes)?;
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

    /// Those of the primary track that are shown within a time, and some before and behind, without what else the
    /// file holds: see [`container::samples_near`].
    pub fn frames_near(&mut self, shown: Range<MediaTime>) -> Result<FrameTable, SourceError> {
        let mut near = container::samples_near(&mut self.file, self.file_bytes, shown.start)?;
        let from_the_first = near.is_from_the_first();
        let Some(track) = near.track().cloned() else {
            return Err(ContainerError::NoSamples.into());
        };
        let until = MediaTime(shown.end.0.saturating_add(REORDERED_WITHIN_NS));
        let mut frames = Vec::new();
        while let Some(frame) = near.next().transpose()? {
            if track.media_time(frame.decode_ticks) > until {
                return Ok(FrameTable { frames, from_the_first, next: Some(frame) });
            }
            if frames.len() == MOST_SAMPLES {
                return Err(SourceError::TooLong);
            }
            frames.push(frame);
        }
        Ok(FrameTable { frames, from_the_first, next: None })
    }

    /// When the first keyframe is shown, of at most so many frames.
    pub fn first_keyframe(&mut self, most: usize) -> Result<Option<MediaTime>, SourceError> {
        let mut frames = container::samples_near(&mut self.file, self.file_bytes, MediaTime(0))?;
        let track = frames.track().cloned();
        let keyframe =
            |frame: &Result<Sample, _>| !frame.as_ref().is_ok_and(|frame| !frame.keyframe);
        let first = frames.by_ref().take(most).find(keyframe).transpose()?;
        Ok(first.zip(track).map(|(first, track)| first.starts_at(&track)))
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
