//! `index scan`: what a card holds, summed up, and what is wrong with it.
//!
//! | JSON `kind` | fields |
//! |---|---|
//! | `stream` | `stream`, `root`, `layout` (as a configuration writes it), `confidence` and `reason` of its detection, `files`, `bytes`, `unusable`, `from`, `to`, `held_s`, `ranges`, `hole_s`, `uncertainty_s`, `time_sources` |
//! | `problem` | `stream`, `path`, `problem` |
//! | `other` | `path` of a file that no layout knows |
//! | `end` | `streams`, `problems`, `others` |

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::index::{Index, Problem, ProblemKind};
use sdcard_indexer::readable::{explain, length_of, second_of, size_of};
use sdcard_indexer::segment::Content;
use sdcard_indexer::time::TimeRange;
use serde_json::{Value, json};

use super::output::{counted, json_line, labelled, layout_text, paragraph, source_word};
use super::streams::{Card, CardStream};
use super::{Findings, IndexCommandError};

/// Files of each stream, summed up.
#[derive(Default)]
struct Sums {
    files: usize,
    bytes: u64,
    unusable: usize,
    held: Coverage,
    uncertainty: Duration,
    sources: BTreeSet<&'static str>,
}

impl Sums {
    fn of(index: &Index, stream: &CardStream) -> Sums {
        let id = &stream.source.stream;
        let mut sums = Sums::default();
        if let Some(view) = index.stream(id) {
            (sums.held, sums.uncertainty) = (view.held.clone(), view.uncertainty());
        }
        for segment in index.segments(id, TimeRange::ALWAYS) {
            sums.files += 1;
            sums.bytes = sums.bytes.saturating_add(segment.stamp.size_bytes);
            sums.unusable += usize::from(segment.content == Content::Nothing);
            sums.sources.insert(source_word(segment.placement.source));
        }
        sums
    }

    fn holes(&self) -> Coverage {
        self.held.hull().map(|hull| self.held.gaps(hull)).unwrap_or_default()
    }
}

/// Whether there is no problem.
pub fn tell(
    card: &Card,
    index: &Index,
    findings: &Findings,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<bool, IndexCommandError> {
    let is_other = |problem: &&Problem| matches!(problem.kind, ProblemKind::Foreign);
    let path_of = |problem: &Problem| path_of(card, problem);
    let others: BTreeSet<PathBuf> =
        findings.problems.iter().filter(is_other).map(path_of).collect();
    let problems: Vec<&Problem> =
        findings.problems.iter().filter(|problem| !is_other(problem)).collect();
    let count = problems.len() + usize::try_from(findings.untold).unwrap_or(usize::MAX);
    if as_json {
        for stream in &card.streams {
            json_line(&stream_json(card, stream, &Sums::of(index, stream)), out)?;
        }
        for problem in &problems {
            json_line(
                &json!({
                    "kind": "problem",
                    "stream": problem.stream,
                    "path": path_of(problem).to_string_lossy(),
                    "problem": explain(&problem.kind),
                }),
                out,
            )?;
        }
        for path in &others {
            json_line(&json!({ "kind": "other", "path": path.to_string_lossy() }), out)?;
        }
        let (streams, others) = (card.streams.len(), others.len());
        let end = json!({ "kind": "end", "streams": streams, "problems": count, "others": others });
        json_line(&end, out)?;
        return Ok(count == 0);
    }
    let (directory, streams) = (card.directory.display(), counted(card.streams.len(), "stream"));
    paragraph(0, &format!("{directory}: {streams}"), out)?;
    for stream in &card.streams {
        writeln!(out)?;
        print_stream(card, stream, &Sums::of(index, stream), out)?;
    }
    writeln!(out)?;
    for problem in &problems {
        paragraph(0, &path_of(problem).to_string_lossy(), out)?;
        paragraph(4, &explain(&problem.kind), out)?;
    }
    if !others.is_empty() {
        writeln!(out, "{} named otherwise (see --json)", counted(others.len(), "file"))?;
    }
    writeln!(out, "{}", counted(count, "problem"))?;
    Ok(count == 0)
}

fn path_of(card: &Card, problem: &Problem) -> PathBuf {
    let mut streams = card.streams.iter();
    let stream = streams.find(|stream| stream.source.stream == problem.stream);
    let root = stream.map_or(Path::new(""), |stream| stream.root_on(card));
    root.join(&problem.path)
}

fn print_stream(
    card: &Card,
    stream: &CardStream,
    sums: &Sums,
    out: &mut dyn Write,
) -> Result<(), IndexCommandError> {
    paragraph(0, &stream.title(card), out)?;
    labelled("layout", &layout_text(&stream.layout), out)?;
    if let Some(guess) = &stream.guess {
        let (confidence, reason) = (guess.confidence(), guess.reason());
        labelled("", &format!("{confidence} % sure: {reason}"), out)?;
    }
    let mut files = format!("{}, {}", sums.files, size_of(sums.bytes));
    if sums.unusable > 0 {
        files.push_str(&format!("; {} of them cannot be used", sums.unusable));
    }
    labelled("files", &files, out)?;
    let Some(hull) = sums.held.hull() else {
        return Ok(labelled("holds", "nothing", out)?);
    };
    let (from, to) = (second_of(hull.start()), second_of(hull.end()));
    let held = length_of(sums.held.total());
    labelled("holds", &format!("{held}, from {from} to {to} (UTC)"), out)?;
    let holes = sums.holes();
    let holes = match holes.ranges().len() {
        0 => "none".to_owned(),
        count => format!("{}, {} in all", counted(count, "hole"), length_of(holes.total())),
    };
    labelled("holes", &holes, out)?;
    let sources = sums.sources.iter().copied().collect::<Vec<_>>().join(", ");
    labelled("time", &format!("± {}, by {sources}", length_of(sums.uncertainty)), out)?;
    Ok(())
}

fn stream_json(card: &Card, stream: &CardStream, sums: &Sums) -> Value {
    let hull = sums.held.hull();
    json!({
        "kind": "stream",
        "stream": stream.source.stream,
        "root": stream.root_on(card).to_string_lossy(),
        "layout": stream.layout,
        "confidence": stream.guess.as_ref().map(|guess| guess.confidence()),
        "reason": stream.guess.as_ref().map(|guess| guess.reason()),
        "files": sums.files,
        "bytes": sums.bytes,
        "unusable": sums.unusable,
        "from": hull.map(|hull| hull.start().to_string()),
        "to": hull.map(|hull| hull.end().to_string()),
        "held_s": sums.held.total().as_secs_f64(),
        "ranges": sums.held.ranges().len(),
        "hole_s": sums.holes().total().as_secs_f64(),
        "uncertainty_s": sums.uncertainty.as_secs_f64(),
        "time_sources": sums.sources,
    })
}
