//! The spool's own thread: takes jobs in order, blocks on the disk, answers.
//!
//! A job for a part whose file failed is dropped: the failure has been told.

use std::collections::BTreeMap;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use sdcard_indexer::readable::explain;
use tokio::sync::mpsc;

use crate::ledger::PartId;
use crate::spool::{Spool, SpoolError, SpooledPart};

/// Jobs that may wait: at 32 KiB a chunk this is 4 MiB on its way to the disk.
const JOBS: usize = 128;
const RESULTS: usize = 256;

#[derive(Clone, Debug)]
pub enum SpoolJob {
    /// Opens the part that is `[start, end)` of its segment, with all that its file holds already.
    Open {
        part: PartId,
        start: u64,
        end: u64,
    },
    Append {
        part: PartId,
        offset: u64,
        payload: Bytes,
    },
    Sync {
        part: PartId,
    },
    /// Makes durable, hashes, closes.
    Finish {
        part: PartId,
    },
    Close {
        part: PartId,
    },
}

#[derive(Clone, Debug)]
pub enum SpoolResult {
    /// All before `held` is there.
    Opened {
        part: PartId,
        held: u64,
    },
    Durable {
        part: PartId,
        upto: u64,
    },
    Finished {
        part: PartId,
        digest: [u8; 32],
    },
    Failed {
        part: PartId,
        error: String,
    },
}

/// The thread ends when the job sender is dropped.
pub fn start(
    spool: Spool,
) -> std::io::Result<(mpsc::Sender<SpoolJob>, mpsc::Receiver<SpoolResult>, JoinHandle<()>)> {
    let (jobs, mut waiting) = mpsc::channel(JOBS);
    let (results, answers) = mpsc::channel(RESULTS);
    let work = move || {
        let mut open = BTreeMap::new();
        while let Some(job) = waiting.blocking_recv() {
            let part = part_of(&job);
            let result = match carry_out(job, &spool, &mut open) {
                Ok(None) => continue,
                Ok(Some(result)) => result,
                Err(error) => {
                    open.remove(&part);
                    SpoolResult::Failed { part, error: explain(&error) }
                }
            };
            if results.blocking_send(result).is_err() {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("spool".to_owned()).spawn(work)?;
    Ok((jobs, answers, thread))
}

fn carry_out(
    job: SpoolJob,
    spool: &Spool,
    open: &mut BTreeMap<PartId, SpooledPart>,
) -> Result<Option<SpoolResult>, SpoolError> {
    Ok(match job {
        SpoolJob::Open { part, start, end } => {
            let file = spool.part(part.spool_key(), start, end)?;
            let held = file.held();
            open.insert(part, file);
            Some(SpoolResult::Opened { part, held })
        }
        SpoolJob::Append { part, offset, payload } => {
            if let Some(file) = open.get_mut(&part) {
                file.append(offset, &payload)?;
            }
            None
        }
        SpoolJob::Sync { part } => match open.get(&part) {
            Some(file) => Some(SpoolResult::Durable { part, upto: file.sync()? }),
            None => None,
        },
        SpoolJob::Finish { part } => match open.remove(&part) {
            Some(file) => Some(SpoolResult::Finished { part, digest: file.finish()? }),
            None => None,
        },
        SpoolJob::Close { part } => {
            open.remove(&part);
            None
        }
    })
}

fn part_of(job: &SpoolJob) -> PartId {
    match job {
        SpoolJob::Open { part, .. }
        | SpoolJob::Append { part, .. }
        | SpoolJob::Sync { part }
        | SpoolJob::Finish { part }
        | SpoolJob::Close { part } => *part,
    }
}
