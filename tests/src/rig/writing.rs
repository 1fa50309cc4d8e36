//! How a recorder writes its segments, the camera's on its card or the central one: as ffmpeg's segment muxer.
//!
//! While it records, files are called by their numbers; they get the names that their recorder's clock gave
//! them once it has closed them all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use sdcard_indexer::container::Container;
use sdcard_indexer::time::Timestamp;

use super::footage::Sound;
use crate::media::{extension, movflags, muxer};
use crate::naming::Naming;

/// How a recorder writes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Writing {
    pub container: Container,
    pub naming: Naming,
    /// A segment ends with the first keyframe behind it.
    pub segment_seconds: u32,
    /// Each file's time begins at zero; else, where the container has it so, files go on counting.
    pub reset_timestamps: bool,
}

impl Writing {
    /// MediaMTX's names, four seconds a segment, each from zero.
    pub const fn of(container: Container) -> Writing {
        let naming = Naming::MediaMtx;
        Writing { container, naming, segment_seconds: 4, reset_timestamps: true }
    }

    /// Arguments of ffmpeg that copy all streams into files below `directory`, from number `first` on.
    pub(super) fn arguments(
        &self,
        directory: &Path,
        sound: Sound,
        first: usize,
    ) -> anyhow::Result<Vec<String>> {
        let in_boxes = matches!(self.container, Container::FragmentedMp4 | Container::Mp4);
        let without_home = sound == Sound::G711 && self.container == Container::MpegTs;
        ensure!(!without_home, "MPEG-TS has no place for G.711");
        let quicktime = in_boxes && sound == Sound::G711;
        let muxer = if quicktime { "mov" } else { muxer(self.container) };
        let reset = u8::from(self.reset_timestamps);
        let mut arguments = words(&format!(
            "-map 0 -c copy -f segment -segment_time {} -segment_start_number {first} \
             -reset_timestamps {reset} -segment_format {muxer}",
            self.segment_seconds
        ));
        if let Some(movflags) = movflags(self.container) {
            let options = format!("movflags={movflags}");
            arguments.extend(["-segment_format_options".to_owned(), options]);
        }
        arguments.push(self.file(directory, "%d").display().to_string());
        Ok(arguments)
    }

    /// The file of this number, as it is called while its recorder runs.
    pub(super) fn numbered(&self, directory: &Path, number: usize) -> PathBuf {
        self.file(directory, &number.to_string())
    }

    fn file(&self, directory: &Path, stem: &str) -> PathBuf {
        directory.join(stem).with_extension(extension(self.container))
    }

    /// Gives the file of this number its name: its recorder began it at `begun` and wrote to it last at
    /// `ended`, by its own clock.
    pub(super) fn name(
        &self,
        directory: &Path,
        number: usize,
        begun: Timestamp,
        ended: Timestamp,
    ) -> anyhow::Result<PathBuf> {
        let written = self.numbered(directory, number);
        let path = directory.join(self.naming.path(begun));
        let path = path.with_extension(extension(self.container));
        ensure!(!path.exists(), "two segments are called {}", path.display());
        fs::create_dir_all(path.parent().context("a segment lies in a directory")?)?;
        let nanos = u64::try_from(ended.as_nanos()).context("nothing was recorded before 1970")?;
        let file = File::options().append(true).open(&written);
        let file = file.with_context(|| format!("opening {}", written.display()))?;
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos))?;
        fs::rename(&written, &path)?;
        Ok(path)
    }
}

/// Arguments that need no quotes.
pub(super) fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
