//! A world: devices, broker and server, and one agenda of all that happens.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use protocol::message::{ConnectionId, DeviceId};
use protocol::topic::Topic;
use reconciler::config::Config;
use reconciler::fleet::StreamKey;
use reconciler::ledger::PartId;
use sdcard_indexer::time::Timestamp;

use super::agenda::{Agenda, Micros, SECOND, wall};
use super::device::{Device, Left};
use super::disk::{Archive, Ledger, Spool};
use super::faults::{Fault, Kind, Plan, Random, Weather};
use super::invariants::Watch;
use super::network::{Broker, Packet};
use super::server::{Server, ToServer};
use super::trace::Trace;

/// What happens at an instant.
#[derive(Debug)]
pub enum Happening {
    Fault(Fault),
    /// From here on nothing goes wrong any more.
    Quiet,
    AgentWakes {
        device: usize,
        life: u32,
    },
    CardLooks {
        device: usize,
        life: u32,
    },
    CardDone {
        device: usize,
        life: u32,
    },
    AgentStarts {
        device: usize,
        boot: bool,
    },
    LeftClient {
        device: usize,
        wire: u32,
        left: Left,
    },
    AtBroker {
        device: usize,
        wire: u32,
        packet: Packet,
    },
    DownAtBroker {
        device: usize,
        topic: Topic,
        payload: Bytes,
    },
    AtDevice {
        device: usize,
        wire: u32,
        topic: Topic,
        payload: Bytes,
    },
    Connects {
        device: usize,
        life: u32,
    },
    LinkBack {
        device: usize,
    },
    DeviceNotices {
        device: usize,
        life: u32,
    },
    BrokerNotices {
        device: usize,
        connection: ConnectionId,
    },
    Will {
        device: usize,
        payload: Bytes,
    },
    AtServer {
        connection: u32,
        topic: Topic,
        payload: Bytes,
    },
    ServerConnects {
        life: u32,
    },
    ServerStarts,
    Server {
        life: u32,
        event: ToServer,
    },
    RecorderStarts {
        device: usize,
    },
    CardHeals {
        device: usize,
    },
    LieEnds {
        device: usize,
    },
    ClockIsSet {
        device: usize,
    },
}

/// Calls of the cores within one second of a world: far more than all of its chunks need.
const MOST_TURNS: u64 = 250_000;

/// What a run cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bill {
    pub simulated_s: u64,
    pub turns: u64,
    pub pieces: u64,
    pub sent_bytes: u64,
    pub merged_bytes: u64,
    pub resent_bytes: u64,
    pub crashes: u64,
    pub cuts: u64,
    pub lost: u64,
    pub jobs: u64,
    pub runs: u64,
    pub failed_s: u64,
    pub overwritten_s: u64,
}

impl Bill {
    pub fn add(&mut self, other: &Bill) {
        self.simulated_s += other.simulated_s;
        self.turns += other.turns;
        self.pieces += other.pieces;
        self.sent_bytes += other.sent_bytes;
        self.merged_bytes += other.merged_bytes;
        self.resent_bytes += other.resent_bytes;
        self.crashes += other.crashes;
        self.cuts += other.cuts;
        self.lost += other.lost;
        self.jobs += other.jobs;
        self.runs += other.runs;
        self.failed_s += other.failed_s;
        self.overwritten_s += other.overwritten_s;
    }
}

/// What went wrong, and what had happened before.
#[derive(Debug)]
pub struct Violation {
    pub what: String,
    pub at: Micros,
    pub trace: String,
}

#[derive(Debug)]
pub struct World {
    pub agenda: Agenda<Happening>,
    pub random: Random,
    pub plan: Plan,
    pub config: Config,
    pub devices: Vec<Device>,
    pub numbers: BTreeMap<DeviceId, usize>,
    pub broker: Broker,
    pub server: Option<Server>,
    pub server_lives: u32,
    pub server_cut_until: Micros,
    pub crash_after: Option<(u64, bool)>,
    /// How far the server's wall clock is off.
    pub clock_offset_s: i64,
    pub disk: Spool,
    pub ledger: Ledger,
    pub archive: Archive,
    pub merges_fail_until: Micros,
    pub is_quiet: bool,
    pub last_order: u64,
    pub watch: Watch,
    pub trace: Trace,
    pub bill: Bill,
    pub turns: u64,
    pub violation: Option<String>,
}

impl World {
    pub fn new(seed: u64, verbose: bool) -> World {
        let mut random = Random::new(seed);
        let plan = Plan::of(&mut random);
        World::of(plan, random, verbose)
    }

    pub fn of(plan: Plan, mut random: Random, verbose: bool) -> World {
        let text = configuration(&plan);
        let config = Config::parse(&text, Path::new("/simulated/gapless.toml"));
        let (config, violation) = match config {
            Ok(config) => (config, None),
            Err(error) => (Config::default(), Some(format!("the world's configuration: {error}"))),
        };
        let devices: Vec<Device> = plan
            .devices
            .iter()
            .enumerate()
            .map(|(number, plan)| Device::new(device_id(number), plan.clone(), random.number()))
            .collect();
        let numbers =
            devices.iter().enumerate().map(|(number, d)| (d.id.clone(), number)).collect();
        let mut world = World {
            agenda: Agenda::default(),
            random,
            config,
            devices,
            numbers,
            broker: Broker::default(),
            server: None,
            server_lives: 0,
            server_cut_until: 0,
            crash_after: None,
            clock_offset_s: 0,
            disk: Spool::default(),
            ledger: Ledger::default(),
            archive: Archive::default(),
            merges_fail_until: 0,
            is_quiet: false,
            last_order: 0,
            watch: Watch::default(),
            trace: Trace::new(verbose),
            bill: Bill::default(),
            turns: 0,
            violation,
            plan,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        if self.trace.is_verbose() {
            let plan = format!("{:#?}\n{}", self.plan, configuration(&self.plan));
            self.trace.say(0, || plan);
        }
        for number in 0..self.devices.len() {
            let head_start = self.plan.begins_at + self.random.below(30 * SECOND);
            self.devices[number].rings.iter_mut().for_each(|ring| ring.start(0));
            self.agenda.at(head_start, Happening::AgentStarts { device: number, boot: true });
        }
        let server_starts = self.plan.begins_at + self.random.below(3 * SECOND);
        self.agenda.at(server_starts, Happening::ServerStarts);
        for (at, fault) in self.plan.faults.clone() {
            self.agenda.at(at, Happening::Fault(fault));
        }
        self.agenda.at(self.plan.quiet_at, Happening::Quiet);
    }

    pub fn now(&self) -> Micros {
        self.agenda.now()
    }

    pub fn server_wall(&self) -> Timestamp {
        wall(self.now()).saturating_offset(self.clock_offset_s * 1_000_000_000)
    }

    /// Nothing of this kind happens once the world is quiet.
    pub fn happens(&mut self, probability: f64) -> bool {
        !self.is_quiet && self.random.happens(probability)
    }

    pub fn fail(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    pub fn keys_of(&self, number: usize) -> Vec<StreamKey> {
        let device = &self.devices[number];
        let streams = device.rings.iter().map(|ring| ring.stream.clone());
        streams.map(|stream| StreamKey { device: device.id.clone(), stream }).collect()
    }

    pub fn kind_of(&self, key: &StreamKey) -> Kind {
        let number = self.numbers.get(&key.device).copied().unwrap_or(0);
        self.devices[number].plan.kind
    }

    /// What happens until a second is full.
    pub fn pass_second(&mut self) {
        let (second, turns) = (self.now() / SECOND, self.turns);
        while self.violation.is_none() && self.now() / SECOND == second {
            match self.agenda.next() {
                Some(happening) => self.happen(happening),
                None => self.fail("nothing will ever happen again".to_owned()),
            }
            if self.turns - turns > MOST_TURNS {
                self.fail(format!("{} turns within a second", self.turns - turns));
            }
        }
        self.check_each_second();
    }

    /// Until everything is settled, or something is wrong.
    pub fn run(mut self, patience: Micros) -> Result<Bill, Violation> {
        let end = self.plan.quiet_at + patience;
        while self.violation.is_none() {
            self.pass_second();
            if self.is_quiet && (self.now() / SECOND).is_multiple_of(4) {
                match self.unsettled() {
                    None => break,
                    Some(what) if self.now() > end => {
                        self.fail(format!("still not settled: {what}"));
                    }
                    Some(_) => {}
                }
            }
        }
        self.bill.simulated_s = self.now() / SECOND;
        self.bill.turns = self.turns;
        self.reckon();
        match self.violation {
            None => Ok(self.bill),
            Some(what) => Err(Violation { what, at: self.agenda.now(), trace: self.trace.told() }),
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Fault(fault) => self.befall(fault),
            Happening::Quiet => self.quieten(),
            Happening::AgentWakes { device, life } => self.agent_wakes(device, life),
            Happening::CardLooks { device, life } => self.card_looks(device, life),
            Happening::CardDone { device, life } => self.card_done(device, life),
            Happening::AgentStarts { device, boot } => {
                if self.devices[device].conversation.is_none() {
                    self.start_agent(device, boot);
                    self.begin_live(device);
                }
            }
            Happening::LeftClient { device, wire, left } => self.left_client(device, wire, left),
            Happening::AtBroker { device, wire, packet } => self.at_broker(device, wire, packet),
            Happening::DownAtBroker { device, topic, payload } => {
                self.down_at_broker(device, topic, payload);
            }
            Happening::AtDevice { device, wire, topic, payload } => {
                self.device_hears(device, wire, &topic, &payload);
            }
            Happening::Connects { device, life } => self.connects(device, life),
            Happening::LinkBack { device } => self.link_back(device),
            Happening::DeviceNotices { device, life } => self.device_notices(device, life),
            Happening::BrokerNotices { device, connection } => {
                self.broker_notices(device, connection);
            }
            Happening::Will { device, payload } => self.will(device, &payload),
            Happening::AtServer { connection, topic, payload } => {
                self.at_server(connection, &topic, payload);
            }
            Happening::ServerConnects { life } => self.server_connects(life),
            Happening::ServerStarts => {
                if self.server.is_none() {
                    self.start_server();
                }
            }
            Happening::Server { life, event } => self.server_hears(life, event),
            Happening::RecorderStarts { device } => self.start_recorder(device),
            Happening::CardHeals { device } => {
                self.devices[device].rings.iter_mut().for_each(|ring| ring.heal());
            }
            Happening::LieEnds { device } => self.end_lie(device),
            Happening::ClockIsSet { device } => {
                self.devices[device].rings.iter_mut().for_each(|ring| ring.clock_is(true));
            }
        }
    }

    /// The parts that the puller has of each device.
    pub fn active_parts(&self) -> impl Iterator<Item = (&PartId, &super::server::Active)> {
        self.server.iter().flat_map(|server| server.active.iter())
    }

    fn quieten(&mut self) {
        let now = self.now();
        self.trace.say(now, || "from here on nothing goes wrong".to_owned());
        self.is_quiet = true;
        self.plan.weather = Weather::default();
        self.crash_after = None;
        self.clock_offset_s = 0;
        self.disk.full_until = 0;
        self.merges_fail_until = 0;
        self.server_cut_until = 0;
        for number in 0..self.devices.len() {
            self.link_back(number);
            let device = &mut self.devices[number];
            for ring in &mut device.rings {
                ring.heal();
                ring.clock_is(true);
                ring.be_absent(0);
                ring.lie = Default::default();
            }
            match device.plan.kind {
                Kind::Online => self.start_recorder(number),
                // Back in the depot.
                Kind::Scheduled | Kind::Manual => {
                    device.rings.iter_mut().for_each(|ring| ring.stop(now, 0));
                }
            }
        }
    }
}

fn device_id(number: usize) -> DeviceId {
    format!("cam-{number}").parse().expect("a valid id")
}

/// `gapless.toml` of this world.
fn configuration(plan: &Plan) -> String {
    let mut text = format!(
        "[archive]\nsettle_s = {}\nopen_gap_s = {}\nseam_margin_ms = {}\n[pull]\nmax_active_parts = {}\n\
         max_active_parts_per_device = {}\nkbit_per_second = {}\n",
        plan.settle_s,
        plan.open_gap_s,
        plan.seam_margin_ms,
        plan.max_active_parts,
        plan.max_active_parts_per_device,
        plan.kbit_per_second
    );
    for (number, device) in plan.devices.iter().enumerate() {
        if device.configured {
            let streams = if device.streams == 2 { "\"main\", \"sub\"" } else { "\"main\"" };
            let from = if number % 2 == 0 {
                format!("expected_from = \"{}\"\n", wall(10 * SECOND))
            } else {
                String::new()
            };
            text += &format!("[[device]]\nid = \"cam-{number}\"\nstreams = [{streams}]\n{from}");
        }
    }
    for kind in [Kind::Scheduled, Kind::Manual] {
        let of_kind = plan.devices.iter().enumerate().filter(|(_, device)| device.kind == kind);
        let ids: Vec<String> = of_kind.map(|(number, _)| format!("\"cam-{number}\"")).collect();
        if ids.is_empty() {
            continue;
        }
        let ids = ids.join(", ");
        text += &match kind {
            Kind::Manual => {
                format!("[[policy]]\nname = \"asked\"\ndevices = [{ids}]\nmodes = [\"manual\"]\n")
            }
            _ => format!(
                "[[policy]]\nname = \"night\"\ndevices = [{ids}]\nrecord = \"held\"\n\
                 modes = [\"scheduled\", \"manual\"]\nmax_devices = {}\nschedule = {{ cron = \"{}\", \
                 time_zone = \"{}\", window = \"{}s\" }}\n",
                plan.max_devices,
                plan.schedule.cron,
                plan.schedule.time_zone,
                plan.schedule.window_s
            ),
        };
    }
    text
}
