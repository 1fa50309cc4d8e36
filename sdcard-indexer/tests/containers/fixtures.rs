//! The committed recordings; `fixtures/make.sh` says how they were made.

pub const H264_AAC_FRAGMENTED: &[u8] = include_bytes!("../fixtures/h264-aac-fragmented.mp4");
pub const H264_BFRAMES_EVERY_FRAME: &[u8] =
    include_bytes!("../fixtures/h264-bframes-every-frame.mp4");
pub const H264_BFRAMES_AAC_PLAIN: &[u8] = include_bytes!("../fixtures/h264-bframes-aac-plain.mp4");
pub const H265_AAC_FASTSTART: &[u8] = include_bytes!("../fixtures/h265-aac-faststart.mp4");
pub const AAC_FRAGMENTED: &[u8] = include_bytes!("../fixtures/aac-fragmented.mp4");

pub const ALL: [&[u8]; 5] = [
    H264_AAC_FRAGMENTED,
    H264_BFRAMES_EVERY_FRAME,
    H264_BFRAMES_AAC_PLAIN,
    H265_AAC_FASTSTART,
    AAC_FRAGMENTED,
];

/// Boxes at top level: type and range.
pub fn top_level(file: &[u8]) -> Vec<(String, std::ops::Range<usize>)> {
    let mut boxes = Vec::new();
    let mut at = 0;
    while at < file.len() {
        let size = u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
        let kind = String::from_utf8_lossy(&file[at + 4..at + 8]).into_owned();
        boxes.push((kind, at..at + size));
        at += size;
    }
    boxes
}

/// The bytes of the box of that type at top level.
pub fn top_level_box<'f>(file: &'f [u8], kind: &str) -> &'f [u8] {
    let (_, range) = top_level(file).into_iter().find(|(found, _)| found == kind).unwrap();
    &file[range]
}
