//! MPEG-TS as cards leave it: cut off, damaged, begun anywhere, one recording behind the other.

use std::io::Cursor;
use std::time::Duration;

use sdcard_indexer::container::{Codec, ContainerError, Sample, SampleReader, Track};

use crate::ffmpeg::{Recording, Source};
use crate::fixtures;
use crate::mpegts::{agrees_from_here, agrees_with_ffprobe, muxed};
use crate::{keyframes_of, samples_of, summary_of};

const PACKET_BYTES: usize = 188;
const FILE: &[u8] = fixtures::H264_BFRAMES_AAC_TS;

fn pid(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[1], packet[2]]) & 0x1fff
}

/// The file without the packets that are not kept.
fn keeping(file: &[u8], keep: impl Fn(usize, &[u8]) -> bool) -> Vec<u8> {
    let packets = file.chunks(PACKET_BYTES).enumerate();
    packets.filter(|(index, packet)| keep(*index, packet)).flat_map(|(_, p)| p).copied().collect()
}

#[test]
fn a_recording_cut_anywhere_near_its_end_keeps_what_is_whole() {
    let all = samples_of(FILE).unwrap();
    for length in (FILE.len() * 2 / 3..FILE.len()).step_by(PACKET_BYTES / 4) {
        let cut = &FILE[..length];
        let whole = length / PACKET_BYTES * PACKET_BYTES;
        let summary = summary_of(cut).unwrap();
        assert_eq!(
            (summary.whole_bytes, summary.torn),
            (whole as u64, whole != length),
            "{length}"
        );

        let found = samples_of(cut).unwrap();
        for track in 0..2 {
            let of_track = |samples: &[(Track, Sample)]| -> Vec<Sample> {
                let samples = samples.iter().map(|(_, sample)| *sample);
                samples.filter(|sample| sample.track == track).collect()
            };
            let (mut found, mut expected) = (of_track(&found), of_track(&all));
            expected.retain(|sample| sample.end_offset() <= whole as u64);
            if found.len() > expected.len() {
                // Of a picture nothing tells that the rest of it is missing.
                let last = found.pop().unwrap();
                assert!(track == 0 && last.end_offset() <= whole as u64, "{length}: {last:?}");
            }
            assert!(found == expected, "cut at {length}, track {track}");
        }
    }
}

#[test]
fn recordings_one_behind_the_other_are_told_by_their_streams_or_clocks() {
    let later = muxed(Source::H264, "-t 3 -output_ts_offset 3600").bytes;
    let other_pids = muxed(Source::H264, "-t 3 -mpegts_start_pid 700").bytes;
    let first = muxed(Source::H264, "-t 3").bytes;
    for second in [&first, &later, &other_pids] {
        let doubled = [&first[..], second].concat();
        let (one, two) = (summary_of(&first).unwrap(), summary_of(second).unwrap());
        let both = summary_of(&doubled).unwrap();
        assert_eq!(
            (both.recordings, both.torn, both.whole_bytes),
            (2, false, doubled.len() as u64)
        );
        let off = both.duration.abs_diff(one.duration + two.duration);
        assert!(off < Duration::from_micros(12), "a tick and less: {off:?}");

        let of_one = samples_of(&first).unwrap().into_iter();
        let of_two = samples_of(second).unwrap().into_iter();
        let moved = of_two.map(|(track, sample)| {
            let offset = sample.offset + first.len() as u64;
            (track, Sample { offset, ..sample })
        });
        let traits =
            |(_, s): (Track, Sample)| (s.track, s.decode_ticks, s.duration, s.offset, s.packets);
        let expected: Vec<_> = of_one.chain(moved).map(traits).collect();
        let found: Vec<_> = samples_of(&doubled).unwrap().into_iter().map(traits).collect();
        assert!(found == expected);
        assert_eq!(keyframes_of(&doubled).unwrap().len(), 6);
    }
}

#[test]
fn a_recording_that_goes_on_under_a_new_version_of_its_tables_is_one() {
    let mut file = FILE.to_vec();
    let middle = file.len() / 2 / PACKET_BYTES * PACKET_BYTES;
    let tables = file[middle..].chunks_mut(PACKET_BYTES).filter(|p| [0, 0x1000].contains(&pid(p)));
    let changed = tables.map(|packet| with_table_changed(packet, |table| table[5] ^= 0x3e)).count();
    assert!(changed > 10, "{changed}");
    assert_eq!(summary_of(&file).unwrap(), summary_of(FILE).unwrap());
    assert!(samples_of(&file).unwrap() == samples_of(FILE).unwrap());
}

/// The bytes of every sample.
fn media_of(file: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = Cursor::new(file);
    let mut reader = SampleReader::new(&mut reader, file.len() as u64);
    let read = |(track, sample): (Track, Sample)| {
        let mut bytes = Vec::new();
        reader.read(&track, &sample, &mut bytes).unwrap();
        bytes
    };
    samples_of(file).unwrap().into_iter().map(read).collect()
}

#[test]
fn packets_are_found_again_behind_damage_and_little_is_lost() {
    let whole = media_of(FILE);
    let middle = FILE.len() / 2 / PACKET_BYTES * PACKET_BYTES;
    let damaged: [Vec<u8>; 5] = [
        [&FILE[..middle], &[0x47; 77], &FILE[middle..]].concat(),
        [&FILE[..middle], &[0; 100_000], &FILE[middle..]].concat(),
        [&FILE[..middle + 90], &FILE[middle + 95..]].concat(),
        [&FILE[..middle], &FILE[middle + PACKET_BYTES..]].concat(),
        [&FILE[..middle], &[0xff; PACKET_BYTES], &FILE[middle + PACKET_BYTES..]].concat(),
    ];
    for (number, file) in damaged.iter().enumerate() {
        let summary = summary_of(file).unwrap();
        assert_eq!((summary.recordings, summary.torn), (1, false), "{number}");
        let found = media_of(file);
        let kept = whole.iter().filter(|sample| found.contains(sample)).count();
        assert!(kept + 3 >= whole.len(), "{number}: {kept} of {} samples", whole.len());
        assert!(found.len() <= whole.len(), "{number}");
    }
    // More than a card loses at once.
    let lost = [FILE, &vec![0; 5_000_000], FILE].concat();
    let summary = summary_of(&lost).unwrap();
    assert_eq!((summary.whole_bytes, summary.torn), (FILE.len() as u64, true));
}

#[test]
fn a_recording_that_begins_anywhere_reads_as_ffprobe_reads_it() {
    for source in [Source::H264, Source::H264BFrames] {
        let file = muxed(source, "-t 4").bytes;
        for packets in [40, 91, 150] {
            let from_there = Recording::of_bytes(&file[packets * PACKET_BYTES..]);
            let what = format!("{source:?} from packet {packets}");
            let starts_with_keyframe = agrees_from_here(&from_there, &what);
            assert!(!starts_with_keyframe, "{what}");
        }
    }
}

#[test]
fn a_recording_whose_tables_come_late_holds_what_is_before_them() {
    let without_first_tables =
        keeping(FILE, |index, packet| index > 40 || pid(packet) >= 0x100 && pid(packet) < 0x1000);
    assert!(without_first_tables.len() < FILE.len() - 4 * PACKET_BYTES);
    let recording = Recording::of_bytes(&without_first_tables);
    agrees_with_ffprobe(&recording, "late tables");
    assert_eq!(samples_of(&without_first_tables).unwrap().len(), samples_of(FILE).unwrap().len());
}

#[test]
fn keyframes_need_no_random_access_indicator() {
    let mut file = FILE.to_vec();
    let mut cleared = 0;
    for packet in file.chunks_mut(PACKET_BYTES) {
        // An adaptation field of any length, and the indicator in it.
        if packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x40 != 0 {
            packet[5] &= !0x40;
            cleared += 1;
        }
    }
    assert!(cleared >= 3, "{cleared}");
    assert_eq!(keyframes_of(&file).unwrap(), keyframes_of(FILE).unwrap());
    assert_eq!(keyframes_of(&file).unwrap().len(), 3);
}

#[test]
fn x264s_open_groups_begin_at_recovery_points_as_in_ffprobe() {
    let options =
        "-i SOURCE -c:v libx264 -bf 3 -g 25 -x264-params open-gop=1:scenecut=0 -c:a copy -f mpegts";
    let recording = Source::H264.made(options, "ts");
    agrees_with_ffprobe(&recording, options);
    assert!(keyframes_of(&recording.bytes).unwrap().len() > 3);
}

#[test]
fn what_is_no_program_is_told_apart() {
    let without_tables = keeping(FILE, |_, packet| pid(packet) == 0x100);
    assert!(matches!(summary_of(&without_tables), Err(ContainerError::NotRecognised)));
    let without_media = keeping(FILE, |_, packet| pid(packet) < 0x100 || pid(packet) >= 0x1000);
    assert!(matches!(summary_of(&without_media), Err(ContainerError::NoSamples)));
}

#[test]
fn a_stream_that_nothing_names_may_have_times_of_its_own() {
    let mut file = FILE.to_vec();
    for packet in file.chunks_mut(PACKET_BYTES) {
        match pid(packet) {
            0x1000 => with_table_changed(packet, |map| map[17] = 0x06),
            0x101 if packet[1] & 0x40 != 0 => {
                let pes = packet.windows(3).position(|bytes| bytes == [0, 0, 1]).unwrap();
                packet[pes + 9..pes + 14].copy_from_slice(&[0x2f, 0xff, 0xff, 0xff, 0xff]);
            }
            _ => {}
        }
    }
    let (found, expected) = (summary_of(&file).unwrap(), summary_of(FILE).unwrap());
    assert_eq!((found.recordings, found.torn), (1, false));
    assert_eq!(found.duration, expected.duration);
    assert_eq!(found.tracks[0], expected.tracks[0]);
    assert_eq!(keyframes_of(&file).unwrap(), keyframes_of(FILE).unwrap());
}

/// ffmpeg writes G.711 without a word of what it is: the number is put in afterwards.
#[test]
fn g711_is_carried_under_the_numbers_that_cameras_use() {
    for (encoder, extension, number, codec) in
        [("pcm_alaw", "al", 0x90, Codec::Pcma), ("pcm_mulaw", "ul", 0x91, Codec::Pcmu)]
    {
        let options = format!("-i SOURCE -c:v copy -c:a {encoder} -ar 8000 -ac 1 -f mpegts");
        let mut file = Source::H264.made(&options, "ts").bytes;
        assert_eq!(summary_of(&file).unwrap().tracks.len(), 1, "nothing tells what it is");
        for packet in file.chunks_mut(PACKET_BYTES).filter(|packet| pid(packet) == 0x1000) {
            // Of the second stream; the first has no descriptors.
            with_table_changed(packet, |table| {
                assert_eq!(std::mem::replace(&mut table[17], number), 0x06);
            });
        }
        let summary = summary_of(&file).unwrap();
        assert_eq!(summary.tracks[1].codec, codec);
        let samples = samples_of(&file).unwrap();
        let mut sound = samples.iter().map(|(_, sample)| sample).filter(|s| s.track == 1);
        let (first, last) = (sound.next().unwrap(), sound.next_back().unwrap());
        let track = &summary.tracks[1];
        let length_ns = last.ends_at(track).0 - first.starts_at(track).0;
        let raw =
            Source::H264.made(&format!("-i SOURCE -vn -c:a {encoder} -ar 8000 -ac 1"), extension);
        assert_eq!(length_ns / 1_000_000, raw.bytes.len() as i64 / 8);
        assert!(media_of(&file)[count_of_pictures(&samples)..].concat() == raw.bytes);
    }
}

/// How many of the samples are pictures: those of the first track.
fn count_of_pictures(samples: &[(Track, Sample)]) -> usize {
    samples.iter().filter(|(_, sample)| sample.track == 0).count()
}

/// Changes the table in a packet, and rights its checksum.
fn with_table_changed(packet: &mut [u8], change: impl FnOnce(&mut [u8])) {
    let length = usize::from(packet[7]) + 3;
    let (body, sum) = packet[5..5 + length].split_at_mut(length - 4);
    change(body);
    sum[..4].copy_from_slice(&crc32(body).to_be_bytes());
}

/// ISO/IEC 13818-1, annex A.
fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| {
            crc << 1 ^ if crc & 0x8000_0000 != 0 { 0x04c1_1db7 } else { 0 }
        })
    })
}
