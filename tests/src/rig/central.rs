//! The central recorder, as people run it: ffmpeg that listens for RTP, or asks for it, and copies it into segments.
//!
//! Its clock is true. It opens a segment when the packets reach it, behind network and buffers, and names it for
//! that.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use sdcard_indexer::time::Timestamp;
use tokio::time::Instant;

use super::camera::Ports;
use super::footage::Sound;
use super::writing::{Writing, words};
use crate::artifacts::tool;
use crate::process::{Process, free_port, until};

/// What it takes until it listens, on a busy machine.
const LISTENS_WITHIN: Duration = Duration::from_secs(20);
/// Its buffer for packets that it has not got round to; the kernel gives what it allows.
const RECEIVE_BUFFER_BYTES: u32 = 4 << 20;

/// A file of the archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ArchiveSegment {
    pub path: PathBuf,
    /// When the recorder opened it, which its name says as exactly as it can.
    pub opened: Timestamp,
}

/// Where a recorder is to listen for one stream; nobody else is given these ports while this lives.
#[derive(Debug)]
pub(super) struct Reserved {
    pub(super) ports: Ports,
    _sockets: (UdpSocket, UdpSocket),
}

impl Reserved {
    /// ffmpeg takes the port behind that of the media for reports, and is not asked.
    pub(super) fn pair() -> anyhow::Result<Reserved> {
        let pair = || {
            let media = free_port().ok()? & !1;
            let bind = |port: u16| UdpSocket::bind(("127.0.0.1", port)).ok();
            let _sockets = (bind(media)?, bind(media + 1)?);
            Some(Reserved { ports: Ports { media, reports: media + 1 }, _sockets })
        };
        let found = (0..1_000).find_map(|_| pair());
        found.context("no two neighbouring ports of the loopback are free")
    }
}

/// A recorder that runs.
#[derive(Debug)]
pub(super) struct Central {
    process: Process,
}

impl Central {
    /// Starts it on ports that were reserved for it, and waits until it listens.
    pub(super) async fn start(
        description: &Path,
        sound: Sound,
        (writing, directory): (&Writing, &Path),
        reserved: Vec<Reserved>,
        log: &Path,
    ) -> anyhow::Result<Central> {
        // `verbose` tells when a file is opened.
        let mut arguments = words(&format!(
            "-hide_banner -loglevel verbose -nostdin -nostats -y -protocol_whitelist file,udp,rtp \
             -buffer_size {RECEIVE_BUFFER_BYTES} -i"
        ));
        arguments.push(description.display().to_string());
        arguments.extend(writing.arguments(directory, sound, 0)?);
        let ports: Vec<Ports> = reserved.iter().map(|reserved| reserved.ports).collect();
        drop(reserved);
        let process = Process::spawn(&tool("ffmpeg")?, arguments, log)?;
        for port in ports.iter().flat_map(|ports| [ports.media, ports.reports]) {
            let taken = async || UdpSocket::bind(("127.0.0.1", port)).is_err().then_some(());
            until("the central recorder listens", LISTENS_WITHIN, taken).await?;
        }
        Ok(Central { process })
    }

    /// Follows it until the camera has said goodbye and all is written. Answers when it opened each file.
    pub(super) async fn finish(mut self, deadline: Duration) -> anyhow::Result<Vec<Instant>> {
        let opened = openings(&mut self.process, deadline).await;
        let status = self.process.exit(deadline).await?;
        ensure!(status.success(), "the central recorder failed: {status}");
        Ok(opened)
    }
}

/// When a recorder opens files, until it ends.
pub(super) async fn openings(recorder: &mut Process, deadline: Duration) -> Vec<Instant> {
    let mut opened = Vec::new();
    // Once it has ended there are no more lines.
    while let Ok(line) = recorder.line("[segment @", deadline).await {
        if line.contains("Opening '") {
            opened.push(Instant::now());
        }
    }
    opened
}

/// Names what a central recorder has written, given when it opened each file.
pub(super) fn name_segments(
    (writing, directory): (&Writing, &Path),
    opened: &[Timestamp],
) -> anyhow::Result<Vec<ArchiveSegment>> {
    let last = *opened.last().context("the central recorder has written nothing")?;
    let ends = opened.iter().skip(1).copied().chain([last]);
    let name = |(number, (&opened, ended)): (usize, (&Timestamp, Timestamp))| {
        let path = writing.name(directory, number, opened, ended)?;
        Ok(ArchiveSegment { path, opened })
    };
    opened.iter().zip(ends).enumerate().map(name).collect()
}
