//! The messages, as types. How they become bytes is [`crate::envelope`]'s business.
//!
//! Postcard does not describe itself: fields may only ever be appended, and then with a new
//! [`crate::PROTOCOL_VERSION`]. A new variant goes last; a receiver that does not know it drops and counts
//! the message. `tests/golden.rs` holds the bytes as they were agreed on.

use std::net::IpAddr;

use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::id_type;
use sdcard_indexer::identity::{SegmentId, SegmentVersion, StreamId};
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde::{Deserialize, Serialize};

pub use sdcard_indexer::identity::BootId;

id_type! {
    /// A camera or body-worn unit, by an id that never changes: 1 to 64 of `A-Z a-z 0-9 _ -`.
    DeviceId
}

id_type! {
    /// A reconciler, by an id of the same alphabet: answers and data come back on topics that end in it.
    ServerId
}

/// One MQTT connection of the device, drawn at random; stands in `Online` and in its last will.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub struct ConnectionId(pub u64);

/// Milliseconds of the device's `CLOCK_BOOTTIME`: the one clock of a device that never steps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
pub struct BootMillis(pub u64);

/// Drawn at random by the server for each question; its answer carries it back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// Drawn at random by the server for each opening, so that data of an older one is told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub struct TransferId(pub u64);

/// `state`, retained, and the last will.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Presence {
    Online(Online),
    /// Said on a clean stop and by the last will. Ignored where `connection` is not the current one: an
    /// old will can arrive after a takeover.
    Offline {
        connection: ConnectionId,
    },
}

/// The device is here, on a connection of its own: repeated 2 s after connecting and every 60 s.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Online {
    pub connection: ConnectionId,
    pub boot: BootId,
    pub agent_version: String,
    pub limits: DeviceLimits,
    pub clock: ClockSample,
    pub streams: Vec<StreamId>,
    pub network: Network,
}

/// Over what the device reaches the broker, by its own word: a policy may wait for a better one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Network {
    /// `ethernet`, `wifi`, `cellular`, or what the device's configuration says instead; empty where it
    /// cannot tell. A server compares it with what policies name, and takes no more than 64 bytes of it.
    pub link: String,
    /// The device's own address on that network.
    pub address: Option<IpAddr>,
}

/// What a server may ask of the device at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeviceLimits {
    pub max_chunk_bytes: u32,
    pub max_open_transfers: u32,
    /// 0: no limit.
    pub max_bytes_per_second: u64,
}

/// Both clocks of the device, read together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClockSample {
    pub realtime: Timestamp,
    pub boottime: BootMillis,
}

/// `coverage`: within `window`, the device holds exactly `held`.
///
/// A full report has the window `MIN..MAX` (or several messages whose windows tile it); a change has
/// only the window that changed. Either is applied the same way, so that a repeated message is harmless.
/// A jump in `generation` tells the server that it missed one, and it asks for a full report.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CoverageReport {
    pub connection: ConnectionId,
    pub stream: StreamId,
    /// Counts this stream's reports on this connection, from 0.
    pub generation: u64,
    pub window: TimeRange,
    pub held: Coverage,
    /// Was on the card and is gone: overwritten by the recorder, or deleted.
    pub gone: Coverage,
    /// The oldest instant the card still holds; `None` where it holds nothing of the stream.
    pub horizon: Option<Timestamp>,
    /// What is absent before this instant will not appear later: no open or unread segment begins before it.
    pub final_until: Timestamp,
    /// 0: from names alone; 1: from heads and tails of files; 2: from keyframe tables.
    pub tier: u8,
    /// How far any edge of `held` may lie from the truth.
    pub uncertainty_ns: u64,
    /// `None` where the device cannot tell yet.
    pub overwriting: Option<Overwriting>,
}

/// When footage of a stream will be overwritten, by the device's own reckoning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Overwriting {
    /// When the oldest instant held is expected to go, on the clock by which `held` is placed.
    pub horizon_goes_at: Timestamp,
    /// How fast the horizon moves from then on: milliseconds of footage that go in a second. 1,000 for a
    /// ring that is full and recorded to all the time; never 0.
    pub horizon_ms_per_second: u32,
}

/// `ask`: a question or order for one device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ask {
    pub server: ServerId,
    /// The connection it is meant for; a device on another one drops it.
    pub connection: ConnectionId,
    /// In the device's own never-stepping clock, which the server knows from [`ClockSample`]: cameras'
    /// wall clocks are not to be trusted with an expiry.
    pub expires: BootMillis,
    pub body: AskBody,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AskBody {
    /// Report the coverage of every stream in full.
    Coverage,
    Locate {
        request: RequestId,
        stream: StreamId,
        range: TimeRange,
    },
    Open(Open),
    /// Idempotent; a transfer that is not known is not an error.
    Cancel {
        transfer: TransferId,
    },
    /// What stands on the card in this range, by the index alone: for a person who looks for something.
    List {
        request: RequestId,
        stream: StreamId,
        range: TimeRange,
    },
    /// What time it is, by the server: said upon each `Online`, so that a device whose clock nobody has set
    /// can tell when it recorded what.
    Time(ServerTime),
}

/// True time at some instant between the device's own clock sample and the arrival of this message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServerTime {
    /// From [`Online::clock`]: what the device's never-stepping clock showed before the server was asked.
    pub sampled: BootMillis,
    pub utc: Timestamp,
}

/// Order to send the bytes `[from, end)` of a part `[start, end)` of a segment.
///
/// The device reads and hashes `[start, from)` too, without sending it, so that `End` always carries the
/// digest of the whole part as it stands on the card, however often the transfer was resumed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Open {
    pub transfer: TransferId,
    pub segment: SegmentId,
    pub version: SegmentVersion,
    pub start: u64,
    pub end: u64,
    /// First byte to send; the server holds all before it.
    pub from: u64,
    /// First credit: absolute offset in the segment up to which data may be sent.
    pub credit_limit: u64,
    pub chunk_bytes: u32,
    /// 0: as fast as the credit allows.
    pub rate_bytes_per_second: u64,
    /// Higher goes first, strictly.
    pub priority: u8,
}

/// `credit`: how far the device may send. Cumulative; repeated each second as a heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Credit {
    pub transfer: TransferId,
    /// A credit with a lower or equal number than the last one is stale and ignored.
    pub sequence: u32,
    /// Absolute offset in the segment up to which data may be sent.
    pub limit: u64,
    /// All bytes before this offset are on the server's disk.
    pub durable: u64,
    pub chunk_bytes: u32,
    pub rate_bytes_per_second: u64,
    /// The server's own clock, opaque to the device, echoed in [`crate::frame::Data`] to measure round trips.
    pub time: u64,
}

/// `tell/{server}`: an answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Tell {
    Located(Located),
    /// The transfer is known. Repeated each second while the prefix `[start, from)` is being hashed.
    Accepted {
        transfer: TransferId,
        /// Bytes that will be sent.
        length_bytes: u64,
    },
    /// All bytes were sent. A hint: done is decided by the bytes that the server holds.
    End {
        transfer: TransferId,
        digest: PartDigest,
    },
    Refused {
        what: Refusable,
        reason: RefusedReason,
    },
    Listed(Listed),
}

/// What a part is, by the card.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartDigest {
    /// Of the whole part `[start, end)`, as read from the card.
    pub blake3: [u8; 32],
    pub seal: SealCheck,
}

/// Whether what was read is what the recorder left on the card when it closed the segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub enum SealCheck {
    /// Nobody can say: no digest was taken at that time, or the segment is still open.
    Unknown,
    /// Every block of the segment that the part touches was read whole, and has the digest that it had then.
    Equal,
}

/// The parts that hold a time range, oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Located {
    pub request: RequestId,
    pub stream: StreamId,
    pub parts: Vec<Part>,
    /// Where to ask on: the answer was full before the range was.
    pub next: Option<Timestamp>,
}

/// The segments that share time with the range asked for, oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Listed {
    pub request: RequestId,
    pub stream: StreamId,
    pub segments: Vec<ListedSegment>,
    /// Where to ask on: the answer was full before the range was.
    pub next: Option<Timestamp>,
}

/// A segment as the device's index knows it; no file was opened for this answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListedSegment {
    pub range: TimeRange,
    pub uncertainty_ns: u64,
    /// Of the whole segment.
    pub size_bytes: u64,
    /// As in [`CoverageReport::tier`].
    pub tier: u8,
    /// Its recorder has closed it.
    pub sealed: bool,
}

/// A keyframe-aligned byte range of a segment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Part {
    pub segment: SegmentId,
    pub version: SegmentVersion,
    pub start: u64,
    pub end: u64,
    /// From the first frame shown to the end of the last.
    pub range: TimeRange,
    pub uncertainty_ns: u64,
    /// What a player needs besides the bytes: `sdcard_indexer::cut::PartMedia`, in its own encoding.
    pub media: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub enum Refusable {
    Request(RequestId),
    Transfer(TransferId),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub enum RefusedReason {
    /// The segment is no longer on the card.
    Gone,
    /// Another file stands under the segment's name.
    Changed,
    /// As many transfers are open as the device allows.
    Busy,
    /// The device's own policy forbids it.
    Forbidden,
    /// Credit arrived for a transfer that the device does not know: it restarted, or dropped it.
    UnknownTransfer,
    /// The card cannot be read there.
    CardError,
    /// The request makes no sense: an empty or backward range, an unknown stream, an absurd size.
    Malformed,
    /// The card gives back other bytes than the recorder left on it when it closed the segment.
    Altered {
        /// Offset in the segment: of the part, all before it was compared, and is as it was.
        intact: u64,
    },
}
