//! The server as a whole: what is started, in which order, and how it ends.

use std::fs::TryLockError;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sdcard_indexer::layout::LayoutError;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::timeout;

use crate::access::{Access, AccountError, Confidential, FirstAdmin};
use crate::api::{self, Api, ApiError};
use crate::archive::Archive;
use crate::broker::{BrokerError, EmbeddedBroker, Exposure};
use crate::config::Config;
use crate::http::{Http, HttpError};
use crate::ledger::{Ledger, LedgerError, SqliteLedger, ledger_path};
use crate::link::{self, Broker, Outbox, Routes};
use crate::pull::{driver, spooler};
use crate::reconcile::Event;
use crate::reconcile::driver::{self as reconcile, Desk, Reconciler};
use crate::recut;
use crate::spool::{Spool, SpoolError};
use crate::time::Clock;
use crate::tls::{self, TlsError};

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
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("[broker.tls] cannot be used")]
    Tls(#[source] TlsError),
    #[error("cannot make the first user")]
    FirstUser(#[source] AccountError),
}

/// A server that is ready to run.
#[derive(Debug)]
pub struct Server {
    config: Config,
    clock: Clock,
    broker: Option<EmbeddedBroker>,
    reached: Broker,
    routes: Routes,
    outbound: mpsc::Receiver<crate::link::Outbound>,
    pulls: driver::Ports,
    reconciler: Reconciler,
    events: broadcast::Sender<Event>,
    desk: Desk,
    api: Api,
    /// Where the configuration wants one.
    http: Option<Http>,
    access: Access,
    first_admin: Option<FirstAdmin>,
    router: axum::Router,
    /// Where it is asked for.
    recut: Option<recut::Task>,
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
        let http = Http::listen(&config.http).await?;
        let spool = Spool::open(&config.spool_dir(), config.pull.min_free_bytes())?;
        let (reached, broker) = match &config.broker.url {
            Some(url) => {
                let tls = config.broker.tls.clone();
                // What is wrong with it is better known now than in a log.
                tls.as_ref().map(tls::client).transpose().map_err(ServerError::Tls)?;
                (Broker { url: url.clone(), tls }, None)
            }
            None => {
                let broker = EmbeddedBroker::start(&config.broker.embedded)?;
                warn_of(config.broker.embedded.exposure(), broker.local_addr());
                (broker.own_url().into(), Some(broker))
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
        let recut = config.archive.recut.then(|| recut::Task {
            ledger: ledger.clone(),
            root: config.archive.root.clone(),
            archive: archive.clone(),
            events: events.subscribe(),
        });
        let ports = reconcile::Ports {
            control,
            outbox,
            archive_changes,
            archive: archive.clone(),
            orders,
            pulls: commands_in,
            pull_events,
            events: events.clone(),
        };
        let clock = Clock::start();
        let access = Access::open(ledger.clone(), clock, config.http.access()).await?;
        let first_admin = match http {
            Some(_) => access.first_admin().await.map_err(ServerError::FirstUser)?,
            // Nobody can log in anywhere.
            None => None,
        };
        let router = api::router(api::Sources {
            desk: desk.clone(),
            ledger: ledger.clone(),
            archive,
            events: events.subscribe(),
            access: access.clone(),
            broker: broker.as_ref().map(EmbeddedBroker::counter),
            settings: config.archive.clone(),
        })
        .merge(crate::page::router());
        let reconciler =
            Reconciler::resume(config.clone(), clock, layout, ledger, spool, ports).await?;
        let routes = Routes { control: control_in, transfer: transfer_in };
        Ok(Server {
            config,
            clock,
            broker,
            reached,
            routes,
            outbound,
            pulls,
            reconciler,
            events,
            desk,
            api,
            http,
            access,
            first_admin,
            router,
            recut,
            _lock: lock,
        })
    }

    /// Where devices reach the embedded broker; `None` where an external one is used.
    pub fn broker_address(&self) -> Option<SocketAddr> {
        self.broker.as_ref().map(EmbeddedBroker::local_addr)
    }

    /// Where people and programs reach the API and the page; `None` where they do not.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(Http::address)
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
        tracing::info!(broker = %self.reached.url, archive = %self.config.archive.root.display(), "gapless runs");
        let link =
            tokio::spawn(link::run(self.reached, server.clone(), self.outbound, self.routes));
        let puller = tokio::spawn(driver::run(server, self.clock, self.pulls));
        let recut = self.recut.map(|task| tokio::spawn(recut::run(task)));
        let (stop_api, stopped) = watch::channel(());
        // Both listeners end when the sender is gone.
        let until_stopped = |mut stopped: watch::Receiver<()>| async move {
            while stopped.changed().await.is_ok() {}
        };
        let over_tcp = self.http.map(|http| {
            say_how_to_log_in(&http.url(), self.first_admin.as_ref());
            let stopped = until_stopped(stopped.clone());
            let (router, access) = (self.router.clone(), self.access.clone());
            tokio::spawn(http.serve(router, access, stopped, LAST_ANSWERS))
        });
        let api = tokio::spawn(self.api.serve(self.router, self.access, until_stopped(stopped)));
        let ended = self.reconciler.run(shutdown).await;
        drop(stop_api);
        // Nothing more can happen: whoever watches is told so.
        drop(self.events);
        let api_stops = api.abort_handle();
        if timeout(LAST_ANSWERS, api).await.is_err() {
            api_stops.abort();
        }
        // It has its own last moment, which began with the other's.
        if let Some(over_tcp) = over_tcp {
            drop(over_tcp.await);
        }
        link.abort();
        recut.inspect(tokio::task::JoinHandle::abort);
        puller.abort();
        if let Some(mut broker) = self.broker {
            broker.shutdown();
        }
        tracing::info!("gapless has ended");
        Ok(ended?)
    }
}

/// On a terminal and in the journal, beside the log's line: nobody shall have overlooked it.
fn warn_of(exposure: Exposure, address: SocketAddr) {
    let what = match exposure {
        Exposure::None => return,
        Exposure::Unproven => "can say it is any camera, or this server, and read every camera",
        Exposure::Open => {
            "can say it is any camera, or this server, and read every camera; and everything \
             goes over the network for all to read"
        }
    };
    tracing::warn!(%address, "whoever reaches the embedded broker {what}");
    eprintln!(
        "\n  WARNING  whoever reaches {address} {what}.\n  \
         Give it [broker.embedded.tls] with certificate, key and client_ca (`gapless device broker`\n  \
         makes them), or have it listen on 127.0.0.1.\n"
    );
}

/// On a terminal and in the journal, beside the log's line. The password is told this once.
fn say_how_to_log_in(url: &str, first: Option<&FirstAdmin>) {
    tracing::info!(url, "the API and the page are served");
    if let Some(FirstAdmin { name, password: Confidential(password) }) = first {
        eprintln!(
            "\n  Log in at {url}\n    name      {name}\n    password  {password}\n\n  \
             It is told this once. `gapless user password {name}` sets another one, and\n  \
             `gapless user add NAME --role view` lets somebody else in.\n"
        );
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
