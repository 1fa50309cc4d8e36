//! Text and JSON of devices, timelines and gaps. Text fits 80 columns and needs no colour.
//!
//! | JSON | a list of |
//! |---|---|
//! | `devices` | `device`, `online`, `agent_version`, `last_heard`, `completeness` |
//! | `timeline`, `gaps` | one for each stream: `device`, `stream`, `as_of`, `completeness`, `stretches` |
//! | `stretches` | `from`, `to`, `seconds`, `state`; by state also `by` and `proof`, `cause`, or `reason` |
//!
//! `completeness` is `complete`, `percent`, and in seconds `expected_s`, `archived_s`, `lost_s`, `open_s`.
//! Instants are RFC 3339 in UTC.

use std::collections::BTreeSet;
use std::io::Write;

use protocol::message::DeviceId;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::readable::{length_of, second_of, shortened};
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde_json::{Value, json};

use super::{Window, text};
use crate::api::view;
use crate::fleet::StreamKey;
use crate::ledger::{Ledger, TimelineRecord};
use crate::timeline::{Completeness, Stretch};

#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error("device `{device}` is not known; known are: {known}")]
    Device { device: DeviceId, known: String },
    #[error("stream `{stream}` is not known; known are: {known}")]
    Stream { stream: StreamId, known: String },
}

pub async fn devices(
    ledger: &dyn Ledger,
    server_runs: bool,
    as_json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    let devices = ledger.devices().await?;
    let mut rows = Vec::new();
    for record in &devices {
        let mut sums = Completeness::default();
        for (key, _) in ledger.streams().await? {
            if key.device == record.device
                && let Some(timeline) = ledger.timeline(&key).await?
            {
                sums = sums.and(Completeness::of(&timeline.stretches));
            }
        }
        rows.push((record, sums));
    }
    if as_json {
        let list: Vec<Value> = rows
            .iter()
            .map(|(record, sums)| {
                json!({
                    "device": record.device,
                    "online": server_runs.then_some(record.online),
                    "agent_version": record.agent_version,
                    "last_heard": record.last_heard.map(|heard| heard.to_string()),
                    "completeness": view::Completeness::from(sums),
                })
            })
            .collect();
        return print_json(&json!(list), out);
    }
    if rows.is_empty() {
        writeln!(out, "no device has been heard yet")?;
        return Ok(true);
    }
    if !server_runs {
        writeln!(out, "the server is not running: this is what it last knew")?;
    }
    writeln!(
        out,
        "{:<24} {:<8} {:>6}  {:<21} agent",
        "device", "link", "whole", "last heard (UTC)"
    )?;
    for (record, sums) in rows {
        writeln!(
            out,
            "{:<24} {:<8} {:>4} %  {:<21} {}",
            shortened(record.device.as_str(), 24),
            match (server_runs, record.online) {
                (true, true) => "online",
                (true, false) => "offline",
                (false, _) => "unknown",
            },
            sums.percent(),
            record.last_heard.map_or("never".to_owned(), second_of),
            record.agent_version
        )?;
    }
    Ok(true)
}

pub async fn timeline(
    ledger: &dyn Ledger,
    device: &DeviceId,
    window: &Window,
    as_json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    show(ledger, Some(device), window, as_json, out, |_| true).await
}

pub async fn gaps(
    ledger: &dyn Ledger,
    device: Option<&DeviceId>,
    window: &Window,
    as_json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    let is_gap = |stretch: &Stretch| stretch.state.word() != "archived";
    show(ledger, device, window, as_json, out, is_gap).await
}

async fn show(
    ledger: &dyn Ledger,
    device: Option<&DeviceId>,
    window: &Window,
    as_json: bool,
    out: &mut dyn Write,
    shown: impl Fn(&Stretch) -> bool,
) -> anyhow::Result<bool> {
    let range = window.range()?;
    let mut documents = Vec::new();
    for key in streams(ledger, device, window.stream.as_ref()).await? {
        let Some(record) = ledger.timeline(&key).await? else { continue };
        let clipped = clip(&record, range);
        let sums = Completeness::of(&clipped);
        let stretches: Vec<Stretch> = clipped.into_iter().filter(&shown).collect();
        if as_json {
            documents.push(json!({
                "device": key.device,
                "stream": key.stream,
                "as_of": record.as_of.to_string(),
                "completeness": view::Completeness::from(&sums),
                "stretches": stretches.into_iter().map(view::Stretch::from).collect::<Vec<_>>(),
            }));
        } else {
            print_stream(&key, record.as_of, &sums, &stretches, out)?;
        }
    }
    if as_json { print_json(&json!(documents), out) } else { Ok(true) }
}

/// The streams asked for; a name that nobody has is an error, not an empty answer.
pub(super) async fn streams(
    ledger: &dyn Ledger,
    device: Option<&DeviceId>,
    stream: Option<&StreamId>,
) -> anyhow::Result<Vec<StreamKey>> {
    let mut keys: Vec<StreamKey> =
        ledger.streams().await?.into_iter().map(|(key, _)| key).collect();
    if let Some(device) = device {
        let known = listed(keys.iter().map(|key| key.device.as_str()));
        keys.retain(|key| key.device == *device);
        if keys.is_empty() {
            return Err(Unknown::Device { device: device.clone(), known }.into());
        }
    }
    if let Some(stream) = stream {
        let known = listed(keys.iter().map(|key| key.stream.as_str()));
        keys.retain(|key| key.stream == *stream);
        if keys.is_empty() {
            return Err(Unknown::Stream { stream: stream.clone(), known }.into());
        }
    }
    Ok(keys)
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: BTreeSet<&str> = names.collect();
    if names.is_empty() { "none".to_owned() } else { Vec::from_iter(names).join(", ") }
}

fn clip(record: &TimelineRecord, window: TimeRange) -> Vec<Stretch> {
    let clipped = record.stretches.iter().filter_map(|stretch| {
        let range = stretch.range.intersection(&window)?;
        Some(Stretch { range, state: stretch.state.clone() })
    });
    clipped.collect()
}

fn print_stream(
    key: &StreamKey,
    as_of: Timestamp,
    sums: &Completeness,
    stretches: &[Stretch],
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let verdict = if sums.is_complete() { "complete" } else { "not complete" };
    writeln!(out, "{key}: {verdict}, {} % settled, as of {}", sums.percent(), second_of(as_of))?;
    writeln!(
        out,
        "expected {}, archived {}, lost {}, open {}",
        length_of(sums.expected),
        length_of(sums.archived),
        length_of(sums.lost),
        length_of(sums.open)
    )?;
    let views: Vec<view::Stretch> = stretches.iter().cloned().map(view::Stretch::from).collect();
    text::stretches(out, text::states(&views))?;
    if stretches.is_empty() {
        writeln!(out, "  nothing")?;
    }
    Ok(writeln!(out)?)
}

pub(super) fn print_json(value: &Value, out: &mut dyn Write) -> anyhow::Result<bool> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::timeline::State;

    #[test]
    fn text_fits_eighty_columns() {
        let start: Timestamp = "2026-11-23T23:59:59.9996Z".parse().unwrap();
        let range = TimeRange::starting_at(start, Duration::from_secs(400_000));
        let cause = "older than what the card still holds (2026-11-23T10:00:00.123456789Z)".into();
        let stretches = [Stretch { range, state: State::Overwritten { cause } }];
        let id = "a".repeat(20);
        let key = StreamKey { device: id.parse().unwrap(), stream: "main".parse().unwrap() };
        let mut out = Vec::new();
        print_stream(&key, start, &Completeness::of(&stretches), &stretches, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
        }
        assert!(text.contains("overwritten: older"), "{text}");
    }
}
