//! The projector: bytes of a programme, made of the recordings as they are asked for.
//!
//! Reads one sample at a time, and only those in which something that was asked for lies. What it holds is the table
//! of one take's samples, which it shares with all that read the same take, and the chunk that it is making.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use sdcard_indexer::container::{Sample, Track};

use super::programme::{Programme, Take, TakeError, sequence};
use super::reel::{Lanes, Reel};
use super::shelf::Shelf;
use crate::merge::{FragmentError, Source};

/// A chunk is closed once it is so large: by a sample larger at most.
const CHUNK_BYTES: usize = 128 * 1024;
/// Of samples' tables that are kept for who reads on in the same take: three hours of picture and sound.
const MOST_REEL_BYTES: usize = 64 * 1024 * 1024;
const MOST_REELS: usize = 64;

/// Takes that were read of lately, by programme and number.
pub type Reels = Shelf<(u64, usize), Arc<Reel>>;

pub fn reels() -> Reels {
    Shelf::new(MOST_REELS, MOST_REEL_BYTES)
}

/// Hands out a stretch of a programme's fragments, chunk by chunk.
#[derive(Debug)]
pub struct Projector {
    programme: Arc<Programme>,
    /// In bytes from the first fragment's beginning.
    rest: Range<u64>,
    open: Option<Open>,
    fragment: Option<Showing>,
}

#[derive(Debug)]
struct Open {
    take: usize,
    reel: Arc<Reel>,
    source: Source,
}

/// What is left of a fragment.
#[derive(Debug)]
struct Showing {
    head: Vec<u8>,
    samples: VecDeque<(Track, Sample)>,
}

impl Projector {
    /// `media` counts from the first fragment's beginning; what lies beyond the last is not there.
    pub fn new(programme: Arc<Programme>, media: Range<u64>) -> Self {
        let end = media.end.min(programme.media_bytes());
        let rest = media.start.min(end)..end;
        Projector { programme, rest, open: None, fragment: None }
    }

    /// The next bytes; `None` once all have been given. Reads files.
    pub fn next_chunk(&mut self, reels: &Reels) -> Result<Option<Bytes>, TakeError> {
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK_BYTES && !self.rest.is_empty() {
            self.read_on(reels, &mut chunk)?;
        }
        Ok((!chunk.is_empty()).then(|| Bytes::from(chunk)))
    }

    /// Appends what comes next: a fragment's head, or one sample.
    fn read_on(&mut self, reels: &Reels, chunk: &mut Vec<u8>) -> Result<(), TakeError> {
        let mut passed = match self.fragment {
            Some(_) => 0,
            None => self.enter(reels)?,
        };
        let Some(showing) = self.fragment.as_mut() else {
            // Nothing lies there.
            self.rest.start = self.rest.end;
            return Ok(());
        };
        if !showing.head.is_empty() {
            let head = std::mem::take(&mut showing.head);
            if passed < head.len() as u64 {
                self.give(&head, passed, chunk);
                return Ok(());
            }
            passed -= head.len() as u64;
        }
        while let Some((track, sample)) = showing.samples.pop_front() {
            let bytes = u64::from(sample.size_bytes);
            if passed >= bytes {
                passed -= bytes;
                continue;
            }
            let mut media = Vec::new();
            self.read(&track, &sample, &mut media)?;
            self.give(&media, passed, chunk);
            break;
        }
        if self.fragment.as_ref().is_some_and(|showing| showing.samples.is_empty()) {
            self.fragment = None;
        }
        Ok(())
    }

    fn give(&mut self, bytes: &[u8], passed: u64, chunk: &mut Vec<u8>) {
        let wanted = self.rest.end - self.rest.start;
        let from = usize::try_from(passed).unwrap_or(usize::MAX);
        let bytes = bytes.get(from..).unwrap_or_default();
        let given = bytes.len().min(usize::try_from(wanted).unwrap_or(usize::MAX));
        chunk.extend_from_slice(bytes.get(..given).unwrap_or_default());
        self.rest.start += given as u64;
    }

    /// Opens the fragment in which the next byte lies; how much of it lies before that.
    fn enter(&mut self, reels: &Reels) -> Result<u64, TakeError> {
        let programme = Arc::clone(&self.programme);
        let found = programme.fragment_at(self.rest.start);
        let Some((number, fragment)) = found else { return Ok(0) };
        let Some(take) = programme.take(fragment.take) else { return Ok(0) };
        if self.open.as_ref().is_none_or(|open| open.take != fragment.take) {
            self.open = None;
            self.open = Some(open(&programme, fragment.take, take, reels)?);
        }
        let Some(Open { reel, .. }) = self.open.as_ref() else { return Ok(0) };
        let on_reel = number - take.first_fragment;
        let failed = |source| TakeError::Fragment { file: take.file.clone(), source };
        let head = reel.head(on_reel, sequence(take, on_reel)).map_err(failed)?;
        let samples = reel.samples(on_reel).map(|(track, sample)| (track.clone(), *sample));
        self.fragment = Some(Showing { head, samples: samples.collect() });
        Ok(self.rest.start - fragment.begins)
    }

    fn read(
        &mut self,
        track: &Track,
        sample: &Sample,
        media: &mut Vec<u8>,
    ) -> Result<(), TakeError> {
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        let (_, mut reader) = open.source.media();
        reader.read(track, sample, media).map_err(|source| {
            let source = FragmentError::Read { offset: sample.offset, source };
            let file = self.programme.take(open.take).map(|take| take.file.clone());
            TakeError::Fragment { file: file.unwrap_or_default(), source }
        })
    }
}

fn open(
    programme: &Programme,
    number: usize,
    take: &Take,
    reels: &Reels,
) -> Result<Open, TakeError> {
    let key = (programme.edition().number, number);
    let reel = match reels.get(&key) {
        Some(reel) => reel,
        None => {
            let reel = Arc::new(load(take, &programme.lanes)?);
            reels.put(key, Arc::clone(&reel), reel.weight());
            reel
        }
    };
    let source = Source::reopen(&take.file, take.file_bytes, take.summary.clone())
        .map_err(|source| TakeError::Source { file: take.file.clone(), source })?;
    Ok(Open { take: number, reel, source })
}

fn load(take: &Take, lanes: &Lanes) -> Result<Reel, TakeError> {
    let reel = Reel::load(take, &mut take.before.clone(), lanes)?;
    let as_planned = reel.filter(|reel| reel.fingerprint == take.fingerprint);
    as_planned.ok_or_else(|| TakeError::Changed { file: take.file.clone() })
}
