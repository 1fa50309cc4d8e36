//! Bytes of any message: refused without harm, or understood, and then the same after their own bytes.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use protocol::envelope::{Message, decode, encode};
use protocol::message::{Ask, CoverageReport, Credit, Presence, Tell};

fn check<M: Message + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(message) = decode::<M>(bytes) {
        let again = encode(&message).expect("what fitted a packet fits one again");
        assert_eq!(decode::<M>(&again).as_ref(), Ok(&message));
    }
}

fuzz_target!(|bytes: &[u8]| {
    check::<Presence>(bytes);
    check::<CoverageReport>(bytes);
    check::<Ask>(bytes);
    check::<Credit>(bytes);
    check::<Tell>(bytes);
});
