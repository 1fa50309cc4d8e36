//! `gapless verify`: is what the ledger says of the archive still true?
//!
//! Every merged piece is read again and its digest compared; every stretch that the timeline calls
//! archived must be held by files that parse. Nothing is changed. As JSON: `pieces`, `piece_bytes`, and
//! `problems`, each with `stream`, `problem`, and `file` where it is about one.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use protocol::message::DeviceId;
use sdcard_indexer::coverage::Coverage;
use serde::Serialize;
use serde_json::json;

use super::progress::Bar;
use super::show;
use crate::archive;
use crate::config::Config;
use crate::fleet::StreamKey;
use crate::ledger::{Ledger, PartState, Piece};
use crate::proof::{Blake3, Progress, digest_of};
use crate::timeline::{Proof, Recorder, State};

/// What was looked at, and what is wrong.
#[derive(Debug, Default, Serialize)]
struct Report {
    pieces: usize,
    piece_bytes: u64,
    /// Of the pieces, those that are proved to be what the recorder left on the card.
    sealed_pieces: usize,
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Problem {
    stream: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    problem: String,
}

pub async fn verify(
    ledger: &dyn Ledger,
    config: &Config,
    device: Option<&DeviceId>,
    as_json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    let mut report = Report::default();
    let streams = show::streams(ledger, device, None).await?;
    let mut pieces = Vec::new();
    for key in &streams {
        let archived = ledger.parts(key).await?.into_iter();
        let archived = archived.filter(|record| record.state == PartState::Archived);
        pieces
            .extend(archived.filter_map(|record| Some((key.clone(), record.piece?, record.proof))));
    }
    let progress = Bar::of_bytes("reading");
    progress.more(pieces.iter().map(|(_, piece, _)| piece.size_bytes).sum());
    for (key, piece, proof) in &pieces {
        report.sealed_pieces += usize::from(*proof == Proof::Sealed);
        report.check_piece(key, piece, &config.archive.root, &progress);
    }
    progress.finish();
    for key in &streams {
        report.check_timeline(key, ledger, config).await?;
    }
    if as_json {
        show::print_json(&json!(report), out)?;
    } else {
        report.print(out)?;
    }
    Ok(report.problems.is_empty())
}

impl Report {
    fn check_piece(&mut self, key: &StreamKey, piece: &Piece, root: &Path, progress: &Bar) {
        self.pieces += 1;
        self.piece_bytes += piece.size_bytes;
        let path = root.join(&piece.path);
        let written = Blake3::from(piece.digest);
        let problem = match digest_of(&path, None, progress) {
            Ok((_, found)) if found == written => return,
            Ok((_, found)) => format!("its bytes have changed: BLAKE3 is {found}, was {written}"),
            Err(error) => format!("cannot be read: {error}"),
        };
        self.problems.push(Problem { stream: key.to_string(), file: Some(path), problem });
    }

    /// The files must hold what the timeline calls archived.
    async fn check_timeline(
        &mut self,
        key: &StreamKey,
        ledger: &dyn Ledger,
        config: &Config,
    ) -> anyhow::Result<()> {
        let Some(record) = ledger.timeline(key).await? else { return Ok(()) };
        let index = archive::read_now(config, key)?;
        let held = index.stream(&key.stream).map(|view| view.held.clone()).unwrap_or_default();
        let tolerance = config.archive.join_tolerance();
        let archived = record.stretches.iter().filter_map(|stretch| match stretch.state {
            State::Archived { by, .. } => Some((stretch.range, by)),
            _ => None,
        });
        for (range, by) in archived {
            let absent = Coverage::from(range).difference(&held.clone().joined(tolerance));
            for range in absent.without_slivers(tolerance) {
                let by = if by == Recorder::Live { "the central recorder's" } else { "a merged" };
                let problem = format!("{range} is called archived, but {by} file for it is gone");
                self.problems.push(Problem { stream: key.to_string(), file: None, problem });
            }
        }
        Ok(())
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        for Problem { stream, file, problem } in &self.problems {
            writeln!(out, "{stream}: {problem}")?;
            if let Some(file) = file {
                writeln!(out, "  in {}", file.display())?;
            }
        }
        let mib = self.piece_bytes as f64 / f64::from(1 << 20);
        let problems = self.problems.len();
        let Report { pieces, sealed_pieces, .. } = self;
        writeln!(
            out,
            "{pieces} merged pieces read ({mib:.1} MiB), {sealed_pieces} as sealed, {problems} problems"
        )
    }
}
