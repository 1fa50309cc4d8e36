//! The recordings of a stream, one by one, as the index knows them.
//!
//! | JSON `kind` | fields |
//! |---|---|
//! | `segment` | `stream`, `path`, `from`, `to`, `seconds`, `bytes`, `usable_bytes`, `sealed`, `future`, `uncertainty_s`, `time_source` |
//! | `end` | `segments`, `next`: where to ask on, if there were more |

use std::io::{self, Write};

use sdcard_indexer::identity::StreamId;
use sdcard_indexer::readable::{length_of, size_of, time_of, zoned};
use sdcard_indexer::segment::{Content, Segment};
use sdcard_indexer::time::Timestamp;
use serde_json::json;

use crate::index_command::output::{counted, json_line, source_word, tail_of};

/// Columns that are left for a path.
const PATH_COLUMNS: usize = 80 - 54;

/// Tells segments as they come, and in the end how many these were.
#[derive(Debug, Default)]
pub struct Listing {
    as_json: bool,
    pub told: usize,
    day: Option<String>,
}

impl Listing {
    pub fn new(as_json: bool) -> Self {
        Listing { as_json, ..Listing::default() }
    }

    pub fn title(&mut self, stream: &StreamId, out: &mut dyn Write) -> io::Result<()> {
        self.day = None;
        if self.as_json { Ok(()) } else { writeln!(out, "{stream}") }
    }

    pub fn tell(
        &mut self,
        stream: &StreamId,
        segment: &Segment,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        self.told += 1;
        if self.as_json { tell_json(stream, segment, out) } else { self.print(segment, out) }
    }

    fn print(&mut self, segment: &Segment, out: &mut dyn Write) -> io::Result<()> {
        let range = segment.range();
        let day = zoned(range.start()).date().to_string();
        if self.day.as_ref() != Some(&day) {
            writeln!(out, "  {day} (UTC)")?;
            self.day = Some(day);
        }
        let (from, to) = (time_of(range.start()), time_of(range.end()));
        let (length, size) = (length_of(range.duration()), size_of(segment.stamp.size_bytes));
        let path = tail_of(&segment.path, PATH_COLUMNS);
        writeln!(out, "  {from}  {to}  {length:>10}  {size:>10}  {path}")?;
        let remarks = [
            (segment.content == Content::Unread, "not read yet: its end is a guess"),
            (segment.content == Content::Nothing, "nothing of it can be used"),
            (!segment.sealed, "may still be written to"),
            (segment.future, "lies in the future"),
            (!segment.placement.is_known(), "when it was recorded is not known"),
            (segment.unreadable, "could not be read"),
        ];
        for (_, remark) in remarks.iter().filter(|(holds, _)| *holds) {
            writeln!(out, "{:42}{remark}", "")?;
        }
        Ok(())
    }

    /// `next`: where the first segment begins that was not told for want of room.
    pub fn end(&self, next: Option<Timestamp>, out: &mut dyn Write) -> io::Result<()> {
        let next = next.map(|next| next.to_string());
        if self.as_json {
            let end = json!({ "kind": "end", "segments": self.told, "next": next });
            return json_line(&end, out);
        }
        writeln!(out, "{}", counted(self.told, "segment"))?;
        match next {
            Some(next) => writeln!(out, "there are more: --from {next}, or a larger --limit"),
            None => Ok(()),
        }
    }
}

fn tell_json(stream: &StreamId, segment: &Segment, out: &mut dyn Write) -> io::Result<()> {
    let range = segment.range();
    let value = json!({
        "kind": "segment",
        "stream": stream,
        "path": segment.path.to_string_lossy(),
        "from": range.start().to_string(),
        "to": range.end().to_string(),
        "seconds": range.duration().as_secs_f64(),
        "bytes": segment.stamp.size_bytes,
        "usable_bytes": segment.usable_bytes,
        "read": segment.content != Content::Unread,
        "sealed": segment.sealed,
        "future": segment.future,
        "uncertainty_s": segment.placement.uncertainty.as_secs_f64(),
        "time_source": source_word(segment.placement.source),
    });
    json_line(&value, out)
}
