//! What agent and server keep in memory for a large card: after a first scan, at rest, and while pulling.
//!
//! `cargo bench -p tests --bench resident [-- --files N]`. The real programs, with a real mosquitto. The card
//! holds that many segments of 2 s, and then some minutes of a real camera's weight that the archive misses.

mod pulling;

use std::fs::{self, File};
use std::io::Write;
use std::time::Duration;

use clap::Parser;
use pulling::{Ear, Footage, PATIENCE, Said, merged};
use sdcard_indexer::time::{TimeRange, Timestamp};
use tests::cards::Card;
use tests::installation::{Installation, Setup};
use tests::link::Shape;
use tests::naming::Naming;
use tests::process::Process;

const NAMING: Naming = Naming::DayHour;
const SEGMENT_SECONDS: u32 = 2;
/// A program that was left alone for so long is at rest.
const REST: Duration = Duration::from_secs(5);

#[derive(Parser, Debug)]
struct Options {
    /// Set by `cargo bench`; without it nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
    /// Short segments on the card, and in the archive
    #[arg(long, default_value_t = 35_000)]
    files: u32,
    /// What the archive misses; a minute has 30 MB
    #[arg(long, default_value_t = 6)]
    minutes: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Options { bench, files, minutes } = Options::parse();
    if !bench {
        println!("measures only under `cargo bench -p tests --bench resident`");
        return Ok(());
    }
    let footage = Footage::encode()?;
    let start: Timestamp = "2026-01-01T00:00:00Z".parse()?;
    let setup = Setup { naming: NAMING, link: Shape::CLEAR, expected_from: start };
    let installation = Installation::set_up(&setup).await?;
    println!("{:<48}{:>10}{:>10}", "MiB", "RSS", "peak");

    let agent = start_agent(&installation).await?;
    show("agent, empty card, at rest", &agent).await?;
    stop(agent).await?;

    let hole = record(&installation, &footage, start, files, minutes)?;
    let mut agent = start_agent(&installation).await?;
    agent.line("every recording is read", PATIENCE).await?;
    show(&format!("agent, after a first scan of {files}"), &agent).await?;
    stop(agent).await?;

    let agent = start_agent(&installation).await?;
    show("agent, after a warm start", &agent).await?;

    forget_peak(&agent)?;
    let mut server = installation.start_server()?;
    merged(&mut server, hole).await?;
    show(&format!("agent, after being pulled {minutes} minutes from"), &agent).await?;
    show("server, after that and its own first scan", &server).await?;
    stop(agent).await?;
    forget_peak(&server)?;
    show("server, at rest", &server).await
}

/// Returns once it has told what it holds.
async fn start_agent(installation: &Installation) -> anyhow::Result<Process> {
    let mut ear = Ear::open(installation).await?;
    let agent = installation.start_agent()?;
    ear.when(Said::Coverage).await?;
    Ok(agent)
}

async fn stop(mut agent: Process) -> anyhow::Result<()> {
    let status = agent.terminate(PATIENCE).await?;
    anyhow::ensure!(status.success(), "the agent ended with {status}");
    Ok(())
}

/// A card of `files` short segments, `minutes` of a minute each and a last short one; an archive of the same
/// but for the minutes, which are the answer.
fn record(
    installation: &Installation,
    footage: &Footage,
    start: Timestamp,
    files: u32,
    minutes: u32,
) -> anyhow::Result<TimeRange> {
    let card = Card::new(&installation.card(), NAMING);
    let recorded = card.fill(start, files, SEGMENT_SECONDS)?;
    let lost_from = recorded.end();
    let lost_to = footage.record(&installation.card(), NAMING, lost_from, minutes)?;
    card.segment(lost_to, SEGMENT_SECONDS)?;

    let length = Duration::from_secs(SEGMENT_SECONDS.into());
    let short = (0..files).map(|number| start.saturating_add(length * number)).chain([lost_to]);
    for path in short.map(|start| NAMING.path(start)) {
        let archived = installation.archive().join(&path);
        fs::create_dir_all(archived.parent().unwrap_or(&archived))?;
        fs::hard_link(installation.card().join(&path), archived)?;
    }
    Ok(TimeRange::starting_at(lost_from, lost_to.since(lost_from)))
}

/// What it has once it was left alone, and the most it ever had.
async fn show(when: &str, process: &Process) -> anyhow::Result<()> {
    tokio::time::sleep(REST).await;
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (now, most) = (process.resident_bytes()?, process.peak_resident_bytes()?);
    println!("{when:<48}{:>10.1}{:>10.1}", mebibytes(now), mebibytes(most));
    Ok(())
}

/// From here on the most it has is counted anew (proc(5), `clear_refs`).
fn forget_peak(process: &Process) -> anyhow::Result<()> {
    let mut file =
        File::options().write(true).open(format!("/proc/{}/clear_refs", process.pid()?))?;
    Ok(file.write_all(b"5")?)
}
