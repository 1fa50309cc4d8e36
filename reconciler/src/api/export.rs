//! Export: a range as one MP4 to keep, and the manifest that proves it elsewhere.
//!
//! The two are asked for one after the other. Both are made of the recordings while they are sent, and the same
//! recordings give the same bytes; where the archive has come to hold more meanwhile, `gapless verify-export` finds
//! that the two do not belong together, and both are to be had anew. The manifest's digest is in the audit log.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::Method;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use protocol::message::DeviceId;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::readable::explain;
use sdcard_indexer::time::{TimeRange, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_stream::wrappers::ReceiverStream;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use super::openapi::{Footage, Otherwise};
use super::paging::range;
use super::playback::{FileQuery, MP4, file_name, key};
use super::{Asked, Kind, Problem};
use crate::access::{Action, Caller, Subject, audited};
use crate::config::ArchiveConfig;
use crate::fleet::StreamKey;
use crate::ledger::Ledger;
use crate::playback::{ExportError, PlayError, Player};
use crate::proof::{Blake3, Export, Exporter, Manifest, ProveError, Provenance};
use crate::schema::Id;

/// Exports that are made at once: each reads as fast as the disk can.
const MOST: usize = 2;
const CHUNK_BYTES: usize = 128 << 10;
/// Nobody may change what is exported between, so it is asked for anew each time.
const NEVER_KEPT: &str = "private, no-store";

/// What exports are made of.
#[derive(Clone)]
pub struct Exports {
    player: Player,
    ledger: Arc<dyn Ledger>,
    archive_root: PathBuf,
    join_tolerance: Duration,
    room: Arc<Semaphore>,
}

impl fmt::Debug for Exports {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Exports").field("player", &self.player).finish_non_exhaustive()
    }
}

impl Exports {
    pub fn new(player: Player, ledger: Arc<dyn Ledger>, archive: &ArchiveConfig) -> Exports {
        Exports {
            player,
            ledger,
            archive_root: archive.root.clone(),
            join_tolerance: archive.join_tolerance(),
            room: Arc::new(Semaphore::new(MOST)),
        }
    }

    /// Writes one into `output`, off the async threads; `with_sources` where the manifest is wanted.
    async fn begin<W: Write + Send + 'static>(
        &self,
        wanted: Wanted,
        output: W,
        with_sources: bool,
    ) -> Result<JoinHandle<Result<Manifest, ProveError>>, Problem> {
        let Wanted { key, range, name, by } = wanted;
        let place = self.place()?;
        let segments = self.player.segments(&key, range).await?;
        let parts = self.ledger.parts(&key).await?;
        let provenance = Provenance::of(&self.archive_root, parts);
        let timeline = self.ledger.timeline(&key).await?;
        let Exports { player, archive_root, join_tolerance, .. } = self.clone();
        Ok(spawn_blocking(move || {
            let _place = place;
            let export = Export {
                key: &key,
                asked: range,
                root: &archive_root,
                runs: &player.runs(&segments),
                provenance: &provenance,
                timeline: timeline.as_ref(),
                join_tolerance,
                exporter: Exporter::new(by, Timestamp::from_jiff(jiff::Timestamp::now())),
                name: &name,
                with_sources,
            };
            export.write(output, &())
        }))
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = Arc::clone(&self.room).try_acquire_owned();
        place.map_err(|_| Problem::new(Kind::Busy, "others are exporting: try again in a while"))
    }
}

/// What is to be exported, and who says so.
struct Wanted {
    key: StreamKey,
    range: TimeRange,
    name: String,
    by: String,
}

impl Wanted {
    fn read(
        path: Result<Path<(DeviceId, StreamId)>, PathRejection>,
        query: Result<Query<FileQuery>, QueryRejection>,
        caller: &Caller,
    ) -> Result<Wanted, Problem> {
        let (key, Query(FileQuery { from, to, download })) = (key(path)?, query?);
        let range = range(from, to)?;
        let name = file_name(download.as_deref().unwrap_or_default(), &key, from);
        Ok(Wanted { key, range, name, by: format!("{} ({}), by the API", caller.name, caller.way) })
    }
}

/// The paths of this room, with their descriptions.
pub(super) fn routes() -> OpenApiRouter<Asked> {
    OpenApiRouter::new()
        .routes(routes!(clip).layer(audited(Action::Export)))
        .routes(routes!(manifest).layer(audited(Action::Export)))
}

/// A range as one MP4 to keep
///
/// Its manifest is to be had beside it, with the same parameters.
#[utoipa::path(
    get,
    path = "/api/v1/devices/{device}/streams/{stream}/export.mp4",
    tag = "export",
    params(("device" = Id, Path, description = "Its id"), ("stream" = Id, Path, description = "Of the device"), FileQuery),
    responses(
        (status = 200, content_type = "video/mp4", body = Vec<u8>),
        Footage,
        Otherwise,
    )
)]
async fn clip(
    State(exports): State<Exports>,
    method: Method,
    path: Result<Path<(DeviceId, StreamId)>, PathRejection>,
    query: Result<Query<FileQuery>, QueryRejection>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Problem> {
    let wanted = Wanted::read(path, query, &caller)?;
    let headers = [
        (CONTENT_TYPE, MP4.to_owned()),
        (CACHE_CONTROL, NEVER_KEPT.to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{}\"", wanted.name)),
    ];
    if method == Method::HEAD {
        return Ok(headers.into_response());
    }
    let (chunks, mut sent) = mpsc::channel(2);
    let writing = exports.begin(wanted, Chunks { chunks, waiting: BytesMut::new() }, false).await?;
    // What cannot be exported at all is refused in words, before anything is sent.
    let Some(first) = sent.recv().await else {
        return Err(outcome(writing.await).err().unwrap_or_else(ended));
    };
    let (body, sending) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut next = Some(first);
        while let Some(chunk) = next {
            if body.send(Ok(chunk)).await.is_err() {
                return;
            }
            next = sent.recv().await;
        }
        // What goes wrong now ends the answer early: its receiver sees that it is not whole.
        if let Err(problem) = outcome(writing.await) {
            drop(body.send(Err(io::Error::other(problem.detail))).await);
        }
    });
    Ok((headers, Body::from_stream(ReceiverStream::new(sending))).into_response())
}

/// What proves an exported range
///
/// Who recorded each part of it, with which digests, how the parts meet, and what of the range is not there and why.
#[utoipa::path(
    get,
    path = "/api/v1/devices/{device}/streams/{stream}/export.json",
    tag = "export",
    params(("device" = Id, Path, description = "Its id"), ("stream" = Id, Path, description = "Of the device"), FileQuery),
    responses(
        (status = 200, description = "The manifest, for `gapless verify-export`", body = Object),
        Footage,
        Otherwise,
    )
)]
async fn manifest(
    State(exports): State<Exports>,
    path: Result<Path<(DeviceId, StreamId)>, PathRejection>,
    query: Result<Query<FileQuery>, QueryRejection>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Problem> {
    let wanted = Wanted::read(path, query, &caller)?;
    let headers = [
        (CONTENT_TYPE, "application/json".to_owned()),
        (CACHE_CONTROL, NEVER_KEPT.to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{}.json\"", wanted.name)),
    ];
    let manifest = outcome(exports.begin(wanted, io::sink(), true).await?.await)?;
    let json = manifest.to_json().map_err(|error| Problem::new(Kind::Failed, error))?;
    let noted = Subject::named(format!("manifest {}", Blake3(blake3::hash(&json))));
    Ok((Extension(noted), headers, json).into_response())
}

fn outcome(
    written: Result<Result<Manifest, ProveError>, tokio::task::JoinError>,
) -> Result<Manifest, Problem> {
    written.map_err(|_| ended())?.map_err(Problem::from)
}

fn ended() -> Problem {
    Problem::from(PlayError::Ended)
}

impl From<ProveError> for Problem {
    fn from(error: ProveError) -> Problem {
        let kind = match &error {
            ProveError::Export(ExportError::Nothing { .. }) => Kind::Unknown,
            ProveError::Export(ExportError::Output(_)) => Kind::Failed,
            ProveError::Export(_) | ProveError::Source { .. } => Kind::Conflict,
        };
        Problem::new(kind, explain(&error))
    }
}

/// A writer whose bytes an answer's body takes, in chunks; it ends where nobody takes them any more.
struct Chunks {
    chunks: mpsc::Sender<Bytes>,
    waiting: BytesMut,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let chunk = self.waiting.split().freeze();
        self.chunks.blocking_send(chunk).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
