//! What must hold of any bytes, whichever container they are taken for.

use std::io::Cursor;

use sdcard_indexer::container::{
    ContainerError, MediaTime, Sample, SampleReader, Track, extent, keyframes, samples,
    samples_near, summarise,
};
use sdcard_indexer::cut::{CutLimits, Part, PartMedia, cut, part_samples};

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
    // From the beginning, and from where indexes and sample tables lead.
    let middle = i64::try_from(summary.duration.as_nanos() / 2).unwrap_or(i64::MAX);
    for from in [i64::MIN, middle] {
        let near = samples_near(&mut reader, file_bytes, MediaTime(from));
        for sample in near.expect("it was summarised").map_while(Result::ok) {
            assert!(sample.end_offset() <= file_bytes);
        }
        let wanted = MediaTime(from)..MediaTime(i64::MAX);
        let parts = cut(&mut reader, file_bytes, wanted, &limits).unwrap_or_default();
        check_parts(file, &parts, &limits);
    }
}

fn check_parts(file: &[u8], parts: &[Part], limits: &CutLimits) {
    let file_bytes = file.len() as u64;
    for pair in parts.windows(2) {
        assert!(pair[0].media.end <= pair[1].media.start);
    }
    for part in parts {
        assert!(part.bytes.start <= part.bytes.end && part.bytes.end <= file_bytes);
        assert!(part.media.start <= part.media.end);
        let needs = PartMedia::decode(&part.needs.encode()).expect("what was cut can be read");
        assert!(needs == part.needs);
        let samples = part_samples(&needs, part.bytes.end - part.bytes.start);
        let samples = samples.expect("what was cut can be read");
        assert!(samples.len() <= limits.max_part_samples);
        let bytes = &file[part.bytes.start as usize..part.bytes.end as usize];
        for sample in samples {
            let track = &needs.tracks[sample.track];
            let in_file = Sample { offset: sample.offset + part.bytes.start, ..sample };
            let from_part = media(bytes, track, &sample).expect("what was cut can be read");
            assert!(from_part == media(file, track, &in_file).expect("as in the part"));
        }
    }
}

fn media(file: &[u8], track: &Track, sample: &Sample) -> Result<Vec<u8>, ContainerError> {
    let (mut reader, mut bytes) = (Cursor::new(file), Vec::new());
    SampleReader::new(&mut reader, file.len() as u64).read(track, sample, &mut bytes)?;
    assert!(bytes.len() == sample.size_bytes as usize);
    Ok(bytes)
}
