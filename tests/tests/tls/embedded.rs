//! By the broker in the server.

use std::fs;

use tests::installation::DEVICE;
use tests::stranger::Stranger;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::DEADLINE;
use crate::house::{House, THIEF, window};

const AGENT: &str = "gapless-agent-camera";

#[tokio::test]
async fn a_hole_is_pulled_and_each_refused_connection_is_told_with_its_cause() {
    let house = House::embedded().await;
    let mut server = house.installation.start_server().unwrap();
    let mut agent = house.installation.start_agent().unwrap();
    agent.line("connected", DEADLINE).await.unwrap();
    house.installation.complete(window(), DEADLINE).await.unwrap();
    assert!(agent.terminate(DEADLINE).await.unwrap().success());

    for (what, tls) in [
        ("certificate of another CA", house.forged()),
        ("certificate expired", house.expired()),
        ("no certificate", house.nothing()),
    ] {
        assert!(house.visit(&tls, AGENT).await.is_err(), "{what}");
        server.line(&format!("connection refused: {what}"), DEADLINE).await.unwrap();
    }
    assert!(Stranger::connect(house.broker, AGENT).await.is_err());
    server.line("connection refused: plain text instead of TLS", DEADLINE).await.unwrap();

    // With a certificate that is valid, and somebody else's.
    for client in [AGENT, "gapless-server-gapless", "gapless-server-thief"] {
        assert!(house.visit(&house.shown(THIEF), client).await.is_err(), "{client}");
    }
    let said = server.line("not its certificate", DEADLINE).await.unwrap();
    assert!(said.contains("thief") && said.contains(AGENT), "{said}");
    house.visit(&house.shown(THIEF), "gapless-agent-thief").await.unwrap();

    let metrics = metrics(&house).await;
    for counted in ["{what=\"handshake\"} 4", "{what=\"connection\"} 3"] {
        let line = format!("gapless_broker_refused_total{counted}");
        assert!(metrics.lines().any(|said| said == line), "{line} is not in\n{metrics}");
    }
    assert!(server.terminate(DEADLINE).await.unwrap().success());
}

/// As Prometheus would read them, over the socket of the server's own user.
async fn metrics(house: &House) -> String {
    let mut api = UnixStream::connect(house.installation.root("state/api.sock")).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nhost: gapless\r\nconnection: close\r\n\r\n";
    api.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    api.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_revoked_device_is_thrown_out_at_once_and_a_renewed_one_stays() {
    let house = House::embedded().await;
    let mut server = house.installation.start_server().unwrap();
    let mut agent = house.installation.start_agent().unwrap();
    agent.line("connected", DEADLINE).await.unwrap();
    let mut thief = house.visit(&house.shown(THIEF), "gapless-agent-thief").await.unwrap();

    house.gapless(["device", "revoke", THIEF]).await;
    server.line("connection refused: certificate revoked", DEADLINE).await.unwrap();
    assert!(thief.message().await.is_err(), "it is still connected");
    assert!(house.visit(&house.shown(THIEF), "gapless-agent-thief").await.is_err());

    // The agent is thrown out with its old certificate, and comes back with the new one.
    house.gapless(["device", "renew", DEVICE, "-o", &house.file("")]).await;
    house.gapless(["device", "revoke", DEVICE, "--but-newest"]).await;
    agent.line("connected", DEADLINE).await.unwrap();
    house.installation.complete(window(), DEADLINE).await.unwrap();
}

#[tokio::test]
async fn a_renewed_certificate_of_the_broker_is_used_without_a_restart_and_a_broken_one_is_not() {
    let house = House::embedded().await;
    let mut server = house.installation.start_server().unwrap();
    server.line("gapless runs", DEADLINE).await.unwrap();
    house.visit(&house.shown(DEVICE), AGENT).await.unwrap();
    fs::write(house.file("broker.pem"), "-----BEGIN CERTIFICATE-----").unwrap();
    server.line("keeps the certificates", DEADLINE).await.unwrap();
    house.visit(&house.shown(DEVICE), AGENT).await.unwrap();
    house.gapless(["device", "broker", "127.0.0.1", "-o", &house.file("")]).await;
    server.line("read its certificates again", DEADLINE).await.unwrap();
    house.visit(&house.shown(DEVICE), AGENT).await.unwrap();
}
