//! How values of the API read on a terminal of 80 columns.

use std::io::{self, Write};
use std::time::Duration;

use sdcard_indexer::readable::{length_of, second_of, size_of, time_of, wrapped, zoned};
use sdcard_indexer::time::Timestamp;

use crate::api::view::{Range, Stretch};

const COLUMNS: usize = 80;
/// Where the second column begins.
const INDENT: usize = 13;
/// Columns of a stretch before its state.
const STATE_AT: usize = 42;

/// A word, and a text that goes on below itself where it is long.
pub(super) fn row(out: &mut dyn Write, word: &str, text: &str) -> io::Result<()> {
    for (index, line) in wrapped(text, COLUMNS - INDENT).into_iter().enumerate() {
        let word = if index == 0 { word } else { "" };
        writeln!(out, "  {word:<width$}{line}", width = INDENT - 2)?;
    }
    Ok(())
}

/// `10:00:00.000  10:00:45.000         45s`, each day under its date; behind it a text in its own columns.
pub(super) fn stretches<'a>(
    out: &mut dyn Write,
    all: impl IntoIterator<Item = (&'a Range, String)>,
) -> io::Result<()> {
    let mut day = None;
    for (range, text) in all {
        let date = zoned(range.from).date();
        if day != Some(date) {
            writeln!(out, "  {date} (UTC)")?;
            day = Some(date);
        }
        let mut lines = wrapped(&text, COLUMNS - STATE_AT).into_iter();
        let first = lines.next().unwrap_or_default();
        let (from, to) = (time_of(range.from), time_of(range.to));
        let length = seconds(range.seconds);
        writeln!(out, "{}", format!("  {from}  {to}  {length:>10}  {first}").trim_end())?;
        for line in lines {
            writeln!(out, "{:STATE_AT$}{line}", "")?;
        }
    }
    Ok(())
}

pub(super) fn states(all: &[Stretch]) -> impl Iterator<Item = (&Range, String)> {
    all.iter().map(|stretch| (&stretch.range, stretch.state.to_string()))
}

/// `45s 120ms`; of what no clock can show, nothing.
pub(super) fn seconds(seconds: f64) -> String {
    length_of(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// `2026-11-23 10:00:00 to 10:00:45 (UTC), 45s`
pub(super) fn range(range: &Range) -> String {
    let (from, to) = (second_of(range.from), second_of(range.to));
    let same_day = zoned(range.from).date() == zoned(range.to).date();
    let to = if same_day { to.split(' ').next_back().unwrap_or_default() } else { &to };
    format!("{from} to {to} (UTC), {}", seconds(range.seconds))
}

/// `2.1 MiB/s`, or nothing.
pub(super) fn rate(bytes_per_second: Option<u64>) -> String {
    bytes_per_second.map_or_else(String::new, |rate| format!("{}/s", size_of(rate)))
}

/// `in 2m 10s`, or `now`.
pub(super) fn from_now(instant: Timestamp, now: Timestamp) -> String {
    match Duration::from_secs(instant.since(now).as_secs()) {
        Duration::ZERO => "now".to_owned(),
        length => format!("in {}", length_of(length)),
    }
}

pub(super) fn now() -> Timestamp {
    Timestamp::from_jiff(jiff::Timestamp::now())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[track_caller]
    pub fn assert_fits(out: &[u8]) -> String {
        let text = String::from_utf8(out.to_vec()).unwrap();
        for line in text.lines() {
            assert!(line.chars().count() <= COLUMNS, "{} columns: {line}", line.chars().count());
        }
        text
    }

    #[test]
    fn ranges_are_told_with_the_second_date_only_where_it_is_another() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let range_of = |from, to| {
            range(&sdcard_indexer::time::TimeRange::new(at(from), at(to)).unwrap().into())
        };
        assert_eq!(
            range_of("2026-11-23T10:00:00Z", "2026-11-23T10:00:45.5Z"),
            "2026-11-23 10:00:00 to 10:00:45 (UTC), 45s 500ms"
        );
        assert_eq!(
            range_of("2026-11-23T23:00:00Z", "2026-11-24T01:00:00Z"),
            "2026-11-23 23:00:00 to 2026-11-24 01:00:00 (UTC), 2h"
        );
    }

    #[test]
    fn long_texts_go_on_below_themselves() {
        let mut out = Vec::new();
        row(&mut out, "waits for", &"ethernet ".repeat(20)).unwrap();
        let text = assert_fits(&out);
        assert!(text.contains("\n             ethernet"), "{text}");
    }

    #[test]
    fn what_is_to_come_is_told_from_now() {
        let now = Timestamp::from_unix_seconds(100);
        assert_eq!(from_now(Timestamp::from_unix_seconds(230), now), "in 2m 10s");
        assert_eq!(from_now(Timestamp::from_unix_seconds(1), now), "now");
    }
}
