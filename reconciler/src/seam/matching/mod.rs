//! Which frames of two recordings are one and the same.
//!
//! Pure. What it must never do is take one frame for another that looks the same: still scenes repeat tiny slices,
//! encoders without noise whole groups of pictures. So it rests on **anchors** alone: frames that equal exactly one
//! of the other side among all that the clocks allow, both ways. A damaged frame equals none, so that no damage
//! makes an anchor. A run of frames that follow on each other on both sides counts from [`LEAST_SLICES`] slices on.
//! Anchors that contradict each other in order refute everything.
//!
//! Frames beside an anchor that have twins are taken for equal to those beside it on the other side where the live
//! recorder's stamps are the encoder's own: then time tells that none is lost between, which a picture that stands
//! still does not. Where a recorder stamps frames as they arrive, they are not.
//!
//! An anchor is believed where either
//! - the card's frames at hand cover all the time in which its true place may lie: then no twin is out of sight;
//! - or it cannot well have a twin: it takes [`DISTINCTIVE_BYTES`], more than a picture of skipped blocks, and
//!   equals no other frame on either side, whatever the clocks say; and [`LEAST_DISTINCTIVE`] of these are there.
//!
//! The second is needed as a piece begins at most a group of pictures before the live recording's hole: clocks are
//! hardly ever that exact. What it cannot see through is a source that plays a loop, byte for byte, longer than
//! what was read and shorter than the clocks' uncertainty: a test pattern from a file, not a camera.

use std::collections::HashMap;

use super::place::FramePlace;
use super::slices::Coded;

/// Equal slices in a row from which on a run counts.
pub const LEAST_SLICES: u32 = 3;
/// A frame of skipped blocks takes fewer: a few bytes a slice, even of a large picture.
pub const DISTINCTIVE_BYTES: u32 = 100;
/// So many frames that have no twin do without clocks.
pub const LEAST_DISTINCTIVE: usize = 3;
/// A wider step between the card's frames than so many usual ones is a hole.
const HOLE_STEPS: i64 = 4;
/// So many stamps at least show how a recorder stamps,
const LEAST_STAMPS: usize = 8;
/// and from one to the next they move by no more than this share of a frame: rounding to milliseconds is less, up to
/// 60 a second.
const STAMP_SHARE: u64 = 16;
const MOST_OFFSET_SAMPLES: usize = 32;

/// One frame of a recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    pub place: FramePlace,
    /// Of the frame that follows in the file, in decode order.
    pub behind: FramePlace,
    /// When it is shown, UTC by its recorder's clock.
    pub time_ns: i64,
    pub keyframe: bool,
    /// `None` where its bytes cannot be had: it equals no other.
    pub coded: Option<Coded>,
}

/// What the clocks say: the live recorder's time of a frame minus the card's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected {
    pub offset_ns: i64,
    /// The truth lies no farther from that.
    pub uncertainty_ns: u64,
}

impl Expected {
    fn allows(&self, live: &Frame, card: &Frame) -> bool {
        let offset = live.time_ns.saturating_sub(card.time_ns);
        offset.abs_diff(self.offset_ns) <= self.uncertainty_ns
    }
}

/// Why no frame can be said to be another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoMatch {
    #[error("no frame is equal: another encoder, another stream, or nothing that both recorded")]
    NothingEqual,
    #[error("too few equal frames follow on each other")]
    TooFew,
    #[error("frames are equal in more than one way: the picture stands still, or repeats")]
    Ambiguous,
    #[error("equal frames are too plain to be told from others that were not read")]
    OutOfReach,
    #[error("frames are equal, but not where one of the two breaks off or goes on")]
    NoHandover,
}

/// The live recorder's time of a frame minus the card's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offset {
    /// Median over the frames that are equal.
    pub median_ns: i64,
    /// Nine out of ten frames lie no farther from it: a live recorder stamps frames as they arrive.
    pub error_ns: u64,
}

/// One frame's witness of how far two clocks are apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OffsetSample {
    pub card_time_ns: i64,
    pub offset_ns: i64,
}

/// Which frames are one. Never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alignment {
    /// Places in the two lists of frames, both ever larger.
    pub pairs: Vec<(usize, usize)>,
    pub offset: Offset,
    /// Some of the pairs, spread over all of them.
    pub samples: Vec<OffsetSample>,
}

/// Frames of both sides that were read, each in decode order and without a break in it.
pub fn align(live: &[Frame], card: &[Frame], expected: &Expected) -> Result<Alignment, NoMatch> {
    let twins = Twins { live: Places::of(live), card: Places::of(card) };
    let reach = Reach::of(card);
    let is_near = |&&(at, _): &&(usize, usize)| reach.covers(&live[at], expected);
    let is_distinctive = |&&(at, _): &&(usize, usize)| twins.is_distinctive(&live[at]);
    let mut anchors = anchors(live, card, &twins, expected)?;
    anchors.retain(|anchor| is_near(&anchor) || is_distinctive(&anchor));
    if anchors.is_empty() {
        return Err(NoMatch::OutOfReach);
    }
    if !anchors.is_sorted_by(|one, next| one.1 < next.1) {
        return Err(NoMatch::Ambiguous);
    }
    let runs = runs(live, card, &anchors, expected);
    if runs.is_empty() {
        return Err(NoMatch::TooFew);
    }
    let near = |run: &Run| run.anchors.iter().any(|anchor| is_near(&anchor));
    let distinctive = |run: &Run| run.anchors.iter().filter(is_distinctive).count();
    let without_clocks = runs.iter().map(distinctive).sum::<usize>() >= LEAST_DISTINCTIVE;
    let believed = |run: &&Run| near(run) || (without_clocks && distinctive(run) > 0);
    let pairs: Vec<(usize, usize)> = runs.iter().filter(believed).flat_map(Run::pairs).collect();
    if pairs.is_empty() {
        return Err(NoMatch::OutOfReach);
    }
    let samples = pairs.iter().map(|&(at, on)| sample(&live[at], &card[on])).collect::<Vec<_>>();
    Ok(Alignment { offset: offset(&samples), samples: spread(&samples), pairs })
}

/// Where each picture stands in a list of frames.
struct Places(HashMap<u64, Vec<usize>>);

impl Places {
    fn of(frames: &[Frame]) -> Self {
        let mut places: HashMap<u64, Vec<usize>> = HashMap::new();
        for (at, frame) in frames.iter().enumerate() {
            if let Some(coded) = frame.coded {
                places.entry(coded.fingerprint).or_default().push(at);
            }
        }
        Places(places)
    }

    fn equal_to(&self, frame: &Frame) -> &[usize] {
        let found = frame.coded.and_then(|coded| self.0.get(&coded.fingerprint));
        found.map(Vec::as_slice).unwrap_or_default()
    }
}

struct Twins {
    live: Places,
    card: Places,
}

impl Twins {
    fn is_distinctive(&self, frame: &Frame) -> bool {
        frame.coded.is_some_and(|coded| coded.bytes >= DISTINCTIVE_BYTES)
            && self.live.equal_to(frame).len() == 1
            && self.card.equal_to(frame).len() == 1
    }
}

/// Pairs that have no rival within what the clocks allow, in the order of the live side.
fn anchors(
    live: &[Frame],
    card: &[Frame],
    twins: &Twins,
    expected: &Expected,
) -> Result<Vec<(usize, usize)>, NoMatch> {
    let mut any = false;
    let mut anchors = Vec::new();
    for (at, frame) in live.iter().enumerate() {
        let mut allowed =
            twins.card.equal_to(frame).iter().filter(|on| expected.allows(frame, &card[**on]));
        let Some(&on) = allowed.next() else { continue };
        any = true;
        if allowed.next().is_some() {
            continue;
        }
        let rivals = twins.live.equal_to(frame).iter();
        let rivals = rivals.filter(|rival| expected.allows(&live[**rival], &card[on]));
        if rivals.take(2).count() == 1 {
            anchors.push((at, on));
        }
    }
    match (anchors.is_empty(), any) {
        (false, _) => Ok(anchors),
        (true, true) => Err(NoMatch::Ambiguous),
        (true, false) => Err(NoMatch::NothingEqual),
    }
}

/// Frames that follow on each other on both sides and are equal.
struct Run {
    live: usize,
    card: usize,
    length: usize,
    anchors: Vec<(usize, usize)>,
}

impl Run {
    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (live, card) = (self.live, self.card);
        (0..self.length).map(move |step| (live + step, card + step))
    }

    fn slices(&self, live: &[Frame]) -> u32 {
        let frames = live.iter().skip(self.live).take(self.length);
        frames.filter_map(|frame| frame.coded).map(|coded| coded.slices).sum()
    }
}

/// The runs around anchors, none of which shares a frame with another.
fn runs(
    live: &[Frame],
    card: &[Frame],
    anchors: &[(usize, usize)],
    expected: &Expected,
) -> Vec<Run> {
    let stamps = keeps_time(live, card, anchors).then(|| stamp_error_ns(card));
    let belongs = |anchor: OffsetSample, at: usize, on: usize| match (live.get(at), card.get(on)) {
        (Some(one), Some(other)) => {
            let moved_ns = sample(one, other).offset_ns.abs_diff(anchor.offset_ns);
            stamps.is_some_and(|error_ns| moved_ns <= error_ns)
                && one.coded.is_some()
                && one.coded == other.coded
                && expected.allows(one, other)
        }
        _ => false,
    };
    let mut runs: Vec<Run> = Vec::new();
    for &(at, on) in anchors {
        let (live_free, card_free) =
            runs.last().map_or((0, 0), |run| (run.live + run.length, run.card + run.length));
        if let Some(run) = runs.last_mut()
            && at < live_free
        {
            run.anchors.push((at, on));
            continue;
        }
        let anchor = sample(&live[at], &card[on]);
        let room = (at - live_free).min(on.saturating_sub(card_free));
        let before = (1..=room).take_while(|step| belongs(anchor, at - step, on - step)).count();
        let behind = (1..).take_while(|step| belongs(anchor, at + step, on + step)).count();
        let length = before + 1 + behind;
        match runs.last_mut() {
            Some(run) if (at - before, on - before) == (live_free, card_free) => {
                run.length += length;
                run.anchors.push((at, on));
            }
            _ => {
                let (live, card) = (at - before, on - before);
                runs.push(Run { live, card, length, anchors: vec![(at, on)] });
            }
        }
    }
    runs.retain(|run| run.slices(live) >= LEAST_SLICES);
    runs
}

/// The live recorder's stamps are the encoder's own, by another clock, and no times of arrival: then a frame is
/// known by its time.
pub(super) fn keeps_time(live: &[Frame], card: &[Frame], pairs: &[(usize, usize)]) -> bool {
    let offsets = pairs.iter().map(|&(at, on)| sample(&live[at], &card[on]).offset_ns);
    let next = offsets.clone().skip(1);
    let most_ns = offsets.zip(next).map(|(one, next)| one.abs_diff(next)).max();
    pairs.len() >= LEAST_STAMPS && most_ns.is_some_and(|most_ns| most_ns <= stamp_error_ns(card))
}

/// What such stamps may be rounded by.
fn stamp_error_ns(card: &[Frame]) -> u64 {
    step_ns(card).unsigned_abs() / STAMP_SHARE
}

/// The time that the card's frames at hand cover.
struct Reach {
    first_ns: i64,
    last_ns: i64,
    has_hole: bool,
}

impl Reach {
    fn of(card: &[Frame]) -> Self {
        let mut times: Vec<i64> = card.iter().map(|frame| frame.time_ns).collect();
        times.sort_unstable();
        let steps = || times.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        let (usual_ns, widest_ns) = (step_ns(card), steps().max().unwrap_or(0));
        Reach {
            first_ns: times.first().copied().unwrap_or(i64::MAX),
            last_ns: times.last().map_or(i64::MIN, |last| last.saturating_add(usual_ns)),
            has_hole: widest_ns > usual_ns.saturating_mul(HOLE_STEPS),
        }
    }

    /// All places where the clocks let `live` lie are at hand.
    fn covers(&self, live: &Frame, expected: &Expected) -> bool {
        let on_card_ns = live.time_ns.saturating_sub(expected.offset_ns);
        let from_ns = on_card_ns.saturating_sub_unsigned(expected.uncertainty_ns);
        let to_ns = on_card_ns.saturating_add_unsigned(expected.uncertainty_ns);
        !self.has_hole && from_ns >= self.first_ns && to_ns <= self.last_ns
    }
}

/// The usual time from one frame to the next; 0 where there are none.
pub(super) fn step_ns(frames: &[Frame]) -> i64 {
    let mut times: Vec<i64> = frames.iter().map(|frame| frame.time_ns).collect();
    times.sort_unstable();
    let mut steps: Vec<i64> =
        times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    steps.sort_unstable();
    steps.get(steps.len() / 2).copied().unwrap_or(0)
}

fn sample(live: &Frame, card: &Frame) -> OffsetSample {
    OffsetSample {
        card_time_ns: card.time_ns,
        offset_ns: live.time_ns.saturating_sub(card.time_ns),
    }
}

fn offset(samples: &[OffsetSample]) -> Offset {
    let mut offsets: Vec<i64> = samples.iter().map(|sample| sample.offset_ns).collect();
    offsets.sort_unstable();
    let at = |place: usize| offsets.get(place).copied().unwrap_or(0);
    let (last, few) = (offsets.len().saturating_sub(1), offsets.len() / 20);
    let median_ns = at(offsets.len() / 2);
    let error_ns = at(few).abs_diff(median_ns).max(at(last - few).abs_diff(median_ns));
    Offset { median_ns, error_ns }
}

fn spread(samples: &[OffsetSample]) -> Vec<OffsetSample> {
    let every = samples.len().div_ceil(MOST_OFFSET_SAMPLES).max(1);
    samples.iter().step_by(every).copied().collect()
}

/// How much faster the live recorder's clock runs than the card's, in parts of 10^9, from what two places
/// say. `None` where these are not apart.
pub fn drift_ppb(earlier: &[OffsetSample], later: &[OffsetSample]) -> Option<i64> {
    let (one, other) = (middle(earlier)?, middle(later)?);
    let time_ns = i128::from(other.card_time_ns) - i128::from(one.card_time_ns);
    let moved_ns = i128::from(other.offset_ns) - i128::from(one.offset_ns);
    if time_ns <= 0 {
        return None;
    }
    i64::try_from(moved_ns * 1_000_000_000 / time_ns).ok()
}

/// Medians of both, so that a few frames that came late do not count.
fn middle(samples: &[OffsetSample]) -> Option<OffsetSample> {
    let median = |of: fn(&OffsetSample) -> i64| {
        let mut values: Vec<i64> = samples.iter().map(of).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied()
    };
    Some(OffsetSample {
        card_time_ns: median(|sample| sample.card_time_ns)?,
        offset_ns: median(|sample| sample.offset_ns)?,
    })
}

#[cfg(test)]
mod tests;
