//! The server as a whole: what is started, in which order, and how it ends.

use std::fs::TryLockError;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sdcard_indexer::layout::LayoutError;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::timeout;

use crate::api::{self, Api, ApiError};
use crate::archive::Archive;
use crate::broker::{BrokerError, EmbeddedBroker};
use crate::config::Config;
use crate::ledger::{Ledger, LedgerError, SqliteLedger, ledger_path};
use crate::link::{self, BrokerUrl, Outbox, Routes};
use crate::pull::{driver, spooler};
use crate::reconcile::Event;
use crate::reconcile::driver::{self as reconcile, Desk, Reconciler};
use crate::spool::{Spool, SpoolError};
use crate::time::Clock;

/// Messages between the parts that may wait; beyond it the sender waits, and TCP holds the device back.
const CONTROL_MESSAGES: usize = 1_024;
const TRANSFER_MESSAGES: usize = 256;
const EVENTS: usize = 1_024;
const ORDERS: usize = 64;
/// What has been asked already is answered within this, or not at all.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot make the folder {path}")]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("another gapless runs on {path}: stop it, or give this one its own [server] state_dir")]
    Locked { path: PathBuf },
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// A server that is ready to run.
#[derive(Debug)]
pub struct Server {
    config: Config,
    clock: Clock,
    broker: Option<EmbeddedBroker>,
    url: BrokerUrl,
    routes: Routes,
    outbound: mpsc::Receiver<crate::link::Outbound>,
    pulls: driver::Ports,
    reconciler: Reconciler,
    events: broadcast::Sender<Event>,
    desk: Desk,
    api: Api,
    router: axum::Router,
    /// Held while the server lives.
    _lock: std::fs::File,
}

impl Server {
    /// Opens everything, finds out where it was left, and begins to listen; nothing runs yet.
    pub async fn start(config: Config) -> Result<Server, ServerError> {
        let lock = lock(&config)?;
        let layout = config.layout()?;
        let folder = |path: PathBuf| {
            std::fs::create_dir_all(&path).map_err(|source| ServerError::Folder { path, source })
        };
        folder(config.archive.root.clone())?;
        let ledger: Arc<dyn Ledger> =
            Arc::new(SqliteLedger::open(&ledger_path(&config.server.state_dir)).await?);
        let api = Api::listen(&config.server.state_dir)?;
        let spool = Spool::open(&config.spool_dir(), config.pull.min_free_bytes())?;
        let (url, broker) = match &config.broker.url {
            Some(url) => (url.clone(), None),
            None => {
                let broker = EmbeddedBroker::start(&config.broker.embedded)?;
                if !config.broker.embedded.is_loopback() {
                    tracing::warn!(address = %broker.local_addr(), "anyone who reaches the embedded broker can read every camera");
                }
                (BrokerUrl::of(reachable(broker.local_addr())), Some(broker))
            }
        };
        let (archive, archive_changes) =
            Archive::start(&config, layout.clone()).map_err(ServerError::Thread)?;
        let (spool_jobs, spool_results, _thread) =
            spooler::start(spool.clone()).map_err(ServerError::Thread)?;
        let (control_in, control) = mpsc::channel(CONTROL_MESSAGES);
        let (transfer_in, transfer) = mpsc::channel(TRANSFER_MESSAGES);
        let (outbox, outbound) = Outbox::open();
        let (commands_in, commands) = mpsc::channel(CONTROL_MESSAGES);
        let (pull_events_in, pull_events) = mpsc::channel(CONTROL_MESSAGES);
        let (events, _) = broadcast::channel(EVENTS);
        let (desk, orders) = Desk::open(ORDERS);
        let pulls = driver::Ports {
            commands,
            inbound: transfer,
            outbox: outbox.clone(),
            events: pull_events_in,
            spool_jobs,
            spool_results,
        };
        let ports = reconcile::Ports {
            control,
            outbox,
            archive_changes,
            archive,
            orders,
            pulls: commands_in,
            pull_events,
            events: events.clone(),
        };
        let clock = Clock::start();
        let router = api::router(desk.clone(), ledger.clone());
        let reconciler =
            Reconciler::resume(config.clone(), clock, layout, ledger, spool, ports).await?;
        let routes = Routes { control: control_in, transfer: transfer_in };
        Ok(Server {
            config,
            clock,
            broker,
            url,
            routes,
            outbound,
            pulls,
            reconciler,
            events,
            desk,
            api,
            router,
            _lock: lock,
        })
    }

    /// Where devices reach the embedded broker; `None` where an external one is used.
    pub fn broker_address(&self) -> Option<SocketAddr> {
        self.broker.as_ref().map(EmbeddedBroker::local_addr)
    }

    /// What happens from now on. A watcher that falls behind loses the oldest events, nothing else.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Where orders are given.
    pub fn desk(&self) -> Desk {
        self.desk.clone()
    }

    /// Runs until `shutdown`.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        let server = self.config.server.id.clone();
        tracing::info!(broker = %self.url, archive = %self.config.archive.root.display(), "gapless runs");
        let link = tokio::spawn(link::run(self.url, server.clone(), self.outbound, self.routes));
        let puller = tokio::spawn(driver::run(server, self.clock, self.pulls));
        let (stop_api, stopped) = oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        let api = tokio::spawn(self.api.serve(self.router, stopped));
        let ended = self.reconciler.run(shutdown).await;
        drop(stop_api);
        let api_stops = api.abort_handle();
        if timeout(LAST_ANSWERS, api).await.is_err() {
            api_stops.abort();
        }
        link.abort();
        puller.abort();
        if let Some(mut broker) = self.broker {
            broker.shutdown();
        }
        tracing::info!("gapless has ended");
        Ok(ended?)
    }
}

/// One server per state directory: two would pull everything twice.
fn lock(config: &Config) -> Result<std::fs::File, ServerError> {
    let state_dir = config.server.state_dir.clone();
    let failed = |source| ServerError::Folder { path: state_dir.clone(), source };
    std::fs::create_dir_all(&state_dir).map_err(failed)?;
    let file = std::fs::File::create(lock_path(&state_dir)).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServerError::Locked { path: state_dir }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Whether a server runs on this state directory now. What it last wrote of devices is stale where none does.
pub fn is_running(state_dir: &Path) -> bool {
    let lock = std::fs::File::open(lock_path(state_dir));
    lock.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn lock_path(state_dir: &Path) -> PathBuf {
    state_dir.join("lock")
}

/// An address to connect to, where the broker listens on all of them.
fn reachable(listens: SocketAddr) -> SocketAddr {
    let loopback: std::net::IpAddr = match listens {
        SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    if listens.ip().is_unspecified() { (loopback, listens.port()).into() } else { listens }
}
