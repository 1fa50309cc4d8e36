//! What a CA has issued, and what it has taken back. Pure.

use std::fmt;

use sdcard_indexer::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::rfc3339;

/// Certificates that have expired for so long are forgotten: nobody lets them in any more.
const FORGOTTEN_AFTER: std::time::Duration = std::time::Duration::from_secs(365 * 24 * 3_600);
/// Of one register: beyond it nothing is issued.
pub(super) const MOST_ISSUED: usize = 100_000;

/// To whom a certificate is issued.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holder {
    Device,
    /// A reconciler, which may ask every device.
    Server,
    /// What both connect to.
    Broker,
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Holder::Device => "device",
            Holder::Server => "server",
            Holder::Broker => "broker",
        })
    }
}

/// One certificate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Issued {
    pub holder: Holder,
    /// The id of a device or server, the first name of a broker.
    pub name: String,
    /// In hexadecimal digits, as openssl prints it.
    pub serial: String,
    #[serde(with = "rfc3339")]
    pub issued: Timestamp,
    #[serde(with = "rfc3339")]
    pub expires: Timestamp,
    /// Since when it is not valid any more, though it has not expired.
    #[serde(default, with = "rfc3339::optional", skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Timestamp>,
    /// The system's user who had it issued, by number.
    pub by_uid: u32,
}

impl Issued {
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && now < self.expires
    }

    pub fn is_of(&self, holder: Holder, name: &str) -> bool {
        self.holder == holder && self.name == name
    }
}

/// In the order in which they were issued.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Register {
    pub issued: Vec<Issued>,
    /// Grows with every list of revoked certificates.
    pub revisions: u64,
}

impl Register {
    pub fn add(&mut self, issued: Issued, now: Timestamp) {
        self.issued.retain(|one| now < one.expires.saturating_add(FORGOTTEN_AFTER));
        self.issued.push(issued);
    }

    /// The valid certificates of somebody, the newest last.
    pub fn valid<'a>(
        &'a self,
        holder: Holder,
        name: &'a str,
        now: Timestamp,
    ) -> impl Iterator<Item = &'a Issued> {
        self.issued.iter().filter(move |one| one.is_of(holder, name) && one.is_valid(now))
    }

    /// Takes back what somebody has, or all but the newest of it. Answers what it was.
    pub fn revoke(
        &mut self,
        holder: Holder,
        name: &str,
        but_newest: bool,
        now: Timestamp,
    ) -> Vec<Issued> {
        let newest = self.valid(holder, name, now).last().map(|one| one.serial.clone());
        let kept = newest.filter(|_| but_newest);
        let theirs = |one: &&mut Issued| one.is_of(holder, name) && one.is_valid(now);
        let mut revoked = Vec::new();
        for one in self.issued.iter_mut().filter(theirs) {
            if kept.as_ref() != Some(&one.serial) {
                one.revoked = Some(now);
                revoked.push(one.clone());
            }
        }
        revoked
    }

    /// What a list of revoked certificates has to name.
    pub fn revoked(&self) -> impl Iterator<Item = (&Issued, Timestamp)> {
        self.issued.iter().filter_map(|one| Some((one, one.revoked?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::at;

    fn issued(name: &str, serial: &str, expires: i64) -> Issued {
        Issued {
            holder: Holder::Device,
            name: name.into(),
            serial: serial.into(),
            issued: at(0),
            expires: at(expires),
            revoked: None,
            by_uid: 0,
        }
    }

    fn register() -> Register {
        let mut register = Register::default();
        for (name, serial) in [("a", "1"), ("b", "2"), ("a", "3")] {
            register.add(issued(name, serial, 1_000), at(0));
        }
        register
    }

    fn serials(all: &[Issued]) -> Vec<&str> {
        all.iter().map(|one| one.serial.as_str()).collect()
    }

    #[test]
    fn all_that_somebody_has_is_taken_back_and_of_nobody_else() {
        let mut register = register();
        let revoked = register.revoke(Holder::Device, "a", false, at(10));
        assert_eq!(serials(&revoked), ["1", "3"]);
        assert!(register.revoke(Holder::Device, "a", false, at(11)).is_empty());
        assert!(register.revoke(Holder::Server, "b", false, at(11)).is_empty());
        assert_eq!(register.valid(Holder::Device, "b", at(11)).count(), 1);
        assert_eq!(register.revoked().count(), 2);
    }

    #[test]
    fn after_a_renewal_only_the_older_ones_are_taken_back() {
        let mut register = register();
        assert_eq!(serials(&register.revoke(Holder::Device, "a", true, at(10))), ["1"]);
        assert!(register.revoke(Holder::Device, "a", true, at(10)).is_empty());
        assert_eq!(register.valid(Holder::Device, "a", at(10)).count(), 1);
    }

    #[test]
    fn what_has_expired_is_not_valid_and_is_forgotten_a_year_later() {
        let mut register = register();
        assert_eq!(register.valid(Holder::Device, "a", at(1_000)).count(), 0);
        register.add(issued("c", "4", 90_000_000), at(1_001));
        assert_eq!(register.issued.len(), 4);
        register.add(issued("c", "5", 90_000_000), at(40_000_000));
        assert_eq!(serials(&register.issued), ["4", "5"]);
    }
}
