//! A configuration as it would be written: every key with the value that is in force.
//!
//! By hand, as a serialiser of TOML takes too much of a camera's flash. Each struct is taken apart by all of its names,
//! so that the compiler asks for whatever is added to one.

use std::fmt::Write as _;
use std::path::Path;

use sdcard_indexer::layout::LayoutConfig;

use super::{
    Believe, Broker, Card, ClientCertificate, Clock, Config, Diagnosis, Index, Limits, Stream, Tls,
};
use crate::permit::Permit;

/// One top-level key after the other, with all that stands below it.
pub fn sections(config: &Config) -> [(&'static str, String); 10] {
    let Config { device, broker, network, card, index, clock, limits, diagnosis, serve, streams } =
        config;
    let Diagnosis { socket: _ } = diagnosis;
    let streams = streams.iter().map(stream);
    [
        ("device", Lines::default().text("device", device.as_str())),
        ("broker", self::broker(broker)),
        ("network", Lines::table("network").text("link", network.link.as_str())),
        ("card", self::card(card)),
        ("index", self::index(index)),
        ("clock", self::clock(clock)),
        ("limits", self::limits(limits)),
        (
            "diagnosis",
            Lines::table("diagnosis").path("socket", &config.socket().unwrap_or_default()),
        ),
        ("serve", self::serve(serve)),
        ("stream", streams.fold(Lines::default(), |lines, one| lines.below(Some(one)))),
    ]
    .map(|(key, lines)| (key, lines.0))
}

fn broker(Broker { url, username, password_file, tls }: &Broker) -> Lines {
    Lines::table("broker")
        .text("url", &url.to_string())
        .texts("username", username.as_deref())
        .paths("password_file", password_file.as_deref())
        .below(tls.as_ref().map(|Tls { ca_file, client }| {
            let client = client.as_ref().map(|ClientCertificate { cert_file, key_file }| {
                Lines::table("broker.tls.client")
                    .path("cert_file", cert_file)
                    .path("key_file", key_file)
            });
            Lines::table("broker.tls").path("ca_file", ca_file).below(client)
        }))
}

fn card(card: &Card) -> Lines {
    let Card { root, state_dir: _, require_mount, spare_recorder } = card;
    Lines::table("card")
        .path("root", root)
        .path("state_dir", &card.state_dir())
        .bare("require_mount", require_mount)
        .bare("spare_recorder", spare_recorder)
}

fn index(index: &Index) -> Lines {
    let Index { join_tolerance_ms, seal_after_seconds, sweep_every_seconds, seal_digest } = index;
    Lines::table("index")
        .bare("join_tolerance_ms", join_tolerance_ms)
        .bare("seal_after_seconds", seal_after_seconds)
        .bare("sweep_every_seconds", sweep_every_seconds)
        .bare("seal_digest", seal_digest)
}

fn clock(Clock { believe, synchronised_file }: &Clock) -> Lines {
    let believe = match believe {
        Believe::Names => "names",
        Believe::Plausible => "plausible",
        Believe::Synchronised => "synchronised",
    };
    Lines::table("clock").text("believe", believe).path("synchronised_file", synchronised_file)
}

fn limits(limits: &Limits) -> Lines {
    let Limits { max_open_transfers, max_chunk_bytes, max_bytes_per_second, card_bytes_per_second } =
        limits;
    Lines::table("limits")
        .bare("max_open_transfers", max_open_transfers)
        .bare("max_chunk_bytes", max_chunk_bytes)
        .bare("max_bytes_per_second", max_bytes_per_second)
        .bare("card_bytes_per_second", card_bytes_per_second)
}

fn serve(Permit { servers, streams, max_age_hours }: &Permit) -> Lines {
    Lines::table("serve")
        .list("servers", servers.iter().map(|id| id.as_str()))
        .list("streams", streams.iter().map(|id| id.as_str()))
        .bare("max_age_hours", max_age_hours)
}

fn stream(stream: &Stream) -> Lines {
    let Stream { id, path, layout } = stream;
    let LayoutConfig { layout, template, time_zone, camera } = layout.clone().into();
    Lines("\n[[stream]]\n".to_owned())
        .text("id", id.as_str())
        .path("path", path)
        .texts("layout", layout.map(|preset| preset.name()))
        .texts("template", template.as_deref())
        .texts("time_zone", time_zone.as_deref())
        .texts("camera", camera.as_deref())
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn table(name: &str) -> Lines {
        Lines(format!("\n[{name}]\n"))
    }

    fn bare(mut self, key: &str, value: impl ToString) -> Lines {
        self.line(key, &value.to_string());
        self
    }

    fn list<'a>(mut self, key: &str, values: impl Iterator<Item = &'a str>) -> Lines {
        let values: Vec<String> = values.map(quoted).collect();
        self.line(key, &format!("[{}]", values.join(", ")));
        self
    }

    fn text(mut self, key: &str, value: &str) -> Lines {
        self.line(key, &quoted(value));
        self
    }

    fn texts(self, key: &str, value: Option<&str>) -> Lines {
        match value {
            Some(value) => self.text(key, value),
            None => self,
        }
    }

    /// It came out of a file of text, and so is text.
    fn path(self, key: &str, value: &Path) -> Lines {
        self.text(key, &value.to_string_lossy())
    }

    fn paths(self, key: &str, value: Option<&Path>) -> Lines {
        match value {
            Some(value) => self.path(key, value),
            None => self,
        }
    }

    fn below(mut self, lines: Option<Lines>) -> Lines {
        self.0.extend(lines.map(|lines| lines.0));
        self
    }

    fn line(&mut self, key: &str, value: &str) {
        self.0.extend([key, " = ", value, "\n"]);
    }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for sign in text.chars() {
        match sign {
            '"' | '\\' => quoted.extend(['\\', sign]),
            sign if sign.is_control() => {
                // Into a string: never fails.
                let _ = write!(quoted, "\\u{:04x}", u32::from(sign));
            }
            sign => quoted.push(sign),
        }
    }
    quoted.push('"');
    quoted
}
