//! Manual mode, end to end: a person searches, asks for a range that no policy expects, waits, cancels.
//!
//! The real binaries, a real mosquitto, footage of a real ffmpeg; only the link is emulated.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

#[path = "tunnel/scene.rs"]
#[allow(dead_code, reason = "shared with the tunnel's tests, which use all of it")]
mod scene;

use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

use sdcard_indexer::container::Container;
use sdcard_indexer::time::Timestamp;
use serde_json::{Value, json};
use tests::installation::{DEVICE, Installation, STREAM, amend, json_of};
use tests::link::{Direction, Lane, Shape};
use tests::media::{Spec, VideoCodec};
use tests::process::{Process, until};

use scene::{Containers, DEADLINE, Scene};

const SPEC: Spec = Spec { codec: VideoCodec::H264, b_frames: 2, audio: true, seconds: 120 };
const SEGMENT_SECONDS: u32 = 40;
/// A second of video takes half a second: there is time to change one's mind.
const SLOW: Shape = Shape::symmetric(Lane::new(20, 1_000_000));
/// Asked for beside the hole on both sides, as a person does.
const MARGIN: Duration = Duration::from_secs(1);
/// Nothing comes over the link for so long: it has stopped.
const QUIET: Duration = Duration::from_secs(2);

const POLICY: &str = "\
[[policy]]
name = \"by-hand\"
devices = [\"camera\"]
record = \"held\"
modes = [\"manual\"]
";

/// The tunnel's scene, where people alone say what is pulled.
struct Manual {
    scene: Scene,
    from: String,
    to: String,
}

impl Manual {
    /// Nothing of the recording is expected.
    async fn set_up(link: Shape) -> Manual {
        Manual::expecting(link, |scene| scene.window.end()).await
    }

    /// Whatever the device holds from then on is expected.
    async fn expecting(link: Shape, from: impl Fn(&Scene) -> Timestamp) -> Manual {
        let containers = Containers::both(Container::FragmentedMp4);
        let scene = Scene::set_up(SPEC, containers, SEGMENT_SECONDS, link).await;
        let expected_from = from(&scene);
        let device = format!(
            "[[device]]\nid = \"{DEVICE}\"\nstreams = [\"{STREAM}\"]\nexpected_from = \"{expected_from}\"\n{POLICY}"
        );
        amend(&scene.installation.server_config(), &device).unwrap();
        let hole = scene.holed.time;
        let from = hole.start().saturating_sub(MARGIN).to_string();
        let to = hole.end().saturating_add(MARGIN).to_string();
        Manual { scene, from, to }
    }

    fn installation(&self) -> &Installation {
        &self.scene.installation
    }

    async fn start_server(&self) -> Process {
        let mut server = self.installation().start_server().unwrap();
        server.line("connected to the broker", DEADLINE).await.unwrap();
        server
    }

    async fn ask<const N: usize>(&self, command: [&str; N]) -> Output {
        self.installation().gapless(command).await.unwrap()
    }

    async fn search(&self) -> Value {
        let command = ["search", DEVICE, "--from", &self.from, "--to", &self.to, "--json"];
        json_of(&self.ask(command).await).unwrap()
    }

    /// Waits until the device answers by itself, with what it holds.
    async fn found_live(&self) -> Value {
        let found = async || {
            let found = self.search().await;
            (found["heard"] == "live" && found["held_s"].as_f64() > Some(0.0)).then_some(found)
        };
        until("the device answers a search", DEADLINE, found).await.unwrap()
    }

    /// `gapless pull` of the hole, with further arguments.
    async fn pull<const N: usize>(&self, further: [&str; N]) -> Output {
        let range = ["pull", DEVICE, "--from", &self.from, "--to", &self.to, "--json"];
        let command: Vec<&str> = range.into_iter().chain(further).collect();
        match command.as_slice() {
            [a, b, c, d, e, f, g, h] => self.ask([a, b, c, d, e, f, g, h]).await,
            [a, b, c, d, e, f, g, h, i, j] => self.ask([a, b, c, d, e, f, g, h, i, j]).await,
            other => panic!("{other:?}"),
        }
    }

    async fn job(&self, id: &str) -> Value {
        json_of(&self.ask(["jobs", id, "--json"]).await).unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json_said(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

#[tokio::test]
async fn a_range_that_no_policy_expects_is_found_and_pulled_frame_by_frame() {
    let manual = Manual::set_up(Shape::CLEAR).await;
    let _server = manual.start_server().await;
    let _agent = manual.installation().start_agent().unwrap();
    let found = manual.found_live().await;
    assert_eq!(found["archive"], json!([]), "nothing is expected there: {found}");
    let held_s = found["held_s"].as_f64().unwrap();
    assert!((held_s - found["seconds"].as_f64().unwrap()).abs() < 0.5, "{found}");
    let segments = found["segments"].as_array().unwrap();
    assert!((2..=3).contains(&segments.len()), "{found}");
    assert_eq!(json_said(&manual.ask(["jobs", "--json"]).await), json!([]));
    let sent_bytes = manual.scene.sent_bytes();
    assert!(sent_bytes < manual.scene.lost_bytes / 2, "{sent_bytes} without being asked");

    let pulled = manual.pull(["--wait"]).await;
    assert_eq!(pulled.status.code(), Some(0), "{pulled:?}");
    let job = json_said(&pulled);
    assert_eq!((&job["state"], &job["whole"]), (&json!("done"), &json!(true)), "{job}");
    assert_eq!((&job["id"], &job["lacking"]), (&json!("j1"), &json!([])), "{job}");
    manual.scene.assert_archive_is_whole().await;

    let listed = text(&manual.ask(["jobs"]).await.stdout);
    assert!(
        listed.contains("j1") && listed.contains("done") && listed.contains("100 %"),
        "{listed}"
    );
    let followed = manual.ask(["jobs", "--follow"]).await;
    assert_eq!(text(&followed.stdout), listed, "it ends where nothing is open");
    let again = manual.pull(["--wait"]).await;
    assert_eq!(json_said(&again)["state"], "done", "it is there already: {again:?}");
    let late = manual.ask(["cancel", "j1"]).await;
    assert_eq!(late.status.code(), Some(1));
    assert!(text(&late.stderr).contains("done already"), "{late:?}");
}

#[tokio::test]
async fn a_job_waits_for_a_device_that_is_away() {
    let manual = Manual::set_up(Shape::CLEAR).await;
    let _server = manual.start_server().await;
    let coming = async {
        let listed = async || {
            let jobs = json_said(&manual.ask(["jobs", "--json"]).await);
            jobs.get(0).cloned()
        };
        let job = until("the job is listed", DEADLINE, listed).await.unwrap();
        assert_eq!((&job["state"], &job["online"]), (&json!("open"), &json!(false)), "{job}");
        manual.installation().start_agent().unwrap()
    };
    let (pulled, _agent) = tokio::join!(manual.pull(["--wait"]), coming);
    assert_eq!(pulled.status.code(), Some(0), "{pulled:?}");
    manual.scene.assert_archive_is_whole().await;
}

#[tokio::test]
async fn a_job_outlives_the_server_and_those_who_wait_for_it_do_too() {
    let manual = Manual::set_up(Shape::CLEAR).await;
    let mut server = manual.start_server().await;
    let coming = async {
        let listed = async || json_said(&manual.ask(["jobs", "--json"]).await).get(0).cloned();
        until("the job is listed", DEADLINE, listed).await.unwrap();
        server.restart().await.unwrap();
        server.line("connected to the broker", DEADLINE).await.unwrap();
        manual.installation().start_agent().unwrap()
    };
    let (pulled, _agent) = tokio::join!(manual.pull(["--wait"]), coming);
    assert_eq!(pulled.status.code(), Some(0), "{pulled:?}");
    manual.scene.assert_archive_is_whole().await;
}

#[tokio::test]
async fn a_job_whose_deadline_passes_has_expired_and_exits_with_1() {
    let manual = Manual::set_up(Shape::CLEAR).await;
    let _server = manual.start_server().await;
    let pulled = manual.pull(["--wait", "--deadline", "2s"]).await;
    assert_eq!(pulled.status.code(), Some(1), "{pulled:?}");
    let job = json_said(&pulled);
    assert_eq!((&job["state"], &job["whole"]), (&json!("expired"), &json!(false)), "{job}");
    assert!(job["open_s"].as_f64() > Some(40.0), "{job}");
    let over = manual.pull(["--deadline", "2020-01-01T00:00:00Z", "--no-wait"]).await;
    assert_eq!(over.status.code(), Some(1));
    assert!(text(&over.stderr).contains("2020-01-01T00:00:00Z is over"), "{over:?}");
}

#[tokio::test]
async fn what_is_cancelled_stops_at_once_and_leaves_nothing_behind() {
    let manual = Manual::expecting(SLOW, |scene| scene.window.start()).await;
    let _server = manual.start_server().await;
    let _agent = manual.installation().start_agent().unwrap();
    manual.found_live().await;
    let before = manual.scene.sent_bytes();
    let job = json_said(&manual.pull(["--no-wait"]).await);
    let id = job["id"].as_str().unwrap();
    let third = before + manual.scene.lost_bytes / 3;
    manual.installation().link.passed(Direction::ToServer, third).await;
    let spool = manual.installation().spool();
    let spooled = || fs::read_dir(&spool).unwrap().count();
    assert!(spooled() > 0);

    let (asked, at_cancel) = (Instant::now(), manual.scene.sent_bytes());
    let cancelled = json_said(&manual.ask(["cancel", id, "--json"]).await);
    assert_eq!(cancelled["state"], "cancelled", "{cancelled}");
    let answered = asked.elapsed();
    let (mut last_bytes, mut last_at) = (manual.scene.sent_bytes(), Instant::now());
    let quiet = async || {
        let now_bytes = manual.scene.sent_bytes();
        if now_bytes != last_bytes {
            (last_bytes, last_at) = (now_bytes, Instant::now());
        }
        (last_at.elapsed() >= QUIET).then_some((last_bytes, last_at))
    };
    let (last_bytes, last_at) = until("the link is quiet", DEADLINE, quiet).await.unwrap();
    println!(
        "cancelled in {answered:?}; the last byte was sent {:?} after, {} bytes after, of {} in all",
        last_at - asked,
        last_bytes - at_cancel,
        manual.scene.lost_bytes
    );
    assert!(last_bytes - at_cancel < manual.scene.lost_bytes / 3, "most of it came all the same");
    let gone = async || (spooled() == 0).then_some(());
    until("the spool is empty", DEADLINE, gone).await.unwrap();
    assert_eq!(manual.scene.any_piece(), None);
    assert_eq!(manual.job(id).await["state"], "cancelled");

    let pulled = manual.pull(["--wait"]).await;
    assert_eq!(pulled.status.code(), Some(0), "who changes their mind again gets it: {pulled:?}");
    manual.scene.assert_archive_is_whole().await;
}

#[tokio::test]
async fn a_policy_is_put_outlives_a_restart_and_is_removed() {
    let manual = Manual::set_up(Shape::CLEAR).await;
    let mut server = manual.start_server().await;
    let file = manual.installation().root("night.toml");
    let night = "[[policy]]\nname = \"night\"\ndevices = [\"bwc-*\"]\nrecord = \"held\"\n\
                 modes = [\"scheduled\"]\n\
                 schedule = { cron = \"0 23 * * *\", time_zone = \"UTC\", window = \"6h\" }\n";
    fs::File::create(&file)
        .and_then(|mut file| std::io::Write::write_all(&mut file, night.as_bytes()))
        .unwrap();
    let path = file.to_str().unwrap();
    let names = async || -> Vec<(String, String)> {
        let listed: Value = json_of(&manual.ask(["policy", "list", "--json"]).await).unwrap();
        let of = |policy: &Value, key: &str| policy[key].as_str().unwrap().to_owned();
        listed.as_array().unwrap().iter().map(|p| (of(p, "name"), of(p, "origin"))).collect()
    };
    let named = |names: &[(&str, &str)]| -> Vec<(String, String)> {
        names.iter().map(|(name, origin)| ((*name).to_owned(), (*origin).to_owned())).collect()
    };
    let put = manual.ask(["policy", "put", path]).await;
    assert_eq!(put.status.code(), Some(0), "{put:?}");
    let with = named(&[("by-hand", "file"), ("night", "api"), ("default", "built_in")]);
    assert_eq!(names().await, with);
    let runs: Value =
        json_of(&manual.ask(["policy", "next-runs", "--count", "2", "--json"]).await).unwrap();
    assert_eq!(runs[1]["policy"], "night");

    server.restart().await.unwrap();
    server.line("connected to the broker", DEADLINE).await.unwrap();
    let again = manual.ask(["policy", "put", path]).await;
    assert_eq!(again.status.code(), Some(0), "another version of it: {again:?}");
    assert_eq!(manual.ask(["policy", "remove", "night"]).await.status.code(), Some(0));
    assert_eq!(names().await, named(&[("by-hand", "file"), ("default", "built_in")]));
    for (name, word) in [("night", "no policy"), ("by-hand", "file"), ("default", "built in")] {
        let refused = manual.ask(["policy", "remove", name]).await;
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains(word), "{refused:?}");
    }
    let checked = text(&manual.ask(["policy", "check"]).await.stdout);
    assert!(checked.contains("camera/main") && checked.contains("by-hand"), "{checked}");
}

#[tokio::test]
async fn a_device_that_is_away_is_searched_by_its_last_report_and_that_is_said() {
    let manual = Manual::set_up(Shape::CLEAR).await;
    let _server = manual.start_server().await;
    let never = manual.search().await;
    assert_eq!((&never["heard"], &never["held"]), (&json!("never"), &json!([])), "{never}");
    let mut agent = manual.installation().start_agent().unwrap();
    let live = manual.found_live().await;
    agent.terminate(DEADLINE).await.unwrap();
    let away = async || {
        let found = manual.search().await;
        (found["heard"] == "offline").then_some(found)
    };
    let found = until("the device is known to be away", DEADLINE, away).await.unwrap();
    assert_eq!(found["held"].as_array().unwrap().len(), live["held"].as_array().unwrap().len());
    assert_eq!((&found["segments"], &found["held_bytes"]), (&json!([]), &Value::Null));
    let said = manual.ask(["search", DEVICE, "--from", &manual.from, "--to", &manual.to]).await;
    let said = text(&said.stdout);
    assert!(said.contains("its last report: the device is away"), "{said}");

    let from = Timestamp::from_unix_seconds(0).to_string();
    let unknown = manual.ask(["search", "other", "--from", &from, "--to", &from]).await;
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("known are: camera"), "{unknown:?}");
}
