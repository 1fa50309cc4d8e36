//! Any bytes as the description of a part.
//!
//! Seeds are descriptions of parts of the tests' recordings:
//! `cargo +nightly fuzz run part fuzz/corpus/part fuzz/seeds/part`
#![no_main]

use libfuzzer_sys::fuzz_target;
use sdcard_indexer::cut::{PartMedia, part_samples};

fuzz_target!(|bytes: &[u8]| {
    let Ok(needs) = PartMedia::decode(bytes) else { return };
    assert!(PartMedia::decode(&needs.encode()).expect("what was encoded can be read") == needs);
    for part_bytes in [0, 100_000, u64::MAX] {
        for sample in part_samples(&needs, part_bytes).unwrap_or_default() {
            assert!(sample.track < needs.tracks.len() && sample.end_offset() <= part_bytes);
            let track = &needs.tracks[sample.track];
            assert!(sample.starts_at(track) <= sample.ends_at(track));
        }
    }
});
