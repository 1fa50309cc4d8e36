//! What a recorder notices of an agent that reads its card beside it: what it has in memory stays there, and no more
//! is read of the card than its owner allows.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

use std::fs::{self, File};
use std::io::IoSliceMut;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::io::{Errno, ReadWriteFlags, preadv2};
use sdcard_indexer::recordings::OpenRecording;
use sdcard_indexer::time::{TimeRange, Timestamp};
use tests::artifacts::tool;
use tests::cards::Card;
use tests::installation::{Installation, Setup, amend};
use tests::link::Shape;
use tests::naming::Naming;
use tests::process::Process;
use tokio::task::JoinSet;

/// No wait is endless; far above what any of them takes.
const DEADLINE: Duration = Duration::from_secs(120);
const NAMING: Naming = Naming::MediaMtx;
/// Some megabytes.
const SEGMENT_SECONDS: u32 = 1_000;
/// What of a file may stay in memory that was not there before.
const REST_BYTES: u64 = 64 * 1_024;

fn at(second: u32) -> Timestamp {
    let start: Timestamp = "2024-05-14T10:00:00Z".parse().unwrap();
    start.saturating_add(Duration::from_secs(second.into()))
}

/// Of three long segments on the card, the archive has none; it has the short one behind them.
struct Scene {
    installation: Installation,
    segments: Vec<PathBuf>,
    window: TimeRange,
}

impl Scene {
    async fn set_up(keys: &str) -> Scene {
        let setup = Setup { naming: NAMING, link: Shape::CLEAR, expected_from: at(0) };
        let installation = Installation::set_up(&setup).await.unwrap();
        amend(&installation.agent_config(), keys).unwrap();
        let card = Card::new(&installation.card(), NAMING);
        card.fill(at(0), 3, SEGMENT_SECONDS).unwrap();
        let last = at(3 * SEGMENT_SECONDS);
        for root in [installation.card(), installation.archive()] {
            Card::new(&root, NAMING).segment(last, 10).unwrap();
        }
        let paths = (0..3).map(|number| NAMING.path(at(number * SEGMENT_SECONDS)));
        let segments = paths.map(|path| installation.card().join(path)).collect();
        let window = TimeRange::new(at(0), last.saturating_add(Duration::from_secs(10))).unwrap();
        Scene { installation, segments, window }
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|path| fs::metadata(path).unwrap().len()).sum()
    }

    /// As the card is after a while: nothing of it is in memory.
    fn forget(&self) {
        for path in &self.segments {
            let file = File::open(path).unwrap();
            file.sync_all().unwrap();
            assert!(file.forget_cached().unwrap());
        }
    }

    fn resident(&self) -> Vec<u64> {
        self.segments.iter().map(|path| resident_bytes(path)).collect()
    }

    async fn pull(&self) -> (Process, Process) {
        let agent = self.installation.start_agent().unwrap();
        let server = self.installation.start_server().unwrap();
        self.installation.complete(self.window, DEADLINE).await.unwrap();
        (agent, server)
    }
}

/// Uses what is in memory of a file all the time, as whoever plays it does: a kernel that takes back what nobody uses
/// would be taken for the agent. Nothing is fetched, so what is gone stays gone.
async fn use_what_is_in_memory(path: PathBuf) {
    let file = File::open(path).unwrap();
    let bytes = file.metadata().unwrap().len();
    let mut buffer = vec![0; 1 << 16];
    loop {
        for offset in (0..bytes).step_by(buffer.len()) {
            let mut buffers = [IoSliceMut::new(&mut buffer)];
            match preadv2(&file, &mut buffers, offset, ReadWriteFlags::NOWAIT) {
                Ok(_) | Err(Errno::AGAIN) => {}
                Err(error) => panic!("{error}"),
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Of the page cache.
fn resident_bytes(path: &Path) -> u64 {
    let fincore = tool("fincore").expect("apt-get install util-linux-extra");
    let columns = ["--bytes", "--noheadings", "--raw", "--output", "RES"];
    let output = Command::new(fincore).args(columns).arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn what_is_pulled_takes_no_memory_and_what_was_in_memory_stays_there() {
    let scene = Scene::set_up("").await;
    scene.forget();
    let read = fs::read(&scene.segments[1]).unwrap();
    let before = scene.resident();
    assert_eq!((before[0], before[2]), (0, 0), "a temporary folder on a disk is needed: TMPDIR");
    assert!(before[1] >= read.len() as u64);
    let mut used = JoinSet::new();
    used.spawn(use_what_is_in_memory(scene.segments[1].clone()));
    let (_agent, _server) = scene.pull().await;
    let after = scene.resident();
    println!("bytes in memory of each segment, before and after: {before:?}, {after:?}");
    assert!(after[0] <= REST_BYTES && after[2] <= REST_BYTES, "{after:?}");
    assert_eq!(after[1], before[1]);
}

#[tokio::test]
async fn a_card_that_nobody_records_to_is_kept_in_memory_as_the_kernel_likes() {
    let scene = Scene::set_up("[card]\nspare_recorder = false").await;
    scene.forget();
    let (agent, _server) = scene.pull().await;
    let after = scene.resident();
    // All of it, unless somebody else needs memory at this moment.
    assert!(after.iter().sum::<u64>() >= scene.bytes() / 2, "{after:?}");
    assert_eq!(nice(&agent, "card"), nice(&agent, "gapless-agent"));
}

#[tokio::test]
async fn no_more_is_read_of_a_card_than_its_owner_allows_and_the_pull_completes() {
    const RATE: u64 = 2 << 20;
    let scene = Scene::set_up(&format!("[limits]\ncard_bytes_per_second = {RATE}")).await;
    let bytes = scene.bytes();
    let begun = Instant::now();
    let (agent, _server) = scene.pull().await;
    let took = begun.elapsed();
    println!("{bytes} bytes at no more than {RATE} a second took {took:?}");
    // A quarter of a second may have been saved up.
    let least = Duration::from_secs_f64(bytes as f64 / RATE as f64 - 0.25);
    assert!(took >= least, "{took:?}, and at least {least:?}");
    assert!(nice(&agent, "card") >= 10);
}

/// Of one thread of a program: field 19 of `/proc/PID/task/TID/stat`, the second of which is its name.
fn nice(process: &Process, thread: &str) -> i32 {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.pid().unwrap())).unwrap();
    let stats = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("stat")).unwrap());
    let named = |stat: &String| stat.contains(&format!("({thread})"));
    let stat = stats.into_iter().find(named).unwrap_or_else(|| panic!("no thread `{thread}`"));
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().nth(16).unwrap().parse().unwrap()
}
