//! Fragmented MP4: the samples of one track, read off its movie fragments (ISO/IEC 14496-12, 8.8).
//!
//! One `moof` at a time is in memory, and counts only once its `mdat` is whole and holds every byte that
//! it speaks of. What cannot be read, or is not whole, ends the walk: a recorder that lost its power
//! leaves such tails.

use std::io::{Read, Seek};
use std::ops::Range;

use super::boxes::{BoxHeader, Fields, Source, Window};
use super::movie::{SampleDefaults, TrackLayout};
use super::track::{Sample, TrackKind};
use super::{ContainerError, End, place};

/// Ten minutes in one fragment are a quarter of it.
const MAX_MOOF_BYTES: u64 = 1024 * 1024;
/// Interleaved writing makes a run of each stretch of one track.
const MAX_RUNS: usize = 8192;

/// A decode time before all others: what samples have, and keep, where nothing in the file gives one.
pub(super) const UNTIMED: i64 = i64::MIN;

/// Walks one track's samples in decode order.
#[derive(Debug)]
pub(super) struct FragmentCursor {
    track: usize,
    track_id: u32,
    is_audio: bool,
    recording_start: u64,
    /// Of every track: where one's data ends may say where the next one's begins.
    defaults: Vec<(u32, SampleDefaults)>,
    /// Where the next box at top level stands.
    at: u64,
    window: Window,
    moof: Vec<u8>,
    /// This track's runs in `moof`; the first `done_runs` have been taken up.
    runs: Vec<Run>,
    done_runs: usize,
    current: Option<Run>,
    decode_ticks: i64,
    end: Option<End>,
    any_fragment: bool,
}

/// A `trun` with what its samples have by default; shrinks as they are handed out.
#[derive(Clone, Debug)]
struct Run {
    /// Decode time of the first sample; `None`: it follows the sample before.
    decode_ticks: Option<i64>,
    samples: u32,
    /// Where in `moof` the next sample's fields stand, and which there are.
    fields_at: usize,
    flags: u32,
    defaults: SampleDefaults,
    first_flags: Option<u32>,
    /// Where in the file the next sample lies.
    data: u64,
}

impl FragmentCursor {
    /// `at` is where the first `moof` stands; `window` may have it already.
    pub(super) fn new(
        track: usize,
        layouts: &[TrackLayout],
        recording_start: u64,
        at: u64,
        window: Window,
    ) -> FragmentCursor {
        let own = layouts.get(track).map(|layout| &layout.track);
        FragmentCursor {
            track,
            track_id: own.map_or(0, |own| own.track_id),
            is_audio: own.is_some_and(|own| own.kind == TrackKind::Audio),
            recording_start,
            defaults: layouts.iter().map(|l| (l.track.track_id, l.defaults)).collect(),
            at,
            window,
            moof: Vec::new(),
            runs: Vec::new(),
            done_runs: 0,
            current: None,
            decode_ticks: 0,
            end: None,
            any_fragment: false,
        }
    }

    /// Where the walk ended and why; `None` while it goes on.
    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    /// Up to where fragments were taken up.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// All samples of the fragments up to [`Self::position`] were handed out.
    pub(super) fn is_between_fragments(&self) -> bool {
        self.done_runs == self.runs.len()
            && self.current.as_ref().is_none_or(|run| run.samples == 0)
    }

    /// Number of the fragment that was taken up last (8.8.5); 0 where it has none.
    pub(super) fn sequence(&self) -> u32 {
        let mut boxes = Fields::new("mfhd", 0, &self.moof);
        match boxes.next_box("mfhd") {
            Ok(Some((kind, mut fields))) if &kind == b"mfhd" => {
                fields.skip(4).and_then(|()| fields.u32()).unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// The next sample. `decode_ticks` is its decode time where nothing in the file gives one: the sum of
    /// all durations before the first fragment.
    pub(super) fn next<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
        decode_ticks: i64,
    ) -> Result<Option<Sample>, ContainerError> {
        loop {
            if let Some(sample) = self.next_in_run()? {
                return Ok(Some(sample));
            }
            if let Some(run) = self.runs.get(self.done_runs) {
                self.decode_ticks = run.decode_ticks.unwrap_or(self.decode_ticks);
                self.current = Some(run.clone());
                self.done_runs += 1;
            } else if self.end.is_some() {
                return Ok(None);
            } else {
                if !self.any_fragment {
                    self.decode_ticks = decode_ticks;
                }
                self.next_fragment(source)?;
            }
        }
    }

    fn next_in_run(&mut self) -> Result<Option<Sample>, ContainerError> {
        let Some(run) = self.current.as_mut().filter(|run| run.samples > 0) else {
            return Ok(None);
        };
        let rest = self.moof.get(run.fields_at..).unwrap_or_default();
        let mut fields = Fields::new("trun", run.data, rest);
        let entry = RunEntry::read(&mut fields, run.flags)?;
        run.fields_at += rest.len() - fields.rest.len();
        let first_flags = run.first_flags.take();
        let flags = entry.flags.or(first_flags).unwrap_or(run.defaults.flags);
        let sample = Sample {
            track: self.track,
            decode_ticks: self.decode_ticks,
            composition_offset: entry.composition_offset.unwrap_or(0) as i32,
            duration: entry.duration.unwrap_or(run.defaults.duration),
            size_bytes: entry.size.unwrap_or(run.defaults.size),
            offset: run.data,
            keyframe: self.is_audio || is_keyframe(flags),
            packets: None,
        };
        run.samples -= 1;
        run.data = sample.end_offset();
        self.decode_ticks = self.decode_ticks.saturating_add(i64::from(sample.duration));
        Ok(Some(sample))
    }

    /// Takes up the next whole fragment, or finds the end.
    fn next_fragment<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<(), ContainerError> {
        self.runs.clear();
        self.done_runs = 0;
        match self.find_fragment(source) {
            Ok(Some(after)) => {
                self.at = after;
                self.any_fragment = true;
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error @ ContainerError::Io(_)) => Err(error),
            Err(_) if self.any_fragment => {
                self.runs.clear();
                self.end = Some(End::torn(self.at));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Reads the next fragment; says where it ends, or sets `end`. `self.at` stays before whatever is not
    /// whole.
    fn find_fragment<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
    ) -> Result<Option<u64>, ContainerError> {
        let mut moof: Option<BoxHeader> = None;
        let mut at = self.at;
        loop {
            if at == source.end && moof.is_none() {
                self.end = Some(End { whole: at, torn: false, next: None });
                return Ok(None);
            }
            let header = BoxHeader::read(source, &mut self.window, at, source.end)?;
            let Some(header) = header.filter(|header| header.within(source.end)) else {
                self.end = Some(End::torn(self.at));
                return Ok(None);
            };
            at = header.end;
            match (&header.kind, moof) {
                (b"ftyp" | b"moov", _) => {
                    let next = Some(header.start);
                    self.end = Some(End { whole: header.start, torn: false, next });
                    return Ok(None);
                }
                // One whose media never came holds nothing; the next may.
                (b"moof", _) => moof = Some(self.load(source, header)?),
                (b"mdat", Some(moof)) => {
                    self.runs = self.runs_of(&moof, header.body..header.end)?;
                    return Ok(Some(header.end));
                }
                (_, Some(_)) => {}
                (_, None) => self.at = at,
            }
        }
    }

    fn load<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
        moof: BoxHeader,
    ) -> Result<BoxHeader, ContainerError> {
        let length = moof.end - moof.body;
        if length > MAX_MOOF_BYTES {
            let what = "a fragment's index (moof)";
            return Err(ContainerError::TooLarge {
                offset: moof.start,
                what,
                limit: MAX_MOOF_BYTES,
            });
        }
        self.window.copy(source, moof.body, length as usize, &mut self.moof)?;
        Ok(moof)
    }

    /// This track's runs; checks those of all tracks against the fragment's `data`.
    fn runs_of(&self, header: &BoxHeader, data: Range<u64>) -> Result<Vec<Run>, ContainerError> {
        let mut runs = Vec::new();
        // Without a base of its own a track's data follows that of the one before (8.8.7).
        let mut follows = header.start;
        let mut boxes = Fields::new("moof", header.body, &self.moof);
        while let Some((kind, traf)) = boxes.next_box("traf")? {
            if &kind == b"traf" {
                follows = self.read_traf(header, traf, follows, &data, &mut runs)?;
            }
        }
        Ok(runs)
    }

    /// Returns where the data of this `traf` ends.
    fn read_traf(
        &self,
        moof: &BoxHeader,
        traf: Fields<'_>,
        follows: u64,
        data: &Range<u64>,
        runs: &mut Vec<Run>,
    ) -> Result<u64, ContainerError> {
        let mut head = TrackFragment::read(traf, &self.defaults)?;
        let base = match head.base {
            DataBase::Moof => moof.start,
            DataBase::Follows => follows,
            DataBase::Absolute(offset) => offset,
        };
        let mut at = base;
        let mut boxes = traf;
        while let Some((kind, mut fields)) = boxes.next_box("trun")? {
            if &kind != b"trun" {
                continue;
            }
            let (_, flags) = fields.version_and_flags()?;
            let samples = fields.u32()?;
            if let Some(data_offset) = fields.u32_if(flags & 0x1 != 0)? {
                at = base.saturating_add_signed(i64::from(data_offset as i32));
                if let DataBase::Absolute(_) = head.base {
                    at = place(at, self.recording_start, data);
                }
            }
            let first_flags = fields.u32_if(flags & 0x4 != 0)?;
            let fields_at = (fields.offset - moof.body) as usize;
            let bytes = run_bytes(fields, flags, samples, head.defaults.size)?;
            if bytes == 0 {
                // Samples without bytes lie nowhere: anywhere in the media will do.
                at = at.clamp(data.start, data.end);
            }
            let end = at.checked_add(bytes).ok_or_else(|| fields.malformed())?;
            if at < data.start || end > data.end {
                let what = "sample data outside of the fragment's mdat";
                return Err(ContainerError::Malformed { offset: moof.start, what });
            }
            if head.track_id == self.track_id {
                if runs.len() == MAX_RUNS {
                    let what = "the number of runs (trun) in a fragment";
                    let limit = MAX_RUNS as u64;
                    return Err(ContainerError::TooLarge { offset: moof.start, what, limit });
                }
                runs.push(Run {
                    decode_ticks: head.decode_ticks.take(),
                    samples,
                    fields_at,
                    flags,
                    defaults: head.defaults,
                    first_flags,
                    data: at,
                });
            }
            at = end;
        }
        Ok(at)
    }
}

/// What a `traf` says before its runs.
struct TrackFragment {
    track_id: u32,
    base: DataBase,
    defaults: SampleDefaults,
    decode_ticks: Option<i64>,
}

/// What the data offsets of a `traf` count from (8.8.7).
#[derive(Clone, Copy)]
enum DataBase {
    Moof,
    Follows,
    Absolute(u64),
}

impl TrackFragment {
    fn read(
        mut boxes: Fields<'_>,
        all_defaults: &[(u32, SampleDefaults)],
    ) -> Result<Self, ContainerError> {
        let missing = boxes.malformed();
        let mut head = None;
        let mut decode_ticks = None;
        while let Some((kind, mut fields)) = boxes.next_box("tfhd or tfdt")? {
            match &kind {
                b"tfhd" => head = Some(Self::read_header(fields, all_defaults)?),
                b"tfdt" => {
                    let (version, _) = fields.version_and_flags()?;
                    decode_ticks = Some(i64::try_from(fields.wide(version)?).unwrap_or(i64::MAX));
                }
                _ => {}
            }
        }
        Ok(TrackFragment { decode_ticks, ..head.ok_or(missing)? })
    }

    /// `tfhd`.
    fn read_header(
        mut fields: Fields<'_>,
        all_defaults: &[(u32, SampleDefaults)],
    ) -> Result<Self, ContainerError> {
        let (_, flags) = fields.version_and_flags()?;
        let track_id = fields.u32()?;
        let base = if flags & 0x1 != 0 {
            DataBase::Absolute(fields.u64()?)
        } else if flags & 0x2_0000 != 0 {
            DataBase::Moof
        } else {
            DataBase::Follows
        };
        fields.u32_if(flags & 0x2 != 0)?; // which sample description
        let movie = all_defaults.iter().find(|(id, _)| *id == track_id).map(|(_, d)| *d);
        let movie = movie.unwrap_or_default();
        let defaults = SampleDefaults {
            duration: fields.u32_if(flags & 0x8 != 0)?.unwrap_or(movie.duration),
            size: fields.u32_if(flags & 0x10 != 0)?.unwrap_or(movie.size),
            flags: fields.u32_if(flags & 0x20 != 0)?.unwrap_or(movie.flags),
        };
        Ok(TrackFragment { track_id, base, defaults, decode_ticks: None })
    }
}

/// The fields of one sample in a `trun` (8.8.8); which there are stands in its flags.
struct RunEntry {
    duration: Option<u32>,
    size: Option<u32>,
    flags: Option<u32>,
    composition_offset: Option<u32>,
}

impl RunEntry {
    fn read(fields: &mut Fields<'_>, run_flags: u32) -> Result<RunEntry, ContainerError> {
        Ok(RunEntry {
            duration: fields.u32_if(run_flags & 0x100 != 0)?,
            size: fields.u32_if(run_flags & 0x200 != 0)?,
            flags: fields.u32_if(run_flags & 0x400 != 0)?,
            composition_offset: fields.u32_if(run_flags & 0x800 != 0)?,
        })
    }
}

/// Bytes of media that a run's samples take.
fn run_bytes(
    mut fields: Fields<'_>,
    flags: u32,
    samples: u32,
    default_size: u32,
) -> Result<u64, ContainerError> {
    if flags & 0xf00 == 0 {
        // A count that costs nothing to write down is not to be believed.
        if default_size == 0 && samples > 1 {
            return Err(fields.malformed());
        }
        return Ok(u64::from(samples) * u64::from(default_size));
    }
    (0..samples).try_fold(0, |bytes: u64, _| {
        let entry = RunEntry::read(&mut fields, flags)?;
        Ok(bytes + u64::from(entry.size.unwrap_or(default_size)))
    })
}

/// Sample flags (8.8.3.1): not marked as no sync sample, and not said to depend on others.
fn is_keyframe(flags: u32) -> bool {
    const NON_SYNC: u32 = 0x1_0000;
    const DEPENDS_ON_OTHERS: u32 = 0x0100_0000;
    flags & (NON_SYNC | DEPENDS_ON_OTHERS) == 0
}
