//! Plain MP4: the samples of one track, read off its sample tables (ISO/IEC 14496-12, 8.6 and 8.7).
//!
//! Each table is read through a small window of its own, entry after entry; none is ever held whole, so
//! that a file of eight hours takes the memory of one of a minute.

pub(super) mod seek;

use std::io::{Read, Seek};
use std::ops::Range;

use super::boxes::{Fields, Source, Window};
use super::fmp4::UNTIMED;
use super::movie::{Table, Tables, TrackLayout};
use super::track::{Sample, TrackKind};
use super::{ContainerError, place};

/// PCM has a "sample" per tick: handed out in runs of at most so many, as one sample each.
const PCM_SAMPLES_AT_ONCE: u32 = 1024;

/// Walks one track's samples in decode order.
#[derive(Debug)]
pub(super) struct TableCursor {
    track: usize,
    is_audio: bool,
    tables: Tables,
    /// Where the recording begins in the file, and where its media lies.
    recording_start: u64,
    media: Range<u64>,
    sizes: Entries,
    durations: Runs,
    composition: Runs,
    keyframes: Entries,
    next_keyframe: Option<u32>,
    chunks: ChunkCursor,
    /// Samples handed out.
    done: u32,
    decode_ticks: i64,
    started: bool,
}

impl TableCursor {
    pub(super) fn new(
        track: usize,
        layout: &TrackLayout,
        recording_start: u64,
        media: Range<u64>,
    ) -> Self {
        let tables = layout.tables;
        TableCursor {
            track,
            is_audio: layout.track.kind == TrackKind::Audio,
            tables,
            recording_start,
            media,
            sizes: Entries::new(tables.sizes),
            durations: Runs::new(tables.durations),
            composition: Runs::new(tables.composition),
            keyframes: Entries::new(tables.keyframes.unwrap_or_default()),
            next_keyframe: None,
            chunks: ChunkCursor::new(&tables),
            done: 0,
            decode_ticks: 0,
            started: false,
        }
    }

    /// Decode time after the last sample that was handed out.
    pub(super) fn decode_ticks(&self) -> i64 {
        self.decode_ticks
    }

    /// Leaves out all samples.
    pub(super) fn leave_out(&mut self) {
        self.done = self.tables.sizes.entries;
        self.decode_ticks = UNTIMED;
    }

    /// The next sample; `None` after the last, or where the next one's bytes are not in the file.
    pub(super) fn next<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<Option<Sample>, ContainerError> {
        if self.done == self.tables.sizes.entries {
            return Ok(None);
        }
        if !self.started {
            self.started = true;
            self.next_keyframe = self.keyframes.next_word(source)?;
        }
        let Some(sample) = self.assemble(source)?.filter(|s| s.end_offset() <= source.end) else {
            self.done = self.tables.sizes.entries;
            return Ok(None);
        };
        self.decode_ticks = self.decode_ticks.saturating_add(i64::from(sample.duration));
        Ok(Some(sample))
    }

    /// `None` where the tables run out of chunks before they run out of samples.
    fn assemble<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<Option<Sample>, ContainerError> {
        if !self.chunks.enter(source, self.recording_start, &self.media)? {
            return Ok(None);
        }
        let short = ContainerError::Malformed {
            offset: self.tables.durations.first,
            what: "fewer durations (stts) than samples (stsz)",
        };
        let one_duration = self.durations.next(source)?.ok_or(short)?;
        let (count, size_bytes, duration) = match self.tables.constant_size {
            Some(size) if self.is_audio && one_duration == 1 && self.durations.uniform() => {
                let count = (self.tables.sizes.entries - self.done)
                    .min(self.chunks.left)
                    .min(PCM_SAMPLES_AT_ONCE);
                self.durations.skip(count - 1);
                (count, size.saturating_mul(count), count)
            }
            Some(size) => (1, size, one_duration),
            None => (1, self.next_size(source)?.unwrap_or(0), one_duration),
        };
        // Version 0 holds unsigned offsets, version 1 signed ones: alike below 2^31, which no one passes.
        let composition_offset = self.composition.next(source)?.unwrap_or(0) as i32;
        let number = self.done + 1;
        let keyframe =
            self.is_audio || self.tables.keyframes.is_none() || self.next_keyframe == Some(number);
        while self.next_keyframe.is_some_and(|next| next <= number) {
            self.next_keyframe = self.keyframes.next_word(source)?;
        }
        self.done += count;
        Ok(Some(Sample {
            track: self.track,
            decode_ticks: self.decode_ticks,
            composition_offset,
            duration,
            size_bytes,
            offset: self.chunks.advance(count, size_bytes),
            keyframe,
            packets: None,
        }))
    }

    fn next_size<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<Option<u32>, ContainerError> {
        let is_second_of_byte = self.sizes.done % 2 == 1;
        Ok(match self.tables.size_bits {
            16 => self.sizes.next::<R, 2>(source)?.map(|size| u16::from_be_bytes(size).into()),
            8 => self.sizes.next::<R, 1>(source)?.map(|[size]| size.into()),
            4 => self
                .sizes
                .next_half(source)?
                .map(|[both]| u32::from(if is_second_of_byte { both & 0xf } else { both >> 4 })),
            _ => self.sizes.next_word(source)?,
        })
    }
}

/// When the last of a track's samples has been shown, in its ticks: off the run-length tables alone. `None`
/// where these are shorter than the track.
pub(super) fn shown_until<R: Read + Seek>(
    source: &mut Source<'_, R>,
    tables: &Tables,
) -> Result<Option<i64>, ContainerError> {
    let (mut durations, mut offsets) = (Runs::new(tables.durations), Runs::new(tables.composition));
    let mut left = tables.sizes.entries;
    let mut decode_ticks: i64 = 0;
    let mut latest = None;
    while left > 0 {
        durations.entries.read_ahead(source, Runs::ENTRY_BYTES)?;
        offsets.entries.read_ahead(source, Runs::ENTRY_BYTES)?;
        if !durations.enter(source)? {
            return Ok(None);
        }
        let has_offset = offsets.enter(source)?;
        let offset = if has_offset { i64::from(offsets.value as i32) } else { 0 };
        let count = left.min(durations.left).min(if has_offset { offsets.left } else { left });
        // Of equal ones the last ends last.
        decode_ticks = decode_ticks.saturating_add(i64::from(count) * i64::from(durations.value));
        latest = latest.max(Some(decode_ticks.saturating_add(offset)));
        durations.skip(count);
        offsets.skip(count);
        left -= count;
    }
    Ok(latest)
}

/// Whether the last chunk begins within the media: where it does, so do those before it.
pub(super) fn ends_within<R: Read + Seek>(
    source: &mut Source<'_, R>,
    tables: &Tables,
    recording_start: u64,
    media: &Range<u64>,
) -> Result<bool, ContainerError> {
    let mut chunks = ChunkCursor::new(tables);
    chunks.offsets.done = tables.chunks.entries.saturating_sub(1);
    let offset = chunks.next_offset(source)?;
    Ok(offset.is_some_and(|offset| media.contains(&place(offset, recording_start, media))))
}

/// Goes from sample to sample through the chunks (`stsc` with `stco` or `co64`).
#[derive(Debug)]
struct ChunkCursor {
    offsets: Entries,
    wide: bool,
    runs: Entries,
    /// The next entry of `stsc`.
    next_run: Option<(u32, u32)>,
    samples_per_chunk: u32,
    /// Number of the current chunk, from 1; 0 before the first.
    number: u32,
    /// Samples left in the current chunk, and where the next of them lies.
    left: u32,
    offset: u64,
    /// What is added to every offset: the start of a recording that was appended to another.
    shift: u64,
}

impl ChunkCursor {
    fn new(tables: &Tables) -> Self {
        ChunkCursor {
            offsets: Entries::new(tables.chunks),
            wide: tables.wide_chunks,
            runs: Entries::new(tables.samples_per_chunk),
            next_run: None,
            samples_per_chunk: 0,
            number: 0,
            left: 0,
            offset: 0,
            shift: 0,
        }
    }

    /// Makes sure that the current chunk has a sample left; false where there is no further chunk.
    fn enter<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
        recording_start: u64,
        media: &Range<u64>,
    ) -> Result<bool, ContainerError> {
        while self.left == 0 {
            let Some(offset) = self.next_offset(source)? else { return Ok(false) };
            if self.number == 0 {
                self.next_run = self.runs.next_chunks(source)?;
                self.shift = place(offset, recording_start, media).saturating_sub(offset);
            }
            self.number = self.number.saturating_add(1);
            while let Some((_, samples)) = self.next_run.filter(|(first, _)| *first <= self.number)
            {
                self.samples_per_chunk = samples;
                self.next_run = self.runs.next_chunks(source)?;
            }
            self.left = self.samples_per_chunk;
            self.offset = offset.saturating_add(self.shift);
        }
        Ok(true)
    }

    fn next_offset<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<Option<u64>, ContainerError> {
        Ok(if self.wide {
            self.offsets.next::<R, 8>(source)?.map(u64::from_be_bytes)
        } else {
            self.offsets.next_word(source)?.map(u64::from)
        })
    }

    /// Where the next samples lie; steps over them. At most as many as are left.
    fn advance(&mut self, count: u32, size_bytes: u32) -> u64 {
        let offset = self.offset;
        self.left = self.left.saturating_sub(count);
        self.offset = offset.saturating_add(u64::from(size_bytes));
        offset
    }
}

/// The entries of a table, one after the other.
#[derive(Debug)]
struct Entries {
    table: Table,
    done: u32,
    window: Window,
}

impl Entries {
    fn new(table: Table) -> Self {
        Entries { table, done: 0, window: Window::default() }
    }

    /// The next entry of `N` bytes; `None` after the last.
    fn next<R: Read + Seek, const N: usize>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<Option<[u8; N]>, ContainerError> {
        if self.done == self.table.entries {
            return Ok(None);
        }
        let at = self.table.first + u64::from(self.done) * N as u64;
        self.done += 1;
        Ok(self.window.bytes(source, at, N)?.first_chunk().copied())
    }

    /// Has the next entries in memory by one larger read, if the window is at its end: for those that are all
    /// looked at.
    fn read_ahead<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
        entry_bytes: usize,
    ) -> Result<(), ContainerError> {
        const AHEAD_BYTES: usize = 32 * 1024;
        let at = self.table.first + u64::from(self.done) * entry_bytes as u64;
        let left = (self.table.entries - self.done) as usize;
        if left > 0 && !self.window.holds(at, entry_bytes) {
            let entries = left.min(AHEAD_BYTES / entry_bytes);
            self.window.bytes(source, at, entries * entry_bytes)?;
        }
        Ok(())
    }

    /// The byte that holds the next entry of four bits.
    fn next_half<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<Option<[u8; 1]>, ContainerError> {
        if self.done == self.table.entries {
            return Ok(None);
        }
        let at = self.table.first + u64::from(self.done / 2);
        self.done += 1;
        Ok(self.window.bytes(source, at, 1)?.first_chunk().copied())
    }

    fn next_word<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<Option<u32>, ContainerError> {
        Ok(self.next::<R, 4>(source)?.map(u32::from_be_bytes))
    }

    /// The next entry of `stsc`: the first chunk it is for (from 1), and how many samples each has.
    fn next_chunks<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<Option<(u32, u32)>, ContainerError> {
        let Some(entry) = self.next::<R, 12>(source)? else { return Ok(None) };
        let mut fields = Fields::new("stsc", self.table.first, &entry);
        Ok(Some((fields.u32()?, fields.u32()?)))
    }
}

/// A run-length table (`stts`, `ctts`): a count and a value an entry; handed out value by value.
#[derive(Debug)]
struct Runs {
    entries: Entries,
    left: u32,
    value: u32,
}

impl Runs {
    const ENTRY_BYTES: usize = 8;

    fn new(table: Table) -> Self {
        Runs { entries: Entries::new(table), left: 0, value: 0 }
    }

    /// The table has one value for all.
    fn uniform(&self) -> bool {
        self.entries.table.entries == 1
    }

    fn next<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<Option<u32>, ContainerError> {
        if !self.enter(source)? {
            return Ok(None);
        }
        self.left -= 1;
        Ok(Some(self.value))
    }

    /// Makes sure that the current run has a value left; false where there is no further run.
    fn enter<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<bool, ContainerError> {
        while self.left == 0 {
            let Some(entry) = self.entries.next::<R, 8>(source)? else { return Ok(false) };
            let mut fields = Fields::new("a run", self.entries.table.first, &entry);
            (self.left, self.value) = (fields.u32()?, fields.u32()?);
        }
        Ok(true)
    }

    fn skip(&mut self, count: u32) {
        self.left = self.left.saturating_sub(count);
    }
}
