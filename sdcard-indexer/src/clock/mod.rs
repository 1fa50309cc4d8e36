//! When a segment was truly recorded, where the clock that named it may have been wrong.
//!
//! Pure: it is told what clocks read and what is known of a segment, and asks for no time itself.
//!
//! **The model.** Within one boot `CLOCK_BOOTTIME` never steps. Linux slews it together with
//! `CLOCK_REALTIME`, so that the difference of the two changes by steps alone: a stretch between two steps
//! is an *epoch*, and a reading of its clock is an instant of that boot. Each instant at which the clock was
//! known to be synchronised ties the whole boot to UTC, what was recorded before it included; and so does, where
//! there is none, each instant of which a server has told the time over the link. How far an
//! instant may truly lie from there grows with its distance to the nearest synchronised reading, by
//! [`OSCILLATOR_PPM`] and what a time service may slew besides.
//!
//! **In two steps.** [`Corrections::attribute`] finds the epoch in which a segment was recorded, from what its
//! bytes, its closing, its name and its time of change tell; that stays true. [`Corrections::place`] turns it
//! into UTC by what the [`ClockJournal`] knows of that boot, and may do so better later.
//!
//! **What is assumed.** Recorder and agent run on the same kernel. An oscillator is right to
//! [`OSCILLATOR_PPM`]. Media time runs as the device's clock does. Each boot that records is read at least once
//! by the agent; while nobody reads it, a clock steps at most once, in a boot's beginning by more than that
//! takes, and not before the power is cut. A clock that begins wrong begins alike in all boots: at the same
//! time, as far off, or where it stopped. A file's time of change may be that of a copy: it never overrules a
//! name.
//!
//! Where these do not single out a time, the placement's uncertainty covers every time that is possible. One
//! that is not [`Placement::is_known`] must not be told as held: neither there, nor as missing elsewhere.

mod attribute;
mod bounds;
mod correct;
mod journal;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::identity::BootId;
use crate::layout::NamedTime;
use crate::time::Timestamp;

pub use attribute::{Claim, InBand, Modified, NameZone, Named};
pub use correct::Corrections;
pub use journal::{
    Anchor, ClockJournal, ClockTrust, Epoch, MAX_ANCHORS, MAX_EPOCHS, SAVE_EVERY, Voucher,
};

/// How far a crystal that nobody corrects may run off: an AT-cut one from -40 to 85 °C, and its ageing.
pub const OSCILLATOR_PPM: i64 = 100;
/// The fastest that Linux slews a clock for a time service, besides.
pub const SLEW_PPM: i64 = 500;
/// Offsets larger than this are stepped by time services (ntpd: 128 ms, systemd-timesyncd: 400 ms).
pub const LARGEST_SLEW: Duration = Duration::from_millis(500);
/// A change of `REALTIME - BOOTTIME` beyond this is a step; the rest is what reading the two apart costs.
pub const STEP: Duration = Duration::from_millis(10);
/// From a segment's last frame until the recorder has closed its file.
pub const CLOSE_LAG: Duration = Duration::from_secs(5);
/// From a segment's first frame until its file is there: recorders keep the seconds before an event in memory.
pub const CREATE_LAG: Duration = Duration::from_secs(30);
/// From a segment's last frame until its file was last changed: a torn one ends before what was written last.
pub const WRITE_LAG: Duration = Duration::from_secs(60);
/// From a frame's capture to the time that the encoder gives it.
pub const IN_BAND_ERROR: Duration = Duration::from_millis(100);
/// What a clock that reads plausibly is taken to be wrong by at most, where nothing says that it is
/// synchronised: what an RTC loses in two weeks or more.
pub const PRESUMED_ERROR: Duration = Duration::from_secs(30);
/// What is known no better than this is not known: shown somewhere, it would be held where it is not.
pub const MAX_UNCERTAINTY: Duration = Duration::from_secs(60);

/// Nanoseconds of `CLOCK_BOOTTIME`: since the boot, never stepping, suspended time included.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Boottime(i64);

impl Boottime {
    pub const fn from_nanos(nanos: i64) -> Self {
        Boottime(nanos)
    }

    pub const fn as_nanos(self) -> i64 {
        self.0
    }
}

/// Both clocks of a device, read together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockReading {
    pub boot: BootId,
    pub boottime: Boottime,
    pub realtime: Timestamp,
    /// How far `realtime` is from UTC at most, where a time service vouches for it.
    pub synchronised: Option<Duration>,
}

/// A stretch of one boot between two steps of its clock; numbered from 1 in the order of time.
/// At four a day the numbers last for 45 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EpochId(pub u16);

impl EpochId {
    /// Of what was placed for good before its epoch was forgotten. No epoch has this number.
    pub const FORGOTTEN: EpochId = EpochId(0);
}

/// An instant by clocks that never step: moments are in the order of time, whatever wall clocks said.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Moment {
    pub epoch: EpochId,
    pub boottime: Boottime,
}

/// Where a time comes from, the best source first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum TimeSource {
    /// The recording itself.
    InBand,
    /// The agent's clocks when the file was closed, less the media's duration.
    Close,
    Name,
    /// The file's time of change, less the media's duration.
    Modified,
    /// What was there before it was, and what was there already when it was first seen.
    Neighbours,
}

/// The epoch of a segment and its start in that epoch's clock; stays true whatever becomes known of the clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attribution {
    /// `None`: `start` is in UTC.
    pub epoch: Option<EpochId>,
    pub start: Timestamp,
    /// The true start lies at most this far before or behind `start`.
    pub uncertainty: Duration,
    pub source: TimeSource,
}

/// Where a segment lies in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Placement {
    pub start: Timestamp,
    /// The true start lies at most this far before or behind `start`, and the true end as far from its place.
    pub uncertainty: Duration,
    pub source: TimeSource,
    pub epoch: Option<EpochId>,
}

impl Placement {
    /// The name is believed.
    pub fn of_name(named: &NamedTime) -> Self {
        let NamedTime { start, uncertainty, .. } = *named;
        Placement { start, uncertainty, source: TimeSource::Name, epoch: None }
    }

    /// False: the segment may be anywhere from [`Placement::earliest`] on.
    pub fn is_known(&self) -> bool {
        self.uncertainty <= MAX_UNCERTAINTY
    }

    pub fn earliest(&self) -> Timestamp {
        self.start.saturating_sub(self.uncertainty)
    }
}

/// How far a clock may run off in so many nanoseconds without being stepped.
pub(crate) fn drift(elapsed_ns: i64) -> i64 {
    let parts = |ppm: i64| elapsed_ns.saturating_abs() / 1_000 * ppm / 1_000;
    parts(OSCILLATOR_PPM) + parts(SLEW_PPM).min(LARGEST_SLEW.as_nanos() as i64)
}
