//! The recorder: writes at a steady rate, and makes each bit of it durable; how long it waits for that is the measure.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// 8 Mbit/s, as four fragments a second.
pub const BYTES_PER_SECOND: usize = 1_000_000;
pub const FRAGMENTS_PER_SECOND: u32 = 4;
/// As a muxer gives them out.
const WRITE_BYTES: usize = 32 * 1_024;
/// A recorder begins another file so often.
const FRAGMENTS_PER_FILE: u32 = 40;

/// How long each fragment took until it was durable, the shortest first.
pub struct Waits(Vec<Duration>);

impl Waits {
    /// Blocks for so long.
    pub fn record(folder: &Path, length: Duration) -> std::io::Result<Waits> {
        std::fs::create_dir_all(folder)?;
        let fragment = vec![0x5a_u8; BYTES_PER_SECOND / FRAGMENTS_PER_SECOND as usize];
        let every = Duration::from_secs(1) / FRAGMENTS_PER_SECOND;
        let begun = Instant::now();
        let mut waits = Vec::new();
        let mut file = File::create(folder.join("0"))?;
        for number in 0.. {
            let due = every * number;
            if due >= length {
                break;
            }
            // A camera does not wait: what is late is written at once.
            sleep(due.saturating_sub(begun.elapsed()));
            if number % FRAGMENTS_PER_FILE == 0 {
                // As a ring does, so that no run finds the disk fuller than the one before.
                file = File::create(folder.join((number / FRAGMENTS_PER_FILE % 2).to_string()))?;
            }
            let before = Instant::now();
            for bytes in fragment.chunks(WRITE_BYTES) {
                file.write_all(bytes)?;
            }
            file.sync_data()?;
            waits.push(before.elapsed());
        }
        waits.sort();
        Ok(Waits(waits))
    }

    /// So many of a hundred were no longer.
    pub fn percentile(&self, percent: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        let index = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(index.min(last)).copied().unwrap_or_default()
    }
}
