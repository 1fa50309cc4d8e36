//! The configuration file while the agent runs.

use crate::rig::{Broker, Rig, nobody};

#[test]
fn another_broker_is_gone_to_upon_a_hangup_without_a_restart() {
    let (first, second) = (Broker::open(), Broker::open());
    let rig = Rig::new(first.port);
    let running = rig.run();
    rig.wait_for("connected", |status| status["link"]["connected"] == true);
    rig.configure(second.port, "");
    running.signal("HUP");
    let broker = format!("mqtt://127.0.0.1:{}", second.port);
    let status = rig.wait_for("at the second", |status| {
        status["link"]["connected"] == true && status["link"]["broker"] == broker
    });
    assert_eq!(
        (&status["pid"], &status["link"]["connections"]),
        (&running.0.id().into(), &2.into())
    );
    assert!(status["configuration"]["error"].is_null(), "{status:#}");
}

#[test]
fn a_changed_file_is_found_without_being_told() {
    let broker = Broker::open();
    let rig = Rig::new(nobody());
    let _running = rig.run();
    rig.configure(broker.port, "");
    rig.wait_for("connected", |status| status["link"]["connected"] == true);
}

#[test]
fn what_needs_a_restart_is_said_and_the_rest_is_taken_over() {
    let broker = Broker::open();
    let rig = Rig::new(broker.port);
    let running = rig.run();
    rig.configure(
        broker.port,
        "limits.max_open_transfers = 2\nnetwork.link = \"dock\"\nclock.believe = \"plausible\"",
    );
    let text = std::fs::read_to_string(rig.path("agent.toml")).unwrap();
    rig.write_config(
        &text
            .replace("[clock]\nbelieve = \"names\"\n", "")
            .replace("seal_after_seconds = 3600", "seal_after_seconds = 5"),
    );
    running.signal("HUP");
    let status = rig.wait_for("said", |status| {
        status["link"]["network"] == "dock" && status["link"]["connected"] == true
    });
    let waiting = status["configuration"]["needs_restart"].to_string();
    assert_eq!(waiting, "[\"index\",\"clock\"]");
    let text = rig.ask(&["status"]).out;
    assert!(text.contains("needs a restart: index, clock"), "{text}");
    if cfg!(feature = "support") {
        let doctor = rig.ask(&["doctor", "--json"]);
        assert_eq!(doctor.verdict("agent"), "warn");
    }
}

#[test]
fn how_fast_the_card_may_be_read_is_taken_over_upon_a_hangup_and_shown() {
    let rig = Rig::new(nobody());
    let limit = |rate: u64| format!("limits.card_bytes_per_second = {rate}");
    rig.configure(nobody(), &limit(100_000));
    let running = rig.run();
    let key = "read_limit_bytes_per_second";
    rig.wait_for("limited", |status| {
        status["card"][key] == 100_000 && status["card"]["read_bytes"].as_u64().unwrap() > 0
    });
    let text = rig.ask(&["status"]).out;
    assert!(text.contains("read of it since the start, no more than 97.7 KiB/s"), "{text}");
    rig.configure(nobody(), &limit(0));
    running.signal("HUP");
    rig.wait_for("free", |status| status["card"][key] == 0);
    let text = rig.ask(&["status"]).out;
    assert!(text.contains("as fast as it is asked"), "{text}");
}

#[test]
fn an_invalid_file_leaves_the_old_one_in_force_and_is_shown_with_the_reason() {
    let broker = Broker::open();
    let rig = Rig::new(broker.port);
    let running = rig.run();
    rig.wait_for("connected", |status| status["link"]["connected"] == true);
    let good = std::fs::read_to_string(rig.path("agent.toml")).unwrap();
    rig.write_config(&good.replace("device =", "devise ="));
    running.signal("HUP");
    // Its own configuration cannot tell where it answers any more.
    let socket = rig.path("socket");
    let ask = |words: &[&str]| rig.ask(&[words, &["--socket", socket.to_str().unwrap()]].concat());
    let begun = std::time::Instant::now();
    let status = loop {
        let status = ask(&["status", "--json"]).json().pop().unwrap();
        if !status["configuration"]["error"].is_null() {
            break status;
        }
        assert!(begun.elapsed() < crate::rig::PATIENCE, "{status:#}");
    };
    assert!(status["configuration"]["error"].as_str().unwrap().contains("devise"), "{status:#}");
    assert_eq!(
        (&status["link"]["connected"], &status["link"]["connections"]),
        (&true.into(), &1.into())
    );
    assert!(ask(&["status"]).out.contains("NOT in force"));
    assert!(ask(&["log"]).out.contains("the old one stays"));
    rig.write_config(&good);
    rig.wait_for("mended", |status| status["configuration"]["error"].is_null());
}
