//! Failure as a state: how often what has failed is tried again, and how long after.
//!
//! Pure. It owns the budgets. It must never wait itself, nor keep an instant of the monotonic clock: that
//! means nothing after a restart, while the number of tries does. So what a restart forgets is a back-off,
//! never a budget.
//!
//! | cause | again | after | why |
//! |---|---|---|---|
//! | [`Cause::DigestMismatch`] | 2 | 1 s, 2 s | A bit that flipped on the way or in the spool does so once; a card that reads other bytes each time is found out by the second refetch, at the price of the part's bytes each time. |
//! | [`Cause::CardError`] | 3 | 1, 2, 4 min | The transfer has tried five times in a row already. A card recovers by being mounted anew, which takes minutes or a person; longer waits only let the footage be overwritten. |
//! | [`Cause::Changed`] | 4 | 1, 2, 4, 8 s | The device tells what it holds now within seconds. Five different files in a row are no recording that can be read. |
//! | [`Cause::NotFound`] | 2 | 10 s | A device whose coverage is ahead of its card corrects it within seconds. |
//! | [`Cause::SpoolFull`] | no end | 60 s | Nothing is wrong with the footage, and whoever makes room does so in their own time; a minute is no burden on a disk. |
//! | [`Cause::MergeFailed`] | 2 | 30 s, 60 s | A full or stalled archive passes; footage that cannot be parsed never does, and all of it is in the spool already. |
//!
//! A device that is busy or away is no failure: the transfer waits for it, without a budget.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::MonotonicMicros;

/// Why a part, or a gap, came to nothing this time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// What arrived is not what the card's digest speaks of.
    DigestMismatch,
    /// The card cannot be read there.
    CardError,
    /// Another file stands under the segment's name.
    Changed,
    /// The device says that it holds this, and cannot say where.
    NotFound,
    /// What arrived could not be written.
    SpoolFull,
    /// It could not be put into the archive.
    MergeFailed,
}

/// How often and when again.
struct Budget {
    /// Tries after the first; `None`: without end.
    again: Option<u32>,
    first: Duration,
    /// Each wait is twice the one before, and none is longer than this.
    longest: Duration,
}

impl Cause {
    pub const ALL: [Cause; 6] = [
        Cause::DigestMismatch,
        Cause::CardError,
        Cause::Changed,
        Cause::NotFound,
        Cause::SpoolFull,
        Cause::MergeFailed,
    ];

    /// The word for it, as in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Cause::DigestMismatch => "digest_mismatch",
            Cause::CardError => "card_error",
            Cause::Changed => "changed",
            Cause::NotFound => "not_found",
            Cause::SpoolFull => "spool_full",
            Cause::MergeFailed => "merge_failed",
        }
    }

    /// The table in the module's documentation gives the reasons.
    const fn budget(self) -> Budget {
        let (again, first_s, longest_s) = match self {
            Cause::DigestMismatch => (Some(2), 1, 2),
            Cause::CardError => (Some(3), 60, 240),
            Cause::Changed => (Some(4), 1, 8),
            Cause::NotFound => (Some(2), 10, 10),
            Cause::SpoolFull => (None, 60, 60),
            Cause::MergeFailed => (Some(2), 30, 60),
        };
        Budget {
            again,
            first: Duration::from_secs(first_s),
            longest: Duration::from_secs(longest_s),
        }
    }
}

/// What a person reads of it.
impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Cause::DigestMismatch => "what arrived is not what the card holds",
            Cause::CardError => "the card cannot be read there",
            Cause::Changed => "the card changed under the attempt to read it",
            Cause::NotFound => "the device says that it holds this, and cannot say where",
            Cause::SpoolFull => "what arrived could not be written to the spool",
            Cause::MergeFailed => "it could not be put into the archive",
        })
    }
}

/// What follows from a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Not before this instant.
    Again { at: MonotonicMicros },
    /// The budget is used up, after so many failures by this cause.
    GiveUp { tries: u32 },
}

/// How often something has failed by each cause; kept with the part or gap that it speaks of.
///
/// Each cause has its own budget: a full disk must not use up the patience with a card.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tries {
    failures: BTreeMap<Cause, u32>,
}

impl Tries {
    /// It failed once more.
    pub fn failed(&mut self, cause: Cause, now: MonotonicMicros) -> Verdict {
        let tries = self.failures.entry(cause).or_default();
        *tries = tries.saturating_add(1);
        let Budget { again, first, longest } = cause.budget();
        if again.is_some_and(|again| *tries > again) {
            return Verdict::GiveUp { tries: *tries };
        }
        let doublings = (*tries - 1).min(16);
        let wait = first.saturating_mul(1 << doublings).min(longest);
        Verdict::Again { at: now.after(wait) }
    }

    /// The cause is gone: what was missing was found, what was full has room.
    pub fn forget(&mut self, cause: Cause) {
        self.failures.remove(&cause);
    }

    /// Failures by this cause so far.
    pub fn of(&self, cause: Cause) -> u32 {
        self.failures.get(&cause).copied().unwrap_or(0)
    }

    /// Nothing has failed: there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        self.failures.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: MonotonicMicros = MonotonicMicros(5_000_000);

    /// Seconds waited before each further try, and the failures after which it is given up; at most 20 tries.
    fn course(cause: Cause) -> (Vec<u64>, Option<u32>) {
        let mut tries = Tries::default();
        let mut waits = Vec::new();
        for _ in 0..20 {
            match tries.failed(cause, NOW) {
                Verdict::Again { at } => waits.push(at.since(NOW).as_secs()),
                Verdict::GiveUp { tries } => return (waits, Some(tries)),
            }
        }
        (waits, None)
    }

    #[test]
    fn every_cause_is_tried_as_the_table_says() {
        assert_eq!(course(Cause::DigestMismatch), (vec![1, 2], Some(3)));
        assert_eq!(course(Cause::CardError), (vec![60, 120, 240], Some(4)));
        assert_eq!(course(Cause::Changed), (vec![1, 2, 4, 8], Some(5)));
        assert_eq!(course(Cause::NotFound), (vec![10, 10], Some(3)));
        assert_eq!(course(Cause::SpoolFull), (vec![60; 20], None));
        assert_eq!(course(Cause::MergeFailed), (vec![30, 60], Some(3)));
    }

    #[test]
    fn one_cause_does_not_use_up_the_budget_of_another() {
        let mut tries = Tries::default();
        for _ in 0..100 {
            tries.failed(Cause::SpoolFull, NOW);
        }
        assert!(matches!(tries.failed(Cause::DigestMismatch, NOW), Verdict::Again { .. }));
        assert_eq!((tries.of(Cause::SpoolFull), tries.of(Cause::DigestMismatch)), (100, 1));
    }

    #[test]
    fn what_is_given_up_stays_given_up() {
        let mut tries = Tries::default();
        for _ in 0..3 {
            tries.failed(Cause::MergeFailed, NOW);
        }
        assert_eq!(tries.failed(Cause::MergeFailed, NOW), Verdict::GiveUp { tries: 4 });
    }

    #[test]
    fn a_cause_that_is_gone_has_its_whole_budget_again() {
        let mut tries = Tries::default();
        tries.failed(Cause::NotFound, NOW);
        tries.failed(Cause::NotFound, NOW);
        tries.forget(Cause::NotFound);
        assert!(tries.is_empty());
        assert_eq!(
            tries.failed(Cause::NotFound, NOW),
            Verdict::Again { at: NOW.after(Duration::from_secs(10)) }
        );
    }

    #[test]
    fn a_restart_keeps_the_budget_used_and_no_instant() {
        let mut tries = Tries::default();
        tries.failed(Cause::DigestMismatch, NOW);
        tries.failed(Cause::DigestMismatch, NOW);
        let kept = serde_json::to_string(&tries).unwrap();
        assert_eq!(kept, r#"{"digest_mismatch":2}"#);
        let mut tries: Tries = serde_json::from_str(&kept).unwrap();
        assert_eq!(
            tries.failed(Cause::DigestMismatch, MonotonicMicros(0)),
            Verdict::GiveUp { tries: 3 }
        );
    }

    #[test]
    fn numbers_at_their_ends_do_no_harm() {
        let mut tries: Tries = serde_json::from_str(r#"{"spool_full":4294967295}"#).unwrap();
        let verdict = tries.failed(Cause::SpoolFull, MonotonicMicros(u64::MAX));
        assert_eq!(verdict, Verdict::Again { at: MonotonicMicros(u64::MAX) });
    }

    #[test]
    fn the_word_of_a_cause_is_the_one_that_is_kept() {
        for cause in Cause::ALL {
            let kept = serde_json::to_string(&cause).unwrap();
            assert_eq!(kept, format!("\"{}\"", cause.word()));
        }
    }
}
