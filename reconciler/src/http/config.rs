//! `[http]` of the configuration: where the API and the page are served to people, and to whom.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::access::{Approach, Role, Settings};

const DEFAULT_PORT: u16 = 8480;
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The section as it is written. What does not go together is refused when it is read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Address and port, or `off`. Beyond loopback it needs TLS, here or in a proxy.
    pub listen: Listen,
    /// PEM: this server's certificate, and behind it those of who signed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_certificate: Option<PathBuf>,
    /// PEM, which nobody but the server's user can read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// A proxy speaks TLS, and says in `X-Forwarded-For` and `X-Forwarded-Proto` for whom it asks.
    pub behind_proxy: bool,
    /// Whose word on that is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What callers on this machine may without saying who they are.
    pub anonymous: Anonymous,
    /// Connections at one time; a further one is closed.
    pub max_connections: usize,
    /// For how long it is kept who saw, pulled and exported what.
    pub audit_days: u32,
}

impl Default for HttpConfig {
    fn default() -> Self {
        let network = |text: &str| text.parse().expect("a valid network");
        HttpConfig {
            listen: Listen::At(SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT))),
            tls_certificate: None,
            tls_key: None,
            behind_proxy: false,
            trusted_proxies: vec![network("127.0.0.0/8"), network("::1/128")],
            anonymous: Anonymous::None,
            max_connections: 256,
            audit_days: 365,
        }
    }
}

/// As the configuration reads the section.
pub(crate) fn checked<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HttpConfig, D::Error> {
    let config = HttpConfig::deserialize(deserializer)?;
    config.check().map_err(D::Error::custom)?;
    Ok(config)
}

/// What of the section does not go together.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HttpConfigError {
    #[error("tls_certificate and tls_key belong together: give both, or neither")]
    HalfTls,
    #[error(
        "listen = \"{0}\" is reached from other machines, and passwords and footage would go over the network for all \
         to read: give tls_certificate and tls_key; or behind_proxy = true, where a proxy does TLS; or listen on \
         127.0.0.1"
    )]
    Plain(SocketAddr),
    #[error(
        "behind_proxy = true with anonymous = \"{0}\": whoever the proxy asks for would be let in without a log-in: \
         take anonymous away"
    )]
    AnonymousProxy(Anonymous),
    #[error("behind_proxy = true needs trusted_proxies: name the proxy's address")]
    NoProxies,
    #[error("max_connections = 0 would let nobody in: give 1 or more, or listen = \"off\"")]
    NoConnections,
    #[error("audit_days = 0 would keep no audit log: give 1 or more")]
    NoAudit,
}

impl HttpConfig {
    fn check(&self) -> Result<(), HttpConfigError> {
        let tls = self.tls_certificate.is_some();
        if tls != self.tls_key.is_some() {
            return Err(HttpConfigError::HalfTls);
        }
        match self.listen {
            Listen::At(at)
                if !at.ip().to_canonical().is_loopback() && !tls && !self.behind_proxy =>
            {
                return Err(HttpConfigError::Plain(at));
            }
            _ => {}
        }
        if self.behind_proxy && self.anonymous != Anonymous::None {
            return Err(HttpConfigError::AnonymousProxy(self.anonymous));
        }
        if self.behind_proxy && self.trusted_proxies.is_empty() {
            return Err(HttpConfigError::NoProxies);
        }
        match (self.max_connections, self.audit_days) {
            (0, _) => Err(HttpConfigError::NoConnections),
            (_, 0) => Err(HttpConfigError::NoAudit),
            _ => Ok(()),
        }
    }

    /// Makes paths whole: relative ones are relative to `base`.
    pub(crate) fn locate(&mut self, base: &Path) {
        for path in [&mut self.tls_certificate, &mut self.tls_key].into_iter().flatten() {
            *path = base.join(&*path);
        }
    }

    /// Certificate and key, where this server speaks TLS itself.
    pub fn tls(&self) -> Option<(&Path, &Path)> {
        self.tls_certificate.as_deref().zip(self.tls_key.as_deref())
    }

    pub fn approach(&self) -> Approach {
        let proxies = if self.behind_proxy { self.trusted_proxies.clone() } else { Vec::new() };
        Approach { tls: self.tls().is_some(), proxies }
    }

    pub fn access(&self) -> Settings {
        Settings { anonymous: self.anonymous.role(), audit_kept: DAY * self.audit_days }
    }
}

/// Where to listen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Listen {
    /// Nowhere: orders come by the Unix socket alone.
    Off,
    /// Port 0 takes a free one.
    At(SocketAddr),
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no address to listen on: give one with its port, as 127.0.0.1:8480, or \"off\"")]
pub struct InvalidListen(String);

impl FromStr for Listen {
    type Err = InvalidListen;

    fn from_str(text: &str) -> Result<Listen, InvalidListen> {
        match text {
            "" | "off" => Ok(Listen::Off),
            text => text.parse().map(Listen::At).map_err(|_| InvalidListen(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Listen {
    type Error = InvalidListen;

    fn try_from(text: String) -> Result<Listen, InvalidListen> {
        text.parse()
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> String {
        match listen {
            Listen::Off => "off".to_owned(),
            Listen::At(address) => address.to_string(),
        }
    }
}

/// See [`HttpConfig::anonymous`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Anonymous {
    None,
    View,
    Pull,
    Admin,
}

impl Anonymous {
    fn role(self) -> Option<Role> {
        match self {
            Anonymous::None => None,
            Anonymous::View => Some(Role::View),
            Anonymous::Pull => Some(Role::Pull),
            Anonymous::Admin => Some(Role::Admin),
        }
    }
}

impl fmt::Display for Anonymous {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.role().map_or("none", Role::word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<HttpConfig, String> {
        checked(toml::Deserializer::parse(text).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn by_default_only_this_machine_is_served_and_nobody_is_anonymous() {
        let config = read("").unwrap();
        assert_eq!(config, HttpConfig::default());
        assert_eq!(String::from(config.listen), "127.0.0.1:8480");
        assert_eq!(config.access().anonymous, None);
        assert_eq!(config.approach(), Approach::default());
        let printed = toml::to_string(&config).unwrap();
        assert_eq!(read(&printed).unwrap(), config);
    }

    #[test]
    fn what_other_machines_reach_is_encrypted_by_somebody() {
        for address in ["0.0.0.0:8480", "192.0.2.1:80", "[::]:8480"] {
            let refused = read(&format!("listen = \"{address}\"")).unwrap_err();
            for word in [address, "tls_certificate", "behind_proxy", "127.0.0.1"] {
                assert!(refused.contains(word), "{word} is not in {refused}");
            }
            let tls = "tls_certificate = \"a.pem\"\ntls_key = \"b.pem\"";
            read(&format!("listen = \"{address}\"\n{tls}")).unwrap();
            read(&format!("listen = \"{address}\"\nbehind_proxy = true")).unwrap();
        }
        for address in ["127.0.0.1:0", "[::1]:8480", "[::ffff:127.0.0.1]:8480", "off", ""] {
            read(&format!("listen = \"{address}\"")).unwrap();
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (text, named) in [
            ("tls_key = \"a.pem\"", "belong together"),
            ("behind_proxy = true\nanonymous = \"view\"", "anonymous = \"view\""),
            ("behind_proxy = true\ntrusted_proxies = []", "trusted_proxies"),
            ("listen = \"8480\"", "`8480`"),
            ("max_connections = 0", "max_connections"),
            ("audit_days = 0", "audit_days"),
            ("anonymous = \"root\"", "root"),
            ("trusted_proxies = [\"proxy.example\"]", "trusted_proxies"),
            ("tls = true", "tls"),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.contains(named), "{named} is not in {refused}");
        }
    }

    #[test]
    fn proxies_are_believed_only_where_there_is_said_to_be_one() {
        assert!(read("trusted_proxies = [\"10.0.0.0/8\"]").unwrap().approach().proxies.is_empty());
        let behind = read("behind_proxy = true\ntrusted_proxies = [\"10.0.0.0/8\"]").unwrap();
        assert_eq!(behind.approach().proxies.len(), 1);
    }
}
