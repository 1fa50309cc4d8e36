//! Lengths of time as people write them: `30d`, `6h`, `1h 30m`. A day has 24 hours here, a week seven of
//! those; months and years are refused, since they have no length of their own.
//!
//! Pure. For serde: `with = "period"`, and `with = "period::optional"`.

use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde::{Deserialize, Deserializer, Serializer, de::Error};

const DAY_S: u64 = 86_400;

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PeriodError {
    #[error("`{text}` is no length of time such as 6h, 1h 30m or 30d; {reason}")]
    Unreadable { text: String, reason: String },
    #[error("`{text}` must be longer than nothing")]
    NotPositive { text: String },
}

pub fn parse(text: &str) -> Result<Duration, PeriodError> {
    let shown: String = text.chars().take(super::MOST_TEXT).collect();
    let read =
        text.parse::<Span>().and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    match read {
        Err(error) => Err(PeriodError::Unreadable { text: shown, reason: error.to_string() }),
        Ok(length) => match Duration::try_from(length) {
            Ok(length) if !length.is_zero() => Ok(length),
            _ => Err(PeriodError::NotPositive { text: shown }),
        },
    }
}

/// What [`parse`] reads again.
pub fn text(length: Duration) -> String {
    let seconds = length.as_secs();
    if seconds >= DAY_S && seconds.is_multiple_of(DAY_S) && length.subsec_nanos() == 0 {
        return format!("{}d", seconds / DAY_S);
    }
    let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
    format!("{length:#}")
}

pub fn serialize<S: Serializer>(length: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(*length))
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Where there may be none.
pub mod optional {
    use super::*;

    pub fn serialize<S: Serializer>(
        length: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match length {
            Some(length) => super::serialize(length, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| parse(&text).map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_are_read_as_people_write_them() {
        for (written, seconds, printed) in [
            ("6h", 21_600, "6h"),
            ("30d", 2_592_000, "30d"),
            ("30 days", 2_592_000, "30d"),
            ("2 weeks", 1_209_600, "14d"),
            ("1h30m", 5_400, "1h 30m"),
            ("36h", 129_600, "36h"),
            ("90 s", 90, "1m 30s"),
        ] {
            assert_eq!(parse(written).unwrap(), Duration::from_secs(seconds), "{written}");
            assert_eq!(text(Duration::from_secs(seconds)), printed);
        }
    }

    #[test]
    fn what_has_no_length_is_refused() {
        for written in
            ["1mo", "1 year", "soon", "6", "", "0h", "-6h", "6h ago", "99999999999 weeks"]
        {
            let error = parse(written).unwrap_err().to_string();
            assert!(error.contains(written), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(seconds in 1_u64..100_000_000, nanos in 0_u32..1_000_000_000) {
            for length in [Duration::from_secs(seconds), Duration::new(seconds, nanos)] {
                prop_assert_eq!(parse(&text(length)).unwrap(), length);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
