//! A device whose true history is known: boots, clocks that are wrong and are set, segments, and an agent
//! that watches some of the time. Nothing here knows how segments are placed.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use sdcard_indexer::clock::{Boottime, ClockReading, NameZone, Named};
use sdcard_indexer::identity::BootId;
use sdcard_indexer::time::Timestamp;
use std::time::Duration;

pub const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3_600 * SECOND;
const QUARTER: i64 = 900 * SECOND;

/// What the clock shows when a boot begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// A clock that runs on, off by so much.
    Rtc(i64),
    /// Always the same: 1970, 2000, or the day the firmware was built.
    Fixed(i64),
    /// What it showed when the boot before ended.
    Saved,
}

#[derive(Clone, Debug)]
pub struct Boot {
    pub id: BootId,
    pub length: i64,
    /// From this `BOOTTIME` on: UTC, and how much faster UTC runs, in ppm.
    truth: Vec<(i64, i64, i64)>,
    /// From this `BOOTTIME` on: `REALTIME - BOOTTIME`.
    offsets: Vec<(i64, i64)>,
    /// `BOOTTIME` from and to, and the error that is vouched for.
    synchronised: Vec<(i64, i64, i64)>,
    /// When an agent runs.
    pub watched: Vec<(i64, i64)>,
    pub segments: Vec<Segment>,
}

#[derive(Clone, Debug)]
pub struct Segment {
    pub boot: usize,
    /// First and last frame, in `BOOTTIME`.
    pub begins: i64,
    pub ends: i64,
    /// When its file is there, and when it is closed; `None` where the power was cut.
    pub created: i64,
    pub closed: Option<i64>,
    /// What the directory says.
    pub modified: Timestamp,
    pub named: Named,
    pub in_band: Option<Timestamp>,
}

/// What all boots of a history have in common.
#[derive(Clone, Debug)]
pub struct Device {
    pub beginning: Beginning,
    pub zone: Zone,
    pub name_step: i64,
    pub fat: bool,
    /// Quarters of an hour that a FAT's times are ahead.
    pub fat_ahead: i32,
    pub in_band: bool,
    pub manual_steps: bool,
}

#[derive(Clone, Debug)]
pub enum Zone {
    Known(TimeZone),
    /// So many quarters of an hour ahead, and nobody knows.
    Unknown(i32),
}

#[derive(Debug)]
pub struct World {
    pub device: Device,
    pub boots: Vec<Boot>,
    pub random: StdRng,
}

impl Boot {
    pub fn utc(&self, boottime: i64) -> i64 {
        let (from, utc, ppm) =
            *self.truth.iter().rev().find(|(from, ..)| *from <= boottime).unwrap_or(&self.truth[0]);
        utc + (boottime - from) + ((boottime - from) as i128 * ppm as i128 / 1_000_000) as i64
    }

    fn offset(&self, boottime: i64) -> i64 {
        self.offsets.iter().rev().find(|(from, _)| *from <= boottime).unwrap_or(&self.offsets[0]).1
    }

    pub fn realtime(&self, boottime: i64) -> i64 {
        boottime + self.offset(boottime)
    }

    pub fn reading(&self, boottime: i64) -> ClockReading {
        let synchronised =
            self.synchronised.iter().find(|(from, to, _)| (*from..*to).contains(&boottime));
        ClockReading {
            boot: self.id,
            boottime: Boottime::from_nanos(boottime),
            realtime: Timestamp::from_nanos(self.realtime(boottime)),
            synchronised: synchronised.map(|(.., error)| Duration::from_nanos(*error as u64)),
        }
    }

    pub fn was_ever_synchronised_while_watched(&self) -> bool {
        self.synchronised.iter().any(|(from, to, _)| {
            self.watched.iter().any(|(begun, over)| begun.max(from) + 400 * SECOND < *over.min(to))
        })
    }

    /// Steps and changes of synchronisation.
    pub fn events(&self) -> impl Iterator<Item = i64> + '_ {
        let synchronised = self.synchronised.iter().flat_map(|(from, to, _)| [*from, *to]);
        self.offsets.iter().map(|(from, _)| *from).chain(synchronised)
    }

    /// The stretch in which nobody watches that an instant lies in.
    fn unwatched(&self, at: i64) -> Option<(i64, i64)> {
        let mut from = 0;
        for (begun, over) in &self.watched {
            if at < *begun {
                return Some((from, *begun));
            }
            if at <= *over {
                return None;
            }
            from = *over;
        }
        Some((from, self.length))
    }

    /// Whether a step by so much, there, is one that the model allows.
    fn may_step(&self, at: i64, by: i64) -> bool {
        let Some((from, to)) = self.unwatched(at) else { return true };
        let stepped = self.offsets.iter().any(|(then, _)| from < *then && *then <= to);
        to < self.length && !stepped && (from > 0 || by.abs() > to)
    }

    fn drift_on(&mut self, from: i64, ppm: i64) {
        let utc = self.utc(from);
        self.truth.push((from, utc, ppm));
    }
}

impl World {
    /// `honest`: clocks begin about right and nobody sets them wrong.
    pub fn new(seed: u64, honest: bool) -> World {
        let mut random = StdRng::seed_from_u64(seed);
        let device = Device::draw(&mut random, honest);
        let mut world = World { device, boots: Vec::new(), random };
        // Around the ends and beginnings of daylight saving time, on both halves of the Earth.
        let starts = ["2026-10-24T20:00:00Z", "2026-03-28T22:00:00Z", "2026-11-01T02:00:00Z"];
        let start: Timestamp = starts[world.random.random_range(0..3)].parse().unwrap();
        let mut utc = start.as_nanos() + world.random.random_range(0..6 * HOUR);
        for _ in 0..world.random.random_range(1..5) {
            utc = world.boot(utc);
            let longest = if world.random.random_bool(0.7) { HOUR } else { 72 * HOUR };
            utc += world.random.random_range(20 * SECOND..longest);
        }
        world
    }

    /// Adds a boot that begins at this time, and tells when it ends.
    fn boot(&mut self, utc: i64) -> i64 {
        let before =
            self.boots.last().map(|boot| (boot.utc(boot.length), boot.realtime(boot.length)));
        let random = &mut self.random;
        let shown = match self.device.beginning {
            Beginning::Rtc(error) => {
                utc + error + before.map_or(0, |_| random.random_range(-20 * SECOND..20 * SECOND))
            }
            Beginning::Fixed(beginning) => beginning + random.random_range(0..2 * SECOND),
            Beginning::Saved => before.map_or(946_684_800 * SECOND, |(_, realtime)| realtime),
        };
        let length = random.random_range(300 * SECOND..6 * HOUR);
        let ppm = random.random_range(-90..=90);
        let mut boot = Boot {
            id: BootId([self.boots.len() as u8; 16]),
            length,
            truth: vec![(0, utc, ppm)],
            offsets: vec![(0, shown)],
            synchronised: Vec::new(),
            watched: watches(random, length),
            segments: Vec::new(),
        };
        let mut at = random.random_range(5 * SECOND..length);
        while at < length {
            let stays = random.random_range(30 * SECOND..2 * HOUR).min(length - at);
            if self.device.manual_steps && random.random_bool(0.3) {
                let by = a_step(random);
                if boot.may_step(at, by) {
                    let offset = boot.offset(at) + by;
                    boot.offsets.push((at, offset));
                }
            } else if random.random_bool(0.7) {
                synchronise(&mut boot, random, at, at + stays, ppm);
            }
            at += stays + random.random_range(10 * SECOND..HOUR);
        }
        let end = boot.utc(length);
        self.record(&mut boot);
        self.boots.push(boot);
        end
    }

    fn record(&mut self, boot: &mut Boot) {
        let (device, random) = (&self.device, &mut self.random);
        let usual = random.random_range(20 * SECOND..900 * SECOND);
        let mut at = random.random_range(2 * SECOND..40 * SECOND);
        while at < boot.length - 3 * SECOND {
            let held = random.random_range(0..2 * SECOND);
            let lag = random.random_range(0..3 * SECOND);
            let cut = at + usual + lag >= boot.length;
            let (ends, closed) = match cut {
                true => ((boot.length - random.random_range(0..3 * SECOND)).max(at + 1), None),
                false => (at + usual, Some(at + usual + lag)),
            };
            let changed = closed.unwrap_or(boot.length - 1);
            let reading = boot.realtime(at);
            boot.segments.push(Segment {
                boot: self.boots.len(),
                begins: at,
                ends,
                created: at + held,
                closed,
                modified: device.modified(boot.realtime(changed)),
                named: device.named(reading),
                in_band: device.in_band.then(|| {
                    Timestamp::from_nanos(reading + random.random_range(-SECOND / 20..SECOND / 20))
                }),
            });
            let pause = random.random_bool(0.1);
            at = ends + if pause { random.random_range(0..2 * HOUR) } else { 0 };
        }
    }
}

/// A time service finds the clock wrong, steps or slews it, and keeps it right until `to`.
fn synchronise(boot: &mut Boot, random: &mut StdRng, at: i64, to: i64, ppm: i64) {
    let error = random.random_range(-SECOND / 25..SECOND / 25);
    let off = boot.realtime(at) - boot.utc(at);
    if off.abs() > 400_000_000 {
        if !boot.may_step(at, off) {
            return;
        }
        let offset = boot.offset(at) - off + error;
        boot.offsets.push((at, offset));
        boot.drift_on(at, 0);
        boot.synchronised.push((at + random.random_range(0..3 * SECOND), to, SECOND / 10));
    } else {
        // Where the clock is ahead, BOOTTIME is slowed down with it: UTC runs faster.
        boot.drift_on(at, 500 * off.signum());
        let slewed = (at + off.abs() / 500 * 1_000_000).min(to);
        boot.drift_on(slewed, 0);
        boot.synchronised.push((at, to, SECOND / 2));
    }
    boot.drift_on(to, ppm);
}

fn a_step(random: &mut StdRng) -> i64 {
    let most = [10 * SECOND, HOUR, 1_000 * HOUR][random.random_range(0..3)];
    let by = match random.random_range(0..4) {
        0 => HOUR,
        _ => random.random_range(SECOND..most),
    };
    if random.random_bool(0.5) { by } else { -by }
}

fn watches(random: &mut StdRng, length: i64) -> Vec<(i64, i64)> {
    let begins = random.random_range(0..20 * SECOND);
    match random.random_range(0..6) {
        0..3 => vec![(begins, length)],
        3 => vec![(random.random_range(0..length), length)],
        4 => vec![(begins, random.random_range(begins + 1..length))],
        _ => {
            let over = random.random_range(begins + 1..length - 2);
            vec![(begins, over), (random.random_range(over + 1..length - 1), length)]
        }
    }
}

impl Device {
    fn draw(random: &mut StdRng, honest: bool) -> Device {
        let beginning = match random.random_range(0..5) {
            _ if honest => Beginning::Rtc(random.random_range(-5 * SECOND..5 * SECOND)),
            0 => Beginning::Rtc(random.random_range(-HOUR..HOUR)),
            1 => Beginning::Fixed(0),
            2 => Beginning::Fixed(946_684_800 * SECOND),
            3 => Beginning::Fixed(1_767_225_600 * SECOND),
            _ => Beginning::Saved,
        };
        let zones = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"];
        let zone = match random.random_range(0..5) {
            0 => Zone::Unknown(random.random_range(-48..=56)),
            n => Zone::Known(TimeZone::get(zones[n - 1]).unwrap()),
        };
        let fat = random.random_bool(0.4);
        Device {
            beginning,
            zone,
            name_step: if random.random_bool(0.7) { SECOND } else { 1_000 },
            fat,
            fat_ahead: if fat && random.random_bool(0.5) {
                random.random_range(-48..=56)
            } else {
                0
            },
            in_band: random.random_bool(0.2),
            manual_steps: !honest && random.random_bool(0.5),
        }
    }

    fn modified(&self, realtime: i64) -> Timestamp {
        let step = self.modified_step();
        let local = realtime + i64::from(self.fat_ahead) * QUARTER;
        Timestamp::from_nanos(local.div_euclid(step) * step)
    }

    pub fn modified_step(&self) -> i64 {
        if self.fat { 2 * SECOND } else { 1 }
    }

    fn named(&self, realtime: i64) -> Named {
        let floor = |nanos: i64| nanos.div_euclid(self.name_step) * self.name_step;
        let step = Duration::from_nanos(self.name_step as u64);
        match &self.zone {
            Zone::Unknown(ahead) => Named {
                start: Timestamp::from_nanos(floor(realtime + i64::from(*ahead) * QUARTER)),
                step,
                repeats_after: None,
                zone: NameZone::Unknown,
            },
            Zone::Known(zone) => {
                let civil = zone.to_datetime(Timestamp::from_nanos(floor(realtime)).to_jiff());
                let (start, repeats_after) = instants(zone, civil);
                Named { start, step, repeats_after, zone: NameZone::Known }
            }
        }
    }
}

/// The instants at which a local clock shows this.
fn instants(zone: &TimeZone, civil: DateTime) -> (Timestamp, Option<Duration>) {
    let ambiguous = zone.to_ambiguous_timestamp(civil);
    let fold = matches!(ambiguous.offset(), AmbiguousOffset::Fold { .. });
    let earlier = Timestamp::from_jiff(ambiguous.earlier().unwrap());
    let later = Timestamp::from_jiff(ambiguous.later().unwrap());
    (earlier, fold.then(|| later.since(earlier)))
}
