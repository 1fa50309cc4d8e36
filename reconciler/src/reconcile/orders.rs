//! Orders, answered: each by the room that it is about.

use super::{Core, Event};
use crate::ledger::Entry;
use crate::order::{Answer, ListedPolicy, Order, OrderError};
use crate::policy::{Origin, Policy, PolicyName};

impl Core {
    pub(super) fn obey(&mut self, number: u64, order: Order) {
        match order {
            Order::Search { key, range } => self.search(number, key, range),
            Order::Pull { key, range, deadline } => {
                let taken = self.pull(key, range, deadline).map(Box::new);
                self.answer(number, taken, Answer::Job);
            }
            Order::Jobs { before, most } => {
                self.answer(number, Ok(self.job_statuses(before, most)), Answer::Jobs);
            }
            Order::Job(job) => {
                let status = self.job_status(job).map(Box::new);
                self.answer(number, status, Answer::Job);
            }
            Order::CancelJob(job) => {
                let cancelled = self.cancel_job(job).map(Box::new);
                self.answer(number, cancelled, Answer::Job);
            }
            Order::OpenRuns => self.answer(number, Ok(self.open_runs()), Answer::Runs),
            Order::CancelRun(run) => {
                let cancelled = self.cancel_run(run).map(Box::new);
                self.answer(number, cancelled, Answer::Run);
            }
            Order::Work => {
                let work = Ok(Box::new(self.work()));
                self.answer(number, work, Answer::Work);
            }
            Order::Policies => self.answer(number, Ok(self.list_policies()), Answer::Policies),
            Order::PutPolicy(policy) => {
                let put = self.put_policy(*policy).map(Box::new);
                self.answer(number, put, Answer::Policy);
            }
            Order::RemovePolicy(name) => {
                let removed = self.remove_policy(&name).map(Box::new);
                self.answer(number, removed, Answer::Policy);
            }
            Order::Look(look) => {
                let seen = self.look(look);
                self.answer(number, seen, Answer::Seen);
            }
        }
    }

    fn list_policies(&self) -> Vec<ListedPolicy> {
        let all = self.policies.iter();
        all.map(|(policy, origin)| ListedPolicy { policy: policy.clone(), origin }).collect()
    }

    fn put_policy(&mut self, policy: Policy) -> Result<ListedPolicy, OrderError> {
        self.policies.upsert(policy.clone(), Origin::Api)?;
        tracing::info!(policy = %policy.name, "a policy by the API");
        self.record(Entry::Policy(Box::new(policy.clone())));
        self.say(Event::Policy(policy.name.clone()));
        self.policies_changed();
        Ok(ListedPolicy { policy, origin: Origin::Api })
    }

    fn remove_policy(&mut self, name: &PolicyName) -> Result<ListedPolicy, OrderError> {
        let policy = self.policies.remove(name)?;
        tracing::info!(policy = %name, "a policy was removed");
        self.record(Entry::ForgetPolicy(name.clone()));
        self.say(Event::Policy(name.clone()));
        self.policies_changed();
        Ok(ListedPolicy { policy, origin: Origin::Api })
    }

    fn policies_changed(&mut self) {
        self.keep_runs();
        self.see_devices();
        self.evaluate_all();
        self.plan_pulls();
    }
}
