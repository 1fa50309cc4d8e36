//! By mosquitto, with the files of `reconciler/brokers`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use tests::installation::DEVICE;
use tests::link::Cut;
use tests::stranger::{Stranger, online};

use crate::DEADLINE;
use crate::house::{House, THIEF, window};

const AGENT: &str = "gapless-agent-camera";
const SERVER: &str = "gapless-server-gapless";

#[tokio::test]
async fn a_hole_is_pulled_with_certificates_alone_and_a_renewed_one_needs_no_restart() {
    let mut house = House::with_mosquitto().await;
    let mut server = house.installation.start_server().unwrap();
    let mut agent = house.installation.start_agent().unwrap();
    agent.line("connected", DEADLINE).await.unwrap();
    house.installation.complete(window(), DEADLINE).await.unwrap();

    let before = house.shown(DEVICE).client.unwrap();
    for (path, kept) in [(before.cert_file, "old.pem"), (before.key_file, "old.key")] {
        fs::copy(path, house.file(kept)).unwrap();
    }
    fs::set_permissions(house.file("old.key"), Permissions::from_mode(0o600)).unwrap();
    house.gapless(["device", "renew", DEVICE, "-o", &house.file("")]).await;
    house.gapless(["device", "revoke", DEVICE, "--but-newest"]).await;
    house.hand_over_revoked();
    house.mosquitto.as_mut().unwrap().restart().await.unwrap();
    agent.line("connected", DEADLINE).await.unwrap();
    assert!(house.visit(&house.shown("old"), AGENT).await.is_err(), "the old one is revoked");

    // A tunnel: the same certificate again.
    house.installation.link.cut(Cut::Reset);
    house.installation.link.restore();
    agent.line("connected", DEADLINE).await.unwrap();
    assert!(agent.terminate(DEADLINE).await.unwrap().success());
    assert!(server.terminate(DEADLINE).await.unwrap().success());
}

#[tokio::test]
async fn who_has_no_valid_certificate_is_not_let_in() {
    let mut house = House::with_mosquitto().await;
    house.visit(&house.shown(DEVICE), AGENT).await.unwrap();
    for (what, tls) in
        [("another CA", house.forged()), ("expired", house.expired()), ("none", house.nothing())]
    {
        assert!(house.visit(&tls, AGENT).await.is_err(), "{what}");
    }
    assert!(Stranger::connect(house.broker, AGENT).await.is_err(), "plain text");
    let mosquitto = house.mosquitto.as_mut().unwrap().process();
    mosquitto.line("certificate verify failed", DEADLINE).await.unwrap();

    house.visit(&house.shown(THIEF), "gapless-agent-thief").await.unwrap();
    house.gapless(["device", "revoke", THIEF]).await;
    house.hand_over_revoked();
    house.mosquitto.as_mut().unwrap().restart().await.unwrap();
    house.visit(&house.shown(DEVICE), AGENT).await.unwrap();
    assert!(house.visit(&house.shown(THIEF), "gapless-agent-thief").await.is_err(), "revoked");
}

#[tokio::test]
async fn a_device_speaks_as_itself_only_and_asks_nobody() {
    let house = House::with_mosquitto().await;
    let mut watcher = house.visit(&house.shown("server"), SERVER).await.unwrap();
    watcher.listen("gapless/1/+/state").await.unwrap();
    let mut camera = house.visit(&house.shown(DEVICE), AGENT).await.unwrap();
    camera.listen("gapless/1/camera/ask").await.unwrap();

    // Under the camera's client id, and under the server's. Mosquitto acknowledges what it refuses, and drops it.
    for client in [AGENT, SERVER] {
        let mut thief = house.visit(&house.shown(THIEF), client).await.unwrap();
        for device in [DEVICE, THIEF] {
            thief.listen(&format!("gapless/1/{device}/ask")).await.unwrap();
        }
        thief.say("gapless/1/camera/state", &online(1)).await.unwrap();
        thief.say("gapless/1/camera/ask", b"forged").await.unwrap();
        thief.say("gapless/1/thief/state", b"mine").await.unwrap();
        assert_eq!(watcher.message().await.unwrap().topic, "gapless/1/thief/state");
        watcher.say("gapless/1/camera/ask", b"asked").await.unwrap();
        assert_eq!(&camera.message().await.unwrap().payload[..], b"asked");
        watcher.say("gapless/1/thief/ask", b"for it").await.unwrap();
        assert_eq!(thief.message().await.unwrap().topic, "gapless/1/thief/ask");
    }
    // Nor has it been thrown out.
    camera.say("gapless/1/camera/state", b"still here").await.unwrap();
    assert_eq!(watcher.message().await.unwrap().topic, "gapless/1/camera/state");
}

#[tokio::test]
async fn a_key_that_others_can_read_is_used_by_neither_side() {
    let house = House::with_mosquitto().await;
    let expose = |name: &str, mode| {
        fs::set_permissions(house.file(name), Permissions::from_mode(mode)).unwrap();
    };
    expose("camera.key", 0o640);
    expose("server.key", 0o644);
    let mut agent = house.installation.start_agent().unwrap();
    let said = agent.line("no link", DEADLINE).await.unwrap();
    assert!(said.contains("chmod 600") && said.contains("camera.key"), "{said}");
    let mut server = house.installation.start_server().unwrap();
    let said = server.line("chmod 600", DEADLINE).await.unwrap();
    assert!(said.contains("server.key"), "{said}");
    // Put right, the agent needs no restart.
    expose("camera.key", 0o600);
    agent.line("connected", DEADLINE).await.unwrap();
}
