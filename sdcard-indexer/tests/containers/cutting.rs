//! Parts put side by side are the recording again, each sample once.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::Range;

use proptest::prelude::*;
use sdcard_indexer::container::{MediaTime, Sample, SampleReader, Track, TrackKind};
use sdcard_indexer::cut::{CutError, CutLimits, Part, PartMedia, cut, part_samples};

use crate::ffmpeg::Source;
use crate::fixtures::{self, top_level};
use crate::{keyframes_of, samples_of, summary_of};

const MS: i64 = 1_000_000;
const ALL_TIME: Range<MediaTime> = MediaTime(i64::MIN)..MediaTime(i64::MAX);

fn parts_of(file: &[u8], wanted: Range<MediaTime>, limits: &CutLimits) -> Vec<Part> {
    cut(&mut Cursor::new(file), file.len() as u64, wanted, limits).unwrap()
}

/// Small parts, so that short recordings make several.
fn small() -> CutLimits {
    CutLimits { max_part_samples: 120, ..CutLimits::default() }
}

/// The samples of a part as a receiver sees them, from its bytes and its encoded description: the offset
/// in the file and the bytes of each, and what is known of it.
fn received(file: &[u8], part: &Part) -> Vec<(Sample, MediaTime, Vec<u8>)> {
    let needs = PartMedia::decode(&part.needs.encode()).unwrap();
    assert!(needs == part.needs);
    assert_eq!(needs.starts_at, part.media.start);
    let bytes = &file[part.bytes.start as usize..part.bytes.end as usize];
    let samples = part_samples(&needs, bytes.len() as u64).unwrap().into_iter();
    samples
        .map(|sample| {
            let track = &needs.tracks[sample.track];
            let media = media_of(bytes, track, &sample);
            let shown = sample.starts_at(track);
            (Sample { offset: sample.offset + part.bytes.start, ..sample }, shown, media)
        })
        .collect()
}

fn media_of(file: &[u8], track: &Track, sample: &Sample) -> Vec<u8> {
    let (mut reader, mut media) = (Cursor::new(file), Vec::new());
    let mut reader = SampleReader::new(&mut reader, file.len() as u64);
    reader.read(track, sample, &mut media).unwrap();
    media
}

/// Where a sample begins: no two do so in one place.
fn place(sample: &Sample) -> (u64, u8) {
    (sample.offset, sample.packets.map_or(0, |packets| packets.skip))
}

/// Every sample of the file, as it would have to arrive, by its place.
fn whole(file: &[u8]) -> BTreeMap<(u64, u8), (Sample, MediaTime, Vec<u8>)> {
    let samples = samples_of(file).unwrap().into_iter();
    samples
        .map(|(track, sample): (Track, Sample)| {
            let media = media_of(file, &track, &sample);
            (place(&sample), (sample, sample.starts_at(&track), media))
        })
        .collect()
}

fn hold_each_sample_once(file: &[u8], parts: &[Part]) {
    for pair in parts.windows(2) {
        assert_eq!(pair[0].media.end, pair[1].media.start);
    }
    let mut missing = whole(file);
    for part in parts {
        for (sample, shown, media) in received(file, part) {
            let expected =
                missing.remove(&place(&sample)).expect("a sample that no other part has");
            assert!((sample, shown, media) == expected);
        }
    }
    assert!(missing.is_empty(), "{} samples are in no part", missing.len());
}

/// Recordings of every kind, each a few seconds long.
fn recordings() -> Vec<Vec<u8>> {
    let fragmented = "-movflags frag_keyframe+empty_moov+default_base_moof";
    let anywhere = "-movflags empty_moov+default_base_moof -frag_duration 700000";
    let mut files: Vec<Vec<u8>> = FILES.map(<[u8]>::to_vec).into();
    for source in Source::ALL {
        files.extend([fragmented, anywhere, ""].map(|options| source.muxed(options).bytes));
        files.push(source.made("-i SOURCE -c copy -f mpegts -muxrate 1M", "ts").bytes);
        files.push(source.made("-i SOURCE -c copy", "mkv").bytes);
    }
    files.push([fixtures::H264_AAC_FRAGMENTED, fixtures::H265_AAC_FASTSTART].concat());
    files.push([fixtures::H264_BFRAMES_AAC_MATROSKA; 2].concat());
    // The second one's zero lies between ticks of its own.
    files.push([fixtures::AAC_FRAGMENTED, fixtures::H264_BFRAMES_AAC_PLAIN].concat());
    files.push([fixtures::H264_BFRAMES_AAC_TS; 2].concat());
    files
}

#[test]
fn parts_of_a_whole_recording_hold_each_sample_once() {
    for file in recordings() {
        for limits in [small(), CutLimits::default()] {
            let parts = parts_of(&file, ALL_TIME, &limits);
            hold_each_sample_once(&file, &parts);
            assert_eq!(parts[0].media.start, MediaTime(0));
            let extent = summary_of(&file).unwrap().duration.as_nanos() as i64;
            assert_eq!(parts.last().unwrap().media.end, MediaTime(extent));
        }
    }
}

#[test]
fn parts_asked_for_one_after_the_other_hold_each_sample_once() {
    let limits = CutLimits { max_parts: 1, ..small() };
    for file in recordings() {
        let mut parts: Vec<Part> = Vec::new();
        let mut from = MediaTime(i64::MIN);
        while let Some(part) = parts_of(&file, from..MediaTime(i64::MAX), &limits).pop() {
            from = part.media.end;
            parts.push(part);
        }
        assert!(parts == parts_of(&file, ALL_TIME, &small()));
        hold_each_sample_once(&file, &parts);
    }
}

#[test]
fn a_part_begins_at_a_keyframe_in_decode_order_and_keeps_to_its_limits() {
    for file in recordings() {
        let keyframes = keyframes_of(&file).unwrap();
        for part in parts_of(&file, ALL_TIME, &small()) {
            let samples = received(&file, &part);
            assert!(samples.len() <= small().max_part_samples);
            let primary = usize::from(part.needs.primary);
            let (first, ..) = samples.iter().find(|(sample, ..)| sample.track == primary).unwrap();
            assert!(first.keyframe);
            let keyframe = keyframes.iter().find(|keyframe| keyframe.offset == first.offset);
            assert_eq!(keyframe.unwrap().time, part.media.start);
        }
    }
}

#[test]
fn sound_is_in_the_part_in_whose_time_it_starts() {
    for file in recordings() {
        let parts = parts_of(&file, ALL_TIME, &small());
        let inner = parts.iter().skip(1).take(parts.len().saturating_sub(2));
        for part in inner {
            for (sample, shown, _) in received(&file, part) {
                let kind = part.needs.tracks[sample.track].kind;
                assert!(kind != TrackKind::Audio || part.media.contains(&shown));
            }
        }
    }
}

#[test]
fn a_part_takes_no_more_bytes_than_from_its_first_sample_to_its_last() {
    for file in recordings() {
        for part in parts_of(&file, ALL_TIME, &small()) {
            let samples = received(&file, &part);
            let first = samples.iter().map(|(sample, ..)| sample.offset).min().unwrap();
            let last = samples.iter().map(|(sample, ..)| sample.end_offset()).max().unwrap();
            assert_eq!(part.bytes, first..last);
        }
    }
}

/// The committed recordings.
const FILES: [&[u8]; 7] = [
    fixtures::H264_AAC_FRAGMENTED,
    fixtures::H264_BFRAMES_EVERY_FRAME,
    fixtures::H264_BFRAMES_AAC_PLAIN,
    fixtures::H265_AAC_FASTSTART,
    fixtures::AAC_FRAGMENTED,
    fixtures::H264_BFRAMES_AAC_TS,
    fixtures::H265_OPUS_M2TS,
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is asked of whom, groups are whole: two cuts that share an edge share no sample.
    #[test]
    fn cuts_that_meet_hold_each_sample_once(
        which in 0..FILES.len(),
        edges in prop::collection::vec(-200 * MS..3300 * MS, 1..5),
        max_part_samples in 70usize..200,
    ) {
        let file = FILES[which];
        let limits = CutLimits { max_part_samples, ..CutLimits::default() };
        let mut edges = edges;
        edges.sort_unstable();
        let mut parts: Vec<Part> = Vec::new();
        let mut from = MediaTime(i64::MIN);
        for edge in edges.into_iter().map(MediaTime).chain([MediaTime(i64::MAX)]) {
            let found = parts_of(file, from..edge, &limits);
            from = found.last().map_or(from, |part| part.media.end);
            parts.extend(found);
        }
        hold_each_sample_once(file, &parts);
    }

    #[test]
    fn a_cut_holds_all_that_was_wanted_and_at_most_a_group_on_either_side(
        which in 0..FILES.len(),
        start in -200 * MS..3300 * MS,
        length in 1..3000 * MS,
    ) {
        let file = FILES[which];
        let limits = CutLimits { slack_ns: 0, ..CutLimits::default() };
        let wanted = MediaTime(start)..MediaTime(start + length);
        let parts = parts_of(file, wanted.clone(), &limits);
        let extent = MediaTime(summary_of(file).unwrap().duration.as_nanos() as i64);
        let keyframes: Vec<MediaTime> =
            keyframes_of(file).unwrap().into_iter().map(|keyframe| keyframe.time).collect();
        let edges = || keyframes.iter().copied().chain([extent]);
        if wanted.end <= MediaTime(0) || wanted.start >= extent {
            prop_assert!(parts.is_empty());
            return Ok(());
        }
        let before = edges().rfind_at_or_before(wanted.start);
        let after = edges().find(|edge| *edge >= wanted.end).unwrap_or(extent);
        prop_assert_eq!(parts.first().unwrap().media.start, before);
        prop_assert_eq!(parts.last().unwrap().media.end, after);
    }

    #[test]
    fn descriptions_of_parts_survive_any_change_of_a_byte(
        which in 0..FILES.len(),
        at in any::<prop::sample::Index>(),
        byte: u8,
        length in any::<prop::sample::Index>(),
    ) {
        let file = FILES[which];
        let part = parts_of(file, ALL_TIME, &CutLimits::default()).remove(0);
        let mut encoded = part.needs.encode();
        encoded[at.index(part.needs.encode().len())] = byte;
        for encoded in [&encoded[..], &encoded[..length.index(encoded.len())]] {
            if let Ok(needs) = PartMedia::decode(encoded) {
                let part_bytes = part.bytes.end - part.bytes.start;
                for sample in part_samples(&needs, part_bytes).unwrap_or_default() {
                    prop_assert!(sample.end_offset() <= part_bytes);
                }
            }
        }
    }
}

trait Edges: Iterator<Item = MediaTime> + Sized {
    /// The last edge at or before `time`, or else the first.
    fn rfind_at_or_before(mut self, time: MediaTime) -> MediaTime {
        let first = self.next().expect("a recording has a keyframe");
        self.take_while(|edge| *edge <= time).last().unwrap_or(first)
    }
}

impl<I: Iterator<Item = MediaTime>> Edges for I {}

#[test]
fn a_keyframe_near_a_wanted_edge_counts_as_standing_on_it() {
    // Keyframes at 0, 1 and 2 s.
    let file = fixtures::H264_BFRAMES_EVERY_FRAME;
    let media = |start_ms: i64, end_ms: i64| {
        let wanted = MediaTime(start_ms * MS)..MediaTime(end_ms * MS);
        let parts = parts_of(file, wanted, &CutLimits::default());
        Some(parts.first()?.media.start.0 / MS..parts.last()?.media.end.0 / MS)
    };
    assert_eq!(media(980, 2020), Some(1000..2000));
    assert_eq!(media(979, 2021), Some(0..3000));
    assert_eq!(media(1000, 2000), Some(1000..2000));
    assert_eq!(media(1500, 1600), Some(1000..2000));
    // Never nothing, where there is anything.
    assert_eq!(media(995, 1005), Some(1000..2000));
    assert_eq!(media(0, 1), Some(0..1000));
    assert_eq!(media(2999, 3000), None, "hardly anything, and no keyframe after it");
    assert_eq!(media(3000, 9000), None);
    assert_eq!(media(-500, 0), None);
    assert_eq!(media(1000, 1000), None);
}

#[test]
fn slack_takes_no_frame_from_a_recording_of_keyframes_only() {
    let all_keyframes = "-i SOURCE -an -c:v libx264 -g 1 -bf 0 -r 50";
    let file = Source::H264.made(all_keyframes, "mp4").bytes;
    let wanted = MediaTime(1000 * MS)..MediaTime(2000 * MS);
    let parts = parts_of(&file, wanted.clone(), &CutLimits::default());
    assert_eq!(parts.len(), 1);
    assert_eq!(parts[0].media, wanted);
    assert_eq!(part_samples(&parts[0].needs, u64::MAX).unwrap().len(), 50);
}

#[test]
fn a_recording_that_begins_between_keyframes_begins_with_what_it_has() {
    // The second fragment holds frames 17 to 33 of 25 a second with a keyframe each 25: make it the first.
    let options = "-movflags empty_moov+default_base_moof -frag_duration 700000";
    let file = Source::H264.muxed(options).bytes;
    let boxes = top_level(&file);
    let (_, first) = boxes.iter().find(|(kind, _)| kind == "moof").unwrap();
    let (_, second) = boxes.iter().filter(|(kind, _)| kind == "moof").nth(1).unwrap();
    let later = [&file[..first.start], &file[second.start..]].concat();

    assert!(!summary_of(&later).unwrap().starts_with_keyframe);
    let keyframes = keyframes_of(&later).unwrap();
    assert!(keyframes[0].time > MediaTime(0));
    let parts = parts_of(&later, ALL_TIME, &small());
    hold_each_sample_once(&later, &parts);
    let leading = parts_of(&later, MediaTime(0)..MediaTime(1), &CutLimits::default()).remove(0);
    assert_eq!(leading.media, MediaTime(0)..keyframes[0].time);
}

#[test]
fn a_group_that_no_part_can_hold_is_named_once_nothing_else_is_left() {
    let file = fixtures::H264_BFRAMES_EVERY_FRAME;
    let limits = CutLimits { max_part_samples: 9, ..CutLimits::default() };
    let error = cut(&mut Cursor::new(file), file.len() as u64, ALL_TIME, &limits).unwrap_err();
    let CutError::GroupTooLarge { media, samples, .. } = error else { panic!("{error}") };
    assert_eq!((media, samples), (MediaTime(0)..MediaTime(1000 * MS), 10));

    let first = parts_of(file, ALL_TIME, &CutLimits { max_parts: 1, ..small() }).remove(0);
    let limits = CutLimits { max_part_bytes: 1, ..CutLimits::default() };
    let error = cut(&mut Cursor::new(file), file.len() as u64, first.media, &limits).unwrap_err();
    assert!(matches!(error, CutError::GroupTooLarge { .. }), "{error}");
}

#[test]
fn a_description_of_another_version_is_refused_with_both_named() {
    let file = fixtures::H264_AAC_FRAGMENTED;
    let mut encoded = parts_of(file, ALL_TIME, &CutLimits::default())[0].needs.encode();
    encoded[0] = 1;
    let error = PartMedia::decode(&encoded).unwrap_err();
    assert!(matches!(error, CutError::Version { found: 1, known: 2 }), "{error}");
    assert!(error.to_string().contains("version 2") && error.to_string().contains("version 1"));
}

#[test]
fn a_description_takes_few_bytes_a_sample() {
    let contiguous = ("", 5.0);
    // The header of every frame's fragment is a gap.
    let scattered = ("-movflags frag_every_frame+empty_moov+default_base_moof", 7.0);
    for source in Source::ALL {
        for (options, most) in [contiguous, scattered] {
            let file = source.muxed(options).bytes;
            let part = parts_of(&file, ALL_TIME, &CutLimits::default()).remove(0);
            let samples = part_samples(&part.needs, u64::MAX).unwrap().len();
            let descriptions = part.needs.tracks.iter().map(|t| t.sample_description.len());
            let bytes = part.needs.encode().len() - descriptions.sum::<usize>();
            let each = bytes as f64 / samples as f64;
            println!("{source:?} {options}: {bytes} bytes for {samples} samples, {each:.2} each");
            assert!(each < most, "{each}");
        }
    }
}

/// What another build wrote, this one reads.
#[test]
fn the_encoding_of_a_description_is_fixed() {
    let file = fixtures::H264_BFRAMES_EVERY_FRAME;
    let wanted = MediaTime(0)..MediaTime(1);
    let mut needs = parts_of(file, wanted, &CutLimits::default()).remove(0).needs;
    needs.tracks[0].sample_description = b"stsd".to_vec();
    let golden = concat!(
        "020101000080500473747364a0015a8020000000", // version, the track, primary, starts at, origin
        "00013b",                                   // one table of 59 bytes
        "f9e702800880209228e0018050f206e00180209204e00100f204e00180109223e00180509205e0018020",
        "9204e00100d203e0018010d20ae0018020",
    );
    let encoded: String = needs.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(encoded, golden);
}
