//! What only its bearer knows: 256 random bits, shown once, of which no more than a digest is kept.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A password, or another text of a request or an answer that no log may show.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Confidential(pub String);

impl fmt::Debug for Confidential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Confidential")
    }
}

/// BLAKE3 of a secret. Of 256 random bits no slow hash is needed: nobody can try them all.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretDigest(pub [u8; 32]);

impl SecretDigest {
    pub fn of(secret: &str) -> SecretDigest {
        SecretDigest(*blake3::hash(secret.as_bytes()).as_bytes())
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretDigest")
    }
}

/// A new secret, on its way to its bearer. Nothing prints it by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// 256 random bits in hexadecimal, behind a word by which scanners for leaked secrets know it.
    pub fn draw(prefix: &str) -> Secret {
        let bits = blake3::Hash::from_bytes(rand::random());
        Secret(format!("{prefix}{}", bits.to_hex()))
    }

    pub fn digest(&self) -> SecretDigest {
        SecretDigest::of(&self.0)
    }

    /// In time that tells nothing of where the two differ.
    pub fn is(&self, offered: &str) -> bool {
        blake3::hash(self.0.as_bytes()) == blake3::hash(offered.as_bytes())
    }

    /// For whoever it was made for.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_secrets_are_the_same_and_none_is_printed() {
        let (one, other) = (Secret::draw("gpl_"), Secret::draw("gpl_"));
        assert_ne!(one.reveal(), other.reveal());
        assert_eq!(one.reveal().len(), "gpl_".len() + 64);
        assert!(one.is(one.reveal()) && !one.is(other.reveal()) && !one.is(""));
        let printed = format!("{one:?} {:?}", one.digest());
        assert!(!printed.contains(&one.reveal()[8..16]), "{printed}");
    }
}
