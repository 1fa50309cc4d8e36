//! A whole installation on one machine: a card, an archive, a real mosquitto, and between the two the
//! real `gapless-agent`, a link that can be cut, and the real `gapless`.
//!
//! What is known of it is asked for as a person would: with the commands of `gapless`. The directories
//! of an installation whose test fails are kept, and named.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail, ensure};
use reconciler::timeline::State;
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::process::Command;

use crate::artifacts::{Binary, tool};
use crate::link::{Link, Shape};
use crate::mosquitto::Mosquitto;
use crate::naming::Naming;
use crate::process::{Process, free_port, until};

/// The one camera of an installation, and its one stream.
pub const DEVICE: &str = "camera";
pub const STREAM: &str = "main";

/// What an installation is told.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Of the card's segments and of the archive's.
    pub naming: Naming,
    /// Between agent and broker; the server has none.
    pub link: Shape,
    /// From when on the archive should be whole.
    pub expected_from: Timestamp,
}

/// Directories, configurations, broker and link; agent and server run when they are started.
#[derive(Debug)]
pub struct Installation {
    pub link: Link,
    pub mosquitto: Mosquitto,
    agent: PathBuf,
    server: PathBuf,
    directory: TempDir,
}

impl Installation {
    /// Card and archive are empty directories, the link is up.
    pub async fn set_up(setup: &Setup) -> anyhow::Result<Installation> {
        let directory = tempfile::Builder::new().prefix("gapless-test-").tempdir()?;
        let mosquitto = Mosquitto::start().await?;
        let link = Link::open(mosquitto.address(), setup.link).await?;
        let (agent, server) = (Binary::Agent.path()?, Binary::Server.path()?);
        let installation = Installation { link, mosquitto, agent, server, directory };
        fs::create_dir_all(installation.card())?;
        fs::create_dir_all(installation.archive())?;
        let via = installation.link.address();
        let card = installation.root("card");
        fs::write(installation.agent_config(), agent_config(DEVICE, setup.naming, &card, via))?;
        let direct = installation.mosquitto.address();
        fs::write(installation.server_config(), server_config(setup, direct))?;
        Ok(installation)
    }

    /// Ends mosquitto, and has the server be its own broker, where the link leads from now on. Answers where
    /// that will be found.
    pub async fn embed_broker(&mut self, link: Shape) -> anyhow::Result<SocketAddr> {
        self.mosquitto.kill().await?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let mut config: toml::Table = fs::read_to_string(self.server_config())?.parse()?;
        config.remove("broker");
        fs::write(self.server_config(), config.to_string())?;
        amend(&self.server_config(), &format!("[broker.embedded]\nlisten = \"{address}\""))?;
        self.link = Link::open(address, link).await?;
        let via = self.link.address();
        amend(&self.agent_config(), &format!("[broker]\nurl = \"mqtt://{via}\""))?;
        Ok(address)
    }

    /// Where the camera records.
    pub fn card(&self) -> PathBuf {
        self.root("card").join(STREAM)
    }

    /// Where the central recorder records, and pieces are merged.
    pub fn archive(&self) -> PathBuf {
        self.root("archive").join(DEVICE).join(STREAM)
    }

    /// Parts that are being pulled.
    pub fn spool(&self) -> PathBuf {
        self.root("state/spool")
    }

    /// For further keys, before the program is started.
    pub fn agent_config(&self) -> PathBuf {
        self.root("agent.toml")
    }

    /// For further keys, before the program is started.
    pub fn server_config(&self) -> PathBuf {
        self.root("gapless.toml")
    }

    /// What is not footage: logs, exports.
    pub fn root(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `gapless-agent run`.
    pub fn start_agent(&self) -> anyhow::Result<Process> {
        let arguments = ["run".into(), "--config".into(), self.agent_config().into_os_string()];
        Process::spawn(&self.agent, arguments, &self.root("agent.log"))
    }

    /// `gapless-agent run` under another program, such as a profiler, which comes with its arguments.
    pub fn start_agent_under(&self, program: &Path, arguments: &[&str]) -> anyhow::Result<Process> {
        let own = arguments.iter().map(OsString::from).chain([self.agent.clone().into()]);
        let run = ["run".into(), "--config".into(), self.agent_config().into_os_string()];
        Process::spawn(program, own.chain(run), &self.root("agent.log"))
    }

    /// `gapless-agent run` on a device whose wall clock is so far ahead. What it waits by runs as ever.
    pub fn start_agent_ahead(&self, ahead: Duration) -> anyhow::Result<Process> {
        let library = fs::read_dir("/usr/lib")?.filter_map(Result::ok);
        let mut library = library.map(|entry| entry.path().join("faketime/libfaketime.so.1"));
        let library = library.find(|path| path.exists()).context("apt-get install libfaketime")?;
        let preload = format!("LD_PRELOAD={}", library.display());
        let ahead = format!("FAKETIME=+{}", ahead.as_secs());
        let environment = [preload.as_str(), &ahead, "FAKETIME_DONT_FAKE_MONOTONIC=1"];
        self.start_agent_under(&tool("env")?, &environment)
    }

    /// `gapless serve`.
    pub fn start_server(&self) -> anyhow::Result<Process> {
        Process::spawn(&self.server, self.arguments(["serve"]), &self.root("server.log"))
    }

    /// `gapless serve` under another program, such as a tracer, which comes with its arguments.
    pub fn start_server_under(
        &self,
        program: &Path,
        arguments: &[&str],
    ) -> anyhow::Result<Process> {
        let own = arguments.iter().map(OsString::from).chain([self.server.clone().into()]);
        let arguments = own.chain(self.arguments(["serve"]));
        Process::spawn(program, arguments, &self.root("server.log"))
    }

    /// A command of `gapless`, what it says and how it exits.
    pub async fn gapless<const N: usize>(&self, command: [&str; N]) -> anyhow::Result<Output> {
        let mut process = Command::new(&self.server);
        process.args(self.arguments(command)).stdin(Stdio::null()).kill_on_drop(true);
        process.output().await.context("gapless cannot be run")
    }

    /// The timeline of `window`; an error as long as the server has not written any.
    pub async fn timeline(&self, window: TimeRange) -> anyhow::Result<Timeline> {
        self.shown("timeline", window).await
    }

    /// What of `window` is not whole; an error as long as the server has not written any timeline.
    pub async fn gaps(&self, window: TimeRange) -> anyhow::Result<Timeline> {
        self.shown("gaps", window).await
    }

    /// Waits for a timeline of all of `window` that is as `wanted`.
    pub async fn timeline_until(
        &self,
        what: &str,
        window: TimeRange,
        deadline: Duration,
        wanted: impl Fn(&Timeline) -> bool,
    ) -> anyhow::Result<Timeline> {
        let mut last = None;
        let outcome = until(what, deadline, async || {
            let timeline = self.timeline(window).await;
            let found = |timeline: &Timeline| timeline.tells(window) && wanted(timeline);
            let found = timeline.as_ref().is_ok_and(found).then_some(());
            last = Some(timeline);
            found
        });
        let outcome = outcome.await;
        match (outcome, last) {
            (Ok(()), Some(Ok(timeline))) => Ok(timeline),
            (Err(error), Some(Ok(timeline))) => {
                Err(error.context(format!("the last one was {timeline:#?}")))
            }
            (Err(error), Some(Err(last))) => {
                Err(error.context(format!("the last word was: {last:#}")))
            }
            (outcome, _) => bail!("the server was not asked: {outcome:?}"),
        }
    }

    /// Waits until nothing of `window` is missing, on its way or failed.
    pub async fn complete(
        &self,
        window: TimeRange,
        deadline: Duration,
    ) -> anyhow::Result<Timeline> {
        let whole = |timeline: &Timeline| timeline.completeness.complete;
        self.timeline_until("the timeline is complete", window, deadline, whole).await
    }

    async fn shown(&self, command: &str, window: TimeRange) -> anyhow::Result<Timeline> {
        let (from, to) = (window.start().to_string(), window.end().to_string());
        let output =
            self.gapless([command, DEVICE, "--from", &from, "--to", &to, "--json"]).await?;
        let mut timelines: Vec<Timeline> = json_of(&output)?;
        timelines.pop().with_context(|| format!("no {command} yet"))
    }

    fn arguments<const N: usize>(&self, command: [&str; N]) -> Vec<OsString> {
        let config = ["--config".into(), self.server_config().into_os_string()];
        config.into_iter().chain(command.map(OsString::from)).collect()
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.directory.disable_cleanup(true);
            eprintln!("cards, archive and logs are kept in {}", self.directory.path().display());
        }
    }
}

/// Of a device with one stream, whose files are believed by their names.
pub(crate) fn agent_config(
    device: &str,
    naming: Naming,
    card: &Path,
    broker: SocketAddr,
) -> String {
    format!(
        "device = \"{device}\"\n\n[broker]\nurl = \"mqtt://{broker}\"\n\n\
         [card]\nroot = {card:?}\nrequire_mount = false\n\n\
         [clock]\nbelieve = \"names\"\n\n\
         [[stream]]\nid = \"{STREAM}\"\npath = \"{STREAM}\"\ntemplate = \"{}\"\ntime_zone = \"UTC\"\n",
        naming.template()
    )
}

/// It pulls the holes and nothing beyond them, unless a test asks for seams: what is pulled is then known to the second.
fn server_config(setup: &Setup, broker: SocketAddr) -> String {
    format!(
        "[server]\nstate_dir = \"state\"\n\n[broker]\nurl = \"mqtt://{broker}\"\n\n\
         [http]\nlisten = \"off\"\n\n\
         [archive]\nroot = \"archive\"\ntemplate = \"{}\"\ntime_zone = \"UTC\"\n\
         seam_margin_ms = 0\n\n\
         [pull]\nmin_free_mib = 64\n\n\
         [[device]]\nid = \"{DEVICE}\"\nstreams = [\"{STREAM}\"]\nexpected_from = \"{}\"\n",
        setup.naming.template(),
        setup.expected_from
    )
}

/// Gives keys of a configuration other values, or adds them, before its program is started.
pub fn amend(config: &Path, keys: &str) -> anyhow::Result<()> {
    let mut all: toml::Table = fs::read_to_string(config)?.parse()?;
    for (name, keys) in keys.parse::<toml::Table>()? {
        match (all.get_mut(&name), keys) {
            (Some(toml::Value::Table(section)), toml::Value::Table(keys)) => section.extend(keys),
            (_, keys) => drop(all.insert(name, keys)),
        }
    }
    Ok(fs::write(config, all.to_string())?)
}

/// What a command says with `--json`; it must have succeeded.
pub fn json_of<T: DeserializeOwned>(output: &Output) -> anyhow::Result<T> {
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("gapless says something else than was expected")
}

/// As `gapless timeline --json` and `gapless gaps --json` show a stream.
#[derive(Clone, Debug, Deserialize)]
pub struct Timeline {
    pub device: String,
    pub stream: String,
    pub completeness: Completeness,
    pub stretches: Vec<Stretch>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Completeness {
    pub complete: bool,
    pub percent: f64,
    pub expected_s: f64,
    pub archived_s: f64,
    pub lost_s: f64,
    pub open_s: f64,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Stretch {
    #[serde(flatten)]
    pub state: State,
    from: String,
    to: String,
}

impl Stretch {
    /// Which part of the timeline it is.
    pub fn range(&self) -> anyhow::Result<TimeRange> {
        let range = TimeRange::new(self.from.parse()?, self.to.parse()?);
        range.with_context(|| format!("from {} lies after to {}", self.from, self.to))
    }
}

impl Timeline {
    /// The states in their order, by their words.
    pub fn words(&self) -> Vec<&'static str> {
        self.stretches.iter().map(|stretch| stretch.state.word()).collect()
    }

    /// True where it has a state for every instant of `window`.
    fn tells(&self, window: TimeRange) -> bool {
        (self.completeness.expected_s - window.duration().as_secs_f64()).abs() < 1e-6
    }
}

/// Every file below a directory, by its path; for what must stay as it is.
#[derive(PartialEq, Eq, Debug)]
pub struct Files(BTreeMap<PathBuf, File>);

#[derive(PartialEq, Eq)]
struct File {
    modified: SystemTime,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for File {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} bytes of {:?}", self.bytes.len(), self.modified)
    }
}

impl Files {
    /// Reads all of them, hidden ones too.
    pub fn below(directory: &Path) -> anyhow::Result<Files> {
        let mut files = BTreeMap::new();
        let mut directories = vec![directory.to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    directories.push(entry.path());
                } else {
                    let modified = entry.metadata()?.modified()?;
                    let bytes = fs::read(entry.path())?;
                    files.insert(entry.path(), File { modified, bytes });
                }
            }
        }
        Ok(Files(files))
    }

    /// The paths that `earlier` had not; an error where anything it had has changed or is gone.
    pub fn added_since(&self, earlier: &Files) -> anyhow::Result<Vec<PathBuf>> {
        for (path, file) in &earlier.0 {
            let now = self.0.get(path).with_context(|| format!("{} is gone", path.display()))?;
            ensure!(now == file, "{} was {file:?}, is {now:?}", path.display());
        }
        Ok(self.0.keys().filter(|path| !earlier.0.contains_key(*path)).cloned().collect())
    }
}
