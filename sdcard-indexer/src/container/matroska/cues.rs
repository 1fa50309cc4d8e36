//! Cues (RFC 9559, 5.1.5): in which clusters keyframes are. Taken for hints, and checked.

use std::io::{Read, Seek};

use super::super::ContainerError;
use super::super::boxes::{Source, Window};
use super::ebml::{Element, malformed};
use super::id;

/// 20 bytes a keyframe: two days at one a second.
const MAX_CUES_BYTES: u64 = 4 * 1024 * 1024;

/// The last cluster with a keyframe of that track, and the one before it with one, where the cues at `at` lead to
/// clusters.
pub(super) fn last_clusters<R: Read + Seek>(
    source: &mut Source<'_, R>,
    window: &Window,
    at: u64,
    segment: &Element,
    track_number: u64,
) -> Result<[Option<u64>; 2], ContainerError> {
    let mut window = window.clone();
    match read(source, &mut window, at, track_number) {
        Err(error @ ContainerError::Io(_)) => Err(error),
        Err(_) => Ok([None; 2]),
        Ok(positions) => {
            let mut clusters = [None; 2];
            for (cluster, position) in clusters.iter_mut().zip(positions) {
                let at = position.and_then(|position| segment.body.checked_add(position));
                let Some(at) = at else { continue };
                let element = Element::read(source, &mut window, at)?;
                *cluster = element.filter(|it| it.id == id::CLUSTER).map(|it| it.start);
            }
            Ok(clusters)
        }
    }
}

/// The last two positions, the last first.
fn read<R: Read + Seek>(
    source: &mut Source<'_, R>,
    window: &mut Window,
    at: u64,
    track_number: u64,
) -> Result<[Option<u64>; 2], ContainerError> {
    let cues = Element::read(source, window, at)?;
    let cues = cues.filter(|it| it.id == id::CUES && it.within(source.end));
    let cues = cues.filter(|it| it.end - it.body <= MAX_CUES_BYTES);
    let Some(cues) = cues else { return malformed(at, "no cues") };
    let (mut last, mut last_but_one) = (None, None);
    let (mut track, mut at) = (0, cues.body);
    // A cue's track comes before its position, and neither has an id that another element here has: so
    // all of them can be read in line.
    while let Some(child) = Element::read_child(source, window, at, cues.end)? {
        let holds_more = matches!(child.id, id::CUE_POINT | id::CUE_TRACK_POSITIONS);
        at = if holds_more { child.body } else { child.end };
        match child.id {
            id::CUE_TRACK => track = child.unsigned(source, window)?,
            id::CUE_CLUSTER_POSITION if track == track_number => {
                let position = Some(child.unsigned(source, window)?);
                if position > last {
                    (last_but_one, last) = (last, position);
                }
            }
            _ => {}
        }
    }
    Ok([last, last_but_one])
}
