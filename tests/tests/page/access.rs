//! Who may see and do what, in the browser: log-in, roles, and pages of other sites.

use serde_json::json;
use tests::browser::Browser;
use tests::installation::{DEVICE, Installation, STREAM, Setup, amend};
use tests::link::Shape;
use tests::naming::Naming;

use crate::scene::DEADLINE;
use crate::url_in;

/// What the first start prints, once.
const PASSWORD: &str = "password";

#[tokio::test]
async fn a_person_logs_in_as_the_first_start_says_and_a_viewer_can_pull_nothing() {
    let expected_from = "2026-11-23T10:00:00Z".parse().unwrap();
    let setup = Setup { naming: Naming::MediaMtx, link: Shape::CLEAR, expected_from };
    let installation = Installation::set_up(&setup).await.unwrap();
    amend(&installation.server_config(), "[http]\nlisten = \"127.0.0.1:0\"").unwrap();
    let mut server = installation.start_server().unwrap();
    let url = url_in(&server.line("Log in at http://", DEADLINE).await.unwrap());
    let said = server.line(PASSWORD, DEADLINE).await.unwrap();
    let password = said.split_whitespace().last().unwrap().to_owned();

    let browser = Browser::open(&installation.root("."), 1000, 800).await.unwrap();
    browser.goto(&url).await.unwrap();
    log_in(&browser, "admin", "not the password").await;
    browser
        .sees("the refusal", "document.querySelector('.login .refused').textContent !== ''")
        .await
        .unwrap();
    log_in(&browser, "admin", &password).await;
    browser
        .sees("the cameras", "document.querySelector('h1').textContent === 'Cameras'")
        .await
        .unwrap();
    assert!(browser.text("#who").await.unwrap().contains("admin"));

    browser.goto(&format!("{url}#/access")).await.unwrap();
    browser.write("form.inline input[placeholder='name']", "vera").await.unwrap();
    browser.write("form.inline input[type='password']", "a long enough one").await.unwrap();
    browser.press("Add").await.unwrap();
    browser
        .sees("the new user", "document.querySelector('table').textContent.includes('vera')")
        .await
        .unwrap();
    assert!(browser.text("main").await.unwrap().contains("add user"), "the audit log tells it");

    // What a page of another site could do with the cookie alone.
    let job =
        json!({ "device": DEVICE, "from": "2026-11-23T10:00:00Z", "to": "2026-11-23T10:01:00Z" });
    assert_eq!(post(&browser, &job, "{}").await, 403);

    browser.press("Log out").await.unwrap();
    log_in(&browser, "vera", "a long enough one").await;
    browser
        .sees("the cameras", "document.querySelector('h1')?.textContent === 'Cameras'")
        .await
        .unwrap();
    assert!(!browser.text("#places").await.unwrap().contains("Access"));
    browser.goto(&format!("{url}#/device/{DEVICE}/{STREAM}")).await.unwrap();
    browser
        .sees("what is missing", "document.querySelector('#holes tr[data-state]') !== null")
        .await
        .unwrap();
    assert_eq!(browser.value("[...document.querySelectorAll('button')].filter((it) => it.textContent === 'Get it').length").await.unwrap(), 0);
    let csrf = browser.value("(await (await fetch('/api/v1/session')).json()).csrf").await.unwrap();
    let with_csrf = json!({ "X-CSRF-Token": csrf }).to_string();
    assert_eq!(post(&browser, &job, &with_csrf).await, 403, "her role does not allow it");
}

async fn log_in(browser: &Browser, name: &str, password: &str) {
    browser.write("input[name='name']", name).await.unwrap();
    browser.write("input[name='password']", password).await.unwrap();
    browser.press("Log in").await.unwrap();
}

/// A job, asked for by a script; answers the status.
async fn post(browser: &Browser, job: &serde_json::Value, headers: &str) -> serde_json::Value {
    let script = format!(
        "(await fetch('/api/v1/jobs', {{ method: 'POST', body: {}, \
         headers: {{ 'Content-Type': 'application/json', ...{headers} }} }})).status",
        json!(job.to_string())
    );
    browser.value(&script).await.unwrap()
}
