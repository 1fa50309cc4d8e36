//! What each preset reads, from names that its source gives, and what it leaves alone.

use std::path::Path;
use std::time::Duration;

use sdcard_indexer::layout::{Layout, LayoutConfig, LayoutError, Preset};
use sdcard_indexer::time::Timestamp;

use crate::at;

fn layout(preset: Preset, camera: Option<&str>, time_zone: Option<&str>) -> Layout {
    let (camera, time_zone) = (camera.map(str::to_owned), time_zone.map(str::to_owned));
    let config = LayoutConfig { layout: Some(preset), camera, time_zone, ..Default::default() };
    config.try_into().unwrap()
}

/// In UTC+8 where the preset leaves the time zone open: names are not then taken for UTC by chance.
fn of(preset: Preset, camera: Option<&str>) -> Layout {
    layout(preset, camera, (!preset.is_always_utc()).then_some("+08:00"))
}

/// A name, the instant that it tells, and how many seconds it leaves open.
type Named<'a> = (&'a str, &'a str, u64);

fn assert_reads(layout: &Layout, names: &[Named<'_>]) {
    for (name, start, uncertainty_s) in names {
        let named = layout.parse(Path::new(name)).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(named.start, at(start), "{name}");
        assert_eq!(named.uncertainty, Duration::from_secs(*uncertainty_s), "{name}");
    }
}

fn assert_leaves_alone(layout: &Layout, names: &[&str]) {
    for name in names {
        assert_eq!(layout.parse(Path::new(name)), None, "{name}");
    }
}

#[test]
fn mediamtx_names_fragmented_mp4_and_transport_streams_by_date_or_by_unix_seconds() {
    let layout = of(Preset::MediaMtx, None);
    for name in ["2023-11-15_06-13-20-125000", "1700000000-125000"] {
        for extension in ["mp4", "ts"] {
            let path = format!("{name}.{extension}");
            let named = layout.parse(Path::new(&path)).unwrap();
            assert_eq!(named.start, at("2023-11-14T22:13:20.125Z"), "{path}");
            assert_eq!(named.uncertainty, Duration::from_micros(1), "{path}");
        }
    }
    assert_leaves_alone(&layout, &["1700000000.mp4", "1700000000-125000.mkv"]);
}

#[test]
fn ffmpeg_names_whatever_it_muxes() {
    let layout = of(Preset::Ffmpeg, None);
    for extension in ["mp4", "ts", "mkv"] {
        let name = format!("2026-11-23_08-00-07.{extension}");
        assert_reads(&layout, &[(&name, "2026-11-23T00:00:07Z", 1)]);
    }
    assert_leaves_alone(&layout, &["2026-11-23_08-00-07.jpg", "2026-11-23_08-00-07.mp4.part"]);
}

#[test]
fn majestic_names_hours_or_minutes() {
    assert_reads(
        &of(Preset::Majestic, None),
        &[
            ("2026-08-12/20.mp4", "2026-08-12T12:00:00Z", 3_600),
            ("2026-08-12/20-05.mp4", "2026-08-12T12:05:00Z", 60),
        ],
    );
}

#[test]
fn thingino_names_twice_or_once() {
    let layout = of(Preset::Thingino, None);
    assert_reads(
        &layout,
        &[
            ("20260812/20/20260812T200507.mp4", "2026-08-12T12:05:07Z", 1),
            ("2026/08/12/20-05-07.mp4", "2026-08-12T12:05:07Z", 1),
        ],
    );
    assert_leaves_alone(
        &layout,
        &["20260812/21/20260812T200507.mp4", "20260812/20260812T200507.jpg"],
    );
}

#[test]
fn raptor_names_a_directory_a_day() {
    let layout = of(Preset::Raptor, None);
    assert_reads(&layout, &[("2026-08-12/20-05-07.mp4", "2026-08-12T12:05:07Z", 1)]);
    assert_leaves_alone(&layout, &["clips/2026-08-12/20-05-07.mp4"]);
}

#[test]
fn frigate_names_in_utc_one_camera_beside_the_other() {
    let layout = of(Preset::Frigate, Some("front_door"));
    let name = "2026-08-12/20/front_door/05.07.mp4";
    assert_reads(&layout, &[(name, "2026-08-12T20:05:07Z", 1)]);
    assert_leaves_alone(&layout, &["2026-08-12/20/front_door_2/05.07.mp4"]);
    assert_eq!(layout.path_for(at("2026-08-12T20:05:07Z"), 0), Path::new(name));
}

#[test]
fn yi_cameras_name_with_the_length_and_sometimes_with_a_kind() {
    let layout = of(Preset::Yi, None);
    let start = "2023-08-17T23:02:05Z";
    assert_reads(
        &layout,
        &[
            ("2023Y08M18D07H/02M05S55.mp4", start, 1),
            ("2023Y08M18D07H/W802M05S59.mp4", start, 1),
            ("2023Y08M18D07H/E102M05S55.mp4", start, 1),
            ("2023Y08M18D07H/02M05S.mp4", start, 1),
        ],
    );
    assert_leaves_alone(
        &layout,
        &["tmp.mp4.tmp", "2023Y08M18D07H/02M05S55.jpg", "2023Y08M18D07H/W8x02M05S59.mp4"],
    );
}

#[test]
fn wyze_names_minutes() {
    assert_reads(&of(Preset::Wyze, None), &[("20240229/07/59.mp4", "2024-02-28T23:59:00Z", 60)]);
}

#[test]
fn xiaomi_names_tell_unix_seconds_whatever_the_time_zone_is() {
    let name = "2025051223/52M00S_1747065120.mp4";
    for zone in ["+08:00", "America/New_York"] {
        let layout = layout(Preset::Xiaomi, None, Some(zone));
        assert_reads(&layout, &[(name, "2025-05-12T15:52:00Z", 1)]);
    }
}

#[test]
fn viofo_names_each_camera_in_three_directories() {
    let front = of(Preset::Viofo, Some("F"));
    let start = "2025-06-19T12:41:41Z";
    assert_reads(
        &front,
        &[
            ("2025_0619_204141_000001F.MP4", start, 1),
            ("RO/2025_0619_204141_000001EF.MP4", start, 1),
            ("Parking/2025_0619_204141_0002PF.MP4", start, 1),
            ("20250619204141_000001F.MP4", start, 1),
            ("ro/2025_0619_204141_000001f.ts", start, 1),
        ],
    );
    assert_leaves_alone(&front, &["2025_0619_204141_000002I.MP4", "2025_0619_204141_000001F.JPG"]);
    let named = front.parse(Path::new("2025_0619_204141_000017F.MP4")).unwrap();
    assert_eq!(named.counter, Some(17));
    let telephoto_parking = Path::new("Parking/2025_0619_204141_000004PT.MP4");
    assert!(of(Preset::Viofo, Some("T")).parse(telephoto_parking).is_some());
}

#[test]
fn nextbase_names_have_a_two_digit_year_and_a_quality() {
    let name = "240915_143027_001_FH.MP4";
    assert_reads(&of(Preset::Nextbase, Some("FH")), &[(name, "2024-09-15T06:30:27Z", 1)]);
    assert_leaves_alone(&of(Preset::Nextbase, Some("FL")), &[name]);
}

#[test]
fn vantrue_names_say_the_directory_again() {
    let layout = of(Preset::Vantrue, Some("A"));
    assert_reads(
        &layout,
        &[
            ("Normal/20260904_175735_00001_N_A.MP4", "2026-09-04T09:57:35Z", 1),
            ("Parking/20260904_175735_0001_P_A.MP4", "2026-09-04T09:57:35Z", 1),
            ("20260904_175735_0001_N_A.MP4", "2026-09-04T09:57:35Z", 1),
        ],
    );
    assert_leaves_alone(&layout, &["Normal/20260904_175735_00001_N_C.MP4"]);
}

#[test]
fn every_preset_reads_what_it_writes_and_goes_by_the_name_that_is_configured() {
    let instant = at("2026-11-23T10:05:07.25Z");
    for preset in Preset::ALL {
        let camera = preset.templates().iter().any(|text| text.contains("{camera}"));
        let layout = of(preset, camera.then_some("Back_2"));
        let named = layout.parse(&layout.path_for(instant, 3)).unwrap();
        assert!(
            named.start <= instant && instant.since(named.start) < named.uncertainty,
            "{preset}"
        );
        let config: LayoutConfig = toml::from_str(&format!("layout = \"{preset}\"")).unwrap();
        assert_eq!(config.layout, Some(preset));
    }
}

#[test]
fn no_name_is_of_two_forms_of_a_preset() {
    for preset in Preset::ALL {
        let forms: Vec<Layout> = preset
            .templates()
            .iter()
            .map(|text| {
                let (template, time_zone) = (Some((*text).to_owned()), Some("UTC".to_owned()));
                let camera = text.contains("{camera}").then(|| "F".to_owned());
                LayoutConfig { template, time_zone, camera, layout: None }.try_into().unwrap()
            })
            .collect();
        for form in &forms {
            let name = form.path_for(Timestamp::from_unix_seconds(1_700_000_000), 5);
            let reading = forms.iter().filter(|form| form.parse(&name).is_some());
            assert_eq!(reading.count(), 1, "{preset}: {}", name.display());
        }
    }
}

#[test]
fn which_camera_is_said_where_there_are_several_and_only_there() {
    let config = |preset, camera: Option<&str>| {
        let camera = camera.map(str::to_owned);
        Layout::try_from(LayoutConfig { layout: Some(preset), camera, ..Default::default() })
    };
    assert!(matches!(config(Preset::Viofo, None), Err(LayoutError::WhichCamera { .. })));
    assert!(matches!(config(Preset::Raptor, Some("F")), Err(LayoutError::NoCamera { .. })));
    assert!(matches!(config(Preset::Viofo, Some("../F")), Err(LayoutError::Camera(_))));
    // `{|P|E}` before it takes the P, and a digit would be one more of the counter's.
    for camera in ["PF", "e", "2nd"] {
        let refused = config(Preset::Viofo, Some(camera));
        assert!(matches!(refused, Err(LayoutError::Endless { .. })), "{camera}: {refused:?}");
    }
}
