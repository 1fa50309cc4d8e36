//! What an agent logs: lines on standard error, and the last of them for whoever comes later. It logs to no file, and
//! never to the card.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use sdcard_indexer::readable::explain;
use sdcard_indexer::time::Timestamp;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::clock;

const MAX_BYTES: usize = 32 * 1024;
const MAX_LINE_BYTES: usize = 1_024;

/// Its last lines.
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

/// Makes a line of each event: when, how grave, in which room, what, and with what about it. There are no spans.
#[derive(Debug)]
pub struct Logger {
    ring: LogRing,
    most: Level,
}

impl Logger {
    pub fn new(ring: LogRing, most: Level) -> Self {
        Logger { ring, most }
    }
}

impl Subscriber for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.most
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.most))
    }

    fn event(&self, event: &Event<'_>) {
        let nanos = clock::realtime().as_nanos();
        let to_the_microsecond = Timestamp::from_nanos(nanos - nanos.rem_euclid(1_000));
        let metadata = event.metadata();
        let mut line =
            Line(format!("{to_the_microsecond} {:>5} {}:", metadata.level(), metadata.target()));
        event.record(&mut line);
        // Names of files may hold anything, and are read on terminals.
        let mut line = line.0.replace(char::is_control, " ");
        self.ring.keep(&line);
        line.push('\n');
        // Where nobody can be told any more, there is nobody to complain to.
        let _ = io::stderr().write_all(line.as_bytes());
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Into a string: never fails.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }

    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        self.record_debug(field, &format_args!("{}", explain(error)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_with_all_that_it_tells_and_the_graver_ones_only() {
        let ring = LogRing::default();
        let logger = Logger::new(ring.clone(), Level::INFO);
        tracing::subscriber::with_default(logger, || {
            let error: Box<dyn Error> = Box::new(io::Error::other("no\nroom"));
            tracing::warn!(
                error = &*error as &dyn Error,
                path = "a b",
                count = 3,
                "not {}",
                "kept"
            );
            tracing::debug!("what nobody wants");
        });
        let lines = ring.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let told =
            " WARN agent::diagnosis::log::tests: not kept error=no room path=\"a b\" count=3";
        assert!(lines[0].ends_with(told), "{lines:?}");
        assert!(lines[0].starts_with("20") && lines[0].contains("Z "), "{lines:?}");
    }

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
