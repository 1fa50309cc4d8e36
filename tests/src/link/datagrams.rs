//! Datagrams from the device, over the same line as its connections: a live stream beside a pull.
//!
//! What the line does it does to all; what else becomes of single ones on a path, loss and jitter, is a
//! [`Fate`]'s affair. They are delayed and lost, never overtaken.

use std::fmt::Debug;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::shared::Shared;
use super::{Direction, lock};

const LARGEST_DATAGRAM_BYTES: usize = 65_535;
/// Datagrams under way, for a lane whose rate does not bound them.
const MOST_UNDER_WAY: usize = 65_536;

/// What becomes of single datagrams, in the order in which they are sent.
pub trait Fate: Send + Debug {
    /// How much later than by the line alone this one arrives; `None`: never.
    fn of(&mut self, datagram: &[u8]) -> Option<Duration>;
}

/// Loss and jitter at random: for the same seed and the same number of datagrams, always the same.
#[derive(Debug)]
pub struct Weather {
    loss: f64,
    jitter: Duration,
    random: StdRng,
}

impl Weather {
    /// Loses `loss` of all datagrams, from 0 to 1; delays the others by up to `jitter`.
    pub fn new(loss: f64, jitter: Duration, seed: u64) -> Weather {
        Weather { loss, jitter, random: StdRng::seed_from_u64(seed) }
    }

    /// Nothing is lost or delayed.
    pub fn fair() -> Weather {
        Weather::new(0.0, Duration::ZERO, 0)
    }
}

impl Fate for Weather {
    fn of(&mut self, _datagram: &[u8]) -> Option<Duration> {
        // Both are drawn each time, so that one does not change what the other does.
        let (lost, late): (f64, f64) = (self.random.random(), self.random.random());
        (lost >= self.loss).then(|| self.jitter.mul_f64(late))
    }
}

/// A one-way path through a link, from the device to one target. Dropping it ends it.
#[derive(Debug)]
pub struct Datagrams {
    address: SocketAddr,
    counts: Arc<Counts>,
    forwarder: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    passed: AtomicU64,
    dropped: AtomicU64,
}

impl Datagrams {
    pub(super) async fn open(
        shared: Arc<Shared>,
        target: SocketAddr,
        fate: Box<dyn Fate>,
    ) -> anyhow::Result<Datagrams> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let socket = socket.context("the link cannot receive datagrams")?;
        let address = socket.local_addr()?;
        let counts = Arc::new(Counts::default());
        let forwarder = tokio::spawn(forward(shared, socket, target, fate, Arc::clone(&counts)));
        Ok(Datagrams { address, counts, forwarder })
    }

    /// Where the device sends them.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many have arrived at the target's end.
    pub fn passed(&self) -> u64 {
        self.counts.passed.load(Ordering::Relaxed)
    }

    /// How many found the buffer full or the link down, or were lost by their fate.
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.forwarder.abort();
    }
}

async fn forward(
    shared: Arc<Shared>,
    socket: UdpSocket,
    target: SocketAddr,
    mut fate: Box<dyn Fate>,
    counts: Arc<Counts>,
) {
    let (sender, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(MOST_UNDER_WAY);
    let drop_one = || {
        counts.dropped.fetch_add(1, Ordering::Relaxed);
    };
    let take = async {
        let mut buffer = vec![0; LARGEST_DATAGRAM_BYTES];
        loop {
            // A target that does not listen is told here, and is none of the link's business.
            let Ok(bytes) = socket.recv(&mut buffer).await else { continue };
            let line = &shared.way(Direction::ToServer).line;
            let sent = shared.is_up().then(|| lock(line).send(Instant::now(), bytes));
            let late = fate.of(&buffer[..bytes]);
            let (Some(Ok(arrives)), Some(late)) = (sent, late) else {
                drop_one();
                continue;
            };
            if sender.try_send((arrives + late, buffer[..bytes].to_vec())).is_err() {
                drop_one();
            }
        }
    };
    let deliver = async {
        while let Some((arrives, datagram)) = under_way.recv().await {
            sleep_until(arrives).await;
            if shared.is_up() && socket.send_to(&datagram, target).await.is_ok() {
                counts.passed.fetch_add(1, Ordering::Relaxed);
            } else {
                drop_one();
            }
        }
    };
    tokio::join!(take, deliver);
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::super::{Cut, Lane, Link, Shape};
    use super::*;
    use crate::process::until;

    const DEADLINE: Duration = Duration::from_secs(3600);

    struct Scene {
        link: Link,
        server: TcpListener,
        datagrams: Datagrams,
        device: UdpSocket,
        target: UdpSocket,
    }

    async fn scene(lane: Lane) -> Scene {
        scene_in(lane, Weather::fair()).await
    }

    async fn scene_in(lane: Lane, weather: Weather) -> Scene {
        let fate = Box::new(weather);
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let link = Link::open(server.local_addr().unwrap(), Shape::symmetric(lane)).await.unwrap();
        let target = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let target_address = target.local_addr().unwrap();
        let datagrams = link.datagrams(target_address, fate).await.unwrap();
        let device = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        device.connect(datagrams.address()).await.unwrap();
        Scene { link, server, datagrams, device, target }
    }

    impl Scene {
        async fn received(&self) -> Vec<u8> {
            let mut buffer = [0; 2048];
            let bytes = self.target.recv(&mut buffer).await.unwrap();
            buffer[..bytes].to_vec()
        }

        async fn dropped(&self, datagrams: u64) {
            let dropped = async || (self.datagrams.dropped() == datagrams).then_some(());
            until("so many are dropped", DEADLINE, dropped).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn datagrams_take_their_time_and_their_turn() {
        // A second of line for each datagram.
        let scene = scene(Lane::new(2_000, 8_000)).await;
        let sent = Instant::now();
        for number in 0..3 {
            scene.device.send(&[number; 1000]).await.unwrap();
        }
        for number in 0..3 {
            assert_eq!(scene.received().await, [number; 1000]);
            assert!(sent.elapsed() >= Duration::from_secs(3 + u64::from(number)));
        }
        assert_eq!((scene.datagrams.passed(), scene.datagrams.dropped()), (3, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn datagrams_wait_for_what_a_connection_has_in_the_buffer() {
        let scene = scene(Lane::new(0, 8_000)).await;
        let mut device = TcpStream::connect(scene.link.address()).await.unwrap();
        let (_far, _) = scene.server.accept().await.unwrap();
        device.write_all(&[7; 10_000]).await.unwrap();
        let queued = async || (scene.link.sent_bytes(Direction::ToServer) == 10_000).then_some(());
        let sent = Instant::now();
        until("all is on the line", DEADLINE, queued).await.unwrap();
        scene.device.send(b"behind").await.unwrap();
        assert_eq!(scene.received().await, b"behind");
        assert!(sent.elapsed() >= Duration::from_secs(10), "{:?}", sent.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_buffer_takes_no_more() {
        let scene = scene(Lane { buffer_bytes: 2_500, ..Lane::new(0, 8_000) }).await;
        for number in 0..4 {
            scene.device.send(&[number; 1000]).await.unwrap();
        }
        scene.dropped(2).await;
        assert_eq!(scene.received().await, [0; 1000]);
        assert_eq!(scene.received().await, [1; 1000]);
        scene.device.send(b"room again").await.unwrap();
        assert_eq!(scene.received().await, b"room again");
    }

    #[tokio::test]
    async fn a_link_that_is_down_drops_datagrams_and_keeps_none() {
        let scene = scene(Lane::CLEAR).await;
        scene.link.cut(Cut::Stall);
        scene.device.send(b"lost").await.unwrap();
        scene.dropped(1).await;
        scene.link.restore();
        scene.device.send(b"kept").await.unwrap();
        assert_eq!(scene.received().await, b"kept");
    }

    #[test]
    fn weather_is_the_same_for_the_same_seed_and_loses_what_it_is_told() {
        let jitter = Duration::from_millis(30);
        let fates = |seed| -> Vec<_> {
            let mut weather = Weather::new(0.2, jitter, seed);
            (0..10_000).map(|_| weather.of(&[])).collect()
        };
        let once = fates(1);
        assert_eq!(once, fates(1));
        assert_ne!(once, fates(2));
        let lost = once.iter().filter(|late| late.is_none()).count();
        assert!((1_800..2_200).contains(&lost), "{lost}");
        assert!(once.iter().flatten().all(|late| *late < jitter));
        assert!(once.iter().flatten().any(|late| *late > jitter / 2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_late_holds_up_what_comes_behind_it() {
        let jitter = Duration::from_secs(10);
        let scene = scene_in(Lane::CLEAR, Weather::new(0.0, jitter, 7)).await;
        let latest = Weather::new(0.0, jitter, 7);
        let latest = (0..4).scan(latest, |weather, _| weather.of(&[])).max().unwrap();
        let sent = Instant::now();
        for number in 0..4 {
            scene.device.send(&[number]).await.unwrap();
        }
        for number in 0..4 {
            assert_eq!(scene.received().await, [number]);
        }
        assert!(sent.elapsed() >= latest, "{:?}", sent.elapsed());
    }
}
