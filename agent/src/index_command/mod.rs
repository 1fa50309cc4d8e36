//! `gapless-agent index`: what a card holds, asked on any machine, with no configuration and no server.
//!
//! In the order of the data: `arguments` reads what is asked, `streams` finds out which recorders' files lie
//! below a directory, the index of `sdcard-indexer` does the work, and `scan`, `show`, `verify` and `fsck`
//! say what came of it, as text for a terminal of 80 columns or as lines of JSON. Nothing is written to the card unless
//! that was asked for by name, and a recording never.

mod arguments;
mod fsck;
mod help;
pub(crate) mod logged;
pub(crate) mod output;
pub(crate) mod progress;
mod scan;
mod show;
mod streams;
mod verify;

use std::io::{self, Write};
#[cfg(feature = "support")]
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use sdcard_indexer::index::{Index, IndexConfig, Problem};
use sdcard_indexer::log::LogError;
use sdcard_indexer::readable::explain;
use sdcard_indexer::time::Timestamp;

use crate::clock;
use crate::config::ConfigError;
use arguments::{Asked, Command, Question};
use progress::Progress;
use streams::{Card, StreamsError};

const EXIT_PROBLEMS: u8 = 1;
const EXIT_CANNOT: u8 = 2;

/// What is wrong with the files of a card.
struct Findings {
    problems: Vec<Problem>,
    /// Further ones, beyond the number that is kept.
    untold: u64,
}

/// Files that are read at least between two steps of the progress bar.
const MIN_STEP: usize = 16;

/// What was asked could not be answered.
#[derive(Debug, thiserror::Error)]
enum IndexCommandError {
    #[error("cannot look into {directory}")]
    Directory { directory: PathBuf, source: io::Error },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Streams(#[from] StreamsError),
    #[error(transparent)]
    Index(#[from] sdcard_indexer::index::IndexError),
    #[error(
        "nothing to compare with: in {folder} are no digests of these streams; the agent takes them when \
         recordings are closed, with [index] seal_digest"
    )]
    NoDigests { folder: PathBuf },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the index cannot be written anew: {0}")]
    Repair(String),
    #[error("cannot write the answer")]
    Answer(#[from] io::Error),
}

/// Runs `index …`, whose further arguments are still to be read. Exit codes: 0 clean, 1 problems were
/// found, 2 wrong usage, or it cannot be answered.
pub fn run(arguments: lexopt::Parser) -> ExitCode {
    let asked = match arguments::parse(arguments) {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("gapless-agent index: {error}; see gapless-agent index --help");
            return ExitCode::from(EXIT_CANNOT);
        }
    };
    let question = match asked {
        Asked::Help(text) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Asked::Question(question) => question,
    };
    let mut answer = io::BufWriter::new(io::stdout().lock());
    let outcome = question.answer(&mut answer).and_then(|clean| {
        answer.flush()?;
        Ok(clean)
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_PROBLEMS),
        // Whoever reads the answer has seen enough of it.
        Err(IndexCommandError::Answer(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("gapless-agent index: {}", explain(&error).trim_end());
            ExitCode::from(EXIT_CANNOT)
        }
    }
}

/// `index fsck` of the card of a configuration, as text.
#[cfg(feature = "support")]
pub(crate) fn check(root: &Path, config: &Path, out: &mut dyn Write) -> Result<(), String> {
    let words = ["fsck".as_ref(), root.as_os_str(), "--config".as_ref(), config.as_os_str()];
    match arguments::parse(lexopt::Parser::from_args(words)) {
        Ok(Asked::Question(question)) => {
            question.answer(out).map(drop).map_err(|error| explain(&error))
        }
        Ok(Asked::Help(_)) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

impl Question {
    /// Whether all is well.
    fn answer(&self, out: &mut dyn Write) -> Result<bool, IndexCommandError> {
        let now = clock::realtime();
        let listing = std::fs::read_dir(&self.directory);
        listing.map_err(|source| {
            let directory = self.directory.clone();
            IndexCommandError::Directory { directory, source }
        })?;
        let progress = Progress::new();
        let card = Card::find(self, now, &progress)?;
        match &self.command {
            Command::Scan { write_index } => {
                let (index, findings) = indexed(&card, *write_index, now, &progress)?;
                scan::tell(&card, &index, &findings, self.as_json, out)
            }
            Command::Show(window) => {
                let (index, _) = indexed(&card, false, now, &progress)?;
                show::tell(&card, &index, window, self.as_json, out)
            }
            Command::Verify => verify::tell(&card, &progress, self.as_json, out),
            Command::Fsck { repair } => {
                fsck::tell(&card, *repair, now, &progress, self.as_json, out)
            }
        }
    }
}

/// Reads all of a card, from its files alone unless its index is to be kept.
fn indexed(
    card: &Card,
    keep: bool,
    now: Timestamp,
    progress: &Progress,
) -> Result<(Index, Findings), IndexCommandError> {
    let sources = card.streams.iter().map(|stream| stream.source.clone()).collect();
    let config = IndexConfig::new(sources, keep.then(|| card.state_dir.clone()));
    let mut index = Index::open(config.clone())?;
    progress.at("listing", 0, None, "files");
    let mut sweep = index.survey(now);
    let mut findings = Findings { problems: sweep.problems, untold: sweep.problems_untold };
    let all = sweep.unread;
    let step = (all / 100).max(MIN_STEP);
    while sweep.unread > 0 {
        progress.at("reading", all.saturating_sub(sweep.unread), Some(all), "files");
        sweep = index.read_unread(now, step);
        findings.problems.append(&mut sweep.problems);
        findings.untold += sweep.problems_untold;
    }
    progress.at("reading", all, Some(all), "files");
    progress.end();
    if card.is_quiet(&index, now) {
        sweep = index.refresh(&[], now.saturating_add(config.seal_after));
        findings.problems.append(&mut sweep.problems);
        findings.untold += sweep.problems_untold;
    }
    Ok((index, findings))
}
