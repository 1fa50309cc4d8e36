//! A real Chromium without a screen, driven by WebDriver: what a person does with the page, and sees of it.
//!
//! Chromium and its driver are children of the test, and end with it. Nothing here knows the page: tests name what they
//! look for by selectors and by words.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use fantoccini::actions::{InputSource, MouseActions, PointerAction, TouchActions};
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::artifacts::tool;
use crate::process::{Process, until};

/// For a browser on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
const MOUSE: &str = "mouse";
const FINGER: &str = "finger";
/// A drag takes its time: some of its way is seen by the page.
const STEP: Duration = Duration::from_millis(40);

/// One window. Dropping it ends the browser.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    _chromium: Process,
    _driver: Process,
    _profile: TempDir,
}

impl Browser {
    /// A window of that size; what the two programs say goes to files in `logs`.
    pub async fn open(logs: &Path, width: u32, height: u32) -> anyhow::Result<Browser> {
        let profile = tempfile::Builder::new().prefix("gapless-browser-").tempdir()?;
        // Run by root where tests are: Chromium then refuses its sandbox. It sees nothing but the page under test.
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--no-first-run".to_owned(),
            "--mute-audio".to_owned(),
            "--autoplay-policy=no-user-gesture-required".to_owned(),
            "--remote-debugging-port=0".to_owned(),
            format!("--window-size={width},{height}"),
            format!("--user-data-dir={}", profile.path().display()),
            "about:blank".to_owned(),
        ];
        let mut chromium =
            Process::spawn(&tool("chromium")?, arguments, &logs.join("chromium.log"))?;
        let listening = chromium.line("DevTools listening on ws://", DEADLINE).await?;
        let debugger = listening.split("ws://").nth(1).and_then(|rest| rest.split('/').next());
        let debugger = debugger.context("Chromium names no port")?;
        let mut driver =
            Process::spawn(&tool("chromedriver")?, ["--port=0"], &logs.join("driver.log"))?;
        let started = driver.line("started successfully on port", DEADLINE).await?;
        let port = started.rsplit("port ").next().context("the driver names no port")?;
        let mut capabilities = serde_json::Map::new();
        capabilities
            .insert("goog:chromeOptions".to_owned(), json!({ "debuggerAddress": debugger }));
        let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{}", port.trim_end_matches('.')))
            .await?;
        Ok(Browser { client, _chromium: chromium, _driver: driver, _profile: profile })
    }

    pub async fn goto(&self, url: &str) -> anyhow::Result<()> {
        Ok(self.client.goto(url).await?)
    }

    /// What an expression is in the page; it may await.
    pub async fn value(&self, expression: &str) -> anyhow::Result<Value> {
        let script = format!(
            "const done = arguments[arguments.length - 1]; \
             (async () => ({expression}))().then(done, (error) => done({{ error: String(error) }}));"
        );
        let value = self.client.execute_async(&script, Vec::new()).await?;
        ensure!(value.get("error").is_none(), "{expression}: {value}");
        Ok(value)
    }

    /// How many elements match.
    pub async fn count(&self, selector: &str) -> anyhow::Result<u64> {
        let count =
            self.value(&format!("document.querySelectorAll({}).length", json!(selector))).await?;
        count.as_u64().context("a length is a number")
    }

    /// What is written there; empty where there is none.
    pub async fn text(&self, selector: &str) -> anyhow::Result<String> {
        let script = format!("document.querySelector({})?.textContent ?? ''", json!(selector));
        Ok(self.value(&script).await?.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until an expression is true.
    pub async fn sees(&self, what: &str, expression: &str) -> anyhow::Result<()> {
        let seen = async || (self.value(expression).await.ok()? == json!(true)).then_some(());
        let outcome = until(what, DEADLINE, seen).await;
        match outcome {
            Ok(()) => Ok(()),
            Err(error) => {
                let page = self.text("body").await.unwrap_or_default();
                Err(error.context(format!("the page says: {page}")))
            }
        }
    }

    /// Waits until something matches.
    pub async fn finds(&self, selector: &str) -> anyhow::Result<()> {
        self.sees(selector, &format!("document.querySelector({}) !== null", json!(selector))).await
    }

    pub async fn click(&self, selector: &str) -> anyhow::Result<()> {
        self.finds(selector).await?;
        Ok(self.client.find(Locator::Css(selector)).await?.click().await?)
    }

    /// Presses the first button with these words.
    pub async fn press(&self, words: &str) -> anyhow::Result<()> {
        let path = format!("//button[normalize-space()={}]", json!(words));
        let button = async || self.client.find(Locator::XPath(&path)).await.ok();
        let button = until(&format!("a button `{words}`"), DEADLINE, button).await?;
        Ok(button.click().await?)
    }

    /// Types into a field, in the place of what it holds.
    pub async fn write(&self, selector: &str, text: &str) -> anyhow::Result<()> {
        self.finds(selector).await?;
        let field = self.client.find(Locator::Css(selector)).await?;
        field.clear().await?;
        Ok(field.send_keys(text).await?)
    }

    /// Types where the page has its focus.
    pub async fn keys(&self, selector: &str, keys: &str) -> anyhow::Result<()> {
        Ok(self.client.find(Locator::Css(selector)).await?.send_keys(keys).await?)
    }

    /// Drags the mouse from one place of the window to the other; the same place twice is a click.
    pub async fn drag(&self, from: (f64, f64), to: (f64, f64)) -> anyhow::Result<()> {
        let place = |(x, y): (f64, f64), duration| PointerAction::MoveTo { duration, x, y };
        let halfway = (f64::midpoint(from.0, to.0), f64::midpoint(from.1, to.1));
        let mouse = MouseActions::new(MOUSE.to_owned())
            .then(place(from, None))
            .then(PointerAction::Down { button: 0 })
            .then(place(halfway, Some(STEP)))
            .then(place(to, Some(STEP)))
            .then(PointerAction::Up { button: 0 });
        Ok(self.client.perform_actions(mouse).await?)
    }

    /// Puts a finger down, leaves it where it is for `rest`, and then moves it.
    pub async fn finger(
        &self,
        from: (f64, f64),
        to: (f64, f64),
        rest: Duration,
    ) -> anyhow::Result<()> {
        let place = |(x, y): (f64, f64), duration| PointerAction::MoveTo { duration, x, y };
        let halfway = (f64::midpoint(from.0, to.0), f64::midpoint(from.1, to.1));
        let finger = TouchActions::new(FINGER.to_owned())
            .then(place(from, None))
            .then(PointerAction::Down { button: 0 })
            .then(PointerAction::Pause { duration: rest })
            .then(place(halfway, Some(STEP)))
            .then(place(to, Some(STEP)))
            .then(PointerAction::Up { button: 0 });
        Ok(self.client.perform_actions(finger).await?)
    }

    /// What an element covers of the window: left, top, width, height.
    pub async fn place(&self, selector: &str) -> anyhow::Result<[f64; 4]> {
        let of = format!(
            "(() => {{ const it = document.querySelector({}); it.scrollIntoView({{ block: 'center' }}); \
             const at = it.getBoundingClientRect(); return [at.left, at.top, at.width, at.height]; }})()",
            json!(selector)
        );
        Ok(serde_json::from_value(self.value(&of).await?)?)
    }
}
