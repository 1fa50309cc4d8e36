//! The clock journal: which epochs the clock of a device has had, and when it was known to be right.
//!
//! It takes readings, as often as the clocks are read, and hands out the epochs that are worth keeping over a
//! restart: at a boot, at a step, when synchronisation is gained or lost, and every [`SAVE_EVERY`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bounds::nanos;
use super::{Boottime, ClockReading, EpochId, Moment, STEP, drift};
use crate::identity::BootId;
use crate::time::Timestamp;

/// Epochs that are kept; see [`ClockJournal::oldest_beyond_limit`].
pub const MAX_EPOCHS: usize = 128;
/// Synchronised stretches of one epoch; more are joined where they lie closest.
pub const MAX_ANCHORS: usize = 8;
/// What a power cut loses of an epoch's end. About 70 bytes each time: 2 KB a day.
pub const SAVE_EVERY: Duration = Duration::from_secs(3_600);

/// Which clocks are believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClockTrust {
    /// Those of which a time service says that they are synchronised.
    Synchronised,
    /// Failing that, those that read `earliest` or later, to within [`super::PRESUMED_ERROR`].
    Plausible { earliest: Timestamp },
}

/// Who says what time it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Voucher {
    /// It has set the clock.
    TimeService,
    /// It was asked over the link, and has set nothing.
    Server,
}

/// A stretch of `BOOTTIME` in which it was known how far the clock was from UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Anchor {
    pub first: Boottime,
    pub last: Boottime,
    pub by: Voucher,
    /// What the clock lacked to UTC; 0 where a time service has set it.
    pub behind_ns: i64,
    /// How far that was from the truth at most.
    pub error_ns: i64,
}

/// What a server's word may be wrong by, for one stretch to hold several of them: a second or so of error in
/// a day would need a stretch of its own every few minutes else.
const TOLD_WITHIN: Duration = Duration::from_millis(250);
/// Worse than this, a word is not worth having.
const TOLD_AT_WORST: Duration = Duration::from_secs(5);
/// A word that is worse than the last one is taken once that one is so old.
const TOLD_HOLDS: Duration = Duration::from_secs(600);

/// See [`EpochId`]. `Serialize` is how it is kept over a restart.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Epoch {
    pub id: EpochId,
    pub boot: BootId,
    /// `REALTIME - BOOTTIME`, the same throughout.
    pub offset_ns: i64,
    /// The first and the last reading: it began before and ended behind them.
    pub first: Boottime,
    pub last: Boottime,
    pub anchors: Vec<Anchor>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClockJournal {
    trust: ClockTrust,
    /// In the order of time: by id; those of one boot together.
    epochs: Vec<Epoch>,
    /// The last reading was synchronised, and belongs to the last anchor of the last epoch.
    synchronised: bool,
    /// Epochs from this id on are not kept as they are.
    unsaved_from: Option<EpochId>,
    save_due: bool,
    saved_at: Boottime,
    version: u64,
}

impl ClockJournal {
    pub fn new(trust: ClockTrust) -> Self {
        ClockJournal {
            trust,
            epochs: Vec::new(),
            synchronised: false,
            unsaved_from: None,
            save_due: false,
            saved_at: Boottime(0),
            version: 0,
        }
    }

    pub fn trust(&self) -> ClockTrust {
        self.trust
    }

    pub fn epochs(&self) -> &[Epoch] {
        &self.epochs
    }

    /// The last reading.
    pub fn now(&self) -> Option<Moment> {
        self.epochs.last().map(|epoch| Moment { epoch: epoch.id, boottime: epoch.last })
    }

    /// Another number tells that segments may have to be placed anew.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Takes readings of one boot in their order, and of one boot after the other.
    pub fn observe(&mut self, reading: ClockReading) -> Moment {
        let ClockReading { boot, boottime, realtime, synchronised } = reading;
        let offset_ns = realtime.as_nanos().saturating_sub(boottime.0);
        let goes_on = self.epochs.last().is_some_and(|epoch| {
            epoch.boot == boot
                && epoch.last <= boottime
                && epoch.offset_ns.abs_diff(offset_ns) <= nanos(STEP).unsigned_abs()
        });
        if !goes_on {
            self.begin(boot, offset_ns, boottime);
        }
        let was_synchronised = std::mem::replace(&mut self.synchronised, synchronised.is_some());
        let news = was_synchronised != self.synchronised;
        let Some(epoch) = self.epochs.last_mut() else {
            return Moment { epoch: EpochId::FORGOTTEN, boottime };
        };
        epoch.last = boottime;
        if let Some(error) = synchronised {
            epoch.anchor(boottime, nanos(error), was_synchronised);
        }
        let moment = Moment { epoch: epoch.id, boottime };
        self.unsaved_from.get_or_insert(epoch.id);
        if news {
            self.changed();
        }
        self.save_due |= boottime.0.saturating_sub(self.saved_at.0) >= nanos(SAVE_EVERY);
        moment
    }

    /// Takes the word of a server about an instant of the running boot, which has been read. Counts in boots
    /// of which no time service has set the clock.
    pub fn told(&mut self, at: Boottime, utc: Timestamp, error: Duration) {
        if self.synchronised || error > TOLD_AT_WORST {
            return;
        }
        let Some(epoch) = self.epochs.last_mut() else { return };
        if epoch.told(at, utc, nanos(error)) {
            self.unsaved_from = Some(self.unsaved_from.map_or(epoch.id, |from| from.min(epoch.id)));
            self.changed();
        }
    }

    fn begin(&mut self, boot: BootId, offset_ns: i64, first: Boottime) {
        let id = self.next_id();
        self.epochs.push(Epoch { id, boot, offset_ns, first, last: first, anchors: Vec::new() });
        self.synchronised = false;
        self.changed();
    }

    fn next_id(&self) -> EpochId {
        let last = self.epochs.last().map_or(EpochId::FORGOTTEN, |last| last.id);
        EpochId(last.0.saturating_add(1))
    }

    fn changed(&mut self) {
        self.version += 1;
        self.save_due = true;
    }

    // Over a restart.

    /// Epochs that are to be kept, replacing what was kept under their ids; none while that can wait.
    pub fn take_unsaved(&mut self) -> &[Epoch] {
        let unsaved = self.unsaved_from.filter(|_| self.save_due);
        let Some(from) = unsaved else { return &[] };
        self.unsaved_from = None;
        self.save_due = false;
        self.saved_at = self.epochs.last().map_or(Boottime(0), |epoch| epoch.last);
        self.epochs_from(from)
    }

    /// What was taken could not be kept.
    pub fn save_again(&mut self) {
        self.unsaved_from = self.epochs.first().map(|epoch| epoch.id);
        self.save_due = true;
    }

    fn epochs_from(&self, id: EpochId) -> &[Epoch] {
        let index = self.epochs.partition_point(|epoch| epoch.id < id);
        self.epochs.get(index..).unwrap_or_default()
    }

    /// Takes over what was kept, in any order; the later of two with the same id holds.
    pub fn restore(&mut self, epoch: Epoch) {
        match self.epochs.binary_search_by_key(&epoch.id, |known| known.id) {
            Ok(index) => {
                if let Some(known) = self.epochs.get_mut(index) {
                    *known = epoch;
                }
            }
            Err(index) => self.epochs.insert(index, epoch),
        }
        self.synchronised = false;
        self.version += 1;
    }

    /// Goes on from what another card's journal kept: takes over the epochs of the running boot, which are
    /// the last ones of `other`.
    pub fn go_on_from(&mut self, other: &ClockJournal) {
        let Some(running) = other.epochs.last().map(|epoch| epoch.boot) else { return };
        for epoch in other.epochs.iter().filter(|epoch| epoch.boot == running) {
            let same = self.epochs.iter_mut().find(|known| known.is_the_same_as(epoch));
            let id = match same {
                Some(known) => {
                    *known = Epoch { id: known.id, ..epoch.clone() };
                    known.id
                }
                None => {
                    let id = self.next_id();
                    self.epochs.push(Epoch { id, ..epoch.clone() });
                    id
                }
            };
            self.unsaved_from = Some(self.unsaved_from.map_or(id, |from| from.min(id)));
        }
        self.synchronised = other.synchronised;
        self.changed();
    }

    /// The epoch to drop, where there are too many: place what is attributed to it for good, and call
    /// [`ClockJournal::forget`].
    pub fn oldest_beyond_limit(&self) -> Option<EpochId> {
        self.epochs.first().filter(|_| self.epochs.len() > MAX_EPOCHS).map(|epoch| epoch.id)
    }

    pub fn forget(&mut self, epoch: EpochId) {
        self.epochs.retain(|known| known.id != epoch);
        self.version += 1;
    }
}

impl Anchor {
    /// Both stretches and what lies between them, in which the clock may have drifted so far.
    fn joined_with(&self, behind: &Anchor, drift_ns: i64) -> Anchor {
        let least = |one: &Anchor| one.behind_ns.saturating_sub(one.error_ns);
        let most = |one: &Anchor| one.behind_ns.saturating_add(one.error_ns);
        let (least, most) = (least(self).min(least(behind)), most(self).max(most(behind)));
        let half_ns = most.saturating_sub(least) / 2;
        Anchor {
            first: self.first,
            last: behind.last,
            by: self.by,
            behind_ns: least.saturating_add(half_ns),
            error_ns: half_ns.saturating_add(1).saturating_add(drift_ns),
        }
    }
}

impl Epoch {
    /// A synchronised reading; `goes_on` where the reading before was one too.
    fn anchor(&mut self, at: Boottime, error_ns: i64, goes_on: bool) {
        match self.anchors.last_mut().filter(|_| goes_on) {
            Some(anchor) => {
                anchor.last = at;
                anchor.error_ns = anchor.error_ns.max(error_ns);
            }
            None => {
                let by = Voucher::TimeService;
                self.push(Anchor { first: at, last: at, by, behind_ns: 0, error_ns });
            }
        }
    }

    /// The word of a server; true where it is news.
    fn told(&mut self, at: Boottime, utc: Timestamp, error_ns: i64) -> bool {
        let shown = at.0.saturating_add(self.offset_ns);
        let behind_ns = utc.as_nanos().saturating_sub(shown);
        let told = Anchor { first: at, last: at, by: Voucher::Server, behind_ns, error_ns };
        let Some(last) = self.anchors.last_mut().filter(|last| last.by == Voucher::Server) else {
            self.push(told);
            return true;
        };
        let since_ns = at.0.saturating_sub(last.last.0);
        let bearable_ns = last.error_ns.max(nanos(TOLD_WITHIN));
        if since_ns < 0 || error_ns > bearable_ns && since_ns < nanos(TOLD_HOLDS) {
            return false;
        }
        if last.first == last.last && error_ns < last.error_ns / 2 {
            *last = told;
            return true;
        }
        let apart_ns = last.behind_ns.saturating_sub(behind_ns).saturating_abs();
        let held_ns = apart_ns.saturating_add(error_ns).saturating_add(drift(since_ns / 2));
        if held_ns > bearable_ns {
            self.push(told);
            return true;
        }
        last.last = at;
        last.error_ns = last.error_ns.max(held_ns);
        false
    }

    fn push(&mut self, anchor: Anchor) {
        self.anchors.push(anchor);
        if self.anchors.len() <= MAX_ANCHORS {
            return;
        }
        let by_server = |anchor: &Anchor| anchor.by == Voucher::Server;
        match self.anchors.iter().position(by_server) {
            // They count for nothing any more.
            Some(index) if !self.anchors.iter().all(by_server) => drop(self.anchors.remove(index)),
            _ => self.join_closest_anchors(),
        }
    }

    /// Between the two, the clock was nobody's: it may have drifted away from both.
    fn join_closest_anchors(&mut self) {
        let gap = |pair: &[Anchor]| match pair {
            [before, behind] => behind.first.0.saturating_sub(before.last.0),
            _ => i64::MAX,
        };
        let pairs = self.anchors.windows(2).enumerate();
        let Some((index, gap_ns)) =
            pairs.map(|(index, pair)| (index, gap(pair))).min_by_key(|(_, gap_ns)| *gap_ns)
        else {
            return;
        };
        let behind = self.anchors.remove(index + 1);
        if let Some(joined) = self.anchors.get_mut(index) {
            *joined = joined.joined_with(&behind, drift(gap_ns / 2));
        }
    }

    fn is_the_same_as(&self, other: &Epoch) -> bool {
        self.boot == other.boot
            && self.offset_ns.abs_diff(other.offset_ns) <= nanos(STEP).unsigned_abs()
            && self.first <= other.last
            && other.first <= self.last
    }
}
