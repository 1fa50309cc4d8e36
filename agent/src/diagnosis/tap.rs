//! What a device hears and says, in words: each message of the protocol as one flat object.
//!
//! Made from the bytes on the wire in both directions, so that it shows what was really said. Lists are told by
//! their number and their ends: a card's whole coverage is what `coverage` is for.

use std::fmt::Write as _;

use protocol::envelope;
use protocol::frame::Data;
use protocol::message::{Ask, AskBody, CoverageReport, Credit, Part, Presence, Refusable, Tell};
use protocol::topic::Topic;
use sdcard_indexer::readable::time_of;
use sdcard_indexer::time::{TimeRange, Timestamp};
use serde_json::{Map, Value};

use super::desk::word;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    In,
    Out,
}

/// One message, and what it says.
#[derive(Clone, PartialEq, Debug)]
pub struct Tapped {
    at: Timestamp,
    direction: Direction,
    topic: String,
    bytes: usize,
    /// `None` where it cannot be decoded.
    message: Option<&'static str>,
    fields: Map<String, Value>,
}

/// What is not known of a topic or payload is cut to this.
const MAX_TOPIC_CHARACTERS: usize = 256;

impl Tapped {
    pub fn of(at: Timestamp, direction: Direction, topic: String, payload: &[u8]) -> Self {
        let (message, fields) = match decoded(&topic, payload) {
            Ok((message, fields)) => (Some(message), fields),
            Err(problem) => (None, fields([("problem", problem.into())])),
        };
        let topic = topic.chars().take(MAX_TOPIC_CHARACTERS).collect();
        Tapped { at, direction, topic, bytes: payload.len(), message, fields }
    }

    /// `at`, `direction` (`in`: the device hears it), `topic`, `bytes`, `message`, and what it says.
    pub fn json(&self) -> Value {
        let mut all = fields([
            ("kind", "message".into()),
            ("at", self.at.to_string().into()),
            ("direction", word(&self.direction).into()),
            ("topic", self.topic.as_str().into()),
            ("bytes", self.bytes.into()),
            ("message", self.message.into()),
        ]);
        all.extend(self.fields.clone());
        Value::Object(all)
    }

    /// A line, or a few that are told by their indent.
    pub fn text(&self) -> String {
        let arrow = if self.direction == Direction::In { "<-" } else { "->" };
        let what = self.message.unwrap_or("not understood");
        let mut text = format!("{} {arrow} {what}, {} B", time_of(self.at), self.bytes);
        if self.message.is_none() {
            let _ = write!(text, ", on {}", self.topic.escape_debug());
        }
        for (key, value) in self.fields.iter().filter(|(_, value)| !value.is_null()) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let _ = write!(text, " {key}={}", value.replace(char::is_control, "?"));
        }
        text
    }
}

/// How many messages a watcher missed, because it was too slow.
pub fn missed_json(count: u64) -> Value {
    Value::Object(fields([("kind", "missed".into()), ("messages", count.into())]))
}

pub fn missed_text(count: u64) -> String {
    format!("   -- {count} messages were not shown: they came faster than they were read --")
}

type Decoded = (&'static str, Map<String, Value>);

fn decoded(topic: &str, payload: &[u8]) -> Result<Decoded, String> {
    let said = |error: envelope::DecodeError| error.to_string();
    Ok(match topic.parse::<Topic>().map_err(|error| error.to_string())? {
        Topic::State(_) => presence(&envelope::decode(payload).map_err(said)?),
        Topic::Coverage(_) => coverage(&envelope::decode(payload).map_err(said)?),
        Topic::Ask(_) => ask(&envelope::decode(payload).map_err(said)?),
        Topic::Credit(_) => credit(&envelope::decode(payload).map_err(said)?),
        Topic::Tell(_, server) => tell(&envelope::decode(payload).map_err(said)?, server.as_str()),
        Topic::Data(_, server) => {
            let Data { transfer, offset, payload, .. } = Data::decode(payload).map_err(said)?;
            let said = fields([
                ("server", server.as_str().into()),
                ("transfer", id(transfer.0)),
                ("offset", offset.into()),
                ("length", payload.len().into()),
            ]);
            ("data", said)
        }
    })
}

fn presence(presence: &Presence) -> Decoded {
    match presence {
        Presence::Offline { connection } => ("offline", fields([("connection", id(connection.0))])),
        Presence::Online(online) => {
            let streams: Vec<&str> = online.streams.iter().map(|stream| stream.as_str()).collect();
            let said = fields([
                ("connection", id(online.connection.0)),
                ("version", online.agent_version.as_str().into()),
                ("clock", online.clock.realtime.to_string().into()),
                ("boot_ms", online.clock.boottime.0.into()),
                ("streams", streams.join(",").into()),
                ("link", online.network.link.as_str().into()),
                ("address", online.network.address.map(|address| address.to_string()).into()),
            ]);
            ("online", said)
        }
    }
}

fn coverage(report: &CoverageReport) -> Decoded {
    let hull = report.held.hull();
    let said = fields([
        ("connection", id(report.connection.0)),
        ("stream", report.stream.as_str().into()),
        ("generation", report.generation.into()),
        ("from", end(report.window.start())),
        ("to", end(report.window.end())),
        ("held_ranges", report.held.ranges().len().into()),
        ("held_s", report.held.total().as_secs_f64().into()),
        ("held_from", hull.map(|hull| hull.start().to_string()).into()),
        ("held_to", hull.map(|hull| hull.end().to_string()).into()),
        ("gone_ranges", report.gone.ranges().len().into()),
        ("final_until", end(report.final_until)),
        ("tier", report.tier.into()),
        ("uncertainty_s", (report.uncertainty_ns as f64 / 1e9).into()),
    ]);
    ("coverage", said)
}

fn ask(ask: &Ask) -> Decoded {
    let (message, said) = match &ask.body {
        AskBody::Coverage => ("ask_coverage", Map::new()),
        AskBody::Locate { request, stream, range } => {
            ("ask_locate", question(request.0, stream.as_str(), *range))
        }
        AskBody::List { request, stream, range } => {
            ("ask_list", question(request.0, stream.as_str(), *range))
        }
        AskBody::Open(open) => {
            let said = fields([
                ("transfer", id(open.transfer.0)),
                ("segment", open.segment.to_string().into()),
                ("start", open.start.into()),
                ("end", open.end.into()),
                ("resumed_at", open.from.into()),
                ("limit", open.credit_limit.into()),
                ("chunk", open.chunk_bytes.into()),
                ("rate", open.rate_bytes_per_second.into()),
                ("priority", open.priority.into()),
            ]);
            ("ask_open", said)
        }
        AskBody::Cancel { transfer } => ("ask_cancel", fields([("transfer", id(transfer.0))])),
        AskBody::Time(time) => {
            let (sampled, utc) = (time.sampled.0.into(), time.utc.to_string().into());
            ("ask_time", fields([("sampled_ms", sampled), ("utc", utc)]))
        }
    };
    let mut all = fields([
        ("server", ask.server.as_str().into()),
        ("connection", id(ask.connection.0)),
        ("expires_ms", ask.expires.0.into()),
    ]);
    all.extend(said);
    (message, all)
}

fn question(request: u64, stream: &str, range: TimeRange) -> Map<String, Value> {
    fields([
        ("request", id(request)),
        ("stream", stream.into()),
        ("from", end(range.start())),
        ("to", end(range.end())),
    ])
}

fn credit(credit: &Credit) -> Decoded {
    let said = fields([
        ("transfer", id(credit.transfer.0)),
        ("sequence", credit.sequence.into()),
        ("limit", credit.limit.into()),
        ("durable", credit.durable.into()),
        ("chunk", credit.chunk_bytes.into()),
        ("rate", credit.rate_bytes_per_second.into()),
    ]);
    ("credit", said)
}

fn tell(tell: &Tell, server: &str) -> Decoded {
    let (message, said) = match tell {
        Tell::Located(located) => {
            let bytes = |part: &Part| part.end.saturating_sub(part.start);
            let said = fields([
                ("request", id(located.request.0)),
                ("stream", located.stream.as_str().into()),
                ("parts", located.parts.len().into()),
                ("part_bytes", located.parts.iter().map(bytes).sum::<u64>().into()),
                ("next", located.next.map(|next| next.to_string()).into()),
            ]);
            ("tell_located", said)
        }
        Tell::Listed(listed) => {
            let said = fields([
                ("request", id(listed.request.0)),
                ("stream", listed.stream.as_str().into()),
                ("segments", listed.segments.len().into()),
                ("next", listed.next.map(|next| next.to_string()).into()),
            ]);
            ("tell_listed", said)
        }
        Tell::Accepted { transfer, length_bytes } => {
            let said = [("transfer", id(transfer.0)), ("length", (*length_bytes).into())];
            ("tell_accepted", fields(said))
        }
        Tell::End { transfer, digest } => {
            let seal = word(&digest.seal).into();
            ("tell_end", fields([("transfer", id(transfer.0)), ("seal", seal)]))
        }
        Tell::Refused { what, reason } => {
            let what = match what {
                Refusable::Request(request) => ("request", id(request.0)),
                Refusable::Transfer(transfer) => ("transfer", id(transfer.0)),
            };
            ("tell_refused", fields([what, ("reason", word(reason).into())]))
        }
    };
    let mut all = fields([("server", server.into())]);
    all.extend(said);
    (message, all)
}

/// Drawn at random, and more than a JSON number holds everywhere.
fn id(number: u64) -> Value {
    format!("{number:016x}").into()
}

/// Of a window; nothing at the ends of all time.
fn end(instant: Timestamp) -> Value {
    let always = instant == Timestamp::MIN || instant == Timestamp::MAX;
    (!always).then(|| instant.to_string()).into()
}

/// As written, whatever [`Map`]'s own order is: it sorts.
fn fields<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use protocol::message::{BootMillis, ConnectionId, RefusedReason, RequestId, TransferId};

    use super::*;

    fn tapped(topic: &str, payload: &[u8]) -> Tapped {
        let at = "2026-11-29T04:00:00.5Z".parse().unwrap();
        Tapped::of(at, Direction::In, topic.to_owned(), payload)
    }

    #[test]
    fn a_question_is_told_in_words_in_both_forms() {
        let range =
            TimeRange::new(Timestamp::from_unix_seconds(0), Timestamp::from_unix_seconds(9));
        let ask = Ask {
            server: "depot".parse().unwrap(),
            connection: ConnectionId(0xab),
            expires: BootMillis(7),
            body: AskBody::Locate {
                request: RequestId(1),
                stream: "main".parse().unwrap(),
                range: range.unwrap(),
            },
        };
        let tapped = tapped("gapless/1/cam-7/ask", &envelope::encode(&ask).unwrap());
        let json = tapped.json();
        assert_eq!((&json["direction"], &json["message"]), (&"in".into(), &"ask_locate".into()));
        assert_eq!(json["connection"], "00000000000000ab");
        assert_eq!(
            (&json["stream"], &json["to"]),
            (&"main".into(), &"1970-01-01T00:00:09Z".into())
        );
        let text = tapped.text();
        assert!(text.starts_with("04:00:00.500 <- ask_locate, "), "{text}");
        assert!(text.contains(" server=depot") && text.contains(" stream=main"), "{text}");
    }

    #[test]
    fn a_refusal_says_what_was_refused_and_why() {
        let what = Refusable::Transfer(TransferId(2));
        let refused = Tell::Refused { what, reason: RefusedReason::UnknownTransfer };
        let payload = envelope::encode(&refused).unwrap();
        let json = tapped("gapless/1/cam-7/tell/depot", &payload).json();
        assert_eq!(json["reason"], "unknown_transfer");
        assert_eq!((&json["server"], &json["transfer"]), (&"depot".into(), &id(2)));
    }

    #[test]
    fn what_cannot_be_understood_is_told_with_the_reason_and_no_control_characters() {
        for (topic, payload) in [
            ("gapless/1/cam-7/ask", &[9, 9][..]),
            ("gapless/1/cam-7/nonsense\u{1b}[2J", &[]),
            ("gapless/1/cam-7/data/depot", &[1]),
        ] {
            let tapped = tapped(topic, payload);
            assert!(tapped.json()["message"].is_null(), "{topic}");
            assert!(!tapped.json()["problem"].is_null(), "{topic}");
            let text = tapped.text();
            assert!(text.contains("not understood") && !text.contains('\u{1b}'), "{text:?}");
        }
    }
}
