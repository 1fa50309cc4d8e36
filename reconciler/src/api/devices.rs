//! Devices: who is there, how whole each one is, what its cards hold, and how pieces from them meet what was live.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use protocol::message::DeviceId;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::time::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use super::jobs::unexpected;
use super::openapi::{Invalid, Otherwise, Unknown};
use super::paging::{Limits, Page, behind, strange, window};
use super::{Asked, Problem, view};
use crate::board::{Look, PlacedPiece, Sight};
use crate::fleet::StreamKey;
use crate::ledger::PartId;
use crate::order::{Answer, Order};
use crate::rfc3339;
use crate::schema::{Id, Instant};

const DEVICES: Limits = Limits { default: 100, most: 1_000 };
const RANGES: Limits = Limits { default: 1_000, most: 10_000 };
const PIECES: Limits = Limits { default: 100, most: 1_000 };

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Listing {
    /// How many at most
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    limit: Option<usize>,
    /// Behind this one: what `next` said
    #[param(value_type = Option<Id>)]
    after: Option<DeviceId>,
}

/// All devices, by their ids
#[utoipa::path(
    get,
    path = "/api/v1/devices",
    tag = "devices",
    params(Listing),
    responses((status = 200, description = "A page of them", body = Page<view::Device>), Invalid, Otherwise)
)]
pub async fn list(
    State(asked): State<Asked>,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<Page<view::Device>>, Problem> {
    let Query(Listing { limit, after }) = query?;
    let limit = DEVICES.choose(limit)?;
    match asked.look(Look::Devices { after, most: limit + 1 }).await? {
        Sight::Devices(devices) => {
            let page = Page::of(devices, limit, |last| last.device.to_string());
            Ok(Json(page.map(view::Device::from)))
        }
        other => Err(unexpected(&Answer::Seen(other))),
    }
}

/// One device
#[utoipa::path(
    get,
    path = "/api/v1/devices/{device}",
    tag = "devices",
    params(("device" = Id, Path, description = "Its id")),
    responses((status = 200, description = "How it is", body = view::Device), Unknown, Otherwise)
)]
pub async fn one(
    State(asked): State<Asked>,
    device: Result<Path<DeviceId>, PathRejection>,
) -> Result<Json<view::Device>, Problem> {
    let Path(device) = device?;
    match asked.look(Look::Device(device)).await? {
        Sight::Device(device) => Ok(Json((*device).into())),
        other => Err(unexpected(&Answer::Seen(other))),
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HeldQuery {
    /// From this instant; from the first on where it is left out
    #[serde(default, with = "rfc3339::optional")]
    #[param(value_type = Option<Instant>)]
    from: Option<Timestamp>,
    /// Up to this instant
    #[serde(default, with = "rfc3339::optional")]
    #[param(value_type = Option<Instant>)]
    to: Option<Timestamp>,
    /// How many ranges at most
    #[param(minimum = 1, maximum = 10_000, default = 1_000)]
    limit: Option<usize>,
    /// Behind this one: what `next` said
    #[serde(default, with = "rfc3339::optional")]
    #[param(value_type = Option<Instant>)]
    after: Option<Timestamp>,
}

/// What a device last said it holds of a stream; it is not asked again
#[utoipa::path(
    get,
    path = "/api/v1/devices/{device}/streams/{stream}/coverage",
    tag = "devices",
    params(
        ("device" = Id, Path, description = "The device's id"),
        ("stream" = Id, Path, description = "The stream's id"),
        HeldQuery
    ),
    responses((status = 200, description = "Time ranges, by its own word", body = view::Held), Unknown, Invalid, Otherwise)
)]
pub async fn coverage(
    State(asked): State<Asked>,
    path: Result<Path<(DeviceId, StreamId)>, PathRejection>,
    query: Result<Query<HeldQuery>, QueryRejection>,
) -> Result<Json<view::Held>, Problem> {
    let (Path((device, stream)), Query(HeldQuery { from, to, limit, after })) = (path?, query?);
    let (range, limit) = (behind(window(from, to)?, after), RANGES.choose(limit)?);
    let key = StreamKey { device, stream };
    match asked.look(Look::Held { key, range }).await? {
        Sight::Held(held) => Ok(Json(view::Held::of(*held, limit))),
        other => Err(unexpected(&Answer::Seen(other))),
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PiecesQuery {
    /// From this instant; from the first on where it is left out
    #[serde(default, with = "rfc3339::optional")]
    #[param(value_type = Option<Instant>)]
    from: Option<Timestamp>,
    /// Up to this instant
    #[serde(default, with = "rfc3339::optional")]
    #[param(value_type = Option<Instant>)]
    to: Option<Timestamp>,
    /// How many at most
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    limit: Option<usize>,
    /// Behind this one: what `next` said
    after: Option<String>,
}

/// How pieces that were merged meet the live recording
#[utoipa::path(
    get,
    path = "/api/v1/devices/{device}/streams/{stream}/seams",
    tag = "devices",
    params(
        ("device" = Id, Path, description = "The device's id"),
        ("stream" = Id, Path, description = "The stream's id"),
        PiecesQuery
    ),
    responses((status = 200, description = "Pieces and their seams", body = Page<view::Piece>), Unknown, Invalid, Otherwise)
)]
pub async fn seams(
    State(asked): State<Asked>,
    path: Result<Path<(DeviceId, StreamId)>, PathRejection>,
    query: Result<Query<PiecesQuery>, QueryRejection>,
) -> Result<Json<Page<view::Piece>>, Problem> {
    let (Path((device, stream)), Query(PiecesQuery { from, to, limit, after })) = (path?, query?);
    let (range, limit) = (window(from, to)?, PIECES.choose(limit)?);
    let after = after.as_deref().map(|after| place(after).ok_or_else(|| strange(after)));
    let after = after.transpose()?;
    match asked.look(Look::Pieces { key: StreamKey { device, stream }, range }).await? {
        Sight::Pieces(pieces) => {
            let at = |piece: &PlacedPiece| (piece.range.start(), piece.part);
            let rest =
                pieces.into_iter().filter(|piece| after.is_none_or(|after| at(piece) > after));
            let rest = rest.take(limit + 1).collect();
            let page =
                Page::of(rest, limit, |last| format!("{}/{}", last.range.start(), last.part.0));
            Ok(Json(page.map(view::Piece::from)))
        }
        other => Err(unexpected(&Answer::Seen(other))),
    }
}

/// `2026-11-23T10:00:00Z/7`
fn place(cursor: &str) -> Option<(Timestamp, PartId)> {
    let (start, part) = cursor.rsplit_once('/')?;
    Some((start.parse().ok()?, PartId(part.parse().ok()?)))
}

impl Asked {
    pub(super) async fn look(&self, look: Look) -> Result<Sight, Problem> {
        match self.desk.ask(Order::Look(look)).await? {
            Answer::Seen(sight) => Ok(sight),
            other => Err(unexpected(&other)),
        }
    }
}
