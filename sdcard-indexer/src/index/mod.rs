//! The index: for each stream what its recordings hold, kept true to the directories.
//!
//! The files are the truth, the index is a cache of them: its log ([`crate::log`]) can vanish at any moment
//! and is rebuilt. Recordings are opened for reading only; nothing is written but the log, and not even
//! that while the card is not mounted.
//!
//! One thread owns an index, and it blocks on the card. Its driver calls [`Index::sweep`] at the start,
//! every [`SWEEP_INTERVAL`] and when told to by [`Hint::SweepAll`]; in between [`Index::refresh`], with what
//! the watcher says, and every few seconds with nothing, so that an open segment is followed.
//!
//! The deciding parts are pure: `table` (what follows from listings and readings, kept in `rows`), `gone`
//! (tombstones), `finality` and `view`.

mod clock;
mod finality;
mod gone;
mod holes;
mod locate;
mod problem;
mod read;
mod retention;
mod row;
mod rows;
mod runs;
mod seals;
mod store;
mod stream;
mod table;
mod view;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::clock::{Boottime, ClockJournal, ClockReading, ClockTrust};
use crate::durable::Durable;
use crate::identity::{SegmentId, SegmentVersion, StreamId};
use crate::layout::Layout;
use crate::log::Written;
use crate::recordings::{Folder, Recordings};
use crate::scan::ScanLimits;
use crate::segment::Segment;
use crate::time::{TimeRange, Timestamp};
use crate::watch::Hint;

pub use holes::KnownHoles;
pub use locate::{LocateError, Located, LocatedPart};
pub use problem::{Problem, ProblemKind};
pub use read::{ReadError, SegmentReader};
pub use retention::{Basis, Forecast, HorizonSpeed};
pub use seals::{DigestError, Digested};
pub use store::{Durability, MemoryOnlyReason};
pub use table::FUTURE_TOLERANCE;
pub use view::StreamView;

use clock::Clock;
use problem::Told;
use retention::Filling;
use seals::Seals;
use store::Store;
use stream::{Look, Stream};

/// How often everything is looked at, whatever the watcher says.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

#[derive(Clone, Debug)]
pub struct StreamSource {
    pub stream: StreamId,
    pub root: PathBuf,
    pub layout: Layout,
}

#[derive(Clone, Debug)]
pub struct IndexConfig {
    pub sources: Vec<StreamSource>,
    /// Where the log is kept; `None`: nowhere, the index lives in memory only.
    pub state_dir: Option<PathBuf>,
    /// The roots lie on a file system of their own; where they lie on that of `/`, the card is missing.
    pub require_mount: bool,
    /// Holes in coverage no longer than this are none: the rounding of durations. Where only names tell of one, it
    /// has to be longer by one step of these.
    pub join_tolerance: Duration,
    /// Look for longer ones inside segments too, which only a look at every frame's header shows: for the files
    /// of a recorder that waits out a loss of its network. A camera that records what it films has none.
    pub holes_within: bool,
    /// An open segment that has not changed for so long is taken as closed.
    pub seal_after: Duration,
    /// Take a digest of each segment when it is sealed, and keep it beside the log: see [`Index::digest`].
    pub seal_digest: bool,
    pub scan: ScanLimits,
    /// Which clocks are believed, once [`Index::observe_clock`] is told of them. Before, and in an index that
    /// is told of none, all are.
    pub clock: ClockTrust,
}

impl IndexConfig {
    pub fn new(sources: Vec<StreamSource>, state_dir: Option<PathBuf>) -> Self {
        IndexConfig {
            sources,
            state_dir,
            require_mount: false,
            join_tolerance: Duration::from_millis(200),
            holes_within: false,
            seal_after: Duration::from_secs(10),
            seal_digest: false,
            scan: ScanLimits::default(),
            clock: ClockTrust::Synchronised,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error("stream `{0}` is configured twice")]
    DuplicateStream(StreamId),
}

/// What one call of [`Index::sweep`] or [`Index::refresh`] found.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Per stream, the window in which what is held or gone has changed.
    pub changed: Vec<(StreamId, TimeRange)>,
    /// Segments whose names were seen for the first time.
    pub added: usize,
    /// Segments that are no longer there.
    pub gone: usize,
    /// Files that were opened and read.
    pub read: usize,
    /// Files that are still to be read.
    pub unread: usize,
    /// What was not told before, each file once.
    pub problems: Vec<Problem>,
    /// Further problems, beyond the number that is kept.
    pub problems_untold: u64,
    /// [`Index::durability`] is not what it was before this call.
    pub durability_changed: bool,
}

impl Sweep {
    fn merge(&mut self, later: Sweep) {
        for (stream, window) in later.changed {
            self.note_change(&stream, window);
        }
        self.added += later.added;
        self.gone += later.gone;
        self.read += later.read;
        self.unread = later.unread;
        self.problems.extend(later.problems);
        self.problems_untold += later.problems_untold;
        self.durability_changed |= later.durability_changed;
    }

    fn note_change(&mut self, stream: &StreamId, window: TimeRange) {
        match self.changed.iter_mut().find(|(known, _)| known == stream) {
            Some((_, known)) => *known = known.hull(&window),
            None => self.changed.push((stream.clone(), window)),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Index {
    config: IndexConfig,
    streams: Vec<Stream>,
    store: Store,
    seals: Seals,
    told: Told,
    durable: Durable,
    clock: Clock,
    /// The card is there, and what its log says has been taken over.
    attached: bool,
}

impl Index {
    /// Takes over what the log says and looks at no recording. No stream is present until it is surveyed.
    pub fn open(config: IndexConfig) -> Result<Index, IndexError> {
        Index::open_with(config, |_| None)
    }

    /// As [`Index::open`], with the stores of a maker in place of folders: `store` is asked once for each
    /// source, and a source of which it says `None` is the [`Folder`] of its root. A store's root says where
    /// it lies, in the maker's own terms; its layout, how its recordings are named.
    pub fn open_with(
        config: IndexConfig,
        store: impl FnMut(&StreamSource) -> Option<Box<dyn Recordings>>,
    ) -> Result<Index, IndexError> {
        Index::open_on(config, store, &Durable::default())
    }

    /// As [`Index::open_with`]; its log is written by `durable`.
    pub fn open_on(
        config: IndexConfig,
        mut store: impl FnMut(&StreamSource) -> Option<Box<dyn Recordings>>,
        durable: &Durable,
    ) -> Result<Index, IndexError> {
        let mut known = HashSet::new();
        if let Some(twice) = config.sources.iter().find(|source| !known.insert(&source.stream)) {
            return Err(IndexError::DuplicateStream(twice.stream.clone()));
        }
        let folder = |source: &StreamSource| {
            let (limits, require_mount) = (config.scan, config.require_mount);
            Box::new(Folder { root: source.root.clone(), limits, require_mount })
        };
        let streams = config.sources.iter().map(|source| {
            let recordings = store(source).unwrap_or_else(|| folder(source));
            Stream::new(source.clone(), recordings, &config)
        });
        let mut index = Index {
            streams: streams.collect(),
            store: Store::new(config.state_dir.clone(), durable),
            seals: Seals::new(config.state_dir.clone(), durable, config.seal_digest),
            told: Told::default(),
            durable: durable.clone(),
            clock: Clock::new(ClockJournal::new(config.clock), config.state_dir.clone(), durable),
            attached: false,
            config,
        };
        index.attach();
        Ok(index)
    }

    /// Looks at every directory, reads every file that is new or changed, and keeps the log.
    pub fn sweep(&mut self, now: Timestamp) -> Sweep {
        let mut sweep = self.survey(now);
        sweep.merge(self.read_unread(now, usize::MAX));
        sweep
    }

    /// The first half of [`Index::sweep`]: looks at every directory and opens no file. What is new is then
    /// known by its name, tier [`crate::segment::Tier::Names`].
    pub fn survey(&mut self, now: Timestamp) -> Sweep {
        let mut sweep = Sweep::default();
        let attached = self.attach();
        let now = self.clock.utc(now);
        if attached {
            let placer = self.clock.placer();
            let mut look = Look::new(&self.config, &mut self.told, &placer, now);
            for stream in &mut self.streams {
                sweep.gone += stream.survey(&mut look);
                sweep.added += stream.settle(self.config.seal_after, &mut look);
                stream.table.bound_gone();
            }
            self.save(now);
            if self.card_is_there() {
                self.store.housekeep(&self.streams, now);
                self.seals.housekeep(&self.streams);
            }
        }
        self.conclude(sweep, |stream| stream.renew_view(now))
    }

    /// The second half of [`Index::sweep`]: opens at most `limit` of the files that are to be read, each
    /// stream's newest first. While much is left to read, [`Index::stream`] follows in steps.
    pub fn read_unread(&mut self, now: Timestamp, limit: usize) -> Sweep {
        let mut sweep = Sweep::default();
        let now = self.clock.utc(now);
        if self.attached {
            let placer = self.clock.placer();
            for stream in &mut self.streams {
                let left = limit - sweep.read;
                sweep.read += stream.read_unread(left, &mut self.seals, &mut self.told, &placer);
            }
            self.save(now);
        }
        self.conclude(sweep, |stream| stream.renew_view_in_portions(now))
    }

    /// Looks where `hints` point and at each stream's open segment, and reads what has changed.
    pub fn refresh(&mut self, hints: &[Hint], now: Timestamp) -> Sweep {
        if !self.attached || !self.card_is_there() || hints.contains(&Hint::SweepAll) {
            return self.sweep(now);
        }
        let mut sweep = Sweep::default();
        let placer = self.clock.placer();
        let shown = now;
        let now = self.clock.utc(shown);
        let mut look = Look::new(&self.config, &mut self.told, &placer, now);
        for stream in self.streams.iter_mut().filter(|stream| stream.present) {
            sweep.gone += stream.refresh(hints, &mut look);
            sweep.added += stream.settle(self.config.seal_after, &mut look);
        }
        sweep.merge(self.read_unread(shown, usize::MAX));
        sweep
    }

    /// Takes a reading of the recorders' clock; of the first, and each time that before a look and after hints
    /// were polled. Where it tells more of when segments were recorded, all are placed anew, and the outcome is
    /// told. What is gone already stays where it was.
    pub fn observe_clock(&mut self, reading: ClockReading) -> Option<Sweep> {
        let news = self.clock.observe(reading);
        while let Some(epoch) = self.clock.outdated() {
            self.streams.iter_mut().for_each(|stream| stream.settle_epoch(epoch));
            self.clock.forget(epoch);
        }
        if self.attached && self.card_is_there() {
            self.store.keep_clock(&mut self.clock, reading.realtime);
        }
        if !news {
            return None;
        }
        let placer = self.clock.placer();
        self.streams.iter_mut().for_each(|stream| stream.place_all(&placer));
        self.clock.all_is_placed();
        let now = self.clock.utc(reading.realtime);
        if self.attached {
            self.save(now);
        }
        Some(self.conclude(Sweep::default(), |stream| stream.renew_view(now)))
    }

    /// Takes the word of a server about what time it was at an instant of this boot, to within `error`: what
    /// counts where no time service has set the clock. What follows is told by the next
    /// [`Index::observe_clock`].
    pub fn told_time(&mut self, at: Boottime, utc: Timestamp, error: Duration) {
        self.clock.told(at, utc, error);
    }

    /// Writes the whole log anew, without what is dead, damaged, or of streams that are not configured; says
    /// whether that was possible. To be called behind a sweep, by who found the log wanting.
    pub fn rewrite_log(&mut self, now: Timestamp) -> &Durability {
        if self.attached && self.card_is_there() {
            self.store.rewrite(&self.streams, now);
        }
        self.durability()
    }

    pub fn stream(&self, stream: &StreamId) -> Option<&StreamView> {
        self.find(stream).map(|stream| &stream.view)
    }

    /// The segments that share time with `range`, in the order of their names' times; also those without any
    /// that start in it.
    pub fn segments(&self, stream: &StreamId, range: TimeRange) -> impl Iterator<Item = Segment> {
        self.find(stream).into_iter().flat_map(move |stream| stream.table.touching(range))
    }

    /// How many segments a stream has, whatever can be used of them.
    pub fn segment_count(&self, stream: &StreamId) -> usize {
        self.find(stream).map_or(0, |stream| stream.table.len())
    }

    /// How fast the oldest footage of a stream vanishes; `None` as long as too little was seen to vanish.
    pub fn horizon_speed(&self, stream: &StreamId, now: Timestamp) -> Option<HorizonSpeed> {
        self.find(stream)?.table.horizon_speed(self.clock.utc(now))
    }

    /// When what a stream holds at the instant `at` is expected to be overwritten; of a segment, that is its
    /// start. `None`: it is not held, or nothing can be said. `now` is what the recorders' clock shows; `at`
    /// and the forecast are on the clock by which all is placed.
    pub fn overwritten_at(
        &self,
        stream: &StreamId,
        at: Timestamp,
        now: Timestamp,
    ) -> Option<Forecast> {
        let now = self.clock.utc(now);
        let known = self.find(stream).filter(|known| known.view.held.contains(at))?;
        known.table.forecast(&known.view, at, now).or_else(|| {
            let free_bytes = self.durable.disk().file_system(&known.source.root).ok()?.free_bytes;
            let streams = self.streams.iter().map(|stream| stream.table.filling(at));
            streams.reduce(Filling::and)?.forecast(free_bytes, now)
        })
    }

    /// Of which stream a segment is, and when it was recorded.
    pub fn place_of(&self, segment: SegmentId) -> Option<(&StreamId, TimeRange)> {
        self.streams
            .iter()
            .find_map(|stream| Some((&stream.source.stream, stream.table.find(segment)?.range())))
    }

    /// Where a segment of [`Index::segments`] lies: its source's root, and its name behind it.
    pub fn path_of(&self, segment: SegmentId) -> Option<PathBuf> {
        self.streams.iter().find_map(|stream| stream.path_of(segment))
    }

    /// Opens the bytes that `version` names. A segment that has grown since still holds them; one that
    /// holds others is read again at the next refresh.
    pub fn open_segment(
        &mut self,
        segment: SegmentId,
        version: SegmentVersion,
    ) -> Result<SegmentReader, ReadError> {
        let stream = self.streams.iter_mut().find(|stream| stream.table.find(segment).is_some());
        stream.ok_or(ReadError::Gone)?.open_segment(segment, version, &self.seals)
    }

    /// False: a store is not there, as where a root is to lie on a mounted card and does not.
    pub fn card_is_there(&self) -> bool {
        self.streams.iter().all(|stream| stream.recordings.is_there())
    }

    /// Whether the index outlives this process, and if not, why.
    pub fn durability(&self) -> &Durability {
        self.store.durability()
    }

    /// What this process has had written to its log, without the file system's own share.
    pub fn bytes_written(&self) -> u64 {
        self.written().total_bytes()
    }

    /// As [`Index::bytes_written`], by day and by segment.
    pub fn written(&self) -> Written {
        self.store.written()
    }

    fn find(&self, stream: &StreamId) -> Option<&Stream> {
        self.streams.iter().find(|known| known.source.stream == *stream)
    }

    /// Notices a card that comes and goes. One that comes may be another one: all is taken from its log.
    fn attach(&mut self) -> bool {
        let there = self.card_is_there();
        if there && (!self.attached || self.store.is_anothers()) {
            for stream in &mut self.streams {
                stream.clear();
            }
            self.seals.reload();
            self.clock.load();
            self.store.load(&mut self.streams);
        }
        self.attached = there;
        there
    }

    /// The card may have gone while it was being read.
    fn save(&mut self, now: Timestamp) {
        if self.card_is_there() {
            self.store.count(now, self.seals.take_written());
            self.store.save(&mut self.streams, now);
        }
    }

    fn conclude(
        &mut self,
        mut sweep: Sweep,
        mut renew_view: impl FnMut(&mut Stream) -> Option<TimeRange>,
    ) -> Sweep {
        for stream in &mut self.streams {
            stream.present &= self.attached;
            if let Some(window) = renew_view(stream) {
                sweep.note_change(&stream.source.stream, window);
            }
            let unread = stream.unread();
            stream.caught_up |= stream.present && unread == 0;
            sweep.unread += unread;
        }
        (sweep.problems, sweep.problems_untold) = self.told.take();
        sweep.durability_changed = self.store.take_change();
        sweep
    }
}
