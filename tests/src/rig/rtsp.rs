//! RTSP: a server on the camera, and a central recorder that asks for the stream again whenever it has lost it.
//!
//! The server is GStreamer's; it gets the packets that the camera's encoder sends. The recorder is ffmpeg, over one
//! TCP connection for all. In a tunnel nothing is lost of a connection but its end: it is reset, or silent until the
//! recorder gives it up, or goes on where it was. Then the recorder, as those in the field do, starts anew: another
//! session, whose time stamps begin anew, and so another file.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::central::openings;
use super::footage::Sound;
use super::tunnel::Tunnels;
use super::writing::{Writing, words};
use crate::artifacts::tool;
use crate::link::{Cut, Direction, Link};
use crate::media::VideoCodec;
use crate::process::Process;

/// Until it is heard of, on a busy machine.
const LISTENS_WITHIN: Duration = Duration::from_secs(20);
/// A recorder takes a connection for dead that has been silent for so long, in microseconds. It then says goodbye, and
/// waits as long for the answer.
const SILENCE_US: u32 = 2_500_000;
/// Between one attempt of it and the next.
const RETRY: Duration = Duration::from_millis(200);
/// A tunnel begins within so many bytes more than it should: inside a frame, inside a packet.
const WITHIN_BYTES: u64 = 4_000;

/// The camera's RTSP server.
#[derive(Debug)]
pub(super) struct Server {
    process: Process,
    address: SocketAddr,
}

impl Server {
    /// Has it take the encoder's packets at `media`, a port of the loopback, and waits until it listens.
    pub(super) async fn start(codec: VideoCodec, media: u16, log: &Path) -> anyhow::Result<Server> {
        let codec = match codec {
            VideoCodec::H264 => "h264",
            VideoCodec::H265 => "h265",
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rig/rtsp_server.py");
        let mut process = Process::spawn(&script, [codec, &media.to_string()], log)?;
        let heard = process.line("listening on ", LISTENS_WITHIN).await;
        let heard = heard.context(
            "the RTSP server needs `apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 \
             gstreamer1.0-plugins-good gstreamer1.0-plugins-bad`",
        )?;
        let (_, port) = heard.rsplit_once(' ').context("it says where it listens")?;
        Ok(Server { process, address: (Ipv4Addr::LOCALHOST, port.parse()?).into() })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The camera is switched off: whoever is connected learns it.
    pub(super) async fn stop(&mut self, deadline: Duration) -> anyhow::Result<()> {
        let status = self.process.terminate(deadline).await?;
        ensure!(status.success(), "the RTSP server failed: {status}");
        Ok(())
    }
}

/// Takes the link down and up as the recording comes to each of `cuts`, in each of the ways that there are in turn;
/// in which one first, the seed says.
pub(super) async fn cut_connections(
    link: &Link,
    tunnels: &Tunnels,
    cuts: &[Range<Duration>],
    seed: u64,
) {
    const WAYS: [Cut; 3] = [Cut::Reset, Cut::Blackhole, Cut::Stall];
    let mut random = StdRng::seed_from_u64(seed);
    let ways = WAYS.into_iter().cycle().skip((seed % 3) as usize);
    for (cut, way) in cuts.iter().zip(ways) {
        tunnels.reached(cut.start).await;
        link.cut_after(Direction::ToDevice, random.random_range(1..WITHIN_BYTES), way);
        tunnels.reached(cut.end).await;
        // Where nothing has passed, nothing has been cut: nor is it to be later.
        link.cut_after(Direction::ToDevice, u64::MAX, way);
        link.restore();
    }
}

/// Records until the camera is `off`, however often it has to start anew. Answers when each file was opened.
pub(super) async fn record(
    server: SocketAddr,
    (writing, directory): (&Writing, &Path),
    mut off: watch::Receiver<bool>,
    log: &Path,
    deadline: Duration,
) -> anyhow::Result<Vec<Instant>> {
    let mut opened = Vec::new();
    while !*off.borrow_and_update() {
        // `verbose` tells when a file is opened.
        let mut arguments = words(&format!(
            "-hide_banner -loglevel verbose -nostdin -nostats -y -rtsp_transport tcp -timeout {SILENCE_US} \
             -i rtsp://{server}/live"
        ));
        arguments.extend(writing.arguments(directory, Sound::None, opened.len())?);
        let mut process = Process::spawn(&tool("ffmpeg")?, arguments, log)?;
        opened.extend(openings(&mut process, deadline).await);
        // It fails where it has not been answered, and where it has been cut off.
        process.exit(deadline).await?;
        sleep(RETRY).await;
    }
    Ok(opened)
}
