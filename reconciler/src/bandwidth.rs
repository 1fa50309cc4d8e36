//! Who may send how fast: limits in bytes per second, divided over the parts that are under way.
//!
//! Pure. It owns the division. It must never let the rates below a limit add up to more than that limit.
//!
//! There are four limits, each over all the parts that it applies to: the server's, a device's, a policy's, and
//! a policy's for each device. Rates rise together from zero, each by its [`weight`]; where a limit is reached
//! the parts below it stay, and the others rise on (weighted max-min fairness). A part that uses less than 80 %
//! of its share is given what it uses and a quarter more; the rest goes to those that want it. What nobody is
//! known to want is divided on top in the same way, so that a limit is never stricter than it says.

use std::collections::BTreeMap;

use protocol::message::DeviceId;

use crate::ledger::PartId;
use crate::mode::Mode;

/// No part is taken to want less than this, so that one that stalled can grow back.
pub const LEAST_DEMAND: u64 = 16 * 1024;

/// Bytes per second; 0: no limit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Over all parts.
    pub server: u64,
    /// Over all parts of one device.
    pub per_device: u64,
    pub policies: BTreeMap<u16, PolicyLimits>,
}

/// Bytes per second, over the parts that one policy pulls; 0: no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PolicyLimits {
    pub all: u64,
    /// Over those of one device.
    pub per_device: u64,
}

/// A part that is under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flow {
    pub part: PartId,
    pub device: DeviceId,
    pub policy: u16,
    pub mode: Mode,
    /// Bytes per second as it comes now; `None`: not known yet, and it may want any.
    pub measured: Option<u64>,
}

/// How much faster than that of a policy's run a rate of this mode rises.
pub const fn weight(mode: Mode) -> u64 {
    match mode {
        Mode::Manual => 4,
        Mode::Online => 2,
        Mode::Scheduled => 1,
    }
}

/// The rate of each part in bytes per second; 0: no limit applies to it.
///
/// Where a limit applies, a rate is at least 1, as 0 would lift the limit. So a limit of a few bytes per second,
/// which leaves none for some of its parts, is exceeded by one byte for each of these.
pub fn divide(flows: &[Flow], limits: &Limits) -> BTreeMap<PartId, u64> {
    let mut division = Division::of(flows, limits);
    division.give(|flow| flow.measured.map(demand));
    division.give(|_| None);
    let rate = |share: &Share<'_>| if share.links.is_empty() { 0 } else { share.rate.max(1) };
    division.shares.iter().map(|share| (share.flow.part, rate(share))).collect()
}

/// What a part may want that comes at this rate: five quarters of it, as less than 80 % of a share used means
/// that the share is not what holds it back.
fn demand(measured: u64) -> u64 {
    measured.saturating_add(measured / 4).max(LEAST_DEMAND)
}

/// What a limit is over.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Scope<'a> {
    Server,
    Device(&'a DeviceId),
    Policy(u16),
    DeviceOfPolicy(u16, &'a DeviceId),
}

/// One limit, for what it is over.
struct Link {
    /// Bytes per second that were not given to anybody.
    left: u64,
}

/// What one part was given.
struct Share<'a> {
    flow: &'a Flow,
    rate: u64,
    /// Indices of the links that it passes: four at most.
    links: Vec<usize>,
}

struct Division<'a> {
    links: Vec<Link>,
    shares: Vec<Share<'a>>,
}

/// So far rates rise in a round: `left / weight`, kept as a fraction so that nothing is lost to rounding.
#[derive(Clone, Copy)]
struct Level {
    left: u64,
    weight: u64,
}

impl Level {
    fn is_below(self, other: Level) -> bool {
        u128::from(self.left) * u128::from(other.weight)
            < u128::from(other.left) * u128::from(self.weight)
    }

    fn of(self, flow: &Flow) -> u64 {
        let share = u128::from(self.left) * u128::from(weight(flow.mode));
        let share = share.checked_div(u128::from(self.weight)).unwrap_or(0);
        u64::try_from(share).unwrap_or(u64::MAX)
    }
}

/// Those that apply to a part.
fn limits_above<'a>(
    flow: &'a Flow,
    limits: &Limits,
) -> impl Iterator<Item = (Scope<'a>, u64)> + use<'a> {
    let policy = limits.policies.get(&flow.policy).copied().unwrap_or_default();
    let scopes = [
        (Scope::Server, limits.server),
        (Scope::Device(&flow.device), limits.per_device),
        (Scope::Policy(flow.policy), policy.all),
        (Scope::DeviceOfPolicy(flow.policy, &flow.device), policy.per_device),
    ];
    scopes.into_iter().filter(|(_, limit)| *limit > 0)
}

impl<'a> Division<'a> {
    fn of(flows: &'a [Flow], limits: &Limits) -> Self {
        // By what they are over: of two that are equally narrow the first counts, whichever part is named first.
        let scopes: BTreeMap<Scope<'_>, u64> =
            flows.iter().flat_map(|flow| limits_above(flow, limits)).collect();
        let place: BTreeMap<&Scope<'_>, usize> = scopes.keys().zip(0..).collect();
        let shares = flows.iter().map(|flow| {
            let passed = limits_above(flow, limits);
            let links = passed.filter_map(|(scope, _)| place.get(&scope).copied()).collect();
            Share { flow, rate: 0, links }
        });
        let shares = shares.collect();
        let links = scopes.values().map(|limit| Link { left: *limit }).collect();
        Division { links, shares }
    }

    /// Gives out what is left, to none more than it wants; `None`: any.
    fn give(&mut self, wants: impl Fn(&Flow) -> Option<u64>) {
        let mut rising: Vec<usize> = (0..self.shares.len()).collect();
        // Each round settles at least what passes the narrowest link.
        while let Some((narrowest, level)) = self.narrowest(&rising) {
            let content = |index: &usize| {
                let flow = self.shares[*index].flow;
                wants(flow).filter(|want| *want <= level.of(flow)).map(|want| (*index, want))
            };
            let mut settled: Vec<(usize, u64)> = rising.iter().filter_map(content).collect();
            if settled.is_empty() {
                let held = rising.iter().filter(|index| self.passes(**index, narrowest));
                settled = held.map(|index| (*index, level.of(self.shares[*index].flow))).collect();
            }
            for (index, rate) in &settled {
                self.settle(*index, *rate);
            }
            rising
                .retain(|index| settled.binary_search_by_key(index, |(index, _)| *index).is_err());
        }
    }

    /// The link that is full first when all of these rise, and how far they rise till then.
    fn narrowest(&self, rising: &[usize]) -> Option<(usize, Level)> {
        let mut weights = vec![0_u64; self.links.len()];
        for index in rising {
            let share = &self.shares[*index];
            share.links.iter().for_each(|link| weights[*link] += weight(share.flow.mode));
        }
        let levels = self.links.iter().zip(weights).enumerate();
        let levels =
            levels.map(|(index, (link, weight))| (index, Level { left: link.left, weight }));
        let passed = levels.filter(|(_, level)| level.weight > 0);
        passed.reduce(|least, next| if next.1.is_below(least.1) { next } else { least })
    }

    fn passes(&self, share: usize, link: usize) -> bool {
        self.shares[share].links.contains(&link)
    }

    fn settle(&mut self, index: usize, rate: u64) {
        let share = &mut self.shares[index];
        share.rate = share.rate.saturating_add(rate);
        for link in &share.links {
            self.links[*link].left = self.links[*link].left.saturating_sub(rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn flow(part: i64, device: usize) -> Flow {
        Flow {
            part: PartId(part),
            device: format!("camera-{device}").parse().unwrap(),
            policy: 0,
            mode: Mode::Scheduled,
            measured: None,
        }
    }

    fn server(limit: u64) -> Limits {
        Limits { server: limit, ..Limits::default() }
    }

    fn rates(flows: &[Flow], limits: &Limits) -> Vec<u64> {
        divide(flows, limits).into_values().collect()
    }

    #[test]
    fn without_limits_everything_is_as_fast_as_it_can() {
        let flows = [flow(1, 1), Flow { measured: Some(MIB), ..flow(2, 2) }];
        assert_eq!(rates(&flows, &Limits::default()), [0, 0]);
    }

    #[test]
    fn a_limit_elsewhere_leaves_a_part_unlimited() {
        let policies = BTreeMap::from([(1, PolicyLimits { all: MIB, per_device: 0 })]);
        let flows = [flow(1, 1), Flow { policy: 1, ..flow(2, 1) }];
        assert_eq!(rates(&flows, &Limits { policies, ..Limits::default() }), [0, MIB]);
    }

    #[test]
    fn a_person_has_four_shares_a_gap_two_and_a_policy_one() {
        let flows = [
            Flow { mode: Mode::Manual, ..flow(1, 1) },
            Flow { mode: Mode::Online, ..flow(2, 2) },
            flow(3, 3),
        ];
        assert_eq!(rates(&flows, &server(7 * MIB)), [4 * MIB, 2 * MIB, MIB]);
    }

    #[test]
    fn what_a_slow_device_leaves_goes_to_the_others() {
        let flows = [Flow { measured: Some(MIB), ..flow(1, 1) }, flow(2, 2), flow(3, 3)];
        let slow = MIB + MIB / 4;
        let others = (9 * MIB - slow) / 2;
        assert_eq!(rates(&flows, &server(9 * MIB)), [slow, others, others]);
    }

    #[test]
    fn a_part_that_uses_its_share_keeps_it() {
        let flows = [Flow { measured: Some(4 * MIB), ..flow(1, 1) }, flow(2, 2)];
        assert_eq!(rates(&flows, &server(9 * MIB)), [4 * MIB + MIB / 2, 4 * MIB + MIB / 2]);
    }

    #[test]
    fn a_part_that_stalled_can_grow_back() {
        let flows = [Flow { measured: Some(0), ..flow(1, 1) }, flow(2, 2)];
        assert_eq!(rates(&flows, &server(MIB)), [LEAST_DEMAND, MIB - LEAST_DEMAND]);
    }

    #[test]
    fn what_nobody_is_known_to_want_is_divided_on_top() {
        let slow = |part| Flow { measured: Some(MIB), ..flow(part, part as usize) };
        assert_eq!(rates(&[slow(1), slow(2)], &server(10 * MIB)), [5 * MIB, 5 * MIB]);
    }

    #[test]
    fn the_narrowest_limit_holds_and_the_wider_ones_give_the_rest_to_others() {
        let limits = Limits {
            server: 12 * MIB,
            per_device: 6 * MIB,
            policies: BTreeMap::from([(1, PolicyLimits { all: 3 * MIB, per_device: MIB })]),
        };
        let of_policy = |part, device| Flow { policy: 1, ..flow(part, device) };
        // Two parts of the policy on one device share what the policy allows of that device.
        let flows = [of_policy(1, 1), of_policy(2, 1), of_policy(3, 2), flow(4, 1), flow(5, 3)];
        let half = MIB / 2;
        assert_eq!(rates(&flows, &limits), [half, half, MIB, 5 * MIB, 5 * MIB]);
    }

    #[test]
    fn a_limit_too_small_to_be_divided_is_no_licence() {
        let flows = [Flow { mode: Mode::Manual, ..flow(1, 1) }, flow(2, 2), flow(3, 3)];
        assert_eq!(rates(&flows, &server(3)), [2, 1, 1]);
        assert_eq!(rates(&[flow(1, 1)], &server(u64::MAX)), [u64::MAX]);
    }

    fn flows() -> impl Strategy<Value = Vec<Flow>> {
        let one = (0..5_usize, 0..3_u16, 0..3_usize, option::of(0..4 * MIB));
        vec(one, 1..40).prop_map(|flows| {
            let flows = (0..).zip(flows);
            let flows = flows.map(|(part, (device, policy, mode, measured))| Flow {
                policy,
                mode: Mode::ALL[mode],
                measured,
                ..flow(part, device)
            });
            flows.collect()
        })
    }

    /// From what suffices for a byte per second for each part.
    fn limit() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), 1_000..8 * MIB]
    }

    fn any_limits() -> impl Strategy<Value = Limits> {
        let policy =
            (limit(), limit()).prop_map(|(all, per_device)| PolicyLimits { all, per_device });
        (limit(), limit(), btree_map(0..3_u16, policy, 0..3))
            .prop_map(|(server, per_device, policies)| Limits { server, per_device, policies })
    }

    /// Each limit that applies to something, with the flows below it.
    fn links<'a>(flows: &'a [Flow], limits: &Limits) -> Vec<(u64, Vec<&'a Flow>)> {
        let mut links: BTreeMap<String, (u64, Vec<&Flow>)> = BTreeMap::new();
        for flow in flows {
            let policy = limits.policies.get(&flow.policy).copied().unwrap_or_default();
            let scopes = [
                (String::new(), limits.server),
                (format!("{}", flow.device), limits.per_device),
                (format!("{}", flow.policy), policy.all),
                (format!("{}/{}", flow.policy, flow.device), policy.per_device),
            ];
            for (scope, limit) in scopes.into_iter().filter(|(_, limit)| *limit > 0) {
                links.entry(scope).or_insert((limit, Vec::new())).1.push(flow);
            }
        }
        links.into_values().collect()
    }

    proptest! {
        #[test]
        fn no_limit_is_exceeded_none_is_lifted_and_none_left_unused(
            flows in flows(), limits in any_limits(),
        ) {
            let rates = divide(&flows, &limits);
            let links = links(&flows, &limits);
            let used = |below: &[&Flow]| below.iter().map(|flow| rates[&flow.part]).sum::<u64>();
            for (limit, below) in &links {
                prop_assert!(used(below) <= *limit, "{} of {limit}", used(below));
            }
            for flow in &flows {
                let mut above = links.iter().filter(|(_, below)| below.contains(&flow)).peekable();
                let is_limited = above.peek().is_some();
                prop_assert_eq!(rates[&flow.part] > 0, is_limited);
                // Of the limits above it, one is given out but for what rounding leaves.
                let full = above.any(|(limit, below)| limit - used(below) <= 2 * flows.len() as u64);
                prop_assert!(full || !is_limited, "{flow:?} could be faster");
            }
        }

        #[test]
        fn a_part_is_held_below_its_want_only_by_others_that_have_no_more_for_their_weight(
            flows in flows(), limits in any_limits(),
        ) {
            let rates = divide(&flows, &limits);
            let links = links(&flows, &limits);
            for flow in &flows {
                let rate = rates[&flow.part];
                if rate == 0 || flow.measured.is_some_and(|measured| demand(measured) <= rate) {
                    continue;
                }
                let level = |flow: &Flow| rates[&flow.part] / weight(flow.mode);
                let fair = links.iter().filter(|(_, below)| below.contains(&flow)).any(|(limit, below)| {
                    let used: u64 = below.iter().map(|flow| rates[&flow.part]).sum();
                    let full = limit - used <= 2 * flows.len() as u64;
                    let slack = 1 + flows.len() as u64;
                    full && below.iter().all(|other| level(other) <= level(flow) + slack)
                });
                prop_assert!(fair, "{flow:?} has {rate} of {rates:?}");
            }
        }

        #[test]
        fn the_order_of_parts_changes_nothing(flows in flows(), limits in any_limits()) {
            let mut reversed = flows.clone();
            reversed.reverse();
            prop_assert_eq!(divide(&flows, &limits), divide(&reversed, &limits));
        }
    }
}
