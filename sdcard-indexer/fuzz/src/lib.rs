//! What must hold of any bytes, whichever container they are taken for.

use std::io::Cursor;

use sdcard_indexer::container::{MediaTime, extent, keyframes, samples, summarise};
use sdcard_indexer::cut::{CutLimits, PartMedia, cut, part_samples};

/// A recording walked, told by head and tail, cut, and its parts taken apart again.
pub fn recording(file: &[u8]) {
    let file_bytes = file.len() as u64;
    let mut reader = Cursor::new(file);
    let Ok(summary) = summarise(&mut reader, file_bytes) else {
        let _ = extent(&mut reader, file_bytes);
        return;
    };
    assert!(summary.whole_bytes <= file_bytes);
    let seen = extent(&mut reader, file_bytes).expect("it was summarised");
    assert!(seen.whole_bytes <= file_bytes);
    assert!(seen.tracks == summary.tracks && seen.in_band == summary.in_band);

    let _ = keyframes(&mut reader, file_bytes);
    for sample in samples(&mut reader, file_bytes).expect("it was summarised").map_while(Result::ok)
    {
        assert!(sample.end_offset() <= file_bytes);
    }
    let limits = CutLimits { max_part_samples: 100, ..CutLimits::default() };
    let everything = MediaTime(i64::MIN)..MediaTime(i64::MAX);
    let parts = cut(&mut reader, file_bytes, everything, &limits).unwrap_or_default();
    for pair in parts.windows(2) {
        assert!(pair[0].media.end <= pair[1].media.start);
    }
    for part in parts {
        assert!(part.bytes.start <= part.bytes.end && part.bytes.end <= file_bytes);
        assert!(part.media.start <= part.media.end);
        let needs = PartMedia::decode(&part.needs.encode()).expect("what was cut can be read");
        assert!(needs == part.needs);
        let samples = part_samples(&needs, part.bytes.end - part.bytes.start);
        assert!(samples.expect("what was cut can be read").len() <= limits.max_part_samples);
    }
}
