//! The same files by other means: rsync, and a copy that knows nothing of resuming.

use std::fs::{self, Metadata};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use tests::artifacts::tool;
use tests::link::{Link, Shape};
use tests::process::{Process, free_port, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::weather::{Ran, Weather};

const START_DEADLINE: Duration = Duration::from_secs(20);
/// A connection that is silent for so long is taken for dead.
const SILENCE: Duration = Duration::from_secs(10);
/// Between two attempts: at once, but not as fast as a refused connection allows.
const PAUSE: Duration = Duration::from_millis(100);
const BUFFER_BYTES: usize = 64 * 1024;

/// `rsync --partial --append-verify` to a daemon behind the link, again and again until it succeeds.
pub async fn rsync(
    files: &[PathBuf],
    target: &Path,
    shape: Shape,
    weather: &Weather,
) -> anyhow::Result<Ran> {
    fs::create_dir(target)?;
    let program = tool("rsync").context("`apt-get install rsync`")?;
    let port = free_port()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let owner: Metadata = fs::metadata(target)?;
    let config = target.with_extension("conf");
    fs::write(
        &config,
        format!(
            "use chroot = false\nuid = {}\ngid = {}\n[archive]\npath = {}\nread only = false\n",
            owner.uid(),
            owner.gid(),
            target.display()
        ),
    )?;
    let arguments = [
        "--daemon".to_owned(),
        "--no-detach".to_owned(),
        format!("--config={}", config.display()),
        "--address=127.0.0.1".to_owned(),
        format!("--port={port}"),
        "--log-file=/dev/null".to_owned(),
    ];
    let _daemon = Process::spawn(&program, arguments, &target.with_extension("log"))?;
    let listens = async || TcpStream::connect(address).await.ok();
    until("rsync's daemon listens", START_DEADLINE, listens).await?;
    let link = Link::open(address, shape).await?;
    let url = format!("rsync://{}/archive/", link.address());
    let work = async {
        loop {
            let mut client = Command::new(&program);
            client.args(["--times", "--partial", "--append-verify"]);
            client.arg(format!("--timeout={}", SILENCE.as_secs())).args(files).arg(&url);
            client.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
            if client.status().await.context("rsync cannot be run")?.success() {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
    };
    let ran = weather.over(&link, work).await?;
    same(files, target)?;
    Ok(ran)
}

/// One file after the other over one connection; when that is lost, its file begins anew on the next one.
pub async fn copy(
    files: &[PathBuf],
    target: &Path,
    shape: Shape,
    weather: &Weather,
) -> anyhow::Result<Ran> {
    fs::create_dir(target)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let link = Link::open(listener.local_addr()?, shape).await?;
    let (names, folder) = (names(files)?, target.to_owned());
    let receiver = tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            // The sender comes again.
            let _ = receive(connection, &names, &folder).await;
        }
    });
    let work = async {
        let mut done = 0;
        while done < files.len() {
            if send(files, link.address(), &mut done).await.is_err() {
                sleep(PAUSE).await;
            }
        }
        Ok(())
    };
    let ran = weather.over(&link, work).await?;
    receiver.abort();
    same(files, target)?;
    Ok(ran)
}

/// Sends from the file number `done` on, and counts those that the other side has.
async fn send(files: &[PathBuf], to: SocketAddr, done: &mut usize) -> anyhow::Result<()> {
    let mut connection = TcpStream::connect(to).await?;
    while let Some(path) = files.get(*done) {
        let bytes = fs::read(path)?;
        let header = [*done as u64, bytes.len() as u64].map(u64::to_le_bytes).concat();
        timeout(SILENCE, connection.write_all(&header)).await??;
        for chunk in bytes.chunks(BUFFER_BYTES) {
            timeout(SILENCE, connection.write_all(chunk)).await??;
        }
        timeout(SILENCE, connection.read_u8()).await??;
        *done += 1;
    }
    Ok(())
}

async fn receive(mut from: TcpStream, names: &[String], target: &Path) -> anyhow::Result<()> {
    loop {
        let mut numbers = [0; 2];
        for number in &mut numbers {
            *number = from.read_u64_le().await?;
        }
        let [file, mut left] = numbers;
        let name = names.get(usize::try_from(file)?).context("no such file")?;
        let mut file = tokio::fs::File::create(target.join(name)).await?;
        let mut buffer = vec![0; BUFFER_BYTES];
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = timeout(SILENCE, from.read(&mut buffer[..most])).await??;
            ensure!(count > 0, "the sender broke off");
            file.write_all(&buffer[..count]).await?;
            left -= count as u64;
        }
        file.sync_data().await?;
        from.write_all(&[1]).await?;
    }
}

fn names(files: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let name = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
    files.iter().map(|path| name(path).context("a segment has a name")).collect()
}

/// What arrived is what was sent.
fn same(files: &[PathBuf], target: &Path) -> anyhow::Result<()> {
    for (path, name) in files.iter().zip(names(files)?) {
        let arrived = fs::read(target.join(&name)).with_context(|| format!("{name} is missing"))?;
        ensure!(arrived == fs::read(path)?, "{name} has arrived otherwise than it was sent");
    }
    fs::remove_dir_all(target).map_err(|error: io::Error| error.into())
}
