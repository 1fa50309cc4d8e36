//! The tables of the embedded ledger, as they came to be. What is released is never changed, only added to.

use super::access;

/// What takes a ledger from each version to the next one; the first makes a new one. Times are UTC
/// nanoseconds; sets and descriptions are JSON.
pub(super) const MIGRATIONS: [&str; 6] =
    [VERSION_1, VERSION_2, VERSION_3, VERSION_4, access::SCHEMA, VERSION_6];
pub(super) const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

pub(super) const VERSION_1: &str = "
CREATE TABLE device (
    device TEXT PRIMARY KEY,
    online BIGINT NOT NULL,
    agent_version TEXT NOT NULL,
    last_heard BIGINT
);
CREATE TABLE stream (
    device TEXT NOT NULL,
    stream TEXT NOT NULL,
    expected_from BIGINT NOT NULL,
    holding_json TEXT,
    timeline_json TEXT,
    PRIMARY KEY (device, stream)
);
CREATE TABLE verdict (
    device TEXT NOT NULL,
    stream TEXT NOT NULL,
    start_ns BIGINT NOT NULL,
    end_ns BIGINT NOT NULL,
    state_json TEXT NOT NULL,
    PRIMARY KEY (device, stream, start_ns)
);
CREATE TABLE part (
    id INTEGER PRIMARY KEY,
    device TEXT NOT NULL,
    stream TEXT NOT NULL,
    part_json TEXT NOT NULL,
    state TEXT NOT NULL,
    proof_json TEXT NOT NULL,
    digest_json TEXT NOT NULL,
    piece_json TEXT NOT NULL,
    received_bytes BIGINT NOT NULL,
    resent_bytes BIGINT NOT NULL,
    created BIGINT NOT NULL
);
CREATE INDEX part_of_stream ON part (device, stream);
";

/// A forgotten part's number is not given again: its name in the spool may still be about.
const VERSION_2: &str = "
CREATE TABLE number (
    name TEXT PRIMARY KEY,
    last BIGINT NOT NULL
);
INSERT INTO number SELECT 'part', COALESCE(MAX(id), 0) FROM part;
ALTER TABLE part ADD COLUMN tries_json TEXT NOT NULL DEFAULT '{}';
CREATE TABLE job (
    id BIGINT PRIMARY KEY,
    is_open BIGINT NOT NULL,
    job_json TEXT NOT NULL
);
CREATE TABLE run (
    id BIGINT PRIMARY KEY,
    policy TEXT NOT NULL,
    is_open BIGINT NOT NULL,
    run_json TEXT NOT NULL
);
CREATE TABLE policy (
    name TEXT PRIMARY KEY,
    policy_json TEXT NOT NULL,
    place BIGINT NOT NULL
);
";

const VERSION_3: &str = "
ALTER TABLE stream ADD COLUMN offsets_json TEXT NOT NULL DEFAULT '[]';
ALTER TABLE part ADD COLUMN offset_ns BIGINT NOT NULL DEFAULT 0;
";

const VERSION_4: &str = "
CREATE TABLE recut (
    path TEXT PRIMARY KEY,
    made BIGINT NOT NULL,
    recut_json TEXT NOT NULL
);
";

/// A timeline that only grows is not written whole each time: where it ends stands beside it.
const VERSION_6: &str = "
CREATE TABLE timeline (
    device TEXT NOT NULL,
    stream TEXT NOT NULL,
    timeline_json TEXT NOT NULL,
    PRIMARY KEY (device, stream)
);
INSERT INTO timeline SELECT device, stream, timeline_json FROM stream
    WHERE timeline_json IS NOT NULL;
ALTER TABLE stream DROP COLUMN timeline_json;
CREATE TABLE timeline_edge (
    device TEXT NOT NULL,
    stream TEXT NOT NULL,
    as_of BIGINT NOT NULL,
    end_ns BIGINT NOT NULL,
    PRIMARY KEY (device, stream)
);
";
