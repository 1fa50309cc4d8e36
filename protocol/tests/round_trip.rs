//! Every message survives its bytes, and no bytes do harm.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what builds a test's cases fails as the test does"
)]

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use protocol::envelope::{DecodeError, EncodeError, Kind, Message, decode, encode};
use protocol::frame::{self, Data, FrameSize, HEADER_BYTES, MAX_PAYLOAD_BYTES};
use protocol::message::{
    Ask, AskBody, BootId, BootMillis, ClockSample, ConnectionId, CoverageReport, Credit, DeviceId,
    DeviceLimits, Listed, ListedSegment, Located, Network, Online, Open, Overwriting, Part,
    PartDigest, Presence, Refusable, RefusedReason, RequestId, SealCheck, ServerId, ServerTime,
    Tell, TransferId,
};
use protocol::{MAX_MESSAGE_BYTES, PROTOCOL_VERSION};
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::identity::{SegmentId, SegmentVersion, StreamId};
use sdcard_indexer::time::{TimeRange, Timestamp};

fn id_text() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_-]{1,64}"
}

fn stream() -> impl Strategy<Value = StreamId> {
    id_text().prop_map(|text| text.parse().unwrap())
}

fn server() -> impl Strategy<Value = ServerId> {
    id_text().prop_map(|text| text.parse().unwrap())
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_nanos)
}

fn range() -> impl Strategy<Value = TimeRange> {
    (timestamp(), timestamp())
        .prop_map(|(a, b)| TimeRange::new(a.min(b), a.max(b)).expect("in order"))
}

fn coverage() -> impl Strategy<Value = Coverage> {
    vec(range(), 0..6).prop_map(Coverage::from)
}

fn connection() -> impl Strategy<Value = ConnectionId> {
    any::<u64>().prop_map(ConnectionId)
}

fn transfer() -> impl Strategy<Value = TransferId> {
    any::<u64>().prop_map(TransferId)
}

fn request() -> impl Strategy<Value = RequestId> {
    any::<u64>().prop_map(RequestId)
}

fn segment() -> impl Strategy<Value = (SegmentId, SegmentVersion)> {
    any::<(u64, u64, u64)>().prop_map(|(id, size_bytes, fingerprint)| {
        (SegmentId(id), SegmentVersion { size_bytes, fingerprint })
    })
}

fn presence() -> impl Strategy<Value = Presence> {
    let limits = any::<(u32, u32, u64)>().prop_map(|(chunk, transfers, rate)| DeviceLimits {
        max_chunk_bytes: chunk,
        max_open_transfers: transfers,
        max_bytes_per_second: rate,
    });
    let clock = (timestamp(), any::<u64>())
        .prop_map(|(realtime, boot)| ClockSample { realtime, boottime: BootMillis(boot) });
    let network =
        any::<(String, Option<IpAddr>)>().prop_map(|(link, address)| Network { link, address });
    let version = any::<String>();
    let about = (limits, clock, vec(stream(), 0..4), network);
    let online = (connection(), any::<[u8; 16]>(), version, about).prop_map(
        |(connection, boot, agent_version, (limits, clock, streams, network))| {
            let boot = BootId(boot);
            let online =
                Online { connection, boot, agent_version, limits, clock, streams, network };
            Presence::Online(online)
        },
    );
    let offline = connection().prop_map(|connection| Presence::Offline { connection });
    prop_oneof![online, offline]
}

fn report() -> impl Strategy<Value = CoverageReport> {
    let what = (stream(), range(), coverage(), coverage());
    let until = (option::of(timestamp()), timestamp());
    let overwriting = option::of((timestamp(), any::<u32>()).prop_map(|(goes_at, speed)| {
        Overwriting { horizon_goes_at: goes_at, horizon_ms_per_second: speed }
    }));
    (connection(), what, until, any::<(u64, u8, u64)>(), overwriting).prop_map(
        |(
            connection,
            (stream, window, held, gone),
            (horizon, final_until),
            numbers,
            overwriting,
        )| {
            let (generation, tier, uncertainty_ns) = numbers;
            CoverageReport {
                connection,
                stream,
                generation,
                window,
                held,
                gone,
                horizon,
                final_until,
                tier,
                uncertainty_ns,
                overwriting,
            }
        },
    )
}

fn open() -> impl Strategy<Value = Open> {
    (transfer(), segment(), any::<[u64; 5]>(), any::<(u32, u8)>()).prop_map(
        |(transfer, (segment, version), numbers, (chunk_bytes, priority))| {
            let [start, end, from, credit_limit, rate_bytes_per_second] = numbers;
            Open {
                transfer,
                segment,
                version,
                start,
                end,
                from,
                credit_limit,
                chunk_bytes,
                rate_bytes_per_second,
                priority,
            }
        },
    )
}

fn ask() -> impl Strategy<Value = Ask> {
    let locate = (request(), stream(), range())
        .prop_map(|(request, stream, range)| AskBody::Locate { request, stream, range });
    let list = (request(), stream(), range()).prop_map(|(request, stream, range)| AskBody::List {
        request,
        stream,
        range,
    });
    let body = prop_oneof![
        Just(AskBody::Coverage),
        locate,
        list,
        open().prop_map(AskBody::Open),
        transfer().prop_map(|transfer| AskBody::Cancel { transfer }),
        (any::<u64>(), any::<i64>()).prop_map(|(sampled, utc)| {
            let (sampled, utc) = (BootMillis(sampled), Timestamp::from_nanos(utc));
            AskBody::Time(ServerTime { sampled, utc })
        }),
    ];
    (server(), connection(), any::<u64>(), body).prop_map(|(server, connection, expires, body)| {
        Ask { server, connection, expires: BootMillis(expires), body }
    })
}

fn credit() -> impl Strategy<Value = Credit> {
    (transfer(), any::<(u32, u32)>(), any::<[u64; 4]>()).prop_map(
        |(transfer, (sequence, chunk_bytes), numbers)| {
            let [limit, durable, rate_bytes_per_second, time] = numbers;
            Credit { transfer, sequence, limit, durable, chunk_bytes, rate_bytes_per_second, time }
        },
    )
}

fn part() -> impl Strategy<Value = Part> {
    (segment(), range(), any::<[u64; 3]>(), vec(any::<u8>(), 0..64)).prop_map(
        |((segment, version), range, [start, end, uncertainty_ns], media)| Part {
            segment,
            version,
            start,
            end,
            range,
            uncertainty_ns,
            media,
        },
    )
}

fn listed_segment() -> impl Strategy<Value = ListedSegment> {
    (range(), any::<(u64, u64, u8, bool)>()).prop_map(
        |(range, (uncertainty_ns, size_bytes, tier, sealed))| ListedSegment {
            range,
            uncertainty_ns,
            size_bytes,
            tier,
            sealed,
        },
    )
}

fn tell() -> impl Strategy<Value = Tell> {
    let located = (request(), stream(), vec(part(), 0..4), option::of(timestamp())).prop_map(
        |(request, stream, parts, next)| Tell::Located(Located { request, stream, parts, next }),
    );
    let accepted = (transfer(), any::<u64>())
        .prop_map(|(transfer, length_bytes)| Tell::Accepted { transfer, length_bytes });
    let seal = prop::sample::select(vec![SealCheck::Unknown, SealCheck::Equal]);
    let end = (transfer(), any::<[u8; 32]>(), seal).prop_map(|(transfer, blake3, seal)| {
        Tell::End { transfer, digest: PartDigest { blake3, seal } }
    });
    let what = prop_oneof![
        request().prop_map(Refusable::Request),
        transfer().prop_map(Refusable::Transfer),
    ];
    let reason = prop::sample::select(vec![
        RefusedReason::Gone,
        RefusedReason::Changed,
        RefusedReason::Busy,
        RefusedReason::Forbidden,
        RefusedReason::UnknownTransfer,
        RefusedReason::CardError,
        RefusedReason::Malformed,
        RefusedReason::Altered { intact: 1 << 40 },
    ]);
    let refused = (what, reason).prop_map(|(what, reason)| Tell::Refused { what, reason });
    let listed = (request(), stream(), vec(listed_segment(), 0..4), option::of(timestamp()))
        .prop_map(|(request, stream, segments, next)| {
            Tell::Listed(Listed { request, stream, segments, next })
        });
    prop_oneof![located, accepted, end, refused, listed]
}

fn framed(transfer: TransferId, offset: u64, echo: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes.extend_from_slice(payload);
    frame::seal(&mut bytes, transfer, offset, echo).unwrap();
    bytes
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    (transfer(), 0..u64::MAX / 2, any::<u64>(), vec(any::<u8>(), 1..200))
        .prop_map(|(transfer, offset, echo, payload)| framed(transfer, offset, echo, &payload))
}

/// The bytes of some message of any kind.
fn any_message_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        presence().prop_map(|message| encode(&message).unwrap()),
        report().prop_map(|message| encode(&message).unwrap()),
        ask().prop_map(|message| encode(&message).unwrap()),
        credit().prop_map(|message| encode(&message).unwrap()),
        tell().prop_map(|message| encode(&message).unwrap()),
        any_frame(),
    ]
}

fn survives<M: Message + PartialEq + std::fmt::Debug>(message: &M) -> Result<(), TestCaseError> {
    let mut bytes = encode(message).unwrap();
    prop_assert_eq!(&decode::<M>(&bytes).unwrap(), message);
    for length in 0..bytes.len() {
        prop_assert!(decode::<M>(&bytes[..length]).is_err(), "cut off after {}", length);
    }
    bytes.push(0);
    prop_assert_eq!(decode::<M>(&bytes), Err(DecodeError::TrailingBytes { bytes: 1 }));
    Ok(())
}

/// Decodes in every way there is; only a panic would fail.
fn decode_all(bytes: &[u8]) {
    let _ = decode::<Presence>(bytes);
    let _ = decode::<CoverageReport>(bytes);
    let _ = decode::<Ask>(bytes);
    let _ = decode::<Credit>(bytes);
    let _ = decode::<Tell>(bytes);
    let _ = Data::decode(bytes);
}

proptest! {
    #[test]
    fn presence_survives_its_bytes(message in presence()) { survives(&message)?; }

    #[test]
    fn coverage_survives_its_bytes(message in report()) { survives(&message)?; }

    #[test]
    fn asks_survive_their_bytes(message in ask()) { survives(&message)?; }

    #[test]
    fn credit_survives_its_bytes(message in credit()) { survives(&message)?; }

    #[test]
    fn answers_survive_their_bytes(message in tell()) { survives(&message)?; }

    #[test]
    fn frames_survive_their_bytes(
        transfer in transfer(),
        offset in 0..u64::MAX / 2,
        echo in any::<u64>(),
        payload in vec(any::<u8>(), 1..2_000),
    ) {
        let bytes = framed(transfer, offset, echo, &payload);
        let payload = payload.as_slice();
        prop_assert_eq!(Data::decode(&bytes), Ok(Data { transfer, offset, echo, payload }));
    }

    #[test]
    fn a_frame_with_any_byte_changed_is_refused(
        bytes in any_frame(),
        at in any::<prop::sample::Index>(),
        change in 1..=u8::MAX,
    ) {
        let mut bytes = bytes;
        *at.get_mut(&mut bytes) ^= change;
        prop_assert!(Data::decode(&bytes).is_err());
    }

    #[test]
    fn a_frame_cut_off_or_drawn_out_is_refused(
        bytes in any_frame(),
        at in any::<prop::sample::Index>(),
    ) {
        let length = at.index(bytes.len());
        prop_assert_eq!(Data::decode(&bytes[..length]), Err(DecodeError::CutOff { bytes: length }));
        let longer = [bytes.as_slice(), &[0]].concat();
        prop_assert_eq!(Data::decode(&longer), Err(DecodeError::TrailingBytes { bytes: 1 }));
    }

    #[test]
    fn changed_messages_never_panic(
        bytes in any_message_bytes(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length in any::<prop::sample::Index>(),
    ) {
        let mut bytes = bytes;
        for (at, value) in changes {
            *at.get_mut(&mut bytes) = value;
        }
        decode_all(&bytes);
        decode_all(&bytes[..length.index(bytes.len())]);
    }

    #[test]
    fn arbitrary_bytes_of_every_kind_never_panic(
        kind in 0..8_u8,
        payload in vec(any::<u8>(), 0..300),
    ) {
        decode_all(&payload);
        decode_all(&[&[PROTOCOL_VERSION, kind], payload.as_slice()].concat());
    }
}

fn offline() -> Presence {
    Presence::Offline { connection: ConnectionId(1) }
}

#[test]
fn a_newer_version_is_refused_with_both_versions_named() {
    let mut bytes = encode(&offline()).unwrap();
    bytes[0] = PROTOCOL_VERSION + 1;
    let versions = DecodeError::Version { theirs: PROTOCOL_VERSION + 1, ours: PROTOCOL_VERSION };
    assert_eq!(decode::<Presence>(&bytes), Err(versions.clone()));
    assert_eq!(
        versions.to_string(),
        "protocol version 4 was spoken, this side speaks 3: update the older side"
    );
    assert_eq!(Data::decode(&bytes), Err(versions.clone()));
    assert_eq!(decode::<Tell>(&bytes[..1]), Err(versions), "whatever follows");
}

#[test]
fn an_unknown_kind_is_told_apart_from_a_misplaced_one() {
    let mut bytes = encode(&offline()).unwrap();
    let (expected, found) = (Kind::Tell, Kind::Presence);
    assert_eq!(decode::<Tell>(&bytes), Err(DecodeError::WrongKind { expected, found }));
    bytes[1] = 200;
    assert_eq!(decode::<Tell>(&bytes), Err(DecodeError::UnknownKind { kind: 200 }));
}

#[test]
fn a_message_over_the_limit_is_neither_sent_nor_read() {
    let online = |version_bytes: usize| {
        Presence::Online(Online {
            connection: ConnectionId(1),
            boot: BootId([0; 16]),
            agent_version: "x".repeat(version_bytes),
            limits: DeviceLimits {
                max_chunk_bytes: 0,
                max_open_transfers: 0,
                max_bytes_per_second: 0,
            },
            clock: ClockSample { realtime: Timestamp::UNIX_EPOCH, boottime: BootMillis(0) },
            streams: Vec::new(),
            network: Network::default(),
        })
    };
    let room = MAX_MESSAGE_BYTES - encode(&online(MAX_MESSAGE_BYTES / 2)).unwrap().len();
    let largest = online(MAX_MESSAGE_BYTES / 2 + room);
    assert_eq!(decode::<Presence>(&encode(&largest).unwrap()), Ok(largest));
    let too_large = encode(&online(MAX_MESSAGE_BYTES / 2 + room + 1));
    assert!(matches!(too_large, Err(EncodeError::TooLarge { kind: Kind::Presence, .. })));
    let (bytes, limit) = (MAX_MESSAGE_BYTES + 1, MAX_MESSAGE_BYTES);
    assert_eq!(
        decode::<Presence>(&vec![PROTOCOL_VERSION; bytes]),
        Err(DecodeError::TooLarge { bytes, limit })
    );
}

/// A claimed length of 2^64 - 1 elements, where a list or text may stand, with nothing behind it.
#[test]
fn a_hostile_length_is_refused_without_room_being_made_for_it() {
    let endless = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let located = [&[PROTOCOL_VERSION, Kind::Tell as u8, 0, 7, 1, b'm'], &endless[..]].concat();
    assert!(decode::<Tell>(&located).is_err());
    let asking = [&[PROTOCOL_VERSION, Kind::Ask as u8], &endless[..]].concat();
    assert!(decode::<Ask>(&asking).is_err());
    let window = [1, b'm', 0, 0, 0];
    let covered =
        [&[PROTOCOL_VERSION, Kind::Coverage as u8, 0], &window[..], &endless[..]].concat();
    assert!(decode::<CoverageReport>(&covered).is_err());
}

#[test]
fn a_hostile_id_or_backward_range_is_malformed() {
    let message = |payload: &[u8]| [&[PROTOCOL_VERSION, Kind::Ask as u8], payload].concat();
    assert!(decode::<Ask>(&message(&[1, b'd', 0, 0, 0])).is_ok());
    let escaping = decode::<Ask>(&message(&[2, b'.', b'.', 0, 0, 0]));
    assert!(matches!(escaping, Err(DecodeError::Malformed { kind: Kind::Ask, .. })));
    let backward = decode::<Ask>(&message(&[1, b'd', 0, 0, 1, 7, 1, b'm', 4, 2]));
    assert!(matches!(backward, Err(DecodeError::Malformed { kind: Kind::Ask, .. })));
}

#[test]
fn a_frame_carries_one_byte_to_64_kib() {
    let seal = |frame_bytes: usize| {
        frame::seal(&mut vec![0; frame_bytes], TransferId(1), 0, 0)
            .map_err(|FrameSize { frame_bytes }| frame_bytes)
    };
    assert_eq!(seal(HEADER_BYTES + 1), Ok(()));
    assert_eq!(seal(HEADER_BYTES + MAX_PAYLOAD_BYTES), Ok(()));
    for wrong in [0, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + MAX_PAYLOAD_BYTES + 1] {
        assert_eq!(seal(wrong), Err(wrong));
    }
}

#[test]
fn a_frame_past_the_end_of_all_offsets_is_refused() {
    let bytes = framed(TransferId(1), u64::MAX - 2, 0, b"abc");
    assert_eq!(Data::decode(&bytes), Err(DecodeError::Offset { offset: u64::MAX - 2 }));
    assert!(Data::decode(&framed(TransferId(1), u64::MAX - 3, 0, b"abc")).is_ok());
}

#[test]
fn ids_of_devices_and_servers_are_checked_as_those_of_streams_are() {
    assert!("cam-1".parse::<DeviceId>().is_ok() && "depot".parse::<ServerId>().is_ok());
    assert!("cam/1".parse::<DeviceId>().is_err() && "".parse::<ServerId>().is_err());
}
