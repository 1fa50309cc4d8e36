//! Any bytes as MPEG-TS: each packet begins as one, and the checksums of tables are right, so that what is fuzzed
//! is what lies behind them.
#![no_main]

use libfuzzer_sys::fuzz_target;

const SYNC: u8 = 0x47;
const PACKET_BYTES: usize = 188;
/// Of the time stamp before a packet of M2TS.
const STAMP_BYTES: usize = 4;

fuzz_target!(|file: &[u8]| {
    let mut file = file.to_vec();
    let lead = if file.first() == Some(&SYNC) { 0 } else { STAMP_BYTES };
    for packet in file.chunks_exact_mut(lead + PACKET_BYTES) {
        packet[lead] = SYNC;
        mend_table(&mut packet[lead..]);
    }
    sdcard_indexer_fuzz::recording(&file);
});

/// Rights the checksum of a packet whose payload is all of a table.
fn mend_table(packet: &mut [u8]) {
    let payload = &mut packet[4..];
    let (pointer, table) = (payload[0], payload[1]);
    let length = 4 + (usize::from(payload[2] & 0x0f) << 8 | usize::from(payload[3]));
    if pointer != 0 || !matches!(table, 0 | 2) || !(13..PACKET_BYTES - 4).contains(&length) {
        return;
    }
    let (body, rest) = payload[1..length].split_at_mut(length - 5);
    rest[..4].copy_from_slice(&crc32(body).to_be_bytes());
}

/// ISO/IEC 13818-1, annex A.
fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| {
            crc << 1 ^ if crc & 0x8000_0000 != 0 { 0x04c1_1db7 } else { 0 }
        })
    })
}
