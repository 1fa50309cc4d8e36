//! The configuration file while the agent runs: looked at again upon SIGHUP and whenever it changes.
//!
//! What concerns the link alone is taken over at once: the link is made anew with it, which costs a server the bytes
//! that were under way. What the index rests on waits for a restart, and is said. A file that cannot be used changes
//! nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sdcard_indexer::readable::explain;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::desk::Desk;
use crate::clock;
use crate::config::Config;

/// How often the file's stamp is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The tables that are taken over at once. Everything else waits for a restart.
const AT_ONCE: [&str; 3] = ["broker", "network", "limits"];

/// Where the configuration comes from, and who may say that it is to be looked at.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// `None`: it is never looked at again.
    pub path: Option<PathBuf>,
    pub look: Arc<Notify>,
}

/// A change of any of these is a change of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    inode: u64,
    size_bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let metadata = fs::metadata(path).ok()?;
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Some(Stamp { inode: metadata.ino(), size_bytes: metadata.len(), modified })
    }
}

#[derive(Debug)]
pub struct Configuration {
    origin: Origin,
    desk: Desk,
    in_force: Config,
    /// When the file was last read.
    read: Option<Stamp>,
    /// As it was when it was last looked at: a file is read once it stands still.
    seen: Option<Stamp>,
    /// Kept over waits that are given up: they may all be short ones.
    look_at: Instant,
}

impl Configuration {
    pub fn new(config: Config, origin: Origin, desk: Desk) -> Self {
        let stamp = origin.path.as_deref().and_then(Stamp::of);
        let (path, in_force) = (origin.path.clone(), Arc::new(config.clone()));
        desk.set_configuration(|facts| {
            facts.config = Some(in_force);
            facts.path = path;
            facts.loaded_at = Some(clock::boottime());
        });
        let look_at = Instant::now() + LOOK_EVERY;
        Configuration { origin, desk, in_force: config, read: stamp, seen: stamp, look_at }
    }

    /// Waits for a configuration that is to be taken over. Cancel safe.
    pub async fn changed(&mut self) -> Config {
        let Some(path) = self.origin.path.clone() else { return std::future::pending().await };
        loop {
            let told = tokio::select! {
                () = self.origin.look.notified() => true,
                () = tokio::time::sleep_until(self.look_at) => false,
            };
            self.look_at = Instant::now() + LOOK_EVERY;
            let stamp = Stamp::of(&path);
            let still = std::mem::replace(&mut self.seen, stamp) == stamp;
            if told || (still && stamp.is_some() && stamp != self.read) {
                self.read = stamp;
                if let Some(config) = self.reload(&path) {
                    return config;
                }
            }
        }
    }

    fn reload(&mut self, path: &Path) -> Option<Config> {
        let written = match Config::load(path) {
            Ok(written) => written,
            Err(error) => {
                let text = explain(&error);
                tracing::error!(
                    error = text,
                    "the configuration cannot be used: the old one stays"
                );
                self.desk.set_configuration(|facts| facts.error = Some(text));
                return None;
            }
        };
        let mut merged = self.in_force.clone();
        (merged.broker, merged.network) = (written.broker.clone(), written.network.clone());
        merged.limits = written.limits.clone();
        let changed = self.in_force.differences(&written);
        let (at_once, needs_restart): (Vec<&str>, Vec<&str>) =
            changed.into_iter().partition(|key| AT_ONCE.contains(key));
        tracing::info!(taken_over = ?at_once, ?needs_restart, "the configuration was read again");
        let in_force = Arc::new(merged.clone());
        self.desk.set_configuration(|facts| {
            facts.error = None;
            facts.needs_restart = needs_restart.into_iter().map(str::to_owned).collect();
            facts.loaded_at = Some(clock::boottime());
            facts.config = Some(in_force);
        });
        self.in_force = merged.clone();
        (!at_once.is_empty()).then_some(merged)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const TEXT: &str = r#"device = "cam-7"
broker.url = "mqtt://127.0.0.1:9"
card.root = "/mnt/card"
[[stream]]
id = "main"
path = "main"
layout = "ffmpeg"
time_zone = "UTC"
"#;

    struct Rig {
        path: PathBuf,
        desk: Desk,
        look: Arc<Notify>,
        _folder: tempfile::TempDir,
    }

    fn rig() -> (Rig, Configuration) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        let rig = Rig { path, desk: Desk::default(), look: Arc::default(), _folder: folder };
        rig.write(TEXT);
        let origin = Origin { path: Some(rig.path.clone()), look: rig.look.clone() };
        let config = Config::load(&rig.path).unwrap();
        let configuration = Configuration::new(config, origin, rig.desk.clone());
        (rig, configuration)
    }

    impl Rig {
        fn write(&self, text: &str) {
            let file = fs::File::create(&self.path);
            file.and_then(|mut file| file.write_all(text.as_bytes())).unwrap();
        }
    }

    #[tokio::test]
    async fn another_broker_is_taken_over_once_that_is_asked_for() {
        let (rig, mut configuration) = rig();
        rig.write(&TEXT.replace("127.0.0.1:9", "127.0.0.1:10"));
        rig.look.notify_one();
        assert_eq!(configuration.changed().await.broker.url.port, 10);
        let facts = rig.desk.configuration();
        assert_eq!((facts.error, facts.needs_restart.len()), (None, 0));
        assert_eq!(facts.config.unwrap().broker.url.port, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_found_by_itself_and_what_it_cannot_change_is_said() {
        let (rig, mut configuration) = rig();
        let text = TEXT.replace("/mnt/card", "/mnt/other").replace("127.0.0.1:9", "127.0.0.1:11");
        rig.write(&text);
        let config = configuration.changed().await;
        assert_eq!((config.broker.url.port, config.card.root), (11, "/mnt/card".into()));
        assert_eq!(rig.desk.configuration().needs_restart, ["card"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_found_though_nobody_waits_for_it_for_long() {
        let (rig, mut configuration) = rig();
        rig.write(&TEXT.replace("127.0.0.1:9", "127.0.0.1:12"));
        let mut tries = 0;
        while tokio::time::timeout(LOOK_EVERY / 4, configuration.changed()).await.is_err() {
            tries += 1;
            assert!(tries < 100, "never found");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_cannot_be_used_leaves_the_old_one_in_force_and_says_so() {
        let (rig, mut configuration) = rig();
        rig.write("device = 7");
        rig.look.notify_one();
        let waited = tokio::time::timeout(LOOK_EVERY * 10, configuration.changed()).await;
        assert!(waited.is_err(), "nothing is taken over");
        let facts = rig.desk.configuration();
        assert!(facts.error.unwrap().contains("agent.toml"));
        assert_eq!(facts.config.unwrap().broker.url.port, 9);
        rig.write(TEXT);
        rig.look.notify_one();
        assert!(tokio::time::timeout(LOOK_EVERY * 10, configuration.changed()).await.is_err());
        assert_eq!(rig.desk.configuration().error, None, "as it was: nothing is left to be done");
    }
}
