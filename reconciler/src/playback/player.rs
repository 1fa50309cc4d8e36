//! The player of the running server: programmes of what the archive holds now, and their bytes as they are wanted.
//!
//! Asks the archive's thread and the ledger what is there, and keeps what it has planned, as long as nothing of it has
//! changed: a playlist and all of its segments, a file and all stretches asked of it, are of one edition. An edition
//! that somebody plays can be had as long as it is on the shelf, though the archive has come to hold more.
//!
//! Nothing is read on an async thread, few plan and read at once, and nobody is read for who does not take it: of what
//! is sent, a chunk or two are in memory. It never changes a file.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sdcard_indexer::readable::{explain, length_of};
use sdcard_indexer::time::{TimeRange, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use super::meetings::{Looks, SeamSearch, find_new_seams};
use super::programme::{Edition, Programme, ProgrammeError, TakeError};
use super::projector::{Projector, Reels, reels};
use super::segments::segments;
use super::shelf::Shelf;
use super::still::{Still, glance, still};
use super::{ArchivedSegment, Run, Tolerances, view};
use crate::archive::{Archive, Around, Silent};
use crate::fleet::StreamKey;
use crate::ledger::{Ledger, LedgerError};

/// The longest range that is played at once.
pub const LONGEST_RANGE: Duration = Duration::from_secs(12 * 3_600);
/// How far names may be off: so far around a range its footage may lie.
const AROUND: Duration = Duration::from_secs(10);
const PLANNING: usize = 2;
const READING: usize = 8;
/// Answers that may be on their way at once.
const SENDING: usize = 64;
/// Who takes nothing for so long is sent nothing more; players ask again for the rest.
const STALLED: Duration = Duration::from_secs(300);
const MOST_PROGRAMMES: usize = 64;
const MOST_PROGRAMME_BYTES: usize = 64 * 1024 * 1024;
const MOST_LOOKS: usize = 2_048;

/// Why nothing is played.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    #[error("{key} is no stream of a known device")]
    Unknown { key: StreamKey },
    #[error("the range is empty: from has to lie before to")]
    Empty,
    #[error(
        "the range is {} long, and no more than {} are played at once: ask for parts of it",
        length_of(*length),
        length_of(LONGEST_RANGE)
    )]
    TooLong { length: Duration },
    #[error("nothing of {key} is archived in {range}: {near}")]
    Nothing { key: StreamKey, range: TimeRange, near: Nearest },
    #[error("the archive no longer has this edition of the range: load the playlist anew")]
    Gone,
    #[error(transparent)]
    Programme(ProgrammeError),
    #[error(transparent)]
    Take(#[from] TakeError),
    #[error("{0}: try again in a few seconds")]
    Busy(&'static str),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("reading the recordings has ended early")]
    Ended,
}

/// What there is instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Nearest {
    pub before: Option<Timestamp>,
    pub behind: Option<Timestamp>,
}

impl fmt::Display for Nearest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.before, self.behind) {
            (Some(before), Some(behind)) => {
                write!(
                    formatter,
                    "what is before it ends at {before}, what is behind begins at {behind}"
                )
            }
            (Some(before), None) => write!(formatter, "what is before it ends at {before}"),
            (None, Some(behind)) => write!(formatter, "what is behind it begins at {behind}"),
            (None, None) => formatter.write_str("the archive has nothing of it at all"),
        }
    }
}

/// Bytes of a programme: some that are there already, and a stretch of its fragments'.
#[derive(Clone, Debug)]
pub struct Media {
    pub head: Bytes,
    pub programme: Arc<Programme>,
    pub fragments: Range<u64>,
}

/// What is sent of it, in chunks. Dropping it ends the reading.
pub type MediaStream = ReceiverStream<Result<Bytes, PlayError>>;

/// One for all requests.
#[derive(Clone)]
pub struct Player {
    archive: Archive,
    archive_root: PathBuf,
    ledger: Arc<dyn Ledger>,
    kept: Arc<Kept>,
    planning: Arc<Semaphore>,
    reading: Arc<Semaphore>,
    sending: Arc<Semaphore>,
}

impl fmt::Debug for Player {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Player").field("kept", &self.kept).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Kept {
    programmes: Shelf<(StreamKey, Edition), Arc<Planned>>,
    reels: Reels,
    looks: Looks,
}

/// A programme, and what it was planned from.
#[derive(Debug)]
struct Planned {
    segments: Vec<ArchivedSegment>,
    programme: Arc<Programme>,
}

impl Player {
    pub fn new(archive: Archive, archive_root: PathBuf, ledger: Arc<dyn Ledger>) -> Player {
        let kept = Kept {
            programmes: Shelf::new(MOST_PROGRAMMES, MOST_PROGRAMME_BYTES),
            reels: reels(),
            looks: Looks::new(MOST_LOOKS, MOST_LOOKS),
        };
        Player {
            archive,
            archive_root,
            ledger,
            kept: Arc::new(kept),
            planning: Arc::new(Semaphore::new(PLANNING)),
            reading: Arc::new(Semaphore::new(READING)),
            sending: Arc::new(Semaphore::new(SENDING)),
        }
    }

    /// The programme of a range, of what the archive holds now.
    pub async fn programme(
        &self,
        key: &StreamKey,
        range: TimeRange,
    ) -> Result<Arc<Programme>, PlayError> {
        let segments = self.segments(key, range).await?;
        if let Some(programme) = self.planned(key, range, &segments) {
            return Ok(programme);
        }
        let turn = turn(&self.planning).await?;
        // Another request may have planned it meanwhile.
        if let Some(programme) = self.planned(key, range, &segments) {
            return Ok(programme);
        }
        let (kept, planned_for) = (Arc::clone(&self.kept), key.clone());
        // Goes on when nobody waits any more: who asks again finds it.
        let planned = spawn_blocking(move || {
            let _turn = turn;
            kept.plan(planned_for, range, segments)
        });
        match planned.await.map_err(|_| PlayError::Ended)? {
            Ok(programme) => Ok(programme),
            Err(error) => Err(self.explained(key, range, error).await),
        }
    }

    /// An edition that was handed out before, as long as it can be had.
    pub async fn edition(
        &self,
        key: &StreamKey,
        edition: Edition,
    ) -> Result<Arc<Programme>, PlayError> {
        if let Some(planned) = self.kept.programmes.get(&(key.clone(), edition)) {
            return Ok(Arc::clone(&planned.programme));
        }
        let programme = self.programme(key, edition.range).await?;
        if programme.edition() == edition { Ok(programme) } else { Err(PlayError::Gone) }
    }

    /// The same, where it is at hand.
    pub fn edition_at_hand(&self, key: &StreamKey, edition: Edition) -> Option<Arc<Programme>> {
        let planned = self.kept.programmes.get(&(key.clone(), edition))?;
        Some(Arc::clone(&planned.programme))
    }

    /// The keyframe at or before an instant.
    pub async fn still(&self, key: &StreamKey, at: Timestamp) -> Result<Still, PlayError> {
        let range = glance(at);
        let segments = self.segments(key, range).await?;
        let turn = turn(&self.planning).await?;
        let kept = Arc::clone(&self.kept);
        let read = spawn_blocking(move || {
            let _turn = turn;
            still(&kept.runs(&segments), at)
        });
        match read.await.map_err(|_| PlayError::Ended)? {
            Ok(still) => Ok(still),
            Err(error) => Err(self.explained(key, range, error).await),
        }
    }

    /// Begins to send; the first bytes have been read once this returns.
    pub async fn send(&self, media: Media) -> Result<MediaStream, PlayError> {
        let Media { head, programme, fragments } = media;
        let place = Arc::clone(&self.sending).try_acquire_owned();
        let place = place.map_err(|_| PlayError::Busy("too many are being played"))?;
        let projector = Projector::new(programme, fragments);
        let (projector, first) = self.read_on(projector).await?;
        let (chunks, stream) = mpsc::channel(1);
        let player = self.clone();
        tokio::spawn(async move {
            let _place = place;
            let give = async |chunk| {
                let given = timeout(STALLED, chunks.send(chunk)).await;
                matches!(given, Ok(Ok(())))
            };
            if !head.is_empty() && !give(Ok(head)).await {
                return;
            }
            let (mut projector, mut next) = (projector, first);
            while let Some(chunk) = next.take() {
                if !give(Ok(chunk)).await {
                    return;
                }
                match player.read_on(projector).await {
                    Ok((same, chunk)) => (projector, next) = (same, chunk),
                    Err(error) => {
                        tracing::warn!(error = explain(&error), "playing has ended early");
                        give(Err(error)).await;
                        return;
                    }
                }
            }
        });
        Ok(ReceiverStream::new(stream))
    }

    async fn read_on(
        &self,
        mut projector: Projector,
    ) -> Result<(Projector, Option<Bytes>), PlayError> {
        let turn = turn(&self.reading).await?;
        let kept = Arc::clone(&self.kept);
        let read = spawn_blocking(move || {
            let _turn = turn;
            let chunk = projector.next_chunk(&kept.reels)?;
            Ok((projector, chunk))
        });
        read.await.map_err(|_| PlayError::Ended)?
    }

    fn planned(
        &self,
        key: &StreamKey,
        range: TimeRange,
        segments: &[ArchivedSegment],
    ) -> Option<Arc<Programme>> {
        let planned = self.kept.programmes.find(|(found, edition), planned| {
            found == key && edition.range == range && planned.segments == segments
        })?;
        Some(Arc::clone(&planned.programme))
    }

    /// What is played of these; reads where they meet, so it is not for an async thread.
    pub fn runs<'a>(&self, segments: &'a [ArchivedSegment]) -> Vec<Run<'a>> {
        self.kept.runs(segments)
    }

    /// What the archive has around a range that can be played at once, with who recorded it.
    pub async fn segments(
        &self,
        key: &StreamKey,
        range: TimeRange,
    ) -> Result<Vec<ArchivedSegment>, PlayError> {
        check(range)?;
        let (from, to) = (range.start().saturating_sub(AROUND), range.end().saturating_add(AROUND));
        let around = self.around(key, TimeRange::new(from, to).unwrap_or(range)).await?;
        let parts = self.ledger.parts(key).await?;
        let mut segments = segments(around.files, &parts, &self.archive_root);
        segments.sort();
        Ok(segments)
    }

    async fn around(&self, key: &StreamKey, range: TimeRange) -> Result<Around, PlayError> {
        let (archive, asked) = (self.archive.clone(), key.clone());
        let around = spawn_blocking(move || archive.around(&asked, range)).await;
        match around.map_err(|_| PlayError::Ended)? {
            Ok(around) => Ok(around),
            Err(Silent::Unknown) => {
                let known = self.ledger.streams().await?;
                match known.iter().any(|(known, _)| known == key) {
                    true => Err(PlayError::Busy("the archive of this stream is not read yet")),
                    false => Err(PlayError::Unknown { key: key.clone() }),
                }
            }
            Err(Silent::Busy) => Err(PlayError::Busy("the archive is being read")),
        }
    }

    /// Where there is nothing, what there is near it.
    async fn explained(
        &self,
        key: &StreamKey,
        range: TimeRange,
        error: ProgrammeError,
    ) -> PlayError {
        match error {
            ProgrammeError::Nothing { .. } => match self.around(key, range).await {
                Ok(Around { before, behind, .. }) => {
                    let near = Nearest { before, behind };
                    PlayError::Nothing { key: key.clone(), range, near }
                }
                Err(error) => error,
            },
            error => PlayError::Programme(error),
        }
    }
}

impl Kept {
    fn runs<'a>(&self, segments: &'a [ArchivedSegment]) -> Vec<Run<'a>> {
        let found = find_new_seams(segments, &SeamSearch::default(), &self.looks);
        view(segments, &found.seams, Tolerances::default())
    }

    fn plan(
        &self,
        key: StreamKey,
        range: TimeRange,
        segments: Vec<ArchivedSegment>,
    ) -> Result<Arc<Programme>, ProgrammeError> {
        let programme = Arc::new(Programme::plan(&self.runs(&segments), range)?);
        for error in programme.left_out() {
            tracing::warn!(stream = %key, error = explain(error), "left out of what is played");
        }
        let named: usize = segments.iter().map(|it| it.file.as_os_str().len()).sum();
        let weight = programme.weight() + named + segments.len() * size_of::<ArchivedSegment>();
        let planned = Planned { segments, programme: Arc::clone(&programme) };
        self.programmes.put((key, programme.edition()), Arc::new(planned), weight);
        Ok(programme)
    }
}

async fn turn(room: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, PlayError> {
    Arc::clone(room).acquire_owned().await.map_err(|_| PlayError::Ended)
}

fn check(range: TimeRange) -> Result<(), PlayError> {
    match range.duration() {
        Duration::ZERO => Err(PlayError::Empty),
        length if length > LONGEST_RANGE => Err(PlayError::TooLong { length }),
        _ => Ok(()),
    }
}
