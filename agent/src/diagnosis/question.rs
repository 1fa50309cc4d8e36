//! What can be asked of an agent, and how it is written: the same words on a command line and on its socket.

use std::path::PathBuf;

use lexopt::prelude::*;
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::time::{TimeRange, Timestamp};

/// Segments in an answer, where nothing else is said.
const USUAL_LIMIT: usize = 200;
const MAX_LIMIT: usize = 1_000_000;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    pub wanted: Wanted,
    pub stream: Option<StreamId>,
    pub range: TimeRange,
    pub limit: usize,
    pub as_json: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wanted {
    Status,
    Coverage,
    Segments,
    /// What is said and heard from now on, until one of both sides has enough.
    #[cfg(feature = "support")]
    Tap,
    /// The last lines of the log.
    Log,
    /// No question: a recording was closed.
    Closed(PathBuf),
}

/// What a command line says besides.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Place {
    pub config: Option<PathBuf>,
    pub socket: Option<PathBuf>,
    pub help: bool,
}

impl Question {
    /// `word` has been read already. Without a `place`, options of the command line are not allowed.
    pub fn parse(
        word: &str,
        mut words: lexopt::Parser,
        mut place: Option<&mut Place>,
    ) -> Result<Question, lexopt::Error> {
        let mut question = Question::of(match word {
            "status" => Wanted::Status,
            "coverage" => Wanted::Coverage,
            "segments" => Wanted::Segments,
            #[cfg(feature = "support")]
            "tap" => Wanted::Tap,
            #[cfg(not(feature = "support"))]
            "tap" => return Err(super::LEFT_OUT.into()),
            "log" => Wanted::Log,
            "closed" => Wanted::Closed(PathBuf::new()),
            _ => return Err(format!("`{}` is not known", word.escape_debug()).into()),
        });
        let (mut from, mut to) = (TimeRange::ALWAYS.start(), TimeRange::ALWAYS.end());
        while let Some(argument) = words.next()? {
            let listed = matches!(question.wanted, Wanted::Coverage | Wanted::Segments);
            match (argument, &mut place) {
                (Short('h') | Long("help"), Some(place)) => {
                    place.help = true;
                    return Ok(question);
                }
                (Long("config"), Some(place)) => place.config = Some(words.value()?.into()),
                (Long("socket"), Some(place)) => place.socket = Some(words.value()?.into()),
                (Long("json"), _) => question.as_json = true,
                (Long("stream"), _) if listed => question.stream = Some(words.value()?.parse()?),
                (Long("from"), _) if listed => from = words.value()?.parse::<Timestamp>()?,
                (Long("to"), _) if listed => to = words.value()?.parse::<Timestamp>()?,
                (Long("limit"), _) if question.wanted == Wanted::Segments => {
                    question.limit = words.value()?.parse::<usize>()?.clamp(1, MAX_LIMIT);
                }
                (Value(path), Some(_)) if question.wanted == Wanted::Closed(PathBuf::new()) => {
                    question.wanted = Wanted::Closed(
                        std::path::absolute(path)
                            .map_err(|error| lexopt::Error::Custom(Box::new(error)))?,
                    );
                }
                (other, _) => return Err(other.unexpected()),
            }
        }
        let range = TimeRange::new(from, to);
        question.range = range.ok_or_else(|| format!("--to {to} lies before --from {from}"))?;
        if place.is_some() && question.wanted == Wanted::Closed(PathBuf::new()) {
            return Err("the path of the recording is missing".into());
        }
        Ok(question)
    }

    /// As it comes over the socket. Whatever follows `closed` is one path.
    pub fn parse_line(line: &str) -> Result<Question, lexopt::Error> {
        let line = line.trim_end_matches(['\r', '\n']);
        if let Some(path) = line.strip_prefix("closed ") {
            return Ok(Question::of(Wanted::Closed(path.into())));
        }
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            None | Some("closed") => {
                Err("say `status`, `coverage`, `segments`, `tap`, `log` or `closed PATH`".into())
            }
            Some(word) => Question::parse(word, lexopt::Parser::from_args(words), None),
        }
    }

    /// What [`Question::parse_line`] reads.
    pub fn line(&self) -> String {
        let mut line = match &self.wanted {
            Wanted::Status => "status".to_owned(),
            Wanted::Coverage => "coverage".to_owned(),
            Wanted::Segments => format!("segments --limit {}", self.limit),
            #[cfg(feature = "support")]
            Wanted::Tap => "tap".to_owned(),
            Wanted::Log => "log".to_owned(),
            Wanted::Closed(path) => return format!("closed {}", path.display()),
        };
        if let Some(stream) = &self.stream {
            line.push_str(&format!(" --stream {stream}"));
        }
        if self.range != TimeRange::ALWAYS {
            let (from, to) = (self.range.start(), self.range.end());
            line.push_str(&format!(" --from {from} --to {to}"));
        }
        if self.as_json {
            line.push_str(" --json");
        }
        line
    }

    pub fn of(wanted: Wanted) -> Question {
        let (range, limit) = (TimeRange::ALWAYS, USUAL_LIMIT);
        Question { wanted, stream: None, range, limit, as_json: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str]) -> Result<Question, String> {
        let (word, rest) = words.split_first().unwrap();
        let parser = lexopt::Parser::from_args(rest.iter().copied());
        Question::parse(word, parser, Some(&mut Place::default()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_command_line_asks_is_asked_in_the_same_words_over_the_socket() {
        for words in [
            &["status"][..],
            &["status", "--json"],
            &["coverage", "--stream", "main", "--json"],
            &["segments", "--limit", "7", "--from", "2026-11-29T04:00:00Z"],
            &["segments", "--to", "2026-11-29T05:00:00+01:00", "--stream", "sub"],
            #[cfg(feature = "support")]
            &["tap", "--json"],
            &["log"],
            &["closed", "/mnt/card/a b.mp4"],
        ] {
            let question = asked(words).unwrap();
            assert_eq!(Question::parse_line(&question.line()).unwrap(), question, "{words:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_on_both_ways() {
        for words in [
            &["sing"][..],
            &["status", "--stream", "main"],
            &["coverage", "--limit", "3"],
            &["segments", "--limit", "many"],
            &["segments", "--stream", "no stream"],
            &["segments", "--from", "2026-11-29T05:00:00Z", "--to", "2026-11-29T04:00:00Z"],
            &["closed"],
            &["status", "main"],
        ] {
            assert!(asked(words).is_err(), "{words:?}");
            assert!(Question::parse_line(&words.join(" ")).is_err(), "{words:?}");
        }
        for line in ["", "\n", "closed", "status --config /etc/passwd", "tap --socket x", "-h"] {
            assert!(Question::parse_line(line).is_err(), "{line}");
        }
    }
}
