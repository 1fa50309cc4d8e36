//! `index verify`: recordings that an agent took digests of, some of which changed since.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sdcard_indexer::index::{Index, IndexConfig, StreamSource};
use sdcard_indexer::layout::Preset;
use sdcard_indexer::watch::Hint;
use serde_json::json;

use crate::card::{Card, at, layout};
use crate::index;

/// A card on which three recordings were closed while an agent looked on, and one before it came.
fn sealed_card() -> (Card, Vec<PathBuf>) {
    let card = Card::new();
    let layout = layout(Preset::Raptor, None, "UTC");
    card.record("main", &layout, 0);
    let source = StreamSource {
        stream: "main".parse().unwrap(),
        root: card.path().join("main"),
        layout: layout.clone(),
    };
    let mut config = IndexConfig::new(vec![source], Some(card.path().join(".gapless")));
    config.seal_digest = true;
    let now = at(0).saturating_add(Duration::from_secs(3_600));
    let mut agent = Index::open(config).unwrap();
    agent.sweep(now);
    agent.refresh(&[], now.saturating_add(Duration::from_secs(60)));
    agent.digest(u64::MAX);
    let record = |second| {
        let path = card.record("main", &layout, second);
        let closed = Hint::Sealed(card.path().join(&path));
        agent.refresh(&[closed], now.saturating_add(Duration::from_secs(60 + u64::from(second))));
        path
    };
    let paths = [2, 4, 6].map(record).to_vec();
    agent.digest(u64::MAX);
    card.record("main", &layout, 8);
    (card, paths)
}

/// Changes one bit as a failing card does: nobody has written, so the directory knows nothing of it.
fn flip(path: &Path) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1_000).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], 1_000).unwrap();
    file.set_modified(modified).unwrap();
}

#[test]
fn recordings_that_are_as_they_were_are_counted_and_nothing_is_written() {
    let (card, _) = sealed_card();
    let before = card.content();
    let answer = index(&["verify", "--json"], card.path());
    assert_eq!(answer.code, 0, "{}{}", answer.out, answer.err);
    let [stream] = &answer.of_kind("stream")[..] else { panic!("{}", answer.out) };
    assert_eq!((&stream["changed"], &stream["unreadable"]), (&json!(0), &json!(0)));
    let known = stream["intact"].as_u64().unwrap() + stream["without_digest"].as_u64().unwrap();
    assert!(stream["intact"].as_u64().unwrap() >= 3 && known == 5, "{stream}");
    let answer = index(&["verify"], card.path());
    assert!(answer.out.contains("nothing is known") && answer.out.contains("\n0 problems\n"));
    assert_eq!(card.content(), before);
}

#[test]
fn a_flipped_bit_is_found_and_told_with_its_place() {
    let (card, paths) = sealed_card();
    flip(&card.path().join(&paths[0]));
    fs::remove_file(card.path().join(&paths[1])).unwrap();
    let answer = index(&["verify", "--json"], card.path());
    assert_eq!(answer.code, 1, "{}", answer.out);
    let [changed] = &answer.of_kind("changed")[..] else { panic!("{}", answer.out) };
    assert_eq!(changed["path"], json!(paths[0]));
    assert_eq!((&changed["ranges"][0][0], &changed["written_since"]), (&json!(0), &json!(false)));
    assert_eq!(answer.of_kind("stream")[0]["gone"], 1);
    assert_eq!(answer.of_kind("end"), [json!({ "kind": "end", "problems": 1 })]);

    let answer = index(&["verify"], card.path());
    assert_eq!(answer.code, 1);
    let path = paths[0].to_str().unwrap();
    for words in [path, "nobody has written to it", "gone       1", "1 problem"] {
        assert!(answer.out.contains(words), "{words} is not in\n{}", answer.out);
    }
}

#[test]
fn where_there_is_nothing_to_compare_with_nothing_is_called_good() {
    let card = Card::new();
    card.record_with_a_hole("main", &layout(Preset::Raptor, None, "UTC"));
    let answer = index(&["verify"], card.path());
    assert_eq!((answer.code, answer.out.as_str()), (2, ""));
    assert!(answer.err.contains("nothing to compare with"), "{}", answer.err);
}
