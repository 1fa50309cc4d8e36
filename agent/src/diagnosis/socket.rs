//! The agent's socket: answers [`Question`]s from the [`Desk`], a line of words each, in the agent's own runtime.
//!
//! It is told of by nobody and read by whoever may open it (mode 0660: the agent's user and group, and root). It
//! takes a few connections at once, short lines and little patience, and there is nothing to be had by it but looks
//! and one hint: that a recording was closed. A question never waits for the card but that for its segments.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sdcard_indexer::identity::StreamId;
use sdcard_indexer::segment::Segment;
use serde_json::json;
#[cfg(feature = "support")]
use tokio::io::Interest;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
#[cfg(feature = "support")]
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use super::closed::{self, Refusal};
use super::coverage;
use super::desk::{Desk, Inspection};
use super::question::{Question, Wanted};
use super::segments::Listing;
use super::status::Status;
#[cfg(feature = "support")]
use super::tap::{missed_json, missed_text};
use crate::config::Config;
use crate::index_command::output::json_line;

/// Connections at once; a further one is told so. The others wait for nobody who only watches.
const MAX_CONNECTIONS: usize = 8;
#[cfg(feature = "support")]
const MAX_WATCHERS: usize = 2;
/// Longer than the longest path.
const MAX_LINE_BYTES: u64 = 4_352;
const MAX_LINES: usize = 256;
/// For a line to come, and for an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(10);
/// For the card's thread to answer.
const CARD_PATIENCE: Duration = Duration::from_secs(30);
/// Segments asked for at once, so that neither the card's thread nor memory is taken for long.
const PORTION: usize = 256;
const MODE: u32 = 0o660;

#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("another agent answers there")]
    Taken,
    #[error("something that is no socket has that name")]
    NotASocket,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Removed again when it is dropped, if it is still the one that was made.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    made: Option<(u64, u64)>,
}

impl Socket {
    /// In place of one that a dead agent has left, but not of a live one's.
    pub fn bind(path: &Path) -> Result<Socket, SocketError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if !fs::symlink_metadata(path)?.file_type().is_socket() {
                    return Err(SocketError::NotASocket);
                }
                match BlockingStream::connect(path) {
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    _ => return Err(SocketError::Taken),
                }
                fs::remove_file(path)?;
                UnixListener::bind(path)?
            }
            outcome => outcome?,
        };
        fs::set_permissions(path, Permissions::from_mode(MODE))?;
        Ok(Socket { listener, path: path.to_owned(), made: identity(path) })
    }

    /// Answers until it is dropped.
    pub async fn serve(self, desk: Desk) -> std::convert::Infallible {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        #[cfg(feature = "support")]
        let watchers = Arc::new(Semaphore::new(MAX_WATCHERS));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let Ok(place) = places.clone().try_acquire_owned() else {
                            // Fails where it went again: then nobody is to be told.
                            let _ = stream.into_std().and_then(|stream| {
                                (&stream).write_all(b"error: too many ask at once\n")
                            });
                            continue;
                        };
                        let caller = Caller {
                            desk: desk.clone(),
                            #[cfg(feature = "support")]
                            watchers: watchers.clone(),
                        };
                        connections.spawn(async move {
                            // Whoever goes in the middle of an answer wants none.
                            let _ = converse(stream, caller).await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a connection to the agent's socket was not had");
                        tokio::time::sleep(PATIENCE / 10).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.made.is_some() && identity(&self.path) == self.made {
            // What stays behind is replaced by the next agent.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// What a connection is answered from.
struct Caller {
    desk: Desk,
    #[cfg(feature = "support")]
    watchers: Arc<Semaphore>,
}

async fn converse(stream: UnixStream, caller: Caller) -> io::Result<()> {
    let desk = &caller.desk;
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::with_capacity(512, reader);
    for _ in 0..MAX_LINES {
        let Some(line) = line(&mut reader).await? else { return Ok(()) };
        let question = match Question::parse_line(&line) {
            Ok(question) => question,
            Err(error) => {
                refuse(&mut writer, &error.to_string(), line.contains("--json")).await?;
                continue;
            }
        };
        match question.wanted {
            #[cfg(feature = "support")]
            Wanted::Tap => match caller.watchers.try_acquire() {
                Ok(_place) => return watch(&mut writer, desk, question.as_json).await,
                Err(_) => refuse(&mut writer, "too many watch already", question.as_json).await?,
            },
            Wanted::Segments => tell_segments(&mut writer, desk, &question).await?,
            _ => answer(&mut writer, desk, &question).await?,
        }
    }
    Ok(())
}

/// `None` where nothing more is to come. A line that is too long ends the connection.
async fn line(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    let mut limited = reader.take(MAX_LINE_BYTES);
    let read = tokio::time::timeout(PATIENCE, limited.read_until(b'\n', &mut bytes)).await;
    match read {
        Ok(read) => read?,
        Err(_) => return Ok(None),
    };
    if bytes.is_empty() || bytes.len() as u64 == MAX_LINE_BYTES {
        return Ok(None);
    }
    // A path of other bytes than UTF-8 is known by no layout.
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

async fn send(writer: &mut OwnedWriteHalf, bytes: &[u8]) -> io::Result<()> {
    let sent = tokio::time::timeout(PATIENCE, writer.write_all(bytes)).await;
    sent.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn refuse(writer: &mut OwnedWriteHalf, why: &str, as_json: bool) -> io::Result<()> {
    let mut told = Vec::new();
    if as_json {
        json_line(&json!({ "kind": "error", "error": why }), &mut told)?;
    } else {
        told.extend_from_slice(format!("error: {why}\n").as_bytes());
    }
    send(writer, &told).await
}

async fn answer(writer: &mut OwnedWriteHalf, desk: &Desk, question: &Question) -> io::Result<()> {
    let Some(config) = desk.configuration().config else {
        return refuse(writer, "the agent is just starting", question.as_json).await;
    };
    let mut told = Vec::new();
    match &question.wanted {
        Wanted::Status if question.as_json => {
            let status = serde_json::to_value(Status::of(desk, &config))?;
            json_line(&status, &mut told)?;
        }
        Wanted::Status => Status::of(desk, &config).print(&mut told)?,
        Wanted::Log => {
            for line in desk.log().lines() {
                if question.as_json {
                    json_line(&json!({ "kind": "log", "line": line }), &mut told)?;
                } else {
                    told.extend_from_slice(line.as_bytes());
                    told.push(b'\n');
                }
            }
        }
        Wanted::Closed(path) => match close(desk, &config, path) {
            Ok(()) if question.as_json => json_line(&json!({ "kind": "taken" }), &mut told)?,
            Ok(()) => told.extend_from_slice(b"taken\n"),
            Err(refusal) => {
                return refuse(writer, &refusal.to_string(), question.as_json).await;
            }
        },
        _ => {
            if !coverage::tell(&desk.views(), question, &mut told)? {
                return refuse(writer, &unknown_stream(&config), question.as_json).await;
            }
        }
    }
    send(writer, &told).await
}

/// By its name alone: the card's thread looks for itself.
fn close(desk: &Desk, config: &Config, path: &Path) -> Result<(), Refusal> {
    let files = closed::files_of(config, path)?;
    files.into_iter().for_each(|file| desk.closed(file));
    Ok(())
}

fn unknown_stream(config: &Config) -> String {
    let known: Vec<&str> = config.streams.iter().map(|stream| stream.id.as_str()).collect();
    format!("there is no such stream; there are: {}", known.join(", "))
}

async fn tell_segments(
    writer: &mut OwnedWriteHalf,
    desk: &Desk,
    question: &Question,
) -> io::Result<()> {
    let Some(config) = desk.configuration().config else {
        return refuse(writer, "the agent is just starting", question.as_json).await;
    };
    let wanted = |id: &StreamId| question.stream.as_ref().is_none_or(|stream| stream == id);
    let ids = config.streams.iter().map(|stream| &stream.id);
    let ids: Vec<&StreamId> = ids.filter(|id| wanted(id)).collect();
    if ids.is_empty() {
        return refuse(writer, &unknown_stream(&config), question.as_json).await;
    }
    let mut listing = Listing::new(question.as_json);
    let mut next = None;
    for id in ids {
        let (mut skip, mut told) = (0, Vec::new());
        listing.title(id, &mut told)?;
        loop {
            let (answer, portion) = oneshot::channel();
            let (stream, range, take) = (id.clone(), question.range, PORTION);
            let taken = desk.inspect(Inspection { stream, range, skip, take, answer });
            let portion = async { if taken { portion.await.ok() } else { None } };
            let portion = tokio::time::timeout(CARD_PATIENCE, portion).await.ok().flatten();
            let Some(portion): Option<Vec<Segment>> = portion else {
                return refuse(writer, "the card is busy, or hangs: see status", question.as_json)
                    .await;
            };
            for segment in &portion {
                if listing.told < question.limit {
                    listing.tell(id, segment, &mut told)?;
                } else if next.is_none() {
                    next = Some(segment.range().start());
                }
            }
            send(writer, &std::mem::take(&mut told)).await?;
            if portion.len() < PORTION || next.is_some() {
                break;
            }
            skip += portion.len();
        }
    }
    let mut told = Vec::new();
    listing.end(next, &mut told)?;
    send(writer, &told).await
}

/// Until the watcher goes, or is too slow to be sent anything at all.
#[cfg(feature = "support")]
async fn watch(writer: &mut OwnedWriteHalf, desk: &Desk, as_json: bool) -> io::Result<()> {
    let mut tapped = desk.watch();
    // So that nobody takes a device that says nothing for an agent that does not answer.
    let mut begin = Vec::new();
    match as_json {
        true => json_line(&json!({ "kind": "watching" }), &mut begin)?,
        false => begin.extend_from_slice(b"   -- what is heard and said from here on --\n"),
    }
    send(writer, &begin).await?;
    loop {
        let mut told = Vec::new();
        tokio::select! {
            heard = tapped.recv() => match (heard, as_json) {
                (Ok(message), true) => json_line(&message.json(), &mut told)?,
                (Ok(message), false) => told.extend_from_slice(message.text().as_bytes()),
                (Err(RecvError::Lagged(count)), true) => json_line(&missed_json(count), &mut told)?,
                (Err(RecvError::Lagged(count)), false) => {
                    told.extend_from_slice(missed_text(count).as_bytes());
                }
                (Err(RecvError::Closed), _) => return Ok(()),
            },
            // A watcher that has gone is found out though nothing is said.
            () = tokio::time::sleep(PATIENCE) => {
                if writer.ready(Interest::WRITABLE).await?.is_write_closed() {
                    return Ok(());
                }
                continue;
            }
        }
        if !as_json {
            told.push(b'\n');
        }
        send(writer, &told).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_dead_agent_left_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/socket");
        let first = Socket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert!(matches!(Socket::bind(&path), Err(SocketError::Taken)));
        drop(first);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a dead agent's stays behind");
        Socket::bind(&path).unwrap();
    }

    #[tokio::test]
    async fn a_socket_goes_with_its_agent_and_leaves_a_successors_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let second = Socket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let third = Socket::bind(&path).unwrap();
        drop(second);
        assert!(path.exists(), "it is the third one's");
        drop(third);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        fs::File::create(&path).unwrap();
        assert!(matches!(Socket::bind(&path), Err(SocketError::NotASocket)));
        assert!(path.exists());
    }
}
