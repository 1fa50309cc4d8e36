//! Cards as they come out of the field: what can be played is indexed and pulled, and every file that is
//! not as it should be is named once.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

use std::path::Path;
use std::time::{Duration, SystemTime};

use reconciler::timeline::{Proof, Recorder, State};
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::{TimeRange, Timestamp};
use tests::artifacts::Binary;
use tests::cards::{Card, bad_card};
use tests::clip::FRAMES_PER_SECOND;
use tests::installation::{Installation, Setup, amend};
use tests::link::Shape;
use tests::media::{Form, frames};
use tests::naming::Naming;
use tests::process::{Process, until};

/// No wait is endless; far above what any of them takes.
const DEADLINE: Duration = Duration::from_secs(90);

/// What the litter of a bad card is called, and is not taken for a recording.
const FOREIGN: [&str; 5] = [
    "LOST.DIR/0000",
    "Thumbs.db",
    "notes.mp4",
    "2026-99-99_99-99-99-000000.mp4",
    "name with spaces und Umläuten.txt",
];

/// An hour ago, so that ten years after it lie in the future.
fn start() -> Timestamp {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    Timestamp::from_unix_seconds(i64::try_from(now.as_secs()).unwrap() - 3_600)
}

/// How often the agent has complained of each file, by what its log calls it.
struct Complaints(Vec<String>);

impl Complaints {
    fn in_log(log: &Path) -> Complaints {
        let log = std::fs::read_to_string(log).unwrap();
        let lines = log.lines().filter(|line| line.contains("cannot be used in full"));
        Complaints(lines.map(str::to_owned).collect())
    }

    fn of(&self, file: &str) -> Vec<&str> {
        let named = format!("path={file} ");
        self.0.iter().filter(|line| line.contains(&named)).map(String::as_str).collect()
    }
}

#[tokio::test]
async fn all_that_plays_is_pulled_and_each_bad_file_is_named_once() {
    let start = start();
    let at = |second| start.saturating_add(Duration::from_secs(second));
    let range = |from, to| TimeRange::new(at(from), at(to)).unwrap();
    let setup = Setup { naming: Naming::MediaMtx, link: Shape::CLEAR, expected_from: start };
    let installation = Installation::set_up(&setup).await.unwrap();
    // Looked through again and again while the test runs.
    let index = "[index]\nseal_after_seconds = 1\nsweep_every_seconds = 10";
    amend(&installation.agent_config(), index).unwrap();
    let card = Card::new(&installation.card(), setup.naming);
    let bad = bad_card(&card, start).unwrap();
    let _server = installation.start_server().unwrap();
    let config = installation.agent_config().into_os_string();
    let arguments = ["run".into(), "-v".into(), "--config".into(), config];
    let log = installation.root("agent.log");
    let mut agent = Process::spawn(&Binary::Agent.path().unwrap(), arguments, &log).unwrap();

    let window = range(0, 59);
    let timeline = installation.complete(window, DEADLINE).await.unwrap();
    let in_state = |wanted: &dyn Fn(&State) -> bool| -> Coverage {
        let stretches = timeline.stretches.iter().filter(|stretch| wanted(&stretch.state));
        stretches.map(|stretch| stretch.range().unwrap()).collect()
    };
    // What claims to be of the future is not believed until then.
    let playable = bad.playable.difference(&bad.future.into());
    assert_eq!(
        in_state(&|state| {
            matches!(state, State::Archived { by: Recorder::Edge, proof: Proof::Digest, .. })
        }),
        playable
    );
    let never = in_state(&|state| state.word() == "never_recorded");
    assert_eq!(never, Coverage::from(window).difference(&playable));

    for range in playable.iter() {
        let piece = installation.archive().join(setup.naming.path(range.start()));
        let expected = range.duration().as_secs() * u64::from(FRAMES_PER_SECOND);
        assert_eq!(frames(&piece, Form::DecodedVideo).unwrap().len() as u64, expected);
    }

    let name = |start: Timestamp| setup.naming.path(start).to_str().unwrap().to_owned();
    let expected: Vec<(String, &str)> = [
        (name(at(10)), "is empty"),
        (name(at(20)), "known format"),
        (name(at(30)), "not a file"),
        (name(at(40)), "not a file"),
        (name(at(50)), "torn"),
        (name(bad.future.start()), "future"),
    ]
    .into_iter()
    .chain(FOREIGN.map(|name| (name.to_owned(), "layout")))
    .collect();
    until("every bad file is named", DEADLINE, async || {
        let complaints = Complaints::in_log(&log);
        expected.iter().all(|(file, _)| !complaints.of(file).is_empty()).then_some(())
    })
    .await
    .unwrap();

    // Nothing is named again when all is looked at again, nor when the card goes on.
    agent.line("card surveyed, nothing has changed", DEADLINE).await.unwrap();
    card.segment(at(60), 10).unwrap();
    installation.complete(range(0, 70), DEADLINE).await.unwrap();
    let complaints = Complaints::in_log(&log);
    for (file, problem) in &expected {
        let lines = complaints.of(file);
        let [line] = lines[..] else { panic!("{file}: {lines:#?}") };
        assert!(line.contains(problem), "{problem} is not in {line}");
    }
    assert_eq!(complaints.0.len(), expected.len(), "{:#?}", complaints.0);
    assert!(agent.terminate(DEADLINE).await.unwrap().success());
}
