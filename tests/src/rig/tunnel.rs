//! Tunnels: spans of the recording that do not reach the central recorder, to the packet.
//!
//! A span is told in the recording's own time, which RTP packets carry: so what is lost does not depend on
//! how fast, or on how busy a machine, a rig runs. The frame at which a tunnel begins gets its first packet
//! through and no more, the one at which it ends all but its first: both arrive damaged where they are of
//! several packets, and neither edge cares for groups of pictures.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::link::{Fate, Weather};

/// `count` spans in the order of time, each in its own stretch of what lies between the first and the last
/// `margin` of the recording, and at least `shortest` long.
pub fn random_cuts(
    seed: u64,
    count: u32,
    seconds: u32,
    margin: Duration,
    shortest: Duration,
) -> Vec<Range<Duration>> {
    let mut random = StdRng::seed_from_u64(seed);
    let stretch = (Duration::from_secs(seconds.into()) - 2 * margin) / count.max(1);
    // Some of the archive is left on either side of each.
    let room = stretch.mul_f64(0.8).saturating_sub(shortest);
    let cut = |index: u32| {
        let (length, place): (f64, f64) = (random.random(), random.random());
        let length = shortest + room.mul_f64(length);
        let start = margin + stretch * index + (stretch.mul_f64(0.9) - length).mul_f64(place);
        start..start + length
    };
    (0..count).map(cut).collect()
}

/// What all paths of a camera's stream share.
#[derive(Debug)]
pub(super) struct Tunnels {
    cuts: Vec<Range<Duration>>,
    now: watch::Sender<Now>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Now {
    /// When the first packet of video left the camera.
    began: Option<Instant>,
    /// The latest time of the recording that has left it.
    media: Duration,
}

impl Tunnels {
    pub(super) fn new(cuts: Vec<Range<Duration>>) -> Arc<Tunnels> {
        Arc::new(Tunnels { cuts, now: watch::Sender::default() })
    }

    /// When the recording's first packet left the camera.
    pub(super) fn began(&self) -> Option<Instant> {
        self.now.borrow().began
    }

    /// Returns once the recording has come to this.
    pub(super) async fn reached(&self, media: Duration) {
        let reached = |now: &Now| now.began.is_some() && now.media >= media;
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.now.subscribe().wait_for(reached).await;
    }

    fn pass(&self, media: Duration) {
        self.now.send_modify(|now| {
            now.began.get_or_insert_with(Instant::now);
            now.media = now.media.max(media);
        });
    }

    fn is_through(&self) -> bool {
        let media = self.now.borrow().media;
        !self.cuts.iter().any(|cut| cut.contains(&media))
    }
}

/// The path of one RTP stream.
#[derive(Debug)]
pub(super) struct Media {
    tunnels: Arc<Tunnels>,
    weather: Weather,
    ticks_per_second: u32,
    first: Option<u32>,
    /// Time stamp of the frame whose packets are passing.
    frame: Option<u32>,
    /// The latest time of the recording on this path.
    media: Duration,
    /// The tunnel that the frame lies in.
    inside: Option<usize>,
}

impl Media {
    pub(super) fn new(tunnels: &Arc<Tunnels>, weather: Weather, ticks_per_second: u32) -> Media {
        let tunnels = Arc::clone(tunnels);
        let (first, frame, media, inside) = (None, None, Duration::ZERO, None);
        Media { tunnels, weather, ticks_per_second, first, frame, media, inside }
    }

    /// The recording has come to this. B-frames are sent behind what is shown after them: time does not go
    /// back with these.
    fn advance(&mut self, stamp: u32) {
        let first = *self.first.get_or_insert(stamp);
        let ticks = stamp.wrapping_sub(first).cast_signed().max(0);
        let media = Duration::from_secs_f64(f64::from(ticks) / f64::from(self.ticks_per_second));
        self.media = self.media.max(media);
        self.tunnels.pass(self.media);
    }
}

impl Fate for Media {
    fn of(&mut self, datagram: &[u8]) -> Option<Duration> {
        let late = self.weather.of(datagram);
        let stamp = u32::from_be_bytes(*datagram.get(4..)?.first_chunk()?);
        if self.frame.replace(stamp) == Some(stamp) {
            return late.filter(|_| self.inside.is_none());
        }
        self.advance(stamp);
        let inside = self.tunnels.cuts.iter().position(|cut| cut.contains(&self.media));
        let before = std::mem::replace(&mut self.inside, inside);
        late.filter(|_| before.is_none())
    }
}

/// RTCP's packet type of a goodbye (RFC 3550, 6.6).
const GOODBYE: u8 = 203;
/// A recorder reads its ports in no order, and ends with the goodbye: it comes behind all that it stands behind.
const GOODBYE_LATE: Duration = Duration::from_millis(300);

/// The path of the reports that go with them, and of the goodbye. These are not lost but in tunnels: with
/// the goodbye, the recorder would be.
#[derive(Debug)]
pub(super) struct Reports(pub(super) Arc<Tunnels>);

impl Fate for Reports {
    fn of(&mut self, datagram: &[u8]) -> Option<Duration> {
        // It names one source, as the last of the packets in the datagram.
        let last = datagram.last_chunk::<8>();
        let goodbye = last.is_some_and(|&[_, kind, ..]| kind == GOODBYE);
        let late = if goodbye { GOODBYE_LATE } else { Duration::ZERO };
        self.0.is_through().then_some(late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(ticks: u32) -> Vec<u8> {
        let mut packet = vec![0x80, 96, 0, 0];
        packet.extend(7_000_u32.wrapping_add(ticks).to_be_bytes());
        packet.extend([0; 4]);
        packet
    }

    /// Of frames of three packets each, 25 a second: which packets get through, frame by frame.
    fn through(cut: Range<u64>, frames: u32) -> Vec<String> {
        let cut = Duration::from_millis(cut.start)..Duration::from_millis(cut.end);
        let tunnels = Tunnels::new(vec![cut]);
        let mut media = Media::new(&tunnels, Weather::fair(), 90_000);
        let mut frame = |number: u32| -> String {
            let packets = (0..3).filter(|_| media.of(&packet(number * 3_600)).is_some());
            packets.count().to_string()
        };
        (0..frames).map(&mut frame).collect()
    }

    #[test]
    fn a_tunnel_takes_what_lies_in_it_and_damages_the_frame_at_either_edge() {
        assert_eq!(through(70..190, 7), ["3", "3", "1", "0", "0", "2", "3"]);
    }

    #[test]
    fn a_tunnel_between_two_frames_takes_nothing() {
        assert_eq!(through(41..79, 4), ["3", "3", "3", "3"]);
    }

    #[tokio::test]
    async fn reports_are_lost_while_the_recording_is_in_a_tunnel() {
        let tunnels = Tunnels::new(vec![Duration::from_secs(1)..Duration::from_secs(2)]);
        let mut media = Media::new(&tunnels, Weather::fair(), 1_000);
        let mut reports = Reports(Arc::clone(&tunnels));
        let mut passes = |ticks| {
            media.of(&packet(ticks));
            reports.of(&[]).is_some()
        };
        assert!(passes(0) && passes(999) && !passes(1_000) && !passes(1_999) && passes(2_000));
    }

    #[test]
    fn random_cuts_are_apart_and_the_same_for_the_same_seed() {
        let margin = Duration::from_secs(3);
        let cuts = |seed| random_cuts(seed, 5, 60, margin, Duration::from_millis(300));
        assert_eq!(cuts(1), cuts(1));
        assert_ne!(cuts(1), cuts(2));
        for seed in 0..100 {
            let cuts = cuts(seed);
            assert!(cuts[0].start >= margin && cuts[4].end <= Duration::from_secs(57));
            let apart = |pair: &[Range<Duration>]| pair[0].end + margin / 3 < pair[1].start;
            assert!(cuts.windows(2).all(apart), "{cuts:?}");
            assert!(cuts.iter().all(|cut| cut.end - cut.start >= Duration::from_millis(300)));
        }
    }
}
