//! `doctor`: everything that an agent needs, tried one after the other, each with what to do about it.
//!
//! | JSON `kind` | fields |
//! |---|---|
//! | `check` | `check`, `verdict` (`ok`, `warn`, `fail`, `skipped`), `says`, `to_do` |
//! | `end` | `failed`, `warned` |
//!
//! It works beside a running agent, whose word it takes for what only that one can know, and in the place of a dead
//! one. What may hang (the card, the network) is given so long, and then counts as failed.

mod agent;
mod card;
mod mqtt;
mod network;
mod speed;

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use sdcard_indexer::readable::wrapped;
use serde_json::json;

use super::{DiagnosisError, Site, told};
use crate::index_command::output::{counted, json_line};

const TEXT_COLUMNS: usize = 80 - 18;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Ok,
    Warn,
    Fail,
    /// It rests on something that failed, or does not apply.
    Skipped,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
            Verdict::Skipped => "-",
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Verdict::Ok => "32",
            Verdict::Warn => "33",
            Verdict::Fail => "1;31",
            Verdict::Skipped => "2",
        }
    }
}

/// What came of one check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    verdict: Verdict,
    says: String,
    to_do: Option<String>,
}

impl Finding {
    fn ok(says: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Ok, says: says.into(), to_do: None }
    }

    fn skipped(says: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Skipped, says: says.into(), to_do: None }
    }

    fn warn(says: impl Into<String>, to_do: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Warn, says: says.into(), to_do: Some(to_do.into()) }
    }

    fn fail(says: impl Into<String>, to_do: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Fail, says: says.into(), to_do: Some(to_do.into()) }
    }
}

/// Tells findings as they come.
pub struct Practice<'a> {
    as_json: bool,
    coloured: bool,
    failed: usize,
    warned: usize,
    out: &'a mut dyn Write,
}

impl Practice<'_> {
    /// Whether what rests on it can be tried.
    fn tell(&mut self, check: &str, finding: Finding) -> io::Result<bool> {
        let Finding { verdict, says, to_do } = finding;
        self.failed += usize::from(verdict == Verdict::Fail);
        self.warned += usize::from(verdict == Verdict::Warn);
        if self.as_json {
            let verdict = match verdict {
                Verdict::Skipped => "skipped".to_owned(),
                verdict => verdict.word().to_lowercase(),
            };
            let line = json!({
                "kind": "check",
                "check": check,
                "verdict": verdict,
                "says": says,
                "to_do": to_do,
            });
            json_line(&line, self.out)?;
        } else {
            let mut word = format!("{:<5}", verdict.word());
            if self.coloured {
                word = format!("\x1b[{}m{word}\x1b[0m", verdict.colour());
            }
            let mut label = format!("{word} {check:<11}");
            let to_do = to_do.map(|to_do| format!("-> {to_do}"));
            for text in [Some(says), to_do].into_iter().flatten() {
                let text = text.replace(|sign: char| sign.is_control(), " ");
                for line in wrapped(&text, TEXT_COLUMNS) {
                    writeln!(self.out, "{label} {line}")?;
                    label = " ".repeat(17);
                }
            }
        }
        // Whoever waits for a slow one sees what was found so far.
        self.out.flush()?;
        Ok(!matches!(verdict, Verdict::Fail | Verdict::Skipped))
    }

    fn skip(&mut self, checks: &[&str], why: &str) -> io::Result<()> {
        for check in checks {
            self.tell(check, Finding::skipped(why))?;
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        if self.as_json {
            let end = json!({ "kind": "end", "failed": self.failed, "warned": self.warned });
            return json_line(&end, self.out);
        }
        let warnings = counted(self.warned, "warning");
        match self.failed {
            0 => writeln!(self.out, "nothing failed, {warnings}"),
            failed => writeln!(self.out, "{} FAILED, {warnings}", counted(failed, "check")),
        }
    }
}

pub fn run(site: &Site, as_json: bool) -> Result<bool, DiagnosisError> {
    let coloured = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut out = io::stdout().lock();
    examine(site, as_json, coloured, &mut out)
}

/// Whether nothing failed.
pub fn examine(
    site: &Site,
    as_json: bool,
    coloured: bool,
    out: &mut dyn Write,
) -> Result<bool, DiagnosisError> {
    let mut practice = Practice { as_json, coloured, failed: 0, warned: 0, out };
    match &site.config {
        Err(error) => {
            let to_do = "mend the file; agent.example.toml explains every key";
            practice.tell("config", Finding::fail(told(error), to_do))?;
            agent::examine(site, &mut practice)?;
            practice.skip(&card::CHECKS, "not tried without a configuration")?;
            practice.skip(&network::CHECKS, "not tried without a configuration")?;
        }
        Ok(config) => {
            let of = format!("{}, {}", config.device, counted(config.streams.len(), "stream"));
            practice.tell("config", Finding::ok(of))?;
            let agent = agent::examine(site, &mut practice)?;
            card::examine(config, &agent, &mut practice)?;
            network::examine(config, &agent, &mut practice)?;
        }
    }
    practice.end()?;
    Ok(practice.failed == 0)
}

pub(super) use agent::running_process;

/// What comes of it, unless it takes longer than that: then its thread is left to itself.
pub(super) fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (answer, answered) = mpsc::sync_channel(1);
    let worker = thread::Builder::new().name("doctor".to_owned());
    // Nobody may be there any more to hear of it.
    worker.spawn(move || drop(answer.send(work()))).ok()?;
    answered.recv_timeout(patience).ok()
}
