//! What a camera's live stream feels of a pull through the same uplink, and of a plain upload in its place.
//!
//! `cargo bench -p tests --bench live [-- --minutes N]`. The uplink has 4 Mbit/s, of which a constant stream of
//! datagrams, as RTP sends them, takes one; 20 ms each way; and the buffer of a careful modem, or of a careless
//! one. The stream is measured alone, beside a TCP upload that takes all it gets, and beside the real agent,
//! mosquitto and server. Delays are one way, from the camera to the viewer's side of the link.

mod pulling;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use pulling::{Ear, Footage, PATIENCE, Said, merged};
use sdcard_indexer::time::{TimeRange, Timestamp};
use tests::installation::{Installation, Setup};
use tests::link::{Cut, Datagrams, Direction, Lane, Link, Shape, Weather};
use tests::naming::Naming;
use tests::process::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{interval, sleep};

const NAMING: Naming = Naming::MediaMtx;
const UPLINK_BITS_PER_S: u64 = 4_000_000;
const LIVE_BITS_PER_S: u64 = 1_000_000;
const PACKET_BYTES: usize = 1200;
/// (who has it, its size)
const BUFFERS: [(&str, usize); 2] = [("64 KiB", 64 << 10), ("256 KiB", 256 << 10)];
/// Of the stream alone, and of the upload.
const MEASURED: Duration = Duration::from_secs(30);

#[derive(Parser, Debug)]
struct Options {
    /// Set by `cargo bench`; without it nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
    /// How much is pulled; a minute has 30 MB
    #[arg(long, default_value_t = 1)]
    minutes: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if !options.bench {
        println!("measures only under `cargo bench -p tests --bench live`");
        return Ok(());
    }
    let footage = Footage::encode()?;
    println!(
        "{:<10}{:<16}{:>8}{:>8}{:>8}{:>8}{:>9}{:>14}",
        "buffer", "live beside", "p50 ms", "p95", "p99", "max", "lost", "of the rest"
    );
    for (name, buffer_bytes) in BUFFERS {
        let shape = Shape::symmetric(Lane { buffer_bytes, ..Lane::new(20, UPLINK_BITS_PER_S) });
        alone(shape).await?.show(name, "nothing", None);
        let (felt, uploaded) = beside_upload(shape).await?;
        felt.show(name, "a TCP upload", Some(uploaded));
        let (felt, pulled) = beside_pull(shape, &footage, options.minutes).await?;
        felt.show(name, "a pull", Some(pulled));
    }
    Ok(())
}

async fn alone(shape: Shape) -> anyhow::Result<Felt> {
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let link = Link::open(nobody, shape).await?;
    let live = Live::start(&link).await?;
    sleep(MEASURED).await;
    live.felt().await
}

/// The stream, and the upload's bytes per second.
async fn beside_upload(shape: Shape) -> anyhow::Result<(Felt, f64)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let link = Link::open(listener.local_addr()?, shape).await?;
    let mut ends = JoinSet::new();
    let mut device = TcpStream::connect(link.address()).await?;
    let (mut server, _) = listener.accept().await?;
    ends.spawn(async move { while device.write_all(&[0; 64 * 1024]).await.is_ok() {} });
    ends.spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while server.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {}
    });
    let live = Live::start(&link).await?;
    let passed = link.passed_bytes(Direction::ToServer);
    sleep(MEASURED).await;
    let bytes = link.passed_bytes(Direction::ToServer) - passed;
    Ok((live.felt().await?, bytes as f64 / MEASURED.as_secs_f64()))
}

/// The stream, and the media's bytes per second.
async fn beside_pull(shape: Shape, footage: &Footage, minutes: u32) -> anyhow::Result<(Felt, f64)> {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse()?;
    let setup = Setup { naming: NAMING, link: shape, expected_from: start };
    let installation = Installation::set_up(&setup).await?;
    let lost_from = footage.record(&installation.card(), NAMING, start, 1)?;
    let lost_to = footage.record(&installation.card(), NAMING, lost_from, minutes)?;
    footage.record(&installation.card(), NAMING, lost_to, 1)?;
    footage.record(&installation.archive(), NAMING, start, 1)?;
    footage.record(&installation.archive(), NAMING, lost_to, 1)?;
    let hole = TimeRange::starting_at(lost_from, lost_to.since(lost_from));
    let minute = installation.card().join(NAMING.path(lost_from));
    let media_bytes = fs::metadata(minute)?.len() * u64::from(minutes);

    installation.link.cut(Cut::Reset);
    let mut ear = Ear::open(&installation).await?;
    let mut server = installation.start_server()?;
    server.line("connected to the broker", PATIENCE).await?;
    let mut agent = installation.start_agent()?;
    agent.line("every recording is read", PATIENCE).await?;
    installation.link.restore();
    let ordered = ear.when(Said::Ordered).await?;
    let live = Live::start(&installation.link).await?;
    let took = merged(&mut server, hole).await? - ordered;
    Ok((live.felt().await?, media_bytes as f64 / took.as_secs_f64()))
}

/// The stream, from its camera to its viewer.
struct Live {
    way: Datagrams,
    sent: Arc<AtomicU64>,
    delays: Arc<Mutex<Vec<Duration>>>,
    stop: oneshot::Sender<()>,
    camera: JoinHandle<anyhow::Result<()>>,
    viewer: JoinHandle<anyhow::Result<()>>,
}

impl Live {
    async fn start(link: &Link) -> anyhow::Result<Live> {
        let viewer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let camera = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let way = link.datagrams(viewer.local_addr()?, Box::new(Weather::fair())).await?;
        camera.connect(way.address()).await?;
        let origin = Instant::now();
        let (sent, delays) = (Arc::<AtomicU64>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (stop, stopped) = oneshot::channel();
        Ok(Live {
            way,
            stop,
            camera: tokio::spawn(send(camera, origin, Arc::clone(&sent), stopped)),
            viewer: tokio::spawn(receive(viewer, origin, Arc::clone(&delays))),
            sent,
            delays,
        })
    }

    /// Ends the stream, and answers what it was like.
    async fn felt(self) -> anyhow::Result<Felt> {
        drop(self.stop);
        self.camera.await??;
        let all = async || {
            let arrived = self.way.passed() + self.way.dropped();
            let seen = lock(&self.delays).len() as u64;
            (arrived == self.sent.load(Ordering::SeqCst) && seen == self.way.passed()).then_some(())
        };
        until("every packet is seen or lost", PATIENCE, all).await?;
        let mut delays = std::mem::take(&mut *lock(&self.delays));
        delays.sort_unstable();
        self.viewer.abort();
        Ok(Felt { delays, dropped: self.way.dropped() })
    }
}

/// A packet after the other, each with the time at which it was sent.
async fn send(
    socket: UdpSocket,
    origin: Instant,
    sent: Arc<AtomicU64>,
    mut stopped: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    let every = Duration::from_secs_f64(PACKET_BYTES as f64 * 8.0 / LIVE_BITS_PER_S as f64);
    let mut ticks = interval(every);
    let mut packet = [0; PACKET_BYTES];
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = &mut stopped => return Ok(()),
        }
        packet[..8].copy_from_slice(&u64::try_from(origin.elapsed().as_micros())?.to_le_bytes());
        socket.send(&packet).await?;
        sent.fetch_add(1, Ordering::SeqCst);
    }
}

async fn receive(
    socket: UdpSocket,
    origin: Instant,
    delays: Arc<Mutex<Vec<Duration>>>,
) -> anyhow::Result<()> {
    let mut packet = [0; PACKET_BYTES];
    loop {
        socket.recv(&mut packet).await?;
        let now = origin.elapsed();
        let sent = packet.first_chunk().context("a packet has the time at which it was sent")?;
        lock(&delays).push(now.saturating_sub(Duration::from_micros(u64::from_le_bytes(*sent))));
    }
}

/// What the viewer has of a stream.
struct Felt {
    /// In order.
    delays: Vec<Duration>,
    dropped: u64,
}

impl Felt {
    fn show(&self, buffer: &str, beside: &str, bytes_per_second: Option<f64>) {
        let percentile = |per_mille: usize| {
            let delay = self.delays.get((self.delays.len().saturating_sub(1)) * per_mille / 1000);
            delay.map_or(f64::NAN, |delay| delay.as_secs_f64() * 1e3)
        };
        let lost = self.dropped as f64 / (self.dropped + self.delays.len() as u64) as f64;
        let rest = (UPLINK_BITS_PER_S - LIVE_BITS_PER_S) as f64 / 8.0;
        let share = bytes_per_second.map_or(String::new(), |own| format!("{:.2}", own / rest));
        println!(
            "{buffer:<10}{beside:<16}{:>8.0}{:>8.0}{:>8.0}{:>8.0}{:>8.2}%{share:>14}",
            percentile(500),
            percentile(950),
            percentile(990),
            percentile(1000),
            lost * 100.0,
        );
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
