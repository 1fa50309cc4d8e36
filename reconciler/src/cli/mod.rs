//! The command line: what people and scripts ask of `gapless`.
//!
//! What only looks reads the ledger and the archive, and works whether or not the server is running. `search`,
//! `pull`, `jobs`, `cancel`, `policy put`, `policy remove`, `user`, `token` and `audit` ask the running server by its
//! [API](crate::api). `device` works on the files of the built-in CA.
//! Exit codes: 0 done, 1 failed or something is wrong, 2 usage or configuration.

mod client;
mod device;
mod export;
mod follow;
mod jobs;
mod originals;
mod policy;
mod progress;
mod pull;
mod runs;
mod search;
mod show;
mod text;
mod user;
mod verify;
mod verify_export;

use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use protocol::message::DeviceId;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::time::{TimeRange, Timestamp};
use tokio::signal::unix::{SignalKind, signal};

use crate::api;
use crate::config::{Config, ConfigError};
use crate::ledger::{Ledger, LedgerError, SqliteLedger, ledger_path};
use crate::server::{self, Server};

use client::Client;
use device::DeviceCommand;
use policy::PolicyCommand;
use user::{TokenCommand, UserCommand};

/// Exit code for wrong usage and configuration.
const MISUSED: u8 = 2;

#[derive(Parser, Debug)]
#[command(name = "gapless", version, about, long_about = LONG_ABOUT, after_help = EXIT_CODES)]
pub struct CommandLine {
    /// Configuration [default: gapless.toml, if it exists]
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const LONG_ABOUT: &str = "\
Makes cameras' central recordings whole again: finds the gaps, pulls from the
cameras' own cards exactly what is missing, proves it, and merges it.

  gapless serve                     run the server (embedded broker, SQLite)
  gapless devices                   who is there
  gapless timeline front-door       every instant's state
  gapless gaps                      what is not whole, and why
  gapless verify                    re-read what was merged, compare digests
  gapless export front-door --from … --to … -o clip.mp4
  gapless verify-export clip.mp4    is it still what was exported?
  gapless search front-door --from … --to …    what its card holds there
  gapless pull front-door --from … --to …      get it into the archive now
  gapless jobs --follow             how that gets on
  gapless runs                      what scheduled runs did, and left
  gapless policy next-runs          when they come
  gapless user add anna --role view let somebody log in to the page
  gapless device add front-door     its credentials, for mutual TLS";

const EXIT_CODES: &str = "\
Exit code: 0 done, 1 failed or something wrong, 2 usage or configuration";

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the server until SIGTERM or Ctrl-C
    Serve(ServeArguments),
    /// List the devices that have been heard
    Devices(Output),
    /// Issue, renew and revoke the certificates of devices and brokers
    #[command(subcommand, after_help = device::EXAMPLES)]
    Device(DeviceCommand),
    /// Show the state of every instant of a device's recording
    Timeline {
        /// Its id, as `gapless devices` lists it
        device: DeviceId,
        #[command(flatten)]
        window: Window,
        #[command(flatten)]
        output: Output,
    },
    /// Show what is not whole, and why
    Gaps {
        /// Only this device
        device: Option<DeviceId>,
        #[command(flatten)]
        window: Window,
        #[command(flatten)]
        output: Output,
    },
    /// Re-read all merged pieces, compare digests, check the timeline
    Verify {
        /// Only this device
        device: Option<DeviceId>,
        #[command(flatten)]
        output: Output,
    },
    /// Write a range of a merged recording as one MP4, with proof
    #[command(after_help = export::EXAMPLES)]
    Export(export::Export),
    /// Check an exported MP4 against its manifest, on any machine
    #[command(after_help = verify_export::EXAMPLES)]
    VerifyExport(verify_export::VerifyExport),
    /// Ask a device what it holds of a range, and what the archive has
    #[command(after_help = search::EXAMPLES)]
    Search(search::Search),
    /// Get a range into the archive now, or when its device is there
    #[command(after_help = pull::EXAMPLES)]
    Pull(pull::Pull),
    /// Show what was asked for with `pull`, and how it gets on
    #[command(after_help = jobs::EXAMPLES)]
    Jobs(jobs::Jobs),
    /// End a job or a run early; what has arrived stays
    Cancel(jobs::Cancel),
    /// Show what scheduled runs did, and what they left
    #[command(after_help = runs::EXAMPLES)]
    Runs(runs::Runs),
    /// List recordings that a re-cut has renamed, and put them back
    #[command(subcommand, after_help = originals::EXAMPLES)]
    Originals(originals::Originals),
    /// Show, check and change what is recorded, and when it is pulled
    #[command(subcommand, after_help = policy::EXAMPLES)]
    Policy(PolicyCommand),
    /// Say who may log in to the page and the API, and what they may
    #[command(subcommand, after_help = user::USER_EXAMPLES)]
    User(UserCommand),
    /// Let programs use the API, each with a token of its own
    #[command(subcommand, after_help = user::TOKEN_EXAMPLES)]
    Token(TokenCommand),
    /// Show who saw, pulled, exported and changed what
    #[command(after_help = user::AUDIT_EXAMPLES)]
    Audit(user::Audit),
    /// Print the description of the HTTP API (OpenAPI 3.1)
    Openapi,
}

#[derive(Args, Debug)]
struct ServeArguments {
    /// Check the configuration and end
    #[arg(long)]
    check_config: bool,
    /// Print the configuration with every default and end
    #[arg(long)]
    print_config: bool,
}

#[derive(Args, Debug)]
pub struct Output {
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

/// What to look at.
#[derive(Args, Debug)]
struct Window {
    /// Only this stream
    #[arg(long)]
    stream: Option<StreamId>,
    /// From this instant, for example 2026-11-23T10:00:00Z
    #[arg(long, value_name = "INSTANT")]
    from: Option<Timestamp>,
    /// Up to this instant
    #[arg(long, value_name = "INSTANT")]
    to: Option<Timestamp>,
}

#[derive(Debug, thiserror::Error)]
#[error("--from {from} lies after --to {to}")]
struct BackwardWindow {
    from: Timestamp,
    to: Timestamp,
}

impl Window {
    fn range(&self) -> Result<TimeRange, BackwardWindow> {
        let from = self.from.unwrap_or(Timestamp::MIN);
        let to = self.to.unwrap_or(Timestamp::MAX);
        TimeRange::new(from, to).ok_or(BackwardWindow { from, to })
    }
}

/// Runs the command; `Ok(false)` where it found something wrong.
pub async fn run(command_line: CommandLine) -> Result<bool, anyhow::Error> {
    let file = match &command_line.command {
        Command::Policy(PolicyCommand::Check { file: Some(file), .. }) => Some(file),
        _ => command_line.config.as_ref(),
    };
    // Whoever was given an export has no server, and nothing to configure.
    let config = match command_line.command {
        Command::VerifyExport(_) => Config::default(),
        _ => Config::load(file.map(PathBuf::as_path))?,
    };
    let client = Client::new(&config);
    let mut out = std::io::stdout().lock();
    match command_line.command {
        Command::Serve(arguments) if arguments.print_config => {
            write!(out, "{}", toml::to_string(&config)?)?;
            Ok(true)
        }
        Command::Serve(arguments) if arguments.check_config => {
            writeln!(out, "the configuration is valid")?;
            Ok(true)
        }
        Command::Serve(_) => {
            drop(out);
            let server = Server::start(config).await?;
            Box::pin(server.run(stop_signal()?)).await?;
            Ok(true)
        }
        Command::Devices(output) => {
            let running = server::is_running(&config.server.state_dir);
            show::devices(&ledger(&config).await?, running, output.json, &mut out).await
        }
        Command::Timeline { device, window, output } => {
            let ledger = ledger(&config).await?;
            show::timeline(&ledger, &device, &window, output.json, &mut out).await
        }
        Command::Gaps { device, window, output } => {
            let ledger = ledger(&config).await?;
            show::gaps(&ledger, device.as_ref(), &window, output.json, &mut out).await
        }
        Command::Verify { device, output } => {
            let ledger = ledger(&config).await?;
            verify::verify(&ledger, &config, device.as_ref(), output.json, &mut out).await
        }
        Command::Export(asked) => {
            export::export(&ledger(&config).await?, &config, &asked, &mut out).await
        }
        Command::VerifyExport(asked) => verify_export::verify_export(&asked, &mut out),
        Command::Search(asked) => search::search(&client, &asked, &mut out).await,
        Command::Pull(asked) => pull::pull(&client, asked, &mut out).await,
        Command::Jobs(asked) => jobs::jobs(&client, &asked, &mut out).await,
        Command::Cancel(asked) => jobs::cancel(&client, &asked, &mut out).await,
        Command::Runs(asked) => {
            runs::runs(&ledger(&config).await?, &client, &asked, &mut out).await
        }
        Command::Originals(asked) => {
            originals::originals(&asked, &config, &ledger(&config).await?, &mut out).await
        }
        Command::Policy(PolicyCommand::Put { file, output }) => {
            policy::put(&client, &file, output.json, &mut out).await
        }
        Command::Policy(PolicyCommand::Remove { name, output }) => {
            policy::remove(&client, &name, output.json, &mut out).await
        }
        Command::User(command) => user::user(&client, command, &mut out).await,
        Command::Token(command) => user::token(&client, command, &mut out).await,
        Command::Device(command) => device::device(&command, &config, &mut out),
        Command::Audit(asked) => user::audit(&client, &asked, &mut out).await,
        Command::Openapi => {
            write!(out, "{}", api::openapi::text())?;
            Ok(true)
        }
        Command::Policy(command) => {
            let ledger = policy::if_any(ledger(&config).await)?;
            let ledger = ledger.as_ref().map(|ledger| ledger as &dyn Ledger);
            policy::look(&command, &config, ledger, &mut out).await
        }
    }
}

/// SIGTERM from a supervisor, or Ctrl-C.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

async fn ledger(config: &Config) -> Result<SqliteLedger, LedgerError> {
    SqliteLedger::open_read_only(&ledger_path(&config.server.state_dir)).await
}

/// What the process ends with.
pub fn exit_code(outcome: &Result<bool, anyhow::Error>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if error.is::<ConfigError>() || error.is::<BackwardWindow>() => MISUSED.into(),
        Err(error) if verify_export::is_misuse(error) => MISUSED.into(),
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_command_can_be_parsed() {
        CommandLine::command().debug_assert();
    }
}
