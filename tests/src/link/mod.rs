//! An emulated network link: a proxy on the loopback that is slow, far away, or gone.
//!
//! Each direction has a one-way delay, a rate and before it one buffer, as a modem has (`line`): first come,
//! first served, for all connections and datagrams together. What comes while the buffer is full is dropped.
//! A datagram is then lost (`datagrams`); a connection sends it again and has less under way from then on
//! (`congestion`), and until it may send more, whoever writes to it feels it (`proxy`). A link can be cut
//! in three ways, at once or after an exact number of bytes of its connections, and restored; and it counts
//! what it carried.
//!
//! It emulates what TCP makes of a bad network, not the packets below: nothing of a connection is lost at
//! random or overtaken, there are no headers, and acknowledgements wait for nobody.

mod congestion;
mod datagrams;
mod line;
mod proxy;
mod shared;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::datagrams::{Datagrams, Fate, Weather};
pub use self::line::{BUFFER_BYTES, Lane};
use self::shared::{Order, Shared};

/// A direction of a link, seen from the device that opens the connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    ToServer,
    ToDevice,
}

impl Direction {
    fn opposite(self) -> Direction {
        match self {
            Direction::ToServer => Direction::ToDevice,
            Direction::ToDevice => Direction::ToServer,
        }
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
        proxy::be_slow_like(&socket, shape.to_server)?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let listener = socket.listen(1024).context("the link cannot listen")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(server, shape));
        let acceptor = tokio::spawn(proxy::accept(listener, Arc::clone(&shared)));
        Ok(Link { address, shared, acceptor })
    }

    /// Where devices find the server through this link.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A way for the device's datagrams to `target`, over the same line as its connections; `fate` decides on
    /// each of them besides.
    pub async fn datagrams(
        &self,
        target: SocketAddr,
        fate: Box<dyn Fate>,
    ) -> anyhow::Result<Datagrams> {
        Datagrams::open(Arc::clone(&self.shared), target, fate).await
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

/// These locks guard plain numbers: a panic elsewhere leaves them whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::Instant;

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
