//! `index show`: ranges, holes and segments, in windows.

use sdcard_indexer::layout::Preset;
use serde_json::Value;

use crate::card::{Card, at, layout};
use crate::{Answer, index};

fn card() -> Card {
    let card = Card::new();
    card.record_with_a_hole("main", &layout(Preset::MediaMtx, None, "UTC"));
    card
}

/// Kind, and seconds of the test at which it begins and ends.
fn rows(answer: &Answer) -> Vec<(String, f64, f64)> {
    assert_eq!((answer.code, answer.err.as_str()), (0, ""));
    let second = |value: &Value| {
        let instant: sdcard_indexer::time::Timestamp = value.as_str().unwrap().parse().unwrap();
        instant.nanos_from(at(0)) as f64 / 1e9
    };
    let lines = answer.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .map(|row| {
            assert_eq!(row["stream"], "main");
            let (from, to) = (second(&row["from"]), second(&row["to"]));
            assert_eq!(row["seconds"].as_f64(), Some(to - from));
            (row["kind"].as_str().unwrap().to_owned(), from, to)
        })
        .collect()
}

fn row(kind: &str, from: f64, to: f64) -> (String, f64, f64) {
    (kind.to_owned(), from, to)
}

#[test]
fn ranges_and_the_holes_between_them_come_in_order() {
    let answer = index(&["show", "--json"], card().path());
    let expected = [row("held", 0.0, 8.0), row("hole", 8.0, 12.0), row("held", 12.0, 20.0)];
    assert_eq!(rows(&answer), expected);

    let answer = index(&["show"], card().path());
    assert_eq!(
        answer.out,
        "main in main\n  2024-05-13 (UTC)\n\
         \x20 23:59:50.000  23:59:58.000          8s  held\n\
         \x20 23:59:58.000  00:00:02.000          4s  -- hole --\n\
         \x20 2024-05-14 (UTC)\n\
         \x20 00:00:02.000  00:00:10.000          8s  held\n"
    );
}

#[test]
fn segments_come_with_their_files_and_the_holes_among_them() {
    let answer = index(&["show", "--segments", "--json"], card().path());
    let mut expected: Vec<_> =
        [0.0, 2.0, 4.0, 6.0].map(|from| row("segment", from, from + 2.0)).into();
    expected.push(row("hole", 8.0, 12.0));
    expected.extend([12.0, 14.0, 16.0, 18.0].map(|from| row("segment", from, from + 2.0)));
    assert_eq!(rows(&answer), expected);
    let first = &answer.of_kind("segment")[0];
    assert_eq!(first["path"], "2024-05-13_23-59-50-000000.mp4");
    assert_eq!((&first["sealed"], &first["future"]), (&Value::Bool(true), &Value::Bool(false)));
    assert_eq!(first["usable_bytes"], first["bytes"]);

    let answer = index(&["show", "--segments"], card().path());
    for words in ["…05-13_23-59-50-000000.mp4", "-- hole --", " KiB  "] {
        assert!(answer.out.contains(words), "{words} is not in\n{}", answer.out);
    }
}

#[test]
fn a_window_cuts_what_it_shows() {
    let window = |from: u32, to: u32, more: &[&str]| {
        let (from, to) = (at(from).to_string(), at(to).to_string());
        let arguments = ["show", "--json", "--from", &from, "--to", &to];
        rows(&index(&[&arguments, more].concat(), card().path()))
    };
    assert_eq!(
        window(7, 13, &[]),
        [row("held", 7.0, 8.0), row("hole", 8.0, 12.0), row("held", 12.0, 13.0)]
    );
    assert_eq!(window(9, 11, &[]), []);
    assert_eq!(
        window(7, 13, &["--segments"]),
        [row("segment", 6.0, 8.0), row("hole", 8.0, 12.0), row("segment", 12.0, 14.0)]
    );
    let nothing = index(&["show", "--to", "2001-01-01T00:00:00Z"], card().path());
    assert_eq!((nothing.code, nothing.out.as_str()), (0, "main in main\n  nothing\n"));
}
