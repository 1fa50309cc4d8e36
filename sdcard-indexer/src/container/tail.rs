//! The last fragments of a recording, found from its head and tail.
//!
//! Owns where to look for them and whether what was found tells exactly how the recording ends. Guesses are only
//! ever taken for places to look at: from there on, [`FragmentCursor`] walks to the end of the file as it would
//! have come by, and so torn tails are seen as ever.
//!
//! What lies between head and tail is not seen: a second recording in the same file, a damaged fragment, a
//! frame shown later than all of the tail. [`Tail::find`] says what is done about each.

use std::io::{Read, Seek};

use super::boxes::{BoxHeader, Source, Window};
use super::fmp4::{FragmentCursor, UNTIMED};
use super::fragment_index::{self, PAGE_BYTES};
use super::movie::TrackLayout;
use super::track::TrackKind;
use super::{ContainerError, End};

/// The longest step back from the last page of the file.
const MAX_STEP_BYTES: u64 = 64 * 1024;
/// What a card reads in one piece in the time that it takes to go elsewhere (20 to 80 MB/s against 0.5 to 1 ms).
const BYTES_WORTH_A_READ: u64 = 32 * 1024;
/// Pictures that an encoder puts out of order at most, and the one they are shown before: H.264 and H.265 hold
/// 16 to be shown later.
const REORDERED_PICTURES: u32 = 17;
/// Boxes that stand between two fragments at most (`styp`, `prft`, `sidx`, `emsg`).
const MAX_BOXES_BETWEEN: usize = 16;

/// The fragments of one track of a recording, of which the first is where the file's head ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragments<'a> {
    pub(super) layouts: &'a [TrackLayout],
    pub(super) track: usize,
    pub(super) recording_start: u64,
    /// Where the first stands.
    pub(super) first: u64,
    /// The first `sidx` box before it.
    pub(super) index: Option<BoxHeader>,
}

/// How a recording ends.
#[derive(Debug)]
pub(super) struct Tail {
    /// After the last sample of its track.
    pub(super) cursor: FragmentCursor,
    /// When the last of them has been shown, in the track's ticks.
    pub(super) shown_until: i64,
}

/// A run of fragments as one track has it.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    /// Number of its first fragment (`mfhd`).
    sequence: u32,
    first_ticks: i64,
    shown_until: i64,
    samples: u32,
    /// The largest distance between decoding and showing, either way.
    widest_offset: i64,
    bytes: u64,
}

impl Tail {
    /// `None` where head and tail do not tell, or walking costs less than looking.
    ///
    /// Looks where `sidx` in the head (ISO/IEC 14496-12, 8.16.3) says that the last fragments are, else `mfra` at
    /// the end (8.8.9), else for the last `moof` whose boxes lead to the end of the file, for as many bytes as walking would be worth.
    ///
    /// - A frame before the tail ends later than all of it only if it is put off by more than the tail is long.
    ///   So the tail has to be twice as long as the longest such offset in it, and of pictures there have to be
    ///   more than an encoder reorders.
    /// - Another recording behind the first begins to count anew, as a rule: the tail's sequence number and
    ///   decode time must lie behind those of the first fragment, and the bytes between must not be half as many
    ///   again as at the pace of head and tail. A short one before a long one that counts on is not noticed.
    /// - What a damaged fragment before the tail hides is not noticed.
    pub(super) fn find<R: Read + Seek>(
        source: &mut Source<'_, R>,
        window: &Window,
        fragments: Fragments<'_>,
    ) -> Result<Option<Tail>, ContainerError> {
        let mut cursor = fragments.cursor_at(fragments.first, window.clone());
        let Some(head) = Stretch::walk(source, &mut cursor, fragments.first, Extent::OneFragment)?
        else {
            return Ok(None);
        };
        let search = Search { fragments, head };
        let subsegments = fragment_index::subsegments(source, window, fragments.index, None)?;
        if let Some(tail) = search.at_hints(source, subsegments, &Window::default())? {
            return Ok(search.plausible(tail));
        }
        let mut page = search.last_bytes(source)?;
        let random_access = match fragments.layout() {
            Some(TrackLayout { track, .. }) => {
                fragment_index::random_access(source, &mut page, track.track_id, None)?
            }
            None => Vec::new(),
        };
        if let Some(tail) = search.at_hints(source, random_access, &page)? {
            return Ok(search.plausible(tail));
        }
        let tail = search.backwards(source, page)?;
        Ok(tail.and_then(|tail| search.plausible(tail)))
    }
}

impl Fragments<'_> {
    fn cursor_at(&self, at: u64, window: Window) -> FragmentCursor {
        FragmentCursor::new(self.track, self.layouts, self.recording_start, at, window)
    }

    fn layout(&self) -> Option<&TrackLayout> {
        self.layouts.get(self.track)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Up to the end of the first fragment that has the track.
    OneFragment,
    ToTheEnd,
}

impl Stretch {
    /// Walks on from `at`. `None` where nothing of the track is there, nothing that could be read, or nothing
    /// says when it is decoded.
    fn walk<R: Read + Seek>(
        source: &mut Source<'_, R>,
        cursor: &mut FragmentCursor,
        at: u64,
        extent: Extent,
    ) -> Result<Option<Stretch>, ContainerError> {
        let mut stretch: Option<Stretch> = None;
        loop {
            let sample = match cursor.next(source, UNTIMED) {
                Ok(Some(sample)) if sample.decode_ticks >= 0 => sample,
                Err(error @ ContainerError::Io(_)) => return Err(error),
                Ok(Some(_)) | Err(_) => return Ok(None),
                Ok(None) => break,
            };
            let stretch = stretch.get_or_insert_with(|| Stretch {
                sequence: cursor.sequence(),
                first_ticks: sample.decode_ticks,
                shown_until: i64::MIN,
                samples: 0,
                widest_offset: 0,
                bytes: 0,
            });
            let shown = sample.presentation_ticks().saturating_add(sample.duration.into());
            let offset = i64::from(sample.composition_offset).abs();
            stretch.shown_until = stretch.shown_until.max(shown);
            stretch.widest_offset = stretch.widest_offset.max(offset);
            stretch.samples = stretch.samples.saturating_add(1);
            if extent == Extent::OneFragment && cursor.is_between_fragments() {
                break;
            }
        }
        let bytes = cursor.position().saturating_sub(at);
        Ok(stretch.map(|stretch| Stretch { bytes, ..stretch }))
    }

    fn ticks(&self) -> i64 {
        self.shown_until.saturating_sub(self.first_ticks)
    }

    /// Nothing before it can end later; see [`Tail::find`].
    fn is_enough(&self, kind: TrackKind) -> bool {
        self.samples >= least_samples(kind) && self.ticks() >= self.widest_offset.saturating_mul(2)
    }
}

/// Of a tail that tells enough.
fn least_samples(kind: TrackKind) -> u32 {
    if kind == TrackKind::Video { REORDERED_PICTURES } else { 1 }
}

struct Search<'a> {
    fragments: Fragments<'a>,
    head: Stretch,
}

/// What stands at a place in the file.
enum Sight {
    NoFragment,
    /// A fragment, from which on there is too little to tell.
    TooLittle,
    Enough(Box<Found>),
}

/// A tail that tells enough, as far as it goes.
struct Found {
    at: u64,
    stretch: Stretch,
    tail: Tail,
}

impl Search<'_> {
    /// The page at the end of the file, which is read in any case, and before it as many fragments like the first
    /// as may tell enough, where that costs less than to come back for them.
    fn last_bytes<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
    ) -> Result<Window, ContainerError> {
        let fragments = least_samples(self.kind()).div_ceil(self.head.samples.max(1));
        let bytes = self.head.bytes.saturating_mul(fragments.into()).saturating_add(PAGE_BYTES);
        let head_end = self.fragments.first.saturating_add(self.head.bytes);
        let behind_head = source.end.saturating_sub(head_end);
        let mut window = Window::default();
        if bytes <= BYTES_WORTH_A_READ.min(behind_head) {
            window.bytes(source, source.end - bytes, bytes as usize)?;
        }
        Ok(window)
    }

    fn kind(&self) -> TrackKind {
        self.fragments.layout().map_or(TrackKind::Other, |layout| layout.track.kind)
    }

    /// Goes through an index's places, last first.
    fn at_hints<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        hints: Vec<u64>,
        at_hand: &Window,
    ) -> Result<Option<Found>, ContainerError> {
        // An index of the beginning only, or one that lies, is not worth following.
        let middle = self.fragments.first.midpoint(source.end);
        for (number, at) in (1_usize..).zip(hints.into_iter().filter(|&at| at > middle)) {
            // Each place's tail holds those of the places before: where it takes many, not all are tried.
            if number.is_power_of_two() {
                match self.look_at(source, at, at_hand.clone())? {
                    Sight::Enough(found) => return Ok(Some(*found)),
                    Sight::TooLittle => {}
                    Sight::NoFragment => break,
                }
            }
        }
        Ok(None)
    }

    fn look_at<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        at: u64,
        mut window: Window,
    ) -> Result<Sight, ContainerError> {
        if !is_fragment(source, &mut window, at)? {
            return Ok(Sight::NoFragment);
        }
        let mut cursor = self.fragments.cursor_at(at, window);
        let stretch = Stretch::walk(source, &mut cursor, at, Extent::ToTheEnd)?;
        let kind = self.kind();
        Ok(match (stretch, cursor.end()) {
            (None, _) if cursor.position() == at => Sight::NoFragment,
            (Some(stretch), Some(End { next: None, .. })) if stretch.is_enough(kind) => {
                let shown_until = stretch.shown_until;
                let tail = Tail { cursor, shown_until };
                Sight::Enough(Box::new(Found { at, stretch, tail }))
            }
            _ => Sight::TooLittle,
        })
    }

    /// What was found, if it goes on from the first fragment with nothing else between.
    fn plausible(&self, found: Found) -> Option<Tail> {
        let Found { at, stretch, tail } = found;
        let ticks = stretch.first_ticks.checked_sub(self.head.first_ticks).filter(|&t| t > 0)?;
        let (ticks, bytes) = (ticks as u128, u128::from(at - self.fragments.first));
        let keeps_pace_with = |other: &Stretch| {
            2 * bytes * (other.ticks().max(1) as u128) <= 3 * u128::from(other.bytes) * ticks
        };
        let pace = keeps_pace_with(&self.head) || keeps_pace_with(&stretch);
        (stretch.sequence > self.head.sequence && pace).then_some(tail)
    }

    /// Looks for fragments from the end of the file on; `page` may have that already.
    fn backwards<R: Read + Seek>(
        &self,
        source: &mut Source<'_, R>,
        page: Window,
    ) -> Result<Option<Found>, ContainerError> {
        let first_end = self.fragments.first.saturating_add(self.head.bytes);
        let fragments = source.end.saturating_sub(first_end) / self.head.bytes.max(1);
        let budget = fragments.saturating_mul(BYTES_WORTH_A_READ);
        if budget < self.head.bytes.saturating_mul(2) {
            return Ok(None);
        }
        let floor = first_end.max(source.end.saturating_sub(budget));
        let mut scan = Scan::new(source.end, floor, page, self.head.bytes);
        let mut earliest = None;
        let mut found: u32 = 0;
        while let Some(at) = scan.previous(source)? {
            if let Some(next) = earliest {
                if !leads_to(source, &scan.window, at, next)? {
                    continue;
                }
            }
            // As with hints; and what nothing leads on from yet has to prove itself.
            if (found + 1).is_power_of_two() {
                match self.look_at(source, at, scan.window.clone())? {
                    Sight::Enough(found) => return Ok(Some(*found)),
                    Sight::NoFragment => continue,
                    Sight::TooLittle => {}
                }
            }
            found += 1;
            earliest = Some(at);
        }
        Ok(None)
    }
}

/// A whole `moof` stands at `at`, beginning as each does with its `mfhd` (ISO/IEC 14496-12, 8.8.5).
fn is_fragment<R: Read + Seek>(
    source: &mut Source<'_, R>,
    window: &mut Window,
    at: u64,
) -> Result<bool, ContainerError> {
    let moof = match at < source.end {
        true => BoxHeader::read(source, window, at, source.end)?,
        false => None,
    };
    match moof.filter(|moof| &moof.kind == b"moof" && moof.within(source.end)) {
        Some(moof) => {
            let first = BoxHeader::read(source, window, moof.body, source.end)?;
            Ok(first.is_some_and(|first| &first.kind == b"mfhd" && first.end - first.start == 16))
        }
        None => Ok(false),
    }
}

/// The boxes from `at` on lead to `next`.
fn leads_to<R: Read + Seek>(
    source: &mut Source<'_, R>,
    window: &Window,
    mut at: u64,
    next: u64,
) -> Result<bool, ContainerError> {
    for _ in 0..=MAX_BOXES_BETWEEN {
        match BoxHeader::peek(source, window, at)? {
            Some(header) if header.end > at && header.end <= next => at = header.end,
            _ => break,
        }
    }
    Ok(at == next)
}

/// Looks through the file from its end towards its beginning, step by step.
struct Scan {
    window: Window,
    /// Where the window begins, and up to where it has not been looked through yet.
    start: u64,
    open: u64,
    floor: u64,
    step: u64,
}

impl Scan {
    /// The first step is `step_bytes`, rather, after the page at the end.
    fn new(end: u64, floor: u64, page: Window, step_bytes: u64) -> Self {
        let step = step_bytes.clamp(PAGE_BYTES, MAX_STEP_BYTES);
        let start = end.saturating_sub(PAGE_BYTES).max(floor);
        Scan { window: page, start, open: end, floor, step }
    }

    /// Where the next box before the ones handed out may stand that says to be a `moof`.
    fn previous<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<Option<u64>, ContainerError> {
        const SIZE_BYTES: usize = 4;
        loop {
            let length = (self.open - self.start) as usize;
            let bytes = self.window.bytes(source, self.start, length)?;
            let kinds = bytes.get(SIZE_BYTES..length).unwrap_or_default();
            if let Some(index) = kinds.windows(4).rposition(|kind| kind == b"moof") {
                let at = self.start + index as u64;
                self.open = at + SIZE_BYTES as u64 + 3;
                return Ok(Some(at));
            }
            if self.start <= self.floor {
                return Ok(None);
            }
            // A header that the last step cut in two.
            self.open = source.end.min(self.start + SIZE_BYTES as u64 + 3);
            self.start = self.start.saturating_sub(self.step).max(self.floor);
            self.step = (self.step * 2).min(MAX_STEP_BYTES);
        }
    }
}
