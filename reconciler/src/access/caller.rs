//! The caller of a request: who it is, what it may, and how it has shown that.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::secret::{Secret, SecretDigest};
use super::{Access, Role};

/// How a caller has shown who it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// A log-in with a password, and the cookie that came of it.
    Session,
    Token,
    /// The Unix socket in the state directory, which only the server's user, and root, can open.
    Socket,
    /// Not at all: it comes from this machine, and the configuration allows that.
    Anonymous,
    /// Not at all, and so it may nothing but try to log in.
    Unknown,
}

impl fmt::Display for Way {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Way::Session => "session",
            Way::Token => "token",
            Way::Socket => "socket",
            Way::Anonymous => "anonymous",
            Way::Unknown => "unknown",
        })
    }
}

/// An extension of every request that reaches a handler behind [`require`](super::require).
#[derive(Clone, Debug)]
pub struct Caller {
    /// Of the user or token; of the socket, the user of the operating system.
    pub name: String,
    pub role: Role,
    pub way: Way,
    /// The address that it calls from; of the socket, `socket`.
    pub from: String,
    pub(super) session: Option<OpenSession>,
    pub(super) access: Access,
}

/// Of a caller that has logged in.
#[derive(Clone, Debug)]
pub(super) struct OpenSession {
    pub key: SecretDigest,
    pub csrf: Secret,
}

impl Caller {
    /// Whoever can open the server's own socket can read its state anyway, and may do everything.
    pub fn on_the_socket(access: &Access, name: String) -> Caller {
        Caller {
            name,
            role: Role::Admin,
            way: Way::Socket,
            from: "socket".to_owned(),
            session: None,
            access: access.clone(),
        }
    }

    /// Its session is open, its token good.
    pub fn is_still_known(&self) -> bool {
        self.access.still_knows(self)
    }

    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    /// What its requests that change something must repeat in `X-CSRF-Token`.
    pub fn csrf(&self) -> Option<&str> {
        self.session.as_ref().map(|session| session.csrf.reveal())
    }

    /// One and the same for as long as it is written down once what it looks at.
    pub(super) fn viewer(&self) -> Viewer {
        Viewer {
            way: self.way,
            name: self.name.clone(),
            from: self.from.clone(),
            session: self.session.as_ref().map(|session| session.key),
        }
    }
}

/// See [`Caller::viewer`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Viewer {
    way: Way,
    name: String,
    from: String,
    session: Option<SecretDigest>,
}

impl Viewer {
    /// A digest does not print itself.
    pub fn session_bytes(&self) -> Option<[u8; 32]> {
        self.session.map(|SecretDigest(bytes)| bytes)
    }
}
