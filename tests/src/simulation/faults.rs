//! What a world is made of, and what befalls it: all of it follows from the seed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::agenda::{MILLISECOND, Micros, SECOND};
use super::card::Habit;

/// The one source of chance.
#[derive(Debug)]
pub struct Random(pub StdRng);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(StdRng::seed_from_u64(seed))
    }

    /// From 0 to just below `end`; 0 where there is nothing below.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.0.random_range(0..end) }
    }

    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from))
    }

    pub fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.0.random_bool(probability.min(1.0))
    }

    pub fn number(&mut self) -> u64 {
        self.0.random()
    }

    /// Half of the worlds know nothing of this.
    fn sometimes(&mut self, most: f64) -> f64 {
        if self.happens(0.5) { self.0.random_range(0.0..most) } else { 0.0 }
    }

    pub fn generator(&mut self) -> StdRng {
        StdRng::seed_from_u64(self.number())
    }
}

/// How a device's footage is called for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A camera beside a central recorder, whose gaps are filled at once.
    Online,
    /// Body-worn: card only, pulled in scheduled windows.
    Scheduled,
    /// Nothing is pulled but what people ask for.
    Manual,
}

/// Something that happens once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    Cut {
        device: usize,
        micros: Micros,
    },
    /// The device starts again: `power`, or only its agent.
    Restart {
        device: usize,
        power: bool,
    },
    /// It never comes back.
    Dies {
        device: usize,
    },
    BrokerRestart,
    ServerCut {
        micros: Micros,
    },
    /// The server ends at one of its next deeds.
    Crash {
        power: bool,
        deeds: u64,
    },
    ClockStep {
        seconds: i64,
    },
    DiskFull {
        micros: Micros,
    },
    MergesFail {
        micros: Micros,
    },
    Unreadable {
        device: usize,
        micros: Micros,
    },
    Alter {
        device: usize,
    },
    LoseIndex {
        device: usize,
    },
    CardAway {
        device: usize,
        micros: Micros,
    },
    Lie {
        device: usize,
        micros: Micros,
    },
    RecorderPause {
        device: usize,
        micros: Micros,
    },
    OwnerDeletes {
        device: usize,
    },
    WrongClock {
        device: usize,
        micros: Micros,
    },
    /// A person orders a pull.
    Pull {
        device: usize,
    },
    CancelJob,
    Search {
        device: usize,
    },
    Work,
}

/// What may befall every message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    pub lost_0: f64,
    pub lost_1: f64,
    pub repeated: f64,
    pub busy_card: f64,
    pub name_taken: f64,
    pub will_never: f64,
    pub jitter: Micros,
    pub slow_sync: Micros,
    pub slow_merge: Micros,
    pub slow_ledger: Micros,
    pub slow_archive: Micros,
}

#[derive(Clone, Debug)]
pub struct DevicePlan {
    pub kind: Kind,
    pub habit: Habit,
    pub streams: usize,
    pub delay: Micros,
    pub bytes_per_second: u64,
    pub card_bytes_per_second: u64,
    pub card_latency: Micros,
    pub max_open_transfers: u32,
    pub max_chunk_bytes: u32,
    pub configured: bool,
    pub lies: bool,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub devices: Vec<DevicePlan>,
    pub weather: Weather,
    pub faults: Vec<(Micros, Fault)>,
    /// From here on nothing goes wrong any more.
    pub quiet_at: Micros,
    pub settle_s: u64,
    pub seam_margin_ms: u64,
    pub open_gap_s: u64,
    pub max_active_parts: usize,
    pub max_active_parts_per_device: usize,
    pub max_devices: usize,
    pub schedule: Times,
    pub kbit_per_second: u64,
    /// Before this nobody does anything but to record.
    pub begins_at: Micros,
}

/// When scheduled windows are.
#[derive(Clone, Debug)]
pub struct Times {
    pub cron: &'static str,
    pub time_zone: &'static str,
    pub window_s: u64,
}

impl Plan {
    pub fn of(random: &mut Random) -> Plan {
        let quiet_at = random.between(90, 300) * SECOND;
        let count = if random.happens(0.5) { 1 } else { random.between(2, 4) as usize };
        let kinds = match random.below(5) {
            0 | 1 => vec![Kind::Online],
            2 => vec![Kind::Scheduled],
            3 => vec![Kind::Manual],
            _ => vec![Kind::Online, Kind::Scheduled, Kind::Manual],
        };
        let devices: Vec<DevicePlan> =
            (0..count).map(|number| Self::device(random, kinds[number % kinds.len()])).collect();
        let weather = if random.happens(0.8) { Self::weather(random) } else { Weather::default() };
        let mut plan = Plan {
            devices,
            weather,
            faults: Vec::new(),
            quiet_at,
            settle_s: random.between(8, 16),
            seam_margin_ms: if random.happens(0.5) { 2_000 } else { 0 },
            open_gap_s: random.between(20, 61),
            max_active_parts: random.between(1, 5) as usize,
            max_active_parts_per_device: random.between(1, 4) as usize,
            max_devices: random.below(3) as usize,
            schedule: Times {
                cron: "*/2 * * * *",
                time_zone: "UTC",
                window_s: random.between(40, 115),
            },
            begins_at: 0,
            kbit_per_second: if random.happens(0.2) { random.between(2_000, 8_000) } else { 0 },
        };
        plan.draw_faults(random);
        plan.faults.sort_by_key(|(at, _)| *at);
        plan
    }

    fn device(random: &mut Random, kind: Kind) -> DevicePlan {
        let frame = random.between(40, 250) * MILLISECOND;
        let frames_per_gop = (random.between(600, 2_500) * MILLISECOND / frame).max(1);
        let gops_per_segment = random.between(4, 20);
        let rate = random.between(3_000, 20_000);
        let habit = Habit {
            frame,
            frames_per_gop,
            frame_bytes: (rate * frame / SECOND).max(50),
            gops_per_segment,
            gops_per_part: random.between(1, 12),
            most_segments: random.between(4, 60) as usize,
            reuses_names: random.happens(0.3),
            most_parts_in_answer: random.between(1, 20) as usize,
        };
        DevicePlan {
            kind,
            habit,
            streams: if random.happens(0.2) { 2 } else { 1 },
            delay: random.between(500, 120_000),
            bytes_per_second: rate * random.between(6, 60),
            card_bytes_per_second: random.between(300_000, 20_000_000),
            card_latency: random.between(100, 20_000),
            max_open_transfers: random.between(1, 5) as u32,
            max_chunk_bytes: [4_096, 16_384, 65_536][random.below(3) as usize],
            configured: random.happens(0.3),
            lies: false,
        }
    }

    fn weather(random: &mut Random) -> Weather {
        let mut slow = |most: u64| if random.happens(0.3) { random.below(most) } else { 0 };
        let (slow_sync, slow_merge) = (slow(2 * SECOND), slow(20 * SECOND));
        let (slow_ledger, slow_archive) = (slow(SECOND / 20), slow(3 * SECOND));
        let jitter = slow(200 * MILLISECOND);
        Weather {
            lost_0: random.sometimes(0.03),
            lost_1: random.sometimes(0.02),
            repeated: random.sometimes(0.05),
            busy_card: random.sometimes(0.05),
            name_taken: random.sometimes(0.3),
            will_never: random.sometimes(0.5),
            jitter,
            slow_sync,
            slow_merge,
            slow_ledger,
            slow_archive,
        }
    }

    fn draw_faults(&mut self, random: &mut Random) {
        let devices = self.devices.len() as u64;
        for device in 0..self.devices.len() {
            if self.devices[device].kind == Kind::Online || random.happens(0.6) {
                for _ in 0..random.below(5) {
                    let micros = random.between(SECOND / 2, 50 * SECOND);
                    self.add(random, Fault::Cut { device, micros });
                }
            }
        }
        let any = |random: &mut Random| random.below(devices) as usize;
        let long = |random: &mut Random| random.between(SECOND, 40 * SECOND);
        self.several(random, 0.5, 3, |random| Fault::Restart {
            device: any(random),
            power: random.happens(0.6),
        });
        self.several(random, 0.3, 3, |_| Fault::BrokerRestart);
        self.several(random, 0.3, 3, |random| Fault::ServerCut { micros: long(random) });
        self.several(random, 0.6, 4, |random| Fault::Crash {
            power: random.happens(0.5),
            deeds: random.below(200),
        });
        self.several(random, 0.2, 3, |random| {
            let most = [5, 120, 3_600][random.below(3) as usize];
            Fault::ClockStep { seconds: random.below(2 * most) as i64 - most as i64 }
        });
        self.several(random, 0.2, 2, |random| Fault::DiskFull { micros: long(random) });
        self.several(random, 0.2, 2, |random| Fault::MergesFail { micros: long(random) });
        self.several(random, 0.2, 2, |random| Fault::Unreadable {
            device: any(random),
            micros: 3 * long(random),
        });
        self.several(random, 0.2, 2, |random| Fault::Alter { device: any(random) });
        self.several(random, 0.2, 2, |random| Fault::LoseIndex { device: any(random) });
        self.several(random, 0.2, 2, |random| Fault::CardAway {
            device: any(random),
            micros: long(random),
        });
        self.several(random, 0.1, 2, |random| Fault::Lie {
            device: any(random),
            micros: long(random),
        });
        self.several(random, 0.4, 3, |random| Fault::RecorderPause {
            device: any(random),
            micros: long(random),
        });
        self.several(random, 0.3, 3, |random| Fault::OwnerDeletes { device: any(random) });
        self.several(random, 0.2, 2, |random| Fault::WrongClock {
            device: any(random),
            micros: long(random),
        });
        let asks = self.devices.iter().any(|device| device.kind == Kind::Manual);
        self.several(random, if asks { 1.0 } else { 0.3 }, 6, |random| Fault::Pull {
            device: any(random),
        });
        self.several(random, 0.3, 3, |_| Fault::CancelJob);
        self.several(random, 0.3, 4, |random| Fault::Search { device: any(random) });
        self.several(random, 0.3, 4, |_| Fault::Work);
        let lied: Vec<usize> = self
            .faults
            .iter()
            .filter_map(|(_, fault)| match fault {
                Fault::Lie { device, .. } => Some(*device),
                _ => None,
            })
            .collect();
        lied.into_iter().for_each(|device| self.devices[device].lies = true);
    }

    fn several(
        &mut self,
        random: &mut Random,
        probability: f64,
        most: u64,
        fault: impl Fn(&mut Random) -> Fault,
    ) {
        if random.happens(probability) {
            for _ in 0..random.between(1, most + 1) {
                let fault = fault(random);
                self.add(random, fault);
            }
        }
    }

    fn add(&mut self, random: &mut Random, fault: Fault) {
        let at = random.between(5 * SECOND, self.quiet_at);
        self.faults.push((at, fault));
    }
}
