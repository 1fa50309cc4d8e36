//! Progress, live: bars on standard error, which only people see. Nothing is asked of the server but how it gets
//! on, and nothing is changed when the one who looks on goes away.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use protocol::message::DeviceId;
use sdcard_indexer::readable::{shortened, size_of};
use sdcard_indexer::time::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::client::{Client, ClientError};
use super::text;
use crate::api::view::{DeviceWork, Job, Work};
use crate::job::{JobId, JobState};

const EVERY: Duration = Duration::from_millis(500);
/// A server that is restarted takes its jobs up again; one that stays away for so long is given up.
const SERVER_ABSENCE: Duration = Duration::from_secs(60);
/// Columns of what is told beside a bar of 20.
const TOLD_COLUMNS: usize = 55;

/// How following a job has ended.
#[derive(Debug)]
pub(super) enum Followed {
    Ended(Box<Job>),
    /// By Ctrl-C.
    Left(JobId),
}

/// Until the job has ended, or Ctrl-C. A server that has just answered is waited for from the beginning.
pub(super) async fn job(
    client: &Client,
    id: JobId,
    has_answered: bool,
) -> anyhow::Result<Followed> {
    let bars = Bars::new();
    let bar = bars.add();
    let mut looks = Looks::new(client);
    looks.last_heard = has_answered.then(Instant::now);
    let path = format!("jobs/{id}");
    loop {
        tokio::select! {
            job = looks.next::<Job>(&path) => {
                let job = job?;
                draw(&bar, job.arrived_bytes, job.bytes, &of_job(&job, text::now()));
                if job.state != JobState::Open {
                    bars.clear();
                    return Ok(Followed::Ended(Box::new(job)));
                }
            }
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                bars.clear();
                return Ok(Followed::Left(id));
            }
        }
    }
}

/// All open jobs, and what is under way on each device; until no job is open and nothing under way, or Ctrl-C.
pub(super) async fn all(client: &Client) -> anyhow::Result<()> {
    let bars = Bars::new();
    let mut of_jobs: BTreeMap<JobId, ProgressBar> = BTreeMap::new();
    let mut of_devices: BTreeMap<DeviceId, ProgressBar> = BTreeMap::new();
    let mut looks = Looks::new(client);
    loop {
        let look = async {
            let jobs = looks.next::<Vec<Job>>("jobs").await?;
            let work = looks.at_once::<Work>("work").await?;
            Ok::<_, ClientError>((jobs, work))
        };
        let (jobs, work) = tokio::select! {
            looked = look => looked?,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                break;
            }
        };
        let now = text::now();
        let open: Vec<Job> = jobs.into_iter().filter(|job| job.state == JobState::Open).collect();
        of_jobs.retain(|id, bar| open.iter().any(|job| job.id == *id) || gone(bar));
        for job in &open {
            let bar = of_jobs.entry(job.id).or_insert_with(|| bars.add());
            draw(bar, job.arrived_bytes, job.bytes, &of_job(job, now));
        }
        let devices = &work.devices;
        of_devices.retain(|id, bar| devices.iter().any(|work| work.device == *id) || gone(bar));
        for work in devices {
            let bar = of_devices.entry(work.device.clone()).or_insert_with(|| bars.add());
            let bytes = work.parts.iter().map(|part| part.bytes).sum();
            let arrived = work.parts.iter().map(|part| part.arrived_bytes).sum();
            draw(bar, arrived, bytes, &of_device(work, now));
        }
        if open.is_empty() && devices.iter().all(|work| work.parts.is_empty()) {
            break;
        }
    }
    bars.clear();
    Ok(())
}

/// `j12 pulling 2.1 MiB of 9.0 MiB, 1.0 MiB/s, done in 7s`
fn of_job(job: &Job, now: Timestamp) -> String {
    let doing = match (job.state, job.online, job.bytes) {
        (JobState::Open, false, _) => "waits for its device",
        (JobState::Open, true, 0) => "asks where it lies",
        (JobState::Open, true, bytes) if job.arrived_bytes >= bytes => "merges",
        (JobState::Open, true, _) => "pulls",
        (state, ..) => state.word(),
    };
    let mut told = format!("{} {doing}", job.id);
    if job.bytes > 0 {
        let (arrived, bytes) = (size_of(job.arrived_bytes), size_of(job.bytes));
        told.push_str(&format!(" {arrived}/{bytes}"));
    }
    push_rate(&mut told, job.bytes_per_second, job.done_at, now);
    shortened(&told, TOLD_COLUMNS)
}

/// `camera 2.1 MiB/s, 4m 10s missing, done in 7s; 2m WILL BE LOST`
fn of_device(work: &DeviceWork, now: Timestamp) -> String {
    let lost: f64 = work.will_be_lost.iter().map(|loss| loss.range.seconds).sum();
    let mut told = shortened(work.device.as_str(), 16);
    if lost > 0.0 {
        told.push_str(&format!(", {} WILL BE LOST", text::seconds(lost)));
    }
    told.push_str(&format!(", {} to come", text::seconds(work.missing_s)));
    match (&work.waits_for, work.online) {
        (_, false) => told.push_str(", away"),
        (Some(reason), true) => told.push_str(&format!(", {reason}")),
        (None, true) => push_rate(&mut told, work.bytes_per_second, work.done_at, now),
    }
    shortened(&told, TOLD_COLUMNS)
}

fn push_rate(told: &mut String, rate: Option<u64>, done_at: Option<Timestamp>, now: Timestamp) {
    if let Some(rate) = rate {
        told.push_str(&format!(", {}", text::rate(Some(rate))));
    }
    if let Some(at) = done_at {
        told.push_str(&format!(", done {}", text::from_now(at, now)));
    }
}

fn draw(bar: &ProgressBar, arrived: u64, all: u64, told: &str) {
    bar.set_length(all.max(1));
    bar.set_position(arrived.min(all));
    bar.set_message(told.to_owned());
}

/// Takes a bar from the screen; false, for `retain`.
fn gone(bar: &ProgressBar) -> bool {
    bar.finish_and_clear();
    false
}

/// The bars of one terminal; without one, none is drawn.
struct Bars {
    all: MultiProgress,
    style: ProgressStyle,
}

impl Bars {
    fn new() -> Bars {
        let target = match io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let style = ProgressStyle::with_template("{bar:20.} {msg}");
        Bars {
            all: MultiProgress::with_draw_target(target),
            style: style.expect("a well-formed template").progress_chars("##-"),
        }
    }

    fn add(&self) -> ProgressBar {
        self.all.add(ProgressBar::new(1).with_style(self.style.clone()))
    }

    /// Nothing can be done about a terminal that cannot be written.
    fn clear(&self) {
        drop(self.all.clear());
    }
}

/// Looks at the server again and again.
struct Looks<'a> {
    client: &'a Client,
    ticks: tokio::time::Interval,
    /// `None`: it was not there at all, and is not waited for.
    last_heard: Option<Instant>,
}

impl<'a> Looks<'a> {
    fn new(client: &'a Client) -> Looks<'a> {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Looks { client, ticks, last_heard: None }
    }

    fn was_heard_lately(&self) -> bool {
        self.last_heard.is_some_and(|heard| heard.elapsed() < SERVER_ABSENCE)
    }

    async fn next<T: serde::de::DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        self.ticks.tick().await;
        self.at_once(path).await
    }

    async fn at_once<T: serde::de::DeserializeOwned>(
        &mut self,
        path: &str,
    ) -> Result<T, ClientError> {
        loop {
            match self.client.get(path).await {
                Err(error) if error.is_absence() && self.was_heard_lately() => {
                    self.ticks.tick().await;
                }
                Err(error) => return Err(error),
                Ok(answer) => {
                    self.last_heard = Some(Instant::now());
                    return Ok(answer);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::view::Loss;
    use crate::cli::jobs::tests::status;
    use crate::examples::{at, seconds};

    #[test]
    fn a_job_is_told_by_what_it_does_now() {
        let open = Job::from(status(JobState::Open));
        assert_eq!(of_job(&open, at(200)), "j12 pulls 2.9 MiB/8.6 MiB, 976.6 KiB/s, done in 6s");
        let away = Job { online: false, bytes_per_second: None, done_at: None, ..open.clone() };
        assert_eq!(of_job(&away, at(200)), "j12 waits for its device 2.9 MiB/8.6 MiB");
        let merges = Job { arrived_bytes: open.bytes, ..away.clone() };
        let merges = Job { online: true, ..merges };
        assert!(of_job(&merges, at(200)).starts_with("j12 merges"));
    }

    #[test]
    fn a_device_is_told_with_what_will_be_lost_first_and_nothing_is_too_wide() {
        let work = DeviceWork {
            device: "d".repeat(40).parse().unwrap(),
            online: true,
            waits_for: None,
            bytes_per_second: Some(u64::MAX),
            parts: Vec::new(),
            missing_s: 4_000.0,
            missing_bytes: None,
            done_at: Some(at(9_000)),
            will_be_lost: vec![Loss {
                stream: "main".parse().unwrap(),
                range: seconds(0, 120).into(),
            }],
        };
        let told = of_device(&work, at(0));
        assert!(told.contains("2m WILL BE LOST, 1h 7m to come"), "{told}");
        assert!(21 + told.chars().count() < 80, "{told}");
    }
}
