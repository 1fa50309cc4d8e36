//! The container walkers and the cutter, against real recordings and hostile bytes.
//!
//! ffmpeg makes the recordings and ffprobe is the judge of them; both must be installed
//! (`apt-get install ffmpeg`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "set-up that fails is a failed test")]

mod against_ffprobe;
mod atom;
mod corpora;
mod cutting;
mod cutting_near;
mod ffmpeg;
mod fixtures;
mod gstreamer;
mod in_band;
mod matroska;
mod mpegts;
mod mpegts_damaged;
mod near;
mod odd;
mod reads;
mod torn;

use std::io::Cursor;

use sdcard_indexer::container::{self, ContainerError, Sample, Track};

/// All samples of a file in memory, each with the track it is of. Compare with `assert!(a == b)`: printed,
/// they fill the screen.
fn samples_of(file: &[u8]) -> Result<Vec<(Track, Sample)>, ContainerError> {
    let mut reader = Cursor::new(file);
    let mut samples = container::samples(&mut reader, file.len() as u64)?;
    let mut all = Vec::new();
    while let Some(sample) = samples.next() {
        let sample = sample?;
        let track = samples.tracks().nth(sample.track).expect("a sample's track exists").clone();
        all.push((track, sample));
    }
    Ok(all)
}

/// What the walk tells; head and tail must tell the same.
fn summary_of(file: &[u8]) -> Result<container::Summary, ContainerError> {
    let walked = container::summarise(&mut Cursor::new(file), file.len() as u64);
    let extent = container::extent(&mut Cursor::new(file), file.len() as u64);
    match (&walked, &extent) {
        (Ok(walked), Ok(extent)) => assert_eq!(extent, walked),
        (Err(walked), Err(extent)) => assert_eq!(extent.to_string(), walked.to_string()),
        _ => panic!("walked: {walked:?}, by head and tail: {extent:?}"),
    }
    walked
}

fn keyframes_of(file: &[u8]) -> Result<Vec<container::Keyframe>, ContainerError> {
    container::keyframes(&mut Cursor::new(file), file.len() as u64)
}
