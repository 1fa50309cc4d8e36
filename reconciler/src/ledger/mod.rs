//! The ledger: what must survive a restart of the server.
//!
//! Behind one narrow trait, so that a grown-up database can stand in for the embedded one. It holds
//! decisions and their proofs, never footage; the archive's files are the truth about what is archived.

mod access;
mod migrations;
mod sqlite;

pub use sqlite::{SqliteLedger, ledger_path};

use std::path::PathBuf;

use async_trait::async_trait;
use protocol::message::{DeviceId, Part};
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde::{Deserialize, Serialize};

use crate::access::{AccountName, AuditEntry, AuditQuery, Prune, Token, User};
use crate::fleet::{Holding, StreamKey};
use crate::job::Job;
use crate::offset::Offsets;
use crate::policy::{Policy, PolicyName};
use crate::recut::Recut;
use crate::retry::Tries;
use crate::run::{Run, RunId};
use crate::seam::{Edge, Seam};
use crate::timeline::{Proof, Stretch};

/// A part on its way from a card into the archive, by the number the ledger gave it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartId(pub i64);

impl PartId {
    /// The name of its file in the spool.
    pub fn spool_key(self) -> u64 {
        self.0.unsigned_abs()
    }
}

/// How far a part has come. Each step is recorded before the next one begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartState {
    /// Located on the card; the spool may hold its first bytes already.
    Pulling,
    /// Whole in the spool, digest compared.
    Pulled,
    /// Written beside its final name; about to be, or already, renamed.
    Publishing,
    /// In the archive.
    Archived,
    /// Given up: the card lost or changed it; what had arrived is in a part of its own.
    Abandoned,
}

impl PartState {
    pub const ALL: [PartState; 5] = [
        PartState::Pulling,
        PartState::Pulled,
        PartState::Publishing,
        PartState::Archived,
        PartState::Abandoned,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            PartState::Pulling => "pulling",
            PartState::Pulled => "pulled",
            PartState::Publishing => "publishing",
            PartState::Archived => "archived",
            PartState::Abandoned => "abandoned",
        }
    }

    /// True while work is left to do.
    pub const fn is_active(self) -> bool {
        matches!(self, PartState::Pulling | PartState::Pulled | PartState::Publishing)
    }
}

/// A merged piece: what one part has become in the archive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Piece {
    /// Relative to the archive's root.
    pub path: PathBuf,
    /// BLAKE3 of the file as it was written.
    pub digest: [u8; 32],
    pub size_bytes: u64,
    /// From its first frame shown to the end of its last, on the archive's time.
    pub range: TimeRange,
    /// How it meets what the central recorder has written before and behind it; none where there is nothing.
    #[serde(default)]
    pub seams: Vec<PieceSeam>,
}

/// How one end of a piece meets the central recorder's footage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PieceSeam {
    pub edge: Edge,
    #[serde(flatten)]
    pub seam: Seam,
}

impl Piece {
    /// Frames that both hold have shown where it belongs.
    pub fn is_exact(&self) -> bool {
        self.seams.iter().any(|met| matches!(met.seam, Seam::Exact { .. }))
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartRecord {
    pub id: PartId,
    pub key: StreamKey,
    pub part: Part,
    pub state: PartState,
    pub proof: Proof,
    /// BLAKE3 of the part as read from the card, once the device has said it.
    pub digest: Option<[u8; 32]>,
    pub piece: Option<Piece>,
    /// Media bytes that arrived for it, repeated ones included.
    pub received_bytes: u64,
    /// Of these, the ones that had arrived before.
    pub resent_bytes: u64,
    pub created: Timestamp,
    /// How often it has failed, and why.
    pub tries: Tries,
    /// What was added to the device's time to get the part's range: see [`crate::offset`].
    pub offset_ns: i64,
}

/// Media bytes that came for a part in one attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    pub received_bytes: u64,
    /// Of these, the ones that were of no use: sent more than once.
    pub discarded_bytes: u64,
}

impl Traffic {
    pub fn add(&mut self, more: Traffic) {
        self.received_bytes = self.received_bytes.saturating_add(more.received_bytes);
        self.discarded_bytes = self.discarded_bytes.saturating_add(more.discarded_bytes);
    }
}

impl PartRecord {
    /// A part that was just found on a card.
    pub fn located(id: PartId, key: StreamKey, part: Part, created: Timestamp) -> Self {
        PartRecord {
            id,
            key,
            part,
            state: PartState::Pulling,
            proof: Proof::None,
            digest: None,
            piece: None,
            received_bytes: 0,
            resent_bytes: 0,
            created,
            tries: Tries::default(),
            offset_ns: 0,
        }
    }

    /// Adds what came for it in one attempt.
    pub fn count(&mut self, traffic: Traffic) {
        self.received_bytes = self.received_bytes.saturating_add(traffic.received_bytes);
        self.resent_bytes = self.resent_bytes.saturating_add(traffic.discarded_bytes);
    }
}

/// A device as the command line shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeviceRecord {
    pub device: DeviceId,
    pub online: bool,
    pub agent_version: String,
    pub last_heard: Option<Timestamp>,
}

/// A stream's timeline as of an instant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TimelineRecord {
    pub as_of: Timestamp,
    pub stretches: Vec<Stretch>,
}

impl TimelineRecord {
    /// The newest stretch has grown, and ends here now.
    pub fn reaches(&mut self, as_of: Timestamp, end: Timestamp) {
        self.as_of = as_of;
        if let Some(newest) = self.stretches.last_mut()
            && let Some(range) = TimeRange::new(newest.range.start(), end)
        {
            newest.range = range;
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("cannot open the ledger {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error("no ledger at {path}: has `gapless serve` run with this configuration?")]
    Absent { path: PathBuf },
    #[error("the ledger {path} is of schema version {found}, this program knows up to {known}")]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("the ledger cannot {what}")]
    Query {
        what: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("the ledger's {what} is damaged: {found}")]
    Damaged { what: &'static str, found: String },
}

/// One thing to remember. What was remembered of the same thing before gives way.
#[derive(Clone, PartialEq, Debug)]
pub enum Entry {
    Device(DeviceRecord),
    /// A stream is known from the first time this is recorded; before, nothing of it can be.
    Stream {
        key: StreamKey,
        expected_from: Timestamp,
    },
    Holding {
        key: StreamKey,
        holding: Holding,
    },
    /// What seams have told of a stream's clocks.
    Offsets {
        key: StreamKey,
        offsets: Offsets,
    },
    Part(PartRecord),
    ForgetPart(PartId),
    /// All verdicts of a stream.
    Verdicts {
        key: StreamKey,
        verdicts: Vec<Stretch>,
    },
    /// What the command line shows.
    Timeline {
        key: StreamKey,
        timeline: TimelineRecord,
    },
    /// The newest stretch of the timeline that was last recorded has grown up to here, and nothing else of it.
    TimelineEdge {
        key: StreamKey,
        as_of: Timestamp,
        end: Timestamp,
    },
    Job(Job),
    Run(Run),
    Recut(Box<Recut>),
    /// One that came by the API.
    Policy(Box<Policy>),
    ForgetPolicy(PolicyName),
    User(User),
    ForgetUser(AccountName),
    Token(Token),
    ForgetToken(AccountName),
    Audit(Box<AuditEntry>),
    PruneAudit(Prune),
}

/// What a server finds of a stream when it starts.
#[derive(Clone, PartialEq, Debug)]
pub struct StreamRecord {
    pub key: StreamKey,
    pub expected_from: Timestamp,
    pub holding: Option<Holding>,
    pub offsets: Offsets,
    pub verdicts: Vec<Stretch>,
    pub parts: Vec<PartRecord>,
}

/// All that a server takes up where it was left.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Memory {
    pub devices: Vec<DeviceRecord>,
    pub streams: Vec<StreamRecord>,
    /// The open ones, and the newest of the others.
    pub jobs: Vec<Job>,
    /// The open ones, the newest of the others, and the newest of each policy.
    pub runs: Vec<Run>,
    /// Those that came by the API, in the order in which they came.
    pub policies: Vec<Policy>,
    /// The highest that was ever given.
    pub last_part: i64,
}

/// Jobs and runs that a server remembers by itself; older ones are in the ledger.
pub const REMEMBERED: usize = 200;

#[async_trait]
pub trait Ledger: Send + Sync {
    /// Remembers all of these or none, in their order. They are durable once this returns.
    async fn record(&self, entries: &[Entry]) -> Result<(), LedgerError>;

    async fn devices(&self) -> Result<Vec<DeviceRecord>, LedgerError>;
    async fn streams(&self) -> Result<Vec<(StreamKey, Timestamp)>, LedgerError>;
    async fn holding(&self, key: &StreamKey) -> Result<Option<Holding>, LedgerError>;
    async fn offsets(&self, key: &StreamKey) -> Result<Offsets, LedgerError>;
    async fn parts(&self, key: &StreamKey) -> Result<Vec<PartRecord>, LedgerError>;
    async fn verdicts(&self, key: &StreamKey) -> Result<Vec<Stretch>, LedgerError>;
    async fn timeline(&self, key: &StreamKey) -> Result<Option<TimelineRecord>, LedgerError>;
    /// The newest `most`, and those that are open; the newest first.
    async fn jobs(&self, most: usize) -> Result<Vec<Job>, LedgerError>;
    /// The newest `most`, those that are open, and the newest of each policy; the newest first.
    async fn runs(&self, most: usize) -> Result<Vec<Run>, LedgerError>;
    async fn run(&self, run: RunId) -> Result<Option<Run>, LedgerError>;
    /// All that were ever made, the oldest first.
    async fn recuts(&self) -> Result<Vec<Recut>, LedgerError>;
    async fn policies(&self) -> Result<Vec<Policy>, LedgerError>;
    /// The highest number that a part was ever given; 0 before the first.
    async fn last_part(&self) -> Result<i64, LedgerError>;
    async fn users(&self) -> Result<Vec<User>, LedgerError>;
    async fn tokens(&self) -> Result<Vec<Token>, LedgerError>;
    /// The newest first.
    async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>, LedgerError>;
    /// The highest number that is kept; 0 before the first.
    async fn last_audit_entry(&self) -> Result<i64, LedgerError>;

    /// All of it, for a server that starts.
    async fn memory(&self) -> Result<Memory, LedgerError> {
        let mut streams = Vec::new();
        for (key, expected_from) in self.streams().await? {
            streams.push(StreamRecord {
                expected_from,
                holding: self.holding(&key).await?,
                offsets: self.offsets(&key).await?,
                verdicts: self.verdicts(&key).await?,
                parts: self.parts(&key).await?,
                key,
            });
        }
        Ok(Memory {
            devices: self.devices().await?,
            streams,
            jobs: self.jobs(REMEMBERED).await?,
            runs: self.runs(REMEMBERED).await?,
            policies: self.policies().await?,
            last_part: self.last_part().await?,
        })
    }
}
