//! What only looks: devices, timelines, gaps, and what supervisors ask.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use sdcard_indexer::coverage::Coverage;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::board::{DeviceStatus, Look, OnCard, PlacedPiece, Sight, Snapshot, StreamStatus};
use crate::ledger::{PartId, PieceSeam};
use crate::seam::{Edge, Seam};
use crate::tally::Tally;
use crate::timeline::{Proof, Recorder, State as InState, Stretch};

fn live() -> InState {
    InState::Archived { by: Recorder::Live, proof: Proof::None, uncertainty_ns: 0 }
}

/// A minute recorded, a second missing, and so on.
fn holey(minutes: i64) -> Arc<[Stretch]> {
    let minute = |minute: i64| {
        let (start, hole, end) = (60 * minute, 60 * minute + 59, 60 * minute + 60);
        let live = Stretch { range: seconds(start, hole), state: live() };
        [live, Stretch { range: seconds(hole, end), state: InState::Missing }]
    };
    (0..minutes).flat_map(minute).collect()
}

fn key_of(device: &str) -> StreamKey {
    StreamKey { device: device.parse().unwrap(), ..key() }
}

fn snapshot(key: StreamKey, minutes: i64) -> Snapshot {
    let stretches = holey(minutes);
    Snapshot { key, as_of: Some(at(60 * minutes)), tally: Tally::of(&stretches), stretches }
}

fn status(device: &str, minutes: i64) -> DeviceStatus {
    let Snapshot { as_of, tally, .. } = snapshot(key(), minutes);
    let stream = StreamStatus {
        stream: key().stream,
        policy: "default".parse().unwrap(),
        tally,
        as_of: as_of.filter(|_| minutes > 0),
        expected_from: at(0),
        recorded: None,
        held: Some(seconds(0, 10)),
        heard: Heard::Live,
        horizon: None,
    };
    DeviceStatus {
        device: device.parse().unwrap(),
        online: true,
        last_heard: Some(at(5)),
        agent_version: "1".into(),
        network: None,
        at_risk: None,
        streams: vec![stream],
    }
}

async fn seen(sight: impl Fn(Look) -> Sight + Send + 'static) -> Counter {
    Counter::open(move |order| match order {
        Order::Look(look) => Ok(Answer::Seen(sight(look))),
        order => panic!("{order:?}"),
    })
    .await
}

const TIMELINE: &str = "/api/v1/devices/camera/streams/main/timeline";

#[tokio::test]
async fn a_timeline_is_cut_to_what_was_asked_and_paged() {
    let counter = seen(|look| {
        assert_eq!(look, Look::Timeline(key()));
        Sight::Timeline(snapshot(key(), 10))
    })
    .await;
    let (status, all) = counter.get(TIMELINE).await;
    assert_eq!(status, StatusCode::OK, "{all}");
    assert_eq!((all["items"].as_array().unwrap().len(), &all["next"]), (20, &Value::Null));
    assert_eq!(all["completeness"]["open_s"], 10.0);
    let range = "from=1970-01-01T00:00:30Z&to=1970-01-01T00:02:30Z";
    let (_, cut) = counter.get(&format!("{TIMELINE}?{range}&limit=2")).await;
    assert_eq!(cut["completeness"]["expected_s"], 120.0);
    assert_eq!(cut["by_state_s"]["missing"], 2.0);
    assert_eq!(
        (&cut["items"][0]["seconds"], &cut["items"][1]["state"]),
        (&json!(29.0), &json!("missing"))
    );
    let mut told = cut["items"].as_array().unwrap().clone();
    let mut next = cut["next"].as_str().map(str::to_owned);
    while let Some(after) = next {
        let (_, page) = counter.get(&format!("{TIMELINE}?{range}&limit=2&after={after}")).await;
        assert_eq!(page["completeness"], cut["completeness"]);
        told.extend(page["items"].as_array().unwrap().clone());
        next = page["next"].as_str().map(str::to_owned);
    }
    let (_, whole) = counter.get(&format!("{TIMELINE}?{range}")).await;
    assert_eq!(told, *whole["items"].as_array().unwrap());
}

#[tokio::test]
async fn a_coarse_timeline_is_small_and_hides_nothing() {
    let counter = seen(|_| Sight::Timeline(snapshot(key(), 10))).await;
    let (_, coarse) = counter.get(&format!("{TIMELINE}?resolution_s=300")).await;
    let items = coarse["items"].as_array().unwrap();
    assert_eq!(items.len(), 2, "{coarse}");
    assert_eq!((&items[0]["state"], &items[0]["mixed"]), (&json!("missing"), &json!(true)));
    assert_eq!(items[0]["by_state_s"]["archived"], 295.0);
    for wrong in ["-1", "NaN", "inf", "1e300", "x"] {
        let (status, problem) = counter.get(&format!("{TIMELINE}?resolution_s={wrong}")).await;
        assert_eq!(status.as_u16(), 422, "{wrong}");
        assert!(problem["detail"].as_str().unwrap().contains("resolution_s"), "{problem}");
    }
}

#[tokio::test]
async fn what_the_archive_was_not_read_for_is_not_called_complete() {
    let counter = seen(|look| match look {
        Look::Device(_) => Sight::Device(Box::new(status("camera", 0))),
        _ => Sight::Timeline(Snapshot { as_of: None, ..snapshot(key(), 0) }),
    })
    .await;
    for path in [TIMELINE, "/api/v1/devices/camera"] {
        let (_, answer) = counter.get(path).await;
        let completeness = &answer["completeness"];
        assert_eq!(
            (&completeness["complete"], &completeness["percent"]),
            (&json!(false), &json!(0))
        );
    }
}

#[tokio::test]
async fn devices_come_a_page_at_a_time_each_with_its_sums() {
    let counter = seen(|look| match look {
        Look::Devices { after, most } => {
            let all = ["a", "b", "c"].map(|name| status(name, 1));
            let behind = all.into_iter().filter(|one| Some(&one.device) > after.as_ref());
            Sight::Devices(behind.take(most).collect())
        }
        look => panic!("{look:?}"),
    })
    .await;
    let (_, page) = counter.get("/api/v1/devices?limit=2").await;
    assert_eq!((&page["items"][1]["device"], &page["next"]), (&json!("b"), &json!("b")), "{page}");
    assert_eq!(page["items"][0]["completeness"]["open_s"], 1.0);
    let (_, rest) = counter.get("/api/v1/devices?limit=2&after=b").await;
    assert_eq!((&rest["items"][0]["device"], &rest["next"]), (&json!("c"), &Value::Null));
    assert_eq!(counter.get("/api/v1/devices?limit=0").await.0.as_u16(), 422);
}

#[tokio::test]
async fn gaps_are_found_over_all_streams_and_told_once_each() {
    let counter = seen(|look| {
        let Look::Timelines { from, most, .. } = look else { panic!("{look:?}") };
        let names = (0..600).map(|number| format!("cam-{number:03}"));
        let keys = names.map(|name| key_of(&name)).filter(|key| Some(key) >= from.as_ref());
        // Most are whole.
        let of = |key: StreamKey| {
            let number: i64 = key.device.as_str()[4..].parse().unwrap();
            snapshot(key, if number % 100 == 7 { 3 } else { 0 })
        };
        Sight::Timelines(keys.take(most).map(of).collect())
    })
    .await;
    let (mut told, mut next) = (Vec::new(), String::new());
    loop {
        let (status, page) = counter.get(&format!("/api/v1/gaps?limit=4{next}")).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        told.extend(page["items"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(after) => next = format!("&after={after}"),
            None => break,
        }
    }
    assert_eq!(told.len(), 18);
    assert!(told.iter().all(|gap| gap["state"] == "missing" && gap["seconds"] == 1.0));
    let places: std::collections::BTreeSet<String> =
        told.iter().map(|gap| format!("{} {}", gap["device"], gap["from"])).collect();
    assert_eq!(places.len(), 18);
    let range = "from=1970-01-01T00:01:00Z&to=1970-01-01T00:02:00Z";
    let (_, page) = counter.get(&format!("/api/v1/gaps?{range}")).await;
    assert_eq!(page["items"].as_array().unwrap().len(), 6);
    let (mut newest, mut next) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/gaps?newest_first=true&limit=4{next}");
        let (_, page) = counter.get(&path).await;
        newest.extend(page["items"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(after) => next = format!("&after={after}"),
            None => break,
        }
    }
    let turned = told.chunks(3).flat_map(|of_stream| of_stream.iter().rev());
    assert_eq!(newest.iter().collect::<Vec<_>>(), turned.collect::<Vec<_>>());
    let (status, problem) = counter.get("/api/v1/gaps?after=nowhere").await;
    assert_eq!(status.as_u16(), 422);
    assert!(problem["detail"].as_str().unwrap().contains("nowhere"), "{problem}");
}

#[tokio::test]
async fn what_a_card_holds_and_how_pieces_meet_is_told_with_how_sure_it_is() {
    let counter = seen(|look| match look {
        Look::Held { key, range } => {
            let held: Coverage = (0..5).map(|n| seconds(10 * n, 10 * n + 5)).collect();
            Sight::Held(Box::new(OnCard {
                key,
                heard: Heard::Offline,
                as_of: Some(at(100)),
                held: held.clip(range),
                horizon: Some(at(0)),
                final_until: None,
                tier: 1,
                uncertainty_ns: 500_000_000,
            }))
        }
        Look::Pieces { range, .. } => {
            assert_eq!(range.start(), at(10));
            let exact = Seam::Exact { offset_ns: -7, error_ns: 1, equal_frames: 9 };
            let seams = vec![PieceSeam { edge: Edge::Opening, seam: exact }];
            let piece = |part, start| PlacedPiece {
                part: PartId(part),
                range: seconds(start, start + 5),
                proof: Proof::Sealed,
                seams: seams.clone(),
            };
            Sight::Pieces(vec![piece(2, 10), piece(3, 10), piece(1, 20)])
        }
        look => panic!("{look:?}"),
    })
    .await;
    let stream = "/api/v1/devices/camera/streams/main";
    let (_, held) = counter.get(&format!("{stream}/coverage?limit=2")).await;
    assert_eq!((&held["heard"], &held["uncertainty_s"]), (&json!("offline"), &json!(0.5)));
    let next = held["next"].as_str().unwrap();
    let (_, rest) = counter.get(&format!("{stream}/coverage?after={next}")).await;
    assert_eq!((rest["held"].as_array().unwrap().len(), &rest["next"]), (3, &Value::Null));
    let from = "from=1970-01-01T00:00:10Z";
    let (_, page) = counter.get(&format!("{stream}/seams?{from}&limit=1")).await;
    let seam = &page["items"][0]["seams"][0];
    assert_eq!((&seam["seam"], &seam["offset_ns"]), (&json!("exact"), &json!(-7)), "{page}");
    let next = page["next"].as_str().unwrap();
    let (_, rest) = counter.get(&format!("{stream}/seams?{from}&after={next}")).await;
    let parts: Vec<_> = rest["items"].as_array().unwrap().iter().map(|it| &it["part"]).collect();
    assert_eq!(parts, [3, 1]);
}

#[tokio::test]
async fn runs_to_come_are_paged_in_the_order_of_their_time() {
    let counter = Counter::open(|order| {
        assert_eq!(order, Order::Policies);
        let policy = |name: &str| {
            let schedule = json!({"cron": "0 23 * * *", "time_zone": "UTC", "window": "1h"});
            let fields = json!({"name": name, "devices": ["*"], "modes": ["scheduled"], "schedule": schedule});
            ListedPolicy { origin: Origin::Api, policy: serde_json::from_value(fields).unwrap() }
        };
        Ok(Answer::Policies(vec![policy("night"), policy("evening")]))
    })
    .await;
    let (_, first) = counter.get("/api/v1/next-runs?limit=3").await;
    let names = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap().iter();
        items.map(|run| format!("{} {}", run["from"], run["policy"])).collect()
    };
    let next = first["next"].as_str().unwrap();
    let (_, second) = counter.get(&format!("/api/v1/next-runs?limit=3&after={next}")).await;
    let (_, all) = counter.get("/api/v1/next-runs?limit=6").await;
    assert_eq!([names(&first), names(&second)].concat(), names(&all));
    assert_eq!(all["items"][0]["policy"], "evening");
    let (_, night) = counter.get("/api/v1/next-runs?policy=night&limit=2").await;
    assert!(names(&night).iter().all(|run| run.contains("night")));
    assert_eq!(counter.get("/api/v1/next-runs?policy=day").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_server_is_ready_only_where_all_that_it_stands_on_answers() {
    let link = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let up = link.clone();
    let counter =
        seen(move |_| Sight::Link { is_up: up.load(std::sync::atomic::Ordering::Relaxed) }).await;
    let (status, ready) = counter.get("/readyz").await;
    assert_eq!((status, &ready["ready"]), (StatusCode::OK, &json!(true)), "{ready}");
    link.store(false, std::sync::atomic::Ordering::Relaxed);
    let (status, ready) = counter.ask_plainly("/readyz").await;
    let ready: Value = serde_json::from_str(&ready).unwrap();
    assert_eq!((status, &ready["broker"]), (StatusCode::SERVICE_UNAVAILABLE, &json!(false)));
    assert_eq!((&ready["archive"], &ready["ledger"]), (&json!(true), &json!(true)));
    assert_eq!(counter.ask_plainly("/healthz").await, (StatusCode::OK, "ok\n".to_owned()));
    let (desk, asked) = Desk::open(1);
    drop(asked);
    let (status, ready) = Counter::of(desk).await.ask_plainly("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(ready.contains("\"core\":false"), "{ready}");
}

#[tokio::test]
async fn requests_are_counted_by_their_route_whatever_stands_in_it() {
    let counter = seen(|look| match look {
        Look::Totals => Sight::Totals(Box::default()),
        _ => Sight::Timeline(snapshot(key(), 1)),
    })
    .await;
    for path in [TIMELINE, "/api/v1/devices/a%20b/streams/main/timeline", "/nowhere"] {
        counter.ask_plainly(path).await;
    }
    let (_, text) = counter.ask_plainly("/metrics").await;
    let route = "/api/v1/devices/{device}/streams/{stream}/timeline";
    for (route, status) in [(route, 200), (route, 404), ("none", 404)] {
        let line = format!(
            "gapless_api_requests_total{{method=\"GET\",route=\"{route}\",status=\"{status}\"}} 1"
        );
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn events_come_as_a_stream_that_ends_with_what_can_happen() {
    let counter = seen(|look| panic!("{look:?}")).await;
    let request = Request::get("/api/v1/events").body(Body::empty()).unwrap();
    let response = counter.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream");
    counter.happens.send(Event::Online(camera())).unwrap();
    let Counter { happens, router, .. } = counter;
    drop((happens, router));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(text.starts_with("event: device\nid: "), "{text}");
    assert!(text.ends_with("data: {\"device\":\"camera\",\"online\":true}\n\n"), "{text}");
}
