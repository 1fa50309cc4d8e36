//! What recorders and accidents leave in a file that is right otherwise, and what head and tail cannot see.

use std::io::Cursor;

use sdcard_indexer::container::{self, MediaTime, Summary};

use crate::ffmpeg::{Recording, Source};
use crate::fixtures::{in_box, top_level, with_box_changed};
use crate::{keyframes_of, samples_of, summary_of};

fn by_head_and_tail(file: &[u8]) -> Summary {
    container::extent(&mut Cursor::new(file), file.len() as u64).unwrap()
}

fn walked(file: &[u8]) -> Summary {
    container::summarise(&mut Cursor::new(file), file.len() as u64).unwrap()
}

const BY_SECOND: &str = "-movflags frag_keyframe+empty_moov+default_base_moof";

/// Big-endian words from `at` on, each through `change`.
fn change_words(bytes: &mut [u8], at: usize, change: impl Fn(u32) -> u32) {
    for word in bytes[at..].chunks_exact_mut(4) {
        let changed = change(u32::from_be_bytes(word.try_into().unwrap()));
        word.copy_from_slice(&changed.to_be_bytes());
    }
}

#[test]
fn an_index_at_the_end_that_is_absent_empty_or_wrong_changes_nothing() {
    let file = Source::H264BFrames.muxed(BY_SECOND).bytes;
    let expected = summary_of(&file).unwrap();
    let boxes = top_level(&file);
    let (_, mfra) = boxes.iter().rfind(|(kind, _)| kind == "mfra").unwrap();
    let moofs: Vec<usize> =
        boxes.iter().filter(|(kind, _)| kind == "moof").map(|(_, range)| range.start).collect();

    let absent = file[..mfra.start].to_vec();
    let mut wrong = vec![absent, [&file[..], &in_box(b"free", &[0; 100])].concat()];
    let first_entry = |file: &[u8]| {
        let tfra = file.windows(4).rposition(|kind| kind == b"tfra").unwrap();
        (tfra + 16, tfra + 20)
    };
    // No entries; more than there are; offsets to anywhere.
    let (count_at, entries_at) = first_entry(&file);
    for count in [0, 1, 1000, u32::MAX] {
        let mut changed = file.clone();
        changed[count_at..count_at + 4].copy_from_slice(&count.to_be_bytes());
        wrong.push(changed);
    }
    for offset in
        [0, 1, moofs[0], moofs[1], moofs[3] + 1, moofs[4], file.len() - 1, file.len(), usize::MAX]
    {
        let mut changed = file.clone();
        // Of every entry, 11 or 19 bytes long, whatever is in the way.
        let end = changed.len() - 16;
        for at in entries_at..end - 4 {
            if moofs.iter().any(|moof| changed[at..at + 4] == (*moof as u32).to_be_bytes()) {
                changed[at..at + 4].copy_from_slice(&(offset as u32).to_be_bytes());
            }
        }
        assert!(changed != file, "entries were found");
        wrong.push(changed);
    }
    // The size of all of it.
    for size in [0, 16, 24, 1000, u32::MAX] {
        let mut changed = file.clone();
        let at = changed.len() - 4;
        changed[at..].copy_from_slice(&size.to_be_bytes());
        wrong.push(changed);
    }
    for changed in wrong {
        let whole_bytes = changed.len() as u64;
        assert_eq!(summary_of(&changed).unwrap(), Summary { whole_bytes, ..expected.clone() });
    }
}

#[test]
fn an_index_in_the_head_that_is_wrong_changes_nothing() {
    let options = "-movflags frag_keyframe+dash+global_sidx+skip_trailer";
    let file = Source::H264BFrames.muxed(options).bytes;
    let expected = summary_of(&file).unwrap();
    for change in [|_| 0, |word| word + 1, |word| word / 2, |word| word | 1 << 31, |_| u32::MAX] {
        let changed = with_box_changed(&file, &["sidx"], |sidx| change_words(sidx, 32, change));
        assert!(changed != file);
        assert_eq!(summary_of(&changed).unwrap(), expected);
    }
    let none = with_box_changed(&file, &["sidx"], |sidx| sidx[30..32].fill(0xff));
    assert_eq!(summary_of(&none).unwrap(), expected);
}

#[test]
fn every_tail_of_a_recording_without_an_index_is_told_as_the_walk_tells_it() {
    for (source, options) in [
        (
            Source::H264BFrames,
            "-movflags frag_every_frame+empty_moov+default_base_moof+skip_trailer",
        ),
        (
            Source::H264,
            "-movflags frag_keyframe+empty_moov+separate_moof+default_base_moof+skip_trailer",
        ),
        (Source::H265OpenGop, "-movflags frag_keyframe+empty_moov+default_base_moof+skip_trailer"),
    ] {
        let file = source.muxed(options).bytes;
        for length in (file.len() / 2..file.len()).step_by(37) {
            summary_of(&file[..length]).unwrap();
        }
        for zeroes in [1, 7, 100, 70_000] {
            let padded = [&file[..], &vec![0; zeroes]].concat();
            assert!(summary_of(&padded).unwrap().torn);
        }
    }
}

#[test]
fn media_that_looks_like_a_fragment_is_not_taken_for_one() {
    let file = Source::H264.muxed(&format!("{BY_SECOND}+skip_trailer")).bytes;
    let expected = summary_of(&file).unwrap();
    let boxes = top_level(&file);
    let (_, moof) = boxes.iter().rfind(|(kind, _)| kind == "moof").unwrap();
    let (_, mdat) = boxes.iter().rfind(|(kind, _)| kind == "mdat").unwrap();
    let room = mdat.len() - 8;
    // The header alone, with its first box, and as much of the whole as fits.
    for length in [8, 24, moof.len().min(room)] {
        for at in [mdat.start + 8, mdat.end - length] {
            let mut changed = file.clone();
            changed.copy_within(moof.start..moof.start + length, at);
            assert_eq!(summary_of(&changed).unwrap(), expected, "{length} bytes at {at}");
        }
    }
}

#[test]
fn a_second_recording_is_seen_from_head_and_tail_where_it_counts_anew_for_long_enough() {
    let short = Source::H264.muxed(&format!("{BY_SECOND} -t 1")).bytes;
    let long = Source::H264.muxed(BY_SECOND).bytes;
    for file in [[&long[..], &long].concat(), [&long[..], &short].concat()] {
        assert_eq!(summary_of(&file).unwrap().recordings, 2);
    }
    // A short one before a long one is not, as `extent` says: only the walk tells.
    let hidden = [&short[..], &long].concat();
    assert_eq!(walked(&hidden).recordings, 2);
    let seen = by_head_and_tail(&hidden);
    assert_eq!((seen.recordings, seen.duration), (1, summary_of(&long).unwrap().duration));
    assert_eq!((seen.whole_bytes, seen.torn), (hidden.len() as u64, false));
}

#[test]
fn damage_between_head_and_tail_is_seen_by_the_walk_only() {
    let file = Source::H264.muxed(BY_SECOND).bytes;
    let boxes = top_level(&file);
    let (_, third) = boxes.iter().filter(|(kind, _)| kind == "moof").nth(2).unwrap();
    let mut damaged = file.clone();
    damaged[third.start + 8..third.start + 12].fill(0xff);
    let walked = walked(&damaged);
    assert_eq!((walked.whole_bytes, walked.torn), (third.start as u64, true));
    assert_eq!(by_head_and_tail(&damaged), summary_of(&file).unwrap());
}

#[test]
fn narrow_sample_sizes_read_like_wide_ones() {
    let wide = Source::H264.muxed("-vn").bytes;
    let sizes: Vec<u32> = samples_of(&wide).unwrap().iter().map(|(_, s)| s.size_bytes).collect();
    assert!(sizes.len() % 2 == 1 && sizes.iter().all(|&size| size < 256));
    let path = ["moov", "trak", "mdia", "minf", "stbl", "stsz"];
    for (bits, entries) in [
        (8, sizes.iter().map(|&size| size as u8).collect::<Vec<u8>>()),
        (16, sizes.iter().flat_map(|&size| (size as u16).to_be_bytes()).collect()),
    ] {
        let narrow = with_box_changed(&wide, &path, |stsz| {
            let head = [&[0; 7][..], &[bits], &(sizes.len() as u32).to_be_bytes()].concat();
            *stsz = in_box(b"stz2", &[head, entries].concat());
        });
        assert!(samples_of(&narrow).unwrap() == samples_of(&wide).unwrap(), "{bits} bits");
        assert_eq!(Recording::of_bytes(&narrow).packets(), Recording::of_bytes(&wide).packets());
    }
    // Of four bits, sizes as they come: what counts is which half of which byte.
    let halves: Vec<u32> = (0..sizes.len() as u32).map(|number| number % 16).collect();
    let narrow = with_box_changed(&wide, &path, |stsz| {
        let pairs = halves.chunks(2).map(|two| (two[0] << 4 | two.get(1).unwrap_or(&0)) as u8);
        let head = [&[0; 7][..], &[4], &(sizes.len() as u32).to_be_bytes()].concat();
        *stsz = in_box(b"stz2", &[head, pairs.collect()].concat());
    });
    let found: Vec<u32> = samples_of(&narrow).unwrap().iter().map(|(_, s)| s.size_bytes).collect();
    assert_eq!(found, halves);
}

#[test]
fn what_an_edit_list_leaves_out_or_repeats_is_held_once() {
    let file = Source::H264BFrames.muxed("").bytes;
    let expected = summary_of(&file).unwrap();
    let elst = ["moov", "trak", "edts", "elst"];
    // Version 0: how long (in the movie's 1000 ticks a second), from which media tick on, at what rate.
    let edits = |edits: &[[u32; 2]]| {
        let mut body = vec![0; 4];
        body.extend((edits.len() as u32).to_be_bytes());
        for [duration, from] in edits {
            body.extend([*duration, *from, 0x1_0000].iter().flat_map(|word| word.to_be_bytes()));
        }
        with_box_changed(&file, &elst, |elst| *elst = in_box(b"elst", &body))
    };
    let mut first = None;
    with_box_changed(&file, &elst, |elst| first = elst[20..24].first_chunk().copied());
    let first = u32::from_be_bytes(first.unwrap());
    for list in [
        &[[6000, first]][..],
        // The last five seconds are cut away.
        &[[1000, first]],
        // Two seconds, and the first of them again.
        &[[2000, first], [1000, first]],
        // A second is left out.
        &[[1000, first], [4000, first + 25_600]],
        // Two seconds of black in the middle.
        &[[1000, first], [2000, u32::MAX], [5000, first + 12_800]],
    ] {
        let edited = edits(list);
        assert_eq!(summary_of(&edited).unwrap().duration, expected.duration, "{list:?}");
        assert_eq!(keyframes_of(&edited).unwrap()[0].time, MediaTime(0), "{list:?}");
        assert_eq!(Recording::of_bytes(&edited).packets().len(), samples_of(&file).unwrap().len());
    }
}
