//! The bytes of every message, as they were agreed on. A test that fails here says that devices in the
//! field would no longer be understood: such a change takes a new `PROTOCOL_VERSION`.
//!
//! The files under `golden/` are the seeds of the fuzz targets too.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what builds a test's cases fails as the test does"
)]

use std::fmt::Write;
use std::path::Path;

use protocol::envelope::{Message, decode, encode};
use protocol::frame::{self, Data, HEADER_BYTES};
use protocol::message::{
    Ask, AskBody, BootId, BootMillis, ClockSample, ConnectionId, CoverageReport, Credit,
    DeviceLimits, Listed, ListedSegment, Located, Network, Online, Open, Overwriting, Part,
    PartDigest, Presence, Refusable, RefusedReason, RequestId, SealCheck, ServerTime, Tell,
    TransferId,
};
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::identity::{SegmentId, SegmentVersion};
use sdcard_indexer::time::{TimeRange, Timestamp};

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    std::fs::read(&path).unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn agreed<M: Message + PartialEq + std::fmt::Debug>(name: &str, message: &M) {
    let bytes = encode(message).unwrap();
    assert_eq!(hex(&bytes), hex(&golden(name)), "left: written now, right: tests/golden/{name}");
    assert_eq!(decode::<M>(&bytes).unwrap(), *message, "{name}");
}

fn seconds(start: i64, end: i64) -> TimeRange {
    let at = Timestamp::from_unix_seconds;
    TimeRange::new(at(start), at(end)).unwrap()
}

const CONNECTION: ConnectionId = ConnectionId(0x0123_4567_89ab_cdef);
const TRANSFER: TransferId = TransferId(0xfedc_ba98_7654_3210);
const SEGMENT: SegmentId = SegmentId(0x1122_3344_5566_7788);
const VERSION: SegmentVersion =
    SegmentVersion { size_bytes: 4_000_000, fingerprint: 0x99aa_bbcc_ddee_ff00 };

#[test]
fn presence_is_written_as_agreed() {
    let online = Online {
        connection: CONNECTION,
        boot: BootId(*b"0123456789abcdef"),
        agent_version: "0.1.0".into(),
        limits: DeviceLimits {
            max_chunk_bytes: 65_536,
            max_open_transfers: 4,
            max_bytes_per_second: 0,
        },
        clock: ClockSample {
            realtime: Timestamp::from_unix_seconds(1_795_000_000),
            boottime: BootMillis(60_000),
        },
        streams: vec!["main".parse().unwrap(), "sub".parse().unwrap()],
        network: Network { link: "ethernet".into(), address: Some([10, 20, 30, 40].into()) },
    };
    agreed("presence-online.bin", &Presence::Online(online));
    agreed("presence-offline.bin", &Presence::Offline { connection: CONNECTION });
}

#[test]
fn coverage_is_written_as_agreed() {
    let report = CoverageReport {
        connection: CONNECTION,
        stream: "main".parse().unwrap(),
        generation: 3,
        window: TimeRange::new(Timestamp::MIN, Timestamp::MAX).unwrap(),
        held: [seconds(100, 160), seconds(200, 260)].into_iter().collect(),
        gone: Coverage::from(seconds(0, 100)),
        horizon: Some(Timestamp::from_unix_seconds(100)),
        final_until: Timestamp::from_unix_seconds(260),
        tier: 1,
        uncertainty_ns: 40_000_000,
        overwriting: Some(Overwriting {
            horizon_goes_at: Timestamp::from_unix_seconds(300),
            horizon_ms_per_second: 1_000,
        }),
    };
    agreed("coverage.bin", &report);
}

#[test]
fn asks_are_written_as_agreed() {
    let ask = |body| Ask {
        server: "depot".parse().unwrap(),
        connection: CONNECTION,
        expires: BootMillis(90_000),
        body,
    };
    agreed("ask-coverage.bin", &ask(AskBody::Coverage));
    let request = RequestId(7);
    let range = seconds(100, 145);
    let stream = || "main".parse().unwrap();
    agreed("ask-locate.bin", &ask(AskBody::Locate { request, stream: stream(), range }));
    agreed("ask-list.bin", &ask(AskBody::List { request, stream: stream(), range }));
    let open = Open {
        transfer: TRANSFER,
        segment: SEGMENT,
        version: VERSION,
        start: 1_000,
        end: 3_000_000,
        from: 1_048_576,
        credit_limit: 1_114_112,
        chunk_bytes: 32_768,
        rate_bytes_per_second: 250_000,
        priority: 128,
    };
    agreed("ask-open.bin", &ask(AskBody::Open(open)));
    let utc = Timestamp::from_unix_seconds(1_800_000_000);
    let time = ServerTime { sampled: BootMillis(98_000), utc };
    agreed("ask-time.bin", &ask(AskBody::Time(time)));
    agreed("ask-cancel.bin", &ask(AskBody::Cancel { transfer: TRANSFER }));
}

#[test]
fn credit_is_written_as_agreed() {
    let credit = Credit {
        transfer: TRANSFER,
        sequence: 300,
        limit: 1_114_112,
        durable: 1_048_576,
        chunk_bytes: 16_384,
        rate_bytes_per_second: 0,
        time: 123_456_789,
    };
    agreed("credit.bin", &credit);
}

#[test]
fn answers_are_written_as_agreed() {
    let part = Part {
        segment: SEGMENT,
        version: VERSION,
        start: 1_000,
        end: 3_000_000,
        range: seconds(99, 146),
        uncertainty_ns: 1_000,
        media: vec![1, 2, 3],
    };
    let located = Located {
        request: RequestId(7),
        stream: "main".parse().unwrap(),
        parts: vec![part],
        next: Some(Timestamp::from_unix_seconds(146)),
    };
    agreed("tell-located.bin", &Tell::Located(located));
    let segment = ListedSegment {
        range: seconds(99, 146),
        uncertainty_ns: 1_000,
        size_bytes: 4_000_000,
        tier: 1,
        sealed: true,
    };
    let listed = Listed {
        request: RequestId(7),
        stream: "main".parse().unwrap(),
        segments: vec![segment],
        next: Some(Timestamp::from_unix_seconds(146)),
    };
    agreed("tell-listed.bin", &Tell::Listed(listed));
    agreed("tell-accepted.bin", &Tell::Accepted { transfer: TRANSFER, length_bytes: 1_951_424 });
    agreed(
        "tell-end.bin",
        &Tell::End {
            transfer: TRANSFER,
            digest: PartDigest {
                blake3: *b"0123456789abcdef0123456789abcdef",
                seal: SealCheck::Equal,
            },
        },
    );
    for (name, what, reason) in [
        ("tell-refused-gone.bin", Refusable::Transfer(TRANSFER), RefusedReason::Gone),
        ("tell-refused-malformed.bin", Refusable::Request(RequestId(7)), RefusedReason::Malformed),
        (
            "tell-refused-altered.bin",
            Refusable::Transfer(TRANSFER),
            RefusedReason::Altered { intact: 1_048_576 },
        ),
    ] {
        agreed(name, &Tell::Refused { what, reason });
    }
}

#[test]
fn a_frame_is_written_as_agreed() {
    let mut bytes = vec![0xff; HEADER_BYTES];
    bytes.extend_from_slice(b"media");
    frame::seal(&mut bytes, TRANSFER, 1_048_576, 123_456_789).unwrap();
    assert_eq!(
        hex(&bytes),
        hex(&golden("data.bin")),
        "left: written now, right: tests/golden/data.bin"
    );
    let (transfer, offset, echo, payload) = (TRANSFER, 1_048_576, 123_456_789, b"media".as_slice());
    assert_eq!(Data::decode(&bytes), Ok(Data { transfer, offset, echo, payload }));
}
