//! What people and scripts meet: help that teaches, errors that say where and what is allowed, exit codes,
//! JSON with the fields that are written down, and text for a terminal of 80 columns.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use sdcard_indexer::time::{TimeRange, Timestamp};
use serde_json::{Value, json};
use tests::artifacts::Binary;
use tests::camera::{Camera, Recording};
use tests::installation::{DEVICE, Installation, STREAM, Setup, json_of};
use tests::link::Shape;
use tests::naming::Naming;
use tests::process::Process;

/// No wait is endless; far above what any of them takes.
const DEADLINE: Duration = Duration::from_secs(90);

const SUBCOMMANDS: [&str; 19] = [
    "serve",
    "devices",
    "device",
    "timeline",
    "gaps",
    "verify",
    "export",
    "verify-export",
    "search",
    "pull",
    "jobs",
    "cancel",
    "runs",
    "originals",
    "policy",
    "user",
    "token",
    "audit",
    "openapi",
];
const NESTED: [(&str, &[&str]); 4] = [
    ("device", &["list", "add", "renew", "revoke", "server", "broker"]),
    ("policy", &["list", "show", "check", "next-runs", "put", "remove"]),
    ("user", &["list", "add", "role", "password", "remove"]),
    ("token", &["list", "add", "remove"]),
];

const INSTANT: &str = "2026-11-23T10:00:00Z";

const AGENT_CONFIG: &str = "\
device = \"camera\"

[broker]
url = \"mqtt://127.0.0.1\"

[card]
root = \"/mnt/card\"

[[stream]]
id = \"main\"
path = \"main\"
layout = \"mediamtx\"
";

/// Runs a program to its end, in a directory.
fn run(binary: Binary, arguments: &[&str], directory: &Path) -> Output {
    let mut command = Command::new(binary.path().unwrap());
    command.args(arguments).current_dir(directory).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Exit code and what it complains of; nobody who reads the answer finds anything there.
fn complaint(output: &Output) -> (Option<i32>, String) {
    assert_eq!(text(&output.stdout), "", "a complaint is not an answer");
    (output.status.code(), text(&output.stderr))
}

fn write(path: &Path, content: &str) {
    File::create(path).and_then(|mut file| file.write_all(content.as_bytes())).unwrap();
}

#[track_caller]
fn assert_fits(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
}

#[test]
fn help_teaches_and_fits_eighty_columns() {
    let here = tempfile::tempdir().unwrap();
    let mut helps = vec![
        (
            run(Binary::Agent, &["--help"], here.path()),
            vec!["run", "--config", "exit code", "[card]"],
        ),
        (run(Binary::Server, &["--help"], here.path()), SUBCOMMANDS.to_vec()),
        (run(Binary::Server, &["-h"], here.path()), vec!["Exit code", "--config"]),
    ];
    for subcommand in SUBCOMMANDS {
        let help = run(Binary::Server, &[subcommand, "--help"], here.path());
        helps.push((help, vec!["Usage: gapless", subcommand, "--config"]));
    }
    for (subcommand, below) in NESTED {
        for nested in below {
            let help = run(Binary::Server, &[subcommand, nested, "--help"], here.path());
            helps.push((help, vec!["Usage: gapless", subcommand, nested, "--json"]));
        }
    }
    for (help, words) in helps {
        assert_eq!(help.status.code(), Some(0));
        let help = text(&help.stdout);
        assert_fits(&help);
        for word in words {
            assert!(help.contains(word), "{word} is not in\n{help}");
        }
    }
}

#[test]
fn both_programs_tell_their_version() {
    let here = tempfile::tempdir().unwrap();
    for binary in [Binary::Agent, Binary::Server] {
        for flag in ["--version", "-V"] {
            let output = run(binary, &[flag], here.path());
            assert_eq!(output.status.code(), Some(0));
            let expected = format!("{} {}\n", binary.name(), env!("CARGO_PKG_VERSION"));
            assert_eq!(text(&output.stdout), expected);
        }
    }
}

#[test]
fn wrong_usage_exits_with_2_and_points_to_the_help() {
    let here = tempfile::tempdir().unwrap();
    for (binary, arguments) in [
        (Binary::Agent, &[][..]),
        (Binary::Agent, &["run"]),
        (Binary::Agent, &["--config", "x.toml"]),
        (Binary::Agent, &["run", "--config"]),
        (Binary::Agent, &["walk", "--config", "x.toml"]),
        (Binary::Agent, &["--check-config", "--print-config", "--config", "x.toml"]),
        (Binary::Server, &[]),
        (Binary::Server, &["dance"]),
        (Binary::Server, &["timeline"]),
        (Binary::Server, &["timeline", "no device"]),
        (Binary::Server, &["timeline", "camera", "--from", "yesterday"]),
        (Binary::Server, &["gaps", "--colour"]),
        (Binary::Server, &["export", "camera"]),
        (Binary::Server, &["search", "camera"]),
        (
            Binary::Server,
            &["pull", "camera", "--from", INSTANT, "--to", INSTANT, "--deadline", "x"],
        ),
        (Binary::Server, &["jobs", "12"]),
        (Binary::Server, &["cancel", "12"]),
        (Binary::Server, &["policy"]),
        (Binary::Server, &["user", "add", "anna"]),
        (Binary::Server, &["user", "add", "anna", "--role", "root"]),
        (Binary::Server, &["token", "add", "nvr", "--role", "view", "--valid-for", "x"]),
    ] {
        let output = run(binary, arguments, here.path());
        let (code, said) = complaint(&output);
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        assert!(said.contains("help"), "{arguments:?}: {said}");
    }
}

/// What is wrong in it, and what the complaint has to name.
type Mistake<'a> = (&'a str, &'a [&'a str]);

#[test]
fn a_wrong_configuration_exits_with_2_and_names_file_line_key_and_what_is_allowed() {
    let here = tempfile::tempdir().unwrap();
    let path = here.path().join("wrong.toml");
    let name = path.to_str().unwrap();
    let refuse = |binary, arguments: &[&str], content: &str, words: &[&str]| {
        write(&path, content);
        let (code, said) = complaint(&run(binary, arguments, here.path()));
        assert_eq!(code, Some(2), "{content}\n{said}");
        for word in words.iter().chain(&[name]) {
            assert!(said.contains(word), "{word} is not in\n{said}");
        }
    };
    let of_the_server: [Mistake<'_>; 9] = [
        ("\n[archive]\nsettle_seconds = 3", &["line 3", "settle_seconds", "settle_s"]),
        ("\n[archiv]\nroot = \"x\"", &["line 2", "archiv", "archive"]),
        ("\n[pull]\nmax_active_parts = 0", &["line 3", "max_active_parts", "1 or more"]),
        ("\n[pull]\nmin_free_mib = -1", &["line 3", "min_free_mib", "u64"]),
        ("\n[archive]\npath = \"{device}\"", &["line 3", "path", "{stream}"]),
        ("\n[archive]\ntemplate = \"%Q\"", &["line 2", "%Q", "%Y"]),
        ("\n[broker]\nurl = \"http://x\"", &["line 3", "url", "mqtt://"]),
        ("\n[http]\nlisten = \"0.0.0.0:1\"", &["line 2", "0.0.0.0:1", "tls_certificate"]),
        ("not toml", &["line 1"]),
    ];
    for (content, words) in of_the_server {
        for command in [&["serve"][..], &["serve", "--check-config"], &["devices"]] {
            refuse(Binary::Server, &[command, &["--config", name]].concat(), content, words);
        }
    }
    let of_the_agent: [Mistake<'_>; 4] = [
        ("device = \"cam 7\"", &["line 1", "device", "cam 7"]),
        (&AGENT_CONFIG.replace("[card]", "[card]\nsize = 5"), &["line 7", "size", "require_mount"]),
        (&AGENT_CONFIG.replace("mqtt://", "http://"), &["line 4", "url", "mqtt://HOST"]),
        (&AGENT_CONFIG.replace("mediamtx", "x"), &["line 12", "layout", "onvif"]),
    ];
    for (content, words) in of_the_agent {
        for command in ["run", "--check-config", "--print-config"] {
            refuse(Binary::Agent, &[command, "--config", name], content, words);
        }
    }
}

#[test]
fn a_configuration_that_is_not_there_exits_with_2_and_is_named() {
    let here = tempfile::tempdir().unwrap();
    for (binary, command) in [(Binary::Agent, "run"), (Binary::Server, "serve")] {
        let output = run(binary, &[command, "--config", "absent.toml"], here.path());
        let (code, said) = complaint(&output);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("absent.toml") && said.contains("No such file"), "{said}");
    }
}

#[test]
fn a_printed_configuration_is_taken_again_wherever_it_is_saved_and_means_the_same() {
    let here = tempfile::tempdir().unwrap();
    let below = here.path().join("below");
    std::fs::create_dir(&below).unwrap();
    write(&below.join("agent.toml"), AGENT_CONFIG);
    write(&below.join("gapless.toml"), "[[device]]\nid = \"camera\"\nstreams = [\"main\"]\n");
    for (binary, file, print, check) in [
        (Binary::Agent, "below/agent.toml", &["--print-config"][..], &["--check-config"][..]),
        (
            Binary::Server,
            "below/gapless.toml",
            &["serve", "--print-config"],
            &["serve", "--check-config"],
        ),
    ] {
        let printed = run(binary, &[print, &["--config", file]].concat(), here.path());
        assert_eq!(printed.status.code(), Some(0), "{printed:?}");
        write(&here.path().join("printed.toml"), &text(&printed.stdout));
        let again = run(binary, &[print, &["--config", "printed.toml"]].concat(), here.path());
        assert_eq!(text(&again.stdout), text(&printed.stdout));
        let checked = run(binary, &[check, &["--config", "printed.toml"]].concat(), here.path());
        assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    }
}

#[test]
fn a_question_to_a_server_that_never_ran_exits_with_1_and_says_what_to_do() {
    let here = tempfile::tempdir().unwrap();
    for command in [&["devices"][..], &["timeline", "camera"], &["gaps"], &["verify"], &["runs"]] {
        let (code, said) = complaint(&run(Binary::Server, command, here.path()));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("ledger") && said.contains("gapless serve"), "{said}");
    }
}

#[test]
fn an_order_without_a_server_exits_with_1_and_says_what_to_do() {
    let here = tempfile::tempdir().unwrap();
    write(&here.path().join("policy.toml"), "[[policy]]\nname = \"night\"\ndevices = [\"*\"]\n");
    let range = ["camera", "--from", INSTANT, "--to", INSTANT];
    for command in [
        [&["search"], &range[..]].concat(),
        [&["pull"], &range[..]].concat(),
        vec!["jobs"],
        vec!["jobs", "--follow"],
        vec!["cancel", "j1"],
        vec!["policy", "put", "policy.toml"],
        vec!["policy", "remove", "night"],
        vec!["user", "list"],
        vec!["user", "add", "anna", "--role", "view"],
        vec!["token", "list"],
        vec!["audit"],
    ] {
        let (code, said) = complaint(&run(Binary::Server, &command, here.path()));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("no server runs") && said.contains("gapless serve"), "{said}");
    }
}

#[test]
fn policies_can_be_looked_at_before_any_server_ran() {
    let here = tempfile::tempdir().unwrap();
    write(
        &here.path().join("gapless.toml"),
        "[[device]]\nid = \"camera\"\nstreams = [\"main\"]\n\n\
         [[policy]]\nname = \"night\"\ndevices = [\"cam*\"]\nmodes = [\"scheduled\"]\n\
         schedule = { cron = \"0 23 * * *\", time_zone = \"UTC\", window = \"6h\" }\n",
    );
    for (command, word) in [
        (&["policy", "list"][..], "built in"),
        (&["policy", "show", "night"], "camera/main"),
        (&["policy", "check"], "is valid"),
        (&["policy", "check", "gapless.toml"], "night"),
        (&["policy", "next-runs", "--count", "2"], "23:00 +00:00"),
    ] {
        let output = run(Binary::Server, command, here.path());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let said = text(&output.stdout);
        assert!(said.contains(word), "{word} is not in\n{said}");
        assert_fits(&said);
        let output = run(Binary::Server, &[command, &["--json"]].concat(), here.path());
        serde_json::from_slice::<Value>(&output.stdout).unwrap();
    }
    write(&here.path().join("wrong.toml"), "[[policy]]\nname = \"a\"\n");
    let wrong = run(Binary::Server, &["policy", "check", "wrong.toml"], here.path());
    let (code, said) = complaint(&wrong);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("wrong.toml") && said.contains("line 1"), "{said}");
}

#[test]
fn a_port_that_is_taken_is_named_with_the_key_that_chooses_another() {
    let here = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (section, other) in [("[broker.embedded]", "[http]"), ("[http]", "[broker.embedded]")] {
        write(
            &here.path().join("gapless.toml"),
            &format!("{section}\nlisten = \"{address}\"\n{other}\nlisten = \"127.0.0.1:0\"\n"),
        );
        let output = run(Binary::Server, &["serve"], here.path());
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output.stderr);
        for word in [address.as_str(), section, "listen"] {
            assert!(said.contains(word), "{word} is not in\n{said}");
        }
    }
}

fn at(second: u32) -> Timestamp {
    let start: Timestamp = "2024-05-14T23:59:30Z".parse().unwrap();
    start.saturating_add(Duration::from_secs(second.into()))
}

fn range(from: u32, to: u32) -> TimeRange {
    TimeRange::new(at(from), at(to)).unwrap()
}

/// A minute and a half around midnight: the archive lacks half a minute, the card ten seconds of that.
async fn completed() -> (Installation, Process) {
    let setup = Setup { naming: Naming::MediaMtx, link: Shape::CLEAR, expected_from: at(0) };
    let installation = Installation::set_up(&setup).await.unwrap();
    let recorder = |root: &Path| Recording::plain(root);
    let mut camera =
        Camera::streaming(recorder(&installation.card()), recorder(&installation.archive()));
    camera.record_range(range(0, 20), true).unwrap();
    camera.record_range(range(20, 40), false).unwrap();
    camera.archive.as_mut().unwrap().interrupt();
    camera.card.interrupt();
    camera.record_range(range(50, 90), true).unwrap();
    let server = installation.start_server().unwrap();
    let _agent = installation.start_agent().unwrap();
    installation.complete(range(0, 90), DEADLINE).await.unwrap();
    (installation, server)
}

#[tokio::test]
async fn a_second_server_on_the_same_state_is_refused_and_the_first_goes_on() {
    let setup = Setup { naming: Naming::MediaMtx, link: Shape::CLEAR, expected_from: at(0) };
    let installation = Installation::set_up(&setup).await.unwrap();
    let mut first = installation.start_server().unwrap();
    first.line("connected to the broker", DEADLINE).await.unwrap();
    let (code, said) = complaint(&installation.gapless(["serve"]).await.unwrap());
    assert_eq!(code, Some(1), "{said}");
    let state = installation.root("state");
    for word in ["another gapless", state.to_str().unwrap(), "state_dir"] {
        assert!(said.contains(word), "{word} is not in\n{said}");
    }
    assert!(first.terminate(DEADLINE).await.unwrap().success());
}

#[tokio::test]
async fn everything_can_be_asked_while_no_server_runs() {
    let (installation, mut server) = completed().await;
    assert!(server.terminate(DEADLINE).await.unwrap().success());
    let ask = async |command: &[&str]| {
        let config = installation.server_config();
        run(Binary::Server, &[command, &["-c", config.to_str().unwrap()]].concat(), Path::new("/"))
    };
    let json = async |command: &[&str]| -> Value {
        json_of(&ask(&[command, &["--json"]].concat()).await).unwrap()
    };
    let (from, to) = (at(0).to_string(), at(90).to_string());
    let window = ["--from", &from, "--to", &to];

    let devices = json(&["devices"]).await;
    assert_eq!(devices[0]["device"], DEVICE);
    assert_eq!(devices[0]["agent_version"], env!("CARGO_PKG_VERSION"));
    assert!(devices[0]["online"].is_null(), "nobody is there to know: {devices}");
    let heard = devices[0]["last_heard"].as_str().unwrap();
    heard.parse::<Timestamp>().unwrap();
    assert!(devices[0]["completeness"]["percent"].is_number(), "{devices}");

    let timeline = json(&[&["timeline", DEVICE], &window[..]].concat()).await;
    let stretch = |from: u32, to: u32, state: Value| {
        let mut stretch = json!({
            "from": at(from).to_string(),
            "to": at(to).to_string(),
            "seconds": f64::from(to - from),
        });
        stretch.as_object_mut().unwrap().extend(state.as_object().unwrap().clone());
        stretch
    };
    let live = json!({ "state": "archived", "by": "live", "proof": "none" });
    let edge = json!({ "state": "archived", "by": "edge", "proof": "digest" });
    let never = json!({ "state": "never_recorded", "cause": "the card has a hole there too" });
    let expected = json!([
        stretch(0, 20, live.clone()),
        stretch(20, 40, edge),
        stretch(40, 50, never.clone()),
        stretch(50, 90, live),
    ]);
    let [timeline] = &timeline.as_array().unwrap()[..] else { panic!("{timeline}") };
    assert_eq!((&timeline["device"], &timeline["stream"]), (&json!(DEVICE), &json!(STREAM)));
    assert_eq!(timeline["stretches"], expected);
    timeline["as_of"].as_str().unwrap().parse::<Timestamp>().unwrap();
    let completeness = json!({
        "complete": true, "percent": 100,
        "expected_s": 90.0, "archived_s": 80.0, "lost_s": 10.0, "open_s": 0.0,
    });
    assert_eq!(timeline["completeness"], completeness);

    let gaps = json(&[&["gaps", "--stream", STREAM], &window[..]].concat()).await;
    assert_eq!(gaps[0]["stretches"], json!([stretch(40, 50, never)]));
    assert_eq!(gaps[0]["completeness"], completeness);

    let verified = json(&["verify", DEVICE]).await;
    assert_eq!(verified["problems"], json!([]));
    assert!(verified["pieces"].as_u64().unwrap() >= 2, "{verified}");
    assert!(verified["piece_bytes"].as_u64().unwrap() > 100_000, "{verified}");

    for (command, words) in [
        (&["devices"][..], &[DEVICE, "unknown", "%"][..]),
        (&["timeline", DEVICE], &["2024-05-14", "2024-05-15", "digest equal", "missing"]),
        (&["gaps"], &["never_recorded", "not complete"]),
        (&["verify"], &["0 problems"]),
    ] {
        let answer = ask(command).await;
        assert_eq!(answer.status.code(), Some(0), "{answer:?}");
        assert_eq!(text(&answer.stderr), "");
        let shown = text(&answer.stdout);
        assert_fits(&shown);
        for word in words {
            assert!(shown.contains(word), "{word} is not in\n{shown}");
        }
    }
}

#[tokio::test]
async fn names_that_nobody_has_and_backward_windows_are_told_apart() {
    let (installation, mut server) = completed().await;
    assert!(server.terminate(DEADLINE).await.unwrap().success());
    for command in ["timeline", "gaps", "verify"] {
        let (code, said) = complaint(&installation.gapless([command, "back-door"]).await.unwrap());
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("back-door") && said.contains(DEVICE), "{said}");
    }
    for command in ["timeline", "gaps"] {
        let arguments = [command, DEVICE, "--stream", "sub"];
        let (code, said) = complaint(&installation.gapless(arguments).await.unwrap());
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("`sub`") && said.contains(STREAM), "{said}");
        let (early, late) = (at(0).to_string(), at(1).to_string());
        let arguments = [command, DEVICE, "--from", &late, "--to", &early];
        let (code, said) = complaint(&installation.gapless(arguments).await.unwrap());
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(&early) && said.contains(&late), "{said}");
    }
}

#[tokio::test]
async fn verify_exits_with_1_once_a_merged_piece_is_not_what_was_merged() {
    let (installation, mut server) = completed().await;
    assert!(server.terminate(DEADLINE).await.unwrap().success());
    let piece = installation.archive().join(Naming::MediaMtx.path(at(20)));
    let mut bytes = std::fs::read(&piece).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    File::create(&piece).unwrap().write_all(&bytes).unwrap();

    let output = installation.gapless(["verify", "--json"]).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let [problem] = &report["problems"].as_array().unwrap()[..] else { panic!("{report}") };
    assert_eq!(problem["file"], json!(piece));
    assert_eq!(problem["stream"], format!("{DEVICE}/{STREAM}"));
    assert!(problem["problem"].as_str().unwrap().contains("changed"), "{report}");

    std::fs::remove_file(&piece).unwrap();
    let output = installation.gapless(["verify"]).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert!(said.contains("cannot be read") && said.contains("is gone"), "{said}");
}
