//! Digests of whole files, with word of how far it is.
//!
//! Reads only.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::Progress;
use super::manifest::Blake3;

const BUFFER_BYTES: usize = 1 << 20;

/// BLAKE3 of the first `most` bytes of a file, and how many there were: a recorder may still be writing behind them.
pub(crate) fn digest_of(
    path: &Path,
    most: Option<u64>,
    progress: &dyn Progress,
) -> io::Result<(u64, Blake3)> {
    let file = File::open(path)?;
    let most = most.unwrap_or(file.metadata()?.len());
    let mut reader = file.take(most);
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let bytes = match reader.read(&mut buffer) {
            Ok(0) => return Ok((hasher.count(), Blake3(hasher.finalize()))),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(buffer.get(..bytes).unwrap_or_default());
        progress.done(bytes as u64);
    }
}
