//! Making recordings with GStreamer's muxers, from what ffmpeg has encoded.

use std::process::Command;

use crate::ffmpeg::{Recording, Source, run_tool};

const PACKAGES: &str = "gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
                        gstreamer1.0-plugins-bad";

/// What GStreamer makes of `source` with this muxer and its properties.
pub fn muxed(source: Source, muxer: &str, extension: &str) -> Recording {
    let (picture, sound) = match source {
        Source::H264 | Source::H264BFrames => ("h264parse", "aacparse"),
        Source::H265OpenGop => ("h265parse", "aacparse"),
        Source::H264Opus => ("h264parse", "opusparse"),
    };
    let from = source.path();
    Recording::write(extension, |path| {
        let (from, to) = (from.display(), path.display());
        let pipeline = format!(
            "filesrc location={from} ! qtdemux name=demuxer \
             demuxer.video_0 ! queue ! {picture} ! {muxer} name=muxer ! filesink location={to} \
             demuxer.audio_0 ! queue ! {sound} ! muxer."
        );
        let mut command = Command::new("gst-launch-1.0");
        run_tool(command.arg("--quiet").args(pipeline.split_ascii_whitespace()), PACKAGES);
    })
}
