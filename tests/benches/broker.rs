//! What the embedded broker carries, beside mosquitto where it is installed and a raw TCP copy in the same run.
//!
//! `cargo bench -p tests --bench broker`. Each broker is a process of its own, so that its memory is its own; the
//! embedded one is this program started again with `--host`. Devices send 32 KiB chunks at QoS 0 against credit
//! counted in chunks, as in a transfer; every chunk carries its number, so a lost one is seen.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use reconciler::broker::{BrokerConfig, EmbeddedBroker};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, NetworkOptions, Packet, QoS};
use tokio::sync::{Notify, watch};

const CHUNK_BYTES: usize = 32 * 1024;
const MEBIBYTE: usize = 1024 * 1024;
const RUN_BYTES: usize = 512 * MEBIBYTE;
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// After this long without a chunk whatever is missing is lost.
const SILENCE: Duration = Duration::from_secs(6);

struct Load {
    name: &'static str,
    devices: usize,
    window_chunks: u64,
    /// How long the subscriber stops reading, a third of the way.
    pause: Option<Duration>,
}

const PAUSE: Option<Duration> = Some(Duration::from_secs(3));
const LOADS: [Load; 7] = [
    Load { name: "1 device, 2 chunks outstanding", devices: 1, window_chunks: 2, pause: None },
    Load { name: "1 device, 16 chunks", devices: 1, window_chunks: 16, pause: None },
    Load { name: "1 device, 32 chunks (1 MiB)", devices: 1, window_chunks: 32, pause: None },
    Load { name: "30 devices, 16 chunks each", devices: 30, window_chunks: 16, pause: None },
    Load {
        name: "1 device, 512 chunks, reader stops 3 s",
        devices: 1,
        window_chunks: 512,
        pause: PAUSE,
    },
    Load {
        name: "30 devices, 16 each, reader stops 3 s",
        devices: 30,
        window_chunks: 16,
        pause: PAUSE,
    },
    Load {
        name: "1 device, 4096 chunks, reader stops 3 s",
        devices: 1,
        window_chunks: 4096,
        pause: PAUSE,
    },
];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "--host") {
        return host();
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("measures only under `cargo bench -p tests --bench broker`");
        return Ok(());
    }
    println!(
        "{:<44}{:>8}{:>8}{:>9}{:>9}{:>10}",
        "", "MB/s", "of raw", "missing", "peak MB", "CPU s/GB"
    );
    for start in [Host::embedded, Host::mosquitto] {
        let raw = raw_copy()?;
        let Some(host) = start()? else {
            println!("mosquitto: not in PATH nor in /usr/sbin, not compared");
            continue;
        };
        println!(
            "{} (raw TCP copy {raw:.0} MB/s, idle {} MB)",
            host.name,
            host.memory_mb("VmRSS:")?
        );
        for load in &LOADS {
            let cpu = host.cpu_s()?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?;
            let outcome = runtime.block_on(run(host.address, load))?;
            runtime.shutdown_background();
            let gigabytes = outcome.received as f64 * CHUNK_BYTES as f64 / 1e9;
            let speed = gigabytes * 1000.0 / outcome.elapsed.as_secs_f64();
            println!(
                "  {:<42}{speed:>8.0}{:>8.2}{:>9}{:>9}{:>10.2}",
                load.name,
                speed / raw,
                outcome.missing,
                host.memory_mb("VmHWM:")?,
                (host.cpu_s()? - cpu) / gigabytes,
            );
        }
        println!("  afterwards {} MB", host.memory_mb("VmRSS:")?);
    }
    Ok(())
}

/// The child: a broker until the parent closes its end of the pipe.
fn host() -> anyhow::Result<()> {
    let broker = EmbeddedBroker::start(&BrokerConfig { listen: LOOPBACK, ..Default::default() })?;
    println!("{}", broker.local_addr());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

struct Host {
    name: &'static str,
    address: SocketAddr,
    child: Child,
    _config: Option<tempfile::NamedTempFile>,
}

impl Host {
    fn embedded() -> anyhow::Result<Option<Self>> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--host")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting this program again to host the broker")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("the child has no stdout")?)
            .read_line(&mut line)?;
        Ok(Some(Self { name: "embedded", address: line.trim().parse()?, child, _config: None }))
    }

    fn mosquitto() -> anyhow::Result<Option<Self>> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = std::env::split_paths(&path)
            .chain(["/usr/sbin".into()])
            .map(|folder| folder.join("mosquitto"))
            .find(|file| file.is_file());
        let Some(program) = program else { return Ok(None) };
        let address = TcpListener::bind(LOOPBACK)?.local_addr()?;
        let mut config = tempfile::NamedTempFile::new()?;
        writeln!(config, "listener {} {}", address.port(), address.ip())?;
        writeln!(config, "allow_anonymous true\nset_tcp_nodelay true\nlog_type error")?;
        let child =
            Command::new(program).arg("-c").arg(config.path()).stdin(Stdio::null()).spawn()?;
        let host = Self { name: "mosquitto", address, child, _config: Some(config) };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(address).is_err() {
            if Instant::now() > deadline {
                bail!("mosquitto did not listen on {address} within 10 s");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(host))
    }

    fn memory_mb(&self, field: &str) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line =
            status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
    }

    /// User and system time so far; Linux counts it in hundredths of a second.
    fn cpu_s(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let ticks = after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok());
        Ok(ticks.sum::<u64>() as f64 / 100.0)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Already gone is as good as stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same bytes through one TCP connection, in megabytes per second.
fn raw_copy() -> anyhow::Result<f64> {
    let listener = TcpListener::bind(LOOPBACK)?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    sender.set_nodelay(true)?;
    let (mut receiver, _) = listener.accept()?;
    let started = Instant::now();
    let reader = std::thread::spawn(move || -> std::io::Result<usize> {
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut total = 0;
        loop {
            match receiver.read(&mut buffer)? {
                0 => return Ok(total),
                bytes => total += bytes,
            }
        }
    });
    let chunk = vec![1; CHUNK_BYTES];
    for _ in 0..RUN_BYTES / CHUNK_BYTES {
        sender.write_all(&chunk)?;
    }
    drop(sender);
    let total = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    Ok(total as f64 / 1e6 / started.elapsed().as_secs_f64())
}

struct Outcome {
    received: u64,
    missing: u64,
    elapsed: Duration,
}

fn client(address: SocketAddr, id: &str) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(id, address.ip().to_string(), address.port());
    options.set_max_packet_size(256 * 1024, 256 * 1024).set_keep_alive(Duration::from_secs(20));
    let (handle, mut events) = AsyncClient::new(options, 64);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(15);
    events.set_network_options(network);
    (handle, events)
}

async fn subscribe(
    handle: &AsyncClient,
    events: &mut EventLoop,
    filter: &str,
) -> anyhow::Result<()> {
    handle.subscribe(filter, QoS::AtMostOnce).await?;
    while !matches!(events.poll().await?, Event::Incoming(Packet::SubAck(_))) {}
    Ok(())
}

fn number(payload: &[u8]) -> anyhow::Result<u64> {
    Ok(u64::from_le_bytes(payload.get(..8).context("a message without a number")?.try_into()?))
}

/// The device of a topic `gapless/1/{device}/...`; devices are called by their number here.
fn device_of(topic: &str) -> anyhow::Result<usize> {
    Ok(topic.split('/').nth(2).context("a topic without a device")?.parse()?)
}

async fn device(address: SocketAddr, device: usize, chunks: u64) -> anyhow::Result<()> {
    let (handle, mut events) = client(address, &format!("gapless-agent-{device}"));
    subscribe(&handle, &mut events, &format!("gapless/1/{device}/credit")).await?;
    let (grant, mut granted) = watch::channel(0);
    tokio::spawn(async move {
        let topic = format!("gapless/1/{device}/data/bench");
        for next in 0..chunks {
            granted.wait_for(|limit| *limit > next).await?;
            let mut payload = vec![0; CHUNK_BYTES];
            payload[..8].copy_from_slice(&next.to_le_bytes());
            handle.publish(&topic, QoS::AtMostOnce, false, payload).await?;
        }
        // Stays until the run ends: dropping the handle would end the connection.
        granted.wait_for(|_| false).await?;
        anyhow::Ok(())
    });
    loop {
        if let Event::Incoming(Packet::Publish(message)) = events.poll().await? {
            let limit = number(&message.payload)?;
            grant.send_if_modified(|now| std::mem::replace(now, limit.max(*now)) < limit);
        }
    }
}

/// Grants each device its limit whenever it grew, and all of them again each 200 ms.
async fn grant(
    handle: AsyncClient,
    limits: Arc<Vec<AtomicU64>>,
    grown: Arc<Notify>,
) -> anyhow::Result<()> {
    let mut sent = vec![0; limits.len()];
    loop {
        if tokio::time::timeout(Duration::from_millis(200), grown.notified()).await.is_err() {
            sent.fill(0);
        }
        for (device, (limit, sent)) in limits.iter().zip(&mut sent).enumerate() {
            let limit = limit.load(Ordering::Relaxed);
            if limit > *sent {
                *sent = limit;
                let topic = format!("gapless/1/{device}/credit");
                handle.publish(topic, QoS::AtMostOnce, false, limit.to_le_bytes()).await?;
            }
        }
    }
}

async fn run(address: SocketAddr, load: &Load) -> anyhow::Result<Outcome> {
    let chunks = (RUN_BYTES / CHUNK_BYTES / load.devices) as u64;
    let total = chunks * load.devices as u64;
    let (handle, mut events) = client(address, "gapless-server-bench");
    subscribe(&handle, &mut events, "gapless/1/+/data/bench").await?;
    let limits: Arc<Vec<_>> =
        Arc::new((0..load.devices).map(|_| AtomicU64::new(load.window_chunks)).collect());
    let grown = Arc::new(Notify::new());
    for number in 0..load.devices {
        tokio::spawn(device(address, number, chunks));
    }
    tokio::spawn(grant(handle, limits.clone(), grown.clone()));

    let mut next = vec![0; load.devices];
    let (mut received, mut started, mut last) = (0, None, Instant::now());
    while next.iter().any(|next| *next < chunks) {
        let Ok(event) = tokio::time::timeout(SILENCE, events.poll()).await else { break };
        let Event::Incoming(Packet::Publish(message)) = event? else { continue };
        last = Instant::now();
        started.get_or_insert(last);
        let device = device_of(&message.topic)?;
        let number = number(&message.payload)?;
        let (Some(next), Some(limit)) = (next.get_mut(device), limits.get(device)) else {
            bail!("a stranger")
        };
        if number < *next {
            bail!("chunk {number} of device {device} came twice or late");
        }
        *next = number + 1;
        received += 1;
        limit.store((*next + load.window_chunks).min(chunks), Ordering::Relaxed);
        grown.notify_one();
        if let Some(pause) = load.pause
            && received == total / 3
        {
            tokio::time::sleep(pause).await;
        }
    }
    Ok(Outcome {
        received,
        missing: total - received,
        elapsed: started.map_or(Duration::ZERO, |start| last - start),
    })
}
