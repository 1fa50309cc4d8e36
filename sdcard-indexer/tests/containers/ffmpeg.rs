//! Making recordings with ffmpeg, and asking ffprobe about them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

/// Runs a tool of ffmpeg's and returns what it printed.
fn run(tool: &str, arguments: &[&str], path: &Path) -> String {
    run_tool(Command::new(tool).args(["-loglevel", "error"]).args(arguments).arg(path), "ffmpeg")
}

/// Runs a tool that `packages` have, and returns what it printed.
pub fn run_tool(command: &mut Command, packages: &str) -> String {
    let tool = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|error| {
        panic!("cannot run {tool} ({error}): install it with `apt-get install {packages}`")
    });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).expect("the tool prints text")
}

/// Six seconds at 25 frames a second with a keyframe a second and sound, encoded once for all tests.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    H264,
    H264BFrames,
    /// Open groups of pictures: CRA keyframes with leading pictures.
    H265OpenGop,
    /// Three keyframes a second, mono Opus.
    H264Opus,
}

impl Source {
    pub const ALL: [Source; 4] =
        [Source::H264, Source::H264BFrames, Source::H265OpenGop, Source::H264Opus];

    pub fn encoder(self) -> &'static str {
        match self {
            Source::H264 => "-c:v libx264 -bf 0 -g 25 -c:a aac -ar 48000",
            Source::H264BFrames => {
                "-c:v libx264 -bf 4 -x264-params b-pyramid=normal:scenecut=0 -g 25 -c:a aac -ar 44100"
            }
            Source::H265OpenGop => {
                "-c:v libx265 -x265-params log-level=none:keyint=25:min-keyint=25:bframes=3:open-gop=1 \
                 -c:a aac -ar 16000"
            }
            Source::H264Opus => "-c:v libx264 -bf 2 -g 8 -c:a libopus",
        }
    }

    /// The encoded file; made by the first who asks.
    pub fn path(self) -> PathBuf {
        static MADE: [OnceLock<TempDir>; 4] = [const { OnceLock::new() }; 4];
        let folder = MADE[self as usize].get_or_init(|| {
            let folder = TempDir::new().expect("a temporary directory");
            let inputs = "-nostdin -f lavfi -i testsrc=size=160x90:rate=25:duration=6 \
                          -f lavfi -i sine=frequency=440:sample_rate=48000:duration=6 \
                          -pix_fmt yuv420p -crf 40 -b:a 24k";
            let arguments: Vec<&str> = words(inputs).chain(words(self.encoder())).collect();
            run("ffmpeg", &arguments, &folder.path().join("source.mp4"));
            folder
        });
        folder.path().join("source.mp4")
    }

    /// What ffmpeg makes of it with `arguments`, in which the word `SOURCE` stands for it.
    pub fn made(self, arguments: &str, extension: &str) -> Recording {
        let source = self.path();
        let source = source.to_str().expect("a temporary path is text");
        let arguments: Vec<&str> = ["-nostdin"]
            .into_iter()
            .chain(words(arguments).map(|word| if word == "SOURCE" { source } else { word }))
            .collect();
        Recording::write(extension, |path| drop(run("ffmpeg", &arguments, path)))
    }

    /// A copy of it, written with `options` as MP4.
    pub fn muxed(self, options: &str) -> Recording {
        self.made(&format!("-i SOURCE -c copy {options}"), "mp4")
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_ascii_whitespace()
}

/// A recording on disk and in memory.
pub struct Recording {
    folder: TempDir,
    name: String,
    pub bytes: Vec<u8>,
}

/// A packet as `ffprobe -show_packets` prints it, times in the stream's ticks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    pub stream: usize,
    pub pts: i64,
    pub dts: i64,
    pub size: u32,
    pub pos: u64,
    pub key: bool,
}

impl Recording {
    pub fn write(extension: &str, make: impl FnOnce(&Path)) -> Recording {
        let folder = TempDir::new().expect("a temporary directory");
        let name = format!("recording.{extension}");
        let path = folder.path().join(&name);
        make(&path);
        let bytes = std::fs::read(&path).expect("the recording was written");
        Recording { folder, name, bytes }
    }

    #[allow(clippy::disallowed_methods, reason = "a scratch file of a test need not be durable")]
    pub fn of_bytes(bytes: &[u8]) -> Recording {
        Recording::write("mp4", |path| std::fs::write(path, bytes).expect("a scratch file"))
    }

    /// A copy of it in another container.
    pub fn remuxed(&self, extension: &str) -> Recording {
        let path = self.folder.path().join(&self.name);
        let path = path.to_str().expect("a temporary path is text");
        let arguments = ["-nostdin", "-i", path, "-c", "copy"];
        Recording::write(extension, |to| drop(run("ffmpeg", &arguments, to)))
    }

    /// Every packet, by the container's own clock: edit lists left aside.
    pub fn packets(&self) -> Vec<Packet> {
        let packets = self
            .probe("-ignore_editlist 1 -show_entries packet=stream_index,pts,dts,size,pos,flags");
        packets
            .iter()
            .map(|fields| Packet {
                stream: fields[0].parse().unwrap(),
                pts: fields[1].parse().unwrap(),
                dts: fields[2].parse().unwrap(),
                size: fields[3].parse().unwrap(),
                pos: fields[4].parse().unwrap(),
                key: fields[5].starts_with('K'),
            })
            .collect()
    }

    /// Stream and presentation time in seconds of every packet, edit lists applied.
    pub fn presentation_seconds(&self) -> Vec<(usize, f64)> {
        let lines = self.probe("-show_entries packet=stream_index,pts_time");
        lines.iter().map(|f| (f[0].parse().unwrap(), f[1].parse().unwrap())).collect()
    }

    /// The fields of every packet; a packet's side data leaves empty lines.
    pub fn probe(&self, arguments: &str) -> Vec<Vec<String>> {
        let arguments: Vec<&str> = words(arguments).chain(["-of", "csv=p=0"]).collect();
        run("ffprobe", &arguments, &self.folder.path().join(&self.name))
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| line.split(',').map(str::to_owned).collect())
            .collect()
    }
}
