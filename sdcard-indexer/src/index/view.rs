//! What a stream has on the card, as it is told to others.
//!
//! Pure, and made of the summaries of [`super::rows`]: what did not change since is not looked at again.

use std::time::Duration;

use super::finality;
use super::gone::Gone;
use super::row::{Flag, Row};
use super::rows::{Covered, Rows, Summary};
use crate::coverage::Coverage;
use crate::segment::Tier;
use crate::time::{TimeRange, Timestamp};

/// The uncertainty of a stream is told in so many steps; more are put together.
const MAX_UNCERTAIN_RANGES: usize = 256;

/// What a stream has on the card; the substance of a coverage report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamView {
    /// False: its folder cannot be listed, or the card is not there. Then nothing is held, or final.
    pub present: bool,
    /// Joined over holes no longer than the join tolerance and one step of the names, but for those that time
    /// stamps prove.
    pub held: Coverage,
    /// Was held and is not any more; shares nothing with `held`.
    pub gone: Coverage,
    /// The oldest instant held.
    pub horizon: Option<Timestamp>,
    /// What is absent before this instant will not appear later. The rule stands in `finality`.
    pub final_until: Timestamp,
    /// The least of what is held.
    pub tier: Tier,
    /// Successive segments and how far before or behind its place each of them may truly lie, at most. In tier
    /// T0, ends are guesses besides.
    pub uncertain: Vec<(TimeRange, Duration)>,
}

impl StreamView {
    pub(super) const fn absent() -> Self {
        StreamView {
            present: false,
            held: Coverage::new(),
            gone: Coverage::new(),
            horizon: None,
            final_until: Timestamp::MIN,
            tier: Tier::Names,
            uncertain: Vec::new(),
        }
    }

    pub(super) fn of(rows: &Rows, gone: &Gone, now: Timestamp) -> Self {
        let held = held(rows);
        StreamView {
            present: true,
            gone: gone.all().joined(rows.join()).difference(&held),
            horizon: held.hull().map(|hull| hull.start()),
            final_until: finality::final_until(rows, now),
            tier: rows
                .blocks()
                .filter_map(|(_, summary)| summary.tier)
                .min()
                .unwrap_or(Tier::Extent),
            uncertain: uncertain(rows),
            held,
        }
    }

    /// How far before or behind its place anything that is held may truly lie, at most.
    pub fn uncertainty(&self) -> Duration {
        self.uncertain.iter().map(|(_, uncertainty)| *uncertainty).max().unwrap_or_default()
    }

    /// As [`StreamView::uncertainty`], of what is held within `window`: one repeated hour, or one day with a
    /// wrong clock, says nothing of the other days.
    pub fn uncertainty_in(&self, window: TimeRange) -> Duration {
        let within = self.uncertain.iter().filter(|(range, _)| range.overlaps(&window));
        within.map(|(_, uncertainty)| *uncertainty).max().unwrap_or_default()
    }

    /// The window outside of which both views tell the same of what is held and gone.
    pub(super) fn change_to(&self, new: &StreamView) -> Option<TimeRange> {
        let differences = [
            self.held.difference(&new.held),
            new.held.difference(&self.held),
            self.gone.difference(&new.gone),
            new.gone.difference(&self.gone),
        ];
        differences.iter().filter_map(Coverage::hull).reduce(|all, hull| all.hull(&hull))
    }
}

fn held(all: &Rows) -> Coverage {
    let count = |(rows, summary): (&[Row], &Summary)| match summary.covered {
        Covered::Nothing => 0,
        Covered::Whole(_) => 1,
        Covered::Pieces => all.pieces(rows),
    };
    // Where a hole follows every segment, it is as large as it gets.
    let mut proven: Vec<TimeRange> = Vec::new();
    let mut ranges = Vec::with_capacity(all.blocks().map(count).sum());
    for (rows, summary) in all.blocks() {
        match summary.covered {
            Covered::Nothing => {}
            Covered::Whole(range) => ranges.push(range),
            Covered::Pieces => rows.iter().for_each(|row| match row.is(Flag::HOLED) {
                true => {
                    let (covered, holes) = all.coverage_of(row);
                    ranges.extend(covered);
                    proven.extend(holes);
                }
                false => ranges.extend(row.coverage()),
            }),
        }
    }
    let covered = Coverage::from(ranges);
    if proven.is_empty() {
        return covered.joined(all.join());
    }
    // What one segment proves to be missing, another may hold.
    let missing = Coverage::from(proven).difference(&covered);
    covered.joined(all.join()).difference(&missing)
}

fn uncertain(rows: &Rows) -> Vec<(TimeRange, Duration)> {
    let mut steps: Vec<(TimeRange, Duration)> = Vec::new();
    let mut push = |range: TimeRange, uncertainty: Duration| {
        let full = steps.len() >= MAX_UNCERTAIN_RANGES;
        match steps.last_mut().filter(|(_, last)| full || *last == uncertainty) {
            Some((known, most)) => {
                *known = known.hull(&range);
                *most = uncertainty.max(*most);
            }
            None => steps.push((range, uncertainty)),
        }
    };
    for (rows, summary) in rows.blocks() {
        match (summary.uncertainty, summary.hull) {
            (Some((least, most)), Some(hull)) if least == most => push(hull, most),
            (Some(_), _) => {
                rows.iter()
                    .filter_map(|row| Some((row.coverage()?, row.uncertainty())))
                    .for_each(|(range, uncertainty)| push(range, uncertainty));
            }
            _ => {}
        }
    }
    steps
}
