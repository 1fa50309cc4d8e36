//! The forms that texts have in JSON, for the API's description of itself: one name for each, and its pattern.
//!
//! No values: each stands for a type of ours that reads and writes itself as such a text.

use std::borrow::Cow;

use utoipa::openapi::schema::{KnownFormat, Object, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::policy::WeeklyHours;

/// Of devices, streams, policies, groups: 1 to 64 letters, digits, `_` or `-`.
#[derive(Debug)]
pub enum Id {}

/// An instant: RFC 3339 with an offset, such as `2026-11-23T10:00:00Z`.
#[derive(Debug)]
pub enum Instant {}

/// A job by its number, such as `j12`.
#[derive(Debug)]
pub enum JobNumber {}

/// A run by its number, such as `r7`.
#[derive(Debug)]
pub enum RunNumber {}

fn text(description: &str, example: &str) -> ObjectBuilder {
    let object = ObjectBuilder::new().schema_type(Type::String);
    object.description(Some(description)).examples([example])
}

fn numbered(description: &str, letter: char) -> Object {
    text(description, &format!("{letter}7"))
        .pattern(Some(format!("^{letter}[0-9]{{1,18}}$")))
        .build()
}

impl PartialSchema for Id {
    fn schema() -> RefOr<Schema> {
        let form = text("1 to 64 letters, digits, `_` or `-`", "cam-entrance");
        form.pattern(Some("^[A-Za-z0-9_-]{1,64}$")).build().into()
    }
}

impl PartialSchema for Instant {
    fn schema() -> RefOr<Schema> {
        let form = text("An instant, with an offset; answers are in UTC", "2026-11-23T10:00:00Z");
        form.format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).build().into()
    }
}

impl PartialSchema for JobNumber {
    fn schema() -> RefOr<Schema> {
        numbered("A job by its number", 'j').into()
    }
}

impl PartialSchema for RunNumber {
    fn schema() -> RefOr<Schema> {
        numbered("A run by its number", 'r').into()
    }
}

/// Lines such as `Mon-Fri 06:00-22:00`.
impl PartialSchema for WeeklyHours {
    fn schema() -> RefOr<Schema> {
        Vec::<String>::schema()
    }
}

impl ToSchema for WeeklyHours {
    fn name() -> Cow<'static, str> {
        "WeeklyHours".into()
    }
}

impl ToSchema for Id {
    fn name() -> Cow<'static, str> {
        "Id".into()
    }
}

impl ToSchema for Instant {
    fn name() -> Cow<'static, str> {
        "Instant".into()
    }
}

impl ToSchema for JobNumber {
    fn name() -> Cow<'static, str> {
        "JobNumber".into()
    }
}

impl ToSchema for RunNumber {
    fn name() -> Cow<'static, str> {
        "RunNumber".into()
    }
}
