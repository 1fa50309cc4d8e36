//! What it costs to look: every endpoint of the API over a large fleet, and the timeline as its range grows.
//!
//! `cargo bench -p tests --bench api [-- --devices 1000 --days 30 --holes 300]`. The real core, ledger and router in
//! this process, without sockets; a month of one-minute segments of each device, with holes in all states. Requests
//! come one after the other while the core goes on ticking, as the server's driver does. What is compared is
//! measured in the same run.

mod fleet;
mod server;

use std::time::{Duration, Instant};

use clap::Parser;
use fleet::Month;
use server::Server;

#[derive(Parser, Debug)]
struct Options {
    /// Set by `cargo bench`; without it nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
    #[arg(long, default_value_t = 1_000)]
    devices: usize,
    #[arg(long, default_value_t = 30)]
    days: i64,
    /// Of each device, in all of its days
    #[arg(long, default_value_t = 300)]
    holes: i64,
    /// Of each kind
    #[arg(long, default_value_t = 100)]
    requests: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if !options.bench {
        println!("measures only under `cargo bench -p tests --bench api`");
        return Ok(());
    }
    let month = Month::new(options.days, options.holes);
    println!(
        "{} devices, {} days, {} stretches each",
        options.devices,
        options.days,
        month.stretches()
    );
    let server = Server::start(&month, options.devices).await?;
    println!("until every timeline is known: {:.1} s", server.ready.as_secs_f64());
    endpoints(&server, &month, &options).await?;
    ranges(&server, &month, &options).await?;
    server.tell_core();
    blobs(&server, options.days).await
}

async fn endpoints(server: &Server, month: &Month, options: &Options) -> anyhow::Result<()> {
    heading("endpoint");
    let stream = "devices/cam-00500/streams/main";
    let range = month.last(24);
    for path in [
        "devices?limit=100".to_owned(),
        "devices?limit=1000".to_owned(),
        "devices/cam-00500".to_owned(),
        format!("{stream}/timeline?{range}&resolution_s=72"),
        format!("{stream}/timeline?limit=10000"),
        format!("{stream}/coverage?limit=10000"),
        format!("{stream}/seams?limit=1000"),
        "gaps?limit=100".to_owned(),
        "gaps?limit=1000".to_owned(),
        "gaps?device=cam-00500&stream=main&limit=200".to_owned(),
        format!("search?device=cam-00500&stream=main&{range}"),
        "jobs".to_owned(),
        "runs".to_owned(),
        "work".to_owned(),
        "policies".to_owned(),
        "next-runs".to_owned(),
    ] {
        measure(server, &format!("/api/v1/{path}"), &path, options.requests).await?;
    }
    for path in ["/metrics", "/readyz"] {
        measure(server, path, path, options.requests).await?;
    }
    Ok(())
}

/// The same stream, looked at ever farther back.
async fn ranges(server: &Server, month: &Month, options: &Options) -> anyhow::Result<()> {
    heading("timeline of");
    for (name, hours) in
        [("an hour", 1), ("a day", 24), ("a week", 168), ("all days", 24 * options.days)]
    {
        let range = month.last(hours);
        let resolution = hours as f64 * 3_600.0 / 1_200.0;
        let path = format!("/api/v1/devices/cam-00500/streams/main/timeline?{range}&limit=10000");
        measure(server, &path, name, options.requests).await?;
        let coarse = format!("{path}&resolution_s={resolution}");
        measure(server, &coarse, &format!("{name}, 1,200 steps"), options.requests).await?;
    }
    Ok(())
}

/// What a timeline costs the ledger, as it grows: it is one document.
async fn blobs(server: &Server, days: i64) -> anyhow::Result<()> {
    println!("\n{:<40}{:>10}{:>12}{:>12}", "timeline in the ledger", "stretches", "KiB", "ms");
    for (name, days) in
        [("a day", 1), ("a week", 7), ("all days", days), ("ten times that", 10 * days)]
    {
        let month = Month::new(days, 10 * days);
        let (stretches, bytes, took) = server.record(&month).await?;
        println!(
            "{name:<40}{stretches:>10}{:>12.1}{:>12.2}",
            bytes as f64 / 1_024.0,
            took.as_secs_f64() * 1e3
        );
    }
    Ok(())
}

fn heading(what: &str) {
    println!("\n{what:<60}{:>9}{:>9}{:>9}{:>9}", "p50 ms", "p99 ms", "core us", "KiB");
}

async fn measure(server: &Server, path: &str, name: &str, requests: usize) -> anyhow::Result<()> {
    server.core.take();
    let (mut times, mut bytes) = (Vec::with_capacity(requests), 0);
    for _ in 0..requests {
        let began = Instant::now();
        bytes = server.get(path).await?;
        times.push(began.elapsed());
    }
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let held = server.core.take();
    let core = held.as_secs_f64() * 1e6 / requests as f64;
    println!(
        "{name:<60}{:>9.2}{:>9.2}{core:>9.0}{:>9.1}",
        at(0.5),
        at(0.99),
        bytes as f64 / 1_024.0
    );
    Ok(())
}

/// How long the core was held up by orders since this was last asked.
#[derive(Clone, Debug, Default)]
struct HeldUp(std::sync::Arc<std::sync::Mutex<Duration>>);

impl HeldUp {
    fn add(&self, more: Duration) {
        *self.0.lock().expect("nobody panics with it") += more;
    }

    fn take(&self) -> Duration {
        std::mem::take(&mut *self.0.lock().expect("nobody panics with it"))
    }
}
