use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::examples::{at, seconds};

const NOW: Now =
    Now { wall: Timestamp::from_unix_seconds(1_000_000), monotonic: MonotonicMicros(50_000_000) };

fn device(number: usize) -> DeviceId {
    format!("camera-{number}").parse().unwrap()
}

/// A waiting part of a policy's run, as old as its number.
fn waiting(part: i64, of_device: usize) -> Candidate {
    Candidate {
        part: PartId(part),
        device: device(of_device),
        policy: 0,
        mode: Mode::Scheduled,
        priority: 100,
        range: seconds(part, part + 1),
        goes_at: None,
        running: false,
        not_before: None,
    }
}

fn running(part: i64, of_device: usize) -> Candidate {
    Candidate { running: true, ..waiting(part, of_device) }
}

fn limits(parts: usize, parts_per_device: usize) -> Limits {
    Limits { parts, parts_per_device, devices_per_policy: BTreeMap::new() }
}

fn plan(candidates: Vec<Candidate>, limits: &Limits) -> Vec<Step> {
    Queue::new().plan(candidates, limits, NOW)
}

fn start(part: i64) -> Step {
    Step::Start(PartId(part))
}

fn pause(part: i64) -> Step {
    Step::Pause(PartId(part))
}

#[test]
fn a_person_goes_before_a_gap_and_a_gap_before_a_policy() {
    let parts = vec![
        waiting(1, 1),
        Candidate { mode: Mode::Online, ..waiting(2, 2) },
        Candidate { mode: Mode::Manual, ..waiting(3, 3) },
    ];
    assert_eq!(plan(parts, &limits(16, 2)), [start(3), start(2), start(1)]);
}

#[test]
fn a_higher_priority_goes_before_what_is_at_risk() {
    let soon = Some(at(1_000_060));
    let parts = vec![
        Candidate { goes_at: soon, ..waiting(1, 1) },
        Candidate { priority: 101, ..waiting(2, 2) },
    ];
    assert_eq!(plan(parts, &limits(16, 2)), [start(2), start(1)]);
}

#[test]
fn what_goes_within_a_day_goes_before_what_fairness_would_choose() {
    let ahead = |hours: i64| Some(at(1_000_000 + hours * 3_600));
    let parts = vec![
        running(1, 1),
        Candidate { goes_at: ahead(25), ..waiting(2, 2) },
        Candidate { goes_at: ahead(23), ..waiting(3, 1) },
        Candidate { goes_at: ahead(2), ..waiting(4, 3) },
        // Already overdue, and perhaps still there.
        Candidate { goes_at: ahead(-1), ..waiting(5, 4) },
    ];
    assert_eq!(plan(parts, &limits(16, 2)), [start(5), start(4), start(3), start(2)]);
}

#[test]
fn the_device_with_the_fewest_running_parts_is_served_first() {
    let parts = vec![running(1, 1), waiting(2, 1), waiting(3, 2), waiting(4, 2)];
    assert_eq!(plan(parts, &limits(16, 2)), [start(3), start(2), start(4)]);
}

#[test]
fn among_equals_the_device_served_longest_ago_is_served_first() {
    let mut queue = Queue::new();
    let all = || vec![waiting(1, 1), waiting(2, 2), waiting(3, 3)];
    let one = limits(1, 1);
    for expected in [1, 2, 3, 1, 2] {
        assert_eq!(queue.plan(all(), &one, NOW), [start(expected)]);
    }
}

#[test]
fn within_a_device_what_goes_first_comes_first_and_then_the_oldest() {
    let far = |days: i64| Some(at(1_000_000 + days * 86_400));
    let parts = vec![
        waiting(1, 1),
        Candidate { goes_at: far(9), ..waiting(2, 1) },
        Candidate { goes_at: far(8), ..waiting(3, 1) },
        Candidate { goes_at: far(8), ..waiting(4, 1) },
        Candidate { priority: 101, ..waiting(5, 1) },
    ];
    let order = [start(5), start(3), start(4), start(2), start(1)];
    assert_eq!(plan(parts, &limits(16, 16)), order);
}

#[test]
fn what_failed_rests_until_its_time() {
    let rests = |micros| Candidate { not_before: Some(MonotonicMicros(micros)), ..waiting(1, 1) };
    assert_eq!(plan(vec![rests(50_000_001)], &limits(1, 1)), []);
    assert_eq!(plan(vec![rests(50_000_000)], &limits(1, 1)), [start(1)]);
}

#[test]
fn a_person_takes_the_place_of_the_least_urgent_part_of_the_same_device() {
    let parts = vec![
        running(1, 1),
        running(2, 1),
        running(3, 2),
        Candidate { mode: Mode::Manual, ..waiting(9, 1) },
    ];
    assert_eq!(plan(parts, &limits(16, 2)), [pause(2), start(9)]);
}

#[test]
fn a_person_takes_the_place_of_the_least_urgent_part_over_all_where_the_total_binds() {
    let parts = vec![
        running(1, 1),
        Candidate { mode: Mode::Online, ..running(2, 2) },
        Candidate { priority: 99, ..running(3, 3) },
        Candidate { mode: Mode::Manual, ..waiting(9, 4) },
    ];
    assert_eq!(plan(parts, &limits(3, 2)), [pause(3), start(9)]);
}

#[test]
fn an_equal_is_never_paused_however_urgent_the_other() {
    let urgent = Candidate { priority: 255, goes_at: Some(at(1_000_001)), ..waiting(9, 1) };
    assert_eq!(plan(vec![running(1, 1), urgent.clone()], &limits(16, 1)), []);
    assert_eq!(plan(vec![running(1, 2), urgent], &limits(1, 1)), []);
}

#[test]
fn a_part_that_rests_takes_no_place() {
    let rests = Some(MonotonicMicros(u64::MAX));
    let manual = Candidate { mode: Mode::Manual, not_before: rests, ..waiting(9, 1) };
    assert_eq!(plan(vec![running(1, 1), manual], &limits(1, 1)), []);
}

#[test]
fn a_place_that_a_pause_leaves_elsewhere_is_filled() {
    // The person's device is full; the total is not, once its other part rests.
    let parts = vec![
        running(1, 1),
        running(2, 1),
        waiting(3, 2),
        Candidate { mode: Mode::Manual, ..waiting(8, 1) },
        Candidate { mode: Mode::Manual, ..waiting(9, 1) },
    ];
    assert_eq!(plan(parts, &limits(3, 2)), [pause(1), pause(2), start(8), start(9), start(3)]);
}

#[test]
fn a_limit_that_was_lowered_pauses_the_least_urgent() {
    let parts = vec![running(1, 1), running(2, 2), running(3, 1)];
    assert_eq!(plan(parts.clone(), &limits(2, 2)), [pause(3)]);
    assert_eq!(plan(parts, &limits(0, 2)), [pause(1), pause(2), pause(3)]);
}

#[test]
fn a_policy_pulls_from_no_more_devices_than_it_may() {
    let mut limits = limits(16, 2);
    limits.devices_per_policy = BTreeMap::from([(0, 2), (1, 0)]);
    let other = |part, of_device| Candidate { policy: 1, ..waiting(part, of_device) };
    let parts =
        vec![running(1, 1), waiting(2, 2), waiting(3, 3), waiting(4, 1), other(5, 3), other(6, 4)];
    assert_eq!(plan(parts, &limits), [start(2), start(5), start(6), start(4)]);
}

#[test]
fn a_device_that_its_policy_holds_back_goes_on_with_another_policys_parts() {
    let mut limits = limits(16, 2);
    limits.devices_per_policy = BTreeMap::from([(0, 1)]);
    let other = Candidate { policy: 1, priority: 1, ..waiting(3, 2) };
    assert_eq!(plan(vec![running(1, 1), waiting(2, 2), other], &limits), [start(3)]);
}

#[test]
fn a_hundred_thousand_parts_are_planned() {
    let parts = (0..100_000_i64).map(|part| {
        let number = part as usize;
        Candidate {
            mode: Mode::ALL[number % 3],
            policy: (number % 7) as u16,
            goes_at: (number.is_multiple_of(5)).then(|| at(1_000_000 + part)),
            running: number.is_multiple_of(10_000),
            ..waiting(part, number % 1_000)
        }
    });
    let mut limits = limits(100_000, 50);
    limits.devices_per_policy = (0..7).map(|policy| (policy, 900)).collect();
    let steps = plan(parts.collect(), &limits);
    assert!(steps.len() > 40_000, "{}", steps.len());
}

#[test]
fn no_more_devices_are_remembered_than_can_be() {
    let mut queue = Queue::new();
    let many = MOST_REMEMBERED + 100;
    for first in (0..many).step_by(many / 4) {
        let parts = (first..first + many / 4).map(|number| waiting(number as i64, number));
        queue.plan(parts.collect(), &limits(many, 1), NOW);
    }
    assert_eq!(queue.served.len(), MOST_REMEMBERED);
    assert!(!queue.served.contains_key(&device(0)));
    assert!(queue.served.contains_key(&device(many - 1)));
}

fn candidate() -> impl Strategy<Value = Candidate> {
    let who = (0..6_usize, 0..3_u16, 0..3_usize, 0..3_u8);
    let when = (0..50_i64, option::of(900_000..1_200_000_i64));
    (who, when, any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |((of_device, policy, mode, priority), (oldest, goes_at), running, rests)| Candidate {
            policy,
            mode: Mode::ALL[mode],
            priority,
            range: seconds(oldest, oldest + 1),
            goes_at: goes_at.map(at),
            running,
            not_before: rests.then_some(MonotonicMicros(u64::MAX)),
            ..waiting(0, of_device)
        },
    )
}

/// Parts with numbers of their own.
fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    vec(candidate(), 0..60).prop_map(|mut candidates| {
        (0..).zip(&mut candidates).for_each(|(number, candidate)| candidate.part = PartId(number));
        candidates
    })
}

fn any_limits() -> impl Strategy<Value = Limits> {
    (0..20_usize, 0..5_usize, btree_map(0..3_u16, 0..4_usize, 0..3)).prop_map(
        |(parts, parts_per_device, devices_per_policy)| Limits {
            parts,
            parts_per_device,
            devices_per_policy,
        },
    )
}

/// What runs once the steps were taken; they must make sense one by one.
fn after(candidates: &[Candidate], steps: &[Step]) -> Vec<Candidate> {
    let mut candidates = candidates.to_vec();
    let mut touched = BTreeSet::new();
    for step in steps {
        let (Step::Start(part) | Step::Pause(part)) = step;
        assert!(touched.insert(*part), "{part:?} is moved twice");
        let candidate = candidates.iter_mut().find(|candidate| candidate.part == *part).unwrap();
        let starts = matches!(step, Step::Start(_));
        assert_ne!(candidate.running, starts, "{step:?} changes nothing");
        candidate.running = starts;
    }
    candidates.retain(|candidate| candidate.running);
    candidates
}

fn respects(running: &[Candidate], limits: &Limits) -> bool {
    let mut by_device = BTreeMap::<_, usize>::new();
    let mut devices = BTreeMap::<_, BTreeSet<_>>::new();
    for candidate in running {
        *by_device.entry(&candidate.device).or_default() += 1;
        devices.entry(candidate.policy).or_default().insert(&candidate.device);
    }
    running.len() <= limits.parts
        && by_device.values().all(|parts| *parts <= limits.parts_per_device)
        && devices.iter().all(|(policy, devices)| {
            let most = limits.devices_per_policy.get(policy).copied().unwrap_or(0);
            most == 0 || devices.len() <= most
        })
}

proptest! {
    #[test]
    fn limits_hold_and_no_place_stays_free_that_somebody_waits_for(
        candidates in candidates(), limits in any_limits(),
    ) {
        let steps = plan(candidates.clone(), &limits);
        let running = after(&candidates, &steps);
        prop_assert!(respects(&running, &limits));
        for idle in candidates.iter().filter(|candidate| candidate.not_before.is_none()) {
            if running.iter().all(|candidate| candidate.part != idle.part) {
                let mut with = running.clone();
                with.push(idle.clone());
                prop_assert!(!respects(&with, &limits), "{idle:?} could run");
                // Nor could it in the place of anything that is less than it.
                for lesser in running.iter().filter(|candidate| candidate.mode < idle.mode) {
                    let mut with = with.clone();
                    with.retain(|candidate| candidate.part != lesser.part);
                    prop_assert!(!respects(&with, &limits), "{idle:?} waits for {lesser:?}");
                }
            }
        }
    }

    #[test]
    fn a_part_is_paused_only_for_something_more_urgent_or_by_a_limit(
        mut candidates in candidates(), limits in any_limits(),
    ) {
        let mut fits = Vec::new();
        for candidate in candidates.iter_mut().filter(|candidate| candidate.running) {
            fits.push(candidate.clone());
            if !respects(&fits, &limits) {
                fits.pop();
                candidate.running = false;
            }
        }
        let steps = plan(candidates.clone(), &limits);
        let find = |part: &PartId| candidates.iter().find(|candidate| candidate.part == *part).unwrap();
        let best_start = steps.iter().filter_map(|step| match step {
            Step::Start(part) => Some(find(part).mode),
            Step::Pause(_) => None,
        });
        let best_start = best_start.max();
        for step in &steps {
            if let Step::Pause(part) = step {
                prop_assert!(Some(find(part).mode) < best_start);
            }
        }
    }

    #[test]
    fn the_order_in_which_parts_are_told_changes_nothing(
        candidates in candidates(), limits in any_limits(),
    ) {
        let mut reversed = candidates.clone();
        reversed.reverse();
        prop_assert_eq!(plan(candidates, &limits), plan(reversed, &limits));
    }

    #[test]
    fn a_plan_that_was_carried_out_is_followed_by_an_empty_one(
        candidates in candidates(), limits in any_limits(),
    ) {
        let mut queue = Queue::new();
        let steps = queue.plan(candidates.clone(), &limits, NOW);
        let running: BTreeSet<PartId> =
            after(&candidates, &steps).iter().map(|candidate| candidate.part).collect();
        let mut next = candidates;
        next.iter_mut().for_each(|candidate| candidate.running = running.contains(&candidate.part));
        prop_assert_eq!(queue.plan(next, &limits, NOW), []);
    }

    /// Each device has work without end; in each round everything that runs is finished.
    #[test]
    fn among_equals_every_device_is_served_in_its_turn(
        devices in 1..30_usize, parts in 1..8_usize, of_device in 1..3_usize,
    ) {
        let mut queue = Queue::new();
        let mut served = vec![0_usize; devices];
        let rounds = devices * 4;
        for round in 0..rounds {
            let number = |device: usize, of: usize| ((round * devices + device) * 3 + of) as i64;
            let all = (0..devices).flat_map(|device| (0..3).map(move |of| waiting(number(device, of), device)));
            for step in queue.plan(all.collect(), &limits(parts, of_device), NOW) {
                let Step::Start(part) = step else { panic!("{step:?}") };
                served[(part.0 as usize / 3) % devices] += 1;
            }
        }
        let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
        prop_assert!(most - least <= of_device, "{served:?}");
    }
}
