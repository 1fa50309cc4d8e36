//! Recordings of which nothing is missing, and which look as if.

use std::fs;
use std::time::Duration;

use tests::naming::Naming;

use crate::recorder::{COUNTING_ON, FROM_ZERO, File, H264, Recordings, camera, ffmpeg};

const NONE: [(f64, f64); 0] = [];

/// How every container is written: extension, and arguments of the muxer.
const CONTAINERS: [(&str, &str); 4] = [
    ("mp4", "-segment_format mp4"),
    ("mp4", "-segment_format mp4 -segment_format_options movflags=+frag_keyframe+delay_moov"),
    ("ts", "-segment_format mpegts"),
    ("mkv", "-segment_format matroska"),
];

fn seconds_of(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Segments of two seconds.
fn recorded(
    recordings: &Recordings,
    more: &str,
    container: (&str, &str),
    clock: &str,
) -> Vec<File> {
    let (extension, muxer) = container;
    let arguments = format!("{} {H264}{more} -segment_time 2 {muxer} {clock}", camera(12));
    recordings.record("run", &arguments, extension)
}

#[test]
fn segments_that_are_named_late_by_less_than_the_tolerance_leave_no_hole() {
    for container in CONTAINERS {
        let recordings = Recordings::new();
        for (number, file) in recorded(&recordings, "", container, FROM_ZERO).iter().enumerate() {
            let late = [0, 450, 20, 380, 90, 10][number % 6];
            recordings.name(file, Naming::MediaMtx, seconds_of(late));
        }
        assert_eq!(recordings.holes(Naming::MediaMtx), NONE, "{container:?}");
    }
}

#[test]
fn segments_that_are_named_later_still_leave_none_where_time_stamps_count_on() {
    for container in CONTAINERS {
        let recordings = Recordings::new();
        for (number, file) in recorded(&recordings, "", container, COUNTING_ON).iter().enumerate() {
            let late = [0, 1_700, 20, 900, 90, 1_300][number % 6];
            recordings.name(file, Naming::MediaMtx, seconds_of(late));
        }
        assert_eq!(recordings.holes(Naming::MediaMtx), NONE, "{container:?}");
    }
}

#[test]
fn names_in_whole_seconds_leave_none() {
    for clock in [FROM_ZERO, COUNTING_ON] {
        for container in CONTAINERS {
            let recordings = Recordings::new();
            // Of 29.97 frames a second, so that each segment begins at another fraction of a second.
            let rate = " -r 30000/1001";
            let files = recorded(&recordings, rate, container, clock);
            recordings.name_all(&files, Naming::WholeSeconds);
            assert_eq!(recordings.holes(Naming::WholeSeconds), NONE, "{container:?} {clock}");
        }
    }
}

#[test]
fn a_rate_that_is_declared_wrong_leaves_none() {
    // The stream itself says 30 to the player, and means 20.
    let declared = ":fps=30/1:force-cfr=1 -r 20";
    for clock in [FROM_ZERO, COUNTING_ON] {
        for container in CONTAINERS {
            let recordings = Recordings::new();
            let files = recorded(&recordings, declared, container, clock);
            recordings.name_all(&files, Naming::MediaMtx);
            assert_eq!(recordings.holes(Naming::MediaMtx), NONE, "{container:?} {clock}");
        }
    }
}

/// Twenty frames a second that a recorder counts as 25: 48 seconds for every minute.
fn miscounted(recordings: &Recordings, clock: &str) {
    let raw = recordings.directory.path().join("camera.h264");
    let raw_path = raw.display().to_string();
    let camera = format!("{} {H264} -r 20 -f h264 {raw_path}", camera(20));
    ffmpeg(camera.split_whitespace());
    let arguments = format!(
        "-r 25 -f h264 -i {raw_path} -c copy -segment_time 4 -segment_format mpegts {clock}"
    );
    for file in recordings.record("run", &arguments, "ts") {
        let start = file.start.mul_f64(25.0 / 20.0);
        recordings.name(&File { start, ..file }, Naming::MediaMtx, Duration::ZERO);
    }
    fs::remove_file(raw).unwrap();
}

#[test]
fn frames_that_are_counted_at_a_wrong_rate_leave_none_where_time_stamps_count_on() {
    let recordings = Recordings::new();
    miscounted(&recordings, COUNTING_ON);
    assert_eq!(recordings.holes(Naming::MediaMtx), NONE);
}

/// A limit: such files say nothing else than that a second is missing behind every four.
#[test]
fn frames_that_are_counted_at_a_wrong_rate_from_zero_in_each_file_leave_holes_that_are_none() {
    let recordings = Recordings::new();
    miscounted(&recordings, FROM_ZERO);
    let holes = recordings.holes(Naming::MediaMtx);
    assert_eq!(holes.len(), 3, "{holes:?}");
    assert!(holes.iter().all(|(start, end)| (end - start - 1.0).abs() < 0.1), "{holes:?}");
}

#[test]
fn frames_out_of_order_and_open_groups_leave_none() {
    let h264 = "-c:v libx264 -preset ultrafast -crf 30 -x264-params \
         bframes=3:b-adapt=0:keyint=25:min-keyint=25:scenecut=0:open-gop=1";
    let h265 = "-c:v libx265 -preset ultrafast -crf 30 -tag:v hvc1 -x265-params \
         log-level=error:bframes=4:b-adapt=0:keyint=25:min-keyint=25:scenecut=0:open-gop=1";
    for encoder in [h264, h265] {
        for clock in [FROM_ZERO, COUNTING_ON] {
            for container in CONTAINERS {
                let recordings = Recordings::new();
                let files = recorded(&recordings, &format!(" {encoder}"), container, clock);
                recordings.name_all(&files, Naming::MediaMtx);
                assert_eq!(recordings.holes(Naming::MediaMtx), NONE, "{container:?} {clock}");
            }
        }
    }
}

#[test]
fn sound_that_ends_before_the_picture_leaves_none() {
    for (extension, muxer) in CONTAINERS {
        let recordings = Recordings::new();
        let sound = "-f lavfi -i sine=sample_rate=48000 -filter_complex [1:a]atrim=0:1.1[a] \
             -map 0:v -map [a] -c:a aac";
        for number in 0..4_u64 {
            let path = recordings.directory.path().join(format!("{number}.{extension}"));
            let muxer = muxer.replace("-segment_format_options movflags=", "-movflags ");
            let muxer = muxer.replace("-segment_format", "-f");
            // The camera's picture is the first input.
            let (input, output) =
                ("-f lavfi -i testsrc2=size=160x90:rate=25", "-t 2 -pix_fmt yuv420p");
            let arguments = format!("{input} {sound} {output} {H264} {muxer}");
            let path_text = path.display().to_string();
            ffmpeg(arguments.split_whitespace().chain([path_text.as_str()]));
            let file = File { path, start: seconds_of(2_000 * number) };
            recordings.name(&file, Naming::MediaMtx, Duration::ZERO);
        }
        assert_eq!(recordings.holes(Naming::MediaMtx), NONE, "{extension} {muxer}");
    }
}

#[test]
fn a_frame_rate_that_follows_the_picture_leaves_none() {
    // Four seconds of 25 frames, four of one.
    let slow = "-vf select='lt(mod(t,8),4)+not(mod(n,25))' -fps_mode vfr";
    for clock in [FROM_ZERO, COUNTING_ON] {
        for container in CONTAINERS {
            let recordings = Recordings::new();
            let (extension, muxer) = container;
            let arguments = format!("{} {H264} {slow} -segment_time 6 {muxer} {clock}", camera(24));
            let files = recordings.record("run", &arguments, extension);
            recordings.name_all(&files, Naming::MediaMtx);
            assert_eq!(recordings.holes(Naming::MediaMtx), NONE, "{container:?} {clock}");
        }
    }
}

#[test]
fn one_frame_a_second_leaves_none() {
    let encoder = format!("{H264}:keyint=4:min-keyint=4");
    for clock in [FROM_ZERO, COUNTING_ON] {
        for container in CONTAINERS {
            let recordings = Recordings::new();
            let (extension, muxer) = container;
            let arguments =
                format!("{} {encoder} -r 1 -segment_time 4 {muxer} {clock}", camera(24));
            let files = recordings.record("run", &arguments, extension);
            recordings.name_all(&files, Naming::MediaMtx);
            assert_eq!(recordings.holes(Naming::MediaMtx), NONE, "{container:?} {clock}");
        }
    }
}

#[test]
fn a_restart_that_loses_300_milliseconds_leaves_none() {
    for container in CONTAINERS {
        let recordings = Recordings::new();
        let (extension, muxer) = container;
        for (run, start_ms) in [("first", 0), ("second", 4_300)] {
            let arguments = format!("{} {H264} -segment_time 2 {muxer}", camera(4));
            for file in recordings.record(run, &arguments, extension) {
                let start = file.start + seconds_of(start_ms);
                recordings.name(&File { start, ..file }, Naming::MediaMtx, Duration::ZERO);
            }
        }
        assert_eq!(recordings.holes(Naming::MediaMtx), NONE, "{container:?}");
    }
}
