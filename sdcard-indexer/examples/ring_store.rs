//! How a maker's own store of recordings is plugged in, from top to bottom.
//!
//! Many recorders do not write one file for each recording. They preallocate one big file, so that the card
//! never fragments and is never full, and overwrite it in rotation. To its file system it is one file that
//! never changes its size. This example invents such a format and goes through all that Gapless needs of it:
//!
//! 1. the format, and the little recorder that writes it (yours exists already),
//! 2. [`RingStore`], which implements [`Recordings`]: this is what you write, some hundred lines,
//! 3. an index of it: what is held and when, which bytes hold a time range, what is overwritten, what changed.
//!
//! Run it with `cargo run -p sdcard-indexer --example ring_store`. To have the agent serve your store, build a
//! binary of your own that calls `agent::run_with`, and hands the same `RingStore` over for its stream.

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sdcard_indexer::cut::CutLimits;
use sdcard_indexer::digest::PartReader;
use sdcard_indexer::index::{Index, IndexConfig, ReadError, StreamSource};
use sdcard_indexer::layout::Layout;
use sdcard_indexer::recordings::{Listed, OpenRecording, Recordings};
use sdcard_indexer::segment::FileStamp;
use sdcard_indexer::time::{TimeRange, Timestamp};
use sdcard_indexer::watch::Hint;

// ---- 1. The format -----------------------------------------------------------------------------------
//
// All numbers are little-endian.
//
//     offset of a slot  bytes  what
//     0                 8      when the recording begins, Unix nanoseconds; 0: the slot holds none
//     8                 8      length of the recording in bytes
//     16                       the recording
//
// The slots lie one behind the other, all of the same size. A recorder that takes a slot clears its head
// first and writes it last. So whoever finds the same head before and after reading has read one recording.

const HEAD_BYTES: usize = 16;
const SLOT_BYTES: u64 = 64 * 1024;
const SLOTS: u64 = 4;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Head {
    start: Timestamp,
    length_bytes: u64,
}

impl Head {
    /// `None` where the slot is empty, or is being written. A length that cannot be is not believed: what
    /// lies on a card may be anything.
    fn read(ring: &File, slot: u64) -> io::Result<Option<Head>> {
        let mut bytes = [0; HEAD_BYTES];
        ring.read_exact_at(&mut bytes, slot * SLOT_BYTES)?;
        let [start, length] = [&bytes[..8], &bytes[8..]]
            .map(|number| number.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
        let possible = start > 0 && length <= SLOT_BYTES - HEAD_BYTES as u64;
        Ok(possible
            .then_some(Head { start: Timestamp::from_nanos(start as i64), length_bytes: length }))
    }
}

/// The recorder. Only it ever writes.
struct Recorder {
    ring: File,
    next_slot: u64,
}

impl Recorder {
    fn preallocate(path: &Path) -> io::Result<Recorder> {
        let ring = OpenOptions::new().write(true).create_new(true).open(path)?;
        ring.set_len(SLOTS * SLOT_BYTES)?;
        Ok(Recorder { ring, next_slot: 0 })
    }

    fn record(&mut self, start: Timestamp, recording: &[u8]) -> io::Result<()> {
        let at = self.next_slot * SLOT_BYTES;
        self.ring.write_all_at(&[0; HEAD_BYTES], at)?;
        self.ring.write_all_at(recording, at + HEAD_BYTES as u64)?;
        let start = (start.as_nanos() as u64).to_le_bytes();
        let length = (recording.len() as u64).to_le_bytes();
        self.ring.write_all_at(&[start, length].concat(), at)?;
        self.next_slot = (self.next_slot + 1) % SLOTS;
        Ok(())
    }
}

// ---- 2. The store ------------------------------------------------------------------------------------

/// What the index sees of the ring.
///
/// A recording needs a name that is its own for ever, as servers ask by it. A slot's number is none, since
/// the next recording gets the same; so a recording is named by its time, as the stream's layout has it. That
/// has a second use: when a recording is gone, its name still tells the index when it was. A store that can
/// look its times up elsewhere, in a database, would override [`Recordings::time_of`].
#[derive(Debug)]
struct RingStore {
    path: PathBuf,
    layout: Layout,
    /// What each slot held when [`RingStore::hints`] was asked last.
    hinted: Vec<Option<PathBuf>>,
}

impl RingStore {
    fn new(path: PathBuf, layout: Layout) -> RingStore {
        RingStore { path, layout, hinted: vec![None; SLOTS as usize] }
    }

    fn name_of(&self, head: Head) -> PathBuf {
        self.layout.path_for(head.start, 0)
    }

    /// The recordings, by slot. Some small reads; a store with thousands of slots would keep this in a
    /// [`std::cell::RefCell`], and read again what its recorder says has changed.
    fn slots(&self) -> io::Result<Vec<Option<Head>>> {
        let ring = File::open(&self.path)?;
        (0..SLOTS).map(|slot| Head::read(&ring, slot)).collect()
    }
}

impl Recordings for RingStore {
    /// Has to be cheap. While it is false, the index writes nothing either: its log belongs to the card.
    fn is_there(&self) -> bool {
        self.path.is_file()
    }

    /// `under` is empty, for everything, or the name of one recording. What cannot be listed has to be told as
    /// well: otherwise the index would take a card that cannot be read for one that is empty.
    fn list(&self, under: &Path, tell: &mut dyn FnMut(Listed)) {
        match self.slots() {
            Ok(slots) => {
                for head in slots.into_iter().flatten() {
                    let name = self.name_of(head);
                    if name.starts_with(under) {
                        // This recorder shows whole recordings only. One that shows them as they grow says
                        // `sealed: false` until it is done with them.
                        tell(Listed::Recording { name, stamp: stamp_of(head), sealed: true });
                    }
                }
            }
            Err(error) => tell(Listed::Unlisted(under.to_owned(), error.into())),
        }
    }

    fn open(&self, name: &Path) -> io::Result<Box<dyn OpenRecording>> {
        let slots = self.slots()?.into_iter().zip(0..);
        let mut named = slots.filter_map(|(head, slot)| Some((head?, slot)));
        let (head, slot) =
            named.find(|(head, _)| self.name_of(*head) == name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(OpenSlot { ring: File::open(&self.path)?, slot, head }))
    }

    /// Without hints, a recording is found by the next sweep, up to ten minutes later. A recorder in the same
    /// process would say what it does; here the slots are compared with what they held before.
    fn hints(&mut self) -> Vec<Hint> {
        let Ok(slots) = self.slots() else { return Vec::new() };
        let now: Vec<Option<PathBuf>> =
            slots.into_iter().map(|head| Some(self.name_of(head?))).collect();
        let mut hints = Vec::new();
        for (before, now) in self.hinted.iter().zip(&now).filter(|(before, now)| before != now) {
            hints.extend(before.as_ref().map(|name| Hint::Entry(self.path.join(name))));
            hints.extend(now.as_ref().map(|name| Hint::Sealed(self.path.join(name))));
        }
        self.hinted = now;
        hints
    }
}

fn stamp_of(head: Head) -> FileStamp {
    FileStamp { size_bytes: head.length_bytes, modified_ns: head.start.as_nanos() }
}

/// A recording that is being read: a range of bytes of the ring.
#[derive(Debug)]
struct OpenSlot {
    ring: File,
    slot: u64,
    head: Head,
}

impl OpenRecording for OpenSlot {
    fn stamp(&self) -> io::Result<FileStamp> {
        Ok(stamp_of(self.head))
    }

    /// A deleted file stays as it is for whoever has it open. A slot does not: the recorder may have begun to
    /// overwrite it before, or while, these bytes were read. So the head is looked at *after* the bytes.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = self.head.length_bytes.saturating_sub(offset);
        let length = buffer.len().min(left as usize);
        let at = self.slot * SLOT_BYTES + HEAD_BYTES as u64 + offset;
        let count = FileExt::read_at(&self.ring, &mut buffer[..length], at)?;
        if Head::read(&self.ring, self.slot)? != Some(self.head) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(count)
    }

    /// Of the whole ring, as it is one file.
    fn forget_cached(&self) -> io::Result<bool> {
        self.ring.forget_cached()
    }
}

// ---- 3. An index of it -------------------------------------------------------------------------------

/// Three seconds of H.264 and AAC, as fragmented MP4.
const RECORDING: &[u8] = include_bytes!("../tests/fixtures/h264-aac-fragmented.mp4");

pub fn main() -> Result<(), Box<dyn Error>> {
    let card = std::env::temp_dir().join(format!("ring-store-{}", std::process::id()));
    fs::create_dir_all(&card)?;
    let outcome = show(&card);
    fs::remove_dir_all(&card)?;
    outcome
}

fn show(card: &Path) -> Result<(), Box<dyn Error>> {
    let begin: Timestamp = "2026-11-23T10:00:00Z".parse()?;
    let at = |seconds| begin.saturating_add(Duration::from_secs(seconds));
    let stream: sdcard_indexer::identity::StreamId = "main".parse()?;

    // The same words as in the agent's configuration: `root` is where the store lies, `layout` how recordings
    // are named. The closure is what a maker adds; a stream for which it says `None` is an ordinary folder.
    let layout = Layout::new("%Y-%m-%d/%H-%M-%S-%f.mp4", "UTC")?;
    let root = card.join("ring.bin");
    let source = StreamSource { stream: stream.clone(), root: root.clone(), layout };
    let mut config = IndexConfig::new(vec![source], Some(card.join(".gapless")));
    config.seal_digest = true;
    let mut recorder = Recorder::preallocate(&root)?;
    let mut index = Index::open_with(config, |source| {
        Some(Box::new(RingStore::new(source.root.clone(), source.layout.clone())))
    })?;
    index.sweep(at(0));

    // Three recordings. The index is told by the store's own hints, reads heads and tails, and then hashes.
    for start in [0, 3, 6] {
        recorder.record(at(start), RECORDING)?;
    }
    let found = index.refresh(&[], at(20));
    let digested = index.digest(u64::MAX);
    println!("found {} recordings, hashed {}", found.added, digested.sealed);
    assert_eq!((found.added, digested.sealed), (3, 3));
    let everything = TimeRange::new(at(0), at(3_600)).ok_or("an hour begins before it ends")?;
    for segment in index.segments(&stream, everything) {
        println!(
            "  {}  {}  {} bytes",
            segment.range(),
            segment.path.display(),
            segment.stamp.size_bytes
        );
    }

    // Which bytes hold two seconds across two recordings? Each part begins at a keyframe.
    let wanted = TimeRange::new(at(2), at(4)).ok_or("2 comes before 4")?;
    let parts = index.locate(&stream, wanted, &CutLimits::default())?.parts;
    println!("{wanted} lies in");
    for part in &parts {
        let reader = index.open_segment(part.segment, part.version)?;
        let mut reader = PartReader::new(reader, part.bytes.clone());
        let mut bytes = vec![0; usize::try_from(reader.left_bytes())?];
        reader.read(&mut bytes)?;
        println!("  {}  bytes {:?}, as sealed: {}", part.range, part.bytes, reader.compares());
        let expected = usize::try_from(part.bytes.start)?..usize::try_from(part.bytes.end)?;
        assert_eq!(Some(bytes.as_slice()), RECORDING.get(expected));
        assert!(reader.compares());
    }
    assert_eq!(parts.len(), 2);

    // The ring goes on: the fifth recording takes the first one's slot, while somebody is reading it.
    let first = index.segments(&stream, everything).next().ok_or("there are three")?;
    let reader = index.open_segment(first.id, first.version())?;
    recorder.record(at(9), RECORDING)?;
    recorder.record(at(12), RECORDING)?;
    let overwritten = reader.read_at(0, &mut [0; 100]);
    assert!(matches!(overwritten, Err(ReadError::Gone)), "{overwritten:?}");
    let sweep = index.refresh(&[], at(30));
    let view = index.stream(&stream).ok_or("it is configured")?;
    println!("{} recordings came, {} was overwritten", sweep.added, sweep.gone);
    println!("held is {:?}, gone is {:?}", view.held, view.gone);
    assert_eq!((sweep.added, sweep.gone), (2, 1));
    assert!(view.gone.contains(at(1)) && !view.held.contains(at(1)) && view.held.contains(at(14)));
    index.digest(u64::MAX);

    // A card that gives back other bytes than it was given is found out, and the recording withdrawn.
    let ring = OpenOptions::new().write(true).open(&root)?;
    ring.write_all_at(b"?", 2 * SLOT_BYTES + HEAD_BYTES as u64 + 9_000)?;
    let report =
        index.verify(&stream, &mut |_| ControlFlow::Continue(())).ok_or("it has a log")??;
    for changed in &report.changed {
        println!("{} changed in bytes {:?}", changed.name.display(), changed.ranges);
    }
    assert_eq!((report.intact, report.changed.len(), report.gone), (3, 1, 1));
    index.refresh(&[], at(40));
    let view = index.stream(&stream).ok_or("it is configured")?;
    println!("held is {:?}", view.held);
    assert!(view.held.contains(at(5)) && !view.held.contains(at(7)));
    Ok(())
}
