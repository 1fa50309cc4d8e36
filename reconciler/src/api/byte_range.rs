//! Which bytes of a file a request wants (RFC 9110, 13 and 14).
//!
//! Pure. One range at most: who asks for several is given all of it, which is allowed, and no player does.

use std::ops::Range;

use axum::http::HeaderMap;
use axum::http::header::{IF_NONE_MATCH, IF_RANGE, RANGE};

/// What is to be answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wanted {
    All,
    /// Within the file, and not empty.
    Part(Range<u64>),
    /// The client has it already.
    Nothing,
    /// There are no such bytes.
    Unsatisfiable,
}

/// Of a file of so many bytes that has this entity tag.
pub fn wanted(headers: &HeaderMap, bytes: u64, tag: &str) -> Wanted {
    let text =
        |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    if let Some(known) = text(IF_NONE_MATCH)
        && known.split(',').any(|known| matches_weakly(known.trim(), tag))
    {
        return Wanted::Nothing;
    }
    // A date is no proof that nothing has changed within a second.
    if text(IF_RANGE).is_some_and(|known| known != tag) {
        return Wanted::All;
    }
    match text(RANGE).and_then(|range| one_range(range, bytes)) {
        None => Wanted::All,
        Some(part) if part.is_empty() => Wanted::Unsatisfiable,
        Some(part) => Wanted::Part(part),
    }
}

/// What a client that goes on with a file knows of it.
pub fn known_tag(headers: &HeaderMap) -> Option<&str> {
    headers.get(IF_RANGE)?.to_str().ok()
}

fn matches_weakly(known: &str, tag: &str) -> bool {
    known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag
}

/// `None` where it is no range that is understood, and so none at all; empty where nothing lies in it.
fn one_range(text: &str, bytes: u64) -> Option<Range<u64>> {
    let (from, to) = text.strip_prefix("bytes=")?.trim().split_once('-')?;
    let number = |digits: &str| {
        let all_digits = !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit());
        all_digits.then(|| digits.parse::<u64>().unwrap_or(u64::MAX))
    };
    match (from, to) {
        ("", last) => {
            let last = number(last)?;
            Some(bytes.saturating_sub(last)..bytes)
        }
        (from, "") => {
            let from = number(from)?;
            Some(from.min(bytes)..bytes)
        }
        (from, to) => {
            let (from, to) = (number(from)?, number(to)?);
            let end = to.saturating_add(1).min(bytes);
            (from <= to).then_some(from.min(end)..end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderName;

    fn asked(headers: &[(HeaderName, &'static str)]) -> Wanted {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
        wanted(&headers.collect(), 100, "\"tag\"")
    }

    #[test]
    fn a_range_is_cut_to_what_there_is() {
        for (range, expected) in [
            ("bytes=0-", Wanted::Part(0..100)),
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=10-19", Wanted::Part(10..20)),
            ("bytes=90-1000", Wanted::Part(90..100)),
            ("bytes=-30", Wanted::Part(70..100)),
            ("bytes=-300", Wanted::Part(0..100)),
            ("bytes=99-99999999999999999999999", Wanted::Part(99..100)),
            ("bytes=100-", Wanted::Unsatisfiable),
            ("bytes=100-200", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
        ] {
            assert_eq!(asked(&[(RANGE, range)]), expected, "{range}");
        }
    }

    #[test]
    fn what_is_no_range_is_no_reason_to_refuse() {
        for range in [
            "bytes=",
            "bytes=-",
            "bytes=9-1",
            "bytes=a-b",
            "bytes=+1-",
            "lines=1-2",
            "bytes=0-1,5-6",
        ] {
            assert_eq!(asked(&[(RANGE, range)]), Wanted::All, "{range}");
        }
    }

    #[test]
    fn a_part_is_given_only_of_the_file_that_the_client_knows() {
        let part = (RANGE, "bytes=10-19");
        assert_eq!(asked(&[part.clone(), (IF_RANGE, "\"tag\"")]), Wanted::Part(10..20));
        for known in ["\"other\"", "W/\"tag\"", "Sat, 29 Oct 2026 19:43:31 GMT"] {
            assert_eq!(asked(&[part.clone(), (IF_RANGE, known)]), Wanted::All, "{known}");
        }
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        for known in ["\"tag\"", "\"other\", W/\"tag\"", "*"] {
            assert_eq!(asked(&[(IF_NONE_MATCH, known)]), Wanted::Nothing, "{known}");
        }
        assert_eq!(asked(&[(IF_NONE_MATCH, "\"other\"")]), Wanted::All);
    }
}
