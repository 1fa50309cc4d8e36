//! Failed log-ins slow down whoever goes on trying, by the name that is tried and by the address that tries.
//!
//! An attempt counts as failed from the moment at which it begins, so that a hundred at once are not all free. The
//! wait by name alone stays short: nobody shall be able to lock somebody else out.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::time::MonotonicMicros;

/// Without an attempt for so long, all is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);
/// Names and addresses that are remembered, each; the one that was tried the longest ago gives way.
const MOST: usize = 4_096;
/// Failures that cost nothing; from then on each doubles the wait, from a second to the longest.
const FREE_FOR_NAME: u32 = 5;
const LONGEST_FOR_NAME: Duration = Duration::from_secs(30);
const FREE_FOR_ADDRESS: u32 = 10;
const LONGEST_FOR_ADDRESS: Duration = Duration::from_secs(15 * 60);

#[derive(Debug)]
pub struct Attempts {
    names: Table<String>,
    addresses: Table<IpAddr>,
}

impl Default for Attempts {
    fn default() -> Self {
        Attempts {
            names: Table::new(FREE_FOR_NAME, LONGEST_FOR_NAME),
            addresses: Table::new(FREE_FOR_ADDRESS, LONGEST_FOR_ADDRESS),
        }
    }
}

impl Attempts {
    /// Counts one, or says how long to wait before the next; waiting attempts do not count.
    pub fn begin(
        &mut self,
        name: &str,
        address: IpAddr,
        now: MonotonicMicros,
    ) -> Result<(), Duration> {
        let (name, address) = (name.to_owned(), network_of(address));
        let wait = self.names.wait(&name, now).max(self.addresses.wait(&address, now));
        if !wait.is_zero() {
            return Err(wait);
        }
        self.names.count(name, now);
        self.addresses.count(address, now);
        Ok(())
    }

    /// What [`begin`](Attempts::begin) has counted was none that failed. Other names that the address has tried
    /// still count.
    pub fn succeeded(&mut self, name: &str, address: IpAddr) {
        self.names.tries.remove(name);
        self.addresses.take_back(&network_of(address));
    }
}

/// Whoever has one IPv6 address has 2^64 of them.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        address => address,
    }
}

#[derive(Clone, Copy, Debug)]
struct Tries {
    failed: u32,
    last: MonotonicMicros,
    next: MonotonicMicros,
}

#[derive(Debug)]
struct Table<K> {
    tries: HashMap<K, Tries>,
    free: u32,
    longest: Duration,
}

impl<K: Hash + Eq + Clone> Table<K> {
    fn new(free: u32, longest: Duration) -> Table<K> {
        Table { tries: HashMap::new(), free, longest }
    }

    fn wait(&self, key: &K, now: MonotonicMicros) -> Duration {
        let remembered = self.tries.get(key).filter(|tries| !is_over(tries, now));
        remembered.map_or(Duration::ZERO, |tries| tries.next.since(now))
    }

    fn count(&mut self, key: K, now: MonotonicMicros) {
        if self.tries.len() >= MOST && !self.tries.contains_key(&key) {
            self.make_room(now);
        }
        let (free, longest) = (self.free, self.longest);
        let new = Tries { failed: 0, last: now, next: now };
        let tries = self.tries.entry(key).or_insert(new);
        if is_over(tries, now) {
            *tries = new;
        }
        tries.failed = tries.failed.saturating_add(1);
        tries.last = now;
        tries.next = now.after(wait_after(tries.failed, free).min(longest));
    }

    fn take_back(&mut self, key: &K) {
        if let Some(tries) = self.tries.get_mut(key) {
            tries.failed = tries.failed.saturating_sub(1);
            tries.next = tries.last;
        }
    }

    fn make_room(&mut self, now: MonotonicMicros) {
        self.tries.retain(|_, tries| !is_over(tries, now));
        if self.tries.len() >= MOST {
            let oldest = self.tries.iter().min_by_key(|(_, tries)| tries.last);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.tries.remove(&oldest);
            }
        }
    }
}

fn is_over(tries: &Tries, now: MonotonicMicros) -> bool {
    now.since(tries.last) >= FORGOTTEN_AFTER
}

fn wait_after(failed: u32, free: u32) -> Duration {
    match failed.checked_sub(free) {
        None | Some(0) => Duration::ZERO,
        Some(beyond) => Duration::from_secs(1 << (beyond - 1).min(20)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn at(second: u64) -> MonotonicMicros {
        MonotonicMicros(1_000_000 * second)
    }

    fn other(number: u8) -> IpAddr {
        IpAddr::from([198, 51, 100, number])
    }

    #[test]
    fn a_name_costs_nothing_at_first_and_then_ever_more_up_to_half_a_minute() {
        let mut attempts = Attempts::default();
        for number in 0..5 {
            attempts.begin("anna", other(number), at(0)).unwrap();
        }
        let mut waits = Vec::new();
        let mut now = 0;
        for number in 5..12 {
            attempts.begin("anna", other(number), at(now)).unwrap();
            let wait = attempts.begin("anna", other(number), at(now)).unwrap_err();
            waits.push(wait.as_secs());
            now += wait.as_secs();
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        attempts.begin("ben", other(99), at(now)).unwrap();
    }

    #[test]
    fn an_address_that_tries_many_names_waits_longer_and_longer() {
        let mut attempts = Attempts::default();
        for number in 0..11 {
            attempts.begin(&format!("u{number}"), HERE, at(0)).unwrap();
        }
        assert_eq!(attempts.begin("u11", HERE, at(0)), Err(Duration::from_secs(1)));
        let mut now = 0;
        for number in 0..20 {
            now += 900;
            attempts.begin(&format!("v{number}"), HERE, at(now)).unwrap();
        }
        let wait = attempts.begin("w", HERE, at(now)).unwrap_err();
        assert_eq!(wait, LONGEST_FOR_ADDRESS);
        attempts.begin("w", other(1), at(now)).unwrap();
        attempts.begin("w", HERE, at(now + 3_600)).unwrap();
    }

    #[test]
    fn who_gets_in_does_not_wait_the_next_time() {
        let mut attempts = Attempts::default();
        for _ in 0..100 {
            attempts.begin("anna", HERE, at(0)).unwrap();
            attempts.succeeded("anna", HERE);
        }
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one() {
        let mut attempts = Attempts::default();
        let address = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 7, 1, 2, 3, last]);
        for number in 0..11 {
            attempts.begin(&format!("u{number}"), address(number), at(0)).unwrap();
        }
        attempts.begin("anna", address(99), at(0)).unwrap_err();
        attempts.begin("anna", IpAddr::from([0x2001, 0xdb8, 0, 8, 1, 2, 3, 4]), at(0)).unwrap();
    }

    #[test]
    fn the_table_does_not_grow_beyond_its_cap() {
        let mut attempts = Attempts::default();
        for number in 0..4_200_u32 {
            let address = IpAddr::from(number.to_be_bytes());
            attempts.begin(&format!("u{number}"), address, at(u64::from(number) / 10)).unwrap();
        }
        assert_eq!(attempts.names.tries.len(), MOST);
        assert!(attempts.addresses.tries.len() <= MOST);
    }
}
