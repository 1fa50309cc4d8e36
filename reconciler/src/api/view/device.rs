//! Devices, their streams, and what their cards hold.

use protocol::message::DeviceId;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ByState, Completeness, Loss, Range, seconds_of};
use crate::board;
use crate::forecast::Forecast;
use crate::ledger::{PartId, PieceSeam};
use crate::order::Heard;
use crate::policy::PolicyName;
use crate::rfc3339;
use crate::schema::{Id, Instant};
use crate::tally::Tally;
use crate::timeline::Proof;

/// A device and how whole it is: [`board::DeviceStatus`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Device {
    #[schema(value_type = Id)]
    pub device: DeviceId,
    pub online: bool,
    #[serde(with = "rfc3339::optional")]
    #[schema(value_type = Option<Instant>, required)]
    pub last_heard: Option<Timestamp>,
    /// Empty where it was never heard.
    pub agent_version: String,
    /// Over what it is there; `null` where it is away.
    #[schema(required)]
    pub network: Option<Network>,
    /// Of all its streams together.
    pub completeness: Completeness,
    /// What is forecast to be overwritten before it can be pulled; `null`: nothing.
    #[schema(required)]
    pub at_risk: Option<AtRisk>,
    pub streams: Vec<Stream>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Network {
    /// As the device calls it, such as `wifi`.
    pub link: String,
    #[schema(value_type = Option<String>, required)]
    pub address: Option<std::net::IpAddr>,
}

/// A stream in one line: [`board::StreamStatus`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Stream {
    #[schema(value_type = Id)]
    pub stream: StreamId,
    #[schema(value_type = Id)]
    pub policy: PolicyName,
    /// When the rest was reckoned; `null` until the archive was read: nothing is known until then.
    #[serde(with = "rfc3339::optional")]
    #[schema(value_type = Option<Instant>, required)]
    pub as_of: Option<Timestamp>,
    pub completeness: Completeness,
    pub by_state_s: ByState,
    /// From when on it should be whole.
    #[serde(with = "rfc3339")]
    #[schema(value_type = Instant)]
    pub expected_from: Timestamp,
    /// From the first to the last instant that the archive has.
    #[schema(required)]
    pub recorded: Option<Range>,
    /// From the first to the last instant that the card has, as far as it was heard.
    #[schema(required)]
    pub held: Option<Range>,
    pub heard: Heard,
    /// The oldest instant that the card still holds.
    #[serde(with = "rfc3339::optional")]
    #[schema(value_type = Option<Instant>, required)]
    pub horizon: Option<Timestamp>,
}

/// What a device will lose: [`board::AtRisk`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct AtRisk {
    /// So much of its footage.
    pub seconds: f64,
    /// When the first of it goes, where that can be told.
    #[serde(with = "rfc3339::optional")]
    #[schema(value_type = Option<Instant>, required)]
    pub first_at: Option<Timestamp>,
    /// When everything else will be here.
    #[serde(with = "rfc3339::optional")]
    #[schema(value_type = Option<Instant>, required)]
    pub done_at: Option<Timestamp>,
    /// Which footage: no more than the first hundred ranges.
    pub ranges: Vec<Loss>,
}

/// What a device last said it holds of a stream: [`board::OnCard`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Held {
    #[schema(value_type = Id)]
    pub device: DeviceId,
    #[schema(value_type = Id)]
    pub stream: StreamId,
    /// Whose word it is.
    pub heard: Heard,
    /// When the device was last heard.
    #[serde(with = "rfc3339::optional")]
    #[schema(value_type = Option<Instant>, required)]
    pub as_of: Option<Timestamp>,
    /// The oldest instant that the card still holds.
    #[serde(with = "rfc3339::optional")]
    #[schema(value_type = Option<Instant>, required)]
    pub horizon: Option<Timestamp>,
    /// What is absent before this will not appear later.
    #[serde(with = "rfc3339::optional")]
    #[schema(value_type = Option<Instant>, required)]
    pub final_until: Option<Timestamp>,
    /// How well the device knows it: 0 from names alone, 1 from heads and tails of files.
    pub tier: u8,
    pub uncertainty_s: f64,
    /// Of the whole range that was asked about.
    pub held_s: f64,
    pub held: Vec<Range>,
    /// For `after`, where there is more.
    #[serde(with = "rfc3339::optional")]
    #[schema(value_type = Option<Instant>, required)]
    pub next: Option<Timestamp>,
}

/// A piece that was merged, and how it meets the live recording: [`board::PlacedPiece`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Piece {
    #[schema(value_type = i64)]
    pub part: PartId,
    #[serde(flatten)]
    pub range: Range,
    pub proof: Proof,
    /// One for each end that meets a live recording.
    pub seams: Vec<PieceSeam>,
}

impl From<board::DeviceStatus> for Device {
    fn from(status: board::DeviceStatus) -> Device {
        let sums = status.streams.iter().fold(Tally::default(), |sums, one| sums.and(&one.tally));
        let is_known = status.streams.iter().all(|stream| stream.as_of.is_some());
        Device {
            device: status.device,
            online: status.online,
            last_heard: status.last_heard,
            agent_version: status.agent_version,
            network: status
                .network
                .map(|network| Network { link: network.link, address: network.address }),
            completeness: Completeness::of(&sums.completeness(), is_known),
            at_risk: status.at_risk.map(AtRisk::from),
            streams: status.streams.into_iter().map(Stream::from).collect(),
        }
    }
}

impl From<board::StreamStatus> for Stream {
    fn from(status: board::StreamStatus) -> Stream {
        Stream {
            stream: status.stream,
            policy: status.policy,
            as_of: status.as_of,
            completeness: Completeness::of(&status.tally.completeness(), status.as_of.is_some()),
            by_state_s: ByState::from(&status.tally),
            expected_from: status.expected_from,
            recorded: status.recorded.map(Range::from),
            held: status.held.map(Range::from),
            heard: status.heard,
            horizon: status.horizon,
        }
    }
}

impl From<board::AtRisk> for AtRisk {
    fn from(risk: board::AtRisk) -> AtRisk {
        let ranges = risk.lost.into_iter();
        AtRisk {
            seconds: risk.lost_for.as_secs_f64(),
            first_at: risk.first_at,
            done_at: risk.done_at,
            ranges: ranges.map(Loss::from).collect(),
        }
    }
}

impl AtRisk {
    /// Without its ranges: who wants these asks for the device.
    pub fn in_short(forecast: &Forecast) -> AtRisk {
        AtRisk {
            seconds: forecast.lost().as_secs_f64(),
            first_at: None,
            done_at: forecast.done_at,
            ranges: Vec::new(),
        }
    }
}

impl Held {
    /// Of what a device holds, no more than `limit` ranges.
    pub fn of(on_card: board::OnCard, limit: usize) -> Held {
        let ranges: Vec<TimeRange> = on_card.held.iter().take(limit).collect();
        let is_cut = on_card.held.ranges().len() > limit;
        Held {
            device: on_card.key.device,
            stream: on_card.key.stream,
            heard: on_card.heard,
            as_of: on_card.as_of,
            horizon: on_card.horizon,
            final_until: on_card.final_until,
            tier: on_card.tier,
            uncertainty_s: seconds_of(on_card.uncertainty_ns),
            held_s: on_card.held.total().as_secs_f64(),
            next: ranges.last().filter(|_| is_cut).map(TimeRange::end),
            held: ranges.into_iter().map(Range::from).collect(),
        }
    }
}

impl From<board::PlacedPiece> for Piece {
    fn from(piece: board::PlacedPiece) -> Piece {
        let board::PlacedPiece { part, range, proof, seams } = piece;
        Piece { part, range: range.into(), proof, seams }
    }
}
