//! The agent as a whole: one connection after the other, until it is told to stop.
//!
//! Everything runs on the caller's runtime, in one task and the link's; nothing is global, so that several
//! agents can run in one process.

use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::clock;
use crate::config::Config;
pub use crate::session::{AgentError, Status};
use crate::session::{Broken, Device, random};

/// Runs an agent until `shutdown` is done; then says goodbye and returns within 2 s.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
    run_watched(config, shutdown, &watch::Sender::new(Status::Starting)).await
}

/// As [`run`], and tells its status as it changes.
pub async fn run_watched(
    config: Config,
    shutdown: impl Future<Output = ()>,
    status: &watch::Sender<Status>,
) -> Result<(), AgentError> {
    let mut shutdown = pin!(shutdown);
    let mut device = Device::start(config).await?;
    status.send_replace(Status::Disconnected);
    let mut backoff = Backoff::new();
    let mut last_cause = String::new();
    loop {
        let begun = clock::boottime();
        let error = match device.connect(shutdown.as_mut(), status).await {
            Ok(()) => break,
            Err(Broken::Agent(error)) => return Err(error),
            Err(Broken::Link(error)) => error,
        };
        let lasted = Duration::from_millis(clock::boottime().0.saturating_sub(begun.0));
        let pause = backoff.after(lasted, random());
        let was_connected = status.send_replace(Status::Disconnected) == Status::Connected;
        // A broker that stays away for a night is worth one line, not a thousand.
        let cause = error.to_string();
        if was_connected || cause != last_cause {
            let broker = device.broker();
            tracing::warn!(%broker, error = &error as &dyn Error, ?lasted, "no link");
            last_cause = cause;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.as_mut() => break,
        }
    }
    device.stop().await;
    Ok(())
}
