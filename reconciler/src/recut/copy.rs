//! Writes the shorter copy of a live recording, and proves it.
//!
//! Samples keep their bytes, their order, and their time stamps, those that count on from the file before included.
//! The copy gets the original's time of change and its permissions. The original is opened for reading only.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sdcard_indexer::container::track::rescale;
use sdcard_indexer::container::{Sample, Track};

use super::Bytes;
use crate::durable::{self, DurableError};
use crate::merge::{
    FragmentWriter, Joiner, Meets, OutputSample, PlaceError, Source, SourceError, primary_track,
    prove, write_hashed,
};
use crate::seam::{Bound, FramePlace, trim};
use sdcard_indexer::time::Timestamp;

#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("{} cannot be read", file.display())]
    Source { file: PathBuf, source: SourceError },
    #[error("a sample of {} cannot be read", file.display())]
    Sample { file: PathBuf, source: sdcard_indexer::container::ContainerError },
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Durable(#[from] DurableError),
    #[error("the copy {} does not hold the original's {what}", copy.display())]
    Differs { copy: PathBuf, what: &'static str },
}

/// A proved copy, under a hidden name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Copied {
    pub original: Bytes,
    pub copy: Bytes,
}

/// Writes the first `frames` frames of a recording, and the other tracks' samples of that time, to `hidden`; syncs
/// it, reads it back, and compares every sample with the original's.
pub fn copy_of(original: &Path, frames: usize, hidden: &Path) -> Result<Copied, CopyError> {
    let failed = |source| CopyError::Source { file: original.to_owned(), source };
    let before = bytes_of(original)?;
    let mut source = Source::open(original).map_err(failed)?;
    let samples = source.samples().map_err(failed)?;
    let (tracks, mut reader) = source.media();
    let primary = primary_track(tracks);
    let pictures = samples.iter().filter(|sample| sample.track == primary);
    let (first, end) = (FramePlace::FIRST, FramePlace::numbered(frames, pictures));
    // From the very first sample on, though it be no keyframe: what cannot be shown is kept too.
    let kept = trim(tracks, &samples, Bound::Frame(first), Bound::Frame(end), true);
    let lanes = placed(tracks, &kept);
    durable::create_directories(durable::parent_of(hidden))?;
    let written = write_hashed(hidden, |output| {
        let mut writer = FragmentWriter::begin(output, tracks, length_of(tracks, &kept))?;
        writer.append(&mut reader, tracks, &lanes)?;
        writer.finish()
    });
    let (digest, size_bytes) = match written {
        Ok(written) => written,
        Err(error) => {
            durable::remove(hidden)?;
            return Err(error.into());
        }
    };
    let proved = prove(hidden, tracks, &lanes).map_err(CopyError::from);
    let proved = proved.and_then(|()| compare(original, hidden, tracks, &lanes));
    let proved = proved.and_then(|()| dress(original, hidden));
    let proved = proved.and_then(|()| match bytes_of(original)? == before {
        true => Ok(()),
        false => Err(differs(hidden, "bytes: it was written to meanwhile")),
    });
    if let Err(error) = proved {
        durable::remove(hidden)?;
        return Err(error);
    }
    Ok(Copied { original: before, copy: Bytes { size_bytes, blake3: digest.into() } })
}

/// Size and digest of a file.
pub(super) fn bytes_of(file: &Path) -> Result<Bytes, DurableError> {
    let mut hasher = blake3::Hasher::new();
    let read = File::open(file).and_then(|mut opened| io::copy(&mut opened, &mut hasher));
    read.map_err(DurableError::at("read", file))?;
    Ok(Bytes { size_bytes: hasher.count(), blake3: hasher.finalize().into() })
}

fn differs(copy: &Path, what: &'static str) -> CopyError {
    CopyError::Differs { copy: copy.to_owned(), what }
}

/// Samples by their own time stamps: recorders count on from file to file, and what looks for holes reads that.
fn placed(tracks: &[Track], kept: &[Sample]) -> Vec<Vec<OutputSample>> {
    let mut lanes = Joiner::new(tracks).place(tracks, kept, Timestamp::UNIX_EPOCH, Meets::ByClock);
    let primary = primary_track(tracks);
    let Some((lane, track)) = lanes.get(primary).zip(tracks.get(primary)) else { return lanes };
    let Some(first) = lane.first() else { return lanes };
    let own = first.source.decode_ticks.max(0);
    let base = own.saturating_sub(i64::try_from(first.decode_ticks).unwrap_or(i64::MAX)).max(0);
    let timescale = track.timescale;
    for (lane, track) in lanes.iter_mut().zip(tracks) {
        let base = rescale(base, timescale, track.timescale).unsigned_abs();
        lane.iter_mut().for_each(|sample| {
            sample.decode_ticks = sample.decode_ticks.saturating_add(base);
        });
    }
    lanes
}

fn length_of(tracks: &[Track], kept: &[Sample]) -> Duration {
    let primary = primary_track(tracks);
    let Some(track) = tracks.get(primary) else { return Duration::ZERO };
    let frames = kept.iter().filter(|sample| sample.track == primary);
    let end = frames.map(|frame| frame.ends_at(track).0).max().unwrap_or(0);
    Duration::from_nanos(u64::try_from(end).unwrap_or(0))
}

/// Every sample of the copy has the bytes of the original's, and is shown when that is, to a tick.
fn compare(
    original: &Path,
    copy: &Path,
    tracks: &[Track],
    lanes: &[Vec<OutputSample>],
) -> Result<(), CopyError> {
    let open = |file: &Path| {
        Source::open(file).map_err(|source| CopyError::Source { file: file.to_owned(), source })
    };
    let (mut recorded, mut copied) = (open(original)?, open(copy)?);
    let found =
        copied.samples().map_err(|source| CopyError::Source { file: copy.to_owned(), source })?;
    let (_, mut of_original) = recorded.media();
    let (copied_tracks, mut of_copy) = copied.media();
    let (mut expected, mut bytes) = (Vec::new(), Vec::new());
    for (index, lane) in lanes.iter().enumerate() {
        let (Some(track), Some(own)) = (tracks.get(index), copied_tracks.get(index)) else {
            return Err(differs(copy, "tracks"));
        };
        let same = own.sample_description == track.sample_description
            && (own.timescale, own.kind) == (track.timescale, track.kind);
        if !same {
            return Err(differs(copy, "tracks"));
        }
        let mut found = found.iter().filter(|sample| sample.track == index);
        let tick_ns = 1_000_000_000 / u64::from(track.timescale.max(1)) + 1;
        for OutputSample { source, .. } in lane {
            let Some(sample) = found.next() else { return Err(differs(copy, "samples")) };
            let sample_of = |file: &Path| {
                let file = file.to_owned();
                move |source| CopyError::Sample { file, source }
            };
            of_original.read(track, source, &mut expected).map_err(sample_of(original))?;
            of_copy.read(own, sample, &mut bytes).map_err(sample_of(copy))?;
            let apart_ns = source.starts_at(track).0.abs_diff(sample.starts_at(own).0);
            if expected != bytes || source.keyframe != sample.keyframe {
                return Err(differs(copy, "samples"));
            }
            if apart_ns > tick_ns {
                return Err(differs(copy, "times"));
            }
        }
        if found.next().is_some() {
            return Err(differs(copy, "samples, but more"));
        }
    }
    Ok(())
}

/// Whoever may read the original may read the copy, and retention by time of change treats it alike.
fn dress(original: &Path, copy: &Path) -> Result<(), CopyError> {
    let dressed = original.metadata().and_then(|metadata| {
        let file = File::options().write(true).open(copy)?;
        file.set_permissions(Permissions::from_mode(metadata.permissions().mode()))?;
        file.set_modified(metadata.modified()?)?;
        file.sync_all()
    });
    Ok(dressed.map_err(DurableError::at("give the original's times and permissions to", copy))?)
}

#[cfg(test)]
mod tests {
    use sdcard_indexer::container::{Codec, Storage, TrackKind};

    use super::*;

    fn track(kind: TrackKind, timescale: u32, zero_ticks: i64) -> Track {
        Track {
            track_id: 1,
            kind,
            codec: Codec::H264,
            timescale,
            sample_description: Vec::new(),
            width: 0,
            height: 0,
            zero_ticks,
            storage: Storage::Contiguous,
        }
    }

    fn samples(track: usize, first: i64, duration: u32, count: i64) -> Vec<Sample> {
        let sample = |index: i64| Sample {
            track,
            decode_ticks: first + index * i64::from(duration),
            composition_offset: 0,
            duration,
            size_bytes: 1,
            offset: 0,
            keyframe: index == 0,
            packets: None,
        };
        (0..count).map(sample).collect()
    }

    /// Decode times of the first and last sample of each track.
    fn stamps(first_second: i64) -> Vec<(u64, u64)> {
        let (video, audio) = (first_second * 90_000, first_second * 48_000);
        let tracks =
            [track(TrackKind::Video, 90_000, video), track(TrackKind::Audio, 48_000, audio)];
        let kept = [samples(0, video, 3_600, 25), samples(1, audio, 1_024, 47)].concat();
        let ends = |lane: &Vec<OutputSample>| {
            let at = |sample: Option<&OutputSample>| sample.unwrap().decode_ticks;
            (at(lane.first()), at(lane.last()))
        };
        placed(&tracks, &kept).iter().map(ends).collect()
    }

    #[test]
    fn time_stamps_go_on_from_where_they_were() {
        assert_eq!(stamps(0), [(0, 24 * 3_600), (0, 46 * 1_024)]);
        let hour = [
            (3_600 * 90_000, 3_600 * 90_000 + 24 * 3_600),
            (3_600 * 48_000, 3_600 * 48_000 + 46 * 1_024),
        ];
        assert_eq!(stamps(3_600), hour);
    }
}
