//! What to do about the gaps of one stream, given what its device says it holds.
//!
//! Pure. A gap that the device holds is located and pulled; one that it will never hold is concluded, so
//! that nothing is asked for for ever; one that it may still come to hold waits.

use std::time::Duration;

use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::{TimeRange, Timestamp};

use crate::fleet::Holding;
use crate::timeline::{State, Stretch};

/// When a gap is pulled.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Shorter leftovers at the edges are rounding.
    pub join_tolerance: Duration,
    /// A gap that the central recorder has not closed yet is pulled once it is this long, so that a
    /// recorder which never comes back does not keep footage on the card.
    pub open_gap: Duration,
    /// A gap that the device can add nothing more to is pulled however short it is.
    pub take_final: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Ask the device where on the card this lies.
    Locate(TimeRange),
    /// Nothing will come of it; say why.
    Conclude(Stretch),
}

/// `archive_end` is the end of the newest thing in the archive: a gap before it is closed.
pub fn plan(
    gaps: &Coverage,
    archive_end: Option<Timestamp>,
    holding: &Holding,
    rules: Rules,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for gap in gaps.iter() {
        let closed = archive_end.is_some_and(|end| gap.end() <= end);
        let wanted = holding.held.clip(gap);
        let is_final = rules.take_final && gap.end() <= holding.final_until;
        if closed || is_final || gap.duration() >= rules.open_gap {
            steps.extend(places(gap, &wanted, rules).into_iter().map(Step::Locate));
        }
        if closed || gap.end() <= holding.final_until {
            let absent = Coverage::from(gap).difference(&wanted.joined(rules.join_tolerance));
            steps.extend(conclusions(&absent, holding, rules));
        }
    }
    steps
}

/// What to locate of a gap of which the device holds `wanted`.
fn places(gap: TimeRange, wanted: &Coverage, rules: Rules) -> Coverage {
    let tolerance = rules.join_tolerance;
    let held = wanted.clone().joined(tolerance);
    let absent = Coverage::from(gap).difference(&held).without_slivers(tolerance);
    let places = held.clone().without_slivers(tolerance);
    // A gap that falls into slivers altogether is no rounding, and nothing else would ever come of it.
    if gap.duration() > tolerance && places.is_empty() && absent.is_empty() { held } else { places }
}

/// Verdicts over what of `absent` the device can no longer come to hold.
fn conclusions<'a>(
    absent: &Coverage,
    holding: &'a Holding,
    rules: Rules,
) -> impl Iterator<Item = Step> + use<'a> {
    let decidable = TimeRange::new(Timestamp::MIN, holding.final_until)
        .map(|before| absent.clip(before).without_slivers(rules.join_tolerance))
        .unwrap_or_default();
    let gone = holding.gone.union(&holding.once_held);
    let overwritten = decidable.intersection(&gone).without_slivers(rules.join_tolerance);
    let never = decidable.difference(&overwritten);
    let overwritten = overwritten.into_iter().map(|range| Stretch {
        range,
        state: State::Overwritten { cause: "gone from the card before it was pulled".into() },
    });
    let never = never.into_iter().map(|range| Stretch { range, state: absence(range, holding) });
    overwritten.chain(never).map(Step::Conclude)
}

fn absence(range: TimeRange, holding: &Holding) -> State {
    match holding.horizon {
        None => State::NeverRecorded { cause: "the card holds nothing of this stream".into() },
        Some(horizon) if range.end() <= horizon && holding.has_lost_footage() => {
            State::Overwritten {
                cause: format!("older than what the card still holds ({horizon})"),
            }
        }
        Some(horizon) if range.end() <= horizon => {
            State::NeverRecorded { cause: format!("the card's recordings begin at {horizon}") }
        }
        Some(_) => State::NeverRecorded { cause: "the card has a hole there too".into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::{at, seconds};

    const RULES: Rules = Rules {
        join_tolerance: Duration::from_millis(500),
        open_gap: Duration::from_secs(60),
        take_final: false,
    };

    fn holding(held: &[(i64, i64)], final_until: i64) -> Holding {
        let held: Coverage = held.iter().map(|(start, end)| seconds(*start, *end)).collect();
        Holding {
            horizon: held.hull().map(|hull| hull.start()),
            held,
            final_until: at(final_until),
            ..Holding::default()
        }
    }

    fn steps(gap: (i64, i64), archive_end: i64, holding: &Holding) -> Vec<Step> {
        plan(&seconds(gap.0, gap.1).into(), Some(at(archive_end)), holding, RULES)
    }

    #[test]
    fn a_closed_gap_that_the_card_holds_is_located() {
        let card = holding(&[(0, 300)], 300);
        assert_eq!(steps((100, 145), 300, &card), [Step::Locate(seconds(100, 145))]);
    }

    #[test]
    fn a_gap_that_is_still_open_waits_until_it_is_long() {
        let card = holding(&[(0, 300)], 300);
        assert_eq!(steps((100, 145), 100, &card), []);
        assert_eq!(steps((100, 161), 100, &card), [Step::Locate(seconds(100, 161))]);
    }

    #[test]
    fn a_gap_that_the_card_can_add_nothing_to_is_taken_as_it_is_where_that_is_the_rule() {
        let gap = seconds(100, 145).into();
        let locates = |final_until, take_final| {
            let card = holding(&[(0, 300)], final_until);
            let steps = plan(&gap, None, &card, Rules { take_final, ..RULES });
            steps.contains(&Step::Locate(seconds(100, 145)))
        };
        assert!(locates(145, true));
        assert!(!locates(145, false));
        assert!(!locates(144, true));
    }

    #[test]
    fn a_gap_of_slivers_is_located_where_the_card_holds_any_of_it() {
        let millis = |millis: i64| Timestamp::from_nanos(millis * 1_000_000);
        let range = |start, end| TimeRange::new(millis(start), millis(end)).unwrap();
        let gap = range(100_000, 100_600);
        let card = Holding {
            held: range(100_300, 300_000).into(),
            final_until: at(300),
            ..Holding::default()
        };
        let located = Step::Locate(range(100_300, 100_600));
        assert_eq!(plan(&gap.into(), Some(at(300)), &card, RULES), [located]);
        let rounding = range(100_200, 100_600);
        assert_eq!(plan(&rounding.into(), Some(at(300)), &card, RULES), []);
    }

    #[test]
    fn what_the_card_may_still_come_to_hold_waits() {
        let card = holding(&[(0, 120)], 120);
        assert_eq!(steps((100, 145), 300, &card), [Step::Locate(seconds(100, 120))]);
    }

    #[test]
    fn a_hole_on_the_card_too_is_never_recorded() {
        let card = holding(&[(0, 110), (130, 300)], 300);
        let steps = steps((100, 145), 300, &card);
        let [Step::Locate(first), Step::Locate(second), Step::Conclude(verdict)] = steps.as_slice()
        else {
            panic!("{steps:?}")
        };
        assert_eq!((*first, *second), (seconds(100, 110), seconds(130, 145)));
        assert_eq!(verdict.range, seconds(110, 130));
        assert_eq!(verdict.state.word(), "never_recorded");
    }

    #[test]
    fn what_was_on_the_card_and_is_gone_is_overwritten() {
        let mut card = holding(&[(120, 300)], 300);
        card.gone = seconds(0, 120).into();
        let steps = steps((100, 145), 300, &card);
        let [Step::Locate(_), Step::Conclude(verdict)] = steps.as_slice() else {
            panic!("{steps:?}")
        };
        assert_eq!((verdict.range, verdict.state.word()), (seconds(100, 120), "overwritten"));
    }

    #[test]
    fn what_an_earlier_report_held_is_overwritten_even_when_the_card_forgot_it() {
        let mut card = holding(&[(120, 300)], 300);
        card.once_held = seconds(50, 120).into();
        let steps = steps((60, 119), 300, &card);
        let [Step::Conclude(verdict)] = steps.as_slice() else { panic!("{steps:?}") };
        assert_eq!(verdict.state.word(), "overwritten");
    }

    #[test]
    fn an_empty_card_never_recorded_anything() {
        let steps = steps((100, 145), 300, &holding(&[], 300));
        let [Step::Conclude(verdict)] = steps.as_slice() else { panic!("{steps:?}") };
        assert_eq!(verdict.state.word(), "never_recorded");
    }
}
