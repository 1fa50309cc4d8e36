//! Where each message goes: the MQTT topics, built and parsed in one place.
//!
//! ```text
//! gapless/1/{device}/state | coverage | ask | credit | tell/{server} | data/{server}
//! ```
//!
//! A device publishes and subscribes below its own id only, so that a broker can hold it to that. Topics
//! arrive from strangers: anything else than exactly the above is refused.

use std::fmt;
use std::str::FromStr;

use crate::message::{DeviceId, ServerId};

/// The tree of this protocol; its number changes only where both trees must live on one broker.
const ROOT: &str = "gapless/1";

/// A topic, and with it who speaks.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Topic {
    /// [`crate::message::Presence`], retained: device to all.
    State(DeviceId),
    /// [`crate::message::CoverageReport`]: device to all.
    Coverage(DeviceId),
    /// [`crate::message::Ask`]: server to device.
    Ask(DeviceId),
    /// [`crate::message::Credit`]: server to device.
    Credit(DeviceId),
    /// [`crate::message::Tell`]: device to that server.
    Tell(DeviceId, ServerId),
    /// [`crate::frame::Data`]: device to that server.
    Data(DeviceId, ServerId),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{topic}` is not a topic of this protocol ({ROOT}/…)")]
pub struct UnknownTopic {
    /// What arrived, cut to 256 characters.
    pub topic: String,
}

impl Topic {
    /// Whose subtree it is.
    pub fn device(&self) -> &DeviceId {
        match self {
            Topic::State(device)
            | Topic::Coverage(device)
            | Topic::Ask(device)
            | Topic::Credit(device)
            | Topic::Tell(device, _)
            | Topic::Data(device, _) => device,
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{ROOT}/{}/", self.device())?;
        match self {
            Topic::State(_) => formatter.write_str("state"),
            Topic::Coverage(_) => formatter.write_str("coverage"),
            Topic::Ask(_) => formatter.write_str("ask"),
            Topic::Credit(_) => formatter.write_str("credit"),
            Topic::Tell(_, server) => write!(formatter, "tell/{server}"),
            Topic::Data(_, server) => write!(formatter, "data/{server}"),
        }
    }
}

impl FromStr for Topic {
    type Err = UnknownTopic;

    fn from_str(topic: &str) -> Result<Topic, UnknownTopic> {
        parse(topic).ok_or_else(|| UnknownTopic { topic: topic.chars().take(256).collect() })
    }
}

fn parse(topic: &str) -> Option<Topic> {
    let mut levels = topic.strip_prefix(ROOT)?.strip_prefix('/')?.split('/');
    let device = levels.next()?.parse().ok()?;
    let leaf = levels.next()?;
    let server = levels.next().map(str::parse).transpose().ok()?;
    if levels.next().is_some() {
        return None;
    }
    Some(match (leaf, server) {
        ("state", None) => Topic::State(device),
        ("coverage", None) => Topic::Coverage(device),
        ("ask", None) => Topic::Ask(device),
        ("credit", None) => Topic::Credit(device),
        ("tell", Some(server)) => Topic::Tell(device, server),
        ("data", Some(server)) => Topic::Data(device, server),
        _ => return None,
    })
}

/// What a device listens to.
pub fn device_subscriptions(device: &DeviceId) -> [String; 2] {
    [Topic::Ask(device.clone()).to_string(), Topic::Credit(device.clone()).to_string()]
}

/// What a server listens to, of all devices.
pub fn server_subscriptions(server: &ServerId) -> [String; 4] {
    [
        format!("{ROOT}/+/state"),
        format!("{ROOT}/+/coverage"),
        format!("{ROOT}/+/tell/{server}"),
        format!("{ROOT}/+/data/{server}"),
    ]
}

/// MQTT client id of a device: always the same, so that a new connection ends a half-open old one.
pub fn agent_client_id(device: &DeviceId) -> String {
    format!("gapless-agent-{device}")
}

/// MQTT client id of a server.
pub fn server_client_id(server: &ServerId) -> String {
    format!("gapless-server-{server}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> DeviceId {
        "cam-7".parse().unwrap()
    }

    fn server() -> ServerId {
        "depot".parse().unwrap()
    }

    #[test]
    fn every_topic_reads_back_what_it_writes() {
        for (topic, text) in [
            (Topic::State(device()), "gapless/1/cam-7/state"),
            (Topic::Coverage(device()), "gapless/1/cam-7/coverage"),
            (Topic::Ask(device()), "gapless/1/cam-7/ask"),
            (Topic::Credit(device()), "gapless/1/cam-7/credit"),
            (Topic::Tell(device(), server()), "gapless/1/cam-7/tell/depot"),
            (Topic::Data(device(), server()), "gapless/1/cam-7/data/depot"),
        ] {
            assert_eq!(topic.to_string(), text);
            assert_eq!(text.parse(), Ok(topic));
        }
    }

    #[test]
    fn any_other_topic_is_refused() {
        for text in [
            "",
            "gapless",
            "gapless/1",
            "gapless/1/",
            "gapless/1/cam-7",
            "gapless/2/cam-7/state",
            "gapless/10/cam-7/state",
            "x/gapless/1/cam-7/state",
            "/gapless/1/cam-7/state",
            "gapless/1/cam-7/state/",
            "gapless/1/cam-7/state/depot",
            "gapless/1/cam-7/tell",
            "gapless/1/cam-7/tell/",
            "gapless/1/cam-7/data/depot/x",
            "gapless/1/cam-7/orders",
            "gapless/1/+/state",
            "gapless/1/../state",
            "gapless/1//state",
            "gapless/1/cam 7/state",
        ] {
            assert!(text.parse::<Topic>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_refused_topic_is_named_without_flooding_a_log() {
        let refused = "x".repeat(60_000).parse::<Topic>().unwrap_err();
        assert_eq!(refused.topic.len(), 256);
    }

    #[test]
    fn a_server_listens_to_all_devices_and_a_device_to_itself() {
        assert_eq!(
            server_subscriptions(&server()),
            [
                "gapless/1/+/state",
                "gapless/1/+/coverage",
                "gapless/1/+/tell/depot",
                "gapless/1/+/data/depot"
            ]
        );
        assert_eq!(
            device_subscriptions(&device()),
            ["gapless/1/cam-7/ask", "gapless/1/cam-7/credit"]
        );
    }

    #[test]
    fn client_ids_tell_the_two_sides_apart() {
        assert_eq!(agent_client_id(&device()), "gapless-agent-cam-7");
        assert_eq!(server_client_id(&server()), "gapless-server-depot");
    }
}
