//! Finding one's way through sample tables without going from sample to sample.
//!
//! Run-length tables are added up run by run, sorted ones searched, and of sizes only those within one chunk read.

use std::io::{Read, Seek};
use std::ops::Range;

use super::super::ContainerError;
use super::super::boxes::Source;
use super::super::movie::{Table, Tables};
use super::{ChunkCursor, Entries, Runs, TableCursor};

/// The last keyframes decoded at or before these ticks, by number from 0, last first: the last may be shown only later.
/// None where all samples are keyframes, and never the first sample.
pub(in super::super) fn keyframes_until<R: Read + Seek>(
    source: &mut Source<'_, R>,
    tables: &Tables,
    until: i64,
) -> Result<Vec<u32>, ContainerError> {
    const ENOUGH: u32 = 2;
    let Some(keyframes) = tables.keyframes else { return Ok(Vec::new()) };
    let decoded = decoded_until(source, tables.durations, until)?;
    let mut keyframes = Entries::new(keyframes);
    let before = keyframes.partition_point(source, |keyframe| keyframe <= decoded)?;
    let mut numbers = Vec::new();
    for index in (before.saturating_sub(ENOUGH)..before).rev() {
        keyframes.done = index;
        let number = keyframes.next_word(source)?.and_then(|keyframe| keyframe.checked_sub(1));
        numbers.extend(number.filter(|&number| number > 0));
    }
    Ok(numbers)
}

/// The first sample, by its number from 0, of the chunk that holds the last one decoded at or before these ticks.
pub(in super::super) fn chunk_until<R: Read + Seek>(
    source: &mut Source<'_, R>,
    tables: &Tables,
    until: i64,
) -> Result<Option<u32>, ContainerError> {
    let decoded = decoded_until(source, tables.durations, until)?;
    let Some(last) = decoded.min(tables.sizes.entries).checked_sub(1) else { return Ok(None) };
    let chunk = chunk_of(source, tables.samples_per_chunk, last)?;
    Ok(chunk.map(|(_, first)| first))
}

/// How many samples are decoded at or before these ticks.
fn decoded_until<R: Read + Seek>(
    source: &mut Source<'_, R>,
    durations: Table,
    until: i64,
) -> Result<u32, ContainerError> {
    let mut runs = Runs::new(durations);
    let (mut ticks, mut decoded): (i64, u32) = (0, 0);
    while ticks <= until && runs.enter(source)? {
        let behind = (until - ticks).checked_div(runs.value.into()).unwrap_or(i64::MAX);
        let count = u32::try_from(behind.saturating_add(1)).unwrap_or(u32::MAX).min(runs.left);
        decoded = decoded.saturating_add(count);
        ticks = ticks.saturating_add(i64::from(count) * i64::from(runs.value));
        runs.skip(count);
    }
    Ok(decoded)
}

/// Number from 1 of the chunk that holds a sample, and the first sample in it (`stsc`).
fn chunk_of<R: Read + Seek>(
    source: &mut Source<'_, R>,
    samples_per_chunk: Table,
    sample: u32,
) -> Result<Option<(u32, u32)>, ContainerError> {
    let mut runs = Entries::new(samples_per_chunk);
    let mut before: u32 = 0;
    let mut run = runs.next_chunks(source)?;
    while let Some((first_chunk, samples)) = run {
        let next = runs.next_chunks(source)?;
        let chunks = next.map_or(u32::MAX, |(chunk, _)| chunk.saturating_sub(first_chunk));
        let within = sample.saturating_sub(before).checked_div(samples);
        if let Some(within) = within.filter(|&within| within < chunks) {
            let first = before.saturating_add(within.saturating_mul(samples));
            return Ok(Some((first_chunk.saturating_add(within), first)));
        }
        before = before.saturating_add(chunks.saturating_mul(samples));
        run = next;
    }
    Ok(None)
}

impl TableCursor {
    /// When the next sample is shown; `None` where there is none.
    pub(in super::super) fn shown_next<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<Option<i64>, ContainerError> {
        let has_offset = self.composition.enter(source)?;
        let offset = if has_offset { i64::from(self.composition.value as i32) } else { 0 };
        let is_one = self.done < self.tables.sizes.entries;
        Ok(is_one.then(|| self.decode_ticks.saturating_add(offset)))
    }

    /// Goes on with the sample of this number from 0; only at the beginning. False where there is none.
    pub(in super::super) fn seek<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
        number: u32,
    ) -> Result<bool, ContainerError> {
        let decode_ticks = self.durations.advance(source, number)?;
        let chunk = chunk_of(source, self.tables.samples_per_chunk, number)?;
        let (Some(decode_ticks), Some((chunk, first))) = (decode_ticks, chunk) else {
            return Ok(false);
        };
        self.decode_ticks = decode_ticks;
        self.composition.advance(source, number)?;
        self.keyframes.done = self.keyframes.partition_point(source, |k| k <= number)?;
        self.chunks.skip_to(source, chunk, self.recording_start, &self.media)?;
        self.done = number;
        self.sizes.done = first;
        for _ in first..number {
            if !self.chunks.enter(source, self.recording_start, &self.media)? {
                return Ok(false);
            }
            let size = match self.tables.constant_size {
                Some(size) => size,
                None => self.next_size(source)?.unwrap_or(0),
            };
            self.chunks.advance(1, size);
        }
        Ok(true)
    }
}

impl ChunkCursor {
    /// Goes on with the chunk of this number from 1; only at the beginning.
    fn skip_to<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
        chunk: u32,
        recording_start: u64,
        media: &Range<u64>,
    ) -> Result<(), ContainerError> {
        if chunk > 1 && self.enter(source, recording_start, media)? {
            self.number = chunk - 1;
            self.offsets.done = (chunk - 1).min(self.offsets.table.entries);
            self.left = 0;
        }
        Ok(())
    }
}

impl Entries {
    /// How many entries of a sorted table of words fulfil `before`.
    fn partition_point<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
        before: impl Fn(u32) -> bool,
    ) -> Result<u32, ContainerError> {
        let (mut begin, mut end) = (0, self.table.entries);
        while begin < end {
            let middle = begin.midpoint(end);
            self.done = middle;
            if self.next_word(source)?.is_some_and(&before) {
                begin = middle + 1;
            } else {
                end = middle;
            }
        }
        Ok(begin)
    }
}

impl Runs {
    /// Steps over so many values, and adds them up; `None` where there are fewer.
    fn advance<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
        mut count: u32,
    ) -> Result<Option<i64>, ContainerError> {
        let mut sum: i64 = 0;
        while count > 0 {
            if self.left < count {
                self.entries.read_ahead(source, Self::ENTRY_BYTES)?;
            }
            if !self.enter(source)? {
                return Ok(None);
            }
            let here = count.min(self.left);
            sum = sum.saturating_add(i64::from(here) * i64::from(self.value));
            self.skip(here);
            count -= here;
        }
        Ok(Some(sum))
    }
}
