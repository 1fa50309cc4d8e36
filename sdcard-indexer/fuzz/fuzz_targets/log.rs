//! Any bytes as a day's log, and the same as what one record holds, with a checksum that is right, so that what
//! lies behind the checksum is reached too.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use sdcard_indexer::log::record::{read_frame, read_next};

/// Before the payload stand its length, a version and a type.
const LENGTH_BYTES: usize = 4;

fn replay(log: &[u8]) {
    let mut rest = log;
    let mut file = Cursor::new(log);
    let mut buffer = Vec::new();
    while let Some((record, behind)) = read_frame(rest) {
        let mut written = Vec::new();
        assert!(record.write_to(&mut written), "what was read can be written");
        assert_eq!(read_frame(&written).map(|(again, _)| again).as_ref(), Some(&record));
        let (next, frame_bytes) = read_next(&mut file, &mut buffer).unwrap().expect("the same");
        assert_eq!(next, record);
        assert_eq!(frame_bytes as usize, rest.len() - behind.len());
        rest = behind;
    }
    assert!(read_next(&mut file, &mut buffer).unwrap().is_none());
}

fuzz_target!(|bytes: &[u8]| {
    replay(bytes);
    let payload_bytes = (bytes.len().saturating_sub(2) as u32).to_le_bytes();
    let mut sealed = [&payload_bytes[..LENGTH_BYTES], bytes].concat();
    sealed.extend(crc32fast::hash(&sealed).to_le_bytes());
    replay(&sealed);
});
