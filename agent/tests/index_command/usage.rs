//! Help that teaches, and complaints that say what to do.

use std::path::Path;

use crate::card::{Card, layout};
use crate::{assert_fits, gapless_agent, index};
use sdcard_indexer::layout::Preset;

const COMMANDS: [&str; 4] = ["scan", "show", "verify", "fsck"];

#[test]
fn help_is_there_for_all_of_it_and_for_each_command() {
    let run = |arguments: &[&str]| gapless_agent().args(arguments).output().unwrap();
    let text = |arguments: &[&str]| {
        let output = run(arguments);
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{arguments:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert_fits(&text);
        assert!(text.contains("exit code: 0"), "{text}");
        text
    };
    let all = text(&["index", "--help"]);
    assert_eq!(text(&["index", "-h"]), all);
    for command in COMMANDS {
        assert!(all.contains(command), "{all}");
        let one = text(&["index", command, "--help"]);
        assert!(one.contains(&format!("usage: gapless-agent index {command}")), "{one}");
        assert_eq!(text(&["index", command, "/x", "--json", "-h"]), one);
    }
    for preset in Preset::ALL {
        assert!(all.contains(preset.name()), "{preset} is not in\n{all}");
    }
    assert!(text(&["--help"]).contains("gapless-agent index --help"));
}

#[test]
fn wrong_usage_exits_with_2_answers_nothing_and_points_to_the_help() {
    for arguments in [
        &["index"][..],
        &["index", "sing"],
        &["index", "--json", "scan", "/"],
        &["index", "scan"],
        &["index", "scan", "/", "/"],
        &["index", "scan", "/", "--from", "2026-11-23T10:00:00Z"],
        &["index", "show", "/", "--write-index"],
        &["index", "scan", "/", "--repair"],
        &["index", "verify", "/", "--repair"],
        &["index", "fsck", "/", "--repair", "--stream", "main"],
        &["index", "show", "/", "--from", "yesterday"],
        &["index", "show", "/", "--from", "2026-11-23T10:00:01Z", "--to", "2026-11-23T10:00:00Z"],
        &["index", "scan", "/", "--layout", "hikvision"],
        &["index", "scan", "/", "--camera", "F"],
        &["index", "scan", "/", "--stream", "no stream"],
        &["index", "scan", "/", "--config", "x.toml", "--layout", "onvif"],
        &["run", "index", "scan", "/"],
    ] {
        let output = gapless_agent().args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(2), 0),
            "{arguments:?}: {said}"
        );
        assert!(said.contains("see gapless-agent"), "{arguments:?}: {said}");
    }
}

#[test]
fn what_cannot_be_answered_exits_with_2_and_says_why() {
    let card = Card::new();
    card.write(Path::new("holiday.mp4"), b"x");
    let absent = card.path().join("absent");
    let config = card.path().join("absent.toml");
    for (arguments, directory, words) in [
        (&["scan"][..], absent.as_path(), &["absent", "No such file"][..]),
        (&["scan"], card.path(), &["--layout", "--template"]),
        (&["show", "--layout", "viofo"], card.path(), &["camera"]),
        (&["show", "--layout", "raptor", "--camera", "F"], card.path(), &["names no camera"]),
        (&["show", "--template", "%Q"], card.path(), &["%Q", "%Y"]),
        (&["show", "--layout", "raptor", "--time-zone", "Mars"], card.path(), &["Mars", "IANA"]),
        (&["show", "--config", config.to_str().unwrap()], card.path(), &["absent.toml"]),
    ] {
        let answer = index(arguments, directory);
        assert_eq!((answer.code, answer.out.as_str()), (2, ""), "{arguments:?}: {}", answer.err);
        for word in words {
            assert!(answer.err.contains(word), "{word} is not in {}", answer.err);
        }
    }
}

#[test]
fn a_stream_that_is_not_there_is_told_with_those_that_are() {
    let card = Card::new();
    card.record_with_a_hole("clips", &layout(Preset::Raptor, None, "UTC"));
    let answer = index(&["show", "--stream", "main"], card.path());
    assert_eq!(answer.code, 2);
    assert!(answer.err.contains("`main`") && answer.err.contains("clips"), "{}", answer.err);
}
