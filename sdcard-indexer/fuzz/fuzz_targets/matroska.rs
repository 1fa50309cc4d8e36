//! Any bytes, from Matroska on.
#![no_main]

libfuzzer_sys::fuzz_target!(|file: &[u8]| sdcard_indexer_fuzz::recording(file));
