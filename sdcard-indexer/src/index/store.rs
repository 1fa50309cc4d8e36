//! Keeps the tables of an index in its log, and gets them back.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::clock::Clock;
use super::stream::Stream;
use super::table::{Extent, Reading, Removed, Restored};
use crate::coverage::Coverage;
use crate::durable::Durable;
use crate::log::record::{GoneRecord, HolesRecord, Record, RemovedRecord, SegmentRecord};
use crate::log::{Batch, Day, Log, LogError, Written};
use crate::segment::{Content, FileStamp, Placement, Segment, TimeSource, path_bytes};
use crate::time::Timestamp;

/// Dead records that a day's file may hold before it is worth a rewrite, besides as many as live ones.
const DEAD_RECORDS: usize = 64;
/// Ranges in one record: well below the longest frame.
const RANGES_PER_RECORD: usize = 1_024;

/// Whether the index outlives this process.
#[derive(Debug)]
pub enum Durability {
    Persistent,
    MemoryOnly(MemoryOnlyReason),
}

#[derive(Debug, thiserror::Error)]
pub enum MemoryOnlyReason {
    #[error("no folder for the index is configured")]
    NoFolder,
    #[error("the card is full: what is new is remembered once there is room")]
    Full(#[source] LogError),
    #[error("the card can only be read")]
    ReadOnly(#[source] LogError),
    #[error(transparent)]
    Log(LogError),
}

impl From<LogError> for MemoryOnlyReason {
    fn from(error: LogError) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                MemoryOnlyReason::Full(error)
            }
            io::ErrorKind::ReadOnlyFilesystem => MemoryOnlyReason::ReadOnly(error),
            _ => MemoryOnlyReason::Log(error),
        }
    }
}

#[derive(Debug)]
pub(super) struct Store {
    log: Option<Log>,
    durability: Durability,
    changed: bool,
}

impl Store {
    pub fn new(folder: Option<PathBuf>, durable: &Durable) -> Self {
        let durability = match folder {
            Some(_) => Durability::Persistent,
            None => Durability::MemoryOnly(MemoryOnlyReason::NoFolder),
        };
        Store {
            log: folder.map(|folder| Log::new(folder, durable.clone())),
            durability,
            changed: false,
        }
    }

    pub fn durability(&self) -> &Durability {
        &self.durability
    }

    pub fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub fn written(&self) -> Written {
        self.log.as_ref().map(|log| log.written().clone()).unwrap_or_default()
    }

    /// What else was written to the same folder.
    pub fn count(&mut self, now: Timestamp, bytes: u64) {
        if let (Some(log), true) = (&mut self.log, bytes > 0) {
            log.count(now, bytes);
        }
    }

    /// The card has been changed for another one.
    pub fn is_anothers(&self) -> bool {
        self.log.as_ref().is_some_and(Log::is_anothers)
    }

    /// Takes over what the log says; records of streams that are not configured are passed over.
    pub fn load(&mut self, streams: &mut [Stream]) {
        let Some(log) = &mut self.log else { return };
        let outcome = log.replay(|day, record| {
            let (Record::Segment(SegmentRecord { stream: name, .. })
            | Record::Removed(RemovedRecord { stream: name, .. })
            | Record::Gone(GoneRecord { stream: name, .. })
            | Record::Holes(HolesRecord { stream: name, .. })) = &record
            else {
                return;
            };
            let stream = streams.iter_mut().find(|known| known.source.stream.as_str() == *name);
            if let Some(stream) = stream {
                stream.restore(day, &record);
            }
        });
        self.conclude(outcome);
    }

    /// Appends what is new since the last call.
    pub fn save(&mut self, streams: &mut [Stream], now: Timestamp) {
        let Some(log) = &mut self.log else { return };
        for Stream { source, table, .. } in streams {
            let stream = source.stream.as_str();
            for Removed { path, day, held, seen_at } in table.take_removed() {
                let removed = RemovedRecord { stream, path: path_bytes(&path), held, seen_at };
                log.append(day, &Record::Removed(removed));
            }
            table.take_unlogged(|segment| {
                let day = Day::of(segment.named);
                log.append(day, &segment_record(stream, &segment));
                if let Some(record) = holes_record(stream, &segment) {
                    log.append(day, &record);
                }
            });
        }
        let outcome = log.flush(now);
        self.conclude(outcome);
    }

    /// Keeps what is worth it of the clock's journal; what fails is tried again.
    pub fn keep_clock(&mut self, clock: &mut Clock, now: Timestamp) {
        let Some(log) = &mut self.log else { return };
        match clock.save() {
            Ok(bytes) => log.note_written(now, bytes),
            Err(error) => tracing::debug!(%error, "the clock's journal is not kept"),
        }
    }

    /// Writes anew the days of which most records are dead, or whose file is damaged; removes those of
    /// which nothing is left.
    pub fn housekeep(&mut self, streams: &[Stream], now: Timestamp) {
        self.rewrite_where(streams, now, |records, live| records > 2 * live + DEAD_RECORDS);
    }

    /// As [`Store::housekeep`], of all days.
    pub fn rewrite(&mut self, streams: &[Stream], now: Timestamp) {
        self.rewrite_where(streams, now, |_, _| true);
    }

    fn rewrite_where(
        &mut self,
        streams: &[Stream],
        now: Timestamp,
        is_worth: impl Fn(usize, usize) -> bool,
    ) {
        let Some(log) = &mut self.log else { return };
        let mut outcome = Ok(());
        for (day, records) in log.days().collect::<Vec<_>>() {
            let live = live_records(streams, day);
            let done = match records {
                _ if live == 0 => log.remove(day),
                Some(records) if !is_worth(records, live) => Ok(()),
                _ => log.rewrite(day, now, |batch| write_records(streams, day, batch)),
            };
            outcome = outcome.and(done);
        }
        self.conclude(outcome);
    }

    /// A log that lacks something is not one to rely on, until housekeeping has made it whole.
    fn conclude(&mut self, outcome: Result<(), LogError>) {
        let was_persistent = matches!(self.durability, Durability::Persistent);
        match outcome {
            Err(error) => self.durability = Durability::MemoryOnly(error.into()),
            Ok(()) if self.log.as_ref().is_some_and(|log| !log.is_damaged()) => {
                self.durability = Durability::Persistent;
            }
            Ok(()) => {}
        }
        self.changed |= was_persistent != matches!(self.durability, Durability::Persistent);
    }
}

fn segment_record<'a>(stream: &'a str, segment: &'a Segment) -> Record<'a> {
    let of_name = segment.placement.source == TimeSource::Name && segment.placement.epoch.is_none();
    Record::Segment(SegmentRecord {
        stream,
        path: path_bytes(&segment.path),
        size_bytes: segment.stamp.size_bytes,
        modified_ns: segment.stamp.modified_ns,
        fingerprint: segment.fingerprint,
        held: segment.content == Content::Held,
        named: segment.named,
        duration_ns: saturating_nanos(segment.duration),
        usable_bytes: segment.usable_bytes,
        placement: (!of_name).then_some(segment.placement),
    })
}

fn holes_record<'a>(stream: &'a str, segment: &'a Segment) -> Option<Record<'a>> {
    let (path, holes) = (path_bytes(&segment.path), segment.holes.clone());
    (!holes.is_nothing()).then_some(Record::Holes(HolesRecord { stream, path, holes }))
}

fn saturating_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn live_records(streams: &[Stream], day: Day) -> usize {
    streams.iter().map(|stream| stream.table.live_records(day)).sum()
}

fn write_records(streams: &[Stream], day: Day, batch: &mut Batch) {
    for Stream { source, table, .. } in streams {
        let stream = source.stream.as_str();
        let gone = table.gone_of(day).map(Coverage::ranges).unwrap_or_default();
        for ranges in gone.chunks(RANGES_PER_RECORD) {
            let gone = ranges.iter().copied().collect::<Coverage>();
            batch.push(&Record::Gone(GoneRecord { stream, gone }));
        }
        for segment in table.loggable(day) {
            batch.push(&segment_record(stream, &segment));
            holes_record(stream, &segment).iter().for_each(|record| batch.push(record));
        }
    }
}

impl Stream {
    /// A record whose name tells another time than it did belongs to an older configuration: such a
    /// segment is read anew.
    fn restore(&mut self, day: Day, record: &Record<'_>) {
        let named = |path: &Path| self.time_of(path);
        match record {
            Record::Segment(record) => {
                let path = Path::new(OsStr::from_bytes(record.path));
                let Some(named) = named(path).filter(|named| named.start == record.named) else {
                    return;
                };
                let extent = Extent {
                    duration: Duration::from_nanos(record.duration_ns),
                    usable_bytes: record.usable_bytes,
                };
                let stamp =
                    FileStamp { size_bytes: record.size_bytes, modified_ns: record.modified_ns };
                let held = record.held.then_some(extent);
                let placement = record.placement.unwrap_or_else(|| Placement::of_name(&named));
                let reading =
                    Reading { stamp, fingerprint: record.fingerprint, held, walked: true };
                self.table.restore(&Restored { path, named, placement, reading });
                self.note_logged(placement, named.start.saturating_add(extent.duration));
            }
            Record::Removed(record) => {
                let path = Path::new(OsStr::from_bytes(record.path));
                self.table.restore_removed(day, path, named(path), record.held, record.seen_at);
            }
            Record::Gone(record) => self.table.restore_gone(day, &record.gone),
            Record::Holes(record) => {
                let path = Path::new(OsStr::from_bytes(record.path));
                if let Some(named) = named(path) {
                    self.table.restore_holes(path, named, &record.holes);
                }
            }
            Record::Digest(_) | Record::Changed(_) | Record::Epoch(_) => {}
        }
    }
}
