//! Instants, lengths, sizes and errors as people read them, in few columns.
//!
//! For terminals only: what programs read has whole numbers, RFC 3339 and units in its keys.

use std::error::Error;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SpanRound, Unit, Zoned};

use crate::time::Timestamp;

/// An instant in UTC, for calendars.
pub fn zoned(instant: Timestamp) -> Zoned {
    instant.to_jiff().to_zoned(TimeZone::UTC)
}

/// `2026-11-23 10:00:05`, in UTC.
pub fn second_of(instant: Timestamp) -> String {
    zoned(instant).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `10:00:05.120`, in UTC.
pub fn time_of(instant: Timestamp) -> String {
    let rounded = zoned(instant).round(Unit::Millisecond).unwrap_or_else(|_| zoned(instant));
    rounded.strftime("%H:%M:%S.%3f").to_string()
}

/// `45s 120ms`, `1m 40s`, `8h`, `3d 4h`: at most two units, never more than ten columns.
pub fn length_of(duration: Duration) -> String {
    let (largest, smallest) = match duration.as_secs() {
        0..60 => (Unit::Second, Unit::Millisecond),
        60..3_600 => (Unit::Minute, Unit::Second),
        3_600..172_800 => (Unit::Hour, Unit::Minute),
        _ => (Unit::Day, Unit::Hour),
    };
    let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let balanced = SpanRound::new().largest(largest).smallest(smallest).days_are_24_hours();
    let span = jiff::Span::new().try_milliseconds(millis).and_then(|span| span.round(balanced));
    span.map_or_else(|_| format!("{} s", duration.as_secs()), |span| format!("{span:#}"))
}

/// `999 B`, `12.3 MiB`: never more than ten columns.
pub fn size_of(bytes: u64) -> String {
    let mut units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].into_iter();
    let mut size = bytes as f64;
    let mut unit = "B";
    while size >= 1_000.0 {
        let Some(larger) = units.next() else { break };
        (size, unit) = (size / 1_024.0, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{size:.1} {unit}") }
}

/// The front of a text that is too long.
pub fn shortened(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}

/// Breaks between words; a longer word gets a line to itself.
pub fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// What failed, and each cause behind it once: causes that the text before them tells are left out.
pub fn explain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.map(ToString::to_string).fold(error.to_string(), |text, cause| {
        if text.contains(cause.trim_end()) { text } else { format!("{text}: {cause}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_short_and_true() {
        assert_eq!(length_of(Duration::from_millis(45_120)), "45s 120ms");
        assert_eq!(length_of(Duration::from_millis(100_400)), "1m 40s");
        assert_eq!(length_of(Duration::from_secs(8 * 3600)), "8h");
        assert_eq!(length_of(Duration::from_secs(400_000)), "4d 15h");
        assert_eq!(length_of(Duration::ZERO), "0s");
    }

    #[test]
    fn sizes_are_short_and_true() {
        assert_eq!(size_of(0), "0 B");
        assert_eq!(size_of(999), "999 B");
        assert_eq!(size_of(1_000), "1.0 KiB");
        assert_eq!(size_of(12_900_000), "12.3 MiB");
        assert_eq!(size_of(u64::MAX), "16.0 EiB");
        assert!((0..64).all(|bit| size_of(u64::MAX >> bit).len() <= 10));
    }

    #[test]
    fn long_texts_are_cut_or_broken_between_words() {
        assert_eq!(shortened("abcdef", 6), "abcdef");
        assert_eq!(shortened("äbcdefg", 6), "äbcde…");
        assert_eq!(wrapped("a bc def g", 4), ["a bc", "def", "g"]);
        assert_eq!(wrapped("abcdefgh i", 4), ["abcdefgh", "i"]);
    }

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the door")]
    struct Door(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("cannot go out ({source})")]
    struct Out {
        source: Door,
    }

    #[test]
    fn every_cause_is_told_once() {
        let error = Out { source: Door(std::io::Error::other("locked")) };
        assert_eq!(explain(&error), "cannot go out (cannot open the door): locked");
    }
}
