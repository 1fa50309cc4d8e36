//! The deciding part of the server alone, in this process: what one input costs among so many devices.

use std::path::Path;
use std::time::{Duration, Instant};

use protocol::topic::Topic;
use rand::SeedableRng;
use rand::rngs::StdRng;
use reconciler::archive::{ArchiveChange, Archived};
use reconciler::config::Config;
use reconciler::fleet::StreamKey;
use reconciler::ledger::Memory;
use reconciler::link::Inbound;
use reconciler::reconcile::{Action, Core, Input};
use reconciler::time::{MonotonicMicros, Now};
use sdcard_indexer::time::Timestamp;

use super::devices::{Device, stream};

/// Of the server's clock: four looks at everything.
const TICKS: u64 = 64;
/// As the server's driver ticks.
const TICK: Duration = Duration::from_millis(250);
/// A slow machine measures fewer ticks.
const LONGEST: Duration = Duration::from_secs(20);

pub fn heading() {
    println!("the deciding part alone, in microseconds for one input:");
    println!(
        "{:<10}{:>12}{:>12}{:>12}{:>14}{:>14}{:>16}",
        "devices", "online", "coverage", "archive", "tick, mean", "tick, worst", "entries a s"
    );
}

/// `listed`: the devices stand in the configuration, and are not adopted.
pub fn measure(devices: usize, ranges: u32, listed: bool) -> anyhow::Result<()> {
    let mut time = Time { wall: wall(), micros: 1_000_000 };
    let crowd: Vec<Device> = (0..devices).map(|number| Device::new(number, ranges)).collect();
    let config = config(&crowd, listed)?;
    let memory = Memory {
        devices: Vec::new(),
        streams: Vec::new(),
        jobs: Vec::new(),
        runs: Vec::new(),
        policies: Vec::new(),
        last_part: 0,
    };
    let (mut core, _) = Core::resume(config, memory, StdRng::seed_from_u64(7), time.now());

    let online = each(&crowd, |device| {
        let payload = device.online(time.now().wall)?;
        core.handle(message(&Topic::State(device.id.clone()), payload), time.now());
        Ok(())
    })?;
    let coverage = each(&crowd, |device| {
        let payload = device.coverage(time.now().wall)?;
        core.handle(message(&Topic::Coverage(device.id.clone()), payload), time.now());
        Ok(())
    })?;
    let archive = each(&crowd, |device| {
        let key = StreamKey { device: device.id.clone(), stream: stream() };
        let change = ArchiveChange { key, archived: Archived::default() };
        core.handle(Input::Archive(change), time.now());
        Ok(())
    })?;

    let (began, first) = (Instant::now(), time.micros);
    let (mut ticks, mut worst, mut spent, mut entries) = (0, Duration::ZERO, Duration::ZERO, 0);
    while ticks < TICKS && began.elapsed() < LONGEST {
        time.pass(TICK);
        let at = Instant::now();
        let actions = core.handle(Input::Tick, time.now());
        let took = at.elapsed();
        (ticks, worst, spent) = (ticks + 1, worst.max(took), spent + took);
        entries += actions.iter().filter(|action| matches!(action, Action::Record(_))).count();
    }
    let seconds = (time.micros - first) as f64 / 1e6;
    println!(
        "{devices:<10}{online:>12.1}{coverage:>12.1}{archive:>12.1}{:>14.0}{:>14.0}{:>16.0}",
        spent.as_secs_f64() * 1e6 / ticks.max(1) as f64,
        worst.as_secs_f64() * 1e6,
        entries as f64 / seconds,
    );
    Ok(())
}

/// Microseconds for one device, on average.
fn each(
    crowd: &[Device],
    mut input: impl FnMut(&Device) -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let began = Instant::now();
    crowd.iter().try_for_each(&mut input)?;
    Ok(began.elapsed().as_secs_f64() * 1e6 / crowd.len().max(1) as f64)
}

fn message(topic: &Topic, payload: Vec<u8>) -> Input {
    Input::Inbound(Inbound::Message { topic: topic.to_string(), payload: payload.into() })
}

fn config(crowd: &[Device], listed: bool) -> anyhow::Result<Config> {
    let policy = super::POLICY;
    let mut text = format!("[server]\nmax_devices = {}\n\n{policy}\n", crowd.len() + 1);
    if listed {
        let device = |device: &Device| {
            format!("[[device]]\nid = \"{}\"\nstreams = [\"{}\"]\n", device.id, stream())
        };
        text.extend(crowd.iter().map(device));
    }
    Ok(Config::parse(&text, Path::new("gapless.toml"))?)
}

fn wall() -> Timestamp {
    Timestamp::from_jiff(jiff::Timestamp::now())
}

/// A clock that passes when it is told to.
struct Time {
    wall: Timestamp,
    micros: u64,
}

impl Time {
    fn now(&self) -> Now {
        Now { wall: self.wall, monotonic: MonotonicMicros(self.micros) }
    }

    fn pass(&mut self, duration: Duration) {
        self.wall = self.wall.saturating_add(duration);
        self.micros = self.micros.saturating_add(duration.as_micros() as u64);
    }
}
