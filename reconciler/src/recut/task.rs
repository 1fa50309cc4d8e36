//! The task that re-cuts, one recording after the other, while a server runs.
//!
//! It waits for pieces that meet a live recording exactly at their beginning, tries each until it is done or cannot
//! be, and records every step before the next. File work is done on a blocking thread; nothing waits for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sdcard_indexer::readable::explain;
use sdcard_indexer::time::{TimeRange, Timestamp};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{MissedTickBehavior, interval};

use super::{
    Exchanged, FOLDER, Left, Places, Recut, RecutState, copy_of, exchange, place_of, set_ready,
};
use crate::archive::{Archive, ArchivedFile};
use crate::fleet::StreamKey;
use crate::ledger::{Entry, Ledger, LedgerError, PartState, Piece};
use crate::playback::{ArchivedSegment, SeamSearch, find_seams};
use crate::reconcile::Event;
use crate::seam::{Edge, Handover, Seam};
use crate::timeline::Recorder;

/// How often those that wait are tried.
const PAUSE: Duration = Duration::from_secs(30);
/// So long nothing has been written to a recording that is closed.
const QUIET: Duration = Duration::from_secs(60);
/// A recorder's next file begins within this, or it has ended and may yet go on in the same one.
const NEXT_FILE_WITHIN: Duration = Duration::from_secs(86_400);
/// Tries at a recording that is not closed yet: a day's.
const MOST_TRIES: u32 = 2_880;
/// Pieces that may wait; of more, the oldest are left as they are.
const MOST_WAITING: usize = 4_096;

/// What it works with.
pub struct Task {
    pub ledger: Arc<dyn Ledger>,
    /// The archive's.
    pub root: PathBuf,
    pub archive: Archive,
    pub events: broadcast::Receiver<Event>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Task").field("root", &self.root).finish_non_exhaustive()
    }
}

struct Waiting {
    key: StreamKey,
    piece: Piece,
    tries: u32,
}

/// What came of one try.
enum Tried {
    /// The copy is whole; to be recorded before names are exchanged.
    Written(Box<Recut>),
    NotYet,
    Left(String),
}

/// Runs until the server aborts it, at whatever step.
pub async fn run(task: Task) {
    if let Err(error) = work(task).await {
        tracing::error!(error = %explain(&error), "nothing is re-cut any more");
    }
}

async fn work(task: Task) -> Result<(), LedgerError> {
    let ledger = task.ledger.clone();
    let (sender, mut merged) = mpsc::channel(MOST_WAITING);
    let _listener = AbortOnDrop(tokio::spawn(listen(task.events.resubscribe(), sender)));
    let mut waiting = take_up(&task, ledger.as_ref()).await?;
    let mut pauses = interval(PAUSE);
    pauses.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            merged = merged.recv() => match merged {
                Some((key, piece)) => wait_for(&mut waiting, key, piece),
                None => return Ok(()),
            },
            _ = pauses.tick() => waiting = try_all(&task, ledger.as_ref(), waiting).await?,
        }
    }
}

/// Hears everything that happens, so that no long copy makes it miss a piece.
async fn listen(mut events: broadcast::Receiver<Event>, merged: mpsc::Sender<(StreamKey, Piece)>) {
    loop {
        match events.recv().await {
            Ok(Event::Merged { key, piece, .. }) => {
                if merged.try_send((key, piece)).is_err() {
                    tracing::warn!("a piece is looked at for a re-cut at the next start only");
                }
            }
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => {
                tracing::warn!("pieces may be looked at for a re-cut at the next start only");
            }
            Err(RecvError::Closed) => return,
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the ledger tells of: re-cuts that a crash interrupted are finished, pieces that may have one wait for it.
async fn take_up(task: &Task, ledger: &dyn Ledger) -> Result<VecDeque<Waiting>, LedgerError> {
    let known = ledger.recuts().await?;
    for recut in known.iter().filter(|recut| recut.state == RecutState::Written) {
        finish(task, ledger, recut.clone()).await?;
    }
    let done: BTreeSet<&PathBuf> = known.iter().map(|recut| &recut.piece).collect();
    let mut waiting = VecDeque::new();
    for (key, _) in ledger.streams().await? {
        for record in ledger.parts(&key).await? {
            let piece = record.piece.filter(|piece| !done.contains(&piece.path));
            if let (PartState::Archived, Some(piece)) = (record.state, piece) {
                wait_for(&mut waiting, key.clone(), piece);
            }
        }
    }
    Ok(waiting)
}

fn wait_for(waiting: &mut VecDeque<Waiting>, key: StreamKey, piece: Piece) {
    let begins_exactly = piece
        .seams
        .iter()
        .any(|met| met.edge == Edge::Opening && matches!(met.seam, Seam::Exact { .. }));
    if !begins_exactly {
        return;
    }
    waiting.push_back(Waiting { key, piece, tries: 0 });
    if waiting.len() > MOST_WAITING {
        waiting.pop_front();
        tracing::warn!("more than {MOST_WAITING} pieces wait for a re-cut: the oldest is left");
    }
}

async fn try_all(
    task: &Task,
    ledger: &dyn Ledger,
    waiting: VecDeque<Waiting>,
) -> Result<VecDeque<Waiting>, LedgerError> {
    let mut left = VecDeque::new();
    if waiting.is_empty() {
        return Ok(left);
    }
    // Whoever had an original put back does not want it re-cut again.
    let recuts = ledger.recuts().await?;
    let mut known: Arc<BTreeSet<PathBuf>> =
        Arc::new(recuts.into_iter().map(|recut| recut.path).collect());
    let mut pieces: BTreeMap<StreamKey, Arc<BTreeSet<PathBuf>>> = BTreeMap::new();
    for mut one in waiting {
        if !pieces.contains_key(&one.key) {
            let of_stream = pieces_of(task, ledger, &one.key).await?;
            pieces.insert(one.key.clone(), Arc::new(of_stream));
        }
        let pieces = pieces.get(&one.key).cloned().unwrap_or_default();
        let (root, archive, known_before) =
            (task.root.clone(), task.archive.clone(), known.clone());
        let (key, piece) = (one.key.clone(), one.piece.clone());
        let tried = tokio::task::spawn_blocking(move || {
            attempt(&root, &archive, key, &piece, (&pieces, &known_before))
        });
        match tried.await {
            Ok(Tried::Written(recut)) => {
                Arc::make_mut(&mut known).insert(recut.path.clone());
                ledger.record(&[Entry::Recut(recut.clone())]).await?;
                finish(task, ledger, *recut).await?;
            }
            Ok(Tried::NotYet) => {
                one.tries += 1;
                if one.tries < MOST_TRIES {
                    left.push_back(one);
                }
            }
            Ok(Tried::Left(reason)) => {
                let piece = one.piece.path.display();
                tracing::info!(stream = %one.key, %piece, %reason, "not re-cut before it");
            }
            Err(error) => tracing::error!(stream = %one.key, %error, "a re-cut failed"),
        }
    }
    Ok(left)
}

/// The files that Gapless wrote: no live recordings.
async fn pieces_of(
    task: &Task,
    ledger: &dyn Ledger,
    key: &StreamKey,
) -> Result<BTreeSet<PathBuf>, LedgerError> {
    let parts = ledger.parts(key).await?;
    Ok(parts.into_iter().filter_map(|part| Some(task.root.join(part.piece?.path))).collect())
}

/// Exchanges names, and records what came of it.
async fn finish(task: &Task, ledger: &dyn Ledger, recut: Recut) -> Result<(), LedgerError> {
    let (root, own) = (task.root.clone(), recut.clone());
    let exchanged = tokio::task::spawn_blocking(move || exchange(&root, &own)).await;
    let file = recut.path.display();
    let state = match exchanged {
        Ok(Ok(Exchanged::Kept)) => {
            let (kept, left_out) = (recut.kept_frames, recut.left_out_frames);
            tracing::info!(stream = %recut.key, %file, kept, left_out, "re-cut; its original is kept");
            RecutState::Kept
        }
        Ok(Ok(Exchanged::Abandoned)) => RecutState::Abandoned,
        Ok(Err(error)) => {
            let error = explain(&error);
            tracing::warn!(stream = %recut.key, %file, %error, "its re-cut did not get its name");
            let waits = Places::of(&task.root, &recut.path).is_ok_and(|one| one.hidden.exists());
            if waits {
                // The next start takes it up from there.
                return Ok(());
            }
            RecutState::Abandoned
        }
        Err(_) => return Ok(()),
    };
    ledger.record(&[Entry::Recut(Box::new(Recut { state, ..recut }))]).await
}

fn attempt(
    root: &Path,
    archive: &Archive,
    key: StreamKey,
    piece: &Piece,
    (pieces, known): (&BTreeSet<PathBuf>, &BTreeSet<PathBuf>),
) -> Tried {
    let search = SeamSearch::default();
    let around = TimeRange::new(
        piece.range.start().saturating_sub(search.lateness),
        piece.range.end().saturating_add(NEXT_FILE_WITHIN),
    );
    let live: Vec<ArchivedFile> = archive
        .near(&key, around.unwrap_or(piece.range))
        .into_iter()
        .filter(|file| !pieces.contains(&file.path))
        .collect();
    let (file, handover) = match meeting(root, piece, &live, &search) {
        Ok(met) => met,
        Err(left) => return Tried::Left(left.to_string()),
    };
    let is_closed = live.iter().any(|other| other.range.start() > file.range.start());
    let is_quiet = file
        .path
        .metadata()
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|since| since >= QUIET));
    if !is_closed || !is_quiet {
        return Tried::NotYet;
    }
    match write(root, key, piece, (&file, &handover), known) {
        Ok(recut) => Tried::Written(Box::new(recut)),
        Err(error) => Tried::Left(explain(error.as_ref())),
    }
}

/// The live recording that breaks off behind the piece's beginning.
fn meeting(
    root: &Path,
    piece: &Piece,
    live: &[ArchivedFile],
    search: &SeamSearch,
) -> Result<(ArchivedFile, Handover), Left> {
    let own = ArchivedSegment {
        file: root.join(&piece.path),
        range: piece.range,
        by: Recorder::Edge,
        uncertainty: Duration::ZERO,
    };
    let near = live.iter().map(|file| ArchivedSegment {
        file: file.path.clone(),
        range: file.range,
        by: Recorder::Live,
        uncertainty: file.uncertainty,
    });
    let end = own.range.end();
    let segments: Vec<ArchivedSegment> =
        near.filter(|file| file.range.start() < end).chain([own]).collect();
    let found = find_seams(&segments, search);
    let met = found.seams.iter().find(|(edge, ..)| *edge == Edge::Opening);
    let (_, file, _, meeting) = met.ok_or(Left::NotExact)?;
    let file = live.iter().find(|known| known.path == file).ok_or(Left::NotExact)?;
    Ok((file.clone(), meeting.handover))
}

fn write(
    root: &Path,
    key: StreamKey,
    piece: &Piece,
    (live, handover): (&ArchivedFile, &Handover),
    known: &BTreeSet<PathBuf>,
) -> anyhow::Result<Recut> {
    let path = live.path.strip_prefix(root)?.to_owned();
    let places = Places::of(root, &path)?;
    let is_kept = live.path.parent().is_some_and(|parent| parent.ends_with(FOLDER));
    let is_kept = is_kept || known.contains(&path);
    anyhow::ensure!(!is_kept && !places.kept.exists(), "it has been re-cut before");
    let cut = place_of(&live.path, &root.join(&piece.path), handover)?;
    let copied = copy_of(&live.path, cut.kept_frames, &places.writing)?;
    set_ready(&places)?;
    Ok(Recut {
        key,
        path,
        piece: piece.path.clone(),
        state: RecutState::Written,
        original: copied.original,
        copy: copied.copy,
        kept_frames: cut.kept_frames as u64,
        left_out_frames: cut.left_out_frames as u64,
        made: Timestamp::from_jiff(jiff::Timestamp::now()),
    })
}
