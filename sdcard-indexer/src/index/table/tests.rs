use super::*;
use crate::segment::Tier;

fn layout() -> Layout {
    Layout::new("%s.mp4", "UTC").unwrap()
}

pub fn rows() -> Rows {
    Rows::new(layout(), JOIN)
}

/// A sealed segment of which all is known, as `change` has it.
pub fn insert_at(rows: &mut Rows, start_s: i64, end_s: i64, change: impl FnOnce(&mut Row)) {
    let named = NamedTime { uncertainty: Duration::ZERO, ..named(start_s) };
    let key = Key::new(named.start, named.counter, SegmentId(start_s as u64));
    let mut row = Row::unread(key, Placement::of_name(&named), stamp(10_000));
    row.set_duration(range(start_s, end_s).duration());
    row.set_content(Content::Held);
    row.set(Flag::SEALED, true);
    change(&mut row);
    rows.insert(row, &path(start_s));
}

fn table() -> Table {
    Table::new("main".parse().unwrap(), layout(), JOIN)
}

fn segments(table: &Table) -> Vec<Segment> {
    table.touching(range(i64::MIN, i64::MAX)).collect()
}

const JOIN: Duration = Duration::from_millis(200);
const SEAL_AFTER: Duration = Duration::from_secs(10);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(seconds)
}

fn range(start_s: i64, end_s: i64) -> TimeRange {
    TimeRange::new(at(start_s), at(end_s)).unwrap()
}

fn stamp(size_bytes: u64) -> FileStamp {
    FileStamp { size_bytes, modified_ns: 0 }
}

fn path(start_s: i64) -> PathBuf {
    format!("{start_s}.mp4").into()
}

fn named(start_s: i64) -> NamedTime {
    layout().parse(&path(start_s)).unwrap()
}

fn observe(table: &mut Table, start_s: i64, size_bytes: u64, now_s: i64) {
    let place = || Placement::of_name(&named(start_s));
    table.observe(&path(start_s), named(start_s), stamp(size_bytes), at(now_s), place);
}

/// One survey that sees these files, given as their starts and sizes.
fn survey(table: &mut Table, files: &[(i64, u64)], now_s: i64) {
    table.begin_survey(true);
    for (start_s, size_bytes) in files {
        observe(table, *start_s, *size_bytes, now_s);
    }
    table.bury_unseen(Path::new(""), None, &[] as &[&Path], at(now_s));
    table.settle(at(now_s), SEAL_AFTER);
}

/// Reads what is to be read: each file holds as many seconds as it has bytes.
fn read_all(table: &mut Table) -> usize {
    let to_read: Vec<Key> = table.to_read().collect();
    for &key in &to_read {
        let stamp = table.segment(key).unwrap().stamp;
        let duration = Duration::from_secs(stamp.size_bytes);
        let extent = Extent { duration, usable_bytes: stamp.size_bytes };
        table.read(key, Reading { stamp, fingerprint: 1, held: Some(extent), walked: true });
    }
    to_read.len()
}

fn unlogged(table: &mut Table) -> usize {
    let mut count = 0;
    table.take_unlogged(|_| count += 1);
    count
}

fn first(table: &Table) -> Key {
    table.rows.iter().next().unwrap().key()
}

fn held(table: &Table) -> Coverage {
    table.view(at(1_000)).held
}

#[test]
fn names_alone_give_an_approximate_coverage_and_no_finality() {
    let mut table = table();
    survey(&mut table, &[(120, 9), (0, 9), (60, 9)], 130);
    let view = table.view(at(130));
    assert_eq!((view.held, view.tier), (range(0, 120).into(), Tier::Names));
    assert_eq!(view.final_until, at(0));
    read_all(&mut table);
    let view = table.view(at(130));
    assert_eq!(view.held, [range(0, 9), range(60, 69), range(120, 129)].into_iter().collect());
    assert_eq!((view.tier, view.final_until), (Tier::Extent, at(129)));
}

#[test]
fn only_the_newest_segment_is_open_and_that_until_a_newer_one_or_silence() {
    let mut table = table();
    let sealed = |table: &Table| segments(table).iter().map(|s| s.sealed).collect::<Vec<_>>();
    survey(&mut table, &[(0, 60), (60, 5)], 65);
    assert_eq!(sealed(&table), [true, false]);
    assert_eq!(read_all(&mut table), 2);
    survey(&mut table, &[(0, 60), (60, 7)], 67);
    assert_eq!((sealed(&table), read_all(&mut table)), (vec![true, false], 1));
    assert_eq!(held(&table), range(0, 67).into());
    survey(&mut table, &[(0, 60), (60, 7)], 76);
    assert_eq!((sealed(&table), read_all(&mut table)), (vec![true, false], 0));
    survey(&mut table, &[(0, 60), (60, 7)], 77);
    assert_eq!((sealed(&table), read_all(&mut table)), (vec![true, true], 1));
    survey(&mut table, &[(0, 60), (60, 60), (120, 1)], 121);
    assert_eq!((sealed(&table), read_all(&mut table)), (vec![true, true, false], 2));
}

#[test]
fn a_segment_seen_closed_is_sealed_until_it_changes_again() {
    let mut table = table();
    survey(&mut table, &[(0, 60)], 61);
    table.seal(named(0), &path(0));
    read_all(&mut table);
    survey(&mut table, &[(0, 60)], 62);
    assert!(segments(&table)[0].sealed);
    assert_eq!(unlogged(&mut table), 1);
    survey(&mut table, &[(0, 61)], 63);
    assert!(!segments(&table)[0].sealed);
    assert_eq!(unlogged(&mut table), 0);
}

#[test]
fn a_segment_begun_by_a_clock_that_was_set_back_is_followed_like_any_other() {
    let mut table = table();
    let sealed = |table: &Table| segments(table).iter().map(|s| s.sealed).collect::<Vec<_>>();
    survey(&mut table, &[(5_000, 60), (5_060, 20)], 5_080);
    read_all(&mut table);
    survey(&mut table, &[(100, 1), (5_000, 60), (5_060, 20)], 5_081);
    assert_eq!((sealed(&table), read_all(&mut table)), (vec![false, true, true], 2));
    survey(&mut table, &[(100, 5), (5_000, 60), (5_060, 20)], 5_085);
    assert_eq!((sealed(&table), read_all(&mut table)), (vec![false, true, true], 1));
    survey(&mut table, &[(100, 60), (160, 1), (5_000, 60), (5_060, 20)], 5_141);
    assert_eq!(sealed(&table), [true, false, true, true]);
}

#[test]
fn a_hole_is_none_before_the_file_in_front_of_it_was_walked() {
    let mut table = table();
    survey(&mut table, &[(0, 60), (60, 60), (200, 60), (260, 1)], 300);
    let look = |table: &mut Table, walked: bool| {
        let keys: Vec<Key> = table.to_read().collect();
        for key in &keys {
            let stamp = stamp(60);
            let seconds = if walked && key.named == at(60) { 140 } else { 60 };
            let duration = Duration::from_secs(seconds);
            let held = Some(Extent { duration, usable_bytes: 60 });
            table.read(*key, Reading { stamp, fingerprint: 1, held, walked });
        }
        keys.len()
    };
    assert_eq!(look(&mut table, false), 4);
    assert_eq!(table.view(at(300)).final_until, at(60));
    let doubted: Vec<Key> = table.to_read().collect();
    assert_eq!(doubted.iter().map(|key| key.named).collect::<Vec<_>>(), [at(60)]);
    assert!(table.is_doubted(doubted[0]) && !table.is_doubted(first(&table)));
    assert_eq!(look(&mut table, true), 1);
    assert_eq!((held(&table), table.to_read().count()), (range(0, 320).into(), 0));
    assert_eq!(table.view(at(300)).gone, Coverage::new());
}

#[test]
fn what_vanishes_is_gone_and_moves_the_horizon() {
    let mut table = table();
    survey(&mut table, &[(0, 60), (60, 60), (120, 60)], 200);
    read_all(&mut table);
    survey(&mut table, &[(120, 60)], 201);
    let view = table.view(at(201));
    assert_eq!((view.held, view.gone), (range(120, 180).into(), range(0, 120).into()));
    assert_eq!(view.horizon, Some(at(120)));
    assert_eq!(table.take_removed().len(), 2);
}

#[test]
fn what_is_below_an_unlisted_directory_is_not_gone() {
    let mut table = table();
    survey(&mut table, &[(0, 60), (60, 60)], 200);
    table.begin_survey(true);
    assert_eq!(table.bury_unseen(Path::new(""), None, &[Path::new("0.mp4")], at(0)), 1);
    assert_eq!(segments(&table).len(), 1);
    table.begin_survey(true);
    assert_eq!(table.bury_unseen(Path::new(""), None, &[Path::new("")], at(0)), 0);
    assert_eq!(table.bury_unseen(Path::new("elsewhere"), None, &[] as &[&Path], at(0)), 0);
}

#[test]
fn a_shorter_file_under_the_same_name_leaves_the_rest_as_gone() {
    let mut table = table();
    survey(&mut table, &[(0, 60), (100, 1)], 200);
    read_all(&mut table);
    survey(&mut table, &[(0, 20), (100, 1)], 201);
    read_all(&mut table);
    let view = table.view(at(201));
    assert_eq!(view.gone, range(20, 60).into());
    assert!(view.gone.intersection(&view.held).is_empty());
}

#[test]
fn names_from_the_future_are_known_but_not_held_until_the_clock_gets_there() {
    let mut table = table();
    let tomorrow = 86_400 + 1_000;
    survey(&mut table, &[(900, 60), (tomorrow, 60)], 1_000 - 1);
    read_all(&mut table);
    assert_eq!(held(&table), range(900, 960).into());
    assert!(segments(&table)[1].future);
    survey(&mut table, &[(900, 60), (tomorrow, 60)], 1_000);
    assert_eq!(held(&table).hull(), Some(range(900, tomorrow + 60)));
}

#[test]
fn a_file_that_could_not_be_read_is_tried_again_by_the_next_full_survey_only() {
    let mut table = table();
    survey(&mut table, &[(0, 60), (60, 60)], 200);
    table.seal(named(60), &path(60));
    table.unreadable(first(&table), false);
    assert_eq!(read_all(&mut table), 1);
    assert_eq!(held(&table), range(60, 120).into());
    table.begin_survey(false);
    assert_eq!(table.to_read().count(), 0);
    survey(&mut table, &[(0, 60), (60, 60)], 201);
    assert_eq!(read_all(&mut table), 1);
    assert_eq!(held(&table), range(0, 120).into());
}

#[test]
fn a_file_that_was_missing_when_it_was_to_be_read_is_gone_once_its_directory_says_so() {
    let mut table = table();
    survey(&mut table, &[(0, 60), (60, 60)], 200);
    table.unreadable(first(&table), true);
    read_all(&mut table);
    assert_eq!(held(&table), range(0, 120).into());
    survey(&mut table, &[(60, 60)], 201);
    assert_eq!(table.view(at(201)).gone, range(0, 60).into());
}

#[test]
fn the_window_of_a_change_holds_every_difference_and_no_more() {
    let mut table = table();
    survey(&mut table, &[(0, 60), (60, 60), (120, 60)], 200);
    read_all(&mut table);
    let before = table.view(at(200));
    assert_eq!(before.change_to(&table.view(at(500))), None);
    survey(&mut table, &[(60, 60), (120, 60), (180, 20)], 201);
    read_all(&mut table);
    assert_eq!(before.change_to(&table.view(at(201))), Some(range(0, 200)));
    let before = table.view(at(201));
    survey(&mut table, &[(60, 60), (120, 60), (180, 25)], 202);
    read_all(&mut table);
    assert_eq!(before.change_to(&table.view(at(202))), Some(range(200, 205)));
}

/// As [`read_all`], by heads and tails: what is doubted is walked.
fn look_at_all(table: &mut Table) {
    let first = |table: &Table| table.to_read().next();
    while let Some(key) = first(table) {
        let (stamp, walked) = (table.segment(key).unwrap().stamp, table.is_doubted(key));
        let duration = Duration::from_secs(stamp.size_bytes);
        let held = Some(Extent { duration, usable_bytes: stamp.size_bytes });
        table.read(key, Reading { stamp, fingerprint: 1, held, walked });
    }
}

#[test]
fn what_a_shorter_file_with_a_hole_behind_it_has_lost_is_gone_once_it_was_walked() {
    let mut table = table();
    survey(&mut table, &[(0, 60), (60, 60), (120, 1)], 200);
    look_at_all(&mut table);
    survey(&mut table, &[(0, 20), (60, 60), (120, 1)], 201);
    let view = table.view(at(201));
    assert_eq!((view.held, view.gone), (range(0, 121).into(), Coverage::new()));
    look_at_all(&mut table);
    let view = table.view(at(201));
    assert_eq!(view.held, [range(0, 20), range(60, 121)].into_iter().collect());
    assert_eq!(view.gone, range(20, 60).into());
}

#[test]
fn a_segment_begun_and_closed_by_a_clock_that_was_set_back_leaves_none_open_before_it() {
    let mut table = table();
    let sealed = |table: &Table| segments(table).iter().map(|s| s.sealed).collect::<Vec<_>>();
    survey(&mut table, &[(5_000, 60), (5_060, 20)], 5_080);
    table.begin_survey(true);
    for (start_s, size_bytes) in [(100, 1), (5_000, 60), (5_060, 20)] {
        observe(&mut table, start_s, size_bytes, 5_081);
    }
    table.seal(named(100), &path(100));
    table.settle(at(5_081), SEAL_AFTER);
    assert_eq!(sealed(&table), [true, true, true]);
    survey(&mut table, &[(100, 1), (5_000, 60), (5_060, 25)], 5_082);
    assert_eq!(sealed(&table), [true, true, false], "what is written after all is followed");
}

#[test]
fn of_segments_seen_at_once_the_newest_is_open_in_whatever_order_they_are_listed() {
    for closed in [false, true] {
        let mut table = table();
        survey(&mut table, &[(0, 60)], 60);
        table.begin_survey(true);
        for (start_s, size_bytes) in [(120, 1), (60, 60), (0, 60)] {
            observe(&mut table, start_s, size_bytes, 121);
        }
        if closed {
            table.seal(named(60), &path(60));
        }
        table.settle(at(121), SEAL_AFTER);
        let sealed: Vec<bool> = segments(&table).iter().map(|segment| segment.sealed).collect();
        assert_eq!(sealed, [true, true, false], "closed: {closed}");
    }
}
