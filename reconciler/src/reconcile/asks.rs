//! Questions that are out: asked, repeated until answered, dropped with the connection they were for.
//!
//! Pure. A question that was published before the device had subscribed is lost without a word, so
//! every question is repeated while its connection lasts.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::message::{DeviceId, Located, Part, RequestId};
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::{TimeRange, Timestamp};

use crate::fleet::StreamKey;
use crate::time::MonotonicMicros;

/// After this long without an answer a question is asked again.
pub const REPEAT_AFTER: Duration = Duration::from_secs(2);
/// Questions about places that may be out at once per stream.
const MOST_PER_STREAM: usize = 4;

/// Agents cut at 64 MiB, but for a single group of pictures.
const MOST_PART_BYTES: u64 = 1 << 30;
const LONGEST_PART: Duration = Duration::from_secs(24 * 3600);

/// Which parts of the card hold this time range?
#[derive(Clone, Debug)]
struct Locating {
    key: StreamKey,
    /// What the gap was; parts may begin before it and end after it.
    wanted: TimeRange,
    /// The gap and its margins: what the parts are to hold, where the card does.
    asked: TimeRange,
    /// From here on no answer has come yet.
    from: Timestamp,
    found: Coverage,
    asked_at: Option<MonotonicMicros>,
}

/// A question to send now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Question {
    Coverage { device: DeviceId },
    Locate { request: RequestId, key: StreamKey, range: TimeRange },
    List { request: RequestId, key: StreamKey, range: TimeRange },
}

/// A range that has been asked for to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answered {
    pub key: StreamKey,
    pub wanted: TimeRange,
    /// What of it no part holds.
    pub not_found: Coverage,
}

#[derive(Debug, Default)]
pub struct Asks {
    locating: BTreeMap<u64, Locating>,
    coverage: BTreeMap<DeviceId, Option<MonotonicMicros>>,
}

impl Asks {
    /// Asks for all of a device's coverage until [`Asks::covered`] or [`Asks::forget`].
    pub fn want_coverage(&mut self, device: &DeviceId) {
        self.coverage.entry(device.clone()).or_default();
    }

    pub fn covered(&mut self, device: &DeviceId) {
        self.coverage.remove(device);
    }

    /// Asks where a range lies, and `asked` around it; unless an overlapping question of the stream is out
    /// already.
    pub fn locate(
        &mut self,
        request: RequestId,
        key: &StreamKey,
        wanted: TimeRange,
        asked: TimeRange,
    ) -> bool {
        let of_stream = || self.locating.values().filter(|asked| asked.key == *key);
        if of_stream().count() >= MOST_PER_STREAM
            || of_stream().any(|asked| asked.wanted.overlaps(&wanted))
        {
            return false;
        }
        let locating = Locating {
            key: key.clone(),
            wanted,
            asked,
            from: asked.start(),
            found: Coverage::new(),
            asked_at: None,
        };
        self.locating.insert(request.0, locating);
        true
    }

    /// Takes an answer; `Some` once the whole range has been answered for.
    pub fn located(&mut self, device: &DeviceId, answer: &Located) -> Option<Answered> {
        let asked = self.locating.get_mut(&answer.request.0)?;
        if asked.key.device != *device || asked.key.stream != answer.stream {
            return None;
        }
        for part in &answer.parts {
            asked.found.insert(part.range);
        }
        match answer.next.filter(|next| *next > asked.from && *next < asked.asked.end()) {
            Some(next) => {
                asked.from = next;
                asked.asked_at = None;
                None
            }
            None => self.close(answer.request),
        }
    }

    /// True where this answer belongs to a question that is out.
    pub fn expects(&self, device: &DeviceId, request: RequestId) -> bool {
        self.locating.get(&request.0).is_some_and(|asked| asked.key.device == *device)
    }

    /// What of the time that was asked for a part can be the answer to; `None` of a part that cannot belong to it:
    /// of no bytes or absurdly many, or of another time.
    pub fn answers(&self, request: RequestId, part: &Part) -> Option<TimeRange> {
        let is_sane = (1..=MOST_PART_BYTES).contains(&part.end.saturating_sub(part.start))
            && part.range.duration() <= LONGEST_PART;
        let asked = self.locating.get(&request.0).filter(|_| is_sane)?;
        asked.asked.intersection(&part.range).filter(|shared| !shared.is_empty())
    }

    /// The device refuses to answer on.
    pub fn refused(&mut self, device: &DeviceId, request: RequestId) -> Option<Answered> {
        if self.expects(device, request) { self.close(request) } else { None }
    }

    fn close(&mut self, request: RequestId) -> Option<Answered> {
        let Locating { key, wanted, found, .. } = self.locating.remove(&request.0)?;
        Some(Answered { key, wanted, not_found: found.gaps(wanted) })
    }

    /// The device has left, or come back on another connection.
    pub fn forget(&mut self, device: &DeviceId) {
        self.coverage.remove(device);
        self.locating.retain(|_, asked| asked.key.device != *device);
    }

    /// What to send now: first questions and those that got no answer.
    pub fn due(&mut self, now: MonotonicMicros) -> Vec<Question> {
        let is_due = |asked_at: &Option<MonotonicMicros>| {
            asked_at.is_none_or(|asked| now.since(asked) >= REPEAT_AFTER)
        };
        let mut questions = Vec::new();
        for (device, asked_at) in self.coverage.iter_mut().filter(|(_, asked)| is_due(asked)) {
            *asked_at = Some(now);
            questions.push(Question::Coverage { device: device.clone() });
        }
        for (request, asked) in
            self.locating.iter_mut().filter(|(_, asked)| is_due(&asked.asked_at))
        {
            asked.asked_at = Some(now);
            if let Some(range) = TimeRange::new(asked.from, asked.asked.end()) {
                let (request, key) = (RequestId(*request), asked.key.clone());
                questions.push(Question::Locate { request, key, range });
            }
        }
        questions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::{at, key, now, part, seconds};

    fn answer(ranges: &[TimeRange], next: Option<i64>) -> Located {
        Located {
            request: RequestId(7),
            stream: "main".parse().unwrap(),
            parts: ranges.iter().copied().map(part).collect(),
            next: next.map(at),
        }
    }

    fn asked() -> Asks {
        let mut asks = Asks::default();
        assert!(asks.locate(RequestId(7), &key(), seconds(100, 145), seconds(98, 147)));
        asks
    }

    #[test]
    fn a_question_is_repeated_until_it_is_answered() {
        let mut asks = asked();
        assert_eq!(asks.due(now(0).monotonic).len(), 1);
        assert_eq!(asks.due(now(1).monotonic).len(), 0);
        assert_eq!(asks.due(now(2).monotonic).len(), 1);
        let answered = asks.located(&key().device, &answer(&[seconds(99, 146)], None)).unwrap();
        assert!(answered.not_found.is_empty());
        assert_eq!(asks.due(now(9).monotonic).len(), 0);
    }

    #[test]
    fn a_long_range_is_asked_for_on_and_on() {
        let mut asks = asked();
        asks.due(now(0).monotonic);
        assert_eq!(asks.located(&key().device, &answer(&[seconds(99, 120)], Some(120))), None);
        let question = asks.due(now(0).monotonic).remove(0);
        let range = seconds(120, 147);
        assert_eq!(question, Question::Locate { request: RequestId(7), key: key(), range });
        let answered = asks.located(&key().device, &answer(&[seconds(120, 140)], None)).unwrap();
        assert_eq!(answered.not_found, seconds(140, 145).into());
    }

    #[test]
    fn an_answer_that_goes_nowhere_does_not_ask_for_ever() {
        let mut asks = asked();
        assert!(asks.located(&key().device, &answer(&[], Some(98))).is_some());
    }

    #[test]
    fn a_stranger_cannot_answer() {
        let mut asks = asked();
        assert_eq!(asks.located(&"other".parse().unwrap(), &answer(&[], None)), None);
        assert!(asks.expects(&key().device, RequestId(7)));
    }

    #[test]
    fn parts_of_other_times_or_absurd_sizes_are_no_answer() {
        let asks = asked();
        let answers = |part: &Part| asks.answers(RequestId(7), part);
        assert_eq!(answers(&part(seconds(97, 146))), Some(seconds(98, 146)));
        assert_eq!(answers(&part(seconds(98, 99))), Some(seconds(98, 99)), "of a margin");
        assert_eq!(answers(&part(seconds(0, 98))), None);
        assert_eq!(answers(&Part { end: 1, ..part(seconds(99, 146)) }), None);
        assert_eq!(answers(&Part { end: u64::MAX, ..part(seconds(99, 146)) }), None);
        assert_eq!(asks.answers(RequestId(8), &part(seconds(99, 146))), None);
    }

    #[test]
    fn the_same_range_is_not_asked_for_twice_at_once() {
        let mut asks = asked();
        assert!(!asks.locate(RequestId(8), &key(), seconds(140, 150), seconds(140, 150)));
        asks.forget(&key().device);
        assert!(asks.locate(RequestId(8), &key(), seconds(140, 150), seconds(140, 150)));
    }
}
