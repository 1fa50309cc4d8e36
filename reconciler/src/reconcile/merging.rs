//! Merging off the main task: file work on blocking threads, one part after the other.
//!
//! It writes no ledger and decides nothing. Between writing a piece and giving it its name it hands the
//! name back, so that the ledger knows it first.

use std::fs::File;
use std::sync::Arc;

use sdcard_indexer::cut::PartMedia;
use sdcard_indexer::layout::Layout;
use sdcard_indexer::readable::explain;
use tokio::sync::{Semaphore, mpsc};

use crate::config::Config;
use crate::fleet::StreamKey;
use crate::ledger::{PartId, PartRecord};
use crate::merge::{self, PieceRequest, Publication, Recovery, WrittenPiece};
use crate::spool::Spool;

/// Results that may wait for the main task.
const RESULTS: usize = 16;

/// What became of one step.
#[derive(Debug)]
pub enum Merged {
    /// The piece is whole and proved; its name is to be recorded before it is given.
    Written {
        key: StreamKey,
        part: PartId,
        written: Box<WrittenPiece>,
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
            | Merged::Redo { key, part }
            | Merged::Failed { key, part, .. } => (key.clone(), *part),
        }
    }
}

#[derive(Debug)]
pub struct Merger {
    config: Arc<Config>,
    layout: Layout,
    spool: Spool,
    results: mpsc::Sender<Merged>,
    /// One at a time: a merge is bound by the disk, not by cores.
    turn: Arc<Semaphore>,
}

impl Merger {
    pub fn new(config: &Config, layout: Layout, spool: Spool) -> (Self, mpsc::Receiver<Merged>) {
        let (results, merged) = mpsc::channel(RESULTS);
        let merger = Merger {
            config: Arc::new(config.clone()),
            layout,
            spool,
            results,
            turn: Arc::new(Semaphore::new(1)),
        };
        (merger, merged)
    }

    /// Makes a piece of what the spool holds of a part.
    pub fn write(&self, record: &PartRecord) {
        let directory = self.config.archive.stream_path(&record.key);
        let (config, layout) = (self.config.clone(), self.layout.clone());
        let spooled = self.spool.path(record.id.spool_key());
        let record = record.clone();
        self.work(record.key.clone(), record.id, move || {
            let (key, part) = (record.key, record.id);
            let media = PartMedia::decode(&record.part.media)?;
            let mut spooled = File::open(spooled)?;
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
            let written = Box::new(merge::write_piece(&request, &mut spooled)?);
            Ok(Merged::Written { key, part, written })
        });
    }

    /// Gives a written piece its name.
    pub fn publish(&self, record: &PartRecord, written: WrittenPiece) {
        let (key, part) = (record.key.clone(), record.id);
        self.work(key.clone(), part, move || match written.publish()? {
            Publication::Placed(_) => Ok(Merged::Published { key, part }),
            Publication::NameTaken(written) => {
                Ok(Merged::Written { key, part, written: Box::new(written) })
            }
        });
    }

    /// Finds out how far a piece came before the server was stopped.
    pub fn recover(&self, record: &PartRecord) {
        let config = self.config.clone();
        let (key, part, piece) = (record.key.clone(), record.id, record.piece.clone());
        self.work(key.clone(), part, move || {
            let recovery = match &piece {
                Some(piece) => merge::recover(&config.archive.root, piece)?,
                None => Recovery::Redo,
            };
            Ok(match recovery {
                Recovery::Placed => Merged::Published { key, part },
                Recovery::Redo => Merged::Redo { key, part },
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
