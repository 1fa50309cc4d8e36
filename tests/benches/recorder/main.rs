//! How long a recorder waits for its card, with an agent beside it that serves that card as fast as it can.
//!
//! `TMPDIR=/dev/shm cargo bench -p tests --bench recorder [-- --disk FOLDER]`, as root, with `apt-get install ffmpeg
//! mosquitto util-linux e2fsprogs`. The card is an ext4 of its own in a file below `--disk`, behind a loop device past
//! the page cache; the writer is [`writer`], the real agent answers to [`puller`]. Rows of one run are to be compared,
//! the first with the last of all: what these differ by is noise.

mod disk;
mod puller;
#[path = "../pulling/mod.rs"]
#[allow(dead_code, reason = "other benches need more of it")]
mod pulling;
mod writer;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use disk::Disk;
use puller::Puller;
use pulling::{Footage, PATIENCE};
use sdcard_indexer::recordings::OpenRecording;
use sdcard_indexer::time::{TimeRange, Timestamp};
use tests::artifacts::tool;
use tests::installation::{Installation, STREAM, Setup, amend};
use tests::link::Shape;
use tests::naming::Naming;
use writer::Waits;

const NAMING: Naming = Naming::MediaMtx;
/// A minute of footage, and what the writer and the file system take besides.
const MINUTE_BYTES: u64 = 34 << 20;
const REST_BYTES: u64 = 256 << 20;
const CAP_BYTES_PER_SECOND: u64 = 2 << 20;

#[derive(Parser, Debug)]
struct Options {
    /// Set by `cargo bench`; without it nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
    /// Where the card's image is put: a folder on a disk
    #[arg(long, default_value = "/var/tmp")]
    disk: PathBuf,
    /// Of each row
    #[arg(long, default_value_t = 26)]
    seconds: u64,
    /// What is on the card; a minute has 30 MB
    #[arg(long, default_value_t = 10)]
    minutes: u32,
    /// The card's scheduler, as far as the kernel has it
    #[arg(long, default_value = "bfq")]
    scheduler: String,
}

/// How the agent is started, and told.
struct Manner {
    name: &'static str,
    keys: &'static str,
    idle: bool,
}

const MANNERS: [Manner; 3] = [
    Manner { name: "agent, as it is installed", keys: "spare_recorder = true", idle: true },
    Manner { name: "agent, no courtesies", keys: "spare_recorder = false", idle: false },
    Manner { name: "agent, as installed, 2 MiB/s", keys: "spare_recorder = true", idle: true },
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if !options.bench {
        println!("measures only under `cargo bench -p tests --bench recorder`");
        return Ok(());
    }
    let device =
        |path: &Path| fs::metadata(path).map(|it| std::os::unix::fs::MetadataExt::dev(&it));
    let apart = device(&std::env::temp_dir())? != device(&options.disk)?;
    ensure!(apart, "set TMPDIR=/dev/shm: what else is written must not be measured");
    let footage = Footage::encode()?;
    let bytes = MINUTE_BYTES * u64::from(options.minutes) + REST_BYTES;
    let disk = Disk::mount(&options.disk, bytes, &options.scheduler)?;
    let start: Timestamp = "2026-01-01T00:00:00Z".parse()?;
    let setup = Setup { naming: NAMING, link: Shape::CLEAR, expected_from: start };
    let installation = Installation::set_up(&setup).await?;
    let recordings = disk.root().join(STREAM);
    let end = footage.record(&recordings, NAMING, start, options.minutes)?;
    let minutes = (0..options.minutes).map(|minute| Duration::from_secs(60) * minute);
    let files = minutes.map(|passed| recordings.join(NAMING.path(start.saturating_add(passed))));
    let files: Vec<PathBuf> = files.collect();
    for path in &files {
        let file = File::open(path)?;
        file.sync_all()?;
        file.forget_cached()?;
    }

    let length = Duration::from_secs(options.seconds);
    println!(
        "8 Mbit/s in {} fragments a second, each made durable, for {length:?} a row; ext4 on a loop device, \
         scheduler {}\n",
        writer::FRAGMENTS_PER_SECOND,
        disk.scheduler
    );
    println!(
        "{:<32}{:>8}{:>8}{:>8}{:>22}{:>8}",
        "ms", "p50", "p99", "max", "p50, p99, max: ratio", "MB/s"
    );
    let written = disk.root().join("recorder");
    let alone = record(&written, length).await?;
    show("writer alone", &alone, &alone, None);
    for manner in &MANNERS {
        // However its last frame is counted.
        let range = TimeRange::starting_at(start, end.since(start) - Duration::from_secs(1));
        let (waits, bytes) =
            beside(&installation, &disk, manner, range, &files, &written, length).await?;
        show(manner.name, &waits, &alone, Some(bytes as f64 / 1e6 / length.as_secs_f64()));
    }
    show("writer alone, again", &record(&written, length).await?, &alone, None);
    Ok(())
}

async fn record(folder: &Path, length: Duration) -> anyhow::Result<Waits> {
    let folder = folder.to_owned();
    Ok(tokio::task::spawn_blocking(move || Waits::record(&folder, length)).await??)
}

/// The writer's waits, and what was served meanwhile.
async fn beside(
    installation: &Installation,
    disk: &Disk,
    manner: &Manner,
    range: TimeRange,
    files: &[PathBuf],
    written: &Path,
    length: Duration,
) -> anyhow::Result<(Waits, u64)> {
    let broker = installation.mosquitto.address();
    let cap = if manner.name.ends_with("MiB/s") { CAP_BYTES_PER_SECOND } else { 0 };
    amend(
        &installation.agent_config(),
        &format!(
            "broker.url = \"mqtt://{broker}\"\nlimits.card_bytes_per_second = {cap}\n\
             [card]\nroot = {:?}\n{}\n",
            disk.root(),
            manner.keys
        ),
    )?;
    let mut agent = if manner.idle {
        // As the init script and the unit do.
        installation.start_agent_under(&tool("ionice")?, &["-c", "3", "nice", "-n", "10"])?
    } else {
        installation.start_agent()?
    };
    let mut puller = Puller::meet(installation, range, files).await?;
    let (waits, bytes) = tokio::join!(record(written, length), puller.pull(length));
    let ended = agent.terminate(PATIENCE).await.context("the agent does not end")?;
    ensure!(ended.success(), "the agent ended with {ended}");
    Ok((waits?, bytes?))
}

fn show(name: &str, waits: &Waits, alone: &Waits, served: Option<f64>) {
    let of =
        |waits: &Waits| [50, 99, 100].map(|percent| waits.percentile(percent).as_secs_f64() * 1e3);
    let ([p50, p99, most], base) = (of(waits), of(alone));
    let ratios = [p50 / base[0], p99 / base[1], most / base[2]].map(|ratio| format!("{ratio:.2}"));
    let served = served.map_or(String::new(), |rate| format!("{rate:.1}"));
    println!("{name:<32}{p50:>8.1}{p99:>8.1}{most:>8.1}{:>22}{served:>8}", ratios.join(", "));
}
