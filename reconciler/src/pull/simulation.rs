//! The engine against a model of device, link and disk, in simulated time, through seeded failures.
//!
//! The device model follows PROTOCOL.md, not the agent's code: it keeps one transfer and forgets it on a
//! restart, on another connection, and once it has sent its `End`.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use protocol::message::{
    AskBody, BootId, ConnectionId, Credit, Open, PartDigest, RefusedReason, SealCheck, TransferId,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sdcard_indexer::identity::{SegmentId, SegmentVersion};

use super::MonotonicMicros;
use super::engine::{Action, Engine, Event, MAX_UNSYNCED_BYTES, Outcome, PartJob};
use super::window::{MAX_WINDOW_BYTES, Window};

const START: u64 = 5000;
/// A transfer that is not done this long after the last failure is stuck.
const PATIENCE: Duration = Duration::from_secs(600);

/// What befalls a run; nothing by default.
#[derive(Debug, Default)]
struct Faults {
    /// No failure happens after this.
    until: MonotonicMicros,
    lost: f64,
    repeated: f64,
    /// Overtaken by what was sent later.
    delayed: f64,
    busy: f64,
    cuts: u32,
    device_restarts: u32,
    server_restarts: u32,
}

/// What happens at an instant of simulated time.
#[derive(Debug, Clone)]
enum Happening {
    /// Arrives only if the link was not cut since it was sent.
    ToDevice {
        link: u32,
        message: ToDevice,
    },
    ToServer {
        link: u32,
        event: Event,
    },
    Presence {
        online: bool,
    },
    DeviceSends {
        transfer: TransferId,
    },
    DeviceHashes {
        transfer: TransferId,
        until: MonotonicMicros,
    },
    Synced {
        server: u32,
        upto: u64,
    },
    Cut,
    Reconnect,
    DeviceRestart,
    ServerRestart,
}

#[derive(Debug, Clone)]
enum ToDevice {
    Ask(ConnectionId, AskBody),
    Grant(Credit),
}

/// What a device knows of its one transfer.
#[derive(Debug)]
struct Sending {
    open: Open,
    next: u64,
    limit: u64,
    chunk_bytes: u32,
    sequence: u32,
    echo: u64,
    /// A chunk is on its way into the network, or the prefix is being hashed.
    occupied: bool,
}

struct World {
    seed: u64,
    random: StdRng,
    faults: Faults,
    now: MonotonicMicros,
    agenda: BTreeMap<(MonotonicMicros, u64), Happening>,
    scheduled: u64,

    one_way: Duration,
    link: u32,
    link_is_up: bool,

    card: Vec<u8>,
    bytes_per_second: u64,
    hashed_bytes_per_second: u64,
    boot: u8,
    connection: u64,
    sending: Option<Sending>,
    sent_bytes: u64,

    engine: Engine,
    server: u32,
    spool: Vec<u8>,
    sync_time: Duration,
    syncing: bool,
    openings: u64,
    outcome: Option<Outcome>,
    /// Written, not yet durable, and lost in a restart of the server.
    lost_unsynced_bytes: u64,
    failures: u64,
}

/// What a run cost.
struct Bill {
    part_bytes: u64,
    resent_bytes: u64,
    openings: u64,
    failures: u64,
    lost_unsynced_bytes: u64,
    took: Duration,
}

impl World {
    fn new(seed: u64, faulty: bool) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut rare =
            |most: f64| if random.random_bool(0.5) { random.random_range(0.0..most) } else { 0.0 };
        let (lost, repeated, delayed, busy) = (rare(0.02), rare(0.05), rare(0.02), rare(0.2));
        let part_bytes: usize = match random.random_range(0..3) {
            0 => random.random_range(1..100_000),
            1 => random.random_range(1..2_000_000),
            _ => random.random_range(1..6_000_000),
        };
        let bytes_per_second = random.random_range(50_000..4_000_000);
        let undisturbed = Duration::from_secs(1 + part_bytes as u64 / bytes_per_second);
        let faults = Faults {
            until: MonotonicMicros(0).after(undisturbed * random.random_range(1..5)),
            lost,
            repeated,
            delayed,
            busy,
            cuts: random.random_range(0..5),
            device_restarts: random.random_range(0..3),
            server_restarts: random.random_range(0..3),
        };
        let faults = if faulty { faults } else { Faults::default() };
        let mut card = vec![0; part_bytes];
        random.fill(&mut card[..]);
        let mut world = World {
            seed,
            now: MonotonicMicros(1),
            agenda: BTreeMap::new(),
            scheduled: 0,
            one_way: Duration::from_micros(random.random_range(500..150_000)),
            link: 0,
            link_is_up: true,
            card,
            bytes_per_second,
            hashed_bytes_per_second: random.random_range(1_000_000..100_000_000),
            boot: 0,
            connection: 0,
            sending: None,
            sent_bytes: 0,
            engine: engine(START, START + part_bytes as u64, seed),
            server: 0,
            spool: Vec::new(),
            sync_time: Duration::from_micros(random.random_range(100..300_000)),
            syncing: false,
            openings: 0,
            outcome: None,
            lost_unsynced_bytes: 0,
            failures: 0,
            faults,
            random,
        };
        world.schedule_failures();
        world.announce();
        world
    }

    fn schedule_failures(&mut self) {
        let until = self.faults.until.0;
        let draw = |random: &mut StdRng| Duration::from_micros(random.random_range(0..until));
        for _ in 0..self.faults.cuts {
            let at = draw(&mut self.random);
            self.after(at, Happening::Cut);
        }
        for _ in 0..self.faults.device_restarts {
            let at = draw(&mut self.random);
            self.after(at, Happening::DeviceRestart);
        }
        for _ in 0..self.faults.server_restarts {
            let at = draw(&mut self.random);
            self.after(at, Happening::ServerRestart);
        }
    }

    fn end(&self) -> u64 {
        START + self.card.len() as u64
    }

    fn after(&mut self, delay: Duration, happening: Happening) {
        self.scheduled += 1;
        self.agenda.insert((self.now.after(delay), self.scheduled), happening);
    }

    fn happens(&mut self, probability: f64) -> bool {
        self.now < self.faults.until && self.random.random_bool(probability)
    }

    /// Over the link, with all that may befall a message there.
    fn transmit(&mut self, happening: Happening) {
        if !self.link_is_up {
            return;
        }
        if self.happens(self.faults.lost) {
            self.failures += 1;
            return;
        }
        if self.happens(self.faults.repeated) {
            self.after(self.one_way, happening.clone());
        }
        let mut delay = self.one_way;
        if self.happens(self.faults.delayed) {
            self.failures += 1;
            delay += Duration::from_micros(self.random.random_range(0..500_000));
        }
        self.after(delay, happening);
    }

    fn tell(&mut self, event: Event) {
        self.transmit(Happening::ToServer { link: self.link, event });
    }

    fn card_digest(&self) -> PartDigest {
        PartDigest { blake3: *blake3::hash(&self.card).as_bytes(), seal: SealCheck::Equal }
    }

    fn refuse(&mut self, transfer: TransferId, reason: RefusedReason) {
        self.tell(Event::Refused { transfer, reason });
    }

    /// As PROTOCOL.md has it: on connecting, 2 s later, and then every minute.
    fn announce(&mut self) {
        for seconds in [0, 2, 60, 120, 180, 240, 300] {
            self.after(Duration::from_secs(seconds), Happening::Presence { online: true });
        }
    }

    fn run(mut self) -> Bill {
        let mut turns_in_place = 0;
        while self.outcome.is_none() {
            let next = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let deadline = self.engine.next_deadline().map(|at| at.max(self.now));
            let Some(at) = next.into_iter().chain(deadline).min() else {
                panic!("seed {}: nothing will ever happen again: {:?}", self.seed, self.engine);
            };
            turns_in_place = if at == self.now { turns_in_place + 1 } else { 0 };
            assert!(turns_in_place < 1000, "seed {}: turns in place: {:?}", self.seed, self.engine);
            self.now = at;
            assert!(
                at < self.faults.until.after(PATIENCE),
                "seed {}: stuck: {:?}",
                self.seed,
                self.engine
            );
            if next == Some(at) {
                let Some((_, happening)) = self.agenda.pop_first() else { continue };
                self.happen(happening);
            } else {
                self.handle(Event::Tick);
            }
        }
        let digest = self.card_digest();
        let complete = Outcome::Complete { device_digest: digest };
        assert_eq!(self.outcome, Some(complete), "seed {}", self.seed);
        assert!(self.spool == self.card, "seed {}: other bytes than the card's", self.seed);
        Bill {
            part_bytes: self.card.len() as u64,
            resent_bytes: self.sent_bytes - self.card.len() as u64,
            openings: self.openings + self.engine.counters().openings,
            failures: self.failures,
            lost_unsynced_bytes: self.lost_unsynced_bytes,
            took: Duration::from_micros(self.now.0),
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::ToDevice { link, message } if link == self.link => {
                self.device_hears(message)
            }
            Happening::ToServer { link, event } if link == self.link => self.handle(event),
            Happening::ToDevice { .. } | Happening::ToServer { .. } => {}
            Happening::Presence { online: true } => {
                if self.link_is_up {
                    self.handle(Event::Online {
                        connection: ConnectionId(self.connection),
                        boot: BootId([self.boot; 16]),
                        max_chunk_bytes: 64 * 1024,
                    });
                }
            }
            Happening::Presence { online: false } => {
                if !self.link_is_up {
                    self.handle(Event::Offline);
                }
            }
            Happening::DeviceSends { transfer } => {
                if let Some(sending) = self.sending_of(transfer) {
                    sending.occupied = false;
                    self.send();
                }
            }
            Happening::DeviceHashes { transfer, until } => self.hash(transfer, until),
            Happening::Synced { server, upto } => {
                if server == self.server {
                    self.syncing = false;
                    self.handle(Event::Durable { upto });
                }
            }
            Happening::Cut => self.cut(),
            Happening::Reconnect => {
                self.link_is_up = true;
                self.announce();
            }
            Happening::DeviceRestart => {
                self.boot += 1;
                self.cut();
            }
            Happening::ServerRestart => self.restart_server(),
        }
    }

    /// The will may come soon, late, or never.
    fn cut(&mut self) {
        self.failures += 1;
        self.link += 1;
        self.connection += 1;
        self.sending = None;
        if !self.link_is_up {
            return;
        }
        self.link_is_up = false;
        let will = Duration::from_millis(self.random.random_range(0..40_000));
        self.after(will, Happening::Presence { online: false });
        let back = Duration::from_millis(self.random.random_range(0..30_000));
        self.after(back, Happening::Reconnect);
    }

    fn restart_server(&mut self) {
        self.failures += 1;
        self.server += 1;
        self.syncing = false;
        let durable = self.engine.durable();
        let kept = usize::try_from(durable - START).unwrap();
        self.lost_unsynced_bytes += (self.spool.len() - kept) as u64;
        self.spool.truncate(kept);
        self.openings += self.engine.counters().openings;
        self.engine = engine(durable, self.end(), self.random.random());
        // What the broker retains.
        self.after(self.one_way, Happening::Presence { online: true });
    }

    fn handle(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.engine.handle(event, self.now, &mut actions);
        for action in actions {
            assert_eq!(self.outcome, None, "seed {}: {action:?} after the end", self.seed);
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Ask(body) => {
                if let AskBody::Open(open) = &body {
                    let held = START + self.spool.len() as u64;
                    assert_eq!(open.from, held, "seed {}", self.seed);
                }
                let message = ToDevice::Ask(ConnectionId(self.connection), body);
                self.transmit(Happening::ToDevice { link: self.link, message });
            }
            Action::Grant(credit) => {
                let held = START + self.spool.len() as u64;
                let durable = self.engine.durable();
                assert!(credit.limit <= self.end(), "seed {}", self.seed);
                assert!(credit.limit <= held + MAX_WINDOW_BYTES, "seed {}", self.seed);
                assert!(credit.limit <= durable + MAX_UNSYNCED_BYTES, "seed {}", self.seed);
                assert_eq!(credit.durable, durable, "seed {}", self.seed);
                let message = ToDevice::Grant(credit);
                self.transmit(Happening::ToDevice { link: self.link, message });
            }
            Action::Write { offset, payload } => {
                assert_eq!(offset, START + self.spool.len() as u64, "seed {}", self.seed);
                self.spool.extend_from_slice(&payload);
            }
            Action::Sync => {
                assert!(!self.syncing, "seed {}: two syncs at a time", self.seed);
                self.syncing = true;
                let upto = START + self.spool.len() as u64;
                self.after(self.sync_time, Happening::Synced { server: self.server, upto });
            }
            Action::Done(outcome) => {
                assert_eq!(self.engine.durable(), START + self.spool.len() as u64);
                self.outcome = Some(outcome);
            }
        }
    }

    fn sending_of(&mut self, transfer: TransferId) -> Option<&mut Sending> {
        self.sending.as_mut().filter(|sending| sending.open.transfer == transfer)
    }

    fn device_hears(&mut self, message: ToDevice) {
        match message {
            ToDevice::Ask(connection, _) if connection != ConnectionId(self.connection) => {}
            ToDevice::Ask(_, AskBody::Open(open)) => self.device_opens(open),
            ToDevice::Ask(_, _) => self.sending = None,
            ToDevice::Grant(credit) => {
                let Some(sending) = self.sending_of(credit.transfer) else {
                    self.refuse(credit.transfer, RefusedReason::UnknownTransfer);
                    return;
                };
                if credit.sequence > sending.sequence {
                    sending.sequence = credit.sequence;
                    sending.limit = credit.limit;
                    sending.chunk_bytes = credit.chunk_bytes;
                    sending.echo = credit.time;
                    self.send();
                }
            }
        }
    }

    fn device_opens(&mut self, open: Open) {
        let transfer = open.transfer;
        if self.sending_of(transfer).is_some() {
            self.tell(Event::Accepted { transfer });
            return;
        }
        if self.happens(self.faults.busy) {
            self.failures += 1;
            self.refuse(transfer, RefusedReason::Busy);
            return;
        }
        let prefix_bytes = open.from - open.start;
        let hashing =
            Duration::from_micros(prefix_bytes * 1_000_000 / self.hashed_bytes_per_second);
        self.sending = Some(Sending {
            next: open.from,
            limit: open.credit_limit,
            chunk_bytes: open.chunk_bytes,
            sequence: 0,
            echo: 0,
            occupied: true,
            open,
        });
        self.hash(transfer, self.now.after(hashing));
    }

    /// Says `Accepted` each second until the prefix is hashed, and then sends.
    fn hash(&mut self, transfer: TransferId, until: MonotonicMicros) {
        if self.sending_of(transfer).is_none() {
            return;
        }
        self.tell(Event::Accepted { transfer });
        let left = until.since(self.now);
        if left > Duration::from_secs(1) {
            self.after(Duration::from_secs(1), Happening::DeviceHashes { transfer, until });
        } else {
            self.after(left, Happening::DeviceSends { transfer });
        }
    }

    /// Sends one chunk, if credit and line are free; what follows the last is the digest.
    fn send(&mut self) {
        let Some(sending) = &mut self.sending else { return };
        if sending.occupied {
            return;
        }
        let transfer = sending.open.transfer;
        if sending.next == sending.open.end {
            self.sending = None;
            let digest = self.card_digest();
            self.tell(Event::End { transfer, digest });
            return;
        }
        let offset = sending.next;
        let end = sending.limit.min(offset + u64::from(sending.chunk_bytes));
        if end <= offset {
            return;
        }
        sending.next = end;
        sending.occupied = true;
        let echo = MonotonicMicros(sending.echo);
        let place = |offset: u64| usize::try_from(offset - START).unwrap();
        let payload = Bytes::copy_from_slice(&self.card[place(offset)..place(end)]);
        self.sent_bytes += end - offset;
        let on_wire = Duration::from_micros((end - offset) * 1_000_000 / self.bytes_per_second);
        self.tell(Event::Data { transfer, offset, echo, payload });
        self.after(on_wire, Happening::DeviceSends { transfer });
    }
}

fn engine(durable: u64, end: u64, seed: u64) -> Engine {
    let job = PartJob {
        segment: SegmentId(1),
        version: SegmentVersion { size_bytes: end, fingerprint: 2 },
        start: START,
        end,
        durable,
        priority: 0,
        rate_bytes_per_second: 0,
    };
    Engine::new(job, Window::new(), StdRng::seed_from_u64(seed))
}

#[test]
fn undisturbed_transfer_is_opened_once_and_sends_no_byte_twice() {
    for seed in 0..40 {
        let bill = World::new(seed, false).run();
        assert_eq!((bill.resent_bytes, bill.openings), (0, 1), "seed {seed}");
        println!("{} bytes in {:?}", bill.part_bytes, bill.took);
    }
}

#[test]
fn every_transfer_survives_its_failures_and_resends_one_window_per_failure_at_most() {
    let (mut part_bytes, mut resent_bytes, mut lost_bytes) = (0, 0, 0);
    let (mut openings, mut failures, mut most_resent_bytes) = (0, 0, 0);
    for seed in 0..500 {
        let bill = World::new(seed, true).run();
        let reopenings = bill.openings - 1;
        assert!(
            bill.resent_bytes <= reopenings * MAX_WINDOW_BYTES + bill.lost_unsynced_bytes,
            "seed {seed}: {} bytes sent again in {reopenings} openings",
            bill.resent_bytes
        );
        // A cut may cost two: one when it is noticed as silence, one when the device is back.
        assert!(
            reopenings <= 2 * bill.failures,
            "seed {seed}: {reopenings} openings after {} failures",
            bill.failures
        );
        part_bytes += bill.part_bytes;
        resent_bytes += bill.resent_bytes;
        lost_bytes += bill.lost_unsynced_bytes;
        openings += bill.openings;
        failures += bill.failures;
        most_resent_bytes = most_resent_bytes.max(bill.resent_bytes);
    }
    println!(
        "500 transfers of {part_bytes} bytes: {failures} failures, {openings} openings, {resent_bytes} bytes \
         sent again ({lost_bytes} of them lost unsynced), at most {most_resent_bytes} in one"
    );
    assert!(failures > 1000, "the faults no longer happen");
}
