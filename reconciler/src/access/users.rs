//! Users: who they are, and the rules by which they come and go. A table in memory; the ledger keeps it.

use std::collections::BTreeMap;

use sdcard_indexer::id_type;
use sdcard_indexer::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Role;
use super::password::PasswordError;
use crate::ledger::LedgerError;
use crate::rfc3339;

/// Users, and tokens, that there can be at one time.
pub const MOST_ACCOUNTS: usize = 1_000;

id_type! {
    /// A user's or a token's name: 1 to 64 of `A-Z a-z 0-9 _ -`.
    AccountName
}

/// As the ledger keeps one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct User {
    pub name: AccountName,
    pub role: Role,
    /// See `password`.
    pub password_hash: String,
    #[serde(with = "rfc3339")]
    pub created: Timestamp,
}

/// Why an account cannot be made, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error("there is a {kind} `{name}` already: use another name")]
    Taken { kind: &'static str, name: AccountName },
    #[error("there is no {kind} `{name}`; `gapless {kind} list` tells which there are")]
    Unknown { kind: &'static str, name: AccountName },
    #[error("there are {MOST_ACCOUNTS} of this kind already: remove some that nobody needs")]
    TooMany,
    #[error("`{0}` is the only admin: make another user one first")]
    LastAdmin(AccountName),
    #[error("a token that expires at {0} would never be valid: that is over")]
    Expired(Timestamp),
    #[error("only users have a password, and you are none: `gapless user password NAME` sets one")]
    NoUser,
    #[error("the present password is not that: nothing was changed")]
    WrongPassword,
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("too many passwords are looked at just now: try again in a moment")]
    Busy,
}

#[derive(Clone, Debug, Default)]
pub struct Users(BTreeMap<AccountName, User>);

impl Users {
    pub fn new(users: impl IntoIterator<Item = User>) -> Users {
        Users(users.into_iter().map(|user| (user.name.clone(), user)).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// By name.
    pub fn iter(&self) -> impl Iterator<Item = &User> {
        self.0.values()
    }

    pub fn get(&self, name: &AccountName) -> Option<&User> {
        self.0.get(name)
    }

    pub fn known(&self, name: &AccountName) -> Result<&User, AccountError> {
        self.get(name).ok_or_else(|| AccountError::Unknown { kind: "user", name: name.clone() })
    }

    pub fn may_add(&self, name: &AccountName) -> Result<(), AccountError> {
        match self.0.len() {
            _ if self.0.contains_key(name) => {
                Err(AccountError::Taken { kind: "user", name: name.clone() })
            }
            MOST_ACCOUNTS.. => Err(AccountError::TooMany),
            _ => Ok(()),
        }
    }

    /// Somebody must be left who can say who may do what.
    pub fn may_remove(&self, name: &AccountName) -> Result<&User, AccountError> {
        let user = self.known(name)?;
        let admins = self.0.values().filter(|user| user.role == Role::Admin);
        match admins.take(2).count() {
            1 if user.role == Role::Admin => Err(AccountError::LastAdmin(name.clone())),
            _ => Ok(user),
        }
    }

    pub fn may_have_role(&self, name: &AccountName, role: Role) -> Result<&User, AccountError> {
        if role == Role::Admin { self.known(name) } else { self.may_remove(name) }
    }

    pub fn put(&mut self, user: User) {
        self.0.insert(user.name.clone(), user);
    }

    pub fn remove(&mut self, name: &AccountName) {
        self.0.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::at;

    fn name(text: &str) -> AccountName {
        text.parse().unwrap()
    }

    fn user(text: &str, role: Role) -> User {
        User { name: name(text), role, password_hash: String::new(), created: at(0) }
    }

    #[test]
    fn the_last_admin_stays_one() {
        let mut users = Users::new([user("admin", Role::Admin), user("anna", Role::View)]);
        let refused = users.may_remove(&name("admin")).unwrap_err();
        assert!(matches!(refused, AccountError::LastAdmin(_)), "{refused}");
        users.may_have_role(&name("admin"), Role::Pull).unwrap_err();
        users.may_have_role(&name("admin"), Role::Admin).unwrap();
        users.may_remove(&name("anna")).unwrap();
        users.put(user("anna", Role::Admin));
        users.may_remove(&name("admin")).unwrap();
        users.may_have_role(&name("admin"), Role::View).unwrap();
    }

    #[test]
    fn a_name_is_given_once_and_no_more_than_the_cap_are_given() {
        let mut users = Users::new([user("admin", Role::Admin)]);
        let taken = users.may_add(&name("admin")).unwrap_err();
        assert!(matches!(taken, AccountError::Taken { .. }), "{taken}");
        for number in 1..MOST_ACCOUNTS {
            let next = format!("u{number}");
            users.may_add(&name(&next)).unwrap();
            users.put(user(&next, Role::View));
        }
        let full = users.may_add(&name("more")).unwrap_err();
        assert!(matches!(full, AccountError::TooMany), "{full}");
        let unknown = users.known(&name("more")).unwrap_err().to_string();
        assert!(unknown.contains("`more`"), "{unknown}");
    }
}
