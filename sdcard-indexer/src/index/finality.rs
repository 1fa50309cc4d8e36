//! Until when absence is final: the instant before which nothing can still appear in a stream.
//!
//! Pure. The server calls a hole "never recorded" only before this instant, so it errs to the early side:
//!
//! 1. With everything decided, it is the end of the newest segment. A segment that follows it may exist
//!    without being seen (some recorders show a file only once it is whole), but begins there or later.
//! 2. Where that lies further back than the usual length of a segment and [`APPEARANCE`], such a segment
//!    would have appeared by now: it is `now` less these two.
//! 3. No segment that is open, or not read yet, may begin before it: it is at most the end of what such a
//!    segment is known to hold, which is its start where nothing of it can be read yet.
//! 4. Nor one of which it is not known when it was recorded: it is at most the earliest instant possible.

use std::time::Duration;

use super::row::Flag;
use super::rows::Rows;
use crate::segment::Content;
use crate::time::Timestamp;

/// From a segment's last frame until its file can be seen: closing, moving, our own sweep.
pub const APPEARANCE: Duration = Duration::from_secs(30);
/// Length of a segment where none is known.
pub const DEFAULT_LENGTH: Duration = Duration::from_secs(600);
const LONGEST_LENGTH: Duration = Duration::from_secs(3_600);
/// The newest segments that the usual length is taken from.
const RECENT: usize = 8;

/// Segments from the future do not count.
pub fn final_until(rows: &Rows, now: Timestamp) -> Timestamp {
    let unseen = now.saturating_sub(usual_length(rows)).saturating_sub(APPEARANCE);
    let newest = rows.blocks().filter_map(|(_, summary)| summary.latest_known_end).max();
    let undecided = rows.blocks().filter_map(|(_, summary)| summary.undecided_from).min();
    newest.map_or(unseen, |end| end.max(unseen)).min(undecided.unwrap_or(Timestamp::MAX))
}

/// The longest of the last few: segments are cut at keyframes and differ by as much.
pub fn usual_length(rows: &Rows) -> Duration {
    let whole = rows.iter().rev().filter(|row| {
        row.is(Flag::SEALED) && row.content() == Content::Held && !row.is(Flag::FUTURE)
    });
    let longest = whole.take(RECENT).map(|row| row.duration()).max();
    longest.map_or(DEFAULT_LENGTH, |longest| longest.min(LONGEST_LENGTH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::table::tests::{insert_at, rows};

    #[derive(Clone, Copy)]
    enum Is {
        Sealed,
        Open,
        OpenAndEmpty,
        SealedAndEmpty,
        Unread,
    }

    /// What it shows, the segments (start, end), now, and the expected instant; all in seconds.
    type Row<'a> = (&'a str, &'a [(i64, i64, Is)], i64, i64);

    fn made(segments: &[(i64, i64, Is)]) -> Rows {
        let mut made = rows();
        for (start_s, end_s, is) in segments {
            insert_at(&mut made, *start_s, *end_s, |row| {
                row.set(Flag::SEALED, !matches!(is, Is::Open | Is::OpenAndEmpty));
                row.set(Flag::STALE, matches!(is, Is::Unread));
                row.set_content(match is {
                    Is::Sealed | Is::Open => Content::Held,
                    Is::OpenAndEmpty | Is::SealedAndEmpty => Content::Nothing,
                    Is::Unread => Content::Unread,
                });
            });
        }
        made
    }

    #[test]
    fn absence_is_final_as_the_rule_says() {
        use Is::*;
        let table: [Row<'_>; 9] = [
            ("nothing known", &[], 10_000, 10_000 - 600 - 30),
            ("one just closed", &[(0, 60, Sealed)], 70, 60),
            ("the next may be hidden", &[(0, 60, Sealed)], 150, 60),
            ("the next would be there", &[(0, 60, Sealed)], 151, 61),
            ("an open one, readable so far", &[(0, 60, Sealed), (60, 80, Open)], 400, 80),
            ("an open one, not readable yet", &[(0, 60, Sealed), (60, 60, OpenAndEmpty)], 400, 60),
            ("one that holds nothing for good", &[(0, 60, SealedAndEmpty)], 10_000, 9_370),
            ("an unread one among read ones", &[(0, 60, Unread), (60, 120, Sealed)], 999, 0),
            ("a clock set back", &[(1_000, 1_060, Sealed)], 5, 1_060),
        ];
        for (what, segments, now_s, expected_s) in table {
            let until = final_until(&made(segments), Timestamp::from_unix_seconds(now_s));
            assert_eq!(until, Timestamp::from_unix_seconds(expected_s), "{what}");
        }
    }

    #[test]
    fn one_hour_is_the_longest_usual_length() {
        let long = made(&[(0, 8 * 3_600, Is::Sealed)]);
        assert_eq!(usual_length(&long), LONGEST_LENGTH);
    }
}
