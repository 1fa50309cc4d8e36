//! Which files are there to be played, and who recorded each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sdcard_indexer::time::TimeRange;

use super::ArchivedSegment;
use crate::archive::ArchivedFile;
use crate::ledger::{PartRecord, PartState};
use crate::timeline::Recorder;

/// The archive's files of a stream, those that became of its `parts` as pieces, where the ledger says they belong:
/// names may be rounded, what a piece was cut for is not.
pub fn segments(
    files: impl IntoIterator<Item = ArchivedFile>,
    parts: &[PartRecord],
    archive_root: &Path,
) -> Vec<ArchivedSegment> {
    let archived = parts.iter().filter(|record| record.state == PartState::Archived);
    let pieces: BTreeMap<PathBuf, (TimeRange, Duration)> = archived
        .filter_map(|record| {
            let piece = record.piece.as_ref()?;
            let uncertainty = Duration::from_nanos(record.part.uncertainty_ns);
            Some((archive_root.join(&piece.path), (piece.range, uncertainty)))
        })
        .collect();
    let segment = |file: ArchivedFile| match pieces.get(&file.path) {
        Some(&(range, uncertainty)) => {
            ArchivedSegment { file: file.path, range, by: Recorder::Edge, uncertainty }
        }
        None => ArchivedSegment {
            file: file.path,
            range: file.range,
            by: Recorder::Live,
            uncertainty: file.uncertainty,
        },
    };
    files.into_iter().map(segment).collect()
}
