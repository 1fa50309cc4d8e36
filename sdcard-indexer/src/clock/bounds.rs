//! What is known of an instant: bounds that hold it, and the value to take for it.

use std::time::Duration;

use super::MAX_UNCERTAINTY;

/// Nanoseconds on some clock: the truth lies in `[earliest, latest]`, `best` is what to take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bounds {
    pub earliest: i64,
    pub best: i64,
    pub latest: i64,
}

impl Bounds {
    /// Everything there is.
    pub const ALL: Bounds = Bounds { earliest: i64::MIN, best: 0, latest: i64::MAX };

    pub const ZERO: Bounds = Bounds { earliest: 0, best: 0, latest: 0 };

    /// `None` where they contradict each other. Takes the later one where nothing says better.
    pub fn between(earliest: i64, latest: i64) -> Option<Self> {
        (earliest <= latest).then_some(Bounds { earliest, best: latest, latest })
    }

    /// At most `error` on either side of `best`.
    pub fn around(best: i64, error: Duration) -> Self {
        Bounds { earliest: best, best, latest: best }.widened(nanos(error))
    }

    #[must_use]
    pub fn widened(self, error_ns: i64) -> Self {
        Bounds {
            earliest: self.earliest.saturating_sub(error_ns),
            latest: self.latest.saturating_add(error_ns),
            ..self
        }
    }

    #[must_use]
    pub fn shifted(self, nanos: i64) -> Self {
        Bounds {
            earliest: self.earliest.saturating_add(nanos),
            best: self.best.saturating_add(nanos),
            latest: self.latest.saturating_add(nanos),
        }
    }

    /// Keeps the best value of `self` as far as `other` allows it.
    pub fn intersection(self, other: Bounds) -> Option<Self> {
        let (earliest, latest) = (self.earliest.max(other.earliest), self.latest.min(other.latest));
        (earliest <= latest).then(|| Bounds {
            earliest,
            best: self.best.clamp(earliest, latest),
            latest,
        })
    }

    #[must_use]
    pub fn hull(self, other: Bounds) -> Self {
        Bounds {
            earliest: self.earliest.min(other.earliest),
            best: self.best,
            latest: self.latest.max(other.latest),
        }
    }

    /// To within [`MAX_UNCERTAINTY`] of its best value.
    pub fn is_known(self) -> bool {
        self.value_within(MAX_UNCERTAINTY).1 <= MAX_UNCERTAINTY
    }

    /// The value to take and how far the truth may lie on either side of it. Where that is more than `most`,
    /// no value is better than another, and the middle has the narrowest sides.
    pub fn value_within(self, most: Duration) -> (i64, Duration) {
        let sides = |value: i64| value.abs_diff(self.earliest).max(self.latest.abs_diff(value));
        let best = Duration::from_nanos(sides(self.best));
        if best <= most {
            return (self.best, best);
        }
        // Half of each: the sum of the two may be more than fits.
        let middle = self.earliest / 2 + self.latest / 2;
        (middle, Duration::from_nanos(sides(middle)))
    }
}

pub(super) fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
