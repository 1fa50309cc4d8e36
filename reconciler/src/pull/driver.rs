//! The thin driver around [`super::puller`]: MQTT on one side, the spool's thread on the other.

use std::time::Duration;

use protocol::message::ServerId;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::puller::{Action, Input, PullCommand, PullEvent, Puller};
use super::spooler::{SpoolJob, SpoolResult};
use crate::link::{Inbound, Outbox};
use crate::time::Clock;

/// While nothing is waited for, the driver looks up this often.
const IDLE: Duration = Duration::from_secs(3600);

/// What the puller is connected to.
#[derive(Debug)]
pub struct Ports {
    pub commands: mpsc::Receiver<PullCommand>,
    pub inbound: mpsc::Receiver<Inbound>,
    pub outbox: Outbox,
    pub events: mpsc::Sender<PullEvent>,
    pub spool_jobs: mpsc::Sender<SpoolJob>,
    pub spool_results: mpsc::Receiver<SpoolResult>,
}

/// Runs until the reconciler is gone.
pub async fn run(server: ServerId, clock: Clock, mut ports: Ports) {
    let mut puller = Puller::new(server, StdRng::from_rng(&mut rand::rng()));
    loop {
        let deadline = puller.next_deadline().map(|deadline| clock.instant(deadline));
        let deadline = deadline.unwrap_or_else(|| Instant::now() + IDLE);
        let input = tokio::select! {
            // What the spool has done comes first: it must never wait for us while we wait for it.
            biased;
            Some(result) = ports.spool_results.recv() => Input::Spooled(result),
            command = ports.commands.recv() => match command {
                Some(command) => Input::Command(command),
                None => return,
            },
            () = sleep_until(deadline) => Input::Tick,
            Some(inbound) = ports.inbound.recv() => Input::Inbound(inbound),
        };
        for action in puller.handle(input, clock.now().monotonic) {
            if !ports.carry_out(action).await {
                return;
            }
        }
    }
}

impl Ports {
    /// False once nobody listens any more: the server is ending.
    async fn carry_out(&self, action: Action) -> bool {
        match action {
            Action::Publish(outbound) => self.outbox.send(outbound),
            Action::Spool(job) => self.spool_jobs.send(job).await.is_ok(),
            Action::Say(event) => self.events.send(event).await.is_ok(),
        }
    }
}
