//! What a rig leaves behind: what was encoded, what each recorder has of it, and what neither tells by itself.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sdcard_indexer::container::MediaTime;
use sdcard_indexer::time::TimeRange;
use tempfile::TempDir;

use super::camera::{CameraClock, CardSegment};
use super::central::ArchiveSegment;
use super::footage::Truth;
use crate::media::{Form, frames};

/// Of the datagrams that the camera sent, RTP and RTCP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Traffic {
    pub passed: u64,
    pub lost: u64,
}

impl Traffic {
    pub(super) fn and(self, other: Traffic) -> Traffic {
        Traffic { passed: self.passed + other.passed, lost: self.lost + other.lost }
    }
}

/// All of it, in a directory that goes when this is dropped.
#[derive(Debug)]
pub struct Recorded {
    pub truth: Truth,
    /// How the camera names the card's segments.
    pub clock: CameraClock,
    /// In the order of time; together all of the truth.
    pub card: Vec<CardSegment>,
    /// In the order of time; what came through.
    pub archive: Vec<ArchiveSegment>,
    /// What the link was down for, in the recording's own time.
    pub cuts: Vec<Range<Duration>>,
    pub traffic: Traffic,
    pub(super) directory: TempDir,
}

/// A frame as it stands in the archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ArchivedFrame {
    /// Which of [`Recorded::archive`] it stands in.
    pub segment: usize,
    /// Since the first frame of that segment, by the central recorder's time stamps.
    pub shown_at: MediaTime,
    /// Which of [`Truth::video`] it is; `None`: none that comes behind the ones before, as it is damaged.
    pub index: Option<usize>,
}

impl Recorded {
    /// Nothing but the card's segments.
    pub fn card_dir(&self) -> PathBuf {
        self.directory.path().join("card")
    }

    /// Nothing but the archive's segments.
    pub fn archive_dir(&self) -> PathBuf {
        self.directory.path().join("archive")
    }

    /// For whatever a test wants to put beside them.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Which frames of the truth a file holds, in decode order, found by their slices. Frames that are alike are
    /// taken in turn, so that where pictures stand still, what comes out is possible, and not certain.
    pub fn identify(&self, file: &Path) -> anyhow::Result<Vec<(MediaTime, Option<usize>)>> {
        let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, frame) in self.truth.video.iter().enumerate() {
            places.entry(&frame.hash).or_default().push(index);
        }
        let mut next = 0;
        let mut identify = |hash: &str| -> Option<usize> {
            let alike = places.get(hash)?;
            let index = *alike.get(alike.partition_point(|&index| index < next))?;
            next = index + 1;
            Some(index)
        };
        let held = frames(file, Form::Slices(self.truth.codec))?;
        Ok(held.iter().map(|frame| (frame.shown_at, identify(&frame.hash))).collect())
    }

    /// Every frame of the archive, in the order in which it was written.
    pub fn archived_frames(&self) -> anyhow::Result<Vec<ArchivedFrame>> {
        let mut archived = Vec::new();
        for (segment, ArchiveSegment { path, .. }) in self.archive.iter().enumerate() {
            let held = self.identify(path)?.into_iter();
            let frame = |(shown_at, index)| ArchivedFrame { segment, shown_at, index };
            archived.extend(held.map(frame));
        }
        Ok(archived)
    }

    /// When the frames are shown that the archive has not whole, in true time, and so by the archive's clock.
    pub fn lacking(&self) -> anyhow::Result<Vec<TimeRange>> {
        let frames = self.archived_frames()?;
        let held: HashSet<usize> = frames.iter().filter_map(|frame| frame.index).collect();
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for index in (0..self.truth.video.len()).filter(|index| !held.contains(index)) {
            match ranges.last_mut().filter(|last| last.end == index) {
                Some(last) => last.end = index + 1,
                None => ranges.push(index..index + 1),
            }
        }
        let shown = |frames: Range<usize>| {
            let shown = || self.truth.video[frames.clone()].iter().map(|frame| frame.shown_at.0);
            let at = |shown| self.clock.start.saturating_offset(shown);
            TimeRange::new(at(shown().min()?), at(shown().max()?))
        };
        Ok(ranges.into_iter().filter_map(shown).collect())
    }

    /// The frames of the truth that lie in cuts: these were sent, and none of them has arrived whole.
    pub fn cut_frames(&self) -> impl Iterator<Item = usize> {
        let mut latest = 0;
        let is_cut = move |(index, shown_at): (usize, i64)| {
            latest = latest.max(shown_at);
            let media = Duration::from_nanos(latest.unsigned_abs());
            self.cuts.iter().any(|cut| cut.contains(&media)).then_some(index)
        };
        let shown = self.truth.video.iter().map(|frame| frame.shown_at.0);
        shown.enumerate().filter_map(is_cut)
    }
}
