//! Footage made by ffmpeg of which every frame is known, and its cutting into what a recorder leaves.
//!
//! A reference is encoded once and kept in the target directory. Its GOPs are closed and one second
//! long, so that a cut "at second n" is exact, and the test that asks for one can say which frames of the
//! reference each file holds. Nothing here uses code under test.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use sdcard_indexer::container::{Container, MediaTime};
use sdcard_indexer::time::{TimeRange, Timestamp};

use crate::artifacts::{profile_directory, tool};
use crate::clip::after;
use crate::naming::Naming;

pub const FRAMES_PER_SECOND: usize = 25;
const FRAME_NANOS: i64 = 1_000_000_000 / FRAMES_PER_SECOND as i64;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum VideoCodec {
    H264,
    H265,
}

/// What to encode: 320x180, 25 fps, closed GOPs of one second.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Spec {
    pub codec: VideoCodec,
    /// B-frames between two others.
    pub b_frames: u8,
    /// AAC, mono, 48 kHz, beside the video.
    pub audio: bool,
    pub seconds: u32,
}

impl Spec {
    fn encoding(&self) -> Vec<String> {
        let Spec { codec, b_frames, audio, seconds } = self;
        let video = match codec {
            VideoCodec::H264 => format!(
                "-c:v libx264 -preset ultrafast -bf {b_frames} -b_strategy 0 -g 25 -keyint_min 25 \
                 -sc_threshold 0"
            ),
            VideoCodec::H265 => format!(
                "-c:v libx265 -preset ultrafast -tag:v hvc1 -x265-params log-level=error:\
                 bframes={b_frames}:b-adapt=0:keyint=25:min-keyint=25:scenecut=0:open-gop=0"
            ),
        };
        let sound = if *audio { "-f lavfi -i anoisesrc=seed=1:sample_rate=48000" } else { "" };
        let audio = if *audio { "-c:a aac -b:a 64k" } else { "" };
        let all = format!(
            "-f lavfi -i testsrc2=size=320x180:rate=25 {sound} -t {seconds} {video} -crf 30 \
             -pix_fmt yuv420p -video_track_timescale 90000 {audio}"
        );
        all.split_whitespace().map(str::to_owned).collect()
    }
}

/// How frames are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Coded video as it stands in the file, in decode order. Survives remuxing among MP4 and Matroska.
    VideoPackets,
    /// Coded video less what MPEG-TS repeats in it (parameter sets) or adds to it (delimiters), and less the messages
    /// beside it (SEI), which not every server passes on; with start codes. Survives all remuxing.
    Slices(VideoCodec),
    /// Coded audio, without ADTS headers. Survives all remuxing.
    AudioPackets,
    /// Pictures, in the order they are shown.
    DecodedVideo,
}

/// One frame of a track.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Presentation time since the first frame listed.
    pub shown_at: MediaTime,
    /// Of the packet, or of the raw picture.
    pub size_bytes: u64,
    /// MD5 by ffmpeg.
    pub hash: String,
}

/// Every frame of a file's track.
pub fn frames(path: &Path, form: Form) -> anyhow::Result<Vec<Frame>> {
    let selection = match form {
        Form::VideoPackets => "-map 0:v -c copy",
        Form::Slices(VideoCodec::H264) => {
            "-map 0:v -c copy -bsf:v h264_mp4toannexb,filter_units=remove_types=6|7|8|9"
        }
        Form::Slices(VideoCodec::H265) => {
            "-map 0:v -c copy -bsf:v hevc_mp4toannexb,filter_units=remove_types=32|33|34|35|39"
        }
        Form::AudioPackets => "-map 0:a -c copy -bsf:a aac_adtstoasc",
        Form::DecodedVideo => "-map 0:v -fps_mode passthrough",
    };
    let output = ffmpeg(
        ["-i".as_ref(), path.as_os_str()]
            .into_iter()
            .chain(selection.split(' ').chain(["-f", "framemd5", "-"]).map(OsStr::new)),
    )?;
    let listing = String::from_utf8(output).context("ffmpeg lists frames in ASCII")?;
    listed_frames(&listing).with_context(|| format!("not what framemd5 lists: {listing}"))
}

/// The frames of several files, one after the other, by their hashes.
pub fn hashes<'a, I>(paths: I, form: Form) -> anyhow::Result<Vec<String>>
where
    I: IntoIterator<Item = &'a Path>,
{
    let mut hashes = Vec::new();
    for path in paths {
        hashes.extend(frames(path, form)?.into_iter().map(|frame| frame.hash));
    }
    Ok(hashes)
}

/// `#tb 0: 1/90000` in the head, then `stream, dts, pts, duration, size, hash` for each frame.
fn listed_frames(listing: &str) -> Option<Vec<Frame>> {
    let time_base = listing.lines().find_map(|line| line.strip_prefix("#tb 0: "));
    let Some(time_base) = time_base else { return Some(Vec::new()) };
    let (numerator, denominator) = time_base.split_once('/')?;
    let tick_nanos = 1_000_000_000 * numerator.parse::<i128>().ok()?;
    let ticks_per_numerator: i128 = denominator.parse().ok()?;
    let mut first = None;
    let frame = |line: &str| {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let ticks: i128 = fields.get(2)?.parse().ok()?;
        let nanos = (ticks - *first.get_or_insert(ticks)) * tick_nanos / ticks_per_numerator;
        let shown_at = MediaTime(i64::try_from(nanos).ok()?);
        let size_bytes = fields.get(4)?.parse().ok()?;
        Some(Frame { shown_at, size_bytes, hash: (*fields.get(5)?).to_owned() })
    };
    listing.lines().filter(|line| !line.starts_with('#')).map(frame).collect()
}

/// Runs ffmpeg; answers what it wrote to its output.
pub(crate) fn ffmpeg<A: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = A>,
) -> anyhow::Result<Vec<u8>> {
    let mut command = Command::new(tool("ffmpeg")?);
    command.args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"]).args(arguments);
    let output = command.output().context("ffmpeg cannot be run")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {complaint}");
    Ok(output.stdout)
}

/// What ffmpeg makes of `encoding`, kept in the target directory: made once, by whichever test comes first.
pub(crate) fn encoded(name: &str, extension: &str, encoding: &[String]) -> anyhow::Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    encoding.hash(&mut hasher);
    let target = profile_directory()?;
    let target = target.parent().context("a profile lies in a target directory")?;
    let directory = target.join("tmp/footage");
    fs::create_dir_all(&directory).context("a directory for footage")?;
    let path = directory.join(format!("{name}-{:016x}.{extension}", hasher.finish()));

    let lock = File::create(path.with_extension("lock")).context("a lock for footage")?;
    lock.lock().context("locking footage")?;
    if !path.exists() {
        let suffix = format!(".{extension}");
        let fresh = tempfile::Builder::new().suffix(&suffix).tempfile_in(&directory)?;
        let arguments = encoding.iter().map(OsStr::new).chain([fresh.path().as_os_str()]);
        ffmpeg(arguments)?;
        fresh.persist(&path)?;
    }
    Ok(path)
}

/// A whole recording in one plain MP4, and what is in it.
#[derive(Clone, Debug)]
pub struct Reference {
    pub path: PathBuf,
    pub codec: VideoCodec,
    pub seconds: u32,
    /// [`Form::Slices`] in decode order; one GOP is [`FRAMES_PER_SECOND`] of them.
    pub video: Vec<Frame>,
}

impl Reference {
    /// Encodes what `spec` asks for, or finds what an earlier test has encoded.
    pub fn encode(spec: Spec) -> anyhow::Result<Reference> {
        let path = encoded(&format!("{:?}", spec.codec), "mp4", &spec.encoding())?;
        let video = frames(&path, Form::Slices(spec.codec))?;
        Ok(Reference { path, codec: spec.codec, seconds: spec.seconds, video })
    }

    /// Writes all of it as `recorder` would.
    pub fn write_segments(&self, recorder: &Recorder) -> anyhow::Result<Vec<Segment>> {
        let starts: Vec<u32> =
            (0..self.seconds).step_by(recorder.segment_seconds as usize).collect();
        let pieces = self.cut(recorder, &starts)?;
        pieces.files.iter().map(|piece| pieces.place(recorder, piece)).collect()
    }

    /// Writes it as `recorder` would if nothing had reached it from `hole.start` until `hole.end`, in media
    /// time: the segment then open ends there, be it inside a GOP; the next one starts at the first
    /// keyframe after the hole. Expects some footage on both sides.
    pub fn write_with_hole(
        &self,
        recorder: &Recorder,
        hole: Range<Duration>,
    ) -> anyhow::Result<Holed> {
        let step = recorder.segment_seconds as usize;
        let resumes = u32::try_from(hole.end.as_millis().div_ceil(1000))?;
        let live = (0..self.seconds).step_by(step);
        let live = live.take_while(|&start| Duration::from_secs(start.into()) < hole.start);
        let starts: Vec<u32> = live.chain((resumes..self.seconds).step_by(step)).collect();
        let pieces = self.cut(recorder, &starts)?;

        let mut segments = Vec::new();
        for piece in &pieces.files {
            let lasts = hole.start.saturating_sub(Duration::from_secs(piece.start.into()));
            if piece.start < resumes && lasts < Duration::from_secs(piece.seconds.into()) {
                piece.end_after(lasts, recorder.container)?;
            }
            segments.push(pieces.place(recorder, piece)?);
        }
        let lost_from = segments.iter().rev().find(|held| held.frames.start < frame_index(resumes));
        let lost_from = lost_from.context("nothing is left before the hole")?.frames.end;
        let lost = lost_from..frame_index(resumes);
        let time = self.time_of(lost.clone(), recorder.start).context("nothing is in the hole")?;
        Ok(Holed { segments, lost, time })
    }

    /// Where frames are shown, given that the first one is shown at `start`.
    fn time_of(&self, frames: Range<usize>, start: Timestamp) -> Option<TimeRange> {
        let shown = || self.video[frames.clone()].iter().map(|frame| frame.shown_at.0);
        let end = start.saturating_offset(shown().max()? + FRAME_NANOS);
        TimeRange::new(start.saturating_offset(shown().min()?), end)
    }

    /// Cuts at keyframes, which stand at every whole second, into files beside where they will go.
    fn cut(&self, recorder: &Recorder, starts: &[u32]) -> anyhow::Result<Pieces<'_>> {
        fs::create_dir_all(&recorder.directory)?;
        let directory = tempfile::Builder::new().prefix(".cut-").tempdir_in(&recorder.directory)?;
        // Half a second early: the muxer waits for a keyframe, and shifts time by the B-frames' delay.
        let times: Vec<String> =
            starts.iter().skip(1).map(|start| format!("{}.5", start - 1)).collect();
        let mut command = vec!["-i".to_owned(), self.path.display().to_string()];
        let fixed = "-map 0 -c copy -f segment -reset_timestamps 1 -segment_format";
        command.extend(fixed.split(' ').map(str::to_owned));
        command.push(muxer(recorder.container).to_owned());
        // Without times the muxer would fall back to segments of two seconds.
        let times = if times.is_empty() { format!("{}", self.seconds) } else { times.join(",") };
        command.extend(["-segment_times".to_owned(), times]);
        if let Some(movflags) = movflags(recorder.container) {
            command.extend(["-segment_format_options".to_owned(), format!("movflags={movflags}")]);
        }
        let extension = extension(recorder.container);
        command.push(directory.path().join("%d").with_extension(extension).display().to_string());
        ffmpeg(&command)?;

        let ends = starts.iter().skip(1).copied().chain([self.seconds]);
        let piece = |(number, (&start, end)): (usize, (&u32, u32))| Piece {
            path: directory.path().join(format!("{number}.{extension}")),
            start,
            seconds: end - start,
        };
        let files = starts.iter().zip(ends).enumerate().map(piece).collect();
        Ok(Pieces { reference: self, files, _directory: directory })
    }
}

/// Fragmented: one fragment per GOP, and a `moov` that knows when each track begins. Plain: `moov` at the end.
pub(crate) const fn movflags(container: Container) -> Option<&'static str> {
    match container {
        Container::FragmentedMp4 => Some("+frag_keyframe+delay_moov+default_base_moof"),
        Container::Mp4 => Some("0"),
        Container::MpegTs | Container::Matroska => None,
    }
}

/// As ffmpeg calls it.
pub(crate) const fn muxer(container: Container) -> &'static str {
    match container {
        Container::FragmentedMp4 | Container::Mp4 => "mp4",
        Container::MpegTs => "mpegts",
        Container::Matroska => "matroska",
    }
}

pub(crate) const fn extension(container: Container) -> &'static str {
    match container {
        Container::FragmentedMp4 | Container::Mp4 => "mp4",
        Container::MpegTs => "ts",
        Container::Matroska => "mkv",
    }
}

/// How, where and from when on a reference is recorded.
#[derive(Clone, Debug)]
pub struct Recorder {
    pub directory: PathBuf,
    pub naming: Naming,
    pub container: Container,
    pub segment_seconds: u32,
    /// When the reference's first frame is shown.
    pub start: Timestamp,
}

/// A file a recorder left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    pub path: PathBuf,
    /// When its first frame is shown, and what its name says.
    pub start: Timestamp,
    /// What it holds of [`Reference::video`].
    pub frames: Range<usize>,
}

/// What [`Reference::write_with_hole`] left, and what it left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holed {
    pub segments: Vec<Segment>,
    /// What of [`Reference::video`] is in no segment.
    pub lost: Range<usize>,
    /// When these frames would be shown. With B-frames, a few frames shown in here are not lost: a stream
    /// breaks off in decode order.
    pub time: TimeRange,
}

/// Files cut and not yet named.
struct Pieces<'a> {
    reference: &'a Reference,
    files: Vec<Piece>,
    _directory: tempfile::TempDir,
}

struct Piece {
    path: PathBuf,
    /// Second of the reference.
    start: u32,
    seconds: u32,
}

impl Pieces<'_> {
    /// Names a piece for its start, having made sure that it starts with the frame it is named for.
    fn place(&self, recorder: &Recorder, piece: &Piece) -> anyhow::Result<Segment> {
        let start = after(recorder.start, piece.start);
        let path = recorder.directory.join(recorder.naming.path(start));
        let path = path.with_extension(extension(recorder.container));
        fs::create_dir_all(path.parent().context("a segment lies in a directory")?)?;
        fs::copy(&piece.path, &path)?;
        let held = frames(&path, Form::Slices(self.reference.codec))?;
        let first = frame_index(piece.start);
        let frames = first..first + held.len();
        let expected = self.reference.video.get(frames.clone()).unwrap_or_default();
        let same =
            expected.iter().map(|frame| &frame.hash).eq(held.iter().map(|frame| &frame.hash));
        ensure!(same, "ffmpeg cut {} elsewhere than it was told", path.display());
        Ok(Segment { path, start, frames })
    }
}

impl Piece {
    /// Drops what comes later, as if the recorder had been cut off and had then closed the file.
    fn end_after(&self, duration: Duration, container: Container) -> anyhow::Result<()> {
        let whole = self.path.with_extension("whole");
        fs::copy(&self.path, &whole)?;
        let seconds = duration.as_secs_f64().to_string();
        let mut arguments = vec!["-i".as_ref(), whole.as_os_str()];
        arguments.extend(["-map", "0", "-c", "copy", "-t", &seconds].map(OsStr::new));
        if let Some(movflags) = movflags(container) {
            arguments.extend(["-movflags", movflags].map(OsStr::new));
        }
        arguments.push(self.path.as_os_str());
        ffmpeg(arguments)?;
        Ok(())
    }
}

fn frame_index(second: u32) -> usize {
    second as usize * FRAMES_PER_SECOND
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const SECONDS: u32 = 12;
    const CONTAINERS: [Container; 4] =
        [Container::FragmentedMp4, Container::Mp4, Container::MpegTs, Container::Matroska];

    fn specs() -> [Spec; 3] {
        let h264 = Spec { codec: VideoCodec::H264, b_frames: 0, audio: false, seconds: SECONDS };
        let with_all = Spec { b_frames: 2, audio: true, ..h264 };
        [h264, with_all, Spec { codec: VideoCodec::H265, ..with_all }]
    }

    fn recorder(directory: &Path, container: Container) -> Recorder {
        Recorder {
            directory: directory.to_owned(),
            naming: Naming::MediaMtx,
            container,
            segment_seconds: 4,
            start: "2026-11-23T09:59:59.5Z".parse().unwrap(),
        }
    }

    #[test]
    fn every_frame_of_a_reference_can_be_told_from_the_others() {
        for spec in specs() {
            let reference = Reference::encode(spec).unwrap();
            assert_eq!(reference.video.len(), frame_index(SECONDS));
            let hashes: HashSet<_> = reference.video.iter().map(|frame| &frame.hash).collect();
            assert_eq!(hashes.len(), reference.video.len());
            let shown: HashSet<i64> =
                reference.video.iter().map(|frame| frame.shown_at.0).collect();
            assert_eq!(shown, (0..300).map(|index| index * FRAME_NANOS).collect());
            for second in 0..SECONDS {
                let keyframe = &reference.video[frame_index(second)];
                assert_eq!(keyframe.shown_at.0, i64::from(second) * 1_000_000_000);
            }
        }
    }

    #[test]
    fn segments_hold_all_of_the_reference_under_exact_names() {
        for spec in specs() {
            for container in CONTAINERS {
                let directory = tempfile::tempdir().unwrap();
                let reference = Reference::encode(spec).unwrap();
                let segments =
                    reference.write_segments(&recorder(directory.path(), container)).unwrap();
                let held: Vec<_> = segments.iter().map(|segment| segment.frames.clone()).collect();
                assert_eq!(held, [0..100, 100..200, 200..300]);
                let mut names: Vec<_> = fs::read_dir(directory.path())
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                    .collect();
                names.sort();
                let starts = [
                    "2026-11-23_09-59-59-500000",
                    "2026-11-23_10-00-03-500000",
                    "2026-11-23_10-00-07-500000",
                ];
                let extension = extension(container);
                assert_eq!(names, starts.map(|start| format!("{start}.{extension}")));

                let paths = || segments.iter().map(|segment| segment.path.as_path());
                let pictures = hashes(paths(), Form::DecodedVideo).unwrap();
                assert_eq!(pictures, hashes([&*reference.path], Form::DecodedVideo).unwrap());
                if spec.audio {
                    let sound = hashes(paths(), Form::AudioPackets).unwrap();
                    assert_eq!(sound, hashes([&*reference.path], Form::AudioPackets).unwrap());
                }
            }
        }
    }

    #[test]
    fn a_hole_begins_inside_a_gop_and_ends_at_a_keyframe_inside_a_segment() {
        for spec in specs() {
            for container in CONTAINERS {
                let directory = tempfile::tempdir().unwrap();
                let reference = Reference::encode(spec).unwrap();
                let recorder = recorder(directory.path(), container);
                let hole = Duration::from_millis(5_400)..Duration::from_millis(8_700);
                let holed = reference.write_with_hole(&recorder, hole).unwrap();

                let held: Vec<_> =
                    holed.segments.iter().map(|segment| segment.frames.clone()).collect();
                assert_eq!(held, [0..100, 100..holed.lost.start, 225..300]);
                assert!((130..140).contains(&holed.lost.start), "{:?}", holed.lost);
                assert_ne!(holed.lost.start % FRAMES_PER_SECOND, 0);
                assert_eq!(holed.lost.end, 225);
                assert_eq!(holed.segments[2].start, after(recorder.start, 9));
                assert_eq!(holed.time.end(), after(recorder.start, 9));
                assert!(holed.time.start() > after(recorder.start, 5));
            }
        }
    }
}
