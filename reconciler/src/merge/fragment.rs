//! The fragmented-MP4 writer: `ftyp`, `moov`, then `moof` and `mdat` for each group of pictures.
//!
//! Owns the boxes and their order, in the strict form that MediaMTX's playback reads: `mvhd` first in
//! `moov`, one `trun` per `traf` with duration, size and flags of each sample, `tfdt` in version 1. Takes
//! samples as a [`SampleReader`] gives them; must never seek in its output, hold more than one sample's
//! bytes, or decide a time: `super::join` does that.

use std::io::{self, Read, Seek, Write};
use std::ops::Range;
use std::time::Duration;

use mp4_atom::{
    Atom, Dinf, Dref, Encode, FourCC, Ftyp, Hdlr, Mdat, Mdhd, Mdia, Mehd, Mfhd, Minf, Moof, Moov,
    Mvex, Mvhd, Nmhd, Smhd, Stbl, Stco, Stsc, Stsz, Stts, Tfdt, Tfhd, Tkhd, Traf, Trak, Trex, Trun,
    TrunEntry, TrunSamples, Url, Vmhd,
};
use sdcard_indexer::container::{ContainerError, Sample, SampleReader, Track, TrackKind};

use super::primary_track;

/// Ticks per second of `mvhd` and `mehd`.
const MOVIE_TIMESCALE: u32 = 1000;
/// A fragment is at least this long, so that a stream of keyframes only is not a `moof` per picture.
const SHORTEST_FRAGMENT: Duration = Duration::from_millis(500);
const BOX_HEADER_BYTES: usize = 8;
/// `sample_flags` of ISO/IEC 14496-12, 8.8.3.1: depends on no other sample.
const FLAGS_KEYFRAME: u32 = 0x0200_0000;
/// Depends on others, and is no sync sample.
const FLAGS_DEPENDENT: u32 = 0x0101_0000;

#[derive(Debug, thiserror::Error)]
pub enum FragmentError {
    #[error("writing failed")]
    Write(#[source] io::Error),
    #[error("the sample at byte {offset} cannot be read")]
    Read { offset: u64, source: ContainerError },
    #[error("{what} does not fit an MP4 box")]
    TooLarge { what: &'static str },
    #[error("a box cannot be written")]
    Box(#[from] mp4_atom::Error),
}

/// A sample with its place in the file that is written. Times in the track's ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutputSample {
    pub decode_ticks: u64,
    /// Presentation minus decode time. Not negative, though version 1 of `trun` allows it: readers
    /// disagree on what a negative offset does to the other tracks.
    pub composition_offset: u32,
    pub duration: u32,
    /// What it is in its source, where its bytes are to be found.
    pub source: Sample,
}

/// Writes one file. What was appended last is whole on return; there is no trailer.
#[derive(Debug)]
pub struct FragmentWriter<W> {
    output: W,
    timescales: Vec<u32>,
    primary: usize,
    fragments: u32,
}

impl<W: Write> FragmentWriter<W> {
    /// Writes the head. `duration` is what a player shows before it has read all.
    pub fn begin(
        mut output: W,
        tracks: &[Track],
        duration: Duration,
    ) -> Result<Self, FragmentError> {
        output.write_all(&file_head(tracks, duration)?).map_err(FragmentError::Write)?;
        let timescales = tracks.iter().map(|track| track.timescale).collect();
        Ok(FragmentWriter { output, timescales, primary: primary_track(tracks), fragments: 0 })
    }

    /// Appends samples of one source with these `tracks`; `lanes` has one list per track of the output, each in
    /// decode order and after what was appended before.
    pub fn append<R: Read + Seek>(
        &mut self,
        source: &mut SampleReader<'_, R>,
        tracks: &[Track],
        lanes: &[Vec<OutputSample>],
    ) -> Result<(), FragmentError> {
        self.append_seen(source, tracks, lanes, &mut |_, _| {})
    }

    /// The same; `seen` is told each sample's track of the output and its bytes, of each track in decode order.
    pub fn append_seen<R: Read + Seek>(
        &mut self,
        source: &mut SampleReader<'_, R>,
        tracks: &[Track],
        lanes: &[Vec<OutputSample>],
        seen: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), FragmentError> {
        for cut in cut(&self.timescales, self.primary, lanes) {
            self.write_fragment(source, tracks, &of_lanes(lanes, &cut), seen)?;
        }
        Ok(())
    }

    /// The output, flushed.
    pub fn finish(mut self) -> Result<W, FragmentError> {
        self.output.flush().map_err(FragmentError::Write)?;
        Ok(self.output)
    }

    fn write_fragment<R: Read + Seek>(
        &mut self,
        source: &mut SampleReader<'_, R>,
        tracks: &[Track],
        fragment: &[&[OutputSample]],
        seen: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), FragmentError> {
        self.fragments += 1;
        let mut bytes = fragment_head(self.fragments, fragment)?;
        self.output.write_all(&bytes).map_err(FragmentError::Write)?;
        let samples = fragment.iter().enumerate();
        let samples = samples.flat_map(|(lane, of)| of.iter().map(move |one| (lane, &one.source)));
        for (lane, sample) in samples {
            let Some(track) = tracks.get(sample.track) else { continue };
            source
                .read(track, sample, &mut bytes)
                .map_err(|source| FragmentError::Read { offset: sample.offset, source })?;
            self.output.write_all(&bytes).map_err(FragmentError::Write)?;
            seen(lane, &bytes);
        }
        Ok(())
    }
}

/// Which samples of each lane are in one fragment.
pub type Cut = Vec<Range<usize>>;

/// Cuts samples of one source into fragments; none is empty.
///
/// A fragment begins at each keyframe of the primary track, and holds the other tracks' samples up to
/// the instant at which the next one's keyframe is shown.
pub fn cut(timescales: &[u32], primary: usize, lanes: &[Vec<OutputSample>]) -> Vec<Cut> {
    let mut cuts = Vec::new();
    let mut done: Vec<usize> = vec![0; lanes.len()];
    loop {
        let next = next_fragment(timescales, primary, lanes, &done);
        let ends: Vec<usize> = (0..lanes.len())
            .map(|lane| match next {
                Some(next) => done[lane].max(count_before(timescales, primary, lanes, lane, next)),
                None => lanes[lane].len(),
            })
            .collect();
        if ends != done {
            cuts.push(done.iter().zip(&ends).map(|(from, to)| *from..*to).collect());
        }
        if next.is_none() {
            return cuts;
        }
        done = ends;
    }
}

/// The samples of a fragment, lane by lane.
pub fn of_lanes<'a>(lanes: &'a [Vec<OutputSample>], cut: &Cut) -> Vec<&'a [OutputSample]> {
    let lanes = lanes.iter().zip(cut);
    lanes.map(|(lane, range)| lane.get(range.clone()).unwrap_or_default()).collect()
}

/// The index in the primary lane at which the fragment after this one begins; `None` for the last.
fn next_fragment(
    timescales: &[u32],
    primary: usize,
    lanes: &[Vec<OutputSample>],
    done: &[usize],
) -> Option<usize> {
    let begun = *done.get(primary)?;
    let lane = lanes.get(primary)?.get(begun..)?;
    let first = lane.first()?.decode_ticks;
    let shortest = SHORTEST_FRAGMENT.as_millis() * u128::from(*timescales.get(primary)?);
    let long_enough = |sample: &OutputSample| {
        u128::from(sample.decode_ticks.saturating_sub(first)) * 1000 >= shortest
    };
    let next = lane.iter().position(|sample| sample.source.keyframe && long_enough(sample))?;
    Some(begun + next)
}

/// How many samples of a lane come before the fragment that begins at `next` of the primary lane.
fn count_before(
    timescales: &[u32],
    primary: usize,
    lanes: &[Vec<OutputSample>],
    lane: usize,
    next: usize,
) -> usize {
    if lane == primary {
        return next;
    }
    let shown = lanes[primary][next].presentation() * u128::from(timescales[lane]);
    let primary_timescale = u128::from(timescales[primary]);
    lanes[lane].partition_point(|sample| sample.presentation() * primary_timescale < shown)
}

/// What comes before the samples' bytes, lane by lane: the `moof`, and the head of the `mdat`.
pub fn fragment_head(
    sequence_number: u32,
    fragment: &[&[OutputSample]],
) -> Result<Vec<u8>, FragmentError> {
    let mut moof = movie_fragment(sequence_number, fragment);
    let mut bytes = Vec::new();
    moof.encode(&mut bytes)?;
    let media_bytes = set_data_offsets(&mut moof, bytes.len() + BOX_HEADER_BYTES)?;
    bytes.clear();
    moof.encode(&mut bytes)?;
    media_bytes.encode(&mut bytes)?;
    Mdat::KIND.encode(&mut bytes)?;
    Ok(bytes)
}

impl OutputSample {
    fn presentation(&self) -> u128 {
        u128::from(self.decode_ticks) + u128::from(self.composition_offset)
    }
}

/// `ftyp` and `moov`: what a player needs before any fragment.
pub fn file_head(tracks: &[Track], duration: Duration) -> Result<Vec<u8>, FragmentError> {
    let brands = [b"iso5", b"iso6", b"mp41", b"mp42"];
    let file_type = Ftyp {
        major_brand: FourCC::new(b"iso5"),
        minor_version: 512,
        compatible_brands: brands.into_iter().map(FourCC::new).collect(),
    };
    let mut bytes = Vec::new();
    file_type.encode(&mut bytes)?;
    nest(&mut bytes, Moov::KIND, |moov| {
        Mvhd {
            timescale: MOVIE_TIMESCALE,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: track_id(tracks.len()),
            ..Mvhd::default()
        }
        .encode(moov)?;
        tracks.iter().enumerate().try_for_each(|(index, track)| write_track(moov, index, track))?;
        let trex = |index| Trex {
            track_id: track_id(index),
            default_sample_description_index: 1,
            ..Trex::default()
        };
        let fragment_duration = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let mehd = Some(Mehd { fragment_duration });
        Ok(Mvex { mehd, trex: (0..tracks.len()).map(trex).collect() }.encode(moov)?)
    })?;
    Ok(bytes)
}

fn write_track(moov: &mut Vec<u8>, index: usize, track: &Track) -> Result<(), FragmentError> {
    let handler: &[u8; 4] = match track.kind {
        TrackKind::Video => b"vide",
        TrackKind::Audio => b"soun",
        TrackKind::Other => b"meta",
    };
    nest(moov, Trak::KIND, |trak| {
        Tkhd {
            track_id: track_id(index),
            enabled: true,
            in_movie: true,
            volume: if track.kind == TrackKind::Audio { 1.into() } else { 0.into() },
            width: track.width.into(),
            height: track.height.into(),
            ..Tkhd::default()
        }
        .encode(trak)?;
        nest(trak, Mdia::KIND, |mdia| {
            Mdhd { timescale: track.timescale, language: "und".to_owned(), ..Mdhd::default() }
                .encode(mdia)?;
            Hdlr { handler: FourCC::new(handler), name: String::new() }.encode(mdia)?;
            nest(mdia, Minf::KIND, |minf| {
                match track.kind {
                    TrackKind::Video => Vmhd::default().encode(minf)?,
                    TrackKind::Audio => Smhd::default().encode(minf)?,
                    TrackKind::Other => Nmhd::default().encode(minf)?,
                }
                let in_this_file = Url { location: String::new() }.into();
                Dinf { dref: Dref { entries: vec![in_this_file] } }.encode(minf)?;
                nest(minf, Stbl::KIND, |stbl| {
                    stbl.extend_from_slice(&track.sample_description);
                    Stts::default().encode(stbl)?;
                    Stsc::default().encode(stbl)?;
                    Stsz::default().encode(stbl)?;
                    Ok(Stco::default().encode(stbl)?)
                })
            })
        })
    })
}

/// Appends a box whose body `write` appends: what makes a foreign `stsd` fit among typed boxes.
fn nest(
    bytes: &mut Vec<u8>,
    kind: FourCC,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), FragmentError>,
) -> Result<(), FragmentError> {
    let start = bytes.len();
    0u32.encode(bytes)?;
    kind.encode(bytes)?;
    write(bytes)?;
    let size = u32::try_from(bytes.len() - start).map_err(|_| too_large("the file's head"))?;
    bytes[start..start + 4].copy_from_slice(&size.to_be_bytes());
    Ok(())
}

/// The `moof`, with data offsets yet to be set: they depend on its size.
fn movie_fragment(sequence_number: u32, fragment: &[&[OutputSample]]) -> Moof {
    let traf = |(index, samples): (usize, &&[OutputSample])| {
        let base_media_decode_time = samples.first()?.decode_ticks;
        let reordered = samples.iter().any(|sample| sample.composition_offset != 0);
        let entry = |sample: &OutputSample| TrunEntry {
            duration: Some(sample.duration),
            size: Some(sample.source.size_bytes),
            flags: Some(if sample.source.keyframe { FLAGS_KEYFRAME } else { FLAGS_DEPENDENT }),
            cts: reordered.then_some(i64::from(sample.composition_offset)),
        };
        let samples = TrunSamples::Explicit(samples.iter().map(entry).collect());
        Some(Traf {
            tfhd: Tfhd { track_id: track_id(index), default_base_is_moof: true, ..Tfhd::default() },
            tfdt: Some(Tfdt { base_media_decode_time }),
            trun: vec![Trun { data_offset: Some(0), samples }],
            ..Traf::default()
        })
    };
    Moof {
        mfhd: Mfhd { sequence_number },
        traf: fragment.iter().enumerate().filter_map(traf).collect(),
    }
}

/// Sets where each track's samples begin, counted from the `moof`; returns the size of the `mdat`.
fn set_data_offsets(moof: &mut Moof, first: usize) -> Result<u32, FragmentError> {
    let mut offset = first as u64;
    for run in moof.traf.iter_mut().flat_map(|traf| &mut traf.trun) {
        run.data_offset =
            Some(i32::try_from(offset).map_err(|_| too_large("a group of pictures"))?);
        offset += run.samples.iter().filter_map(|sample| sample.size).map(u64::from).sum::<u64>();
    }
    let mdat_bytes = offset - (first - BOX_HEADER_BYTES) as u64;
    u32::try_from(mdat_bytes).map_err(|_| too_large("a group of pictures"))
}

fn track_id(index: usize) -> u32 {
    u32::try_from(index).map_or(u32::MAX, |index| index.saturating_add(1))
}

fn too_large(what: &'static str) -> FragmentError {
    FragmentError::TooLarge { what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mp4_atom::{Any, ReadFrom};
    use sdcard_indexer::container::{Codec, Storage};
    use std::io::Cursor;

    fn track(kind: TrackKind, timescale: u32) -> Track {
        // An empty `stsd`: its bytes are not looked at.
        let sample_description = b"\0\0\0\x10stsd\0\0\0\0\0\0\0\0".to_vec();
        let (track_id, codec, zero_ticks) = (7, Codec::H264, 0);
        Track {
            track_id,
            kind,
            codec,
            timescale,
            sample_description,
            width: 640,
            height: 360,
            storage: Storage::Contiguous,
            zero_ticks,
        }
    }

    /// Samples of one byte each, one after the other in the source.
    fn samples(track: usize, offset: u64, duration: u32, keyframes: &[bool]) -> Vec<OutputSample> {
        let sample = |(index, &keyframe): (u64, &bool)| OutputSample {
            decode_ticks: index * u64::from(duration),
            composition_offset: 0,
            duration,
            source: Sample {
                track,
                decode_ticks: 0,
                composition_offset: 0,
                duration,
                size_bytes: 1,
                offset: offset + index,
                keyframe,
                packets: None,
            },
        };
        (0..).zip(keyframes).map(sample).collect()
    }

    fn written(tracks: &[Track], source: &[u8], lanes: &[Vec<OutputSample>]) -> Vec<Any> {
        let mut writer = FragmentWriter::begin(Vec::new(), tracks, Duration::from_secs(3)).unwrap();
        let (mut reader, bytes) = (Cursor::new(source), source.len() as u64);
        writer.append(&mut SampleReader::new(&mut reader, bytes), tracks, lanes).unwrap();
        let mut file = Cursor::new(writer.finish().unwrap());
        std::iter::from_fn(|| Option::<Any>::read_from(&mut file).unwrap()).collect()
    }

    #[test]
    fn a_fragment_has_one_group_of_pictures_and_the_sound_of_its_time() {
        let tracks = [track(TrackKind::Video, 10), track(TrackKind::Audio, 100)];
        let video = samples(0, 0, 5, &[true, false, true, false]);
        let audio = samples(1, 4, 40, &[true; 5]);
        let boxes = written(&tracks, b"VvWwabcde", &[video, audio]);
        let media: Vec<&[u8]> = boxes
            .iter()
            .filter_map(
                |it| if let Any::Mdat(mdat) = it { Some(mdat.data.as_slice()) } else { None },
            )
            .collect();
        assert_eq!(media, [b"Vvabc", b"Wwde".as_slice()]);

        let moofs: Vec<&Moof> = boxes
            .iter()
            .filter_map(|it| if let Any::Moof(moof) = it { Some(moof) } else { None })
            .collect();
        let second = &moofs[1];
        assert_eq!(second.mfhd.sequence_number, 2);
        assert_eq!(second.traf.iter().map(|traf| traf.tfhd.track_id).collect::<Vec<_>>(), [1, 2]);
        let begins = |traf: &Traf| traf.tfdt.as_ref().unwrap().base_media_decode_time;
        assert_eq!(second.traf.iter().map(begins).collect::<Vec<_>>(), [10, 120]);
        for traf in &second.traf {
            assert!(traf.tfhd.default_base_is_moof);
            assert_eq!(traf.trun.len(), 1);
            let explicit = |sample: TrunEntry| {
                (sample.duration.is_some(), sample.size, sample.flags.is_some())
            };
            assert!(
                traf.trun[0].samples.iter().all(|sample| explicit(sample) == (true, Some(1), true))
            );
        }
    }

    #[test]
    fn the_head_tells_the_duration_and_keeps_the_sample_description() {
        let tracks = [track(TrackKind::Video, 90_000)];
        let head = file_head(&tracks, Duration::from_secs(3)).unwrap();
        let contains = |bytes: &[u8]| head.windows(bytes.len()).any(|window| window == bytes);
        assert!(contains(&tracks[0].sample_description));
        let mut boxes = Cursor::new(&head);
        let (_, Some(Any::Moov(moov))) =
            (Any::read_from(&mut boxes).unwrap(), Option::<Any>::read_from(&mut boxes).unwrap())
        else {
            panic!("no moov")
        };
        assert_eq!(moov.mvex.unwrap().mehd.unwrap().fragment_duration, 3_000);
        assert_eq!(moov.trak[0].mdia.mdhd.timescale, 90_000);
    }

    #[test]
    fn a_stream_of_keyframes_only_is_not_a_fragment_per_picture() {
        let tracks = [track(TrackKind::Video, 25)];
        let boxes = written(&tracks, &[0; 50], &[samples(0, 0, 1, &[true; 50])]);
        assert_eq!(boxes.iter().filter(|it| matches!(it, Any::Moof(_))).count(), 4);
    }

    #[test]
    fn bytes_that_are_missing_are_an_error_that_says_where() {
        let tracks = [track(TrackKind::Video, 25)];
        let mut writer = FragmentWriter::begin(io::sink(), &tracks, Duration::ZERO).unwrap();
        let mut source = Cursor::new([0; 3]);
        let mut reader = SampleReader::new(&mut source, 3);
        let lanes = [samples(0, 0, 1, &[true; 5])];
        let error = writer.append(&mut reader, &tracks, &lanes).unwrap_err();
        assert!(matches!(error, FragmentError::Read { offset: 3, .. }), "{error}");
    }
}
