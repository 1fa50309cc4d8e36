//! A device whose clock nobody has set, and which is told the time.

use super::*;
use crate::ledger::Memory;
use crate::offset::{Basis, Learned};

/// As far as a clock that reads plausibly may be off.
const PRESUMED_NS: u64 = 30_000_000_000;
const TOLD_NS: u64 = 40_000_000;
const HOUR: i64 = 3_600;
/// What the camera recorded, by a clock that is an hour behind; and in truth.
const PRESUMED: (i64, i64) = (SHIFT.0 - HOUR, SHIFT.1 - HOUR);

fn unsure() -> Server {
    let mut server = Server::start_unsure(ALWAYS, Memory::default(), AFTERNOON, PRESUMED_NS);
    server.wait_until(AFTERNOON + 1);
    assert_eq!(server.locates(), [], "it is about to know better");
    server
}

#[test]
fn where_its_footage_lies_is_asked_once_it_has_taken_over_the_time_that_it_was_told() {
    let mut server = unsure();
    server.holds_unsure(seconds(SHIFT.0 + HOUR, SHIFT.1 + HOUR), TOLD_NS);
    server.wait_until(AFTERNOON + 2);
    let asked = server.locates();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].start() > at(SHIFT.0 + HOUR - 60), "{asked:?}");
}

#[test]
fn one_that_does_not_take_it_over_is_asked_all_the_same() {
    let mut server = unsure();
    server.wait_until(AFTERNOON + 4);
    assert_eq!(server.locates(), []);
    server.wait_until(AFTERNOON + 6);
    assert_eq!(server.locates().len(), 1);
}

#[test]
fn what_frames_told_of_its_clock_before_is_void_and_moves_nothing() {
    let mut server = unsure();
    server.wait_until(AFTERNOON + 6);
    assert_eq!(server.locates().len(), 1);
    let stream = server.core.streams.get_mut(&key()).unwrap();
    let hour_ns = HOUR * 1_000_000_000;
    let learned =
        Learned { at: at(PRESUMED.0), offset_ns: hour_ns, error_ns: 1, basis: Basis::Presumed };
    stream.offsets.learn(learned);
    let (part, place) =
        stream.parts.iter().map(|(id, record)| (*id, record.part.range)).next().unwrap();

    server.done.clear();
    server.holds_unsure(seconds(SHIFT.0, SHIFT.1), TOLD_NS);
    let holding = server.core.fleet.holding(&key()).unwrap();
    assert_eq!(holding.held, seconds(SHIFT.0, SHIFT.1).into(), "and not an hour later");
    let written = server.done.iter().any(
        |done| matches!(done, Action::Record(Entry::Offsets { offsets, .. }) if offsets.is_empty()),
    );
    assert!(written, "it would come back with a restart");

    // A piece of that time tells nothing of the time that the device has now, and is not moved by it.
    server.core.learn(&key(), part, &[learned]);
    let stream = &server.core.streams[&key()];
    assert!(stream.offsets.is_empty());
    assert_eq!(stream.parts[&part].part.range, place);
}
