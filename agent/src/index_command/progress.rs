//! A progress bar on standard error, where that is a terminal.

use std::io::{self, IsTerminal, Write};

/// Columns of the bar itself; with what stands around it, the line stays below 80.
const BAR_COLUMNS: usize = 30;

pub struct Progress {
    shown: bool,
}

impl Progress {
    pub fn new() -> Self {
        Progress { shown: io::stderr().is_terminal() }
    }

    /// So many of `all` are done; `None` where their number is not known. `what` is what is done: `reading`;
    /// `unit`, of what: `files`.
    pub fn at(&self, what: &str, done: usize, all: Option<usize>, unit: &str) {
        if self.shown {
            draw(&format!("\r{}\x1b[K", line(what, done, all, unit)));
        }
    }

    /// Leaves nothing behind.
    pub fn end(&self) {
        if self.shown {
            draw("\r\x1b[K");
        }
    }
}

/// What cannot be drawn is not worth an error.
fn draw(text: &str) {
    let mut terminal = io::stderr();
    let _ = terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush());
}

fn line(what: &str, done: usize, all: Option<usize>, unit: &str) -> String {
    match all {
        None if done == 0 => format!("{what} …"),
        None => format!("{what} … {done} {unit}"),
        Some(all) => {
            let share = |of: usize| done.min(all).saturating_mul(of).checked_div(all).unwrap_or(of);
            let bar = "#".repeat(share(BAR_COLUMNS));
            format!("{what} [{bar:<BAR_COLUMNS$}] {:>3} %  {done} of {all} {unit}", share(100))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_much_of_how_much_within_eighty_columns() {
        assert_eq!(line("listing", 0, None, "files"), "listing …");
        assert_eq!(line("listing", 4_096, None, "files"), "listing … 4096 files");
        let half = line("reading", 100_000, Some(200_000), "files");
        assert_eq!(half, "reading [###############               ]  50 %  100000 of 200000 files");
        assert!(half.len() < 80);
        assert!(line("reading", 0, Some(0), "MiB").contains("100 %"));
    }
}
