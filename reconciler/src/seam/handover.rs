//! Where one recording takes over from the other, given which of their frames are the same.
//!
//! Pure, in decode order. Before a hole, the live recording is played as long as it is whole, and the card's piece
//! from its last keyframe before that ends. Behind it, the piece is played up to the live recording's first keyframe
//! from which on that is whole. So what is damaged of the live recording, or cannot be decoded as its group of
//! pictures lacks the beginning, is played from the card wherever the card has it.
//!
//! Where the piece ends before such a keyframe comes, it is played to its end, and the live recording goes on with
//! the frame behind: a decoder has seen all that this one refers to.

use super::matching::{Alignment, Frame, keeps_time, step_ns};
use super::place::FramePlace;

/// Where one takes over, by the places of frames in their files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handover {
    /// Of the live recording: one past the last frame played, or the first.
    pub live: FramePlace,
    /// Of the card's piece: the first frame played, or one past the last.
    pub card: FramePlace,
    /// When the first frame after is shown, by the live recorder's clock.
    pub at_ns: i64,
    /// Frames say so; else time, by the offset that equal frames have told: the live recording's own frame at that
    /// place is lost or damaged, and its recorder stamps frames when they arrive.
    pub to_the_frame: bool,
}

/// From the live recording to the piece. `card` begins with the piece's first frame.
pub fn opening(live: &[Frame], card: &[Frame], alignment: &Alignment) -> Option<Handover> {
    let whole = whole_from_start(&alignment.pairs);
    let (on, keyframe) =
        card.iter().enumerate().take(whole + 1).rfind(|(_, frame)| frame.keyframe)?;
    let paired = |wanted: usize| alignment.pairs.iter().find(|(_, on)| *on == wanted);
    let at_ns = keyframe.time_ns.saturating_add(alignment.offset.median_ns);
    let (at, to_the_frame) = match (paired(on), on.checked_sub(1).and_then(paired)) {
        (Some(&(at, _)), _) => (at, true),
        (None, Some(&(before, _))) => (before + 1, true),
        (None, None) => {
            let known = alignment.pairs.first()?.0;
            let from_ns = at_ns.saturating_sub(step_ns(card) / 2);
            let damaged = live.iter().take(known).position(|frame| frame.time_ns >= from_ns);
            (damaged.unwrap_or(known), keeps_time(live, card, &alignment.pairs))
        }
    };
    let live = place_of(live, at)?;
    let handover = Handover { live, card: keyframe.place, at_ns, to_the_frame };
    (live != FramePlace::FIRST).then_some(handover)
}

/// From the piece to the live recording. `card` ends with the piece's last frame.
pub fn closing(live: &[Frame], card: &[Frame], alignment: &Alignment) -> Option<Handover> {
    let shown = |frame: &Frame| frame.time_ns.saturating_add(alignment.offset.median_ns);
    let whole = whole_to_end(&alignment.pairs, card.len());
    let resumes = |&&(at, on): &&(usize, usize)| live[at].keyframe || card[on].keyframe;
    if let Some(&(at, on)) = whole.iter().find(resumes) {
        let (live, card, at_ns) = (live[at].place, card[on].place, shown(&card[on]));
        return Some(Handover { live, card, at_ns, to_the_frame: true });
    }
    let card_end = card.last()?.behind;
    let step_ns = step_ns(card);
    let end_ns = card.iter().map(shown).max()?.saturating_add(step_ns);
    let resumed = |next: &Frame, to_the_frame: bool| Handover {
        live: next.place,
        card: card_end,
        at_ns: end_ns,
        to_the_frame,
    };
    if let Some(&(at, _)) = whole.last() {
        return Some(resumed(live.get(at + 1)?, true));
    }
    let behind = alignment.pairs.last()?.0 + 1;
    let (from_ns, to_ns) = (end_ns.saturating_sub(step_ns / 2), end_ns.saturating_add(step_ns / 2));
    let due = |frame: &&Frame| frame.keyframe && (from_ns..=to_ns).contains(&frame.time_ns);
    let next = live.get(behind..)?.iter().find(due)?;
    Some(resumed(next, keeps_time(live, card, &alignment.pairs)))
}

/// How many of the card's first frames the live recording has without damage, each after the other.
fn whole_from_start(pairs: &[(usize, usize)]) -> usize {
    let mut whole = 0;
    let mut before = None;
    for &(at, on) in pairs {
        if on != whole || before.is_some_and(|before| at != before + 1) {
            break;
        }
        (whole, before) = (on + 1, Some(at));
    }
    whole
}

/// The last pairs: up to the card's last frame, without a break on either side.
fn whole_to_end(pairs: &[(usize, usize)], card_frames: usize) -> &[(usize, usize)] {
    let mut next: Option<(usize, usize)> = None;
    let unbroken = pairs.iter().rev().take_while(|&&(at, on)| {
        let follows = match next {
            None => on + 1 == card_frames,
            Some(next) => (at + 1, on + 1) == next,
        };
        next = Some((at, on));
        follows
    });
    let unbroken = unbroken.count();
    pairs.get(pairs.len() - unbroken..).unwrap_or_default()
}

/// Of a frame of a list, or of the one past its last.
fn place_of(frames: &[Frame], at: usize) -> Option<FramePlace> {
    let behind = || Some(frames.last()?.behind);
    frames.get(at).map(|frame| frame.place).or_else(behind)
}

#[cfg(test)]
mod tests;
