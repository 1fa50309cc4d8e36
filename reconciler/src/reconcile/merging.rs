//! Merging off the main task: file work on blocking threads, one part after the other.
//!
//! It writes no ledger and decides nothing. Between writing a piece and giving it its name it says what it has
//! written, so that the ledger knows it first.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sdcard_indexer::cut::PartMedia;
use sdcard_indexer::layout::Layout;
use sdcard_indexer::readable::explain;
use tokio::sync::{Semaphore, mpsc};

use super::meeting::{self, Neighbours};
use crate::archive::Archive;
use crate::config::Config;
use crate::fleet::StreamKey;
use crate::ledger::{PartId, PartRecord, Piece};
use crate::merge::{self, PieceRequest, Publication, Recovery, WrittenPiece};
use crate::offset::Learned;
use crate::spool::Spool;

/// Results that may wait for the main task.
const RESULTS: usize = 16;

/// One step on the way from the spool into the archive.
#[derive(Clone, Debug)]
pub enum MergeStep {
    /// Make a piece of what the spool holds of a part, and find out how it meets the live recordings around it:
    /// all of the archive's files but these pieces.
    Write { record: Box<PartRecord>, pieces: BTreeSet<PathBuf>, neighbours: Neighbours },
    /// Give the piece that was written its name.
    Publish { key: StreamKey, part: PartId },
    /// Find out how far a piece came before the server was stopped.
    Recover { record: Box<PartRecord> },
}

impl MergeStep {
    pub fn write(record: &PartRecord, pieces: BTreeSet<PathBuf>, neighbours: Neighbours) -> Self {
        MergeStep::Write { record: Box::new(record.clone()), pieces, neighbours }
    }

    pub fn recover(record: &PartRecord) -> Self {
        MergeStep::Recover { record: Box::new(record.clone()) }
    }
}

/// What became of one step.
#[derive(Clone, Debug)]
pub enum Merged {
    /// The piece is whole and proved; its name is to be recorded before it is given.
    Written {
        key: StreamKey,
        part: PartId,
        piece: Piece,
        /// What its seams tell of the device's clock.
        learned: Vec<Learned>,
    },
    /// It stands in the archive.
    Published {
        key: StreamKey,
        part: PartId,
    },
    /// Nothing of it is left: from the spool again, or from the card.
    Redo {
        key: StreamKey,
        part: PartId,
        /// The spool has the part's bytes.
        spooled: bool,
    },
    Failed {
        key: StreamKey,
        part: PartId,
        reason: String,
    },
}

impl Merged {
    pub fn of(&self) -> (StreamKey, PartId) {
        match self {
            Merged::Written { key, part, .. }
            | Merged::Published { key, part }
            | Merged::Redo { key, part, .. }
            | Merged::Failed { key, part, .. } => (key.clone(), *part),
        }
    }
}

#[derive(Debug)]
pub(super) struct Merger {
    config: Arc<Config>,
    layout: Layout,
    spool: Spool,
    archive: Archive,
    results: mpsc::Sender<Merged>,
    /// Pieces that have no name yet.
    written: Arc<Mutex<BTreeMap<PartId, WrittenPiece>>>,
    /// One at a time: a merge is bound by the disk, not by cores.
    turn: Arc<Semaphore>,
}

impl Merger {
    pub fn new(
        config: &Config,
        layout: Layout,
        spool: Spool,
        archive: Archive,
    ) -> (Self, mpsc::Receiver<Merged>) {
        let (results, merged) = mpsc::channel(RESULTS);
        let merger = Merger {
            config: Arc::new(config.clone()),
            layout,
            spool,
            archive,
            results,
            written: Arc::default(),
            turn: Arc::new(Semaphore::new(1)),
        };
        (merger, merged)
    }

    pub fn begin(&self, step: MergeStep) {
        match step {
            MergeStep::Write { record, pieces, neighbours } => {
                self.write(*record, pieces, neighbours);
            }
            MergeStep::Publish { key, part } => self.publish(key, part),
            MergeStep::Recover { record } => self.recover(*record),
        }
    }

    fn write(&self, record: PartRecord, others: BTreeSet<PathBuf>, neighbours: Neighbours) {
        let directory = self.config.archive.stream_path(&record.key);
        let (config, layout) = (self.config.clone(), self.layout.clone());
        let (spool, archive, pieces) =
            (self.spool.clone(), self.archive.clone(), self.written.clone());
        self.work(record.key.clone(), record.id, move || {
            let (key, part) = (record.key, record.id);
            let media = PartMedia::decode(&record.part.media)?;
            let mut spooled = File::open(spool.path(part.spool_key()))?;
            let request = PieceRequest {
                archive: &config.archive.root,
                directory: &directory,
                layout: &layout,
                range: record.part.range,
                counter: 0,
                media: &media,
                part_bytes: record.part.end.saturating_sub(record.part.start),
                held_bytes: spooled.metadata()?.len(),
            };
            let written = merge::write_piece(&request, &mut spooled)?;
            let uncertainty = Duration::from_nanos(record.part.uncertainty_ns);
            let others = others.iter().map(|path| config.archive.root.join(path)).collect();
            let near = |range| archive.near(&key, range);
            let hidden = written.hidden_path();
            let (piece, whole) =
                (written.piece(), meeting::is_whole(written.piece().range, record.part.range));
            let met = meeting::meet(piece, &hidden, uncertainty, whole, neighbours, &others, near);
            let learned = met.learned.iter().map(|learned| learned.of(record.offset_ns)).collect();
            let written = written.placed(met.range, met.seams)?;
            Ok(hold(&pieces, key, part, written, learned))
        });
    }

    fn publish(&self, key: StreamKey, part: PartId) {
        let pieces = self.written.clone();
        self.work(key.clone(), part, move || {
            let written = pieces.lock().unwrap_or_else(PoisonError::into_inner).remove(&part);
            match written.map(WrittenPiece::publish).transpose()? {
                Some(Publication::Placed(_)) => Ok(Merged::Published { key, part }),
                Some(Publication::NameTaken(written)) => {
                    Ok(hold(&pieces, key, part, *written, Vec::new()))
                }
                None => Ok(Merged::Redo { key, part, spooled: true }),
            }
        });
    }

    fn recover(&self, record: PartRecord) {
        let (config, spool) = (self.config.clone(), self.spool.clone());
        self.work(record.key.clone(), record.id, move || {
            let (key, part) = (record.key, record.id);
            let recovery = match &record.piece {
                Some(piece) => merge::recover(&config.archive.root, piece)?,
                None => Recovery::Redo,
            };
            Ok(match recovery {
                Recovery::Placed => Merged::Published { key, part },
                Recovery::Redo => {
                    let spooled = spool.path(part.spool_key()).exists();
                    Merged::Redo { key, part, spooled }
                }
            })
        });
    }

    fn work(
        &self,
        key: StreamKey,
        part: PartId,
        step: impl FnOnce() -> anyhow::Result<Merged> + Send + 'static,
    ) {
        let (turn, results) = (self.turn.clone(), self.results.clone());
        tokio::spawn(async move {
            let Ok(_turn) = turn.acquire_owned().await else { return };
            let merged = match tokio::task::spawn_blocking(step).await {
                Ok(Ok(merged)) => merged,
                Ok(Err(error)) => Merged::Failed { key, part, reason: explain(error.as_ref()) },
                Err(error) => Merged::Failed { key, part, reason: error.to_string() },
            };
            // Nobody is there any more only when the server ends; the ledger knows where to go on.
            let _ = results.send(merged).await;
        });
    }
}

/// Keeps a written piece until it may have its name.
fn hold(
    pieces: &Mutex<BTreeMap<PartId, WrittenPiece>>,
    key: StreamKey,
    part: PartId,
    written: WrittenPiece,
    learned: Vec<Learned>,
) -> Merged {
    let piece = written.piece().clone();
    pieces.lock().unwrap_or_else(PoisonError::into_inner).insert(part, written);
    Merged::Written { key, part, piece, learned }
}
