//! What is held of each stream, drawn and listed.
//!
//! | JSON `kind` | fields |
//! |---|---|
//! | `stream` | `stream`, `present`, `from`, `to`, `held_s`, `ranges`, `final_until`, `uncertainty_s` |
//! | `held`, `hole`, `gone` | `stream`, `from`, `to`, `seconds` |

use std::io::{self, Write};
use std::time::Duration;

use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::readable::{length_of, time_of, zoned};
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde_json::json;

use super::question::Question;
use super::status::instant;
use crate::advertise::{Standing, Views};
use crate::index_command::output::{counted, json_line, labelled, paragraph};

/// Of the drawing, without its margin.
const CELLS: usize = 72;

/// Whether the stream that was asked for is there.
pub fn tell(views: &Views, question: &Question, out: &mut dyn Write) -> io::Result<bool> {
    let wanted = |id: &StreamId| question.stream.as_ref().is_none_or(|stream| stream == id);
    let mut told = 0;
    for (id, standing) in views.iter().filter(|(id, _)| wanted(id)) {
        if question.as_json {
            tell_json(id, standing, question.range, out)?;
        } else {
            if told > 0 {
                writeln!(out)?;
            }
            print(id, standing, question.range, out)?;
        }
        told += 1;
    }
    Ok(told > 0)
}

fn tell_json(
    id: &StreamId,
    Standing { view, .. }: &Standing,
    window: TimeRange,
    out: &mut dyn Write,
) -> io::Result<()> {
    let held = view.held.clip(window);
    let hull = held.hull();
    let stream = json!({
        "kind": "stream",
        "stream": id,
        "present": view.present,
        "from": hull.map(|hull| hull.start().to_string()),
        "to": hull.map(|hull| hull.end().to_string()),
        "held_s": held.total().as_secs_f64(),
        "ranges": held.ranges().len(),
        "final_until": view.present.then(|| view.final_until.to_string()),
        "uncertainty_s": view.uncertainty_in(window).as_secs_f64(),
    });
    json_line(&stream, out)?;
    for (kind, range) in rows(&held, &view.gone.clip(window)) {
        let row = json!({
            "kind": kind,
            "stream": id,
            "from": range.start().to_string(),
            "to": range.end().to_string(),
            "seconds": range.duration().as_secs_f64(),
        });
        json_line(&row, out)?;
    }
    Ok(())
}

/// In the order of time.
fn rows(held: &Coverage, gone: &Coverage) -> Vec<(&'static str, TimeRange)> {
    let holes = held.hull().map(|hull| held.gaps(hull).difference(gone)).unwrap_or_default();
    let of = |kind, coverage: &Coverage| coverage.iter().map(|range| (kind, range)).collect();
    let mut rows: Vec<(&'static str, TimeRange)> = of("held", held);
    rows.extend::<Vec<_>>(of("hole", &holes));
    rows.extend::<Vec<_>>(of("gone", gone));
    rows.sort_by_key(|(_, range)| *range);
    rows
}

fn print(
    id: &StreamId,
    Standing { view, .. }: &Standing,
    window: TimeRange,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (held, gone) = (view.held.clip(window), view.gone.clip(window));
    let Some(hull) = held.hull() else {
        let why = if view.present { "holds nothing" } else { "its folder cannot be listed" };
        return paragraph(0, &format!("{id}: {why}"), out);
    };
    let (total, ranges) = (length_of(held.total()), counted(held.ranges().len(), "range"));
    paragraph(0, &format!("{id}: {total} held in {ranges}"), out)?;
    let drawn = drawn_window(hull, window);
    let (from, to) = (instant(drawn.start()), instant(drawn.end()));
    let between = CELLS + 2 - from.len();
    writeln!(out, "  {from}{to:>between$}")?;
    writeln!(out, "  |{}|", drawing(&held, &gone, drawn))?;
    let cell = length_of(drawn.duration() / CELLS as u32);
    labelled("one sign", &format!("{cell}: # held, + in part, x overwritten, . not held"), out)?;
    let mut day = None;
    for (kind, range) in rows(&held, &gone) {
        let date = zoned(range.start()).date();
        if day != Some(date) {
            writeln!(out, "  {date} (UTC)")?;
            day = Some(date);
        }
        let (from, to) = (time_of(range.start()), time_of(range.end()));
        let kind = if kind == "hole" { "-- hole --" } else { kind };
        writeln!(out, "  {from}  {to}  {:>10}  {kind}", length_of(range.duration()))?;
    }
    Ok(())
}

/// All that is held, or as much of it as was asked for, to the edges that were named.
fn drawn_window(hull: TimeRange, window: TimeRange) -> TimeRange {
    let always = TimeRange::ALWAYS;
    let from = if window.start() == always.start() { hull.start() } else { window.start() };
    let to = if window.end() == always.end() { hull.end() } else { window.end() };
    TimeRange::new(from, to).unwrap_or(hull)
}

fn drawing(held: &Coverage, gone: &Coverage, window: TimeRange) -> String {
    let cell_ns = (window.duration().as_nanos() / CELLS as u128).max(1);
    let at = |number: usize| {
        let passed = cell_ns.saturating_mul(number as u128);
        let passed = Duration::from_nanos(u64::try_from(passed).unwrap_or(u64::MAX));
        window.start().saturating_add(passed)
    };
    let cell = |number: usize| {
        let end: Timestamp = if number + 1 == CELLS { window.end() } else { at(number + 1) };
        let Some(cell) = TimeRange::new(at(number), end) else { return '.' };
        let holds = held.clip(cell).total();
        if holds == cell.duration() {
            '#'
        } else if !holds.is_zero() {
            '+'
        } else if !gone.clip(cell).is_empty() {
            'x'
        } else {
            '.'
        }
    };
    (0..CELLS).map(cell).collect()
}

#[cfg(test)]
mod tests {
    use sdcard_indexer::index::StreamView;
    use sdcard_indexer::segment::Tier;

    use super::*;
    use crate::diagnosis::question::Wanted;

    fn seconds(from: i64, to: i64) -> TimeRange {
        let at = Timestamp::from_unix_seconds;
        TimeRange::new(at(from), at(to)).unwrap()
    }

    fn views() -> Views {
        let view = StreamView {
            present: true,
            held: [seconds(0, 360), seconds(390, 720)].into_iter().collect(),
            gone: [seconds(365, 380)].into_iter().collect(),
            horizon: Some(Timestamp::from_unix_seconds(0)),
            final_until: Timestamp::from_unix_seconds(720),
            tier: Tier::Extent,
            uncertain: Vec::new(),
        };
        [("main".parse().unwrap(), Standing { view, overwriting: None })].into_iter().collect()
    }

    fn told(question: &Question) -> String {
        let mut out = Vec::new();
        assert!(tell(&views(), question, &mut out).unwrap());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_held_is_drawn_to_scale_within_eighty_columns() {
        let text = told(&Question::of(Wanted::Coverage));
        let drawn = format!("|{}xx.{}|", "#".repeat(36), "#".repeat(33));
        assert!(text.contains(&drawn), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("00:06:05.000  00:06:20.000") && text.contains("gone"), "{text}");
    }

    #[test]
    fn a_window_is_drawn_to_its_own_edges() {
        let mut question = Question::of(Wanted::Coverage);
        question.range = seconds(700, 772);
        let text = told(&question);
        assert!(text.contains(&format!("|{}{}|", "#".repeat(20), ".".repeat(52))), "{text}");
    }

    #[test]
    fn every_row_is_an_object_and_holes_are_told_apart_from_what_was_overwritten() {
        let question = Question { as_json: true, ..Question::of(Wanted::Coverage) };
        let text = told(&question);
        let kinds: Vec<String> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|value| value["kind"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(kinds, ["stream", "held", "hole", "gone", "hole", "held"]);
    }
}
