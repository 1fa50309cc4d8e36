//! What the walkers say of ordinary recordings is what ffprobe says of them.

use mp4_atom::{Co64, Decode, Encode, Moov};
use sdcard_indexer::container::{Container, MediaTime, Sample, Track, TrackKind};

use crate::ffmpeg::{Packet, Recording, Source};
use crate::fixtures::{self, top_level, top_level_box};
use crate::{keyframes_of, samples_of, summary_of};

/// ffprobe moves all times of a track by one amount where there are negative composition offsets: times
/// count from the track's first.
fn expected(packets: &[Packet], stream: usize) -> Vec<Packet> {
    let of_stream = packets.iter().filter(|packet| packet.stream == stream);
    let first = of_stream.clone().next().expect("the stream has packets");
    of_stream
        .map(|packet| Packet {
            pts: packet.pts - first.pts,
            dts: packet.dts - first.dts,
            ..packet.clone()
        })
        .collect()
}

fn found(samples: &[(Track, Sample)], stream: usize) -> Vec<Packet> {
    let of_stream = samples.iter().map(|(_, sample)| sample).filter(|s| s.track == stream);
    let first = of_stream.clone().next().expect("the track has samples");
    of_stream
        .map(|sample| Packet {
            stream,
            pts: sample.presentation_ticks() - first.presentation_ticks(),
            dts: sample.decode_ticks - first.decode_ticks,
            size: sample.size_bytes,
            pos: sample.offset,
            key: sample.keyframe,
        })
        .collect()
}

/// Sample for sample, keyframe for keyframe, and the extent of the primary track.
pub fn agrees_with_ffprobe(recording: &Recording, container: Container, what: &str) {
    let packets = recording.packets();
    let samples = samples_of(&recording.bytes).expect(what);
    let summary = summary_of(&recording.bytes).expect(what);
    let keyframes = keyframes_of(&recording.bytes).expect(what);

    assert_eq!(summary.container, container, "{what}");
    assert_eq!(summary.whole_bytes, recording.bytes.len() as u64, "{what}");
    assert_eq!((summary.torn, summary.recordings), (false, 1), "{what}");
    assert!(summary.starts_with_keyframe, "{what}");
    assert_eq!(samples.len(), packets.len(), "{what}");
    for stream in 0..summary.tracks.len() {
        assert_eq!(found(&samples, stream), expected(&packets, stream), "{what}, stream {stream}");
    }

    let is_video = |track: &Track| track.kind == TrackKind::Video;
    let primary = summary.tracks.iter().position(is_video).unwrap_or(0);
    let track = &summary.tracks[primary];
    let packets_of_primary = expected(&packets, primary);
    let ns = |ticks: i64| ticks * 1_000_000_000 / i64::from(track.timescale);
    // From the first frame's start to the last one's end. ffprobe does not tell how long a sample lasts: of
    // pictures all take as long, the last sound may be shorter than the others.
    let mut shown: Vec<i64> = packets_of_primary.iter().map(|packet| packet.pts).collect();
    shown.sort_unstable();
    let [second_last, last] = shown[shown.len() - 2..] else { panic!("{what}: one frame only") };
    let end = ns(2 * last - second_last) as u128;
    let duration = summary.duration.as_nanos();
    let shorter = !is_video(track) && duration > ns(last) as u128 && duration < end;
    assert!(duration == end || shorter, "{what}: {duration} {end}");

    let keys: Vec<(i64, u64)> = packets_of_primary
        .iter()
        .filter(|packet| packet.key)
        .map(|packet| (ns(packet.pts), packet.pos))
        .collect();
    let found: Vec<(i64, u64)> = keyframes.iter().map(|k| (k.time.0, k.offset)).collect();
    if is_video(track) {
        assert_eq!(found, keys, "{what}");
    } else {
        assert!(found.len() >= 5 && found.iter().all(|keyframe| keys.contains(keyframe)), "{what}");
    }

    // ffprobe makes up for negative composition offsets by showing all of the picture later than its sound.
    if samples.iter().all(|(_, sample)| sample.composition_offset >= 0) {
        tracks_are_in_step(recording, &samples, what);
    }
}

/// Sound against picture, with edit lists applied: as ffprobe has it, to its printed microsecond and half
/// a tick of the track.
fn tracks_are_in_step(recording: &Recording, samples: &[(Track, Sample)], what: &str) {
    let shown = recording.presentation_seconds();
    let tracks = samples.iter().map(|(_, sample)| sample.track).max().map_or(0, |last| last + 1);
    let zero_at = samples.iter().find(|(t, s)| s.starts_at(t) == MediaTime(0)).unwrap().1.track;
    let (_, zero) = *shown.iter().find(|(stream, _)| *stream == zero_at).unwrap();
    for stream in 0..tracks {
        let expected: Vec<f64> = shown
            .iter()
            .filter(|(of, _)| *of == stream)
            .map(|(_, seconds)| seconds - zero)
            .collect();
        let found: Vec<f64> = samples
            .iter()
            .filter(|(_, sample)| sample.track == stream)
            .map(|(track, sample)| sample.starts_at(track).0 as f64 / 1e9)
            .collect();
        assert_eq!(found.len(), expected.len(), "{what}, stream {stream}");
        let tolerance = 2e-6 + 0.5 / f64::from(samples[0].0.timescale);
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < tolerance, "{what}, {stream}: {found} {expected}");
        }
    }
}

#[test]
fn a_recording_of_sound_alone_has_a_keyframe_about_every_second() {
    let recording = Source::H264.muxed("-vn -movflags empty_moov -frag_duration 500000");
    let summary = summary_of(&recording.bytes).unwrap();
    assert_eq!(summary.tracks.len(), 1);
    assert!((5.9e9..6.1e9).contains(&(summary.duration.as_nanos() as f64)), "{summary:?}");
    let packets = expected(&recording.packets(), 0);
    assert_eq!(found(&samples_of(&recording.bytes).unwrap(), 0), packets);
    let keyframes = keyframes_of(&recording.bytes).unwrap();
    assert!((6..=7).contains(&keyframes.len()), "{keyframes:?}");
    for pair in keyframes.windows(2) {
        // A second, and at most the length of one AAC frame.
        assert!((1_000_000_000..1_022_000_000).contains(&(pair[1].time.0 - pair[0].time.0)));
    }
    assert!(keyframes.iter().all(|k| packets.iter().any(|packet| packet.pos == k.offset)));
}

#[test]
fn an_edit_list_that_delays_the_sound_is_applied() {
    // ffmpeg writes the offset as a leading empty edit.
    let delayed =
        Source::H264.made("-i SOURCE -itsoffset 1.25 -i SOURCE -map 0:v -map 1:a -c copy", "mp4");
    agrees_with_ffprobe(&delayed, Container::Mp4, "sound 1.25 s late");
    let samples = samples_of(&delayed.bytes).unwrap();
    let (track, first) = samples.iter().find(|(_, sample)| sample.track == 1).unwrap();
    // Less the one AAC frame of priming, 1024 samples at 48 kHz.
    assert_eq!(first.starts_at(track).0 / 1_000_000, 1250 - 22);
}

#[test]
fn sixty_four_bit_chunk_offsets_and_box_sizes_read_like_short_ones() {
    let plain = fixtures::H264_BFRAMES_AAC_PLAIN;
    let mut moov = Moov::decode(&mut top_level_box(plain, "moov")).unwrap();
    for trak in &mut moov.trak {
        let stbl = &mut trak.mdia.minf.stbl;
        let offsets = stbl.stco.take().unwrap().entries;
        // 8 bytes more of header in the mdat before them.
        stbl.co64 = Some(Co64 { entries: offsets.iter().map(|&at| u64::from(at) + 8).collect() });
    }
    let mut wide = Vec::new();
    for (kind, range) in top_level(plain) {
        let body = &plain[range.start + 8..range.end];
        match kind.as_str() {
            "moov" => moov.encode(&mut wide).unwrap(),
            "mdat" => {
                wide.extend([0, 0, 0, 1]);
                wide.extend(b"mdat");
                wide.extend((body.len() as u64 + 16).to_be_bytes());
                wide.extend(body);
            }
            _ => wide.extend(&plain[range]),
        }
    }
    // mp4-atom does not write the sample descriptions back byte for byte.
    let moved_by = |file: &[u8], bytes| {
        let samples = samples_of(file).unwrap().into_iter();
        samples.map(|(_, s)| Sample { offset: s.offset + bytes, ..s }).collect::<Vec<_>>()
    };
    assert!(moved_by(&wide, 0) == moved_by(plain, 8));
    agrees_with_ffprobe(&Recording::of_bytes(&wide), Container::Mp4, "co64");
}
