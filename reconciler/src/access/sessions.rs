//! Sessions: that somebody has logged in, for as long as a browser window plausibly belongs to them.
//!
//! Kept in memory alone: a restart of the server logs everybody out, and nothing that opens a door lies on a disk.
//! A session says who; what they may is looked up at each request, so that a changed role counts at once.

use std::collections::HashMap;
use std::time::Duration;

use super::secret::{Secret, SecretDigest};
use super::users::AccountName;
use crate::time::MonotonicMicros;

/// Not used for so long, it has ended.
pub const IDLE: Duration = Duration::from_secs(12 * 3_600);
/// However it is used, it ends then.
pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 3_600);
/// At one time, in all and of one user; what was not used for the longest time gives way.
const MOST: usize = 1_000;
const MOST_OF_USER: usize = 50;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    pub user: AccountName,
    /// What requests that change something must repeat, which no other site's page can know.
    pub csrf: Secret,
    opened: MonotonicMicros,
    seen: MonotonicMicros,
}

impl Session {
    fn has_ended(&self, now: MonotonicMicros) -> bool {
        now.since(self.seen) >= IDLE || now.since(self.opened) >= LONGEST
    }
}

#[derive(Debug, Default)]
pub struct Sessions(HashMap<SecretDigest, Session>);

impl Sessions {
    /// The id for the browser's cookie, of which nothing but a digest stays here.
    pub fn open(&mut self, user: AccountName, now: MonotonicMicros) -> (Secret, Session) {
        self.0.retain(|_, session| !session.has_ended(now));
        let of_user = self.0.values().filter(|session| session.user == user).count();
        if of_user >= MOST_OF_USER {
            self.drop_oldest(Some(&user));
        } else if self.0.len() >= MOST {
            self.drop_oldest(None);
        }
        let id = Secret::draw("");
        let session = Session { user, csrf: Secret::draw(""), opened: now, seen: now };
        self.0.insert(id.digest(), session.clone());
        (id, session)
    }

    /// And it counts as used.
    pub fn find(&mut self, id: &str, now: MonotonicMicros) -> Option<(SecretDigest, Session)> {
        let key = SecretDigest::of(id);
        let session = self.0.get_mut(&key)?;
        if session.has_ended(now) {
            self.0.remove(&key);
            return None;
        }
        session.seen = now;
        Some((key, session.clone()))
    }

    /// Whether it is still open; that it is asked for is no use of it.
    pub fn is_open(&self, key: SecretDigest, now: MonotonicMicros) -> bool {
        self.0.get(&key).is_some_and(|session| !session.has_ended(now))
    }

    pub fn close(&mut self, key: SecretDigest) {
        self.0.remove(&key);
    }

    /// For one whose password is another now, or who is none any more.
    pub fn close_all_of(&mut self, user: &AccountName, but: Option<SecretDigest>) {
        self.0.retain(|key, session| session.user != *user || Some(*key) == but);
    }

    fn drop_oldest(&mut self, user: Option<&AccountName>) {
        let candidates =
            self.0.iter().filter(|(_, session)| user.is_none_or(|user| session.user == *user));
        let oldest = candidates.min_by_key(|(_, session)| session.seen).map(|(key, _)| *key);
        if let Some(oldest) = oldest {
            self.0.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000;

    fn hours(number: u64) -> MonotonicMicros {
        MonotonicMicros(number * HOUR)
    }

    fn name(text: &str) -> AccountName {
        text.parse().unwrap()
    }

    #[test]
    fn a_session_lives_while_it_is_used_but_not_for_ever() {
        let mut sessions = Sessions::default();
        let (id, _) = sessions.open(name("anna"), hours(0));
        for hour in (11..168).step_by(11) {
            assert!(sessions.find(id.reveal(), hours(hour)).is_some(), "after {hour} hours");
            assert!(
                sessions.is_open(id.digest(), hours((hour + 11).min(167))),
                "after {hour} hours"
            );
        }
        assert!(!sessions.is_open(id.digest(), hours(168)));
        assert_eq!(sessions.find(id.reveal(), hours(168)), None);
        let (idle, _) = sessions.open(name("anna"), hours(0));
        assert!(sessions.find(idle.reveal(), hours(11)).is_some());
        assert_eq!(sessions.find(idle.reveal(), hours(23)), None);
        assert_eq!(sessions.find("", hours(0)), None);
    }

    #[test]
    fn a_user_can_be_logged_out_everywhere_but_here() {
        let mut sessions = Sessions::default();
        let (here, _) = sessions.open(name("anna"), hours(0));
        let (there, _) = sessions.open(name("anna"), hours(0));
        let (other, _) = sessions.open(name("ben"), hours(0));
        sessions.close_all_of(&name("anna"), Some(here.digest()));
        assert!(sessions.find(here.reveal(), hours(1)).is_some());
        assert!(sessions.find(there.reveal(), hours(1)).is_none());
        assert!(sessions.find(other.reveal(), hours(1)).is_some());
        sessions.close(other.digest());
        assert!(sessions.find(other.reveal(), hours(1)).is_none());
    }

    #[test]
    fn the_one_that_was_not_used_for_the_longest_time_gives_way() {
        let mut sessions = Sessions::default();
        let (other, _) = sessions.open(name("ben"), hours(0));
        let ids: Vec<Secret> = (0..50).map(|_| sessions.open(name("anna"), hours(1)).0).collect();
        sessions.find(ids[0].reveal(), hours(2)).unwrap();
        let (new, _) = sessions.open(name("anna"), hours(3));
        let mut alive = |id: &Secret| sessions.find(id.reveal(), hours(3)).is_some();
        assert!(alive(&new) && alive(&ids[0]) && alive(&other));
        assert_eq!(ids.iter().filter(|id| alive(id)).count(), 49);
    }
}
