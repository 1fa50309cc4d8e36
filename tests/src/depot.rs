//! A depot in the evening: many body-worn units, each with a card, a link and an agent of its own, a real
//! mosquitto and one server.
//!
//! As in [`crate::installation`], what is known is asked for with the commands of `gapless`, and the directories
//! of a test that fails are kept.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use anyhow::Context;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::process::Command;

use crate::artifacts::Binary;
use crate::installation::{STREAM, agent_config, json_of};
use crate::link::{Link, Shape};
use crate::mosquitto::Mosquitto;
use crate::naming::Naming;
use crate::process::Process;

/// Directories, broker and links; agents and server run when they are started.
#[derive(Debug)]
pub struct Depot {
    pub units: Vec<Unit>,
    pub mosquitto: Mosquitto,
    server: PathBuf,
    directory: TempDir,
}

/// One body-worn unit.
#[derive(Debug)]
pub struct Unit {
    pub device: String,
    /// Between its agent and the broker.
    pub link: Link,
    root: PathBuf,
}

impl Depot {
    /// Empty cards, links up, and a server whose policies are these lines of TOML.
    pub async fn set_up(
        units: usize,
        naming: Naming,
        link: Shape,
        policies: &str,
    ) -> anyhow::Result<Depot> {
        let directory = tempfile::Builder::new().prefix("gapless-depot-").tempdir()?;
        let mosquitto = Mosquitto::start().await?;
        let mut depot =
            Depot { units: Vec::new(), mosquitto, server: Binary::Server.path()?, directory };
        for number in 1..=units {
            let device = format!("bwc-{number:02}");
            let root = depot.directory.path().join(&device);
            let link = Link::open(depot.mosquitto.address(), link).await?;
            let unit = Unit { device, link, root };
            fs::create_dir_all(unit.card())?;
            let card = unit.root.join("card");
            let config = agent_config(&unit.device, naming, &card, unit.link.address());
            fs::write(unit.config(), config)?;
            depot.units.push(unit);
        }
        let broker = depot.mosquitto.address();
        let config = format!(
            "[server]\nstate_dir = \"state\"\n\n[broker]\nurl = \"mqtt://{broker}\"\n\n\
             [http]\nlisten = \"off\"\n\n\
             [archive]\nroot = \"archive\"\ntemplate = \"{}\"\ntime_zone = \"UTC\"\nsettle_s = 1\n\n\
             [pull]\nmin_free_mib = 64\n\n{policies}",
            naming.template()
        );
        fs::write(depot.config(), config)?;
        Ok(depot)
    }

    /// Of the server, for further keys before it is started.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("gapless.toml")
    }

    /// Where pieces of a unit are merged.
    pub fn archive(&self, unit: &Unit) -> PathBuf {
        self.directory.path().join("archive").join(&unit.device).join(STREAM)
    }

    /// Parts that are being pulled.
    pub fn spool(&self) -> PathBuf {
        self.directory.path().join("state/spool")
    }

    /// `gapless serve`.
    pub fn start_server(&self) -> anyhow::Result<Process> {
        let log = self.directory.path().join("server.log");
        Process::spawn(&self.server, self.arguments(&["serve"]), &log)
    }

    /// A command of `gapless`, what it says and how it exits.
    pub async fn gapless(&self, command: &[&str]) -> anyhow::Result<Output> {
        let mut process = Command::new(&self.server);
        process.args(self.arguments(command)).stdin(Stdio::null()).kill_on_drop(true);
        process.output().await.context("gapless cannot be run")
    }

    /// What a command says with `--json`; it must succeed.
    pub async fn json<T: DeserializeOwned>(&self, command: &[&str]) -> anyhow::Result<T> {
        json_of(&self.gapless(&[command, &["--json"]].concat()).await?)
    }

    /// For what is no footage, such as exports.
    pub fn root(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn arguments(&self, command: &[&str]) -> Vec<OsString> {
        let config = ["--config".into(), self.config().into_os_string()];
        config.into_iter().chain(command.iter().map(OsString::from)).collect()
    }
}

impl Unit {
    /// Where it records.
    pub fn card(&self) -> PathBuf {
        self.root.join("card").join(STREAM)
    }

    /// Of its agent, for further keys before it is started.
    pub fn config(&self) -> PathBuf {
        self.root.join("agent.toml")
    }

    /// `gapless-agent run`.
    pub fn start_agent(&self) -> anyhow::Result<Process> {
        let arguments = ["run".into(), "--config".into(), self.config().into_os_string()];
        Process::spawn(&Binary::Agent.path()?, arguments, &self.root.join("agent.log"))
    }
}

impl Drop for Depot {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.directory.disable_cleanup(true);
            eprintln!("cards, archive and logs are kept in {}", self.directory.path().display());
        }
    }
}
