//! Reels: the samples of one take, each with its place in the output, cut into fragments.
//!
//! Made when a programme is planned, and made again, the same, whenever one of its fragments is wanted: all that it
//! is made of is in the [`Take`]. Reads the file's tables; [`super::projector`] reads its pictures.

use sdcard_indexer::container::{Sample, Track};
use sdcard_indexer::time::{TimeRange, Timestamp};

use super::export::shown;
use super::programme::{Take, TakeError};
use crate::merge::{
    Cut, FragmentError, Joiner, OutputSample, Source, cut, fragment_head, of_lanes, primary_track,
};
use crate::seam::trim;

/// The samples of one take.
#[derive(Debug)]
pub struct Reel {
    tracks: Vec<Track>,
    lanes: Vec<Vec<OutputSample>>,
    cuts: Vec<Cut>,
    /// From the first frame shown to the end of the last, and how many they are.
    pub(super) shown: (TimeRange, u64),
    zero_at: Timestamp,
    /// A number of what is on it.
    pub(super) fingerprint: [u8; 32],
}

/// The lanes of the output: in which ticks each counts, and which one leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Lanes {
    pub(super) timescales: Vec<u32>,
    pub(super) primary: usize,
}

impl Lanes {
    pub(super) fn of(tracks: &[Track]) -> Lanes {
        let timescales = tracks.iter().map(|track| track.timescale).collect();
        Lanes { timescales, primary: primary_track(tracks) }
    }

    pub(super) fn primary_timescale(&self) -> u32 {
        self.timescales.get(self.primary).copied().unwrap_or(1)
    }
}

impl Reel {
    /// Reads which samples a take has. `joiner` is as the take before has left it, and goes on to the next. `None`
    /// where nothing of it is played.
    pub(super) fn load(
        take: &Take,
        joiner: &mut Joiner,
        lanes: &Lanes,
    ) -> Result<Option<Reel>, TakeError> {
        let unplayable = |source| TakeError::Source { file: take.file.clone(), source };
        let mut source = Source::reopen(&take.file, take.file_bytes, take.summary.clone())
            .map_err(unplayable)?;
        let samples = source.samples().map_err(unplayable)?;
        let tracks = &take.summary.tracks;
        let samples = trim(tracks, &samples, take.opens, take.closes, take.joined);
        let Some(shown) = shown(tracks, &samples, take.zero_at) else { return Ok(None) };
        let placed = joiner.place(tracks, &samples, take.zero_at, take.meets);
        let cuts = cut(&lanes.timescales, lanes.primary, &placed);
        Ok(Some(Reel {
            tracks: tracks.clone(),
            fingerprint: fingerprint(&placed),
            lanes: placed,
            cuts,
            shown,
            zero_at: take.zero_at,
        }))
    }

    pub(super) fn fragments(&self) -> usize {
        self.cuts.len()
    }

    /// What comes before the samples' bytes of a fragment; `number` is its place on this reel.
    pub(super) fn head(&self, number: usize, sequence: u32) -> Result<Vec<u8>, FragmentError> {
        match self.cuts.get(number) {
            Some(cut) => fragment_head(sequence, &of_lanes(&self.lanes, cut)),
            None => Ok(Vec::new()),
        }
    }

    /// The samples of a fragment in the order of their bytes, each with its track in the file.
    pub(super) fn samples(&self, number: usize) -> impl Iterator<Item = (&Track, &Sample)> {
        let lanes = self.cuts.get(number).map(|cut| of_lanes(&self.lanes, cut));
        let samples = lanes.unwrap_or_default().into_iter().flatten();
        samples.filter_map(|sample| Some((self.tracks.get(sample.source.track)?, &sample.source)))
    }

    /// The leading lane's samples of a fragment; where it has none of these, another's.
    pub(super) fn leading(&self, number: usize, primary: usize) -> (usize, &[OutputSample]) {
        let Some(cut) = self.cuts.get(number) else { return (primary, &[]) };
        let lanes = of_lanes(&self.lanes, cut);
        let leads = lanes.get(primary).is_some_and(|samples| !samples.is_empty());
        let lane = if leads { Some(primary) } else { lanes.iter().position(|it| !it.is_empty()) };
        let lane = lane.unwrap_or(primary);
        (lane, lanes.get(lane).copied().unwrap_or_default())
    }

    /// When a sample is shown, by the archive's clock.
    pub(super) fn shown_at(&self, sample: &Sample) -> Timestamp {
        let track = self.tracks.get(sample.track);
        let media_ns = track.map_or(0, |track| sample.starts_at(track).0);
        self.zero_at.saturating_offset(media_ns)
    }

    /// How much memory it takes.
    pub(super) fn weight(&self) -> usize {
        let samples: usize = self.lanes.iter().map(Vec::len).sum();
        samples.saturating_mul(size_of::<OutputSample>())
    }
}

fn fingerprint(lanes: &[Vec<OutputSample>]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for lane in lanes {
        hasher.update(&(lane.len() as u64).to_le_bytes());
        for OutputSample { decode_ticks, composition_offset, duration, source } in lane {
            hasher.update(&decode_ticks.to_le_bytes());
            hasher.update(&composition_offset.to_le_bytes());
            hasher.update(&duration.to_le_bytes());
            hasher.update(&source.offset.to_le_bytes());
            hasher.update(&source.size_bytes.to_le_bytes());
            hasher.update(&[u8::from(source.keyframe)]);
        }
    }
    *hasher.finalize().as_bytes()
}
