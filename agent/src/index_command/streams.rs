//! Which streams lie below a directory: as asked, as configured, or as the names in it tell.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sdcard_indexer::identity::{MAX_ID_BYTES, StreamId};
use sdcard_indexer::index::{Index, StreamSource};
use sdcard_indexer::layout::{self, Guess, Layout, LayoutConfig, LayoutError, Sample};
use sdcard_indexer::scan::{Found, ScanLimits, Walk};
use sdcard_indexer::segment::FileStamp;
use sdcard_indexer::time::{TimeRange, Timestamp};

use super::IndexCommandError;
use super::arguments::{Question, Streams};
use super::logged::Logged;
use super::progress::Progress;
use crate::config::{Card as ConfiguredCard, Config};

/// Files between two steps of the progress bar.
const STEP: usize = 1_000;

/// A recorder writes to its file more often than this.
const QUIET: Duration = Duration::from_secs(60);

/// Paths of a stream in the log, the last of them, that are looked for to find out which one it is.
const PATHS_TRIED: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum StreamsError {
    #[error(
        "no file below {0} is named as one of the known layouts: say how they are named by --layout or \
         --template; see gapless-agent index --help"
    )]
    NothingDetected(PathBuf),
    #[error("there is no stream `{asked}`; there are: {known}")]
    UnknownStream { asked: StreamId, known: String },
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// A card and the streams on it.
pub struct Card {
    pub directory: PathBuf,
    /// Where the index's log is kept.
    pub state_dir: PathBuf,
    pub streams: Vec<CardStream>,
}

pub struct CardStream {
    pub source: StreamSource,
    pub layout: LayoutConfig,
    /// Whence it is known that this is its layout, where that was not said.
    pub guess: Option<Guess>,
}

impl Card {
    pub fn find(
        question: &Question,
        now: Timestamp,
        progress: &Progress,
    ) -> Result<Card, IndexCommandError> {
        let directory = question.directory.clone();
        let mut state_dir = directory.join(ConfiguredCard::STATE_DIR);
        let (streams, only) = match &question.streams {
            Streams::Given { stream, layout } => {
                let given =
                    CardStream::new(stream.clone(), directory.clone(), layout.clone(), None)?;
                (vec![given], None)
            }
            Streams::Configured { config, only } => {
                let Config { card, streams, .. } = Config::load(config)?;
                state_dir = match card.state_dir().strip_prefix(&card.root) {
                    Ok(below) => directory.join(below),
                    Err(_) => card.state_dir(),
                };
                let configured = streams.into_iter().map(|stream| {
                    let root = directory.join(stream.path);
                    CardStream::new(stream.id, root, stream.layout.into(), None)
                });
                (configured.collect::<Result<_, _>>()?, only.as_ref())
            }
            Streams::Detected { only, time_zone } => {
                let mut found = detect(&directory, time_zone.as_deref(), now, progress)?;
                adopt_ids(&mut found, &Logged::read(&state_dir));
                (found, only.as_ref())
            }
        };
        let streams = chosen(streams, only)?;
        Ok(Card { directory, state_dir, streams })
    }

    /// Nobody is recording: the newest files have been left alone for so long that they are closed. One that
    /// is torn by a power cut would else be taken for one that is still being written.
    pub fn is_quiet(&self, index: &Index, now: Timestamp) -> bool {
        let latest = now.saturating_sub(QUIET).as_nanos();
        let ids = self.streams.iter().map(|stream| &stream.source.stream);
        let mut segments = ids.flat_map(|id| index.segments(id, TimeRange::ALWAYS));
        segments.all(|segment| segment.sealed || segment.stamp.modified_ns < latest)
    }
}

impl CardStream {
    fn new(
        stream: StreamId,
        root: PathBuf,
        config: LayoutConfig,
        guess: Option<Guess>,
    ) -> Result<CardStream, StreamsError> {
        let layout = Layout::try_from(config.clone())?;
        Ok(CardStream { source: StreamSource { stream, root, layout }, layout: config, guess })
    }

    /// Relative to the directory that was asked about.
    pub fn root_on(&self, card: &Card) -> &Path {
        self.source.root.strip_prefix(&card.directory).unwrap_or(&self.source.root)
    }

    /// `main`, or `main in recordings/main`.
    pub fn title(&self, card: &Card) -> String {
        let (stream, root) = (&self.source.stream, self.root_on(card));
        match root.as_os_str().is_empty() {
            true => stream.to_string(),
            false => format!("{stream} in {}", root.display()),
        }
    }
}

fn chosen(
    mut streams: Vec<CardStream>,
    only: Option<&StreamId>,
) -> Result<Vec<CardStream>, StreamsError> {
    if let Some(asked) = only {
        let known: Vec<_> = streams.iter().map(|stream| stream.source.stream.to_string()).collect();
        streams.retain(|stream| stream.source.stream == *asked);
        if streams.is_empty() {
            let known = known.join(", ");
            return Err(StreamsError::UnknownStream { asked: asked.clone(), known });
        }
    }
    Ok(streams)
}

/// The most convincing layout of each root, and of it a stream for each camera.
fn detect(
    directory: &Path,
    time_zone: Option<&str>,
    now: Timestamp,
    progress: &Progress,
) -> Result<Vec<CardStream>, StreamsError> {
    progress.at("looking at names", 0, None, "files");
    let files = Walk::new(directory, Path::new(""), ScanLimits::default()).filter_map(|found| {
        let Found::File(path) = found else { return None };
        let metadata = fs::symlink_metadata(directory.join(&path)).ok();
        let modified = metadata.map(|metadata| FileStamp::of(&metadata).modified_ns);
        Some(Sample { path, modified: modified.map(Timestamp::from_nanos) })
    });
    let counted = files.zip(1..).map(|(sample, number)| {
        if number % STEP == 0 {
            progress.at("looking at names", number, None, "files");
        }
        sample
    });
    let guesses = layout::detect(counted, now);
    progress.end();

    let (mut streams, mut roots, mut ids) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for guess in guesses {
        if !roots.insert(guess.root.clone()) {
            continue;
        }
        for mut config in guess.configs() {
            if let Some(zone) = time_zone.filter(|_| !guess.preset.is_always_utc()) {
                config.time_zone = Some(zone.to_owned());
            }
            let id = free_id(&guess.root, config.camera.as_deref(), &mut ids);
            let root = directory.join(&guess.root);
            streams.push(CardStream::new(id, root, config, Some(guess.clone()))?);
        }
    }
    if streams.is_empty() {
        return Err(StreamsError::NothingDetected(directory.to_owned()));
    }
    Ok(streams)
}

/// Calls streams as the index on the card does: it was written by an agent that was told their names.
fn adopt_ids(streams: &mut [CardStream], logged: &Logged) {
    for (id, recordings) in &logged.streams {
        let is_of = |stream: &CardStream| {
            recordings.keys().rev().take(PATHS_TRIED).any(|path| {
                let StreamSource { layout, root, .. } = &stream.source;
                layout.parse(path).is_some() && root.join(path).is_file()
            })
        };
        let Ok(id) = id.parse::<StreamId>() else { continue };
        if streams.iter().all(|stream| stream.source.stream != id) {
            if let Some(stream) = streams.iter_mut().find(|stream| is_of(stream)) {
                stream.source.stream = id;
            }
        }
    }
}

/// Named as its folder, and after its camera if it has one: as a configuration would most likely call it.
fn free_id(root: &Path, camera: Option<&str>, taken: &mut BTreeSet<String>) -> StreamId {
    let folder = root.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut name = match (folder, camera) {
        (Some(folder), Some(camera)) => format!("{folder}-{camera}"),
        (Some(name), None) => name,
        (None, Some(camera)) => camera.to_owned(),
        (None, None) => "main".to_owned(),
    };
    let allowed = |byte: char| byte.is_ascii_alphanumeric() || matches!(byte, '_' | '-');
    name = name.chars().map(|byte| if allowed(byte) { byte } else { '-' }).collect();
    name.truncate(MAX_ID_BYTES - "-9999".len());
    let numbered = (2..).map(|number: u32| format!("{name}-{number}"));
    let free = std::iter::once(name.clone()).chain(numbered).find(|id| taken.insert(id.clone()));
    free.unwrap_or(name).parse().expect("it has between 1 and 64 of the characters of an id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_called_as_their_folders_and_cameras_and_never_alike() {
        let mut taken = BTreeSet::new();
        let mut id = |root: &str, camera| free_id(Path::new(root), camera, &mut taken).to_string();
        assert_eq!(id("", None), "main");
        assert_eq!(id("recordings/sub", None), "sub");
        assert_eq!(id("other/sub", None), "sub-2");
        assert_eq!(id("DCIM/Movie", Some("F")), "Movie-F");
        assert_eq!(id("", Some("front_door")), "front_door");
        assert_eq!(id("Caméra 1", None), "Cam-ra-1");
        assert_eq!(id(&"x".repeat(200), None).len(), 59);
    }
}
