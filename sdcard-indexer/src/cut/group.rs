//! The groups that a file falls into; see [`super`] for what goes with which.

use std::io::{Read, Seek};
use std::ops::Range;

use crate::container::{
    Ahead, ContainerError, Cursor, GroupStarts, MediaTime, Recording, Sample, Track, Walk,
};

/// A group of pictures, with the sound that goes with it.
#[derive(Debug)]
pub(super) struct Group {
    /// Which of the file's recordings it is of.
    pub(super) recording: u32,
    pub(super) media: Range<MediaTime>,
    /// From the first to the last byte of its samples.
    pub(super) bytes: Range<u64>,
    /// Track after track, each in decode order; the first so many of [`Self::count`].
    pub(super) samples: Vec<Sample>,
    pub(super) count: usize,
    max_samples: usize,
}

impl Group {
    /// One that holds on to `max_samples` and only counts the rest.
    pub(super) fn new(max_samples: usize) -> Self {
        Group {
            recording: 0,
            media: MediaTime(0)..MediaTime(0),
            bytes: 0..0,
            samples: Vec::new(),
            count: 0,
            max_samples,
        }
    }

    fn begin(&mut self, recording: u32, start: MediaTime, first: Sample) {
        self.recording = recording;
        self.media = start..start;
        self.bytes = first.offset..first.offset;
        self.samples.clear();
        self.count = 0;
        self.push(first);
    }

    fn push(&mut self, sample: Sample) {
        // A sample without bytes lies nowhere.
        if sample.size_bytes > 0 {
            self.bytes = hull(&self.bytes, &(sample.offset..sample.end_offset()));
        }
        if self.count < self.max_samples {
            self.samples.push(sample);
        }
        self.count += 1;
    }
}

/// The smallest range that holds both.
pub(super) fn hull(a: &Range<u64>, b: &Range<u64>) -> Range<u64> {
    a.start.min(b.start)..a.end.max(b.end)
}

/// The groups of a file, first to last.
#[derive(Debug)]
pub(super) struct Groups<'r, R> {
    walk: Walk<'r, R>,
    starts: GroupStarts,
    /// The first sample of the next group, and when that is shown.
    ahead: Option<(Sample, MediaTime)>,
    /// The tracks besides the primary one, each with its next sample.
    others: Vec<Ahead<Cursor>>,
    begun: bool,
    /// Groups that end before it may be left out.
    from: MediaTime,
}

impl<'r, R: Read + Seek> Groups<'r, R> {
    /// All of them, but for such as end at or before `from`, where these can be left out cheaply.
    pub(super) fn new(walk: Walk<'r, R>, from: MediaTime) -> Self {
        Groups {
            starts: GroupStarts::new(walk.end()),
            walk,
            ahead: None,
            others: Vec::new(),
            begun: false,
            from,
        }
    }

    /// The recording that the last group was of.
    pub(super) fn recording(&self) -> &Recording {
        self.walk.recording()
    }

    /// Replaces `group` by the next one; false where there is none.
    pub(super) fn next_into(&mut self, group: &mut Group) -> Result<bool, ContainerError> {
        let ahead = match self.ahead.take() {
            Some(ahead) => Some(ahead),
            None => self.begin_recording()?,
        };
        let Some((first, start)) = ahead else { return Ok(false) };
        group.begin(self.walk.recordings(), start, first);
        while let Some(sample) = self.walk.next_primary()? {
            if let Some(time) = self.group_start(&sample) {
                self.ahead = Some((sample, time));
                break;
            }
            group.push(sample);
        }
        group.media.end = self.ahead.map_or(self.walk.end(), |(_, time)| time);
        self.take_others(group)?;
        Ok(true)
    }

    fn begin_recording(&mut self) -> Result<Option<(Sample, MediaTime)>, ContainerError> {
        if self.begun && !self.walk.next_recording()? {
            return Ok(None);
        }
        self.begun = true;
        self.starts = GroupStarts::new(self.walk.end());
        self.others.clear();
        if self.from > self.walk.end() {
            if let Some((first, others)) = self.walk.skip_near(self.from)? {
                self.others = others;
                let track = self.walk.recording().primary_track();
                let start = track.map(|track| self.starts.at_keyframe(&first, track));
                return Ok(start.map(|start| (first, start)));
            }
        }
        let recording = self.walk.recording();
        let others = (0..recording.tracks().len()).filter(|&track| track != recording.primary());
        let cursors: Vec<Cursor> = others.filter_map(|track| self.walk.cursor(track)).collect();
        for mut cursor in cursors {
            let next = self.walk.next_of(&mut cursor)?;
            self.others.push((cursor, next));
        }
        let first = self.walk.next_primary()?;
        Ok(first.and_then(|first| Some((first, self.group_start(&first)?))))
    }

    fn group_start(&mut self, sample: &Sample) -> Option<MediaTime> {
        self.starts.at(sample, self.walk.recording().primary_track()?)
    }

    /// Of each other track what starts before the next group is shown; all that is left where none follows.
    fn take_others(&mut self, group: &mut Group) -> Result<(), ContainerError> {
        let until = self.ahead.map(|(_, time)| time);
        for (cursor, next) in &mut self.others {
            while let Some(sample) = *next {
                let track: Option<&Track> = self.walk.recording().track(sample.track);
                if track.is_some_and(|track| until.is_some_and(|t| sample.starts_at(track) >= t)) {
                    break;
                }
                group.push(sample);
                *next = self.walk.next_of(cursor)?;
            }
        }
        Ok(())
    }
}
