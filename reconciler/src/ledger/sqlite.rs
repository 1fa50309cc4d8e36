//! The embedded ledger: one SQLite file in the server's state directory.
//!
//! Statements keep to the SQL that PostgreSQL speaks too (numbered parameters, upserts, no rowid tricks).
//! Unsigned 64-bit numbers that may use all their bits are stored as text.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteRow, SqliteSynchronous,
};
use sqlx::{Row, Sqlite, SqliteConnection};

use super::access;
use super::migrations::{MIGRATIONS, SCHEMA_VERSION};
use super::{
    DeviceRecord, Entry, Ledger, LedgerError, PartId, PartRecord, PartState, TimelineRecord,
};
use crate::access::{AuditEntry, AuditQuery, Token, User};
use crate::fleet::{Holding, StreamKey};
use crate::job::{Job, JobState};
use crate::offset::Offsets;
use crate::policy::{MOST_POLICIES, Policy};
use crate::recut::Recut;
use crate::run::{Run, RunId};
use crate::timeline::Stretch;

/// See [`Ledger`].
#[derive(Debug, Clone)]
pub struct SqliteLedger {
    pool: SqlitePool,
}

impl SqliteLedger {
    /// Opens the ledger for the server, and makes it where there is none.
    pub async fn open(path: &Path) -> Result<Self, LedgerError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A step is durable before the next one begins: see PartState.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10));
        let ledger = Self::connect(path, options, 1).await?;
        ledger.migrate(path).await?;
        Ok(ledger)
    }

    /// Opens the ledger for looking only; the server may be running.
    pub async fn open_read_only(path: &Path) -> Result<Self, LedgerError> {
        if !path.exists() {
            return Err(LedgerError::Absent { path: path.to_owned() });
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .busy_timeout(Duration::from_secs(10));
        let ledger = Self::connect(path, options, 1).await?;
        ledger.check_version(path).await?;
        Ok(ledger)
    }

    async fn connect(
        path: &Path,
        options: SqliteConnectOptions,
        connections: u32,
    ) -> Result<Self, LedgerError> {
        SqlitePoolOptions::new()
            .max_connections(connections)
            // The one connection lives as long as the ledger. What looks after idle ones was seen to spin for
            // ever where a short command ended at the wrong moment.
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await
            .map(|pool| SqliteLedger { pool })
            .map_err(|source| LedgerError::Open { path: path.to_owned(), source })
    }

    async fn check_version(&self, path: &Path) -> Result<i64, LedgerError> {
        let (found,): (i64,) = sqlx::query_as("PRAGMA user_version")
            .fetch_one(&self.pool)
            .await
            .map_err(|source| LedgerError::Open { path: path.to_owned(), source })?;
        if found > SCHEMA_VERSION {
            return Err(LedgerError::Newer { path: path.to_owned(), found, known: SCHEMA_VERSION });
        }
        Ok(found)
    }

    async fn migrate(&self, path: &Path) -> Result<(), LedgerError> {
        let found = usize::try_from(self.check_version(path).await?).unwrap_or(0);
        let failed = |source| LedgerError::Open { path: path.to_owned(), source };
        for (version, statements) in (1..).zip(MIGRATIONS).skip(found) {
            let mut transaction = self.pool.begin().await.map_err(failed)?;
            sqlx::raw_sql(statements).execute(&mut *transaction).await.map_err(failed)?;
            let done = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {version}"));
            sqlx::raw_sql(done).execute(&mut *transaction).await.map_err(failed)?;
            transaction.commit().await.map_err(failed)?;
        }
        Ok(())
    }
}

#[async_trait]
impl Ledger for SqliteLedger {
    async fn record(&self, entries: &[Entry]) -> Result<(), LedgerError> {
        let failed = cannot("begin or end to record");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        for entry in entries {
            enter(&mut transaction, entry).await?;
        }
        transaction.commit().await.map_err(&failed)
    }

    async fn devices(&self) -> Result<Vec<DeviceRecord>, LedgerError> {
        let rows = sqlx::query(
            "SELECT device, online, agent_version, last_heard FROM device ORDER BY device",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(cannot("list devices"))?;
        rows.iter().map(device_of).collect()
    }

    async fn streams(&self) -> Result<Vec<(StreamKey, Timestamp)>, LedgerError> {
        let rows =
            sqlx::query("SELECT device, stream, expected_from FROM stream ORDER BY device, stream")
                .fetch_all(&self.pool)
                .await
                .map_err(cannot("list streams"))?;
        rows.iter()
            .map(|row| {
                let from = Timestamp::from_nanos(column(row, "expected_from")?);
                Ok((key_of(row)?, from))
            })
            .collect()
    }

    async fn holding(&self, key: &StreamKey) -> Result<Option<Holding>, LedgerError> {
        self.of_stream("holding_json", key, "read a coverage").await
    }

    async fn offsets(&self, key: &StreamKey) -> Result<Offsets, LedgerError> {
        let offsets = self.of_stream("offsets_json", key, "read what clocks differ by").await?;
        Ok(offsets.unwrap_or_default())
    }

    async fn parts(&self, key: &StreamKey) -> Result<Vec<PartRecord>, LedgerError> {
        let rows = sqlx::query("SELECT * FROM part WHERE device = $1 AND stream = $2 ORDER BY id")
            .bind(key.device.as_str())
            .bind(key.stream.as_str())
            .fetch_all(&self.pool)
            .await
            .map_err(cannot("list parts"))?;
        rows.iter().map(part_of).collect()
    }

    async fn verdicts(&self, key: &StreamKey) -> Result<Vec<Stretch>, LedgerError> {
        let rows = sqlx::query(
            "SELECT start_ns, end_ns, state_json FROM verdict
             WHERE device = $1 AND stream = $2 ORDER BY start_ns",
        )
        .bind(key.device.as_str())
        .bind(key.stream.as_str())
        .fetch_all(&self.pool)
        .await
        .map_err(cannot("list verdicts"))?;
        rows.iter().map(verdict_of).collect()
    }

    async fn timeline(&self, key: &StreamKey) -> Result<Option<TimelineRecord>, LedgerError> {
        let row = of_stream(
            "SELECT timeline_json, as_of, end_ns FROM timeline
             LEFT JOIN timeline_edge USING (device, stream) WHERE device = $1 AND stream = $2",
            key,
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(cannot("read a timeline"))?;
        let Some(row) = row else { return Ok(None) };
        let mut timeline: TimelineRecord = json_column(&row, "timeline_json")?;
        if let (Some(as_of), Some(end)) = (column(&row, "as_of")?, column(&row, "end_ns")?) {
            timeline.reaches(Timestamp::from_nanos(as_of), Timestamp::from_nanos(end));
        }
        Ok(Some(timeline))
    }

    async fn jobs(&self, most: usize) -> Result<Vec<Job>, LedgerError> {
        let statement = "SELECT job_json AS json FROM job WHERE is_open = 1
            OR id > (SELECT MAX(id) FROM job) - $1 ORDER BY id DESC";
        self.listed(statement, most).await
    }

    async fn runs(&self, most: usize) -> Result<Vec<Run>, LedgerError> {
        let statement = "SELECT run_json AS json FROM run WHERE is_open = 1
            OR id IN (SELECT MAX(id) FROM run GROUP BY policy)
            OR id > (SELECT MAX(id) FROM run) - $1 ORDER BY id DESC";
        self.listed(statement, most).await
    }

    async fn run(&self, run: RunId) -> Result<Option<Run>, LedgerError> {
        let row = sqlx::query("SELECT run_json FROM run WHERE id = $1")
            .bind(run.0)
            .fetch_optional(&self.pool)
            .await
            .map_err(cannot("read a run"))?;
        row.map(|row| json_column(&row, "run_json")).transpose()
    }

    async fn recuts(&self) -> Result<Vec<Recut>, LedgerError> {
        let most = i64::MAX as usize;
        self.listed("SELECT recut_json AS json FROM recut ORDER BY made, path LIMIT $1", most).await
    }

    async fn policies(&self) -> Result<Vec<Policy>, LedgerError> {
        let most = MOST_POLICIES;
        self.listed("SELECT policy_json AS json FROM policy ORDER BY place LIMIT $1", most).await
    }

    async fn last_part(&self) -> Result<i64, LedgerError> {
        let (last,): (i64,) = sqlx::query_as("SELECT last FROM number WHERE name = 'part'")
            .fetch_one(&self.pool)
            .await
            .map_err(cannot("read the last part's number"))?;
        Ok(last)
    }

    async fn users(&self) -> Result<Vec<User>, LedgerError> {
        access::users(&self.pool).await
    }

    async fn tokens(&self) -> Result<Vec<Token>, LedgerError> {
        access::tokens(&self.pool).await
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>, LedgerError> {
        access::audit(&self.pool, query).await
    }

    async fn last_audit_entry(&self) -> Result<i64, LedgerError> {
        access::last_audit_entry(&self.pool).await
    }
}

impl SqliteLedger {
    async fn listed<T: DeserializeOwned>(
        &self,
        statement: &'static str,
        most: usize,
    ) -> Result<Vec<T>, LedgerError> {
        let rows = sqlx::query(statement)
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .fetch_all(&self.pool)
            .await
            .map_err(cannot("list jobs, runs, re-cuts or policies"))?;
        rows.iter().map(|row| json_column(row, "json")).collect()
    }

    async fn of_stream<T: DeserializeOwned>(
        &self,
        field: &'static str,
        key: &StreamKey,
        what: &'static str,
    ) -> Result<Option<T>, LedgerError> {
        let statement = format!("SELECT {field} FROM stream WHERE device = $1 AND stream = $2");
        let row = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(key.device.as_str())
            .bind(key.stream.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(cannot(what))?;
        let Some(row) = row else { return Ok(None) };
        let text: Option<String> = column(&row, field)?;
        text.map(|text| from_json(field, &text)).transpose()
    }
}

async fn enter(connection: &mut SqliteConnection, entry: &Entry) -> Result<(), LedgerError> {
    match entry {
        Entry::Device(device) => enter_device(connection, device).await,
        Entry::Stream { key, expected_from } => {
            let statement = "INSERT INTO stream (device, stream, expected_from) VALUES ($1, $2, $3)
                ON CONFLICT (device, stream) DO UPDATE SET expected_from = excluded.expected_from";
            let query = of_stream(statement, key).bind(expected_from.as_nanos());
            execute(query, connection, "record a stream").await
        }
        Entry::Holding { key, holding } => {
            let statement = "UPDATE stream SET holding_json = $3 WHERE device = $1 AND stream = $2";
            let query = of_stream(statement, key).bind(json(holding)?);
            execute(query, connection, "record a coverage").await
        }
        Entry::Offsets { key, offsets } => {
            let statement = "UPDATE stream SET offsets_json = $3 WHERE device = $1 AND stream = $2";
            let query = of_stream(statement, key).bind(json(offsets)?);
            execute(query, connection, "record what clocks differ by").await
        }
        Entry::Timeline { key, timeline } => {
            let statement =
                "INSERT INTO timeline (device, stream, timeline_json) VALUES ($1, $2, $3)
                ON CONFLICT (device, stream) DO UPDATE SET timeline_json = excluded.timeline_json";
            let query = of_stream(statement, key).bind(json(timeline)?);
            execute(query, connection, "record a timeline").await?;
            let statement = "DELETE FROM timeline_edge WHERE device = $1 AND stream = $2";
            execute(of_stream(statement, key), connection, "record a timeline").await
        }
        Entry::TimelineEdge { key, as_of, end } => {
            let statement = "INSERT INTO timeline_edge (device, stream, as_of, end_ns)
                VALUES ($1, $2, $3, $4) ON CONFLICT (device, stream)
                DO UPDATE SET as_of = excluded.as_of, end_ns = excluded.end_ns";
            let query = of_stream(statement, key).bind(as_of.as_nanos()).bind(end.as_nanos());
            execute(query, connection, "record where a timeline ends").await
        }
        Entry::Verdicts { key, verdicts } => enter_verdicts(connection, key, verdicts).await,
        Entry::Part(record) => enter_part(connection, record).await,
        Entry::ForgetPart(part) => {
            let query = sqlx::query("DELETE FROM part WHERE id = $1").bind(part.0);
            execute(query, connection, "forget a part").await
        }
        Entry::Job(job) => {
            let statement = "INSERT INTO job (id, is_open, job_json) VALUES ($1, $2, $3)
                ON CONFLICT (id) DO UPDATE SET is_open = excluded.is_open, job_json = excluded.job_json";
            let is_open = i64::from(job.state == JobState::Open);
            let query = sqlx::query(statement).bind(job.id.0).bind(is_open).bind(json(job)?);
            execute(query, connection, "record a job").await
        }
        Entry::Run(run) => {
            let statement = "INSERT INTO run (id, policy, is_open, run_json) VALUES ($1, $2, $3, $4)
                ON CONFLICT (id) DO UPDATE SET is_open = excluded.is_open, run_json = excluded.run_json";
            let query = sqlx::query(statement)
                .bind(run.id.0)
                .bind(run.policy.as_str())
                .bind(i64::from(run.is_open()))
                .bind(json(run)?);
            execute(query, connection, "record a run").await
        }
        Entry::Recut(recut) => {
            let statement = "INSERT INTO recut (path, made, recut_json) VALUES ($1, $2, $3)
                ON CONFLICT (path) DO UPDATE SET recut_json = excluded.recut_json";
            let query = sqlx::query(statement)
                .bind(recut.path.display().to_string())
                .bind(recut.made.as_nanos())
                .bind(json(recut)?);
            execute(query, connection, "record a re-cut").await
        }
        Entry::Policy(policy) => {
            let statement = "INSERT INTO policy (name, policy_json, place)
                VALUES ($1, $2, (SELECT COALESCE(MAX(place), 0) + 1 FROM policy))
                ON CONFLICT (name) DO UPDATE SET policy_json = excluded.policy_json";
            let query = sqlx::query(statement).bind(policy.name.as_str()).bind(json(policy)?);
            execute(query, connection, "record a policy").await
        }
        Entry::ForgetPolicy(name) => {
            let query = sqlx::query("DELETE FROM policy WHERE name = $1").bind(name.as_str());
            execute(query, connection, "forget a policy").await
        }
        Entry::User(user) => access::enter_user(connection, user).await,
        Entry::ForgetUser(name) => access::forget_user(connection, name).await,
        Entry::Token(token) => access::enter_token(connection, token).await,
        Entry::ForgetToken(name) => access::forget_token(connection, name).await,
        Entry::Audit(entry) => access::enter_audit(connection, entry).await,
        Entry::PruneAudit(prune) => access::prune_audit(connection, prune).await,
    }
}

async fn enter_device(
    connection: &mut SqliteConnection,
    device: &DeviceRecord,
) -> Result<(), LedgerError> {
    let query = sqlx::query(
        "INSERT INTO device (device, online, agent_version, last_heard) VALUES ($1, $2, $3, $4)
         ON CONFLICT (device) DO UPDATE SET online = excluded.online,
         agent_version = excluded.agent_version, last_heard = excluded.last_heard",
    )
    .bind(device.device.as_str())
    .bind(i64::from(device.online))
    .bind(&device.agent_version)
    .bind(device.last_heard.map(Timestamp::as_nanos));
    execute(query, connection, "record a device").await
}

async fn enter_verdicts(
    connection: &mut SqliteConnection,
    key: &StreamKey,
    verdicts: &[Stretch],
) -> Result<(), LedgerError> {
    let what = "record a verdict";
    let before = of_stream("DELETE FROM verdict WHERE device = $1 AND stream = $2", key);
    execute(before, connection, what).await?;
    for verdict in verdicts {
        let statement = "INSERT INTO verdict (device, stream, start_ns, end_ns, state_json)
            VALUES ($1, $2, $3, $4, $5)";
        let query = of_stream(statement, key)
            .bind(verdict.range.start().as_nanos())
            .bind(verdict.range.end().as_nanos())
            .bind(json(&verdict.state)?);
        execute(query, connection, what).await?;
    }
    Ok(())
}

async fn enter_part(
    connection: &mut SqliteConnection,
    record: &PartRecord,
) -> Result<(), LedgerError> {
    let query = sqlx::query(
        "INSERT INTO part (id, device, stream, part_json, state, proof_json, digest_json, piece_json,
         received_bytes, resent_bytes, created, tries_json, offset_ns)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
         ON CONFLICT (id) DO UPDATE SET part_json = excluded.part_json, state = excluded.state,
         proof_json = excluded.proof_json, digest_json = excluded.digest_json,
         piece_json = excluded.piece_json, received_bytes = excluded.received_bytes,
         resent_bytes = excluded.resent_bytes, tries_json = excluded.tries_json,
         offset_ns = excluded.offset_ns",
    )
    .bind(record.id.0)
    .bind(record.key.device.as_str())
    .bind(record.key.stream.as_str())
    .bind(json(&record.part)?)
    .bind(record.state.word())
    .bind(json(&record.proof)?)
    .bind(json(&record.digest)?)
    .bind(json(&record.piece)?)
    .bind(saturating_i64(record.received_bytes))
    .bind(saturating_i64(record.resent_bytes))
    .bind(record.created.as_nanos())
    .bind(json(&record.tries)?)
    .bind(record.offset_ns);
    execute(query, connection, "record a part").await?;
    let last = sqlx::query("UPDATE number SET last = $1 WHERE name = 'part' AND last < $1");
    execute(last.bind(record.id.0), connection, "record a part's number").await
}

fn of_stream<'q>(
    statement: &'static str,
    key: &'q StreamKey,
) -> Query<'q, Sqlite, SqliteArguments> {
    sqlx::query(statement).bind(key.device.as_str()).bind(key.stream.as_str())
}

pub(super) async fn execute(
    query: Query<'_, Sqlite, SqliteArguments>,
    connection: &mut SqliteConnection,
    what: &'static str,
) -> Result<(), LedgerError> {
    query.execute(connection).await.map(drop).map_err(cannot(what))
}

pub(super) fn cannot(what: &'static str) -> impl Fn(sqlx::Error) -> LedgerError {
    move |source| LedgerError::Query { what, source }
}

fn column<'r, T>(row: &'r SqliteRow, name: &'static str) -> Result<T, LedgerError>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(name).map_err(|source| LedgerError::Query { what: name, source })
}

pub(super) fn json(value: &impl Serialize) -> Result<String, LedgerError> {
    serde_json::to_string(value)
        .map_err(|error| LedgerError::Damaged { what: "record to write", found: error.to_string() })
}

fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, LedgerError> {
    serde_json::from_str(text)
        .map_err(|error| LedgerError::Damaged { what, found: format!("{error} in {text:.80}") })
}

pub(super) fn json_column<T: DeserializeOwned>(
    row: &SqliteRow,
    name: &'static str,
) -> Result<T, LedgerError> {
    from_json(name, column::<&str>(row, name)?)
}

fn id_column<T: FromStr>(row: &SqliteRow, name: &'static str) -> Result<T, LedgerError> {
    let text: &str = column(row, name)?;
    text.parse().map_err(|_| LedgerError::Damaged { what: name, found: text.to_owned() })
}

fn key_of(row: &SqliteRow) -> Result<StreamKey, LedgerError> {
    Ok(StreamKey { device: id_column(row, "device")?, stream: id_column(row, "stream")? })
}

fn device_of(row: &SqliteRow) -> Result<DeviceRecord, LedgerError> {
    Ok(DeviceRecord {
        device: id_column(row, "device")?,
        online: column::<i64>(row, "online")? != 0,
        agent_version: column(row, "agent_version")?,
        last_heard: column::<Option<i64>>(row, "last_heard")?.map(Timestamp::from_nanos),
    })
}

fn verdict_of(row: &SqliteRow) -> Result<Stretch, LedgerError> {
    let start = Timestamp::from_nanos(column(row, "start_ns")?);
    let end = Timestamp::from_nanos(column(row, "end_ns")?);
    let range = TimeRange::new(start, end).ok_or_else(|| LedgerError::Damaged {
        what: "verdict",
        found: format!("it ends ({end}) before it starts ({start})"),
    })?;
    Ok(Stretch { range, state: json_column(row, "state_json")? })
}

fn part_of(row: &SqliteRow) -> Result<PartRecord, LedgerError> {
    let word: &str = column(row, "state")?;
    let state = PartState::ALL
        .into_iter()
        .find(|state| state.word() == word)
        .ok_or_else(|| LedgerError::Damaged { what: "part state", found: word.to_owned() })?;
    Ok(PartRecord {
        id: PartId(column(row, "id")?),
        key: key_of(row)?,
        part: json_column(row, "part_json")?,
        state,
        proof: json_column(row, "proof_json")?,
        digest: json_column(row, "digest_json")?,
        piece: json_column(row, "piece_json")?,
        received_bytes: u64::try_from(column::<i64>(row, "received_bytes")?).unwrap_or(0),
        resent_bytes: u64::try_from(column::<i64>(row, "resent_bytes")?).unwrap_or(0),
        created: Timestamp::from_nanos(column(row, "created")?),
        tries: json_column(row, "tries_json")?,
        offset_ns: column(row, "offset_ns")?,
    })
}

fn saturating_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Where a server with this state directory keeps its ledger.
pub fn ledger_path(state_dir: &Path) -> PathBuf {
    state_dir.join("ledger.sqlite")
}

#[cfg(test)]
mod tests;
