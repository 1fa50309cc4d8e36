//! The primary track's samples from somewhere in the middle of a file on, without what comes before.

use std::io::{Read, Seek};

use super::ContainerError;
use super::track::{MediaTime, Sample, Track};
use super::walk::Walk;

/// Samples of the first recording's primary track in decode order, from a keyframe shown at or before `from` on, else
/// from its first sample: each as [`super::samples`] has it.
///
/// Costs the head of the file and what leads there: of MP4, an index of fragments or the sample tables; of MPEG-TS,
/// some glances at its clock and a few groups of pictures. Where nothing leads there, all that comes before, as
/// [`super::samples`] does. A clock of MPEG-TS that leaps on before that place is not noticed: times are then later
/// than those of a walk by so much.
pub fn samples_near<R: Read + Seek>(
    reader: &mut R,
    file_bytes: u64,
    from: MediaTime,
) -> Result<SamplesNear<'_, R>, ContainerError> {
    let mut walk = Walk::open(reader, file_bytes)?;
    let ahead = if from > MediaTime(0) { walk.enter_near(from)? } else { None };
    Ok(SamplesNear { from_the_first: ahead.is_none(), ahead, walk, done: false })
}

/// Streams samples; see [`samples_near`]. Ends after the first error.
#[derive(Debug)]
pub struct SamplesNear<'r, R> {
    walk: Walk<'r, R>,
    ahead: Option<Sample>,
    from_the_first: bool,
    done: bool,
}

impl<R: Read + Seek> SamplesNear<'_, R> {
    /// Whether the recording's first sample is the first handed out.
    pub fn is_from_the_first(&self) -> bool {
        self.from_the_first
    }

    /// That the samples are of.
    pub fn track(&self) -> Option<&Track> {
        self.walk.recording().primary_track()
    }
}

impl<R: Read + Seek> Iterator for SamplesNear<'_, R> {
    type Item = Result<Sample, ContainerError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let sample = match self.ahead.take() {
            Some(sample) => Some(Ok(sample)),
            None => self.walk.next_primary().transpose(),
        };
        self.done = !matches!(sample, Some(Ok(_)));
        sample
    }
}
