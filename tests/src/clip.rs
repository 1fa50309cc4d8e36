//! The committed minute of footage that simulated cameras record, and its cutting without ffmpeg.
//!
//! `assets/seconds.mp4` is a fragmented MP4 with one closed GOP per fragment and second; the picture of
//! second n shows n. A recording is therefore its first bytes followed by copies of fragments of which
//! only the sequence number and the decode time are rewritten. Nothing here touches a disk.
//!
//! The footage repeats after a minute, byte for byte: do not look for frames by content over more.

use std::sync::LazyLock;

use sdcard_indexer::time::Timestamp;

/// Frames in each second of the clip.
pub const FRAMES_PER_SECOND: u32 = 25;

/// Timescale of its only track.
pub const TICKS_PER_SECOND: u32 = 90_000;

const SECONDS: usize = 60;
const NANOS_PER_SECOND: i64 = 1_000_000_000;

static CLIP: LazyLock<Clip> =
    LazyLock::new(|| Clip::parse(include_bytes!("../assets/seconds.mp4")));

/// A clip split into what every segment starts with, and its sixty seconds.
#[derive(Debug)]
pub struct Clip {
    init: &'static [u8],
    fragments: Vec<Fragment>,
}

/// One second: a `moof` and its `mdat`, and where in them a copy is rewritten.
#[derive(Debug)]
struct Fragment {
    bytes: &'static [u8],
    sequence_number_at: usize,
    decode_time_at: usize,
}

impl Clip {
    /// The committed clip.
    pub fn committed() -> &'static Clip {
        &CLIP
    }

    /// `ftyp` and `moov`: the bytes every segment starts with.
    pub fn init(&self) -> &'static [u8] {
        self.init
    }

    /// Size of the fragment that shows the second `instant` lies in.
    pub fn fragment_bytes(&self, instant: Timestamp) -> u64 {
        self.showing(instant).bytes.len() as u64
    }

    /// The fragment that shows the second `instant` lies in, as the `position`th second of a segment.
    pub fn fragment(&self, instant: Timestamp, position: u32) -> Vec<u8> {
        let fragment = self.showing(instant);
        let mut bytes = fragment.bytes.to_vec();
        let decode_time = u64::from(position) * u64::from(TICKS_PER_SECOND);
        put(&mut bytes, fragment.sequence_number_at, &(position + 1).to_be_bytes());
        put(&mut bytes, fragment.decode_time_at, &decode_time.to_be_bytes());
        bytes
    }

    /// A whole segment of `seconds` seconds, the first of which shows the second `start` lies in.
    pub fn segment(&self, start: Timestamp, seconds: u32) -> Vec<u8> {
        let mut bytes = self.init.to_vec();
        for position in 0..seconds {
            bytes.extend(self.fragment(after(start, position), position));
        }
        bytes
    }

    fn showing(&self, instant: Timestamp) -> &Fragment {
        let second = instant.as_nanos().div_euclid(NANOS_PER_SECOND);
        &self.fragments[second.rem_euclid(SECONDS as i64) as usize]
    }

    fn parse(bytes: &'static [u8]) -> Clip {
        let boxes = top_level_boxes(bytes);
        let moofs: Vec<usize> =
            boxes.iter().filter(|(kind, _)| kind == b"moof").map(|&(_, at)| at).collect();
        let ends = moofs.iter().skip(1).copied().chain([bytes.len()]);
        let fragments = moofs.iter().zip(ends).map(|(&at, end)| Fragment::new(&bytes[at..end]));
        Clip { init: &bytes[..moofs[0]], fragments: fragments.collect() }
    }
}

impl Fragment {
    fn new(bytes: &'static [u8]) -> Fragment {
        let after_name = |name: &[u8; 4]| {
            let at = bytes.windows(4).position(|window| window == name);
            at.expect("every fragment of the clip has mfhd and tfdt before its media") + 4
        };
        // Both are full boxes: four bytes of version and flags come before the value.
        Fragment {
            bytes,
            sequence_number_at: after_name(b"mfhd") + 4,
            decode_time_at: after_name(b"tfdt") + 4,
        }
    }
}

/// `seconds` seconds after `start`.
pub(crate) fn after(start: Timestamp, seconds: u32) -> Timestamp {
    start.saturating_offset(i64::from(seconds) * NANOS_PER_SECOND)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Type and offset of each box. For the rig's own files only: it trusts their lengths.
fn top_level_boxes(bytes: &[u8]) -> Vec<([u8; 4], usize)> {
    let mut boxes = Vec::new();
    let mut at = 0;
    while let Some(&[a, b, c, d, kind @ ..]) = bytes[at..].first_chunk::<8>() {
        boxes.push((kind, at));
        at += u32::from_be_bytes([a, b, c, d]) as usize;
    }
    boxes
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use crate::media::{Form, frames};

    use super::*;

    #[test]
    fn the_committed_clip_is_a_header_and_sixty_fragments() {
        let clip = Clip::committed();
        let kinds: Vec<_> =
            top_level_boxes(clip.init()).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [*b"ftyp", *b"moov"]);
        assert_eq!(clip.fragments.len(), SECONDS);
        for (index, fragment) in clip.fragments.iter().enumerate() {
            let kinds: Vec<_> =
                top_level_boxes(fragment.bytes).into_iter().map(|(kind, _)| kind).collect();
            assert_eq!(kinds, [*b"moof", *b"mdat"]);
            let version = fragment.bytes[fragment.decode_time_at - 4];
            assert_eq!(version, 1, "tfdt must be 64 bits wide");
            let decode_time = &fragment.bytes[fragment.decode_time_at..][..8];
            let expected = index as u64 * u64::from(TICKS_PER_SECOND);
            assert_eq!(decode_time, expected.to_be_bytes());
        }
    }

    #[test]
    fn a_segment_plays_the_seconds_it_is_named_for_from_zero() {
        let directory = tempfile::tempdir().unwrap();
        let written = |name: &str, start: &str, seconds| {
            let path = directory.path().join(name);
            let bytes = Clip::committed().segment(start.parse().unwrap(), seconds);
            File::create(&path).unwrap().write_all(&bytes).unwrap();
            frames(&path, Form::DecodedVideo).unwrap()
        };
        let minute = written("minute.mp4", "2026-11-23T10:00:00Z", 60);
        let across = written("across.mp4", "2026-11-23T10:00:58Z", 4);

        let expected = minute[58 * 25..].iter().chain(&minute[..2 * 25]).map(|frame| &frame.hash);
        assert!(across.iter().map(|frame| &frame.hash).eq(expected));
        assert_eq!(across.first().unwrap().shown_at.0, 0);
        assert_eq!(across.last().unwrap().shown_at.0, 3_960_000_000);
    }
}
