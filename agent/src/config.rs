//! The configuration file: every key, its default, and what is allowed.
//!
//! What serde reads is checked where it is read, so that a complaint can name the line. Nothing here
//! touches anything but the file itself.

mod written;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use protocol::frame::MAX_PAYLOAD_BYTES;
use protocol::message::{DeviceId, DeviceLimits};
use sdcard_indexer::identity::StreamId;
use sdcard_indexer::layout::{Layout, LayoutConfig};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::permit::Permit;

/// Streams of one device.
const MAX_STREAMS: usize = 32;
/// What a server takes of the name of a link.
const MAX_LINK_BYTES: usize = 64;
const MAX_CHUNK_BYTES: u64 = MAX_PAYLOAD_BYTES as u64;
/// Slower, a chunk would take longer than anybody waits for it.
const MIN_CARD_RATE: u64 = 65_536;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    /// `source` names line and key, and what is allowed.
    #[error("the configuration {path} cannot be used: {source}")]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub device: DeviceId,
    #[serde(deserialize_with = "broker")]
    pub broker: Broker,
    #[serde(default)]
    pub network: Network,
    pub card: Card,
    #[serde(default)]
    pub index: Index,
    #[serde(default)]
    pub clock: Clock,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub diagnosis: Diagnosis,
    #[serde(default)]
    pub serve: Permit,
    #[serde(rename = "stream", deserialize_with = "streams")]
    pub streams: Vec<Stream>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    pub url: BrokerUrl,
    pub username: Option<String>,
    /// Holds the password alone; a final newline does not count.
    pub password_file: Option<PathBuf>,
    /// Needed with `mqtts://`, and only with it.
    pub tls: Option<Tls>,
}

/// Files in PEM.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Who may have signed the broker's certificate; the system's own list is not looked at.
    pub ca_file: PathBuf,
    /// What the device shows the broker.
    pub client: Option<ClientCertificate>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// A password or a certificate must not end up on a connection in the clear by a slip of a letter.
fn broker<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Broker, D::Error> {
    let broker = Broker::deserialize(deserializer)?;
    if broker.password_file.is_some() && broker.username.is_none() {
        return Err(D::Error::custom("password_file needs a username"));
    }
    match (broker.url.tls, &broker.tls) {
        (true, None) => Err(D::Error::custom("an mqtts:// url needs [broker.tls] with ca_file")),
        (false, Some(_)) => Err(D::Error::custom("[broker.tls] needs an mqtts:// url")),
        _ => Ok(broker),
    }
}

/// What a server is told of how the device reaches it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    pub link: LinkName,
}

/// `auto`, or what the link is called whatever the system says.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(try_from = "String")]
pub enum LinkName {
    #[default]
    Auto,
    Own(String),
}

impl TryFrom<String> for LinkName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.len() {
            _ if text == "auto" => Ok(LinkName::Auto),
            1..=MAX_LINK_BYTES if !text.contains(char::is_control) => Ok(LinkName::Own(text)),
            _ => Err(format!(
                "link = {text:?}: allowed is \"auto\", or a name of 1 to {MAX_LINK_BYTES} bytes"
            )),
        }
    }
}

impl LinkName {
    fn as_str(&self) -> &str {
        match self {
            LinkName::Auto => "auto",
            LinkName::Own(name) => name,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    pub root: PathBuf,
    /// Default: `.gapless` below the root.
    pub state_dir: Option<PathBuf>,
    /// Do nothing on the root while no other file system is mounted there.
    #[serde(default = "yes")]
    pub require_mount: bool,
    /// A recorder writes to it meanwhile: its memory is spared and its turn comes first.
    #[serde(default = "yes")]
    pub spare_recorder: bool,
}

impl Card {
    /// Where the index is kept below the card's root, if nothing else is said.
    pub const STATE_DIR: &str = ".gapless";

    pub fn state_dir(&self) -> PathBuf {
        self.state_dir.clone().unwrap_or_else(|| self.root.join(Self::STATE_DIR))
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Index {
    /// Segments that follow one another within this are one range.
    #[serde(deserialize_with = "between::<_, 0, 60_000>")]
    pub join_tolerance_ms: u64,
    /// A segment that was not written to for so long is sealed.
    #[serde(deserialize_with = "between::<_, 1, 3_600>")]
    pub seal_after_seconds: u64,
    /// The whole card is compared with the index so often; between, the kernel's hints are followed.
    #[serde(deserialize_with = "between::<_, 10, 86_400>")]
    pub sweep_every_seconds: u64,
    /// Segments are hashed when they are sealed, so that a card that gives back other bytes is found out.
    pub seal_digest: bool,
}

impl Default for Index {
    fn default() -> Self {
        Index {
            join_tolerance_ms: 500,
            seal_after_seconds: 10,
            sweep_every_seconds: 600,
            seal_digest: true,
        }
    }
}

impl Index {
    pub fn join_tolerance(&self) -> Duration {
        Duration::from_millis(self.join_tolerance_ms)
    }

    pub fn seal_after(&self) -> Duration {
        Duration::from_secs(self.seal_after_seconds)
    }

    pub fn sweep_every(&self) -> Duration {
        Duration::from_secs(self.sweep_every_seconds)
    }
}

/// How the recorders' clock is judged, which is the device's own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clock {
    pub believe: Believe,
    /// Touched by a time service whenever it has the time.
    pub synchronised_file: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Believe {
    /// What names say, whatever the clock does: for cards that another device records.
    Names,
    /// A clock that a time service vouches for; failing that, one that reads plausibly, to half a minute.
    Plausible,
    /// Nothing but a clock that a time service vouches for.
    Synchronised,
}

impl Default for Clock {
    fn default() -> Self {
        let synchronised_file = PathBuf::from("/run/systemd/timesync/synchronized");
        Clock { believe: Believe::Plausible, synchronised_file }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    #[serde(deserialize_with = "between::<_, 1, 64>")]
    pub max_open_transfers: u64,
    #[serde(deserialize_with = "between::<_, 1_024, MAX_CHUNK_BYTES>")]
    pub max_chunk_bytes: u64,
    /// Over all transfers; 0: no limit.
    pub max_bytes_per_second: u64,
    /// Of recordings, for whatever purpose; 0: no limit.
    #[serde(deserialize_with = "card_rate")]
    pub card_bytes_per_second: u64,
}

/// How people and recorders reach the running agent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Diagnosis {
    /// Default: `/run/gapless-agent/DEVICE.socket`; empty: none.
    pub socket: Option<PathBuf>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_open_transfers: 4,
            max_chunk_bytes: MAX_CHUNK_BYTES,
            max_bytes_per_second: 0,
            card_bytes_per_second: 0,
        }
    }
}

impl From<&Limits> for DeviceLimits {
    fn from(limits: &Limits) -> DeviceLimits {
        let small = |number| u32::try_from(number).unwrap_or(u32::MAX);
        DeviceLimits {
            max_chunk_bytes: small(limits.max_chunk_bytes),
            max_open_transfers: small(limits.max_open_transfers),
            max_bytes_per_second: limits.max_bytes_per_second,
        }
    }
}

/// Where one encoder output is recorded, and how its files are named.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "WrittenStream")]
pub struct Stream {
    pub id: StreamId,
    /// Below the card's root.
    pub path: PathBuf,
    pub layout: Layout,
}

/// A stream as it stands in the file: `[[stream]]` with the keys of [`LayoutConfig`] beside its own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenStream {
    id: StreamId,
    path: PathBuf,
    #[serde(default)]
    layout: Option<sdcard_indexer::layout::Preset>,
    #[serde(default)]
    template: Option<String>,
    #[serde(default)]
    time_zone: Option<String>,
    #[serde(default)]
    camera: Option<String>,
}

impl TryFrom<WrittenStream> for Stream {
    type Error = String;

    fn try_from(written: WrittenStream) -> Result<Self, String> {
        let WrittenStream { id, path, layout, template, time_zone, camera } = written;
        let inside = |component| matches!(component, Component::Normal(_) | Component::CurDir);
        if !path.components().all(inside) {
            return Err(format!(
                "path = \"{}\" of stream `{id}`: allowed is a path below the card's root, without `..`",
                path.display()
            ));
        }
        let layout = Layout::try_from(LayoutConfig { layout, template, time_zone, camera })
            .map_err(|error| format!("stream `{id}`: {error}"))?;
        Ok(Stream { id, path, layout })
    }
}

/// `mqtt://host[:port]`, or `mqtts://` in a build with the feature `tls`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct BrokerUrl {
    pub tls: bool,
    /// A name or an address; an IPv6 address in its brackets.
    pub host: String,
    pub port: u16,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidUrl {
    #[error("`{0}` is not a broker: allowed is mqtt://HOST or mqtt://HOST:PORT")]
    Form(String),
    #[error(
        "`{0}`: this agent is built without TLS (cargo feature `tls`); allowed is mqtt://HOST:PORT"
    )]
    NoTls(String),
}

impl FromStr for BrokerUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let form = || InvalidUrl::Form(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(form)?;
        let (tls, default_port) = match scheme {
            "mqtt" => (false, 1883),
            "mqtts" if cfg!(feature = "tls") => (true, 8883),
            "mqtts" => return Err(InvalidUrl::NoTls(text.to_owned())),
            _ => return Err(form()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let address_end = rest.find(']').map_or(0, |bracket| bracket + 1);
        let (host, port) = match rest.get(address_end..).and_then(|tail| tail.rfind(':')) {
            Some(colon) => {
                let (host, port) = rest.split_at(address_end + colon);
                (host, port.trim_start_matches(':').parse().map_err(|_| form())?)
            }
            None => (rest, default_port),
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[]:%".contains(&byte);
        let bracketed = host.starts_with('[') && host.ends_with(']');
        if host.is_empty() || !host.bytes().all(allowed) || host.contains(':') != bracketed {
            return Err(form());
        }
        Ok(BrokerUrl { tls, host: host.to_owned(), port })
    }
}

impl TryFrom<String> for BrokerUrl {
    type Error = InvalidUrl;

    fn try_from(text: String) -> Result<Self, InvalidUrl> {
        text.parse()
    }
}

impl std::fmt::Display for BrokerUrl {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        write!(formatter, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl Config {
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// Where the running agent answers; `None` where it is not to.
    pub fn socket(&self) -> Option<PathBuf> {
        let usual = || Path::new("/run/gapless-agent").join(format!("{}.socket", self.device));
        let socket = self.diagnosis.socket.clone().unwrap_or_else(usual);
        (!socket.as_os_str().is_empty()).then_some(socket)
    }

    /// The whole configuration with every default filled in; reads back as the same.
    pub fn effective(&self) -> String {
        written::sections(self).map(|(_, lines)| lines).concat()
    }

    /// The top-level keys in which two configurations differ, defaults filled in.
    pub fn differences(&self, other: &Config) -> Vec<&'static str> {
        let both = written::sections(self).into_iter().zip(written::sections(other));
        both.filter(|(one, other)| one != other).map(|((key, _), _)| key).collect()
    }
}

fn yes() -> bool {
    true
}

fn between<'de, D, const MIN: u64, const MAX: u64>(deserializer: D) -> Result<u64, D::Error>
where
    D: Deserializer<'de>,
{
    let number = u64::deserialize(deserializer)?;
    if !(MIN..=MAX).contains(&number) {
        return Err(D::Error::custom(format!("{number} is not allowed: give {MIN} to {MAX}")));
    }
    Ok(number)
}

fn card_rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match u64::deserialize(deserializer)? {
        rate @ (0 | MIN_CARD_RATE..) => Ok(rate),
        rate => Err(D::Error::custom(format!(
            "{rate} is not allowed: give 0 for no limit, or at least {MIN_CARD_RATE}"
        ))),
    }
}

fn streams<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Stream>, D::Error> {
    let streams = Vec::<Stream>::deserialize(deserializer)?;
    if streams.is_empty() || streams.len() > MAX_STREAMS {
        return Err(D::Error::custom(format!("give 1 to {MAX_STREAMS} [[stream]]")));
    }
    let mut ids = BTreeSet::new();
    match streams.iter().find(|stream| !ids.insert(&stream.id)) {
        Some(twice) => {
            Err(D::Error::custom(format!("stream id `{}` stands twice: ids are unique", twice.id)))
        }
        None => Ok(streams),
    }
}

#[cfg(test)]
mod tests;
