//! Users, tokens and the audit log: for admins.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use protocol::message::DeviceId;
use sdcard_indexer::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use super::openapi::{Conflict, Invalid, Otherwise, TooMany, Unknown};
use super::paging::{Limits, Page, strange};
use super::{Asked, Problem};
use crate::access::{
    self, Access, AccountName, Action, AuditEntry, AuditQuery, Caller, Confidential, Role, Subject,
    audited, require,
};
use crate::rfc3339;
use crate::schema::Instant;

const ACCOUNTS: Limits = Limits { default: 100, most: 1_000 };
const ENTRIES: Limits = Limits { default: 100, most: 1_000 };

/// A user, without the password.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct User {
    #[schema(value_type = String)]
    pub name: AccountName,
    pub role: Role,
    #[serde(with = "rfc3339")]
    #[schema(value_type = Instant)]
    pub created: Timestamp,
    /// Where the server has made one up: it is told this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub password: Option<Confidential>,
}

/// A user to make.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// 1 to 64 letters, digits, `_` or `-`.
    #[schema(value_type = String, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub name: AccountName,
    pub role: Role,
    /// The server makes one up where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub password: Option<Confidential>,
}

/// What a user may from now on.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRole {
    pub role: Role,
}

/// A user's new password.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    /// The server makes one up where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub password: Option<Confidential>,
}

/// A token, without what its bearer sends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Token {
    #[schema(value_type = String)]
    pub name: AccountName,
    pub role: Role,
    #[serde(with = "rfc3339")]
    #[schema(value_type = Instant)]
    pub created: Timestamp,
    pub created_by: String,
    #[serde(with = "rfc3339::optional")]
    #[schema(value_type = Option<Instant>, required)]
    pub expires: Option<Timestamp>,
    /// To within an hour.
    #[serde(with = "rfc3339::optional")]
    #[schema(value_type = Option<Instant>, required)]
    pub last_used: Option<Timestamp>,
    /// What its bearer sends as `Authorization: Bearer …`: it is told this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub token: Option<Confidential>,
}

/// A token to make.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// 1 to 64 letters, digits, `_` or `-`.
    #[schema(value_type = String, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub name: AccountName,
    pub role: Role,
    /// Never, where this is left out.
    #[serde(default, with = "rfc3339::optional", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Instant>)]
    pub expires: Option<Timestamp>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AccountListing {
    /// How many at most
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    limit: Option<usize>,
    /// Behind this one: what `next` said
    #[param(value_type = Option<String>)]
    after: Option<AccountName>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditListing {
    /// How many at most
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    limit: Option<usize>,
    /// Older than this one: what `next` said
    #[param(value_type = Option<String>)]
    after: Option<String>,
    /// Only what was done to this device
    #[param(value_type = Option<String>)]
    device: Option<DeviceId>,
    /// Only what this user or token has done
    who: Option<String>,
}

pub(super) fn routes() -> OpenApiRouter<Asked> {
    OpenApiRouter::new()
        .routes(routes!(users))
        .routes(routes!(add_user).layer(audited(Action::AddUser)))
        .routes(routes!(remove_user).layer(audited(Action::RemoveUser)))
        .routes(routes!(change_role).layer(audited(Action::ChangeRole)))
        .routes(routes!(set_password).layer(audited(Action::ChangePassword)))
        .routes(routes!(tokens))
        .routes(routes!(add_token).layer(audited(Action::AddToken)))
        .routes(routes!(remove_token).layer(audited(Action::RemoveToken)))
        .routes(routes!(audit).layer(audited(Action::ReadAudit)))
        .route_layer(require(Role::Admin))
}

/// All users, by name
#[utoipa::path(
    get,
    path = "/api/v1/users",
    tag = "access",
    params(AccountListing),
    responses((status = 200, description = "A page of them", body = Page<User>), Otherwise),
)]
pub async fn users(
    State(access): State<Access>,
    query: Result<Query<AccountListing>, QueryRejection>,
) -> Result<Json<Page<User>>, Problem> {
    let Query(AccountListing { limit, after }) = query?;
    let limit = ACCOUNTS.choose(limit)?;
    let behind = |user: &access::User| after.as_ref().is_none_or(|after| user.name > *after);
    let users = access.users().into_iter().filter(behind).take(limit + 1).map(User::from);
    Ok(Json(Page::of(users.collect(), limit, |user| user.name.to_string())))
}

/// Make a user
#[utoipa::path(
    post,
    path = "/api/v1/users",
    tag = "access",
    request_body = NewUser,
    responses(
        (status = 201, description = "Made", body = User),
        Conflict,
        Invalid,
        TooMany,
        Otherwise,
    )
)]
pub async fn add_user(
    State(access): State<Access>,
    body: Result<Json<NewUser>, JsonRejection>,
) -> Result<(StatusCode, Extension<Subject>, Json<User>), Problem> {
    let Json(NewUser { name, role, password }) = body?;
    let made = access.add_user(name, role, password).await?;
    let subject = Subject::named(format_args!("{} ({role})", made.user.name));
    Ok((StatusCode::CREATED, Extension(subject), Json(made.into())))
}

/// Say what a user may
#[utoipa::path(
    put,
    path = "/api/v1/users/{name}/role",
    tag = "access",
    params(("name" = String, Path, description = "The user's")),
    request_body = NewRole,
    responses(
        (status = 200, description = "Changed", body = User),
        Unknown,
        Conflict,
        Otherwise,
    )
)]
pub async fn change_role(
    State(access): State<Access>,
    name: Result<Path<AccountName>, PathRejection>,
    body: Result<Json<NewRole>, JsonRejection>,
) -> Result<(Extension<Subject>, Json<User>), Problem> {
    let (Path(name), Json(NewRole { role })) = (name?, body?);
    let user = access.change_role(&name, role).await?;
    Ok((Extension(Subject::named(format_args!("{name} ({role})"))), Json(user.into())))
}

/// Give a user another password
///
/// The user is logged out everywhere.
#[utoipa::path(
    put,
    path = "/api/v1/users/{name}/password",
    tag = "access",
    params(("name" = String, Path, description = "The user's")),
    request_body = NewPassword,
    responses(
        (status = 200, description = "Changed", body = User),
        Unknown,
        Invalid,
        Otherwise,
    )
)]
pub async fn set_password(
    State(access): State<Access>,
    name: Result<Path<AccountName>, PathRejection>,
    body: Result<Json<NewPassword>, JsonRejection>,
) -> Result<Json<User>, Problem> {
    let (Path(name), Json(NewPassword { password })) = (name?, body?);
    Ok(Json(access.set_password(&name, password).await?.into()))
}

/// Remove a user
#[utoipa::path(
    delete,
    path = "/api/v1/users/{name}",
    tag = "access",
    params(("name" = String, Path, description = "The user's")),
    responses(
        (status = 200, description = "It was this one", body = User),
        Unknown,
        Conflict,
        Otherwise,
    )
)]
pub async fn remove_user(
    State(access): State<Access>,
    name: Result<Path<AccountName>, PathRejection>,
) -> Result<Json<User>, Problem> {
    let Path(name) = name?;
    Ok(Json(access.remove_user(&name).await?.into()))
}

/// All tokens, by name
#[utoipa::path(
    get,
    path = "/api/v1/tokens",
    tag = "access",
    params(AccountListing),
    responses((status = 200, description = "A page of them", body = Page<Token>), Otherwise),
)]
pub async fn tokens(
    State(access): State<Access>,
    query: Result<Query<AccountListing>, QueryRejection>,
) -> Result<Json<Page<Token>>, Problem> {
    let Query(AccountListing { limit, after }) = query?;
    let limit = ACCOUNTS.choose(limit)?;
    let behind = |token: &access::Token| after.as_ref().is_none_or(|after| token.name > *after);
    let tokens = access.tokens().into_iter().filter(behind).take(limit + 1).map(Token::from);
    Ok(Json(Page::of(tokens.collect(), limit, |token| token.name.to_string())))
}

/// Make a token
#[utoipa::path(
    post,
    path = "/api/v1/tokens",
    tag = "access",
    request_body = NewToken,
    responses(
        (status = 201, description = "Made", body = Token),
        Conflict,
        Invalid,
        TooMany,
        Otherwise,
    )
)]
pub async fn add_token(
    State(access): State<Access>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<NewToken>, JsonRejection>,
) -> Result<(StatusCode, Extension<Subject>, Json<Token>), Problem> {
    let Json(NewToken { name, role, expires }) = body?;
    let made = access.add_token(name, role, expires, caller.name).await?;
    let subject = Subject::named(format_args!("{} ({role})", made.token.name));
    let token =
        Token { token: Some(Confidential(made.secret.reveal().to_owned())), ..made.token.into() };
    Ok((StatusCode::CREATED, Extension(subject), Json(token)))
}

/// Take a token back
#[utoipa::path(
    delete,
    path = "/api/v1/tokens/{name}",
    tag = "access",
    params(("name" = String, Path, description = "The token's")),
    responses(
        (status = 200, description = "It was this one", body = Token),
        Unknown,
        Otherwise,
    )
)]
pub async fn remove_token(
    State(access): State<Access>,
    name: Result<Path<AccountName>, PathRejection>,
) -> Result<Json<Token>, Problem> {
    let Path(name) = name?;
    Ok(Json(access.remove_token(&name).await?.into()))
}

/// Who saw, pulled, exported and changed what, the newest first
#[utoipa::path(
    get,
    path = "/api/v1/audit",
    tag = "access",
    params(AuditListing),
    responses((status = 200, description = "A page of entries", body = Page<AuditEntry>), Otherwise),
)]
pub async fn audit(
    State(access): State<Access>,
    query: Result<Query<AuditListing>, QueryRejection>,
) -> Result<Json<Page<AuditEntry>>, Problem> {
    let Query(AuditListing { limit, after, device, who }) = query?;
    let limit = ENTRIES.choose(limit)?;
    let before = after.map(|after| after.parse().map_err(|_| strange(&after))).transpose()?;
    let query = AuditQuery { before, most: limit + 1, who, device };
    let entries = access.audit_log(&query).await?;
    Ok(Json(Page::of(entries, limit, |entry| entry.id.to_string())))
}

impl From<access::User> for User {
    fn from(user: access::User) -> User {
        let access::User { name, role, created, password_hash: _ } = user;
        User { name, role, created, password: None }
    }
}

impl From<access::NewUser> for User {
    fn from(made: access::NewUser) -> User {
        User { password: made.password, ..made.user.into() }
    }
}

impl From<access::Token> for Token {
    fn from(token: access::Token) -> Token {
        let access::Token { name, role, created, created_by, expires, last_used, digest: _ } =
            token;
        Token { name, role, created, created_by, expires, last_used, token: None }
    }
}
