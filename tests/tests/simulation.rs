//! Thousands of worlds, each from its seed; see `tests::simulation`.
//!
//! `GAPLESS_SEED=123 cargo test -p tests --test simulation -- --nocapture` runs one of them again and tells what
//! happened; `GAPLESS_SEEDS=50000` runs so many, `GAPLESS_FIRST_SEED` says from where on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use tests::simulation::{Bill, SECOND, Violation, run};

/// What fits into a few minutes of two busy cores.
const SEEDS: u64 = 3_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// A panic in a core is a violation too.
fn guarded(seed: u64, verbose: bool) -> Result<Bill, Violation> {
    catch_unwind(AssertUnwindSafe(|| run(seed, verbose))).unwrap_or_else(|_| {
        let what = "a panic, told above".to_owned();
        Err(Violation { what, at: 0, trace: String::new() })
    })
}

fn told(seed: u64, violation: &Violation) -> String {
    let Violation { what, at, .. } = violation;
    let at = *at as f64 / SECOND as f64;
    format!(
        "seed {seed}, at {at:.3} s: {what}\n  GAPLESS_SEED={seed} cargo test -p tests --test simulation -- --nocapture"
    )
}

#[test]
fn every_world_settles_and_nothing_is_lost_or_twice_or_untrue() {
    if let Some(seed) = number("GAPLESS_SEED") {
        match guarded(seed, true) {
            Ok(bill) => println!("seed {seed}: {bill:#?}"),
            Err(violation) => panic!("{}\n{}", violation.trace, told(seed, &violation)),
        }
        return;
    }
    let seeds = number("GAPLESS_SEEDS").unwrap_or(SEEDS);
    let first = number("GAPLESS_FIRST_SEED").unwrap_or(0);
    let next = AtomicU64::new(first);
    let outcome = Mutex::new((Bill::default(), Vec::new()));
    let begun = Instant::now();
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return;
            }
            let result = guarded(seed, false);
            let mut outcome = outcome.lock().expect("no panic while it is held");
            match result {
                Ok(bill) => outcome.0.add(&bill),
                Err(violation) => {
                    println!("{}", told(seed, &violation));
                    outcome.1.push(told(seed, &violation));
                }
            }
        }
    };
    let threads = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let (bill, violations) = outcome.into_inner().expect("no panic while it was held");
    println!("{seeds} worlds in {:?}: {bill:#?}", begun.elapsed());
    assert!(violations.is_empty(), "{} of {seeds}:\n{}", violations.len(), violations.join("\n"));
    assert!(bill.crashes > seeds / 4 && bill.cuts > seeds / 2, "the faults no longer happen");
}
