//! The index on the file systems of real cards: full to the brim, read-only, pulled, changed for another.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what a test cannot set up is a failure")]

mod mounted;

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::index::{
    Durability, Index, IndexConfig, MemoryOnlyReason, StreamSource, StreamView,
};
use sdcard_indexer::layout::Layout;
use sdcard_indexer::time::{TimeRange, Timestamp};
use tempfile::TempDir;

use mounted::{Image, Kind, Mounted, slot};

const RECORDING: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/h264-aac-fragmented.mp4");
const EVERY_S: i64 = 3;
const DAY_S: i64 = 86_400;

fn at(seconds: i64) -> Timestamp {
    let begin: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
    begin.saturating_offset(seconds * 1_000_000_000)
}

fn main_stream() -> StreamId {
    "main".parse().unwrap()
}

fn layout() -> Layout {
    Layout::new("%Y-%m-%d/%H-%M-%S.mp4", "UTC").unwrap()
}

fn root(slot: &TempDir) -> PathBuf {
    slot.path().join("card/main")
}

fn record(card: &Mounted, start_s: i64) -> PathBuf {
    let path = card.folder().join("main").join(layout().path_for(at(start_s), 0));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // Not fs::copy: FAT has no permissions that it could copy.
    File::create(&path).unwrap().write_all(&fs::read(RECORDING).unwrap()).unwrap();
    path
}

fn open(slot: &TempDir) -> Index {
    let source = StreamSource { stream: main_stream(), root: root(slot), layout: layout() };
    let state_dir = Some(slot.path().join("card/.gapless"));
    let config = IndexConfig { require_mount: true, ..IndexConfig::new(vec![source], state_dir) };
    Index::open(config).unwrap()
}

/// Looked at twice, until the newest segment counts as closed.
fn settle(index: &mut Index) {
    index.sweep(at(3 * DAY_S));
    index.sweep(at(3 * DAY_S + 20));
}

fn view(index: &Index) -> &StreamView {
    index.stream(&main_stream()).unwrap()
}

/// The whole seconds that are held.
fn held_s(index: &Index) -> Vec<(i64, i64)> {
    let seconds = |instant: Timestamp| instant.nanos_from(at(0)) / 1_000_000_000;
    view(index).held.iter().map(|held| (seconds(held.start()), seconds(held.end()))).collect()
}

fn is_persistent(index: &Index) -> bool {
    matches!(index.durability(), Durability::Persistent)
}

fn lives_on(kind: Kind) {
    let slot = slot();
    let image = Image::format(&slot, "image", kind);
    let card = image.mount(&slot);
    let oldest = record(&card, 0);
    record(&card, EVERY_S);
    record(&card, DAY_S);
    let mut index = open(&slot);
    settle(&mut index);
    assert_eq!(held_s(&index), [(0, 6), (DAY_S, DAY_S + 3)]);
    assert!(is_persistent(&index), "{:?}", index.durability());
    let known = view(&index).clone();

    drop(card);
    let mut index = open(&slot);
    index.sweep(at(3 * DAY_S + 40));
    assert!(!view(&index).present && view(&index).held.is_empty());
    assert!(!root(&slot).exists() && !slot.path().join("card/.gapless").exists());

    let card = image.mount(&slot);
    let sweep = index.sweep(at(3 * DAY_S + 60));
    assert_eq!((sweep.read, sweep.gone), (0, 0), "the log and the stamps survive a remount");
    assert_eq!(view(&index).held, known.held);
    fs::remove_file(oldest).unwrap();
    assert_eq!(index.sweep(at(3 * DAY_S + 80)).gone, 1);
    assert_eq!(held_s(&index), [(3, 6), (DAY_S, DAY_S + 3)]);
    assert_eq!(open_and_sweep(&slot).1, 0);
    assert!(!view(&index).gone.is_empty());
    drop(card);
}

/// Also how many files were read.
fn open_and_sweep(slot: &TempDir) -> (Index, usize) {
    let mut index = open(slot);
    let read = index.sweep(at(3 * DAY_S + 100)).read;
    (index, read)
}

#[test]
fn an_index_lives_on_ext4_and_outlives_its_card_being_pulled() {
    lives_on(Kind::Ext4);
}

#[test]
fn an_index_lives_on_vfat_and_outlives_its_card_being_pulled() {
    lives_on(Kind::Vfat);
}

#[test]
fn an_index_lives_on_exfat_and_outlives_its_card_being_pulled() {
    lives_on(Kind::ExFat);
}

/// A card that takes no more, by `prevent`, until `allow`: said, lived with, and made up for.
fn is_lived_with(
    kind: Kind,
    prevent: impl Fn(&Mounted),
    allow: impl Fn(&Mounted),
    expected: impl Fn(&MemoryOnlyReason) -> bool,
) {
    let slot = slot();
    let image = Image::format(&slot, "image", kind);
    let card = image.mount(&slot);
    record(&card, 0);
    let mut index = open(&slot);
    settle(&mut index);
    assert!(is_persistent(&index));
    // Another day: a file that is not there yet.
    record(&card, DAY_S);
    prevent(&card);
    settle(&mut index);
    let Durability::MemoryOnly(reason) = index.durability() else { panic!("nothing is said") };
    assert!(expected(reason), "{reason:?}");
    assert_eq!(held_s(&index), [(0, 3), (DAY_S, DAY_S + 3)]);
    allow(&card);
    assert!(index.sweep(at(3 * DAY_S + 60)).durability_changed);
    assert!(is_persistent(&index), "{:?}", index.durability());
    assert_eq!(open_and_sweep(&slot).1, 0, "what was remembered is written");
    let hidden = fs::read_dir(card.folder().join(".gapless")).unwrap().flatten();
    let mut names: Vec<_> = hidden.map(|entry| entry.file_name()).collect();
    names.sort();
    assert_eq!(
        names,
        ["2026-11-23.log", "2026-11-24.log", "card.id"],
        "nothing is left lying about"
    );
}

#[test]
fn a_card_filled_to_the_brim_is_lived_with_until_there_is_room() {
    // A full vfat is called "not permitted" by fusefat, which the kernel's does not.
    for kind in [Kind::Ext4, Kind::ExFat] {
        let free = |card: &Mounted| fs::remove_file(card.folder().join("filler")).unwrap();
        let fill = |card: &Mounted| drop(card.fill());
        is_lived_with(kind, fill, free, |reason| matches!(reason, MemoryOnlyReason::Full(_)));
    }
}

#[test]
fn a_card_that_turns_read_only_is_lived_with_until_it_can_be_written_again() {
    let prevent = |card: &Mounted| card.remount("ro");
    let allow = |card: &Mounted| card.remount("rw");
    let expected = |reason: &MemoryOnlyReason| matches!(reason, MemoryOnlyReason::ReadOnly(_));
    is_lived_with(Kind::Ext4, prevent, allow, expected);
}

/// Between two looks: nobody saw the slot empty.
#[test]
fn a_card_changed_for_another_takes_nothing_of_the_first_for_gone() {
    for kind in [Kind::Ext4, Kind::Vfat] {
        let slot = slot();
        let (one, other) = (Image::format(&slot, "one", kind), Image::format(&slot, "other", kind));
        let card = other.mount(&slot);
        record(&card, 2 * DAY_S);
        settle(&mut open(&slot));
        drop(card);

        let card = one.mount(&slot);
        record(&card, 0);
        let mut index = open(&slot);
        settle(&mut index);
        drop(card);
        let card = other.mount(&slot);
        index.sweep(at(3 * DAY_S + 40));
        assert_eq!(held_s(&index), [(2 * DAY_S, 2 * DAY_S + 3)], "{kind:?}");
        assert_eq!(view(&index).gone, Coverage::new());
        drop(card);

        let card = one.mount(&slot);
        index.sweep(at(3 * DAY_S + 60));
        assert_eq!((held_s(&index), view(&index).gone.clone()), (vec![(0, 3)], Coverage::new()));
        let everything = TimeRange::new(Timestamp::MIN, Timestamp::MAX).unwrap();
        assert_eq!(index.segments(&main_stream(), everything).count(), 1);
        drop(card);
    }
}
