//! How people see what an agent and its card are at: on a serial line, over SSH, and from programs.
//!
//! A running agent writes down how it stands (`desk`), and answers over its `socket` what is asked in a line of words
//! (`question`); `status`, `coverage`, `segments` and `tap` are the answers, each as text within 80 columns and as
//! JSON. Where no agent answers, `files` tells what the card and its index do, and writes nothing. `doctor` tries
//! everything that an agent needs, `bundle` packs all of that for whoever helps. Recorders say `closed`, and
//! `configuration` follows its file. `doctor`, `tap` and `bundle` are left out of builds without the feature `support`,
//! which say so.

#[cfg(feature = "support")]
mod bundle;
mod client;
pub(crate) mod closed;
mod configuration;
mod coverage;
mod desk;
#[cfg(feature = "support")]
mod doctor;
mod files;
mod help;
mod log;
mod mount;
mod question;
#[cfg(feature = "support")]
mod secrets;
mod segments;
mod socket;
mod status;
#[cfg(feature = "support")]
mod tap;

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
#[cfg(feature = "support")]
use std::sync::Arc;

use sdcard_indexer::readable::explain;

use crate::config::Config;
use crate::index_command::output::json_line;
use client::Unanswered;
use files::Files;
use question::{Place, Question, Wanted};
use segments::Listing;
use status::Status;

pub use configuration::{Configuration, Origin};
pub(crate) use desk::Inspection;
pub use desk::{CardFacts, CardReads, Desk};
pub use log::{LogRing, Logger};
pub use socket::{Socket, SocketError};

/// What [`run`] knows, as the first word of a command line.
pub const COMMANDS: [&str; 8] =
    ["status", "coverage", "segments", "doctor", "tap", "bundle", "closed", "log"];

/// What `support` holds of these, and what a build without it says of them.
const SUPPORT: [&str; 3] = ["doctor", "tap", "bundle"];
const LEFT_OUT: &str = "this is a small build, without doctor, tap and bundle; one with the feature `support` \
                        has them, and its doctor and bundle can be run beside this agent, from /tmp";

/// Where a configuration is looked for that is not named.
const USUAL_CONFIG: &str = "/etc/gapless/agent.toml";
const SOCKETS: &str = "/run/gapless-agent";

const EXIT_PROBLEMS: u8 = 1;
const EXIT_USAGE: u8 = 2;

/// What a command is told of where it is.
struct Site {
    place: Place,
    config: Result<Config, crate::config::ConfigError>,
}

impl Site {
    fn find(place: Place) -> Site {
        let config = Config::load(place.config.as_deref().unwrap_or(Path::new(USUAL_CONFIG)));
        Site { place, config }
    }

    fn config_path(&self) -> &Path {
        self.place.config.as_deref().unwrap_or(Path::new(USUAL_CONFIG))
    }

    /// As said, as configured, or the only one that there is.
    fn socket(&self) -> Option<PathBuf> {
        self.place.socket.clone().or_else(|| match &self.config {
            Ok(config) => config.socket(),
            Err(_) => only_socket(Path::new(SOCKETS)),
        })
    }
}

fn only_socket(folder: &Path) -> Option<PathBuf> {
    let mut sockets = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    sockets.next().filter(|_| sockets.next().is_none())
}

/// Runs one of [`COMMANDS`], whose further arguments are still to be read. Exit codes: 0 done, 1 something is wrong,
/// or no agent answers where one is needed, 2 wrong usage or configuration.
pub fn run(command: &str, arguments: lexopt::Parser) -> ExitCode {
    let complain = |error: &dyn std::fmt::Display, code: u8| {
        eprintln!("gapless-agent {command}: {error}");
        ExitCode::from(code)
    };
    let wrong = |error: lexopt::Error| {
        complain(&format!("{error}; see gapless-agent {command} --help"), EXIT_USAGE)
    };
    if !cfg!(feature = "support") && SUPPORT.contains(&command) {
        return complain(&LEFT_OUT, EXIT_USAGE);
    }
    let mut place = Place::default();
    let outcome = match command {
        #[cfg(feature = "support")]
        "doctor" | "bundle" => {
            let options = match Options::parse(command, arguments, &mut place) {
                Ok(options) => options,
                Err(error) => return wrong(error),
            };
            if place.help {
                return help(command);
            }
            let site = Arc::new(Site::find(place));
            match command {
                "doctor" => doctor::run(&site, options.as_json),
                _ => bundle::run(&site, options.output),
            }
        }
        _ => {
            let question = match Question::parse(command, arguments, Some(&mut place)) {
                Ok(question) => question,
                Err(error) => return wrong(error),
            };
            if place.help {
                return help(command);
            }
            let mut out = io::BufWriter::new(io::stdout().lock());
            answered(&Site::find(place), &question, &mut out).and_then(|well| {
                out.flush()?;
                Ok(well)
            })
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_PROBLEMS),
        // Whoever reads the answer has seen enough of it.
        Err(DiagnosisError::Answer(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error @ DiagnosisError::Config(_)) => complain(&told(&error), EXIT_USAGE),
        Err(error) => complain(&told(&error), EXIT_PROBLEMS),
    }
}

fn told(error: &(dyn Error + 'static)) -> String {
    explain(error).trim_end().to_owned()
}

fn help(command: &str) -> ExitCode {
    print!("{}", help::of(command));
    ExitCode::SUCCESS
}

#[derive(Debug, thiserror::Error)]
enum DiagnosisError {
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    #[error("{0}")]
    Unanswered(#[from] Unanswered),
    #[error(transparent)]
    Index(#[from] sdcard_indexer::index::IndexError),
    #[error("there is no stream `{0}` in the configuration")]
    UnknownStream(String),
    #[cfg(feature = "support")]
    #[error("cannot write {path}")]
    Bundle { path: PathBuf, source: io::Error },
    #[cfg(feature = "support")]
    #[error("cannot start")]
    Runtime(#[source] io::Error),
    #[error("cannot write the answer")]
    Answer(#[from] io::Error),
}

/// Options of the commands that are no questions.
#[cfg(feature = "support")]
#[derive(Default)]
struct Options {
    as_json: bool,
    output: Option<PathBuf>,
}

#[cfg(feature = "support")]
impl Options {
    fn parse(
        command: &str,
        mut arguments: lexopt::Parser,
        place: &mut Place,
    ) -> Result<Options, lexopt::Error> {
        use lexopt::prelude::*;
        let mut options = Options::default();
        while let Some(argument) = arguments.next()? {
            match argument {
                Short('h') | Long("help") => place.help = true,
                Long("config") => place.config = Some(arguments.value()?.into()),
                Long("socket") => place.socket = Some(arguments.value()?.into()),
                Long("json") if command == "doctor" => options.as_json = true,
                Short('o') | Long("output") if command == "bundle" => {
                    options.output = Some(arguments.value()?.into());
                }
                other => return Err(other.unexpected()),
            }
        }
        Ok(options)
    }
}

/// By the running agent, or else by the files; whether all is well.
fn answered(site: &Site, question: &Question, out: &mut dyn Write) -> Result<bool, DiagnosisError> {
    let unanswered = match site.socket() {
        None => Unanswered::NoSocket,
        Some(socket) => match client::ask(&socket, question, out) {
            Ok(()) => return Ok(true),
            Err(unanswered @ (Unanswered::Refused(_) | Unanswered::Broken(_))) => {
                return Err(unanswered.into());
            }
            Err(unanswered) => unanswered,
        },
    };
    match question.wanted {
        Wanted::Log | Wanted::Closed(_) => Err(unanswered.into()),
        #[cfg(feature = "support")]
        Wanted::Tap => Err(unanswered.into()),
        _ => {
            if !question.as_json {
                eprintln!("gapless-agent: {unanswered}");
            }
            let config = match &site.config {
                Ok(config) => config,
                // It cannot be cloned, and says the same once more.
                Err(_) => &Config::load(site.config_path())?,
            };
            by_files(config, question, out)
        }
    }
}

fn by_files(
    config: &Config,
    question: &Question,
    out: &mut dyn Write,
) -> Result<bool, DiagnosisError> {
    let most = if question.wanted == Wanted::Status { files::FEW } else { usize::MAX };
    let files = Files::look(config, most)?;
    match question.wanted {
        Wanted::Segments => {
            let mut listing = Listing::new(question.as_json);
            let wanted = |id| question.stream.as_ref().is_none_or(|stream| stream == id);
            let mut next = None;
            for stream in config.streams.iter().filter(|stream| wanted(&stream.id)) {
                listing.title(&stream.id, out)?;
                for segment in files.index.segments(&stream.id, question.range) {
                    if listing.told == question.limit {
                        next = Some(segment.range().start());
                        break;
                    }
                    listing.tell(&stream.id, &segment, out)?;
                }
            }
            listing.end(next, out)?;
            known(config, question)
        }
        Wanted::Coverage => {
            coverage::tell(&files.views(config), question, out)?;
            known(config, question)
        }
        _ => {
            let status = Status::at_rest(config, Some(files.facts(config)), &files.views(config));
            if question.as_json {
                json_line(&serde_json::to_value(status).map_err(io::Error::from)?, out)?;
            } else {
                status.print(out)?;
            }
            Ok(false)
        }
    }
}

fn known(config: &Config, question: &Question) -> Result<bool, DiagnosisError> {
    match &question.stream {
        Some(asked) if config.streams.iter().all(|stream| stream.id != *asked) => {
            Err(DiagnosisError::UnknownStream(asked.to_string()))
        }
        _ => Ok(true),
    }
}
