//! Passwords: what one has to be like, and the slow hash that alone is kept of it.
//!
//! Hashes are PHC strings of argon2id, which say with what they were made: stronger parameters later leave those
//! that stand valid. Each takes tens of milliseconds and 19 MiB, so that callers bound how many are made at once.

use argon2::{Argon2, PasswordHash, PasswordHasher, PasswordVerifier};
use rand::RngExt;

/// In characters. What people can guess is shorter; nothing is asked of which characters they are.
const SHORTEST: usize = 10;
/// In bytes: nobody has the server hash a book.
const LONGEST_BYTES: usize = 512;
/// What is easily told apart on paper, 32 of them: five bits each.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
const GENERATED_GROUPS: usize = 4;
const LETTERS_IN_GROUP: usize = 5;
/// What a password is compared with where there is no such user, so that the answer takes as long. No password has
/// this hash, as far as anybody can know.
pub const NOBODYS: &str = "$argon2id$v=19$m=19456,t=2,p=1$Z2FwbGVzcy1ub2JvZHkhIQ$3q2+7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PasswordError {
    #[error("the password has {0} characters: use {SHORTEST} or more, several words for example")]
    TooShort(usize),
    #[error("the password is longer than {LONGEST_BYTES} bytes: use a shorter one")]
    TooLong,
    #[error("the password is the user's name: use another one")]
    IsName,
    /// Of the hash, not of the password.
    #[error("the password cannot be hashed: {0}")]
    Unhashed(String),
}

/// What a user's new password has to be.
pub fn check(name: &str, password: &str) -> Result<(), PasswordError> {
    match password.chars().count() {
        short if short < SHORTEST => Err(PasswordError::TooShort(short)),
        _ if password.len() > LONGEST_BYTES => Err(PasswordError::TooLong),
        _ if password.eq_ignore_ascii_case(name) => Err(PasswordError::IsName),
        _ => Ok(()),
    }
}

/// Slow on purpose: not for a thread that serves others.
pub fn hash(password: &str) -> Result<String, PasswordError> {
    let hashed: Result<PasswordHash, _> = Argon2::default().hash_password(password.as_bytes());
    hashed.map(|hash| hash.to_string()).map_err(|error| PasswordError::Unhashed(error.to_string()))
}

/// Slow on purpose, whatever the answer is.
pub fn is_right(password: &str, hash: &str) -> bool {
    password.len() <= LONGEST_BYTES
        && Argon2::default().verify_password(password.as_bytes(), hash).is_ok()
}

/// A hundred random bits, as people can copy them: `k3m9x-…`.
pub fn generate() -> String {
    let mut random = rand::rng();
    let mut letter = || char::from(LETTERS[random.random_range(0..LETTERS.len())]);
    let groups: Vec<String> =
        (0..GENERATED_GROUPS).map(|_| (0..LETTERS_IN_GROUP).map(|_| letter()).collect()).collect();
    groups.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_itself_is_right() {
        let hash = hash("correct horse").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(is_right("correct horse", &hash));
        assert!(!is_right("correct horsf", &hash) && !is_right("", &hash));
        assert!(!is_right("correct horse", "$argon2id$"));
        assert_ne!(super::hash("correct horse").unwrap(), hash);
    }

    #[test]
    fn comparing_with_nobodys_hash_is_the_same_work_as_with_anybodys() {
        let (nobodys, anybodys) = (NOBODYS, hash("correct horse").unwrap());
        let nobodys = PasswordHash::new(nobodys).unwrap();
        let anybodys = PasswordHash::new(&anybodys).unwrap();
        assert_eq!((nobodys.algorithm, nobodys.version), (anybodys.algorithm, anybodys.version));
        assert_eq!(nobodys.params, anybodys.params);
        let lengths = |hash: &PasswordHash| {
            (hash.salt.as_ref().unwrap().len(), hash.hash.as_ref().unwrap().len())
        };
        assert_eq!(lengths(&nobodys), lengths(&anybodys));
    }

    #[test]
    fn passwords_that_protect_nothing_are_refused() {
        assert_eq!(check("anna", "ninechars"), Err(PasswordError::TooShort(9)));
        assert_eq!(check("anna", "täncharsöö"), Ok(()));
        assert_eq!(check("anna-meier", "Anna-Meier"), Err(PasswordError::IsName));
        assert_eq!(check("anna", &"a".repeat(513)), Err(PasswordError::TooLong));
    }

    #[test]
    fn a_generated_password_is_strong_enough_and_never_the_same() {
        let (one, other) = (generate(), generate());
        assert_eq!(check("anna", &one), Ok(()));
        assert_eq!(one.len(), 23, "{one}");
        assert_ne!(one, other);
    }
}
