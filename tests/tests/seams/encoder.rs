//! What an encoder makes of a scene, once.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tests::artifacts::tool;

pub const FRAMES_PER_SECOND: i64 = 25;

/// How pictures depend on each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoder {
    H264,
    /// With frames that are shown before those that they are decoded after.
    H264WithBFrames,
    H264WithOpenGroups,
    /// As x265 makes it: B-frames, open groups.
    H265,
    /// Four slices a picture.
    H264InSlices,
    /// A column of each picture is refreshed, and no picture as a whole.
    H264IntraRefresh,
}

/// What the camera looks at, as a source of ffmpeg's.
pub const MOVING: &str = "testsrc2=size=320x180";

/// A recording of the encoder's whole output.
pub fn encode(
    directory: &Path,
    encoder: Encoder,
    scene: &str,
    seconds: u32,
    frames_per_second: i64,
    group: u32,
) -> PathBuf {
    let file = directory.join("encoder.mp4");
    let source = format!("{scene}:rate={frames_per_second}:duration={seconds}");
    let sound = format!("anoisesrc=seed=1:sample_rate=48000:duration={seconds}");
    // As cameras do, with parameter sets before each keyframe.
    let x264 = |parameters: &str| {
        format!(
            "-c:v libx264 -preset veryfast -x264-params keyint={group}:min-keyint={group}:scenecut=0:repeat-headers=1:{parameters}"
        )
    };
    let codec = match encoder {
        Encoder::H264 => x264("bframes=0"),
        Encoder::H264WithBFrames => x264("bframes=3:b-adapt=0:open-gop=0"),
        Encoder::H264WithOpenGroups => x264("bframes=3:b-adapt=0:open-gop=1"),
        Encoder::H264InSlices => x264("bframes=0:slices=4"),
        Encoder::H264IntraRefresh => x264("bframes=0:intra-refresh=1"),
        Encoder::H265 => format!(
            "-c:v libx265 -preset ultrafast -tag:v hvc1 -x265-params \
             log-level=none:bframes=3:b-adapt=0:open-gop=1:keyint={group}:min-keyint={group}:scenecut=0"
        ),
    };
    let arguments = format!(
        "-f lavfi -i {source} -f lavfi -i {sound} {codec} -threads 1 -pix_fmt yuv420p -c:a aac -b:a 64k"
    );
    ffmpeg(arguments.split_whitespace().chain([text(&file)]));
    file
}

pub fn ffmpeg<'a>(arguments: impl IntoIterator<Item = &'a str>) {
    let mut command = Command::new(tool("ffmpeg").unwrap());
    command.args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"]).args(arguments);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {complaint}");
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
