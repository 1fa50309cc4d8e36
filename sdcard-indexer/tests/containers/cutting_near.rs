//! Cuts that begin in the middle of a file: the same as by walking there, and what they cost.

use std::io::Cursor;

use sdcard_indexer::container::{MediaTime, Sample, Track};
use sdcard_indexer::cut::{CutLimits, Part, cut, part_samples};

use crate::atom::{self, Defaults};
use crate::ffmpeg::Source;
use crate::reads::{counted, minute};
use crate::{gstreamer, keyframes_of, summary_of};

const MS: i64 = 1_000_000;

fn cut_of(file: &[u8], wanted: std::ops::Range<i64>) -> Vec<Part> {
    let limits = CutLimits { slack_ns: 0, ..CutLimits::default() };
    let wanted = MediaTime(wanted.start)..MediaTime(wanted.end);
    cut(&mut Cursor::new(file), file.len() as u64, wanted, &limits).unwrap()
}

/// Samples with their place in the file and the track they are of.
fn samples_of(parts: &[Part]) -> Vec<(Track, Sample)> {
    let mut all = Vec::new();
    for part in parts {
        for sample in part_samples(&part.needs, part.bytes.end - part.bytes.start).unwrap() {
            let offset = part.bytes.start + sample.offset;
            all.push((part.needs.tracks[sample.track].clone(), Sample { offset, ..sample }));
        }
    }
    all
}

/// Every cut of a second is what is left of the cut from the beginning to the same end once all before the last
/// keyframe at or before its start is taken away.
fn cuts_alike_from_anywhere(file: &[u8], what: &str) {
    let keyframes = keyframes_of(file).unwrap();
    let end = summary_of(file).unwrap().duration.as_nanos() as i64;
    for start in (0..end).step_by(730 * MS as usize) {
        let near = cut_of(file, start..start + 1000 * MS);
        let begin = keyframes.iter().map(|k| k.time.0).rfind(|&time| time <= start).unwrap();
        assert_eq!(near[0].media.start.0, begin, "{what}, from {start}");

        let walked = samples_of(&cut_of(file, 0..start + 1000 * MS));
        let primary = usize::from(near[0].needs.primary);
        let is_keyframe = |(track, sample): &&(Track, Sample)| {
            sample.track == primary && sample.keyframe && sample.starts_at(track).0 == begin
        };
        let first = walked.iter().find(is_keyframe).unwrap().1;
        let belongs = |(track, sample): &(Track, Sample)| {
            if sample.track == primary {
                sample.decode_ticks >= first.decode_ticks
            } else {
                begin == 0 || sample.starts_at(track).0 >= begin
            }
        };
        let expected: Vec<_> = walked.into_iter().filter(belongs).collect();
        assert!(samples_of(&near) == expected, "{what}, from {start}");
    }
}

#[test]
fn a_cut_is_the_same_wherever_its_reading_begins() {
    let fragmented = "-movflags frag_keyframe+empty_moov+default_base_moof";
    for source in [Source::H264BFrames, Source::H265OpenGop] {
        for options in [
            "",
            "-movflags faststart+negative_cts_offsets",
            "-an",
            "-movflags frag_keyframe",
            fragmented,
            "-movflags frag_keyframe+dash+global_sidx+skip_trailer",
            "-movflags frag_keyframe+empty_moov+separate_moof+default_base_moof",
            "-movflags empty_moov+default_base_moof -frag_duration 700000",
        ] {
            cuts_alike_from_anywhere(
                &source.muxed(options).bytes,
                &format!("{source:?} {options}"),
            );
        }
        for muxer in ["mp4mux", "mp4mux fragment-duration=300"] {
            let recording = gstreamer::muxed(source, muxer, "mp4");
            cuts_alike_from_anywhere(&recording.bytes, &format!("{source:?} {muxer}"));
        }
        cuts_alike_from_anywhere(&atom::fragmented(source, Defaults::Trex).bytes, "mp4-atom");
        cuts_alike_from_anywhere(&atom::plain(source).bytes, "mp4-atom, plain");
    }
    let pcm = Source::H264.made("-i SOURCE -c:v copy -c:a pcm_alaw -ar 8000 -ac 1", "mov");
    cuts_alike_from_anywhere(&pcm.bytes, "A-law");
}

/// Of 10 seconds near the end of a minute.
#[test]
fn a_cut_asks_for_little_more_than_it_needs_and_reads_little_to_find_it() {
    let fragmented = "-movflags frag_keyframe+empty_moov+default_base_moof";
    println!(
        "| layout | bytes asked for / needed | card bytes read to find them, of the file | reads |"
    );
    println!("|---|---|---|---|");
    for (layout, options, most_asked, most_read) in [
        ("plain", String::new(), 1.25, 0.2),
        ("plain, moov first", "-movflags faststart".to_owned(), 1.25, 0.2),
        ("fragmented, mfra", fragmented.to_owned(), 1.25, 0.2),
        ("fragmented, sidx", format!("{fragmented}+dash+global_sidx+skip_trailer"), 1.25, 0.2),
        ("fragmented, no index", format!("{fragmented}+skip_trailer"), 1.25, 0.6),
    ] {
        let file = minute(&options);
        let wanted = MediaTime(45_300 * MS)..MediaTime(55_300 * MS);
        let limits = CutLimits::default();
        let mut parts = Vec::new();
        let (reads, bytes) = counted(&file, |reader, file_bytes| {
            parts = cut(reader, file_bytes, wanted.clone(), &limits).unwrap();
            Ok(())
        });
        let asked: u64 = parts.iter().map(|part| part.bytes.end - part.bytes.start).sum();
        let shown = |(track, sample): &(Track, Sample)| {
            sample.ends_at(track) > wanted.start && sample.starts_at(track) < wanted.end
        };
        let samples = samples_of(&parts);
        let needed: u32 = samples.iter().filter(|s| shown(s)).map(|(_, s)| s.size_bytes).sum();
        let asked = asked as f64 / f64::from(needed);
        let read = bytes as f64 / file.len() as f64;
        println!("| {layout} | {asked:.3} | {bytes}, {:.1} % | {reads} |", 100.0 * read);
        assert!(asked < most_asked, "{layout}: {asked}");
        assert!(read < most_read, "{layout}: {read}");
    }
}
