//! A real mosquitto on a port of its own, which can be killed and started again.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::artifacts;
use crate::process::{Process, free_port};

const START_DEADLINE: Duration = Duration::from_secs(20);

/// A broker for anyone on the loopback, without persistence; gone when dropped.
#[derive(Debug)]
pub struct Mosquitto {
    process: Process,
    address: SocketAddr,
    /// Its configuration and log.
    _directory: TempDir,
}

impl Mosquitto {
    /// Returns once it accepts connections.
    pub async fn start() -> anyhow::Result<Self> {
        Mosquitto::start_with("").await
    }

    /// The same with further lines of configuration, say `max_queued_messages 100`.
    pub async fn start_with(configuration: &str) -> anyhow::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let configuration = format!(
            "listener {port} {ip}\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n\
             {configuration}\n",
            port = address.port(),
            ip = address.ip(),
        );
        Self::spawn(address, &configuration).await
    }

    /// With the configuration that is committed for makers, on this address: its files lie in `folder`, and with root's
    /// rights it stays root, which a temporary directory needs.
    pub async fn start_secured(address: SocketAddr, folder: &Path) -> anyhow::Result<Self> {
        let committed = fs::read_to_string(brokers().join("mosquitto/mosquitto.conf"))?;
        let place = folder.to_str().context("a folder whose name is text")?;
        let listener = format!("listener {} {}", address.port(), address.ip());
        let configuration = committed
            .replace("listener 8883", &listener)
            .replace("/etc/mosquitto/gapless", place.trim_end_matches('/'));
        Self::spawn(address, &format!("user root\n{configuration}")).await
    }

    async fn spawn(address: SocketAddr, configuration: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir().context("a directory for mosquitto")?;
        let path = directory.path().join("mosquitto.conf");
        fs::write(&path, configuration).context("mosquitto's configuration")?;
        let arguments = ["-c".as_ref(), path.as_os_str()];
        let log_path = directory.path().join("mosquitto.log");
        let process = Process::spawn(&artifacts::tool("mosquitto")?, arguments, &log_path)?;
        let mut broker = Mosquitto { process, address, _directory: directory };
        broker.ready().await?;
        Ok(broker)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// SIGKILL: what it had queued is lost, its clients learn it from their sockets.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill().await
    }

    /// Kills it where it still runs, and starts it again on the same port.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process.restart().await?;
        self.ready().await
    }

    /// For its log lines, its memory and other signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        self.process.line(" running", START_DEADLINE).await.context("starting mosquitto")?;
        TcpStream::connect(self.address).await.context("mosquitto runs and does not accept")?;
        Ok(())
    }
}

/// Where the configurations for brokers are committed.
pub fn brokers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../reconciler/brokers")
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// MQTT 3.1.1 CONNECT with a clean session and no client id, and the CONNACK that accepts it.
    const CONNECT: [u8; 14] = *b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00";
    const ACCEPTED: [u8; 4] = [0x20, 0x02, 0x00, 0x00];

    async fn connect(address: SocketAddr) -> TcpStream {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(&CONNECT).await.unwrap();
        let mut answer = [0; 4];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, ACCEPTED);
        client
    }

    #[tokio::test]
    async fn a_killed_broker_drops_its_clients_and_comes_back_on_its_port() {
        let mut broker = Mosquitto::start().await.unwrap();
        let mut client = connect(broker.address()).await;
        broker.kill().await.unwrap();
        assert_eq!(client.read(&mut [0; 1]).await.unwrap_or(0), 0);
        TcpStream::connect(broker.address()).await.unwrap_err();
        broker.restart().await.unwrap();
        connect(broker.address()).await;
    }

    #[tokio::test]
    async fn two_brokers_live_side_by_side() {
        let first = Mosquitto::start().await.unwrap();
        let second = Mosquitto::start_with("max_queued_messages 100").await.unwrap();
        assert_ne!(first.address(), second.address());
        connect(first.address()).await;
        connect(second.address()).await;
    }
}
