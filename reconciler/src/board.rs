//! The board: what a running server shows of itself, to whoever only looks.
//!
//! Plain values. The core gives them out and goes on: a timeline is shared, not copied, and nothing is counted that
//! was not counted before. Whoever asked cuts, unites and writes in its own time.

use std::sync::Arc;
use std::time::Duration;

use protocol::dropped::Cause;
use protocol::message::{DeviceId, Network};
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::time::{TimeRange, Timestamp};

use crate::fleet::StreamKey;
use crate::ledger::{PartId, PartState, PieceSeam};
use crate::order::{Heard, Loss};
use crate::policy::PolicyName;
use crate::tally::Tally;
use crate::timeline::{Proof, Stretch};

/// What is looked at.
#[derive(Clone, PartialEq, Debug)]
pub enum Look {
    /// In the order of their ids, those behind `after`.
    Devices {
        after: Option<DeviceId>,
        most: usize,
    },
    Device(DeviceId),
    /// One stream's timeline, no older than a second.
    Timeline(StreamKey),
    /// The timelines of all streams, or of one device's, or of all of one name, as of their last look; in the order
    /// of their names, from `from` on.
    Timelines {
        device: Option<DeviceId>,
        stream: Option<StreamId>,
        from: Option<StreamKey>,
        most: usize,
    },
    /// What the device last said it holds, within the range.
    Held {
        key: StreamKey,
        range: TimeRange,
    },
    /// The merged pieces that share time with the range.
    Pieces {
        key: StreamKey,
        range: TimeRange,
    },
    /// Sums over everything.
    Totals,
    /// Is there a connection to the broker?
    Link,
}

/// What is seen, each of its own question.
#[derive(Clone, PartialEq, Debug)]
pub enum Sight {
    Devices(Vec<DeviceStatus>),
    Device(Box<DeviceStatus>),
    Timeline(Snapshot),
    Timelines(Vec<Snapshot>),
    Held(Box<OnCard>),
    Pieces(Vec<PlacedPiece>),
    Totals(Box<Totals>),
    Link { is_up: bool },
}

/// The timeline of a stream as it is now.
#[derive(Clone, PartialEq, Debug)]
pub struct Snapshot {
    pub key: StreamKey,
    /// `None` until the archive was read.
    pub as_of: Option<Timestamp>,
    pub stretches: Arc<[Stretch]>,
    pub tally: Tally,
}

#[derive(Clone, PartialEq, Debug)]
pub struct DeviceStatus {
    pub device: DeviceId,
    pub online: bool,
    pub last_heard: Option<Timestamp>,
    pub agent_version: String,
    /// Over what it is there.
    pub network: Option<Network>,
    pub at_risk: Option<AtRisk>,
    pub streams: Vec<StreamStatus>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct StreamStatus {
    pub stream: StreamId,
    /// That it falls under.
    pub policy: PolicyName,
    pub tally: Tally,
    /// `None` until the archive was read.
    pub as_of: Option<Timestamp>,
    /// From when on it should be whole.
    pub expected_from: Timestamp,
    /// From the first to the last instant that the archive has.
    pub recorded: Option<TimeRange>,
    /// From the first to the last instant that the card has.
    pub held: Option<TimeRange>,
    pub heard: Heard,
    pub horizon: Option<Timestamp>,
}

/// Footage of a device that is forecast to be overwritten before it can be pulled.
#[derive(Clone, PartialEq, Debug)]
pub struct AtRisk {
    pub lost_for: Duration,
    /// The first of it; ranges that are almost one are told as one.
    pub lost: Vec<Loss>,
    /// When the first of it goes, where that can be told.
    pub first_at: Option<Timestamp>,
    /// When everything else will be here, at the present rate.
    pub done_at: Option<Timestamp>,
}

/// What a device said it holds of a stream.
#[derive(Clone, PartialEq, Debug)]
pub struct OnCard {
    pub key: StreamKey,
    pub heard: Heard,
    /// When the device was last heard.
    pub as_of: Option<Timestamp>,
    pub held: Coverage,
    pub horizon: Option<Timestamp>,
    /// What is absent before this will not appear later.
    pub final_until: Option<Timestamp>,
    pub tier: u8,
    pub uncertainty_ns: u64,
}

/// A piece that stands in the archive.
#[derive(Clone, PartialEq, Debug)]
pub struct PlacedPiece {
    pub part: PartId,
    pub range: TimeRange,
    pub proof: Proof,
    pub seams: Vec<PieceSeam>,
}

/// Sums over everything, for who watches many servers.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Totals {
    pub devices: u64,
    pub online: u64,
    pub streams: u64,
    pub tally: Tally,
    /// In the order of [`PartState::ALL`].
    pub parts: [u64; PartState::ALL.len()],
    /// Being pulled or merged right now.
    pub running: u64,
    /// Waiting for their turn.
    pub waiting: u64,
    pub jobs_open: u64,
    pub runs_open: u64,
    /// Media bytes since the start, and of these the ones that had come before.
    pub received_bytes: u64,
    pub resent_bytes: u64,
    pub devices_at_risk: u64,
    /// Messages that could not be used since the start, by cause.
    pub unusable: Vec<(Cause, u64)>,
    pub link_is_up: bool,
}
