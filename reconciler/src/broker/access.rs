//! Who may use which topic: pure rules over client id and topic, no I/O, no state.
//!
//! It must never allow what it does not recognise.

pub(super) const AGENT: &str = "gapless-agent-";
pub(super) const SERVER: &str = "gapless-server-";
const ROOT: &str = "gapless/1/";
const LONGEST_NAME: usize = 64;

/// What a client id claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role<'a> {
    Agent { device: &'a str },
    Server,
}

impl<'a> Role<'a> {
    pub(super) fn of(client_id: &'a str) -> Option<Self> {
        if let Some(device) = client_id.strip_prefix(AGENT) {
            is_name(device).then_some(Self::Agent { device })
        } else {
            client_id.strip_prefix(SERVER).filter(|id| is_name(id)).map(|_| Self::Server)
        }
    }

    pub(super) fn may_publish(self, topic: &str) -> bool {
        let Some((device, rest)) = split(topic) else { return false };
        if topic.contains(['+', '#']) {
            return false;
        }
        match self {
            Self::Server => true,
            Self::Agent { device: own } => {
                device == own
                    && (matches!(rest, "state" | "coverage")
                        || rest.strip_prefix("tell/").is_some_and(|to| !to.is_empty())
                        || rest.strip_prefix("data/").is_some_and(|to| !to.is_empty()))
            }
        }
    }

    pub(super) fn may_subscribe(self, filter: &str) -> bool {
        match self {
            Self::Server => filter.starts_with(ROOT),
            Self::Agent { device: own } => split(filter)
                .is_some_and(|(device, rest)| device == own && matches!(rest, "ask" | "credit")),
        }
    }
}

/// Media, the only topic with volume.
pub(super) fn is_chunk(topic: &str) -> bool {
    split(topic).is_some_and(|(_, rest)| rest.starts_with("data/"))
}

/// Presence, the only topic that may be retained.
pub(super) fn is_state(topic: &str) -> bool {
    split(topic).is_some_and(|(_, rest)| rest == "state")
}

fn split(topic: &str) -> Option<(&str, &str)> {
    topic.strip_prefix(ROOT)?.split_once('/')
}

fn is_name(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_names_an_agent_a_server_or_nobody() {
        assert_eq!(Role::of("gapless-agent-cam_1-a"), Some(Role::Agent { device: "cam_1-a" }));
        assert_eq!(Role::of("gapless-server-main"), Some(Role::Server));
        let long = format!("gapless-agent-{}", "a".repeat(65));
        for stranger in [
            "",
            "cam",
            "gapless-agent-",
            "gapless-agent-a/b",
            "gapless-agent-+",
            "gapless-server-",
            &long,
        ] {
            assert_eq!(Role::of(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn an_agent_uses_its_own_subtree_only() {
        let agent = Role::Agent { device: "a" };
        for topic in ["state", "coverage", "tell/main", "data/main", "data/main/0"] {
            assert!(agent.may_publish(&format!("gapless/1/a/{topic}")), "{topic}");
            assert!(!agent.may_publish(&format!("gapless/1/b/{topic}")), "{topic}");
            assert!(!agent.may_publish(&format!("gapless/2/a/{topic}")), "{topic}");
            assert!(!agent.may_subscribe(&format!("gapless/1/a/{topic}")), "{topic}");
        }
        for topic in ["ask", "credit"] {
            assert!(agent.may_subscribe(&format!("gapless/1/a/{topic}")), "{topic}");
            assert!(!agent.may_subscribe(&format!("gapless/1/b/{topic}")), "{topic}");
            assert!(!agent.may_publish(&format!("gapless/1/a/{topic}")), "{topic}");
        }
        for filter in [
            "#",
            "gapless/#",
            "gapless/1/#",
            "gapless/1/+/ask",
            "gapless/1/a/#",
            "$share/x/gapless/1/a/ask",
        ] {
            assert!(!agent.may_subscribe(filter), "{filter}");
        }
        assert!(!agent.may_publish("gapless/1/a/data/"));
        assert!(!agent.may_publish("gapless/1/a/data/#"));
    }

    #[test]
    fn a_server_uses_all_of_gapless_and_nothing_else() {
        assert!(Role::Server.may_subscribe("gapless/1/#"));
        assert!(Role::Server.may_subscribe("gapless/1/+/data/main"));
        assert!(Role::Server.may_publish("gapless/1/a/ask"));
        for topic in ["#", "$SYS/#", "gapless/#", "gapless/2/a/ask", "other"] {
            assert!(!Role::Server.may_subscribe(topic), "{topic}");
            assert!(!Role::Server.may_publish(topic), "{topic}");
        }
    }

    #[test]
    fn only_data_is_media_and_only_state_is_retained() {
        assert!(is_chunk("gapless/1/a/data/main") && !is_chunk("gapless/1/a/tell/main"));
        assert!(is_state("gapless/1/a/state") && !is_state("gapless/1/a/data/state"));
    }
}
