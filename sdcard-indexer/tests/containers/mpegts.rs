//! What the walkers say of MPEG-TS is what ffprobe says of it, to the 90 kHz tick.

use sdcard_indexer::container::{Codec, Container, Sample, Track, TrackKind};

use crate::ffmpeg::{Recording, Source};
use crate::{keyframes_of, samples_of, summary_of};

/// How ffmpeg can be made to write it.
const OPTIONS: [&str; 8] = [
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

fn agrees_with_ffprobe(recording: &Recording, what: &str) {
    let samples = samples_of(&recording.bytes).expect(what);
    let summary = summary_of(&recording.bytes).expect(what);
    assert_eq!(summary.container, Container::MpegTs, "{what}");
    assert_eq!(summary.whole_bytes, recording.bytes.len() as u64, "{what}");
    assert_eq!((summary.torn, summary.recordings), (false, 1), "{what}");
    assert!(summary.starts_with_keyframe, "{what}");
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
}

fn muxed(source: Source, options: &str) -> Recording {
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
        for options in ["-vn", "-an", "-vn -mpegts_m2ts_mode 1"] {
            agrees_with_ffprobe(&muxed(source, options), &format!("{source:?} {options}"));
        }
    }
}
