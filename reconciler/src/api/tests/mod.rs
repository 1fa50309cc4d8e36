//! What a request becomes: an order, and an answer or a refusal in the API's words.

mod description;
mod looks;

use axum::Extension;
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tower::ServiceExt;

use super::*;
use crate::access::Caller;
use crate::archive::ArchiveChange;
use crate::examples::{at, camera, job_status, key, seconds, sources};
use crate::fleet::StreamKey;
use crate::http::HttpConfig;
use crate::job::{JobId, JobState};
use crate::ledger::{Entry, SqliteLedger, ledger_path};
use crate::order::{Answer, Found, Heard, ListedPolicy, Order, OrderError, Work};
use crate::policy::{Origin, Policies, PolicyError};
use crate::run::{Run, RunId};
use crate::time::Clock;

/// A router whose orders are answered by a function.
struct Counter {
    router: Router,
    ledger: Arc<SqliteLedger>,
    happens: broadcast::Sender<Event>,
    _changes: mpsc::Receiver<ArchiveChange>,
    _state_dir: TempDir,
}

impl Counter {
    async fn open(
        answer: impl Fn(Order) -> Result<Answer, OrderError> + Send + 'static,
    ) -> Counter {
        let (desk, mut asked) = Desk::open(1);
        tokio::spawn(async move {
            while let Some(asked) = asked.recv().await {
                drop(asked.answer.send(answer(asked.order)));
            }
        });
        Counter::of(desk).await
    }

    async fn of(desk: Desk) -> Counter {
        let state_dir = tempfile::tempdir().unwrap();
        let ledger = SqliteLedger::open(&ledger_path(state_dir.path())).await.unwrap();
        let ledger = Arc::new(ledger);
        let access = Access::open(ledger.clone(), Clock::start(), HttpConfig::default().access());
        let access = access.await.unwrap();
        let owner = Caller::on_the_socket(&access, "owner".to_owned());
        let (sources, happens, changes) = sources(desk, ledger.clone(), access, state_dir.path());
        // As the Unix socket serves it.
        let router = router(sources).layer(Extension(owner));
        Counter { router, ledger, happens, _changes: changes, _state_dir: state_dir }
    }

    async fn knows(&self, stream: &str) {
        let key = StreamKey { device: camera(), stream: stream.parse().unwrap() };
        self.ledger.record(&[Entry::Stream { key, expected_from: at(0) }]).await.unwrap();
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&str>) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Body::from(body.unwrap_or_default().to_owned())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let kind =
            if status.is_success() { "application/json" } else { "application/problem+json" };
        assert_eq!(response.headers()[CONTENT_TYPE], kind);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// Status and text, whatever they are.
    async fn ask_plainly(&self, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.ask(Method::GET, path, None).await
    }
}

fn job(order: Order) -> Result<Answer, OrderError> {
    let (key, range, deadline) = match order {
        Order::Pull { key, range, deadline } => (key, range, deadline),
        _ => (key(), seconds(0, 45), at(100)),
    };
    Ok(Answer::Job(Box::new(job_status(key, range, deadline))))
}

const RANGE: &str = "from=1970-01-01T00:00:00Z&to=1970-01-01T00:00:45Z";

#[tokio::test]
async fn a_search_finds_the_only_stream_by_itself() {
    let counter = Counter::open(|order| {
        let Order::Search { key, range } = order else { panic!("{order:?}") };
        Ok(Answer::Found(Box::new(Found {
            key,
            range,
            device: Heard::Offline,
            held: range.into(),
            tier: 1,
            uncertainty_ns: 5_000_000,
            horizon: None,
            goes_at: None,
            segments: Vec::new(),
            cut_off: false,
            archive: Vec::new(),
        })))
    })
    .await;
    let path = format!("/api/v1/search?device=camera&{RANGE}");
    let (status, problem) = counter.get(&path).await;
    assert_eq!((status, problem["status"].as_u64()), (StatusCode::NOT_FOUND, Some(404)));
    counter.knows("main").await;
    let (status, found) = counter.get(&path).await;
    assert_eq!(status, StatusCode::OK, "{found}");
    assert_eq!((&found["stream"], &found["heard"]), (&json!("main"), &json!("offline")));
    assert_eq!(
        (&found["to"], &found["uncertainty_s"]),
        (&json!("1970-01-01T00:00:45Z"), &json!(0.005))
    );
    counter.knows("sub").await;
    let (status, problem) = counter.get(&path).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(problem["detail"].as_str().unwrap().contains("main, sub"), "{problem}");
}

#[tokio::test]
async fn a_job_is_made_with_a_deadline_of_a_day_where_none_is_given() {
    let counter = Counter::open(job).await;
    counter.knows("main").await;
    let body =
        "{\"device\":\"camera\",\"from\":\"1970-01-01T00:00:00Z\",\"to\":\"1970-01-01T00:00:45Z\"}";
    let (status, made) = counter.ask(Method::POST, "/api/v1/jobs", Some(body)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let deadline: sdcard_indexer::time::Timestamp =
        made["deadline"].as_str().unwrap().parse().unwrap();
    let day = deadline.since(sdcard_indexer::time::Timestamp::from_jiff(jiff::Timestamp::now()));
    assert!((86_000..=86_400).contains(&day.as_secs()), "{day:?}");
    assert_eq!(made["id"], "j12");
    let (status, _) = counter.get("/api/v1/jobs/j12").await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_the_field_is_named() {
    let counter = Counter::open(job).await;
    let times = "\"from\":\"1970-01-01T00:00:00Z\",\"to\":\"1970-01-01T00:00:45Z\"";
    for (body, status, named) in [
        ("{\"device\":", 400, "EOF"),
        ("{\"device\":\"a b\"}", 422, "device"),
        ("{\"device\":\"a\",\"from\":\"yesterday\"}", 422, "from"),
        ("{\"device\":\"a\",\"from\":\"1970-01-01T00:00:00Z\"}", 422, "to"),
        (&format!("{{\"device\":\"a\",{times},\"dead_line\":1}}"), 422, "dead_line"),
        (&format!("{{\"device\":\"a\",{times},\"deadline\":5}}"), 422, "deadline"),
        (
            "{\"device\":\"a\",\"from\":\"1970-01-02T00:00:00Z\",\"to\":\"1970-01-01T00:00:00Z\"}",
            422,
            "from",
        ),
    ] {
        let (answered, problem) = counter.ask(Method::POST, "/api/v1/jobs", Some(body)).await;
        assert_eq!(answered.as_u16(), status, "{body}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(named), "{body}: {problem}");
        assert!(problem["type"].as_str().unwrap().starts_with("urn:gapless:problem:"), "{problem}");
    }
    let (status, problem) = counter.get("/api/v1/search?device=camera&from=x").await;
    assert_eq!(status.as_u16(), 422);
    assert!(problem["detail"].as_str().unwrap().contains("from"), "{problem}");
    let large = format!("{{\"device\":\"{}\"}}", "a".repeat(MOST_BODY_BYTES));
    let (status, _) = counter.ask(Method::POST, "/api/v1/jobs", Some(&large)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn paths_and_methods_that_are_none_are_problems_too() {
    let counter = Counter::open(job).await;
    for (method, path, status) in [
        (Method::GET, "/", 404),
        (Method::GET, "/api/v1/jobs/12", 404),
        (Method::GET, "/api/v1/policies/a%20b", 404),
        (Method::PATCH, "/api/v1/jobs", 405),
    ] {
        let (answered, problem) = counter.ask(method, path, None).await;
        assert_eq!(answered.as_u16(), status, "{path}: {problem}");
    }
}

#[tokio::test]
async fn each_refusal_has_its_status() {
    let stream: sdcard_indexer::identity::StreamId = "main".parse().unwrap();
    let name: crate::policy::PolicyName = "night".parse().unwrap();
    let refusals: [(OrderError, u16); 14] = [
        (OrderError::UnknownDevice { device: camera(), known: "none".into() }, 404),
        (OrderError::UnknownStream { device: camera(), stream, known: "sub".into() }, 404),
        (OrderError::UnknownJob(JobId(1)), 404),
        (OrderError::UnknownRun(RunId(1)), 404),
        (OrderError::JobEnded { job: JobId(1), state: JobState::Done }, 409),
        (OrderError::ManualForbidden(name.clone()), 409),
        (PolicyError::InFile(name.clone()).into(), 409),
        (PolicyError::Unknown(name.clone()).into(), 404),
        (PolicyError::NoModes(name).into(), 422),
        (OrderError::EmptyRange, 422),
        (OrderError::DeadlineOver(at(1)), 422),
        (OrderError::TooManyJobs(1_000), 429),
        (OrderError::TooManySearches(64), 503),
        (OrderError::Ending, 503),
    ];
    for (refusal, status) in refusals {
        let detail = refusal.to_string();
        let counter = Counter::open(move |_| Err(refusal.clone())).await;
        let (answered, problem) = counter.get("/api/v1/jobs").await;
        assert_eq!(answered.as_u16(), status, "{problem}");
        assert_eq!(problem["detail"], detail);
    }
}

#[tokio::test]
async fn a_server_that_has_ended_is_busy_not_silent() {
    let (desk, asked) = Desk::open(1);
    drop(asked);
    let request = Request::get("/api/v1/work").body(Body::empty()).unwrap();
    let response = Counter::of(desk).await.router.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key("retry-after"));
}

#[tokio::test]
async fn runs_come_from_the_ledger_and_open_ones_as_the_core_reckons_them() {
    let run = |id: i64, closed: bool| Run {
        id: RunId(id),
        policy: "night".parse().unwrap(),
        window: seconds(id * 100, id * 100 + 50),
        opened: at(id * 100),
        closed: closed.then(|| at(id * 100 + 50)),
        cancelled: false,
        devices: Default::default(),
    };
    let mut reckoned = run(3, false);
    reckoned.devices.insert(camera(), Default::default());
    let counter = Counter::open(move |order| match order {
        Order::OpenRuns => Ok(Answer::Runs(vec![reckoned.clone()])),
        Order::Work => Ok(Answer::Work(Box::new(Work { devices: Vec::new(), paused: None }))),
        order => panic!("{order:?}"),
    })
    .await;
    let kept = [run(1, true), run(2, true), run(3, false)].map(Entry::Run);
    counter.ledger.record(&kept).await.unwrap();
    let (_, runs) = counter.get("/api/v1/runs?limit=2&policy=night").await;
    let ids: Vec<&Value> = runs.as_array().unwrap().iter().map(|run| &run["id"]).collect();
    assert_eq!(ids, ["r3", "r2"]);
    assert_eq!(runs[0]["devices"][0]["device"], "camera");
    let (_, run) = counter.get("/api/v1/runs/r1").await;
    assert_eq!(run["state"], "closed");
    assert_eq!(counter.get("/api/v1/runs/r9").await.0, StatusCode::NOT_FOUND);
    assert_eq!(counter.get("/api/v1/work").await.1["paused"], Value::Null);
}

#[tokio::test]
async fn a_policys_name_is_that_of_its_path() {
    let counter = Counter::open(|order| match order {
        Order::PutPolicy(policy) => {
            Ok(Answer::Policy(Box::new(ListedPolicy { origin: Origin::Api, policy: *policy })))
        }
        Order::Policies => {
            let policies = Policies::default();
            let all = policies.iter();
            let all = all.map(|(policy, origin)| ListedPolicy { origin, policy: policy.clone() });
            Ok(Answer::Policies(all.collect()))
        }
        order => panic!("{order:?}"),
    })
    .await;
    let put =
        async |body: &str| counter.ask(Method::PUT, "/api/v1/policies/night", Some(body)).await;
    let (status, policy) = put("{\"devices\":[\"*\"],\"priority\":7}").await;
    assert_eq!(status, StatusCode::OK, "{policy}");
    assert_eq!((&policy["name"], &policy["origin"]), (&json!("night"), &json!("api")));
    let (status, problem) = put("{\"name\":\"day\",\"devices\":[\"*\"]}").await;
    assert_eq!(status.as_u16(), 422);
    assert!(problem["detail"].as_str().unwrap().contains("night"), "{problem}");
    let (status, problem) = put("{\"devices\":[\"*\"],\"priority\":700}").await;
    assert_eq!(status.as_u16(), 422);
    assert!(problem["detail"].as_str().unwrap().contains("priority"), "{problem}");
    let (status, policy) = counter.get("/api/v1/policies/default").await;
    assert_eq!((status, &policy["origin"]), (StatusCode::OK, &json!("built_in")));
    assert_eq!(counter.get("/api/v1/policies/day").await.0, StatusCode::NOT_FOUND);
}
