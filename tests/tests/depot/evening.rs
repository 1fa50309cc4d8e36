//! Thirty units come back from eight hours without network (an hour is 12 s here). At their time all of it is
//! pulled, across links that are cut at random; one unit dies for good, the card of one is overwritten before its
//! turn comes, the clock of one has begun anew in 1970.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reconciler::timeline::State;
use sdcard_indexer::time::{TimeRange, Timestamp};
use tests::cards::Card;
use tests::clip::Clip;
use tests::depot::{Depot, Unit};
use tests::installation::{Timeline, amend};
use tests::link::{Cut, Direction, Lane, Shape};
use tests::media::{Form, Frame, frames};
use tests::naming::Naming;
use tests::process::{Process, until};

use crate::DEADLINE;
use crate::report::{Run, runs};

const NAMING: Naming = Naming::MediaMtx;
const UNITS: usize = 30;
const HOURS: u32 = 8;
/// Of an hour, as it is scaled.
const HOUR_SECONDS: u32 = 12;
/// A unit's 1 MB takes some 5 s.
const LINK: Shape = Shape { to_server: Lane::new(10, 1_600_000), to_device: Lane::CLEAR };
const SEED: u64 = 20_261_128;
/// The one that dies, the one that is overwritten, the one whose clock is wrong.
const DEAD: usize = 3;
const OVERWRITTEN: usize = 7;
const WRONG_CLOCK: usize = 11;
/// Hours that the overwritten card loses before its turn comes.
const LOST_HOURS: u32 = 2;

/// Until the evening's policy is there, nothing is pulled by itself.
const BY_HAND: &str = "[[policy]]\nname = \"default\"\nrecord = \"held\"\nmodes = [\"manual\"]\n";

/// Gives the server its policy: due at the next minute for which there is time.
async fn put_policy(depot: &Depot) {
    let due = jiff::Timestamp::now() + Duration::from_secs(70);
    let minute = due.to_zoned(jiff::tz::TimeZone::UTC).minute();
    let policy = format!(
        "[[policy]]\nname = \"evening\"\ndevices = [\"bwc-*\"]\nrecord = \"held\"\n\
         modes = [\"scheduled\", \"manual\"]\nmax_devices = 10\n\
         schedule = {{ cron = \"{minute} * * * *\", time_zone = \"Europe/Berlin\", window = \"10m\" }}\n"
    );
    let file = depot.root("evening.toml");
    fs::write(&file, policy).unwrap();
    let put = depot.gapless(&["policy", "put", file.to_str().unwrap()]).await.unwrap();
    assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
}

/// Each unit has begun its shift at another minute.
fn shift(unit: usize) -> TimeRange {
    let first: Timestamp = "2024-05-14T06:00:00Z".parse().unwrap();
    let start = first.saturating_add(Duration::from_secs(unit as u64 * 60));
    TimeRange::starting_at(start, Duration::from_secs((HOURS * HOUR_SECONDS).into()))
}

fn hour(unit: usize, hour: u32) -> Timestamp {
    shift(unit).start().saturating_add(Duration::from_secs((hour * HOUR_SECONDS).into()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_thirty_units_hold_is_archived_across_random_cuts() {
    let depot = Depot::set_up(UNITS, NAMING, LINK, BY_HAND).await.unwrap();
    let _server = depot.start_server().unwrap();
    let mut agents = Vec::new();
    for (number, unit) in depot.units.iter().enumerate() {
        match number {
            WRONG_CLOCK => watch_closing(unit, &depot),
            _ => record_shift(unit, number),
        }
        agents.push(unit.start_agent().unwrap());
    }
    for (number, agent) in agents.iter_mut().enumerate() {
        // There is nothing to read yet on the one that is still to record.
        let ready = if number == WRONG_CLOCK { "card surveyed" } else { "every recording is read" };
        agent.line(ready, DEADLINE).await.unwrap();
    }
    let truth = record_with_wrong_clock(&depot.units[WRONG_CLOCK]);
    let known = async || (known_devices(&depot).await == UNITS).then_some(());
    until("every unit is known", DEADLINE, known).await.unwrap();
    pending(&depot, OVERWRITTEN, hour(OVERWRITTEN, 0)).await;
    for hour_lost in 0..LOST_HOURS {
        let path = NAMING.path(hour(OVERWRITTEN, hour_lost));
        fs::remove_file(depot.units[OVERWRITTEN].card().join(path)).unwrap();
    }
    put_policy(&depot).await;
    let before: u64 = depot.units.iter().map(arrived).sum();
    assert!(before < Clip::committed().segment(hour(0, 0), HOUR_SECONDS).len() as u64, "{before}");

    let run = until("the run begins", DEADLINE, async || open_run(&depot).await).await.unwrap();
    let cutting = cut_at_random(&depot);
    let dying = dies(&depot.units[DEAD], &mut agents);
    let whole = all_settled(&depot, truth);
    let mut cuts = 0;
    tokio::select! {
        _ = async { tokio::join!(cutting(&mut cuts), dying) } => panic!("cuts end with the test"),
        () = whole => {}
    }
    println!("{cuts} cuts; run {} with {} devices", run.id, run.devices.len());
    assert_report(&depot, truth).await;
    for number in (0..UNITS).filter(|number| ![DEAD, WRONG_CLOCK].contains(number)) {
        assert_plays_as_recorded(&depot, number).await;
    }
    let verified: serde_json::Value = depot.json(&["verify"]).await.unwrap();
    assert_eq!(verified["problems"], serde_json::json!([]), "{verified}");
}

fn record_shift(unit: &Unit, number: usize) {
    let card = Card::new(&unit.card(), NAMING);
    for of_shift in 0..HOURS {
        card.segment(hour(number, of_shift), HOUR_SECONDS).unwrap();
    }
    amend(&unit.config(), "[index]\nseal_after_seconds = 1").unwrap();
}

/// Judges clocks as agents do by default, and has a clock that a time service vouches for.
fn watch_closing(unit: &Unit, depot: &Depot) {
    let mark = depot.root("synchronized");
    File::create(&mark).unwrap();
    let keys = format!(
        "[clock]\nbelieve = \"plausible\"\nsynchronised_file = {mark:?}\n[index]\nseal_after_seconds = 1"
    );
    amend(&unit.config(), &keys).unwrap();
}

/// Records under a name of 1970 what is closed now. Answers when it truly was.
fn record_with_wrong_clock(unit: &Unit) -> TimeRange {
    let shown: Timestamp = "1970-01-01T00:01:10Z".parse().unwrap();
    let length = Duration::from_secs(HOUR_SECONDS.into());
    let closed = Timestamp::from_jiff(jiff::Timestamp::now());
    let start = closed.saturating_sub(length);
    let path = unit.card().join(NAMING.path(shown));
    let mut file = File::create_new(&path).unwrap();
    std::io::Write::write_all(&mut file, &Clip::committed().segment(start, HOUR_SECONDS)).unwrap();
    let changed = shown.saturating_add(length).since(Timestamp::UNIX_EPOCH);
    file.set_modified(SystemTime::UNIX_EPOCH + changed).unwrap();
    TimeRange::new(start, closed).unwrap()
}

async fn known_devices(depot: &Depot) -> usize {
    let devices: Vec<serde_json::Value> = depot.json(&["devices"]).await.unwrap_or_default();
    devices.len()
}

/// The server has heard that the unit holds this instant.
async fn pending(depot: &Depot, unit: usize, at: Timestamp) {
    let heard = async || {
        let timeline = timeline(depot, &depot.units[unit].device, shift(unit)).await?;
        let first = timeline.stretches.first()?;
        (first.state == State::Pending && first.range().ok()?.start() == at).then_some(())
    };
    until("the unit's coverage is known", DEADLINE, heard).await.unwrap();
}

fn arrived(unit: &Unit) -> u64 {
    unit.link.passed_bytes(Direction::ToServer)
}

async fn open_run(depot: &Depot) -> Option<Run> {
    runs(depot).await.into_iter().find(Run::is_open)
}

/// Now and then a link goes away for a moment, in one of two ways; never ends.
fn cut_at_random(depot: &Depot) -> impl AsyncFnOnce(&mut u32) + '_ {
    async move |cuts: &mut u32| {
        let mut random = StdRng::seed_from_u64(SEED);
        loop {
            let unit = &depot.units[random.random_range(0..UNITS)];
            let cut = if random.random_bool(0.5) { Cut::Reset } else { Cut::Stall };
            unit.link.cut(cut);
            tokio::time::sleep(Duration::from_millis(random.random_range(50..600))).await;
            unit.link.restore();
            *cuts += 1;
            tokio::time::sleep(Duration::from_millis(random.random_range(50..300))).await;
        }
    }
}

/// The agent of this unit is killed once some of it has come; never ends.
async fn dies(unit: &Unit, agents: &mut [Process]) {
    unit.link.passed(Direction::ToServer, 300_000).await;
    agents[DEAD].kill().await.unwrap();
    std::future::pending::<()>().await;
}

/// Waits until nothing is to come of any unit but the dead one.
async fn all_settled(depot: &Depot, truth: TimeRange) {
    for (number, unit) in depot.units.iter().enumerate().filter(|(number, _)| *number != DEAD) {
        let range = if number == WRONG_CLOCK { inner(truth) } else { shift(number) };
        let settled = async || {
            let timeline = timeline(depot, &unit.device, range).await?;
            let told = timeline.completeness.expected_s >= range.duration().as_secs_f64() - 1.0;
            (told && timeline.completeness.complete).then_some(())
        };
        until(&format!("{} is whole", unit.device), DEADLINE, settled).await.unwrap();
    }
}

/// Placed by its closing alone, its edges are known to a second or so.
fn inner(truth: TimeRange) -> TimeRange {
    let margin = Duration::from_secs(2);
    TimeRange::new(truth.start().saturating_add(margin), truth.end().saturating_sub(margin))
        .unwrap()
}

async fn timeline(depot: &Depot, device: &str, range: TimeRange) -> Option<Timeline> {
    let (from, to) = (range.start().to_string(), range.end().to_string());
    let command = ["timeline", device, "--from", &from, "--to", &to];
    let timelines: Vec<Timeline> = depot.json(&command).await.ok()?;
    timelines.into_iter().next()
}

async fn assert_report(depot: &Depot, truth: TimeRange) {
    let run = open_run(depot).await.expect("its window is still open");
    let ended = depot.gapless(&["cancel", &run.id]).await.unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let run = runs(depot).await.into_iter().next().filter(|run| !run.is_open());
    let run = run.expect("it was ended");
    for (number, unit) in depot.units.iter().enumerate() {
        let report = run.device(&unit.device);
        assert!(report.seen.is_some(), "{report:#?}");
        match number {
            DEAD => {
                let whys: BTreeSet<&str> = report.left.iter().map(|l| l.why.as_str()).collect();
                assert_eq!(whys, BTreeSet::from(["the device left before it was done"]));
            }
            OVERWRITTEN => {
                assert_eq!(report.parts, u64::from(HOURS - LOST_HOURS), "{report:#?}");
                let timeline = timeline(depot, &unit.device, shift(number)).await.unwrap();
                assert_eq!(timeline.words(), ["overwritten", "archived"], "{timeline:#?}");
                let lost = f64::from(LOST_HOURS * HOUR_SECONDS);
                assert_eq!(timeline.completeness.lost_s, lost, "{timeline:#?}");
            }
            WRONG_CLOCK => {
                assert_eq!(report.parts, 1, "{truth}: {report:#?}");
                assert!(report.left.is_empty(), "{report:#?}");
            }
            _ => {
                assert_eq!(report.parts, u64::from(HOURS), "{report:#?}");
                assert!(report.left.is_empty(), "{report:#?}");
            }
        }
    }
}

/// Frame by frame, what is archived of a unit is what its card holds.
async fn assert_plays_as_recorded(depot: &Depot, number: usize) {
    let unit = &depot.units[number];
    let of_all = |mut paths: Vec<PathBuf>| {
        paths.sort();
        let all = paths.iter().flat_map(|path| frames(path, Form::VideoPackets).unwrap());
        all.map(|Frame { hash, size_bytes, .. }| (hash, size_bytes)).collect::<Vec<_>>()
    };
    let files = |directory: PathBuf| {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_file()).collect::<Vec<PathBuf>>()
    };
    let card = of_all(files(unit.card()));
    let archive = of_all(files(depot.archive(unit)));
    assert!(card == archive, "{}: other frames than its card has", unit.device);
}
