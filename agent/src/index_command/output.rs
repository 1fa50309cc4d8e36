//! Two forms of an answer: text within 80 columns, and lines of JSON that are objects with a `kind`.
//!
//! In JSON, instants are RFC 3339 in UTC, lengths seconds, sizes bytes; what does not apply is absent or
//! null. Paths that are not UTF-8 are told with replacement characters.

use std::io::{self, Write};
use std::path::Path;

use sdcard_indexer::layout::LayoutConfig;
use sdcard_indexer::readable::wrapped;
use sdcard_indexer::segment::TimeSource;
use serde_json::Value;

const COLUMNS: usize = 80;
/// Of a labelled line's label, with what stands before it.
const LABEL_COLUMNS: usize = 13;

pub fn json_line(value: &Value, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}

/// `  files      20, 1.2 GiB`; a long text goes on below itself.
pub fn labelled(label: &str, text: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut label = label;
    for line in wrapped(text, COLUMNS - LABEL_COLUMNS) {
        writeln!(out, "  {label:<10} {line}")?;
        label = "";
    }
    Ok(())
}

/// A text of any length, indented.
pub fn paragraph(indent: usize, text: &str, out: &mut dyn Write) -> io::Result<()> {
    for line in wrapped(text, COLUMNS - indent) {
        writeln!(out, "{:indent$}{line}", "")?;
    }
    Ok(())
}

/// The end of a path that is too long: names differ at their ends.
pub fn tail_of(path: &Path, columns: usize) -> String {
    let text = path.to_string_lossy();
    let Some(skipped) = text.chars().count().checked_sub(columns).filter(|skipped| *skipped > 0)
    else {
        return text.into_owned();
    };
    std::iter::once('…').chain(text.chars().skip(skipped + 1)).collect()
}

/// `1 file`, `2 files`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// How a layout is called: its preset or template, its camera and time zone.
pub fn layout_text(layout: &LayoutConfig) -> String {
    let preset = layout.layout.map(|preset| preset.name().to_owned());
    let mut text = preset.or_else(|| layout.template.clone()).unwrap_or_default();
    if let Some(camera) = &layout.camera {
        text.push_str(&format!(", camera {camera}"));
    }
    let utc = layout.layout.is_some_and(|preset| preset.is_always_utc());
    text.push_str(&match &layout.time_zone {
        _ if utc => ", names in UTC".to_owned(),
        Some(zone) if zone == "local" => ", names in this machine's time zone".to_owned(),
        Some(zone) => format!(", names in {zone}"),
        None => ", names taken to be in this machine's time zone".to_owned(),
    });
    text
}

/// Where a segment's time comes from, in a word.
pub const fn source_word(source: TimeSource) -> &'static str {
    match source {
        TimeSource::InBand => "in_band",
        TimeSource::Close => "close",
        TimeSource::Name => "name",
        TimeSource::Modified => "modified",
        TimeSource::Neighbours => "neighbours",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_keeps_its_end() {
        assert_eq!(tail_of(Path::new("a/b.mp4"), 7), "a/b.mp4");
        assert_eq!(tail_of(Path::new("aa/b.mp4"), 7), "…/b.mp4");
    }

    #[test]
    fn long_texts_go_on_below_themselves_within_eighty_columns() {
        let mut out = Vec::new();
        labelled("layout", &"word ".repeat(40), &mut out).unwrap();
        paragraph(4, &"word ".repeat(40), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("  layout     word word"), "{text}");
        assert!(text.lines().nth(1).unwrap().starts_with("             word"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
    }
}
