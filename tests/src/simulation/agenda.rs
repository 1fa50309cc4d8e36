//! What is going to happen, in the order of time; what happens at the same instant keeps its order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use sdcard_indexer::time::Timestamp;

/// Microseconds of true time since the world began.
pub type Micros = u64;

pub const MILLISECOND: Micros = 1_000;
pub const SECOND: Micros = 1_000_000;

/// A full minute, so that schedules begin with the world.
const BEGINNING: i64 = 1_782_900_000;

/// True time as UTC.
pub fn wall(at: Micros) -> Timestamp {
    Timestamp::from_unix_seconds(BEGINNING).saturating_offset(at as i64 * 1_000)
}

/// The other way round; footage is never older than the world.
pub fn micros(at: Timestamp) -> Micros {
    let nanos = at.nanos_from(Timestamp::from_unix_seconds(BEGINNING));
    u64::try_from(nanos / 1_000).unwrap_or(0)
}

#[derive(Debug)]
struct Entry<T> {
    at: Micros,
    number: u64,
    what: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[derive(Debug)]
pub struct Agenda<T> {
    entries: BinaryHeap<Reverse<Entry<T>>>,
    count: u64,
    now: Micros,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Agenda { entries: BinaryHeap::new(), count: 0, now: 0 }
    }
}

impl<T> Agenda<T> {
    pub fn now(&self) -> Micros {
        self.now
    }

    pub fn at(&mut self, at: Micros, what: T) {
        self.count += 1;
        let at = at.max(self.now);
        self.entries.push(Reverse(Entry { at, number: self.count, what }));
    }

    pub fn after(&mut self, delay: Micros, what: T) {
        self.at(self.now.saturating_add(delay), what);
    }

    /// Goes to the next instant at which something happens.
    pub fn next(&mut self) -> Option<T> {
        let Reverse(entry) = self.entries.pop()?;
        self.now = entry.at;
        Some(entry.what)
    }
}

/// A way on which nothing overtakes, and everything takes its time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Queueing {
    last: Micros,
}

impl Queueing {
    /// When what is sent at `now` is there.
    pub fn arrival(&mut self, now: Micros, delay: Micros) -> Micros {
        self.last = self.last.max(now.saturating_add(delay));
        self.last
    }
}
