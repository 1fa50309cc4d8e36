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

    /// MQTT quality of service it is published and subscribed with.
    ///
    /// 0 for what is repeated anyway or made good by credit, 1 for the rest. Neither is delivery.
    pub fn qos(&self) -> u8 {
        match self {
            Topic::Credit(_) | Topic::Data(..) => 0,
            Topic::State(_) | Topic::Coverage(_) | Topic::Ask(_) | Topic::Tell(..) => 1,
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

/// What a device listens to: filters, each with the quality of service of [`Topic::qos`].
pub fn device_subscriptions(device: &DeviceId) -> [(String, u8); 2] {
    [Topic::Ask(device.clone()), Topic::Credit(device.clone())]
        .map(|topic| (topic.to_string(), topic.qos()))
}

/// What a server listens to, of all devices: filters, each with the quality of service of [`Topic::qos`].
pub fn server_subscriptions(server: &ServerId) -> [(String, u8); 4] {
    [
        (format!("{ROOT}/+/state"), 1),
        (format!("{ROOT}/+/coverage"), 1),
        (format!("{ROOT}/+/tell/{server}"), 1),
        (format!("{ROOT}/+/data/{server}"), 0),
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
    fn a_device_listens_to_its_own_topics() {
        let expected =
            [("gapless/1/cam-7/ask".to_owned(), 1), ("gapless/1/cam-7/credit".to_owned(), 0)];
        assert_eq!(device_subscriptions(&device()), expected);
    }

    #[test]
    fn a_server_listens_to_what_every_device_says_to_all_and_to_it() {
        let listens: Vec<Topic> = server_subscriptions(&server())
            .into_iter()
            .map(|(filter, qos)| {
                let topic: Topic = filter.replace('+', "cam-7").parse().unwrap();
                assert_eq!(topic.qos(), qos, "{filter}");
                topic
            })
            .collect();
        let expected = [
            Topic::State(device()),
            Topic::Coverage(device()),
            Topic::Tell(device(), server()),
            Topic::Data(device(), server()),
        ];
        assert_eq!(listens, expected);
    }

    #[test]
    fn client_ids_tell_the_two_sides_apart() {
        assert_eq!(agent_client_id(&device()), "gapless-agent-cam-7");
        assert_eq!(server_client_id(&server()), "gapless-server-depot");
    }
}
