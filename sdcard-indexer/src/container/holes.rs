//! Holes inside a recording: where none of its frames is shown for longer than frames are apart.
//!
//! A recorder that waits out a loss of its network goes on in the same file: only the time stamps tell. How
//! far apart frames are is told by those around: a distance is none of a hole where two of its four neighbours are
//! as long. So a recording of one frame a second has no holes, nor has one whose rate changes with the picture, and
//! a single frame that came through between two losses hides neither.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::track::{MediaTime, Sample, Track};

/// Holes of a file that are kept apart. What lies behind so many counts as one hole up to the last.
pub const MAX_HOLES: usize = 64;

/// Distances on either side that tell what is usual.
const AROUND: usize = 2;

/// From when on nothing is shown until when something is, in media time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hole {
    pub start: MediaTime,
    pub end: MediaTime,
}

/// Finds holes in one recording, given its primary track's samples in decode order.
#[derive(Debug)]
pub(super) struct Holes {
    shortest_ns: i64,
    frames: VecDeque<Frame>,
    /// The first of `frames` whose distance from the next is to be judged.
    next: usize,
    found: Vec<Hole>,
    /// See [`MAX_HOLES`].
    most: usize,
}

/// The holes longer than `shortest` between samples of one track in decode order, all of them: for who has the
/// samples in memory anyway.
pub fn holes_between<'s>(
    samples: impl IntoIterator<Item = &'s Sample>,
    track: &Track,
    shortest: Duration,
) -> Vec<Hole> {
    let mut holes = Holes { most: usize::MAX, ..Holes::new(shortest) };
    samples.into_iter().for_each(|sample| holes.push(sample, track, 0));
    holes.end_recording();
    holes.into_found()
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    decoded_ns: i64,
    shown_ns: i64,
    /// The latest that is shown of it and those before.
    latest_ns: i64,
}

impl Holes {
    /// Of holes no longer than `shortest` nothing is told.
    pub(super) fn new(shortest: Duration) -> Self {
        let shortest_ns = i64::try_from(shortest.as_nanos()).unwrap_or(i64::MAX);
        Holes { shortest_ns, frames: VecDeque::new(), next: 0, found: Vec::new(), most: MAX_HOLES }
    }

    /// `late_ns` is added to all times of the recording.
    pub(super) fn push(&mut self, sample: &Sample, track: &Track, late_ns: i64) {
        let shown_ns = sample.starts_at(track).0.saturating_add(late_ns);
        let decoded_ns = track.media_time(sample.decode_ticks).0.saturating_add(late_ns);
        let latest_ns = self.frames.back().map_or(shown_ns, |last| last.latest_ns.max(shown_ns));
        self.frames.push_back(Frame { decoded_ns, shown_ns, latest_ns });
        if self.next + AROUND + 1 < self.frames.len() {
            self.judge();
        }
        if self.next > AROUND {
            self.frames.pop_front();
            self.next -= 1;
        }
    }

    /// The recording ends; what follows is another one, with a clock of its own.
    pub(super) fn end_recording(&mut self) {
        while self.next + 1 < self.frames.len() {
            self.judge();
        }
        self.frames.clear();
        self.next = 0;
    }

    pub(super) fn add(&mut self, hole: Hole) {
        let full = self.found.len() == self.most;
        match self.found.last_mut().filter(|_| full) {
            Some(last) => last.end = hole.end,
            None => self.found.push(hole),
        }
    }

    pub(super) fn into_found(self) -> Vec<Hole> {
        self.found
    }

    fn judge(&mut self) {
        let at = self.next;
        self.next += 1;
        let Some(distance) = self.distance(at).filter(|distance| *distance > self.shortest_ns)
        else {
            return;
        };
        let usual = self.usual_around(at).unwrap_or(distance);
        let behind = self.frames.range(at + 1..).take(AROUND + 1).map(|frame| frame.shown_ns);
        let (Some(before), Some(end)) = (self.frames.get(at), behind.min()) else { return };
        let start = before.latest_ns.saturating_add(usual);
        if end.saturating_sub(start) > self.shortest_ns {
            self.add(Hole { start: MediaTime(start), end: MediaTime(end) });
        }
    }

    /// From this frame to the next.
    fn distance(&self, at: usize) -> Option<i64> {
        let (this, next) = (self.frames.get(at)?, self.frames.get(at + 1)?);
        Some(next.decoded_ns.saturating_sub(this.decoded_ns))
    }

    /// The second longest of the distances around; where one is known, that one.
    fn usual_around(&self, at: usize) -> Option<i64> {
        let around = at.saturating_sub(AROUND)..=at + AROUND;
        let others = around.filter(|other| *other != at);
        let (mut longest, mut second) = (None, None);
        for distance in others.filter_map(|other| self.distance(other)) {
            if longest.is_none_or(|longest| distance > longest) {
                second = longest.replace(distance);
            } else {
                second = second.max(Some(distance));
            }
        }
        second.or(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::track::{Codec, Storage, TrackKind};
    use super::*;

    const TOLERANCE: Duration = Duration::from_millis(500);

    fn track() -> Track {
        Track {
            track_id: 1,
            kind: TrackKind::Video,
            codec: Codec::H264,
            timescale: 1_000,
            sample_description: Vec::new(),
            width: 0,
            height: 0,
            zero_ticks: 0,
            storage: Storage::Contiguous,
        }
    }

    fn sample((decode_ticks, composition_offset): (i64, i32)) -> Sample {
        Sample {
            track: 0,
            decode_ticks,
            composition_offset,
            duration: 40,
            size_bytes: 1,
            offset: 0,
            keyframe: false,
            packets: None,
        }
    }

    /// Frames at these times in milliseconds, decoded in this order and shown as much later as is told.
    fn holes_of(frames: impl IntoIterator<Item = (i64, i32)>) -> Vec<(i64, i64)> {
        let mut holes = Holes::new(TOLERANCE);
        frames.into_iter().for_each(|frame| holes.push(&sample(frame), &track(), 0));
        holes.end_recording();
        let millis = |time: MediaTime| time.0 / 1_000_000;
        holes.into_found().iter().map(|hole| (millis(hole.start), millis(hole.end))).collect()
    }

    /// As [`holes_of`], of frames that are shown as they are decoded, at these distances.
    fn holes_between(distances: impl IntoIterator<Item = i64>) -> Vec<(i64, i64)> {
        let mut at = 0;
        let next = |distance| {
            at += distance;
            (at, 0)
        };
        holes_of([0].into_iter().chain(distances).map(next).collect::<Vec<_>>())
    }

    fn steady(count: usize) -> impl Iterator<Item = i64> {
        std::iter::repeat_n(40, count)
    }

    #[test]
    fn a_recording_without_a_loss_has_no_hole_at_any_rate() {
        for distance in [1, 17, 40, 500, 1_000, 30_000] {
            assert_eq!(holes_between(std::iter::repeat_n(distance, 50)), []);
        }
        assert_eq!(holes_between([]), []);
        assert_eq!(holes_between([5_000]), [], "two frames tell of no rate");
    }

    #[test]
    fn a_loss_is_a_hole_wherever_it_lies() {
        for before in [1, 2, 3, 10] {
            let all = steady(before).chain([1_000]).chain(steady(10));
            let start = before as i64 * 40 + 40;
            assert_eq!(holes_between(all), [(start, start + 960)]);
            let all = steady(10).chain([1_000]).chain(steady(before));
            assert_eq!(holes_between(all), [(440, 1_400)]);
        }
    }

    #[test]
    fn what_is_no_longer_than_the_tolerance_is_none() {
        assert_eq!(holes_between(steady(10).chain([540]).chain(steady(10))), []);
        assert_eq!(holes_between(steady(10).chain([541]).chain(steady(10))), [(440, 941)]);
    }

    #[test]
    fn a_frame_that_came_through_between_two_losses_hides_neither() {
        let all = steady(10).chain([2_000, 3_000]).chain(steady(10));
        assert_eq!(holes_between(all), [(440, 2_400), (2_440, 5_400)]);
    }

    #[test]
    fn a_rate_that_changes_with_the_picture_leaves_no_holes() {
        let slow = || std::iter::repeat_n(1_000, 3);
        let all = steady(50).chain(slow()).chain(steady(50)).chain(slow()).chain(slow());
        assert_eq!(holes_between(all), []);
        let slowing =
            (0..20).map(|step| 40 + step * 70).chain((0..20).map(|step| 1_370 - step * 70));
        assert_eq!(holes_between(slowing), []);
    }

    #[test]
    fn frames_that_are_shown_out_of_order_are_no_holes_and_bound_one() {
        // I B B P in decode order I P B B: shown 80 ms behind, the P 200 ms, the Bs at once.
        let group = |at: i64| [(at, 80), (at + 40, 160), (at + 80, 0), (at + 120, 0)];
        let groups = |range: std::ops::Range<i64>| range.flat_map(move |n| group(n * 160));
        assert_eq!(holes_of(groups(0..10)), []);
        let lost = groups(0..10).chain(groups(20..30));
        let [(start, end)] = *holes_of(lost) else { panic!("one hole") };
        assert!((1_640..=1_720).contains(&start), "{start}");
        assert!((3_200..=3_280).contains(&end), "{end}");
    }

    #[test]
    fn holes_beyond_the_limit_are_put_together_with_what_lies_between() {
        let all = (0..MAX_HOLES + 10).flat_map(|_| steady(5).chain([2_000]).collect::<Vec<_>>());
        let holes = holes_between(all.chain(steady(5)));
        assert_eq!(holes.len(), MAX_HOLES);
        let last = holes.last().map(|(_, end)| *end);
        assert_eq!(last, Some((MAX_HOLES as i64 + 10) * 2_200));
    }

    #[test]
    fn who_has_all_samples_is_told_all_holes() {
        let mut at = 0;
        let frames = (0..MAX_HOLES + 10).flat_map(|_| steady(5).chain([2_000]).collect::<Vec<_>>());
        let next = |distance| {
            at += distance;
            sample((at, 0))
        };
        let samples: Vec<Sample> = frames.chain(steady(5)).map(next).collect();
        let holes = super::holes_between(&samples, &track(), TOLERANCE);
        assert_eq!(holes.len(), MAX_HOLES + 10);
    }
}
