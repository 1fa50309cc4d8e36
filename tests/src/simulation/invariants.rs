//! What must hold at every step, and in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::envelope;
use protocol::message::{Ask, AskBody, Credit, TransferId};
use protocol::topic::Topic;
use reconciler::fleet::StreamKey;
use reconciler::job::{JobId, JobState};
use reconciler::ledger::{Entry, PartId, PartRecord};
use reconciler::link::Outbound;
use reconciler::order::{Answer, OrderError};
use reconciler::policy::PolicyName;
use reconciler::pull::engine::{Failure, MAX_UNSYNCED_BYTES};
use reconciler::pull::puller::{PullCommand, PullEvent};
use reconciler::reconcile::Event;
use reconciler::run::RunId;
use reconciler::timeline::{Proof, State, Stretch};
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::{TimeRange, Timestamp};

use super::agenda::{Micros, SECOND, micros, wall};
use super::card::is_footage;
use super::disk::PieceFile;
use super::faults::{Fault, Kind};
use super::merger::length;
use super::server::Active;
use super::world::World;

/// What the broker may hold for the server; one chunk more for each transfer is unavoidable.
const BROKER_BUDGET: u64 = 500;
/// From the end of what called for a part until nothing of it is written any more.
const LET_GO: Micros = 3 * SECOND;
/// Questions and orders to devices in one second, for each of them.
const MOST_QUESTIONS: u64 = 60;
/// Of one stream; a world has no more holes than that.
const MOST_VERDICTS: usize = 200;
/// A job about what a device holds that is there for so long is done.
const JOB_PATIENCE: Micros = 300 * SECOND;
/// An order is answered by then, whatever the device does.
const PATIENCE: Micros = 15 * SECOND;

/// What is remembered to judge by.
#[derive(Debug, Default)]
pub struct Watch {
    jobs_ended: BTreeMap<JobId, Micros>,
    runs_ended: BTreeMap<RunId, Micros>,
    transfers: BTreeMap<u64, PartId>,
    questions: u64,
    job_open_in_quiet: BTreeMap<JobId, Micros>,
    /// Of parts that the card has altered, where that begins.
    intact: BTreeMap<PartId, u64>,
}

impl Watch {
    pub fn note(&mut self, event: &PullEvent) {
        if let PullEvent::Lost { part, failure: Failure::Altered { intact }, .. } = event {
            self.intact.insert(*part, *intact);
        }
    }
}

impl World {
    fn tolerance(&self) -> Duration {
        self.config.archive.join_tolerance()
    }

    fn blemished(&self) -> bool {
        self.plan.weather.busy_card > 0.0
            || self.plan.faults.iter().any(|(_, fault)| {
                matches!(
                    fault,
                    Fault::Alter { .. }
                        | Fault::Unreadable { .. }
                        | Fault::Lie { .. }
                        | Fault::MergesFail { .. }
                        | Fault::CardAway { .. }
                        | Fault::LoseIndex { .. }
                )
            })
    }

    // ---- what is remembered ------------------------------------------------------------------------------

    pub fn check_entry(&mut self, entry: &Entry) {
        let now = self.now();
        self.trace.say(now, || brief(entry));
        match entry {
            Entry::Verdicts { key, verdicts } if verdicts.len() > MOST_VERDICTS => {
                self.fail(format!("{key} has {} verdicts", verdicts.len()));
            }
            Entry::Verdicts { key, verdicts } => self.check_verdicts(key, verdicts),
            Entry::Stream { key, expected_from } => {
                let before = self.ledger.streams.get(key).map(|stream| stream.expected_from);
                if let Some(skipped) = before.and_then(|old| TimeRange::new(old, *expected_from)) {
                    self.check_never_recorded(key, skipped);
                }
            }
            Entry::Job(job) if job.state != JobState::Open => {
                let quiet = self.watch.job_open_in_quiet.get(&job.id).copied().unwrap_or(now);
                if job.state == JobState::Expired && quiet + JOB_PATIENCE < now {
                    self.fail(format!("{} expired, and nothing was in its way: {job:?}", job.id));
                }
                self.watch.jobs_ended.entry(job.id).or_insert(now);
                if job.state == JobState::Done && !job.outcome.open.is_zero() {
                    self.fail(format!("{} is done and has something open: {job:?}", job.id));
                }
            }
            Entry::Job(job) => {
                let ended = self.watch.jobs_ended.contains_key(&job.id);
                if ended {
                    self.fail(format!("{} is open again", job.id));
                }
            }
            Entry::Run(run) => {
                let policies = self.config.policies().unwrap_or_default();
                let name: &PolicyName = &run.policy;
                let schedule = policies.get(name).and_then(|(policy, _)| policy.schedule.clone());
                let known = self.ledger.runs.contains_key(&run.id);
                let open = schedule.and_then(|s| s.window_open_at(self.server_wall()));
                if !known && open != Some(run.window) {
                    self.fail(format!("run {} was opened outside of its window", run.id));
                }
                let twice = self
                    .ledger
                    .runs
                    .values()
                    .any(|other| other.id != run.id && other.window == run.window);
                if !known && twice {
                    self.fail(format!("the window {} is run twice", run.window));
                }
                if !run.is_open() {
                    self.watch.runs_ended.entry(run.id).or_insert(now);
                }
            }
            Entry::Part(record) => {
                let before = self.ledger.part(&record.key, record.id);
                if before.is_some_and(|before| !before.state.is_active() && before != record) {
                    self.fail(format!("{:?} was done with and is changed", record.id));
                }
            }
            _ => {}
        }
    }

    fn check_verdicts(&mut self, key: &StreamKey, verdicts: &[Stretch]) {
        let before: Vec<Stretch> =
            self.ledger.streams.get(key).map(|s| s.verdicts.clone()).unwrap_or_default();
        for verdict in verdicts {
            let same = before.iter().filter(|known| known.state == verdict.state);
            let known: Coverage = same.map(|known| known.range).collect();
            for new in Coverage::from(verdict.range).difference(&known) {
                match &verdict.state {
                    State::NeverRecorded { .. } => self.check_never_recorded(key, new),
                    State::Overwritten { .. } => self.check_overwritten(key, new),
                    State::Failed { reason } if !self.blemished() => {
                        self.fail(format!("{key}: failed without a reason, {new}: {reason}"));
                    }
                    _ => {}
                }
            }
        }
    }

    /// What may be said of footage that is spoilt or lied about is no matter.
    fn doubtful(&self, number: usize, stream: &StreamKey) -> Coverage {
        let ring = self.devices[number].rings.iter().find(|ring| ring.stream == stream.stream);
        ring.map(|ring| ring.spoilt(self.now()).union(&ring.lie)).unwrap_or_default()
    }

    fn check_never_recorded(&mut self, key: &StreamKey, range: TimeRange) {
        let now = self.now();
        let Some(&number) = self.numbers.get(&key.device) else { return };
        let doubtful = self.doubtful(number, key);
        let device = &self.devices[number];
        if device.plan.lies {
            return;
        }
        let Some(ring) = device.rings.iter().find(|ring| ring.stream == key.stream) else { return };
        // A card whose index was lost has forgotten what it held.
        let forgets =
            self.plan.faults.iter().any(|(_, fault)| matches!(fault, Fault::LoseIndex { .. }));
        let recorded = if forgets { ring.held(now) } else { ring.recorded.clone() };
        let recorded = recorded.clip(range).difference(&doubtful);
        let recorded = recorded.without_slivers(self.tolerance());
        if !recorded.is_empty() {
            self.fail(format!(
                "{key}: {range} is called never recorded, and the card recorded {recorded:?}"
            ));
        }
    }

    fn check_overwritten(&mut self, key: &StreamKey, range: TimeRange) {
        let now = self.now();
        let Some(&number) = self.numbers.get(&key.device) else { return };
        let doubtful = self.doubtful(number, key);
        let device = &self.devices[number];
        let Some(ring) = device.rings.iter().find(|ring| ring.stream == key.stream) else { return };
        let doubtful = doubtful.union(&ring.unplaced(now));
        let held = ring.held(now).clip(range).difference(&doubtful);
        let held = held.without_slivers(self.tolerance());
        if !held.is_empty() && !device.plan.lies {
            self.fail(format!("{key}: {range} is called overwritten, and the card holds {held:?}"));
        }
    }

    // ---- what is said ------------------------------------------------------------------------------------

    pub fn check_event(&mut self, event: Event) {
        match event {
            Event::Timeline { key, stretches, .. } => self.check_timeline(&key, &stretches),
            Event::Merged { part_bytes, resent_bytes, .. } => {
                self.bill.merged_bytes += part_bytes;
                self.bill.resent_bytes += resent_bytes;
            }
            Event::Job(job) if job.state == JobState::Done => self.bill.jobs += 1,
            Event::Run(run) if !run.is_open() => self.bill.runs += 1,
            _ => {}
        }
    }

    /// What is called archived is in the archive, or was until its owner deleted it.
    pub fn check_timeline(&mut self, key: &StreamKey, stretches: &[Stretch]) {
        self.write_live();
        let Some(archive) = self.archive.streams.get(key) else { return };
        let there = archive.held().union(&archive.deleted).joined(self.tolerance());
        let mut end = Timestamp::MIN;
        for Stretch { range, state } in stretches {
            if range.start() < end {
                return self.fail(format!("{key}: two states at {}", range.start()));
            }
            end = range.end();
            if let State::Archived { .. } = state {
                let missing = Coverage::from(*range).difference(&there);
                let missing = missing.without_slivers(self.tolerance());
                if !missing.is_empty() {
                    let what = format!("{key}: {range} is called archived, and lacks {missing:?}");
                    return self.fail(what);
                }
            }
        }
    }

    pub fn check_answer(&mut self, number: u64, answer: Result<Answer, OrderError>) {
        let now = self.now();
        self.trace.say(now, || match &answer {
            Ok(Answer::Job(job)) => format!("answer {number}: {:?}", job.job),
            Ok(_) => format!("answer {number}"),
            Err(error) => format!("answer {number}: {error}"),
        });
        let asked = self.server.as_mut().and_then(|server| server.asked.remove(&number));
        if asked.is_none() {
            self.fail(format!("order {number} is answered, and was not asked"));
        }
    }

    // ---- what is ordered ---------------------------------------------------------------------------------

    pub fn check_command(&mut self, command: &PullCommand) {
        let now = self.now();
        self.trace.say(now, || match command {
            PullCommand::Start { record, .. } => {
                format!("start {:?} {}", record.id, span(record.part.range))
            }
            PullCommand::Session { device, session } => {
                format!("session of {device}: {}", session.is_some())
            }
            command => format!("{command:?}"),
        });
        match command {
            PullCommand::Start { record, .. } => {
                if !self.is_called_for(record, 0) {
                    self.fail(format!("{:?} is started, and nothing calls for it", record.id));
                }
                let active = Active {
                    key: record.key.clone(),
                    record: (**record).clone(),
                    told_to_pause: false,
                };
                let before = self.server.as_mut().and_then(|s| s.active.insert(record.id, active));
                if before.is_some() {
                    self.fail(format!("{:?} is started twice", record.id));
                }
            }
            PullCommand::Pause { part } => {
                if let Some(server) = &mut self.server
                    && let Some(active) = server.active.get_mut(part)
                {
                    active.told_to_pause = true;
                }
            }
            PullCommand::Session { .. } | PullCommand::Pace { .. } => {}
        }
    }

    /// Limits hold for all that runs and was not told to pause.
    pub fn check_limits(&mut self) {
        let running = self.active_parts().filter(|(_, active)| !active.told_to_pause);
        let (mut all, mut by_device, mut scheduled) = (0, BTreeMap::new(), BTreeMap::new());
        for (_, active) in running {
            all += 1;
            *by_device.entry(&active.key.device).or_insert(0) += 1;
            if self.kind_of(&active.key) == Kind::Scheduled {
                scheduled.insert(&active.key.device, ());
            }
        }
        let most = by_device.values().max().copied().unwrap_or(0);
        let devices = scheduled.len();
        if all > self.plan.max_active_parts || most > self.plan.max_active_parts_per_device {
            self.fail(format!("{all} parts run, {most} of one device"));
        }
        if self.plan.max_devices > 0 && devices > self.plan.max_devices {
            self.fail(format!("{devices} devices of the policy are pulled from"));
        }
    }

    /// Whether something calls for the part, or did until so long ago.
    fn is_called_for(&self, record: &PartRecord, ago: Micros) -> bool {
        let since = self.now().saturating_sub(ago);
        let recent = |ended: Option<&Micros>| ended.is_none_or(|ended| *ended >= since && ago > 0);
        let jobs = self
            .ledger
            .jobs
            .values()
            .filter(|job| job.key == record.key && job.range.overlaps(&record.part.range));
        let asked = jobs.into_iter().any(|job| recent(self.watch.jobs_ended.get(&job.id)));
        let running = || {
            let mut runs = self.ledger.runs.keys();
            runs.any(|run| recent(self.watch.runs_ended.get(run)))
        };
        match self.kind_of(&record.key) {
            Kind::Online => true,
            Kind::Scheduled => asked || running(),
            Kind::Manual => asked,
        }
    }

    /// A byte is written.
    pub fn check_called_for(&mut self, part: PartId) {
        let Some(active) = self.server.as_ref().and_then(|server| server.active.get(&part)) else {
            return;
        };
        let record = active.record.clone();
        if !self.is_called_for(&record, LET_GO) {
            self.fail(format!("{part:?} is still being written, and nothing calls for it"));
        }
    }

    pub fn check_question(&mut self, _: &Outbound) {
        self.watch.questions += 1;
    }

    /// What is told durable is durable.
    pub fn check_transfer(&mut self, outbound: &Outbound) {
        match &outbound.topic {
            Topic::Ask(_) => {
                self.watch.questions += 1;
                let Ok(Ask { body: AskBody::Open(open), .. }) = envelope::decode(&outbound.payload)
                else {
                    return;
                };
                let same = |active: &Active| {
                    let part = &active.record.part;
                    (part.segment, part.start, part.end) == (open.segment, open.start, open.end)
                        && part.version == open.version
                };
                let part = self.active_parts().find(|(_, active)| same(active)).map(|(id, _)| *id);
                if let Some(part) = part {
                    self.watch.transfers.insert(open.transfer.0, part);
                    self.trace.say(self.agenda.now(), || {
                        format!("open {part:?} from {} of {}", open.from, open.end)
                    });
                }
            }
            Topic::Credit(_) => {
                let Ok(credit) = envelope::decode::<Credit>(&outbound.payload) else { return };
                let TransferId(transfer) = credit.transfer;
                let Some(part) = self.watch.transfers.get(&transfer).copied() else { return };
                let Some(server) = &self.server else { return };
                let Some(open) = server.open_files.get(&part) else { return };
                let durable = open.start + self.disk.inodes[open.inode].durable_bytes as u64;
                if credit.durable > durable {
                    self.fail(format!("{part:?}: {} told durable, {durable} is", credit.durable));
                }
            }
            _ => {}
        }
    }

    pub fn check_broker(&mut self) {
        let parts = self.active_parts().count() as u64;
        let under_way = self.broker.data_under_way;
        let repeated = self.plan.weather.repeated > 0.0;
        if under_way > (BROKER_BUDGET + parts) * if repeated { 2 } else { 1 } {
            self.fail(format!("{under_way} chunks wait at the broker"));
        }
    }

    pub fn check_unsynced(&mut self, part: PartId, inode: usize) {
        let file = &self.disk.inodes[inode];
        let unsynced = (file.bytes.len() - file.durable_bytes) as u64;
        if unsynced > 2 * MAX_UNSYNCED_BYTES {
            self.fail(format!("{part:?}: {unsynced} bytes are not durable"));
        }
    }

    // ---- what is archived --------------------------------------------------------------------------------

    /// The bytes of a piece are those that the recorder wrote.
    pub fn check_content(&mut self, record: &PartRecord, inode: usize) {
        let bytes = &self.disk.inodes[inode].bytes;
        let seed = record.part.version.fingerprint;
        let wrong = !is_footage(seed, record.part.start, bytes);
        let altered =
            self.plan.faults.iter().any(|(_, fault)| matches!(fault, Fault::Alter { .. }));
        // What the card has flipped before it was digested nobody can know.
        let may_be = altered && record.proof != Proof::Sealed;
        // A torn tail that was never compared with anything.
        let torn = record.proof == Proof::Chunks;
        let end = record.part.start + bytes.len() as u64;
        if let Some(intact) = self.watch.intact.get(&record.id).filter(|intact| end > **intact) {
            self.fail(format!("{:?}: altered from {intact} on, merged up to {end}", record.id));
        }
        if wrong && !may_be {
            let what = if torn { "of a part that was cut short" } else { "" };
            self.fail(format!(
                "{:?}: the archive gets other bytes than the card's {what}",
                record.id
            ));
        }
    }

    /// Footage is in the archive once, but for a group of pictures at either side and what is pulled for the seam: of
    /// a short stretch between two holes, for both of them.
    pub fn check_piece(&mut self, key: &StreamKey, file: &PieceFile) {
        self.write_live();
        let now = self.now();
        let Some(&number) = self.numbers.get(&key.device) else { return };
        let range = file.piece.range;
        self.trace.say(now, || format!("{:?} is placed: {}", file.part, span(range)));
        let Some(archive) = self.archive.streams.get(key) else { return };
        let seam = 2 * self.plan.seam_margin_ms * SECOND / 1_000;
        let pad = self.devices[number].plan.habit.gop() + SECOND / 10 + seam;
        let inner = TimeRange::new(
            wall(micros(range.start()) + pad),
            wall(micros(range.end()).saturating_sub(pad)),
        );
        let twice = inner.map(|inner| archive.held().clip(inner)).unwrap_or_default();
        let twice = twice.without_slivers(self.tolerance());
        let again = archive.pieces.iter().any(|known| known.part == file.part);
        // Of a clock that is ahead of the recorder's, the live edge looks like a hole; see the model's limits.
        let ahead = |fault: &Fault| matches!(fault, Fault::ClockStep { seconds } if *seconds > 0);
        let ahead = self.plan.faults.iter().any(|(_, fault)| ahead(fault));
        if again || !(twice.is_empty() || ahead) {
            let part = file.part;
            self.fail(format!("{key}: {part:?} brings {range}, of which {twice:?} is there"));
        }
    }

    // ---- in the end ----------------------------------------------------------------------------------------

    pub fn check_each_second(&mut self) {
        let now = self.now();
        let questions = std::mem::take(&mut self.watch.questions);
        if questions > MOST_QUESTIONS * self.devices.len() as u64 {
            self.fail(format!("{questions} questions in a second"));
        }
        let late = self.server.as_ref().and_then(|server| {
            server
                .asked
                .iter()
                .find(|(_, asked)| **asked + PATIENCE < now)
                .map(|(number, _)| *number)
        });
        if let Some(number) = late {
            self.fail(format!("order {number} is not answered"));
        }
        if self.is_quiet {
            let open = self.ledger.jobs.values().filter(|job| job.state == JobState::Open);
            for job in open {
                self.watch.job_open_in_quiet.entry(job.id).or_insert(now);
            }
        }
    }

    /// What is still to come, though it should come; `None` where all is settled.
    pub fn unsettled(&mut self) -> Option<String> {
        let now = self.now();
        if self.server.is_none() {
            return Some("no server".to_owned());
        }
        if let Some(job) = self.ledger.jobs.values().find(|job| job.state == JobState::Open) {
            return Some(format!("{job:?}"));
        }
        for number in 0..self.devices.len() {
            for key in self.keys_of(number) {
                if let Some(what) = self.unsettled_stream(number, &key) {
                    return Some(what);
                }
            }
        }
        // Some seconds more, so that everything that was seen has been told.
        (now < self.plan.quiet_at + 20 * SECOND).then(|| "a little more".to_owned())
    }

    fn unsettled_stream(&mut self, number: usize, key: &StreamKey) -> Option<String> {
        let now = self.now();
        let kind = self.kind_of(key);
        let Some(stream) = self.ledger.streams.get(key) else {
            return Some(format!("{key} is unknown"));
        };
        let Some(timeline) = &stream.timeline else { return Some(format!("{key}: no timeline")) };
        if timeline.as_of < wall(now.saturating_sub(10 * SECOND)) {
            return Some(format!("{key}: an old timeline"));
        }
        let judged = TimeRange::new(Timestamp::MIN, wall(self.plan.quiet_at))?;
        let open = timeline.stretches.iter().filter(|stretch| !stretch.state.is_settled());
        let open = open.filter(|stretch| !matches!(stretch.state, State::Failed { .. }));
        let mut open = open.filter(|stretch| {
            let past = stretch.range.intersection(&judged);
            past.is_some_and(|past| past.duration() > self.tolerance())
        });
        if kind != Kind::Manual
            && let Some(open) = open.next()
        {
            return Some(format!("{key}: {} {}", open.range, open.state));
        }
        // What the card holds and is expected is in the archive, or said to have failed.
        // Whatever a body-worn unit holds is expected, from its first instant on.
        let is_fixed = self.devices[number].plan.configured && number.is_multiple_of(2);
        let expected_from = match kind {
            Kind::Scheduled if !is_fixed => Timestamp::MIN,
            _ => stream.expected_from,
        };
        let settled: Coverage = timeline
            .stretches
            .iter()
            .filter(|stretch| matches!(stretch.state, State::Failed { .. }))
            .map(|stretch| stretch.range)
            .collect();
        let archive = self.archive.streams.get(key)?;
        let ring = self.devices[number].rings.iter().find(|ring| ring.stream == key.stream)?;
        let expected = TimeRange::new(expected_from, wall(self.plan.quiet_at))?;
        let there = archive.held().union(&archive.deleted).union(&settled);
        let lacks = ring.held(now).clip(expected).difference(&there.joined(self.tolerance()));
        let lacks = lacks.difference(&self.doubtful(number, key));
        let lacks = lacks.without_slivers(self.tolerance());
        if kind != Kind::Manual && !lacks.is_empty() {
            return Some(format!("{key}: settled, and the archive lacks {lacks:?}"));
        }
        None
    }

    pub fn reckon(&mut self) {
        for stream in self.ledger.streams.values() {
            for verdict in &stream.verdicts {
                let seconds = length(verdict.range) / SECOND;
                match verdict.state {
                    State::Failed { .. } => self.bill.failed_s += seconds,
                    State::Overwritten { .. } => self.bill.overwritten_s += seconds,
                    _ => {}
                }
            }
        }
    }
}

/// In seconds of the world, which are easier to compare than instants.
fn span(range: TimeRange) -> String {
    let seconds = |at: Timestamp| micros(at) as f64 / SECOND as f64;
    format!("{:.3}..{:.3}", seconds(range.start()), seconds(range.end()))
}

fn spans(coverage: &Coverage) -> String {
    let spans: Vec<String> = coverage.iter().map(span).collect();
    format!("[{}]", spans.join(" "))
}

fn states(stretches: &[Stretch]) -> String {
    let states: Vec<String> =
        stretches.iter().map(|s| format!("{} {}", span(s.range), s.state)).collect();
    states.join("; ")
}

fn brief(entry: &Entry) -> String {
    match entry {
        Entry::Part(PartRecord { id, key, part, state, .. }) => {
            let (word, range) = (state.word(), span(part.range));
            format!("{id:?} of {key} is {word}: {range}, bytes {}..{}", part.start, part.end)
        }
        Entry::Holding { key, holding } => format!(
            "{key} holds {}, gone {}, once {}, final until {:.3}, tier {}",
            spans(&holding.held),
            spans(&holding.gone),
            spans(&holding.once_held),
            micros(holding.final_until) as f64 / SECOND as f64,
            holding.tier
        ),
        Entry::Timeline { key, timeline } => format!("{key}: {}", states(&timeline.stretches)),
        Entry::Verdicts { key, verdicts } => format!("verdicts of {key}: {}", states(verdicts)),
        entry => format!("{entry:?}"),
    }
}
