//! `index fsck`: what an index says that the files do not, and an index written anew.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use sdcard_indexer::layout::{Layout, Preset};
use serde_json::Value;

use crate::card::{Card, at, layout};
use crate::{Answer, index};

fn raptor() -> Layout {
    layout(Preset::Raptor, None, "UTC")
}

/// A card with two streams and an index of both.
fn indexed_card() -> Card {
    let card = Card::new();
    card.record_with_a_hole("main", &raptor());
    card.record_with_a_hole("sub", &layout(Preset::MediaMtx, None, "UTC"));
    assert_eq!(index(&["scan", "--write-index"], card.path()).code, 0);
    card
}

fn log_of(card: &Card, day: &str) -> PathBuf {
    card.path().join(".gapless").join(day).with_extension("log")
}

fn end(answer: &Answer) -> (i32, u64, u64, u64, bool) {
    let [end] = &answer.of_kind("end")[..] else { panic!("{}{}", answer.out, answer.err) };
    let number = |key: &str| end[key].as_u64().unwrap();
    let repaired = end["repaired"].as_bool().unwrap();
    (answer.code, number("records"), number("findings"), number("unlogged"), repaired)
}

fn findings(answer: &Answer, kind: &str) -> Vec<(Value, String)> {
    let found = answer.of_kind(kind);
    found
        .iter()
        .map(|found| (found["path"].clone(), found["problem"].as_str().unwrap().to_owned()))
        .collect()
}

#[test]
fn an_index_that_is_true_has_no_findings_and_is_not_written_to() {
    let card = indexed_card();
    let before = card.content();
    for arguments in [&["fsck", "--json"][..], &["fsck", "--repair", "--json"]] {
        assert_eq!(end(&index(arguments, card.path())), (0, 16, 0, 0, false));
    }
    let answer = index(&["fsck"], card.path());
    assert_eq!((answer.code, answer.out.as_str()), (0, "16 records, 0 findings\n"));
    assert_eq!(card.content(), before);
}

#[test]
fn a_card_without_an_index_is_no_problem() {
    let card = Card::new();
    card.record_with_a_hole("main", &raptor());
    let answer = index(&["fsck"], card.path());
    assert_eq!(answer.code, 0);
    assert!(answer.out.contains("no index in"), "{}", answer.out);
    assert_eq!(end(&index(&["fsck", "--json"], card.path())), (0, 0, 0, 8, false));
}

#[test]
fn recordings_that_are_gone_or_others_are_stale_and_new_ones_are_none_of_it() {
    let card = indexed_card();
    let path = |second: u32| Path::new("main").join(raptor().path_for(at(second), 0));
    let (gone, longer, other) = (path(0), path(2), path(4));
    fs::remove_file(card.path().join(&gone)).unwrap();
    let append = File::options().append(true).open(card.path().join(&longer));
    append.unwrap().write_all(b"more").unwrap();
    let mut bytes = fs::read(card.path().join(&other)).unwrap();
    bytes[100] ^= 1;
    card.write(&other, &bytes);
    card.record("main", &raptor(), 20);

    let answer = index(&["fsck", "--json"], card.path());
    assert_eq!(end(&answer), (1, 16, 3, 1, false));
    let stale = findings(&answer, "stale");
    for (path, words) in [(gone, "gone"), (longer, "bytes, the index says"), (other, "begins with")]
    {
        let found = stale.iter().find(|(shown, _)| *shown == path.to_str().unwrap());
        assert!(found.is_some_and(|(_, problem)| problem.contains(words)), "{words}: {stale:?}");
    }
    let text = index(&["fsck"], card.path());
    assert_eq!(text.code, 1);
    for words in ["stale    main/", "3 findings", "1 recording not in the index", "--repair"] {
        assert!(text.out.contains(words), "{words} is not in\n{}", text.out);
    }
}

#[test]
fn a_torn_log_is_damaged_and_written_anew_without_touching_a_recording() {
    let card = indexed_card();
    let before = card.content();
    let log = log_of(&card, "2024-05-14");
    let bytes = fs::read(&log).unwrap();
    card.write(&log, &bytes[..bytes.len() - 3]);

    let answer = index(&["fsck", "--json"], card.path());
    assert_eq!(answer.code, 1);
    let damaged = findings(&answer, "damaged");
    assert_eq!(damaged.len(), 1, "{}", answer.out);
    assert_eq!(damaged[0].0, ".gapless/2024-05-14.log");
    assert!(damaged[0].1.contains("are no records"), "{damaged:?}");

    let repaired = index(&["fsck", "--repair", "--json"], card.path());
    assert_eq!(end(&repaired), (0, 16, 0, 0, true), "{}", repaired.out);
    assert_eq!(end(&index(&["fsck", "--json"], card.path())), (0, 16, 0, 0, false));
    let state = card.path().join(".gapless");
    let recordings = |content: std::collections::BTreeMap<PathBuf, _>| {
        content.into_iter().filter(|(path, _)| !path.starts_with(&state)).collect::<Vec<_>>()
    };
    assert_eq!(recordings(card.content()), recordings(before));
}

#[test]
fn a_stream_that_the_card_lost_is_foreign_until_the_index_is_written_anew() {
    let card = indexed_card();
    fs::remove_dir_all(card.path().join("sub")).unwrap();
    let answer = index(&["fsck", "--json"], card.path());
    assert_eq!(end(&answer), (1, 16, 1, 0, false));
    let [foreign] = &answer.of_kind("foreign")[..] else { panic!("{}", answer.out) };
    assert_eq!((&foreign["stream"], foreign["path"].is_null()), (&"sub".into(), true));
    let answer = index(&["fsck", "--repair"], card.path());
    assert_eq!(answer.code, 0, "{}", answer.out);
    assert!(answer.out.contains("written anew") && answer.out.ends_with("8 records, 0 findings\n"));
}

#[test]
fn streams_are_called_as_the_index_on_the_card_calls_them() {
    let card = Card::new();
    card.record_with_a_hole("DCIM/Movie", &layout(Preset::Viofo, Some("F"), "UTC"));
    let toml = "device = \"cam\"\n[broker]\nurl = \"mqtt://127.0.0.1\"\n[card]\nroot = \"/mnt/card\"\n\
                [[stream]]\nid = \"windscreen\"\npath = \"DCIM/Movie\"\nlayout = \"viofo\"\n\
                time_zone = \"UTC\"\ncamera = \"F\"\n";
    let elsewhere = Card::new();
    elsewhere.write(Path::new("agent.toml"), toml.as_bytes());
    let config = elsewhere.path().join("agent.toml");
    let arguments = ["scan", "--write-index", "--config", config.to_str().unwrap()];
    assert_eq!(index(&arguments, card.path()).code, 0);
    let scanned = index(&["scan", "--json"], card.path());
    assert_eq!(scanned.of_kind("stream")[0]["stream"], "windscreen");
    assert_eq!(end(&index(&["fsck", "--json"], card.path())), (0, 8, 0, 0, false));
}
