//! The API held to its own description by Schemathesis: whatever is asked, sensible or not, the server answers as
//! it says it does, and never with a failure of its own.

use std::process::Stdio;
use std::time::Duration;

use tests::artifacts::schemathesis;
use tests::relay::Relay;
use tokio::process::Command;
use tokio::time::timeout;

use super::serve;

/// What is there: names that are made up would only ever be unknown.
const KNOWN: &str = "
[parameters]
\"path.device\" = \"camera\"
\"path.stream\" = \"main\"
\"query.device\" = \"camera\"
\"query.stream\" = \"main\"

[[operations]]
include-path = \"/api/v1/jobs/{id}\"
parameters = { \"path.id\" = \"j1\" }

[[operations]]
include-path = \"/api/v1/runs/{id}\"
parameters = { \"path.id\" = \"r1\" }

[[operations]]
include-path = \"/api/v1/policies/{name}\"
parameters = { \"path.name\" = \"night\" }
";

/// Of the whole run; it takes less than half.
const PATIENCE: Duration = Duration::from_secs(240);

#[tokio::test]
async fn the_server_answers_whatever_is_asked_as_its_description_says() {
    let program = schemathesis().unwrap();
    let (installation, _server) = serve().await;
    let relay = Relay::open(installation.root("state/api.sock")).await.unwrap();
    std::fs::write(installation.root("schemathesis.toml"), KNOWN).unwrap();
    let description = format!("http://{}/api/v1/openapi.json", relay.address());
    let mut command = Command::new(program);
    command
        .args(["run", &description, "--seed", "7", "--max-examples", "15", "--no-color"])
        .args(["--phases", "examples,coverage,fuzzing", "--workers", "1"])
        // It has no end; its own test holds it.
        .args(["--exclude-path", "/api/v1/events"])
        // What is well-formed may still make no sense here: a range that ends before it begins, a policy that
        // contradicts itself.
        .args(["--exclude-checks", "positive_data_acceptance"])
        .args(["--request-timeout", "35", "--generation-database", "none"])
        .current_dir(installation.root(""))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let log = std::fs::read_to_string(installation.root("server.log")).unwrap();
    assert!(output.status.success(), "{said}\n{}\n{log}", String::from_utf8_lossy(&output.stderr));
    assert!(!log.contains("panicked"), "{log}");
}
