//! The page in a real Chromium: what a person sees and does there, against the real server.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

#[path = "../tunnel/scene.rs"]
#[allow(dead_code, reason = "shared with the tunnel's tests, which use all of it")]
mod scene;

mod access;
mod by_hand;
mod story;

/// The address in what a program says.
fn url_in(said: &str) -> String {
    let begin = said.find("http://").unwrap();
    let end = |it: char| it.is_whitespace() || it == '"' || it == ',';
    said[begin..].split(end).next().unwrap().to_owned()
}
