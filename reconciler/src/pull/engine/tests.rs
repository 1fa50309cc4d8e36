//! Each rule of the engine by itself; what they come to together is [`super::super::simulation`]'s business.

use protocol::message::SealCheck;
use rand::SeedableRng;

use super::*;
use crate::pull::window::{FIRST_WINDOW_BYTES, MAX_WINDOW_BYTES};

const DIGEST: PartDigest = PartDigest { blake3: [9; 32], seal: SealCheck::Unknown };

const START: u64 = 1000;
const END: u64 = START + 40 * MAX_WINDOW_BYTES;
const CONNECTION: ConnectionId = ConnectionId(7);
const BOOT: BootId = BootId([1; 16]);

/// An engine whose clock the test holds.
struct Bench {
    engine: Engine,
    now: MonotonicMicros,
}

impl Bench {
    fn new(end: u64, durable: u64) -> Self {
        let job = PartJob {
            segment: SegmentId(3),
            version: SegmentVersion { size_bytes: 1 << 40, fingerprint: 5 },
            start: START,
            end,
            durable,
            priority: 2,
            rate_bytes_per_second: 0,
        };
        let engine = Engine::new(job, Window::new(), StdRng::seed_from_u64(1));
        Bench { engine, now: MonotonicMicros(1_000_000) }
    }

    /// Opened and accepted, from `START`.
    fn flowing(end: u64) -> (Self, Open) {
        let mut bench = Bench::new(end, START);
        let open = opened(&bench.online(CONNECTION, BOOT));
        bench.handle(Event::Accepted { transfer: open.transfer });
        (bench, open)
    }

    fn handle(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.engine.handle(event, self.now, &mut actions);
        actions
    }

    fn online(&mut self, connection: ConnectionId, boot: BootId) -> Vec<Action> {
        self.handle(Event::Online { connection, boot, max_chunk_bytes: 64 * 1024 })
    }

    fn data(&mut self, transfer: TransferId, offset: u64, length: usize) -> Vec<Action> {
        let payload = Bytes::from(vec![0; length]);
        self.handle(Event::Data { transfer, offset, echo: MonotonicMicros(0), payload })
    }

    fn refused(&mut self, transfer: TransferId, reason: RefusedReason) -> Vec<Action> {
        self.handle(Event::Refused { transfer, reason })
    }

    fn transfer(&self) -> TransferId {
        match &self.engine.phase {
            Phase::Open(opening) => opening.transfer,
            phase => panic!("{phase:?}"),
        }
    }

    /// Lets time pass up to the next deadline; how many ms that were, and what came of it.
    fn until_deadline(&mut self) -> (u128, Vec<Action>) {
        let deadline = self.engine.next_deadline().expect("something is to come");
        let passed = deadline.since(self.now).as_millis();
        self.now = self.now.max(deadline);
        (passed, self.handle(Event::Tick))
    }

    /// Lets deadlines pass until the engine opens again; how many ms that took.
    fn until_opened(&mut self) -> (u128, Open) {
        let mut passed = 0;
        for _ in 0..100 {
            let (more, actions) = self.until_deadline();
            passed += more;
            if let Some(open) = find_open(&actions) {
                return (passed, open);
            }
        }
        panic!("never opened again");
    }
}

fn find_open(actions: &[Action]) -> Option<Open> {
    actions.iter().find_map(|action| match action {
        Action::Ask(AskBody::Open(open)) => Some(open.clone()),
        _ => None,
    })
}

fn opened(actions: &[Action]) -> Open {
    find_open(actions).unwrap_or_else(|| panic!("no opening in {actions:?}"))
}

fn granted(actions: &[Action]) -> Credit {
    let credit = actions.iter().find_map(|action| match action {
        Action::Grant(credit) => Some(*credit),
        _ => None,
    });
    credit.unwrap_or_else(|| panic!("no credit in {actions:?}"))
}

fn writes(actions: &[Action]) -> Vec<(u64, usize)> {
    let write = |action: &Action| match action {
        Action::Write { offset, payload } => Some((*offset, payload.len())),
        _ => None,
    };
    actions.iter().filter_map(write).collect()
}

#[test]
fn nothing_is_asked_of_a_device_that_is_away() {
    let mut bench = Bench::new(END, START);
    assert_eq!(bench.engine.next_deadline(), None);
    assert_eq!(bench.handle(Event::Tick), []);
    let open = opened(&bench.online(CONNECTION, BOOT));
    assert_eq!((open.start, open.from, open.end), (START, START, END));
    assert_eq!(open.credit_limit, START + FIRST_WINDOW_BYTES);
    assert_eq!(bench.handle(Event::Offline), []);
    assert_eq!(bench.engine.next_deadline(), None);
}

#[test]
fn opening_is_repeated_with_back_off_until_it_is_accepted() {
    let mut bench = Bench::new(END, START);
    let first = opened(&bench.online(CONNECTION, BOOT));
    for expected_ms in [1000, 2000, 4000, 8000, 10_000, 10_000] {
        let (passed, actions) = bench.until_deadline();
        assert_eq!((passed, opened(&actions)), (expected_ms, first.clone()));
    }
    let credit = granted(&bench.handle(Event::Accepted { transfer: first.transfer }));
    assert_eq!((credit.sequence, credit.limit), (1, first.credit_limit));
    assert_eq!(bench.engine.counters().openings, 1);
}

#[test]
fn credit_is_repeated_each_second() {
    let (mut bench, open) = Bench::flowing(END);
    for sequence in 2..5 {
        let (passed, actions) = bench.until_deadline();
        let credit = granted(&actions);
        assert_eq!((passed, credit.sequence), (1000, sequence));
        assert_eq!((credit.limit, credit.time), (open.credit_limit, bench.now.0));
    }
}

#[test]
fn data_is_written_in_order_and_earns_credit() {
    let (mut bench, open) = Bench::flowing(END);
    let chunk = open.chunk_bytes;
    let actions = bench.data(open.transfer, START, chunk as usize);
    assert_eq!(writes(&actions), [(START, chunk as usize)]);
    let credit = granted(&actions);
    assert_eq!(credit.limit, open.credit_limit + u64::from(chunk));
    assert_eq!(credit.durable, START);
}

#[test]
fn data_counts_as_accepted_where_the_answer_was_lost() {
    let mut bench = Bench::new(END, START);
    let open = opened(&bench.online(CONNECTION, BOOT));
    let actions = bench.data(open.transfer, START, 1000);
    assert_eq!(writes(&actions), [(START, 1000)]);
    assert_eq!(granted(&actions).sequence, 1);
    let (_, actions) = bench.until_deadline();
    assert_eq!(find_open(&actions), None);
}

#[test]
fn repeated_bytes_are_trimmed_and_counted() {
    let (mut bench, open) = Bench::flowing(END);
    bench.data(open.transfer, START, 1000);
    assert_eq!(bench.data(open.transfer, START, 1000), []);
    assert_eq!(writes(&bench.data(open.transfer, START + 400, 1000)), [(START + 1000, 400)]);
    let counters = bench.engine.counters();
    assert_eq!((counters.received_bytes, counters.discarded_bytes), (3000, 1600));
}

#[test]
fn hole_opens_again_under_a_new_id_from_the_last_byte_written() {
    let (mut bench, open) = Bench::flowing(END);
    bench.data(open.transfer, START, 1000);
    let again = opened(&bench.data(open.transfer, START + 2000, 1000));
    assert_ne!(again.transfer, open.transfer);
    assert_eq!((again.start, again.from), (START, START + 1000));
    assert_eq!(bench.data(open.transfer, START + 1000, 1000), []);
    let counters = bench.engine.counters();
    assert_eq!((counters.holes, counters.late_chunks, counters.discarded_bytes), (1, 1, 2000));
}

#[test]
fn chunks_past_the_credit_or_without_bytes_are_dropped() {
    let (mut bench, open) = Bench::flowing(END);
    assert_eq!(bench.data(open.transfer, START, 0), []);
    assert_eq!(bench.data(open.transfer, open.credit_limit - 10, 11), []);
    assert_eq!(bench.data(open.transfer, u64::MAX, 11), []);
    assert_eq!(bench.engine.counters().bad_chunks, 3);
}

#[test]
fn silence_with_credit_open_opens_again_and_then_backs_off() {
    let (mut bench, first) = Bench::flowing(END);
    bench.data(first.transfer, START, 1000);
    let (passed, second) = bench.until_opened();
    assert_eq!((passed, second.from), (5000, START + 1000));
    assert_ne!(second.transfer, first.transfer);
    for back_off_ms in [1000, 2000, 4000, 8000, 10_000] {
        let transfer = bench.transfer();
        bench.handle(Event::Accepted { transfer });
        assert_eq!(bench.until_opened().0, 5000 + back_off_ms);
    }
    assert_eq!(bench.engine.counters().stalls, 6);
    // A byte makes up for all of it: the next opening does not wait.
    let transfer = bench.transfer();
    bench.data(transfer, START + 1000, 1000);
    opened(&bench.data(transfer, START + 3000, 1000));
}

#[test]
fn device_that_says_it_is_still_hashing_is_waited_for() {
    let (mut bench, open) = Bench::flowing(END);
    for _ in 0..30 {
        bench.until_deadline();
        bench.handle(Event::Accepted { transfer: open.transfer });
    }
    assert_eq!(bench.engine.counters().openings, 1);
}

#[test]
fn device_is_not_slow_while_the_disk_is() {
    let (mut bench, open) = Bench::flowing(END);
    let mut limit = open.credit_limit;
    let mut next = START;
    while next < limit {
        let length = u64::from(open.chunk_bytes).min(limit - next);
        for action in bench.data(open.transfer, next, length as usize) {
            match action {
                Action::Grant(credit) => limit = credit.limit,
                Action::Sync | Action::Write { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        next += length;
    }
    assert_eq!(limit, START + MAX_UNSYNCED_BYTES);
    for _ in 0..60 {
        let (passed, actions) = bench.until_deadline();
        assert_eq!((passed, granted(&actions).limit), (1000, limit));
    }
    let actions = bench.handle(Event::Durable { upto: START + (4 << 20) });
    assert!(granted(&actions).limit > limit);
    assert_eq!(granted(&actions).durable, START + (4 << 20));
    assert_eq!(bench.until_opened().0, 5000);
}

#[test]
fn bytes_are_made_durable_by_the_mebibyte_and_when_nothing_follows() {
    let (mut bench, open) = Bench::flowing(END);
    let chunk = u64::from(open.chunk_bytes);
    let per_sync = MIN_SYNC_BYTES / chunk;
    for number in 0..per_sync - 1 {
        let actions = bench.data(open.transfer, START + number * chunk, chunk as usize);
        assert!(!actions.contains(&Action::Sync), "after {number} chunks");
    }
    let mut next = START + (per_sync - 1) * chunk;
    assert!(bench.data(open.transfer, next, chunk as usize).contains(&Action::Sync));
    next += chunk;
    assert!(!bench.data(open.transfer, next, chunk as usize).contains(&Action::Sync));
    let checkpoint = START + MIN_SYNC_BYTES;
    bench.handle(Event::Durable { upto: checkpoint });
    assert_eq!(bench.engine.durable(), checkpoint);
    let (passed, actions) = bench.until_deadline();
    assert_eq!((passed, actions.last()), (1000, Some(&Action::Sync)));
}

#[test]
fn part_is_complete_once_its_last_byte_is_durable() {
    let (mut bench, open) = Bench::flowing(START + 1500);
    assert_eq!(open.credit_limit, START + 1500);
    bench.data(open.transfer, START, 1000);
    let digest = DIGEST;
    assert_eq!(bench.handle(Event::End { transfer: open.transfer, digest }), []);
    let actions = bench.data(open.transfer, START + 1000, 500);
    let payload = Bytes::from(vec![0; 500]);
    assert_eq!(actions, [Action::Write { offset: START + 1000, payload }, Action::Sync]);
    assert_eq!(bench.engine.next_deadline(), None);
    assert_eq!(bench.refused(open.transfer, RefusedReason::UnknownTransfer), []);
    assert_eq!(bench.handle(Event::Offline), []);
    let done = Action::Done(Outcome::Complete { device_digest: digest });
    assert_eq!(bench.handle(Event::Durable { upto: START + 1500 }), [done]);
    assert_eq!(bench.handle(Event::Tick), []);
}

#[test]
fn lost_end_is_asked_for_again_without_any_bytes() {
    let (mut bench, open) = Bench::flowing(START + 1000);
    bench.data(open.transfer, START, 1000);
    bench.handle(Event::Durable { upto: START + 1000 });
    let (_, again) = bench.until_opened();
    assert_eq!((again.start, again.from, again.end), (START, START + 1000, START + 1000));
    let digest = DIGEST;
    let actions = bench.handle(Event::End { transfer: again.transfer, digest });
    let done = Action::Done(Outcome::Complete { device_digest: digest });
    assert_eq!(actions.last(), Some(&done));
}

#[test]
fn a_last_chunk_that_was_lost_is_fetched_however_often_the_device_says_that_it_has_sent_all() {
    let (mut bench, open) = Bench::flowing(START + 1000);
    bench.data(open.transfer, START, 600);
    let mut openings = 0;
    for _ in 0..8 {
        let actions = bench.handle(Event::End { transfer: open.transfer, digest: DIGEST });
        openings += usize::from(find_open(&actions).is_some());
        bench.now = bench.now.after(Duration::from_secs(1));
        let actions = bench.handle(Event::Tick);
        openings += usize::from(find_open(&actions).is_some());
    }
    assert!(openings > 0);
}

#[test]
fn other_connection_or_boot_opens_again_and_a_repeat_does_not() {
    let (mut bench, open) = Bench::flowing(END);
    bench.data(open.transfer, START, 1000);
    assert_eq!(bench.online(CONNECTION, BOOT), []);
    let again = opened(&bench.online(ConnectionId(8), BOOT));
    assert_eq!(again.from, START + 1000);
    let again = opened(&bench.online(ConnectionId(8), BootId([2; 16])));
    assert_eq!(again.from, START + 1000);
    bench.handle(Event::Offline);
    opened(&bench.online(ConnectionId(8), BootId([2; 16])));
    assert_eq!(bench.engine.counters().openings, 4);
}

#[test]
fn restarted_server_goes_on_from_what_was_durable() {
    let mut bench = Bench::new(END, START + 5000);
    let open = opened(&bench.online(CONNECTION, BOOT));
    assert_eq!((open.start, open.from), (START, START + 5000));
}

#[test]
fn refusals_that_last_end_the_transfer_with_what_was_written_durable() {
    let table = [
        (RefusedReason::Gone, Failure::Gone),
        (RefusedReason::Changed, Failure::Changed),
        (RefusedReason::Forbidden, Failure::Forbidden),
        (RefusedReason::Malformed, Failure::Malformed),
        (RefusedReason::Altered { intact: 7 }, Failure::Altered { intact: 7 }),
    ];
    for (reason, failure) in table {
        let (mut bench, open) = Bench::flowing(END);
        bench.data(open.transfer, START, 1000);
        assert_eq!(bench.refused(TransferId(0), reason), []);
        assert_eq!(bench.refused(open.transfer, reason), [Action::Sync]);
        let done = Action::Done(Outcome::Failed(failure));
        assert_eq!(bench.handle(Event::Durable { upto: START + 1000 }), [done]);
        assert_eq!(bench.engine.durable(), START + 1000);
    }
}

#[test]
fn unknown_transfer_opens_again_at_once() {
    let (mut bench, open) = Bench::flowing(END);
    let again = opened(&bench.refused(open.transfer, RefusedReason::UnknownTransfer));
    assert_ne!(again.transfer, open.transfer);
}

#[test]
fn busy_device_is_asked_again_later_for_as_long_as_it_takes() {
    let mut bench = Bench::new(END, START);
    let mut open = opened(&bench.online(CONNECTION, BOOT));
    for expected_ms in [1000, 2000, 4000, 8000, 10_000, 10_000, 10_000] {
        assert_eq!(bench.refused(open.transfer, RefusedReason::Busy), []);
        let (passed, again) = bench.until_opened();
        assert_eq!(passed, expected_ms);
        open = again;
    }
}

#[test]
fn card_errors_in_a_row_end_the_transfer() {
    let mut bench = Bench::new(END, START);
    let mut open = opened(&bench.online(CONNECTION, BOOT));
    for _ in 1..CARD_ERROR_BUDGET {
        bench.refused(open.transfer, RefusedReason::CardError);
        open = bench.until_opened().1;
    }
    bench.data(open.transfer, START, 1000);
    bench.handle(Event::Durable { upto: START + 1000 });
    for _ in 1..CARD_ERROR_BUDGET {
        bench.refused(open.transfer, RefusedReason::CardError);
        open = bench.until_opened().1;
    }
    let actions = bench.refused(open.transfer, RefusedReason::CardError);
    assert_eq!(actions.last(), Some(&Action::Done(Outcome::Failed(Failure::CardError))));
}

#[test]
fn cancelling_tells_the_device_and_keeps_what_was_written() {
    let (mut bench, open) = Bench::flowing(END);
    bench.data(open.transfer, START, 1000);
    let cancel = Action::Ask(AskBody::Cancel { transfer: open.transfer });
    assert_eq!(bench.handle(Event::Cancel), [cancel, Action::Sync]);
    assert_eq!(bench.data(open.transfer, START + 1000, 1000), []);
    let actions = bench.handle(Event::Durable { upto: START + 1000 });
    assert_eq!(actions, [Action::Done(Outcome::Cancelled)]);
}

#[test]
fn failed_write_ends_the_transfer_on_both_sides() {
    let (mut bench, open) = Bench::flowing(END);
    bench.data(open.transfer, START, 1000);
    let cancel = Action::Ask(AskBody::Cancel { transfer: open.transfer });
    let done = Action::Done(Outcome::Failed(Failure::Spool));
    assert_eq!(bench.handle(Event::WriteFailed), [cancel, done]);
    assert_eq!(bench.handle(Event::Durable { upto: START + 1000 }), []);
}

#[test]
fn share_of_the_broker_bounds_the_credit() {
    let mut bench = Bench::new(END, START);
    bench.handle(Event::Share { chunks: 1 });
    let open = opened(&bench.online(CONNECTION, BOOT));
    assert_eq!(open.credit_limit, START + u64::from(open.chunk_bytes));
}
