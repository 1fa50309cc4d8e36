//! What the rig's recorders call their segments.
//!
//! Written with jiff alone and not with the indexer's templates: the names are the tests' ground truth,
//! and must not follow a mistake of what they test.

use std::path::PathBuf;

use sdcard_indexer::time::Timestamp;

/// A recorder's naming scheme, in UTC. Names that carry microseconds are exact.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Naming {
    /// MediaMTX's default, flat: `2026-11-23_10-00-00-000000.mp4`.
    MediaMtx,
    /// The same name under directories of day and hour: `2026-11-23/10/2026-11-23_10-00-00-000000.mp4`.
    DayHour,
    /// ffmpeg's `-strftime`, which cuts off the fraction of the second: `2026-11-23_10-00-00.mp4`.
    WholeSeconds,
}

impl Naming {
    /// Path of the segment that starts at `start`, relative to its stream's root.
    pub fn path(self, start: Timestamp) -> PathBuf {
        let pattern = match self {
            Naming::MediaMtx => "%Y-%m-%d_%H-%M-%S-%6f.mp4",
            Naming::DayHour => "%Y-%m-%d/%H/%Y-%m-%d_%H-%M-%S-%6f.mp4",
            Naming::WholeSeconds => "%Y-%m-%d_%H-%M-%S.mp4",
        };
        start.to_jiff().strftime(pattern).to_string().into()
    }

    /// The scheme as a naming template of Gapless' configuration, whatever the container.
    pub const fn template(self) -> &'static str {
        match self {
            Naming::MediaMtx => "%Y-%m-%d_%H-%M-%S-%f.{mp4|ts|mkv}",
            Naming::DayHour => "%Y-%m-%d/%H/%Y-%m-%d_%H-%M-%S-%f.{mp4|ts|mkv}",
            Naming::WholeSeconds => "%Y-%m-%d_%H-%M-%S.{mp4|ts|mkv}",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn names_carry_utc_to_the_microsecond_or_the_second() {
        let start: Timestamp = "2026-11-23T10:00:07.25+02:00".parse().unwrap();
        assert_eq!(Naming::MediaMtx.path(start), Path::new("2026-11-23_08-00-07-250000.mp4"));
        assert_eq!(
            Naming::DayHour.path(start),
            Path::new("2026-11-23/08/2026-11-23_08-00-07-250000.mp4")
        );
        assert_eq!(Naming::WholeSeconds.path(start), Path::new("2026-11-23_08-00-07.mp4"));
    }
}
