//! A card with ring recorders: what each stream truly recorded, what the card still holds, and what its index
//! knows of that.
//!
//! No footage is stored: the bytes of a segment follow from its seed and the offset. The index looks once a
//! second, as an agent's does, so that what it says is always a little behind the truth.

use std::collections::VecDeque;
use std::sync::OnceLock;

use agent::conversation::{Answer, PartBytes, PartRead};
use protocol::frame::HEADER_BYTES;
use protocol::message::{ListedSegment, Overwriting, Part, PartDigest, RefusedReason, SealCheck};
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::identity::{SegmentId, SegmentVersion, StreamId};
use sdcard_indexer::index::StreamView;
use sdcard_indexer::segment::Tier;
use sdcard_indexer::time::{TimeRange, Timestamp};

use super::agenda::{MILLISECOND, Micros, SECOND, wall};
use super::faults::Random;

/// A prime, so that no two offsets of a segment look alike for long.
const PATTERN_BYTES: usize = 1_048_583;
/// Before its first frame.
pub const SEGMENT_HEAD_BYTES: u64 = 600;
/// What a digest of a sealed segment compares at once.
const BLOCK_BYTES: u64 = 32 * 1024;
/// A keyframe this near to the edge of a range counts as on it, as in `sdcard_indexer::cut`.
const EDGE: Micros = 20 * MILLISECOND;
const JOIN: std::time::Duration = std::time::Duration::from_millis(500);
/// From a segment's end until a following one would have been seen.
const APPEARANCE: Micros = 30 * SECOND;

fn pattern() -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    PATTERN.get_or_init(|| {
        let mut bytes = vec![0; PATTERN_BYTES];
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"footage").finalize_xof().fill(&mut bytes);
        bytes
    })
}

/// What the recorder wrote at `offset` of the segment of this seed.
pub fn fill(seed: u64, offset: u64, buffer: &mut [u8]) {
    let pattern = pattern();
    let mut place = ((seed % PATTERN_BYTES as u64 + offset) % PATTERN_BYTES as u64) as usize;
    let mut rest = buffer;
    while !rest.is_empty() {
        let (now, later) = rest.split_at_mut(rest.len().min(PATTERN_BYTES - place));
        now.copy_from_slice(&pattern[place..place + now.len()]);
        (rest, place) = (later, 0);
    }
}

/// Whether these are the bytes that the recorder wrote there.
pub fn is_footage(seed: u64, offset: u64, bytes: &[u8]) -> bool {
    let mut expected = vec![0; bytes.len()];
    fill(seed, offset, &mut expected);
    expected == bytes
}

/// How a recorder writes.
#[derive(Clone, Copy, Debug)]
pub struct Habit {
    pub frame: Micros,
    pub frames_per_gop: u64,
    pub frame_bytes: u64,
    pub gops_per_segment: u64,
    pub gops_per_part: u64,
    /// Segments that the card has room for.
    pub most_segments: usize,
    /// A segment takes the place, and the id, of the one that it overwrites.
    pub reuses_names: bool,
    pub most_parts_in_answer: usize,
}

impl Habit {
    pub fn gop(&self) -> Micros {
        self.frame * self.frames_per_gop
    }

    fn gop_bytes(&self) -> u64 {
        self.frame_bytes * self.frames_per_gop
    }

    pub fn bytes(&self, frames: u64) -> u64 {
        SEGMENT_HEAD_BYTES + frames * self.frame_bytes
    }

    fn frames_in(&self, bytes: u64) -> u64 {
        bytes.saturating_sub(SEGMENT_HEAD_BYTES) / self.frame_bytes
    }
}

#[derive(Clone, Debug)]
pub struct Segment {
    pub id: SegmentId,
    pub seed: u64,
    pub start: Micros,
    /// Once it is sealed.
    frames: u64,
    pub sealed: Option<Micros>,
    /// The clock was right when it was recorded, or has been set since.
    placed: bool,
    /// Byte that the card has flipped.
    altered: Option<u64>,
    /// What lies behind has been found to be altered.
    withdrawn_from: Option<u64>,
    unreadable: bool,
}

impl Segment {
    fn frames_at(&self, now: Micros, habit: &Habit) -> u64 {
        match self.sealed {
            Some(_) => self.frames,
            None => (now.saturating_sub(self.start) / habit.frame)
                .min(habit.gops_per_segment * habit.frames_per_gop),
        }
    }

    fn range(&self, frames: u64, habit: &Habit) -> TimeRange {
        between(self.start, self.start + frames * habit.frame)
    }
}

pub fn between(start: Micros, end: Micros) -> TimeRange {
    TimeRange::new(wall(start), wall(end.max(start))).unwrap_or(TimeRange::ALWAYS)
}

/// What the index knows of a segment.
#[derive(Clone, Debug)]
struct Known {
    seed: u64,
    start: Micros,
    frames: u64,
    sealed: bool,
    placed: bool,
    read: bool,
}

/// How far a part has been read.
#[derive(Debug)]
pub struct Cursor {
    part: PartBytes,
    position: u64,
    hasher: blake3::Hasher,
}

impl Cursor {
    pub fn new(part: PartBytes) -> Self {
        Cursor { part, position: part.start, hasher: blake3::Hasher::new() }
    }
}

/// One stream's recorder and its part of the card.
#[derive(Debug)]
pub struct Ring {
    pub stream: StreamId,
    pub habit: Habit,
    pub segments: VecDeque<Segment>,
    pub recording: bool,
    /// All that was ever recorded, up to the last look.
    pub recorded: Coverage,
    /// Claimed by the index, and never there.
    pub lie: Coverage,
    known: Vec<Known>,
    gone: Coverage,
    seed: u64,
    written: u64,
    clock_is_right: bool,
    /// The index has been lost: names are all that is known until each segment was read.
    reads_names_until: Micros,
    absent_until: Micros,
}

impl Ring {
    pub fn new(stream: StreamId, habit: Habit, seed: u64) -> Self {
        Ring {
            stream,
            habit,
            segments: VecDeque::new(),
            recording: false,
            recorded: Coverage::new(),
            lie: Coverage::new(),
            known: Vec::new(),
            gone: Coverage::new(),
            seed,
            written: 0,
            clock_is_right: true,
            reads_names_until: 0,
            absent_until: 0,
        }
    }

    // ---- the recorder --------------------------------------------------------------------------------

    pub fn start(&mut self, now: Micros) {
        if !self.recording {
            self.recording = true;
            self.begin_segment(now);
        }
    }

    /// Closes the file; a power cut does so roughly, and takes the last frames with it.
    pub fn stop(&mut self, now: Micros, lost_frames: u64) {
        self.advance(now);
        self.recording = false;
        let habit = self.habit;
        if let Some(open) = self.segments.back_mut().filter(|segment| segment.sealed.is_none()) {
            open.frames = open.frames_at(now, &habit).saturating_sub(lost_frames);
            open.sealed = Some(now);
        }
        self.note_recorded(now);
    }

    fn begin_segment(&mut self, start: Micros) {
        let mut id = SegmentId(self.seed ^ (self.written + 1));
        while self.segments.len() >= self.habit.most_segments {
            if let Some(oldest) = self.segments.pop_front()
                && self.habit.reuses_names
            {
                id = oldest.id;
            }
        }
        self.written += 1;
        self.segments.push_back(Segment {
            id,
            seed: self.seed.wrapping_add(self.written.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            start,
            frames: 0,
            sealed: None,
            placed: self.clock_is_right,
            altered: None,
            withdrawn_from: None,
            unreadable: false,
        });
    }

    /// Writes up to now.
    pub fn advance(&mut self, now: Micros) {
        let habit = self.habit;
        let length = habit.gop() * habit.gops_per_segment;
        while self.recording {
            let Some(open) = self.segments.back_mut() else { break };
            let end = open.start + length;
            if now < end {
                break;
            }
            open.frames = habit.gops_per_segment * habit.frames_per_gop;
            open.sealed = Some(end);
            self.note_recorded(end);
            self.begin_segment(end);
        }
        self.note_recorded(now);
    }

    fn note_recorded(&mut self, now: Micros) {
        if let Some(newest) = self.segments.back() {
            self.recorded.insert(newest.range(newest.frames_at(now, &self.habit), &self.habit));
        }
    }

    /// What the card truly holds, placed or not.
    pub fn held(&self, now: Micros) -> Coverage {
        let habit = &self.habit;
        self.segments.iter().map(|s| s.range(s.frames_at(now, habit), habit)).collect()
    }

    /// What is held and may be spoilt: whatever is said of it may be a failure.
    pub fn spoilt(&self, now: Micros) -> Coverage {
        let spoilt = self.segments.iter().filter(|s| s.altered.is_some() || s.unreadable);
        spoilt.map(|s| s.range(s.frames_at(now, &self.habit), &self.habit)).collect()
    }

    /// Held, and its place in time not known.
    pub fn unplaced(&self, now: Micros) -> Coverage {
        let unplaced = self.segments.iter().filter(|s| !s.placed);
        unplaced.map(|s| s.range(s.frames_at(now, &self.habit), &self.habit)).collect()
    }

    // ---- what befalls it -------------------------------------------------------------------------------

    pub fn clock_is(&mut self, right: bool) {
        self.clock_is_right = right;
        if right {
            self.segments.iter_mut().for_each(|segment| segment.placed = true);
        }
    }

    pub fn alter(&mut self, random: &mut Random) {
        let habit = self.habit;
        let sealed = self.segments.iter_mut().filter(|s| s.sealed.is_some() && s.frames > 0);
        let mut sealed: Vec<_> = sealed.collect();
        if !sealed.is_empty() {
            let chosen = random.below(sealed.len() as u64) as usize;
            let bytes = habit.bytes(sealed[chosen].frames);
            sealed[chosen].altered = Some(random.below(bytes));
        }
    }

    pub fn make_unreadable(&mut self, random: &mut Random) {
        if !self.segments.is_empty() {
            let chosen = random.below(self.segments.len() as u64) as usize;
            self.segments[chosen].unreadable = true;
        }
    }

    pub fn heal(&mut self) {
        self.segments.iter_mut().for_each(|segment| segment.unreadable = false);
    }

    pub fn lose_index(&mut self, now: Micros, random: &mut Random) {
        self.known.clear();
        self.gone = Coverage::new();
        self.reads_names_until = now + random.between(SECOND, 15 * SECOND);
    }

    pub fn be_absent(&mut self, until: Micros) {
        self.absent_until = until;
    }

    // ---- the index ---------------------------------------------------------------------------------------

    /// Looks at the card, and says what the index knows from then on.
    pub fn look(&mut self, now: Micros) -> StreamView {
        self.advance(now);
        if now < self.absent_until {
            return StreamView {
                present: false,
                held: Coverage::new(),
                gone: Coverage::new(),
                horizon: None,
                final_until: Timestamp::MIN,
                tier: Tier::Names,
                uncertain: Vec::new(),
            };
        }
        let habit = self.habit;
        let read = now >= self.reads_names_until;
        let usable = |segment: &Segment| {
            let frames = segment.frames_at(now, &habit);
            let kept = segment.withdrawn_from.map(|from| habit.frames_in(from));
            frames.min(kept.unwrap_or(frames))
        };
        let seen: Vec<Known> = self
            .segments
            .iter()
            .map(|segment| Known {
                seed: segment.seed,
                start: segment.start,
                frames: usable(segment),
                sealed: segment.sealed.is_some(),
                placed: segment.placed,
                read,
            })
            .collect();
        for before in std::mem::replace(&mut self.known, seen) {
            if before.placed && !self.known.iter().any(|known| known.seed == before.seed) {
                self.gone.insert(range_of(&before, &habit));
            }
        }
        self.view(now)
    }

    /// Of a ring that is full: a segment goes when the newest one is.
    pub fn overwriting(&self, now: Micros) -> Option<Overwriting> {
        let open = self.segments.back().filter(|open| open.sealed.is_none())?;
        let full = self.segments.len() >= self.habit.most_segments && now >= self.absent_until;
        let goes_at = open.start + self.habit.gop() * self.habit.gops_per_segment;
        full.then(|| Overwriting { horizon_goes_at: wall(goes_at), horizon_ms_per_second: 1_000 })
    }

    fn view(&self, now: Micros) -> StreamView {
        let habit = &self.habit;
        let length = habit.gop() * habit.gops_per_segment;
        let all_read = self.known.iter().all(|known| known.read);
        let guessed = |known: &Known| match known.read {
            true => range_of(known, habit),
            false => between(known.start, known.start + length),
        };
        let placed = || self.known.iter().filter(|known| known.placed);
        let held: Coverage = placed().map(guessed).collect();
        let held = held.joined(JOIN).union(&self.lie);
        let newest = placed().map(|known| range_of(known, habit).end()).max();
        let unseen = wall(now.saturating_sub(length + APPEARANCE));
        let undecided = self.known.iter().filter_map(|known| match known {
            Known { placed: false, .. } => Some(self.certain_before(known)),
            Known { read: false, .. } => Some(wall(known.start)),
            Known { sealed: false, .. } => Some(range_of(known, habit).end()),
            _ => None,
        });
        let final_until = newest.map_or(unseen, |end| end.max(unseen));
        StreamView {
            present: true,
            gone: self.gone.clone().joined(JOIN).difference(&held),
            horizon: held.hull().map(|hull| hull.start()),
            final_until: undecided.min().unwrap_or(Timestamp::MAX).min(final_until),
            tier: if all_read { Tier::Extent } else { Tier::Names },
            uncertain: Vec::new(),
            held,
        }
    }

    /// A segment without a place was recorded after the last one that has one.
    fn certain_before(&self, unplaced: &Known) -> Timestamp {
        let placed = self.known.iter().filter(|known| known.placed && known.start < unplaced.start);
        let ends = placed.map(|known| range_of(known, &self.habit).end());
        ends.max().unwrap_or(Timestamp::MIN)
    }

    pub fn locate(&self, range: TimeRange, now: Micros) -> Answer {
        let (mut parts, mut next) = (Vec::new(), None);
        if now < self.absent_until {
            return Answer::Parts { parts, next };
        }
        let habit = &self.habit;
        'all: for known in self.known.iter().filter(|known| known.placed) {
            let Some(segment) = self.segments.iter().find(|s| s.seed == known.seed) else {
                continue;
            };
            let frames = known.frames.min(segment.frames_at(now, habit));
            if !segment.range(frames, habit).overlaps(&range) {
                continue;
            }
            let version =
                SegmentVersion { size_bytes: habit.bytes(frames), fingerprint: segment.seed };
            let gops = frames.div_ceil(habit.frames_per_gop);
            let from_start = |at: Timestamp| at.nanos_from(wall(segment.start)) / 1_000;
            let edge = EDGE as i64;
            let first = (from_start(range.start()) + edge).max(0) as u64 / habit.gop();
            let last = ((from_start(range.end()) - edge).max(1) as u64).div_ceil(habit.gop());
            let mut gop = first;
            while gop < last.min(gops) {
                let end = (gop + habit.gops_per_part).min(last).min(gops);
                let until = (end * habit.frames_per_gop).min(frames);
                let start = segment.start + gop * habit.gop();
                if parts.len() >= habit.most_parts_in_answer {
                    next = Some(wall(start));
                    break 'all;
                }
                parts.push(Part {
                    segment: segment.id,
                    version,
                    start: SEGMENT_HEAD_BYTES + gop * habit.gop_bytes(),
                    end: habit.bytes(until),
                    range: between(start, segment.start + until * habit.frame),
                    uncertainty_ns: 0,
                    media: segment.seed.to_le_bytes().to_vec(),
                });
                gop = end;
            }
        }
        Answer::Parts { parts, next }
    }

    pub fn list(&self, range: TimeRange, now: Micros) -> Answer {
        let there = self.known.iter().filter(|known| known.placed && now >= self.absent_until);
        let segments = there.map(|known| ListedSegment {
            range: range_of(known, &self.habit),
            uncertainty_ns: 0,
            size_bytes: self.habit.bytes(known.frames),
            tier: u8::from(known.read),
            sealed: known.sealed,
        });
        let segments = segments.filter(|segment| segment.range.overlaps(&range));
        Answer::Segments { segments: segments.collect(), next: None }
    }

    /// `None` where the segment is not of this stream.
    pub fn read(
        &mut self,
        cursor: &mut Cursor,
        length_bytes: u64,
        keep: bool,
        now: Micros,
    ) -> Option<Result<PartRead, RefusedReason>> {
        let habit = self.habit;
        let segment = self.segments.iter_mut().find(|s| s.id == cursor.part.segment)?;
        let version = cursor.part.version;
        let frames = segment.frames_at(now, &habit);
        if now < self.absent_until {
            return Some(Err(RefusedReason::CardError));
        }
        if version.fingerprint != segment.seed || version.size_bytes > habit.bytes(frames) {
            return Some(Err(RefusedReason::Changed));
        }
        if segment.unreadable {
            return Some(Err(RefusedReason::CardError));
        }
        // Hashed some seconds after it was sealed.
        let digested = segment.sealed.is_some_and(|at| at + 5 * SECOND < now);
        let end = cursor.position + length_bytes;
        if let (Some(altered), true) = (segment.altered, digested) {
            let block = altered / BLOCK_BYTES * BLOCK_BYTES;
            if block < end && block + BLOCK_BYTES > cursor.part.start {
                segment.withdrawn_from = Some(block);
                return Some(Err(RefusedReason::Altered { intact: block }));
            }
        }
        let mut frame = vec![0; HEADER_BYTES + length_bytes as usize];
        let bytes = &mut frame[HEADER_BYTES..];
        fill(segment.seed, cursor.position, bytes);
        if let Some(altered) = segment.altered.filter(|at| (cursor.position..end).contains(at)) {
            bytes[(altered - cursor.position) as usize] ^= 0xff;
        }
        cursor.hasher.update(bytes);
        cursor.position = end;
        let seal = if digested { SealCheck::Equal } else { SealCheck::Unknown };
        let blake3 = || *cursor.hasher.finalize().as_bytes();
        let digest = (end >= cursor.part.end).then(|| PartDigest { blake3: blake3(), seal });
        Some(Ok(PartRead { length_bytes, frame: keep.then_some(frame), digest }))
    }
}

fn range_of(known: &Known, habit: &Habit) -> TimeRange {
    between(known.start, known.start + known.frames * habit.frame)
}
