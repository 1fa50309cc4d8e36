//! The worked example for makers of recorders does what it says.

#[allow(dead_code, reason = "its own `main` is what runs")]
#[path = "../examples/ring_store.rs"]
mod ring_store;

#[test]
fn a_ring_file_is_indexed_cut_read_and_verified_like_any_folder() {
    ring_store::main().unwrap();
}
