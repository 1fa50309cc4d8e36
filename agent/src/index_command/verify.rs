//! `index verify`: are recordings still what they were when their recorder closed them?
//!
//! | JSON `kind` | fields |
//! |---|---|
//! | `changed` | `stream`, `path`, `ranges` of bytes that differ, `written_since`: somebody wrote to the file |
//! | `unreadable` | `stream`, `path`, `problem` |
//! | `stream` | `stream`, `intact`, `intact_bytes`, `changed`, `unreadable`, `gone`, `without_digest`, `past_cache` |
//! | `end` | `problems` |

use std::io::{self, Write};
use std::ops::{ControlFlow, Range};
use std::path::Path;

use sdcard_indexer::digest::Digests;
use sdcard_indexer::digest::verify::{self, Report};
use sdcard_indexer::readable::size_of;
use sdcard_indexer::recordings::Folder;
use sdcard_indexer::scan::ScanLimits;
use serde_json::{Value, json};

use super::IndexCommandError;
use super::output::{counted, json_line, labelled, paragraph};
use super::progress::Progress;
use super::streams::{Card, CardStream};

const MIB: u64 = 1 << 20;

/// Whether all that could be compared is as it was.
pub fn tell(
    card: &Card,
    progress: &Progress,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<bool, IndexCommandError> {
    let digests = Digests::new(card.state_dir.clone());
    let (mut problems, mut compared) = (0, 0);
    let mut reports = Vec::new();
    for stream in &card.streams {
        let report = verified(stream, &digests, progress)?;
        problems += report.changed.len() + report.unreadable.len();
        compared += report.intact;
        reports.push((stream, report));
    }
    if compared == 0 && problems == 0 {
        let folder = card.state_dir.clone();
        return Err(IndexCommandError::NoDigests { folder });
    }
    for ((stream, report), number) in reports.iter().zip(0..) {
        if as_json {
            report_json(card, stream, report, out)?;
        } else {
            if number > 0 {
                writeln!(out)?;
            }
            print_report(card, stream, report, out)?;
        }
    }
    if as_json {
        json_line(&json!({ "kind": "end", "problems": problems }), out)?;
    } else {
        writeln!(out, "\n{}", counted(problems, "problem"))?;
    }
    Ok(problems == 0)
}

fn verified(
    stream: &CardStream,
    digests: &Digests,
    progress: &Progress,
) -> Result<Report, IndexCommandError> {
    let root = stream.source.root.clone();
    let folder = Folder { root, limits: ScanLimits::default(), require_mount: false };
    let report = verify::verify(&stream.source.stream, &folder, digests, &mut |at| {
        let mib = |bytes: u64| usize::try_from(bytes / MIB).unwrap_or(usize::MAX);
        progress.at("verifying", mib(at.bytes), Some(mib(at.total_bytes)), "MiB");
        ControlFlow::Continue(())
    });
    progress.end();
    Ok(report?)
}

fn print_report(
    card: &Card,
    stream: &CardStream,
    report: &Report,
    out: &mut dyn Write,
) -> io::Result<()> {
    let path = |name: &Path| stream.root_on(card).join(name).to_string_lossy().into_owned();
    paragraph(0, &stream.title(card), out)?;
    let (intact, bytes) = (report.intact, size_of(report.intact_bytes));
    labelled("intact", &format!("{intact}, {bytes}: as they were when they were closed"), out)?;
    labelled("changed", &report.changed.len().to_string(), out)?;
    for segment in &report.changed {
        paragraph(4, &path(&segment.name), out)?;
        paragraph(6, &changes_text(&segment.ranges, segment.written_since), out)?;
    }
    if !report.unreadable.is_empty() {
        labelled("unreadable", &report.unreadable.len().to_string(), out)?;
    }
    for (name, error) in &report.unreadable {
        paragraph(4, &path(name), out)?;
        paragraph(6, &error.to_string(), out)?;
    }
    if report.without_digest > 0 {
        let text = format!("{}: nothing is known of what they were", report.without_digest);
        labelled("no digest", &text, out)?;
    }
    if report.gone > 0 {
        labelled("gone", &format!("{}: overwritten or removed since", report.gone), out)?;
    }
    if !report.past_cache {
        labelled("", "read from memory: this store has no way past it", out)?;
    }
    Ok(())
}

/// The first ranges, as `1048576..2097152`, and how much it is in all.
fn changes_text(ranges: &[Range<u64>], written_since: bool) -> String {
    let bytes = ranges.iter().map(|range| range.end - range.start).sum();
    let first: Vec<String> = ranges.iter().take(3).map(|range| format!("{range:?}")).collect();
    let more = if ranges.len() > first.len() { ", …" } else { "" };
    let who = match written_since {
        true => "somebody has written to the file since",
        false => "nobody has written to it: the card does not keep what it was given",
    };
    format!("up to {} in bytes {}{more}: {who}", size_of(bytes), first.join(", "))
}

fn report_json(
    card: &Card,
    stream: &CardStream,
    report: &Report,
    out: &mut dyn Write,
) -> io::Result<()> {
    let id = &stream.source.stream;
    let path = |name: &Path| stream.root_on(card).join(name).to_string_lossy().into_owned();
    for segment in &report.changed {
        let ranges: Vec<Value> =
            segment.ranges.iter().map(|range| json!([range.start, range.end])).collect();
        json_line(
            &json!({
                "kind": "changed",
                "stream": id,
                "path": path(&segment.name),
                "ranges": ranges,
                "written_since": segment.written_since,
            }),
            out,
        )?;
    }
    for (name, error) in &report.unreadable {
        json_line(
            &json!({
                "kind": "unreadable",
                "stream": id,
                "path": path(name),
                "problem": error.to_string(),
            }),
            out,
        )?;
    }
    json_line(
        &json!({
            "kind": "stream",
            "stream": id,
            "intact": report.intact,
            "intact_bytes": report.intact_bytes,
            "changed": report.changed.len(),
            "unreadable": report.unreadable.len(),
            "gone": report.gone,
            "without_digest": report.without_digest,
            "past_cache": report.past_cache,
        }),
        out,
    )
}
