//! The last lines that an agent logged, for whoever comes later: it logs to no file, and never to the card.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

const MAX_BYTES: usize = 32 * 1024;
const MAX_LINE_BYTES: usize = 1_024;

/// Keeps what is written to it, and passes all of it on to standard error.
#[derive(Clone, Debug, Default)]
pub struct LogRing(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<String>,
    bytes: usize,
}

impl LogRing {
    /// Oldest first.
    pub fn lines(&self) -> Vec<String> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.lines.iter().cloned().collect()
    }

    fn keep(&self, text: &str) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for line in text.lines().filter(|line| !line.is_empty()) {
            let line = beginning(line).to_owned();
            held.bytes += line.len();
            held.lines.push_back(line);
            while held.bytes > MAX_BYTES {
                let Some(oldest) = held.lines.pop_front() else { break };
                held.bytes -= oldest.len();
            }
        }
    }
}

/// As much of a line as is kept of it.
fn beginning(line: &str) -> &str {
    let most = line.len().min(MAX_LINE_BYTES);
    let end = (0..=most).rev().find(|end| line.is_char_boundary(*end));
    &line[..end.unwrap_or(0)]
}

/// The subscriber hands over one whole event at a time.
impl Write for &LogRing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.keep(&String::from_utf8_lossy(bytes));
        io::stderr().write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for LogRing {
    type Writer = &'a LogRing;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_and_no_more_of_them_than_there_is_room_for() {
        let ring = LogRing::default();
        ring.keep("first\nsecond\n");
        assert_eq!(ring.lines(), ["first", "second"]);
        ring.keep(&"ö".repeat(5_000));
        for number in 0..5_000 {
            ring.keep(&format!("line {number}\n"));
        }
        let lines = ring.lines();
        assert_eq!(lines.last().map(String::as_str), Some("line 4999"));
        let bytes: usize = lines.iter().map(String::len).sum();
        assert!(bytes <= MAX_BYTES && bytes > MAX_BYTES - MAX_LINE_BYTES, "{bytes}");
    }
}
