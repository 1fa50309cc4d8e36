//! The server's disks: a spool whose unsynced tails a power cut may take, an archive, a ledger.

use std::collections::BTreeMap;
use std::path::PathBuf;

use reconciler::archive::Archived;
use reconciler::fleet::{Holding, StreamKey};
use reconciler::job::{Job, JobId, JobState};
use reconciler::ledger::{
    DeviceRecord, Entry, Memory, PartId, PartRecord, Piece, REMEMBERED, StreamRecord,
    TimelineRecord,
};
use reconciler::offset::Offsets;
use reconciler::policy::Policy;
use reconciler::run::{Run, RunId};
use reconciler::timeline::Stretch;
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::{TimeRange, Timestamp};

use super::agenda::Micros;
use super::faults::Random;

/// A file of the spool; it lives on without a name while it is open.
#[derive(Debug, Default)]
pub struct Inode {
    pub bytes: Vec<u8>,
    pub durable_bytes: usize,
    /// In which it was last opened.
    pub boot: u32,
}

#[derive(Debug, Default)]
pub struct Spool {
    pub inodes: Vec<Inode>,
    pub names: BTreeMap<PartId, usize>,
    pub full_until: Micros,
    pub boot: u32,
}

impl Spool {
    /// The part's file, made where it is missing.
    pub fn open(&mut self, part: PartId) -> usize {
        *self.names.entry(part).or_insert_with(|| {
            self.inodes.push(Inode { boot: self.boot, ..Inode::default() });
            self.inodes.len() - 1
        })
    }

    pub fn file(&self, part: PartId) -> Option<&Inode> {
        self.inodes.get(*self.names.get(&part)?)
    }

    pub fn cut(&mut self, part: PartId, kept_bytes: u64) {
        if let Some(inode) = self.names.get(&part) {
            let file = &mut self.inodes[*inode];
            file.bytes.truncate(kept_bytes as usize);
            file.durable_bytes = file.bytes.len();
        }
    }

    pub fn remove(&mut self, part: PartId) {
        if let Some(inode) = self.names.remove(&part)
            && let Some(inode) = self.inodes.get_mut(inode)
        {
            // Whoever has it open writes into nothing; what that was nobody reads any more but its hash.
            inode.bytes.shrink_to_fit();
        }
    }

    /// Of what was not synced, some prefix is left, and the end of that may be garbage.
    pub fn lose_power(&mut self, random: &mut Random) {
        self.boot += 1;
        for inode in &mut self.inodes {
            let unsynced = inode.bytes.len() - inode.durable_bytes;
            if unsynced == 0 {
                continue;
            }
            let kept = inode.durable_bytes + random.below(unsynced as u64 + 1) as usize;
            inode.bytes.truncate(kept);
            if random.happens(0.6) && kept > inode.durable_bytes {
                let torn = random.between(inode.durable_bytes as u64, kept as u64) as usize;
                inode.bytes[torn..].fill(0);
            }
        }
    }
}

/// A merged piece that stands in the archive.
#[derive(Clone, Debug)]
pub struct PieceFile {
    pub part: PartId,
    pub piece: Piece,
}

#[derive(Debug, Default)]
pub struct StreamArchive {
    /// By the central recorder, closed.
    pub live: Coverage,
    /// What it is writing now.
    pub live_since: Option<Micros>,
    pub pieces: Vec<PieceFile>,
    /// By the owner.
    pub deleted: Coverage,
    /// Of the archive's index, which a restart does not forget.
    seen: Coverage,
    removed: Coverage,
}

impl StreamArchive {
    pub fn held(&self) -> Coverage {
        let pieces: Coverage = self.pieces.iter().map(|file| file.piece.range).collect();
        self.live.union(&pieces)
    }

    pub fn look(&mut self, join: std::time::Duration) -> Archived {
        let held = self.held().joined(join);
        self.removed = self.removed.union(&self.seen.difference(&held)).difference(&held);
        self.seen = held.clone();
        Archived { held, removed: self.removed.clone() }
    }

    pub fn delete(&mut self, range: TimeRange) {
        self.live.remove(range);
        self.deleted.insert(range);
        // A piece is one file: it goes as a whole.
        for gone in self.pieces.extract_if(.., |file| file.piece.range.overlaps(&range)) {
            self.deleted.insert(gone.piece.range);
        }
    }
}

#[derive(Debug, Default)]
pub struct Archive {
    pub streams: BTreeMap<StreamKey, StreamArchive>,
    /// Written and synced, and without a name yet.
    pub hidden: BTreeMap<PathBuf, [u8; 32]>,
}

/// What survives every crash, applied entry by entry.
#[derive(Debug, Default)]
pub struct Ledger {
    devices: BTreeMap<String, DeviceRecord>,
    pub streams: BTreeMap<StreamKey, Remembered>,
    pub jobs: BTreeMap<JobId, Job>,
    pub runs: BTreeMap<RunId, Run>,
    policies: Vec<Policy>,
    last_part: i64,
}

#[derive(Debug)]
pub struct Remembered {
    pub expected_from: Timestamp,
    pub holding: Option<Holding>,
    pub offsets: Offsets,
    pub verdicts: Vec<Stretch>,
    pub parts: BTreeMap<PartId, PartRecord>,
    pub timeline: Option<TimelineRecord>,
}

impl Ledger {
    pub fn record(&mut self, entry: Entry) {
        match entry {
            Entry::Device(record) => {
                self.devices.insert(record.device.as_str().to_owned(), record);
            }
            Entry::Stream { key, expected_from } => {
                let new = || Remembered {
                    expected_from,
                    holding: None,
                    offsets: Offsets::default(),
                    verdicts: Vec::new(),
                    parts: BTreeMap::new(),
                    timeline: None,
                };
                self.streams.entry(key).or_insert_with(new).expected_from = expected_from;
            }
            Entry::Holding { key, holding } => {
                self.of(&key, |stream| stream.holding = Some(holding))
            }
            Entry::Offsets { key, offsets } => self.of(&key, |stream| stream.offsets = offsets),
            Entry::Part(record) => {
                self.last_part = self.last_part.max(record.id.0);
                let key = record.key.clone();
                self.of(&key, |stream| drop(stream.parts.insert(record.id, record)));
            }
            Entry::ForgetPart(part) => {
                for stream in self.streams.values_mut() {
                    stream.parts.remove(&part);
                }
            }
            Entry::Verdicts { key, verdicts } => self.of(&key, |stream| stream.verdicts = verdicts),
            Entry::Timeline { key, timeline } => {
                self.of(&key, |stream| stream.timeline = Some(timeline));
            }
            Entry::TimelineEdge { key, as_of, end } => self.of(&key, |stream| {
                stream.timeline.iter_mut().for_each(|timeline| timeline.reaches(as_of, end));
            }),
            Entry::Job(job) => drop(self.jobs.insert(job.id, job)),
            Entry::Run(run) => drop(self.runs.insert(run.id, run)),
            Entry::Policy(policy) => {
                self.policies.retain(|known| known.name != policy.name);
                self.policies.push(*policy);
            }
            Entry::ForgetPolicy(name) => self.policies.retain(|known| known.name != name),
            // No core records these: they are between people and the API, and the re-cutting task's.
            Entry::Recut(_) => {}
            Entry::User(_) | Entry::ForgetUser(_) | Entry::Token(_) | Entry::ForgetToken(_) => {}
            Entry::Audit(_) | Entry::PruneAudit(_) => {}
        }
    }

    fn of(&mut self, key: &StreamKey, change: impl FnOnce(&mut Remembered)) {
        if let Some(stream) = self.streams.get_mut(key) {
            change(stream);
        }
    }

    pub fn part(&self, key: &StreamKey, part: PartId) -> Option<&PartRecord> {
        self.streams.get(key)?.parts.get(&part)
    }

    pub fn memory(&self) -> Memory {
        let newest_ended = self.jobs.values().rev().filter(|job| job.state != JobState::Open);
        let open = self.jobs.values().filter(|job| job.state == JobState::Open);
        let closed = self.runs.values().rev().filter(|run| !run.is_open());
        let open_runs = self.runs.values().filter(|run| run.is_open());
        Memory {
            devices: self.devices.values().cloned().collect(),
            streams: self
                .streams
                .iter()
                .map(|(key, stream)| StreamRecord {
                    key: key.clone(),
                    expected_from: stream.expected_from,
                    holding: stream.holding.clone(),
                    offsets: stream.offsets.clone(),
                    verdicts: stream.verdicts.clone(),
                    parts: stream.parts.values().cloned().collect(),
                })
                .collect(),
            jobs: open.chain(newest_ended.take(REMEMBERED)).cloned().collect(),
            runs: open_runs.chain(closed.take(REMEMBERED)).cloned().collect(),
            policies: self.policies.clone(),
            last_part: self.last_part,
        }
    }
}
