//! What a server takes for each 1,000 devices: until it knows them, and at rest.
//!
//! `cargo bench -p tests --bench crowd [-- --devices 1000,3000]`. First what its deciding part alone takes, in this
//! process; then the real server with a real mosquitto and simulated devices that share a few connections. Nothing
//! is pulled. The baseline is mosquitto's own work for the same messages.

mod decisions;
mod devices;
mod registered;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;
use devices::{Crowd, Habits};
use reconciler::ledger::ledger_path;
use registered::Registered;
use tests::depot::Depot;
use tests::installation::amend;
use tests::link::Shape;
use tests::mosquitto::Mosquitto;
use tests::naming::Naming;
use tests::process::Process;

/// For the server to say that it is connected, and for it to end.
const PATIENCE: Duration = Duration::from_secs(120);
/// Everything is seen, and only what is said anyway is left to do.
const POLICY: &str = "[[policy]]\nname = \"asked\"\ndevices = [\"*\"]\nmodes = [\"manual\"]\n";
/// Stock mosquitto drops, silently, what is over 1,000 messages: a fleet that comes at once loses its word.
const BROKER: &str = "max_queued_messages 1000000";

#[derive(Parser, Debug)]
struct Options {
    /// Set by `cargo bench`; without it nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
    /// How many devices, one run after the other
    #[arg(long, value_delimiter = ',', default_value = "1000,3000,10000")]
    devices: Vec<usize>,
    /// MQTT connections that they share
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Within how many seconds all of them come
    #[arg(long, default_value_t = 10)]
    arrive_s: u64,
    /// How many of a hundred have news of what they hold, every 10 s
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=100))]
    recording: u8,
    /// Ranges that each device holds, an hour apart
    #[arg(long, default_value_t = 24)]
    ranges: u32,
    /// How long the server is watched, once it knows all
    #[arg(long, default_value_t = 60)]
    watch_s: u64,
    /// For the deciding part alone, the devices stand in the server's configuration
    #[arg(long)]
    listed: bool,
    /// Only the deciding part
    #[arg(long)]
    decisions_only: bool,
    /// Mosquitto with its own limits
    #[arg(long)]
    stock_broker: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if !options.bench {
        println!("measures only under `cargo bench -p tests --bench crowd`");
        return Ok(());
    }
    decisions::heading();
    for &devices in &options.devices {
        decisions::measure(devices, options.ranges, options.listed)?;
    }
    if !options.decisions_only {
        for &devices in &options.devices {
            watch(devices, &options).await?;
        }
    }
    Ok(())
}

/// One server, and `count` devices.
async fn watch(count: usize, options: &Options) -> anyhow::Result<()> {
    let mut depot = Depot::set_up(0, Naming::MediaMtx, Shape::CLEAR, POLICY).await?;
    let limits = if options.stock_broker { "" } else { BROKER };
    depot.mosquitto = Mosquitto::start_with(limits).await?;
    let broker = depot.mosquitto.address();
    let most = count + 1;
    let keys = format!(
        "broker.url = \"mqtt://{broker}\"\nserver.max_devices = {most}\narchive.settle_s = 15\n"
    );
    amend(&depot.config(), &keys)?;
    let mut server = depot.start_server()?;
    server.line("connected to the broker", PATIENCE).await?;

    let habits = Habits {
        arrive: Duration::from_secs(options.arrive_s),
        recording: options.recording,
        ranges: options.ranges,
    };
    let began = Instant::now();
    let crowd = Crowd::gather(broker, count, options.connections, habits).await?;
    let registered = Registered::follow(&ledger_path(&depot.root("state")), count, began).await?;
    let arrival_time = server.processor_time()?;
    println!("\n{count} devices");
    let row = |what: &str, figure: String| println!("  {what:<60}{figure:>12}");
    let seconds = |time: Duration| format!("{:.1}", time.as_secs_f64());
    row("until what each holds is in the ledger, s", seconds(registered.held.last));
    row("until each has a timeline, s", seconds(registered.judged.last));
    row(
        "devices of which that never came",
        format!("{}; {}", registered.held.missing, registered.judged.missing),
    );
    row("CPU s until then", seconds(arrival_time));

    let before = (Work::of(&server)?, Work::of(depot.mosquitto.process())?);
    let (started, said, heard) = (Instant::now(), crowd.said(), crowd.answered());
    let mut latencies = crowd.probe(Duration::from_secs(options.watch_s)).await?;
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    let thousands = count as f64 / 1e3;
    let own = Work::of(&server)?.since(&before.0);
    let brokers = Work::of(depot.mosquitto.process())?.since(&before.1);
    let messages = (crowd.said() - said) as f64 / minutes / 60.0;
    row("messages a second", format!("{messages:.0}"));
    row("questions answered", format!("{}", crowd.answered() - heard));
    let each = own.time.as_secs_f64() / minutes / thousands;
    row("CPU s for 1,000 devices a minute", format!("{each:.2}"));
    let over = own.time.as_secs_f64() / brokers.time.as_secs_f64().max(0.01);
    row("the same over mosquitto's", format!("{over:.1}"));
    for (thread, time) in &own.threads {
        let each = time.as_secs_f64() / minutes / thousands;
        if each >= 0.01 {
            row(&format!("  of it `{thread}`"), format!("{each:.2}"));
        }
    }
    row(
        "MB written for 1,000 devices a minute",
        format!("{:.1}", own.written_bytes as f64 / 1e6 / minutes / thousands),
    );
    latencies.sort();
    let at = |share: f64| {
        let last = latencies.len().saturating_sub(1) as f64;
        latencies.get((last * share) as usize).copied().unwrap_or_default()
    };
    row(
        "a device comes back, until it is asked, s: median; longest",
        format!("{:.2}; {:.2}", at(0.5).as_secs_f64(), at(1.0).as_secs_f64()),
    );
    let mebibytes = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    let (now, most) = (server.resident_bytes()?, server.peak_resident_bytes()?);
    row("RSS in MiB; peak", format!("{}; {}", mebibytes(now), mebibytes(most)));
    row("ledger with its log, MiB", mebibytes(size_of(&depot.root("state"), "ledger")));
    crowd.leave();
    let ending = Instant::now();
    server.terminate(PATIENCE).await?;
    row("until it has ended, s", seconds(ending.elapsed()));
    Ok(())
}

/// Of the files in `folder` whose names begin so.
fn size_of(folder: &Path, name: &str) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(name));
    named.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// What a process has done so far.
struct Work {
    time: Duration,
    /// By their names.
    threads: BTreeMap<String, Duration>,
    written_bytes: u64,
}

impl Work {
    fn of(process: &Process) -> anyhow::Result<Work> {
        let proc = format!("/proc/{}", process.pid()?);
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("{proc}/task"))? {
            // A thread may end while it is looked at.
            let Ok(stat) = fs::read_to_string(entry?.path().join("stat")) else { continue };
            let Some((head, fields)) = stat.rsplit_once(')') else { continue };
            let name = head.split_once('(').map_or("", |(_, name)| name).to_owned();
            let times = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
            let hundredths = times.sum::<Result<u64, _>>()?;
            *threads.entry(name).or_default() += Duration::from_millis(hundredths * 10);
        }
        let io = fs::read_to_string(format!("{proc}/io")).unwrap_or_default();
        let written = io.lines().find_map(|line| line.strip_prefix("wchar: "));
        Ok(Work {
            time: process.processor_time()?,
            threads,
            written_bytes: written.map_or(Ok(0), str::parse)?,
        })
    }

    fn since(self, earlier: &Work) -> Work {
        let mut threads = self.threads;
        for (name, time) in &mut threads {
            *time = time.saturating_sub(earlier.threads.get(name).copied().unwrap_or_default());
        }
        Work {
            time: self.time.saturating_sub(earlier.time),
            threads,
            written_bytes: self.written_bytes - earlier.written_bytes,
        }
    }
}
