//! Bytes of a frame as they come, and the same with a checksum that is right, so that what lies behind
//! the checksum is reached too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::frame::{self, Data, HEADER_BYTES};
use protocol::message::TransferId;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(data) = Data::decode(bytes) {
        assert_eq!(data.payload.len() + HEADER_BYTES, bytes.len());
    }
    let Some((numbers, payload)) = bytes.split_first_chunk::<24>() else { return };
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| numbers[at + i]));
    let (transfer, offset, echo) = (TransferId(number(0)), number(8), number(16));
    let mut sealed = [&[0; HEADER_BYTES], payload].concat();
    if frame::seal(&mut sealed, transfer, offset, echo).is_ok() {
        let fits = offset.checked_add(payload.len() as u64).is_some();
        let expected = Data { transfer, offset, echo, payload };
        assert_eq!(Data::decode(&sealed).ok(), fits.then_some(expected));
    }
});
