//! `gapless export`: a range of the merged recording as one MP4 file.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::message::DeviceId;
use sdcard_indexer::index::{Index, IndexConfig, StreamSource};
use sdcard_indexer::readable::length_of;
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde_json::json;

use super::show;
use super::{Output, Window};
use crate::config::Config;
use crate::durable;
use crate::fleet::StreamKey;
use crate::ledger::{Ledger, PartState};
use crate::playback::{self, ArchivedSegment, Exported, FoundSeams, SeamSearch, Tolerances};
use crate::timeline::Recorder;

#[derive(Debug, thiserror::Error)]
pub(super) enum ExportRefused {
    #[error("device `{device}` has the streams {streams}: name one with --stream")]
    SeveralStreams { device: DeviceId, streams: String },
    #[error("{path} exists already: name another file")]
    Exists { path: PathBuf },
}

pub async fn export(
    ledger: &dyn Ledger,
    config: &Config,
    device: &DeviceId,
    window: &Window,
    output: &Path,
    report: &Output,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    let range = window.range()?;
    let key = one_stream(ledger, device, window).await?;
    if output.exists() {
        return Err(ExportRefused::Exists { path: output.to_owned() }.into());
    }
    let segments = segments(ledger, config, &key, range).await?;
    let found = playback::find_seams(&segments, &SeamSearch::default());
    let runs = playback::view(&segments, &found.seams, Tolerances::default());
    let exported = durable::write_new(output, |file| -> anyhow::Result<_> {
        Ok(playback::export(&runs, range, file)?)
    })?;
    match report.json {
        true => print_json(output, &exported, &found, out),
        false => print(output, &exported, out),
    }
}

fn print(output: &Path, exported: &Exported, out: &mut dyn Write) -> anyhow::Result<bool> {
    let Exported { range, frames, seams } = exported;
    let (output, length) = (output.display(), length_of(range.duration()));
    writeln!(out, "{output}: {} to {} ({length}, {frames} frames)", range.start(), range.end())?;
    for seam in seams {
        writeln!(out, "  seam at {}: {}", seam.at, seam.seam)?;
    }
    Ok(true)
}

fn print_json(
    output: &Path,
    exported: &Exported,
    found: &FoundSeams,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    let Exported { range, frames, seams } = exported;
    let unmet = found.attempts.iter().filter_map(|attempt| {
        let reason = attempt.outcome.as_ref().err()?.to_string();
        let (live, piece, edge) = (&attempt.live, &attempt.piece, attempt.edge);
        Some(json!({ "live": live, "piece": piece, "edge": edge, "reason": reason }))
    });
    let document = json!({
        "file": output,
        "range": range,
        "frames": frames,
        "seams": seams,
        "not_met": unmet.collect::<Vec<_>>(),
        "seam_search": found.cost(),
    });
    show::print_json(&document, out)
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
pub async fn segments(
    ledger: &dyn Ledger,
    config: &Config,
    key: &StreamKey,
    range: TimeRange,
) -> anyhow::Result<Vec<ArchivedSegment>> {
    let root = config.archive.root.join(config.archive.stream_path(key));
    let archived = ledger.parts(key).await?.into_iter();
    let archived = archived.filter(|record| record.state == PartState::Archived);
    let pieces: BTreeMap<PathBuf, (TimeRange, Duration)> = archived
        .filter_map(|record| {
            let (piece, uncertainty_ns) = (record.piece?, record.part.uncertainty_ns);
            let placed = (piece.range, Duration::from_nanos(uncertainty_ns));
            Some((config.archive.root.join(piece.path), placed))
        })
        .collect();
    let source =
        StreamSource { stream: key.stream.clone(), root: root.clone(), layout: config.layout()? };
    let mut index = Index::open(IndexConfig::new(vec![source], None))?;
    index.sweep(Timestamp::from_jiff(jiff::Timestamp::now()));
    let held = index.segments(&key.stream, range).filter_map(|segment| {
        let range = segment.coverage()?;
        let file = root.join(&segment.path);
        // Names may be rounded; what a piece was cut for is not.
        let (by, range, uncertainty) = match pieces.get(&file) {
            Some(&(range, uncertainty)) => (Recorder::Edge, range, uncertainty),
            None => (Recorder::Live, range, segment.placement.uncertainty),
        };
        Some(ArchivedSegment { file, range, by, uncertainty })
    });
    Ok(held.collect())
}
