//! The card, what stands on it, and the clock that names it.

use std::fs;
use std::io;
use std::time::Duration;

use nix::unistd::{AccessFlags, access};
use sdcard_indexer::readable::{length_of, size_of};
use sdcard_indexer::recordings::{Folder, Recordings};
use sdcard_indexer::scan::ScanLimits;
use sdcard_indexer::segment::Segment;
use sdcard_indexer::time::{TimeRange, Timestamp};

use super::super::files::Files;
use super::super::mount::Mount;
use super::super::status::{instant, seconds};
use super::super::told;
use super::agent::Agent;
use super::speed;
use super::{Finding, Practice, within};
use crate::clock;
use crate::config::{Believe, Config};
use crate::index_command::logged::Logged;
use crate::index_command::output::counted;

pub const CHECKS: [&str; 6] = ["mount", "space", "index", "recordings", "speed", "clock"];

/// For the kernel to answer about a card, and for a large one to be listed.
const CARD_PATIENCE: Duration = Duration::from_secs(10);
const LIST_PATIENCE: Duration = Duration::from_secs(120);
/// A recorder beside which somebody reads needs this and more.
const SLOW_BYTES_PER_SECOND: f64 = 4e6;
const NEARLY_FULL_BYTES: u64 = 1 << 20;
/// Beyond it, a server's clock and the device's are not taken for one.
const CLOCK_APART_S: f64 = 30.0;

pub fn examine(config: &Config, agent: &Agent, practice: &mut Practice<'_>) -> io::Result<()> {
    let root = config.card.root.clone();
    let require_mount = config.card.require_mount;
    let looked = within(CARD_PATIENCE, move || {
        let limits = ScanLimits::default();
        let there = Folder { root: root.clone(), limits, require_mount }.is_there();
        (there, fs::read_dir(&root).map(drop), Mount::of(&root))
    });
    let (found, mount) = mounted(config, looked);
    if !practice.tell("mount", found)? {
        practice.skip(&CHECKS[1..5], "not tried without a card")?;
    } else {
        practice.tell("space", space(mount.as_ref()))?;
        practice.tell("index", index(config, agent))?;
        let of = config.clone();
        match within(LIST_PATIENCE, move || Files::look(&of, 0)) {
            Some(Ok(files)) => {
                practice.tell("recordings", recordings(config, &files))?;
                practice.tell("speed", speed(config, &files))?;
            }
            outcome => {
                let why = match outcome {
                    Some(Err(error)) => told(&error),
                    _ => format!("listing it takes more than {}", length_of(LIST_PATIENCE)),
                };
                practice
                    .tell("recordings", Finding::fail(why, "see dmesg: the card may be dying"))?;
                practice.skip(&["speed"], "not tried without recordings")?;
            }
        }
    }
    practice.tell("clock", of_clock(config, agent))?;
    Ok(())
}

type Looked = Option<(bool, io::Result<()>, Option<Mount>)>;

fn mounted(config: &Config, looked: Looked) -> (Finding, Option<Mount>) {
    let root = config.card.root.display();
    let finding = match &looked {
        None => {
            let text = format!("{root} has not answered for {}", length_of(CARD_PATIENCE));
            Finding::fail(text, "the card hangs: see dmesg; take it out and put it in again")
        }
        Some((false, ..)) => Finding::fail(
            format!("nothing is mounted at {root}"),
            "put the card in and mount it; [card] require_mount = false only where recordings lie on \
             the device's own file system",
        ),
        Some((_, Err(error), _)) => Finding::fail(
            format!("{root} cannot be listed: {error}"),
            "look at [card] root, and at whether the agent's user may read it",
        ),
        Some((_, Ok(()), Some(Mount { file_system, device, point, read_only: false, .. }))) => {
            Finding::ok(format!("{file_system} on {device}, mounted at {}", point.display()))
        }
        Some((_, Ok(()), Some(Mount { file_system, device, .. }))) => Finding::fail(
            format!("{file_system} on {device} is mounted READ-ONLY: nothing can be recorded"),
            "the kernel does that where a file system is damaged: see dmesg; check it (fsck), or \
             mount it for writing",
        ),
        Some((_, Ok(()), None)) => {
            Finding::warn(format!("what is mounted at {root} cannot be told"), "is /proc mounted?")
        }
    };
    let mount = looked.and_then(|(_, _, mount)| mount);
    (finding, mount)
}

fn space(mount: Option<&Mount>) -> Finding {
    let Some(mount) = mount else { return Finding::skipped("not known") };
    let (free, size) = (size_of(mount.free_bytes), size_of(mount.size_bytes));
    let text = format!("{free} of {size} free");
    if mount.free_bytes < NEARLY_FULL_BYTES {
        let to_do =
            "does the recorder delete its oldest files? The index is not kept on a full card";
        return Finding::warn(text, to_do);
    }
    Finding::ok(text)
}

fn index(config: &Config, agent: &Agent) -> Finding {
    let folder = config.card.state_dir();
    if let Some(why) = agent.text("/index/not_kept_because") {
        let to_do = "each start reads the card anew; give the agent's user a folder to write to: \
                     [card] state_dir";
        return Finding::warn(format!("not kept: {why}"), to_do);
    }
    // An agent that answers has a user of its own, whose rights count.
    if agent.status.is_none() {
        let nearest = folder.ancestors().find(|folder| folder.is_dir());
        let writable = nearest.is_some_and(|folder| access(folder, AccessFlags::W_OK).is_ok());
        if !writable {
            let to_do = "each start reads the card anew; [card] state_dir names another folder";
            return Finding::warn(format!("{} cannot be written to", folder.display()), to_do);
        }
    }
    let of = folder.clone();
    let Some(logged) = within(LIST_PATIENCE, move || Logged::read(&of)) else {
        let to_do = "see dmesg: the card may be dying";
        return Finding::fail(format!("{} cannot be read in time", folder.display()), to_do);
    };
    let records = counted(logged.count(), "recording");
    match logged.damaged.first() {
        Some((path, problem)) if agent.status.is_none() => {
            let text = format!("{}: {problem}", path.display());
            Finding::warn(text, "the agent mends it; gapless-agent index fsck --repair does too")
        }
        _ if logged.is_there => Finding::ok(format!("{records} in {}", folder.display())),
        _ => Finding::ok(format!("none yet in {}: a first start makes it", folder.display())),
    }
}

fn recordings(config: &Config, files: &Files) -> Finding {
    let now = clock::realtime();
    let (mut texts, mut empty, mut unlisted) = (Vec::new(), Vec::new(), Vec::new());
    for stream in &config.streams {
        let count = files.index.segment_count(&stream.id);
        let present = files.index.stream(&stream.id).is_some_and(|view| view.present);
        let all = files.index.segments(&stream.id, TimeRange::ALWAYS);
        let changed = all.map(|segment| segment.stamp.modified_ns).max();
        let id = &stream.id;
        match changed.map(Timestamp::from_nanos) {
            _ if !present => unlisted.push(id.to_string()),
            None => empty.push(id.to_string()),
            Some(changed) => {
                let ago = length_of(now.since(changed));
                texts.push(format!("{id}: {}, written to {ago} ago", counted(count, "file")));
            }
        }
    }
    let text = texts.join("; ");
    if !unlisted.is_empty() {
        let to_do = "look at the streams' path, and at whether the agent's user may read it";
        return Finding::fail(format!("no folder of {} can be listed", unlisted.join(", ")), to_do);
    }
    if !empty.is_empty() {
        let text = format!("no file of {} is there; {text}", empty.join(", "));
        let to_do = "does the recorder run? Are its path and layout right: gapless-agent index scan \
                     on the card finds out how files are named";
        return Finding::warn(text.trim_end_matches("; ").to_owned(), to_do);
    }
    Finding::ok(text)
}

/// Of old recordings, which no recorder is at, spread over all that there is.
fn speed(config: &Config, files: &Files) -> Finding {
    let mut samples = Vec::new();
    for stream in &config.streams {
        let all: Vec<Segment> = files.index.segments(&stream.id, TimeRange::ALWAYS).collect();
        let step = (all.len() / speed::SAMPLES).max(1);
        let root = config.card.root.join(&stream.path);
        let old = all.iter().take(all.len().saturating_sub(1).max(1)).step_by(step);
        samples.extend(old.map(|segment| root.join(&segment.path)));
    }
    match within(speed::PATIENCE * 2, move || speed::measure(&samples)) {
        None => Finding::fail(
            format!("a read has not ended for {}", length_of(speed::PATIENCE * 2)),
            "the card hangs: see dmesg",
        ),
        Some(Err(error)) => Finding::fail(
            format!("a recording cannot be read: {error}"),
            "see dmesg: the card may be dying",
        ),
        Some(Ok(None)) => Finding::skipped("there is no recording to read"),
        Some(Ok(Some(measured))) => {
            let rate = size_of(measured.bytes_per_second() as u64);
            let (bytes, from) = (size_of(measured.bytes), counted(measured.files, "recording"));
            let how = if measured.past_memory { "" } else { ", in part perhaps from memory" };
            let text = format!("{rate}/s over {bytes} of {from}{how}");
            if measured.bytes_per_second() < SLOW_BYTES_PER_SECOND && measured.bytes >= 1 << 20 {
                let to_do = "a recorder and a pull share this: use a faster card, or wait until the \
                             recorder rests";
                return Finding::warn(text, to_do);
            }
            Finding::ok(text)
        }
    }
}

fn of_clock(config: &Config, agent: &Agent) -> Finding {
    let shown = clock::realtime();
    let text = format!("{} (UTC)", instant(shown));
    let mark = &config.clock.synchronised_file;
    let watch = clock::Watch::new(mark.clone());
    let synchronised = watch.ok().and_then(|mut watch| watch.read().synchronised);
    let apart = agent.number("/clock/behind_server_s").unwrap_or_default();
    let serve_time = format!(
        "run a time service that touches {} when it has the time (systemd-timesyncd does)",
        mark.display()
    );
    if apart.abs() > CLOCK_APART_S {
        let text = format!("{text}; {} apart from the server's", seconds(apart.abs()));
        return Finding::warn(text, serve_time);
    }
    match config.clock.believe {
        Believe::Names => Finding::ok(format!("{text}; not asked: names are believed")),
        _ if synchronised.is_some() => Finding::ok(format!("{text}, set by a time service")),
        _ if !clock::is_plausible(shown) => {
            Finding::fail(format!("{text} is wrong, and nobody has set it"), serve_time)
        }
        Believe::Plausible => {
            Finding::ok(format!("{text}; nobody vouches for it, but it reads plausibly"))
        }
        Believe::Synchronised => {
            let text = format!("{text}; no time service vouches for it: nothing counts as held");
            Finding::warn(text, serve_time)
        }
    }
}
