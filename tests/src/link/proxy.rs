//! Connections: from the device's to the last byte, through whatever befalls the link.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::congestion::Congestion;
use super::line::{BUFFER_BYTES, Lane, SMALLEST_CHUNK_BYTES};
use super::shared::{Condition, Shared, Way};
use super::{Cut, Direction, lock};

/// What a connection may have under way on a lane without a rate.
const UNLIMITED_BYTES: usize = 8 * 1024 * 1024;

/// Connections live as long as this task.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((device, _)) = listener.accept() => {
                let born = *shared.condition.borrow();
                connections.spawn(carry(Arc::clone(&shared), device, born));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, from the device's to the last byte.
async fn carry(shared: Arc<Shared>, mut device: TcpStream, born: Condition) {
    if born.down == Some(Cut::Reset) {
        return reset(&device);
    }
    let mut server = None;
    let outcome = tokio::select! {
        biased;
        cut = shared.ended(born) => Some(cut),
        carried = relay(&shared, born, &mut device, &mut server) => {
            carried.is_err().then_some(Cut::Reset)
        }
    };
    match outcome {
        Some(Cut::Reset) => {
            reset(&device);
            server.iter().for_each(reset);
        }
        // Both ends keep a socket that nobody answers on.
        Some(Cut::Blackhole | Cut::Stall) => std::future::pending().await,
        None => {}
    }
}

/// Carries both directions to their ends. An end that fails is reported while the link is up only.
async fn relay(
    shared: &Shared,
    born: Condition,
    device: &mut TcpStream,
    server: &mut Option<TcpStream>,
) -> io::Result<()> {
    shared.usable(born).await;
    let carried = async {
        let server = server.insert(connect(shared).await?);
        device.set_nodelay(true)?;
        let (from_device, to_device) = device.split();
        let (from_server, to_server) = server.split();
        tokio::try_join!(
            pump(shared, born, Direction::ToServer, from_device, to_server),
            pump(shared, born, Direction::ToDevice, from_server, to_device),
        )
    };
    let carried = carried.await;
    shared.usable(born).await;
    carried.map(|_| ())
}

async fn connect(shared: &Shared) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    be_slow_like(&socket, shared.way(Direction::ToDevice).lane)?;
    let server = socket.connect(shared.server).await?;
    server.set_nodelay(true)?;
    Ok(server)
}

/// Has the kernel treat what comes from `socket`'s peer as it would on a slow network: the loopback's own
/// segments of 64 KiB let a sender's socket swallow 4 MB before it feels anything.
pub(super) fn be_slow_like(socket: &TcpSocket, lane: Lane) -> io::Result<()> {
    if lane.rate_bits_per_s.is_some() {
        socket.set_recv_buffer_size(BUFFER_BYTES as u32)?;
        setsockopt(socket, sockopt::TcpMaxSeg, &(SMALLEST_CHUNK_BYTES as u32))?;
    }
    Ok(())
}

/// On closing, the other end gets an RST instead of a FIN.
fn reset(stream: &TcpStream) {
    // Fails only where the socket is already dead.
    let _ = stream.set_zero_linger();
}

/// Bytes under way, and the room they take until they have arrived.
struct Parcel {
    arrives: Instant,
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

/// Carries one direction until its sender closes it.
async fn pump(
    shared: &Shared,
    born: Condition,
    direction: Direction,
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let way = shared.way(direction);
    // What tells of arrivals on the way back does not queue there.
    let back = shared.way(direction.opposite()).lane.delay;
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::try_join!(take(way, back, from, sender), deliver(shared, born, way, receiver, to))?;
    Ok(())
}

/// Puts what the sender writes on the line. The channel is bounded by the room its parcels hold.
async fn take(
    way: &Way,
    back: Duration,
    mut from: impl AsyncRead + Unpin,
    parcels: mpsc::UnboundedSender<Parcel>,
) -> io::Result<()> {
    let chunk_bytes = way.lane.chunk_bytes();
    let room = Arc::new(Semaphore::new(receive_window_bytes(way.lane, back)));
    let mut congestion = Congestion::new();
    let mut buffer = vec![0; chunk_bytes];
    loop {
        let room = Arc::clone(&room).acquire_many_owned(chunk_bytes as u32).await;
        let mut room = room.map_err(io::Error::other)?;
        let bytes = from.read(&mut buffer).await?;
        drop(room.split(chunk_bytes - bytes));
        let arrives = put_on_line(way, &mut congestion, bytes, back).await;
        way.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        // The end of the stream is an empty parcel: a FIN takes as long as the bytes before it.
        let parcel = Parcel { arrives, bytes: buffer[..bytes].to_vec(), _room: room };
        if parcels.send(parcel).is_err() || bytes == 0 {
            return Ok(());
        }
    }
}

/// Waits until TCP may send `bytes` and the bottleneck takes them; answers when they arrive.
async fn put_on_line(
    way: &Way,
    congestion: &mut Congestion,
    bytes: usize,
    back: Duration,
) -> Instant {
    loop {
        let now = Instant::now();
        let limited = way.lane.rate_bits_per_s.is_some();
        if let Some(acknowledged) = congestion.wait(now, bytes).filter(|_| limited) {
            sleep_until(acknowledged).await;
            continue;
        }
        let sent = lock(&way.line).send(now, bytes);
        match sent {
            Ok(arrives) => {
                congestion.sent(now, bytes, arrives + back);
                return arrives;
            }
            Err(full) => {
                congestion.lost(now);
                sleep_until(full.room_at).await;
            }
        }
    }
}

/// What the receiver of a connection takes in advance: more than its sender ever fills by its own measure.
fn receive_window_bytes(lane: Lane, back: Duration) -> usize {
    let Some(rate) = lane.rate_bits_per_s else { return UNLIMITED_BYTES };
    let on_the_line = (rate as f64 / 8.0 * (lane.delay + back).as_secs_f64()) as usize;
    2 * (lane.buffer_bytes + on_the_line) + lane.chunk_bytes()
}

/// Hands over what has arrived, as long as the link is up, and then the end of the stream.
async fn deliver(
    shared: &Shared,
    born: Condition,
    way: &Way,
    mut parcels: mpsc::UnboundedReceiver<Parcel>,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    while let Some(parcel) = parcels.recv().await {
        sleep_until(parcel.arrives).await;
        let mut rest = parcel.bytes.as_slice();
        while !rest.is_empty() {
            shared.usable(born).await;
            let (admitted, cut) = way.admit(rest.len());
            let (now, later) = rest.split_at(admitted);
            to.write_all(now).await?;
            way.passed_bytes.send_modify(|passed| *passed += admitted as u64);
            if let Some(cut) = cut {
                shared.cut(cut);
            }
            rest = later;
        }
    }
    shared.usable(born).await;
    to.shutdown().await
}
