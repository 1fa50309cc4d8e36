//! How long a timeline is in each state: what is summed up where the stretches themselves would be too many.
//!
//! Pure. It never rounds a state away: whatever is added to it is in one of its sums.

use std::time::Duration;

use crate::timeline::{Completeness, State, Stretch};

/// A state without its details, the worst first: what asks most for a person's eye.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum StateWord {
    Failed,
    Missing,
    Pending,
    Transferring,
    Overwritten,
    NeverRecorded,
    Archived,
}

impl StateWord {
    pub const ALL: [StateWord; 7] = [
        StateWord::Failed,
        StateWord::Missing,
        StateWord::Pending,
        StateWord::Transferring,
        StateWord::Overwritten,
        StateWord::NeverRecorded,
        StateWord::Archived,
    ];

    pub const fn of(state: &State) -> StateWord {
        match state {
            State::Failed { .. } => StateWord::Failed,
            State::Missing => StateWord::Missing,
            State::Pending => StateWord::Pending,
            State::Transferring => StateWord::Transferring,
            State::Overwritten { .. } => StateWord::Overwritten,
            State::NeverRecorded { .. } => StateWord::NeverRecorded,
            State::Archived { .. } => StateWord::Archived,
        }
    }

    /// As in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            StateWord::Failed => "failed",
            StateWord::Missing => "missing",
            StateWord::Pending => "pending",
            StateWord::Transferring => "transferring",
            StateWord::Overwritten => "overwritten",
            StateWord::NeverRecorded => "never_recorded",
            StateWord::Archived => "archived",
        }
    }
}

/// A sum for each state; they saturate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally([Duration; StateWord::ALL.len()]);

impl Tally {
    pub fn of(timeline: &[Stretch]) -> Tally {
        let mut tally = Tally::default();
        for Stretch { range, state } in timeline {
            tally.add(StateWord::of(state), range.duration());
        }
        tally
    }

    pub fn add(&mut self, state: StateWord, length: Duration) {
        let sum = &mut self.0[state as usize];
        *sum = sum.saturating_add(length);
    }

    pub const fn in_state(&self, state: StateWord) -> Duration {
        self.0[state as usize]
    }

    /// Of two timelines together.
    #[must_use]
    pub fn and(mut self, other: &Tally) -> Tally {
        StateWord::ALL.iter().for_each(|state| self.add(*state, other.in_state(*state)));
        self
    }

    pub fn total(&self) -> Duration {
        self.0.iter().fold(Duration::ZERO, |sum, length| sum.saturating_add(*length))
    }

    /// Nothing of it is anything but archived.
    pub fn is_archived(&self) -> bool {
        self.total() == self.in_state(StateWord::Archived)
    }

    /// How whole what was summed up is.
    pub fn completeness(&self) -> Completeness {
        let archived = self.in_state(StateWord::Archived);
        let lost = self
            .in_state(StateWord::Overwritten)
            .saturating_add(self.in_state(StateWord::NeverRecorded));
        let expected = self.total();
        let open = expected.saturating_sub(archived).saturating_sub(lost);
        Completeness { expected, archived, lost, open }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::seconds;
    use crate::timeline::{Proof, Recorder};

    fn states() -> [State; 7] {
        let text = String::new;
        [
            State::Failed { reason: text() },
            State::Missing,
            State::Pending,
            State::Transferring,
            State::Overwritten { cause: text() },
            State::NeverRecorded { cause: text() },
            State::Archived { by: Recorder::Live, proof: Proof::None, uncertainty_ns: 0 },
        ]
    }

    #[test]
    fn every_state_has_its_own_word_and_sum_and_they_are_those_of_the_timeline() {
        let timeline: Vec<Stretch> = (0..)
            .zip(states())
            .map(|(index, state)| Stretch { range: seconds(100 * index, 101 * index + 1), state })
            .collect();
        let tally = Tally::of(&timeline);
        for (word, stretch) in StateWord::ALL.into_iter().zip(&timeline) {
            assert_eq!(word, StateWord::of(&stretch.state));
            assert_eq!(tally.in_state(word), stretch.range.duration());
        }
        assert_eq!(tally.completeness(), Completeness::of(&timeline));
        let twice = tally.and(&tally);
        assert_eq!(twice.total(), tally.total() * 2);
        assert!(!tally.is_archived());
    }
}
