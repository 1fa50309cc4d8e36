//! Looks on while an export is written: what each run puts into the MP4, counted and hashed.
//!
//! A run ends where its recording has a hole: what is told of never reaches over one. Holds some words and the
//! hashers of one run at a time; the bytes go by.

use std::time::Duration;

use blake3::Hasher;
use sdcard_indexer::container::{Hole, MediaTime, Sample, Track, holes_between};
use sdcard_indexer::time::{TimeRange, Timestamp};

use super::Progress;
use super::clip::Clip;
use super::manifest::{Blake3, TrackEntry, TrackRun, number_of};
use crate::merge::{OutputSample, primary_track};
use crate::playback::{Run, Witness, Written};
use crate::seam::Seam;

/// Footage without a break, as it was written.
#[derive(Debug)]
pub(super) struct Stretch<'r> {
    pub run: &'r Run<'r>,
    /// When its frames are shown.
    pub range: TimeRange,
    /// Where in the clip, in nanoseconds since its first frame.
    pub clip_ns: (i64, i64),
    /// How it goes on from the one before; none behind a hole.
    pub seam: Option<Seam>,
    pub frames: u64,
    pub tracks: Vec<TrackRun>,
}

pub(super) struct Onlooker<'r> {
    /// Those that are still to come.
    runs: std::slice::Iter<'r, Run<'r>>,
    tolerance: Duration,
    progress: &'r dyn Progress,
    pub tracks: Vec<TrackEntry>,
    clip: Option<Clip>,
    finished: Vec<Stretch<'r>>,
    open: Vec<Open<'r>>,
}

/// A stretch of which samples are still to come.
struct Open<'r> {
    stretch: Stretch<'r>,
    /// By track of the output.
    lanes: Vec<Lane>,
}

#[derive(Default)]
struct Lane {
    expected: u64,
    samples: u64,
    bytes: u64,
    first_ticks: Option<u64>,
    hasher: Hasher,
}

impl<'r> Onlooker<'r> {
    pub fn new(runs: &'r [Run<'r>], tolerance: Duration, progress: &'r dyn Progress) -> Self {
        Onlooker {
            runs: runs.iter(),
            tolerance,
            progress,
            tracks: Vec::new(),
            clip: None,
            finished: Vec::new(),
            open: Vec::new(),
        }
    }

    pub fn into_stretches(mut self) -> Vec<Stretch<'r>> {
        self.close();
        self.finished
    }

    fn close(&mut self) {
        let finished = self.open.drain(..).map(|open| {
            let lanes = open.lanes.into_iter().enumerate();
            let tracks = lanes.map(|(index, lane)| TrackRun {
                track: number_of(index),
                samples: lane.samples,
                bytes: lane.bytes,
                first_ticks: lane.first_ticks,
                blake3: Blake3(lane.hasher.finalize()),
            });
            Stretch { tracks: tracks.collect(), ..open.stretch }
        });
        self.finished.extend(finished);
    }
}

impl Witness for Onlooker<'_> {
    fn tracks(&mut self, tracks: &[Track]) {
        let entries = tracks.iter().enumerate();
        self.tracks = entries.map(|(index, track)| TrackEntry::of(index, track)).collect();
        self.clip = Clip::of(tracks);
    }

    fn run(&mut self, written: &Written<'_>) {
        self.close();
        let Some(clip) = &mut self.clip else { return };
        let Some(frames) = written.lanes.get(clip.leading()) else { return };
        let Some(run) = self.runs.find(|run| *run == written.run) else { return };
        clip.begin(frames);
        let primary = primary_track(written.tracks);
        let Some(track) = written.tracks.get(primary) else { return };
        let holes = holes_between(frames.iter().map(|frame| &frame.source), track, self.tolerance);
        let sorted = sort(written, &holes);
        for (index, lanes) in sorted.into_iter().enumerate() {
            let Some(frames) = lanes.get(clip.leading()).filter(|frames| !frames.is_empty()) else {
                continue;
            };
            let (Some(from), Some((clip_from, clip_to))) =
                (shown_from(frames, track), clip.extent(frames))
            else {
                continue;
            };
            let to = match holes.get(index) {
                Some(hole) => hole.start,
                None => shown_to(frames, track),
            };
            let length_ns = to.0.saturating_sub(from.0).max(0);
            // Before a hole, the MP4 shows the last frame until something follows; it is over before.
            let clip_to = match holes.get(index) {
                Some(_) => clip_from.saturating_add(length_ns),
                None => clip_to,
            };
            let stretch = Stretch {
                run,
                range: range_of(run.zero_at, from, to),
                clip_ns: (clip_from, clip_to),
                seam: written.seam.filter(|_| index == 0),
                frames: frames.len() as u64,
                tracks: Vec::new(),
            };
            self.open.push(Open { stretch, lanes: lanes.iter().map(Lane::of).collect() });
        }
        let bytes: u64 =
            written.lanes.iter().flatten().map(|one| u64::from(one.source.size_bytes)).sum();
        self.progress.more(bytes);
    }

    fn sample(&mut self, track: usize, bytes: &[u8]) {
        let lanes = self.open.iter_mut().filter_map(|open| open.lanes.get_mut(track));
        let next = lanes.into_iter().find(|lane| lane.samples < lane.expected);
        if let Some(lane) = next {
            lane.samples += 1;
            lane.bytes += bytes.len() as u64;
            lane.hasher.update(bytes);
        }
        self.progress.done(bytes.len() as u64);
    }
}

impl Lane {
    fn of(samples: &Vec<&OutputSample>) -> Lane {
        let first_ticks = samples.first().map(|first| first.decode_ticks);
        Lane { expected: samples.len() as u64, first_ticks, ..Lane::default() }
    }
}

/// The samples of each lane before the first hole, before the second, and so on to the end. What belongs to a hole
/// by its own time, as sound may, goes to the nearer side; nothing changes its order.
fn sort<'w>(written: &'w Written<'_>, holes: &[Hole]) -> Vec<Vec<Vec<&'w OutputSample>>> {
    let mut sorted = vec![vec![Vec::new(); written.lanes.len()]; holes.len() + 1];
    for (index, lane) in written.lanes.iter().enumerate() {
        let mut side = 0;
        for sample in lane {
            let own = side_of(written.tracks, &sample.source, holes);
            side = own.max(side);
            if let Some(of_lane) = sorted.get_mut(side).and_then(|lanes| lanes.get_mut(index)) {
                of_lane.push(sample);
            }
        }
    }
    sorted
}

fn side_of(tracks: &[Track], sample: &Sample, holes: &[Hole]) -> usize {
    let Some(track) = tracks.get(sample.track) else { return 0 };
    let at = sample.starts_at(track).0;
    holes.partition_point(|hole| hole.start.0 / 2 + hole.end.0 / 2 <= at)
}

fn shown_from(frames: &[&OutputSample], track: &Track) -> Option<MediaTime> {
    frames.iter().map(|frame| frame.source.starts_at(track)).min()
}

fn shown_to(frames: &[&OutputSample], track: &Track) -> MediaTime {
    let ends = frames.iter().map(|frame| frame.source.ends_at(track));
    ends.max().unwrap_or_default()
}

fn range_of(zero_at: Timestamp, from: MediaTime, to: MediaTime) -> TimeRange {
    let start = zero_at.saturating_offset(from.0);
    let length_ns = u64::try_from(to.0.saturating_sub(from.0)).unwrap_or(0);
    TimeRange::starting_at(start, Duration::from_nanos(length_ns))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use sdcard_indexer::container::{Codec, Storage, TrackKind};

    use super::*;
    use crate::examples::seconds;
    use crate::playback::ArchivedSegment;
    use crate::seam::Bound;
    use crate::timeline::Recorder;

    const TOLERANCE: Duration = Duration::from_millis(500);

    fn track(kind: TrackKind, timescale: u32) -> Track {
        Track {
            track_id: 1,
            kind,
            codec: Codec::H264,
            timescale,
            sample_description: Vec::new(),
            width: 0,
            height: 0,
            zero_ticks: 0,
            storage: Storage::Contiguous,
        }
    }

    /// Samples that begin at these ticks and last one, shown when they are decoded.
    fn lane(track: usize, ticks: impl IntoIterator<Item = i64>) -> Vec<OutputSample> {
        let sample = |decode_ticks: i64| OutputSample {
            decode_ticks: decode_ticks as u64 + 100,
            composition_offset: 0,
            duration: 1,
            source: Sample {
                track,
                decode_ticks,
                composition_offset: 0,
                duration: 1,
                size_bytes: 1,
                offset: 0,
                keyframe: true,
                packets: None,
            },
        };
        ticks.into_iter().map(sample).collect()
    }

    #[test]
    fn a_run_ends_where_its_recording_has_a_hole_and_sound_goes_with_its_side() {
        let segment = ArchivedSegment {
            file: PathBuf::from("a"),
            range: seconds(1_000, 1_060),
            by: Recorder::Live,
            uncertainty: Duration::ZERO,
        };
        let runs = [Run {
            segment: &segment,
            range: segment.range,
            zero_at: segment.range.start(),
            opens: Bound::Natural,
            closes: Bound::Natural,
            seam: Some(Seam::Succession),
        }];
        let tracks = [track(TrackKind::Video, 10), track(TrackKind::Audio, 1)];
        // Ten frames a second for 5 s, nothing for 15 s, then 5 s again; sound until 8 s, and from 18 s on.
        let frames = lane(0, (0..50).chain(200..250));
        let sound = lane(1, (0..8).chain(18..25));
        let lanes = [frames, sound];
        let mut onlooker = Onlooker::new(&runs, TOLERANCE, &());
        onlooker.tracks(&tracks);
        let seam = Some(Seam::Succession);
        onlooker.run(&Written { run: &runs[0], seam, tracks: &tracks, lanes: &lanes });
        for lane in [0, 1] {
            (0..lanes[lane].len()).for_each(|index| onlooker.sample(lane, &[index as u8]));
        }
        let stretches = onlooker.into_stretches();
        let ranges: Vec<TimeRange> = stretches.iter().map(|stretch| stretch.range).collect();
        assert_eq!(ranges, [seconds(1_000, 1_005), seconds(1_020, 1_025)]);
        let clips: Vec<(i64, i64)> = stretches.iter().map(|stretch| stretch.clip_ns).collect();
        let second = 1_000_000_000;
        assert_eq!(clips, [(0, 5 * second), (20 * second, 25 * second)]);
        assert_eq!(stretches[0].seam, Some(Seam::Succession));
        assert_eq!(stretches[1].seam, None, "a hole lies between");
        let counts = |stretch: &Stretch<'_>| -> Vec<u64> {
            stretch.tracks.iter().map(|track| track.samples).collect()
        };
        assert_eq!((counts(&stretches[0]), counts(&stretches[1])), (vec![50, 8], vec![50, 7]));
        let bytes: Vec<u8> = (50..100).collect();
        assert_eq!(stretches[1].tracks[0].blake3, Blake3(blake3::hash(&bytes)));
        assert_eq!(stretches[1].tracks[0].first_ticks, Some(300));
    }
}
