//! `gapless jobs` and `gapless cancel`: what people have asked for, and how it gets on.

use std::io::{self, Write};
use std::str::FromStr;

use clap::Args;
use sdcard_indexer::readable::{second_of, shortened, size_of};
use sdcard_indexer::time::Timestamp;
use serde_json::{Value, json};

use super::client::Client;
use super::{follow, runs, show, text};
use crate::api::view::{Job, Run};
use crate::job::{InvalidJobId, JobId, JobState};
use crate::run::RunId;

#[derive(Args, Debug)]
pub struct Jobs {
    /// Only this one, as j12
    id: Option<JobId>,
    /// Show how it gets on until no job is open
    #[arg(long)]
    follow: bool,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

pub const EXAMPLES: &str = "\
Examples:
  gapless jobs                      what was asked for, the newest first
  gapless jobs j12                  one of them, and what it lacks
  gapless jobs --follow             progress, rate and forecast, live";

pub(super) async fn jobs(
    client: &Client,
    asked: &Jobs,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    if asked.follow {
        match asked.id {
            Some(id) => drop(follow::job(client, id, false).await?),
            None => follow::all(client).await?,
        }
    }
    match asked.id {
        Some(id) => {
            let job: Job = client.get(&format!("jobs/{id}")).await?;
            match asked.json {
                true => show::print_json(&json!(job), out),
                false => Ok(print_one(&job, text::now(), out).map(|()| true)?),
            }
        }
        None => {
            let jobs: Vec<Job> = client.get("jobs").await?;
            match asked.json {
                true => show::print_json(&json!(jobs), out),
                false => Ok(print_list(&jobs, out).map(|()| true)?),
            }
        }
    }
}

/// What can be cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cancellable {
    Job(JobId),
    Run(RunId),
}

#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is neither a job nor a run: `gapless jobs` and `gapless runs` list them, as j12 and r7"
)]
pub struct NotCancellable(String);

impl FromStr for Cancellable {
    type Err = NotCancellable;

    fn from_str(text: &str) -> Result<Self, NotCancellable> {
        let job = text.parse().map(Cancellable::Job);
        let either = job.or_else(|_: InvalidJobId| text.parse().map(Cancellable::Run));
        either.map_err(|_| NotCancellable(text.to_owned()))
    }
}

#[derive(Args, Debug)]
pub struct Cancel {
    /// A job, as j12, or a run, as r7
    id: Cancellable,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

pub(super) async fn cancel(
    client: &Client,
    asked: &Cancel,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    match asked.id {
        Cancellable::Job(id) => {
            let job: Job = client.delete(&format!("jobs/{id}")).await?;
            match asked.json {
                true => show::print_json(&json!(job), out),
                false => Ok(print_one(&job, text::now(), out).map(|()| true)?),
            }
        }
        Cancellable::Run(id) => {
            let run: Run = client.delete(&format!("runs/{id}")).await?;
            match asked.json {
                true => show::print_json(&json!(run), out),
                false => Ok(runs::print_one(&run, out).map(|()| true)?),
            }
        }
    }
}

fn print_list(jobs: &[Job], out: &mut dyn Write) -> io::Result<()> {
    if jobs.is_empty() {
        return writeln!(out, "no jobs: `gapless pull` makes one");
    }
    writeln!(
        out,
        "{:<7} {:<9} {:<19} {:>9} {:>8}  stream",
        "job", "state", "from (UTC)", "length", "here"
    )?;
    for job in jobs {
        writeln!(
            out,
            "{:<7} {:<9} {:<19} {:>9} {:>6} %  {}",
            job.id.to_string(),
            job.state.word(),
            second_of(job.range.from),
            text::seconds(job.range.seconds),
            percent(job),
            shortened(&job.key.to_string(), 24)
        )?;
    }
    Ok(())
}

/// Of its range, what is archived; 100 only where all of it is.
fn percent(job: &Job) -> u8 {
    if job.whole {
        return 100;
    }
    let share = (job.archived_s / job.range.seconds.max(f64::MIN_POSITIVE) * 100.0).floor();
    share.clamp(0.0, 99.0) as u8
}

/// What it is about.
pub(super) fn print_head(job: &Job, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}: {}", job.id, job.state.word())?;
    text::row(out, "stream", &job.key.to_string())?;
    text::row(out, "range", &text::range(&job.range))
}

pub(super) fn print_one(job: &Job, now: Timestamp, out: &mut dyn Write) -> io::Result<()> {
    print_head(job, out)?;
    text::row(out, "asked", &format!("{} (UTC)", second_of(job.created)))?;
    match (job.state, job.ended) {
        (JobState::Open, _) => {
            text::row(out, "deadline", &format!("{} (UTC)", second_of(job.deadline)))?;
            text::row(out, "device", if job.online { "online" } else { "away" })?;
        }
        (_, ended) => {
            let ended = ended.map_or_else(|| "not told".to_owned(), second_of);
            text::row(out, "ended", &format!("{ended} (UTC)"))?;
        }
    }
    text::row(out, "outcome", &outcome(job))?;
    if job.bytes > 0 {
        let (arrived, bytes) = (size_of(job.arrived_bytes), size_of(job.bytes));
        let rate = text::rate(job.bytes_per_second);
        let rate = if rate.is_empty() { rate } else { format!(", at {rate}") };
        let done = job.done_at.filter(|_| job.state == JobState::Open);
        let done = done.map(|at| format!(", done {}", text::from_now(at, now)));
        let done = done.unwrap_or_default();
        text::row(out, "bytes", &format!("{arrived} of {bytes} have arrived{rate}{done}"))?;
    }
    if !job.lacking.is_empty() {
        writeln!(out, "not in the archive:")?;
        text::stretches(out, text::states(&job.lacking))?;
    }
    Ok(())
}

/// `archived 45s, lost 10s`: only what there is.
pub(super) fn outcome(job: &Job) -> String {
    if job.whole {
        return format!("all of it is archived, {}", text::seconds(job.range.seconds));
    }
    let open = if job.state == JobState::Open { "still to come" } else { "not come" };
    let parts = [
        ("archived", job.archived_s),
        ("lost", job.lost_s),
        ("failed", job.failed_s),
        (open, job.open_s),
    ];
    let told = parts.into_iter().filter(|(word, length)| *length > 0.0 || *word == "archived");
    let told: Vec<String> =
        told.map(|(word, length)| format!("{word} {}", text::seconds(length))).collect();
    told.join(", ")
}

/// For a script that asks for it.
pub(super) fn json_of(job: &Job) -> Value {
    json!(job)
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::text::tests::assert_fits;
    use crate::examples::{at, key, seconds};
    use crate::job::{self, Outcome};
    use crate::order::JobStatus;
    use crate::timeline::{State, Stretch};

    pub fn status(state: JobState) -> JobStatus {
        let cause = "gone from the card before it was pulled".to_owned();
        let lost = Stretch { range: seconds(40, 45), state: State::Overwritten { cause } };
        let outcome = Outcome {
            archived: Duration::from_secs(40),
            lost: Duration::from_secs(5),
            ..Outcome::default()
        };
        JobStatus {
            job: job::Job {
                id: JobId(12),
                key: key(),
                range: seconds(0, 45),
                created: at(100),
                deadline: at(86_500),
                state,
                ended: (state != JobState::Open).then(|| at(200)),
                outcome,
                lacking: vec![lost],
            },
            online: true,
            bytes: 9_000_000,
            arrived_bytes: 3_000_000,
            bytes_per_second: Some(1_000_000),
            done_at: Some(at(206)),
        }
    }

    #[test]
    fn jobs_fit_a_terminal_and_say_what_is_lost_and_why() {
        for state in [JobState::Open, JobState::Done, JobState::Expired, JobState::Cancelled] {
            let job = Job::from(status(state));
            let mut out = Vec::new();
            print_one(&job, at(200), &mut out).unwrap();
            print_list(&[job], &mut out).unwrap();
            let text = assert_fits(&out);
            for part in [state.word(), "archived 40s, lost 5s", "overwritten: gone", "88 %"] {
                assert!(text.contains(part), "{part} is not in\n{text}");
            }
        }
    }

    #[test]
    fn as_json_a_job_is_flat_and_its_instants_are_rfc_3339() {
        let json = json_of(&Job::from(status(JobState::Open)));
        assert_eq!(json["id"], "j12");
        assert_eq!(json["device"], "camera");
        assert_eq!(
            (&json["from"], &json["seconds"]),
            (&json!("1970-01-01T00:00:00Z"), &json!(45.0))
        );
        assert_eq!(json["deadline"], "1970-01-02T00:01:40Z");
        assert_eq!((&json["ended"], &json["whole"]), (&Value::Null, &json!(false)));
        assert_eq!(json["lacking"][0]["state"], "overwritten");
        let again: Job = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(json_of(&again), json);
    }

    #[test]
    fn a_hundred_percent_is_said_only_of_what_is_whole() {
        let mut job = Job::from(status(JobState::Open));
        job.archived_s = 44.999;
        assert_eq!(percent(&job), 99);
        job.whole = true;
        assert_eq!(percent(&job), 100);
    }

    #[test]
    fn jobs_and_runs_are_told_apart_by_their_letter() {
        assert_eq!("j12".parse::<Cancellable>().unwrap(), Cancellable::Job(JobId(12)));
        assert_eq!("r7".parse::<Cancellable>().unwrap(), Cancellable::Run(RunId(7)));
        assert!("12".parse::<Cancellable>().unwrap_err().to_string().contains("j12"));
    }
}
