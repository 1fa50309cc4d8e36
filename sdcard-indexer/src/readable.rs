//! Instants, lengths, sizes and errors as people read them, in few columns.
//!
//! For terminals only: what programs read has whole numbers, RFC 3339 and units in its keys.

use std::error::Error;
use std::time::Duration;

use jiff::Zoned;
use jiff::tz::TimeZone;

use crate::time::Timestamp;

/// An instant in UTC, for calendars.
pub fn zoned(instant: Timestamp) -> Zoned {
    instant.to_jiff().to_zoned(TimeZone::UTC)
}

/// `2026-11-23 10:00:05`, in UTC.
pub fn second_of(instant: Timestamp) -> String {
    let text = instant.to_string();
    text.chars().take("2026-11-23T10:00:05".len()).collect::<String>().replace('T', " ")
}

/// `10:00:05.120`, in UTC.
pub fn time_of(instant: Timestamp) -> String {
    let millis = instant.as_nanos().saturating_add(500_000).div_euclid(1_000_000);
    let of_day = millis.rem_euclid(86_400_000);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    format!("{hour:02}:{minute:02}:{:02}.{:03}", of_day / 1_000 % 60, of_day % 1_000)
}

/// `45s 120ms`, `1m 40s`, `8h`, `3d 4h`: at most two units, never more than ten columns.
pub fn length_of(duration: Duration) -> String {
    let ((large, unit), (small, part)) = match duration.as_secs() {
        0..60 => ((1_000, "s"), (1, "ms")),
        60..3_600 => ((60_000, "m"), (1_000, "s")),
        3_600..172_800 => ((3_600_000, "h"), (60_000, "m")),
        _ => ((86_400_000, "d"), (3_600_000, "h")),
    };
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).saturating_add(small / 2);
    let (whole, rest) = (millis / large, millis % large / small);
    match (whole, rest) {
        (0, 1..) => format!("{rest}{part}"),
        (_, 0) => format!("{whole}{unit}"),
        _ => format!("{whole}{unit} {rest}{part}"),
    }
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
        assert_eq!(length_of(Duration::from_millis(120)), "120ms");
        assert_eq!(length_of(Duration::from_millis(3_599_500)), "60m");
        assert_eq!(length_of(Duration::from_secs(172_799)), "48h");
    }

    #[test]
    fn instants_are_told_to_the_second_or_rounded_to_the_millisecond() {
        let instant: Timestamp = "2026-11-23T23:59:59.9996Z".parse().unwrap();
        assert_eq!(second_of(instant), "2026-11-23 23:59:59");
        assert_eq!(time_of(instant), "00:00:00.000");
        let before_1970: Timestamp = "1969-12-31T10:00:05.12Z".parse().unwrap();
        assert_eq!(second_of(before_1970), "1969-12-31 10:00:05");
        assert_eq!(time_of(before_1970), "10:00:05.120");
        assert_eq!(second_of(Timestamp::MIN).len(), 19);
        assert_eq!(second_of(Timestamp::MAX).len(), 19);
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
