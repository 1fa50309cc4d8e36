//! How far something is, for people at a terminal: a pipe gets the result alone.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

use crate::proof::Progress;

/// A bar on standard error, of bytes.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// The bytes to come are told as they become known.
    pub fn of_bytes(doing: &str) -> Bar {
        if !io::stderr().is_terminal() {
            return Bar(ProgressBar::hidden());
        }
        let template = "{prefix} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        let style = ProgressStyle::with_template(template).expect("a well-formed template");
        Bar(ProgressBar::new(0).with_style(style).with_prefix(doing.to_owned()))
    }

    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl Progress for Bar {
    fn more(&self, bytes: u64) {
        self.0.inc_length(bytes);
    }

    fn done(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}
