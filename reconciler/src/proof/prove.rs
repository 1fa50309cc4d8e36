//! Writes an export and says what it holds: [`Export::write`].
//!
//! For any output: a file of the command line's, a response of the API's, or a sink where only the manifest is
//! wanted. The same runs give the same bytes and digests each time. Reads the archive, writes nothing to it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sdcard_indexer::time::{TimeRange, Timestamp};
use serde::{Deserialize, Serialize};

use super::Progress;
use super::manifest::{
    ABOUT, Asked, Blake3, Clock, FORMAT, FileEntry, Known, Manifest, PieceProof, RunEntry,
    SeamEntry, SourceEntry, StateEntry, VERSION, number_of,
};
use super::sources::digest_of;
use super::states::states;
use super::witness::{Onlooker, Stretch};
use crate::fleet::StreamKey;
use crate::ledger::{PartRecord, PartState, Piece, TimelineRecord};
use crate::merge::Hashed;
use crate::playback::{ExportError, Run, export_before};
use crate::rfc3339;
use crate::seam::Seam;
use crate::timeline::{Proof, Recorder, State};

#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error("{} was exported, but its digest cannot be taken", file.display())]
    Source { file: PathBuf, source: io::Error },
}

/// Who exported, when, and with what.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Exporter {
    /// As the exporting machine knows them: a user of the server's, or of the machine's.
    pub by: String,
    #[serde(with = "rfc3339")]
    pub at: Timestamp,
    /// The version of `gapless`.
    pub gapless: String,
}

impl Exporter {
    pub fn new(by: String, at: Timestamp) -> Exporter {
        Exporter { by, at, gapless: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

/// What the ledger knows of the pieces that came from a stream's card, by their files.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    pieces: BTreeMap<PathBuf, (PartRecord, Piece)>,
}

impl Provenance {
    /// `root` is the archive's.
    pub fn of(root: &Path, parts: impl IntoIterator<Item = PartRecord>) -> Provenance {
        let archived = parts.into_iter().filter(|record| record.state == PartState::Archived);
        let pieces = archived.filter_map(|record| {
            let piece = record.piece.clone()?;
            Some((root.join(&piece.path), (record, piece)))
        });
        Provenance { pieces: pieces.collect() }
    }
}

/// One export that is to be proved.
pub struct Export<'a> {
    pub key: &'a StreamKey,
    /// Without an end on one side: from, or up to, what is known.
    pub asked: TimeRange,
    /// The archive's, to which the manifest's paths are relative.
    pub root: &'a Path,
    pub runs: &'a [Run<'a>],
    pub provenance: &'a Provenance,
    pub timeline: Option<&'a TimelineRecord>,
    /// Holes no longer than this are rounding.
    pub join_tolerance: Duration,
    pub exporter: Exporter,
    /// The MP4's name, for people.
    pub name: &'a str,
    /// Read the whole files that footage is taken from, for their digests; else `sources` stays empty, and the
    /// manifest is not one to be given to anybody.
    pub with_sources: bool,
}

impl std::fmt::Debug for Export<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Export { key, asked, exporter, .. } = self;
        write!(formatter, "Export of {key}, {asked}, {exporter:?}")
    }
}

impl Export<'_> {
    /// Writes the MP4, then reads the files it was taken from for their digests.
    pub fn write<W: Write>(
        &self,
        output: W,
        progress: &dyn Progress,
    ) -> Result<Manifest, ProveError> {
        let mut output = Hashed::new(output);
        let mut onlooker = Onlooker::new(self.runs, self.join_tolerance, progress);
        let exported = export_before(&mut onlooker, self.runs, self.asked, &mut output)?;
        let (size_bytes, digest) = output.digest();
        let blake3 = Blake3(digest);
        let tracks = std::mem::take(&mut onlooker.tracks);
        let stretches = onlooker.into_stretches();
        let footage: Vec<(TimeRange, State)> =
            stretches.iter().map(|stretch| (stretch.range, self.state_of(stretch))).collect();
        let timeline = self.timeline.map_or(&[][..], |record| &record.stretches);
        let asked = self.bounded(&footage);
        let states = states(asked, &footage, timeline, self.join_tolerance).into_iter();
        Ok(Manifest {
            format: FORMAT.to_owned(),
            version: VERSION,
            about: ABOUT.to_owned(),
            exported: self.exporter.clone(),
            asked: Asked { key: self.key.clone(), range: asked.into() },
            file: FileEntry { name: self.name.to_owned(), size_bytes, blake3 },
            holds: exported.range.into(),
            frames: exported.frames,
            tracks,
            runs: stretches.iter().enumerate().map(|(at, one)| self.run_entry(at, one)).collect(),
            seams: seams(&stretches),
            sources: match self.with_sources {
                true => self.sources(&stretches, progress)?,
                false => Vec::new(),
            },
            states: states.map(|(range, known)| entry(range, known)).collect(),
            states_as_of: self.timeline.map(|record| record.as_of),
            join_tolerance_s: self.join_tolerance.as_secs_f64(),
        })
    }

    /// What was asked for, from and up to what is known where nobody said from when or until when.
    fn bounded(&self, footage: &[(TimeRange, State)]) -> TimeRange {
        let timeline = self.timeline.iter().flat_map(|record| &record.stretches);
        let footage = footage.iter().map(|(range, _)| *range);
        let known = timeline.map(|stretch| stretch.range).chain(footage);
        let Some(known) = known.reduce(|one, other| one.hull(&other)) else { return self.asked };
        let (start, end) = (self.asked.start(), self.asked.end());
        let start = if start == Timestamp::MIN { known.start() } else { start };
        let end = if end == Timestamp::MAX { known.end() } else { end };
        TimeRange::new(start, end).unwrap_or(self.asked)
    }

    fn state_of(&self, stretch: &Stretch<'_>) -> State {
        let segment = stretch.run.segment;
        match self.provenance.pieces.get(&segment.file) {
            Some((record, piece)) => State::Archived {
                by: Recorder::Edge,
                proof: record.proof,
                uncertainty_ns: if piece.is_exact() { 0 } else { record.part.uncertainty_ns },
            },
            None => State::Archived { by: segment.by, proof: Proof::None, uncertainty_ns: 0 },
        }
    }

    fn run_entry(&self, index: usize, stretch: &Stretch<'_>) -> RunEntry {
        RunEntry {
            run: number_of(index),
            range: stretch.range.into(),
            clip_from_s: seconds(stretch.clip_ns.0),
            clip_to_s: seconds(stretch.clip_ns.1),
            by: stretch.run.segment.by,
            file: self.relative(&stretch.run.segment.file),
            frames: stretch.frames,
            clock: self.clock_of(stretch.run),
            tracks: stretch.tracks.clone(),
        }
    }

    fn clock_of(&self, run: &Run<'_>) -> Clock {
        let named_ns = u64::try_from(run.segment.uncertainty.as_nanos()).unwrap_or(u64::MAX);
        let Some((record, piece)) = self.provenance.pieces.get(&run.segment.file) else {
            return Clock { added_to_device_ns: None, uncertainty_ns: named_ns };
        };
        // A piece's first frame is its media time zero, and the part's.
        let by_device = record.part.range.start().saturating_offset(-record.offset_ns);
        let of_edge = |seam: &Seam| match *seam {
            Seam::Exact { error_ns, .. } => Some(error_ns),
            _ => None,
        };
        let exact = piece.seams.iter().filter_map(|met| of_edge(&met.seam)).max();
        Clock {
            added_to_device_ns: Some(run.zero_at.nanos_from(by_device)),
            uncertainty_ns: exact.unwrap_or(named_ns),
        }
    }

    fn sources(
        &self,
        stretches: &[Stretch<'_>],
        progress: &dyn Progress,
    ) -> Result<Vec<SourceEntry>, ProveError> {
        let mut listed: BTreeSet<&Path> = BTreeSet::new();
        let segments = stretches.iter().map(|stretch| stretch.run.segment);
        let files: Vec<(&Path, Recorder)> = segments
            .filter(|segment| listed.insert(&segment.file))
            .map(|segment| (segment.file.as_path(), segment.by))
            .collect();
        let size_of = |file: &Path| file.metadata().map_or(0, |metadata| metadata.len());
        progress.more(files.iter().map(|(file, _)| size_of(file)).sum());
        let entry = |(file, by): (&Path, Recorder)| {
            let failed = |source| ProveError::Source { file: file.to_owned(), source };
            let (size_bytes, blake3) = digest_of(file, None, progress).map_err(failed)?;
            let piece = self.provenance.pieces.get(file);
            let piece = piece.map(|(record, piece)| PieceProof {
                part: record.id,
                proof: record.proof,
                part_blake3: record.digest.map(Blake3::from),
                piece_blake3: piece.digest.into(),
                located: record.created,
            });
            Ok(SourceEntry { file: self.relative(file), by, size_bytes, blake3, piece })
        };
        files.into_iter().map(entry).collect()
    }

    fn relative(&self, file: &Path) -> String {
        file.strip_prefix(self.root).unwrap_or(file).display().to_string()
    }
}

fn seams(stretches: &[Stretch<'_>]) -> Vec<SeamEntry> {
    let seams = stretches.iter().enumerate().skip(1).filter_map(|(index, stretch)| {
        Some(SeamEntry {
            at: stretch.range.start(),
            from_run: number_of(index - 1),
            to_run: number_of(index),
            seam: stretch.seam?,
        })
    });
    seams.collect()
}

fn entry(range: TimeRange, known: Known) -> StateEntry {
    StateEntry { range: range.into(), known }
}

pub(super) fn seconds(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}
