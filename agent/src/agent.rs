//! The agent as a whole: one connection after the other, until it is told to stop.
//!
//! Everything runs on the caller's runtime, in one task and the link's; nothing is global, so that several
//! agents can run in one process.

use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::backoff::{Backoff, Ended};
pub use crate::card::Stores;
use crate::clock;
use crate::config::Config;
use crate::diagnosis::{Configuration, Desk, Origin, Socket};
pub use crate::session::{AgentError, Status, Vitals};
use crate::session::{Broken, Device, random};

/// Runs an agent until `shutdown` is done; then says goodbye and returns within 2 s.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
    run_watched(config, shutdown, &Vitals::default()).await
}

/// As [`run`], and lets a supervisor see how it is.
pub async fn run_watched(
    config: Config,
    shutdown: impl Future<Output = ()>,
    vitals: &Vitals,
) -> Result<(), AgentError> {
    run_with(config, Box::new(|_| None), shutdown, vitals).await
}

/// As [`run_watched`], for a device whose recordings do not lie in folders. `stores` is asked for each
/// configured stream: `root` is where its `path` lies on the card, and `layout` how its recordings are named.
/// `sdcard-indexer/examples/ring_store.rs` shows such a store.
///
/// ```no_run
/// # #[derive(Debug)] struct RingStore;
/// # impl RingStore { fn open(_: std::path::PathBuf) -> Option<RingStore> { None } }
/// # use std::path::Path; use sdcard_indexer::recordings::*;
/// # impl Recordings for RingStore {
/// #     fn is_there(&self) -> bool { true }
/// #     fn list(&self, _: &Path, _: &mut dyn FnMut(Listed)) {}
/// #     fn open(&self, _: &Path) -> std::io::Result<Box<dyn OpenRecording>> { Err(std::io::ErrorKind::NotFound.into()) }
/// # }
/// # async fn example(config: agent::Config) -> Result<(), agent::AgentError> {
/// let stores: agent::Stores = Box::new(|source| match source.stream.as_str() {
///     "main" => Some(Box::new(RingStore::open(source.root.join("ring.bin"))?)),
///     _ => None,
/// });
/// agent::run_with(config, stores, std::future::pending(), &agent::Vitals::default()).await
/// # }
/// ```
pub async fn run_with(
    config: Config,
    stores: Stores,
    shutdown: impl Future<Output = ()>,
    vitals: &Vitals,
) -> Result<(), AgentError> {
    run_seen(config, stores, shutdown, vitals, Seen::default()).await
}

/// What of an agent can be looked at while it runs, and where its configuration comes from.
#[derive(Debug, Default)]
pub struct Seen {
    pub desk: Desk,
    pub origin: Origin,
    /// Answers from the desk, where there is one.
    pub socket: Option<Socket>,
}

enum Told {
    Stop,
    Anew(Box<Config>),
}

/// As [`run_with`], for an agent that can be looked at, and reads its configuration again when that changes.
pub async fn run_seen(
    config: Config,
    stores: Stores,
    shutdown: impl Future<Output = ()>,
    vitals: &Vitals,
    seen: Seen,
) -> Result<(), AgentError> {
    let Seen { desk, origin, socket } = seen;
    let mut shutdown = pin!(shutdown);
    let mut configuration = Configuration::new(config.clone(), origin, desk.clone());
    let mut answering = JoinSet::new();
    if let Some(socket) = socket {
        answering.spawn(socket.serve(desk.clone()));
    }
    let mut device = Device::start(config, stores, desk.clone(), vitals.heartbeat.clone()).await?;
    vitals.status.send_replace(Status::Disconnected);
    let mut backoff = Backoff::new();
    let mut last_cause = String::new();
    loop {
        vitals.heartbeat.task_goes_on();
        let begun = clock::boottime();
        let mut told = None;
        let outcome = {
            let listen = pin!(async {
                told = Some(tokio::select! {
                    () = shutdown.as_mut() => Told::Stop,
                    config = configuration.changed() => Told::Anew(Box::new(config)),
                });
            });
            device.connect(listen, vitals).await
        };
        let error = match outcome {
            Ok(()) => None,
            Err(Broken::Agent(error)) => return Err(error),
            Err(Broken::Link(error)) => Some(error),
        };
        let was_connected = vitals.status.send_replace(Status::Disconnected) == Status::Connected;
        desk.link_lost(error.as_ref().map(|error| error as &dyn Error));
        match told {
            Some(Told::Stop) => break,
            Some(Told::Anew(config)) => {
                device.reconfigure(*config);
                continue;
            }
            None => {}
        }
        let lasted = Duration::from_millis(clock::boottime().0.saturating_sub(begun.0));
        let pause = backoff.after(Ended { lasted, was_connected }, random());
        // A broker that stays away for a night is worth one line, not a thousand.
        if let Some(error) = error {
            let cause = error.to_string();
            if was_connected || cause != last_cause {
                let broker = device.broker();
                tracing::warn!(%broker, error = &error as &dyn Error, ?lasted, "no link");
                last_cause = cause;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.as_mut() => break,
            config = configuration.changed() => device.reconfigure(config),
        }
    }
    device.stop().await;
    Ok(())
}
