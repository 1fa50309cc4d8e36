//! What a device's time lacks to the archive's, learned where both hold the same frames.
//!
//! Pure. The central recorder stamps frames when they arrive, by a clock of its own; the card's by the camera's, as
//! far as the device could correct it. At an exact seam the difference is known to a frame or better. Between two
//! seams it is drawn straight, as a crystal drifts; beyond them the nearest holds, less surely the farther off.
//!
//! Everything that a device says of time is brought onto the archive's time by it before it is compared with
//! anything, and back again before the device is asked.

use protocol::message::CoverageReport;
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde::{Deserialize, Serialize};

/// A crystal that nobody corrects, in the heat or cold of a camera, and the recorder's own.
const DRIFT_PPM: i64 = 200;
/// What a recorder's stamps may differ by from one seam to the next, for the network between.
const JITTER_NS: i64 = 250_000_000;
/// Seams nearer to each other than this tell the same; the more exact one is kept.
const APART_NS: i64 = 10_000_000_000;
/// Of each stream; the oldest are forgotten.
const MOST_LEARNED: usize = 64;

/// A device that may be off by more has no other word for its time than its own clock's.
const VOUCHED_NS: u64 = 1_000_000_000;

/// What a device's idea of its time rests on. Once somebody has told it the time, all that it says is moved, and what
/// was learned of the idea before means nothing any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Basis {
    /// A time service, a server, or what cannot be off by much.
    #[default]
    Vouched,
    /// A clock that reads plausibly.
    Presumed,
}

impl Basis {
    /// Of a device that says how far it may be off at most.
    pub const fn of(uncertainty_ns: u64) -> Basis {
        if uncertainty_ns < VOUCHED_NS { Basis::Vouched } else { Basis::Presumed }
    }
}

/// What one seam has told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Learned {
    /// By the device.
    pub at: Timestamp,
    /// The archive's time less the device's.
    pub offset_ns: i64,
    /// How far that may be from the truth.
    pub error_ns: i64,
    #[serde(default)]
    pub basis: Basis,
}

impl Learned {
    /// The same of the device's own time, where it was told of a time to which so much had been added.
    #[must_use]
    pub fn of(self, added_ns: i64) -> Learned {
        Learned {
            at: self.at.saturating_offset(added_ns.saturating_neg()),
            offset_ns: self.offset_ns.saturating_add(added_ns),
            ..self
        }
    }
}

/// What to add to a device's time, and how sure that is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offset {
    pub offset_ns: i64,
    pub error_ns: i64,
}

/// All that has been learned of a stream, in the order of the device's time.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offsets(Vec<Learned>);

impl Offsets {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes what an exact seam tells. Where it cannot be true beside what is known, the device has come to
    /// another idea of its time, and what was known is void.
    pub fn learn(&mut self, new: Learned) {
        if let Some(known) = self.at(new.at) {
            let most = known.error_ns.saturating_add(new.error_ns).saturating_add(JITTER_NS);
            if known.offset_ns.abs_diff(new.offset_ns) > most.unsigned_abs() {
                self.0.clear();
            }
        }
        let near = |known: &&Learned| known.at.nanos_from(new.at).saturating_abs() < APART_NS;
        if self.0.iter().filter(near).any(|known| known.error_ns < new.error_ns) {
            return;
        }
        self.0.retain(|known| !near(&known));
        let index = self.0.partition_point(|known| known.at < new.at);
        self.0.insert(index, new);
        if self.0.len() > MOST_LEARNED {
            self.0.remove(0);
        }
    }

    /// Forgets what was learned of another idea that the device had of its time; true where there was any.
    pub fn keep(&mut self, basis: Basis) -> bool {
        let known = self.0.len();
        self.0.retain(|learned| learned.basis == basis);
        self.0.len() < known
    }

    /// `None` where nothing has been learned: the device's time is then taken as it is.
    pub fn at(&self, device_time: Timestamp) -> Option<Offset> {
        let index = self.0.partition_point(|known| known.at <= device_time);
        let before = index.checked_sub(1).and_then(|before| self.0.get(before));
        match (before, self.0.get(index)) {
            (Some(before), Some(behind)) => Some(between(before, behind, device_time)),
            (Some(near), None) | (None, Some(near)) => Some(beyond(near, device_time)),
            (None, None) => None,
        }
    }

    pub fn to_archive(&self, device_time: Timestamp) -> Timestamp {
        match self.at(device_time) {
            Some(offset) if !is_endless(device_time) => {
                device_time.saturating_offset(offset.offset_ns)
            }
            _ => device_time,
        }
    }

    /// The device's time at which [`Offsets::to_archive`] gives this, to a microsecond.
    pub fn to_device(&self, archive_time: Timestamp) -> Timestamp {
        if is_endless(archive_time) {
            return archive_time;
        }
        let mut device_time = archive_time;
        // Each round is nearer by the slope, which is far below 1.
        for _ in 0..4 {
            let offset_ns = self.at(device_time).unwrap_or_default().offset_ns;
            device_time = archive_time.saturating_offset(offset_ns.saturating_neg());
        }
        device_time
    }

    /// A range of the device's time.
    pub fn range_to_archive(&self, range: TimeRange) -> TimeRange {
        let moved = TimeRange::new(self.to_archive(range.start()), self.to_archive(range.end()));
        moved.unwrap_or(range)
    }

    pub fn range_to_device(&self, range: TimeRange) -> TimeRange {
        let moved = TimeRange::new(self.to_device(range.start()), self.to_device(range.end()));
        moved.unwrap_or(range)
    }

    fn coverage_to_archive(&self, coverage: &Coverage) -> Coverage {
        coverage.iter().map(|range| self.range_to_archive(range)).collect()
    }

    /// The same report in the archive's time.
    pub fn report_to_archive(&self, report: CoverageReport) -> CoverageReport {
        if self.is_empty() {
            return report;
        }
        let error_ns = self.at(report.final_until).unwrap_or_default().error_ns;
        CoverageReport {
            window: self.range_to_archive(report.window),
            held: self.coverage_to_archive(&report.held),
            gone: self.coverage_to_archive(&report.gone),
            horizon: report.horizon.map(|horizon| self.to_archive(horizon)),
            final_until: self.to_archive(report.final_until),
            // What was learned stands in for what the device is unsure of.
            uncertainty_ns: report.uncertainty_ns.min(error_ns.unsigned_abs()),
            overwriting: report.overwriting.map(|overwriting| {
                let horizon_goes_at = self.to_archive(overwriting.horizon_goes_at);
                protocol::message::Overwriting { horizon_goes_at, ..overwriting }
            }),
            ..report
        }
    }
}

/// The beginning and the end of all time are nobody's clock reading.
fn is_endless(instant: Timestamp) -> bool {
    instant == Timestamp::MIN || instant == Timestamp::MAX
}

fn drifted_ns(elapsed_ns: i64) -> i64 {
    elapsed_ns.saturating_abs() / 1_000_000 * DRIFT_PPM
}

fn between(before: &Learned, behind: &Learned, at: Timestamp) -> Offset {
    let apart_ns = i128::from(behind.at.nanos_from(before.at).max(1));
    let along_ns = at.nanos_from(before.at);
    let change_ns = i128::from(behind.offset_ns) - i128::from(before.offset_ns);
    let moved_ns = i64::try_from(change_ns * i128::from(along_ns) / apart_ns).unwrap_or_default();
    let nearest_ns = along_ns.min(behind.at.nanos_from(at));
    Offset {
        offset_ns: before.offset_ns.saturating_add(moved_ns),
        error_ns: before.error_ns.max(behind.error_ns).saturating_add(drifted_ns(nearest_ns)),
    }
}

fn beyond(near: &Learned, at: Timestamp) -> Offset {
    let error_ns = near.error_ns.saturating_add(drifted_ns(at.nanos_from(near.at)));
    Offset { offset_ns: near.offset_ns, error_ns }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::{at, seconds};

    const SECOND_NS: i64 = 1_000_000_000;
    const FRAME_NS: i64 = 40_000_000;

    fn learned(at_s: i64, offset_ns: i64) -> Learned {
        Learned { at: at(at_s), offset_ns, error_ns: FRAME_NS, basis: Basis::Vouched }
    }

    #[test]
    fn without_a_seam_the_devices_time_is_taken_as_it_is() {
        let offsets = Offsets::default();
        assert_eq!(offsets.at(at(0)), None);
        assert_eq!(offsets.range_to_archive(seconds(0, 10)), seconds(0, 10));
    }

    #[test]
    fn between_two_seams_a_drift_is_followed_and_beyond_them_the_nearest_holds() {
        let mut offsets = Offsets::default();
        offsets.learn(learned(1_000, 7 * SECOND_NS));
        offsets.learn(learned(11_000, 9 * SECOND_NS));
        let table = [(0, 7_000), (1_000, 7_000), (6_000, 8_000), (11_000, 9_000), (12_000, 9_000)];
        for (at_s, expected_ms) in table {
            let offset = offsets.at(at(at_s)).unwrap();
            assert_eq!(offset.offset_ns / 1_000_000, expected_ms, "{at_s}");
        }
        let error_ms = |at_s| offsets.at(at(at_s)).unwrap().error_ns / 1_000_000;
        assert_eq!((error_ms(1_000), error_ms(6_000), error_ms(12_000)), (40, 1_040, 240));
    }

    #[test]
    fn there_and_back_is_the_same_instant() {
        let mut offsets = Offsets::default();
        offsets.learn(learned(1_000, 7 * SECOND_NS));
        offsets.learn(learned(11_000, 9 * SECOND_NS));
        for at_s in [0, 999, 5_000, 11_001, 20_000] {
            let again = offsets.to_archive(offsets.to_device(at(at_s)));
            assert!(again.distance(at(at_s)).as_micros() <= 1, "{at_s}");
        }
        assert_eq!(offsets.to_device(Timestamp::MAX), Timestamp::MAX);
        assert_eq!(offsets.to_archive(Timestamp::MIN), Timestamp::MIN);
    }

    #[test]
    fn a_seam_that_contradicts_what_was_known_is_believed_alone() {
        let mut offsets = Offsets::default();
        offsets.learn(learned(1_000, 7_200 * SECOND_NS));
        offsets.learn(learned(2_000, 7_200 * SECOND_NS + 300_000_000));
        assert_eq!(offsets.0.len(), 2);
        // The device's clock was set.
        offsets.learn(learned(3_000, 0));
        assert_eq!(offsets.0, [learned(3_000, 0)]);
    }

    #[test]
    fn what_was_learned_of_a_clock_that_nobody_vouched_for_is_void_once_the_device_was_told_the_time()
     {
        let mut offsets = Offsets::default();
        offsets.learn(Learned { basis: Basis::of(30 << 30), ..learned(1_000, -6 * SECOND_NS) });
        assert!(!offsets.keep(Basis::Presumed));
        assert!(offsets.keep(Basis::of(40_000_000)) && offsets.is_empty());
        offsets.learn(learned(2_000, SECOND_NS));
        assert!(!offsets.keep(Basis::Vouched) && !offsets.is_empty());
        // As they were written down before there were two.
        let before = "[{\"at\":1000,\"offset_ns\":5,\"error_ns\":1}]";
        let read: Offsets = serde_json::from_str(before).unwrap();
        assert_eq!(read.0[0].basis, Basis::Vouched);
    }

    #[test]
    fn of_seams_close_to_each_other_the_more_exact_is_kept_and_of_all_a_bounded_number() {
        let mut offsets = Offsets::default();
        offsets.learn(learned(1_000, 100));
        offsets.learn(Learned { error_ns: FRAME_NS / 2, ..learned(1_005, 200) });
        offsets.learn(learned(1_006, 300));
        assert_eq!(offsets.0.len(), 1);
        assert_eq!(offsets.0[0].offset_ns, 200);
        for number in 0..100 {
            offsets.learn(learned(2_000 + 20 * number, 0));
        }
        assert_eq!(offsets.0.len(), MOST_LEARNED);
    }
}
