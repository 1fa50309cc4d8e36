//! A camera with a card, an agent's configuration, brokers, and a server that tells the time.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use protocol::envelope;
use protocol::message::{Ask, AskBody, BootMillis, Presence, ServerTime};
use protocol::topic::{Topic, server_client_id};
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::Value;
use tempfile::TempDir;

pub const DEVICE: &str = "cam-7";
/// No wait is endless; far above what any of them takes.
pub const PATIENCE: Duration = Duration::from_secs(60);
const RECORDING: &[u8] =
    include_bytes!("../../../sdcard-indexer/tests/fixtures/h264-aac-fragmented.mp4");

pub struct Rig {
    folder: TempDir,
}

impl Rig {
    /// Three recordings, and a configuration for a broker at this port.
    pub fn new(port: u16) -> Rig {
        let rig = Rig { folder: tempfile::tempdir().unwrap() };
        for minute in [0, 1, 5] {
            rig.record(&format!("2026-01-01_00-0{minute}-00.mp4"));
        }
        rig.configure(port, "");
        rig
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn card(&self) -> PathBuf {
        self.path("card")
    }

    pub fn record(&self, name: &str) -> PathBuf {
        let path = self.card().join("rec").join(name);
        write(&path, RECORDING);
        path
    }

    /// `more` goes in front: top-level keys and the broker's.
    pub fn configure(&self, port: u16, more: &str) {
        self.write_config(&format!(
            "device = \"{DEVICE}\"\nbroker.url = \"mqtt://127.0.0.1:{port}\"\n{more}\n{}",
            self.rest_of_config()
        ));
    }

    pub fn rest_of_config(&self) -> String {
        format!(
            "diagnosis.socket = {:?}\n[card]\nroot = {:?}\nrequire_mount = false\n\
             [clock]\nbelieve = \"names\"\n[index]\nseal_after_seconds = 3600\n\
             [[stream]]\nid = \"main\"\npath = \"rec\"\nlayout = \"ffmpeg\"\ntime_zone = \"UTC\"\n",
            self.path("socket"),
            self.card(),
        )
    }

    pub fn write_config(&self, text: &str) {
        // Put in place at once, as an editor does.
        let (new, path) = (self.path("agent.toml.new"), self.path("agent.toml"));
        write(&new, text.as_bytes());
        Command::new("mv").arg(new).arg(path).status().unwrap();
    }

    pub fn ask(&self, words: &[&str]) -> Answer {
        let mut command = agent();
        let output = command.args(words).arg("--config").arg(self.path("agent.toml"));
        let answer = Answer::from(output.stdin(Stdio::null()).output().unwrap());
        if !words.contains(&"--json") && words[0] != "log" {
            assert_fits(&answer.out);
        }
        answer
    }

    pub fn status(&self) -> Value {
        let answer = self.ask(&["status", "--json"]);
        answer.json().pop().unwrap_or_else(|| panic!("{answer:?}"))
    }

    /// Once its status is as it should be.
    pub fn wait_for(&self, what: &str, reached: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let status = self.status();
            if status["running"] == true && reached(&status) {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "not {what}: {status:#}");
        }
    }

    pub fn run(&self) -> Running {
        let config = self.path("agent.toml");
        let mut command = agent();
        command.arg("run").arg("--config").arg(config).stdin(Stdio::null());
        let running = Running(command.stderr(Stdio::null()).spawn().unwrap());
        self.wait_for("running", |status| status["card"]["seen_s_ago"].is_number());
        running
    }
}

pub fn agent() -> Command {
    Command::new(env!("CARGO_BIN_EXE_gapless-agent"))
}

/// Killed when it is dropped, as if its power were cut.
pub struct Running(pub Child);

impl Running {
    pub fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill").arg(format!("-{name}")).arg(pid).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }
}

#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Answer {
        Answer {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Answer {
    pub fn json(&self) -> Vec<Value> {
        let lines = self.out.lines();
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }

    /// What a check of the doctor's came to.
    #[track_caller]
    pub fn verdict(&self, check: &str) -> String {
        let checks = self.json();
        let found = checks.iter().find(|line| line["check"] == check);
        found.unwrap_or_else(|| panic!("no {check}: {self:?}"))["verdict"].as_str().unwrap().into()
    }

    #[cfg(feature = "support")]
    pub fn says(&self, check: &str) -> String {
        let checks = self.json();
        let found = checks.iter().find(|line| line["check"] == check).unwrap();
        format!("{} {}", found["says"], found["to_do"])
    }
}

/// A word without a space, as a long path, is not broken.
#[track_caller]
pub fn assert_fits(text: &str) {
    for line in text.lines().filter(|line| line.trim().contains(' ')) {
        let long_word = line.split(' ').any(|word| word.len() > 60);
        assert!(line.chars().count() <= 80 || long_word, "{} columns: {line}", line.len());
        assert!(!line.contains('\u{1b}'), "colour, and no terminal: {line}");
    }
}

pub fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::create(path).unwrap().write_all(bytes).unwrap();
}

pub struct Broker {
    process: Child,
    pub port: u16,
    _folder: TempDir,
}

impl Broker {
    pub fn open() -> Broker {
        Broker::with(|_| "allow_anonymous true\n".to_owned())
    }

    /// `cam` gets in by this password, and may do what the lines of an `acl_file` say.
    #[cfg(feature = "support")]
    pub fn with_user(password: &str, acl: &str) -> Broker {
        Broker::with(|folder| {
            let (passwords, acls) = (folder.join("passwords"), folder.join("acl"));
            write(&acls, format!("user cam\n{acl}\nuser server\ntopic readwrite #\n").as_bytes());
            for (create, user) in [(&["-c"][..], "cam"), (&[], "server")] {
                let mut made = Command::new("mosquitto_passwd");
                made.args(create).arg("-b").arg(&passwords).args([user, password]);
                assert!(
                    made.status().expect("mosquitto_passwd: apt-get install mosquitto").success()
                );
            }
            // Where it starts as root, it becomes a user of its own.
            for path in [folder, &passwords, &acls] {
                let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
                fs::set_permissions(path, everybody).unwrap();
            }
            format!(
                "allow_anonymous false\npassword_file {}\nacl_file {}\n",
                passwords.display(),
                acls.display()
            )
        })
    }

    /// The lines behind its listener.
    pub fn with(lines: impl FnOnce(&Path) -> String) -> Broker {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let lines = lines(folder.path());
        let configuration = folder.path().join("mosquitto.conf");
        write(&configuration, format!("listener {port} 127.0.0.1\n{lines}").as_bytes());
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        let mut process = Command::new("mosquitto");
        process.env("PATH", &path).arg("-v").arg("-c").arg(&configuration);
        let started = process.stderr(Stdio::piped()).spawn();
        let mut process = started.expect("mosquitto is missing: apt-get install mosquitto");
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = String::new();
        let running = log.any(|line| {
            said.push_str(&line);
            line.contains("running")
        });
        assert!(running, "mosquitto ended before it was running: {said}");
        // Whoever does not read on lets it block on a full pipe.
        thread::spawn(move || log.for_each(drop));
        Broker { process, port, _folder: folder }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// A server that answers each `Online` with the time, until the test ends; `login` where the broker wants one.
pub fn serve_time(port: u16, login: Option<(&str, &str)>) {
    let id = server_client_id(&"depot".parse().unwrap());
    let mut options = MqttOptions::new(id, "127.0.0.1", port);
    if let Some((user, password)) = login {
        options.set_credentials(user, password);
    }
    let (client, mut connection) = Client::new(options, 16);
    client.subscribe("gapless/1/+/state", QoS::AtLeastOnce).unwrap();
    let (ready, subscribed) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for event in connection.iter() {
            match event {
                Ok(Event::Incoming(Packet::SubAck(_))) => drop(ready.send(())),
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    let Ok(Presence::Online(online)) = envelope::decode(&publish.payload) else {
                        continue;
                    };
                    let sampled = online.clock.boottime;
                    let ask = Ask {
                        server: "depot".parse().unwrap(),
                        connection: online.connection,
                        expires: BootMillis(u64::MAX),
                        body: AskBody::Time(ServerTime { sampled, utc: online.clock.realtime }),
                    };
                    let topic = Topic::Ask(DEVICE.parse().unwrap()).to_string();
                    let ask = envelope::encode(&ask).unwrap();
                    client.publish(topic, QoS::AtLeastOnce, false, ask).unwrap();
                }
                Ok(_) => {}
                // Its broker is gone, and the test with it.
                Err(_) => return,
            }
        }
    });
    subscribed.recv_timeout(PATIENCE).expect("the broker takes subscriptions");
}

/// A port at which nobody listens.
pub fn nobody() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A question over the socket itself, as `nc -U` asks it; what is answered until the agent ends it.
pub fn over_socket(socket: &Path, line: &[u8]) -> String {
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may be refused before it is asked.
    let _ = stream.write_all(line).and_then(|()| stream.shutdown(std::net::Shutdown::Write));
    let (mut answer, mut some) = (Vec::new(), [0; 4_096]);
    loop {
        match stream.read(&mut some) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&some[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}"),
        }
    }
    String::from_utf8(answer).unwrap()
}
