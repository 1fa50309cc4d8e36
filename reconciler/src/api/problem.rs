//! Problem details (RFC 9457): why a request was refused, for programs by kind and for people in words.

use std::fmt;

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use sdcard_indexer::readable::explain;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::{AccountError, PasswordError};
use crate::ledger::LedgerError;
use crate::order::OrderError;
use crate::policy::PolicyError;

const RETRY_AFTER_S: &str = "5";

/// What went wrong, as a program can tell it apart: the end of [`Problem::kind`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// What was asked about is not there.
    Unknown,
    Method,
    /// Nobody knows who asks.
    Unidentified,
    /// Who asks may not.
    Forbidden,
    /// It is in a state in which this cannot be done.
    Conflict,
    /// What was asked makes no sense; `detail` names the field.
    Invalid,
    /// What was sent is no JSON, too large, or called something else; by its own status.
    Unreadable(StatusCode),
    /// There are too many of these already.
    TooMany,
    /// Later it will go.
    Busy,
    TimedOut,
    /// The server's own fault.
    Failed,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Kind::Unknown => "unknown",
            Kind::Method => "method",
            Kind::Unidentified => "unidentified",
            Kind::Forbidden => "forbidden",
            Kind::Conflict => "conflict",
            Kind::Invalid => "invalid",
            Kind::Unreadable(_) => "unreadable",
            Kind::TooMany => "too-many",
            Kind::Busy => "busy",
            Kind::TimedOut => "timed-out",
            Kind::Failed => "failed",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Kind::Unknown => "There is no such thing",
            Kind::Method => "This cannot be done with it",
            Kind::Unidentified => "You have not said who you are",
            Kind::Forbidden => "You may not do this",
            Kind::Conflict => "It is in a state in which this cannot be done",
            Kind::Invalid => "What was asked makes no sense",
            Kind::Unreadable(_) => "What was sent cannot be read",
            Kind::TooMany => "There are too many already",
            Kind::Busy => "The server cannot do this now",
            Kind::TimedOut => "It took too long",
            Kind::Failed => "The server failed",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Kind::Unknown => StatusCode::NOT_FOUND,
            Kind::Method => StatusCode::METHOD_NOT_ALLOWED,
            Kind::Unidentified => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::Unreadable(status) => status,
            Kind::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Kind::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Kind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Kind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// As it is sent: `application/problem+json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:gapless:problem:` and a word.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    /// What was tried, on what, why it failed and what to do.
    pub detail: String,
}

impl Problem {
    pub fn new(kind: Kind, detail: impl fmt::Display) -> Problem {
        Problem {
            kind: format!("urn:gapless:problem:{}", kind.word()),
            title: kind.title().to_owned(),
            status: kind.status().as_u16(),
            detail: detail.to_string(),
        }
    }

    fn unreadable(status: StatusCode, detail: String) -> Problem {
        let kind = match status {
            StatusCode::UNPROCESSABLE_ENTITY => Kind::Invalid,
            status => Kind::Unreadable(status),
        };
        Problem::new(kind, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        if status == StatusCode::UNAUTHORIZED {
            // Not `Basic`: browsers would ask by themselves, and send it from then on.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"gapless\""));
        }
        response
    }
}

impl From<OrderError> for Problem {
    fn from(error: OrderError) -> Problem {
        let kind = match &error {
            OrderError::UnknownDevice { .. }
            | OrderError::UnknownStream { .. }
            | OrderError::UnknownJob(_)
            | OrderError::UnknownRun(_)
            | OrderError::Policy(PolicyError::Unknown(_)) => Kind::Unknown,
            OrderError::JobEnded { .. }
            | OrderError::ManualForbidden(_)
            | OrderError::Policy(
                PolicyError::InFile(_) | PolicyError::BuiltIn(_) | PolicyError::TooMany,
            ) => Kind::Conflict,
            OrderError::EmptyRange
            | OrderError::ShortRange(_)
            | OrderError::FutureRange(_)
            | OrderError::DeadlineOver(_)
            | OrderError::Policy(_) => Kind::Invalid,
            OrderError::TooManyJobs(_) => Kind::TooMany,
            OrderError::TooManySearches(_) | OrderError::Ending => Kind::Busy,
        };
        Problem::new(kind, error)
    }
}

impl From<AccountError> for Problem {
    fn from(error: AccountError) -> Problem {
        let kind = match error {
            AccountError::Unknown { .. } => Kind::Unknown,
            AccountError::Taken { .. } | AccountError::LastAdmin(_) | AccountError::NoUser => {
                Kind::Conflict
            }
            AccountError::TooMany => Kind::TooMany,
            AccountError::Expired(_) | AccountError::WrongPassword => Kind::Invalid,
            AccountError::Password(PasswordError::Unhashed(_)) => Kind::Failed,
            AccountError::Password(_) => Kind::Invalid,
            AccountError::Ledger(error) => return error.into(),
            AccountError::Busy => Kind::Busy,
        };
        Problem::new(kind, error)
    }
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Problem {
        tracing::error!(error = explain(&error), "the API cannot read the ledger");
        Problem::new(Kind::Failed, explain(&error))
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Problem {
        Problem::unreadable(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Problem {
        Problem::new(Kind::Invalid, rejection.body_text())
    }
}

/// An id that can be none is not there.
impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Problem {
        Problem::new(Kind::Unknown, rejection.body_text())
    }
}
