//! Samples from the middle of a file on: the same as by walking there, and what they cost.

use std::io::Cursor;

use sdcard_indexer::container::{self, MediaTime, Sample, samples_near};

use crate::ffmpeg::Source;
use crate::mpegts::OPTIONS;
use crate::reads::{counted, minute, minute_in};
use crate::summary_of;

const MS: i64 = 1_000_000;

/// Those of the primary track, which is the first here; where each is shown.
fn walked(file: &[u8]) -> Vec<(i64, Sample)> {
    let mut reader = Cursor::new(file);
    let all = container::samples(&mut reader, file.len() as u64).unwrap();
    let track = all.tracks().next().unwrap().clone();
    let of_primary = all.map(Result::unwrap).filter(|sample| sample.track == 0);
    of_primary.map(|sample| (sample.starts_at(&track).0, sample)).collect()
}

/// From `from` on, all that there are: they are the last of those that a walk finds, from a keyframe on that is shown
/// no later. Answers how many were left out.
fn goes_on_alike(file: &[u8], walked: &[(i64, Sample)], from: i64, what: &str) -> usize {
    let mut reader = Cursor::new(file);
    let near = samples_near(&mut reader, file.len() as u64, MediaTime(from)).unwrap();
    let is_from_the_first = near.is_from_the_first();
    let near: Vec<Sample> = near.map(Result::unwrap).collect();
    let left_out = walked.len().checked_sub(near.len()).unwrap();
    let rest: Vec<Sample> = walked[left_out..].iter().map(|(_, sample)| *sample).collect();
    let differs = near.iter().zip(&rest).position(|(near, walked)| near != walked);
    assert_eq!(differs, None, "{what}, from {from}");
    assert_eq!(is_from_the_first, left_out == 0, "{what}, from {from}");
    if left_out > 0 {
        let (shown, first) = walked[left_out];
        assert!(first.keyframe && shown <= from, "{what}, from {from}: {first:?}");
    }
    left_out
}

fn goes_on_alike_from_anywhere(file: &[u8], what: &str) {
    let walked = walked(file);
    assert_eq!(walked[0].0, 0, "{what}: media time begins with the first picture");
    let end = summary_of(file).unwrap().duration.as_nanos() as i64;
    let from = (0..end + 2_000 * MS).step_by(1_730 * MS as usize);
    let left_out: usize = from.map(|from| goes_on_alike(file, &walked, from, what)).sum();
    assert!(left_out > walked.len(), "{what}: nearly nothing was left out: {left_out}");
}

#[test]
fn samples_from_the_middle_of_a_file_are_those_of_a_walk() {
    for options in OPTIONS {
        let file = minute_in("ts", options);
        goes_on_alike_from_anywhere(&file, &format!("MPEG-TS {options}"));
        // Cut off within a picture, and after a while without a table.
        goes_on_alike_from_anywhere(&file[..file.len() / 3 * 2], &format!("torn {options}"));
    }
    goes_on_alike_from_anywhere(
        &minute_in("ts", "-output_ts_offset 95415.3"),
        "a clock that wraps",
    );
    for options in ["", "-movflags frag_keyframe+empty_moov+default_base_moof"] {
        goes_on_alike_from_anywhere(&minute(options), &format!("MP4 {options}"));
    }
}

#[test]
fn groups_of_pictures_longer_than_any_step_are_found_from_their_beginnings() {
    let noisy = "-stream_loop 9 -i SOURCE -vf noise=alls=40 -c:v libx264 -preset ultrafast -crf 28 \
                 -g 500 -keyint_min 500 -sc_threshold 0 -bf 2 -c:a copy";
    let file = Source::H264.made(noisy, "ts").bytes;
    let walked = walked(&file);
    let keyframes = walked.iter().filter(|(_, sample)| sample.keyframe).count();
    assert!(keyframes < 5, "{keyframes}");
    let left_out: usize = [10, 19, 21, 39, 41, 59]
        .map(|second| goes_on_alike(&file, &walked, second * 1_000 * MS, "long groups"))
        .into_iter()
        .sum();
    assert!(left_out > walked.len() / 2, "nearly nothing was left out: {left_out}");
}

/// Of a recording without keyframes for a while, and of sound alone, all that comes before is gone through.
#[test]
fn where_nothing_leads_to_the_middle_samples_come_from_the_first_on() {
    let sound = Source::H264.made("-stream_loop 9 -i SOURCE -vn -c:a copy", "ts").bytes;
    assert_eq!(goes_on_alike(&sound, &walked(&sound), 40_000 * MS, "sound"), 0);
}

#[test]
fn two_seconds_near_the_end_of_a_minute_cost_little() {
    println!("| layout | bytes read for two seconds | of a file of | reads |");
    println!("|---|---|---|---|");
    let fragmented = "-movflags frag_keyframe+empty_moov+default_base_moof";
    for (layout, file) in [
        ("MPEG-TS", minute_in("ts", "")),
        ("plain MP4", minute("")),
        ("fragmented MP4, mfra", minute(fragmented)),
    ] {
        let from = MediaTime(50_300 * MS);
        let (reads, bytes) = counted(&file, |reader, file_bytes| {
            let mut near = samples_near(reader, file_bytes, from)?;
            let track = near.track().unwrap().clone();
            let until = MediaTime(from.0 + 2_000 * MS);
            while near.next().transpose()?.is_some_and(|next| next.starts_at(&track) < until) {}
            Ok(())
        });
        println!("| {layout} | {bytes} | {} | {reads} |", file.len());
        assert!(bytes * 3 < file.len(), "{layout}: {bytes} of {}", file.len());
    }
}
