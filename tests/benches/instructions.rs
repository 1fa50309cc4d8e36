//! How many instructions the agent takes for what it serves, beside reading and hashing the same bytes.
//!
//! `cargo bench -p tests --bench instructions [-- --minutes N]`, with `apt-get install valgrind b3sum`. Everything
//! runs under callgrind, twice: over N minutes of footage and over twice as many, so that the difference is
//! what the bytes themselves take. Instructions in user mode only, of the machine it runs on; a busy one counts
//! no more than an idle one.

mod pulling;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use pulling::{Ear, Footage, PATIENCE, Said, merged};
use sdcard_indexer::time::{TimeRange, Timestamp};
use tests::artifacts::tool;
use tests::installation::{Installation, Setup, amend};
use tests::link::Shape;
use tests::naming::Naming;
use tests::process::until;

const NAMING: Naming = Naming::MediaMtx;
const MEBIBYTE: u64 = 1 << 20;
/// The agent hashes what is sealed at 8 MiB a second, once it is 10 s old.
const HASHED_WITHIN: Duration = Duration::from_secs(300);
/// Of each block of 1 MiB that is sealed, its digest is kept, shortened.
const DIGEST_BYTES: u64 = 16;

#[derive(Parser, Debug)]
struct Options {
    /// Set by `cargo bench`; without it nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
    /// What is served in the shorter run; a minute has 30 MB
    #[arg(long, default_value_t = 2)]
    minutes: u32,
    /// Keep what callgrind found of the agent in this folder, for `callgrind_annotate`
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Options { bench, minutes, keep } = Options::parse();
    if !bench {
        println!("measures only under `cargo bench -p tests --bench instructions`");
        return Ok(());
    }
    let footage = Footage::encode()?;
    let directory = tempfile::tempdir()?;
    let counts = keep.as_deref().unwrap_or(directory.path());
    let sealed = serve(&footage, minutes, true, counts).await?;
    let unsealed = serve(&footage, minutes, false, counts).await?;
    let rows = [
        ("cat", vec!["cat"]),
        ("sha256sum", vec!["sha256sum"]),
        ("b3sum", vec!["b3sum", "--num-threads", "1"]),
    ];
    let mut rivals = Vec::new();
    for (name, command) in rows {
        rivals.push((name, read(&footage, minutes, &command, directory.path())?));
    }

    let row = |what: &str, count: f64| println!("{what:<56}{:>10.3}", count / 1e6);
    println!("{:<56}{:>10}", "million instructions for each MiB", "");
    row("agent, each block compared with its digest of the seal", sealed);
    row("agent, without such digests", unsealed);
    rivals.iter().for_each(|(name, count)| row(name, *count));
    let count = |wanted: &str| rivals.iter().find(|(name, _)| *name == wanted).map(|(_, n)| *n);
    let cat = count("cat").context("cat was counted")?;
    for name in ["sha256sum", "b3sum"] {
        let baseline = count(name).context("it was counted")? + cat;
        println!(
            "agent over {name} + cat: {:.2}; without such digests {:.2}",
            sealed / baseline,
            unsealed / baseline
        );
    }
    Ok(())
}

/// What serving takes, for each MiB.
async fn serve(
    footage: &Footage,
    minutes: u32,
    seal_digest: bool,
    counts: &Path,
) -> anyhow::Result<f64> {
    let name = if seal_digest { "sealed" } else { "unsealed" };
    let mut runs = Vec::new();
    for served in [minutes, 2 * minutes] {
        let count = counts.join(format!("callgrind.{name}.{served}"));
        runs.push(serve_once(footage, 2 * minutes, served, seal_digest, &count).await?);
    }
    let [(bytes, few), (more_bytes, many)] = runs[..] else { anyhow::bail!("two runs") };
    Ok(per_mebibyte(many, few, more_bytes - bytes))
}

fn per_mebibyte(many: u64, few: u64, bytes: u64) -> f64 {
    many.saturating_sub(few) as f64 * MEBIBYTE as f64 / bytes as f64
}

/// Serves the last `served` of `minutes` on a card that is known already; how many bytes, and instructions.
async fn serve_once(
    footage: &Footage,
    minutes: u32,
    served: u32,
    seal_digest: bool,
    count: &Path,
) -> anyhow::Result<(u64, u64)> {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse()?;
    let setup = Setup { naming: NAMING, link: Shape::CLEAR, expected_from: start };
    let installation = Installation::set_up(&setup).await?;
    let broker = installation.mosquitto.address();
    let keys = format!("broker.url = \"mqtt://{broker}\"\nindex.seal_digest = {seal_digest}");
    amend(&installation.agent_config(), &keys)?;
    // Only what is sealed before its eyes is hashed, and only of what was there at its start it says that all is read.
    let mut early = None;
    if seal_digest {
        let mut agent = installation.start_agent()?;
        agent.line("card surveyed", PATIENCE).await?;
        early = Some(agent);
    }
    let end = footage.record(&installation.card(), NAMING, start, minutes + 2)?;
    let kept = 1 + minutes - served;
    let lost_from = footage.record(&installation.archive(), NAMING, start, kept)?;
    let lost_to = lost_from.saturating_add(Duration::from_secs(60) * served);
    footage.record(&installation.archive(), NAMING, lost_to, 1)?;
    let segment_bytes = fs::metadata(installation.card().join(NAMING.path(start)))?.len();

    let mut agent = match early {
        Some(agent) => {
            let digests = installation.root("card/.gapless");
            let blocks = segment_bytes.div_ceil(MEBIBYTE) * u64::from(minutes + 2);
            let hashed =
                async || (bytes_of_digests(&digests) > blocks * DIGEST_BYTES).then_some(());
            until("everything is hashed", HASHED_WITHIN, hashed).await?;
            agent
        }
        None => {
            let mut agent = installation.start_agent()?;
            agent.line("every recording is read", PATIENCE).await?;
            agent
        }
    };
    agent.terminate(PATIENCE).await?;

    let mut ear = Ear::open(&installation).await?;
    let mut server = installation.start_server()?;
    let out = format!("--callgrind-out-file={}", count.display());
    let mut agent =
        installation.start_agent_under(&tool("valgrind")?, &["--tool=callgrind", &out])?;
    ear.when(Said::Ordered).await?;
    let hole = TimeRange::starting_at(lost_from, lost_to.since(lost_from));
    merged(&mut server, hole).await?;
    agent.terminate(PATIENCE).await?;
    let whole = TimeRange::starting_at(start, end.since(start));
    installation.complete(whole, PATIENCE).await?;
    Ok((segment_bytes * u64::from(served), total(count)?))
}

/// Of an index that has one day of recordings.
fn bytes_of_digests(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let digests = entries.filter(|entry| entry.path().extension() == Some("digests".as_ref()));
    digests.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// What `command FILE` takes, for each MiB.
fn read(footage: &Footage, minutes: u32, command: &[&str], folder: &Path) -> anyhow::Result<f64> {
    let (program, arguments) = command.split_first().context("a command has a name")?;
    let program = tool(program).context("`apt-get install valgrind b3sum`")?;
    let naming = Naming::MediaMtx;
    let recorded = folder.join("minute");
    let start = Timestamp::UNIX_EPOCH;
    footage.record(&recorded, naming, start, 1)?;
    let minute = fs::read(recorded.join(naming.path(start)))?;
    let mut runs = Vec::new();
    for repeated in [minutes, 2 * minutes] {
        let path = folder.join("footage");
        let mut file = File::create(&path)?;
        (0..repeated).try_for_each(|_| file.write_all(&minute))?;
        let count = folder.join("callgrind.rival");
        let mut valgrind = Command::new(tool("valgrind")?);
        valgrind.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", count.display()));
        valgrind.arg(&program).args(arguments).arg(&path);
        let status = valgrind.stdout(Stdio::null()).stderr(Stdio::null()).status();
        ensure!(status.context("valgrind cannot be run")?.success(), "{valgrind:?} failed");
        runs.push(total(&count)?);
    }
    let [few, many] = runs[..] else { anyhow::bail!("two runs") };
    Ok(per_mebibyte(many, few, minute.len() as u64 * u64::from(minutes)))
}

/// All instructions that callgrind counted.
fn total(path: &Path) -> anyhow::Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    Ok(total.context("callgrind has counted nothing")?.trim().parse()?)
}
