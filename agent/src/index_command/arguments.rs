//! What stands behind `gapless-agent index`.

use std::path::PathBuf;

use lexopt::prelude::*;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::layout::{LayoutConfig, Preset};
use sdcard_indexer::time::{TimeRange, Timestamp};

use super::help;

pub enum Asked {
    Help(&'static str),
    Question(Question),
}

pub struct Question {
    pub command: Command,
    /// The card, or a folder of it.
    pub directory: PathBuf,
    pub streams: Streams,
    pub as_json: bool,
}

pub enum Command {
    Scan { write_index: bool },
    Show(Window),
    Verify,
    Fsck { repair: bool },
}

/// What of a card is shown, and how much of it.
pub struct Window {
    pub range: TimeRange,
    pub with_segments: bool,
}

/// How it is known which streams lie in the directory.
pub enum Streams {
    /// To be found out from names; only this one, in this time zone, where these are said.
    Detected { only: Option<StreamId>, time_zone: Option<String> },
    /// The directory is this one.
    Given { stream: StreamId, layout: LayoutConfig },
    /// Those of an agent's configuration, whose card the directory is.
    Configured { config: PathBuf, only: Option<StreamId> },
}

/// Options as they come; which of them go together is seen at the end.
#[derive(Default)]
struct Options {
    directory: Option<PathBuf>,
    layout: LayoutConfig,
    stream: Option<StreamId>,
    config: Option<PathBuf>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    with_segments: bool,
    write_index: bool,
    repair: bool,
    as_json: bool,
}

pub fn parse(mut arguments: lexopt::Parser) -> Result<Asked, lexopt::Error> {
    let command = match arguments.next()? {
        Some(Value(command)) => command.string()?,
        Some(Short('h') | Long("help")) => return Ok(Asked::Help(help::INDEX)),
        Some(other) => return Err(other.unexpected()),
        None => return Err("give a command: scan, show, verify or fsck".into()),
    };
    let text = match command.as_str() {
        "scan" => help::SCAN,
        "show" => help::SHOW,
        "verify" => help::VERIFY,
        "fsck" => help::FSCK,
        _ => {
            return Err(format!(
                "there is no command `{command}`: give scan, show, verify or fsck"
            )
            .into());
        }
    };
    let mut options = Options::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Asked::Help(text)),
            Long("layout") => options.layout.layout = Some(preset(&arguments.value()?.string()?)?),
            Long("template") => options.layout.template = Some(arguments.value()?.string()?),
            Long("time-zone") => options.layout.time_zone = Some(arguments.value()?.string()?),
            Long("camera") => options.layout.camera = Some(arguments.value()?.string()?),
            Long("stream") => options.stream = Some(arguments.value()?.parse()?),
            Long("config") => options.config = Some(arguments.value()?.into()),
            Long("json") => options.as_json = true,
            Long("write-index") if command == "scan" => options.write_index = true,
            Long("repair") if command == "fsck" => options.repair = true,
            Long("from") if command == "show" => options.from = Some(arguments.value()?.parse()?),
            Long("to") if command == "show" => options.to = Some(arguments.value()?.parse()?),
            Long("segments") if command == "show" => options.with_segments = true,
            Value(directory) if options.directory.is_none() => {
                options.directory = Some(directory.into());
            }
            other => return Err(other.unexpected()),
        }
    }
    options.question(&command).map(Asked::Question)
}

fn preset(name: &str) -> Result<Preset, lexopt::Error> {
    let known = Preset::ALL.into_iter().find(|preset| preset.name() == name);
    known.ok_or_else(|| {
        let names = Preset::ALL.map(Preset::name).join(", ");
        format!("layout `{name}` is not known; known are {names}").into()
    })
}

impl Options {
    fn question(self, command: &str) -> Result<Question, lexopt::Error> {
        let command = match command {
            "scan" => Command::Scan { write_index: self.write_index },
            "verify" => Command::Verify,
            "fsck" if self.repair && self.stream.is_some() => {
                return Err("--repair is for all streams: leave out --stream".into());
            }
            "fsck" => Command::Fsck { repair: self.repair },
            _ => Command::Show(self.window()?),
        };
        let directory = self.directory.ok_or("the directory is missing")?;
        let as_json = self.as_json;
        let given = self.layout.layout.is_some() || self.layout.template.is_some();
        let streams = match (self.config, given) {
            (Some(config), _) if self.layout == LayoutConfig::default() => {
                Streams::Configured { config, only: self.stream }
            }
            (Some(_), _) => {
                return Err("--config says how the files are named: give it alone".into());
            }
            (None, true) => {
                let stream = self.stream.map_or_else(|| "main".parse(), Ok);
                let stream = stream.map_err(|error| lexopt::Error::Custom(Box::new(error)))?;
                Streams::Given { stream, layout: self.layout }
            }
            (None, false) if self.layout.camera.is_some() => {
                return Err("--camera goes with --layout or --template".into());
            }
            (None, false) => {
                Streams::Detected { only: self.stream, time_zone: self.layout.time_zone }
            }
        };
        Ok(Question { command, directory, streams, as_json })
    }

    fn window(&self) -> Result<Window, lexopt::Error> {
        let from = self.from.unwrap_or(TimeRange::ALWAYS.start());
        let to = self.to.unwrap_or(TimeRange::ALWAYS.end());
        let range = TimeRange::new(from, to);
        let range = range.ok_or_else(|| format!("--to {to} lies before --from {from}"))?;
        Ok(Window { range, with_segments: self.with_segments })
    }
}
