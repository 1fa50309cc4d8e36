//! Asking the medium itself: are all sealed segments still what they were?
//!
//! Reads each segment that has a seal-time digest, past the page cache, and says which of its blocks are no
//! longer what they were. Writes nothing: a card that was pulled can be verified as evidence on any PC.
//!
//! What "past the page cache" means for files: the kernel is asked to drop a file's pages
//! (`posix_fadvise`, `POSIX_FADV_DONTNEED`) before they are read. It keeps pages that are not written back
//! yet, for some 30 s after a recorder wrote them, and pages that somebody has mapped; those are then
//! compared as they stand in memory. On a file system in memory there is nothing behind them. A card's own
//! cache is not asked either: for that, take the card out and put it back. Where a store of a maker has no
//! way past its memory, [`Report::past_cache`] is false.
//!
//! ```
//! # use std::ops::ControlFlow;
//! use sdcard_indexer::digest::{Digests, verify::verify};
//! use sdcard_indexer::recordings::Folder;
//! use sdcard_indexer::scan::ScanLimits;
//! # let card = std::env::temp_dir();
//!
//! let folder = Folder { root: card.join("main"), limits: ScanLimits::default(), require_mount: false };
//! let digests = Digests::new(card.join(".gapless"));
//! let report = verify(&"main".parse()?, &folder, &digests, &mut |progress| {
//!     eprint!("\r{} of {} bytes", progress.bytes, progress.total_bytes);
//!     ControlFlow::Continue(())
//! })?;
//! for segment in &report.changed {
//!     println!("{}: changed in bytes {:?}", segment.name.display(), segment.ranges);
//! }
//! assert!(report.is_good());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::ops::{ControlFlow, Range};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::store::last_of_each;
use super::{BLOCK_BYTES, Digests, SLICE_BYTES, SealDigest, SealHasher, SealedBytes};
use crate::identity::{SegmentId, StreamId};
use crate::log::LogError;
use crate::recordings::{Listed, Recordings, read_full_at};
use crate::segment::path_bytes;

/// How far a verification has come; told before each segment and after each MiB.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The segment that is being read.
    pub name: &'a Path,
    pub segments: u64,
    pub total_segments: u64,
    pub bytes: u64,
    pub total_bytes: u64,
}

/// Hears of the progress; [`ControlFlow::Break`] ends the verification.
pub type OnProgress<'a> = &'a mut dyn FnMut(&Progress<'_>) -> ControlFlow<()>;

/// What was found of the segments of one stream.
#[derive(Debug)]
pub struct Report {
    /// Segments of which every byte is what it was when they were sealed, and these bytes. One that was
    /// appended to since is among them.
    pub intact: u64,
    pub intact_bytes: u64,
    /// Segments that are not: altered, cut short, or replaced under their name without having been sealed
    /// again.
    pub changed: Vec<ChangedSegment>,
    /// Segments that could not be read to the end.
    pub unreadable: Vec<(PathBuf, io::Error)>,
    /// Digests of segments that are no longer there.
    pub gone: u64,
    /// Recordings that no digest was taken of.
    pub without_digest: u64,
    /// Memory was asked to forget what it kept, before each read.
    pub past_cache: bool,
    /// False: it was ended before everything was read.
    pub finished: bool,
}

impl Report {
    /// All that could be compared was compared, and is as it was.
    pub fn is_good(&self) -> bool {
        self.finished && self.changed.is_empty() && self.unreadable.is_empty()
    }
}

/// A segment of which some bytes are not what they were.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangedSegment {
    pub segment: SegmentId,
    /// Which bytes were sealed.
    pub sealed: SealedBytes,
    /// The file's time of change is another than when it was sealed: somebody has written to it, where
    /// otherwise it is the card that does not keep what it was given.
    pub written_since: bool,
    pub name: PathBuf,
    /// The bytes of the blocks that differ, neighbours joined, in order; as sealed, so they may lie behind the
    /// end of a segment that was cut short.
    pub ranges: Vec<Range<u64>>,
}

impl ChangedSegment {
    /// All before this offset is as it was.
    pub fn intact_bytes(&self) -> u64 {
        self.ranges.first().map_or(0, |range| range.start)
    }
}

/// Reads every segment of a stream that has a digest and compares it. Fails only where the digests
/// themselves cannot be read.
pub fn verify(
    stream: &StreamId,
    recordings: &dyn Recordings,
    digests: &Digests,
    on_progress: OnProgress<'_>,
) -> Result<Report, LogError> {
    let mut verification = Verification::begin(stream, recordings, digests, on_progress)?;
    for day in digests.days()? {
        let last = last_of_each(digests, day, stream)?;
        digests.replay(day, |place, record| {
            let segment = SegmentId::of(stream, record.path);
            let is_last = last.get(&segment) == Some(&place);
            if let Some(sealed) = SealDigest::of_record(record).filter(|_| is_last) {
                let name = Path::new(OsStr::from_bytes(record.path));
                verification.segment(segment, name, SealedBytes::of_record(record), &sealed);
            }
        })?;
    }
    Ok(verification.report)
}

struct Verification<'a> {
    recordings: &'a dyn Recordings,
    on_progress: OnProgress<'a>,
    segments: u64,
    total_segments: u64,
    bytes: u64,
    total_bytes: u64,
    report: Report,
}

/// Why a segment was not read to its end.
enum Ended {
    Stopped,
    Failed(io::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Ended::Failed(error)
    }
}

impl<'a> Verification<'a> {
    fn begin(
        stream: &StreamId,
        recordings: &'a dyn Recordings,
        digests: &Digests,
        on_progress: OnProgress<'a>,
    ) -> Result<Self, LogError> {
        let (mut known, mut total_bytes) = (HashSet::new(), 0);
        for day in digests.days()? {
            let last = last_of_each(digests, day, stream)?;
            digests.replay(day, |place, record| {
                let segment = SegmentId::of(stream, record.path);
                if last.get(&segment) == Some(&place) && known.insert(segment) {
                    total_bytes += record.size_bytes;
                }
            })?;
        }
        let mut without_digest = 0;
        recordings.list(Path::new(""), &mut |listed| {
            if let Listed::Recording { name, .. } = listed {
                let segment = SegmentId::of(stream, path_bytes(&name));
                without_digest += u64::from(!known.contains(&segment));
            }
        });
        Ok(Verification {
            recordings,
            on_progress,
            segments: 0,
            total_segments: known.len() as u64,
            bytes: 0,
            total_bytes,
            report: Report {
                intact: 0,
                intact_bytes: 0,
                changed: Vec::new(),
                unreadable: Vec::new(),
                gone: 0,
                without_digest,
                past_cache: true,
                finished: true,
            },
        })
    }

    fn segment(
        &mut self,
        segment: SegmentId,
        name: &Path,
        bytes: SealedBytes,
        digest: &SealDigest,
    ) {
        if !self.report.finished {
            return;
        }
        let bytes_before = self.bytes;
        let outcome = self.compare(name, digest);
        self.segments += 1;
        self.bytes = bytes_before + bytes.version.size_bytes;
        match outcome {
            Ok((ranges, _)) if ranges.is_empty() => {
                self.report.intact += 1;
                self.report.intact_bytes += bytes.version.size_bytes;
            }
            Ok((ranges, modified_ns)) => self.report.changed.push(ChangedSegment {
                segment,
                sealed: bytes,
                written_since: modified_ns != bytes.modified_ns,
                name: name.to_owned(),
                ranges,
            }),
            Err(Ended::Stopped) => self.report.finished = false,
            Err(Ended::Failed(error)) if error.kind() == io::ErrorKind::NotFound => {
                self.report.gone += 1;
            }
            Err(Ended::Failed(error)) => self.report.unreadable.push((name.to_owned(), error)),
        }
    }

    /// The ranges that differ, and when the file was changed last.
    fn compare(
        &mut self,
        name: &Path,
        sealed: &SealDigest,
    ) -> Result<(Vec<Range<u64>>, i64), Ended> {
        self.tell(name)?;
        let file = self.recordings.open(name)?;
        self.report.past_cache &= file.forget_cached()?;
        let mut hasher = SealHasher::new(sealed.size_bytes);
        let mut buffer = vec![0; SLICE_BYTES];
        while hasher.left_bytes() > 0 {
            let offset = hasher.position();
            let count = read_full_at(&*file, &mut buffer, offset)?;
            let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else { break };
            hasher.update(read);
            self.bytes += hasher.position() - offset;
            if hasher.position() % BLOCK_BYTES == 0 {
                self.tell(name)?;
            }
        }
        // What was read once is not read again: memory is for the recorder.
        file.forget_cached()?;
        Ok((sealed.differences(&hasher), file.stamp()?.modified_ns))
    }

    fn tell(&mut self, name: &Path) -> Result<(), Ended> {
        let flow = (self.on_progress)(&Progress {
            name,
            segments: self.segments,
            total_segments: self.total_segments,
            bytes: self.bytes,
            total_bytes: self.total_bytes,
        });
        if flow.is_break() { Err(Ended::Stopped) } else { Ok(()) }
    }
}
