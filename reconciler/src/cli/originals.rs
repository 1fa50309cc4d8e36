//! `gapless originals`: recordings whose name a re-cut has taken, and how they get it back.
//!
//! As JSON, `list` gives a list of `path`, `piece`, `state`, `device`, `stream`, `made`, `kept_frames`,
//! `left_out_frames`, `original` and `copy` (`size_bytes`, `blake3`), `kept` (where the original lies) and `found`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use protocol::message::DeviceId;
use sdcard_indexer::readable::{second_of, size_of};
use serde_json::json;

use super::{Output, show, text};
use crate::config::Config;
use crate::ledger::{Entry, Ledger, SqliteLedger, ledger_path};
use crate::proof::Blake3;
use crate::recut::{self, Places, Recut, RecutState};

pub(super) const EXAMPLES: &str = "\
Only where [archive] recut = true: a copy that ends where a merged piece
begins has taken the recording's name, so that the recorder's own playback
shows no frame twice; the original lies unaltered in .gapless-originals
beside. Gapless never deletes an original: where your recorder's retention
has deleted a re-cut, its original is listed as `orphaned`, for you to
delete or restore.

  gapless originals list
  gapless originals restore cam-entrance/main/2026-11-23_10-00-00.mp4";

#[derive(Subcommand, Debug)]
pub enum Originals {
    /// List the recordings whose originals are kept, and since when
    List {
        /// Only this device
        device: Option<DeviceId>,
        #[command(flatten)]
        output: Output,
    },
    /// Put an original back under its name, bit for bit
    Restore {
        /// Relative to the archive's root, as `gapless originals list` has it
        path: PathBuf,
    },
}

#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error("no original of {} is kept; see gapless originals list", path.display())]
    Recut { path: PathBuf },
}

pub async fn originals(
    asked: &Originals,
    config: &Config,
    ledger: &dyn Ledger,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    match asked {
        Originals::List { device, output } => {
            let mut recuts = ledger.recuts().await?;
            recuts.retain(|recut| device.as_ref().is_none_or(|device| recut.key.device == *device));
            list(&recuts, &config.archive.root, output.json, out)
        }
        Originals::Restore { path } => restore(path, config, ledger, out).await,
    }
}

fn list(recuts: &[Recut], root: &Path, as_json: bool, out: &mut dyn Write) -> anyhow::Result<bool> {
    if as_json {
        let rows = recuts.iter().map(|recut| {
            let Recut { original, copy, .. } = recut;
            json!({
                "device": recut.key.device,
                "stream": recut.key.stream,
                "path": recut.path,
                "piece": recut.piece,
                "state": recut.state,
                "found": found(recut, root),
                "made": recut.made.to_string(),
                "kept_frames": recut.kept_frames,
                "left_out_frames": recut.left_out_frames,
                "kept": Places::of(root, &recut.path).ok().map(|places| places.kept),
                "original": {
                    "size_bytes": original.size_bytes,
                    "blake3": Blake3::from(original.blake3),
                },
                "copy": { "size_bytes": copy.size_bytes, "blake3": Blake3::from(copy.blake3) },
            })
        });
        return show::print_json(&json!(rows.collect::<Vec<_>>()), out);
    }
    if recuts.is_empty() {
        writeln!(out, "every recording is under its own name: nothing was re-cut")?;
    }
    for recut in recuts {
        writeln!(out, "{}", recut.path.display())?;
        let made = format!("{} (UTC), {}", second_of(recut.made), found(recut, root));
        text::row(out, "re-cut", &made)?;
        let Recut { kept_frames, left_out_frames, original, copy, .. } = recut;
        let frames = format!(
            "{kept_frames} kept, {left_out_frames} left to the piece; {}, was {}",
            size_of(copy.size_bytes),
            size_of(original.size_bytes)
        );
        text::row(out, "frames", &frames)?;
        text::row(out, "piece", &recut.piece.display().to_string())?;
    }
    Ok(true)
}

/// What the files say now, beside what was recorded. Looks at names alone.
fn found(recut: &Recut, root: &Path) -> &'static str {
    let Ok(Places { name, kept, .. }) = Places::of(root, &recut.path) else { return "unknown" };
    match (recut.state, name.exists(), kept.exists()) {
        (RecutState::Kept, true, true) => "kept",
        (RecutState::Kept, false, true) => "orphaned",
        (RecutState::Kept, _, false) => "gone",
        (state, ..) => state.word(),
    }
}

/// Recorded before and behind, so that a crash between is taken up by asking again.
async fn restore(
    path: &Path,
    config: &Config,
    ledger: &dyn Ledger,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    let root = &config.archive.root;
    let path = path.strip_prefix(root).unwrap_or(path);
    let known = ledger.recuts().await?.into_iter().find(|recut| {
        recut.path == path && matches!(recut.state, RecutState::Kept | RecutState::Restoring)
    });
    let recut = known.ok_or_else(|| Unknown::Recut { path: path.to_owned() })?;
    let writable = SqliteLedger::open(&ledger_path(&config.server.state_dir)).await?;
    let record = async |state| {
        let recut = Recut { state, ..recut.clone() };
        writable.record(&[Entry::Recut(Box::new(recut))]).await
    };
    record(RecutState::Restoring).await?;
    if let Err(refused) = recut::restore(root, &recut) {
        record(RecutState::Kept).await?;
        return Err(refused.into());
    }
    record(RecutState::Restored).await?;
    writeln!(out, "{}: the original has its name again", root.join(path).display())?;
    Ok(true)
}
