//! Programs under test as child processes: started, listened to, signalled, measured, and never left behind.
//!
//! Everything a child says goes to a file, for people, and to a list of lines a test can wait on. Every
//! wait has a deadline, and its failure shows the end of what the child said.

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal;
use nix::unistd::Pid;
use rand::RngExt;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

pub use nix::sys::signal::Signal;

/// How many of a child's last lines an error shows.
const SHOWN_LINES: usize = 30;

/// A child process, ended with SIGKILL when dropped.
#[derive(Debug)]
pub struct Process {
    command: Command,
    log_path: PathBuf,
    child: Child,
    said: watch::Receiver<Vec<String>>,
    /// Lines that an earlier wait has already gone past.
    heard: usize,
}

impl Process {
    /// Starts `program`; what it says is appended to `log_path`.
    pub fn spawn<I>(program: &Path, arguments: I, log_path: &Path) -> anyhow::Result<Self>
    where
        I: IntoIterator<Item: AsRef<std::ffi::OsStr>>,
    {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let (child, said) = start(&mut command, log_path)?;
        Ok(Process { command, log_path: log_path.to_owned(), child, said, heard: 0 })
    }

    /// Waits for the next line that contains `text`, past those found earlier, and answers it.
    pub async fn line(&mut self, text: &str, deadline: Duration) -> anyhow::Result<String> {
        let said = &mut self.said;
        let heard = &mut self.heard;
        let listening = async {
            loop {
                let line = said.borrow_and_update().get(*heard).cloned();
                match line {
                    Some(line) => {
                        *heard += 1;
                        if line.contains(text) {
                            return Some(line);
                        }
                    }
                    None => said.changed().await.ok()?,
                }
            }
        };
        match timeout(deadline, listening).await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => bail!("waiting for `{text}`: it ended; {}", self.last_words()),
            Err(_) => bail!("waiting for `{text}`: the deadline passed; {}", self.last_words()),
        }
    }

    /// Process id, where it still runs.
    pub fn pid(&self) -> anyhow::Result<Pid> {
        let id = self.child.id().with_context(|| format!("it has ended; {}", self.last_words()))?;
        Ok(Pid::from_raw(i32::try_from(id)?))
    }

    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        signal::kill(self.pid()?, signal).context("the child cannot be signalled")
    }

    /// SIGKILL, as a power cut; returns once the child is gone.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("the child cannot be killed")
    }

    /// SIGTERM, and the status it exits with.
    pub async fn terminate(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.exit(deadline).await
    }

    /// Waits for it to exit by itself.
    pub async fn exit(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        match timeout(deadline, self.child.wait()).await {
            Ok(status) => status.context("the child cannot be waited for"),
            Err(_) => bail!("it did not exit before the deadline; {}", self.last_words()),
        }
    }

    /// Starts the same program again after it has ended; waits for lines hear the new run only.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.kill().await?;
        (self.child, self.said) = start(&mut self.command, &self.log_path)?;
        self.heard = 0;
        Ok(())
    }

    /// Resident memory in bytes, now.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most resident memory it ever had, in bytes.
    pub fn peak_resident_bytes(&self) -> anyhow::Result<u64> {
        self.memory("VmHWM:")
    }

    /// One line of `/proc/PID/status`, which the kernel gives in KiB.
    fn memory(&self, field: &str) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/status", self.pid()?);
        let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let value = status.lines().find_map(|line| line.strip_prefix(field));
        let kibibytes = value.and_then(|value| value.trim().strip_suffix(" kB"));
        let kibibytes = kibibytes.with_context(|| format!("{path} has no {field}"))?;
        Ok(kibibytes.parse::<u64>()? * 1024)
    }

    /// User and system time of all its threads so far, which the kernel gives in hundredths of a second.
    pub fn processor_time(&self) -> anyhow::Result<Duration> {
        let path = format!("/proc/{}/stat", self.pid()?);
        let stat = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        // The name may hold anything, spaces and brackets too; both times stand at fixed places after it.
        let (_, fields) = stat.rsplit_once(')').with_context(|| format!("{path} names nobody"))?;
        let times = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let hundredths = times.sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(hundredths * 10))
    }

    fn last_words(&self) -> String {
        let lines = self.said.borrow();
        let last = lines.iter().skip(lines.len().saturating_sub(SHOWN_LINES));
        let last = last.fold(String::new(), |text, line| text + "\n    " + line);
        format!("all of it is in {}, its end is:{last}", self.log_path.display())
    }
}

fn start(
    command: &mut Command,
    log_path: &Path,
) -> anyhow::Result<(Child, watch::Receiver<Vec<String>>)> {
    let log = File::options().create(true).append(true).open(log_path);
    let log = log.with_context(|| format!("opening {}", log_path.display()))?;
    let mut child = command
        .spawn()
        .with_context(|| format!("starting {:?}", command.as_std().get_program()))?;
    let (sender, said) = watch::channel(Vec::new());
    if let Some(stdout) = child.stdout.take() {
        tokio::spawn(listen(stdout, log.try_clone()?, sender.clone()));
    }
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(listen(stderr, log, sender));
    }
    Ok((child, said))
}

/// Ends with the stream; waits see the end of both once all senders are gone.
async fn listen(stream: impl AsyncRead + Unpin, mut log: File, said: watch::Sender<Vec<String>>) {
    let mut lines = BufReader::new(stream).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line).into_owned();
        // The file is for people; a full disk must not fail what a test is about.
        let _ = writeln!(log, "{line}");
        said.send_modify(|lines| lines.push(line));
    }
}

/// Asks `probe` until it has an answer, for states that only polling can tell.
pub async fn until<T, P>(what: &str, deadline: Duration, mut probe: P) -> anyhow::Result<T>
where
    P: AsyncFnMut() -> Option<T>,
{
    let polled = timeout(deadline, async {
        let mut poll = tokio::time::interval(Duration::from_millis(20));
        loop {
            poll.tick().await;
            if let Some(answer) = probe().await {
                return answer;
            }
        }
    });
    polled.await.with_context(|| format!("waiting until {what}: the deadline passed"))
}

/// A port of the loopback that nothing listens on, for a server that must be told one.
///
/// Below 32768, where Linux starts to hand out ports by itself: a server that is down for a moment
/// then does not find its port taken by somebody's outgoing connection.
pub fn free_port() -> anyhow::Result<u16> {
    let mut random = rand::rng();
    (0..1_000)
        .map(|_| random.random_range(15_000..32_768))
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .context("no port of the loopback is free")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn shell(script: &str, directory: &Path) -> Process {
        Process::spawn(Path::new("/bin/sh"), ["-c", script], &directory.join("log")).unwrap()
    }

    #[tokio::test]
    async fn lines_of_both_streams_are_heard_in_turn_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let mut child =
            shell("echo ready 1; echo ready 2; echo oh >&2; exec sleep 600", directory.path());
        assert_eq!(child.line("ready", DEADLINE).await.unwrap(), "ready 1");
        assert_eq!(child.line("ready", DEADLINE).await.unwrap(), "ready 2");
        let mut other = shell("echo oh >&2; exec sleep 600", directory.path());
        assert_eq!(other.line("oh", DEADLINE).await.unwrap(), "oh");
        let log = fs::read_to_string(directory.path().join("log")).unwrap();
        assert!(log.contains("ready 2\n"), "{log}");
    }

    #[tokio::test]
    async fn a_wait_for_what_never_comes_fails_with_the_last_words() {
        let directory = tempfile::tempdir().unwrap();
        let mut child = shell("echo out of film", directory.path());
        let error = child.line("ready", DEADLINE).await.unwrap_err().to_string();
        assert!(error.contains("it ended") && error.contains("out of film"), "{error}");
    }

    #[tokio::test]
    async fn terminate_gives_the_status_and_restart_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done";
        let mut child = shell(script, directory.path());
        for _ in 0..2 {
            child.line("ready", DEADLINE).await.unwrap();
            assert_eq!(child.terminate(DEADLINE).await.unwrap().code(), Some(7));
            child.restart().await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_dropped_child_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let child = shell("exec sleep 600", directory.path());
        let pid = child.pid().unwrap();
        drop(child);
        let gone = async || signal::kill(pid, None).is_err().then_some(());
        until("the child is gone", DEADLINE, gone).await.unwrap();
    }

    #[tokio::test]
    async fn memory_is_read_in_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut child = Process::spawn(Path::new("/bin/sleep"), ["600"], &log).unwrap();
        let resident = child.resident_bytes().unwrap();
        let peak = child.peak_resident_bytes().unwrap();
        assert!((4096..=peak).contains(&resident), "{resident} of {peak}");
        assert!(peak < 64 * 1024 * 1024, "{peak}");
        child.kill().await.unwrap();
        assert!(child.peak_resident_bytes().is_err());
    }

    #[tokio::test]
    async fn processor_time_grows_with_work_and_only_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let idle = shell("exec sleep 600", directory.path());
        let busy = shell("while :; do :; done", directory.path());
        let worked = async || {
            let worked = busy.processor_time().unwrap();
            (worked >= Duration::from_millis(200)).then_some(())
        };
        until("the busy one has worked", DEADLINE, worked).await.unwrap();
        assert!(idle.processor_time().unwrap() < Duration::from_millis(100));
    }
}
