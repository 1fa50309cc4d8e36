//! What the walkers and the cutter may take of a device's memory, and what hostile bytes may do to them:
//! nothing.
//!
//! A test binary of its own, because its allocator counts for all of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "set-up that fails is a failed test")]

use std::fs::File;
use std::io::{BufWriter, Cursor, Read, Seek, SeekFrom, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use sdcard_indexer::container::{self, ContainerError, MediaTime};
use sdcard_indexer::cut::{CutLimits, PartMedia, cut, part_samples};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const FIXTURES: [&[u8]; 8] = [
    include_bytes!("fixtures/h264-aac-fragmented.mp4"),
    include_bytes!("fixtures/h264-bframes-every-frame.mp4"),
    include_bytes!("fixtures/h264-bframes-aac-plain.mp4"),
    include_bytes!("fixtures/h265-aac-faststart.mp4"),
    include_bytes!("fixtures/aac-fragmented.mp4"),
    TRANSPORT,
    include_bytes!("fixtures/h265-opus.m2ts"),
    include_bytes!("fixtures/h264-bframes-aac.mkv"),
];
const TRANSPORT: &[u8] = include_bytes!("fixtures/h264-bframes-aac.ts");

const KIB: usize = 1024;

/// The allocator counts for all threads: whoever looks at its figures, looks alone.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `work` allocated at most at one time, in bytes, over what was there before.
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let result = work();
    (result, ALLOCATOR.peak_usage().saturating_sub(before))
}

/// Asks everything there is to ask of a file.
fn ask_all<R: Read + Seek>(reader: &mut R, file_bytes: u64) -> Result<usize, ContainerError> {
    let summary = container::summarise(reader, file_bytes)?;
    assert!(summary.whole_bytes <= file_bytes);
    assert!(container::extent(reader, file_bytes)?.whole_bytes <= file_bytes);
    let _ = container::keyframes(reader, file_bytes);
    let samples = container::samples(reader, file_bytes)?;
    let samples = samples.map_while(Result::ok);
    let count = samples.inspect(|sample| assert!(sample.end_offset() <= file_bytes)).count();
    let everything = MediaTime(i64::MIN)..MediaTime(i64::MAX);
    for part in cut(reader, file_bytes, everything, &CutLimits::default()).unwrap_or_default() {
        assert!(part.bytes.end <= file_bytes && part.media.start <= part.media.end);
        let needs = PartMedia::decode(&part.needs.encode()).unwrap();
        part_samples(&needs, part.bytes.end - part.bytes.start).unwrap();
    }
    Ok(count)
}

/// A `moof` of 1 MiB, some windows, a part's samples several times over.
const HOSTILE_LIMIT_BYTES: usize = 4 * KIB * KIB;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn damaged_recordings_neither_panic_nor_take_memory(
        which in 0..FIXTURES.len(),
        words in prop::collection::vec((any::<prop::sample::Index>(), damage()), 1..8),
        length in any::<prop::sample::Index>(),
        cut_short: bool,
    ) {
        let _alone = alone();
        let mut file = FIXTURES[which].to_vec();
        for (at, word) in words {
            let at = at.index(file.len() - 4);
            file[at..at + 4].copy_from_slice(&word.to_be_bytes());
        }
        if cut_short {
            file.truncate(length.index(file.len()));
        }
        let (_, peak) = peak_of(|| ask_all(&mut Cursor::new(&file), file.len() as u64));
        prop_assert!(peak < HOSTILE_LIMIT_BYTES, "{} bytes", peak);
    }

    #[test]
    fn boxes_of_anything_neither_panic_nor_take_memory(
        boxes in prop::collection::vec((kind(), prop::collection::vec(any::<u8>(), 0..64)), 1..40),
    ) {
        let _alone = alone();
        let mut file = b"\0\0\0\x08ftyp".to_vec();
        for (kind, body) in boxes {
            file.extend((body.len() as u32 + 8).to_be_bytes());
            file.extend(kind.as_bytes());
            file.extend(body);
        }
        let (_, peak) = peak_of(|| ask_all(&mut Cursor::new(&file), file.len() as u64));
        prop_assert!(peak < HOSTILE_LIMIT_BYTES, "{} bytes", peak);
    }

    #[test]
    fn garbage_neither_panics_nor_takes_memory(
        description in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let _alone = alone();
        let mut reader = Cursor::new(&description);
        let (_, peak) = peak_of(|| {
            let _ = ask_all(&mut reader, description.len() as u64);
            let _ = PartMedia::decode(&description);
            let versioned = [&[2], &description[..]].concat();
            PartMedia::decode(&versioned).map(|needs| part_samples(&needs, u64::MAX).is_ok())
        });
        prop_assert!(peak < HOSTILE_LIMIT_BYTES, "{} bytes", peak);
    }
}

/// Numbers that parsers trip over.
fn damage() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        prop::sample::select(vec![0, 1, 7, 8, 9, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]),
        (0u32..65_536),
    ]
}

fn kind() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "ftyp", "moov", "trak", "mdia", "minf", "stbl", "mdat", "moof", "traf", "tfhd", "trun",
        "mvex", "free", "stsd", "tkhd", "mdhd",
    ])
}

const HOURS: u32 = 8;
const FRAMES: u32 = HOURS * 3600 * 25;
const FRAME_BYTES: u32 = 10_000;

fn in_box(kind: &[u8; 4], body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    [&(body.len() as u32 + 8).to_be_bytes()[..], kind, &body].concat()
}

fn words(words: impl IntoIterator<Item = u32>) -> Vec<u8> {
    words.into_iter().flat_map(u32::to_be_bytes).collect()
}

/// A video track of 25 frames a second in a timescale of 25, with these sample tables.
fn moov(tables: &[&[u8]], extends: &[u8]) -> Vec<u8> {
    let stsd = in_box(b"stsd", &[&words([0, 1]), &in_box(b"avc1", &[&[0; 78]])]);
    let stbl = in_box(b"stbl", &[&stsd, &tables.concat()]);
    let mdia = in_box(
        b"mdia",
        &[
            &in_box(b"mdhd", &[&words([0, 0, 0, 25, 0, 0])]),
            &in_box(b"hdlr", &[&words([0, 0]), b"vide", &[0; 13]]),
            &in_box(b"minf", &[&stbl]),
        ],
    );
    let tkhd = in_box(b"tkhd", &[&words([0, 0, 0, 1]), &[0; 68]]);
    in_box(b"moov", &[&in_box(b"trak", &[&tkhd, &mdia]), extends])
}

/// 8 hours with B-frames; a chunk and a composition offset a frame, a keyframe a second. The media is a hole.
fn eight_hours_plain() -> File {
    let table = |kind, entries: u32, words_of_it: Vec<u8>| {
        in_box(kind, &[&words([0, entries]), &words_of_it])
    };
    let sizes = words([0, 0, FRAMES].into_iter().chain((0..FRAMES).map(|_| FRAME_BYTES)));
    let first_chunk = 48_u64;
    let offsets = (0..FRAMES).map(|frame| first_chunk + u64::from(frame) * u64::from(FRAME_BYTES));
    let tables = [
        table(b"stts", 1, words([FRAMES, 1])),
        table(b"ctts", FRAMES, words((0..FRAMES).flat_map(|frame| [1, frame % 3]))),
        table(b"stsc", 1, words([1, 1, 1])),
        in_box(b"stsz", &[&sizes]),
        in_box(
            b"co64",
            &[&words([0, FRAMES]), &offsets.flat_map(u64::to_be_bytes).collect::<Vec<_>>()],
        ),
        table(b"stss", FRAMES / 25, words((0..FRAMES / 25).map(|second| second * 25 + 1))),
    ];
    let tables: Vec<&[u8]> = tables.iter().map(Vec::as_slice).collect();
    let mut file = tempfile::tempfile().unwrap();
    let media_bytes = u64::from(FRAMES) * u64::from(FRAME_BYTES);
    let head = [&in_box(b"ftyp", &[&[0; 24]])[..], &words([1]), b"mdat"].concat();
    file.write_all(&[&head[..], &(media_bytes + 16).to_be_bytes()].concat()).unwrap();
    file.seek(SeekFrom::Start(first_chunk + media_bytes)).unwrap();
    file.write_all(&moov(&tables, &[])).unwrap();
    file
}

/// 8 hours in fragments of a second. The media is holes.
fn eight_hours_fragmented() -> File {
    let trex = in_box(b"trex", &[&words([0, 1, 1, 1, FRAME_BYTES, 0x1_0000])]);
    let head = [in_box(b"ftyp", &[&[0; 24]]), moov(&[], &in_box(b"mvex", &[&trex]))].concat();
    let file = tempfile::tempfile().unwrap();
    let mut writer = BufWriter::new(file);
    writer.write_all(&head).unwrap();
    let mut at = head.len() as u64;
    for second in 0..HOURS * 3600 {
        let tfhd = in_box(b"tfhd", &[&words([0x2_0000, 1])]);
        let tfdt = in_box(b"tfdt", &[&words([0, second * 25])]);
        // A data offset, the first sample's flags (a keyframe), and the frames' composition offsets.
        let data_offset = 8 + 16 + 8 + 16 + 16 + 24 + 25 * 4 + 8;
        let run = words([0x805, 25, data_offset, 0].into_iter().chain((0..25).map(|i| i % 3)));
        let traf = in_box(b"traf", &[&tfhd, &tfdt, &in_box(b"trun", &[&run])]);
        let mut moof = in_box(b"moof", &[&in_box(b"mfhd", &[&words([0, second])]), &traf]);
        assert_eq!(moof.len() as u32 + 8, data_offset);
        moof.extend(words([25 * FRAME_BYTES + 8]));
        moof.extend(b"mdat");
        writer.write_all(&moof).unwrap();
        at += moof.len() as u64 + u64::from(25 * FRAME_BYTES);
        writer.seek(SeekFrom::Start(at)).unwrap();
    }
    let file = writer.into_inner().unwrap();
    file.set_len(at).unwrap();
    file
}

/// Counts what is asked of the card.
struct Counting<'f> {
    inner: &'f mut File,
    reads: usize,
}

impl Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.reads += 1;
        self.inner.read(buffer)
    }
}

impl Seek for Counting<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.inner.seek(to)
    }
}

#[test]
fn eight_hours_take_the_memory_of_a_minute() {
    let _alone = alone();
    for (mut file, kind) in
        [(eight_hours_plain(), "plain"), (eight_hours_fragmented(), "fragmented")]
    {
        let file_bytes = file.metadata().unwrap().len();
        let (summary, peak) = peak_of(|| container::summarise(&mut file, file_bytes).unwrap());
        println!("{kind}: summarise took {peak} bytes for {file_bytes} bytes of recording");
        assert!((summary.duration.as_secs_f64() - f64::from(HOURS) * 3600.0).abs() < 0.1);
        assert!(!summary.torn);
        assert!(peak < 128 * KIB, "{peak} bytes");

        let (extent, peak) = peak_of(|| container::extent(&mut file, file_bytes).unwrap());
        println!("{kind}: extent took {peak} bytes");
        assert_eq!(extent, summary);
        assert!(peak < 256 * KIB, "{peak} bytes");

        let (keyframes, peak) = peak_of(|| container::keyframes(&mut file, file_bytes).unwrap());
        println!("{kind}: keyframes took {peak} bytes for {}", keyframes.len());
        assert_eq!(keyframes.len() as u32, HOURS * 3600);
        // The table is doubled as it grows: while it is moved there are three halves.
        assert!(peak < 16 * 2 * 32_768 * 3 / 2 + 128 * KIB, "{peak} bytes");

        let noon = 4 * 3_600_000_000_000;
        let wanted = MediaTime(noon)..MediaTime(noon + 45_000_000_000);
        let limits = CutLimits::default();
        let mut counting = Counting { inner: &mut file, reads: 0 };
        let (parts, peak) = peak_of(|| cut(&mut counting, file_bytes, wanted, &limits).unwrap());
        println!("{kind}: cutting 45 s took {peak} bytes and {} reads", counting.reads);
        // What has sample tables is not walked from its start.
        assert!(kind != "plain" || counting.reads < 150, "{} reads", counting.reads);
        assert_eq!(parts.len(), 1);
        assert_eq!(part_samples(&parts[0].needs, u64::MAX).unwrap().len(), 45 * 25);
        assert!(peak < 128 * KIB, "{peak} bytes");
    }
}

/// The three seconds of the fixture again and again, on one clock.
fn two_hours_of_mpeg_ts() -> File {
    const TICKS: u64 = 3 * 90_000;
    let mut writer = BufWriter::new(tempfile::tempfile().unwrap());
    for round in 0..2400 {
        let mut file = TRANSPORT.to_vec();
        for packet in file.chunks_mut(188) {
            let payload = 4 + if packet[3] & 0x20 != 0 { 1 + usize::from(packet[4]) } else { 0 };
            let pes = &mut packet[payload..];
            if pes.starts_with(&[0, 0, 1]) {
                let times = usize::from(pes[7] >> 6).saturating_sub(1);
                pes[9..9 + 5 * times].chunks_mut(5).for_each(|time| add_ticks(time, round * TICKS));
            }
        }
        writer.write_all(&file).unwrap();
    }
    writer.into_inner().unwrap()
}

/// To a time of 33 bits between marker bits (ISO/IEC 13818-1, 2.4.3.6).
fn add_ticks(field: &mut [u8], ticks: u64) {
    let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|index| u64::from(field[index]));
    let time = (a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1;
    let time = time + ticks;
    field[0] = (a & 0xf1) as u8 | (time >> 29 & 0xe) as u8;
    field[1] = (time >> 22) as u8;
    field[2] = (time >> 14) as u8 | 1;
    field[3] = (time >> 7) as u8;
    field[4] = (time << 1) as u8 | 1;
}

#[test]
fn two_hours_of_mpeg_ts_take_the_memory_of_a_minute() {
    let _alone = alone();
    let mut file = two_hours_of_mpeg_ts();
    let file_bytes = file.metadata().unwrap().len();
    let (summary, peak) = peak_of(|| container::summarise(&mut file, file_bytes).unwrap());
    println!("summarise took {peak} bytes for {file_bytes} bytes of recording");
    assert_eq!((summary.duration.as_secs(), summary.recordings), (2 * 3600, 1));
    assert!(peak < 128 * KIB, "{peak} bytes");

    let (extent, peak) = peak_of(|| container::extent(&mut file, file_bytes).unwrap());
    println!("extent took {peak} bytes");
    assert_eq!(extent, summary);
    assert!(peak < 128 * KIB, "{peak} bytes");

    let noon = 3_600_000_000_000;
    let wanted = MediaTime(noon)..MediaTime(noon + 45_000_000_000);
    let limits = CutLimits::default();
    let (parts, peak) = peak_of(|| cut(&mut file, file_bytes, wanted, &limits).unwrap());
    println!("cutting 45 s took {peak} bytes");
    assert_eq!(parts.len(), 1);
    assert!(part_samples(&parts[0].needs, u64::MAX).unwrap().len() >= 45 * 10);
    // Two streams are walked at once.
    assert!(peak < 256 * KIB, "{peak} bytes");
}

/// An hour without cues: clusters of a second, the frames holes. Each block is read for itself.
fn an_hour_of_matroska() -> File {
    let fixture = FIXTURES.last().expect("there are some");
    let cluster = [0x1f, 0x43, 0xb6, 0x75];
    let head = fixture.windows(4).position(|id| id == cluster).expect("it has clusters");
    let segment = fixture.windows(4).position(|id| id == [0x18, 0x53, 0x80, 0x67]);
    let mut head = fixture[..head].to_vec();
    let size = segment.expect("it has one") + 4;
    head[size..size + 8].copy_from_slice(&[0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    let file = tempfile::tempfile().unwrap();
    let mut writer = BufWriter::new(file);
    writer.write_all(&head).unwrap();
    let mut at = head.len() as u64;
    for second in 0..3600_u32 {
        let time = (second * 1000).to_be_bytes();
        let open_cluster = [&cluster[..], &[0xff, 0xe7, 0x84], &time].concat();
        writer.write_all(&open_cluster).unwrap();
        at += open_cluster.len() as u64;
        for frame in 0..25_u16 {
            let [high, low] = (frame * 40).to_be_bytes();
            let size = (0x1000_0000 | (FRAME_BYTES + 4)).to_be_bytes();
            let keyframe = if frame == 0 { 0x80 } else { 0 };
            let block = [&[0xa3][..], &size, &[0x81, high, low, keyframe]].concat();
            writer.write_all(&block).unwrap();
            at += block.len() as u64 + u64::from(FRAME_BYTES);
            writer.seek(SeekFrom::Start(at)).unwrap();
        }
    }
    let file = writer.into_inner().unwrap();
    file.set_len(at).unwrap();
    file
}

#[test]
fn an_hour_of_matroska_takes_the_memory_of_a_second() {
    let _alone = alone();
    let mut file = an_hour_of_matroska();
    let file_bytes = file.metadata().unwrap().len();
    let (summary, peak) = peak_of(|| container::summarise(&mut file, file_bytes).unwrap());
    println!("Matroska: summarise took {peak} bytes for {file_bytes} bytes of recording");
    assert_eq!((summary.duration.as_secs(), summary.torn), (3600, false));
    assert!(peak < 64 * KIB, "{peak} bytes");
}
