//! The committed recordings; `fixtures/make.sh` says how they were made.

pub const H264_AAC_FRAGMENTED: &[u8] = include_bytes!("../fixtures/h264-aac-fragmented.mp4");
pub const H264_BFRAMES_EVERY_FRAME: &[u8] =
    include_bytes!("../fixtures/h264-bframes-every-frame.mp4");
pub const H264_BFRAMES_AAC_PLAIN: &[u8] = include_bytes!("../fixtures/h264-bframes-aac-plain.mp4");
pub const H265_AAC_FASTSTART: &[u8] = include_bytes!("../fixtures/h265-aac-faststart.mp4");
pub const AAC_FRAGMENTED: &[u8] = include_bytes!("../fixtures/aac-fragmented.mp4");

pub const H264_BFRAMES_AAC_MATROSKA: &[u8] = include_bytes!("../fixtures/h264-bframes-aac.mkv");

/// Those of boxes.
pub const ALL: [&[u8]; 5] = [
    H264_AAC_FRAGMENTED,
    H264_BFRAMES_EVERY_FRAME,
    H264_BFRAMES_AAC_PLAIN,
    H265_AAC_FASTSTART,
    AAC_FRAGMENTED,
];

/// With packets of 188 bytes and of 192.
pub const H264_BFRAMES_AAC_TS: &[u8] = include_bytes!("../fixtures/h264-bframes-aac.ts");
pub const H265_OPUS_M2TS: &[u8] = include_bytes!("../fixtures/h265-opus.m2ts");

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

/// The file with a box changed: `path` names its parents and itself, the first of each kind. `change` gets the
/// whole box and may leave any length, or nothing; the sizes of it and its parents are mended.
pub fn with_box_changed(file: &[u8], path: &[&str], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let (first, rest) = path.split_first().expect("a path names a box");
    let mut boxes = top_level(file).into_iter();
    let (_, range) = boxes.find(|(kind, _)| kind == first).expect("the box is there");
    let mut changed = file[range.clone()].to_vec();
    if rest.is_empty() {
        change(&mut changed);
    } else {
        changed.splice(8.., with_box_changed(&file[range.start + 8..range.end], rest, change));
    }
    if !changed.is_empty() {
        let size = (changed.len() as u32).to_be_bytes();
        changed[..4].copy_from_slice(&size);
    }
    [&file[..range.start], &changed, &file[range.end..]].concat()
}

/// A box around these bytes.
pub fn in_box(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat()
}
