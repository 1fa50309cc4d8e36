//! Recordings of which something is missing, down to one group of pictures.

use std::fs;

use tests::naming::Naming;

use crate::recorder::{COUNTING_ON, FROM_ZERO, H264, Recordings, camera};

const CONTAINERS: [(&str, &str); 4] = [
    ("mp4", "-segment_format mp4"),
    ("mp4", "-segment_format mp4 -segment_format_options movflags=+frag_keyframe+delay_moov"),
    ("ts", "-segment_format mpegts"),
    ("mkv", "-segment_format matroska"),
];

/// Files of one group of pictures each, `group` seconds long, of which the fifth is lost.
fn holes(group: u32, container: (&str, &str), clock: &str, naming: Naming) -> Vec<(f64, f64)> {
    let recordings = Recordings::new();
    let (extension, muxer) = container;
    let frames = group * 25;
    let arguments = format!(
        "{} {H264}:keyint={frames}:min-keyint={frames} -segment_time {group} {muxer} {clock}",
        camera(10 * group)
    );
    let files = recordings.record("run", &arguments, extension);
    assert_eq!(files.len(), 10);
    let (kept, lost): (Vec<_>, Vec<_>) =
        files.into_iter().enumerate().partition(|(number, _)| *number != 4);
    recordings.name_all(&kept.into_iter().map(|(_, file)| file).collect::<Vec<_>>(), naming);
    lost.iter().for_each(|(_, file)| fs::remove_file(&file.path).unwrap());
    recordings.holes(naming)
}

/// One hole, of which each edge is known to within `exact` seconds.
fn is_the_lost_group(holes: &[(f64, f64)], group: u32, exact: f64) -> bool {
    let lost = (f64::from(4 * group), f64::from(5 * group));
    matches!(holes, [(start, end)] if (start - lost.0).abs() < exact && (end - lost.1).abs() < exact)
}

#[test]
fn a_lost_group_of_one_second_is_a_hole() {
    for clock in [FROM_ZERO, COUNTING_ON] {
        for container in CONTAINERS {
            let holes = holes(1, container, clock, Naming::MediaMtx);
            assert!(is_the_lost_group(&holes, 1, 0.05), "{container:?} {clock}: {holes:?}");
        }
    }
}

#[test]
fn a_lost_group_of_one_second_is_a_hole_under_names_in_seconds_where_time_stamps_count_on() {
    for container in CONTAINERS {
        let holes = holes(1, container, COUNTING_ON, Naming::WholeSeconds);
        assert!(is_the_lost_group(&holes, 1, 1.0), "{container:?}: {holes:?}");
    }
}

#[test]
fn a_lost_group_of_two_seconds_is_a_hole_under_names_in_seconds() {
    for clock in [FROM_ZERO, COUNTING_ON] {
        for container in CONTAINERS {
            let holes = holes(2, container, clock, Naming::WholeSeconds);
            assert!(is_the_lost_group(&holes, 2, 1.0), "{container:?} {clock}: {holes:?}");
        }
    }
}

/// A limit: names in seconds and files that begin at zero leave a second open, and the tolerance besides.
#[test]
fn a_lost_group_of_one_second_is_not_seen_under_names_in_seconds_where_files_begin_at_zero() {
    for container in CONTAINERS {
        assert_eq!(holes(1, container, FROM_ZERO, Naming::WholeSeconds), [], "{container:?}");
    }
}

#[test]
fn a_recorder_that_is_away_for_a_second_leaves_a_hole() {
    for container in CONTAINERS {
        let recordings = Recordings::new();
        let (extension, muxer) = container;
        for (run, start_s) in [("first", 0), ("second", 5)] {
            let arguments = format!("{} {H264} -segment_time 2 {muxer}", camera(4));
            for mut file in recordings.record(run, &arguments, extension) {
                file.start += std::time::Duration::from_secs(start_s);
                recordings.name(&file, Naming::MediaMtx, std::time::Duration::ZERO);
            }
        }
        let holes = recordings.holes(Naming::MediaMtx);
        assert!(matches!(holes[..], [(4.0..=4.05, 4.99..=5.01)]), "{container:?}: {holes:?}");
    }
}
