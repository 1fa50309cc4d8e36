//! `index show`: the time ranges that a card holds, the holes between them, and the segments.
//!
//! | JSON `kind` | fields |
//! |---|---|
//! | `held`, `hole` | `stream`, `from`, `to`, `seconds` |
//! | `segment` | as above, and `path`, `bytes`, `usable_bytes`, `sealed`, `future`, `uncertainty_s`, `time_source` |

use std::io::Write;

use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::index::Index;
use sdcard_indexer::readable::{length_of, size_of, time_of, zoned};
use sdcard_indexer::segment::{Content, Segment};
use sdcard_indexer::time::TimeRange;
use serde_json::{Value, json};

use super::IndexCommandError;
use super::arguments::Window;
use super::output::{json_line, paragraph, source_word, tail_of};
use super::streams::{Card, CardStream};

/// Columns that are left for a path.
const PATH_COLUMNS: usize = 80 - 54;

enum Row {
    Held(TimeRange),
    Hole(TimeRange),
    Segment(Segment),
}

impl Row {
    fn range(&self) -> TimeRange {
        match self {
            Row::Held(range) | Row::Hole(range) => *range,
            Row::Segment(segment) => segment.range(),
        }
    }
}

/// Always true: what is not held is no problem of the card.
pub fn tell(
    card: &Card,
    index: &Index,
    window: &Window,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<bool, IndexCommandError> {
    for (stream, number) in card.streams.iter().zip(0..) {
        let rows = rows(index, stream, window);
        if as_json {
            for row in &rows {
                json_line(&row_json(stream, row), out)?;
            }
            continue;
        }
        if number > 0 {
            writeln!(out)?;
        }
        paragraph(0, &stream.title(card), out)?;
        print_rows(&rows, out)?;
    }
    Ok(true)
}

fn rows(index: &Index, stream: &CardStream, window: &Window) -> Vec<Row> {
    let id = &stream.source.stream;
    let held = index.stream(id).map_or(Coverage::new(), |view| view.held.clip(window.range));
    let holes = held.hull().map(|hull| held.gaps(hull)).unwrap_or_default();
    let mut rows: Vec<Row> = holes.iter().map(Row::Hole).collect();
    if window.with_segments {
        rows.extend(index.segments(id, window.range).map(Row::Segment));
    } else {
        rows.extend(held.iter().map(Row::Held));
    }
    rows.sort_by_key(|row| row.range().start());
    rows
}

fn print_rows(rows: &[Row], out: &mut dyn Write) -> Result<(), IndexCommandError> {
    let mut day = None;
    for row in rows {
        let range = row.range();
        let from = zoned(range.start());
        if day != Some(from.date()) {
            writeln!(out, "  {} (UTC)", from.date())?;
            day = Some(from.date());
        }
        let (from, to) = (time_of(range.start()), time_of(range.end()));
        let length = length_of(range.duration());
        match row {
            Row::Held(_) => writeln!(out, "  {from}  {to}  {length:>10}  held")?,
            Row::Hole(_) => writeln!(out, "  {from}  {to}  {length:>10}  -- hole --")?,
            Row::Segment(segment) => {
                let size = size_of(segment.stamp.size_bytes);
                let path = tail_of(&segment.path, PATH_COLUMNS);
                writeln!(out, "  {from}  {to}  {length:>10}  {size:>10}  {path}")?;
                for remark in remarks(segment) {
                    writeln!(out, "{:42}{remark}", "")?;
                }
            }
        }
    }
    if rows.is_empty() {
        writeln!(out, "  nothing")?;
    }
    Ok(())
}

fn remarks(segment: &Segment) -> impl Iterator<Item = &'static str> {
    [
        (segment.content == Content::Nothing, "nothing of it can be used"),
        (!segment.sealed, "may still be written to"),
        (segment.future, "lies in the future"),
    ]
    .into_iter()
    .filter_map(|(holds, remark)| holds.then_some(remark))
}

fn row_json(stream: &CardStream, row: &Row) -> Value {
    let range = row.range();
    let mut value = json!({
        "kind": match row {
            Row::Held(_) => "held",
            Row::Hole(_) => "hole",
            Row::Segment(_) => "segment",
        },
        "stream": stream.source.stream,
        "from": range.start().to_string(),
        "to": range.end().to_string(),
        "seconds": range.duration().as_secs_f64(),
    });
    if let (Row::Segment(segment), Some(fields)) = (row, value.as_object_mut()) {
        fields.insert("path".into(), json!(segment.path.to_string_lossy()));
        fields.insert("bytes".into(), json!(segment.stamp.size_bytes));
        fields.insert("usable_bytes".into(), json!(segment.usable_bytes));
        fields.insert("sealed".into(), json!(segment.sealed));
        fields.insert("future".into(), json!(segment.future));
        let placement = segment.placement;
        fields.insert("uncertainty_s".into(), json!(placement.uncertainty.as_secs_f64()));
        fields.insert("time_source".into(), json!(source_word(placement.source)));
    }
    value
}
