//! Tokens: how programs show who they are. Each has a role of its own, and can be taken back by itself.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use sdcard_indexer::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Role;
use super::secret::SecretDigest;
use super::users::{AccountError, AccountName, MOST_ACCOUNTS};
use crate::rfc3339;

/// What every token begins with.
pub const TOKEN_PREFIX: &str = "gpl_";
/// Its last use is written down no more often than this.
const USE_NOTED_EVERY: Duration = Duration::from_secs(3_600);

/// As the ledger keeps one: the token itself is shown once, and known to its bearer alone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Token {
    pub name: AccountName,
    pub role: Role,
    pub digest: [u8; 32],
    #[serde(with = "rfc3339")]
    pub created: Timestamp,
    pub created_by: String,
    #[serde(with = "rfc3339::optional")]
    pub expires: Option<Timestamp>,
    /// To within an hour.
    #[serde(with = "rfc3339::optional")]
    pub last_used: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenRefused {
    #[error("the token is not known: it was removed, or never was one")]
    Unknown,
    #[error("the token `{name}` has expired at {at}: ask an admin for another one")]
    Expired { name: AccountName, at: Timestamp },
}

#[derive(Clone, Debug, Default)]
pub struct Tokens {
    by_name: BTreeMap<AccountName, Token>,
    by_digest: HashMap<SecretDigest, AccountName>,
}

impl Tokens {
    pub fn new(tokens: impl IntoIterator<Item = Token>) -> Tokens {
        let mut all = Tokens::default();
        for token in tokens {
            all.put(token);
        }
        all
    }

    /// By name.
    pub fn iter(&self) -> impl Iterator<Item = &Token> {
        self.by_name.values()
    }

    /// Whose this is. Looked up by its digest: how long that takes tells nothing of the token.
    pub fn find(&self, offered: &str, now: Timestamp) -> Result<&Token, TokenRefused> {
        let name = self.by_digest.get(&SecretDigest::of(offered)).ok_or(TokenRefused::Unknown)?;
        let token = self.by_name.get(name).ok_or(TokenRefused::Unknown)?;
        match token.expires {
            Some(at) if at <= now => Err(TokenRefused::Expired { name: name.clone(), at }),
            _ => Ok(token),
        }
    }

    /// Whether it is still good.
    pub fn is_valid(&self, name: &str, now: Timestamp) -> bool {
        let named = name.parse().ok().and_then(|name: AccountName| self.by_name.get(&name));
        named.is_some_and(|token| token.expires.is_none_or(|at| at > now))
    }

    /// The token with its new last use, where that is to be written down.
    pub fn note_use(&mut self, name: &AccountName, now: Timestamp) -> Option<Token> {
        let token = self.by_name.get_mut(name)?;
        match token.last_used {
            Some(last) if now.distance(last) < USE_NOTED_EVERY => None,
            _ => {
                token.last_used = Some(now);
                Some(token.clone())
            }
        }
    }

    pub fn may_add(
        &self,
        name: &AccountName,
        expires: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), AccountError> {
        match (self.by_name.len(), expires) {
            _ if self.by_name.contains_key(name) => {
                Err(AccountError::Taken { kind: "token", name: name.clone() })
            }
            (MOST_ACCOUNTS.., _) => Err(AccountError::TooMany),
            (_, Some(at)) if at <= now => Err(AccountError::Expired(at)),
            _ => Ok(()),
        }
    }

    pub fn known(&self, name: &AccountName) -> Result<&Token, AccountError> {
        let unknown = || AccountError::Unknown { kind: "token", name: name.clone() };
        self.by_name.get(name).ok_or_else(unknown)
    }

    pub fn put(&mut self, token: Token) {
        self.remove(&token.name.clone());
        self.by_digest.insert(SecretDigest(token.digest), token.name.clone());
        self.by_name.insert(token.name.clone(), token);
    }

    pub fn remove(&mut self, name: &AccountName) {
        if let Some(token) = self.by_name.remove(name) {
            self.by_digest.remove(&SecretDigest(token.digest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::secret::Secret;
    use crate::examples::at;

    fn token(name: &str, secret: &Secret, expires: Option<Timestamp>) -> Token {
        Token {
            name: name.parse().unwrap(),
            role: Role::View,
            digest: secret.digest().0,
            created: at(0),
            created_by: "admin".into(),
            expires,
            last_used: None,
        }
    }

    #[test]
    fn a_token_is_known_by_itself_until_it_expires_or_is_removed() {
        let (nvr, wall) = (Secret::draw(TOKEN_PREFIX), Secret::draw(TOKEN_PREFIX));
        let mut tokens =
            Tokens::new([token("nvr", &nvr, None), token("wall", &wall, Some(at(100)))]);
        assert_eq!(tokens.find(wall.reveal(), at(99)).unwrap().name.as_str(), "wall");
        let expired = tokens.find(wall.reveal(), at(100)).unwrap_err();
        assert_eq!(expired, TokenRefused::Expired { name: "wall".parse().unwrap(), at: at(100) });
        assert_eq!(tokens.find("gpl_", at(0)).unwrap_err(), TokenRefused::Unknown);
        assert_eq!(tokens.find(nvr.reveal(), at(1_000)).unwrap().name.as_str(), "nvr");
        tokens.remove(&"nvr".parse().unwrap());
        assert_eq!(tokens.find(nvr.reveal(), at(1_000)).unwrap_err(), TokenRefused::Unknown);
    }

    #[test]
    fn the_last_use_is_noted_once_an_hour() {
        let secret = Secret::draw(TOKEN_PREFIX);
        let mut tokens = Tokens::new([token("nvr", &secret, None)]);
        let nvr = "nvr".parse().unwrap();
        assert_eq!(tokens.note_use(&nvr, at(10)).unwrap().last_used, Some(at(10)));
        assert_eq!(tokens.note_use(&nvr, at(3_609)), None);
        assert_eq!(tokens.note_use(&nvr, at(3_610)).unwrap().last_used, Some(at(3_610)));
    }

    #[test]
    fn a_token_that_could_never_be_used_is_refused() {
        let tokens = Tokens::new([token("nvr", &Secret::draw(TOKEN_PREFIX), None)]);
        let refused = tokens.may_add(&"wall".parse().unwrap(), Some(at(5)), at(5)).unwrap_err();
        assert!(matches!(refused, AccountError::Expired(_)), "{refused}");
        let taken = tokens.may_add(&"nvr".parse().unwrap(), None, at(5)).unwrap_err();
        assert!(matches!(taken, AccountError::Taken { .. }), "{taken}");
        tokens.may_add(&"wall".parse().unwrap(), Some(at(6)), at(5)).unwrap();
    }
}
