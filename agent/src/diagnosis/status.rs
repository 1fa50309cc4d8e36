//! How an agent and its card stand: one value, whether the running agent tells or the files do, and whether it is
//! read by a person or a program.
//!
//! Ages are seconds ago by the clock that never steps: the other one may be what is wrong.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use protocol::message::BootMillis;
use sdcard_indexer::index::StreamView;
use sdcard_indexer::readable::{length_of, second_of, size_of};
use serde::Serialize;

use super::desk::{CardFacts, ConfigurationFacts, Desk, LinkFacts, Traffic, seconds_since, shown};
use super::mount::Mount;
use crate::advertise::Views;
use crate::clock;
use crate::config::{Believe, Config};
use crate::index_command::output::{counted, labelled, paragraph};

/// An agent whose card's thread has not gone round for so long waits for its card.
pub const CARD_HANGS_AFTER_S: f64 = 15.0;

#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub kind: &'static str,
    pub device: String,
    pub version: &'static str,
    /// False: no agent answered, and this is what the files tell.
    pub running: bool,
    pub pid: Option<u32>,
    pub up_s: Option<f64>,
    pub configuration: ConfigurationStatus,
    pub link: Option<LinkStatus>,
    pub clock: ClockStatus,
    pub card: CardStatus,
    pub index: IndexStatus,
    pub serving: Option<ServingStatus>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ConfigurationStatus {
    pub path: Option<PathBuf>,
    pub loaded_s_ago: Option<f64>,
    /// Why the file as it stands now is not in force.
    pub error: Option<String>,
    /// Keys whose new values wait for a restart.
    pub needs_restart: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct LinkStatus {
    pub broker: String,
    pub connected: bool,
    /// For how long there has been a link, or none.
    pub since_s: f64,
    pub connections: u64,
    pub last_error: Option<String>,
    pub last_error_s_ago: Option<f64>,
    pub network: String,
    pub address: Option<String>,
    /// The server that spoke last.
    pub server: Option<String>,
    pub server_heard_s_ago: Option<f64>,
    /// From this device's `Online` to the server's answer, when it was last said.
    pub round_trip_s: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ClockStatus {
    pub shows: String,
    /// `time_service`, `server`, `itself` (it reads plausibly), `names` (it is not asked) or `nobody`.
    pub set_by: &'static str,
    pub uncertainty_s: Option<f64>,
    /// What it lacks to the server's, to within the error.
    pub behind_server_s: Option<f64>,
    pub behind_server_error_s: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct CardStatus {
    pub root: PathBuf,
    /// Mounted, where that is required.
    pub there: bool,
    pub mount: Option<Mount>,
    /// How old this word of the card's thread is; many seconds, where the card lets go of nobody.
    pub seen_s_ago: Option<f64>,
    pub hangs: bool,
    /// Of recordings, since the start; and how fast they may be, 0 where nothing is said of that.
    pub read_bytes: Option<u64>,
    pub read_limit_bytes_per_second: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct IndexStatus {
    pub folder: PathBuf,
    pub kept: bool,
    pub not_kept_because: Option<String>,
    pub written_today_bytes: Option<u64>,
    pub segments: usize,
    /// Recordings that are known by their names alone so far.
    pub unread: usize,
    pub digests_waiting: usize,
    pub problems: u64,
    pub swept_s_ago: Option<f64>,
    pub unwatched: Option<String>,
    pub streams: Vec<StreamStatus>,
}

#[derive(Clone, Debug, Serialize)]
pub struct StreamStatus {
    pub stream: String,
    pub present: bool,
    pub segments: usize,
    pub oldest: Option<String>,
    pub newest: Option<String>,
    pub held_s: f64,
    pub ranges: usize,
    pub uncertainty_s: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct ServingStatus {
    pub transfers: Vec<TransferStatus>,
    pub accepted: u64,
    pub sent_bytes: u64,
    pub bytes_per_second: u64,
    pub closed: BTreeMap<String, u64>,
    pub refused: BTreeMap<String, u64>,
    /// Messages that were not understood, or came too late.
    pub dropped: BTreeMap<String, u64>,
    pub unsaid: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct TransferStatus {
    pub transfer: String,
    pub segment: String,
    pub priority: u8,
    /// Of the part's bytes that were asked for.
    pub done_bytes: u64,
    pub total_bytes: u64,
    pub ended: bool,
}

impl Status {
    /// Of a running agent.
    pub fn of(desk: &Desk, config: &Config) -> Status {
        let (now, _) = shown();
        let (link, traffic, card) = (desk.link(), desk.traffic(), desk.card());
        let views = desk.views();
        let up_s = seconds_since(now, desk.started());
        let at_rest = Status::at_rest(config, card.clone(), &views);
        let not_begun = card.is_none() && up_s > CARD_HANGS_AFTER_S;
        Status {
            card: CardStatus { hangs: at_rest.card.hangs || not_begun, ..at_rest.card },
            running: true,
            pid: Some(std::process::id()),
            up_s: Some(up_s),
            configuration: ConfigurationStatus::of(now, desk.configuration()),
            clock: ClockStatus::of(config, card.as_ref(), &link),
            link: Some(LinkStatus::of(now, desk.started(), config, link)),
            serving: Some(ServingStatus::of(now, traffic)),
            ..at_rest
        }
    }

    /// What needs no agent.
    pub fn at_rest(config: &Config, card: Option<CardFacts>, views: &Views) -> Status {
        let (now, _) = shown();
        let seen_s_ago = card.as_ref().map(|card| seconds_since(now, card.at));
        let reads = card.as_ref().and_then(|card| card.reads);
        Status {
            kind: "status",
            device: config.device.to_string(),
            version: env!("CARGO_PKG_VERSION"),
            running: false,
            pid: None,
            up_s: None,
            configuration: ConfigurationStatus::of(now, ConfigurationFacts::default()),
            link: None,
            clock: ClockStatus::of(config, card.as_ref(), &LinkFacts::default()),
            card: CardStatus {
                root: config.card.root.clone(),
                there: card.as_ref().is_some_and(|card| card.there),
                mount: card.as_ref().and_then(|card| card.mount.clone()),
                seen_s_ago,
                hangs: seen_s_ago.is_some_and(|seconds| seconds > CARD_HANGS_AFTER_S),
                read_bytes: reads.map(|reads| reads.bytes),
                read_limit_bytes_per_second: reads.map(|reads| reads.limit_bytes_per_second),
            },
            index: IndexStatus::of(now, config, card.as_ref(), views),
            serving: None,
        }
    }

    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let Status { device, version, .. } = self;
        let title = match (self.pid, self.up_s) {
            (Some(pid), Some(up_s)) => {
                format!("{device}: gapless-agent {version}, up {}, pid {pid}", seconds(up_s))
            }
            _ => format!("{device}: no agent answers; this is what the files tell"),
        };
        paragraph(0, &title, out)?;
        if let Some(link) = &self.link {
            link.print(out)?;
        }
        self.clock.print(out)?;
        self.card.print(out)?;
        self.index.print(out)?;
        if let Some(serving) = &self.serving {
            serving.print(out)?;
        }
        self.configuration.print(out)
    }
}

impl ConfigurationStatus {
    fn of(now: BootMillis, facts: ConfigurationFacts) -> Self {
        let ConfigurationFacts { path, loaded_at, error, needs_restart, .. } = facts;
        let loaded_s_ago = loaded_at.map(|then| seconds_since(now, then));
        ConfigurationStatus { path, loaded_s_ago, error, needs_restart }
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let ago = self.loaded_s_ago.map(seconds).unwrap_or_default();
        labelled("config", &format!("{}, in force for {ago}", path.display()), out)?;
        if let Some(error) = &self.error {
            let text = format!("NOT in force as it stands now, the one before is: {error}");
            labelled("", &text, out)?;
        }
        if !self.needs_restart.is_empty() {
            let keys = self.needs_restart.join(", ");
            labelled("", &format!("changed, and needs a restart: {keys}"), out)?;
        }
        Ok(())
    }
}

impl LinkStatus {
    fn of(now: BootMillis, started: BootMillis, config: &Config, facts: LinkFacts) -> Self {
        let LinkFacts { connected_at, lost_at, connections, .. } = facts;
        let LinkFacts { broker, last_error, network, server, told, .. } = facts;
        let since = connected_at.or(lost_at).unwrap_or(started);
        let server_heard_s_ago = server.as_ref().map(|(_, at)| seconds_since(now, *at));
        LinkStatus {
            broker: broker.as_ref().unwrap_or(&config.broker.url).to_string(),
            connected: connected_at.is_some(),
            since_s: seconds_since(now, since),
            connections,
            last_error_s_ago: last_error.as_ref().map(|(at, _)| seconds_since(now, *at)),
            last_error: last_error.map(|(_, error)| error),
            network: network.link,
            address: network.address.map(|address| address.to_string()),
            server: server.map(|(server, _)| server.to_string()),
            server_heard_s_ago,
            round_trip_s: told.map(|told| told.error.as_secs_f64() * 2.0),
        }
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let (broker, since) = (&self.broker, seconds(self.since_s));
        let mut text = match self.connected {
            true => format!("connected to {broker} for {since}"),
            false => format!("NO LINK to {broker} for {since}"),
        };
        if let (true, Some(address)) = (self.connected, &self.address) {
            let over = if self.network.is_empty() { "?" } else { &self.network };
            text.push_str(&format!(", over {over} from {address}"));
        }
        if self.connections != 1 {
            text.push_str(&format!("; {} so far", counted_u64(self.connections, "connection")));
        }
        labelled("link", &text, out)?;
        if let (Some(error), Some(ago)) = (&self.last_error, self.last_error_s_ago) {
            labelled("", &format!("last error {} ago: {error}", seconds(ago)), out)?;
        }
        let text = match (&self.server, self.server_heard_s_ago) {
            (Some(server), Some(ago)) => {
                let trip =
                    self.round_trip_s.map(|trip| format!(", answers within {}", seconds(trip)));
                format!("{server}: heard {} ago{}", seconds(ago), trip.unwrap_or_default())
            }
            _ => "none has been heard".to_owned(),
        };
        labelled("server", &text, out)
    }
}

impl ClockStatus {
    fn of(config: &Config, card: Option<&CardFacts>, link: &LinkFacts) -> Self {
        let (_, realtime) = shown();
        let synchronised = card.and_then(|card| card.synchronised);
        let (set_by, uncertainty) = match (config.clock.believe, synchronised, link.told) {
            (Believe::Names, ..) => ("names", None),
            (_, Some(error), _) => ("time_service", Some(error)),
            (_, None, Some(told)) => ("server", Some(told.error)),
            (Believe::Plausible, None, None) if clock::is_plausible(realtime) => {
                ("itself", Some(sdcard_indexer::clock::PRESUMED_ERROR))
            }
            _ => ("nobody", None),
        };
        ClockStatus {
            shows: realtime.to_string(),
            set_by,
            uncertainty_s: uncertainty.map(|uncertainty| uncertainty.as_secs_f64()),
            behind_server_s: link.told.map(|told| told.behind_ns as f64 / 1e9),
            behind_server_error_s: link.told.map(|told| told.error.as_secs_f64()),
        }
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let within = self.uncertainty_s.map(|within| format!(", ± {}", seconds(within)));
        let within = within.unwrap_or_default();
        let who = match self.set_by {
            "time_service" => "set by a time service",
            "server" => "a server says what time it is; recordings are placed by that",
            "itself" => "nobody vouches for it, but it reads plausibly",
            "names" => "not asked: names are believed",
            _ => "NOT SET, and nobody says what time it is",
        };
        labelled("clock", &format!("{} (UTC): {who}{within}", self.shows), out)?;
        if let (Some(behind), Some(error)) = (self.behind_server_s, self.behind_server_error_s) {
            let direction = if behind < 0.0 { "ahead of" } else { "behind" };
            let (apart, error) = (seconds(behind.abs()), seconds(error));
            labelled("", &format!("{apart} {direction} the server's, ± {error}"), out)?;
        }
        Ok(())
    }
}

impl CardStatus {
    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let root = self.root.display();
        let text = match &self.mount {
            _ if !self.there => format!("{root}: NO CARD is mounted there"),
            None => format!("{root}: cannot be looked at"),
            Some(mount) => {
                let (free, size) = (size_of(mount.free_bytes), size_of(mount.size_bytes));
                let Mount { file_system, device, .. } = mount;
                let read_only = if mount.read_only { ", READ-ONLY" } else { "" };
                format!("{root}: {file_system} on {device}, {free} of {size} free{read_only}")
            }
        };
        labelled("card", &text, out)?;
        if let (Some(bytes), Some(limit)) = (self.read_bytes, self.read_limit_bytes_per_second) {
            let limit = match limit {
                0 => "as fast as it is asked".to_owned(),
                limit => format!("no more than {}/s", size_of(limit)),
            };
            let text = format!("{} read of it since the start, {limit}", size_of(bytes));
            labelled("", &text, out)?;
        }
        match self.seen_s_ago {
            None if self.hangs => labelled("", "HANGS: it was not even looked at", out),
            Some(ago) if self.hangs => {
                let text =
                    format!("HANGS, or is slow: it has let go of nobody for {}", seconds(ago));
                labelled("", &text, out)
            }
            _ => Ok(()),
        }
    }
}

impl IndexStatus {
    fn of(now: BootMillis, config: &Config, card: Option<&CardFacts>, views: &Views) -> Self {
        let count = |stream| card.and_then(|card| card.segments.get(stream)).copied().unwrap_or(0);
        let streams = views.iter().map(|(id, standing)| {
            let StreamView { present, held, .. } = &standing.view;
            let hull = held.hull();
            StreamStatus {
                stream: id.to_string(),
                present: *present,
                segments: count(id),
                oldest: hull.map(|hull| hull.start().to_string()),
                newest: hull.map(|hull| hull.end().to_string()),
                held_s: held.total().as_secs_f64(),
                ranges: held.ranges().len(),
                uncertainty_s: standing.view.uncertainty().as_secs_f64(),
            }
        });
        let streams: Vec<StreamStatus> = streams.collect();
        let not_kept_because = card.and_then(|card| card.not_kept.clone());
        IndexStatus {
            folder: config.card.state_dir(),
            kept: card.is_some() && not_kept_because.is_none(),
            not_kept_because,
            written_today_bytes: card.and_then(|card| card.written_today_bytes),
            segments: streams.iter().map(|stream| stream.segments).sum(),
            unread: card.map_or(0, |card| card.unread),
            digests_waiting: card.map_or(0, |card| card.digests_waiting),
            problems: card.map_or(0, |card| card.problems),
            swept_s_ago: card.and_then(|card| card.swept_at).map(|at| seconds_since(now, at)),
            unwatched: card.and_then(|card| card.unwatched.clone()),
            streams,
        }
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let streams = counted(self.streams.len(), "stream");
        let read = self.segments.saturating_sub(self.unread);
        let mut text = format!("{} in {streams}", counted(self.segments, "recording"));
        match (self.unread, read * 100 / self.segments.max(1)) {
            (0, _) => text.push_str(", every one is read"),
            (unread, percent) => {
                text.push_str(&format!(", being read: {percent} %, {unread} to go"));
            }
        }
        if self.digests_waiting > 0 {
            text.push_str(&format!("; {} to be hashed", self.digests_waiting));
        }
        labelled("index", &text, out)?;
        match (&self.not_kept_because, self.written_today_bytes) {
            (Some(why), _) => labelled("", &format!("NOT KEPT over a restart: {why}"), out)?,
            (None, Some(bytes)) => {
                let text =
                    format!("kept in {}, {} written today", self.folder.display(), size_of(bytes));
                labelled("", &text, out)?;
            }
            (None, None) if self.kept => {
                labelled("", &format!("kept in {}", self.folder.display()), out)?;
            }
            (None, None) => {}
        }
        if self.problems > 0 {
            let files = counted_u64(self.problems, "file");
            labelled("", &format!("{files} cannot be used in full: see index scan"), out)?;
        }
        if let Some(why) = &self.unwatched {
            labelled("", &format!("changes are found by sweeps only: {why}"), out)?;
        }
        for stream in &self.streams {
            stream.print(out)?;
        }
        Ok(())
    }
}

impl StreamStatus {
    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let text = match (&self.oldest, &self.newest) {
            _ if !self.present => "its folder cannot be listed".to_owned(),
            (Some(oldest), Some(newest)) => {
                let (held, ranges) = (seconds(self.held_s), counted(self.ranges, "range"));
                let within = seconds(self.uncertainty_s);
                format!("{held} held in {ranges}, {oldest} to {newest}, ± {within}")
            }
            _ => "holds nothing".to_owned(),
        };
        labelled("", &format!("{}: {text}", self.stream), out)
    }
}

impl ServingStatus {
    fn of(now: BootMillis, traffic: Traffic) -> Self {
        let bytes_per_second = traffic.bytes_per_second(now);
        let transfers = traffic.transfers.iter().map(|transfer| TransferStatus {
            transfer: format!("{:016x}", transfer.id.0),
            segment: transfer.part.segment.to_string(),
            priority: transfer.priority,
            done_bytes: transfer.position.saturating_sub(transfer.from),
            total_bytes: transfer.part.end.saturating_sub(transfer.from),
            ended: transfer.ended,
        });
        ServingStatus {
            transfers: transfers.collect(),
            accepted: traffic.accepted,
            sent_bytes: traffic.sent_bytes,
            bytes_per_second,
            closed: traffic.closed,
            refused: traffic.refused,
            dropped: traffic.dropped,
            unsaid: traffic.unsaid,
        }
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let open: Vec<&TransferStatus> = self.transfers.iter().filter(|one| !one.ended).collect();
        let text = match open.len() {
            0 => "nothing at present".to_owned(),
            count => {
                let rate = size_of(self.bytes_per_second);
                format!("{}, {rate}/s", counted(count, "transfer"))
            }
        };
        let (sent, accepted) = (size_of(self.sent_bytes), counted_u64(self.accepted, "transfer"));
        labelled("serving", &format!("{text}; {sent} in {accepted} since the start"), out)?;
        for transfer in open {
            let TransferStatus { transfer, priority, done_bytes, total_bytes, .. } = transfer;
            let (done, total) = (size_of(*done_bytes), size_of(*total_bytes));
            let text = format!("{transfer} priority {priority}: {done} of {total} read");
            labelled("", &text, out)?;
        }
        let mut dropped = counts_text(&self.dropped);
        if self.unsaid > 0 {
            dropped.push_str(&format!("; {} of our own, on a slow link", self.unsaid));
        }
        labelled("dropped", &dropped, out)?;
        labelled("refused", &counts_text(&self.refused), out)
    }
}

fn counts_text(counts: &BTreeMap<String, u64>) -> String {
    let each: Vec<String> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
    if each.is_empty() { "nothing".to_owned() } else { each.join(", ") }
}

fn counted_u64(count: u64, what: &str) -> String {
    counted(usize::try_from(count).unwrap_or(usize::MAX), what)
}

/// A length as people read it.
pub(super) fn seconds(seconds: f64) -> String {
    length_of(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// An instant as people read it.
pub(super) fn instant(instant: sdcard_indexer::time::Timestamp) -> String {
    second_of(instant)
}
