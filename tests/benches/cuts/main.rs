//! What a hole costs over a link that keeps going away, beside what rsync and a plain copy make of the same files.
//!
//! `cargo bench -p tests --bench cuts [-- --minutes N --cut blackhole]`, with `apt-get install rsync`. The link has
//! 20 Mbit/s and 100 ms, and is cut for 10 s of each minute. First Gapless, by the real programs and a real
//! mosquitto, and after each cut where the time went; then rsync, started again at once whenever it fails; then a
//! copy that begins a file anew whenever its connection is lost.

#[path = "../pulling/mod.rs"]
mod pulling;
mod rivals;
mod weather;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use pulling::{Ear, Footage, PATIENCE, Said, merged};
use sdcard_indexer::time::{TimeRange, Timestamp};
use tests::installation::{Installation, Setup};
use tests::link::{Cut, Direction, Lane, Link, Shape};
use tests::naming::Naming;
use weather::{Ran, Weather};

const NAMING: Naming = Naming::MediaMtx;
const LINK_BITS_PER_S: u64 = 20_000_000;
/// 100 ms there and back, and a buffer of as much: with less, a single TCP connection runs it empty after each loss,
/// whatever uses it.
const FAR: Shape =
    Shape::symmetric(Lane { buffer_bytes: 250_000, ..Lane::new(50, LINK_BITS_PER_S) });
/// More than anything that is said besides media.
const FIRST_DATA_BYTES: u64 = 8 << 10;
/// A pull that has brought so much after a cut is at its full speed again.
const UNDER_WAY_BYTES: u64 = 4 << 20;

#[derive(Parser, Debug)]
struct Options {
    /// Set by `cargo bench`; without it nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
    /// Length of the hole; a minute has 30 MB, 12 s of the link
    #[arg(long, default_value_t = 12)]
    minutes: u32,
    /// How long the link is there, each time
    #[arg(long, default_value_t = 50)]
    up_s: u64,
    /// How long it is away, each time
    #[arg(long, default_value_t = 10)]
    down_s: u64,
    /// What becomes of connections: `reset` tells both ends at once, `blackhole` nobody
    #[arg(long, default_value = "reset", value_parser = cut)]
    cut: Cut,
    /// Only Gapless
    #[arg(long)]
    alone: bool,
}

fn cut(text: &str) -> Result<Cut, String> {
    match text {
        "reset" => Ok(Cut::Reset),
        "blackhole" => Ok(Cut::Blackhole),
        _ => Err(format!("`{text}` is neither `reset` nor `blackhole`")),
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if !options.bench {
        println!("measures only under `cargo bench -p tests --bench cuts`");
        return Ok(());
    }
    let weather = Weather {
        up: Duration::from_secs(options.up_s),
        down: Duration::from_secs(options.down_s),
        cut: options.cut,
    };
    let footage = Footage::encode()?;
    let start: Timestamp = "2026-01-01T00:00:00Z".parse()?;
    let setup = Setup { naming: NAMING, link: FAR, expected_from: start };
    let installation = Installation::set_up(&setup).await?;
    let lost_from = footage.record(&installation.card(), NAMING, start, 1)?;
    let lost_to = footage.record(&installation.card(), NAMING, lost_from, options.minutes)?;
    footage.record(&installation.card(), NAMING, lost_to, 1)?;
    footage.record(&installation.archive(), NAMING, start, 1)?;
    footage.record(&installation.archive(), NAMING, lost_to, 1)?;
    let hole = TimeRange::starting_at(lost_from, lost_to.since(lost_from));
    let missing = segments(&installation, hole)?;
    let lengths = missing.iter().map(|path| Ok(fs::metadata(path)?.len()));
    let media_bytes: u64 = lengths.sum::<io::Result<u64>>()?;

    println!(
        "{:.0} MB, 20 Mbit/s, 100 ms; {} s there and {} s away ({:?})",
        media_bytes as f64 / 1e6,
        options.up_s,
        options.down_s,
        options.cut
    );
    let own = pull(&installation, &weather, hole).await?;
    let mut rows = vec![("gapless", own)];
    if !options.alone {
        let target = installation.root("rsync");
        rows.push(("rsync", rivals::rsync(&missing, &target, FAR, &weather).await?));
        let target = installation.root("copies");
        rows.push(("copy", rivals::copy(&missing, &target, FAR, &weather).await?));
    }
    println!(
        "\n{:<10}{:>10}{:>10}{:>7}{:>16}{:>18}",
        "", "s", "s up", "cuts", "share of link", "wire / media"
    );
    for (name, ran) in &rows {
        let share = media_bytes as f64 / (LINK_BITS_PER_S as f64 / 8.0 * ran.up.as_secs_f64());
        println!(
            "{name:<10}{:>10.1}{:>10.1}{:>7}{share:>16.3}{:>18.4}",
            ran.took.as_secs_f64(),
            ran.up.as_secs_f64(),
            ran.cuts,
            ran.sent_bytes as f64 / media_bytes as f64
        );
    }
    if let [(_, own), rest @ ..] = rows.as_slice() {
        for (name, other) in rest {
            let ratio = other.up.as_secs_f64() / own.up.as_secs_f64();
            println!("time with a link, {name} over gapless: {ratio:.2}");
        }
    }
    Ok(())
}

/// The card's segments in `hole`, oldest first.
fn segments(installation: &Installation, hole: TimeRange) -> anyhow::Result<Vec<PathBuf>> {
    let [first, after] =
        [hole.start(), hole.end()].map(|at| installation.card().join(NAMING.path(at)));
    let entries = fs::read_dir(installation.card())?.map(|entry| Ok(entry?.path()));
    let mut paths = entries.collect::<io::Result<Vec<PathBuf>>>()?;
    // Names sort as the instants do that they stand for.
    paths.retain(|path| (&first..&after).contains(&path));
    paths.sort();
    Ok(paths)
}

/// Fills the hole by Gapless, and prints where the time after each cut went.
async fn pull(
    installation: &Installation,
    weather: &Weather,
    hole: TimeRange,
) -> anyhow::Result<Ran> {
    let link = &installation.link;
    link.cut(Cut::Reset);
    let mut ear = Ear::open(installation).await?;
    let mut server = installation.start_server()?;
    server.line("connected to the broker", PATIENCE).await?;
    let mut agent = installation.start_agent()?;
    agent.line("every recording is read", PATIENCE).await?;
    link.restore();
    ear.when(Said::Ordered).await?;
    let mut log = ReturnLog::default();
    let work = async {
        tokio::select! {
            done = merged(&mut server, hole) => done.map(drop),
            broken = follow(link, &mut ear, &mut log) => broken,
        }
    };
    let ran = weather.over(link, work).await?;
    log.show(weather);
    agent.terminate(PATIENCE).await?;
    server.terminate(PATIENCE).await?;
    Ok(ran)
}

/// What was seen of a pull while its link came and went.
#[derive(Default)]
struct ReturnLog {
    /// Bytes per second from the first data to the first cut.
    uncut: Option<f64>,
    returns: Vec<Return>,
}

/// Since the link was back; what did not come before the next cut is `None`.
#[derive(Default)]
struct Return {
    connect: Option<Duration>,
    online: Option<Duration>,
    ordered: Option<Duration>,
    data: Option<Duration>,
    under_way: Option<Duration>,
}

/// Ends with an error only.
async fn follow(link: &Link, ear: &mut Ear, log: &mut ReturnLog) -> anyhow::Result<()> {
    let passed = || link.passed_bytes(Direction::ToServer);
    link.passed(Direction::ToServer, passed() + FIRST_DATA_BYTES).await;
    let (first, before) = (Instant::now(), passed());
    link.is_cut().await;
    log.uncut = Some((passed() - before) as f64 / first.elapsed().as_secs_f64());
    loop {
        let mut up = link.up();
        up.wait_for(|up| *up).await.context("the link is gone")?;
        let (back, before) = (Instant::now(), passed());
        log.returns.push(Return::default());
        let Some(phases) = log.returns.last_mut() else { continue };
        let seeing = async {
            link.passed(Direction::ToServer, before + 1).await;
            phases.connect = Some(back.elapsed());
            phases.online = Some(after(ear, Said::Online, back).await? - back);
            phases.ordered = Some(after(ear, Said::Ordered, back).await? - back);
            link.passed(Direction::ToServer, passed() + FIRST_DATA_BYTES).await;
            phases.data = Some(back.elapsed());
            link.passed(Direction::ToServer, before + UNDER_WAY_BYTES).await;
            phases.under_way = Some(back.elapsed());
            anyhow::Ok(())
        };
        tokio::select! {
            seen = seeing => {
                seen?;
                link.is_cut().await;
            }
            () = link.is_cut() => {}
        }
    }
}

/// When it is said the next time from `since` on: what was said before may still wait to be heard.
async fn after(ear: &mut Ear, wanted: Said, since: Instant) -> anyhow::Result<Instant> {
    loop {
        let when = ear.when(wanted).await?;
        if when >= since {
            return Ok(when);
        }
    }
}

impl ReturnLog {
    fn show(&self, weather: &Weather) {
        let link = LINK_BITS_PER_S as f64 / 8.0;
        if let Some(uncut) = self.uncut {
            println!(
                "\nbefore the first cut: {:.2} MB/s, {:.3} of the link",
                uncut / 1e6,
                uncut / link
            );
        }
        println!(
            "{:<24}{:>9}{:>9}{:>9}{:>9}{:>9}{:>13}",
            "link back to ... (s)", "CONNECT", "online", "order", "data", "4 MiB", "of them lost"
        );
        for (number, seen) in self.returns.iter().enumerate() {
            let shown = |phase: Option<Duration>| {
                phase.map_or("-".to_owned(), |phase| format!("{:.2}", phase.as_secs_f64()))
            };
            // At the speed from before the cut, they would have taken so long.
            let ideal = UNDER_WAY_BYTES as f64 / self.uncut.unwrap_or(link);
            let lost =
                seen.under_way.map_or(weather.up.as_secs_f64(), |took| took.as_secs_f64() - ideal);
            println!(
                "{:<24}{:>9}{:>9}{:>9}{:>9}{:>9}{lost:>13.2}",
                format!("  cut {}", number + 1),
                shown(seen.connect),
                shown(seen.online),
                shown(seen.ordered),
                shown(seen.data),
                shown(seen.under_way),
            );
        }
    }
}
