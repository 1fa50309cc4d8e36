//! What is remembered is there after a restart, whole or not at all, and ledgers of older programs are taken over.

use sdcard_indexer::coverage::Coverage;

use super::*;
use crate::examples::{at, key, part, seconds};
use crate::ledger::Piece;
use crate::recut::{Bytes, RecutState};
use crate::retry::Tries;
use crate::timeline::{Proof, State};

#[tokio::test]
async fn everything_entered_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = ledger_path(folder.path());
    let holding = Holding { held: Coverage::from(seconds(0, 9)), ..Holding::default() };
    let verdicts =
        [Stretch { range: seconds(3, 4), state: State::NeverRecorded { cause: "why".into() } }];
    let record = {
        let ledger = SqliteLedger::open(&path).await.unwrap();
        let stream = |from| Entry::Stream { key: key(), expected_from: at(from) };
        let before = Entry::Holding { key: key(), holding: Holding::default() };
        ledger.record(&[stream(5), before]).await.unwrap();
        let located = |id| PartRecord::located(PartId(id), key(), part(seconds(10, 20)), at(7));
        let record = PartRecord {
            id: PartId(4),
            key: key(),
            part: part(seconds(10, 20)),
            state: PartState::Archived,
            proof: Proof::Digest,
            digest: Some([5; 32]),
            piece: Some(Piece {
                path: "camera/main/a.mp4".into(),
                digest: [6; 32],
                size_bytes: 100,
                range: seconds(10, 20),
                seams: Vec::new(),
            }),
            received_bytes: 8,
            resent_bytes: 1,
            created: at(7),
            tries: Tries::default(),
            offset_ns: 7,
        };
        let entries = [
            stream(6),
            Entry::Holding { key: key(), holding: holding.clone() },
            Entry::Verdicts { key: key(), verdicts: verdicts.to_vec() },
            Entry::Part(located(4)),
            Entry::Part(located(9)),
            Entry::Part(record.clone()),
            Entry::ForgetPart(PartId(9)),
        ];
        ledger.record(&entries).await.unwrap();
        record
    };
    let ledger = SqliteLedger::open_read_only(&path).await.unwrap();
    assert_eq!(ledger.streams().await.unwrap(), [(key(), at(6))]);
    assert_eq!(ledger.holding(&key()).await.unwrap(), Some(holding));
    assert_eq!(ledger.verdicts(&key()).await.unwrap(), verdicts);
    assert_eq!(ledger.parts(&key()).await.unwrap(), [record]);
    assert_eq!(ledger.timeline(&key()).await.unwrap(), None);
    assert_eq!(ledger.last_part().await.unwrap(), 9);
}

#[tokio::test]
async fn a_timeline_that_has_grown_is_read_to_its_newest_edge_until_a_whole_one_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = SqliteLedger::open(&ledger_path(folder.path())).await.unwrap();
    let timeline = |until| TimelineRecord {
        as_of: at(until),
        stretches: vec![
            Stretch { range: seconds(0, 5), state: State::Missing },
            Stretch { range: seconds(5, until), state: State::Pending },
        ],
    };
    let whole = |until| Entry::Timeline { key: key(), timeline: timeline(until) };
    let edge = |until| Entry::TimelineEdge { key: key(), as_of: at(until), end: at(until) };
    let stream = Entry::Stream { key: key(), expected_from: at(0) };
    ledger.record(&[stream, whole(10), edge(20), edge(30)]).await.unwrap();
    assert_eq!(ledger.timeline(&key()).await.unwrap(), Some(timeline(30)));
    ledger.record(&[whole(15)]).await.unwrap();
    assert_eq!(ledger.timeline(&key()).await.unwrap(), Some(timeline(15)));
}

#[tokio::test]
async fn a_re_cut_is_remembered_by_its_recordings_name_with_its_newest_state() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = SqliteLedger::open(&ledger_path(folder.path())).await.unwrap();
    let bytes = |byte| Bytes { size_bytes: u64::MAX, blake3: [byte; 32] };
    let recut = |path: &str, second| Recut {
        key: key(),
        path: path.into(),
        piece: "camera/main/piece.mp4".into(),
        state: RecutState::Written,
        original: bytes(1),
        copy: bytes(2),
        kept_frames: 175,
        left_out_frames: 10,
        made: at(second),
    };
    let (second, first) = (recut("b.mp4", 2), recut("a.mp4", 1));
    let kept = Recut { state: RecutState::Kept, ..second.clone() };
    for recut in [&second, &first, &kept] {
        ledger.record(&[Entry::Recut(Box::new(recut.clone()))]).await.unwrap();
    }
    assert_eq!(ledger.recuts().await.unwrap(), [first, kept]);
}

#[tokio::test]
async fn of_entries_that_cannot_all_be_remembered_none_is() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = SqliteLedger::open(&ledger_path(folder.path())).await.unwrap();
    let stream = Entry::Stream { key: key(), expected_from: at(5) };
    let same = Stretch { range: seconds(3, 4), state: State::Missing };
    let twice = Entry::Verdicts { key: key(), verdicts: vec![same.clone(), same] };
    ledger.record(&[stream, twice]).await.unwrap_err();
    assert_eq!(ledger.streams().await.unwrap(), []);
}

#[tokio::test]
async fn a_ledger_of_the_first_version_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = ledger_path(folder.path());
    {
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let old = SqliteLedger::connect(&path, options, 1).await.unwrap();
        sqlx::raw_sql(crate::ledger::migrations::VERSION_1).execute(&old.pool).await.unwrap();
        let rows = "INSERT INTO part VALUES (3, 'camera', 'main', '{}', 'x', '', '', '', 0, 0, 0);
            INSERT INTO stream VALUES ('camera', 'main', 0, NULL, '{\"as_of\":7,\"stretches\":[]}');
            INSERT INTO stream VALUES ('camera', 'sub', 0, NULL, NULL);
            PRAGMA user_version = 1";
        sqlx::raw_sql(rows).execute(&old.pool).await.unwrap();
    }
    let ledger = SqliteLedger::open(&path).await.unwrap();
    assert_eq!(ledger.last_part().await.unwrap(), 3);
    let timeline = ledger.timeline(&key()).await.unwrap().unwrap();
    assert_eq!(timeline.as_of, Timestamp::from_nanos(7));
    let sub = StreamKey { stream: "sub".parse().unwrap(), ..key() };
    assert_eq!(ledger.timeline(&sub).await.unwrap(), None);
}

#[tokio::test]
async fn a_ledger_of_a_newer_program_is_refused_by_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let path = ledger_path(folder.path());
    let ledger = SqliteLedger::open(&path).await.unwrap();
    sqlx::raw_sql("PRAGMA user_version = 9").execute(&ledger.pool).await.unwrap();
    drop(ledger);
    let error = SqliteLedger::open(&path).await.unwrap_err().to_string();
    assert!(
        error.contains("version 9") && error.contains(&format!("up to {SCHEMA_VERSION}")),
        "{error}"
    );
}

#[tokio::test]
async fn looking_does_not_make_a_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let path = ledger_path(folder.path());
    assert!(matches!(SqliteLedger::open_read_only(&path).await, Err(LedgerError::Absent { .. })));
    assert!(!path.exists());
}
