//! What all that passes a link shares: the line of each direction, whether the link is up, and what it counted.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use tokio::sync::watch;

use super::line::{Lane, Line};
use super::{Cut, Direction, Shape, lock};

/// One direction of a link.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) lane: Lane,
    pub(super) line: Mutex<Line>,
    pub(super) sent_bytes: AtomicU64,
    pub(super) passed_bytes: watch::Sender<u64>,
    pub(super) order: Mutex<Option<Order>>,
}

/// A cut to come.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) remaining_bytes: u64,
    pub(super) cut: Cut,
}

impl Way {
    fn new(lane: Lane) -> Way {
        Way {
            lane,
            line: Mutex::new(Line::new(lane)),
            sent_bytes: AtomicU64::new(0),
            passed_bytes: watch::Sender::new(0),
            order: Mutex::new(None),
        }
    }

    /// How many of `bytes` may pass before the ordered cut, and that cut where they use it up.
    pub(super) fn admit(&self, bytes: usize) -> (usize, Option<Cut>) {
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
pub(super) struct Condition {
    pub(super) down: Option<Cut>,
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

/// What a link's connections and datagrams have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) server: SocketAddr,
    to_server: Way,
    to_device: Way,
    pub(super) condition: watch::Sender<Condition>,
    pub(super) up: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn new(server: SocketAddr, shape: Shape) -> Shared {
        Shared {
            server,
            to_server: Way::new(shape.to_server),
            to_device: Way::new(shape.to_device),
            condition: watch::Sender::new(Condition::default()),
            up: watch::Sender::new(true),
        }
    }

    pub(super) fn way(&self, direction: Direction) -> &Way {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToDevice => &self.to_device,
        }
    }

    pub(super) fn cut(&self, cut: Cut) {
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

    pub(super) fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// Returns while the link is up and the connection made under `born` alive; else not before.
    pub(super) async fn usable(&self, born: Condition) {
        let usable = |now: &Condition| now.down.is_none() && born.ended_by(now).is_none();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.condition.subscribe().wait_for(usable).await;
    }

    /// Returns once a cut has ended the connection made under `born`.
    pub(super) async fn ended(&self, born: Condition) -> Cut {
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
