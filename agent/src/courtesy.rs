//! What the agent owes the recorder that it reads beside: to be nicer than it, to read no faster than it may, and to
//! serve before it hashes.
//!
//! Memory is spared where files are read: [`sdcard_indexer::recordings::Sparing`]. The class of its input and output
//! (`ionice -c 3`) is given to the agent by the unit and the init script, as no call for it is safe code. But a thread
//! that was given none is served by how nice it is, by schedulers that heed priorities (CFQ, BFQ): so a card's thread
//! that is nice comes behind the recorder there, whoever has started it. It must never wait: that is its thread's part.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use protocol::message::BootMillis;
use rustix::process::{getpriority_process, setpriority_process};
use sdcard_indexer::index::{IndexConfig, StreamSource};
use sdcard_indexer::layout::{Layout, NamedTime};
use sdcard_indexer::recordings::{Folder, Listed, OpenRecording, Recordings, Sparing};
use sdcard_indexer::segment::FileStamp;
use sdcard_indexer::watch::Hint;

use crate::bucket::Bucket;
use crate::card::Stores;

/// As the unit and the init script make all of the agent.
const NICE: i32 = 10;
/// Sealed segments are hashed no faster than this: some 5 % of one ARMv7 core, which hashes 100 to 200 MB/s,
/// and still 16 times what a recorder writes at 4 Mbit/s, so that it is read before memory forgets it.
const DIGEST_BYTES_PER_SECOND: u64 = 8 << 20;

/// Makes the calling thread as nice as it should be; never less than it is. Linux asks it of each thread by itself.
pub fn give_way() -> io::Result<()> {
    if getpriority_process(None)? < NICE {
        setpriority_process(None, NICE)?;
    }
    Ok(())
}

/// How fast the card is read, and how much was. Whoever reads first and asks later leaves a debt, which is paid
/// before anything else is read. Pure, but for the meter.
#[derive(Debug)]
pub struct Pace {
    meter: Meter,
    reads: Bucket,
    hashing: Bucket,
    read_bytes: u64,
    limit: u64,
}

impl Pace {
    /// In bytes a second; 0: no limit.
    pub fn new(limit: u64, meter: Meter, now: BootMillis) -> Self {
        Pace {
            meter,
            reads: Bucket::new(limit, now),
            hashing: Bucket::new(DIGEST_BYTES_PER_SECOND, now),
            read_bytes: 0,
            limit,
        }
    }

    pub fn set_limit(&mut self, limit: u64, now: BootMillis) {
        self.limit = limit;
        self.reads.set_rate(now, limit);
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Since the start, memory's answers included.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// Pays for what was read since it was last called.
    pub fn count(&mut self, now: BootMillis) {
        let bytes = self.meter.take();
        self.read_bytes = self.read_bytes.saturating_add(bytes);
        self.reads.take(now, bytes);
    }

    pub fn hashed(&mut self, bytes: u64, now: BootMillis) {
        self.hashing.take(now, bytes);
    }

    pub fn may_read(&self, now: BootMillis) -> bool {
        self.reads.is_ready(now)
    }

    pub fn may_hash(&self, now: BootMillis) -> bool {
        self.reads.is_ready(now) && self.hashing.is_ready(now)
    }

    pub fn reads_from(&self) -> BootMillis {
        self.reads.ready_at()
    }

    pub fn hashes_from(&self) -> BootMillis {
        self.reads.ready_at().max(self.hashing.ready_at())
    }
}

/// Bytes that were read of recordings. Between two looks at it, less than can be counted in a word.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<AtomicUsize>);

impl Meter {
    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed) as u64
    }
}

/// A maker's stores, or folders that are read as they should be, all on one meter.
pub fn metered(
    mut makers: Stores,
    config: &IndexConfig,
    spare_recorder: bool,
    meter: Meter,
) -> impl FnMut(&StreamSource) -> Option<Box<dyn Recordings>> + use<> {
    let (limits, require_mount) = (config.scan, config.require_mount);
    move |source| {
        let store = makers(source).unwrap_or_else(|| {
            let folder = Folder { root: source.root.clone(), limits, require_mount };
            if spare_recorder { Box::new(Sparing::new(folder)) } else { Box::new(folder) }
        });
        Some(Box::new(Metered { store, meter: meter.clone() }))
    }
}

/// A store, whichever it is, of which it is known how much was read.
#[derive(Debug)]
struct Metered {
    store: Box<dyn Recordings>,
    meter: Meter,
}

impl Recordings for Metered {
    fn is_there(&self) -> bool {
        self.store.is_there()
    }

    fn list(&self, under: &Path, tell: &mut dyn FnMut(Listed)) {
        self.store.list(under, tell);
    }

    fn open(&self, name: &Path) -> io::Result<Box<dyn OpenRecording>> {
        let recording = self.store.open(name)?;
        Ok(Box::new(MeteredRecording { recording, meter: self.meter.clone() }))
    }

    fn time_of(&self, name: &Path, layout: &Layout) -> Option<NamedTime> {
        self.store.time_of(name, layout)
    }

    fn hints(&mut self) -> Vec<Hint> {
        self.store.hints()
    }
}

#[derive(Debug)]
struct MeteredRecording {
    recording: Box<dyn OpenRecording>,
    meter: Meter,
}

impl OpenRecording for MeteredRecording {
    fn stamp(&self) -> io::Result<FileStamp> {
        self.recording.stamp()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let count = self.recording.read_at(buffer, offset)?;
        self.meter.add(count);
        Ok(count)
    }

    fn forget_cached(&self) -> io::Result<bool> {
        self.recording.forget_cached()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn pace(limit: u64) -> Pace {
        Pace::new(limit, Meter::default(), BootMillis(0))
    }

    #[test]
    fn whatever_is_read_is_paid_for_before_more_is() {
        let mut pace = pace(MIB);
        pace.meter.add(3 << 20);
        pace.count(BootMillis(0));
        assert!(!pace.may_read(BootMillis(0)) && !pace.may_hash(BootMillis(0)));
        let from = pace.reads_from();
        assert!(
            (2_700..2_800).contains(&from.0),
            "three MiB but for a quarter of a second's: {from:?}"
        );
        assert!(pace.may_read(from) && pace.may_hash(from));
        assert_eq!(pace.read_bytes(), 3 * MIB);
        pace.count(from);
        assert_eq!(pace.read_bytes(), 3 * MIB, "it was counted before");
    }

    #[test]
    fn hashing_has_a_limit_of_its_own_below_that_of_all_reads() {
        let mut pace = pace(0);
        pace.hashed(8 * MIB, BootMillis(0));
        assert!(pace.may_read(BootMillis(0)) && !pace.may_hash(BootMillis(0)));
        assert!(pace.may_hash(pace.hashes_from()) && pace.hashes_from() > BootMillis(500));
    }

    #[test]
    fn a_limit_that_is_lifted_or_set_holds_from_then_on() {
        let mut pace = pace(MIB);
        pace.meter.add(100 << 20);
        pace.count(BootMillis(0));
        pace.set_limit(0, BootMillis(0));
        assert!(pace.may_read(BootMillis(0)));
        pace.set_limit(MIB, BootMillis(1));
        pace.meter.add(2 << 20);
        pace.count(BootMillis(1));
        assert!(!pace.may_read(BootMillis(1_000)) && pace.may_read(BootMillis(2_001)));
    }

    #[test]
    fn a_thread_gives_way_alone_and_never_takes_that_back() {
        let of_thread = || getpriority_process(None).unwrap();
        let before = of_thread();
        let after = std::thread::spawn(move || {
            give_way().unwrap();
            let first = of_thread();
            setpriority_process(None, 19).unwrap();
            give_way().unwrap();
            (first, of_thread())
        });
        assert_eq!(after.join().unwrap(), (before.max(NICE), 19));
        assert_eq!(of_thread(), before);
    }
}
