//! The programme of a range: which fragments are played, in their order, and all of their sizes.
//!
//! Planned once, from a view, and small: of each fragment a few words, of each take what is needed to make its
//! samples anew. So the one plan gives HLS segments and a single MP4 in which every byte's place is known before any
//! picture is read, and whatever is asked of either is made of the recordings when it is sent. Making a fragment twice
//! gives the same bytes; where a recording has changed so that it would not, that is an error.
//!
//! Files that cannot be played are left out, and leave a hole: one of them does not keep the others from being seen.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sdcard_indexer::container::track::rescale;
use sdcard_indexer::container::{Summary, Track};
use sdcard_indexer::time::{TimeRange, Timestamp};

use super::Run;
use super::export::{closing, meets, opening, within};
use super::reel::{Lanes, Reel};
use crate::merge::{
    FragmentError, Joiner, Meets, OutputSample, Source, SourceError, counterpart, file_head,
    same_decoder,
};
use crate::seam::{Bound, Seam};

/// A segment is closed once it is so long, at the next keyframe.
const LONG_ENOUGH: Duration = Duration::from_secs(4);
/// And before a fragment with which it would be longer than this.
const LONGEST: Duration = Duration::from_secs(6);
/// Where another take begins it may be closed when it is only so long.
const SHORTEST: Duration = Duration::from_secs(2);
/// A lack of frames no longer than this is rounding, not a hole: as the archive's `join_tolerance_ms` has it unless
/// told otherwise. Time stamps do not leap there by more than players bear.
const LEAST_HOLE: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
pub enum ProgrammeError {
    #[error("nothing is archived in {range}")]
    Nothing { range: TimeRange },
    #[error(transparent)]
    Take(#[from] TakeError),
    #[error(
        "the encoder's settings change at {at}: one file cannot hold both; ask for the time up to there and for \
         that from there on, or play it as HLS"
    )]
    SettingsChange { at: Timestamp },
    #[error("the head of the output cannot be made")]
    Head(#[source] FragmentError),
}

/// Why what a file holds cannot be played, or no longer as it was planned.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    #[error("{} cannot be played", file.display())]
    Source { file: PathBuf, source: SourceError },
    #[error("{} cannot be played", file.display())]
    Fragment { file: PathBuf, source: FragmentError },
    #[error("{} holds something else than when this was planned: ask anew", file.display())]
    Changed { file: PathBuf },
}

/// What is played of a range; see the module.
#[derive(Debug)]
pub struct Programme {
    asked: TimeRange,
    shown: TimeRange,
    frames: u64,
    number: u64,
    pub(super) lanes: Lanes,
    chapters: Vec<Chapter>,
    takes: Vec<Take>,
    fragments: Vec<Fragment>,
    segments: Vec<Segment>,
    left_out: Vec<TakeError>,
}

/// Which programme is meant, by the range that it was asked for and what it is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Edition {
    pub range: TimeRange,
    pub number: u64,
}

/// From here on to the next one, one setting of the decoders does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Chapter {
    pub(super) tracks: Vec<Track>,
    head: Vec<u8>,
}

/// A run of the view as it is played here, and all that is needed to make its samples anew.
#[derive(Debug)]
pub(super) struct Take {
    pub(super) file: PathBuf,
    pub(super) file_bytes: u64,
    pub(super) summary: Summary,
    pub(super) zero_at: Timestamp,
    pub(super) opens: Bound,
    pub(super) closes: Bound,
    pub(super) joined: bool,
    pub(super) meets: Meets,
    /// As the take before has left it.
    pub(super) before: Joiner,
    pub(super) fingerprint: [u8; 32],
    pub(super) first_fragment: usize,
    chapter: usize,
    shown: TimeRange,
    seam: Option<Seam>,
    /// What lies between the take before and this one.
    hole: Option<TimeRange>,
}

/// A group of pictures and the sound of its time: `moof` and `mdat`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fragment {
    pub(super) take: usize,
    /// Where it begins, in bytes from the first fragment's beginning.
    pub(super) begins: u64,
    pub(super) bytes: u64,
    /// Where it begins and how long it lasts, in ticks of the leading track.
    pub(super) decode_ticks: u64,
    pub(super) shown_ticks: u64,
    ticks: u64,
    shown_at: Timestamp,
    pub(super) keyframe: bool,
}

/// Fragments that are fetched together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    pub(super) fragments: Range<usize>,
    pub chapter: usize,
    /// Begins with a keyframe: it can be decoded by itself.
    pub(super) independent: bool,
    /// When its first frame is shown, by the archive's clock.
    pub shown_at: Timestamp,
    pub duration: Duration,
    /// The first one that begins within its take.
    pub opens_take: bool,
    /// What is missing before it.
    pub hole: Option<TimeRange>,
}

impl Programme {
    /// Plans what of `range` the runs of a [`view`](super::view) hold. One file is open at a time.
    pub fn plan(runs: &[Run<'_>], range: TimeRange) -> Result<Programme, ProgrammeError> {
        let mut left_out = Vec::new();
        let mut footage = Vec::new();
        for (run, asked) in within(runs, range) {
            match Source::open(&run.segment.file) {
                Ok(source) => {
                    let summary = source.summary().clone();
                    footage.push((run, asked, source.file_bytes(), summary));
                }
                Err(source) => {
                    left_out.push(TakeError::Source { file: run.segment.file.clone(), source });
                }
            }
        }
        let tracks = common_tracks(footage.iter().map(|(_, _, _, summary)| summary));
        let mut planner = Planner::new(range, &tracks, left_out);
        for (run, asked, file_bytes, summary) in footage {
            planner.append(run, asked, file_bytes, summary);
        }
        planner.finish(&tracks)
    }

    pub const fn edition(&self) -> Edition {
        Edition { range: self.asked, number: self.number }
    }

    /// From the first frame, which is the keyframe at or before the asked range's start, to the end of the last.
    pub const fn shown(&self) -> TimeRange {
        self.shown
    }

    /// Frames of the leading track.
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    /// Where what one recorder has goes on in what the other one has, in the order of time.
    pub fn seams(&self) -> impl Iterator<Item = (Timestamp, Seam)> {
        let met = self.takes.iter().filter_map(|take| Some((take.shown.start(), take.seam?)));
        met.filter(|(_, seam)| seam.joins_recorders())
    }

    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Files that would be played and cannot be.
    pub fn left_out(&self) -> &[TakeError] {
        &self.left_out
    }

    /// `ftyp` and `moov` of a chapter.
    pub fn chapter_head(&self, chapter: usize) -> Option<&[u8]> {
        self.chapters.get(chapter).map(|chapter| chapter.head.as_slice())
    }

    /// Where a segment's bytes lie among those of all fragments.
    pub fn segment_bytes(&self, segment: usize) -> Option<Range<u64>> {
        let fragments = &self.segments.get(segment)?.fragments;
        let first = self.fragments.get(fragments.start)?;
        let last = self.fragments.get(fragments.end.checked_sub(1)?)?;
        Some(first.begins..last.begins + last.bytes)
    }

    /// Of all fragments together.
    pub fn media_bytes(&self) -> u64 {
        self.fragments.last().map_or(0, |last| last.begins + last.bytes)
    }

    /// How much memory it takes, about.
    pub(super) fn weight(&self) -> usize {
        let described = |tracks: &[Track]| -> usize {
            tracks.iter().map(|track| size_of::<Track>() + track.sample_description.len()).sum()
        };
        let takes: usize = self
            .takes
            .iter()
            .map(|take| size_of::<Take>() + 256 + described(&take.summary.tracks))
            .sum();
        takes
            + self.fragments.len() * size_of::<Fragment>()
            + self.segments.len() * size_of::<Segment>()
    }

    pub(super) fn chapters(&self) -> &[Chapter] {
        &self.chapters
    }

    pub(super) fn take(&self, number: usize) -> Option<&Take> {
        self.takes.get(number)
    }

    /// The fragment in which a byte lies, and its number.
    pub(super) fn fragment_at(&self, byte: u64) -> Option<(usize, &Fragment)> {
        let number =
            self.fragments.partition_point(|fragment| fragment.begins <= byte).checked_sub(1)?;
        let fragment = self.fragments.get(number)?;
        (byte < fragment.begins + fragment.bytes).then_some((number, fragment))
    }

    pub(super) fn fragments(&self) -> &[Fragment] {
        &self.fragments
    }

    /// What it is from a fragment to the next one's beginning, or to the end: a hole before the next one belongs to
    /// it. In ticks of the leading track.
    pub(super) fn lasts(&self, fragment: &Fragment) -> u64 {
        let begun = self.fragments.partition_point(|other| other.begins <= fragment.begins);
        match self.fragments.get(begun) {
            Some(next) => next.decode_ticks.saturating_sub(fragment.decode_ticks),
            None => fragment.ticks,
        }
    }

    /// When a chapter's first frame is shown.
    pub(super) fn chapter_begins(&self, chapter: usize) -> Option<Timestamp> {
        let take = self.takes.iter().find(|take| take.chapter == chapter)?;
        Some(take.shown.start())
    }
}

/// The tracks of all files together, each as it is first seen. What they count in is what the output counts in.
fn common_tracks<'a>(summaries: impl Iterator<Item = &'a Summary>) -> Vec<Track> {
    let mut common: Vec<Track> = Vec::new();
    for Summary { tracks, .. } in summaries {
        for (index, track) in tracks.iter().enumerate() {
            if counterpart(common.iter().map(|track| track.kind), tracks, index).is_none() {
                common.push(track.clone());
            }
        }
    }
    common
}

struct Planner {
    range: TimeRange,
    lanes: Lanes,
    joiner: Joiner,
    /// Of each chapter, the lanes' tracks as far as its takes have them.
    settings: Vec<Vec<Option<Track>>>,
    takes: Vec<Take>,
    fragments: Vec<Fragment>,
    frames: u64,
    /// When the last of the frames so far has been shown, in ticks of the leading track.
    shown_until: u64,
    left_out: Vec<TakeError>,
    /// The run before was played to its end.
    continues: bool,
}

impl Planner {
    fn new(range: TimeRange, tracks: &[Track], left_out: Vec<TakeError>) -> Self {
        Planner {
            range,
            lanes: Lanes::of(tracks),
            joiner: Joiner::new(tracks),
            settings: Vec::new(),
            takes: Vec::new(),
            fragments: Vec::new(),
            frames: 0,
            shown_until: 0,
            left_out,
            continues: false,
        }
    }

    fn append(&mut self, run: &Run<'_>, asked: TimeRange, file_bytes: u64, summary: Summary) {
        let joined = self.continues && run.seam.is_some();
        let take = Take {
            file: run.segment.file.clone(),
            file_bytes,
            summary,
            zero_at: run.zero_at,
            opens: opening(run, asked),
            closes: closing(run, asked),
            joined,
            meets: meets(run, joined),
            before: self.joiner.clone(),
            fingerprint: [0; 32],
            first_fragment: self.fragments.len(),
            chapter: 0,
            shown: run.range,
            seam: run.seam,
            hole: None,
        };
        let mut joiner = self.joiner.clone();
        let played = match Reel::load(&take, &mut joiner, &self.lanes) {
            Ok(Some(reel)) => self.take(take, &reel).map(|()| self.joiner = joiner).is_ok(),
            Ok(None) => false,
            Err(error) => {
                self.left_out.push(error);
                false
            }
        };
        self.continues = played;
    }

    fn take(&mut self, mut take: Take, reel: &Reel) -> Result<(), ()> {
        let (fragments, shown_until) = match self.fragments_of(&take, reel) {
            Ok(fragments) => fragments,
            Err(source) => {
                self.left_out.push(TakeError::Fragment { file: take.file.clone(), source });
                return Err(());
            }
        };
        (take.shown, take.fingerprint) = (reel.shown.0, reel.fingerprint);
        take.chapter = self.chapter_of(&take.summary.tracks);
        take.hole = self.hole_before(&take, fragments.first());
        if let (Some(last), Some(next), None) =
            (self.fragments.last_mut(), fragments.first(), take.hole)
        {
            // What it is to the next one, whatever is said of its last frame.
            last.ticks = next.decode_ticks.saturating_sub(last.decode_ticks);
        }
        self.shown_until = self.shown_until.max(shown_until);
        if self.takes.is_empty() {
            take.seam = None;
        }
        self.frames = self.frames.saturating_add(reel.shown.1);
        self.fragments.extend(fragments);
        self.takes.push(take);
        Ok(())
    }

    /// What is missing before a take, where that is more than rounding. With open groups of pictures files seem to
    /// end early, and the next one's leading pictures fill that.
    fn hole_before(&self, take: &Take, first: Option<&Fragment>) -> Option<TimeRange> {
        let before = self.takes.last().filter(|_| !take.joined)?;
        let lacking = first?.shown_ticks.saturating_sub(self.shown_until);
        let (from, to) = (before.shown.end(), take.shown.start());
        (length(lacking, self.lanes.primary_timescale()) > LEAST_HOLE)
            .then(|| TimeRange::new(from, to).unwrap_or(TimeRange::starting_at(to, Duration::ZERO)))
    }

    /// And when the last of their frames has been shown.
    fn fragments_of(
        &self,
        take: &Take,
        reel: &Reel,
    ) -> Result<(Vec<Fragment>, u64), FragmentError> {
        let mut begins = self.fragments.last().map_or(0, |last| last.begins + last.bytes);
        let mut fragments = Vec::with_capacity(reel.fragments());
        let mut shown_until = 0;
        for number in 0..reel.fragments() {
            let head = reel.head(number, sequence(take, number))?;
            let media: u64 = reel.samples(number).map(|(_, it)| u64::from(it.size_bytes)).sum();
            let (lane, leading) = reel.leading(number, self.lanes.primary);
            let timescale = self.lanes.timescales.get(lane).copied().unwrap_or(1);
            let ticks = |ticks: u64| {
                let ticks = i64::try_from(ticks).unwrap_or(i64::MAX);
                let ticks = rescale(ticks, timescale, self.lanes.primary_timescale());
                u64::try_from(ticks).unwrap_or(0)
            };
            let Some(first) = leading.first() else { continue };
            let shown = |sample: &OutputSample| {
                sample.decode_ticks.saturating_add(sample.composition_offset.into())
            };
            let until = leading.iter().map(|it| shown(it).saturating_add(it.duration.into())).max();
            shown_until = shown_until.max(ticks(until.unwrap_or_default()));
            let fragment = Fragment {
                take: self.takes.len(),
                begins,
                bytes: head.len() as u64 + media,
                decode_ticks: ticks(first.decode_ticks),
                shown_ticks: ticks(leading.iter().map(shown).min().unwrap_or_default()),
                ticks: ticks(leading.iter().map(|sample| u64::from(sample.duration)).sum()),
                shown_at: reel.shown_at(&first.source),
                keyframe: first.source.keyframe,
            };
            begins = fragment.begins + fragment.bytes;
            fragments.push(fragment);
        }
        Ok((fragments, shown_until))
    }

    /// The chapter that a take with these tracks goes on with, or begins.
    fn chapter_of(&mut self, tracks: &[Track]) -> usize {
        let kinds: Vec<_> = self.joiner.kinds().collect();
        let lane_of = |index: usize| counterpart(kinds.iter().copied(), tracks, index);
        let fits = |setting: &Vec<Option<Track>>| {
            tracks.iter().enumerate().all(|(index, track)| {
                let known = lane_of(index).and_then(|lane| setting.get(lane)?.as_ref());
                known.is_none_or(|known| same_decoder(known, track))
            })
        };
        if !self.settings.last().is_some_and(fits) {
            self.settings.push(vec![None; kinds.len()]);
        }
        if let Some(setting) = self.settings.last_mut() {
            for (index, track) in tracks.iter().enumerate() {
                if let Some(place) = lane_of(index).and_then(|lane| setting.get_mut(lane)) {
                    place.get_or_insert_with(|| track.clone());
                }
            }
        }
        self.settings.len().saturating_sub(1)
    }

    fn finish(mut self, tracks: &[Track]) -> Result<Programme, ProgrammeError> {
        let shown = self.takes.iter().map(|take| take.shown).reduce(|one, other| one.hull(&other));
        let Some(shown) = shown else {
            return Err(match self.left_out.is_empty() {
                true => ProgrammeError::Nothing { range: self.range },
                false => ProgrammeError::Take(self.left_out.remove(0)),
            });
        };
        let end = self.fragments.last().map_or(0, |last| last.decode_ticks + last.ticks);
        let duration = length(end, self.lanes.primary_timescale());
        let chapters = chapters(&self.settings, tracks, duration).map_err(ProgrammeError::Head)?;
        let segments = segments(&self.takes, &self.fragments, self.lanes.primary_timescale());
        Ok(Programme {
            asked: self.range,
            shown,
            frames: self.frames,
            number: number(&chapters, &self.takes),
            lanes: self.lanes,
            chapters,
            takes: self.takes,
            fragments: self.fragments,
            segments,
            left_out: self.left_out,
        })
    }
}

/// Of `mfhd`; counted from one over the whole programme.
pub(super) fn sequence(take: &Take, number: usize) -> u32 {
    u32::try_from(take.first_fragment + number + 1).unwrap_or(u32::MAX)
}

fn length(ticks: u64, timescale: u32) -> Duration {
    let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(timescale.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// A lane that no take of a chapter has is described as elsewhere: the tracks of all chapters are the same.
fn chapters(
    settings: &[Vec<Option<Track>>],
    tracks: &[Track],
    duration: Duration,
) -> Result<Vec<Chapter>, FragmentError> {
    let chapter = |setting: &Vec<Option<Track>>| {
        let tracks: Vec<Track> = setting
            .iter()
            .zip(tracks)
            .map(|(own, common)| match own {
                Some(own) => Track { timescale: common.timescale, ..own.clone() },
                None => common.clone(),
            })
            .collect();
        let head = file_head(&tracks, duration)?;
        Ok(Chapter { tracks, head })
    };
    settings.iter().map(chapter).collect()
}

/// What tells programmes of one range apart: what they are made of.
fn number(chapters: &[Chapter], takes: &[Take]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for chapter in chapters {
        hasher.update(&chapter.head);
    }
    for take in takes {
        hasher.update(take.file.as_os_str().as_encoded_bytes());
        hasher.update(&take.shown.start().as_nanos().to_le_bytes());
        hasher.update(&[take.chapter.to_le_bytes()[0], u8::from(take.hole.is_some())]);
        hasher.update(&take.fingerprint);
    }
    let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

fn segments(takes: &[Take], fragments: &[Fragment], timescale: u32) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut ticks = 0u64;
    for (index, fragment) in fragments.iter().enumerate() {
        let Some(take) = takes.get(fragment.take) else { break };
        let opens_take = take.first_fragment == index;
        let hole = take.hole.filter(|_| opens_take);
        let goes_on = segments.last().is_some_and(|last| {
            let now = length(ticks, timescale);
            let full = now >= LONG_ENOUGH
                || length(ticks + fragment.ticks, timescale) > LONGEST
                || (opens_take && now >= SHORTEST);
            hole.is_none() && last.chapter == take.chapter && !(fragment.keyframe && full)
        });
        match segments.last_mut() {
            Some(last) if goes_on => {
                ticks += fragment.ticks;
                last.fragments.end = index + 1;
                last.duration = length(ticks, timescale);
            }
            before => {
                let of_take = before
                    .and_then(|before| fragments.get(before.fragments.start))
                    .map(|first| first.take);
                ticks = fragment.ticks;
                segments.push(Segment {
                    fragments: index..index + 1,
                    chapter: take.chapter,
                    independent: fragment.keyframe,
                    shown_at: fragment.shown_at,
                    duration: length(ticks, timescale),
                    opens_take: of_take != Some(fragment.take),
                    hole,
                });
            }
        }
    }
    segments
}

/// As it stands in paths: `FROM_TO_NUMBER`, the instants in nanoseconds since 1970.
impl fmt::Display for Edition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.range.start().as_nanos(), self.range.end().as_nanos());
        write!(formatter, "{from}_{to}_{:016x}", self.number)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no edition of a programme is called so")]
pub struct NoEdition;

impl FromStr for Edition {
    type Err = NoEdition;

    fn from_str(text: &str) -> Result<Self, NoEdition> {
        let mut fields = text.split('_');
        let mut instant = || fields.next()?.parse().ok().map(Timestamp::from_nanos);
        let range = instant().zip(instant()).and_then(|(from, to)| TimeRange::new(from, to));
        let number = fields.next().and_then(|number| u64::from_str_radix(number, 16).ok());
        let edition = range.zip(number).map(|(range, number)| Edition { range, number });
        // One way to write each: what is cached under a path is of one edition.
        edition.filter(|edition| edition.to_string() == text).ok_or(NoEdition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edition_reads_back_what_it_shows_and_nothing_else_is_one() {
        let range = TimeRange::starting_at(Timestamp::from_nanos(-7), Duration::from_secs(9));
        let edition = Edition { range, number: 0xab };
        assert_eq!(edition.to_string(), "-7_8999999993_00000000000000ab");
        assert_eq!(edition.to_string().parse(), Ok(edition));
        for text in [
            "",
            "1_2",
            "2_1_0000000000000000",
            "1_2_0",
            "1_2_0000000000000000_",
            "1_2_+000000000000000",
        ] {
            assert_eq!(text.parse::<Edition>(), Err(NoEdition), "{text}");
        }
    }
}
