//! What arrived and could not be used: counted by cause, and logged at most once a minute for each.
//!
//! A peer that talks nonsense must not be able to fill a log or a card.

use crate::envelope::DecodeError;

/// Time between two log lines of one cause.
pub const LOG_INTERVAL_MS: u64 = 60_000;

/// Why a message was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Cause {
    /// Of another protocol version.
    Version,
    /// Of a kind that is not known, or not on that topic.
    Kind,
    /// Too large, cut off, or with bytes to spare.
    Size,
    Malformed,
    Checksum,
    /// On no topic of ours, or from or for somebody else.
    Address,
    /// Expired, of an earlier connection, or of a transfer that is over.
    Stale,
    /// Understood, and against the receiver's own policy.
    Forbidden,
}

impl Cause {
    pub const ALL: [Cause; 8] = [
        Cause::Version,
        Cause::Kind,
        Cause::Size,
        Cause::Malformed,
        Cause::Checksum,
        Cause::Address,
        Cause::Stale,
        Cause::Forbidden,
    ];
}

impl From<&DecodeError> for Cause {
    fn from(error: &DecodeError) -> Cause {
        match error {
            DecodeError::Version { .. } => Cause::Version,
            DecodeError::UnknownKind { .. } | DecodeError::WrongKind { .. } => Cause::Kind,
            DecodeError::TooLarge { .. }
            | DecodeError::CutOff { .. }
            | DecodeError::TrailingBytes { .. } => Cause::Size,
            DecodeError::Malformed { .. } | DecodeError::Offset { .. } => Cause::Malformed,
            DecodeError::Checksum { .. } => Cause::Checksum,
        }
    }
}

/// Counters of one receiver; they saturate.
#[derive(Clone, Debug, Default)]
pub struct Dropped {
    counts: [Count; Cause::ALL.len()],
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    total: u64,
    unlogged: u64,
    logged_at_ms: Option<u64>,
}

impl Dropped {
    /// Counts one message. `Some(how many since the last line, this one included)` where a line is to
    /// be logged now. `now_ms` is any clock that does not run backwards.
    pub fn record(&mut self, cause: Cause, now_ms: u64) -> Option<u64> {
        let count = &mut self.counts[cause as usize];
        count.total = count.total.saturating_add(1);
        count.unlogged = count.unlogged.saturating_add(1);
        let quiet = |at_ms: u64| now_ms.saturating_sub(at_ms) < LOG_INTERVAL_MS;
        if count.logged_at_ms.is_some_and(quiet) {
            return None;
        }
        count.logged_at_ms = Some(now_ms);
        Some(std::mem::take(&mut count.unlogged))
    }

    /// Dropped for this cause since the start.
    pub fn total(&self, cause: Cause) -> u64 {
        self.counts[cause as usize].total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_logged_at_once_and_then_once_a_minute_with_its_count() {
        let mut dropped = Dropped::default();
        assert_eq!(dropped.record(Cause::Size, 5), Some(1));
        assert_eq!(dropped.record(Cause::Size, 6), None);
        assert_eq!(dropped.record(Cause::Size, 4 + LOG_INTERVAL_MS), None);
        assert_eq!(dropped.record(Cause::Size, 5 + LOG_INTERVAL_MS), Some(3));
        assert_eq!(dropped.record(Cause::Size, 6 + LOG_INTERVAL_MS), None);
        assert_eq!(dropped.total(Cause::Size), 5);
    }

    #[test]
    fn causes_do_not_silence_one_another() {
        let mut dropped = Dropped::default();
        for cause in Cause::ALL {
            assert_eq!(dropped.record(cause, 0), Some(1), "{cause:?}");
            assert_eq!(dropped.total(cause), 1, "{cause:?}");
        }
    }
}
