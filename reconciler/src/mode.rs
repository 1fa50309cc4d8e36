//! The three modes, which share one path: only what calls for the footage differs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What called for footage. The later ones go first.
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
pub enum Mode {
    /// A run of a policy, at the time that was set for it.
    Scheduled,
    /// The gap itself, as soon as it can be filled.
    Online,
    /// A person.
    Manual,
}

impl Mode {
    /// Those that go first come first.
    pub const ALL: [Mode; 3] = [Mode::Manual, Mode::Online, Mode::Scheduled];

    /// The word for it, as in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Mode::Scheduled => "scheduled",
            Mode::Online => "online",
            Mode::Manual => "manual",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}
