//! The programme as one MP4 file, whose every byte has its place before any is made.
//!
//! Pure. `ftyp`, `moov`, a `sidx` that leads to each fragment (ISO/IEC 14496-12, 8.16.3), and the same fragments that
//! HLS has. So a player finds any instant with two requests, and who goes on with a download gets the same bytes.

use std::ops::Range;

use bytes::Bytes;
use mp4_atom::{Encode, SegmentReference, Sidx};
use sdcard_indexer::container::track::rescale;

use super::programme::{Programme, ProgrammeError};
use crate::merge::FragmentError;

/// That one `sidx` can hold; of more, there are several.
const MOST_REFERENCES: usize = u16::MAX as usize;
/// Finer ticks would not leave room for a long hole in 32 bits.
const FINEST_TIMESCALE: u32 = 90_000;

/// The file's head, and how much comes behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeekableFile {
    head: Bytes,
    media_bytes: u64,
}

impl SeekableFile {
    /// One file has one setting of the decoders.
    pub fn of(programme: &Programme) -> Result<SeekableFile, ProgrammeError> {
        if programme.chapters().len() > 1 {
            let at = programme.chapter_begins(1).unwrap_or(programme.shown().start());
            return Err(ProgrammeError::SettingsChange { at });
        }
        let mut head = programme.chapter_head(0).unwrap_or_default().to_vec();
        write_index(&mut head, programme).map_err(ProgrammeError::Head)?;
        Ok(SeekableFile { head: head.into(), media_bytes: programme.media_bytes() })
    }

    pub fn bytes(&self) -> u64 {
        self.head.len() as u64 + self.media_bytes
    }

    /// What of the head, and which of the fragments' bytes, lie in a stretch of the file.
    pub fn stretch(&self, bytes: Range<u64>) -> (Bytes, Range<u64>) {
        let head_bytes = self.head.len() as u64;
        let of_head = |at: u64| usize::try_from(at.min(head_bytes)).unwrap_or(usize::MAX);
        let head = self.head.slice(of_head(bytes.start)..of_head(bytes.end.max(bytes.start)));
        let media = bytes.start.saturating_sub(head_bytes)..bytes.end.saturating_sub(head_bytes);
        (head, media)
    }
}

/// A reference to each fragment, not to several at once: FFmpeg's reader, and so Chromium's, finds one `moof` behind
/// each, and overlooks others. The same for each track, or it goes astray with those that have none: sound begins
/// with the picture, to within a packet.
fn write_index(head: &mut Vec<u8>, programme: &Programme) -> Result<(), FragmentError> {
    let timescale = programme.lanes.primary_timescale();
    let coarse = timescale.min(FINEST_TIMESCALE);
    let ticks = |ticks: u64| {
        let ticks = rescale(i64::try_from(ticks).unwrap_or(i64::MAX), timescale, coarse);
        u64::try_from(ticks).unwrap_or(0)
    };
    let mut indexes = Vec::new();
    let mut media_bytes = 0u64;
    let mut shown = ticks(programme.fragments().first().map_or(0, |first| first.shown_ticks));
    for fragments in programme.fragments().chunks(MOST_REFERENCES) {
        let mut references = Vec::with_capacity(fragments.len());
        let (begins, first_shown) = (media_bytes, shown);
        for fragment in fragments {
            let until = fragment.decode_ticks.saturating_add(programme.lasts(fragment));
            let duration = ticks(until).saturating_sub(ticks(fragment.decode_ticks));
            references.push(SegmentReference {
                reference_type: false,
                referenced_size: u32::try_from(fragment.bytes)
                    .ok()
                    .filter(|bytes| *bytes < 1 << 31)
                    .ok_or(FragmentError::TooLarge { what: "a group of pictures" })?,
                subsegment_duration: u32::try_from(duration).unwrap_or(u32::MAX),
                starts_with_sap: fragment.keyframe,
                sap_type: 0,
                sap_delta_time: 0,
            });
            media_bytes += fragment.bytes;
            shown = shown.saturating_add(duration);
        }
        let lanes = 1..=u32::try_from(programme.lanes.timescales.len()).unwrap_or(1);
        indexes.extend(lanes.map(|track_id| Sidx {
            reference_id: track_id,
            timescale: coarse,
            earliest_presentation_time: first_shown,
            first_offset: begins,
            references: references.clone(),
        }));
    }
    // Each one counts from its own end: those behind it lie before what it leads to.
    let mut behind: Vec<u8> = Vec::new();
    for mut index in indexes.into_iter().rev() {
        index.first_offset += behind.len() as u64;
        let mut bytes = Vec::new();
        index.encode(&mut bytes)?;
        bytes.append(&mut behind);
        behind = bytes;
    }
    head.append(&mut behind);
    Ok(())
}
