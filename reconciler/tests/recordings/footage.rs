//! Real recordings for tests: made by ffmpeg, cut by ffmpeg, and compared by what ffmpeg reads of them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use mp4_atom::{Any, ReadFrom};
use reconciler::playback::ArchivedSegment;
use reconciler::timeline::Recorder;
use sdcard_indexer::container::{MediaTime, summarise};
use sdcard_indexer::cut::{CutLimits, Part, cut};
use sdcard_indexer::time::{TimeRange, Timestamp};

/// Wall time of the first frame of every encoded reference.
pub const BEGINNING: Timestamp = Timestamp::from_unix_seconds(1_795_426_800);
pub const SECONDS: i64 = 20;
pub const FRAMES_PER_SECOND: usize = 25;

#[derive(Clone, Copy, Debug)]
pub enum Encoding {
    H264,
    H264WithBFrames,
    /// With open groups of pictures, as x265 makes them by default.
    H265,
    H264WithOpus,
    H264WithoutSound,
}

pub const PICTURES: [Encoding; 3] = [Encoding::H264, Encoding::H264WithBFrames, Encoding::H265];
pub const SOUNDS: [Encoding; 2] = [Encoding::H264WithOpus, Encoding::H264WithoutSound];

#[derive(Clone, Copy, Debug)]
pub enum Format {
    PlainMp4,
    FragmentedMp4,
    MpegTs,
}

/// Those that hold samples as they are merged.
pub const FORMATS: [Format; 2] = [Format::PlainMp4, Format::FragmentedMp4];

impl Format {
    fn options(self) -> &'static [&'static str] {
        match self {
            Format::PlainMp4 => &[],
            Format::FragmentedMp4 => &["-movflags", "+frag_keyframe+delay_moov+default_base_moof"],
            Format::MpegTs => &["-f", "mpegts"],
        }
    }

    /// The same, for a muxer that writes each segment with another.
    fn segment_options(self) -> Vec<String> {
        let (format, movflags) = match self {
            Format::MpegTs => ("mpegts", None),
            _ => ("mp4", self.options().get(1)),
        };
        let mut options = vec!["-segment_format".to_owned(), format.to_owned()];
        if let Some(movflags) = movflags {
            options.extend(["-segment_format_options".to_owned(), format!("movflags={movflags}")]);
        }
        options
    }
}

/// What ffmpeg reads of a file: one packet or one decoded frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    pub pts: i64,
    pub duration: i64,
    pub hash: String,
}

/// Rows of the picture and of the sound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rows {
    pub video: Vec<Row>,
    pub audio: Vec<Row>,
}

pub fn at(seconds: f64) -> Timestamp {
    BEGINNING.saturating_offset((seconds * 1e9) as i64)
}

pub fn seconds(from: f64, to: f64) -> TimeRange {
    TimeRange::new(at(from), at(to)).unwrap()
}

pub fn run(tool: &str, arguments: &[&str]) -> String {
    let output =
        Command::new(tool).args(arguments).stdin(Stdio::null()).output().unwrap_or_else(|error| {
            panic!("cannot run {tool} ({error}): these tests need it; apt-get install ffmpeg")
        });
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {arguments:?} failed: {complaints}");
    assert_eq!(complaints, "", "{tool} {arguments:?} complains");
    String::from_utf8(output.stdout).unwrap()
}

pub fn ffmpeg(arguments: &[&str]) -> String {
    run("ffmpeg", &[&["-v", "error", "-y"], arguments].concat())
}

/// Twenty seconds with a keyframe each second.
pub fn encode(directory: &Path, encoding: Encoding) -> PathBuf {
    let file = directory.join("reference.mp4");
    let picture = format!("testsrc2=size=192x108:rate={FRAMES_PER_SECOND}:duration={SECONDS}");
    let sound = format!("sine=frequency=440:sample_rate=48000:duration={SECONDS}");
    let codec: &[&str] = match encoding {
        Encoding::H264 | Encoding::H264WithOpus | Encoding::H264WithoutSound => {
            &["-c:v", "libx264", "-preset", "ultrafast", "-bf", "0"]
        }
        Encoding::H264WithBFrames => &["-c:v", "libx264", "-preset", "veryfast", "-bf", "3"],
        Encoding::H265 => &[
            "-c:v",
            "libx265",
            "-preset",
            "ultrafast",
            "-tag:v",
            "hvc1",
            "-x265-params",
            "log-level=none:bframes=4:open-gop=1:keyint=25:min-keyint=25:scenecut=0",
        ],
    };
    let inputs = ["-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound];
    let sound: &[&str] = match encoding {
        Encoding::H264WithOpus => &["-c:a", "libopus"],
        Encoding::H264WithoutSound => &["-an"],
        _ => &["-c:a", "aac"],
    };
    let rest = ["-pix_fmt", "yuv420p", "-g", "25", "-keyint_min", "25", "-sc_threshold", "0"];
    ffmpeg(&[&inputs, codec, sound, &rest, &[path(&file)]].concat());
    file
}

/// Copies what ffmpeg's `options` select of a file; nothing is encoded anew.
pub fn remux(from: &Path, options: &[&str], format: Format, to: &Path) {
    let copy = ["-map", "0", "-c", "copy"];
    let seek = options.first().is_some_and(|option| *option == "-ss");
    let (before, after) = options.split_at(if seek { 2 } else { 0 });
    ffmpeg(&[before, &["-i", path(from)], after, &copy, format.options(), &[path(to)]].concat());
}

/// What a card holds: segments of four seconds, in order.
pub fn card(reference: &Path, directory: &Path, format: Format) -> Vec<ArchivedSegment> {
    let pattern = directory.join("card-%03d.mp4");
    let options = format.segment_options();
    let mut arguments = vec!["-i", path(reference), "-map", "0", "-c", "copy", "-f", "segment"];
    arguments.extend(["-segment_time", "4", "-reset_timestamps", "1"]);
    arguments.extend(options.iter().map(String::as_str));
    arguments.push(path(&pattern));
    ffmpeg(&arguments);
    (0..SECONDS / 4)
        .map(|number| {
            let file = directory.join(format!("card-{number:03}.mp4"));
            segment(file, (number * 4) as f64, Recorder::Edge)
        })
        .collect()
}

pub fn segment(file: PathBuf, starts_at: f64, by: Recorder) -> ArchivedSegment {
    let mut reader = File::open(&file).unwrap();
    let file_bytes = reader.metadata().unwrap().len();
    let duration = summarise(&mut reader, file_bytes).unwrap().duration;
    let (range, uncertainty) = (TimeRange::starting_at(at(starts_at), duration), Duration::ZERO);
    ArchivedSegment { file, range, by, uncertainty }
}

/// A part as it arrives: with its bytes, and its wall time.
pub struct Pulled {
    pub range: TimeRange,
    pub part: Part,
    pub bytes: Vec<u8>,
}

/// Cuts a range out of the card, as a device does for a server.
pub fn pull(card: &[ArchivedSegment], range: TimeRange) -> Vec<Pulled> {
    let touched = card.iter().filter(|segment| segment.range.overlaps(&range));
    touched
        .flat_map(|segment| {
            let bytes = std::fs::read(&segment.file).unwrap();
            let zero = segment.range.start();
            let wanted =
                MediaTime(range.start().nanos_from(zero))..MediaTime(range.end().nanos_from(zero));
            let mut reader = std::io::Cursor::new(&bytes);
            let parts =
                cut(&mut reader, bytes.len() as u64, wanted, &CutLimits::default()).unwrap();
            let with_bytes = move |part: Part| Pulled {
                range: TimeRange::new(
                    zero.saturating_offset(part.media.start.0),
                    zero.saturating_offset(part.media.end.0),
                )
                .unwrap(),
                bytes: bytes[part.bytes.start as usize..part.bytes.end as usize].to_vec(),
                part,
            };
            parts.into_iter().map(with_bytes).collect::<Vec<_>>()
        })
        .collect()
}

/// The packets of a file, undecoded, in decode order.
pub fn packets(file: &Path) -> Rows {
    rows(&ffmpeg(&["-i", path(file), "-map", "0", "-c", "copy", "-f", "framemd5", "-"]))
}

/// The decoded frames of a file, in the order in which they are shown.
pub fn frames(file: &Path) -> Rows {
    rows(&ffmpeg(&["-i", path(file), "-map", "0", "-vsync", "passthrough", "-f", "framemd5", "-"]))
}

pub fn rows(framemd5: &str) -> Rows {
    let mut rows = Rows { video: Vec::new(), audio: Vec::new() };
    let mut kinds = Vec::new();
    for line in framemd5.lines() {
        if let Some(media_type) = line.strip_prefix("#media_type ") {
            kinds.push(media_type.ends_with("video"));
        }
        if line.starts_with('#') {
            continue;
        }
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let number = |index: usize| fields[index].parse::<i64>().unwrap();
        let row = Row { pts: number(2), duration: number(3), hash: fields[5].to_owned() };
        let of_kind = if kinds[number(0) as usize] { &mut rows.video } else { &mut rows.audio };
        of_kind.push(row);
    }
    rows
}

pub fn hashes(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| row.hash.as_str()).collect()
}

/// Compares without printing hundreds of rows.
pub fn assert_same<T: PartialEq + std::fmt::Debug>(found: &[T], expected: &[T], what: &str) {
    let differs = found.iter().zip(expected).position(|(found, expected)| found != expected);
    if let Some(index) = differs {
        panic!("{what}: row {index} is {:?}, not {:?}", found[index], expected[index]);
    }
    assert_eq!(found.len(), expected.len(), "{what}: number of rows");
}

/// The packets from the frame shown at one second to the one shown at another, in decode order.
pub fn between(video: &[Row], from: usize, to: usize) -> &[Row] {
    let ticks_per_second = video[0].duration * FRAMES_PER_SECOND as i64;
    let index = |second: usize| {
        let shown = video[0].pts + second as i64 * ticks_per_second;
        video.iter().position(|row| row.pts == shown).unwrap()
    };
    &video[index(from)..index(to)]
}

/// Times counted from the first row.
pub fn relative(rows: &[Row]) -> Vec<Row> {
    let first = rows.first().map_or(0, |row| row.pts);
    rows.iter().cloned().map(|row| Row { pts: row.pts - first, ..row }).collect()
}

/// ffprobe has nothing to say about the file, and another parser reads every box of it.
pub fn assert_well_formed(file: &Path) {
    run("ffprobe", &["-v", "warning", "-show_packets", "-of", "csv", path(file)]);
    let mut reader = std::io::BufReader::new(File::open(file).unwrap());
    let mut boxes = Vec::new();
    while let Some(atom) = Option::<Any>::read_from(&mut reader).unwrap() {
        boxes.push(match atom {
            Any::Ftyp(_) => "ftyp",
            Any::Moov(_) => "moov",
            Any::Moof(_) => "moof",
            Any::Mdat(_) => "mdat",
            other => panic!("{other:?} does not belong into {}", file.display()),
        });
    }
    assert_eq!(&boxes[..2], ["ftyp", "moov"]);
    assert!(boxes[2..].chunks(2).all(|pair| pair == ["moof", "mdat"]), "{boxes:?}");
}

pub fn path(file: &Path) -> &str {
    file.to_str().unwrap()
}
