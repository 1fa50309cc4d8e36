//! Writing recordings with mp4-atom, from what ffmpeg has encoded.

use mp4_atom::{
    Ctts, CttsEntry, Decode, Encode, FourCC, FragmentInfo, Ftyp, Mfhd, Mfra, Mfro, Moof, Moov,
    Mvex, Stbl, Stco, Stsc, StscEntry, Stss, Stsz, StszSamples, Stts, SttsEntry, Tfdt, Tfhd, Tfra,
    Traf, Trex, Trun, TrunEntry, TrunSamples,
};

use crate::ffmpeg::{Packet, Recording, Source};
use crate::fixtures::{in_box, top_level_box};

const SYNC: u32 = 0x0200_0000;
const NON_SYNC: u32 = 0x0101_0000;

/// Where a fragment's samples find what their `trun` does not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defaults {
    Trex,
    /// And `trex` says something else.
    Tfhd,
}

/// What there is to be written: the movie, and the packets of each track with their bytes.
struct Footage {
    moov: Moov,
    bytes: Vec<u8>,
    tracks: Vec<Vec<Timed>>,
}

/// A packet and how long it lasts: until the next is decoded, the last as long as the one before it.
#[derive(Clone)]
struct Timed {
    packet: Packet,
    duration: u32,
}

impl std::ops::Deref for Timed {
    type Target = Packet;

    fn deref(&self) -> &Packet {
        &self.packet
    }
}

impl Footage {
    fn of(source: Source) -> Footage {
        let file = source.muxed("");
        let moov = Moov::decode(&mut top_level_box(&file.bytes, "moov")).unwrap();
        let packets = file.packets();
        let of_track = |track| {
            let packets: Vec<&Packet> = packets.iter().filter(|p| p.stream == track).collect();
            let decoded: Vec<i64> = packets.iter().map(|packet| packet.dts).collect();
            let mut durations: Vec<i64> = decoded.windows(2).map(|two| two[1] - two[0]).collect();
            durations.push(*durations.last().expect("two packets or more"));
            let timed = |(packet, duration): (&Packet, i64)| Timed {
                packet: packet.clone(),
                duration: duration as u32,
            };
            packets.into_iter().zip(durations).map(timed).collect()
        };
        let tracks = (0..moov.trak.len()).map(of_track).collect();
        Footage { moov, bytes: file.bytes, tracks }
    }

    fn data_of(&self, packet: &Packet) -> &[u8] {
        &self.bytes[packet.pos as usize..][..packet.size as usize]
    }
}

fn encoded(atom: &impl Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    atom.encode(&mut bytes).unwrap();
    bytes
}

fn ftyp() -> Vec<u8> {
    let major_brand = FourCC::new(b"iso5");
    encoded(&Ftyp { major_brand, minor_version: 512, compatible_brands: vec![major_brand] })
}

/// A fragment a second, of all tracks, and an `mfra` of the first.
pub fn fragmented(source: Source, defaults: Defaults) -> Recording {
    let mut footage = Footage::of(source);
    let timescales: Vec<u32> = footage.moov.trak.iter().map(|t| t.mdia.mdhd.timescale).collect();
    let mut trex = Vec::new();
    for (trak, packets) in footage.moov.trak.iter_mut().zip(&footage.tracks) {
        let Stbl { stsd, .. } = std::mem::take(&mut trak.mdia.minf.stbl);
        let empty = StszSamples::Identical { count: 0, size: 0 };
        let (stsz, stco) = (Stsz { samples: empty }, Some(Stco::default()));
        trak.mdia.minf.stbl = Stbl { stsd, stsz, stco, ..Stbl::default() };
        let told = defaults == Defaults::Trex;
        trex.push(Trex {
            track_id: trak.tkhd.track_id,
            default_sample_description_index: 1,
            default_sample_duration: if told { packets[0].duration } else { 1 },
            default_sample_size: 1,
            default_sample_flags: if told { NON_SYNC } else { SYNC },
        });
    }
    footage.moov.mvex = Some(Mvex { mehd: None, trex: trex.clone() });

    let mut file = [ftyp(), encoded(&footage.moov)].concat();
    let mut access = Vec::new();
    for second in 0.. {
        let in_second =
            |packet: &&Timed, timescale: u32| packet.dts.max(0) / i64::from(timescale) == second;
        let runs: Vec<Vec<&Timed>> = footage
            .tracks
            .iter()
            .zip(&timescales)
            .map(|(track, &scale)| track.iter().filter(|p| in_second(p, scale)).collect())
            .collect();
        let Some(first) = runs[0].first() else { break };
        access.push(FragmentInfo {
            time: first.pts as u64,
            moof_offset: file.len() as u64,
            traf_number: 1,
            trun_number: 1,
            sample_delta: 1,
        });
        let traf = |(run, trex): (&Vec<&Timed>, &Trex)| traf_of(run, trex, defaults);
        let mfhd = Mfhd { sequence_number: second as u32 + 1 };
        let mut moof = Moof { mfhd, traf: runs.iter().zip(&trex).map(traf).collect() };
        let mut data_offset = encoded(&moof).len() + 8;
        for (traf, run) in moof.traf.iter_mut().zip(&runs) {
            traf.trun[0].data_offset = Some(data_offset as i32);
            data_offset += run.iter().map(|packet| packet.size as usize).sum::<usize>();
        }
        file.extend(encoded(&moof));
        let data: Vec<&[u8]> = runs.iter().flatten().map(|p| footage.data_of(p)).collect();
        file.extend(in_box(b"mdat", &data.concat()));
    }
    let tfra = vec![Tfra { track_id: trex[0].track_id, entries: access }];
    file.extend(encoded(&Mfra { tfra, mfro: Mfro::default() }));
    Recording::of_bytes(&file)
}

fn traf_of(run: &[&Timed], trex: &Trex, defaults: Defaults) -> Traf {
    let duration = run.first().map_or(1, |packet| packet.duration);
    let in_tfhd = defaults == Defaults::Tfhd;
    let default_duration = if in_tfhd { duration } else { trex.default_sample_duration };
    // Where one lasts longer than the rest, all say how long they last.
    let uniform = run.iter().all(|packet| packet.duration == default_duration);
    let flags = |packet: &Packet| if packet.key { SYNC } else { NON_SYNC };
    let entry = |packet: &&Timed| TrunEntry {
        duration: (!uniform).then_some(packet.duration),
        size: Some(packet.size),
        // One flag more than the default, for a keyframe at the head, needs no flags in every entry.
        flags: packet.key.then(|| flags(packet)),
        cts: Some(packet.pts - packet.dts).filter(|&offset| offset != 0),
    };
    let mut entries: Vec<TrunEntry> = run.iter().map(entry).collect();
    if run.iter().skip(1).any(|packet| packet.key) {
        for (entry, packet) in entries.iter_mut().zip(run) {
            entry.flags = Some(flags(packet));
        }
    }
    Traf {
        tfhd: Tfhd {
            track_id: trex.track_id,
            default_sample_duration: in_tfhd.then_some(duration),
            default_sample_flags: in_tfhd.then_some(NON_SYNC),
            default_base_is_moof: true,
            ..Tfhd::default()
        },
        tfdt: Some(Tfdt { base_media_decode_time: run.first().map_or(0, |p| p.dts.max(0) as u64) }),
        trun: vec![Trun { data_offset: Some(0), samples: TrunSamples::Explicit(entries) }],
        ..Traf::default()
    }
}

/// `moov` first, a chunk a sample, the tracks one behind the other.
pub fn plain(source: Source) -> Recording {
    let mut footage = Footage::of(source);
    for (trak, packets) in footage.moov.trak.iter_mut().zip(&footage.tracks) {
        let stbl = &mut trak.mdia.minf.stbl;
        let durations = packets.iter().map(|packet| i64::from(packet.duration));
        let durations = runs_of(durations).into_iter();
        let entry = |(sample_count, delta)| SttsEntry { sample_count, sample_delta: delta as u32 };
        stbl.stts = Stts { entries: durations.map(entry).collect() };
        let offsets = runs_of(packets.iter().map(|packet| packet.pts - packet.dts)).into_iter();
        let entry = |(sample_count, sample_offset)| CttsEntry { sample_count, sample_offset };
        stbl.ctts = Some(Ctts { entries: offsets.map(entry).collect() });
        let one = StscEntry { first_chunk: 1, samples_per_chunk: 1, sample_description_index: 1 };
        stbl.stsc = Stsc { entries: vec![one] };
        let sizes = packets.iter().map(|packet| packet.size).collect();
        stbl.stsz = Stsz { samples: StszSamples::Different { sizes } };
        let keys = (1..).zip(packets).filter(|(_, packet)| packet.key).map(|(number, _)| number);
        stbl.stss = Some(Stss { entries: keys.collect() });
        stbl.stco = Some(Stco { entries: vec![0; packets.len()] });
    }
    let mut at = ftyp().len() + encoded(&footage.moov).len() + 8;
    for (trak, packets) in footage.moov.trak.iter_mut().zip(&footage.tracks) {
        let offsets = trak.mdia.minf.stbl.stco.as_mut().unwrap();
        for (offset, packet) in offsets.entries.iter_mut().zip(packets) {
            *offset = at as u32;
            at += packet.size as usize;
        }
    }
    let data: Vec<&[u8]> = footage.tracks.iter().flatten().map(|p| footage.data_of(p)).collect();
    let media = in_box(b"mdat", &data.concat());
    Recording::of_bytes(&[ftyp(), encoded(&footage.moov), media].concat())
}

/// How often each value follows itself.
fn runs_of(values: impl Iterator<Item = i64>) -> Vec<(u32, i64)> {
    let mut runs: Vec<(u32, i64)> = Vec::new();
    for value in values {
        match runs.last_mut() {
            Some((count, last)) if *last == value => *count += 1,
            _ => runs.push((1, value)),
        }
    }
    runs
}
