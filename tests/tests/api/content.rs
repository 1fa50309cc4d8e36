//! What the server finds in its ledger: every state that an instant, a job, a run or a part can be in.

use std::time::Duration;

use protocol::message::Part;
use reconciler::fleet::{Holding, StreamKey};
use reconciler::job::{Job, JobId, JobState, Outcome};
use reconciler::ledger::{
    DeviceRecord, Entry, Ledger, PartId, PartRecord, PartState, Piece, PieceSeam, SqliteLedger,
    ledger_path,
};
use reconciler::run::{Run, RunId};
use reconciler::seam::{Edge, Seam};
use reconciler::timeline::{Proof, State, Stretch};
use sdcard_indexer::identity::{SegmentId, SegmentVersion};
use sdcard_indexer::time::{TimeRange, Timestamp};
use tests::installation::{DEVICE, Installation, STREAM, amend};

/// Two hours ago, on the minute.
pub fn start() -> Timestamp {
    let now = jiff::Timestamp::now().as_second();
    Timestamp::from_unix_seconds((now - 7_200) / 60 * 60)
}

const POLICY: &str = "
[[policy]]
name = \"night\"
devices = [\"bwc-*\"]
record = \"held\"
modes = [\"scheduled\", \"manual\"]
schedule = { cron = \"0 23 * * *\", time_zone = \"Europe/Berlin\", window = \"6h\" }
";

pub async fn fill(installation: &Installation) -> anyhow::Result<()> {
    amend(&installation.server_config(), POLICY)?;
    let state = installation.root("state");
    std::fs::create_dir_all(&state)?;
    let ledger = SqliteLedger::open(&ledger_path(&state)).await?;
    let mut entries = Vec::new();
    for device in [DEVICE, "bwc-1", "bwc-2"] {
        for stream in [STREAM, "sub"] {
            let key = StreamKey { device: device.parse()?, stream: stream.parse()? };
            entries.extend(of_stream(&key, entries.len() as i64));
        }
        entries.push(Entry::Device(DeviceRecord {
            device: device.parse()?,
            online: false,
            agent_version: "0.1.0".into(),
            last_heard: Some(minutes(100, 101).start()),
        }));
    }
    let states = [JobState::Open, JobState::Done, JobState::Expired, JobState::Cancelled];
    let key = StreamKey { device: DEVICE.parse()?, stream: STREAM.parse()? };
    entries.extend((1..).zip(states).map(|(id, state)| Entry::Job(job(id, &key, state))));
    entries.extend((1..=3).map(|id| Entry::Run(run(id))));
    Ok(ledger.record(&entries).await?)
}

/// So many minutes after the start.
fn minutes(from: i64, to: i64) -> TimeRange {
    let at = |minute: i64| start().saturating_offset(minute * 60_000_000_000);
    TimeRange::new(at(from), at(to)).unwrap()
}

fn of_stream(key: &StreamKey, first: i64) -> Vec<Entry> {
    let held = [minutes(0, 30), minutes(50, 70), minutes(71, 100)].into_iter().collect();
    let holding = Holding {
        held,
        horizon: Some(minutes(0, 1).start()),
        final_until: minutes(100, 101).start(),
        tier: 1,
        ..Holding::default()
    };
    let cause = || "of no importance".to_owned();
    let verdicts = vec![
        Stretch { range: minutes(30, 35), state: State::NeverRecorded { cause: cause() } },
        Stretch { range: minutes(35, 40), state: State::Overwritten { cause: cause() } },
        Stretch { range: minutes(40, 45), state: State::Failed { reason: cause() } },
    ];
    let parts = (0..3).map(|number| Entry::Part(part(key, 1 + first * 4 + number, number)));
    let stream = Entry::Stream { key: key.clone(), expected_from: start() };
    let told = [
        Entry::Holding { key: key.clone(), holding },
        Entry::Verdicts { key: key.clone(), verdicts },
    ];
    [stream].into_iter().chain(told).chain(parts).collect()
}

fn part(key: &StreamKey, id: i64, number: i64) -> PartRecord {
    let range = minutes(2 + 3 * number, 4 + 3 * number);
    let part = Part {
        segment: SegmentId(7),
        version: SegmentVersion { size_bytes: 9, fingerprint: 1 },
        start: 0,
        end: 9,
        range,
        uncertainty_ns: 40_000_000,
        media: Vec::new(),
    };
    let exact = Seam::Exact { offset_ns: -3, error_ns: 1, equal_frames: 4 };
    let seams = vec![
        PieceSeam { edge: Edge::Opening, seam: exact },
        PieceSeam { edge: Edge::Closing, seam: Seam::Approximate { uncertainty_ns: 9 } },
    ];
    let path = format!("{key}/{id}.mp4").into();
    PartRecord {
        state: PartState::Archived,
        proof: Proof::Digest,
        piece: Some(Piece { path, digest: [0; 32], size_bytes: 9, range, seams }),
        ..PartRecord::located(PartId(id), key.clone(), part, start())
    }
}

fn job(id: i64, key: &StreamKey, state: JobState) -> Job {
    let range = minutes(30 + id, 33 + id);
    Job {
        id: JobId(id),
        key: key.clone(),
        range,
        created: start(),
        deadline: start().saturating_add(Duration::from_secs(1_000_000)),
        state,
        ended: (state != JobState::Open).then(|| minutes(60, 61).start()),
        outcome: Outcome { open: range.duration(), ..Outcome::default() },
        lacking: vec![Stretch { range, state: State::Missing }],
    }
}

fn run(id: i64) -> Run {
    Run {
        id: RunId(id),
        policy: "night".parse().unwrap(),
        window: minutes(10 * id, 10 * id + 5),
        opened: minutes(10 * id, 10 * id + 5).start(),
        closed: Some(minutes(10 * id, 10 * id + 5).end()),
        cancelled: id == 2,
        devices: Default::default(),
    }
}
