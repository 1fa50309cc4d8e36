//! Who watches is told what happens, and is let go when the server ends.

use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{DEADLINE, serve};

/// What is sent to whoever asks for this, as far as it has come.
async fn open(socket: &Path, path: &str) -> BufReader<UnixStream> {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: gapless\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    BufReader::new(stream)
}

async fn line_with(reader: &mut BufReader<UnixStream>, wanted: &str) -> String {
    let found = async {
        loop {
            let mut line = String::new();
            assert_ne!(reader.read_line(&mut line).await.unwrap(), 0, "it ended before {wanted}");
            if line.contains(wanted) {
                return line;
            }
        }
    };
    timeout(DEADLINE, found).await.unwrap_or_else(|_| panic!("{wanted} did not come"))
}

#[tokio::test]
async fn what_happens_is_told_as_it_happens_and_watchers_do_not_hold_up_the_end() {
    let (installation, mut server) = serve().await;
    let socket = installation.root("state/api.sock");
    let mut watching = open(&socket, "/api/v1/events").await;
    line_with(&mut watching, "text/event-stream").await;
    let agent = installation.start_agent().unwrap();
    line_with(&mut watching, "event: device").await;
    let data = line_with(&mut watching, "data: ").await;
    assert!(data.contains("\"device\":\"camera\",\"online\":true"), "{data}");
    drop(agent);
    let ended = server.terminate(std::time::Duration::from_secs(10)).await.unwrap();
    assert!(ended.success(), "{ended}");
    let log = std::fs::read_to_string(installation.root("server.log")).unwrap();
    assert!(log.contains("gapless has ended"), "{log}");
    let rest = async { while watching.read_line(&mut String::new()).await.is_ok_and(|n| n > 0) {} };
    timeout(DEADLINE, rest).await.unwrap();
}
