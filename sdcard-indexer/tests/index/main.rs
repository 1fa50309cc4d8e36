//! The index on real files made by ffmpeg, in real directories.
#![expect(clippy::unwrap_used, reason = "what a test cannot set up is a failure")]

mod card;
mod clock;
mod faults;
mod faulty_disk;
mod retention;
mod seals;
mod watching;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use sdcard_indexer::clock::{Boottime, ClockReading};
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::cut::CutLimits;
use sdcard_indexer::identity::BootId;
use sdcard_indexer::index::{
    Durability, Index, IndexConfig, IndexError, LocateError, ProblemKind, ReadError, StreamSource,
    StreamView, Sweep,
};
use sdcard_indexer::layout::Layout;
use sdcard_indexer::segment::{Content, Tier};
use sdcard_indexer::time::{TimeRange, Timestamp};
use sdcard_indexer::watch::Hint;

use card::*;

fn problems(sweep: &Sweep) -> Vec<(String, &'static str)> {
    let kind = |kind: &ProblemKind| match kind {
        ProblemKind::Empty => "empty",
        ProblemKind::Torn { .. } => "torn",
        ProblemKind::Unreadable(_) => "unreadable",
        ProblemKind::NotAFile => "not a file",
        ProblemKind::Unlisted(_) => "unlisted",
        ProblemKind::Foreign => "foreign",
        ProblemKind::Future => "future",
        ProblemKind::Unplaced => "unplaced",
        ProblemKind::Malformed(_) => "malformed",
        ProblemKind::Altered { .. } => "altered",
    };
    let problems = sweep.problems.iter();
    let mut all: Vec<_> =
        problems.map(|it| (it.path.display().to_string(), kind(&it.kind))).collect();
    all.sort();
    all
}

#[test]
fn a_cold_scan_finds_what_is_held_to_the_frame() {
    let card = Card::with(3, &clips().fragmented);
    card.put(20, &clips().plain);
    let mut index = card.open();
    assert!(!view(&index).present);
    let sweep = index.sweep(now());
    // The one in front of the hole twice: its head and tail alone do not prove that there is one.
    assert_eq!((sweep.added, sweep.read, sweep.unread, sweep.gone), (4, 5, 0, 0));
    assert!(sweep.problems.is_empty(), "{:?}", sweep.problems);
    assert_eq!(sweep.changed, [(main_stream(), range(0, 24))]);
    let view = view(&index);
    assert_eq!(view.held, [range(0, 12), range(20, 24)].into_iter().collect());
    assert_eq!((view.horizon, view.tier), (Some(at(0)), Tier::Extent));
    assert_eq!(view.uncertainty(), Duration::from_secs(1));
    assert!(segments(&index).iter().all(|segment| segment.duration == CLIP));
}

#[test]
fn a_survey_knows_names_and_reading_goes_on_in_portions() {
    let card = Card::with(3, &clips().fragmented);
    let mut index = card.open();
    let sweep = index.survey(now());
    assert_eq!((sweep.added, sweep.read, sweep.unread), (3, 0, 3));
    assert_eq!(view(&index).held, range(0, 8).into());
    assert_eq!((view(&index).tier, view(&index).final_until), (Tier::Names, at(0)));
    let sweep = index.read_unread(now(), 2);
    assert_eq!((sweep.read, sweep.unread), (2, 1));
    let sweep = index.read_unread(now(), 2);
    assert_eq!((sweep.read, sweep.unread), (1, 0));
    assert_eq!((view(&index).held.clone(), view(&index).tier), (range(0, 12).into(), Tier::Extent));
}

#[test]
fn a_warm_start_opens_only_what_changed() {
    let card = Card::with(3, &clips().fragmented);
    let before = knowledge(&card.indexed());
    let mut index = card.open();
    assert_eq!(index.sweep(later(20)).read, 0);
    assert_eq!(knowledge(&index), before);
    card.put(12, &clips().fragmented);
    card.put(4, &clips().plain);
    let mut index = card.open();
    assert_eq!(index.sweep(later(30)).read, 2);
    assert_eq!(view(&index).held, range(0, 16).into());
}

#[test]
fn a_state_folder_that_was_deleted_is_rebuilt_to_an_equal_index() {
    let card = Card::with(3, &clips().fragmented);
    let before = knowledge(&card.indexed());
    let (_, log) = card.log();
    fs::remove_dir_all(card.state_dir()).unwrap();
    assert_eq!(knowledge(&card.indexed()), before);
    assert_eq!(card.log().1, log);
}

#[test]
fn a_log_cut_at_any_byte_and_swept_equals_a_fresh_scan() {
    let card = Card::with(2, &clips().fragmented);
    let fresh = knowledge(&card.indexed());
    let (path, whole) = card.log();
    for cut in 0..whole.len() {
        File::create(&path).unwrap().write_all(&whole[..cut]).unwrap();
        let mut index = card.indexed();
        assert_eq!(knowledge(&index), fresh, "cut at {cut}");
        assert_eq!(
            card.open().sweep(later(20)).read,
            0,
            "the log is whole again after a cut at {cut}"
        );
        assert!(matches!(index.sweep(later(20)), Sweep { read: 0, .. }));
    }
}

#[test]
fn a_vanished_segment_moves_the_horizon_and_is_remembered_as_gone() {
    let card = Card::with(4, &clips().fragmented);
    let mut index = card.indexed();
    fs::remove_file(card.path(0)).unwrap();
    fs::remove_file(card.path(4)).unwrap();
    let sweep = index.sweep(later(30));
    assert_eq!((sweep.gone, sweep.read), (2, 0));
    assert_eq!(sweep.changed, [(main_stream(), range(0, 8))]);
    let expected = |view: &StreamView| {
        assert_eq!(
            (view.held.clone(), view.gone.clone()),
            (range(8, 16).into(), range(0, 8).into())
        );
        assert_eq!(view.horizon, Some(at(8)));
    };
    expected(view(&index));
    let mut again = card.open();
    again.sweep(later(40));
    expected(view(&again));
}

#[test]
fn a_segment_that_vanished_while_nobody_looked_is_gone_as_well() {
    let card = Card::with(3, &clips().fragmented);
    drop(card.indexed());
    fs::remove_file(card.path(0)).unwrap();
    let mut index = card.open();
    assert_eq!(index.sweep(later(30)).gone, 1);
    assert_eq!(view(&index).gone, range(0, 4).into());
}

#[test]
fn a_days_log_is_written_anew_once_most_of_it_is_dead() {
    let card = Card::with(200, &[]);
    let mut index = card.indexed();
    let (path, before) = card.log();
    card.put(0, &clips().fragmented);
    index.sweep(later(30));
    (1..200).for_each(|number| fs::remove_file(card.path(4 * number)).unwrap());
    index.sweep(later(40));
    index.sweep(later(50));
    let after = fs::read(&path).unwrap();
    assert!(after.len() * 50 < before.len(), "{} of {} bytes", after.len(), before.len());
    fs::remove_file(card.path(0)).unwrap();
    index.sweep(later(60));
    let mut again = card.open();
    assert_eq!(again.sweep(later(70)).read, 0);
    assert_eq!(
        (view(&again).held.is_empty(), view(&again).gone.clone()),
        (true, range(0, 4).into())
    );
}

#[test]
fn what_cannot_be_used_is_named_once_and_hurts_nothing_else() {
    let card = Card::with(1, &clips().fragmented);
    let clip = &clips().fragmented;
    card.put(4, &[]);
    card.put(8, &clip[..clip.len() - 100]);
    card.put(12, &clips().plain[..2_000]);
    card.put(16, &[0xa5; 5_000]);
    fs::create_dir(card.path(20)).unwrap();
    symlink(card.path(0), card.path(24)).unwrap();
    card.put(28, clip);
    card.put(400_000, clip);
    for foreign in ["notes.txt", "2026-11-23/x.mp4", "closed_end"] {
        File::create(card.root().join(foreign)).unwrap();
    }
    File::create(card.root().join(".hidden")).unwrap();
    let mut index = card.open();
    let mut sweep = index.sweep(now());
    assert!(!problems(&sweep).iter().any(|(path, _)| path.contains("10-00-28")));
    let file = |start_s| name(start_s).display().to_string();
    let expected = [
        (file(4), "empty"),
        (file(8), "torn"),
        (file(12), "malformed"),
        (file(16), "malformed"),
        (file(20), "not a file"),
        (file(24), "not a file"),
        ("2026-11-23/x.mp4".to_owned(), "foreign"),
        (file(400_000), "future"),
        ("notes.txt".to_owned(), "foreign"),
    ];
    assert_eq!(problems(&sweep), expected);
    sweep = index.sweep(later(20));
    assert!(sweep.problems.is_empty(), "{:?}", sweep.problems);
    let held = &view(&index).held;
    assert!(held.covers(range(0, 4)) && held.covers(range(8, 11)) && held.covers(range(28, 32)));
    assert!(!held.contains(at(5)) && !held.contains(at(13)) && !held.contains(at(400_001)));
    assert_eq!(segments(&index).len(), 7);
}

#[test]
fn each_file_is_told_of_again_where_something_else_is_wrong_with_it() {
    let card = Card::with(2, &clips().fragmented);
    card.put(0, &[]);
    let mut index = card.open();
    assert_eq!(problems(&index.sweep(now())), [(name(0).display().to_string(), "empty")]);
    card.put(0, &[1; 100]);
    assert_eq!(problems(&index.sweep(later(5))), [(name(0).display().to_string(), "malformed")]);
}

#[test]
fn where_the_log_cannot_be_written_the_index_lives_in_memory_until_it_can() {
    let card = Card::with(2, &clips().fragmented);
    File::create(card.state_dir()).unwrap();
    let mut index = card.open();
    let sweep = index.sweep(now());
    assert!(matches!(index.durability(), Durability::MemoryOnly(_)));
    assert_eq!(view(&index).held, range(0, 8).into());
    assert!(sweep.durability_changed);
    assert!(!index.sweep(later(20)).durability_changed, "said once");
    assert_eq!(index.bytes_written(), 0);
    fs::remove_file(card.state_dir()).unwrap();
    assert!(index.sweep(later(40)).durability_changed);
    assert!(matches!(index.durability(), Durability::Persistent));
    assert_eq!(card.open().sweep(later(40)).read, 0);
}

#[test]
fn without_a_folder_for_it_no_log_is_kept() {
    let card = Card::with(1, &clips().fragmented);
    let mut index = Index::open(IndexConfig { state_dir: None, ..card.config() }).unwrap();
    index.sweep(now());
    assert!(matches!(index.durability(), Durability::MemoryOnly(_)));
    assert_eq!((index.bytes_written(), card.state_dir().exists()), (0, false));
}

#[test]
fn a_card_that_is_not_mounted_is_neither_read_nor_written() {
    let root = PathBuf::from("/gapless-no-such-card/main");
    let source = StreamSource { stream: main_stream(), root, layout: layout() };
    let state_dir = PathBuf::from("/gapless-no-such-card/state");
    let mut config = IndexConfig::new(vec![source], Some(state_dir.clone()));
    config.require_mount = true;
    let mut index = Index::open(config).unwrap();
    let sweep = index.sweep(now());
    assert!(sweep.problems.is_empty());
    assert!(!index.card_is_there() && !view(&index).present && !state_dir.exists());
    assert_eq!(view(&index).final_until, Timestamp::MIN);
}

#[test]
fn a_root_that_is_lost_takes_nothing_with_it() {
    let card = Card::with(2, &clips().fragmented);
    let mut index = card.indexed();
    let before = knowledge(&index);
    let aside = card.folder.path().join("aside");
    #[expect(clippy::disallowed_methods, reason = "a test moves a folder")]
    fs::rename(card.root(), &aside).unwrap();
    assert_eq!(index.refresh(&[Hint::Entry(card.path(0))], later(20)).gone, 0);
    let sweep = index.sweep(later(20));
    assert_eq!((sweep.gone, problems(&sweep)), (0, vec![(String::new(), "unlisted")]));
    assert!(!view(&index).present && view(&index).held.is_empty() && view(&index).gone.is_empty());
    #[expect(clippy::disallowed_methods, reason = "a test moves a folder")]
    fs::rename(&aside, card.root()).unwrap();
    assert_eq!(index.sweep(later(20)).read, 0);
    assert_eq!(knowledge(&index), before);
}

#[test]
fn a_stream_that_has_not_begun_is_present_and_empty() {
    let card = Card { folder: tempfile::tempdir().unwrap() };
    let mut index = card.open();
    let sweep = index.sweep(now());
    assert!(sweep.problems.is_empty() && sweep.changed.is_empty());
    assert!(view(&index).present && view(&index).held.is_empty());
    assert!(!card.state_dir().exists());
}

#[test]
fn a_growing_segment_is_followed_fragment_by_fragment() {
    let clip = &clips().fragmented;
    let card = Card::with(2, clip);
    let (half, rest) = clip.split_at(clip.len() / 2);
    card.put(8, half);
    let mut index = card.open();
    index.sweep(now());
    let so_far = view(&index).held.hull().unwrap().end();
    assert!(so_far > at(8) && so_far < at(12));
    assert_eq!(view(&index).final_until, so_far);
    let open = segments(&index)[2].clone();
    assert!(!open.sealed);
    card.append(8, rest);
    let sweep = index.refresh(&[], later(2));
    assert_eq!(sweep.changed, [(main_stream(), TimeRange::new(so_far, at(12)).unwrap())]);
    assert_eq!(view(&index).held, range(0, 12).into());
    let mut bytes = vec![0; clip.len()];
    let reader = index.open_segment(open.id, open.version()).unwrap();
    let length = reader.read_at(0, &mut bytes).unwrap();
    assert_eq!(
        &bytes[..length],
        &clip[..open.usable_bytes as usize],
        "the older version stays valid"
    );
    assert_eq!(index.refresh(&[], later(3)).read, 0);
    let sweep = index.refresh(&[], later(12));
    assert_eq!((sweep.read, segments(&index)[2].sealed), (1, true));
}

#[test]
fn an_open_plain_file_holds_nothing_yet_and_nothing_is_final_behind_its_start() {
    let card = Card::with(1, &clips().fragmented);
    card.put(4, &clips().plain[..clips().plain.len() / 2]);
    let mut index = card.open();
    let sweep = index.sweep(now());
    assert!(sweep.problems.is_empty(), "an open file is not malformed: {:?}", sweep.problems);
    assert_eq!((view(&index).held.clone(), view(&index).final_until), (range(0, 4).into(), at(4)));
    card.put(4, &clips().plain);
    index.refresh(&[Hint::Sealed(card.path(4))], later(1));
    assert_eq!(view(&index).held, range(0, 8).into());
    assert!(segments(&index)[1].sealed);
}

#[test]
fn a_file_replaced_under_its_name_is_refused_and_then_read_again() {
    let card = Card::with(2, &clips().fragmented);
    let mut index = card.indexed();
    let (id, version) = (segments(&index)[0].id, segments(&index)[0].version());
    assert!(index.open_segment(id, version).is_ok());
    card.put(0, &clips().other);
    assert!(matches!(index.open_segment(id, version), Err(ReadError::Changed)));
    assert_eq!(index.refresh(&[], later(30)).read, 1);
    let replaced = segments(&index)[0].version();
    assert_ne!(replaced, version);
    assert!(index.open_segment(id, replaced).is_ok());
    card.put(0, &clips().other[..5_000]);
    assert!(matches!(index.open_segment(id, replaced), Err(ReadError::Changed)));
    fs::remove_file(card.path(0)).unwrap();
    assert!(matches!(index.open_segment(id, replaced), Err(ReadError::Gone)));
}

#[test]
fn hints_are_looked_at_and_no_more() {
    let card = Card::with(3, &clips().fragmented);
    let mut index = card.indexed();
    card.put(12, &clips().fragmented);
    fs::remove_file(card.path(0)).unwrap();
    fs::remove_file(card.path(4)).unwrap();
    let hints = [Hint::Entry(card.path(0)), Hint::Sealed(card.path(12))];
    let sweep = index.refresh(&hints, later(30));
    assert_eq!((sweep.gone, sweep.added, sweep.read), (1, 1, 1));
    let sweep = index.refresh(&[Hint::Directory(card.root().join("2026-11-23"))], later(30));
    assert_eq!((sweep.gone, sweep.added, sweep.read), (1, 0, 0));
    let everything = [Hint::SweepAll, Hint::Entry("/elsewhere".into())];
    assert_eq!(index.refresh(&everything, later(30)).read, 0);
    assert_eq!(view(&index).held, range(8, 16).into());
}

#[test]
fn streams_with_one_root_do_not_take_each_others_files_for_foreign() {
    let card = Card::with(1, &clips().fragmented);
    let template = "sub/%Y-%m-%d/%H-%M-%S.mp4";
    let mut config = card.config();
    config.sources.push(StreamSource {
        stream: "sub".parse().unwrap(),
        root: card.root(),
        layout: Layout::new(template, "UTC").unwrap(),
    });
    let path = card.root().join("sub").join(name(0));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::copy(card.path(0), path).unwrap();
    let mut index = Index::open(config.clone()).unwrap();
    let sweep = index.sweep(now());
    assert_eq!((sweep.read, sweep.problems.len()), (2, 0));
    assert_eq!(index.stream(&"sub".parse().unwrap()).unwrap().held, view(&index).held);
    config.sources.extend(card.config().sources);
    assert!(matches!(Index::open(config), Err(IndexError::DuplicateStream(_))));
}

#[test]
fn a_changed_template_makes_old_records_worthless() {
    let card = Card::with(2, &clips().fragmented);
    drop(card.indexed());
    let mut config = card.config();
    config.sources[0].layout = Layout::new(layout().template(), "Europe/Berlin").unwrap();
    let mut index = Index::open(config).unwrap();
    assert_eq!(index.sweep(now()).read, 2);
    assert_eq!(view(&index).held, range(-3_600, -3_592).into());
}

#[test]
fn a_segment_that_is_placed_anew_covers_another_time_under_the_same_name() {
    let card = Card::with(2, &clips().fragmented);
    let mut index = card.indexed();
    let reads = |index: &mut Index, boottime_s: i64, realtime, synchronised| {
        let boottime = Boottime::from_nanos(boottime_s * 1_000_000_000);
        let boot = BootId([1; 16]);
        index.observe_clock(ClockReading { boot, boottime, realtime, synchronised })
    };
    let sweep = reads(&mut index, 3_700, later(0), None).unwrap();
    assert_eq!(sweep.changed, [(main_stream(), range(0, 8))]);
    assert!(view(&index).held.is_empty() && view(&index).gone.is_empty());
    // The clock was 100 s behind.
    let exact = Some(Duration::from_millis(40));
    let sweep = reads(&mut index, 3_701, later(101), exact).unwrap();
    assert_eq!(sweep.changed, [(main_stream(), range(100, 108))]);
    let expected = |index: &Index| {
        assert_eq!(view(index).held, range(100, 108).into());
        assert!(view(index).gone.is_empty());
        assert!(view(index).uncertainty() < Duration::from_secs(4));
        assert_eq!(segments(index)[1].named, at(4));
    };
    expected(&index);
    assert!(reads(&mut index, 3_702, later(102), exact).is_none());
    let mut again = card.open();
    assert_eq!(again.sweep(later(140)).read, 0);
    expected(&again);
    let located = again.locate(&main_stream(), range(101, 105), &CutLimits::default()).unwrap();
    assert_eq!(
        located.parts.iter().map(|part| part.range).collect::<Vec<_>>(),
        [range(101, 104), range(104, 105)]
    );
    fs::remove_file(card.path(0)).unwrap();
    again.sweep(later(150));
    assert_eq!(view(&again).gone, range(100, 104).into());
    let mut after = card.open();
    after.sweep(later(160));
    assert_eq!(view(&after).gone, range(100, 104).into());
}

#[test]
fn a_range_is_located_across_segments_and_its_bytes_can_be_read() {
    let card = Card::with(3, &clips().fragmented);
    let mut index = card.indexed();
    let limits = CutLimits::default();
    let wanted = TimeRange::new(at(3), at(9)).unwrap();
    let located = index.locate(&main_stream(), wanted, &limits).unwrap();
    assert!(located.unusable.is_empty() && located.next.is_none(), "{:?}", located.unusable);
    let ranges: Vec<_> = located.parts.iter().map(|part| part.range).collect();
    assert_eq!(ranges, [range(3, 4), range(4, 8), range(8, 9)]);
    for part in &located.parts {
        let reader = index.open_segment(part.segment, part.version).unwrap();
        let mut bytes = vec![0; (part.bytes.end - part.bytes.start) as usize];
        assert_eq!(reader.read_at(part.bytes.start, &mut bytes).unwrap(), bytes.len());
        assert_eq!(bytes, clips().fragmented[part.bytes.start as usize..part.bytes.end as usize]);
    }
    let nobody = "nobody".parse().unwrap();
    let unknown = index.locate(&nobody, wanted, &limits);
    assert!(matches!(unknown, Err(LocateError::UnknownStream(_))));
}

#[test]
fn a_full_answer_says_where_to_ask_on_until_all_is_located() {
    let card = Card::with(3, &clips().fragmented);
    let mut index = card.indexed();
    let limits = CutLimits { max_parts: 1, ..CutLimits::default() };
    let (mut wanted, mut covered) = (range(3, 9), Coverage::new());
    for _ in 0..3 {
        let located = index.locate(&main_stream(), wanted, &limits).unwrap();
        assert_eq!(located.parts.len(), 1);
        covered.insert(located.parts[0].range);
        wanted = TimeRange::new(located.next.unwrap_or(wanted.end()), wanted.end()).unwrap();
    }
    assert!(wanted.is_empty());
    assert_eq!(covered, range(3, 9).into());
}

#[test]
fn locating_leaves_out_what_has_gone_or_changed_and_says_so() {
    let card = Card::with(3, &clips().fragmented);
    let mut index = card.indexed();
    fs::remove_file(card.path(0)).unwrap();
    card.put(4, &clips().other);
    let located = index.locate(&main_stream(), range(0, 12), &CutLimits::default()).unwrap();
    assert_eq!(located.parts.len(), 1);
    let reasons: Vec<_> = located.unusable.iter().map(|(_, reason)| reason).collect();
    assert!(matches!(reasons[..], [ReadError::Gone, ReadError::Changed]), "{reasons:?}");
}

#[test]
fn what_is_known_by_name_only_can_be_located() {
    let card = Card::with(3, &clips().fragmented);
    let mut index = card.open();
    index.survey(now());
    assert!(segments(&index).iter().all(|segment| segment.content == Content::Unread));
    let located = index.locate(&main_stream(), range(2, 6), &CutLimits::default()).unwrap();
    let ranges: Vec<_> = located.parts.iter().map(|part| part.range).collect();
    assert_eq!(ranges, [range(2, 4), range(4, 6)]);
    let part = &located.parts[0];
    assert!(index.open_segment(part.segment, part.version).is_ok());
}
