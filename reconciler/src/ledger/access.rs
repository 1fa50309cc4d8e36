//! The tables of accounts and of the audit log, for [`super::sqlite`].

use sqlx::sqlite::SqlitePool;
use sqlx::{Row, SqliteConnection};

use super::LedgerError;
use super::sqlite::{cannot, execute, json, json_column};
use crate::access::{AccountName, AuditEntry, AuditQuery, Outcome, Prune, Token, User};

/// Version 5 of the ledger.
pub(super) const SCHEMA: &str = "
CREATE TABLE account (
    name TEXT PRIMARY KEY,
    account_json TEXT NOT NULL
);
CREATE TABLE token (
    name TEXT PRIMARY KEY,
    token_json TEXT NOT NULL
);
CREATE TABLE audit (
    id BIGINT PRIMARY KEY,
    at_ns BIGINT NOT NULL,
    who TEXT NOT NULL,
    device TEXT,
    is_refusal BIGINT NOT NULL,
    audit_json TEXT NOT NULL
);
CREATE INDEX audit_by_time ON audit (at_ns);
CREATE INDEX audit_by_who ON audit (who, id);
CREATE INDEX audit_by_device ON audit (device, id);
CREATE INDEX audit_by_kind ON audit (is_refusal, id);
";

pub(super) async fn enter_user(
    connection: &mut SqliteConnection,
    user: &User,
) -> Result<(), LedgerError> {
    let statement = "INSERT INTO account (name, account_json) VALUES ($1, $2)
        ON CONFLICT (name) DO UPDATE SET account_json = excluded.account_json";
    let query = sqlx::query(statement).bind(user.name.as_str()).bind(json(user)?);
    execute(query, connection, "record a user").await
}

pub(super) async fn forget_user(
    connection: &mut SqliteConnection,
    name: &AccountName,
) -> Result<(), LedgerError> {
    let query = sqlx::query("DELETE FROM account WHERE name = $1").bind(name.as_str());
    execute(query, connection, "forget a user").await
}

pub(super) async fn enter_token(
    connection: &mut SqliteConnection,
    token: &Token,
) -> Result<(), LedgerError> {
    let statement = "INSERT INTO token (name, token_json) VALUES ($1, $2)
        ON CONFLICT (name) DO UPDATE SET token_json = excluded.token_json";
    let query = sqlx::query(statement).bind(token.name.as_str()).bind(json(token)?);
    execute(query, connection, "record a token").await
}

pub(super) async fn forget_token(
    connection: &mut SqliteConnection,
    name: &AccountName,
) -> Result<(), LedgerError> {
    let query = sqlx::query("DELETE FROM token WHERE name = $1").bind(name.as_str());
    execute(query, connection, "forget a token").await
}

/// An entry that is there already stays as it is: that is an error, and none is ever changed.
pub(super) async fn enter_audit(
    connection: &mut SqliteConnection,
    entry: &AuditEntry,
) -> Result<(), LedgerError> {
    let statement = "INSERT INTO audit (id, at_ns, who, device, is_refusal, audit_json)
        VALUES ($1, $2, $3, $4, $5, $6)";
    let query = sqlx::query(statement)
        .bind(entry.id)
        .bind(entry.at.as_nanos())
        .bind(&entry.who)
        .bind(entry.device.as_ref().map(|device| device.as_str()))
        .bind(i64::from(entry.outcome == Outcome::Refused))
        .bind(json(entry)?);
    execute(query, connection, "write the audit log").await
}

pub(super) async fn prune_audit(
    connection: &mut SqliteConnection,
    prune: &Prune,
) -> Result<(), LedgerError> {
    let what = "prune the audit log";
    let old = sqlx::query("DELETE FROM audit WHERE at_ns < $1").bind(prune.older_than.as_nanos());
    execute(old, connection, what).await?;
    for (is_refusal, most) in [(0, prune.most_deeds), (1, prune.most_refusals)] {
        let statement = "DELETE FROM audit WHERE is_refusal = $1 AND id <= (
            SELECT id FROM audit WHERE is_refusal = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)";
        let query = sqlx::query(statement).bind(is_refusal).bind(i64::from(most));
        execute(query, connection, what).await?;
    }
    Ok(())
}

pub(super) async fn users(pool: &SqlitePool) -> Result<Vec<User>, LedgerError> {
    let rows = sqlx::query("SELECT account_json FROM account ORDER BY name").fetch_all(pool).await;
    rows.map_err(cannot("list users"))?.iter().map(|row| json_column(row, "account_json")).collect()
}

pub(super) async fn tokens(pool: &SqlitePool) -> Result<Vec<Token>, LedgerError> {
    let rows = sqlx::query("SELECT token_json FROM token ORDER BY name").fetch_all(pool).await;
    rows.map_err(cannot("list tokens"))?.iter().map(|row| json_column(row, "token_json")).collect()
}

/// One statement for each of what may be asked, so that each has its index.
pub(super) async fn audit(
    pool: &SqlitePool,
    asked: &AuditQuery,
) -> Result<Vec<AuditEntry>, LedgerError> {
    let before = asked.before.unwrap_or(i64::MAX);
    let most = i64::try_from(asked.most).unwrap_or(i64::MAX);
    let device = asked.device.as_ref().map(|device| device.as_str());
    let query = match (&asked.who, device) {
        (None, None) => {
            sqlx::query("SELECT audit_json FROM audit WHERE id < $1 ORDER BY id DESC LIMIT $2")
                .bind(before)
                .bind(most)
        }
        (Some(who), None) => sqlx::query(
            "SELECT audit_json FROM audit WHERE id < $1 AND who = $3 ORDER BY id DESC LIMIT $2",
        )
        .bind(before)
        .bind(most)
        .bind(who),
        (None, Some(device)) => sqlx::query(
            "SELECT audit_json FROM audit WHERE id < $1 AND device = $3 ORDER BY id DESC LIMIT $2",
        )
        .bind(before)
        .bind(most)
        .bind(device),
        (Some(who), Some(device)) => sqlx::query(
            "SELECT audit_json FROM audit WHERE id < $1 AND who = $3 AND device = $4
             ORDER BY id DESC LIMIT $2",
        )
        .bind(before)
        .bind(most)
        .bind(who)
        .bind(device),
    };
    let rows = query.fetch_all(pool).await.map_err(cannot("read the audit log"))?;
    rows.iter().map(|row| json_column(row, "audit_json")).collect()
}

pub(super) async fn last_audit_entry(pool: &SqlitePool) -> Result<i64, LedgerError> {
    let row = sqlx::query("SELECT COALESCE(MAX(id), 0) AS last FROM audit").fetch_one(pool).await;
    let row = row.map_err(cannot("read the audit log's last entry"))?;
    row.try_get("last").map_err(cannot("read the audit log's last entry"))
}

#[cfg(test)]
mod tests {
    use crate::access::{Action, AuditEntry, AuditQuery, Outcome, Prune, Role, Token, User, Way};
    use crate::examples::at;
    use crate::ledger::{Entry, Ledger, SqliteLedger, ledger_path};

    fn entry(id: i64, who: &str, device: &str, outcome: Outcome) -> Entry {
        Entry::Audit(Box::new(AuditEntry {
            id,
            at: at(id),
            who: who.into(),
            role: Some(Role::View),
            way: Way::Session,
            from: "192.0.2.1".into(),
            action: Action::Play,
            device: Some(device.parse().unwrap()),
            stream: None,
            range_from: Some(at(7)),
            range_to: None,
            subject: None,
            outcome,
            reason: None,
        }))
    }

    async fn ids(ledger: &SqliteLedger, query: AuditQuery) -> Vec<i64> {
        ledger.audit(&query).await.unwrap().iter().map(|entry| entry.id).collect()
    }

    #[tokio::test]
    async fn accounts_are_there_after_a_restart_as_they_were_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = ledger_path(folder.path());
        let user = |name: &str, role| User {
            name: name.parse().unwrap(),
            role,
            password_hash: "hash".into(),
            created: at(5),
        };
        let token = Token {
            name: "nvr".parse().unwrap(),
            role: Role::View,
            digest: [7; 32],
            created: at(6),
            created_by: "admin".into(),
            expires: None,
            last_used: Some(at(9)),
        };
        {
            let ledger = SqliteLedger::open(&path).await.unwrap();
            let entries = [
                Entry::User(user("anna", Role::View)),
                Entry::User(user("ben", Role::View)),
                Entry::User(user("anna", Role::Admin)),
                Entry::ForgetUser("ben".parse().unwrap()),
                Entry::Token(token.clone()),
                Entry::Token(Token { name: "old".parse().unwrap(), ..token.clone() }),
                Entry::ForgetToken("old".parse().unwrap()),
            ];
            ledger.record(&entries).await.unwrap();
        }
        let ledger = SqliteLedger::open(&path).await.unwrap();
        assert_eq!(ledger.users().await.unwrap(), [user("anna", Role::Admin)]);
        assert_eq!(ledger.tokens().await.unwrap(), [token]);
        assert_eq!(ledger.last_audit_entry().await.unwrap(), 0);
    }

    #[tokio::test]
    async fn the_audit_log_is_read_newest_first_by_page_by_who_and_by_device() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = SqliteLedger::open(&ledger_path(folder.path())).await.unwrap();
        let entries = [
            entry(1, "anna", "door", Outcome::Done),
            entry(2, "ben", "door", Outcome::Done),
            entry(3, "anna", "gate", Outcome::Done),
            entry(4, "anna", "door", Outcome::Refused),
        ];
        ledger.record(&entries).await.unwrap();
        let all = AuditQuery { most: 10, ..AuditQuery::default() };
        assert_eq!(ids(&ledger, all.clone()).await, [4, 3, 2, 1]);
        let page = AuditQuery { before: Some(4), most: 2, ..AuditQuery::default() };
        assert_eq!(ids(&ledger, page).await, [3, 2]);
        let of_anna = AuditQuery { who: Some("anna".into()), ..all.clone() };
        assert_eq!(ids(&ledger, of_anna.clone()).await, [4, 3, 1]);
        let of_door = AuditQuery { device: Some("door".parse().unwrap()), ..all };
        assert_eq!(ids(&ledger, of_door.clone()).await, [4, 2, 1]);
        let of_both = AuditQuery { who: of_anna.who, ..of_door };
        assert_eq!(ids(&ledger, of_both).await, [4, 1]);
        assert_eq!(ledger.last_audit_entry().await.unwrap(), 4);
    }

    #[tokio::test]
    async fn an_entry_of_the_audit_log_is_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = SqliteLedger::open(&ledger_path(folder.path())).await.unwrap();
        ledger.record(&[entry(1, "anna", "door", Outcome::Done)]).await.unwrap();
        ledger.record(&[entry(1, "ben", "door", Outcome::Done)]).await.unwrap_err();
        let kept = ledger.audit(&AuditQuery { most: 10, ..AuditQuery::default() }).await.unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].who, "anna");
    }

    #[tokio::test]
    async fn what_is_old_or_beyond_its_cap_goes_and_refusals_push_out_no_deeds() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = SqliteLedger::open(&ledger_path(folder.path())).await.unwrap();
        let outcome = |id: i64| if id % 2 == 0 { Outcome::Refused } else { Outcome::Done };
        let entries = Vec::from_iter((1..=20).map(|id| entry(id, "anna", "door", outcome(id))));
        ledger.record(&entries).await.unwrap();
        let prune = Prune { older_than: at(4), most_deeds: 100, most_refusals: 3 };
        ledger.record(&[Entry::PruneAudit(prune)]).await.unwrap();
        let all = AuditQuery { most: 100, ..AuditQuery::default() };
        assert_eq!(ids(&ledger, all).await, [20, 19, 18, 17, 16, 15, 13, 11, 9, 7, 5]);
    }
}
