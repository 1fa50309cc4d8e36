//! What the log of a card's index says, read as it stands: nothing is mended, and nothing written.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sdcard_indexer::durable::Durable;
use sdcard_indexer::identity::SegmentVersion;
use sdcard_indexer::log::{Log, Record};
use sdcard_indexer::readable::explain;

/// Recordings by their paths below the stream's root.
pub type Recordings = BTreeMap<PathBuf, SegmentVersion>;

#[derive(Default)]
pub struct Logged {
    /// By the streams' ids.
    pub streams: BTreeMap<String, Recordings>,
    /// Files of the log that are not whole, and what is wrong with them.
    pub damaged: Vec<(PathBuf, String)>,
    /// There is a log, be it an empty one.
    pub is_there: bool,
}

impl Logged {
    pub fn read(state_dir: &Path) -> Logged {
        let mut log = Log::new(state_dir.to_owned(), Durable::default());
        let mut logged = Logged::default();
        let outcome = log.replay(|_, record| logged.take(&record));
        for (day, bytes) in log.torn_days() {
            let problem = format!("the last {bytes} bytes are no records");
            logged.damaged.push((log.path_of(day), problem));
        }
        for (day, _) in log.days().filter(|(_, records)| records.is_none()) {
            let problem = outcome.as_ref().err().map_or(String::new(), |error| explain(error));
            logged.damaged.push((log.path_of(day), problem));
        }
        if let (Err(error), true) = (&outcome, logged.damaged.is_empty()) {
            logged.damaged.push((state_dir.to_owned(), explain(error)));
        }
        logged.is_there = log.days().next().is_some() || outcome.is_err();
        logged
    }

    fn take(&mut self, record: &Record<'_>) {
        let path = |bytes| PathBuf::from(OsStr::from_bytes(bytes));
        match record {
            Record::Segment(segment) => {
                let (size_bytes, fingerprint) = (segment.size_bytes, segment.fingerprint);
                let version = SegmentVersion { size_bytes, fingerprint };
                let recordings = self.streams.entry(segment.stream.to_owned()).or_default();
                recordings.insert(path(segment.path), version);
            }
            Record::Removed(removed) => {
                if let Some(recordings) = self.streams.get_mut(removed.stream) {
                    recordings.remove(&path(removed.path));
                }
            }
            Record::Gone(_)
            | Record::Digest(_)
            | Record::Changed(_)
            | Record::Epoch(_)
            | Record::Holes(_) => {}
        }
    }

    pub fn count(&self) -> usize {
        self.streams.values().map(BTreeMap::len).sum()
    }
}
