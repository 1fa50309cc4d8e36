//! `gapless policy`: what should be recorded and when it is pulled, as it stands and as it is changed.
//!
//! What stands is read from the configuration file and the ledger; the API is only needed to change it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use sdcard_indexer::readable::shortened;
use serde::Deserialize;
use serde_json::json;

use super::client::Client;
use super::{Output, show, text};
use crate::api::view;
use crate::config::Config;
use crate::fleet::StreamKey;
use crate::ledger::{Ledger, LedgerError};
use crate::policy::{self, Origin, Policies, PolicyError, PolicyName};

#[derive(Subcommand, Debug)]
pub enum PolicyCommand {
    /// List the policies, in the order in which they are asked
    List(Output),
    /// Show one policy, the streams that have it, and its next runs
    Show {
        /// As `gapless policy list` tells it
        name: PolicyName,
        #[command(flatten)]
        output: Output,
    },
    /// Check a configuration, and say which stream has which policy
    Check {
        /// The configuration file [default: as --config]
        file: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// Tell when scheduled runs begin and until when they go on
    NextRuns(NextRuns),
    /// Give the running server a policy, or another version of one
    #[command(after_help = PUT_EXAMPLES)]
    Put {
        /// A TOML file with one [[policy]], or a JSON file with its keys
        file: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Take from the running server a policy that was put there
    Remove {
        /// As `gapless policy list` tells it
        name: PolicyName,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Args, Debug)]
pub struct NextRuns {
    /// So many in all
    #[arg(long, value_name = "N", default_value_t = 10)]
    count: usize,
    /// Only those of this policy
    #[arg(long, value_name = "NAME")]
    policy: Option<PolicyName>,
    #[command(flatten)]
    output: Output,
}

pub const EXAMPLES: &str = "\
Examples:
  gapless policy list
  gapless policy check new.toml     before the server is restarted with it
  gapless policy next-runs --count 3
  gapless policy put depot.toml     the running server has it at once";

const PUT_EXAMPLES: &str = "\
Example, depot.toml:
  [[policy]]
  name = \"depot\"
  devices = [\"bwc-*\"]
  record = \"held\"
  modes = [\"scheduled\", \"manual\"]
  schedule = { cron = \"0 23 * * *\", time_zone = \"UTC\", window = \"6h\" }";

/// Runs of one policy that `show` tells ahead.
const SHOWN_RUNS: usize = 3;

#[derive(Debug, thiserror::Error)]
enum PolicyFileError {
    #[error("cannot read the policy {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path}: {source}")]
    Toml { path: PathBuf, source: toml::de::Error },
    #[error("{path}: {source}")]
    Json { path: PathBuf, source: serde_path_to_error::Error<serde_json::Error> },
    #[error("{path} has {found} policies: give a file with one [[policy]]")]
    NotOne { path: PathBuf, found: usize },
}

/// What no server has to be asked about. `ledger` is `None` where no server has ever run.
pub(super) async fn look(
    command: &PolicyCommand,
    config: &Config,
    ledger: Option<&dyn Ledger>,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    let standing = Standing::of(config, ledger).await?;
    match command {
        PolicyCommand::List(output) => standing.list(output.json, out),
        PolicyCommand::Show { name, output } => standing.show(name, output.json, out),
        PolicyCommand::Check { output, .. } => standing.check(output.json, out),
        PolicyCommand::NextRuns(asked) => standing.next_runs(asked, out),
        PolicyCommand::Put { .. } | PolicyCommand::Remove { .. } => Ok(false),
    }
}

pub(super) async fn put(
    client: &Client,
    file: &Path,
    as_json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    let policy = read(file)?;
    let put: view::Policy = client.put(&format!("policies/{}", policy.name), &policy).await?;
    if as_json {
        return show::print_json(&json!(put), out);
    }
    writeln!(out, "the server has it from now on:\n{}", put.policy)?;
    Ok(true)
}

pub(super) async fn remove(
    client: &Client,
    name: &PolicyName,
    as_json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    let removed: view::Policy = client.delete(&format!("policies/{name}")).await?;
    if as_json {
        return show::print_json(&json!(removed), out);
    }
    writeln!(out, "policy {name} is removed; its streams have the next one that matches")?;
    Ok(true)
}

fn read(path: &Path) -> Result<policy::Policy, PolicyFileError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        policy: Vec<policy::Policy>,
    }
    let path_of = || path.to_owned();
    let text = std::fs::read_to_string(path)
        .map_err(|source| PolicyFileError::Read { path: path_of(), source })?;
    if text.trim_start().starts_with('{') {
        let mut json = serde_json::Deserializer::from_str(&text);
        return serde_path_to_error::deserialize(&mut json)
            .map_err(|source| PolicyFileError::Json { path: path_of(), source });
    }
    let File { mut policy } = toml::from_str(&text)
        .map_err(|source| PolicyFileError::Toml { path: path_of(), source })?;
    match (policy.pop(), policy.len()) {
        (Some(policy), 0) => Ok(policy),
        (only, more) => {
            let found = more + usize::from(only.is_some());
            Err(PolicyFileError::NotOne { path: path_of(), found })
        }
    }
}

/// The policies that a server has, or would have, and the streams that are known.
struct Standing {
    policies: Policies,
    streams: Vec<StreamKey>,
    /// From the API, and left out, since the file has taken their names.
    left_out: Vec<PolicyError>,
}

impl Standing {
    async fn of(config: &Config, ledger: Option<&dyn Ledger>) -> anyhow::Result<Standing> {
        let mut policies = config.policies()?;
        let mut left_out = Vec::new();
        let mut streams: Vec<StreamKey> = config.streams().map(|(key, _)| key).collect();
        if let Some(ledger) = ledger {
            for policy in ledger.policies().await? {
                left_out.extend(policies.upsert(policy, Origin::Api).err());
            }
            streams.extend(ledger.streams().await?.into_iter().map(|(key, _)| key));
        }
        streams.sort();
        streams.dedup();
        Ok(Standing { policies, streams, left_out })
    }

    fn list(&self, as_json: bool, out: &mut dyn Write) -> anyhow::Result<bool> {
        let all = self.policies.iter();
        let all = all.map(|(policy, origin)| view::Policy { origin, policy: policy.clone() });
        if as_json {
            return show::print_json(&json!(Vec::from_iter(all)), out);
        }
        writeln!(out, "the first that matches a stream counts:")?;
        for view::Policy { origin, policy } in all {
            writeln!(out, "\n{policy}")?;
            text::row(out, "stands", &origin.to_string())?;
        }
        Ok(true)
    }

    fn show(&self, name: &PolicyName, as_json: bool, out: &mut dyn Write) -> anyhow::Result<bool> {
        let unknown = || PolicyError::Unknown(name.clone());
        let (policy, origin) = self.policies.get(name).ok_or_else(unknown)?;
        let streams: Vec<String> = self
            .streams
            .iter()
            .filter(|key| self.policies.of(key).name == *name)
            .map(ToString::to_string)
            .collect();
        let runs = policy.next_runs(text::now(), SHOWN_RUNS);
        if as_json {
            let mut document = json!(view::Policy { origin, policy: policy.clone() });
            if let Some(fields) = document.as_object_mut() {
                let runs: Vec<view::NextRun> = runs.iter().map(view::NextRun::from).collect();
                fields.insert("has_streams".to_owned(), json!(streams));
                fields.insert("next_runs".to_owned(), json!(runs));
            }
            return show::print_json(&document, out);
        }
        writeln!(out, "{policy}")?;
        text::row(out, "stands", &origin.to_string())?;
        let streams = if streams.is_empty() { "none yet".to_owned() } else { streams.join(", ") };
        text::row(out, "for now", &streams)?;
        for (index, run) in runs.iter().enumerate() {
            text::row(out, if index == 0 { "next runs" } else { "" }, &run.to_string())?;
        }
        Ok(true)
    }

    fn check(&self, as_json: bool, out: &mut dyn Write) -> anyhow::Result<bool> {
        let of = |key: &StreamKey| self.policies.of(key).name.clone();
        if as_json {
            let streams: Vec<_> = self
                .streams
                .iter()
                .map(|key| json!({ "device": key.device, "stream": key.stream, "policy": of(key) }))
                .collect();
            let left_out: Vec<String> = self.left_out.iter().map(ToString::to_string).collect();
            return show::print_json(&json!({ "streams": streams, "left_out": left_out }), out);
        }
        writeln!(out, "the configuration is valid")?;
        for error in &self.left_out {
            text::row(out, "left out", &format!("one from the API: {error}"))?;
        }
        if self.streams.is_empty() {
            writeln!(out, "no device is known yet")?;
            return Ok(true);
        }
        writeln!(out, "\n{:<44}  policy", "stream")?;
        for key in &self.streams {
            let name = of(key);
            let (key, name) = (key.to_string(), shortened(name.as_str(), 34));
            writeln!(out, "{:<44}  {name}", shortened(&key, 44))?;
        }
        Ok(true)
    }

    fn next_runs(&self, asked: &NextRuns, out: &mut dyn Write) -> anyhow::Result<bool> {
        let now = text::now();
        let runs = match &asked.policy {
            Some(name) => {
                let unknown = || PolicyError::Unknown(name.clone());
                let (policy, _) = self.policies.get(name).ok_or_else(unknown)?;
                policy.next_runs(now, asked.count)
            }
            None => self.policies.next_runs(now, asked.count),
        };
        if asked.output.json {
            let runs: Vec<view::NextRun> = runs.iter().map(view::NextRun::from).collect();
            return show::print_json(&json!(runs), out);
        }
        if runs.is_empty() {
            writeln!(out, "no policy has a schedule")?;
        }
        for run in &runs {
            writeln!(out, "{run}")?;
        }
        Ok(true)
    }
}

/// A state directory in which no server has run yet has no ledger, and that is no error here.
pub(super) fn if_any<T>(opened: Result<T, LedgerError>) -> Result<Option<T>, LedgerError> {
    match opened {
        Ok(ledger) => Ok(Some(ledger)),
        Err(LedgerError::Absent { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::text::tests::assert_fits;

    const NIGHT: &str = "
[[device]]
id = \"bwc-1\"
streams = [\"main\", \"sub\"]
[[device]]
id = \"shop\"
streams = [\"main\"]
[[policy]]
name = \"night\"
devices = [\"bwc-*\"]
record = \"held\"
modes = [\"scheduled\"]
schedule = { cron = \"0 23 * * *\", time_zone = \"UTC\", window = \"6h\" }
";

    async fn standing() -> Standing {
        let config = Config::parse(NIGHT, Path::new("/etc/gapless.toml")).unwrap();
        Standing::of(&config, None).await.unwrap()
    }

    fn said(print: impl FnOnce(&mut Vec<u8>) -> anyhow::Result<bool>) -> String {
        let mut out = Vec::new();
        assert!(print(&mut out).unwrap());
        assert_fits(&out)
    }

    #[tokio::test]
    async fn policies_are_listed_and_shown_with_where_they_stand_and_who_has_them() {
        let standing = standing().await;
        let list = said(|out| standing.list(false, out));
        assert!(list.contains("night") && list.contains("built in"), "{list}");
        let night: PolicyName = "night".parse().unwrap();
        let shown = said(|out| standing.show(&night, false, out));
        for part in ["bwc-1/main, bwc-1/sub", "from the configuration file", "23:00 +00:00"] {
            assert!(shown.contains(part), "{part} is not in\n{shown}");
        }
        let checked = said(|out| standing.check(false, out));
        assert!(checked.contains("shop/main") && checked.contains("default"), "{checked}");
        let unknown = standing.show(&"day".parse().unwrap(), false, &mut Vec::new()).unwrap_err();
        assert!(unknown.to_string().contains("`day`"));
    }

    #[tokio::test]
    async fn as_json_policies_have_the_keys_of_the_file() {
        let standing = standing().await;
        let list = said(|out| standing.list(true, out));
        let list: Vec<view::Policy> = serde_json::from_str(&list).unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!((list[0].origin, list[0].policy.name.as_str()), (Origin::File, "night"));
        let output = Output { json: true };
        let runs =
            said(|out| standing.next_runs(&NextRuns { count: 2, policy: None, output }, out));
        let runs: serde_json::Value = serde_json::from_str(&runs).unwrap();
        assert_eq!(runs.as_array().unwrap().len(), 2);
        assert_eq!((&runs[0]["policy"], &runs[0]["seconds"]), (&json!("night"), &json!(21_600.0)));
        assert!(runs[0]["from"].as_str().unwrap().ends_with("T23:00:00Z"), "{runs}");
    }

    #[test]
    fn a_policy_is_read_from_toml_and_json_and_a_mistake_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy");
        let write = |text: &str| {
            let mut file = std::fs::File::create(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        write("[[policy]]\nname = \"a\"\ndevices = [\"*\"]\n");
        let from_toml = read(&path).unwrap();
        write("{ \"name\": \"a\", \"devices\": [\"*\"] }");
        assert_eq!(read(&path).unwrap(), from_toml);
        for (text, named) in [
            ("[[policy]]\nname = \"a\"\nprio = 1\n", "line 3"),
            ("{ \"name\": \"a\", \"priority\": 300 }", "priority"),
            ("policy = []", "0 policies"),
        ] {
            write(text);
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("policy"), "{named}: {error}");
        }
    }
}
