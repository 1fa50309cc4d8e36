//! How users and tokens come, change and go: the rules first, then the ledger, then memory.

use sdcard_indexer::time::Timestamp;

use super::tokens::{TOKEN_PREFIX, Token};
use super::users::{AccountError, AccountName, User};
use super::{Access, Caller, Confidential, Role, Secret, TURN, password};
use crate::ledger::Entry;

/// A user that was just made.
#[derive(Debug)]
pub struct NewUser {
    pub user: User,
    /// Where nobody chose one: it is told now or never.
    pub password: Option<Confidential>,
}

/// A token that was just made: it is told now or never.
#[derive(Debug)]
pub struct NewToken {
    pub token: Token,
    pub secret: Secret,
}

/// The user that a server makes which has none.
#[derive(Debug)]
pub struct FirstAdmin {
    pub name: AccountName,
    pub password: Confidential,
}

const FIRST_NAME: &str = "admin";

impl Access {
    /// Where there is no user yet, makes one, so that somebody can log in.
    pub async fn first_admin(&self) -> Result<Option<FirstAdmin>, AccountError> {
        if !self.state().users.is_empty() {
            return Ok(None);
        }
        let name: AccountName = FIRST_NAME.parse().expect("a valid name");
        let NewUser { password, .. } = self.add_user(name.clone(), Role::Admin, None).await?;
        Ok(password.map(|password| FirstAdmin { name, password }))
    }

    pub fn users(&self) -> Vec<User> {
        self.state().users.iter().cloned().collect()
    }

    pub fn tokens(&self) -> Vec<Token> {
        self.state().tokens.iter().cloned().collect()
    }

    /// Without a password, one is generated.
    pub async fn add_user(
        &self,
        name: AccountName,
        role: Role,
        chosen: Option<Confidential>,
    ) -> Result<NewUser, AccountError> {
        let _changing = self.0.changing.lock().await;
        self.state().users.may_add(&name)?;
        let (password_hash, password) = self.hash_new(&name, chosen).await?;
        let user = User { name, role, password_hash, created: self.0.clock.now().wall };
        self.0.ledger.record(&[Entry::User(user.clone())]).await?;
        self.state().users.put(user.clone());
        Ok(NewUser { user, password })
    }

    /// It counts from the user's next request on.
    pub async fn change_role(&self, name: &AccountName, role: Role) -> Result<User, AccountError> {
        let _changing = self.0.changing.lock().await;
        let user = User { role, ..self.state().users.may_have_role(name, role)?.clone() };
        self.0.ledger.record(&[Entry::User(user.clone())]).await?;
        self.state().users.put(user.clone());
        Ok(user)
    }

    /// Logs the user out everywhere. Without a password, one is generated, and answered.
    pub async fn set_password(
        &self,
        name: &AccountName,
        chosen: Option<Confidential>,
    ) -> Result<NewUser, AccountError> {
        let _changing = self.0.changing.lock().await;
        self.state().users.known(name)?;
        let (password_hash, password) = self.hash_new(name, chosen).await?;
        let user = User { password_hash, ..self.state().users.known(name)?.clone() };
        self.0.ledger.record(&[Entry::User(user.clone())]).await?;
        let mut state = self.state();
        state.users.put(user.clone());
        state.sessions.close_all_of(name, None);
        Ok(NewUser { user, password })
    }

    /// A user's own: who does not know the present one is somebody who found a browser open. It logs the user out
    /// everywhere else.
    pub async fn change_own_password(
        &self,
        caller: &Caller,
        Confidential(present): Confidential,
        new: Confidential,
    ) -> Result<(), AccountError> {
        let Some(session) = &caller.session else { return Err(AccountError::NoUser) };
        let name: AccountName = caller.name.parse().map_err(|_| AccountError::NoUser)?;
        let _changing = self.0.changing.lock().await;
        let user = self.state().users.known(&name)?.clone();
        let hash = user.password_hash.clone();
        if !self.hashing(move || password::is_right(&present, &hash)).await? {
            return Err(AccountError::WrongPassword);
        }
        let (password_hash, _) = self.hash_new(&name, Some(new)).await?;
        let user = User { password_hash, ..user };
        self.0.ledger.record(&[Entry::User(user.clone())]).await?;
        let mut state = self.state();
        state.users.put(user);
        state.sessions.close_all_of(&name, Some(session.key));
        Ok(())
    }

    /// And logs the user out everywhere.
    pub async fn remove_user(&self, name: &AccountName) -> Result<User, AccountError> {
        let _changing = self.0.changing.lock().await;
        let user = self.state().users.may_remove(name)?.clone();
        self.0.ledger.record(&[Entry::ForgetUser(name.clone())]).await?;
        let mut state = self.state();
        state.users.remove(name);
        state.sessions.close_all_of(name, None);
        Ok(user)
    }

    pub async fn add_token(
        &self,
        name: AccountName,
        role: Role,
        expires: Option<Timestamp>,
        created_by: String,
    ) -> Result<NewToken, AccountError> {
        let _changing = self.0.changing.lock().await;
        let now = self.0.clock.now().wall;
        self.state().tokens.may_add(&name, expires, now)?;
        let secret = Secret::draw(TOKEN_PREFIX);
        let digest = secret.digest().0;
        let token =
            Token { name, role, digest, created: now, created_by, expires, last_used: None };
        self.0.ledger.record(&[Entry::Token(token.clone())]).await?;
        self.state().tokens.put(token.clone());
        Ok(NewToken { token, secret })
    }

    /// Nobody who has it may anything from then on.
    pub async fn remove_token(&self, name: &AccountName) -> Result<Token, AccountError> {
        let _changing = self.0.changing.lock().await;
        let token = self.state().tokens.known(name)?.clone();
        self.0.ledger.record(&[Entry::ForgetToken(name.clone())]).await?;
        self.state().tokens.remove(name);
        Ok(token)
    }

    /// When it was last used. That this is not written down is no reason to refuse anybody.
    pub(super) async fn note_token_use(&self, name: &AccountName) {
        let now = self.0.clock.now().wall;
        let noted = self.state().tokens.note_use(name, now);
        if let Some(token) = noted {
            // A token that is removed at this moment must not come back.
            let _changing = self.0.changing.lock().await;
            if self.state().tokens.known(name).is_ok()
                && let Err(error) = self.0.ledger.record(&[Entry::Token(token)]).await
            {
                tracing::warn!(%error, token = %name, "its last use is not written down");
            }
        }
    }

    /// A hash, and the password where it was generated.
    async fn hash_new(
        &self,
        name: &AccountName,
        chosen: Option<Confidential>,
    ) -> Result<(String, Option<Confidential>), AccountError> {
        let (Confidential(password), generated) = match chosen {
            Some(chosen) => (chosen, None),
            None => {
                let generated = Confidential(password::generate());
                (generated.clone(), Some(generated))
            }
        };
        password::check(name.as_str(), &password)?;
        let hash = self.hashing(move || password::hash(&password)).await??;
        Ok((hash, generated))
    }

    /// Runs what is slow on purpose where it holds up nobody, a few at a time.
    pub(super) async fn hashing<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AccountError> {
        let turn = tokio::time::timeout(TURN, self.0.hashing.acquire()).await;
        let _turn = turn.map_err(|_| AccountError::Busy)?.map_err(|_| AccountError::Busy)?;
        tokio::task::spawn_blocking(work).await.map_err(|_| AccountError::Busy)
    }
}
