//! Clusters: the samples of one track, read off the heads of their blocks (RFC 9559, 5.1.3).
//!
//! Blocks come in the order in which they are decoded and tell when they are shown. When they are decoded, which
//! nothing tells, follows from these: the first at the earliest time at which any is shown, the second at
//! the second, and so on, so that pictures which are shown late have positive composition offsets, and those
//! that waited for them negative ones, as in MP4 with `ctts` version 1.
//!
//! The sizes of segments and clusters are not needed and may be open; what ends early by them is torn.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{Read, Seek};

use super::super::boxes::{Source, Window};
use super::super::track::{Sample, TrackKind};
use super::super::{ContainerError, End};
use super::block::{BlockHead, HEAD_BYTES, MAX_HEAD_BYTES};
use super::ebml::{Element, OPEN, malformed};
use super::head::{Clock, TrackHead};
use super::id;

/// Pictures that wait for others at most: H.264 and H.265 hold 16 of them back.
const MAX_REORDERED: usize = 16;

/// Walks one track's samples in decode order.
#[derive(Debug)]
pub(crate) struct Cursor {
    track: usize,
    number: u64,
    is_audio: bool,
    clock: Clock,
    frame_ns: Option<u64>,
    delay_ticks: i64,
    window: Window,
    /// Where the next element stands.
    at: u64,
    cluster_ticks: Option<i64>,
    /// How far the segment and the clusters so far say that they reach.
    claimed_end: u64,
    /// The last block's frames, as long as nothing tells when the later of them are shown.
    lace: Vec<Frame>,
    /// Frames not handed out yet, and their times, the earliest on top.
    ahead: VecDeque<Frame>,
    shown: BinaryHeap<Reverse<i64>>,
    /// Of the sample handed out last.
    decode_ticks: i64,
    duration: i64,
    end: Option<End>,
    /// Of the block at hand; kept for its memory.
    sizes: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    offset: u64,
    size_bytes: u32,
    keyframe: bool,
    shown_at: i64,
    /// Where its block or its track tells.
    duration: Option<i64>,
}

impl Cursor {
    /// From the cluster, or whatever stands there, at `at`; `window` may have it already.
    pub(super) fn new(
        track: usize,
        head: &TrackHead,
        clock: Clock,
        segment: &Element,
        at: u64,
        window: Window,
    ) -> Cursor {
        let mut cursor = Cursor {
            track,
            number: head.number,
            is_audio: head.track.kind == TrackKind::Audio,
            clock,
            frame_ns: head.frame_ns,
            delay_ticks: clock.of_nanos(i64::try_from(head.delay_ns).unwrap_or(0)),
            window,
            at,
            cluster_ticks: None,
            claimed_end: 0,
            lace: Vec::new(),
            ahead: VecDeque::new(),
            shown: BinaryHeap::new(),
            decode_ticks: i64::MIN,
            duration: 0,
            end: None,
            sizes: Vec::new(),
        };
        cursor.claim(segment.end);
        cursor
    }

    /// How the recording ends; known once the last sample was handed out.
    pub(in crate::container) fn end(&self) -> End {
        self.end.unwrap_or(End::torn(self.at))
    }

    /// Whether a sample follows the one handed out last, which so has told its duration.
    pub(super) fn has_next(&self) -> bool {
        !self.ahead.is_empty()
    }

    pub(in crate::container) fn next<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<Option<Sample>, ContainerError> {
        // The sample itself, all that may be shown before it, and the one that ends it.
        let needed = if self.is_audio { 2 } else { 2 + MAX_REORDERED };
        while self.ahead.len() < needed && self.end.is_none() {
            match self.take_element(source) {
                Err(error @ ContainerError::Io(_)) => return Err(error),
                // What cannot be read ends the walk: a recorder that lost its power leaves such tails.
                Err(_) => self.finish(End::torn(self.at)),
                Ok(()) => {}
            }
        }
        Ok(self.take_sample())
    }

    fn take_sample(&mut self) -> Option<Sample> {
        let frame = self.ahead.pop_front()?;
        let Reverse(earliest) = self.shown.pop()?;
        self.decode_ticks = earliest.max(self.decode_ticks);
        self.duration = match self.shown.peek() {
            Some(Reverse(next)) => next.saturating_sub(self.decode_ticks),
            None => frame.duration.unwrap_or(self.duration),
        };
        let composition_offset = frame.shown_at.saturating_sub(self.decode_ticks);
        Some(Sample {
            track: self.track,
            decode_ticks: self.decode_ticks,
            composition_offset: composition_offset.clamp(i32::MIN.into(), i32::MAX.into()) as i32,
            duration: self.duration.clamp(0, u32::MAX.into()) as u32,
            size_bytes: frame.size_bytes,
            offset: frame.offset,
            keyframe: frame.keyframe,
            packets: None,
        })
    }

    /// Takes up the next element, or finds the end. `self.at` stays before whatever is not whole.
    fn take_element<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<(), ContainerError> {
        if self.at >= source.end {
            let torn = self.claimed_end > source.end;
            self.finish(End { whole: self.at, torn, next: None });
            return Ok(());
        }
        let Some(element) = Element::read(source, &mut self.window, self.at)? else {
            return malformed(self.at, "no element");
        };
        match element.id {
            id::EBML | id::SEGMENT => {
                self.finish(End { whole: self.at, torn: false, next: Some(self.at) });
            }
            id::CLUSTER => {
                self.claim(element.end);
                self.cluster_ticks = None;
                self.at = element.body;
            }
            _ if !element.within(source.end) => {
                return malformed(self.at, "an element past the end of the file");
            }
            other => {
                match other {
                    id::TIMESTAMP => {
                        let ticks = element.unsigned(source, &mut self.window)?;
                        self.cluster_ticks = Some(i64::try_from(ticks).unwrap_or(i64::MAX));
                    }
                    id::SIMPLE_BLOCK => self.take_block(source, element, None, None)?,
                    id::BLOCK_GROUP => self.take_group(source, element)?,
                    _ => {}
                }
                self.at = element.end;
            }
        }
        Ok(())
    }

    /// A `BlockGroup` (5.1.3.5): its block is a keyframe where it refers to no other.
    fn take_group<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
        group: Element,
    ) -> Result<(), ContainerError> {
        let (mut block, mut duration, mut keyframe) = (None, None, true);
        let mut at = group.body;
        while let Some(child) = Element::read_child(source, &mut self.window, at, group.end)? {
            at = child.end;
            match child.id {
                // What is another track's need not be read to its end.
                id::BLOCK if self.block_head(source, child)?.track_number != self.number => {
                    return Ok(());
                }
                id::BLOCK => block = Some(child),
                id::BLOCK_DURATION => duration = Some(child.unsigned(source, &mut self.window)?),
                id::REFERENCE_BLOCK => keyframe = false,
                _ => {}
            }
        }
        let Some(block) = block else { return Ok(()) };
        self.take_block(source, block, Some(keyframe), duration)
    }

    fn block_head<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
        block: Element,
    ) -> Result<BlockHead, ContainerError> {
        let bytes = block.head(source, &mut self.window, HEAD_BYTES)?;
        BlockHead::parse(bytes).map_or(malformed(block.start, "a block without a head"), Ok)
    }

    /// Takes a block's frames up where it is one of this track. Without `keyframe`, it says so itself; without
    /// `duration`, in the segment's ticks, the track may.
    fn take_block<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
        block: Element,
        keyframe: Option<bool>,
        duration: Option<u64>,
    ) -> Result<(), ContainerError> {
        let head = self.block_head(source, block)?;
        if head.track_number != self.number {
            return Ok(());
        }
        let Some(cluster_ticks) = self.cluster_ticks else {
            return malformed(block.start, "a block without a cluster's time");
        };
        let length = if head.is_laced() { MAX_HEAD_BYTES } else { HEAD_BYTES };
        let bytes = block.head(source, &mut self.window, length)?;
        let block_bytes = block.end - block.body;
        let Some(first_frame) = head.lay_out(bytes, block_bytes, &mut self.sizes) else {
            return malformed(block.start, "a block whose frames do not fill it");
        };
        let starts_at = self.clock.ticks(cluster_ticks.saturating_add(head.time.into()));
        let starts_at = starts_at.saturating_sub(self.delay_ticks);
        self.spread_lace(starts_at);

        let frames = self.sizes.len() as u64;
        let duration = match (duration, self.frame_ns) {
            (Some(ticks), _) => Some(self.clock.ticks(i64::try_from(ticks).unwrap_or(i64::MAX))),
            (None, Some(ns)) => {
                let nanos = i64::try_from(ns.saturating_mul(frames)).unwrap_or(i64::MAX);
                Some(self.clock.of_nanos(nanos))
            }
            (None, None) => None,
        };
        let mut offset = block.body + first_frame;
        for &size_bytes in &self.sizes {
            self.lace.push(Frame {
                offset,
                size_bytes,
                keyframe: self.is_audio || keyframe.unwrap_or(head.says_keyframe()),
                shown_at: starts_at,
                duration: duration.map(|duration| duration / frames as i64),
            });
            offset += u64::from(size_bytes);
        }
        match duration {
            Some(duration) => self.spread_lace(starts_at.saturating_add(duration)),
            None if frames == 1 => self.spread_lace(starts_at),
            None => {}
        }
        Ok(())
    }

    /// Lets the frames of the lace at hand be shown one after the other up to `ends_at`.
    fn spread_lace(&mut self, ends_at: i64) {
        let frames = self.lace.len() as i128;
        for (index, mut frame) in self.lace.drain(..).enumerate() {
            let all = i128::from(ends_at) - i128::from(frame.shown_at);
            let before = all.max(0) * index as i128 / frames;
            frame.shown_at = frame.shown_at.saturating_add(before as i64);
            self.shown.push(Reverse(frame.shown_at));
            self.ahead.push_back(frame);
        }
    }

    fn claim(&mut self, end: u64) {
        if end != OPEN {
            self.claimed_end = self.claimed_end.max(end);
        }
    }

    fn finish(&mut self, end: End) {
        if let Some(first) = self.lace.first() {
            let all = self.duration.saturating_mul(self.lace.len() as i64);
            self.spread_lace(first.shown_at.saturating_add(all));
        }
        self.end = Some(end);
    }
}
