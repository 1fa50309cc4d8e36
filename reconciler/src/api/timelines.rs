//! Timelines and gaps: cut, united and put into words here, out of what the core has given out.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use protocol::message::DeviceId;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde::Deserialize;
use utoipa::IntoParams;

use super::jobs::unexpected;
use super::openapi::{Invalid, Otherwise, Unknown};
use super::paging::{Limits, Page, before, behind, strange, window};
use super::{Asked, Kind, Problem, view};
use crate::board::{Look, Sight, Snapshot};
use crate::fleet::StreamKey;
use crate::order::Answer;
use crate::resolution::{self, Coarse};
use crate::rfc3339;
use crate::schema::{Id, Instant};
use crate::tally::{StateWord, Tally};
use crate::timeline::State as InState;

const STRETCHES: Limits = Limits { default: 1_000, most: 10_000 };
const GAPS: Limits = Limits { default: 100, most: 1_000 };
/// Streams whose gaps are looked through in one go.
const STREAMS_AT_ONCE: usize = 256;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TimelineQuery {
    /// From this instant; from the first on where it is left out
    #[serde(default, with = "rfc3339::optional")]
    #[param(value_type = Option<Instant>)]
    from: Option<Timestamp>,
    /// Up to this instant
    #[serde(default, with = "rfc3339::optional")]
    #[param(value_type = Option<Instant>)]
    to: Option<Timestamp>,
    /// What is shorter than this is united with its neighbours, under the worst of their states
    #[param(minimum = 0, maximum = 31_622_400)]
    resolution_s: Option<f64>,
    /// How many at most
    #[param(minimum = 1, maximum = 10_000, default = 1_000)]
    limit: Option<usize>,
    /// Behind this instant: what `next` said
    #[serde(default, with = "rfc3339::optional")]
    #[param(value_type = Option<Instant>)]
    after: Option<Timestamp>,
}

/// The state of every instant that should be recorded
#[utoipa::path(
    get,
    path = "/api/v1/devices/{device}/streams/{stream}/timeline",
    tag = "timelines",
    params(
        ("device" = Id, Path, description = "The device's id"),
        ("stream" = Id, Path, description = "The stream's id"),
        TimelineQuery
    ),
    responses((status = 200, description = "Stretches, oldest first", body = view::Timeline), Unknown, Invalid, Otherwise)
)]
pub async fn timeline(
    State(asked): State<Asked>,
    path: Result<Path<(DeviceId, StreamId)>, PathRejection>,
    query: Result<Query<TimelineQuery>, QueryRejection>,
) -> Result<Json<view::Timeline>, Problem> {
    let (Path((device, stream)), Query(query)) = (path?, query?);
    let TimelineQuery { from, to, resolution_s, limit, after } = query;
    let (range, limit) = (window(from, to)?, STRETCHES.choose(limit)?);
    let resolution = resolution_of(resolution_s.unwrap_or_default())?;
    match asked.look(Look::Timeline(StreamKey { device, stream })).await? {
        Sight::Timeline(snapshot) => Ok(Json(cut(snapshot, range, resolution, limit, after))),
        other => Err(unexpected(&Answer::Seen(other))),
    }
}

/// A year of it is no picture any more.
const COARSEST_S: f64 = 31_622_400.0;

fn resolution_of(seconds: f64) -> Result<Duration, Problem> {
    let within = (0.0..=COARSEST_S).contains(&seconds);
    let resolution = Duration::try_from_secs_f64(seconds).ok().filter(|_| within);
    resolution.ok_or_else(|| {
        let detail = format!("resolution_s: {seconds} is not between 0 and {COARSEST_S}");
        Problem::new(Kind::Invalid, detail)
    })
}

fn cut(
    snapshot: Snapshot,
    range: TimeRange,
    resolution: Duration,
    limit: usize,
    after: Option<Timestamp>,
) -> view::Timeline {
    let mut tally = Tally::default();
    for (range, state) in resolution::within(&snapshot.stretches, range) {
        tally.add(StateWord::of(state), range.duration());
    }
    let rest = resolution::within(&snapshot.stretches, behind(range, after));
    let mut coarse = resolution::coarsen(rest, resolution);
    let items: Vec<Coarse> = coarse.by_ref().take(limit).collect();
    let next = items.last().map(|last| last.range.end()).filter(|_| coarse.next().is_some());
    let StreamKey { device, stream } = snapshot.key;
    let is_known = snapshot.as_of.is_some();
    view::Timeline {
        device,
        stream,
        as_of: snapshot.as_of,
        completeness: view::Completeness::of(&tally.completeness(), is_known),
        by_state_s: view::ByState::from(&tally),
        items: items.into_iter().map(view::CoarseStretch::from).collect(),
        next,
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GapsQuery {
    /// Only of this device
    #[param(value_type = Option<Id>)]
    device: Option<DeviceId>,
    /// Only of streams with this id
    #[param(value_type = Option<Id>)]
    stream: Option<StreamId>,
    /// From this instant; from the first on where it is left out
    #[serde(default, with = "rfc3339::optional")]
    #[param(value_type = Option<Instant>)]
    from: Option<Timestamp>,
    /// Up to this instant
    #[serde(default, with = "rfc3339::optional")]
    #[param(value_type = Option<Instant>)]
    to: Option<Timestamp>,
    /// Of each stream the newest first
    newest_first: Option<bool>,
    /// How many at most
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    limit: Option<usize>,
    /// Behind this one: what `next` said
    after: Option<String>,
}

/// What is not in the archive, and why
#[utoipa::path(
    get,
    path = "/api/v1/gaps",
    tag = "timelines",
    params(GapsQuery),
    responses(
        (status = 200, description = "By device, stream and time", body = Page<view::Gap>),
        Unknown, Invalid, Otherwise
    )
)]
pub async fn gaps(
    State(asked): State<Asked>,
    query: Result<Query<GapsQuery>, QueryRejection>,
) -> Result<Json<Page<view::Gap>>, Problem> {
    let Query(GapsQuery { device, stream, from, to, newest_first, limit, after }) = query?;
    let newest_first = newest_first.unwrap_or_default();
    let (range, limit) = (window(from, to)?, GAPS.choose(limit)?);
    let after = after.as_deref().map(|after| Place::read(after).ok_or_else(|| strange(after)));
    let after = after.transpose()?;
    let mut goes_on = after.as_ref().map(|place| place.key.clone());
    let mut found: Vec<view::Gap> = Vec::new();
    loop {
        let (device, stream, from) = (device.clone(), stream.clone(), goes_on.take());
        // One more than are looked through, to go on from.
        let most = STREAMS_AT_ONCE + 1;
        let look = Look::Timelines { device, stream, from, most };
        let mut snapshots = match asked.look(look).await? {
            Sight::Timelines(snapshots) => snapshots,
            other => return Err(unexpected(&Answer::Seen(other))),
        };
        if snapshots.len() > STREAMS_AT_ONCE {
            goes_on = snapshots.pop().map(|snapshot| snapshot.key);
        }
        for snapshot in snapshots.iter().filter(|snapshot| !snapshot.tally.is_archived()) {
            let seen = after.as_ref().filter(|place| place.key == snapshot.key);
            let seen = seen.map(|place| place.at);
            let rest = if newest_first { before(range, seen) } else { behind(range, seen) };
            let mut gaps = resolution::within(&snapshot.stretches, rest)
                .filter(|(_, state)| !matches!(state, InState::Archived { .. }));
            let gaps =
                std::iter::from_fn(|| if newest_first { gaps.next_back() } else { gaps.next() });
            let StreamKey { device, stream } = &snapshot.key;
            let left = (limit + 1).saturating_sub(found.len());
            found.extend(gaps.take(left).map(|(range, state)| view::Gap {
                device: device.clone(),
                stream: stream.clone(),
                range: range.into(),
                state: state.clone(),
            }));
        }
        if found.len() > limit || goes_on.is_none() {
            break;
        }
    }
    Ok(Json(Page::of(found, limit, |last| Place::of(last, newest_first).to_string())))
}

/// Where a page of gaps ends.
#[derive(Clone, PartialEq, Debug)]
struct Place {
    key: StreamKey,
    at: Timestamp,
}

impl Place {
    fn of(gap: &view::Gap, newest_first: bool) -> Place {
        let key = StreamKey { device: gap.device.clone(), stream: gap.stream.clone() };
        Place { key, at: if newest_first { gap.range.from } else { gap.range.to } }
    }

    fn read(text: &str) -> Option<Place> {
        let (device, rest) = text.split_once('/')?;
        let (stream, at) = rest.split_once('/')?;
        let key = StreamKey { device: device.parse().ok()?, stream: stream.parse().ok()? };
        Some(Place { key, at: at.parse().ok()? })
    }
}

/// `cam-1/main/2026-11-23T10:00:00Z`
impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.key, self.at)
    }
}
