//! Recordings that end where they should not, and files that hold two of them.

use std::io;
use std::ops::Range;

use sdcard_indexer::container::{self, ContainerError, MediaTime, TrackKind};

use crate::ffmpeg::Source;
use crate::fixtures::{self, top_level};
use crate::{keyframes_of, samples_of, summary_of};

/// Ends of all that a file may be cut at without being torn: any box, but a `moof` with its `mdat` only.
fn whole_ends(file: &[u8]) -> Vec<u64> {
    let boxes = top_level(file);
    boxes.iter().filter(|(kind, _)| kind != "moof").map(|(_, range)| range.end as u64).collect()
}

#[test]
fn a_fragmented_recording_cut_at_any_byte_keeps_its_whole_fragments() {
    for file in [fixtures::H264_AAC_FRAGMENTED, fixtures::H264_BFRAMES_EVERY_FRAME] {
        let ends = whole_ends(file);
        let all_samples = samples_of(file).unwrap();
        let moov_end =
            top_level(file).iter().find(|(kind, _)| kind == "moov").unwrap().1.end as u64;
        let first_media = ends.iter().position(|end| *end > moov_end).map(|at| ends[at]).unwrap();
        for length in 1..=file.len() as u64 {
            let cut = &file[..length as usize];
            let summary = match summary_of(cut) {
                Ok(summary) => summary,
                Err(ContainerError::NotRecognised) if length < 8 => continue,
                Err(ContainerError::NoIndex) if length < moov_end => continue,
                Err(ContainerError::NoSamples) if length < first_media => continue,
                Err(error) => panic!("cut at {length}: {error}"),
            };
            let whole = *ends.iter().rfind(|end| **end <= length).unwrap();
            assert_eq!(summary.whole_bytes, whole, "cut at {length}");
            assert_eq!(summary.torn, length != whole, "cut at {length}");
            assert_eq!(summary.recordings, 1, "cut at {length}");

            let mut expected = all_samples.clone();
            expected.retain(|(_, sample)| sample.end_offset() <= whole);
            assert!(samples_of(cut).unwrap() == expected, "cut at {length}");
            let video = expected.iter().filter(|(track, _)| track.kind == TrackKind::Video);
            let end = video.map(|(track, sample)| sample.ends_at(track)).max().unwrap();
            assert_eq!(summary.duration.as_nanos(), end.0 as u128, "cut at {length}");
        }
    }
}

#[test]
fn a_plain_recording_cut_before_its_index_has_none() {
    let file = fixtures::H264_BFRAMES_AAC_PLAIN;
    for length in 8..file.len() {
        assert!(matches!(summary_of(&file[..length]), Err(ContainerError::NoIndex)), "{length}");
    }
}

#[test]
fn a_plain_recording_whose_index_comes_first_keeps_the_samples_before_the_cut() {
    let file = fixtures::H265_AAC_FASTSTART;
    let all_samples = samples_of(file).unwrap();
    let first = all_samples.iter().map(|(_, sample)| sample.end_offset()).min().unwrap();
    for length in first..file.len() as u64 {
        let cut = &file[..length as usize];
        let mut expected = all_samples.clone();
        expected.retain(|(_, sample)| sample.end_offset() <= length);
        assert!(samples_of(cut).unwrap() == expected, "cut at {length}");
        let video = expected.iter().filter(|(track, _)| track.kind == TrackKind::Video);
        let whole = video.map(|(_, sample)| sample.end_offset()).max().unwrap();
        let summary = summary_of(cut).unwrap();
        assert_eq!((summary.whole_bytes, summary.torn), (whole, true), "cut at {length}");
    }
}

#[test]
fn a_tail_of_zeroes_that_a_recorder_preallocated_is_torn_off() {
    for file in fixtures::ALL {
        let whole = summary_of(file).unwrap();
        let mut padded = file.to_vec();
        padded.resize(file.len() + 5000, 0);
        let expected = container::Summary { torn: true, ..whole };
        assert_eq!(summary_of(&padded).unwrap(), expected);
    }
}

#[test]
fn a_fragment_that_cannot_be_read_ends_the_recording_before_it() {
    let file = fixtures::H264_AAC_FRAGMENTED;
    let moofs: Vec<Range<usize>> =
        top_level(file).into_iter().filter(|(kind, _)| kind == "moof").map(|(_, r)| r).collect();
    let mut damaged = file.to_vec();
    // The size of `mfhd`, the first box in the third fragment's moof.
    damaged[moofs[2].start + 8..moofs[2].start + 12].fill(0xff);
    let summary = summary_of(&damaged).unwrap();
    assert_eq!((summary.whole_bytes, summary.torn), (moofs[2].start as u64, true));
    assert_eq!(keyframes_of(&damaged).unwrap(), keyframes_of(file).unwrap()[..2]);
}

#[test]
fn what_is_no_recording_is_told_apart() {
    assert!(matches!(summary_of(&[]), Err(ContainerError::Empty)));
    for garbage in [&b"a"[..], b"#!/bin/sh\nexit\n", &[0; 5000], &[0x47; 1880], b"RIFF....AVI LIST"]
    {
        assert!(matches!(summary_of(garbage), Err(ContainerError::NotRecognised)));
    }
    let init = fixtures::H264_AAC_FRAGMENTED;
    let media = top_level(init).iter().find(|(kind, _)| kind == "moof").unwrap().1.start;
    assert!(matches!(summary_of(&init[media..]), Err(ContainerError::NoIndex)));
    assert!(matches!(summary_of(&init[..media]), Err(ContainerError::NoSamples)));
}

#[test]
fn bytes_past_the_size_to_believe_do_not_exist() {
    let file = fixtures::H264_AAC_FRAGMENTED;
    let shorter = *whole_ends(file).iter().rev().nth(2).unwrap();
    let summary = container::summarise(&mut io::Cursor::new(file), shorter).unwrap();
    assert_eq!(summary, summary_of(&file[..shorter as usize]).unwrap());
}

#[test]
fn two_recordings_in_one_file_follow_one_another() {
    // Behind the first, a plain file's offsets and absolute ones of a fragmented one are off by its length.
    let absolute = Source::H264BFrames.muxed("-movflags frag_keyframe+empty_moov").bytes;
    for first in fixtures::ALL.into_iter().chain([&absolute[..]]) {
        for second in fixtures::ALL.into_iter().chain([&absolute[..]]) {
            let doubled = [first, second].concat();
            let (one, two) = (summary_of(first).unwrap(), summary_of(second).unwrap());
            let both = summary_of(&doubled).unwrap();
            assert_eq!((both.recordings, both.torn), (2, false));
            assert_eq!(both.whole_bytes, doubled.len() as u64);
            // The second's zero is rounded to a tick of its own, of 1/10240 s at worst.
            let near = |a: i128, b: i128| (a - b).abs() <= 97_657 / 2 + 1;
            let durations = one.duration + two.duration;
            assert!(near(both.duration.as_nanos() as i128, durations.as_nanos() as i128));

            let mut expected = keyframes_of(first).unwrap();
            expected.extend(keyframes_of(second).unwrap().into_iter().map(|mut keyframe| {
                keyframe.time.0 += one.duration.as_nanos() as i64;
                keyframe.offset += first.len() as u64;
                keyframe
            }));
            let found = keyframes_of(&doubled).unwrap();
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found.offset, expected.offset);
                assert!(near(found.time.0.into(), expected.time.0.into()));
            }

            let offsets = |file| {
                let samples = samples_of(file).unwrap().into_iter();
                samples.map(|(_, s)| (s.offset, s.size_bytes)).collect::<Vec<_>>()
            };
            let mut expected = offsets(first);
            let moved = offsets(second).into_iter();
            expected.extend(moved.map(|(at, size)| (at + first.len() as u64, size)));
            assert_eq!(offsets(&doubled), expected);
        }
    }
}

#[test]
fn a_second_recording_without_an_index_is_a_torn_tail() {
    let (first, second) = (fixtures::H264_AAC_FRAGMENTED, fixtures::H264_BFRAMES_AAC_PLAIN);
    let doubled = [first, &second[..second.len() / 2]].concat();
    let summary = summary_of(&doubled).unwrap();
    assert_eq!(summary.recordings, 1);
    assert_eq!((summary.whole_bytes, summary.torn), (first.len() as u64, true));
    assert_eq!(summary.duration, summary_of(first).unwrap().duration);
}

#[test]
fn a_recording_that_was_never_finished_does_not_hide_the_one_after_it() {
    let unfinished: Vec<u8> = top_level(fixtures::H264_BFRAMES_AAC_PLAIN)
        .into_iter()
        .filter(|(kind, _)| kind != "moov")
        .flat_map(|(_, range)| &fixtures::H264_BFRAMES_AAC_PLAIN[range])
        .copied()
        .collect();
    let doubled = [&unfinished, fixtures::H265_AAC_FASTSTART].concat();
    let (found, alone) = (summary_of(&doubled).unwrap(), summary_of(fixtures::H265_AAC_FASTSTART));
    assert_eq!(found.duration, alone.unwrap().duration);
    assert_eq!(keyframes_of(&doubled).unwrap()[0].time, MediaTime(0));
}

#[test]
fn fragments_that_give_no_decode_time_follow_one_another() {
    let file = fixtures::H264_BFRAMES_EVERY_FRAME;
    let mut untimed = file.to_vec();
    let times = |file: &[u8]| file.windows(4).position(|kind| kind == b"tfdt");
    while let Some(at) = times(&untimed) {
        untimed[at..at + 4].copy_from_slice(b"free");
    }
    assert!(samples_of(&untimed).unwrap() == samples_of(file).unwrap());
    assert_eq!(summary_of(&untimed).unwrap(), summary_of(file).unwrap());
}

#[test]
fn a_sample_without_bytes_lies_in_the_file_whatever_its_offset_says() {
    let file = fixtures::H264_BFRAMES_EVERY_FRAME;
    let last = samples_of(file).unwrap().pop().unwrap().1;
    let mut empty = file.to_vec();
    let find = |kind: &[u8]| file.windows(4).rposition(|found| found == kind).unwrap() + 4;
    // In `tfhd`: flags, track, duration, size. In `trun`: flags, count, data offset.
    let (size_at, offset_at) = (find(b"tfhd") + 12, find(b"trun") + 8);
    assert_eq!(file[size_at..size_at + 4], last.size_bytes.to_be_bytes());
    empty[size_at..size_at + 4].fill(0);
    empty[offset_at..offset_at + 4].copy_from_slice(&i32::MAX.to_be_bytes());
    let found = samples_of(&empty).unwrap().pop().unwrap().1;
    assert_eq!((found.decode_ticks, found.size_bytes), (last.decode_ticks, 0));
    assert!(found.end_offset() <= file.len() as u64);
}

#[test]
fn boxes_that_mean_nothing_here_are_skipped_wherever_they_stand() {
    let mut file = Vec::new();
    for (kind, range) in top_level(fixtures::H264_AAC_FRAGMENTED) {
        file.extend(&fixtures::H264_AAC_FRAGMENTED[range]);
        // Not between a moof and its mdat: the data offsets of the one know where the other is.
        if kind != "moof" {
            for unknown in [b"free", b"prft", b"sidx", b"emsg", b"uuid", b"styp"] {
                file.extend(12u32.to_be_bytes());
                file.extend(unknown);
                file.extend([7; 4]);
            }
        }
    }
    let (found, expected) = (summary_of(&file).unwrap(), summary_of(fixtures::H264_AAC_FRAGMENTED));
    let whole_bytes = file.len() as u64;
    assert_eq!(found, container::Summary { whole_bytes, ..expected.unwrap() });
}

#[test]
fn the_last_box_may_leave_its_size_open() {
    let file = fixtures::H264_AAC_FRAGMENTED;
    let boxes = top_level(file);
    let (_, last) = boxes.iter().rfind(|(kind, _)| kind == "mdat").unwrap();
    let mut open = file[..last.end].to_vec();
    let closed = summary_of(&open).unwrap();
    open[last.start..last.start + 4].fill(0);
    assert_eq!(summary_of(&open).unwrap(), closed);
    assert!(samples_of(&open).unwrap() == samples_of(file).unwrap());
}
