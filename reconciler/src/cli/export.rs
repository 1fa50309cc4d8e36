//! `gapless export`: a range of the merged recording as one MP4 file, and beside it the manifest that proves it.
//!
//! As JSON: `file`, `range`, `frames`, `seams`, `manifest` and `manifest_blake3`, and of the search for seams
//! `not_met` and `seam_search`.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use protocol::message::DeviceId;
use sdcard_indexer::readable::length_of;
use sdcard_indexer::time::TimeRange;
use serde_json::json;

use super::progress::Bar;
use super::{Output, Window};
use super::{show, text};
use crate::archive::{self, ArchivedFile};
use crate::config::Config;
use crate::durable;
use crate::fleet::StreamKey;
use crate::ledger::{Ledger, PartRecord};
use crate::playback::{self, ArchivedSegment, FoundSeams, SeamSearch, Tolerances};
use crate::proof::{self, Blake3, Exporter, Manifest, Provenance};
use crate::recut;

/// Beside the MP4, with this behind its name.
pub(super) const MANIFEST_ENDING: &str = ".json";

pub(super) const EXAMPLES: &str = "\
Writes clip.mp4, and beside it clip.mp4.json, its manifest: who recorded
each range, with which digests, how ranges were put together, and what of
the time asked for is not there and why.

  gapless export front-door --from 2026-11-23T10:00:00Z \\
      --to 2026-11-23T10:05:00Z -o clip.mp4
  gapless verify-export clip.mp4       on any machine, with no server

Note the manifest's BLAKE3 that is printed where nobody can change it, such
as in a case file: who alters the MP4 and the manifest together is found out
by that alone.

Exit code: 0 done, 1 failed, 2 usage or configuration";

#[derive(clap::Args, Debug)]
pub struct Export {
    /// Its id, as `gapless devices` lists it
    device: DeviceId,
    #[command(flatten)]
    window: Window,
    /// The file to write; must not exist
    #[arg(long, short)]
    output: PathBuf,
    /// Write the MP4 alone, without what proves it
    #[arg(long)]
    no_manifest: bool,
    #[command(flatten)]
    report: Output,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ExportRefused {
    #[error("device `{device}` has the streams {streams}: name one with --stream")]
    SeveralStreams { device: DeviceId, streams: String },
    #[error("{path} exists already: name another file")]
    Exists { path: PathBuf },
}

/// What was written.
struct Done<'a> {
    output: &'a Path,
    manifest: &'a Manifest,
    /// Where it lies, and its digest; `None` where it was not wanted.
    written: Option<(PathBuf, Blake3)>,
    found: &'a FoundSeams,
}

pub async fn export(
    ledger: &dyn Ledger,
    config: &Config,
    asked: &Export,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    let range = asked.window.range()?;
    let output = asked.output.as_path();
    let key = one_stream(ledger, &asked.device, &asked.window).await?;
    let beside = (!asked.no_manifest).then(|| manifest_beside(output));
    if let Some(path) =
        [Some(output), beside.as_deref()].into_iter().flatten().find(|it| it.exists())
    {
        return Err(ExportRefused::Exists { path: path.to_owned() }.into());
    }
    let parts = ledger.parts(&key).await?;
    let timeline = ledger.timeline(&key).await?;
    let segments = segments(&parts, config, &key, range)?;
    let provenance = Provenance::of(&config.archive.root, parts);
    let found = playback::find_seams(&segments, &SeamSearch::default());
    let runs = playback::view(&segments, &found.seams, Tolerances::default());
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    let export = proof::Export {
        key: &key,
        asked: range,
        root: &config.archive.root,
        runs: &runs,
        provenance: &provenance,
        timeline: timeline.as_ref(),
        join_tolerance: config.archive.join_tolerance(),
        exporter: Exporter::new(whoever_runs_this(), text::now()),
        name: &name,
        with_sources: !asked.no_manifest,
    };
    let bar = Bar::of_bytes("exporting");
    let manifest =
        durable::write_new(output, |file| -> anyhow::Result<_> { Ok(export.write(file, &bar)?) })?;
    bar.finish();
    let written = match beside {
        Some(path) => {
            let json = manifest.to_json()?;
            durable::write_new(&path, |file| -> anyhow::Result<()> { Ok(file.write_all(&json)?) })?;
            Some((path, Blake3(blake3::hash(&json))))
        }
        None => None,
    };
    let done = Done { output, manifest: &manifest, written, found: &found };
    match asked.report.json {
        true => done.print_json(out),
        false => done.print(out),
    }
}

impl Done<'_> {
    fn print(&self, out: &mut dyn Write) -> anyhow::Result<bool> {
        let Manifest { holds, frames, seams, states, .. } = self.manifest;
        let (output, length) = (self.output.display(), length_of(holds.range().duration()));
        writeln!(out, "{output}: {} to {} ({length}, {frames} frames)", holds.from, holds.to)?;
        for seam in seams.iter().filter(|found| found.seam.joins_recorders()) {
            writeln!(out, "  seam at {}: {}", seam.at, seam.seam)?;
        }
        let lacking = states.iter().filter(|entry| !entry.known.is_archived());
        text::stretches(out, lacking.map(|entry| (&entry.range, entry.known.to_string())))?;
        for source in &self.manifest.sources {
            if source.piece.as_ref().is_some_and(|piece| piece.piece_blake3 != source.blake3) {
                text::row(out, "altered", "since it was merged; see gapless verify")?;
                text::row(out, "", &source.file)?;
            }
        }
        if let Some((path, digest)) = &self.written {
            writeln!(out, "{}: note its BLAKE3 elsewhere:", path.display())?;
            writeln!(out, "  {digest}")?;
        }
        Ok(true)
    }

    fn print_json(&self, out: &mut dyn Write) -> anyhow::Result<bool> {
        let unmet = self.found.attempts.iter().filter_map(|attempt| {
            let reason = attempt.outcome.as_ref().err()?.to_string();
            let (live, piece, edge) = (&attempt.live, &attempt.piece, attempt.edge);
            Some(json!({ "live": live, "piece": piece, "edge": edge, "reason": reason }))
        });
        let seams = self.manifest.seams.iter().filter(|found| found.seam.joins_recorders());
        let written = self.written.as_ref();
        let document = json!({
            "file": self.output,
            "range": self.manifest.holds,
            "frames": self.manifest.frames,
            "seams": seams.collect::<Vec<_>>(),
            "manifest": written.map(|(path, _)| path),
            "manifest_blake3": written.map(|(_, digest)| digest),
            "not_met": unmet.collect::<Vec<_>>(),
            "seam_search": self.found.cost(),
        });
        show::print_json(&document, out)
    }
}

pub(super) fn manifest_beside(clip: &Path) -> PathBuf {
    let mut name = OsString::from(clip);
    name.push(MANIFEST_ENDING);
    name.into()
}

/// As the machine knows them. It is their word: whoever may run this may also say that they are somebody else.
fn whoever_runs_this() -> String {
    let uid = std::fs::metadata("/proc/self").map_or("?".to_owned(), |own| own.uid().to_string());
    let user = std::env::var("USER").unwrap_or_else(|_| "unnamed".to_owned());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{user} (uid {uid}) on {}, by the command line", host.trim())
}

async fn one_stream(
    ledger: &dyn Ledger,
    device: &DeviceId,
    window: &Window,
) -> anyhow::Result<StreamKey> {
    let mut streams = show::streams(ledger, Some(device), window.stream.as_ref()).await?;
    match streams.len() {
        1 => Ok(streams.remove(0)),
        _ => {
            let streams: Vec<&str> = streams.iter().map(|key| key.stream.as_str()).collect();
            let streams = streams.join(", ");
            Err(ExportRefused::SeveralStreams { device: device.clone(), streams }.into())
        }
    }
}

/// The archive's files of a range, each with who recorded it.
fn segments(
    parts: &[PartRecord],
    config: &Config,
    key: &StreamKey,
    range: TimeRange,
) -> anyhow::Result<Vec<ArchivedSegment>> {
    let root = config.archive.root.join(config.archive.stream_path(key));
    let index = archive::read_now(config, key)?;
    let files = index.segments(&key.stream, range).filter_map(|segment| {
        let (path, range) = recut::as_recorded(root.join(&segment.path), segment.coverage()?);
        Some(ArchivedFile { path, range, uncertainty: segment.placement.uncertainty })
    });
    Ok(playback::segments(files, parts, &config.archive.root))
}
