//! `index fsck`: does the log of a card's index say what the files are? And with `--repair`: let it.
//!
//! | JSON `kind` | fields |
//! |---|---|
//! | `damaged` | `path` of a file of the log, `problem` |
//! | `stale` | `stream`, `path` of a recording that is not as the log says, `problem` |
//! | `foreign` | `stream`, `path` if it is a single record, `problem` |
//! | `end` | `records`, `findings`, `unlogged` recordings, `repaired` |

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sdcard_indexer::identity::{FINGERPRINT_BYTES, SegmentVersion};
use sdcard_indexer::index::{Durability, MemoryOnlyReason};
use sdcard_indexer::readable::explain;
use sdcard_indexer::scan::{Found, ScanLimits, Walk};
use sdcard_indexer::time::Timestamp;
use serde_json::{Value, json};

use super::logged::{Logged, Recordings};
use super::output::{counted, json_line, paragraph};
use super::progress::Progress;
use super::streams::{Card, CardStream};
use super::{IndexCommandError, indexed};

/// Records between two steps of the progress bar.
const STEP: usize = 64;

/// Something in which the log is not as it should be.
struct Finding {
    kind: &'static str,
    stream: Option<String>,
    /// As seen from the directory that was asked about, where it lies below that.
    path: Option<PathBuf>,
    problem: String,
}

struct Check {
    findings: Vec<Finding>,
    records: usize,
    /// Recordings that the log does not have: new ones, and the one that is being written.
    unlogged: usize,
}

/// Whether the log is, or has been made, as it should be.
pub fn tell(
    card: &Card,
    repair: bool,
    now: Timestamp,
    progress: &Progress,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<bool, IndexCommandError> {
    let logged = Logged::read(&card.state_dir);
    if !logged.is_there && !as_json {
        paragraph(0, &format!("no index in {}", card.state_dir.display()), out)?;
        return Ok(true);
    }
    let mut check = Check::of(card, &logged, progress);
    tell_findings(&check, as_json, out)?;
    let repaired = repair && !check.findings.is_empty();
    if repaired {
        let (mut index, _) = indexed(card, true, now, progress)?;
        if let Durability::MemoryOnly(reason) = index.rewrite_log(now) {
            return Err(cannot_repair(reason));
        }
        check = Check::of(card, &Logged::read(&card.state_dir), progress);
        if !as_json {
            writeln!(out, "written anew; now:")?;
        }
        tell_findings(&check, as_json, out)?;
    }
    tell_end(&check, repaired, as_json, out)?;
    Ok(check.findings.is_empty())
}

fn cannot_repair(reason: &MemoryOnlyReason) -> IndexCommandError {
    IndexCommandError::Repair(explain(reason))
}

impl Check {
    fn of(card: &Card, logged: &Logged, progress: &Progress) -> Check {
        let mut check = Check { findings: Vec::new(), records: logged.count(), unlogged: 0 };
        for (path, problem) in &logged.damaged {
            let path = path.strip_prefix(&card.directory).unwrap_or(path);
            check.find("damaged", None, Some(path.to_owned()), problem.clone());
        }
        let mut done = 0;
        let none = Recordings::new();
        for (id, recordings) in &logged.streams {
            let known = card.streams.iter().find(|stream| stream.source.stream.as_str() == id);
            let Some(stream) = known else {
                check.foreign_stream(id, recordings.len());
                continue;
            };
            for (path, version) in recordings {
                if done % STEP == 0 {
                    progress.at("checking", done, Some(check.records), "records");
                }
                done += 1;
                check.record(card, stream, path, *version);
            }
        }
        for stream in &card.streams {
            let recordings = logged.streams.get(stream.source.stream.as_str()).unwrap_or(&none);
            check.unlogged += unlogged(stream, recordings);
        }
        progress.end();
        check
    }

    fn find(
        &mut self,
        kind: &'static str,
        stream: Option<&str>,
        path: Option<PathBuf>,
        problem: String,
    ) {
        let stream = stream.map(str::to_owned);
        self.findings.push(Finding { kind, stream, path, problem });
    }

    fn foreign_stream(&mut self, id: &str, records: usize) {
        if records > 0 {
            let problem = format!("{} of a stream that is not there", counted(records, "record"));
            self.find("foreign", Some(id), None, problem);
        }
    }

    fn record(&mut self, card: &Card, stream: &CardStream, path: &Path, version: SegmentVersion) {
        let (id, shown) = (stream.source.stream.as_str(), stream.root_on(card).join(path));
        if stream.source.layout.parse(path).is_none() {
            let problem = "not a name of the stream's layout".to_owned();
            return self.find("foreign", Some(id), Some(shown), problem);
        }
        let problem = match version_of(&stream.source.root.join(path)) {
            Ok(is) if is == version => return,
            Ok(is) if is.size_bytes != version.size_bytes => {
                let (was, is) = (version.size_bytes, is.size_bytes);
                format!("the file has {is} bytes, the index says {was}")
            }
            Ok(_) => "the file begins with other bytes than the index says".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "the file is gone".to_owned(),
            Err(error) => format!("the file cannot be read: {error}"),
        };
        self.find("stale", Some(id), Some(shown), problem);
    }
}

fn version_of(path: &Path) -> io::Result<SegmentVersion> {
    let file = File::open(path)?;
    let size_bytes = file.metadata()?.len();
    let mut head = Vec::new();
    file.take(FINGERPRINT_BYTES as u64).read_to_end(&mut head)?;
    Ok(SegmentVersion::of(size_bytes, &head))
}

fn unlogged(stream: &CardStream, recordings: &Recordings) -> usize {
    let layout = &stream.source.layout;
    Walk::new(&stream.source.root, Path::new(""), ScanLimits::default())
        .filter(|found| match found {
            Found::File(path) => layout.parse(path).is_some() && !recordings.contains_key(path),
            _ => false,
        })
        .count()
}

fn tell_findings(check: &Check, as_json: bool, out: &mut dyn Write) -> io::Result<()> {
    for Finding { kind, stream, path, problem } in &check.findings {
        let path = path.as_ref().map(|path| path.to_string_lossy());
        if as_json {
            let value = json!({ "kind": kind, "stream": stream, "path": path, "problem": problem });
            json_line(&value, out)?;
            continue;
        }
        let what = path.map_or_else(|| stream.clone().unwrap_or_default(), |path| path.into());
        paragraph(0, &format!("{kind:<8} {what}"), out)?;
        paragraph(4, problem, out)?;
    }
    Ok(())
}

fn tell_end(check: &Check, repaired: bool, as_json: bool, out: &mut dyn Write) -> io::Result<()> {
    let Check { findings, records, unlogged } = check;
    if as_json {
        let end: Value = json!({
            "kind": "end",
            "records": records,
            "findings": findings.len(),
            "unlogged": unlogged,
            "repaired": repaired,
        });
        return json_line(&end, out);
    }
    writeln!(out, "{}, {}", counted(*records, "record"), counted(findings.len(), "finding"))?;
    if *unlogged > 0 {
        let files = counted(*unlogged, "recording");
        writeln!(out, "{files} not in the index yet: the agent reads what is new")?;
    }
    if !findings.is_empty() && !repaired {
        paragraph(0, "--repair writes the index anew; recordings are left alone", out)?;
    }
    Ok(())
}
