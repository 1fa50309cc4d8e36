//! The hook of recorders.

use std::fs;

use serde_json::Value;

use crate::rig::{PATIENCE, Rig, nobody, over_socket};

fn segments(rig: &Rig) -> Vec<Value> {
    let mut lines = rig.ask(&["segments", "--json"]).json();
    lines.retain(|line| line["kind"] == "segment");
    lines
}

fn is_sealed(rig: &Rig, name: &str) -> bool {
    segments(rig).iter().any(|segment| segment["path"] == name && segment["sealed"] == true)
}

#[test]
fn a_recording_that_is_said_to_be_closed_is_sealed_at_once_though_nobody_has_closed_it() {
    let rig = Rig::new(nobody());
    let _running = rig.run();
    rig.wait_for("read", |status| status["index"]["unread"] == 0);
    let name = "2026-01-01_00-09-00.mp4";
    let (source, path) = (rig.record("2026-01-01_00-08-00.mp4"), rig.card().join("rec").join(name));
    // Held open, so that the kernel has nothing to tell; it would count as open for an hour.
    let mut held = fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut held, &fs::read(source).unwrap()).unwrap();
    rig.wait_for("found", |status| status["index"]["segments"] == 5);
    assert!(!is_sealed(&rig, name));
    let answer = rig.ask(&["closed", path.to_str().unwrap()]);
    assert_eq!((answer.code, answer.out.as_str()), (0, "taken\n"), "{answer:?}");
    let begun = std::time::Instant::now();
    while !is_sealed(&rig, name) {
        assert!(begun.elapsed() < PATIENCE, "never sealed: {:?}", segments(&rig));
    }
    drop(held);
}

#[test]
fn whatever_leads_elsewhere_is_refused_with_the_reason() {
    let rig = Rig::new(nobody());
    let _running = rig.run();
    let card = rig.card().display().to_string();
    for (path, words) in [
        ("/etc/passwd".to_owned(), "begins with the card's root"),
        (format!("{card}/../agent.toml"), "without `..`"),
        (format!("{card}/2026-01-01_00-00-00.mp4"), "no stream's folder: rec"),
        (format!("{card}/rec/passwd.mp4"), "its name is none"),
        (format!("{card}/rec/../../agent.toml"), "without `..`"),
    ] {
        let answer = rig.ask(&["closed", &path]);
        assert_eq!((answer.code, answer.out.as_str()), (1, ""), "{path}");
        assert!(answer.err.contains(words), "{path}: {}", answer.err);
        let line = format!("closed {path}\n");
        assert!(over_socket(&rig.path("socket"), line.as_bytes()).contains(words), "{path}");
    }
}

#[test]
fn a_link_under_a_recordings_name_leads_nowhere_and_is_logged() {
    let rig = Rig::new(nobody());
    let elsewhere = rig.path("2026-01-01_00-07-00.mp4");
    fs::copy(rig.card().join("rec/2026-01-01_00-00-00.mp4"), &elsewhere).unwrap();
    let link = rig.card().join("rec/2026-01-01_00-07-00.mp4");
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    let _running = rig.run();
    rig.wait_for("read", |status| status["index"]["unread"] == 0);
    assert_eq!(rig.ask(&["closed", link.to_str().unwrap()]).code, 0, "by its name it may be one");
    let begun = std::time::Instant::now();
    while !rig.ask(&["log"]).out.contains("reached over a link") {
        assert!(begun.elapsed() < PATIENCE, "never logged");
    }
    assert_eq!(segments(&rig).len(), 3);
}
