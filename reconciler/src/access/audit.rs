//! The audit log: who saw, pulled, exported and changed what, and who was refused.
//!
//! Nothing takes an entry back; what is older than the configuration keeps, or beyond the caps, goes. Refusals have a
//! cap of their own and a limit for each address: nobody can wash out what was done by being refused a lot.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::time::Duration;

use protocol::message::DeviceId;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::caller::Viewer;
use super::{Role, Way};
use crate::rfc3339;
use crate::schema::Instant;

/// Entries that are kept, whatever their age.
pub const MOST_DEEDS: u32 = 1_000_000;
pub const MOST_REFUSALS: u32 = 100_000;
/// Old entries are looked for once in so many new ones.
pub const PRUNED_EVERY: i64 = 256;
/// In an hour, of one address and of all; beyond that refusals are only counted.
const MOST_REFUSALS_OF_ONE: u32 = 60;
const MOST_REFUSALS_OF_ALL: u32 = 2_000;
/// Looks that are remembered as written down.
const MOST_LOOKS: usize = 20_000;
/// Of one look; footage of more hours than this is written down again.
const MOST_HOURS: i64 = 31 * 24;
const HOUR: Duration = Duration::from_secs(3_600);
/// Of texts that a caller chose.
const MOST_TEXT: usize = 200;

/// What was done, or tried.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    LogIn,
    LogOut,
    AddUser,
    ChangeRole,
    ChangePassword,
    RemoveUser,
    AddToken,
    RemoveToken,
    /// A job: footage is pulled from a card.
    Pull,
    CancelJob,
    CancelRun,
    PutPolicy,
    RemovePolicy,
    /// Footage was shown; written down once for each hour of it that a session looks at.
    Play,
    Still,
    /// Footage was handed out as a file.
    Export,
    /// The audit log itself was read.
    ReadAudit,
    /// A request that was refused before anybody looked at what it wants.
    Request,
}

impl Action {
    /// Footage, or what is known of people, leaves the server: nothing of it does before that is written down.
    pub const fn is_look(self) -> bool {
        matches!(self, Action::Play | Action::Still | Action::Export | Action::ReadAudit)
    }

    /// Asked for again and again by one who looks: a player asks every few seconds, a page every minute.
    pub const fn is_repeated(self) -> bool {
        matches!(self, Action::Play | Action::Still | Action::ReadAudit)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Action::LogIn => "log in",
            Action::LogOut => "log out",
            Action::AddUser => "add user",
            Action::ChangeRole => "change role",
            Action::ChangePassword => "change password",
            Action::RemoveUser => "remove user",
            Action::AddToken => "add token",
            Action::RemoveToken => "remove token",
            Action::Pull => "pull",
            Action::CancelJob => "cancel job",
            Action::CancelRun => "cancel run",
            Action::PutPolicy => "put policy",
            Action::RemovePolicy => "remove policy",
            Action::Play => "play",
            Action::Still => "still",
            Action::Export => "export",
            Action::ReadAudit => "read audit",
            Action::Request => "request",
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Done,
    /// The caller may not, or has not shown that it may.
    Refused,
    /// It may, but it could not be done.
    Failed,
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Outcome::Done => "done",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
        })
    }
}

/// What it was done to. A handler puts it into the extensions of its answer where the request's path and query do not
/// tell it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Subject {
    pub device: Option<DeviceId>,
    pub stream: Option<StreamId>,
    pub range: Option<TimeRange>,
    /// A job's id, a policy's or a user's name.
    pub name: Option<String>,
}

impl Subject {
    pub fn named(name: impl fmt::Display) -> Subject {
        Subject { name: Some(name.to_string()), ..Subject::default() }
    }

    /// What this does not say, as `other` says it.
    pub(super) fn or(self, other: Subject) -> Subject {
        Subject {
            device: self.device.or(other.device),
            stream: self.stream.or(other.stream),
            range: self.range.or(other.range),
            name: self.name.or(other.name),
        }
    }
}

/// One line of the log, as the ledger keeps it and the API shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Later entries have higher ones.
    pub id: i64,
    #[serde(with = "rfc3339")]
    #[schema(value_type = Instant)]
    pub at: Timestamp,
    /// Of the user or token; what was typed, where a log-in failed.
    pub who: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    pub way: Way,
    /// Address, or `socket`.
    pub from: String,
    pub action: Action,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub device: Option<DeviceId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub stream: Option<StreamId>,
    /// Of the footage.
    #[serde(rename = "footage_from", default, with = "rfc3339::optional")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Instant>)]
    pub range_from: Option<Timestamp>,
    #[serde(rename = "footage_to", default, with = "rfc3339::optional")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Instant>)]
    pub range_to: Option<Timestamp>,
    /// A job's id, a policy's or a user's name, the path of a refused request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    pub outcome: Outcome,
    /// Why it was refused or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What is to be written down, before it has its number and time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    pub who: String,
    pub role: Option<Role>,
    pub way: Way,
    pub from: String,
    pub action: Action,
    pub subject: Subject,
    pub outcome: Outcome,
    pub reason: Option<String>,
}

impl Note {
    pub(super) fn numbered(self, id: i64, at: Timestamp) -> AuditEntry {
        let Note { who, role, way, from, action, subject, outcome, reason } = self;
        let short = |text: String| text.chars().take(MOST_TEXT).collect::<String>();
        AuditEntry {
            id,
            at,
            who: short(who),
            role,
            way,
            from: short(from),
            action,
            device: subject.device,
            stream: subject.stream,
            range_from: subject.range.map(|range| range.start()),
            range_to: subject.range.map(|range| range.end()),
            subject: subject.name.map(short),
            outcome,
            reason: reason.map(short),
        }
    }
}

/// Which entries to show: the newest first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AuditQuery {
    /// Only older ones than this.
    pub before: Option<i64>,
    pub most: usize,
    pub who: Option<String>,
    pub device: Option<DeviceId>,
}

/// What of a log that is kept may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prune {
    pub older_than: Timestamp,
    pub most_deeds: u32,
    pub most_refusals: u32,
}

/// Which looks are written down already. Pure.
#[derive(Debug, Default)]
pub(super) struct Looks {
    known: HashSet<LookKey>,
    order: VecDeque<LookKey>,
}

/// One hour of footage that somebody looks at.
pub(super) type LookKey = [u8; 16];

impl Looks {
    /// What of this is not written down yet: to be [remembered](Looks::remember) once it is.
    pub fn unwritten(
        &self,
        viewer: &Viewer,
        action: Action,
        subject: &Subject,
        now: Timestamp,
    ) -> Vec<LookKey> {
        let hour = |instant: Timestamp| instant.as_nanos().div_euclid(HOUR.as_nanos() as i64);
        let hours = subject.range.map(|range| {
            let last = range.end().saturating_offset(-1).max(range.start());
            (hour(range.start()), hour(last))
        });
        let (first, last) = hours.unwrap_or((0, 0));
        // However long a viewer stays, it is written down at least once a day.
        let day = hour(now).div_euclid(24);
        let key = |hour: i64| {
            let place = (&subject.device, &subject.stream, hour);
            let viewer = (viewer, viewer.session_bytes());
            let text = format!("{viewer:?} {action:?} {place:?} {day}");
            let mut key = LookKey::default();
            blake3::Hasher::new().update(text.as_bytes()).finalize_xof().fill(&mut key);
            key
        };
        let hours = first..=last.min(first.saturating_add(MOST_HOURS));
        hours.map(key).filter(|key| !self.known.contains(key)).collect()
    }

    pub fn remember(&mut self, keys: Vec<LookKey>) {
        for key in keys {
            if !self.known.insert(key) {
                continue;
            }
            self.order.push_back(key);
            if self.order.len() > MOST_LOOKS
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
    }
}

/// How many refusals are written down. Pure.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    hour: i64,
    of_all: u32,
    of_one: HashMap<String, u32>,
    /// Refused and not written down, since the server started.
    pub unwritten: u64,
}

impl Refusals {
    pub fn may_write(&mut self, from: &str, now: Timestamp) -> bool {
        let hour = now.as_nanos().div_euclid(HOUR.as_nanos() as i64);
        if hour != self.hour {
            *self = Refusals { hour, unwritten: self.unwritten, ..Refusals::default() };
        }
        let of_one = self.of_one.get(from).copied().unwrap_or(0);
        if of_one >= MOST_REFUSALS_OF_ONE || self.of_all >= MOST_REFUSALS_OF_ALL {
            self.unwritten += 1;
            return false;
        }
        self.of_all += 1;
        self.of_one.insert(from.to_owned(), of_one + 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::tests::caller;
    use crate::examples::{at, key, seconds};

    fn look(start: i64, end: i64) -> Subject {
        let key = key();
        Subject {
            device: Some(key.device),
            stream: Some(key.stream),
            range: Some(seconds(start, end)),
            name: None,
        }
    }

    #[tokio::test]
    async fn a_player_is_written_down_once_for_each_hour_of_footage() {
        let anna = caller("anna", Role::View, Way::Token).await.viewer();
        let ben = caller("ben", Role::View, Way::Token).await.viewer();
        let mut looks = Looks::default();
        let mut is_new = |viewer, action, (start, end), now| {
            let keys = looks.unwritten(viewer, action, &look(start, end), at(now));
            let is_new = !keys.is_empty();
            looks.remember(keys);
            is_new
        };
        assert!(is_new(&anna, Action::Play, (0, 5_000), 50_000));
        assert!(!is_new(&anna, Action::Play, (10, 16), 50_000));
        assert!(!is_new(&anna, Action::Play, (3_600, 7_200), 50_000));
        assert!(is_new(&anna, Action::Play, (7_199, 7_201), 50_000));
        assert!(is_new(&anna, Action::Still, (10, 16), 50_000));
        assert!(is_new(&ben, Action::Play, (10, 16), 50_000));
        assert!(is_new(&anna, Action::Play, (10, 16), 200_000));
    }

    #[tokio::test]
    async fn what_is_remembered_of_looks_has_a_cap() {
        let anna = caller("anna", Role::View, Way::Token).await.viewer();
        let mut looks = Looks::default();
        for hour in 0..30_000 {
            let subject = look(hour * 3_600, hour * 3_600 + 1);
            let keys = looks.unwritten(&anna, Action::Play, &subject, at(0));
            assert_eq!(keys.len(), 1);
            looks.remember(keys);
        }
        assert_eq!((looks.known.len(), looks.order.len()), (MOST_LOOKS, MOST_LOOKS));
    }

    #[test]
    fn refusals_of_one_address_do_not_fill_the_log() {
        let mut refusals = Refusals::default();
        let written = (0..1_000).filter(|_| refusals.may_write("192.0.2.1", at(10))).count();
        assert_eq!((written, refusals.unwritten), (60, 940));
        assert!(refusals.may_write("192.0.2.2", at(10)));
        let of_many = (0..10_000).filter(|n| refusals.may_write(&n.to_string(), at(10))).count();
        assert_eq!(of_many, 2_000 - 61);
        assert!(refusals.may_write("192.0.2.1", at(3_700)));
    }

    #[test]
    fn texts_that_a_caller_chose_are_cut() {
        let note = Note {
            who: "x".repeat(10_000),
            role: None,
            way: Way::Unknown,
            from: "192.0.2.1".into(),
            action: Action::LogIn,
            subject: Subject::named("y".repeat(10_000)),
            outcome: Outcome::Refused,
            reason: None,
        };
        let entry = note.numbered(1, at(5));
        assert_eq!((entry.who.len(), entry.subject.unwrap().len()), (MOST_TEXT, MOST_TEXT));
    }
}
