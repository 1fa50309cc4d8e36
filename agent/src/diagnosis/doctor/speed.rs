//! How fast a card reads: a little of old recordings, past memory.
//!
//! `O_DIRECT` neither takes from the page cache nor puts into it, so that the recorder's pages stay where they are
//! and the medium itself is measured. File systems without it are read as usual, and that is said.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, PosixFadviseAdvice, posix_fadvise};

/// Recordings of each stream that are read of.
pub const SAMPLES: usize = 4;
/// No further recording is begun after so long.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Of all recordings together.
const MOST_BYTES: u64 = 8 << 20;
const BLOCK_BYTES: usize = 256 * 1024;
/// What any medium is content with.
const ALIGNMENT: usize = 4_096;

#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    pub bytes: u64,
    pub files: usize,
    pub took: Duration,
    pub past_memory: bool,
}

impl Measured {
    pub fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.took.as_secs_f64().max(1e-6)
    }
}

/// `None` where there is nothing to read.
pub fn measure(samples: &[PathBuf]) -> io::Result<Option<Measured>> {
    let mut measured = Measured { past_memory: true, ..Measured::default() };
    let mut buffer = vec![0; BLOCK_BYTES + ALIGNMENT];
    let skip = buffer.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
    let share = MOST_BYTES / (samples.len() as u64).max(1) / BLOCK_BYTES as u64;
    let share = share.max(1) * BLOCK_BYTES as u64;
    let begun = Instant::now();
    for path in samples {
        if begun.elapsed() > PATIENCE || measured.bytes >= MOST_BYTES {
            break;
        }
        let (file, direct) = match open(path) {
            Ok(opened) => opened,
            // The recorder deletes as it likes.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let block = buffer.get_mut(skip..skip + BLOCK_BYTES).unwrap_or_default();
        let before = Instant::now();
        let bytes = read(&file, block, share.min(MOST_BYTES - measured.bytes))?;
        measured.took += before.elapsed();
        measured.bytes += bytes;
        measured.files += usize::from(bytes > 0);
        measured.past_memory &= direct;
    }
    Ok((measured.bytes > 0).then_some(measured))
}

fn open(path: &Path) -> io::Result<(File, bool)> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let open = |flags: OFlag| OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    match open(flags | OFlag::O_DIRECT) {
        Ok(file) => Ok((file, true)),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            let file = open(flags)?;
            // Read once: what is kept for others is not to give way. It is advice, and may fail.
            let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_NOREUSE);
            Ok((file, false))
        }
        Err(error) => Err(error),
    }
}

/// From the middle on: heads were read by the index, tails just now by the recorder.
fn read(file: &File, block: &mut [u8], most: u64) -> io::Result<u64> {
    let middle = file.metadata()?.len() / 2;
    let begin = middle - middle % BLOCK_BYTES as u64;
    let mut done = 0;
    while done < most {
        match file.read_at(block, begin + done) {
            Ok(0) => break,
            Ok(count) => {
                done += count as u64;
                if count < block.len() {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn no_more_is_read_than_allowed_and_what_is_gone_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let mut samples = vec![folder.path().join("gone.mp4")];
        for number in 0..6 {
            let path = folder.path().join(format!("{number}.mp4"));
            let mut file = File::create(&path).unwrap();
            file.write_all(&vec![7; 6 << 20]).unwrap();
            file.sync_all().unwrap();
            samples.push(path);
        }
        let measured = measure(&samples).unwrap().unwrap();
        assert!(measured.bytes <= MOST_BYTES && measured.files >= 6, "{measured:?}");
        assert!(measured.bytes_per_second() > 0.0);
        assert!(measure(&samples[..1]).unwrap().is_none());
        assert!(measure(&[]).unwrap().is_none());
    }

    #[test]
    fn a_small_recording_is_measured_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small.mp4");
        File::create(&path).unwrap().write_all(&[7; 5_000]).unwrap();
        assert_eq!(measure(&[path]).unwrap().unwrap().bytes, 5_000);
    }
}
