//! The doctor, at brokers and cards that are well and at others.

use std::path::Path;
use std::process::Command;

use crate::rig::{Answer, Broker, Rig, nobody, serve_time, write};

const PASSWORD: &str = "correct horse";
/// What a device has to be allowed.
const ALLOWED: &str = "topic write gapless/1/cam-7/state\ntopic write gapless/1/cam-7/coverage\n\
                       topic write gapless/1/cam-7/tell/+\ntopic write gapless/1/cam-7/data/+\n\
                       topic read gapless/1/cam-7/ask\ntopic read gapless/1/cam-7/credit";
const ALL: [&str; 14] = [
    "config",
    "agent",
    "mount",
    "space",
    "index",
    "recordings",
    "speed",
    "clock",
    "dns",
    "tcp",
    "tls",
    "login",
    "acl",
    "server",
];

fn with_password(rig: &Rig, port: u16, password: &str) {
    let path = rig.path("password");
    write(&path, format!("{password}\n").as_bytes());
    rig.configure(port, &format!("broker.username = \"cam\"\nbroker.password_file = {path:?}"));
}

#[track_caller]
fn verdicts(answer: &Answer, expected: &[(&str, &str)]) {
    for (check, verdict) in expected {
        assert_eq!(answer.verdict(check), *verdict, "{check}: {answer:#?}");
    }
}

#[test]
fn where_all_is_well_nothing_fails_and_a_server_answers_also_in_a_dead_agents_place() {
    let broker = Broker::with_user(PASSWORD, ALLOWED);
    serve_time(broker.port, Some(("server", PASSWORD)));
    let rig = Rig::new(broker.port);
    with_password(&rig, broker.port, PASSWORD);
    let answer = rig.ask(&["doctor", "--json"]);
    let told: Vec<String> =
        answer.json().iter().filter_map(|line| Some(line["check"].as_str()?.to_owned())).collect();
    assert_eq!(told, ALL);
    assert_eq!(answer.code, 0, "{answer:#?}");
    for check in [
        "config",
        "mount",
        "index",
        "recordings",
        "speed",
        "clock",
        "dns",
        "tcp",
        "login",
        "acl",
        "server",
    ] {
        assert_eq!(answer.verdict(check), "ok", "{check}: {answer:#?}");
    }
    assert!(answer.says("server").contains("depot answers within"), "{answer:#?}");
    verdicts(&answer, &[("agent", "warn"), ("tls", "skipped")]);
    let text = rig.ask(&["doctor"]);
    assert_eq!(text.code, 0);
    assert!(text.out.contains("ok    login       let in as `cam`"), "{}", text.out);
    assert!(text.out.ends_with("nothing failed, 1 warning\n"), "{}", text.out);
}

#[test]
fn beside_a_running_agent_it_disturbs_nobody_and_takes_that_ones_word() {
    let broker = Broker::with_user(PASSWORD, ALLOWED);
    serve_time(broker.port, Some(("server", PASSWORD)));
    let rig = Rig::new(broker.port);
    with_password(&rig, broker.port, PASSWORD);
    let _running = rig.run();
    rig.wait_for("heard", |status| status["link"]["server"] == "depot");
    let answer = rig.ask(&["doctor", "--json"]);
    assert_eq!(answer.code, 0, "{answer:#?}");
    verdicts(&answer, &[("agent", "ok"), ("login", "ok"), ("acl", "ok"), ("server", "ok")]);
    assert!(answer.says("login").contains("gapless-agent-cam-7-doctor"), "{answer:#?}");
    assert!(answer.says("server").contains("heard by the agent"), "{answer:#?}");
    let status = rig.status();
    assert_eq!(
        (&status["link"]["connected"], &status["link"]["connections"]),
        (&true.into(), &1.into())
    );
}

#[test]
fn that_no_server_is_heard_is_a_warning_and_says_so() {
    let broker = Broker::with_user(PASSWORD, ALLOWED);
    let rig = Rig::new(broker.port);
    with_password(&rig, broker.port, PASSWORD);
    let answer = rig.ask(&["doctor", "--json"]);
    assert_eq!(answer.code, 0, "{answer:#?}");
    verdicts(&answer, &[("acl", "ok"), ("server", "warn")]);
    assert!(answer.says("server").contains("no server has answered"), "{answer:#?}");
    assert!(answer.says("server").contains("gapless serve"), "{answer:#?}");
    let _running = rig.run();
    rig.wait_for("connected", |status| {
        status["link"]["connected"] == true && status["link"]["since_s"].as_f64().unwrap() > 5.0
    });
    let answer = rig.ask(&["doctor", "--json"]);
    verdicts(&answer, &[("acl", "ok"), ("server", "warn")]);
    assert!(answer.says("server").contains("has heard no server"), "{answer:#?}");
}

#[test]
fn a_wrong_password_is_found_out_and_what_rests_on_it_is_not_tried() {
    let broker = Broker::with_user(PASSWORD, ALLOWED);
    let rig = Rig::new(broker.port);
    with_password(&rig, broker.port, "wrong");
    let answer = rig.ask(&["doctor", "--json"]);
    assert_eq!(answer.code, 1);
    verdicts(
        &answer,
        &[("tcp", "ok"), ("login", "fail"), ("acl", "skipped"), ("server", "skipped")],
    );
    assert!(answer.says("login").contains("password_file"), "{answer:#?}");
    let _running = rig.run();
    rig.wait_for("refused", |status| status["link"]["last_error"].is_string());
    verdicts(&rig.ask(&["doctor", "--json"]), &[("agent", "ok"), ("login", "fail")]);
}

#[test]
fn a_password_file_that_is_not_there_is_told_by_its_name() {
    let broker = Broker::open();
    let rig = Rig::new(broker.port);
    let lines = "broker.username = \"cam\"\nbroker.password_file = \"/no/such/file\"";
    rig.configure(broker.port, lines);
    let answer = rig.ask(&["doctor", "--json"]);
    verdicts(&answer, &[("login", "fail")]);
    assert!(answer.says("login").contains("/no/such/file"), "{answer:#?}");
}

#[test]
fn no_broker_is_no_answer_on_its_port() {
    let rig = Rig::new(nobody());
    let answer = rig.ask(&["doctor", "--json"]);
    assert_eq!(answer.code, 1);
    verdicts(&answer, &[("dns", "ok"), ("tcp", "fail"), ("tls", "skipped"), ("server", "skipped")]);
    assert!(answer.says("tcp").contains("refused"), "{answer:#?}");
    assert!(rig.ask(&["doctor"]).out.contains("FAIL  tcp"));
}

#[test]
fn a_broker_that_nobody_knows_is_not_found_by_its_name() {
    let rig = Rig::new(1);
    let text = std::fs::read_to_string(rig.path("agent.toml")).unwrap();
    rig.write_config(&text.replace("127.0.0.1", "broker.invalid"));
    let answer = rig.ask(&["doctor", "--json"]);
    verdicts(&answer, &[("dns", "fail"), ("tcp", "skipped")]);
    assert!(answer.says("dns").contains("resolv.conf"), "{answer:#?}");
}

#[test]
fn what_is_no_broker_is_not_taken_for_one() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = std::io::Write::write_all(&mut stream, b"SSH-2.0-OpenSSH_9.9\r\n");
        }
    });
    let rig = Rig::new(port);
    let answer = rig.ask(&["doctor", "--json"]);
    verdicts(&answer, &[("tcp", "ok"), ("login", "fail")]);
    assert_eq!(answer.code, 1);
}

#[test]
fn a_broker_that_refuses_the_devices_own_topics_fails_by_name() {
    for (acl, refused) in [
        ("topic read gapless/1/other/#", &["state", "coverage", "tell/doctor", "data/doctor"][..]),
        (&ALLOWED.replace("topic write gapless/1/cam-7/coverage\n", ""), &["coverage"]),
    ] {
        let broker = Broker::with_user(PASSWORD, acl);
        let rig = Rig::new(broker.port);
        with_password(&rig, broker.port, PASSWORD);
        let answer = rig.ask(&["doctor", "--json"]);
        assert_eq!((answer.code, answer.verdict("login")), (1, "ok".to_owned()), "{answer:#?}");
        verdicts(&answer, &[("acl", "fail")]);
        for topic in refused {
            let topic = format!("gapless/1/cam-7/{topic}");
            assert!(answer.says("acl").contains(&topic), "{topic}: {answer:#?}");
        }
        assert_eq!(answer.says("acl").matches("to publish on").count(), refused.len());
    }
}

#[test]
fn a_configuration_that_cannot_be_used_fails_and_nothing_is_tried_on_it() {
    let rig = Rig::new(nobody());
    rig.write_config("device = 7");
    let answer = rig.ask(&["doctor", "--json"]);
    assert_eq!(answer.code, 1);
    verdicts(&answer, &[("config", "fail"), ("mount", "skipped"), ("dns", "skipped")]);
    assert_eq!(answer.json().last().unwrap()["failed"], 1);
}

#[test]
fn a_card_that_is_not_there_or_holds_nothing_says_what_to_look_at() {
    let rig = Rig::new(nobody());
    let text = std::fs::read_to_string(rig.path("agent.toml")).unwrap();
    rig.write_config(&text.replace("require_mount = false", "require_mount = true"));
    let answer = rig.ask(&["doctor", "--json"]);
    verdicts(&answer, &[("mount", "fail"), ("space", "skipped"), ("speed", "skipped")]);
    assert!(answer.says("mount").contains("nothing is mounted"), "{answer:#?}");
    rig.write_config(&text.replace("layout = \"ffmpeg\"", "layout = \"viofo\"\ncamera = \"F\""));
    let answer = rig.ask(&["doctor", "--json"]);
    verdicts(&answer, &[("mount", "ok"), ("recordings", "warn"), ("speed", "skipped")]);
    assert!(answer.says("recordings").contains("index scan"), "{answer:#?}");
    rig.write_config(&text.replace("path = \"rec\"", "path = \"other\""));
    let answer = rig.ask(&["doctor", "--json"]);
    verdicts(&answer, &[("recordings", "warn")]);
}

/// A file system of its own, gone with the test.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn of(size: &str, card: &'a Path) -> Mounted<'a> {
        mount(&["mount", "-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], card);
        Mounted(card)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        mount(&["umount", "-l"], self.0);
    }
}

fn mount(words: &[&str], at: &Path) {
    let done = Command::new(words[0]).args(&words[1..]).arg(at).status().unwrap();
    assert!(done.success(), "{words:?}: these tests mount, as root");
}

#[test]
fn a_card_that_can_only_be_read_fails_and_the_agent_shows_it() {
    let rig = Rig::new(nobody());
    let card = rig.card();
    let _mounted = Mounted::of("16m", &card);
    rig.record("2026-01-01_00-00-00.mp4");
    mount(&["mount", "-o", "remount,ro"], &card);
    let text = std::fs::read_to_string(rig.path("agent.toml")).unwrap();
    rig.write_config(&text.replace("require_mount = false", "require_mount = true"));
    let dead = rig.ask(&["doctor", "--json"]);
    assert_eq!(dead.code, 1);
    verdicts(&dead, &[("mount", "fail")]);
    assert!(dead.says("mount").contains("READ-ONLY"), "{dead:#?}");
    let _running = rig.run();
    rig.wait_for("read-only", |status| status["card"]["mount"]["read_only"] == true);
    assert!(rig.ask(&["status"]).out.contains("READ-ONLY"));
}

#[test]
fn a_full_card_is_warned_of() {
    let rig = Rig::new(nobody());
    let card = rig.card();
    let _mounted = Mounted::of("2m", &card);
    rig.record("2026-01-01_00-00-00.mp4");
    write(&card.join("filler"), &vec![1; 1_400_000]);
    let answer = rig.ask(&["doctor", "--json"]);
    verdicts(&answer, &[("mount", "ok"), ("space", "warn")]);
}
