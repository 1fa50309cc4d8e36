//! The merger and the central recorder: all that writes into the archive.

use std::path::PathBuf;

use reconciler::fleet::StreamKey;
use reconciler::ledger::{PartId, PartRecord, Piece};
use reconciler::reconcile::{MergeStep, Merged};
use sdcard_indexer::time::TimeRange;

use super::agenda::{MILLISECOND, Micros, SECOND, micros};
use super::card::between;
use super::disk::PieceFile;
use super::faults::Kind;
use super::server::ToServer;
use super::world::{Happening, World};

/// A piece without a name.
#[derive(Clone, Debug)]
pub struct Written {
    pub key: StreamKey,
    pub piece: Piece,
    tried: u32,
}

impl World {
    /// One step after the other.
    pub fn merger_works(&mut self) {
        let slow = self.random.below(self.plan.weather.slow_merge);
        let Some(server) = self.server.as_mut().filter(|server| !server.merger_is_busy) else {
            return;
        };
        if server.merges.is_empty() {
            return;
        }
        server.merger_is_busy = true;
        let life = server.life;
        let takes = 20 * MILLISECOND + slow;
        self.agenda.after(takes, Happening::Server { life, event: ToServer::MergerWorks });
    }

    pub fn merger_done(&mut self) {
        let Some(server) = &mut self.server else { return };
        server.merger_is_busy = false;
        let Some(step) = server.merges.pop_front() else { return };
        let fails = self.now() < self.merges_fail_until;
        let merged = match step {
            MergeStep::Write { record, .. } if fails => Merged::Failed {
                key: record.key.clone(),
                part: record.id,
                reason: "the archive's disk does not answer".into(),
            },
            MergeStep::Write { record, .. } => self.write_piece(&record),
            MergeStep::Publish { key, part } => self.publish_piece(key, part),
            MergeStep::Recover { record } => self.recover_piece(&record),
        };
        self.deliver(ToServer::Merged(merged));
        self.merger_works();
    }

    fn write_piece(&mut self, record: &PartRecord) -> Merged {
        let (key, part) = (record.key.clone(), record.id);
        let failed =
            |reason: &str| Merged::Failed { key: key.clone(), part, reason: reason.into() };
        let Some(&inode) = self.disk.names.get(&part) else { return failed("no spool file") };
        let file = &self.disk.inodes[inode];
        let held = file.bytes.len() as u64;
        let digest: [u8; 32] = blake3::hash(&file.bytes).into();
        let Some(&number) = self.numbers.get(&key.device) else { return failed("no such device") };
        let habit = self.devices[number].plan.habit;
        // A piece ends with the last frame that arrived whole.
        let start = micros(record.part.range.start());
        let end =
            micros(record.part.range.end()).min(start + held / habit.frame_bytes * habit.frame);
        if end <= start {
            return failed("the part does not begin with a keyframe");
        }
        self.check_content(record, inode);
        let range = between(start, end);
        let (path, seams) = (name(&key, range, 0), Vec::new());
        let piece = Piece { path, digest, size_bytes: held, range, seams };
        self.archive.hidden.insert(piece.path.clone(), digest);
        self.hold(Written { key, piece, tried: 0 }, part)
    }

    fn hold(&mut self, written: Written, part: PartId) -> Merged {
        let Written { key, piece, .. } = written.clone();
        if let Some(server) = &mut self.server {
            server.written.insert(part, written);
        }
        Merged::Written { key, part, piece, learned: Vec::new() }
    }

    fn publish_piece(&mut self, key: StreamKey, part: PartId) -> Merged {
        let written = self.server.as_mut().and_then(|server| server.written.remove(&part));
        let Some(mut written) = written else { return Merged::Redo { key, part, spooled: true } };
        let is_taken = self.happens(self.plan.weather.name_taken) && written.tried < 3;
        if is_taken || self.stands(&key, &written.piece.path).is_some() {
            self.archive.hidden.remove(&written.piece.path);
            written.tried += 1;
            written.piece.path = name(&key, written.piece.range, written.tried);
            self.archive.hidden.insert(written.piece.path.clone(), written.piece.digest);
            return self.hold(written, part);
        }
        self.archive.hidden.remove(&written.piece.path);
        self.place(&key, PieceFile { part, piece: written.piece });
        Merged::Published { key, part }
    }

    fn recover_piece(&mut self, record: &PartRecord) -> Merged {
        let (key, part) = (record.key.clone(), record.id);
        if let Some(piece) = &record.piece {
            let standing = self.stands(&key, &piece.path);
            if standing == Some(piece.digest) {
                return Merged::Published { key, part };
            }
            if self.archive.hidden.remove(&piece.path) == Some(piece.digest) && standing.is_none() {
                self.place(&key, PieceFile { part, piece: piece.clone() });
                return Merged::Published { key, part };
            }
        }
        Merged::Redo { spooled: self.disk.file(part).is_some(), key, part }
    }

    fn stands(&self, key: &StreamKey, path: &PathBuf) -> Option<[u8; 32]> {
        let pieces = self.archive.streams.get(key)?.pieces.iter();
        let mut same = pieces.filter(|file| file.piece.path == *path);
        same.next().map(|file| file.piece.digest)
    }

    fn place(&mut self, key: &StreamKey, file: PieceFile) {
        self.check_piece(key, &file);
        self.bill.pieces += 1;
        self.archive.streams.entry(key.clone()).or_default().pieces.push(file);
    }

    // ---- the central recorder ------------------------------------------------------------------------------

    /// It records while the camera's link is up, a moment after that came.
    pub fn begin_live(&mut self, number: usize) {
        let device = &self.devices[number];
        let records = device.plan.kind == Kind::Online
            && device.wire.is_up
            && device.conversation.is_some()
            && device.rings.iter().any(|ring| ring.recording);
        if records {
            let since = self.now() + self.random.below(2 * SECOND);
            for key in self.keys_of(number) {
                self.archive.streams.entry(key).or_default().live_since.get_or_insert(since);
            }
        }
    }

    pub fn end_live(&mut self, number: usize) {
        self.write_live();
        for key in self.keys_of(number) {
            if let Some(stream) = self.archive.streams.get_mut(&key) {
                stream.live_since = None;
            }
        }
    }

    /// Brings what is being recorded up to date.
    pub fn write_live(&mut self) {
        let now = self.now();
        for stream in self.archive.streams.values_mut() {
            if let Some(since) = stream.live_since.filter(|since| *since < now) {
                stream.live.insert(between(since, now));
                stream.live_since = Some(now);
            }
        }
    }
}

fn name(key: &StreamKey, range: TimeRange, tried: u32) -> PathBuf {
    format!("{key}/{}.{tried}", range.start()).into()
}

/// How long a range is.
pub fn length(range: TimeRange) -> Micros {
    micros(range.end()).saturating_sub(micros(range.start()))
}
