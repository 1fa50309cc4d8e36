//! Jobs: what people asked for, from the order to its end.

use std::ops::Bound;
use std::time::Duration;

use protocol::message::DeviceId;
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::{TimeRange, Timestamp};

use super::{Action, Core, Event};
use crate::fleet::StreamKey;
use crate::job::{Job, JobId, JobState, MOST_LACKING, Outcome};
use crate::ledger::{Entry, REMEMBERED};
use crate::mode::Mode;
use crate::order::{JobStatus, OrderError, listed};
use crate::timeline::{self, State, Stretch};

/// Jobs that may be open at once.
const MOST_OPEN: usize = 1_000;
/// Of a job's range, this much may lack from the timeline without being open: the rounding of ranges.
const ROUNDING: Duration = Duration::from_millis(1);

impl Core {
    pub(super) fn pull(
        &mut self,
        key: StreamKey,
        range: TimeRange,
        deadline: Timestamp,
    ) -> Result<JobStatus, OrderError> {
        self.known(&key)?;
        let policy = self.policies.of(&key);
        let open = self.jobs.values().filter(|job| job.state == JobState::Open).count();
        if range.is_empty() {
            return Err(OrderError::EmptyRange);
        } else if range.duration() <= self.config.archive.join_tolerance() {
            // All of it would be taken for archived, or none of it for missing.
            return Err(OrderError::ShortRange(range.duration()));
        } else if range.start() > self.now.wall {
            return Err(OrderError::FutureRange(range.start()));
        } else if deadline <= self.now.wall {
            return Err(OrderError::DeadlineOver(deadline));
        } else if !policy.modes.contains(Mode::Manual) {
            return Err(OrderError::ManualForbidden(policy.name.clone()));
        } else if open >= MOST_OPEN {
            return Err(OrderError::TooManyJobs(open));
        }
        // Whoever asks again, as after an answer that was lost, asks for the same.
        let same = |job: &&Job| job.state == JobState::Open && job.key == key && job.range == range;
        if let Some(job) = self.jobs.values().find(same).cloned() {
            let (id, deadline) = (job.id, job.deadline.max(deadline));
            self.keep(Job { deadline, ..job });
            return self.job_status(id);
        }
        let last = self.jobs.keys().next_back().map_or(0, |job| job.0);
        let job = Job {
            id: JobId(last + 1),
            key: key.clone(),
            range,
            created: self.now.wall,
            deadline,
            state: JobState::Open,
            ended: None,
            outcome: Outcome { open: range.duration(), ..Outcome::default() },
            lacking: Vec::new(),
        };
        tracing::info!(job = %job.id, stream = %key, %range, %deadline, "a job");
        let id = job.id;
        self.keep(job);
        self.try_anew(&key, range);
        self.evaluate(&key);
        self.plan_pulls();
        self.job_status(id)
    }

    fn try_anew(&mut self, key: &StreamKey, range: TimeRange) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let (given_up, taken_back) = stream.try_anew(range);
        if taken_back {
            let entry = stream.verdicts_entry();
            self.record(entry);
        }
        given_up.into_iter().for_each(|part| self.record(Entry::ForgetPart(part)));
    }

    pub(super) fn cancel_job(&mut self, id: JobId) -> Result<JobStatus, OrderError> {
        let job = self.jobs.get(&id).cloned().ok_or(OrderError::UnknownJob(id))?;
        if job.state != JobState::Open {
            return Err(OrderError::JobEnded { job: id, state: job.state });
        }
        let key = job.key.clone();
        self.end_job(job, JobState::Cancelled);
        self.plan_pulls();
        self.evaluate(&key);
        self.job_status(id)
    }

    pub(super) fn expire_jobs(&mut self) {
        let is_over = |job: &&Job| job.state == JobState::Open && job.deadline <= self.now.wall;
        let over: Vec<Job> = self.jobs.values().filter(is_over).cloned().collect();
        over.into_iter().for_each(|job| self.end_job(job, JobState::Expired));
    }

    /// Sees how the jobs of a stream have got on; `timeline` is its newest.
    pub(super) fn follow_jobs(&mut self, key: &StreamKey, timeline: &[Stretch]) {
        let tolerance = self.config.archive.join_tolerance();
        let open = self.jobs.values().filter(|job| job.state == JobState::Open && job.key == *key);
        let changed: Vec<Job> = open
            .filter_map(|job| {
                let (outcome, lacking) = outcome(job.range, timeline, tolerance);
                let changed = outcome != job.outcome || lacking != job.lacking;
                changed.then(|| Job { outcome, lacking, ..job.clone() })
            })
            .collect();
        for job in changed {
            match job.outcome.open.is_zero() {
                true => self.end_job(job, JobState::Done),
                false => self.keep(job),
            }
        }
    }

    fn end_job(&mut self, job: Job, state: JobState) {
        tracing::info!(job = %job.id, state = state.word(), "a job has ended");
        self.keep(Job { state, ended: Some(self.now.wall), ..job });
        self.queueing.changed();
    }

    fn keep(&mut self, job: Job) {
        self.record(Entry::Job(job.clone()));
        self.say(Event::Job(job.clone()));
        self.jobs.insert(job.id, job);
        let ended = self.jobs.values().filter(|job| job.state != JobState::Open);
        let surplus = ended.clone().count().saturating_sub(REMEMBERED);
        let oldest: Vec<JobId> = ended.take(surplus).map(|job| job.id).collect();
        oldest.iter().for_each(|job| drop(self.jobs.remove(job)));
    }

    pub(super) fn job_statuses(&self, before: Option<JobId>, most: usize) -> Vec<JobStatus> {
        let before = before.map_or(Bound::Unbounded, Bound::Excluded);
        let older = self.jobs.range((Bound::Unbounded, before)).rev().take(most);
        older.filter_map(|(job, _)| self.job_status(*job).ok()).collect()
    }

    pub(super) fn job_status(&self, id: JobId) -> Result<JobStatus, OrderError> {
        let job = self.jobs.get(&id).ok_or(OrderError::UnknownJob(id))?;
        let parts = self.streams.get(&job.key).into_iter().flat_map(|stream| stream.parts.values());
        let (mut bytes, mut arrived_bytes) = (0_u64, 0_u64);
        for record in parts.filter(|record| record.part.range.overlaps(&job.range)) {
            let (part_bytes, arrived) = self.queueing.arrived(record);
            bytes = bytes.saturating_add(part_bytes);
            arrived_bytes = arrived_bytes.saturating_add(arrived);
        }
        let is_open = job.state == JobState::Open;
        let rate = self.queueing.rate(&job.key.device, self.now.monotonic).filter(|_| is_open);
        let left_s = rate.filter(|rate| *rate > 0).map(|rate| (bytes - arrived_bytes) / rate);
        Ok(JobStatus {
            job: job.clone(),
            online: self.fleet.session(&job.key.device).is_some(),
            bytes,
            arrived_bytes,
            bytes_per_second: rate,
            done_at: left_s.map(|left| self.now.wall.saturating_add(Duration::from_secs(left))),
        })
    }
}

/// What has become of a range, and what of it lacks. What the timeline does not tell, it has not come to yet.
fn outcome(range: TimeRange, timeline: &[Stretch], tolerance: Duration) -> (Outcome, Vec<Stretch>) {
    let mut clipped: Vec<Stretch> = timeline
        .iter()
        .filter_map(|stretch| {
            let range = stretch.range.intersection(&range)?;
            Some(Stretch { range, state: stretch.state.clone() })
        })
        .collect();
    let told: Coverage = clipped.iter().map(|stretch| stretch.range).collect();
    let untold = range.duration().saturating_sub(told.total());
    let is_told = untold <= ROUNDING;
    if is_told {
        // A part begins and ends at keyframes near the edges of what was asked for.
        timeline::round(&mut clipped, tolerance, false);
    }
    let mut outcome = Outcome::of(&clipped);
    if !is_told {
        outcome.open += untold;
    }
    let lacking = clipped.into_iter().filter(|s| !matches!(s.state, State::Archived { .. }));
    (outcome, lacking.take(MOST_LACKING).collect())
}

impl Core {
    /// An order can only be about what is known.
    pub(super) fn known(&self, key: &StreamKey) -> Result<(), OrderError> {
        if self.streams.contains_key(key) {
            return Ok(());
        }
        self.known_device(&key.device)?;
        let of_device = self.streams_of(&key.device);
        let known = listed(of_device.map(|stream| stream.key.stream.as_str()).collect());
        let (device, stream) = (key.device.clone(), key.stream.clone());
        Err(OrderError::UnknownStream { device, stream, known })
    }

    /// A device of which there is a stream.
    pub(super) fn known_device(&self, device: &DeviceId) -> Result<(), OrderError> {
        if self.streams_of(device).next().is_some() {
            return Ok(());
        }
        let mut devices: Vec<&str> =
            self.streams.keys().map(|known| known.device.as_str()).collect();
        devices.dedup();
        Err(OrderError::UnknownDevice { device: device.clone(), known: listed(devices) })
    }

    pub(super) fn answer<T>(
        &mut self,
        number: u64,
        outcome: Result<T, OrderError>,
        wrap: impl FnOnce(T) -> crate::order::Answer,
    ) {
        self.actions.push(Action::Answer { number, answer: outcome.map(wrap) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::{at, seconds};
    use crate::timeline::{Proof, Recorder};

    const TOLERANCE: Duration = Duration::from_millis(500);

    fn archived(range: TimeRange) -> Stretch {
        Stretch {
            range,
            state: State::Archived { by: Recorder::Edge, proof: Proof::Digest, uncertainty_ns: 0 },
        }
    }

    fn missing(millis: u64) -> Stretch {
        let range = TimeRange::starting_at(at(45), Duration::from_millis(millis));
        Stretch { range, state: State::Missing }
    }

    fn open_of(range: TimeRange, timeline: &[Stretch]) -> Duration {
        outcome(range, timeline, TOLERANCE).0.open
    }

    #[test]
    fn a_range_that_ends_a_moment_after_the_recording_does_not_stay_open() {
        for (beyond_ms, open_ms) in [(300, 0), (500, 0), (501, 501)] {
            let beyond = Duration::from_millis(beyond_ms);
            let range = TimeRange::starting_at(at(0), Duration::from_secs(45) + beyond);
            let timeline = [archived(seconds(0, 45)), missing(beyond_ms)];
            assert_eq!(open_of(range, &timeline), Duration::from_millis(open_ms));
        }
    }

    #[test]
    fn what_lies_between_an_edge_and_the_keyframe_near_it_is_rounding() {
        let nearly = |seconds, millis: i64| at(seconds).saturating_offset(millis * 1_000_000);
        let asked = TimeRange::new(nearly(10, -4), nearly(45, 4)).unwrap();
        let pending = |range| Stretch { range, state: State::Pending };
        let timeline =
            [pending(seconds(0, 10)), archived(seconds(10, 45)), pending(seconds(45, 90))];
        let (outcome, lacking) = outcome(asked, &timeline, TOLERANCE);
        assert!(outcome.is_whole() && lacking.is_empty(), "{outcome:?}");
        assert_eq!(open_of(seconds(9, 45), &timeline), Duration::from_secs(1));
    }

    #[test]
    fn what_the_timeline_has_not_come_to_is_open_however_short() {
        let range = TimeRange::starting_at(at(0), Duration::from_millis(45_300));
        assert_eq!(open_of(range, &[archived(seconds(0, 45))]), Duration::from_millis(300));
        assert_eq!(open_of(seconds(0, 45), &[]), Duration::from_secs(45));
    }

    #[test]
    fn what_a_job_lacks_is_told_with_its_reason() {
        let cause = "gone".to_owned();
        let lost = Stretch { range: seconds(40, 50), state: State::Overwritten { cause } };
        let (outcome, lacking) =
            outcome(seconds(10, 45), &[archived(seconds(0, 40)), lost.clone()], TOLERANCE);
        assert_eq!((outcome.archived.as_secs(), outcome.lost.as_secs()), (30, 5));
        assert_eq!(lacking, [Stretch { range: seconds(40, 45), ..lost }]);
    }
}
