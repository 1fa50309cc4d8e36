//! Logging in and out.

use std::net::IpAddr;
use std::time::Duration;

use super::caller::{OpenSession, Way};
use super::users::{AccountError, AccountName, User};
use super::{Access, Caller, Confidential, Secret, password};

/// Somebody who has just logged in.
#[derive(Debug)]
pub struct LoggedIn {
    /// For the cookie.
    pub id: Secret,
    pub caller: Caller,
}

#[derive(Debug, thiserror::Error)]
pub enum LogInRefused {
    /// Which of the two is wrong is nobody's business.
    #[error(
        "name or password is wrong; an admin can set another one with `gapless user password NAME`"
    )]
    Wrong,
    #[error("too many log-ins have failed: try again in {} s", .0.as_secs().max(1))]
    Wait(Duration),
    #[error(transparent)]
    Account(#[from] AccountError),
}

impl Access {
    pub async fn log_in(
        &self,
        typed: &str,
        Confidential(password): Confidential,
        from: IpAddr,
    ) -> Result<LoggedIn, LogInRefused> {
        let now = self.0.clock.now().monotonic;
        // Longer than any user's name is the same one.
        let tried: String = typed.chars().take(64).collect();
        self.state().attempts.begin(&tried, from, now).map_err(LogInRefused::Wait)?;
        let name: Option<AccountName> = typed.parse().ok();
        let known: Option<User> =
            name.as_ref().and_then(|name| self.state().users.get(name).cloned());
        let hash = known.as_ref().map_or(password::NOBODYS, |user| user.password_hash.as_str());
        let hash = hash.to_owned();
        let is_right = self.hashing(move || password::is_right(&password, &hash)).await?;
        let Some(user) = known.filter(|_| is_right) else { return Err(LogInRefused::Wrong) };
        let mut state = self.state();
        // While the password was hashed, it may have been changed, or the user removed.
        if state.users.get(&user.name) != Some(&user) {
            return Err(LogInRefused::Wrong);
        }
        state.attempts.succeeded(&tried, from);
        let (id, session) = state.sessions.open(user.name.clone(), self.0.clock.now().monotonic);
        let session = OpenSession { key: id.digest(), csrf: session.csrf };
        let caller = Caller {
            name: user.name.to_string(),
            role: user.role,
            way: Way::Session,
            from: from.to_string(),
            session: Some(session),
            access: self.clone(),
        };
        Ok(LoggedIn { id, caller })
    }

    /// False for one who never logged in.
    pub fn log_out(&self, caller: &Caller) -> bool {
        match &caller.session {
            Some(session) => {
                self.state().sessions.close(session.key);
                true
            }
            None => false,
        }
    }

    /// Who a session's cookie says its bearer is. The user's role is looked up now: it may have changed.
    pub(super) fn of_session(&self, id: &str, from: IpAddr) -> Option<Caller> {
        let now = self.0.clock.now().monotonic;
        let mut state = self.state();
        let (key, session) = state.sessions.find(id, now)?;
        let user = state.users.get(&session.user)?;
        Some(Caller {
            name: user.name.to_string(),
            role: user.role,
            way: Way::Session,
            from: from.to_string(),
            session: Some(OpenSession { key, csrf: session.csrf }),
            access: self.clone(),
        })
    }
}
