//! The `moov` box: which tracks there are, and where their sample tables stand.
//!
//! Box headers and small boxes are read one at a time; a sample table is only located here, never loaded.

use std::io::{Read, Seek};

use super::boxes::{BoxHeader, Fields, Source, Window};
use super::in_band;
use super::sample_entry::SampleEntry;
use super::track::{Storage, Track, TrackKind, rescale};
use super::{ContainerError, MAX_TRACKS};
use crate::time::Timestamp;

/// 16 hours at 30 frames a second with B-frames and AAC take some 40 MiB.
const MAX_MOOV_BYTES: u64 = 64 * 1024 * 1024;
const MAX_SAMPLE_DESCRIPTION_BYTES: u64 = 64 * 1024;
/// `mvhd`, `tkhd`, `mdhd`, `hdlr`, `elst`, `trex`: none is near it.
const MAX_SMALL_BOX_BYTES: u64 = 16 * 1024;

#[derive(Debug)]
pub(super) struct Movie {
    pub(super) tracks: Vec<TrackLayout>,
    /// It has an `mvex` box: fragments may follow.
    pub(super) fragmented: bool,
    /// The UTC of tick 0, where MediaMTX wrote it down.
    pub(super) began_at: Option<Timestamp>,
}

/// A track, and where its samples are described.
#[derive(Clone, Debug)]
pub(super) struct TrackLayout {
    pub(super) track: Track,
    pub(super) tables: Tables,
    pub(super) defaults: SampleDefaults,
    /// Media ticks that the edit list puts at presentation time zero of the movie.
    pub(super) edit_ticks: i64,
}

/// What a fragment's samples have unless told otherwise (`trex`, then `tfhd`).
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct SampleDefaults {
    pub(super) duration: u32,
    pub(super) size: u32,
    pub(super) flags: u32,
}

/// Where a table's entries stand; checked against its box.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Table {
    pub(super) first: u64,
    pub(super) entries: u32,
}

/// The sample tables of `stbl` (ISO/IEC 14496-12, 8.6 and 8.7); all empty where only fragments hold samples.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Tables {
    /// Its count is the count of samples; it has no entries where the size is constant.
    pub(super) sizes: Table,
    /// Width of each size: 32 (`stsz`), or 4, 8 or 16 (`stz2`).
    pub(super) size_bits: u8,
    pub(super) constant_size: Option<u32>,
    pub(super) durations: Table,
    pub(super) composition: Table,
    pub(super) samples_per_chunk: Table,
    pub(super) chunks: Table,
    /// The chunk offsets are 64 bits wide (`co64`).
    pub(super) wide_chunks: bool,
    /// Numbers of the keyframes; `None`: every sample is one.
    pub(super) keyframes: Option<Table>,
}

/// What the boxes of a `trak` say, in any order, before all of it is known.
#[derive(Default)]
struct TrackDraft {
    track_id: u32,
    timescale: u32,
    handler: [u8; 4],
    edit: Edit,
    sample_description: Vec<u8>,
    tables: Tables,
}

/// The head of an edit list: silence or black (in the movie's timescale), then the media from some tick on.
#[derive(Clone, Copy, Default)]
struct Edit {
    empty: u64,
    media_ticks: i64,
}

impl Movie {
    pub(super) fn read<R: Read + Seek>(
        source: &mut Source<'_, R>,
        window: &mut Window,
        moov: BoxHeader,
    ) -> Result<Movie, ContainerError> {
        if moov.end - moov.body > MAX_MOOV_BYTES {
            return Err(too_large(&moov, "the index (moov)", MAX_MOOV_BYTES));
        }
        let mut drafts: Vec<TrackDraft> = Vec::new();
        let mut extends = None;
        let mut movie_timescale = 1;
        let mut began_at = None;
        let mut at = moov.body;
        while let Some(child) = BoxHeader::read_child(source, window, at, moov.end)? {
            at = child.end;
            match &child.kind {
                b"mvhd" => {
                    movie_timescale =
                        timescale(child.body(source, window, "mvhd", MAX_SMALL_BOX_BYTES)?)?;
                }
                b"trak" if drafts.len() == MAX_TRACKS => {
                    return Err(too_large(&child, "the number of tracks", MAX_TRACKS as u64));
                }
                b"trak" => {
                    let mut draft = TrackDraft::default();
                    draft.read_boxes(source, window, child)?;
                    drafts.push(draft);
                }
                b"mvex" => extends = Some(child),
                b"udta" => began_at = began_at.or(user_data(source, window, child)?),
                _ => {}
            }
        }
        // A track that cannot be told apart or timed holds nothing that could be used.
        let mut tracks: Vec<TrackLayout> = drafts
            .into_iter()
            .filter(|draft| draft.timescale != 0)
            .map(|draft| draft.finish(movie_timescale))
            .collect();
        if let Some(extends) = extends {
            read_defaults(source, window, extends, &mut tracks)?;
        }
        Ok(Movie { tracks, fragmented: extends.is_some(), began_at })
    }
}

impl TrackDraft {
    /// Takes in `container`'s boxes; the ones that only hold boxes are walked one below the other, as
    /// deep as a `trak` may nest and no deeper.
    fn read_boxes<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
        window: &mut Window,
        container: BoxHeader,
    ) -> Result<(), ContainerError> {
        /// `trak` / `mdia` / `minf` / `stbl`.
        const MAX_DEPTH: usize = 4;
        let mut ends = vec![container.end];
        let mut at = container.body;
        while let Some(&end) = ends.last() {
            let Some(child) = BoxHeader::read_child(source, window, at, end)? else {
                at = end;
                ends.pop();
                continue;
            };
            at = child.end;
            match &child.kind {
                b"edts" | b"mdia" | b"minf" | b"stbl" => {
                    if ends.len() < MAX_DEPTH {
                        at = child.body;
                        ends.push(child.end);
                    }
                }
                _ => self.read_leaf(source, window, child)?,
            }
        }
        Ok(())
    }

    fn read_leaf<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
        window: &mut Window,
        leaf: BoxHeader,
    ) -> Result<(), ContainerError> {
        let limit = MAX_SMALL_BOX_BYTES;
        match &leaf.kind {
            b"tkhd" => {
                let mut fields = leaf.body(source, window, "tkhd", limit)?;
                let (version, _) = fields.version_and_flags()?;
                fields.skip(if version == 1 { 16 } else { 8 })?;
                self.track_id = fields.u32()?;
            }
            b"mdhd" => self.timescale = timescale(leaf.body(source, window, "mdhd", limit)?)?,
            b"hdlr" => {
                let mut fields = leaf.body(source, window, "hdlr", limit)?;
                fields.skip(8)?;
                // QuickTime has a second `hdlr`, in `minf`, that names the data's handler.
                if self.handler == [0; 4] {
                    self.handler = fields.take()?;
                }
            }
            b"elst" => self.edit = edit(leaf.body(source, window, "elst", limit)?)?,
            b"stsd" => {
                let limit = MAX_SAMPLE_DESCRIPTION_BYTES;
                if leaf.end - leaf.start > limit {
                    return Err(too_large(&leaf, "the sample description (stsd)", limit));
                }
                let length = (leaf.end - leaf.start) as usize;
                self.sample_description = window.bytes(source, leaf.start, length)?.to_vec();
            }
            _ => self.locate_table(source, window, leaf)?,
        }
        Ok(())
    }

    fn locate_table<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
        window: &mut Window,
        leaf: BoxHeader,
    ) -> Result<(), ContainerError> {
        let tables = &mut self.tables;
        match &leaf.kind {
            b"stts" => tables.durations = Table::locate(source, window, leaf, 64)?,
            b"ctts" => tables.composition = Table::locate(source, window, leaf, 64)?,
            b"stsc" => tables.samples_per_chunk = Table::locate(source, window, leaf, 96)?,
            b"stco" => tables.chunks = Table::locate(source, window, leaf, 32)?,
            b"co64" => {
                tables.chunks = Table::locate(source, window, leaf, 64)?;
                tables.wide_chunks = true;
            }
            b"stss" => tables.keyframes = Some(Table::locate(source, window, leaf, 32)?),
            b"stsz" => {
                let mut fields = leaf.head(source, window, "stsz", 8)?;
                fields.version_and_flags()?;
                let constant_size = fields.u32()?;
                // Its count follows the size, and its entries are there only where the size is 0.
                let after_size = BoxHeader { body: leaf.body + 4, ..leaf };
                let entry_bits = if constant_size == 0 { 32 } else { 0 };
                tables.sizes = Table::locate(source, window, after_size, entry_bits)?;
                tables.size_bits = 32;
                tables.constant_size = (constant_size != 0).then_some(constant_size);
            }
            b"stz2" => {
                let mut fields = leaf.head(source, window, "stz2", 8)?;
                fields.skip(4 + 3)?;
                let [size_bits] = fields.take()?;
                if !matches!(size_bits, 4 | 8 | 16) {
                    return Err(fields.malformed());
                }
                let after_width = BoxHeader { body: leaf.body + 4, ..leaf };
                tables.sizes = Table::locate(source, window, after_width, size_bits.into())?;
                tables.size_bits = size_bits;
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self, movie_timescale: u32) -> TrackLayout {
        let kind = match &self.handler {
            b"vide" => TrackKind::Video,
            b"soun" => TrackKind::Audio,
            _ => TrackKind::Other,
        };
        let entry = SampleEntry::first_of(&self.sample_description).unwrap_or_default();
        let (codec, (width, height)) = (entry.codec(), entry.picture_size(kind));
        let empty_ticks = i64::try_from(self.edit.empty).unwrap_or(i64::MAX);
        let empty_ticks = rescale(empty_ticks, movie_timescale, self.timescale);
        TrackLayout {
            track: Track {
                track_id: self.track_id,
                kind,
                codec,
                timescale: self.timescale,
                sample_description: self.sample_description,
                width,
                height,
                storage: Storage::Contiguous,
                zero_ticks: 0,
            },
            tables: self.tables,
            defaults: SampleDefaults::default(),
            edit_ticks: self.edit.media_ticks.saturating_sub(empty_ticks),
        }
    }
}

impl Table {
    /// Checks the count that follows version and flags against the box it stands in.
    fn locate<R: Read + Seek>(
        source: &mut Source<'_, R>,
        window: &mut Window,
        leaf: BoxHeader,
        entry_bits: u64,
    ) -> Result<Table, ContainerError> {
        let mut fields = leaf.head(source, window, "a sample table", 8)?;
        fields.skip(4)?;
        let entries = fields.u32()?;
        let first = fields.offset;
        if (u64::from(entries) * entry_bits).div_ceil(8) > leaf.end - first {
            return Err(fields.malformed());
        }
        Ok(Table { first, entries })
    }
}

/// `trex` of every track (ISO/IEC 14496-12, 8.8.3).
fn read_defaults<R: Read + Seek>(
    source: &mut Source<'_, R>,
    window: &mut Window,
    extends: BoxHeader,
    tracks: &mut [TrackLayout],
) -> Result<(), ContainerError> {
    let mut at = extends.body;
    while let Some(child) = BoxHeader::read_child(source, window, at, extends.end)? {
        at = child.end;
        if &child.kind != b"trex" {
            continue;
        }
        let mut fields = child.head(source, window, "trex", 24)?;
        fields.skip(4)?;
        let track_id = fields.u32()?;
        fields.skip(4)?;
        let defaults =
            SampleDefaults { duration: fields.u32()?, size: fields.u32()?, flags: fields.u32()? };
        for layout in tracks.iter_mut().filter(|layout| layout.track.track_id == track_id) {
            layout.defaults = defaults;
        }
    }
    Ok(())
}

/// What MediaMTX left in the movie's `udta`. Anyone may put anything there: what cannot be read is passed over.
fn user_data<R: Read + Seek>(
    source: &mut Source<'_, R>,
    window: &mut Window,
    user_data: BoxHeader,
) -> Result<Option<Timestamp>, ContainerError> {
    const SEGMENT_INFO_BYTES: usize = 4 + 16 + 8 + 8 + 8;
    let mut at = user_data.body;
    loop {
        let child = match BoxHeader::read_child(source, window, at, user_data.end) {
            Ok(Some(child)) => child,
            Err(error @ ContainerError::Io(_)) => return Err(error),
            Ok(None) | Err(_) => return Ok(None),
        };
        at = child.end;
        if &child.kind == b"mtxi" {
            let fields = child.head(source, window, "mtxi", SEGMENT_INFO_BYTES)?;
            return Ok(in_band::segment_info(fields).unwrap_or(None));
        }
    }
}

/// The timescale of `mvhd` and of `mdhd`, which begin alike.
fn timescale(mut fields: Fields<'_>) -> Result<u32, ContainerError> {
    let (version, _) = fields.version_and_flags()?;
    fields.skip(if version == 1 { 16 } else { 8 })?;
    fields.u32()
}

/// Leading empty edits, and where the first one that shows media begins (ISO/IEC 14496-12, 8.6.6).
///
/// How long that one lasts, at what rate, and what other edits follow is left alone: a recorder's edits put
/// tracks in step, later ones are an editor's. So what an edit list leaves out of the presentation is still
/// footage that is held, and what it shows twice is held once.
fn edit(mut fields: Fields<'_>) -> Result<Edit, ContainerError> {
    let (version, _) = fields.version_and_flags()?;
    let mut edit = Edit::default();
    for _ in 0..fields.u32()? {
        let duration = fields.wide(version)?;
        let media_ticks = match version {
            1 => i64::from_be_bytes(fields.take()?),
            _ => i64::from(fields.i32()?),
        };
        fields.skip(4)?;
        if media_ticks >= 0 {
            edit.media_ticks = media_ticks;
            break;
        }
        edit.empty = edit.empty.saturating_add(duration);
    }
    Ok(edit)
}

fn too_large(header: &BoxHeader, what: &'static str, limit: u64) -> ContainerError {
    ContainerError::TooLarge { offset: header.start, what, limit }
}
