//! Cards as recorders leave them, in a temporary directory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use sdcard_indexer::layout::{Layout, LayoutConfig, Preset};
use sdcard_indexer::time::Timestamp;
use tempfile::TempDir;

/// Length of every recording.
pub const CLIP: Duration = Duration::from_secs(2);

/// Two seconds of fragmented MP4, made once by ffmpeg.
fn clip() -> &'static [u8] {
    static MADE: OnceLock<Vec<u8>> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("clip.mp4");
        let arguments = "-loglevel error -nostdin -f lavfi -i testsrc=size=160x90:rate=10:duration=2 \
                         -c:v libx264 -g 10 -pix_fmt yuv420p -movflags frag_keyframe+empty_moov";
        let made = Command::new("ffmpeg").args(arguments.split_whitespace()).arg(&path).status();
        let made = made.expect("ffmpeg is needed to make recordings: apt-get install ffmpeg");
        assert!(made.success());
        fs::read(path).unwrap()
    })
}

pub fn at(second: u32) -> Timestamp {
    let start: Timestamp = "2024-05-13T23:59:50Z".parse().unwrap();
    start.saturating_add(Duration::from_secs(second.into()))
}

pub fn layout(preset: Preset, camera: Option<&str>, time_zone: &str) -> Layout {
    let (camera, time_zone) = (camera.map(str::to_owned), Some(time_zone.to_owned()));
    LayoutConfig { layout: Some(preset), template: None, time_zone, camera }.try_into().unwrap()
}

#[derive(Debug)]
pub struct Card(TempDir);

impl Card {
    pub fn new() -> Card {
        Card(TempDir::new().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A recording that began at a second of the test's; returns its path below the card.
    pub fn record(&self, below: &str, layout: &Layout, second: u32) -> PathBuf {
        let path = Path::new(below).join(layout.path_for(at(second), second));
        self.write(&path, clip());
        let modified = at(second).saturating_add(CLIP).as_nanos();
        let modified = Duration::from_nanos(u64::try_from(modified).unwrap());
        let file = File::options().write(true).open(self.path().join(&path)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + modified).unwrap();
        path
    }

    /// Twenty seconds without a hole but from the eighth to the twelfth.
    pub fn record_with_a_hole(&self, below: &str, layout: &Layout) {
        for second in [0, 2, 4, 6, 12, 14, 16, 18] {
            self.record(below, layout, second);
        }
    }

    pub fn write(&self, path: &Path, bytes: &[u8]) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = File::create(path).unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
    }

    /// Cuts off the end of a file, as a power cut does.
    pub fn tear(&self, path: &Path) {
        let file = File::options().write(true).open(self.path().join(path)).unwrap();
        let bytes = file.metadata().unwrap().len();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.set_len(bytes - 100).unwrap();
        file.set_modified(modified).unwrap();
    }

    /// Every file with its size and time of change, and every directory.
    pub fn content(&self) -> BTreeMap<PathBuf, (u64, SystemTime)> {
        let mut content = BTreeMap::new();
        let mut folders = vec![self.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let metadata = entry.metadata().unwrap();
                if metadata.is_dir() {
                    folders.push(entry.path());
                }
                content.insert(entry.path(), (metadata.len(), metadata.modified().unwrap()));
            }
        }
        content
    }
}
