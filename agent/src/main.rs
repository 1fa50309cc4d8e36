//! The command line of `gapless-agent`: exit code 2 for usage and configuration, 1 for failure.
//! What stands behind `index` is read by [`agent::index_command`], behind `status` and the like by
//! [`agent::diagnosis`].

use std::path::PathBuf;
use std::process::ExitCode;

use agent::diagnosis::{self, Desk, Logger, Origin, Socket};
use agent::heartbeat::{BEAT_EVERY, Heartbeat};
use agent::{Config, Seen, Status, Vitals};
use lexopt::prelude::*;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

const HELP: &str = "\
gapless-agent: tells a server what an SD card holds, and serves ranges of it.

usage: gapless-agent run --config FILE [-v]
       gapless-agent --check-config --config FILE
       gapless-agent --print-config --config FILE
       gapless-agent index scan|show|verify|fsck DIR
       gapless-agent status|coverage|segments|doctor|tap|bundle|closed|log

  run             connect to the broker and serve until SIGTERM or SIGINT
  index           what a card holds, without configuration or server: more by
                  gapless-agent index --help
  status          how the agent and its card stand
  coverage        what is held of each stream, drawn and listed
  segments        the recordings, one by one
  doctor          tries all that an agent needs, and says what to do
  tap             what the agent hears and says, as it happens
  bundle          a support archive, without secrets
  closed PATH     tell the agent that a recording was closed
  log             the agent's last log lines; each of these has a --help
  --config FILE   the configuration; agent.example.toml explains every key
  --check-config  say whether the configuration can be used, and exit
  --print-config  print the configuration with every default filled in, and exit
  -v, --verbose   log more; the log goes to standard error, never to the card
  -h, --help      print this
  -V, --version   print the version

The smallest configuration:

  device = \"cam-entrance\"
  [broker]
  url = \"mqtt://192.168.1.10:1883\"
  [card]
  root = \"/mnt/mmcblk0p1\"
  [[stream]]
  id = \"main\"
  path = \"recordings\"
  layout = \"mediamtx\"

exit code: 0 done, 1 failure, 2 wrong usage or configuration
";

const SMALL: &str = "
This build is a small one: without doctor, tap and bundle.
";

/// Wrong usage or configuration.
const EXIT_USAGE: u8 = 2;
/// A watchdog is fed so many times within its patience: what takes long has three quarters of it.
const WATCHDOG_PARTS: u32 = 4;

enum Command {
    Help,
    Version,
    Check(PathBuf),
    Print(PathBuf),
    Run { config: PathBuf, verbose: bool },
    Index(lexopt::Parser),
    Diagnosis(String, lexopt::Parser),
}

fn main() -> ExitCode {
    let command = match parse(lexopt::Parser::from_env()) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("gapless-agent: {error}; see gapless-agent --help");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let command = match command {
        Command::Index(arguments) => return agent::index_command::run(arguments),
        Command::Diagnosis(command, arguments) => return diagnosis::run(&command, arguments),
        command => command,
    };
    let (Command::Check(path) | Command::Print(path) | Command::Run { config: path, .. }) =
        &command
    else {
        match command {
            Command::Version => println!("gapless-agent {}", env!("CARGO_PKG_VERSION")),
            _ => print!("{HELP}{}", if cfg!(feature = "support") { "" } else { SMALL }),
        }
        return ExitCode::SUCCESS;
    };
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("gapless-agent: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match command {
        Command::Run { config: path, verbose } => match run(config, path, verbose) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("gapless-agent: {error:#}");
                ExitCode::FAILURE
            }
        },
        Command::Print(_) => {
            print!("{}", config.effective());
            ExitCode::SUCCESS
        }
        _ => {
            println!("{} can be used", path.display());
            ExitCode::SUCCESS
        }
    }
}

fn parse(mut arguments: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let (mut run, mut check, mut print, mut verbose) = (false, false, false, false);
    let (mut config, mut first) = (None, true);
    while let Some(argument) = arguments.next()? {
        match argument {
            Value(command) if command == "index" && first => return Ok(Command::Index(arguments)),
            Value(command)
                if first && diagnosis::COMMANDS.iter().any(|known| command == *known) =>
            {
                return Ok(Command::Diagnosis(command.string()?, arguments));
            }
            Short('h') | Long("help") => return Ok(Command::Help),
            Short('V') | Long("version") => return Ok(Command::Version),
            Long("config") => config = Some(PathBuf::from(arguments.value()?)),
            Long("check-config") => check = true,
            Long("print-config") => print = true,
            Short('v') | Long("verbose") => verbose = true,
            Value(command) if command == "run" && !run => run = true,
            other => return Err(other.unexpected()),
        }
        first = false;
    }
    if !(run || check || print) {
        return Err("give a command: run, index, status, --check-config or --print-config".into());
    }
    let config = config.ok_or("--config FILE is missing")?;
    Ok(match (check, print) {
        (true, true) => return Err("give one of --check-config and --print-config".into()),
        (true, false) => Command::Check(config),
        (false, true) => Command::Print(config),
        (false, false) => Command::Run { config, verbose },
    })
}

fn run(config: Config, path: PathBuf, verbose: bool) -> anyhow::Result<()> {
    let level = if verbose { tracing::Level::DEBUG } else { tracing::Level::INFO };
    let desk = Desk::default();
    tracing::subscriber::set_global_default(Logger::new(desk.log().clone(), level))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("told to stop");
            notify(&[NotifyState::Stopping]);
        };
        let vitals = Vitals::default();
        let origin = Origin { path: Some(path), ..Origin::default() };
        let look = origin.look.clone();
        let seen = Seen { desk, origin, socket: socket(&config) };
        let agent = agent::run_seen(config, Box::new(|_| None), shutdown, &vitals, seen);
        tokio::select! {
            outcome = agent => Ok(outcome?),
            never = show(vitals.status.subscribe()) => match never {},
            never = feed_watchdog(&vitals.heartbeat) => match never {},
            never = heed_hangups(&look) => match never? {},
        }
    })
}

/// An agent that nobody can ask still serves.
fn socket(config: &Config) -> Option<Socket> {
    let path = config.socket()?;
    let socket = Socket::bind(&path);
    let told =
        |error: &_| tracing::warn!(path = %path.display(), %error, "nobody can ask this agent");
    socket.inspect_err(told).ok()
}

/// SIGHUP: the configuration is to be looked at.
async fn heed_hangups(look: &Notify) -> std::io::Result<std::convert::Infallible> {
    let mut hangups = signal(SignalKind::hangup())?;
    while hangups.recv().await.is_some() {
        look.notify_one();
    }
    std::future::pending().await
}

/// Tells the supervisor, where there is one (`NOTIFY_SOCKET`), what the agent is at.
async fn show(mut status: watch::Receiver<Status>) -> std::convert::Infallible {
    while status.changed().await.is_ok() {
        let text = match *status.borrow_and_update() {
            Status::Starting => continue,
            Status::Disconnected => "no link to the broker",
            Status::Connected => "connected to the broker",
        };
        notify(&[NotifyState::Ready, NotifyState::Status(text)]);
    }
    std::future::pending().await
}

/// Tells the supervisor's watchdog, where it has one (`WATCHDOG_USEC`), that the work goes on; as long as it does.
async fn feed_watchdog(heartbeat: &Heartbeat) -> std::convert::Infallible {
    let Some(patience) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let every = patience / WATCHDOG_PARTS;
    if every < BEAT_EVERY {
        let least = BEAT_EVERY * WATCHDOG_PARTS;
        tracing::warn!(?patience, ?least, "the supervisor's watchdog has too little patience");
    }
    loop {
        tokio::time::sleep(every).await;
        if heartbeat.went_on() {
            notify(&[NotifyState::Watchdog]);
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the supervisor cannot be told");
    }
}
