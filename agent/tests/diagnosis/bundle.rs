//! The support archive, which must not hold a secret.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::rig::{Broker, Rig, nobody, write};

const PASSWORD: &str = "correct horse \"battery\" staple";
const KEY_LINE: &str = "MC4CAQAwBQYDK2VwBCIEIOnEPZ6gM5MWtHG6pVGnXLRHYNKXkKrBGVGkHDQXyYlr";

fn listed(archive: &std::path::Path, folder: &std::path::Path) -> Vec<String> {
    let unpacked = Command::new("tar").arg("-xvf").arg(archive).arg("-C").arg(folder).output();
    let unpacked = unpacked.unwrap();
    assert!(unpacked.status.success(), "{unpacked:?}");
    let names = String::from_utf8(unpacked.stdout).unwrap();
    names.lines().map(|name| name.split_once('/').unwrap().1.to_owned()).collect()
}

fn pack(rig: &Rig) -> (Vec<String>, String) {
    let archive = rig.path("bundle.tar");
    let answer = rig.ask(&["bundle", "-o", archive.to_str().unwrap()]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let mode = std::fs::metadata(&archive).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let folder = tempfile::tempdir().unwrap();
    let names = listed(&archive, folder.path());
    let bytes = std::fs::read(&archive).unwrap();
    (names, String::from_utf8_lossy(&bytes).into_owned())
}

#[test]
fn it_holds_all_that_helps_and_no_secret_of_the_configuration() {
    let broker = Broker::with_user(PASSWORD, "topic readwrite gapless/1/cam-7/#");
    let rig = Rig::new(broker.port);
    write(&rig.path("password"), format!("{PASSWORD}\n").as_bytes());
    let password = rig.path("password");
    rig.configure(
        broker.port,
        &format!("broker.username = \"cam\"\nbroker.password_file = {password:?}"),
    );
    let _running = rig.run();
    rig.wait_for("connected", |status| status["link"]["connected"] == true);
    let (names, all) = pack(&rig);
    for name in [
        "about.txt",
        "config.toml",
        "status.txt",
        "status.json",
        "coverage.txt",
        "coverage.json",
        "segments.json",
        "log.txt",
        "doctor.txt",
        "index-check.txt",
        "kernel.txt",
        "system/proc/mounts",
        "system/proc/meminfo",
        "agent/status",
    ] {
        assert!(names.contains(&name.to_owned()), "{name} is not in {names:?}");
    }
    for words in [
        "connected to mqtt://127.0.0.1",
        "card surveyed",
        "username = \"cam\"",
        "let in as `cam`",
        "MemTotal",
    ] {
        assert!(all.contains(words), "{words}");
    }
    for secret in [PASSWORD, "correct horse", &serde_json::to_string(PASSWORD).unwrap()] {
        assert!(!all.contains(secret), "{secret}");
    }
}

#[test]
fn of_a_configuration_that_cannot_be_used_no_secret_is_told_with_the_complaint() {
    let rig = Rig::new(nobody());
    let key = format!("-----BEGIN PRIVATE KEY-----\n{KEY_LINE}\n-----END PRIVATE KEY-----\n");
    write(&rig.path("cam.key"), key.as_bytes());
    let good = std::fs::read_to_string(rig.path("agent.toml")).unwrap();
    let running = rig.run();
    let url = "mqtt://cam:in-the-url@127.0.0.1:1883";
    let bad = good.replacen(
        "device =",
        &format!("password = \"hunter2\"\nkey_file = {:?}\ndevice =", rig.path("cam.key")),
        1,
    );
    for text in [bad, good.replacen("mqtt://127.0.0.1", "mqtt://cam:in-the-url@127.0.0.1", 1)] {
        assert!(text.contains("hunter2") || text.contains("in-the-url"), "{url}");
        rig.write_config(&text);
        running.signal("HUP");
        let begun = std::time::Instant::now();
        let socket = rig.path("socket");
        let status = || rig.ask(&["status", "--json", "--socket", socket.to_str().unwrap()]);
        while status().json()[0]["configuration"]["error"].is_null() {
            assert!(begun.elapsed() < crate::rig::PATIENCE, "the file was not read");
        }
        let (names, all) = pack(&rig);
        assert!(names.contains(&"doctor.txt".to_owned()));
        assert!(all.contains("cannot be used"));
        for secret in ["hunter2", "in-the-url", KEY_LINE] {
            assert!(!all.contains(secret), "{secret}");
        }
        rig.write_config(&good);
        running.signal("HUP");
        rig.wait_for("mended", |status| status["configuration"]["error"].is_null());
    }
}

#[test]
fn it_is_made_of_the_files_where_no_agent_runs_and_told_to_standard_output_where_that_is_asked_for()
{
    let rig = Rig::new(nobody());
    let (_, all) = pack(&rig);
    assert!(all.contains("no agent answers") && all.contains("FAIL  tcp"));
    let mut command = crate::rig::agent();
    let output =
        command.args(["bundle", "-o", "-", "--config"]).arg(rig.path("agent.toml")).output();
    let output = output.unwrap();
    assert!(output.status.success() && output.stdout.len() > 10_000);
    write(&rig.path("out.tar"), &output.stdout);
    let folder = tempfile::tempdir().unwrap();
    assert!(listed(&rig.path("out.tar"), folder.path()).contains(&"about.txt".to_owned()));
}
