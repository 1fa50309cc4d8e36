//! Access: who may ask this server what, and what is written down of it.
//!
//! [`Access`] is the one handle: it holds users, tokens and sessions, and writes the audit log. Its rules are pure and
//! lie in rooms of their own, told the time: [`role`](Role), `users`, `tokens`, `sessions`, `attempts`, `peer`,
//! `audit`. [`identify`](identify::identify) puts a [`Caller`] to each request that came over TCP, [`require`] refuses
//! those that may not, [`audited`] writes down what is done; the Unix socket's callers are the server's own.
//!
//! What must never happen: a secret kept as it is; an answer with footage in it before that is written down; a caller
//! believed because of what a header says, unless a trusted proxy says it; a route below `/api/` that answers
//! somebody unknown because it forgot to ask who that is.

mod accounts;
mod attempts;
mod audit;
mod caller;
mod gate;
pub mod identify;
mod log_in;
mod password;
mod peer;
mod role;
mod secret;
mod sessions;
mod tokens;
mod users;

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

pub use accounts::{FirstAdmin, NewToken, NewUser};
pub use audit::{Action, AuditEntry, AuditQuery, Note, Outcome, Prune, Subject};
pub use caller::{Caller, Way};
pub use gate::{AuditedLayer, RequireLayer, audited, require};
pub use log_in::{LogInRefused, LoggedIn};
pub use password::PasswordError;
pub use peer::{Approach, Peer};
pub use role::{Role, UnknownRole};
pub use secret::{Confidential, Secret};
pub use sessions::{IDLE, LONGEST};
pub use tokens::{TOKEN_PREFIX, Token};
pub use users::{AccountError, AccountName, MOST_ACCOUNTS, User};

use attempts::Attempts;
use audit::{Looks, MOST_DEEDS, MOST_REFUSALS, PRUNED_EVERY, Refusals};
use sessions::Sessions;
use tokens::Tokens;
use users::Users;

use crate::ledger::{Entry, Ledger, LedgerError};
use crate::time::Clock;

/// Passwords that are hashed at once: each takes a core and 19 MiB.
const MOST_HASHED: usize = 2;
/// So long a log-in waits for its turn.
const TURN: Duration = Duration::from_secs(10);

/// What the configuration says of callers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// What callers on this machine may that do not say who they are; none: nothing.
    pub anonymous: Option<Role>,
    /// How long entries of the audit log are kept.
    pub audit_kept: Duration,
}

/// See the module. Clones are the same one.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    settings: Settings,
    state: Mutex<State>,
    /// Held while accounts change, from the look at the rules to the change in memory.
    changing: tokio::sync::Mutex<()>,
    hashing: Semaphore,
    last_entry: AtomicI64,
}

#[derive(Debug, Default)]
struct State {
    users: Users,
    tokens: Tokens,
    sessions: Sessions,
    attempts: Attempts,
    looks: Looks,
    refusals: Refusals,
}

impl fmt::Debug for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Access").finish_non_exhaustive()
    }
}

impl Access {
    /// Takes up what the ledger keeps of accounts.
    pub async fn open(
        ledger: Arc<dyn Ledger>,
        clock: Clock,
        settings: Settings,
    ) -> Result<Access, LedgerError> {
        let state = State {
            users: Users::new(ledger.users().await?),
            tokens: Tokens::new(ledger.tokens().await?),
            ..State::default()
        };
        let last_entry = AtomicI64::new(ledger.last_audit_entry().await?);
        Ok(Access(Arc::new(Inner {
            ledger,
            clock,
            settings,
            state: Mutex::new(state),
            changing: tokio::sync::Mutex::new(()),
            hashing: Semaphore::new(MOST_HASHED),
            last_entry,
        })))
    }

    /// No step under this lock can fail half way: what it guards stays true even where a thread dies.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether whoever was let in once would be let in now: what is given out without end is given out so long.
    pub fn still_knows(&self, caller: &Caller) -> bool {
        let (now, state) = (self.0.clock.now(), self.state());
        match (caller.way, &caller.session) {
            (Way::Session, Some(session)) => state.sessions.is_open(session.key, now.monotonic),
            (Way::Token, _) => state.tokens.is_valid(&caller.name, now.wall),
            (Way::Socket | Way::Anonymous, _) => true,
            (Way::Session | Way::Unknown, _) => false,
        }
    }

    /// Refusals since the server started that were too many to be written down.
    pub fn unwritten_refusals(&self) -> u64 {
        self.state().refusals.unwritten
    }

    /// The newest entries of the audit log.
    pub async fn audit_log(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>, LedgerError> {
        self.0.ledger.audit(query).await
    }

    /// Writes down what was done, or tried; it is durable on return.
    pub async fn note(&self, note: Note) -> Result<(), LedgerError> {
        let now = self.0.clock.now().wall;
        if note.outcome == Outcome::Refused && !self.state().refusals.may_write(&note.from, now) {
            return Ok(());
        }
        let id = self.0.last_entry.fetch_add(1, Ordering::Relaxed) + 1;
        let mut entries = vec![Entry::Audit(Box::new(note.numbered(id, now)))];
        if id % PRUNED_EVERY == 0 {
            entries.push(Entry::PruneAudit(Prune {
                older_than: now.saturating_sub(self.0.settings.audit_kept),
                most_deeds: MOST_DEEDS,
                most_refusals: MOST_REFUSALS,
            }));
        }
        self.0.ledger.record(&entries).await
    }

    /// What a caller has done, or tried. What is only a repeated look is not written down again.
    pub async fn note_of(
        &self,
        caller: &Caller,
        action: Action,
        subject: Subject,
        (outcome, reason): (Outcome, Option<String>),
    ) -> Result<(), LedgerError> {
        let now = self.0.clock.now().wall;
        let is_repeated = action.is_repeated() && outcome == Outcome::Done;
        let looks = match is_repeated {
            true => self.state().looks.unwritten(&caller.viewer(), action, &subject, now),
            false => Vec::new(),
        };
        if is_repeated && looks.is_empty() {
            return Ok(());
        }
        let note = Note {
            who: caller.name.clone(),
            role: Some(caller.role),
            way: caller.way,
            from: caller.from.clone(),
            action,
            subject,
            outcome,
            reason,
        };
        self.note(note).await?;
        self.state().looks.remember(looks);
        Ok(())
    }

    /// For what cannot be undone any more: the deed stands, and that it could not be written down is logged.
    pub(crate) async fn note_or_log(&self, note: Note) {
        let text = format!("{} {} by {} from {}", note.action, note.outcome, note.who, note.from);
        if let Err(error) = self.note(note).await {
            let error = sdcard_indexer::readable::explain(&error);
            tracing::error!(error, what = text, "the audit log lacks an entry");
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
