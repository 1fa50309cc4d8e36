//! A live rig: one encoder, two recorders, and a network between the second and the first.
//!
//! [`Footage`] is encoded once. The camera stores these packets on its card and sends the same ones as RTP over
//! UDP, through a [`Link`] that loses and delays them and is down in tunnels, to a central recorder that is
//! ffmpeg as people run it. So the two have the same pictures under other clocks, other time stamps and other
//! packaging, and the archive breaks off and goes on inside groups of pictures, with damaged frames at the edges:
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use std::time::Duration;
//! use jiff::SignedDuration;
//! use sdcard_indexer::container::Container;
//! use tests::media::VideoCodec;
//! use tests::rig::{Rig, Writing};
//!
//! let recorded = Rig::builder()
//!     .codec(VideoCodec::H265)
//!     .card(Writing::of(Container::MpegTs))
//!     .offset(SignedDuration::from_mins(-73))
//!     .drift_ppm(150.0)
//!     .cuts([Duration::from_millis(5_300)..Duration::from_millis(9_710)])
//!     .loss(0.002)
//!     .run()
//!     .await?;
//! assert_eq!(recorded.card.last().map(|segment| segment.frames.end), Some(recorded.truth.video.len()));
//! # Ok(())
//! # }
//! ```
//!
//! With [`Rig::rtsp`] the camera has an RTSP server, and the central recorder asks it for the stream over TCP: then
//! a tunnel takes what is missing from the one to the other connection, not packets. Over UDP an RTSP session is what
//! is sent without one: the recorder has the session description, and gets the same RTP by the same code.

mod camera;
mod central;
mod footage;
mod recorded;
mod rtsp;
mod tunnel;
mod writing;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::SignedDuration;
use sdcard_indexer::container::Container;
use sdcard_indexer::time::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::link::{Datagrams, Link, Shape, Weather};
use crate::media::VideoCodec;

pub use self::camera::{CameraClock, CardSegment};
pub use self::central::ArchiveSegment;
pub use self::footage::{Footage, Picture, Sound, Truth};
pub use self::recorded::{ArchivedFrame, Recorded, Traffic};
pub use self::tunnel::random_cuts;
pub use self::writing::Writing;

use self::camera::Ports;
use self::central::{Central, Reserved};
use self::tunnel::{Media, Reports, Tunnels};

/// For what follows the last packet, on a busy machine.
const GRACE: Duration = Duration::from_secs(60);
/// Ticks of RTP in a second, of video (RFC 6184, 7798).
const VIDEO_TICKS: u32 = 90_000;

/// What is filmed, how it is recorded twice, and what comes between.
#[derive(Clone, Debug)]
pub struct Rig {
    footage: Footage,
    card: Writing,
    archive: Writing,
    clock: CameraClock,
    cuts: Vec<Range<Duration>>,
    shape: Shape,
    loss: f64,
    jitter: Duration,
    seed: u64,
    speed: f64,
    rtsp: bool,
}

/// Where the two recorders write, and everybody's logs.
#[derive(Clone, Copy)]
struct Places<'a> {
    card: (&'a Writing, &'a Path),
    archive: (&'a Writing, &'a Path),
    logs: &'a Path,
}

/// What has come through, by the central recorder's and the link's word.
struct Carried {
    opened: Vec<Instant>,
    began: Option<Instant>,
    traffic: Traffic,
}

impl Rig {
    /// Sixteen seconds of counted H.264, 25 frames and one closed group a second, without sound; both recorders
    /// write fragmented MP4; the camera's clock is right, and the link clear.
    pub fn builder() -> Rig {
        let unix_seconds = 1_717_408_800;
        let footage = Footage {
            codec: VideoCodec::H264,
            picture: Picture::Counted,
            sound: Sound::None,
            seconds: 16,
            frames_per_second: 25,
            group_frames: 25,
            b_frames: 0,
            open_groups: false,
            intra_refresh: false,
            unix_seconds,
        };
        // No whole second, so that names in seconds tell less than the truth.
        let start = Timestamp::from_nanos(unix_seconds * 1_000_000_000 + 123_457_000);
        Rig {
            footage,
            card: Writing::of(Container::FragmentedMp4),
            archive: Writing::of(Container::FragmentedMp4),
            clock: CameraClock { start, offset: SignedDuration::ZERO, drift_ppm: 0.0 },
            cuts: Vec::new(),
            shape: Shape::CLEAR,
            loss: 0.0,
            jitter: Duration::ZERO,
            seed: 0,
            speed: 1.0,
            rtsp: false,
        }
    }

    /// For what is seldom asked for: B-frames, open groups, intra-refresh.
    #[must_use]
    pub fn film(mut self, set: impl FnOnce(&mut Footage)) -> Rig {
        set(&mut self.footage);
        self
    }

    #[must_use]
    pub fn codec(mut self, codec: VideoCodec) -> Rig {
        self.footage.codec = codec;
        self
    }

    #[must_use]
    pub fn sound(mut self, sound: Sound) -> Rig {
        self.footage.sound = sound;
        self
    }

    #[must_use]
    pub fn picture(mut self, picture: Picture) -> Rig {
        self.footage.picture = picture;
        self
    }

    #[must_use]
    pub fn seconds(mut self, seconds: u32) -> Rig {
        self.footage.seconds = seconds;
        self
    }

    /// Frames from one keyframe to the next, at so many a second.
    #[must_use]
    pub fn groups(mut self, group_frames: u32, frames_per_second: u32) -> Rig {
        self.footage.group_frames = group_frames;
        self.footage.frames_per_second = frames_per_second;
        self
    }

    /// How the camera writes its card.
    #[must_use]
    pub fn card(self, card: Writing) -> Rig {
        Rig { card, ..self }
    }

    /// How the central recorder writes the archive.
    #[must_use]
    pub fn archive(self, archive: Writing) -> Rig {
        Rig { archive, ..self }
    }

    /// True time of the first frame.
    #[must_use]
    pub fn start(mut self, start: Timestamp) -> Rig {
        self.clock.start = start;
        self
    }

    /// How far the camera's clock is ahead when it begins to record.
    #[must_use]
    pub fn offset(mut self, offset: SignedDuration) -> Rig {
        self.clock.offset = offset;
        self
    }

    /// How much faster than true time the camera's clock runs, in millionths.
    #[must_use]
    pub fn drift_ppm(mut self, drift_ppm: f64) -> Rig {
        self.clock.drift_ppm = drift_ppm;
        self
    }

    /// What the link is down for, in the recording's own time; the last frames have to get through.
    #[must_use]
    pub fn cuts(self, cuts: impl IntoIterator<Item = Range<Duration>>) -> Rig {
        Rig { cuts: cuts.into_iter().collect(), ..self }
    }

    /// The share of RTP packets that the link loses at random, from 0 to 1.
    #[must_use]
    pub fn loss(self, loss: f64) -> Rig {
        Rig { loss, ..self }
    }

    /// By how much at most a packet is late, at random, of the wall clock's time.
    #[must_use]
    pub fn jitter(self, jitter: Duration) -> Rig {
        Rig { jitter, ..self }
    }

    /// Delay and rate of the link.
    #[must_use]
    pub fn shape(self, shape: Shape) -> Rig {
        Rig { shape, ..self }
    }

    /// Of loss and jitter.
    #[must_use]
    pub fn seed(self, seed: u64) -> Rig {
        Rig { seed, ..self }
    }

    /// How many times faster than it is shown the footage is sent. Delays, and how late the central recorder
    /// opens its files, are then as many times larger in the recording's time; and there are no RTCP reports.
    #[must_use]
    pub fn speed(self, speed: f64) -> Rig {
        Rig { speed, ..self }
    }

    /// The central recorder asks for the stream by RTSP over TCP. Cuts reset its connection, silence it, and let it
    /// stand still, in turn, beginning where the seed says. In real time only, without sound, loss and jitter.
    #[must_use]
    pub fn rtsp(self) -> Rig {
        Rig { rtsp: true, ..self }
    }

    /// Films, sends and records, and waits until both recorders have closed their last file. The card is then
    /// known to hold the truth, frame for frame.
    pub async fn run(self) -> anyhow::Result<Recorded> {
        let end = Duration::from_secs(self.footage.seconds.into());
        ensure!(self.cuts.iter().all(|cut| cut.end < end), "a cut takes the end, and its goodbye");
        let truth = self.footage.encode()?;
        let directory = tempfile::Builder::new().prefix("gapless-rig-").tempdir()?;
        let folder = |name: &str| {
            let folder = directory.path().join(name);
            fs::create_dir(&folder).map(|()| folder)
        };
        let (card, archive) = (folder("card")?, folder("archive")?);
        let (card, archive) = ((&self.card, &*card), (&self.archive, &*archive));

        let places = Places { card, archive, logs: directory.path() };
        let carried = match self.rtsp {
            false => self.by_rtp(&truth, places, end).await?,
            true => self.by_rtsp(&truth, places, end).await?,
        };
        let began = carried.began.context("the camera has sent nothing")?;
        let true_time = |at: &Instant| {
            let elapsed = at.duration_since(began).mul_f64(self.speed);
            self.clock.start.saturating_add(elapsed)
        };
        let opened: Vec<Timestamp> = carried.opened.iter().map(true_time).collect();
        Ok(Recorded {
            clock: self.clock,
            card: camera::name_segments(&truth, &self.clock, card)?,
            archive: central::name_segments(archive, &opened)?,
            traffic: carried.traffic,
            cuts: self.cuts,
            truth,
            directory,
        })
    }

    async fn by_rtp(
        &self,
        truth: &Truth,
        places: Places<'_>,
        end: Duration,
    ) -> anyhow::Result<Carried> {
        let tunnels = Tunnels::new(self.cuts.clone());
        // Nobody makes connections over it.
        let link = Link::open((Ipv4Addr::LOCALHOST, 9).into(), self.shape).await?;
        let mut streams = Vec::new();
        let mut reserved = Vec::new();
        let ticks = [
            Some((VIDEO_TICKS, self.seed)),
            self.footage.sound.rtp_ticks().map(|ticks| (ticks, !self.seed)),
        ];
        for (ticks_per_second, seed) in ticks.into_iter().flatten() {
            let weather = Weather::new(self.loss, self.jitter, seed);
            let central = Reserved::pair()?;
            let media = Media::new(&tunnels, weather, ticks_per_second);
            streams.push(Stream::open(&link, &tunnels, media, central.ports).await?);
            reserved.push(central);
        }
        let central = self.start_central(truth, reserved, places).await?;
        let deadline = end.div_f64(self.speed) + GRACE;
        let sent = self.send(truth, &streams, places, deadline);
        let (sent, opened) = tokio::join!(sent, central.finish(deadline));
        sent?;
        let traffic = streams.iter().map(Stream::traffic);
        let traffic = traffic.fold(Traffic { passed: 0, lost: 0 }, Traffic::and);
        Ok(Carried { opened: opened?, began: tunnels.began(), traffic })
    }

    async fn by_rtsp(
        &self,
        truth: &Truth,
        places: Places<'_>,
        end: Duration,
    ) -> anyhow::Result<Carried> {
        let plain = self.speed == 1.0 && self.loss == 0.0 && self.jitter.is_zero();
        let silent = self.footage.sound == Sound::None;
        ensure!(plain && silent, "over RTSP: in real time, without sound, loss and jitter");
        // Inside the camera nothing is lost.
        let within = Tunnels::new(Vec::new());
        let wire = Link::open((Ipv4Addr::LOCALHOST, 9).into(), Shape::CLEAR).await?;
        let inlet = Reserved::pair()?;
        let media = Media::new(&within, Weather::fair(), VIDEO_TICKS);
        let stream = Stream::open(&wire, &within, media, inlet.ports).await?;
        let port = inlet.ports.media;
        drop(inlet);
        let log = places.logs.join("rtsp.log");
        let mut server = rtsp::Server::start(truth.codec, port, &log).await?;

        let link = Link::open(server.address(), self.shape).await?;
        let deadline = end + GRACE;
        let (off, is_off) = watch::channel(false);
        let log = places.logs.join("central.log");
        let recording = rtsp::record(link.address(), places.archive, is_off, &log, deadline);
        let filming = async {
            let cutting = async {
                rtsp::cut_connections(&link, &within, &self.cuts, self.seed).await;
                std::future::pending().await
            };
            let sent = tokio::select! {
                sent = self.send(truth, std::slice::from_ref(&stream), places, deadline) => sent,
                never = cutting => never,
            };
            off.send_replace(true);
            link.restore();
            let stopped = server.stop(deadline).await;
            sent.and(stopped)
        };
        let (opened, filmed) = tokio::join!(recording, filming);
        filmed?;
        let traffic = stream.traffic();
        Ok(Carried { opened: opened?, began: within.began(), traffic })
    }

    /// Has the camera film all of it.
    async fn send(
        &self,
        truth: &Truth,
        streams: &[Stream],
        places: Places<'_>,
        deadline: Duration,
    ) -> anyhow::Result<()> {
        let sends: Vec<Ports> = streams.iter().map(Stream::sends).collect();
        let log = places.logs.join("camera.log");
        let (sound, speed) = (self.footage.sound, self.speed);
        let mut camera = camera::start(truth, sound, places.card, &sends, speed, &log)?;
        ensure!(camera.exit(deadline).await?.success(), "the camera failed: {}", log.display());
        Ok(())
    }

    async fn start_central(
        &self,
        truth: &Truth,
        reserved: Vec<Reserved>,
        places: Places<'_>,
    ) -> anyhow::Result<Central> {
        let description = places.logs.join("stream.sdp");
        let ports: Vec<Ports> = reserved.iter().map(|reserved| reserved.ports).collect();
        camera::describe(truth, &ports, &description)?;
        let log = places.logs.join("central.log");
        Central::start(&description, self.footage.sound, places.archive, reserved, &log).await
    }
}

/// The way of one stream from the camera to the central recorder.
#[derive(Debug)]
struct Stream {
    media: Datagrams,
    reports: Datagrams,
}

impl Stream {
    async fn open(
        link: &Link,
        tunnels: &Arc<Tunnels>,
        media: Media,
        central: Ports,
    ) -> anyhow::Result<Stream> {
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let media = link.datagrams(at(central.media), Box::new(media)).await?;
        let reports = Box::new(Reports(Arc::clone(tunnels)));
        let reports = link.datagrams(at(central.reports), reports).await?;
        Ok(Stream { media, reports })
    }

    fn sends(&self) -> Ports {
        let (media, reports) = (self.media.address().port(), self.reports.address().port());
        Ports { media, reports }
    }

    fn traffic(&self) -> Traffic {
        let count = |of: &Datagrams| Traffic { passed: of.passed(), lost: of.dropped() };
        count(&self.media).and(count(&self.reports))
    }
}
