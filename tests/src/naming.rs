//! What the rig's recorders call their segments.
//!
//! Written with jiff alone and not with the indexer's templates: the names are the tests' ground truth,
//! and must not follow a mistake of what they test.

use std::path::PathBuf;

use sdcard_indexer::time::Timestamp;

/// A recorder's naming scheme. Names are in UTC and carry microseconds, so they are exact.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Naming {
    /// MediaMTX's default, flat: `2026-11-23_10-00-00-000000.mp4`.
    MediaMtx,
    /// The same name under directories of day and hour: `2026-11-23/10/2026-11-23_10-00-00-000000.mp4`.
    DayHour,
}

impl Naming {
    /// Path of the segment that starts at `start`, relative to its stream's root.
    pub fn path(self, start: Timestamp) -> PathBuf {
        let pattern = match self {
            Naming::MediaMtx => "%Y-%m-%d_%H-%M-%S-%6f.mp4",
            Naming::DayHour => "%Y-%m-%d/%H/%Y-%m-%d_%H-%M-%S-%6f.mp4",
        };
        start.to_jiff().strftime(pattern).to_string().into()
    }

    /// The scheme as a naming template of Gapless' configuration, whatever the container.
    pub const fn template(self) -> &'static str {
        match self {
            Naming::MediaMtx => "%Y-%m-%d_%H-%M-%S-%f.{mp4|ts|mkv}",
            Naming::DayHour => "%Y-%m-%d/%H/%Y-%m-%d_%H-%M-%S-%f.{mp4|ts|mkv}",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn names_carry_utc_to_the_microsecond() {
        let start: Timestamp = "2026-11-23T10:00:07.25+02:00".parse().unwrap();
        assert_eq!(Naming::MediaMtx.path(start), Path::new("2026-11-23_08-00-07-250000.mp4"));
        assert_eq!(
            Naming::DayHour.path(start),
            Path::new("2026-11-23/08/2026-11-23_08-00-07-250000.mp4")
        );
    }
}
