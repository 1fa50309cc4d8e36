//! A window that closes in the middle of a part, a server that is killed in the middle of a run.

use std::time::Duration;

use sdcard_indexer::time::{TimeRange, Timestamp};
use tests::cards::Card;
use tests::depot::Depot;
use tests::installation::Timeline;
use tests::link::{Direction, Lane, Shape};
use tests::naming::Naming;
use tests::process::until;

use crate::DEADLINE;
use crate::report::{Run, runs};

const NAMING: Naming = Naming::MediaMtx;
/// One segment, of which the link takes some 20 s.
const SECONDS: u32 = 80;
const LINK: Shape = Shape { to_server: Lane::new(20, 320_000), to_device: Lane::CLEAR };
const POLICY: &str = "
[[policy]]
name = \"evening\"
devices = [\"bwc-*\"]
record = \"held\"
modes = [\"scheduled\"]
schedule = { cron = \"* * * * *\", time_zone = \"Europe/Berlin\", window = \"12s\" }
";

fn start() -> Timestamp {
    "2024-05-14T10:00:00Z".parse().unwrap()
}

#[tokio::test]
async fn what_a_window_leaves_the_next_one_takes_up_where_it_was() {
    let depot = Depot::set_up(1, NAMING, LINK, POLICY).await.unwrap();
    let unit = &depot.units[0];
    let card = Card::new(&unit.card(), NAMING);
    let recorded = card.segment(start(), SECONDS).unwrap();
    let media_bytes = std::fs::metadata(card.root().join(NAMING.path(start()))).unwrap().len();
    let mut server = depot.start_server().unwrap();
    let _agent = unit.start_agent().unwrap();
    let first = closed_after(
        &depot,
        |bytes| bytes > 0,
        async || {
            // In the middle of the run, the server is killed and starts again.
            unit.link.passed(Direction::ToServer, media_bytes / 5).await;
            server.restart().await.unwrap();
        },
    );
    let first = first.await;
    let left = &first.device(&unit.device).left;
    assert!(left.iter().all(|left| left.why.contains("window")), "{first:#?}");
    let seconds: f64 = left.iter().map(|left| left.seconds).sum();
    assert_eq!(seconds, recorded.duration().as_secs_f64(), "no part was whole: {first:#?}");

    // Nothing but presence and coverage comes while no window is open.
    let at_the_end = unit.link.passed_bytes(Direction::ToServer);
    let next = async || runs(&depot).await.into_iter().next_back().filter(Run::is_open);
    until("the next run begins", DEADLINE, next).await.unwrap();
    let between = unit.link.passed_bytes(Direction::ToServer) - at_the_end;
    assert!(between < media_bytes / 10, "{between} bytes came with no window open");

    let timeline = whole(&depot, &unit.device, recorded).await;
    assert_eq!(timeline.completeness.archived_s, f64::from(SECONDS));
    let sent = unit.link.sent_bytes(Direction::ToServer);
    println!("{sent} bytes were sent for {media_bytes} of media, over two windows and a restart");
    assert!(sent < media_bytes + (512 << 10), "{sent}: it was begun anew");
    let done = async || {
        let last = runs(&depot).await.pop()?;
        (!last.is_open()).then_some(last)
    };
    let last = until("the run ends", DEADLINE, done).await.unwrap();
    let report = last.device(&unit.device);
    assert!(report.left.is_empty() && report.parts == 1, "{last:#?}");
    assert!((1..=media_bytes).contains(&report.bytes), "{last:#?}");
}

/// The first run that closes after some media has come; `meanwhile` goes on while it is open.
async fn closed_after(
    depot: &Depot,
    some: impl Fn(u64) -> bool,
    meanwhile: impl AsyncFnOnce(),
) -> Run {
    tokio::time::timeout(DEADLINE, meanwhile()).await.expect("a run begins to pull");
    let closed = async || {
        let passed = depot.units[0].link.passed_bytes(Direction::ToServer);
        let last = runs(depot).await.pop()?;
        (some(passed) && !last.is_open()).then_some(last)
    };
    until("the run ends", DEADLINE, closed).await.unwrap()
}

async fn whole(depot: &Depot, device: &str, range: TimeRange) -> Timeline {
    let (from, to) = (range.start().to_string(), range.end().to_string());
    let whole = async || {
        let command = ["timeline", device, "--from", &from, "--to", &to];
        let timelines: Vec<Timeline> = depot.json(&command).await.ok()?;
        let timeline = timelines.into_iter().next()?;
        let is_whole = timeline.completeness.archived_s >= range.duration().as_secs_f64();
        is_whole.then_some(timeline)
    };
    tokio::time::timeout(DEADLINE, until("all of it is archived", Duration::MAX, whole))
        .await
        .expect("in time")
        .unwrap()
}
