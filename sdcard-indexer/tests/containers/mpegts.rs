//! What the walkers say of MPEG-TS is what ffprobe says of it, to the 90 kHz tick.

use std::io::Cursor;

use mp4_atom::{Codec as StsdCodec, Decode, Hvcc, Mp4a, Stsd};
use sdcard_indexer::container::{Codec, Container, Sample, SampleReader, Track, TrackKind};

use crate::ffmpeg::{Recording, Source};
use crate::{gstreamer, keyframes_of, samples_of, summary_of};

/// How ffmpeg can be made to write it.
pub const OPTIONS: [&str; 8] = [
    "",
    "-mpegts_m2ts_mode 1",
    // Null packets between the others.
    "-muxrate 2000000",
    // The clock wraps after 2 s.
    "-output_ts_offset 95440.2",
    "-mpegts_flags resend_headers",
    "-mpegts_flags initial_discontinuity -pat_period 0.02",
    // Each frame of sound in a PES packet of its own; all of them in few.
    "-pes_payload_size 0",
    "-pes_payload_size 16000 -mpegts_start_pid 500 -omit_video_pes_length 0",
];

/// Sound or pictures alone.
pub const TRACKS: [&str; 3] = ["-vn", "-an", "-vn -mpegts_m2ts_mode 1"];

/// GStreamer's muxer with its properties.
pub const GSTREAMER: [&str; 2] = ["mpegtsmux", "mpegtsmux alignment=7 pat-interval=20000"];

/// A packet as ffprobe prints it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Packet {
    pts: i64,
    dts: i64,
    size: u32,
    /// Of the transport packet in which it begins; ffprobe does not always know.
    pos: Option<u64>,
    key: bool,
}

/// Rows of ffprobe's, by packet.
fn rows(recording: &Recording) -> Vec<Vec<String>> {
    recording.probe("-show_entries packet=stream_index,pts,dts,size,pos,flags")
}

/// Of one stream, times counted from its first packet.
fn expected(rows: &[Vec<String>], stream: usize) -> Vec<Packet> {
    let of_stream = rows.iter().filter(|row| row[0] == stream.to_string());
    let packets = of_stream.map(|row| Packet {
        pts: row[1].parse().unwrap(),
        dts: row[2].parse().unwrap(),
        size: row[3].parse().unwrap(),
        pos: row[4].parse().ok(),
        key: row[5].starts_with('K'),
    });
    let packets: Vec<Packet> = packets.collect();
    let first = packets.first().map_or((0, 0), |first| (first.pts, first.dts));
    packets
        .into_iter()
        .map(|packet| Packet { pts: packet.pts - first.0, dts: packet.dts - first.1, ..packet })
        .collect()
}

/// The same of what was walked, with the positions that ffprobe does not know left out.
fn found(samples: &[(Track, Sample)], stream: usize, like: &[Packet]) -> Vec<Packet> {
    let of_stream = samples.iter().filter(|(_, sample)| sample.track == stream);
    let first = of_stream.clone().next().expect("the track has samples").1;
    of_stream
        .enumerate()
        .map(|(index, (track, sample))| Packet {
            pts: sample.presentation_ticks() - first.presentation_ticks(),
            dts: sample.decode_ticks - first.decode_ticks,
            size: sample.packets.unwrap().elementary_bytes + header_bytes(track),
            pos: like.get(index).and_then(|packet| packet.pos).map(|_| sample.offset),
            key: sample.keyframe,
        })
        .collect()
}

/// ffprobe counts ADTS headers with the frame.
fn header_bytes(track: &Track) -> u32 {
    if track.codec == Codec::Aac { 7 } else { 0 }
}

pub fn agrees_with_ffprobe(recording: &Recording, what: &str) {
    assert!(agrees_from_here(recording, what), "{what}");
}

/// Sample for sample, keyframe for keyframe, and the extent of the primary track; says whether it begins with a
/// keyframe.
pub fn agrees_from_here(recording: &Recording, what: &str) -> bool {
    let samples = samples_of(&recording.bytes).expect(what);
    let summary = summary_of(&recording.bytes).expect(what);
    assert_eq!(summary.container, Container::MpegTs, "{what}");
    assert_eq!(summary.whole_bytes, recording.bytes.len() as u64, "{what}");
    assert_eq!((summary.torn, summary.recordings), (false, 1), "{what}");
    let rows = rows(recording);
    let streams = rows.iter().map(|row| row[0].parse::<usize>().unwrap() + 1).max();
    assert_eq!(Some(summary.tracks.len()), streams, "{what}");
    for stream in 0..summary.tracks.len() {
        let mut expected = expected(&rows, stream);
        if summary.tracks[stream].codec == Codec::H265 {
            // ffprobe counts a start code's zero byte with the picture before, against annex B of H.265.
            expected.first_mut().unwrap().size -= 1;
            expected.last_mut().unwrap().size += 1;
        }
        let found = found(&samples, stream, &expected);
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found, expected, "{what}, stream {stream}, packet {index}");
        }
        assert_eq!(found.len(), expected.len(), "{what}, stream {stream}");
    }

    let primary = summary.tracks.iter().position(|track| track.kind == TrackKind::Video);
    let of_primary = expected(&rows, primary.unwrap_or(0));
    let mut shown: Vec<i64> = of_primary.iter().map(|packet| packet.pts).collect();
    shown.sort_unstable();
    if primary.is_some() {
        let keyframes = keyframes_of(&recording.bytes).expect(what);
        let expected_keyframes: Vec<i64> = of_primary
            .iter()
            .filter(|packet| packet.key)
            .map(|packet| packet.pts * 1_000_000_000 / 90_000)
            .collect();
        let found: Vec<i64> = keyframes.iter().map(|keyframe| keyframe.time.0).collect();
        assert_eq!(found, expected_keyframes, "{what}");
        let [second_last, last] = shown[shown.len() - 2..] else {
            panic!("{what}: one frame only")
        };
        let extent_ns = (2 * last - second_last) * 1_000_000_000 / 90_000;
        assert_eq!(summary.duration.as_nanos(), extent_ns as u128, "{what}");
    }
    summary.starts_with_keyframe
}

pub fn muxed(source: Source, options: &str) -> Recording {
    source.made(&format!("-i SOURCE -c copy {options} -f mpegts"), "ts")
}

#[test]
fn recordings_read_as_ffprobe_reads_them() {
    for source in Source::ALL {
        for options in OPTIONS {
            agrees_with_ffprobe(&muxed(source, options), &format!("{source:?} {options}"));
        }
    }
}

#[test]
fn sound_or_pictures_alone_read_as_ffprobe_reads_them() {
    for source in Source::ALL {
        for options in TRACKS {
            agrees_with_ffprobe(&muxed(source, options), &format!("{source:?} {options}"));
        }
    }
}

#[test]
fn recordings_of_gstreamer_read_as_ffprobe_reads_them() {
    for source in Source::ALL {
        for muxer in GSTREAMER {
            let recording = gstreamer::muxed(source, muxer, "ts");
            agrees_with_ffprobe(&recording, &format!("{source:?} {muxer}"));
        }
    }
}

/// Every sample's bytes, track after track, as a decoder of the track's sample description takes them.
fn media_of(file: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut media: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut reader = Cursor::new(file);
    let samples = samples_of(file).unwrap();
    let mut reader = SampleReader::new(&mut reader, file.len() as u64);
    for (track, sample) in samples {
        media.resize_with(media.len().max(sample.track + 1), Vec::new);
        let mut bytes = Vec::new();
        reader.read(&track, &sample, &mut bytes).unwrap();
        media[sample.track].push(bytes);
    }
    media
}

#[test]
fn samples_and_their_descriptions_are_those_that_ffmpeg_makes_of_them_for_mp4() {
    for source in Source::ALL {
        for options in ["", "-mpegts_m2ts_mode 1 -muxrate 2000000"] {
            let what = format!("{source:?} {options}");
            let recording = muxed(source, options);
            let remuxed = recording.remuxed("mp4");
            let (found, mut expected) = (media_of(&recording.bytes), media_of(&remuxed.bytes));
            if matches!(source, Source::H265OpenGop) {
                expected[0].iter_mut().for_each(without_last_zero);
            }
            for (track, (found, expected)) in found.iter().zip(&expected).enumerate() {
                for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
                    assert!(found == expected, "{what}, track {track}, sample {index}");
                }
                assert_eq!(found.len(), expected.len(), "{what}, track {track}");
            }
            assert_eq!(found.len(), expected.len(), "{what}");

            let (found, expected) = (summary_of(&recording.bytes), summary_of(&remuxed.bytes));
            for (found, expected) in found.unwrap().tracks.iter().zip(&expected.unwrap().tracks) {
                assert_eq!(
                    (found.width, found.height),
                    (expected.width, expected.height),
                    "{what}"
                );
                same_configuration(found, expected, &what);
            }
        }
    }
}

/// Of H.265, ffmpeg takes the zero byte before a picture for the end of the one before.
fn without_last_zero(sample: &mut Vec<u8>) {
    let mut last = 0;
    while let Some(length) = sample.get(last..last + 4) {
        let next = last + 4 + u32::from_be_bytes(length.try_into().unwrap()) as usize;
        if next == sample.len() && sample.ends_with(&[0]) {
            let length = ((next - last - 5) as u32).to_be_bytes();
            sample[last..last + 4].copy_from_slice(&length);
            sample.pop();
            return;
        }
        last = next;
    }
}

/// Set up alike: ffmpeg writes bit rates and the like around it.
fn same_configuration(found: &Track, expected: &Track, what: &str) {
    let entry = |track: &Track| {
        let description = Stsd::decode(&mut track.sample_description.as_slice()).unwrap();
        description.codecs.into_iter().next().unwrap()
    };
    match (entry(found), entry(expected)) {
        (StsdCodec::Avc1(found), StsdCodec::Avc1(expected)) => {
            assert_eq!(found.avcc, expected.avcc, "{what}");
        }
        (StsdCodec::Hev1(found), StsdCodec::Hev1(mut expected)) => {
            // ffmpeg puts an SEI message there too, and the first zero of a start code behind; and it tells what
            // else it knows.
            expected.hvcc.arrays.retain(|array| (32..=34).contains(&array.nal_unit_type));
            for set in expected.hvcc.arrays.iter_mut().flat_map(|array| &mut array.nalus) {
                set.truncate(set.iter().rposition(|byte| *byte != 0).unwrap() + 1);
            }
            let sets = |hvcc: &Hvcc| {
                let arrays = hvcc.arrays.iter();
                arrays.map(|array| (array.nal_unit_type, array.nalus.clone())).collect::<Vec<_>>()
            };
            assert_eq!(sets(&found.hvcc), sets(&expected.hvcc), "{what}");
            let like = Hvcc {
                arrays: expected.hvcc.arrays.clone(),
                min_spatial_segmentation_idc: expected.hvcc.min_spatial_segmentation_idc,
                parallelism_type: expected.hvcc.parallelism_type,
                avg_frame_rate: expected.hvcc.avg_frame_rate,
                constant_frame_rate: expected.hvcc.constant_frame_rate,
                ..found.hvcc
            };
            assert_eq!(like, expected.hvcc, "{what}");
        }
        (StsdCodec::Mp4a(found), StsdCodec::Mp4a(expected)) => {
            let specific = |entry: &Mp4a| {
                let decoder = entry.esds.es_desc.dec_config.clone();
                decoder.dec_specific.unwrap().raw[..2].to_vec()
            };
            assert_eq!(specific(&found), specific(&expected), "{what}");
            assert_eq!(found.audio.sample_rate, expected.audio.sample_rate, "{what}");
        }
        (StsdCodec::Opus(found), StsdCodec::Opus(expected)) => {
            assert_eq!(
                found.dops.output_channel_count, expected.dops.output_channel_count,
                "{what}"
            );
        }
        (found, expected) => panic!("{what}: {found:?} for {expected:?}"),
    }
}
