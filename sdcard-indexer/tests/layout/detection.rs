//! Which recorder a directory is of: names as recorders write them, junk, several at once, and nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sdcard_indexer::layout::{Guess, Layout, LayoutConfig, Preset, Sample, detect};
use sdcard_indexer::time::Timestamp;

use crate::at;

const MINUTE: Duration = Duration::from_secs(60);

/// A file, and when it was modified last.
type File = (PathBuf, Option<Timestamp>);

fn now() -> Timestamp {
    at("2026-11-23T12:00:00Z")
}

fn guesses(files: &[File]) -> Vec<Guess> {
    let files = files.iter().cloned();
    let samples = files.map(|(path, modified)| Sample { path, modified });
    detect(samples, now())
}

fn names(names: &[&str]) -> Vec<File> {
    names.iter().map(|name| (PathBuf::from(name), None)).collect()
}

/// So many files, one after the other without a gap, the first on the morning before.
fn recorded(layout: &Layout, below: &str, count: u32, each: Duration) -> Vec<File> {
    (0..count)
        .map(|number| {
            let start = at("2026-11-22T06:00:00Z").saturating_add(each * number);
            let name = Path::new(below).join(layout.path_for(start, number));
            // A recorder takes a moment to close a file.
            (name, Some(start.saturating_add(each + Duration::from_millis(700))))
        })
        .collect()
}

fn preset(preset: Preset, camera: Option<&str>, time_zone: &str) -> Layout {
    let time_zone = (!preset.is_always_utc()).then(|| time_zone.to_owned());
    let camera = camera.map(str::to_owned);
    LayoutConfig { layout: Some(preset), camera, time_zone, template: None }.try_into().unwrap()
}

fn has_cameras(preset: Preset) -> bool {
    preset.templates().iter().any(|text| text.contains("{camera}"))
}

/// What most recorders leave on a card besides recordings.
fn junk() -> Vec<File> {
    names(&[
        "index.db",
        "System Volume Information/WPSettings.dat",
        "DCIM/Photo/IMG_0001.JPG",
        "record/thumbs/20261123.jpg",
        "tmp.mp4.tmp",
    ])
}

#[test]
fn every_preset_is_found_by_its_own_names_below_any_root_amid_junk() {
    for expected in Preset::ALL {
        for below in ["", "record", "DCIM/Movie"] {
            let camera = has_cameras(expected).then_some("F");
            let each = if expected == Preset::Majestic { 60 * MINUTE } else { MINUTE };
            let mut files = recorded(&preset(expected, camera, "+08:00"), below, 24, each);
            files.extend(junk());
            let found = guesses(&files);
            assert_eq!(found.len(), 1, "{expected} below {below:?}: {found:?}");
            assert_eq!((found[0].preset, found[0].root.as_path()), (expected, Path::new(below)));
            assert_eq!(found[0].cameras, Vec::from_iter(camera), "{expected}");
            assert_eq!((found[0].matched, found[0].of, found[0].confidence()), (24, 24, 96));
            assert_eq!(found[0].rivals, []);
        }
    }
}

#[test]
fn each_further_form_of_a_preset_is_found_too() {
    for expected in Preset::ALL {
        for text in expected.templates() {
            let template = Some((*text).to_owned());
            let (camera, zone) = (has_cameras(expected).then_some("F"), Some("UTC".to_owned()));
            let camera = camera.map(str::to_owned);
            let config = LayoutConfig { template, camera, time_zone: zone, layout: None };
            let layout = Layout::try_from(config).unwrap();
            let found = guesses(&recorded(&layout, "x", 12, 60 * MINUTE));
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert_eq!((found[0].preset, found[0].matched), (expected, 12), "{text}");
        }
    }
}

#[test]
fn modification_times_tell_the_time_zone_of_the_names() {
    for (zone, minutes, written) in [
        ("UTC", 0, "UTC"),
        ("+08:00", 480, "+08:00"),
        ("-03:30", -210, "-03:30"),
        ("Asia/Kathmandu", 345, "+05:45"),
    ] {
        for (layout, each) in [
            (Preset::Raptor, MINUTE),
            (Preset::Raptor, 15 * MINUTE),
            (Preset::Majestic, 60 * MINUTE),
        ] {
            if layout == Preset::Majestic && minutes % 60 != 0 {
                continue; // The rig's hours begin with those of UTC.
            }
            let found = guesses(&recorded(&preset(layout, None, zone), "", 20, each));
            assert_eq!(
                found[0].utc_offset_minutes,
                Some(minutes),
                "{layout} of {each:?} in {zone}"
            );
            assert_eq!(found[0].configs()[0].time_zone.as_deref(), Some(written));
            let layout = Layout::try_from(found[0].configs()[0].clone()).unwrap();
            let first = layout.parse(&recorded(&layout, "", 1, each)[0].0).unwrap();
            assert_eq!(first.start, at("2026-11-22T06:00:00Z"));
        }
    }
}

#[test]
fn clips_with_pauses_between_them_tell_the_time_zone_too() {
    let layout = preset(Preset::Raptor, None, "+01:00");
    let clips: Vec<File> = (0_u32..30)
        .map(|number| {
            let start =
                at("2026-11-22T06:00:00Z").saturating_add(MINUTE * (number * number + number * 7));
            let modified = start.saturating_add(Duration::from_secs(5 + u64::from(number % 7)));
            (layout.path_for(start, 0), Some(modified))
        })
        .collect();
    assert_eq!(guesses(&clips)[0].utc_offset_minutes, Some(60));
}

#[test]
fn modification_times_of_a_careless_copy_tell_nothing() {
    let layout = preset(Preset::Raptor, None, "+01:00");
    let mut files = recorded(&layout, "", 600, MINUTE);
    for (number, (_, modified)) in files.iter_mut().enumerate() {
        *modified = Some(now().saturating_sub(Duration::from_secs(600 - number as u64)));
    }
    let copied = &guesses(&files)[0];
    assert_eq!((copied.preset, copied.utc_offset_minutes), (Preset::Raptor, None));
    assert_eq!(copied.configs()[0].time_zone, None);
    for (_, modified) in &mut files {
        *modified = None;
    }
    assert_eq!(guesses(&files)[0].utc_offset_minutes, None);
}

#[test]
fn two_recorders_on_one_card_are_two_guesses_with_a_root_each() {
    let mut files = recorded(&preset(Preset::Raptor, None, "UTC"), "", 30, MINUTE);
    files.extend(recorded(&preset(Preset::Raptor, None, "UTC"), "clips", 10, MINUTE));
    files.extend(recorded(&preset(Preset::Wyze, None, "UTC"), "record", 20, MINUTE));
    let found: Vec<_> = guesses(&files)
        .into_iter()
        .map(|guess| (guess.preset, guess.root, guess.matched, guess.of))
        .collect();
    assert_eq!(
        found,
        [
            (Preset::Raptor, PathBuf::new(), 30, 30),
            (Preset::Wyze, PathBuf::from("record"), 20, 20),
            (Preset::Raptor, PathBuf::from("clips"), 10, 10),
        ]
    );
}

#[test]
fn two_layouts_in_one_directory_are_told_as_rivals_where_they_are_equal() {
    let ffmpeg = recorded(&preset(Preset::Ffmpeg, None, "UTC"), "", 10, MINUTE);
    let mediamtx = recorded(&preset(Preset::MediaMtx, None, "UTC"), "", 10, MINUTE);
    let found = guesses(&[ffmpeg.clone(), mediamtx.clone()].concat());
    assert_eq!(found.len(), 2);
    for (guess, rival) in found.iter().zip(found.iter().rev()) {
        assert_eq!((guess.matched, guess.of), (10, 20));
        assert_eq!(guess.rivals, [rival.preset]);
        assert!(guess.reason().contains(&format!("could as well be {}", rival.preset)));
    }

    let found = guesses(&[&ffmpeg[..9], &mediamtx].concat());
    assert_eq!((found[0].preset, found[0].rivals.as_slice()), (Preset::MediaMtx, [].as_slice()));
    assert_eq!(found[1].rivals, [Preset::MediaMtx]);
}

#[test]
fn cameras_that_share_a_directory_are_told_apart() {
    let mut files = Vec::new();
    for camera in ["R", "F", "I"] {
        files.extend(recorded(
            &preset(Preset::Viofo, Some(camera), "-05:00"),
            "DCIM/Movie",
            20,
            MINUTE,
        ));
    }
    let parked = preset(Preset::Viofo, Some("F"), "-05:00").path_for(now(), 7);
    let parked = parked.to_str().unwrap().replace('F', "PF");
    files.push((Path::new("DCIM/Movie/Parking").join(parked), None));
    let found = guesses(&files);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].cameras, ["F", "I", "R"]);
    assert_eq!(found[0].utc_offset_minutes, Some(-300));
    assert_eq!((found[0].matched, found[0].repeated), (61, 0));
    let configs = found[0].configs();
    let cameras: Vec<_> = configs.iter().filter_map(|config| config.camera.as_deref()).collect();
    assert_eq!(cameras, ["F", "I", "R"]);
    for config in configs {
        Layout::try_from(config).unwrap();
    }
}

#[test]
fn foreign_recordings_future_names_and_few_files_convince_less() {
    let layout = preset(Preset::Ffmpeg, None, "UTC");
    let one = guesses(&recorded(&layout, "", 1, MINUTE));
    assert_eq!(one[0].confidence(), 50);

    let mut files = recorded(&layout, "", 49, MINUTE);
    files.extend((0..49).map(|number| (PathBuf::from(format!("holiday{number}.mov")), None)));
    let mixed = &guesses(&files)[0];
    assert_eq!((mixed.matched, mixed.of, mixed.confidence()), (49, 98, 49));
    assert_eq!(
        mixed.reason(),
        "49 of 98 recordings are named so; they are in UTC, by the files' modification times"
    );

    let later = at("2031-01-01T00:00:00Z");
    let future: Vec<File> =
        (0..9).map(|n| (layout.path_for(later.saturating_add(MINUTE * n), 0), None)).collect();
    let future = &guesses(&future)[0];
    assert_eq!((future.future, future.confidence()), (9, 0));
    assert!(future.reason().contains("9 of them in the future"));
}

#[test]
fn names_that_tell_one_instant_twice_convince_less() {
    let twice = names(&["2026-11-23_08-00-07.mp4", "2026-11-23_08-00-07.ts"]);
    let guess = &guesses(&twice)[0];
    assert_eq!((guess.matched, guess.repeated, guess.confidence()), (2, 1, 33));
    assert!(guess.reason().contains("1 of them like another"));
}

#[test]
fn no_name_that_fits_is_no_guess() {
    assert_eq!(guesses(&[]), []);
    assert_eq!(guesses(&junk()), []);
    assert_eq!(guesses(&names(&["a.mp4", "GOPR0001.MP4", "2026.mp4", "x/y/20261399_0_F.MP4"])), []);
}

#[test]
fn a_stream_that_comes_after_many_others_is_found_too_and_counts_add_up() {
    let (raptor, wyze) =
        (preset(Preset::Raptor, None, "UTC"), preset(Preset::Wyze, None, "+01:00"));
    let mut files = recorded(&raptor, "main", 10_000, Duration::from_secs(10));
    files.extend(recorded(&wyze, "record", 20, MINUTE));
    let found = guesses(&files);
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].preset, found[0].matched, found[0].of), (Preset::Raptor, 10_000, 10_000));
    assert_eq!((found[0].repeated, found[0].utc_offset_minutes), (0, Some(0)));
    assert_eq!((found[1].preset, found[1].matched), (Preset::Wyze, 20));
    assert_eq!(found[1].utc_offset_minutes, Some(60));
}
