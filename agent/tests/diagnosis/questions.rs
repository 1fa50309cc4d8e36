//! What a running agent tells, and what the files tell when it is dead.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::SystemTime;

use crate::rig::{Broker, Rig, agent, assert_fits, nobody, over_socket, serve_time};

const COMMANDS: [&str; 8] =
    ["status", "coverage", "segments", "doctor", "tap", "bundle", "closed", "log"];

const SUPPORT: [&str; 3] = ["doctor", "tap", "bundle"];
const HAS_SUPPORT: bool = cfg!(feature = "support");

#[test]
fn each_command_explains_itself() {
    let all = agent().arg("--help").output().unwrap();
    let all = String::from_utf8(all.stdout).unwrap();
    assert_fits(&all);
    assert_eq!(all.contains("without doctor, tap and bundle"), !HAS_SUPPORT, "{all}");
    for command in COMMANDS {
        assert!(all.contains(command), "{all}");
        if !HAS_SUPPORT && SUPPORT.contains(&command) {
            let absent = agent().arg(command).output().unwrap();
            assert_eq!((absent.status.code(), absent.stdout.len()), (Some(2), 0), "{command}");
            let said = String::from_utf8(absent.stderr).unwrap();
            assert!(said.contains("feature `support`") && said.contains("/tmp"), "{said}");
            continue;
        }
        let help = agent().args([command, "--help"]).output().unwrap();
        let text = String::from_utf8(help.stdout).unwrap();
        assert_eq!(help.status.code(), Some(0));
        assert!(text.starts_with(&format!("gapless-agent {command}:")), "{text}");
        assert!(text.contains(&format!("usage: gapless-agent {command}")), "{text}");
        assert!(text.contains("exit code: 0") && text.contains("--config FILE"), "{text}");
        assert_fits(&text);
        let wrong = agent().args([command, "--sing"]).output().unwrap();
        assert_eq!((wrong.status.code(), wrong.stdout.len()), (Some(2), 0), "{command}");
        let said = String::from_utf8(wrong.stderr).unwrap();
        assert!(said.contains(&format!("see gapless-agent {command} --help")), "{said}");
    }
}

#[test]
fn a_running_agent_says_how_link_clock_card_and_index_stand() {
    let broker = Broker::open();
    serve_time(broker.port, None);
    let rig = Rig::new(broker.port);
    let running = rig.run();
    let status = rig.wait_for("heard and read", |status| {
        status["link"]["server"] == "depot" && status["index"]["unread"] == 0
    });
    assert_eq!(status["pid"], running.0.id());
    assert_eq!((&status["device"], &status["link"]["connected"]), (&"cam-7".into(), &true.into()));
    assert_eq!(status["link"]["network"], "loopback");
    assert!(status["link"]["round_trip_s"].as_f64().unwrap() < 5.0);
    assert_eq!(status["clock"]["set_by"], "names");
    assert!(status["clock"]["behind_server_s"].as_f64().unwrap().abs() < 5.0);
    assert_eq!((&status["card"]["there"], &status["card"]["hangs"]), (&true.into(), &false.into()));
    assert!(status["card"]["mount"]["size_bytes"].as_u64().unwrap() > 0);
    assert_eq!((&status["index"]["segments"], &status["index"]["kept"]), (&3.into(), &true.into()));
    assert_eq!(status["index"]["streams"][0]["oldest"], "2026-01-01T00:00:00Z");
    assert_eq!(status["index"]["streams"][0]["ranges"], 3);
    assert_eq!(status["serving"]["sent_bytes"], 0);
    let text = rig.ask(&["status"]);
    assert_eq!(text.code, 0);
    for words in
        ["connected to mqtt://127.0.0.1", "depot: heard", "3 recordings in 1 stream", "main: "]
    {
        assert!(text.out.contains(words), "{words} is not in\n{}", text.out);
    }
    let mode = fs::metadata(rig.path("socket")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    assert_eq!(over_socket(&rig.path("socket"), b"status --json\n").lines().count(), 1);
}

#[test]
fn an_agent_without_a_link_says_why_and_counts_nothing_as_connected() {
    let rig = Rig::new(nobody());
    let _running = rig.run();
    let status = rig.wait_for("refused", |status| status["link"]["last_error"].is_string());
    assert_eq!(
        (&status["link"]["connected"], &status["link"]["connections"]),
        (&false.into(), &0.into())
    );
    assert!(status["link"]["last_error"].as_str().unwrap().contains("refused"), "{status:#}");
    assert!(rig.ask(&["status"]).out.contains("NO LINK to"));
}

#[test]
fn the_files_tell_the_same_as_the_agent_did_and_nothing_is_written_by_asking_them() {
    let rig = Rig::new(nobody());
    let mut answers = Vec::new();
    let ask = |words: &[&str]| rig.ask(words);
    {
        let _running = rig.run();
        rig.wait_for("read", |status| status["index"]["unread"] == 0);
        for words in
            [&["coverage"][..], &["coverage", "--json"], &["segments"], &["segments", "--json"]]
        {
            answers.push((words, known_for_good(&ask(words).out)));
        }
        let status = ask(&["status", "--json"]).json().pop().unwrap();
        answers.push((&["status", "--json"], status["index"]["streams"].to_string()));
    }
    let before = content(&rig);
    for (words, running) in &answers {
        let dead = ask(words);
        if words[0] == "status" {
            let status = dead.json().pop().unwrap();
            assert_eq!(status["index"]["streams"].to_string(), *running);
            assert_eq!((&status["running"], dead.code), (&false.into(), 1));
        } else {
            assert_eq!((&known_for_good(&dead.out), dead.code), (running, 0), "{words:?}");
        }
    }
    let text = ask(&["status"]);
    assert!(
        text.out.contains("no agent answers") && text.err.contains("no agent answers"),
        "{text:?}"
    );
    assert_eq!(content(&rig), before, "something was written");
    for command in if HAS_SUPPORT { &["tap", "log"][..] } else { &["log"] } {
        let answer = ask(&[*command]);
        assert_eq!(answer.code, 1);
        assert!(answer.err.contains("no agent answers at"), "{}", answer.err);
    }
}

/// Whether a file is closed, and what is absent for good, the files alone do not tell.
fn known_for_good(text: &str) -> String {
    let words = ["final_until\":", "sealed\":"];
    let field = |line: &str| {
        line.split(',')
            .filter(|one| !words.iter().any(|word| one.contains(word)))
            .collect::<Vec<_>>()
            .join(",")
            .replace(['{', '}'], "")
    };
    text.lines()
        .filter(|line| !line.contains("may still be written to"))
        .map(field)
        .collect::<Vec<_>>()
        .join("\n")
}

fn content(rig: &Rig) -> Vec<(String, SystemTime, u64)> {
    let mut folders = vec![rig.card()];
    let mut content = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                folders.push(entry.path());
            }
            let path = entry.path().display().to_string();
            content.push((path, metadata.modified().unwrap(), metadata.len()));
        }
    }
    content.sort();
    content
}

#[test]
fn a_window_a_limit_and_a_stream_are_kept_to_and_an_unknown_one_is_told_with_those_that_are() {
    let rig = Rig::new(nobody());
    let kinds = |words: &[&str]| -> Vec<String> {
        let lines = rig.ask(words).json();
        lines.iter().map(|line| line["kind"].as_str().unwrap().to_owned()).collect()
    };
    let check = || {
        let window = ["--from", "2026-01-01T00:01:00Z", "--to", "2026-01-01T00:04:00Z"];
        let question = [&["coverage", "--json"][..], &window].concat();
        assert_eq!(kinds(&question), ["stream", "held"]);
        let question = [&["segments", "--json"][..], &window].concat();
        assert_eq!(kinds(&question), ["segment", "end"]);
        let limited = rig.ask(&["segments", "--json", "--limit", "2"]).json();
        assert_eq!(limited.len(), 3);
        assert_eq!(limited[2]["next"], "2026-01-01T00:05:00Z");
        for command in ["coverage", "segments"] {
            let unknown = rig.ask(&[command, "--stream", "other"]);
            assert_eq!(unknown.code, 1, "{unknown:?}");
            assert!(unknown.err.contains("no"), "{unknown:?}");
        }
    };
    {
        let _running = rig.run();
        rig.wait_for("read", |status| status["index"]["unread"] == 0);
        check();
    }
    check();
}

#[cfg(feature = "support")]
#[test]
fn what_is_heard_and_said_is_shown_as_it_happens_in_both_forms() {
    let broker = Broker::open();
    let rig = Rig::new(broker.port);
    let _running = rig.run();
    let watch = |more: &[&str]| {
        let mut command = agent();
        command.arg("tap").args(more).arg("--config").arg(rig.path("agent.toml"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        (child, lines)
    };
    rig.wait_for("connected", |status| status["link"]["connected"] == true);
    let (mut json_child, mut json) = watch(&["--json"]);
    let (mut text_child, mut text) = watch(&[]);
    assert!(json.next().unwrap().contains("watching"));
    assert!(text.next().unwrap().contains("from here on"));
    let third = rig.ask(&["tap"]);
    assert_eq!(third.code, 1);
    assert!(third.err.contains("too many watch"), "{third:?}");
    // The link ends and comes again: the agent says that it is there, and is answered.
    serve_time(broker.port, None);
    take_over(broker.port);
    let mut seen = Vec::new();
    while !["online", "coverage", "ask_time"].iter().all(|one| seen.contains(&(*one).to_owned())) {
        let line: serde_json::Value = serde_json::from_str(&json.next().unwrap()).unwrap();
        assert_eq!(line["kind"], "message");
        let incoming = line["message"].as_str().unwrap().starts_with("ask_");
        assert_eq!(line["direction"], if incoming { "in" } else { "out" });
        seen.push(line["message"].as_str().unwrap().to_owned());
    }
    assert!(text.any(|line| line.contains("<- ask_time") && line.contains("server=depot")));
    for child in [&mut json_child, &mut text_child] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// Connects under the agent's id, upon which the broker throws the agent out.
#[cfg(feature = "support")]
fn take_over(port: u16) {
    let id = protocol::topic::agent_client_id(&crate::rig::DEVICE.parse().unwrap());
    let options = rumqttc::MqttOptions::new(id, "127.0.0.1", port);
    let (_client, mut connection) = rumqttc::Client::new(options, 1);
    let event = connection.recv().unwrap().unwrap();
    assert!(matches!(event, rumqttc::Event::Incoming(rumqttc::Packet::ConnAck(_))));
}

#[test]
fn the_socket_takes_short_lines_from_a_few_at_once_and_says_what_it_does_not_take() {
    let rig = Rig::new(nobody());
    let _running = rig.run();
    let socket = rig.path("socket");
    for (line, expected) in [
        (&b"sing\n"[..], "error: `sing` is not known"),
        (b"status --config /etc/passwd\n", "error: "),
        (b"\n", "error: say `status`"),
        #[cfg(not(feature = "support"))]
        (b"tap\n", "error: this is a small build"),
        (b"\xff\xfe\x00\n", "error: "),
        (b"coverage --stream x --json\n", "{\"error\":"),
    ] {
        let answer = over_socket(&socket, line);
        assert!(answer.starts_with(expected), "{line:?}: {answer}");
        assert_eq!(answer.lines().count(), 1);
    }
    assert_eq!(over_socket(&socket, &[b'x'; 10_000]), "", "too long a line ends it");
    assert!(
        over_socket(&socket, b"status\nlog\n").contains("card surveyed"),
        "two lines, two answers"
    );
    let mut idle: Vec<UnixStream> = (0..8).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    assert!(over_socket(&socket, b"status\n").contains("too many ask at once"));
    // Whoever was there first is still answered.
    idle[0].write_all(b"status\n").unwrap();
    let mut line = String::new();
    BufReader::new(&idle[0]).read_line(&mut line).unwrap();
    assert!(line.starts_with("cam-7: "), "{line}");
    drop(idle);
    rig.wait_for("answered again", |_| true);
}

#[test]
fn a_dead_agents_socket_is_replaced_and_a_live_ones_is_left_alone() {
    let rig = Rig::new(nobody());
    drop(rig.run());
    assert!(rig.path("socket").exists(), "its power was cut");
    let first = rig.run();
    let mut second = agent();
    second.arg("run").arg("--config").arg(rig.path("agent.toml")).stderr(Stdio::piped());
    let mut second = second.spawn().unwrap();
    let log = BufReader::new(second.stderr.take().unwrap());
    let mut log = log.lines().map_while(Result::ok);
    assert!(log.any(|line| line.contains("another agent answers there")));
    assert_eq!(rig.status()["pid"], first.0.id());
    second.kill().unwrap();
    second.wait().unwrap();
    first.signal("TERM");
    let mut first = first;
    assert!(first.0.wait().unwrap().success());
    assert!(!rig.path("socket").exists(), "it cleans up");
}
