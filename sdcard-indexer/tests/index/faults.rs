//! Every call that the log makes fails once, and the power goes at each of them: what is known afterwards is
//! what a fresh look at the card tells.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::durable::Durable;
use sdcard_indexer::index::{Durability, Index, IndexConfig, MemoryOnlyReason};

use crate::card::*;
use crate::faulty_disk::{Fault, FaultyDisk, Left};

const DAY_S: i64 = 86_400;
/// Enough that the records of removed ones are worth a rewrite.
const SHORT_LIVED: i64 = 80;

fn open_on(card: &Card, disk: &FaultyDisk) -> Index {
    let state_dir = Some(PathBuf::from("/state/index"));
    let config = IndexConfig { state_dir, ..card.config() };
    Index::open_on(config, |_| None, &Durable::on(Arc::new(disk.clone()))).unwrap()
}

/// Some days of a camera: everything that makes the log append, rewrite and remove. Returns an index that has
/// lived through it.
fn live(card: &Card, disk: &FaultyDisk) -> Index {
    let clip = &clips().fragmented;
    let mut index = open_on(card, disk);
    let at = |step: i64| later(3 * DAY_S + 60 * step);
    for start_s in [0, 4, 8, DAY_S, DAY_S + 4] {
        card.put(start_s, clip);
    }
    (0..SHORT_LIVED).for_each(|number| card.put(1_000 + number, &[]));
    card.put(2 * DAY_S, &[]);
    index.sweep(at(0));
    card.put(DAY_S + 8, clip);
    index.sweep(at(1));
    (0..SHORT_LIVED).for_each(|number| fs::remove_file(card.path(1_000 + number)).unwrap());
    fs::remove_file(card.path(0)).unwrap();
    fs::remove_file(card.path(2 * DAY_S)).unwrap();
    index.sweep(at(2));
    card.put(4, &clips().other);
    index.sweep(at(3));
    index
}

/// Looked at twice, until the newest segment counts as closed.
fn settle(index: &mut Index) {
    index.sweep(later(3 * DAY_S + 600));
    index.sweep(later(3 * DAY_S + 620));
}

/// Files that are read because the log does not tell of them.
fn missing(card: &Card, disk: &FaultyDisk) -> usize {
    open_on(card, disk).sweep(later(3 * DAY_S + 620)).read
}

/// What a card in the state that [`live`] leaves it in holds, and what is gone of it.
fn truth() -> (Coverage, Coverage) {
    let held = [range(4, 12), range(DAY_S, DAY_S + 12)];
    (held.into_iter().collect(), range(0, 4).into())
}

/// Strikes each call in turn, until there are none left; returns how many there were.
fn each_call(fault: Fault, mut judge: impl FnMut(&Card, &FaultyDisk, Index)) -> u64 {
    for calls in 0.. {
        let (card, disk) = (Card::new(), FaultyDisk::default());
        disk.strike_after(calls, fault);
        let index = live(&card, &disk);
        if !disk.mend() {
            return calls;
        }
        judge(&card, &disk, index);
    }
    unreachable!("an index makes so many calls and no more")
}

fn is_true(index: &Index) {
    let (held, gone) = truth();
    assert_eq!((&view(index).held, &view(index).gone), (&held, &gone));
}

#[test]
fn a_call_that_fails_once_is_made_up_for() {
    let faults = [Fault::Once(ErrorKind::StorageFull), Fault::Once(ErrorKind::Other), Fault::Short];
    for fault in faults {
        let calls = each_call(fault, |card, disk, mut index| {
            is_true(&index);
            settle(&mut index);
            assert!(
                matches!(index.durability(), Durability::Persistent),
                "{:?}",
                index.durability()
            );
            let known = knowledge(&index);
            assert_eq!(missing(card, disk), 0, "the log is whole again");
            let mut again = open_on(card, disk);
            settle(&mut again);
            assert_eq!(knowledge(&again), known);
            is_true(&again);
        });
        assert!(calls > 30, "{calls} calls are too few to show anything");
    }
}

#[test]
fn a_power_cut_at_any_call_loses_nothing_that_a_fresh_look_does_not_bring_back() {
    for left in [Left::Nothing, Left::Half] {
        each_call(Fault::Cut, |card, disk, index| {
            is_true(&index);
            drop(index);
            disk.reboot(left);
            let mut index = open_on(card, disk);
            settle(&mut index);
            let mut fresh = open_on(card, &FaultyDisk::default());
            settle(&mut fresh);
            assert_eq!(knowledge(&index).0, knowledge(&fresh).0);
            let (held, gone) = truth();
            assert_eq!(view(&index).held, held);
            assert!(view(&index).gone.difference(&gone).is_empty(), "{:?}", view(&index).gone);
            assert!(matches!(index.durability(), Durability::Persistent));
            assert_eq!(missing(card, disk), 0, "the log is whole again");
        });
    }
}

#[test]
fn a_card_that_cannot_be_written_from_some_call_on_is_said_to_be_so() {
    for kind in [ErrorKind::StorageFull, ErrorKind::ReadOnlyFilesystem] {
        each_call(Fault::ForGood(kind), |card, disk, index| {
            is_true(&index);
            let said = match index.durability() {
                Durability::MemoryOnly(MemoryOnlyReason::Full(_)) => ErrorKind::StorageFull,
                Durability::MemoryOnly(MemoryOnlyReason::ReadOnly(_)) => {
                    ErrorKind::ReadOnlyFilesystem
                }
                other => panic!("not said: {other:?}"),
            };
            assert_eq!(said, kind);
            let mut again = open_on(card, disk);
            settle(&mut again);
            assert_eq!(view(&again).held, truth().0);
        });
    }
}

#[test]
fn a_log_cut_at_any_byte_of_any_day_equals_a_fresh_scan() {
    let (card, disk) = (Card::new(), FaultyDisk::default());
    drop(live(&card, &disk));
    let mut fresh = open_on(&card, &FaultyDisk::default());
    settle(&mut fresh);
    let folder = PathBuf::from("/state/index");
    for name in ["2026-11-23.log", "2026-11-24.log"] {
        let path = folder.join(name);
        let whole = disk.file(&path);
        for cut in 0..whole.len() {
            disk.put(&path, &whole[..cut]);
            let mut index = open_on(&card, &disk);
            settle(&mut index);
            assert_eq!(knowledge(&index).0, knowledge(&fresh).0, "{name} cut at {cut}");
            assert!(view(&index).gone.difference(&truth().1).is_empty());
            assert_eq!(missing(&card, &disk), 0, "{name} cut at {cut}");
        }
        disk.put(&path, &whole);
    }
}
