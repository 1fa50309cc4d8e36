//! What the framers of all codecs make of a stream's bytes: access units.

use std::collections::VecDeque;

use super::super::track::Codec;
use super::frames::Frames;
use super::packets::Packet;
use super::pes::Bodies;
use super::pictures::Pictures;
use super::tables::Stream;
use super::trail::Trail;
use super::unit::{Description, Unit};
use super::watch::Times;

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
