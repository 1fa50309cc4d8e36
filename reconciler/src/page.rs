//! The page: what a person sees of all this in a browser.
//!
//! Its files lie in `reconciler/page` and are part of the program: nothing is built, nothing is fetched from
//! elsewhere. They hold nothing secret and are given to anyone; what they show, they ask of the [API](crate::api),
//! which knows who may see it.

use axum::Router;
use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::api::{Kind, Problem};

struct File {
    name: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! files {
    ($($name:literal: $media_type:expr),* $(,)?) => {
        [$(File {
            name: $name,
            media_type: $media_type,
            bytes: include_bytes!(concat!("../page/", $name)),
        }),*]
    };
}

const FILES: [File; 21] = files! {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "access.js": SCRIPT,
    "device.js": SCRIPT,
    "dom.js": SCRIPT,
    "fleet.js": SCRIPT,
    "gestures.js": SCRIPT,
    "help.js": SCRIPT,
    "jobs.js": SCRIPT,
    "login.js": SCRIPT,
    "main.js": SCRIPT,
    "places.js": SCRIPT,
    "player.js": SCRIPT,
    "policies.js": SCRIPT,
    "runs.js": SCRIPT,
    "selection.js": SCRIPT,
    "server.js": SCRIPT,
    "states.js": SCRIPT,
    "time.js": SCRIPT,
    "timeline.js": SCRIPT,
};

/// The page at `/`, and its files beside it.
pub fn router() -> Router {
    Router::new().route("/", get(async |headers: HeaderMap| answer("index.html", &headers))).route(
        "/{file}",
        get(async |Path(name): Path<String>, headers: HeaderMap| answer(&name, &headers)),
    )
}

fn answer(name: &str, asked: &HeaderMap) -> Response {
    let Some(file) = FILES.iter().find(|file| file.name == name) else {
        return Problem::new(Kind::Unknown, "nothing is served at this path").into_response();
    };
    let tag = format!("\"{}\"", &blake3::hash(file.bytes).to_hex()[..16]);
    // A new version of the program is seen at once, an old one costs a few bytes.
    let headers =
        [(CACHE_CONTROL, "no-cache"), (ETAG, tag.as_str()), (CONTENT_TYPE, file.media_type)];
    let known = asked.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    match known {
        true => (StatusCode::NOT_MODIFIED, headers).into_response(),
        false => (headers, file.bytes).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    fn named(text: &str, before: &str, after: char) -> Vec<String> {
        let parts = text.split(before).skip(1);
        parts.filter_map(|part| Some(part.split_once(after)?.0.to_owned())).collect()
    }

    #[test]
    fn all_that_lies_in_the_folder_is_served_and_all_that_is_referred_to_is_there() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let there: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let served: BTreeSet<String> = FILES.iter().map(|file| file.name.to_owned()).collect();
        assert_eq!(served, there);
        for file in &FILES {
            let text = std::str::from_utf8(file.bytes).unwrap();
            let imports = named(text, "from './", '\'');
            let links =
                named(text, "href=\"", '"').into_iter().filter(|link| !link.starts_with('#'));
            for wanted in imports.into_iter().chain(links).chain(named(text, "src=\"", '"')) {
                assert!(served.contains(&wanted), "{} refers to {wanted}", file.name);
            }
        }
    }

    #[tokio::test]
    async fn what_the_browser_has_already_is_not_sent_again() {
        let get = async |path: &str, tag: Option<&str>| {
            let mut request = Request::get(path);
            if let Some(tag) = tag {
                request = request.header(IF_NONE_MATCH, tag);
            }
            router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
        };
        let first = get("/", None).await;
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        let tag = first.headers()[ETAG].to_str().unwrap().to_owned();
        assert_eq!(get("/index.html", Some(&tag)).await.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(get("/main.js", Some(&tag)).await.status(), StatusCode::OK);
        assert_eq!(get("/secret.js", None).await.status(), StatusCode::NOT_FOUND);
    }
}
