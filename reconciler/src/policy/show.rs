//! How policies and their runs read on a terminal of 80 columns.
//!
//! Pure. Says nothing that a policy does not: what a stream's state is, is the timeline's business.

use std::fmt;

use sdcard_indexer::time::{TimeRange, Timestamp};
use serde::Serialize;

use super::{Modes, Policies, Policy, PolicyName, Record, Zone, period};

const COLUMNS: usize = 80;
/// Where the second column begins.
const INDENT: usize = 13;

/// One run of a policy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Run {
    pub policy: PolicyName,
    /// From its beginning until when it may begin to pull.
    pub window: TimeRange,
    /// In which people think of it.
    pub time_zone: Zone,
}

impl Policy {
    /// The run that is going on, if one is, and those that begin after `now`: `count` in all.
    pub fn next_runs(&self, now: Timestamp, count: usize) -> Vec<Run> {
        let Some(schedule) = &self.schedule else { return Vec::new() };
        let ahead = schedule.upcoming(now, count).into_iter().map(|run| schedule.window_of(run));
        let windows = schedule.window_open_at(now).into_iter().chain(ahead).take(count);
        windows
            .map(|window| Run {
                policy: self.name.clone(),
                window,
                time_zone: schedule.time_zone.clone(),
            })
            .collect()
    }
}

impl Policies {
    /// Of all policies, the runs that are going on and the next ones to begin: `count` in all, in their order.
    pub fn next_runs(&self, now: Timestamp, count: usize) -> Vec<Run> {
        let mut runs: Vec<Run> =
            self.iter().flat_map(|(policy, _)| policy.next_runs(now, count)).collect();
        runs.sort_by_key(|run| run.window);
        runs.truncate(count);
        runs
    }
}

/// `Mon 2026-11-23 23:00 +01:00 to Tue 05:00  depot`
impl fmt::Display for Run {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zone = self.time_zone.time_zone();
        let start = self.window.start().to_jiff().to_zoned(zone.clone());
        let end = self.window.end().to_jiff().to_zoned(zone.clone());
        let end_format = if start.date() == end.date() {
            "%H:%M"
        } else if self.window.duration().as_secs() < 6 * 86_400 {
            "%a %H:%M"
        } else {
            "%Y-%m-%d %H:%M"
        };
        write!(
            formatter,
            "{} to {}  {}",
            start.strftime("%a %Y-%m-%d %H:%M %:z"),
            end.strftime(end_format),
            self.policy
        )
    }
}

/// A block of lines, the name first; no newline at its end.
impl fmt::Display for Policy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name.as_str())?;
        let mut devices: Vec<String> = self.devices.iter().map(ToString::to_string).collect();
        devices.extend(self.groups.iter().map(|group| format!("group {group}")));
        row(formatter, "devices", &joined(&devices, ", "))?;
        if !self.streams.is_empty() {
            row(formatter, "streams", &joined(&self.streams, ", "))?;
        }
        row(formatter, "records", &self.records())?;
        row(formatter, "pulls", &self.modes.to_string())?;
        if let Some(schedule) = &self.schedule {
            row(formatter, "runs", &schedule.to_string())?;
        }
        if !self.networks.is_empty() {
            row(formatter, "only over", &joined(&self.networks, " or "))?;
        }
        if let Some(limits) = self.limits() {
            row(formatter, "at most", &limits)?;
        }
        if let Some(retention) = self.retention {
            row(formatter, "looks back", &period::text(retention))?;
        }
        row(formatter, "priority", &self.priority.to_string())
    }
}

impl Policy {
    fn records(&self) -> String {
        match (&self.record, &self.time_zone) {
            (Record::Hours(hours), Some(zone)) => format!("{hours} in {zone}"),
            (record, _) => record.to_string(),
        }
    }

    fn limits(&self) -> Option<String> {
        let devices = format!("{} devices at once", self.max_devices);
        let all = format!("{} kbit/s in all", self.kbit_per_second);
        let each = format!("{} kbit/s from each device", self.kbit_per_second_per_device);
        let limits: Vec<String> = [
            (self.max_devices > 0, devices),
            (self.kbit_per_second > 0, all),
            (self.kbit_per_second_per_device > 0, each),
        ]
        .into_iter()
        .filter_map(|(is_set, limit)| is_set.then_some(limit))
        .collect();
        (!limits.is_empty()).then(|| limits.join(", "))
    }
}

impl fmt::Display for Record {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Record::Always => formatter.write_str("always"),
            Record::Held => formatter.write_str("whatever the device holds"),
            Record::Hours(hours) => hours.fmt(formatter),
        }
    }
}

impl fmt::Display for Modes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&joined(self.iter(), ", "))
    }
}

pub(super) fn joined<T: ToString>(items: impl IntoIterator<Item = T>, separator: &str) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(separator)
}

/// A new line with a word and a text, which goes on below itself where it is long. Only a single word that is
/// longer than a line makes one that is longer.
fn row(formatter: &mut fmt::Formatter<'_>, word: &str, text: &str) -> fmt::Result {
    write!(formatter, "\n  {word:<width$}", width = INDENT - 2)?;
    let mut column = INDENT;
    for (index, part) in text.split(' ').enumerate() {
        if index > 0 && column + 1 + part.len() > COLUMNS {
            write!(formatter, "\n{:INDENT$}{part}", "")?;
            column = INDENT + part.len();
            continue;
        }
        let space = if index > 0 { " " } else { "" };
        write!(formatter, "{space}{part}")?;
        column += space.len() + part.len();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::body_worn;

    #[test]
    fn a_policy_is_a_block_of_lines() {
        assert_eq!(
            body_worn().to_string(),
            "\
depot
  devices    bwc-*
  records    whatever the device holds
  pulls      manual, scheduled
  runs       0 23 * * * in Europe/Berlin, for 6h
  only over  ethernet or 10.20.0.0/16
  at most    4 devices at once, 20000 kbit/s from each device
  looks back 30d
  priority   100"
        );
    }

    #[test]
    fn long_lists_go_on_below_themselves() {
        let mut policy = body_worn();
        policy.devices = (0..60).map(|n| format!("camera-{n:03}").parse().unwrap()).collect();
        policy.groups = vec!["x".repeat(64).parse().unwrap()];
        let text = policy.to_string();
        assert!(text.lines().all(|line| line.len() <= COLUMNS), "{text}");
        assert!(text.contains("\n             camera-"), "{text}");
    }

    #[test]
    fn runs_are_told_in_the_policys_own_time() {
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        let runs: Vec<String> = body_worn().next_runs(now, 2).iter().map(Run::to_string).collect();
        assert_eq!(
            runs,
            [
                "Mon 2026-11-23 23:00 +01:00 to Tue 05:00  depot",
                "Tue 2026-11-24 23:00 +01:00 to Wed 05:00  depot"
            ]
        );
    }

    #[test]
    fn the_run_that_is_going_on_comes_first_and_policies_are_mixed_by_time() {
        let mut early = body_worn();
        early.name = "early".parse().unwrap();
        let schedule = early.schedule.as_mut().unwrap();
        schedule.cron = "30 22 * * *".parse().unwrap();
        let policies = Policies::new([], [body_worn(), early]).unwrap();
        let now = "2026-11-23T22:30:00Z".parse().unwrap();
        let names: Vec<String> =
            policies.next_runs(now, 3).iter().map(|run| run.policy.to_string()).collect();
        assert_eq!(names, ["early", "depot", "early"]);
        assert!(Policies::default().next_runs(now, 3).is_empty());
    }
}
