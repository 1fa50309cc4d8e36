//! `gapless verify-export`: is an exported MP4 still what its manifest says?
//!
//! Needs no server, ledger or configuration. As JSON: `intact`, `file`, `manifest`, `manifest_blake3`, `exported`,
//! `asked`, `holds`, `runs`, `frames`, `sources_compared`, `whole`, and `findings`, each with `of`, `problem`, and
//! where they apply `run`, `file`, `track`, `state`, `range`, `expected`, `found`.

use std::io::Write;
use std::path::PathBuf;

use sdcard_indexer::readable::second_of;
use serde_json::json;

use super::export::manifest_beside;
use super::progress::Bar;
use super::{Output, show, text};
use crate::proof::{self, Blake3, CannotCheck, Finding, Manifest, Report, Subject};

pub(super) const EXAMPLES: &str = "\
Reads the MP4 and its manifest, on any machine: whole-file digest, digest and
frames of every range, times, seams, and whether the states of all that was
asked for agree with what is there. Names what differs.

  gapless verify-export clip.mp4
  gapless verify-export clip.mp4 --noted 3f5a…    as printed at the export
  gapless verify-export clip.mp4 --archive /srv/recordings

Who alters the MP4 and the manifest together leaves nothing that contradicts
itself: only the manifest's digest as noted at the export (--noted), and the
server's audit log, can tell.

Exit code: 0 as exported, 1 something differs, 2 it cannot be checked";

#[derive(clap::Args, Debug)]
pub struct VerifyExport {
    /// The MP4 that was exported
    file: PathBuf,
    /// Its manifest [default: the MP4's name and `.json`]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The manifest's BLAKE3, as noted at the export
    #[arg(long, value_name = "DIGEST")]
    noted: Option<Blake3>,
    /// Also compare the files it came from, below this root
    #[arg(long, value_name = "ROOT")]
    archive: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

pub fn verify_export(asked: &VerifyExport, out: &mut dyn Write) -> anyhow::Result<bool> {
    let beside = manifest_beside(&asked.file);
    let manifest = asked.manifest.as_ref().unwrap_or(&beside);
    let bar = Bar::of_bytes("comparing");
    let checked = proof::check(&asked.file, manifest, asked.archive.as_deref(), &bar);
    bar.finish();
    let mut report = checked?;
    if let Some(noted) = asked.noted.filter(|noted| *noted != report.manifest_blake3) {
        report.findings.insert(
            0,
            Finding {
                subject: Subject::Manifest,
                range: None,
                problem: "it is not the manifest whose BLAKE3 was noted at the export".to_owned(),
                expected: Some(noted.to_string()),
                found: Some(report.manifest_blake3.to_string()),
            },
        );
    }
    let intact = report.findings.is_empty();
    if asked.output.json {
        let Manifest { exported, asked: of, holds, runs, frames, .. } = &report.manifest;
        let document = json!({
            "intact": intact,
            "file": asked.file,
            "manifest": manifest,
            "manifest_blake3": report.manifest_blake3,
            "noted": asked.noted.is_some(),
            "exported": exported,
            "asked": of,
            "holds": holds,
            "runs": runs.len(),
            "frames": frames,
            "sources_compared": report.sources_compared,
            "whole": report.manifest.is_whole(),
            "findings": report.findings,
        });
        show::print_json(&document, out)?;
    } else {
        print(asked, &report, out)?;
    }
    Ok(intact)
}

fn print(asked: &VerifyExport, report: &Report, out: &mut dyn Write) -> std::io::Result<()> {
    let (file, manifest) = (asked.file.display(), &report.manifest);
    match report.findings.len() {
        0 => writeln!(out, "{file}: as it was exported")?,
        1 => writeln!(out, "{file}: NOT as it was exported, 1 thing differs")?,
        more => writeln!(out, "{file}: NOT as it was exported, {more} things differ")?,
    }
    report.findings.iter().try_for_each(|finding| print_finding(finding, out))?;
    let exporter = &manifest.exported;
    text::row(
        out,
        "of",
        &format!("{}, {}", manifest.asked.key, text::range(&manifest.asked.range)),
    )?;
    let by = format!("{} (UTC) by {}", second_of(exporter.at), exporter.by);
    text::row(out, "exported", &by)?;
    let (runs, frames) = (manifest.runs.len(), manifest.frames);
    let joins = manifest.seams.iter().filter(|found| found.seam.joins_recorders()).count();
    text::row(
        out,
        "holds",
        &format!("{frames} frames in {runs} runs, {joins} seams of two recorders"),
    )?;
    if asked.archive.is_some() {
        let compared = format!("{} files of the archive compared", report.sources_compared);
        text::row(out, "sources", &compared)?;
    }
    text::row(out, "manifest", &report.manifest_blake3.to_string())?;
    if asked.noted.is_none() {
        let advice = "compare this BLAKE3 with the one noted at the export: see --noted";
        text::row(out, "", advice)?;
    }
    let states = manifest.states.iter();
    text::stretches(out, states.map(|entry| (&entry.range, entry.known.to_string())))
}

fn print_finding(finding: &Finding, out: &mut dyn Write) -> std::io::Result<()> {
    let (word, of) = match &finding.subject {
        Subject::File => ("MP4".to_owned(), None),
        Subject::Manifest => ("manifest".to_owned(), None),
        Subject::Track { track } => (format!("track {track}"), None),
        Subject::Run { run, file } => (format!("run {run}"), Some(file)),
        Subject::State { state } => ((*state).to_owned(), None),
        Subject::Source { file } => ("source".to_owned(), Some(file)),
    };
    // Words that fill their column stand alone.
    let narrow = word.chars().count() <= 9;
    if !narrow {
        writeln!(out, "  {word}")?;
    }
    text::row(out, if narrow { &word } else { "" }, &finding.problem)?;
    let range = finding.range.as_ref().map(text::range);
    let rows = [("when", range.as_ref()), ("from", of)];
    let rows = rows
        .into_iter()
        .chain([("expected", finding.expected.as_ref()), ("found", finding.found.as_ref())]);
    for (word, text) in rows.filter_map(|(word, text)| Some((word, text?))) {
        text::row(out, "", &format!("{word} {text}"))?;
    }
    Ok(())
}

/// Neither file is what it is said to be: usage, rather than a finding.
pub(super) fn is_misuse(error: &anyhow::Error) -> bool {
    error.is::<CannotCheck>()
}
