//! Attribution: in which epoch was a segment recorded, and when by that epoch's clock?
//!
//! Evidence is kept as bounds on the segment's start in `BOOTTIME`. Every epoch in which the segment can have
//! begun, and every reading that its name allows there, is a candidate; what contradicts the order in which
//! things were seen is none. What remains is hulled, so that an ambiguity shows as uncertainty.

use std::time::Duration;

use super::bounds::{Bounds, nanos};
use super::correct::{Corrections, Stretch};
use super::{
    Attribution, CLOSE_LAG, CREATE_LAG, EpochId, IN_BAND_ERROR, MAX_UNCERTAINTY, Moment,
    PRESUMED_ERROR, TimeSource, WRITE_LAG, drift,
};
use crate::container::{InBandKind, InBandTime};
use crate::layout::NamedTime;
use crate::time::Timestamp;

/// Zones differ from UTC by multiples of this.
const ZONE_STEP_NS: i64 = 900_000_000_000;
/// From UTC-12 to UTC+14.
const ZONE_STEPS: std::ops::RangeInclusive<i32> = -48..=56;

/// What is known of a segment. Nothing of it need be there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Claim {
    pub in_band: Option<InBand>,
    /// The agent saw its file being closed between these moments, of one boot.
    pub closed: Option<(Moment, Moment)>,
    pub named: Option<Named>,
    pub modified: Option<Modified>,
    /// Its file was not there yet, or the segment before it had just ended.
    pub after: Option<Moment>,
    /// What has been read of it had been recorded by then.
    pub by: Option<Moment>,
    /// It was attributed to the boot of this epoch before.
    pub epoch: Option<EpochId>,
    /// Of the media. `None`: the file has not been read.
    pub duration: Option<Duration>,
}

/// The time that the recording itself gives to its first sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InBand {
    pub start: Timestamp,
    /// It may have been told so much too late.
    pub late: Duration,
    /// It says that its clock was locked to UTC. Else it is the wall clock of the device.
    pub locked: bool,
}

impl InBand {
    /// ffmpeg tells the time at which it wrote a fragment: late by up to its length.
    const LONGEST_FRAGMENT: Duration = Duration::from_secs(10);

    /// `None` for a time that need not be that of the recording: Matroska's is that of its last muxing.
    pub fn of(in_band: &InBandTime) -> Option<Self> {
        let late = match in_band.kind {
            InBandKind::ProducerReference => InBand::LONGEST_FRAGMENT,
            InBandKind::PrecisionTimeStamp | InBandKind::SegmentInfo => Duration::ZERO,
            InBandKind::SegmentDate => return None,
        };
        Some(InBand {
            start: in_band.utc.saturating_offset(in_band.media.0.saturating_neg()),
            late,
            locked: in_band.kind == InBandKind::PrecisionTimeStamp,
        })
    }

    fn reading(self) -> Bounds {
        let reading = Bounds::around(self.start.as_nanos(), IN_BAND_ERROR);
        Bounds { earliest: reading.earliest.saturating_sub(nanos(self.late)), ..reading }
    }
}

/// The reading of a wall clock that a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Named {
    /// The clock showed a time in `[start, start + step)`.
    pub start: Timestamp,
    pub step: Duration,
    /// The name stands for a reading this much later as well: a local hour that is repeated, or skipped.
    pub repeats_after: Option<Duration>,
    pub zone: NameZone,
}

/// What is known of the zone in which a wall time is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NameZone {
    /// It has been taken into account.
    #[default]
    Known,
    /// The time is this many quarters of an hour ahead of the clock.
    Ahead(i32),
    /// The time is ahead of or behind the clock by any number of quarters of an hour, always the same.
    Unknown,
}

impl NameZone {
    /// What a zone must be, by segments of which both the time in an unknown zone and the reading of the clock
    /// are known; `None` where they disagree, or there is none.
    pub fn learn(
        segments: impl IntoIterator<Item = (Timestamp, Timestamp)>,
        tolerance: Duration,
    ) -> Option<NameZone> {
        let mut learned = None;
        for (in_zone, by_clock) in segments {
            let ahead_ns = in_zone.nanos_from(by_clock);
            let steps = ahead_ns.saturating_add(ZONE_STEP_NS / 2).div_euclid(ZONE_STEP_NS);
            if ahead_ns.abs_diff(steps * ZONE_STEP_NS) > nanos(tolerance).unsigned_abs() {
                return None;
            }
            let zone = NameZone::Ahead(i32::try_from(steps).ok()?);
            if learned.replace(zone).is_some_and(|before| before != zone) {
                return None;
            }
        }
        learned
    }

    /// What to add to a time in the zone.
    fn shifts(self) -> impl Iterator<Item = i64> + Clone {
        let steps = match self {
            NameZone::Known => 0..=0,
            NameZone::Ahead(steps) => steps..=steps,
            NameZone::Unknown => ZONE_STEPS,
        };
        steps.map(|steps| i64::from(steps).saturating_mul(-ZONE_STEP_NS))
    }
}

impl Named {
    /// What a layout makes of a name: where it is uncertain by more than zones differ by, the hour is an
    /// ambiguous one.
    pub fn of(named: &NamedTime) -> Self {
        let quarter_ns = ZONE_STEP_NS.unsigned_abs().into();
        let step_ns = named.uncertainty.as_nanos() % quarter_ns;
        let ambiguous = named.uncertainty.as_nanos() > quarter_ns && step_ns > 0;
        let step = match u64::try_from(step_ns) {
            Ok(step_ns) if ambiguous => Duration::from_nanos(step_ns),
            _ => named.uncertainty,
        };
        let repeats_after = ambiguous.then(|| named.uncertainty.saturating_sub(step));
        Named { start: named.start, step, repeats_after, zone: NameZone::Known }
    }

    fn readings(self) -> impl Iterator<Item = Bounds> {
        let start = self.start.as_nanos();
        let latest = start.saturating_add(nanos(self.step));
        let reading = Bounds { earliest: start, best: start, latest };
        let repeated = self.repeats_after.map(|after| reading.shifted(nanos(after)));
        let readings = [Some(reading), repeated].into_iter().flatten();
        readings.flat_map(move |reading| self.zone.shifts().map(move |ns| reading.shifted(ns)))
    }
}

/// A file's time of change: the reading of the wall clock when the recorder last wrote to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Modified {
    /// The clock showed a time in `[at, at + step)`.
    pub at: Timestamp,
    /// 2 s on FAT.
    pub step: Duration,
    /// On FAT the time is local, in the zone that whoever mounted it assumes.
    pub zone: NameZone,
}

impl Modified {
    /// When the media of the file ended.
    fn end(self) -> Bounds {
        let at = self.at.as_nanos();
        let latest = at.saturating_add(nanos(self.step));
        Bounds { earliest: at.saturating_sub(nanos(WRITE_LAG)), best: at, latest }
    }
}

/// A start that is possible.
#[derive(Clone, Copy, Debug)]
struct Candidate<'a> {
    /// When the clock was read as the name says.
    stretch: &'a Stretch,
    /// In its boot's `BOOTTIME`.
    start: Bounds,
}

impl Corrections<'_> {
    /// The epoch of a segment and its start there. Without a journal, clocks are believed.
    pub fn attribute(&self, claim: &Claim) -> Attribution {
        if let Some(in_band) = claim.in_band.filter(|in_band| in_band.locked) {
            return in_utc(in_band.reading(), TimeSource::InBand);
        }
        if self.epochs.is_empty() {
            return believed(claim);
        }
        let from = |source: TimeSource, candidates: Vec<Candidate<'_>>| {
            // What agrees with the close is in it, and exact.
            let source =
                if claim.closed.is_some() { source.min(TimeSource::Close) } else { source };
            self.one_of(&candidates, claim, source)
        };
        from(TimeSource::InBand, self.read_as(claim, in_band_readings(claim)))
            .or_else(|| from(TimeSource::Name, self.named(claim)))
            .or_else(|| from(TimeSource::Close, self.closed(claim)))
            .or_else(|| from(TimeSource::Modified, self.modified(claim)))
            .or_else(|| self.before_journal(claim))
            .unwrap_or_else(|| self.between(claim))
    }

    /// Readings of the wall clock at the segment's start, in every stretch that can have shown them then.
    fn read_as(
        &self,
        claim: &Claim,
        readings: impl Iterator<Item = Bounds> + Clone,
    ) -> Vec<Candidate<'_>> {
        let mut candidates = Vec::new();
        for stretch in &self.stretches {
            let Some(room) = self.room(stretch, claim) else { continue };
            candidates.extend(readings.clone().filter_map(|reading| {
                let start = stretch.boottime(reading).intersection(room)?;
                Some(Candidate { stretch, start })
            }));
        }
        candidates
    }

    fn named(&self, claim: &Claim) -> Vec<Candidate<'_>> {
        // In one zone or another, every name fits somewhere: where about must be known otherwise.
        let named =
            claim.named.filter(|one| one.zone != NameZone::Unknown || claim.closed.is_some());
        let readings: Vec<Bounds> = named.into_iter().flat_map(Named::readings).collect();
        let mut candidates = self.read_as(claim, readings.iter().copied());
        // The time of change chooses among what the name allows, and is not asked where it allows but one.
        if candidates.len() > 1 {
            let agreeing = candidates.iter().filter_map(|one| self.as_modified(one, claim));
            let agreeing: Vec<Candidate<'_>> = agreeing.collect();
            if !agreeing.is_empty() {
                candidates = agreeing;
            }
        }
        candidates
    }

    fn closed(&self, claim: &Claim) -> Vec<Candidate<'_>> {
        let stretches = self.stretches.iter().filter(|_| claim.closed.is_some());
        let room = |stretch| Some(Candidate { stretch, start: self.room(stretch, claim)? });
        stretches.filter_map(room).collect()
    }

    fn modified(&self, claim: &Claim) -> Vec<Candidate<'_>> {
        // In one zone or another, every time fits somewhere.
        let modified = claim.modified.filter(|modified| modified.zone != NameZone::Unknown);
        let (Some(modified), Some(duration)) = (modified, claim.duration) else {
            return Vec::new();
        };
        let length = nanos(duration);
        let mut candidates = Vec::new();
        for stretch in &self.stretches {
            let Some(order) = self.order(stretch.epoch, claim) else { continue };
            candidates.extend(modified.zone.shifts().filter_map(|shift| {
                let end = stretch.boottime(modified.end().shifted(shift));
                let end = end.intersection(stretch.reach)?;
                let start = end.shifted(-length).widened(drift(length)).intersection(order)?;
                (start.latest >= 0).then_some(Candidate { stretch, start })
            }));
        }
        candidates
    }

    /// What is left of a candidate where its file would have been changed last when it was.
    fn as_modified<'a>(
        &'a self,
        candidate: &Candidate<'a>,
        claim: &Claim,
    ) -> Option<Candidate<'a>> {
        let (Some(modified), Some(duration)) = (claim.modified, claim.duration) else {
            return Some(*candidate);
        };
        let length = nanos(duration);
        let end = candidate.start.shifted(length).widened(drift(length));
        let of_boot = self.stretches.iter().filter(|one| self.share_boot(one, candidate.stretch));
        let ends = of_boot.filter_map(|stretch| Some((stretch, end.intersection(stretch.reach)?)));
        let ends = ends.flat_map(|(stretch, end)| {
            let shifts = modified.zone.shifts();
            let read = shifts.map(|shift| stretch.boottime(modified.end().shifted(shift)));
            read.filter_map(move |read| end.intersection(read))
        });
        let end = ends.reduce(Bounds::hull)?;
        let start = end.shifted(-length).widened(drift(length));
        Some(Candidate { start: candidate.start.intersection(start)?, ..*candidate })
    }

    fn share_boot(&self, one: &Stretch, other: &Stretch) -> bool {
        let boot = |stretch: &Stretch| self.epochs.get(stretch.epoch).map(|epoch| epoch.boot);
        boot(one) == boot(other)
    }

    /// One attribution for all that is possible; `None` where nothing is.
    fn one_of(
        &self,
        candidates: &[Candidate<'_>],
        claim: &Claim,
        source: TimeSource,
    ) -> Option<Attribution> {
        let first = candidates.first()?;
        if candidates.iter().all(|one| self.share_boot(one.stretch, first.stretch)) {
            let start = candidates.iter().map(|one| one.start).reduce(Bounds::hull)?;
            let length = claim.duration.map_or(0, nanos);
            // Media time is the device's own: the segment's end is as much off as that is.
            let (start, uncertainty) = start.widened(drift(length)).value_within(MAX_UNCERTAINTY);
            let epoch = self.epochs.get(first.stretch.epoch)?;
            let start = Timestamp::from_nanos(start.saturating_add(epoch.offset_ns));
            return Some(Attribution { epoch: Some(epoch.id), start, uncertainty, source });
        }
        let utc = candidates.iter().map(|one| self.utc(one.stretch.epoch, one.start));
        Some(in_utc(utc.reduce(Bounds::hull)?, source))
    }

    /// From before anybody watched: what no clock that was watched can have named is believed, as a clock is that
    /// nobody vouches for.
    fn before_journal(&self, claim: &Claim) -> Option<Attribution> {
        let (earliest, latest) = self.before_journal?;
        let attribution = believed(claim);
        let fits = (earliest..=latest).contains(&attribution.start.as_nanos());
        let uncertainty = attribution.uncertainty.saturating_add(PRESUMED_ERROR);
        let fits = fits && claim.after.is_none() && claim.epoch.is_none();
        fits.then_some(Attribution { uncertainty, ..attribution })
    }

    /// Nothing but the order in which things were seen says when it was.
    fn between(&self, claim: &Claim) -> Attribution {
        let begun_before = nanos(CREATE_LAG) + drift(nanos(CREATE_LAG));
        let earliest = claim.after.map_or(i64::MIN, |after| self.utc_of(after).earliest);
        let earliest = earliest.saturating_sub(begun_before);
        let latest = claim.by.map_or(i64::MAX, |by| self.utc_of(by).latest);
        let bounds = Bounds::between(earliest, latest).unwrap_or(Bounds::ALL);
        in_utc(bounds, TimeSource::Neighbours)
    }

    /// Where in its boot a segment can have begun in this stretch.
    fn room(&self, stretch: &Stretch, claim: &Claim) -> Option<Bounds> {
        stretch.reach.intersection(self.order(stretch.epoch, claim)?)
    }

    /// Where in the boot of an epoch it can have begun, by the order in which things were seen.
    fn order(&self, index: usize, claim: &Claim) -> Option<Bounds> {
        let length = claim.duration.map_or(0, nanos);
        let slack = drift(length);
        let (mut lo, mut hi) = (i64::MIN, i64::MAX);
        if let Some(known) = claim.epoch.and_then(|known| self.index_of(known)) {
            let boot = |index: usize| self.epochs.get(index).map(|epoch| epoch.boot);
            if boot(known) != boot(index) {
                return None;
            }
        }
        if let Some(after) = claim.after {
            match self.seen_from(index, after)? {
                Seen::Before => {}
                Seen::In(after) => lo = after.saturating_sub(nanos(CREATE_LAG)),
                Seen::Behind => return None,
            }
        }
        if let Some(by) = claim.by {
            match self.seen_from(index, by)? {
                Seen::Before => return None,
                Seen::In(by) => hi = by.saturating_sub(length).saturating_add(slack),
                Seen::Behind => {}
            }
        }
        if let Some((from, to)) = claim.closed {
            let (Seen::In(from), Seen::In(to)) =
                (self.seen_from(index, from)?, self.seen_from(index, to)?)
            else {
                return None;
            };
            let begun = |closed: i64| closed.saturating_sub(length);
            lo = lo.max(begun(from).saturating_sub(slack).saturating_sub(nanos(CLOSE_LAG)));
            hi = hi.min(begun(to).saturating_add(slack));
        }
        Bounds::between(lo, hi)
    }

    fn seen_from(&self, index: usize, moment: Moment) -> Option<Seen> {
        let epoch = self.epochs.get(index)?;
        let of_moment = self.epochs.get(self.index_of(moment.epoch)?)?;
        Some(match of_moment.boot == epoch.boot {
            true => Seen::In(moment.boottime.as_nanos()),
            false if moment.epoch < epoch.id => Seen::Before,
            false => Seen::Behind,
        })
    }
}

/// Where a moment lies, seen from a boot.
#[derive(Clone, Copy, Debug)]
enum Seen {
    Before,
    /// In the boot, at this `BOOTTIME`.
    In(i64),
    Behind,
}

/// What the recording tells, made more exact by the name where the two agree.
fn in_band_readings(claim: &Claim) -> impl Iterator<Item = Bounds> + Clone {
    let in_band = claim.in_band.map(InBand::reading);
    let named = claim.named.into_iter().flat_map(Named::readings);
    let exact = in_band.and_then(|told| named.filter_map(|name| name.intersection(told)).next());
    exact.or(in_band).into_iter()
}

/// Every clock is taken to have been right: that is what is left where no journal tells of one.
fn believed(claim: &Claim) -> Attribution {
    if let Some(reading) = in_band_readings(claim).next() {
        return in_utc(reading, TimeSource::InBand);
    }
    let end = claim.modified.zip(claim.duration);
    let started =
        end.map(|(modified, duration)| (modified, modified.end().shifted(-nanos(duration))));
    let readings: Vec<Bounds> = claim.named.into_iter().flat_map(Named::readings).collect();
    let agrees = |reading: &&Bounds| {
        started.is_none_or(|(modified, started)| {
            let mut shifts = modified.zone.shifts();
            shifts.any(|shift| started.shifted(shift).intersection(**reading).is_some())
        })
    };
    let hull = |readings: &mut dyn Iterator<Item = Bounds>| readings.reduce(Bounds::hull);
    let named = match readings.as_slice() {
        [] | [_] => readings.first().copied(),
        all => {
            hull(&mut all.iter().filter(agrees).copied()).or_else(|| hull(&mut all.iter().copied()))
        }
    };
    if let Some(named) = named {
        return in_utc(named, TimeSource::Name);
    }
    let modified = started.and_then(|(modified, started)| {
        hull(&mut modified.zone.shifts().map(|shift| started.shifted(shift)))
    });
    match modified {
        Some(modified) => in_utc(modified, TimeSource::Modified),
        None => in_utc(Bounds::ALL, TimeSource::Neighbours),
    }
}

fn in_utc(start: Bounds, source: TimeSource) -> Attribution {
    let (start, uncertainty) = start.value_within(MAX_UNCERTAINTY);
    Attribution { epoch: None, start: Timestamp::from_nanos(start), uncertainty, source }
}
