//! `gapless pull`: a range of a stream into the archive, because a person asks for it.

use std::io::{self, IsTerminal, Write};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use sdcard_indexer::readable::second_of;
use sdcard_indexer::time::Timestamp;

use super::client::{Client, ClientError};
use super::follow::Followed;
use super::search::Footage;
use super::{follow, jobs, show, text};
use crate::api::JobRequest;
use crate::api::view::Job;
use crate::job::JobState;
use crate::policy::period;

/// How often, and how long after each other, an order is given to a server that has gone while it was asked.
const ORDERED_AGAIN: u32 = 60;
const ORDERED_AFTER: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
pub struct Pull {
    #[command(flatten)]
    footage: Footage,
    /// Wait so long (2h, 7d), or until then
    #[arg(long, value_name = "WHEN", default_value = "24h")]
    deadline: Deadline,
    /// Wait for its end [default: where stderr is a terminal]
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Say its number and end
    #[arg(long, overrides_with = "wait")]
    no_wait: bool,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

pub const EXAMPLES: &str = "\
Examples:
  gapless pull cam-entrance --from 2026-11-23T10:00:00Z \\
      --to 2026-11-23T10:05:00Z
  gapless pull bwc-7 --from 2026-11-23T08:00:00Z --to 2026-11-23T16:00:00Z \\
      --deadline 7d --no-wait

Waits with a bar where it can show one; Ctrl-C leaves the job as it is.
Exit code when it waits: 0 all of the range is archived, 1 some of it is not";

/// Until when a job waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deadline {
    After(Duration),
    At(Timestamp),
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is neither a length such as 2h or 7d nor an instant such as 2026-11-23T10:00:00Z")]
pub struct NoDeadline(String);

impl FromStr for Deadline {
    type Err = NoDeadline;

    fn from_str(text: &str) -> Result<Self, NoDeadline> {
        let at = text.parse().map(Deadline::At);
        let either = at.or_else(|_| period::parse(text).map(Deadline::After));
        either.map_err(|_| NoDeadline(text.to_owned()))
    }
}

impl Deadline {
    fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Deadline::After(length) => now.saturating_add(length),
            Deadline::At(instant) => instant,
        }
    }
}

pub(super) async fn pull(
    client: &Client,
    asked: Pull,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    asked.footage.check()?;
    let waits = asked.wait || (!asked.no_wait && io::stderr().is_terminal());
    let Footage { device, stream, from, to } = asked.footage;
    let deadline = Some(asked.deadline.from(text::now()));
    let request = JobRequest { device, stream, from, to, deadline };
    let job = order(client, &request, waits).await?;
    if !asked.json {
        let (until, id) = (second_of(job.deadline), job.id);
        jobs::print_head(&job, out)?;
        text::row(
            out,
            "deadline",
            &format!("{until} (UTC); `gapless cancel {id}` ends it sooner"),
        )?;
        out.flush()?;
    }
    if !waits {
        return match asked.json {
            true => show::print_json(&jobs::json_of(&job), out),
            false => Ok(true),
        };
    }
    match follow::job(client, job.id, true).await? {
        Followed::Ended(job) => {
            match asked.json {
                true => drop(show::print_json(&jobs::json_of(&job), out)?),
                false => jobs::print_one(&job, text::now(), out)?,
            }
            Ok(job.state == JobState::Done && job.whole)
        }
        Followed::Left(id) => {
            eprintln!(
                "the job goes on: `gapless jobs {id}` shows it, `gapless cancel {id}` ends it"
            );
            Ok(false)
        }
    }
}

/// Takes the job to the server. Where that ends before it answers, whoever waits asks the next one: an order that
/// is given twice is one job.
async fn order(client: &Client, request: &JobRequest, waits: bool) -> Result<Job, ClientError> {
    let first = client.post("jobs", request).await;
    let Err(ClientError::Unreachable { .. }) = &first else { return first };
    let mut last = first;
    for _ in 0..if waits { ORDERED_AGAIN } else { 0 } {
        tokio::time::sleep(ORDERED_AFTER).await;
        last = client.post("jobs", request).await;
        if !last.as_ref().is_err_and(ClientError::is_absence) {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_a_length_or_an_instant() {
        let now = Timestamp::from_unix_seconds(1_000);
        let of = |text: &str| text.parse::<Deadline>().unwrap().from(now);
        assert_eq!(of("2h"), Timestamp::from_unix_seconds(8_200));
        assert_eq!(of("2026-11-23T10:00:00Z").to_string(), "2026-11-23T10:00:00Z");
        for text in ["", "soon", "-2h", "10:00"] {
            assert!(text.parse::<Deadline>().unwrap_err().to_string().contains("2h"));
        }
    }
}
