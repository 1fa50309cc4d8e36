//! Trimming: what of a recording is played between two places.
//!
//! Pure. Works in decode order, so that every frame belongs to one run: the frames that are decoded before
//! a keyframe are shown before it, while those that follow it may be shown before it too (open groups of
//! pictures), and are its own. A place that is not known as a frame is found by time, to half a frame.

use std::cmp::Ordering;

use sdcard_indexer::container::{MediaTime, Sample, Track};

use super::place::FramePlace;
use crate::merge::primary_track;

/// One end of the part of a recording that is played.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    /// The recording's own.
    Natural,
    /// Another run holds what lies beyond an instant.
    Handover(MediaTime),
    /// Another run holds what lies beyond a frame: the first one played, or one past the last.
    Frame(FramePlace),
    /// What lies beyond was not asked for; the frames needed to decode what was are kept, as far as they are
    /// not beyond a frame `within` as well.
    Asked { at: MediaTime, within: Option<FramePlace> },
}

/// The samples of a recording that are played between two bounds: whole frames from a keyframe on, and
/// the other tracks' samples of that time. `joined`: the run before ends here, so that sound may begin
/// where that one's ends rather than with the first frame, and a frame by its place need be no keyframe. At both ends a packet more than less is kept: what
/// two runs hold is told by [`crate::merge::Joiner`], what neither does is lost.
pub fn trim(
    tracks: &[Track],
    samples: &[Sample],
    opening: Bound,
    closing: Bound,
    joined: bool,
) -> Vec<Sample> {
    let primary = primary_track(tracks);
    let frames: Vec<&Sample> = samples.iter().filter(|sample| sample.track == primary).collect();
    let Some(track) = tracks.get(primary) else { return Vec::new() };
    let (first, last) =
        (opening_frame(track, &frames, opening, joined), closing_frame(track, &frames, closing));
    let Some(played) = frames.get(first..last).filter(|played| !played.is_empty()) else {
        return Vec::new();
    };
    let from = match opening {
        Bound::Natural => None,
        _ if joined => None,
        _ => played.first().map(|frame| frame.starts_at(track)),
    };
    let to = match closing {
        Bound::Natural => None,
        Bound::Frame(_) => frames.get(last).map(|frame| frame.starts_at(track)),
        // By the recording's own clock where it can be: the frame at which it hands over.
        Bound::Handover(at) => Some(frames.get(last).map_or(at, |frame| frame.starts_at(track))),
        Bound::Asked { at, .. } => Some(at),
    };
    let sound = samples.iter().filter(|sample| {
        tracks.get(sample.track).is_some_and(|track| {
            sample.track != primary
                && from.is_none_or(|from| side(track, sample, from).is_ge())
                && to.is_none_or(|to| side(track, sample, to).is_le())
        })
    });
    played.iter().copied().chain(sound).copied().collect()
}

/// Where a sample lies, seen from an instant; within half of its duration it lies on it.
fn side(track: &Track, sample: &Sample, instant: MediaTime) -> Ordering {
    let half_ns = i64::from(sample.duration) * 500_000_000 / i64::from(track.timescale.max(1));
    let distance_ns = sample.starts_at(track).0.saturating_sub(instant.0);
    if distance_ns.saturating_abs() <= half_ns { Ordering::Equal } else { distance_ns.cmp(&0) }
}

/// The first frame played: a keyframe where nothing says that a decoder has seen what it needs. One past the
/// last where there is none.
fn opening_frame(track: &Track, frames: &[&Sample], opening: Bound, joined: bool) -> usize {
    let mut keyframes = frames.iter().enumerate().filter(|(_, frame)| frame.keyframe);
    let found = match opening {
        Bound::Natural => keyframes.next(),
        Bound::Handover(at) => keyframes.find(|(_, frame)| side(track, frame, at).is_ge()),
        Bound::Frame(first) if joined => return number(frames, first),
        Bound::Frame(first) => {
            let first = number(frames, first);
            keyframes.find(|(index, _)| *index >= first)
        }
        Bound::Asked { at, within } => {
            let within = number(frames, within.unwrap_or(FramePlace::FIRST));
            let mut keyframes = keyframes.filter(|(index, _)| *index >= within);
            let first = keyframes.clone().next();
            let before = |(_, frame): &(usize, &&Sample)| side(track, frame, at).is_le();
            keyframes.by_ref().take_while(before).last().or(first)
        }
    };
    found.map_or(frames.len(), |(index, _)| index)
}

/// One past the last frame played.
fn closing_frame(track: &Track, frames: &[&Sample], closing: Bound) -> usize {
    let found = match closing {
        Bound::Natural => None,
        Bound::Handover(at) => frames.iter().position(|frame| side(track, frame, at).is_ge()),
        Bound::Frame(end) => Some(number(frames, end)),
        Bound::Asked { at, within } => {
            let last = frames.iter().rposition(|frame| side(track, frame, at).is_lt());
            Some(
                last.map_or(0, |last| last + 1)
                    .min(number(frames, within.unwrap_or(FramePlace::END))),
            )
        }
    };
    found.unwrap_or(frames.len()).min(frames.len())
}

fn number(frames: &[&Sample], place: FramePlace) -> usize {
    place.number_in(frames.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sdcard_indexer::container::{Codec, Storage, TrackKind};

    /// Each lies where its number says.
    fn place(number: usize) -> Bound {
        Bound::Frame(FramePlace::made_up(number))
    }

    const FRAME_NS: i64 = 40_000_000;

    fn track(kind: TrackKind, timescale: u32) -> Track {
        let (codec, sample_description) = (Codec::H265, Vec::new());
        let (track_id, width, height, zero_ticks) = (1, 0, 0, 0);
        let storage = Storage::Contiguous;
        Track {
            track_id,
            kind,
            codec,
            timescale,
            sample_description,
            width,
            height,
            storage,
            zero_ticks,
        }
    }

    /// Frames by the place at which they are shown, in decode order; `K` before a keyframe's.
    fn frames(shown: &str) -> Vec<Sample> {
        let frame = |(index, name): (usize, &str)| Sample {
            track: 0,
            decode_ticks: index as i64,
            composition_offset: name.trim_start_matches('K').parse::<i32>().unwrap() - index as i32,
            duration: 1,
            size_bytes: 1,
            offset: index as u64,
            keyframe: name.starts_with('K'),
            packets: None,
        };
        shown.split(' ').enumerate().map(frame).collect()
    }

    /// What is played of frames at 25 per second.
    fn played(shown: &str, opening: Bound, closing: Bound) -> String {
        names(shown, opening, closing, false)
    }

    /// The same behind a run that ends there.
    fn joined(shown: &str, opening: Bound, closing: Bound) -> String {
        names(shown, opening, closing, true)
    }

    fn names(shown: &str, opening: Bound, closing: Bound, joined: bool) -> String {
        let tracks = [track(TrackKind::Video, 25)];
        let name = |sample: &Sample| {
            format!("{}{}", if sample.keyframe { "K" } else { "" }, sample.presentation_ticks())
        };
        let played = trim(&tracks, &frames(shown), opening, closing, joined);
        played.iter().map(name).collect::<Vec<_>>().join(" ")
    }

    fn frame(number: i64) -> MediaTime {
        MediaTime(number * FRAME_NS)
    }

    fn asked(number: i64) -> Bound {
        Bound::Asked { at: frame(number), within: None }
    }

    const CLOSED: &str = "K0 3 1 2 K4 7 5 6 K8 11 9 10";
    /// The frames after each keyframe but the first are shown before it.
    const OPEN: &str = "K0 1 K4 2 3 5 K8 6 7 9";

    #[test]
    fn runs_that_hand_over_at_a_keyframe_share_no_frame_and_lose_none() {
        for shown in [CLOSED, OPEN] {
            let before = played(shown, Bound::Natural, Bound::Handover(frame(4)));
            let after = played(shown, Bound::Handover(frame(4)), Bound::Natural);
            assert_eq!(format!("{before} {after}"), shown);
        }
    }

    #[test]
    fn a_seam_is_found_within_half_a_frame() {
        for error_ns in [1 - FRAME_NS / 2, FRAME_NS / 2 - 1] {
            let seam = Bound::Handover(MediaTime(frame(4).0 + error_ns));
            assert_eq!(played(CLOSED, Bound::Natural, seam), "K0 3 1 2");
            assert_eq!(played(CLOSED, seam, Bound::Natural), "K4 7 5 6 K8 11 9 10");
        }
    }

    #[test]
    fn a_run_that_breaks_off_in_a_group_keeps_its_whole_frames_before_the_seam() {
        assert_eq!(played("K0 1 2 3", Bound::Natural, Bound::Handover(frame(2))), "K0 1");
    }

    #[test]
    fn a_range_begins_at_the_keyframe_before_it_and_keeps_what_its_last_frame_needs() {
        assert_eq!(played(CLOSED, asked(6), asked(10)), "K4 7 5 6 K8 11 9");
        assert_eq!(played(OPEN, asked(0), asked(3)), "K0 1 K4 2");
    }

    #[test]
    fn runs_that_meet_at_a_frame_share_none_and_lose_none() {
        for shown in [CLOSED, OPEN] {
            for index in [4, 8] {
                let before = played(shown, Bound::Natural, place(index));
                let after = joined(shown, place(index), Bound::Natural);
                assert_eq!(format!("{before} {after}").trim(), shown);
            }
        }
    }

    #[test]
    fn a_frame_within_a_group_is_played_only_behind_what_it_needs() {
        assert_eq!(joined(CLOSED, place(2), place(5)), "1 2 K4");
        assert_eq!(played(CLOSED, place(2), place(5)), "K4");
        assert_eq!(joined(CLOSED, place(99), Bound::Natural), "");
    }

    #[test]
    fn what_was_asked_goes_no_farther_than_the_frame_at_which_another_run_takes_over() {
        let within = |number, index| {
            let within = Some(FramePlace::made_up(index));
            Bound::Asked { at: frame(number), within }
        };
        assert_eq!(played(CLOSED, within(6, 8), Bound::Natural), "K8 11 9 10");
        assert_eq!(played(CLOSED, within(6, 1), within(11, 6)), "K4 7");
    }

    #[test]
    fn frames_before_the_first_keyframe_are_not_played() {
        assert_eq!(played("1 2 K3 4", Bound::Natural, Bound::Natural), "K3 4");
        assert_eq!(played("1 2", Bound::Natural, Bound::Natural), "");
    }

    #[test]
    fn sound_goes_with_the_frames_but_joins_where_the_run_before_ends() {
        let tracks = [track(TrackKind::Video, 25), track(TrackKind::Audio, 50)];
        let packet = |number: i64| Sample {
            track: 1,
            decode_ticks: number,
            composition_offset: 0,
            duration: 1,
            size_bytes: 1,
            offset: 0,
            keyframe: true,
            packets: None,
        };
        let samples: Vec<Sample> = frames(CLOSED).into_iter().chain((0..24).map(packet)).collect();
        let sound = |opening, closing, joined| {
            let played = trim(&tracks, &samples, opening, closing, joined);
            let packets: Vec<_> = played.iter().filter(|sample| sample.track == 1).collect();
            (packets[0].decode_ticks, packets[packets.len() - 1].decode_ticks)
        };
        let (from, to) = (Bound::Handover(frame(4)), Bound::Handover(frame(8)));
        assert_eq!(sound(from, to, false), (8, 16), "the packet at the end is the next run's too");
        assert_eq!(sound(from, to, true), (0, 16));
        assert_eq!(sound(Bound::Natural, Bound::Natural, false), (0, 23));
    }
}
