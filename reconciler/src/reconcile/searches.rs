//! Searches: what a device holds in a range, asked live from the device, and what the archive has.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::message::{Listed, ListedSegment, RequestId};
use rand::RngExt;
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::{TimeRange, Timestamp};

use super::Core;
use super::asks::Question;
use crate::fleet::{Holding, StreamKey};
use crate::order::{Answer, Found, Heard, MOST_SEGMENTS, OrderError};
use crate::resolution;
use crate::time::MonotonicMicros;
use crate::timeline::Stretch;

/// Searches that may be out at once.
const MOST: usize = 64;
/// A person waits no longer than this for the device's own word.
const PATIENCE: Duration = Duration::from_secs(10);
const REPEAT_AFTER: Duration = Duration::from_secs(2);

/// The ones that are out, by the request that the device is asked with.
#[derive(Debug, Default)]
pub(super) struct Searches {
    out: BTreeMap<u64, Search>,
}

#[derive(Debug)]
struct Search {
    number: u64,
    key: StreamKey,
    range: TimeRange,
    /// From here on the device has not answered.
    from: Timestamp,
    segments: Vec<ListedSegment>,
    until: MonotonicMicros,
    ask_at: MonotonicMicros,
}

impl Core {
    pub(super) fn search(&mut self, number: u64, key: StreamKey, range: TimeRange) {
        let refused = match self.known(&key) {
            Err(error) => Some(error),
            Ok(()) if range.is_empty() => Some(OrderError::EmptyRange),
            Ok(()) if self.searches.out.len() >= MOST => Some(OrderError::TooManySearches(MOST)),
            Ok(()) => None,
        };
        if let Some(error) = refused {
            return self.answer(number, Err(error), Answer::Found);
        }
        let now = self.now.monotonic;
        let search = Search {
            number,
            from: range.start(),
            segments: Vec::new(),
            until: now.after(PATIENCE),
            ask_at: now,
            key,
            range,
        };
        if self.fleet.session(&search.key.device).is_none() {
            let heard = self.heard(&search.key);
            return self.found(search, heard, false);
        }
        self.searches.out.insert(self.random.random(), search);
        self.expire_searches();
    }

    /// Asks again where no answer came, and answers by the last report where none comes.
    pub(super) fn expire_searches(&mut self) {
        let now = self.now.monotonic;
        let over = |search: &Search| {
            search.until <= now || self.fleet.session(&search.key.device).is_none()
        };
        let over: Vec<u64> = self
            .searches
            .out
            .iter()
            .filter(|(_, search)| over(search))
            .map(|(id, _)| *id)
            .collect();
        for request in over {
            if let Some(search) = self.searches.out.remove(&request) {
                self.found(search, Heard::Silent, false);
            }
        }
        let mut questions = Vec::new();
        for (request, search) in self.searches.out.iter_mut().filter(|(_, s)| s.ask_at <= now) {
            search.ask_at = now.after(REPEAT_AFTER);
            if let Some(range) = TimeRange::new(search.from, search.range.end()) {
                let (request, key) = (RequestId(*request), search.key.clone());
                questions.push(Question::List { request, key, range });
            }
        }
        questions.into_iter().for_each(|question| self.ask(question));
    }

    pub(super) fn see_listed(&mut self, key: &StreamKey, listed: Listed) {
        let request = listed.request.0;
        let Some(search) = self.searches.out.get_mut(&request).filter(|s| s.key == *key) else {
            return;
        };
        // An answer that is repeated tells nothing new.
        let known_until = search.segments.last().map(|last| last.range.start());
        let is_new = |s: &ListedSegment| known_until.is_none_or(|known| s.range.start() > known);
        search.segments.extend(listed.segments.into_iter().filter(is_new));
        let is_full = search.segments.len() >= MOST_SEGMENTS;
        let on = |next: &Timestamp| *next > search.from && *next < search.range.end() && !is_full;
        match listed.next.filter(on) {
            Some(next) => {
                search.from = next;
                search.ask_at = self.now.monotonic;
                self.expire_searches();
            }
            None => {
                if let Some(search) = self.searches.out.remove(&request) {
                    self.found(search, Heard::Live, is_full && listed.next.is_some());
                }
            }
        }
    }

    /// The device will not say: its last report has to do. False where it is no search's request.
    pub(super) fn search_refused(&mut self, request: RequestId) -> bool {
        let search = self.searches.out.remove(&request.0);
        let is_search = search.is_some();
        search.into_iter().for_each(|search| self.found(search, Heard::Silent, false));
        is_search
    }

    fn found(&mut self, search: Search, device: Heard, cut_off: bool) {
        let Search { number, key, range, mut segments, .. } = search;
        segments.truncate(MOST_SEGMENTS);
        let holding = self.fleet.holding(&key).cloned().unwrap_or_default();
        let held = match device {
            Heard::Live => segments.iter().map(|segment| segment.range).collect(),
            _ => holding.held.clone(),
        };
        let held: Coverage = held.clip(range);
        let goes_at = held.hull().zip(holding.moving_horizon());
        self.look_afresh(&key);
        let timeline = self.timeline(&key);
        let archive = resolution::within(&timeline, range);
        let archive = archive.map(|(range, state)| Stretch { range, state: state.clone() });
        let Holding { tier, uncertainty_ns, horizon, .. } = holding;
        let found = Found {
            key,
            range,
            device,
            goes_at: goes_at.and_then(|(hull, horizon)| horizon.goes_at(hull.start())),
            held: held.joined(self.config.archive.join_tolerance()),
            tier,
            uncertainty_ns,
            horizon,
            segments,
            cut_off,
            archive: archive.collect(),
        };
        self.answer(number, Ok(Box::new(found)), Answer::Found);
    }
}
