//! Layouts known by name, each with the place where the knowledge comes from.

use serde::{Deserialize, Serialize};

/// A recorder's own way of naming files, chosen in a configuration by its lower-case name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// The object storage recording format of the ONVIF Recording Control specification (normative
    /// annex): `[prefix/]YYYY-MM-DD[/postfix]/HH/MM-SS.ffffffZ.COUNTER.mp4`, UTC of the first sample,
    /// counter from 0 within a span. The prefix is the stream's root; there is no postfix.
    Onvif,
    /// MediaMTX's default `recordPath`, `./recordings/%path/%Y-%m-%d_%H-%M-%S-%f` in its `mediamtx.yml`,
    /// with `recordFormat: fmp4`; `%f` is microseconds in six digits, the time zone is the machine's.
    /// The stream's root is the directory that stands for `%path`.
    MediaMtx,
    /// What is commonly given to ffmpeg's segment muxer with `-strftime 1` ("segment" in the
    /// ffmpeg-formats manual): strftime in the machine's time zone, whole seconds.
    Ffmpeg,
}

impl Preset {
    pub const fn template(self) -> &'static str {
        match self {
            Preset::Onvif => "%Y-%m-%d/%H/%M-%S.%fZ.{counter}.mp4",
            Preset::MediaMtx => "%Y-%m-%d_%H-%M-%S-%f.mp4",
            Preset::Ffmpeg => "%Y-%m-%d_%H-%M-%S.mp4",
        }
    }

    /// The format itself says UTC, whatever the machine's time zone is.
    pub const fn is_always_utc(self) -> bool {
        matches!(self, Preset::Onvif)
    }
}
