//! `gapless search`: what a device holds of a range, and what the archive has of it.

use std::io::{self, Write};

use clap::Args;
use protocol::message::DeviceId;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::readable::{second_of, size_of};
use sdcard_indexer::time::Timestamp;
use serde_json::Value;

use super::client::{Client, ClientError};
use super::{BackwardWindow, show, text};
use crate::api::view::{Found, Segment};
use crate::order::Heard;

/// A range of one stream.
#[derive(Args, Debug)]
pub struct Footage {
    /// Its id, as `gapless devices` lists it
    pub device: DeviceId,
    /// Needed only where the device has several
    #[arg(long)]
    pub stream: Option<StreamId>,
    /// From this instant, for example 2026-11-23T10:00:00Z
    #[arg(long, value_name = "INSTANT")]
    pub from: Timestamp,
    /// Up to this instant
    #[arg(long, value_name = "INSTANT")]
    pub to: Timestamp,
}

impl Footage {
    pub(super) fn check(&self) -> Result<(), BackwardWindow> {
        let (from, to) = (self.from, self.to);
        if to < from { Err(BackwardWindow { from, to }) } else { Ok(()) }
    }

    fn query(&self) -> String {
        let Footage { device, stream, from, to } = self;
        let stream = stream.as_ref().map(|stream| format!("&stream={stream}"));
        format!("search?device={device}&from={from}&to={to}{}", stream.unwrap_or_default())
    }
}

#[derive(Args, Debug)]
pub struct Search {
    #[command(flatten)]
    footage: Footage,
    /// List each recording file too
    #[arg(long)]
    segments: bool,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

pub const EXAMPLES: &str = "\
Examples:
  gapless search cam-entrance --from 2026-11-23T10:00:00Z \\
      --to 2026-11-23T10:05:00Z
  gapless search bwc-7 --stream main --from 2026-11-23T08:00:00+01:00 \\
      --to 2026-11-23T16:00:00+01:00 --segments";

pub(super) async fn search(
    client: &Client,
    asked: &Search,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    asked.footage.check()?;
    let answer: Value = client.get(&asked.footage.query()).await?;
    if asked.json {
        return show::print_json(&answer, out);
    }
    let strange = |error: serde_json::Error| ClientError::Strange { what: error.to_string() };
    let found: Found = serde_json::from_value(answer).map_err(strange)?;
    print(&found, text::now(), out)?;
    if asked.segments {
        print_segments(&found.segments, found.cut_off, out)?;
    }
    Ok(true)
}

fn print(found: &Found, now: Timestamp, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", found.key)?;
    text::row(out, "range", &text::range(&found.range))?;
    text::row(out, "by", word_of(found.heard))?;
    text::row(out, "holds", &holds(found))?;
    let known = match found.tier {
        0 => "guessed from file names alone: the card is still being read",
        _ => "as the files themselves tell",
    };
    if found.heard != Heard::Never {
        let uncertainty = text::seconds(found.uncertainty_s);
        text::row(out, "known", &format!("{known}; any edge may be off by {uncertainty}"))?;
    }
    if let Some(horizon) = found.horizon {
        text::row(out, "oldest", &format!("{} (UTC) on the card", second_of(horizon)))?;
    }
    let goes = match found.goes_at {
        Some(at) => {
            let from_now = text::from_now(at, now);
            format!("the first of it is overwritten {from_now}, {} (UTC)", second_of(at))
        }
        None if found.held.is_empty() => "nothing of it is on the card".to_owned(),
        None => "when it will be overwritten cannot be told yet".to_owned(),
    };
    text::row(out, "goes", &goes)?;
    writeln!(out, "\non the card:")?;
    text::stretches(out, found.held.iter().map(|range| (range, String::new())))?;
    if found.held.is_empty() {
        writeln!(out, "  nothing")?;
    }
    writeln!(out, "\nin the archive, of what is expected there:")?;
    text::stretches(out, text::states(&found.archive))?;
    if found.archive.is_empty() {
        writeln!(out, "  nothing is expected: `gapless pull` gets it all the same")?;
    }
    Ok(())
}

const fn word_of(heard: Heard) -> &'static str {
    match heard {
        Heard::Live => "the device, just now",
        Heard::Silent => "its last report: the device is there and has not answered in time",
        Heard::Offline => "its last report: the device is away",
        Heard::Never => "nobody: the device has never told what it holds",
    }
}

fn holds(found: &Found) -> String {
    let ranges = match found.held.len() {
        0 => return "nothing".to_owned(),
        1 => "in one piece".to_owned(),
        several => format!("in {several} pieces"),
    };
    let files = found.held_bytes.map(|bytes| {
        let more = if found.cut_off { "more than " } else { "" };
        let files = found.segments.len();
        let files = if files == 1 { "1 file".to_owned() } else { format!("{more}{files} files") };
        format!("; {files}, whole: {}", size_of(bytes))
    });
    format!("{} {ranges}{}", text::seconds(found.held_s), files.unwrap_or_default())
}

fn print_segments(segments: &[Segment], cut_off: bool, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\nfiles on the card:")?;
    let rows = segments.iter().map(|segment| {
        let open = if segment.sealed { "" } else { ", still open" };
        let uncertainty = text::seconds(segment.uncertainty_s);
        (&segment.range, format!("{}{open}, ± {uncertainty}", size_of(segment.size_bytes)))
    });
    text::stretches(out, rows)?;
    if segments.is_empty() {
        writeln!(out, "  the device did not list any")?;
    }
    if cut_off {
        writeln!(out, "  and more: ask for a shorter range")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use protocol::message::ListedSegment;
    use sdcard_indexer::time::TimeRange;

    use super::*;
    use crate::cli::text::tests::assert_fits;
    use crate::fleet::StreamKey;
    use crate::order;
    use crate::timeline::{State, Stretch};

    fn found(heard: Heard) -> order::Found {
        let start: Timestamp = "2026-11-23T23:59:50Z".parse().unwrap();
        let range = TimeRange::starting_at(start, Duration::from_secs(400_000));
        let cause = "gone from the card while it was being pulled, and so were others".to_owned();
        order::Found {
            key: StreamKey {
                device: "d".repeat(40).parse().unwrap(),
                stream: "main".parse().unwrap(),
            },
            range,
            device: heard,
            held: range.into(),
            tier: 0,
            uncertainty_ns: 1_500_000_000,
            horizon: Some(start),
            goes_at: Some(range.end()),
            segments: vec![ListedSegment {
                range,
                uncertainty_ns: 1_500_000_000,
                size_bytes: u64::MAX,
                tier: 0,
                sealed: false,
            }],
            cut_off: true,
            archive: vec![Stretch { range, state: State::Overwritten { cause } }],
        }
    }

    #[test]
    fn what_was_found_fits_a_terminal_and_says_whose_word_it_is() {
        for (heard, word) in [
            (Heard::Live, "just now"),
            (Heard::Silent, "has not answered"),
            (Heard::Offline, "is away"),
            (Heard::Never, "never told"),
        ] {
            let found = Found::from(found(heard));
            let mut out = Vec::new();
            print(&found, found.range.from, &mut out).unwrap();
            print_segments(&found.segments, found.cut_off, &mut out).unwrap();
            let text = assert_fits(&out);
            for part in [word, "still open", "overwritten in 4d 15h"] {
                assert!(text.contains(part), "{part} is not in\n{text}");
            }
            let is_known = text.contains("guessed from file names");
            assert_eq!(is_known, heard != Heard::Never, "{text}");
        }
    }

    #[test]
    fn as_json_every_instant_is_rfc_3339_and_the_device_is_told_from_its_word() {
        let json = serde_json::to_value(Found::from(found(Heard::Offline))).unwrap();
        assert_eq!(json["device"], "d".repeat(40));
        assert_eq!(json["heard"], "offline");
        assert_eq!(json["from"], "2026-11-23T23:59:50Z");
        assert_eq!(json["seconds"], 400_000.0);
        assert_eq!(json["held"][0]["from"], "2026-11-23T23:59:50Z");
        assert_eq!(json["held_bytes"], Value::Null, "only a device that answers knows");
        assert_eq!(json["archive"][0]["state"], "overwritten");
        let again: Found = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(again).unwrap(), json);
    }
}
