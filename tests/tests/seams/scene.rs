//! The view of what card and live recorder hold, and the encoder's output beside it.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reconciler::playback::{
    ArchivedSegment, Exported, FoundSeams, SeamSearch, Tolerances, export, find_seams, view,
};
use reconciler::seam::Seam;
use sdcard_indexer::time::{TimeRange, Timestamp};
use tests::media::{Form, Frame, VideoCodec, frames};

/// What became of a recording with a hole.
pub struct Merged {
    pub file: PathBuf,
    pub exported: Exported,
    pub found: FoundSeams,
    /// What looking for seams took.
    pub search: Duration,
}

/// Exports all that there is.
pub fn merge(segments: &[ArchivedSegment], directory: &Path) -> Merged {
    let begun = Instant::now();
    let found = find_seams(segments, &SeamSearch::default());
    let search = begun.elapsed();
    let runs = view(segments, &found.seams, Tolerances::default());
    let file = directory.join("merged.mp4");
    let everything = TimeRange::new(Timestamp::MIN, Timestamp::MAX).unwrap();
    let output = BufWriter::new(File::create(&file).unwrap());
    let exported = export(&runs, everything, output).unwrap();
    Merged { file, exported, found, search }
}

impl Merged {
    pub fn exact_seams(&self) -> usize {
        let exact = |seam: &Seam| matches!(seam, Seam::Exact { .. });
        self.exported.seams.iter().filter(|found| exact(&found.seam)).count()
    }

    /// Both seams were found to the frame, and what is played is what the encoder made.
    pub fn assert_whole(&self, encoder: &Path, codec: VideoCodec, what: &str) {
        let reasons: Vec<String> = self.reasons().collect();
        assert_eq!(self.exact_seams(), 2, "{what}: {:?}, {reasons:?}", self.exported.seams);
        self.assert_same(encoder, Form::Slices(codec), what);
        self.assert_same(encoder, Form::DecodedVideo, what);
    }

    pub fn reasons(&self) -> impl Iterator<Item = String> {
        let failed = self.found.attempts.iter();
        failed.filter_map(|attempt| {
            let error = attempt.outcome.as_ref().err()?;
            Some(format!("{:?}: {error}", attempt.edge))
        })
    }

    fn assert_same(&self, encoder: &Path, form: Form, what: &str) {
        let (played, made) = (frames(&self.file, form).unwrap(), frames(encoder, form).unwrap());
        assert_hashes(&played, &made, &format!("{what}, {form:?}"));
        assert_in_step(&played, &made, &format!("{what}, {form:?}"));
    }
}

/// Names the first difference: whole lists would be hundreds of lines.
pub fn assert_hashes(played: &[Frame], made: &[Frame], what: &str) {
    let differs = played.iter().zip(made).position(|(played, made)| played.hash != made.hash);
    let (played, made) = (played.len(), made.len());
    assert_eq!((differs, played), (None, made), "{what}: first difference, frames");
}

/// Each frame is shown when it was, to half a frame.
fn assert_in_step(played: &[Frame], made: &[Frame], what: &str) {
    let last = made.iter().map(|frame| frame.shown_at.0).max().unwrap();
    let half_ns = last / (made.len() as i64 - 1) / 2;
    for (index, (played, made)) in played.iter().zip(made).enumerate() {
        let off_ns = played.shown_at.0 - made.shown_at.0;
        assert!(off_ns.abs() < half_ns, "{what}: frame {index} is {off_ns} ns late");
    }
}

/// When the encoder's pictures are shown, in decode order.
pub fn shown(encoder: &Path, codec: VideoCodec) -> Vec<i64> {
    let made = frames(encoder, Form::Slices(codec)).unwrap();
    made.iter().map(|frame| frame.shown_at.0).collect()
}

pub fn codec(encoder: crate::encoder::Encoder) -> VideoCodec {
    match encoder {
        crate::encoder::Encoder::H265 => VideoCodec::H265,
        _ => VideoCodec::H264,
    }
}
