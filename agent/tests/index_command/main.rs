//! `gapless-agent index`, run as people and scripts run it: on cards with real recordings (`apt-get install
//! ffmpeg`), read for answers, exit codes and columns, and watched for what it writes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

mod card;
mod fsck;
mod scan;
mod show;
mod usage;
mod verify;

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// What a run came to.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Answer {
    /// The objects of `--json`, those of one kind.
    pub fn of_kind(&self, kind: &str) -> Vec<Value> {
        let lines = self.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|value| value["kind"] == kind).collect()
    }
}

pub fn gapless_agent() -> Command {
    Command::new(env!("CARGO_BIN_EXE_gapless-agent"))
}

/// Runs `gapless-agent index` with these arguments and a directory; text has to fit 80 columns.
#[track_caller]
pub fn index(arguments: &[&str], directory: &Path) -> Answer {
    let command = &mut gapless_agent();
    let output = command.arg("index").args(arguments).arg(directory).stdin(Stdio::null()).output();
    let output = output.unwrap();
    let answer = Answer {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    if !arguments.contains(&"--json") {
        assert_fits(&answer.out);
    }
    answer
}

/// A word without a space, as a long path, is not broken.
#[track_caller]
pub fn assert_fits(text: &str) {
    for line in text.lines().filter(|line| line.contains(' ')) {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
}
