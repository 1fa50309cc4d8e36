//! The demo, and its page while the story is going on.

use std::path::Path;
use std::time::Duration;

use tests::browser::Browser;
use tests::process::Process;

use crate::url_in;

const DEADLINE: Duration = Duration::from_secs(90);
/// An open stretch of the archive's lane.
const OPEN: &str = "[...document.querySelectorAll('.stretch')]\
    .some((it) => ['missing', 'pending', 'transferring'].includes(it.dataset.state))";

#[tokio::test]
async fn the_demos_hole_turns_from_missing_to_archived_on_the_open_page() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Path::new(env!("CARGO_BIN_EXE_gapless-demo"));
    let place = folder.path().join("demo").display().to_string();
    let arguments = ["--before", "8s", "--tunnel", "12s", "--folder", &place];
    let mut demo = Process::spawn(demo, arguments, &folder.path().join("demo.log")).unwrap();
    let url = url_in(&demo.line("http://", DEADLINE).await.unwrap());

    let browser = Browser::open(folder.path(), 1200, 900).await.unwrap();
    browser.goto(&url).await.unwrap();
    browser.finds("[data-device='camera-1'] a").await.unwrap();
    browser.value("globalThis.loaded = 'once'").await.unwrap();
    browser.click("[data-device='camera-1'] a").await.unwrap();
    browser.finds(".stretch[data-state='live']").await.unwrap();
    browser.sees("the hole", OPEN).await.unwrap();
    browser
        .sees("its row", "document.querySelector('#holes tr[data-state]') !== null")
        .await
        .unwrap();
    let filled =
        format!("document.querySelector(\".stretch[data-state='edge']\") !== null && !({OPEN})");
    browser.sees("the hole is filled", &filled).await.unwrap();
    assert_eq!(browser.value("globalThis.loaded").await.unwrap(), "once", "it was loaded anew");
    demo.line("Whole again", DEADLINE).await.unwrap();
}
