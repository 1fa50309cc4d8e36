//! What the camera films, and how it encodes it: once, and kept.
//!
//! The one encode is the truth of a rig. The camera sends and stores these very packets, so that no two
//! recorders can differ by more than what they and the network did.

use std::path::PathBuf;

use crate::media::{Form, Frame, VideoCodec, encoded, frames};

/// What is in front of the lens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Picture {
    /// A moving test card with the frame's number and the wall clock burned in: no two frames are alike.
    Counted,
    /// One picture that stands still, so that most slices are tiny and repeat.
    Still,
    Black,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sound {
    None,
    /// Mono, 48 kHz.
    Aac,
    /// A-law, 8 kHz; no MP4 proper has it, so that files in MP4's boxes are QuickTime's.
    G711,
}

/// How the camera's encoder is set.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Footage {
    pub codec: VideoCodec,
    pub picture: Picture,
    pub sound: Sound,
    pub seconds: u32,
    pub frames_per_second: u32,
    /// From one keyframe to the next.
    pub group_frames: u32,
    /// B-frames between two others.
    pub b_frames: u32,
    /// With B-frames, the first of a group refer to the group before.
    pub open_groups: bool,
    /// No keyframe but the first: a column of each picture is renewed.
    pub intra_refresh: bool,
    /// Of the burned-in clock at the first frame.
    pub unix_seconds: i64,
}

/// The whole of what the encoder gave out, and what is in it.
#[derive(Clone, Debug)]
pub struct Truth {
    pub path: PathBuf,
    pub codec: VideoCodec,
    /// [`Form::Slices`] in decode order: a frame's index is its place in here.
    pub video: Vec<Frame>,
    /// [`Form::AudioPackets`]; empty but for AAC, which alone keeps its packets over the network.
    pub audio: Vec<Frame>,
}

impl Footage {
    /// Encodes it, or finds what an earlier test has encoded.
    pub(super) fn encode(&self) -> anyhow::Result<Truth> {
        let name = format!("live-{:?}", self.codec);
        let path = encoded(&name, self.sound.extension(), &self.encoding())?;
        let video = frames(&path, Form::Slices(self.codec))?;
        let audio = match self.sound {
            Sound::Aac => frames(&path, Form::AudioPackets)?,
            Sound::None | Sound::G711 => Vec::new(),
        };
        Ok(Truth { path, codec: self.codec, video, audio })
    }

    fn encoding(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut push = |words: &str| arguments.extend(words.split(' ').map(str::to_owned));
        push("-f lavfi -i");
        push(&self.source());
        if let Some(source) = self.sound.source() {
            push(&format!("-f lavfi -i {source} {}", self.sound.encoder()));
        }
        push(&format!("-t {} {}", self.seconds, self.encoder()));
        push("-crf 28 -pix_fmt yuv420p -video_track_timescale 90000");
        arguments
    }

    /// Without spaces: it is one argument among others.
    fn source(&self) -> String {
        let rate = self.frames_per_second;
        match self.picture {
            Picture::Counted => format!(
                "testsrc2=size=320x180:rate={rate},drawtext=text='%{{n}}_%{{pts\\:gmtime\\:{}}}':\
                 x=8:y=150:fontsize=18:box=1",
                self.unix_seconds
            ),
            Picture::Still => format!("smptebars=size=320x180:rate={rate}"),
            Picture::Black => format!("color=black:size=320x180:rate={rate}"),
        }
    }

    fn encoder(&self) -> String {
        let Footage { b_frames, group_frames, .. } = self;
        let flag = |on: bool| u8::from(on);
        let (open, refresh) = (flag(self.open_groups), flag(self.intra_refresh));
        match self.codec {
            VideoCodec::H264 => format!(
                "-c:v libx264 -preset ultrafast -x264-params log-level=error:bframes={b_frames}:\
                 b-adapt=0:keyint={group_frames}:min-keyint={group_frames}:scenecut=0:\
                 open-gop={open}:intra-refresh={refresh}"
            ),
            VideoCodec::H265 => format!(
                "-c:v libx265 -preset ultrafast -tag:v hvc1 -x265-params log-level=error:\
                 bframes={b_frames}:b-adapt=0:keyint={group_frames}:min-keyint={group_frames}:\
                 scenecut=0:open-gop={open}:intra-refresh={refresh}"
            ),
        }
    }
}

impl Sound {
    const fn source(self) -> Option<&'static str> {
        match self {
            Sound::None => None,
            Sound::Aac => Some("anoisesrc=seed=1:sample_rate=48000"),
            Sound::G711 => Some("anoisesrc=seed=1:sample_rate=8000"),
        }
    }

    const fn encoder(self) -> &'static str {
        match self {
            Sound::None => "",
            Sound::Aac => "-c:a aac -b:a 64k",
            Sound::G711 => "-c:a pcm_alaw",
        }
    }

    /// Ticks of RTP in a second (RFC 3640, 3551).
    pub(super) const fn rtp_ticks(self) -> Option<u32> {
        match self {
            Sound::None => None,
            Sound::Aac => Some(48_000),
            Sound::G711 => Some(8_000),
        }
    }

    /// Of a file in MP4's boxes that holds it.
    pub(super) const fn extension(self) -> &'static str {
        match self {
            Sound::None | Sound::Aac => "mp4",
            Sound::G711 => "mov",
        }
    }
}
