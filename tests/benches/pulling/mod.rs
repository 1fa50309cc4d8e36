//! What the benches of a pull share: footage of a real camera's weight, and an ear on the broker.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use protocol::envelope;
use protocol::message::{Ask, AskBody, Presence};
use protocol::topic::Topic;
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, QoS};
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::{TimeRange, Timestamp};
use tests::artifacts::tool;
use tests::installation::{DEVICE, Installation};
use tests::naming::Naming;
use tests::process::Process;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// For a device to connect, and for any single part.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Between two parts.
const ROUNDING: Duration = Duration::from_millis(50);
const MINUTE: Duration = Duration::from_secs(60);

/// One minute at 4 Mbit/s, in fragments of a second. It is the same minute over and over: nothing between
/// card and archive looks at pictures.
pub struct Footage {
    minute: Vec<u8>,
}

impl Footage {
    pub fn encode() -> anyhow::Result<Footage> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("minute.mp4");
        let options = "-hide_banner -loglevel error -nostdin \
            -f lavfi -i testsrc2=size=640x360:rate=25,noise=alls=20:allf=t -t 60 \
            -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 25 -keyint_min 25 -sc_threshold 0 \
            -b:v 4M -minrate 4M -maxrate 4M -bufsize 4M \
            -movflags +frag_keyframe+empty_moov+default_base_moof";
        let mut command = Command::new(tool("ffmpeg")?);
        let status = command.args(options.split_whitespace()).arg(&path).status();
        ensure!(status.context("ffmpeg cannot be run")?.success(), "{command:?} failed");
        Ok(Footage { minute: fs::read(&path)? })
    }

    /// Writes `minutes` segments of a minute each, as a recorder does; answers when the last one ends.
    pub fn record(
        &self,
        root: &Path,
        naming: Naming,
        start: Timestamp,
        minutes: u32,
    ) -> anyhow::Result<Timestamp> {
        let mut next = start;
        for _ in 0..minutes {
            let path = root.join(naming.path(next));
            fs::create_dir_all(path.parent().context("a segment lies in a directory")?)?;
            std::io::Write::write_all(&mut fs::File::create(path)?, &self.minute)?;
            next = next.saturating_add(MINUTE);
        }
        Ok(next)
    }
}

/// What is said between server and device, without the media.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Said {
    Online,
    Coverage,
    /// The server wants bytes.
    Ordered,
}

/// Hears what is said, and when, beside the link.
pub struct Ear {
    heard: mpsc::UnboundedReceiver<(Instant, Said)>,
    listening: JoinHandle<()>,
}

impl Ear {
    /// Returns once it hears.
    pub async fn open(installation: &Installation) -> anyhow::Result<Ear> {
        let broker = installation.mosquitto.address();
        let mut options = MqttOptions::new("bench", broker.ip().to_string(), broker.port());
        options.set_max_packet_size(protocol::MAX_PACKET_BYTES, protocol::MAX_PACKET_BYTES);
        let (client, mut events) = AsyncClient::new(options, 8);
        for leaf in ["state", "coverage", "ask"] {
            client.subscribe(format!("gapless/1/{DEVICE}/{leaf}"), QoS::AtMostOnce).await?;
            while !matches!(events.poll().await?, Event::Incoming(Incoming::SubAck(_))) {}
        }
        let (sender, heard) = mpsc::unbounded_channel();
        let listening = tokio::spawn(async move {
            // Its end, and a broker's that has gone, end the channel.
            let _ = listen(client, events, sender).await;
        });
        Ok(Ear { heard, listening })
    }

    /// When it is said the next time.
    pub async fn when(&mut self, wanted: Said) -> anyhow::Result<Instant> {
        let hearing = async {
            loop {
                let (when, said) = self.heard.recv().await.context("the broker has gone")?;
                if said == wanted {
                    return anyhow::Ok(when);
                }
            }
        };
        let heard = tokio::time::timeout(PATIENCE, hearing).await;
        heard.with_context(|| format!("{wanted:?} was not heard"))?
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(
    _connected: AsyncClient,
    mut events: EventLoop,
    heard: mpsc::UnboundedSender<(Instant, Said)>,
) -> anyhow::Result<()> {
    loop {
        let Event::Incoming(Incoming::Publish(message)) = events.poll().await? else { continue };
        let said = match message.topic.parse()? {
            Topic::State(_) => match envelope::decode(&message.payload)? {
                Presence::Online(_) => Some(Said::Online),
                Presence::Offline { .. } => None,
            },
            Topic::Coverage(_) => Some(Said::Coverage),
            Topic::Ask(_) => {
                let ask: Ask = envelope::decode(&message.payload)?;
                matches!(ask.body, AskBody::Open(_)).then_some(Said::Ordered)
            }
            _ => None,
        };
        if let Some(said) = said {
            heard.send((Instant::now(), said))?;
        }
    }
}

/// Waits for the pieces that fill `hole`, one for each minute; answers when the last one was in place.
pub async fn merged(server: &mut Process, hole: TimeRange) -> anyhow::Result<Instant> {
    let mut held = Coverage::new();
    while !held.clone().joined(ROUNDING).covers(hole) {
        let line = server.line(" merged ", PATIENCE).await?;
        let range = line.split_once(" range=").and_then(|(_, rest)| rest.split(' ').next());
        let (start, end) = range.and_then(|range| range.split_once('/')).context("a range")?;
        held.insert(TimeRange::new(start.parse()?, end.parse()?).context("a range")?);
    }
    Ok(Instant::now())
}
