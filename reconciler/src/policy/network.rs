//! Over which networks footage may be pulled: by the link that the device names, or by its own address.
//!
//! Pure. Both are the device's own word, so a rule saves somebody's mobile data; it keeps nobody out.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use protocol::message::Network;
use serde::{Deserialize, Serialize};

/// Longest label of a link, in bytes; the same as a device may send.
pub const MAX_LINK_BYTES: usize = 64;

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "`{text}` is no network: give what devices call their link, such as ethernet, or a range of their \
     addresses, such as 10.20.0.0/16"
)]
pub struct NetworkRuleError {
    pub text: String,
}

/// One network that is good enough.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NetworkRule {
    /// What the device calls its link, in any case.
    Link(String),
    /// Where the device's own address lies.
    Addresses(IpNet),
}

impl NetworkRule {
    pub fn allows(&self, network: &Network) -> bool {
        match self {
            NetworkRule::Link(link) => link.eq_ignore_ascii_case(network.link.trim()),
            NetworkRule::Addresses(addresses) => {
                // A device that listens on both protocols may show an IPv4 address as an IPv6 one.
                network.address.is_some_and(|own| addresses.contains(&own.to_canonical()))
            }
        }
    }
}

impl FromStr for NetworkRule {
    type Err = NetworkRuleError;

    fn from_str(text: &str) -> Result<NetworkRule, NetworkRuleError> {
        if let Ok(addresses) = text.parse::<IpNet>() {
            return Ok(NetworkRule::Addresses(addresses));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(NetworkRule::Addresses(IpNet::from(address)));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-. ".contains(&byte);
        let has_a_letter = text.bytes().any(|byte| byte.is_ascii_alphabetic());
        let fits = text.len() <= MAX_LINK_BYTES && text.trim() == text;
        if !has_a_letter || !fits || !text.bytes().all(plain) {
            return Err(NetworkRuleError { text: text.chars().take(MAX_LINK_BYTES).collect() });
        }
        Ok(NetworkRule::Link(text.to_owned()))
    }
}

impl TryFrom<String> for NetworkRule {
    type Error = NetworkRuleError;

    fn try_from(text: String) -> Result<NetworkRule, NetworkRuleError> {
        text.parse()
    }
}

impl From<NetworkRule> for String {
    fn from(rule: NetworkRule) -> String {
        rule.to_string()
    }
}

impl fmt::Display for NetworkRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetworkRule::Link(link) => formatter.write_str(link),
            NetworkRule::Addresses(addresses) => addresses.fmt(formatter),
        }
    }
}

/// Where a device is, in a sentence: `on wifi at 192.168.0.7`.
pub(super) fn whereabouts(network: &Network) -> String {
    let link: String = network.link.trim().chars().take(MAX_LINK_BYTES).collect();
    let link = if link.is_empty() {
        "on a link that it cannot name".to_owned()
    } else {
        format!("on {}", link.escape_debug())
    };
    match network.address {
        Some(address) => format!("{link} at {}", address.to_canonical()),
        None => format!("{link}, with an address that it does not tell"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> NetworkRule {
        text.parse().unwrap()
    }

    fn network(link: &str, address: &str) -> Network {
        Network { link: link.into(), address: address.parse().ok() }
    }

    #[test]
    fn a_link_is_compared_in_any_case() {
        assert!(rule("ethernet").allows(&network("Ethernet", "")));
        assert!(!rule("ethernet").allows(&network("wifi", "10.0.0.1")));
        assert!(!rule("ethernet").allows(&Network::default()));
    }

    #[test]
    fn a_range_of_addresses_holds_the_devices_own() {
        let depot = rule("10.20.0.0/16");
        assert!(depot.allows(&network("wifi", "10.20.255.1")));
        assert!(depot.allows(&network("wifi", "::ffff:10.20.255.1")));
        assert!(!depot.allows(&network("wifi", "10.21.0.1")));
        assert!(!depot.allows(&network("wifi", "")));
        assert!(rule("fd00::/8").allows(&network("", "fd12::1")));
        assert!(!rule("fd00::/8").allows(&network("", "10.20.0.1")));
        assert!(rule("10.20.0.7").allows(&network("", "10.20.0.7")));
    }

    #[test]
    fn what_is_neither_is_refused_and_what_is_allowed_is_printed_as_it_is_read() {
        let too_long = "x".repeat(MAX_LINK_BYTES + 1);
        for text in
            ["", " ", "10.20.0.0/33", "10.20", "eth/0", " wifi", "300.1.1.1", "a\nb", &too_long]
        {
            assert!(text.parse::<NetworkRule>().is_err(), "{text}");
        }
        for text in ["ethernet", "10.20.0.0/16", "fd00::/8", "depot wifi"] {
            assert_eq!(rule(text).to_string(), text);
        }
    }

    #[test]
    fn a_device_cannot_write_on_a_terminal_through_the_name_of_its_link() {
        let told = whereabouts(&network("wi\u{1b}[2Jfi", "10.0.0.1"));
        assert!(!told.contains('\u{1b}') && told.ends_with("at 10.0.0.1"), "{told}");
        assert!(whereabouts(&Network::default()).contains("cannot name"));
    }
}
