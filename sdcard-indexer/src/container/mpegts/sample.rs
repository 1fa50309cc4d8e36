//! One sample's bytes, gathered from its packets.

use std::io::{Read, Seek};

use super::super::boxes::Source;
use super::super::in_band::start_code;
use super::super::track::{Packets, Sample, Storage, Track};
use super::super::{ContainerError, TrackKind};
use super::packets::PacketReader;
use super::pes::Bodies;

/// Fills `bytes` with the sample as MP4 has it: each NAL unit behind its length instead of a start code, and sound
/// without the headers of ADTS or Opus in MPEG-TS.
pub(in super::super) fn read_sample<R: Read + Seek>(
    source: &mut Source<'_, R>,
    track: &Track,
    sample: &Sample,
    bytes: &mut Vec<u8>,
) -> Result<(), ContainerError> {
    let missing = |what| ContainerError::Malformed { offset: sample.offset, what };
    let (Some(packets), Storage::TransportPackets { stride }) = (sample.packets, track.storage)
    else {
        return Err(missing("a sample that is not in packets"));
    };
    let mut elementary = Vec::new();
    gather(source, track.track_id, stride, sample, packets, &mut elementary)?;
    if elementary.len() != packets.elementary_bytes as usize {
        return Err(missing("a sample that is not whole"));
    }
    if track.kind == TrackKind::Video {
        bytes.clear();
        with_lengths(&elementary, bytes);
    } else {
        *bytes = elementary;
    }
    if bytes.len() != sample.size_bytes as usize {
        return Err(missing("a sample of another size than was told"));
    }
    Ok(())
}

fn gather<R: Read + Seek>(
    source: &mut Source<'_, R>,
    pid: u32,
    stride: u8,
    sample: &Sample,
    packets: Packets,
    elementary: &mut Vec<u8>,
) -> Result<(), ContainerError> {
    let wanted = packets.elementary_bytes as usize;
    let mut reader = PacketReader::up_to(stride, sample.offset, sample.end_offset());
    let mut bodies = Bodies::within_body();
    while elementary.len() < wanted {
        let Some(packet) = reader.next(source)? else { break };
        if u32::from(packet.pid) != pid {
            continue;
        }
        let body = if packet.offset == sample.offset {
            packet.payload.get(usize::from(packets.skip)..).unwrap_or_default()
        } else {
            bodies.of(&packet).1
        };
        elementary.extend(body.iter().take(wanted - elementary.len()));
    }
    Ok(())
}

/// From start codes to lengths (H.264 and H.265, annex B; ISO/IEC 14496-15, 4.3.2).
fn with_lengths(elementary: &[u8], bytes: &mut Vec<u8>) {
    let mut rest = elementary;
    let mut found = start_code(rest);
    while let Some(at) = found {
        rest = rest.get(at + 3..).unwrap_or_default();
        found = start_code(rest);
        let unit = rest.get(..found.unwrap_or(rest.len())).unwrap_or_default();
        // Zero bytes before a start code are its, or stuffing.
        let length = unit.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        if length > 0 {
            bytes.extend((length as u32).to_be_bytes());
            bytes.extend_from_slice(unit.get(..length).unwrap_or_default());
        }
    }
}
