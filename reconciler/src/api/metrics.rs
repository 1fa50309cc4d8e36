//! Metrics, as Prometheus reads them (OpenMetrics text).
//!
//! No label can have more values than this program knows words for: no device, stream or path of a request stands
//! in one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::jobs::unexpected;
use super::openapi::Otherwise;
use super::{Asked, Kind, Problem};
use crate::board::{Look, Sight, Totals};
use crate::broker::{BrokerCounter, BrokerCounts};
use crate::ledger::PartState;
use crate::order::Answer;
use crate::tally::StateWord;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfRequest {
    method: &'static str,
    /// As in the description of the API, or `none`.
    route: String,
    status: u16,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfRoute {
    route: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct InState {
    state: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Refused {
    what: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ByCause {
    cause: String,
}

/// Seconds as a number with a fraction.
type Seconds = Gauge<f64, AtomicU64>;

/// What requests have come, and how long they took.
#[derive(Clone, Debug)]
pub struct Requests {
    count: Family<OfRequest, Counter>,
    seconds: Family<OfRoute, Histogram, fn() -> Histogram>,
}

impl Default for Requests {
    fn default() -> Self {
        // From a millisecond to half a minute.
        let buckets: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 16));
        Requests { count: Family::default(), seconds: Family::new_with_constructor(buckets) }
    }
}

/// Counts every request by the route that answered it.
pub async fn count(
    State(requests): State<Arc<Requests>>,
    request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("none", MatchedPath::as_str).to_owned();
    let method = method_word(request.method().as_str());
    let began = Instant::now();
    let response = next.run(request).await;
    let of_route = OfRoute { route: route.clone() };
    requests.seconds.get_or_create(&of_route).observe(began.elapsed().as_secs_f64());
    let status = response.status().as_u16();
    requests.count.get_or_create(&OfRequest { method, route, status }).inc();
    response
}

/// Anybody may send a method that nobody knows.
fn method_word(method: &str) -> &'static str {
    ["GET", "HEAD", "POST", "PUT", "DELETE"]
        .into_iter()
        .find(|known| *known == method)
        .unwrap_or("other")
}

/// Sums over everything, for Prometheus
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "server",
    responses(
        (status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text"),
        Otherwise
    )
)]
pub async fn metrics(State(asked): State<Asked>) -> Result<Response, Problem> {
    let totals = match asked.look(Look::Totals).await? {
        Sight::Totals(totals) => totals,
        other => return Err(unexpected(&Answer::Seen(other))),
    };
    let broker = asked.broker.as_ref().map(BrokerCounter::counts);
    let text = written(&totals, broker, &asked.requests, asked.news.watchers());
    let text = text.map_err(|error| Problem::new(Kind::Failed, error))?;
    let mut response = text.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS));
    Ok(response)
}

fn written(
    totals: &Totals,
    broker: Option<BrokerCounts>,
    requests: &Requests,
    watchers: usize,
) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("gapless");
    let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "What runs here", build);
    of_fleet(&mut registry, totals);
    of_parts(&mut registry, totals);
    let unusable = Family::<ByCause, Counter>::default();
    for (cause, messages) in &totals.unusable {
        let cause = format!("{cause:?}").to_lowercase();
        unusable.get_or_create(&ByCause { cause }).inc_by(*messages);
    }
    registry.register(
        "unusable_messages",
        "Messages from devices that could not be used",
        unusable,
    );
    if let Some(counts) = broker {
        of_broker(&mut registry, counts);
    }
    let (counted, taken) = (requests.count.clone(), requests.seconds.clone());
    registry.register("api_requests", "Requests answered, by route and status", counted);
    let help = "How long requests took to be answered";
    registry.register_with_unit("api_request", help, Unit::Seconds, taken);
    gauge(&mut registry, "event_watchers", "Watchers of server-sent events", watchers as u64);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn of_fleet(registry: &mut Registry, totals: &Totals) {
    let link = u64::from(totals.link_is_up);
    gauge(registry, "broker_link_up", "1 while there is a connection to the broker", link);
    gauge(registry, "devices", "Devices that are known", totals.devices);
    gauge(registry, "devices_online", "Devices that are there", totals.online);
    let help = "Devices that will lose footage before it can be pulled";
    gauge(registry, "devices_at_risk", help, totals.devices_at_risk);
    gauge(registry, "streams", "Streams that are known", totals.streams);
    let lengths = Family::<InState, Seconds>::default();
    for state in StateWord::ALL {
        let length = totals.tally.in_state(state).as_secs_f64();
        lengths.get_or_create(&InState { state: state.word() }).set(length);
    }
    let help = "Time that should be recorded, over all streams, by its state";
    registry.register_with_unit("timeline", help, Unit::Seconds, lengths);
}

fn of_parts(registry: &mut Registry, totals: &Totals) {
    let parts = Family::<InState, Gauge>::default();
    for (state, count) in PartState::ALL.iter().zip(totals.parts) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        parts.get_or_create(&InState { state: state.word() }).set(count);
    }
    registry.register(
        "parts",
        "Parts of segments that were located, by how far they have come",
        parts,
    );
    gauge(registry, "parts_running", "Parts that are being pulled or merged", totals.running);
    gauge(registry, "parts_waiting", "Parts that wait for their turn", totals.waiting);
    gauge(registry, "jobs_open", "Jobs that are open", totals.jobs_open);
    gauge(registry, "runs_open", "Runs whose window is open", totals.runs_open);
    let help = "Media bytes that have come from devices";
    let came = ConstCounter::new(totals.received_bytes);
    registry.register_with_unit("received", help, Unit::Bytes, came);
    let help = "Of these, the ones that had come before";
    let again = ConstCounter::new(totals.resent_bytes);
    registry.register_with_unit("resent", help, Unit::Bytes, again);
}

/// Of the embedded broker: one of one's own has metrics of its own.
fn of_broker(registry: &mut Registry, counts: BrokerCounts) {
    let BrokerCounts {
        refused_handshakes,
        refused_connections,
        refused_publishes,
        refused_subscriptions,
        dropped_messages,
        delayed_chunks,
        not_retained,
    } = counts;
    let refused = Family::<Refused, Counter>::default();
    for (what, count) in [
        ("handshake", refused_handshakes),
        ("connection", refused_connections),
        ("publish", refused_publishes),
        ("subscription", refused_subscriptions),
        ("retain", not_retained),
    ] {
        refused.get_or_create(&Refused { what }).inc_by(count);
    }
    let help = "What the embedded broker has refused clients; its log says whom and why";
    registry.register("broker_refused", help, refused);
    let help = "Messages that the embedded broker took and did not deliver";
    registry.register("broker_dropped_messages", help, ConstCounter::new(dropped_messages));
    let help = "Chunks that waited in the embedded broker because the server was behind";
    registry.register("broker_delayed_chunks", help, ConstCounter::new(delayed_chunks));
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(name, help, value);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use protocol::dropped::Cause;

    use super::*;
    use crate::tally::Tally;

    #[test]
    fn every_sum_is_written_under_its_name() {
        let mut tally = Tally::default();
        tally.add(StateWord::Missing, Duration::from_millis(45_500));
        let totals = Totals {
            devices: 3,
            online: 2,
            tally,
            parts: [1, 0, 0, 7, 0],
            waiting: 1,
            received_bytes: 9_000,
            resent_bytes: 10,
            unusable: vec![(Cause::Checksum, 4)],
            link_is_up: true,
            ..Totals::default()
        };
        let requests = Requests::default();
        let of = OfRequest { method: "GET", route: "/api/v1/jobs/{id}".into(), status: 404 };
        requests.count.get_or_create(&of).inc();
        let broker =
            BrokerCounts { refused_handshakes: 2, dropped_messages: 6, ..Default::default() };
        let text = written(&totals, Some(broker), &requests, 5).unwrap();
        for line in [
            "gapless_devices 3",
            "gapless_devices_online 2",
            "gapless_broker_link_up 1",
            "gapless_timeline_seconds{state=\"missing\"} 45.5",
            "gapless_parts{state=\"archived\"} 7",
            "gapless_parts_waiting 1",
            "gapless_received_bytes_total 9000",
            "gapless_resent_bytes_total 10",
            "gapless_unusable_messages_total{cause=\"checksum\"} 4",
            "gapless_broker_refused_total{what=\"handshake\"} 2",
            "gapless_broker_refused_total{what=\"publish\"} 0",
            "gapless_broker_dropped_messages_total 6",
            "gapless_event_watchers 5",
            "gapless_api_requests_total{method=\"GET\",route=\"/api/v1/jobs/{id}\",status=\"404\"} 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|written| written == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_method_that_nobody_knows_makes_no_label_of_its_own() {
        assert_eq!(method_word("DELETE"), "DELETE");
        assert_eq!(method_word("BREW"), "other");
    }
}
