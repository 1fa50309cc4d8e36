//! A card in a temporary folder, with recordings made by ffmpeg.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use sdcard_indexer::identity::StreamId;
use sdcard_indexer::index::{Index, IndexConfig, StreamSource, StreamView};
use sdcard_indexer::layout::Layout;
use sdcard_indexer::segment::Segment;
use sdcard_indexer::time::{TimeRange, Timestamp};
use tempfile::TempDir;

/// 4 s of 25 pictures a second, a keyframe each second.
pub const CLIP: Duration = Duration::from_secs(4);

pub struct Clips {
    pub fragmented: Vec<u8>,
    /// The same length, other pictures.
    pub other: Vec<u8>,
    pub plain: Vec<u8>,
    /// Some MiB, so that a segment has several blocks.
    pub large: Vec<u8>,
    pub large_plain: Vec<u8>,
}

pub fn clips() -> &'static Clips {
    static CLIPS: OnceLock<Clips> = OnceLock::new();
    CLIPS.get_or_init(|| {
        let fragmented = ["-movflags", "frag_keyframe+empty_moov+default_base_moof"];
        Clips {
            fragmented: encode("testsrc", &fragmented),
            other: encode("smptebars", &fragmented),
            plain: encode("testsrc", &[]),
            large: encode("testsrc", &[&NOISE[..], &fragmented].concat()),
            large_plain: encode("testsrc", &NOISE),
        }
    })
}

/// What hardly compresses.
const NOISE: [&str; 4] = ["-vf", "noise=alls=100:allf=t", "-crf", "15"];

fn encode(pictures: &str, options: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    let source = format!("{pictures}=size=320x240:rate=25");
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", &source, "-t", "4", "-pix_fmt", "yuv420p"])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-keyint_min", "25"])
        .args(options)
        .arg(&path)
        .status()
        .expect("ffmpeg is needed to make recordings: apt-get install ffmpeg");
    assert!(status.success(), "ffmpeg failed");
    fs::read(path).unwrap()
}

/// A card with one stream `main`, whose files are named by the second.
pub struct Card {
    pub folder: TempDir,
}

impl Card {
    pub fn new() -> Self {
        let card = Card { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(card.root()).unwrap();
        card
    }

    /// `count` segments that follow one another from 10:00:00 on, then what is asked for.
    pub fn with(count: i64, clip: &[u8]) -> Self {
        let card = Card::new();
        (0..count).for_each(|number| card.put(4 * number, clip));
        card
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("main")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub fn path(&self, start_s: i64) -> PathBuf {
        self.root().join(name(start_s))
    }

    pub fn put(&self, start_s: i64, bytes: &[u8]) {
        let path = self.path(start_s);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(path).unwrap().write_all(bytes).unwrap();
    }

    pub fn append(&self, start_s: i64, bytes: &[u8]) {
        let mut file = File::options().append(true).open(self.path(start_s)).unwrap();
        file.write_all(bytes).unwrap();
    }

    pub fn config(&self) -> IndexConfig {
        let source = StreamSource { stream: main_stream(), root: self.root(), layout: layout() };
        IndexConfig::new(vec![source], Some(self.state_dir()))
    }

    pub fn open(&self) -> Index {
        Index::open(self.config()).unwrap()
    }

    /// Opened, swept, and swept again when the newest segment counts as closed.
    pub fn indexed(&self) -> Index {
        let mut index = self.open();
        index.sweep(now());
        index.sweep(later(20));
        index
    }

    /// The bytes of the log's only file.
    pub fn log(&self) -> (PathBuf, Vec<u8>) {
        let files = fs::read_dir(self.state_dir()).unwrap().map(|entry| entry.unwrap().path());
        let is_log = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "log");
        let mut files: Vec<PathBuf> = files.filter(is_log).collect();
        let path = files.pop().unwrap();
        assert!(files.is_empty());
        let bytes = fs::read(&path).unwrap();
        (path, bytes)
    }
}

pub fn main_stream() -> StreamId {
    "main".parse().unwrap()
}

pub fn layout() -> Layout {
    Layout::new("%Y-%m-%d/%H-%M-%S.mp4", "UTC").unwrap()
}

pub fn begin() -> Timestamp {
    "2026-11-23T10:00:00Z".parse().unwrap()
}

pub fn at(seconds: i64) -> Timestamp {
    begin().saturating_offset(seconds * 1_000_000_000)
}

pub fn range(start_s: i64, end_s: i64) -> TimeRange {
    TimeRange::new(at(start_s), at(end_s)).unwrap()
}

pub fn name(start_s: i64) -> PathBuf {
    layout().path_for(at(start_s), 0)
}

pub fn now() -> Timestamp {
    at(3_600)
}

pub fn later(seconds: i64) -> Timestamp {
    at(3_600 + seconds)
}

pub fn view(index: &Index) -> &StreamView {
    index.stream(&main_stream()).unwrap()
}

pub fn segments(index: &Index) -> Vec<Segment> {
    let all = TimeRange::new(Timestamp::MIN, Timestamp::MAX).unwrap();
    index.segments(&main_stream(), all).collect()
}

/// What an index knows of its segments, without how it came to know it.
pub fn knowledge(index: &Index) -> (Vec<impl PartialEq + std::fmt::Debug + use<>>, StreamView) {
    let of =
        |s: Segment| (s.id, s.path.clone(), s.stamp, s.version(), s.range(), s.placement, s.sealed);
    (segments(index).into_iter().map(of).collect(), view(index).clone())
}
