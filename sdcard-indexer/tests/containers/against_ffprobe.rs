//! What the walkers say of ordinary recordings is what ffprobe says of them.

use mp4_atom::{Co64, Decode, Encode, Moov};
use sdcard_indexer::container::{Codec, Container, Sample, Track, TrackKind};

use crate::ffmpeg::{Packet, Recording, Source};
use crate::fixtures::{self, top_level, top_level_box};
use crate::{keyframes_of, samples_of, summary_of};

const FRAGMENTED: [&str; 10] = [
    "-movflags frag_keyframe+empty_moov+default_base_moof",
    // Absolute data offsets.
    "-movflags frag_keyframe+empty_moov",
    // The first fragment's samples in moov.
    "-movflags frag_keyframe",
    "-movflags frag_every_frame+empty_moov+default_base_moof",
    // Fragments that begin anywhere.
    "-movflags empty_moov+default_base_moof -frag_duration 700000",
    // A moof for each track.
    "-movflags frag_keyframe+empty_moov+separate_moof+default_base_moof",
    // Data that follows that of the track before.
    "-movflags frag_keyframe+empty_moov+omit_tfhd_offset",
    "-movflags frag_keyframe+empty_moov+default_base_moof+negative_cts_offsets",
    "-movflags frag_keyframe+dash+global_sidx",
    "-movflags cmaf+frag_keyframe -write_prft wallclock",
];

const PLAIN: [&str; 4] =
    ["", "-movflags faststart", "-movflags negative_cts_offsets", "-use_editlist 0"];

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
fn agrees_with_ffprobe(recording: &Recording, container: Container, what: &str) {
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

    let primary = summary.tracks.iter().position(|track| track.kind == TrackKind::Video).unwrap();
    let track = &summary.tracks[primary];
    let video = expected(&packets, primary);
    let expected_keyframes: Vec<(i64, u64)> = video
        .iter()
        .filter(|packet| packet.key)
        .map(|packet| (packet.pts * 1_000_000_000 / i64::from(track.timescale), packet.pos))
        .collect();
    let found_keyframes: Vec<(i64, u64)> =
        keyframes.iter().map(|keyframe| (keyframe.time.0, keyframe.offset)).collect();
    assert_eq!(found_keyframes, expected_keyframes, "{what}");

    // From the first frame's start to the last one's end; all take as long.
    let mut shown: Vec<i64> = video.iter().map(|packet| packet.pts).collect();
    shown.sort_unstable();
    let [second_last, last] = shown[shown.len() - 2..] else { panic!("{what}: one frame only") };
    let extent_ns = (2 * last - second_last) * 1_000_000_000 / i64::from(track.timescale);
    assert_eq!(summary.duration.as_nanos(), extent_ns as u128, "{what}");

    // ffprobe makes up for negative composition offsets by showing all of the picture later than its sound.
    if samples.iter().all(|(_, sample)| sample.composition_offset >= 0) {
        tracks_are_in_step(recording, &samples, what);
    }
}

/// Sound against picture, with edit lists applied: as ffprobe has it, to its printed microsecond and half
/// a tick of the track.
fn tracks_are_in_step(recording: &Recording, samples: &[(Track, Sample)], what: &str) {
    let shown = recording.presentation_seconds();
    let (_, zero) = *shown.iter().find(|(stream, _)| *stream == 0).expect("video is stream 0");
    for stream in 0..2 {
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
fn fragmented_recordings_read_as_ffprobe_reads_them() {
    for source in Source::ALL {
        for options in FRAGMENTED {
            let recording = source.muxed(options);
            let what = format!("{source:?} {options}");
            agrees_with_ffprobe(&recording, Container::FragmentedMp4, &what);
        }
    }
}

#[test]
fn plain_recordings_read_as_ffprobe_reads_them() {
    for source in Source::ALL {
        for options in PLAIN {
            let recording = source.muxed(options);
            agrees_with_ffprobe(&recording, Container::Mp4, &format!("{source:?} {options}"));
        }
    }
}

#[test]
fn a_quicktime_file_with_g711_reads_as_ffprobe_reads_it() {
    let options = "-i SOURCE -c:v copy -c:a pcm_alaw -ar 8000 -ac 1";
    for options in [options.to_owned(), options.replace("alaw", "mulaw")] {
        let recording = Source::H264.made(&options, "mov");
        let expected = if options.contains("alaw") { Codec::Pcma } else { Codec::Pcmu };
        assert_eq!(summary_of(&recording.bytes).unwrap().tracks[1].codec, expected);
        agrees_with_ffprobe(&recording, Container::Mp4, &options);
    }
}

#[test]
fn codecs_and_picture_sizes_are_those_that_were_encoded() {
    let described = |source: Source| {
        let summary = summary_of(&source.muxed("").bytes).unwrap();
        let tracks = summary.tracks.into_iter();
        tracks.map(|t| (t.kind, t.codec, t.width, t.height)).collect::<Vec<_>>()
    };
    let video = |codec| (TrackKind::Video, codec, 160, 90);
    let audio = |codec| (TrackKind::Audio, codec, 0, 0);
    assert_eq!(described(Source::H264), [video(Codec::H264), audio(Codec::Aac)]);
    assert_eq!(described(Source::H265OpenGop), [video(Codec::H265), audio(Codec::Aac)]);
    assert_eq!(described(Source::H264Opus), [video(Codec::H264), audio(Codec::Opus)]);
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
