//! The card: one named thread owns the index and does all input and output on it.
//!
//! It opens recordings for reading only and writes nowhere but into the index's own folder. Bytes of a
//! part are hashed as they are read, so that they are read once. Everybody else sends a [`Command`] and
//! gets one [`Reply`]; both channels hold all that may be outstanding, so nobody ever waits for room. Of what time
//! it is, the last word is enough, and lies beside them.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use protocol::frame::HEADER_BYTES;
use protocol::message::{BootMillis, Part, PartDigest, RefusedReason, SealCheck};
use sdcard_indexer::clock::{Boottime, ClockTrust};
use sdcard_indexer::cut::CutLimits;
use sdcard_indexer::digest::PartReader;
use sdcard_indexer::identity::{SegmentId, StreamId};
use sdcard_indexer::index::{
    Digested, Index, IndexConfig, IndexError, LocateError, LocatedPart, ReadError, StreamSource,
    Sweep,
};
use sdcard_indexer::readable::explain;
use sdcard_indexer::recordings::Recordings;
use sdcard_indexer::time::{TimeRange, Timestamp};
use sdcard_indexer::watch::{Hint, Watcher};
use tokio::sync::{mpsc, oneshot, watch};

use crate::advertise::{Standing, Views};
use crate::clock;
use crate::config::Config;
use crate::conversation::{
    Answer, Asker, MAX_QUESTIONS, PartBytes, PartHandle, PartRead, Question, ToldTime, Wanted,
};
use crate::courtesy::{Meter, Pace, give_way, metered};
use crate::diagnosis::closed::follows_no_link;
use crate::diagnosis::{CardFacts, CardReads, Desk, Inspection};
use crate::heartbeat::Heartbeat;
use crate::listing::listing;
use crate::outlook::Outlook;
use crate::permit::Permit;

/// The questions and one read.
const MAX_OUTSTANDING: usize = MAX_QUESTIONS + 1;
/// How often the kernel is asked for hints.
const POLL_EVERY_MS: u64 = 200;
/// How often open segments are looked at without a hint.
const REFRESH_EVERY_MS: u64 = 1_000;
/// How often it is written down how the card stands.
const FACTS_EVERY_MS: u64 = 1_000;
/// Files read between two commands while many are new: each slice costs a look at the whole table too.
const READ_SLICE: usize = 64;
/// What the parts of one answer may take, so that it stays well below a packet.
const MAX_ANSWER_BYTES: usize = 128 * 1024;
/// What a part takes beside its media: ids, offsets, times.
const PART_BYTES: usize = 96;
const HASH_BUFFER_BYTES: usize = 64 * 1024;
/// Hashed between two commands: a few milliseconds.
const DIGEST_SLICE_BYTES: u64 = 256 * 1024;
/// For the thread to finish what it does; a hung card must not keep a process alive.
const STOP_TIMEOUT: Duration = Duration::from_millis(800);

#[derive(Debug, thiserror::Error)]
pub enum CardError {
    #[error("cannot start the card's thread")]
    Thread(#[source] io::Error),
    #[error("cannot tell which boot this is")]
    BootId(#[source] io::Error),
    #[error("cannot open the index")]
    Index(#[from] IndexError),
    /// A panic in it, which it has printed.
    #[error("the card's thread has ended")]
    Ended,
}

#[derive(Debug)]
pub enum Command {
    Ask { asker: Asker, question: Question },
    Read { handle: PartHandle, cursor: Box<PartCursor>, length_bytes: u64, keep: bool },
}

#[derive(Debug)]
pub enum Reply {
    Answered { asker: Asker, outcome: Result<Answer, RefusedReason> },
    Read { handle: PartHandle, cursor: Box<PartCursor>, outcome: Result<PartRead, RefusedReason> },
}

/// The store of a maker in place of a stream's folder, or `None` for the folder; see
/// [`sdcard_indexer::recordings`]. Asked once for each stream, on the thread that owns the index.
pub type Stores = Box<dyn FnMut(&StreamSource) -> Option<Box<dyn Recordings>> + Send>;

/// How far a part has been read and hashed. Travels with each read, so the thread remembers none.
#[derive(Debug)]
pub struct PartCursor {
    part: PartBytes,
    /// `None` before the first read.
    reader: Option<PartReader>,
    hasher: blake3::Hasher,
}

impl PartCursor {
    pub fn new(part: PartBytes) -> Self {
        PartCursor { part, reader: None, hasher: blake3::Hasher::new() }
    }

    fn read(
        &mut self,
        index: &mut Index,
        length_bytes: u64,
        keep: bool,
    ) -> Result<PartRead, ReadError> {
        let PartBytes { segment, version, start, end } = self.part;
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(PartReader::new(index.open_segment(segment, version)?, start..end)),
        };
        let mut hash_next = |buffer: &mut [u8]| {
            reader.read(buffer)?;
            self.hasher.update(buffer);
            Ok::<(), ReadError>(())
        };
        let length = usize::try_from(length_bytes).unwrap_or(usize::MAX);
        let frame = if keep {
            let mut frame = vec![0; HEADER_BYTES + length];
            hash_next(&mut frame[HEADER_BYTES..])?;
            Some(frame)
        } else {
            let mut buffer = vec![0; HASH_BUFFER_BYTES.min(length)];
            let mut left = length;
            while left > 0 {
                let slice = &mut buffer[..left.min(HASH_BUFFER_BYTES)];
                left -= slice.len();
                hash_next(slice)?;
            }
            None
        };
        let digest = (reader.left_bytes() == 0).then(|| PartDigest {
            blake3: *self.hasher.finalize().as_bytes(),
            seal: if reader.compares() { SealCheck::Equal } else { SealCheck::Unknown },
        });
        Ok(PartRead { length_bytes, frame, digest })
    }
}

/// The end of the thread that everybody else holds.
#[derive(Debug)]
pub struct Card {
    commands: SyncSender<Command>,
    pub replies: mpsc::Receiver<Reply>,
    pub views: watch::Receiver<Views>,
    told_time: Arc<Mutex<Option<ToldTime>>>,
    rate: Arc<AtomicUsize>,
}

impl Card {
    /// Starts the thread and waits for it to take over what the index's log says.
    pub async fn start(
        config: &Config,
        stores: Stores,
        desk: Desk,
        heartbeat: Arc<Heartbeat>,
    ) -> Result<Card, CardError> {
        let (commands, orders) = sync_channel(MAX_OUTSTANDING);
        let (answers, replies) = mpsc::channel(MAX_OUTSTANDING);
        let (views_sender, views) = watch::channel(Views::new());
        let (opened, ready) = oneshot::channel();
        let told_time = Arc::<Mutex<Option<ToldTime>>>::default();
        let rate = Arc::new(AtomicUsize::new(rate_of(config)));
        let links = Links {
            orders,
            answers,
            views: views_sender,
            told_time: told_time.clone(),
            rate: rate.clone(),
            desk,
            heartbeat,
        };
        let config = config.clone();
        thread::Builder::new()
            .name("card".to_owned())
            .spawn(move || match CardThread::open(&config, stores, links) {
                Ok(mut card) => {
                    // Fails only where nobody waits any more; then the command channel is closed too.
                    let _ = opened.send(Ok(()));
                    card.run();
                }
                Err(error) => drop(opened.send(Err(error))),
            })
            .map_err(CardError::Thread)?;
        ready.await.map_err(|_| CardError::Ended)??;
        Ok(Card { commands, replies, views, told_time, rate })
    }

    /// How fast it may read: from when the thread next goes round.
    pub fn reconfigure(&self, config: &Config) {
        self.rate.store(rate_of(config), Ordering::Relaxed);
    }

    /// The caller keeps to one read and [`MAX_QUESTIONS`] at once.
    pub fn submit(&self, command: Command) -> Result<(), CardError> {
        self.commands.try_send(command).map_err(|_| CardError::Ended)
    }

    /// The thread takes it up when it next looks at its clock.
    pub fn learn_time(&self, told: ToldTime) {
        *self.told_time.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
    }

    /// Lets the thread end. The index is safe at any moment, so it is waited for only a little.
    pub async fn stop(mut self) {
        drop(self.commands);
        let ended = async { while self.replies.recv().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, ended).await.is_err() {
            tracing::warn!("the card is still busy: it is left to itself");
        }
    }
}

/// The thread's ends of what connects it with everybody else.
struct Links {
    orders: Receiver<Command>,
    answers: mpsc::Sender<Reply>,
    views: watch::Sender<Views>,
    told_time: Arc<Mutex<Option<ToldTime>>>,
    /// Bytes a second; 0: no limit.
    rate: Arc<AtomicUsize>,
    desk: Desk,
    heartbeat: Arc<Heartbeat>,
}

struct CardThread {
    config: Config,
    index: Index,
    permit: Permit,
    /// `None` where names are to be believed.
    clock: Option<clock::Watch>,
    /// `None` where the kernel gives none: then only sweeps and open segments are looked at.
    watcher: Option<Watcher>,
    outlooks: BTreeMap<StreamId, Outlook>,
    links: Links,
    sweep_every: Duration,
    swept_at: Option<BootMillis>,
    refreshed_at: BootMillis,
    polled_at: BootMillis,
    unread: usize,
    pace: Pace,
    /// A read that is to come later: there is one at the most.
    deferred: Option<Command>,
    /// The last turn was a read's, and not that of a recording that is new.
    served_last: bool,
    card_was_there: bool,
    /// Files that cannot be used in full.
    problems: u64,
    synchronised: Option<Duration>,
    facts_at: BootMillis,
}

impl CardThread {
    fn open(config: &Config, stores: Stores, links: Links) -> Result<Self, CardError> {
        if config.card.spare_recorder {
            // Where a supervisor has seen to it, nothing is left to be done, and may be forbidden.
            let _ = give_way().inspect_err(
                |error| tracing::info!(%error, "the card's thread cannot be made nicer"),
            );
        }
        let index_config = index_config(config);
        let (meter, now) = (Meter::default(), clock::boottime());
        let pace = Pace::new(config.limits.card_bytes_per_second, meter.clone(), now);
        let stores = metered(stores, &index_config, config.card.spare_recorder, meter);
        let roots = index_config.sources.iter().map(|source| source.root.clone()).collect();
        let watcher = Watcher::new(roots, index_config.scan)
            .inspect_err(|error| tracing::warn!(%error, "changes are found by sweeps only"))
            .ok();
        let outlooks = config.streams.iter().map(|stream| (stream.id.clone(), Outlook::default()));
        let believes = clock::trust(config.clock.believe).is_some();
        let clock = believes.then(|| clock::Watch::new(config.clock.synchronised_file.clone()));
        Ok(CardThread {
            clock: clock.transpose().map_err(CardError::BootId)?,
            index: Index::open_with(index_config, stores)?,
            permit: config.serve.clone(),
            watcher,
            outlooks: outlooks.collect(),
            links,
            sweep_every: config.index.sweep_every(),
            swept_at: None,
            refreshed_at: BootMillis(0),
            polled_at: BootMillis(0),
            unread: 0,
            pace,
            deferred: None,
            served_last: false,
            card_was_there: false,
            problems: 0,
            synchronised: None,
            facts_at: BootMillis(0),
            config: config.clone(),
        })
    }

    /// Until nobody can send commands any more.
    fn run(&mut self) {
        loop {
            self.links.heartbeat.card_goes_on();
            self.pace.set_limit(self.links.rate.load(Ordering::Relaxed) as u64, clock::boottime());
            self.look(clock::boottime());
            self.pace.count(clock::boottime());
            self.attend(clock::boottime());
            if let Some(read) = self.deferred.take() {
                self.obey(read);
            }
            let wait_ms = self.wait_ms(clock::boottime());
            match self.links.orders.recv_timeout(Duration::from_millis(wait_ms)) {
                Ok(command) => self.obey(command),
                Err(RecvTimeoutError::Timeout) => self.digest(clock::boottime()),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.pace.count(clock::boottime());
        }
    }

    fn wait_ms(&self, now: BootMillis) -> u64 {
        let due = if self.deferred.is_some() || self.unread > 0 {
            self.pace.reads_from()
        } else if self.index.digests_waiting() > 0 {
            self.pace.hashes_from()
        } else {
            return POLL_EVERY_MS;
        };
        due.0.saturating_sub(now.0).min(POLL_EVERY_MS)
    }

    /// Hashes a little of what was sealed, when nobody asks for anything.
    fn digest(&mut self, now: BootMillis) {
        let busy = self.unread > 0 || self.deferred.is_some();
        if busy || self.index.digests_waiting() == 0 || !self.pace.may_hash(now) {
            return;
        }
        let Digested { read_bytes, failed, .. } = self.index.digest(DIGEST_SLICE_BYTES);
        self.pace.hashed(read_bytes, now);
        for (path, error) in failed {
            let (path, error) = (path.display(), &error as &dyn Error);
            tracing::debug!(%path, error, "a segment stays without a digest");
        }
    }

    fn obey(&mut self, command: Command) {
        if matches!(command, Command::Read { .. }) {
            if !self.pace.may_read(clock::boottime()) {
                self.deferred = Some(command);
                return;
            }
            self.served_last = true;
        }
        let reply = match command {
            Command::Ask { asker, question } => {
                Reply::Answered { asker, outcome: self.answer(question) }
            }
            Command::Read { handle, cursor, .. }
                if cursor.reader.is_none() && self.forbids(cursor.part.segment) =>
            {
                Reply::Read { handle, cursor, outcome: Err(RefusedReason::Forbidden) }
            }
            Command::Read { handle, mut cursor, length_bytes, keep } => {
                let outcome = cursor.read(&mut self.index, length_bytes, keep);
                let outcome = outcome.map_err(|error| {
                    tracing::info!(segment = %cursor.part.segment, %error, "a part cannot be read");
                    if let ReadError::Altered { offset } = error {
                        self.index.withdraw(cursor.part.segment, cursor.part.version, offset);
                    }
                    reason(&error)
                });
                Reply::Read { handle, cursor, outcome }
            }
        };
        // Fails only where nobody listens any more; then the command channel is closed too.
        let _ = self.links.answers.blocking_send(reply);
    }

    fn answer(&mut self, question: Question) -> Result<Answer, RefusedReason> {
        let Question { wanted, stream, range } = question;
        let range = self.permit.young(range, self.newest()).ok_or(RefusedReason::Forbidden)?;
        match wanted {
            Wanted::Parts => self.locate(&stream, range),
            Wanted::Segments => Ok(self.list(&stream, range)),
        }
    }

    /// An order names a segment by its number, so that its stream and age are found out here.
    fn forbids(&self, segment: SegmentId) -> bool {
        self.index.place_of(segment).is_some_and(|(stream, range)| {
            !self.permit.serves(stream) || self.permit.young(range, self.newest()).is_none()
        })
    }

    /// The latest instant that is known of here.
    fn newest(&self) -> Timestamp {
        let held = self.outlooks.keys().filter_map(|stream| self.index.stream(stream)?.held.hull());
        held.map(|hull| hull.end()).fold(clock::realtime(), Timestamp::max)
    }

    fn list(&self, stream: &StreamId, range: TimeRange) -> Answer {
        // While its folder cannot be listed, a stream holds nothing.
        let present = self.index.stream(stream).is_some_and(|view| view.present);
        let segments = self.index.segments(stream, range).take_while(|_| present);
        listing(segments, range)
    }

    fn locate(&mut self, stream: &StreamId, range: TimeRange) -> Result<Answer, RefusedReason> {
        let located = self.index.locate(stream, range, &CutLimits::default());
        let located = located.map_err(|error| {
            tracing::info!(%stream, %range, %error, "a time range cannot be located");
            match error {
                LocateError::UnknownStream(_) => RefusedReason::Malformed,
            }
        })?;
        for (segment, error) in &located.unusable {
            tracing::info!(%segment, %error, "a segment cannot be located in full");
        }
        let (mut parts, mut next, mut bytes) = (Vec::new(), located.next, 0);
        for part in located.parts {
            let part = message_of(part);
            bytes += part.media.len() + PART_BYTES;
            if bytes > MAX_ANSWER_BYTES && !parts.is_empty() {
                next = Some(part.range.start());
                break;
            }
            parts.push(part);
        }
        Ok(Answer::Parts { parts, next })
    }

    /// Answers whoever looks at the agent, and writes down how the card stands.
    fn attend(&mut self, now: BootMillis) {
        for Inspection { stream, range, skip, take, answer } in self.links.desk.take_inspections() {
            let segments = self.index.segments(&stream, range).skip(skip).take(take);
            // Fails only where nobody waits any more.
            let _ = answer.send(segments.collect());
        }
        if now.0.saturating_sub(self.facts_at.0) >= FACTS_EVERY_MS {
            self.facts_at = now;
            let mut facts = CardFacts::of(&self.config, &self.index, self.swept_at);
            facts.unwatched = match &self.watcher {
                Some(watcher) => watcher.unwatched().map(|why| explain(why)),
                None => Some("the kernel tells of none".to_owned()),
            };
            (facts.unread, facts.problems) = (self.unread, self.problems);
            facts.synchronised = self.synchronised;
            facts.reads = Some(CardReads {
                bytes: self.pace.read_bytes(),
                limit_bytes_per_second: self.pace.limit(),
            });
            self.links.desk.card_stands(facts);
        }
    }

    /// Looks at the card as far as it is due, without keeping a command waiting for long.
    fn look(&mut self, now: BootMillis) {
        let since = |then: BootMillis| Duration::from_millis(now.0.saturating_sub(then.0));
        let sweep_due = self.swept_at.is_none_or(|swept| since(swept) >= self.sweep_every);
        // A refresh reads all that is unread at once, and hints can wait in the kernel for so long.
        if self.unread > 0 && !sweep_due {
            // Beside a server that takes all that may be read, turn about.
            if !self.pace.may_read(now) || (self.deferred.is_some() && !self.served_last) {
                return;
            }
            self.served_last = false;
            let sweep = self.index.read_unread(clock::realtime(), READ_SLICE);
            return self.note(sweep);
        }
        if since(self.polled_at) < Duration::from_millis(POLL_EVERY_MS) {
            return;
        }
        self.polled_at = now;
        if sweep_due || self.index.card_is_there() != self.card_was_there {
            self.observe_clock();
            return self.survey(now);
        }
        let hints = self.hints();
        self.observe_clock();
        if hints.contains(&Hint::SweepAll) {
            self.survey(now);
        } else if !hints.is_empty()
            || since(self.refreshed_at) >= Duration::from_millis(REFRESH_EVERY_MS)
        {
            self.refreshed_at = now;
            let sweep = self.index.refresh(&hints, clock::realtime());
            self.note(sweep);
        }
    }

    fn observe_clock(&mut self) {
        let Some(clock) = &mut self.clock else { return };
        let told = self.links.told_time.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ToldTime { at, utc, error }) = told {
            let at_ns = i64::try_from(at.0).unwrap_or(i64::MAX).saturating_mul(1_000_000);
            self.index.told_time(Boottime::from_nanos(at_ns), utc, error);
        }
        let reading = clock.read();
        self.synchronised = reading.synchronised;
        if let Some(sweep) = self.index.observe_clock(reading) {
            let synchronised = reading.synchronised.is_some();
            tracing::info!(synchronised, shown = %reading.realtime, "the clock is another one: all is placed anew");
            self.note(sweep);
        }
    }

    /// What the kernel and the recorder say.
    fn hints(&mut self) -> Vec<Hint> {
        let mut hints = match &mut self.watcher {
            None => Vec::new(),
            Some(watcher) => watcher.poll().unwrap_or_else(|error| {
                tracing::warn!(%error, "the watch has ended: changes are found by sweeps only");
                self.watcher = None;
                vec![Hint::SweepAll]
            }),
        };
        let (closed, overflowed) = self.links.desk.take_closed();
        for closed in closed {
            if follows_no_link(&closed) {
                hints.push(Hint::Sealed(closed.file));
            } else {
                let path = closed.file.display();
                tracing::warn!(%path, "said to be closed, but reached over a link");
            }
        }
        hints.extend(overflowed.then_some(Hint::SweepAll));
        hints
    }

    fn survey(&mut self, now: BootMillis) {
        let first = self.swept_at.replace(now).is_none();
        let card = self.index.card_is_there();
        let card_changed = std::mem::replace(&mut self.card_was_there, card) != card;
        if let Some(watcher) = &mut self.watcher {
            watcher.renew();
        }
        let sweep = self.index.survey(clock::realtime());
        if first || card_changed || sweep.added + sweep.gone > 0 {
            let Sweep { added, gone, unread, .. } = sweep;
            tracing::info!(card, added, gone, unread, "card surveyed");
        } else {
            tracing::debug!("card surveyed, nothing has changed");
        }
        self.note(sweep);
    }

    /// Tells what a look at the card brought.
    fn note(&mut self, sweep: Sweep) {
        if self.unread > 0 && sweep.unread == 0 {
            tracing::info!("every recording is read");
        }
        self.unread = sweep.unread;
        self.problems += sweep.problems.len() as u64 + sweep.problems_untold;
        for problem in &sweep.problems {
            let (stream, path) = (&problem.stream, problem.path.display());
            let problem = &problem.kind as &dyn Error;
            tracing::warn!(%stream, %path, problem, "a file cannot be used in full");
        }
        if sweep.problems_untold > 0 {
            tracing::warn!(count = sweep.problems_untold, "further files cannot be used in full");
        }
        if sweep.durability_changed {
            tracing::info!(durability = ?self.index.durability(), "how the index is kept changed");
        }
        self.show();
    }

    /// Lets everybody else know how each stream stands.
    fn show(&mut self) {
        let (now, shown) = (clock::boottime(), clock::realtime());
        let CardThread { index, outlooks, .. } = self;
        self.links.views.send_if_modified(|views| {
            let mut changed = false;
            for (id, outlook) in outlooks {
                let Some(view) = index.stream(id) else { continue };
                let forecast = |horizon| index.overwritten_at(id, horizon, shown);
                let overwriting = outlook.of(now, view.horizon, forecast);
                let same =
                    |known: &Standing| known.view == *view && known.overwriting == overwriting;
                if !views.get(id).is_some_and(same) {
                    views.insert(id.clone(), Standing { view: view.clone(), overwriting });
                    changed = true;
                }
            }
            changed
        });
    }
}

/// As the thread is told it.
fn rate_of(config: &Config) -> usize {
    usize::try_from(config.limits.card_bytes_per_second).unwrap_or(usize::MAX)
}

pub(crate) fn index_config(config: &Config) -> IndexConfig {
    let sources = config.streams.iter().map(|stream| StreamSource {
        stream: stream.id.clone(),
        root: config.card.root.join(&stream.path),
        layout: stream.layout.clone(),
    });
    IndexConfig {
        require_mount: config.card.require_mount,
        join_tolerance: config.index.join_tolerance(),
        seal_after: config.index.seal_after(),
        seal_digest: config.index.seal_digest,
        clock: clock::trust(config.clock.believe).unwrap_or(ClockTrust::Synchronised),
        ..IndexConfig::new(sources.collect(), Some(config.card.state_dir()))
    }
}

fn reason(error: &ReadError) -> RefusedReason {
    match error {
        ReadError::Gone => RefusedReason::Gone,
        ReadError::Changed => RefusedReason::Changed,
        ReadError::Altered { offset } => RefusedReason::Altered { intact: *offset },
        ReadError::Io(_) | ReadError::Cut(_) | ReadError::Unsteady { .. } => {
            RefusedReason::CardError
        }
    }
}

fn message_of(part: LocatedPart) -> Part {
    Part {
        segment: part.segment,
        version: part.version,
        start: part.bytes.start,
        end: part.bytes.end,
        range: part.range,
        uncertainty_ns: u64::try_from(part.uncertainty.as_nanos()).unwrap_or(u64::MAX),
        media: part.needs.encode(),
    }
}
