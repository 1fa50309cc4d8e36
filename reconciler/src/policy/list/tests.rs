use super::*;

fn policy(name: &str, devices: &[&str]) -> Policy {
    let devices = devices.iter().map(|pattern| pattern.parse().unwrap()).collect();
    Policy::new(name.parse().unwrap(), devices)
}

fn group(name: &str, devices: &[&str]) -> Group {
    let devices = devices.iter().map(|pattern| pattern.parse().unwrap()).collect();
    Group { name: name.parse().unwrap(), devices }
}

fn of<'a>(policies: &'a Policies, device: &str, stream: &str) -> &'a str {
    let key = StreamKey { device: device.parse().unwrap(), stream: stream.parse().unwrap() };
    policies.of(&key).name.as_str()
}

fn names(policies: &Policies) -> Vec<&str> {
    policies.iter().map(|(policy, _)| policy.name.as_str()).collect()
}

#[test]
fn without_any_policy_every_stream_is_recorded_always() {
    let policies = Policies::default();
    assert_eq!(of(&policies, "cam", "main"), "default");
    let (default, origin) = policies.get(&"default".parse().unwrap()).unwrap();
    assert_eq!((default.clone(), origin), (policy("default", &["*"]), Origin::BuiltIn));
}

#[test]
fn the_first_policy_that_matches_device_and_stream_counts() {
    let mut sub = policy("sub", &["cam-*"]);
    sub.streams = vec!["sub".parse().unwrap()];
    let mut guards = policy("guards", &[]);
    guards.groups = vec!["shift".parse().unwrap()];
    let policies = Policies::new(
        [group("shift", &["bwc-*", "cam-9"])],
        [sub, guards, policy("cameras", &["cam-*", "bwc-1"])],
    )
    .unwrap();
    assert_eq!(of(&policies, "cam-1", "sub"), "sub");
    assert_eq!(of(&policies, "cam-1", "main"), "cameras");
    assert_eq!(of(&policies, "cam-9", "main"), "guards");
    assert_eq!(of(&policies, "bwc-1", "main"), "guards");
    assert_eq!(of(&policies, "door", "main"), "default");
}

#[test]
fn a_default_of_the_file_takes_the_built_ins_place_and_stays_last() {
    let mut default = policy("default", &[]);
    default.priority = 7;
    let policies = Policies::new([], [default, policy("cameras", &["cam-*"])]).unwrap();
    assert_eq!(names(&policies), ["cameras", "default"]);
    assert_eq!(of(&policies, "cam-1", "main"), "cameras");
    let (default, origin) = policies.get(&"default".parse().unwrap()).unwrap();
    assert_eq!((default.priority, origin), (7, Origin::File));
    let narrow = Policies::new([], [policy("default", &["cam-*"])]);
    assert_eq!(narrow, Err(PolicyError::NarrowDefault));
    let twice = [policy("default", &["*"]), policy("default", &["*"])];
    assert_eq!(Policies::new([], twice), Err(PolicyError::Twice("default".parse().unwrap())));
}

#[test]
fn names_that_stand_there_twice_or_nowhere_are_refused() {
    let twice = Policies::new([], [policy("a", &["*"]), policy("a", &["b"])]);
    assert_eq!(twice, Err(PolicyError::Twice("a".parse().unwrap())));
    let twice = Policies::new([group("a", &["*"]), group("a", &["b"])], []);
    assert_eq!(twice, Err(PolicyError::GroupTwice("a".parse().unwrap())));
    let empty = Policies::new([group("a", &[])], []);
    assert_eq!(empty, Err(PolicyError::EmptyGroup("a".parse().unwrap())));
    let mut guards = policy("guards", &[]);
    guards.groups = vec!["shfit".parse().unwrap()];
    let error = Policies::new([group("shift", &["*"])], [guards]).unwrap_err().to_string();
    assert!(error.contains("`guards`") && error.contains("`shfit`"), "{error}");
}

#[test]
fn what_came_by_the_api_goes_behind_the_file_and_can_be_changed_and_removed() {
    let mut policies = Policies::new([], [policy("file", &["cam-*"])]).unwrap();
    policies.upsert(policy("late", &["cam-*", "door"]), Origin::Api).unwrap();
    policies.upsert(policy("later", &["*"]), Origin::Api).unwrap();
    assert_eq!(names(&policies), ["file", "late", "later", "default"]);
    assert_eq!(of(&policies, "cam-1", "main"), "file");
    assert_eq!(of(&policies, "door", "main"), "late");
    policies.upsert(policy("late", &["gate"]), Origin::Api).unwrap();
    assert_eq!(names(&policies), ["file", "late", "later", "default"]);
    assert_eq!(of(&policies, "door", "main"), "later");
    assert_eq!(policies.remove(&"late".parse().unwrap()), Ok(policy("late", &["gate"])));
    assert_eq!(names(&policies), ["file", "later", "default"]);
}

#[test]
fn the_api_cannot_change_what_is_not_its_own_and_is_told_what_to_do() {
    let mut policies = Policies::new([], [policy("file", &["cam-*"])]).unwrap();
    let before = policies.clone();
    let mut refused = |name: &str| {
        let upserted = policies.upsert(policy(name, &["*"]), Origin::Api).unwrap_err();
        let removed = policies.remove(&name.parse().unwrap()).unwrap_err();
        assert_eq!(upserted, removed);
        assert_eq!(policies, before);
        removed.to_string()
    };
    assert!(refused("file").contains("configuration file"));
    assert!(refused("default").contains("[[policy]]"));
    let nobody = "nobody".parse().unwrap();
    assert_eq!(policies.remove(&nobody), Err(PolicyError::Unknown(nobody)));
    let mut broken = policy("x", &["*"]);
    broken.groups = vec!["none".parse().unwrap()];
    assert!(policies.upsert(broken, Origin::Api).is_err());
    assert_eq!(policies, before);
}

#[test]
fn there_are_only_so_many() {
    let mut policies = Policies::default();
    for number in 0..MOST_POLICIES {
        policies.upsert(policy(&format!("p{number}"), &["*"]), Origin::Api).unwrap();
    }
    let further = policies.upsert(policy("further", &["*"]), Origin::Api);
    assert_eq!(further, Err(PolicyError::TooMany));
    policies.upsert(policy("p3", &["cam"]), Origin::Api).unwrap();
}
