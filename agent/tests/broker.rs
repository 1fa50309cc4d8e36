//! The whole agent against a real broker, with a bare MQTT client in the server's place.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

mod bench;

use std::time::Duration;

use bench::{Agent, Bench, DEVICE, Heard, STREAM};
use protocol::PROTOCOL_VERSION;
use protocol::message::{
    Ask, AskBody, BootMillis, ConnectionId, Credit, Online, Open, Part, Presence, Refusable,
    RefusedReason, RequestId, Tell, TransferId,
};
use sdcard_indexer::time::{TimeRange, Timestamp};

/// Of the recording that every test finds on its card.
fn recorded() -> TimeRange {
    let start = "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap();
    TimeRange::starting_at(start, Duration::from_secs(8))
}

fn open_of(part: &Part, transfer: u64) -> Open {
    Open {
        transfer: TransferId(transfer),
        segment: part.segment,
        version: part.version,
        start: part.start,
        end: part.end,
        from: part.start,
        credit_limit: part.start,
        chunk_bytes: 4_096,
        rate_bytes_per_second: 0,
        priority: 0,
    }
}

fn credit_of(transfer: u64, sequence: u32, limit: u64) -> Credit {
    Credit {
        transfer: TransferId(transfer),
        sequence,
        limit,
        durable: 0,
        chunk_bytes: 4_096,
        rate_bytes_per_second: 0,
        time: 1_000 + u64::from(sequence),
    }
}

async fn located(bench: &mut Bench, online: &Online, range: TimeRange) -> Vec<Part> {
    let request = RequestId(77);
    let stream = STREAM.parse().unwrap();
    bench.ask(online, AskBody::Locate { request, stream, range }).await;
    bench
        .until("Located", |heard| match heard {
            Heard::Tell(Tell::Located(located)) if located.request == request => {
                Some(located.parts)
            }
            _ => None,
        })
        .await
}

async fn fully_covered(bench: &mut Bench, online: &Online) {
    let connection = online.connection;
    bench
        .until("coverage of the whole recording", |heard| match heard {
            Heard::Coverage(report) => {
                assert_eq!((report.connection, report.stream.as_str()), (connection, STREAM));
                report.held.covers(recorded()).then_some(())
            }
            _ => None,
        })
        .await;
}

#[tokio::test]
async fn a_part_is_found_pulled_on_credit_and_ends_with_the_digest_of_its_bytes() {
    let mut bench = Bench::start().await;
    let _agent = Agent::start(&bench);
    let online = bench.online().await;
    assert_eq!(online.streams, [STREAM.parse().unwrap()]);
    fully_covered(&mut bench, &online).await;

    let parts = located(&mut bench, &online, recorded()).await;
    let [part] = &parts[..] else { panic!("one segment is one part: {parts:?}") };
    assert_eq!(part.range, recorded());
    let bytes = bench.recording();
    let wanted = &bytes[part.start as usize..part.end as usize];

    bench.ask(&online, AskBody::Open(open_of(part, 1))).await;
    let length = bench
        .until("Accepted", |heard| match heard {
            Heard::Tell(Tell::Accepted { transfer: TransferId(1), length_bytes }) => {
                Some(length_bytes)
            }
            _ => None,
        })
        .await;
    assert_eq!(length, part.end - part.start);

    let mut received = Vec::new();
    let mut sequence = 0;
    while received.len() < wanted.len() {
        sequence += 1;
        let limit = part.end.min(part.start + received.len() as u64 + 10_000);
        bench.credit(credit_of(1, sequence, limit)).await;
        while part.start + (received.len() as u64) < limit {
            let (offset, echo, payload) = bench
                .until("Data", |heard| match heard {
                    Heard::Data { transfer: TransferId(1), offset, echo, payload } => {
                        Some((offset, echo, payload))
                    }
                    _ => None,
                })
                .await;
            assert_eq!(offset, part.start + received.len() as u64);
            assert_eq!(echo, 1_000 + u64::from(sequence));
            assert!(payload.len() <= 4_096);
            received.extend(payload);
            assert!(part.start + received.len() as u64 <= limit, "sent beyond the credit");
        }
    }
    assert!(received == wanted, "what came is not what the card holds");
    let digest = bench
        .until("End", |heard| match heard {
            Heard::Tell(Tell::End { transfer: TransferId(1), digest }) => Some(digest),
            _ => None,
        })
        .await;
    assert_eq!(digest.blake3, *blake3::hash(wanted).as_bytes());
}

#[tokio::test]
async fn the_device_tells_how_it_reaches_the_broker() {
    let mut bench = Bench::start().await;
    let _agent = Agent::start(&bench);
    let network = bench.online().await.network;
    assert_eq!(network.link, "loopback");
    assert_eq!(network.address, Some([127, 0, 0, 1].into()));
}

#[tokio::test]
async fn a_resumed_transfer_ends_with_the_digest_of_the_whole_part() {
    let mut bench = Bench::start().await;
    let _agent = Agent::start(&bench);
    let online = bench.online().await;
    fully_covered(&mut bench, &online).await;
    let part = located(&mut bench, &online, recorded()).await.remove(0);
    let bytes = bench.recording();

    let from = part.end - 100;
    let open = Open { from, credit_limit: part.end, ..open_of(&part, 2) };
    bench.ask(&online, AskBody::Open(open)).await;
    let payload = bench
        .until("the last bytes", |heard| match heard {
            Heard::Data { transfer: TransferId(2), offset, payload, .. } => {
                assert_eq!(offset, from);
                Some(payload)
            }
            _ => None,
        })
        .await;
    assert_eq!(payload, bytes[from as usize..part.end as usize]);
    let digest = bench
        .until("End", |heard| match heard {
            Heard::Tell(Tell::End { transfer: TransferId(2), digest }) => Some(digest),
            _ => None,
        })
        .await;
    assert_eq!(
        digest.blake3,
        *blake3::hash(&bytes[part.start as usize..part.end as usize]).as_bytes()
    );
}

#[tokio::test]
async fn a_cancelled_transfer_is_unknown_from_then_on() {
    let mut bench = Bench::start().await;
    let _agent = Agent::start(&bench);
    let online = bench.online().await;
    fully_covered(&mut bench, &online).await;
    let part = located(&mut bench, &online, recorded()).await.remove(0);
    bench.ask(&online, AskBody::Open(open_of(&part, 3))).await;
    bench.ask(&online, AskBody::Cancel { transfer: TransferId(3) }).await;
    bench.ask(&online, AskBody::Cancel { transfer: TransferId(3) }).await;
    bench.credit(credit_of(3, 1, part.end)).await;
    bench
        .until("UnknownTransfer", |heard| match heard {
            Heard::Data { .. } => panic!("data of a cancelled transfer"),
            Heard::Tell(Tell::Refused { what, reason }) => {
                assert_eq!(what, Refusable::Transfer(TransferId(3)));
                assert_eq!(reason, RefusedReason::UnknownTransfer);
                Some(())
            }
            _ => None,
        })
        .await;
}

#[tokio::test]
async fn a_segment_that_is_gone_or_another_one_is_refused_as_such() {
    let mut bench = Bench::start().await;
    let _agent = Agent::start(&bench);
    let online = bench.online().await;
    fully_covered(&mut bench, &online).await;
    let part = located(&mut bench, &online, recorded()).await.remove(0);
    let refusal = async |bench: &mut Bench, transfer| {
        let open = Open { credit_limit: part.end, ..open_of(&part, transfer) };
        bench.ask(&online, AskBody::Open(open)).await;
        bench
            .until("Refused", |heard| match heard {
                Heard::Tell(Tell::Refused { what, reason }) => {
                    assert_eq!(what, Refusable::Transfer(TransferId(transfer)));
                    Some(reason)
                }
                _ => None,
            })
            .await
    };
    let path = bench.recording_path();
    let mut other = bench.recording();
    other[100] ^= 1;
    std::fs::remove_file(&path).unwrap();
    bench::write(&path, &other);
    assert_eq!(refusal(&mut bench, 4).await, RefusedReason::Changed);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(refusal(&mut bench, 5).await, RefusedReason::Gone);
}

#[tokio::test]
async fn what_the_devices_policy_keeps_is_refused_also_where_its_number_is_known() {
    let mut bench = Bench::start().await;
    let generous = Agent::start(&bench);
    let online = bench.online().await;
    fully_covered(&mut bench, &online).await;
    let part = located(&mut bench, &online, recorded()).await.remove(0);
    generous.stop().await;
    assert_eq!(bench.offline().await, online.connection);
    for (number, serve) in ["max_age_hours = 1", "streams = [\"sub\"]", "servers = [\"other\"]"]
        .into_iter()
        .enumerate()
    {
        let agent = Agent::start_with(&bench, &format!("[serve]\n{serve}"));
        let online = bench.online().await;
        fully_covered(&mut bench, &online).await;
        let stream = STREAM.parse().unwrap();
        let (request, transfer) = (RequestId(900), 70 + number as u64);
        bench.ask(&online, AskBody::Locate { request, stream, range: recorded() }).await;
        let open = Open { credit_limit: part.end, ..open_of(&part, transfer) };
        bench.ask(&online, AskBody::Open(open)).await;
        for what in [Refusable::Request(request), Refusable::Transfer(TransferId(transfer))] {
            let reason = bench
                .until("Refused", |heard| match heard {
                    Heard::Tell(Tell::Refused { what: told, reason }) if told == what => {
                        Some(reason)
                    }
                    Heard::Data { .. } => panic!("{serve}: it is handed out"),
                    _ => None,
                })
                .await;
            assert_eq!(reason, RefusedReason::Forbidden, "{serve}");
        }
        agent.stop().await;
        assert_eq!(bench.offline().await, online.connection);
    }
}

#[tokio::test]
async fn the_last_will_follows_a_dropped_socket_and_names_its_connection() {
    let mut bench = Bench::start().await;
    let agent = Agent::start(&bench);
    let online = bench.online().await;
    drop(agent);
    assert_eq!(bench.offline().await, online.connection);
}

#[tokio::test]
async fn a_stopped_agent_says_so_and_ends_in_peace() {
    let mut bench = Bench::start().await;
    let agent = Agent::start(&bench);
    let online = bench.online().await;
    agent.stop().await;
    assert_eq!(bench.offline().await, online.connection);
}

#[tokio::test]
async fn a_lost_link_is_followed_by_another_one_with_a_fresh_connection_id() {
    let mut bench = Bench::start().await;
    let _agent = Agent::start(&bench);
    let first = bench.online().await;
    bench.take_over(&protocol::topic::agent_client_id(&DEVICE.parse().unwrap())).await;
    let second = bench
        .until("Online of another connection", |heard| match heard {
            Heard::Presence(Presence::Online(online)) => {
                (online.connection != first.connection).then_some(online)
            }
            _ => None,
        })
        .await;
    fully_covered(&mut bench, &second).await;
}

#[tokio::test]
async fn nonsense_is_dropped_counted_and_logged_once_and_the_agent_answers_on() {
    let mut bench = Bench::start().await;
    let log = bench::Log::capture();
    let _agent = Agent::start(&bench);
    let online = bench.online().await;
    let ask = |connection, expires| Ask {
        server: bench::SERVER.parse().unwrap(),
        connection,
        expires,
        body: AskBody::Coverage,
    };
    let stale = protocol::envelope::encode(&ask(ConnectionId(1), BootMillis(u64::MAX))).unwrap();
    let expired = protocol::envelope::encode(&ask(online.connection, BootMillis(0))).unwrap();
    for _ in 0..5 {
        for payload in
            [vec![9, 3, 1, 2], vec![PROTOCOL_VERSION, 99], vec![PROTOCOL_VERSION, 3], vec![]]
        {
            bench.publish("ask", payload.clone()).await;
            bench.publish("credit", payload).await;
        }
        bench.publish("ask", stale.clone()).await;
        bench.publish("ask", expired.clone()).await;
    }
    // Messages keep their order, so this answer comes after all of the above.
    fully_covered(&mut bench, &online).await;
    located(&mut bench, &online, recorded()).await;
    for cause in ["Version", "Kind", "Size", "Stale"] {
        assert_eq!(log.lines_with(&format!("cause={cause}")), 1, "{cause}\n{}", log.text());
    }
}

#[tokio::test]
async fn what_stands_on_the_card_is_listed_without_a_look_into_it() {
    let mut bench = Bench::start().await;
    let _agent = Agent::start(&bench);
    let online = bench.online().await;
    bench
        .until("coverage from files that were read", |heard| match heard {
            Heard::Coverage(report) if report.tier == 1 && report.held.covers(recorded()) => {
                Some(())
            }
            _ => None,
        })
        .await;
    let ask = async |bench: &mut Bench, request, range| {
        let (request, stream) = (RequestId(request), STREAM.parse().unwrap());
        bench.ask(&online, AskBody::List { request, stream, range }).await;
        let listed = bench.until("Listed", |heard| match heard {
            Heard::Tell(Tell::Listed(listed)) if listed.request == request => Some(listed),
            _ => None,
        });
        listed.await
    };
    let second = TimeRange::starting_at(recorded().start(), Duration::from_secs(1));
    let listed = ask(&mut bench, 1, second).await;
    let [segment] = listed.segments[..] else { panic!("one file is one segment: {listed:?}") };
    assert_eq!((segment.range, segment.tier, listed.next), (recorded(), 1, None));
    assert_eq!(segment.size_bytes, bench.recording().len() as u64);
    let behind = TimeRange::starting_at(recorded().end(), Duration::from_secs(60));
    assert_eq!(ask(&mut bench, 2, behind).await.segments, []);
}

#[tokio::test]
async fn when_footage_will_go_is_told_once_a_closed_recording_shows_how_fast_the_card_fills() {
    let mut bench = Bench::start().await;
    let _agent = Agent::start(&bench);
    let overwriting = bench
        .until("a forecast", |heard| match heard {
            Heard::Coverage(report) => report.overwriting,
            _ => None,
        })
        .await;
    assert_eq!(overwriting.horizon_ms_per_second, 1_000);
    assert!(overwriting.horizon_goes_at > recorded().end());
}

#[tokio::test]
async fn questions_that_make_no_sense_are_refused() {
    let mut bench = Bench::start().await;
    let _agent = Agent::start(&bench);
    let online = bench.online().await;
    let empty = TimeRange::starting_at(recorded().start(), Duration::ZERO);
    for (request, stream, range) in [(1, STREAM, empty), (2, "unheard-of", recorded())] {
        let stream = stream.parse().unwrap();
        bench.ask(&online, AskBody::Locate { request: RequestId(request), stream, range }).await;
        let refusal = bench
            .until("Refused", |heard| match heard {
                Heard::Tell(Tell::Refused { what, reason }) => Some((what, reason)),
                _ => None,
            })
            .await;
        let expected = Refusable::Request(RequestId(request));
        assert_eq!(refusal, (expected, RefusedReason::Malformed));
    }
}
