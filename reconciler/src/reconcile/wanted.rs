//! What should be in the archive of a stream, and what calls for it now.

use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::Timestamp;

use super::stream::Wanted;
use super::{Action, Core};
use crate::fleet::StreamKey;
use crate::job::JobState;
use crate::ledger::Entry;
use crate::mode::Mode;
use crate::policy::{Origin, Policy, Record};

impl Core {
    /// `None` for a stream that is not known.
    pub(super) fn wanted(&self, key: &StreamKey) -> Option<Wanted> {
        let stream = self.streams.get(key)?;
        let until = self.now.wall.saturating_sub(self.config.archive.settle());
        let policy = self.policies.of(key);
        let holding = self.fleet.holding(key);
        // What a body-worn unit recorded before it was first heard of is as wanted as the rest.
        let from = match policy.record {
            Record::Held if !self.is_fixed(key) => Timestamp::MIN,
            _ => stream.expected_from,
        };
        Some(Wanted {
            expected: policy.expected(from, until, holding, self.now.wall),
            asked: self.asked(key),
            until,
            standing: self.standing(key, policy),
        })
    }

    /// The ranges of open jobs.
    fn asked(&self, key: &StreamKey) -> Coverage {
        let open = self.jobs.values().filter(|job| job.state == JobState::Open && job.key == *key);
        open.map(|job| job.range).collect()
    }

    /// What calls for all that the policy expects; `None` while it has to wait.
    fn standing(&self, key: &StreamKey, policy: &Policy) -> Option<Mode> {
        let session = self.fleet.session(&key.device)?;
        if !policy.allows(&session.network) {
            return None;
        }
        let online = policy.modes.contains(Mode::Online).then_some(Mode::Online);
        let scheduled = || self.open_run(&policy.name).map(|_| Mode::Scheduled);
        online.or_else(scheduled)
    }

    /// Waiting parts of which nothing is wanted any more: cancelled, or beyond what policies look for. What a
    /// policy expects and leaves to people to pull waits for nothing.
    pub(super) fn forget_unwanted(&mut self, key: &StreamKey, wanted: &Wanted) {
        let Wanted { expected, asked, .. } = wanted;
        let modes = &self.policies.of(key).modes;
        let pulls_by_itself = modes.contains(Mode::Online) || modes.contains(Mode::Scheduled);
        let waited_for = if pulls_by_itself { expected.union(asked) } else { asked.clone() };
        let Some(stream) = self.streams.get_mut(key) else { return };
        for part in stream.unwanted(&waited_for) {
            stream.parts.remove(&part);
            self.actions.push(Action::Record(Entry::ForgetPart(part)));
            self.actions.push(Action::DiscardSpool(part));
        }
    }

    /// Those that came by the API before a restart; one that the file has taken the name of gives way.
    pub(super) fn take_over_policies(&mut self, policies: Vec<Policy>) {
        for policy in policies {
            let name = policy.name.clone();
            if let Err(error) = self.policies.upsert(policy, Origin::Api) {
                tracing::warn!(policy = %name, %error, "a policy from the API is left out");
            }
        }
    }
}
