//! The core with its ledger and the API's router, driven as the server drives them, but with nothing around.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use axum::body::Body;
use axum::http::Request;
use axum::{Extension, Router};
use http_body_util::BodyExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use reconciler::access::{Access, Caller};
use reconciler::api;
use reconciler::archive::{Archive, ArchiveChange};
use reconciler::config::Config;
use reconciler::fleet::StreamKey;
use reconciler::ledger::{Entry, Ledger, Memory, SqliteLedger, ledger_path};
use reconciler::reconcile::driver::{Asked, Desk, TICK};
use reconciler::reconcile::{Action, Core, Event, Input};
use reconciler::time::Clock;
use tempfile::TempDir;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{MissedTickBehavior, interval};
use tower::ServiceExt;

use super::HeldUp;
use super::fleet::Month;

pub struct Server {
    router: Router,
    ledger: Arc<SqliteLedger>,
    pub core: HeldUp,
    ticks: HeldUp,
    /// How long it took to know all timelines.
    pub ready: Duration,
    began: Instant,
    _changes: mpsc::Receiver<ArchiveChange>,
    _directory: TempDir,
}

impl Server {
    pub async fn start(month: &Month, devices: usize) -> anyhow::Result<Server> {
        let directory = tempfile::tempdir()?;
        let text = format!("[server]\nmax_devices = {}\n", devices + 1);
        let config = Config::parse(&text, &directory.path().join("gapless.toml"))?;
        let ledger = Arc::new(SqliteLedger::open(&ledger_path(directory.path())).await?);
        let keys = keys(devices);
        let known = |key: &StreamKey| Entry::Stream {
            key: key.clone(),
            expected_from: month.timeline().as_of,
        };
        ledger.record(&keys.iter().map(known).collect::<Vec<_>>()).await?;
        let streams = (0..).zip(&keys).map(|(n, key)| month.record(key.clone(), 1 + n * 10_000));
        let memory = Memory { streams: streams.collect(), ..Memory::default() };
        let clock = Clock::start();
        let began = Instant::now();
        let random = StdRng::seed_from_u64(7);
        let (mut core, actions) = Core::resume(config.clone(), memory, random, clock.now());
        remember(&ledger, actions).await?;
        for key in &keys {
            let change = ArchiveChange { key: key.clone(), archived: month.archived() };
            let actions = core.handle(Input::Archive(change), clock.now());
            remember(&ledger, actions).await?;
        }
        let ready = began.elapsed();
        let (desk, orders) = Desk::open(64);
        let (events, watched) = broadcast::channel(1_024);
        let (archive, changes) = Archive::start(&config, config.layout()?)?;
        let access = Access::open(ledger.clone(), clock, config.http.access()).await?;
        let owner = Caller::on_the_socket(&access, "owner".to_owned());
        let sources = api::Sources {
            desk,
            ledger: ledger.clone(),
            archive,
            events: watched,
            access,
            broker: None,
            settings: config.archive.clone(),
        };
        let (held, ticks) = (HeldUp::default(), HeldUp::default());
        let driver = Driver {
            core,
            clock,
            ledger: ledger.clone(),
            events,
            held: held.clone(),
            ticks: ticks.clone(),
        };
        tokio::spawn(driver.run(orders));
        Ok(Server {
            router: api::router(sources).layer(Extension(owner)),
            ledger,
            core: held,
            ticks,
            ready,
            began: Instant::now(),
            _changes: changes,
            _directory: directory,
        })
    }

    /// Bytes of the answer.
    pub async fn get(&self, path: &str) -> anyhow::Result<usize> {
        let request = Request::get(path).body(Body::empty())?;
        let response = self.router.clone().oneshot(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        let is_said = status.is_success() || path == "/readyz";
        ensure!(is_said, "{path}: {status} {}", String::from_utf8_lossy(&body));
        Ok(body.len())
    }

    /// How much of the time the core was busy with ticks, all the while.
    pub fn tell_core(&self) {
        let busy = self.ticks.take().as_secs_f64() / self.began.elapsed().as_secs_f64();
        println!("\nthe core was busy with its own work for {:.1} % of the time", busy * 100.0);
    }

    /// Stretches, bytes and time of one timeline that is written down.
    pub async fn record(&self, month: &Month) -> anyhow::Result<(usize, usize, Duration)> {
        let timeline = month.timeline();
        let (stretches, bytes) =
            (timeline.stretches.len(), serde_json::to_string(&timeline)?.len());
        let key = keys(1).remove(0);
        let entry = [Entry::Timeline { key, timeline }];
        let began = Instant::now();
        const TIMES: u32 = 20;
        for _ in 0..TIMES {
            self.ledger.record(&entry).await?;
        }
        Ok((stretches, bytes, began.elapsed() / TIMES))
    }
}

fn keys(devices: usize) -> Vec<StreamKey> {
    let key = |number| StreamKey {
        device: format!("cam-{number:05}").parse().expect("an id"),
        stream: "main".parse().expect("an id"),
    };
    (0..devices).map(key).collect()
}

async fn remember(ledger: &SqliteLedger, actions: Vec<Action>) -> anyhow::Result<Vec<Action>> {
    let (mut entries, mut deeds) = (Vec::new(), Vec::new());
    for action in actions {
        match action {
            Action::Record(entry) => entries.push(entry),
            deed => deeds.push(deed),
        }
    }
    if !entries.is_empty() {
        ledger.record(&entries).await?;
    }
    Ok(deeds)
}

struct Driver {
    core: Core,
    clock: Clock,
    ledger: Arc<SqliteLedger>,
    events: broadcast::Sender<Event>,
    held: HeldUp,
    ticks: HeldUp,
}

impl Driver {
    async fn run(mut self, mut orders: mpsc::Receiver<Asked>) -> anyhow::Result<()> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (input, answer) = tokio::select! {
                Some(Asked { order, answer }) = orders.recv() => (Input::Order { number: 0, order }, Some(answer)),
                _ = ticks.tick() => (Input::Tick, None),
            };
            let began = Instant::now();
            let actions = self.core.handle(input, self.clock.now());
            let took = began.elapsed();
            if answer.is_some() {
                self.held.add(took)
            } else {
                self.ticks.add(took)
            }
            let mut answer = answer;
            for deed in remember(&self.ledger, actions).await? {
                match deed {
                    Action::Answer { answer: said, .. } => {
                        if let Some(answer) = answer.take() {
                            drop(answer.send(said));
                        }
                    }
                    Action::Say(event) => drop(self.events.send(event)),
                    _ => {}
                }
            }
        }
    }
}
