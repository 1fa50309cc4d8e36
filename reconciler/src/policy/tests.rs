use sdcard_indexer::time::TimeRange;

use super::*;
use crate::examples::{at, seconds};

/// As in the example of the configuration, and a little more.
pub(super) fn body_worn() -> Policy {
    toml::from_str(
        r#"
        name = "depot"
        devices = ["bwc-*"]
        record = "held"
        modes = ["scheduled", "manual"]
        schedule = { cron = "0 23 * * *", time_zone = "Europe/Berlin", window = "6h" }
        networks = ["ethernet", "10.20.0.0/16"]
        max_devices = 4
        kbit_per_second_per_device = 20000
        retention = "30d"
        "#,
    )
    .unwrap()
}

fn cameras() -> Policy {
    Policy::new("cameras".parse().unwrap(), vec![DevicePattern::all()])
}

fn working_hours() -> Policy {
    let record = r#"record = { hours = ["Mon-Fri 06:00-22:00", "Sat,Sun 22:00-02:00"] }"#;
    let rest = "name = \"x\"\ndevices = [\"*\"]\ntime_zone = \"Europe/Berlin\"\n";
    toml::from_str(&format!("{rest}{record}")).unwrap()
}

fn range(start: &str, end: &str) -> TimeRange {
    TimeRange::new(start.parse().unwrap(), end.parse().unwrap()).unwrap()
}

#[test]
fn a_policy_with_nothing_said_records_always_and_is_pulled_online_and_by_hand() {
    let said: Policy = toml::from_str("name = \"cameras\"\ndevices = [\"*\"]").unwrap();
    assert_eq!(said, cameras());
    assert_eq!(said.modes.iter().collect::<Vec<_>>(), [Mode::Manual, Mode::Online]);
    assert_eq!((said.priority, said.bytes_per_second()), (100, 0));
    assert_eq!(said.check(), Ok(()));
}

#[test]
fn what_is_printed_is_read_again_in_the_file_and_in_the_api() {
    for policy in [cameras(), body_worn(), working_hours()] {
        let file = toml::to_string(&policy).unwrap();
        assert_eq!(toml::from_str::<Policy>(&file).unwrap(), policy, "{file}");
        let api = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&api).unwrap(), policy, "{api}");
    }
    let null = r#"{"name": "x", "devices": ["*"], "retention": null, "schedule": null}"#;
    assert_eq!(serde_json::from_str::<Policy>(null).unwrap().retention, None);
}

#[test]
fn a_misspelt_key_is_refused_wherever_it_stands() {
    for text in [
        "priorty = 1",
        "schedule = { cron = \"0 1 * * *\", time_zone = \"UTC\", window = \"1h\", windw = 1 }",
        "record = { hour = [\"Mon 01:00-02:00\"] }",
        "record = \"sometimes\"",
        "modes = [\"offline\"]",
        "priority = 256",
    ] {
        let all = format!("name = \"x\"\ndevices = [\"*\"]\n{text}");
        let error = toml::from_str::<Policy>(&all).unwrap_err().to_string();
        assert!(error.contains("line 3"), "{error}");
    }
}

#[test]
fn what_makes_no_sense_together_is_refused_and_told_what_to_do() {
    let refused = |change: &dyn Fn(&mut Policy)| {
        let mut policy = body_worn();
        change(&mut policy);
        policy.check().unwrap_err().to_string()
    };
    let told = [
        (refused(&|policy| policy.devices.clear()), "devices"),
        (refused(&|policy| policy.modes = Modes::from_iter([])), "\"manual\""),
        (refused(&|policy| policy.modes = Modes::default()), "\"scheduled\""),
        (refused(&|policy| policy.schedule = None), "cron"),
        (refused(&|policy| policy.schedule.as_mut().unwrap().window = Duration::ZERO), "window"),
        (refused(&|policy| policy.time_zone = "UTC".parse().ok()), "time_zone"),
        (refused(&|policy| policy.record = working_hours().record), "time_zone"),
        (refused(&|policy| policy.devices = vec![DevicePattern::all(); 1_001]), "devices"),
    ];
    for (error, hint) in told {
        assert!(error.contains("`depot`") && error.contains(hint), "{error}");
    }
}

#[test]
fn what_should_always_be_recorded_is_all_that_is_asked_for() {
    let expected = cameras().expected(at(10), at(20), None, at(30));
    assert_eq!(expected, Coverage::from(seconds(10, 20)));
    assert!(cameras().expected(at(20), at(10), None, at(30)).is_empty());
    assert!(cameras().expected(at(20), at(20), None, at(30)).is_empty());
}

#[test]
fn of_a_body_worn_unit_whatever_it_holds_or_has_lost_is_expected() {
    let mut policy = body_worn();
    policy.retention = None;
    let holding = Holding {
        held: [seconds(0, 10), seconds(50, 60)].into_iter().collect(),
        once_held: seconds(20, 30).into(),
        gone: seconds(35, 40).into(),
        ..Holding::default()
    };
    assert_eq!(
        policy.expected(at(5), at(55), Some(&holding), at(100)),
        [seconds(5, 10), seconds(20, 30), seconds(35, 40), seconds(50, 55)].into_iter().collect()
    );
    assert!(policy.expected(at(5), at(55), None, at(100)).is_empty());
}

#[test]
fn weekly_hours_are_expected_in_the_policys_time_zone() {
    let policy = working_hours();
    let (from, until) = ("2026-11-23T00:00:00Z".parse().unwrap(), "2026-11-24T00:00:00Z".parse());
    assert_eq!(
        policy.expected(from, until.unwrap(), None, at(0)),
        [
            range("2026-11-23T00:00:00Z", "2026-11-23T01:00:00Z"),
            range("2026-11-23T05:00:00Z", "2026-11-23T21:00:00Z")
        ]
        .into_iter()
        .collect()
    );
}

#[test]
fn retention_bounds_how_far_back_is_looked_for_all_that_is_recorded() {
    let day = 86_400;
    let holding = Holding { held: seconds(0, 100 * day).into(), ..Holding::default() };
    for mut policy in [cameras(), body_worn()] {
        policy.retention = Some(Duration::from_secs(30 * 86_400));
        let expected = policy.expected(at(0), at(90 * day), Some(&holding), at(100 * day));
        assert_eq!(expected, Coverage::from(seconds(70 * day, 90 * day)));
    }
    let mut policy = working_hours();
    policy.retention = Some(Duration::from_secs(10));
    assert!(policy.expected(at(0), at(50 * day), None, at(100 * day)).is_empty());
}

#[test]
fn without_networks_any_is_good_and_else_one_must_match() {
    let wifi = Network { link: "wifi".into(), address: "192.168.0.7".parse().ok() };
    let depot = Network { link: "wifi".into(), address: "10.20.3.4".parse().ok() };
    let docked = Network { link: "Ethernet".into(), address: None };
    assert!(cameras().allows(&wifi) && cameras().why_not(&wifi).is_none());
    assert!(body_worn().allows(&depot) && body_worn().allows(&docked));
    assert_eq!(
        body_worn().why_not(&wifi).unwrap(),
        "policy `depot` waits for ethernet or 10.20.0.0/16; the device is on wifi at 192.168.0.7"
    );
    assert!(body_worn().why_not(&docked).is_none());
}

#[test]
fn rates_are_written_in_kbit_and_counted_in_bytes() {
    assert_eq!(body_worn().bytes_per_second_per_device(), 2_500_000);
    assert_eq!(body_worn().bytes_per_second(), 0);
    let all = Policy { kbit_per_second: u64::MAX, ..cameras() };
    assert_eq!(all.bytes_per_second(), u64::MAX);
}
