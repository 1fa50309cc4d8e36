//! Is there an agent, and how does it say it is?

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::Value;

use super::super::client::{self, Unanswered};
use super::super::question::{Question, Wanted};
use super::super::status::seconds;
use super::super::{Site, told};
use super::{Finding, Practice};

/// What is known of the agent beside which all else is tried.
#[derive(Default)]
pub struct Agent {
    /// Its `status --json`.
    pub status: Option<Value>,
    /// There is one, be it deaf: nobody may stand in for it.
    pub is_alive: bool,
}

impl Agent {
    /// A field of its status, as `/link/connected`.
    pub fn says(&self, pointer: &str) -> Option<&Value> {
        self.status.as_ref()?.pointer(pointer).filter(|value| !value.is_null())
    }

    pub fn is_true(&self, pointer: &str) -> bool {
        self.says(pointer).and_then(Value::as_bool).unwrap_or(false)
    }

    pub fn number(&self, pointer: &str) -> Option<f64> {
        self.says(pointer).and_then(Value::as_f64)
    }

    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.says(pointer).and_then(Value::as_str)
    }
}

pub fn examine(site: &Site, practice: &mut Practice<'_>) -> io::Result<Agent> {
    let question = Question { as_json: true, ..Question::of(Wanted::Status) };
    let mut answer = Vec::new();
    let asked = match site.socket() {
        Some(socket) => client::ask(&socket, &question, &mut answer),
        None => Err(Unanswered::NoSocket),
    };
    let process = running_process(site.config_path());
    let mut agent = Agent { status: None, is_alive: process.is_some() };
    let start = "start it: systemctl start gapless-agent, or its init script; what it says then is in its log";
    let finding = match asked {
        Ok(()) => {
            agent = Agent { status: serde_json::from_slice(&answer).ok(), is_alive: true };
            of_running(&agent)
        }
        Err(silent @ Unanswered::Silent { .. }) => {
            agent.is_alive = true;
            let to_do =
                "its card or its disk may let go of nobody: see `card` and dmesg; restart it";
            Finding::fail(told(&silent), to_do)
        }
        Err(error) => match process {
            Some(pid) => {
                let text = format!("process {pid} runs, but: {}", told(&error));
                Finding::warn(text, "look at [diagnosis] socket, or run this as its user or root")
            }
            None => Finding::warn("none runs", start),
        },
    };
    practice.tell("agent", finding)?;
    Ok(agent)
}

fn of_running(agent: &Agent) -> Finding {
    let number = |pointer| agent.number(pointer).unwrap_or_default();
    let text = format!("process {}, up {}", number("/pid"), seconds(number("/up_s")));
    if let Some(error) = agent.text("/configuration/error") {
        let text = format!("{text}; the configuration is not in force as it stands now: {error}");
        return Finding::warn(text, "mend the file; it is looked at again by itself");
    }
    let waiting = agent.says("/configuration/needs_restart").and_then(Value::as_array);
    match waiting {
        Some(keys) if !keys.is_empty() => {
            let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
            let text =
                format!("{text}; changed in the file, and not in force: {}", keys.join(", "));
            Finding::warn(text, "restart it")
        }
        _ => Finding::ok(text),
    }
}

/// One that is `gapless-agent run` with this configuration, whoever's it is.
pub fn running_process(config: &Path) -> Option<u32> {
    let config = fs::canonicalize(config).ok();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut numbers = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
    numbers.find(|pid: &u32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&OsStr> = command.split(|byte| *byte == 0).map(OsStr::from_bytes).collect();
        let is_agent =
            words.first().is_some_and(|program| program.as_bytes().ends_with(b"gapless-agent"));
        is_agent && words.iter().any(|word| *word == "run") && {
            let given = words.windows(2).find_map(|pair| match pair {
                [option, path] if *option == "--config" => Some(Path::new(path)),
                _ => None,
            });
            // Of somebody else's process it cannot be told where it is: it may be the one.
            let folder = fs::read_link(format!("/proc/{pid}/cwd"));
            let its = given.zip(folder.ok()).map(|(given, folder)| folder.join(given));
            let its = its.and_then(|its| fs::canonicalize(its).ok());
            its.is_none() || its == config
        }
    })
}
