//! The output clock: samples of successive sources, each with a media time of its own, on one time line.
//!
//! Pure. Video leads: where a source continues the one before, its first frame is decoded when the last
//! one ends, so that no rounding of wall clocks shows as a gap or an overlap; where it does so to the frame,
//! though another recorder has it, its first frame is shown then, as recorders count decode times in their own
//! ways. Elsewhere it is placed by the wall clock. All other tracks keep their distance to the video, to half a tick, but for a
//! correction below half a packet that closes the seam. What is on the time line already is left out.
//!
//! With B-frames the first frame is shown later than it is decoded, and sound may begin earlier still: the
//! whole output is then shifted by that lead, so that no time is negative and no edit list is needed.

use sdcard_indexer::container::track::rescale;
use sdcard_indexer::container::{Sample, Track, TrackKind};
use sdcard_indexer::time::Timestamp;

use super::fragment::OutputSample;
use super::primary_track;

const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// How a source's samples meet those placed before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meets {
    /// Placed by the wall clock: nothing precedes, or a hole does.
    ByClock,
    /// Continues where the source before ends.
    Seamlessly,
    /// The same, by another recorder's account of time.
    ToTheFrame,
}

/// Places the samples of one source after the other; keeps a few words for each track.
#[derive(Clone, Debug)]
pub struct Joiner {
    lanes: Vec<Lane>,
    primary: usize,
    anchor: Option<Anchor>,
}

#[derive(Clone, Debug)]
struct Lane {
    kind: TrackKind,
    timescale: u32,
    /// Decode time right after the last sample placed.
    end: Option<i64>,
    /// When the last of the samples shown ends.
    shown_until: Option<i64>,
}

/// An instant that both clocks know.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    wall: Timestamp,
    primary_ticks: i64,
}

/// A sample with its times in ticks of the output track, since media time zero of its source.
#[derive(Clone, Copy)]
struct Timed {
    decode: i64,
    presentation: i64,
    duration: i64,
    sample: Sample,
}

impl Joiner {
    pub fn new(tracks: &[Track]) -> Self {
        let lane = |track: &Track| Lane {
            kind: track.kind,
            timescale: track.timescale,
            end: None,
            shown_until: None,
        };
        Joiner {
            lanes: tracks.iter().map(lane).collect(),
            primary: primary_track(tracks),
            anchor: None,
        }
    }

    /// Of the output's tracks.
    pub fn kinds(&self) -> impl Iterator<Item = TrackKind> {
        self.lanes.iter().map(|lane| lane.kind)
    }

    /// Places the next source: its `samples` in decode order, `zero_at` the wall time of its media time
    /// zero. One list for each output track; a source track without a counterpart is left out.
    pub fn place(
        &mut self,
        tracks: &[Track],
        samples: &[Sample],
        zero_at: Timestamp,
        meets: Meets,
    ) -> Vec<Vec<OutputSample>> {
        let timed = self.on_output_scale(tracks, samples);
        let shift = self.primary_shift(&timed, zero_at, meets);
        let (primary, timescale) = (self.primary, self.primary_timescale());
        let lanes = self.lanes.iter_mut().zip(timed).enumerate();
        lanes
            .map(|(index, (lane, timed))| {
                let shift = rescale(shift, timescale, lane.timescale);
                if index == primary {
                    lane.append(&timed, shift)
                } else {
                    lane.follow(&timed, shift, meets)
                }
            })
            .collect()
    }

    fn primary_timescale(&self) -> u32 {
        self.lanes.get(self.primary).map_or(1, |lane| lane.timescale)
    }

    fn on_output_scale(&self, tracks: &[Track], samples: &[Sample]) -> Vec<Vec<Timed>> {
        let mut timed = vec![Vec::new(); self.lanes.len()];
        for (index, track) in tracks.iter().enumerate() {
            let Some(lane) = counterpart(self.lanes.iter().map(|lane| lane.kind), tracks, index)
            else {
                continue;
            };
            let of_track = || samples.iter().filter(|sample| sample.track == index);
            // Writers with negative composition offsets count decode times from the first frame shown;
            // brought to the usual count here, so that the two kinds can follow one another.
            let lowest =
                of_track().map(|sample| sample.composition_offset).min().unwrap_or(0).min(0);
            let scale = |ticks| rescale(ticks, track.timescale, self.lanes[lane].timescale);
            timed[lane] = of_track()
                .map(|&sample| {
                    let decode = sample.decode_ticks.saturating_sub(track.zero_ticks);
                    Timed {
                        decode: scale(decode.saturating_add(lowest.into())),
                        presentation: scale(
                            decode.saturating_add(sample.composition_offset.into()),
                        ),
                        duration: scale(sample.duration.into()),
                        sample,
                    }
                })
                .collect();
        }
        timed
    }

    /// Ticks of the primary track from the source's media time zero to the output's zero.
    fn primary_shift(&mut self, timed: &[Vec<Timed>], zero_at: Timestamp, meets: Meets) -> i64 {
        let timescale = self.primary_timescale();
        let Some(anchor) = self.anchor else {
            let earliest = timed.iter().zip(&self.lanes).filter_map(|(timed, lane)| {
                Some(rescale(timed.first()?.decode, lane.timescale, timescale))
            });
            let lead = earliest.min().unwrap_or(0).saturating_neg();
            self.anchor = Some(Anchor { wall: zero_at, primary_ticks: lead });
            return lead;
        };
        let since_anchor = rescale(zero_at.nanos_from(anchor.wall), NANOS_PER_SECOND, timescale);
        let by_clock = anchor.primary_ticks.saturating_add(since_anchor);
        let lane = timed.get(self.primary).zip(self.lanes.get(self.primary));
        let seamless =
            lane.and_then(|(timed, lane)| Some(lane.end?.saturating_sub(timed.first()?.decode)));
        let to_the_frame = lane.and_then(|(timed, lane)| {
            let shown_first = timed.iter().map(|timed| timed.presentation).min()?;
            Some(lane.shown_until?.saturating_sub(shown_first))
        });
        match (meets, to_the_frame.filter(|_| meets == Meets::ToTheFrame).or(seamless)) {
            (Meets::Seamlessly | Meets::ToTheFrame, Some(seamless)) => seamless,
            (Meets::ByClock, Some(seamless)) => by_clock.max(seamless),
            (_, None) => by_clock,
        }
    }
}

impl Lane {
    /// Places what is not on the time line yet, and closes a seam narrower than half a packet.
    fn follow(&mut self, timed: &[Timed], shift: i64, meets: Meets) -> Vec<OutputSample> {
        let Some(end) = self.end else { return self.append(timed, shift) };
        let missing = |timed: &Timed| end.saturating_sub(timed.decode.saturating_add(shift));
        let held = timed.partition_point(|timed| missing(timed) > timed.duration / 2);
        let rest = timed.get(held..).unwrap_or_default();
        let seam = rest
            .first()
            .filter(|first| meets != Meets::ByClock && missing(first).abs() <= first.duration / 2);
        self.append(rest, seam.map_or(shift, |first| shift.saturating_add(missing(first))))
    }

    /// Durations become what lies between decode times, and decode times never run backwards, whatever
    /// the source says: a run of samples in MP4 cannot say otherwise.
    fn append(&mut self, timed: &[Timed], shift: i64) -> Vec<OutputSample> {
        let mut output: Vec<OutputSample> = Vec::with_capacity(timed.len());
        let mut earliest = self.end.unwrap_or(0);
        for Timed { decode, presentation, duration, sample } in timed.iter().copied() {
            let decode = decode.saturating_add(shift).max(earliest);
            let offset = presentation.saturating_add(shift).saturating_sub(decode);
            let decode_ticks = u64::try_from(decode).unwrap_or(0);
            if let Some(previous) = output.last_mut() {
                previous.duration = saturate(decode_ticks - previous.decode_ticks);
            }
            output.push(OutputSample {
                decode_ticks,
                composition_offset: saturate(u64::try_from(offset).unwrap_or(0)),
                duration: saturate(u64::try_from(duration.max(1)).unwrap_or(1)),
                source: sample,
            });
            earliest = decode.saturating_add(1);
            self.end = Some(decode.saturating_add(duration.max(1)));
            let shown_until = presentation.saturating_add(shift).saturating_add(duration.max(1));
            self.shown_until = self.shown_until.max(Some(shown_until));
        }
        output
    }
}

/// The output track that takes a source's track: the same one, counted among those of its kind.
pub fn counterpart(
    output: impl Iterator<Item = TrackKind>,
    tracks: &[Track],
    index: usize,
) -> Option<usize> {
    let kind = tracks.get(index)?.kind;
    let ordinal = tracks.iter().take(index).filter(|track| track.kind == kind).count();
    output.enumerate().filter(|(_, other)| *other == kind).nth(ordinal).map(|(lane, _)| lane)
}

fn saturate(ticks: u64) -> u32 {
    u32::try_from(ticks).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sdcard_indexer::container::{Codec, Storage};

    fn track(kind: TrackKind, timescale: u32, zero_ticks: i64) -> Track {
        Track {
            track_id: 1,
            kind,
            codec: Codec::H264,
            timescale,
            sample_description: Vec::new(),
            width: 0,
            height: 0,
            storage: Storage::Contiguous,
            zero_ticks,
        }
    }

    fn samples(track: usize, first: i64, duration: u32, offsets: &[i32]) -> Vec<Sample> {
        let sample = |(index, &composition_offset): (usize, &i32)| Sample {
            track,
            decode_ticks: first + index as i64 * i64::from(duration),
            composition_offset,
            duration,
            size_bytes: 1,
            offset: 0,
            keyframe: index == 0,
            packets: None,
        };
        offsets.iter().enumerate().map(sample).collect()
    }

    fn times(lane: &[OutputSample]) -> Vec<(u64, u32)> {
        lane.iter().map(|sample| (sample.decode_ticks, sample.composition_offset)).collect()
    }

    const START: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

    #[test]
    fn sound_that_begins_before_the_picture_begins_at_zero() {
        let tracks =
            [track(TrackKind::Video, 90_000, 9_000), track(TrackKind::Audio, 48_000, 4_800)];
        let both =
            [samples(0, 9_000, 3_600, &[0; 3]), samples(1, 4_800 - 1_024, 1_024, &[0; 3])].concat();
        let lanes = Joiner::new(&tracks).place(&tracks, &both, START, Meets::ByClock);
        assert_eq!(times(&lanes[1])[0], (0, 0));
        assert_eq!(times(&lanes[0])[0], (1_920, 0), "1024 / 48 kHz in ticks of 90 kHz");
    }

    #[test]
    fn a_source_that_counts_composition_offsets_from_the_first_frame_follows_one_that_does_not() {
        let usual = track(TrackKind::Video, 90_000, 2 * 3_600);
        let mut joiner = Joiner::new(std::slice::from_ref(&usual));
        let first = samples(0, 0, 3_600, &[7_200, 7_200, 0, 0]);
        joiner.place(&[usual], &first, START, Meets::ByClock);
        let signed = track(TrackKind::Video, 90_000, 0);
        let second = samples(0, 0, 3_600, &[0, 0, -7_200, -7_200]);
        let lanes = joiner.place(&[signed], &second, START, Meets::Seamlessly);
        let expected =
            [(4, 7_200), (5, 7_200), (6, 0), (7, 0)].map(|(frame, offset)| (frame * 3_600, offset));
        assert_eq!(times(&lanes[0]), expected);
    }

    #[test]
    fn a_recorder_that_decodes_later_is_followed_when_its_last_frame_has_been_shown() {
        let eager = track(TrackKind::Video, 1_000, 0);
        let mut joiner = Joiner::new(std::slice::from_ref(&eager));
        joiner.place(&[eager], &samples(0, 0, 40, &[0; 4]), START, Meets::ByClock);
        let waiting = track(TrackKind::Video, 1_000, 80);
        let later = samples(0, 0, 40, &[80, 120, 40, 80]);
        let lanes = joiner.place(&[waiting], &later, START, Meets::ToTheFrame);
        let shown: Vec<u64> =
            times(&lanes[0]).iter().map(|(decode, offset)| decode + u64::from(*offset)).collect();
        assert_eq!(shown, [160, 240, 200, 280]);
    }

    #[test]
    fn a_seam_shows_neither_the_rounding_of_clocks_nor_sound_twice() {
        let tracks = [track(TrackKind::Video, 12_800, 0), track(TrackKind::Audio, 48_000, 0)];
        let mut joiner = Joiner::new(&tracks);
        let one = [samples(0, 0, 512, &[0; 25]), samples(1, 0, 1_024, &[0; 47])].concat();
        joiner.place(&tracks, &one, START, Meets::ByClock);
        // 30 ms late by its clock, and its sound begins two packets before its picture.
        let two = [samples(0, 0, 512, &[0; 25]), samples(1, -2_048, 1_024, &[0; 49])].concat();
        let late = START.saturating_offset(1_030_000_000);
        let lanes = joiner.place(&tracks, &two, late, Meets::Seamlessly);
        assert_eq!(lanes[0][0].decode_ticks, 25 * 512);
        assert_eq!(lanes[1][0].decode_ticks, 47 * 1_024);
        assert_eq!(lanes[1].len(), 47, "two packets are on the time line already");
    }

    #[test]
    fn a_hole_keeps_its_length() {
        let tracks = [track(TrackKind::Video, 1_000, 0)];
        let mut joiner = Joiner::new(&tracks);
        joiner.place(&tracks, &samples(0, 0, 40, &[0; 25]), START, Meets::ByClock);
        let later = START.saturating_offset(46_000_000_000);
        let lanes = joiner.place(&tracks, &samples(0, 0, 40, &[0; 25]), later, Meets::ByClock);
        assert_eq!(lanes[0][0].decode_ticks, 46_000);
    }

    #[test]
    fn decode_times_that_run_backwards_are_straightened_and_shown_when_they_were() {
        let tracks = [track(TrackKind::Video, 1_000, 0)];
        let mut backwards = samples(0, 0, 40, &[0, 0, 0]);
        backwards[2].decode_ticks = 30;
        backwards[2].composition_offset = 50;
        let lanes = Joiner::new(&tracks).place(&tracks, &backwards, START, Meets::ByClock);
        assert_eq!(times(&lanes[0]), [(0, 0), (40, 0), (41, 39)]);
        assert_eq!(lanes[0].iter().map(|sample| sample.duration).collect::<Vec<_>>(), [40, 1, 40]);
    }
}
