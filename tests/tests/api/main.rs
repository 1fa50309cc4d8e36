//! The HTTP API of the real server: whatever is asked, it answers with sense; and what is open ends with it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

mod content;
mod fuzzed;
mod watched;

use std::time::Duration;

use tests::installation::{Installation, Setup};
use tests::link::Shape;
use tests::naming::Naming;
use tests::process::Process;

/// No wait is endless; far above what any of them takes.
const DEADLINE: Duration = Duration::from_secs(90);

/// A server whose ledger knows of a good deal, and which is connected.
async fn serve() -> (Installation, Process) {
    let expected_from = content::start();
    let setup = Setup { naming: Naming::MediaMtx, link: Shape::CLEAR, expected_from };
    let installation = Installation::set_up(&setup).await.unwrap();
    content::fill(&installation).await.unwrap();
    let mut server = installation.start_server().unwrap();
    server.line("connected to the broker", DEADLINE).await.unwrap();
    (installation, server)
}
