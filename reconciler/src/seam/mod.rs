//! Seams: the exact frame at which one run of footage hands over to the next.
//!
//! Pure. A live recorder and a card hold the same encoder's output by clocks that never met, in other packaging,
//! one of them with damage. In the order of the data: `slices` tells a frame by what no recorder alters of it,
//! `matching` finds which frames of two recordings are one, `handover` chooses where the one takes over from the
//! other, `trim` keeps of a recording what is played between two such places.
//!
//! Whatever cannot be proved is refused, with the reason: the seam is then placed by time, and says so.

mod handover;
mod matching;
mod meeting;
mod place;
mod slices;
mod trim;
#[cfg(test)]
mod worlds;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use handover::Handover;
pub use matching::{
    Alignment, DISTINCTIVE_BYTES, Expected, Frame, LEAST_SLICES, NoMatch, Offset, OffsetSample,
    align, drift_ppb,
};
pub use meeting::{Edge, Meeting, meet};
pub use place::FramePlace;
pub use slices::{Coded, SliceCodec, coded};
pub use trim::{Bound, trim};

/// How two runs meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "seam", rename_all = "snake_case")]
pub enum Seam {
    /// The same recorder goes on in its next file: there is nothing to choose.
    Succession,
    /// Both recordings hold the frames at which they meet: none is lost, none is played twice.
    Exact {
        /// The live recorder's time of a frame minus the card's.
        offset_ns: i64,
        /// How far single frames lie from that.
        error_ns: u64,
        /// Frames that both hold, near the seam.
        equal_frames: u32,
    },
    /// By the wall clocks of the two, which may be off by so much against one another.
    Approximate { uncertainty_ns: u64 },
}

impl Seam {
    /// By frames or by clocks; a recorder that goes on in its next file is neither.
    pub const fn joins_recorders(&self) -> bool {
        !matches!(self, Seam::Succession)
    }
}

impl fmt::Display for Seam {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Seam::Succession => formatter.write_str("the same recorder's next file"),
            Seam::Exact { offset_ns, error_ns, equal_frames } => {
                let (offset, error) = (Seconds(offset_ns.unsigned_abs()), Seconds(error_ns));
                let side = if offset_ns < 0 { "behind" } else { "ahead of" };
                write!(
                    formatter,
                    "exact to the frame: {equal_frames} equal on both sides, the live recorder's clock {offset} \
                     {side} the card's (±{error})"
                )
            }
            Seam::Approximate { uncertainty_ns } => {
                let uncertainty = Seconds(uncertainty_ns);
                write!(formatter, "approximate: placed by clocks that may be {uncertainty} apart")
            }
        }
    }
}

/// Nanoseconds, as a person reads them.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0 / 1_000;
        write!(formatter, "{}.{:04} s", micros / 1_000_000, micros % 1_000_000 / 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seam_says_in_words_how_it_was_found() {
        let exact = Seam::Exact { offset_ns: -1_203_400_000, error_ns: 400_000, equal_frames: 27 };
        assert_eq!(
            exact.to_string(),
            "exact to the frame: 27 equal on both sides, the live recorder's clock 1.2034 s behind the card's \
             (±0.0004 s)"
        );
        let approximate = Seam::Approximate { uncertainty_ns: 1_500_000_000 };
        assert_eq!(
            approximate.to_string(),
            "approximate: placed by clocks that may be 1.5000 s apart"
        );
    }

    #[test]
    fn a_seam_survives_json() {
        let exact = Seam::Exact { offset_ns: 7, error_ns: 1, equal_frames: 3 };
        for seam in [Seam::Succession, exact, Seam::Approximate { uncertainty_ns: 1 }] {
            let json = serde_json::to_value(seam).unwrap();
            assert!(json["seam"].is_string(), "{json}");
            assert_eq!(serde_json::from_value::<Seam>(json).unwrap(), seam);
        }
    }
}
