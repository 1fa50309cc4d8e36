//! Any bytes, from plain MP4 on.
#![no_main]

libfuzzer_sys::fuzz_target!(|file: &[u8]| sdcard_indexer_fuzz::recording(file));
