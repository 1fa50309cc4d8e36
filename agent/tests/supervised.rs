//! The real agent under a supervisor with a watchdog, in systemd's place.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only `#[test]` functions for tests"
)]

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// No wait is endless; far above what any of them takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// The watchdog's, of which a quarter passes between two signs of life.
const WATCHDOG: Duration = Duration::from_secs(4);

struct Supervisor(UnixDatagram);

impl Supervisor {
    /// True once the agent says it, false where it has not within the time.
    fn hears(&self, line: &str, within: Duration) -> bool {
        let begun = Instant::now();
        let mut datagram = [0; 4_096];
        while let Some(left) = within.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
            self.0.set_read_timeout(Some(left)).unwrap();
            let Ok(length) = self.0.recv(&mut datagram) else { continue };
            if std::str::from_utf8(&datagram[..length]).unwrap().lines().any(|said| said == line) {
                return true;
            }
        }
        false
    }
}

struct Agent(Child);

impl Agent {
    /// Nobody listens at its broker's, and its card is empty.
    fn start(directory: &Path, socket: &Path) -> Agent {
        let config = directory.join("agent.toml");
        let text = format!(
            "device = \"cam-7\"\nbroker.url = \"mqtt://127.0.0.1:9\"\n\
             [card]\nroot = {directory:?}\nrequire_mount = false\n\
             [[stream]]\nid = \"main\"\npath = \"recordings\"\nlayout = \"mediamtx\"\ntime_zone = \"UTC\"\n"
        );
        std::io::Write::write_all(&mut fs::File::create(&config).unwrap(), text.as_bytes())
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gapless-agent"));
        command.args(["run".as_ref(), "--config".as_ref(), config.as_os_str()]);
        command.env("NOTIFY_SOCKET", socket).stderr(Stdio::null());
        command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        Agent(command.spawn().unwrap())
    }

    fn thread(&self, name: &str) -> Pid {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
        let mut tasks = tasks.map(|task| task.unwrap().path());
        let named = |task: &std::path::PathBuf| {
            fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
        };
        let task = tasks.find(named).unwrap_or_else(|| panic!("no thread `{name}`"));
        Pid::from_raw(task.file_name().unwrap().to_str().unwrap().parse().unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.kill().expect("it is our child");
        self.0.wait().expect("it is our child");
    }
}

#[test]
fn a_watchdog_hears_of_an_agent_without_a_link_and_nothing_once_its_card_hangs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let supervisor = Supervisor(UnixDatagram::bind(&path).unwrap());
    let agent = Agent::start(directory.path(), &path);
    assert!(supervisor.hears("READY=1", PATIENCE));
    for _ in 0..3 {
        assert!(supervisor.hears("WATCHDOG=1", PATIENCE));
    }

    // As in a call to a card that does not answer: this thread alone stands still.
    let card = agent.thread("card");
    ptrace::attach(card).unwrap();
    waitpid(card, Some(WaitPidFlag::__WALL)).unwrap();
    // What it did before may be told of once.
    let told = supervisor.hears("WATCHDOG=1", WATCHDOG);
    assert!(!supervisor.hears("WATCHDOG=1", WATCHDOG), "the card hangs; told before: {told}");

    ptrace::detach(card, None).unwrap();
    assert!(supervisor.hears("WATCHDOG=1", PATIENCE), "the card has answered");
}
