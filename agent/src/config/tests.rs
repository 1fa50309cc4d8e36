use super::*;

const SMALLEST: &str = r#"device = "cam-7"
[broker]
url = "mqtt://broker.local"
[card]
root = "/mnt/card"
[[stream]]
id = "main"
path = "main"
layout = "mediamtx"
time_zone = "Europe/Berlin"
"#;

fn complaint(text: &str) -> String {
    toml::from_str::<Config>(text).unwrap_err().to_string()
}

#[test]
fn the_smallest_configuration_prints_with_every_default_and_reads_back() {
    let config: Config = toml::from_str(SMALLEST).unwrap();
    let printed = config.effective();
    for line in [
        r#"url = "mqtt://broker.local:1883""#,
        r#"link = "auto""#,
        r#"state_dir = "/mnt/card/.gapless""#,
        "require_mount = true",
        "join_tolerance_ms = 500",
        "seal_after_seconds = 10",
        "sweep_every_seconds = 600",
        r#"believe = "plausible""#,
        r#"synchronised_file = "/run/systemd/timesync/synchronized""#,
        "max_open_transfers = 4",
        "max_chunk_bytes = 65536",
        "max_bytes_per_second = 0",
        "card_bytes_per_second = 0",
        "spare_recorder = true",
        r#"socket = "/run/gapless-agent/cam-7.socket""#,
        r#"layout = "mediamtx""#,
        r#"time_zone = "Europe/Berlin""#,
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line} is not in\n{printed}");
    }
    assert_eq!(toml::from_str::<Config>(&printed).unwrap().effective(), printed);
}

#[test]
fn a_configuration_with_every_key_prints_what_reads_back_as_the_same() {
    let every = r#"device = "cam-7"
[broker]
url = "mqtt://[::1]:1884"
username = "öbb \"7\" \\ \u0007"
password_file = "/etc/gapless/pass word"
[network]
link = "wlan\\0"
[card]
root = "/mnt/card"
state_dir = "/var/lib/gapless"
require_mount = false
spare_recorder = false
[index]
join_tolerance_ms = 1
seal_after_seconds = 2
sweep_every_seconds = 30
seal_digest = false
[clock]
believe = "synchronised"
synchronised_file = "/run/time"
[limits]
max_open_transfers = 5
max_chunk_bytes = 2048
max_bytes_per_second = 7
card_bytes_per_second = 65536
[diagnosis]
socket = ""
[serve]
servers = ["depot", "other"]
streams = ["main"]
max_age_hours = 72
[[stream]]
id = "main"
path = "a/b"
template = "%F/%H-%M-%S.mp4"
time_zone = "+02:00"
[[stream]]
id = "sub"
path = "c"
layout = "frigate"
camera = "door"
"#;
    let printed = toml::from_str::<Config>(every).unwrap().effective();
    let tables = |text: &str| text.parse::<toml::Table>().unwrap();
    assert_eq!(tables(&printed), tables(every));
}

#[test]
fn every_preset_and_belief_is_printed_by_the_name_it_is_read_by() {
    for preset in sdcard_indexer::layout::Preset::ALL {
        let has_cameras = preset.templates().iter().any(|one| one.contains("{camera}"));
        let camera = if has_cameras { "camera = \"door\"\n" } else { "" };
        let mut text = SMALLEST.replace("mediamtx", preset.name()) + camera;
        if preset.is_always_utc() {
            text = text.replace("time_zone = \"Europe/Berlin\"\n", "");
        }
        let layout = |text: &str| {
            let config: Config = toml::from_str(text).unwrap();
            (LayoutConfig::from(config.streams[0].layout.clone()), config.effective())
        };
        let (written, printed) = layout(&text);
        assert_eq!(layout(&printed), (written, printed.clone()));
    }
    for believe in ["names", "plausible", "synchronised"] {
        let text = SMALLEST.replace("[card]", &format!("[clock]\nbelieve = \"{believe}\"\n[card]"));
        let config: Config = toml::from_str(&text).unwrap();
        assert!(config.effective().contains(&format!("believe = \"{believe}\"")));
    }
}

#[test]
fn two_configurations_differ_in_the_keys_whose_values_do() {
    let config: Config = toml::from_str(SMALLEST).unwrap();
    let other = SMALLEST.replace("cam-7", "cam-8") + "[serve]\nmax_age_hours = 1\n";
    let other: Config = toml::from_str(&other).unwrap();
    assert_eq!(config.differences(&config), [""; 0]);
    // Its socket is named after it.
    assert_eq!(config.differences(&other), ["device", "diagnosis", "serve"]);
}

#[test]
fn the_example_that_is_shipped_is_a_valid_configuration() {
    Config::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/agent.example.toml"))).unwrap();
}

#[test]
fn a_complaint_names_the_line_the_key_and_what_is_allowed() {
    for (from, to, expected) in [
        ("device = \"cam-7\"", "device = \"cam 7\"", vec!["line 1", "cam 7", "letters"]),
        ("[card]", "[card]\nsize = 5", vec!["line 5", "size", "require_mount"]),
        ("mqtt://broker.local", "http://x", vec!["line 3", "url", "mqtt://HOST"]),
        ("\"main\"\nlayout", "\"../x\"\nlayout", vec!["line 6", "path", "without `..`"]),
        ("layout = \"mediamtx\"", "layout = \"x\"", vec!["line 9", "layout", "onvif"]),
        ("layout = \"mediamtx\"\n", "", vec!["line 6", "stream `main`", "layout"]),
        ("[card]", "[limits]\nmax_chunk_bytes = 9\n[card]", vec!["line 5", "max_chunk", "1024"]),
        (
            "[card]",
            "[limits]\ncard_bytes_per_second = 9\n[card]",
            vec!["line 5", "card_bytes", "0 for no limit", "65536"],
        ),
        ("root = \"/mnt/card\"\n", "", vec!["line 4", "missing field `root`"]),
        ("[card]", "[network]\nlink = \"\"\n[card]", vec!["line 5", "link", "auto", "64"]),
        ("[card]", "[broker.tls]\nca_file = \"x\"\n[card]", vec!["line 2", "broker.tls", "mqtts"]),
    ] {
        let text = SMALLEST.replace(from, to);
        assert_ne!(text, SMALLEST, "{from} is not in the text");
        let complaint = complaint(&text);
        for word in expected {
            assert!(complaint.contains(word), "{word} is not in\n{complaint}");
        }
    }
}

#[test]
fn a_link_may_have_any_name_that_a_server_takes() {
    let long = "x".repeat(MAX_LINK_BYTES);
    for name in ["depot dock", "öbb wlan", &long] {
        let text = SMALLEST.replace("[card]", &format!("[network]\nlink = \"{name}\"\n[card]"));
        let config: Config = toml::from_str(&text).unwrap();
        assert_eq!(config.network.link, LinkName::Own(name.to_owned()));
        assert!(config.effective().contains(&format!("link = \"{name}\"")));
    }
    for name in [format!("{long}x"), "a\nb".to_owned(), String::new()] {
        assert!(LinkName::try_from(name.clone()).is_err(), "{name:?}");
    }
}

#[test]
fn a_stream_id_may_stand_only_once() {
    let second = "[[stream]]\nid = \"main\"\npath = \"b\"\nlayout = \"onvif\"\n";
    let complaint = complaint(&format!("{SMALLEST}{second}"));
    assert!(complaint.contains("`main` stands twice"), "{complaint}");
    assert!(complaint.contains("line 6"), "{complaint}");
}

#[test]
fn broker_urls_are_told_apart_from_everything_else() {
    for (text, host, port) in [
        ("mqtt://10.0.0.1:1884", "10.0.0.1", 1884),
        ("mqtt://broker/", "broker", 1883),
        ("mqtt://[::1]", "[::1]", 1883),
        ("mqtt://[fe80::1%25eth0]:99", "[fe80::1%25eth0]", 99),
    ] {
        let url: BrokerUrl = text.parse().unwrap();
        assert_eq!((url.host.as_str(), url.port), (host, port), "{text}");
    }
    for text in
        ["", "mqtt://", "mqtt://:1883", "mqtt://a:b", "mqtt://::1", "mqtt://a b", "broker:1883"]
    {
        assert!(text.parse::<BrokerUrl>().is_err(), "{text}");
    }
}

#[cfg(not(feature = "tls"))]
#[test]
fn tls_is_refused_clearly_by_a_build_without_it() {
    assert!(matches!("mqtts://broker".parse::<BrokerUrl>(), Err(InvalidUrl::NoTls(_))));
}
