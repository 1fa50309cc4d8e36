//! Matroska, as ffmpeg writes it and as others do: what ffprobe reads is what is read here.

use mp4_atom::{Decode, Stsd};
use sdcard_indexer::container::{
    self, Codec, Container, ContainerError, InBandKind, Sample, Track, TrackKind,
};

use crate::ffmpeg::{Recording, Source};
use crate::fixtures::H264_BFRAMES_AAC_MATROSKA as FIXTURE;
use crate::reads::counted;
use crate::{gstreamer, keyframes_of, samples_of, summary_of};

/// Where ffmpeg puts the cues, and how it divides clusters.
pub const FFMPEG: [&str; 6] = [
    "",
    "-reserve_index_space 2000",
    "-cues_to_front 1",
    "-cluster_time_limit 300",
    "-cluster_size_limit 3000",
    // The segment's size is open, and there are no cues.
    "-live 1",
];

/// Sound or pictures alone, and uncompressed sound: what ffmpeg is told.
pub const TRACKS: [&str; 5] = [
    "-c copy -an",
    "-c copy -vn",
    "-c:v copy -c:a pcm_alaw -ar 8000 -ac 1",
    "-c:v copy -c:a pcm_mulaw -ar 8000 -ac 1",
    "-c:v copy -c:a pcm_s16le -ar 8000 -ac 1",
];

/// GStreamer's muxer with its properties.
pub const GSTREAMER: [&str; 2] = ["matroskamux", "matroskamux streamable=true"];

/// When a frame is shown, its size, where it lies, and whether it is a keyframe.
type Packet = (i64, u32, u64, bool);

/// What ffprobe says of each packet of each stream. It counts positions from a block's body: a frame without lacing
/// lies behind four bytes of head. Compare with `assert!(a == b)`: printed, they fill the screen.
fn expected(recording: &Recording) -> Vec<Vec<Packet>> {
    let mut streams = Vec::new();
    for fields in recording.probe("-show_entries packet=stream_index,pts,size,pos,flags") {
        let number = |at: usize| fields[at].parse::<i64>().unwrap();
        let (stream, size, pos) = (number(0) as usize, number(2) as u32, number(3) as u64 + 4);
        streams.resize(streams.len().max(stream + 1), Vec::new());
        streams[stream].push((number(1), size, pos, fields[4].starts_with('K')));
    }
    streams
}

fn found(samples: &[(Track, Sample)], stream: usize) -> Vec<Packet> {
    let of_stream = samples.iter().map(|(_, sample)| sample).filter(|s| s.track == stream);
    of_stream.map(|s| (s.presentation_ticks(), s.size_bytes, s.offset, s.keyframe)).collect()
}

/// Frame for frame, keyframe for keyframe, and the extent of the primary track; whole, in one recording.
fn agrees_with_ffprobe(recording: &Recording, what: &str) {
    let samples = samples_of(&recording.bytes).expect(what);
    let summary = summary_of(&recording.bytes).expect(what);
    let expected = expected(recording);
    assert_eq!(summary.container, Container::Matroska, "{what}");
    assert_eq!(summary.whole_bytes, recording.bytes.len() as u64, "{what}");
    assert_eq!((summary.torn, summary.recordings), (false, 1), "{what}");
    assert!(summary.starts_with_keyframe, "{what}");
    for (stream, track) in summary.tracks.iter().enumerate() {
        assert_eq!(track.timescale, 1000, "{what}");
        assert!(found(&samples, stream) == expected[stream], "{what}, {stream}");
        are_decoded_in_order(&samples, stream, what);
    }

    let video = summary.tracks.iter().position(|track| track.kind == TrackKind::Video);
    let primary = &expected[video.unwrap_or(0)];
    if video.is_some() {
        let keyframes = primary.iter().filter(|(.., keyframe)| *keyframe);
        let expected: Vec<_> =
            keyframes.map(|(pts, _, pos, _)| ((pts - primary[0].0) * 1_000_000, *pos)).collect();
        let found = keyframes_of(&recording.bytes).expect(what).into_iter();
        assert_eq!(found.map(|k| (k.time.0, k.offset)).collect::<Vec<_>>(), expected, "{what}");
    }

    // From the first frame's start to the last one's end; all take as long, give or take a tick.
    let mut shown: Vec<i64> = primary.iter().map(|packet| packet.0).collect();
    shown.sort_unstable();
    let [second_last, last] = shown[shown.len() - 2..] else { panic!("{what}: one frame only") };
    let extent_ms = 2 * last - second_last - primary[0].0;
    let difference_ms = summary.duration.as_millis() as i64 - extent_ms;
    assert!((-1..=1).contains(&difference_ms), "{what}: {difference_ms} ms");
}

/// A sample is decoded when the one before ends, at the times at which samples are shown.
fn are_decoded_in_order(samples: &[(Track, Sample)], stream: usize, what: &str) {
    let of_stream = || samples.iter().map(|(_, sample)| sample).filter(|s| s.track == stream);
    let mut shown: Vec<i64> = of_stream().map(Sample::presentation_ticks).collect();
    shown.sort_unstable();
    assert!(of_stream().map(|s| s.decode_ticks).eq(shown.iter().copied()), "{what}, {stream}");
    let ends = of_stream().map(|s| s.decode_ticks + i64::from(s.duration));
    assert!(ends.zip(&shown[1..]).all(|(end, next)| end == *next), "{what}, {stream}");
}

#[test]
fn recordings_of_ffmpeg_read_as_ffprobe_reads_them() {
    for source in Source::ALL {
        for options in FFMPEG {
            let recording = source.made(&format!("-i SOURCE -c copy {options}"), "mkv");
            agrees_with_ffprobe(&recording, &format!("{source:?} {options}"));
        }
    }
}

#[test]
fn recordings_of_other_tracks_read_as_ffprobe_reads_them() {
    for options in TRACKS {
        let recording = Source::H264BFrames.made(&format!("-i SOURCE {options}"), "mkv");
        agrees_with_ffprobe(&recording, options);
        let codec = match options {
            _ if options.contains("alaw") => Codec::Pcma,
            _ if options.contains("mulaw") => Codec::Pcmu,
            _ if options.contains("s16le") => Codec::Other(*b"sowt"),
            _ => continue,
        };
        assert_eq!(summary_of(&recording.bytes).unwrap().tracks[1].codec, codec);
    }
}

#[test]
fn recordings_of_gstreamer_read_as_ffprobe_reads_them() {
    for source in Source::ALL {
        for muxer in GSTREAMER {
            let recording = gstreamer::muxed(source, muxer, "mkv");
            agrees_with_ffprobe(&recording, &format!("{source:?} {muxer}"));
        }
    }
}

#[test]
fn webm_of_sound_alone_has_a_keyframe_about_every_second() {
    let webm = Source::H264Opus.made("-i SOURCE -vn -c copy", "webm");
    agrees_with_ffprobe(&webm, "WebM");
    let keyframes = keyframes_of(&webm.bytes).unwrap();
    assert!((6..=7).contains(&keyframes.len()), "{keyframes:?}");
}

/// The decoder is set up as from MP4.
#[test]
fn sample_descriptions_are_those_of_mp4() {
    let described = |recording: &Recording| {
        let tracks = summary_of(&recording.bytes).unwrap().tracks.into_iter();
        tracks
            .map(|track| {
                let stsd = Stsd::decode(&mut track.sample_description.as_slice()).unwrap();
                let set_up = match &stsd.codecs[0] {
                    mp4_atom::Codec::Avc1(entry) => format!("{:?}", entry.avcc),
                    mp4_atom::Codec::Hvc1(entry) => format!("{:?}", entry.hvcc),
                    mp4_atom::Codec::Hev1(entry) => format!("{:?}", entry.hvcc),
                    mp4_atom::Codec::Mp4a(entry) => {
                        format!("{:?}", entry.esds.es_desc.dec_config.dec_specific)
                    }
                    mp4_atom::Codec::Opus(entry) => format!("{:?}", entry.dops),
                    other => panic!("{other:?}"),
                };
                (track.kind, track.codec, track.width, track.height, set_up)
            })
            .collect::<Vec<_>>()
    };
    for source in Source::ALL {
        let matroska = source.made("-i SOURCE -c copy", "mkv");
        assert_eq!(described(&matroska), described(&source.muxed("")), "{source:?}");
    }
}

#[test]
fn the_date_of_a_segment_is_when_it_began() {
    let date = "-metadata creation_time=2026-11-23T10:00:00.25Z";
    let recording = Source::H264.made(&format!("-i SOURCE -c copy {date}"), "mkv");
    let told = summary_of(&recording.bytes).unwrap().in_band.unwrap();
    assert_eq!((told.media.0, told.kind), (0, InBandKind::SegmentDate));
    assert_eq!(told.utc.to_string(), "2026-11-23T10:00:00.25Z");
    assert_eq!(summary_of(FIXTURE).unwrap().in_band, None);
}

#[test]
fn a_recording_cut_at_any_byte_keeps_its_whole_frames() {
    let all = samples_of(FIXTURE).unwrap();
    let first_video = all.iter().find(|(track, _)| track.kind == TrackKind::Video).unwrap();
    let head = all.iter().map(|(_, sample)| sample.offset).min().unwrap();
    for length in 1..FIXTURE.len() as u64 {
        let cut = &FIXTURE[..length as usize];
        let summary = match summary_of(cut) {
            Ok(summary) => summary,
            Err(ContainerError::NotRecognised | ContainerError::NoIndex) if length < head => {
                continue;
            }
            Err(ContainerError::NoSamples) if length < first_video.1.end_offset() => continue,
            Err(error) => panic!("cut at {length}: {error}"),
        };
        assert!(summary.torn && summary.whole_bytes <= length, "cut at {length}");
        let lies = |(_, s): &(Track, Sample)| (s.track, s.offset, s.size_bytes, s.keyframe);
        let shown = |(_, s): &(Track, Sample)| s.presentation_ticks();
        let kept = samples_of(cut).unwrap();
        let whole = || all.iter().filter(|(_, sample)| sample.end_offset() <= length);
        assert!(kept.iter().map(lies).eq(whole().map(lies)), "cut at {length}");
        assert!(kept.iter().map(shown).eq(whole().map(shown)), "cut at {length}");
        assert!(whole().all(|(_, sample)| sample.end_offset() <= summary.whole_bytes));
    }
}

#[test]
fn two_recordings_in_one_file_follow_one_another() {
    let one = summary_of(FIXTURE).unwrap();
    let live = Source::H264.made("-i SOURCE -c copy -live 1", "mkv").bytes;
    for (first, second) in [(FIXTURE, FIXTURE), (&live[..], FIXTURE)] {
        let (lengths, both) = ([first, second].map(summary_of), [first, second].concat());
        let [first, second] = lengths.map(Result::unwrap);
        let summary = summary_of(&both).unwrap();
        assert_eq!((summary.recordings, summary.torn), (2, false));
        assert_eq!(summary.duration, first.duration + second.duration);
        assert_eq!(summary.whole_bytes, both.len() as u64);
    }
    // The second was never finished.
    let torn = [FIXTURE, &FIXTURE[..300]].concat();
    let expected = container::Summary { torn: true, ..one };
    assert_eq!(summary_of(&torn).unwrap(), expected);
}

/// Cues that lead elsewhere are no harm: the answer is that of the walk.
#[test]
fn wrong_cues_mislead_nobody() {
    let cues = find(FIXTURE, &[0x1c, 0x53, 0xbb, 0x6b]);
    let positions: Vec<usize> =
        (cues..FIXTURE.len() - 1).filter(|&at| FIXTURE[at..at + 2] == [0xf1, 0x82]).collect();
    assert!(positions.len() >= 3, "{positions:?}");
    let expected = summary_of(FIXTURE).unwrap();
    for garbage in [0, 1, 0x10, 0x7f, 0xff] {
        let mut wrong = FIXTURE.to_vec();
        for at in &positions {
            wrong[at + 2..at + 4].fill(garbage);
        }
        assert_eq!(summary_of(&wrong).unwrap(), expected);
    }
    // The seek head leads nowhere.
    let mut wrong = FIXTURE.to_vec();
    let seek = find(FIXTURE, &[0x53, 0xab, 0x84, 0x1c, 0x53, 0xbb, 0x6b, 0x53, 0xac]);
    wrong[seek + 10..seek + 12].fill(0xff);
    assert_eq!(summary_of(&wrong).unwrap(), expected);
}

fn find(file: &[u8], wanted: &[u8]) -> usize {
    file.windows(wanted.len()).position(|window| window == wanted).expect("it is in the file")
}

#[test]
fn compressed_frames_and_foreign_pictures_are_refused() {
    // CodecPrivate's place is taken by ContentEncodings of the same length.
    let private = find(FIXTURE, &[0x63, 0xa2]);
    let mut compressed = FIXTURE.to_vec();
    compressed[private..private + 2].copy_from_slice(&[0x6d, 0x80]);
    assert!(matches!(summary_of(&compressed), Err(ContainerError::Unsupported { .. })));

    let name = find(FIXTURE, b"V_MPEG4/ISO/AVC");
    let mut foreign = FIXTURE.to_vec();
    foreign[name..name + 15].copy_from_slice(b"V_MPEG4/ISO/XYZ");
    assert!(matches!(summary_of(&foreign), Err(ContainerError::Unsupported { .. })));
}

/// An element with a size of four bytes.
fn element(id: &[u8], body: &[u8]) -> Vec<u8> {
    [id, &(0x1000_0000 | body.len() as u32).to_be_bytes(), body].concat()
}

const OPEN: &[u8] = &[0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
const BLOCK_GROUP: &[u8] = &[0xa0];
const BLOCK: &[u8] = &[0xa1];
const BLOCK_DURATION: &[u8] = &[0x9b];
const REFERENCE_BLOCK: &[u8] = &[0xfb];
const SIMPLE_BLOCK: &[u8] = &[0xa3];
const VOID: &[u8] = &[0xec];
const CRC_32: &[u8] = &[0xbf];

/// The fixture's head, its size left open and its seek head taken out, with other clusters.
fn remuxed(clusters: &[Vec<u8>]) -> Recording {
    let segment = find(FIXTURE, &[0x18, 0x53, 0x80, 0x67]);
    let cluster = find(FIXTURE, &[0x1f, 0x43, 0xb6, 0x75]);
    // The seek head names the id too, and comes first.
    let info = FIXTURE[..cluster].windows(4).rposition(|id| id == [0x15, 0x49, 0xa9, 0x66]);
    let head = [&FIXTURE[..segment + 4], OPEN, &FIXTURE[info.unwrap()..cluster]];
    Recording::of_bytes(&[head.concat(), clusters.concat()].concat())
}

/// A cluster that is open, as a live recorder's, beginning at `time_ms`.
fn open_cluster(time_ms: i64, blocks: &[Vec<u8>]) -> Vec<u8> {
    let time = element(&[0xe7], &(time_ms as u16).to_be_bytes());
    let crc = element(CRC_32, &[0; 4]);
    [&[0x1f, 0x43, 0xb6, 0x75][..], OPEN, &crc, &time, &blocks.concat()].concat()
}

fn block_head(track: usize, time_ms: i64, flags: u8) -> Vec<u8> {
    let [high, low] = (time_ms as i16).to_be_bytes();
    vec![0x81 + track as u8, high, low, flags]
}

fn bytes_of(sample: &Sample) -> &'static [u8] {
    &FIXTURE[sample.offset as usize..sample.end_offset() as usize]
}

#[test]
fn block_groups_read_as_ffprobe_reads_them() {
    let samples = samples_of(FIXTURE).unwrap();
    let group = |sample: &Sample| {
        let head = block_head(sample.track, sample.presentation_ticks(), 0);
        let block = element(BLOCK, &[&head, bytes_of(sample)].concat());
        let reference = element(REFERENCE_BLOCK, &[0xff]);
        let duration = element(BLOCK_DURATION, &[100]);
        let reference = if sample.keyframe { Vec::new() } else { reference };
        element(BLOCK_GROUP, &[block, duration, reference, element(VOID, &[0; 9])].concat())
    };
    let video = samples.iter().filter(|(track, _)| track.kind == TrackKind::Video);
    let groups: Vec<Vec<u8>> = video.map(|(_, sample)| group(sample)).collect();
    let recording = remuxed(&[open_cluster(0, &groups)]);
    let found = samples_of(&recording.bytes).unwrap();
    assert_eq!(found.len(), groups.len());
    assert!(found.iter().any(|(_, s)| s.keyframe) && found.iter().any(|(_, s)| !s.keyframe));
    assert!(self::found(&found, 0) == expected(&recording)[0]);
    assert_eq!(found.last().unwrap().1.duration, 100);
}

/// Frames laced in each of the three ways are found where they are, and shown when they were before.
#[test]
fn laces_are_split_as_ffprobe_splits_them() {
    let samples = samples_of(FIXTURE).unwrap();
    let sound: Vec<&Sample> =
        samples.iter().map(|(_, s)| s).filter(|s| s.track == 1).take(40).collect();
    type Sizes = fn(&[usize]) -> Vec<u8>;
    let xiph: Sizes = |sizes| {
        let others = &sizes[..sizes.len() - 1];
        others
            .iter()
            .flat_map(|size| [vec![255; size / 255], vec![(size % 255) as u8]].concat())
            .collect()
    };
    let ebml: Sizes = |sizes| {
        let mut bytes = (0x4000 | sizes[0] as u16).to_be_bytes().to_vec();
        for pair in sizes[..sizes.len() - 1].windows(2) {
            let difference = pair[1] as i32 - pair[0] as i32 + 0x1fff;
            bytes.extend((0x4000 | difference as u16).to_be_bytes());
        }
        bytes
    };
    let fixed: Sizes = |_| Vec::new();
    for (flags, sizes_of) in [(0x82, xiph), (0x86, ebml), (0x84, fixed)] {
        // All as long as the shortest where sizes are not told.
        let shortest = sound.iter().map(|s| s.size_bytes as usize).min().unwrap();
        let blocks: Vec<Vec<u8>> = sound
            .chunks(4)
            .map(|lace| {
                let frames: Vec<&[u8]> = lace
                    .iter()
                    .map(|s| if flags == 0x84 { &bytes_of(s)[..shortest] } else { bytes_of(s) })
                    .collect();
                let sizes: Vec<usize> = frames.iter().map(|frame| frame.len()).collect();
                let mut block = block_head(1, lace[0].presentation_ticks(), flags);
                block.push(lace.len() as u8 - 1);
                block.extend(sizes_of(&sizes));
                block.extend(frames.concat());
                element(SIMPLE_BLOCK, &block)
            })
            .collect();
        let recording = remuxed(&[open_cluster(0, &blocks)]);
        let found = samples_of(&recording.bytes).unwrap();
        assert_eq!(found.len(), sound.len(), "{flags:#x}");
        for ((_, found), original) in found.iter().zip(&sound) {
            let length = if flags == 0x84 { shortest } else { original.size_bytes as usize };
            let at = found.offset as usize;
            assert_eq!(found.size_bytes as usize, length, "{flags:#x}");
            assert!(recording.bytes[at..at + length] == bytes_of(original)[..length]);
            let late = found.presentation_ticks() - original.presentation_ticks();
            assert!((-1..=1).contains(&late), "{flags:#x}: {late} ms");
        }
        // ffprobe tells no time but that of a lace's first frame.
        let packets = recording.probe("-show_entries packet=size");
        let sizes = found.iter().map(|(_, sample)| sample.size_bytes.to_string());
        assert!(packets.concat().into_iter().eq(sizes), "{flags:#x}");
        are_decoded_in_order(&found, 1, "laced");
    }
}

/// `TimestampScale` as mkvmerge sets it for sound alone: a tick a sample.
#[test]
fn ticks_that_do_not_divide_a_second_are_told_in_microseconds() {
    let scale = find(FIXTURE, &[0x2a, 0xd7, 0xb1, 0x83]);
    let mut odd = FIXTURE.to_vec();
    odd[scale + 4..scale + 7].copy_from_slice(&22_675_u32.to_be_bytes()[1..]);
    let (plain, odd) = (samples_of(FIXTURE).unwrap(), samples_of(&odd).unwrap());
    for ((_, plain), (track, odd)) in plain.iter().zip(&odd) {
        assert_eq!(track.timescale, 1_000_000);
        let micros = plain.presentation_ticks() as f64 * 22.675;
        assert!((odd.presentation_ticks() as f64 - micros).abs() <= 0.5);
    }
    let zero = find(FIXTURE, &[0x2a, 0xd7, 0xb1, 0x83]);
    let mut none = FIXTURE.to_vec();
    none[zero + 4..zero + 7].fill(0);
    assert!(matches!(summary_of(&none), Err(ContainerError::Malformed { .. })));
}

#[test]
fn head_and_cues_are_read_and_the_last_keyframes_blocks() {
    let minute = Source::H264.made(
        "-stream_loop 9 -i SOURCE -vf noise=alls=40 -c:v libx264 -preset ultrafast -crf 28 -g 25 \
         -c:a copy",
        "mkv",
    );
    let file = minute.bytes.as_slice();
    let file_bytes = file.len() as u64;
    let (walked, of_walk) = counted(file, container::summarise);
    let (tail, of_tail) = counted(file, container::extent);
    let blocks = samples_of(file).unwrap().len();
    println!(
        "{file_bytes} bytes, {blocks} blocks: {walked} reads ({of_walk} bytes), {tail} ({of_tail})"
    );
    assert!(walked <= blocks, "{walked} reads");
    assert!(tail <= blocks / 10, "{tail} reads");
}
