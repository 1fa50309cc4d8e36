//! What the watcher hints at, and what the index makes of it.

use std::fs::{self, File};

use sdcard_indexer::scan::ScanLimits;
use sdcard_indexer::watch::{Hint, Watcher};

use crate::card::*;

/// inotify queues an event before the call that causes it returns: there is nothing to wait for.
fn watcher(card: &Card) -> Watcher {
    let watcher = Watcher::new(vec![card.root()], ScanLimits::default()).unwrap();
    assert!(watcher.unwatched().is_none());
    watcher
}

#[test]
fn the_watcher_sees_a_segment_that_is_written_and_the_index_takes_it_as_sealed() {
    let card = Card::with(1, &clips().fragmented);
    let mut index = card.indexed();
    let mut watcher = watcher(&card);
    assert_eq!(watcher.poll().unwrap(), []);
    card.put(4, &clips().fragmented);
    let hints = watcher.poll().unwrap();
    assert_eq!(hints, [Hint::Entry(card.path(4)), Hint::Sealed(card.path(4))]);
    index.refresh(&hints, later(30));
    assert_eq!(view(&index).held, range(0, 8).into());
    assert!(segments(&index)[1].sealed);
    fs::remove_file(card.path(0)).unwrap();
    let hints = watcher.poll().unwrap();
    assert_eq!(hints, [Hint::Entry(card.path(0))]);
    assert_eq!(index.refresh(&hints, later(30)).gone, 1);
}

#[test]
fn the_watcher_follows_into_directories_that_appear_and_forgets_those_that_go() {
    let card = Card::new();
    let mut index = card.indexed();
    let mut watcher = watcher(&card);
    let day = card.root().join("2026-11-23");
    fs::create_dir(&day).unwrap();
    assert_eq!(watcher.poll().unwrap(), [Hint::Directory(day.clone())]);
    card.put(0, &clips().fragmented);
    let hints = watcher.poll().unwrap();
    assert!(hints.contains(&Hint::Sealed(card.path(0))), "{hints:?}");
    index.refresh(&hints, later(30));
    assert_eq!(view(&index).held, range(0, 4).into());
    fs::remove_dir_all(&day).unwrap();
    index.refresh(&watcher.poll().unwrap(), later(30));
    assert_eq!(
        (view(&index).held.is_empty(), view(&index).gone.clone()),
        (true, range(0, 4).into())
    );
}

#[test]
fn a_file_in_a_directory_made_before_it_was_watched_is_found_by_its_hint() {
    let card = Card::new();
    let mut index = card.indexed();
    let mut watcher = watcher(&card);
    card.put(0, &clips().fragmented);
    let hints = watcher.poll().unwrap();
    assert_eq!(hints, [Hint::Directory(card.root().join("2026-11-23"))]);
    index.refresh(&hints, later(30));
    assert_eq!(view(&index).held, range(0, 4).into());
}

#[test]
fn a_directory_moved_away_is_watched_no_longer() {
    let card = Card::with(1, &clips().fragmented);
    let mut index = card.indexed();
    let mut watcher = watcher(&card);
    let away = card.folder.path().join("away");
    #[expect(clippy::disallowed_methods, reason = "a test moves a folder")]
    fs::rename(card.root().join("2026-11-23"), &away).unwrap();
    let hints = watcher.poll().unwrap();
    assert_eq!(hints, [Hint::Entry(card.root().join("2026-11-23"))]);
    assert_eq!(index.refresh(&hints, later(30)).gone, 1);
    File::create(away.join("new.mp4")).unwrap();
    assert_eq!(watcher.poll().unwrap(), []);
}

#[test]
fn a_root_that_appears_later_is_watched_from_its_renewal_on() {
    let card = Card { folder: tempfile::tempdir().unwrap() };
    let mut watcher = Watcher::new(vec![card.root()], ScanLimits::default()).unwrap();
    card.put(0, &clips().fragmented);
    assert_eq!(watcher.poll().unwrap(), []);
    watcher.renew();
    card.put(4, &clips().fragmented);
    assert!(watcher.poll().unwrap().contains(&Hint::Sealed(card.path(4))));
    fs::remove_dir_all(card.root()).unwrap();
    assert_eq!(watcher.poll().unwrap(), [Hint::SweepAll]);
}

#[test]
fn names_with_a_leading_dot_give_no_hint() {
    let card = Card::with(1, &clips().fragmented);
    let mut watcher = watcher(&card);
    File::create(card.root().join(".under-way.mp4")).unwrap();
    fs::create_dir(card.root().join(".gapless")).unwrap();
    assert_eq!(watcher.poll().unwrap(), []);
}
