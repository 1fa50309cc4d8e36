//! What a caller may do: look, pull, or change how things are.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Each may what those before it may.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees states, plays and exports footage.
    View,
    /// Also has footage pulled, and cancels that.
    Pull,
    /// Also changes policies, ends runs, and says who may do what.
    Admin,
}

impl Role {
    pub const ALL: [Role; 3] = [Role::View, Role::Pull, Role::Admin];

    /// The word for it, as in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Role::View => "view",
            Role::Pull => "pull",
            Role::Admin => "admin",
        }
    }

    /// Whether whoever has this may what needs `needed`.
    pub fn may(self, needed: Role) -> bool {
        self >= needed
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no role: use view, pull or admin")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Role, UnknownRole> {
        let known = Role::ALL.into_iter().find(|role| role.word() == text);
        known.ok_or_else(|| UnknownRole(text.chars().take(32).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_what_those_before_it_may_and_no_more() {
        let may = |role: Role| Role::ALL.map(|needed| role.may(needed));
        assert_eq!(may(Role::View), [true, false, false]);
        assert_eq!(may(Role::Pull), [true, true, false]);
        assert_eq!(may(Role::Admin), [true, true, true]);
    }

    #[test]
    fn a_role_is_read_as_it_is_written() {
        for role in Role::ALL {
            assert_eq!(role.word().parse(), Ok(role));
            assert_eq!(serde_json::to_string(&role).unwrap(), format!("\"{role}\""));
        }
        assert!("root".parse::<Role>().unwrap_err().to_string().contains("view, pull or admin"));
    }
}
