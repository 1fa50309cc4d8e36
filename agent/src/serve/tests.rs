//! Each rule of a transfer by itself, then all of them under random orders.

use protocol::message::{SealCheck, ServerId};

use super::*;

const LIMITS: DeviceLimits =
    DeviceLimits { max_chunk_bytes: 1_000, max_open_transfers: 2, max_bytes_per_second: 0 };
const DIGEST: PartDigest = PartDigest { blake3: [7; 32], seal: SealCheck::Unknown };

fn server() -> ServerId {
    "depot".parse().unwrap()
}

/// The part `[100, 5_100)`, to be sent whole, with credit for all of it.
fn open(transfer: u64) -> Open {
    Open {
        transfer: TransferId(transfer),
        segment: SegmentId(transfer),
        version: SegmentVersion { size_bytes: 6_000, fingerprint: 1 },
        start: 100,
        end: 5_100,
        from: 100,
        credit_limit: u64::MAX,
        chunk_bytes: 1_000,
        rate_bytes_per_second: 0,
        priority: 0,
    }
}

fn credit(transfer: u64, sequence: u32, limit: u64) -> Credit {
    Credit {
        transfer: TransferId(transfer),
        sequence,
        limit,
        durable: 0,
        chunk_bytes: 1_000,
        rate_bytes_per_second: 0,
        time: u64::from(sequence) + 40,
    }
}

struct Bench {
    serve: Serve,
    now: BootMillis,
}

impl Bench {
    fn new() -> Self {
        Bench { serve: Serve::new(LIMITS, BootMillis(0)), now: BootMillis(0) }
    }

    fn event(&mut self, event: Event) -> Vec<Action> {
        self.serve.handle(self.now, event)
    }

    fn open(&mut self, open: Open) -> Vec<Action> {
        self.event(Event::Open { server: server(), open })
    }

    /// Answers the read among `actions` as a healthy card would.
    fn card(&mut self, actions: &[Action]) -> Vec<Action> {
        let (handle, length_bytes, keep, part) = read_of(actions).expect("a read was asked for");
        let position = self.position(handle).unwrap_or(part.start);
        let digest = (position + length_bytes == part.end).then_some(DIGEST);
        let frame = keep.then(|| vec![0; length_bytes as usize]);
        self.event(Event::Read { handle, outcome: Ok(PartRead { length_bytes, frame, digest }) })
    }

    fn position(&self, handle: PartHandle) -> Option<u64> {
        self.serve.transfers.iter().find(|t| t.handle == handle).map(|t| t.position)
    }

    fn after(&mut self, ms: u64) -> Vec<Action> {
        self.now.0 += ms;
        self.event(Event::Tick)
    }
}

fn read_of(actions: &[Action]) -> Option<(PartHandle, u64, bool, PartBytes)> {
    actions.iter().find_map(|action| match *action {
        Action::Read { handle, part, length_bytes, keep } => {
            Some((handle, length_bytes, keep, part))
        }
        _ => None,
    })
}

fn sent_of(actions: &[Action]) -> Option<(u64, u64, usize, u64)> {
    actions.iter().find_map(|action| match action {
        Action::Send { chunk, .. } => {
            Some((chunk.transfer.0, chunk.offset, chunk.frame.len(), chunk.echo))
        }
        _ => None,
    })
}

fn told_of(actions: &[Action]) -> Vec<Tell> {
    let told = |action: &Action| match action {
        Action::Tell { tell, .. } => Some(tell.clone()),
        _ => None,
    };
    actions.iter().filter_map(told).collect()
}

fn closed_of(actions: &[Action]) -> Vec<(u64, CloseCause)> {
    let closed = |action: &Action| match action {
        Action::Close { transfer, cause, .. } => Some((transfer.0, *cause)),
        _ => None,
    };
    actions.iter().filter_map(closed).collect()
}

fn refused(transfer: u64, reason: RefusedReason) -> Vec<Tell> {
    vec![Tell::Refused { what: Refusable::Transfer(TransferId(transfer)), reason }]
}

#[test]
fn a_part_is_accepted_read_sent_in_order_and_ended_with_its_digest() {
    let mut bench = Bench::new();
    let mut actions = bench.open(open(1));
    let accepted = Tell::Accepted { transfer: TransferId(1), length_bytes: 5_000 };
    assert_eq!(told_of(&actions), [accepted]);
    for chunk in 0..5 {
        actions = bench.card(&actions);
        assert_eq!(sent_of(&actions), Some((1, 100 + chunk * 1_000, 1_000, 0)));
        let next = bench.event(Event::ChunkSent);
        if chunk == 4 {
            assert_eq!(told_of(&next), [Tell::End { transfer: TransferId(1), digest: DIGEST }]);
            assert_eq!(closed_of(&next), [(1, CloseCause::Ended)]);
        }
    }
}

#[test]
fn one_chunk_is_read_ahead_while_one_is_being_sent_and_no_more() {
    let mut bench = Bench::new();
    let first = bench.open(open(1));
    let second = bench.card(&first);
    assert!(sent_of(&second).is_some() && read_of(&second).is_some());
    let third = bench.card(&second);
    assert_eq!((sent_of(&third), read_of(&third)), (None, None));
    let fourth = bench.event(Event::ChunkSent);
    assert_eq!(sent_of(&fourth).map(|sent| sent.1), Some(1_100));
    assert!(read_of(&fourth).is_some());
}

#[test]
fn nothing_is_read_or_sent_beyond_the_credit() {
    let mut bench = Bench::new();
    let actions = bench.open(Open { credit_limit: 1_300, ..open(1) });
    let actions = bench.card(&actions);
    assert_eq!(sent_of(&actions), Some((1, 100, 1_000, 0)));
    let actions = bench.card(&actions);
    assert_eq!(read_of(&actions), None);
    let actions = bench.event(Event::ChunkSent);
    assert_eq!(sent_of(&actions), Some((1, 1_100, 200, 0)));
    assert_eq!(read_of(&bench.event(Event::ChunkSent)), None);
    let actions = bench.event(Event::Credit(credit(1, 1, 1_400)));
    assert_eq!(read_of(&actions).map(|read| read.1), Some(100));
}

#[test]
fn a_chunk_echoes_the_time_of_the_last_credit_that_was_not_stale() {
    let mut bench = Bench::new();
    let actions = bench.open(Open { credit_limit: 0, ..open(1) });
    assert_eq!(read_of(&actions), None);
    let actions = bench.event(Event::Credit(credit(1, 5, 1_100)));
    assert_eq!(read_of(&bench.event(Event::Credit(credit(1, 5, 9_000)))), None);
    assert_eq!(read_of(&bench.event(Event::Credit(credit(1, 4, 9_000)))), None);
    assert_eq!(sent_of(&bench.card(&actions)), Some((1, 100, 1_000, 45)));
    assert_eq!(read_of(&bench.after(0)), None, "a stale credit granted something");
}

#[test]
fn a_chunk_is_never_larger_than_asked_nor_than_the_device_allows() {
    let mut bench = Bench::new();
    let actions = bench.open(Open { chunk_bytes: 10_000, ..open(1) });
    assert_eq!(read_of(&actions).map(|read| read.1), Some(1_000));
    bench.event(Event::Credit(Credit { chunk_bytes: 300, ..credit(1, 1, u64::MAX) }));
    let actions = bench.card(&actions);
    assert_eq!(read_of(&actions).map(|read| read.1), Some(300));
}

#[test]
fn a_resumed_part_is_hashed_up_to_where_it_is_sent_from() {
    let mut bench = Bench::new();
    let size = 2 * HASH_SLICE_BYTES;
    let version = SegmentVersion { size_bytes: size, fingerprint: 1 };
    let actions = bench.open(Open { version, start: 0, end: size, from: size - 500, ..open(1) });
    let accepted = Tell::Accepted { transfer: TransferId(1), length_bytes: 500 };
    assert_eq!(told_of(&actions), std::slice::from_ref(&accepted));
    let (_, length, keep, _) = read_of(&actions).unwrap();
    assert_eq!((length, keep), (HASH_SLICE_BYTES, false));
    bench.after(999);
    assert_eq!(told_of(&bench.after(1)), [accepted]);
    let actions = bench.card(&actions);
    let (_, length, keep, _) = read_of(&actions).unwrap();
    assert_eq!((length, keep), (HASH_SLICE_BYTES - 500, false));
    let actions = bench.card(&actions);
    assert_eq!(sent_of(&bench.card(&actions)), Some((1, size - 500, 500, 0)));
    assert_eq!(told_of(&bench.after(1_000)), []);
    let told = told_of(&bench.event(Event::ChunkSent));
    assert_eq!(told, [Tell::End { transfer: TransferId(1), digest: DIGEST }]);
}

#[test]
fn a_part_that_the_server_holds_whole_is_hashed_and_ended_without_data() {
    let mut bench = Bench::new();
    let actions = bench.open(Open { from: 5_100, credit_limit: 0, ..open(1) });
    let told = told_of(&bench.card(&actions));
    assert_eq!(told, [Tell::End { transfer: TransferId(1), digest: DIGEST }]);
}

#[test]
fn an_end_is_said_again_while_credit_still_comes() {
    let mut bench = Bench::new();
    let actions = bench.open(Open { from: 5_100, ..open(1) });
    let end = told_of(&bench.card(&actions));
    assert_eq!(told_of(&bench.event(Event::Credit(credit(1, 1, 0)))), []);
    bench.after(1_000);
    assert_eq!(told_of(&bench.event(Event::Credit(credit(1, 2, 0)))), end);
    assert_eq!(told_of(&bench.open(open(1)))[1..], end);
}

#[test]
fn the_higher_priority_goes_first_and_the_lower_one_uses_what_it_leaves() {
    let mut bench = Bench::new();
    let actions = bench.open(open(1));
    bench.open(Open { priority: 9, credit_limit: 1_100, ..open(2) });
    let actions = bench.card(&actions);
    assert_eq!(sent_of(&actions).map(|sent| sent.0), Some(1));
    let actions = bench.card(&actions);
    let actions = [actions, bench.event(Event::ChunkSent)].concat();
    assert_eq!(sent_of(&actions).map(|sent| sent.0), Some(2));
    let actions = bench.card(&actions);
    let actions = [actions, bench.event(Event::ChunkSent)].concat();
    assert_eq!(sent_of(&actions).map(|sent| (sent.0, sent.1)), Some((1, 1_100)));
}

#[test]
fn more_transfers_than_allowed_are_refused_as_busy_until_one_ends() {
    let mut bench = Bench::new();
    let actions = bench.open(Open { from: 5_100, ..open(1) });
    bench.open(open(2));
    assert_eq!(told_of(&bench.open(open(3))), refused(3, RefusedReason::Busy));
    bench.card(&actions);
    assert!(matches!(told_of(&bench.open(open(3)))[..], [Tell::Accepted { .. }]));
}

#[test]
fn a_newer_open_of_the_same_part_supersedes_even_when_busy() {
    let mut bench = Bench::new();
    bench.open(open(1));
    bench.open(open(2));
    let actions = bench.open(Open { transfer: TransferId(3), ..open(2) });
    assert_eq!(closed_of(&actions), [(2, CloseCause::Superseded)]);
    assert!(matches!(told_of(&actions)[..], [Tell::Accepted { .. }]));
}

#[test]
fn opening_the_same_transfer_again_only_repeats_the_answer() {
    let mut bench = Bench::new();
    let first = bench.open(open(1));
    let again = bench.open(open(1));
    assert_eq!(told_of(&first), told_of(&again));
    assert_eq!(read_of(&again), None);
}

#[test]
fn an_open_that_makes_no_sense_is_refused_as_malformed() {
    let cases = [
        Open { end: 100, ..open(1) },
        Open { start: 200, end: 100, ..open(1) },
        Open { end: 6_001, ..open(1) },
        Open { from: 99, ..open(1) },
        Open { from: 5_101, ..open(1) },
        Open { chunk_bytes: 0, ..open(1) },
    ];
    for case in cases {
        let told = told_of(&Bench::new().open(case.clone()));
        assert_eq!(told, refused(1, RefusedReason::Malformed), "{case:?}");
    }
}

#[test]
fn a_part_that_cannot_be_read_is_refused_with_the_reason() {
    for reason in [RefusedReason::Gone, RefusedReason::Changed, RefusedReason::CardError] {
        let mut bench = Bench::new();
        let (handle, ..) = read_of(&bench.open(open(1))).unwrap();
        let actions = bench.event(Event::Read { handle, outcome: Err(reason) });
        assert_eq!(told_of(&actions), refused(1, reason));
        assert_eq!(closed_of(&actions), [(1, CloseCause::Unreadable)]);
    }
}

#[test]
fn a_transfer_without_credit_for_thirty_seconds_is_dropped() {
    let mut bench = Bench::new();
    bench.open(open(1));
    bench.after(29_000);
    bench.event(Event::Credit(credit(1, 1, 0)));
    assert_eq!(closed_of(&bench.after(29_999)), []);
    assert_eq!(bench.serve.deadline(), Some(BootMillis(59_000)));
    assert_eq!(closed_of(&bench.after(1)), [(1, CloseCause::Silent)]);
    assert_eq!(bench.serve.deadline(), None);
}

#[test]
fn credit_for_an_unknown_transfer_is_refused_to_known_servers_at_a_limited_rate() {
    let mut bench = Bench::new();
    assert_eq!(told_of(&bench.event(Event::Credit(credit(9, 1, 0)))), [], "nobody to tell yet");
    bench.open(open(1));
    bench.after(1_000);
    let unknown = |bench: &mut Bench| told_of(&bench.event(Event::Credit(credit(9, 1, 0))));
    assert_eq!(unknown(&mut bench), refused(9, RefusedReason::UnknownTransfer));
    let refusals: usize = (0..1_000).map(|_| unknown(&mut bench).len()).sum();
    assert!(refusals <= MAX_UNKNOWN_PER_SECOND as usize, "{refusals}");
}

#[test]
fn cancel_is_idempotent_and_a_late_read_of_it_harms_nobody() {
    let mut bench = Bench::new();
    let actions = bench.open(open(1));
    let (handle, ..) = read_of(&actions).unwrap();
    let cancel = Event::Cancel { transfer: TransferId(1) };
    assert_eq!(closed_of(&bench.event(cancel.clone())), [(1, CloseCause::Cancelled)]);
    assert_eq!(bench.event(cancel), []);
    assert_eq!(read_of(&bench.open(open(1))), None, "the card answers one read after the other");
    let late = PartRead { length_bytes: 1_000, frame: Some(vec![0; 1_000]), digest: None };
    let actions = bench.event(Event::Read { handle, outcome: Ok(late) });
    assert_eq!(sent_of(&actions), None);
    assert_eq!(read_of(&actions).map(|read| read.0 != handle), Some(true));
}

#[test]
fn a_lost_link_drops_every_transfer() {
    let mut bench = Bench::new();
    let actions = bench.open(open(1));
    bench.card(&actions);
    bench.open(open(2));
    let actions = bench.event(Event::LinkLost);
    assert_eq!(closed_of(&actions), [(1, CloseCause::LinkLost), (2, CloseCause::LinkLost)]);
    assert_eq!(bench.serve.deadline(), None);
}

#[test]
fn a_rate_holds_the_next_chunk_back_until_its_deadline() {
    let mut bench = Bench::new();
    let actions = bench.open(Open { rate_bytes_per_second: 1_000, ..open(1) });
    let actions = bench.card(&actions);
    assert!(sent_of(&actions).is_some(), "the first chunk is lent");
    bench.card(&actions);
    assert_eq!(sent_of(&bench.event(Event::ChunkSent)), None);
    let due = bench.serve.deadline().unwrap();
    assert_eq!(due, BootMillis(751), "250 saved up, 1,000 lent");
    assert!(sent_of(&bench.after(due.0)).is_some());
}

mod random_orders {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Open { transfer: u64, from: u64, limit: u64, chunk: u32, rate: u64, priority: u8 },
        Credit { transfer: u64, sequence: u32, limit: u64 },
        Cancel { transfer: u64 },
        CardAnswers { fails: bool },
        LinkTakesChunk,
        Wait { ms: u64 },
        LinkLost,
    }

    fn step() -> impl Strategy<Value = Step> {
        let transfer = 0..6_u64;
        prop_oneof![
            3 => (transfer.clone(), 100..=5_100_u64, 0..6_000_u64, 1..2_000_u32, 0..3_u64, 0..3_u8)
                .prop_map(|(transfer, from, limit, chunk, rate, priority)| Step::Open {
                    transfer, from, limit, chunk, rate: rate * 5_000, priority,
                }),
            4 => (transfer.clone(), 0..40_u32, 0..6_000_u64)
                .prop_map(|(transfer, sequence, limit)| Step::Credit { transfer, sequence, limit }),
            1 => transfer.prop_map(|transfer| Step::Cancel { transfer }),
            8 => (0..30_u8).prop_map(|dice| Step::CardAnswers { fails: dice == 0 }),
            8 => Just(Step::LinkTakesChunk),
            2 => (0..2_000_u64).prop_map(|ms| Step::Wait { ms }),
            1 => Just(Step::LinkLost),
        ]
    }

    /// What an observer on both sides knows, from the actions alone.
    #[derive(Default)]
    struct Observer {
        positions: BTreeMap<PartHandle, u64>,
        granted: BTreeMap<u64, u64>,
        expected_offset: BTreeMap<u64, u64>,
        reading: Option<(PartHandle, PartBytes, u64, bool)>,
        sending: bool,
    }

    impl Observer {
        fn observe(&mut self, actions: &[Action]) {
            for action in actions {
                match action {
                    Action::Read { handle, part, length_bytes, keep } => {
                        assert!(self.reading.is_none(), "two reads at once");
                        assert!(*length_bytes > 0);
                        self.positions.entry(*handle).or_insert(part.start);
                        self.reading = Some((*handle, *part, *length_bytes, *keep));
                    }
                    Action::Send { chunk, .. } => {
                        assert!(!self.sending, "two chunks at once");
                        self.sending = true;
                        assert!(chunk.frame.len() <= LIMITS.max_chunk_bytes as usize);
                        let end = chunk.offset + chunk.length_bytes;
                        assert!(end <= self.granted[&chunk.transfer.0], "beyond the credit");
                        let expected = self.expected_offset.get_mut(&chunk.transfer.0).unwrap();
                        assert_eq!(chunk.offset, *expected, "a hole, or bytes sent twice");
                        *expected = end;
                        let content = (chunk.offset..end).map(|offset| offset as u8);
                        assert!(chunk.frame.iter().copied().eq(content));
                    }
                    Action::Tell { tell: Tell::End { transfer, .. }, .. } => {
                        assert_eq!(
                            self.expected_offset[&transfer.0], 5_100,
                            "ended before its end"
                        );
                    }
                    Action::Close { handle, .. } => {
                        self.positions.remove(handle);
                    }
                    Action::Tell { .. } => {}
                }
            }
        }

        fn answer(&mut self, fails: bool) -> Option<Event> {
            let (handle, part, length_bytes, keep) = self.reading.take()?;
            let outcome = if fails {
                Err(RefusedReason::CardError)
            } else {
                let position = self.positions.get_mut(&handle);
                let start = position.as_ref().map_or(part.start, |position| **position);
                let end = start + length_bytes;
                assert!(end <= part.end, "read beyond the part");
                if let Some(position) = position {
                    *position = end;
                }
                let frame = keep.then(|| (start..end).map(|offset| offset as u8).collect());
                let digest = (end == part.end).then_some(DIGEST);
                Ok(PartRead { length_bytes, frame, digest })
            };
            Some(Event::Read { handle, outcome })
        }
    }

    proptest! {
        #[test]
        fn no_order_of_events_breaks_a_rule_and_every_transfer_can_end(
            steps in prop::collection::vec(step(), 1..200)
        ) {
            let mut observer = Observer::default();
            let mut serve = Serve::new(LIMITS, BootMillis(0));
            let mut now = BootMillis(0);
            let mut epoch = 0;
            for step in steps {
                let event = match step {
                    Step::Open { transfer, from, limit, chunk, rate, priority } => {
                        let id = epoch * 100 + transfer;
                        let known = serve.transfers.iter().any(|t| t.id.0 == id);
                        if !known {
                            observer.granted.insert(id, limit);
                            observer.expected_offset.insert(id, from);
                        }
                        let open = Open {
                            from, credit_limit: limit, chunk_bytes: chunk,
                            rate_bytes_per_second: rate, priority, ..open(id)
                        };
                        Some(Event::Open { server: server(), open })
                    }
                    Step::Credit { transfer, sequence, limit } => {
                        let id = epoch * 100 + transfer;
                        let granted = observer.granted.entry(id).or_default();
                        *granted = limit.max(*granted);
                        Some(Event::Credit(credit(id, sequence, limit)))
                    }
                    Step::Cancel { transfer } => {
                        Some(Event::Cancel { transfer: TransferId(epoch * 100 + transfer) })
                    }
                    Step::CardAnswers { fails } => observer.answer(fails),
                    Step::LinkTakesChunk => {
                        std::mem::take(&mut observer.sending).then_some(Event::ChunkSent)
                    }
                    Step::Wait { ms } => {
                        now.0 += ms;
                        Some(Event::Tick)
                    }
                    Step::LinkLost => {
                        epoch += 1;
                        observer.sending = false;
                        Some(Event::LinkLost)
                    }
                };
                if let Some(event) = event {
                    observer.observe(&serve.handle(now, event));
                }
                let open = serve.transfers.iter().filter(|t| !t.ended).count();
                prop_assert!(open <= LIMITS.max_open_transfers as usize);
                prop_assert!(serve.transfers.len() <= 2 * LIMITS.max_open_transfers as usize);
            }
            let ids: Vec<u64> = serve.transfers.iter().map(|t| t.id.0).collect();
            for id in ids {
                observer.granted.insert(id, u64::MAX);
                let all = Event::Credit(credit(id, 1_000, u64::MAX));
                observer.observe(&serve.handle(now, all));
            }
            while serve.transfers.iter().any(|t| !t.ended) {
                let event = observer.answer(false).or_else(|| {
                    std::mem::take(&mut observer.sending).then_some(Event::ChunkSent)
                });
                let event = event.unwrap_or_else(|| {
                    now = serve.deadline().expect("something waits, so something is due").max(now);
                    Event::Tick
                });
                observer.observe(&serve.handle(now, event));
                let dropped = serve.transfers.iter().any(|t| now.0 >= t.heard_at.0 + SILENCE_MS);
                prop_assert!(!dropped, "a transfer stood still until it was dropped");
            }
        }
    }
}
