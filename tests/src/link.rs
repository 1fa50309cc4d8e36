//! An emulated network link: a TCP proxy on the loopback that is slow, far away, or gone.
//!
//! Each direction has a one-way delay, a rate that all connections share, and a bounded buffer, so that
//! a sender feels back-pressure as it would from a modem. A link can be cut in three ways, at once or
//! after an exact number of bytes, and restored; and it counts what it carried.
//!
//! It emulates what TCP makes of a bad network, not the packets below: there is no loss rate and no
//! reordering, and counts are of TCP payload.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// The modem's queue, where a lane says nothing else.
pub const BUFFER_BYTES: usize = 64 * 1024;

/// What a lane without a rate may hold under way.
const UNLIMITED_BYTES: usize = 8 * 1024 * 1024;

const LARGEST_CHUNK_BYTES: usize = 64 * 1024;
const SMALLEST_CHUNK_BYTES: usize = 1460;

/// A direction of a link, seen from the device that opens the connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    ToServer,
    ToDevice,
}

/// How one direction behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lane {
    /// One way.
    pub delay: Duration,
    /// `None` is as fast as the loopback.
    pub rate_bits_per_s: Option<u64>,
    /// How much waits before the bottleneck until the sender feels it; per connection.
    pub buffer_bytes: usize,
}

impl Lane {
    /// No delay, no limit.
    pub const CLEAR: Lane =
        Lane { delay: Duration::ZERO, rate_bits_per_s: None, buffer_bytes: BUFFER_BYTES };

    pub const fn new(delay_ms: u64, rate_bits_per_s: u64) -> Lane {
        Lane {
            delay: Duration::from_millis(delay_ms),
            rate_bits_per_s: Some(rate_bits_per_s),
            buffer_bytes: BUFFER_BYTES,
        }
    }

    /// What a connection may have under way: the buffer, and what the line itself holds.
    fn capacity_bytes(&self) -> usize {
        let on_the_line = match self.rate_bits_per_s {
            Some(rate) => (rate as f64 / 8.0 * self.delay.as_secs_f64()) as usize,
            None => UNLIMITED_BYTES,
        };
        self.buffer_bytes + on_the_line.max(self.chunk_bytes())
    }

    /// Some 5 ms of the rate: small enough to let another connection in between.
    fn chunk_bytes(&self) -> usize {
        let rate = self.rate_bits_per_s.unwrap_or(u64::MAX);
        usize::try_from(rate / 8 / 200)
            .unwrap_or(usize::MAX)
            .clamp(SMALLEST_CHUNK_BYTES, LARGEST_CHUNK_BYTES)
    }
}

/// Both directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    pub to_server: Lane,
    pub to_device: Lane,
}

impl Shape {
    /// Only counts, and can be cut.
    pub const CLEAR: Shape = Shape { to_server: Lane::CLEAR, to_device: Lane::CLEAR };

    pub const fn symmetric(lane: Lane) -> Shape {
        Shape { to_server: lane, to_device: lane }
    }
}

/// What happens to connections when a link goes away. New ones wait for it to be restored, except
/// under [`Cut::Reset`], which refuses them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// A short tunnel: nothing passes; after restoring, TCP carries on where it was, nothing lost.
    Stall,
    /// A new address on the other side of the tunnel: nothing passes, and nothing ever will, on
    /// connections of before. Their ends learn it from silence alone.
    Blackhole,
    /// Both ends are told at once (RST).
    Reset,
}

/// A link to one server. Dropping it ends its connections.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: JoinHandle<()>,
}

impl Link {
    /// A link to `server`, up. Devices connect to [`Link::address`] instead.
    pub async fn open(server: SocketAddr, shape: Shape) -> anyhow::Result<Link> {
        let socket = TcpSocket::new_v4()?;
        be_slow_like(&socket, shape.to_server)?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let listener = socket.listen(1024).context("the link cannot listen")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server,
            to_server: Way::new(shape.to_server),
            to_device: Way::new(shape.to_device),
            condition: watch::Sender::new(Condition::default()),
            up: watch::Sender::new(true),
        });
        let acceptor = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Link { address, shared, acceptor })
    }

    /// Where devices find the server through this link.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes the link down until [`Link::restore`]. Cutting a link that is down changes how it is down.
    pub fn cut(&self, cut: Cut) {
        self.shared.cut(cut);
    }

    /// Takes the link down once exactly `bytes` more have passed in `direction`; replaces an earlier order
    /// for it. Exact for one connection; several may each finish the chunk they are at.
    pub fn cut_after(&self, direction: Direction, bytes: u64, cut: Cut) {
        if bytes == 0 {
            return self.shared.cut(cut);
        }
        *lock(&self.shared.way(direction).order) = Some(Order { remaining_bytes: bytes, cut });
    }

    pub fn restore(&self) {
        self.shared.condition.send_modify(|condition| condition.down = None);
        self.shared.up.send_replace(true);
    }

    /// True while the link is up; for a simulated camera, and to wait for an ordered cut.
    pub fn up(&self) -> watch::Receiver<bool> {
        self.shared.up.subscribe()
    }

    /// Returns once the link is down.
    pub async fn is_cut(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.up().wait_for(|up| !up).await;
    }

    /// Bytes that senders have put on the line in `direction`, over all connections. Those that a cut takes
    /// before they arrive are counted here, and not in [`Link::passed_bytes`].
    pub fn sent_bytes(&self, direction: Direction) -> u64 {
        self.shared.way(direction).sent_bytes.load(Ordering::Relaxed)
    }

    /// Bytes that arrived at the far end of `direction`, over all connections.
    pub fn passed_bytes(&self, direction: Direction) -> u64 {
        *self.shared.way(direction).passed_bytes.borrow()
    }

    /// Returns once at least `bytes` in all have passed in `direction`.
    pub async fn passed(&self, direction: Direction, bytes: u64) {
        // The sender lives in `self`, so waiting cannot fail.
        let mut passed_bytes = self.shared.way(direction).passed_bytes.subscribe();
        let _ = passed_bytes.wait_for(|&passed| passed >= bytes).await;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

/// When a chunk arrives at the far end. Pure: one chunk after the other is put on the line.
#[derive(Debug)]
struct Line {
    lane: Lane,
    free_at: Option<Instant>,
}

impl Line {
    fn arrival(&mut self, now: Instant, bytes: usize) -> Instant {
        let begin = self.free_at.map_or(now, |free_at| free_at.max(now));
        let duration = match self.lane.rate_bits_per_s {
            Some(rate) => Duration::from_secs_f64(bytes as f64 * 8.0 / rate.max(1) as f64),
            None => Duration::ZERO,
        };
        self.free_at = Some(begin + duration);
        begin + duration + self.lane.delay
    }
}

/// One direction of a link.
#[derive(Debug)]
struct Way {
    lane: Lane,
    line: Mutex<Line>,
    sent_bytes: AtomicU64,
    passed_bytes: watch::Sender<u64>,
    order: Mutex<Option<Order>>,
}

/// A cut to come.
#[derive(Debug)]
struct Order {
    remaining_bytes: u64,
    cut: Cut,
}

impl Way {
    fn new(lane: Lane) -> Way {
        let line = Mutex::new(Line { lane, free_at: None });
        Way {
            lane,
            line,
            sent_bytes: AtomicU64::new(0),
            passed_bytes: watch::Sender::new(0),
            order: Mutex::new(None),
        }
    }

    /// How many of `bytes` may pass before the ordered cut, and that cut where they use it up.
    fn admit(&self, bytes: usize) -> (usize, Option<Cut>) {
        let mut order = lock(&self.order);
        let Some(pending) = order.as_mut() else { return (bytes, None) };
        let admitted =
            usize::try_from(pending.remaining_bytes).map_or(bytes, |most| bytes.min(most));
        pending.remaining_bytes -= admitted as u64;
        let cut = pending.cut;
        let used_up = order.take_if(|order| order.remaining_bytes == 0).is_some();
        (admitted, used_up.then_some(cut))
    }
}

/// Whether the link is down, and how many cuts of the kinds that end connections it has seen.
#[derive(Clone, Copy, Default, Debug)]
struct Condition {
    down: Option<Cut>,
    blackholes: u64,
    resets: u64,
}

impl Condition {
    /// How a connection made under `self` has ended by `now`.
    fn ended_by(&self, now: &Condition) -> Option<Cut> {
        if now.resets > self.resets {
            Some(Cut::Reset)
        } else {
            (now.blackholes > self.blackholes).then_some(Cut::Blackhole)
        }
    }
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    to_server: Way,
    to_device: Way,
    condition: watch::Sender<Condition>,
    up: watch::Sender<bool>,
}

impl Shared {
    fn way(&self, direction: Direction) -> &Way {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToDevice => &self.to_device,
        }
    }

    fn cut(&self, cut: Cut) {
        self.condition.send_modify(|condition| {
            condition.down = Some(cut);
            match cut {
                Cut::Stall => {}
                Cut::Blackhole => condition.blackholes += 1,
                Cut::Reset => condition.resets += 1,
            }
        });
        self.up.send_replace(false);
    }

    /// Returns while the link is up and the connection made under `born` alive; else not before.
    async fn usable(&self, born: Condition) {
        let usable = |now: &Condition| now.down.is_none() && born.ended_by(now).is_none();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.condition.subscribe().wait_for(usable).await;
    }

    /// Returns once a cut has ended the connection made under `born`.
    async fn ended(&self, born: Condition) -> Cut {
        let mut condition = self.condition.subscribe();
        loop {
            if let Some(cut) = born.ended_by(&condition.borrow_and_update()) {
                return cut;
            }
            // The sender lives in `self`, so waiting cannot fail.
            let _ = condition.changed().await;
        }
    }
}

/// Connections live as long as this task.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
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
    be_slow_like(&socket, shared.to_device.lane)?;
    let server = socket.connect(shared.server).await?;
    server.set_nodelay(true)?;
    Ok(server)
}

/// Has the kernel treat what comes from `socket`'s peer as it would on a slow network: the loopback's own
/// segments of 64 KiB let a sender's socket swallow 4 MB before it feels anything.
fn be_slow_like(socket: &TcpSocket, lane: Lane) -> io::Result<()> {
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
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::try_join!(take(way, from, sender), deliver(shared, born, way, receiver, to))?;
    Ok(())
}

/// Puts what the sender writes on the line. The channel is bounded by the room its parcels hold.
async fn take(
    way: &Way,
    mut from: impl AsyncRead + Unpin,
    parcels: mpsc::UnboundedSender<Parcel>,
) -> io::Result<()> {
    let chunk_bytes = way.lane.chunk_bytes();
    let room = Arc::new(Semaphore::new(way.lane.capacity_bytes()));
    let mut buffer = vec![0; chunk_bytes];
    loop {
        let room = Arc::clone(&room).acquire_many_owned(chunk_bytes as u32).await;
        let mut room = room.map_err(io::Error::other)?;
        let bytes = from.read(&mut buffer).await?;
        drop(room.split(chunk_bytes - bytes));
        way.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let arrives = lock(&way.line).arrival(Instant::now(), bytes);
        // The end of the stream is an empty parcel: a FIN takes as long as the bytes before it.
        let parcel = Parcel { arrives, bytes: buffer[..bytes].to_vec(), _room: room };
        if parcels.send(parcel).is_err() || bytes == 0 {
            return Ok(());
        }
    }
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

/// These locks guard plain numbers: a panic elsewhere leaves them whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link to a server that hands out its ends of the connections.
    async fn open(shape: Shape) -> (Link, TcpListener) {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        (Link::open(server.local_addr().unwrap(), shape).await.unwrap(), server)
    }

    async fn connected(link: &Link, server: &TcpListener) -> (TcpStream, TcpStream) {
        let device = TcpStream::connect(link.address()).await.unwrap();
        (device, server.accept().await.unwrap().0)
    }

    async fn read(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        stream.read_exact(&mut read).await.unwrap();
        read
    }

    async fn is_reset(stream: &mut TcpStream) -> bool {
        let error = stream.read(&mut [0]).await.err();
        error.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
    }

    #[tokio::test]
    async fn both_directions_pass_unchanged_are_counted_and_close_one_by_one() {
        let (link, server) = open(Shape::symmetric(Lane::new(1, 80_000_000))).await;
        let (mut device, mut server) = connected(&link, &server).await;
        let sent: Vec<u8> = (0..1_000_000_u32).map(|index| (index % 251) as u8).collect();
        let upload = async {
            device.write_all(&sent).await.unwrap();
            device.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        tokio::join!(upload, async { server.read_to_end(&mut received).await.unwrap() });
        assert_eq!(received, sent);
        server.write_all(b"thanks").await.unwrap();
        assert_eq!(read(&mut device, 6).await, b"thanks");
        link.passed(Direction::ToDevice, 6).await;
        assert_eq!(link.passed_bytes(Direction::ToServer), 1_000_000);
        assert_eq!(link.passed_bytes(Direction::ToDevice), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn an_echo_takes_at_least_both_delays() {
        let lane = |delay_s| Lane { delay: Duration::from_secs(delay_s), ..Lane::CLEAR };
        let (link, server) = open(Shape { to_server: lane(30), to_device: lane(12) }).await;
        let (mut device, mut server) = connected(&link, &server).await;
        let asked = Instant::now();
        device.write_all(b"?").await.unwrap();
        let question = read(&mut server, 1).await;
        server.write_all(&question).await.unwrap();
        read(&mut device, 1).await;
        assert!(asked.elapsed() >= Duration::from_secs(42));
    }

    #[test]
    fn a_line_takes_chunks_one_after_the_other_and_all_of_them_at_once() {
        let now = Instant::now();
        let after = |ms| now + Duration::from_millis(ms);
        let mut line = Line { lane: Lane::new(100, 8_000), free_at: None };
        assert_eq!(line.arrival(now, 500), after(600));
        assert_eq!(line.arrival(now, 250), after(850));
        assert_eq!(line.arrival(after(2_000), 10), after(2_110), "an idle line saves nothing up");
    }

    #[tokio::test]
    async fn a_sender_feels_a_slow_lane_after_its_buffer() {
        let (link, server) = open(Shape::symmetric(Lane::new(0, 100_000))).await;
        let (mut device, _server) = connected(&link, &server).await;
        let too_much = vec![0; 16 * 1024 * 1024];
        tokio::select! {
            _ = device.write_all(&too_much) => panic!("22 minutes' worth was taken at once"),
            () = link.passed(Direction::ToServer, 10_000) => {}
        }
    }

    #[tokio::test]
    async fn a_stalled_connection_carries_on_where_it_was() {
        let (link, server) = open(Shape::CLEAR).await;
        let (mut device, mut far) = connected(&link, &server).await;
        link.cut_after(Direction::ToServer, 3, Cut::Stall);
        device.write_all(b"abcdef").await.unwrap();
        assert_eq!(read(&mut far, 3).await, b"abc");
        link.is_cut().await;
        far.try_read(&mut [0]).expect_err("nothing passes a stalled link");
        let mut late = TcpStream::connect(link.address()).await.unwrap();
        link.restore();
        assert_eq!(read(&mut far, 3).await, b"def");
        late.write_all(b"new").await.unwrap();
        assert_eq!(read(&mut server.accept().await.unwrap().0, 3).await, b"new");
    }

    #[tokio::test]
    async fn a_blackholed_connection_is_silent_for_good() {
        let (link, server) = open(Shape::CLEAR).await;
        let (mut device, mut far) = connected(&link, &server).await;
        link.cut_after(Direction::ToServer, 3, Cut::Blackhole);
        device.write_all(b"abcdef").await.unwrap();
        assert_eq!(read(&mut far, 3).await, b"abc");
        link.is_cut().await;
        link.restore();
        let (mut next, mut far_next) = connected(&link, &server).await;
        drop(device);
        next.write_all(b"new").await.unwrap();
        assert_eq!(read(&mut far_next, 3).await, b"new");
        let silent = far.try_read(&mut [0]).unwrap_err();
        assert_eq!(silent.kind(), io::ErrorKind::WouldBlock, "neither bytes nor the end arrive");
        assert_eq!(link.passed_bytes(Direction::ToServer), 6);
        assert_eq!(link.sent_bytes(Direction::ToServer), 9);
    }

    #[tokio::test]
    async fn a_reset_is_told_to_both_ends_and_to_newcomers_until_restored() {
        let (link, server) = open(Shape::CLEAR).await;
        let (mut device, mut far) = connected(&link, &server).await;
        link.cut_after(Direction::ToDevice, 2, Cut::Reset);
        far.write_all(b"abcdef").await.unwrap();
        assert_eq!(read(&mut device, 2).await, b"ab");
        assert!(is_reset(&mut device).await);
        assert!(is_reset(&mut far).await);
        assert!(is_reset(&mut TcpStream::connect(link.address()).await.unwrap()).await);
        link.restore();
        let (mut device, mut far) = connected(&link, &server).await;
        device.write_all(b"new").await.unwrap();
        assert_eq!(read(&mut far, 3).await, b"new");
    }

    #[tokio::test]
    async fn a_server_that_dies_is_felt_through_the_link() {
        let (link, server) = open(Shape::CLEAR).await;
        let (mut device, far) = connected(&link, &server).await;
        far.set_zero_linger().unwrap();
        drop((far, server));
        assert!(is_reset(&mut device).await);
        assert!(is_reset(&mut TcpStream::connect(link.address()).await.unwrap()).await);
    }

    #[tokio::test]
    async fn a_dropped_link_ends_its_connections() {
        let (link, server) = open(Shape::CLEAR).await;
        let (mut device, mut far) = connected(&link, &server).await;
        drop(link);
        assert_eq!(far.read(&mut [0]).await.unwrap_or(0), 0);
        assert_eq!(device.read(&mut [0]).await.unwrap_or(0), 0);
    }
}
