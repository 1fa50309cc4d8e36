//! `gapless runs`: what policies did in their scheduled windows, and what they left.
//!
//! Read from the ledger. Where a server runs, it says of the open ones what they would leave now.

use std::io::{self, Write};

use clap::Args;
use sdcard_indexer::readable::{second_of, shortened, size_of};
use serde_json::json;

use super::client::{Client, ClientError};
use super::{show, text};
use crate::api::view::{DeviceReport, Run, RunState};
use crate::ledger::Ledger;
use crate::policy::PolicyName;
use crate::run::RunId;

#[derive(Args, Debug)]
pub struct Runs {
    /// Only this one, with its report, as r7
    id: Option<RunId>,
    /// Only those of this policy
    #[arg(long, value_name = "NAME")]
    policy: Option<PolicyName>,
    /// No more than the newest so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

pub const EXAMPLES: &str = "\
Examples:
  gapless runs                      the newest runs of all policies
  gapless runs --policy depot --limit 7
  gapless runs r7                   its report: devices, what is left, why";

/// Runs that are looked through for those of one policy.
const MOST: usize = 10_000;

#[derive(Debug, thiserror::Error)]
#[error("there is no run {0}: `gapless runs` lists them")]
struct UnknownRun(RunId);

pub(super) async fn runs(
    ledger: &dyn Ledger,
    client: &Client,
    asked: &Runs,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    if let Some(id) = asked.id {
        let run = ledger.run(id).await?.ok_or(UnknownRun(id))?;
        let run = as_it_is(run.into(), client).await?;
        return match asked.json {
            true => show::print_json(&json!(run), out),
            false => Ok(print_one(&run, out).map(|()| true)?),
        };
    }
    let most = if asked.policy.is_some() { MOST } else { asked.limit };
    let kept = ledger.runs(most).await?.into_iter();
    let chosen = kept.filter(|run| asked.policy.as_ref().is_none_or(|name| *name == run.policy));
    let mut runs = Vec::new();
    for run in chosen.take(asked.limit) {
        runs.push(as_it_is(run.into(), client).await?);
    }
    match asked.json {
        true => show::print_json(&json!(runs), out),
        false => Ok(print_list(&runs, out).map(|()| true)?),
    }
}

/// A server that is not there, or that has closed the run meanwhile, knows no better than the ledger.
async fn as_it_is(run: Run, client: &Client) -> Result<Run, ClientError> {
    if run.state != RunState::Open {
        return Ok(run);
    }
    match client.get(&format!("runs/{}", run.id)).await {
        Err(ClientError::NotRunning { .. } | ClientError::Refused(_)) => Ok(run),
        answered => answered,
    }
}

fn print_list(runs: &[Run], out: &mut dyn Write) -> io::Result<()> {
    if runs.is_empty() {
        return writeln!(out, "no runs yet: `gapless policy next-runs` tells when they come");
    }
    writeln!(
        out,
        "{:<6} {:<9} {:<19} {:>9} {:>9} {:>9}  policy",
        "run", "state", "from (UTC)", "archived", "bytes", "left"
    )?;
    for run in runs {
        writeln!(
            out,
            "{:<6} {:<9} {:<19} {:>9} {:>9} {:>9}  {}",
            run.id.to_string(),
            run.state.word(),
            second_of(run.range.from),
            text::seconds(run.archived_s),
            size_of(run.bytes),
            text::seconds(run.left_s),
            shortened(run.policy.as_str(), 12)
        )?;
    }
    Ok(())
}

pub(super) fn print_one(run: &Run, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}: {}", run.id, run.state.word())?;
    text::row(out, "policy", run.policy.as_str())?;
    text::row(out, "window", &text::range(&run.range))?;
    let closed = run.closed.map(|closed| format!(" to {}", second_of(closed)));
    let closed = closed.unwrap_or_default();
    text::row(out, "ran", &format!("{}{closed} (UTC)", second_of(run.opened)))?;
    let (archived, bytes) = (text::seconds(run.archived_s), size_of(run.bytes));
    text::row(out, "archived", &format!("{archived}, {bytes}"))?;
    text::row(out, "left", &text::seconds(run.left_s))?;
    run.devices.iter().try_for_each(|device| print_device(device, out))
}

fn print_device(report: &DeviceReport, out: &mut dyn Write) -> io::Result<()> {
    let seen = match report.seen {
        Some(seen) => format!("there from {} (UTC)", second_of(seen)),
        None => "was not there".to_owned(),
    };
    writeln!(out, "\n{}", report.device)?;
    text::row(out, "device", &seen)?;
    let (archived, bytes) = (text::seconds(report.archived_s), size_of(report.bytes));
    let parts = report.parts;
    text::row(out, "archived", &format!("{archived}, {bytes} in {parts} parts"))?;
    for stream in &report.streams {
        writeln!(out, "  archived of {}:", stream.stream)?;
        text::stretches(out, stream.archived.iter().map(|range| (range, String::new())))?;
    }
    if !report.left.is_empty() {
        writeln!(out, "  left, and why:")?;
        let left = report.left.iter();
        text::stretches(
            out,
            left.map(|left| (&left.range, format!("{}: {}", left.stream, left.why))),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cli::text::tests::assert_fits;
    use crate::examples::{at, camera, key, seconds};
    use crate::run;

    fn run(closed: bool) -> Run {
        let why = "policy `depot` waits for ethernet or 10.20.0.0/16; the device is on wifi".into();
        let left = run::Left { stream: key().stream, range: seconds(90, 400_000), why };
        let report = run::DeviceReport {
            seen: closed.then(|| at(5)),
            streams: BTreeMap::from([(key().stream, seconds(0, 90).into())]),
            parts: 2,
            bytes: 9_000_000,
            left: vec![left],
        };
        let run = run::Run {
            id: RunId(7),
            policy: "x".repeat(64).parse().unwrap(),
            window: seconds(0, 21_600),
            opened: at(1),
            closed: closed.then(|| at(21_600)),
            cancelled: false,
            devices: BTreeMap::from([(camera(), report)]),
        };
        run.into()
    }

    #[test]
    fn a_report_fits_a_terminal_and_says_what_is_left_and_why() {
        for closed in [false, true] {
            let mut out = Vec::new();
            print_list(&[run(closed)], &mut out).unwrap();
            print_one(&run(closed), &mut out).unwrap();
            let text = assert_fits(&out);
            for part in ["1m 30s", "8.6 MiB in 2 parts", "ethernet or 10.20.0.0/16", "4d 15h"] {
                assert!(text.contains(part), "{part} is not in\n{text}");
            }
        }
    }

    #[test]
    fn as_json_a_run_is_a_range_with_reports_by_device() {
        let json = json!(run(true));
        assert_eq!((&json["id"], &json["state"]), (&json!("r7"), &json!("closed")));
        assert_eq!(
            (&json["from"], &json["seconds"]),
            (&json!("1970-01-01T00:00:00Z"), &json!(21_600.0))
        );
        let device = &json["devices"][0];
        assert_eq!((&device["device"], &device["archived_s"]), (&json!("camera"), &json!(90.0)));
        assert_eq!(device["streams"][0]["archived"][0]["to"], "1970-01-01T00:01:30Z");
        assert_eq!(device["left"][0]["stream"], "main");
        let again: Run = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(json!(again), json);
    }
}
