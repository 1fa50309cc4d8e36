//! `gapless.toml`: everything that can be set, with its default.
//!
//! Unknown keys are refused, so that a misspelt one is not silently a default. Relative paths are
//! relative to the folder of the file.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use protocol::message::{DeviceId, ServerId};
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::layout::{Layout, LayoutConfig, LayoutError, Preset};
use sdcard_indexer::time::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use toml::Spanned;

use crate::broker::BrokerConfig;
use crate::fleet::StreamKey;
use crate::http::{self, HttpConfig};
use crate::link::BrokerUrl;
use crate::policy::{Group, Origin, Policies, Policy, PolicyError, bytes_of_kbit, kbit_limit};
use crate::rfc3339;
use crate::tls::Tls;

/// The whole file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: ServerConfig,
    #[serde(deserialize_with = "broker")]
    pub broker: BrokerSection,
    #[serde(deserialize_with = "http::checked")]
    pub http: HttpConfig,
    #[serde(deserialize_with = "archive")]
    pub archive: ArchiveConfig,
    pub pull: PullConfig,
    /// Devices whose gaps are looked for before they are first heard.
    #[serde(
        rename = "device",
        deserialize_with = "devices",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub devices: Vec<DeviceConfig>,
    /// Devices under one name, for policies to share.
    #[serde(rename = "group", skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Spanned<Group>>,
    /// What should be recorded, and when it is pulled. The first that matches a stream counts.
    #[serde(rename = "policy", skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Spanned<Policy>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// This server's name on the wire.
    pub id: ServerId,
    /// Ledger, spool and index; never footage that is in the archive.
    pub state_dir: PathBuf,
    /// Take in devices that are not listed here when they first speak.
    pub adopt_devices: bool,
    /// No more devices than this are taken in.
    #[serde(deserialize_with = "at_least_one")]
    pub max_devices: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        ServerConfig {
            id: "gapless".parse().expect("a valid id"),
            state_dir: "gapless-state".into(),
            adopt_devices: true,
            max_devices: 1_000,
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrokerSection {
    /// `mqtt://[user[:password]@]host[:port]`, or `mqtts://`; without it, the embedded broker is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<BrokerUrl>,
    /// Needed with `mqtts://`, and only with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    pub embedded: BrokerConfig,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArchiveConfig {
    pub root: PathBuf,
    /// Where a stream's recordings lie below `root`; `{device}` and `{stream}` stand for its ids.
    #[serde(deserialize_with = "stream_folder")]
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<Preset>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// How long after it happened footage may still arrive by itself: a younger hole is not judged.
    pub settle_s: u64,
    /// Holes no longer than this are rounding, not loss.
    pub join_tolerance_ms: u64,
    /// A hole that the central recorder has not closed is pulled once it is this long.
    pub open_gap_s: u64,
    /// So much more than the hole is pulled where the central recorder's footage meets it: frames that both hold
    /// tell where exactly they meet, and what clocks differ by.
    pub seam_margin_ms: u64,
    /// Have a copy that ends where a piece begins take the name of the last live recording before a hole: see
    /// [`crate::recut`]. The original is kept beside.
    pub recut: bool,
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        ArchiveConfig {
            root: "archive".into(),
            path: "{device}/{stream}".into(),
            layout: None,
            template: None,
            time_zone: None,
            settle_s: 15,
            join_tolerance_ms: 500,
            open_gap_s: 60,
            seam_margin_ms: 2_000,
            recut: false,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PullConfig {
    /// Parts under way at once, over all devices.
    #[serde(deserialize_with = "at_least_one")]
    pub max_active_parts: usize,
    /// Parts under way at once from one device.
    #[serde(deserialize_with = "at_least_one")]
    pub max_active_parts_per_device: usize,
    /// Pulling stops before less than this is left on the spool's disk.
    pub min_free_mib: u64,
    /// Of everything that is pulled together; 0: no limit.
    #[serde(deserialize_with = "kbit_limit")]
    pub kbit_per_second: u64,
    /// From each device, whatever its policy allows; 0: no limit.
    #[serde(deserialize_with = "kbit_limit")]
    pub kbit_per_second_per_device: u64,
}

impl Default for PullConfig {
    fn default() -> Self {
        PullConfig {
            max_active_parts: 16,
            max_active_parts_per_device: 2,
            min_free_mib: 512,
            kbit_per_second: 0,
            kbit_per_second_per_device: 0,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceConfig {
    pub id: DeviceId,
    pub streams: Vec<StreamId>,
    /// From when on its recording should be whole; by default from the first instant known of it.
    #[serde(default, with = "rfc3339::optional", skip_serializing_if = "Option::is_none")]
    pub expected_from: Option<Timestamp>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// `source` names line and key, and what is allowed.
    #[error("{path}: {source}")]
    Parse { path: PathBuf, source: toml::de::Error },
    /// What a policy or group says does not go together, or with the others.
    #[error("{path}: line {line}: {source}")]
    Policies { path: PathBuf, line: usize, source: PolicyError },
}

impl Config {
    /// The file a command reads when it is told none.
    pub const DEFAULT_PATH: &str = "gapless.toml";

    /// Reads, checks and completes the file. Without `path`: [`Config::DEFAULT_PATH`] where it
    /// exists, else every default.
    pub fn load(path: Option<&Path>) -> Result<Config, ConfigError> {
        let default = Path::new(Self::DEFAULT_PATH);
        match path {
            Some(path) => Self::read(path),
            None if default.exists() => Self::read(default),
            None => Ok(Config::default().located(default)),
        }
    }

    fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// `path` is for messages, and for what relative paths are relative to.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let config: Config = toml::from_str(text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source })?;
        config.build_policies().map_err(|(offset, source)| ConfigError::Policies {
            path: path.to_owned(),
            line: text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1,
            source,
        })?;
        Ok(config.located(path))
    }

    /// Makes paths whole, so that what is printed means the same wherever it is saved.
    fn located(mut self, path: &Path) -> Config {
        // Fails only where the working directory is gone; then relative paths lead nowhere either.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let base = path.parent().unwrap_or(Path::new(""));
        self.server.state_dir = base.join(&self.server.state_dir);
        self.archive.root = base.join(&self.archive.root);
        self.http.locate(base);
        self.broker.embedded.locate(base);
        if let Some(tls) = &mut self.broker.tls {
            tls.locate(base);
        }
        self
    }

    /// How the archive's files are named.
    pub fn layout(&self) -> Result<Layout, LayoutError> {
        self.archive.layout()
    }

    /// Where parts wait until they are whole.
    pub fn spool_dir(&self) -> PathBuf {
        self.server.state_dir.join("spool")
    }

    /// Where the archive's index is kept; it can be deleted at any time.
    pub fn index_dir(&self) -> PathBuf {
        self.server.state_dir.join("index")
    }

    /// The policies of the file, in its order, and behind them the one for everything else.
    pub fn policies(&self) -> Result<Policies, PolicyError> {
        self.build_policies().map_err(|(_, error)| error)
    }

    /// With the place in the file of what is refused.
    fn build_policies(&self) -> Result<Policies, (usize, PolicyError)> {
        let mut policies = Policies::default();
        for group in &self.groups {
            let at_group = |error| (group.span().start, error);
            policies.add_group(group.get_ref().clone()).map_err(at_group)?;
        }
        for policy in &self.policies {
            let at_policy = |error| (policy.span().start, error);
            policies.upsert(policy.get_ref().clone(), Origin::File).map_err(at_policy)?;
        }
        Ok(policies)
    }

    /// The streams that are known before any device speaks.
    pub fn streams(&self) -> impl Iterator<Item = (StreamKey, Option<Timestamp>)> + '_ {
        self.devices.iter().flat_map(|device| {
            device.streams.iter().map(|stream| {
                let key = StreamKey { device: device.id.clone(), stream: stream.clone() };
                (key, device.expected_from)
            })
        })
    }
}

impl ArchiveConfig {
    /// The folder of a stream, relative to the root.
    pub fn stream_path(&self, key: &StreamKey) -> PathBuf {
        let path = self.path.replace("{device}", key.device.as_str());
        PathBuf::from(path.replace("{stream}", key.stream.as_str()))
    }

    fn layout(&self) -> Result<Layout, LayoutError> {
        let ArchiveConfig { layout, template, time_zone, .. } = self.clone();
        let layout = match (layout, &template) {
            (None, None) => Some(Preset::Onvif),
            (layout, _) => layout,
        };
        LayoutConfig { layout, template, time_zone, camera: None }.try_into()
    }

    pub fn settle(&self) -> Duration {
        Duration::from_secs(self.settle_s)
    }

    pub fn seam_margin(&self) -> Duration {
        Duration::from_millis(self.seam_margin_ms)
    }

    pub fn join_tolerance(&self) -> Duration {
        Duration::from_millis(self.join_tolerance_ms)
    }

    pub fn open_gap(&self) -> Duration {
        Duration::from_secs(self.open_gap_s)
    }
}

impl PullConfig {
    pub fn min_free_bytes(&self) -> u64 {
        self.min_free_mib.saturating_mul(1 << 20)
    }

    /// Of everything that is pulled together; 0: no limit.
    pub const fn bytes_per_second(&self) -> u64 {
        bytes_of_kbit(self.kbit_per_second)
    }

    /// From each device; 0: no limit.
    pub const fn bytes_per_second_per_device(&self) -> u64 {
        bytes_of_kbit(self.kbit_per_second_per_device)
    }
}

/// A password or a certificate must not end up on a connection in the clear by a slip of a letter.
fn broker<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BrokerSection, D::Error> {
    let broker = BrokerSection::deserialize(deserializer)?;
    let secure = broker.url.as_ref().is_some_and(|url| url.tls);
    match (secure, &broker.tls) {
        (true, None) => Err(D::Error::custom("an mqtts:// url needs [broker.tls] with ca_file")),
        (false, Some(_)) => Err(D::Error::custom("[broker.tls] needs an mqtts:// url")),
        _ => Ok(broker),
    }
}

/// The keys that name files belong together, so they are checked together.
fn archive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ArchiveConfig, D::Error> {
    let archive = ArchiveConfig::deserialize(deserializer)?;
    archive.layout().map_err(D::Error::custom)?;
    Ok(archive)
}

/// A folder of its own for each stream, below the root.
fn stream_folder<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let path = String::deserialize(deserializer)?;
    let plain = |part| matches!(part, Component::Normal(_));
    if !Path::new(&path).components().all(plain) {
        return Err(D::Error::custom(format!(
            "path `{path}` must be relative, without `.` and `..`"
        )));
    }
    if !path.contains("{device}") || !path.contains("{stream}") {
        return Err(D::Error::custom(format!(
            "path `{path}` must hold {{device}} and {{stream}}, or streams would share a folder"
        )));
    }
    Ok(path)
}

fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match usize::deserialize(deserializer)? {
        0 => Err(D::Error::custom("0 is not allowed: give 1 or more")),
        number => Ok(number),
    }
}

fn devices<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<DeviceConfig>, D::Error> {
    let devices = Vec::<DeviceConfig>::deserialize(deserializer)?;
    let mut seen = BTreeSet::new();
    match devices.iter().find(|device| !seen.insert(&device.id)) {
        Some(twice) => {
            Err(D::Error::custom(format!("[[device]] `{}` stands there twice", twice.id)))
        }
        None => Ok(devices),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Config::parse(text, Path::new("/etc/gapless.toml")).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_file_is_every_default_and_survives_printing() {
        let config = Config::parse("", Path::new("/etc/gapless.toml")).unwrap();
        assert_eq!(config.archive.root, Path::new("/etc/archive"));
        let printed = toml::to_string(&config).unwrap();
        let again = Config::parse(&printed, Path::new("/etc/gapless.toml")).unwrap();
        assert_eq!(toml::to_string(&again).unwrap(), printed);
    }

    #[test]
    fn the_example_says_what_the_defaults_are() {
        let path = Path::new("gapless.toml");
        let example = Config::parse(include_str!("../gapless.example.toml"), path).unwrap();
        let spelt_out = ArchiveConfig { layout: Some(Preset::Onvif), ..ArchiveConfig::default() };
        let devices = example.devices.clone();
        let defaults = Config { archive: spelt_out, devices, ..Config::default() }.located(path);
        assert_eq!(toml::to_string(&example).unwrap(), toml::to_string(&defaults).unwrap());
    }

    #[test]
    fn a_misspelt_key_is_named_with_file_line_and_what_is_allowed() {
        let error = refused("[archive]\nsettle_seconds = 3\n");
        for part in ["/etc/gapless.toml", "line 2", "settle_seconds", "settle_s"] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }

    #[test]
    fn an_archive_path_that_would_mix_streams_or_climb_out_is_refused() {
        assert!(refused("[archive]\npath = \"{device}\"").contains("{stream}"));
        assert!(refused("[archive]\npath = \"../{device}/{stream}\"").contains(".."));
        assert!(refused("[archive]\npath = \"/{device}/{stream}\"").contains("relative"));
    }

    #[test]
    fn values_that_cannot_work_are_refused() {
        assert!(refused("[pull]\nmax_active_parts = 0").contains("max_active_parts"));
        assert!(refused("[pull]\nkbit_per_second = 127").contains("128"));
        assert!(refused("[[device]]\nid = \"a b\"\nstreams = []").contains("a b"));
        assert!(refused("[broker]\nurl = \"http://x\"").contains("mqtt://"));
        let twice = "[[device]]\nid = \"a\"\nstreams = []\n[[device]]\nid = \"a\"\nstreams = []\n";
        assert!(refused(twice).contains("twice"));
    }

    #[test]
    fn every_refusal_names_the_line() {
        for (text, line) in [
            ("\n[pull]\nmax_active_parts = 0", "line 3"),
            ("\n[server]\nmax_devices = 0", "line 3"),
            ("\n[archive]\npath = \"{device}\"", "line 3"),
            ("\n[archive]\ntemplate = \"%Q\"", "line 2"),
            ("\n[archive]\nlayout = \"onvif\"\ntime_zone = \"Mars/Base\"", "line 2"),
            ("\n[broker]\nurl = \"http://x\"", "line 3"),
            ("\n[broker]\nurl = \"mqtts://x\"", "line 2"),
            ("\n[broker]\nurl = \"mqtt://x\"\ntls = { ca_file = \"ca.pem\" }", "line 2"),
            (
                "[[device]]\nid = \"a\"\nstreams = []\n[[device]]\nid = \"a\"\nstreams = []",
                "line 1",
            ),
            ("\n[pull]\nkbit_per_second = -1", "line 3"),
            ("\n[http]\nlisten = \"0.0.0.0:8480\"", "line 2"),
            ("\n[http]\nlisten = \"8480\"", "line 3"),
        ] {
            let error = refused(text);
            assert!(error.contains("/etc/gapless.toml") && error.contains(line), "{error}");
        }
    }

    #[test]
    fn a_refused_policy_is_named_with_its_line_and_key() {
        let night = "schedule = { cron = \"0 23 * * *\", time_zone = \"UTC\", window = \"6h\" }";
        let broken =
            |schedule: &str| format!("modes = [\"scheduled\"]\nschedule = {{ {schedule} }}");
        for (lines, line, named) in [
            ("devices = [\"b*c\"]", 4, "b*c"),
            ("devices = [\"*\"]\nprioritty = 1", 5, "prioritty"),
            ("devices = [\"*\"]\nrecord = { hours = [\"Mon 6-7\"] }", 5, "Mon 6-7"),
            (
                "devices = [\"*\"]\nnetworks = [\n  \"wifi\",\n  \"10.0.0.0/99\",\n]",
                5,
                "10.0.0.0/99",
            ),
            ("devices = [\"*\"]\nretention = \"1 month\"", 5, "1 month"),
            ("devices = [\"*\"]\ntime_zone = \"Mars/Base\"", 5, "Mars/Base"),
            (
                &broken("cron = \"0 24 * * *\", time_zone = \"UTC\", window = \"6h\""),
                5,
                "0 24 * * *",
            ),
            (&broken("cron = \"0 23 * * *\", time_zone = \"Mars\", window = \"6h\""), 5, "Mars"),
            (&broken("cron = \"0 23 * * *\", time_zone = \"UTC\", window = \"0h\""), 5, "0h"),
            (&broken("cron = \"0 23 * * *\", time_zone = \"UTC\""), 5, "window"),
            ("", 2, "devices"),
            ("groups = [\"shift\"]", 2, "`shift`"),
            ("devices = [\"*\"]\nmodes = []", 2, "modes"),
            ("devices = [\"*\"]\nmodes = [\"scheduled\"]", 2, "schedule"),
            (&format!("devices = [\"*\"]\n{night}"), 2, "modes"),
            ("devices = [\"*\"]\nrecord = { hours = [\"Mon 06:00-07:00\"] }", 2, "time_zone"),
            ("devices = [\"*\"]\n\n[[policy]]\nname = \"night\"\ndevices = [\"*\"]", 6, "twice"),
            ("devices = [\"*\"]\n\n[[group]]\nname = \"shift\"\ndevices = []", 6, "`shift`"),
        ] {
            let error = refused(&format!("\n[[policy]]\nname = \"night\"\n{lines}\n"));
            let place = format!("line {line}");
            for part in ["/etc/gapless.toml", place.as_str(), named] {
                assert!(error.contains(part), "{part} in {error}");
            }
        }
    }

    #[test]
    fn policies_and_groups_of_the_file_survive_printing() {
        let text = include_str!("../gapless.example.toml").replace("\n#:", "\n");
        let config = Config::parse(&text, Path::new("/etc/gapless.toml")).unwrap();
        let policies = config.policies().unwrap();
        let names: Vec<&str> = policies.iter().map(|(policy, _)| policy.name.as_str()).collect();
        assert_eq!(names, ["body-worn", "shop", "default"]);
        let printed = toml::to_string(&config).unwrap();
        let again = Config::parse(&printed, Path::new("/etc/gapless.toml")).unwrap();
        assert_eq!(again.policies().unwrap(), policies);
        assert_eq!(toml::to_string(&again).unwrap(), printed);
    }

    #[test]
    fn a_streams_folder_follows_the_path() {
        let config = Config::default();
        let key = StreamKey { device: "cam".parse().unwrap(), stream: "main".parse().unwrap() };
        assert_eq!(config.archive.stream_path(&key), Path::new("cam/main"));
    }
}
