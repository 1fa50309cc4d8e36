//! One segment in 62 bytes: a card of 200,000 of them is held on a device with 32 MB of RAM.
//!
//! Pure. A row has no path: the layout makes it again from the recorder's time and counter, and what it cannot
//! make lies beside the rows ([`super::rows`]). Whoever asks for a [`crate::segment::Segment`] gets one made on
//! the fly.

use std::time::Duration;

use crate::clock::MAX_UNCERTAINTY;
use crate::identity::SegmentId;
use crate::segment::{Content, EpochId, FileStamp, MODIFIED_STEP_NS, Placement, TimeSource};
use crate::time::{TimeRange, Timestamp};

/// The order of the rows, and what one is found by: the recorder's own time, never the corrected one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key {
    pub named: Timestamp,
    /// Tells files apart that were begun within one step of their names; 0 where names have none.
    pub counter: u32,
    /// The low half of the id.
    pub short_id: u32,
}

impl Key {
    pub fn new(named: Timestamp, counter: Option<u32>, id: SegmentId) -> Self {
        Key { named, counter: counter.unwrap_or(0), short_id: id.0 as u32 }
    }
}

/// Every field in as few bytes as hold it, so that rows lie without padding.
///
/// Cut to what fits, always to the side that claims less: a media duration to 78 hours, the usable bytes to
/// 1 TiB. A size is exact up to 256 TiB; the time of change is kept in steps of 10 ms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    named: Packed<8>,
    counter: Packed<4>,
    short_id: Packed<4>,
    start: Packed<8>,
    uncertainty: Packed<4>,
    epoch: Packed<2>,
    flags: Packed<2>,
    duration_ns: Packed<6>,
    size_bytes: Packed<6>,
    modified: Packed<5>,
    fingerprint: Packed<8>,
    usable_bytes: Packed<5>,
}

/// A stamp as far as a row remembers it.
pub fn remembered(stamp: FileStamp) -> FileStamp {
    FileStamp {
        size_bytes: Packed::<6>::new(stamp.size_bytes).get(),
        modified_ns: pack_modified(stamp.modified_ns).get() as i64 * MODIFIED_STEP_NS,
    }
}

/// What is true of a row, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flag(u16);

impl Flag {
    /// The recorder has closed it.
    pub const SEALED: Flag = Flag(1 << 5);
    /// Its bytes could not be had when they were last asked for.
    pub const UNREADABLE: Flag = Flag(1 << 6);
    /// It is to be read, or read again.
    pub const STALE: Flag = Flag(1 << 7);
    /// The log does not have it as it is.
    pub const UNLOGGED: Flag = Flag(1 << 8);
    /// It lies in the future: kept, but not counted as held.
    pub const FUTURE: Flag = Flag(1 << 9);
    /// The present survey has seen it; see [`super::rows::Rows::begin_round`].
    pub const SEEN: Flag = Flag(1 << 10);
    /// Its path is not what the layout makes, but lies beside the rows.
    pub const ODD_PATH: Flag = Flag(1 << 11);
    /// Head and tail do not tell enough: see [`super::table::Table::read`].
    pub const DOUBTED: Flag = Flag(1 << 12);
    /// There are holes in it: see [`super::holes`].
    pub const HOLED: Flag = Flag(1 << 13);
}

/// The lowest bits hold two small numbers.
const CONTENT_BITS: u16 = 0b11;
const SOURCE_SHIFT: u32 = 2;
const SOURCE_BITS: u16 = 0b111 << SOURCE_SHIFT;
const NO_EPOCH: u64 = 0xffff;

impl Row {
    /// A file of which no more is known than its name.
    pub fn unread(key: Key, placement: Placement, stamp: FileStamp) -> Self {
        let mut row = Row {
            named: Packed::signed(key.named.as_nanos()),
            counter: Packed::new(key.counter.into()),
            short_id: Packed::new(key.short_id.into()),
            start: Packed::new(0),
            uncertainty: Packed::new(0),
            epoch: Packed::new(0),
            flags: Packed::new(0),
            duration_ns: Packed::new(0),
            size_bytes: Packed::new(0),
            modified: Packed::new(0),
            fingerprint: Packed::new(0),
            usable_bytes: Packed::new(0),
        };
        row.place(placement);
        row.set_stamp(stamp);
        row
    }

    pub fn key(&self) -> Key {
        Key { named: self.named(), counter: self.counter(), short_id: self.short_id() }
    }

    pub fn named(&self) -> Timestamp {
        Timestamp::from_nanos(self.named.get() as i64)
    }

    pub fn counter(&self) -> u32 {
        self.counter.get() as u32
    }

    pub fn short_id(&self) -> u32 {
        self.short_id.get() as u32
    }

    pub fn is(&self, flag: Flag) -> bool {
        self.bits() & flag.0 != 0
    }

    pub fn set(&mut self, flag: Flag, value: bool) {
        self.set_bits(flag.0, if value { flag.0 } else { 0 });
    }

    // When it was recorded.

    pub fn placement(&self) -> Placement {
        let epoch = self.epoch.get();
        Placement {
            start: self.start(),
            uncertainty: unpack_uncertainty(self.uncertainty.get()),
            source: source_of((self.bits() & SOURCE_BITS) >> SOURCE_SHIFT),
            epoch: (epoch != NO_EPOCH).then_some(EpochId(epoch as u16)),
        }
    }

    pub fn place(&mut self, placement: Placement) {
        self.start = Packed::signed(placement.start.as_nanos());
        self.uncertainty = Packed::new(pack_uncertainty(placement.uncertainty));
        self.epoch = Packed::new(placement.epoch.map_or(NO_EPOCH, |epoch| epoch.0.into()));
        self.set_bits(SOURCE_BITS, (placement.source as u16) << SOURCE_SHIFT);
    }

    pub fn start(&self) -> Timestamp {
        Timestamp::from_nanos(self.start.get() as i64)
    }

    pub fn uncertainty(&self) -> Duration {
        unpack_uncertainty(self.uncertainty.get())
    }

    /// See [`Placement::is_known`].
    pub fn is_placed(&self) -> bool {
        self.uncertainty() <= MAX_UNCERTAINTY
    }

    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.duration_ns.get())
    }

    pub fn set_duration(&mut self, duration: Duration) {
        self.duration_ns = Packed::new(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    pub fn range(&self) -> TimeRange {
        TimeRange::starting_at(self.start(), self.duration())
    }

    // What the file is, and holds.

    pub fn stamp(&self) -> FileStamp {
        FileStamp {
            size_bytes: self.size_bytes.get(),
            modified_ns: self.modified.get() as i64 * MODIFIED_STEP_NS,
        }
    }

    pub fn set_stamp(&mut self, stamp: FileStamp) {
        self.size_bytes = Packed::new(stamp.size_bytes);
        self.modified = pack_modified(stamp.modified_ns);
    }

    /// As far as a row remembers it, the file has not changed.
    pub fn has_stamp(&self, stamp: FileStamp) -> bool {
        self.size_bytes == Packed::new(stamp.size_bytes)
            && self.modified == pack_modified(stamp.modified_ns)
    }

    pub fn fingerprint(&self) -> u64 {
        self.fingerprint.get()
    }

    pub fn set_fingerprint(&mut self, fingerprint: u64) {
        self.fingerprint = Packed::new(fingerprint);
    }

    pub fn usable_bytes(&self) -> u64 {
        self.usable_bytes.get()
    }

    pub fn set_usable_bytes(&mut self, usable_bytes: u64) {
        self.usable_bytes = Packed::new(usable_bytes);
    }

    pub fn content(&self) -> Content {
        match self.bits() & CONTENT_BITS {
            0 => Content::Unread,
            1 => Content::Held,
            _ => Content::Nothing,
        }
    }

    pub fn set_content(&mut self, content: Content) {
        let bits = match content {
            Content::Unread => 0,
            Content::Held => 1,
            Content::Nothing => 2,
        };
        self.set_bits(CONTENT_BITS, bits);
    }

    // What follows.

    /// See [`crate::segment::Segment::coverage`]: holes in it are part of this.
    pub fn coverage(&self) -> Option<TimeRange> {
        let range = self.range();
        let counts =
            self.content() != Content::Nothing && !self.is(Flag::FUTURE) && !range.is_empty();
        let counts = counts && self.is_placed();
        counts.then_some(range)
    }

    /// Up to here it is known what it holds: nothing, where it may lie anywhere.
    pub fn known_end(&self) -> Timestamp {
        if !self.is_placed() {
            return self.placement().earliest();
        }
        match self.content() {
            Content::Held => self.range().end(),
            Content::Unread | Content::Nothing => self.start(),
        }
    }

    /// The log gets what will stay as it is.
    pub fn is_loggable(&self) -> bool {
        self.is(Flag::SEALED) && !self.is(Flag::STALE) && !self.is(Flag::UNREADABLE)
    }

    fn bits(&self) -> u16 {
        self.flags.get() as u16
    }

    fn set_bits(&mut self, mask: u16, bits: u16) {
        self.flags = Packed::new((self.bits() & !mask | bits).into());
    }
}

fn source_of(number: u16) -> TimeSource {
    const ALL: [TimeSource; 5] = [
        TimeSource::InBand,
        TimeSource::Close,
        TimeSource::Name,
        TimeSource::Modified,
        TimeSource::Neighbours,
    ];
    ALL.into_iter().find(|source| *source as u16 == number).unwrap_or(TimeSource::Neighbours)
}

/// Before 1970, or beyond 2318, is all the same.
fn pack_modified(modified_ns: i64) -> Packed<5> {
    Packed::new(u64::try_from(modified_ns.div_euclid(MODIFIED_STEP_NS)).unwrap_or(0))
}

/// An uncertainty in 32 bits: two that tell the unit, and the number of units, rounded up. Exact wherever it
/// was a name's step or an offset of whole seconds; [`Duration::MAX`] for all beyond 34 years.
fn pack_uncertainty(uncertainty: Duration) -> u64 {
    let nanos = uncertainty.as_nanos();
    let units = UNITS_NS.into_iter().map(|unit_ns| nanos.div_ceil(u128::from(unit_ns)));
    let fitting = units.enumerate().find(|(_, count)| *count < u128::from(MAX_UNITS));
    fitting.map_or(u64::from(u32::MAX), |(unit, count)| (unit as u64) << UNIT_SHIFT | count as u64)
}

fn unpack_uncertainty(packed: u64) -> Duration {
    let (unit, count) = (packed >> UNIT_SHIFT, packed & MAX_UNITS);
    match UNITS_NS.get(unit as usize) {
        Some(unit_ns) if count < MAX_UNITS => {
            let nanos = u128::from(*unit_ns) * u128::from(count);
            Duration::new((nanos / 1_000_000_000) as u64, (nanos % 1_000_000_000) as u32)
        }
        _ => Duration::MAX,
    }
}

const UNITS_NS: [u64; 4] = [1, 1_000, 1_000_000, 1_000_000_000];
const UNIT_SHIFT: u32 = 30;
const MAX_UNITS: u64 = (1 << UNIT_SHIFT) - 1;

/// An unsigned number in `N` bytes; what does not fit becomes the largest that does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Packed<const N: usize>([u8; N]);

impl<const N: usize> Packed<N> {
    fn new(value: u64) -> Self {
        let largest = u64::MAX >> (64 - 8 * N);
        let bytes = value.min(largest).to_le_bytes();
        Packed(*bytes.first_chunk().expect("no field has more than 8 bytes"))
    }

    fn get(self) -> u64 {
        let mut bytes = [0; 8];
        for (byte, packed) in bytes.iter_mut().zip(self.0) {
            *byte = packed;
        }
        u64::from_le_bytes(bytes)
    }
}

impl Packed<8> {
    fn signed(value: i64) -> Self {
        Packed(value.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_row_has_62_bytes_and_no_padding() {
        assert_eq!((size_of::<Row>(), align_of::<Row>()), (62, 1));
    }

    #[test]
    fn what_does_not_fit_is_cut_to_the_side_that_claims_less() {
        let key = Key { named: Timestamp::MIN, counter: u32::MAX, short_id: u32::MAX };
        let placement = Placement {
            start: Timestamp::MAX,
            uncertainty: Duration::MAX,
            source: TimeSource::Neighbours,
            epoch: None,
        };
        let stamp = FileStamp { size_bytes: u64::MAX, modified_ns: i64::MIN };
        let mut row = Row::unread(key, placement, stamp);
        row.set_duration(Duration::MAX);
        row.set_usable_bytes(u64::MAX);
        assert_eq!((row.key(), row.placement()), (key, placement));
        assert_eq!(row.duration(), Duration::from_nanos((1 << 48) - 1));
        assert_eq!((row.usable_bytes(), row.stamp().modified_ns), ((1 << 40) - 1, 0));
        assert!(row.has_stamp(stamp));
    }

    proptest! {
        #[test]
        fn an_uncertainty_is_never_rounded_down_and_hardly_up(nanos in 0..u64::MAX) {
            let given = Duration::from_nanos(nanos);
            let kept = unpack_uncertainty(pack_uncertainty(given));
            prop_assert!(kept >= given);
            prop_assert!(kept == Duration::MAX || kept.as_nanos() <= u128::from(nanos) * 1_001 / 1_000);
            let whole = Duration::from_secs(nanos % (1 << 29));
            prop_assert_eq!(unpack_uncertainty(pack_uncertainty(whole)), whole);
        }

        #[test]
        fn a_row_gives_back_what_it_was_given(
            (named, start, seconds) in (any::<i64>(), any::<i64>(), 0..100_000_u64),
            (counter, id, fingerprint) in (any::<u32>(), any::<u64>(), any::<u64>()),
            (epoch, source) in (prop::option::of(0..u16::MAX), 0..5_u16),
            (size_bytes, usable_bytes, steps) in (0..1_u64 << 48, 0..1_u64 << 40, 0..1_i64 << 39),
        ) {
            let key = Key::new(Timestamp::from_nanos(named), Some(counter), SegmentId(id));
            let placement = Placement {
                start: Timestamp::from_nanos(start),
                uncertainty: Duration::from_secs(seconds),
                source: source_of(source),
                epoch: epoch.map(EpochId),
            };
            let stamp = FileStamp { size_bytes, modified_ns: steps * MODIFIED_STEP_NS };
            let mut row = Row::unread(key, placement, stamp);
            row.set_content(Content::Held);
            row.set(Flag::SEALED, true);
            row.set_duration(Duration::from_secs(seconds));
            row.set_usable_bytes(usable_bytes);
            row.set_fingerprint(fingerprint);
            prop_assert_eq!((row.key(), row.placement(), row.stamp()), (key, placement, stamp));
            prop_assert_eq!((row.usable_bytes(), row.fingerprint()), (usable_bytes, fingerprint));
            prop_assert_eq!((row.content(), row.duration().as_secs()), (Content::Held, seconds));
            prop_assert!(row.is(Flag::SEALED) && !row.is(Flag::STALE));
        }
    }
}
