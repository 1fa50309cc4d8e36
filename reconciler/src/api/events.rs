//! Server-sent events: whoever watches is told what happens, as it happens.
//!
//! One task puts each event into words, once, for all watchers; nobody watches, nothing is written. A watcher that
//! does not keep up loses the oldest events and is told `lagged`: it looks at everything again. Nothing here ever
//! holds up the core, whose own channel drops just so. Whoever has logged out meanwhile is told nothing more.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{self, KeepAlive, Sse};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::Instant;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::{Stream, StreamExt};

use super::openapi::Otherwise;
use super::{Asked, Kind, Problem, view};
use crate::access::Caller;
use crate::ledger::PartId;
use crate::reconcile::Event;

/// Who may watch at once.
pub const MOST_WATCHERS: usize = 256;
/// Events that a watcher may be behind.
const MOST_BEHIND: usize = 512;
/// So that proxies, and the page itself, know that the connection lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Progress of one part is told no more often.
const PROGRESS_PAUSE: Duration = Duration::from_millis(250);
/// Parts of which it is remembered when their progress was told; there are far fewer under way.
const MOST_PARTS: usize = 4_096;

/// An event in words.
#[derive(Clone, Debug)]
struct Told {
    id: u64,
    kind: &'static str,
    data: Arc<str>,
}

impl Told {
    fn event(&self) -> sse::Event {
        sse::Event::default().event(self.kind).id(self.id.to_string()).data(&*self.data)
    }
}

/// Where watchers come in.
#[derive(Debug)]
pub struct News {
    told: broadcast::Receiver<Told>,
    places: Arc<Semaphore>,
    newest: Arc<AtomicU64>,
}

impl News {
    /// Puts what happens into words from now on, until nothing more can happen.
    pub fn tell(events: broadcast::Receiver<Event>) -> News {
        let (teller, told) = broadcast::channel(MOST_BEHIND);
        // Ids go on rising over a restart: whoever comes back with an older one has missed something.
        let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let began = u64::try_from(began.as_micros()).unwrap_or_default();
        let newest = Arc::new(AtomicU64::new(began));
        let places = Arc::new(Semaphore::new(MOST_WATCHERS));
        let task = Teller {
            teller,
            places: places.clone(),
            newest: newest.clone(),
            progress: Progress::default(),
        };
        tokio::spawn(task.run(events));
        News { told, places, newest }
    }

    pub fn watchers(&self) -> usize {
        MOST_WATCHERS - self.places.available_permits()
    }

    /// `last_id`: what a watcher saw last, before its connection broke.
    fn watch(&self, last_id: Option<u64>) -> Option<Watching> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        let told = self.told.resubscribe();
        let newest = self.newest.load(Ordering::Acquire);
        let missed = last_id.is_some_and(|last| last != newest).then_some(newest);
        Some(Watching { told, missed, place })
    }
}

struct Watching {
    told: broadcast::Receiver<Told>,
    /// Something has gone by, up to this.
    missed: Option<u64>,
    place: OwnedSemaphorePermit,
}

impl Watching {
    /// As long as whoever watches `may` hear it.
    fn stream<May: Fn() -> bool>(
        self,
        may: May,
    ) -> impl Stream<Item = Result<sse::Event, Infallible>> + use<May> {
        let Watching { told, missed, place } = self;
        let first = tokio_stream::iter(missed.map(|newest| lagged().id(newest.to_string())));
        let told = BroadcastStream::new(told).take_while(move |_| may());
        let then = told.map(move |told| {
            // Held as long as the stream is.
            let _place = &place;
            match told {
                Ok(told) => told.event(),
                Err(BroadcastStreamRecvError::Lagged(_)) => lagged(),
            }
        });
        first.chain(then).map(Ok)
    }
}

fn lagged() -> sse::Event {
    sse::Event::default().event("lagged").data("{}")
}

/// What happens, as it happens
///
/// `event:` is one of `device`, `timeline`, `progress`, `merged`, `job`, `run`, `at_risk`, `policy`; their data are
/// the schemas `DeviceNews`, `TimelineNews`, `ProgressNews`, `MergedNews`, `JobNews`, `RunNews`, `RiskNews`,
/// `PolicyNews`. `lagged` says that something was missed, also after a connection that broke: look again.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    tag = "server",
    params(("Last-Event-ID" = Option<String>, Header, description = "The last one that was seen; browsers send it by themselves")),
    responses((status = 200, description = "Server-sent events without end", content_type = "text/event-stream", body = String), Otherwise)
)]
pub async fn events(
    State(asked): State<Asked>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>> + use<>>, Problem> {
    let last_id = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let Some(watching) = asked.news.watch(last_id) else {
        let detail = format!("{MOST_WATCHERS} watch already: close some pages, and try again");
        return Err(Problem::new(Kind::Busy, detail));
    };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive");
    let told = watching.stream(move || caller.is_still_known());
    Ok(Sse::new(told).keep_alive(keep_alive))
}

struct Teller {
    teller: broadcast::Sender<Told>,
    places: Arc<Semaphore>,
    newest: Arc<AtomicU64>,
    progress: Progress,
}

impl Teller {
    async fn run(mut self, mut events: broadcast::Receiver<Event>) {
        loop {
            match events.recv().await {
                Ok(event) => self.tell(&event),
                Err(broadcast::error::RecvError::Lagged(_)) => self.send("lagged", &[(); 0]),
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    fn tell(&mut self, event: &Event) {
        match event {
            Event::Online(device) => {
                self.send("device", &view::DeviceNews { device: device.clone(), online: true });
            }
            Event::Offline(device) => {
                self.send("device", &view::DeviceNews { device: device.clone(), online: false });
            }
            Event::Timeline { key, completeness, changed, .. } => {
                let news = view::TimelineNews {
                    device: key.device.clone(),
                    stream: key.stream.clone(),
                    completeness: completeness.into(),
                    changed: (*changed).into(),
                };
                self.send("timeline", &news);
            }
            Event::Progress { key, part, durable_bytes, length_bytes } => {
                let is_whole = durable_bytes >= length_bytes;
                if self.progress.is_due(*part, is_whole, Instant::now()) {
                    let news = view::ProgressNews {
                        device: key.device.clone(),
                        stream: key.stream.clone(),
                        part: *part,
                        bytes: *length_bytes,
                        arrived_bytes: *durable_bytes,
                    };
                    self.send("progress", &news);
                }
            }
            Event::Merged { key, piece, part_bytes, received_bytes, resent_bytes } => {
                let news = view::MergedNews {
                    device: key.device.clone(),
                    stream: key.stream.clone(),
                    range: piece.range.into(),
                    bytes: *part_bytes,
                    received_bytes: *received_bytes,
                    resent_bytes: *resent_bytes,
                };
                self.send("merged", &news);
            }
            Event::Job(job) => self.send("job", &view::JobNews::from(job)),
            Event::Run(run) => self.send("run", &view::RunNews::from(run)),
            Event::AtRisk { device, forecast } => {
                let is_at_risk = !forecast.lost().is_zero();
                let at_risk = is_at_risk.then(|| view::AtRisk::in_short(forecast));
                self.send("at_risk", &view::RiskNews { device: device.clone(), at_risk });
            }
            Event::Policy(policy) => {
                self.send("policy", &view::PolicyNews { policy: policy.clone() });
            }
        }
    }

    fn send(&mut self, kind: &'static str, news: &impl Serialize) {
        let id = self.newest.load(Ordering::Relaxed) + 1;
        self.newest.store(id, Ordering::Release);
        if self.places.available_permits() == MOST_WATCHERS {
            return;
        }
        match serde_json::to_string(news) {
            // Fails only where the last watcher has just gone.
            Ok(data) => drop(self.teller.send(Told { id, kind, data: data.into() })),
            Err(error) => tracing::error!(kind, %error, "news that cannot be told"),
        }
    }
}

/// When the progress of each part was told.
#[derive(Debug, Default)]
struct Progress(BTreeMap<PartId, Instant>);

impl Progress {
    fn is_due(&mut self, part: PartId, is_whole: bool, now: Instant) -> bool {
        if is_whole {
            self.0.remove(&part);
            return true;
        }
        if self.0.get(&part).is_some_and(|told| now.duration_since(*told) < PROGRESS_PAUSE) {
            return false;
        }
        if self.0.len() >= MOST_PARTS {
            self.0.clear();
        }
        self.0.insert(part, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::camera;

    fn policy(name: &str) -> Event {
        Event::Policy(name.parse().unwrap())
    }

    #[tokio::test]
    async fn all_watchers_share_one_text_and_the_stream_ends_with_the_server() {
        let (happens, events) = broadcast::channel(16);
        let news = News::tell(events);
        let mut watching = [news.watch(None).unwrap(), news.watch(None).unwrap()];
        assert_eq!(news.watchers(), 2);
        happens.send(Event::Online(camera())).unwrap();
        let first = watching[0].told.recv().await.unwrap();
        let second = watching[1].told.recv().await.unwrap();
        assert_eq!(
            (first.kind, &*first.data),
            ("device", "{\"device\":\"camera\",\"online\":true}")
        );
        assert!(Arc::ptr_eq(&first.data, &second.data));
        drop(happens);
        for mut watching in watching {
            let ended = watching.told.recv().await.unwrap_err();
            assert_eq!(ended, broadcast::error::RecvError::Closed);
        }
        assert_eq!(news.watchers(), 0);
    }

    #[tokio::test]
    async fn who_does_not_keep_up_is_told_so_and_who_comes_back_too_late_as_well() {
        let (happens, events) = broadcast::channel(4 * MOST_BEHIND);
        let news = News::tell(events);
        let watching = news.watch(None).unwrap();
        for _ in 0..=MOST_BEHIND {
            happens.send(policy("night")).unwrap();
        }
        drop(happens);
        // Over once all have been put into words.
        while watching.told.resubscribe().recv().await.is_ok() {}
        let first = Box::pin(watching.stream(|| true)).next().await.unwrap().unwrap();
        assert!(format!("{first:?}").contains("lagged"), "{first:?}");
        let newest = news.newest.load(Ordering::Acquire);
        let late = news.watch(Some(newest - 1)).unwrap();
        assert_eq!(late.missed, Some(newest));
        assert_eq!(news.watch(Some(newest)).unwrap().missed, None);
        assert_eq!(news.watch(None).unwrap().missed, None);
    }

    #[tokio::test]
    async fn there_is_room_for_so_many_and_a_place_is_free_again_once_its_stream_has_gone() {
        let (_happens, events) = broadcast::channel(1);
        let news = News::tell(events);
        let mut watching: Vec<_> = std::iter::from_fn(|| news.watch(None)).collect();
        assert_eq!(watching.len(), MOST_WATCHERS);
        let stream = watching.pop().unwrap().stream(|| true);
        assert!(news.watch(None).is_none());
        drop(stream);
        assert!(news.watch(None).is_some());
    }

    #[test]
    fn progress_is_told_at_once_then_with_pauses_and_always_at_the_end() {
        let mut progress = Progress::default();
        let (part, start) = (PartId(1), Instant::now());
        assert!(progress.is_due(part, false, start));
        assert!(!progress.is_due(part, false, start + PROGRESS_PAUSE / 2));
        assert!(progress.is_due(PartId(2), false, start + PROGRESS_PAUSE / 2));
        assert!(progress.is_due(part, false, start + PROGRESS_PAUSE));
        assert!(progress.is_due(part, true, start + PROGRESS_PAUSE));
    }
}
