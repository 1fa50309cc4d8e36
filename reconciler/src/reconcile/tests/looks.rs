//! What is given out to whoever only looks, and what it costs.

use std::sync::Arc;

use super::*;
use crate::board::{Look, Sight, Snapshot};
use crate::ledger::DeviceRecord;
use crate::order::Heard;
use crate::tally::StateWord;

fn seen(server: &mut Server, look: Look) -> Sight {
    match server.order(Order::Look(look)) {
        Ok(Answer::Seen(sight)) => sight,
        other => panic!("{other:?}"),
    }
}

fn timeline(server: &mut Server) -> Snapshot {
    match seen(server, Look::Timeline(key())) {
        Sight::Timeline(snapshot) => snapshot,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_timeline_that_is_looked_at_reaches_to_its_newest_edge_and_costs_one_look_a_second() {
    let mut server = Server::start(ALWAYS, Memory::default(), AFTERNOON);
    server.wait_until(AFTERNOON + 1);
    // Three seconds in which nothing happens, not even a tick.
    server.now.wall = at(AFTERNOON + 4);
    server.now.monotonic = server.now.monotonic.after(Duration::from_secs(3));
    let first = timeline(&mut server);
    let settle = server.core.config.archive.settle();
    assert_eq!(first.as_of, Some(at(AFTERNOON + 4)));
    let newest = first.stretches.last().unwrap().range.end();
    assert_eq!(newest, at(AFTERNOON + 4).saturating_sub(settle));
    // Within a second the same one is shared, not reckoned and not copied.
    server.now.wall = server.now.wall.saturating_add(Duration::from_millis(900));
    server.now.monotonic = server.now.monotonic.after(Duration::from_millis(900));
    assert!(Arc::ptr_eq(&first.stretches, &timeline(&mut server).stretches));
}

#[test]
fn sums_are_kept_beside_the_timeline_and_say_the_same() {
    let mut server = Server::start(ALWAYS, Memory::default(), AFTERNOON);
    server.wait_until(AFTERNOON + 1);
    server.locates();
    server.wait_until(AFTERNOON + 3);
    let snapshot = timeline(&mut server);
    assert_eq!(snapshot.tally.completeness(), Completeness::of(&snapshot.stretches));
    assert!(!snapshot.tally.in_state(StateWord::Transferring).is_zero());
    let Sight::Totals(totals) = seen(&mut server, Look::Totals) else { panic!("sums are told") };
    assert_eq!((totals.devices, totals.online, totals.streams), (1, 1, 1));
    assert_eq!((totals.parts[0], totals.running, totals.waiting), (1, 1, 0));
    assert_eq!(totals.tally, snapshot.tally);
    let traffic = Traffic { received_bytes: 7, discarded_bytes: 2 };
    let part = PartId(1);
    server.happens(Input::Pull(PullEvent::Paused { key: key(), part, traffic }));
    let Sight::Totals(totals) = seen(&mut server, Look::Totals) else { panic!("sums are told") };
    assert_eq!((totals.received_bytes, totals.resent_bytes), (7, 2));
}

#[test]
fn what_was_known_of_a_device_before_a_restart_is_shown_until_it_is_heard() {
    let heard = at(AFTERNOON - 500);
    let record = DeviceRecord {
        device: camera(),
        online: true,
        agent_version: "0.9".into(),
        last_heard: Some(heard),
    };
    let stream = StreamRecord {
        key: key(),
        expected_from: at(SHIFT.0),
        holding: None,
        offsets: Offsets::default(),
        verdicts: Vec::new(),
        parts: Vec::new(),
    };
    let memory = Memory { devices: vec![record], streams: vec![stream], ..Memory::default() };
    let now = Now { wall: at(AFTERNOON), monotonic: MonotonicMicros(1_000_000) };
    let random = StdRng::seed_from_u64(1);
    let (core, done) = Core::resume(config(""), memory, random, now);
    let (last_order, is_online, uncertainty_ns) = (0, false, 0);
    let mut server = Server { core, now, done, last_order, is_online, uncertainty_ns };
    let Sight::Device(device) = seen(&mut server, Look::Device(camera())) else { panic!("told") };
    assert_eq!((device.online, device.last_heard), (false, Some(heard)));
    assert_eq!((device.agent_version.as_str(), device.streams[0].heard), ("0.9", Heard::Never));
    // Nobody has read the archive yet: nothing is known.
    assert_eq!(device.streams[0].as_of, None);
    server.is_there();
    server.holds(seconds(SHIFT.0, SHIFT.1));
    let Sight::Devices(devices) = seen(&mut server, Look::Devices { after: None, most: 9 }) else {
        panic!("devices are listed")
    };
    assert_eq!(devices.len(), 1);
    assert_eq!((devices[0].last_heard, devices[0].online), (Some(at(AFTERNOON)), true));
    assert_eq!(devices[0].streams[0].heard, Heard::Live);
    assert_eq!(devices[0].streams[0].held, Some(seconds(SHIFT.0, SHIFT.1)));
}

#[test]
fn devices_are_paged_by_their_ids_and_no_stream_is_left_out_of_one() {
    let device =
        |name: &str| format!("[[device]]\nid = \"{name}\"\nstreams = [\"main\", \"sub\"]\n");
    let devices: String = ["a", "b", "c"].iter().map(|name| device(name)).collect();
    let now = Now { wall: at(AFTERNOON), monotonic: MonotonicMicros(1_000_000) };
    let random = StdRng::seed_from_u64(1);
    let (core, done) = Core::resume(config(&devices), Memory::default(), random, now);
    let (last_order, is_online, uncertainty_ns) = (0, false, 0);
    let mut server = Server { core, now, done, last_order, is_online, uncertainty_ns };
    let mut page = |after: Option<&str>, most| {
        let after = after.map(|after| after.parse().unwrap());
        let Sight::Devices(devices) = seen(&mut server, Look::Devices { after, most }) else {
            panic!("devices are listed")
        };
        let streams = devices.iter().map(|device| device.streams.len()).collect::<Vec<_>>();
        let names = devices.iter().map(|device| device.device.to_string()).collect::<Vec<_>>();
        (names.join(" "), streams)
    };
    assert_eq!(page(None, 2), ("a b".to_owned(), vec![2, 2]));
    assert_eq!(page(Some("b"), 2), ("c".to_owned(), vec![2]));
    assert_eq!(page(Some("aa"), 9), ("b c".to_owned(), vec![2, 2]));
    assert_eq!(page(Some("c"), 9), (String::new(), vec![]));
}

#[test]
fn what_is_not_there_is_said_with_what_is() {
    let mut server = Server::start(ALWAYS, Memory::default(), AFTERNOON);
    let other = StreamKey { device: "other".parse().unwrap(), ..key() };
    let sub = StreamKey { stream: "sub".parse().unwrap(), ..key() };
    for (look, said) in [
        (Look::Device(other.device.clone()), "known are: camera"),
        (Look::Timeline(other), "known are: camera"),
        (Look::Timeline(sub.clone()), "it has: main"),
        (Look::Held { key: sub, range: seconds(0, 1) }, "it has: main"),
    ] {
        let error = server.order(Order::Look(look)).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}
