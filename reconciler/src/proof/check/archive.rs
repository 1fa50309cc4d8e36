//! Are the archive's files still what the footage was taken from?
//!
//! Reads only, and only plain files below the root that was named. A recorder may have gone on writing behind what
//! was exported; an original that a re-cut replaced is compared where it is kept.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::{Finding, Subject};
use crate::proof::Progress;
use crate::proof::manifest::{Blake3, Manifest, SourceEntry};
use crate::proof::sources::digest_of;
use crate::recut;

/// How many files were compared.
pub(super) fn check(
    root: &Path,
    manifest: &Manifest,
    findings: &mut Vec<Finding>,
    progress: &dyn Progress,
) -> usize {
    progress.more(manifest.sources.iter().map(|source| source.size_bytes).sum());
    for source in &manifest.sources {
        let found = places(root, &source.file)
            .into_iter()
            .map(|path| digest_of(&path, Some(source.size_bytes), progress));
        findings.extend(judge(source, found));
    }
    manifest.sources.len()
}

/// Where a source may lie. Nothing outside of the root is ever opened, whatever a manifest says.
fn places(root: &Path, file: &str) -> Vec<PathBuf> {
    let file = Path::new(file);
    let is_plain = file.components().all(|part| matches!(part, Component::Normal(_)));
    if !is_plain {
        return Vec::new();
    }
    let here = root.join(file);
    // Exported from an original that was kept beside, and has its name again.
    let kept_in = here.parent().filter(|parent| parent.ends_with(recut::FOLDER));
    let again = kept_in.and_then(Path::parent).zip(here.file_name());
    let again = again.map(|(parent, name)| parent.join(name)).filter(|again| again.is_file());
    let kept = recut::kept_beside(&here).filter(|kept| kept.is_file());
    kept.into_iter().chain(again).chain([here]).collect()
}

fn judge(
    source: &SourceEntry,
    found: impl Iterator<Item = io::Result<(u64, Blake3)>>,
) -> Option<Finding> {
    let subject = Subject::Source { file: source.file.clone() };
    let mut worst =
        Finding::new(subject.clone(), "its path leads out of the archive: not compared");
    for outcome in found {
        worst = match outcome {
            Ok((_, blake3)) if blake3 == source.blake3 => return None,
            Ok((_, blake3)) => {
                let problem = "its bytes are not those that were exported from";
                Finding::new(subject.clone(), problem).differs(source.blake3, blake3)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Finding::new(subject.clone(), "it is no longer in the archive")
            }
            Err(error) => Finding::new(subject.clone(), format!("it cannot be read: {error}")),
        };
    }
    Some(worst)
}
