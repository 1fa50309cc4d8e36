//! What the walkers ask of a card, counted.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use sdcard_indexer::container::{self, ContainerError};

use crate::ffmpeg::Source;
use crate::fixtures::top_level;
use crate::summary_of;

/// Counts what is asked of the card.
pub struct Counting<R> {
    inner: R,
    reads: usize,
    bytes: usize,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        let read = self.inner.read(buffer)?;
        self.bytes += read;
        Ok(read)
    }
}

impl<R: Seek> Seek for Counting<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

pub fn counted<'f, T>(
    file: &'f [u8],
    mut ask: impl FnMut(&mut Counting<Cursor<&'f [u8]>>, u64) -> Result<T, ContainerError>,
) -> (usize, usize) {
    let mut reader = Counting { inner: Cursor::new(file), reads: 0, bytes: 0 };
    ask(&mut reader, file.len() as u64).unwrap();
    (reader.reads, reader.bytes)
}

/// A minute with a keyframe a second; noise makes its pictures as large as those of a camera.
pub fn minute(options: &str) -> Vec<u8> {
    minute_in("mp4", options)
}

pub fn minute_in(extension: &str, options: &str) -> Vec<u8> {
    let noisy = "-stream_loop 9 -i SOURCE -vf noise=alls=40 -c:v libx264 -preset ultrafast -crf 28 \
                 -g 25 -bf 2 -c:a copy";
    Source::H264.made(&format!("{noisy} {options}"), extension).bytes
}

#[test]
fn a_fragmented_recording_costs_one_read_a_fragment() {
    let minute = minute("-movflags frag_keyframe+empty_moov+default_base_moof");
    let boxes = top_level(&minute);
    let fragments = boxes.iter().filter(|(kind, _)| kind == "moof").count();
    assert!(fragments >= 60, "{fragments}");
    let (reads, bytes) = counted(&minute, container::summarise);
    println!(
        "summarise: {reads} reads, {bytes} bytes in {fragments} fragments, {} in all",
        minute.len()
    );
    // The first fragment comes with the head; the box after the last is looked at too.
    assert!(reads <= fragments + 1, "{reads} reads");
    assert!(bytes <= reads * 4096, "{bytes} bytes in {reads} reads");
    assert_eq!(counted(&minute, container::keyframes), (reads, bytes));
}

#[test]
fn a_plain_recording_costs_a_read_a_page_of_its_primary_tracks_tables() {
    let minute = minute("");
    let (reads, bytes) = counted(&minute, container::summarise);
    println!("summarise: {reads} reads, {bytes} bytes of {}", minute.len());
    // 1500 frames: 6 KB of sizes, up to 12 KB of composition offsets and of chunk offsets, and the boxes.
    assert!(reads <= 32, "{reads} reads");
    assert!(bytes <= reads * 4096, "{bytes} bytes in {reads} reads");
}

#[test]
fn head_and_tail_of_a_fragmented_recording_cost_a_few_reads() {
    let second = "-movflags frag_keyframe+empty_moov+default_base_moof";
    let each = "-movflags frag_every_frame+empty_moov+default_base_moof";
    for (what, options, most_reads) in [
        ("by sidx", "-movflags dash+global_sidx+skip_trailer+frag_keyframe".to_owned(), 6),
        ("by mfra", second.to_owned(), 8),
        ("by search", format!("{second}+skip_trailer"), 8),
        ("by mfra, a fragment a frame", each.to_owned(), 40),
        ("by search, a fragment a frame", format!("{each}+skip_trailer"), 40),
    ] {
        let file = minute(&options);
        let walk = counted(&file, container::summarise);
        let extent = counted(&file, container::extent);
        println!("{what}, {} bytes: (reads, bytes) {extent:?}, walked {walk:?}", file.len());
        assert!(extent.0 <= most_reads, "{what}: {extent:?}");
        assert!(extent.1 < walk.1, "{what}: {extent:?} {walk:?}");
    }
}

#[test]
fn a_tail_of_small_fragments_is_read_in_one_piece_with_its_index() {
    let small = "-stream_loop 9 -i SOURCE -an -vf scale=64:48,fps=10 -c:v libx264 -preset ultrafast \
                 -g 10 -movflags frag_keyframe+empty_moov+default_base_moof";
    let file = Source::H264.made(small, "mp4").bytes;
    summary_of(&file).unwrap();
    let (reads, bytes) = counted(&file, container::extent);
    println!("{} bytes: {reads} reads, {bytes} bytes", file.len());
    // Ten pictures a fragment: the last fragment alone would not tell enough.
    assert!(reads <= 2 && bytes <= 4_096 + 32_768, "{reads} reads, {bytes} bytes");
}

#[test]
fn head_and_tail_of_mpeg_ts_cost_little_of_it() {
    for options in ["", "-mpegts_m2ts_mode 1", "-output_ts_offset 95420"] {
        let file = minute_in("ts", &format!("-crf 4 {options} -f mpegts"));
        assert_eq!(summary_of(&file).unwrap().recordings, 1);
        let walk = counted(&file, container::summarise);
        let extent = counted(&file, container::extent);
        println!("{options} {} bytes: (reads, bytes) {extent:?}, walked {walk:?}", file.len());
        // Head, tail and three glances.
        assert!(
            extent.0 < 40 && extent.1 < 500_000 && extent.1 * 8 < walk.1,
            "{extent:?} {walk:?}"
        );

        // The same time again: half of it would look like all.
        let doubled = [&file[..], &file].concat();
        assert_eq!(summary_of(&doubled).unwrap().recordings, 2);
    }
}
