//! The last things that happened, told when something goes wrong.

use std::collections::VecDeque;
use std::fmt::Write;

use super::agenda::{Micros, SECOND};

const KEPT: usize = 40_000;

#[derive(Debug)]
pub struct Trace {
    verbose: bool,
    lines: VecDeque<(Micros, String)>,
}

impl Trace {
    /// A verbose one prints everything at once; the other keeps nothing, as a failing world is run again.
    pub fn new(verbose: bool) -> Self {
        Trace { verbose, lines: VecDeque::new() }
    }

    pub fn is_verbose(&self) -> bool {
        self.verbose
    }

    pub fn say(&mut self, at: Micros, what: impl FnOnce() -> String) {
        if self.verbose {
            if self.lines.len() == KEPT {
                self.lines.pop_front();
            }
            self.lines.push_back((at, what()));
        }
    }

    pub fn told(&self) -> String {
        self.lines.iter().fold(String::new(), |mut told, (at, what)| {
            let _ = writeln!(told, "{:>10.3} s  {what}", *at as f64 / SECOND as f64);
            told
        })
    }
}
