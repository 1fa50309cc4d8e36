//! `index scan`: streams that were found, what they come to, and what is wrong.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use sdcard_indexer::layout::Preset;
use serde_json::{Value, json};

use crate::card::{Card, at, layout};
use crate::{Answer, gapless_agent, index};

/// Two cameras in one folder, five hours behind UTC, and what else is on such a card.
fn dash_cam() -> Card {
    let card = Card::new();
    for camera in ["F", "R"] {
        card.record_with_a_hole("DCIM/Movie", &layout(Preset::Viofo, Some(camera), "-05:00"));
    }
    card.write(Path::new("DCIM/Movie/format.txt"), b"x");
    card.write(Path::new("System Volume Information/WPSettings.dat"), b"x");
    card
}

#[test]
fn a_clean_card_is_summed_up_stream_by_stream() {
    let card = dash_cam();
    let answer = index(&["scan"], card.path());
    assert_eq!((answer.code, answer.err.as_str()), (0, ""), "{}", answer.out);
    for words in [
        "2 streams",
        "Movie-F in DCIM/Movie",
        "viofo, camera R, names in -05:00",
        "94 % sure: 16 of 16 recordings are named so",
        "files      8, ",
        "16s, from 2024-05-13 23:59:50 to 2024-05-14 00:00:10 (UTC)",
        "1 hole, 4s in all",
        "1 file named otherwise",
        "0 problems",
    ] {
        assert!(answer.out.contains(words), "{words} is not in\n{}", answer.out);
    }

    let answer = index(&["scan", "--json"], card.path());
    let streams = answer.of_kind("stream");
    let names: Vec<_> = streams.iter().map(|stream| stream["stream"].as_str().unwrap()).collect();
    assert_eq!((answer.code, names), (0, vec!["Movie-F", "Movie-R"]));
    assert_eq!(streams[0]["root"], "DCIM/Movie");
    let written = json!({ "layout": "viofo", "camera": "F", "time_zone": "-05:00" });
    assert_eq!(streams[0]["layout"], written);
    assert_eq!((&streams[0]["from"], &streams[0]["to"]), (&instant(0), &instant(20)));
    for (key, number) in [("files", 8.0), ("held_s", 16.0), ("hole_s", 4.0), ("uncertainty_s", 1.0)]
    {
        assert_eq!(streams[0][key].as_f64(), Some(number), "{key}: {}", streams[0]);
    }
    assert_eq!(answer.of_kind("other")[0]["path"], "DCIM/Movie/format.txt");
    let end = json!({ "kind": "end", "streams": 2, "problems": 0, "others": 1 });
    assert_eq!(answer.of_kind("end"), [end]);
}

fn instant(second: u32) -> Value {
    json!(at(second).to_string())
}

#[test]
fn what_is_wrong_is_told_file_by_file_and_exits_with_1() {
    let card = dash_cam();
    let front = layout(Preset::Viofo, Some("F"), "-05:00");
    let torn = card.record("DCIM/Movie", &front, 20);
    card.tear(&torn);
    let malformed = Path::new("DCIM/Movie").join(front.path_for(at(22), 22));
    card.write(&malformed, &[7; 5_000]);
    let last = card.record("DCIM/Movie", &front, 24);
    card.tear(&last);

    let answer = index(&["scan", "--json"], card.path());
    let problems: BTreeSet<(PathBuf, bool)> = answer
        .of_kind("problem")
        .iter()
        .map(|problem| {
            assert_eq!(problem["stream"], "Movie-F");
            let text = problem["problem"].as_str().unwrap();
            (problem["path"].as_str().unwrap().into(), text.contains("torn"))
        })
        .collect();
    let expected = [(torn.clone(), true), (malformed.clone(), false), (last, true)];
    let expected = BTreeSet::from(expected);
    assert_eq!((answer.code, problems), (1, expected), "{}", answer.out);

    let answer = index(&["scan"], card.path());
    assert_eq!(answer.code, 1);
    for words in [torn.to_str().unwrap(), malformed.to_str().unwrap(), "3 problems"] {
        assert!(answer.out.contains(words), "{words} is not in\n{}", answer.out);
    }
}

#[test]
fn what_is_still_being_written_is_not_complained_of() {
    let card = dash_cam();
    let last = card.record("DCIM/Movie", &layout(Preset::Viofo, Some("F"), "-05:00"), 20);
    let bytes = std::fs::read(card.path().join(&last)).unwrap();
    card.write(&last, &bytes[..bytes.len() - 100]);
    let answer = index(&["scan"], card.path());
    assert_eq!(answer.code, 0, "{}", answer.out);
    let answer = index(&["show", "--segments"], card.path());
    assert!(answer.out.contains("may still be written to"), "{}", answer.out);
}

#[test]
fn reading_a_card_leaves_it_as_it_was() {
    let card = dash_cam();
    let before = card.content();
    for arguments in [&["scan"][..], &["scan", "--json"], &["show"], &["show", "--segments"]] {
        assert_eq!(index(arguments, card.path()).code, 0);
    }
    assert_eq!(card.content(), before);
}

#[test]
fn an_index_that_was_asked_for_is_written_beside_the_recordings_and_nothing_else_is() {
    let card = dash_cam();
    let before = card.content();
    let answer = index(&["scan", "--write-index"], card.path());
    assert_eq!(answer.code, 0, "{}", answer.err);
    let after = card.content();
    let state = card.path().join(".gapless");
    assert!(after.keys().any(|path| path.starts_with(&state) && *path != state));
    for (path, is) in after.iter().filter(|(path, _)| !path.starts_with(&state)) {
        assert_eq!(before.get(path), Some(is), "{}", path.display());
    }
    assert_eq!(
        index(&["scan"], card.path()).out,
        answer.out,
        "its own folder is no part of a card"
    );
}

#[test]
fn streams_are_taken_as_they_are_said() {
    let card = Card::new();
    card.record_with_a_hole("x", &layout(Preset::Ffmpeg, None, "+01:00"));
    let x = card.path().join("x");
    let stream = |answer: Answer| {
        assert_eq!(answer.code, 0, "{}{}", answer.out, answer.err);
        let [stream] = &answer.of_kind("stream")[..] else { panic!("{}", answer.out) };
        (stream["stream"].clone(), stream["from"].clone(), stream["confidence"].is_null())
    };
    let scan = |arguments: &[&str], directory| {
        stream(index(&[&["scan", "--json"], arguments].concat(), directory))
    };
    let template = "%Y-%m-%d_%H-%M-%S.mp4";
    assert_eq!(scan(&[], card.path()), (json!("x"), instant(0), false));
    assert_eq!(
        scan(&["--layout", "ffmpeg", "--time-zone", "CET-1"], &x),
        (json!("main"), instant(0), true)
    );
    assert_eq!(
        scan(&["--template", template, "--time-zone", "+01:00", "--stream", "yard"], &x),
        (json!("yard"), instant(0), true)
    );
    let (_, an_hour_later, _) = scan(&["--time-zone", "UTC"], card.path());
    assert_eq!(an_hour_later, json!(at(3_600).to_string()));

    let config = Card::new();
    let toml = "device = \"cam\"\n[broker]\nurl = \"mqtt://127.0.0.1\"\n[card]\nroot = \"/mnt/card\"\n\
                [[stream]]\nid = \"door\"\npath = \"x\"\nlayout = \"ffmpeg\"\ntime_zone = \"+01:00\"\n";
    config.write(Path::new("agent.toml"), toml.as_bytes());
    let config = config.path().join("agent.toml");
    assert_eq!(
        scan(&["--config", config.to_str().unwrap()], card.path()),
        (json!("door"), instant(0), true)
    );
}

#[test]
fn a_terminal_sees_how_far_it_is_and_nothing_of_it_afterwards() {
    let card = dash_cam();
    let binary = gapless_agent();
    let command = format!(
        "stty cols 80; {} index scan {}",
        binary.get_program().to_str().unwrap(),
        card.path().display()
    );
    let seen = Command::new("script").args(["-qec", &command, "/dev/null"]).output();
    let seen = seen.expect("script is needed for a terminal: apt-get install bsdutils");
    let seen = String::from_utf8(seen.stdout).unwrap();
    assert!(seen.contains("100 %  16 of 16 files"), "{seen}");
    for drawn in seen.split('\r').filter(|drawn| drawn.ends_with("\x1b[K")) {
        assert!(drawn.trim_end_matches("\x1b[K").chars().count() < 80, "{drawn}");
    }
    let answer = index(&["scan"], card.path());
    let after = seen.rsplit("\x1b[K").next().unwrap().replace("\r\n", "\n");
    assert_eq!(after, answer.out);
}
