//! Holds an MP4 against the manifest of its export.
//!
//! Needs nothing but the two files; with the archive at hand it also compares the files that the footage was taken
//! from. In the order of what is looked at: `claims`, whether the manifest contradicts itself, `media`, whether the
//! MP4 is what it says, run by run, `archive`, whether the sources are. Both files are read as what a stranger gave:
//! nothing in them is believed, and no name in a manifest leads out of the archive that was named.

mod archive;
mod claims;
mod media;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sdcard_indexer::time::TimeRange;
use serde::Serialize;

use super::Progress;
use super::manifest::{Blake3, FORMAT, Manifest, RunEntry, VERSION};
use crate::api::view::Range;

/// A manifest of a year of holes is smaller.
const MOST_MANIFEST_BYTES: u64 = 256 << 20;

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
pub enum CannotCheck {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "cannot read the manifest {}: it is written beside each export as <name>.mp4.json; name it with --manifest",
        path.display()
    )]
    NoManifest { path: PathBuf, source: io::Error },
    #[error("{} is larger than any manifest: is it the right file?", path.display())]
    TooLarge { path: PathBuf },
    #[error("{} is not the manifest of an export, or was damaged", path.display())]
    NotAManifest { path: PathBuf, source: serde_json::Error },
    #[error("{} says of itself that it is a `{format}`, not a `{FORMAT}`", path.display())]
    OtherFormat { path: PathBuf, format: String },
    #[error(
        "{} is of version {found}, this program knows version {VERSION}: use a newer one",
        path.display()
    )]
    Newer { path: PathBuf, found: u32 },
}

/// What a finding is about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum Subject {
    /// The MP4 as a whole.
    File,
    /// The manifest's own words.
    Manifest,
    Track {
        track: u32,
    },
    Run {
        run: u32,
        file: String,
    },
    State {
        state: &'static str,
    },
    /// A file of the archive.
    Source {
        file: String,
    },
}

/// Something that is not as it was exported.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Finding {
    #[serde(flatten)]
    pub subject: Subject,
    /// Of what was asked for, where it concerns a part of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
    pub problem: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

impl Finding {
    fn new(subject: Subject, problem: impl Into<String>) -> Finding {
        Finding { subject, range: None, problem: problem.into(), expected: None, found: None }
    }

    fn of_run(run: &RunEntry, problem: impl Into<String>) -> Finding {
        let subject = Subject::Run { run: run.run, file: run.file.clone() };
        Finding { range: Some(run.range), ..Finding::new(subject, problem) }
    }

    fn at(self, range: TimeRange) -> Finding {
        Finding { range: Some(range.into()), ..self }
    }

    fn differs(self, expected: impl ToString, found: impl ToString) -> Finding {
        Finding { expected: Some(expected.to_string()), found: Some(found.to_string()), ..self }
    }
}

/// What was compared, and what was found.
#[derive(Debug)]
pub struct Report {
    pub manifest: Manifest,
    /// Of the manifest's file: to be compared with what was noted at the export.
    pub manifest_blake3: Blake3,
    /// Files of the archive that were compared.
    pub sources_compared: usize,
    /// Empty where everything is as it was exported.
    pub findings: Vec<Finding>,
}

/// Reads both files from beginning to end, and with `archive`, its root, the sources too.
pub fn check(
    clip: &Path,
    manifest: &Path,
    archive: Option<&Path>,
    progress: &dyn Progress,
) -> Result<Report, CannotCheck> {
    let (manifest, manifest_blake3) = read_manifest(manifest)?;
    let mut findings = claims::check(&manifest);
    media::check(clip, &manifest, &mut findings, progress)?;
    let sources_compared = match archive {
        Some(root) => archive::check(root, &manifest, &mut findings, progress),
        None => 0,
    };
    Ok(Report { manifest, manifest_blake3, sources_compared, findings })
}

fn read_manifest(path: &Path) -> Result<(Manifest, Blake3), CannotCheck> {
    let path_buf = || path.to_owned();
    let failed = |source| CannotCheck::NoManifest { path: path_buf(), source };
    let mut json = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MOST_MANIFEST_BYTES + 1).read_to_end(&mut json).map_err(failed)?;
    if json.len() as u64 > MOST_MANIFEST_BYTES {
        return Err(CannotCheck::TooLarge { path: path_buf() });
    }
    let damaged = |source| CannotCheck::NotAManifest { path: path_buf(), source };
    #[derive(serde::Deserialize)]
    struct Head {
        format: String,
        version: u32,
    }
    let Head { format, version } = serde_json::from_slice(&json).map_err(damaged)?;
    if format != FORMAT {
        return Err(CannotCheck::OtherFormat { path: path_buf(), format });
    }
    if version != VERSION {
        return Err(CannotCheck::Newer { path: path_buf(), found: version });
    }
    let manifest = serde_json::from_slice(&json).map_err(damaged)?;
    Ok((manifest, Blake3(blake3::hash(&json))))
}
