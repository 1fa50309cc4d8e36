//! The camera: one process that stores what the encoder gave out on its card and sends it at the same time.
//!
//! It names its segments by its own clock, which is off and drifts. Its recording's own time, in files as in
//! packets, runs as it should.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use jiff::SignedDuration;
use sdcard_indexer::time::Timestamp;

use super::footage::{Sound, Truth};
use super::writing::{Writing, words};
use crate::artifacts::tool;
use crate::media::{Form, VideoCodec, ffmpeg, frames};
use crate::process::Process;

/// Of RTP with its headers. Frames are of several packets each, so that they can arrive in part.
const DATAGRAM_BYTES: u32 = 800;

/// What a camera believes the time to be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CameraClock {
    /// True time at which the recording begins; from then on it drifts.
    pub start: Timestamp,
    /// How far it is ahead there.
    pub offset: SignedDuration,
    /// How much faster than true time it runs, in millionths.
    pub drift_ppm: f64,
}

impl CameraClock {
    /// What it shows at this instant of true time.
    pub fn shows(&self, at: Timestamp) -> Timestamp {
        let drift_ns = at.nanos_from(self.start) as f64 * self.drift_ppm / 1e6;
        let ahead_ns = self.offset.as_nanos() as i64 + drift_ns.round() as i64;
        at.saturating_offset(ahead_ns)
    }
}

/// What a camera sends one of its streams to: ports of the loopback.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub media: u16,
    pub reports: u16,
}

/// Starts it: the footage leaves at `speed` times real time.
pub(super) fn start(
    truth: &Truth,
    sound: Sound,
    card: (&Writing, &Path),
    to: &[Ports],
    speed: f64,
    log: &Path,
) -> anyhow::Result<Process> {
    let (writing, directory) = card;
    let mut arguments =
        words(&format!("-hide_banner -loglevel error -nostdin -nostats -y -readrate {speed} -i"));
    arguments.push(truth.path.display().to_string());
    arguments.extend(writing.arguments(directory, sound, 0)?);
    // Reports tell by the wall clock where the streams belong, which runs as the media do at one speed only.
    let flags = if speed == 1.0 { "send_bye" } else { "send_bye+skip_rtcp" };
    arguments.extend(sending(truth.codec, to, flags));
    Process::spawn(&tool("ffmpeg")?, arguments, log)
}

/// The session description that the camera's maker would hand out, for a recorder that listens on these ports.
pub(super) fn describe(truth: &Truth, to: &[Ports], path: &Path) -> anyhow::Result<()> {
    // A first frame goes to where nobody listens yet.
    let mut arguments = words("-t 0.01 -i");
    arguments.push(truth.path.display().to_string());
    arguments.extend(sending(truth.codec, to, "0"));
    arguments.extend(["-sdp_file".to_owned(), path.display().to_string()]);
    ffmpeg(&arguments).map(|_| ())
}

/// The picture to the first of the ports, sound to the second. Parameter sets stand in front of each keyframe, as
/// cameras send them.
fn sending(codec: VideoCodec, to: &[Ports], flags: &str) -> Vec<String> {
    let video = match codec {
        VideoCodec::H264 => "-map 0:v -bsf:v h264_mp4toannexb",
        VideoCodec::H265 => "-map 0:v -bsf:v hevc_mp4toannexb",
    };
    let send = |(stream, ports): (&str, &Ports)| {
        let Ports { media, reports } = ports;
        words(&format!(
            "{stream} -c copy -f rtp -rtpflags {flags} \
             rtp://127.0.0.1:{media}?pkt_size={DATAGRAM_BYTES}&rtcpport={reports}"
        ))
    };
    [video, "-map 0:a"].into_iter().zip(to).flat_map(send).collect()
}

/// A file on the card.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CardSegment {
    pub path: PathBuf,
    /// True time at which its first frame is shown; its name says what the camera's clock showed.
    pub start: Timestamp,
    /// What it holds of [`Truth::video`].
    pub frames: Range<usize>,
}

/// Names what a camera has written, having made sure that it is all of the truth, frame for frame.
pub(super) fn name_segments(
    truth: &Truth,
    clock: &CameraClock,
    (writing, directory): (&Writing, &Path),
) -> anyhow::Result<Vec<CardSegment>> {
    let mut segments = Vec::new();
    let mut first = 0;
    while writing.numbered(directory, segments.len()).exists() {
        let number = segments.len();
        let held = frames(&writing.numbered(directory, number), Form::Slices(truth.codec))?;
        let frames = first..first + held.len();
        let expected = truth.video.get(frames.clone()).unwrap_or_default();
        let hashes = expected.iter().map(|frame| &frame.hash);
        let goes_on = !held.is_empty() && hashes.eq(held.iter().map(|frame| &frame.hash));
        ensure!(goes_on, "segment {number} of the card does not go on where the one before ended");
        let at = |index: usize| {
            let shown = truth.video.get(index).or(truth.video.last()).map(|frame| frame.shown_at.0);
            Some(clock.start.saturating_offset(shown?))
        };
        let (start, end) = at(frames.start).zip(at(frames.end)).context("the truth is empty")?;
        let path = writing.name(directory, number, clock.shows(start), clock.shows(end))?;
        first = frames.end;
        segments.push(CardSegment { path, start, frames });
    }
    let whole = truth.video.len();
    ensure!(first == whole, "the card holds {first} of {whole} frames");
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_s_clock_is_off_and_drifts_from_the_first_frame_on() {
        let start: Timestamp = "2024-06-03T10:00:00Z".parse().unwrap();
        let offset = SignedDuration::from_secs(-7_200);
        let clock = CameraClock { start, offset, drift_ppm: 200.0 };
        assert_eq!(clock.shows(start), "2024-06-03T08:00:00Z".parse().unwrap());
        let later: Timestamp = "2024-06-03T11:00:00Z".parse().unwrap();
        assert_eq!(clock.shows(later), "2024-06-03T09:00:00.72Z".parse().unwrap());
    }
}
