//! What a card and a live recorder keep of an encoder's output.

use std::fs::File;
use std::io::Cursor;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reconciler::merge::{PieceRequest, Publication, write_piece};
use reconciler::playback::ArchivedSegment;
use reconciler::timeline::Recorder;
use sdcard_indexer::container::{MediaTime, summarise};
use sdcard_indexer::cut::{CutLimits, Part, cut};
use sdcard_indexer::layout::Layout;
use sdcard_indexer::time::{TimeRange, Timestamp};

use crate::encoder::{ffmpeg, text};

/// When the encoder's first frame is shown, in truth.
pub const BEGINNING: Timestamp = Timestamp::from_unix_seconds(1_795_426_800);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Mp4,
    FragmentedMp4,
    MpegTs,
    Matroska,
}

impl Format {
    fn options(self) -> &'static str {
        match self {
            Format::Mp4 => "-f mp4",
            Format::FragmentedMp4 => "-f mp4 -movflags +frag_keyframe+delay_moov+default_base_moof",
            Format::MpegTs => "-f mpegts",
            Format::Matroska => "-f matroska",
        }
    }
}

/// Copies the packets of a range of pictures, in decode order, wherever in a group of pictures it begins or ends;
/// pictures `lost` are left out, sound outside of the pictures' time is.
pub fn copy(
    from: &Path,
    pictures: Range<i64>,
    lost: Range<i64>,
    format: Format,
    to: &Path,
    rate: i64,
) {
    let Range { start, end } = pictures;
    let (lost_from, lost_to) = (lost.start, lost.end - 1);
    let video =
        format!("noise=drop=lt(n\\,{start})+gte(n\\,{end})+between(n\\,{lost_from}\\,{lost_to})");
    // Packets of sound are 1024 / 48000 s long.
    let packet = |picture: i64| picture * 48_000 / rate / 1_024;
    let sound = format!("noise=drop=lt(n\\,{})+gte(n\\,{})", packet(start), packet(end) + 1);
    let arguments = format!(
        "-i {} -map 0 -c copy -copyinkf -bsf:v {video} -bsf:a {sound} {} {}",
        text(from),
        format.options(),
        text(to)
    );
    ffmpeg(arguments.split_whitespace());
}

/// A file of the archive, whose name says that it begins at `starts_at` seconds.
pub fn archived(file: PathBuf, starts_at: f64, uncertainty: Duration) -> ArchivedSegment {
    live(file, at(starts_at), uncertainty)
}

/// A file of the archive, by the time that its name tells.
pub fn live(file: PathBuf, start: Timestamp, uncertainty: Duration) -> ArchivedSegment {
    let mut reader = File::open(&file).unwrap();
    let file_bytes = reader.metadata().unwrap().len();
    let duration = summarise(&mut reader, file_bytes).unwrap().duration;
    let range = TimeRange::starting_at(start, duration);
    ArchivedSegment { file, range, by: Recorder::Live, uncertainty }
}

/// Pulls what the card holds of `seconds` by its own clock, which is `ahead` of the true time, and writes it as the
/// server does.
pub fn pull(
    card: &Path,
    seconds: Range<f64>,
    ahead: f64,
    uncertainty: Duration,
    archive: &Path,
) -> Vec<ArchivedSegment> {
    let bytes = std::fs::read(card).unwrap();
    let media = |seconds: f64| MediaTime((seconds * 1e9) as i64);
    let wanted = media(seconds.start)..media(seconds.end);
    let pieces = pieces(&bytes, at(ahead), wanted, uncertainty, archive);
    assert!(!pieces.is_empty(), "the card holds nothing of {seconds:?}");
    pieces
}

/// What of a card's file is `wanted`, written as the server does; its time zero is at `zero`, to within `uncertainty`.
pub fn pieces(
    card: &[u8],
    zero: Timestamp,
    wanted: Range<MediaTime>,
    uncertainty: Duration,
    archive: &Path,
) -> Vec<ArchivedSegment> {
    let limits = CutLimits::default();
    let parts = cut(&mut Cursor::new(card), card.len() as u64, wanted, &limits).unwrap();
    let place = |part: &Part| {
        let own = &card[part.bytes.start as usize..part.bytes.end as usize];
        let range = TimeRange::new(
            zero.saturating_offset(part.media.start.0),
            zero.saturating_offset(part.media.end.0),
        );
        let request = PieceRequest {
            archive,
            directory: Path::new("camera/main"),
            layout: &Layout::onvif(),
            range: range.unwrap(),
            counter: 0,
            media: &part.needs,
            part_bytes: own.len() as u64,
            held_bytes: own.len() as u64,
        };
        let written = write_piece(&request, &mut Cursor::new(own)).unwrap();
        let Publication::Placed(piece) = written.publish().unwrap() else {
            panic!("no name is free")
        };
        let (file, range) = (archive.join(piece.path), piece.range);
        ArchivedSegment { file, range, by: Recorder::Edge, uncertainty }
    };
    parts.iter().map(place).collect()
}

pub fn at(seconds: f64) -> Timestamp {
    BEGINNING.saturating_offset((seconds * 1e9) as i64)
}
