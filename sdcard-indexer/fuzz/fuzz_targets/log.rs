//! Any bytes as a day's log, and the same as what one record holds, with a checksum that is right, so that what
//! lies behind the checksum is reached too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sdcard_indexer::log::record::read_frame;

/// Before the payload stand its length, a version and a type.
const LENGTH_BYTES: usize = 4;

fn replay(log: &[u8]) {
    let mut rest = log;
    while let Some((record, behind)) = read_frame(rest) {
        assert!(behind.len() < rest.len(), "a frame has bytes");
        let mut written = Vec::new();
        assert!(record.write_to(&mut written), "what was read can be written");
        assert_eq!(read_frame(&written), Some((record, &[][..])));
        rest = behind;
    }
}

fuzz_target!(|bytes: &[u8]| {
    replay(bytes);
    let payload_bytes = (bytes.len().saturating_sub(2) as u32).to_le_bytes();
    let mut sealed = [&payload_bytes[..LENGTH_BYTES], bytes].concat();
    sealed.extend(crc32fast::hash(&sealed).to_le_bytes());
    replay(&sealed);
});
