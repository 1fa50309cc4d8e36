//! Names and instants: what each preset reads and writes, and where daylight saving time repeats an hour.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what builds a test's cases fails as the test does"
)]

mod detection;
mod presets;

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use sdcard_indexer::layout::{Layout, LayoutConfig, LayoutError, NamedTime, Preset};
use sdcard_indexer::time::Timestamp;

const HOUR: Duration = Duration::from_secs(3_600);
const SECOND: Duration = Duration::from_secs(1);
const MICROSECOND: Duration = Duration::from_micros(1);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn named(start: &str, uncertainty: Duration, counter: Option<u32>) -> Option<NamedTime> {
    Some(NamedTime { start: at(start), uncertainty, counter })
}

#[test]
fn the_onvif_layout_is_in_utc_with_microseconds_and_a_counter() {
    let layout = Layout::onvif();
    let path = Path::new("2026-11-23/10/05-07.250000Z.3.mp4");
    assert_eq!(layout.parse(path), named("2026-11-23T10:05:07.25Z", MICROSECOND, Some(3)));
    assert_eq!(layout.path_for(at("2026-11-23T10:05:07.25Z"), 3), path);
    assert_eq!(layout.resolution(), MICROSECOND);
}

#[test]
fn the_mediamtx_layout_is_in_local_time_with_microseconds() {
    let layout = Layout::preset(Preset::MediaMtx, "Europe/Berlin").unwrap();
    let path = Path::new("2026-07-01_12-00-00-000042.mp4");
    assert_eq!(layout.parse(path), named("2026-07-01T10:00:00.000042Z", MICROSECOND, None));
    assert_eq!(layout.path_for(at("2026-07-01T10:00:00.000042999Z"), 9), path);
}

#[test]
fn the_ffmpeg_layout_is_in_local_time_with_whole_seconds() {
    let layout = Layout::preset(Preset::Ffmpeg, "Asia/Kolkata").unwrap();
    let path = Path::new("2026-07-01_12-00-00.mp4");
    assert_eq!(layout.parse(path), named("2026-07-01T06:30:00Z", SECOND, None));
    assert_eq!(layout.resolution(), SECOND);
}

#[test]
fn fewer_fraction_digits_make_the_time_less_certain() {
    let layout = Layout::preset(Preset::MediaMtx, "UTC").unwrap();
    let tenths = layout.parse(Path::new("2026-07-01_12-00-00-5.mp4"));
    assert_eq!(tenths, named("2026-07-01T12:00:00.5Z", Duration::from_millis(100), None));
    assert_eq!(layout.parse(Path::new("2026-07-01_12-00-00-1234567890.mp4")), None);
    assert_eq!(layout.parse(Path::new("2026-07-01_12-00-00-.mp4")), None);
}

#[test]
fn unix_seconds_need_no_date_and_no_time_zone() {
    let layout = Layout::new("cam/%s.%f.mp4", "America/New_York").unwrap();
    let path = Path::new("cam/1700000000.125000.mp4");
    assert_eq!(layout.parse(path), named("2023-11-14T22:13:20.125Z", MICROSECOND, None));
    assert_eq!(layout.path_for(at("2023-11-14T22:13:20.125Z"), 0), path);
    assert_eq!(layout.parse(Path::new("cam/99999999999999.0.mp4")), None, "past the year 2262");
}

#[test]
fn a_repeated_hour_is_the_earlier_one_and_an_hour_less_certain() {
    let layout = Layout::preset(Preset::Ffmpeg, "Europe/Berlin").unwrap();
    let earlier = at("2026-10-25T00:30:00Z");
    let expected = NamedTime { start: earlier, uncertainty: HOUR + SECOND, counter: None };
    for instant in [earlier, at("2026-10-25T01:30:00Z")] {
        let path = layout.path_for(instant, 0);
        assert_eq!(path, Path::new("2026-10-25_02-30-00.mp4"));
        assert_eq!(layout.parse(&path), Some(expected));
    }
}

#[test]
fn a_skipped_hour_is_taken_with_both_sides_in_doubt() {
    let layout = Layout::preset(Preset::Ffmpeg, "Europe/Berlin").unwrap();
    let skipped = layout.parse(Path::new("2026-03-29_02-30-00.mp4"));
    assert_eq!(skipped, named("2026-03-29T00:30:00Z", HOUR + SECOND, None));
}

#[test]
fn a_day_in_which_the_clock_changes_is_as_uncertain_as_it_is_long() {
    let layout = Layout::new("%Y/%m/%d.mp4", "Europe/Berlin").unwrap();
    assert_eq!(
        layout.parse(Path::new("2026/03/29.mp4")),
        named("2026-03-28T23:00:00Z", 23 * HOUR, None)
    );
    assert_eq!(
        layout.parse(Path::new("2026/10/25.mp4")),
        named("2026-10-24T22:00:00Z", 25 * HOUR, None)
    );
}

#[test]
fn a_date_said_twice_must_agree() {
    let layout = Layout::new("%Y-%m-%d/%Y%m%d%H%M.mp4", "UTC").unwrap();
    let minute = Duration::from_secs(60);
    assert_eq!(
        layout.parse(Path::new("2026-11-23/202611231005.mp4")),
        named("2026-11-23T10:05:00Z", minute, None)
    );
    assert_eq!(layout.parse(Path::new("2026-11-23/202611241005.mp4")), None);
}

#[test]
fn a_foreign_name_is_not_of_the_layout() {
    let layout = Layout::preset(Preset::Ffmpeg, "UTC").unwrap();
    for name in [
        "",
        "2026-07-01_12-00-00.mp4.tmp",
        ".2026-07-01_12-00-00.mp4",
        "x/2026-07-01_12-00-00.mp4",
        "2026-07-01_12-00-60.mp4",
        "2026-02-30_12-00-00.mp4",
        "2026-07-01_24-00-00.mp4",
        "2026-07-0١_12-00-00.mp4",
        "+026-07-01_12-00-00.mp4",
        "9999-12-31_23-59-59.mp4",
        "../2026-07-01_12-00-00.mp4",
    ] {
        assert_eq!(layout.parse(Path::new(name)), None, "{name}");
    }
}

fn refusal(template: &str) -> String {
    Layout::new(template, "UTC").unwrap_err().to_string()
}

#[test]
fn a_template_that_cannot_work_is_refused_with_what_is_allowed() {
    assert_eq!(
        refusal("%Y-%m-%d_%H-%Q.mp4"),
        "template `%Y-%m-%d_%H-%Q.mp4`: `%Q` is not known; \
         allowed are %Y %y %m %d %F %H %M %S %f %s %% ? {counter} {digits} {camera} {this|that}"
    );
    for unknown in ["{stream}", "{mp4}", "{counter", "{a|%Y}", "{a|{b}", "{}", "%é"] {
        let said = refusal(&format!("%F{unknown}"));
        assert!(said.contains("` is not known"), "{unknown}: {said}");
    }
    assert!(refusal("%F/{camera}.mp4").contains("say which by `camera = "));
    assert!(refusal("%Y%m%d%").contains("`%` is not known"));
    assert!(refusal("%Y%m%d-%M.mp4").contains("lacks %H: a finer field is there"));
    assert!(refusal("{counter}.mp4").contains("lacks %Y"));
    for escaping in ["/%s.mp4", "../%s.mp4", "a//%s", "%s/", "a/./%s", "%s\0"] {
        assert!(refusal(escaping).contains("is not a relative path"), "{escaping}");
    }
}

#[test]
fn a_template_that_could_be_read_in_two_ways_is_refused() {
    for (template, unclear) in [
        ("%s%f.mp4", "%s"),
        ("%s0.mp4", "%s"),
        ("%s?.mp4", "%s"),
        ("%s{|-}%f.mp4", "%s"),
        ("%F{digits}{|x|7}.mp4", "{digits}"),
        ("%F_{counter}{digits}.mp4", "{counter}"),
        ("%F{|1}%H.mp4", "{|1}"),
        ("%F{A|ab}Bc.mp4", "{A|ab}"),
        ("%F{|P}{|x}pq.mp4", "{|P}"),
        ("%F{|-}%s.mp4", "{|-}"),
    ] {
        let said = refusal(template);
        assert!(said.contains(&format!("where {unclear} ends cannot be told")), "{said}");
    }
    for template in ["%F{|P|PF}_.mp4", "%s{|x}-%f.mp4", "%F{a|ab}c.mp4", "%F{|x}%H.mp4"] {
        assert!(Layout::new(template, "UTC").is_ok(), "{template}");
    }
}

#[test]
fn the_longest_choice_that_fits_is_taken_and_the_first_is_written() {
    let layout = Layout::new("{RO/||RO/Old/}%F.{mp4|m4v}", "UTC").unwrap();
    for name in ["RO/2026-11-23.mp4", "2026-11-23.M4V", "ro/old/2026-11-23.mp4"] {
        assert!(layout.parse(Path::new(name)).is_some(), "{name}");
    }
    assert_eq!(layout.parse(Path::new("RO/RO/2026-11-23.mp4")), None);
    assert_eq!(layout.path_for(at("2026-11-23T10:00:00Z"), 0), Path::new("RO/2026-11-23.mp4"));
}

#[test]
fn choices_never_lead_out_of_the_root() {
    let layout = Layout::new("{a|.}{b|.}/{|../}%F.mp4", "UTC").unwrap();
    assert!(layout.parse(Path::new("ab/2026-11-23.mp4")).is_some());
    for name in ["../2026-11-23.mp4", "ab/../2026-11-23.mp4"] {
        assert_eq!(layout.parse(Path::new(name)), None, "{name}");
    }
}

#[test]
fn two_digit_years_are_those_of_this_century() {
    let layout = Layout::new("%y%m%d.mp4", "UTC").unwrap();
    for year in ["2000-01-01T00:00:00Z", "2026-11-23T00:00:00Z", "2099-12-31T00:00:00Z"] {
        let named = layout.parse(&layout.path_for(at(year), 0)).unwrap();
        assert_eq!(named.start, at(year));
    }
    let twice = Layout::new("%Y/%y%m%d.mp4", "UTC").unwrap();
    assert!(twice.parse(Path::new("2026/261123.mp4")).is_some());
    assert_eq!(twice.parse(Path::new("1926/261123.mp4")), None);
}

#[test]
fn a_time_zone_is_a_name_an_offset_or_a_rule() {
    let name = Path::new("2026-07-01_12-00-00.mp4");
    for zone in ["Europe/Berlin", "+02:00", "CET-1CEST,M3.5.0,M10.5.0/3"] {
        let layout = Layout::preset(Preset::Ffmpeg, zone).unwrap();
        assert_eq!(layout.parse(name), named("2026-07-01T10:00:00Z", SECOND, None), "{zone}");
    }
}

#[test]
fn a_doubled_percent_sign_is_a_literal_one() {
    let layout = Layout::new("100%%/%s.mp4", "UTC").unwrap();
    assert_eq!(layout.path_for(Timestamp::from_unix_seconds(5), 0), Path::new("100%/5.mp4"));
}

#[test]
fn a_time_zone_that_cannot_be_is_refused_with_what_to_do() {
    let error = Layout::preset(Preset::Ffmpeg, "Europe/Atlantis").unwrap_err();
    assert!(matches!(error, LayoutError::TimeZone { .. }));
    assert!(error.to_string().contains("`Europe/Atlantis` cannot be had"));
    let error = Layout::preset(Preset::Onvif, "Europe/Berlin").unwrap_err();
    assert!(matches!(error, LayoutError::AlwaysUtc { .. }));
}

#[test]
fn a_configuration_reads_a_layout_and_writes_it_back() {
    for text in [
        "layout = \"onvif\"\n",
        "layout = \"mediamtx\"\ntime_zone = \"Europe/Berlin\"\n",
        "template = \"%s.mp4\"\ntime_zone = \"UTC\"\n",
        "layout = \"viofo\"\ntime_zone = \"-05:00\"\ncamera = \"F\"\n",
    ] {
        let layout: Layout = toml::from_str(text).unwrap();
        assert_eq!(toml::to_string(&layout).unwrap(), text);
    }
}

#[test]
fn a_wrong_configuration_is_told_what_is_allowed() {
    let refusal = |text: &str| toml::from_str::<Layout>(text).unwrap_err().to_string();
    let presets = refusal("layout = \"hikvision\"");
    for preset in Preset::ALL {
        assert!(presets.contains(&format!("`{preset}`")), "{presets}");
    }
    let keys = refusal("zone = \"UTC\"");
    assert!(keys.contains("`layout`, `template`, `time_zone`, `camera`"), "{keys}");
    assert!(refusal("time_zone = \"UTC\"").contains("either `layout"));
    assert!(refusal("layout = \"onvif\"\ntemplate = \"%s\"").contains("either `layout"));
    assert!(toml::from_str::<LayoutConfig>("layout = 1").is_err());
}

fn any_layout() -> impl Strategy<Value = Layout> {
    let zone = prop::sample::select(vec![
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kolkata",
        "UTC",
    ]);
    let template = prop::sample::select(vec![
        Preset::Onvif.templates()[0],
        Preset::MediaMtx.templates()[0],
        Preset::Ffmpeg.templates()[0],
        "%Y/%m/%d/%H/%M.%s-%f.{ts|m2ts}",
        "{|a/|ab/}%F/{digits}_?%H%M{-|-x}{counter}_{digits}.mp4",
        "%Y%m%d%H%M.mp4",
        "%Y%m%d/%H.mp4",
        "%Y%m%d.mp4",
    ]);
    (template, zone).prop_map(|(template, zone)| Layout::new(template, zone).unwrap())
}

/// Half of them within a day of a change of New York's or Berlin's clocks in 2026.
fn any_instant() -> impl Strategy<Value = Timestamp> {
    const DAY_NS: i64 = 86_400_000_000_000;
    let changes = [
        "2026-03-08T07:00:00Z",
        "2026-03-29T01:00:00Z",
        "2026-10-25T01:00:00Z",
        "2026-11-01T06:00:00Z",
    ];
    let near_a_change = (prop::sample::select(changes.to_vec()), -DAY_NS..DAY_NS)
        .prop_map(|(change, offset)| at(change).saturating_offset(offset));
    let since_1970 = (0..i64::MAX / 10 * 9).prop_map(Timestamp::from_nanos);
    prop_oneof![near_a_change, since_1970]
}

proptest! {
    #[test]
    fn a_name_that_was_made_tells_the_instant_within_its_uncertainty(
        layout in any_layout(),
        instant in any_instant(),
        counter in any::<u32>(),
    ) {
        let path = layout.path_for(instant, counter);
        let named = layout.parse(&path).expect("a made name is of its layout");
        prop_assert!(named.start <= instant);
        prop_assert!(instant.since(named.start) < named.uncertainty);
        prop_assert!(named.uncertainty <= layout.resolution() + HOUR);
        prop_assert_eq!(named.counter.is_some(), layout.template().contains("{counter}"));
        prop_assert_eq!(named.counter.unwrap_or(counter), counter);
    }

    #[test]
    fn names_never_leave_the_root(layout in any_layout(), nanos in any::<i64>()) {
        let path = layout.path_for(Timestamp::from_nanos(nanos), 0);
        let normal = |part| matches!(part, std::path::Component::Normal(_));
        prop_assert!(path.components().all(normal));
    }

    #[test]
    fn no_name_and_no_template_panics(text in "[-/%{}|?a-zA-Z0-9_.]{0,40}|%[YFs](%[mdHMSfy]|[{]([|]?[PE/.0]){1,3}[}]|[{]counter[}]|[{]digits[}]|[?]|[-._/0a]){0,12}", layout in any_layout()) {
        let _ = layout.parse(Path::new(&text));
        if let Ok(layout) = Layout::new(&text, "UTC") {
            let path = layout.path_for(at("2026-11-23T10:05:07.25Z"), 7);
            prop_assert!(layout.parse(&path).is_some(), "{}", path.display());
        }
    }
}
