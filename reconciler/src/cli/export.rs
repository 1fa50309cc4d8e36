//! `gapless export`: a range of the merged recording as one MP4 file.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use protocol::message::DeviceId;
use sdcard_indexer::index::{Index, IndexConfig, StreamSource};
use sdcard_indexer::readable::length_of;
use sdcard_indexer::time::{TimeRange, Timestamp};

use super::Window;
use super::show;
use crate::config::Config;
use crate::durable;
use crate::fleet::StreamKey;
use crate::ledger::{Ledger, PartState};
use crate::playback::{self, ArchivedSegment, Tolerances};
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
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    let range = window.range()?;
    let key = one_stream(ledger, device, window).await?;
    if output.exists() {
        return Err(ExportRefused::Exists { path: output.to_owned() }.into());
    }
    let segments = segments(ledger, config, &key, range).await?;
    let runs = playback::view(&segments, Tolerances::default());
    let exported = durable::write_new(output, |file| -> anyhow::Result<_> {
        Ok(playback::export(&runs, range, file)?)
    })?;
    writeln!(
        out,
        "{}: {} to {} ({}, {} frames)",
        output.display(),
        exported.range.start(),
        exported.range.end(),
        length_of(exported.range.duration()),
        exported.frames
    )?;
    Ok(true)
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
    let pieces: BTreeSet<PathBuf> =
        archived.filter_map(|record| Some(config.archive.root.join(record.piece?.path))).collect();
    let source =
        StreamSource { stream: key.stream.clone(), root: root.clone(), layout: config.layout()? };
    let mut index = Index::open(IndexConfig::new(vec![source], None))?;
    index.sweep(Timestamp::from_jiff(jiff::Timestamp::now()));
    let held = index.segments(&key.stream, range).filter_map(|segment| {
        let range = segment.coverage()?;
        let file = root.join(&segment.path);
        let by = if pieces.contains(&file) { Recorder::Edge } else { Recorder::Live };
        Some(ArchivedSegment { file, range, by })
    });
    Ok(held.collect())
}
