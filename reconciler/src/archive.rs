//! The archive as it is: one thread that reads it with the same indexer that reads cards.
//!
//! It only looks. Pieces get into the archive through [`crate::merge`], and are seen here like any other
//! recording.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::index::{Index, IndexConfig, SWEEP_INTERVAL, StreamSource};
use sdcard_indexer::layout::Layout;
use sdcard_indexer::scan::ScanLimits;
use sdcard_indexer::segment::Segment;
use sdcard_indexer::time::{TimeRange, Timestamp};
use sdcard_indexer::watch::{Hint, Watcher};
use tokio::sync::{mpsc, oneshot};

use crate::config::Config;
use crate::fleet::StreamKey;
use crate::recut;

/// How often the kernel is asked for what has happened.
const POLL: Duration = Duration::from_millis(200);
/// How often open segments are followed without a hint.
const FOLLOW: Duration = Duration::from_secs(1);
/// How often everything is looked at where directories cannot be watched.
const SWEEP_UNWATCHED: Duration = Duration::from_secs(30);
/// Streams that may be announced, and questions asked, before the thread takes them up: as many as a server may have
/// streams, at its start.
const ORDERS: usize = 65_536;
/// The thread may be reading a large archive for the first time.
const BUSY: Duration = Duration::from_secs(30);
const CHANGES: usize = 64;

/// What the archive's files say of a stream.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Archived {
    pub held: Coverage,
    /// Was in the archive and was deleted there: its owner's decision, which is not undone.
    pub removed: Coverage,
}

/// What the archive now holds of a stream.
#[derive(Debug)]
pub struct ArchiveChange {
    pub key: StreamKey,
    pub archived: Archived,
}

/// A file of the archive, whoever wrote it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ArchivedFile {
    pub path: PathBuf,
    pub range: TimeRange,
    /// How far before or behind `range` it may truly lie.
    pub uncertainty: Duration,
}

/// What the archive has around a range.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Around {
    /// Those that share time with it.
    pub files: Vec<ArchivedFile>,
    /// The last instant before it that is held, and the first one behind it.
    pub before: Option<Timestamp>,
    pub behind: Option<Timestamp>,
}

/// Why the archive does not say what it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Silent {
    #[error("the archive knows no such stream")]
    Unknown,
    #[error("the archive is being read for the first time, or its disk is slow")]
    Busy,
}

/// The way to the thread. It ends when the last of these is dropped.
#[derive(Clone, Debug)]
pub struct Archive {
    orders: SyncSender<Order>,
}

#[derive(Debug)]
enum Order {
    /// Look after a stream whose folder lies there, relative to the archive's root.
    Watch(StreamKey, PathBuf),
    /// What is there in the range, and near it?
    Around { key: StreamKey, range: TimeRange, answer: SyncSender<Option<Around>> },
    /// Is the thread there, and not busy?
    Answer(oneshot::Sender<()>),
}

impl Archive {
    /// Starts the thread; it tells of each stream once it has looked, and then of what changes.
    pub fn start(
        config: &Config,
        layout: Layout,
    ) -> std::io::Result<(Archive, mpsc::Receiver<ArchiveChange>)> {
        let (orders, taken) = sync_channel(ORDERS);
        let (changes, seen) = mpsc::channel(CHANGES);
        let reader = Reader {
            root: config.archive.root.clone(),
            state_dir: config.index_dir(),
            join_tolerance: config.archive.join_tolerance(),
            layout,
            streams: BTreeMap::new(),
            watcher: None,
            swept: Instant::now(),
            followed: Instant::now(),
            changes,
        };
        thread::Builder::new().name("archive".to_owned()).spawn(move || reader.run(&taken))?;
        Ok((Archive { orders }, seen))
    }

    /// Looks after a stream from now on; `path` is that of its folder, relative to the archive's root.
    pub fn watch(&self, key: &StreamKey, path: &Path) {
        let watch = Order::Watch(key.clone(), path.to_owned());
        if let Err(TrySendError::Full(_)) = self.orders.try_send(watch) {
            tracing::error!(stream = %key, "more than {ORDERS} streams at once: this one is not watched");
        }
    }

    /// The files of a stream that share time with `range`; none where the thread is too busy to say. Waits for
    /// the answer, so it is not for the main task.
    pub fn near(&self, key: &StreamKey, range: TimeRange) -> Vec<ArchivedFile> {
        self.around(key, range).map(|around| around.files).unwrap_or_default()
    }

    /// What of a stream is there in `range`, and near it. Waits for the answer.
    pub fn around(&self, key: &StreamKey, range: TimeRange) -> Result<Around, Silent> {
        let (answer, answered) = sync_channel(1);
        let around = Order::Around { key: key.clone(), range, answer };
        self.orders.try_send(around).map_err(|_| Silent::Busy)?;
        let around = answered.recv_timeout(BUSY).map_err(|_| Silent::Busy)?;
        around.ok_or(Silent::Unknown)
    }
}

impl Archive {
    /// Returns once the thread has nothing else to do; false where it is not there.
    pub async fn answers(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.orders.try_send(Order::Answer(answer)).is_ok() && answered.await.is_ok()
    }
}

struct Reader {
    root: PathBuf,
    state_dir: PathBuf,
    join_tolerance: Duration,
    layout: Layout,
    streams: BTreeMap<StreamKey, Watched>,
    /// `None` while there is nothing to watch, or nothing to watch with.
    watcher: Option<Watcher>,
    swept: Instant,
    followed: Instant,
    changes: mpsc::Sender<ArchiveChange>,
}

struct Watched {
    root: PathBuf,
    index: Index,
    /// Its folder is there, and watched.
    present: bool,
    /// Looked through since it is watched.
    swept: bool,
    told: Option<Archived>,
}

impl Reader {
    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            let taken: Vec<Order> = match orders.recv_timeout(POLL) {
                Ok(first) => std::iter::once(first).chain(orders.try_iter()).collect(),
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut fresh = Vec::new();
            for order in taken {
                match order {
                    Order::Watch(key, path) => fresh.push((key, path)),
                    // Fails only where nobody waits any more.
                    Order::Around { key, range, answer } => {
                        drop(answer.send(self.around(&key, range)));
                    }
                    Order::Answer(answer) => drop(answer.send(())),
                }
            }
            let listened = if fresh.is_empty() { self.look() } else { self.take_up(fresh) };
            if !listened {
                return;
            }
        }
    }

    /// New streams: watched first, read then, so that nothing falls between.
    fn take_up(&mut self, fresh: Vec<(StreamKey, PathBuf)>) -> bool {
        let mut keys = Vec::new();
        for (key, path) in fresh {
            let root = self.root.join(path);
            let source = StreamSource {
                stream: key.stream.clone(),
                root: root.clone(),
                layout: self.layout.clone(),
            };
            let state_dir = self.state_dir.join(key.device.as_str()).join(key.stream.as_str());
            let mut config = IndexConfig::new(vec![source], Some(state_dir));
            config.join_tolerance = self.join_tolerance;
            config.holes_within = true;
            match Index::open(config) {
                Ok(index) => {
                    let present = root.is_dir();
                    let watched = Watched { root, index, present, swept: false, told: None };
                    self.streams.insert(key.clone(), watched);
                    keys.push(key);
                }
                Err(error) => tracing::error!(stream = %key, %error, "cannot index the archive"),
            }
        }
        self.watch_all();
        keys.iter().all(|key| self.refresh(key, &[]))
    }

    fn around(&self, key: &StreamKey, range: TimeRange) -> Option<Around> {
        let watched = self.streams.get(key)?;
        let file = |segment: Segment| {
            let named = watched.root.join(&segment.path);
            let (path, range) = recut::as_recorded(named, segment.coverage()?);
            Some(ArchivedFile { path, range, uncertainty: segment.placement.uncertainty })
        };
        let files = watched.index.segments(&key.stream, range).filter_map(file).collect();
        let held = watched.index.stream(&key.stream).map(|view| view.held.ranges());
        let held = held.unwrap_or_default();
        let before = held.partition_point(|held| held.start() < range.start()).checked_sub(1);
        let before = before.and_then(|at| held.get(at)).map(|held| held.end().min(range.start()));
        let behind = held.get(held.partition_point(|held| held.end() <= range.end()));
        let behind = behind.map(|held| held.start().max(range.end()));
        Some(Around { files, before, behind })
    }

    fn watch_all(&mut self) {
        let roots = self.streams.values().map(|watched| watched.root.clone()).collect();
        self.watcher = match Watcher::new(roots, ScanLimits::default()) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, "the archive is looked through every {SWEEP_UNWATCHED:?} instead");
                None
            }
        };
    }

    fn look(&mut self) -> bool {
        let mut hints = match self.watcher.as_mut().map(Watcher::poll) {
            Some(Ok(hints)) => hints,
            Some(Err(error)) => {
                tracing::warn!(%error, "the archive is looked through instead");
                vec![Hint::SweepAll]
            }
            None => Vec::new(),
        };
        let all_watched =
            self.watcher.as_ref().is_some_and(|watcher| watcher.unwatched().is_none());
        let pause = if all_watched { SWEEP_INTERVAL } else { SWEEP_UNWATCHED };
        if self.swept.elapsed() >= pause {
            self.swept = Instant::now();
            hints.push(Hint::SweepAll);
        }
        let follow = self.followed.elapsed() >= FOLLOW;
        if follow {
            self.followed = Instant::now();
            self.await_folders();
        }
        let concerns = |watched: &Watched, hint: &Hint| {
            hint.path().is_none_or(|path| path.starts_with(&watched.root))
        };
        let work: Vec<(StreamKey, Vec<Hint>)> = self
            .streams
            .iter()
            .map(|(key, watched)| {
                let own = hints.iter().filter(|hint| concerns(watched, hint)).cloned();
                (key.clone(), own.collect::<Vec<_>>())
            })
            .filter(|(_, hints)| follow || !hints.is_empty())
            .collect();
        work.iter().all(|(key, hints)| self.refresh(key, hints))
    }

    /// A recorder makes its folder when it first records: it is watched from then on.
    fn await_folders(&mut self) {
        let mut appeared = false;
        for watched in self.streams.values_mut().filter(|watched| !watched.present) {
            watched.present = watched.root.is_dir();
            watched.swept &= !watched.present;
            appeared |= watched.present;
        }
        if appeared {
            self.watch_all();
        }
    }

    /// Brings one stream up to date, and tells what is new. False once nobody listens.
    fn refresh(&mut self, key: &StreamKey, hints: &[Hint]) -> bool {
        let Some(watched) = self.streams.get_mut(key) else { return true };
        let now = Timestamp::from_jiff(jiff::Timestamp::now());
        let sweep = match std::mem::replace(&mut watched.swept, true) {
            true => watched.index.refresh(hints, now),
            false => watched.index.sweep(now),
        };
        for problem in &sweep.problems {
            tracing::warn!(stream = %key, file = %problem.path.display(), problem = %problem.kind, "in the archive");
        }
        let Some(view) = watched.index.stream(&key.stream) else { return true };
        let archived = Archived { held: view.held.clone(), removed: view.gone.clone() };
        if watched.told.as_ref() == Some(&archived) {
            return true;
        }
        watched.told = Some(archived.clone());
        self.changes.blocking_send(ArchiveChange { key: key.clone(), archived }).is_ok()
    }
}
/// A stream's files as they stand now, read anew: for who looks without a server.
pub fn read_now(config: &Config, key: &StreamKey) -> anyhow::Result<Index> {
    let root = config.archive.root.join(config.archive.stream_path(key));
    let source = StreamSource { stream: key.stream.clone(), root, layout: config.layout()? };
    let mut index = Index::open(IndexConfig::new(vec![source], None))?;
    index.sweep(Timestamp::from_jiff(jiff::Timestamp::now()));
    Ok(index)
}
