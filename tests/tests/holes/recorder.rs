//! A recorder whose files can be named as any clock, and any habit, would have named them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::index::{Index, IndexConfig, StreamSource};
use sdcard_indexer::layout::Layout;
use sdcard_indexer::time::Timestamp;
use tempfile::TempDir;
use tests::artifacts::tool;
use tests::naming::Naming;

/// The server's.
pub const TOLERANCE: Duration = Duration::from_millis(500);
pub const H264: &str = "-c:v libx264 -preset ultrafast -crf 30 -x264-params \
     bframes=0:keyint=25:min-keyint=25:scenecut=0";

/// A camera of 25 frames a second for as long as is told.
pub fn camera(seconds: u32) -> String {
    format!("-f lavfi -i testsrc2=size=160x90:rate=25 -t {seconds} -pix_fmt yuv420p")
}

/// Each file's time stamps begin at zero.
pub const FROM_ZERO: &str = "-reset_timestamps 1";
/// Time stamps count on from file to file.
pub const COUNTING_ON: &str = "-reset_timestamps 0";

/// What a recorder has written.
#[derive(Clone, Debug)]
pub struct File {
    pub path: PathBuf,
    /// Since the recording's first frame.
    pub start: Duration,
}

/// Files in a directory of their own.
#[derive(Debug)]
pub struct Recordings {
    pub directory: TempDir,
}

impl Recordings {
    pub fn new() -> Recordings {
        Recordings { directory: tempfile::tempdir().unwrap() }
    }

    /// Runs ffmpeg's segment muxer; files are not named yet.
    pub fn record(&self, run: &str, arguments: &str, extension: &str) -> Vec<File> {
        let list = self.directory.path().join(format!("{run}.csv"));
        let files = self.directory.path().join(format!("{run}-%d.{extension}"));
        let list_path = list.display().to_string();
        let files_path = files.display().to_string();
        let segment = ["-f", "segment", "-segment_list", &list_path, &files_path];
        ffmpeg(arguments.split_whitespace().chain(segment));
        let listing = fs::read_to_string(&list).unwrap();
        fs::remove_file(list).unwrap();
        let file = |line: &str| {
            let fields: Vec<&str> = line.split(',').collect();
            let start = Duration::from_secs_f64(fields[1].parse::<f64>().unwrap().max(0.0));
            File { path: self.directory.path().join(fields[0]), start }
        };
        listing.lines().map(file).collect()
    }

    /// Names a file for when it was begun, by a recorder that was so much late.
    pub fn name(&self, file: &File, naming: Naming, late: Duration) -> PathBuf {
        let begun = first_frame().saturating_add(file.start + late);
        let extension = file.path.extension().unwrap();
        let path = self.directory.path().join(naming.path(begun)).with_extension(extension);
        assert!(!path.exists(), "{}", path.display());
        fs::rename(&file.path, &path).unwrap();
        path
    }

    pub fn name_all(&self, files: &[File], naming: Naming) {
        files.iter().for_each(|file| drop(self.name(file, naming, Duration::ZERO)));
    }

    /// What the archive's index says to be missing between the first and the last of it, in seconds since the
    /// recording's first frame.
    pub fn holes(&self, naming: Naming) -> Vec<(f64, f64)> {
        holes_in(self.directory.path(), naming)
    }
}

/// No whole second.
pub fn first_frame() -> Timestamp {
    "2024-06-03T10:00:00.3Z".parse().unwrap()
}

pub fn ffmpeg<'a>(arguments: impl Iterator<Item = &'a str>) {
    let mut command = Command::new(tool("ffmpeg").unwrap());
    command.args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"]).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What the archive's index holds of a directory, once all files are closed, and after restarts.
pub fn held_in(directory: &Path, naming: Naming) -> Coverage {
    let stream: StreamId = "main".parse().unwrap();
    let layout = Layout::new(naming.template(), "UTC").unwrap();
    let source = StreamSource { stream: stream.clone(), root: directory.to_owned(), layout };
    let state = tempfile::tempdir().unwrap();
    let config = IndexConfig {
        join_tolerance: TOLERANCE,
        holes_within: true,
        ..IndexConfig::new(vec![source], Some(state.path().to_owned()))
    };
    let now: Timestamp = "2024-06-04T00:00:00Z".parse().unwrap();
    let swept = |at: Timestamp| {
        let mut index = Index::open(config.clone()).unwrap();
        let read = index.sweep(now).read + if at > now { index.sweep(at).read } else { 0 };
        (read, index.stream(&stream).unwrap().held.clone())
    };
    let (_, first) = swept(now);
    let (read_again, known) = swept(now);
    assert_eq!(known, first, "what is known after a restart");
    // The last file, which may still be written to, and the one before for the border between the two.
    assert!((1..=2).contains(&read_again), "{read_again}");
    // All are taken for closed once nothing happens.
    let closed = now.saturating_add(Duration::from_secs(60));
    let (_, held) = swept(closed);
    assert_eq!(swept(closed), (0, held.clone()), "what is known after another restart");
    held
}

pub fn holes_in(directory: &Path, naming: Naming) -> Vec<(f64, f64)> {
    let held = held_in(directory, naming);
    let seconds = |at: Timestamp| at.nanos_from(first_frame()) as f64 / 1e9;
    let holes = held.gaps(held.hull().unwrap());
    holes.iter().map(|hole| (seconds(hole.start()), seconds(hole.end()))).collect()
}
