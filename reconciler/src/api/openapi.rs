//! The API's description of itself (OpenAPI 3.1), made from the handlers and their types.
//!
//! It is the same in every process: `gapless openapi` prints it, `GET /api/v1/openapi.json` gives it out, and
//! `openapi.json` in the source is held equal to it, so that a change of the API is seen for what it is.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use utoipa::IntoResponses;
use utoipa::openapi::schema::{Schema, SchemaType, Type};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref,
    RefOr, Response as Answer, ResponseBuilder,
};
use utoipa_axum::router::OpenApiRouter;

use super::{Problem, view};

/// The whole description.
pub fn document() -> OpenApi {
    let license =
        LicenseBuilder::new().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0"));
    let info = InfoBuilder::new()
        .title("Gapless")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "What a recording-completion server knows and does: whose recordings are whole, what is missing and \
             why, what is being pulled. Instants are RFC 3339, lengths are seconds and end in `_s`. What is \
             refused is answered with problem details (RFC 9457).",
        ))
        .license(Some(license.build()))
        .build();
    let told = ComponentsBuilder::new()
        .schema_from::<Problem>()
        .schema_from::<view::DeviceNews>()
        .schema_from::<view::TimelineNews>()
        .schema_from::<view::ProgressNews>()
        .schema_from::<view::MergedNews>()
        .schema_from::<view::JobNews>()
        .schema_from::<view::RunNews>()
        .schema_from::<view::RiskNews>()
        .schema_from::<view::PolicyNews>();
    let base = OpenApiBuilder::new().info(info).components(Some(told.build())).build();
    let routes = OpenApiRouter::with_openapi(base).merge(super::routes()).merge(super::probes());
    let mut document = routes.into_openapi();
    mend(&mut document);
    document
}

/// As it is committed: one key a line.
pub fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let mut text = document().to_pretty_json().expect("a description is plain values");
        text.push('\n');
        text
    })
}

/// What is derived says of two things more than is meant: a parameter that may be left out is not one that may be
/// `null`, and an object that is read strictly may be part of a larger one.
fn mend(document: &mut OpenApi) {
    let operations = document.paths.paths.values_mut().flat_map(|item| {
        [&mut item.get, &mut item.post, &mut item.put, &mut item.delete].into_iter().flatten()
    });
    for parameter in operations.flat_map(|operation| operation.parameters.iter_mut().flatten()) {
        if let Some(schema) = &mut parameter.schema {
            never_null(schema);
        }
    }
    let schemas = document.components.iter_mut().flat_map(|components| &mut components.schemas);
    for (name, schema) in schemas {
        if name == "PolicyFields"
            && let RefOr::T(Schema::Object(object)) = schema
        {
            object.additional_properties = None;
        }
    }
}

fn never_null(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            if let SchemaType::Array(types) = &mut object.schema_type {
                types.retain(|one| *one != Type::Null);
                if let [only] = types.as_slice() {
                    object.schema_type = SchemaType::Type(only.clone());
                }
            }
        }
        RefOr::T(Schema::OneOf(one_of)) => {
            let is_null = |item: &RefOr<Schema>| {
                matches!(item, RefOr::T(Schema::Object(object))
                    if object.schema_type == SchemaType::Type(Type::Null))
            };
            one_of.items.retain(|item| !is_null(item));
            if let [only] = one_of.items.as_slice() {
                *schema = only.clone();
            }
        }
        _ => {}
    }
}

fn problem(description: &str) -> RefOr<Answer> {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let answer = ResponseBuilder::new().description(description);
    answer.content("application/problem+json", content).build().into()
}

/// Kinds of refusals, for the descriptions of handlers.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident: $($status:literal $description:literal),+;)+) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub(super) enum $name {}

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Answer>> {
                    [$(($status.to_owned(), problem($description))),+].into()
                }
            }
        )+
    };
}

refusals! {
    /// Of every handler: whatever else may go wrong.
    Otherwise: "default" "The server cannot do this now: it is busy, ending, or has failed";
    Unknown: "404" "There is no such thing";
    Invalid: "422" "A parameter makes no sense; `detail` names it";
    Conflict: "409" "It is in a state in which this cannot be done";
    TooMany: "429" "There are too many already";
    NotLoggedIn: "401" "Nobody is logged in, or name or password is wrong";
    NotAllowed: "403" "A page of another site sent this, or X-CSRF-Token is missing or another one";
    /// Of what plays or exports a range.
    Footage: "404" "No such stream, or nothing archived there; says what is near",
        "409" "The recordings cannot be played, or not in one file",
        "422" "No instant, no range, or one that is too long",
        "503" "Later it will go";
    /// Of what a playlist leads to.
    NoSuchEdition: "404" "The archive has no such edition of the range any more",
        "409" "The recordings cannot be played",
        "503" "Later it will go";
    NoSuchBytes: "416" "There are no such bytes";
    /// Of what comes with a request.
    Unreadable: "400" "The body is no JSON",
        "413" "The body is too large",
        "415" "The body is not called application/json";
}

/// This description
#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    tag = "server",
    responses((status = 200, description = "OpenAPI 3.1", body = Object), Otherwise)
)]
pub(super) async fn openapi() -> Response {
    let mut response = text().into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
