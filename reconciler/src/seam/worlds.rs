//! Made-up recordings for tests: one stream, a card that holds a stretch of it, and a live recording with losses.
//!
//! What a frame shows is a number, so that played frames can be compared with the stream's. Some scenes move, some
//! stand still (each group of pictures is the one before again), some repeat a few tiny pictures in no order.

use proptest::prelude::*;

use super::matching::{Expected, Frame};
use super::meeting::Edge;
use super::place::FramePlace;
use super::slices::Coded;

pub(super) const STEP_NS: i64 = 40_000_000;
/// The live recorder's clock minus the card's.
pub(super) const OFFSET_NS: i64 = 5_400_123_456_789;

#[derive(Clone, Copy, Debug)]
pub(super) enum Scene {
    Moving { frames: usize },
    Still { groups: usize },
    Plain { frames: usize, seed: u64 },
}

/// What became of a frame on the way to the live recorder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Whole,
    Lost,
    Unreadable,
    Altered,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Picture {
    pub(super) shows: u64,
    pub(super) bytes: u32,
    pub(super) keyframe: bool,
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) stream: Vec<Picture>,
    pub(super) live: Vec<Frame>,
    /// Which frame of the stream each of the live recording's is.
    pub(super) sources: Vec<usize>,
    pub(super) card: Vec<Frame>,
    /// Which frame of the stream the card's first one is.
    pub(super) card_from: usize,
    pub(super) expected: Expected,
}

pub(super) fn stream(scenes: &[Scene], group: usize) -> Vec<Picture> {
    let mut stream: Vec<Picture> = Vec::new();
    for (number, scene) in scenes.iter().enumerate() {
        let base = (number as u64 + 1) << 32;
        let frames = match *scene {
            Scene::Moving { frames } | Scene::Plain { frames, .. } => frames,
            Scene::Still { groups } => groups * group,
        };
        for frame in 0..frames {
            let place = frame % group;
            let keyframe = place == 0;
            let (shows, bytes) = match *scene {
                Scene::Moving { .. } => (base + frame as u64, 500),
                Scene::Still { .. } if keyframe => (base, 5_000),
                // The same in all scenes that stand still.
                Scene::Still { .. } => (1_000 + place as u64, 12),
                Scene::Plain { seed, .. } => ((seed >> (frame % 32 * 2)) & 3, 12),
            };
            stream.push(Picture { shows, bytes, keyframe });
        }
    }
    stream
}

/// Every frame by itself, of one slice.
pub(super) fn frame(index: usize, time_ns: i64, picture: Picture) -> Frame {
    let Picture { shows, bytes, keyframe } = picture;
    let coded = Some(Coded { fingerprint: shows, slices: 1, bytes });
    let (place, behind) = (FramePlace::made_up(index), FramePlace::made_up(index + 1));
    Frame { place, behind, time_ns, keyframe, coded }
}

pub(super) fn on_card(stream: &[Picture], range: std::ops::Range<usize>) -> Vec<Frame> {
    let time_ns = |at: usize| at as i64 * STEP_NS;
    let frames = range.clone().zip(&stream[range]).enumerate();
    frames.map(|(index, (at, picture))| frame(index, time_ns(at), *picture)).collect()
}

/// What arrives, stamped up to so much too early or too late; with which frame of the stream each one is.
pub(super) fn arrived(
    stream: &[Picture],
    range: std::ops::Range<usize>,
    fates: impl Fn(usize) -> Fate,
    late_ns: impl Fn(usize) -> i64,
) -> (Vec<Frame>, Vec<usize>) {
    let (mut live, mut sources) = (Vec::new(), Vec::new());
    for at in range {
        let time_ns = at as i64 * STEP_NS + OFFSET_NS + late_ns(at);
        let mut arrived = frame(live.len(), time_ns, stream[at]);
        match fates(at) {
            Fate::Whole => {}
            Fate::Lost => continue,
            Fate::Unreadable => arrived.coded = None,
            Fate::Altered => {
                let coded = arrived.coded.as_mut().unwrap();
                coded.fingerprint = u64::MAX - at as u64;
            }
        }
        live.push(arrived);
        sources.push(at);
    }
    (live, sources)
}

/// What is played around a handover, by what the frames show; damaged ones are numbers that no frame shows.
pub(super) fn played(live: &[Frame], card: &[Frame]) -> Vec<u64> {
    let shows = |frame: &Frame| frame.coded.map_or(u64::MAX, |coded| coded.fingerprint);
    live.iter().chain(card).map(shows).collect()
}

fn scene() -> impl Strategy<Value = Scene> {
    prop_oneof![
        3 => (1usize..40).prop_map(|frames| Scene::Moving { frames }),
        2 => (1usize..5).prop_map(|groups| Scene::Still { groups }),
        1 => (1usize..30, any::<u64>()).prop_map(|(frames, seed)| Scene::Plain { frames, seed }),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        12 => Just(Fate::Whole),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Unreadable),
        1 => Just(Fate::Altered),
    ]
}

/// A stretch of a random stream on the card, and a live recording that breaks off behind its beginning, or begins
/// before its end. Outside of what the card holds, the live recording is whole: there nothing could make it so.
pub(super) fn world(edge: Edge) -> impl Strategy<Value = World> {
    let scenes = prop::collection::vec(scene(), 1..8);
    let places =
        (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>());
    let fates = prop::collection::vec(fate(), 400);
    let late = (
        prop::sample::select(vec![0i64, 1, 15, 300]),
        prop::collection::vec(-1_000_000i64..=1_000_000, 64),
    );
    let clocks = (-3_000_000_000i64..3_000_000_000, 0u64..4_000_000_000);
    (scenes, 1usize..13, places, fates, late, clocks).prop_map(
        move |(scenes, group, places, fates, late, clocks)| {
            let stream = stream(&scenes, group);
            let keyframes: Vec<usize> =
                (0..stream.len()).filter(|&at| stream[at].keyframe).collect();
            let card_from = *places.0.get(&keyframes);
            let card_until = card_from + 1 + places.1.index(stream.len() - card_from);
            let breaks = card_from + places.2.index(card_until - card_from + 1);
            let (range, damaged) = match edge {
                Edge::Opening => (0..breaks, card_from..stream.len()),
                Edge::Closing => (breaks..stream.len(), 0..card_until),
            };
            let fates = |at: usize| {
                if damaged.contains(&at) { fates[at % fates.len()] } else { Fate::Whole }
            };
            let late_ns = |at: usize| late.0 * late.1[at % late.1.len()];
            let (live, sources) = arrived(&stream, range, fates, late_ns);
            let uncertainty_ns =
                clocks.0.unsigned_abs() + late.0.unsigned_abs() * 1_000_000 + clocks.1;
            let expected = Expected { offset_ns: OFFSET_NS + clocks.0, uncertainty_ns };
            let card = on_card(&stream, card_from..card_until);
            World { stream, live, sources, card, card_from, expected }
        },
    )
}
