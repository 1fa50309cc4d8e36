//! Corrections: from an instant of a boot to UTC.
//!
//! Bounds are followed, not values: each synchronised stretch of a boot says where an instant can lie, and
//! what all of them allow is what is known. Stretches that contradict each other (a time service was wrong)
//! leave all that either of them says.

use std::ops::Range;
use std::time::Duration;

use super::bounds::{Bounds, nanos};
use super::journal::{ClockJournal, ClockTrust, Epoch, Voucher};
use super::{
    Attribution, Boottime, EpochId, MAX_UNCERTAINTY, Moment, PRESUMED_ERROR, Placement, STEP, drift,
};
use crate::time::Timestamp;

/// First epochs of two boots that begin this close to the same wall time have been set to it by the firmware.
const SAME_BEGINNING_NS: i64 = 10_000_000_000;
/// An RTC that nobody sets stays as wrong as it is, to this, while a device is off.
const SAME_ERROR_NS: i64 = 60_000_000_000;

/// A clock that reads less has begun in 1970 or 2000.
const FIRST_FOOTAGE: Timestamp = Timestamp::from_unix_seconds(40 * 365 * 86_400);
/// 60 years.
const LONGEST_LIFE_NS: i64 = 60 * 366 * 86_400 * 1_000_000_000;

/// What a [`ClockJournal`] knows at present; made once for many segments.
#[derive(Debug)]
pub struct Corrections<'a> {
    pub(super) epochs: &'a [Epoch],
    boots: Vec<Boot>,
    pub(super) stretches: Vec<Stretch>,
    /// Clocks that nobody vouches for are believed from the one to the other, before anybody watched.
    pub(super) before_journal: Option<(i64, i64)>,
}

/// The clock with which a boot began.
#[derive(Clone, Copy, Debug)]
struct WrongClock {
    epoch: usize,
    offset: Bounds,
    /// `None`: nobody knows.
    by_ns: Option<i64>,
}

/// Part of a boot in which the wall clock showed `BOOTTIME + offset`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    /// An epoch of the boot.
    pub epoch: usize,
    offset: Bounds,
    /// It can have been so from and until these.
    pub reach: Bounds,
}

impl Stretch {
    /// When the clock was read so, whether within reach or not.
    pub fn boottime(&self, reading: Bounds) -> Bounds {
        Bounds {
            earliest: reading.earliest.saturating_sub(self.offset.latest),
            best: reading.best.saturating_sub(self.offset.best),
            latest: reading.latest.saturating_sub(self.offset.earliest),
        }
    }
}

/// One boot: its epochs, and what ties it to UTC.
#[derive(Debug)]
struct Boot {
    epochs: Range<usize>,
    ties: Vec<Tie>,
    /// What is known of other boots leaves this room: UTC from here on,
    floor: i64,
    /// and at the latest here.
    ceiling: i64,
}

/// `BOOTTIME + offset_ns` is UTC from `first` to `last`, at most `error_ns` off.
#[derive(Clone, Copy, Debug)]
struct Tie {
    first: i64,
    last: i64,
    offset_ns: i64,
    error_ns: i64,
}

impl Tie {
    fn distance(&self, boottime: i64) -> i64 {
        self.first.saturating_sub(boottime).max(boottime.saturating_sub(self.last)).max(0)
    }

    fn utc(&self, boottime: i64) -> Bounds {
        let best = boottime.saturating_add(self.offset_ns);
        let error_ns = self.error_ns.saturating_add(drift(self.distance(boottime)));
        Bounds { earliest: best, best, latest: best }.widened(error_ns)
    }
}

impl ClockJournal {
    pub fn corrections(&self) -> Corrections<'_> {
        let epochs = self.epochs();
        let mut boots: Vec<Boot> = Vec::new();
        for (index, epoch) in epochs.iter().enumerate() {
            let before = index.checked_sub(1).and_then(|before| epochs.get(before));
            match boots.last_mut().filter(|_| before.is_some_and(|last| last.boot == epoch.boot)) {
                Some(boot) => boot.epochs.end = index + 1,
                None => boots.push(Boot {
                    epochs: index..index + 1,
                    ties: Vec::new(),
                    floor: i64::MIN,
                    ceiling: i64::MAX,
                }),
            }
        }
        for boot in &mut boots {
            let of_boot = epochs.get(boot.epochs.clone()).unwrap_or_default();
            let said_by = |voucher| of_boot.iter().flat_map(move |epoch| ties_of(epoch, voucher));
            boot.ties = said_by(Voucher::TimeService).collect();
            if boot.ties.is_empty() {
                boot.ties = said_by(Voucher::Server).collect();
            }
        }
        let mut corrections =
            Corrections { epochs, boots, stretches: Vec::new(), before_journal: None };
        corrections.bound();
        if let ClockTrust::Plausible { earliest } = self.trust() {
            corrections.presume(earliest.as_nanos());
            let first = epochs.first().map(|epoch| epoch.first.as_nanos());
            let first =
                first.map(|at| corrections.utc(0, Bounds { earliest: at, best: at, latest: at }));
            corrections.before_journal = first
                .map(|first| if first.is_known() { first.latest } else { i64::MAX })
                .map(|first| (FIRST_FOOTAGE.as_nanos(), first));
        }
        corrections.stretches = corrections.seen().chain(corrections.unseen()).collect();
        corrections
    }
}

fn ties_of(epoch: &Epoch, by: Voucher) -> impl Iterator<Item = Tie> + '_ {
    epoch.anchors.iter().filter(move |anchor| anchor.by == by).map(|anchor| Tie {
        first: anchor.first.as_nanos(),
        last: anchor.last.as_nanos(),
        offset_ns: epoch.offset_ns.saturating_add(anchor.behind_ns),
        error_ns: anchor.error_ns.saturating_add(nanos(STEP)),
    })
}

impl Corrections<'_> {
    /// Boots follow one another: a boot without a tie lies between those that have one.
    fn bound(&mut self) {
        let mut floor = i64::MIN;
        for index in 0..self.boots.len() {
            let known_until = self.edge(index, |of_boot| of_boot.last().map(|last| last.last));
            let Some(boot) = self.boots.get_mut(index) else { continue };
            boot.floor = floor;
            floor = known_until.map_or(floor, |utc| utc.earliest.max(floor));
        }
        let mut ceiling = i64::MAX;
        for index in (0..self.boots.len()).rev() {
            let known_from = self.edge(index, |of_boot| of_boot.first().map(|first| first.first));
            let Some(boot) = self.boots.get_mut(index) else { continue };
            boot.ceiling = ceiling;
            ceiling = known_from.map_or(ceiling, |utc| utc.latest.min(ceiling));
        }
    }

    /// UTC at the first or last reading of a boot.
    fn edge(&self, boot: usize, at: impl Fn(&[Epoch]) -> Option<Boottime>) -> Option<Bounds> {
        let boot = self.boots.get(boot)?;
        boot.utc(at(self.epochs.get(boot.epochs.clone())?)?.as_nanos())
    }

    /// Of a boot that nobody vouches for, the newest epoch is believed where its clock reads plausibly.
    fn presume(&mut self, earliest: i64) {
        let beginnings: Vec<i64> = self
            .boots
            .iter()
            .filter_map(|boot| self.epochs.get(boot.epochs.start))
            .map(|epoch| epoch.offset_ns)
            .collect();
        for (index, boot) in self.boots.iter_mut().enumerate() {
            let newest = boot.epochs.end.checked_sub(1).and_then(|newest| self.epochs.get(newest));
            let Some(epoch) = newest.filter(|_| boot.ties.is_empty()) else { continue };
            let begins_alike = |(other, beginning): (usize, &i64)| {
                other != index
                    && beginning.abs_diff(epoch.offset_ns) <= SAME_BEGINNING_NS.unsigned_abs()
            };
            let restarted =
                boot.epochs.len() == 1 && beginnings.iter().enumerate().any(begins_alike);
            let (first, last) = (epoch.first.as_nanos(), epoch.last.as_nanos());
            let error_ns = nanos(PRESUMED_ERROR);
            let plausible = epoch.offset_ns.saturating_add(first) >= earliest
                && epoch.offset_ns.saturating_add(last).saturating_add(error_ns) >= boot.floor;
            if plausible && !restarted {
                boot.ties.push(Tie { first, last, offset_ns: epoch.offset_ns, error_ns });
            }
        }
    }

    fn boot_of(&self, epoch: usize) -> Option<&Boot> {
        self.boots.get(self.boots.partition_point(|boot| boot.epochs.end <= epoch))
    }

    pub(super) fn index_of(&self, epoch: EpochId) -> Option<usize> {
        self.epochs.binary_search_by_key(&epoch, |epoch| epoch.id).ok()
    }

    /// Nothing that is still to come makes this placement a better one, by much.
    pub fn is_settled(&self, placement: &Placement) -> bool {
        let running = self.boots.last().map_or(0, |boot| boot.epochs.start);
        let epoch = placement.epoch.and_then(|epoch| self.index_of(epoch));
        placement.uncertainty < PRESUMED_ERROR && epoch.is_some_and(|epoch| epoch < running)
    }

    /// Where in UTC an instant of the boot of an epoch lies.
    pub(super) fn utc(&self, epoch: usize, boottime: Bounds) -> Bounds {
        let Some(boot) = self.boot_of(epoch) else { return Bounds::ALL };
        let known = boot.utc(boottime.best).and_then(|best| {
            let earliest = boot.utc(boottime.earliest)?.earliest;
            let latest = boot.utc(boottime.latest)?.latest;
            Some(Bounds { earliest, latest, ..best })
        });
        // No boot lasts so long, and no card: an end that nobody knows is put there.
        let ceiling = match boot.floor {
            i64::MIN => boot.ceiling,
            floor => boot.ceiling.min(floor.saturating_add(LONGEST_LIFE_NS)),
        };
        let room = Bounds { earliest: boot.floor, best: boot.floor, latest: ceiling };
        known.unwrap_or(room)
    }

    pub(super) fn utc_of(&self, moment: Moment) -> Bounds {
        let at = moment.boottime.as_nanos();
        let at = Bounds { earliest: at, best: at, latest: at };
        self.index_of(moment.epoch).map_or(Bounds::ALL, |epoch| self.utc(epoch, at))
    }

    /// Every epoch: from the last reading of the one before to the first of the one behind, in the same boot.
    fn seen(&self) -> impl Iterator<Item = Stretch> + '_ {
        let reading = |index: Option<usize>, boot: &Boot| {
            index.filter(|index| boot.epochs.contains(index)).and_then(|at| self.epochs.get(at))
        };
        self.epochs.iter().enumerate().filter_map(move |(index, epoch)| {
            let boot = self.boot_of(index)?;
            let before = reading(index.checked_sub(1), boot).map_or(0, |one| one.last.as_nanos());
            let behind = reading(index.checked_add(1), boot);
            let behind = behind.map_or_else(|| self.end(boot), |one| one.first.as_nanos());
            let reach = Bounds::between(before, behind)?;
            Some(Stretch { epoch: index, offset: Bounds::around(epoch.offset_ns, STEP), reach })
        })
    }

    /// Before its first reading, a boot may have had the same wrong clock as other boots were seen to begin
    /// with: one that starts at the same time with each of them, an RTC that is as wrong in all of them, or
    /// what was saved when the boot before ended.
    fn unseen(&self) -> impl Iterator<Item = Stretch> + '_ {
        let firsts = || self.boots.iter().map(|boot| boot.epochs.start);
        let wrong: Vec<WrongClock> = firsts().filter_map(|first| self.wrong_by(first)).collect();
        firsts().flat_map(move |index| {
            let reach =
                self.epochs.get(index).and_then(|one| Bounds::between(0, one.first.as_nanos()));
            let own = self.epochs.get(index).map_or(0, |one| one.offset_ns);
            let alike = |wrong: &WrongClock| {
                wrong.offset.best.abs_diff(own) <= SAME_BEGINNING_NS.unsigned_abs()
            };
            // Where the boot itself was seen to have begun so, its first epoch says it better.
            let others = wrong.iter().filter(|wrong| wrong.epoch != index && !alike(wrong));
            let same = others.clone().map(|wrong| wrong.offset.widened(SAME_BEGINNING_NS));
            let utc = self.utc(index, Bounds::ZERO);
            let as_wrong = others.filter_map(|wrong| Some(utc.shifted(wrong.by_ns?)));
            let as_wrong =
                as_wrong.filter(|_| utc.is_known()).map(|one| one.widened(SAME_ERROR_NS));
            let saved = self.end_of_clock_before(index);
            let offsets: Vec<Bounds> = same.chain(as_wrong).chain(saved).collect();
            offsets
                .into_iter()
                .filter_map(move |offset| Some(Stretch { epoch: index, offset, reach: reach? }))
        })
    }

    /// What the wall clock showed when the boot before that of an epoch ended.
    fn end_of_clock_before(&self, epoch: usize) -> Option<Bounds> {
        let before = epoch.checked_sub(1)?;
        let (boot, last) = (self.boot_of(before)?, self.epochs.get(before)?);
        Some(Bounds::between(last.last.as_nanos(), self.end(boot))?.shifted(last.offset_ns))
    }

    /// `None`: the clock of the epoch is known to be about right.
    fn wrong_by(&self, epoch: usize) -> Option<WrongClock> {
        let Epoch { first, offset_ns, .. } = *self.epochs.get(epoch)?;
        let at = first.as_nanos();
        let utc = self.utc(epoch, Bounds { earliest: at, best: at, latest: at });
        let by_ns = utc.is_known().then(|| at.saturating_add(offset_ns).saturating_sub(utc.best));
        let right = by_ns.is_some_and(|by| by.saturating_abs() <= nanos(MAX_UNCERTAINTY));
        let offset = Bounds::around(offset_ns, Duration::ZERO);
        (!right).then_some(WrongClock { epoch, offset, by_ns })
    }

    /// The `BOOTTIME` at which a boot must have ended at the latest.
    fn end(&self, boot: &Boot) -> i64 {
        let last = boot.epochs.end.checked_sub(1).and_then(|last| self.epochs.get(last));
        let last = last.map_or(i64::MAX, |epoch| epoch.last.as_nanos());
        let Some(known) = boot.utc(last).filter(|_| boot.ceiling < i64::MAX) else {
            return i64::MAX;
        };
        let left_ns = boot.ceiling.saturating_sub(known.earliest).max(0);
        last.saturating_add(left_ns).saturating_add(left_ns / 1_000)
    }

    /// Places in UTC what was attributed to an epoch.
    pub fn place(&self, attribution: &Attribution) -> Placement {
        let Attribution { epoch, start, uncertainty, source } = *attribution;
        let Some(id) = epoch else { return Placement { start, uncertainty, source, epoch } };
        let utc = self.index_of(id).zip(self.epoch(id)).map(|(index, epoch)| {
            let boottime = start.as_nanos().saturating_sub(epoch.offset_ns);
            self.utc(index, Bounds::around(boottime, uncertainty))
        });
        let (start, uncertainty) = utc.unwrap_or(Bounds::ALL).value_within(MAX_UNCERTAINTY);
        Placement { start: Timestamp::from_nanos(start), uncertainty, source, epoch }
    }

    /// The instant at which the clock of an epoch showed this.
    pub fn moment(&self, id: EpochId, shown: Timestamp) -> Option<Moment> {
        let boottime = shown.as_nanos().saturating_sub(self.epoch(id)?.offset_ns);
        Some(Moment { epoch: id, boottime: Boottime::from_nanos(boottime) })
    }

    fn epoch(&self, id: EpochId) -> Option<&Epoch> {
        self.epochs.get(self.index_of(id)?)
    }
}

impl Boot {
    fn utc(&self, boottime: i64) -> Option<Bounds> {
        let nearest = self.ties.iter().min_by_key(|tie| tie.distance(boottime))?;
        let all = || self.ties.iter().map(|tie| tie.utc(boottime));
        let agreed = all().try_fold(nearest.utc(boottime), Bounds::intersection);
        agreed.or_else(|| all().reduce(Bounds::hull))
    }
}
