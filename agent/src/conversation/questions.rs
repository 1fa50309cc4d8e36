//! The questions of servers that are with the card: each once, and few at a time. Pure.

use protocol::message::{
    ConnectionId, Listed, ListedSegment, Located, Part, Refusable, RefusedReason, RequestId,
    ServerId, Tell,
};
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::time::{TimeRange, Timestamp};

/// Questions that may be with the card at once; a further one is refused as busy.
pub const MAX_QUESTIONS: usize = 8;

/// Who asked, and on which connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asker {
    pub server: ServerId,
    pub connection: ConnectionId,
    pub request: RequestId,
}

impl Asker {
    pub(super) fn refused(&self, reason: RefusedReason) -> Tell {
        Tell::Refused { what: Refusable::Request(self.request), reason }
    }
}

/// What the card has of a time range, which is not empty, of a stream that the device has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    pub wanted: Wanted,
    pub stream: StreamId,
    pub range: TimeRange,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// The parts that hold it.
    Parts,
    /// The segments that share time with it, without a look into any file.
    Segments,
}

/// Oldest first; `next` is where to ask on, where the answer was full before the range was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Parts { parts: Vec<Part>, next: Option<Timestamp> },
    Segments { segments: Vec<ListedSegment>, next: Option<Timestamp> },
}

impl Answer {
    pub(super) fn told(self, asker: &Asker, stream: StreamId) -> Tell {
        let request = asker.request;
        match self {
            Answer::Parts { parts, next } => {
                Tell::Located(Located { request, stream, parts, next })
            }
            Answer::Segments { segments, next } => {
                Tell::Listed(Listed { request, stream, segments, next })
            }
        }
    }
}

/// What becomes of a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    Now,
    /// The card is at it already.
    Before,
    TooMuch,
}

#[derive(Debug, Default)]
pub struct Questions {
    with_card: Vec<(Asker, Question)>,
}

impl Questions {
    pub fn ask(&mut self, asker: &Asker, question: &Question) -> Asked {
        if self.with_card.iter().any(|(known, _)| known == asker) {
            Asked::Before
        } else if self.with_card.len() >= MAX_QUESTIONS {
            Asked::TooMuch
        } else {
            self.with_card.push((asker.clone(), question.clone()));
            Asked::Now
        }
    }

    /// What was asked; `None` where nothing was.
    pub fn answered(&mut self, asker: &Asker) -> Option<Question> {
        let place = self.with_card.iter().position(|(known, _)| known == asker)?;
        Some(self.with_card.swap_remove(place).1)
    }
}
