//! How fast a hole is filled by the real programs, beside what the same bytes take over plain TCP.
//!
//! `cargo bench -p tests --bench pull [-- --minutes N]`. A real mosquitto stands between. First straight over
//! the loopback, against file to socket to file, made durable file by file; then through a link of 20 Mbit/s
//! and 100 ms, against that link's rate.

mod pulling;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use pulling::{Ear, Footage, PATIENCE, Said, merged};
use sdcard_indexer::time::{TimeRange, Timestamp};
use tests::installation::{Installation, Setup, amend};
use tests::link::{Cut, Direction, Lane, Shape};
use tests::naming::Naming;

const NAMING: Naming = Naming::MediaMtx;
const LINK_BITS_PER_S: u64 = 20_000_000;
/// 100 ms there and back.
const FAR: Shape =
    Shape::symmetric(Lane { buffer_bytes: 250_000, ..Lane::new(50, LINK_BITS_PER_S) });

#[derive(Parser, Debug)]
struct Options {
    /// Set by `cargo bench`; without it nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
    /// Length of the hole on the loopback; a minute has 30 MB
    #[arg(long, default_value_t = 12)]
    minutes: u32,
    /// Length of the hole behind the slow link
    #[arg(long, default_value_t = 3)]
    far_minutes: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if !options.bench {
        println!("measures only under `cargo bench -p tests --bench pull`");
        return Ok(());
    }
    let footage = Footage::encode()?;
    let (near, copied) = Pull::measure(&footage, None, options.minutes).await?;
    near.show("loopback", "plain TCP copy", speed(near.media_bytes, copied));
    let (far, _) = Pull::measure(&footage, Some(FAR), options.far_minutes).await?;
    far.show("20 Mbit/s, 100 ms", "the link's rate", LINK_BITS_PER_S as f64 / 8e6);
    Ok(())
}

/// What one pull took.
struct Pull {
    media_bytes: u64,
    /// From the first order to send to the last piece in its place.
    took: Duration,
    through: Option<Through>,
    agent_time: Duration,
    server_time: Duration,
    agent_peak_bytes: u64,
    server_peak_bytes: u64,
}

/// What only a link in between can tell.
struct Through {
    link_bytes: u64,
    /// From its return until the device had said that it is there.
    online: Duration,
    /// From its return until the server ordered the first bytes.
    ordered: Duration,
}

impl Pull {
    /// Beside it, how long the same bytes took over plain TCP.
    async fn measure(
        footage: &Footage,
        link: Option<Shape>,
        minutes: u32,
    ) -> anyhow::Result<(Pull, Duration)> {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse()?;
        let setup =
            Setup { naming: NAMING, link: link.unwrap_or(Shape::CLEAR), expected_from: start };
        let installation = Installation::set_up(&setup).await?;
        let lost_from = footage.record(&installation.card(), NAMING, start, 1)?;
        let lost_to = footage.record(&installation.card(), NAMING, lost_from, minutes)?;
        let end = footage.record(&installation.card(), NAMING, lost_to, 1)?;
        footage.record(&installation.archive(), NAMING, start, 1)?;
        footage.record(&installation.archive(), NAMING, lost_to, 1)?;
        let hole = TimeRange::starting_at(lost_from, lost_to.since(lost_from));
        let (media_bytes, copy_took) = copy(&installation, hole)?;

        installation.link.cut(Cut::Reset);
        if link.is_none() {
            let broker = installation.mosquitto.address();
            amend(&installation.agent_config(), &format!("broker.url = \"mqtt://{broker}\""))?;
        }
        let mut ear = Ear::open(&installation).await?;
        let mut server = installation.start_server()?;
        server.line("connected to the broker", PATIENCE).await?;
        let mut agent = installation.start_agent()?;
        agent.line("every recording is read", PATIENCE).await?;

        let up = Instant::now();
        installation.link.restore();
        let online = ear.when(Said::Online).await?;
        let ordered = ear.when(Said::Ordered).await?;
        let before = (agent.processor_time()?, server.processor_time()?);
        let done = merged(&mut server, hole).await?;
        let pull = Pull {
            media_bytes,
            took: done - ordered,
            through: link.is_some().then(|| Through {
                link_bytes: installation.link.passed_bytes(Direction::ToServer),
                online: online - up,
                ordered: ordered - up,
            }),
            agent_time: agent.processor_time()? - before.0,
            server_time: server.processor_time()? - before.1,
            agent_peak_bytes: agent.peak_resident_bytes()?,
            server_peak_bytes: server.peak_resident_bytes()?,
        };
        let whole = TimeRange::starting_at(start, end.since(start));
        installation.complete(whole, PATIENCE).await?;
        Ok((pull, copy_took))
    }

    fn show(&self, name: &str, against: &str, against_speed: f64) {
        let megabytes = self.media_bytes as f64 / 1e6;
        let own = speed(self.media_bytes, self.took);
        println!("\n{name}: {megabytes:.0} MB in {:.1} s", self.took.as_secs_f64());
        let row = |what: &str, figure: String| println!("  {what:<44}{figure:>12}");
        row("MB/s", format!("{own:.1}"));
        row(&format!("MB/s, {against}"), format!("{against_speed:.1}"));
        row("ratio", format!("{:.2}", own / against_speed));
        let per_gigabyte = |time: Duration| format!("{:.2}", time.as_secs_f64() * 1e3 / megabytes);
        row("agent, CPU s/GB", per_gigabyte(self.agent_time));
        row("server, CPU s/GB", per_gigabyte(self.server_time));
        let mebibytes = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
        row("agent, peak RSS in MiB", mebibytes(self.agent_peak_bytes));
        row("server, peak RSS in MiB", mebibytes(self.server_peak_bytes));
        if let Some(Through { link_bytes, online, ordered }) = &self.through {
            let share = *link_bytes as f64 / self.media_bytes as f64;
            row("bytes on the link / bytes of media", format!("{share:.4}"));
            row("link back to device online, s", format!("{:.2}", online.as_secs_f64()));
            row("link back to first bytes ordered, s", format!("{:.2}", ordered.as_secs_f64()));
        }
    }
}

fn speed(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}

/// The card's segments in `hole` from file to socket to file; how many bytes, and how long it took.
fn copy(installation: &Installation, hole: TimeRange) -> anyhow::Result<(u64, Duration)> {
    let [first, after] =
        [hole.start(), hole.end()].map(|at| installation.card().join(NAMING.path(at)));
    let mut paths = fs::read_dir(installation.card())?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<PathBuf>>>()?;
    // Names sort as the instants do that they stand for.
    paths.retain(|path| (&first..&after).contains(&path));
    paths.sort();
    let target = installation.root("copies");
    fs::create_dir(&target)?;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (receiver, _) = listener.accept()?;
    let sizes = paths.iter().map(|path| Ok(fs::metadata(path)?.len()));
    let sizes: Vec<u64> = sizes.collect::<io::Result<_>>()?;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| receive(receiver, &target, &sizes));
        for path in &paths {
            sender.write_all(&fs::read(path)?)?;
        }
        receiving.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))?
    })?;
    let took = began.elapsed();
    fs::remove_dir_all(target)?;
    Ok((sizes.iter().sum(), took))
}

fn receive(mut from: TcpStream, target: &Path, sizes: &[u64]) -> anyhow::Result<()> {
    for (number, &size) in sizes.iter().enumerate() {
        let mut file = File::create(target.join(number.to_string()))?;
        let mut left = size;
        let mut buffer = vec![0; 64 * 1024];
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = from.read(&mut buffer[..most])?;
            anyhow::ensure!(count > 0, "the sender broke off");
            file.write_all(&buffer[..count])?;
            left -= count as u64;
        }
        file.sync_data()?;
    }
    Ok(())
}
