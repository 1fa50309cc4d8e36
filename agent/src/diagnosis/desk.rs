//! What an agent lets be seen of itself, and what it is told from outside: the one place that its task, its card's
//! thread and whoever asks have in common.
//!
//! Each writes down how it stands as it goes on, and nobody waits for anybody: what is asked is answered from what
//! was written down last, so that an agent whose card hangs can say so. Every lock is held for a few copies, and
//! across no await. Errands for the card's thread lie here until it looks, bounded.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use protocol::dropped::Cause;
use protocol::message::{BootMillis, Network, ServerId};
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::index::{Durability, Index};
use sdcard_indexer::log::Day;
use sdcard_indexer::readable::explain;
use sdcard_indexer::segment::Segment;
use sdcard_indexer::time::{TimeRange, Timestamp};
#[cfg(feature = "support")]
use tokio::sync::broadcast;
use tokio::sync::{oneshot, watch};

use super::closed::Closed;
use super::log::LogRing;
use super::mount::Mount;
#[cfg(feature = "support")]
use super::tap::{Direction, Tapped};
use crate::advertise::Views;
use crate::clock;
use crate::config::{BrokerUrl, Config};
use crate::conversation::{Conversation, Fact, ToldTime, TransferStanding};

/// Files that a recorder may say it has closed before the card's thread looks; beyond it, everything is looked at.
const MAX_CLOSED: usize = 64;
/// Questions for the card's thread that may wait.
const MAX_INSPECTIONS: usize = 4;
/// Messages that a watcher may be behind.
#[cfg(feature = "support")]
const MAX_TAPPED: usize = 128;
/// The rate is that of so many seconds.
const RATE_SECONDS: usize = 10;

/// See the module. Cloning it makes another hand on the same desk.
#[derive(Clone, Debug, Default)]
pub struct Desk(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    started: BootMillis,
    link: Mutex<LinkFacts>,
    traffic: Mutex<Traffic>,
    card: Mutex<Option<CardFacts>>,
    views: OnceLock<watch::Receiver<Views>>,
    configuration: Mutex<ConfigurationFacts>,
    errands: Mutex<Errands>,
    #[cfg(feature = "support")]
    tap: broadcast::Sender<Arc<Tapped>>,
    log: LogRing,
}

impl Default for Shared {
    fn default() -> Self {
        Shared {
            started: clock::boottime(),
            link: Mutex::default(),
            traffic: Mutex::default(),
            card: Mutex::default(),
            views: OnceLock::new(),
            configuration: Mutex::default(),
            errands: Mutex::default(),
            #[cfg(feature = "support")]
            tap: broadcast::Sender::new(MAX_TAPPED),
            log: LogRing::default(),
        }
    }
}

/// Of the link to the broker.
#[derive(Clone, Debug, Default)]
pub struct LinkFacts {
    /// Where the link goes, or is tried to: not what the configuration says since.
    pub broker: Option<BrokerUrl>,
    /// `None` while there is none.
    pub connected_at: Option<BootMillis>,
    pub lost_at: Option<BootMillis>,
    pub connections: u64,
    pub last_error: Option<(BootMillis, String)>,
    pub network: Network,
    /// The server that spoke last, and when.
    pub server: Option<(ServerId, BootMillis)>,
    pub told: Option<Told>,
}

/// What a server said of the time.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    pub at: BootMillis,
    /// What the device's clock lacked to the server's.
    pub behind_ns: i64,
    pub error: Duration,
}

/// What passed over the link.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    pub transfers: Vec<TransferStanding>,
    pub sent_bytes: u64,
    /// Of the last seconds, the newest last.
    seconds: VecDeque<(u64, u64)>,
    pub accepted: u64,
    pub closed: BTreeMap<String, u64>,
    pub refused: BTreeMap<String, u64>,
    pub dropped: BTreeMap<String, u64>,
    /// Messages that found no room on a slow link.
    pub unsaid: u64,
}

impl Traffic {
    fn sent(&mut self, now: BootMillis, bytes: u64) {
        self.sent_bytes = self.sent_bytes.saturating_add(bytes);
        let second = now.0 / 1_000;
        match self.seconds.back_mut() {
            Some((last, sum)) if *last == second => *sum += bytes,
            _ => {
                if self.seconds.len() > RATE_SECONDS {
                    self.seconds.pop_front();
                }
                self.seconds.push_back((second, bytes));
            }
        }
    }

    /// Over the last whole seconds.
    pub fn bytes_per_second(&self, now: BootMillis) -> u64 {
        let this = now.0 / 1_000;
        let counts = |second: u64| second < this && second + RATE_SECONDS as u64 >= this;
        let sums = self.seconds.iter().filter(|(second, _)| counts(*second));
        sums.map(|(_, bytes)| bytes).sum::<u64>() / RATE_SECONDS as u64
    }
}

/// As the card's thread found things when it last went round.
#[derive(Clone, Debug)]
pub struct CardFacts {
    pub at: BootMillis,
    pub there: bool,
    pub mount: Option<Mount>,
    /// Why the index does not outlive this process; `None` where it does.
    pub not_kept: Option<String>,
    /// By a running agent.
    pub written_today_bytes: Option<u64>,
    pub segments: BTreeMap<StreamId, usize>,
    pub unread: usize,
    pub digests_waiting: usize,
    /// Files that cannot be used as they should be.
    pub problems: u64,
    pub swept_at: Option<BootMillis>,
    /// Why changes are not told by the kernel; `None` where they are.
    pub unwatched: Option<String>,
    /// How far the clock is off at most, where a time service vouches for it.
    pub synchronised: Option<Duration>,
    /// By a running agent.
    pub reads: Option<CardReads>,
}

/// What was read of recordings since the start, and how fast they may be.
#[derive(Clone, Copy, Debug)]
pub struct CardReads {
    pub bytes: u64,
    /// 0: no limit.
    pub limit_bytes_per_second: u64,
}

impl CardFacts {
    /// What the index and the kernel tell. Looks at the card, and so waits as long as that takes.
    pub(crate) fn of(config: &Config, index: &Index, swept_at: Option<BootMillis>) -> Self {
        let not_kept = match index.durability() {
            Durability::Persistent => None,
            Durability::MemoryOnly(why) => Some(explain(why)),
        };
        let ids = config.streams.iter().map(|stream| &stream.id);
        CardFacts {
            at: clock::boottime(),
            there: index.card_is_there(),
            mount: Mount::of(&config.card.root),
            not_kept,
            written_today_bytes: Some(index.written().bytes_on(Day::of(clock::realtime()))),
            segments: ids.map(|id| (id.clone(), index.segment_count(id))).collect(),
            unread: 0,
            digests_waiting: index.digests_waiting(),
            problems: 0,
            swept_at,
            unwatched: None,
            synchronised: None,
            reads: None,
        }
    }
}

/// Of the configuration file.
#[derive(Clone, Debug, Default)]
pub struct ConfigurationFacts {
    /// What is in force.
    pub config: Option<Arc<Config>>,
    pub path: Option<PathBuf>,
    pub loaded_at: Option<BootMillis>,
    /// Why the file as it stands now is not in force.
    pub error: Option<String>,
    /// Keys whose new values wait for a restart.
    pub needs_restart: Vec<String>,
}

/// Segments of a stream, some of them.
#[derive(Debug)]
pub struct Inspection {
    pub stream: StreamId,
    pub range: TimeRange,
    pub skip: usize,
    pub take: usize,
    pub answer: oneshot::Sender<Vec<Segment>>,
}

/// What the card's thread is to do next.
#[derive(Debug, Default)]
pub struct Errands {
    pub closed: Vec<Closed>,
    /// More were closed than there was room for.
    pub overflowed: bool,
    pub inspections: Vec<Inspection>,
}

impl Desk {
    pub fn started(&self) -> BootMillis {
        self.0.started
    }

    pub fn log(&self) -> &LogRing {
        &self.0.log
    }

    pub fn link(&self) -> LinkFacts {
        held(&self.0.link).clone()
    }

    pub fn traffic(&self) -> Traffic {
        held(&self.0.traffic).clone()
    }

    pub fn card(&self) -> Option<CardFacts> {
        held(&self.0.card).clone()
    }

    /// Empty before the card's thread has begun.
    pub fn views(&self) -> Views {
        self.0.views.get().map(|views| views.borrow().clone()).unwrap_or_default()
    }

    pub fn configuration(&self) -> ConfigurationFacts {
        held(&self.0.configuration).clone()
    }

    pub fn set_configuration(&self, change: impl FnOnce(&mut ConfigurationFacts)) {
        change(&mut held(&self.0.configuration));
    }

    /// What is said and heard from now on.
    #[cfg(feature = "support")]
    pub fn watch(&self) -> broadcast::Receiver<Arc<Tapped>> {
        self.0.tap.subscribe()
    }

    /// False where too many wait already.
    pub fn inspect(&self, inspection: Inspection) -> bool {
        let mut errands = held(&self.0.errands);
        let room = errands.inspections.len() < MAX_INSPECTIONS;
        if room {
            errands.inspections.push(inspection);
        }
        room
    }

    pub fn closed(&self, file: Closed) {
        let mut errands = held(&self.0.errands);
        if errands.closed.len() < MAX_CLOSED {
            errands.closed.push(file);
        } else {
            errands.overflowed = true;
        }
    }
}

/// What the agent's task writes down.
impl Desk {
    pub(crate) fn shows(&self, views: watch::Receiver<Views>) {
        // Set once: a desk is that of one agent.
        let _ = self.0.views.set(views);
    }

    pub(crate) fn tries(&self, broker: &BrokerUrl) {
        held(&self.0.link).broker = Some(broker.clone());
    }

    pub(crate) fn connected(&self) {
        let mut link = held(&self.0.link);
        link.connected_at = Some(clock::boottime());
        link.connections += 1;
    }

    pub(crate) fn link_lost(&self, why: Option<&dyn std::error::Error>) {
        let now = clock::boottime();
        let mut link = held(&self.0.link);
        if link.connected_at.take().is_some() {
            link.lost_at = Some(now);
        }
        if let Some(why) = why {
            link.last_error = Some((now, why.to_string()));
        }
    }

    pub(crate) fn reached_over(&self, network: &Network) {
        held(&self.0.link).network = network.clone();
    }

    pub(crate) fn told_time(&self, told: &ToldTime) {
        let (now, shown) = (clock::boottime(), clock::realtime());
        let passed = Duration::from_millis(now.0.saturating_sub(told.at.0));
        let shown_then = shown.saturating_sub(passed);
        let behind_ns = told.utc.as_nanos().saturating_sub(shown_then.as_nanos());
        held(&self.0.link).told = Some(Told { at: now, behind_ns, error: told.error });
    }

    pub(crate) fn note(&self, fact: &Fact) {
        let mut traffic = held(&self.0.traffic);
        let add = |counts: &mut BTreeMap<String, u64>, what: String| {
            *counts.entry(what).or_default() += 1;
        };
        match fact {
            Fact::Accepted { .. } => traffic.accepted += 1,
            Fact::Closed { cause, .. } => add(&mut traffic.closed, word(cause)),
            Fact::Refused { reason, .. } => add(&mut traffic.refused, word(reason)),
            Fact::Unsaid { count } => traffic.unsaid = traffic.unsaid.saturating_add(*count),
            Fact::Connected { .. } | Fact::Dropped { .. } | Fact::CannotSay { .. } => {}
        }
    }

    /// How the conversation stands.
    pub(crate) fn goes_on(&self, conversation: &Conversation) {
        {
            let mut traffic = held(&self.0.traffic);
            traffic.transfers.clear();
            traffic.transfers.extend(conversation.transfers());
            for cause in Cause::ALL {
                let total = conversation.dropped().total(cause);
                if total > 0 {
                    traffic.dropped.insert(word(&cause), total);
                }
            }
        }
        let mut link = held(&self.0.link);
        if link.server.as_ref() != conversation.heard() {
            link.server = conversation.heard().cloned();
        }
    }

    #[cfg_attr(not(feature = "support"), allow(unused_variables, reason = "nobody can watch"))]
    pub(crate) fn heard(&self, topic: &str, payload: &[u8]) {
        #[cfg(feature = "support")]
        self.tap(Direction::In, || topic.to_owned(), payload);
    }

    pub(crate) fn said(&self, topic: &protocol::topic::Topic, payload: &[u8]) {
        if let protocol::topic::Topic::Data(..) = topic {
            held(&self.0.traffic).sent(clock::boottime(), payload.len() as u64);
        }
        #[cfg(feature = "support")]
        self.tap(Direction::Out, || topic.to_string(), payload);
    }

    /// Costs nothing while nobody watches.
    #[cfg(feature = "support")]
    fn tap(&self, direction: Direction, topic: impl FnOnce() -> String, payload: &[u8]) {
        if self.0.tap.receiver_count() > 0 {
            let tapped = Tapped::of(clock::realtime(), direction, topic(), payload);
            // Fails only where the last watcher has just left.
            let _ = self.0.tap.send(Arc::new(tapped));
        }
    }
}

/// What the card's thread writes down, and takes up.
impl Desk {
    pub(crate) fn card_stands(&self, facts: CardFacts) {
        *held(&self.0.card) = Some(facts);
    }

    pub(crate) fn take_closed(&self) -> (Vec<Closed>, bool) {
        let mut errands = held(&self.0.errands);
        let overflowed = std::mem::take(&mut errands.overflowed);
        (std::mem::take(&mut errands.closed), overflowed)
    }

    pub(crate) fn take_inspections(&self) -> Vec<Inspection> {
        std::mem::take(&mut held(&self.0.errands).inspections)
    }
}

/// A poisoned lock guards plain values, which are whole.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A variant's name as one lower-case word: `CardError` is `card_error`, what it carries is left out.
pub(super) fn word(variant: &impl std::fmt::Debug) -> String {
    let name = format!("{variant:?}");
    let letters = name.chars().take_while(char::is_ascii_alphanumeric);
    letters.fold(String::new(), |mut word, letter| {
        if letter.is_ascii_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.push(letter.to_ascii_lowercase());
        word
    })
}

/// How long ago, in seconds.
pub(super) fn seconds_since(now: BootMillis, then: BootMillis) -> f64 {
    now.0.saturating_sub(then.0) as f64 / 1_000.0
}

/// What the clock shows now, to be told with what was written down.
pub(super) fn shown() -> (BootMillis, Timestamp) {
    (clock::boottime(), clock::realtime())
}

#[cfg(test)]
mod tests {
    use protocol::message::RefusedReason;

    use super::*;

    #[test]
    fn a_variant_is_told_as_one_word() {
        assert_eq!(word(&RefusedReason::CardError), "card_error");
        assert_eq!(word(&RefusedReason::Altered { intact: 5 }), "altered");
        assert_eq!(word(&Cause::Version), "version");
    }

    #[test]
    fn the_rate_is_that_of_the_last_ten_whole_seconds() {
        let mut traffic = Traffic::default();
        for ms in (0..30_000).step_by(100) {
            traffic.sent(BootMillis(ms), 100);
        }
        assert_eq!(traffic.sent_bytes, 30_000);
        assert_eq!(traffic.bytes_per_second(BootMillis(30_000)), 1_000);
        assert_eq!(traffic.bytes_per_second(BootMillis(35_500)), 500);
        assert_eq!(traffic.bytes_per_second(BootMillis(99_000)), 0);
        assert!(traffic.seconds.len() <= RATE_SECONDS + 1);
    }

    #[test]
    fn more_closed_files_than_there_is_room_for_mean_a_look_at_everything() {
        let desk = Desk::default();
        for number in 0..=MAX_CLOSED {
            let file = number.to_string().into();
            desk.closed(Closed { folder: PathBuf::new(), file });
        }
        let (closed, overflowed) = desk.take_closed();
        assert_eq!((closed.len(), overflowed), (MAX_CLOSED, true));
        assert!(matches!(desk.take_closed(), (closed, false) if closed.is_empty()));
    }
}
