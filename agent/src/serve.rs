//! The transfer server: which bytes of which part are read and sent next.
//!
//! Pure: it takes events and a `now`, and returns actions; it never touches a card, a socket or a clock.
//! Of a transfer it keeps nothing but the credit of the moment, one chunk read ahead and, once all is
//! sent, the digest: whatever is lost, the server opens again from what it holds durably.
//!
//! At any time at most one read is with the card and one chunk is with the MQTT client. Among the
//! transfers that could use either, the highest priority goes first, then the one opened first.

use std::cmp::Reverse;

use protocol::message::{
    BootMillis, Credit, DeviceLimits, Open, PartDigest, Refusable, RefusedReason, ServerId, Tell,
    TransferId,
};
use sdcard_indexer::identity::{SegmentId, SegmentVersion};

use crate::bucket::Bucket;

/// A transfer without credit for so long is dropped.
const SILENCE_MS: u64 = 30_000;
/// How often `Accepted` is repeated while a prefix is hashed, and `End` while credit still comes.
const REPEAT_MS: u64 = 1_000;
/// Hashed without sending in one go: short enough that a more urgent read does not wait long.
const HASH_SLICE_BYTES: u64 = 512 * 1024;
/// Servers remembered on one connection, to tell them of transfers that nobody knows.
const MAX_SERVERS: usize = 8;
/// `Refused{UnknownTransfer}` a second, over all transfers.
const MAX_UNKNOWN_PER_SECOND: u64 = 10;

/// One opening of a part, never used twice: an answer of the card to a closed one finds nobody.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PartHandle(pub u64);

/// Which bytes of which file: `[start, end)` of a segment's version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartBytes {
    pub segment: SegmentId,
    pub version: SegmentVersion,
    pub start: u64,
    pub end: u64,
}

/// What the card read of a part, following on the read before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartRead {
    pub length_bytes: u64,
    /// The bytes, where they were wanted and not only hashed; room for the frame's header before them.
    pub frame: Option<Vec<u8>>,
    /// Of the whole part, with its last read.
    pub digest: Option<PartDigest>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chunk {
    pub transfer: TransferId,
    pub offset: u64,
    /// Time of the last credit, in the server's clock; 0 before the first.
    pub echo: u64,
    pub length_bytes: u64,
    /// The payload behind [`protocol::frame::HEADER_BYTES`] that are still to be written.
    pub frame: Vec<u8>,
}

#[derive(Clone, Debug)]
pub enum Event {
    Open {
        server: ServerId,
        open: Open,
    },
    Cancel {
        transfer: TransferId,
    },
    Credit(Credit),
    /// The answer to [`Action::Read`]; each read gets exactly one.
    Read {
        handle: PartHandle,
        outcome: Result<PartRead, RefusedReason>,
    },
    /// The chunk of the last [`Action::Send`] left the MQTT client.
    ChunkSent,
    /// Nothing but time passed.
    Tick,
    LinkLost,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Read the next `length_bytes` of the part, from its start at the first read of a handle; hash
    /// them, and hand them back only where `keep` says so.
    Read {
        handle: PartHandle,
        part: PartBytes,
        length_bytes: u64,
        keep: bool,
    },
    Send {
        server: ServerId,
        chunk: Chunk,
    },
    Tell {
        server: ServerId,
        tell: Tell,
    },
    /// What was held for the handle can go.
    Close {
        handle: PartHandle,
        transfer: TransferId,
        cause: CloseCause,
    },
}

/// Why a part is no longer read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseCause {
    Ended,
    Cancelled,
    Superseded,
    /// No credit for 30 s.
    Silent,
    Unreadable,
    LinkLost,
}

/// How far a transfer has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransferStanding {
    pub id: TransferId,
    pub part: PartBytes,
    /// First byte that is sent.
    pub from: u64,
    /// All before it came from the card.
    pub position: u64,
    pub priority: u8,
    pub ended: bool,
}

#[derive(Debug)]
struct Transfer {
    handle: PartHandle,
    id: TransferId,
    server: ServerId,
    part: PartBytes,
    from: u64,
    priority: u8,
    /// All bytes of the part before this offset came from the card.
    position: u64,
    limit: u64,
    chunk_bytes: u32,
    bucket: Bucket,
    last_credit: Option<Credit>,
    heard_at: BootMillis,
    /// When `Accepted` or `End` was last said.
    told_at: BootMillis,
    /// Read, and waiting to be sent.
    ready: Option<Chunk>,
    digest: Option<PartDigest>,
    /// All is sent and `End` was said; kept to say it again, as the first may be lost.
    ended: bool,
}

impl Transfer {
    fn rank(&self) -> (Reverse<u8>, PartHandle) {
        (Reverse(self.priority), self.handle)
    }

    fn hashes_prefix(&self) -> bool {
        self.position < self.from
    }

    /// Length of the next read, and whether its bytes are to be sent.
    fn next_read(&self) -> Option<(u64, bool)> {
        if self.hashes_prefix() {
            return Some(((self.from - self.position).min(HASH_SLICE_BYTES), false));
        }
        let credited = self.limit.min(self.part.end).saturating_sub(self.position);
        let length = credited.min(u64::from(self.chunk_bytes));
        (length > 0 && self.ready.is_none()).then_some((length, true))
    }

    fn accepted(&mut self, now: BootMillis) -> Action {
        self.told_at = now;
        let length_bytes = self.part.end - self.from;
        let tell = Tell::Accepted { transfer: self.id, length_bytes };
        Action::Tell { server: self.server.clone(), tell }
    }

    fn end(&mut self, now: BootMillis, digest: PartDigest) -> Action {
        self.told_at = now;
        let tell = Tell::End { transfer: self.id, digest };
        Action::Tell { server: self.server.clone(), tell }
    }

    fn close(&self, cause: CloseCause) -> Action {
        Action::Close { handle: self.handle, transfer: self.id, cause }
    }
}

#[derive(Debug)]
pub struct Serve {
    limits: DeviceLimits,
    device_bucket: Bucket,
    unknown_bucket: Bucket,
    transfers: Vec<Transfer>,
    next_handle: u64,
    /// The handle whose read is with the card; it may be closed already.
    reading: Option<PartHandle>,
    /// The handle whose chunk is with the MQTT client; it may be closed already.
    sending: Option<PartHandle>,
    servers: Vec<ServerId>,
}

impl Serve {
    pub fn new(limits: DeviceLimits, now: BootMillis) -> Self {
        Serve {
            limits,
            device_bucket: Bucket::new(limits.max_bytes_per_second, now),
            unknown_bucket: Bucket::new(MAX_UNKNOWN_PER_SECOND, now),
            transfers: Vec::new(),
            next_handle: 0,
            reading: None,
            sending: None,
            servers: Vec::new(),
        }
    }

    /// While nothing is open.
    pub fn set_limits(&mut self, limits: DeviceLimits, now: BootMillis) {
        self.limits = limits;
        self.device_bucket.set_rate(now, limits.max_bytes_per_second);
    }

    pub fn transfers(&self) -> impl Iterator<Item = TransferStanding> {
        self.transfers.iter().map(|transfer| TransferStanding {
            id: transfer.id,
            part: transfer.part,
            from: transfer.from,
            position: transfer.position,
            priority: transfer.priority,
            ended: transfer.ended,
        })
    }

    pub fn handle(&mut self, now: BootMillis, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Open { server, open } => self.open(now, server, &open, &mut actions),
            Event::Cancel { transfer } => {
                self.drop_where(|t| t.id == transfer, CloseCause::Cancelled, &mut actions);
            }
            Event::Credit(credit) => self.credit(now, credit, &mut actions),
            Event::Read { handle, outcome } => self.read(handle, outcome, &mut actions),
            Event::ChunkSent => self.sending = None,
            Event::Tick => {}
            Event::LinkLost => {
                self.sending = None;
                self.servers.clear();
                self.drop_where(|_| true, CloseCause::LinkLost, &mut actions);
            }
        }
        self.advance(now, &mut actions);
        actions
    }

    /// When a [`Event::Tick`] is due at the latest; `None` while nothing waits for time to pass.
    pub fn deadline(&self) -> Option<BootMillis> {
        let later = |instant: BootMillis, ms| BootMillis(instant.0.saturating_add(ms));
        let silence = self.transfers.iter().map(|t| later(t.heard_at, SILENCE_MS));
        let repeats = self.transfers.iter().filter(|t| t.hashes_prefix());
        let repeats = repeats.map(|t| later(t.told_at, REPEAT_MS));
        let ready = self.transfers.iter().filter(|t| t.ready.is_some() && self.sending.is_none());
        let tokens = ready.map(|t| t.bucket.ready_at().max(self.device_bucket.ready_at()));
        silence.chain(repeats).chain(tokens).min()
    }

    fn open(&mut self, now: BootMillis, server: ServerId, open: &Open, actions: &mut Vec<Action>) {
        self.remember(&server);
        if let Some(known) = self.transfers.iter_mut().find(|t| t.id == open.transfer) {
            known.heard_at = now;
            actions.push(known.accepted(now));
            if let (true, Some(digest)) = (known.ended, known.digest) {
                actions.push(known.end(now, digest));
            }
            return;
        }
        let part = PartBytes {
            segment: open.segment,
            version: open.version,
            start: open.start,
            end: open.end,
        };
        let sensible = part.start < part.end
            && part.end <= part.version.size_bytes
            && (part.start..=part.end).contains(&open.from)
            && open.chunk_bytes > 0;
        if !sensible {
            actions.push(refuse(server, open.transfer, RefusedReason::Malformed));
            return;
        }
        let superseded = |t: &Transfer| t.server == server && t.part == part;
        self.drop_where(superseded, CloseCause::Superseded, actions);
        let busy = self.transfers.iter().filter(|t| !t.ended).count();
        if busy >= self.limits.max_open_transfers as usize {
            actions.push(refuse(server, open.transfer, RefusedReason::Busy));
            return;
        }
        self.forget_one_ended();
        let mut transfer = Transfer {
            handle: PartHandle(self.next_handle),
            id: open.transfer,
            server,
            part,
            from: open.from,
            priority: open.priority,
            position: part.start,
            limit: open.credit_limit,
            chunk_bytes: open.chunk_bytes.min(self.limits.max_chunk_bytes),
            bucket: Bucket::new(open.rate_bytes_per_second, now),
            last_credit: None,
            heard_at: now,
            told_at: now,
            ready: None,
            digest: None,
            ended: false,
        };
        self.next_handle += 1;
        actions.push(transfer.accepted(now));
        self.transfers.push(transfer);
    }

    fn credit(&mut self, now: BootMillis, credit: Credit, actions: &mut Vec<Action>) {
        let Some(transfer) = self.transfers.iter_mut().find(|t| t.id == credit.transfer) else {
            if self.unknown_bucket.take_if_ready(now, 1) {
                let refusals = self.servers.iter().map(|server| {
                    refuse(server.clone(), credit.transfer, RefusedReason::UnknownTransfer)
                });
                actions.extend(refusals);
            }
            return;
        };
        if transfer.last_credit.is_some_and(|last| credit.sequence <= last.sequence) {
            return;
        }
        transfer.last_credit = Some(credit);
        transfer.heard_at = now;
        // What was granted stays granted: a chunk for it may already be read.
        transfer.limit = transfer.limit.max(credit.limit);
        if credit.chunk_bytes > 0 {
            transfer.chunk_bytes = credit.chunk_bytes.min(self.limits.max_chunk_bytes);
        }
        transfer.bucket.set_rate(now, credit.rate_bytes_per_second);
        if let (true, Some(digest)) = (transfer.ended, transfer.digest) {
            if now.0.saturating_sub(transfer.told_at.0) >= REPEAT_MS {
                actions.push(transfer.end(now, digest));
            }
        }
    }

    fn read(
        &mut self,
        handle: PartHandle,
        outcome: Result<PartRead, RefusedReason>,
        actions: &mut Vec<Action>,
    ) {
        self.reading = None;
        let Some(transfer) = self.transfers.iter_mut().find(|t| t.handle == handle) else {
            return;
        };
        match outcome {
            Ok(read) => {
                transfer.ready = read.frame.map(|frame| Chunk {
                    transfer: transfer.id,
                    offset: transfer.position,
                    echo: 0,
                    length_bytes: read.length_bytes,
                    frame,
                });
                transfer.position += read.length_bytes;
                transfer.digest = read.digest;
            }
            Err(reason) => {
                actions.push(refuse(transfer.server.clone(), transfer.id, reason));
                self.drop_where(|t| t.handle == handle, CloseCause::Unreadable, actions);
            }
        }
    }

    /// Does all that can be done now: the one place where work is handed out.
    fn advance(&mut self, now: BootMillis, actions: &mut Vec<Action>) {
        let silent = |t: &Transfer| now.0.saturating_sub(t.heard_at.0) >= SILENCE_MS;
        self.drop_where(silent, CloseCause::Silent, actions);
        self.end_what_is_sent(now, actions);
        for transfer in &mut self.transfers {
            if transfer.hashes_prefix() && now.0.saturating_sub(transfer.told_at.0) >= REPEAT_MS {
                actions.push(transfer.accepted(now));
            }
        }
        self.send_next(now, actions);
        self.read_next(actions);
    }

    fn end_what_is_sent(&mut self, now: BootMillis, actions: &mut Vec<Action>) {
        let sending = self.sending;
        for transfer in self.transfers.iter_mut().filter(|t| !t.ended && t.ready.is_none()) {
            if sending == Some(transfer.handle) {
                continue;
            }
            if let Some(digest) = transfer.digest {
                transfer.ended = true;
                actions.push(transfer.end(now, digest));
                actions.push(transfer.close(CloseCause::Ended));
            }
        }
    }

    fn send_next(&mut self, now: BootMillis, actions: &mut Vec<Action>) {
        if self.sending.is_some() || !self.device_bucket.is_ready(now) {
            return;
        }
        let sendable = |t: &&mut Transfer| t.ready.is_some() && t.bucket.is_ready(now);
        let Some(transfer) = self.transfers.iter_mut().filter(sendable).min_by_key(|t| t.rank())
        else {
            return;
        };
        if let Some(mut chunk) = transfer.ready.take() {
            transfer.bucket.take(now, chunk.length_bytes);
            self.device_bucket.take(now, chunk.length_bytes);
            self.sending = Some(transfer.handle);
            chunk.echo = transfer.last_credit.map_or(0, |credit| credit.time);
            actions.push(Action::Send { server: transfer.server.clone(), chunk });
        }
    }

    fn read_next(&mut self, actions: &mut Vec<Action>) {
        if self.reading.is_some() {
            return;
        }
        let wanting = self.transfers.iter().filter_map(|t| Some((t, t.next_read()?)));
        if let Some((transfer, (length_bytes, keep))) = wanting.min_by_key(|(t, _)| t.rank()) {
            let (handle, part) = (transfer.handle, transfer.part);
            self.reading = Some(handle);
            actions.push(Action::Read { handle, part, length_bytes, keep });
        }
    }

    fn drop_where(
        &mut self,
        matches: impl Fn(&Transfer) -> bool,
        cause: CloseCause,
        actions: &mut Vec<Action>,
    ) {
        self.transfers.retain(|transfer| {
            let drop = matches(transfer);
            // An ended transfer was closed when it ended.
            if drop && !transfer.ended {
                actions.push(transfer.close(cause));
            }
            !drop
        });
    }

    /// Keeps no more ended transfers than may be open.
    fn forget_one_ended(&mut self) {
        let ended = self.transfers.iter().filter(|t| t.ended).count();
        if ended >= self.limits.max_open_transfers as usize {
            let oldest = self.transfers.iter().position(|t| t.ended);
            oldest.map(|index| self.transfers.remove(index));
        }
    }

    fn remember(&mut self, server: &ServerId) {
        self.servers.retain(|known| known != server);
        if self.servers.len() == MAX_SERVERS {
            self.servers.remove(0);
        }
        self.servers.push(server.clone());
    }
}

fn refuse(server: ServerId, transfer: TransferId, reason: RefusedReason) -> Action {
    let what = Refusable::Transfer(transfer);
    Action::Tell { server, tell: Tell::Refused { what, reason } }
}

#[cfg(test)]
mod tests;
