//! Asking a running agent: one line over its socket, and its answer passed on as it comes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::question::{Question, Wanted};

/// For an answer to begin or to go on: an agent that is alive takes much less.
const PATIENCE: Duration = Duration::from_secs(10);
/// The card's thread may have to read a card first.
const CARD_PATIENCE: Duration = Duration::from_secs(40);
const REFUSALS: [&str; 2] = ["error: ", "{\"error\":"];

#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    #[error("no agent can be asked: the configuration names no socket, or none is found")]
    NoSocket,
    #[error("no agent answers at {path} ({source}): it does not run, or has another socket")]
    Absent { path: PathBuf, source: io::Error },
    #[error("an agent runs at {path}, but has not answered for {}s: it hangs", PATIENCE.as_secs())]
    Silent { path: PathBuf },
    #[error("the agent: {0}")]
    Refused(String),
    #[error("the answer broke off: {0}")]
    Broken(#[source] io::Error),
}

/// Passes the answer on. [`Unanswered::Absent`] and [`Unanswered::Silent`] where nothing of it has come.
pub fn ask(socket: &Path, question: &Question, out: &mut dyn Write) -> Result<(), Unanswered> {
    let path = || socket.to_owned();
    let absent = |source| Unanswered::Absent { path: path(), source };
    let mut stream = UnixStream::connect(socket).map_err(absent)?;
    let patience = match question.wanted {
        #[cfg(feature = "support")]
        Wanted::Tap => None,
        Wanted::Segments => Some(CARD_PATIENCE),
        _ => Some(PATIENCE),
    };
    stream.set_read_timeout(patience).map_err(absent)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(absent)?;
    let line = format!("{}\n", question.line());
    // Whoever refuses to listen may have said why. All that was asked is answered, and then the connection is ended.
    let written = stream.write_all(line.as_bytes());
    let _ = written.and_then(|()| stream.shutdown(std::net::Shutdown::Write));
    let mut answer = BufReader::new(stream);
    let mut first = Vec::new();
    match answer.read_until(b'\n', &mut first) {
        Ok(0) => return Err(Unanswered::Silent { path: path() }),
        Ok(_) => {}
        Err(error) if is_timeout(&error) => return Err(Unanswered::Silent { path: path() }),
        Err(error) => return Err(absent(error)),
    }
    let text = String::from_utf8_lossy(&first);
    if REFUSALS.iter().any(|refusal| text.starts_with(refusal)) {
        return Err(Unanswered::Refused(text.trim_start_matches("error: ").trim_end().to_owned()));
    }
    out.write_all(&first).map_err(Unanswered::Broken)?;
    let mut buffer = [0; 4_096];
    loop {
        if answer.buffer().is_empty() {
            out.flush().map_err(Unanswered::Broken)?;
        }
        match answer.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                let some = buffer.get(..count).unwrap_or_default();
                out.write_all(some).map_err(Unanswered::Broken)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Unanswered::Broken(error)),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
