//! Placing: a pulled part becomes one file of the archive, proved before it has a name.
//!
//! | step | on disk after a crash | [`recover`] says |
//! |---|---|---|
//! | [`write_piece`] | at most a temporary file that nobody's ledger knows | - |
//! | the caller records the [`Piece`] | the temporary file, whole | publishes it: [`Recovery::Placed`] |
//! | [`WrittenPiece::publish`] | the final file, or both names | [`Recovery::Placed`] |
//!
//! A temporary file begins with a dot and stands beside its final name, where no recorder's playback looks
//! for it; writing the same piece again writes the same temporary file. Never replaces a file.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sdcard_indexer::container::{Sample, SampleReader, Track};
use sdcard_indexer::cut::{self, CutError, PartMedia};
use sdcard_indexer::layout::Layout;
use sdcard_indexer::time::{TimeRange, Timestamp};

use super::fragment::{FragmentError, FragmentWriter, OutputSample};
use super::join::{Joiner, Meets};
use super::primary_track;
use super::source::{Source, SourceError};
use crate::durable::{self, DurableError};
use crate::ledger::{Piece, PieceSeam};

/// How many names are tried for one piece.
const MOST_NAMES: u32 = 16;
const COPY_BUFFER_BYTES: usize = 256 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("the part's samples cannot be told from what came with it")]
    Part(#[source] CutError),
    #[error("the part does not begin with a keyframe")]
    NoKeyframe,
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: FragmentError },
    #[error("{} does not read back", path.display())]
    ReadBack { path: PathBuf, source: SourceError },
    #[error("{} reads back with other {what} than were written", path.display())]
    Differs { path: PathBuf, what: &'static str },
    #[error("{} and the names after it are taken by other files", path.display())]
    NoFreeName { path: PathBuf },
    #[error(transparent)]
    Durable(#[from] DurableError),
}

/// One part as it was pulled, and where in the archive it belongs.
#[derive(Debug)]
pub struct PieceRequest<'a> {
    /// Root of the archive.
    pub archive: &'a Path,
    /// The stream's directory, relative to it.
    pub directory: &'a Path,
    pub layout: &'a Layout,
    /// Wall time of the part: from its first keyframe to where the next part would begin.
    pub range: TimeRange,
    /// Number of the piece within its span, for layouts that count.
    pub counter: u32,
    pub media: &'a PartMedia,
    pub part_bytes: u64,
    /// How many of the part's first bytes are there. Fewer than `part_bytes` where the card lost the rest:
    /// the piece then ends with the last frame that arrived whole.
    pub held_bytes: u64,
}

/// A whole, synced, proved file that has no name in the archive yet.
#[derive(Debug)]
#[must_use]
pub struct WrittenPiece {
    archive: PathBuf,
    piece: Piece,
    names: Names,
}

#[derive(Debug)]
#[must_use]
pub enum Publication {
    Placed(Piece),
    /// Another file has the name. The piece aims at the next one: record it, publish again.
    NameTaken(Box<WrittenPiece>),
}

/// What a crash left of a recorded piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Recovery {
    /// The file stands under its name, durably.
    Placed,
    /// Nothing of it is left: write the piece again.
    Redo,
}

/// Writes a part as fragmented MP4 beside its final name, syncs it, and reads it back. `part` reads the
/// part's bytes, from its first one on.
pub fn write_piece<R: Read + Seek>(
    request: &PieceRequest<'_>,
    part: &mut R,
) -> Result<WrittenPiece, PlaceError> {
    let &PieceRequest { archive, media, .. } = request;
    let tracks = &media.tracks;
    let samples = cut::part_samples(media, request.part_bytes).map_err(PlaceError::Part)?;
    let (samples, range) = arrived(tracks, samples, request);
    if !begins_with_keyframe(tracks, &samples) {
        return Err(PlaceError::NoKeyframe);
    }
    let lanes = Joiner::new(tracks).place(tracks, &samples, range.start(), Meets::ByClock);

    let mut names = Names::new(request);
    let path = names.next_name()?;
    let temporary = archive.join(durable::hidden_beside(&path));
    durable::create_directories(durable::parent_of(&temporary))?;
    let written = write_hashed(&temporary, |output| {
        let mut writer = FragmentWriter::begin(output, tracks, range.duration())?;
        let mut reader = SampleReader::new(part, request.held_bytes);
        writer.append(&mut reader, tracks, &lanes)?;
        writer.finish()
    });
    match written.and_then(|written| prove(&temporary, tracks, &lanes).map(|()| written)) {
        Ok((digest, size_bytes)) => {
            let digest = digest.into();
            let piece = Piece { path, digest, size_bytes, range, seams: Vec::new() };
            Ok(WrittenPiece { archive: archive.to_owned(), piece, names })
        }
        Err(error) => {
            durable::remove(&temporary)?;
            Err(error)
        }
    }
}

impl WrittenPiece {
    /// What a ledger records before the name is given: enough to finish after a crash.
    pub fn piece(&self) -> &Piece {
        &self.piece
    }

    /// Where it lies until then.
    pub fn hidden_path(&self) -> PathBuf {
        paths(&self.archive, &self.piece).0
    }

    /// Gives it the time, and so the name, that its seams with the archive have shown to be right.
    pub fn placed(
        mut self,
        range: TimeRange,
        seams: Vec<PieceSeam>,
    ) -> Result<WrittenPiece, PlaceError> {
        self.piece.seams = seams;
        if range != self.piece.range {
            let (before, _) = paths(&self.archive, &self.piece);
            self.piece.range = range;
            self.names = Names { start: range.start(), tried: 0, ..self.names };
            self.piece.path = self.names.next_name()?;
            let (hidden, _) = paths(&self.archive, &self.piece);
            durable::create_directories(durable::parent_of(&hidden))?;
            durable::replace(&before, &hidden)?;
        }
        Ok(self)
    }

    /// Gives the piece its name, durably; it must have been recorded. Where the same file has the name
    /// already, it is this piece, placed earlier.
    pub fn publish(mut self) -> Result<Publication, PlaceError> {
        let (temporary, destination) = paths(&self.archive, &self.piece);
        durable::create_directories(durable::parent_of(&destination))?;
        if durable::publish(&temporary, &destination)? == durable::Publication::NameTaken {
            if !holds(&destination, &self.piece)? {
                self.piece.path = self.names.next_name()?;
                let (aside, _) = paths(&self.archive, &self.piece);
                durable::create_directories(durable::parent_of(&aside))?;
                durable::replace(&temporary, &aside)?;
                return Ok(Publication::NameTaken(Box::new(self)));
            }
            durable::remove(&temporary)?;
        }
        Ok(Publication::Placed(self.piece))
    }
}

/// Finishes what a crash interrupted. Where another file took the name meanwhile, the piece is to be
/// written again and gets another one.
pub fn recover(archive: &Path, piece: &Piece) -> Result<Recovery, PlaceError> {
    let (temporary, destination) = paths(archive, piece);
    if holds(&destination, piece)? {
        durable::remove(&temporary)?;
        durable::sync_directory(durable::parent_of(&destination))?;
        return Ok(Recovery::Placed);
    }
    if holds(&temporary, piece)?
        && durable::publish(&temporary, &destination)? == durable::Publication::Done
    {
        return Ok(Recovery::Placed);
    }
    durable::remove(&temporary)?;
    Ok(Recovery::Redo)
}

/// The names a piece may get: its own, then microseconds later, or else with higher counters, as far as
/// the layout tells these apart.
#[derive(Debug)]
struct Names {
    directory: PathBuf,
    layout: Layout,
    start: Timestamp,
    counter: u32,
    tried: u32,
}

impl Names {
    fn new(request: &PieceRequest<'_>) -> Self {
        Names {
            directory: request.directory.to_owned(),
            layout: request.layout.clone(),
            start: request.range.start(),
            counter: request.counter,
            tried: 0,
        }
    }

    /// Relative to the archive's root.
    fn next_name(&mut self) -> Result<PathBuf, PlaceError> {
        let name = (self.tried < MOST_NAMES).then(|| self.candidate(self.tried)).flatten();
        self.tried += 1;
        name.map(|name| self.directory.join(name)).ok_or_else(|| PlaceError::NoFreeName {
            path: self.directory.join(self.layout.path_for(self.start, self.counter)),
        })
    }

    fn candidate(&self, number: u32) -> Option<PathBuf> {
        let own = self.layout.path_for(self.start, self.counter);
        if number == 0 {
            return Some(own);
        }
        let later = self.start.saturating_add(Duration::from_micros(number.into()));
        let counted = self.counter.saturating_add(number);
        [self.layout.path_for(later, self.counter), self.layout.path_for(self.start, counted)]
            .into_iter()
            .find(|name| *name != own)
    }
}

/// Where a piece is written, and where it belongs.
fn paths(archive: &Path, piece: &Piece) -> (PathBuf, PathBuf) {
    (archive.join(durable::hidden_beside(&piece.path)), archive.join(&piece.path))
}

/// What of a part is there, and its wall time: frames as far as they follow on each other in decode order,
/// and the sound of that time.
fn arrived(
    tracks: &[Track],
    samples: Vec<Sample>,
    request: &PieceRequest<'_>,
) -> (Vec<Sample>, TimeRange) {
    let &PieceRequest { range, held_bytes, .. } = request;
    let is_here = |sample: &Sample| sample.end_offset() <= held_bytes;
    let primary = primary_track(tracks);
    let Some(track) = tracks.get(primary) else { return (samples, range) };
    if samples.iter().all(is_here) {
        return (samples, range);
    }
    let is_frame = |sample: &&Sample| sample.track == primary;
    let frames: Vec<Sample> =
        samples.iter().filter(is_frame).take_while(|frame| is_here(frame)).copied().collect();
    let Some(shown_from) = frames.first().map(|frame| frame.starts_at(track)) else {
        return (Vec::new(), range);
    };
    let shown_until = frames.iter().map(|frame| frame.ends_at(track)).max().unwrap_or(shown_from);
    let sound = samples.iter().filter(|sample| {
        let in_time = |track: &Track| sample.starts_at(track) < shown_until;
        sample.track != primary && is_here(sample) && tracks.get(sample.track).is_some_and(in_time)
    });
    let shown_ns = u64::try_from(shown_until.0.saturating_sub(shown_from.0)).unwrap_or(0);
    let range = TimeRange::starting_at(range.start(), Duration::from_nanos(shown_ns));
    (frames.iter().chain(sound).copied().collect(), range)
}

fn begins_with_keyframe(tracks: &[Track], samples: &[Sample]) -> bool {
    let primary = primary_track(tracks);
    samples.iter().find(|sample| sample.track == primary).is_some_and(|first| first.keyframe)
}

/// Creates (or, left over from a crash, overwrites) a file of ours, and syncs it.
pub(crate) fn write_hashed(
    path: &Path,
    fill: impl FnOnce(Hashed<BufWriter<File>>) -> Result<Hashed<BufWriter<File>>, FragmentError>,
) -> Result<(blake3::Hash, u64), PlaceError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .map_err(DurableError::at("create", path))?;
    let output = BufWriter::with_capacity(COPY_BUFFER_BYTES, file);
    let written = fill(Hashed::new(output))
        .map_err(|source| PlaceError::Write { path: path.to_owned(), source })?;
    written.output.get_ref().sync_all().map_err(DurableError::at("sync", path))?;
    let (size_bytes, digest) = written.digest();
    Ok((digest, size_bytes))
}

/// Everything that goes through, hashed.
#[derive(Debug)]
pub(crate) struct Hashed<W> {
    output: W,
    hasher: blake3::Hasher,
}

impl<W: Write> Hashed<W> {
    pub(crate) fn new(output: W) -> Self {
        Hashed { output, hasher: blake3::Hasher::new() }
    }

    /// How much has gone through, and its BLAKE3.
    pub(crate) fn digest(&self) -> (u64, blake3::Hash) {
        (self.hasher.count(), self.hasher.finalize())
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// True where a file stands at `path` that is this piece, byte for byte.
fn holds(path: &Path, piece: &Piece) -> Result<bool, DurableError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(DurableError::at("open", path)(error)),
    };
    let mut hashed = Hashed::new(io::sink());
    io::copy(&mut file, &mut hashed).map_err(DurableError::at("read", path))?;
    Ok(hashed.digest().1 == piece.digest)
}

/// Reads a written file back as any reader of the archive does, and compares it sample by sample.
pub(crate) fn prove(
    path: &Path,
    tracks: &[Track],
    lanes: &[Vec<OutputSample>],
) -> Result<(), PlaceError> {
    let read = |source| PlaceError::ReadBack { path: path.to_owned(), source };
    let differs = |what| PlaceError::Differs { path: path.to_owned(), what };
    let mut source = Source::open(path).map_err(read)?;
    let summary = source.summary();
    if summary.torn || summary.tracks.len() != tracks.len() {
        return Err(differs("tracks"));
    }
    let samples = source.samples().map_err(read)?;
    for (index, lane) in lanes.iter().enumerate() {
        let found = samples.iter().filter(|sample| sample.track == index);
        if !found.map(as_read).eq(lane.iter().map(as_written)) {
            return Err(differs("samples"));
        }
    }
    Ok(())
}

/// All that a reader of the file is to find of a sample: decode time, composition offset, duration, size, and
/// whether it is a keyframe.
type Traits = (i128, i64, u32, u32, bool);

fn as_written(sample: &OutputSample) -> Traits {
    let Sample { size_bytes, keyframe, .. } = sample.source;
    let (decode_ticks, offset) = (sample.decode_ticks.into(), sample.composition_offset.into());
    (decode_ticks, offset, sample.duration, size_bytes, keyframe)
}

fn as_read(sample: &Sample) -> Traits {
    let (decode_ticks, offset) = (sample.decode_ticks.into(), sample.composition_offset.into());
    (decode_ticks, offset, sample.duration, sample.size_bytes, sample.keyframe)
}
