//! A live recording and a piece from the card, at one edge of the piece.

use serde::{Deserialize, Serialize};

use super::Seam;
use super::handover::{Handover, closing, opening};
use super::matching::{Expected, Frame, NoMatch, Offset, OffsetSample, align};

/// Which end of a piece.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// Its beginning: a live recording breaks off behind it.
    Opening,
    /// Its end: a live recording goes on from before it.
    Closing,
}

/// All that equal frames tell about one edge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Meeting {
    pub handover: Handover,
    pub offset: Offset,
    pub equal_frames: usize,
    /// For who learns how the two clocks run; see [`super::drift_ppb`].
    pub samples: Vec<OffsetSample>,
}

impl Meeting {
    pub fn seam(&self) -> Seam {
        if !self.handover.to_the_frame {
            return Seam::Approximate { uncertainty_ns: self.offset.error_ns };
        }
        Seam::Exact {
            offset_ns: self.offset.median_ns,
            error_ns: self.offset.error_ns,
            equal_frames: u32::try_from(self.equal_frames).unwrap_or(u32::MAX),
        }
    }
}

/// Finds where the two meet. Of the card these are the piece's first frames, or its last.
pub fn meet(
    edge: Edge,
    live: &[Frame],
    card: &[Frame],
    expected: &Expected,
) -> Result<Meeting, NoMatch> {
    let alignment = align(live, card, expected)?;
    let handover = match edge {
        Edge::Opening => opening(live, card, &alignment),
        Edge::Closing => closing(live, card, &alignment),
    };
    Ok(Meeting {
        handover: handover.ok_or(NoMatch::NoHandover)?,
        offset: alignment.offset,
        equal_frames: alignment.pairs.len(),
        samples: alignment.samples,
    })
}
