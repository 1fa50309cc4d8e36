//! Playing: what the archive holds of a range as HLS, as one MP4, and stills. For browsers' `<video>`, ffplay, VLC.
//!
//! Decides nothing: [`Player`] plans and reads. A stream's paths name device and stream, an edition and a number;
//! none of that ever becomes a path of a file.

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRef, Path, Query, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    ETAG,
};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use protocol::message::DeviceId;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::readable::explain;
use sdcard_indexer::time::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use super::byte_range::{Wanted, known_tag, wanted};
use super::openapi::{Footage, NoSuchBytes, NoSuchEdition, Otherwise};
use super::paging::range;
use super::{Kind, Problem};
use crate::access::{Action, audited};
use crate::fleet::StreamKey;
use crate::playback::{
    Edition, Media, PlayError, Player, ProgrammeError, Reference, SeekableFile, playlist,
};
use crate::rfc3339;
use crate::schema::{Id, Instant};

const PLAYLIST: &str = "application/vnd.apple.mpegurl";
pub(super) const MP4: &str = "video/mp4";
/// What an edition's path leads to never changes; who may see it is asked each time that it is not at hand.
const FOR_EVER: &str = "private, max-age=3600, immutable";
/// The archive may hold more of it the next time.
const ASK_AGAIN: &str = "private, no-cache";
/// Of the name that a download is given.
const MOST_NAME_CHARACTERS: usize = 120;

type Headers = Vec<(HeaderName, String)>;

/// The paths of this room, with their descriptions.
pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Player: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(list).layer(audited(Action::Play)))
        .routes(routes!(fragment))
        .routes(routes!(file).layer(audited(Action::Play)))
        .routes(routes!(still).layer(audited(Action::Still)))
}

/// These alone, for whoever reaches them.
pub fn router(player: Player) -> Router {
    routes::<Player>().with_state(player).into()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RangeQuery {
    /// RFC 3339.
    #[serde(with = "rfc3339")]
    #[param(value_type = Instant)]
    from: Timestamp,
    /// RFC 3339; up to 12 hours behind `from`.
    #[serde(with = "rfc3339")]
    #[param(value_type = Instant)]
    to: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FileQuery {
    /// RFC 3339.
    #[serde(with = "rfc3339")]
    #[param(value_type = Instant)]
    pub from: Timestamp,
    /// RFC 3339; up to 12 hours behind `from`.
    #[serde(with = "rfc3339")]
    #[param(value_type = Instant)]
    pub to: Timestamp,
    /// The name under which a browser is to save it, instead of showing it.
    #[serde(default)]
    pub download: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct StillQuery {
    /// RFC 3339.
    #[serde(with = "rfc3339")]
    #[param(value_type = Instant)]
    at: Timestamp,
}

/// A range as an HLS playlist.
///
/// Footage from the archive, live and pulled, as one presentation. Holes are discontinuities, described by
/// `EXT-X-DATERANGE` of the class `org.gapless.hole`. Begins with the keyframe at or before `from`.
#[utoipa::path(
    get,
    path = "/api/v1/devices/{device}/streams/{stream}/playback.m3u8",
    tag = "playback",
    params(("device" = Id, Path, description = "Its id"), ("stream" = Id, Path, description = "Of the device"), RangeQuery),
    responses(
        (status = 200, content_type = "application/vnd.apple.mpegurl", body = String),
        Footage,
        Otherwise,
    )
)]
async fn list(
    State(player): State<Player>,
    path: Result<Path<(DeviceId, StreamId)>, PathRejection>,
    query: Result<Query<RangeQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let (key, Query(RangeQuery { from, to })) = (key(path)?, query?);
    let programme = player.programme(&key, range(from, to)?).await?;
    let headers = [(CONTENT_TYPE, PLAYLIST), (CACHE_CONTROL, ASK_AGAIN)];
    Ok((headers, playlist(&programme)).into_response())
}

/// What a playlist leads to: a head or a segment.
#[utoipa::path(
    get,
    path = "/api/v1/devices/{device}/streams/{stream}/playback/{edition}/{name}",
    tag = "playback",
    params(
        ("device" = Id, Path, description = "Its id"),
        ("stream" = Id, Path, description = "Of the device"),
        ("edition" = String, Path, description = "As it stands in a playlist"),
        ("name" = String, Path, description = "As it stands in a playlist"),
    ),
    responses(
        (status = 200, content_type = "video/mp4", body = Vec<u8>),
        NoSuchEdition,
        Otherwise,
    )
)]
async fn fragment(
    State(player): State<Player>,
    method: Method,
    path: Result<Path<(DeviceId, StreamId, String, String)>, PathRejection>,
) -> Result<Response, Problem> {
    let Path((device, stream, edition, name)) = path?;
    let key = StreamKey { device, stream };
    let no_such = || Problem::new(Kind::Unknown, format!("no playlist leads to {edition}/{name}"));
    let reference = Reference::read(&name).ok_or_else(no_such)?;
    let programme = player.edition(&key, edition.parse().map_err(|_| no_such())?).await?;
    let (head, fragments) = match reference {
        Reference::Head(chapter) => {
            let head = programme.chapter_head(chapter).ok_or_else(no_such)?;
            (Bytes::copy_from_slice(head), 0..0)
        }
        Reference::Segment(segment) => {
            (Bytes::new(), programme.segment_bytes(segment).ok_or_else(no_such)?)
        }
    };
    let headers = vec![(CONTENT_TYPE, MP4.to_owned()), (CACHE_CONTROL, FOR_EVER.to_owned())];
    sent(&player, &method, StatusCode::OK, headers, Media { head, programme, fragments }).await
}

/// A range as one MP4 file, in which players find any instant by byte ranges.
///
/// A hole keeps its length. Where the encoder's settings change within the range, one file cannot hold it: 409 says
/// where.
#[utoipa::path(
    get,
    path = "/api/v1/devices/{device}/streams/{stream}/playback.mp4",
    tag = "playback",
    params(("device" = Id, Path, description = "Its id"), ("stream" = Id, Path, description = "Of the device"), FileQuery),
    responses(
        (status = 200, content_type = "video/mp4", body = Vec<u8>),
        (status = 206, description = "The bytes asked for with `Range`", content_type = "video/mp4", body = Vec<u8>),
        (status = 304, description = "It is the one that the client has"),
        Footage,
        NoSuchBytes,
        Otherwise,
    )
)]
async fn file(
    State(player): State<Player>,
    method: Method,
    path: Result<Path<(DeviceId, StreamId)>, PathRejection>,
    query: Result<Query<FileQuery>, QueryRejection>,
    asked: HeaderMap,
) -> Result<Response, Problem> {
    let (key, Query(FileQuery { from, to, download })) = (key(path)?, query?);
    let range = range(from, to)?;
    // Who goes on with a file is given the rest of that one, though the archive may hold more by now.
    let known = known_tag(&asked).and_then(|tag| tag.trim_matches('"').parse::<Edition>().ok());
    let known = known.filter(|edition| edition.range == range);
    let programme = match known.and_then(|edition| player.edition_at_hand(&key, edition)) {
        Some(programme) => programme,
        None => player.programme(&key, range).await?,
    };
    let file = SeekableFile::of(&programme).map_err(PlayError::Programme)?;
    let tag = format!("\"{}\"", programme.edition());
    let mut headers = vec![
        (ACCEPT_RANGES, "bytes".to_owned()),
        (CACHE_CONTROL, ASK_AGAIN.to_owned()),
        (ETAG, tag.clone()),
    ];
    let (status, bytes) = match wanted(&asked, file.bytes(), &tag) {
        Wanted::All => (StatusCode::OK, 0..file.bytes()),
        Wanted::Part(bytes) => {
            let (first, last, all) = (bytes.start, bytes.end - 1, file.bytes());
            headers.push((CONTENT_RANGE, format!("bytes {first}-{last}/{all}")));
            (StatusCode::PARTIAL_CONTENT, bytes)
        }
        Wanted::Nothing => {
            return Ok(with_headers(StatusCode::NOT_MODIFIED, headers, Body::empty()));
        }
        Wanted::Unsatisfiable => {
            let detail = format!("the file has {} bytes, and none where asked", file.bytes());
            let kind = Kind::Unreadable(StatusCode::RANGE_NOT_SATISFIABLE);
            let range = format!("bytes */{}", file.bytes());
            return Ok(([(CONTENT_RANGE, range)], Problem::new(kind, detail)).into_response());
        }
    };
    headers.push((CONTENT_TYPE, MP4.to_owned()));
    if let Some(name) = download {
        let name = file_name(&name, &key, from);
        headers.push((CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")));
    }
    let (head, fragments) = file.stretch(bytes);
    sent(&player, &method, status, headers, Media { head, programme, fragments }).await
}

/// The keyframe at or before an instant, as an MP4 of one frame.
#[utoipa::path(
    get,
    path = "/api/v1/devices/{device}/streams/{stream}/still.mp4",
    tag = "playback",
    params(("device" = Id, Path, description = "Its id"), ("stream" = Id, Path, description = "Of the device"), StillQuery),
    responses(
        (status = 200, content_type = "video/mp4", body = Vec<u8>),
        Footage,
        Otherwise,
    )
)]
async fn still(
    State(player): State<Player>,
    path: Result<Path<(DeviceId, StreamId)>, PathRejection>,
    query: Result<Query<StillQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let (key, Query(StillQuery { at })) = (key(path)?, query?);
    let still = player.still(&key, at).await?;
    Ok(([(CONTENT_TYPE, MP4), (CACHE_CONTROL, ASK_AGAIN)], still.file).into_response())
}

pub(super) fn key(
    path: Result<Path<(DeviceId, StreamId)>, PathRejection>,
) -> Result<StreamKey, Problem> {
    let Path((device, stream)) = path?;
    Ok(StreamKey { device, stream })
}

async fn sent(
    player: &Player,
    method: &Method,
    status: StatusCode,
    mut headers: Headers,
    media: Media,
) -> Result<Response, Problem> {
    let bytes = media.head.len() as u64 + (media.fragments.end - media.fragments.start);
    headers.push((CONTENT_LENGTH, bytes.to_string()));
    let body = match *method == Method::HEAD {
        true => Body::empty(),
        false => Body::from_stream(player.send(media).await?),
    };
    Ok(with_headers(status, headers, body))
}

fn with_headers(status: StatusCode, headers: Headers, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in headers {
        // Made of numbers, ids and what `file_name` has let through.
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// A name that is one on every system, whatever was asked for.
pub(super) fn file_name(wanted: &str, key: &StreamKey, from: Timestamp) -> String {
    let plain = |letter: char| match letter {
        letter if letter.is_ascii_alphanumeric() => letter,
        '.' | '-' | '_' | ' ' => letter,
        _ => '_',
    };
    let wanted = wanted.trim().trim_matches('.');
    let own = format!("{}-{}-{from}.mp4", key.device, key.stream);
    let name = if wanted.is_empty() { own.as_str() } else { wanted };
    let mut name: String = name.chars().take(MOST_NAME_CHARACTERS).map(plain).collect();
    if !name.to_ascii_lowercase().ends_with(".mp4") {
        name.push_str(".mp4");
    }
    name
}

impl From<PlayError> for Problem {
    fn from(error: PlayError) -> Problem {
        let kind = match &error {
            PlayError::Unknown { .. } | PlayError::Nothing { .. } | PlayError::Gone => {
                Kind::Unknown
            }
            PlayError::Programme(ProgrammeError::Nothing { .. }) => Kind::Unknown,
            PlayError::Empty | PlayError::TooLong { .. } => Kind::Invalid,
            PlayError::Programme(
                ProgrammeError::SettingsChange { .. } | ProgrammeError::Take(_),
            )
            | PlayError::Take(_) => Kind::Conflict,
            PlayError::Busy(_) => Kind::Busy,
            PlayError::Programme(ProgrammeError::Head(_))
            | PlayError::Ledger(_)
            | PlayError::Ended => {
                tracing::error!(error = explain(&error), "cannot play");
                Kind::Failed
            }
        };
        Problem::new(kind, explain(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::key;

    #[test]
    fn a_download_has_a_name_that_is_one_everywhere() {
        let at = Timestamp::from_unix_seconds(1_795_426_800);
        for (wanted, name) in [
            ("clip", "clip.mp4"),
            ("Clip 1.MP4", "Clip 1.MP4"),
            ("../../etc/passwd", "_.._etc_passwd.mp4"),
            ("a\"b\r\nc: d", "a_b__c_ d.mp4"),
            ("Tür", "T_r.mp4"),
            ("", "camera-main-2026-11-23T09_40_00Z.mp4"),
        ] {
            assert_eq!(file_name(wanted, &key(), at), name, "{wanted}");
        }
    }
}
