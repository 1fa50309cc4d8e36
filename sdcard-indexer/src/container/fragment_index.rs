//! Where a recording's fragments stand, by `sidx` and `mfra`.
//!
//! Recorders leave these out, leave them empty, or copy them from elsewhere: what they say is where to look, and
//! who looks there makes sure of what he finds. One that cannot be read is none.

use std::collections::VecDeque;
use std::io::{Read, Seek};

use super::ContainerError;
use super::boxes::{BoxHeader, Source, Window};
use super::track::rescale;

/// What is read of the end of the file at once.
pub(super) const PAGE_BYTES: u64 = 4 * 1024;
/// Places that are taken from one index.
const MAX_PLACES: usize = 16;

/// A presentation time in ticks of a timescale.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticks {
    pub(super) ticks: i64,
    pub(super) timescale: u32,
}

/// Where the last subsegments begin by this `sidx` (ISO/IEC 14496-12, 8.16.3), or the last that begin at or before
/// `until`; last first, and few.
pub(super) fn subsegments<R: Read + Seek>(
    source: &mut Source<'_, R>,
    window: &Window,
    index: Option<BoxHeader>,
    until: Option<Ticks>,
) -> Result<Vec<u64>, ContainerError> {
    match index {
        Some(index) => readable(read_subsegments(source, &mut window.clone(), index, until)),
        None => Ok(Vec::new()),
    }
}

fn read_subsegments<R: Read + Seek>(
    source: &mut Source<'_, R>,
    window: &mut Window,
    index: BoxHeader,
    until: Option<Ticks>,
) -> Result<Vec<u64>, ContainerError> {
    const REFERENCE_BYTES: u64 = 12;
    /// An index of indexes.
    const REFERS_TO_INDEX: u32 = 1 << 31;
    let mut fields = index.head(source, window, "sidx", 32)?;
    let (version, _) = fields.version_and_flags()?;
    fields.skip(4)?;
    let timescale = fields.u32()?;
    let mut ticks = i64::try_from(fields.wide(version)?).unwrap_or(i64::MAX);
    let mut at = index.end.saturating_add(fields.wide(version)?);
    fields.skip(2)?;
    let references = u64::from(fields.u16()?);
    let first = fields.offset;
    if references * REFERENCE_BYTES > index.end - first {
        return Err(fields.malformed());
    }
    let until = until.map(|until| rescale(until.ticks, until.timescale, timescale));
    let mut places = VecDeque::with_capacity(MAX_PLACES + 1);
    for reference in 0..references {
        let entry = BoxHeader { body: first + reference * REFERENCE_BYTES, ..index };
        let mut fields = entry.head(source, window, "sidx", 8)?;
        let (size, duration) = (fields.u32()?, fields.u32()?);
        if size & REFERS_TO_INDEX != 0 {
            return Ok(Vec::new());
        }
        if until.is_some_and(|until| ticks > until) {
            break;
        }
        places.push_front(at);
        places.truncate(MAX_PLACES);
        at = at.saturating_add(size.into());
        ticks = ticks.saturating_add(duration.into());
    }
    Ok(places.into())
}

/// Where by `mfra` at the end of the file (8.8.9) the last fragments stand that have a keyframe of this track, or the
/// last of them whose keyframe is shown at or before `until`, in the track's ticks; last first, and few. The page
/// at the end of the file is read in any case.
pub(super) fn random_access<R: Read + Seek>(
    source: &mut Source<'_, R>,
    page: &mut Window,
    track_id: u32,
    until: Option<i64>,
) -> Result<Vec<u64>, ContainerError> {
    readable(read_random_access(source, page, track_id, until))
}

fn read_random_access<R: Read + Seek>(
    source: &mut Source<'_, R>,
    page: &mut Window,
    track_id: u32,
    until: Option<i64>,
) -> Result<Vec<u64>, ContainerError> {
    // Most often all of `mfra` is in it.
    let from = source.end.saturating_sub(PAGE_BYTES);
    page.bytes(source, from, (source.end - from) as usize)?;
    let last = BoxHeader::read(source, page, source.end.saturating_sub(16), source.end)?;
    let Some(last) = last.filter(|last| &last.kind == b"mfro") else { return Ok(Vec::new()) };
    let mut fields = last.head(source, page, "mfro", 8)?;
    fields.skip(4)?;
    let at = source.end.saturating_sub(fields.u32()?.into());
    let index = BoxHeader::read(source, page, at, source.end)?;
    let Some(index) = index.filter(|i| &i.kind == b"mfra" && i.end == source.end) else {
        return Ok(Vec::new());
    };
    let mut at = index.body;
    while let Some(child) = BoxHeader::read_child(source, page, at, index.end)? {
        at = child.end;
        if &child.kind == b"tfra" {
            let table = AccessTable::read(source, page, child)?;
            if table.track_id == track_id {
                return table.places(source, page, until);
            }
        }
    }
    Ok(Vec::new())
}

/// `tfra` (8.8.10): keyframes of one track in ascending order of time.
struct AccessTable {
    track_id: u32,
    version: u8,
    table: BoxHeader,
    first: u64,
    entries: u64,
    entry_bytes: u64,
}

impl AccessTable {
    fn read<R: Read + Seek>(
        source: &mut Source<'_, R>,
        page: &mut Window,
        table: BoxHeader,
    ) -> Result<Self, ContainerError> {
        let mut fields = table.head(source, page, "tfra", 16)?;
        let (version, _) = fields.version_and_flags()?;
        let track_id = fields.u32()?;
        let lengths = fields.u32()?;
        let entries = u64::from(fields.u32()?);
        let first = fields.offset;
        // Time and offset, then three numbers of one to four bytes each.
        let numbers: u32 = [4, 2, 0].iter().map(|shift| (lengths >> shift & 3) + 1).sum();
        let entry_bytes = if version == 1 { 16 } else { 8 } + u64::from(numbers);
        if entries * entry_bytes > table.end - first {
            return Err(fields.malformed());
        }
        Ok(AccessTable { track_id, version, table, first, entries, entry_bytes })
    }

    /// Time and place of an entry.
    fn entry<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        page: &mut Window,
        number: u64,
    ) -> Result<(u64, u64), ContainerError> {
        let body = self.first + number * self.entry_bytes;
        let mut fields = BoxHeader { body, ..self.table }.head(source, page, "tfra", 16)?;
        Ok((fields.wide(self.version)?, fields.wide(self.version)?))
    }

    fn places<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        page: &mut Window,
        until: Option<i64>,
    ) -> Result<Vec<u64>, ContainerError> {
        let (mut begin, mut end) = (0, self.entries);
        if let Some(until) = until {
            while begin < end {
                let middle = begin.midpoint(end);
                let (time, _) = self.entry(source, page, middle)?;
                if i64::try_from(time).is_ok_and(|time| time <= until) {
                    begin = middle + 1;
                } else {
                    end = middle;
                }
            }
        }
        let mut places = Vec::with_capacity(MAX_PLACES);
        for number in end.saturating_sub(MAX_PLACES as u64)..end {
            places.push(self.entry(source, page, number)?.1);
        }
        places.reverse();
        places.dedup();
        Ok(places)
    }
}

fn readable(places: Result<Vec<u64>, ContainerError>) -> Result<Vec<u64>, ContainerError> {
    match places {
        Err(error @ ContainerError::Io(_)) => Err(error),
        places => Ok(places.unwrap_or_default()),
    }
}
