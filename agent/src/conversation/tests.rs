//! A device without a card, a broker or a clock: what it says to what happens.

use std::time::Duration;

use protocol::message::{
    Credit, Open, Part, PartDigest, Presence, RequestId, SealCheck, TransferId,
};
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::identity::{SegmentId, SegmentVersion};
use sdcard_indexer::index::StreamView;
use sdcard_indexer::segment::Tier;
use sdcard_indexer::time::{TimeRange, Timestamp};

use super::*;

const LIMITS: DeviceLimits =
    DeviceLimits { max_chunk_bytes: 1_000, max_open_transfers: 4, max_bytes_per_second: 0 };
const FIRST: ConnectionId = ConnectionId(1);
const SECOND: ConnectionId = ConnectionId(2);
/// Of the device's boot, when a test begins.
const BEGIN_MS: u64 = 50_000;

fn device() -> DeviceId {
    "cam-7".parse().unwrap()
}

fn server() -> ServerId {
    "depot".parse().unwrap()
}

fn main_stream() -> StreamId {
    "main".parse().unwrap()
}

fn seconds(from: i64, to: i64) -> TimeRange {
    let at = Timestamp::from_unix_seconds;
    TimeRange::new(at(from), at(to)).unwrap()
}

fn views(held: TimeRange) -> Views {
    let view = StreamView {
        present: true,
        held: held.into(),
        gone: Coverage::new(),
        horizon: Some(held.start()),
        final_until: held.end(),
        tier: Tier::Extent,
        uncertain: Vec::new(),
    };
    [(main_stream(), Standing { view, overwriting: None })].into_iter().collect()
}

/// What was said, as a server hears it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Said {
    Online(Online),
    Coverage { generation: u64, held: Coverage },
    Tell(Tell),
    Data { offset: u64, length: usize },
}

/// A core with a client that takes everything at once, unless told otherwise.
struct Bench {
    conversation: Conversation,
    now_ms: u64,
    client_is_stuck: bool,
}

impl Bench {
    fn new() -> Self {
        Bench::with(Permit::default())
    }

    fn with(permit: Permit) -> Self {
        let profile = Profile {
            device: device(),
            boot: BootId([7; 16]),
            agent_version: "1.2.3".to_owned(),
            limits: LIMITS,
            permit,
            streams: vec![main_stream()],
        };
        let conversation = Conversation::new(profile, BootMillis(BEGIN_MS));
        Bench { conversation, now_ms: BEGIN_MS, client_is_stuck: false }
    }

    /// After the first `Online`, which is taken note of.
    fn connected() -> Self {
        let mut bench = Bench::new();
        bench.happens(Event::Connected { connection: FIRST });
        bench
    }

    fn clock(&self) -> ClockSample {
        let realtime = Timestamp::UNIX_EPOCH.saturating_add(Duration::from_millis(self.now_ms));
        ClockSample { realtime, boottime: BootMillis(self.now_ms) }
    }

    /// Carries out all that follows but what is asked of the card.
    fn happens(&mut self, event: Event<'_>) -> Vec<Action> {
        let mut undone: std::collections::VecDeque<Action> =
            self.conversation.handle(self.clock(), event).into();
        let mut done = Vec::new();
        while let Some(action) = undone.pop_front() {
            let answer = match &action {
                Action::Subscribe(_) | Action::Publish { .. } => Event::ControlSent,
                Action::SendChunk { .. } => Event::ChunkSent,
                Action::LookAtNetwork => Event::Network(network()),
                Action::Ask { .. }
                | Action::Read { .. }
                | Action::Close { .. }
                | Action::LearnTime(_)
                | Action::Note(_) => Event::Tick,
            };
            let sent = matches!(answer, Event::ControlSent | Event::ChunkSent);
            if !(sent && self.client_is_stuck) {
                undone.extend(self.conversation.handle(self.clock(), answer));
            }
            done.push(action);
        }
        done
    }

    fn hears_on<M: Message>(&mut self, topic: &str, message: &M) -> Vec<Action> {
        let payload = envelope::encode(message).unwrap();
        self.happens(Event::Message { topic, payload: &payload })
    }

    fn is_asked(&mut self, body: AskBody) -> Vec<Action> {
        let expires = BootMillis(self.now_ms + 1_000);
        let ask = Ask { server: server(), connection: FIRST, expires, body };
        self.hears_on("gapless/1/cam-7/ask", &ask)
    }

    fn is_asked_for_parts(&mut self, request: u64) -> Vec<Action> {
        self.is_asked(locate(request, "main", seconds(0, 10)))
    }

    fn is_answered(&mut self, request: u64, outcome: Result<Answer, RefusedReason>) -> Vec<Said> {
        let asker = asker(request);
        said(&self.happens(Event::Answered { asker, outcome }))
    }

    fn after(&mut self, ms: u64) -> Vec<Action> {
        self.now_ms += ms;
        self.happens(Event::Tick)
    }
}

fn network() -> Network {
    Network { link: "wifi".to_owned(), address: Some([192, 0, 2, 7].into()) }
}

fn asker(request: u64) -> Asker {
    Asker { server: server(), connection: FIRST, request: RequestId(request) }
}

fn locate(request: u64, stream: &str, range: TimeRange) -> AskBody {
    AskBody::Locate { request: RequestId(request), stream: stream.parse().unwrap(), range }
}

fn open(transfer: u64) -> Open {
    Open {
        transfer: TransferId(transfer),
        segment: SegmentId(9),
        version: SegmentVersion { size_bytes: 6_000, fingerprint: 1 },
        start: 0,
        end: 1_500,
        from: 0,
        credit_limit: 6_000,
        chunk_bytes: 1_000,
        rate_bytes_per_second: 0,
        priority: 0,
    }
}

fn part() -> Part {
    Part {
        segment: SegmentId(9),
        version: SegmentVersion { size_bytes: 6_000, fingerprint: 1 },
        start: 0,
        end: 1_500,
        range: seconds(0, 10),
        uncertainty_ns: 0,
        media: vec![1, 2, 3],
    }
}

fn said(actions: &[Action]) -> Vec<Said> {
    let understood = |action: &Action| match action {
        Action::Publish { topic: Topic::State(_), payload } => {
            match envelope::decode(payload).unwrap() {
                Presence::Online(online) => Some(Said::Online(online)),
                Presence::Offline { .. } => panic!("the core says goodbye only when asked to"),
            }
        }
        Action::Publish { topic: Topic::Coverage(_), payload } => {
            let report: protocol::message::CoverageReport = envelope::decode(payload).unwrap();
            Some(Said::Coverage { generation: report.generation, held: report.held })
        }
        Action::Publish { topic: Topic::Tell(to, server_id), payload } => {
            assert_eq!((to, server_id), (&device(), &server()));
            Some(Said::Tell(envelope::decode(payload).unwrap()))
        }
        Action::Publish { topic, .. } => panic!("{topic} is not the device's to speak on"),
        Action::SendChunk { topic, frame } => {
            assert_eq!(*topic, Topic::Data(device(), server()));
            let data = frame::Data::decode(frame).unwrap();
            Some(Said::Data { offset: data.offset, length: data.payload.len() })
        }
        _ => None,
    };
    actions.iter().filter_map(understood).collect()
}

fn onlines(actions: &[Action]) -> usize {
    said(actions).iter().filter(|said| matches!(said, Said::Online(_))).count()
}

fn asked_of_card(actions: &[Action]) -> Vec<(u64, Question)> {
    let asked = |action: &Action| match action {
        Action::Ask { asker, question } => Some((asker.request.0, question.clone())),
        _ => None,
    };
    actions.iter().filter_map(asked).collect()
}

fn facts(actions: &[Action]) -> Vec<&Fact> {
    fn fact(action: &Action) -> Option<&Fact> {
        if let Action::Note(fact) = action { Some(fact) } else { None }
    }
    actions.iter().filter_map(fact).collect()
}

fn refused(request: u64, reason: RefusedReason) -> Said {
    Said::Tell(Tell::Refused { what: Refusable::Request(RequestId(request)), reason })
}

#[test]
fn a_connection_begins_with_a_subscription_online_and_then_coverage() {
    let mut bench = Bench::new();
    assert!(bench.happens(Event::Views(&views(seconds(0, 10)))).is_empty());
    let actions = bench.happens(Event::Connected { connection: FIRST });
    let Action::Subscribe(filters) = &actions[1] else { panic!("{actions:?}") };
    assert_eq!(filters[0], ("gapless/1/cam-7/ask".to_owned(), 1));
    let online = Online {
        connection: FIRST,
        boot: BootId([7; 16]),
        agent_version: "1.2.3".to_owned(),
        limits: LIMITS,
        clock: bench.clock(),
        streams: vec![main_stream()],
        network: network(),
    };
    let coverage = Said::Coverage { generation: 0, held: seconds(0, 10).into() };
    assert_eq!(said(&actions), [Said::Online(online), coverage]);
}

#[test]
fn no_coverage_is_told_of_a_connection_that_nobody_knows_yet() {
    let mut bench = Bench::new();
    bench.conversation.handle(bench.clock(), Event::Views(&views(seconds(0, 10))));
    let connected = Event::Connected { connection: FIRST };
    let actions = bench.conversation.handle(bench.clock(), connected);
    assert!(actions.contains(&Action::LookAtNetwork));
    bench.conversation.handle(bench.clock(), Event::ControlSent);
    assert_eq!(said(&bench.conversation.handle(bench.clock(), Event::Tick)), []);
    let answer = Event::Network(network());
    let actions = bench.conversation.handle(bench.clock(), answer);
    assert!(matches!(said(&actions)[..], [Said::Online(_), Said::Coverage { .. }]));
}

#[test]
fn online_is_said_again_after_two_seconds_and_then_every_minute() {
    let mut bench = Bench::connected();
    assert_eq!(bench.conversation.deadline(), Some(BootMillis(BEGIN_MS + 2_000)));
    assert_eq!(onlines(&bench.after(1_999)), 0);
    assert_eq!(onlines(&bench.after(1)), 1);
    assert_eq!(onlines(&bench.after(59_999)), 0);
    assert_eq!(onlines(&bench.after(1)), 1);
    assert_eq!(onlines(&bench.after(60_000)), 1);
}

#[test]
fn each_connection_starts_over_and_a_lost_one_has_no_deadline() {
    let mut bench = Bench::connected();
    bench.after(2_000);
    bench.happens(Event::LinkLost);
    assert_eq!(bench.conversation.deadline(), None);
    assert_eq!(onlines(&bench.after(60_000)), 0);
    assert_eq!(onlines(&bench.happens(Event::Network(network()))), 0, "nobody listens");
    let actions = bench.happens(Event::Connected { connection: SECOND });
    assert!(matches!(&said(&actions)[..], [Said::Online(online)] if online.connection == SECOND));
    assert_eq!(onlines(&bench.after(2_000)), 1);
}

#[test]
fn a_farewell_names_its_connection() {
    let (topic, payload) = Bench::new().conversation.farewell(SECOND);
    assert_eq!(topic, Topic::State(device()));
    assert_eq!(
        envelope::decode::<Presence>(&payload).unwrap(),
        Presence::Offline { connection: SECOND }
    );
}

#[test]
fn what_was_meant_for_an_earlier_connection_or_has_expired_is_dropped_and_told_once_a_minute() {
    let mut bench = Bench::connected();
    let ask = |connection, expires| Ask {
        server: server(),
        connection,
        expires: BootMillis(expires),
        body: AskBody::Coverage,
    };
    let topic = "gapless/1/cam-7/ask";
    let actions = bench.hears_on(topic, &ask(SECOND, u64::MAX));
    let [Fact::Dropped { cause: Cause::Stale, count: 1, topic: told, why }] = facts(&actions)[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!((&told[..], &why[..]), ("ask", "it was meant for an earlier connection"));
    assert_eq!(bench.hears_on(topic, &ask(FIRST, BEGIN_MS - 1)), []);
    assert_eq!(bench.conversation.dropped().total(Cause::Stale), 2);
    bench.now_ms += 60_000;
    let actions = bench.hears_on(topic, &ask(FIRST, BEGIN_MS));
    assert!(matches!(facts(&actions)[..], [Fact::Dropped { count: 2, .. }]), "{actions:?}");
}

#[test]
fn a_server_that_the_policy_does_not_name_gets_refusals_and_moves_nothing() {
    let servers = vec!["somebody-else".parse().unwrap()];
    let mut bench = Bench::with(Permit { servers, ..Permit::default() });
    bench.happens(Event::Connected { connection: FIRST });
    bench.happens(Event::Views(&views(seconds(0, 10))));
    let actions = bench.is_asked_for_parts(7);
    assert_eq!(said(&actions), [refused(7, RefusedReason::Forbidden)]);
    assert!(asked_of_card(&actions).is_empty());
    let actions = bench.is_asked(AskBody::Open(open(1)));
    let what = Refusable::Transfer(TransferId(1));
    assert!(!actions.iter().any(|action| matches!(action, Action::Read { .. })), "{actions:?}");
    let reason = RefusedReason::Forbidden;
    assert!(facts(&actions).contains(&&Fact::Refused { server: server(), what, reason }));
    let time = ServerTime { sampled: BootMillis(BEGIN_MS), utc: Timestamp::UNIX_EPOCH };
    for body in [AskBody::Coverage, AskBody::Time(time)] {
        let actions = bench.is_asked(body);
        let moved = |action: &Action| !matches!(action, Action::Note(_));
        assert!(!actions.iter().any(moved), "{actions:?}");
    }
    assert_eq!(bench.conversation.dropped().total(Cause::Forbidden), 4);
}

#[test]
fn a_stream_that_the_policy_keeps_to_itself_is_told_of_and_not_given() {
    let streams = vec!["other".parse().unwrap()];
    let mut bench = Bench::with(Permit { streams, ..Permit::default() });
    bench.happens(Event::Connected { connection: FIRST });
    let actions = bench.is_asked_for_parts(7);
    assert_eq!(said(&actions), [refused(7, RefusedReason::Forbidden)]);
    assert!(asked_of_card(&actions).is_empty());
    assert_eq!(bench.conversation.dropped().total(Cause::Forbidden), 1);
}

#[test]
fn a_recorded_order_that_is_played_back_on_a_later_connection_is_dropped() {
    let mut bench = Bench::connected();
    let expires = BootMillis(u64::MAX);
    let body = locate(7, "main", seconds(0, 10));
    let recorded = Ask { server: server(), connection: FIRST, expires, body };
    let topic = "gapless/1/cam-7/ask";
    assert_eq!(asked_of_card(&bench.hears_on(topic, &recorded)).len(), 1);
    bench.happens(Event::LinkLost);
    bench.happens(Event::Connected { connection: SECOND });
    assert!(asked_of_card(&bench.hears_on(topic, &recorded)).is_empty());
    assert_eq!(bench.conversation.dropped().total(Cause::Stale), 1);
}

#[test]
fn an_order_on_its_last_millisecond_is_obeyed() {
    let mut bench = Bench::connected();
    bench.happens(Event::Views(&views(seconds(0, 10))));
    let expires = BootMillis(bench.now_ms);
    let ask = Ask { server: server(), connection: FIRST, expires, body: AskBody::Coverage };
    let actions = bench.hears_on("gapless/1/cam-7/ask", &ask);
    assert_eq!(said(&actions), [Said::Coverage { generation: 1, held: seconds(0, 10).into() }]);
}

#[test]
fn what_is_not_for_this_device_or_no_message_at_all_is_dropped_by_cause() {
    let mut bench = Bench::connected();
    for (topic, payload, cause) in [
        ("gapless/1/cam-8/ask", &[3, 3][..], Cause::Address),
        ("gapless/1/cam-7/state", &[3, 1], Cause::Address),
        ("nonsense", &[], Cause::Address),
        ("gapless/1/cam-7/ask", &[], Cause::Size),
        ("gapless/1/cam-7/credit", &[99, 4], Cause::Version),
        ("gapless/1/cam-7/credit", &[protocol::PROTOCOL_VERSION, 77], Cause::Kind),
    ] {
        let before = bench.conversation.dropped().total(cause);
        bench.happens(Event::Message { topic, payload });
        assert_eq!(bench.conversation.dropped().total(cause), before + 1, "{topic} {payload:?}");
    }
}

#[test]
fn a_question_goes_to_the_card_and_its_answer_to_who_asked() {
    let mut bench = Bench::connected();
    let actions = bench.is_asked_for_parts(5);
    let question = Question { wanted: Wanted::Parts, stream: main_stream(), range: seconds(0, 10) };
    assert_eq!(asked_of_card(&actions), [(5, question)]);
    let next = Some(Timestamp::from_unix_seconds(10));
    let answer = Answer::Parts { parts: vec![part()], next };
    let (request, stream) = (RequestId(5), main_stream());
    let located = protocol::message::Located { request, stream, parts: vec![part()], next };
    assert_eq!(bench.is_answered(5, Ok(answer)), [Said::Tell(Tell::Located(located))]);
    assert_eq!(bench.is_answered(5, Err(RefusedReason::CardError)), [], "it was answered");
}

#[test]
fn a_listing_is_a_question_like_any_other() {
    let mut bench = Bench::connected();
    for request in 0..MAX_QUESTIONS as u64 - 1 {
        bench.is_asked_for_parts(request);
    }
    let (request, stream, range) = (RequestId(70), main_stream(), seconds(0, 10));
    let list = AskBody::List { request, stream: stream.clone(), range };
    let question = Question { wanted: Wanted::Segments, stream: stream.clone(), range };
    assert_eq!(asked_of_card(&bench.is_asked(list.clone())), [(70, question)]);
    assert_eq!(bench.is_asked(list), [], "it is asked already");
    assert_eq!(said(&bench.is_asked_for_parts(99)), [refused(99, RefusedReason::Busy)]);
    let listed = protocol::message::ListedSegment {
        range,
        uncertainty_ns: 1,
        size_bytes: 2,
        tier: 1,
        sealed: true,
    };
    let answer = Answer::Segments { segments: vec![listed], next: None };
    let segments = vec![listed];
    let listed = protocol::message::Listed { request, stream, segments, next: None };
    assert_eq!(bench.is_answered(70, Ok(answer)), [Said::Tell(Tell::Listed(listed))]);
}

#[test]
fn what_time_it_is_is_known_to_half_of_what_the_question_took() {
    let mut bench = Bench::connected();
    let utc = Timestamp::from_unix_seconds(1_800_000_000);
    let told = |sampled_ms| AskBody::Time(ServerTime { sampled: BootMillis(sampled_ms), utc });
    bench.now_ms += 400;
    let at = BootMillis(BEGIN_MS + 200);
    let learned = Action::LearnTime(ToldTime { at, utc, error: Duration::from_millis(201) });
    assert_eq!(bench.is_asked(told(BEGIN_MS)), [learned]);
    assert_eq!(bench.is_asked(told(BEGIN_MS + 401)), [], "sampled in the future");
}

#[test]
fn a_question_that_is_repeated_while_the_card_is_at_it_gets_one_answer() {
    let mut bench = Bench::connected();
    assert_eq!(asked_of_card(&bench.is_asked_for_parts(5)).len(), 1);
    assert_eq!(bench.is_asked_for_parts(5), []);
    assert_eq!(
        bench.is_answered(5, Err(RefusedReason::CardError)),
        [refused(5, RefusedReason::CardError)]
    );
    assert_eq!(asked_of_card(&bench.is_asked_for_parts(5)).len(), 1, "it may be asked anew");
}

#[test]
fn more_questions_than_the_card_takes_at_once_are_refused_as_busy() {
    let mut bench = Bench::connected();
    for request in 0..MAX_QUESTIONS as u64 {
        assert_eq!(asked_of_card(&bench.is_asked_for_parts(request)).len(), 1);
    }
    assert_eq!(said(&bench.is_asked_for_parts(99)), [refused(99, RefusedReason::Busy)]);
    bench.is_answered(3, Err(RefusedReason::CardError));
    assert_eq!(asked_of_card(&bench.is_asked_for_parts(99)).len(), 1);
}

#[test]
fn questions_that_make_no_sense_never_reach_the_card() {
    let mut bench = Bench::connected();
    for body in [locate(1, "main", seconds(5, 5)), locate(1, "unheard-of", seconds(0, 10))] {
        let actions = bench.is_asked(body);
        assert_eq!(said(&actions), [refused(1, RefusedReason::Malformed)]);
        assert_eq!(asked_of_card(&actions), []);
    }
}

#[test]
fn an_answer_for_an_earlier_connection_is_told_to_nobody_and_makes_room() {
    let mut bench = Bench::connected();
    for request in 0..MAX_QUESTIONS as u64 {
        bench.is_asked_for_parts(request);
    }
    bench.happens(Event::LinkLost);
    bench.happens(Event::Connected { connection: SECOND });
    let ask = |request| Ask {
        server: server(),
        connection: SECOND,
        expires: BootMillis(u64::MAX),
        body: locate(request, "main", seconds(0, 10)),
    };
    let topic = "gapless/1/cam-7/ask";
    let actions = bench.hears_on(topic, &ask(0));
    assert_eq!(said(&actions), [refused(0, RefusedReason::Busy)], "the card is still at all of it");
    let answer = Answer::Parts { parts: vec![part()], next: None };
    assert_eq!(bench.is_answered(0, Ok(answer)), []);
    assert_eq!(asked_of_card(&bench.hears_on(topic, &ask(0))).len(), 1);
}

#[test]
fn an_opened_part_is_read_sent_and_ended() {
    let mut bench = Bench::connected();
    let mut actions = bench.is_asked(AskBody::Open(open(4)));
    let accepted = Tell::Accepted { transfer: TransferId(4), length_bytes: 1_500 };
    let mut all = said(&actions);
    assert_eq!(all, [Said::Tell(accepted)]);
    let digest = PartDigest { blake3: [1; 32], seal: SealCheck::Unknown };
    let mut position = 0;
    while let Some((handle, length_bytes)) = actions.iter().find_map(|action| match *action {
        Action::Read { handle, length_bytes, keep: true, .. } => Some((handle, length_bytes)),
        _ => None,
    }) {
        position += length_bytes;
        let frame = Some(vec![0; frame::HEADER_BYTES + length_bytes as usize]);
        let digest = (position == 1_500).then_some(digest);
        let outcome = Ok(PartRead { length_bytes, frame, digest });
        actions = bench.happens(Event::Read { handle, outcome });
        all.extend(said(&actions));
    }
    let sent = |offset, length| Said::Data { offset, length };
    let end = Said::Tell(Tell::End { transfer: TransferId(4), digest });
    assert_eq!(all[1..], [sent(0, 1_000), sent(1_000, 500), end]);
    assert!(matches!(facts(&actions)[..], [Fact::Closed { cause: CloseCause::Ended, .. }]));
    assert!(actions.iter().any(|action| matches!(action, Action::Close { .. })));
}

#[test]
fn credit_for_a_transfer_that_nobody_knows_is_refused_to_the_servers_that_were_heard() {
    let mut bench = Bench::connected();
    bench.is_asked(AskBody::Open(open(4)));
    bench.is_asked(AskBody::Cancel { transfer: TransferId(4) });
    let credit = Credit {
        transfer: TransferId(4),
        sequence: 1,
        limit: 10,
        durable: 0,
        chunk_bytes: 0,
        rate_bytes_per_second: 0,
        time: 0,
    };
    let actions = bench.hears_on("gapless/1/cam-7/credit", &credit);
    let (what, reason) = (Refusable::Transfer(TransferId(4)), RefusedReason::UnknownTransfer);
    assert_eq!(said(&actions), [Said::Tell(Tell::Refused { what, reason })]);
}

#[test]
fn a_lost_link_closes_what_was_open() {
    let mut bench = Bench::connected();
    bench.is_asked(AskBody::Open(open(4)));
    let actions = bench.happens(Event::LinkLost);
    let closed = |action: &Action| matches!(action, Action::Close { .. });
    assert!(actions.iter().any(closed), "{actions:?}");
    assert!(matches!(facts(&actions)[..], [Fact::Closed { cause: CloseCause::LinkLost, .. }]));
}

#[test]
fn while_the_client_is_stuck_coverage_waits_and_answers_over_the_limit_are_counted() {
    let mut bench = Bench::connected();
    bench.client_is_stuck = true;
    let mut handed_out = 0;
    for request in 0..100 {
        let actions = bench.is_asked(locate(request, "unheard-of", seconds(0, 10)));
        handed_out += said(&actions).len();
    }
    assert_eq!(handed_out, 4);
    assert_eq!(said(&bench.happens(Event::Views(&views(seconds(0, 10))))), []);
    let only_online = bench.conversation.deadline();
    assert_eq!(only_online, Some(BootMillis(BEGIN_MS + 2_000)), "waiting for room is no deadline");
    let actions = bench.happens(Event::LinkLost);
    assert_eq!(facts(&actions), [&Fact::Unsaid { count: 32 }]);
}
