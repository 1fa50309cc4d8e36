//! Seal-time digests on real files of which bits are flipped after they were sealed: the card's lies.

use std::fs::{self, File};
use std::io;
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sdcard_indexer::cut::CutLimits;
use sdcard_indexer::digest::verify::{Report, verify};
use sdcard_indexer::digest::{BLOCK_BYTES, Digests, PartReader, SealDigest};
use sdcard_indexer::index::{Index, LocatedPart, ReadError};
use sdcard_indexer::log::Day;
use sdcard_indexer::recordings::{Folder, Listed, OpenRecording, Recordings};
use sdcard_indexer::scan::ScanLimits;
use sdcard_indexer::segment::FileStamp;
use sdcard_indexer::watch::Hint;

use crate::card::*;

/// An index that has caught up with an empty card, and takes digests.
fn watching(card: &Card) -> Index {
    let mut config = card.config();
    config.seal_digest = true;
    let mut index = Index::open(config).unwrap();
    index.sweep(now());
    index
}

/// A segment that is written and closed while the index looks on.
fn record(card: &Card, index: &mut Index, start_s: i64, bytes: &[u8]) {
    card.put(start_s, bytes);
    index.refresh(&[Hint::Sealed(card.path(start_s))], later(20));
}

/// A card with one segment at 10:00:00 that was sealed and hashed.
fn sealed(bytes: &[u8]) -> (Card, Index) {
    let card = Card::new();
    let mut index = watching(&card);
    record(&card, &mut index, 0, bytes);
    assert_eq!(index.digest(u64::MAX).sealed, 1);
    (card, index)
}

/// Changes one bit as a failing card does: nobody has written, so the directory knows nothing of it.
fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
    file.set_modified(modified).unwrap();
}

fn digest_of(card: &Card, index: &Index, start_s: i64) -> Option<SealDigest> {
    let segments = segments(index);
    let segment = segments.into_iter().find(|segment| *segment.path == name(start_s)).unwrap();
    let opened = card.open_reader(&segment);
    opened.sealed().cloned()
}

impl Card {
    /// As a later process finds the segment.
    fn open_reader(
        &self,
        segment: &sdcard_indexer::segment::Segment,
    ) -> sdcard_indexer::index::SegmentReader {
        let mut index = self.open();
        index.sweep(later(20));
        index.open_segment(segment.id, segment.version()).unwrap()
    }

    fn digests_path(&self) -> PathBuf {
        self.state_dir().join(format!("{}.digests", Day::of(begin())))
    }

    fn verify(&self) -> Report {
        let root = self.root();
        let folder = Folder { root, limits: ScanLimits::default(), require_mount: false };
        let digests = Digests::new(self.state_dir());
        verify(&main_stream(), &folder, &digests, &mut |_| ControlFlow::Continue(())).unwrap()
    }
}

fn parts(index: &mut Index, from_s: i64, to_s: i64) -> Vec<LocatedPart> {
    let located = index.locate(&main_stream(), range(from_s, to_s), &CutLimits::default()).unwrap();
    assert!(located.unusable.is_empty(), "{:?}", located.unusable);
    located.parts
}

/// Reads a part to its end, as an agent does for a server; its bytes, and whether they were compared.
fn pull(index: &mut Index, part: &LocatedPart) -> Result<(Vec<u8>, bool), ReadError> {
    let reader = index.open_segment(part.segment, part.version)?;
    let mut reader = PartReader::new(reader, part.bytes.clone());
    let mut bytes = Vec::new();
    while reader.left_bytes() > 0 {
        let mut chunk = vec![0; reader.left_bytes().min(200_000) as usize];
        reader.read(&mut chunk)?;
        bytes.extend(chunk);
    }
    Ok((bytes, reader.compares()))
}

fn block(offset: u64) -> Range<u64> {
    let start = offset - offset % BLOCK_BYTES;
    start..(start + BLOCK_BYTES).min(clips().large.len() as u64)
}

/// A part that begins and ends within blocks, and has a whole block between.
fn middle(index: &mut Index) -> LocatedPart {
    let parts = parts(index, 1, 3);
    assert_eq!(parts.len(), 1);
    let part = &parts[0];
    assert_ne!(part.bytes.start % BLOCK_BYTES, 0);
    assert!(block(part.bytes.start).end < block(part.bytes.end).start);
    assert!(part.bytes.end + BLOCK_BYTES < clips().large.len() as u64);
    part.clone()
}

#[test]
fn what_is_sealed_before_our_eyes_gets_a_digest_and_what_was_there_before_gets_none() {
    // Of two that are there, the newer one is taken for open.
    let card = Card::with(2, &clips().fragmented);
    let mut index = watching(&card);
    record(&card, &mut index, 8, &clips().large);
    index.refresh(&[], later(40));
    assert_eq!(index.digests_waiting(), 2);
    let done = index.digest(u64::MAX);
    assert_eq!((done.sealed, done.waiting, done.failed.len()), (2, 0, 0));
    let digest = digest_of(&card, &index, 8).unwrap();
    assert_eq!(digest.whole(), blake3::hash(&clips().large).as_bytes());
    assert_eq!(digest_of(&card, &index, 0), None);
    let report = card.verify();
    assert_eq!((report.intact, report.without_digest, report.gone), (2, 1, 0));
    assert!(report.is_good() && report.past_cache);
}

#[test]
fn a_segment_that_nobody_saw_closed_is_hashed_once_it_counts_as_closed() {
    let card = Card::new();
    let mut index = watching(&card);
    card.put(0, &clips().fragmented);
    index.refresh(&[Hint::Entry(card.path(0))], later(20));
    assert_eq!(index.digests_waiting(), 0);
    index.refresh(&[], later(40));
    assert_eq!(index.digest(u64::MAX).sealed, 1);
    // Closed once more, and looked at once more: it is the same.
    index.refresh(&[Hint::Sealed(card.path(0))], later(50));
    assert_eq!(index.digest(u64::MAX).sealed, 0);
}

#[test]
fn an_index_that_is_not_told_to_takes_no_digests() {
    let card = Card::new();
    let mut index = card.open();
    index.sweep(now());
    record(&card, &mut index, 0, &clips().fragmented);
    assert_eq!(index.digest(u64::MAX).read_bytes, 0);
    assert!(!card.digests_path().exists());
}

#[test]
fn a_part_of_which_every_block_is_as_sealed_is_read_with_proof() {
    let (_card, mut index) = sealed(&clips().large);
    let whole = parts(&mut index, 0, 4);
    for part in [middle(&mut index), whole[0].clone()] {
        let (bytes, compared) = pull(&mut index, &part).unwrap();
        let expected = &clips().large[part.bytes.start as usize..part.bytes.end as usize];
        assert!(compared && bytes == expected, "{:?}", part.bytes);
    }
}

#[test]
fn a_flipped_bit_in_a_part_or_in_the_rest_of_its_edge_blocks_refuses_it_and_one_outside_does_not() {
    for place in ["in the first block", "in the middle", "before the part", "behind the part"] {
        let (card, mut index) = sealed(&clips().large);
        let part = middle(&mut index);
        let offset = match place {
            "in the first block" => part.bytes.start,
            "in the middle" => block(part.bytes.start).end + 77,
            "before the part" => part.bytes.start - 1,
            _ => part.bytes.end,
        };
        flip(&card.path(0), offset);
        let Err(ReadError::Altered { offset: found }) = pull(&mut index, &part) else {
            panic!("a bit flipped {place} was not noticed");
        };
        assert_eq!(found, block(offset).start, "{place}");
    }
    let (card, mut index) = sealed(&clips().large);
    let part = middle(&mut index);
    flip(&card.path(0), clips().large.len() as u64 - 1);
    assert!(pull(&mut index, &part).is_ok_and(|(_, compared)| compared));
}

#[test]
fn what_lies_behind_an_altered_byte_is_no_longer_held_until_the_file_is_written_anew() {
    let (card, mut index) = sealed(&clips().large);
    record(&card, &mut index, 4, &clips().fragmented);
    let part = middle(&mut index);
    flip(&card.path(0), part.bytes.end);
    let Err(ReadError::Altered { offset }) = pull(&mut index, &part) else { panic!() };
    index.withdraw(part.segment, part.version, offset);
    let sweep = index.refresh(&[], later(60));
    assert_eq!(crate::problems(&sweep), [(name(0).display().to_string(), "altered")]);
    let held = view(&index).held.clone();
    assert!(held.contains(at(0)) && !held.contains(at(3)) && held.contains(at(5)), "{held:?}");
    assert!(view(&index).gone.contains(at(3)));
    assert_eq!(index.digest(u64::MAX).sealed, 1, "of bad bytes no digest is taken");
    // What is left can be had, with proof; and nothing is forgotten over a restart.
    let left = parts(&mut index, 0, 2);
    assert!(left.last().unwrap().bytes.end <= offset);
    assert!(pull(&mut index, &left[0]).unwrap().1);
    let mut index = watching(&card);
    assert_eq!(view(&index).held, held);
    index.sweep(later(80));
    assert_eq!(view(&index).held, held);

    record(&card, &mut index, 0, &clips().large);
    assert!(view(&index).held.contains(at(3)));
}

#[test]
fn an_altered_head_makes_no_new_recording_of_it() {
    let (card, mut index) = sealed(&clips().large);
    let part = middle(&mut index);
    flip(&card.path(0), 2_000);
    assert!(matches!(pull(&mut index, &part), Err(ReadError::Changed)));
    let sweep = index.refresh(&[], later(60));
    assert_eq!(crate::problems(&sweep), [(name(0).display().to_string(), "altered")]);
    assert!(view(&index).held.is_empty());
    assert_eq!(index.digest(u64::MAX).sealed, 0);
}

#[test]
fn of_a_file_whose_index_lies_at_its_end_nothing_is_left_once_a_byte_is_altered() {
    let (card, mut index) = sealed(&clips().large_plain);
    assert_eq!(view(&index).held, range(0, 4).into());
    flip(&card.path(0), BLOCK_BYTES + 5);
    let report = index.verify(&main_stream(), &mut |_| ControlFlow::Continue(()));
    assert_eq!(report.unwrap().unwrap().changed.len(), 1);
    index.refresh(&[], later(60));
    assert!(view(&index).held.is_empty());
    assert_eq!(view(&index).gone, range(0, 4).into());
}

#[test]
#[expect(clippy::single_range_in_vec_init, reason = "a list of ranges may have one")]
fn verifying_names_what_changed_and_where_and_writes_nothing() {
    let card = Card::new();
    let mut index = watching(&card);
    let large = &clips().large;
    for start_s in [0, 4, 8, 12, 16, 20] {
        record(&card, &mut index, start_s, large);
    }
    assert_eq!(index.digest(u64::MAX).sealed, 6);
    let digests = fs::read(card.digests_path()).unwrap();
    let end = large.len() as u64;
    flip(&card.path(0), 5);
    flip(&card.path(0), 2 * BLOCK_BYTES + 5);
    let torn = File::options().write(true).open(card.path(4)).unwrap();
    torn.set_len(BLOCK_BYTES + 1_000).unwrap();
    card.append(8, b"grown");
    card.put(12, &clips().fragmented);
    fs::remove_file(card.path(16)).unwrap();

    let report = card.verify();
    let found: Vec<_> =
        report.changed.iter().map(|it| (&*it.name, &it.ranges[..], it.written_since)).collect();
    assert_eq!(
        found,
        [
            (&*name(0), &[0..BLOCK_BYTES, 2 * BLOCK_BYTES..3 * BLOCK_BYTES][..], false),
            (&*name(4), &[BLOCK_BYTES..end], true),
            (&*name(12), &[0..end], true),
        ]
    );
    assert_eq!((report.intact, report.gone, report.without_digest), (2, 1, 0));
    assert_eq!(report.intact_bytes, 2 * end);
    assert!(!report.is_good());
    assert_eq!(fs::read(card.digests_path()).unwrap(), digests);
}

#[test]
fn verifying_tells_how_far_it_is_and_ends_when_it_is_told_to() {
    let (card, mut index) = sealed(&clips().large);
    let size = clips().large.len() as u64;
    let mut told = Vec::new();
    let report = index.verify(&main_stream(), &mut |progress| {
        told.push((progress.bytes, progress.total_bytes));
        if progress.bytes >= 2 * BLOCK_BYTES {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    assert_eq!(told, [0, BLOCK_BYTES, 2 * BLOCK_BYTES].map(|bytes| (bytes, size)));
    let report = report.unwrap().unwrap();
    assert!(!report.finished && !report.is_good());
    assert_eq!((report.intact, report.changed.len()), (0, 0));
    drop(card);
}

/// Counts what is read of a folder, as a store of a maker would.
#[derive(Debug)]
struct Counted {
    folder: Folder,
    read_bytes: Arc<AtomicU64>,
    reads: Arc<AtomicU64>,
}

#[derive(Debug)]
struct CountedFile(Box<dyn OpenRecording>, Arc<AtomicU64>, Arc<AtomicU64>);

impl Recordings for Counted {
    fn is_there(&self) -> bool {
        self.folder.is_there()
    }

    fn list(&self, under: &Path, tell: &mut dyn FnMut(Listed)) {
        self.folder.list(under, tell);
    }

    fn open(&self, name: &Path) -> io::Result<Box<dyn OpenRecording>> {
        let (bytes, reads) = (self.read_bytes.clone(), self.reads.clone());
        Ok(Box::new(CountedFile(self.folder.open(name)?, bytes, reads)))
    }
}

impl OpenRecording for CountedFile {
    fn stamp(&self) -> io::Result<FileStamp> {
        self.0.stamp()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let count = self.0.read_at(buffer, offset)?;
        self.1.fetch_add(count as u64, Ordering::Relaxed);
        self.2.fetch_add(1, Ordering::Relaxed);
        Ok(count)
    }

    fn forget_cached(&self) -> io::Result<bool> {
        self.0.forget_cached()
    }
}

/// Bytes and reads since they were last asked for.
struct Meter(Arc<AtomicU64>, Arc<AtomicU64>);

impl Meter {
    fn take(&self) -> (u64, u64) {
        (self.0.swap(0, Ordering::Relaxed), self.1.swap(0, Ordering::Relaxed))
    }
}

fn metered(card: &Card) -> (Index, Meter) {
    let meter = Meter(Arc::default(), Arc::default());
    let (read_bytes, reads) = (meter.0.clone(), meter.1.clone());
    let mut config = card.config();
    config.seal_digest = true;
    let limits = config.scan;
    let mut index = Index::open_with(config, |source| {
        let folder = Folder { root: source.root.clone(), limits, require_mount: false };
        let (read_bytes, reads) = (read_bytes.clone(), reads.clone());
        Some(Box::new(Counted { folder, read_bytes, reads }))
    })
    .unwrap();
    index.sweep(now());
    (index, meter)
}

#[test]
fn hashing_reads_no_more_than_it_is_allowed_at_a_time_and_each_byte_once() {
    let card = Card::new();
    let (mut index, meter) = metered(&card);
    record(&card, &mut index, 0, &clips().large);
    let size = clips().large.len() as u64;
    meter.take();
    let (mut total, mut calls) = (0, 0);
    while index.digests_waiting() > 0 {
        let done = index.digest(100_000);
        let (read_bytes, _) = meter.take();
        assert!(read_bytes <= 100_000 && done.read_bytes == read_bytes, "{read_bytes} bytes");
        total += read_bytes;
        calls += 1;
    }
    let head = 4_096;
    assert_eq!(total, size + head);
    assert_eq!(calls, (size + head).div_ceil(100_000));
    assert!(digest_of(&card, &index, 0).is_some());
}

#[test]
fn a_part_costs_its_own_bytes_and_the_rest_of_two_blocks_and_without_digests_its_own_alone() {
    let card = Card::new();
    let (mut index, meter) = metered(&card);
    record(&card, &mut index, 0, &clips().large);
    meter.take();
    let part = middle(&mut index);
    let (locate_bytes, locate_reads) = meter.take();
    let length = part.bytes.end - part.bytes.start;
    let head = 4_096;
    pull(&mut index, &part).unwrap();
    let (plain_bytes, plain_reads) = meter.take();
    assert_eq!(plain_bytes, length + head);
    index.digest(u64::MAX);
    meter.take();
    pull(&mut index, &part).unwrap();
    let (proved_bytes, proved_reads) = meter.take();
    let blocks = block(part.bytes.start).start..block(part.bytes.end - 1).end;
    assert_eq!(proved_bytes, blocks.end - blocks.start + head);
    println!(
        "a part of {length} bytes: located with {locate_reads} reads of {locate_bytes} bytes, read \
         with {plain_reads} reads of {plain_bytes}, with proof {proved_reads} of {proved_bytes}"
    );
}

#[test]
fn a_segment_that_changes_while_it_is_hashed_waits_for_its_turn_anew() {
    let card = Card::new();
    let mut index = watching(&card);
    record(&card, &mut index, 0, &clips().large);
    index.digest(BLOCK_BYTES);
    card.append(0, &clips().fragmented);
    let done = index.digest(u64::MAX);
    assert_eq!((done.sealed, done.waiting), (0, 0));
    index.refresh(&[Hint::Sealed(card.path(0))], later(30));
    assert_eq!(index.digest(u64::MAX).sealed, 1);
    assert_eq!(card.verify().intact, 1);
}

#[test]
fn a_power_cut_while_hashing_or_writing_costs_the_digest_and_nothing_else() {
    let card = Card::new();
    let mut index = watching(&card);
    record(&card, &mut index, 0, &clips().large);
    record(&card, &mut index, 4, &clips().fragmented);
    index.digest(clips().large.len() as u64 + 4_096);
    index.digest(5_000);
    drop(index);
    let one = fs::read(card.digests_path()).unwrap();
    let mut index = watching(&card);
    assert_eq!(index.digests_waiting(), 0);
    assert_eq!(view(&index).held, range(0, 8).into());
    record(&card, &mut index, 8, &clips().fragmented);
    index.digest(u64::MAX);
    let two = fs::read(card.digests_path()).unwrap();
    assert!(two.starts_with(&one) && two.len() > one.len());
    let names = |report: &Report| (report.intact, report.without_digest);
    assert_eq!(names(&card.verify()), (2, 1));

    for cut in 0..two.len() {
        File::create(card.digests_path()).unwrap().write_all_at(&two[..cut], 0).unwrap();
        let whole = u64::from(cut >= one.len());
        assert_eq!(names(&card.verify()), (whole, 3 - whole), "cut at {cut}");
    }
    // The torn end is cut off by what comes next.
    let mut index = watching(&card);
    record(&card, &mut index, 12, &clips().fragmented);
    assert_eq!(index.digest(u64::MAX).sealed, 1);
    assert_eq!(names(&card.verify()), (2, 2));
}

#[test]
fn digests_go_with_the_last_segment_of_their_day() {
    let (card, mut index) = sealed(&clips().fragmented);
    fs::remove_file(card.path(0)).unwrap();
    record(&card, &mut index, 3 * 86_400, &clips().fragmented);
    index.sweep(later(4 * 86_400));
    assert!(!card.digests_path().exists());
}

#[test]
fn a_digest_that_cannot_be_written_is_told_and_the_index_goes_on() {
    let card = Card::new();
    let mut index = watching(&card);
    fs::create_dir_all(card.digests_path()).unwrap();
    record(&card, &mut index, 0, &clips().fragmented);
    let done = index.digest(u64::MAX);
    assert_eq!((done.sealed, done.waiting, done.failed.len()), (0, 0, 1));
    assert_eq!(view(&index).held, range(0, 4).into());
}

#[test]
fn what_memory_is_asked_to_forget_is_read_from_the_disk() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("past-the-cache");
    let file = File::create(&path).unwrap();
    file.write_all_at(&clips().large, 0).unwrap();
    file.sync_all().unwrap();
    let cached_bytes = || {
        let output = Command::new("fincore")
            .args(["--bytes", "--noheadings", "--output", "RES"])
            .arg(&path)
            .output()
            .expect("fincore tells what is cached: apt-get install util-linux");
        String::from_utf8(output.stdout).unwrap().trim().parse::<u64>().unwrap()
    };
    assert!(cached_bytes() >= clips().large.len() as u64);
    let file = File::open(&path).unwrap();
    assert!(file.forget_cached().unwrap());
    assert_eq!(cached_bytes(), 0);
}
