//! The core as its driver sees it: what happens goes in, what is to be done comes out.

mod clocks;
mod looks;

use bytes::Bytes;
use protocol::envelope::{self, Message};
use protocol::message::{
    Ask, AskBody, BootId, BootMillis, ClockSample, ConnectionId, CoverageReport, DeviceLimits,
    Located, Network, Online, Part, PartDigest, Presence, SealCheck, Tell,
};
use protocol::topic::Topic;
use rand::SeedableRng;
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::TimeRange;

use super::*;
use crate::archive::Archived;
use crate::examples::{at, camera, key, part, seconds};
use crate::job::JobState;
use crate::ledger::Traffic;
use crate::pull::engine::Failure;
use crate::timeline::State;

/// Two hours before the evening's run, in seconds since 1970: 2026-11-28 20:00 UTC, 21:00 in Berlin.
const AFTERNOON: i64 = 1_795_896_000;
const EVENING: i64 = AFTERNOON + 2 * 3_600;
/// What the camera recorded in the morning.
const SHIFT: (i64, i64) = (AFTERNOON - 36_000, AFTERNOON - 7_200);

const SCHEDULED: &str = "
[[policy]]
name = \"evening\"
devices = [\"cam*\"]
record = \"held\"
modes = [\"scheduled\", \"manual\"]
networks = [\"ethernet\"]
schedule = { cron = \"0 23 * * *\", time_zone = \"Europe/Berlin\", window = \"6h\" }
";

/// A camera whose recording should be whole from the morning on.
const ALWAYS: &str = "
[[device]]
id = \"camera\"
streams = [\"main\"]
expected_from = \"2026-11-28T10:00:00Z\"
";

fn config(policies: &str) -> Config {
    let text = format!("[server]\nid = \"depot\"\n{policies}");
    Config::parse(&text, std::path::Path::new("/etc/gapless.toml")).unwrap()
}

/// A server with one camera, whose archive is empty.
struct Server {
    core: Core,
    now: Now,
    done: Vec<Action>,
    last_order: u64,
    is_online: bool,
    /// What the camera last said of how far its time may be off.
    uncertainty_ns: u64,
}

impl Server {
    fn start(policies: &str, memory: Memory, at_second: i64) -> Server {
        Server::start_unsure(policies, memory, at_second, 0)
    }

    /// The camera's time may be off by so much.
    fn start_unsure(policies: &str, memory: Memory, at_second: i64, uncertainty_ns: u64) -> Server {
        let now = Now { wall: at(at_second), monotonic: MonotonicMicros(1_000_000) };
        let random = StdRng::seed_from_u64(1);
        let (core, done) = Core::resume(config(policies), memory, random, now);
        let (last_order, is_online) = (0, true);
        let mut server = Server { core, now, done, last_order, is_online, uncertainty_ns };
        server.is_there();
        let archived = Archived::default();
        server.happens(Input::Archive(ArchiveChange { key: key(), archived }));
        server.holds_unsure(seconds(SHIFT.0, SHIFT.1), uncertainty_ns);
        server
    }

    /// As a device says it every minute.
    fn is_there(&mut self) {
        let presence = Presence::Online(Online {
            connection: ConnectionId(1),
            boot: BootId([7; 16]),
            agent_version: "1".into(),
            limits: DeviceLimits {
                max_chunk_bytes: 65_536,
                max_open_transfers: 4,
                max_bytes_per_second: 0,
            },
            clock: ClockSample { realtime: self.now.wall, boottime: BootMillis(1) },
            streams: vec!["main".parse().unwrap()],
            network: Network { link: "ethernet".into(), address: None },
        });
        self.say(&Topic::State(camera()), &presence);
    }

    fn happens(&mut self, input: Input) {
        let actions = self.core.handle(input, self.now);
        self.done.extend(actions);
    }

    fn say<M: Message>(&mut self, topic: &Topic, message: &M) {
        let payload = Bytes::from(envelope::encode(message).unwrap());
        self.happens(Input::Inbound(Inbound::Message { topic: topic.to_string(), payload }));
    }

    /// The card holds this, and nothing more will come to it.
    fn holds(&mut self, range: TimeRange) {
        self.holds_unsure(range, 0);
    }

    fn holds_unsure(&mut self, range: TimeRange, uncertainty_ns: u64) {
        self.uncertainty_ns = uncertainty_ns;
        let report = CoverageReport {
            connection: ConnectionId(1),
            stream: "main".parse().unwrap(),
            generation: 0,
            window: TimeRange::new(Timestamp::MIN, Timestamp::MAX).unwrap(),
            held: range.into(),
            gone: Coverage::new(),
            horizon: Some(range.start()),
            final_until: self.now.wall,
            tier: 1,
            uncertainty_ns,
            overwriting: None,
        };
        self.say(&Topic::Coverage(camera()), &report);
    }

    /// Time passes, looked at every second as far as it matters.
    fn wait_until(&mut self, second: i64) {
        let ahead = at(second).since(self.now.wall);
        self.now.wall = at(second);
        self.now.monotonic = self.now.monotonic.after(ahead.max(EVALUATE));
        if self.is_online {
            self.is_there();
        }
        self.happens(Input::Tick);
    }

    fn order(&mut self, order: Order) -> Result<Answer, OrderError> {
        self.last_order += 1;
        let number = self.last_order;
        self.happens(Input::Order { number, order });
        let answers = self.done.iter().rev().filter_map(|action| match action {
            Action::Answer { number: of, answer } if *of == number => Some(answer.clone()),
            _ => None,
        });
        answers.into_iter().next().expect("every order is answered")
    }

    /// Questions about places, answered by one part for all of each.
    fn locates(&mut self) -> Vec<TimeRange> {
        let asked: Vec<_> = std::mem::take(&mut self.done)
            .into_iter()
            .filter_map(|action| match action {
                Action::Publish(outbound) => match envelope::decode::<Ask>(&outbound.payload) {
                    Ok(Ask { body: AskBody::Locate { request, stream, range }, .. }) => {
                        Some((request, stream, range))
                    }
                    _ => None,
                },
                _ => None,
            })
            .collect();
        for (request, stream, range) in &asked {
            let segment = sdcard_indexer::identity::SegmentId(9);
            let uncertainty_ns = self.uncertainty_ns;
            let parts = vec![Part { segment, uncertainty_ns, ..part(*range) }];
            let tell = Tell::Located(Located {
                request: *request,
                stream: stream.clone(),
                parts,
                next: None,
            });
            self.happens(Input::Pull(PullEvent::Answer { device: camera(), tell }));
        }
        asked.into_iter().map(|(_, _, range)| range).collect()
    }

    /// What the puller was told since the last call.
    fn commands(&mut self) -> Vec<PullCommand> {
        let done = std::mem::take(&mut self.done);
        done.into_iter()
            .filter_map(|action| match action {
                Action::Pull(command) => Some(command),
                _ => None,
            })
            .collect()
    }

    /// What a ledger would remember of runs and jobs.
    fn remembered(&self) -> Memory {
        let mut memory = Memory::default();
        for action in &self.done {
            match action {
                Action::Record(Entry::Run(run)) => {
                    memory.runs.retain(|known| known.id != run.id);
                    memory.runs.push(run.clone());
                }
                Action::Record(Entry::Job(job)) => {
                    memory.jobs.retain(|known| known.id != job.id);
                    memory.jobs.push(job.clone());
                }
                _ => {}
            }
        }
        memory
    }

    fn runs(&self) -> Vec<Run> {
        self.core.runs.values().cloned().collect()
    }
}

fn starts(commands: &[PullCommand]) -> usize {
    commands.iter().filter(|command| matches!(command, PullCommand::Start { .. })).count()
}

fn pauses(commands: &[PullCommand]) -> usize {
    commands.iter().filter(|command| matches!(command, PullCommand::Pause { .. })).count()
}

#[test]
fn a_scheduled_policy_waits_for_its_time_and_then_pulls_what_the_device_holds() {
    let mut server = Server::start(SCHEDULED, Memory::default(), AFTERNOON);
    server.wait_until(AFTERNOON + 60);
    assert_eq!((server.locates(), server.runs().len()), (vec![], 0));
    server.wait_until(EVENING);
    assert_eq!(server.runs()[0].window, seconds(EVENING, EVENING + 6 * 3_600));
    assert_eq!(server.locates(), [seconds(SHIFT.0, SHIFT.1)]);
    server.wait_until(EVENING + 4);
    assert_eq!(starts(&server.commands()), 1);
}

#[test]
fn a_window_that_closes_pauses_what_is_under_way_and_says_what_it_left() {
    let mut server = Server::start(SCHEDULED, Memory::default(), EVENING + 1);
    server.wait_until(EVENING + 3);
    server.locates();
    server.wait_until(EVENING + 5);
    assert_eq!(starts(&server.commands()), 1);
    server.wait_until(EVENING + 6 * 3_600);
    server.wait_until(EVENING + 6 * 3_600 + 2);
    let [run] = &server.runs()[..] else { panic!("one run") };
    let left = &run.devices[&camera()].left;
    assert_eq!(left.len(), 1, "{run:#?}");
    assert_eq!(left[0].range, seconds(SHIFT.0, SHIFT.1));
    assert!(left[0].why.contains("window closed"), "{}", left[0].why);
    assert_eq!(pauses(&server.commands()), 1);
}

#[test]
fn a_run_goes_on_after_a_restart_and_a_window_is_run_once_whatever_the_clock_does() {
    let mut server = Server::start(SCHEDULED, Memory::default(), EVENING + 1);
    server.wait_until(EVENING + 10);
    let memory = server.remembered();
    assert_eq!(memory.runs.len(), 1);
    let mut server = Server::start(SCHEDULED, memory, EVENING + 3_600);
    server.wait_until(EVENING + 3_601);
    assert_eq!(server.runs().len(), 1);
    assert!(server.runs()[0].is_open());
    server.wait_until(EVENING + 7 * 3_600);
    assert!(!server.runs()[0].is_open());
    // The clock is set back into the window, and forward again.
    server.wait_until(EVENING + 60);
    server.wait_until(EVENING + 8 * 3_600);
    assert_eq!(server.runs().len(), 1);
    server.wait_until(EVENING + 24 * 3_600 + 1);
    assert_eq!(server.runs().len(), 2);
}

#[test]
fn a_clock_that_was_far_ahead_keeps_no_run_from_its_time() {
    let mut server = Server::start(SCHEDULED, Memory::default(), EVENING + 365 * 24 * 3_600 + 1);
    server.wait_until(EVENING + 365 * 24 * 3_600 + 2);
    assert_eq!(server.runs().len(), 1);
    server.wait_until(EVENING + 1);
    let runs = server.runs();
    let open: Vec<bool> = runs.iter().map(Run::is_open).collect();
    assert_eq!(open, [false, true]);
}

#[test]
fn over_a_network_that_the_policy_does_not_allow_nothing_is_pulled_and_the_report_says_why() {
    let cellular = SCHEDULED.replace("\"ethernet\"", "\"cellular\"");
    let mut server = Server::start(&cellular, Memory::default(), EVENING + 1);
    server.wait_until(EVENING + 3);
    assert_eq!(server.locates(), []);
    server.wait_until(EVENING + 7 * 3_600);
    let [run] = &server.runs()[..] else { panic!("one run") };
    let why = &run.devices[&camera()].left[0].why;
    assert!(why.contains("cellular") && why.contains("ethernet"), "{why}");
}

fn pull(range: TimeRange, deadline: i64) -> Order {
    Order::Pull { key: key(), range, deadline: at(deadline) }
}

#[test]
fn what_a_person_asks_for_is_pulled_at_once_and_no_more_than_that() {
    let mut server = Server::start(SCHEDULED, Memory::default(), AFTERNOON);
    let wanted = seconds(SHIFT.0 + 600, SHIFT.0 + 660);
    let answer = server.order(pull(wanted, AFTERNOON + 3_600)).unwrap();
    let Answer::Job(job) = answer else { panic!("{answer:?}") };
    assert_eq!((job.job.state, job.online), (JobState::Open, true));
    server.wait_until(AFTERNOON + 1);
    assert_eq!(server.locates(), [wanted]);
    server.wait_until(AFTERNOON + 3);
    assert_eq!(starts(&server.commands()), 1);
}

#[test]
fn a_cancelled_job_pauses_its_part_at_once_and_forgets_it() {
    let mut server = Server::start(
        "[[policy]]\nname = \"hand\"\ndevices = [\"*\"]\nrecord = { hours = [\"Mon 00:00-00:01\"] }\ntime_zone = \"UTC\"\nmodes = [\"manual\"]",
        Memory::default(),
        AFTERNOON,
    );
    let wanted = seconds(SHIFT.0 + 600, SHIFT.0 + 660);
    server.order(pull(wanted, AFTERNOON + 3_600)).unwrap();
    server.wait_until(AFTERNOON + 1);
    server.locates();
    server.wait_until(AFTERNOON + 3);
    let commands = server.commands();
    let Some(PullCommand::Start { record, .. }) = commands.first() else { panic!("{commands:?}") };
    let answer = server.order(Order::CancelJob(JobId(1))).unwrap();
    let Answer::Job(job) = answer else { panic!("{answer:?}") };
    assert_eq!(job.job.state, JobState::Cancelled);
    assert_eq!(pauses(&server.commands()), 1);
    let (key, part, traffic) = (key(), record.id, Traffic::default());
    server.happens(Input::Pull(PullEvent::Paused { key, part, traffic }));
    let forgotten =
        |action: &Action| matches!(action, Action::Record(Entry::ForgetPart(of)) if *of == part);
    let discarded = |action: &Action| matches!(action, Action::DiscardSpool(of) if *of == part);
    assert!(server.done.iter().any(forgotten) && server.done.iter().any(discarded));
    let again = server.order(Order::CancelJob(JobId(1)));
    assert!(matches!(again, Err(OrderError::JobEnded { .. })), "{again:?}");
}

#[test]
fn an_order_that_is_given_twice_is_one_job_with_the_later_deadline() {
    let mut server = Server::start(SCHEDULED, Memory::default(), AFTERNOON);
    let wanted = seconds(SHIFT.0 + 600, SHIFT.0 + 660);
    for deadline in [AFTERNOON + 3_600, AFTERNOON + 7_200, AFTERNOON + 60] {
        server.order(pull(wanted, deadline)).unwrap();
    }
    assert_eq!(server.core.jobs.len(), 1);
    assert_eq!(server.core.jobs[&JobId(1)].deadline, at(AFTERNOON + 7_200));
}

#[test]
fn a_range_that_clocks_are_rounded_by_is_no_job() {
    let mut server = Server::start(SCHEDULED, Memory::default(), AFTERNOON);
    let rounding = server.core.config.archive.join_tolerance();
    let short = TimeRange::starting_at(at(SHIFT.0), rounding);
    let refused = server.order(pull(short, AFTERNOON + 100));
    assert!(matches!(refused, Err(OrderError::ShortRange(_))), "{refused:?}");
    let longer = TimeRange::starting_at(at(SHIFT.0), rounding + Duration::from_millis(1));
    server.order(pull(longer, AFTERNOON + 100)).unwrap();
}

#[test]
fn a_job_waits_for_its_deadline_and_no_longer() {
    let mut server = Server::start(SCHEDULED, Memory::default(), AFTERNOON);
    let beyond = seconds(SHIFT.1 - 10, SHIFT.1 + 10);
    server.order(pull(beyond, AFTERNOON + 100)).unwrap();
    server.wait_until(AFTERNOON + 99);
    assert_eq!(server.core.jobs[&JobId(1)].state, JobState::Open);
    server.wait_until(AFTERNOON + 100);
    assert_eq!(server.core.jobs[&JobId(1)].state, JobState::Expired);
}

#[test]
fn an_order_that_makes_no_sense_is_refused_with_the_reason() {
    let mut server = Server::start(SCHEDULED, Memory::default(), AFTERNOON);
    let range = seconds(SHIFT.0, SHIFT.1);
    let other = StreamKey { device: "other".parse().unwrap(), ..key() };
    let unknown = Order::Pull { key: other, range, deadline: at(EVENING) };
    for (order, said) in [
        (unknown, "known are: camera"),
        (pull(seconds(5, 5), EVENING), "empty"),
        (pull(range, AFTERNOON), "deadline"),
        (pull(seconds(EVENING, EVENING + 9), EVENING), "future"),
        (Order::CancelJob(JobId(7)), "no job j7"),
        (Order::CancelRun(RunId(7)), "no open run r7"),
    ] {
        let error = server.order(order).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_part_whose_digest_keeps_differing_has_failed_with_both_digests() {
    let mut server = Server::start(ALWAYS, Memory::default(), AFTERNOON);
    server.wait_until(AFTERNOON + 1);
    server.locates();
    let mut second = AFTERNOON + 3;
    for _ in 0..3 {
        server.wait_until(second);
        let commands = server.commands();
        let started = commands.iter().find_map(|command| match command {
            PullCommand::Start { record, .. } => Some(record.id),
            _ => None,
        });
        server.happens(Input::Pull(PullEvent::Pulled {
            key: key(),
            part: started.expect("it is tried again"),
            card_digest: PartDigest { blake3: [0xaa; 32], seal: SealCheck::Unknown },
            spool_digest: [0xbb; 32],
            traffic: Traffic::default(),
        }));
        second += 10;
    }
    server.wait_until(second);
    assert_eq!(starts(&server.commands()), 0);
    let timeline = server.core.timeline(&key());
    let failed = timeline.iter().find_map(|stretch| match &stretch.state {
        State::Failed { reason } => Some(reason.clone()),
        _ => None,
    });
    let reason = failed.expect("it has failed");
    assert!(reason.contains(&"aa".repeat(32)) && reason.contains(&"bb".repeat(32)), "{reason}");
    // A person may ask for it all the same.
    server.order(pull(seconds(SHIFT.0, SHIFT.0 + 60), EVENING)).unwrap();
    server.wait_until(second + 1);
    assert!(!server.locates().is_empty());
}

#[test]
fn a_card_that_cannot_be_read_is_given_time_and_then_what_has_come_is_kept() {
    let mut server = Server::start(ALWAYS, Memory::default(), AFTERNOON);
    server.wait_until(AFTERNOON + 1);
    server.locates();
    let mut second = AFTERNOON + 3;
    for attempt in 0..4 {
        server.wait_until(second);
        assert_eq!(starts(&server.commands()), 1, "attempt {attempt}");
        server.happens(Input::Pull(PullEvent::Lost {
            key: key(),
            part: PartId(1),
            failure: Failure::CardError,
            durable_bytes: 5,
            traffic: Traffic::default(),
        }));
        second += 300;
    }
    // Cut before it counts as pulled: whoever starts again merges all that the spool holds.
    let place = |is: &dyn Fn(&Action) -> bool| server.done.iter().position(is).unwrap();
    let cut = place(&|action| matches!(action, Action::CutSpool { kept_bytes: 5, .. }));
    let pulled = place(
        &|action| matches!(action, Action::Record(Entry::Part(part)) if part.state == PartState::Pulled),
    );
    let merged = place(&|action| matches!(action, Action::Merge(MergeStep::Write { .. })));
    assert!(cut < pulled && pulled < merged);
}

#[test]
fn a_full_spool_stops_new_pulls_and_says_so() {
    let mut server = Server::start(ALWAYS, Memory::default(), AFTERNOON);
    server.wait_until(AFTERNOON + 1);
    server.locates();
    server.wait_until(AFTERNOON + 3);
    assert_eq!(starts(&server.commands()), 1);
    let error = "3 bytes are free".to_owned();
    server.happens(Input::Pull(PullEvent::SpoolFailed { key: key(), part: PartId(1), error }));
    server.wait_until(AFTERNOON + 5);
    assert_eq!(starts(&server.commands()), 0);
    let Ok(Answer::Work(work)) = server.order(Order::Work) else { panic!("work is told") };
    assert_eq!(work.paused.as_deref(), Some("3 bytes are free"));
    server.wait_until(AFTERNOON + 70);
    assert_eq!(starts(&server.commands()), 1);
}

#[test]
fn the_parts_of_a_device_that_left_give_up_their_places() {
    let mut server = Server::start(ALWAYS, Memory::default(), AFTERNOON);
    server.wait_until(AFTERNOON + 1);
    server.locates();
    server.wait_until(AFTERNOON + 3);
    assert_eq!(starts(&server.commands()), 1);
    let farewell = Presence::Offline { connection: ConnectionId(1) };
    server.say(&Topic::State(camera()), &farewell);
    server.is_online = false;
    server.wait_until(AFTERNOON + 4);
    assert_eq!(pauses(&server.commands()), 1);
}
