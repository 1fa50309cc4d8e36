//! The description of the API: what is committed, and what is served.

use axum::body::Body;
use axum::http::{Method, Request};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;
use crate::order::OrderError;

const COMMITTED: &str = include_str!("../../../openapi.json");

#[test]
fn what_is_committed_is_what_the_handlers_say() {
    let differs = openapi::text().lines().zip(COMMITTED.lines()).find(|(is, was)| is != was);
    assert!(
        openapi::text() == COMMITTED,
        "the API has changed, first at {differs:?}: look at it, and renew what is committed with\n  \
         cargo run -p reconciler -- openapi > reconciler/openapi.json"
    );
}

/// Each operation that is described is answered by a handler, and not by what stands in for missing ones.
#[tokio::test]
async fn every_route_that_is_described_is_served() {
    let counter = Counter::open(|_| Err(OrderError::Ending)).await;
    let document: Value = serde_json::from_str(openapi::text()).unwrap();
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let filled = path.replace("{id}", "j1").replace(['{', '}'], "");
            let request = Request::builder().method(&method).uri(&filled);
            let request = request.body(Body::empty()).unwrap();
            let response = counter.router.clone().oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            assert_ne!(status, 405, "{method} {path}");
            if path != "/api/v1/events" && status == 404 {
                let body = response.into_body().collect().await.unwrap().to_bytes();
                let text = String::from_utf8_lossy(&body);
                assert!(!text.contains("nothing is served"), "{method} {path}: {text}");
            }
            asked += 1;
        }
    }
    assert!(asked >= 24, "{asked}");
}

#[test]
fn every_operation_says_what_it_answers_and_how_it_refuses() {
    let document: Value = serde_json::from_str(openapi::text()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let of = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{of} has no summary");
            let answers = operation["responses"].as_object().unwrap();
            assert!(answers.keys().any(|status| status.starts_with('2')), "{of}");
            if path.starts_with("/api/") {
                assert!(answers.contains_key("default"), "{of}");
            }
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(parameter["description"].is_string(), "{of}: {}", parameter["name"]);
            }
        }
    }
    // Nothing refers to what is not there.
    for reference in openapi::text().split("\"$ref\": \"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
}
