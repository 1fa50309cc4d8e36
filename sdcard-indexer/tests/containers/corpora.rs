//! Every combination of writer, codecs and layout that is held against ffprobe: `tests/README.md` lists them.

use sdcard_indexer::container::{Codec, Container, TrackKind};

use crate::against_ffprobe::agrees_with_ffprobe;
use crate::atom::{self, Defaults};
use crate::ffmpeg::{Recording, Source};
use crate::{gstreamer, matroska, mpegts, summary_of};

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

/// Other tracks than one of pictures and one of AAC or Opus: what ffmpeg is told, and into which kind of file.
const TRACKS: [(&str, &str); 9] = [
    ("-c copy -an", "mp4"),
    ("-c copy -vn", "mp4"),
    ("-c copy -map 0:v -map 0:v -map 0:a -map 0:a", "mp4"),
    ("-c copy -tag:v avc3", "mp4"),
    ("-c:v copy -c:a libmp3lame", "mp4"),
    ("-vn -c:a libopus", "mp4"),
    ("-vn -c:a libmp3lame", "mp4"),
    ("-c:v copy -c:a pcm_alaw -ar 8000 -ac 1", "mov"),
    ("-c:v copy -c:a pcm_mulaw -ar 8000 -ac 1", "mov"),
];

/// GStreamer's muxers with their properties, and what they make.
const GSTREAMER: [(&str, &str, Container); 7] = [
    ("mp4mux", "mp4", Container::Mp4),
    ("mp4mux faststart=true", "mp4", Container::Mp4),
    ("mp4mux fragment-duration=1000", "mp4", Container::FragmentedMp4),
    ("mp4mux fragment-duration=300 streamable=true", "mp4", Container::FragmentedMp4),
    ("mp4mux fragment-duration=1000 fragment-mode=first-moov-then-finalise", "mp4", Container::Mp4),
    ("qtmux", "mov", Container::Mp4),
    ("qtmux fragment-duration=500", "mov", Container::FragmentedMp4),
];

#[test]
fn fragmented_recordings_of_ffmpeg_read_as_ffprobe_reads_them() {
    for source in Source::ALL {
        for options in FRAGMENTED {
            let what = format!("{source:?} {options}");
            agrees_with_ffprobe(&source.muxed(options), Container::FragmentedMp4, &what);
        }
    }
}

#[test]
fn plain_recordings_of_ffmpeg_read_as_ffprobe_reads_them() {
    for source in Source::ALL {
        for options in PLAIN {
            let what = format!("{source:?} {options}");
            agrees_with_ffprobe(&source.muxed(options), Container::Mp4, &what);
        }
    }
}

#[test]
fn recordings_of_other_tracks_read_as_ffprobe_reads_them() {
    for (tracks, extension) in TRACKS {
        for (options, container) in
            [("", Container::Mp4), (FRAGMENTED[0], Container::FragmentedMp4)]
        {
            let options = format!("-i SOURCE {tracks} {options}");
            let recording = Source::H264BFrames.made(&options, extension);
            agrees_with_ffprobe(&recording, container, &options);
        }
    }
}

#[test]
fn recordings_of_gstreamer_read_as_ffprobe_reads_them() {
    for source in Source::ALL {
        for (muxer, extension, container) in GSTREAMER {
            let recording = gstreamer::muxed(source, muxer, extension);
            agrees_with_ffprobe(&recording, container, &format!("{source:?} {muxer}"));
        }
    }
}

#[test]
fn recordings_of_mp4_atom_read_as_ffprobe_reads_them() {
    for source in Source::ALL {
        for defaults in [Defaults::Trex, Defaults::Tfhd] {
            let what = format!("{source:?} {defaults:?}");
            let recording = atom::fragmented(source, defaults);
            agrees_with_ffprobe(&recording, Container::FragmentedMp4, &what);
        }
        agrees_with_ffprobe(&atom::plain(source), Container::Mp4, &format!("{source:?} plain"));
    }
}

/// The combinations as `tests/README.md` has them.
fn listing() -> String {
    let sources = Source::ALL.map(|source| format!("- {source:?}: `{}`", source.encoder()));
    let items = |texts: &[&str]| -> Vec<String> {
        let text = |text: &&str| if text.is_empty() { "(no options)" } else { *text }.to_owned();
        texts.iter().map(text).map(|text| format!("- `{text}`")).collect()
    };
    let tracks = TRACKS.map(|(options, extension)| format!("- `{options}` into .{extension}"));
    let muxers = GSTREAMER.map(|(muxer, _, _)| muxer);
    let atoms = ["fragments, all defaults in `trex`", "the same in `tfhd`", "plain, `moov` first"];
    [
        ("What ffmpeg encodes, each for all that follows", sources.to_vec()),
        ("Fragmented, by ffmpeg", items(&FRAGMENTED)),
        ("Plain, by ffmpeg", items(&PLAIN)),
        ("Other tracks, plain and fragmented, by ffmpeg from H264BFrames", tracks.to_vec()),
        ("By GStreamer", items(&muxers)),
        ("MPEG-TS, by ffmpeg", [items(&mpegts::OPTIONS), items(&mpegts::TRACKS)].concat()),
        ("MPEG-TS, by GStreamer", items(&mpegts::GSTREAMER)),
        ("Matroska, by ffmpeg", items(&matroska::FFMPEG)),
        ("Matroska of other tracks, by ffmpeg from H264BFrames", items(&matroska::TRACKS)),
        ("Matroska, by GStreamer", items(&matroska::GSTREAMER)),
        ("By mp4-atom", atoms.map(|text| format!("- {text}")).to_vec()),
    ]
    .map(|(title, lines)| format!("### {title}\n\n{}\n", lines.join("\n")))
    .join("\n")
}

#[test]
fn the_readme_lists_every_combination() {
    let listing = listing();
    let listed = include_str!("../README.md").contains(&listing);
    assert!(listed, "tests/README.md does not have this, word for word:\n\n{listing}");
}

#[test]
fn codecs_and_picture_sizes_are_those_that_were_encoded() {
    let described = |recording: Recording| {
        let summary = summary_of(&recording.bytes).unwrap();
        let tracks = summary.tracks.into_iter();
        tracks.map(|t| (t.kind, t.codec, t.width, t.height)).collect::<Vec<_>>()
    };
    let video = |codec| (TrackKind::Video, codec, 160, 90);
    let audio = |codec| (TrackKind::Audio, codec, 0, 0);
    let of = |source: Source| described(source.muxed(""));
    assert_eq!(of(Source::H264), [video(Codec::H264), audio(Codec::Aac)]);
    assert_eq!(of(Source::H265OpenGop), [video(Codec::H265), audio(Codec::Aac)]);
    assert_eq!(of(Source::H264Opus), [video(Codec::H264), audio(Codec::Opus)]);
    for (encoder, extension, codec) in [
        ("libmp3lame", "mp4", Codec::Other(*b".mp3")),
        ("libmp3lame -ar 22050", "mov", Codec::Other(*b".mp3")),
        ("aac", "mov", Codec::Aac),
        ("pcm_alaw -ar 8000 -ac 1", "mov", Codec::Pcma),
        ("pcm_mulaw -ar 8000 -ac 1", "mov", Codec::Pcmu),
    ] {
        let options = format!("-i SOURCE -c:v copy -c:a {encoder}");
        let recording = Source::H264.made(&options, extension);
        assert_eq!(described(recording), [video(Codec::H264), audio(codec)], "{encoder}");
    }
}
