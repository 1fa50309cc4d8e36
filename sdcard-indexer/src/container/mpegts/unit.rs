//! Access units: what the framers of all codecs make of a stream's bytes.

use std::collections::VecDeque;

use super::super::track::Codec;
use super::frames::Frames;
use super::packets::Packet;
use super::pes::Bodies;
use super::pictures::Pictures;
use super::tables::Stream;
use super::trail::{Place, Trail};
use super::watch::Times;

/// An access unit as it lies in its stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unit {
    pub(super) begins: Place,
    /// One past its last packet.
    pub(super) end: u64,
    pub(super) elementary_bytes: u32,
    /// Of its form in MP4.
    pub(super) size_bytes: u32,
    pub(super) times: Option<Times>,
    /// Of sound: samples of its codec and how many of them make a second.
    pub(super) length: Option<(u32, u32)>,
    pub(super) keyframe: bool,
}

/// What a decoder has to be told first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Description {
    /// A whole `stsd` box.
    pub(super) sample_description: Vec<u8>,
    pub(super) width: u16,
    pub(super) height: u16,
}

/// Cuts one stream into access units.
#[derive(Debug)]
pub(super) struct Framer {
    bodies: Bodies,
    trail: Trail,
    syntax: Syntax,
    ready: VecDeque<Unit>,
}

#[derive(Debug)]
enum Syntax {
    Pictures(Pictures),
    Frames(Frames),
}

impl Framer {
    pub(super) fn new(stream: &Stream) -> Self {
        let syntax = match stream.codec {
            Codec::H264 | Codec::H265 => Syntax::Pictures(Pictures::new(stream.codec)),
            _ => Syntax::Frames(Frames::new(stream)),
        };
        Framer {
            bodies: Bodies::from_next_header(),
            trail: Trail::default(),
            syntax,
            ready: VecDeque::new(),
        }
    }

    /// Takes in a packet of the stream; `times` are those of the PES packet that begins in it.
    pub(super) fn push(&mut self, packet: &Packet<'_>, times: Option<Times>) {
        let (skip, bytes) = self.bodies.of(packet);
        match &mut self.syntax {
            Syntax::Pictures(pictures) => {
                self.trail.enter(packet, skip, bytes.len(), times);
                pictures.push(&mut self.trail, bytes, &mut self.ready);
            }
            Syntax::Frames(frames) => {
                if packet.begins {
                    frames.packet_begins(&self.trail, &mut self.ready);
                }
                self.trail.enter(packet, skip, bytes.len(), times);
                frames.push(&mut self.trail, bytes, &mut self.ready);
            }
        }
    }

    /// The stream has ended: what is open is whole.
    pub(super) fn finish(&mut self) {
        match &mut self.syntax {
            Syntax::Pictures(pictures) => pictures.finish(&mut self.trail, &mut self.ready),
            Syntax::Frames(frames) => frames.packet_begins(&self.trail, &mut self.ready),
        }
    }

    /// The next whole unit.
    pub(super) fn pop(&mut self) -> Option<Unit> {
        self.ready.pop_front()
    }

    /// What was seen of what a decoder needs, once that is enough.
    pub(super) fn description(&self) -> Option<Description> {
        match &self.syntax {
            Syntax::Pictures(pictures) => pictures.description(),
            Syntax::Frames(frames) => frames.description(),
        }
    }
}
