//! Instants, ranges and names that the unit tests of this crate share, and what an API stands on.

use std::path::Path;
use std::sync::Arc;

use protocol::message::{DeviceId, Part};
use sdcard_indexer::identity::{SegmentId, SegmentVersion};
use sdcard_indexer::time::{TimeRange, Timestamp};
use tokio::sync::{broadcast, mpsc};

use crate::access::Access;
use crate::api::Sources;
use crate::archive::{Archive, ArchiveChange};
use crate::config::Config;
use crate::fleet::StreamKey;
use crate::job::{Job, JobId, JobState, Outcome};
use crate::ledger::SqliteLedger;
use crate::order::JobStatus;
use crate::reconcile::Event;
use crate::reconcile::driver::Desk;
use crate::time::{MonotonicMicros, Now};

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_unix_seconds(second)
}

/// Both clocks, so many seconds after their origins.
pub fn now(second: u64) -> Now {
    let wall = at(i64::try_from(second).unwrap());
    Now { wall, monotonic: MonotonicMicros(second * 1_000_000) }
}

pub fn seconds(start: i64, end: i64) -> TimeRange {
    TimeRange::new(at(start), at(end)).unwrap()
}

pub fn camera() -> DeviceId {
    "camera".parse().unwrap()
}

pub fn key() -> StreamKey {
    StreamKey { device: camera(), stream: "main".parse().unwrap() }
}

/// A part of nothing in particular; its numbers use all their bits.
pub fn part(range: TimeRange) -> Part {
    Part {
        segment: SegmentId(u64::MAX),
        version: SegmentVersion { size_bytes: 9, fingerprint: u64::MAX - 1 },
        start: 1,
        end: 8,
        range,
        uncertainty_ns: 3,
        media: vec![1, 2, 3],
    }
}

/// A job that has just been taken on.
pub fn job_status(key: StreamKey, range: TimeRange, deadline: Timestamp) -> JobStatus {
    JobStatus {
        job: Job {
            id: JobId(12),
            key,
            range,
            created: at(50),
            deadline,
            state: JobState::Open,
            ended: None,
            outcome: Outcome::default(),
            lacking: Vec::new(),
        },
        online: false,
        bytes: 0,
        arrived_bytes: 0,
        bytes_per_second: None,
        done_at: None,
    }
}

/// What an API stands on whose archive is empty. The two others end things when they are dropped.
pub fn sources(
    desk: Desk,
    ledger: Arc<SqliteLedger>,
    access: Access,
    state_dir: &Path,
) -> (Sources, broadcast::Sender<Event>, mpsc::Receiver<ArchiveChange>) {
    let config = Config::parse("", &state_dir.join("gapless.toml")).unwrap();
    let (archive, changes) = Archive::start(&config, config.layout().unwrap()).unwrap();
    let (happens, events) = broadcast::channel(16);
    let settings = config.archive;
    let sources = Sources { desk, ledger, archive, events, access, broker: None, settings };
    (sources, happens, changes)
}
